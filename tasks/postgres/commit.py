"""COMMIT, and the truth about it when the connection dies in the middle."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from ..errors import ServerError, TaskError, WorkError
from ..system.runtime import Interruption
from .connection import connected, one, system_identifier
from .protocol import LostError, StatementError

if TYPE_CHECKING:
    from ..config.target import Target
    from .protocol import StatementStream


# A backend whose client has gone ends its commit before it notices; a crashed server has to come back.
_PATIENCE = 10.0
_PAUSE = 0.25


@dataclass(frozen=True)
class Sentences:
    """How a kind of work speaks of its commit, each with its period.

    :ivar done: It was committed; `undone` it was rolled back; `unknown` nobody can be asked.
    """

    done: str
    undone: str
    unknown: str


def commit_transaction(
    wire: StatementStream, xid: str, target: Target, sentences: Sentences, cluster: str | None
) -> None:
    """Commit, and find out what became of it if nobody says.

    An interruption cancels a commit that can still be cancelled; the caller then asks :func:`outcome`.

    :param xid: The transaction's id, for `pg_xact_status`.
    :param cluster: The cluster's number, where it is known: another one knows nothing of this transaction.
    :raises WorkError: It was rolled back.
    :raises ServerError: It was rolled back by a lost connection, or nobody can be asked.
    """
    try:
        tag = wire.run(b"COMMIT")
    except StatementError as error:
        raise WorkError(f"The commit was refused: {error}. {sentences.undone}") from None
    except LostError as error:
        _settle(ask_outcome(xid, target, sentences, cluster), target.scrub(str(error)), sentences)
    except Interruption:
        wire.cancel()
        raise
    else:
        if tag != "COMMIT":
            raise WorkError(f"The server rolled back instead of committing. {sentences.undone}")


def ask_outcome(
    xid: str, target: Target, sentences: Sentences, cluster: str | None, *, patience: float = _PATIENCE
) -> str:
    """Ask the server what became of a commit, and choose the sentence that is true.

    :param cluster: As for :func:`commit`.
    :param patience: Seconds to wait for an answer.
    """
    status = _status(xid, target, cluster, patience)
    return {"committed": sentences.done, "aborted": sentences.undone}.get(status, sentences.unknown)


def _settle(found: str, why: str, sentences: Sentences) -> None:
    """Return if it was committed after all."""
    if found != sentences.done:
        raise ServerError(f"The connection was lost in the commit ({why.rstrip('.')}). {found}")


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
