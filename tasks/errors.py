"""The error tree: one sentence and one exit code for everything that a user can cause."""

import copy
import enum
import re
from typing import Self

from invoke.exceptions import Exit

from .formatting import printable

_UNTOUCHED = re.compile(r" ?Nothing was (?:touched|contacted|compared|started)\b[^.]*\.?")


class Effect(enum.StrEnum):
    """What a task that failed did to the configured database."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    UNKNOWN = "unknown"


class TaskError(Exit):
    """An expected failure, shown as one line without a traceback.

    :param message: What happened, in what state the database and the files are, what to do next.
        It never holds a password: what is put in has been scrubbed where it was made.
    :param fix: What to do next, where it is given apart; it is shown behind the message.
    :ivar kind: The class of the error, for programs.
    :ivar message: What Invoke prints; `str()` returns the sentences for people in any case.
    :ivar effect: What became of the database. Until it is set, nothing was changed.
    :ivar result: The result of the task, if it has one.
    """

    exit_code = 5
    kind = "failed"
    effect = Effect.UNCHANGED
    result: object = None

    def __init__(self, message: str, *, fix: str = "") -> None:
        self.fix = printable(fix)
        self.text = " ".join(filter(None, [printable(message), self.fix]))
        super().__init__(self.text, code=self.exit_code)

    def __str__(self) -> str:
        return self.text

    def reworded(self, message: str) -> Self:
        """Return the same error with another message."""
        error = copy.copy(self)
        error.message = error.text = printable(message)
        return error

    def split(self) -> tuple[str, str]:
        """Return what happened, the first sentence without its period, and the rest, which says what to do.

        That nothing was touched is left out, for places where that goes without saying.
        """
        what, _, rest = _UNTOUCHED.sub("", str(self.message)).strip().partition(". ")
        return what.rstrip("."), rest.strip()


class BadInputError(TaskError):
    """A value, URL or dump was refused before anything was touched."""

    exit_code = 2
    kind = "bad_input"


class MissingProgramError(TaskError):
    """A program is missing, or its version does not fit."""

    exit_code = 3
    kind = "missing_program"


class ServerError(TaskError):
    """The server cannot be reached, or another session stands in the way."""

    exit_code = 4
    kind = "server"


class OperationFailedError(TaskError):
    """The work failed and was undone; the message says in what state things are."""

    exit_code = 5


class DifferenceError(TaskError):
    """The work was done, but verification found a difference."""

    exit_code = 6
    kind = "difference"


class GuardError(TaskError):
    """The guard said no; nothing was touched."""

    exit_code = 7
    kind = "refused"


class OutputError(TaskError):
    """The work was done, but its result could not be written to standard output."""

    exit_code = 8
    kind = "output"
    effect = Effect.UNKNOWN


class InterruptedBySignalError(TaskError):
    """A signal ended the work; everything was cleaned up first.

    :param signum: The signal's number; the exit code is 128 more.
    :param message: What state things are in.
    """

    kind = "interrupted"

    def __init__(self, signum: int, message: str) -> None:
        self.exit_code = 128 + signum
        super().__init__(message)
