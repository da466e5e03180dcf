"""One server with its databases and one project, on which faults happen one after the other."""

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import psycopg
from psycopg import sql

from tests.bulk import journal_like
from tests.faults import files
from tests.faults.files import Violation
from tests.servers import DEFAULT_MAJOR, Server, provision
from tests.support import Database, Project

NAME: Final = "app"
SIGNALS: Final = {
    "us: SIGKILL": signal.SIGKILL,
    "us: SIGINT": signal.SIGINT,
    "us: SIGTERM": signal.SIGTERM,
    "us: SIGHUP": signal.SIGHUP,
}
KILLED: Final = "us: SIGKILL"
PG_DUMP: Final = "pg_dump: kill -9"
SERVER: Final = ("backend: terminated", "backend: kill -9", "server: kill -9", "server: immediate stop")
SWAP: Final = ("db.restore", "--clean", "--yes", "--method=swap", "--disconnect", "--jobs=2")
OPERATIONS: Final = {
    "dump": ("db.dump", "--gzip"),
    "gzip": ("db.gzip",),
    "gunzip": ("db.gunzip",),
    "restore": ("db.restore", "--clean", "--yes"),
    "reset": ("db.reset", "--yes"),
    # The database is created anew before each fault, so it is not the one that was saved.
    "undo": ("db.undo", "--yes", "--confirm=app"),
    "swap": SWAP,
    # It comes after a swap.
    "undo-swap": ("db.undo", "--yes", "--disconnect"),
}
COMMANDS: Final = {**OPERATIONS, "migrate": (*SWAP, "--migrate")}
"""With those that need a project of their own."""
FILES_ONLY: Final = ("gzip", "gunzip")
"""Operations that know nothing of the server."""

_LIMIT: Final = 120.0
_SETTLING: Final = 20.0
# Clones are cheap, and a database in which much was rolled back grows.
_WORN: Final = 15
# What is to be lost: other rows, a table of its own, a large object, and a schema that no dump here fills.
_OLD: Final = """
CREATE TABLE public.leftover AS SELECT i AS id, 'left ' || i AS what FROM generate_series(1, 100) i;
CREATE SCHEMA kept;
CREATE TABLE kept.rows (id serial PRIMARY KEY, t text);
INSERT INTO kept.rows (t) SELECT repeat('x', i) FROM generate_series(1, 100) i;
SELECT lo_from_bytea(4711, 'old');
"""
# A database with large objects, or with objects that the dump does not fill, is restored in one transaction.
_SWAPPABLE: Final = "SELECT lo_unlink(oid) FROM pg_largeobject_metadata; DROP SCHEMA IF EXISTS kept CASCADE;"
_NEW: Final = "SELECT lo_from_bytea(4711, repeat('new', 1000)::bytea), lo_from_bytea(4712, 'one more');"
_SESSIONS: Final = (
    "SELECT pid FROM pg_stat_activity"
    " WHERE (datname = %s OR starts_with(datname, %s) OR application_name = 'invoke-postgres')"
    "   AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
)
_OURS: Final = "SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY 1"
_DONE: Final = ("already committed",)
_UNDONE: Final = ("rolled back", "was not changed", "is as it was", "othing was touched", "othing was changed")
_NOT_DONE: Final = ("othing was touched", "othing was changed", "was kept", "No dump was written")
_UNKNOWN: Final = "unknown whether"


@dataclass(frozen=True)
class Aim:
    """When a fault is to happen: at an event of a phase, or so many seconds after it, while the run goes on."""

    phase: str
    event: int = 0
    delay: float | None = None


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    :ivar phase: The one in which it was struck; empty where it was not.
    :ivar events: How many events each phase had, and how many seconds it took.
    """

    code: int
    said: str
    phase: str
    events: dict[str, tuple[int, float]]


@dataclass(frozen=True)
class Outcome:
    """What a fault led to.

    :ivar state: `old` or `new`.
    """

    operation: str
    victim: str
    phase: str
    state: str


def victims_in(operation: str, phase: str) -> list[str]:
    """Name who is there to be harmed in a phase."""
    if operation in FILES_ONLY:
        return list(SIGNALS)
    dumping = phase in {"snapshot to first byte", "streaming", "saving"}
    return [*SIGNALS, *([PG_DUMP] if dumping else []), *SERVER]


@dataclass
class Lane:
    """Everything that one fault after another needs.

    :param root: An empty folder of its own.
    :ivar events: Of each operation's phases: how many events, and how many seconds.
    :ivar states: The sum of the database's content before and after each operation.
    """

    root: Path
    chance: random.Random
    server: Server
    project: Project
    database: Database
    events: dict[str, dict[str, tuple[int, float]]] = field(default_factory=dict)
    states: dict[str, dict[str, str]] = field(default_factory=dict)
    _stable: subprocess.Popen[str] | None = None
    _channel: IO[str] | None = None
    _answers: int = -1
    _holds: str = ""
    _worn: int = 0

    @classmethod
    @contextlib.contextmanager
    def open(cls, root: Path, seed: object, operations: tuple[str, ...] = tuple(OPERATIONS)) -> "Iterator[Lane]":
        """Start a server, make the databases, and run each operation once without a fault."""
        server = Server.launch(DEFAULT_MAJOR, provision(DEFAULT_MAJOR))
        project = Project.create(root / "project")
        lane = cls(root, random.Random(f"{seed}"), server, project, Database(server, NAME))
        try:
            lane._start()
            lane._prepare(operations)
            yield lane
        finally:
            lane._stop()
            project.close()
            server.close()

    # One fault

    def fault(self, operation: str, victim: str, aim: Aim) -> Outcome | None:
        """Let a fault happen, and hold everything against the promises.

        :return: None where it did not come to it: the run was over before, or there was nobody to harm.
        :raises Violation: A promise was broken.
        """
        self.lay_out(operation)
        before = files.safety_dumps(self.project.dumps)
        ended = self.run(*COMMANDS[operation], operation=operation, aim=aim, victim=victim)
        try:
            if operation not in FILES_ONLY:
                self.drain()
            missed = not ended.phase or (victim in SIGNALS and ended.code == 0)
            state = self._judge(operation, victim, ended, before)
            self._again(operation, state)
        except Violation as violation:
            raise Violation(f"{operation}, {victim}, {ended.phase or aim}: {violation}\n{ended}") from None
        return None if missed else Outcome(operation, victim, ended.phase, state)

    def _judge(self, operation: str, victim: str, ended: Ended, before: set[str]) -> str:
        """Tell which state it is, and whether everything that was said and left behind fits."""
        state = self.state(operation)
        killed = victim == KILLED and ended.code != 0
        expected = {0} | ({-9} if killed else {128 + SIGNALS[victim]} if victim in SIGNALS else {4, 5})
        if victim == "us: SIGINT" and ended.phase == "after" and state == "new":
            # Once the work is done and our handlers are gone, a Ctrl-C is Invoke's own, which ends with 1.
            expected |= {1}
        if victim in {"us: SIGTERM", "us: SIGHUP"} and state == "new":
            # So is the system's own end by a signal then; a shell shows it as 128 more, too.
            expected |= {-SIGNALS[victim]}
        if ended.code not in expected or "Traceback" in ended.said:
            raise Violation(f"exit {ended.code}")
        if not killed:
            _hold_to_its_word(operation, state, ended)
            if left := files.parts(self.project.dumps):
                raise Violation(f"part files are left: {left}")
            if state == "old" and files.safety_dumps(self.project.dumps) - before:
                raise Violation("a safety dump of what was rolled back is left")
        files.all_whole(self.project.dumps, killed=killed)
        return state

    def _again(self, operation: str, state: str) -> None:
        """Run the same again, without a fault: it works, and sweeps what lies about."""
        ended = self.run(*OPERATIONS[operation], operation=operation)
        if operation not in FILES_ONLY:
            self.drain()
        found = self.state(operation)
        # An undo of an undo brings back what was before.
        wanted = "old" if operation in {"undo", "undo-swap"} and state == "new" else "new"
        if ended.code != 0 or found != wanted:
            raise Violation(f"the next run ended in {ended.code} and left the {found}: {ended.said}")
        self._refuse_leftovers()

    def _refuse_leftovers(self) -> None:
        """Raise if a run that nothing harmed has not swept what lay about."""
        if left := files.parts(self.project.dumps):
            raise Violation(f"the next run left part files: {left}")
        if left := [name for name in self.ours() if "__staging_" in name or self.record_of(name) is None]:
            raise Violation(f"the next run left databases: {left}")
        files.all_whole(self.project.dumps, killed=False)

    def record_of(self, name: str) -> str | None:
        """Return what the dumps folder records of a database that a swap keeps; None without a record."""
        for path in self.project.dumps.glob(".database-*.json"):
            found = json.loads(path.read_bytes())
            if found["database"] == name:
                return str(found["role"])
        return None

    def state(self, operation: str) -> str:
        """Tell whether the files (of a conversion), or the database and with a dump the files, are old or new.

        :raises Violation: They are neither.
        """
        if operation in FILES_ONLY:
            return files.converted(self.project.dumps, operation)
        content = self.content()
        states = self.states[operation]
        if operation == "dump":
            if content != states["old"]:
                raise Violation("the database is no longer what it was")
            return "new" if files.finals(self.project.dumps) else "old"
        if content not in states.values():
            raise Violation("the database is neither the old nor the new")
        found = "new" if content == states["new"] else "old"
        if found == "new":
            self._holds = ""
        return found

    def content(self) -> str:
        """Sum up what the database holds, definitions and rows: pg_dump's own text of it."""
        return hashlib.sha256(self.database.dump_text()).hexdigest()

    def lay_out(self, operation: str) -> None:
        """Make files and database what they are before an operation."""
        shutil.rmtree(self.project.dumps, ignore_errors=True)
        if operation == "undo-swap":
            self.lay_out("swap")
            self._inv(self.database, *OPERATIONS["swap"])
            self._holds = ""
            return
        shutil.copytree(self.root / "before" / operation, self.project.dumps)
        # The records of these databases were in the folder.
        self._drop_ours()
        if operation in FILES_ONLY:
            return
        template = {"undo": "restored", "swap": "swappable"}.get(operation, "older")
        self._worn += 1
        if self._holds != template or self._worn >= _WORN:
            self._clone(NAME, template)
            self._worn = 0
        self._holds = template

    def ours(self) -> list[str]:
        """Name the databases that swaps have made and kept."""
        with self.server.connect() as connection:
            return [str(name) for (name,) in connection.execute(_OURS, [f"{NAME}__"])]

    def _drop_ours(self) -> None:
        for name in self.ours():
            with self.server.connect() as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def forget(self) -> None:
        """Take note that the database holds something else now."""
        self._holds = ""

    def drain(self) -> None:
        """Wait until the server is there and nobody is left in the database.

        :raises Violation: Somebody is.
        """
        if not self.server.running:
            self.server.start()
        deadline = time.monotonic() + _SETTLING
        left: object = "the server"
        while left and time.monotonic() < deadline:
            with contextlib.suppress(psycopg.OperationalError):
                left = self._sessions()
            if left:
                time.sleep(0.02)
        if left:
            raise Violation(f"sessions are left at the server: {left}")

    def _sessions(self) -> list[int]:
        with self.server.connect() as connection:
            return [int(pid) for (pid,) in connection.execute(_SESSIONS, [NAME, f"{NAME}__"])]

    # The program

    def run(self, *args: str, operation: str, aim: Aim | None = None, victim: str = "") -> Ended:
        """Run the program in a fork, and harm the victim when it says that it is time.

        :raises Violation: It did not end.
        """
        assert self._stable is not None
        assert self._stable.stdin is not None
        out, err = self.root / "out", self.root / "err"
        request = {
            "args": args,
            "operation": operation,
            "aim": aim and asdict(aim),
            "out": str(out),
            "err": str(err),
        }
        self._stable.stdin.write(json.dumps(request) + "\n")
        self._stable.stdin.flush()
        phase = ""
        events: dict[str, list[float]] = {}
        code: int | None = None
        watchdog = threading.Timer(_LIMIT, self._kill)
        watchdog.start()
        try:
            while code is None:
                heard = self._hear()
                events = heard.get("events", events)
                code = heard.get("code")
                if "strike" in heard:
                    stands_still = aim is not None and aim.delay is None
                    phase = heard["strike"] if self._harm(victim, heard["pid"], stands_still=stands_still) else ""
        finally:
            watchdog.cancel()
        said = out.read_text(errors="replace") + err.read_text(errors="replace")
        return Ended(code, said, phase, {name: (int(n), seconds) for name, (n, seconds) in events.items()})

    def _hear(self) -> dict[str, Any]:
        assert self._channel is not None
        line = self._channel.readline()
        if not line:
            self._start()
            raise Violation("it did not end")
        found: dict[str, Any] = json.loads(line)
        return found

    def _harm(self, victim: str, pid: int, *, stands_still: bool) -> bool:
        """Do the harm from outside, and tell whether there was somebody to harm."""

        def go_on() -> None:
            if stands_still:
                os.write(self._answers, b"go on\n")

        if victim in SIGNALS:
            try:
                os.kill(pid, SIGNALS[victim])
            except ProcessLookupError:
                # It had just ended by itself.
                return False
            return True
        if victim == PG_DUMP:
            found = _pg_dumps(pid)
            for each in found:
                os.kill(each, signal.SIGKILL)
            go_on()
            return bool(found)
        return self.harm_server(victim, go_on)

    def harm_server(self, victim: str, go_on: Callable[[], None] = lambda: None) -> bool:
        """Harm the server, or one session of the database there, and bring it back.

        :param go_on: Called when the harm is done; a server may then not be back yet.
        :return: Whether there was somebody to harm.
        """
        if victim.startswith("server"):
            self._end_server(victim, go_on)
            return True
        found = self._sessions()
        harmed = self.chance.choice(found) if found else 0
        if found and victim == "backend: terminated":
            with self.server.connect() as connection:
                connection.execute("SELECT pg_terminate_backend(%s, 5000)", [harmed])
        elif found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(harmed, signal.SIGKILL)
        go_on()
        return bool(found)

    def _end_server(self, victim: str, go_on: Callable[[], None]) -> None:
        if victim == "server: kill -9":
            self.server.kill()
        else:
            self.server.stop("immediate")
        early = self.chance.random() < 0.5
        if early:
            go_on()
        time.sleep(self.chance.choice([0, 0, 0.3, 1]))
        self.server.start()
        if not early:
            go_on()

    def _start(self) -> None:
        self._stop()
        listening, channel = os.pipe()
        reading, self._answers = os.pipe()
        self._stable = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.aimed", str(channel), str(reading)],
            cwd=self.project.root,
            env=self.project.use(self.database)._environment({}),
            stdin=subprocess.PIPE,
            pass_fds=[channel, reading],
            text=True,
        )
        os.close(channel)
        os.close(reading)
        self._channel = os.fdopen(listening, encoding="ascii")

    def _kill(self) -> None:
        if self._stable is not None:
            for pid in (*_children(self._stable.pid), self._stable.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _stop(self) -> None:
        if self._stable is None:
            return
        self._kill()
        self._stable.communicate()
        self._stable = None
        os.close(self._answers)
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    # What is there before

    def _prepare(self, operations: tuple[str, ...]) -> None:
        newer, older = Database(self.server, "newer"), Database(self.server, "older")
        for database, rows, more in ((newer, 3000, _NEW), (older, 2000, _OLD)):
            self._clone(database.name, "template1")
            journal_like(database, rows)
            database.execute(more)
        for name, flags in (("gunzip", ["--gzip"]), ("gzip", [])):
            self._keep("dump")
            self._inv(newer, "db.dump", *flags)
            self._keep(name)
            shutil.rmtree(self.project.dumps)
            self.project.dumps.mkdir()
        self._clone("swappable", "older")
        Database(self.server, "swappable").execute(_SWAPPABLE)
        for name in ("restore", "reset"):
            shutil.copytree(self.root / "before" / "gunzip", self.root / "before" / name)
            files.claim(self.root / "before" / name, NAME)
        newer.execute(_SWAPPABLE)
        shutil.rmtree(self.project.dumps)
        self.project.dumps.mkdir()
        self._inv(newer, "db.dump", "--gzip")
        self._keep("swap")
        files.claim(self.root / "before" / "swap", NAME)
        self.project.use(self.database)
        for operation in operations:
            self._rehearse(operation)

    def _rehearse(self, operation: str) -> None:
        """Run an operation once without a fault, to know its states and its phases."""
        if operation == "undo":
            self.lay_out("restore")
            self._inv(self.database, *OPERATIONS["restore"])
            self._keep("undo")
            self._clone("restored", NAME)
        self.lay_out(operation)
        old = self.content()
        ended = self.run(*OPERATIONS[operation], operation=operation)
        assert ended.code == 0, ended.said
        self.states[operation] = {"old": old, "new": self.content()}
        self.events[operation] = ended.events
        self._holds = ""

    def _keep(self, name: str) -> None:
        shutil.rmtree(self.root / "before" / name, ignore_errors=True)
        shutil.copytree(self.project.dumps, self.root / "before" / name)

    def _inv(self, database: Database, *args: str) -> None:
        done = self.project.use(database).inv(*args)
        assert done.returncode == 0, done.stderr

    def _clone(self, name: str, template: str) -> None:
        names = {"name": sql.Identifier(name), "template": sql.Identifier(template)}
        with self.server.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {name} WITH (FORCE)").format(**names))
            connection.execute(sql.SQL("CREATE DATABASE {name} TEMPLATE {template}").format(**names))


def _hold_to_its_word(operation: str, state: str, ended: Ended) -> None:
    """Hold what was said, and the exit code, against what is so."""
    if ended.code == 0 and state != "new":
        raise Violation("exit 0, and nothing was done")
    if operation in (*FILES_ONLY, "dump"):
        if state == "new" and any(each in ended.said for each in _NOT_DONE):
            raise Violation("it is done, and the message says that it is not")
        return
    # An undo that is done leaves the database "as it was at" a time.
    last = ended.said.strip().rpartition("\n")[2].replace("is as it was at", "")
    done, undone = any(each in last for each in _DONE), any(each in last for each in _UNDONE)
    if ended.code == 0 or _UNKNOWN in last:
        return
    if (state == "new") != done or (state == "old") != undone:
        raise Violation(f"it left the {state}, and the message says otherwise")


def _children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        found = [path.read_text(encoding="ascii").split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
        return [int(each) for group in found for each in group]
    return []


def _pg_dumps(pid: int) -> list[int]:
    found = []
    for each in _children(pid):
        with contextlib.suppress(OSError):
            # The name in parentheses, and the state; one that has ended, and waits to be taken note of, is a Z.
            if re.match(r"\d+ \(pg_dump\) [^Z]", Path(f"/proc/{each}/stat").read_text(encoding="utf-8")):
                found.append(each)
    return found
