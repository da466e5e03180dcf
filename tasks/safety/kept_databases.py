"""Kept databases: each was the configured one until another database took its place. `db.undo` puts it back."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg import sql

from ..dumpfiles.origin import OriginMatch
from ..dumpfiles.paths import find_dump_file
from ..dumpfiles.short_ids import is_id_beginning
from ..errors import BadInputError, OperationFailedError, TaskError
from ..formatting import format_list, format_size
from ..postgres.connection import Connection, Endpoint, ServerFacts, connected, read_endpoint, server_facts, translated
from ..system.runtime import unchanged_interrupt_message
from .database_properties import grant_statement, read_grants, role_or_public
from .guard import guarded_connection, nonlocal_reason, refuse_protected
from .own_databases import (
    Role,
    delete_database_record,
    is_kept_name,
    own_databases,
    read_database_records,
    write_database_record,
)
from .scratch_database import drop_database

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ..config.settings import Settings
    from ..config.target import Target
    from ..dumpfiles.retention import SavedState
    from ..progress import Report
    from .own_databases import DatabaseRecord, OwnDatabase


def kept_databases_of(connection: Connection, target: Target, folder: Path, database: str) -> list[OwnDatabase]:
    """Return the databases kept of a configured database, the oldest first.

    :param connection: A session in any database of the server.
    :param folder: The dumps folder.
    :param database: The name of the configured database.
    """
    return [each for each in own_databases(connection, target, folder, Role.KEPT) if each.record.of == database]


def kept_records(folder: Path, match: str = "") -> list[DatabaseRecord]:
    """Return the records of all kept databases, the oldest first, without asking a server.

    :param match: Text that the name, the configured database's name or the command must contain; case is ignored.
    """
    found = [each for each in read_database_records(folder) if each.role is Role.KEPT]
    return [each for each in found if match.lower() in f"{each.database} {each.of} {each.command}".lower()]


def find_kept_record(settings: Settings, value: str) -> DatabaseRecord | None:
    """Return the record of the kept database that a value of `--file` names; None if it names none.

    :param value: The name of the database, or the first four characters or more of its id.
    :raises BadInputError: It names several, or a dump, too; or it is a kept database of another dumps folder.
    """
    found = [each for each in kept_records(settings.dumps) if each.database == value or is_id_beginning(value, each.id)]
    dump, names = None, [each.database for each in found]
    with contextlib.suppress(BadInputError):
        dump = find_dump_file(value, settings.dumps, settings.cwd, broken=True).name
        names.append(dump)
    if not found and dump is None and is_kept_name(value):
        raise BadInputError(
            f"{settings.dumps} has no record of a kept database {value}. Nothing was deleted.",
            fix=f"Delete it with the dumps folder of the restore that kept it, or in psql: "
            f"DROP DATABASE {sql.Identifier(value).as_string()};",
        )
    if not found:
        return None
    if len(names) > 1:
        raise BadInputError(f"--file={value} matches {format_list(names)}. Nothing was deleted. Name one of them.")
    return found[0]


@dataclass(frozen=True, kw_only=True)
class KeptDeletion:
    """A kept database that is to be deleted.

    :ivar nonlocal_reason: Why the server does not count as local; empty if it does.
    """

    settings: Settings
    target: Target
    endpoint: Endpoint
    record: DatabaseRecord
    nonlocal_reason: str

    destroys = True


def plan_kept_deletion(settings: Settings, record: DatabaseRecord) -> KeptDeletion:
    """Plan to delete a kept database.

    :raises TaskError: It does not exist on the server of the URL, is not ours, or is protected. Nothing was deleted.
    """
    target = settings.target()
    with guarded_connection(settings, target, "server") as (connection, _, endpoint):
        refuse_protected(settings, target, replace(endpoint, database=record.of))
        found = own_databases(connection, target, settings.dumps, Role.KEPT)
        if record not in [each.record for each in found]:
            raise BadInputError(
                f"{target.label} has no database {record.database} that was kept by a swap: it was dropped or changed, "
                f"or is on another server. Nothing was deleted."
            )
    return KeptDeletion(
        settings=settings,
        target=target,
        endpoint=endpoint,
        record=record,
        nonlocal_reason=nonlocal_reason(settings, endpoint),
    )


def retain_database(
    settings: Settings, maintenance: Target, kept: DatabaseRecord, report: Report, *, keeps: bool, done: str
) -> DatabaseRecord | None:
    """Keep the database that gave way in a swap for `db.undo`, and drop older ones; or drop it. A failure is a warning.

    :param maintenance: Another database of the server.
    :param keeps: Whether to keep it.
    :param done: What is done whatever becomes of this, as the beginning of a sentence.
    :return: Its record; None if it was dropped.
    """
    try:
        if keeps:
            return kept if kept in _drop_surplus(settings, maintenance, kept.of, report) else None
        drop_kept_database(maintenance, kept, settings.dumps)
    except TaskError as error:
        report.warn(f"{done}, but an older database could not be dropped: {error}")
        return kept
    return None


def _drop_surplus(settings: Settings, maintenance: Target, database: str, report: Report) -> list[DatabaseRecord]:
    """Drop the kept databases of a configured one beyond the number of `db.kept_databases`; return those that remain.

    One that the retention rule of safety dumps keeps becomes a safety dump first. One that can't be dumped or dropped
    remains, with a warning.
    """
    with connected(maintenance) as connection, translated("Looking for kept databases failed"):
        remaining = [each.record for each in kept_databases_of(connection, maintenance, settings.dumps, database)]
        surplus = remaining[: max(len(remaining) - settings.kept_databases, 0)]
        if not surplus:
            return remaining
        server = server_facts(connection)
        endpoint = read_endpoint(connection, server)
    for record in surplus:
        try:
            # The swap is committed, whatever becomes of this.
            with unchanged_interrupt_message():
                if is_worth_keeping(settings, endpoint, server, record, remaining):
                    _save(settings, maintenance, endpoint, record, report)
                drop_kept_database(maintenance, record, settings.dumps)
            remaining.remove(record)
            report.step(f"The database {record.database} ({format_size(record.size)}) was dropped.")
        except TaskError as error:
            report.warn(f"The database {record.database} remains: {error}")
    return remaining


def is_worth_keeping(
    settings: Settings, endpoint: Endpoint, server: ServerFacts, record: DatabaseRecord, kept: Sequence[DatabaseRecord]
) -> bool:
    """Return whether the retention rule of safety dumps keeps the state in a kept database.

    :param server: The facts of a session in any database of the server.
    :param kept: All databases kept of the same configured database.
    """
    from ..dumpfiles.retention import states_to_keep
    from .safety_dump import safety_dumps_of, saved_state

    if settings.safety_dumps == 0:
        return False
    here = replace(server, database=record.of)
    dumps = safety_dumps_of(settings, here, endpoint, {OriginMatch.SAME}, record.oid)
    states = [saved_state(path, manifest) for path, manifest in dumps] + [_state(each) for each in kept]
    return _state(record) in states_to_keep(states, settings.safety_dumps)


def _state(record: DatabaseRecord) -> SavedState:
    from ..dumpfiles.retention import SavedState

    return SavedState(name=record.database, made=record.when, rows=record.rows, size=record.size)


def _save(settings: Settings, maintenance: Target, endpoint: Endpoint, record: DatabaseRecord, report: Report) -> None:
    """Make a safety dump of a kept database, with the time of its state."""
    from ..dump.dump import make_dump
    from ..dump.request import DumpRequest

    request = DumpRequest(
        note=f"before {record.command}",
        safety=True,
        endpoint=replace(endpoint, database=record.database),
        command=record.command,
        kept=record.database,
        source=record.of,
    )
    with _open_to_owner(maintenance, record, settings.dumps):
        dumped = make_dump(settings, request, report, now=lambda: record.when)
    if dumped is not None:
        report.step(f"The database {record.database} became the safety dump {dumped.path.name}.")


@contextlib.contextmanager
def _open_to_owner(maintenance: Target, record: DatabaseRecord, folder: Path) -> Iterator[None]:
    """Allow connections to a kept database for its owner and superusers; if the block raises, close it again.

    The revoked grants are in its record meanwhile, because an undo after a kill has to grant them again.
    """
    with connected(maintenance) as connection, translated(f"{record.database} could not be opened"):
        revoked = {
            (each.grantee, each.grantable)
            for each in read_grants(connection, record.oid)
            if each.privilege == "CONNECT" and each.grantee != record.owner
        }.union(record.revoked)
        opened = replace(record, revoked=tuple(sorted(revoked, key=str)))
        write_database_record(folder, opened)
        with connection.transaction():
            for role, _ in opened.revoked:
                connection.execute(
                    sql.SQL("REVOKE CONNECT ON DATABASE {} FROM {}").format(
                        sql.Identifier(record.database), role_or_public(role)
                    )
                )
            connection.execute(_allow(record, allowed=True))
    try:
        yield
    except BaseException:
        with connected(maintenance) as connection, translated(f"{record.database} could not be closed"):
            with connection.transaction():
                connection.execute(_allow(record, allowed=False))
                for statement in grant_statements(opened):
                    connection.execute(statement)
            write_database_record(folder, replace(record, revoked=()))
        raise


def _allow(record: DatabaseRecord, *, allowed: bool) -> sql.Composed:
    return sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(
        sql.Identifier(record.database), sql.SQL("true" if allowed else "false")
    )


def grant_statements(record: DatabaseRecord) -> list[sql.Composed]:
    """Return the statements that grant again what was revoked while a kept database was dumped."""
    return [grant_statement(record.database, "CONNECT", role, grantable=grants) for role, grants in record.revoked]


_PRESENT = """
SELECT d.datistemplate, (SELECT s.slot_name::pg_catalog.text FROM pg_catalog.pg_replication_slots s
         WHERE s.database = d.datname LIMIT 1)
  FROM pg_catalog.pg_database d WHERE d.datname = %s AND d.oid = %s
"""


def drop_kept_database(maintenance: Target, record: DatabaseRecord, folder: Path) -> None:
    """Drop a kept database and delete its record.

    :raises OperationFailedError: It has a replication slot, which DROP DATABASE would drop, too; or another database
        has its name now.
    """
    name = record.database
    with connected(maintenance) as connection, translated(f"{name} could not be dropped"):
        row = connection.execute(_PRESENT, [name, record.oid]).fetchone()
        if row is None:
            raise OperationFailedError(f"{name} was dropped or renamed meanwhile.")
        if row[1]:
            raise OperationFailedError(f"{name} has the replication slot {row[1]}, which would be dropped with it.")
        if row[0]:
            connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(sql.Identifier(name)))
    drop_database(maintenance, name)
    delete_database_record(folder, record)
