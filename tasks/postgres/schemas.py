"""Delete the content of schemas, and keep the schemas and everything outside them.

`DROP SCHEMA … CASCADE` would delete the schema's owner, grants, default privileges, comment and extensions, and also
dependent columns, views and constraints of other schemas. This module drops all objects of the schemas that belong to
no extension and keeps the schemas. It drops nothing if an object outside the schemas depends on one inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import BadInputError, OperationFailedError
from ..formatting import format_list
from .catalog_filters import IN_SCHEMA, NO_MEMBER, USER_SCHEMA, global_name
from .connection import Connection, one, read_names
from .constraints import run_text

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


# Catalogues of parts of other objects: class, column of the other object, class of that object.
_BELONGING = (
    ("pg_attrdef", "adrelid", "pg_class"),
    ("pg_rewrite", "ev_class", "pg_class"),
    ("pg_trigger", "tgrelid", "pg_class"),
    ("pg_policy", "polrelid", "pg_class"),
    ("pg_constraint", "contypid", "pg_type"),
    ("pg_amop", "amopfamily", "pg_opfamily"),
    ("pg_amproc", "amprocfamily", "pg_opfamily"),
)
# An extension's objects and their internal parts (array types, row types, TOAST).
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
_IN_SCHEMAS_OF = {
    name: f"SELECT 'pg_catalog.{name}'::pg_catalog.regclass::pg_catalog.oid, c.oid FROM pg_catalog.{name} c"
    f" WHERE c.{prefix}namespace = ANY(%(schemas)s)"
    for name, prefix in IN_SCHEMA
}
_IN_SCHEMAS = " UNION ALL ".join(_IN_SCHEMAS_OF.values())
_PARTS = " UNION ALL ".join(
    f"SELECT 'pg_catalog.{name}'::pg_catalog.regclass::pg_catalog.oid, c.oid FROM pg_catalog.{name} c"
    f" JOIN inside i ON i.classid = 'pg_catalog.{owner}'::pg_catalog.regclass AND i.objid = c.{column}"
    for name, column, owner in _BELONGING
)
_DEPENDENTS = f"""{_MEMBERS}, whole(classid, objid) AS (
    SELECT * FROM inside UNION {_PARTS}
)
SELECT DISTINCT 1, o.type, o.identity, (pg_catalog.pg_identify_object(d.refclassid, d.refobjid, 0)).identity
  FROM pg_catalog.pg_depend d
  JOIN whole w ON (d.refclassid, d.refobjid) = (w.classid, w.objid)
  LEFT JOIN whole s ON (d.classid, d.objid) = (s.classid, s.objid)
  LEFT JOIN pg_catalog.pg_class t ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND t.oid = d.objid,
       pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) o
 WHERE s.objid IS NULL
   AND (d.deptype NOT IN ('e', 'i') OR (d.deptype = 'i' AND d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass))
   AND (t.oid IS NULL OR t.relnamespace <> 'pg_toast'::pg_catalog.regnamespace)
"""
# Also dependencies that are not in pg_depend: parent tables outside that would lose the rows of their children inside,
# subscriptions that fill tables inside, and publications that the dump creates again but that also have tables outside.
_OUTSIDE = f"""{_DEPENDENTS.format(in_schemas=_IN_SCHEMAS)} UNION ALL
SELECT 2, 'table', i.inhparent::pg_catalog.regclass::pg_catalog.text, i.inhrelid::pg_catalog.regclass::pg_catalog.text
  FROM pg_catalog.pg_inherits i
  JOIN pg_catalog.pg_class p ON p.oid = i.inhparent JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
 WHERE c.relnamespace = ANY(%(schemas)s) AND NOT p.relnamespace = ANY(%(schemas)s) AND p.relkind IN ('r', 'p')
 UNION ALL
SELECT 2, 'a subscription to', r.srrelid::pg_catalog.regclass::pg_catalog.text,
    r.srrelid::pg_catalog.regclass::pg_catalog.text
  FROM pg_catalog.pg_subscription_rel r JOIN pg_catalog.pg_class c ON c.oid = r.srrelid
 WHERE c.relnamespace = ANY(%(schemas)s)
 UNION ALL
SELECT 2, 'table', r.prrelid::pg_catalog.regclass || ' in publication ' || pg_catalog.quote_ident(p.pubname),
    p.pubname::pg_catalog.text
  FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
  JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
 WHERE NOT c.relnamespace = ANY(%(schemas)s) AND 'publication ' || p.pubname = ANY(%(recreated)s)
 ORDER BY 1, 2, 3, 4
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
# The kinds of objects in the order of their DROP.
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
# These are locked before anything is dropped.
_LOCKABLE = tuple(each for each in _KINDS if each[0] in {"TABLE", "VIEW"})
# DROP accepts only one object of these kinds.
_SINGLY = frozenset({"OPERATOR CLASS", "OPERATOR FAMILY"})
# Objects that are dropped with their owner (array types, identity sequences, inner types of ranges) are not dropped by
# name. A partitioned table depends on its own key columns in the same way, and is not excluded.
_OF_OWNER = """EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE (d.classid, d.objid) = (i.classid, i.objid) AND d.deptype = 'i'
                      AND (d.refclassid, d.refobjid) <> (d.classid, d.objid))"""
# Names for DROP. Input types alone are ambiguous for procedures that differ only in OUT arguments. An aggregate
# without arguments needs (*). A type's identity may look like an array of another type.
_DROP_NAMES = {
    "pg_proc": """pg_catalog.format('%%s.%%I(%%s)', c.pronamespace::pg_catalog.regnamespace, c.proname,
        CASE WHEN c.prokind = 'a' AND c.pronargs = 0 THEN '*'
            ELSE pg_catalog.pg_get_function_identity_arguments(c.oid) END)""",
    "pg_type": "pg_catalog.format('%%s.%%I', c.typnamespace::pg_catalog.regnamespace, c.typname)",
}
_IDENTITY = "(pg_catalog.pg_identify_object(i.classid, i.objid, 0)).identity"


def _objects(kinds: Sequence[tuple[str, str, str]], name: str = "") -> str:
    """Return SQL of the kind and the name of each object inside that DROP names.

    The kinds of a catalogue share a query, and so do the catalogues with one kind: each query takes time to plan.

    :param name: SQL of the name, instead of the one that DROP takes.
    """
    several: dict[str, list[tuple[str, str]]] = {}
    single = []
    for kind, catalogue, condition in kinds:
        if condition == "true" and catalogue not in _DROP_NAMES:
            single.append(f"('pg_catalog.{catalogue}'::pg_catalog.regclass::pg_catalog.oid, '{kind}')")
        else:
            several.setdefault(catalogue, []).append((kind, condition))
    parts = [
        f"""
        SELECT CASE {" ".join(f"WHEN {condition} THEN '{kind}'" for kind, condition in cases)} END,
               {name or _DROP_NAMES.get(catalogue, _IDENTITY)}
          FROM inside i JOIN pg_catalog.{catalogue} c ON c.oid = i.objid
         WHERE i.classid = 'pg_catalog.{catalogue}'::pg_catalog.regclass
           AND ({" OR ".join(condition for _, condition in cases)}) AND NOT {_OF_OWNER}"""
        for catalogue, cases in several.items()
    ]
    if single:
        parts.append(f"""
        SELECT k.kind, {name or _IDENTITY}
          FROM inside i JOIN (VALUES {", ".join(single)}) AS k(classid, kind) ON k.classid = i.classid
         WHERE NOT {_OF_OWNER}""")
    return " UNION ALL ".join(parts)


# First a row without a kind, with the number of locks; then the number of objects of each kind.
_LOCKED = f"""{_MEMBERS.format(in_schemas=_IN_SCHEMAS)}, whole(classid, objid) AS (
    SELECT * FROM inside UNION {_PARTS}
)
SELECT NULL, pg_catalog.count(*) + 2 * pg_catalog.count(*) FILTER (WHERE c.reltoastrelid <> 0)
  FROM whole w LEFT JOIN pg_catalog.pg_class c ON w.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
      AND c.oid = w.objid
 UNION ALL SELECT o.kind, pg_catalog.count(*) FROM ({_objects(_KINDS, "''")}) AS o(kind, name) GROUP BY o.kind
"""
_SHOWN = 3


@dataclass(frozen=True)
class Content:
    """The content of schemas, which emptying them would delete.

    :ivar tables: The number of tables.
    :ivar rows: The number of rows, as the statistics estimate it.
    :ivar locks: The number of locks that deleting takes: on each relation (with TOAST), type, constraint, default,
        trigger, function and so on.
    :ivar bytes: The size on disk.
    :ivar objects: The number of objects of each existing kind, such as `view`, in the order of their DROP.
    """

    tables: int
    rows: int
    locks: int
    bytes: int
    objects: tuple[tuple[str, int], ...] = ()

    @property
    def is_empty(self) -> bool:
        """Return whether the schemas contain no object of a user."""
        return not self.objects


_CONTENT = f"""
SELECT pg_catalog.count(*) FILTER (WHERE relkind IN ('r', 'p')),
       coalesce(pg_catalog.sum(greatest(reltuples, pg_catalog.pg_stat_get_live_tuples(c.oid)))
           FILTER (WHERE relkind = 'r'), 0)::pg_catalog.int8,
       coalesce(pg_catalog.sum({{}}) FILTER (WHERE relkind IN ('r', 'm', 'i')), 0)::pg_catalog.int8
  FROM pg_catalog.pg_class c
 WHERE relnamespace = ANY(%s) AND {NO_MEMBER}
"""


def existing_schemas(connection: Connection, names: Collection[str]) -> dict[str, int]:
    """Return the schemas that exist, with their oids."""
    rows = connection.execute("SELECT nspname, oid FROM pg_catalog.pg_namespace WHERE nspname = ANY(%s)", [list(names)])
    return {str(name): int(oid) for name, oid in rows}


def other_schemas(connection: Connection, names: Collection[str]) -> list[str]:
    """Return the user schemas that are not in `names`."""
    query = f"SELECT nspname FROM pg_catalog.pg_namespace n WHERE {USER_SCHEMA} AND NOT nspname = ANY(%s) ORDER BY 1"
    return list(read_names(connection, query, [list(names)]))


def read_content(connection: Connection, names: Collection[str], *, locked: bool = False) -> Content:
    """Return the number and size of the objects in schemas, without reading a table.

    :param locked: Do not wait for locks of other sessions; use the catalogue's estimate of sizes.
    """
    estimate = "c.relpages::pg_catalog.int8 * pg_catalog.current_setting('block_size')::pg_catalog.int8"
    query = _CONTENT.format(estimate if locked else "pg_catalog.pg_table_size(c.oid)").encode()
    oids = list(existing_schemas(connection, names).values())
    tables, rows, size = one(connection, query, [oids])
    counted = {kind: int(count) for kind, count in connection.execute(_LOCKED.encode(), {"schemas": oids})}
    objects = tuple((kind.lower(), counted[kind]) for kind, _, _ in _KINDS if kind in counted)
    return Content(tables=int(tables), rows=int(rows), locks=counted[None], bytes=int(size), objects=objects)


def read_table_names(connection: Connection, names: Collection[str]) -> list[tuple[str, str]]:
    """Return schema and name of the tables that :attr:`Content.tables` counts."""
    rows = connection.execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
        f" ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY(%s) AND {NO_MEMBER}"
        " ORDER BY 1, 2",
        [list(names)],
    )
    return [(str(schema), str(name)) for schema, name in rows]


def refuse_new_content(connection: Connection, names: Collection[str]) -> None:
    """Raise if schemas that were empty when the user confirmed are not empty any more.

    :raises OperationFailedError: They contain objects now.
    """
    if not read_content(connection, names, locked=True).is_empty:
        raise OperationFailedError(
            "the schemas were empty before, but now contain objects; run this again to see them before they are deleted"
        )


def refuse_dependents(connection: Connection, names: Collection[str], recreated: Collection[str] = ()) -> None:
    """Raise if an object outside the schemas depends on an object inside them.

    :param recreated: Objects without a schema (`event trigger audit`) that may be deleted, because the dump creates
        them again.
    :raises BadInputError: There is such an object. The message names it.
    """
    oids = list(existing_schemas(connection, names).values())
    rows = connection.execute(_OUTSIDE.encode(), {"schemas": oids, "recreated": list(recreated)})
    found = [
        f"{kind} {identity} depends on {reference}"
        for _, kind, identity, reference in rows
        if not _allowed(kind, identity, recreated)
    ]
    if found:
        raise BadInputError(
            "Objects outside the schemas to be emptied depend on objects in them: "
            f"{format_list(found, _SHOWN, '; ')}. They would be deleted, too.",
            state="Nothing was touched.",
            fix="Drop them, run this again, then create them again.",
        )


def table_dependents(connection: Connection, tables: Collection[int]) -> list[str]:
    """Say what depends on tables and would be lost if they were dropped; foreign keys are left aside.

    :param tables: Their oids, those of their partitions included.
    """
    query = _DEPENDENTS.format(in_schemas=_OF_TABLES).encode()
    rows = connection.execute(query, {"tables": list(tables)}).fetchall()
    rows += connection.execute(
        "SELECT 2, 'a subscription to', r.srrelid::pg_catalog.regclass::pg_catalog.text, 'it'"
        " FROM pg_catalog.pg_subscription_rel r WHERE r.srrelid = ANY(%s)",
        [list(tables)],
    ).fetchall()
    return [f"{kind} {identity} depends on {reference}" for _, kind, identity, reference in rows]


def _allowed(kind: str, identity: str, allowed: Collection[str]) -> bool:
    if kind == "publication relation":
        kind, identity = "publication", identity.rpartition(" in publication ")[2]
    return global_name(kind, identity) in allowed


def lock_out_writers(connection: Connection, names: Collection[str], *, writable: bool = False) -> None:
    """Lock the tables of the schemas against writes of other sessions, until the open transaction ends.

    :param writable: Lock only tables that the role itself may write to.
    """
    oids = list(existing_schemas(connection, names).values())
    condition = "c.relkind IN ('r', 'p')"
    if writable:
        condition += (
            " AND (pg_catalog.has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE')"
            " OR pg_catalog.pg_has_role(c.relowner, 'USAGE'))"
        )
    if tables := _identities(connection, oids, [("TABLE", "pg_class", condition)]).get("TABLE"):
        _lock(connection, tables, "SHARE")


def empty_schemas(connection: Connection, names: Collection[str], recreated: Collection[str] = ()) -> None:
    """Drop all objects of the schemas that belong to no extension, in the open transaction.

    Tables and views are locked first, so that no other session can create a dependent object. For the other kinds,
    dependents are searched again before a DROP if another session has committed something meanwhile.

    :raises BadInputError: An object outside the schemas depends on one inside.
    :raises OperationFailedError: An object could not be dropped.
    """
    oids = list(existing_schemas(connection, names).values())
    if not oids:
        return
    lockable = _identities(connection, oids, _LOCKABLE)
    if tables := lockable.get("TABLE"):
        _lock(connection, tables, "ACCESS EXCLUSIVE")
        lockable = _identities(connection, oids, _LOCKABLE)
    for view in lockable.get("VIEW", ()):
        # LOCK TABLE would also lock the tables of the view, which its owner may have no privilege for.
        run_text(connection, f"ALTER VIEW {view} RESET (security_barrier)")
    found: dict[str, list[str]] = {}
    seen, looks = "", True
    for kind, _, _ in _KINDS:
        # A DROP may have waited for another session, and types and functions can't be locked.
        if looks and (snapshot := _snapshot(connection)) != seen:
            seen, found = snapshot, _identities(connection, oids)
            refuse_dependents(connection, names, recreated)
        identities = found.get(kind, [])
        looks = bool(identities)
        for batch in [[each] for each in identities] if kind in _SINGLY else [identities] * looks:
            run_text(connection, f"DROP {kind} IF EXISTS {', '.join(batch)} CASCADE")
    left = _identities(connection, oids) if found else {}
    if remaining := [name for kind, _, _ in _KINDS for name in left.get(kind, ())]:
        raise OperationFailedError(f"{remaining[0]} could not be dropped")


def _snapshot(connection: Connection) -> str:
    """Return which transactions of other sessions are visible; equal texts mean that none has ended in between."""
    return str(one(connection, "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text")[0])


def _lock(connection: Connection, tables: list[str], mode: str) -> None:
    """Lock tables. If the owner lacks the privilege, grant it; it is dropped with the table."""
    closed = read_names(
        connection,
        "SELECT t FROM pg_catalog.unnest(%s::pg_catalog.text[]) t, pg_catalog.pg_class c"
        " WHERE c.oid = t::pg_catalog.regclass"
        " AND NOT pg_catalog.has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE')"
        " AND pg_catalog.pg_has_role(c.relowner, 'USAGE')",
        [tables],
    )
    if closed:
        run_text(connection, f"GRANT UPDATE ON {', '.join(closed)} TO CURRENT_USER")
    run_text(connection, f"LOCK TABLE {', '.join(tables)} IN {mode} MODE")


def _identities(
    connection: Connection, oids: list[int], kinds: Sequence[tuple[str, str, str]] = _KINDS
) -> dict[str, list[str]]:
    """Return the names of the objects in schemas by kind, as DROP takes them."""
    in_schemas = " UNION ALL ".join(_IN_SCHEMAS_OF[name] for name in dict.fromkeys(name for _, name, _ in kinds))
    query = f"{_MEMBERS.format(in_schemas=in_schemas)} {_objects(kinds)} ORDER BY 2"
    found: dict[str, list[str]] = {}
    for kind, name in connection.execute(query.encode(), {"schemas": oids}):
        found.setdefault(str(kind), []).append(str(name))
    return found
