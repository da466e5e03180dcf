"""Choose a dump, open it, and check that it is complete."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..dumpformat.applied_migration import MIGRATIONS_TABLE, history_from_document
from ..dumpformat.compression import ARCHIVE_MAGIC, CHUNK, Compression, SumCounter, Sums, read_magic
from ..dumpformat.foreign_head import LexError, archive_major, describe_foreign_head
from ..errors import BadInputError, MissingProgramError
from ..formatting import format_list
from ..system.pg_programs import newest_client
from ..system.processes import open_regular
from .origin import (
    describe_databases,
    describe_lacks,
    describe_part,
    describe_source,
    is_of_address,
    is_of_database,
)
from .paths import (
    find_dump_file,
    known_defect,
    list_dumps,
    manifest_path,
    read_manifest,
    refuse_unmade,
    time_in_name,
)
from .reader import DumpReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ..config.settings import Settings
    from ..config.target import Target
    from ..dumpformat.applied_migration import AppliedMigration
    from ..dumpformat.manifest import Manifest, Outline, SequenceValue, TableRows
    from ..postgres.connection import Endpoint, ServerFacts
    from ..progress import Report
    from ..system.pg_programs import Client
    from .dump_text import DumpText


# The most text per byte of a dump without a manifest. gzip reaches 1000 and zstd more; real data rarely reaches 20.
# Texts up to the floor are always accepted.
BOMB_RATIO = 200
BOMB_FLOOR = 1 << 28
_SHOWN_DUMPS = 3


@dataclass(frozen=True)
class DumpFile:
    """A dump that was checked to be complete.

    :ivar manifest: None for a dump without one.
    :ivar content: Checksum and size of the plain text. A restore checks that it reads the same.
    :ivar signature: Changes when the file is changed.
    :ivar inserts: The number of INSERT statements, whose rows are not counted in `tables`.
    :ivar names: The objects that its text creates, as `DumpSummary.names`; None if only the manifest was read.
    :ivar histories: The migrations by schema; None if their rows are INSERT statements, which are not read.
    :ivar checked: Whether its checksum was compared with the manifest. If not, a restore compares it while it loads.
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
    checked: bool = True

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(each.rows for each in self.tables)

    def open(self) -> DumpReader:
        """Open the content again. Reading fails if it is longer than before."""
        return DumpReader(self.path, self.restorer, self.content.size)


def open_dump_text(settings: Settings, path: Path, *, summed: bool = True, offset: int = 0) -> DumpReader:
    """Open a dump without checking it.

    :param summed: Whether to compute the checksum of the content.
    :param offset: The byte of the file at which to begin, as in :class:`DumpReader`.
    :raises BadInputError: Its first bytes are not those of a dump.
    """
    with _naming(path):
        compression, head = read_magic(path)
        longest = _longest(path.stat().st_size, None, trust=False)
    _refuse_other_formats(path, compression, head)
    return DumpReader(path, _restorer(settings, head), longest, summed=summed, offset=offset)


def _restorer(settings: Settings, head: bytes) -> Client | None:
    """Return the pg_restore that reads an archive; None for a plain dump."""
    if not head.startswith(ARCHIVE_MAGIC):
        return None
    client = newest_client("pg_restore", bin_dir=settings.bin_dir, environ=settings.environ)
    needed = archive_major(head)
    if client.major < needed:
        raise MissingProgramError(
            f"The archive needs pg_restore {needed} or newer, but {client.path} is version {client.major}. Nothing was "
            f"touched. Install postgresql-client-{needed}, or convert the archive to text where it was made "
            f"(pg_restore --file=dump.sql ARCHIVE)."
        )
    return client


def choose_dump(settings: Settings, file: str, report: Report) -> Path:
    """Return the named dump, or else the newest dump that is not known to be broken or partial; report its name.

    Dumps of the database that the URL names come first. For tasks that only read or compress a dump and ask no server.
    A restore uses :func:`newest_dump_of`.

    :raises BadInputError: There is none, or an earlier task of the same call made another one.
    """
    if file:
        return find_dump_file(file, settings.dumps, settings.cwd)
    target = None
    # These tasks need no URL.
    with contextlib.suppress(BadInputError):
        target = settings.target()
    others = {path: _other_address(path, target) for path in list_dumps(settings.dumps) if time_in_name(path.name)}
    for path in sorted(others, key=lambda each: bool(others[each])):
        if reason := known_defect(path) or _known_part(path):
            report.warn(f"{path.name} was skipped: {reason}")
            continue
        refuse_unmade(path, settings.made, settings.dumps)
        if target is not None and others[path]:
            report.warn(f"There is no dump of {target.label}. {path.name} is used, {others[path]}.")
        else:
            report.step(f"{path.name} is the newest dump. To use another, name it with --file=")
        return path
    raise BadInputError(
        f"There is no dump in {settings.dumps}. Name a file with --file=.", fix="`inv db.dump` makes a dump."
    )


def _other_address(path: Path, target: Target | None) -> str:
    """Return a clause about the origin of a dump of another database than the URL names; empty if none is known."""
    manifest = None
    with contextlib.suppress(BadInputError):
        manifest = read_manifest(path)
    if target is None or manifest is None or not (target.database and target.host):
        return ""
    own = any(is_of_address(manifest, target.database, host, port) for host, port, _ in target.endpoints)
    return "" if own else f"made from {describe_source(manifest)}"


def newest_dump_of(settings: Settings, server: ServerFacts, endpoint: Endpoint, report: Report) -> Path:
    """Return the newest dump of a database that is not known to be broken or partial.

    Dumps of other databases and dumps without a manifest are skipped, with a warning about the newest.

    :raises BadInputError: There is none, or an earlier task of the same call made another one.
    """
    others: list[tuple[Path, str]] = []
    named: list[tuple[Path, str]] = []
    for path in list_dumps(settings.dumps):
        if time_in_name(path.name) is None:
            named.append((path, "it was named by hand"))
            continue
        other, reason = _other_origin(path, server, endpoint), known_defect(path) or _known_part(path)
        if other:
            others.append((path, other))
        elif reason:
            report.warn(f"{path.name} was skipped: {reason}")
        else:
            if others:
                name, why = others[0][0].name, others[0][1]
                report.warn(f"{name} is newer, but {why}. To restore it, use --file={name}")
            refuse_unmade(path, settings.made, settings.dumps)
            return path
    raise BadInputError(_no_dump(settings, endpoint, others + named))


def _other_origin(path: Path, server: ServerFacts, endpoint: Endpoint) -> str:
    """Return why a dump may not be of a database; empty if it is, or if its manifest can't be read."""
    try:
        manifest = read_manifest(path)
    except BadInputError:
        return ""
    if manifest is None:
        return "it has no manifest, so its database is unknown"
    own = is_of_database(manifest, server, endpoint.host, endpoint.port)
    return "" if own else f"it was made from {describe_databases(manifest, endpoint)[0]}"


def _known_part(path: Path) -> str:
    """Return a clause about a partial dump, from its manifest; empty for another dump."""
    manifest = read_manifest(path)
    lacks = describe_lacks(describe_part(manifest), manifest.excluded_data) if manifest else []
    return f"it is partial: {', '.join(lacks)}. To use it, name it with --file=" if lacks else ""


def _no_dump(settings: Settings, endpoint: Endpoint, others: Sequence[tuple[Path, str]]) -> str:
    found = [f"{path.name} ({why})" for path, why in others]
    more = f" Other dumps: {format_list(found, _SHOWN_DUMPS, '; ')}." if found else ""
    default = " that can be chosen by default" if found else ""
    return (
        f"There is no dump of {endpoint.database} in {settings.dumps}{default}, so there is nothing to restore. "
        f"Nothing was touched. Name a file with --file=.{more}"
    )


def manifest_for(path: Path) -> Manifest | None:
    """Return the manifest of a dump without checking the dump; None if there is none or the dump is an archive.

    :raises BadInputError: The manifest or the dump can't be read.
    """
    with _naming(path):
        _, head = read_magic(path)
    return None if head.startswith(ARCHIVE_MAGIC) else read_manifest(path)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn an OSError into a BadInputError that names the dump."""
    try:
        yield
    except OSError as error:
        raise BadInputError(f"{path.name} can't be read: {error.strerror}. Nothing was touched.") from None


def prove_dump(settings: Settings, path: Path, report: Report, *, trust: bool = False, sums: bool = True) -> DumpFile:
    """Check that a dump is complete by reading all of it.

    With a manifest, compare the checksum of the file, or that of the content if the file was compressed or expanded by
    hand. Without a manifest, or if it does not list what the dump creates and changes, parse the text up to pg_dump's
    last line.

    :param trust: Accept any length of text without a manifest.
    :param sums: Compare the checksum now, although the dump has a manifest and the size in it.
    :raises BadInputError: It is not complete, or not a dump. Nothing was touched.
    """
    with _naming(path):
        return _proven(settings, path, report, trust=trust, sums=sums)


def _proven(settings: Settings, path: Path, report: Report, *, trust: bool, sums: bool) -> DumpFile:
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
        or (sums and _sum(path, report) != manifest.file)
    ):
        reader = DumpReader(path, restorer, _longest(before[2], manifest, trust=trust))
        text = read_whole_text(reader, path, manifest, report)
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
        raise BadInputError(f"{path.name} changed while it was read. Nothing was touched.")
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
        checked=sums or names is not None,
    )


def _describes_objects(manifest: Manifest) -> bool:
    """Return whether a manifest lists what its dump creates and changes."""
    return manifest.outline.touches is not None and not manifest.facts.keys().isdisjoint({"objects", "definitions"})


def _histories(manifest: Manifest) -> dict[str, tuple[AppliedMigration, ...]]:
    """Return the history in a manifest, by its schema: that of the URL of the dump."""
    history = history_from_document(manifest.facts.get("history"))
    schemas = [each.schema for each in manifest.tables if each.name == MIGRATIONS_TABLE]
    return {} if history is None or not schemas else {"public" if "public" in schemas else schemas[0]: history}


def _longest(size: int, manifest: Manifest | None, *, trust: bool) -> int:
    """Return the most bytes of text to accept from a dump, 0 for any; this stops decompression bombs."""
    if manifest is not None:
        return manifest.content.size
    return 0 if trust else max(BOMB_FLOOR, BOMB_RATIO * size)


def read_whole_text(source: DumpReader, path: Path, manifest: Manifest | None, report: Report) -> DumpText:
    """Read the text of a dump up to pg_dump's last line.

    :param manifest: The manifest that it must match.
    :raises BadInputError: It is not complete, or not a dump. Nothing was touched.
    """
    # The parser takes time to load, and a dump with a manifest rarely needs it.
    from .dump_text import read_dump_text

    try:
        text = read_dump_text(source, path.stat().st_size, report)
    except LexError as error:
        if source.exceeded and manifest is not None:
            raise _not_as_described(path) from None
        if source.exceeded:
            more = "If the size is right, use `inv db.restore --trust`."
            raise BadInputError(f"{path.name} can't be restored: {error}. Nothing was touched. {more}") from None
        raise BadInputError(f"{describe_damage(path, error)} Nothing was touched.") from None
    if text.summary.behind is not None:
        line, verb = text.summary.behind
        raise BadInputError(
            f"{path.name} can't be restored: from line {line:,}, statements follow pg_dump's last line: {verb}. Only "
            f"SET, RESET and INSERT may follow it. Nothing was touched. Delete the statements, or move them above "
            f"pg_dump's last line."
        )
    if not text.summary.complete:
        raise BadInputError(
            f"{path.name} is not a complete dump: pg_dump's last line ('-- PostgreSQL database dump complete') is "
            f"missing. Nothing was touched."
        )
    if manifest is not None and text.content != manifest.content:
        raise _not_as_described(path)
    return text


def describe_damage(path: Path, error: LexError) -> str:
    """Return a sentence about a file whose text can't be read as a dump."""
    if defect := known_defect(path):
        return f"{path.name} is broken: {defect}."
    return f"{path.name} is not a dump, or it is damaged: {error}."


def _not_as_described(path: Path) -> BadInputError:
    return BadInputError(
        f"{path.name} does not match its manifest: it was damaged or changed. Nothing was touched. To restore it "
        f"anyway, move {manifest_path(path).name} to another folder."
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
    """Return values that change when a file is replaced or written to.

    :raises OSError: It does not exist.
    """
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def is_unchanged(dump: DumpFile) -> bool:
    """Return whether the file is unchanged since it was checked."""
    try:
        return file_signature(dump.path) == dump.signature
    except OSError:
        return False
