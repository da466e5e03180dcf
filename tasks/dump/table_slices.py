"""Large tables in slices of neighbouring pages, which several sessions can read in one snapshot.

Put one behind the other, the slices are what one COPY of the table would be: the same rows, in the same order. Each is
a range of tuple identifiers, which the server reads without looking at the rest (a TID range scan, PostgreSQL 14).
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


# Bytes at the server from which on a table is worth it, and the pages of one slice (of 8 KB, as nearly everywhere).
SMALLEST = 8 << 20
SLICE = 512
# The largest ones: each is named on pg_dump's command line.
MOST = 64
_OLDEST_MAJOR = 14
# Milliseconds to wait for a table that somebody else changes, only to learn its size.
_PATIENCE = 200
# Of heap tables only: what a TID means elsewhere nobody knows. Generated columns are in no dump. Who may read only some
# columns may not read by TID. What lies below a hash partition pg_dump may load through its root, and of an extension's
# tables it has rules of its own. Where much lies out of line, single rows may be too large to be held here. And where
# the server gives up a client that does not read for some time, pg_dump must not have to wait for us.
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
# What pg_dump sets for its own COPY, and what keeps a slice from being read in another way: in parallel, out of order.
_SETTINGS = {
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
    """A table to be read in slices.

    :ivar columns: Those that a dump holds, in its order.
    :ivar pages: How many it has, as far as is known.
    """

    table: Table
    columns: tuple[str, ...]
    pages: int
    owner: str

    @property
    def header(self) -> sql.Composed:
        """The statement that the rows follow in a dump."""
        return sql.SQL("COPY {} ({}) FROM stdin;").format(self.table.identifier, self._columns)

    @property
    def slices(self) -> int:
        """How many slices there are; at least one."""
        return max(1, -(-self.pages // SLICE))

    def statements(self) -> Iterator[bytes]:
        """Give one COPY for each slice; the last has no end, so that no row is left out."""
        rows = sql.SQL("COPY (SELECT {} FROM ONLY {} WHERE ctid >= ").format(self._columns, self.table.identifier)
        begin = rows.as_bytes()
        for at in range(self.slices - 1):
            yield b"%s'(%d,0)' AND ctid < '(%d,0)') TO STDOUT" % (begin, at * SLICE, (at + 1) * SLICE)
        yield b"%s'(%d,0)') TO STDOUT" % (begin, (self.slices - 1) * SLICE)

    @property
    def _columns(self) -> sql.Composed:
        return sql.SQL(", ").join(map(sql.Identifier, self.columns))


def choose_slices(connection: Connection, server: ServerFacts, tables: Sequence[Table]) -> list[TableSlices]:
    """Choose the tables that are worth it, and leave at least one for pg_dump.

    :return: None of them where the server can't, or where somebody holds one of the tables.
    """
    plain = {table.oid: table for table in tables if table.trusted and not table.condition}
    if server.major < _OLDEST_MAJOR or server.encoding == "SQL_ASCII" or len(tables) <= 1:
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
    """Begin to read in somebody else's snapshot, and lock the tables.

    A migration that waits for pg_dump would make us wait for itself, and pg_dump, whose text waits for our rows, for
    us. So we don't wait, neither here nor while reading.

    :raises psycopg.Error: The snapshot is not to be had here, or a table not at once.
    :raises TableChangedError: A table is no longer the snapshot's.
    """
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
    for name, value in _SETTINGS.items():
        connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", [name, value])
    connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(_PATIENCE))
    tables = [each.table for each in sliced]
    lock_tables(connection, tables)
    refuse_changed(connection, tables)
    for table in tables:
        # To plan a statement, all indexes are locked, and a REINDEX would be waited for in the middle of the reading.
        connection.execute(sql.SQL("SELECT FROM ONLY {} LIMIT 0").format(table.identifier))
