"""COMMIT, and the truth about it when the connection dies in the middle."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

import psycopg

from ..errors import Effect, ServerError, TaskError
from ..system.runtime import Interruption
from .connection import connected, one, system_identifier
from .protocol import LostError, StatementError

if TYPE_CHECKING:
    from ..config.target import Target
    from .protocol import StatementStream


# A backend whose client has gone ends its commit before it notices; a crashed server has to come back.
_PATIENCE = 10.0
_PAUSE = 0.25


class Outcome(Enum):
    """What became of a transaction."""

    COMMITTED = auto()
    ROLLED_BACK = auto()
    # No server answers that could know.
    UNKNOWN = auto()

    @property
    def effect(self) -> Effect:
        """What it means for the database."""
        return {
            Outcome.COMMITTED: Effect.CHANGED,
            Outcome.ROLLED_BACK: Effect.UNCHANGED,
            Outcome.UNKNOWN: Effect.UNKNOWN,
        }[self]


class CommitFailure(Enum):
    """How a commit failed."""

    REFUSED = auto()
    # The server ended the transaction by ROLLBACK instead.
    NOT_DONE = auto()
    CONNECTION_LOST = auto()


@dataclass(frozen=True)
class CommitResult:
    """The end of a commit.

    :ivar failure: None where it was committed; `detail` what the server or the connection said of the failure.
    """

    outcome: Outcome
    failure: CommitFailure | None = None
    detail: str = ""


def commit_transaction(stream: StatementStream, xid: str, target: Target, cluster: str | None) -> CommitResult:
    """Commit, and find out what became of it if nobody says.

    An interruption cancels a commit that can still be cancelled; the caller then asks :func:`ask_outcome`.

    :param xid: The transaction's id, for `pg_xact_status`.
    :param cluster: The cluster's number, where it is known: another one knows nothing of this transaction.
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
    """Ask the server what became of a commit.

    :param cluster: As for :func:`commit_transaction`.
    :param patience: Seconds to wait for an answer.
    """
    status = _status(xid, target, cluster, patience)
    return {"committed": Outcome.COMMITTED, "aborted": Outcome.ROLLED_BACK}.get(status, Outcome.UNKNOWN)


def _status(xid: str, target: Target, cluster: str | None, patience: float) -> str:
    """Ask a second session for `committed` or `aborted`; empty when there is no answer in time."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            with connected(target) as other:
                # Of several hosts another may answer now.
                if cluster not in (None, system_identifier(other)):
                    raise ServerError("another server")
                status = one(other, "SELECT pg_catalog.pg_xact_status(%s::pg_catalog.text::pg_catalog.xid8)", [xid])[0]
        except psycopg.errors.InvalidParameterValue:
            # A server that crashed before anything of the transaction was on disk does not know its id any more.
            status = "aborted"
        except (TaskError, psycopg.Error):
            status = None
        if status in {"committed", "aborted"}:
            return str(status)
        time.sleep(_PAUSE)
    return ""
