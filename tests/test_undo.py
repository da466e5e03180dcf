"""What a clean restore or a reset took away, `db.undo` brings back, and can itself be undone."""

import json
import os
import signal
import threading
from pathlib import Path

import psycopg
import pytest

from tasks.dumpfiles.paths import manifest_path, read_manifest
from tests.commands import END, SLEEP, ended, wait_until
from tests.flows import newest, safety_dumps
from tests.marks import Mark
from tests.schemas import OTHERS, SHOP
from tests.servers import OWNER
from tests.support import Database, Databases, Project, blocking

GLOBALS = """
CREATE PUBLICATION leftovers FOR TABLE kept.rows;
CREATE FUNCTION kept.noted() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER noticed ON ddl_command_end EXECUTE FUNCTION kept.noted();
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE TYPE kept.pair AS (a integer, b integer);
CREATE FUNCTION kept.pair_to_text(kept.pair) RETURNS text LANGUAGE sql AS 'SELECT ($1).a::text';
CREATE CAST (kept.pair AS text) WITH FUNCTION kept.pair_to_text(kept.pair);
SELECT lo_from_bytea(424242, 'old');
SELECT lo_from_bytea(424243, 'older');
"""


@pytest.mark.majors(14, 18)
def test_undo_gives_back_the_whole_database_and_so_does_its_own_undo(
    everything: Database, new_database: Databases, project: Project
) -> None:
    """Schemas, extensions, publications, event triggers, servers and large objects that the restore brought go."""
    assert project.use(everything).inv("db.dump").returncode == 0
    target = new_database()
    target.execute(OTHERS)
    target.execute(GLOBALS)
    old = target.dump_text()
    project.use(target)

    restored = project.inv("db.restore", "--clean", "--yes", *project.into(target))
    assert restored.returncode == 0, restored.stderr
    new = target.dump_text()
    undone = project.inv("db.undo", "--yes")
    assert undone.returncode == 0, undone.stderr
    after_undo = target.dump_text()
    again = project.inv("db.undo", "--yes")

    assert again.returncode == 0, again.stderr
    assert new != old
    assert after_undo == old
    assert target.dump_text() == new


@pytest.mark.majors(14, 18)
def test_undo_works_when_the_owner_is_no_superuser(
    owner_everything: Database, new_database: Databases, project: Project
) -> None:
    """A plain owner undoes, too."""
    assert project.use(owner_everything, OWNER).inv("db.dump").returncode == 0
    # Its extensions are a superuser's, who installed them.
    target = new_database(owner=OWNER, template=owner_everything)
    target.execute("DROP SCHEMA app CASCADE", OWNER)
    target.execute("CREATE SCHEMA app; CREATE TABLE app.mine AS SELECT 1 AS one; CREATE SCHEMA kept", OWNER)
    old = target.dump_text()
    project.use(target, OWNER)

    restored = project.inv("db.restore", "--clean", "--yes", *project.into(target))
    assert restored.returncode == 0, restored.stderr
    undone = project.inv("db.undo", "--yes")

    assert undone.returncode == 0, undone.stderr
    assert target.dump_text() == old


def test_undo_says_so_when_the_last_restore_left_no_safety_dump(shop: Database, project: Project) -> None:
    """It then goes back behind that restore, which nobody expects."""
    assert project.use(shop).inv("db.dump").returncode == 0
    assert project.inv("db.restore", "--clean", "--yes").returncode == 0

    before = project.inv("db.undo", "--dry")
    assert project.inv("db.restore", "--clean", "--yes", "--no-backup").returncode == 0
    after = project.inv("db.undo", "--yes")
    again = project.inv("db.undo", "--yes")

    assert "made no safety dump" not in before.stderr
    assert "made no safety dump" in after.stderr
    assert f"of {newest(project).name} at " in after.stderr
    # The undo made one.
    assert "made no safety dump" not in again.stderr
    assert [before.returncode, after.returncode, again.returncode] == [0, 0, 0]


def test_two_clean_restores_restore_the_same_file(shop: Database, project: Project) -> None:
    """A safety dump is never the newest, and no task takes it for a dump."""
    assert project.use(shop).inv("db.dump").returncode == 0
    first = newest(project)

    results = [project.inv("db.restore", "--clean", "--yes") for _ in range(2)]
    others = project.inv("db.verify"), project.inv("db.gzip"), project.inv("db.inspect")

    assert [result.returncode for result in (*results, *others)] == [0] * 5
    assert all(first.name in result.stdout for result in results)
    assert newest(project).name == first.name + ".gz"
    assert [path.suffix for path in safety_dumps(project)] == [".zst", ".zst"]


def test_reset_can_be_undone(shop: Database, project: Project) -> None:
    """What a reset empties comes back, the cost is told, and a further schema that depends on it stays whole."""
    old = shop.dump_text()
    project.use(shop)

    reset = project.inv("db.reset", "--schema=public", "--schema=app", "--yes")
    undone = project.inv("db.undo", "--yes")

    assert (reset.returncode, undone.returncode) == (0, 0)
    assert "420 rows" in reset.stdout
    assert "`inv db.undo` restores it" in reset.stdout
    assert "before resetting public, app" in undone.stderr
    assert shop.dump_text() == old


def test_no_safety_dump_is_made_when_there_is_nothing(shop: Database, project: Project, database: Database) -> None:
    """Empty schemas are no loss."""
    assert project.use(shop).inv("db.dump").returncode == 0
    database.execute("CREATE SCHEMA app")
    project.use(database)

    assert project.inv("db.restore", "--clean", "--yes", *project.into(database)).returncode == 0

    assert not safety_dumps(project)


@pytest.mark.parametrize("way", ["--no-backup", "INVOKE_DB_BACKUP"])
def test_no_safety_dump_is_made_when_it_is_not_wanted(shop: Database, project: Project, way: str) -> None:
    """Neither with --no-backup nor where none are kept."""
    assert project.use(shop).inv("db.dump").returncode == 0
    flags, env = ([way], {}) if way.startswith("-") else ([], {way: "0"})

    results = [
        project.inv("db.restore", "--clean", "--yes", *flags, env=env),
        project.inv("db.reset", "--yes", "--schema=app", "--schema=public", *flags, env=env),
    ]

    assert [result.returncode for result in results] == [0, 0], results[1].stderr
    assert not safety_dumps(project)
    undo = project.inv("db.undo", "--yes")
    assert undo.returncode == 2


def test_as_many_are_kept_as_the_configuration_says(shop: Database, project: Project) -> None:
    """The newest ones and the oldest of the day; the others are deleted with their manifests after the restore."""
    assert project.use(shop).inv("db.dump").returncode == 0
    project.env["INVOKE_DB_BACKUP"] = "2"
    seen = []
    for _ in range(4):
        assert project.inv("db.restore", "--clean", "--yes").returncode == 0
        seen.append(safety_dumps(project))

    assert [len(each) for each in seen] == [1, 2, 3, 3]
    assert seen[3][:2] == [seen[0][0], seen[2][2]]
    assert len(list(project.dumps.glob("undo/*.manifest.json"))) == 3


def test_a_clock_that_was_set_back_costs_no_safety_dump(database: Database, project: Project) -> None:
    """The one that was just made is kept, and no undo takes one with a time in the future for the newest."""
    database.psql("CREATE TABLE first (i int); INSERT INTO first VALUES (1)")
    rows = database.dump_text()
    project.use(database).env["INVOKE_DB_SAFETY_DUMPS"] = "1"
    assert project.inv("db.reset", "--yes").returncode == 0
    (first,) = safety_dumps(project)
    future = first.with_name("db_undo_2099-01-01T00-00-00-000Z.sql.zst")
    text = manifest_path(first).read_text(encoding="utf-8").replace(first.name, future.name)
    manifest_path(future).write_text(text, encoding="utf-8")
    manifest_path(first).unlink()
    first.rename(future)
    database.psql("CREATE TABLE later (i int); INSERT INTO later VALUES (1)")

    reset = project.inv("db.reset", "--yes")
    kept = safety_dumps(project)
    refused = project.inv("db.undo", "--yes")
    ids = [read_manifest(path) for path in kept]
    undone = [project.inv("db.undo", "--yes", f"--to={each.id}").returncode for each in ids if each]

    assert (reset.returncode, refused.returncode, undone) == (0, 2, [0, 0])
    assert future in kept
    assert database.dump_text() == rows


def test_one_that_is_kept_is_enough_to_undo_the_undo(shop: Database, project: Project) -> None:
    """The dump that an undo restores is not pruned before it is restored."""
    assert project.use(shop).inv("db.dump").returncode == 0
    project.env["INVOKE_DB_BACKUP"] = "1"
    shop.execute("DELETE FROM app.item WHERE id > 10")
    assert project.inv("db.restore", "--clean", "--yes").returncode == 0

    counts = []
    for _ in range(3):
        assert project.inv("db.undo", "--yes").returncode == 0
        counts.append(shop.scalar("SELECT count(*) FROM app.item"))

    assert counts == [10, 300, 10]
    assert len(safety_dumps(project)) <= 3


def test_undo_takes_no_safety_dump_of_another_database(
    shop: Database, new_database: Databases, project: Project
) -> None:
    """Another database's safety dump is neither restored nor pruned."""
    other = new_database()
    other.execute(SHOP)
    project.use(shop)
    assert project.inv("db.reset", "--yes", "--schema=app", "--schema=public").returncode == 0

    refused = project.use(other).inv("db.undo", "--yes")
    project.env["INVOKE_DB_BACKUP"] = "1"
    assert project.inv("db.reset", "--yes", "--schema=app", "--schema=public").returncode == 0

    assert refused.returncode == 2
    assert other.name in refused.stderr
    assert len(safety_dumps(project)) == 2
    assert project.use(shop).inv("db.undo", "--yes").returncode == 0
    assert shop.scalar("SELECT count(*) FROM app.item") == 300


def test_a_restore_that_is_rolled_back_leaves_no_safety_dump(shop: Database, project: Project) -> None:
    """Nothing was lost, so there is nothing to undo; the dump's file goes with it."""
    old = shop.dump_text()
    bad = b"CREATE SCHEMA app; CREATE TABLE app.item (id integer); SELECT 1/0;\n-- PostgreSQL database dump complete\n"
    (project.dumps / "bad.sql").write_bytes(bad)
    project.use(shop)

    result = project.inv("db.restore", "--clean", "--yes", "--trust", "--file=bad.sql")

    assert result.returncode == 5
    assert shop.dump_text() == old
    assert not safety_dumps(project)
    assert not list(project.dumps.glob("undo/*.json"))


def test_undo_passes_over_the_safety_dump_of_a_killed_restore(shop: Database, project: Project) -> None:
    """The killed restore came to nothing: what it had saved is no step back, and is removed."""
    old = shop.dump_text()
    emptied = project.use(shop).inv("db.reset", "--yes", "--schema=app", "--schema=public")
    assert emptied.returncode == 0, emptied.stderr
    (kept,) = safety_dumps(project)
    shop.execute("CREATE TABLE public.later AS SELECT 1 AS one")
    (project.dumps / "slow.sql").write_bytes(b"CREATE TABLE public.new (id integer);\n" + SLEEP + END)
    process = project.popen("db.restore", "--clean", "--yes", "--trust", "--file=slow.sql")
    pid = wait_until(shop, "PgSleep")
    os.killpg(process.pid, signal.SIGKILL)
    ended(process)
    shop.execute(f"SELECT pg_terminate_backend({pid}, 10000)")
    (_, killed) = safety_dumps(project)

    undone = project.inv("db.undo", "--yes")

    assert undone.returncode == 0, undone.stderr
    assert shop.dump_text() == old
    assert kept in safety_dumps(project)
    assert killed not in safety_dumps(project)


def test_safety_dump_of_a_copied_cluster_is_left_alone(shop: Database, project: Project) -> None:
    """A copy bears the same number, and a transaction of the number that came to nothing: what was committed there."""
    assert project.use(shop).inv("db.reset", "--yes", "--schema=app", "--schema=public").returncode == 0
    (path,) = safety_dumps(project)
    manifest = manifest_path(path)
    document = json.loads(manifest.read_text(encoding="utf-8"))
    with shop.connect(autocommit=False) as connection:
        ((document["transaction"],),) = connection.execute("SELECT pg_current_xact_id()::text").fetchall()
        connection.rollback()
    document["source"]["port"] = 1
    manifest.write_text(json.dumps(document), encoding="utf-8")
    shop.execute("CREATE TABLE public.t AS SELECT 1 AS a")

    again = project.inv("db.reset", "--yes")

    assert again.returncode == 0, again.stderr
    assert path in safety_dumps(project)


def test_nothing_is_touched_when_there_is_no_pg_dump(shop: Database, project: Project, tmp_path: Path) -> None:
    """Exit status 3 before anything, and the flag that goes on without."""
    assert project.use(shop).inv("db.dump").returncode == 0
    old = shop.dump_text()
    env = {"INVOKE_DB_BIN_DIR": str(tmp_path), "PATH": str(tmp_path)}

    refused = project.inv("db.restore", "--clean", "--yes", env=env)
    without = project.inv("db.restore", "--clean", "--yes", "--no-backup", env=env)

    assert refused.returncode == 3
    assert "--no-backup" in refused.stderr
    assert without.returncode == 0, without.stderr
    assert shop.dump_text() == old


def test_nothing_is_touched_when_the_safety_dump_fails(shop: Database, project: Project) -> None:
    """Its folder is in the way of a file: the restore is rolled back before it began."""
    assert project.use(shop).inv("db.dump").returncode == 0
    old = shop.dump_text()
    (project.dumps / "undo").write_text("a file", encoding="utf-8")

    result = project.inv("db.restore", "--clean", "--yes")

    assert result.returncode == 5
    assert shop.dump_text() == old


def test_the_safety_dump_misses_no_row_that_is_written_meanwhile(shop: Database, project: Project) -> None:
    """Every row that a writer could commit before the restore locked it out is in the safety dump."""
    assert project.use(shop).inv("db.dump").returncode == 0
    committed = [0]
    ended = threading.Event()

    def write() -> None:
        with shop.connect() as connection:
            while not ended.is_set():
                try:
                    connection.execute("INSERT INTO app.item (\"ownerId\", kind, name) VALUES (1, 'tool', 'new')")
                    committed[0] += 1
                except psycopg.Error:
                    # The table was another one after its restore: its key starts anew.
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        restored = project.inv("db.restore", "--clean", "--yes")
    finally:
        ended.set()
        writer.join()

    assert restored.returncode == 0, restored.stderr
    (saved,) = safety_dumps(project)
    manifest = read_manifest(saved)
    assert manifest is not None
    rows = {each.name: each.rows for each in manifest.tables}
    after = shop.scalar("SELECT count(*) FROM app.item WHERE name = 'new'")
    assert rows["item"] - 300 + after == committed[0]
    assert rows["item"] > 300


def test_a_restore_gives_way_when_a_writer_holds_a_table(shop: Database, project: Project) -> None:
    """It names the session and ends in 4, and no safety dump is left."""
    assert project.use(shop).inv("db.dump").returncode == 0
    project.env["INVOKE_DB_LOCK_TIMEOUT"] = "500ms"

    with blocking(shop, "UPDATE app.item SET name = 'busy' WHERE id = 1") as other:
        result = project.inv("db.restore", "--clean", "--yes")
        pid = other.info.backend_pid

    assert result.returncode == 4
    assert str(pid) in result.stderr
    assert not safety_dumps(project)


def test_the_list_marks_safety_dumps(shop: Database, project: Project) -> None:
    """They stand behind the others, under the name that --file= takes."""
    assert project.use(shop).inv("db.dump").returncode == 0
    assert project.inv("db.restore", "--clean", "--yes").returncode == 0
    (saved,) = safety_dumps(project)

    listed = project.inv("db.list")
    as_json = json.loads(project.inv("db.list", "--json").stdout)["dumps"]
    inspected = project.inv("db.inspect", f"--file=undo/{saved.name}")

    assert f"undo/{saved.name}" in listed.stdout
    assert "before restoring" in listed.stdout
    assert [(each["safety"], each["complete"]) for each in as_json] == [(False, True), (True, True)]
    assert inspected.returncode == 0


def test_undo_waits_and_shows_what_goes(shop: Database, project: Project) -> None:
    """It is a clean restore like any other: it warns, names all schemas, and a dry run touches nothing."""
    assert project.use(shop).inv("db.reset", "--yes", "--schema=app", "--schema=public").returncode == 0
    shop.execute("CREATE SCHEMA later; CREATE TABLE later.t AS SELECT 1 AS one")
    mark = Mark(shop)

    shown = project.inv("--dry", "db.undo")

    assert shown.returncode == 0
    assert "app, later, public" in shown.stderr
    assert mark.is_untouched()
    assert project.inv("db.undo", "--yes").returncode == 0
    assert shop.scalar("SELECT count(*) FROM pg_namespace WHERE nspname = 'later'") == 0
