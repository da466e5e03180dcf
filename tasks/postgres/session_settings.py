"""The settings of our sessions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..dumpformat.encodings import python_encoding

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

# Set to 0: timeouts of a role or a database would end the session of a snapshot or of a load.
TIMEOUTS = (
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
)
# A session may wait for hours, and firewalls between us and the server drop silent connections.
KEEPALIVES = {"keepalives_idle": "60"}

# Settings that change the meaning of a dump's text, or hide messages of the server. pg_dump itself sets only
# standard_conforming_strings; a dump that does not set it is read as if it were on.
INPUT = {
    "array_nulls": "on",
    "transform_null_equals": "off",
    "standard_conforming_strings": "on",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "session_replication_role": "origin",
    "client_min_messages": "warning",
    # A database's owner may set these. The first changes names in results; the second ends the session at an error that
    # we expect.
    "quote_all_identifiers": "off",
    "exit_on_error": "off",
}

# Start-up options are set before the first statement, and override ALTER ROLE and ALTER DATABASE.
EMPTY_PATH = "-c search_path="
# The owner of a database may set a role for all its sessions, also a superuser's. Tables of that role would then count
# as trusted, and a function of theirs could switch back to the superuser.
NO_ROLE = "-c role=none"
_NAMED_ROLE = re.compile(r"(?<!\S)(?:-c\s*|--)role=((?:[^\s\\]|\\.)*)", re.IGNORECASE | re.DOTALL)
# A table may be replaced with a view after we read the catalogue and before we read the table. Servers without this
# setting (before 12.20, 13.16, 14.13, 15.8, 16.4) ignore it.
READING = {"restrict_nonsystem_relation_kind": "view,foreign-table"}


def role_in(options: str) -> str:
    """Return the role that start-up options set; empty if they set none."""
    found = _NAMED_ROLE.findall(options)
    return re.sub(r"\\(.)", r"\1", found[-1], flags=re.DOTALL) if found else ""


def session_encoding(connection: PGconn) -> str:
    """Return Python's name of the session's client encoding, which a dump may change."""
    return python_encoding((connection.parameter_status(b"client_encoding") or b"").decode())


def transcode(text: bytes, source: str, target: str) -> bytes:
    """Return a text in another encoding; bytes that are invalid in the source encoding are kept."""
    if text.isascii() or source == target:
        return text
    return text.decode(source, "surrogateescape").encode(target, "surrogateescape")


def decode_rows(result: PGresult, connection: PGconn) -> list[list[bytes | None]]:
    """Return the rows of a result as text, in UTF-8."""
    encoding = session_encoding(connection)
    values = [[result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]
    return [[value and transcode(value, encoding, "utf-8") for value in row] for row in values]
