"""`db.show` begins at the frame of a table, and shows the rows that a reading from the start shows."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.config.settings import Settings
from tasks.dump.dump import make_dump
from tasks.dump.request import DumpRequest
from tasks.dumpfiles.convert import convert_dump
from tasks.dumpfiles.paths import manifest_path
from tasks.dumpfiles.table_rows import RowsRequest, read_table_rows
from tasks.dumpformat.compression import FRAME_SPACING, Compression
from tasks.errors import BadInputError
from tasks.progress import Silence
from tests.flows import content_of, ran, restore, settings_of
from tests.framed_dumps import (
    HEAD,
    TRAILER,
    Change,
    copied,
    random_rows,
    rewrite_seek_points,
    seek_points_of,
    store_framed_dump,
)
from tests.servers import Server
from tests.support import Databases, Project

ALL = list(Compression)
LARGE = (FRAME_SPACING >> 20) + 1
ODD = 'public."a ""b"".c"'
# A row that looks like the header of another table, and one that looks like the end of the data.
ROWS = [b"1\n", b"2\n", b"\n", b"COPY public.b (id) FROM stdin;\n", b"\\\\.\n"]
TEXT = b"".join(
    (
        HEAD,
        copied("public.a", b"1\n2\n"),
        copied("public.b", b"3\n"),
        copied(ODD, b"4\n5\n"),
        copied("public.b", b"6\n"),
        copied("public.last", b"7\n8\n"),
        TRAILER,
    )
)
TABLES = ("public.a", "public.b", ODD, "public.last")


def outcome(project: Project, path: Path, table: str, **keys: Any) -> object:
    """Return the columns and rows of each batch with rows or of a COPY's header, or the class of the error."""
    request = RowsRequest(**{"file": path.name, "table": table, **keys})
    found: list[object] = []
    try:
        for batch in read_table_rows(settings_of(project), request, Silence()):
            found += batch.lines or [batch.columns]
    except BadInputError:
        return found, BadInputError
    return found


def from_start(project: Project, path: Path, table: str, **keys: Any) -> object:
    """Return the same of a reading without seek points, which are put back."""
    points = seek_points_of(path)
    rewrite_seek_points(path, lambda _: [])
    try:
        return outcome(project, path, table, **keys)
    finally:
        rewrite_seek_points(path, lambda _: points)


@pytest.mark.parametrize("compression", ALL)
@pytest.mark.parametrize(("spacing", "frames"), [(1, 4), (60, 3), (10_000, 0)])
def test_each_table_has_the_rows_of_a_full_read(
    project: Project, compression: Compression, spacing: int, frames: int
) -> None:
    """The first, the last, one with two COPYs and one with an odd name; in frames of one table, of several, of all."""
    path = store_framed_dump(project.dumps, TEXT, compression, spacing=spacing)

    assert content_of(path) == TEXT
    assert len(seek_points_of(path)) == frames
    for table in TABLES:
        found = outcome(project, path, table)
        assert found == from_start(project, path, table)
        assert isinstance(found, list)
    assert outcome(project, path, "public.b") == [("id",), b"3", ("id",), b"6"]


@pytest.mark.parametrize("compression", ALL)
def test_what_precedes_the_frame_is_not_read(project: Project, compression: Compression) -> None:
    """The rows of the last table are shown, and others not, where the middle of the file is destroyed."""
    text = copied("public.a", random_rows(20)) + copied('public."é"', b"1\n") + copied("public.zz", b"2\n")
    head = HEAD.replace(b"UTF8", b"LATIN1")
    path = store_framed_dump(
        project.dumps, head + text.decode().encode("latin-1") + TRAILER, compression, spacing=FRAME_SPACING
    )
    data = bytearray(path.read_bytes())
    middle = len(data) * 2 // 3
    data[middle : middle + 64] = bytes(64)
    path.write_bytes(data)

    assert [each["tables"] for each in seek_points_of(path)] == [["public.é", "public.zz"]]
    assert outcome(project, path, "é") == [("id",), b"1"]
    assert outcome(project, path, "zz") == [("id",), b"2"]
    assert isinstance(from_start(project, path, "zz"), tuple)


def moved(by: int) -> Change:
    """Return a change of all positions."""
    return lambda points: [{**each, "file_offset": each["file_offset"] + by} for each in points]


def at(offset: int) -> Change:
    """Return a change of all positions to one."""
    return lambda points: [{**each, "file_offset": offset} for each in points]


def listed(*tables: str) -> Change:
    """Return a change of the tables of all frames."""
    return lambda points: [{**each, "tables": list(tables)} for each in points]


FORGED: dict[str, Change] = {
    **{f"moved by {by}": moved(by) for by in (-9, -4, -1, 1, 4, 9)},
    **{f"at {offset}": at(offset) for offset in (-(1 << 62), -1, 0, 1, 100, 1 << 20, (1 << 63) - 1)},
    "backwards": lambda points: [
        {**each, "file_offset": other["file_offset"]} for each, other in zip(points, points[::-1], strict=True)
    ],
    "one frame on": lambda points: [{**each, "file_offset": other["file_offset"]} for each, other in pairwise(points)],
    "all in the last": lambda points: [{**points[-1], "tables": ["public.last", *TABLES]}],
    "no name first": listed("", *("public.a", "public.b", "public.last")),
    "not the first": lambda points: [{**points[-1], "tables": ["public.a", "public.last"]}],
    "no tables": listed(),
}


@pytest.mark.parametrize("compression", ALL)
@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
def test_a_wrong_seek_point_changes_no_row(project: Project, compression: Compression, forged: Change) -> None:
    """Outside the file, in the middle of a frame, at the frame of another table, for a table that is not in it."""
    path = store_framed_dump(project.dumps, TEXT, compression)
    rewrite_seek_points(path, forged)

    for table in TABLES:
        found = outcome(project, path, table)
        assert found == from_start(project, path, table)
        assert isinstance(found, list)


@pytest.mark.parametrize("compression", ALL)
def test_an_edited_dump_is_read_from_its_start(project: Project, compression: Compression) -> None:
    """The tables have changed places, and the manifest is that of the dump before, but for the size or not."""
    other = b"".join((HEAD, copied("public.last", b"7\n8\n9\n"), copied("public.a", b"1\n"), TRAILER))
    edited = store_framed_dump(project.dumps, other, compression).read_bytes()
    path = store_framed_dump(project.dumps, TEXT, compression)
    path.write_bytes(edited)

    for _ in range(2):
        assert outcome(project, path, "public.last") == [("id",), b"7", b"8", b"9"]
        assert outcome(project, path, "public.a") == [("id",), b"1"]
        rewrite_seek_points(path, lambda points: points)


@pytest.mark.parametrize("compression", ALL)
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.8, 0.97])
def test_a_cut_dump_has_the_result_of_a_full_read(project: Project, compression: Compression, kept: float) -> None:
    """Also if the manifest has the size of the part that is left."""
    path = store_framed_dump(project.dumps, TEXT, compression)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])

    for _ in range(2):
        for table in TABLES:
            assert outcome(project, path, table) == from_start(project, path, table)
        rewrite_seek_points(path, lambda points: points)


def test_settings_at_the_start_hold_in_each_frame(project: Project) -> None:
    """Names are read in the dump's encoding, and literals between two COPYs of a table by its setting."""
    head = HEAD.replace(b"UTF8", b"LATIN1").replace(b"= on", b"= off")
    parts = (copied("public.a", b"1\n"), copied('public."é"', b"2\n"), b"SELECT '\\'';\n", copied('public."é"', b"3\n"))
    text = head + b"".join(parts).decode().encode("latin-1") + TRAILER
    path = store_framed_dump(project.dumps, text, Compression.ZSTD)

    assert [each["tables"] for each in seek_points_of(path)] == [["public.a"], ["public.é"]]
    assert outcome(project, path, "é") == [("id",), b"2", ("id",), b"3"]


STATEMENTS = [
    b"-- a comment\n",
    b"SELECT 'COPY public.b (id) FROM stdin;\n1\n';\n",
    b"INSERT INTO public.b VALUES (1);\n",
    b"INSERT INTO public.a VALUES (1);\n",
]
blocks = st.builds(copied, st.sampled_from(TABLES), st.lists(st.sampled_from(ROWS), max_size=3).map(b"".join))


@st.composite
def dumps(draw: st.DrawFn) -> bytes:
    """Return a dump with several COPYs of some tables, INSERTs, and literals that depend on a setting."""
    standard = draw(st.booleans())
    # With the other setting, the literal does not end here.
    literal = b"SELECT '\\';\n" if standard else b"SELECT '\\'';\n"
    parts = draw(st.lists(st.one_of(blocks, blocks, st.sampled_from([literal, *STATEMENTS])), max_size=9))
    head = HEAD if standard else HEAD.replace(b"= on", b"= off")
    return head + b"CREATE TABLE public.a (id text);\n" + b"".join(parts) + TRAILER


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=dumps(),
    compression=st.sampled_from(ALL),
    spacing=st.sampled_from([1, 1, 60, 150]),
    wrong=st.sampled_from([0, 0, 1, -1]),
    limit=st.integers(0, 3),
    match=st.sampled_from(["", "", "1"]),
)
def test_any_dump_has_the_rows_of_a_full_read(
    project: Project, text: bytes, compression: Compression, spacing: int, wrong: int, limit: int, match: str
) -> None:
    """Also if the row counts of the manifest are wrong, and for a table of which INSERTs are refused."""
    path = store_framed_dump(project.dumps, text, compression, spacing=spacing)
    rewrite_seek_points(path, lambda points: points, rows=wrong)

    for table in TABLES:
        found = outcome(project, path, table, limit=limit, match=match)
        assert found == from_start(project, path, table, limit=limit, match=match)


SOURCE = f"""
CREATE TYPE kind AS ENUM ('a', 'b', 'c');
CREATE TABLE a_large AS SELECT i, repeat(md5(i::text), 32) FROM generate_series(1, {LARGE * 1024}) i;
CREATE TABLE b_hashed (k kind, v int) PARTITION BY HASH (k);
CREATE TABLE b_hashed_0 PARTITION OF b_hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE b_hashed_1 PARTITION OF b_hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO b_hashed SELECT ('{{a,b,c}}'::kind[])[1 + i % 3], i FROM generate_series(1, 100) i;
CREATE TABLE "c "" é" (id int, "t""ä" text);
INSERT INTO "c "" é" VALUES (1, 'ö');
CREATE TABLE d_empty (id int);
CREATE TABLE e_last (id int);
INSERT INTO e_last SELECT generate_series(1, 100);
"""


NAMES = ("b_hashed", "b_hashed_0", "b_hashed_1", '"c "" é"', "d_empty", "e_last")


def values_of(settings: Settings, path: Path, table: str) -> list[list[str | None]] | None:
    """Return the values of all rows; None if the dump has no rows of this table."""
    try:
        batches = list(read_table_rows(settings, RowsRequest(file=path.name, table=table), Silence()))
    except BadInputError:
        return None
    return [row for batch in batches for row in batch.values()]


@pytest.mark.majors(18)
@pytest.mark.parametrize("encoding", ["UTF8", "SQL_ASCII"])
def test_frames_of_a_real_dump(new_database: Databases, project: Project, encoding: str) -> None:
    """Partitions dumped as one table and odd names have all rows, also after each change of the compression."""
    database = new_database(encoding=encoding, options="LOCALE 'C'")
    database.psql(SOURCE)
    settings = settings_of(project, database)
    made = make_dump(settings, DumpRequest(compression=Compression.ZSTD), Silence())
    assert made is not None
    path = made.path
    restore(project, new_database(encoding=encoding, options="LOCALE 'C'"), path)
    ran(project.use(database), "db.rehearse", f"--file={path.name}", "--jobs=2")

    for compression in (Compression.ZSTD, Compression.NONE, Compression.GZIP):
        path = convert_dump(settings, path.name, compression, Silence()).path
        points = seek_points_of(path)
        found = [values_of(settings, path, table) for table in NAMES]
        rewrite_seek_points(path, lambda _: [])
        assert found == [values_of(settings, path, table) for table in NAMES]
        assert [None if each is None else len(each) for each in found] == [100, None, None, 1, 0, 100]
        assert [each["tables"] for each in points] == [
            ["public.b_hashed", 'public."c "" é"', "public.d_empty", "public.e_last"]
        ]
        rewrite_seek_points(path, lambda _, points=points: points)  # type: ignore[misc]


@pytest.fixture(scope="module")
def many_tables(server: Server) -> bytes:
    """Return the dump of 400 tables."""
    with Databases(server) as new_database:
        source = new_database()
        source.execute("".join(f"CREATE TABLE t{n} AS SELECT {n} AS id;" for n in range(400)))
        return source.dump_text()


@pytest.mark.majors(18)
@pytest.mark.parametrize("compression", ALL)
def test_many_frames_are_restored(
    many_tables: bytes, new_database: Databases, project: Project, compression: Compression
) -> None:
    """A foreign dump with a frame for each of 400 tables, in one transaction and with several sessions."""
    target = new_database()
    path = store_framed_dump(project.dumps, many_tables, compression)
    assert len(seek_points_of(path)) == 400
    manifest_path(path).unlink()

    restore(project, target, path)
    ran(project.use(target), "db.rehearse", f"--file={path.name}", "--jobs=2")

    assert target.dump_text() == many_tables
