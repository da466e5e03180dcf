"""Signals, standard streams and background tasks of this process."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import select
import signal
import stat
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..errors import BadInputError, Effect, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


Result = TypeVar("Result")


# With so many processors or fewer, more threads and sessions of a dump slow it down: the server on the same machine
# needs them (docs/performance.md).
SHARED_PROCESSORS = 2


def count_processors() -> int:
    """Return the number of processors that this process may use; PYTHON_CPU_COUNT overrides it, as in Python 3.13."""
    with contextlib.suppress(KeyError, ValueError):
        if (number := int(os.environ["PYTHON_CPU_COUNT"])) > 0:
            return number
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class BackgroundTask(threading.Thread, Generic[Result]):
    """A daemon thread that runs a function and keeps its result or its error.

    :param function: Called in the thread.
    """

    def __init__(self, function: Callable[[], Result]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._found: list[Result] = []
        self._error: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Return whether it has ended with an error."""
        return self._error is not None

    def raise_error(self) -> None:
        """Raise the function's error, if it has ended with one, on every call."""
        if self._error is not None:
            # A copy: an error that is raised twice becomes its own context, and contextlib.ExitStack then loops.
            raise copy.copy(self._error)

    def result(self) -> Result:
        """Wait until the function ends; return its result or raise its error."""
        while self.is_alive():
            # A wait without a timeout would delay the handling of signals.
            self.join(0.2)
        if self._error is not None:
            raise self._error
        return self._found[0]

    def run(self) -> None:
        """Call the function; the thread's main method."""
        try:
            self._found.append(self._function())
        except BaseException as error:  # noqa: BLE001 - `result` raises it
            self._error = error


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption(KeyboardInterrupt):
    """A signal that ends this process, raised in the main thread.

    It is a `KeyboardInterrupt`, so psycopg cancels the running query before it passes the exception on.

    :ivar signum: The signal's number.
    :ivar state: The state of the database and files, if a caller has set it; else the text of
        :func:`set_interrupt_message`.
    :ivar effect: The effect on the database, in the same way.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.state, self.effect = _message[0]


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into an :class:`Interruption`; ignore the next ones.

    They are ignored so that they do not interrupt the clean-up, which is short.
    Outside the main thread, where Python allows no signal handlers, do nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A signal that the parent process ignores (nohup) remains ignored.
    before = {each: signal.getsignal(each) for each in SIGNALS}
    set_interrupt_message("")
    _deferred[0] = 0
    _late.clear()
    _signalled[0] = False
    _handled[:] = [each for each in SIGNALS if before[each] is not signal.SIG_IGN]
    listen_again()
    hook = sys.unraisablehook
    sys.unraisablehook = partial(_raise_again, hook)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.setitimer(signal.ITIMER_REAL, 0)
        for each in SIGNALS:
            signal.signal(each, before[each])


def _raise_again(hook: Callable[[sys.UnraisableHookArgs], object], ignored: sys.UnraisableHookArgs) -> None:
    """Raise an interruption again a moment later if it came in a finalizer, whose exceptions Python ignores."""
    error = ignored.exc_value
    if not isinstance(error, Interruption):
        hook(ignored)
        return
    signum = error.signum
    signal.signal(signal.SIGALRM, lambda _, frame: _interrupt(signum, frame))
    signal.setitimer(signal.ITIMER_REAL, _FINALIZER_SECONDS)


_FINALIZER_SECONDS = 0.01
_handled: list[signal.Signals] = []
_message = [("", Effect.UNCHANGED)]


def set_interrupt_message(sentence: str, effect: Effect = Effect.UNCHANGED) -> None:
    """Set the message of later interruptions, once the work is done and only output remains.

    :param effect: The effect of the work on the database.
    """
    _message[0] = sentence, effect


@contextlib.contextmanager
def interruptions_say(state: str, effect: Effect = Effect.UNCHANGED) -> Iterator[None]:
    """Give an interruption in a block the state of the database and files, and the effect on the database."""
    try:
        yield
    except Interruption as interruption:
        interruption.state, interruption.effect = state, effect
        raise


@contextlib.contextmanager
def unchanged_interrupt_message() -> Iterator[None]:
    """Keep the message of interruptions during later work and after it, whatever that work sets."""
    state, effect = _message[0]
    try:
        with interruptions_say(state, effect):
            yield
    finally:
        set_interrupt_message(state, effect)


def listen_again() -> None:
    """Let the next signal interrupt again, because the work after the first one may take long."""
    for each in _handled:
        signal.signal(each, _interrupt)


def _interrupt(signum: int, _frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    _signalled[0] = True
    if _deferred[0]:
        _late.append(signum)
    else:
        raise Interruption(signum)


_signalled = [False]
_deferred = [0]
_late: list[int] = []


def interrupt_process(pid: int) -> None:
    """Send SIGINT to a process."""
    os.kill(pid, signal.SIGINT)


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Delay the handling of a signal until the end of the block.

    Then the caller has registered the clean-up of what the block creates. Use it for one or two short calls: a wait
    inside the block can't be interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _deferred[0] += 1
    try:
        yield
    finally:
        _deferred[0] -= 1
        if _late and not _deferred[0]:
            raise Interruption(_late.pop())


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Handle standard streams that are closed, full or without a reader.

    A closed stream (`>&-`) is replaced with /dev/null; otherwise the next file that we open would get its number, and
    a child's output would be written into that file. Output that can't be written to standard error is discarded, and
    the work continues. If standard output has no reader any more (`inv db.list | head`), exit without a message.

    :raises OutputError: Standard output can't be written, for example because the disk is full.
    """
    _open_closed_streams()
    try:
        yield
        with written():
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
        raise SystemExit(128 + signal.SIGPIPE) from None
    except OutputError:
        _drop_stdout()
        raise


def _open_closed_streams() -> None:
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The system assigns the lowest free number, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open until the process ends
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - open until the process ends
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        encoding = sys.stderr.encoding if sys.stderr else "utf-8"
        lossy = io.BufferedWriter(_Lossy(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(lossy, encoding, errors="backslashreplace", line_buffering=True)


class _Lossy(io.FileIO):
    """A file that discards data that can't be written."""

    def write(self, data: Any) -> int:
        written = None
        with contextlib.suppress(OSError):
            # The result is also None if the file is non-blocking and its buffer is full.
            written = super().write(data)
        return len(data) if written is None else written


def _drop_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def written() -> Iterator[None]:
    """Turn an error of writing to standard output, except a broken pipe, into an OutputError.

    :raises OutputError: Standard output can't be written.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"Standard output can't be written ({error.strerror}). The work was done, but its result is not shown."
        ) from None


# Seconds between looks whether a signal came while the reader stalls.
_LOOK = 0.2
_INPUT_CHUNK = 1 << 20


class StandardOutput(io.RawIOBase):
    """Standard output for bytes; a reader that stalls does not keep a signal from ending us.

    :ivar size: Bytes written so far.
    :raises BadInputError: It is a terminal.
    """

    _descriptor = 1

    def __init__(self) -> None:
        if os.isatty(1):
            raise BadInputError(
                "--file=- writes the dump to standard output, which is a terminal here. Nothing was touched. Redirect "
                "it to a file or a program."
            )
        kind = os.fstat(1).st_mode
        self._waits = stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)
        # So much a pipe takes without waiting once it takes anything.
        self._most = select.PIPE_BUF if self._waits else None
        self.size = 0
        if stat.S_ISFIFO(kind):
            # Opened once more, on Linux, it need not wait itself, and does not change the one that others share.
            with contextlib.suppress(OSError):
                self._descriptor = os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                self._most = None

    def writable(self) -> bool:
        """Say yes."""
        return True

    def close(self) -> None:
        """Close what was opened here; standard output itself is left open."""
        if not self.closed and self._descriptor != 1:
            os.close(self._descriptor)
        super().close()

    def write(self, data: Any) -> int:
        """Write some of it.

        :raises OSError: It can't be written: the reader has ended, the disk is full, or a signal came.
        """
        while not _signalled[0]:
            if not self._waits or select.select([], [self._descriptor], [], _LOOK)[1]:
                count = os.write(self._descriptor, memoryview(data)[: self._most])
                self.size += count
                return count
        raise InterruptedError


def read_standard_input() -> Iterator[bytes]:
    """Hand on what standard input holds, in chunks, to its end.

    :raises BadInputError: It is a terminal.
    :raises OSError: It can't be read.
    """
    if os.isatty(0):
        raise BadInputError(
            "--file=- reads the dump from standard input, which is a terminal here. Nothing was touched. Redirect a "
            "file or a program to it, or name a file."
        )
    while chunk := os.read(0, _INPUT_CHUNK):
        yield chunk


def answer_from_terminal() -> None:
    """Let the terminal, if there is one, be standard input from now on, as what that held has been read."""
    with contextlib.suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(terminal, 0)
        os.close(terminal)
