"""What protects a database: guard, safety dumps, scratch databases, the restore log."""
