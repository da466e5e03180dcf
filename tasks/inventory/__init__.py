"""Read the content of a database; compare two databases."""
