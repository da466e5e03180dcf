"""Find existing objects that a dump changes or deletes, or whose names it creates again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..dumpformat.manifest import Touch, TouchKind
from ..dumpformat.tokens import is_system_schema
from ..formatting import show_name
from ..postgres.catalog_filters import IN_SCHEMA, NO_MEMBER, USER_SCHEMA, no_member_of_class
from ..postgres.connection import Connection, read_names
from ..postgres.schemas import lock_out_writers, other_schemas

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


# Objects in schemas other than relations, functions, types and constraints.
_OTHERS = " UNION ALL ".join(
    f"SELECT {prefix}name AS name, {prefix}namespace AS namespace,"
    f" 'pg_catalog.{catalogue}'::pg_catalog.regclass AS class, oid FROM pg_catalog.{catalogue}"
    for catalogue, prefix in IN_SCHEMA
    if catalogue not in {"pg_class", "pg_proc", "pg_type", "pg_constraint"}
)
# Relations, functions, and types that belong to neither.
_OBJECTS = """
SELECT relname AS name, relnamespace AS namespace, 'pg_catalog.pg_class'::pg_catalog.regclass AS class, oid
  FROM pg_catalog.pg_class WHERE relkind <> 't'
 UNION ALL
SELECT proname, pronamespace, 'pg_catalog.pg_proc'::pg_catalog.regclass, oid FROM pg_catalog.pg_proc
 UNION ALL
SELECT typname, typnamespace, 'pg_catalog.pg_type'::pg_catalog.regclass, oid
  FROM pg_catalog.pg_type WHERE typrelid = 0 AND typelem = 0
"""
# Includes objects of extensions, with a mark: a dump may grant on them, or add rows to their tables.
_FOUND = f"""
SELECT t.at, n.nspname, CASE WHEN c.relkind = 'r' THEN greatest(c.reltuples, pg_catalog.pg_stat_get_live_tuples(c.oid))
                             END::pg_catalog.int8,
       EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e')
  FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::pg_catalog.text[]),
                  pg_catalog.unnest(%(names)s::pg_catalog.text[])) WITH ORDINALITY AS t(schema, name, at)
  JOIN ({_OBJECTS}) o ON o.name = t.name
  JOIN pg_catalog.pg_namespace n ON n.oid = o.namespace AND n.nspname = t.schema
  LEFT JOIN pg_catalog.pg_class c ON o.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = o.oid
 WHERE n.nspname !~ '^pg_(toast|temp)'
"""
_FILLED = f"""
SELECT n.nspname
  FROM pg_catalog.pg_namespace n
 WHERE {USER_SCHEMA} AND EXISTS (
       SELECT FROM ({_OBJECTS} UNION ALL {_OTHERS}) o
        WHERE o.namespace = n.oid AND {no_member_of_class("o.class", "o.oid")})
"""


_EXISTING = f"""
SELECT n.nspname, c.relname, CASE WHEN c.relkind = 'r'
           THEN greatest(c.reltuples, pg_catalog.pg_stat_get_live_tuples(c.oid)) END::pg_catalog.int8 AS count
  FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::pg_catalog.text[]),
                  pg_catalog.unnest(%(names)s::pg_catalog.text[])) AS t(schema, name)
  JOIN pg_catalog.pg_class c ON c.relname = t.name AND c.relkind NOT IN ('i', 'I', 't', 'c')
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND (t.schema = '' OR n.nspname = t.schema)
 WHERE n.nspname !~ '^pg_' AND {NO_MEMBER}
UNION
SELECT n.nspname, t.name, NULL
  FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::pg_catalog.text[]),
                  pg_catalog.unnest(%(names)s::pg_catalog.text[])) AS t(schema, name)
  JOIN (SELECT proname AS name, pronamespace AS namespace, 'pg_catalog.pg_proc'::pg_catalog.regclass AS class, oid
          FROM pg_catalog.pg_proc
         UNION ALL SELECT typname, typnamespace, 'pg_catalog.pg_type'::pg_catalog.regclass, y.oid
          FROM pg_catalog.pg_type y WHERE y.typelem = 0 AND (y.typrelid = 0 OR EXISTS (
              SELECT FROM pg_catalog.pg_class r WHERE r.oid = y.typrelid AND r.relkind = 'c'))
         UNION ALL ({_OTHERS})) o ON o.name = t.name
  JOIN pg_catalog.pg_namespace n ON n.oid = o.namespace AND (t.schema = '' OR n.nspname = t.schema)
 WHERE n.nspname !~ '^pg_' AND {no_member_of_class("o.class", "o.oid")}
 ORDER BY count DESC NULLS LAST, 1, 2
"""


@dataclass(frozen=True)
class ExistingObject:
    """An existing object with the same name as one that a dump creates.

    :ivar name: Schema and name, for display.
    :ivar rows: The number of rows according to the statistics; None if it is not a table.
    :ivar dropped: Whether the dump drops it first. Otherwise CREATE fails, or has no effect (IF NOT EXISTS).
    """

    name: str
    rows: int | None
    dropped: bool


def find_existing(connection: Connection, names: Mapping[tuple[str, str], bool]) -> tuple[ExistingObject, ...]:
    """Return the objects in schemas that have one of these names, the largest tables first.

    :param names: Schema and name; the value is whether the dump drops such an object. An empty schema means any.
    """
    keys = list(names)
    if not keys:
        return ()
    rows = connection.execute(
        _EXISTING.encode(), {"schemas": [key[0] for key in keys], "names": [key[1] for key in keys]}
    )
    return tuple(
        ExistingObject(
            name=show_name((str(schema), str(name))),
            rows=None if count is None else max(int(count), 0),
            dropped=names.get((str(schema), str(name)), False) or names.get(("", str(name)), False),
        )
        for schema, name, count in rows
    )


@dataclass(frozen=True)
class Impact:
    """An existing object that a dump may change or delete.

    :ivar touch: How the dump changes it.
    :ivar schema: Its schema; empty for any object of the database, and then `name` is empty, too.
    :ivar name: Empty for any object of the schema.
    :ivar rows: The number of rows according to the statistics; None if it is not a table.
    """

    touch: Touch
    schema: str = ""
    name: str = ""
    rows: int | None = None

    @property
    def cascades(self) -> bool:
        """Return whether objects of any schema that depend on it are changed or deleted with it."""
        return self.touch.how.endswith("CASCADE")

    @property
    def label(self) -> str:
        """Return its name or description for display."""
        if self.name:
            return show_name((self.schema, self.name))
        return f"something in the schema {show_name(('', self.schema))}" if self.schema else "anything in the database"


def find_impacts(connection: Connection, touches: Sequence[Touch], emptied: Collection[str]) -> tuple[Impact, ...]:
    """Return the existing objects that a dump may change or delete, in the order of its lines.

    :param touches: The objects that the dump changes but does not create.
    :param emptied: Schemas that are emptied before the dump is loaded; their objects are left out.
    """
    left = [each for each in touches if each.schema not in emptied or each.kind is TouchKind.ADDS]
    if not left:
        return ()
    filled = filled_schemas(connection)
    named = [each for each in left if each.name]
    query = {"schemas": [each.schema for each in named], "names": [each.name for each in named]}
    there: dict[int, list[Impact]] = {}
    extensions: set[int] = set()
    for at, schema, count, of_extension in connection.execute(_FOUND, query).fetchall():
        touch = named[int(at) - 1]
        if of_extension and touch.kind is not TouchKind.ROWS:
            extensions.add(id(touch))
        elif touch.schema not in emptied:
            rows = None if count is None else int(count)
            there.setdefault(id(touch), []).append(Impact(touch=touch, schema=str(schema), name=touch.name, rows=rows))
    found: list[Impact] = []
    for touch in left:
        if matches := there.get(id(touch)):
            found += {(each.schema, each.name): each for each in matches}.values()
        elif touch.kind is TouchKind.ANYTHING or (
            touch.kind in {TouchKind.ROWS, TouchKind.ADDS} and id(touch) not in extensions
        ):
            # No object has this name, so the rows may be of any other: of the table behind a view, or a renamed one.
            found += [Impact(touch=touch)] if filled - set(emptied) else []
        elif not touch.name and (touch.schema in filled or is_system_schema(touch.schema)):
            found.append(Impact(touch=touch, schema=touch.schema))
    return tuple(found)


def filled_schemas(connection: Connection) -> set[str]:
    """Return the schemas that hold an object of any kind, except objects of extensions."""
    return set(read_names(connection, _FILLED.encode()))


def lock_touched_tables(connection: Connection, found: Sequence[Impact]) -> None:
    """Lock the tables that a dump may change against writes of other sessions, until the open transaction ends.

    Tables that the role may not write to are not locked.
    """
    anything = any(not each.schema or each.cascades for each in found)
    names = other_schemas(connection, ()) if anything else sorted({each.schema for each in found})
    lock_out_writers(connection, [name for name in names if not is_system_schema(name)], writable=True)
