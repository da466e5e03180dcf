"""Where a dump goes, and how it gets its final name: whole, with its manifest, or not at all."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ..dumpfiles.atomic_write import PartFile, delete_stale_parts, make_dump_folder, open_part_file
from ..dumpfiles.origin import describe_part, is_of_database
from ..dumpfiles.paths import (
    DUMP,
    PART_SUFFIX,
    UNDO,
    UNDO_FOLDER,
    list_dumps,
    list_safety_dumps,
    manifest_path,
    name_stem,
    new_dump_stem,
    place_dump_file,
    read_manifest,
    sibling_paths,
)
from ..dumpformat.compression import Compression
from ..errors import BadInputError, OperationFailedError
from ..formatting import format_size
from ..postgres.catalog_filters import USER_SCHEMA
from ..postgres.connection import one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from ..config.settings import Settings
    from ..dumpformat.manifest import Manifest
    from ..postgres.connection import Connection, ServerFacts
    from ..progress import Report


STANDARD_OUTPUT = "-"
# Two dumps of one millisecond take the next free one.
_TRIES = 1000


def prepare_dump_folder(folder: Path) -> None:
    """Make the folder of the dumps ready.

    :raises OperationFailedError: It can't be made or written to.
    """
    try:
        make_dump_folder(folder)
        delete_stale_parts(folder)
    except OSError as error:
        raise OperationFailedError(
            f"The folder {folder} can't be used: {error.strerror}. Nothing was touched."
        ) from None


@dataclass(frozen=True)
class Destination:
    """Where a dump goes.

    :ivar path: None for a name made of the time, with that prefix, in the folder.
    """

    path: Path | None
    compression: Compression
    folder: Path
    prefix: str = DUMP

    def name(self, when: datetime) -> Path:
        """Tell the final name of a dump that begins at a time."""
        return self.path or self.folder / (new_dump_stem(when, self.prefix) + self.compression.suffix)


def choose_destination(settings: Settings, file: str, compression: Compression | None) -> Destination:
    """Tell where a dump goes, and how it is compressed.

    :param file: As typed; empty for a name made of the time.
    :param compression: None where no flag says; then the name or the configuration does.
    :raises BadInputError: The name is taken or can't be used, or it and the flag do not agree.
    """
    if not file:
        return Destination(path=None, compression=compression or settings.compress, folder=settings.dumps)
    path = place_dump_file(file, settings.dumps, settings.cwd)
    named = Compression.of_name(path.name) or Compression.NONE
    if compression not in {None, named}:
        raise BadInputError(
            f"--file={file} and the compression that was asked for do not go together: the name's end says "
            f"how a dump is compressed. Leave the flag out, or change the name. Nothing was written."
        )
    manifest = manifest_path(path)
    if manifest.exists() and not manifest.with_name(name_stem(path) + PART_SUFFIX).exists():
        raise BadInputError(
            f"{manifest.name} exists without its dump: it may prove a dump that was renamed. Rename or delete it, or "
            f"choose another name. Nothing was written."
        )
    return Destination(path=path, compression=named, folder=path.parent)


def choose_safety_destination(settings: Settings) -> Destination:
    """Tell where a safety dump goes."""
    return Destination(path=None, compression=Compression.ZSTD, folder=settings.dumps / UNDO_FOLDER, prefix=UNDO)


@contextlib.contextmanager
def reserve_destination(destination: Destination, when: datetime) -> Iterator[tuple[PartFile, Path]]:
    """Open the part file under a name that is ours alone, and tell the final name."""
    with contextlib.ExitStack() as stack:
        for attempt in range(_TRIES):
            final = destination.name(when + timedelta(milliseconds=attempt))
            stem = name_stem(final)
            reserved = final.with_name(stem + PART_SUFFIX)
            if not destination.path and any(final.parent.glob(f"{stem}.*")):
                continue
            try:
                part = stack.enter_context(open_part_file(reserved))
            except FileExistsError:
                if destination.path:
                    raise OperationFailedError(
                        f"{reserved} is there: another dump is being written to {final.name}, or was killed. Wait for "
                        f"it, or remove that file if none runs. Nothing was touched."
                    ) from None
                continue
            except OSError as error:
                raise OperationFailedError(
                    f"{reserved} can't be written: {error.strerror}. Nothing was touched."
                ) from None
            yield part, final
            return
        raise OperationFailedError(f"No free name for a dump was found in {destination.folder}.")


def publish_dump_and_manifest(part: PartFile, final: Path, manifest: Manifest) -> None:
    """Publish the manifest, then the dump: a dump of ours is never seen without its manifest."""
    manifest_file = manifest_path(final)
    if not sibling_paths(final):
        # Left behind by a dump that somebody removed.
        manifest_file.unlink(missing_ok=True)
    try:
        with open_part_file(manifest_file.with_name(manifest_file.name + PART_SUFFIX)) as manifest_part:
            manifest_part.file.write(manifest.to_json())
            manifest_part.publish(manifest_file)
        part.publish(final)
    except BaseException:
        if not final.exists():
            manifest_file.unlink(missing_ok=True)
        raise


MAKE_ROOM = (
    "Delete old dumps (`inv db.prune`, `inv db.delete`), compress with --zstd, or name a larger disk in db.dumps_dir."
)
# What compression leaves of an ordinary dump's text.
_COMPRESSED = 4
# A dump of no fewer rows than half the last one's does not shrink to a quarter of it.
_ROWS, _SURELY = 2, 4
# No table is locked for this, and what was never analyzed counts as nothing.
_ROWS_NOW = f"""
SELECT coalesce(pg_catalog.sum(c.reltuples) FILTER (WHERE c.reltuples > 0), 0)::bigint
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND {USER_SCHEMA}
"""
# A clean start of a database; what it holds of its own is in no dump.
_EMPTY = 8_000_000


def free_bytes(folder: Path) -> int:
    """Tell how much an ordinary user may still write below a folder."""
    return shutil.disk_usage(folder).free


def nearest_folder(path: Path) -> Path:
    """Find the nearest thing above a path, or the path itself, that is there."""
    return next(each for each in (path, *path.parents) if each.exists())


def check_free_space(
    settings: Settings,
    destination: Destination,
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
    there = free(nearest_folder(destination.folder))
    info = connection.info
    last = _last(settings, server, info.host, info.port)
    packed = destination.compression is not Compression.NONE
    if last is None:
        database = int(one(connection, "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())")[0])
        needed, why = max(0, database - _EMPTY) // (_COMPRESSED if packed else 1), "by the size of the database"
    elif last.compression is destination.compression:
        needed, why = last.file.size, f"as {last.file_name} did"
    else:
        needed, why = last.content.size // (_COMPRESSED if packed else 1), f"by {last.file_name}"
    if there >= needed:
        return
    what = (
        f"The dump will take about {format_size(needed)}, {why}, and {destination.folder} has {format_size(there)} left"
    )
    if last is not None and last.compression is destination.compression and there < needed // _SURELY:
        rows = int(one(connection, _ROWS_NOW)[0])
        if rows >= max(1, last.rows // _ROWS):
            raise BadInputError(f"{what}. Nothing was touched. {MAKE_ROOM}")
    report.warn(f"{what}: it may not fit.")


def _last(settings: Settings, server: ServerFacts, host: str, port: int) -> Manifest | None:
    """Find the manifest of the newest dump of this database that holds all rows."""
    for path in [*list_dumps(settings.dumps), *list_safety_dumps(settings.dumps)]:
        with contextlib.suppress(BadInputError):
            manifest = read_manifest(path)
            if manifest is None or manifest.excluded_data or describe_part(manifest):
                continue
            if is_of_database(manifest, server, host, port):
                return manifest
    return None
