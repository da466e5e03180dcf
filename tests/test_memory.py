"""Memory stays flat, however many rows there are and however large one is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.servers import OWNER
from tests.support import watched

if TYPE_CHECKING:
    from tests.support import Databases, Project

LIMIT_MB = 150
_DIGEST = "SELECT count(*), sum(hashtextextended(value, 0)), max(length(value)) FROM big"


def _rows(count: int, value: str = "md5(i::text)") -> str:
    return f"CREATE TABLE big AS SELECT i AS id, {value} AS value FROM generate_series(1, {count}) AS i"


@dataclass(frozen=True)
class Size:
    """Something large.

    :ivar title: As the table in the docs calls it.
    """

    title: str
    sql: str
    digest: str = _DIGEST


SIZES = {
    "10 million rows": Size("a table of 10 million rows", _rows(10_000_000)),
    "value": Size("a value of 500 MB", "CREATE TABLE big AS SELECT 1 AS id, repeat(md5('x'), 500000000 / 32) AS value"),
    "columns": Size(
        "500 rows of 1,600 columns",
        f"CREATE TABLE big ({', '.join(f'c{i} smallint' for i in range(1600))});"
        f" INSERT INTO big SELECT {', '.join(f'i + {i}' for i in range(1600))} FROM generate_series(1, 500) i",
        "SELECT count(*), sum(hashtextextended(big::text, 0)) FROM big",
    ),
}
# More than the limit if they were held: a row of 135 bytes is an object of 180 bytes or more.
SMALLER = {
    **SIZES,
    "rows": Size("a table of a million rows", _rows(1_000_000, "repeat(md5(i::text), 4)")),
    "large value": Size(
        "a value of 200 MB", "CREATE TABLE big AS SELECT 1 AS id, repeat(md5('x'), 200000000 / 32) AS value"
    ),
}


def peak(project: Project, *arguments: str) -> float:
    """Run `inv`, which has to go well, and return the peak of its own memory in MB."""
    run = watched(project, *arguments)
    assert run.returncode == 0, run.stderr
    return run.megabytes


def measured(name: str, databases: Databases, project: Project, suffix: str = ".sql.gz") -> tuple[float, float]:
    """Dump and restore something large, and compare the copy with it.

    :return: The peaks of the memory of both, in MB.
    """
    size = SMALLER[name]
    database, copy = databases(), databases()
    database.execute(size.sql)
    project.use(database)
    dumping = peak(project, "db.dump", f"--file=big{suffix}")
    project.use(copy)
    restoring = peak(project, "db.restore", f"--file=big{suffix}")
    assert copy.execute(size.digest) == database.execute(size.digest)
    return dumping, restoring


@pytest.mark.parametrize(
    ("content", "suffix"), [("rows", ".sql.gz"), ("rows", ".sql.zst"), ("large value", ".sql.gz"), ("columns", ".sql")]
)
def test_memory_stays_flat(content: str, suffix: str, new_database: Databases, project: Project) -> None:
    """A million rows, one row of 200 MB, rows of 1,600 columns: dumped and restored in less than 150 MB."""
    dumping, restoring = measured(content, new_database, project, suffix)

    assert 10 < dumping < LIMIT_MB
    assert 10 < restoring < LIMIT_MB
    if suffix == ".sql.zst":
        assert 10 < peak(project, "db.show", "--file=big.sql.zst", "--table=big", "--match=absent") < LIMIT_MB / 2


LARGE_RESULT = "SELECT repeat('x', 100000) FROM generate_series(1, 8000);\n"


@pytest.mark.majors(18)
@pytest.mark.parametrize(
    "statements",
    [
        LARGE_RESULT,
        # Large statements behind it are sent while its rows come.
        LARGE_RESULT + f"SELECT length('{'y' * 900_000}');\n" * 3,
    ],
    ids=["rows", "rows-while-sending"],
)
def test_memory_stays_flat_whatever_rows_a_dump_asks_for(
    statements: str, new_database: Databases, project: Project
) -> None:
    """800 MB of rows pass, and each is dropped."""
    database = new_database(owner=OWNER)
    project.write("dumps/foreign.sql", statements + "-- PostgreSQL database dump complete\n")

    restoring = peak(project.use(database, OWNER), "db.restore", "--file=foreign.sql")

    assert 10 < restoring < LIMIT_MB
