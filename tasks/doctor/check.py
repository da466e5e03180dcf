"""The result of one check of `db.doctor`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..errors import TaskError


class CheckState(StrEnum):
    """The state of a check."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """The result of one check.

    :ivar state: `NOTE` is information that needs no fix. A check is `SKIPPED` if an earlier problem prevents it.
    :ivar what: The finding, or the reason why the check was skipped.
    :ivar remedy: What to do; never empty if the state is `WRONG`.
    :ivar name: Empty until the check is in the list of all.
    """

    state: CheckState
    what: str
    remedy: str = ""
    name: str = ""

    def named(self, name: str) -> Check:
        """Return the check with its name."""
        return replace(self, name=name)


def ok(what: str) -> Check:
    """Return a check without a problem."""
    return Check(state=CheckState.OK, what=what)


def note(what: str, remedy: str = "") -> Check:
    """Return a check with information that needs no fix now."""
    return Check(state=CheckState.NOTE, what=what, remedy=remedy)


def wrong(what: str, remedy: str) -> Check:
    """Return a check with a problem and its fix."""
    return Check(state=CheckState.WRONG, what=what, remedy=remedy)


def skipped(why: str) -> Check:
    """Return a check that could not run, with the reason."""
    return Check(state=CheckState.SKIPPED, what=why)


def refused(error: TaskError, remedy: str = "") -> Check:
    """Return a check with the problem of an error, and its fix.

    :param remedy: The fix if the error has none.
    """
    return wrong(error.what.rstrip("."), error.fix or remedy)
