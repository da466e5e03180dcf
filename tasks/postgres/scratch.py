"""Scratch databases: made for a rehearsal, removed by all means, and swept when a rehearsal was killed."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from ..errors import BadInputError, TaskError
from .session import connected, one, translated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .session import Connection
    from .target import Target

PREFIX = "invoke_postgres_rehearsal_"
MARK = "invoke-postgres rehearsal"
# Held in the scratch database by whoever rehearses in it: the letters of "rehearse", as a number.
LOCK = 8243104692


def inside(target: Target, database: str) -> Target:
    """Tell how to reach another database of the same server."""
    return replace(target, keywords=MappingProxyType({**target.keywords, "dbname": database}))


@contextlib.contextmanager
def database(target: Target) -> Iterator[Target]:
    """Make an empty database like the target's, for the length of a block.

    It is made from template0 with the target's encoding and locale, bears a comment that says whose it is, and
    its advisory lock is held. The target's own database is only read.

    :raises BadInputError: The role may not create databases. Nothing was touched.
    """
    name = PREFIX + secrets.token_hex(6)
    with connected(target) as connection:
        _refuse_without_right(connection)
        try:
            with translated("The scratch database could not be made"):
                connection.execute(_create(connection, name))
            with connected(inside(target, name)) as keeper:
                with translated("The scratch database could not be marked"):
                    keeper.execute("SELECT pg_advisory_lock(%s)", [LOCK])
                    keeper.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), _comment()))
                yield inside(target, name)
        finally:
            _drop(target, name)


def sweep(target: Target) -> list[str]:
    """Drop the scratch databases of rehearsals that were killed, and return their names.

    Only those whose comment is ours, in which no session is, and whose advisory lock is free.
    """
    with connected(target) as connection:
        rows = connection.execute(
            "SELECT d.datname, shobj_description(d.oid, 'pg_database') FROM pg_catalog.pg_database d"
            " WHERE starts_with(d.datname, %s) AND pg_has_role(d.datdba, 'USAGE')"
            "   AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid)",
            [PREFIX],
        ).fetchall()
        return [
            str(name) for name, comment in rows if _ours(comment) and _free(target, name) and _gone(connection, name)
        ]


def _refuse_without_right(connection: Connection) -> None:
    allowed = one(connection, "SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")[0]
    if not allowed:
        raise BadInputError(
            f"A rehearsal needs a role that may create databases, and {connection.info.user} may not. Let a superuser "
            f"run ALTER ROLE … CREATEDB, or name another URL with --url-env. Nothing was touched."
        )


def _create(connection: Connection, name: str) -> sql.Composed:
    major = connection.info.server_version // 10000
    provider, locale = {True: ("datlocprovider", "daticulocale"), False: ("'c'", "NULL")}[major >= 15]  # noqa: PLR2004
    if major >= 17:  # noqa: PLR2004
        locale = "datlocale"
    query = (
        f"SELECT pg_encoding_to_char(encoding), datcollate, datctype, {provider}::text, {locale}"  # noqa: S608
        " FROM pg_catalog.pg_database WHERE datname = current_database()"
    )
    row = connection.execute(query.encode()).fetchone()
    assert row is not None  # noqa: S101 - we are in it
    encoding, collate, ctype, kind, locale = row
    text = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(
        sql.Identifier(name), encoding, collate, ctype
    )
    if kind == "i":
        text += sql.SQL(" LOCALE_PROVIDER icu ICU_LOCALE {}").format(locale)
    elif kind == "b":
        text += sql.SQL(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}").format(locale)
    return text


def _comment() -> sql.Literal:
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return sql.Literal(json.dumps({"made by": MARK, "host": socket.gethostname(), "pid": os.getpid(), "time": made}))


def _ours(comment: str | None) -> bool:
    try:
        return bool(json.loads(comment or "")["made by"] == MARK)
    except (ValueError, KeyError, TypeError):
        return False


def _free(target: Target, name: str) -> bool:
    try:
        with connected(inside(target, name)) as other:
            return bool(one(other, "SELECT pg_try_advisory_lock(%s)", [LOCK])[0])
    except TaskError:
        return False


def _gone(connection: Connection, name: str) -> bool:
    """Drop it; a session that has come meanwhile keeps it."""
    try:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
    except psycopg.Error:
        return False
    return True


def _drop(target: Target, name: str) -> None:
    with connected(target) as connection, translated(f"The scratch database {name} could not be dropped"):
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
