"""A restore by a swap: what it leaves behind, and what a damaged dump does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.flows import newest

if TYPE_CHECKING:
    from tests.support import Database, Project

pytestmark = pytest.mark.majors(18)


def others(database: Database) -> list[tuple[str, bool]]:
    """Return the databases whose names begin with this one's, each with whether it can be connected to."""
    query = "SELECT datname, datallowconn FROM pg_database WHERE starts_with(datname, %s) ORDER BY 1"
    with database.server.connect() as connection:
        rows = connection.execute(query, [f"{database.name}__"]).fetchall()
    return [(str(name), bool(opened)) for name, opened in rows]


@pytest.fixture
def filled(project: Project, database: Database) -> Database:
    """Return a database with a dump of its first state, and rows that came later; restores swap."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)")
    assert project.use(database).inv("db.dump").returncode == 0
    database.execute("INSERT INTO t VALUES (101); CREATE TABLE later ()")
    project.env["INVOKE_DB_METHOD"] = "swap"
    return database


def test_the_old_database_is_kept_and_closed(project: Project, filled: Database) -> None:
    """The name leads to the dump's content, verify agrees, and the old database is kept, closed and marked."""
    result = project.inv("db.restore", "--clean", "--yes")

    (kept,) = others(filled)
    assert result.returncode == 0, result.stderr
    assert filled.scalar("SELECT count(*) FROM t") == 100
    assert filled.scalar("SELECT to_regclass('later')") is None
    assert kept[0].startswith(f"{filled.name}__before_")
    assert not kept[1]
    assert project.inv("db.verify").returncode == 0


def test_nothing_is_kept_without_a_backup(project: Project, filled: Database) -> None:
    """With --no-backup the old database is dropped."""
    result = project.inv("db.restore", "--clean", "--yes", "--no-backup")

    assert result.returncode == 0, result.stderr
    assert filled.scalar("SELECT count(*) FROM t") == 100
    assert others(filled) == []


@pytest.mark.parametrize("damage", [b"\n50\n", b"ALTER TABLE"], ids=["a row", "a statement"])
def test_a_damaged_dump_changes_nothing(project: Project, filled: Database, damage: bytes) -> None:
    """A changed byte is found while the dump loads: exit 2, the database as before, no staging database left."""
    dump = newest(project)
    before = filled.dump_text()
    text = dump.read_bytes()
    changed = bytes([damage[-2] + 1]) + damage[-1:]
    dump.write_bytes(text.replace(damage, damage[:-2] + changed, 1))

    result = project.inv("db.restore", "--clean", "--yes")

    assert text != dump.read_bytes()
    assert result.returncode == 2, result.stderr
    assert filled.dump_text() == before
    assert others(filled) == []


def test_created_roles_are_dropped_again_when_the_load_fails(project: Project, filled: Database) -> None:
    """A role that --create-roles made for a dump that can't be loaded does not remain on the server."""
    role = f"{filled.name}_reader"
    dump = newest(project)
    text = dump.read_text().replace(
        "CREATE TABLE public.t", f"GRANT USAGE ON SCHEMA public TO {role};\nCREATE TABLE public.t", 1
    )
    foreign = project.root / "foreign.sql"
    foreign.write_text(text.replace("ADD CONSTRAINT t_pkey PRIMARY KEY (id)", "ADD CONSTRAINT t_pkey PRIMARY KEY (no)"))

    result = project.inv(
        "db.restore", "--clean", "--yes", "--create-roles", f"--confirm={filled.name}", f"--file={foreign}"
    )

    assert result.returncode == 5, result.stderr
    assert filled.execute(f"SELECT FROM pg_roles WHERE rolname = '{role}'") == []
    assert others(filled) == []
