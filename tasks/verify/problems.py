"""Detect problems in a database, each with the command that fixes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from ..dumpformat.applied_migration import AppliedMigration, MigrationState, sort_migrations
from ..formatting import format_list, show_name
from ..inventory.snapshot import Key, read_history
from ..postgres.catalog_filters import NO_MEMBER, READABLE, USER_SCHEMA
from ..postgres.connection import Connection, read_names, read_rows, releasing_locks
from ..postgres.tables import TRUSTED, copied_column, in_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from psycopg.rows import TupleRow


_OURS = f" AND {USER_SCHEMA} AND {NO_MEMBER}"
_SHOWN = 3
# A sequence feeds a column that owns it (serial, identity) and a column whose default is exactly its nextval().
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
# Some tables and all that inherit from them, as far as they store rows.
_BELOW = f"""{TRUSTED}, below(root, relid) AS (
    SELECT r.oid, r.oid FROM pg_catalog.unnest(%s::pg_catalog.oid[]) AS r(oid)
    UNION
    SELECT b.root, i.inhrelid FROM pg_catalog.pg_inherits i JOIN below b ON i.inhparent = b.relid
)
SELECT b.root, n.nspname, c.relname, c.relowner IN (SELECT oid FROM trusted)
  FROM below b JOIN pg_catalog.pg_class c ON c.oid = b.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND {READABLE}
"""


_SHOWN_MIGRATIONS = 10


@dataclass(frozen=True)
class Problem:
    """A problem of a database.

    :ivar what: The problem, as a sentence without its period.
    :ivar remedy: The command that fixes it.
    """

    what: str
    remedy: str


@dataclass(frozen=True)
class Constraint:
    """A foreign key, or another constraint that was never checked.

    :ivar table: Schema and name, quoted.
    :ivar name: Quoted.
    :ivar qualified: Schema and name of the constraint, quoted.
    :ivar enforced: False for NOT ENFORCED, new in 18, which can't be validated.
    """

    table: str
    name: str
    qualified: str
    foreign_key: bool
    validated: bool
    enforced: bool

    @property
    def problem(self) -> Problem | None:
        """Return its problem; None if there is none."""
        if self.validated or not self.enforced:
            return None
        return Problem(
            f"constraint {self.name} of {self.table} was never checked (NOT VALID). First correct rows that violate it",
            f"ALTER TABLE {self.table} VALIDATE CONSTRAINT {self.name};",
        )


@dataclass(frozen=True)
class Index:
    """An index.

    :ivar name: Schema and name, quoted.
    :ivar partitioned: Whether it belongs to a partitioned table. It becomes valid once every partition has its index.
    :ivar left_over: Whether it has the name of an index that a failed REINDEX CONCURRENTLY leaves.
    """

    name: str
    valid: bool
    partitioned: bool
    left_over: bool

    @property
    def problem(self) -> Problem | None:
        """Return its problem, if one command fixes it; otherwise None."""
        if self.valid or self.partitioned:
            return None
        # Drop the index that a failed REINDEX left (PostgreSQL's manual: REINDEX, Rebuilding Indexes Concurrently).
        verb = "DROP" if self.left_over else "REINDEX"
        return Problem(f"index {self.name} is invalid", f"{verb} INDEX CONCURRENTLY {self.name};")


@dataclass(frozen=True)
class Health:
    """Constraints, indexes, migrations and problems of a database.

    :ivar constraints: All foreign keys, and other constraints that were never checked.
    :ivar history: The oldest migration first; None without `_prisma_migrations`.
    """

    constraints: tuple[Constraint, ...]
    indexes: tuple[Index, ...]
    history: tuple[AppliedMigration, ...] | None
    problems: tuple[Problem, ...]

    @property
    def foreign_keys(self) -> int:
        """Return the number of foreign keys."""
        return sum(each.foreign_key for each in self.constraints)

    @property
    def unvalidated(self) -> list[Constraint]:
        """Return the constraints that were never checked (NOT VALID)."""
        return [each for each in self.constraints if not each.validated]

    @property
    def invalid(self) -> list[Index]:
        """Return the indexes that can't be used."""
        return [each for each in self.indexes if not each.valid]

    @property
    def migrations(self) -> tuple[AppliedMigration, ...] | None:
        """Return the last ten migrations, in the order of their names; None without `_prisma_migrations`."""
        return None if self.history is None else sort_migrations(self.history)[-_SHOWN_MIGRATIONS:]


def read_health(connection: Connection, schema: str, sequences: Mapping[Key, tuple[int, bool]]) -> Health:
    """Return the health of a database, in the open snapshot.

    :param schema: The schema of `_prisma_migrations`.
    :param sequences: The last value of each sequence, and whether it was used.
    """
    constraints, indexes = _read_constraints(connection), _read_indexes(connection)
    history = read_history(connection, schema)
    problems = [*(each.problem for each in indexes), *(each.problem for each in constraints)]
    return Health(
        constraints=constraints,
        indexes=indexes,
        history=history,
        problems=(
            *(each for each in problems if each is not None),
            *_sequences_behind(connection, sequences),
            *_failed_migrations(history or ()),
            *_tables_without_statistics(connection),
        ),
    )


def _read_indexes(connection: Connection) -> tuple[Index, ...]:
    return read_rows(
        connection,
        Index,
        "SELECT pg_catalog.format('%I.%I', n.nspname, i.relname) AS name, x.indisvalid AS valid,"
        " i.relkind = 'I' AS partitioned, i.relname ~ '_cc(new|old)[0-9]*$' AS left_over"
        " FROM pg_catalog.pg_index x"
        " JOIN pg_catalog.pg_class c ON c.oid = x.indrelid JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid"
        " JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace"
        f" WHERE c.relkind IN ('r', 'p', 'm') {_OURS} ORDER BY 1",
    )


def _read_constraints(connection: Connection) -> tuple[Constraint, ...]:
    return read_rows(
        connection,
        Constraint,
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS table, pg_catalog.quote_ident(k.conname) AS name,"
        " pg_catalog.format('%I.%I', n.nspname, k.conname) AS qualified, k.contype = 'f' AS foreign_key,"
        # NOT ENFORCED is new in 18.
        " k.convalidated AS validated, coalesce((pg_catalog.to_jsonb(k) ->> 'conenforced')::boolean, true) AS enforced"
        " FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        # Since 18, NOT NULL is a constraint.
        " WHERE (k.contype = 'f' OR NOT k.convalidated AND k.contype IN ('c', 'n')) AND k.conparentid = 0"
        f" {_OURS} ORDER BY 1, 2",
    )


def _sequences_behind(connection: Connection, sequences: Mapping[Key, tuple[int, bool]]) -> Iterator[Problem]:
    """Yield the sequences whose value is less than a value in a column that they feed, up to their MAXVALUE."""
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
                f"sequence {sequence} is at {last}, but the largest value of {where} is {value}",
                f"SELECT pg_catalog.setval({sql.Literal(sequence).as_string()}, {value});",
            )


def _largest(connection: Connection, feeds: Sequence[TupleRow]) -> dict[tuple[int, str, int], int]:
    """Return the largest value, up to a limit, of each column in its table and all tables that inherit from it."""
    columns = list(dict.fromkeys((oid, column, most) for *_, column, most, oid in feeds))
    below: dict[int, list[tuple[sql.Identifier, bool]]] = {}
    for root, schema, name, trusted in connection.execute(_BELOW, [list({oid for oid, _, _ in columns})]):
        below.setdefault(root, []).append((sql.Identifier(schema, name), trusted))
    found: dict[tuple[int, str, int], int] = {}
    parts = []
    for at, (oid, column, most) in enumerate(columns):
        for table, trusted in below.get(oid, ()):
            if trusted:
                query = "SELECT {0}::int, pg_catalog.max({1})::pg_catalog.int8 FROM ONLY {2} WHERE {1} <= {3}"
                parts.append(sql.SQL(query).format(at, sql.Identifier(column), table, most))
                continue
            values = (int(value) for (value,) in copied_column(connection, table, [column]) if value is not None)
            if (value := max((value for value in values if value <= most), default=None)) is not None:
                found[columns[at]] = max(value, found.get(columns[at], value))
    for batch in in_batches(parts):
        with releasing_locks(connection):
            rows = connection.execute(sql.SQL(" UNION ALL ").join(batch)).fetchall()
        for at, value in rows:
            if value is not None:
                found[columns[at]] = max(value, found.get(columns[at], value))
    return found


def _failed_migrations(history: Sequence[AppliedMigration]) -> Iterator[Problem]:
    for each in history:
        if each.state is MigrationState.FAILED:
            yield Problem(
                f"migration {each.name} failed or has not finished",
                f"prisma migrate resolve --rolled-back {each.name}   (or --applied, if you have applied it by hand)",
            )


def _tables_without_statistics(connection: Connection) -> Iterator[Problem]:
    # Building an index sets reltuples, but only ANALYZE creates statistics, and none for a table with zero reltuples.
    names = read_names(
        connection,
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'r' AND c.reltuples <> 0 AND c.relnatts > 0 AND pg_catalog.pg_relation_size(c.oid) > 0"
        f" AND (n.nspname, c.relname) NOT IN (SELECT s.schemaname, s.tablename FROM pg_catalog.pg_stats s) {_OURS}"
        " ORDER BY 1",
    )
    if len(names) > _SHOWN:
        # After a load no table has statistics; one command creates all.
        yield Problem(f"{len(names):,} tables have no statistics ({format_list(names, _SHOWN)})", "ANALYZE;")
        return
    for name in names:
        yield Problem(f"table {name} has no statistics", f"ANALYZE {name};")
