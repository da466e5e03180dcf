"""Grants on objects that no dump creates: PostgreSQL's own objects, those of extensions, and the database.

pg_dump writes their differences from the initial grants of initdb and CREATE EXTENSION (pg_init_privs). So a restore
can add such grants, and only an undo revokes them. Grants on information_schema and on the database are in no dump.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, LiteralString

import psycopg

from .catalog_filters import no_member

if TYPE_CHECKING:
    from .connection import Connection


_SYSTEM = "n.nspname IN ('pg_catalog', 'information_schema')"


def _outside(catalogue: LiteralString, oid: LiteralString) -> LiteralString:
    return f"({_SYSTEM} OR NOT {no_member(catalogue, oid)})"


# Class, oid, column number; kind, name and column as in GRANT; the letter for acldefault; owner, grants, schema.
_FOUND = f"""
    SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid, 0,
           CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
           pg_catalog.format('%I.%I', n.nspname, c.relname), '',
           CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::pg_catalog."char", c.relowner, c.relacl, n.nspname
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relacl IS NOT NULL
       AND {_outside("pg_class", "c.oid")}
    UNION ALL
    SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid, a.attnum, 'TABLE',
           pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.format('(%I)', a.attname), 'c', c.relowner,
           a.attacl, n.nspname
      FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE NOT a.attisdropped AND {_outside("pg_class", "c.oid")}
       AND (a.attacl IS NOT NULL OR EXISTS (SELECT FROM pg_catalog.pg_init_privs i
             WHERE i.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND i.objoid = c.oid
               AND i.objsubid = a.attnum))
    UNION ALL
    SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid, 0,
           CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
           pg_catalog.format('%I.%I(%s)', n.nspname, p.proname, CASE p.prokind
               WHEN 'a' THEN pg_catalog.oidvectortypes(p.proargtypes)
               ELSE pg_catalog.pg_get_function_identity_arguments(p.oid) END), '', 'f', p.proowner, p.proacl, n.nspname
      FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
     WHERE p.proacl IS NOT NULL AND {_outside("pg_proc", "p.oid")}
    UNION ALL
    SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid, 0, 'TYPE',
           pg_catalog.format('%I.%I', n.nspname, t.typname), '', 'T', t.typowner, t.typacl, n.nspname
      FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
     WHERE t.typacl IS NOT NULL AND {_outside("pg_type", "t.oid")}
    UNION ALL
    SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass, n.oid, 0, 'SCHEMA', pg_catalog.quote_ident(n.nspname), '',
           'n', n.nspowner, n.nspacl, n.nspname
      FROM pg_catalog.pg_namespace n WHERE n.nspacl IS NOT NULL AND {_outside("pg_namespace", "n.oid")}
    UNION ALL
    SELECT 'pg_catalog.pg_language'::pg_catalog.regclass, l.oid, 0, 'LANGUAGE', pg_catalog.quote_ident(l.lanname), '',
           'l', l.lanowner, l.lanacl, ''
      FROM pg_catalog.pg_language l WHERE l.lanacl IS NOT NULL
    UNION ALL
    SELECT 'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass, w.oid, 0, 'FOREIGN DATA WRAPPER',
           pg_catalog.quote_ident(w.fdwname), '', 'F', w.fdwowner, w.fdwacl, ''
      FROM pg_catalog.pg_foreign_data_wrapper w WHERE w.fdwacl IS NOT NULL
    UNION ALL
    SELECT 'pg_catalog.pg_foreign_server'::pg_catalog.regclass, s.oid, 0, 'FOREIGN SERVER',
           pg_catalog.quote_ident(s.srvname), '', 'S', s.srvowner, s.srvacl, ''
      FROM pg_catalog.pg_foreign_server s WHERE s.srvacl IS NOT NULL
    UNION ALL
    SELECT 'pg_catalog.pg_largeobject'::pg_catalog.regclass, m.oid, 0, 'LARGE OBJECT', m.oid::pg_catalog.text, '',
           'L', m.lomowner, m.lomacl, ''
      FROM pg_catalog.pg_largeobject_metadata m WHERE m.lomacl IS NOT NULL
    UNION ALL
    SELECT 'pg_catalog.pg_database'::pg_catalog.regclass, d.oid, 0, 'DATABASE', pg_catalog.quote_ident(d.datname), '',
           'd', d.datdba, d.datacl, NULL
      FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database() AND d.datacl IS NOT NULL
"""
# initdb creates information_schema, with grants to PUBLIC, after it has filled pg_init_privs.
_SQL_STANDARD = """CASE WHEN f.schema = 'information_schema' AND f.kind IN ('TABLE', 'SCHEMA') AND f.part = 0
    THEN ARRAY[pg_catalog.makeaclitem(0, f.owner, CASE f.kind WHEN 'TABLE' THEN 'SELECT' ELSE 'USAGE' END, false)]
    END"""
_CHANGED = f"""
    SELECT f.*, initial.acl AS initial
      FROM ({_FOUND}) AS f(class, oid, part, kind, name, columns, letter, owner, acl, schema)
      LEFT JOIN pg_catalog.pg_init_privs i ON (i.classoid, i.objoid, i.objsubid) = (f.class, f.oid, f.part)
      CROSS JOIN LATERAL (SELECT coalesce(i.initprivs, pg_catalog.acldefault(f.letter, f.owner)) || {_SQL_STANDARD}
          AS acl) AS initial
     WHERE NOT (coalesce(f.acl, pg_catalog.acldefault(f.letter, f.owner)) OPERATOR(pg_catalog.@>) initial.acl
            AND coalesce(f.acl, pg_catalog.acldefault(f.letter, f.owner)) OPERATOR(pg_catalog.<@) initial.acl)
"""
_LOCAL = "coalesce(schema = 'information_schema', true)"

# The grants of each object that differ from the initial ones, and whether a dump contains them.
DESCRIBED = f"""
SELECT CASE WHEN {_LOCAL} THEN 'local_grants ' ELSE 'system_grants ' END
           || pg_catalog.concat_ws(' ', pg_catalog.lower(kind), CASE WHEN kind <> 'DATABASE' THEN name || columns END),
       (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', CASE WHEN x.grantee = owner THEN ''
                   ELSE coalesce(r.rolname, 'PUBLIC') END, x.privilege_type, x.is_grantable), ','
                   ORDER BY r.rolname COLLATE "C", x.privilege_type COLLATE "C")
          FROM pg_catalog.aclexplode(acl) AS x LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee), NULL
  FROM ({_CHANGED}) AS changed
"""
# The statements that reset the grants of each object that a dump may contain to the initial ones.
_REVOKED = f"""
SELECT ARRAY(SELECT DISTINCT pg_catalog.format('REVOKE ALL %s ON %s %s FROM %s CASCADE', columns, kind, name,
                    CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END)
               FROM pg_catalog.aclexplode(coalesce(acl, pg_catalog.acldefault(letter, owner))) AS x
               LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee)
       || ARRAY(SELECT pg_catalog.format('GRANT %s %s ON %s %s TO %s%s', x.privilege_type, columns, kind, name,
                       CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END,
                       CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' END)
                  FROM pg_catalog.aclexplode(initial) AS x LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee)
  FROM ({_CHANGED}) AS changed
 WHERE NOT {_LOCAL} AND (part <> 0) = """


def revoke_system_grants(connection: Connection) -> None:
    """Reset the grants that a dump may contain to those of initdb and CREATE EXTENSION, as far as the role may.

    The comparison with the dump's manifest reports the remaining differences.
    """
    # First tables, then columns: REVOKE on a table also revokes the grants on its columns.
    for of_column in ("false", "true"):
        for (statements,) in connection.execute((_REVOKED + of_column).encode()).fetchall():
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
                for statement in statements:
                    connection.execute(statement.encode())
