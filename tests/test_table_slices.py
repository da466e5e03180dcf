"""Rows that our own sessions read beside pg_dump are those that it would have written, or pg_dump writes them."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from psycopg.errors import LockNotAvailable

from tasks.config.target import sanitize
from tasks.dump import table_slices
from tasks.dump.parallel import ParallelReader, splice_rows
from tasks.dump.request import DumpRequest
from tasks.dump.table_slices import TableSlices, begin_slices, choose_slices
from tasks.dumpformat.compression import DecompressedReader
from tasks.dumpformat.lexer import Comment, Event, Statement, lex
from tasks.errors import OperationFailedError, TaskError
from tasks.postgres.connection import connected, exported_snapshot, server_facts
from tasks.postgres.protocol import PIECE, LostError, StatementError, StatementStream
from tasks.postgres.tables import Table, TableChangedError, read_tables
from tasks.system.runtime import BackgroundTask, count_processors
from tests.dump_programs import PG_DUMP_OPTIONS, migrate, nothing_is_left, waiting
from tests.flows import Said, dumped, settings_of
from tests.servers import Server
from tests.support import Database, Databases, Project, blocking, eventually, patch_everywhere, without_restrict

# Some twelve megabytes in three slices, and a small table beside them.
LARGE = """
CREATE TABLE large (id int PRIMARY KEY, text text);
INSERT INTO large SELECT i, repeat(md5(i::text), 5) FROM generate_series(1, 60000) i;
CREATE TABLE small AS SELECT generate_series(1, 10) AS id;
"""
# Names and values at which a reading of our own might differ from pg_dump's.
ODD = r"""
CREATE SCHEMA "Odd ""x"" schema";
CREATE TABLE "Odd ""x"" schema"."line
break;--" ("select" int, "a""b" text, gone text, "Ünïcödé" text, made int GENERATED ALWAYS AS ("select" * 2) STORED);
INSERT INTO "Odd ""x"" schema"."line
break;--" SELECT i, CASE WHEN i % 7 = 0 THEN NULL WHEN i % 5 = 0 THEN '' ELSE E'\\N \t\n\r\\.' || i END, 'x',
  'é' || chr(8364) FROM generate_series(1, 3000) i;
ALTER TABLE "Odd ""x"" schema"."line
break;--" DROP COLUMN gone;
CREATE TABLE typed AS SELECT i AS id, i / 3.0::float8 AS f, (i / 3.0)::float4 AS f4,
  i * interval '1 month 2 days 3.5 s' AS v, timestamptz '2024-02-29 23:59:59.123456+05:30' + i * interval '1 hour' AS z,
  ('\x' || repeat('00ff5c', i % 9))::bytea AS b, jsonb_build_object('k', E'a\\"\n' || i) AS j,
  ARRAY[[i::text, NULL], ['{', '"']] AS a, numrange(i, i + 1) AS r, 1e300::numeric * i AS n,
  ROW(i, 'x')::text AS t, (i % 2 = 0) AS w, '192.168.0.1/24'::inet AS ip FROM generate_series(1, 4000) i;
DELETE FROM typed WHERE id BETWEEN 500 AND 2500;
UPDATE typed SET w = NOT w WHERE id % 10 = 0;
CREATE TABLE parent (id int) PARTITION BY RANGE (id);
CREATE TABLE part_a PARTITION OF parent FOR VALUES FROM (0) TO (5000);
CREATE TABLE part_b PARTITION OF parent FOR VALUES FROM (5000) TO (9999);
INSERT INTO parent SELECT generate_series(1, 9000);
CREATE TABLE heir (more text) INHERITS (typed);
INSERT INTO heir (id, more) SELECT i, 'heir' FROM generate_series(1, 2000) i;
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE "a.b*c$?[x]|\\d" AS SELECT generate_series(1, 3000) AS "c.*";
CREATE TABLE aaa AS SELECT 1 AS id;
CREATE TABLE zzz AS SELECT 1 AS id;
"""
# The environment of a command that counts so many, as Python 3.13 does: two sessions read, or three.
FOUR_PROCESSORS = {"PYTHON_CPU_COUNT": "4"}
FIVE_PROCESSORS = {"PYTHON_CPU_COUNT": "5"}


@pytest.fixture(autouse=True)
def processors(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Count four processors, on which tables of a local server are read in parallel; return how to count others."""

    def count(number: int) -> None:
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(number)))

    count(4)
    return count


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read tables of a page and more in slices of two pages."""
    monkeypatch.setattr(table_slices, "SMALLEST", 1)
    monkeypatch.setattr(table_slices, "SLICE", 2)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keep the names of the tables that were read in slices."""
    names: list[str] = []
    patterns = ParallelReader.patterns

    def kept(self: ParallelReader) -> list[str]:
        found = patterns(self)
        names.extend(found)
        return found

    monkeypatch.setattr(ParallelReader, "patterns", kept)
    return names


@pytest.fixture(scope="module")
def built(server: Server) -> Iterator[Database]:
    """Return a database with a large and a small table, which tests get clones of."""
    with Databases(server) as databases:
        database = databases()
        database.execute(LARGE)
        yield database


@pytest.fixture
def large(new_database: Databases, built: Database) -> Database:
    """Return a database with a large and a small table."""
    return new_database(template=built)


@pytest.fixture(scope="module")
def million(server: Server) -> Iterator[Database]:
    """Return a database with a table that takes long enough to read."""
    with Databases(server) as databases:
        database = databases()
        database.execute(LARGE)
        database.execute("INSERT INTO large SELECT i, repeat(md5(i::text), 5) FROM generate_series(60001, 1000000) i")
        yield database


def content_of(path: Path) -> bytes:
    """Return the text of a dump without what is random in it."""
    with DecompressedReader(path) as reading:
        return without_restrict(b"".join(reading.chunks()))


def plain(text: bytes) -> bytes:
    """Take the quotes out of the lines of COPY: pg_dump writes none around a name that needs none today."""
    return b"".join(
        re.sub(rb'"([a-z_][a-z_0-9]*)"', rb"\1", event.text)
        if isinstance(event, Statement) and event.copies
        else event.text
        for event in lex([text])
    )


@pytest.mark.usefixtures("everywhere")
@pytest.mark.majors(14, 18)
def test_text_is_what_pg_dump_writes(read: list[str], new_database: Databases, project: Project) -> None:
    """Odd names and values, holes, partitions, children: byte for byte, and each in its place."""
    database = new_database()
    database.psql(ODD)

    made = dumped(settings_of(project, database))

    assert plain(content_of(made.path)) == plain(database.dump_text(*PG_DUMP_OPTIONS))
    assert {'"public"."typed"', '"public"."part_a"', '"public"."heir"', '"Odd ""x"" schema"."line\nbreak;--"'} <= set(
        read
    )
    assert '"public"."no_columns"' not in read


@pytest.mark.usefixtures("everywhere")
@pytest.mark.majors(14, 18)
def test_database_with_everything_is_read_as_pg_dump_reads_it(
    read: list[str], everything: Database, project: Project
) -> None:
    """Every kind of column and table that a superuser can make, in slices of two pages."""
    made = dumped(settings_of(project, everything))

    assert plain(content_of(made.path)) == plain(everything.dump_text(*PG_DUMP_OPTIONS))
    assert len(read) > 10


@pytest.mark.parametrize("environment", [FOUR_PROCESSORS, FIVE_PROCESSORS], ids=["two", "three"])
def test_large_table_is_read_by_several_sessions(
    environment: dict[str, str], large: Database, project: Project
) -> None:
    """By the command itself: the dump is whole, and what reads it is told nothing of the slices."""
    result = project.use(large).inv("db.dump", "--gzip", "--file=x.sql.gz", env=environment)

    assert result.returncode == 0, result.stderr
    text = content_of(project.dumps / "x.sql.gz")
    assert plain(text) == plain(large.dump_text(*PG_DUMP_OPTIONS))
    assert b'COPY "public"."large" ("id", "text") FROM stdin;' in text
    assert project.inv("db.verify", "--file=x.sql.gz").returncode == 0


@pytest.mark.parametrize(
    ("said", "counted", "sessions"),
    [
        ("3", 3, 2),
        ("5", 5, 3),
        (" 16 ", 16, 3),
        ("0", 4, 2),
        ("-1", 4, 2),
        ("many", 4, 2),
        ("", 4, 2),
    ],
)
def test_processors_decide_the_number_of_sessions(
    monkeypatch: pytest.MonkeyPatch, said: str, counted: int, sessions: int
) -> None:
    """PYTHON_CPU_COUNT overrides the four of this machine, if it is a number of processors."""
    monkeypatch.setenv("PYTHON_CPU_COUNT", said)

    reader = ParallelReader(sanitize("postgresql://u@h/d"), [], "snapshot")

    assert (count_processors(), len(reader._readers)) == (counted, sessions)


def test_statements_cover_all_pages() -> None:
    """Neighbours meet, and the last has no end, however the table has grown since."""
    table = Table(1, "s", "t", "", 0, 0)
    conditions = [
        re.findall(r"ctid (>=|<) '\((\d+),0\)'", statement.decode())
        for statement in TableSlices(table, ("a",), 1100, "o").statements()
    ]

    assert conditions == [[(">=", "0"), ("<", "512")], [(">=", "512"), ("<", "1024")], [(">=", "1024")]]
    assert len(list(TableSlices(table, ("a",), 0, "o").statements())) == 1


def test_server_reads_only_the_pages_of_a_slice(large: Database) -> None:
    """Else a table would be read as often as it has slices."""
    with connected(sanitize(large.url)) as connection, exported_snapshot(connection) as snapshot:
        (slices,) = choose_slices(connection, server_facts(connection), read_tables(connection))
        with connected(sanitize(large.url)) as other:
            begin_slices(other, snapshot, [slices])
            for statement in slices.statements():
                query = statement.decode().removeprefix("COPY (").removesuffix(") TO STDOUT")
                plan = "\n".join(line for (line,) in other.execute(f"EXPLAIN {query}".encode()))
                assert plan.startswith("Tid Range Scan on")


@pytest.mark.usefixtures("everywhere")
def test_rows_of_a_later_time_are_not_read(large: Database, project: Project) -> None:
    """What others write while we read is of no snapshot of ours; the counts agree."""
    stop = threading.Event()

    def write() -> None:
        with large.connect() as connection:
            for at in range(1_000_000):
                if stop.is_set():
                    return
                connection.execute("INSERT INTO large VALUES (%s, 'later')", [100_000 + at])
                connection.execute("UPDATE large SET text = 'changed' WHERE id = %s", [at % 60_000])
                connection.execute("DELETE FROM large WHERE id = %s", [(at * 7919) % 60_000])

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            for _ in range(3):
                made = dumped(settings_of(project, large))
                (rows,) = [each.rows for each in made.manifest.tables if each.name == "large"]
                ids = re.findall(rb"^(\d+)\t", content_of(made.path), re.MULTILINE)
                assert len(ids) == len(set(ids)) == rows > 0
        finally:
            stop.set()
            writing.result()


# Where pg_dump does it alone


def environ_of(database: Database, role: str) -> dict[str, str]:
    """Name a database by the URL of a role of the test's own, whose password is `few`."""
    url = re.sub(r"//[^@]*@", f"//{role}:few@", database.url)
    return {"DATABASE_URL": url, "PATH": os.defpath}


HASHED = """CREATE TABLE root (m int, t text) PARTITION BY HASH (m);
CREATE TABLE root_0 PARTITION OF root FOR VALUES WITH (MODULUS 1, REMAINDER 0);
INSERT INTO root SELECT id, text FROM large; DROP TABLE large; ALTER TABLE root_0 RENAME TO large"""
OUT_OF_LINE = """ALTER TABLE large ALTER text SET STORAGE EXTERNAL;
UPDATE large SET text = repeat(text, 20) WHERE id < 9000; VACUUM FULL large"""


# More than the pipe holds, so that pg_dump can't end without us.
MORE = "CREATE TABLE more AS SELECT repeat('x', 1000) FROM generate_series(1, 4000)"


def test_dump_does_not_wait_for_a_migration_that_waits_for_pg_dump(
    large: Database, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for pg_dump, which waits for us: so pg_dump then does it alone, before or after the migration."""
    large.execute(MORE)
    begin = ParallelReader.begin
    first = threading.Event()

    def behind(self: ParallelReader) -> None:
        if not first.is_set():
            first.set()
            pool.submit(migrate, large, "ALTER TABLE large ADD COLUMN c int")
            eventually(lambda: "migration" in waiting(large), "the migration's wait")
        begin(self)

    monkeypatch.setattr(ParallelReader, "begin", behind)
    report = Said()
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        made = dumped(settings_of(project, large, lock_timeout=0), report=report)

    assert [each.rows for each in made.manifest.tables if each.name == "large"] == [60_000]
    assert any("Retrying with pg_dump alone" in line for line in report.details)
    assert time.monotonic() - began < 30
    assert made.path.stat().st_size == made.manifest.file.size
    assert content_of(made.path).count(b"-- PostgreSQL database dump complete") == 1


@pytest.mark.parametrize("free", [2, 3])
def test_dump_takes_no_session_that_pg_dump_needs(free: int, large: Database, project: Project) -> None:
    """Of a role that may have but so many sessions, ours leave pg_dump its own, now and when it begins again."""
    large.execute(MORE)
    role = f"few_{large.name}"
    large.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'few' CONNECTION LIMIT {free}")
    large.execute(f"GRANT pg_read_all_data TO {role}")
    report = Said()
    try:
        made = dumped(settings_of(project, large, environ=environ_of(large, role)), report=report)
    finally:
        large.execute(f"DROP ROLE {role}")

    assert made.manifest.rows == 64_010
    assert report.details[-1].endswith("Retrying with pg_dump alone.")


@pytest.mark.parametrize(
    ("change", "request_"),
    [
        ("DROP TABLE small", DumpRequest()),
        ("", DumpRequest(exclude_data=("small",))),
        ("ALTER TABLE large SET UNLOGGED", DumpRequest()),
        (OUT_OF_LINE, DumpRequest()),
        (HASHED, DumpRequest()),
        ("ALTER DATABASE {} SET tcp_user_timeout = '30s'", DumpRequest()),
    ],
    ids=["no other table", "--exclude-data", "unlogged", "large values", "hash partition", "impatient server"],
)
def test_what_we_do_not_read_pg_dump_does(
    change: str, request_: DumpRequest, read: list[str], large: Database, project: Project
) -> None:
    """Where we would find no place, or hold values that are too large."""
    for statement in filter(None, change.split(";")):
        large.execute(statement.replace("{}", large.name))

    made = dumped(settings_of(project, large), request_)

    assert [each.rows for each in made.manifest.tables if each.name == "large"] == [60_000]
    assert read == []


def test_rights_on_columns_are_enough(read: list[str], large: Database, project: Project) -> None:
    """A TID may only be read by who may read the whole table."""
    role = f"columns_{large.name}"
    large.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'few'")
    large.execute(f"GRANT DELETE ON large, small TO {role}")
    large.execute(f"GRANT SELECT (id, text) ON large TO {role}")
    large.execute(f"GRANT SELECT (id) ON small TO {role}")
    try:
        made = dumped(settings_of(project, large, environ=environ_of(large, role)))
    finally:
        large.execute(f"DROP OWNED BY {role}")
        large.execute(f"DROP ROLE {role}")

    assert made.manifest.rows == 60_010
    assert read == []


@pytest.mark.parametrize("before", ["pg_dump's locks", "ours"])
def test_index_that_is_built_anew_is_waited_for_by_pg_dump_alone(
    before: str, large: Database, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To plan a statement the server locks all indexes of a table; that is done before the first row is read."""
    report, reindexed, begin = Said(), threading.Event(), begin_slices

    def late(*arguments: Any) -> Any:
        found = begin(*arguments)
        with large.connect() as other:
            other.execute("SET lock_timeout = '100ms'")
            with pytest.raises(LockNotAvailable):
                other.execute("REINDEX INDEX large_pkey")
        reindexed.set()
        return found

    if before == "ours":
        patch_everywhere(monkeypatch, begin, late)
        made = dumped(settings_of(project, large), report=report)
        assert reindexed.is_set()
        assert report.details == []
    else:
        with ThreadPoolExecutor(1) as pool, blocking(large, "REINDEX INDEX large_pkey") as other:
            running = pool.submit(dumped, settings_of(project, large), report=report)
            eventually(lambda: bool(report.details), "the second beginning")
            other.commit()
            made = running.result(timeout=30)

    assert made.manifest.rows == 60_010


@pytest.mark.usefixtures("everywhere")
def test_rows_stand_before_the_end_where_nothing_follows(
    read: list[str], new_database: Databases, project: Project
) -> None:
    """Neither index nor sequence: the last line of a dump is the next thing behind its rows."""
    database = new_database()
    database.execute("CREATE TABLE small (id int)")
    database.execute("CREATE TABLE zzz AS SELECT generate_series(1, 3000) AS id")
    report = Said()

    made = dumped(settings_of(project, database), report=report)

    assert plain(content_of(made.path)) == plain(database.dump_text(*PG_DUMP_OPTIONS))
    assert (read, report.details) == (['"public"."zzz"'], [])


def test_pooled_url_is_left_to_pg_dump(read: list[str], large: Database, project: Project) -> None:
    """A pooler makes no promise about several sessions."""
    environ = {"DATABASE_URL": f"{large.url}?pgbouncer=true", "PATH": os.defpath}

    made = dumped(settings_of(project, large, environ=environ))

    assert made.manifest.rows == 60_010
    assert read == []


@pytest.mark.parametrize(("number", "local", "parallel"), [(2, True, False), (2, False, True), (3, True, True)])
def test_two_processors_that_the_server_shares_are_left_to_pg_dump(
    number: int,
    local: bool,
    parallel: bool,
    read: list[str],
    processors: Callable[[int], None],
    large: Database,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There parallel reading is slower; it is of use with more processors, or with a server on another machine."""
    processors(number)
    monkeypatch.setattr("tasks.dump.dump.is_this_machine", lambda _: local)

    made = dumped(settings_of(project, large))

    assert made.manifest.rows == 60_010
    assert bool(read) is parallel


@pytest.mark.usefixtures("everywhere")
def test_text_without_a_place_is_made_again(large: Database, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should pg_dump write no rows after all, it does so for all tables in a second run."""
    monkeypatch.setattr(table_slices, "MOST", 2)
    monkeypatch.setattr("tasks.dump.stream.splice_rows", lambda events, _: events)
    report = Said()

    made = dumped(settings_of(project, large), report=report)

    assert made.manifest.rows == 60_010
    assert len(report.details) == 1


# What goes wrong meanwhile


@pytest.mark.parametrize("end", ["pg_terminate_backend", "pg_cancel_backend"])
def test_dump_fails_when_a_session_ends(
    end: str, large: Database, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No dump, a sentence, and no other session left."""
    monkeypatch.setattr(TableSlices, "statements", lambda _: iter([b"COPY (SELECT pg_sleep(60)) TO STDOUT"]))
    reading = f"SELECT {end}(pid) FROM pg_stat_activity WHERE datname = '{large.name}' AND query LIKE '%pg_sleep(60%'"
    others = Database(large.server, "postgres")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(eventually, lambda: bool(others.execute(reading)), "the reading")
        with pytest.raises(TaskError):
            dumped(settings_of(project, large))

    nothing_is_left(project, large)


def test_table_that_was_rewritten_is_not_read(large: Database) -> None:
    """In the snapshot it would show no rows."""
    with connected(sanitize(large.url)) as connection, exported_snapshot(connection) as snapshot:
        chosen = choose_slices(connection, server_facts(connection), read_tables(connection))
        large.execute("TRUNCATE large")
        with connected(sanitize(large.url)) as other, pytest.raises(TableChangedError, match=r"public\.large"):
            begin_slices(other, snapshot, chosen)


def test_damaged_page_is_a_sentence(large: Database, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server can't read it says, and so do we."""
    monkeypatch.setattr(TableSlices, "statements", lambda _: iter([b"COPY (SELECT 1 / 0) TO STDOUT"]))

    with pytest.raises(OperationFailedError):
        dumped(settings_of(project, large))

    nothing_is_left(project, large)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_when_a_signal_comes_while_rows_are_read(
    signum: signal.Signals, million: Database, project: Project
) -> None:
    """Sessions, threads and the half file go."""
    database = million
    process = project.use(database).popen("db.dump", "--gzip", env=FOUR_PROCESSORS)
    reading = (
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database.name}' AND query LIKE 'COPY (SELECT%' "
        "AND state = 'active'"
    )
    eventually(lambda: Database(database.server, "postgres").scalar(reading) > 0, "the reading")
    began = time.monotonic()
    process.send_signal(signum)
    _, said = process.communicate(timeout=30)

    assert process.returncode == 128 + signum
    assert "No dump was written. The database was only read." in said
    assert time.monotonic() - began < 10
    nothing_is_left(project, database)


# Pure


class _Found:
    """Stands for tables that were read."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)

    def events(self, before: tuple[str, str] | None = None) -> Iterator[Event]:
        """Give the tables before a name."""
        while self.names and (before is None or ("s", self.names[0]) < before):
            yield Comment(f"-- {self.names.pop(0)}\n".encode())


def test_rows_find_their_place() -> None:
    """Between the tables by name, behind the last one, in front of the comment that announces what comes."""
    text = b"""CREATE TABLE s.c ();
-- Data c

COPY s.c (a) FROM stdin;
1
\\.


-- Data e

COPY s.e (a) FROM stdin;
\\.


-- Index

CREATE INDEX i ON s.c (a);
"""
    found = _Found("a", "b", "d", "x")
    out = b"".join(event.text for event in splice_rows(lex([text]), found))  # type: ignore[arg-type]

    without = re.sub(rb"-- [abdx]\n", b"", out)
    assert without == text
    lines = [line for line in out.splitlines() if line.startswith((b"--", b"COPY", b"CREATE"))]
    assert [line.decode() for line in lines] == [
        "CREATE TABLE s.c ();", "-- a", "-- b", "-- Data c", "COPY s.c (a) FROM stdin;", "-- d", "-- Data e",
        "COPY s.e (a) FROM stdin;", "-- x", "-- Index", "CREATE INDEX i ON s.c (a);",
    ]  # fmt: skip


def test_rows_are_handed_on_in_whole_pieces(database: Database) -> None:
    """A COPY … TO STDOUT gives its rows, then the next statement runs; a refused one is an error, early or late."""
    with connected(sanitize(database.url)) as connection:
        wire = StatementStream(connection)
        pieces = list(wire.rows(b"COPY (SELECT repeat('x', 999) FROM generate_series(1, 5000)) TO STDOUT"))
        assert b"".join(piece for piece, _ in pieces) == (b"x" * 999 + b"\n") * 5000
        assert all(piece.endswith(b"\n") and len(piece) < 1_400_000 for piece, _ in pieces)
        assert [rows for _, rows in pieces] == [piece.count(b"\n") for piece, _ in pieces]
        assert list(wire.rows(b"COPY (SELECT 1 WHERE false) TO STDOUT")) == []
        large = list(wire.rows(b"COPY (SELECT repeat('x', 9000000) FROM generate_series(1, 2)) TO STDOUT"))
        assert b"".join(piece for piece, _ in large) == (b"x" * 9_000_000 + b"\n") * 2
        assert max(len(piece) for piece, _ in large) <= 2 * PIECE
        assert sum(rows for _, rows in large) == 2
        for refused in (b"SELECT x FROM nowhere", b"SELECT 1 / (3000 - i) FROM generate_series(1, 5000) i"):
            with pytest.raises(StatementError):
                list(wire.rows(b"COPY (%s) TO STDOUT" % refused))
        assert wire.ask(b"SELECT 1") == [[b"1"]]


def test_connection_that_ends_without_a_word_is_noticed(database: Database) -> None:
    """A server that is told to end while it waits for us to read says nothing more: neither an error nor an end."""
    with connected(sanitize(database.url)) as connection:
        rows = StatementStream(connection).rows(
            b"COPY (SELECT repeat('x', 999) FROM generate_series(1, 200000)) TO STDOUT"
        )
        next(rows)
        database.execute(f"SELECT pg_terminate_backend({connection.info.backend_pid}, 10000)")
        rest = BackgroundTask(lambda: list(rows))
        rest.start()
        rest.join(20)

        assert not rest.is_alive()
        with pytest.raises(LostError):
            rest.result()


class ReaderFailedError(Exception):
    """What really happened to a reader."""


def test_reader_that_fails_far_ahead_is_ended_in_peace(
    large: Database, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error waits behind rows that nobody has read; what ends the dump is what the person sees."""

    def fail(found: ParallelReader) -> None:
        begin(found)
        time.sleep(1.3)
        raise ReaderFailedError

    begin = ParallelReader.begin
    # Two pieces of a megabyte and the rest of the rows fill what may be read ahead; the error finds no place in it.
    pages = b"COPY (SELECT repeat('x', 1000), 1 / (2600 - i) FROM generate_series(1, 20000) i) TO STDOUT"
    monkeypatch.setattr(TableSlices, "statements", lambda _: iter([pages, pages]))
    monkeypatch.setattr("tasks.dump.parallel._AHEAD", 3)
    monkeypatch.setattr(ParallelReader, "begin", fail)

    with pytest.raises(ReaderFailedError):
        dumped(settings_of(project, large))

    nothing_is_left(project, large)
