"""Describe the sessions that hold locks in a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import TupleRow


_HOLDERS = """
SELECT l.pid, a.usename, a.application_name, a.state,
       pg_catalog.date_trunc('second', pg_catalog.now() - coalesce(a.xact_start, a.query_start))::pg_catalog.text,
       pg_catalog.min(l.relation::pg_catalog.regclass::pg_catalog.text) FILTER (WHERE l.relation >= 16384),
       -- A prepared transaction has no session, and exists until it is committed or rolled back.
       CASE WHEN l.pid IS NULL THEN (SELECT pg_catalog.string_agg(p.gid, ', ') FROM pg_catalog.pg_prepared_xacts p
                                      WHERE p.database = pg_catalog.current_database()) END
  FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a USING (pid)
 WHERE l.granted AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() AND a.application_name IS DISTINCT
     FROM 'pg_dump'
   -- Our own session, before it rolls back.
   AND (a.application_name = 'invoke-postgres' AND a.state = 'idle in transaction (aborted)') IS NOT TRUE
   AND (l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
        AND ((l.locktype = 'relation' AND l.relation >= 16384) OR l.locktype = 'object')
        AND (l.mode = 'AccessExclusiveLock' OR NOT %(reading)s)
     -- ALTER FUNCTION locks only a row of the catalogue; others wait for its transaction.
     OR NOT %(reading)s AND l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock'
        AND a.datname = pg_catalog.current_database())
 GROUP BY 1, 2, 3, 4, 5 ORDER BY pg_catalog.bool_or(l.mode = 'AccessExclusiveLock') DESC, 5 DESC NULLS LAST, 1 LIMIT 3
"""


def describe_lock_holders(connection: psycopg.Connection[TupleRow], *, reading: bool = False) -> str:
    """Return the first three sessions that hold locks in this database, ACCESS EXCLUSIVE first; empty without any.

    :param reading: Include only locks that block a reader.
    """
    return "; ".join(_holder(*row) for row in connection.execute(_HOLDERS, {"reading": reading}))


def _holder(
    pid: int | None, user: str, application: str, state: str | None, age: str, table: str | None, prepared: str | None
) -> str:
    held = f", holds {table}" if table else ""
    if pid is None:
        return f"a prepared transaction ({prepared or ''}){held}"
    # The state is visible only to the session's role, to pg_read_all_stats and to superusers.
    since = f", {state} for {age}" if state else ""
    return f"pid {pid}, user {user}, application {application or 'unnamed'}{since}{held}"
