"""The files in `dumps/`."""
