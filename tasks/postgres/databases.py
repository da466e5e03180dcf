"""Create databases that only their owner and superusers can connect to."""

from __future__ import annotations

from psycopg import sql

from .connection import Connection, one


def database_exists(connection: Connection, name: str) -> bool:
    """Return whether the server has a database with a name."""
    return bool(one(connection, "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = %s)", [name])[0])


def create_database(connection: Connection, name: str, options: sql.Composable = sql.SQL("")) -> int:  # noqa: B008 - immutable
    """Create a database that only its owner and superusers may connect to, and return its oid.

    It allows no connections until the default privileges of PUBLIC are revoked.

    :param options: Options of CREATE DATABASE, each with a leading space.
    """
    connection.execute(sql.SQL("CREATE DATABASE {}{} ALLOW_CONNECTIONS false").format(sql.Identifier(name), options))
    open_to_owner(connection, name)
    return int(one(connection, "SELECT oid FROM pg_catalog.pg_database WHERE datname = %s", [name])[0])


def open_to_owner(connection: Connection, name: str) -> None:
    """Allow connections to a database, for its owner and superusers only."""
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
    connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name)))


def options_like(connection: Connection) -> sql.Composed:
    """Return the options of CREATE DATABASE for the encoding and locale of the session's database."""
    # As JSON, because the columns differ: 15 added the provider, 16 ICU's rules, and 17 renamed the locale.
    encoding, collate, ctype, more = one(
        connection,
        "SELECT pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, pg_catalog.to_jsonb(d)"
        " FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()",
    )
    text = sql.SQL(" TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(encoding, collate, ctype)
    locale = more.get("datlocale") or more.get("daticulocale")
    # libc must be named, too: template0 may have another provider than the database.
    text += {
        None: sql.SQL(""),
        "c": sql.SQL(" LOCALE_PROVIDER libc"),
        "i": sql.SQL(" LOCALE_PROVIDER icu ICU_LOCALE {}").format(locale),
        "b": sql.SQL(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}").format(locale),
    }[more.get("datlocprovider")]
    if more.get("daticurules"):
        text += sql.SQL(" ICU_RULES {}").format(more["daticurules"])
    return text
