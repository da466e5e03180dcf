"""The errors that a user can cause, each with its exit code."""

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

    :param message: What failed, the state of the database and the files, what to do. It must not contain a password:
        the caller scrubs it.
    :param fix: What to do, if it is given apart; it is shown after the message.
    :ivar kind: The class of the error, for programs.
    :ivar message: What Invoke prints; `str()` returns the sentences for people in any case.
    :ivar effect: The effect on the database. Until it is set, nothing was changed.
    :ivar result: The result of the task, if it has one in spite of the error.
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
        """Return the first sentence (what failed, without its period) and the rest (what to do).

        "Nothing was touched" is left out: the caller states what was changed.
        """
        what, _, rest = _UNTOUCHED.sub("", str(self.message)).strip().partition(". ")
        return what.rstrip("."), rest.strip()


class BadInputError(TaskError):
    """A value, URL or dump was refused before anything was changed."""

    exit_code = 2
    kind = "bad_input"


class MissingProgramError(TaskError):
    """A program is missing, or its version does not fit."""

    exit_code = 3
    kind = "missing_program"


class ServerError(TaskError):
    """The server cannot be reached, or another session blocks the work."""

    exit_code = 4
    kind = "server"


class OperationFailedError(TaskError):
    """The work failed and was rolled back; the message says the state of the database and the files."""

    exit_code = 5


class DifferenceError(TaskError):
    """The work was done, but verification found a difference."""

    exit_code = 6
    kind = "difference"


class GuardError(TaskError):
    """The guard refused; nothing was changed."""

    exit_code = 7
    kind = "refused"


class OutputError(TaskError):
    """The work was done, but its result could not be written to standard output."""

    exit_code = 8
    kind = "output"
    effect = Effect.UNKNOWN


class InterruptedBySignalError(TaskError):
    """A signal ended the work, after the clean-up.

    :param signum: The signal's number; the exit code is 128 more.
    :param message: The state of the database and the files.
    """

    kind = "interrupted"

    def __init__(self, signum: int, message: str) -> None:
        self.exit_code = 128 + signum
        super().__init__(message)
