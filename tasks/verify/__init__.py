"""Compare a database with a dump; detect problems in a database."""
