"""Verify: what the database holds now, beside what a dump held, or beside another database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInputError
from ..postgres import facts, health, ills, state
from ..postgres.session import connected, one, server_facts, translated
from . import comparing, dumpfile, records
from .beside import Beside
from .report import Silence

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..archive.manifest import Manifest
    from ..postgres.health import Health
    from ..postgres.ills import Ill
    from ..postgres.session import Connection, ServerFacts
    from ..postgres.state import Key, State
    from ..postgres.target import Target
    from ..settings import Settings
    from .comparing import Line
    from .report import Report


@dataclass(frozen=True)
class Request:
    """What a person asked for.

    :ivar file: A dump to compare with; empty for the one last restored.
    :ivar against: The variable that holds another database's URL; empty for none.
    :ivar checksums: Compare the content of every table, too.
    """

    file: str = ""
    against: str = ""
    checksums: bool = False


@dataclass(frozen=True)
class Expected:
    """What the database should hold.

    :ivar source: The dump's file name, or the other database.
    :ivar restored: When; `migrated` when a migration of ours came after it.
    :ivar dumped: Rows in the dump itself, where a migration of ours came after it.
    :ivar schemas: The schemas that should hold nothing else.
    :ivar excluded: Tables whose rows the dump leaves out.
    :ivar kind: What the source is, in words.
    """

    source: str
    state: State
    restored: str = ""
    migrated: str = ""
    dumped: dict[Key, int] | None = None
    schemas: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    kind: str = "the dump"


@dataclass(frozen=True)
class Verified:
    """The whole comparison.

    :ivar lines: What does not agree, the differences first.
    :ivar ills: What is wrong in itself, whatever the dump says.
    """

    target: Target
    server: ServerFacts
    expected: Expected | None
    found: State
    lines: tuple[Line, ...]
    health: Health
    ills: tuple[Ill, ...]

    @property
    def differences(self) -> list[Line]:
        """The lines that are differences."""
        return [line for line in self.lines if line.fatal]


def verify(settings: Settings, request: Request, report: Report) -> Verified:
    """Compare the database with a dump or with another database, each in one snapshot.

    :raises TaskError: The dump or a database can't be read. Nothing is ever changed.
    """
    target = settings.target()
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("Reading the database failed", target),
    ):
        server = server_facts(connection)
        expected, proof = _expected(settings, request, connection, target, server, report)
        summed: Collection[Key] = ()
        if request.checksums and expected is not None:
            summed = expected.state.checksums
            if not summed and expected.state.rows:
                raise BadInputError(
                    f"{expected.source} has no checksums to compare with: it was made without --checksums. Nothing was "
                    f"compared."
                )
        report.progress("counting", 0, 0, "")
        with state.snapshot(connection):
            found = state.read(connection, summed=summed)
            shown = health.read(connection, target.schema or "public")
            wrong = tuple(ills.read(connection, target.schema or "public", found.sequences))
        if proof is not None:
            proof.result()
    # Of two live databases neither may hold what the other does not; a dump speaks for the schemas that it filled.
    schemas = comparing.schemas_of(found) if request.against else expected.schemas if expected else ()
    lines = comparing.compare(expected.state, found, schemas=schemas) if expected else []
    return Verified(target, server, expected, found, tuple(lines), shown, wrong)


def _expected(
    settings: Settings, request: Request, connection: Connection, target: Target, server: ServerFacts, report: Report
) -> tuple[Expected | None, Beside[None] | None]:
    """Tell what is expected, and what proves it meanwhile."""
    if request.file and request.against:
        raise BadInputError("--file and --against-url-env do not go together. Nothing was compared.")
    if request.against:
        return _of_database(settings, request, _running(connection), report), None
    return _of_file(settings, request.file, report) if request.file else (_of_record(settings, target, server), None)


def _running(connection: Connection) -> tuple[Any, ...]:
    """Tell one database from all others, also from the same one on a standby."""
    return one(connection, "SELECT current_database(), pg_catalog.pg_postmaster_start_time()::text")


def _of_database(settings: Settings, request: Request, here: tuple[Any, ...], report: Report) -> Expected:
    """Read another database.

    :param here: Which one it may not be.
    """
    other = settings.target(request.against)
    report.progress(f"reading {other.label}", 0, 0, "")
    with (
        connected(other, lock_timeout=settings.lock_timeout) as connection,
        translated(f"Reading {other.label} failed", other),
        state.snapshot(connection),
    ):
        if _running(connection) == here:
            raise BadInputError(
                f"{request.against} leads to the same database as {settings.url_env}: {other.label}. Nothing was "
                f"compared."
            )
        summed = [table.key for table in facts.tables(connection)] if request.checksums else []
        found = state.read(connection, summed=summed)
    return Expected(other.label, found, kind="the other")


def _of_record(settings: Settings, target: Target, server: ServerFacts) -> Expected | None:
    record = records.read(records.place(settings.dumps, target, server))
    if record is None:
        return None
    return Expected(
        Path(record.file).name,
        comparing.from_parts(record.tables, record.sequences, record.facts),
        record.restored,
        record.migrated,
        {(each.schema, each.name): each.rows for each in record.dumped},
        record.schemas,
        record.excluded,
    )


def _of_file(settings: Settings, file: str, report: Report) -> tuple[Expected, Beside[None] | None]:
    path = dumpfile.choose(settings, file, report)
    manifest = dumpfile.manifest_of(path)
    if manifest is not None:
        # The server counts while the file is read.
        proof = Beside(lambda: _prove(settings, path, manifest))
        proof.start()
        return Expected(path.name, comparing.of_manifest(manifest), excluded=manifest.excluded_data), proof
    dump = dumpfile.prove(settings, path, report)
    return Expected(path.name, comparing.from_parts(dump.tables, dump.sequences, {})), None


def _prove(settings: Settings, path: Path, manifest: Manifest) -> None:
    """Prove that a dump is the one that its manifest describes."""
    if dumpfile.prove(settings, path, Silence()).manifest != manifest:
        raise BadInputError(f"{path.name} was changed while it was read. Nothing was compared.")
