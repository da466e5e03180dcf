"""The rows of large tables, read by sessions of our own beside pg_dump, in its snapshot and into its text.

pg_dump writes one table after the other through one session, which keeps one processor of the server busy and none of
ours. Here several sessions read slices of a table in turn, and what comes out is, byte for byte, what pg_dump's own
COPY of the table would have written.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg

from ..archive.lexer import Comment, CopyData, CopyEnd, Statement, Trivia
from ..errors import ServerError, TaskError, WorkError
from ..postgres import slices
from ..postgres.session import connected
from ..postgres.wire import StatementError, Wire
from .counting import refuse_moved

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ..archive.lexer import Event
    from ..postgres.session import Connection
    from ..postgres.slices import Sliced
    from ..postgres.target import Target

# More would take from the server what its other users need, and the compressor could not keep up.
SESSIONS = 2
# Pieces, of about a megabyte, that each may be ahead: a slice and a half.
_AHEAD = 6
# Seconds between looks whether to go on.
_LOOK_UP = 0.5


class AloneError(ServerError):
    """Our sessions could not do their part; pg_dump alone may well do all of it."""


class Slicing:
    """Sessions that read tables in slices, each every second one.

    :param tables: In the order in which they will stand in the dump.
    :param snapshot: Its name.
    :ivar placed: Whether they have found their place in pg_dump's text.
    """

    def __init__(self, connections: Sequence[Connection], tables: Sequence[Sliced], snapshot: str) -> None:
        self.tables = tables
        self.placed = False
        statements = [statement.as_bytes() for each in tables for statement in each.statements()]
        self._stopped = threading.Event()
        self._readers = [
            _Reader(connection, tables, statements[at :: len(connections)], snapshot, self._stopped)
            for at, connection in enumerate(connections)
        ]

    def begin(self) -> None:
        """Start reading, the first time that this is called: once pg_dump holds its locks, not to be in its way."""
        for reader in self._readers:
            if reader.ident is None:
                reader.start()

    def stop(self) -> None:
        """End what is being read."""
        self._stopped.set()
        for reader in self._readers:
            reader.stop()

    def patterns(self) -> list[str]:
        """Name the tables as pg_dump's patterns do, each in quotes, in which nothing has a meaning."""
        return [".".join(map(_quoted, each.table.key)) for each in self.tables]

    def events(self) -> Iterator[Event]:
        """Hand on the tables as a dump holds them.

        :raises TaskError: One could not be read whole.
        """
        at = 0
        for each in self.tables:
            schema, name = (" ".join(part.split("\n")) for part in each.table.key)
            yield Comment(b"--\n")
            yield Comment(f"-- Data for Name: {name}; Type: TABLE DATA; Schema: {schema}; Owner: -\n".encode())
            yield Comment(b"--\n")
            yield Trivia(b"\n")
            yield Statement(each.header.as_bytes(), each.table.identifier.as_bytes())
            yield Trivia(b"\n")
            for _ in each.statements():
                yield from map(CopyData, self._readers[at % len(self._readers)].slice())
                at += 1
            yield CopyEnd()
            yield Trivia(b"\n\n")


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


class _Reader(threading.Thread):
    """One session, and what it has read ahead."""

    def __init__(
        self,
        connection: Connection,
        tables: Sequence[Sliced],
        statements: Sequence[bytes],
        snapshot: str,
        stopped: threading.Event,
    ) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self._tables = tables
        self._statements = statements
        self._snapshot = snapshot
        self._stopped = stopped
        # Pieces; None behind the last of a slice; an error behind which there is nothing.
        self._ahead: queue.Queue[bytes | TaskError | None] = queue.Queue(_AHEAD)

    def slice(self) -> Iterator[bytes]:
        """Hand on the pieces of the next slice.

        :raises TaskError: It could not be read.
        """
        while True:
            # A wait without a limit would keep signals from being handled.
            with contextlib.suppress(queue.Empty):
                piece = self._ahead.get(timeout=_LOOK_UP)
                if isinstance(piece, TaskError):
                    raise piece
                if piece is None:
                    return
                yield piece

    def run(self) -> None:
        """Read all slices."""
        try:
            self._begin()
            wire = Wire(self._connection)
            for statement in self._statements:
                for piece in wire.rows(statement):
                    self._put(piece)
                self._put(None)
        except StatementError as error:
            self._put(WorkError(f"The server could not read the rows: {error}. No dump was written."))
        except TaskError as error:
            self._put(error)

    def _begin(self) -> None:
        try:
            moved = slices.begin(self._connection, self._snapshot, self._tables)
        except psycopg.Error as error:
            raise AloneError(f"Our sessions can't read beside pg_dump: {error}") from None
        refuse_moved(moved)

    def _put(self, piece: bytes | TaskError | None) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._ahead.put(piece, timeout=_LOOK_UP)
                return
        raise SystemExit

    def stop(self) -> None:
        """End the session's query, and this thread."""
        if self.is_alive():
            Wire(self._connection).cancel()
            self.join(timeout=10)


@contextlib.contextmanager
def slicing(
    tables: Sequence[Sliced], snapshot: str, target: Target, reached: Mapping[str, str]
) -> Iterator[Slicing | None]:
    """Open the sessions; None where there are no tables to read, or no room for more sessions.

    :param reached: The keywords of the server that the snapshot's session has reached.
    """
    pinned = replace(target, keywords={**target.keywords, **reached})
    with contextlib.ExitStack() as stack:
        connections: list[Connection] = []
        if tables:
            with contextlib.suppress(TaskError):
                opened = [stack.enter_context(connected(pinned)) for _ in range(SESSIONS)]
                # pg_dump needs one, too, and must not lack it for ours.
                with connected(pinned):
                    connections = opened
        if not connections:
            stack.close()
            yield None
            return
        found = Slicing(connections, tables, snapshot)
        try:
            yield found
        finally:
            found.stop()


def spliced(events: Iterable[Event], found: Slicing | None) -> Iterator[Event]:
    """Put our tables in front of the first rows that pg_dump writes itself, and of the comment that announces them.

    Only there may rows stand: behind all definitions of tables, and before any index, key or trigger.
    """
    events = iter(events)
    if found is not None:
        held: list[Event] = []
        for event in events:
            if isinstance(event, Statement):
                if event.copies:
                    found.placed = True
                    yield from found.events()
                    yield from held
                    yield event
                    break
                yield from held
                yield event
                held.clear()
            elif held or isinstance(event, Comment):
                held.append(event)
            else:
                yield event
        else:
            yield from held
    yield from events
