"""What a database holds, in pg_dump's own selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg import sql

from ..errors import ServerError
from .session import locks_let_go

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .session import Connection

Item = TypeVar("Item")
# One statement counts that many tables: round trips are what thousands of tables cost.
_BATCH = 200

# Ordinary tables, partitions and inheriting tables each by themselves; of an extension's own tables those
# that it registered, with its condition (pg_extension.extconfig), since pg_dump writes just these rows.
_TABLES = """
SELECT c.oid, n.nspname, c.relname, coalesce(x.condition, ''), greatest(c.reltuples, 0)::int8, c.relfilenode
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_depend d
         ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
  LEFT JOIN LATERAL (
         SELECT e.extcondition[position] AS condition
           FROM pg_catalog.pg_extension e, generate_subscripts(e.extconfig, 1) AS position
          WHERE e.extconfig[position] = c.oid) x ON true
 WHERE c.relkind = 'r' AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND (d.objid IS NULL OR x.condition IS NOT NULL)
 ORDER BY n.nspname, c.relname
"""


_SEQUENCES = """
SELECT n.nspname, c.relname, q.seqincrement
  FROM pg_catalog.pg_sequence q JOIN pg_catalog.pg_class c ON c.oid = q.seqrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'S' AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND (NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                     WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
        OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY(e.extconfig)))
 ORDER BY 1, 2
"""


class MovedError(ServerError):
    """A table is no longer what a snapshot shows of it."""


@dataclass(frozen=True)
class Table:
    """A table whose rows a dump holds.

    :ivar condition: `WHERE …` of the rows that a dump takes of an extension's table; else empty.
    :ivar estimate: Rows as the planner believes.
    :ivar filenode: Its file as the snapshot sees it.
    """

    oid: int
    schema: str
    name: str
    condition: str
    estimate: int
    filenode: int

    @property
    def key(self) -> tuple[str, str]:
        """Schema and name."""
        return self.schema, self.name

    @property
    def identifier(self) -> sql.Identifier:
        """The name as SQL."""
        return sql.Identifier(self.schema, self.name)


def tables(connection: Connection) -> list[Table]:
    """List the tables whose rows a dump of this database holds, as the session's snapshot sees them."""
    return [Table(*row) for row in connection.execute(_TABLES)]


def lock(connection: Connection, locked: Sequence[Table]) -> None:
    """Take ACCESS SHARE on tables, in the open transaction, under its `lock_timeout`."""
    for batch in batches(locked):
        names = sql.SQL(", ").join(sql.SQL("ONLY {}").format(table.identifier) for table in batch)
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))


def refuse_moved(connection: Connection, locked: Iterable[Table]) -> None:
    """Refuse tables that were truncated, rewritten, renamed or replaced since the snapshot was taken.

    In an older snapshot such a table shows no rows, to us and to pg_dump alike (PostgreSQL manual, 13.6
    Caveats), so that counts agree on nothing. The catalogue's row, read by the snapshot, and
    `pg_relation_filenode`, which knows the present, then name different files. And where two tables have
    swapped their names, one's rows would be dumped under the other's definition.

    :raises MovedError: One was.
    """
    by_oid = {table.oid: table for table in locked}
    rows = connection.execute(
        "SELECT oid FROM unnest(%s::oid[], %s::oid[], %s::text[], %s::text[]) AS t(oid, filenode, schema, name)"
        " WHERE pg_relation_filenode(oid) IS DISTINCT FROM filenode"
        "    OR to_regclass(format('%%I.%%I', schema, name)) IS DISTINCT FROM oid",
        [
            list(by_oid),
            [table.filenode for table in by_oid.values()],
            [table.schema for table in by_oid.values()],
            [table.name for table in by_oid.values()],
        ],
    )
    if (moved := rows.fetchone()) is not None:
        name = ".".join(by_oid[moved[0]].key)
        raise MovedError(f"{name} was changed (truncated, rewritten, renamed or dropped) while the dump began.")


def count(connection: Connection, counted: Sequence[Table]) -> Iterator[tuple[Table, int]]:
    """Count rows, each table for itself and not its children, in the transaction that is open."""
    for batch in batches(counted):
        parts: list[Any] = [
            sql.SQL("SELECT {}::int, count(*) FROM ONLY {} {}").format(
                sql.Literal(position),
                table.identifier,
                # The extension's own text, which pg_dump puts behind its COPY just so.
                sql.SQL(table.condition),  # pyright: ignore[reportArgumentType]
            )
            for position, table in enumerate(batch)
        ]
        with locks_let_go(connection):
            found = connection.execute(sql.SQL(" UNION ALL ").join(parts)).fetchall()
        for position, rows in found:
            yield batch[position], rows


def keys_into(connection: Connection, left_out: Sequence[int], filled: Sequence[int]) -> list[tuple[str, str, str]]:
    """Find the foreign keys of some tables that refer to others: name, table, and what it refers to."""
    rows = connection.execute(
        "SELECT conname::text, conrelid::regclass::text, confrelid::regclass::text FROM pg_catalog.pg_constraint"
        " WHERE contype = 'f' AND conrelid = ANY(%s) AND confrelid = ANY(%s) AND conrelid <> confrelid ORDER BY 2, 1",
        [list(filled), list(left_out)],
    )
    return [(str(name), str(table), str(referenced)) for name, table, referenced in rows]


def sequences(connection: Connection) -> dict[tuple[str, str], tuple[int, bool]]:
    """Read where the sequences of people stand: the last value, and whether it was used.

    `pg_sequence_last_value` tells NULL for one that was never used, so each sequence is asked itself, in the
    transaction that is open; no lock on it is kept. Of those of extensions a dump holds what they say is people's.

    :raises psycopg.Error: The role may not read one.
    """
    names = [(str(schema), str(name)) for schema, name, _ in connection.execute(_SEQUENCES)]
    found = {}
    for batch in batches(names):
        parts = [
            sql.SQL("SELECT {}::int, last_value, is_called FROM {}").format(sql.Literal(at), sql.Identifier(*name))
            for at, name in enumerate(batch)
        ]
        with locks_let_go(connection):
            rows = connection.execute(sql.SQL(" UNION ALL ").join(parts)).fetchall()
        for at, value, called in rows:
            found[batch[at]] = (int(value), bool(called))
    return found


def increments(connection: Connection) -> dict[tuple[str, str], int]:
    """Read by how much each sequence of people's moves."""
    found = connection.execute(_SEQUENCES)
    return {(str(schema), str(name)): int(increment) for schema, name, increment in found}


def batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Take things by the hundreds that one statement, or one savepoint, is made for."""
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
