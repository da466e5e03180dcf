"""A private PostgreSQL server: a temporary one, or a developer's server in a folder of the project.

The programs are those of the extra `embedded` or of the machine; nothing is downloaded. PostgreSQL refuses to run as
root, so root runs it as an ordinary account. The server listens only on a socket in a private folder, or on 127.0.0.1
with a password.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shlex
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..config.target import sanitize
from ..errors import BadInputError, MissingProgramError, ServerError
from ..postgres.connection import connected
from ..postgres.databases import create_database, open_to_owner
from ..system.pg_programs import (
    SUPERUSER,
    initdb_argv,
    last_lines,
    reachable_programs,
    server_environment,
    temporary_folder,
)
from ..system.processes import Account, SupervisedProcess, make_file, make_folder, run_program
from ..system.runtime import interrupt_process
from .account import account_for, give
from .data_folder import (
    another_users_folder,
    disown_lock,
    is_server_of,
    lock_folder,
    read_lock_lines,
    read_password,
    read_text_from,
    usable_folder,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..system.pg_programs import Programs


DATABASE = "app"
LOOPBACK = "127.0.0.1"
# Below the ports of outgoing connections (from 32768 on Linux, 49152 on macOS), so that the port of the first start
# is also free at the next one.
PORTS = (20000, 32000)
SECONDS = 60.0

_STATUS_LINE = 7  # of postmaster.pid, counted from 0: src/include/utils/pidfile.h
_PORT_LINE = 3

# Ends the server and deletes its folder when standard input ends: when this process closes it or ends. The signal is
# repeated, because the server ignores SIGQUIT (as every `&` of a shell) until it has set its signal handlers.
_SUPERVISOR = """
exec 3<&0 </dev/null >{log} 2>&1
if {initdb}; then
    {postgres} 3<&- &
    server=$!
    {{ read -r gone; while kill -QUIT "$server"; do sleep 0.2; done; }} <&3 2>/dev/null &
    watcher=$!
    wait "$server"
    kill "$watcher"
fi
: >{ended}
read -r gone <&3
rm -rf {home}
"""


@dataclass(frozen=True)
class Running:
    """A running server and its connection as superuser.

    :ivar host: 127.0.0.1, or the absolute path of the socket's folder.
    :ivar database: The name of an existing database.
    :ivar pid: The postmaster's process id.
    :ivar started: Whether this call started it; False if it was already running.
    """

    data_dir: Path
    host: str
    port: int
    database: str
    pid: int
    password: str = field(default="", repr=False)
    started: bool = False

    @property
    def url(self) -> str:
        """Return the URL of its database, for Prisma and libpq; it contains the password."""
        return self.url_of(self.database)

    def url_of(self, database: str) -> str:
        """Return the URL of another of its databases."""
        secret = f":{self.password}" if self.password else ""
        name = quote(database, safe="")
        if self.host.startswith("/"):
            return f"postgresql://{SUPERUSER}{secret}@localhost:{self.port}/{name}?host={quote(self.host)}"
        return f"postgresql://{SUPERUSER}{secret}@{self.host}:{self.port}/{name}"


@contextlib.contextmanager
def temporary_server(programs: Programs) -> Iterator[Running]:
    """Run a new, empty server during a block; no process and no file remains afterwards.

    It listens on a socket that only its account can reach and on no port, so any number of them can run at the same
    time. If this process is killed, even by `kill -9`, a supervisor stops the server within seconds and deletes it.

    :raises MissingProgramError: The account that must run the programs can't run them.
    :raises ServerError: It did not start; everything created was deleted.
    """
    account = account_for()
    home = Path(tempfile.mkdtemp(prefix="pg-", dir=temporary_folder(account)))
    process = None
    try:
        give(home, account)
        programs = reachable_programs(programs, account, home)
        # The account deletes the copy, so it must own it.
        for path in home.rglob("*"):
            give(path, account)
        script = _supervisor_script(programs, home)
        process = SupervisedProcess(["/bin/sh", "-c", script], env=server_environment(programs), account=account)
        yield replace(_await_ready(home, process), started=True)
    finally:
        if process is not None:
            process.release(timeout=15)
        shutil.rmtree(home, ignore_errors=True)


def start(folder: Path, programs: Programs) -> Running:
    """Start the server of a folder, and create its data on the first call; it runs until `stop`.

    It listens on 127.0.0.1. Its port and password never change.

    :param folder: The server's own folder in the project, such as `.postgres`; a `.gitignore` in it excludes it.
    :return: Its connection; `started` is False if it was already running.
    :raises BadInputError: The folder belongs to another user, can't be reached or lacks the password file.
    :raises MissingProgramError: The programs have another major version than the data.
    :raises ServerError: It did not start, or its port is in use. The data are unchanged.
    """
    folder = folder.resolve()
    account = account_for(folder)
    with usable_folder(folder):
        _prepare(folder, account)
        with lock_folder(folder):
            if find_running(folder):
                return _prepare_database(folder)
            if major_of(folder) not in (None, programs.major):
                raise MissingProgramError(
                    f"The data in {folder} need PostgreSQL {major_of(folder)}, but the programs in "
                    f"{programs.bin_dir} are version {programs.major}. Nothing was touched. Set INVOKE_DB_BIN_DIR to "
                    f"the folder of the right programs, or move {folder} away to start with an empty one."
                )
            programs = reachable_programs(programs, account, folder)
            if major_of(folder) is None:
                _initdb(folder, programs, account)
            return replace(_launch(folder, programs, account), started=True)


def stop(folder: Path) -> bool:
    """Stop the server of a folder, as `pg_ctl stop --mode=fast` does.

    :return: False if it was not running.
    :raises BadInputError: The folder belongs to another user.
    :raises ServerError: It is still shutting down after a minute.
    """
    folder = folder.resolve()
    if major_of(folder) is None:
        return False
    with usable_folder(folder), lock_folder(folder):
        data = folder / "data"
        server = _server(data)
        if server is None:
            return False
        interrupt_process(server.pid)
        deadline = time.monotonic() + SECONDS
        while is_server_of(server.pid, data):
            if time.monotonic() > deadline:
                raise ServerError(
                    f"PostgreSQL in {folder} (process {server.pid}) is still shutting down after {SECONDS:.0f} s. "
                    f"{folder / 'log'} says why."
                )
            time.sleep(0.02)
        return True


def find_running(folder: Path) -> Running | None:
    """Return the connection to the server of a folder; None if it does not run.

    :raises BadInputError: It runs, but its password file is missing.
    """
    server = _server(folder.resolve() / "data")
    return server and replace(server, password=read_password(folder))


def major_of(folder: Path) -> int | None:
    """Return the major version of the data in a folder; None without data.

    :raises BadInputError: The folder belongs to another user.
    """
    try:
        return int((folder / "data" / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None
    except PermissionError:
        raise another_users_folder(folder) from None


# The server of a project has no standby and no archive, so new tables and indexes need no write-ahead log; their
# files are flushed at a commit. Restores are 15 to 25 % faster (docs/performance.md).
_CONFIGURATION = """
# Written by `inv pg.start`; change it as you like.
wal_level = minimal
max_wal_senders = 0
max_wal_size = 4GB
shared_buffers = {megabytes}MB
"""
_SHARE_OF_MEMORY, _LEAST_MEGABYTES, _MOST_MEGABYTES = 16, 128, 512

# The temporary server


def _supervisor_script(programs: Programs, home: Path) -> str:
    data = home / "data"
    settings = ["listen_addresses=", "fsync=off", "full_page_writes=off", "synchronous_commit=off"]
    # mmap: files in the data folder. /dev/shm is small in containers and would keep files after a kill.
    settings.append("dynamic_shared_memory_type=mmap")
    postgres = [str(programs.bin_dir / "postgres"), "-D", str(data), "-k", str(home), "-p", "5432"]
    postgres += [part for setting in settings for part in ("-c", setting)]
    initdb = initdb_argv(programs, data, "--auth=trust", "--no-sync")
    return _SUPERVISOR.format(
        initdb=shlex.join(initdb),
        postgres=shlex.join(postgres),
        log=shlex.quote(str(home / "log")),
        ended=shlex.quote(str(home / "ended")),
        home=shlex.quote(str(home)),
    )


def _await_ready(home: Path, process: SupervisedProcess) -> Running:
    data = home / "data"
    deadline = time.monotonic() + SECONDS
    while process.running and not (home / "ended").exists() and time.monotonic() < deadline:
        lock = read_lock_lines(data)
        if len(lock) > _STATUS_LINE and lock[_STATUS_LINE].strip() == "ready":
            return Running(data_dir=data, host=str(home), port=5432, database="postgres", pid=int(lock[0]))
        time.sleep(0.02)
    raise ServerError(f"The private PostgreSQL server did not start: {last_lines(read_text_from(home / 'log'))}.")


# The server of a project


def _prepare(folder: Path, account: Account | None) -> None:
    """Create the folder. If root runs this, root owns it, and the account may only enter it."""
    if set('"$`\\\n') & set(str(folder)):
        raise BadInputError(
            f"{folder} can't hold a server: pg_ctl passes its path to a shell unescaped. Nothing was started. "
            'Use a path without the characters ", $, `, \\ and line breaks.'
        )
    try:
        make_folder(folder, 0o711 if account else 0o700)
    except FileExistsError:
        # It existed, or another first start has just created it.
        if not folder.is_dir():
            raise
    make_file(folder / ".gitignore", "*\n")
    if (folder / "data").exists() and os.geteuid() not in (0, (folder / "data").stat().st_uid):
        raise another_users_folder(folder)
    if account and run_program(["/bin/sh", "-c", f"cd {shlex.quote(str(folder))}"], account=account).returncode:
        raise BadInputError(
            f"PostgreSQL does not run as root, and the user {account.name}, which runs it instead, has no access to "
            f"{folder}. Nothing was started. Let other users enter its parent folders, or run this as an ordinary user."
        )


def _initdb(folder: Path, programs: Programs, account: Account | None) -> None:
    """Create the data in `data.part`, then rename it: a folder `data` is always complete."""
    part = folder / "data.part"
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(mode=0o700)
    give(part, account)
    for name, content in (("password", secrets.token_urlsafe(18) + "\n"), ("log", "")):
        (folder / name).unlink(missing_ok=True)
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(content)
        give(folder / name, account)
    argv = initdb_argv(programs, part, "--auth=scram-sha-256", "--pwfile", str(folder / "password"))
    done = run_program(argv, cwd=Path("/"), env=server_environment(programs), account=account, timeout=5 * SECONDS)
    if done.returncode != 0:
        raise ServerError(f"initdb could not create the data in {folder}: {last_lines(done.stderr)}.")
    with (part / "postgresql.conf").open("a") as file:
        file.write(_CONFIGURATION.format(megabytes=shared_buffers_megabytes()))
    part.rename(folder / "data")


def shared_buffers_megabytes() -> int:
    """Return the memory for the cache of a private server, in megabytes, by the memory of this machine."""
    known = {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= os.sysconf_names.keys()
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else 0
    return min(max(machine // _SHARE_OF_MEMORY >> 20, _LEAST_MEGABYTES), _MOST_MEGABYTES)


def _launch(folder: Path, programs: Programs, account: Account | None) -> Running:
    disown_lock(folder / "data")
    port_file = folder / "port"
    fixed = port_file.exists()
    ports = [int(port_file.read_text())] if fixed else random.sample(range(*PORTS), 20)
    for port in filter(_is_free, ports):
        before = (folder / "log").stat().st_size
        options = f"-p {port} -c listen_addresses={LOOPBACK} -c unix_socket_directories="
        argv = [str(programs.bin_dir / "pg_ctl"), "start", "-D", str(folder / "data"), "-o", options]
        argv += ["-l", str(folder / "log"), "-w", "-t", f"{SECONDS:.0f}", "-s"]
        environ = server_environment(programs)
        done = run_program(argv, cwd=Path("/"), env=environ, account=account, timeout=SECONDS + 15)
        if done.returncode == 0:
            return _prepare_database(folder)
        if _is_free(port) or _server(folder / "data") is not None:
            # Not a conflict about the port: it is free, or our own server has it and is only slow.
            log = read_text_from(folder / "log", before)
            raise ServerError(f"PostgreSQL in {folder} did not start: {last_lines(log or done.stderr)}.")
    if fixed:
        raise ServerError(
            f"Another program uses port {ports[0]}, the port of PostgreSQL in {folder}. Nothing was started. Stop "
            f"that program, or delete {port_file} to get another port and then change the URL in .env."
        )
    raise ServerError(f"No free port was found on {LOOPBACK}. Nothing was started.")


def _prepare_database(folder: Path) -> Running:
    """Write the port file, and create the database if the last start was killed before it did."""
    running = find_running(folder)
    if running is None:
        raise ServerError(f"PostgreSQL in {folder} started, but has ended. {folder / 'log'} says why.")
    (folder / "port").touch(mode=0o644)
    (folder / "port").write_text(f"{running.port}\n")
    with connected(sanitize(running.url_of("postgres"))) as connection:
        query = "SELECT datallowconn FROM pg_catalog.pg_database WHERE datname = %s"
        known = connection.execute(query, [DATABASE]).fetchone()
        if known is None:
            create_database(connection, DATABASE)
        elif not known[0]:
            open_to_owner(connection, DATABASE)
    return running


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server does: a port is free although connections to it ended a moment ago.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _server(data: Path) -> Running | None:
    """Return the running server from its lock file, without the password; None if it does not run."""
    lock = read_lock_lines(data)
    if len(lock) <= _PORT_LINE or not is_server_of(int(lock[0]), data):
        return None
    return Running(data_dir=data, host=LOOPBACK, port=int(lock[_PORT_LINE]), database=DATABASE, pid=int(lock[0]))
