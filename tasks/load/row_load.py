"""Load the rows of one table in one session, or spread over several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..postgres.protocol import StatementError
from .row_counts import quote_table
from .row_queue import SPREAD_BYTES, RowQueue

if TYPE_CHECKING:
    from ..postgres.protocol import StatementStream
    from .row_queue import RowPart
    from .workers import WorkerPool

    Key = tuple[str, str]


# Below this size, emptying the table for FREEZE takes longer than VACUUM will.
_SMALL = 1 << 16
# The bytes from which the size of all rows is estimated.
_SAMPLE = 4 << 20
_DENIED = "42501"


class RowLoad:
    """The load of one table's rows.

    The first session empties the table and loads the first rows with FREEZE, for which the server requires a table that
    is new or emptied in the same transaction. If the table is large, its other rows are spread over all sessions.

    :param statement: The dump's COPY statement.
    :param spreads: Whether the rows may be spread.
    :param expected: The number of the table's rows in the dump; 0 if it is unknown.
    :ivar rows: The rows; the caller closes it at their end.
    """

    def __init__(self, pool: WorkerPool, statement: bytes, key: Key, *, spreads: bool, expected: int) -> None:
        self._statement = statement
        self._key = key
        self._spreads = spreads
        self.rows = RowQueue(pool)
        self._is_spread = False
        self._expected = expected
        self._ended = 0

    def put(self, piece: bytes | bytearray) -> bool:
        """Add a piece of rows.

        :return: Whether the rows are spread from now on, so that other sessions should call :meth:`run_more`.
        """
        begins = self._spreads and not self._is_spread and self._is_large(piece)
        self._is_spread = self._is_spread or begins
        if self._is_spread:
            self.rows.put_spread(piece)
        else:
            self.rows.put(piece)
        return begins

    def _is_large(self, piece: bytes | bytearray) -> bool:
        """Return whether the table is large, or will be by the number and the size of its rows so far."""
        size = self.rows.size
        if size > _SAMPLE:
            return size >= SPREAD_BYTES
        self._ended += piece.count(b"\n")
        return size + len(piece) > _SAMPLE and self._expected * (size + len(piece)) >= SPREAD_BYTES * (self._ended + 1)

    def run_first(self, stream: StatementStream) -> None:
        """Load the first rows, then others if they are spread; the task of the first session."""
        part = self.rows.part()
        freezes = part is not None and not self.rows.is_small(part, _SMALL) and self._empty(stream)
        stream.copy(self._statement.rstrip()[:-1] + b" WITH (FREEZE);" if freezes else self._statement)
        if part is not None:
            self._send(stream, part)
        self.rows.add_loaded(stream.end_of_data())
        if freezes:
            stream.run(b"COMMIT")
        self.rows.open()
        self.run_more(stream)

    def run_more(self, stream: StatementStream) -> None:
        """Load parts of the rows as long as there are any; the task of each other session."""
        part = self.rows.part(after_first=True)
        if part is None:
            return
        stream.copy(self._statement)
        while part is not None:
            self._send(stream, part)
            part = self.rows.part(after_first=True)
        self.rows.add_loaded(stream.end_of_data())

    def _empty(self, stream: StatementStream) -> bool:
        """Begin a transaction and empty the table; return False if the role may not."""
        stream.run(b"BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE")
        try:
            stream.run(stream.encoded(b"TRUNCATE ONLY %s" % quote_table(self._key)))
        except StatementError as error:
            stream.run(b"ROLLBACK")
            if error.sqlstate != _DENIED:
                raise
            return False
        return True

    def _send(self, stream: StatementStream, part: RowPart) -> None:
        for piece in self.rows.pieces(part):
            stream.data(piece)
