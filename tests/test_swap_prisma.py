"""`db.restore --clean --migrate` by a swap, with the real Prisma: migrations run before the database is seen."""

from __future__ import annotations

import pytest

from tasks.config.target import sanitize
from tasks.errors import OperationFailedError
from tasks.prisma.other_database import AnotherDatabaseError, refuse_fixed_url
from tasks.prisma.project import Prisma
from tests.both_ways import databases_of_ours
from tests.flows import dumped, ran, settings_of
from tests.journal import COUNT, add_pending, migration
from tests.support import Database, Databases, Project, drop

_TABLE = "SELECT to_regclass('public.newer')::text"
_COLUMN = "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('public.\"Entry\"') AND attname = 'mood'"


@pytest.fixture
def migrated(journal: Project, migrated_journal: Database) -> Database:
    """Return the example's database, of which there is a dump, and a newer table."""
    dumped(settings_of(journal, migrated_journal), None)
    migrated_journal.execute("CREATE TABLE public.newer (id integer)")
    journal.env["INVOKE_DB_METHOD"] = "swap"
    return migrated_journal


def test_a_pending_migration_is_applied_before_the_swap(journal: Project, migrated: Database) -> None:
    """The restored database has it when it takes its place; the old one is kept without it."""
    applied = migrated.scalar(COUNT)
    add_pending(journal)

    ran(journal, "db.restore", "--clean", "--migrate", "--yes")

    assert migrated.scalar(COUNT) == applied + 1
    assert migrated.scalar(_TABLE) is None
    (kept,) = databases_of_ours(migrated)
    assert "__before_" in kept
    drop(Database(migrated.server, kept))


def test_a_failing_migration_leaves_the_live_database_untouched(journal: Project, migrated: Database) -> None:
    """Not even a session of it was disturbed, and the staging database is gone."""
    migration(journal, "20270101000000_broken", "CREATE TABLE half (id int); SELECT * FROM nowhere;")
    before = migrated.dump_text("--create")

    with migrated.connect() as session:
        pid = session.info.backend_pid
        failed = journal.inv("db.restore", "--clean", "--migrate", "--yes", "--disconnect")
        assert session.execute("SELECT pg_backend_pid()").fetchall() == [(pid,)]

    assert failed.returncode == 5, failed.stderr
    assert migrated.dump_text("--create") == before
    assert databases_of_ours(migrated) == []
    assert list(journal.dumps.glob(".database-*")) == []
    assert list((journal.dumps / "undo").glob("*.sql*")) == []


def _replace_adapter(journal: Project, expression: str) -> None:
    """Let the project's Prisma connect by another adapter."""
    config = (journal.root / "prisma.config.ts").read_text(encoding="utf-8")
    adapter = "return createMigrationAdapter(process.env.DATABASE_URL ?? '')"
    assert adapter in config
    journal.write("prisma.config.ts", config.replace(adapter, expression))


@pytest.mark.parametrize("method", ["auto", "swap"])
@pytest.mark.majors(14, 18)
def test_nothing_is_replaced_if_prisma_cannot_run(journal: Project, migrated: Database, method: str) -> None:
    """Exit 5 with Prisma's own error; the database was not even emptied for a moment."""
    _replace_adapter(journal, "throw new Error('engine-4711 is missing')")
    before, files = migrated.dump_text("--create"), sorted(journal.dumps.rglob("*"))

    with migrated.connect(autocommit=False) as session:
        # A transaction would wait for this lock in vain, and end with another code.
        session.execute("LOCK TABLE public.newer IN ACCESS SHARE MODE")
        failed = journal.inv("db.restore", "--clean", "--migrate", "--yes", "--disconnect", f"--method={method}")

    assert failed.returncode == 5, failed.stderr
    assert "engine-4711" in failed.stderr
    assert migrated.dump_text("--create") == before
    assert databases_of_ours(migrated) == []
    assert [each for each in sorted(journal.dumps.rglob("*")) if each.suffix == ".sql"] == [
        each for each in files if each.suffix == ".sql"
    ]


@pytest.mark.majors(14, 18)
def test_a_fixed_url_takes_the_transaction(journal: Project, migrated: Database) -> None:
    """Prisma reads the configured database whatever the environment names: only a transaction can migrate it."""
    _replace_adapter(journal, f"return createMigrationAdapter('{migrated.url}')")
    add_pending(journal)
    applied = migrated.scalar(COUNT)

    said = ran(journal, "db.restore", "--clean", "--migrate", "--yes", "--disconnect", "--method=auto")

    assert "in one transaction" in said
    assert migrated.scalar(COUNT) == applied + 1
    assert migrated.scalar(_TABLE) is None


# A Prisma that can't run. During its first runs, as many as there are others, another session uses the database.
_NO_PRISMA = """
echo run >> runs
[ "$(wc -l < runs)" -gt {others} ] || {psql} --no-psqlrc --quiet --command="SELECT" "{conninfo}"
exit 1
"""


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize(
    ("others", "error", "runs"),
    [(0, OperationFailedError, 1), (1, OperationFailedError, 2), (2, AnotherDatabaseError, 2)],
)
def test_one_session_of_somebody_else_is_not_taken_for_prismas(
    others: int, error: type[Exception], runs: int, new_database: Databases, project: Project
) -> None:
    """Prisma that can't run is not judged to read another database because the server counted a session late."""
    database, scratch = new_database(), new_database()
    psql, conninfo = database.server.bin_dir / "psql", database.server.conninfo(database.name)
    script = _NO_PRISMA.format(others=others, psql=psql, conninfo=conninfo)
    prisma = Prisma(("sh", "-c", script), project.root, None, "6.19.3", "npx prisma")

    with pytest.raises(error):
        refuse_fixed_url(settings_of(project, database), prisma, sanitize(scratch.url))

    assert (project.root / "runs").read_text() == "run\n" * runs
