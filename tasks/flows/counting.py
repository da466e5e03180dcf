"""The server's side of a dump: locks, facts and counts of the snapshot, taken while pg_dump writes."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Self

import psycopg

from ..errors import ServerError
from ..postgres import facts, health, locks, state
from ..postgres.session import translated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..postgres.session import Connection
    from ..postgres.target import Target


class MovedError(ServerError):
    """A table was rewritten between the snapshot and the locks."""


class Counting(threading.Thread):
    """Locks and counts the tables in the snapshot's session while pg_dump writes.

    A context manager; :meth:`begin` starts it, once pg_dump holds its own locks.

    :param summed: The tables whose content is summed, too.
    :param target: Says where Prisma keeps its history, and where to ask who holds a lock.
    """

    def __init__(
        self,
        connection: Connection,
        tables: Sequence[facts.Table],
        summed: Sequence[tuple[str, str]] = (),
        target: Target | None = None,
    ) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self._tables = tables
        self._summed = frozenset(summed)
        self._target = target
        self._found: tuple[state.State, list[dict[str, str]] | None] | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_alive():
            with contextlib.suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=5)
            self.join(timeout=10)

    @property
    def failed(self) -> bool:
        """Whether it has ended with an error."""
        return self._error is not None

    def begin(self) -> None:
        """Start, the first time that this is called."""
        if self.ident is None:
            self.start()

    def result(self) -> tuple[state.State, list[dict[str, str]] | None]:
        """Wait for what the snapshot holds, and for the migration history.

        :raises TaskError: A table could not be locked or read, or was rewritten meanwhile.
        """
        self.begin()
        while self.is_alive():
            # A wait without a limit would keep signals from being handled.
            self.join(0.2)
        if self._error is not None:
            raise self._error
        assert self._found is not None  # noqa: S101 - it has ended, and not with an error
        return self._found

    def look(self) -> None:
        """Look whether the tables are still those of the snapshot.

        :raises MovedError: One is not.
        """
        moved = facts.rewritten(self._connection, self._tables)
        if moved:
            name = ".".join(moved[0].key)
            raise MovedError(f"{name} was changed (truncated, rewritten, renamed or dropped) while the dump began.")

    def run(self) -> None:
        """Lock, look whether the tables are still the snapshot's, count."""
        try:
            with (
                translated("Counting the rows at the server failed, no dump was written", self._target),
                locks.enough(self._connection, len(self._tables), "No dump was written."),
            ):
                facts.lock(self._connection, self._tables)
                self.look()
                history = health.history(self._connection, (self._target.schema if self._target else None) or "public")
                self._found = state.of_tables(self._connection, self._tables, self._summed), history
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            self._error = error
