"""Disks without room, folders that go, and odd names: a dump is whole or it isn't there, and nothing is lost."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tasks.dump.destination import check_free_space, choose_destination
from tasks.dumpformat.compression import Compression
from tasks.errors import BadInputError, OperationFailedError
from tasks.postgres.connection import connected, server_facts
from tasks.progress import Silence
from tasks.restore.plan import plan_restore
from tasks.restore.request import RestoreRequest
from tasks.restore.restore import restore_dump
from tests.dump_programs import GATE, NOISE, holds_lock, inv_on_a_disk, wrapped
from tests.flows import Said, dumped, settings_of
from tests.marks import Mark
from tests.support import eventually

if TYPE_CHECKING:
    from tests.support import Database, Project

TABLE = "CREATE TABLE public.t AS SELECT i FROM generate_series(1, 1000) AS i; ANALYZE public.t"


# Full, read-only, gone


@pytest.mark.root
def test_dump_leaves_nothing_when_only_its_manifest_finds_no_room(database: Database, project: Project) -> None:
    """The dump itself fits; the file system has no room for one file more."""
    database.execute(TABLE)

    result = inv_on_a_disk(project.use(database), "nr_inodes=3", "db.dump")

    assert result.returncode == 5
    assert str(project.dumps) in result.stderr
    assert result.stdout == ".gitignore\n"


@pytest.mark.parametrize("flags", [(), ("--gzip",), ("--zstd",)], ids=["none", "gzip", "zstd"])
def test_dump_leaves_nothing_when_the_folder_vanishes(
    flags: tuple[str, ...], database: Database, project: Project
) -> None:
    """Removed while pg_dump writes: a sentence, and no traceback."""
    database.execute(TABLE + ";" + NOISE)
    folder = wrapped(project, database, f'"$REAL" "$@" | {{ {GATE}; cat; }}')
    project.use(database)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(project.inv, "db.dump", *flags, env={"INVOKE_DB_BIN_DIR": str(folder)})
        eventually(lambda: holds_lock(database, "pg_dump", "noise"), "pg_dump's lock")
        shutil.rmtree(project.dumps)
        (folder / "go").touch()
        result = running.result(timeout=60)

    assert result.returncode == 5
    assert "Traceback" not in result.stderr
    assert not project.dumps.exists() or not [*project.dumps.glob("db_dump*")]


def test_restore_leaves_the_database_when_the_folder_vanishes(database: Database, project: Project) -> None:
    """The dump is gone between its check and the restore."""
    database.execute(TABLE)
    path = dumped(settings_of(project, database)).path
    mark = Mark(database)
    plan = plan_restore(settings_of(project, database), RestoreRequest(str(path), clean=True), Silence())

    shutil.rmtree(project.dumps)
    with pytest.raises(OperationFailedError):
        restore_dump(plan, Silence())

    assert mark.is_untouched()


# Names


@pytest.mark.parametrize(
    "name",
    [
        "with blanks.sql",
        'it\'s "quoted".sql',
        "two\nlines.sql.gz",
        "-dash.sql",
        "--file=x.sql",
        "ünï 🐘.sql.zst",
        "x" * 200 + ".sql",
    ],
    ids=["blanks", "quotes", "newline", "dash", "flag", "letters", "long"],
)
def test_odd_name_is_a_name(name: str, database: Database, project: Project) -> None:
    """Dumped, listed, inspected, changed in form and restored under any name that the file system takes."""
    database.execute(TABLE)
    project.use(database)
    form = "db.gunzip" if Compression.of_name(name) is not Compression.NONE else "db.gzip"

    results = [
        project.inv("db.dump", f"--file={name}"),
        project.inv("db.inspect", f"--file={name}"),
        project.inv("db.restore", "--clean", "--yes", "--no-backup", f"--file={name}"),
        project.inv(form, f"--file={name}"),
    ]

    assert [result.returncode for result in results] == [0, 0, 0, 0], [result.stderr for result in results]
    assert database.scalar("SELECT count(*) FROM public.t") == 1000


def test_link_out_of_the_folder_is_read_and_what_it_leads_to_stays(database: Database, project: Project) -> None:
    """Dumps may lie on another disk; compressing in place takes the link's place, not the file's."""
    database.execute(TABLE)
    path = dumped(settings_of(project, database)).path
    outside = project.root / "elsewhere.sql"
    path.rename(outside)
    path.symlink_to(outside)
    content = outside.read_bytes()
    project.use(database)

    restored = project.inv("db.restore", "--clean", "--yes", "--no-backup", f"--file={path.name}")
    packed = project.inv("db.gzip", f"--file={path.name}")

    assert (restored.returncode, packed.returncode) == (0, 0), restored.stderr + packed.stderr
    assert outside.read_bytes() == content
    assert not path.is_symlink()


# Free space


def look(project: Project, database: Database, compression: Compression, free: int) -> list[str]:
    """Compare so many free bytes with what a dump will take; return the warnings."""
    settings, said = settings_of(project, database), Said()
    with connected(settings.target()) as connection:
        place = choose_destination(settings, "", compression)
        check_free_space(settings, place, connection, server_facts(connection), said, free=lambda _: free)
    return said.warnings


def test_first_dump_is_measured_by_the_database(database: Database, project: Project) -> None:
    """A warning where it may not fit, and never a refusal: indexes and dead rows are in no dump."""
    database.execute(NOISE)
    size = database.scalar("SELECT pg_database_size(current_database())") - 8_000_000

    assert look(project, database, Compression.NONE, size + 1) == []
    assert look(project, database, Compression.ZSTD, size // 4 + 1) == []
    (warning,) = look(project, database, Compression.NONE, 10)
    assert "size of the database" in warning
    assert "may not fit" in warning


def test_next_dump_is_measured_by_the_last_one(database: Database, project: Project) -> None:
    """A warning below its size; a refusal where even a quarter would not fit and the rows are still there."""
    database.execute(NOISE + "ANALYZE noise")
    last = dumped(settings_of(project, database)).manifest.file.size

    assert look(project, database, Compression.NONE, last) == []
    (warning,) = look(project, database, Compression.NONE, last - 1)
    (other,) = look(project, database, Compression.GZIP, 10)
    with pytest.raises(BadInputError, match=r"\b10\b"):
        look(project, database, Compression.NONE, 10)
    database.execute("TRUNCATE noise; ANALYZE noise")
    (smaller,) = look(project, database, Compression.NONE, 10)

    assert all("may not fit" in each for each in (warning, other, smaller))
