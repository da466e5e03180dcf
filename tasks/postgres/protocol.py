"""Send statements and COPY data over a connection, as bytes and without blocking inside libpq.

Each statement is sent by the extended protocol, which accepts exactly one (PostgreSQL manual, 55.2.3): the server
refuses text that was split wrongly and never runs it as several statements. Nothing blocks inside libpq, so signals are
handled at once. Data is flushed early, so libpq's buffer remains small.
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
# The largest number and size of statements without a result, and the number of statements for each Sync inside a
# transaction.
WINDOW, WINDOW_BYTES, _SYNC_EVERY = 64, 1 << 20, 16
# Milliseconds of one wait, and bytes of a COPY … TO STDOUT that are read at a time.
_POLL_MILLISECONDS, PIECE = 500, 1 << 20
# Seconds to wait for more data, and the number of bytes that is enough.
_NAP, _ENOUGH = 0.0005, 1 << 17
# Bytes of a server's message, and of its detail, that are read.
_MESSAGE = 1 << 13
# The functions of the server with which users' code raises errors: RAISE, `elog` and the like.
_RAISED_IN = frozenset({"pl_exec.c exec_stmt_raise", "plperl.c", "plpy_elog.c", "pltcl.c"})
_COPIES = frozenset({pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT})
_SUCCESS = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY})


class StatementError(OperationFailedError):
    """The server refused a statement.

    :ivar sqlstate: The error's code.
    :ivar doing: What a queued statement does; empty for any other.
    :ivar statement: The statement's text.
    :ivar context: The server's CONTEXT: functions and lines, innermost first.
    :ivar raised: Whether users' code raised the error and chose its SQLSTATE.
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
    """A stream of statements and COPY data to a session.

    The rows of statements of :meth:`run` and :meth:`queue` are dropped one by one as they arrive (libpq's single-row
    mode), so at most one of them is in memory.

    :param connection: Idle and in autocommit. Between calls, psycopg's own methods may be used.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._poll = select.poll()
        self._pgconn.nonblocking = 1
        # Statements without a result yet, each with its description and its callback.
        self._pending: deque[tuple[bytes, str, Callable[[str], None] | None]] = deque()
        self._pending_bytes = 0
        # The number of these statements before each Sync, and after the last one.
        self._synced: deque[int] = deque()
        self._unsynced = 0
        self._sync_every = 1
        # Results, without rows, that arrived while we were sending; and how many statements and Syncs end in them.
        self._received: deque[PGresult | None] = deque()
        self._ends = 0
        # Whether rows are dropped, and whether single-row mode must be set for the next statement.
        self._dropping = self._begins = False
        # Encoding of errors. libpq reports it only after the statement of a dump that changes it.
        self.encoding = "utf-8"

    @property
    def in_transaction(self) -> bool:
        """Return whether a transaction is open and has not failed."""
        return self._pgconn.transaction_status == pq.TransactionStatus.INTRANS

    def queue(self, statement: bytes, doing: str, done: Callable[[str], None] | None = None) -> None:
        """Send one statement without waiting for its result (libpq's pipeline mode).

        All other methods first wait for the queued statements. So a later call may raise the error of this one; the
        server then also refused the statements after it.

        :param doing: What it does, for the error.
        :param done: Called with its command tag after its success.
        :raises StatementError: The server refused this statement or one before it.
        :raises LostError: The connection was lost.
        """
        if not self._pending:
            # Outside a transaction a Sync after each statement makes each one a separate transaction.
            self._sync_every = _SYNC_EVERY if self.in_transaction else 1
            self._try(self._pgconn.enter_pipeline_mode)
            self._dropping = self._begins = True
        self._try(lambda: self._pgconn.send_query_params(statement, []))
        self._pending.append((statement, doing, done))
        self._pending_bytes += len(statement)
        self._unsynced += 1
        if self._unsynced >= self._sync_every:
            self._sync()
        if self._pending_bytes > WINDOW_BYTES:
            self.drain()
        elif len(self._pending) >= WINDOW:
            self.drain(WINDOW // 2)

    def _sync(self) -> None:
        """Send the queued statements and a Sync, which requests their results."""
        self._try(self._pgconn.pipeline_sync)
        self._synced.append(self._unsynced)
        self._unsynced = 0
        self._flush()

    def drain(self, most: int = 0) -> None:
        """Wait until at most that many statements have no result yet; for errors see :meth:`queue`."""
        if not self._pending:
            return
        if self._unsynced:
            self._sync()
        while len(self._pending) > most:
            statement, doing, done = self._pending[0]
            try:
                tag = _command_tag(self._result())
            except StatementError as error:
                error.doing, error.statement = doing, statement
                raise
            self._pending.popleft()
            self._synced[0] -= 1
            if not self._synced[0]:
                self._synced.popleft()
                self._next_result()  # of their Sync
            if done is not None:
                done(tag)
        if not self._pending:
            self._pending_bytes = 0
            self._dropping = False
            self._try(self._pgconn.exit_pipeline_mode)

    def recover(self) -> None:
        """Discard the queued statements after an error, so that the session can be used again.

        :raises LostError: The connection was lost.
        """
        if self._unsynced:
            self._sync()
        while self._synced:
            result = self._next_result()
            if result is not None and result.status == pq.ExecStatus.PIPELINE_SYNC:
                self._synced.popleft()
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
            return _command_tag(self._send(statement, dropping=True))
        except StatementError as error:
            # The error of a queued statement already has its text.
            error.statement = error.statement or statement
            raise

    def encoded(self, statement: bytes) -> bytes:
        """Return one of our statements, written in UTF-8, in the session's encoding."""
        self.drain()
        return transcode(statement, "utf-8", session_encoding(self._pgconn))

    def ask(self, query: bytes) -> list[list[bytes | None]]:
        """Run one of our queries and return its rows as text, in UTF-8."""
        return decode_rows(self._send(self.encoded(query)), self._pgconn)

    def copy(self, statement: bytes) -> None:
        """Begin a COPY … FROM stdin."""
        if self._send(statement).status != pq.ExecStatus.COPY_IN:
            raise OperationFailedError("the server did not start a COPY")

    def data(self, piece: Buffer) -> None:
        """Send a piece of COPY data."""
        self._try(lambda: self._pgconn.put_copy_data(piece))
        self._flush()

    def end_of_data(self) -> int:
        """End the COPY and return the number of rows that the server loaded."""
        self._try(self._pgconn.put_copy_end)
        tag = self._result().command_status or b""
        return int(tag.rpartition(b" ")[2] or 0)

    def rows(self, statement: bytes) -> Iterator[tuple[bytearray, int]]:
        """Run a COPY … TO STDOUT and yield its rows, in pieces of about a megabyte.

        :return: Each piece with the number of rows that end in it.
        :raises StatementError: The server refused it.
        :raises LostError: The connection was lost.
        """
        if self._send(statement).status != pq.ExecStatus.COPY_OUT:
            raise OperationFailedError("the server did not start a COPY")
        more = True
        while more:
            piece, rows, more = self._piece()
            # The piece contains a huge row.
            while len(piece) > 2 * PIECE:
                yield piece[:PIECE], 0
                del piece[:PIECE]
            if piece:
                yield piece, rows
        self._result()

    def _piece(self) -> tuple[bytearray, int, bool]:
        """Return rows of the open COPY … TO STDOUT, their number, and whether there may be more."""
        piece, rows, take = bytearray(), 0, self._pgconn.get_copy_data
        try:
            while len(piece) < PIECE:
                length, row = take(1)
                # Only these three lines run for each row; joining a list of rows takes twice as long.
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
        """Read the data that has arrived, and what arrives within a moment.

        The server sends single pages. Waiting a moment saves a context switch for each page, and lets libpq's buffer,
        which is small at first, grow.
        """
        time.sleep(_NAP)
        # If the connection is lost, the server's last message can still be read.
        with contextlib.suppress(psycopg.Error, OSError):
            socket = self._pgconn.socket
            there, taken = bytes_waiting(socket), 0
            while True:
                # At least once, so that libpq notices a closed connection, which has no data.
                self._pgconn.consume_input()
                taken += there
                there = bytes_waiting(socket)
                # Stop when there is enough, because libpq doubles a full buffer and never shrinks it.
                if not there or taken >= _ENOUGH:
                    break

    def cancel(self) -> None:
        """Send a cancel request for the running statement; it may arrive too late."""
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
        """Wait for a statement's result: the first error, else the last result; return early when a COPY begins.

        The first error counts, because libpq adds its own error, about the lost connection, after the server's.
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
        """Wait for the next result that is not a dropped row; None at the end of a statement."""
        while not self._received and not self._receive():
            self._wait(select.POLLIN)
            try:
                self._pgconn.consume_input()
            except psycopg.Error:
                return self._pgconn.get_result()
        result = self._received.popleft()
        self._ends -= _ends(result)
        return result

    def _receive(self) -> bool:
        """Add the next available result to `_received`, and drop rows before it; return whether there was one."""
        while not self._busy():
            result = self._pgconn.get_result()
            if result is None or result.status != pq.ExecStatus.SINGLE_TUPLE:
                self._begins = self._dropping and _ends(result)
                self._ends += _ends(result)
                self._received.append(result)
                return True
        return False

    def _busy(self) -> bool:
        if self._begins:
            # Must be set before libpq parses the first result of a statement; it refuses at any other time.
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
        """Drop rows while statements are being sent; libpq would keep them all in its buffer."""
        while self._ends < len(self._pending) + len(self._synced) and self._receive():
            if (last := self._received[-1]) is not None and last.status in _COPIES:
                break

    def _wait(self, events: int) -> int:
        self._poll.register(self._try(lambda: self._pgconn.socket), events)
        # A signal just before a wait does not end it, so no wait is long.
        while not (found := self._poll.poll(_POLL_MILLISECONDS)):
            pass
        return found[0][1]

    def _try(self, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except psycopg.Error:
            raise LostError("the connection was lost") from None


def _ends(result: PGresult | None) -> bool:
    # The end of a statement or a Sync; another statement may follow.
    return result is None or result.status == pq.ExecStatus.PIPELINE_SYNC


def _command_tag(result: PGresult) -> str:
    """Return the command tag of a successful statement; raise if it began a COPY."""
    if result.status not in _SUCCESS:
        raise OperationFailedError("a statement began a COPY where no COPY is expected")
    return (result.command_status or b"").decode()


def as_refusal(error: psycopg.Error) -> StatementError | LostError:
    """Return a psycopg error as a StatementError or a LostError."""
    return _refusal(error.diag, str(error).strip())


def _refusal(diagnosis: psycopg.errors.Diagnostic, otherwise: str = "") -> StatementError | LostError:
    # The detail of a deadlock has several lines.
    parts = [(part or "")[:_MESSAGE] for part in (diagnosis.message_primary or otherwise, diagnosis.message_detail)]
    text = ". ".join(" ".join(shortened(part).split("\n")).rstrip(".") for part in parts if part)
    state, severity = diagnosis.sqlstate or "", diagnosis.severity_nonlocalized
    # After an ERROR the session continues, and a function may have chosen the code. Poolers may send no severity.
    if not state or severity in {"FATAL", "PANIC"} or (severity != "ERROR" and state.startswith(("08", "57P"))):
        return LostError(text or "the connection was lost")
    where = "; ".join(shortened(line) for line in (diagnosis.context or "")[:_MESSAGE].split("\n") if line)
    source = {diagnosis.source_file, f"{diagnosis.source_file} {diagnosis.source_function}"}
    return StatementError(text, state, where, raised=not _RAISED_IN.isdisjoint(source))
