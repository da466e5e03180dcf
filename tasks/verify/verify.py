"""Compare a database with a dump, with its last restore, or with another database."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..dumpfiles.dump_file import choose_dump, manifest_for, newest_dump_of, prove_dump
from ..errors import BadInputError
from ..formatting import show_name
from ..inventory.compare import (
    MISSING,
    compare_checksums,
    compare_states,
    join_partitions,
    key_of,
    schemas_of,
    state_from_parts,
    state_of_manifest,
)
from ..inventory.objects import name_of, table_of
from ..inventory.snapshot import DatabaseState, Key, describe_unsummed, read_snapshot, read_state
from ..postgres.connection import Connection, Endpoint, ServerFacts, connected, read_endpoint, server_facts, translated
from ..postgres.tables import read_increments, read_tables
from ..progress import Report, Silence
from ..safety.restore_log import RestoreRecord, read_record, record_path
from ..system.runtime import BackgroundTask
from .problems import Health, read_health

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..config.settings import Settings
    from ..config.target import Target
    from ..dumpformat.manifest import Manifest
    from ..inventory.compare import DifferenceLine


# The number of values that a server logs in advance (SEQ_LOG_VALS). A standby reads sequences from the log.
_LOGGED_AHEAD = 32


@dataclass(frozen=True)
class VerifyRequest:
    """The flags of `db.verify`.

    :ivar file: A dump to compare with; empty for the last restore.
    :ivar against: The variable with the URL of another database; empty for none.
    :ivar checksums: Compare checksums of all tables, too.
    """

    file: str = ""
    against: str = ""
    checksums: bool = False


@dataclass(frozen=True)
class Expected:
    """The expected state of the database.

    :ivar source: The file name of the dump, or the label of the other database.
    :ivar restored: The time of the restore; `migrated` that of a later migration by a task. Empty if there was none.
    :ivar dumped: The rows in the dump, if a task migrated the database after the restore.
    :ivar schemas: The schemas in which extra objects are differences.
    :ivar excluded: Tables whose rows the dump leaves out.
    :ivar kind: The name of the source in messages.
    :ivar server: The other database's server; None for a dump.
    """

    source: str
    state: DatabaseState
    restored: str = ""
    migrated: str = ""
    dumped: dict[Key, int] | None = None
    schemas: tuple[str, ...] = ()
    excluded: tuple[Key, ...] = ()
    kind: str = "the dump"
    server: ServerFacts | None = None

    @property
    def defined(self) -> bool:
        """Return whether the definitions of the objects are known, so that they are compared."""
        return bool(self.state.objects)

    @property
    def only_restored(self) -> bool:
        """Return whether only the rows and sequences that a restore loaded are known: one with --table, for example."""
        return bool(self.restored) and not self.defined


@dataclass(frozen=True)
class VerifiedTable:
    """The comparison of a table.

    :ivar expected: The number of rows, as `found`; None if there is none to compare.
    :ivar mark: The result of the comparison as text.
    """

    name: str
    expected: int | None
    found: int | None
    same: bool
    mark: str


@dataclass(frozen=True)
class Verified:
    """The result of `db.verify`.

    :ivar lines: Differences, then notes.
    :ivar summed: Whether checksums were requested.
    :ivar health: Facts and problems of the database that do not depend on the comparison.
    :ivar suggestion: If nothing was compared: the command that compares with the newest dump, as a sentence.
    """

    target: Target
    server: ServerFacts
    expected: Expected | None
    found: DatabaseState
    lines: tuple[DifferenceLine, ...]
    health: Health
    summed: bool = False
    suggestion: str = ""

    @property
    def equal_values(self) -> dict[Key, bool]:
        """Return for each table whose values were compared whether they are equal."""
        return compare_checksums(self.expected.state, self.found) if self.expected else {}

    @property
    def uncompared(self) -> list[Key]:
        """Return the tables with rows on both sides whose values were not compared."""
        expected, compared = self.expected.state.rows if self.expected else {}, self.equal_values
        return sorted(
            key for key, rows in expected.items() if rows and self.found.rows.get(key) and key not in compared
        )

    @property
    def tables(self) -> list[VerifiedTable]:
        """Return the comparison of each table of both sides."""
        expected, found = self.expected.state.rows if self.expected else {}, self.found.rows
        # Differences that do not concern rows: the definition, an extra table.
        others = {
            key_of(line.name): line.found for line in self.differences if line.kind == "table" and line.found != MISSING
        }
        equal = self.equal_values
        rows = []
        for key in sorted(expected.keys() | found.keys()):
            before, now = expected.get(key), found.get(key)
            other = others.get(key, "" if equal.get(key, True) else "differs")
            same = (before is None or before == now or key in self.found.unread) and not other
            mark = self._mark(key, before, now, other)
            rows.append(VerifiedTable(name=show_name(key), expected=before, found=now, same=same, mark=mark))
        return rows

    def _mark(self, key: Key, before: int | None, now: int | None, other: str) -> str:
        expected = self.expected
        if expected is None:
            return ""
        if key in self.found.unread:
            return "unlogged"
        if before is None:
            absent = "not restored" if expected.only_restored else f"not in {expected.kind}"
            return "rows left out" if key in expected.excluded else absent
        if before != now:
            return "differs"
        dumped = (expected.dumped or {}).get(key, before)
        return other or (f"{dumped:,} in the dump" if dumped != before else "same")

    @property
    def differences(self) -> list[DifferenceLine]:
        """Return the lines that are differences."""
        return [line for line in self.lines if line.fatal]


def verify_database(settings: Settings, request: VerifyRequest, report: Report) -> Verified:
    """Compare the database with a dump or with another database, each in one snapshot.

    Changes nothing.

    :raises TaskError: The dump or a database can't be read.
    """
    target = settings.target()
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("Reading the database failed", target),
    ):
        server = server_facts(connection)
        expected, proof = _expected(settings, request, target, server, report)
        summed: Mapping[Key, str] = {}
        if request.checksums:
            if expected is None:
                raise BadInputError(
                    f"Nothing was compared: {target.label} has no record of a restore.",
                    fix=_suggest_dump(settings, server, read_endpoint(connection, server)),
                )
            summed = expected.state.checksums
            if not summed and expected.state.rows:
                raise BadInputError(f"{_without_checksums(expected)} Nothing was compared.")
        suggestion = ""
        if expected is None:
            suggestion = _suggest_dump(settings, server, read_endpoint(connection, server))
        report.progress("counting", 0, 0, "")
        with read_snapshot(connection):
            found = read_state(connection, summed=summed)
            health = read_health(connection, target.schema or "public", found.sequences)
            ahead = _ahead(connection, server, expected)
        if unsummed := describe_unsummed(found, summed):
            report.warn(unsummed)
        if proof is not None:
            proof.result()
    lines: list[DifferenceLine] = []
    if expected is not None:
        state, found = join_partitions(expected.state, found)
        expected = replace(expected, state=state)
        # An extra object is a difference in any schema of two live databases, and in the schemas that the dump filled.
        schemas = schemas_of(found) if request.against else expected.schemas
        live = bool(request.against)
        lines = compare_states(state, found, schemas=schemas, source=expected.kind, extensions=live, ahead=ahead)
    return Verified(
        target=target,
        server=server,
        expected=expected,
        found=found,
        lines=tuple(lines),
        health=health,
        summed=request.checksums,
        suggestion=suggestion,
    )


def _suggest_dump(settings: Settings, server: ServerFacts, endpoint: Endpoint) -> str:
    """Return the command that compares the database with its newest dump, as a sentence."""
    try:
        newest = newest_dump_of(settings, server, endpoint, Silence())
    except BadInputError:
        return "To compare with another database: --against-url-env=. `inv db.dump` makes a dump to compare with later."
    command = settings.command("db.verify", shlex.quote(f"--file={newest.name}"))
    return f"To compare with the newest dump: `{command}`."


def _ahead(connection: Connection, server: ServerFacts, expected: Expected | None) -> dict[Key, int]:
    """Return how far each sequence may be ahead of the expected value, if one server is a standby of the other."""
    other = expected.server if expected else None
    clusters = {server.system_identifier, other.system_identifier} if other else set()
    if len(clusters - {None}) > 1:
        return {}
    sign = server.in_recovery - (other is not None and other.in_recovery)
    return {key: sign * _LOGGED_AHEAD * by for key, by in read_increments(connection).items()} if sign else {}


def _without_checksums(expected: Expected) -> str:
    if expected.migrated:
        return (
            f"The recorded state is the one after the migration, and it has no checksums. --file={expected.source} "
            f"compares with the checksums of the dump; tables that the migration changed will differ."
        )
    if expected.only_restored:
        return (
            f"The last restore recorded only numbers of rows and sequences. --file={expected.source} compares with the "
            f"checksums of the dump, if it has any."
        )
    return f"{expected.source} has no checksums, because it was made without --checksums."


def _expected(
    settings: Settings, request: VerifyRequest, target: Target, server: ServerFacts, report: Report
) -> tuple[Expected | None, BackgroundTask[None] | None]:
    """Return the expected state, and the background task that checks the dump; each None if there is none."""
    if request.file and request.against:
        raise BadInputError("--file and --against-url-env cannot be combined. Nothing was compared.")
    if request.against:
        return _of_database(settings, request, server, report), None
    return _of_file(settings, request.file, report) if request.file else (_of_record(settings, target, server), None)


def _of_database(settings: Settings, request: VerifyRequest, here: ServerFacts, report: Report) -> Expected:
    """Return the state of another database.

    :param here: The facts of the database to compare, which the other one must not be.
    """
    other = settings.target(request.against)
    report.progress(f"reading {other.label}", 0, 0, "")
    with (
        connected(other, lock_timeout=settings.lock_timeout) as connection,
        translated(f"Reading {other.label} failed", other),
        read_snapshot(connection),
    ):
        server = server_facts(connection)
        # A standby has another start time.
        if server.instance is not None and server.instance == here.instance:
            raise BadInputError(
                f"{request.against} and {settings.url_env} are URLs of the same database, {other.label}. Nothing was "
                f"compared."
            )
        summed = dict.fromkeys((table.key for table in read_tables(connection)), "") if request.checksums else {}
        found = read_state(connection, summed=summed)
    excluded = tuple(found.unread)
    return Expected(source=other.label, state=found, excluded=excluded, kind="the other database", server=server)


def _of_record(settings: Settings, target: Target, server: ServerFacts) -> Expected | None:
    record = read_record(record_path(settings.dumps, target, server))
    if record is None or not record.file:
        return None
    return Expected(
        source=Path(record.file).name,
        state=_state_of(record),
        restored=record.restored,
        migrated=record.migrated,
        dumped={(each.schema, each.name): each.rows for each in record.dumped},
        schemas=record.schemas,
        excluded=record.excluded,
    )


def _state_of(record: RestoreRecord) -> DatabaseState:
    """Return the recorded state, with the owners, grants and settings of the dump if its file still exists.

    The record has those after the restore, which keeps some of the database's own.
    """
    state = state_from_parts(record.tables, record.sequences, record.facts)
    if not state.objects or record.migrated:
        return state
    manifest = None
    with contextlib.suppress(BadInputError):
        manifest = manifest_for(Path(record.file))
    # Another dump may have the file's name now.
    if manifest is None or not set(record.dumped) <= set(manifest.tables):
        return state
    dump = state_of_manifest(manifest)
    # Each major has other default grants.
    if dump.major != state.major:
        return state
    own = _names_in(state) - _names_in(dump)
    properties = {
        kind: {
            name: value
            for name, value in state.properties.get(kind, {}).items()
            if name in own or table_of(name) in own
        }
        | dict(found)
        for kind, found in dump.properties.items()
    }
    return replace(state, properties=properties)


def _names_in(state: DatabaseState) -> set[str]:
    return {name_of(kind, name) for kind, found in state.objects.items() for name in found}


def _of_file(settings: Settings, file: str, report: Report) -> tuple[Expected, BackgroundTask[None] | None]:
    path = choose_dump(settings, file, report)
    manifest = manifest_for(path)
    if manifest is not None:
        # The file is read while the server counts.
        proof = BackgroundTask(lambda: _prove(settings, path, manifest))
        proof.start()
        state = state_of_manifest(manifest)
        return Expected(source=path.name, state=state, excluded=manifest.excluded_data), proof
    dump = prove_dump(settings, path, report)
    if dump.inserts:
        raise BadInputError(
            f"{path.name} writes rows as {dump.inserts:,} INSERT statements, so its rows cannot be counted without "
            f"running them. Nothing was compared. `inv db.restore` runs and counts them; after it, `inv db.verify` "
            f"without --file= compares with that count."
        )
    return Expected(source=path.name, state=state_from_parts(dump.tables, dump.sequences, {})), None


def _prove(settings: Settings, path: Path, manifest: Manifest) -> None:
    """Raise an error unless the dump is the one that its manifest describes."""
    if prove_dump(settings, path, Silence()).manifest != manifest:
        raise BadInputError(f"{path.name} changed while it was read. Nothing was compared.")
