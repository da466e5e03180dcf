"""`db.migrate` is guarded like every task that may destroy: it lists, asks, makes a safety dump, and names the undo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.flows import elsewhere, ran, safety_dumps
from tests.journal import PENDING, add_pending, migration
from tests.marks import Mark
from tests.terminals import at_a_terminal

if TYPE_CHECKING:
    from tests.support import Database, Project

APPLIED = "SELECT count(*) FROM _prisma_migrations WHERE finished_at IS NOT NULL"


@pytest.fixture
def migrated(migrated_journal: Database) -> Database:
    """Return the example's database with its six migrations."""
    return migrated_journal


def test_a_safety_dump_is_made_of_what_is_there(journal: Project, migrated: Database) -> None:
    """What is pending is listed, the undo brings the database back, and nothing pending makes none."""
    nothing = ran(journal, "db.migrate")
    add_pending(journal)
    before = migrated.dump_text()

    dry = ran(journal, "--dry", "db.migrate")
    none_yet = safety_dumps(journal)
    applied = ran(journal, "db.migrate", "--yes")
    after = migrated.dump_text()
    (saved,) = safety_dumps(journal)
    ran(journal, "db.undo", "--yes")

    assert "No pending migrations" in nothing
    assert none_yet == []
    assert all(PENDING in said for said in (dry, applied))
    assert saved.name in applied
    assert after != before == migrated.dump_text()


@pytest.mark.majors(14, 18)
def test_a_migration_tries_a_safety_dump_that_may_not_load(journal: Project, migrated: Database) -> None:
    """It applies none where it can't be loaded, and all where it can."""
    add_pending(journal)
    migrated.psql(
        "CREATE FUNCTION f(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN i; END';"
        " CREATE TABLE g (i int, j int GENERATED ALWAYS AS (f(i)) STORED); INSERT INTO g VALUES (1);"
        " CREATE OR REPLACE FUNCTION f(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN i / 0; END'"
    )
    before = migrated.dump_text()

    refused = journal.inv("db.migrate", "--yes")
    after, left = migrated.dump_text(), safety_dumps(journal)
    migrated.psql("CREATE OR REPLACE FUNCTION f(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i'")
    applied = ran(journal, "db.migrate", "--yes")

    assert refused.returncode == 5
    assert "public.g.j" in refused.stderr
    assert before == after
    assert left == []
    assert "public.g.j" in applied
    assert migrated.scalar(APPLIED) == 7


def test_no_safety_dump_is_made_where_it_is_not_wanted(journal: Project, migrated: Database) -> None:
    """--no-backup says that an undo will not be possible."""
    add_pending(journal)

    said = ran(journal, "db.migrate", "--yes", "--no-backup")

    assert "will not be possible" in said
    assert safety_dumps(journal) == []
    assert migrated.scalar(APPLIED) == 7


def test_after_a_failure_the_undo_is_that_of_the_migration(journal: Project, migrated: Database) -> None:
    """An older safety dump exists; the one that is named, and restored, is of the state before the migration."""
    ran(journal, "db.dump")
    ran(journal, "db.restore", "--clean", "--yes")
    migrated.execute("CREATE TABLE since (id int)")
    add_pending(journal)
    migration(journal, "20270101000000_broken", "SELECT * FROM nowhere;")
    before = migrated.dump_text()

    failed = journal.inv("db.migrate", "--yes")
    (_, saved) = safety_dumps(journal)
    changed = migrated.dump_text()
    undone = ran(journal, "db.undo", "--yes")

    assert failed.returncode == 5
    assert "`inv db.undo`" in failed.stderr
    assert "P3009" not in failed.stderr
    assert saved.name in undone
    assert changed != before == migrated.dump_text()


def test_after_a_failure_elsewhere_the_undo_has_the_name_it_needs(journal: Project, migrated: Database) -> None:
    """The command that is printed works as it is."""
    ran(journal, "db.dump")
    elsewhere(journal)
    add_pending(journal)
    migration(journal, "20270101000000_broken", "SELECT * FROM nowhere;")
    before = migrated.dump_text()

    failed = journal.inv("db.migrate", "--yes", f"--confirm={migrated.name}")
    undone = journal.inv("db.undo", f"--confirm={migrated.name}", "--yes")

    assert failed.returncode == 5
    assert f"`inv db.undo --confirm={migrated.name}`" in failed.stderr
    assert undone.returncode == 0
    assert migrated.dump_text() == before


def test_a_refusal_that_changes_nothing_leaves_no_safety_dump(journal: Project, migrated: Database) -> None:
    """A failed migration in the history is named by its code, and no undo, as there is nothing to undo."""
    migration(journal, "20270101000000_broken", "SELECT * FROM nowhere;")
    assert journal.inv("db.migrate", "--yes", "--no-backup").returncode == 5
    add_pending(journal)
    mark = Mark(migrated)

    refused = journal.inv("db.migrate", "--yes")

    assert refused.returncode == 5
    assert "P3009" in refused.stderr
    assert "db.undo" not in refused.stderr.partition("ended with exit status")[2]
    assert safety_dumps(journal) == []
    assert mark.is_untouched()


def test_a_database_that_is_not_local_needs_its_name(journal: Project, migrated: Database) -> None:
    """Given or typed; --yes does not do, and where nothing is pending nobody is asked."""
    ran(journal, "db.dump")
    elsewhere(journal)
    nothing = journal.inv("db.migrate")
    add_pending(journal)

    alone = journal.inv("db.migrate", "--yes")
    mistaken = journal.inv("db.migrate", "--confirm=another")
    code, _ = at_a_terminal(journal, "db.migrate", answers={"Type the name": "another"})
    protected = journal.inv("db.migrate", f"--confirm={migrated.name}", env={"INVOKE_DB_PROTECTED": migrated.name})
    untouched = migrated.scalar(APPLIED)
    named = journal.inv("db.migrate", "--yes", f"--confirm={migrated.name}")

    assert nothing.returncode == 0
    assert [alone.returncode, mistaken.returncode, code, protected.returncode] == [7, 7, 7, 7]
    assert untouched == 6
    assert named.returncode == 0, named.stderr
    assert migrated.scalar(APPLIED) == 7


def test_a_database_that_does_not_exist_is_left_to_prisma(journal: Project, database: Database) -> None:
    """Nothing can be lost in it; a server that can't be reached ends in 4."""
    url = database.url.replace(database.name, f"{database.name}_new")
    journal.use(database)

    created = journal.inv("--dry", "db.migrate", env={"DATABASE_URL": url})
    nowhere = journal.inv("db.migrate", env={"DATABASE_URL": "postgresql://postgres@127.0.0.1:1/shop"})

    assert created.returncode == 0, created.stderr
    assert "prisma migrate deploy" in created.stderr
    assert nowhere.returncode == 4
