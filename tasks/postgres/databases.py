"""Create databases that nobody else can enter before they are ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from .connection import one

if TYPE_CHECKING:
    from .connection import Connection


def create_database(connection: Connection, name: str, options: sql.Composable = sql.SQL("")) -> int:  # noqa: B008 - immutable
    """Create a database which only its owner and superusers may enter, and return its oid.

    Nobody can connect until the rights that everyone has on a new database are revoked.

    :param options: What is added to CREATE DATABASE, each option with a blank before it.
    """
    connection.execute(sql.SQL("CREATE DATABASE {}{} ALLOW_CONNECTIONS false").format(sql.Identifier(name), options))
    open_to_owner(connection, name)
    return int(one(connection, "SELECT oid FROM pg_catalog.pg_database WHERE datname = %s", [name])[0])


def open_to_owner(connection: Connection, name: str) -> None:
    """Open a closed database of ours to its owner and superusers alone."""
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
    connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name)))


def _like(connection: Connection) -> sql.Composed:
    """Write the options of CREATE DATABASE that make another database like the session's own."""
    # The row as JSON: providers came with 15, ICU's rules with 16, and 17 gave the locale another name.
    row = one(
        connection,
        "SELECT pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, pg_catalog.to_jsonb(d)"
        " FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()",
    )
    encoding, collate, ctype, more = row
    text = sql.SQL(" TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(encoding, collate, ctype)
    locale = more.get("datlocale") or more.get("daticulocale")
    # Also libc by name: template0 may have another provider than the database.
    text += {
        None: sql.SQL(""),
        "c": sql.SQL(" LOCALE_PROVIDER libc"),
        "i": sql.SQL(" LOCALE_PROVIDER icu ICU_LOCALE {}").format(locale),
        "b": sql.SQL(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}").format(locale),
    }[more.get("datlocprovider")]
    if more.get("daticurules"):
        text += sql.SQL(" ICU_RULES {}").format(more["daticurules"])
    return text
