"""Child processes, and files that are read without waiting for a writer."""

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


# Long enough for pg_dump to cancel its query on the server.
STOP_SECONDS = 5.0
PIPE_BYTES = 1 << 20
# The initial size on macOS.
DEFAULT_PIPE_BYTES = 1 << 14
STDERR_LINES = 200
NAP_SECONDS = 0.002
# For programs whose messages we parse. LC_ALL overrides LC_MESSAGES and LANGUAGE.
UNTRANSLATED = {"LC_ALL": "C"}


def open_regular(path: Path) -> io.FileIO:
    """Open a regular file for unbuffered reading, without blocking on a pipe, socket or device.

    :raises OSError: It can't be opened, or is no regular file; `strerror` says which.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return io.FileIO(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is no regular file, but a pipe, a socket or a device", str(path))


def read_regular(path: Path) -> bytes:
    """Return the content of a regular file.

    :raises OSError: As `open_regular` does.
    """
    with open_regular(path) as file:
        return file.read()


def make_folder(folder: Path, mode: int) -> None:
    """Create a folder, and its missing parents with mode 755 at most.

    :raises FileExistsError: The folder exists.
    """
    for parent in reversed(folder.parents):
        if not parent.exists():
            parent.mkdir(mode=0o755, exist_ok=True)
    folder.mkdir(mode=0o700)
    folder.chmod(mode)


def make_file(path: Path, text: str) -> None:
    """Create a file with mode 644, less the umask; do nothing if it exists."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)


def read_environment() -> Mapping[str, str]:
    """Return a copy of the current environment."""
    return dict(os.environ)


@dataclass(frozen=True)
class Account:
    """An operating system user that a program runs as; only root can switch to one."""

    name: str
    uid: int
    gid: int


# The exit status and the output of a program that has ended.
Finished = subprocess.CompletedProcess[str]


def run_program(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
    account: Account | None = None,
    timeout: float = 30.0,
) -> Finished:
    """Run a short program to its end and return its output.

    :param env: Its environment; by default that of this process.
    :param extra: Variables added to the environment; secrets are passed here.
    :param account: The user that it runs as; by default that of this process.
    :param timeout: Seconds after which it is killed.
    :raises MissingProgramError: It does not exist, can't be executed or was killed after the timeout.
    """
    try:
        return subprocess.run(
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


def _start(argv: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
    try:
        return subprocess.Popen([str(part) for part in argv], **options)
    except OSError as error:
        raise MissingProgramError(f"{argv[0]} could not be started: {error.strerror}.") from None


class SupervisedProcess:
    """A program in its own session whose standard input ends when this process ends, for any reason.

    Only this process holds the write end of the pipe, and the system closes it even after `kill -9`. Signals of our
    terminal do not reach the program. Its output is discarded.

    :param account: The user that it runs as; by default that of this process.
    :raises MissingProgramError: The program can't be started.
    """

    def __init__(self, argv: Sequence[str | Path], *, env: Mapping[str, str], account: Account | None) -> None:
        self._popen = _start(
            argv,
            cwd="/",
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **_as(account),
        )

    @property
    def running(self) -> bool:
        """Return whether it runs."""
        return self._popen.poll() is None

    def release(self, timeout: float) -> None:
        """Close its standard input and wait until it ends.

        :param timeout: Seconds after which it and its children are killed.
        """
        assert self._popen.stdin is not None  # noqa: S101 - stdin=PIPE above
        self._popen.stdin.close()
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()


def run_interactive(argv: Sequence[str | Path], *, cwd: Path, extra: Mapping[str, str], to_stderr: bool = False) -> int:
    """Run an interactive program on our terminal, and return its exit status.

    A signal to this process is forwarded to it (Ctrl-C at a terminal reaches it anyway). We then wait until it ends,
    so that it can finish work that must not be interrupted.

    :param extra: Variables added to the environment; secrets are passed here.
    :param to_stderr: Connect its standard output to our standard error.
    :raises MissingProgramError: It can't be started.
    :raises Interruption: A signal arrived; the program has ended.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    popen = _start(argv, cwd=cwd, env={**os.environ, **extra}, stdout=2 if to_stderr else None)
    try:
        return popen.wait()
    except Interruption as interruption:
        if not (interruption.signum == signal.SIGINT and sys.stdin.isatty()):
            popen.send_signal(interruption.signum)
        popen.wait()
        raise


def _as(account: Account | None) -> dict[str, Any]:
    """Return the arguments of `subprocess` that start a program as an account, without our groups."""
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


class StreamingProcess:
    """A program in its own process group, whose standard output we read as a stream of bytes.

    As a context manager it stops the program (SIGTERM, then SIGKILL) and reaps it if the block raises. A thread reads
    its standard error, so that the program never blocks on it. Its messages are in English (`LC_ALL=C`).

    :param argv: Program and arguments; they must not contain a secret.
    :param extra: Variables added to the environment; secrets are passed here.
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
        self._popen = _start(
            self.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **UNTRANSLATED, **(extra or {})},
            bufsize=0,
            process_group=0,
        )
        self._nap_below = _widen(self.stdout) // 2
        self._drain = BackgroundTask(self._read_stderr)
        self._drain.start()

    @property
    def stdout(self) -> IO[bytes]:
        """Return the unbuffered standard output."""
        assert self._popen.stdout is not None  # noqa: S101 - stdout=PIPE above
        return self._popen.stdout

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes of its standard output; empty at its end.

        If the pipe holds little, wait a moment for the program to fill it. Otherwise a program that writes single
        pages would cost a context switch for each page.
        """
        if bytes_waiting(self.stdout) < self._nap_below:
            time.sleep(NAP_SECONDS)
        return self.stdout.read(size)

    def readable(self, seconds: float) -> bool:
        """Wait until its standard output has data or has ended; return False after that many seconds."""
        return bool(select.select([self.stdout], [], [], seconds)[0])

    @property
    def pid(self) -> int:
        """Return the id of its process, and of its process group."""
        return self._popen.pid

    @property
    def said(self) -> str:
        """Return the last lines of its standard error."""
        return "\n".join(self._said)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.stop()
        self.wait()

    def wait(self) -> int:
        """Wait until it ends and return its exit status; negative if a signal ended it."""
        code = self._popen.wait()
        self._drain.result()
        for stream in (self._popen.stdout, self._popen.stderr):
            if stream is not None:
                stream.close()
        return code

    def stop(self, *, patience: float = STOP_SECONDS) -> None:
        """Send SIGTERM to its group, and SIGKILL if it still runs after `patience` seconds."""
        for signum in (signal.SIGTERM, signal.SIGKILL):
            if self._popen.poll() is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(patience)

    def _read_stderr(self) -> None:
        assert self._popen.stderr is not None  # noqa: S101 - stderr=PIPE above
        with io.BufferedReader(self._popen.stderr) as lines:  # type: ignore[type-var]
            for raw in lines:
                line = raw.decode(errors="replace").rstrip("\n")
                self._said.append(line)
                if self._on_line is not None:
                    # Showing a line may fail (a closed pipe); the program must not block because of that.
                    with contextlib.suppress(Exception, SystemExit):
                        self._on_line(line)


def bytes_waiting(pipe: IO[bytes] | int) -> int:
    """Return how many unread bytes a pipe or socket holds."""
    count = array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def _widen(pipe: IO[bytes]) -> int:
    """Enlarge the pipe's buffer where the system can (Linux), and return its size in bytes."""
    with contextlib.suppress(OSError, AttributeError):
        return fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with contextlib.suppress(OSError, AttributeError):
        # Linux limits the pipe memory of a user; with many pipes open, a buffer has only one or two pages.
        return fcntl.fcntl(pipe.fileno(), fcntl.F_GETPIPE_SZ)
    return DEFAULT_PIPE_BYTES
