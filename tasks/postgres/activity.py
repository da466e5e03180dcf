"""List and end the other sessions of a database."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from ..errors import ServerError, TaskError
from ..system.runtime import BackgroundTask
from .connection import APPLICATION, Connection, connected, one, read_names, read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from psycopg.rows import TupleRow

    from ..config.target import Target


_HERE = "SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()"
_THIS_SESSION = "SELECT pid, backend_start FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()"
_END_BLOCKERS = """
SELECT pg_catalog.pg_terminate_backend(blocker)
  FROM (SELECT DISTINCT pg_catalog.unnest(pg_catalog.pg_blocking_pids(a.pid)) AS blocker
      FROM pg_catalog.pg_stat_activity a
         WHERE a.pid = %s AND a.backend_start = %s) each
 WHERE blocker > 0
"""
_SESSIONS = """
SELECT a.pid, a.datid AS database, coalesce(r.rolname, a.usesysid::pg_catalog.text)::pg_catalog.text AS user,
       coalesce(a.application_name, '') AS application, me.rolsuper OR NOT coalesce(r.rolsuper, false)
           AND (pg_catalog.pg_has_role(a.usesysid, 'USAGE') OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'))
           AS endable, coalesce(a.backend_type, 'client backend') = 'client backend' AS client
  FROM pg_catalog.pg_stat_activity a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid, pg_catalog.pg_roles me
 WHERE a.datid = ANY(%s::pg_catalog.oid[]) AND a.pid <> pg_catalog.pg_backend_pid() AND me.rolname = current_user
   AND a.usesysid IS NOT NULL AND coalesce(a.backend_type, '') <> 'parallel worker'
 ORDER BY 1
"""
_PATIENCE = 10.0
_EVERY = 0.05


@dataclass(frozen=True, kw_only=True)
class OtherSession:
    """A session of a database.

    :ivar database: The oid of its database.
    :ivar endable: Whether our role may end it.
    :ivar client: Whether it is that of a client, or hidden; not that of a replication or a background worker.
    """

    pid: int
    database: int
    user: str
    application: str
    endable: bool
    client: bool

    def __str__(self) -> str:
        return f"pid {self.pid}, user {self.user}, application {self.application or 'unnamed'}"


def read_sessions(connection: Connection, oids: Sequence[int]) -> tuple[OtherSession, ...]:
    """Return the sessions of databases, without our own and without autovacuum, which a rename ends itself.

    :param oids: The databases' oids.
    """
    return read_rows(connection, OtherSession, _SESSIONS, [list(oids)])


@dataclass(frozen=True)
class Ended:
    """The result of ending the other sessions of a database.

    :ivar count: The number of ended sessions.
    :ivar left: Descriptions of the sessions that the role may not end.
    """

    count: int
    left: tuple[str, ...]


def disconnect_sessions(connection: Connection) -> Ended:
    """End every other session of the database that the role may end, and wait until they have ended.

    Their open transactions are rolled back. New sessions are not prevented.

    :raises ServerError: A session has not ended after 10 seconds.
    """
    ended: set[int] = set()
    left: list[str] = []
    deadline, here = time.monotonic() + _PATIENCE, [one(connection, _HERE)[0]]
    for each in read_sessions(connection, here):
        try:
            if each.client:
                connection.execute("SELECT pg_catalog.pg_terminate_backend(%s)", [each.pid])
                ended.add(each.pid)
        except psycopg.errors.InsufficientPrivilege:
            left.append(str(each))
    while running := [each.pid for each in read_sessions(connection, here) if each.pid in ended]:
        if time.monotonic() > deadline:
            raise ServerError(
                f"The session with pid {running[0]} was terminated, but has not ended after {_PATIENCE:.0f} s.",
                state="Nothing was touched.",
                fix="Run this again when it has ended.",
            )
        time.sleep(0.05)
    return Ended(len(ended), tuple(left))


_HOLDING = """
SELECT DISTINCT a.pid, a.usename::pg_catalog.text AS user, a.application_name AS application,
       a.state <> 'active' AS idle,
       extract(epoch FROM pg_catalog.now()
                          - CASE a.state WHEN 'active' THEN a.xact_start ELSE a.state_change END)::pg_catalog.float8
       AS seconds
  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
 WHERE l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
   AND l.locktype = 'relation' AND l.granted AND l.relation >= 16384 AND a.pid <> pg_catalog.pg_backend_pid()
   AND (a.state LIKE 'idle in transaction%' OR a.xact_start < pg_catalog.now() - interval '1 second') ORDER BY 1
"""
_OURS = """
SELECT a.pid FROM pg_catalog.pg_stat_activity a
 WHERE a.datname = pg_catalog.current_database() AND a.application_name = %s AND a.pid <> pg_catalog.pg_backend_pid()
     ORDER BY 1
"""


@contextlib.contextmanager
def terminate_blockers(target: Target, connection: Connection) -> Iterator[None]:
    """During a block, end the sessions that block one of our sessions, if the role may end them.

    Connection pools reconnect at once and may take new locks before ours. Once ours waits for a lock, later requests
    queue behind it, so it is enough to end the sessions that block it.

    :param connection: The session that must not wait. It is identified by its pid and its start time, because the
        session that ends the others may reach another server, where the pid belongs to another session.
    """
    ours = one(connection, _THIS_SESSION)
    with connected(target) as other, repeatedly(lambda: _end_blockers(other, ours), _EVERY):
        yield


@contextlib.contextmanager
def repeatedly(action: Callable[[], None], pause: float) -> Iterator[None]:
    """During a block, call a function again and again in a thread, until a statement of it fails.

    :param pause: Seconds before each call.
    """
    over = threading.Event()

    def repeat() -> None:
        with contextlib.suppress(psycopg.Error):
            while not over.wait(pause):
                action()

    task = BackgroundTask(repeat)
    task.start()
    try:
        yield
    finally:
        over.set()
        task.result()


_PREPARED = """
SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database() ORDER BY prepared
"""
_MIGRATING = """
SELECT l.pid FROM pg_catalog.pg_locks l
 WHERE l.locktype = 'advisory' AND l.classid = 0 AND l.objid = %s AND l.granted
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) ORDER BY 1
"""


def _end_blockers(other: Connection, ours: TupleRow) -> None:
    """End the sessions that block ours; after another error, ours waits for the locks."""
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
        other.execute(_END_BLOCKERS, ours)


@dataclass(frozen=True)
class LockHolder:
    """A session that holds locks in a transaction that is idle, or has been active for more than a second.

    :ivar seconds: How long it has been idle, or its transaction open.
    """

    pid: int
    user: str
    application: str
    idle: bool
    seconds: float


@dataclass(frozen=True)
class Activity:
    """The other sessions of a database.

    :ivar ours: The pids of other sessions of invoke-postgres.
    :ivar prepared: The names of prepared transactions, which hold locks until they are committed or rolled back.
    :ivar migrating: The pids of sessions that hold Prisma's migration lock.
    """

    ours: tuple[int, ...]
    holding: tuple[LockHolder, ...]
    prepared: tuple[str, ...]
    migrating: tuple[int, ...]


def read_activity(connection: Connection) -> Activity:
    """Return the other sessions; an ordinary role sees few details of other roles' sessions."""
    return Activity(
        ours=tuple(int(pid) for (pid,) in connection.execute(_OURS, [APPLICATION])),
        holding=read_rows(connection, LockHolder, _HOLDING),
        prepared=read_names(connection, _PREPARED),
        migrating=tuple(int(pid) for (pid,) in connection.execute(_MIGRATING, [LOCK])),
    )


# Prisma's migration lock (schema-engine, `pg_advisory_lock(72707369)`).
LOCK = 72707369
# Sessions of our role and machine that hold the lock and began after a given time.
_LEFT = """
SELECT pg_catalog.pg_terminate_backend(a.pid)
  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.classid = 0 AND l.objid = %s AND l.granted
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
   AND a.usename = current_user
   AND a.client_addr IS NOT DISTINCT FROM (SELECT client_addr FROM pg_catalog.pg_stat_activity
                                            WHERE pid = pg_catalog.pg_backend_pid())
   AND a.pid <> pg_catalog.pg_backend_pid() AND a.backend_start >= %s::pg_catalog.timestamptz
"""


def server_time(target: Target) -> str:
    """Return the server's current time; empty if it can't be reached."""
    with contextlib.suppress(TaskError, psycopg.Error), connected(target) as connection:
        return str(one(connection, "SELECT pg_catalog.clock_timestamp()::pg_catalog.text")[0])
    return ""


def end_migration(target: Target, since: str) -> bool:
    """End the sessions of our role and machine that hold Prisma's migration lock, and wait until they have ended.

    An unfinished migration script is rolled back: Prisma sends it in one message, so it is one transaction.

    :param since: The result of :func:`server_time` before Prisma was started.
    :return: Whether there was such a session.
    """
    found = False
    deadline = time.monotonic() + _PATIENCE
    with contextlib.suppress(TaskError, psycopg.Error):
        while since and time.monotonic() < deadline:
            with connected(target) as connection:
                if not connection.execute(_LEFT, [LOCK, since]).fetchall():
                    break
            found = True
            time.sleep(0.1)
    return found
