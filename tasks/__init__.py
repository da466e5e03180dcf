"""Invoke tasks that dump, restore and verify PostgreSQL databases of Prisma applications.

:data:`ns` is a complete root namespace, for a `tasks.py` that has no other tasks. :data:`database` is the `db`
collection, for `ns.add_collection(database)`; :data:`server` is the `pg` collection. :mod:`db` has the tasks as
functions, which return their results.
"""

from invoke.collection import Collection

from .cli import db
from .cli.checks import doctor, migrations, verify
from .cli.demo import JOURNAL, bench, demo
from .cli.dumps import dump, gunzip, gzip, inspect, list_, show, undos, url
from .cli.invoke_errors import explain_errors
from .cli.restores import generate, migrate, rehearse, reset, restore, undo
from .cli.retention import delete, pin, prune
from .cli.server import start, stop
from .config.defaults import DEFAULTS

explain_errors()

_DUMPS = (doctor, url, dump, gzip, gunzip, list_, inspect, show)
_RETENTION = (pin, delete, prune)
_RESTORES = (reset, restore, undos, undo, rehearse, verify, migrations, migrate, generate)
database = Collection("db", *_DUMPS, *_RETENTION, *_RESTORES)
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
