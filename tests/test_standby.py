"""A hot standby can be dumped and compared; what is unlogged it can't read, which is said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.flows import newest, ran
from tests.servers import Server
from tests.support import Database, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support import Databases, Project

SOURCE = """
CREATE TABLE "User" (id serial PRIMARY KEY, email text); INSERT INTO "User" (email) VALUES ('a'), ('b');
CREATE UNLOGGED TABLE cache (id serial, k text); INSERT INTO cache (k) VALUES ('x');
CREATE TABLE parted (id int) PARTITION BY LIST (id); CREATE UNLOGGED TABLE part PARTITION OF parted FOR VALUES IN (1);
INSERT INTO parted VALUES (1);
"""
UNLOGGED = ["public.cache", "public.part"]


@pytest.fixture
def standby(database: Database) -> Iterator[Database]:
    """Return a database on a standby that has all of its primary's."""
    database.execute(SOURCE)
    server = Server.follow(database.server)
    try:
        with database.connect() as connection, server.connect(database.name) as following:
            (written,) = connection.execute("SELECT pg_current_wal_lsn()").fetchone() or ("",)
            reached = "SELECT pg_last_wal_replay_lsn() >= %s"
            eventually(lambda: following.execute(reached, [written]).fetchone() == (True,), "the standby has it")
        yield Database(server, database.name)
    finally:
        server.close()


@pytest.mark.majors(14, 18)
def test_a_standby_with_unlogged_tables_is_dumped(
    standby: Database, database: Database, new_database: Databases, project: Project
) -> None:
    """The dump restores as pg_dump's own does; manifest, warning and doctor name the tables whose rows are missing."""
    project.use(standby)

    dumped = ran(project, "db.dump", "--checksums")
    examined = project.inv("db.doctor", "--json")
    target, copy = new_database(), new_database()
    copy.psql(standby.dump_text())
    project.use(target)
    ran(project, "db.restore", "--clean", "--yes", "--checksums", *project.into(target))
    checks = {each["name"]: each for each in json.loads(examined.stdout)["checks"]}
    (manifest,) = project.dumps.glob("*.manifest.json")

    assert target.dump_text() == copy.dump_text()
    assert json.loads(manifest.read_bytes())["excluded_data"] == UNLOGGED
    assert all(each in dumped and each in checks["server"]["message"] for each in UNLOGGED)
    assert database.scalar("SELECT count(*) FROM cache") == 1


@pytest.mark.majors(14, 18)
def test_a_standby_with_unlogged_tables_is_compared(standby: Database, database: Database, project: Project) -> None:
    """With its own dump, its primary's, and its primary in both directions: a note, and no difference."""
    project.use(standby)
    ran(project, "db.dump")
    own = ran(project, "db.verify", f"--file={newest(project).name}")
    on_primary = ran(project.use(database), "db.verify", f"--file={newest(project).name}")
    ran(project, "db.dump")
    project.env["OTHER_URL"] = standby.url
    from_primary = ran(project, "db.verify", "--against-url-env=OTHER_URL", "--checksums")
    project.use(standby).env["OTHER_URL"] = database.url
    from_standby = ran(project, "db.verify", "--against-url-env=OTHER_URL", "--checksums")
    of_primary = ran(project, "db.verify", f"--file={newest(project).name}", "--json")

    (note,) = [each for each in json.loads(of_primary)["notes"] if each["kind"] == "rows"]
    assert set(UNLOGGED) <= set(note["names"])
    assert all("public.cache" in said for said in (on_primary, from_primary, from_standby))
    assert "public.cache" not in own
