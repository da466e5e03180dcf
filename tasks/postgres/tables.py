"""The tables and sequences that pg_dump dumps: list, count and sum them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg import sql

from ..errors import ServerError
from .catalog_filters import NO_MEMBER, READABLE, USER_SCHEMA
from .connection import Connection, one, read_rows, releasing_locks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence


Item = TypeVar("Item")
# The number of tables that one statement counts; with thousands of tables, round trips take most of the time.
_BATCH = 200

# The roles whose code may run with our privileges: superusers, the role that logged in, and roles that it is a member
# of. A superuser's memberships do not count: before PostgreSQL 15 any role may grant itself to a superuser, or to any
# other role, and is then the grantor. Memberships in PostgreSQL's own roles do not count, because others share them.
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

# Ordinary tables, partitions and inheriting tables, each without its children. Of an extension's tables those that it
# registered, with its condition (pg_extension.extconfig), because pg_dump writes exactly these rows.
_TABLES = f"""{TRUSTED}
SELECT c.oid, n.nspname AS schema, c.relname AS name, coalesce(x.condition, '') AS condition,
       greatest(c.reltuples, 0)::pg_catalog.int8 AS estimate, c.relfilenode AS filenode,
       c.relowner IN (SELECT oid FROM trusted) AS trusted
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN LATERAL (
         SELECT e.extcondition[position] AS condition
           FROM pg_catalog.pg_extension e, pg_catalog.generate_subscripts(e.extconfig, 1) AS position
          WHERE e.extconfig[position] = c.oid) x ON true
 WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {READABLE}
   AND {USER_SCHEMA}
   AND ({NO_MEMBER} OR x.condition IS NOT NULL)
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
    """A table was changed after the snapshot was taken."""


@dataclass(frozen=True)
class Table:
    """A table whose rows are in a dump.

    :ivar condition: `WHERE …` of the rows that a dump contains of an extension's table; else empty.
    :ivar estimate: The planner's estimate of its rows.
    :ivar filenode: Its file in the snapshot.
    :ivar trusted: Whether its owner's code may run with our privileges. The planner calls the immutable functions in a
        table's indexes and statistics, so any other table is read only by COPY, which plans nothing.
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
        """Return schema and name."""
        return self.schema, self.name

    @property
    def identifier(self) -> sql.Identifier:
        """Return the name as SQL."""
        return sql.Identifier(self.schema, self.name)


def read_tables(connection: Connection) -> list[Table]:
    """Return the tables whose rows a dump of this database contains, in the session's snapshot."""
    return list(read_rows(connection, Table, _TABLES))


def read_unreadable(connection: Connection) -> list[tuple[str, str, bool]]:
    """Return the unlogged tables and sequences that a standby can't read: schema, name, and whether it is a table."""
    return [(str(schema), str(name), bool(table)) for schema, name, table in connection.execute(_UNREADABLE)]


def read_partitions(connection: Connection) -> dict[tuple[str, str], tuple[tuple[str, str], bool]]:
    """Return the leaf partitions, each with its topmost partitioned table and whether a reload may move rows.

    The hashes of enum values differ between databases, so pg_dump loads such partitions through the topmost table.
    """
    rows = connection.execute(_PARTITIONS)
    return {(str(schema), str(name)): ((str(above), str(top)), bool(moves)) for schema, name, above, top, moves in rows}


def lock_tables(connection: Connection, locked: Sequence[Table]) -> None:
    """Lock tables in ACCESS SHARE mode, in the open transaction, with its `lock_timeout`."""
    for batch in in_batches(locked):
        names = sql.SQL(", ").join(sql.SQL("ONLY {}").format(table.identifier) for table in batch)
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))


def refuse_changed(connection: Connection, locked: Iterable[Table]) -> None:
    """Raise if a table was truncated, rewritten, renamed or replaced after the snapshot was taken.

    Such a table has no rows in the older snapshot, for us and for pg_dump (PostgreSQL manual, 13.6 Caveats), so equal
    counts would prove nothing. The snapshot's row in the catalogue and `pg_relation_filenode`, which returns the
    current file, then differ. If two tables swap their names, the rows of one would be dumped with the definition of
    the other.

    :raises TableChangedError: A table was changed.
    """
    tables = [(table.oid, table.filenode, table.schema, table.name) for table in locked]
    changed = connection.execute(
        "SELECT schema, name FROM ROWS FROM (pg_catalog.unnest(%s::pg_catalog.oid[]),"
        " pg_catalog.unnest(%s::pg_catalog.oid[]), pg_catalog.unnest(%s::pg_catalog.text[]),"
        " pg_catalog.unnest(%s::pg_catalog.text[])) AS t(oid, filenode, schema, name)"
        " WHERE pg_catalog.pg_relation_filenode(oid) IS DISTINCT FROM filenode"
        "    OR pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', schema, name)) IS DISTINCT FROM oid",
        [[each[column] for each in tables] for column in range(4)],
    ).fetchone()
    if changed is not None:
        raise TableChangedError(
            f"{'.'.join(changed)} was changed (truncated, rewritten, renamed or dropped) while the dump was starting."
        )


def count_tables(connection: Connection, counted: Sequence[Table]) -> Iterator[tuple[Table, int]]:
    """Count the rows of each table, without its children, in the open transaction."""
    # COPY plans no query. pg_dump plans one with an extension's condition, too, so planning it here adds no risk.
    yield from _count_planned(connection, [table for table in counted if table.trusted or table.condition])
    yield from _count_copied(connection, [table for table in counted if not table.trusted and not table.condition])


def _count_planned(connection: Connection, counted: Sequence[Table]) -> Iterator[tuple[Table, int]]:
    parts: list[Any] = [
        sql.SQL("SELECT {}::int, pg_catalog.count(*) FROM ONLY {} {}").format(
            sql.Literal(position),
            table.identifier,
            # The extension's text, which pg_dump adds to its query unchanged, too.
            sql.SQL(table.condition),  # pyright: ignore[reportArgumentType]
        )
        for position, table in enumerate(counted)
    ]
    for position, rows in _read_batched(connection, parts):
        yield counted[position], rows


def _read_batched(connection: Connection, queries: Sequence[sql.Composed]) -> Iterator[tuple[Any, ...]]:
    """Run queries of one row, many in one statement, in the open transaction, and release their locks."""
    for batch in in_batches(queries):
        with releasing_locks(connection):
            rows = connection.execute(sql.SQL(" UNION ALL ").join(batch)).fetchall()
        yield from rows


_NARROWEST = """
SELECT DISTINCT ON (a.attrelid) a.attrelid, a.attname
  FROM pg_catalog.pg_attribute a
 WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
 ORDER BY a.attrelid, a.atttypid >= 16384, a.attlen < 0, a.attlen, a.attnum
"""


def _count_copied(connection: Connection, counted: Sequence[Table]) -> Iterator[tuple[Table, int]]:
    rows = connection.execute(_NARROWEST, [[table.oid for table in counted]]).fetchall() if counted else []
    narrowest = {int(oid): [str(name)] for oid, name in rows}
    for table in counted:
        with connection.cursor().copy(_copy_statement(table.identifier, narrowest.get(table.oid, []))) as copy:
            lines = sum(bytes(piece).count(b"\n") for piece in copy)
        yield table, lines


def copied_column(
    connection: Connection, table: sql.Identifier, columns: Sequence[str]
) -> Iterator[tuple[str | None, ...]]:
    """Yield the values of columns as text, without running code of the table's owner.

    COPY plans nothing and refuses views, foreign and partitioned tables. It calls only output functions; those that are
    not PostgreSQL's own belong to base types, which only a superuser can create.

    :param columns: Columns that are not generated.
    :raises psycopg.Error: The server refuses, for example for a view or with row-level security.
    """
    with connection.cursor().copy(_copy_statement(table, columns, "UTF8")) as copy:
        yield from copy.rows()


def _copy_statement(table: sql.Identifier, columns: Sequence[str], encoding: str = "SQL_ASCII") -> sql.Composed:
    """Return the COPY statement; with SQL_ASCII the server does not convert the bytes."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    # A list of columns may not be empty; a table without columns has empty lines as rows.
    listed = sql.SQL(" ({})").format(names) if columns else sql.SQL("")
    return sql.SQL("COPY {}{} TO STDOUT (ENCODING {})").format(table, listed, encoding)


def read_keys_into(
    connection: Connection, left_out: Sequence[int], filled: Sequence[int]
) -> list[tuple[str, str, str]]:
    """Return the foreign keys from tables in `filled` to tables in `left_out`: name, table, referenced table."""
    rows = connection.execute(
        "SELECT conname::pg_catalog.text, conrelid::pg_catalog.regclass::pg_catalog.text,"
        " confrelid::pg_catalog.regclass::pg_catalog.text FROM pg_catalog.pg_constraint"
        " WHERE contype = 'f' AND conrelid = ANY(%s) AND confrelid = ANY(%s) AND conrelid <> confrelid ORDER BY 2, 1",
        [list(filled), list(left_out)],
    )
    return [(str(name), str(table), str(referenced)) for name, table, referenced in rows]


def read_sequences(connection: Connection) -> dict[tuple[str, str], tuple[int, bool]]:
    """Return the last value of each sequence in a dump, and whether it was used.

    `pg_sequence_last_value` returns NULL for a sequence that was never used, so each sequence is read, in the open
    transaction; no lock is kept. Sequences of extensions are included if the extension registers them for dumps.

    :raises psycopg.Error: The role may not read a sequence.
    """
    names = [(str(schema), str(name)) for schema, name, _ in connection.execute(_SEQUENCES)]
    parts = [
        sql.SQL("SELECT {}::int, last_value, is_called FROM {}").format(sql.Literal(at), sql.Identifier(*name))
        for at, name in enumerate(names)
    ]
    return {names[at]: (int(value), bool(called)) for at, value, called in _read_batched(connection, parts)}


def read_increments(connection: Connection) -> dict[tuple[str, str], int]:
    """Return the increment of each sequence in a dump."""
    return {(str(schema), str(name)): int(by) for schema, name, by in connection.execute(_SEQUENCES)}


def in_batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield the items in batches of 200, for one statement or one savepoint each."""
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


_COLUMNS = """
SELECT a.attrelid, pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY a.attname COLLATE "C")
  FROM pg_catalog.pg_attribute a
 WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped AND (%s OR a.attgenerated = '')
 GROUP BY a.attrelid
"""
# The prefix of a checksum of COPY's lines, which differs from the server's checksum of the same rows.
COPIED = "copy:"
_HASH_BYTES = 8


def read_checksums(
    connection: Connection, tables: Sequence[Table], by_copy: Collection[tuple[str, str]] = ()
) -> Iterator[tuple[Table, int, str | None]]:
    """Return the row count and the checksum of each table, without its children; the session must be pinned.

    The server computes the checksum, except for tables whose queries could run functions of other roles
    (:attr:`Table.trusted`): theirs are computed here, from COPY's lines.

    :param by_copy: Further tables, by schema and name, whose checksums are computed here.
    :return: Each table with its row count and its checksum, a decimal number as text. The checksum is None if it is
        computed here and the table has a condition, which COPY can't apply.
    """
    copied = [table for table in tables if not table.trusted or table.key in by_copy]
    yield from _copied_checksums(connection, copied)
    summed = [table for table in tables if table not in copied]
    columns = _columns(connection, summed)
    text = _in_utf8(connection.info.parameter_status("server_encoding") or "")
    for batch in in_batches(summed):
        with releasing_locks(connection):
            for table in batch:
                rows, total = one(connection, _query(table, columns.get(table.oid, []), text))
                yield table, int(rows), str(total)


def _copied_checksums(connection: Connection, tables: Sequence[Table]) -> Iterator[tuple[Table, int, str | None]]:
    # COPY can't list generated columns; the columns that they are computed from are included.
    columns = _columns(connection, tables, generated=False) if tables else {}
    for table, rows in count_tables(connection, [table for table in tables if table.condition]):
        yield table, rows, None
    for table in tables:
        if not table.condition:
            rows, total = sum_lines(connection, table.identifier, columns.get(table.oid, []))
            yield table, rows, f"{COPIED}{total}"


def sum_lines(connection: Connection, table: sql.Identifier, columns: Sequence[str] = ()) -> tuple[int, int]:
    """Return the number of a table's rows, and a checksum of COPY's lines that does not depend on their order.

    :param columns: As for :func:`copied_column`; without any all that are not generated.
    """
    rows = total = 0
    encoding = "SQL_ASCII" if connection.info.parameter_status("server_encoding") == "SQL_ASCII" else "UTF8"
    with connection.cursor().copy(_copy_statement(table, columns, encoding)) as copy:
        for line in copy:
            rows += 1
            total += int.from_bytes(hashlib.blake2b(line, digest_size=_HASH_BYTES).digest(), "big")
    return rows, total


def _columns(connection: Connection, tables: Iterable[Table], *, generated: bool = True) -> dict[int, list[str]]:
    return dict(connection.execute(_COLUMNS, [[table.oid for table in tables], generated]).fetchall())


def _in_utf8(encoding: str) -> sql.SQL:
    """Return the expression for a row's text in UTF-8, so that its checksum is the same in any database encoding.

    A single-byte encoding accepts the bytes of UTF-8; a multi-byte encoding (EUC) does not.
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
        # The extension's text, which pg_dump adds to its query unchanged, too.
        condition=sql.SQL(table.condition),  # pyright: ignore[reportArgumentType]
    )
