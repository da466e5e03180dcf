"""Names of dumps: which is the newest, which a person means, where a new one goes."""

import itertools
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dumpfiles.paths import (
    find_dump_file,
    list_dumps,
    manifest_path,
    name_stem,
    new_dump_stem,
    place_dump_file,
    sibling_paths,
    time_in_name,
)
from tasks.errors import BadInputError

WHEN = datetime(2025, 12, 21, 10, 30, 45, 123456, UTC)
NAME = "db_dump_2025-12-21T10-30-45-123Z"


def touch(folder: Path, *names: str) -> None:
    """Make empty files."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_a_dump_is_named_by_its_time_in_utc() -> None:
    """Milliseconds are cut off, not rounded up, and any time zone ends in the same name."""
    assert new_dump_stem(WHEN) == NAME
    assert new_dump_stem(WHEN.astimezone(timezone(timedelta(hours=-9)))) == NAME
    assert new_dump_stem(WHEN.replace(microsecond=999999)) == "db_dump_2025-12-21T10-30-45-999Z"
    assert new_dump_stem(WHEN.replace(microsecond=0)) == "db_dump_2025-12-21T10-30-45-000Z"


@given(st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001
def test_any_time_is_read_from_its_name(when: datetime) -> None:
    """The name says the time to the millisecond."""
    expected = when.replace(microsecond=when.microsecond // 1000 * 1000)

    assert time_in_name(new_dump_stem(when) + ".sql.zst") == expected


UNTIMED = [
    NAME,
    f"{NAME}.sql.part",
    f"{NAME}.manifest.json",
    f"{NAME}.sql.bz2",
    f"x{NAME}.sql",
    f"{NAME}.sql\n",
    f"{NAME}2.sql",
    "db_dump_2025-13-21T10-30-45-123Z.sql",
    "db_dump_2025-02-30T10-30-45-123Z.sql",
    "db_dump_2025-12-21T10-30-45-123.sql",
    "db_dump_2025-12-21T10-30-45Z.sql",
    "db_dump_2025-12-21T10:30:45.123Z.sql",
    "dump.sql",
    "",
]


@pytest.mark.parametrize("name", UNTIMED, ids=repr)
def test_other_names_have_no_time(name: str) -> None:
    """A name that is nearly one of ours isn't one."""
    assert time_in_name(name) is None


def test_the_newest_dump_is_first(tmp_path: Path) -> None:
    """By the time in their names, whatever the files' own times; those named by hand follow."""
    dumps = [
        "db_dump_2026-01-01T00-00-00-000Z.sql.gz",
        "db_dump_2025-12-31T23-59-59-999Z.sql",
        "db_dump_2025-12-31T23-59-59-998Z.sql.zst",
        "db_dump_2024-02-29T00-00-00-000Z.sql",
        "before.sql",
        "db_dump_2025-13-01T00-00-00-000Z.sql",
        "z.dump",
    ]
    for age, name in enumerate(dumps):
        touch(tmp_path, name)
        os.utime(tmp_path / name, (age, age))

    assert [path.name for path in list_dumps(tmp_path)] == dumps


def test_only_whole_dumps_are_listed(tmp_path: Path) -> None:
    """Part files, manifests, hidden files, folders and others are no dumps; nor are dumps elsewhere."""
    touch(
        tmp_path,
        f"{NAME}.sql",
        f"{NAME}.part",
        f"{NAME}.sql.part",
        f".{NAME}.sql.gz.part",
        f"{NAME}.manifest.json",
        f"{NAME}.manifest.json.part",
        ".gitignore",
        ".hidden.sql",
        "notes.txt",
        "x.sql.part",
        "x.dump.part",
    )
    touch(tmp_path / "folder.sql", f"{NAME}.sql")
    (tmp_path / "dangling.sql").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.sql")

    assert list_dumps(tmp_path) == [tmp_path / f"{NAME}.sql"]
    assert list_dumps(tmp_path / "missing") == []


STEMS = {
    "a.sql": "a",
    "a.sql.gz": "a",
    "a.sql.zst": "a",
    "a.b.sql.gz": "a.b",
    "a.sql.sql": "a.sql",
    "a.dump": "a.dump",
    "a.gz": "a.gz",
}


@pytest.mark.parametrize(("name", "expected"), STEMS.items())
def test_a_dump_and_its_compressed_form_share_a_manifest(tmp_path: Path, name: str, expected: str) -> None:
    """The manifest is named by the stem, so that a gzip by hand leaves it beside its dump."""
    assert name_stem(tmp_path / name) == expected
    assert manifest_path(tmp_path / name) == tmp_path / f"{expected}.manifest.json"


def test_a_dump_is_found_by_path_and_by_name(tmp_path: Path) -> None:
    """As typed, below the folder of the dumps, or bare; what is here goes before what is there."""
    cwd, dumps = tmp_path / "here", tmp_path / "dumps"
    touch(cwd, "both.sql", "here.sql")
    touch(dumps, "both.sql", "there.sql", "it's; a dump\n.sql")
    touch(dumps / "old", "older.sql")

    assert find_dump_file("here.sql", dumps, cwd) == cwd / "here.sql"
    assert find_dump_file("both.sql", dumps, cwd) == cwd / "both.sql"
    assert find_dump_file("there.sql", dumps, cwd) == dumps / "there.sql"
    assert find_dump_file("old/older.sql", dumps, cwd) == dumps / "old" / "older.sql"
    assert find_dump_file("../dumps/there.sql", dumps, cwd) == cwd / "../dumps/there.sql"
    assert find_dump_file(str(dumps / "there.sql"), dumps, cwd) == dumps / "there.sql"
    assert find_dump_file("it's; a dump\n.sql", dumps, cwd) == dumps / "it's; a dump\n.sql"


NOT_FOUND: dict[str, tuple[str, str | None]] = {
    "empty": ("", None),
    "blank": ("  ", None),
    "NUL": ("a\0b.sql", None),
    "missing": ("missing.sql", None),
    "a folder": ("folder", "pg_restore"),
    "here itself": (".", None),
    "a pipe": ("pipe.sql", None),
    "dangling link": ("dangling.sql", None),
    "link to itself": ("loop.sql", None),
    "below a file": ("file.sql/x.sql", None),
    "a device": ("/dev/zero", None),
    "too long": ("x" * 5000 + ".sql", None),
    "too long once compressed": ("x" * 249 + ".sql", None),
    "long in a folder": ("folder/" + "x" * 300 + ".sql", None),
}


@pytest.mark.parametrize(("value", "named"), NOT_FOUND.values(), ids=NOT_FOUND.keys())
def test_what_is_no_dump_is_not_found(tmp_path: Path, value: str, named: str | None) -> None:
    """Whatever a person types after `--file=` ends in a sentence."""
    touch(tmp_path / "dumps")
    touch(tmp_path / "folder")
    touch(tmp_path, "file.sql")
    os.mkfifo(tmp_path / "pipe.sql")
    (tmp_path / "dangling.sql").symlink_to("nowhere")
    (tmp_path / "loop.sql").symlink_to("loop.sql")

    with pytest.raises(BadInputError, match=named):
        find_dump_file(value, tmp_path / "dumps", tmp_path)


def test_a_new_dump_goes_where_its_name_says(tmp_path: Path) -> None:
    """A bare name lies in the folder of the dumps, made or not; one with a folder is taken as typed."""
    cwd, dumps = tmp_path, tmp_path / "dumps"
    touch(tmp_path / "other")

    assert place_dump_file("new.sql", dumps, cwd) == dumps / "new.sql"
    assert place_dump_file("new.sql.gz", dumps, cwd) == dumps / "new.sql.gz"
    assert place_dump_file("other/new.sql.zst", dumps, cwd) == cwd / "other" / "new.sql.zst"
    assert place_dump_file("./new.sql", dumps, cwd) == cwd / "new.sql"
    assert place_dump_file("dumps/new.sql", dumps, cwd) == dumps / "new.sql"
    assert place_dump_file(str(tmp_path / "other" / "new.sql"), dumps, cwd) == tmp_path / "other" / "new.sql"


NO_PLACE = {
    "empty": "",
    "no suffix": "new",
    "other suffix": "new.dump",
    "upper case": "new.SQL",
    "NUL": "a\0b.sql",
    "exists": "there.sql",
    "exists, compressed": "there.sql.zst",
    "exists, expanded": "packed.sql",
    "exists as a link": "dangling.sql",
    "no such folder": "nowhere/new.sql",
    "a file for a folder": "dumps/there.sql/new.sql",
    "hidden": ".new.sql",
    "suffix alone": "dumps/.sql",
    "too long": "x" * 5000 + ".sql",
}


@pytest.mark.parametrize("value", NO_PLACE.values(), ids=NO_PLACE.keys())
def test_a_new_dump_never_takes_anothers_place(tmp_path: Path, value: str) -> None:
    """A name that can't be, or whose dump or manifest would be another's, is refused."""
    dumps = tmp_path / "dumps"
    touch(dumps, "there.sql", "packed.sql.gz")
    (dumps / "dangling.sql").symlink_to("nowhere")

    with pytest.raises(BadInputError):
        place_dump_file(value, dumps, tmp_path)


@pytest.mark.parametrize(
    ("one", "other"), list(itertools.product(["a.sql", "a.sql.gz", "a.sql.zst"], repeat=2)), ids=lambda name: name[1:]
)
def test_siblings_are_those_of_one_manifest(tmp_path: Path, one: str, other: str) -> None:
    """Every form of a dump sees every other, and nothing else."""
    touch(tmp_path, one, "ab.sql", "a.manifest.json", "a.sql.part", "b.sql")

    assert sibling_paths(tmp_path / other) == [tmp_path / one]
