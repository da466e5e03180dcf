"""No text, however hostile, keeps a regular expression or a tokenizer of ours busy: time grows as the text does.

Each compiled expression of the package is taken apart; each place in it that repeats something is reached by the
shortest text that leads there, and then fed with what it repeats, without and with an end that does not fit.
"""

import gc
import importlib
import os
import pkgutil
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final

import pytest

import tasks
from tasks.dumpfiles.prisma_history import HistoryReader
from tasks.dumpformat.foreign_head import LexError
from tasks.dumpformat.lexer import lex
from tasks.dumpformat.statements import classify_statement, parse_setval
from tasks.dumpformat.summary import DumpSummary
from tasks.dumpformat.tokens import scan_tokens, split_qualified

# Time is not linear where, for ten times the text, it is more than this factor beyond some microseconds for each byte.
FACTOR: Final = 30
ALLOWANCE: Final = 3e-6
NOISE: Final = 0.005
# What is quadratic takes half a second for the last of them.
SIZES: Final = (200, 2_000, 20_000)
# Blanks are in every dump, so they are tried to 70,000 bytes. TESTS_LONG=1 goes on to a million with everything.
BLANKS: Final = (700, 7_000, 70_000)
LONG: Final = (1_000, 10_000, 100_000, 1_000_000)
USUAL: Final = LONG if os.environ.get("TESTS_LONG") else SIZES
METHODS: Final = ("match", "search", "fullmatch", "finditer", "findall", "sub")
# What does the same work and goes on. All matches are found as the first one is, which begins with a try at the start.
INCLUDED: Final = {
    "findall": {"match", "search", "finditer", "sub"},
    "finditer": {"match", "search", "sub"},
    "sub": {"match", "search"},
    "search": {"match"},
}


def seconds(work: Callable[[], object], allowed: float = 0.0) -> float:
    """Time some work; what takes longer than it may is tried again, after a while, as the machine may be busy."""
    best = float("inf")
    # A search for garbage goes through everything that the tests hold.
    gc.disable()
    try:
        for pause in (0.0, 0.2, 1.0):
            time.sleep(pause)
            began = time.thread_time()
            work()
            best = min(best, time.thread_time() - began)
            # Nothing that the machine does beside makes it twice as long.
            if best <= allowed or best > 2 * allowed:
                break
    finally:
        gc.enable()
    return best


def growth(work: Callable[[int], Callable[[], object]], sizes: Iterable[int] = USUAL) -> str:
    """Say where time grows faster than the size; nothing where it does not.

    It begins small, so that what is not linear is found before it takes for ever.
    """
    last = 0.0
    for size in sizes:
        allowed = FACTOR * last + ALLOWANCE * size + NOISE
        now = seconds(work(size), allowed)
        if now > allowed:
            return f"{last:.4f} s for {size // 10:,}, {now:.4f} s for {size:,}"
        last = now
    return ""


def modules() -> list[Any]:
    """Import every module of the package."""
    found = pkgutil.walk_packages(tasks.__path__, "tasks.")
    return [importlib.import_module(each.name) for each in found]


def expressions() -> dict[str, re.Pattern[Any]]:
    """Collect every compiled expression by the module that makes it."""
    return {
        f"{module.__name__}.{name}": value
        for module in modules()
        for name, value in vars(module).items()
        if isinstance(value, re.Pattern) and re.search(rf"^{name} = ", Path(module.__file__).read_text(), re.MULTILINE)
    }


def uses() -> dict[str, set[str]]:
    """Tell by which methods each expression is used, by its bare name; a method may be taken without being called."""
    used = re.compile(rf"\b(\w+)\.({'|'.join(METHODS)})\b")
    found: dict[str, set[str]] = {}
    for module in modules():
        for name, method in used.findall(Path(module.__file__).read_text()):
            found.setdefault(name, set()).add(method)
    return found


def longest(methods: Iterable[str]) -> list[str]:
    """Leave out the methods whose work is a part of another one's."""
    chosen = set(methods)
    return sorted(chosen - {part for each in chosen for part in INCLUDED.get(each, ())})


def samples(chosen: list[Any]) -> list[str]:
    """Give characters of a class: the odd ones of SQL first."""
    negated = bool(chosen) and chosen[0][0] == sre.NEGATE
    pattern = parser.SubPattern(parser.State(), [(sre.IN, chosen)])
    compiled = re._compiler.compile(pattern)  # type: ignore[attr-defined]
    wanted = " \n\t'\"$\\-/*(.,;:=aAeE0_#[\xe9"
    few = [char for char in wanted if compiled.match(char)]
    return few[: 6 if negated else 4] or [chr(code) for code in range(256) if compiled.match(chr(code))][:1]


def shortest(tree: Any) -> str:
    """Give a short text that an expression matches, as far as that can be told without looking around."""
    text = ""
    for kind, given in tree:
        if kind == sre.LITERAL:
            text += chr(given)
        elif kind == sre.NOT_LITERAL:
            text += next(char for char in "a \n" if ord(char) != given)
        elif kind == sre.ANY:
            text += "a"
        elif kind == sre.IN:
            text += (samples(given) or [""])[-1]
        elif kind == sre.BRANCH:
            text += shortest(given[1][0])
        elif kind == sre.SUBPATTERN:
            text += shortest(given[3])
        elif kind in {sre.MAX_REPEAT, sre.MIN_REPEAT}:
            text += shortest(given[2]) * given[0]
    return text


def loops(tree: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """Find what repeats: a text that leads there, and what is repeated there."""
    for kind, given in tree:
        if kind in {sre.MAX_REPEAT, sre.MIN_REPEAT} and given[1] > 1:
            body = list(given[2])
            if len(body) == 1 and body[0][0] == sre.IN:
                yield from ((before, char) for char in samples(body[0][1]))
            elif len(body) == 1 and body[0][0] == sre.NOT_LITERAL:
                yield from ((before, char) for char in " a'\"\n" if ord(char) != body[0][1])
            else:
                yield before, shortest(body)
            yield from loops(body, before)
        elif kind in {sre.MAX_REPEAT, sre.MIN_REPEAT}:
            yield from loops(given[2], before)
        elif kind == sre.SUBPATTERN:
            yield from loops(given[3], before)
        elif kind == sre.BRANCH:
            for branch in given[1]:
                yield from loops(branch, before)
            whole = [shortest(branch) for branch in given[1]]
            yield from ((before, first + second) for first in whole for second in whole if first != second)
        before += shortest([(kind, given)])
    if before:
        yield "", before


def hostile(pattern: re.Pattern[Any]) -> list[tuple[str, str, str]]:
    """Give texts for an expression: a beginning, what is repeated, and an end."""
    tree = parser.parse(
        pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1"),
        pattern.flags & ~re.UNICODE,
    )
    found = dict.fromkeys(each for each in loops(list(tree)) if each[1])
    return [(before, pumped, end) for before, pumped in found for end in ("", "\x01", '"', "'")]


def slow(pattern: re.Pattern[Any], methods: Iterable[str]) -> list[str]:
    """Find the texts that an expression takes more than linear time for."""
    found = []
    for before, pumped, end in hostile(pattern):
        for method in longest(methods):

            def work(size: int) -> Callable[[], object]:
                text: Any = before + pumped * (size // len(pumped)) + end  # noqa: B023 - called here
                text = text if isinstance(pattern.pattern, str) else text.encode("latin-1")
                if method == "sub":  # noqa: B023 - called here
                    return lambda: pattern.sub(text[:0], text)
                if method == "finditer":  # noqa: B023 - called here
                    return lambda: deque(pattern.finditer(text), maxlen=0)
                return lambda: getattr(pattern, method)(text)  # noqa: B023 - called here

            if grown := growth(work, BLANKS if USUAL is SIZES and pumped.isspace() and end == "\x01" else USUAL):
                found.append(f"{method} of {before[:60]!r} + n * {pumped!r} + {end!r}: {grown}")
                break
        if found:
            break
    return found


EXPRESSIONS: Final = expressions()
USES: Final = uses()


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_takes_linear_time(name: str) -> None:
    """On 20,000 of each character that it repeats, and 70,000 blanks, by the methods that it is used with."""
    assert slow(EXPRESSIONS[name], sorted(USES.get(name.rpartition(".")[2], set(METHODS)))) == []


# Expressions that once were in use here, with how they were used.
QUADRATIC: Final = {
    "_IF_NOT_EXISTS": (rb"\ACREATE\s+[A-Z\s]*\bIF\s+NOT\s+EXISTS\b", re.IGNORECASE, "search"),
    "_COLUMNS": (rb"\(([^)]*)\)\s+FROM\s+stdin", re.IGNORECASE, "search"),
    "_QUALIFIED": (rb'("(?:[^"]|"")+"|[^".]+)(?:\s*\.\s*("(?:[^"]|"")+"|[^".]+))?\Z', 0, "match"),
    "_TRANSFORM": (
        rb"CREATE\s+(?:OR\s+REPLACE\s+)?TRANSFORM\s+FOR\s+([^;(]*?)\s+LANGUAGE\s+(\S+)",
        re.IGNORECASE | re.DOTALL,
        "match",
    ),
    "_UNTOUCHED": (r"\s*Nothing was (?:touched|contacted|compared|started)\b[^.]*\.?", 0, "sub"),
    "_DATASOURCE": (r"^\s*datasource\s+\w+\s*\{", re.MULTILINE, "search"),
}


@pytest.mark.parametrize(("pattern", "flags", "method"), QUADRATIC.values(), ids=QUADRATIC)
def test_the_measure_finds_what_is_not_linear(pattern: Any, flags: int, method: str) -> None:
    """The same measure finds expressions that backtrack over blanks."""
    assert slow(re.compile(pattern, flags), [method]) != []


def repeated(before: bytes, pumped: bytes, end: bytes = b"") -> Callable[[int], bytes]:
    """Return what makes a text of about a size."""
    return lambda size: before + pumped * (size // len(pumped)) + end


# Each is one statement, and what is repeated in it may be a million bytes long.
STATEMENTS: Final = {
    "blanks": repeated(b"SELECT 1", b" ", b";"),
    "lines": repeated(b"SELECT 1", b"\n", b";"),
    "quotes": repeated(b"SELECT ", b"''", b";"),
    "doubled quotes": repeated(b"SELECT '", b"''", b"';"),
    "quoted names": repeated(b"SELECT ", b'""', b";"),
    "doubled quotes in a name": repeated(b'CREATE TABLE "', b'""', b'";'),
    "E strings": repeated(b"SELECT ", b"E''", b";"),
    "backslashes": repeated(b"SELECT E'", b"\\\\", b"';"),
    "escaped quotes": repeated(b"SELECT E'", b"\\'", b"';"),
    "E string, then blanks": repeated(b"SELECT E''", b" ", b";"),
    "E string, then lines": repeated(b"SELECT E''", b"\n", b";"),
    "E string, then comments": repeated(b"SELECT E''", b"--\n", b";"),
    "continued string": repeated(b"SELECT ''", b"\n''", b";"),
    "continued E string": repeated(b"SELECT E''", b"\n  '\\''", b";"),
    "dollar quotes": repeated(b"SELECT ", b"$a$$b$$a$", b";"),
    "dollar quotes that are never closed": repeated(b"SELECT 1; SELECT ", b"$a$b", b";"),
    "many tags in one": repeated(b"SELECT $a$", b"$b$", b"$a$;"),
    "dollars": repeated(b"SELECT ", b"$ ", b";"),
    "long tag": repeated(b"SELECT $", b"a", b"$$;"),
    "comments opened": repeated(b"SELECT ", b"/*", b";"),
    "nested comments": lambda size: b"SELECT " + b"/*" * (size // 4) + b"*/" * (size // 4) + b";",
    "comments": repeated(b"SELECT ", b"/**/", b";"),
    "line comments": repeated(b"SELECT ", b"--\n", b";"),
    "minus": repeated(b"SELECT 1", b" -", b"1;"),
    "parentheses": lambda size: b"SELECT " + b"(" * (size // 2) + b")" * (size // 2) + b";",
    "parentheses that are never closed": repeated(b"SELECT ", b"(", b";"),
    "dots": repeated(b"ALTER TABLE a", b".a", b" DROP CONSTRAINT c;"),
    "signs as a name": repeated(b"CREATE OPERATOR a.", b"+", b" ();"),
    "roles": repeated(b"GRANT SELECT ON TABLE t TO a", b",a", b";"),
    "if not exists": repeated(b"CREATE TABLE ", b" ", b"IF NOT EXISTS t ();"),
    "transform": repeated(b"CREATE TRANSFORM FOR ", b" ", b"t;"),
    "cast": repeated(b"CREATE CAST (", b") ", b";"),
    "setval": repeated(b"SELECT setval(", b" ", b"'s', 1);"),
    "setval of a long name": repeated(b"SELECT setval('", b" ", b"', 1);"),
    "set_config": repeated(b"SELECT set_config('client_encoding', 'UTF8', false)", b", set_config('a'", b";"),
    "setting": repeated(b"SET client_encoding", b" ", b"= 'UTF8';"),
    "columns of a COPY": repeated(b"COPY t (a", b", a", b") FROM stdin;\n\\.\n"),
    "quoted columns of a COPY": repeated(b"COPY t (a", b', "a"', b") FROM stdin x;"),
    "blanks in a COPY": repeated(b"COPY t", b" ", b"FROM stdin;\n\\.\n"),
    "COPY FROM": repeated(b"COPY t ", b"FROM ", b";"),
    "function": repeated(b"CREATE FUNCTION f() BEGIN ATOMIC ", b"CASE END ", b"END;"),
    "rows": repeated(b"COPY t FROM stdin;\n", b"\\.\r", b"\n\\.\n"),
    "transform of a long type": repeated(b"CREATE TRANSFORM FOR ", b"a ", b"LANGUAGE x;"),
    "cast of a long type": repeated(b"CREATE CAST (", b"a ", b"AS b) WITHOUT FUNCTION;"),
    "digits in rows": repeated(b"INSERT INTO a.b VALUES (", b"1", b"x);"),
    "numbers in rows": repeated(b"INSERT INTO a.b VALUES (", b"1699999999999, ", b"now());"),
    "exponents in rows": repeated(b"INSERT INTO a.b VALUES (", b"1e1", b"x);"),
    "strings in rows": repeated(b"INSERT INTO a.b VALUES (1, ", b"E'a'  ,  ", b"x);"),
    "rows of strings": repeated(b"INSERT INTO a.b VALUES ", b"('x'),", b"('y');"),
    "columns of an INSERT": repeated(b"INSERT INTO a.b (", b'"a", ', b'"b") VALUES (f(1));'),
    "quotes in columns of an INSERT": repeated(b"INSERT INTO a.b (", b'""', b") VALUES (f(1));"),
    "statistics": repeated(b"SELECT * FROM pg_catalog.pg_restore_relation_stats(", b"E'a' ", b"$1);"),
    "quotes in statistics": repeated(b"SELECT * FROM pg_catalog.pg_restore_relation_stats(", b"''", b"$;"),
    "large object": repeated(b"SELECT pg_catalog.lo_create(", b"''", b"$;"),
    "names to drop": repeated(b"DROP FUNCTION ", b"a.b((), ", b"c.d;"),
    "commas in an ALTER": repeated(b"ALTER TABLE a.b ALTER c SET DEFAULT 1", b", x", b";"),
    "prisma": repeated(b"COPY public._prisma_migrations ", b"(", b" FROM stdin;\n\\.\n"),
}


def read(text: bytes, piece: int) -> None:
    """Read a dump in pieces of a size, as a restore does; that it is refused is an answer, too."""
    survey, history = DumpSummary(), HistoryReader()
    try:
        for event, _ in survey.watch(lex(text[at : at + piece] for at in range(0, len(text), piece))):
            history.see(event, survey.current)
    except LexError:
        pass


@pytest.mark.parametrize("make", STATEMENTS.values(), ids=STATEMENTS)
def test_a_dump_is_read_in_linear_time(make: Callable[[int], bytes]) -> None:
    """Hostile dumps, in pieces of several sizes."""
    for piece in (97, 4_099, 1 << 16):
        assert growth(lambda size: lambda: read(make(size), piece)) == "", piece  # noqa: B023 - called here


@pytest.mark.parametrize("make", STATEMENTS.values(), ids=STATEMENTS)
def test_a_statement_is_told_in_linear_time(make: Callable[[int], bytes]) -> None:
    """Its tokens, what it does, and what name stands at its front."""
    for standard in (True, False):
        for work in (
            lambda text: sum(1 for _ in scan_tokens(text, standard=standard)),  # noqa: B023 - called here
            lambda text: classify_statement(text, standard=standard),  # noqa: B023 - called here
            lambda text: parse_setval(text, standard=standard),  # noqa: B023 - called here
            split_qualified,
            lambda text: split_qualified(text.partition(b" ")[2]),
        ):
            assert growth(lambda size: lambda: work(make(size))) == ""  # noqa: B023 - called here
