"""Random databases, dumped and restored by us and by pg_dump and psql, and compared."""
