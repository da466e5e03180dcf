"""A private PostgreSQL server: temporary for the demo, permanent for `pg.start`."""
