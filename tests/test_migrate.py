"""`db.migrate` and `db.generate` with the real Prisma CLI (its wasm build of the real engine) on the example."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.journal import COUNT, JOURNAL, TABLES, migration

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import Database, Databases, Project


def test_migrate_builds_an_empty_database_and_then_has_nothing_to_do(journal: Project, database: Database) -> None:
    """All six migrations are applied, and a second run applies none."""
    journal.use(database)

    first = journal.inv("db.migrate")
    second = journal.inv("db.migrate")

    assert (first.returncode, second.returncode) == (0, 0)
    assert "successfully applied" in first.stdout
    assert "No pending migrations" in second.stdout
    assert database.scalar(COUNT) == 6
    assert database.scalar(TABLES) == 18


def test_restore_migrate_verify_ends_in_0_with_a_pending_migration(
    journal: Project, database: Database, new_database: Databases
) -> None:
    """After our migrate, verify compares with what it left, and says what it changed since the dump."""
    journal.use(database)
    assert journal.inv("db.migrate").returncode == 0
    database.execute((JOURNAL / "generate.sql").read_text(encoding="utf-8"))
    assert journal.inv("db.dump").returncode == 0
    copy = new_database()
    journal.use(copy)
    shutil.copytree(JOURNAL / "pending", journal.root / "prisma" / "migrations", dirs_exist_ok=True)

    chain = journal.inv("db.restore", "--clean", "--yes", *journal.into(copy), "db.migrate", "db.verify")

    assert chain.returncode == 0, chain.stdout + chain.stderr
    assert "6 in the dump" in chain.stdout
    assert copy.scalar(COUNT) == 7
    assert copy.scalar('SELECT count(*) FROM "Event"') == database.scalar('SELECT count(*) FROM "Event"')


def test_a_failing_migration_ends_in_5_and_stops_the_chain(journal: Project, migrated_journal: Database) -> None:
    """Prisma's words are shown, its exit status is told, the next task does not run, and nothing of it is applied."""
    migration(journal, "20270101000000_broken", "CREATE TABLE half (id int); SELECT * FROM nowhere;")

    failed = journal.inv("db.migrate", "db.dump")

    assert failed.returncode == 5
    assert "nowhere" in failed.stdout + failed.stderr
    assert "exit status 1" in failed.stderr
    assert not list(journal.dumps.glob("*.sql"))
    assert migrated_journal.scalar("SELECT to_regclass('half') IS NULL")
    assert migrated_journal.scalar(COUNT) == 6


def test_migrate_passes_the_url_as_written(journal: Project, database: Database) -> None:
    """Prisma gets its own parameters, from another variable too: `schema=` is where its tables go."""
    journal.use(database)
    journal.env["OTHER_URL"] = f"{database.url}?schema=tenant&connection_limit=1"
    del journal.env["DATABASE_URL"]

    result = journal.inv("db.migrate", "--url-env=OTHER_URL")

    assert result.returncode == 0, result.stdout + result.stderr
    assert database.scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'tenant'") == 18


def test_generate_makes_the_client(journal: Project, database: Database, modules: Path) -> None:
    """`prisma generate` runs in the project, and its output is shown."""
    journal.use(database)
    # The client is written into node_modules, which must not be the shared one.
    (journal.root / "node_modules").unlink()
    shutil.copytree(modules, journal.root / "node_modules", symlinks=True)

    result = journal.inv("db.generate")

    assert result.returncode == 0, result.stdout + result.stderr
    assert "Generated Prisma Client" in result.stdout


def test_migrate_without_prisma_says_what_to_install(project: Project, database: Database) -> None:
    """A project without its packages ends in 3, with its own package manager's command."""
    project.use(database)
    (project.root / "pnpm-lock.yaml").touch()

    result = project.inv("db.migrate")

    assert result.returncode == 3
    assert "`pnpm install`" in result.stderr


def test_migrate_without_node_says_so(journal: Project, database: Database, tmp_path: Path) -> None:
    """Without Node on PATH it ends in 3."""
    journal.use(database)

    result = journal.inv("db.migrate", env={"PATH": str(tmp_path)})

    assert result.returncode == 3
    assert "Node.js" in result.stderr


def test_a_dry_run_does_not_migrate(journal: Project, database: Database) -> None:
    """`inv --dry db.migrate` says what it would do."""
    journal.use(database)

    result = journal.inv("--dry", "db.migrate")

    assert result.returncode == 0
    assert "prisma migrate deploy" in result.stderr
    assert database.scalar(TABLES) == 0


# The demo with few rows; the gate runs it with all of them.
SMALL_DEMO = """
from invoke.main import program
from tasks.cli import demo
demo.EVENTS = 1000
program.run()
"""


def test_the_demo_works_without_node(tmp_path: Path) -> None:
    """Where there is no Node the migrations' own SQL builds the example, and the demo says so."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "env", "git", "rm", "mkdir", "cp", "cat", "id"):
        found = shutil.which(name)
        if found:
            (programs / name).symlink_to(found)
    environment = {
        "PATH": str(programs),
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
    }
    root = JOURNAL.parent.parent

    demo = subprocess.run(
        [sys.executable, "-c", SMALL_DEMO, "demo"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "Node or its packages" in demo.stdout
    assert "\n\nResult:\n" in demo.stdout
    assert "\\n" not in demo.stdout
