"""What is wrong with a database in itself, whatever a dump says, each with the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from ..dumpformat.applied_migration import MigrationState
from ..formatting import format_list, show_name
from ..inventory.snapshot import read_history
from ..postgres.catalog_filters import NO_MEMBER, READABLE, USER_SCHEMA
from ..postgres.connection import releasing_locks
from ..postgres.tables import TRUSTED, copied_column, in_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from psycopg.rows import TupleRow

    from ..dumpformat.applied_migration import AppliedMigration
    from ..inventory.snapshot import Key
    from ..postgres.connection import Connection


_OURS = f" AND {USER_SCHEMA} AND {NO_MEMBER}"
_SHOWN = 3
# A sequence feeds a column that it belongs to (serial, identity) or whose default is its next value and no more.
_FEEDS = f"""
SELECT DISTINCT sn.nspname, s.relname, n.nspname, c.relname, a.attname, q.seqmax, c.oid
  FROM pg_catalog.pg_sequence q
  JOIN pg_catalog.pg_class s ON s.oid = q.seqrelid
  JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
  JOIN LATERAL (
       SELECT d.refobjid AS relid, d.refobjsubid AS attnum FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = s.oid AND d.deptype IN ('a', 'i')
          AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjsubid > 0
       UNION
       SELECT f.adrelid, f.adnum FROM pg_catalog.pg_depend d
         JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid
        WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
            AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
          AND d.refobjid = s.oid
          AND pg_catalog.pg_get_expr(f.adbin, f.adrelid)
              ~ '^[(]*nextval[(]''([^'']|'''')*''::regclass[)]+(::(bigint|integer|smallint))?$'
       ) x ON true
  JOIN pg_catalog.pg_class c ON c.oid = x.relid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = x.relid AND a.attnum = x.attnum
 WHERE c.relkind IN ('r', 'p') AND q.seqincrement > 0 AND NOT q.seqcycle AND a.attgenerated = ''
   AND a.atttypid IN ('pg_catalog.int2'::pg_catalog.regtype, 'pg_catalog.int4'::pg_catalog.regtype,
       'pg_catalog.int8'::pg_catalog.regtype) {_OURS}
 ORDER BY 1, 2, 3, 4, 5
"""
# The tables with rows below some, themselves included, whatever inherits from what.
_BELOW = f"""{TRUSTED}, below(root, relid) AS (
    SELECT r.oid, r.oid FROM pg_catalog.unnest(%s::pg_catalog.oid[]) AS r(oid)
    UNION
    SELECT b.root, i.inhrelid FROM pg_catalog.pg_inherits i JOIN below b ON i.inhparent = b.relid
)
SELECT b.root, n.nspname, c.relname, c.relowner IN (SELECT oid FROM trusted)
  FROM below b JOIN pg_catalog.pg_class c ON c.oid = b.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND {READABLE}
"""


@dataclass(frozen=True)
class Problem:
    """Something wrong.

    :ivar what: A sentence part, with its name; `remedy` the command that mends it.
    """

    what: str
    remedy: str


def read_problems(connection: Connection, schema: str, sequences: Mapping[Key, tuple[int, bool]]) -> Iterator[Problem]:
    """Look for what is wrong, in the snapshot that is open.

    :param schema: Where Prisma keeps its history.
    :param sequences: Where the sequences stand.
    """
    yield from _invalid_indexes(connection)
    yield from _unvalidated(connection)
    yield from _behind(connection, sequences)
    yield from _migrations(connection, schema)
    yield from _without_statistics(connection)


def _invalid_indexes(connection: Connection) -> Iterator[Problem]:
    rows = connection.execute(
        "SELECT pg_catalog.format('%I.%I', n.nspname, i.relname), i.relname ~ '_cc(new|old)[0-9]*$'"
        " FROM pg_catalog.pg_index x"
        " JOIN pg_catalog.pg_class c ON c.oid = x.indrelid JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid"
        " JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace"
        f" WHERE NOT x.indisvalid AND i.relkind = 'i' {_OURS} ORDER BY 1"
    )
    for name, left_over in rows:
        # What a REINDEX that failed has left behind is to go (PostgreSQL manual, REINDEX, Rebuilding Concurrently).
        yield Problem(f"index {name} is invalid", f"{'DROP' if left_over else 'REINDEX'} INDEX CONCURRENTLY {name};")


def _unvalidated(connection: Connection) -> Iterator[Problem]:
    rows = connection.execute(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.quote_ident(k.conname)"
        " FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        # NOT NULL is one since 18, and a constraint that is not enforced, also new there, can't be validated.
        " WHERE NOT k.convalidated AND k.contype IN ('c', 'f', 'n') AND k.conparentid = 0"
        f" AND coalesce((pg_catalog.to_jsonb(k) ->> 'conenforced')::boolean, true) {_OURS} ORDER BY 1, 2"
    )
    for table, name in rows:
        yield Problem(
            f"constraint {name} of {table} was never checked (NOT VALID)",
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};",
        )


def _behind(connection: Connection, sequences: Mapping[Key, tuple[int, bool]]) -> Iterator[Problem]:
    """Compare each sequence with the largest value that it may still reach of all columns that it feeds."""
    largest: dict[Key, tuple[int, str]] = {}
    for batch in in_batches(connection.execute(_FEEDS).fetchall()):
        values = _largest(connection, batch)
        for schema, name, table_schema, table, column, most, oid in batch:
            value = values.get((oid, column, most))
            if value is not None and value > largest.get((schema, name), (value - 1, ""))[0]:
                largest[schema, name] = value, f"{show_name((table_schema, table))}.{column}"
    for key, (value, where) in largest.items():
        last, called = sequences.get(key, (value, True))
        if last < value or (last == value and not called):
            sequence = sql.Identifier(*key).as_string()
            yield Problem(
                f"sequence {sequence} stands at {last}, behind {where}, whose largest value is {value}",
                f"SELECT pg_catalog.setval({sql.Literal(sequence).as_string()}, {value});",
            )


def _largest(connection: Connection, feeds: Sequence[TupleRow]) -> dict[tuple[int, str, int], int]:
    """Find the largest value of each column up to a limit, in its table and all tables below it."""
    wanted = list(dict.fromkeys((oid, column, most) for *_, column, most, oid in feeds))
    below: dict[int, list[tuple[sql.Identifier, bool]]] = {}
    for root, schema, name, trusted in connection.execute(_BELOW, [list({oid for oid, _, _ in wanted})]):
        below.setdefault(root, []).append((sql.Identifier(schema, name), trusted))
    found: dict[tuple[int, str, int], int] = {}
    parts = []
    for at, (oid, column, most) in enumerate(wanted):
        for table, trusted in below.get(oid, ()):
            if trusted:
                query = "SELECT {0}::int, pg_catalog.max({1})::pg_catalog.int8 FROM ONLY {2} WHERE {1} <= {3}"
                parts.append(sql.SQL(query).format(at, sql.Identifier(column), table, most))
                continue
            values = (int(value) for (value,) in copied_column(connection, table, [column]) if value is not None)
            if (value := max((value for value in values if value <= most), default=None)) is not None:
                found[wanted[at]] = max(value, found.get(wanted[at], value))
    for batch in in_batches(parts):
        with releasing_locks(connection):
            rows = connection.execute(sql.SQL(" UNION ALL ").join(batch)).fetchall()
        for at, value in rows:
            if value is not None:
                found[wanted[at]] = max(value, found.get(wanted[at], value))
    return found


def _migrations(connection: Connection, schema: str) -> Iterator[Problem]:
    for each in read_history(connection, schema) or []:
        if each.state is MigrationState.FAILED:
            yield Problem(
                f"migration {each.name} failed or has not finished",
                f"prisma migrate resolve --rolled-back {each.name}   (or --applied, once its work is done by hand)",
            )


def _without_statistics(connection: Connection) -> Iterator[Problem]:
    # An index that is built counts a table's rows (reltuples), but only ANALYZE looks at its values; it finds none
    # where it counted no rows.
    rows = connection.execute(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'r' AND c.reltuples <> 0 AND c.relnatts > 0 AND pg_catalog.pg_relation_size(c.oid) > 0"
        f" AND (n.nspname, c.relname) NOT IN (SELECT s.schemaname, s.tablename FROM pg_catalog.pg_stats s) {_OURS}"
        " ORDER BY 1"
    )
    names = [str(name) for (name,) in rows]
    if len(names) > _SHOWN:
        # After a load it is all of them, and one command mends it.
        yield Problem(f"{len(names):,} tables have no statistics ({format_list(names, _SHOWN)})", "ANALYZE;")
        return
    for name in names:
        yield Problem(f"table {name} has no statistics", f"ANALYZE {name};")


_SHOWN_MIGRATIONS = 10


@dataclass(frozen=True)
class Health:
    """Keys, indexes and history of a database.

    :ivar unvalidated: Names of foreign keys that were never checked (NOT VALID).
    :ivar invalid: Names of indexes that can't be used.
    :ivar migrations: The last ten, newest first; None without `_prisma_migrations`.
    """

    foreign_keys: int
    unvalidated: tuple[str, ...]
    indexes: int
    invalid: tuple[str, ...]
    migrations: tuple[AppliedMigration, ...] | None


def read_health(connection: Connection, schema: str) -> Health:
    """Read them, in whatever transaction is open.

    :param schema: Where Prisma keeps its history.
    """
    keys = connection.execute(
        "SELECT pg_catalog.format('%I.%I', n.nspname, k.conname), k.convalidated"
        "  FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid"
        "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE k.contype = 'f' AND k.conparentid = 0 {_OURS} ORDER BY 1"
    ).fetchall()
    indexes = connection.execute(
        "SELECT pg_catalog.format('%I.%I', n.nspname, i.relname), x.indisvalid"
        "  FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indrelid"
        "  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid"
        "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relkind IN ('r', 'p', 'm') {_OURS} ORDER BY 1"
    ).fetchall()
    history = read_history(connection, schema)
    return Health(
        foreign_keys=len(keys),
        unvalidated=tuple(str(name) for name, valid in keys if not valid),
        indexes=len(indexes),
        invalid=tuple(str(name) for name, valid in indexes if not valid),
        migrations=None if history is None else history[: -_SHOWN_MIGRATIONS - 1 : -1],
    )
