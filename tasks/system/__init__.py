"""Child processes, signals, standard streams, PostgreSQL's programs and git."""
