"""Invoke tasks that dump, restore and verify PostgreSQL databases of Prisma applications.

:data:`ns` is a complete root namespace, for a `tasks.py` that has no other tasks. :data:`database` is the `db`
collection, for `ns.add_collection(database)`; :data:`server` is the `pg` collection. :mod:`db` has the tasks as
functions, which return their results.
"""

from invoke.collection import Collection

from .cli import db
from .cli.demo import JOURNAL, bench, demo
from .cli.invoke_errors import explain_errors
from .cli.server import start, stop
from .config.defaults import DEFAULTS

explain_errors()

database = Collection("db", *(getattr(db, name) for name in db.__all__))
server = Collection("pg", start, stop)
ns = Collection(database, server)
# Configured on each collection, so that the defaults also apply in another project's namespace.
for each in (database, server, ns):
    each.configure({"db": DEFAULTS})
# The example application and the benchmark, which uses it, are in the repository but not in the wheel.
if JOURNAL.is_dir():
    ns.add_task(demo)
    ns.add_task(bench)

__all__ = ["database", "db", "ns", "server"]
