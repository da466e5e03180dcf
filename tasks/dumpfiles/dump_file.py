"""A dump as restore and verify see it: found, opened, proven whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..dumpformat.applied_migration import MIGRATIONS_TABLE, history_from_document
from ..dumpformat.compression import ARCHIVE_MAGIC, CHUNK, Compression, SumCounter, Sums, read_magic
from ..dumpformat.foreign_head import LexError, archive_major, describe_foreign_head
from ..errors import BadInputError, MissingProgramError
from ..formatting import format_list
from ..system.pg_programs import newest_client
from ..system.processes import open_regular
from .origin import describe_part, describe_source, is_of_database
from .paths import find_dump_file, known_doubt, list_dumps, manifest_path, read_manifest, time_in_name
from .reader import DumpReader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ..config.settings import Settings
    from ..dumpformat.applied_migration import AppliedMigration
    from ..dumpformat.manifest import Manifest, Outline, SequenceValue, TableRows
    from ..postgres.connection import Endpoint, ServerFacts
    from ..progress import Report
    from ..system.pg_programs import Client
    from .dump_text import DumpText


# gzip can make a text a thousand times smaller, zstd more; what people's data comes to is hardly ever a tenth of this.
# Below the floor it does not matter.
BOMB_RATIO = 200
BOMB_FLOOR = 1 << 28
_SHOWN_DUMPS = 3


@dataclass(frozen=True)
class DumpFile:
    """A dump that was proven whole.

    :ivar manifest: None for a dump that we did not make.
    :ivar content: Sums of the plain text; a restore must see the same.
    :ivar signature: Tells whether the file was changed meanwhile.
    :ivar inserts: INSERT statements, whose rows are not counted in `tables`.
    :ivar names: What its text creates, as `DumpSummary.names`; None where only the manifest was read.
    :ivar histories: The migrations that it holds, by schema; None where they are written in a way that is not read.
    """

    path: Path
    size: int
    manifest: Manifest | None
    outline: Outline
    content: Sums
    server: str
    restorer: Client | None
    signature: tuple[int, int, int, int]
    tables: tuple[TableRows, ...]
    sequences: tuple[SequenceValue, ...]
    inserts: int
    histories: Mapping[str, tuple[AppliedMigration, ...]] | None
    names: Mapping[tuple[str, str], bool] | None = None

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return sum(each.rows for each in self.tables)

    def open(self) -> DumpReader:
        """Open the content once more; it may not be longer than it was."""
        return DumpReader(self.path, self.restorer, self.content.size)


def open_dump_text(settings: Settings, path: Path, *, summed: bool = True) -> DumpReader:
    """Open a dump that was not proven, to look into it.

    :param summed: Whether its checksum will be asked for.

    :raises BadInputError: It is no dump, by its first bytes.
    """
    try:
        compression, head = read_magic(path)
        longest = _longest(path.stat().st_size, None, trust=False)
    except OSError as error:
        raise _unreadable(path, error) from None
    _refuse_other_formats(path, compression, head)
    return DumpReader(path, _restorer(settings, head), longest, summed=summed)


def _restorer(settings: Settings, head: bytes) -> Client | None:
    """Find the pg_restore that an archive needs; None for a plain dump."""
    if not head.startswith(ARCHIVE_MAGIC):
        return None
    client = newest_client("pg_restore", bin_dir=settings.bin_dir, environ=settings.environ)
    needed = archive_major(head)
    if client.major < needed:
        raise MissingProgramError(
            f"The archive was written by a newer pg_dump than the pg_restore here: {client.path} is of version "
            f"{client.major}, and version {needed} or newer reads it. Install postgresql-client-{needed}, or turn the "
            f"archive into text where it was made (pg_restore --file=dump.sql ARCHIVE). Nothing was touched."
        )
    return client


def choose_dump(settings: Settings, file: str, report: Report) -> Path:
    """Find the dump that is meant: the named one, else the newest of any database that is not known to be broken.

    For what only reads or compresses a dump; :func:`newest_dump_of` is for what goes into a database.

    :raises BadInputError: There is none.
    """
    if file:
        return find_dump_file(file, settings.dumps, settings.cwd)
    for path in list_dumps(settings.dumps):
        if time_in_name(path.name) is None:
            break
        doubt = known_doubt(path) or _known_part(path)
        if not doubt:
            return path
        report.warn(f"{path.name} is passed over: {doubt}")
    raise BadInputError(
        f"There is no dump in {settings.dumps}.", fix="Make one with `inv db.dump`, or name a file with --file=."
    )


def newest_dump_of(settings: Settings, server: ServerFacts, endpoint: Endpoint, report: Report) -> Path:
    """Find the newest dump of a database that is not known to be broken.

    Dumps of other databases and those without a manifest are passed over; the newest of them is said.

    :raises BadInputError: There is none.
    """
    others: list[tuple[Path, str]] = []
    named: list[tuple[Path, str]] = []
    for path in list_dumps(settings.dumps):
        if time_in_name(path.name) is None:
            named.append((path, "it was named by hand"))
            continue
        other, doubt = _other_origin(path, server, endpoint), known_doubt(path) or _known_part(path)
        if other:
            others.append((path, other))
        elif doubt:
            report.warn(f"{path.name} is passed over: {doubt}")
        else:
            if others:
                name, why = others[0][0].name, others[0][1]
                report.warn(f"{name} is newer, but {why}. To restore that one, name it: --file={name}")
            return path
    raise BadInputError(_no_dump(settings, endpoint, others + named))


def _other_origin(path: Path, server: ServerFacts, endpoint: Endpoint) -> str:
    """Tell why a dump does not count as one of a database; empty where it does, or its manifest can't be read."""
    try:
        manifest = read_manifest(path)
    except BadInputError:
        return ""
    if manifest is None:
        return "it has no manifest that says which database it was made from"
    own = is_of_database(manifest, server, endpoint.host, endpoint.port)
    return "" if own else f"it was made from {describe_source(manifest)}"


def _known_part(path: Path) -> str:
    """Return which part of its database a dump holds, by its manifest; empty where that is all of it."""
    manifest = read_manifest(path)
    part = describe_part(manifest) if manifest else ""
    return part and f"it holds a part of its database: {part}. To use it, name it with --file="


def _no_dump(settings: Settings, endpoint: Endpoint, others: Sequence[tuple[Path, str]]) -> str:
    found = [f"{path.name} ({why})" for path, why in others]
    more = f" The others: {format_list(found, _SHOWN_DUMPS, '; ')}." if found else ""
    default = " that is taken without --file=" if found else ""
    return (
        f"There is no dump of {endpoint.database} in {settings.dumps}{default}. Nothing was touched. Make one with "
        f"`inv db.dump`, or name a file with --file=.{more}"
    )


def manifest_for(path: Path) -> Manifest | None:
    """Read the manifest that is to describe a dump, unproven; None where there is none of ours.

    :raises BadInputError: It or the dump can't be read.
    """
    try:
        _, head = read_magic(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    return None if head.startswith(ARCHIVE_MAGIC) else read_manifest(path)


def _unreadable(path: Path, error: OSError) -> BadInputError:
    return BadInputError(f"{path.name} can't be read: {error.strerror}. Nothing was touched.")


def prove_dump(settings: Settings, path: Path, report: Report, *, trust: bool = False) -> DumpFile:
    """Prove that a dump is whole, reading all of it.

    With a manifest the file's sum proves it, or else the content's, for a file that was compressed or
    expanded by hand. Without one, or with one that does not say what the dump touches and creates, the whole text is
    split, up to pg_dump's trailer.

    :param trust: Read a foreign one on however long it is.
    :raises BadInputError: It is not whole, or it is no dump. Nothing was touched.
    """
    try:
        return _proven(settings, path, report, trust=trust)
    except OSError as error:
        raise _unreadable(path, error) from None


def _proven(settings: Settings, path: Path, report: Report, *, trust: bool) -> DumpFile:
    compression, head = read_magic(path)
    before = file_signature(path)
    _refuse_other_formats(path, compression, head)
    restorer = _restorer(settings, head)
    manifest = read_manifest(path) if restorer is None else None
    names = None
    if (
        manifest is None
        or not _describes_objects(manifest)
        or manifest.file.size != before[2]
        or _sum(path, report) != manifest.file
    ):
        text = _read(DumpReader(path, restorer, _longest(before[2], manifest, trust=trust)), path, manifest, report)
        summary = text.summary
        outline, content, server = summary.outline(), text.content, summary.server
        tables, sequences, inserts = summary.tables(), tuple(summary.sequences.values()), summary.inserts
        histories = None if text.history.hidden else text.history.histories()
        names = summary.names
    else:
        outline, content, server = manifest.outline, manifest.content, str(manifest.source.get("server_version", ""))
        tables, sequences, inserts = manifest.tables, manifest.sequences, 0
        histories = _histories(manifest)
    if file_signature(path) != before:
        raise BadInputError(f"{path.name} was changed while it was read. Nothing was touched.")
    return DumpFile(
        path=path,
        size=before[2],
        manifest=manifest,
        outline=outline,
        content=content,
        server=server,
        restorer=restorer,
        signature=before,
        tables=tables,
        sequences=sequences,
        inserts=inserts,
        histories=histories,
        names=names,
    )


def _describes_objects(manifest: Manifest) -> bool:
    """Return whether a manifest says what a restore of its dump creates and changes; else the text is read."""
    return manifest.outline.touches is not None and not manifest.facts.keys().isdisjoint({"objects", "definitions"})


def _histories(manifest: Manifest) -> dict[str, tuple[AppliedMigration, ...]]:
    """Read the history that a manifest holds, which is that of the schema of the URL that was dumped."""
    history = history_from_document(manifest.facts.get("history"))
    schemas = [each.schema for each in manifest.tables if each.name == MIGRATIONS_TABLE]
    return {} if history is None or not schemas else {"public" if "public" in schemas else schemas[0]: history}


def _longest(size: int, manifest: Manifest | None, *, trust: bool) -> int:
    """Tell how long a dump's text may be, so that nobody reads on for hours what some kilobytes expand to."""
    if manifest is not None:
        return manifest.content.size
    return 0 if trust else max(BOMB_FLOOR, BOMB_RATIO * size)


def _read(source: DumpReader, path: Path, manifest: Manifest | None, report: Report) -> DumpText:
    # It takes time to load, and a dump of ours is hardly ever split again.
    from .dump_text import read_dump_text

    try:
        text = read_dump_text(source, path.stat().st_size, report)
    except LexError as error:
        if source.exceeded and manifest is not None:
            raise _another(path) from None
        more = " If that is right, db.restore takes it with --trust." if source.exceeded else ""
        raise BadInputError(f"{path.name} can't be restored: {error}. Nothing was touched.{more}") from None
    if text.summary.behind is not None:
        line, verb = text.summary.behind
        raise BadInputError(
            f"{path.name} can't be restored: statements follow pg_dump's last line, from line {line:,}: {verb}. Only "
            f"SET, RESET and INSERT may. Nothing was touched. Delete what follows, or move it above that line."
        )
    if not text.summary.complete:
        raise BadInputError(
            f"{path.name} is not a whole dump: pg_dump's last line ('-- PostgreSQL database dump complete') is "
            f"missing, so it was cut or is something else. Nothing was touched."
        )
    if manifest is not None and text.content != manifest.content:
        raise _another(path)
    return text


def _another(path: Path) -> BadInputError:
    return BadInputError(
        f"{path.name} is not what its manifest describes: it was damaged or changed since. Nothing was touched. To "
        f"restore it all the same, move {manifest_path(path).name} away."
    )


def _sum(path: Path, report: Report) -> Sums:
    adder, size = SumCounter(), path.stat().st_size
    with open_regular(path) as file:
        while chunk := file.read(CHUNK):
            adder.add(chunk)
            report.progress("checking the dump", adder.size, size, "bytes")
    return adder.sums


def _refuse_other_formats(path: Path, compression: Compression, head: bytes) -> None:
    if not head:
        raise BadInputError(f"{path.name} is empty. Nothing was touched.")
    if compression is Compression.NONE and not head.startswith(ARCHIVE_MAGIC) and (what := describe_foreign_head(head)):
        raise BadInputError(f"{path.name} is {what}. Nothing was touched.")


def file_signature(path: Path) -> tuple[int, int, int, int]:
    """Return what changes when a file is replaced or written to.

    :raises OSError: It is not there.
    """
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def is_unchanged(dump: DumpFile) -> bool:
    """Tell whether the file is still the one that was proven."""
    try:
        return file_signature(dump.path) == dump.signature
    except OSError:
        return False
