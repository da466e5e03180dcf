"""What tests hold in their hands: databases on a real server, and a project folder in which `inv` runs."""

import atexit
import contextlib
import functools
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self

import psycopg
import pytest
from psycopg import sql

from tests.fork_server import BASE, Forked, ForkServer, start_of
from tests.servers import PASSWORD, SUPERUSER, Server

REPOSITORY: Final = Path(__file__).resolve().parent.parent

Row = tuple[Any, ...]
Connection = psycopg.Connection[Row]
Started = Forked | subprocess.Popen[str]


@dataclass(frozen=True)
class Database:
    """One database on a test server."""

    server: Server
    name: str

    @property
    def url(self) -> str:
        """The URL as `.env` would hold it: TCP, superuser, password."""
        return self.url_as(SUPERUSER)

    def url_as(self, role: str, password: str = PASSWORD) -> str:
        """Return the URL for another role."""
        return self.server.url(self.name, role, password)

    def connect(self, role: str = SUPERUSER, **keywords: Any) -> Connection:
        """Open a connection over the socket, in autocommit unless told otherwise.

        Over TCP the check of the password would make it a third dearer.

        :param keywords: As for `psycopg.connect`.
        """
        return psycopg.connect(self.server.conninfo(self.name, role), **{"autocommit": True, **keywords})

    def execute(self, query: str, role: str = SUPERUSER) -> list[Row]:
        """Run one or several statements, `%` as it stands.

        Several run in one transaction, unless they hold transaction control of their own.

        :return: The rows of the last statement that gave any.
        """
        rows: list[Row] = []
        with self.connect(role) as connection, connection.cursor() as cursor:
            cursor.execute(query.encode())
            more: bool | None = True
            while more:
                if cursor.description is not None:
                    rows = cursor.fetchall()
                more = cursor.nextset()
        return rows

    def scalar(self, query: str, role: str = SUPERUSER) -> Any:
        """Return the one value of a query's one row."""
        ((value,),) = self.execute(query, role)
        return value

    def psql(self, source: str | bytes | Path, *options: str, role: str = SUPERUSER) -> str:
        """Load SQL through psql of the server's own major, ending at the first error.

        :param source: The SQL, or the path of a file.
        :return: What psql printed.
        :raises AssertionError: psql failed; its stderr is in the message.
        """
        argv = [*self._client("psql", role), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", *options]
        if isinstance(source, Path):
            return _checked([*argv, f"--file={source}"]).decode()
        return _checked(argv, source.encode() if isinstance(source, str) else source).decode()

    def dump_text(
        self,
        *options: str,
        schemas: Sequence[str] = (),
        exclude: Sequence[str] = (),
        role: str = SUPERUSER,
    ) -> bytes:
        """Dump in plain text with pg_dump of the server's own major.

        :param schemas: Dump these only (the names, not patterns).
        :param exclude: Dump all schemas but these.
        :return: The dump without its `restrict` and `unrestrict` lines, whose key is random.
        :raises AssertionError: pg_dump failed; its stderr is in the message.
        """
        chosen = [f"--schema={_exactly(name)}" for name in schemas]
        left_out = [f"--exclude-schema={_exactly(name)}" for name in exclude]
        # No server of the tests has a provider of labels, and to ask for them takes a tenth of a small dump's time.
        argv = [*self._client("pg_dump", role), "--no-security-labels", *options, *chosen, *left_out]
        return without_restrict(_checked(argv))

    def _client(self, program: str, role: str) -> list[str]:
        return [str(self.server.bin_dir / program), f"--dbname={self.server.conninfo(self.name, role)}"]


def patch_everywhere(monkeypatch: pytest.MonkeyPatch, original: object, replacement: object) -> None:
    """Replace a function of ours in each module that defines or has imported it."""
    for name, module in list(sys.modules.items()):
        if name.startswith("tasks."):
            for key, value in list(vars(module).items()):
                if value is original:
                    monkeypatch.setattr(module, key, replacement)


def without_restrict(dump: bytes) -> bytes:
    """Take the lines `restrict KEY` and `unrestrict KEY` that pg_dump itself writes out of a dump.

    The key is random; a line of a row or of a function's body has another one, or none, and stays.
    """
    found = re.search(rb"^\\restrict ([0-9A-Za-z]{32,})\n", dump, re.MULTILINE)
    if found is None:
        return dump
    # Nothing else in the dump holds the key; and a dump may be half a gigabyte, which a pattern takes seconds for.
    return dump.replace(found[0], b"").replace(b"\\un" + found[0][1:], b"")


def _exactly(name: str) -> str:
    # Options of pg_dump take patterns; within double quotes nothing has a meaning.
    return '"' + name.replace('"', '""') + '"'


def _checked(argv: Sequence[str], stdin: bytes | None = None) -> bytes:
    environment = {"PATH": os.defpath, "LC_ALL": "C"}
    result = subprocess.run(argv, input=stdin or b"", env=environment, capture_output=True, check=False)
    assert result.returncode == 0, f"{Path(argv[0]).name}: {result.stderr.decode(errors='replace')}"
    return result.stdout


class Databases:
    """Makes databases with random names, and drops them all at the end of its `with` block.

    :param server: Where, unless a call names another server.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._made: list[Database] = []

    def __call__(
        self,
        *,
        owner: str = SUPERUSER,
        template: "Database | str | None" = None,
        encoding: str | None = None,
        server: Server | None = None,
        name: str | None = None,
        options: str = "",
    ) -> Database:
        """Make a database.

        :param template: Whose clone it is; nobody may be connected to it.
        :param encoding: As `LATIN1`; then from `template0`.
        :param name: A name instead of a random one.
        :param options: More options of CREATE DATABASE.
        """
        server = server or self._server
        database = Database(server, name or f"test_{secrets.token_hex(6)}")
        source = template.name if isinstance(template, Database) else template
        if encoding is not None:
            source = source or "template0"
        query = sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database.name), sql.Identifier(owner))
        if source is not None:
            query += sql.SQL(" TEMPLATE {}").format(sql.Identifier(source))
        if encoding is not None:
            query += sql.SQL(" ENCODING {}").format(sql.Literal(encoding))
        if server.major >= 15:
            # Half the time of the default, which writes each page to the log.
            query += sql.SQL(" STRATEGY file_copy")
        more: Any = f" {options}"
        server.admin().execute(query + sql.SQL(more))
        self._made.append(database)
        return database

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._made:
            drop(self._made.pop())


def drop(database: Database) -> None:
    """Drop a database whatever its state: connections end, subscriptions go; a stopped server starts."""
    server = database.server
    if not server.running:
        server.start()
    connection = server.admin()
    subscriptions = connection.execute(
        "SELECT subname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname = %s",
        [database.name],
    ).fetchall()
    for (name,) in subscriptions:
        _drop_subscription(database, name)
    # Swaps keep older databases under names of their own.
    query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
    names = connection.execute(query, [f"{database.name}__"])
    for name in (database.name, *(each for (each,) in names.fetchall())):
        with contextlib.suppress(psycopg.errors.InvalidCatalogName):
            connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _drop_subscription(database: Database, name: str) -> None:
    # With its slot it would want to reach the publisher, and could not go in a transaction.
    steps = ("ALTER SUBSCRIPTION {} DISABLE", "ALTER SUBSCRIPTION {} SET (slot_name = NONE)")
    with database.server.connect(database.name) as connection:
        for step in (*steps, "DROP SUBSCRIPTION {}"):
            connection.execute(sql.SQL(step).format(sql.Identifier(name)))


_TASKS_PY: Final = """\
import sys

sys.path.insert(0, {repository!r})
sys.modules.pop("tasks", None)

from tasks import ns

__all__ = ["ns"]
"""


# Servers for runs that start otherwise than most.
_OTHERS: Final[list[tuple[dict[str, str], ForkServer]]] = []


@functools.cache
def _usual_server() -> ForkServer:
    """Start the server of this process's runs of `inv` when the first one comes."""
    server = ForkServer()
    atexit.register(server.close)
    return server


def _fork_server(environment: Mapping[str, str]) -> ForkServer | None:
    """Return the server whose forks are what an interpreter with this environment is; None without one."""
    start = start_of(environment)
    if start == BASE:
        return _usual_server()
    return next((server for shared, server in _OTHERS if shared == start), None)


@contextlib.contextmanager
def sharing_start(environment: Mapping[str, str]) -> Iterator[None]:
    """Let runs with these variables, too, be forks of a server that has started with them.

    :param environment: What is added to the environment of most runs.
    """
    start = start_of({**BASE, **environment})
    server = ForkServer(start)
    _OTHERS.append((start, server))
    try:
        yield
    finally:
        _OTHERS.remove((start, server))
        server.close()


@dataclass
class Project:
    """A person's project: a folder with a `tasks.py`, in which `inv` runs as it would at their desk.

    :param root: The folder. Its parent is `HOME`, and nothing of the real environment but `PATH` comes in.
    :param env: What every command gets in its environment on top of that.
    """

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    _started: list[Started] = field(default_factory=list, repr=False)

    @classmethod
    def create(cls, root: Path) -> "Project":
        """Lay out the folder.

        Most tests work as a superuser on dumps of their own making; those of the question take the setting away.
        """
        # Most tests are about the transaction; those of the swap ask for it.
        project = cls(root, {"INVOKE_DB_TRUST": "local", "INVOKE_DB_METHOD": "transaction"})
        project.dumps.mkdir(parents=True)
        project.write("tasks.py", _TASKS_PY.format(repository=str(REPOSITORY)))
        return project

    @property
    def dumps(self) -> Path:
        """The folder `dumps/`."""
        return self.root / "dumps"

    def use(self, database: Database, role: str = SUPERUSER) -> "Project":
        """Let `DATABASE_URL` name a database, and the programs be those of its server's major."""
        self.env["DATABASE_URL"] = database.url_as(role)
        self.env["INVOKE_DB_BIN_DIR"] = str(database.server.bin_dir)
        return self

    def into(self, database: Database) -> tuple[str, str]:
        """Return the flags that restore the newest dump into another database than the one that it was made from."""
        newest = max(self.dumps.glob("db_dump_*.sql*"), key=lambda path: path.name)
        return f"--file={newest.name}", f"--confirm={database.name}"

    def write(self, path: str, text: str) -> Path:
        """Write a file of the project (`.env`, `prisma/schema.prisma`)."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def inv(
        self,
        *args: str,
        env: Mapping[str, str | None] | None = None,
        umask: int = -1,
        stdin: str | Path | None = None,
        stdout: int | IO[str] = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        redirected: str = "",
        fresh: bool = False,
        timeout: float = 120,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `inv` with these words and wait for it, in a fork of a process that has loaded everything.

        :param env: Variables on top of the project's; None takes one away.
        :param umask: The child's, where it is not to be ours.
        :param stdin: What it reads, or the file that it reads; nothing by default, and no terminal.
        :param stdout: Where its standard output goes, where the test is not to have it, and so `stderr`.
        :param redirected: What bash puts behind it, as `2>&-`; then an interpreter of its own starts.
        :param fresh: Start an interpreter of its own, which loads what it needs.
        """
        environment = self._environment(env)
        server = None if fresh or redirected else _fork_server(environment)
        stdin = stdin or ""
        if server is not None:
            return server.run(
                args,
                cwd=cwd or self.root,
                env=environment,
                umask=umask,
                stdin=stdin,
                stdout=stdout if isinstance(stdout, int) else stdout.fileno(),
                stderr=stderr,
                timeout=timeout,
            )
        return subprocess.run(
            ["bash", "-c", f"{shlex.join(self._argv(args))} {redirected}"] if redirected else self._argv(args),
            cwd=cwd or self.root,
            env=environment,
            umask=umask,
            input=stdin.read_text(encoding="utf-8") if isinstance(stdin, Path) else stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            timeout=timeout,
            check=False,
        )

    def popen(self, *args: str, env: Mapping[str, str | None] | None = None, fresh: bool = False) -> Started:
        """Start `inv` in a process group of its own, for tests that send signals.

        It is killed with its group when the test ends, if it still runs.

        :param fresh: Start an interpreter of its own, whose memory is its own, too.
        """
        environment = self._environment(env)
        server = None if fresh else _fork_server(environment)
        if server is not None:
            forked = server.start(args, cwd=self.root, env=environment)
            self._started.append(forked)
            return forked
        process = subprocess.Popen(
            self._argv(args),
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def start_at(self, terminal: int, *args: str, env: Mapping[str, str]) -> Started:
        """Start `inv` as `popen` does, with a terminal for its three streams.

        :param terminal: Its descriptor, which stays open here.
        """
        environment = self._environment(env)
        server = _fork_server(environment)
        assert server is not None
        forked = server.start_at(terminal, args, cwd=self.root, env=environment)
        self._started.append(forked)
        return forked

    def close(self) -> None:
        """End what `popen` started."""
        while self._started:
            process = self._started.pop()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def _argv(self, args: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "invoke", *args]

    def _environment(self, extra: Mapping[str, str | None] | None) -> dict[str, str]:
        base = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.root.parent),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(REPOSITORY),
            **self.env,
            **(extra or {}),
        }
        return {name: value for name, value in base.items() if value is not None}


@dataclass(frozen=True)
class Watched:
    """What a run of `inv` left behind, and the peak of its own memory in MB, its children's left aside."""

    returncode: int
    megabytes: float
    seconds: float
    stderr: str


def watched(project: Project, *arguments: str) -> Watched:
    """Run `inv` and watch its memory."""
    began = time.monotonic()
    process = project.popen(*arguments, fresh=True)
    highest = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        except FileNotFoundError:
            break
        line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
        highest = max(highest, int(line.split()[1]) if line else 0)
        time.sleep(0.02)
    _, said = process.communicate()
    return Watched(process.wait(), highest / 1024, time.monotonic() - began, said)


def listen() -> None:
    """Take back the handlers of signals that our parent had ignored: whoever we start ignores them, too."""
    for each, handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(each) is signal.SIG_IGN:
            signal.signal(each, handler)


def say(line: str) -> None:
    """Print a line of a campaign's progress."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def blocking(database: Database, query: str, role: str = SUPERUSER) -> Iterator[Connection]:
    """Hold a transaction open in another session, for tests of locks.

    :param query: What the session did, such as `LOCK TABLE t IN ACCESS SHARE MODE`.
    """
    with database.connect(role, autocommit=False) as connection:
        connection.execute(query.encode())
        yield connection
        connection.rollback()


def eventually(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.02)
