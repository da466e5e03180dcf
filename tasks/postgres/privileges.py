"""Privileges that stay: default privileges are set aside while a dump loads, and a schema's own are compared.

A dump names the grants of an object only where they differ from PostgreSQL's own defaults. Default privileges
that the target keeps (`ALTER DEFAULT PRIVILEGES`) would give every new table more than its dump says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from .counting import literal

if TYPE_CHECKING:
    from collections.abc import Collection

    from .session import Connection
    from .wire import Wire

_KINDS = {"r": "TABLES", "S": "SEQUENCES", "f": "FUNCTIONS", "T": "TYPES", "n": "SCHEMAS", "L": "LARGE OBJECTS"}
_SAVED = """
SELECT o.rolname, n.nspname, d.defaclobjtype::pg_catalog.text, CASE WHEN a.grantee = 0 THEN NULL ELSE g.rolname END,
       a.privilege_type, a.is_grantable
  FROM pg_catalog.pg_default_acl d
  JOIN pg_catalog.pg_roles o ON o.oid = d.defaclrole
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace
  LEFT JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) WITH ORDINALITY a ON true
  LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
 WHERE {which}
 ORDER BY d.oid, a.ordinality
"""
# What everybody has by PostgreSQL's own defaults (manual, 5.8).
_HARD_WIRED = {"f": "EXECUTE", "T": "USAGE"}


def set_aside(connection: Connection, schemas: Collection[str]) -> list[bytes]:
    """Take our own default privileges away in the open transaction.

    :param schemas: The schemas that the dump fills; those without a schema are taken away, too.
    :return: The statements that bring them back, in their order.
    """
    us = "o.rolname = current_user AND (n.nspname IS NULL OR n.nspname = ANY(%s))"
    return [each.as_bytes(connection) for each in _take_away(connection, us, [list(schemas)])]


def clear_defaults(connection: Connection) -> None:
    """Take away the default privileges of all roles that we may speak for, in the open transaction."""
    _take_away(connection, "pg_catalog.pg_has_role(o.oid, 'USAGE')", [])


def _take_away(connection: Connection, which: str, values: list[Any]) -> list[sql.Composed]:
    """Take default privileges away, and return what brings them back."""
    groups: dict[_Group, list[tuple[str | None, str | None, bool]]] = {}
    query: Any = _SAVED.format(which=which)
    for role, schema, kind, grantee, privilege, grantable in connection.execute(query, values or None).fetchall():
        groups.setdefault(_Group(role, schema, str(kind)), []).append((grantee, privilege, bool(grantable)))
    back = []
    for group, items in groups.items():
        if group.kind not in _KINDS:
            continue
        for grantee in dict.fromkeys(grantee for grantee, privilege, _ in items if privilege is not None):
            connection.execute(group.change("REVOKE ALL", grantee))
        if group.schema is None:
            connection.execute(group.change("GRANT ALL", group.role))
            if group.kind in _HARD_WIRED:
                connection.execute(group.change(f"GRANT {_HARD_WIRED[group.kind]}", None))
            back += [group.change("REVOKE ALL", each) for each in (group.role, None)]
        back += [
            group.change(f"GRANT {privilege}", grantee, grantable=grantable)
            for grantee, privilege, grantable in items
            if privilege is not None
        ]
    return back


@dataclass(frozen=True)
class _Group:
    """Whose default privileges, where (everywhere if None), on what."""

    role: str
    schema: str | None
    kind: str

    def change(self, what: str, grantee: str | None, *, grantable: bool = False) -> sql.Composed:
        text: Any = what
        objects: Any = _KINDS[self.kind]
        where = sql.SQL("") if self.schema is None else sql.SQL("IN SCHEMA {} ").format(sql.Identifier(self.schema))
        return sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {us} {where}{what} ON {objects} {way} {role}{option}").format(
            us=sql.Identifier(self.role),
            where=where,
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
        b" pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a"
        b" WHERE n.nspname = %s ORDER BY 1, 2, 3, 4" % literal(schema)
    )
