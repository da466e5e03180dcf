"""COMMIT, and the truth about it when the connection dies in the middle."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .. import process
from ..errors import ServerError, TaskError, WorkError
from .session import connected, one
from .wire import LostError, StatementError

if TYPE_CHECKING:
    from .target import Target
    from .wire import Wire

# A backend whose client has gone ends its commit before it notices; a crashed server has to come back.
_PATIENCE = 10.0
_PAUSE = 0.25


def commit(wire: Wire, xid: str, target: Target) -> None:
    """Commit, and find out what became of it if nobody says.

    :param xid: The transaction's id, for `pg_xact_status`.
    :raises WorkError: It was rolled back.
    :raises ServerError: It was rolled back by a lost connection, or nobody can be asked.
    """
    try:
        tag = wire.run(b"COMMIT")
    except StatementError as error:
        raise WorkError(f"The commit was refused: {error}. {target.label} is as it was.") from None
    except LostError as error:
        _settle(xid, target, target.scrub(str(error)))
    except process.Interruption as interruption:
        interruption.state = _after_interruption(xid, target)
        raise
    else:
        if tag != "COMMIT":
            raise WorkError(f"The server rolled back instead of committing; {target.label} is as it was.")


def _settle(xid: str, target: Target, why: str) -> None:
    """Return if it was committed after all."""
    status = _status(xid, target)
    if status == "aborted":
        raise ServerError(
            f"The connection was lost in the commit ({why}), which was rolled back; {target.label} is as it was."
        )
    if status != "committed":
        raise ServerError(
            f"The connection was lost in the commit ({why}), and {target.label} can't be asked what became of it: it "
            f"holds either all of the dump or what it held before. Look with `inv db.verify --file=` of this dump."
        )


def _after_interruption(xid: str, target: Target) -> str:
    status = _status(xid, target)
    if status == "committed":
        return "The restore was already committed: the database holds the dump."
    if status == "aborted":
        return f"The restore was rolled back; {target.label} is as it was."
    return (
        f"The signal came in the commit, and {target.label} can't be asked what became of it: it holds either all of "
        f"the dump or what it held before. Look with `inv db.verify --file=` of this dump."
    )


def _status(xid: str, target: Target) -> str:
    """Ask a second session for `committed` or `aborted`; empty when there is no answer in time."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        try:
            with connected(target) as other:
                status = one(other, "SELECT pg_xact_status(%s::text::xid8)", [xid])[0]
        except TaskError:
            status = None
        if status in {"committed", "aborted"}:
            return str(status)
        time.sleep(_PAUSE)
    return ""
