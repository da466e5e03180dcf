"""The text of a dump, its manifest and its compression."""
