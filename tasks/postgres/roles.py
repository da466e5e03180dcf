"""What a role may do in a database, and who is in its way there. Nothing is read but the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .activity import _names
from .catalog_filters import NO_MEMBER, USER_SCHEMA
from .connection import one
from .tables import Table, read_tables

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from .connection import Connection, ServerFacts


# Tables and sequences that pg_dump would read and this role may not.
_UNREAD = f"""
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't'
   AND {USER_SCHEMA}
   AND (c.oid = ANY(%(dumped)s) OR {NO_MEMBER})
   AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE')
            AND CASE WHEN c.relkind = 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
                     ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END)
 ORDER BY 1
"""
_HIDDEN = """
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = ANY(%(dumped)s) AND pg_catalog.row_security_active(c.oid) ORDER BY 1
"""
_UNREAD_OBJECTS = """
SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata m
 WHERE NOT pg_catalog.pg_has_role(m.lomowner, 'USAGE') AND NOT EXISTS (
       SELECT FROM pg_catalog.aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
          AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))
"""
# A schema that an extension lies in is mostly the extension's alone, and a dump of it then holds its name and rows.
_CLOSED = f"""
SELECT n.nspname FROM pg_catalog.pg_namespace n
 WHERE {USER_SCHEMA}
   AND NOT pg_catalog.has_schema_privilege(n.oid, 'CREATE')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extnamespace = n.oid AND n.nspname <> 'public')
 ORDER BY 1
"""
# The owner of a schema may drop what is in it, but a table is locked first.
_UNOWNED = f"""
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't'
   AND {USER_SCHEMA}
   AND {NO_MEMBER}
   AND (%(schemas)s::pg_catalog.text[] IS NULL OR n.nspname = ANY(%(schemas)s))
   AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')
   AND NOT (pg_catalog.pg_has_role(n.nspowner, 'USAGE') AND (c.relkind NOT IN ('r', 'p', 'v')
            OR pg_catalog.has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE')))
 ORDER BY 1
"""
# What PostgreSQL's own roles own is not noted in pg_shdepend, and their members may give them what they made.
_OWNED = """
SELECT relowner FROM pg_catalog.pg_class
UNION ALL SELECT proowner FROM pg_catalog.pg_proc
UNION ALL SELECT typowner FROM pg_catalog.pg_type
UNION ALL SELECT oprowner FROM pg_catalog.pg_operator
UNION ALL SELECT opcowner FROM pg_catalog.pg_opclass
UNION ALL SELECT opfowner FROM pg_catalog.pg_opfamily
UNION ALL SELECT collowner FROM pg_catalog.pg_collation
UNION ALL SELECT conowner FROM pg_catalog.pg_conversion
UNION ALL SELECT stxowner FROM pg_catalog.pg_statistic_ext
UNION ALL SELECT cfgowner FROM pg_catalog.pg_ts_config
UNION ALL SELECT dictowner FROM pg_catalog.pg_ts_dict
UNION ALL SELECT lanowner FROM pg_catalog.pg_language
UNION ALL SELECT lomowner FROM pg_catalog.pg_largeobject_metadata
UNION ALL SELECT fdwowner FROM pg_catalog.pg_foreign_data_wrapper
UNION ALL SELECT srvowner FROM pg_catalog.pg_foreign_server
UNION ALL SELECT extowner FROM pg_catalog.pg_extension
UNION ALL SELECT evtowner FROM pg_catalog.pg_event_trigger
UNION ALL SELECT pubowner FROM pg_catalog.pg_publication
UNION ALL SELECT defaclrole FROM pg_catalog.pg_default_acl
"""
# The bootstrap superuser's own are not noted there, either. The schema `public` is pg_database_owner's from 15 on.
_OWNERS = f"""
SELECT r.rolname, r.rolsuper FROM pg_catalog.pg_roles r
 WHERE r.oid IN (SELECT d.refobjid FROM pg_catalog.pg_shdepend d
                  WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.deptype = 'o'
                    AND d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
    OR r.oid = (SELECT datdba FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    OR (r.oid < 16384 AND NOT r.rolsuper AND (r.oid IN ({_OWNED}) OR EXISTS (
          SELECT FROM pg_catalog.pg_namespace n WHERE n.nspowner = r.oid AND r.rolname <> 'pg_database_owner')))
"""

# Settings of a role for the sessions of this database and this login.
_ROLE_SETTINGS = """
SELECT pg_catalog.concat(
         CASE WHEN s.setrole = 0 AND s.setdatabase <> 0 THEN pg_catalog.format('ALTER DATABASE %I', d.datname)
              ELSE pg_catalog.format('ALTER ROLE %s', coalesce(pg_catalog.quote_ident(r.rolname), 'ALL')) END,
         CASE WHEN s.setrole <> 0 AND s.setdatabase <> 0 THEN pg_catalog.format(' IN DATABASE %I', d.datname) END)
  FROM pg_catalog.pg_db_role_setting s CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS c(setting)
  LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
 WHERE pg_catalog.starts_with(c.setting, 'role=') AND (s.setdatabase = 0 OR d.datname = pg_catalog.current_database())
   AND (s.setrole = 0 OR r.rolname = session_user)
 ORDER BY 1
"""


@dataclass(frozen=True)
class Rights:
    """What a role may do.

    :ivar creates_databases: As a rehearsal wants it.
    :ivar creates_schemas: In this database.
    :ivar unread: Tables and sequences that it may not read, so that a dump fails.
    :ivar unread_objects: How many large objects it may not read.
    :ivar hidden: Tables of which row-level security hides rows from it, so that a dump refuses.
    :ivar closed: Schemas in which it may create nothing.
    :ivar unowned: Relations that it may not drop.
    """

    creates_databases: bool
    creates_schemas: bool
    unread: tuple[str, ...]
    unread_objects: int
    hidden: tuple[str, ...]
    closed: tuple[str, ...]
    unowned: tuple[str, ...]


def read_rights(connection: Connection) -> Rights:
    """Ask what the session's role may do."""
    row = one(
        connection,
        "SELECT rolcreatedb OR rolsuper, pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')"
        "  FROM pg_catalog.pg_roles WHERE rolname = current_user",
    )
    tables = read_tables(connection)
    dumped = {"dumped": [table.oid for table in tables]}
    return Rights(
        creates_databases=bool(row[0]),
        creates_schemas=bool(row[1]),
        unread=_names(connection, _UNREAD, dumped),
        unread_objects=int(one(connection, _UNREAD_OBJECTS)[0]),
        hidden=hidden_tables(connection, tables),
        closed=_names(connection, _CLOSED),
        unowned=unowned_objects(connection),
    )


def unowned_objects(connection: Connection, schemas: Collection[str] | None = None) -> tuple[str, ...]:
    """Name the relations that the role may not drop.

    :param schemas: Look in these only.
    """
    return _names(connection, _UNOWNED, {"schemas": None if schemas is None else list(schemas)})


def hidden_tables(connection: Connection, tables: Iterable[Table]) -> tuple[str, ...]:
    """Name those of some tables of which row-level security hides rows from the role."""
    return _names(connection, _HIDDEN, {"dumped": [table.oid for table in tables]})


def closed_schemas(connection: Connection, schemas: Collection[str]) -> tuple[str, ...]:
    """Name those of some schemas in which the role may create nothing."""
    return tuple(name for name in _names(connection, _CLOSED) if name in schemas)


def replaceable(connection: Connection, server: ServerFacts, names: Iterable[str]) -> list[str]:
    """Choose the objects without a schema (`publication news`) that the role could make again, once they are gone."""
    if server.superuser:
        return list(names)
    others = _names(
        connection, "SELECT pubname FROM pg_catalog.pg_publication WHERE NOT pg_catalog.pg_has_role(pubowner, 'USAGE')"
    )
    theirs = {f"publication {name}" for name in others}
    return [name for name in names if name not in theirs and not name.startswith("event trigger ")]


def role_settings(connection: Connection) -> tuple[str, ...]:
    """Return each `ALTER DATABASE …` or `ALTER ROLE …` that sets a role for sessions like this one, up to `SET`."""
    return _names(connection, _ROLE_SETTINGS)


def read_owners(connection: Connection) -> dict[str, bool]:
    """Return all roles that own something in the database, or the database, each with whether it is a superuser.

    Of schemas, relations, functions, types, large objects, event triggers, extensions, default privileges and so on.
    """
    return {str(name): bool(superuser) for name, superuser in connection.execute(_OWNERS)}


def may_create_schemas(connection: Connection) -> bool:
    """Tell whether the role may create schemas in this database."""
    return bool(one(connection, "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')")[0])
