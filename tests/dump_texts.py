"""Random dumps and statements, as the lexer has to read them."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from hypothesis import strategies as st

from tasks.dumpformat.lexer import Comment, CopyData, CopyEnd, Event, Statement, Trivia


def merged(events: Iterable[Event]) -> list[Event]:
    """Join the pieces that the cuts of the input may make: neighbours of `Trivia` and of `CopyData`."""
    result: list[Event] = []
    for event in events:
        last = result[-1] if result else None
        if last is not None and isinstance(event, Trivia | CopyData) and type(last) is type(event):
            result[-1] = type(event)(bytes(last.text + event.text))
        else:
            result.append(event)
    return result


def cut(text: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut a text at these places; some pieces may be empty."""
    bounds = [0, *sorted(places), len(text)]
    return [text[begin:end] for begin, end in pairwise(bounds)]


def joined(events: Iterable[Event]) -> bytes:
    """Put the texts of events one behind the other."""
    return b"".join(event.text for event in events)


# Each is one statement: what follows it must not belong to it, and it must not end early.
ONE_STATEMENT: dict[str, bytes] = {
    "nothing": b";",
    "words": b"ALTER TABLE ONLY public.t ADD CONSTRAINT c CHECK ((a > 0)) NOT VALID;",
    "no blank anywhere": b"SELECT\"a\",'b',(1);",
    # Quotes
    "semicolon in a string": b"SELECT ';';",
    "doubled quote": b"SELECT 'it''s; so', '''', ''';''';",
    "backslash ends a standard string": b"SELECT '\\', ';', 'a\\';",
    "string over lines": b"SELECT 'a\nCOMMIT;\n\\.\n-- x;\n/* ;';",
    "strings on two lines are one": b"SELECT 'a;'\n';b';",
    "dollar in a string": b"SELECT '$$', ';$$';",
    "double quote in a string": b"SELECT '\"', ';\"';",
    "quoted name": b'SELECT ";", "a""b;", "\'", "\\", "$$", "--;", "/*;", "\n;";',
    "keyword of a name": b'CREATE TABLE public."COMMIT;" ("a;" integer);',
    "E string": b"SELECT E'\\';', e'\\\\', ';', E'\\''';', E'''\\';';",
    "E string with escapes": b"SELECT E'\\x41\\u0041\\U00000041\\101\\b\\\n;\\';';",
    "E string goes on": b"SELECT E'a\\''\n'\\';', ';';",
    "E string goes on behind blanks": b"SELECT E'a' \t\r\n \n  '\\';';",
    "E string goes on behind comments": b"SELECT E'a' -- ' ;\n --;\n '\\';', ';';",
    "E string does not go on in the line": b"SELECT E'a' '\\', ';';",
    "E string does not go on in a comment's line": b"SELECT E'a' --\n+ '\\', ';';",
    "E string, a minus": b"SELECT E'a'\n- '\\', ';';",
    "a word that ends in e": b"SELECT type'\\', ';', _e'\\', ';', \xc3\xa9e'\\', ';';",
    "a word that begins with e": b"SELECT extract, e, E;",
    "U& string": b"SELECT U&'\\0041;\\', ';', u&'d!0061t\\' UESCAPE '!';",
    "U& name": b'SELECT U&"d\\0061t;\\", ";";',
    "B, X and N strings": b"SELECT B'10', b'\\', X'1F;', x'\\', N'n;\\', n'it''s;';",
    # Dollar quotes
    "dollar quote": b"DO $$ BEGIN COMMIT; END; ' \" -- /* $$;",
    "dollar quote with a tag": b"DO $body$ $$;$$ $other$;$other$ $body $BODY$; $body$;",
    "dollar quote, odd tags": b"SELECT $_$;$_$, $a1$;$a1$, $\xc3\xa9$;$\xc3\xa9$, $_9Z_$;$_9Z_$;",
    "dollar quote, dollars inside": b"SELECT $a$ $ ;$ $a ; $a$, $a$$;$a$, $$$;$$, $$a$;$$;",
    "dollar quote behind another": b"SELECT $a$;$a$$b$;$b$;",
    "dollar quote behind a number": b"SELECT 1$a$;'$a$;",
    "dollars in a word": b"SELECT a$b$, a$$, _$x$, \xc3\xa9$x$, a$1;",
    "a parameter": b"SELECT $1, $2$a, $1$;",
    "no tag begins with a digit": b"SELECT $1a$;",
    "dollar alone": b"SELECT $;",
    # Comments
    "line comment": b"SELECT 1 -- ; ' \" $$ ( /*\n, 2;",
    "line comment ends with a carriage return": b"SELECT 1 -- ;\r, 2 --;\r\n;",
    "line comment behind an operator": b"SELECT 1+--;\n1, 2 ---;\n;",
    "minus, minus": b"SELECT 1 - -1, a - b;",
    "block comment": b"SELECT /* ; ' \" $$ ( -- */ 1;",
    "nested block comment": b"SELECT /* /* ; */ ; /*/ ; */ ; **/ */ 1 */**/ 2;",
    "block comment behind an operator": b"SELECT 1+/*;*/1, 2*/*;*/3, 4//*;*/5;",
    "block comment, shortest": b"SELECT /**/ 1 /***/ /*/*/**/*/*/;",
    "slash": b"SELECT 1 / 2, 3 */ 4;",
    # Parentheses
    "rule": b"CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO a VALUES (1); DELETE FROM b;);",
    "parentheses in quotes": b"SELECT '(', \"(\", $$($$ /* ( */ -- (\n;",
    "too many closing": b"SELECT 1)));",
    "parentheses within parentheses": b"SELECT ((((((a)))), ((((((';'))))))));",
    "rule, deep": b"CREATE RULE r AS ON INSERT TO t DO (SELECT ((((((1)))))); SELECT ')'; SELECT ((2));\n);",
    "a closing one in quotes": b"CREATE RULE r AS ON INSERT TO t DO (SELECT ')'; SELECT \")\"; SELECT 1);",
    "brackets and braces are none": b"SELECT a[1, {;",
    # Functions
    "function with a body in quotes": b"CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'BEGIN ATOMIC; '';';",
    "begin atomic": b"CREATE FUNCTION f() RETURNS void BEGIN ATOMIC SELECT 1; SELECT 2; END;",
    "begin atomic of a procedure": b"create or replace procedure p()\nbegin\n atomic\n select 1;\nend;",
    "begin atomic, no statement": b"CREATE OR REPLACE FUNCTION f() RETURNS void BEGIN ATOMIC END;",
    "begin atomic with case": (
        b"CREATE FUNCTION f(n integer) RETURNS text\nBEGIN ATOMIC\n"
        b" SELECT CASE WHEN n > 0 THEN CASE n WHEN 1 THEN ';' END ELSE 'END' END;\n"
        b" SELECT (CASE WHEN true THEN 1 END) AS \"end\"; SELECT 'END;', $$END;$$ /* END; */; -- END;\n"
        b"END;"
    ),
    "begin atomic with parentheses": b"CREATE FUNCTION f() BEGIN ATOMIC SELECT (SELECT (CASE 1 END)); END;",
    "begin as a column": (
        b"CREATE FUNCTION f() RETURNS integer BEGIN ATOMIC SELECT p.begin, begin AS begin FROM begin p; END;"
    ),
    "begin as the function's name": b"CREATE FUNCTION public.begin() RETURNS integer LANGUAGE sql AS $$;$$;",
    "begin as a type": b"CREATE FUNCTION public.f() RETURNS public.begin\n BEGIN ATOMIC SELECT 1; END;",
    "begin as a schema": b"CREATE FUNCTION begin.atomic() RETURNS begin.atomic LANGUAGE sql AS '';",
    "end and case as names": b'CREATE FUNCTION f("end" integer, "case" integer) BEGIN ATOMIC SELECT "end"; END;',
    "atomic alone": b"CREATE FUNCTION atomic() RETURNS atomic LANGUAGE sql AS 'begin';",
    "begin atomic of something else": b"CREATE TABLE begin (atomic integer);",
    "quotes in front of the first words": b"'a' CREATE \"b\" OR (1) REPLACE FUNCTION f() BEGIN ATOMIC SELECT 1; END;",
    "not the statement's first words": b"COMMENT ON FUNCTION f() IS 'CREATE FUNCTION BEGIN ATOMIC';",
    "aggregate": b"CREATE AGGREGATE begin.atomic(integer) (SFUNC = f);",
    # What looks like COPY
    "copy to": b"COPY public.t TO stdout;",
    "copy from a file": b"COPY public.t FROM '/tmp/stdin';",
    "copy as a name": b"copying;",
    "transaction control": b"COMMIT;",
    "large literal": b"SELECT pg_catalog.lowrite(0, '\\x00ff27273b5c');",
    "bytes that are no UTF-8": b"SELECT '\xff\xfe;\xc3', \xff\xfe\xc3;",
    "colons": b"SELECT 'a'::text, a[1:2], :x, :'x', :\"x;\", b := 1;",
    "operators": b"SELECT a @> b, a ->> 'x', a #- b, a <@ b, @-@ c, a ?| b, ~~* d, !~ e;",
}


STRINGS: dict[str, tuple[bytes, list[bytes]]] = {
    "off": (
        b"SET standard_conforming_strings = off;\nSELECT '\\';';\nSELECT 'it''s\\\\';",
        [b"SET standard_conforming_strings = off;", b"SELECT '\\';';", b"SELECT 'it''s\\\\';"],
    ),
    "off, lines go on": (
        b"SET standard_conforming_strings TO 'off';SELECT 'a'\n'\\';', N'\\';';",
        [b"SET standard_conforming_strings TO 'off';", b"SELECT 'a'\n'\\';', N'\\';';"],
    ),
    "off and on again": (
        b"set standard_conforming_strings = OFF;SET standard_conforming_strings = on;SELECT '\\';;",
        [b"set standard_conforming_strings = OFF;", b"SET standard_conforming_strings = on;", b"SELECT '\\';", b";"],
    ),
    "not a setting": (
        b"SELECT 'SET standard_conforming_strings = off;';SELECT '\\';",
        [b"SELECT 'SET standard_conforming_strings = off;';", b"SELECT '\\';"],
    ),
    "quoted names never": (
        b'SET standard_conforming_strings = off;SELECT "\\";SELECT $$\\$$;',
        [b"SET standard_conforming_strings = off;", b'SELECT "\\";', b"SELECT $$\\$$;"],
    ),
}


# A small dump with all that pg_dump 17 writes around one table, a function and a large object.
DUMP = b"""--
-- PostgreSQL database dump
--

\\restrict kLz9

-- Dumped from database version 17.6
-- Dumped by pg_dump version 17.6

SET statement_timeout = 0;
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);

CREATE TABLE public."two
COMMIT;
lines" (
    id integer DEFAULT nextval('public.s'::regclass) NOT NULL,
    t text DEFAULT 'it''s; \\'
);

CREATE FUNCTION public.f(n integer) RETURNS text
    LANGUAGE sql
    BEGIN ATOMIC
 SELECT CASE WHEN (f.n > 0) THEN 'a;'::text ELSE 'END;'::text END AS "end";
END;

CREATE FUNCTION public.g() RETURNS text LANGUAGE plpgsql AS $_$
BEGIN
COMMIT;
\\.
-- PostgreSQL database dump complete
RETURN $1 || '$_';
END$_$;

SELECT pg_catalog.lo_create('900001');
BEGIN;

SELECT pg_catalog.lo_open('900001', 131072);
SELECT pg_catalog.lowrite(0, '\\x00ff');
SELECT pg_catalog.lo_close(0);

COMMIT;

COPY public."two
COMMIT;
lines" (id, t) FROM stdin;
1	it's; \\\\
2	\\\\.
3	-- PostgreSQL database dump complete
4	\\N
\\.


COPY public.no_columns  FROM stdin;


\\.


COPY public.empty (id) FROM stdin;
\\.


SELECT pg_catalog.setval('public.s', 4, true);

CREATE RULE r AS
    ON INSERT TO public.t DO ( INSERT INTO public.log (x)
  VALUES (E'\\\\;\\n'::text);
 DELETE FROM public.log; );

COMMENT ON FUNCTION public.g() IS '
-- PostgreSQL database dump complete
';

--
-- PostgreSQL database dump complete
--

\\unrestrict kLz9

"""


# Dumps that hypothesis makes: each piece is whole in itself, so the splits are known beforehand.
_NASTY = "';\"$\\()-/*\n\r\t ,.:eEbBaxU&N01é🐘_$'\"\\;"


_free = st.one_of(
    st.text(_NASTY, max_size=12),
    st.sampled_from(["COMMIT;", "\n\\.\n", "COPY t FROM stdin;\n", "BEGIN ATOMIC", "END;", "\\restrict x\n", "--\n"]),
).map(str.encode)


@st.composite
def _dollar_quoted(draw: st.DrawFn) -> bytes:
    tag = b"$" + draw(st.from_regex("([A-Za-z_é][A-Za-z0-9_é]{0,3})?", fullmatch=True)).encode() + b"$"
    body = draw(_free)
    # The body must not hold its own end, nor begin it.
    return tag + (body if (body + tag).find(tag) == len(body) else b"") + tag


def _escaped(text: bytes) -> bytes:
    return b"E'" + text.replace(b"\\", b"\\\\").replace(b"'", b"\\'") + b"'"


_token = st.one_of(
    st.sampled_from([b"begin", b"END", b"case", b"atomic", b"COPY", b"a$b$", b"e", b"U", b"x.y", b"\xc3\xa9"]),
    st.sampled_from([b"1", b"1.5e-3", b"$1", b"+", b"->>", b"#-", b"@>", b"*", b"/", b"-", b"::text", b"a[1:2]"]),
    _free.map(lambda text: b"'" + text.replace(b"'", b"''") + b"'"),
    _free.map(lambda text: b'"' + text.replace(b'"', b'""') + b'x"'),
    _free.map(_escaped),
    _dollar_quoted(),
    st.text("x;'\"$(*-", max_size=6).map(lambda text: b"--~" + text.encode() + b"\n"),
    st.text("x;'\"$(-\n", max_size=6).map(lambda text: b"/*" + text.encode() + b"*/"),
    st.just(b"/* a; /* '; */ $$ */"),
)


def _list(tokens: Sequence[bytes]) -> bytes:
    # Commas keep the pieces apart: two strings on two lines would be one.
    return b" , ".join(tokens)


_tokens = st.lists(_token, max_size=5).map(_list)


_parens = st.lists(_tokens, max_size=3).map(lambda parts: b"(" + b"; ".join(parts) + b" )")


_simple = st.tuples(st.sampled_from([b"SELECT ", b"INSERT INTO t VALUES ", b"DO ", b"x "]), _tokens).map(b"".join)


_nested = st.tuples(_simple, _parens).map(b" , ".join)


_case = _tokens.map(lambda text: b"CASE WHEN " + text.replace(b"END", b"x").replace(b"case", b"y") + b" END")


_inner = st.one_of(
    _case,
    st.lists(_token.filter(lambda token: token.lower() not in {b"end", b"case", b"begin"}), max_size=4).map(_list),
)


_function = st.tuples(
    st.sampled_from([b"CREATE FUNCTION ", b"CREATE OR REPLACE FUNCTION ", b"create procedure "]),
    st.lists(_inner, max_size=3),
).map(lambda parts: parts[0] + b"f() BEGIN ATOMIC " + b"".join(b"SELECT " + s + b"; " for s in parts[1]) + b"END")


_rule = _parens.map(lambda body: b"CREATE RULE r AS ON INSERT TO t DO " + body)


_statement = st.one_of(_simple, _nested, _function, _rule).map(lambda text: Statement(text + b";"))


_row = _free.map(lambda row: row.replace(b"\n", b"")).filter(lambda row: row not in {b"\\.", b"\\.\r"})


@st.composite
def _block(draw: st.DrawFn) -> list[Event]:
    name = b'"' + draw(_free).replace(b'"', b'""') + b'x"'
    columns = draw(st.sampled_from([b" ", b" (a)", b' ("a;)", b)']))
    rows = draw(st.lists(_row, max_size=4))
    data: list[Event] = [CopyData(b"".join(row + b"\n" for row in rows))] if rows else []
    statement = Statement(b"COPY public." + name + columns + b" FROM stdin;", b"public." + name)
    return [statement, Trivia(b"\n"), *data, CopyEnd()]


def _alone(text: str) -> list[Event]:
    return [Comment(b"-- " + text.encode() + b"\n")]


def _spaced(statement: Statement) -> list[Event]:
    return [statement, Trivia(b"\n")]


_part = st.one_of(
    _statement.map(_spaced),
    _statement.map(_spaced),
    _block(),
    st.text("x;'\"$(*-/ ", max_size=6).map(_alone),
)


dumps = st.lists(_part, max_size=8).map(lambda parts: merged(event for part in parts for event in part))
"""Dumps as the events that they are to be split into."""
