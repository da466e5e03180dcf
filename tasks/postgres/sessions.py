"""The other sessions of a database: ending them, where the role may."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from ..errors import ServerError
from .session import connected, one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .session import Connection
    from .target import Target

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


def disconnect(connection: Connection) -> Ended:
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


@contextlib.contextmanager
def making_way(target: Target, connection: Connection) -> Iterator[None]:
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
        thread = threading.Thread(target=_end_blockers, args=(other, ours, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _end_blockers(other: Connection, ours: list[Any], over: threading.Event) -> None:
    while not over.wait(_EVERY):
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            try:
                other.execute(_END_BLOCKERS, ours)
            except psycopg.OperationalError:
                # Then they are waited for, as without us.
                return
