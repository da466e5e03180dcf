r"""The lexer: where psql splits, it splits; what goes in comes out, however the input is cut.

Three kinds of proof: tables of every construct, each cut at every byte; dumps that hypothesis puts together
from pieces whose splits are known; and inputs that end too early.
"""

import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dumpformat.foreign_head import LexError
from tasks.dumpformat.lexer import (
    COMMENT_LIMIT,
    Comment,
    CopyData,
    CopyEnd,
    CutError,
    Event,
    MetaCommand,
    Statement,
    Trivia,
    lex,
)
from tests.dump_texts import DUMP, ONE_STATEMENT, STRINGS, _free, cut, dumps, joined, merged

NEXT = b"SELECT 'next';"


def told(chunks: Iterable[bytes]) -> list[Event]:
    """Lex, and leave out what stands between the events that matter."""
    return [event for event in merged(lex(chunks)) if not isinstance(event, Trivia)]


def statements(text: bytes) -> list[bytes]:
    """Return the statements of a text."""
    return [event.text for event in lex([text]) if isinstance(event, Statement)]


@pytest.mark.parametrize("statement", ONE_STATEMENT.values(), ids=ONE_STATEMENT.keys())
def test_a_statement_ends_at_its_own_semicolon(statement: bytes) -> None:
    """Nothing inside it ends it, and nothing behind it belongs to it; wherever the input is cut."""
    text = statement + b"\n" + NEXT + b"\n"
    expected: list[Event] = [Statement(statement), Statement(NEXT)]

    assert told([text]) == expected
    assert told(text[i : i + 1] for i in range(len(text))) == expected
    for place in range(len(text)):
        assert told(cut(text, [place])) == expected, place


@pytest.mark.parametrize("statement", ONE_STATEMENT.values(), ids=ONE_STATEMENT.keys())
def test_statements_need_nothing_between_them(statement: bytes) -> None:
    """Two statements without a blank between them are two all the same."""
    assert statements(statement + NEXT + statement) == [statement, NEXT, statement]


def copied(table: bytes, rows: bytes, *, columns: bytes = b" (a)") -> tuple[bytes, list[Event]]:
    """Write the data of a table as pg_dump does, and what is to be told of it."""
    statement = b"COPY " + table + columns + b" FROM stdin;"
    data: list[Event] = [CopyData(rows)] if rows else []
    text = statement + b"\n" + rows + b"\\.\n"
    return text, [Statement(statement, table), *data, CopyEnd()]


ROWS: dict[str, tuple[bytes, list[Event]]] = {
    "a row": copied(b"public.t", b"1\n"),
    "no row": copied(b"public.t", b""),
    "no column, no row": copied(b"public.t", b"", columns=b" "),
    "no column, rows": copied(b"public.t", b"\n\n\n", columns=b" "),
    "an empty row": copied(b"public.t", b"\n"),
    "no schema": copied(b"t", b"1\n"),
    "no columns written": copied(b"t", b"1\n", columns=b""),
    "columns": copied(b"public.t", b"1\n", columns=b' (a, "b;", "c)", "d""e", "\n", _f$1, \xc3\xa9)'),
    "quoted table": copied(b'"S.x"."T"', b"1\n"),
    "quotes, dots, blanks in the table": copied(b'"a ""s"".x"."a ""t"".y z"', b"1\n"),
    "lines in the table": copied(b'public."COPY public.t FROM stdin;\n1\n\\.\nCOMMIT;"', b"1\n"),
    "lower case": (
        b"copy t from stdin ;\n1\n\\.\n",
        [Statement(b"copy t from stdin ;", b"t"), CopyData(b"1\n"), CopyEnd()],
    ),
    "rows that look like SQL": copied(
        b"t", b"COMMIT;\nCOPY public.t FROM stdin;\n-- x\n/*\n'\n\"\n$$\n(\n\\restrict x\n\\connect y\n"
    ),
    "rows that look like the trailer": copied(b"t", b"--\n-- PostgreSQL database dump complete\n--\n"),
    "rows that look like an end": copied(b"t", b"\\.x\n \\.\n\\\\.\nx\\.\n\\. \n..\n\\N\t\\N\n.\n\\\n"),
    "two ends": copied(b"t", b"x\\.\\.\n"),
    "carriage returns": copied(b"t", b"a\rb\r\n\\.\rx\n\r\n"),
    "any byte but zero": copied(b"t", bytes(each for each in range(1, 256) if each != 10) + b"\n"),
    "Windows line ends": (
        b"COPY t (a) FROM stdin;\r\n1\r\n\\.\r\n",
        [Statement(b"COPY t (a) FROM stdin;", b"t"), CopyData(b"1\r\n"), CopyEnd(b"\\.\r\n")],
    ),
    "Windows line ends, no row": (
        b"COPY t (a) FROM stdin;\r\n\\.\r\n",
        [Statement(b"COPY t (a) FROM stdin;", b"t"), CopyEnd(b"\\.\r\n")],
    ),
    "blanks behind COPY": (
        b"COPY t FROM stdin; \t\n1\n\\.\n",
        [Statement(b"COPY t FROM stdin;", b"t"), CopyData(b"1\n"), CopyEnd()],
    ),
}


@pytest.mark.parametrize(("text", "expected"), ROWS.values(), ids=ROWS.keys())
def test_rows_end_at_the_line_of_their_end(text: bytes, expected: list[Event]) -> None:
    """Rows are what stands between COPY and the end of data, and SQL goes on behind; wherever it is cut."""
    whole = text + NEXT
    expected = [*expected, Statement(NEXT)]

    assert told([whole]) == expected
    assert told(whole[i : i + 1] for i in range(len(whole))) == expected
    for place in range(len(whole)):
        assert told(cut(whole, [place])) == expected, place


BETWEEN: dict[str, tuple[bytes, list[Event]]] = {
    "nothing": (b"", []),
    "blanks": (b" \t\r\n\f\v\n", []),
    "comment": (b"-- a; comment\n", [Comment(b"-- a; comment\n")]),
    "comment, shortest": (b"--\n--", [Comment(b"--\n"), Comment(b"--")]),
    "comment without an end": (b"-- x", [Comment(b"-- x")]),
    "comment of the trailer": (
        b"\n--\n-- PostgreSQL database dump complete\n--\n\n",
        [Comment(b"--\n"), Comment(b"-- PostgreSQL database dump complete\n"), Comment(b"--\n")],
    ),
    "comment ends with a carriage return": (b"-- a\r;\r", [Comment(b"-- a\r"), Statement(b";")]),
    "comment with Windows line ends": (b"-- a\r\n;", [Comment(b"-- a\r"), Statement(b";")]),
    "comment that a name breaks": (b"-- Name: two\nCOMMIT;", [Comment(b"-- Name: two\n"), Statement(b"COMMIT;")]),
    "block comment": (b"/* ; \n-- x\n*/;", [Statement(b";")]),
    "nested block comment": (b"/*/**/;*/;/***/", [Statement(b";")]),
    "line comment in a block comment": (b"/* -- */ ;", [Statement(b";")]),
    "block comment in a line comment": (b"-- /*\n;", [Comment(b"-- /*\n"), Statement(b";")]),
    "restrict": (b"\\restrict aB9\n", [MetaCommand(b"\\restrict aB9\n")]),
    "command without an end": (b"\\unrestrict k", [MetaCommand(b"\\unrestrict k")]),
    "command with quotes": (b"\\connect 'a;\n;", [MetaCommand(b"\\connect 'a;\n"), Statement(b";")]),
    "command behind a statement": (b"; \\echo ;\n;", [Statement(b";"), MetaCommand(b"\\echo ;\n"), Statement(b";")]),
    "end of data without data": (b"\\.\n;", [MetaCommand(b"\\.\n"), Statement(b";")]),
    "end of data twice": (
        b"COPY t FROM stdin;\n\\.\n\\.\n",
        [Statement(b"COPY t FROM stdin;", b"t"), CopyEnd(), MetaCommand(b"\\.\n")],
    ),
    "statement before anything": (b"SELECT 1;", [Statement(b"SELECT 1;")]),
}


@pytest.mark.parametrize(("text", "expected"), BETWEEN.values(), ids=BETWEEN.keys())
def test_what_stands_between_statements_is_told_apart(text: bytes, expected: list[Event]) -> None:
    """Comments and backslash commands between statements are events of their own; wherever it is cut."""
    assert told([text]) == expected
    assert told(text[i : i + 1] for i in range(len(text))) == expected
    for place in range(len(text)):
        assert told(cut(text, [place])) == expected, place


REFUSED: dict[str, bytes] = {
    "command inside a statement": b"SELECT 1 \\g\n",
    "escaped semicolon": b"SELECT 1\\; SELECT 2;",
    "COPY in CSV": b"COPY t FROM stdin WITH (FORMAT csv);\n1\n\\.\n",
    "COPY of chosen rows": b"COPY t FROM stdin WHERE a > 1;\n1\n\\.\n",
    "COPY with old options": b"COPY t FROM stdin DELIMITER ',';\n1\n\\.\n",
    "COPY of a table in Unicode escapes, in CSV": b'COPY U&"t" FROM stdin CSV;\n1\n\\.\n',
    "endless COPY line": b"COPY t FROM stdin;" + b" " * (COMMENT_LIMIT + 2) + b"\n\\.\n",
    "endless command": b"\\restrict " + b"x" * COMMENT_LIMIT + b"\n",
    "zero in a statement": b"SELECT '\0';",
    "zero in rows": b"COPY t FROM stdin;\n1\0\n\\.\n",
    "zeros": b"\0" * 10_000,
    "endless word": b"SELECT " + b"x" * (1 << 21) + b";",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_what_pg_dump_does_not_write_is_refused(text: bytes) -> None:
    """What can't be split, or not for sure, is an error that repeats nothing of the text."""
    with pytest.raises(LexError) as caught:
        list(lex(cut(text, range(0, len(text), 4096))))

    assert not isinstance(caught.value, CutError)
    assert not any(part in str(caught.value) for part in ("SELECT", "csv", "xxx"))


CUT: dict[str, bytes] = {
    "statement": b"SELECT 1",
    "quoted text": b"SELECT ';",
    "quoted name": b'SELECT ";',
    "E string": b"SELECT E'\\';",
    "E string behind a backslash": b"SELECT E'\\",
    "dollar quote": b"SELECT $a$;$a;",
    "parenthesis": b"SELECT (1;",
    "function's body": b"CREATE FUNCTION f() BEGIN ATOMIC SELECT 1;",
    "line comment in a statement": b"SELECT 1 --;",
    "block comment": b"/* /* */ ;",
    "block comment in a statement": b"SELECT 1 /* ;",
    "COPY line": b"COPY t FROM stdin;",
    "rows": b"COPY t FROM stdin;\n1\n",
    "end of data": b"COPY t FROM stdin;\n1\n\\.",
    "end of data, no rows": b"COPY t FROM stdin;\n\\.",
    "row": b"COPY t FROM stdin;\n1",
    "rows behind a row like an end": b"COPY t FROM stdin;\n\\.x\n",
    "SQL in the line of COPY": b"COPY t FROM stdin; SELECT 1;\n\\.\n",
    "minus": b"-",
    "slash": b"/",
}


@pytest.mark.parametrize("text", CUT.values(), ids=CUT.keys())
def test_an_input_that_ends_inside_something_is_cut(text: bytes) -> None:
    """The end of the input never ends a statement, a comment or rows."""
    with pytest.raises(CutError):
        list(lex([text]))
    with pytest.raises(CutError):
        list(lex(text[i : i + 1] for i in range(len(text))))


@pytest.mark.parametrize(("text", "expected"), STRINGS.values(), ids=STRINGS.keys())
def test_backslashes_escape_when_the_dump_says_so(text: bytes, expected: list[bytes]) -> None:
    """Dumps of databases with `standard_conforming_strings = off` set it so, and are split so."""
    assert statements(text) == expected
    for place in range(len(text)):
        assert [event.text for event in told(cut(text, [place]))] == expected, place


def test_the_events_of_a_dump_are_its_bytes_when_it_is_cut_anywhere() -> None:
    """A dump in two pieces, cut at every byte, gives the same events, and they are the dump."""
    expected = merged(lex([DUMP]))

    assert joined(expected) == DUMP
    for place in range(len(DUMP) + 1):
        assert merged(lex(cut(DUMP, [place]))) == expected, place


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 16, 61, 256])
def test_the_events_of_a_dump_are_the_same_when_chunks_are_small(size: int) -> None:
    """Chunks of a few bytes, down to one, change nothing."""
    assert merged(lex(cut(DUMP, range(0, len(DUMP), size)))) == merged(lex([DUMP]))


def without_rows(events: Iterable[Event]) -> list[Event]:
    """Leave out the pieces of COPY data."""
    return [event for event in merged(events) if not isinstance(event, CopyData)]


def test_skipped_rows_are_the_only_difference_when_a_dump_is_cut_anywhere() -> None:
    """Cut at every byte, the events are those of the whole dump without its rows."""
    expected = without_rows(lex([DUMP]))

    assert len(expected) < len(merged(lex([DUMP])))
    for place in range(len(DUMP) + 1):
        assert merged(lex(cut(DUMP, [place]), skips=lambda: True)) == expected, place


@given(places=st.lists(st.integers(0, len(DUMP)), max_size=30))
def test_the_events_of_a_dump_are_the_same_when_it_is_cut_at_random(places: list[int]) -> None:
    """Any cuts, empty pieces among them, change nothing."""
    assert merged(lex(cut(DUMP, places))) == merged(lex([DUMP]))


def test_a_dump_that_ends_early_is_never_split_wrongly() -> None:
    """Cut at every byte: a prefix of the right statements, and an error unless it ends between two of them."""
    whole = [event for event in told([DUMP]) if isinstance(event, Statement)]
    ends = {place for place, _ in boundaries(DUMP)}

    for length in range(len(DUMP)):
        seen: list[Event] = []
        cuts = False
        try:
            seen.extend(lex([DUMP[:length]]))
        except CutError:
            cuts = True
        found = [event for event in seen if isinstance(event, Statement)]
        assert found == whole[: len(found)], length
        assert DUMP.startswith(joined(seen)), length
        assert cuts == (length not in ends), length


def boundaries(text: bytes) -> Iterator[tuple[int, Event]]:
    """Yield every place where an input may end without being cut, by the events of the whole one."""
    at, copying = 0, False
    yield 0, Trivia(b"")
    for event in lex([text]):
        begin, at = at, at + len(event.text)
        if copying and isinstance(event, Trivia):
            continue
        copying = isinstance(event, Statement) and bool(event.copies)
        if isinstance(event, Comment | MetaCommand | Trivia):
            # One minus is no comment yet.
            first = begin + (2 if isinstance(event, Comment) else 1)
            yield from ((place, event) for place in range(first, at + 1))
        elif isinstance(event, CopyEnd | Statement) and not copying:
            yield at, event


def test_long_comments_are_the_same_when_they_are_cut() -> None:
    """Whether a comment is told as one does not depend on the cuts, only on its length."""
    for length in range(COMMENT_LIMIT - 2, COMMENT_LIMIT + 3):
        for tail in (b"", b"\n", b"\n;"):
            text = b"--".ljust(length, b"x") + tail
            expected = merged(lex([text]))

            assert joined(expected) == text
            for size in (1000, COMMENT_LIMIT - 1, COMMENT_LIMIT, COMMENT_LIMIT + 1):
                assert merged(lex(cut(text, range(0, len(text), size)))) == expected, (length, tail, size)


@settings(max_examples=300, deadline=None)
@given(events=dumps, data=st.data())
def test_any_dump_is_split_as_it_was_put_together(events: list[Event], data: st.DataObject) -> None:
    """Whatever the pieces and wherever the cuts, the events are the ones that the dump was made of."""
    text = joined(events)
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=20))

    assert merged(lex([text])) == events
    assert merged(lex(cut(text, places))) == events
    assert merged(lex(text[i : i + 1] for i in range(len(text)))) == events
    assert merged(lex(cut(text, places), skips=lambda: True)) == without_rows(events)


@settings(max_examples=300, deadline=None)
@given(text=st.lists(_free, max_size=12).map(b"".join), places=st.lists(st.integers(0, 150), max_size=12))
def test_any_bytes_pass_unchanged_when_they_pass(text: bytes, places: list[int]) -> None:
    """On text that is no dump at all, too, the cuts decide nothing, and no byte is lost or made up."""

    def outcome(chunks: Iterable[bytes]) -> tuple[list[Event], type | None]:
        seen: list[Event] = []
        try:
            seen.extend(lex(chunks))
        except LexError as error:
            return _told_whole(seen), type(error)
        return merged(seen), None

    events, error = outcome([text])

    assert text.startswith(joined(events))
    assert error is not None or joined(events) == text
    assert outcome(cut(text, [place for place in places if place <= len(text)])) == (events, error)


def _told_whole(events: Iterable[Event]) -> list[Event]:
    """Drop what may be handed on or not before an error: pieces of rows and of comments."""
    result = merged(events)
    while result and isinstance(result[-1], CopyData | Trivia):
        result.pop()
    return result


def repeated(piece: bytes, count: int, before: bytes, after: bytes) -> Iterator[bytes]:
    """Yield a large text, piece by piece."""
    yield before
    for _ in range(count):
        yield piece
    yield after


HUGE: dict[str, tuple[bytes, bytes, bytes]] = {
    "one row": (b"COPY t (a) FROM stdin;\n", b"x" * 65536, b"\n\\.\n"),
    "rows that begin like an end": (b"COPY t (a) FROM stdin;\n", b"\\.x\n" * 16384, b"\\.\n"),
    "empty rows": (b"COPY t  FROM stdin;\n", b"\n" * 65536, b"\\.\n"),
    "blanks": (b"", b" \n" * 32768, b""),
    "a line comment": (b"--", b"-" * 65536, b"\n"),
    "a block comment": (b"/*", b"*/ /*".rjust(65536), b"*/"),
    "small statements": (b"", b"SELECT 1;".rjust(65536), b""),
}


@pytest.mark.parametrize(("before", "piece", "after"), HUGE.values(), ids=HUGE.keys())
def test_memory_is_a_few_chunks_when_the_input_is_huge(before: bytes, piece: bytes, after: bytes) -> None:
    """200 MB of rows, one of them or millions, never stand in memory; nor do comments and statements."""
    count = 3200 if before.startswith(b"COPY t (a) FROM stdin;\n") and piece[:1] == b"x" else 160
    total = len(before) + count * len(piece) + len(after)
    tracemalloc.start()

    try:
        size = sum(len(event.text) for event in lex(repeated(piece, count, before, after)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size == total
    assert peak < 2_000_000


def test_memory_is_one_statement_when_a_literal_is_huge() -> None:
    """A literal of 20 MB is held once while it is read, and once more when its pieces are joined."""
    tracemalloc.start()

    try:
        (event, *_) = lex(repeated(b"''".rjust(65536), 305, b"SELECT '", b"';"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(event.text) > 19_000_000
    assert peak < 2.5 * len(event.text)
