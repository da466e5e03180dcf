"""Read from the catalogue which tables several sessions may load at once.

The rows of a table do not depend on those of others, nor on their order, if it has no foreign key, trigger, rule or row
security, and if no expression that is evaluated for a row (CHECK, generated column, domain, index, partition bound)
calls a function that PostgreSQL does not have itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..postgres.catalog_filters import USER_SCHEMA

if TYPE_CHECKING:
    from ..postgres.connection import Connection

    Key = tuple[str, str]


# Objects with a lower oid came with the database (PostgreSQL's access/transam.h).
_TABLES = f"""
WITH RECURSIVE code(classid, objid) AS (
    SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, oid FROM pg_catalog.pg_proc WHERE oid >= 16384
    UNION ALL
    SELECT 'pg_catalog.pg_operator'::pg_catalog.regclass, oid FROM pg_catalog.pg_operator WHERE oid >= 16384
    UNION ALL
    SELECT 'pg_catalog.pg_opclass'::pg_catalog.regclass, oid FROM pg_catalog.pg_opclass WHERE oid >= 16384
), called(classid, objid) AS (
    SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
      JOIN code c ON c.classid = d.refclassid AND c.objid = d.refobjid
), domains(oid) AS (
    SELECT k.contypid FROM called c JOIN pg_catalog.pg_constraint k
        ON c.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = c.objid
     WHERE k.contypid <> 0
    UNION
    SELECT CASE WHEN r.oid IS NULL THEN d.objid ELSE r.reltype END FROM domains t
      JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.refobjid = t.oid
      LEFT JOIN pg_catalog.pg_class r ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND r.oid = d.objid
     WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass OR r.reltype <> 0
), calling(classid, objid) AS (
    SELECT classid, objid FROM called
    UNION
    SELECT d.classid, d.objid FROM domains t
      JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.refobjid = t.oid
), calls(oid) AS (
    SELECT k.conrelid FROM calling c JOIN pg_catalog.pg_constraint k
        ON c.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = c.objid
    UNION
    SELECT v.adrelid FROM calling c JOIN pg_catalog.pg_attrdef v
        ON c.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND v.oid = c.objid
      JOIN pg_catalog.pg_attribute a ON a.attrelid = v.adrelid AND a.attnum = v.adnum AND a.attgenerated <> ''
    UNION
    SELECT coalesce(i.indrelid, c.objid) FROM calling c LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.objid
     WHERE c.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
)
SELECT n.nspname, c.relname,
       NOT (c.relhastriggers OR c.relhasrules OR c.relrowsecurity)
       AND NOT EXISTS (SELECT FROM calls f WHERE f.oid = c.oid)
       AND (NOT c.relispartition OR NOT EXISTS (
            SELECT FROM pg_catalog.pg_partition_ancestors(c.oid) a JOIN calls f ON f.oid = a.relid)),
       c.relhasindex,
       ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                AND (a.atthasdef OR a.attidentity <> ''))
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {USER_SCHEMA}
"""
_RELATIONS = f"""
SELECT n.nspname, c.relname, c.relkind = 'p', coalesce(pg_catalog.pg_relation_size(c.oid), 0),
       EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND {USER_SCHEMA}
"""


@dataclass(frozen=True)
class TableFacts:
    """The properties of a table that decide how its rows are loaded.

    :ivar independent: Its rows do not depend on those of other tables, nor on their order.
    :ivar indexed: It has an index.
    :ivar filled: The columns that get a value by themselves if a COPY does not list them.
    """

    independent: bool
    indexed: bool
    filled: frozenset[str]


def read_table_facts(connection: Connection) -> dict[Key, TableFacts]:
    """Return the properties of all ordinary tables; empty if a name is not valid in the database's encoding."""
    try:
        rows = connection.execute(_TABLES.encode()).fetchall()
    except UnicodeDecodeError:
        return {}
    return {
        (str(schema), str(name)): TableFacts(
            independent=bool(independent), indexed=bool(indexed), filled=frozenset(filled)
        )
        for schema, name, independent, indexed, filled in rows
    }


@dataclass(frozen=True)
class RelationFacts:
    """The properties of a table or materialized view that decide how its indexes and keys are created.

    :ivar size: Its bytes, without indexes.
    :ivar inherits: It is a partition, or a child of another table.
    """

    partitioned: bool
    size: int
    inherits: bool


def read_relation_facts(connection: Connection) -> dict[Key, RelationFacts]:
    """Return the properties of all tables and materialized views; as for :func:`read_table_facts`."""
    try:
        rows = connection.execute(_RELATIONS.encode()).fetchall()
    except UnicodeDecodeError:
        return {}
    return {
        (str(schema), str(name)): RelationFacts(partitioned=partitioned, size=int(size), inherits=inherits)
        for schema, name, partitioned, size, inherits in rows
    }
