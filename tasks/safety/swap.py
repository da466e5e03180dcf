"""Let a database take the place of another one: both are renamed in one transaction."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from ..errors import Effect, OperationFailedError, ServerError, TaskError
from ..formatting import format_list
from ..postgres.activity import read_sessions, repeatedly
from ..postgres.commit import Outcome, ask_outcome, commit_transaction
from ..postgres.connection import Connection, connected, one, system_identifier, translated
from ..postgres.protocol import StatementStream
from ..system.runtime import Interruption, set_interrupt_message
from .own_databases import Role, delete_database_record, mark_statement, write_database_record
from .scratch_database import has_name, on_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from ..config.target import Target
    from .own_databases import DatabaseRecord


_OBSTACLES = """
SELECT (SELECT d.datname::pg_catalog.text FROM pg_catalog.pg_database d
         WHERE d.oid = ANY(o.oids) AND NOT pg_catalog.pg_has_role(d.datdba, 'USAGE') LIMIT 1),
       (SELECT r.rolname::pg_catalog.text FROM pg_catalog.pg_roles r
         WHERE r.rolname = current_user AND NOT (r.rolcreatedb OR r.rolsuper)),
       (SELECT s.slot_name::pg_catalog.text FROM pg_catalog.pg_replication_slots s JOIN pg_catalog.pg_database d
            ON d.datname = s.database WHERE d.oid = ANY(o.oids) LIMIT 1),
       (SELECT s.subname::pg_catalog.text FROM pg_catalog.pg_subscription s WHERE s.subdbid = ANY(o.oids) LIMIT 1),
       (SELECT x.gid FROM pg_catalog.pg_prepared_xacts x JOIN pg_catalog.pg_database d ON d.datname = x.database
         WHERE d.oid = ANY(o.oids) LIMIT 1)
  FROM (SELECT %s::pg_catalog.oid[] AS oids) o
"""
# Seconds to end sessions before the rename; until sessions that have just been closed are gone; and between looks.
_PATIENCE, _GRACE, _PAUSE = 0.05, 0.5, 0.005
# Milliseconds. A rename blocks new connections while it waits for a session; the server itself gives up after 5 s.
_RENAME_TIMEOUT = "2s"
_SHOWN = 3


class SessionsRemainError(ServerError):
    """Sessions of the database that has to give way remain, and were not or could not be ended."""


@dataclass(frozen=True, kw_only=True)
class Swap:
    """A swap that is to be done.

    :ivar folder: The dumps folder.
    :ivar maintenance: Another database of the server, from which both can be renamed.
    :ivar incoming: The database that takes the name of the configured one.
    :ivar kept: The configured database, under the name that it gets.
    :ivar comment: Its comment.
    :ivar before: Statements for the incoming database, under its present name.
    :ivar ends_sessions: Whether other sessions of both databases may be ended.
    """

    folder: Path
    maintenance: Target
    incoming: DatabaseRecord
    kept: DatabaseRecord
    comment: str | None
    before: Sequence[sql.Composed]
    ends_sessions: bool

    @property
    def oids(self) -> list[int]:
        """Return the oids of both databases."""
        return [self.kept.oid, self.incoming.oid]


@dataclass(frozen=True)
class Swapped:
    """A swap that is done.

    :ivar seconds: How long no session could use the database, at most.
    :ivar ended: The number of sessions that were ended.
    """

    seconds: float
    ended: int


def rename_obstacles(connection: Connection, oids: Sequence[int]) -> tuple[str | None, ...]:
    """Return what prevents that databases are renamed, or would follow the renamed database; None for nothing.

    :return: Names: a database that the role does not own, the role if it may not create databases, a replication slot,
        a subscription, and a prepared transaction of the databases.
    """
    return one(connection, _OBSTACLES, [list(oids)])


def swap_databases(swap: Swap, state: Callable[[Outcome], str]) -> Swapped:
    """Rename both databases in one transaction, after the last session of both has ended.

    The record of the kept database is written before, so that a kill cannot leave a kept database without one.

    :param state: The state of the databases after an outcome, as a sentence for messages.
    :raises SessionsRemainError: Sessions remain. Nothing was changed.
    :raises TaskError: The swap failed; the message has the state.
    :raises Interruption: A signal; its `state` and `effect` are set.
    :raises OSError: The record can't be written. Nothing was changed.
    """
    try:
        write_database_record(swap.folder, swap.kept)
        return _swap(swap, state)
    except (TaskError, Interruption) as error:
        if error.effect is Effect.UNCHANGED:
            delete_database_record(swap.folder, swap.kept)
        raise


def _swap(swap: Swap, state: Callable[[Outcome], str]) -> Swapped:
    with connected(swap.maintenance) as connection, connected(swap.maintenance) as other:
        stream = StatementStream(connection)
        cluster, xid = None, ""
        try:
            with translated(f"The swap failed, and {swap.kept.of} was not changed", swap.maintenance):
                cluster = system_identifier(connection)
                _refuse_others(connection, swap)
                connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE")
                # With the role's `off`, the server would report the commit before it is on disk.
                connection.execute("SET LOCAL synchronous_commit = on")
                for statement in swap.before:
                    connection.execute(statement)
                began = time.monotonic()
                ended = _end_sessions(other, swap)
                xid = str(one(connection, "SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text")[0])
                with _ending_sessions(other, swap):
                    _rename(connection, swap)
            commit = commit_transaction(stream, xid, swap.maintenance, cluster)
            if commit.outcome is Outcome.COMMITTED:
                # Before the connections are closed, during which a signal may come.
                set_interrupt_message(state(Outcome.COMMITTED), Effect.CHANGED)
        except Interruption as interruption:
            with contextlib.suppress(psycopg.Error):
                connection.cancel_safe(timeout=5)
            outcome = ask_outcome(xid, swap.maintenance, cluster) if xid else Outcome.ROLLED_BACK
            interruption.state, interruption.effect = state(outcome), outcome.effect
            raise
    seconds, outcome = time.monotonic() - began, commit.outcome
    if outcome is Outcome.COMMITTED:
        return Swapped(seconds=seconds, ended=ended)
    detail = f" ({commit.detail})" if commit.detail else ""
    kind = ServerError if outcome is Outcome.UNKNOWN else OperationFailedError
    raise kind(f"The swap failed while it was committed{detail}. {state(outcome)}", effect=outcome.effect)


def _refuse_others(connection: Connection, swap: Swap) -> None:
    for name, oid in ((swap.kept.of, swap.kept.oid), (swap.incoming.database, swap.incoming.oid)):
        if not has_name(connection, oid, name):
            raise OperationFailedError(
                f"The database {name} was dropped or renamed meanwhile, or another one has this name now. Nothing was "
                f"changed."
            )
    if prepared := rename_obstacles(connection, swap.oids)[-1]:
        raise ServerError(
            f"{swap.kept.of} has the prepared transaction {prepared}. Nothing was changed. Commit it or roll it back."
        )


def _rename(connection: Connection, swap: Swap) -> None:
    """Rename both databases and close the old one, in the open transaction."""
    connection.execute("SELECT pg_catalog.set_config('statement_timeout', %s, true)", [_RENAME_TIMEOUT])
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    live, kept = sql.Identifier(swap.kept.of), sql.Identifier(swap.kept.database)
    try:
        connection.execute(rename.format(live, kept))
        connection.execute(rename.format(sql.Identifier(swap.incoming.database), live))
    except (psycopg.errors.ObjectInUse, psycopg.errors.QueryCanceled):
        raise _sessions_remain(swap, ["a session that has just connected"]) from None
    connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(kept))
    connection.execute(mark_statement(swap.kept.database, Role.KEPT, swap.kept.of, swap.comment))


_OTHERS = """
SELECT d.datname::pg_catalog.text FROM pg_catalog.pg_database d
 WHERE d.datallowconn AND NOT d.datistemplate AND d.datname <> pg_catalog.current_database()
   AND pg_catalog.has_database_privilege(d.oid, 'CONNECT') AND d.datname NOT LIKE '%\\_\\_staging\\_%'
   AND d.datname NOT LIKE '%\\_\\_before\\_%'
 ORDER BY d.datname <> 'postgres', d.oid LIMIT 3
"""


def find_maintenance_database(connection: Connection, target: Target, *, lock_timeout: int) -> tuple[str, str]:
    """Return another database that can be connected to; without one, an empty name and the reason."""
    problem = ""
    for (name,) in connection.execute(_OTHERS).fetchall():
        try:
            with connected(on_database(target, str(name)), lock_timeout=lock_timeout):
                return str(name), ""
        except TaskError as error:
            problem = str(error)
    return "", problem


def _end_sessions(other: Connection, swap: Swap) -> int:
    """End the sessions of both databases, and wait a moment until they are gone.

    Clients that reconnect at once may be back before a look finds no session. The rename then locks them out, and
    :func:`_ending_sessions` ends those that were faster.

    :return: The number of ended sessions of the live database; our own may still be ending in the other one.
    :raises SessionsRemainError: Sessions may not be ended.
    """
    ended = set[int]()
    deadline = time.monotonic() + (_PATIENCE if swap.ends_sessions else _GRACE)
    while found := read_sessions(other, swap.oids):
        if time.monotonic() > deadline and not swap.ends_sessions:
            raise _sessions_remain(swap, found)
        for each in found if swap.ends_sessions else ():
            try:
                other.execute("SELECT pg_catalog.pg_terminate_backend(%s)", [each.pid])
            except psycopg.errors.InsufficientPrivilege:
                raise _sessions_remain(swap, [each]) from None
            if each.database == swap.kept.oid:
                ended.add(each.pid)
        if time.monotonic() > deadline:
            break
        time.sleep(_PAUSE)
    return len(ended)


def _sessions_remain(swap: Swap, sessions: Iterable[object]) -> SessionsRemainError:
    shown = format_list([str(each) for each in sessions], _SHOWN, "; ")
    return SessionsRemainError(f"Sessions are connected to {swap.kept.of}: {shown}.")


def _ending_sessions(other: Connection, swap: Swap) -> contextlib.AbstractContextManager[None]:
    """End the sessions that connect during a block, before the rename has locked both databases."""
    if not swap.ends_sessions:
        return contextlib.nullcontext()

    def end() -> None:
        for each in read_sessions(other, swap.oids):
            other.execute("SELECT pg_catalog.pg_terminate_backend(%s)", [each.pid])

    return repeatedly(end, _PAUSE)
