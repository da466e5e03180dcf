"""Keep the settings of the loading session, although a dump sets or resets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dumpformat.tokens import TokenReader
from ..postgres.connection import session_role
from ..postgres.session_settings import INPUT, TIMEOUTS
from .row_counts import quote_literal

if TYPE_CHECKING:
    from ..dumpformat.statements import StatementKind
    from ..postgres.connection import Connection
    from ..postgres.protocol import StatementStream


# The parts of DISCARD ALL (PostgreSQL manual, DISCARD), which is not allowed in a transaction.
_DISCARD_ALL = (
    b"CLOSE ALL",
    b"SET SESSION AUTHORIZATION DEFAULT",
    b"RESET ALL",
    b"DEALLOCATE ALL",
    b"UNLISTEN *",
    b"DISCARD TEMP",
    b"DISCARD SEQUENCES",
)


class SessionSettings:
    """The role and the settings that a session has at its beginning, to set them again."""

    def __init__(self, connection: Connection, stream: StatementStream, *, superuser: bool) -> None:
        """Read the role, and the settings that the role may set at any time."""
        self._stream = stream
        self._role = quote_literal(session_role(connection))
        self._settings = connection.execute(
            "SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings"
            " WHERE name = ANY(%s) AND (context = 'user' OR %s)",
            [[*TIMEOUTS, "lock_timeout", *INPUT], superuser],
        ).fetchall()

    def set_again(self, only: str = "") -> None:
        """Set all of the settings again, or only one, if it is one of them."""
        for name, value in self._settings:
            if only in {"", name.lower()}:
                self._stream.run(self._stream.encoded(b"SET %s = %s" % (name.encode(), quote_literal(value))))

    def discard_all(self) -> None:
        """Do what DISCARD ALL does, and set the settings again."""
        for statement in _DISCARD_ALL:
            self._stream.run(statement)
        self.set_again()

    def reset_role(self) -> None:
        """Set the role that the session had at its beginning."""
        for statement in (b"RESET SESSION AUTHORIZATION", b"SET ROLE " + self._role):
            self._stream.run(self._stream.encoded(statement))

    def reset_session(self) -> None:
        """Reset the role and the settings, and drop the temporary objects of the dump.

        Objects that depend on a temporary object are dropped with it, as at the end of a session.
        """
        self.reset_role()
        self._stream.run(b"SET client_encoding = 'UTF8'")
        self._stream.run(b"SET search_path = ''")
        self.set_again()
        self._stream.run(b"SET row_security = off")
        self._stream.run(b"DISCARD TEMP")


def discards_all(text: bytes, kind: StatementKind) -> bool:
    """Return whether a statement is DISCARD ALL."""
    words = TokenReader(text)
    return kind.verb == "DISCARD" and words.skip("DISCARD") and words.skip("ALL")
