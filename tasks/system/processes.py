"""Starts programs; only `system` does."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import select
import signal
import stat
import subprocess
import sys
import termios
import time
from array import array
from collections import deque
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Self

from ..errors import MissingProgramError
from .runtime import BackgroundTask, Interruption

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


# Long enough for pg_dump to tell the server that it goes.
STOP_SECONDS = 5.0
PIPE_BYTES = 1 << 20
# What macOS begins with.
DEFAULT_PIPE_BYTES = 1 << 14
STDERR_LINES = 200
NAP_SECONDS = 0.002
# Of programs whose words we read: no translation of the system's language. It goes before LC_MESSAGES and LANGUAGE.
UNTRANSLATED = {"LC_ALL": "C"}


def open_regular(path: Path) -> io.FileIO:
    """Open an ordinary file to read it, unbuffered; a pipe, a socket or a device is never waited for.

    :raises OSError: It can't be opened, or is something else; `strerror` says so.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return io.FileIO(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is no ordinary file, but a pipe, a socket or a device", str(path))


def read_regular(path: Path) -> bytes:
    """Read an ordinary file whole.

    :raises OSError: As `open_regular` does.
    """
    with open_regular(path) as file:
        return file.read()


def make_folder(folder: Path, mode: int) -> None:
    """Make a folder and those above it, of which no umask makes one that others may write to.

    :raises FileExistsError: It is there.
    """
    for parent in reversed(folder.parents):
        if not parent.exists():
            parent.mkdir(mode=0o755, exist_ok=True)
    folder.mkdir(mode=0o700)
    folder.chmod(mode)


def make_file(path: Path, text: str) -> None:
    """Make a file that others may read, as far as the umask lets them; one that is there is left alone."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)


def read_environment() -> Mapping[str, str]:
    """Return a copy of the environment as it is now."""
    return dict(os.environ)


@dataclass(frozen=True)
class Account:
    """A user of this machine whom a program runs as; only root can give one."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Finished:
    """What a short program left behind."""

    returncode: int
    stdout: str
    stderr: str


def run_program(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
    account: Account | None = None,
    timeout: float = 30.0,
) -> Finished:
    """Run a short program to its end and return what it said.

    :param env: Its environment; ours unless given.
    :param extra: Variables added to the environment; secrets travel here.
    :param account: Whom it runs as; ourselves unless given.
    :param timeout: Seconds after which it is killed.
    :raises MissingProgramError: It does not exist, can't be executed or took too long.
    """
    try:
        done = subprocess.run(
            [str(part) for part in argv],
            cwd=cwd,
            env={**(os.environ if env is None else env), **(extra or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            **_as(account),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingProgramError(f"{argv[0]} could not be run: {error}.") from None
    return Finished(returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)


class SupervisedProcess:
    """A program in a session of its own whose standard input ends when we are gone, however we went.

    Only we hold the pipe's other end, and the system closes it even after a kill -9. No signal of our
    terminal reaches the program. Its output goes nowhere.

    :param env: Its environment.
    :param account: Whom it runs as; ourselves unless given.
    :raises MissingProgramError: The program can't be started.
    """

    def __init__(self, argv: Sequence[str | Path], *, env: Mapping[str, str], account: Account | None) -> None:
        try:
            self._popen = subprocess.Popen(
                [str(part) for part in argv],
                cwd="/",
                env=dict(env),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                **_as(account),
            )
        except OSError as error:
            raise MissingProgramError(f"{argv[0]} could not be started: {error.strerror}.") from None

    @property
    def running(self) -> bool:
        """Whether it is alive."""
        return self._popen.poll() is None

    def release(self, timeout: float) -> None:
        """End its standard input and wait for its end.

        :param timeout: Seconds after which it and its children are killed.
        """
        assert self._popen.stdin is not None  # noqa: S101 - it was asked for above
        self._popen.stdin.close()
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()


def run_interactive(argv: Sequence[str | Path], *, cwd: Path, extra: Mapping[str, str], to_stderr: bool = False) -> int:
    """Run a program that speaks to the person itself, on our own terminal, and return its exit status.

    A signal that ends us is handed on to it (Ctrl-C reaches it by itself), and it is waited for, so that it can
    finish what must not be cut.

    :param extra: Variables added to the environment; secrets travel here.
    :param to_stderr: Its standard output is our standard error.
    :raises MissingProgramError: It can't be started.
    :raises Interruption: A signal came; the program has ended by now.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        popen = subprocess.Popen(
            [str(part) for part in argv], cwd=cwd, env={**os.environ, **extra}, stdout=2 if to_stderr else None
        )
    except OSError as error:
        raise MissingProgramError(f"{argv[0]} could not be started: {error.strerror}.") from None
    try:
        return popen.wait()
    except Interruption as interruption:
        if not (interruption.signum == signal.SIGINT and sys.stdin.isatty()):
            popen.send_signal(interruption.signum)
        popen.wait()
        raise


def _as(account: Account | None) -> dict[str, Any]:
    """Build the keywords for `subprocess` that start a program as somebody, in none of our own groups."""
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


class StreamingProcess:
    """A program whose standard output we read as a stream of bytes, in a process group of its own.

    Used as a context manager: leaving it with an exception stops the program (SIGTERM, then
    SIGKILL) and reaps it. Its standard error is drained all the while, so that it never blocks.

    It speaks English, whatever the language of the system.

    :param argv: Program and arguments; no secret may stand in them.
    :param extra: Variables added to the environment; secrets travel here.
    :param on_line: Called from another thread with each line of standard error.
    :raises MissingProgramError: The program can't be started.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        extra: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self.argv = [str(part) for part in argv]
        self._said: deque[str] = deque(maxlen=STDERR_LINES)
        self._on_line = on_line
        try:
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **UNTRANSLATED, **(extra or {})},
                bufsize=0,
                process_group=0,
            )
        except OSError as error:
            raise MissingProgramError(f"{self.argv[0]} could not be started: {error.strerror}.") from None
        self._nap_below = _widen(self.stdout) // 2
        self._drain = BackgroundTask(self._read_stderr)
        self._drain.start()

    @property
    def stdout(self) -> IO[bytes]:
        """The raw, unbuffered standard output."""
        assert self._popen.stdout is not None  # noqa: S101 - it was asked for above
        return self._popen.stdout

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes of its standard output, and none at its end.

        A program that writes page by page would be woken, and wake us, for every page: where little has come we
        leave it alone for a moment, in which it fills the pipe.
        """
        if bytes_waiting(self.stdout) < self._nap_below:
            time.sleep(NAP_SECONDS)
        return self.stdout.read(size)

    def readable(self, seconds: float) -> bool:
        """Wait until its standard output has something, or has ended; False after that many seconds without."""
        return bool(select.select([self.stdout], [], [], seconds)[0])

    @property
    def pid(self) -> int:
        """The program's process id, which is its group's too."""
        return self._popen.pid

    @property
    def said(self) -> str:
        """The last lines of its standard error."""
        return "\n".join(self._said)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.stop()
        self.wait()

    def wait(self) -> int:
        """Wait for its end and return its exit status; negative when a signal ended it."""
        code = self._popen.wait()
        self._drain.result()
        for stream in (self._popen.stdout, self._popen.stderr):
            if stream is not None:
                stream.close()
        return code

    def stop(self, *, patience: float = STOP_SECONDS) -> None:
        """End it now: SIGTERM to its group, and SIGKILL if it is still there after some seconds."""
        for signum in (signal.SIGTERM, signal.SIGKILL):
            if self._popen.poll() is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(patience)

    def _read_stderr(self) -> None:
        assert self._popen.stderr is not None  # noqa: S101 - it was asked for above
        with io.BufferedReader(self._popen.stderr) as lines:  # type: ignore[type-var]
            for raw in lines:
                line = raw.decode(errors="replace").rstrip("\n")
                self._said.append(line)
                if self._on_line is not None:
                    # Whoever shows the lines may fail (its reader has gone); the program must not block for that.
                    with contextlib.suppress(Exception, SystemExit):
                        self._on_line(line)


def bytes_waiting(pipe: IO[bytes] | int) -> int:
    """Tell how many bytes a pipe or a socket holds that nobody has read yet."""
    count = array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def _widen(pipe: IO[bytes]) -> int:
    """Ask Linux for a larger pipe buffer, and return what there is; anywhere else the default one serves."""
    with contextlib.suppress(OSError, AttributeError):
        return fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with contextlib.suppress(OSError, AttributeError):
        # Where many pipes are open, a user is given no more than a page or two.
        return fcntl.fcntl(pipe.fileno(), fcntl.F_GETPIPE_SZ)
    return DEFAULT_PIPE_BYTES
