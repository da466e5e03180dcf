"""The privileges of a role in a database, from the catalogue only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from .catalog_filters import IN_SCHEMA, NO_MEMBER, USER_SCHEMA
from .connection import Connection, ServerFacts, one, read_names
from .tables import Table, read_tables

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


# Tables and sequences that pg_dump would read, but the role may not.
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
# Schemas of extensions are excluded: mostly they contain nothing else, and a dump creates no other object in them.
_CLOSED = f"""
SELECT n.nspname FROM pg_catalog.pg_namespace n
 WHERE {USER_SCHEMA}
   AND NOT pg_catalog.has_schema_privilege(n.oid, 'CREATE')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extnamespace = n.oid AND n.nspname <> 'public')
 ORDER BY 1
"""
# The owner of a schema may drop the objects in it, but tables and views are locked first, which needs a privilege.
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
# pg_shdepend does not record objects of PostgreSQL's own roles, and their members may transfer objects to them.
_OWNER_COLUMNS: tuple[tuple[LiteralString, LiteralString], ...] = (
    *((name, f"{prefix}owner") for name, prefix in IN_SCHEMA),
    *(("pg_language", "lanowner"), ("pg_largeobject_metadata", "lomowner"), ("pg_foreign_data_wrapper", "fdwowner")),
    *(("pg_foreign_server", "srvowner"), ("pg_extension", "extowner"), ("pg_event_trigger", "evtowner")),
    *(("pg_publication", "pubowner"), ("pg_default_acl", "defaclrole")),
)
_OWNED = " UNION ALL ".join(
    f"SELECT {column} FROM pg_catalog.{name}"
    for name, column in _OWNER_COLUMNS
    if name not in {"pg_constraint", "pg_ts_parser", "pg_ts_template"}
)
# pg_shdepend does not record objects of the bootstrap superuser, either. From 15 on, pg_database_owner owns `public`.
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
    """The privileges of a role.

    :ivar creates_databases: Whether it may create databases, which a rehearsal needs.
    :ivar creates_schemas: Whether it may create schemas in this database.
    :ivar unread: Tables and sequences that it may not read; a dump fails on them.
    :ivar unread_objects: The number of large objects that it may not read.
    :ivar hidden: Tables with row-level security that hides rows from it; a dump refuses them.
    :ivar closed: Schemas in which it may not create objects.
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
    """Return the privileges of the session's role."""
    creating = "SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
    tables = read_tables(connection)
    dumped = {"dumped": [table.oid for table in tables]}
    return Rights(
        creates_databases=bool(one(connection, creating)[0]),
        creates_schemas=may_create_schemas(connection),
        unread=read_names(connection, _UNREAD, dumped),
        unread_objects=int(one(connection, _UNREAD_OBJECTS)[0]),
        hidden=hidden_tables(connection, tables),
        closed=read_names(connection, _CLOSED),
        unowned=unowned_objects(connection),
    )


def unowned_objects(connection: Connection, schemas: Collection[str] | None = None) -> tuple[str, ...]:
    """Return the names of the relations that the role may not drop.

    :param schemas: Search only these; None searches all.
    """
    return read_names(connection, _UNOWNED, {"schemas": None if schemas is None else list(schemas)})


def hidden_tables(connection: Connection, tables: Iterable[Table]) -> tuple[str, ...]:
    """Return the names of the given tables whose row-level security hides rows from the role."""
    return read_names(connection, _HIDDEN, {"dumped": [table.oid for table in tables]})


def closed_schemas(connection: Connection, schemas: Collection[str]) -> tuple[str, ...]:
    """Return the given schemas in which the role may not create objects."""
    return tuple(name for name in read_names(connection, _CLOSED) if name in schemas)


def replaceable(connection: Connection, server: ServerFacts, names: Iterable[str]) -> list[str]:
    """Return the objects without a schema (`publication news`) that the role could create again after a DROP."""
    if server.superuser:
        return list(names)
    others = read_names(
        connection, "SELECT pubname FROM pg_catalog.pg_publication WHERE NOT pg_catalog.pg_has_role(pubowner, 'USAGE')"
    )
    theirs = {f"publication {name}" for name in others}
    return [name for name in names if name not in theirs and not name.startswith("event trigger ")]


def role_settings(connection: Connection) -> tuple[str, ...]:
    """Return the beginnings, before `SET`, of the ALTER DATABASE and ALTER ROLE that set a role for this session."""
    return read_names(connection, _ROLE_SETTINGS)


def read_owners(connection: Connection) -> dict[str, bool]:
    """Return the roles that own the database or any object in it, each with whether it is a superuser.

    Objects are schemas, relations, functions, types, large objects, event triggers, extensions, default privileges etc.
    """
    return {str(name): bool(superuser) for name, superuser in connection.execute(_OWNERS.encode())}


def may_create_schemas(connection: Connection) -> bool:
    """Return whether the role may create schemas in this database."""
    return bool(one(connection, "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')")[0])
