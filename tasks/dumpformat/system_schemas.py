"""The names of PostgreSQL's own schemas; `postgres/catalog_filters.py` has the same condition in SQL."""

from __future__ import annotations


def is_system_schema(name: str) -> bool:
    """Return whether a schema is PostgreSQL's own."""
    return name.startswith("pg_") or name == "information_schema"
