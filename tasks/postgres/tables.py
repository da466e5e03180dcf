"""What a database holds, in pg_dump's own selection."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg import sql

from ..errors import ServerError
from .catalog_filters import MEMBER, NO_MEMBER, READABLE, USER_SCHEMA
from .connection import releasing_locks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from .connection import Connection


Item = TypeVar("Item")
# One statement counts that many tables: round trips are what thousands of tables cost.
_BATCH = 200

# The roles whose code may run with our rights: superusers, the role that logged in, and roles that it is a member of.
# Membership of a superuser proves nothing: before PostgreSQL 15 any role may grant itself to one, or to any other,
# which is then its grantor. Nor does that in PostgreSQL's own roles, which others share.
TRUSTED = """
WITH RECURSIVE ours(oid, superuser) AS (
    SELECT oid, rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user
    UNION
    SELECT r.oid, r.rolsuper
      FROM pg_catalog.pg_auth_members m JOIN ours o ON m.member = o.oid JOIN pg_catalog.pg_roles r ON r.oid = m.roleid
     WHERE NOT o.superuser AND m.grantor <> m.roleid AND r.oid >= 16384
), trusted(oid) AS (
    SELECT oid FROM ours UNION SELECT oid FROM pg_catalog.pg_roles WHERE rolsuper
)"""

# Ordinary tables, partitions and inheriting tables each by themselves; of an extension's own tables those
# that it registered, with its condition (pg_extension.extconfig), since pg_dump writes just these rows.
_TABLES = f"""{TRUSTED}
SELECT c.oid, n.nspname, c.relname, coalesce(x.condition, ''), greatest(c.reltuples, 0)::pg_catalog.int8, c.relfilenode,
       c.relowner IN (SELECT oid FROM trusted)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_depend d
         ON {MEMBER}
  LEFT JOIN LATERAL (
         SELECT e.extcondition[position] AS condition
           FROM pg_catalog.pg_extension e, pg_catalog.generate_subscripts(e.extconfig, 1) AS position
          WHERE e.extconfig[position] = c.oid) x ON true
 WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {READABLE}
   AND {USER_SCHEMA}
   AND (d.objid IS NULL OR x.condition IS NOT NULL)
 ORDER BY n.nspname, c.relname
"""


_SEQUENCES = f"""
SELECT n.nspname, c.relname, q.seqincrement
  FROM pg_catalog.pg_sequence q JOIN pg_catalog.pg_class c ON c.oid = q.seqrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND {READABLE}
   AND {USER_SCHEMA}
   AND ({NO_MEMBER}
        OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY(e.extconfig)))
 ORDER BY 1, 2
"""


_UNREADABLE = f"""
SELECT n.nspname, c.relname, c.relkind = 'r'
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'S') AND NOT {READABLE} AND {USER_SCHEMA} AND {NO_MEMBER}
 ORDER BY 1, 2
"""


_PARTITIONS = f"""
SELECT n.nspname, c.relname, tn.nspname, t.relname,
       EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(c.oid) a(oid)
                 JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = a.oid
                 JOIN pg_catalog.pg_opclass o ON o.oid = ANY(p.partclass)
                 JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod
                WHERE o.opcname = 'enum_ops' AND o.opcnamespace = 'pg_catalog'::pg_catalog.regnamespace
                  AND m.amname = 'hash')
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class t ON t.oid = pg_catalog.pg_partition_root(c.oid)
  JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
 WHERE c.relispartition AND c.relkind = 'r' AND {USER_SCHEMA}
"""


class TableChangedError(ServerError):
    """A table is no longer what a snapshot shows of it."""


@dataclass(frozen=True)
class Table:
    """A table whose rows a dump holds.

    :ivar condition: `WHERE …` of the rows that a dump takes of an extension's table; else empty.
    :ivar estimate: Rows as the planner believes.
    :ivar filenode: Its file as the snapshot sees it.
    :ivar trusted: Whether its owner's code may run with our rights. To plan a query calls the immutable functions in a
        table's indexes and statistics, so only COPY, which plans nothing, reads any other table.
    """

    oid: int
    schema: str
    name: str
    condition: str
    estimate: int
    filenode: int
    trusted: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Schema and name."""
        return self.schema, self.name

    @property
    def identifier(self) -> sql.Identifier:
        """The name as SQL."""
        return sql.Identifier(self.schema, self.name)


def read_tables(connection: Connection) -> list[Table]:
    """List the tables whose rows a dump of this database holds, as the session's snapshot sees them."""
    names = [each.name for each in fields(Table)]
    return [Table(**dict(zip(names, row, strict=True))) for row in connection.execute(_TABLES)]


def read_unreadable(connection: Connection) -> list[tuple[str, str, bool]]:
    """List the unlogged tables and sequences that a standby can't read: schema, name, and whether it is a table."""
    return [(str(schema), str(name), bool(table)) for schema, name, table in connection.execute(_UNREADABLE)]


def read_partitions(connection: Connection) -> dict[tuple[str, str], tuple[tuple[str, str], bool]]:
    """Return the partitions that hold rows, each with the partitioned table on top, and whether a reload may move rows.

    An enum's values have other hashes in another database, so pg_dump loads such partitions through that table.
    """
    rows = connection.execute(_PARTITIONS)
    return {(str(schema), str(name)): ((str(above), str(top)), bool(moves)) for schema, name, above, top, moves in rows}


def lock_tables(connection: Connection, locked: Sequence[Table]) -> None:
    """Take ACCESS SHARE on tables, in the open transaction, under its `lock_timeout`."""
    for batch in in_batches(locked):
        names = sql.SQL(", ").join(sql.SQL("ONLY {}").format(table.identifier) for table in batch)
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))


def refuse_changed(connection: Connection, locked: Iterable[Table]) -> None:
    """Refuse tables that were truncated, rewritten, renamed or replaced since the snapshot was taken.

    In an older snapshot such a table shows no rows, to us and to pg_dump alike (PostgreSQL manual, 13.6
    Caveats), so that counts agree on nothing. The catalogue's row, read by the snapshot, and
    `pg_relation_filenode`, which knows the present, then name different files. And where two tables have
    swapped their names, one's rows would be dumped under the other's definition.

    :raises TableChangedError: One was.
    """
    by_oid = {table.oid: table for table in locked}
    rows = connection.execute(
        "SELECT oid FROM ROWS FROM (pg_catalog.unnest(%s::pg_catalog.oid[]), pg_catalog.unnest(%s::pg_catalog.oid[]),"
        " pg_catalog.unnest(%s::pg_catalog.text[]), pg_catalog.unnest(%s::pg_catalog.text[]))"
        " AS t(oid, filenode, schema, name)"
        " WHERE pg_catalog.pg_relation_filenode(oid) IS DISTINCT FROM filenode"
        "    OR pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', schema, name)) IS DISTINCT FROM oid",
        [
            list(by_oid),
            [table.filenode for table in by_oid.values()],
            [table.schema for table in by_oid.values()],
            [table.name for table in by_oid.values()],
        ],
    )
    if (moved := rows.fetchone()) is not None:
        name = ".".join(by_oid[moved[0]].key)
        raise TableChangedError(f"{name} was changed (truncated, rewritten, renamed or dropped) while the dump began.")


def count_tables(connection: Connection, counted: Sequence[Table]) -> Iterator[tuple[Table, int]]:
    """Count rows, each table for itself and not its children, in the transaction that is open."""
    # pg_dump puts an extension's condition behind its COPY, too, so planning with it adds no danger.
    yield from _count_planned(connection, [table for table in counted if table.trusted or table.condition])
    yield from _count_copied(connection, [table for table in counted if not table.trusted and not table.condition])


def _count_planned(connection: Connection, counted: Sequence[Table]) -> Iterator[tuple[Table, int]]:
    for batch in in_batches(counted):
        parts: list[Any] = [
            sql.SQL("SELECT {}::int, pg_catalog.count(*) FROM ONLY {} {}").format(
                sql.Literal(position),
                table.identifier,
                # The extension's own text, which pg_dump puts behind its COPY just so.
                sql.SQL(table.condition),  # pyright: ignore[reportArgumentType]
            )
            for position, table in enumerate(batch)
        ]
        with releasing_locks(connection):
            found = connection.execute(sql.SQL(" UNION ALL ").join(parts)).fetchall()
        for position, rows in found:
            yield batch[position], rows


_NARROWEST = """
SELECT DISTINCT ON (a.attrelid) a.attrelid, a.attname
  FROM pg_catalog.pg_attribute a
 WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
 ORDER BY a.attrelid, a.atttypid >= 16384, a.attlen < 0, a.attlen, a.attnum
"""


def _count_copied(connection: Connection, counted: Sequence[Table]) -> Iterator[tuple[Table, int]]:
    rows = connection.execute(_NARROWEST, [[table.oid for table in counted]]).fetchall() if counted else []
    narrowest = {int(oid): str(name) for oid, name in rows}
    for table in counted:
        name = narrowest.get(table.oid)
        yield table, count_by_copy(connection, table.identifier, [] if name is None else [name])


def count_by_copy(connection: Connection, table: sql.Identifier, columns: Sequence[str]) -> int:
    """Count a table's rows without planning a query; for `columns` see :func:`copied`."""
    with connection.cursor().copy(_copy_statement(table, columns)) as copy:
        return sum(bytes(piece).count(b"\n") for piece in copy)


def copied_column(
    connection: Connection, table: sql.Identifier, columns: Sequence[str]
) -> Iterator[tuple[str | None, ...]]:
    """Read columns of a table, as the server writes them, without running anything that its owner made.

    COPY plans nothing and takes no view, foreign or partitioned table; only output functions are called, which are
    PostgreSQL's own but for base types, and these only a superuser can make.

    :param columns: None of them generated.
    :raises psycopg.Error: The server refuses, as for a view or under row-level security.
    """
    with connection.cursor().copy(_copy_statement(table, columns, "UTF8")) as copy:
        yield from copy.rows()


def _copy_statement(table: sql.Identifier, columns: Sequence[str], encoding: str = "SQL_ASCII") -> sql.Composed:
    """Write the COPY; SQL_ASCII takes the bytes as they are."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    listed = sql.SQL(" ({})").format(names) if columns else sql.SQL("")
    return sql.SQL("COPY {}{} TO STDOUT (ENCODING {})").format(table, listed, encoding)


def read_keys_into(
    connection: Connection, left_out: Sequence[int], filled: Sequence[int]
) -> list[tuple[str, str, str]]:
    """Find the foreign keys of some tables that refer to others: name, table, and what it refers to."""
    rows = connection.execute(
        "SELECT conname::pg_catalog.text, conrelid::pg_catalog.regclass::pg_catalog.text,"
        " confrelid::pg_catalog.regclass::pg_catalog.text FROM pg_catalog.pg_constraint"
        " WHERE contype = 'f' AND conrelid = ANY(%s) AND confrelid = ANY(%s) AND conrelid <> confrelid ORDER BY 2, 1",
        [list(filled), list(left_out)],
    )
    return [(str(name), str(table), str(referenced)) for name, table, referenced in rows]


def read_sequences(connection: Connection) -> dict[tuple[str, str], tuple[int, bool]]:
    """Read where the sequences of people stand: the last value, and whether it was used.

    `pg_sequence_last_value` tells NULL for one that was never used, so each sequence is asked itself, in the
    transaction that is open; no lock on it is kept. Of those of extensions a dump holds what they say is people's.

    :raises psycopg.Error: The role may not read one.
    """
    names = [(str(schema), str(name)) for schema, name, _ in connection.execute(_SEQUENCES)]
    found = {}
    for batch in in_batches(names):
        parts = [
            sql.SQL("SELECT {}::int, last_value, is_called FROM {}").format(sql.Literal(at), sql.Identifier(*name))
            for at, name in enumerate(batch)
        ]
        with releasing_locks(connection):
            rows = connection.execute(sql.SQL(" UNION ALL ").join(parts)).fetchall()
        for at, value, called in rows:
            found[batch[at]] = (int(value), bool(called))
    return found


def read_increments(connection: Connection) -> dict[tuple[str, str], int]:
    """Read by how much each sequence of people's moves."""
    found = connection.execute(_SEQUENCES)
    return {(str(schema), str(name)): int(increment) for schema, name, increment in found}


def in_batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Take things by the hundreds that one statement, or one savepoint, is made for."""
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


_COLUMNS = """
SELECT a.attrelid, pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY a.attname COLLATE "C")
  FROM pg_catalog.pg_attribute a
 WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped AND (%s OR a.attgenerated = '')
 GROUP BY a.attrelid
"""
# The beginning of a checksum of COPY's lines, which differs from the server's own of the same rows.
COPIED = "copy:"
_HASH_BYTES = 8


def read_checksums(
    connection: Connection, tables: Sequence[Table], by_copy: Collection[tuple[str, str]] = ()
) -> Iterator[tuple[Table, int, str | None]]:
    """Count and sum tables, each for itself and not its children; the session must be pinned.

    The server sums the rows, but for tables in whose queries functions of others could run (:attr:`Table.trusted`):
    these are summed here, from COPY's lines.

    :param by_copy: Further tables to sum here, by schema and name.
    :return: Each table with its rows and its checksum, a decimal number as text; None where rows are to be left out
        that COPY does not leave out.
    """
    copied = [table for table in tables if not table.trusted or table.key in by_copy]
    yield from _copied_checksums(connection, copied)
    summed = [table for table in tables if table not in copied]
    columns = dict(_columns(connection, summed))
    text = _in_utf8(connection.info.parameter_status("server_encoding") or "")
    for batch in in_batches(summed):
        with releasing_locks(connection):
            for table in batch:
                row = connection.execute(_query(table, columns.get(table.oid, []), text)).fetchone()
                assert row is not None  # noqa: S101 - an aggregate always gives a row
                yield table, int(row[0]), str(row[1])


def _copied_checksums(connection: Connection, tables: Sequence[Table]) -> Iterator[tuple[Table, int, str | None]]:
    # COPY names no generated column; what it is made of is summed.
    columns = dict(_columns(connection, tables, generated=False)) if tables else {}
    encoding = "SQL_ASCII" if connection.info.parameter_status("server_encoding") == "SQL_ASCII" else "UTF8"
    for table, rows in count_tables(connection, [table for table in tables if table.condition]):
        yield table, rows, None
    for table in tables:
        if not table.condition:
            names = columns.get(table.oid, [])
            rows = total = 0
            # A list of columns may not be empty; the rows of a table without any are empty lines.
            with connection.cursor().copy(_copy_statement(table.identifier, names, encoding)) as copy:
                for line in copy:
                    rows += 1
                    total += int.from_bytes(hashlib.blake2b(line, digest_size=_HASH_BYTES).digest(), "big")
            yield table, rows, f"{COPIED}{total}"


def _columns(
    connection: Connection, tables: Iterable[Table], *, generated: bool = True
) -> Iterator[tuple[int, list[str]]]:
    for oid, names in connection.execute(_COLUMNS, [[table.oid for table in tables], generated]):
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
