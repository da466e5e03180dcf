"""Commit a transaction, and find out its outcome if the connection is lost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

import psycopg

from ..errors import Effect, ServerError, TaskError
from ..system.runtime import Interruption
from .connection import connected, one, system_identifier
from .protocol import LostError, StatementError, StatementStream

if TYPE_CHECKING:
    from ..config.target import Target


# A backend finishes its commit although the client is gone; a crashed server needs time to recover.
_PATIENCE = 10.0
_PAUSE = 0.25


class Outcome(Enum):
    """The outcome of a transaction; the value is its effect on the database."""

    COMMITTED = Effect.CHANGED
    ROLLED_BACK = Effect.UNCHANGED
    # The server of the transaction does not answer.
    UNKNOWN = Effect.UNKNOWN

    @property
    def effect(self) -> Effect:
        """Return the effect on the database."""
        return Effect(self.value)


# By `pg_xact_status`.
_OUTCOMES = {"committed": Outcome.COMMITTED, "aborted": Outcome.ROLLED_BACK}


class CommitFailure(Enum):
    """The reason why a commit failed."""

    REFUSED = auto()
    # The server rolled back the transaction instead.
    NOT_DONE = auto()
    CONNECTION_LOST = auto()


@dataclass(frozen=True)
class CommitResult:
    """The result of a commit.

    :ivar failure: None if the transaction was committed.
    :ivar detail: The error message of the server or of the connection.
    """

    outcome: Outcome
    failure: CommitFailure | None = None
    detail: str = ""


def commit_transaction(stream: StatementStream, xid: str, target: Target, cluster: str | None) -> CommitResult:
    """Commit the transaction; if the connection is lost, ask the server for the outcome.

    An interruption cancels the commit if it still can; the caller then calls :func:`ask_outcome`.

    :param xid: The transaction's id, for `pg_xact_status`.
    :param cluster: The system identifier of the cluster, if known; another cluster does not know the transaction.
    """
    try:
        tag = stream.run(b"COMMIT")
    except StatementError as error:
        return CommitResult(outcome=Outcome.ROLLED_BACK, failure=CommitFailure.REFUSED, detail=str(error))
    except LostError as error:
        outcome = ask_outcome(xid, target, cluster)
        failure = None if outcome is Outcome.COMMITTED else CommitFailure.CONNECTION_LOST
        return CommitResult(outcome=outcome, failure=failure, detail=target.scrub(str(error)))
    except Interruption:
        stream.cancel()
        raise
    if tag != "COMMIT":
        return CommitResult(outcome=Outcome.ROLLED_BACK, failure=CommitFailure.NOT_DONE)
    return CommitResult(outcome=Outcome.COMMITTED)


def ask_outcome(xid: str, target: Target, cluster: str | None, *, patience: float = _PATIENCE) -> Outcome:
    """Return the outcome of a commit, from the server.

    :param cluster: As for :func:`commit_transaction`.
    :param patience: Seconds to wait for an answer.
    """
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            with connected(target) as other:
                # A URL with several hosts may reach another server now.
                if cluster not in (None, system_identifier(other)):
                    raise ServerError("another server")
                status = one(other, "SELECT pg_catalog.pg_xact_status(%s::pg_catalog.text::pg_catalog.xid8)", [xid])[0]
        except psycopg.errors.InvalidParameterValue:
            # After a crash the server does not know the id of a transaction that it had not written to disk.
            return Outcome.ROLLED_BACK
        except (TaskError, psycopg.Error):
            status = None
        if status in _OUTCOMES:
            return _OUTCOMES[status]
        time.sleep(_PAUSE)
    return Outcome.UNKNOWN
