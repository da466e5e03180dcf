"""What a restore may rightly leave as it finds it: owners, grants and settings. Differences are told, and no more.

Only what is not PostgreSQL's own default has an entry, but for owners. Grants are compared between servers of one
major alone: 15 took CREATE from `public`, 17 knows a privilege more.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import objects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .session import Connection

Told = dict[str, dict[str, str]]
"""Per kind the digest of each object's owner, grants or settings."""

ROLES = ("owner", "grants")
"""The kinds that depend on which roles there are."""

KINDS = (*ROLES, "settings")

_LAST_PART = re.compile(r'\.("(?:[^"]|"")*"|[^".]*)\Z')

# What another object brings along (a range its constructors and its multirange) is in no dump, nor are its grants.
_NOT_INTERNAL = """NOT EXISTS (SELECT FROM pg_catalog.pg_depend i
    WHERE i.classid = 'pg_catalog.{0}'::pg_catalog.regclass AND i.objid = {1} AND i.deptype = 'i')"""

# All in one query, as each look at the catalogue costs.
_QUERY = f"""
WITH found(name, owner, acl, usual, settings) AS MATERIALIZED (
    SELECT c.oid::pg_catalog.regclass::pg_catalog.text, c.relowner, c.relacl, '', CASE WHEN c.relkind IN ('r', 'p')
        THEN c.reloptions END
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND c.relpersistence <> 't'
       AND {objects.own("pg_class", "c.oid")}
     UNION ALL
    SELECT p.oid::pg_catalog.regprocedure::pg_catalog.text, p.proowner, p.proacl, 'PUBLIC EXECUTE f', NULL
      FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
     WHERE {objects.own("pg_proc", "p.oid")} AND {_NOT_INTERNAL.format("pg_proc", "p.oid")}
     UNION ALL
    SELECT t.oid::pg_catalog.regtype::pg_catalog.text, t.typowner, t.typacl, 'PUBLIC USAGE f', NULL
      FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
      LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
     WHERE (c.oid IS NULL OR c.relkind = 'c') AND t.typelem = 0 AND {objects.own("pg_type", "t.oid")}
       AND {_NOT_INTERNAL.format("pg_type", "t.oid")}
     UNION ALL
    SELECT 'schema ' || pg_catalog.quote_ident(n.nspname), n.nspowner, n.nspacl, '', NULL
      FROM pg_catalog.pg_namespace n WHERE {objects.own("pg_namespace", "n.oid")}
     UNION ALL
    SELECT pg_catalog.concat_ws('.', c.oid::pg_catalog.regclass::pg_catalog.text, pg_catalog.quote_ident(a.attname)),
        NULL, a.attacl, '', NULL
      FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND {objects.own("pg_class", "c.oid")}
     UNION ALL
    SELECT 'the database' || coalesce(' for ' || pg_catalog.quote_ident(r.rolname), ''), NULL, NULL, '', s.setconfig
      FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
      LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole WHERE d.datname = pg_catalog.current_database()
), given AS (
    SELECT f.name, f.usual, coalesce(
               (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', coalesce(r.rolname, 'PUBLIC'),
                   x.privilege_type, x.is_grantable), ','
                           ORDER BY r.rolname COLLATE "C", x.privilege_type COLLATE "C")
                  FROM pg_catalog.aclexplode(f.acl) AS x LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee
                 WHERE x.grantee IS DISTINCT FROM f.owner), '') AS grants
      FROM found f WHERE f.acl IS NOT NULL
)
SELECT 'owner ' || name, pg_catalog.pg_get_userbyid(owner)::pg_catalog.text, NULL
  FROM found WHERE owner IS NOT NULL AND name <> 'schema public'
 UNION ALL
SELECT 'grants ' || name, grants, NULL FROM given WHERE grants <> usual
 UNION ALL
SELECT 'settings ' || name, (SELECT pg_catalog.string_agg(o, ',' ORDER BY o COLLATE "C")
    FROM pg_catalog.unnest(settings) AS o), NULL
  FROM found WHERE settings IS NOT NULL
"""


def read(connection: Connection) -> Told:
    """Read all of it; the session must be pinned."""
    found: Told = {kind: {} for kind in KINDS}
    for named, digest in objects.read(connection, {"": _QUERY})[""].items():
        kind, _, name = named.partition(" ")
        found[kind][name] = digest.facts
    return found


def compare(
    expected: Mapping[str, Mapping[str, str]], found: Mapping[str, Mapping[str, str]], *, same_major: bool
) -> dict[str, list[str]]:
    """Name, per kind, what has another owner, other grants or other settings."""
    differing = {}
    for kind in KINDS:
        # A manifest of another version of ours may not know it.
        if kind not in expected or kind not in found or (kind == "grants" and not same_major):
            continue
        wanted, have = expected[kind], found[kind]
        # An object that is missing, or one too many, is named for itself.
        names = wanted.keys() & have.keys() if kind == "owner" else wanted.keys() | have.keys()
        if names := {name for name in names if wanted.get(name) != have.get(name)}:
            differing[kind] = sorted(names)
    return differing


def name_of(kind: str, name: str) -> str:
    """Give the name that an object has here, of that which it has among the objects."""
    return f"{kind} {name}" if kind == "schema" else name


def table_of(name: str) -> str:
    """Give what stands before the last part of a name: of a column, its table."""
    found = _LAST_PART.search(name)
    return name[: found.start()] if found else ""
