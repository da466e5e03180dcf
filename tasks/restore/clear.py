"""Delete the objects that a dump of all schemas does not contain: objects without a schema, schemas, privileges."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

from psycopg import errors, sql

from ..postgres.catalog_filters import USER_SCHEMA, global_name, no_member, no_member_of_class
from ..postgres.connection import Connection, ServerFacts, one, read_names
from ..postgres.roles import replaceable
from ..postgres.schemas import empty_schemas, existing_schemas
from ..safety.database_properties import role_or_public

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


# Objects without a schema, each kind with its catalogue, in the order of their DROP; the first two kinds depend on
# tables and functions.
_KINDS = {
    "event trigger": "pg_event_trigger",
    "publication": "pg_publication",
    "cast": "pg_cast",
    "transform": "pg_transform",
    "server": "pg_foreign_server",
    "foreign-data wrapper": "pg_foreign_data_wrapper",
    "language": "pg_language",
    "access method": "pg_am",
}
_BEFORE = frozenset({"event trigger", "publication"})
_ALL = " UNION ALL ".join(
    f"SELECT 'pg_catalog.{each}'::pg_catalog.regclass, oid FROM pg_catalog.{each}" for each in _KINDS.values()
)
_FIRST_OID = 16384  # Objects with a lower oid came with the database (PostgreSQL's access/transam.h).
_GLOBALS = f"""
SELECT o.type, o.identity
  FROM ({_ALL}) AS g(classid, objid), pg_catalog.pg_identify_object(g.classid, g.objid, 0) AS o
 WHERE g.objid >= {_FIRST_OID}
   AND {no_member_of_class("g.classid", "g.objid")}
   -- A range type has a cast to its multirange type.
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = g.classid AND d.objid = g.objid AND d.deptype = 'i')
 ORDER BY 1, 2
"""
_SCHEMAS = f"""
SELECT n.nspname FROM pg_catalog.pg_namespace n
 WHERE {USER_SCHEMA}
   AND {no_member("pg_namespace", "n.oid")}
 ORDER BY 1
"""


_PUBLIC = "public"
# The default privileges of a new schema: pg_dump writes only differences from them. For `public` these are the
# privileges of initdb: always from 15 on, before 15 only until `public` is dropped and created again.
_NEW_ACL = """
SELECT g.rolname, a.privilege_type
  FROM pg_catalog.pg_namespace n
  LEFT JOIN pg_catalog.pg_init_privs i
         ON i.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND i.objoid = n.oid AND i.privtype = 'i',
       pg_catalog.aclexplode(CASE WHEN n.nspname <> 'public' OR NOT %(initdb)s AND i.objoid IS NULL
           THEN coalesce(i.initprivs, pg_catalog.acldefault('n', n.nspowner))
           ELSE ARRAY[pg_catalog.makeaclitem(n.nspowner, n.nspowner, 'USAGE', false),
               pg_catalog.makeaclitem(n.nspowner, n.nspowner, 'CREATE', false),
               pg_catalog.makeaclitem(0, n.nspowner, 'USAGE', false),
               pg_catalog.makeaclitem(CASE WHEN %(closed)s THEN n.nspowner ELSE 0 END, n.nspowner, 'CREATE', false)]
           END) a LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
 WHERE n.nspname = %(name)s
"""
_GRANTEES = """
SELECT DISTINCT g.rolname
  FROM pg_catalog.pg_namespace n,
       pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a LEFT
           JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
 WHERE n.nspname = %s
"""
# From this major on PUBLIC may create nothing in `public`, and the database's owner owns it.
_CLOSED = 15


def user_schemas(connection: Connection) -> tuple[str, ...]:
    """Return the schemas that belong neither to PostgreSQL nor to an extension."""
    return read_names(connection, _SCHEMAS)


def read_globals(connection: Connection) -> dict[str, tuple[str, str]]:
    """Return the objects without a schema, each with its kind and identity.

    The keys are their names in a dump's outline, such as `event trigger audit`.
    """
    # Before 16 a transform's identity has a word that SQL does not accept.
    found = [
        (str(kind), str(identity).replace(" on language ", " language ") if kind == "transform" else str(identity))
        for kind, identity in connection.execute(_GLOBALS.encode())
    ]
    return {global_name(kind, identity): (kind, identity) for kind, identity in found}


def empty_database(
    connection: Connection,
    server: ServerFacts,
    schemas: Collection[str],
    kept: Collection[str],
    kept_schemas: Collection[str],
    kept_extensions: Collection[str],
) -> None:
    """Empty schemas, and drop all other objects that are not to be kept, and all large objects.

    :param schemas: The schemas to empty.
    :param kept: The objects without a schema to keep, named as by :func:`read_globals`.
    :raises TaskError: As :func:`empty_schemas` does.
    """
    _drop(connection, kept, _BEFORE)
    empty_schemas(connection, schemas, replaceable(connection, server, read_globals(connection)))
    _drop(connection, kept, _KINDS.keys() - _BEFORE)
    for name in read_extensions(connection):
        if name not in kept_extensions:
            connection.execute(sql.SQL("DROP EXTENSION IF EXISTS {} CASCADE").format(sql.Identifier(name)))
    for name in user_schemas(connection):
        if name not in kept_schemas:
            connection.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(name)))
    connection.execute("SELECT pg_catalog.count(pg_catalog.lo_unlink(oid)) FROM pg_catalog.pg_largeobject_metadata")


def count_large_objects(connection: Connection) -> int:
    """Return the number of large objects. Deleting them takes a lock on each."""
    return int(one(connection, "SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata")[0])


def read_extensions(connection: Connection) -> tuple[str, ...]:
    """Return the extensions that did not come with the database."""
    return read_names(connection, "SELECT extname FROM pg_catalog.pg_extension WHERE oid >= %s", [_FIRST_OID])


def renew_schemas(connection: Connection) -> None:
    """Reset empty schemas to the state of `CREATE SCHEMA` and `initdb`: a dump contains only differences from it.

    Schemas that the role may not change are kept as they are.
    """
    for name in user_schemas(connection):
        # A schema that contains an extension can't be dropped.
        if name == _PUBLIC or not _tried(connection, sql.SQL("DROP SCHEMA {}").format(sql.Identifier(name))):
            renew_schema(connection, name, initdb=False)


def create_public(connection: Connection, needed: Collection[str]) -> None:
    """Create `public` as `initdb` does, if it is missing: a dump of all schemas does not create it.

    :param needed: The schemas that must exist.
    """
    if _PUBLIC in needed and not existing_schemas(connection, [_PUBLIC]):
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(_PUBLIC)))
        renew_schema(connection, _PUBLIC, initdb=True)


# A rollback does not undo setval. RESTART gives the sequence a new file, which a rollback discards.
_SEQUENCES = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN ROWS FROM (pg_catalog.unnest(%s::pg_catalog.text[]), pg_catalog.unnest(%s::pg_catalog.text[])) AS k(schema, name)
    ON (n.nspname, c.relname) = (k.schema, k.name)
 WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
 ORDER BY 1, 2
"""


def restart_sequences(connection: Connection, keys: Iterable[tuple[str, str]]) -> None:
    """Restart the existing sequences that a dump sets, so that a rollback undoes their new values, too.

    Sequences that the role does not own are skipped: it may set them, but not restart them.

    :param keys: Schema and name of each sequence.
    """
    names = list(keys)
    if not names:
        return
    found = connection.execute(_SEQUENCES, ([key[0] for key in names], [key[1] for key in names])).fetchall()
    for key in found:
        connection.execute(sql.SQL("ALTER SEQUENCE {} RESTART").format(sql.Identifier(*key)))


def renew_schema(connection: Connection, name: str, *, initdb: bool) -> None:
    """Set the comment, the grants and, for `public`, the owner of a new schema.

    :param initdb: Set the privileges of initdb, also before PostgreSQL 15.
    """
    schema, comment = sql.Identifier(name), sql.Literal("standard public schema" if name == _PUBLIC else None)
    closed = connection.info.server_version >= _CLOSED * 10000
    _tried(connection, sql.SQL("COMMENT ON SCHEMA {} IS {}").format(schema, comment))
    if name == _PUBLIC:
        # Before 15 the owner is the cluster's first superuser.
        owner = "rolname = 'pg_database_owner'" if closed else "oid = 10"
        for (role,) in connection.execute(f"SELECT rolname FROM pg_catalog.pg_roles WHERE {owner}").fetchall():
            _tried(connection, sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(schema, sql.Identifier(role)))
    for (grantee,) in connection.execute(_GRANTEES, [name]).fetchall():
        _tried(connection, sql.SQL("REVOKE ALL ON SCHEMA {} FROM {} CASCADE").format(schema, role_or_public(grantee)))
    new = connection.execute(_NEW_ACL, {"name": name, "initdb": initdb or closed, "closed": closed}).fetchall()
    for grantee, privilege in new:
        text: Any = privilege
        named = role_or_public(grantee)
        _tried(connection, sql.SQL("GRANT {} ON SCHEMA {} TO {}").format(sql.SQL(text), schema, named))


def _tried(connection: Connection, statement: sql.Composed) -> bool:
    try:
        with connection.transaction():
            connection.execute(statement)
    except (errors.DependentObjectsStillExist, errors.InsufficientPrivilege):
        return False
    return True


def _drop(connection: Connection, kept: Collection[str], kinds: Collection[str]) -> None:
    found = read_globals(connection)
    for dropped in (kind for kind in _KINDS if kind in kinds):
        for name, (kind, identity) in found.items():
            if kind == dropped and name not in kept:
                # pg_identify_object quotes each identity for SQL.
                text: Any = f"DROP {kind.upper().replace('-', ' ')} IF EXISTS {identity} CASCADE"
                connection.execute(sql.SQL(text))


_DEFAULT_KINDS = {"r": "TABLES", "S": "SEQUENCES", "f": "FUNCTIONS", "T": "TYPES", "n": "SCHEMAS", "L": "LARGE OBJECTS"}
_SAVED = """
SELECT o.rolname, n.nspname, d.defaclobjtype::pg_catalog.text, g.rolname, a.privilege_type, a.is_grantable
  FROM pg_catalog.pg_default_acl d
  JOIN pg_catalog.pg_roles o ON o.oid = d.defaclrole
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace
  LEFT JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) WITH ORDINALITY a ON true
  LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
 WHERE {which}
 ORDER BY d.oid, a.ordinality
"""
# The privileges that PUBLIC has by default (manual, 5.8).
_HARD_WIRED = {"f": "EXECUTE", "T": "USAGE"}


def set_aside_default_privileges(connection: Connection, schemas: Collection[str]) -> list[bytes]:
    """Revoke the default privileges of the current role in the open transaction.

    :param schemas: The schemas that the dump fills; default privileges for all schemas are revoked, too.
    :return: The statements that restore them, in order.
    """
    condition = "o.rolname = current_user AND (n.nspname IS NULL OR n.nspname = ANY(%s))"
    return [each.as_bytes(connection) for each in _revoke_default_privileges(connection, condition, [list(schemas)])]


def clear_default_privileges(connection: Connection) -> None:
    """Revoke the default privileges of all roles whose privileges the current role has, in the open transaction."""
    _revoke_default_privileges(connection, "pg_catalog.pg_has_role(o.oid, 'USAGE')", [])


def default_privilege_statements(connection: Connection) -> list[sql.Composed]:
    """Return the statements that :func:`clear_default_privileges` makes necessary, in order; change nothing."""
    connection.execute("SAVEPOINT invoke_postgres_defaults")
    statements = _revoke_default_privileges(connection, "pg_catalog.pg_has_role(o.oid, 'USAGE')", [])
    connection.execute("ROLLBACK TO SAVEPOINT invoke_postgres_defaults")
    connection.execute("RELEASE SAVEPOINT invoke_postgres_defaults")
    return statements


def _revoke_default_privileges(connection: Connection, which: str, values: list[Any]) -> list[sql.Composed]:
    """Revoke default privileges, and return the statements that restore them."""
    query: Any = _SAVED.format(which=which)
    found = connection.execute(query, values or None).fetchall()
    statements = []
    for (role, schema, kind), rows in itertools.groupby(found, lambda row: row[:3]):
        if kind not in _DEFAULT_KINDS:
            continue
        change = partial(_default_privilege, role, schema, kind)
        items = [(grantee, privilege, grantable) for *_, grantee, privilege, grantable in rows if privilege is not None]
        for grantee in dict.fromkeys(grantee for grantee, _, _ in items):
            connection.execute(change("REVOKE ALL", grantee))
        if schema is None:
            connection.execute(change("GRANT ALL", role))
            if kind in _HARD_WIRED:
                connection.execute(change(f"GRANT {_HARD_WIRED[kind]}", None))
            statements += [change("REVOKE ALL", each) for each in (role, None)]
        statements += [
            change(f"GRANT {privilege}", grantee, grantable=grantable) for grantee, privilege, grantable in items
        ]
    return statements


def _default_privilege(
    owner: str, schema: str | None, kind: str, what: str, grantee: str | None, *, grantable: bool = False
) -> sql.Composed:
    """Return a change of the default privileges of a role, for a kind of object, in a schema (None for all schemas)."""
    text: Any = what
    objects: Any = _DEFAULT_KINDS[kind]
    return sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {owner} {where}{what} ON {objects} {way} {role}{option}").format(
        owner=sql.Identifier(owner),
        where=sql.SQL("") if schema is None else sql.SQL("IN SCHEMA {} ").format(sql.Identifier(schema)),
        what=sql.SQL(text),
        objects=sql.SQL(objects),
        way=sql.SQL("FROM" if what.startswith("REVOKE") else "TO"),
        role=role_or_public(grantee),
        option=sql.SQL(" WITH GRANT OPTION" if grantable else ""),
    )
