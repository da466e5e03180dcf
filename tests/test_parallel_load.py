"""A load with several sessions leaves the same database as a load with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.flows import dumped, newest, pg_dump, restore_path, restore_privately, settings_of, write

if TYPE_CHECKING:
    from tests.support import Database, Databases, Project


def both(project: Project, new_database: Databases, content: bytes, **asked: object) -> tuple[bytes, bytes]:
    """Return the text of a foreign dump after a load with one session, and after one with several."""
    path = write(project, "foreign.sql", content)
    one, several = new_database(), new_database()
    restore_path(project, one, path)
    restore_privately(project, several, path, **asked)  # type: ignore[arg-type]
    return one.dump_text(), several.dump_text()


@pytest.mark.all_majors
@pytest.mark.parametrize("jobs", [2, 4])
def test_everything(project: Project, everything: Database, new_database: Databases, jobs: int) -> None:
    """A dump of ours with all that PostgreSQL has."""
    dumped(settings_of(project, everything))
    target = new_database()

    restored = restore_privately(project, target, newest(project), jobs=jobs, lenient=False)

    assert restored.complete
    assert restored.proven
    assert target.dump_text() == everything.dump_text()


@pytest.mark.all_majors
@pytest.mark.parametrize(
    "options",
    [(), ("--inserts",), ("--clean", "--if-exists"), ("--no-owner",), ("--load-via-partition-root",), ("--no-acl",)],
    ids=lambda options: " ".join(options) or "plain",
)
def test_dumps_of_pg_dump(
    project: Project, everything: Database, new_database: Databases, options: tuple[str, ...]
) -> None:
    """A dump of pg_dump, whatever its options."""
    one, several = both(project, new_database, pg_dump(everything, *options))

    assert several == one
