"""Dumps and restores that can be trusted, for Prisma applications on PostgreSQL.

:data:`ns` is a whole root namespace, for a `tasks.py` without tasks of its own;
:data:`database` is the `db` collection alone, for `ns.add_collection(database)`.
"""

from invoke.collection import Collection

from . import db
from .defaults import DEFAULTS

database = Collection("db", db.url, db.dump, db.gzip, db.gunzip, db.list_, db.reset, db.restore, db.verify)
# On the collection itself, so that it holds in another project's namespace too.
database.configure({"db": DEFAULTS})
ns = Collection(database)

__all__ = ["database", "ns"]
