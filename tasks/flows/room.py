"""Whether there is room for a dump, as far as that can be told before it is made."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from ..archive import manifest as manifests
from ..archive import names
from ..archive.codec import Compression
from ..errors import BadInputError
from ..postgres.session import one
from .checks import size
from .records import is_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..archive.manifest import Manifest
    from ..postgres.session import Connection, ServerFacts
    from ..settings import Settings
    from .placing import Place
    from .report import Report

MAKE_ROOM = "Remove old dumps (`inv db.list` shows them), compress with --zstd, or name a larger disk in db.dumps_dir."
# What compression leaves of an ordinary dump's text.
_COMPRESSED = 4
# A dump of no fewer rows than half the last one's does not shrink to a quarter of it.
_ROWS, _SURELY = 2, 4
# No table is locked for this, and what was never analyzed counts as nothing.
_ROWS_NOW = """
SELECT coalesce(pg_catalog.sum(c.reltuples) FILTER (WHERE c.reltuples > 0), 0)::bigint
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
# A clean start of a database; what it holds of its own is in no dump.
_EMPTY = 8_000_000


def free_bytes(folder: Path) -> int:
    """Tell how much an ordinary user may still write below a folder."""
    return shutil.disk_usage(folder).free


def nearest(path: Path) -> Path:
    """Find the nearest thing above a path, or the path itself, that is there."""
    return next(each for each in (path, *path.parents) if each.exists())


def check(
    settings: Settings,
    place: Place,
    connection: Connection,
    server: ServerFacts,
    report: Report,
    *,
    free: Callable[[Path], int] = free_bytes,
) -> None:
    """Compare the free space with what a dump will take: by the last dump of this database, else by its size.

    :param free: Gives the free bytes below a folder.
    :raises BadInputError: It surely won't fit: even a quarter of the last dump would not, and the database has not
        become much smaller. Nothing was touched. Where it only may not fit, that is a warning.
    """
    there = free(nearest(place.folder))
    info = connection.info
    last = _last(settings, server, info.host, info.port)
    packed = place.compression is not Compression.NONE
    if last is None:
        database = int(one(connection, "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())")[0])
        needed, why = max(0, database - _EMPTY) // (_COMPRESSED if packed else 1), "by the size of the database"
    elif last.compression is place.compression:
        needed, why = last.file.size, f"as {last.file_name} did"
    else:
        needed, why = last.content.size // (_COMPRESSED if packed else 1), f"by {last.file_name}"
    if there >= needed:
        return
    what = f"The dump will take about {size(needed)}, {why}, and {place.folder} has {size(there)} left"
    if last is not None and last.compression is place.compression and there < needed // _SURELY:
        rows = int(one(connection, _ROWS_NOW)[0])
        if rows >= max(1, last.rows // _ROWS):
            raise BadInputError(f"{what}. Nothing was touched. {MAKE_ROOM}")
    report.warn(f"{what}: it may not fit.")


def _last(settings: Settings, server: ServerFacts, host: str, port: int) -> Manifest | None:
    """Find the manifest of the newest dump of this database that holds all rows."""
    for path in [*names.dumps_in(settings.dumps), *names.safety_dumps_in(settings.dumps)]:
        with contextlib.suppress(BadInputError):
            manifest = manifests.read(path)
            if manifest is not None and not manifest.excluded_data and is_of(manifest, server, host, port):
                return manifest
    return None
