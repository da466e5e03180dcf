"""Signals, standard streams and background tasks of this process; only `system` touches them."""

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
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..errors import BadInputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


Result = TypeVar("Result")


def count_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class BackgroundTask(threading.Thread, Generic[Result]):
    """Does something in a thread of its own, which ends with the program.

    :param function: What it does.
    """

    def __init__(self, function: Callable[[], Result]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._found: list[Result] = []
        self._error: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether it has ended with an error."""
        return self._error is not None

    def raise_error(self) -> None:
        """Raise what the work raised, if it has ended so, as often as this is called."""
        if self._error is not None:
            # Each time an error of its own: one that is raised twice becomes its own context, a circle in which
            # whatever follows it (contextlib.ExitStack) never ends.
            raise copy.copy(self._error)

    def result(self) -> Result:
        """Wait for what the work returned; raise what it raised."""
        while self.is_alive():
            # A wait without a limit would keep signals from being handled.
            self.join(0.2)
        if self._error is not None:
            raise self._error
        return self._found[0]

    def run(self) -> None:
        """Do the work."""
        try:
            self._found.append(self._function())
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
            self._error = error


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption(KeyboardInterrupt):
    """A signal that asks us to end, raised where the main thread happens to be.

    It is a `KeyboardInterrupt`, so psycopg cancels the running query before handing it on.

    :ivar signum: The signal's number.
    :ivar state: What state things are in, once a caller knows; until then the text of :func:`set_interrupt_message`.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.state = _message[0]


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into an :class:`Interruption`; ignore the rest.

    The rest is ignored so that cleaning up, which is short and bounded, is not itself interrupted.
    Outside the main thread, where Python allows no handlers, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A signal that our parent had ignored (nohup) stays ignored.
    before = {each: signal.getsignal(each) for each in SIGNALS}
    set_interrupt_message("")
    _deferred[0] = 0
    _late.clear()
    _signalled[0] = False
    _handled[:] = [each for each in SIGNALS if before[each] is not signal.SIG_IGN]
    listen_again()
    try:
        yield
    finally:
        for each in SIGNALS:
            signal.signal(each, before[each])


_handled: list[signal.Signals] = []
_message = [""]


def set_interrupt_message(sentence: str) -> None:
    """Let an interruption that comes from now on say this, as the work is done and only words about it remain."""
    _message[0] = sentence


def listen_again() -> None:
    """Let a signal interrupt once more, where a first one has led to work that may take long."""
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
    """Let a signal interrupt at the end of a block, not within it: what it makes is known by then to who removes it.

    For a call or two; whoever waits within it would not be interrupted.
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
    """Make do with streams that are closed, full, or whose reader has gone.

    Standard input and output, and standard error, which are closed (`>&-`) are /dev/null instead: else a file of ours
    would get the number, and what a program of ours writes there. What can't be written to standard error is lost,
    and nothing else: the work goes on. A result that nobody reads (`inv db.list | head`) ends us quietly.

    :raises OutputError: Standard output can't be written, as its disk is full.
    """
    _fill_in()
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


def _fill_in() -> None:
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest number that is free, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - so are the others
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as we run
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        encoding = sys.stderr.encoding if sys.stderr else "utf-8"
        lossy = io.BufferedWriter(_Lossy(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(lossy, encoding, errors="backslashreplace", line_buffering=True)


class _Lossy(io.FileIO):
    """A file in which what can't be written is lost."""

    def write(self, data: Any) -> int:
        written = None
        with contextlib.suppress(OSError):
            # None, too, where it would have to wait for a reader and may not.
            written = super().write(data)
        return len(data) if written is None else written


def _drop_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def written() -> Iterator[None]:
    """Tell an error of writing to standard output from all others.

    :raises OutputError: It can't be written.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"Standard output can't be written ({error.strerror}), so the result isn't shown; the work itself was done."
        ) from None


# Seconds between looks whether a signal came while nobody reads what is written.
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
