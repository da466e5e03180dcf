"""The reason why a login failed; the only place that reads the text of libpq's messages."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING

from ..errors import ServerError

if TYPE_CHECKING:
    import psycopg


class LoginFailure(Enum):
    """The reason why a login failed."""

    WRONG_PASSWORD = auto()
    NO_PASSWORD = auto()
    NO_DATABASE = auto()
    NO_ROLE = auto()
    NOT_ADMITTED = auto()
    TOO_MANY_CONNECTIONS = auto()
    NOT_READY = auto()
    NO_TLS = auto()
    CERTIFICATE = auto()
    OTHER_TLS = auto()
    OTHER = auto()

    @property
    def concerns_tls(self) -> bool:
        """Return whether TLS failed, before any login."""
        return self in {LoginFailure.NO_TLS, LoginFailure.CERTIFICATE, LoginFailure.OTHER_TLS}


class NotConnectedError(ServerError):
    """No connection was established.

    :ivar failure: The reason.
    :ivar answered: Whether the server itself refused the login.
    """

    def __init__(self, what: str, failure: LoginFailure = LoginFailure.OTHER, *, answered: bool = False) -> None:
        fix = "Run `inv db.doctor` to see how to fix it."
        if failure is LoginFailure.NO_DATABASE:
            fix = "To create it from a dump: `inv db.restore --create`. `inv db.doctor` shows other ways."
        super().__init__(what, state="Nothing was touched.", fix=fix)
        self.failure = failure
        self.answered = answered


# libpq's messages of TLS failures. A message of the server about pg_hba.conf may name TLS, too; it is excluded first.
_TLS = re.compile(r"\bSSL\b|\bTLS\b|certificate", re.IGNORECASE)
_TLS_FAILURES = (
    (r"server does not support SSL", LoginFailure.NO_TLS),
    (r"certificate|root", LoginFailure.CERTIFICATE),
)
_FAILURES = (
    (r"password authentication failed", LoginFailure.WRONG_PASSWORD),
    (r"no password supplied", LoginFailure.NO_PASSWORD),
    (r'database "[^"]*" does not exist', LoginFailure.NO_DATABASE),
    (r'role "[^"]*" does not exist', LoginFailure.NO_ROLE),
    (r"pg_hba\.conf", LoginFailure.NOT_ADMITTED),
    (r"too many clients|too many connections|remaining connection slots", LoginFailure.TOO_MANY_CONNECTIONS),
    (r"starting up|shutting down|recovery mode", LoginFailure.NOT_READY),
)


def not_connected(what: str, error: psycopg.Error | UnicodeError) -> NotConnectedError:
    """Return the error for a failed connection.

    libpq gives no SQLSTATE for a failed login (PostgreSQL manual, PQerrorMessage), so the reason is read from the text.
    libpq's part is English, because this process does not set LC_MESSAGES. The server's part is in its lc_messages; in
    another language the reason is OTHER. Only advice depends on the reason, never an exit code.

    :param what: The error as one sentence.
    """
    text = str(error)
    tls = _TLS.search(text) is not None and "pg_hba.conf" not in text
    known = (failure for pattern, failure in (_TLS_FAILURES if tls else _FAILURES) if re.search(pattern, text))
    failure = next(known, LoginFailure.OTHER_TLS if tls else LoginFailure.OTHER)
    return NotConnectedError(what, failure, answered="FATAL:" in text)
