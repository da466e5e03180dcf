"""Find, read, write, convert and delete the files in `dumps/`."""
