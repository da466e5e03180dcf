"""Make a dump."""
