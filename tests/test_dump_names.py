"""What a person may give to `--file=`: beginnings of names and ids, besides paths and names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tasks.dumpfiles.paths import UNDO, find_dump_file, manifest_path, read_manifest
from tasks.errors import BadInputError
from tests.stored_dumps import store_dump

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import Project

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)


@pytest.fixture
def dumps(tmp_path: Path) -> dict[str, Path]:
    """Lay dumps of three days, two that a person named and a safety dump into a folder."""
    folder = tmp_path / "dumps"
    folder.mkdir()
    found = {str(days): store_dump(folder, NOW - timedelta(days=days)) for days in range(3)}
    found["billing"] = store_dump(folder, NOW, name="before-billing.sql")
    found["prod"] = store_dump(folder, NOW, name="prod.sql")
    manifest_path(found["prod"]).unlink()
    found["safety"] = store_dump(folder / "undo", NOW, prefix=UNDO)
    return found


def id_of(path: Path) -> str:
    """Return a dump's id."""
    manifest = read_manifest(path)
    assert manifest is not None
    return manifest.id


def found_by(value: str, dumps: dict[str, Path], *, broken: bool = False) -> Path:
    """Find a dump of the folder, from the folder above it."""
    folder = dumps["0"].parent
    return find_dump_file(value, folder, folder.parent, broken=broken)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("db_dump_2026-03-19", "1"),
        ("before", "billing"),
        ("befo", "billing"),
        ("before-billing", "billing"),
        ("prod", "prod"),
        ("prod.sq", "prod"),
        ("undo/db_undo", "safety"),
        ("db_undo_", "safety"),
    ],
)
def test_beginning_of_a_name_is_enough(value: str, key: str, dumps: dict[str, Path]) -> None:
    """Where it is that of one dump alone, a safety dump or not."""
    assert found_by(value, dumps) == dumps[key]


@pytest.mark.parametrize("digits", [4, 6, 16])
@pytest.mark.parametrize("key", ["0", "2", "billing", "safety"])
def test_beginning_of_an_id_is_enough(key: str, digits: int, dumps: dict[str, Path]) -> None:
    """Of four characters or more, in capitals or not."""
    name = id_of(dumps[key])[:digits]

    assert found_by(name, dumps) == found_by(name.upper(), dumps) == dumps[key]


def test_too_short_a_beginning_of_an_id_is_named_so(dumps: dict[str, Path]) -> None:
    """It is not said that there is no such dump, because there is one."""
    with pytest.raises(BadInputError, match="short"):
        found_by(id_of(dumps["0"])[:3], dumps)


@pytest.mark.parametrize("value", ["db_dump", "db_dump_2026-03-1", "db_d"])
def test_several_candidates_are_listed(value: str, dumps: dict[str, Path]) -> None:
    """With their ids; none is chosen."""
    with pytest.raises(BadInputError) as refused:
        found_by(value, dumps)

    said = str(refused.value)
    assert f"{dumps['1'].name} ({id_of(dumps['1'])[:4]})" in said
    assert f"{dumps['2'].name} ({id_of(dumps['2'])[:4]})" in said
    assert "Nothing was touched" in said


def test_a_name_and_an_id_that_begin_alike_are_two_candidates(dumps: dict[str, Path]) -> None:
    """An id is nothing more than a name."""
    name = id_of(dumps["0"])[:4]
    store_dump(dumps["0"].parent, NOW, name=f"{name}.sql")

    with pytest.raises(BadInputError, match=rf"{name}\.sql\b"):
        found_by(name, dumps)


@pytest.mark.parametrize("value", ["bef", "db_", "zzzz", "0", "*", "----", "illing", "sql"])
def test_what_begins_no_name_is_not_found(value: str, dumps: dict[str, Path]) -> None:
    """Three characters are too few; the middle of a name is no beginning, and a note names nothing."""
    with pytest.raises(BadInputError):
        found_by(value, dumps)


def test_a_path_goes_before_a_beginning(dumps: dict[str, Path]) -> None:
    """A file of exactly that name is meant."""
    path = dumps["0"].parent / "befo"
    path.write_bytes(b"x")

    assert found_by("befo", dumps) == path


def test_a_whole_name_with_its_suffix_is_no_beginning(dumps: dict[str, Path]) -> None:
    """`prod.sql` does not choose `prod.sql.gz`; it is named."""
    dumps["prod"].rename(dumps["prod"].with_name("prod.sql.gz"))

    with pytest.raises(BadInputError, match=r"prod\.sql\.gz"):
        found_by("prod.sql", dumps)


@pytest.mark.parametrize("value", ["id", "db_dump_2026-03-19"])
def test_beginning_never_chooses_a_broken_dump(value: str, dumps: dict[str, Path]) -> None:
    """It is refused with the reason, for all but those who delete it; its full name is taken."""
    value = id_of(dumps["1"])[:5] if value == "id" else value
    dumps["1"].write_bytes(b"cut")

    with pytest.raises(BadInputError):
        found_by(value, dumps)
    assert found_by(value, dumps, broken=True) == dumps["1"]
    assert found_by(dumps["1"].name, dumps) == dumps["1"]


def test_every_task_takes_an_id(project: Project) -> None:
    """Those that read a dump without a server, and those that need one, which they miss only then."""
    path = store_dump(project.dumps, NOW)
    path.write_text("--\n-- PostgreSQL database dump\n--\n--\n-- PostgreSQL database dump complete\n--\n")
    manifest_path(path).unlink()
    store_dump(project.dumps, NOW - timedelta(days=1))

    inspected = project.inv("db.inspect", "--file=db_dump_2026-03-20")
    refused = [project.inv(task, "--file=db_dump_2026") for task in ("db.inspect", "db.gzip", "db.restore")]

    assert inspected.returncode == 0, inspected.stderr
    assert path.name in inspected.stdout
    assert [each.returncode for each in refused] == [2, 2, 2]
