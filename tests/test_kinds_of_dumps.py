"""The table of docs/dumps.md is what real restores give."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.errors import TaskError
from tests.flows import restore_path, write
from tests.kinds_of_dumps import KINDS, SOURCE, Kind
from tests.marks import Mark
from tests.servers import Server
from tests.support import Database, Databases, Project

PAGE = Path(__file__).resolve().parent.parent / "docs" / "dumps.md"


def documented(kind: Kind) -> list[str]:
    """Read a kind's row: what happens on 14, and on 18."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith(f"| {kind.title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:3]


@pytest.fixture(scope="module")
def source(server: Server) -> Iterator[Database]:
    """Return the database that is dumped."""
    with Databases(server) as new_database:
        database = new_database()
        database.execute(SOURCE)
        yield database


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("kind", KINDS, ids=[kind.title for kind in KINDS])
def test_each_kind_of_dump_ends_as_the_docs_say(
    kind: Kind, source: Database, new_database: Databases, project: Project
) -> None:
    """Restored with so many rows, or refused with an exit code and nothing changed."""
    target = new_database()
    if kind.over:
        target.execute(SOURCE + 'TRUNCATE public."Post", public."User"')
    path = write(project, "given.sql", kind.text(source))
    mark = Mark(target)

    try:
        restored = restore_path(project, target, path)
    except TaskError as error:
        outcome = f"refused ({error.exit_code})" if error.exit_code != 5 else "rolled back (5)"
        assert mark.is_untouched()
    else:
        outcome = f"restored, {restored.rows} rows"

    assert outcome == documented(kind)[target.server.major == 18]
