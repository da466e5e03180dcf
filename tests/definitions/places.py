"""The places where an expression can be defined, each as the statement that defines one there."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.definitions.expressions import COLUMNS, TYPES

_COLUMN: Final = re.compile(r"\$(\w+)")
_LIST: Final = ", ".join(f"{each.name} {each.type}" for each in COLUMNS)
_TABLES: Final = ("t", "indexed", "excluding", "guarded", "fired", *(f"ruled{at}" for at in range(10)))

SCHEMA: Final = f"""
{TYPES}
CREATE TABLE t (pk integer, {_LIST});
{"".join(f"CREATE TABLE {name} (LIKE t);" for name in _TABLES[1:])}
CREATE TABLE other (z integer, word varchar);
CREATE TYPE everything AS ({_LIST});
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
"""


@dataclass(frozen=True)
class Place:
    """A place.

    :ivar column: How a column is written there; with None there are no columns, but constants instead.
    :ivar statement: What defines an object there, with `{name}` and `{expression}`.
    :ivar kind: The kind of object that shows a difference, and `identity` its name, with `{name}`.
    :ivar subqueries: Whether subqueries may stand there.
    :ivar since: The first major that has it.
    """

    kind: str
    identity: str
    statement: str
    column: Callable[[str], str] | None = lambda name: name
    subqueries: bool = False
    since: int = 14

    def define(self, name: str, expression: str) -> str:
        """Write the statement."""
        if self.column is None:
            text = _COLUMN.sub(lambda found: _CONSTANTS[found[1]], expression)
        else:
            column = self.column
            text = _COLUMN.sub(lambda found: column(found[1]), expression)
        return _filled(self.statement, name).replace("{columns}", _used(expression)).replace("{expression}", text)

    def named(self, name: str) -> str:
        """Return the object's identity."""
        return _filled(self.identity, name)


def _filled(text: str, name: str) -> str:
    return text.replace("{name}", name).replace("{digit}", name[-1])


def _used(expression: str) -> str:
    used = set(_COLUMN.findall(expression))
    return ", ".join(["pk integer", *(f"{each.name} {each.type}" for each in COLUMNS if each.name in used)])


# A row of the table t with no column to refer to: a cast of a constant, or of NULL, which no parser folds.
_CONSTANTS: Final = {
    each.name: f"(({next((v for v in each.values if v[0] in chr(39) + '0123456789'), 'NULL')})::{each.type})"
    for each in COLUMNS
}

PLACES: Final[Mapping[str, Place]] = {
    "check": Place("constraint", "public.t.{name}", "ALTER TABLE t ADD CONSTRAINT {name} CHECK ({expression})"),
    "partial index": Place("index", "public.{name}", "CREATE INDEX {name} ON indexed (pk) WHERE {expression}"),
    "expression index": Place("index", "public.{name}", "CREATE INDEX {name} ON indexed (({expression}), pk)"),
    "exclusion": Place(
        "constraint",
        "public.excluding.{name}",
        "ALTER TABLE excluding ADD CONSTRAINT {name} EXCLUDE USING btree (({expression}) WITH =) WHERE ({expression})",
    ),
    "view": Place(
        "view",
        "public.{name}",
        "CREATE VIEW {name} AS SELECT {expression} AS e, pk FROM t WHERE {expression}",
        subqueries=True,
    ),
    "view of sets": Place(
        "view",
        "public.{name}",
        "CREATE VIEW {name} AS SELECT 1 AS one FROM t "
        "WHERE pk IN (SELECT pk FROM t WHERE {expression} UNION SELECT NULL)",
        subqueries=True,
    ),
    "materialized view": Place(
        "view",
        "public.{name}",
        "CREATE MATERIALIZED VIEW {name} AS SELECT {expression} AS e FROM t ORDER BY {expression} WITH NO DATA",
        subqueries=True,
    ),
    "policy": Place(
        "policy",
        "public.guarded.{name}",
        "CREATE POLICY {name} ON guarded USING ({expression}) WITH CHECK ({expression})",
        lambda name: f"guarded.{name}",
        subqueries=True,
    ),
    "trigger": Place(
        "trigger",
        "public.fired.{name}",
        "CREATE TRIGGER {name} BEFORE UPDATE ON fired FOR EACH ROW WHEN ({expression}) EXECUTE FUNCTION fire()",
        lambda name: f"NEW.{name}",
    ),
    "generated column": Place(
        "table",
        "public.{name}",
        "CREATE TABLE {name} ({columns}, g boolean GENERATED ALWAYS AS ({expression}) STORED)",
    ),
    "column default": Place("table", "public.{name}", "CREATE TABLE {name} (b boolean DEFAULT ({expression}))", None),
    "domain check": Place(
        "type",
        "public.{name}",
        "CREATE DOMAIN {name} AS everything CHECK ({expression})",
        lambda name: f"(VALUE).{name}",
    ),
    "domain default": Place("type", "public.{name}", "CREATE DOMAIN {name} AS boolean DEFAULT ({expression})", None),
    "rule": Place(
        "rule",
        "public.ruled{digit}.{name}",
        "CREATE RULE {name} AS ON UPDATE TO ruled{digit} WHERE {expression} DO ALSO INSERT INTO other SELECT 1, 'x' "
        "WHERE {expression}",
        lambda name: f"NEW.{name}",
        subqueries=True,
    ),
    "function": Place(
        "function",
        "public.{name}()",
        "CREATE FUNCTION {name}() RETURNS SETOF boolean LANGUAGE sql BEGIN ATOMIC "
        "UPDATE t SET yes = {expression} WHERE {expression}; SELECT {expression} FROM t; END",
        lambda name: f"t.{name}",
        subqueries=True,
    ),
    "argument default": Place(
        "function",
        "public.{name}(boolean)",
        "CREATE FUNCTION {name}(a boolean DEFAULT ({expression})) RETURNS boolean LANGUAGE sql AS 'SELECT $1'",
        None,
    ),
    "statistics": Place(
        "statistics", "public.{name}", "CREATE STATISTICS {name} ON ({expression}), pk FROM t", lambda name: f"t.{name}"
    ),
    "partition key": Place(
        "table",
        "public.{name}",
        "CREATE TABLE {name} ({columns}) PARTITION BY LIST (({expression}))",
    ),
    "publication": Place(
        "publication", "{name}", "CREATE PUBLICATION {name} FOR TABLE t WHERE ({expression})", since=15
    ),
}
