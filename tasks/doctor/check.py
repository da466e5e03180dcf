"""One line of an examination: what was looked at, what was found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..errors import TaskError


class CheckState(StrEnum):
    """How a check ended."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """What one look found.

    :ivar state: A `NOTE` is what a person may want to know; `SKIPPED`, as something before it was wrong.
    :ivar what: What was found, or why nothing could be.
    :ivar remedy: What to do about it; never empty where something is wrong.
    """

    name: str
    state: CheckState
    what: str
    remedy: str = ""


def ok(name: str, what: str) -> Check:
    """Say that something is as it should be."""
    return Check(name=name, state=CheckState.OK, what=what)


def note(name: str, what: str, remedy: str = "") -> Check:
    """Say something that does no harm now."""
    return Check(name=name, state=CheckState.NOTE, what=what, remedy=remedy)


def wrong(name: str, what: str, remedy: str) -> Check:
    """Say what is wrong, and what helps."""
    return Check(name=name, state=CheckState.WRONG, what=what, remedy=remedy)


def skipped(name: str, why: str) -> Check:
    """Say why nobody could look."""
    return Check(name=name, state=CheckState.SKIPPED, what=why)


def refused(name: str, error: TaskError, remedy: str = "") -> Check:
    """Turn one of our own errors into a line: its first sentence says what, the rest what to do.

    :param remedy: What to do where the error does not say it.
    """
    what, advice = error.split()
    return wrong(name, what, advice or remedy)
