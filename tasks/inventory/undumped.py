"""Definitions of the objects that no dump contains: those of extensions and PostgreSQL's own.

A restore keeps them as they are. Users may change them: comments, owners, settings of functions, indexes and policies
of an extension's table, the mapping of a text search configuration, and so on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..postgres.catalog_filters import no_member_of_class
from ..postgres.connection import read_names
from .objects import DEFINITIONS, PROPERTY_QUERIES, read_objects

if TYPE_CHECKING:
    from ..postgres.connection import Connection


# The condition that an object belongs to no extension, of any class and oid.
_NO_MEMBER = re.compile(
    "(?<!NOT )" + re.escape(no_member_of_class("CLASS", "OID")).replace("CLASS", r"\S+").replace("OID", r"\S+")
)
_DESCRIBED = """
SELECT pg_catalog.concat_ws(' ', o.type, o.identity), pg_catalog.concat_ws('|', s.provider, s.text), NULL
  FROM (SELECT classoid, objoid, objsubid, NULL AS provider, description AS text FROM pg_catalog.pg_description
         UNION ALL SELECT classoid, objoid, objsubid, provider, label FROM pg_catalog.pg_seclabel) s
  JOIN pg_catalog.pg_depend d ON (d.classid, d.objid, d.deptype) = (s.classoid, s.objoid, 'e'),
       pg_catalog.pg_identify_object(s.classoid, s.objoid, s.objsubid) o
"""
_QUERIES = {
    **{
        kind: _NO_MEMBER.sub(lambda found: found[0].removeprefix("NOT "), query)
        for kind, query in {**DEFINITIONS, **PROPERTY_QUERIES}.items()
    },
    "comment": _DESCRIBED,
}
# PostgreSQL's own objects have the same oid in every database. Grants on functions and types are left out, because
# pg_dump writes them; it writes none on the languages c, internal and sql.
_OWN = {
    **dict.fromkeys(("pg_proc", "pg_type", "pg_language", "pg_foreign_data_wrapper", "pg_foreign_server"), "oid"),
    **dict.fromkeys(("pg_operator", "pg_opclass", "pg_opfamily", "pg_cast", "pg_collation", "pg_conversion"), "oid"),
    **dict.fromkeys(("pg_ts_config", "pg_ts_dict", "pg_ts_parser", "pg_ts_template", "pg_am"), "oid"),
    "pg_rewrite": "oid",
    "pg_ts_config_map": "mapcfg",
    "pg_description": "objoid",
    "pg_seclabel": "objoid",
}
_FIRST_OID = 16384
# Columns that pg_dump's text has, that depend on the machine, or that are long and made from other columns.
_LEFT_OUT = "'proacl', 'typacl', 'collversion', 'ev_action', 'ev_qual'"
# The columns of each catalogue; those of types that have no hash, as text.
_COLUMNS = f"""
SELECT c.relname::pg_catalog.text,
       pg_catalog.string_agg('t.' || pg_catalog.quote_ident(a.attname) || CASE WHEN a.atttypid
           IN ('pg_catalog.pg_node_tree'::pg_catalog.regtype, 'pg_catalog.int2vector'::pg_catalog.regtype)
           THEN '::pg_catalog.text' ELSE '' END, ', ' ORDER BY a.attnum)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
 WHERE c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace AND c.relname = ANY(%s) AND a.attnum > 0
   AND NOT a.attisdropped AND a.attname NOT IN ({_LEFT_OUT})
 GROUP BY 1
"""  # noqa: S608 - no values
# In any order: a row has its oid, or that of its object. As md5 of the rows as text, it takes six times as long.
_DIGEST = """
SELECT pg_catalog.concat(pg_catalog.count(*), ' ', pg_catalog.sum(pg_catalog.hash_record_extended(ROW({columns}), 0)))
  FROM pg_catalog.{catalogue} t WHERE t.{column} < {first}{condition}
"""
# `public` is not PostgreSQL's own, although initdb creates it.
_NOT_PUBLIC = """ AND NOT (t.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
    AND t.objoid = coalesce((SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'public'), 0))"""


def read_undumped_objects(connection: Connection) -> dict[str, object]:
    """Return the definition of each object of an extension, and a digest of PostgreSQL's own in each catalogue.

    :param connection: A session with pinned settings (:func:`.objects.pin_settings`). Objects of PostgreSQL can be
        compared between databases of one server only.
    """
    # The grants that pg_dump writes, and those on the database itself, are compared elsewhere.
    found: dict[str, object] = {
        f"{kind} {name}": definition
        for kind, objects in read_objects(connection, _QUERIES).items()
        for name, definition in objects.items()
        if not name.startswith(("local_grants database", "system_grants "))
    }
    columns: dict[str, str] = dict(connection.execute(_COLUMNS.encode(), [list(_OWN)]).fetchall())
    for catalogue, column in _OWN.items():
        condition = _NOT_PUBLIC if column == "objoid" else ""
        query = _DIGEST.format(
            catalogue=catalogue, column=column, columns=columns[catalogue], first=_FIRST_OID, condition=condition
        )
        (found[f"{catalogue}, PostgreSQL's own catalogue"],) = read_names(connection, query.encode())
    return found
