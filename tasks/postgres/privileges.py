"""Privileges that stay: default privileges are set aside while a dump loads, and a schema's own are compared.

A dump names the grants of an object only where they differ from PostgreSQL's own defaults. Default privileges
that the target keeps (`ALTER DEFAULT PRIVILEGES`) would give every new table more than its dump says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from .counting import literal
from .session import one

if TYPE_CHECKING:
    from collections.abc import Collection

    from .session import Connection
    from .wire import Wire

_KINDS = {"r": "TABLES", "S": "SEQUENCES", "f": "FUNCTIONS", "T": "TYPES", "n": "SCHEMAS", "L": "LARGE OBJECTS"}
_SAVED = """
SELECT d.oid, n.nspname, d.defaclobjtype::text, CASE WHEN a.grantee = 0 THEN NULL ELSE g.rolname END,
       a.privilege_type, a.is_grantable
  FROM pg_catalog.pg_default_acl d
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace
  LEFT JOIN LATERAL aclexplode(d.defaclacl) WITH ORDINALITY a ON true
  LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
 WHERE d.defaclrole = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
   AND (n.nspname IS NULL OR n.nspname = ANY(%s))
 ORDER BY d.oid, a.ordinality
"""
# What everybody has by PostgreSQL's own defaults (manual, 5.8).
_HARD_WIRED = {"f": "EXECUTE", "T": "USAGE"}


def set_aside(connection: Connection, schemas: Collection[str]) -> list[bytes]:
    """Take our own default privileges away in the open transaction.

    :param schemas: The schemas that the dump fills; those without a schema are taken away, too.
    :return: The statements that bring them back, in their order.
    """
    us = str(one(connection, "SELECT current_user::text")[0])
    groups: dict[tuple[str | None, str], list[tuple[str | None, str | None, bool]]] = {}
    for _, schema, kind, grantee, privilege, grantable in connection.execute(_SAVED, [list(schemas)]):
        groups.setdefault((schema, str(kind)), []).append((grantee, privilege, bool(grantable)))
    back = []
    for (schema, kind), items in groups.items():
        if kind not in _KINDS:
            continue
        grantees = list(dict.fromkeys(grantee for grantee, privilege, _ in items if privilege is not None))
        for grantee in grantees:
            connection.execute(_change(schema, kind, "REVOKE ALL", grantee))
        if schema is None:
            connection.execute(_change(None, kind, "GRANT ALL", us))
            if kind in _HARD_WIRED:
                connection.execute(_change(None, kind, f"GRANT {_HARD_WIRED[kind]}", None))
            back += [_change(None, kind, "REVOKE ALL", each) for each in (us, None)]
        back += [
            _change(schema, kind, f"GRANT {privilege}", grantee, grantable=grantable)
            for grantee, privilege, grantable in items
            if privilege is not None
        ]
    return [statement.as_bytes(connection) for statement in back]


def _change(schema: str | None, kind: str, what: str, grantee: str | None, *, grantable: bool = False) -> sql.Composed:
    text: Any = what
    objects: Any = _KINDS[kind]
    return sql.SQL("ALTER DEFAULT PRIVILEGES {where}{what} ON {objects} {way} {role}{option}").format(
        where=sql.SQL("IN SCHEMA {} ").format(sql.Identifier(schema)) if schema is not None else sql.SQL(""),
        what=sql.SQL(text),
        objects=sql.SQL(objects),
        way=sql.SQL("FROM" if what.startswith("REVOKE") else "TO"),
        role=sql.SQL("PUBLIC") if grantee is None else sql.Identifier(grantee),
        option=sql.SQL(" WITH GRANT OPTION" if grantable else ""),
    )


def of_schema(wire: Wire, schema: str) -> list[list[bytes | None]]:
    """Read a schema's privileges as a set, whatever their order."""
    return wire.ask(
        b"SELECT a.grantor, a.grantee, a.privilege_type, a.is_grantable FROM pg_catalog.pg_namespace n,"
        b" aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a WHERE n.nspname = %s ORDER BY 1, 2, 3, 4"
        % literal(schema)
    )
