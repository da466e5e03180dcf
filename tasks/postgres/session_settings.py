"""What a session of ours sets at its start, and why."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..dumpformat.encodings import python_encoding

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

# A role may carry timeouts that would end a snapshot's holder or a load half-way.
TIMEOUTS = (
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
)
# A session may wait for others for hours, and what lies between us and the server forgets connections that are silent.
KEEPALIVES = {"keepalives_idle": "60"}

# What changes the meaning of a dump's text, or hides what the server has to say. Of these pg_dump sets but the
# strings, without which a dump is split as if they were on.
INPUT = {
    "array_nulls": "on",
    "transform_null_equals": "off",
    "standard_conforming_strings": "on",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "session_replication_role": "origin",
    "client_min_messages": "warning",
    # A database's owner may set these; the first changes the names that the server shows us, the second ends the
    # session at an error that we expect.
    "quote_all_identifiers": "off",
    "exit_on_error": "off",
}

# Before any statement of ours, and above what ALTER ROLE and ALTER DATABASE set.
EMPTY_PATH = "-c search_path="
# The owner of a database may set a role for all its sessions, a superuser's too: tables of that role would then count
# as our own, and a function in them could take the superuser's role back.
NO_ROLE = "-c role=none"
_NAMED_ROLE = re.compile(r"(?<!\S)(?:-c\s*|--)role=((?:[^\s\\]|\\.)*)", re.IGNORECASE | re.DOTALL)
# A table may be replaced by a view between our look at the catalogue and our reading. Servers without this setting
# (before 12.20, 13.16, 14.13, 15.8, 16.4) ignore it.
READING = {"restrict_nonsystem_relation_kind": "view,foreign-table"}


def role_in(options: str) -> str:
    """Return the role that start-up options name; empty where they name none."""
    found = _NAMED_ROLE.findall(options)
    return re.sub(r"\\(.)", r"\1", found[-1], flags=re.DOTALL) if found else ""


def session_encoding(connection: PGconn) -> str:
    """Return Python's name of the encoding in which the session reads and writes, which a dump may change."""
    return python_encoding((connection.parameter_status(b"client_encoding") or b"").decode())


def transcode(text: bytes, source: str, target: str) -> bytes:
    """Return a text in another encoding; bytes that the first does not know are kept."""
    if text.isascii() or source == target:
        return text
    return text.decode(source, "surrogateescape").encode(target, "surrogateescape")


def decode_rows(result: PGresult, connection: PGconn) -> list[list[bytes | None]]:
    """Return the rows of a result as text, in UTF-8."""
    encoding = session_encoding(connection)
    values = [[result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]
    return [[value and transcode(value, encoding, "utf-8") for value in row] for row in values]
