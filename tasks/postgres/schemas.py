"""Emptying schemas without losing what belongs to them, or what lies outside them.

`DROP SCHEMA … CASCADE` would lose the schema's owner, grants, default privileges, comment and extensions,
and would take columns, views and constraints of other schemas along. Here every object of the schemas that
no extension owns is dropped, the schemas stay, and nothing is dropped at all while anything outside them
depends on something inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from ..errors import BadInputError, OperationFailedError
from ..formatting import format_list
from .catalog_filters import MEMBER, USER_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from .connection import Connection


# The catalogues whose objects lie in a schema: class, column of the schema.
_NAMESPACED = (
    ("pg_class", "relnamespace"),
    ("pg_type", "typnamespace"),
    ("pg_proc", "pronamespace"),
    ("pg_constraint", "connamespace"),
    ("pg_operator", "oprnamespace"),
    ("pg_opclass", "opcnamespace"),
    ("pg_opfamily", "opfnamespace"),
    ("pg_collation", "collnamespace"),
    ("pg_conversion", "connamespace"),
    ("pg_statistic_ext", "stxnamespace"),
    ("pg_ts_config", "cfgnamespace"),
    ("pg_ts_dict", "dictnamespace"),
    ("pg_ts_parser", "prsnamespace"),
    ("pg_ts_template", "tmplnamespace"),
)
# Those that belong to an object of another catalogue: class, column and class of what they belong to.
_BELONGING = (
    ("pg_attrdef", "adrelid", "pg_class"),
    ("pg_rewrite", "ev_class", "pg_class"),
    ("pg_trigger", "tgrelid", "pg_class"),
    ("pg_policy", "polrelid", "pg_class"),
    ("pg_constraint", "contypid", "pg_type"),
    ("pg_amop", "amopfamily", "pg_opfamily"),
    ("pg_amproc", "amprocfamily", "pg_opfamily"),
)
# An extension's own objects, and what belongs to them inside (array types, row types, TOAST).
_MEMBERS = """
WITH RECURSIVE member(classid, objid) AS (
    SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e'
    UNION
    SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
      JOIN member m ON (d.refclassid, d.refobjid) = (m.classid, m.objid) WHERE d.deptype = 'i'
), in_schemas(classid, objid) AS (
    {in_schemas}
), inside(classid, objid) AS (
    SELECT * FROM in_schemas EXCEPT SELECT * FROM member
)"""
_IN_SCHEMAS = " UNION ALL ".join(
    f"SELECT 'pg_catalog.{name}'::pg_catalog.regclass::pg_catalog.oid, c.oid FROM pg_catalog.{name} c"
    f" WHERE c.{column} = ANY(%(schemas)s)"
    for name, column in _NAMESPACED
)
_PARTS = " UNION ALL ".join(
    f"SELECT 'pg_catalog.{name}'::pg_catalog.regclass::pg_catalog.oid, c.oid FROM pg_catalog.{name} c"
    f" JOIN inside i ON i.classid = 'pg_catalog.{owner}'::pg_catalog.regclass AND i.objid = c.{column}"
    for name, column, owner in _BELONGING
)
_OUTSIDE = f"""{_MEMBERS}, whole(classid, objid) AS (
    SELECT * FROM inside UNION {_PARTS}
)
SELECT DISTINCT o.type, o.identity, (pg_catalog.pg_identify_object(d.refclassid, d.refobjid, 0)).identity
  FROM pg_catalog.pg_depend d
  JOIN whole w ON (d.refclassid, d.refobjid) = (w.classid, w.objid)
  LEFT JOIN whole s ON (d.classid, d.objid) = (s.classid, s.objid)
  LEFT JOIN pg_catalog.pg_class t ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND t.oid = d.objid,
       pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) o
 WHERE s.objid IS NULL
   AND (d.deptype NOT IN ('e', 'i') OR (d.deptype = 'i' AND d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass))
   AND (t.oid IS NULL OR t.relnamespace <> 'pg_toast'::pg_catalog.regnamespace)
 ORDER BY 1, 2, 3
"""
# Tables with what belongs to them; foreign keys count as such on either side.
_OF_TABLES = """SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, t.oid
      FROM pg_catalog.unnest(%(tables)s::pg_catalog.oid[]) AS t(oid)
     UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, indexrelid
      FROM pg_catalog.pg_index WHERE indrelid = ANY(%(tables)s)
     UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, d.objid
      FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class q ON q.oid = d.objid AND q.relkind = 'S'
     WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')
       AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = ANY(%(tables)s)
     UNION ALL SELECT 'pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid,
           pg_catalog.unnest(ARRAY[y.oid, y.typarray])
      FROM pg_catalog.pg_type y WHERE y.typrelid = ANY(%(tables)s)
     UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass::pg_catalog.oid, oid
      FROM pg_catalog.pg_constraint WHERE conrelid = ANY(%(tables)s) OR confrelid = ANY(%(tables)s)
     UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass::pg_catalog.oid, oid
      FROM pg_catalog.pg_statistic_ext WHERE stxrelid = ANY(%(tables)s)"""
# What pg_depend does not tell: parents outside that would lose the rows of children inside, subscriptions that
# fill tables inside, and publications that the dump brings back but that have members outside, too.
_OTHER_DEPENDENTS = """
SELECT 'table', i.inhparent::pg_catalog.regclass::pg_catalog.text, i.inhrelid::pg_catalog.regclass::pg_catalog.text
  FROM pg_catalog.pg_inherits i
  JOIN pg_catalog.pg_class p ON p.oid = i.inhparent JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
 WHERE c.relnamespace = ANY(%(schemas)s) AND NOT p.relnamespace = ANY(%(schemas)s) AND p.relkind IN ('r', 'p')
 UNION ALL
SELECT 'a subscription to', r.srrelid::pg_catalog.regclass::pg_catalog.text,
    r.srrelid::pg_catalog.regclass::pg_catalog.text
  FROM pg_catalog.pg_subscription_rel r JOIN pg_catalog.pg_class c ON c.oid = r.srrelid
 WHERE c.relnamespace = ANY(%(schemas)s)
 UNION ALL
SELECT 'table', r.prrelid::pg_catalog.regclass || ' in publication ' || pg_catalog.quote_ident(p.pubname),
    p.pubname::pg_catalog.text
  FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
  JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
 WHERE NOT c.relnamespace = ANY(%(schemas)s) AND 'publication ' || p.pubname = ANY(%(recreated)s)
 ORDER BY 1, 2, 3
"""
# How each kind is dropped: several in one statement, or (operator classes and families) one by one.
_KINDS = (
    ("TABLE", "pg_class", "c.relkind IN ('r', 'p')"),
    ("FOREIGN TABLE", "pg_class", "c.relkind = 'f'"),
    ("VIEW", "pg_class", "c.relkind = 'v'"),
    ("MATERIALIZED VIEW", "pg_class", "c.relkind = 'm'"),
    ("SEQUENCE", "pg_class", "c.relkind = 'S'"),
    ("AGGREGATE", "pg_proc", "c.prokind = 'a'"),
    ("PROCEDURE", "pg_proc", "c.prokind = 'p'"),
    ("FUNCTION", "pg_proc", "c.prokind NOT IN ('a', 'p')"),
    ("OPERATOR CLASS", "pg_opclass", "true"),
    ("OPERATOR FAMILY", "pg_opfamily", "true"),
    ("OPERATOR", "pg_operator", "true"),
    ("TYPE", "pg_type", "true"),
    ("COLLATION", "pg_collation", "true"),
    ("CONVERSION", "pg_conversion", "true"),
    ("STATISTICS", "pg_statistic_ext", "true"),
    ("TEXT SEARCH CONFIGURATION", "pg_ts_config", "true"),
    ("TEXT SEARCH DICTIONARY", "pg_ts_dict", "true"),
    ("TEXT SEARCH PARSER", "pg_ts_parser", "true"),
    ("TEXT SEARCH TEMPLATE", "pg_ts_template", "true"),
)
_SINGLY = frozenset({"OPERATOR CLASS", "OPERATOR FAMILY"})
# What goes with its owner (array types, identity sequences, inner types of ranges) is not dropped by name. A
# partitioned table depends on its own key columns in that way, too.
_OF_OWNER = """EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE (d.classid, d.objid) = (i.classid, i.objid) AND d.deptype = 'i'
                      AND (d.refclassid, d.refobjid) <> (d.classid, d.objid))"""
# What DROP takes: input types alone do not tell a procedure from another one with OUT arguments, and an aggregate
# without arguments takes (*). A type may have the form of an array of another one.
_DROP_NAMES = {
    "pg_proc": """pg_catalog.format('%%s.%%I(%%s)', c.pronamespace::pg_catalog.regnamespace, c.proname,
        CASE WHEN c.prokind = 'a' AND c.pronargs = 0 THEN '*'
            ELSE pg_catalog.pg_get_function_identity_arguments(c.oid) END)""",
    "pg_type": "pg_catalog.format('%%s.%%I', c.typnamespace::pg_catalog.regnamespace, c.typname)",
}
_IDENTITY = "(pg_catalog.pg_identify_object(i.classid, i.objid, 0)).identity"
_DROPPABLE = f"""{_MEMBERS.format(in_schemas=_IN_SCHEMAS)}
SELECT {{identity}}
  FROM inside i JOIN pg_catalog.{{catalogue}} c ON c.oid = i.objid
 WHERE i.classid = 'pg_catalog.{{catalogue}}'::pg_catalog.regclass AND {{condition}}
   AND NOT {_OF_OWNER}
 ORDER BY 1
"""
_COUNTED = " UNION ALL ".join(
    f"SELECT '{kind}', pg_catalog.count(*) FROM inside i JOIN pg_catalog.{catalogue} c ON c.oid = i.objid"
    f" WHERE i.classid = 'pg_catalog.{catalogue}'::pg_catalog.regclass AND {condition} AND NOT {_OF_OWNER}"
    for kind, catalogue, condition in _KINDS
)
# The number of locks in a row without a kind, then the objects of each kind.
_LOCKED = f"""{_MEMBERS.format(in_schemas=_IN_SCHEMAS)}, whole(classid, objid) AS (
    SELECT * FROM inside UNION {_PARTS}
)
SELECT NULL, pg_catalog.count(*) + 2 * pg_catalog.count(*) FILTER (WHERE c.reltoastrelid <> 0)
  FROM whole w LEFT JOIN pg_catalog.pg_class c ON w.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
      AND c.oid = w.objid
 UNION ALL {_COUNTED}
"""
_SHOWN = 3


@dataclass(frozen=True)
class Content:
    """What schemas hold: all that emptying them would delete.

    :ivar tables: How many tables, and `rows` that the statistics believe to be in them.
    :ivar locks: How many locks their removal takes: on every relation, TOAST among them, and on every type,
        constraint, default, trigger, function and so on.
    :ivar bytes: Size on disk.
    :ivar objects: How many objects there are of each kind that is there, as `view`, in the order of their removal.
    """

    tables: int
    rows: int
    locks: int
    bytes: int
    objects: tuple[tuple[str, int], ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the schemas hold no object that a user made."""
        return not self.objects


_CONTENT = f"""
SELECT pg_catalog.count(*) FILTER (WHERE relkind IN ('r', 'p')),
       coalesce(pg_catalog.sum(greatest(reltuples, pg_catalog.pg_stat_get_live_tuples(c.oid)))
           FILTER (WHERE relkind = 'r'), 0)::pg_catalog.int8,
       coalesce(pg_catalog.sum({{}}) FILTER (WHERE relkind IN ('r', 'm', 'i')), 0)::pg_catalog.int8
  FROM pg_catalog.pg_class c
  LEFT JOIN pg_catalog.pg_depend d
         ON {MEMBER}
 WHERE d.objid IS NULL AND relnamespace = ANY(%s)
"""


def existing_schemas(connection: Connection, names: Collection[str]) -> dict[str, int]:
    """Tell which of these schemas exist, with their oids."""
    rows = connection.execute("SELECT nspname, oid FROM pg_catalog.pg_namespace WHERE nspname = ANY(%s)", [list(names)])
    return {str(name): int(oid) for name, oid in rows}


def other_schemas(connection: Connection, names: Collection[str]) -> list[str]:
    """Name the schemas of people that are not among these."""
    rows = connection.execute(
        f"SELECT nspname FROM pg_catalog.pg_namespace n WHERE {USER_SCHEMA} AND NOT nspname = ANY(%s) ORDER BY 1",
        [list(names)],
    )
    return [str(name) for (name,) in rows]


def read_content(connection: Connection, names: Collection[str], *, locked: bool = False) -> Content:
    """Measure what lies in schemas, without touching a table.

    :param locked: Others may hold locks that are not to be waited for: the catalogue's own estimate of sizes has to do.
    """
    estimate = "c.relpages::pg_catalog.int8 * pg_catalog.current_setting('block_size')::pg_catalog.int8"
    query: Any = _CONTENT.format(estimate if locked else "pg_catalog.pg_table_size(c.oid)")
    oids = list(existing_schemas(connection, names).values())
    row = connection.execute(query, [oids]).fetchone()
    counted = {kind: int(count) for kind, count in connection.execute(_LOCKED.encode(), {"schemas": oids})}
    assert row is not None  # noqa: S101 - an aggregate always gives a row
    tables, rows, size = row
    objects = tuple((kind.lower(), count) for kind, count in counted.items() if kind is not None and count)
    return Content(tables=int(tables), rows=int(rows), locks=counted[None], bytes=int(size), objects=objects)


def refuse_new_content(connection: Connection, names: Collection[str]) -> None:
    """Refuse to empty schemas that were empty when a person was shown what will be deleted.

    :raises OperationFailedError: They hold something now.
    """
    if not read_content(connection, names, locked=True).is_empty:
        raise OperationFailedError("the schemas were empty before, and hold something now; run it again to see what")


def refuse_dependents(connection: Connection, names: Collection[str], recreated: Iterable[str] = ()) -> None:
    """Refuse while anything outside the schemas depends on something inside them.

    :param recreated: Objects without a schema (`event trigger audit`) that may go, since the dump brings
        them back.
    :raises BadInputError: Something does; it names them.
    """
    oids = list(existing_schemas(connection, names).values())
    allowed = set(recreated)
    rows = connection.execute(_OUTSIDE.format(in_schemas=_IN_SCHEMAS).encode(), {"schemas": oids}).fetchall()
    rows += connection.execute(_OTHER_DEPENDENTS.encode(), {"schemas": oids, "recreated": list(allowed)}).fetchall()
    found = [
        (f"{kind} {identity}", reference) for kind, identity, reference in rows if not _allowed(kind, identity, allowed)
    ]
    if not found:
        return
    shown = format_list([f"{who} depends on {what}" for who, what in found], _SHOWN, "; ")
    raise BadInputError(
        f"Objects outside the schemas to be emptied depend on objects in them: {shown}. They would be deleted, "
        f"too. Nothing was touched. Drop them, run this again, and create them again."
    )


def table_dependents(connection: Connection, tables: Collection[int]) -> list[str]:
    """Say what depends on tables and would be lost if they were dropped; foreign keys are left aside.

    :param tables: Their oids, those of their partitions included.
    """
    query = _OUTSIDE.format(in_schemas=_OF_TABLES).encode()
    rows = connection.execute(query, {"tables": list(tables)}).fetchall()
    rows += connection.execute(
        "SELECT 'a subscription to', r.srrelid::pg_catalog.regclass::pg_catalog.text, 'it'"
        " FROM pg_catalog.pg_subscription_rel r WHERE r.srrelid = ANY(%s)",
        [list(tables)],
    ).fetchall()
    return [f"{kind} {identity} depends on {reference}" for kind, identity, reference in rows]


def _allowed(kind: str, identity: str, allowed: set[str]) -> bool:
    if kind == "publication relation":
        kind, identity = "publication", identity.rpartition(" in publication ")[2]
    # Before 16 a transform's identity has a word more than SQL wants.
    unquoted = identity.replace('"', "").replace(" on language ", " language ")
    return f"{kind} {unquoted}" in allowed


def lock_out_writers(connection: Connection, names: Collection[str], *, writable: bool = False) -> None:
    """Let nobody but us write to the tables of the schemas until the open transaction ends; all may read.

    :param writable: Leave tables aside that the role may not write to itself.
    """
    oids = list(existing_schemas(connection, names).values())
    condition = "c.relkind IN ('r', 'p')"
    if writable:
        condition += (
            " AND (pg_catalog.has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE')"
            " OR pg_catalog.pg_has_role(c.relowner, 'USAGE'))"
        )
    tables = _identities(connection, "pg_class", condition, oids)
    if tables:
        _lock(connection, tables, "SHARE")


def empty_schemas(connection: Connection, names: Collection[str], recreated: Iterable[str] = ()) -> None:
    """Drop every object of the schemas that no extension owns, in the open transaction.

    Tables and views are locked first, so that nobody can make something that depends on them in between; for the
    rest, dependents are looked for again before each DROP.

    :raises BadInputError: Something outside depends on something inside.
    :raises OperationFailedError: Something is left.
    """
    oids = list(existing_schemas(connection, names).values())
    if not oids:
        return
    tables = _identities(connection, "pg_class", "c.relkind IN ('r', 'p')", oids)
    if tables:
        _lock(connection, tables, "ACCESS EXCLUSIVE")
    for view in _identities(connection, "pg_class", "c.relkind = 'v'", oids):
        # LOCK TABLE would lock what the view reads, too, for which its owner may lack the right.
        _run(connection, "ALTER VIEW", [view], " RESET (security_barrier)")
    refuse_dependents(connection, names, recreated)
    for kind, catalogue, condition in _KINDS:
        found = _identities(connection, catalogue, condition, oids)
        if found:
            # A DROP may have waited for somebody, and types and functions can't be locked: look again each time.
            refuse_dependents(connection, names, recreated)
        for batch in [[each] for each in found] if kind in _SINGLY else [found] if found else []:
            _run(connection, f"DROP {kind} IF EXISTS", batch, " CASCADE")
    left = [name for _, catalogue, condition in _KINDS for name in _identities(connection, catalogue, condition, oids)]
    if left:
        raise OperationFailedError(f"{left[0]} could not be dropped")


def _lock(connection: Connection, tables: list[str], mode: str) -> None:
    """Lock tables, also those that their owner has no right to write to: the right goes with them."""
    rows = connection.execute(
        "SELECT t FROM pg_catalog.unnest(%s::pg_catalog.text[]) t, pg_catalog.pg_class c"
        " WHERE c.oid = t::pg_catalog.regclass"
        " AND NOT pg_catalog.has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE')"
        " AND pg_catalog.pg_has_role(c.relowner, 'USAGE')",
        [tables],
    ).fetchall()
    if rows:
        _run(connection, "GRANT UPDATE ON", [name for (name,) in rows], " TO CURRENT_USER")
    _run(connection, "LOCK TABLE", tables, f" IN {mode} MODE")


def _identities(connection: Connection, catalogue: str, condition: str, oids: list[int]) -> list[str]:
    identity = _DROP_NAMES.get(catalogue, _IDENTITY)
    query = _DROPPABLE.format(catalogue=catalogue, condition=condition, identity=identity)
    return [str(name) for (name,) in connection.execute(query.encode(), {"schemas": oids})]


def _run(connection: Connection, before: str, identities: Collection[str], after: str) -> None:
    # The server quotes each identity as SQL wants it.
    text: Any = f"{before} {', '.join(identities)}{after}"
    connection.execute(sql.SQL(text))
