"""A private PostgreSQL server."""
