"""Let a database take the place of another one: both are renamed in one transaction."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from ..errors import Effect, OperationFailedError, ServerError, TaskError
from ..formatting import format_list
from ..postgres.activity import read_sessions
from ..postgres.commit import CommitResult, Outcome, ask_outcome, commit_transaction
from ..postgres.connection import (
    Connection,
    Endpoint,
    ServerFacts,
    connected,
    one,
    read_endpoint,
    server_facts,
    system_identifier,
    translated,
)
from ..postgres.login_failure import NotConnectedError
from ..postgres.protocol import StatementStream
from ..system.runtime import BackgroundTask, Interruption, set_interrupt_message
from .scratch_database import NamedDatabase, on_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..config.target import Target


_PREPARED = """
SELECT x.gid FROM pg_catalog.pg_prepared_xacts x JOIN pg_catalog.pg_database d ON d.datname = x.database
 WHERE d.oid = ANY(%s::pg_catalog.oid[]) ORDER BY 1
"""
_OID = "SELECT oid FROM pg_catalog.pg_database WHERE datname = %s"
# Seconds to end sessions before the rename; until sessions that have just been closed are gone; and between looks.
_PATIENCE, _GRACE, _PAUSE = 0.05, 0.5, 0.005
# Milliseconds. A rename blocks new connections while it waits for a session; the server itself gives up after 5 s.
_RENAME_TIMEOUT = "2s"
_SHOWN = 3


class SessionsRemainError(ServerError):
    """Sessions of the database that has to give way remain, and were not or could not be ended.

    :ivar sessions: Descriptions of them.
    """

    sessions: tuple[str, ...] = ()


def _sessions_remain(label: str, sessions: Sequence[str]) -> SessionsRemainError:
    error = SessionsRemainError(f"Sessions are connected to {label}: {format_list(sessions, _SHOWN, '; ')}.")
    error.sessions = tuple(sessions)
    return error


@dataclass(frozen=True, kw_only=True)
class Swap:
    """A swap that is to be done.

    :ivar maintenance: Another database of the server, from which both can be renamed.
    :ivar live: The database that has to give way.
    :ivar incoming: The database that takes its name.
    :ivar kept: The name that the live database gets.
    :ivar before: Statements for the incoming database, under its present name.
    :ivar after: Statements for the live database, under the name that it gets.
    :ivar ends_sessions: Whether other sessions of both databases may be ended.
    """

    maintenance: Target
    live: NamedDatabase
    incoming: NamedDatabase
    kept: str
    before: Sequence[sql.Composed]
    after: Sequence[sql.Composed]
    ends_sessions: bool


@dataclass(frozen=True)
class Swapped:
    """A swap that is done.

    :ivar seconds: How long no session could use the database, at most.
    :ivar ended: The number of sessions that were ended.
    """

    seconds: float
    ended: int


def swap_databases(swap: Swap, state: Callable[[Outcome], str]) -> Swapped:
    """Rename both databases in one transaction, after the last session of both has ended.

    :param state: The state of the databases after an outcome, as a sentence for messages.
    :raises SessionsRemainError: Sessions remain. Nothing was changed.
    :raises TaskError: The swap failed; the message has the state.
    :raises Interruption: A signal; its `state` and `effect` are set.
    """
    with connected(swap.maintenance) as connection, connected(swap.maintenance) as other:
        stream = StatementStream(connection)
        cluster, xid = None, ""
        try:
            with translated(f"The swap failed, and {swap.live.name} was not changed", swap.maintenance):
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
    seconds = time.monotonic() - began
    _raise_failure(commit, state(commit.outcome))
    return Swapped(seconds=seconds, ended=ended)


def _raise_failure(commit: CommitResult, state: str) -> None:
    if commit.outcome is Outcome.COMMITTED:
        return
    detail = f" ({commit.detail})" if commit.detail else ""
    kind = ServerError if commit.outcome is Outcome.UNKNOWN else OperationFailedError
    raise kind(f"The swap failed while it was committed{detail}. {state}", effect=commit.outcome.effect)


def _refuse_others(connection: Connection, swap: Swap) -> None:
    for each in (swap.live, swap.incoming):
        found = connection.execute(_OID, [each.name]).fetchone()
        if found is None or int(found[0]) != each.oid:
            raise OperationFailedError(
                f"The database {each.name} was dropped or renamed meanwhile, or another one has this name now. "
                f"Nothing was changed."
            )
    if prepared := connection.execute(_PREPARED, [[swap.live.oid, swap.incoming.oid]]).fetchone():
        raise ServerError(
            f"{swap.live.name} has the prepared transaction {prepared[0]}. Nothing was changed. Commit it or roll it "
            f"back."
        )


def _rename(connection: Connection, swap: Swap) -> None:
    """Rename both databases and close the old one, in the open transaction."""
    connection.execute("SELECT pg_catalog.set_config('statement_timeout', %s, true)", [_RENAME_TIMEOUT])
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    live, kept = sql.Identifier(swap.live.name), sql.Identifier(swap.kept)
    try:
        connection.execute(rename.format(live, kept))
        connection.execute(rename.format(sql.Identifier(swap.incoming.name), live))
    except (psycopg.errors.ObjectInUse, psycopg.errors.QueryCanceled):
        raise _sessions_remain(swap.live.name, ["a session that has just connected"]) from None
    connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(kept))
    for statement in swap.after:
        connection.execute(statement)


# Databases that exist on almost every server, for a session while the configured database does not exist.
_MAINTENANCE = ("postgres", "template1")
_EXISTS = "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = %s)"
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


@contextlib.contextmanager
def connection_without_database(
    target: Target, error: NotConnectedError, *, lock_timeout: int
) -> Iterator[tuple[Connection, ServerFacts, Endpoint]]:
    """Connect to another database of the server if the configured one does not exist.

    :param error: Why no connection to the configured database was established.
    :return: The session, and the facts and the endpoint of the missing database.
    :raises NotConnectedError: It exists, or no other database can be asked: then the first error counts.
    """
    with (
        connected(_other_database(target, error), lock_timeout=lock_timeout) as connection,
        translated("Reading the server's version and settings failed, and nothing was touched", target),
    ):
        server = replace(server_facts(connection), database=target.database)
        if server.instance is not None:
            server = replace(server, instance=replace(server.instance, database_oid=0))
        yield connection, server, read_endpoint(connection, server)


def _other_database(target: Target, error: NotConnectedError) -> Target:
    """Return a database to connect to if the configured one does not exist."""
    if not target.database:
        raise error
    for name in _MAINTENANCE:
        other = on_database(target, name)
        try:
            with connected(other) as connection, translated("Looking for the database failed"):
                if one(connection, _EXISTS, [target.database])[0]:
                    raise error
                return other
        except NotConnectedError as failure:
            if failure is error:
                raise
    raise error


def _end_sessions(other: Connection, swap: Swap) -> int:
    """End the sessions of both databases, and wait a moment until they are gone.

    Clients that reconnect at once may be back before a look finds no session. The rename then locks them out, and
    :func:`_ending_sessions` ends those that were faster.

    :return: The number of ended sessions.
    :raises SessionsRemainError: Sessions may not be ended.
    """
    oids, ended = [swap.live.oid, swap.incoming.oid], set[int]()
    deadline = time.monotonic() + (_PATIENCE if swap.ends_sessions else _GRACE)
    while found := read_sessions(other, oids):
        if time.monotonic() > deadline and not swap.ends_sessions:
            raise _sessions_remain(swap.live.name, [str(each) for each in found])
        for each in found if swap.ends_sessions else ():
            try:
                other.execute("SELECT pg_catalog.pg_terminate_backend(%s)", [each.pid])
            except psycopg.errors.InsufficientPrivilege:
                raise _sessions_remain(swap.live.name, [str(each)]) from None
            ended.add(each.pid)
        if time.monotonic() > deadline:
            break
        time.sleep(_PAUSE)
    return len(ended)


@contextlib.contextmanager
def _ending_sessions(other: Connection, swap: Swap) -> Iterator[None]:
    """End the sessions that connect during a block, before the rename has locked both databases."""
    if not swap.ends_sessions:
        yield
        return
    over = threading.Event()

    def end() -> None:
        with contextlib.suppress(psycopg.Error):
            while not over.wait(_PAUSE):
                for each in read_sessions(other, [swap.live.oid, swap.incoming.oid]):
                    other.execute("SELECT pg_catalog.pg_terminate_backend(%s)", [each.pid])

    task = BackgroundTask(end)
    task.start()
    try:
        yield
    finally:
        over.set()
        task.result()
