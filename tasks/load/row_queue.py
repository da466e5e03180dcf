"""Pass the rows of a table from the session that reads the dump to the sessions that load them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg.abc import Buffer

    from .workers import WorkerPool


# The size from which the rows of a table are spread over the sessions, and of a part that one session loads.
SPREAD_BYTES, PART_BYTES = 64 << 20, 1 << 19
_BACKSLASH = 92


@dataclass(eq=False)
class RowPart:
    """Complete rows that one session loads; it grows until it is closed."""

    pieces: deque[Buffer] = field(default_factory=deque)
    size: int = 0
    closed: bool = False


class RowQueue:
    """The rows of one table; the memory of all queues of a pool is limited together.

    :ivar size: The bytes of the rows so far.
    :ivar loaded: The number of rows that the server has loaded.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._parts: deque[RowPart] = deque()
        self._last: RowPart | None = None
        self._closed = self._opened = False
        self.size = 0
        self.loaded = 0

    # For the thread that reads the dump.

    def put(self, piece: Buffer) -> None:
        """Add a piece of rows; wait while the pool holds too many bytes.

        :raises Exception: The error of a session.
        """
        size = len(piece)
        self._pool.hold(size)
        self.size += size
        with self._pool.changed:
            part = self._last
            if part is None:
                part = self._last = RowPart()
                self._parts.append(part)
            part.pieces.append(piece)
            part.size += size
            self._pool.changed.notify_all()

    def put_spread(self, piece: bytes | bytearray) -> None:
        """Add a piece, and begin a new part at the last end of a row in it if the part is large enough."""
        end = end_of_rows(piece)
        if end and (self._last.size if self._last else 0) + end >= PART_BYTES:
            self.put(piece[:end])
            self.cut()
            piece = piece[end:]
        if piece:
            self.put(piece)

    def cut(self) -> None:
        """Close the present part: the rows that follow are another one."""
        with self._pool.changed:
            if self._last is not None:
                self._last.closed, self._last = True, None
            self._pool.changed.notify_all()

    def close(self) -> None:
        """Mark the end of the rows."""
        with self._pool.changed:
            self._closed = True
        self.cut()

    # For the sessions.

    def open(self) -> None:
        """Let the sessions take the parts after the first, because the first is committed."""
        with self._pool.changed:
            self._opened = True
            self._pool.changed.notify_all()

    def part(self, *, after_first: bool = False) -> RowPart | None:
        """Wait for the next part and take it; None at the end of the rows.

        :param after_first: Wait until the first part is committed.
        """
        self._pool.wait_for(lambda: (self._opened or not after_first) and bool(self._parts or self._closed))
        with self._pool.changed:
            return self._parts.popleft() if self._parts else None

    def is_small(self, part: RowPart, limit: int) -> bool:
        """Return whether a part is complete and smaller than a number of bytes."""
        with self._pool.changed:
            return part.closed and part.size < limit

    def pieces(self, part: RowPart) -> Iterator[Buffer]:
        """Yield the pieces of a part as they arrive."""
        while True:
            self._pool.wait_for(lambda: bool(part.pieces) or part.closed)
            if not part.pieces:
                return
            piece = part.pieces.popleft()
            yield piece
            self._pool.release(len(piece))

    def add_loaded(self, rows: int) -> None:
        """Add the number of rows that a session has loaded."""
        with self._pool.changed:
            self.loaded += rows


def end_of_rows(piece: bytes | bytearray) -> int:
    """Return the position after the last end of a row in a piece of COPY data; 0 without one.

    A newline after an odd number of backslashes is a part of a value (PostgreSQL manual, COPY).
    """
    end = len(piece)
    while (found := piece.rfind(b"\n", 0, end)) >= 0:
        before = found
        while before and piece[before - 1] == _BACKSLASH:
            before -= 1
        # At the beginning of a piece, backslashes may belong to those at the end of the one before.
        if before and (found - before) % 2 == 0:
            return found + 1
        end = found
    return 0
