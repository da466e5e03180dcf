"""The other sessions of a database: ending them, where the role may."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg

from ..errors import ServerError, TaskError
from ..system.runtime import BackgroundTask
from .connection import APPLICATION, connected, one

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..config.target import Target
    from .connection import Connection


_OTHERS = """
SELECT a.pid, a.usename, a.application_name FROM pg_catalog.pg_stat_activity a
 WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
   AND a.usesysid IS NOT NULL AND coalesce(a.backend_type, 'client backend') = 'client backend'
 ORDER BY 1
"""
_END_BLOCKERS = """
SELECT pg_catalog.pg_terminate_backend(blocker)
  FROM (SELECT DISTINCT pg_catalog.unnest(pg_catalog.pg_blocking_pids(a.pid)) AS blocker
      FROM pg_catalog.pg_stat_activity a
         WHERE a.pid = %s AND a.backend_start = %s) each
 WHERE blocker > 0
"""
_PATIENCE = 10.0
_EVERY = 0.05


@dataclass(frozen=True)
class Ended:
    """What became of the other sessions of a database.

    :ivar count: How many were ended.
    :ivar left: Those that the role may not end, as people read them.
    """

    count: int
    left: tuple[str, ...]


def disconnect_sessions(connection: Connection) -> Ended:
    """End every other session of the database that the role may end, and wait until they are gone.

    What they had not committed is rolled back. They may come back at once: this makes way, it keeps nobody out.

    :raises ServerError: One of them does not go.
    """
    ended: set[int] = set()
    left: list[str] = []
    deadline = time.monotonic() + _PATIENCE
    for pid, user, application in connection.execute(_OTHERS).fetchall():
        try:
            connection.execute("SELECT pg_catalog.pg_terminate_backend(%s)", [pid])
            ended.add(pid)
        except psycopg.errors.InsufficientPrivilege:
            left.append(f"pid {pid}, user {user}, application {application or 'unnamed'}")
    while still := [pid for pid, _, _ in connection.execute(_OTHERS).fetchall() if pid in ended]:
        if time.monotonic() > deadline:
            raise ServerError(
                f"The session with pid {still[0]} was told to end, but is still there. Nothing was touched."
            )
        time.sleep(0.05)
    return Ended(len(ended), tuple(left))


_HOLDING = """
SELECT DISTINCT a.pid, a.usename::pg_catalog.text, a.application_name, a.state <> 'active',
       extract(epoch FROM pg_catalog.now()
                          - CASE a.state WHEN 'active' THEN a.xact_start ELSE a.state_change END)::pg_catalog.float8
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
    """End whoever one of our sessions waits for, where the role may, as long as a block runs.

    Pools come back at once, and hold locks again before ours are asked for. While ours wait, newcomers stand behind
    them: ending those in front is enough.

    :param connection: The session that is not to wait. The one that ends the others may reach another server, where
        somebody else has its number, but not since the same moment.
    """
    over = threading.Event()
    began = one(
        connection, "SELECT backend_start FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()"
    )[0]
    ours = [connection.info.backend_pid, began]
    with connected(target) as other:
        task = BackgroundTask(lambda: _end_blockers(other, ours, over))
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


def _end_blockers(other: Connection, ours: list[Any], over: threading.Event) -> None:
    while not over.wait(_EVERY):
        try:
            other.execute(_END_BLOCKERS, ours)
        except psycopg.errors.InsufficientPrivilege:
            continue
        except psycopg.Error:
            # Then they are waited for, as without us.
            return


@dataclass(frozen=True)
class LockHolder:
    """A session that holds locks in an open transaction, and does nothing, or has been at work for over a second.

    :ivar seconds: Since when it is idle, or its transaction open.
    """

    pid: int
    user: str
    application: str
    idle: bool
    seconds: float


@dataclass(frozen=True)
class Activity:
    """Who else is in the database.

    :ivar ours: The pids of sessions of invoke-postgres.
    :ivar prepared: The names of prepared transactions, which hold their locks until somebody ends them.
    :ivar migrating: The pids that hold Prisma's migration lock.
    """

    ours: tuple[int, ...]
    holding: tuple[LockHolder, ...]
    prepared: tuple[str, ...]
    migrating: tuple[int, ...]


def read_activity(connection: Connection) -> Activity:
    """Ask who else is there; a plain role sees little of the sessions of others."""
    return Activity(
        ours=tuple(int(pid) for (pid,) in connection.execute(_OURS, [APPLICATION])),
        holding=tuple(
            LockHolder(
                pid=int(pid), user=str(user), application=str(application), idle=bool(idle), seconds=float(seconds)
            )
            for pid, user, application, idle, seconds in connection.execute(_HOLDING)
        ),
        prepared=_names(connection, _PREPARED),
        migrating=tuple(int(pid) for (pid,) in connection.execute(_MIGRATING, [LOCK])),
    )


def _names(
    connection: Connection, query: LiteralString, parameters: Mapping[str, object] | None = None
) -> tuple[str, ...]:
    return tuple(str(name) for (name,) in connection.execute(query, parameters))


# Prisma's migration lock (schema-engine, `pg_advisory_lock(72707369)`).
LOCK = 72707369
# Sessions of our role and machine that hold the lock and began after a moment.
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
_MIGRATION_PATIENCE = 10.0


def running_migrations(target: Target) -> str:
    """Ask the server what time it is; empty where it can't be asked."""
    with contextlib.suppress(TaskError, psycopg.Error), connected(target) as connection:
        return str(one(connection, "SELECT pg_catalog.clock_timestamp()::pg_catalog.text")[0])
    return ""


def end_migration(target: Target, since: str) -> bool:
    """End the sessions that hold Prisma's migration lock for us, and wait until they are gone.

    What one of them had begun is rolled back, as a script is sent in one piece and so is one transaction.

    :param since: What `now` said before Prisma was started.
    :return: Whether there was one.
    """
    found = False
    deadline = time.monotonic() + _MIGRATION_PATIENCE
    with contextlib.suppress(TaskError, psycopg.Error):
        while since and time.monotonic() < deadline:
            with connected(target) as connection:
                if not connection.execute(_LEFT, [LOCK, since]).fetchall():
                    break
            found = True
            time.sleep(0.1)
    return found
