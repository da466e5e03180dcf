"""The other sessions of a database: ending them, where the role may."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg

from ..errors import ServerError

if TYPE_CHECKING:
    from .session import Connection

_OTHERS = """
SELECT a.pid, a.usename, a.application_name FROM pg_catalog.pg_stat_activity a
 WHERE a.datname = current_database() AND a.pid <> pg_catalog.pg_backend_pid()
   AND a.usesysid IS NOT NULL AND coalesce(a.backend_type, 'client backend') = 'client backend'
 ORDER BY 1
"""
_PATIENCE = 10.0


def disconnect(connection: Connection) -> int:
    """End every other session of the database, and wait until they are gone.

    What they had not committed is rolled back. They may come back at once: this makes way, it keeps nobody out.

    :return: How many there were.
    :raises ServerError: One of them may not be ended, or does not go.
    """
    ended = 0
    deadline = time.monotonic() + _PATIENCE
    found = connection.execute(_OTHERS).fetchall()
    mine = {pid for pid, _, _ in found}
    for pid, user, application in found:
        try:
            row = connection.execute("SELECT pg_catalog.pg_terminate_backend(%s)", [pid]).fetchone()
        except psycopg.errors.InsufficientPrivilege:
            who = f"pid {pid}, user {user}, application {application or 'unnamed'}"
            raise ServerError(
                f"A session ({who}) can't be ended: only its role, pg_signal_backend or a superuser may do that. "
                f"{ended} of {len(found)} other sessions were ended, and the database was not touched."
            ) from None
        ended += bool(row and row[0])
    while left := [pid for pid, _, _ in connection.execute(_OTHERS).fetchall() if pid in mine]:
        if time.monotonic() > deadline:
            raise ServerError(
                f"The session with pid {left[0]} was told to end, but is still there. Nothing was touched."
            )
        time.sleep(0.05)
    return ended
