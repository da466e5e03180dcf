"""psql as a judge of the lexer: what psql sends as one query is one statement, and nothing else is.

psql runs against a server of ours that understands nothing: it writes down each query and all COPY data, and
says that it was done. So psql's own splitting is seen exactly, query by query, of any text whatever, and on
`--echo-queries` too. PostgreSQL itself judges as well: it takes one statement at a time, and what came of
them must dump as the original does.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from psycopg import pq

from tasks.dumpformat.lexer import CopyData, CopyEnd, Event, MetaCommand, Statement, lex
from tests.dump_texts import DUMP, ONE_STATEMENT, STRINGS, dumps, joined
from tests.everything import BEYOND_PSQL
from tests.psql_judge import Query, _flat, asked_by_psql, bared, by_the_lexer
from tests.servers import OWNER, Server
from tests.support import Database, Databases


def disagreement(text: bytes, bin_dir: Path, split: Callable[[bytes], list[Query]]) -> str:
    """Say where psql and a splitter differ first; nothing where they agree."""
    theirs, echoed = asked_by_psql(text, bin_dir)
    ours, theirs = bared(split(text)), bared(theirs)
    for number, (our, their) in enumerate(zip(ours, theirs, strict=False)):
        if our != their:
            return f"query {number}: {our!r}, but psql has {their!r}"
    if len(ours) != len(theirs):
        return f"{len(ours)} queries, but psql has {len(theirs)}"
    printed = b"".join(query + b" " for query, _ in theirs)
    return "" if _flat(echoed) == _flat(printed) else "what psql echoes"


@pytest.mark.all_majors
@pytest.mark.parametrize("options", [(), ("--clean", "--if-exists"), ("--inserts",), ("--verbose",)], ids=str)
def test_psql_splits_the_dump_of_everything_as_we_do(
    server: Server, template_of: Callable[[Server, bool], Database], options: tuple[str, ...]
) -> None:
    """Every query that psql sends for a dump of the everything-database is one statement of ours, rows too."""
    text = template_of(server, True).dump_text(*options)

    assert disagreement(text, server.bin_dir, by_the_lexer) == ""
    assert joined(lex([text])) == text


def test_psql_splits_an_owners_dump_as_we_do(server: Server, template_of: Callable[[Server, bool], Database]) -> None:
    """The same for what a plain owner dumps, in the schemas that they choose."""
    text = template_of(server, False).dump_text("--create", "--column-inserts", "--rows-per-insert=7", role=OWNER)
    text = text.replace(b"\\connect", b"-- connect")

    assert disagreement(text, server.bin_dir, by_the_lexer) == ""


# Where psql and the server differ: psql waits for one more END behind a name `begin`, and forgets at a line's
# end that an E string may go on in the next. And psql reads lines as C strings, without NUL.
_OTHERWISE = ("begin as", "E string goes on", "NUL")
FOR_PSQL: Final[Mapping[str, bytes]] = {
    name: text for name, text in ONE_STATEMENT.items() if not name.startswith(_OTHERWISE)
}


@pytest.mark.all_majors
def test_psql_splits_every_construct_as_we_do(server: Server) -> None:
    """The table of constructs holds what psql holds; one text of them all, so that no split hides."""
    text = b"\n".join(part for each in FOR_PSQL.values() for part in (each, b"SELECT 'next';")) + b"\n"
    text = re.sub(rb"--(?!~)(?=[^\n\r]*[\n\r])", b"--~", text)

    assert len(FOR_PSQL) > 60
    assert disagreement(text, server.bin_dir, by_the_lexer) == ""


@pytest.mark.parametrize("text", [DUMP, *(text for text, _ in STRINGS.values())], ids=["dump", *STRINGS])
def test_psql_splits_small_dumps_as_we_do(server: Server, text: bytes) -> None:
    """So it does a dump with a function's body, a rule and rows, and strings in which backslashes escape."""
    assert disagreement(text, server.bin_dir, by_the_lexer) == ""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=dumps)
def test_psql_splits_any_dump_as_we_do(server: Server, events: list[Event]) -> None:
    """Dumps that hypothesis puts together out of odd pieces, but for what psql itself gets wrong."""
    # psql takes a column called `begin` in a function's body for the beginning of another block.
    for event in events:
        words = re.findall(rb"\bbegin\b(?:\s+atomic\b)?", event.text.lower())
        assume(not event.text.lower().startswith(b"create") or all(word.endswith(b"atomic") for word in words))

    assert disagreement(joined(events), server.bin_dir, by_the_lexer) == ""


def by_lines(text: bytes) -> list[Query]:
    """Split wrongly: where a line ends in a semicolon."""
    return [(line + b";", b"") for line in text.split(b";\n")[:-1]]


def deaf(pattern: bytes) -> Callable[[bytes], list[Query]]:
    """Return a lexer that does not see what the pattern matches: it is masked before, and put back behind."""

    def split(text: bytes) -> list[Query]:
        masked = re.sub(pattern, lambda found: b"_" * len(found[0]), text)
        at, queries = 0, []
        for event in lex([masked]):
            begin, at = at, at + len(event.text)
            if isinstance(event, Statement):
                queries.append((text[begin:at], b""))
            elif isinstance(event, CopyData):
                queries[-1] = queries[-1][0], text[begin:at]
        return queries

    return split


def without_data(text: bytes) -> list[Query]:
    """Split rightly, but lose the last row of each table."""
    return [(query, data[:-1].rpartition(b"\n")[0]) for query, data in by_the_lexer(text)]


def one_too_few(text: bytes) -> list[Query]:
    """Split rightly, but lose the last statement."""
    return by_the_lexer(text)[:-1]


WRONG: Final[Mapping[str, Callable[[bytes], list[Query]]]] = {
    "lines": by_lines,
    "BEGIN ATOMIC": deaf(rb"ATOMIC"),
    "CASE": deaf(rb"\bCASE\b"),
    "parentheses": deaf(rb"(?<=DO )\("),
    "rows lost": without_data,
    "statement lost": one_too_few,
}


@pytest.mark.parametrize("split", WRONG.values(), ids=WRONG.keys())
def test_the_judge_notices_when_a_splitter_is_wrong(server: Server, split: Callable[[bytes], list[Query]]) -> None:
    """A splitter that lacks one rule, or loses something, is found out by a dump that holds it."""
    assert disagreement(DUMP, server.bin_dir, by_the_lexer) == ""
    assert disagreement(DUMP, server.bin_dir, split) != ""


def replay(text: bytes, database: Database) -> None:
    """Load a dump as a restore does: by the extended protocol, one statement at a time."""
    with database.connect() as connection:
        server = connection.pgconn
        for event in lex([text]):
            if isinstance(event, Statement):
                result = server.exec_params(event.text, [])
                expected = {pq.ExecStatus.COPY_IN} if event.copies else _DONE
                assert result.status in expected, (event.text[:300], result.error_message)
            elif isinstance(event, CopyData):
                server.put_copy_data(event.text)
            elif isinstance(event, CopyEnd):
                server.put_copy_end()
                while done := server.get_result():
                    assert done.status == pq.ExecStatus.COMMAND_OK, done.error_message
            else:
                assert not isinstance(event, MetaCommand)


_DONE: Final = {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}


@pytest.mark.all_majors
def test_postgresql_takes_each_statement_as_one(
    server: Server, template_of: Callable[[Server, bool], Database], new_database: Databases
) -> None:
    """The server refuses text that holds two statements or half of one; the copy dumps as the original."""
    text = template_of(server, True).dump_text()
    copy = new_database()

    replay(text, copy)

    assert copy.dump_text() == text


@pytest.mark.all_majors
def test_a_dump_that_psql_splits_wrongly_is_split_rightly(database: Database, new_database: Databases) -> None:
    """A column named `begin` in a function's body, which psql takes for a block, begins none."""
    database.execute(BEYOND_PSQL)
    text = database.dump_text()
    copy = new_database()

    replay(text, copy)

    assert copy.dump_text() == text
    assert disagreement(text, database.server.bin_dir, by_the_lexer) != ""


@pytest.mark.all_majors
def test_objects_named_begin_are_split_rightly(database: Database, new_database: Databases) -> None:
    """Functions, types and schemas named `begin` and `atomic` are written without quotes."""
    database.execute(
        """
        CREATE SCHEMA begin;
        CREATE TYPE begin.atomic AS (begin integer, "end" integer);
        CREATE FUNCTION begin.begin(begin integer) RETURNS begin.atomic LANGUAGE sql AS 'SELECT 1, 2; ';
        CREATE FUNCTION begin.atomic() RETURNS begin.atomic BEGIN ATOMIC SELECT 1; SELECT 1, 2; END;
        CREATE PROCEDURE begin.procedure(INOUT begin integer) BEGIN ATOMIC SELECT begin; SELECT CASE begin
            WHEN 1 THEN 2 END; END;
        CREATE TABLE begin.begin (begin begin.atomic);
        """
    )
    text = database.dump_text()
    copy = new_database()

    replay(text, copy)

    assert copy.dump_text() == text


# Each example starts pg_dump, so there are few examples of many rows.
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.text("\\.\n\r\t;'-/*é\u2028\x01", max_size=8), max_size=40))
@example(rows=[])
def test_values_that_look_like_an_end_come_back(database: Database, rows: list[str]) -> None:
    """Whatever stands in a value, pg_dump's rows of it are the rows that we see, and load again."""
    with database.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (v text)")
        connection.cursor().executemany("INSERT INTO t VALUES (%s)", [[row] for row in rows])
    text = database.dump_text("--clean")

    data = b"".join(event.text for event in lex([text]) if isinstance(event, CopyData))
    replay(text, database)

    assert data.count(b"\n") == len(rows)
    assert database.execute("SELECT v FROM t") == [(row,) for row in rows]
