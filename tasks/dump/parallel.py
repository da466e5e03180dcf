"""Read the rows of large tables in parallel, in pg_dump's snapshot, and insert them into its output.

pg_dump writes one table after the other through one session, which uses one processor of the server. Here several
sessions read slices of a table in turn. The result is byte for byte that of pg_dump's COPY of the table.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import re
import threading
from collections import deque
from typing import TYPE_CHECKING, Self

import psycopg

from ..dumpformat.lexer import Comment, CopyData, CopyEnd, Statement, Trivia
from ..dumpformat.summary import TRAILER
from ..dumpformat.tokens import encode_name, split_qualified
from ..errors import OperationFailedError, ServerError, TaskError
from ..postgres.connection import connect
from ..postgres.protocol import LostError, StatementError, StatementStream
from ..postgres.tables import TableChangedError
from ..system.runtime import BackgroundTask, count_processors
from .pg_dump import ParallelReadUnavailableError
from .selection import quoted_pattern
from .table_slices import begin_slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ..config.target import Target
    from ..dumpformat.lexer import Event
    from ..postgres.connection import Connection
    from .table_slices import TableSlices


# Bytes, and the number of rows that end in them.
_Piece = tuple[bytearray, int]
# More sessions would slow down other users of the server, and the compression could not keep up.
_SESSIONS = 2
_SESSIONS_OF_MANY_PROCESSORS = 3
_MANY_PROCESSORS = 5
# Pieces of about a megabyte that a session may read ahead: a slice and a half.
_AHEAD = 6
# SQLSTATEs that pg_dump alone may avoid: a lock, a right, the lock table, memory.
_AVOIDABLE = ("55P03", "42501", "53")
# Seconds that a thread may take to end by itself.
_MOMENT = 0.1
# Seconds between checks whether to stop.
_CHECK_INTERVAL = 0.5


class _StoppedError(BaseException):
    """Reading was stopped."""


class ParallelReader:
    """Sessions that read the slices of tables in turn; a context manager that ends them.

    :param target: The server of the snapshot.
    :param snapshot: The name of the snapshot.
    """

    def __init__(self, target: Target, tables: Sequence[TableSlices], snapshot: str) -> None:
        self.tables = sorted(tables, key=lambda each: _order(each.table.key))
        self._left = deque(self.tables)
        self._stopped = threading.Event()
        sessions = _SESSIONS_OF_MANY_PROCESSORS if count_processors() >= _MANY_PROCESSORS else _SESSIONS
        self._readers = [
            _ReaderThread(target, self.tables, (first, sessions), snapshot, self._stopped) for first in range(sessions)
        ]
        self._turns = itertools.cycle(self._readers)

    def begin(self) -> None:
        """Start reading, on the first call. Call it once pg_dump has its session and locks, so as not to block it."""
        for reader in self._readers:
            if reader.ident is None:
                reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for reader in self._readers:
            reader.stop()

    @property
    def placed(self) -> bool:
        """Whether all tables were inserted."""
        return not self._left

    def patterns(self) -> list[str]:
        """Return the tables as patterns of pg_dump."""
        return [quoted_pattern(*each.table.key) for each in self.tables]

    def events(self, before: tuple[str, str] | None = None) -> Iterator[Event]:
        """Yield the events of tables that were not inserted yet, as in a dump.

        :param before: Only tables whose names sort before this one; None for all.
        :raises TaskError: A table could not be read completely.
        """
        while self._left and (before is None or _order(self._left[0].table.key) < _order(before)):
            each = self._left.popleft()
            schema, name, owner = (re.sub("[\n\r]", " ", part) for part in (*each.table.key, each.owner))
            yield Comment(b"--\n")
            yield Comment(f"-- Data for Name: {name}; Type: TABLE DATA; Schema: {schema}; Owner: {owner}\n".encode())
            yield Comment(b"--\n")
            yield Trivia(b"\n")
            yield Statement(text=each.header.as_bytes(), copies=each.table.identifier.as_bytes())
            yield Trivia(b"\n")
            for _ in range(each.slices):
                yield from itertools.starmap(CopyData, next(self._turns).slice())
            yield CopyEnd()
            yield Trivia(b"\n\n")


def _order(key: tuple[str, str]) -> tuple[bytes, bytes]:
    """Return pg_dump's sort key of a table."""
    return encode_name(key[0]), encode_name(key[1])


class _ReaderThread(BackgroundTask[None]):
    """A session and the pieces that it has read ahead.

    :param turn: The index of its first slice, and the number of sessions.
    """

    def __init__(
        self,
        target: Target,
        tables: Sequence[TableSlices],
        turn: tuple[int, int],
        snapshot: str,
        stopped: threading.Event,
    ) -> None:
        super().__init__(self._read_slices)
        self._target = target
        self._connection: Connection | None = None
        self._tables = tables
        self._turn = turn
        self._snapshot = snapshot
        self._stopped = stopped
        # Pieces; None after the last piece of a slice.
        self._ahead: queue.Queue[_Piece | None] = queue.Queue(_AHEAD)

    def slice(self) -> Iterator[_Piece]:
        """Yield the pieces of the next slice.

        :raises TaskError: It could not be read.
        """
        while True:
            ended = not self.is_alive()
            try:
                # An unlimited wait would delay the handling of signals.
                piece = self._ahead.get(timeout=0 if ended else _CHECK_INTERVAL)
            except queue.Empty:
                if ended:
                    return self.result()
                continue
            if piece is None:
                return
            yield piece

    def _read_slices(self) -> None:
        """Read all slices up to the first error."""
        stream = StatementStream(self._begin())
        statements = itertools.chain.from_iterable(each.statements() for each in self._tables)
        try:
            first, every = self._turn
            for statement in itertools.islice(statements, first, None, every):
                for piece in stream.rows(statement):
                    self._put(piece)
                self._put(None)
        except StatementError as error:
            if error.sqlstate.startswith(_AVOIDABLE):
                raise ParallelReadUnavailableError(
                    f"Parallel reading failed, which pg_dump alone may avoid: {error}"
                ) from None
            raise OperationFailedError(f"Reading the rows failed: {error}. No dump was written.") from None
        except LostError as error:
            raise ServerError(f"Reading the rows failed: {error}. No dump was written.") from None

    def _begin(self) -> Connection:
        """Open the session, set the snapshot, and lock the tables."""
        try:
            self._connection = connect(self._target)
            begin_slices(self._connection, self._snapshot, self._tables)
        except TableChangedError:
            raise
        except (TaskError, psycopg.Error) as error:
            raise ParallelReadUnavailableError(f"Parallel reading is not possible: {error}") from None
        return self._connection

    def _put(self, piece: _Piece | None) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._ahead.put(piece, timeout=_CHECK_INTERVAL)
                return
        raise _StoppedError

    def stop(self) -> None:
        """Cancel the query, then end this thread and its session."""
        if self.ident is not None:
            self.join(timeout=_MOMENT)
        if self.is_alive():
            if self._connection is not None:
                with contextlib.suppress(psycopg.Error):
                    self._connection.cancel_safe(timeout=5)
            self.join(timeout=10)
        if self._connection is not None and not self.is_alive():
            self._connection.close()


def splice_rows(events: Iterable[Event], found: ParallelReader | None) -> Iterator[Event]:
    """Insert the tables of a reader into pg_dump's events where pg_dump would have written them.

    pg_dump writes all rows between the definitions of tables and those of indexes, keys and triggers. The events are
    inserted before the comment that precedes the next statement.
    """
    if found is None:
        yield from events
        return
    held: list[Event] = []
    rows = False
    for event in events:
        if isinstance(event, Statement):
            if event.copies:
                rows = True
                yield from found.events(split_qualified(event.copies))
            elif rows:
                yield from found.events()
            yield from held
            yield event
            held.clear()
        elif held or isinstance(event, Comment):
            if rows and isinstance(event, Comment) and event.text.rstrip() == TRAILER:
                yield from found.events()
            held.append(event)
        else:
            yield event
    yield from held
