"""Dumps and restores that can be trusted, for Prisma applications on PostgreSQL.

:data:`ns` is a whole root namespace, for a `tasks.py` without tasks of its own;
:data:`database` is the `db` collection alone, for `ns.add_collection(database)`; :data:`server` the `pg` one.
"""

from invoke.collection import Collection

from . import bench, db, demo, pg
from .defaults import DEFAULTS

_DUMPS = (db.doctor, db.url, db.dump, db.gzip, db.gunzip, db.list_, db.inspect)
_RESTORES = (db.reset, db.restore, db.undo, db.rehearse, db.verify, db.migrations, db.migrate, db.generate)
database = Collection("db", *_DUMPS, *_RESTORES)
server = Collection("pg", pg.start, pg.stop)
ns = Collection(database, server)
# On each collection itself, so that it holds in another project's namespace too.
for each in (database, server, ns):
    each.configure({"db": DEFAULTS})
# The example application and the benchmark, which fills its database, lie in the repository, not in the wheel.
if demo.JOURNAL.is_dir():
    ns.add_task(demo.demo)
    ns.add_task(bench.bench)

__all__ = ["database", "ns", "server"]
