"""Read and set what belongs to a database and is in no dump of it: grants, settings, comment, connection limit."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from ..postgres.connection import Connection, one, read_rows


@dataclass(frozen=True)
class Grant:
    """A privilege on a database; the grantee is None for PUBLIC."""

    grantor: str
    grantee: str | None
    privilege: str
    grantable: bool


@dataclass(frozen=True)
class DatabaseProperties:
    """What belongs to a database itself.

    :ivar locale: Encoding, locale and provider, as the catalogue has them, without the version of the collation.
    :ivar grants: All privileges, those by default included, in the order of the catalogue.
    :ivar settings: Of `ALTER DATABASE … SET` and `ALTER ROLE … IN DATABASE … SET`: the role (None for all), the name
        and the value.
    :ivar labels: Security labels: provider and label.
    """

    owner: str
    tablespace: str
    locale: tuple[str, ...]
    template: bool
    connection_limit: int
    comment: str | None
    grants: tuple[Grant, ...]
    settings: tuple[tuple[str | None, str, str], ...]
    labels: tuple[tuple[str, str], ...]

    @property
    def settings_digest(self) -> str:
        """Return a digest of the settings, which shows whether they were changed."""
        return hashlib.sha256(repr(self.settings).encode()).hexdigest()


_DATABASE = """
SELECT r.rolname::pg_catalog.text, t.spcname::pg_catalog.text, d.datistemplate, d.datconnlimit,
       pg_catalog.shobj_description(d.oid, 'pg_database'),
       pg_catalog.to_jsonb(d) - ARRAY['oid', 'datname', 'datdba', 'datistemplate', 'datallowconn', 'datconnlimit',
           'datfrozenxid', 'datminmxid', 'dattablespace', 'datacl', 'datcollversion', 'datlastsysoid', 'dathasloginevt']
  FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba
  JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace WHERE d.oid = %s
"""
_GRANTS = """
SELECT g.rolname::pg_catalog.text AS grantor, CASE WHEN a.grantee <> 0 THEN coalesce(r.rolname::pg_catalog.text,
           a.grantee::pg_catalog.text) END AS grantee, a.privilege_type AS privilege, a.is_grantable AS grantable
  FROM pg_catalog.pg_database d,
       pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba)))
           WITH ORDINALITY a(grantor, grantee, privilege_type, is_grantable, at)
  LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantor LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
 WHERE d.oid = %s ORDER BY a.at
"""
_SETTINGS = """
SELECT CASE WHEN s.setrole <> 0 THEN coalesce(r.rolname::pg_catalog.text, s.setrole::pg_catalog.text) END, c.setting
  FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole,
       pg_catalog.unnest(s.setconfig) WITH ORDINALITY AS c(setting, at)
 WHERE s.setdatabase = %s ORDER BY 1 NULLS FIRST, c.at
"""
_LABELS = """
SELECT l.provider, l.label FROM pg_catalog.pg_shseclabel l
 WHERE l.classoid = 'pg_catalog.pg_database'::pg_catalog.regclass AND l.objoid = %s ORDER BY 1
"""


def read_database_properties(connection: Connection, oid: int) -> DatabaseProperties:
    """Return what belongs to a database, read in a session of any database of the server."""
    owner, tablespace, template, limit, comment, locale = one(connection, _DATABASE, [oid])
    settings = connection.execute(_SETTINGS, [oid]).fetchall()
    labels = connection.execute(_LABELS, [oid]).fetchall()
    return DatabaseProperties(
        owner=str(owner),
        tablespace=str(tablespace),
        locale=tuple(f"{key}={value}" for key, value in sorted(locale.items())),
        template=bool(template),
        connection_limit=int(limit),
        comment=comment,
        grants=read_grants(connection, oid),
        settings=tuple(_setting(role, str(setting)) for role, setting in settings),
        labels=tuple((str(provider), str(label)) for provider, label in labels),
    )


def read_grants(connection: Connection, oid: int) -> tuple[Grant, ...]:
    """Return all privileges on a database, those by default included, in the order of the catalogue."""
    return read_rows(connection, Grant, _GRANTS, [oid])


def _setting(role: str | None, setting: str) -> tuple[str | None, str, str]:
    name, _, value = setting.partition("=")
    return role, name, value


# Settings whose value is a list of names, each of which the server has quoted (`GUC_LIST_QUOTE` of its source). No
# extension may define another one.
_LISTS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)
_LIST_ITEM = re.compile(r'"([^"]*(?:""[^"]*)*)"|([^\s,"]+)')


def settings_statements(properties: DatabaseProperties, name: str) -> list[sql.Composed]:
    """Return the statements that give a database the same settings for all roles and for single roles."""
    database = sql.Identifier(name)
    statements = []
    for role, setting, value in properties.settings:
        whose = sql.SQL("DATABASE {}").format(database)
        if role is not None:
            whose = sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)
        # The name of an extension's setting has several parts: plpgsql.variable_conflict.
        named = sql.Identifier(*setting.split("."))
        statements.append(sql.SQL("ALTER {} SET {} TO {}").format(whose, named, _setting_value(setting, value)))
    return statements


def _setting_value(name: str, value: str) -> sql.Composable:
    if name.lower() not in _LISTS:
        return sql.Literal(value)
    items = [(quoted or "").replace('""', '"') or plain or "" for quoted, plain in _LIST_ITEM.findall(value)]
    return sql.SQL(", ").join(map(sql.Literal, items)) if items else sql.Literal("")


def role_or_public(name: str | None) -> sql.Composable:
    """Return a role's name as SQL; PUBLIC for None."""
    return sql.SQL("PUBLIC") if name is None else sql.Identifier(name)


def grant_statement(database: str, privilege: str, grantee: str | None, *, grantable: bool) -> sql.Composed:
    """Return the statement that grants a privilege on a database; the grantee is None for PUBLIC."""
    text: Any = privilege
    option = sql.SQL(" WITH GRANT OPTION" if grantable else "")
    return sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
        sql.SQL(text), sql.Identifier(database), role_or_public(grantee), option
    )


def access_statements(properties: DatabaseProperties, name: str) -> list[sql.Composed]:
    """Return the statements that give a database the same owner, grants, labels, comment, limit and template flag.

    They are for a database whose privileges are those of its owner alone.
    """
    database, owner = sql.Identifier(name), sql.Identifier(properties.owner)
    statements = [
        sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, owner),
        sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC, {}").format(database, owner),
    ]
    statements += [
        grant_statement(name, each.privilege, each.grantee, grantable=each.grantable) for each in properties.grants
    ]
    for provider, label in properties.labels:
        named = sql.Identifier(provider)
        statements.append(sql.SQL("SECURITY LABEL FOR {} ON DATABASE {} IS {}").format(named, database, label))
    statements += [
        sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(database, sql.Literal(properties.connection_limit)),
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, sql.Literal(properties.comment)),
    ]
    if properties.template:
        statements.append(sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(database))
    return statements
