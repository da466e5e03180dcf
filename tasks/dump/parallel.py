"""The rows of large tables, read by sessions of our own beside pg_dump, in its snapshot and into its text.

pg_dump writes one table after the other through one session, which keeps one processor of the server busy and none of
ours. Here several sessions read slices of a table in turn, and what comes out is, byte for byte, what pg_dump's own
COPY of the table would have written.
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
from ..dumpformat.tokens import split_qualified
from ..errors import OperationFailedError, ServerError, TaskError
from ..postgres.connection import connect
from ..postgres.protocol import LostError, StatementError, StatementStream
from ..postgres.tables import TableChangedError
from ..system.runtime import BackgroundTask
from .pg_dump import ParallelReadUnavailableError
from .table_slices import begin_slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ..config.target import Target
    from ..dumpformat.lexer import Event
    from ..postgres.connection import Connection
    from .table_slices import TableSlices


# Bytes, and how many rows end in them.
_Piece = tuple[bytearray, int]
# More would take from the server what its other users need, and the compressor could not keep up.
SESSIONS = 2
# Pieces, of about a megabyte, that each may be ahead: a slice and a half.
_AHEAD = 6
# What pg_dump may not need, or may wait for: a lock, a right, room for locks, memory.
_OURS_ALONE = ("55P03", "42501", "53")
# Seconds that a thread may take to end by itself.
_MOMENT = 0.1
# Seconds between looks whether to go on.
_LOOK_UP = 0.5


class _StoppedError(BaseException):
    """Nobody wants to read on."""


class ParallelReader:
    """Sessions that read tables in slices, each every second one; a context manager, which ends them.

    :param target: The very server that the snapshot is of.
    :param snapshot: Its name.
    """

    def __init__(self, target: Target, tables: Sequence[TableSlices], snapshot: str) -> None:
        self.tables = sorted(tables, key=lambda each: _order(each.table.key))
        self._left = deque(self.tables)
        self._stopped = threading.Event()
        self._readers = [
            _ReaderThread(target, self.tables, (at, SESSIONS), snapshot, self._stopped) for at in range(SESSIONS)
        ]
        self._turns = itertools.cycle(self._readers)

    def begin(self) -> None:
        """Start reading, the first time that this is called: once pg_dump holds its session and its locks.

        So we are not in its way.
        """
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
        """Whether all tables have found their place."""
        return not self._left

    def patterns(self) -> list[str]:
        """Name the tables as pg_dump's patterns do, each in quotes, in which nothing has a meaning."""
        return [".".join(map(_quoted, each.table.key)) for each in self.tables]

    def events(self, before: tuple[str, str] | None = None) -> Iterator[Event]:
        """Hand on tables as a dump holds them.

        :param before: Of the tables that are left only those whose names come before this one; else all.
        :raises TaskError: One could not be read whole.
        """
        while self._left and (before is None or _order(self._left[0].table.key) < _order(before)):
            each = self._left.popleft()
            schema, name, owner = (re.sub("[\n\r]", " ", part) for part in (*each.table.key, each.owner))
            yield Comment(b"--\n")
            yield Comment(f"-- Data for Name: {name}; Type: TABLE DATA; Schema: {schema}; Owner: {owner}\n".encode())
            yield Comment(b"--\n")
            yield Trivia(b"\n")
            yield Statement(each.header.as_bytes(), each.table.identifier.as_bytes())
            yield Trivia(b"\n")
            for _ in range(each.slices):
                yield from itertools.starmap(CopyData, next(self._turns).slice())
            yield CopyEnd()
            yield Trivia(b"\n\n")


def _order(key: tuple[str, str]) -> tuple[bytes, bytes]:
    """Give what pg_dump sorts tables by."""
    return key[0].encode(errors="surrogateescape"), key[1].encode(errors="surrogateescape")


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


class _ReaderThread(BackgroundTask[None]):
    """One session, and what it has read ahead.

    :param turn: Its first slice, and how many sessions take turns.
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
        # Pieces; None behind the last of a slice.
        self._ahead: queue.Queue[_Piece | None] = queue.Queue(_AHEAD)

    def slice(self) -> Iterator[_Piece]:
        """Hand on the pieces of the next slice.

        :raises TaskError: It could not be read.
        """
        while True:
            ended = not self.is_alive()
            try:
                # A wait without a limit would keep signals from being handled.
                piece = self._ahead.get(timeout=0 if ended else _LOOK_UP)
            except queue.Empty:
                if ended:
                    return self.result()
                continue
            if piece is None:
                return
            yield piece

    def _read_slices(self) -> None:
        """Read all slices, or up to the first error."""
        try:
            self._read()
        except StatementError as error:
            if error.sqlstate.startswith(_OURS_ALONE):
                raise ParallelReadUnavailableError(
                    f"Our sessions lack something that pg_dump may not need: {error}"
                ) from None
            raise OperationFailedError(f"The server could not read the rows: {error}. No dump was written.") from None
        except LostError as error:
            raise ServerError(f"While the rows were read {error}. No dump was written.") from None

    def _read(self) -> None:
        self._begin()
        assert self._connection is not None  # noqa: S101 - it has just been opened
        stream = StatementStream(self._connection)
        first, every = self._turn
        statements = itertools.chain.from_iterable(each.statements() for each in self._tables)
        for statement in itertools.islice(statements, first, None, every):
            for piece in stream.rows(statement):
                self._put(piece)
            self._put(None)

    def _begin(self) -> None:
        """Open the session, in the snapshot, and with its locks."""
        try:
            self._connection = connect(self._target)
            begin_slices(self._connection, self._snapshot, self._tables)
        except TableChangedError:
            raise
        except (TaskError, psycopg.Error) as error:
            raise ParallelReadUnavailableError(f"Our sessions can't read beside pg_dump: {error}") from None

    def _put(self, piece: _Piece | None) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._ahead.put(piece, timeout=_LOOK_UP)
                return
        raise _StoppedError

    def stop(self) -> None:
        """End the session's query, this thread and the session, in this order."""
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
    """Put our tables where pg_dump would have put them, among those whose rows it writes itself.

    Rows stand behind all definitions of tables, and before any index, key or trigger: next to other rows, and in front
    of the comment that announces what comes.
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
