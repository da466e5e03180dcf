"""Guard, safety dumps, scratch databases and the restore log."""
