"""Types and values of them, as SQL."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.definitions.expressions import COLUMNS


class Type(NamedTuple):
    """A type, and values of it.

    :ivar category: Words by which constraints, keys and partitions look for one.
    """

    sql: str
    values: Sequence[str]
    category: str = ""


_CATEGORIES: Final = {
    **dict.fromkeys(("smallint", "integer", "bigint"), "number"),
    **dict.fromkeys(("text", "varchar", "varchar(5)", "char(5)"), "text"),
    **dict.fromkeys(("date", "timestamp", "timestamptz", "timestamp(3)"), "time"),
    **dict.fromkeys(("int4range", "daterange"), "range"),
    **dict.fromkeys(("numeric", "numeric(10, 2)", "interval", "bytea", "uuid", "boolean", "inet", "name"), "key"),
    **dict.fromkeys(("integer[]", "text[]"), "array"),
    "jsonb": "json",
}
# The types of the campaign of definitions that are the server's own.
_OWN: Final = {"mood", "mood[]", "code", "code9", "small", '"Big One"', "pair"}
_TEXTS: Final = (
    *("'a'", "''", "'NULL'", "E'\\\\N'", "E'\\\\.'", "E'two\\nlines'", "E'tab\\t, cr\\r, bs\\b, vt\\v'"),
    *("'ünïcödé 表 🐘'", "'COPY x FROM stdin;'", "E'\\\\restrict x'", "' blank '", "'$$;'", "E'it''s \\\\'"),
)
TYPES: Final = (
    *(
        Type(
            each.type,
            [*each.values, *(_TEXTS if each.type in {"text", "varchar"} else ())],
            _CATEGORIES.get(each.type, ""),
        )
        for each in COLUMNS
        if each.type not in _OWN
    ),
    Type("integer", ("0", "7", "2147483647", "-2147483648"), "number"),
    Type("bigint", ("0", "9223372036854775807", "-9223372036854775808"), "number"),
    Type("numeric", ("'NaN'", "'Infinity'", "'-Infinity'", "1e-20", "123456789012345678901234567890.123"), "key"),
    Type("numeric(5, 0)", ("1", "-99999")),
    Type("real", ("'NaN'", "'-0'", "1e-40", "3.4e38", "'Infinity'", "0.1")),
    Type("double precision", ("'-0'", "5e-324", "1.7976931348623157e308", "0.1", "1e15", "123456789.123456789")),
    Type("text", ("repeat('long ', 5000)", "repeat(md5('x'), 9000)", "E'\\x01\\x7f'", "'\u2028'"), "text"),
    Type(
        "timestamptz",
        ("'infinity'", "'-infinity'", "'0044-03-15 BC'", "'294276-12-31'", "'2024-03-31 02:30+01'"),
        "time",
    ),
    Type("date", ("'infinity'", "'0001-01-01 BC'", "'5874897-12-31'"), "time"),
    Type("interval", ("'1 year -1 day 00:00:01.000001'", "'-178000000 years'", "'0'", "'1 mon -1 sec'")),
    Type("interval year to month", ("'1 year 2 months'", "'-3 months'")),
    Type("interval second(2)", ("'1.239 seconds'",)),
    Type("time(0)", ("'24:00'", "'10:11:12.9'")),
    Type("json", ("""'{"a": [1, 2.50, null], "a": 1}'""", "' [ ] '", "'\"x\"'", """'{"\\u00e9": "\\n"}'""")),
    Type("jsonb", ("""'{"a": [1, 2.50, null], "b": "\\\\N"}'""", "'1e100'", "'\"\"'"), "json"),
    Type("jsonb[]", ("""ARRAY['{"a": "x,y"}', NULL]::jsonb[]""", "'{}'")),
    Type("jsonpath", ("'$.a[*] ? (@ > 1)'", "'lax $'")),
    Type("xml", ("'<a>x</a>'", "'<a b=\"1\"/><c/>'", "'text &amp; more'")),
    Type("bytea", ("'\\xdeadbeef00'", "'\\x'", "decode(repeat('5c00', 3000), 'hex')"), "key"),
    Type("point", ("'(1,2)'", "'(NaN,-0)'")),
    Type("line", ("'{1,2,3}'",)),
    Type("lseg", ("'[(0,0),(1,1)]'",)),
    Type("box", ("'(1,1),(0,0)'",)),
    Type("box[]", ("'{(1,1),(0,0);(2,2),(3,3)}'",)),
    Type("path", ("'[(0,0),(1,1)]'", "'((0,0),(1,1))'")),
    Type("polygon", ("'((0,0),(1,1),(1,0))'",)),
    Type("circle", ("'<(0,0),2>'",)),
    Type("macaddr8", ("'08:00:2b:01:02:03:04:05'",)),
    Type("pg_lsn", ("'16/B374D848'",)),
    Type("bit(3)[]", ("ARRAY[B'101', NULL]",)),
    Type("bit varying", ("B''", "B'10101'")),
    Type("text[]", ("""ARRAY['a,b', '{"', NULL, 'NULL', '', ' x ', E'\\\\']""", "'[2:3]={a,b}'", "'{}'"), "array"),
    Type("integer[][]", ("'{{1,2},{3,NULL}}'", "'[0:1][1:1]={{1},{2}}'"), "array"),
    Type("timestamptz[]", ("'{2020-01-02 03:04+00,NULL}'",)),
    Type("int8range", ("'(1,5]'", "'(,)'", "'empty'"), "range"),
    Type("numrange", ("'[1.50,2.5)'", "'(,1]'"), "range"),
    Type("tstzrange", ("'[2020-01-01 00:00+00,infinity)'", "'(,2020-01-01 00:00+00)'"), "range"),
    Type("tsrange[]", ("""ARRAY['[2020-01-01,2021-01-01)'::tsrange, 'empty']""",)),
    Type("datemultirange", ("'{[2020-01-01,2020-02-01),(2021-01-01,)}'", "'{}'")),
    Type("nummultirange", ("'{(,1],[2.0,3.00)}'",)),
    Type("tsvector", ("'''it''''s'':1A cat:2,3B'", "to_tsvector('english', 'the quick cats')")),
    Type("tsquery", ("'!fat & (cat:A* <-> rat)'",)),
    Type("regtype", ("'integer'", "'text[]'")),
    Type("regclass", ("'pg_class'",)),
    Type("oidvector", ("'1 2 3'",)),
    Type("txid_snapshot", ("'10:20:10,14'",)),
    Type("uuid[]", ("'{00000000-0000-0000-0000-000000000001}'",)),
)

# What an extension brings: its types, each with values.
OF_EXTENSIONS: Final[dict[str, tuple[Type, ...]]] = {
    "citext": (Type("citext", ("'Mixed'", "'mixed'", "''"), "text"), Type("citext[]", ("'{A,b}'",))),
    "hstore": (Type("hstore", ("'a=>1, \"b c\"=>NULL'", "''")),),
    "ltree": (Type("ltree", ("'a.b.c'", "''")), Type("lquery", ("'*.a'",))),
    "cube": (Type("cube", ("'(1,2)'", "'(1,2),(3,4)'")),),
    "seg": (Type("seg", ("'1 .. 2'", "'~5.0'")),),
    "isn": (Type("isbn13", ("'978-0-11-000533-4'",)),),
    "lo": (Type("lo", ("1", "2")),),
    "intarray": (Type("query_int", ("'1&2'",)),),
    "btree_gist": (),
    "btree_gin": (),
    "pg_trgm": (),
    "pgcrypto": (),
    "unaccent": (),
    "uuid-ossp": (),
    "fuzzystrmatch": (),
    "tablefunc": (),
    "bloom": (),
    "dict_int": (),
    "tcn": (),
    "postgres_fdw": (),
}
