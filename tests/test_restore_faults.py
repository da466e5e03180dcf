"""Whatever ends a restore, the database is as it was, or holds the dump; and the message says which."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.commands import END, SLEEP, ended, until_countdown, wait_for, wait_until
from tests.flows import pg_dump, write
from tests.marks import Mark
from tests.schemas import SHOP
from tests.servers import Server, provision
from tests.support import Connection, Database, Databases, Project, blocking

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
PATIENT = {"INVOKE_DB_LOCK_TIMEOUT": "60s"}

TARGET = """
CREATE SCHEMA app;
CREATE TABLE public.old AS SELECT i, 'old ' || i AS t FROM generate_series(1, 200) i;
CREATE VIEW app.of_old AS SELECT * FROM public.old;
CREATE TABLE app.filled (id integer);
"""

# Inserting the row 1 sleeps at once, or at the commit.
SLEEPER = """
CREATE FUNCTION public.sleeps() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN IF new.id = 1 THEN PERFORM pg_sleep({seconds}); END IF; RETURN new; END';
CREATE {kind} TRIGGER sleeps {when} INSERT ON app.filled {deferred} FOR EACH ROW EXECUTE FUNCTION public.sleeps();
"""
IN_COPY = SLEEPER.format(seconds=60, kind="", when="BEFORE", deferred="")
# A restore runs what is deferred before it proves itself, and is read-only from there on. So this one puts itself off.
IN_COMMIT = """
CREATE FUNCTION public.sleeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    SET CONSTRAINTS ALL DEFERRED;
    IF current_setting('transaction_read_only') = 'on' THEN PERFORM pg_sleep(60);
    ELSE UPDATE app.filled SET id = id WHERE id = new.id; END IF;
    RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER sleeps AFTER INSERT OR UPDATE ON app.filled DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (new.id = 1) EXECUTE FUNCTION public.sleeps();
"""


@pytest.fixture
def target(new_database: Databases) -> Database:
    """Return a database that holds something to lose."""
    database = new_database()
    database.execute(TARGET)
    return database


@pytest.fixture
def slow(new_database: Databases, project: Project) -> None:
    """Put a dump into the project's folder that sleeps behind its rows."""
    source = new_database()
    source.execute(SHOP)
    dump = pg_dump(source)
    place = dump.rindex(b"\\.\n") + 3
    write(project, "slow.sql", dump[:place] + SLEEP + dump[place:])


def rows_for(project: Project, count: int = 1) -> None:
    """Put a dump of rows for the table `filled` into the project's folder."""
    rows = b"".join(b"%d\n" % i for i in range(1, count + 1))
    write(project, "rows.sql", b"COPY app.filled (id) FROM stdin;\n" + rows + b"\\.\n" + END)


def nobody_left(database: Database) -> None:
    """Wait until the last session of ours has gone."""
    wait_for(
        lambda: not database.scalar("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'invoke-postgres'")
    )


# Signals


@pytest.mark.usefixtures("slow")
def test_signal_touches_nothing_when_it_comes_in_the_countdown(target: Database, project: Project) -> None:
    """Ctrl-C within the three seconds of --clean: 130, and no transaction was begun."""
    mark = Mark(target)
    process = project.use(target).popen("db.restore", "--file=slow.sql", "--trust", "--clean")
    until_countdown(process)

    process.send_signal(signal.SIGINT)
    code, _ = ended(process)

    assert code == 130
    assert mark.is_untouched()


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.usefixtures("slow")
def test_signal_rolls_back_when_it_comes_while_schemas_are_emptied(
    target: Database, project: Project, signum: signal.Signals
) -> None:
    """Waiting for a lock: 128 and the signal, everything as it was, nobody left at the server."""
    mark = Mark(target)

    with blocking(target, "LOCK TABLE public.old IN ACCESS SHARE MODE"):
        process = project.use(target).popen("db.restore", "--file=slow.sql", "--trust", "--clean", "--yes", env=PATIENT)
        wait_until(target, "relation", "LOCK TABLE")
        process.send_signal(signum)
        code, said = ended(process)

    assert code == 128 + signum
    assert f"{target.name} at 127.0.0.1:{target.server.port}" in said
    nobody_left(target)
    assert mark.is_untouched()


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.usefixtures("slow")
def test_signal_rolls_back_when_it_comes_while_the_dump_loads(
    target: Database, project: Project, signum: signal.Signals
) -> None:
    """Between the rows and the indexes: the same."""
    mark = Mark(target)
    process = project.use(target).popen("db.restore", "--file=slow.sql", "--trust", "--clean", "--yes")
    wait_until(target, "PgSleep")

    process.send_signal(signum)
    code, said = ended(process)

    assert code == 128 + signum
    assert "rolled back" in said
    nobody_left(target)
    assert mark.is_untouched()


@pytest.mark.parametrize("rows", [1, 2_000_000], ids=["waiting", "sending"])
def test_signal_rolls_back_when_it_comes_inside_a_copy(target: Database, project: Project, rows: int) -> None:
    """While the server digests a row, and while we can send no more because of that."""
    target.execute(IN_COPY)
    rows_for(project, rows)
    process = project.use(target).popen("db.restore", "--file=rows.sql")
    wait_until(target, "PgSleep")

    process.send_signal(signal.SIGINT)
    code, said = ended(process)

    assert code == 130
    assert "rolled back" in said
    nobody_left(target)
    assert target.scalar("SELECT count(*) FROM app.filled") == 0


@pytest.mark.parametrize("signum", SIGNALS)
def test_signal_rolls_back_when_it_comes_while_verifying(
    target: Database, new_database: Databases, project: Project, signum: signal.Signals
) -> None:
    """All is loaded, and the last grants wait for another session's."""
    source = new_database()
    source.execute(SHOP + "GRANT USAGE ON SCHEMA app TO pg_monitor")
    write(project, "foreign.sql", pg_dump(source))
    mark = Mark(target)

    with blocking(target, "GRANT CREATE ON SCHEMA app TO pg_monitor"):
        process = project.use(target).popen("db.restore", "--file=foreign.sql", "--clean", "--yes", env=PATIENT)
        wait_until(target, "transactionid", "GRANT")
        process.send_signal(signum)
        code, said = ended(process)

    assert code == 128 + signum
    assert "rolled back" in said
    nobody_left(target)
    assert mark.is_untouched()


def test_signal_rolls_back_when_it_comes_in_a_commit_that_still_works(target: Database, project: Project) -> None:
    """A deferred trigger runs in COMMIT: it is cancelled, and the server is asked what became of it."""
    target.execute(IN_COMMIT)
    rows_for(project)
    process = project.use(target).popen("db.restore", "--file=rows.sql")
    wait_until(target, "PgSleep", "COMMIT")

    process.send_signal(signal.SIGINT)
    code, said = ended(process)

    assert code == 130
    assert "rolled back" in said
    nobody_left(target)
    assert target.scalar("SELECT count(*) FROM app.filled") == 0


def test_signal_says_committed_when_it_comes_after_the_commit(target: Database, project: Project) -> None:
    """While ANALYZE waits, the rows are there, and verify knows the dump."""
    rows_for(project, 5)

    with blocking(target, "LOCK TABLE app.filled IN SHARE UPDATE EXCLUSIVE MODE"):
        # Without a safety dump, only ANALYZE takes a lock that conflicts.
        process = project.use(target).popen("db.restore", "--file=rows.sql", "--no-backup", "--yes", env=PATIENT)
        wait_until(target, "relation", "ANALYZE")
        process.send_signal(signal.SIGINT)
        code, said = ended(process)

    assert code == 130
    assert "already committed" in said
    assert target.scalar("SELECT count(*) FROM app.filled") == 5
    verified = project.inv("db.verify")
    assert verified.returncode == 0
    assert verified.returncode == 0


def test_restore_is_done_when_only_analyze_fails(target: Database, project: Project) -> None:
    """Missing statistics are a warning, and the exit code is 0."""
    rows_for(project, 5)

    with blocking(target, "LOCK TABLE app.filled IN SHARE UPDATE EXCLUSIVE MODE"):
        result = project.use(target).inv(
            "db.restore", "--file=rows.sql", "--no-backup", "--yes", env={"INVOKE_DB_LOCK_TIMEOUT": "200ms"}
        )

    assert result.returncode == 0
    assert "ANALYZE" in result.stderr
    assert target.scalar("SELECT count(*) FROM app.filled") == 5


def test_database_is_as_it_was_when_inv_is_killed(target: Database, project: Project) -> None:
    """Kill -9 of our process in the middle of a COPY: the server rolls back by itself."""
    target.execute(IN_COPY.replace("60", "1"))
    rows_for(project, 2_000_000)
    mark = Mark(target)
    process = project.use(target).popen("db.restore", "--file=rows.sql")
    wait_until(target, "PgSleep")

    os.killpg(process.pid, signal.SIGKILL)
    code, _ = ended(process)

    assert code == -signal.SIGKILL
    nobody_left(target)
    assert mark.is_untouched()


# The backend, the server and the network


@pytest.mark.usefixtures("slow")
def test_restore_is_rolled_back_when_its_backend_is_terminated(target: Database, project: Project) -> None:
    """pg_terminate_backend between two statements' rows: exit 4, and everything as it was."""
    mark = Mark(target)
    process = project.use(target).popen("db.restore", "--file=slow.sql", "--trust", "--clean", "--yes")
    pid = wait_until(target, "PgSleep")

    target.execute(f"SELECT pg_terminate_backend({pid})")
    code, said = ended(process)

    assert code == 4
    assert "rolled back" in said
    assert mark.is_untouched()


def test_restore_is_rolled_back_when_its_backend_is_terminated_while_we_send(
    target: Database, project: Project
) -> None:
    """The same in the middle of rows that don't fit into any buffer."""
    target.execute(IN_COPY)
    rows_for(project, 2_000_000)
    process = project.use(target).popen("db.restore", "--file=rows.sql")
    pid = wait_until(target, "PgSleep")

    target.execute(f"SELECT pg_terminate_backend({pid})")
    code, said = ended(process)

    assert code == 4
    assert "rolled back" in said
    assert target.scalar("SELECT count(*) FROM app.filled") == 0


def test_restore_says_rolled_back_when_its_backend_is_terminated_in_the_commit(
    target: Database, project: Project
) -> None:
    """The connection is lost in COMMIT, and pg_xact_status on a second one tells the truth."""
    target.execute(IN_COMMIT)
    rows_for(project)
    process = project.use(target).popen("db.restore", "--file=rows.sql")
    pid = wait_until(target, "PgSleep", "COMMIT")

    target.execute(f"SELECT pg_terminate_backend({pid})")
    code, said = ended(process)

    assert code == 4
    assert "lost during the commit" in said
    assert "rolled back" in said
    assert target.scalar("SELECT count(*) FROM app.filled") == 0


class Proxy:
    """Stands between a client and the server, and cuts the connection in which COMMIT is sent.

    :param forward: Whether the server still gets the COMMIT.
    :param again: Whether connections are taken afterwards.
    """

    def __init__(self, port: int, *, forward: bool, again: bool = True) -> None:
        self._port = port
        self._forward = forward
        self._again = again
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.cut = False
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def refuse(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def close(self) -> None:
        """End all connections, and wait until nothing is left of them."""
        self.refuse()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in self._sockets:
            each.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [client, server]
                self._start(self._copy, client, server, True)
                self._start(self._copy, server, client, False)

    def _copy(self, source: socket.socket, sink: socket.socket, outward: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if outward and b"\0COMMIT\0" in data:
                    self.cut = True
                    if not self._again:
                        self.refuse()
                    # The client's side first: no answer may get through.
                    source.shutdown(socket.SHUT_RDWR)
                    if self._forward:
                        sink.sendall(data)
                        time.sleep(0.5)
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxied(project: Project, database: Database, *, forward: bool, again: bool = True) -> Iterator[Proxy]:
    """Let the project reach its database through a proxy."""
    proxy = Proxy(database.server.port, forward=forward, again=again)
    project.use(database).env["DATABASE_URL"] = database.url.replace(f":{database.server.port}/", f":{proxy.port}/")
    try:
        yield proxy
    finally:
        proxy.close()


def test_restore_says_committed_when_the_connection_is_cut_behind_the_commit(
    target: Database, project: Project
) -> None:
    """The server got the COMMIT and its answer was lost: the restore is done, and is told so."""
    rows_for(project, 5)

    with proxied(project, target, forward=True) as proxy:
        result = project.inv("db.restore", "--file=rows.sql")

    assert proxy.cut
    assert result.returncode == 0, result.stderr
    assert "counted and committed" in result.stdout
    assert target.scalar("SELECT count(*) FROM app.filled") == 5


def test_restore_says_rolled_back_when_the_connection_is_cut_before_the_commit(
    target: Database, project: Project
) -> None:
    """The COMMIT never reached the server: exit 4, and the server says that it was rolled back."""
    rows_for(project, 5)

    with proxied(project, target, forward=False) as proxy:
        result = project.inv("db.restore", "--file=rows.sql")

    assert proxy.cut
    assert result.returncode == 4
    assert "lost during the commit" in result.stderr
    assert "rolled back" in result.stderr
    assert target.scalar("SELECT count(*) FROM app.filled") == 0


def test_restore_says_that_it_does_not_know_when_nobody_can_be_asked(target: Database, project: Project) -> None:
    """With the way to the server gone, both outcomes are named, and how to look."""
    rows_for(project, 5)

    with proxied(project, target, forward=True, again=False):
        result = project.inv("db.restore", "--file=rows.sql")

    assert result.returncode == 4
    assert "db.verify --file=" in result.stderr
    assert "rolled back" not in result.stderr


@pytest.fixture(scope="module")
def private() -> Iterator[Server]:
    """Return a server that may be killed, as nobody else works on it."""
    server = Server.launch(17, provision(17))
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def doomed(private: Server) -> Iterator[Database]:
    """Return a database on a server that may be killed."""
    with Databases(private) as databases:
        database = databases()
        database.execute(TARGET)
        yield database


def test_database_is_as_it_was_when_the_server_is_killed_while_loading(doomed: Database, project: Project) -> None:
    """Kill -9 of the server: exit 4, and after its recovery everything is there."""
    dump = b"CREATE TABLE public.new (id integer);\n" + SLEEP + END
    write(project, "slow.sql", dump.replace(b"CREATE", b"DROP TABLE app.filled;\nCREATE", 1))
    mark = Mark(doomed)
    process = project.use(doomed).popen("db.restore", "--file=slow.sql", "--trust")
    wait_until(doomed, "PgSleep")

    doomed.server.kill()
    code, said = ended(process)
    doomed.server.start()

    assert code == 4
    assert "rolled back" in said
    assert mark.is_untouched()


def test_restore_asks_the_server_when_it_came_back_from_a_kill_in_the_commit(
    doomed: Database, project: Project
) -> None:
    """The answer of a server that has recovered is the true one."""
    doomed.execute(IN_COMMIT)
    rows_for(project)
    process = project.use(doomed).popen("db.restore", "--file=rows.sql")
    wait_until(doomed, "PgSleep", "COMMIT")

    doomed.server.kill()
    doomed.server.start()
    code, said = ended(process)

    assert code == 4
    assert "rolled back" in said
    assert doomed.scalar("SELECT count(*) FROM app.filled") == 0


# Prisma's lock


def test_migrations_wait_when_a_restore_runs(target: Database, project: Project) -> None:
    """Prisma's own advisory lock is ours from the first statement to the last, and free afterwards."""
    write(project, "slow.sql", b"CREATE TABLE public.new ();\nSELECT pg_catalog.pg_sleep(1.5);\n" + END)
    process = project.use(target).popen("db.restore", "--file=slow.sql", "--trust")
    wait_until(target, "PgSleep")

    with target.connect() as other:
        during = _try_lock(other)
        other.execute("SELECT pg_advisory_lock(72707369)")
        there = other.execute("SELECT to_regclass('public.new') IS NOT NULL").fetchone()
    code, _ = ended(process)

    assert during is False
    assert there == (True,)
    assert code == 0


def _try_lock(connection: Connection) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(72707369)").fetchone()
    assert row is not None
    return bool(row[0])


def test_restore_names_no_secret_when_it_fails(target: Database, project: Project) -> None:
    """Neither the password nor its percent-encoded form stands in what was said, however it ended."""
    target.execute(IN_COMMIT)
    rows_for(project)
    process = project.use(target).popen("db.restore", "--file=rows.sql", env={"INVOKE_DB_OUTPUT": "verbose"})
    wait_until(target, "PgSleep", "COMMIT")
    process.send_signal(signal.SIGTERM)

    _, said = ended(process)

    assert "s3cr3t" not in said


def test_an_error_says_what_of_which_table(database: Database, project: Project) -> None:
    """A key that the rows of a foreign dump break is named, and so is its table; its INSERTs were announced."""
    database.execute("CREATE TABLE public.old ()")
    project.write(
        "dumps/foreign.sql",
        "CREATE TABLE public.t (i int);\n"
        "INSERT INTO public.t VALUES (1);\n"
        "INSERT INTO public.t VALUES (1);\n"
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_key UNIQUE (i);\n"
        "--\n-- PostgreSQL database dump complete\n--\n",
    )

    result = project.use(database).inv("db.restore", "--clean", "--yes", "--file=foreign.sql")

    assert result.returncode == 5
    assert "foreign.sql (2 INSERT statements)" in result.stderr
    assert "ALTER TABLE ONLY public.t ADD CONSTRAINT t_key UNIQUE (i)" in result.stderr
    assert database.scalar("SELECT to_regclass('public.t')") is None


def test_an_error_says_what_else_is_dropped(database: Database, project: Project) -> None:
    """A constraint that others need is named, though its statement is one that may be refused."""
    database.execute("CREATE TABLE public.old ()")
    project.write(
        "dumps/foreign.sql",
        "CREATE TABLE public.t (i int CONSTRAINT t_key PRIMARY KEY);\n"
        "CREATE TABLE public.u (i int REFERENCES public.t);\n"
        "ALTER TABLE ONLY public.t DROP CONSTRAINT t_key;\n"
        "--\n-- PostgreSQL database dump complete\n--\n",
    )

    result = project.use(database).inv("db.restore", "--clean", "--yes", "--file=foreign.sql")

    assert result.returncode == 5
    assert "ALTER TABLE ONLY public.t DROP CONSTRAINT t_key" in result.stderr
    assert database.scalar("SELECT to_regclass('public.t')") is None
