"""Tune the session of a load: memory for sorting, WAL compression, commits (docs/performance.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..postgres.connection import Connection


# Sorts for indexes are slow if they spill to disk. The limits are a part of effective_cache_size, and 256 MB because
# several restores may run at once.
_SORTING = """
SELECT pg_catalog.set_config('maintenance_work_mem', size / 1024 || 'kB', %s)
  FROM (SELECT least(pg_catalog.pg_size_bytes(pg_catalog.current_setting('effective_cache_size')) / 16, 268435456)
      AS size) AS t
 WHERE size > pg_catalog.pg_size_bytes(pg_catalog.current_setting('maintenance_work_mem'))
"""
# New indexes are written to the WAL page by page, and lz4 halves them. A standby or a reader of an archive may not know
# lz4, so the setting is not changed if there may be one.
_LOGGING = """
SELECT pg_catalog.set_config('wal_compression', 'lz4', %s) FROM pg_catalog.pg_settings
 WHERE name = 'wal_compression' AND setting = 'off' AND 'lz4' = ANY (enumvals)
   AND (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
   AND pg_catalog.current_setting('archive_mode') = 'off' AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_replication)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical')
"""
# With many jobs, the last large indexes are built while most sessions have nothing to do.
_BUILDING = """
SELECT pg_catalog.set_config('max_parallel_maintenance_workers', %(jobs)s::pg_catalog.text, false)
 WHERE %(jobs)s > pg_catalog.current_setting('max_parallel_maintenance_workers')::pg_catalog.int4
   AND pg_catalog.current_setting('max_parallel_maintenance_workers') <> '0'
"""


def tune_transaction(connection: Connection) -> None:
    """Set more memory for sorting and WAL compression, for the open transaction only."""
    connection.execute(_SORTING, [True])
    connection.execute(_LOGGING, [True])


def tune_private_session(connection: Connection, jobs: int) -> None:
    """Set the same for a session of a private database, which also need not wait for the disk at each commit.

    :param jobs: The number of sessions; so many processes may help to build an index.
    """
    connection.execute(_SORTING, [False])
    connection.execute(_LOGGING, [False])
    connection.execute("SELECT pg_catalog.set_config('synchronous_commit', 'off', false)")
    connection.execute(_BUILDING, {"jobs": jobs})
