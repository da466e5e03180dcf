"""Drop the constraints that refuse a table's rows, and describe them so that they can be added again.

These are CHECK constraints, and NOT NULL of domains, which PostgreSQL does not look at everywhere: composite types,
arrays and subqueries may bring a NULL into a table that its own dump can't.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .catalog_filters import PARTS_OF_TYPE

if TYPE_CHECKING:
    from .protocol import StatementStream


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
