"""Rows that pg_dump writes as those of the partitioned table: an enum's values have other hashes elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.flows import newest, ran
from tests.support import without_restrict

if TYPE_CHECKING:
    from tests.support import Database, Databases, Project

SOURCE = """
CREATE TYPE kind AS ENUM ('a', 'b', 'c');
CREATE TABLE hashed (k kind, v int) PARTITION BY HASH (k);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE mixed (k kind, v int) PARTITION BY RANGE (v);
CREATE TABLE mixed_1 PARTITION OF mixed FOR VALUES FROM (0) TO (10);
CREATE TABLE mixed_2 PARTITION OF mixed FOR VALUES FROM (10) TO (200) PARTITION BY HASH (k);
CREATE TABLE mixed_2_0 PARTITION OF mixed_2 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
INSERT INTO hashed SELECT ('{a,b,c}'::kind[])[1 + i % 3], i FROM generate_series(1, 100) i;
INSERT INTO mixed SELECT * FROM hashed;
CREATE TABLE partly (k kind, v int) PARTITION BY RANGE (v);
CREATE TABLE partly_1 PARTITION OF partly FOR VALUES FROM (0) TO (500);
CREATE TABLE partly_2 PARTITION OF partly DEFAULT PARTITION BY HASH (k);
CREATE TABLE partly_2_0 PARTITION OF partly_2 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
INSERT INTO partly SELECT * FROM hashed;
CREATE TABLE plain (id int); INSERT INTO plain VALUES (1);
"""


@pytest.mark.majors(14, 18)
def test_a_table_partitioned_by_hash_on_an_enum(database: Database, new_database: Databases, project: Project) -> None:
    """It is dumped, restored, verified, compared with psql's copy, and undone; a lost row is found."""
    database.execute(SOURCE)
    target, copy = new_database(), new_database()
    copy.psql(database.dump_text())
    ran(project.use(database), "db.dump", "--checksums")
    ran(project, "db.verify", f"--file={newest(project).name}", "--checksums")
    project.env["OTHER_URL"] = copy.url
    ran(project, "db.verify", "--against-url-env=OTHER_URL")
    project.use(target)
    ran(project, "db.restore", "--checksums", *project.into(target))
    ran(project, "db.verify")
    ran(project, "db.restore", "--clean", "--yes", *project.into(target))
    ran(project, "db.undo", "--yes")
    ran(project, "db.verify")
    # In which partition a row lies differs.
    held, wanted = (sorted(each.dump_text("--load-via-partition-root").splitlines()) for each in (target, copy))
    target.execute("DELETE FROM hashed WHERE v = 1")

    assert held == wanted
    assert project.inv("db.verify").returncode == 6


@pytest.mark.majors(14, 18)
def test_a_dump_loaded_through_the_partition_root_verifies(
    database: Database, new_database: Databases, project: Project
) -> None:
    """A foreign one, of partitions whose rows would not move."""
    database.execute(SOURCE)
    project.dumps.joinpath("foreign.sql").write_bytes(database.dump_text("--load-via-partition-root"))
    project.use(new_database())
    ran(project, "db.restore", "--file=foreign.sql")

    ran(project, "db.verify")


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("pattern", ["*", "p*", "*.*", "hashed_0", "hashed*"])
def test_patterns_are_taken_as_pg_dump_takes_them(database: Database, project: Project, pattern: str) -> None:
    """The dump is pg_dump's own."""
    database.execute(SOURCE + "CREATE VIEW pv AS SELECT 1 AS one; CREATE SEQUENCE ps; CREATE EXTENSION citext")
    ran(project.use(database), "db.dump", f"--exclude-data={pattern}")

    dump = (project.dumps / newest(project).name).read_bytes()
    theirs = database.dump_text(f"--exclude-table-data={pattern}", "--clean", "--if-exists", "--encoding=UTF8")

    assert without_restrict(dump) == theirs
