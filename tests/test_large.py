"""Many rows come back, into an empty database and over one that holds other things, for both kinds of role.

200,000 on one major; `TESTS_EVERY_MAJOR=1 uv run pytest tests/test_large.py` runs two million on all five.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from tests.bulk import journal_like
from tests.schemas import OTHERS
from tests.servers import DEFAULT_MAJOR, MAJORS, OWNER, SUPERUSER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support import Database, Databases, Project

EVERY_MAJOR = "TESTS_EVERY_MAJOR" in os.environ
ROWS = 2_000_000 if EVERY_MAJOR else 200_000
EXTENSIONS = "CREATE EXTENSION pg_trgm; CREATE EXTENSION citext SCHEMA public"


def digest(database: Database, exclude: Sequence[str] = ()) -> str:
    """Sum up what pg_dump says of a database: half a gigabyte is not kept to be compared."""
    return hashlib.sha256(database.dump_text(exclude=exclude)).hexdigest()


@pytest.mark.majors(*(MAJORS if EVERY_MAJOR else (DEFAULT_MAJOR,)))
def test_all_rows_come_back(new_database: Databases, project: Project) -> None:
    """A plain owner with a superuser's extensions fills an empty database, and a superuser one that held others."""
    source, empty, full = new_database(owner=OWNER), new_database(owner=OWNER), new_database(owner=OWNER)
    for each in (source, empty, full):
        each.execute(EXTENSIONS)
    journal_like(source, ROWS - 1, role=OWNER)
    source.execute("CREATE SCHEMA app; CREATE TABLE app.alone AS SELECT 1 AS n", role=OWNER)
    full.execute(OTHERS, role=OWNER)
    kept = full.dump_text(schemas=["kept"])
    before = digest(source)

    dumped = project.use(source, OWNER).inv("db.dump", "--gzip", timeout=600)
    filled = project.use(empty, OWNER).inv("db.restore", *project.into(empty), "db.verify", timeout=600)
    words = ("db.restore", "--clean", "--yes", "--no-backup", *project.into(full))
    replaced = project.use(full, SUPERUSER).inv(*words, timeout=600)

    assert (dumped.returncode, filled.returncode, replaced.returncode) == (0, 0, 0), filled.stderr + replaced.stderr
    assert f"{ROWS:,} rows in 4 tables" in dumped.stdout
    assert digest(empty) == before
    # The source has no such schema.
    assert digest(full, exclude=["kept"]) == before
    assert full.dump_text(schemas=["kept"]) == kept
