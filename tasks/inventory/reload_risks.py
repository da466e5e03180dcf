"""Find definitions that can be dumped but may fail to load, as far as the catalogue shows.

A dump is loaded with an empty search_path. A function that names another one without its schema then fails while rows
are loaded, an index is built or a materialized view is filled. A CHECK or a generated column that reads another table
may be computed before that table has its rows. :func:`read_reload_risks` searches the bodies of functions word by word,
so it may report a definition that loads, and miss one that fails. :func:`find_reload_doubt` reports any code, type or
right that may prevent a reload.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ..dumpformat.tokens import encode_name, scan_tokens, unquote_name
from ..postgres.catalog_filters import PARTS_OF_TYPE, USER_SCHEMA, no_member
from ..postgres.roles import closed_schemas, unowned_objects
from ..postgres.schemas import other_schemas
from .objects import RELATION, ROUTINE, of_users, part_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..postgres.connection import Connection


class RiskKind(Enum):
    """The kind of object that depends on the function; the value is its name in messages."""

    CHECK = "constraint"
    DOMAIN = "domain"
    GENERATED = "generated column"
    PARTITION_KEY = "partition key of"
    INDEX = "index"
    VIEW = "materialized view"


# A dump creates these after all rows are loaded.
_AFTER_ROWS = frozenset({RiskKind.INDEX, RiskKind.VIEW})


@dataclass(frozen=True)
class ReloadRisk:
    """A definition that may fail to load from a dump.

    :ivar name: The name of the constraint, column, index …, as SQL writes it.
    :ivar function: The function that it calls, with the types of its arguments.
    :ivar word: The name that the function uses without a schema; if `reads`, the table that the function reads.
    """

    kind: RiskKind
    name: str
    function: str
    word: str
    reads: bool = False

    def __str__(self) -> str:
        what = f"{self.kind.value} {self.name} calls {self.function}, which"
        if self.reads:
            return f"{what} reads {self.word}, whose rows may be loaded later"
        return f"{what} names {self.word} without its schema"

    @property
    def remedy(self) -> str:
        """Return a sentence with the fix."""
        if self.reads:
            return "Fix: use a trigger or a foreign key instead."
        return f"Fix: ALTER FUNCTION {self.function} SET search_path = …; or qualify the name."


_OPERATOR_CLASS = of_users("pg_opclass", "o.oid", "o.opcnamespace")
_CLASS = "'pg_catalog.pg_class'::pg_catalog.regclass"
_TABLE = "c.oid::pg_catalog.regclass::pg_catalog.text"
_COLUMN = part_of("c.oid", "a.attname")
# The kind and the name of what has a CHECK constraint.
_CHECK = f"""CASE WHEN k.contypid = 0 THEN 'CHECK' ELSE 'DOMAIN' END,
       CASE WHEN k.contypid = 0 THEN {part_of("k.conrelid", "k.conname")}
            ELSE k.contypid::pg_catalog.regtype::pg_catalog.text END"""
# The generated columns that depend on a row of `called`.
_GENERATED = f"""called f LEFT JOIN pg_catalog.pg_attrdef e
    ON f.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND e.oid = f.objid
  -- Before 15 the column itself depends on the function.
  JOIN pg_catalog.pg_attribute a ON a.attgenerated = 's' AND (a.attrelid = e.adrelid AND a.attnum = e.adnum
        OR f.classid = {_CLASS} AND f.objsubid > 0 AND a.attrelid = f.objid AND a.attnum = f.objsubid)
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid"""
# Objects and the functions that they call, except functions of extensions and functions with their own search_path.
_CALLS = f"""
WITH risky AS (
    SELECT p.oid, p.prosrc, p.oid::pg_catalog.regprocedure::pg_catalog.text AS name
      FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
     WHERE l.lanname IN ('sql', 'plpgsql') AND p.prosqlbody IS NULL AND {ROUTINE}
       AND NOT EXISTS (SELECT FROM pg_catalog.unnest(p.proconfig) AS s(setting)
                        WHERE pg_catalog.starts_with(s.setting, 'search_path='))
), called AS (
    SELECT DISTINCT d.classid, d.objid, d.objsubid, r.prosrc, r.name FROM risky r
      JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid = r.oid
)
SELECT {_CHECK}, f.name, f.prosrc
  FROM called f JOIN pg_catalog.pg_constraint k ON k.oid = f.objid
 WHERE f.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.contype = 'c' AND k.coninhcount = 0
 UNION ALL
SELECT 'GENERATED', {_COLUMN}, f.name, f.prosrc
  FROM {_GENERATED}
 UNION ALL
SELECT CASE c.relkind WHEN 'p' THEN 'PARTITION_KEY' ELSE 'INDEX' END, {_TABLE}, f.name, f.prosrc
  FROM called f JOIN pg_catalog.pg_class c ON c.oid = f.objid
 WHERE f.classid = {_CLASS} AND f.objsubid = 0 AND (c.relkind = 'p' OR c.relkind IN ('i', 'I') AND NOT c.relispartition)
 UNION ALL
SELECT 'VIEW', {_TABLE}, f.name, f.prosrc
  FROM called f JOIN pg_catalog.pg_rewrite w ON w.oid = f.objid
  JOIN pg_catalog.pg_class c ON c.oid = w.ev_class AND c.relkind = 'm' AND c.relispopulated
 WHERE f.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
 ORDER BY 1, 2, 3
"""
_NAMES = f"""
SELECT c.relname, true FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relname = ANY(%(words)s) AND c.relkind IN ('r', 'p', 'f', 'v', 'm') AND {USER_SCHEMA}
 UNION
SELECT p.proname, false FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE p.proname = ANY(%(words)s) AND {USER_SCHEMA}
 UNION
SELECT t.typname, false FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
 WHERE t.typname = ANY(%(words)s) AND t.typelem = 0 AND {USER_SCHEMA}
"""
# Users' code that runs while rows are loaded, also if called through operators, operator classes and functions. Also
# types that may reject their own values: domains with NOT NULL, which PostgreSQL does not check everywhere, and types
# whose values name objects or cannot be read. Last, objects that the session's role may delete but not create.
_DOUBTS = f"""
WITH RECURSIVE code(classid, objid) AS (
    SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid, p.oid
      FROM pg_catalog.pg_proc p WHERE {ROUTINE}
     UNION
    SELECT 'pg_catalog.pg_opclass'::pg_catalog.regclass::pg_catalog.oid, o.oid
      FROM pg_catalog.pg_opclass o WHERE {_OPERATOR_CLASS}
     UNION
    SELECT d.classid, d.objid
      FROM code c JOIN pg_catalog.pg_depend d ON d.refclassid = c.classid AND d.refobjid = c.objid
     WHERE d.classid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass)
), called AS (
    SELECT d.classid, d.objid, d.objsubid
      FROM code c JOIN pg_catalog.pg_depend d ON d.refclassid = c.classid AND d.refobjid = c.objid
), kinds(typid, tableid) AS (
    SELECT a.atttypid, pg_catalog.min(c.oid)
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     WHERE c.relkind = 'r' AND {RELATION} GROUP BY 1
     UNION
    SELECT p.typid, k.tableid FROM kinds k JOIN pg_catalog.pg_type t ON t.oid = k.typid {PARTS_OF_TYPE}
), me AS (
    SELECT rolsuper AS super FROM pg_catalog.pg_roles WHERE rolname = current_user
)
SELECT {_CHECK}, ''
  FROM called f JOIN pg_catalog.pg_constraint k ON k.oid = f.objid
 WHERE f.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.contype = 'c' AND k.convalidated
 UNION ALL
SELECT 'GENERATED', {_COLUMN}, ''
  FROM {_GENERATED}
 UNION ALL
SELECT 'PARTITION_KEY', {_TABLE}, '' FROM called f JOIN pg_catalog.pg_class c ON c.oid = f.objid
 WHERE f.classid = {_CLASS} AND f.objsubid = 0 AND c.relkind = 'p'
 UNION ALL
SELECT CASE WHEN t.typtype = 'd' THEN 'NOT_NULL' WHEN t.oid < 16384 THEN 'NAMES' ELSE 'TYPE' END,
       k.tableid::pg_catalog.regclass::pg_catalog.text, t.oid::pg_catalog.regtype::pg_catalog.text
  FROM kinds k JOIN pg_catalog.pg_type t ON t.oid = k.typid
 WHERE t.typtype = 'd' AND t.typnotnull
    OR t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace AND t.typtype = 'b' AND t.typname ~
       '^(reg(class|proc|oper)|aclitem|pg_(node_tree|ndistinct|dependencies|mcv_list|brin_.*))$'
    OR t.typtype IN ('b', 'r') AND (t.oid IN (
       SELECT f.objid FROM called f WHERE f.classid = 'pg_catalog.pg_type'::pg_catalog.regclass))
 UNION ALL
SELECT 'LIBRARY', p.oid::pg_catalog.regprocedure::pg_catalog.text, ''
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang CROSS JOIN me
 WHERE {ROUTINE} AND (l.lanname = 'c' OR NOT me.super AND (p.proleakproof
    OR NOT l.lanpltrusted OR NOT pg_catalog.has_language_privilege(l.oid, 'USAGE')))
 UNION ALL
SELECT 'OPERATOR_CLASS', pg_catalog.quote_ident(o.opcname), ''
  FROM pg_catalog.pg_opclass o CROSS JOIN me WHERE {_OPERATOR_CLASS} AND NOT me.super
 UNION ALL
SELECT 'EVENT_TRIGGER', pg_catalog.quote_ident(e.evtname), '' FROM pg_catalog.pg_event_trigger e CROSS JOIN me
 WHERE e.evtenabled IN ('O', 'A') AND e.evtevent IN ('ddl_command_start', 'ddl_command_end', 'table_rewrite')
   AND {no_member("pg_event_trigger", "e.oid")} AND NOT me.super
 ORDER BY 1, 2, 3 LIMIT 1
"""
_REASONS = {
    **{kind.name: f"{kind.value} {{}} runs code of this database" for kind in RiskKind},
    "NOT_NULL": "rows of {} may hold NULL in a value of domain {}, which is NOT NULL",
    "NAMES": "rows of {} hold values of type {}, which PostgreSQL may not read again",
    "TYPE": "rows of {} hold values of type {}, which runs code of this database",
    "LIBRARY": "function {} needs a library or the rights of a superuser",
    "OPERATOR_CLASS": "operator class {} needs the rights of a superuser",
    "EVENT_TRIGGER": "event trigger {} runs during the load",
}


def find_reload_doubt(connection: Connection) -> str:
    """Return why a dump of this database may fail to load into it, even with --lenient; empty without a reason.

    It may still load. The catalogue does not show what code does, and the code may have been replaced since.
    """
    row = connection.execute(_DOUBTS.encode()).fetchone()
    if row is not None:
        return _REASONS[row[0]].format(*row[1:])
    for others in unowned_objects(connection):
        return f"the role may not drop {others}"
    for closed in closed_schemas(connection, other_schemas(connection, ())):
        return f"the role may create nothing in the schema {closed}"
    return ""


def read_reload_risks(connection: Connection) -> tuple[ReloadRisk, ...]:
    """Return the definitions that may fail to load from a dump of this database. Reads only the catalogue."""
    calls = [
        (RiskKind[kind], str(name), str(function), _names_in(str(source)))
        for kind, name, function, source in connection.execute(_CALLS)
    ]
    if not calls:
        return ()
    words = sorted({word for *_, found in calls for word in found})
    known = dict[str, bool]()
    for word, relation in connection.execute(_NAMES, {"words": words}):
        known[str(word)] = known.get(str(word), False) or bool(relation)
    return tuple(_risks(calls, known))


def _risks(calls: Iterable[tuple[RiskKind, str, str, dict[str, bool]]], known: dict[str, bool]) -> Iterator[ReloadRisk]:
    for kind, name, function, words in calls:
        unqualified = [word for word, qualified in words.items() if word in known and not qualified]
        read = [word for word in words if known.get(word)] if kind not in _AFTER_ROWS else []
        if unqualified:
            yield ReloadRisk(kind=kind, name=name, function=function, word=unqualified[0])
        elif read:
            yield ReloadRisk(kind=kind, name=name, function=function, word=read[0], reads=True)


def _names_in(source: str) -> dict[str, bool]:
    """Return the names in a function's body, without schemas, and whether each is always qualified with a schema."""
    tokens = [*scan_tokens(encode_name(source)), ("end", b"")]
    found = dict[str, bool]()
    for at, (kind, token) in enumerate(tokens[:-1]):
        if kind in {"word", "quoted"} and tokens[at + 1] != ("sign", b"."):
            name = unquote_name(token)
            found[name] = found.get(name, True) and at > 0 and tokens[at - 1] == ("sign", b".")
    return found
