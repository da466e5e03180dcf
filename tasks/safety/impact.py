"""Find what exists of the objects that a dump touches and did not create."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..dumpformat.manifest import TouchKind
from ..dumpformat.touches import is_system_schema
from ..formatting import show_name
from ..postgres.catalog_filters import NO_MEMBER, USER_SCHEMA, no_member_of_class
from ..postgres.schemas import lock_out_writers, other_schemas

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ..dumpformat.manifest import Touch
    from ..postgres.connection import Connection


# Objects of extensions are left aside where a dump may only grant on them or set their sequences.
_FOUND = f"""
SELECT t.at, n.nspname, CASE WHEN c.relkind = 'r' THEN greatest(c.reltuples, pg_catalog.pg_stat_get_live_tuples(c.oid))
                             END::pg_catalog.int8
  FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::pg_catalog.text[]),
                  pg_catalog.unnest(%(names)s::pg_catalog.text[])) WITH ORDINALITY AS t(schema, name, at)
  JOIN pg_catalog.pg_class c ON c.relname = t.name
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND (t.schema = '' OR n.nspname = t.schema)
 WHERE c.relkind <> 't' AND n.nspname !~ '^pg_(toast|temp)'
   AND (t.at = ANY(%(rows)s) OR {NO_MEMBER})
UNION ALL
SELECT t.at, n.nspname, NULL
  FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::pg_catalog.text[]),
                  pg_catalog.unnest(%(names)s::pg_catalog.text[])) WITH ORDINALITY AS t(schema, name, at)
  JOIN (SELECT proname AS name, pronamespace AS namespace, 'pg_catalog.pg_proc'::pg_catalog.regclass AS class, oid
          FROM pg_catalog.pg_proc
         UNION ALL SELECT typname, typnamespace, 'pg_catalog.pg_type'::pg_catalog.regclass, oid
          FROM pg_catalog.pg_type WHERE typrelid = 0 AND typelem = 0) o ON o.name = t.name
  JOIN pg_catalog.pg_namespace n ON n.oid = o.namespace AND (t.schema = '' OR n.nspname = t.schema)
 WHERE NOT t.at = ANY(%(rows)s) AND {no_member_of_class("o.class", "o.oid")}
"""
_FILLED = f"""
SELECT n.nspname
  FROM pg_catalog.pg_namespace n
 WHERE {USER_SCHEMA} AND EXISTS (
       SELECT FROM (SELECT relnamespace AS namespace, 'pg_catalog.pg_class'::pg_catalog.regclass AS class, oid
                      FROM pg_catalog.pg_class
                     UNION ALL SELECT pronamespace, 'pg_catalog.pg_proc'::pg_catalog.regclass, oid
                                 FROM pg_catalog.pg_proc
                     UNION ALL SELECT typnamespace, 'pg_catalog.pg_type'::pg_catalog.regclass, oid
                                 FROM pg_catalog.pg_type
                                WHERE typtype <> 'c' AND typelem = 0
                     UNION ALL SELECT collnamespace, 'pg_catalog.pg_collation'::pg_catalog.regclass, oid
                                 FROM pg_catalog.pg_collation
                     UNION ALL SELECT oprnamespace, 'pg_catalog.pg_operator'::pg_catalog.regclass, oid
                                 FROM pg_catalog.pg_operator) o
        WHERE o.namespace = n.oid AND {no_member_of_class("o.class", "o.oid")})
"""


@dataclass(frozen=True)
class Impact:
    """An existing object that a dump may change or delete.

    :ivar touch: How.
    :ivar schema: Where it lies; empty for anything in the database, and then `name` is empty, too.
    :ivar name: Empty for something in the schema.
    :ivar rows: How many rows the statistics believe to be in it; None for what is no table.
    """

    touch: Touch
    schema: str = ""
    name: str = ""
    rows: int | None = None

    @property
    def label(self) -> str:
        """What it is, for people."""
        if self.name:
            return show_name((self.schema, self.name))
        return f"something in the schema {show_name(('', self.schema))}" if self.schema else "anything in the database"


def find_impacts(connection: Connection, touches: Sequence[Touch], emptied: Collection[str]) -> tuple[Impact, ...]:
    """Return the existing objects that a dump may change or delete, in the order of its lines.

    :param touches: What it touches and did not create.
    :param emptied: Schemas that are emptied before the dump is loaded: nothing of them is left to touch.
    """
    left = [each for each in touches if not each.schema or each.schema not in emptied]
    wanted = [each for each in left if each.kind is not TouchKind.ADDS]
    if not wanted:
        return ()
    filled = {str(name) for (name,) in connection.execute(_FILLED)}
    named = [each for each in wanted if each.name]
    rows = connection.execute(
        _FOUND,
        {
            "schemas": [each.schema for each in named],
            "names": [each.name for each in named],
            "rows": [at for at, each in enumerate(named, 1) if each.kind is TouchKind.ROWS],
        },
    ).fetchall()
    there: dict[int, list[Impact]] = {}
    for at, schema, count in rows:
        touch = named[int(at) - 1]
        there.setdefault(id(touch), []).append(
            Impact(touch, str(schema), touch.name, None if count is None else int(count))
        )
    found: list[Impact] = []
    for touch in wanted:
        met = [each for each in there.get(id(touch), []) if each.schema not in emptied]
        if met:
            found += {(each.schema, each.name): each for each in met}.values()
        elif touch.kind is TouchKind.ANYTHING or (touch.kind is TouchKind.ROWS and id(touch) not in there):
            # Rows of what is not here by that name are those of something else: of a table behind a view, or a renamed
            # one. In a database that holds nothing there is nothing to lose.
            found += [Impact(touch)] if filled - set(emptied) else []
        elif not touch.name and (touch.schema in filled or is_system_schema(touch.schema)):
            found.append(Impact(touch, touch.schema))
    return tuple(found)


def lock_touched_tables(connection: Connection, found: Sequence[Impact]) -> None:
    """Let no other session write to tables that a dump may change, until the open transaction ends.

    Tables that the role itself may not write to are left aside.
    """
    anything = any(not each.schema for each in found)
    names = other_schemas(connection, ()) if anything else sorted({each.schema for each in found})
    lock_out_writers(connection, [name for name in names if not is_system_schema(name)], writable=True)
