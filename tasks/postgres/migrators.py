"""What the server still does for a Prisma that has gone: a migration goes on there, and may even be committed."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import psycopg

from ..errors import TaskError
from .session import connected, one

if TYPE_CHECKING:
    from .target import Target

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
_PATIENCE = 10.0


def now(target: Target) -> str:
    """Ask the server what time it is; empty where it can't be asked."""
    with contextlib.suppress(TaskError, psycopg.Error), connected(target) as connection:
        return str(one(connection, "SELECT pg_catalog.clock_timestamp()::pg_catalog.text")[0])
    return ""


def end(target: Target, since: str) -> bool:
    """End the sessions that hold Prisma's migration lock for us, and wait until they are gone.

    What one of them had begun is rolled back, as a script is sent in one piece and so is one transaction.

    :param since: What `now` said before Prisma was started.
    :return: Whether there was one.
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
