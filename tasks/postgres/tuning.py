"""What makes one large transaction faster, within what the server itself allows for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .session import Connection

# Sorts for indexes that spill to disk are the slow ones. What the server says of its memory (effective_cache_size)
# bounds it, and a limit of our own: several restores may run at once.
_SORTING = """
SELECT pg_catalog.set_config('maintenance_work_mem', wanted / 1024 || 'kB', true)
  FROM (SELECT least(pg_catalog.pg_size_bytes(pg_catalog.current_setting('effective_cache_size')) / 16, 268435456)
      AS wanted) AS t
 WHERE wanted > pg_catalog.pg_size_bytes(pg_catalog.current_setting('maintenance_work_mem'))
"""
# New indexes go through the log page by page, and lz4 halves that. Whoever replays the log must know lz4, too: the
# server itself does, of a standby or an archive's reader nobody knows. So it is left alone where there may be one.
_LOGGING = """
SELECT pg_catalog.set_config('wal_compression', 'lz4', true) FROM pg_catalog.pg_settings
 WHERE name = 'wal_compression' AND setting = 'off' AND 'lz4' = ANY (enumvals)
   AND (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
   AND pg_catalog.current_setting('archive_mode') = 'off' AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_replication)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical')
"""


def tune(connection: Connection) -> None:
    """Give the open transaction memory for sorting, and a smaller log where that harms nobody.

    Both end with the transaction. What each brought was measured (docs/performance.md).
    """
    connection.execute(_SORTING)
    connection.execute(_LOGGING)
