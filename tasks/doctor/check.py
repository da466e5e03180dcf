"""One line of an examination: what was looked at, what was found, and what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ..errors import TaskError


CheckState = Literal["ok", "note", "wrong", "skipped"]
# Nothing was ever touched here, so no line needs to say it.
_UNTOUCHED = re.compile(r" ?Nothing was (?:touched|contacted|compared|started)\b[^.]*\.?")


@dataclass(frozen=True)
class Check:
    """What one look found.

    :ivar state: `ok`; `note`, which a person may want to know; `wrong`; `skipped`, as something before it was wrong.
    :ivar what: What was found, or why nothing could be.
    :ivar remedy: What to do about it; never empty where something is wrong.
    """

    name: str
    state: CheckState
    what: str
    remedy: str = ""


def ok(name: str, what: str) -> Check:
    """Say that something is as it should be."""
    return Check(name=name, state="ok", what=what)


def note(name: str, what: str, remedy: str = "") -> Check:
    """Say something that does no harm now."""
    return Check(name=name, state="note", what=what, remedy=remedy)


def wrong(name: str, what: str, remedy: str) -> Check:
    """Say what is wrong, and what helps."""
    return Check(name=name, state="wrong", what=what, remedy=remedy)


def skipped(name: str, why: str) -> Check:
    """Say why nobody could look."""
    return Check(name=name, state="skipped", what=why)


def refused(name: str, error: TaskError, remedy: str = "") -> Check:
    """Turn one of our own errors into a line: its first sentence says what, the rest what to do.

    :param remedy: What to do where the error does not say it.
    """
    what, _, rest = _UNTOUCHED.sub("", str(error)).strip().partition(". ")
    return wrong(name, what.rstrip("."), rest.strip() or remedy)
