"""Which pg_dump is taken: the server's own major first, else the lowest newer one, else a sentence."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tasks.errors import MissingProgramError
from tasks.system.pg_programs import PROGRAM_FOLDERS, Client, choose_client, find_client, how_to_install, newest_client
from tests.servers import MAJORS, provision


def client(version: str) -> Client:
    """Return a client of a version, such as `17.6`."""
    major, _, minor = version.partition(".")
    return Client(int(major), int(minor or 0), Path(f"/{version}/pg_dump"))


@pytest.mark.parametrize(
    ("found", "major", "expected"),
    [
        ("", 17, None),
        ("16.10", 17, None),
        ("14.1 15.2 16.10", 17, None),
        ("17.6", 17, "17.6"),
        ("18.0 17.6", 17, "17.6"),
        ("17.6 17.10 17.9", 17, "17.10"),
        ("16.10 18.6 19.0", 17, "18.6"),
        ("18.2 18.6 18.3", 17, "18.6"),
        ("14.0 15.0 16.0 17.0 18.0", 14, "14.0"),
        ("18.0", 13, "18.0"),
    ],
)
def test_client_of_the_servers_own_major_goes_first(found: str, major: int, expected: str | None) -> None:
    """An older one never; of newer ones the lowest major; of one major the newest."""
    chosen = choose_client(map(client, found.split()), major)

    assert chosen == (client(expected) if expected else None)


def program(folder: Path, version: str, name: str = "pg_dump", script: str = "") -> Path:
    """Lay a program into a folder that says a version, or runs a script."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(
        f"#!/bin/sh\n{script or f'echo {name} (PostgreSQL) {version}'}\n".replace("(", "\\(").replace(")", "\\)")
    )
    path.chmod(0o755)
    return path


def on_path(*folders: Path) -> Mapping[str, str]:
    """Return an environment with these folders on its PATH."""
    return {"PATH": os.pathsep.join(map(str, folders))}


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("90.6", "90.6"),
        ("90.6 (Debian 90.6-1.pgdg120+1)", "90.6"),
        ("91devel", "91.0"),
        ("91beta2", "91.0"),
    ],
)
def test_version_is_read_as_packagers_print_it(printed: str, version: str, tmp_path: Path) -> None:
    """Of a release, a package's, a beta's."""
    program(tmp_path, printed)

    found = find_client("pg_dump", 90, bin_dir=tmp_path, environ={})

    assert found.version == version
    assert found.path == tmp_path / "pg_dump"


def test_program_is_asked_for_its_version_once(tmp_path: Path) -> None:
    """It runs once for two commands of one process, and again when the file has changed."""
    runs = tmp_path / "runs"
    path = program(tmp_path, "", script=f"echo >>{runs}; echo pg_dump (PostgreSQL) 90.1")
    os.utime(path, (1, 1))

    before = [find_client("pg_dump", 90, bin_dir=tmp_path, environ={}).version for _ in range(2)]
    program(tmp_path, "90.2")
    after = find_client("pg_dump", 90, bin_dir=tmp_path, environ={}).version

    assert (before, after) == (["90.1", "90.1"], "90.2")
    assert runs.read_text() == "\n"


@pytest.mark.parametrize("major", MAJORS)
def test_version_of_real_programs_is_read(major: int) -> None:
    """Of PostgreSQL itself, both programs."""
    folder = provision(major)

    found = [find_client(name, major, bin_dir=folder, environ={}) for name in ("pg_dump", "pg_restore")]

    assert [each.major for each in found] == [major, major]


def test_every_folder_of_the_path_is_looked_through(tmp_path: Path) -> None:
    """The first on the PATH may be too old."""
    program(tmp_path / "a", "89.1")
    fitting = program(tmp_path / "b", "90.1")
    program(tmp_path / "c", "91.1")

    found = find_client("pg_dump", 90, bin_dir=None, environ=on_path(tmp_path / "a", tmp_path / "b", tmp_path / "c"))

    assert found.path == fitting


def test_configured_folder_is_the_only_one(tmp_path: Path) -> None:
    """Where `db.bin_dir` names one, nothing else is looked at."""
    program(tmp_path / "fitting", "90.1")
    program(tmp_path / "configured", "89.1")

    with pytest.raises(MissingProgramError, match=r"\b89\.1\b.*configured/pg_dump"):
        find_client("pg_dump", 90, bin_dir=tmp_path / "configured", environ=on_path(tmp_path / "fitting"))


def test_program_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    """One without its libraries, one that is no program, one that says something else: another one may serve."""
    program(tmp_path / "fails", "", script="exit 127")
    program(tmp_path / "lies", "", script="echo hello")
    broken = program(tmp_path / "no interpreter", "")
    broken.write_text("#!/nowhere/interpreter\n")
    fitting = program(tmp_path / "fits", "90.1")
    names = ("fails", "lies", "no interpreter", "nowhere", "fits")

    found = find_client("pg_dump", 90, bin_dir=None, environ=on_path(*(tmp_path / name for name in names)))

    assert found.path == fitting


def test_file_that_is_not_executable_is_no_program(tmp_path: Path) -> None:
    """It is as if it were not there."""
    program(tmp_path, "90.1").chmod(0o644)

    with pytest.raises(MissingProgramError, match=re.escape(str(tmp_path))):
        find_client("pg_dump", 90, bin_dir=tmp_path, environ={})


def test_debians_wrapper_is_passed_over(tmp_path: Path) -> None:
    """It would choose a version by rules of its own."""
    wrapper = program(tmp_path / "share", "90.9", name="pg_wrapper")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pg_dump").symlink_to(wrapper)
    real = program(tmp_path / "real", "90.1")

    found = find_client("pg_dump", 90, bin_dir=None, environ=on_path(tmp_path / "bin", tmp_path / "real"))

    assert found.path == real


def test_usual_places_are_looked_through_when_the_path_has_none() -> None:
    """Debian's, Homebrew's and PGDG's folders are named, each with a place for the version."""
    assert all(place.startswith("/") for place in PROGRAM_FOLDERS)
    assert {"/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/libpq/bin"} <= set(PROGRAM_FOLDERS)


@pytest.mark.parametrize("name", ["pg_dump", "pg_restore"])
@pytest.mark.parametrize("major", [14, 18])
def test_sentence_says_what_to_install(name: str, major: int, tmp_path: Path) -> None:
    """For Debian, for macOS and as a package, with the server's major; and that nothing was touched."""
    with pytest.raises(MissingProgramError) as raised:
        find_client(name, major, bin_dir=tmp_path, environ={})

    said = str(raised.value)
    assert raised.value.exit_code == 3
    assert said.startswith(f"No {name} was found in {tmp_path}. ")
    assert said.endswith(how_to_install(major))
    for words in (
        f"postgresql-client-{major}",
        f"postgresql@{major}",
        "pip install",
        "INVOKE_DB_BIN_DIR",
        "Nothing was",
    ):
        assert words in said


def test_newest_pg_restore_reads_an_archive(tmp_path: Path) -> None:
    """Archives of every older pg_dump, so the newest of all."""
    program(tmp_path / "a", "89.1", name="pg_restore")
    latest = program(tmp_path / "b", "91.1", name="pg_restore")
    program(tmp_path / "c", "90.1", name="pg_restore")

    found = newest_client("pg_restore", bin_dir=None, environ=on_path(*(tmp_path / name for name in "abc")))

    assert found.path == latest


def test_missing_pg_restore_is_told(tmp_path: Path) -> None:
    """Exit 3, too."""
    with pytest.raises(MissingProgramError, match="pg_restore"):
        newest_client("pg_restore", bin_dir=tmp_path, environ={})
