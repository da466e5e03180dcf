"""The interface through which the work reports its progress; `cli.terminal` shows it, tests record it."""

from __future__ import annotations

from typing import Protocol


class Report(Protocol):
    """The receiver of progress messages. Its methods return at once, and are never passed a secret."""

    def step(self, text: str) -> None:
        """Report a finished step in one line."""
        ...

    def detail(self, text: str) -> None:
        """Report a detail, which only verbose output shows."""
        ...

    def warn(self, text: str) -> None:
        """Report a warning."""
        ...

    def ask(self, question: str) -> str | None:
        """Ask the user and return the answer; None without a terminal."""
        ...

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Report the progress of a phase; called often.

        :param what: The phase, and the current table or index. Empty before another program writes to the terminal:
            then draw nothing until the next call.
        :param total: The final value of `done`; 0 if unknown.
        :param unit: `rows` or `bytes`.
        """
        ...


class Silence:
    """A report that discards everything."""

    def step(self, text: str) -> None:
        """Discard the line."""

    def detail(self, text: str) -> None:
        """Discard the line."""

    def warn(self, text: str) -> None:
        """Discard the line."""

    def ask(self, question: str) -> str | None:  # noqa: ARG002 - the protocol's
        """Return None: there is no terminal."""
        return None

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Discard the progress."""
