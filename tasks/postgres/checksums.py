"""A checksum of a table's content, computed by the server: whatever the order of rows and columns.

The sum of `hashtextextended` over each row's text, columns sorted by name, with everything pinned that the text
depends on (:data:`tasks.postgres.objects.PINNED`). It is the same on PostgreSQL 14 to 18 over 48 types, and in
databases of all encodings but those of East Asia.

How strong it is: 64 bits a row, added up without overflow. Any change of one value, NULL for empty, columns
swapped, a row lost or duplicated changes it, but for one case in 2⁶⁴. It is no defence against somebody who
forges rows on purpose; for that, the dump's own sha256 is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from . import facts
from .session import locks_let_go

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .facts import Table
    from .session import Connection

_COLUMNS = """
SELECT a.attrelid, pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY a.attname COLLATE "C")
  FROM pg_catalog.pg_attribute a
 WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped
 GROUP BY a.attrelid
"""


def read(connection: Connection, tables: Sequence[Table]) -> Iterator[tuple[Table, int, str | None]]:
    """Count and sum tables, each for itself and not its children; the session must be pinned.

    :return: Each table with its rows and its checksum, a decimal number as text; None where its owner's functions
        could run meanwhile (:attr:`Table.trusted`).
    """
    for table, rows in facts.count(connection, [table for table in tables if not table.trusted]):
        yield table, rows, None
    summed = [table for table in tables if table.trusted]
    columns = dict(_columns(connection, summed))
    text = _in_utf8(connection.info.parameter_status("server_encoding") or "")
    for batch in facts.batches(summed):
        with locks_let_go(connection):
            for table in batch:
                row = connection.execute(_query(table, columns.get(table.oid, []), text)).fetchone()
                assert row is not None  # noqa: S101 - an aggregate always gives a row
                yield table, int(row[0]), str(row[1])


def _columns(connection: Connection, tables: Iterable[Table]) -> Iterator[tuple[int, list[str]]]:
    for oid, names in connection.execute(_COLUMNS, [[table.oid for table in tables]]):
        yield int(oid), [str(name) for name in names]


def _in_utf8(encoding: str) -> sql.SQL:
    """Give the expression for a row's text in UTF-8, so that the sum is the same in a database of another encoding.

    Where a byte is a character, a text can hold the bytes of another encoding; where several are, it can't.
    """
    if encoding in {"UTF8", "SQL_ASCII", "MULE_INTERNAL"} or encoding.startswith("EUC_"):
        return sql.SQL("{row}::pg_catalog.text")
    return sql.SQL("pg_catalog.convert_from(pg_catalog.convert_to({row}::pg_catalog.text, 'UTF8'), 'SQL_ASCII')")


def _query(table: Table, columns: Sequence[str], text: sql.SQL) -> sql.Composed:
    row = sql.SQL("ROW({})").format(sql.SQL(", ").join(sql.Identifier("t", name) for name in columns))
    return sql.SQL(
        "SELECT pg_catalog.count(*),"
        ' coalesce(pg_catalog.sum(pg_catalog.hashtextextended({text} COLLATE "C", 0)), 0)::pg_catalog.text'
        " FROM ONLY {table} AS t {condition}"
    ).format(
        text=text.format(row=row),
        table=table.identifier,
        # The extension's own text, which pg_dump puts behind its COPY just so.
        condition=sql.SQL(table.condition),  # pyright: ignore[reportArgumentType]
    )
