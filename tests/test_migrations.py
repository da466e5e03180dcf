"""Disk, database and dump side by side, before Prisma runs: with the real CLI on the example's own migrations."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tasks.prisma.forecast import read_histories
from tests.flows import Said, settings_of
from tests.journal import JOURNAL, PENDING, add_pending, install_fake, lay_out, migration
from tests.support import Database, blocking

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers import Server
    from tests.support import Databases, Project

INIT = "20250114093012_init"
LAST = "20260122073408_widen_amounts"
COUNT = "SELECT count(*) FROM _prisma_migrations"
FAILED = (
    "INSERT INTO _prisma_migrations (id, checksum, migration_name, started_at)"
    " VALUES ('f', 'x', '20260201000000_half', now())"
)
SLEEPING = "CREATE TABLE half (id integer); SELECT pg_sleep(60); CREATE TABLE whole (id integer);"
ACTIVE = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND state = 'active' AND query LIKE '%pg_sleep(60)%'"
)


@pytest.fixture(scope="session")
def built() -> dict[int, Database]:
    """Keep the migrated database of each server, which tests get clones of."""
    return {}


@pytest.fixture
def migrated(
    journal: Project,
    new_database: Databases,
    server: Server,
    built: dict[int, Database],
    journal_of: Callable[[Server], Database],
) -> Database:
    """Return the example's database, with its six migrations and some rows."""
    if server.port not in built:
        template = Database(server, "journal_with_rows")
        with server.connect() as connection:
            connection.execute(f"CREATE DATABASE {template.name} TEMPLATE {journal_of(server).name}".encode())
        template.execute((JOURNAL / "generate.sql").read_text(encoding="utf-8"))
        built[server.port] = template
    database = new_database(template=built[server.port])
    journal.use(database)
    return database


def states(project: Project, *flags: str) -> dict[str, dict[str, Any]]:
    """Ask for the migrations as a program does."""
    result = project.inv("db.migrations", "--json", *flags)
    assert result.returncode == 0, result.stderr
    return {each["name"]: each for each in json.loads(result.stdout)["migrations"]}


def wait_for(database: Database, query: str, seconds: float = 120) -> None:
    """Wait until a query gives something else than nothing."""
    deadline = time.monotonic() + seconds
    while not database.scalar(query):
        assert time.monotonic() < deadline, query
        time.sleep(0.05)


# db.migrations


def test_every_state_is_told(journal: Project, migrated: Database) -> None:
    """Applied, pending, failed, rolled back, baselined, edited since it was applied, unknown on disk."""
    add_pending(journal)
    folder = journal.root / "prisma" / "migrations"
    edited = folder / "20250321174530_add_goals_and_days" / "migration.sql"
    edited.write_text(edited.read_text(encoding="utf-8") + "-- one more line\n", encoding="utf-8")
    shutil.rmtree(folder / "20250608081544_add_event_enrichment")
    migrated.execute(FAILED)
    migrated.execute(f"UPDATE _prisma_migrations SET applied_steps_count = 0 WHERE migration_name = '{INIT}'")
    migrated.execute(f"UPDATE _prisma_migrations SET rolled_back_at = now() WHERE migration_name = '{LAST}'")

    found = {name: each["database"] for name, each in states(journal).items()}
    shown = journal.inv("db.migrations").stdout

    assert found == {
        INIT: "baselined",
        "20250321174530_add_goals_and_days": "applied, edited since",
        "20250608081544_add_event_enrichment": "applied, not on disk",
        "20250917152207_add_settings_and_deliveries": "applied",
        "20251104101933_require_display_name": "applied",
        LAST: "rolled back",
        "20260201000000_half": "failed, not on disk",
        PENDING: "pending",
    }
    assert "P3009" in shown
    assert "migrate resolve --rolled-back 20260201000000_half" in shown


def test_check_ends_with_6_until_every_migration_is_applied(journal: Project, migrated: Database) -> None:
    """For CI: pending and failed migrations have an exit code, and none has without --check."""
    applied = journal.inv("db.migrations", "--check")
    add_pending(journal)
    pending = journal.inv("db.migrations", "--check", "--json")
    shown = journal.inv("db.migrations")
    migrated.execute(FAILED)
    shutil.rmtree(journal.root / "prisma" / "migrations" / PENDING)
    failed = journal.inv("db.migrations", "--check")

    assert [each.returncode for each in (applied, pending, shown, failed)] == [0, 6, 0, 6]
    assert PENDING in pending.stderr
    assert json.loads(pending.stdout)["migrations"]
    assert "20260201000000_half" in failed.stderr


def test_what_is_waited_for_is_said(journal: Project, migrated: Database) -> None:
    """Prisma's own loader takes its time; the progress says so."""
    settings = settings_of(journal, environ={**os.environ, "DATABASE_URL": migrated.url})
    report = Said()

    read_histories(settings, "", report)

    assert "waiting for Prisma to read prisma.config.ts" in [what for what, *_ in report.progresses]


@pytest.mark.usefixtures("migrated")
def test_a_dump_has_its_own_column(journal: Project, new_database: Databases) -> None:
    """With --file= the dump's history stands beside the database's, with a manifest and without."""
    assert journal.inv("db.dump").returncode == 0
    (dump,) = journal.dumps.glob("*.sql")
    shutil.copy(dump, journal.dumps / "foreign.sql")
    add_pending(journal)
    journal.use(new_database())

    ours, foreign = states(journal, f"--file={dump.name}"), states(journal, "--file=foreign.sql")

    assert ours == foreign
    assert ours[INIT] == {"name": INIT, "on_disk": True, "database": "pending", "dump": "applied"}
    assert ours[PENDING] == {"name": PENDING, "on_disk": True, "database": "pending", "dump": "pending"}


def test_a_failed_migration_that_was_applied_later_stays_failed_for_prisma(
    journal: Project, migrated: Database
) -> None:
    """Prisma judges row by row: a failed one stops it, whatever came later; and so we say."""
    migrated.execute(
        f"INSERT INTO _prisma_migrations (id, checksum, migration_name, started_at)"
        f" VALUES ('f', 'x', '{LAST}', now() - interval '9 years')"
    )

    found = states(journal)[LAST]["database"]
    deployed = journal.inv("db.migrate")

    assert found == "failed"
    assert deployed.returncode == 5
    assert "P3009" in deployed.stderr


@pytest.mark.usefixtures("migrated")
def test_line_ends_are_no_edit(journal: Project) -> None:
    """A checkout on Windows changes them, and Prisma accepts both."""
    script = journal.root / "prisma" / "migrations" / INIT / "migration.sql"
    script.write_bytes(script.read_bytes().replace(b"\n", b"\r\n"))

    assert states(journal)[INIT]["database"] == "applied"


def test_prismas_checksum_is_of_the_text(journal: Project, database: Database) -> None:
    """Bytes that are no UTF-8 are replaced before Prisma sums them."""
    script = migration(journal, "20270101000000_latin", "")
    script.write_bytes("-- caf\xe9\nSELECT 1;\n".encode("latin-1"))
    journal.use(database)

    assert journal.inv("db.migrate").returncode == 0

    assert states(journal)["20270101000000_latin"]["database"] == "applied"
    noted = database.scalar("SELECT checksum FROM _prisma_migrations WHERE migration_name = '20270101000000_latin'")
    assert noted != hashlib.sha256(script.read_bytes()).hexdigest()


# Before a migrate


def test_tables_without_a_history_are_p3005(journal: Project, database: Database) -> None:
    """It is said before, with what to do, Prisma says it too, and nothing is changed."""
    database.execute("CREATE TABLE old (id integer PRIMARY KEY)")
    before = database.dump_text()
    journal.use(database)

    result = journal.inv("db.migrate")

    assert result.returncode == 5
    assert "P3005" in result.stderr.partition("Error:")[0]
    assert "npx prisma migrate resolve --applied" in result.stderr
    assert "P3005" in (result.stdout + result.stderr).rpartition("Error:")[2]
    assert database.dump_text() == before


@pytest.mark.parametrize(
    ("sql", "refused"),
    [
        ("CREATE TABLE t (id integer)", True),
        ("CREATE TABLE p (id integer) PARTITION BY LIST (id); CREATE TABLE c PARTITION OF p DEFAULT", True),
        ("CREATE VIEW v AS SELECT 1 AS one; CREATE TYPE e AS ENUM ('a'); CREATE SEQUENCE s", False),
        ("CREATE SCHEMA other; CREATE TABLE other.t (id integer)", False),
        ("CREATE TABLE spatial_ref_sys (id integer)", False),
    ],
    ids=["table", "partition", "no tables", "another schema", "PostGIS"],
)
def test_we_and_prisma_agree_on_what_is_not_empty(
    journal: Project, database: Database, sql: str, *, refused: bool
) -> None:
    """What we foresee is what the real CLI then does."""
    database.execute(sql)
    shutil.rmtree(journal.root / "prisma" / "migrations")
    migration(journal, "20250101000000_first", "CREATE TABLE first (id integer);")
    shutil.copy(JOURNAL / "prisma" / "migrations" / "migration_lock.toml", journal.root / "prisma" / "migrations")
    journal.use(database)

    result = journal.inv("db.migrate")

    assert ("(Prisma: P3005)" in result.stderr) == refused
    assert result.returncode == (5 if refused else 0)


def test_a_failed_migration_is_p3009(journal: Project, migrated: Database) -> None:
    """It is said before, with both ways out, and Prisma says it too."""
    migrated.execute(FAILED)
    before = migrated.dump_text()

    result = journal.inv("db.migrate")

    assert result.returncode == 5
    assert re.search(r"20260201000000_half\b.*\bP3009", result.stderr)
    assert "Error: P3009" in result.stdout + result.stderr
    assert migrated.dump_text() == before


@pytest.mark.usefixtures("migrated")
def test_a_migration_without_its_file_is_p3015(journal: Project) -> None:
    """An empty folder stops a deploy, unless it was applied already."""
    (journal.root / "prisma" / "migrations" / "20270101000000_empty").mkdir()
    (journal.root / "prisma" / "migrations" / INIT / "migration.sql").unlink()

    result = journal.inv("db.migrate")

    assert result.returncode == 5
    assert re.search(r"20270101000000_empty\b.*\bP3015", result.stderr)
    assert "Error: P3015" in result.stdout + result.stderr


def test_an_edited_migration_is_warned_of_and_prisma_does_not_notice(journal: Project, migrated: Database) -> None:
    """Deploy ends in 0, and the history is as it was."""
    script = journal.root / "prisma" / "migrations" / INIT / "migration.sql"
    script.write_text(script.read_text(encoding="utf-8").replace("TEXT", "VARCHAR(9)"), encoding="utf-8")

    result = journal.inv("db.migrate")

    assert result.returncode == 0
    assert INIT in result.stderr
    assert "No pending migrations" in result.stdout
    assert migrated.scalar(COUNT) == 6


def test_a_failing_migration_tells_the_way_back(journal: Project, migrated: Database) -> None:
    """After a clean restore the message names undo, which brings back the restored dump, as before the migration."""
    assert journal.inv("db.dump").returncode == 0
    before = migrated.dump_text()
    migrated.execute('DELETE FROM "JournalLog"')
    migration(journal, "20270101000000_broken", "SELECT * FROM nowhere;")

    chain = journal.inv("db.restore", "--clean", "--yes", "db.migrate", "db.verify")
    again = journal.inv("db.migrate")
    undone = journal.inv("db.undo", "--yes")

    assert chain.returncode == 5
    assert "20270101000000_broken" in chain.stderr.partition("Error:")[0]
    assert "`inv db.undo`" in chain.stderr.rpartition("Error:")[2]
    assert again.returncode == 5
    assert "P3009" in again.stderr
    assert undone.returncode == 0, undone.stderr
    assert migrated.dump_text() == before


# Before a restore


def test_a_restore_warns_of_a_failed_migration_in_the_dump(
    journal: Project, migrated: Database, new_database: Databases
) -> None:
    """With --strict and with --migrate it is refused before anything is touched."""
    migrated.execute(FAILED)
    assert journal.inv("db.dump").returncode == 0
    target = new_database()
    target.execute("CREATE TABLE here (id integer); INSERT INTO here VALUES (1)")
    before = target.dump_text()
    journal.use(target)

    strict = journal.inv("db.restore", *journal.into(target), "--clean", "--yes", "--strict")
    both = journal.inv("db.restore", *journal.into(target), "--clean", "--yes", "--migrate")
    untouched = target.dump_text()
    warned = journal.inv("db.restore", *journal.into(target), "--clean", "--yes")

    for refused in (strict, both):
        assert refused.returncode == 2
        assert "P3009" in refused.stderr
    assert untouched == before
    assert warned.returncode == 0
    assert "P3009" in warned.stderr


def test_a_restore_warns_of_a_dump_without_a_history(
    journal: Project, new_database: Databases, database: Database
) -> None:
    """P3005 is foreseen for a foreign dump, too; INSERTs of a history are not read, and not judged."""
    database.execute("CREATE TABLE old (id integer PRIMARY KEY); INSERT INTO old VALUES (1)")
    (journal.dumps / "foreign.sql").write_bytes(database.dump_text())
    other = new_database()
    assert journal.use(other).inv("db.migrate").returncode == 0
    (journal.dumps / "inserts.sql").write_bytes(other.dump_text("--inserts"))
    journal.use(new_database())

    strict = journal.inv("db.restore", "--file=foreign.sql", "--strict")
    warned = journal.inv("db.restore", "--file=foreign.sql")
    inserts = journal.inv("db.restore", "--file=inserts.sql", "--clean", "--yes", "--strict")

    assert strict.returncode == 2
    assert "P3005" in strict.stderr
    assert warned.returncode == 0
    assert "P3005" in warned.stderr
    assert inserts.returncode == 0, inserts.stderr
    assert "P3005" not in inserts.stderr


@pytest.mark.usefixtures("migrated_journal")
def test_a_dump_of_another_branch_is_told(journal: Project) -> None:
    """Migrations that this checkout does not have are named; Prisma would not notice."""
    script = migration(journal, "20270101000000_on_a_branch", "CREATE TABLE branch (id integer);")
    assert journal.inv("db.migrate", "db.dump").returncode == 0
    shutil.rmtree(script.parent)

    restored = journal.inv("db.restore", "--clean", "--yes", "--strict")

    assert restored.returncode == 0, restored.stderr
    assert "20270101000000_on_a_branch" in restored.stderr


def test_a_project_that_does_not_migrate_hears_nothing(project: Project, database: Database) -> None:
    """Without migrations (`prisma db push`, or no Prisma at all) there is nothing to foresee."""
    project.write("prisma/schema.prisma", "datasource db {}\n")
    database.execute("CREATE TABLE old (id integer PRIMARY KEY)")
    assert project.use(database).inv("db.dump").returncode == 0

    restored = project.inv("db.restore", "--clean", "--yes", "--strict")
    shown = project.inv("db.migrations")

    assert restored.returncode == 0
    assert "Prisma" not in restored.stderr
    assert shown.returncode == 0


def test_a_configuration_that_cannot_be_read_is_no_reason_to_fail_a_restore(
    journal: Project, migrated: Database
) -> None:
    """The restore goes on and says so; the table of migrations is refused, and nothing shows the password."""
    assert journal.inv("db.dump").returncode == 0
    journal.write("prisma.config.ts", "throw new Error('broken ' + process.env.DATABASE_URL)\n")

    restored = journal.inv("db.restore", "--clean", "--yes")
    shown = journal.inv("db.migrations")

    assert restored.returncode == 0
    assert "prisma.config.ts" in restored.stderr
    assert shown.returncode == 2
    assert "broken" in shown.stderr
    for result in (restored, shown):
        assert migrated.url.split(":")[2].split("@")[0] not in result.stdout + result.stderr


# One undoable step


@pytest.mark.usefixtures("migrated")
def test_restore_and_migrate_as_one_step(journal: Project, new_database: Databases) -> None:
    """It ends restored and migrated, with a safety dump to undo both, and verify agrees."""
    assert journal.inv("db.dump").returncode == 0
    target = new_database()
    target.execute("CREATE TABLE here (id integer); INSERT INTO here VALUES (1)")
    before = target.dump_text()
    journal.use(target)
    add_pending(journal)

    done = journal.inv("db.restore", *journal.into(target), "--clean", "--migrate", "--yes", "db.verify")
    assert done.returncode == 0, done.stderr
    assert target.scalar(COUNT) == 7
    undone = journal.inv("db.undo", "--yes")

    assert undone.returncode == 0, undone.stderr
    assert target.dump_text() == before


@pytest.mark.parametrize("rows", [True, False], ids=["rows", "empty"])
@pytest.mark.usefixtures("migrated")
def test_a_failing_migration_brings_back_what_was_there(
    journal: Project, new_database: Databases, *, rows: bool
) -> None:
    """What the restore and the migrations brought goes, schemas and all; with no rows before, too."""
    assert journal.inv("db.dump").returncode == 0
    target = new_database()
    if rows:
        target.execute("CREATE TABLE here (id integer); INSERT INTO here VALUES (1)")
    before = target.dump_text()
    journal.use(target)
    migration(journal, "20270101000000_good", "CREATE SCHEMA later; CREATE TABLE later.t (id integer);")
    migration(journal, "20270201000000_broken", "SELECT * FROM nowhere;")

    failed = journal.inv(
        "db.restore", *journal.into(target), "--clean", "--migrate", "--yes", env={"INVOKE_DB_BACKUP": "0"}
    )

    assert failed.returncode == 5
    assert target.dump_text() == before
    assert not list(journal.dumps.glob("undo/*.zst"))


@pytest.mark.usefixtures("migrated")
def test_an_interrupted_migration_brings_back_what_was_there(journal: Project, new_database: Databases) -> None:
    """Ctrl-C in the migration ends Prisma and what the server still did for it, and undoes the restore."""
    assert journal.inv("db.dump").returncode == 0
    target = new_database()
    target.execute("CREATE TABLE here (id integer); INSERT INTO here VALUES (1)")
    before = target.dump_text()
    journal.use(target)
    migration(journal, "20270101000000_slow", SLEEPING)

    process = journal.popen("db.restore", *journal.into(target), "--clean", "--migrate", "--yes")
    wait_for(target, ACTIVE)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert process.returncode == 130
    assert target.dump_text() == before


def test_a_signal_between_restore_and_migration_brings_back_what_was_there(
    journal: Project, migrated: Database, new_database: Databases
) -> None:
    """The restore is committed, and its ANALYZE is still at work: without the migration, none of it stays."""
    # It sleeps where a session of ours has no transaction of a restore: in ANALYZE alone.
    migrated.execute(
        "CREATE FUNCTION slow(n integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$BEGIN"
        " IF current_setting('application_name') = 'invoke-postgres' AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks"
        " WHERE locktype = 'advisory' AND pid = pg_backend_pid()) THEN PERFORM pg_catalog.pg_sleep(60); END IF;"
        " RETURN n; END$$; CREATE TABLE analyzed AS SELECT 1 AS n; CREATE INDEX ON analyzed (slow(n))"
    )
    assert journal.inv("db.dump").returncode == 0
    target = new_database()
    target.execute("CREATE TABLE here (id integer); INSERT INTO here VALUES (1)")
    before = target.dump_text()
    journal.use(target)

    process = journal.popen("db.restore", *journal.into(target), "--clean", "--migrate", "--yes")
    wait_for(target, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'ANALYZE%' AND wait_event = 'PgSleep'")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert process.returncode == 130
    assert target.dump_text() == before


@pytest.mark.usefixtures("migrated")
def test_bringing_back_can_be_interrupted_and_undo_goes_on(journal: Project, new_database: Databases) -> None:
    """A second Ctrl-C ends that, too; the message says what the database holds, and undo still works."""
    assert journal.inv("db.dump").returncode == 0
    target = new_database()
    target.execute("CREATE TABLE here (id integer); INSERT INTO here VALUES (1)")
    before = target.dump_text()
    journal.use(target)
    journal.env["INVOKE_DB_LOCK_TIMEOUT"] = "60s"
    migration(journal, "20270101000000_slow", SLEEPING)

    process = journal.popen("db.restore", *journal.into(target), "--clean", "--migrate", "--yes")
    wait_for(target, ACTIVE)
    with blocking(target, 'LOCK TABLE "JournalLog" IN ACCESS SHARE MODE'):
        process.send_signal(signal.SIGINT)
        wait_for(target, "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'")
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    holds = target.scalar("SELECT to_regclass('\"JournalLog\"') IS NOT NULL")
    undone = journal.inv("db.undo", "--yes")

    assert process.returncode == 143
    assert "`inv db.undo`" in stderr
    assert holds
    assert undone.returncode == 0, undone.stderr
    assert target.dump_text() == before


@pytest.mark.parametrize("flags", [["--migrate"], ["--migrate", "--clean", "--no-backup"]], ids=str)
def test_one_step_wants_clean_and_a_safety_dump(journal: Project, database: Database, flags: list[str]) -> None:
    """Else it could not be undone."""
    journal.use(database)

    result = journal.inv("db.restore", "--yes", *flags)

    assert result.returncode == 2
    assert "--clean" in result.stderr


# At the same time


def test_two_deploys_at_once_apply_each_migration_once(journal: Project, database: Database) -> None:
    """Prisma's lock lets one wait for the other."""
    journal.use(database)

    processes = [journal.popen("db.migrate") for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in processes]

    assert [process.returncode for process in processes] == [0, 0], outputs
    assert database.scalar(f"{COUNT} WHERE finished_at IS NOT NULL") == database.scalar(COUNT) == 6
    assert sum("No pending migrations" in stdout for stdout, _ in outputs) == 1


def test_a_deploy_waits_for_a_restore(journal: Project, migrated: Database) -> None:
    """It begins when the restore has committed, and finds the dump's history."""
    assert journal.inv("db.dump").returncode == 0
    add_pending(journal)
    journal.env["INVOKE_DB_LOCK_TIMEOUT"] = "60s"

    with blocking(migrated, 'LOCK TABLE "User" IN ROW EXCLUSIVE MODE'):
        restore = journal.popen("db.restore", "--clean", "--yes")
        wait_for(migrated, "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareLock'")
        deploy = journal.popen("db.migrate")
        wait_for(migrated, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        assert deploy.poll() is None
    outputs = restore.communicate(timeout=60), deploy.communicate(timeout=60)

    assert (restore.returncode, deploy.returncode) == (0, 0), outputs
    assert migrated.scalar(COUNT) == 7


def test_a_restore_gives_way_to_a_deploy(journal: Project, migrated: Database) -> None:
    """While a migration runs, a restore and a reset refuse, and touch nothing."""
    assert journal.inv("db.dump").returncode == 0
    migration(journal, "20270101000000_slow", SLEEPING)

    deploy = journal.popen("db.migrate")
    wait_for(migrated, ACTIVE)
    results = [
        journal.inv("db.restore", "--clean", "--yes"),
        journal.inv("db.reset", "--yes"),
        journal.inv("db.migrate"),
    ]
    deploy.send_signal(signal.SIGTERM)
    deploy.communicate(timeout=60)

    assert [result.returncode for result in results] == [4, 4, 5]
    assert "pg_advisory_lock" in results[2].stdout + results[2].stderr
    assert migrated.scalar('SELECT count(*) FROM "User"') > 0


def test_ctrl_c_ends_prisma_and_what_the_server_does_for_it(journal: Project, migrated: Database) -> None:
    """Exit status 130; the script is rolled back, its row says failed, and nothing holds Prisma's lock any more."""
    migration(journal, "20270101000000_slow", SLEEPING)

    process = journal.popen("db.migrate")
    wait_for(migrated, ACTIVE)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)

    assert process.returncode == 130
    assert migrated.scalar(ACTIVE) == 0
    assert migrated.scalar("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
    assert migrated.scalar("SELECT to_regclass('half') IS NULL AND to_regclass('whole') IS NULL")
    assert states(journal)["20270101000000_slow"]["database"] == "failed"


# Projects that people have


def test_another_schema_than_public(journal: Project, database: Database) -> None:
    """`?schema=tenant`: the history lies there, and is found in database and dump."""
    journal.use(database)
    journal.env["DATABASE_URL"] = f"{database.url}?schema=tenant"
    database.execute("CREATE TABLE public.beside (id integer)")

    migrated = journal.inv("db.migrate", "db.dump")
    (dump,) = journal.dumps.glob("*.sql")
    add_pending(journal)
    before = states(journal, f"--file={dump.name}")
    chain = journal.inv("db.restore", "--clean", "--yes", "--strict", "db.migrate", "db.verify")

    assert migrated.returncode == 0, migrated.stderr
    assert "P3005" not in migrated.stderr
    assert before[INIT] == {"name": INIT, "on_disk": True, "database": "applied", "dump": "applied"}
    assert chain.returncode == 0, chain.stderr
    assert database.scalar("SELECT count(*) FROM tenant._prisma_migrations") == 7


def test_a_workspace_is_found(project: Project, modules: Path, database: Database) -> None:
    """The one workspace with a schema is where Prisma runs, with packages hoisted to the root."""
    home = lay_out(project, modules, "packages/db")
    (home / "node_modules").rename(project.root / "node_modules")
    project.write("package.json", '{"private": true, "workspaces": ["packages/*"], "packageManager": "pnpm@9.1.0"}')
    project.use(database)

    result = project.inv("db.migrate")

    assert result.returncode == 0, result.stdout + result.stderr
    assert database.scalar(COUNT) == 6
    assert set(states(project)) >= {INIT, LAST}


def test_several_workspaces_want_a_choice(project: Project, modules: Path, database: Database) -> None:
    """Two schemas are a question, and `prisma_dir` the answer."""
    for name in ("a", "b"):
        lay_out(project, modules, f"apps/{name}")
    project.write("pnpm-workspace.yaml", "packages:\n  - 'apps/*'  # all\n  - '!apps/old'\ncatalog:\n  - x\n")
    project.use(database)

    refused = project.inv("db.migrate")
    chosen = project.inv("db.migrate", env={"INVOKE_DB_PRISMA_DIR": "apps/b"})

    assert refused.returncode == 2
    assert "apps/a, apps/b" in refused.stderr
    assert chosen.returncode == 0, chosen.stderr


def test_the_migrations_path_of_a_configuration_is_heard(journal: Project, database: Database) -> None:
    """Prisma's own loader resolves it, whatever the file prints."""
    config = (journal.root / "prisma.config.ts").read_text(encoding="utf-8")
    config = config.replace("path: 'prisma/migrations'", "path: 'database/steps'")
    journal.write("prisma.config.ts", config + "\nconsole.log('loaded', JSON.stringify({ a: 1 }))\n")
    shutil.move(journal.root / "prisma" / "migrations", journal.root / "database" / "steps")
    journal.use(database)

    assert journal.inv("db.migrate").returncode == 0

    assert states(journal)[INIT]["database"] == "applied"


def test_a_schema_of_several_files_is_understood(journal: Project, database: Database) -> None:
    """The migrations lie beside the file with the datasource block, not beside the folder."""
    folder = journal.root / "prisma" / "schema"
    folder.mkdir()
    text = (journal.root / "prisma" / "schema.prisma").read_text(encoding="utf-8")
    head, model, rest = text.partition("\nmodel ")
    (folder / "models.prisma").write_text(model + rest, encoding="utf-8")
    (folder / "main.prisma").write_text(head, encoding="utf-8")
    (journal.root / "prisma" / "schema.prisma").unlink()
    shutil.move(journal.root / "prisma" / "migrations", folder / "migrations")
    config = (journal.root / "prisma.config.ts").read_text(encoding="utf-8")
    config = config.replace("schema: 'prisma/schema.prisma'", "schema: 'prisma/schema'")
    journal.write("prisma.config.ts", config.replace("  migrations: { path: 'prisma/migrations' },\n", ""))
    journal.use(database)

    result = journal.inv("db.migrate")

    assert result.returncode == 0, result.stdout + result.stderr
    assert states(journal)[INIT]["database"] == "applied"


def test_a_direct_url_of_another_database_is_refused(journal: Project, database: Database) -> None:
    """Prisma would migrate what `directUrl` names; one that names the same database passes, as it is."""
    schema = journal.root / "prisma" / "schema.prisma"
    text = schema.read_text(encoding="utf-8")
    schema.write_text(
        text.replace('env("DATABASE_URL")', 'env("DATABASE_URL")\n  directUrl = env("DIRECT_URL")'), encoding="utf-8"
    )
    journal.use(database)

    refused = journal.inv("db.migrate", env={"DIRECT_URL": "postgresql://u:secret@db.example.com/production"})
    passed = journal.inv("db.migrate", env={"DIRECT_URL": database.url})

    assert refused.returncode == 2
    assert "production" in refused.stderr
    assert "secret" not in refused.stderr
    assert passed.returncode == 0, passed.stderr


def test_the_command_can_be_configured(journal: Project, database: Database) -> None:
    """A command of the project's own takes the place of Prisma's, in the same folder with the same URL."""
    journal.use(database)
    words = "node -e 'console.log(process.cwd(), new URL(process.env.DATABASE_URL).pathname)'"

    result = journal.inv("db.migrate", env={"INVOKE_DB_MIGRATE_COMMAND": words})
    broken = journal.inv("db.migrate", env={"INVOKE_DB_MIGRATE_COMMAND": "node 'x"})

    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(journal.root), f"/{database.name}"]
    assert broken.returncode == 2
    assert "migrate_command" in broken.stderr


def test_prisma_8_keeps_its_history_elsewhere(project: Project, database: Database) -> None:
    """Its migrations are not ours to read: `db.migrations` says so, and a restore is silent about them."""
    install_fake(project.root, "8.0.0-rc.19")
    project.write("prisma.config.ts", "import { defineConfig } from '@prisma/orm-postgres/config'\n")
    database.execute("CREATE TABLE here (id integer)")
    project.use(database)

    shown = project.inv("db.migrations")
    restored = project.inv("db.dump", "db.restore", "--clean", "--yes")

    assert shown.returncode == 2
    assert "`npx prisma migration status`" in shown.stderr
    assert restored.returncode == 0
    assert "migrations" not in restored.stderr
