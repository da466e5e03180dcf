"""Statements on their way: their order, their errors and their limits, on a real server."""

import contextlib
from collections.abc import Iterator

import psycopg
import pytest

from tasks.config.target import sanitize
from tasks.errors import TaskError
from tasks.postgres.connection import connected
from tasks.postgres.protocol import WINDOW, WINDOW_BYTES, LostError, StatementError, StatementStream
from tasks.restore.restore import analyze_tables
from tests.support import Database

# In a transaction several go out at once.
BEGUN = pytest.mark.parametrize("begin", [b"", b"BEGIN"], ids=["each-by-itself", "in-a-transaction"])


@contextlib.contextmanager
def opened(database: Database) -> Iterator[StatementStream]:
    """Open a session of ours."""
    with connected(sanitize(database.url)) as connection:
        connection.execute("SET search_path = public")
        yield StatementStream(connection)


@BEGUN
def test_queued_statements_run_in_order_and_give_their_tags_in_order(database: Database, begin: bytes) -> None:
    """However many are on their way, each runs behind the one before it, and tells what it did."""
    tags: list[str] = []

    with opened(database) as stream:
        stream.run(begin)
        stream.queue(b"CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE t", tags.append)
        for count in range(1, 3 * WINDOW):
            statement = b"INSERT INTO t SELECT (SELECT coalesce(max(id), 0) FROM t) + i FROM generate_series(1, %d) i"
            stream.queue(statement % count, f"INSERT {count}", tags.append)
        rows = stream.ask(b"SELECT count(*) FROM t")

    assert tags == ["CREATE TABLE", *(f"INSERT 0 {count}" for count in range(1, 3 * WINDOW))]
    assert rows == [[str(sum(range(1, 3 * WINDOW))).encode()]]


def test_an_error_names_its_statement_and_nothing_behind_it_is_done(database: Database) -> None:
    """In a transaction, what came behind a refused statement was refused, too, and its tags are never given."""
    tags: list[str] = []

    with opened(database) as stream:
        stream.run(b"CREATE TABLE t (id int)")
        stream.run(b"BEGIN")
        for _ in range(20):
            stream.queue(b"INSERT INTO t VALUES (1)", "one of the first", tags.append)
        stream.queue(b"INSERT INTO t VALUES ('x')", "the wrong one", tags.append)
        stream.queue(b"INSERT INTO t VALUES (2)", "the one behind", tags.append)
        with pytest.raises(StatementError) as caught:
            stream.drain()

    assert (caught.value.doing, caught.value.sqlstate) == ("the wrong one", "22P02")
    assert tags == ["INSERT 0 1"] * 20
    assert database.scalar("SELECT count(*) FROM t") == 0


def test_an_error_is_one_line(database: Database) -> None:
    """The server's details may have several lines, as those of a deadlock have."""
    statement = b"DO $$ BEGIN RAISE EXCEPTION 'one' USING DETAIL = E'two.\\nthree.'; END $$"

    with opened(database) as stream, pytest.raises(StatementError) as caught:
        stream.run(statement)

    assert str(caught.value) == "one. two. three"


def test_a_long_error_is_cut(database: Database) -> None:
    """A dump may make the server say megabytes; what is shown stays readable."""
    statement = (
        b"DO $$ BEGIN RAISE EXCEPTION USING MESSAGE = repeat('m', 5000000), DETAIL = repeat('d', 5000000); END $$"
    )

    with opened(database) as stream, pytest.raises(StatementError) as caught:
        stream.run(statement)

    assert str(caught.value) == f"{'m' * 1000}…. {'d' * 1000}…"


@BEGUN
def test_rows_are_dropped_and_what_follows_is_in_order(database: Database, begin: bytes) -> None:
    """Queries among queued statements, an error behind rows, and what is asked for, keep their places."""
    tags: list[str] = []

    with opened(database) as stream:
        stream.run(begin)
        for count in range(WINDOW + 3):
            stream.queue(b"SELECT i FROM generate_series(1, %d) i" % count, "SELECT", tags.append)
            stream.queue(b"SET work_mem = '1MB'", "SET", tags.append)
        tag = stream.run(b"SELECT i FROM generate_series(1, 3) i")
        rows = stream.ask(b"SELECT i FROM generate_series(1, 3) i")
        stream.queue(b"SELECT 1 / (3 - i) FROM generate_series(1, 5) i", "the wrong one")
        with pytest.raises(StatementError) as caught:
            stream.drain()

    assert tags == [each for count in range(WINDOW + 3) for each in (f"SELECT {count}", "SET")]
    assert (tag, rows) == ("SELECT 3", [[b"1"], [b"2"], [b"3"]])
    assert caught.value.doing == "the wrong one"


@BEGUN
def test_what_is_asked_or_copied_waits_for_what_is_queued(database: Database, begin: bytes) -> None:
    """A COPY and a query behind queued statements see what these did, and go on as ever."""
    with opened(database) as stream:
        stream.run(begin)
        stream.queue(b"CREATE TABLE t (id int)", "CREATE TABLE t")
        stream.copy(b"COPY t FROM stdin")
        stream.data(b"1\n2\n")
        taken = stream.end_of_data()
        stream.queue(b"INSERT INTO t VALUES (3)", "INSERT t")
        found = stream.ask(b"SELECT sum(id) FROM t")

    assert taken == 2
    assert found == [[b"6"]]


@BEGUN
def test_statements_larger_than_the_window_pass(database: Database, begin: bytes) -> None:
    """Neither side waits for the other for ever where a statement, and its answer, fill every buffer between them."""
    with opened(database) as stream:
        stream.run(begin)
        for _ in range(4):
            stream.queue(b"DO $$ BEGIN RAISE WARNING '%', repeat('x', 200000); END $$", "DO")
            stream.queue(b"SELECT '%s'" % (b"y" * WINDOW_BYTES), "SELECT")
        stream.drain()
        assert stream.ask(b"SELECT 1") == [[b"1"]]


@BEGUN
def test_a_lost_connection_is_told_whatever_is_on_its_way(database: Database, begin: bytes) -> None:
    """A backend that is ended in the middle is a lost connection, not a hang."""
    with opened(database) as stream:
        stream.run(begin)
        (row,) = stream.ask(b"SELECT pg_backend_pid()")
        stream.queue(b"SELECT pg_sleep(0.2)", "SELECT")
        stream.queue(b"SELECT pg_terminate_backend(%s)" % (row[0] or b""), "SELECT")
        stream.queue(b"SELECT 1", "SELECT")
        with pytest.raises(LostError):
            stream.drain()


def test_a_statement_that_asks_for_rows_of_copy_is_refused(database: Database) -> None:
    """A COPY that was queued as something else never feeds what follows to the server as rows."""
    database.execute("CREATE TABLE t (a text)")

    with opened(database) as stream:
        stream.run(b"BEGIN")
        with pytest.raises((TaskError, psycopg.Error)):  # noqa: PT012 - either may notice it
            stream.queue(b"COPY t FROM stdin", "COPY")
            stream.queue(b"INSERT INTO t VALUES ('later')", "INSERT")
            stream.drain()

    assert database.scalar("SELECT count(*) FROM t") == 0


def test_analyze_in_two_sessions_reaches_every_table(database: Database) -> None:
    """Each table gets its statistics once, whichever session's share it falls to."""
    database.execute("".join(f"CREATE TABLE t{at} AS SELECT generate_series(1, {at + 1}) id; " for at in range(150)))
    url = sanitize(database.url)

    with connected(url) as one, connected(url) as other:
        analyze_tables([one, other], {("public", f"t{at}"): at + 1 for at in range(150)})

    counted = "SELECT count(*) FROM pg_class WHERE relname ~ '^t[0-9]+$' AND reltuples > 0"
    assert database.scalar(counted) == 150
