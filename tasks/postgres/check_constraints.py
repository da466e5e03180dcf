"""Drop the CHECK constraints that refuse a table's rows, and describe them so that they can be added again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .protocol import StatementStream


# The constraints of the table, of its parents, and of the domains in its columns' types. A constraint is dropped in the
# table that defines it, the topmost table first; PostgreSQL drops the inherited ones with it.
_CHECKS = b"""
WITH RECURSIVE above(relid, depth) AS (
    SELECT %s::pg_catalog.regclass::pg_catalog.oid, 0
     UNION ALL
    SELECT i.inhparent, a.depth + 1 FROM above a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.relid
), kinds(typid) AS (
    SELECT a.atttypid FROM pg_catalog.pg_attribute a JOIN above b ON b.relid = a.attrelid
     WHERE b.depth = 0 AND a.attnum > 0 AND NOT a.attisdropped
     UNION
    SELECT p.typid FROM kinds d JOIN pg_catalog.pg_type t ON t.oid = d.typid
     CROSS JOIN LATERAL (SELECT t.typbasetype UNION ALL SELECT t.typelem
         UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = t.typrelid AND t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
         UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)) p(typid)
     WHERE p.typid <> 0
), found(depth, owner, conoid) AS (
    SELECT b.depth, 'TABLE ' || b.relid::pg_catalog.regclass::pg_catalog.text, k.oid
      FROM (SELECT relid, pg_catalog.max(depth) AS depth FROM above GROUP BY relid) b
      JOIN pg_catalog.pg_constraint k ON k.conrelid = b.relid WHERE k.contype = 'c' AND k.conislocal
     UNION ALL
    SELECT 0, 'DOMAIN ' || d.typid::pg_catalog.regtype::pg_catalog.text, k.oid
      FROM kinds d JOIN pg_catalog.pg_constraint k ON k.contypid = d.typid WHERE k.contype = 'c'
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.objid = d.typid AND e.deptype = 'e'
                          AND e.classid = 'pg_catalog.pg_type'::pg_catalog.regclass)
)
SELECT f.owner, pg_catalog.quote_ident(k.conname), pg_catalog.pg_get_constraintdef(k.oid),
       pg_catalog.quote_literal(pg_catalog.obj_description(k.oid, 'pg_constraint'))
  FROM found f JOIN pg_catalog.pg_constraint k ON k.oid = f.conoid ORDER BY f.depth DESC, f.owner, k.conname
"""


@dataclass(frozen=True)
class DroppedCheck:
    """A CHECK constraint that was dropped.

    :ivar owner: `TABLE …` or `DOMAIN …`, as SQL. `name` and `definition` are SQL, too.
    :ivar comment: The comment as a literal; empty without one.
    """

    owner: bytes
    name: bytes
    definition: bytes
    comment: bytes

    @property
    def statement(self) -> bytes:
        """Return the statement that adds the constraint again."""
        return b"ALTER %s ADD CONSTRAINT %s %s;" % (self.owner, self.name, self.definition)

    @property
    def comment_statement(self) -> bytes:
        """Return the statement that sets the constraint's comment again."""
        on = self.owner if self.owner.startswith(b"DOMAIN ") else self.owner.removeprefix(b"TABLE ")
        return b"COMMENT ON CONSTRAINT %s ON %s IS %s;" % (self.name, on, self.comment)


def drop_checks(stream: StatementStream, table: bytes) -> list[DroppedCheck]:
    """Drop the CHECK constraints that apply to a table's rows, in the open transaction, with an empty search_path.

    :param table: The table's name, as a literal.
    :return: The dropped constraints; add the last one first.
    """
    rows = [[part or b"" for part in row] for row in stream.ask(_CHECKS % table)]
    found = [
        DroppedCheck(owner=owner, name=name, definition=definition, comment=comment)
        for owner, name, definition, comment in rows
    ]
    for each in found:
        stream.run(stream.encoded(b"ALTER %s DROP CONSTRAINT %s" % (each.owner, each.name)))
    return found
