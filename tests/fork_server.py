"""Runs `inv` in forks of a process that has everything loaded: a start takes 20 milliseconds instead of 600.

A run is a process of its own all the same, with its own environment, folder, streams, signals and exit code, so
no run leaves anything to the next. What differs from `python -m invoke`: the modules are loaded already, `/proc/PID`
shows the server's command line and environment, the peak of the memory counts what the server has loaded, and `run`
leaves out the seconds in which a person may press Ctrl-C. Tests of these start a process of their own.
"""

import atexit
import contextlib
import copy
import gc
import importlib
import io
import json
import os
import pkgutil
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as futures_wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, TextIO, cast

import invoke

REPOSITORY: Final = Path(__file__).resolve().parent.parent
BASE: Final[Mapping[str, str]] = {"LC_ALL": "C.UTF-8", "PYTHONPATH": str(REPOSITORY)}
"""The variables that the interpreter reads when it starts, as nearly every run in a fork has them."""

# What a task loads only where it needs it.
_LAZY: Final = ("dotenv", "isal.igzip", "rich.console", "rich.progress", "rich.table", "psycopg.types.json")


# How long a run that was killed takes to end, in seconds.
_ENDING: Final = 30.0


def start_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an environment that the interpreter reads when it starts, but never again."""
    read_at_start = ("PYTHON", "LC_", "LANG", "LOCPATH")
    return {name: value for name, value in environment.items() if name.startswith(read_at_start)}


class Forked:
    """A run in a fork that goes on, with what tests need of `subprocess.Popen`.

    :ivar returncode: None until `poll`, `wait` or `communicate` has seen the end; negative for a signal.
    """

    def __init__(self, args: Sequence[str], reply: socket.socket, stdout: int | None, stderr: int | None) -> None:
        self.args = list(args)
        self._reply = reply
        self._answers = reply.makefile("r", encoding="ascii")
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None
        self._written: tuple[str, str] | None = None
        self.stdout, self.stderr = _text_from(stdout), _text_from(stderr)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code.

        :raises subprocess.TimeoutExpired: It runs still.
        """
        if self.returncode is None:
            if not select.select([self._reply], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._reply.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs still."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it by SIGKILL, if it runs still."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it writes to its standard output and standard error until its end; once more, the same.

        :raises subprocess.TimeoutExpired: It took longer, and has been killed.
        """
        if self._written is not None:
            return self._written
        assert self.stdout is not None
        assert self.stderr is not None
        with self.stdout as out, self.stderr as err, ThreadPoolExecutor(2) as pool:
            reading = [pool.submit(each.read) for each in (out, err)]
            if futures_wait(reading, timeout).not_done:
                os.killpg(self.pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.wait(_ENDING)
            self._written = reading[0].result(), reading[1].result()
            return self._written


class ForkServer:
    """The server, seen from the tests; it ends with them.

    :param start: The variables that the interpreter reads when it starts, which all its runs share.
    """

    def __init__(self, start: Mapping[str, str] = BASE) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fork_server", str(theirs.fileno())],
                cwd=REPOSITORY,
                env={"PATH": os.environ.get("PATH", os.defpath), **start},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._control = ours

    def close(self) -> None:
        """End the server."""
        self._control.close()
        self._process.wait(timeout=30)

    def run(
        self,
        args: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        umask: int,
        stdin: str | Path,
        stdout: int,
        stderr: int,
        timeout: float,
    ) -> subprocess.CompletedProcess[str]:
        """Run `inv` with these words and wait for it, as `subprocess.run` does.

        :param stdin: What it reads from a pipe, or the file that it reads.
        :param stdout: A descriptor, or `subprocess.PIPE`, and so `stderr`.
        :raises subprocess.TimeoutExpired: It took longer, and has been killed.
        """
        request = _Request(args=list(args), cwd=str(cwd), env=dict(env), umask=umask, own_session=False)
        with contextlib.ExitStack() as stack:
            out, err = _Output(stdout), _Output(stderr)
            for output in (out, err):
                stack.callback(output.close)
            reply = stack.enter_context(self._ask(request, [_readable(stdin), out.given, err.given]))
            answers = stack.enter_context(reply.makefile("r", encoding="ascii"))
            pid = int(answers.readline())
            if not _read_all([out, err], time.monotonic() + timeout):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(args), timeout)
            reply.settimeout(timeout)
            code = int(answers.readline())
        return subprocess.CompletedProcess(list(args), code, out.text, err.text)

    def start(self, args: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Forked:
        """Start `inv` with these words in a session of its own; it reads nothing and counts down as it should."""
        request = _Request(args=list(args), cwd=str(cwd), env=dict(env), umask=-1, own_session=True)
        (out, out_given), (err, err_given) = os.pipe(), os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        return Forked(args, self._ask(request, [nothing, out_given, err_given]), out, err)

    def start_at(self, terminal: int, args: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Forked:
        """Start `inv` as `start` does, with a terminal for its three streams."""
        request = _Request(args=list(args), cwd=str(cwd), env=dict(env), umask=-1, own_session=True)
        return Forked(args, self._ask(request, [os.dup(terminal) for _ in range(3)]), None, None)

    def _ask(self, request: "_Request", streams: Sequence[int]) -> socket.socket:
        """Let the server fork; return where it answers. The descriptors are closed here."""
        reply, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"."], [theirs.fileno(), *streams])
        for descriptor in streams:
            os.close(descriptor)
        reply.sendall(json.dumps(asdict(request)).encode() + b"\n")
        return reply


class _Output:
    """Where a run writes to, and what it has written there if that is a pipe of ours.

    :param target: A descriptor, `subprocess.PIPE` or `subprocess.DEVNULL`.
    """

    def __init__(self, target: int) -> None:
        self.pipe: int | None = None
        self._read = io.BytesIO()
        if target == subprocess.PIPE:
            self.pipe, self.given = os.pipe()
        else:
            self.given = os.open(os.devnull, os.O_WRONLY) if target == subprocess.DEVNULL else os.dup(target)

    def read(self) -> bool:
        """Read what is there; False at the end."""
        assert self.pipe is not None
        return self._read.write(os.read(self.pipe, 1 << 16)) > 0

    @property
    def text(self) -> str | None:
        """What was written, decoded as `subprocess.run(text=True)` decodes it."""
        if self.pipe is None:
            return None
        self._read.seek(0)
        return io.TextIOWrapper(self._read, encoding="utf-8").read()

    def close(self) -> None:
        """Close our end."""
        if self.pipe is not None:
            os.close(self.pipe)


def _text_from(descriptor: int | None) -> TextIO | None:
    return None if descriptor is None else io.TextIOWrapper(io.FileIO(descriptor), encoding="utf-8")


def _readable(source: str | Path) -> int:
    """Open a file, or the end of a pipe in which a text lies."""
    if isinstance(source, Path):
        return os.open(source, os.O_RDONLY)
    reading, typing = os.pipe()
    # Tests type a word or two, or a short dump: a pipe holds that without a reader.
    os.set_blocking(typing, False)
    with io.FileIO(typing, "w") as file:
        assert file.write(text := source.encode()) == len(text), "more than a pipe holds"
    return reading


def _read_all(outputs: Iterable[_Output], deadline: float) -> bool:
    """Read pipes until all have ended; False where the time is over before."""
    with selectors.DefaultSelector() as selector:
        for output in outputs:
            if output.pipe is not None:
                selector.register(output.pipe, selectors.EVENT_READ, output)
        while selector.get_map():
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                if not key.data.read():
                    selector.unregister(key.fd)
            if time.monotonic() > deadline:
                return False
    return True


@dataclass(frozen=True)
class _Request:
    """What a fork is to run.

    :ivar own_session: It is a process that a test watches and sends signals to.
    :ivar streams: The descriptors of its standard streams.
    """

    args: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    umask: int
    own_session: bool
    streams: Sequence[int] = ()


class _Forks:
    """The server's own side: forks for each request, and tells the exit code of each fork.

    :param control: Over it come the requests; its end is ours.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._waiting: dict[int, socket.socket] = {}
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)

    def serve(self) -> _Request | None:
        """Serve until the tests end.

        :return: None at the end; in a fork what it has to do.
        """
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._waker.fileno())
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                self._report_ended()
                if self._control in ready:
                    message, descriptors, _, _ = socket.recv_fds(self._control, 1, 4)
                    if not message:
                        return None
                    if (request := self._fork(descriptors)) is not None:
                        return request

    def _report_ended(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                with self._waiting.pop(pid) as reply, contextlib.suppress(OSError):
                    reply.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))

    def _fork(self, descriptors: Sequence[int]) -> _Request | None:
        reply = socket.socket(fileno=descriptors[0])
        with reply.makefile("r", encoding="utf-8") as lines:
            request = replace(_Request(**json.loads(lines.readline())), streams=descriptors[1:])
        if pid := os.fork():
            for each in request.streams:
                os.close(each)
            self._waiting[pid] = reply
            return None
        if request.own_session:
            os.setsid()
        reply.sendall(b"%d\n" % os.getpid())
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for mine in (reply, *self._waiting.values(), self._woken, self._waker, self._control):
            mine.close()
        return request


def _become(request: _Request) -> None:
    """Take over what a process gets from who starts it."""
    for number, descriptor in enumerate(request.streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    # What they are decides how they are buffered, and whether they can be sought in.
    for name, mode in ("stdin", "r"), ("stdout", "w"), ("stderr", "w"):
        stream = _reopened(getattr(sys, name), mode)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.chdir(request.cwd)
    os.environ.clear()
    os.environ.update(request.env)
    if not request.own_session:
        # Three seconds in each of some dozens of runs.
        confirm: Any = importlib.import_module("tasks.cli.confirm").confirm
        confirm.__kwdefaults__["sleep"] = lambda _: None
    if request.umask >= 0:
        os.umask(request.umask)
    time.tzset()
    # As `python -m invoke` sets them.
    sys.argv = [str(Path(invoke.__file__).with_name("__main__.py")), *request.args]
    sys.path[0] = request.cwd


def _reopened(stream: TextIO, mode: str) -> TextIO:
    interactive = stream is sys.stderr or os.isatty(stream.fileno())
    opened = open(  # noqa: SIM115 - a descriptor, for as long as we run
        stream.fileno(), mode, 1 if interactive else -1, stream.encoding, stream.errors, closefd=False
    )
    return cast("TextIO", opened)


def _preload() -> None:
    import tasks  # noqa: PLC0415 - the tests' own side does without

    for module in pkgutil.walk_packages(tasks.__path__, "tasks."):
        importlib.import_module(module.name)
    for name in _LAZY:
        importlib.import_module(name)
    # Compiles patterns that every fork would compile otherwise.
    importlib.import_module("tasks.config.target").sanitize("postgresql://someone@somewhere/something")
    # Sets up the cryptography of libpq, as its first login does.
    nowhere = importlib.import_module("psycopg").pq.PGconn.connect_start(b"host=/nowhere")
    nowhere.encrypt_password(b"secret", b"someone", b"scram-sha-256")
    nowhere.finish()
    # Invoke's parser copies the flags of all tasks, of which it copies those of each task that runs once more; and its
    # own flags, of which it has made new ones.
    parser: Any = importlib.import_module("invoke.parser.parser")
    lexicon = parser.Lexicon
    parser.copy = SimpleNamespace(
        deepcopy=lambda found: (
            found if type(found) is lexicon or getattr(found, "name", "") is None else copy.deepcopy(found)
        )
    )


def _main() -> None:
    from invoke.main import program  # noqa: PLC0415 - the tests' own side does without

    _preload()
    gc.collect()
    # A fork that looked for garbage in what is loaded would copy it.
    gc.freeze()
    request = _Forks(socket.socket(fileno=int(sys.argv[1]))).serve()
    if request is not None:
        _become(request)
        try:
            program.run()
        except SystemExit as error:
            _end(error.code)
            raise
        _end(0)


def _end(code: object) -> None:
    """End the process with an ordinary code, as the interpreter does, but without freeing what it has loaded.

    That would copy the memory that is shared with the server, which takes as long as a short run itself. Anything
    else than an ordinary end is left to the interpreter.
    """
    if isinstance(code, int):
        threads: Any = threading
        threads._shutdown()
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


if __name__ == "__main__":
    _main()
