"""The server's side of a dump: locks, facts and counts of the snapshot, taken while pg_dump writes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple, Self

import psycopg

from ..postgres import facts, health, locks, rights, state
from ..postgres.session import translated
from .beside import Beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..postgres.session import Connection
    from ..postgres.target import Target


class Counted(NamedTuple):
    """What the snapshot holds.

    :ivar history: Prisma's migrations; None where there is no history.
    :ivar owners: All owners of objects, each with whether it is a superuser.
    """

    state: state.State
    history: list[dict[str, str]] | None
    owners: dict[str, bool]


class Counting(Beside[Counted]):
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
        super().__init__(self._count)
        self._connection = connection
        self._tables = tables
        self._summed = frozenset(summed)
        self._target = target

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_alive():
            with contextlib.suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=5)
            self.join(timeout=10)

    def begin(self) -> None:
        """Start, the first time that this is called."""
        if self.ident is None:
            self.start()

    def result(self) -> Counted:
        """Wait for what the snapshot holds.

        :raises TaskError: A table could not be locked or read, or was rewritten meanwhile.
        """
        self.begin()
        return super().result()

    def look(self) -> None:
        """Look whether the tables are still those of the snapshot.

        :raises facts.MovedError: One is not.
        """
        facts.refuse_moved(self._connection, self._tables)

    def _count(self) -> Counted:
        """Lock, look whether the tables are still the snapshot's, count."""
        with (
            translated("Counting the rows at the server failed, no dump was written", self._target),
            locks.enough(self._connection, len(self._tables), "No dump was written."),
        ):
            facts.lock(self._connection, self._tables)
            self.look()
            found = state.of_tables(self._connection, self._tables, self._summed)
            # In UTC by now.
            history = health.history(self._connection, (self._target.schema if self._target else None) or "public")
            return Counted(found, history, rights.owners(self._connection))
