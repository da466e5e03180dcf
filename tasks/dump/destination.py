"""Choose the file of a dump, and publish it with its manifest when it is complete."""

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
# A dump in a millisecond that has one already uses the next free millisecond.
_TRIES = 1000


def prepare_dump_folder(folder: Path) -> None:
    """Create a dumps folder if it is missing, and delete stale part files.

    :raises OperationFailedError: The folder can't be created or written to.
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
    """The file of a dump.

    :ivar path: None for a timestamped name with the prefix, in the folder.
    """

    path: Path | None
    compression: Compression
    folder: Path
    prefix: str = DUMP

    def name(self, when: datetime) -> Path:
        """Return the final path of a dump that starts at a time."""
        return self.path or self.folder / (new_dump_stem(when, self.prefix) + self.compression.suffix)


def choose_destination(settings: Settings, file: str, compression: Compression | None) -> Destination:
    """Return the file and the compression of a dump.

    :param file: The value of `--file`; empty for a timestamped name.
    :param compression: None without a flag: the name or the configuration decides.
    :raises BadInputError: The name exists or can't be used, or it contradicts the flag.
    """
    if not file:
        return Destination(path=None, compression=compression or settings.compress, folder=settings.dumps)
    path = place_dump_file(file, settings.dumps, settings.cwd)
    named = Compression.of_name(path.name) or Compression.NONE
    if compression is not None and compression is not named:
        raise BadInputError(
            f"--file={file} and --{compression.value} cannot be combined: the suffix of the name determines the "
            f"compression. Nothing was written. Omit the flag, or change the name."
        )
    manifest = manifest_path(path)
    if manifest.exists() and not manifest.with_name(name_stem(path) + PART_SUFFIX).exists():
        raise BadInputError(
            f"{manifest.name} exists without its dump, which may have been renamed. Nothing was written. Rename or "
            f"delete the manifest, or choose another name."
        )
    return Destination(path=path, compression=named, folder=path.parent)


def choose_safety_destination(settings: Settings) -> Destination:
    """Return the destination of a safety dump."""
    return Destination(path=None, compression=Compression.ZSTD, folder=settings.dumps / UNDO_FOLDER, prefix=UNDO)


@contextlib.contextmanager
def reserve_destination(destination: Destination, when: datetime) -> Iterator[tuple[PartFile, Path]]:
    """Create a part file with a unique name; yield it with the final path.

    :raises OperationFailedError: It can't be created, or another process writes it.
    """
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
                        f"{reserved} exists: another dump to {final.name} is running, or was killed. Nothing was "
                        f"touched. Wait for it, or delete that file if no dump is running."
                    ) from None
                continue
            except OSError as error:
                raise OperationFailedError(
                    f"{reserved} can't be written: {error.strerror}. Nothing was touched."
                ) from None
            yield part, final
            return
        raise OperationFailedError(f"No free name for a dump was found in {destination.folder}. Nothing was touched.")


def publish_dump_and_manifest(part: PartFile, final: Path, manifest: Manifest) -> None:
    """Publish the manifest, then the dump, so that the dump always has its manifest."""
    manifest_file = manifest_path(final)
    if not sibling_paths(final):
        # The manifest of a dump that was deleted by hand.
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
# The usual compression ratio of a dump.
_COMPRESSED = 4
# A database with at least 1/_ROWS of the rows of its last dump needs at least 1/_SURELY of its size.
_ROWS, _SURELY = 2, 4
# An estimate that locks no table. Tables that were never analyzed count as empty.
_ROWS_NOW = f"""
SELECT coalesce(pg_catalog.sum(c.reltuples) FILTER (WHERE c.reltuples > 0), 0)::bigint
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND {USER_SCHEMA}
"""
# Bytes of a new database, whose content is in no dump.
_EMPTY = 8_000_000


def free_bytes(folder: Path) -> int:
    """Return the bytes that an ordinary user may write in a folder."""
    return shutil.disk_usage(folder).free


def nearest_folder(path: Path) -> Path:
    """Return the path, or its nearest parent that exists."""
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
    """Compare the free disk space with the expected size of a dump; warn if the dump may not fit.

    The expected size is that of the last dump of this database, or else derived from the size of the database.

    :param free: Returns the free bytes of a folder.
    :raises BadInputError: The free space is less than a quarter of the last dump, and the database still has at least
        half its rows. Nothing was touched.
    """
    available = free(nearest_folder(destination.folder))
    info = connection.info
    last = _last(settings, server, info.host, info.port)
    ratio = 1 if destination.compression is Compression.NONE else _COMPRESSED
    if last is None:
        database = int(one(connection, "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())")[0])
        needed, why = max(0, database - _EMPTY) // ratio, "estimated from the size of the database"
    elif last.compression is destination.compression:
        needed, why = last.file.size, f"as {last.file_name} does"
    else:
        needed, why = last.content.size // ratio, f"estimated from {last.file_name}"
    if available >= needed:
        return
    what = (
        f"The dump needs about {format_size(needed)}, {why}, but {destination.folder} has only "
        f"{format_size(available)} free"
    )
    if last is not None and last.compression is destination.compression and available < needed // _SURELY:
        rows = int(one(connection, _ROWS_NOW)[0])
        if rows >= max(1, last.rows // _ROWS):
            raise BadInputError(f"{what}. Nothing was touched. {MAKE_ROOM}")
    report.warn(f"{what}. It may not fit.")


def _last(settings: Settings, server: ServerFacts, host: str, port: int) -> Manifest | None:
    """Return the manifest of the newest dump of this database with all rows; None without one."""
    for path in [*list_dumps(settings.dumps), *list_safety_dumps(settings.dumps)]:
        with contextlib.suppress(BadInputError):
            manifest = read_manifest(path)
            if manifest is None or manifest.excluded_data or describe_part(manifest):
                continue
            if is_of_database(manifest, server, host, port):
                return manifest
    return None
