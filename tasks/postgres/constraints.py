"""Take constraints and triggers off tables so that rows can be loaded, and put them back exactly.

Of constraints these are foreign keys, CHECK constraints, and NOT NULL of domains, which PostgreSQL does not look at
everywhere: composite types, arrays and subqueries may bring a NULL into a table that its own dump can't.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import errors, sql

from ..errors import OperationFailedError
from .catalog_filters import PARTS_OF_TYPE
from .connection import Connection, one, read_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from .protocol import StatementStream

    Key = tuple[str, str]


# The constraints of the table, of its parents, and of the domains in its columns' types. A constraint is dropped in the
# table that defines it, the topmost table first; PostgreSQL drops the inherited ones with it.
_CHECKS = f"""
WITH RECURSIVE above(relid, depth) AS (
    SELECT %s::pg_catalog.regclass::pg_catalog.oid, 0
     UNION ALL
    SELECT i.inhparent, a.depth + 1 FROM above a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.relid
), kinds(typid) AS (
    SELECT a.atttypid FROM pg_catalog.pg_attribute a JOIN above b ON b.relid = a.attrelid
     WHERE b.depth = 0 AND a.attnum > 0 AND NOT a.attisdropped
     UNION
    SELECT p.typid FROM kinds d JOIN pg_catalog.pg_type t ON t.oid = d.typid {PARTS_OF_TYPE}
), domains(owner, typid, not_null) AS (
    SELECT 'DOMAIN ' || d.typid::pg_catalog.regtype::pg_catalog.text, d.typid, t.typnotnull
      FROM kinds d JOIN pg_catalog.pg_type t ON t.oid = d.typid WHERE t.typtype = 'd'
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.objid = d.typid AND e.deptype = 'e'
                          AND e.classid = 'pg_catalog.pg_type'::pg_catalog.regclass)
), found(depth, owner, conoid) AS (
    SELECT b.depth, 'TABLE ' || b.relid::pg_catalog.regclass::pg_catalog.text, k.oid
      FROM (SELECT relid, pg_catalog.max(depth) AS depth FROM above GROUP BY relid) b
      JOIN pg_catalog.pg_constraint k ON k.conrelid = b.relid WHERE k.contype = 'c' AND k.conislocal
     UNION ALL
    SELECT 0, d.owner, k.oid
      FROM domains d JOIN pg_catalog.pg_constraint k ON k.contypid = d.typid WHERE k.contype = 'c'
)
SELECT f.owner, pg_catalog.quote_ident(k.conname), pg_catalog.pg_get_constraintdef(k.oid),
       pg_catalog.quote_literal(pg_catalog.obj_description(k.oid, 'pg_constraint')), f.depth
  FROM found f JOIN pg_catalog.pg_constraint k ON k.oid = f.conoid
 UNION ALL
SELECT owner, NULL, NULL, NULL, 0 FROM domains WHERE not_null
 ORDER BY 5 DESC, 1, 2
""".encode()


@dataclass(frozen=True)
class DroppedCheck:
    """A CHECK constraint that was dropped, or NOT NULL of a domain.

    :ivar owner: `TABLE …` or `DOMAIN …`, as SQL. `name` and `definition` are SQL, too, and empty for NOT NULL.
    :ivar comment: The comment as a literal; empty without one.
    """

    owner: bytes
    name: bytes
    definition: bytes
    comment: bytes

    @property
    def statement(self) -> bytes:
        """Return the statement that adds the constraint again."""
        if not self.name:
            return b"ALTER %s SET NOT NULL;" % self.owner
        return b"ALTER %s ADD CONSTRAINT %s %s;" % (self.owner, self.name, self.definition)

    @property
    def comment_statement(self) -> bytes:
        """Return the statement that sets the constraint's comment again."""
        on = self.owner if self.owner.startswith(b"DOMAIN ") else self.owner.removeprefix(b"TABLE ")
        return b"COMMENT ON CONSTRAINT %s ON %s IS %s;" % (self.name, on, self.comment)


def drop_checks(stream: StatementStream, table: bytes) -> list[DroppedCheck]:
    """Drop the constraints that apply to a table's rows, in the open transaction, with an empty search_path.

    :param table: The table's name, as a literal.
    :return: The dropped constraints; add the last one first.
    """
    rows = [[part or b"" for part in row[:4]] for row in stream.ask(_CHECKS % table)]
    found = [
        DroppedCheck(owner=owner, name=name, definition=definition, comment=comment)
        for owner, name, definition, comment in rows
    ]
    for each in found:
        dropped = b"CONSTRAINT " + each.name if each.name else b"NOT NULL"
        stream.run(stream.encoded(b"ALTER %s DROP %s" % (each.owner, dropped)))
    return found


# Those of the tables and to them. What a partition has of its partitioned table can't be dropped by itself: the
# topmost is taken. The last column counts the rows that violate it, without an operator of users.
_FOREIGN_KEYS = """
WITH RECURSIVE involved(oid, parent) AS (
    SELECT k.oid, k.conparentid FROM pg_catalog.pg_constraint k
     WHERE k.contype = 'f' AND (k.conrelid = ANY(%(tables)s) OR k.confrelid = ANY(%(tables)s))
     UNION
    SELECT k.oid, k.conparentid FROM involved i JOIN pg_catalog.pg_constraint k ON k.oid = i.parent
)
SELECT k.conrelid::pg_catalog.regclass::pg_catalog.text AS table, pg_catalog.quote_ident(k.conname) AS name,
       pg_catalog.pg_get_constraintdef(k.oid) AS definition,
       pg_catalog.obj_description(k.oid, 'pg_constraint') AS comment, r.relkind = 'p' AS partitioned,
       k.conrelid = ANY(%(tables)s) AS of_tables, pg_catalog.pg_has_role(r.relowner, 'USAGE') AS owned,
       k.confrelid::pg_catalog.regclass::pg_catalog.text AS referenced, k.confrelid = ANY(%(tables)s) AS to_tables,
       (SELECT CASE WHEN pg_catalog.bool_and(o.oprnamespace = 'pg_catalog'::pg_catalog.regnamespace) THEN
               pg_catalog.format('SELECT pg_catalog.count(*) FROM %%s%%s f WHERE %%s AND NOT EXISTS'
                   ' (SELECT FROM %%s%%s k WHERE %%s)',
                   CASE WHEN r.relkind = 'r' THEN 'ONLY ' END, r.oid::pg_catalog.regclass,
                   pg_catalog.string_agg(pg_catalog.format('f.%%I IS NOT NULL', fa.attname), ' AND '),
                   CASE WHEN p.relkind = 'r' THEN 'ONLY ' END, p.oid::pg_catalog.regclass,
                   pg_catalog.string_agg(pg_catalog.format('k.%%I OPERATOR(pg_catalog.%%s) f.%%I', pa.attname,
                       o.oprname, fa.attname), ' AND ')) END
          FROM pg_catalog.generate_subscripts(k.conkey, 1) AS at
          JOIN pg_catalog.pg_attribute fa ON fa.attrelid = k.conrelid AND fa.attnum = k.conkey[at]
          JOIN pg_catalog.pg_attribute pa ON pa.attrelid = k.confrelid AND pa.attnum = k.confkey[at]
          JOIN pg_catalog.pg_operator o ON o.oid = k.conpfeqop[at]) AS violations
  FROM involved i JOIN pg_catalog.pg_constraint k ON k.oid = i.oid
  JOIN pg_catalog.pg_class r ON r.oid = k.conrelid JOIN pg_catalog.pg_class p ON p.oid = k.confrelid
 WHERE k.conparentid = 0
 ORDER BY 1, 2
"""
# Before 15 a partition's triggers of its table count as internal.
# What runs for rows, or replaces a statement that writes rows: triggers and rules. And forced row-level security, which
# refuses the rows, and the check of a foreign key from or to the tables.
_FIRING = """
SELECT g.tgrelid::pg_catalog.regclass::pg_catalog.text AS table,
       'TRIGGER ' || pg_catalog.quote_ident(g.tgname) AS what, g.tgenabled::pg_catalog.text AS enabled
  FROM pg_catalog.pg_trigger g
 WHERE g.tgrelid = ANY(%(tables)s) AND g.tgenabled <> 'D' AND (NOT g.tgisinternal OR g.tgparentid <> 0)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.oid = g.tgconstraint AND k.contype <> 't')
 UNION ALL
SELECT w.ev_class::pg_catalog.regclass::pg_catalog.text, 'RULE ' || pg_catalog.quote_ident(w.rulename),
       w.ev_enabled::pg_catalog.text
  FROM pg_catalog.pg_rewrite w WHERE w.ev_class = ANY(%(tables)s) AND w.ev_enabled <> 'D'
 UNION ALL
SELECT c.oid::pg_catalog.regclass::pg_catalog.text, 'FORCE ROW LEVEL SECURITY', ''
  FROM pg_catalog.pg_class c
 WHERE c.relforcerowsecurity AND pg_catalog.pg_has_role(c.relowner, 'USAGE') AND (c.oid = ANY(%(tables)s) OR EXISTS (
       SELECT FROM pg_catalog.pg_constraint k
        WHERE k.contype = 'f' AND (k.conrelid = ANY(%(tables)s) AND k.confrelid = c.oid
                                   OR k.confrelid = ANY(%(tables)s) AND k.conrelid = c.oid)))
 ORDER BY 1, 2
"""
_ENABLE = {"O": "ENABLE ", "R": "ENABLE REPLICA ", "A": "ENABLE ALWAYS ", "": ""}


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key, as SQL writes its parts.

    :ivar table: The referencing table; `of_tables` whether it is one of those that were asked about.
    :ivar definition: With NOT VALID, DEFERRABLE and so on.
    :ivar owned: Whether the role may drop it and add it again.
    :ivar referenced: The referenced table; `to_tables` whether it is one of those that were asked about.
    :ivar violations: A query that counts the rows that violate it; None where that would call users' operators.
    """

    table: str
    name: str
    definition: str
    comment: str | None
    partitioned: bool
    of_tables: bool
    owned: bool
    referenced: str
    to_tables: bool
    violations: str | None

    @property
    def altered(self) -> str:
        """The beginning of the statement that drops or adds it."""
        return f"ALTER TABLE {'' if self.partitioned else 'ONLY '}{self.table}"


@dataclass(frozen=True)
class FiringState:
    """A trigger or a rule that is enabled, or forced row-level security.

    :ivar what: As `TRIGGER name`.
    :ivar enabled: As `pg_trigger.tgenabled`; empty for row-level security.
    """

    table: str
    what: str
    enabled: str

    @property
    def is_forced_security(self) -> bool:
        """Whether it is forced row-level security."""
        return not self.enabled

    def statement(self, *, enable: bool) -> str:
        """The statement that disables it or enables it again."""
        way = (_ENABLE[self.enabled] if enable else "DISABLE ") if self.enabled else "" if enable else "NO "
        return f"ALTER TABLE ONLY {self.table} {way}{self.what}"


def read_foreign_keys(connection: Connection, tables: Collection[int]) -> tuple[ForeignKey, ...]:
    """Return the foreign keys of tables and those that reference them.

    :param tables: Their oids, those of their partitions included.
    """
    return read_rows(connection, ForeignKey, _FOREIGN_KEYS, {"tables": list(tables)})


def read_firing(connection: Connection, tables: Collection[int]) -> tuple[FiringState, ...]:
    """Return the enabled triggers and rules of tables, and where row-level security is forced on them.

    Also where it is forced on a table that a foreign key connects with them.
    """
    return read_rows(connection, FiringState, _FIRING, {"tables": list(tables)})


def drop_foreign_keys(connection: Connection, keys: Sequence[ForeignKey]) -> None:
    """Drop foreign keys, in the open transaction."""
    for each in keys:
        run_text(connection, f"{each.altered} DROP CONSTRAINT {each.name}")


def add_foreign_keys(connection: Connection, keys: Sequence[ForeignKey]) -> None:
    """Add foreign keys again, which PostgreSQL checks, unless they were NOT VALID.

    :raises OperationFailedError: Rows violate one, or what it references is no longer defined so; names it.
    """
    for each in keys:
        try:
            with connection.transaction():
                run_text(connection, f"{each.altered} ADD CONSTRAINT {each.name} {each.definition}")
        except errors.ForeignKeyViolation:
            raise OperationFailedError(
                f"{_count_violations(connection, each)} of {each.table} would reference rows of {each.referenced} that "
                f"do not exist (foreign key {each.name}: {each.definition}){_repair(each)}"
            ) from None
        except (errors.InvalidForeignKey, errors.UndefinedColumn, errors.DatatypeMismatch) as error:
            raise OperationFailedError(
                f"foreign key {each.name} of {each.table} can't be added again ({each.definition}): "
                f"{error.diag.message_primary}. Restore only the rows (--data-only), or drop the key first"
            ) from None
        if each.comment is not None:
            comment = sql.Literal(each.comment).as_string(connection)
            run_text(connection, f"COMMENT ON CONSTRAINT {each.name} ON {each.table} IS {comment}")


def _repair(key: ForeignKey) -> str:
    """Return what to do about rows that violate a foreign key, as a sentence after a period; empty if nothing helps."""
    if key.of_tables and key.to_tables:
        return ""
    both = f". Restore both tables: --table={shlex.quote(key.table)} --table={shlex.quote(key.referenced)}"
    return both if key.of_tables else f"{both}, or delete these rows of {key.table} first"


def _count_violations(connection: Connection, key: ForeignKey) -> str:
    try:
        with connection.transaction():
            count = int(one(connection, (key.violations or "SELECT 0").encode())[0])
    except errors.Error:
        count = 0
    return f"{count:,} {'row' if count == 1 else 'rows'}" if count else "rows"


def set_firing(connection: Connection, states: Sequence[FiringState], *, enable: bool) -> None:
    """Disable triggers, rules and forced row-level security, or enable them again as they were."""
    for each in states:
        run_text(connection, each.statement(enable=enable))


def run_text(connection: Connection, statement: str) -> None:
    """Run a statement of names that the server has quoted."""
    connection.execute(statement.encode())


# Each table with its partitions.
_LIVE = """
SELECT (n.nspname, c.relname) AS key, (k.schema, k.name) AS top, c.oid,
       c.oid::pg_catalog.regclass::pg_catalog.text AS sql, c.relkind::pg_catalog.text AS kind, k.oid = c.oid AS named,
       c.relispartition AS is_partition, pg_catalog.pg_has_role(c.relowner, 'USAGE') AS owned,
       EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'
                  AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass) AS of_extension,
       pg_catalog.pg_get_userbyid(c.relowner) AS owner
  FROM (SELECT r.oid, t.schema, t.name FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::pg_catalog.text[]),
            pg_catalog.unnest(%(names)s::pg_catalog.text[])) AS t(schema, name)
          JOIN pg_catalog.pg_namespace s ON s.nspname = t.schema
          JOIN pg_catalog.pg_class r ON r.relnamespace = s.oid AND r.relname = t.name) k
 CROSS JOIN LATERAL (SELECT k.oid UNION
                     SELECT p.relid FROM pg_catalog.pg_partition_tree(k.oid::pg_catalog.regclass) p) AS tree(oid)
  JOIN pg_catalog.pg_class c ON c.oid = tree.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 ORDER BY k.oid, c.oid
"""
# Where the default of another table takes values of it, too, its last value.
_SEQUENCES = """
SELECT (n.nspname, q.relname), pg_catalog.sign(s.seqincrement)::pg_catalog.int8, (
       SELECT coalesce(pg_catalog.pg_sequence_last_value(q.oid), s.seqstart)
        WHERE EXISTS (SELECT FROM pg_catalog.pg_depend u JOIN pg_catalog.pg_attrdef f ON f.oid = u.objid
                       WHERE u.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND u.refobjid = q.oid
                         AND u.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                         AND f.adrelid <> ALL(%(tables)s)))
  FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class q ON q.oid = d.objid AND q.relkind = 'S'
  JOIN pg_catalog.pg_namespace n ON n.oid = q.relnamespace JOIN pg_catalog.pg_sequence s ON s.seqrelid = q.oid
 WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')
   AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = ANY(%(tables)s)
   AND pg_catalog.pg_has_role(q.relowner, 'USAGE')
"""


@dataclass(frozen=True, kw_only=True)
class LiveTable:
    """A table of the database, or a partition of it.

    :ivar top: The table that was named, of which it is a partition, or which it is.
    :ivar sql: Its name as SQL; `kind` as `pg_class.relkind`.
    :ivar named: Whether it was named itself, and is not only a partition of one that was.
    :ivar owned: Whether the role has its owner's rights.
    """

    key: Key
    top: Key
    oid: int
    sql: str
    kind: str
    named: bool
    is_partition: bool
    owned: bool
    of_extension: bool
    owner: str


def read_live_tables(connection: Connection, tables: Sequence[Key]) -> tuple[LiveTable, ...]:
    """Return what the database has of tables, with their partitions."""
    parameters = {"schemas": [schema for schema, _ in tables], "names": [name for _, name in tables]}
    return read_rows(connection, LiveTable, _LIVE, parameters)


def read_owned_sequences(connection: Connection, live: Sequence[LiveTable], values: Mapping[Key, int]) -> list[Key]:
    """Return the sequences that belong to columns of tables and that may be set.

    A sequence from which other tables take values, too, is not set back.

    :param values: To what they will be set.
    """
    rows = connection.execute(_SEQUENCES, {"tables": [each.oid for each in live]})
    return [key for key, sign, last in rows if last is None or (key in values and values[key] * sign > last * sign)]
