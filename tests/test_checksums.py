"""A checksum of a table's content is equal where the rows are, and nowhere else."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from tasks.inventory.objects import pin_settings
from tasks.postgres.tables import COPIED, read_checksums, read_tables
from tests.servers import DEFAULT_MAJOR, MAJORS, OWNER, SUPERUSER, Server
from tests.support import Connection, Database, Databases, Project

Row = tuple[str | None, str | None, int | None]
Rows = Sequence[Row]


def sums(connection: Connection) -> dict[str, tuple[int, str | None]]:
    """Count and sum every table, pinned as the flows do it."""
    pin_settings(connection)
    with connection.transaction():
        return {
            ".".join(table.key): (rows, total)
            for table, rows, total in read_checksums(connection, read_tables(connection))
        }


def sums_of(database: Database) -> dict[str, tuple[int, str | None]]:
    """Count and sum every table in a session of its own."""
    with database.connect(client_encoding="UTF8") as connection:
        return sums(connection)


# Equal if and only if the rows are


@pytest.fixture(scope="module")
def scratch(server_of: Callable[[int], Server]) -> Iterator[Connection]:
    """Return a session in a database with two tables of the same columns, in another order."""
    with Databases(server_of(DEFAULT_MAJOR)) as databases, databases().connect() as connection:
        connection.execute("CREATE TABLE public.one (a text, b text, n integer)")
        connection.execute("CREATE TABLE public.other (n integer, dropped text, b text, a text)")
        connection.execute("ALTER TABLE public.other DROP COLUMN dropped")
        yield connection


def fill(connection: Connection, table: str, rows: Rows) -> None:
    """Let a table hold exactly these rows."""
    name = sql.Identifier("public", table)
    connection.execute(sql.SQL("DELETE FROM {}").format(name))
    with connection.cursor() as cursor:
        cursor.executemany(sql.SQL("INSERT INTO {} (a, b, n) VALUES (%s, %s, %s)").format(name), rows)


def equal(connection: Connection, one: Rows, other: Rows) -> bool:
    """Tell whether two contents have the same sum, each in a table of its own."""
    fill(connection, "one", one)
    fill(connection, "other", other)
    found = sums(connection)
    return found["public.one"] == found["public.other"]


# What a row's text could be mistaken for: quotes, commas, parentheses, the texts of NULL.
texts = st.none() | st.sampled_from(["", " ", ",", '"', '""', "(", ")", "\\", "\\N", "NULL", "a", "a,b", "1", "ä"])
values = st.tuples(texts, texts, st.none() | st.integers(-2, 2))
contents = st.lists(values, max_size=5)
on_the_server = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@on_the_server
@given(one=contents, other=contents)
def test_sums_are_equal_exactly_when_contents_are(scratch: Connection, one: Rows, other: Rows) -> None:
    """Any two contents, as multisets of rows."""
    assert equal(scratch, one, other) == (Counter(one) == Counter(other))


@on_the_server
@given(data=st.data(), rows=st.lists(values, min_size=1, max_size=5))
def test_sums_differ_when_one_thing_was_changed(scratch: Connection, data: st.DataObject, rows: list[Row]) -> None:
    """Contents that are as near to each other as they can be, rows in another order."""
    changed = data.draw(st.permutations(rows))
    a, b, n = changed[0]
    changes: dict[str, list[Row]] = {
        "nothing": [(a, b, n)],
        "swapped": [(b, a, n)],
        "twice": [(a, b, n)] * 2,
        "gone": [],
        "NULL": [(None, b, n)],
        "empty": [("", b, n)],
        "moved": [(f"{a},{b}", None, n)],
        "number": [(a, b, (n or 0) + 1)],
    }
    changed[:1] = changes[data.draw(st.sampled_from(list(changes)))]

    assert equal(scratch, rows, changed) == (Counter(rows) == Counter(changed))


NEAR = {
    "NULL, empty": ([(None, None, 1)], [("", None, 1)]),
    "NULL, its text": ([(None, "x", 1)], [("NULL", "x", 1)]),
    "swapped": ([("x", "y", 1)], [("y", "x", 1)]),
    "swapped crosswise": ([("x", "y", 1), ("y", "x", 1)], [("x", "x", 1), ("y", "y", 1)]),
    "exchanged between rows": ([("x", "1", 1), ("y", "2", 2)], [("x", "2", 1), ("y", "1", 2)]),
    "duplicated": ([("x", "y", 1)], [("x", "y", 1)] * 2),
    "two pairs": ([("x", "y", 1)] * 2, [("z", "y", 1)] * 2),
    "a comma within": ([("a,b", "c", 1)], [("a", "b,c", 1)]),
    "a quote within": ([('a"', "b", 1)], [("a", '"b', 1)]),
    "a blank at the end": ([("a ", None, 1)], [("a", None, 1)]),
    "another normal form": ([("\u00e4", None, 1)], [("a\u0308", None, 1)]),
    "none, one of NULLs": ([], [(None, None, None)]),
}


@pytest.mark.parametrize(("one", "other"), NEAR.values(), ids=NEAR)
def test_sums_differ_when_contents_are_near(scratch: Connection, one: Rows, other: Rows) -> None:
    """The pairs that a careless sum takes for equal."""
    assert not equal(scratch, one, other)
    assert equal(scratch, one, list(reversed(one)))


# Whatever the server, the session, the shape of the table


TYPES = {
    "bigint": "'-9223372036854775808'",
    "smallint": "'-32768'",
    "numeric": "'NaN', '-Infinity', '123456789012345678901234567890.000100', '0.00'",
    "numeric(9, 3)": "'1.5', '-0.001'",
    "real": "'1.17549435e-38', 'NaN', '-0', '0.1'",
    "float8": "'4.9e-324', '1.7976931348623157e308', 'Infinity', '0.1', '100000000000000000000'",
    "money": "'-12.34', '92233720368547758.07'",
    "boolean": "'t', 'f'",
    "text": r"""'', 'NULL', E'a\tb\\c\n', 'ünïcödé 表 🐘', '"', ',', '()'""",
    "character(4)": "'', 'ab', 'abcd'",
    "varchar(9)": "' ', 'x '",
    "name": "'a name'",
    '"char"': "'x', ''",
    "bytea": r"'', '\x00ff5c0a2e'",
    "date": "'0044-03-15 BC', 'infinity', '5874897-12-31'",
    "timestamp": "'4713-01-01 00:00:00 BC', '2025-03-30 02:30:00.000001'",
    "timestamptz": "'-infinity', '294276-12-31 23:59:59.999999+00', '2025-10-26 02:30:00+02'",
    "time": "'24:00:00'",
    "timetz": "'12:34:56.789+05:30'",
    "interval": "'-1 year 2 mons -3 days 04:05:06.789', '178000000 years', '-00:00:00.000001'",
    "json": """'{"a":  1, "a": 2}', 'null'""",
    "jsonb": """'{"b": null, "a": [1.50, "x"], "aa": {}}', '"x"'""",
    "jsonpath": "'$.a[*] ? (@ > 1)'",
    "xml": """'<a b="c">&amp;</a>'""",
    "uuid": "'00000000-0000-0000-0000-000000000000'",
    "inet": "'::ffff:1.2.3.4/120', '10.0.0.1'",
    "cidr": "'10.0.0.0/8'",
    "macaddr8": "'08:00:2b:01:02:03:04:05'",
    "bit(5)": "'10101'",
    "varbit": "''",
    "point": "'(1,-2.5)', '(1e-300,NaN)'",
    "polygon": "'((0,0),(1,1),(2,0))'",
    "circle": "'<(0.1,0),1>'",
    "line": "'{1,2,3}'",
    "int4range": "'[1,5)', 'empty', '(,3]'",
    "tstzrange": "'[2025-01-01 00:00+00,)'",
    "datemultirange": "'{[2025-01-01,2025-02-01),[2025-03-01,)}'",
    "tsvector": "'a:1A fat:2B,4C it'",
    "tsquery": "'a & b | !c <-> d:*A'",
    "text[]": """'{"a,b","\\"",NULL,"NULL",""}', '{}'""",
    "integer[]": "'{{1,2},{3,NULL}}', '[0:1]={5,6}', '{}'",
    "regclass": "'pg_class', 'public.v0'",
    "regprocedure": "'pg_catalog.now()'",
    "pg_lsn": "'16/B374D848'",
    "xid8": "'18446744073709551615'",
    "oid": "'4294967295'",
    "public.pair": r"""'("a,\"",)', '("",2025-01-01)'""",
    "public.mood[]": """'{sad,"so so"}'""",
}
"""A table for each type, with values that are hard to write."""


def test_sums_are_equal_when_majors_differ(server_of: Callable[[int], Server]) -> None:
    """Values of 48 types, extremes among them, loaded from one dump of 14."""
    statements = ["CREATE TYPE public.pair AS (a text, d date); CREATE TYPE public.mood AS ENUM ('sad', 'so so');"]
    for number, (kind, values) in enumerate(TYPES.items()):
        rows = ", ".join(f"({value}::{kind})" for value in re.split(r", (?=E?')", values))
        statements.append(f"CREATE TABLE public.v{number} (id serial, v {kind});")
        statements.append(f"INSERT INTO public.v{number} (v) VALUES {rows};")
    with Databases(server_of(14)) as databases:
        source = databases()
        source.execute("\n".join(statements))
        dump = source.dump_text()
        found = {}
        for major in MAJORS:
            target = databases(server=server_of(major))
            target.psql(dump)
            found[major] = sums_of(target)

    assert len(found[14]) == len(TYPES)
    assert len({total for _, total in found[14].values()}) == len(TYPES)
    for major in MAJORS[1:]:
        assert {name: both for name, both in found[major].items() if found[14][name] != both} == {}


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "LATIN9", "SQL_ASCII"])
def test_sums_are_equal_when_encodings_differ(new_database: Databases, encoding: str) -> None:
    """The same characters are the same content, whatever bytes they are."""
    text = """CREATE TABLE t AS SELECT i, 'größe; ''\\ ' || i AS s, '"é' AS "Spalte ä" FROM generate_series(1, 9) i"""
    utf8, other = new_database(), new_database(encoding=encoding)
    for database in (utf8, other):
        with database.connect(client_encoding="UTF8") as connection:
            connection.execute(text.encode())

    assert sums_of(other) == sums_of(utf8)


SETTINGS = (
    "DateStyle = 'German, DMY'",
    "IntervalStyle = 'iso_8601'",
    "TimeZone = 'Asia/Kolkata'",
    "extra_float_digits = '-5'",
    "bytea_output = 'escape'",
    "xmlbinary = 'hex'",
    "lc_monetary = 'C.UTF-8'",
    "search_path = app, ext, public, pg_catalog",
    "quote_all_identifiers = on",
    "standard_conforming_strings = off",
    "client_min_messages = error",
    "enable_seqscan = off",
    "max_parallel_workers_per_gather = 4",
    "jit = off",
    "row_security = off",
)


@pytest.mark.parametrize("place", ["session", "role", "database"])
def test_sums_are_equal_when_settings_differ(everything: Database, place: str) -> None:
    """Of the session, of the role, of the database: pinned are those that a value's text depends on."""
    before = sums_of(everything)
    whose = {
        "session": "SET ",
        "role": f"ALTER ROLE postgres IN DATABASE {everything.name} SET ",
        "database": f"ALTER DATABASE {everything.name} SET ",
    }[place]
    statements = [whose + each for each in SETTINGS]

    with everything.connect() as connection:
        for each in statements:
            connection.execute(each.encode())
        after = sums(connection) if place == "session" else sums_of(everything)

    assert after == before


def test_sums_stay_when_rows_and_columns_change_places(database: Database) -> None:
    """A rewrite, another order of rows, a column dropped and another put in its place."""
    database.execute(
        "CREATE TABLE t (a integer, b text, c text);"
        "INSERT INTO t SELECT i, 'b' || i, nullif('c' || i, 'c7') FROM generate_series(1, 1000) i"
    )
    before = sums_of(database)

    database.execute(
        "CREATE TABLE u (c text, gone text, b text, a integer); INSERT INTO u SELECT c, 'x', b, a FROM t ORDER BY b;"
        "ALTER TABLE u DROP gone; DROP TABLE t; ALTER TABLE u RENAME TO t; CREATE INDEX i ON t (c); CLUSTER t USING i"
    )

    assert sums_of(database) == before


def test_sums_are_equal_when_a_plain_role_reads(database: Database) -> None:
    """A superuser's table has one sum, for each role that may read it."""
    database.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t AS SELECT i, md5(i::text) m FROM generate_series(1, 99) i;"
        f"GRANT USAGE ON SCHEMA s TO {OWNER}; GRANT SELECT ON s.t TO {OWNER}"
    )

    with database.connect(OWNER) as connection:
        found = sums(connection)

    assert found == sums_of(database)
    assert found["s.t"][1] is not None


def test_table_of_another_role_is_summed_from_its_copy(new_database: Databases, project: Project) -> None:
    """To plan a query would call what its owner wrote into an index; each role can compare such a sum."""
    database = new_database(owner=OWNER)
    database.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t AS SELECT i, md5(i::text) m FROM generate_series(1, 99) i;"
        "ALTER TABLE s.t ADD twice int GENERATED ALWAYS AS (i * 2) STORED;"
        "CREATE TABLE s.bare (); INSERT INTO s.bare DEFAULT VALUES",
        OWNER,
    )
    assert all(str(total).startswith(COPIED) for _, total in sums_of(database).values())
    assert project.use(database).inv("db.dump", "--checksums", "--file=d.sql").returncode == 0
    verify = ("db.verify", "--checksums", "--file=d.sql", "--json")

    codes = [project.use(database, role=role).inv(*verify).returncode for role in (SUPERUSER, OWNER)]
    database.execute("UPDATE s.t SET m = 'other' WHERE i = 7", OWNER)
    changed = [project.use(database, role=role).inv(*verify).returncode for role in (SUPERUSER, OWNER)]

    assert (codes, changed) == ([0, 0], [6, 6])


def test_tables_are_summed_when_they_have_no_columns(database: Database) -> None:
    """Rows without a value count, and can't be told apart but by their number."""
    database.execute("CREATE TABLE one (); CREATE TABLE same (a integer); CREATE TABLE three (); CREATE TABLE none ()")
    database.execute(
        "INSERT INTO one DEFAULT VALUES; INSERT INTO same VALUES (1); ALTER TABLE same DROP a;"
        "INSERT INTO three DEFAULT VALUES; INSERT INTO three DEFAULT VALUES; INSERT INTO three DEFAULT VALUES"
    )

    found = sums_of(database)

    assert {name: rows for name, (rows, _) in found.items()} == {
        "public.none": 0,
        "public.one": 1,
        "public.same": 1,
        "public.three": 3,
    }
    assert found["public.one"] == found["public.same"]
    assert len({total for _, total in found.values()}) == 3


def test_tables_are_summed_when_they_are_as_wide_as_can_be(database: Database) -> None:
    """1,600 columns, of which the last one differs."""
    for name in ("one", "other"):
        columns = ", ".join(f"c{i} smallint DEFAULT {i}" for i in range(1600))
        database.execute(f"CREATE TABLE {name} ({columns}); INSERT INTO {name} DEFAULT VALUES")
    before = sums_of(database)

    database.execute("UPDATE other SET c1599 = 0")
    after = sums_of(database)

    assert before["public.one"] == before["public.other"] == after["public.one"] != after["public.other"]


def test_long_values_are_summed_when_only_their_storage_differs(database: Database) -> None:
    """A megabyte out of line, compressed or not, is one value; its last byte counts."""
    for name in ("plain", "packed", "changed"):
        database.execute(f"CREATE TABLE {name} (t text, b bytea)")
    database.execute("ALTER TABLE plain ALTER t SET STORAGE EXTERNAL, ALTER b SET STORAGE EXTERNAL")
    values = (
        "SELECT string_agg(md5(i::text), ''), decode(string_agg(md5(i::text), ''), 'hex')"
        " FROM generate_series(1, 33000) i"
    )
    for name in ("plain", "packed", "changed"):
        database.execute(f"INSERT INTO {name} {values}")
    database.execute("UPDATE changed SET t = overlay(t PLACING '!' FROM length(t))")

    found = sums_of(database)

    assert found["public.plain"] == found["public.packed"] != found["public.changed"]


def test_partitions_and_children_are_summed_each_for_itself(database: Database) -> None:
    """A row that moves changes two sums; a partitioned table itself has none, a parent its own rows only."""
    database.execute(
        "CREATE TABLE parted (id integer, kind text) PARTITION BY LIST (kind);"
        "CREATE TABLE part_a PARTITION OF parted FOR VALUES IN ('a');"
        "CREATE TABLE part_b PARTITION OF parted FOR VALUES IN ('b');"
        "INSERT INTO parted VALUES (1, 'a'), (2, 'b');"
        "CREATE TABLE parent (id integer); CREATE TABLE child () INHERITS (parent);"
        "INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (3)"
    )
    before = sums_of(database)

    database.execute(
        "UPDATE parted SET kind = 'b' WHERE id = 1; DELETE FROM ONLY parent WHERE id = 2; INSERT INTO child VALUES (2)"
    )
    after = sums_of(database)

    assert {name: rows for name, (rows, _) in before.items()} == {
        "public.child": 1,
        "public.parent": 2,
        "public.part_a": 1,
        "public.part_b": 1,
    }
    assert {name: rows for name, (rows, _) in after.items()} == {
        "public.child": 2,
        "public.parent": 1,
        "public.part_a": 0,
        "public.part_b": 2,
    }
    assert all(before[name][1] != after[name][1] for name in before)
    family = ("public.parent", "public.child")
    assert sum(int(before[name][1] or 0) for name in family) == sum(int(after[name][1] or 0) for name in family)
