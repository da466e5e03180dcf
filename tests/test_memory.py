"""Memory stays flat, however many rows there are and however large one is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support import Database, Databases, Project

LIMIT_MB = 150
BIG = {
    "rows": "CREATE TABLE big AS SELECT i AS id, md5(i::text) AS value FROM generate_series(1, 5000000) AS i",
    "value": "CREATE TABLE big AS SELECT 1 AS id, repeat(md5('x'), 500000000 / 32) AS value",
}


def peak(project: Project, *arguments: str) -> float:
    """Run `inv` and return the peak of its own memory in MB, its children left aside."""
    process = project.popen(*arguments)
    highest = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        except FileNotFoundError:
            break
        line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
        highest = max(highest, int(line.split()[1]) if line else 0)
        time.sleep(0.02)
    assert process.wait() == 0
    return highest / 1024


@pytest.mark.parametrize(("content", "suffix"), [("rows", ".sql.gz"), ("rows", ".sql.zst"), ("value", ".sql.gz")])
def test_memory_stays_flat(
    content: str, suffix: str, database: Database, new_database: Databases, project: Project
) -> None:
    """Five million rows, and one row of 500 MB, are dumped and restored in less than 150 MB."""
    database.execute(BIG[content])
    project.use(database)

    dumping = peak(project, "db.dump", f"--file=big{suffix}")
    copy = new_database()
    project.use(copy)
    restoring = peak(project, "db.restore", "--file=big" + suffix)

    assert 10 < dumping < LIMIT_MB
    assert 10 < restoring < LIMIT_MB
    digest = "SELECT count(*), sum(hashtextextended(value, 0)), max(length(value)) FROM big"
    assert copy.execute(digest) == database.execute(digest)
