"""One form for a text and its reload, and another one for every other text."""

import time

import pytest

from tasks.inventory.canonical import canonical, may_be_rewritten

# What a server wrote, and what it wrote after a dump and a reload.
RELOADED = {
    "IN on varchar": (
        "((kind)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))",
        "((kind)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text]))",
    ),
    "NOT IN on varchar": (
        "((kind)::text <> ALL ((ARRAY['a'::character varying, 'b'::character varying])::text[]))",
        "((kind)::text <> ALL (ARRAY[('a'::character varying)::text, ('b'::character varying)::text]))",
    ),
    "expressions as elements": (
        "(n = ANY ((ARRAY[i, (i + 1), abs(i)])::numeric[]))",
        "(n = ANY (ARRAY[(i)::numeric, ((i + 1))::numeric, (abs(i))::numeric]))",
    ),
    "arrays of arrays": (
        "((ARRAY[ARRAY[v, 'a'::character varying], ARRAY[w, v]])::text[] = x)",
        "(ARRAY[ARRAY[(v)::text, ('a'::character varying)::text], ARRAY[(w)::text, (v)::text]] = x)",
    ),
    "a cast of a cast": (
        "(v = ANY (((ARRAY['a'::character varying])::text[])::public.\"My Type\"[]))",
        "(v = ANY (ARRAY[(('a'::character varying)::text)::public.\"My Type\"]))",
    ),
    "constants that get a modifier": (
        "((ARRAY['a'::character varying, NULL::character varying])::character varying(3)[] = x)",
        "(ARRAY['a'::character varying(3), NULL::character varying(3)] = x)",
    ),
    "bits that get a modifier": (
        """((ARRAY['101'::"bit", NULL::"bit"])::bit(3)[] = x)""",
        "(ARRAY['101'::bit(3), NULL::bit(3)] = x)",
    ),
    "blank-padded text that gets a modifier": (
        "((ARRAY['a'::bpchar])::character(5)[] = x)",
        "(ARRAY['a'::character(5)] = x)",
    ),
    "intervals that get fields": (
        "((ARRAY['1 day'::interval])::interval day to second(3)[] = x)",
        "(ARRAY['1 day'::interval day to second(3)] = x)",
    ),
    "intervals that get fields without a number": (
        "((ARRAY['1 year'::interval])::interval year to month[] = x)",
        "(ARRAY['1 year'::interval year to month] = x)",
    ),
    "numbers that get a modifier": (
        "((ARRAY[1.5, '-2.5'::numeric])::numeric(4,1)[] = x)",
        "(ARRAY[1.5::numeric(4,1), '-2.5'::numeric(4,1)] = x)",
    ),
    "types of several words": (
        "(t = ANY ((ARRAY[d, e])::timestamp(3) without time zone[]))",
        "(t = ANY (ARRAY[(d)::timestamp(3) without time zone, (e)::timestamp(3) without time zone]))",
    ),
    "BETWEEN before AND": (
        "(((x >= 1) AND (x <= 2)) AND y)",
        "((x >= 1) AND (x <= 2) AND y)",
    ),
    "columns in an IN": (
        "(((x = ANY (ARRAY[1, 2])) OR (x = y)) OR (x = z))",
        "((x = ANY (ARRAY[1, 2])) OR (x = y) OR (x = z))",
    ),
    "a minus sign": ("(- 1)", "'-1'::integer"),
    "a minus sign before a fraction": ("((- 1.50) < x)", "('-1.50'::numeric < x)"),
    "XMLSERIALIZE on 16": ("XMLSERIALIZE(CONTENT x AS text)", "XMLSERIALIZE(CONTENT x AS text NO INDENT)"),
    "a bare NULL": (
        "(x IN ( SELECT t.x\n  FROM t\nUNION\n SELECT NULL::integer))",
        "(x IN ( SELECT t.x\n  FROM t\nUNION\n SELECT NULL::integer AS int4))",
    ),
    "a name that wants quotes": (
        "(EXISTS ( SELECT 'a'::character varying,\n '1'::numeric))",
        "(EXISTS ( SELECT 'a'::character varying AS \"varchar\",\n '1'::numeric AS \"numeric\"))",
    ),
    "a name below COLLATE": (
        "(EXISTS ( SELECT ('a'::text COLLATE \"C\")))",
        "(EXISTS ( SELECT ('a'::text COLLATE \"C\") AS text))",
    ),
}


@pytest.mark.parametrize(("before", "after"), RELOADED.values(), ids=RELOADED.keys())
def test_a_text_and_its_reload_have_one_form(before: str, after: str) -> None:
    """Each is a rewriting that real servers made; the form is its own form, and both show that it may change."""
    assert canonical(before) == canonical(after)
    assert canonical(canonical(before)) == canonical(before)
    assert may_be_rewritten(before) or "XML" in before


DIFFERENT = {
    "literal": ("(v = ANY (ARRAY['a'::text, 'b'::text]))", "(v = ANY (ARRAY['a'::text, 'c'::text]))"),
    "order": ("(v = ANY (ARRAY['a'::text, 'b'::text]))", "(v = ANY (ARRAY['b'::text, 'a'::text]))"),
    "element": ("(v = ANY (ARRAY['a'::text]))", "(v = ANY (ARRAY['a'::text, 'a'::text]))"),
    "type of the cast": ("(x = ANY ((ARRAY[a, b])::text[]))", "(x = ANY ((ARRAY[a, b])::name[]))"),
    "cast of one": ("(x = ANY (ARRAY[(a)::text, (b)::text]))", "(x = ANY (ARRAY[(a)::text, b]))"),
    "no cast": ("(x = ANY ((ARRAY[a, b])::text[]))", "(x = ANY (ARRAY[a, b]))"),
    "cast of what is no constructor": ("((a)::text[] = x)", "(ARRAY[(a)::text] = x)"),
    "modifier": ("(a)::character varying(3)", "(a)::character varying(4)"),
    "bits of another length": ("'1'::bit(3)", """'1'::"bit\""""),
    "fields": ("'1 year'::interval year", "'1 year'::interval year to month"),
    "no modifier": ("(a)::character varying(3)", "(a)::character varying"),
    "operator": ("(x < 1)", "(x <= 1)"),
    "AND": ("((a AND b) AND c)", "((a AND b) OR c)"),
    "AND in OR": ("((a AND b) OR c)", "(a AND (b OR c))"),
    "NOT": ("(NOT (a AND b))", "((NOT a) AND b)"),
    "minus sign": ("(- 1)", "1"),
    "minus of a column": ("(- a)", "a"),
    "collation": ('(v COLLATE "C")', '(v COLLATE "POSIX")'),
    "name of a column": ("( SELECT NULL::integer AS a)", "( SELECT NULL::integer AS b)"),
    "name of another type": ("( SELECT NULL::integer AS int8)", "( SELECT NULL::integer)"),
    "name within quotes": ('"a b"', '"a  b"'),
    "blanks in a literal": ("'a  b'::text", "'a b'::text"),
    "words in a literal": ("'(a AND b) AND c'::text", "'a AND b AND c'::text"),
    "case in a literal": ("'A'::text", "'a'::text"),
    "escaped literal": (r"E'a\\b'::text", r"E'a\\\\b'::text"),
    "quotes of a name": ('"A"', "a"),
    "indented": ("XMLSERIALIZE(CONTENT x AS text)", "XMLSERIALIZE(CONTENT x AS text INDENT)"),
    "brackets": ("((a + b) * c)", "(a + (b * c))"),
}


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_two_definitions_have_two_forms(one: str, other: str) -> None:
    """A single change is never lost."""
    assert canonical(one) != canonical(other)


STRANGE = (
    "",
    "(",
    ")",
    "(]",
    "'",
    "'a",
    '"',
    "E'\\",
    "::",
    "AS",
    "a AS",
    "ARRAY",
    "(ARRAY)::x[]",
    "((ARRAY[])::",
    "\udcfc",
)


@pytest.mark.parametrize("text", STRANGE)
def test_what_no_server_writes_has_a_form(text: str) -> None:
    """No error, and the form is its own form."""
    assert canonical(canonical(text)) == canonical(text)


def test_a_deep_text_has_a_form_in_time() -> None:
    """Ten thousand brackets in brackets, arrays in arrays, and a list as long."""
    deep = "(" * 10_000 + "x" + " + 1)" * 10_000
    arrays = f"(({'ARRAY[' * 5_000}x{']' * 5_000})::text[])"
    wide = f"(v = ANY ((ARRAY[{', '.join(['a'] * 10_000)}])::text[]))"
    began = time.monotonic()

    assert canonical(deep) == deep.replace("( ", "(")
    assert canonical(arrays).count("(x)::text") == 1
    assert canonical(wide).count("(a)::text") == 10_000
    assert time.monotonic() - began < 10


def test_what_a_reload_cannot_change_is_known() -> None:
    """Most defaults and simple checks: a digest of theirs that differs is a difference."""
    for text in (
        "now()",
        "'a'::text",
        "CHECK ((x > 0))",
        "nextval('s'::regclass)",
        "((x > 0) AND (x < 9))",
        "'a-1'::text",
    ):
        assert not may_be_rewritten(text), text
