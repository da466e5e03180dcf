"""Dumps and restores that can be trusted, for Prisma applications on PostgreSQL.

:data:`ns` is a whole root namespace, for a `tasks.py` without tasks of its own;
:data:`database` is the `db` collection alone, for `ns.add_collection(database)`.
"""

from invoke.collection import Collection

database = Collection("db")
ns = Collection(database)

__all__ = ["database", "ns"]
