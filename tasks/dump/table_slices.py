"""Divide large tables into slices of neighbouring pages, which several sessions can read in one snapshot.

Together the slices have the same rows in the same order as one COPY of the table. Each slice is a range of tuple
identifiers, so the server reads only its pages (a TID range scan, PostgreSQL 14).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import errors as pg
from psycopg import sql

from ..postgres.catalog_filters import NO_MEMBER
from ..postgres.tables import Table, lock_tables, refuse_changed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..postgres.connection import Connection, ServerFacts


# The smallest table to divide, in bytes, and the pages of a slice (usually of 8 KB).
SMALLEST = 8 << 20
SLICE = 512
# The most tables to divide, because each is an argument of pg_dump.
MOST = 64
# Milliseconds to wait for a lock on a table.
_PATIENCE = 200
# Only heap tables, because TIDs of other access methods may not be ranges of pages. Generated columns are in no dump. A
# role that may read only some columns may not read by TID. pg_dump may load partitions below a hash partition through
# their root, and it has special rules for tables of extensions. A table with large TOAST data may have rows that are
# too large to buffer. With tcp_user_timeout the server could end pg_dump's session while it waits for our rows.
_LARGE = f"""
SELECT c.oid, (pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::int)::pg_catalog.int8,
       (SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
       pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_am m ON m.oid = c.relam
 WHERE c.oid = ANY(%s) AND c.relkind = 'r' AND c.relpersistence = 'p' AND m.amname = 'heap'
   AND pg_catalog.pg_relation_size(c.oid) >= %s
   AND (c.reltoastrelid = 0 OR pg_catalog.pg_relation_size(c.reltoastrelid) <= pg_catalog.pg_relation_size(c.oid) / 4)
   AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.current_setting('tcp_user_timeout') = '0'
   AND {NO_MEMBER}
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(c.oid) a(oid)
                     JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = a.oid WHERE p.partstrat = 'h')
 ORDER BY 2 DESC, 1 LIMIT %s
"""
# pg_dump's settings for COPY, and settings that prevent other plans for a slice, such as parallel ones.
_SETTINGS = {
    "lock_timeout": str(_PATIENCE),
    "row_security": "off",
    "synchronize_seqscans": "off",
    "extra_float_digits": "3",
    "enable_tidscan": "on",
    "enable_seqscan": "off",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}


@dataclass(frozen=True)
class TableSlices:
    """A table to read in slices.

    :ivar columns: The columns in a dump, in its order.
    :ivar pages: The number of pages when it was chosen.
    """

    table: Table
    columns: tuple[str, ...]
    pages: int
    owner: str

    @property
    def header(self) -> sql.Composed:
        """The statement before the rows in a dump."""
        return sql.SQL("COPY {} ({}) FROM stdin;").format(self.table.identifier, self._columns)

    @property
    def slices(self) -> int:
        """The number of slices, at least one."""
        return max(1, -(-self.pages // SLICE))

    def statements(self) -> Iterator[bytes]:
        """Yield a COPY for each slice. The last has no upper limit, so that no row is left out."""
        rows = sql.SQL("COPY (SELECT {} FROM ONLY {} WHERE ctid >= ").format(self._columns, self.table.identifier)
        begin = rows.as_bytes()
        for at in range(self.slices - 1):
            yield b"%s'(%d,0)' AND ctid < '(%d,0)') TO STDOUT" % (begin, at * SLICE, (at + 1) * SLICE)
        yield b"%s'(%d,0)') TO STDOUT" % (begin, (self.slices - 1) * SLICE)

    @property
    def _columns(self) -> sql.Composed:
        return sql.SQL(", ").join(map(sql.Identifier, self.columns))


def choose_slices(connection: Connection, server: ServerFacts, tables: Sequence[Table]) -> list[TableSlices]:
    """Choose the tables to read in slices; leave at least one to pg_dump.

    :return: Empty if the server does not support it, or if another session has locked a table.
    """
    plain = {table.oid: table for table in tables if table.trusted and not table.condition}
    if server.encoding == "SQL_ASCII" or len(tables) <= 1:
        return []
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(_PATIENCE))
            found = connection.execute(_LARGE, [list(plain), SMALLEST, min(MOST, len(tables) - 1)]).fetchall()
    except pg.LockNotAvailable:
        return []
    return [
        TableSlices(table=plain[oid], columns=tuple(columns), pages=pages, owner=owner)
        for oid, pages, columns, owner in found
        if columns
    ]


def begin_slices(connection: Connection, snapshot: str, sliced: Sequence[TableSlices]) -> None:
    """Begin a transaction in another session's snapshot, and lock the tables.

    Waiting could deadlock: a migration waits for pg_dump, this session for the migration, and pg_dump, whose output
    waits for our rows, for this session. The server does not detect that, so each wait for a lock is limited to
    :data:`_PATIENCE`.

    :raises psycopg.Error: The snapshot does not exist here, or a table is locked.
    :raises TableChangedError: A table was rewritten after the snapshot.
    """
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
    for name, value in _SETTINGS.items():
        connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", [name, value])
    tables = [each.table for each in sliced]
    lock_tables(connection, tables)
    refuse_changed(connection, tables)
    for table in tables:
        # Planning locks all indexes. Without this, a REINDEX could block a later statement.
        connection.execute(sql.SQL("SELECT FROM ONLY {} LIMIT 0").format(table.identifier))
