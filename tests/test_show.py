"""`db.show` prints the rows of a table in a dump, as the database had them, without a server."""

import json
import os
from typing import Any

import pytest

from tasks.config.settings import Settings
from tasks.dump.dump import make_dump
from tasks.dump.request import DumpRequest
from tasks.dumpfiles.table_rows import RowsRequest, read_table_rows
from tasks.dumpformat.compression import Compression
from tasks.dumpformat.copy_text import escape_value, unescape_value
from tasks.errors import BadInputError
from tasks.progress import Silence
from tests.flows import Said, settings_of, write
from tests.support import Database, Project

ODD_VALUES = [
    "",
    "\\N",
    "NULL",
    "a\tb",
    "two\nlines",
    "back\\slash\\n",
    "\\.",
    "é\u2028\x1b[31m",
    "\x08\x0b\x0c\r",
    None,
]
SCRIPT = """
CREATE SCHEMA app;
CREATE TABLE app."Odd" (id int PRIMARY KEY, "a ""b" text, c text[]);
CREATE TABLE public."Odd" (id int);
CREATE TABLE public.empty (id int, name text);
CREATE TABLE public.no_columns ();
INSERT INTO public.no_columns DEFAULT VALUES;
CREATE TABLE public.event (id bigint, text text) PARTITION BY RANGE (id);
CREATE TABLE public.event_1 PARTITION OF public.event FOR VALUES FROM (0) TO (10);
INSERT INTO public.event SELECT i, repeat('x', i::int) FROM generate_series(0::bigint, 9) i;
"""
FOREIGN = """\
SET client_encoding = '{encoding}';
COPY public.a (id, name) FROM stdin;
1\tone
2\t{text}
\\.
COPY other.a (id) FROM stdin;
1
\\.
COPY public.b (id, name) FROM stdin;
1\t\\N
\\.
-- PostgreSQL database dump complete
"""


def shown(settings: Settings, table: str, **keys: Any) -> list[dict[str, str | None]]:
    """Read rows in this process."""
    request = RowsRequest(**{"file": "", "table": table, **keys})
    batches = read_table_rows(settings, request, Silence())
    return [dict(zip(batch.columns, row, strict=True)) for batch in batches for row in batch.values()]


@pytest.fixture
def settings(database: Database, project: Project) -> Settings:
    """Return settings of a project with a dump."""
    database.execute(SCRIPT)
    with database.connect() as connection:
        for number, value in enumerate(ODD_VALUES):
            connection.execute('INSERT INTO app."Odd" VALUES (%s, %s, %s)', [number, value, [value, "x"]])
    settings = settings_of(project, database)
    make_dump(settings, DumpRequest(compression=Compression.ZSTD), Silence())
    return settings


@pytest.mark.majors(14, 18)
def test_values_are_those_of_the_database(settings: Settings, database: Database) -> None:
    """Odd characters, NULL and the empty text."""
    with database.connect() as connection:
        found = connection.execute('SELECT id::text, "a ""b", c::text FROM app."Odd" ORDER BY id').fetchall()

    assert shown(settings, "app.Odd") == [dict(zip(("id", 'a "b', "c"), row, strict=True)) for row in found]


@pytest.mark.parametrize(("table", "rows"), [("empty", 0), ("no_columns", 1), ("public.Odd", 0), ("event_1", 10)])
def test_tables_of_every_kind_are_found(settings: Settings, table: str, rows: int) -> None:
    """Without rows, without columns, of two schemas, a partition."""
    assert len(shown(settings, table)) == rows


@pytest.mark.parametrize("table", ["Odd", "odd", "nothing", "app", "event"])
def test_a_name_that_means_no_or_two_tables_is_refused(settings: Settings, table: str) -> None:
    """Before a row is printed."""
    with pytest.raises(BadInputError):
        shown(settings, table)


@pytest.mark.parametrize(
    ("match", "found"),
    [("two\nlines", [4]), ("N", [1, 2]), ("n", [4, 5]), ("\t", [3]), ("\\", [1, 5, 6]), ("\x1b[", [7]), ("absent", [])],
)
def test_match_looks_into_values_and_not_into_their_form_in_the_dump(
    settings: Settings, match: str, found: list[int]
) -> None:
    """A line's end, a tab and a backslash are escaped in the dump, and a search for `n` must not find the escape."""
    rows = shown(settings, "app.Odd", match=match)

    assert [int(row["id"] or "") for row in rows if match in (row['a "b'] or "")] == found
    assert all(any(match in value for value in row.values() if value is not None) for row in rows)


def test_limit_ends_the_reading(settings: Settings) -> None:
    """With and without a search; a negative one is refused."""
    assert len(shown(settings, "app.Odd", limit=3)) == 3
    assert len(shown(settings, "event_1", match="xx", limit=3)) == 3
    with pytest.raises(BadInputError):
        shown(settings, "event_1", limit=-1)


def test_rows_of_a_cut_dump_come_with_a_warning(settings: Settings, project: Project) -> None:
    """Even if the cut is behind the rows; the size in the manifest tells."""
    (path,) = project.dumps.glob("*.sql.zst")
    rows, report = shown(settings, "app.Odd", file=path.name), Said()
    os.truncate(path, path.stat().st_size - 1)

    batches = read_table_rows(settings, RowsRequest(file=path.name, table="app.Odd"), report)

    assert sum(len(batch.lines) for batch in batches) == len(rows) > 0
    assert len(report.warnings) == 1


@pytest.mark.parametrize(("encoding", "codec"), [("LATIN1", "latin-1"), ("WIN1251", "cp1251"), ("UTF8", "utf-8")])
def test_foreign_dumps_are_read_in_their_own_encoding(
    database: Database, project: Project, encoding: str, codec: str
) -> None:
    """Without a manifest, too, and for a search."""
    text = "Ж" if encoding == "WIN1251" else "é"
    path = project.dumps / "foreign.sql"
    path.write_bytes(FOREIGN.format(encoding=encoding, text=text).encode(codec))
    settings = settings_of(project, database)

    assert shown(settings, "public.a", file="foreign.sql", match=text) == [{"id": "2", "name": text}]
    assert shown(settings, "b", file="foreign.sql") == [{"id": "1", "name": None}]
    assert shown(settings, '"b"', file="foreign.sql") == [{"id": "1", "name": None}]
    assert shown(settings, "B", file="foreign.sql") == [{"id": "1", "name": None}]


@pytest.mark.parametrize(
    ("table", "text"),
    [("a", FOREIGN), ("nothing", FOREIGN), ("b", FOREIGN[: FOREIGN.index("\\N")])],
    ids=["ambiguous", "absent", "cut"],
)
def test_what_a_foreign_dump_can_not_give_is_refused(
    database: Database, project: Project, table: str, text: str
) -> None:
    """A name of two tables, of none, and a file that is cut."""
    write(project, "foreign.sql", text.format(encoding="UTF8", text="x").encode())

    with pytest.raises(BadInputError):
        shown(settings_of(project, database), table, file="foreign.sql")


def test_rows_written_as_inserts_are_refused(database: Database, project: Project) -> None:
    """Rather than to say that there are none."""
    write(project, "inserts.sql", b"INSERT INTO public.a VALUES (1);\n-- PostgreSQL database dump complete\n")

    with pytest.raises(BadInputError):
        shown(settings_of(project, database), "a", file="inserts.sql")


@pytest.mark.parametrize("value", [value for value in ODD_VALUES if value is not None])
def test_copy_text_is_reversible(value: str) -> None:
    """Whatever a value holds."""
    assert unescape_value(escape_value(value.encode())) == value.encode()


def test_task_prints_rows_that_no_terminal_obeys(settings: Settings, project: Project) -> None:
    """A header and rows with tabs, control characters escaped; or a JSON object a line."""
    assert settings
    plain = project.inv("db.show", "--table=app.Odd")
    lines = project.inv("db.show", "--table=app.Odd", "--match=[31m", "--json").stdout.splitlines()

    assert plain.returncode == 0
    assert plain.stdout.splitlines()[0] == 'id\ta "b\tc'
    assert "\x1b" not in plain.stdout
    assert len(plain.stdout.splitlines()) == 1 + len(ODD_VALUES)
    assert [json.loads(line)['a "b'] for line in lines] == [ODD_VALUES[7]]
    assert project.inv("db.show", "--table=absent").returncode == 2
    assert project.inv("db.show").returncode == 2
