"""One connection, statement by statement, in bytes: what is sent and fetched, and how it waits.

Each statement goes by the extended protocol, which takes exactly one (PostgreSQL manual, 55.2.3): text that
was split wrongly is refused, never run as several. Nothing here blocks inside libpq, so a signal is seen at
once, and data is flushed early, so libpq's buffer remains small.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

import psycopg
from psycopg import pq

from ..errors import OperationFailedError, ServerError
from ..formatting import shortened
from ..system.processes import bytes_waiting
from .session_settings import decode_rows, session_encoding, transcode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg.abc import Buffer
    from psycopg.pq.abc import PGresult

    from .connection import Connection


Result = TypeVar("Result")
# How many statements, and how many bytes of them, may be on their way at once; and how many go out at once, where they
# are one transaction anyhow.
WINDOW, WINDOW_BYTES, _TOGETHER = 64, 1 << 20, 16
# Milliseconds of a wait, and what is read of a COPY … TO STDOUT at a time.
_LOOK_UP, PIECE = 500, 1 << 20
# Seconds in which it may gather, and how much of it is enough.
_NAP, _GATHERED = 0.0005, 1 << 17
# Characters of a server's message, and of its details, that are looked at.
_MESSAGE = 1 << 13
_COPIES = frozenset({pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT})
# Where the server's sources raise what code of users raises itself: the languages' own RAISE, `elog` and so on.
_RAISED_IN = frozenset({"pl_exec.c exec_stmt_raise", "plperl.c", "plpy_elog.c", "pltcl.c"})
_FINE = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY})


class StatementError(OperationFailedError):
    """The server refused a statement.

    :ivar sqlstate: The error's code.
    :ivar doing: What the statement does, where it was one of several on their way.
    :ivar statement: Its text.
    :ivar context: Where it happened, innermost first, as the server says it: functions and lines.
    :ivar raised: Whether code of users raised it and chose its code, which then says nothing of the server.
    """

    def __init__(self, message: str, sqlstate: str, context: str = "", *, raised: bool = False) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.context = context
        self.raised = raised
        self.doing = ""
        self.statement = b""


class LostError(ServerError):
    """The connection was lost."""


class StatementStream:
    """Sends statements and COPY data over a session of ours.

    :param connection: Idle and in autocommit; psycopg's own calls may be used between these.

    The rows of what :meth:`run` and :meth:`queue` send are dropped one by one as they come (libpq's single-row mode),
    so that however many they are, no more than one of them is in memory.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._poll = select.poll()
        self._pgconn.nonblocking = 1
        # What is on its way: what it does, and who wants its command tag.
        self._pending: deque[tuple[bytes, str, Callable[[str], None] | None]] = deque()
        self._pending_bytes = 0
        # How many of them the server was asked about each time, and how many of the last it was not.
        self._asked: deque[int] = deque()
        self._unasked = 0
        self._together = 1
        # What came while we were sending, without rows; and how many statements and synchronizations end in it.
        self._came: deque[PGresult | None] = deque()
        self._ends = 0
        # Whether rows are dropped, and whether libpq is still to be asked so for the next statement.
        self._dropping = self._begins = False
        # Of what is sent, for errors: the server says what a dump has set too late.
        self.encoding = "utf-8"

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open and not failed."""
        return self._pgconn.transaction_status == pq.TransactionStatus.INTRANS

    def queue(self, statement: bytes, doing: str, done: Callable[[str], None] | None = None) -> None:
        """Send one statement and do not wait for it: further ones follow at once (libpq's pipeline mode).

        Each is still a message of its own, and whatever else is asked of this stream waits for all of them first. An
        error may thus be raised by a later call; what came behind it was refused, too.

        :param doing: What it does, for the error.
        :param done: Called with its command tag once it is through.
        :raises StatementError: The server refused this statement or one before it.
        :raises LostError: The connection was lost.
        """
        if not self._pending:
            # Else each would no longer be a transaction of its own.
            self._together = _TOGETHER if self.in_transaction else 1
            self._try(self._pgconn.enter_pipeline_mode)
            self._dropping = self._begins = True
        self._try(lambda: self._pgconn.send_query_params(statement, []))
        self._pending.append((statement, doing, done))
        self._pending_bytes += len(statement)
        self._unasked += 1
        if self._unasked >= self._together:
            self._ask()
        if self._pending_bytes > WINDOW_BYTES:
            self.drain()
        elif len(self._pending) >= WINDOW:
            self.drain(WINDOW // 2)

    def _ask(self) -> None:
        """Send what is not yet sent, and ask for the results (the protocol's Sync)."""
        self._try(self._pgconn.pipeline_sync)
        self._asked.append(self._unasked)
        self._unasked = 0
        self._flush()

    def drain(self, most: int = 0) -> None:
        """Wait until at most that many statements are on their way; for errors see :meth:`queue`."""
        if not self._pending:
            return
        if self._unasked:
            self._ask()
        while len(self._pending) > most:
            statement, doing, done = self._pending[0]
            try:
                tag = _fine(self._result())
            except StatementError as error:
                error.doing, error.statement = doing, statement
                raise
            self._pending.popleft()
            self._asked[0] -= 1
            if not self._asked[0]:
                self._asked.popleft()
                self._next_result()  # of the synchronization behind them
            if done is not None:
                done(tag)
        if not self._pending:
            self._pending_bytes = 0
            self._dropping = False
            self._try(self._pgconn.exit_pipeline_mode)

    def recover(self) -> None:
        """Drop what was on its way when a statement was refused, so that the session can be used again.

        :raises LostError: The connection was lost.
        """
        if self._unasked:
            self._ask()
        while self._asked:
            result = self._next_result()
            if result is not None and result.status == pq.ExecStatus.PIPELINE_SYNC:
                self._asked.popleft()
            elif self._pgconn.status != pq.ConnStatus.OK:
                raise LostError("the connection was lost")
        if self._pending:
            self._pending.clear()
            self._pending_bytes = 0
            self._dropping = False
            self._try(self._pgconn.exit_pipeline_mode)

    def run(self, statement: bytes) -> str:
        """Run one statement and return its command tag, such as `INSERT 0 3`.

        :raises StatementError: The server refused it.
        :raises LostError: The connection was lost.
        """
        try:
            return _fine(self._send(statement, dropping=True))
        except StatementError as error:
            # One that was on its way before has its own.
            error.statement = error.statement or statement
            raise

    def encoded(self, statement: bytes) -> bytes:
        """Return a statement of ours, which is written in UTF-8, in the session's encoding."""
        self.drain()
        return transcode(statement, "utf-8", session_encoding(self._pgconn))

    def ask(self, query: bytes) -> list[list[bytes | None]]:
        """Run a query of ours and return its rows as text, in UTF-8."""
        return decode_rows(self._send(self.encoded(query)), self._pgconn)

    def copy(self, statement: bytes) -> None:
        """Begin a COPY … FROM stdin."""
        if self._send(statement).status != pq.ExecStatus.COPY_IN:
            raise OperationFailedError("the server did not take a COPY as one")

    def data(self, piece: Buffer) -> None:
        """Send a piece of COPY data."""
        self._try(lambda: self._pgconn.put_copy_data(piece))
        self._flush()

    def end_of_data(self) -> int:
        """End the COPY and return how many rows the server took."""
        self._try(self._pgconn.put_copy_end)
        tag = self._result().command_status or b""
        return int(tag.rpartition(b" ")[2] or 0)

    def rows(self, statement: bytes) -> Iterator[tuple[bytearray, int]]:
        """Run a COPY … TO STDOUT and hand on its rows, in pieces of about a megabyte; one row is held at a time.

        :return: Each piece with how many rows end in it: the server sends each as a message of its own.
        :raises StatementError: The server refused it.
        :raises LostError: The connection was lost.
        """
        if self._send(statement).status != pq.ExecStatus.COPY_OUT:
            raise OperationFailedError("the server did not take a COPY as one")
        more = True
        while more:
            piece, rows, more = self._piece()
            # Of one huge row.
            while len(piece) > 2 * PIECE:
                yield piece[:PIECE], 0
                del piece[:PIECE]
            if piece:
                yield piece, rows
        self._result()

    def _piece(self) -> tuple[bytearray, int, bool]:
        """Fetch rows of the open COPY … TO STDOUT, and tell how many they are, and whether there may be more."""
        piece, rows, take = bytearray(), 0, self._pgconn.get_copy_data
        try:
            while len(piece) < PIECE:
                length, row = take(1)
                # Nothing but these three lines is done for each row; a list of them, joined, takes twice as long.
                while length > 0:
                    piece += row
                    rows += 1
                    length, row = take(1)
                if length < 0:
                    return piece, rows, False
                self._wait(select.POLLIN)
                self._gather()
        except psycopg.Error:
            raise LostError("the connection was lost") from None
        return piece, rows, True

    def _gather(self) -> None:
        """Take what has come, and what comes within a moment.

        The server sends page by page, and would wake us for each; and libpq, whose buffer is small to begin with,
        would take no more at a time.
        """
        time.sleep(_NAP)
        # What the server said last is still to be had where the connection is lost.
        with contextlib.suppress(psycopg.Error, OSError):
            socket = self._pgconn.socket
            there, taken = bytes_waiting(socket), 0
            while True:
                # Once at least: a connection that has ended holds nothing, and libpq is to see that.
                self._pgconn.consume_input()
                taken += there
                there = bytes_waiting(socket)
                # Never again once there was enough: it makes a buffer that is full twice as large, for good.
                if not there or taken >= _GATHERED:
                    break

    def cancel(self) -> None:
        """Ask the server to stop what it does for us; it may come too late."""
        with contextlib.suppress(psycopg.Error):
            self._connection.cancel_safe(timeout=5)

    def _send(self, statement: bytes, *, dropping: bool = False) -> PGresult:
        self.drain()
        self._try(lambda: self._pgconn.send_query_params(statement, []))
        self._dropping = self._begins = dropping
        try:
            return self._result()
        except StatementError as error:
            error.statement = statement
            raise
        finally:
            self._dropping = False

    def _result(self) -> PGresult:
        """Wait for the result of what was sent: the first error, else the last one, unless a COPY begins.

        Behind the server's own last words libpq puts an error of its own, that the connection was lost.
        """
        self._flush()
        last: PGresult | None = None
        while (result := self._next_result()) is not None:
            if last is None or last.status != pq.ExecStatus.FATAL_ERROR:
                last = result
            if result.status in _COPIES:
                break
        if last is None:
            raise LostError("the connection was lost")
        if last.status == pq.ExecStatus.FATAL_ERROR:
            raise _refusal(psycopg.errors.Diagnostic(last, self.encoding))
        return last

    def _next_result(self) -> PGresult | None:
        """Wait for the next result that is no row to be dropped; None at the end of a statement."""
        while not self._came and not self._take():
            self._wait(select.POLLIN)
            try:
                self._pgconn.consume_input()
            except psycopg.Error:
                return self._pgconn.get_result()
        result = self._came.popleft()
        self._ends -= _ends(result)
        return result

    def _take(self) -> bool:
        """Take one result of what has come, and drop the rows before it; return whether there was one."""
        while not self._busy():
            result = self._pgconn.get_result()
            if result is None or result.status != pq.ExecStatus.SINGLE_TUPLE:
                self._begins = self._dropping and _ends(result)
                self._ends += _ends(result)
                self._came.append(result)
                return True
        return False

    def _busy(self) -> bool:
        if self._begins:
            # Before libpq parses the first answer to a statement; where none is next, it refuses.
            with contextlib.suppress(psycopg.Error):
                self._pgconn.set_single_row_mode()
            self._begins = False
        return bool(self._pgconn.is_busy())

    def _flush(self) -> None:
        while self._try(self._pgconn.flush):
            if self._wait(select.POLLIN | select.POLLOUT) & select.POLLIN:
                self._try(self._pgconn.consume_input)
                self._drop_rows()

    def _drop_rows(self) -> None:
        """Drop rows while more is still being sent: libpq would keep all that comes in its buffer."""
        while self._ends < len(self._pending) + len(self._asked) and self._take():
            if (last := self._came[-1]) is not None and last.status in _COPIES:
                break

    def _wait(self, events: int) -> int:
        self._poll.register(self._try(lambda: self._pgconn.socket), events)
        # A signal that comes just before a wait does not end it, so no wait is long.
        while not (found := self._poll.poll(_LOOK_UP)):
            pass
        return found[0][1]

    def _try(self, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except psycopg.Error:
            raise LostError("the connection was lost") from None


def _ends(result: PGresult | None) -> bool:
    # Of a statement or a synchronization, so that another statement may follow.
    return result is None or result.status == pq.ExecStatus.PIPELINE_SYNC


def _fine(result: PGresult) -> str:
    """Return the command tag of a statement that went well."""
    if result.status not in _FINE:
        raise OperationFailedError("a statement asked to send or fetch COPY data, which a dump never does")
    return (result.command_status or b"").decode()


def as_refusal(error: psycopg.Error) -> StatementError | LostError:
    """Turn an error of psycopg's own calls into one of ours."""
    return _refusal(error.diag, str(error).strip())


def _refusal(said: psycopg.errors.Diagnostic, otherwise: str = "") -> StatementError | LostError:
    # Details of a deadlock have several lines.
    parts = [(part or "")[:_MESSAGE] for part in (said.message_primary or otherwise, said.message_detail)]
    text = ". ".join(" ".join(shortened(part).split("\n")).rstrip(".") for part in parts if part)
    state, severity = said.sqlstate or "", said.severity_nonlocalized
    # After an ERROR the session lives on, and its code may be one that a function chose. Poolers may say no severity.
    if not state or severity in {"FATAL", "PANIC"} or (severity != "ERROR" and state.startswith(("08", "57P"))):
        return LostError(text or "the connection was lost")
    where = "; ".join(shortened(line) for line in (said.context or "")[:_MESSAGE].split("\n") if line)
    raised = not _RAISED_IN.isdisjoint({said.source_file, f"{said.source_file} {said.source_function}"})
    return StatementError(text, state, where, raised=raised)
