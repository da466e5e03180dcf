"""The errors that a user can cause, each with its exit code."""

import copy
import enum
from typing import Self

from invoke.exceptions import Exit

from .formatting import printable


class Effect(enum.StrEnum):
    """What a task that failed did to the configured database."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    UNKNOWN = "unknown"


class TaskError(Exit):
    """An expected failure, shown as one line without a traceback.

    :param what: What failed; also the state and the fix, if they are not given apart. It must not contain a password:
        the caller scrubs it.
    :param state: The state of the database and the files.
    :param fix: What to do.
    :ivar kind: The class of the error, for programs.
    :ivar message: What Invoke prints; `str()` returns the sentences for people in any case.
    :ivar effect: The effect on the database. Until it is set, nothing was changed.
    :ivar result: The result of the task, if it has one in spite of the error.
    """

    exit_code = 5
    kind = "failed"
    effect = Effect.UNCHANGED

    def __init__(
        self, what: str, *, state: str = "", fix: str = "", effect: Effect | None = None, result: object = None
    ) -> None:
        self.effect, self.result = effect or self.effect, result
        self.what, self.fix = printable(what), printable(fix)
        self.text = " ".join(filter(None, [self.what, state, self.fix]))
        super().__init__(self.text, code=self.exit_code)

    def __str__(self) -> str:
        return self.text

    def reworded(self, message: str, *, fix: str = "", effect: Effect | None = None) -> Self:
        """Return the same error with another message.

        :param fix: What to do instead; without it the old fix is kept, and the message must contain it.
        """
        error = copy.copy(self)
        error.effect = effect or self.effect
        error.what, error.fix = printable(message), printable(fix) or self.fix
        error.message = error.text = f"{error.what} {printable(fix)}".rstrip()
        return error


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
