"""The interface through which work reports its progress; `cli.terminal` shows it, tests collect it."""

from __future__ import annotations

from typing import Protocol


class Report(Protocol):
    """Takes what a flow says. Every method returns at once, and none gets a secret."""

    def step(self, text: str) -> None:
        """Take one line for a finished step."""
        ...

    def detail(self, text: str) -> None:
        """Take a line for who wants to see everything."""
        ...

    def warn(self, text: str) -> None:
        """Take a line that nobody should miss."""
        ...

    def ask(self, question: str) -> str | None:
        """Ask a person, and return the answer; None where no terminal is there to ask."""
        ...

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Take how far the work is; called often.

        :param what: The phase, and the table or index in work; empty where something else is about to write to the
            terminal, so that nothing may be drawn there until more is said.
        :param total: What `done` will be at the end; 0 where nobody knows.
        :param unit: `rows` or `bytes`.
        """
        ...


class Silence:
    """Says nothing."""

    def step(self, text: str) -> None:
        """Say nothing."""

    def detail(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say nothing."""

    def ask(self, question: str) -> str | None:  # noqa: ARG002 - the protocol's
        """Return None: no person is there."""
        return None

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Say nothing."""
