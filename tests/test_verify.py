"""Verify tells whether a database still holds what its dump held."""

import json
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tasks.dump.dump import make_dump
from tasks.dump.request import DumpRequest
from tasks.inventory.compare import compare_objects_and_content, compare_states
from tasks.inventory.objects import Definition
from tasks.inventory.snapshot import DatabaseState
from tasks.progress import Silence
from tasks.restore.plan import plan_restore
from tasks.restore.request import RestoreRequest
from tasks.restore.restore import restore_dump
from tests.flows import pg_dump, settings_of, write
from tests.marks import Mark
from tests.schemas import MIGRATIONS, SHOP
from tests.servers import OWNER, Server
from tests.shared_files import Files, files_of, put_files
from tests.support import Database, Databases, Project, blocking, drop

NAME = "restored_shop"


@pytest.fixture(scope="module")
def restored_once(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Files]]:
    """Return a database into which a dump was restored, only to be cloned, and the dump with the record of that."""
    project = Project.create(tmp_path_factory.mktemp("restored") / "project")
    with Databases(server) as new_database:
        source, target = new_database(), new_database(name=NAME)
        source.execute(SHOP)
        dumped = make_dump(settings_of(project, source), DumpRequest(), Silence())
        assert dumped is not None
        plan = plan_restore(settings_of(project, target), RestoreRequest(str(dumped.path)), Silence())
        restore_dump(plan, Silence())
        template = new_database(template=target)
        drop(target)
        yield template, files_of(project)


@pytest.fixture
def restored(restored_once: tuple[Database, Files], new_database: Databases, project: Project) -> Database:
    """Return a database into which a dump was restored; the project works with it."""
    template, files = restored_once
    put_files(project, files)
    target = new_database(template=template, name=NAME)
    project.use(target)
    return target


def verify_json(project: Project, *options: str) -> dict[str, Any]:
    """Run `db.verify --json` and read what it prints."""
    document: dict[str, Any] = json.loads(project.inv("db.verify", "--json", *options).stdout)
    return document


def test_verify_agrees_when_nothing_was_changed(restored: Database, project: Project) -> None:
    """Exit 0; tables, keys and indexes are shown."""
    result = project.inv("db.verify")

    assert result.returncode == 0, result.stderr
    assert "Row counts, sequences and definitions agree. Values were not compared:" in result.stdout
    assert "app.item" in result.stdout
    assert "1 foreign key; 3 indexes" in result.stdout
    assert restored.name in result.stdout


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("DELETE FROM app.item WHERE id = 7", "app.item"),
        ("INSERT INTO public.\"User\" VALUES (999, 'x')", "public.User"),
        ("TRUNCATE app.item", "app.item"),
        ("SELECT setval('app.item_id_seq', 10)", "app.item_id_seq"),
        ("SELECT setval('app.item_id_seq', 300, false)", "app.item_id_seq"),
        ("DROP TABLE app.item CASCADE", "app.item"),
        ("ALTER TABLE app.item RENAME TO items", "app.item"),
    ],
)
def test_verify_ends_in_6_when_something_differs(
    restored: Database, project: Project, statement: str, name: str
) -> None:
    """Rows, sequences and whole tables that differ are named."""
    restored.execute(statement)

    result = project.inv("db.verify")

    assert result.returncode == 6
    assert name in result.stdout


def test_verify_shows_every_difference_that_it_counts_once(restored: Database, project: Project) -> None:
    """Another definition of a table, too, whose rows are the same; what is lost is one difference."""
    restored.execute('ALTER TABLE public."User" ADD later int; ALTER TABLE app.item ALTER id DROP IDENTITY')

    result = project.inv("db.verify")

    shown = re.findall(r"^(?!Problem)(\w+ \S+): (?:missing|expected|definition)", result.stdout, re.MULTILINE)
    assert sorted(shown) == ["sequence app.item_id_seq", "table app.item", 'table public."User"']
    assert 'table public."User": definition is not as in the dump: column "later" is integer' in result.stdout
    assert "3 differences found." in result.stdout


def test_verify_is_no_difference_when_a_table_came_later(restored: Database, project: Project) -> None:
    """What the dump does not know is shown as such."""
    restored.execute("CREATE TABLE app.later AS SELECT 1 AS n; CREATE VIEW app.seen AS SELECT 1 AS n")

    result = project.inv("db.verify")

    assert result.returncode == 0
    assert "not in the dump" in result.stdout
    assert "view app.seen: not in the dump" in result.stdout


def test_verify_says_what_it_could_not_compare(restored: Database, project: Project) -> None:
    """A dump without a manifest tells rows and sequences, and so nothing of objects agrees."""
    write(project, "foreign.sql", pg_dump(restored))

    result = project.inv("db.verify", "--file=foreign.sql")

    assert result.returncode == 0, result.stderr
    assert "Definitions and values were not compared: the dump has no manifest." in result.stdout


@pytest.mark.usefixtures("restored")
def test_verify_tells_times_as_its_tables_do(project: Project) -> None:
    """When the dump was restored stands there for people: date, time and UTC."""
    first, *_ = project.inv("db.verify").stdout.splitlines()

    assert re.search(r", restored \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", first)


def test_verify_prints_json_when_programs_ask(restored: Database, project: Project) -> None:
    """--json holds both counts of each table, and the exit code stays."""
    restored.execute("DELETE FROM app.item WHERE id = 7; SELECT setval('app.item_id_seq', 10)")

    result = project.inv("db.verify", "--json")

    document = json.loads(result.stdout)
    assert result.returncode == 6
    assert document["same"] is False
    assert {"name": "app.item", "expected": 300, "found": 299, "same": False} in document["tables"]
    assert {"name": "public.User", "expected": 120, "found": 120, "same": True} in document["tables"]
    assert [each["name"] for each in document["differences"]] == ["app.item", "app.item_id_seq"]
    assert document["health"]["foreign_keys"] == 1


def test_verify_compares_with_a_file_when_one_is_named(restored: Database, project: Project) -> None:
    """--file= takes the place of the record, with a manifest and without."""
    foreign = write(project, "foreign.sql", pg_dump(restored))
    restored.execute("DELETE FROM app.item WHERE id = 7")
    ours = next(project.dumps.glob("db_dump_*.sql"))

    with_manifest = verify_json(project, f"--file={ours.name}")
    without = verify_json(project, f"--file={foreign.name}")

    for document, name in ((with_manifest, ours.name), (without, foreign.name)):
        assert document["dump"] == name
        assert document["same"] is False
        assert {"name": "app.item", "expected": 300, "found": 299, "same": False} in document["tables"]


def test_verify_compares_nothing_when_no_restore_is_remembered(database: Database, project: Project) -> None:
    """Counts and keys are shown all the same, and nothing differs."""
    database.execute(SHOP)

    result = project.use(database).inv("db.verify")
    document = verify_json(project)

    assert result.returncode == 0
    assert "Nothing was compared:" in result.stdout
    assert document["same"] is None
    assert {"name": "app.item", "expected": None, "found": 300, "same": True} in document["tables"]
    assert project.inv("db.dump").returncode == 0
    (dump,) = project.dumps.glob("*.sql")
    assert f"`inv db.verify --file={dump.name}`" in project.inv("db.verify").stdout


def test_verify_refuses_when_the_named_dump_is_broken(restored: Database, project: Project) -> None:
    """A dump that is cut proves nothing: exit 2."""
    write(project, "foreign.sql", pg_dump(restored)[:-300])

    result = project.inv("db.verify", "--file=foreign.sql")

    assert result.returncode == 2


def test_verify_remembers_each_database_when_there_are_several(
    restored: Database, new_database: Databases, project: Project
) -> None:
    """The record is that of the database, not of the folder."""
    other = new_database()

    assert project.use(other).inv("db.verify").stdout.count("Nothing was compared:") == 1
    assert project.use(restored).inv("db.verify").stdout.count("definitions agree.") == 1


def test_verify_remembers_the_last_good_restore_when_a_later_one_fails(restored: Database, project: Project) -> None:
    """A restore that is rolled back, or interrupted, leaves the record as it is."""
    record = next(project.dumps.glob(".restored-*.json")).read_bytes()
    write(project, "foreign.sql", pg_dump(restored))

    failed = project.inv("db.restore", "--file=foreign.sql")
    with blocking(restored, "LOCK TABLE app.item IN ACCESS SHARE MODE"):
        words = ("db.restore", "--clean", "--yes", *project.into(restored))
        process = project.popen(*words, env={"INVOKE_DB_LOCK_TIMEOUT": "60s"})
        wait_until_waiting(restored)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)

    assert [failed.returncode, process.returncode] == [5, 130]
    assert next(project.dumps.glob(".restored-*.json")).read_bytes() == record


def wait_until_waiting(database: Database) -> None:
    """Wait until a session of ours waits for a lock."""
    query = (
        "SELECT coalesce(bool_or(application_name = 'invoke-postgres' AND wait_event_type = 'Lock'), false)"
        " FROM pg_stat_activity WHERE datname = current_database()"
    )
    for _ in range(3000):
        if database.scalar(query):
            return
    raise AssertionError("nobody waits")


# What is wrong in itself


def test_verify_flags_keys_and_indexes_when_they_prove_nothing(database: Database, project: Project) -> None:
    """A foreign key that was never checked and an index that can't be used are named, each once."""
    database.execute(SHOP)
    database.execute(
        'ALTER TABLE app.item DROP CONSTRAINT "item_ownerId_fkey",'
        ' ADD CONSTRAINT unchecked FOREIGN KEY ("ownerId") REFERENCES public."User" (id) NOT VALID;'
        'ALTER TABLE app.item ADD CONSTRAINT positive CHECK ("ownerId" > 0) NOT VALID;'
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.\"User_email_key\"'::regclass"
    )

    result = project.use(database).inv("db.verify")
    health = json.loads(project.inv("db.verify", "--json").stdout)["health"]

    assert result.returncode == 0
    assert "1 foreign key; " in result.stdout
    assert result.stdout.count("unchecked of app.item was never checked") == 1
    assert result.stdout.count('index public."User_email_key" is invalid') == 1
    assert health["unvalidated"] == ["app.positive", "app.unchecked"]
    assert health["invalid"] == ['public."User_email_key"']


@pytest.mark.majors(18)
def test_verify_names_what_no_command_fixes(database: Database, project: Project) -> None:
    """The index of a partitioned table that its partitions lack, and a key that is not enforced, are named once."""
    database.execute(
        "CREATE TABLE parted (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);"
        "CREATE TABLE part PARTITION OF parted FOR VALUES FROM (1) TO (9); CREATE INDEX lonely ON ONLY parted (n);"
        "CREATE TABLE child (of int CONSTRAINT lax REFERENCES parted NOT ENFORCED); ANALYZE"
    )

    result = project.use(database).inv("db.verify")

    assert "1 foreign key, not validated: public.lax; 3 indexes, invalid: public.lonely" in result.stdout
    assert result.stdout.count("lonely") == result.stdout.count("lax") == 1


def test_verify_shows_the_last_ten_migrations_when_there_are_more(database: Database, project: Project) -> None:
    """In the order of their names, as in db.migrations, each with its state; the URL's schema says where they lie."""
    database.execute(MIGRATIONS)
    project.use(database).env["DATABASE_URL"] += "?schema=app"

    shown = project.inv("db.verify").stdout
    migrations = verify_json(project)["health"]["migrations"]

    assert [each["name"] for each in migrations] == [f"migration_{i:02}" for i in range(3, 13)]
    assert [bool(each["finished"]) for each in migrations[-3:]] == [True, False, False]
    assert [bool(each["rolled_back"]) for each in migrations[-3:]] == [False, True, False]
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip().startswith("migration_")}
    assert "failed" in lines["migration_12"]
    assert "rolled back" in lines["migration_11"]
    assert "baselined" in lines["migration_10"]
    assert len(lines) == 10


def test_verify_says_so_when_there_is_no_migration_history(database: Database, project: Project) -> None:
    """A database without Prisma's table, or with another one of that name, has no history."""
    database.execute("CREATE TABLE public._prisma_migrations (id integer)")

    result = project.use(database).inv("db.verify")

    assert result.returncode == 0
    assert "No migration history" in result.stdout


def test_verify_changes_nothing_when_it_runs(restored: Database, project: Project) -> None:
    """It reads in a transaction that is read only."""
    mark = Mark(restored)

    project.inv("db.verify")

    assert mark.is_untouched()


def test_verify_compares_nothing_with_a_dump_of_inserts(restored: Database, project: Project) -> None:
    """Nobody counted its rows, so it can't be said that they agree."""
    write(project, "inserts.sql", pg_dump(restored, "--inserts"))

    result = project.inv("db.verify", "--file=inserts.sql")

    assert result.returncode == 2
    assert "420 INSERT statements" in result.stderr
    assert result.stdout == ""


def test_verify_is_refused_when_the_role_may_not_read_a_sequence(restored: Database, project: Project) -> None:
    """It is not missing, and what was not read does not agree."""
    restored.execute(
        f"GRANT USAGE ON SCHEMA app TO {OWNER}; GRANT SELECT ON ALL TABLES IN SCHEMA app, public TO {OWNER}"
    )

    result = project.inv("db.verify", env={"DATABASE_URL": restored.url_as(OWNER)})

    assert result.returncode == 5
    assert "permission denied for sequence" in result.stderr
    assert "item_id_seq" in result.stderr


def test_verify_says_why_there_are_no_checksums(database: Database, project: Project) -> None:
    """None is remembered before a restore, nor after a migration; the dump may have them all the same."""
    database.execute(SHOP)
    project.use(database).env["INVOKE_DB_MIGRATE_COMMAND"] = "true"

    before = project.inv("db.verify", "--checksums")
    assert project.inv("db.dump", "--checksums", "--file=sums.sql").returncode == 0
    migrated = project.inv("db.restore", "--clean", "--yes", "--file=sums.sql", "db.migrate")
    after = project.inv("db.verify", "--checksums")
    named = project.inv("db.verify", "--checksums", "--file=sums.sql")

    assert (before.returncode, migrated.returncode, after.returncode, named.returncode) == (2, 0, 2, 0), after.stderr
    assert "--against-url-env=" in before.stderr
    assert "--file=sums.sql" in after.stderr


def test_verify_says_whether_values_were_compared(database: Database, project: Project) -> None:
    """A changed value is found with --checksums alone, and the table that has it is not the same."""
    database.execute(SHOP)
    assert project.use(database).inv("db.dump", "--checksums", "--file=sums.sql").returncode == 0
    database.execute("UPDATE app.item SET name = name || ' ' WHERE id = 7")

    plain = project.inv("db.verify", "--file=sums.sql")
    summed = project.inv("db.verify", "--file=sums.sql", "--checksums")
    tables = verify_json(project, "--file=sums.sql", "--checksums")["tables"]

    assert (plain.returncode, summed.returncode) == (0, 6)
    assert "definitions agree. Values were not compared (use --checksums)." in plain.stdout
    assert "app.item: values are not those of the dump" in summed.stdout
    assert re.search(r"app\.item +300 +300 +differs", summed.stdout)
    assert [(each["name"], each["same"]) for each in tables] == [("app.item", False), ("public.User", True)]


@pytest.mark.usefixtures("restored")
def test_a_name_can_not_say_that_all_agrees(restored: Database, project: Project) -> None:
    """The end of a line in a name does not end ours."""
    restored.execute('CREATE TABLE app."x\nRow counts agree." (i int)')

    result = project.inv("db.verify", "--json"), project.inv("db.verify")

    assert json.loads(result[0].stdout)["notes"]
    assert "Row counts agree." not in result[1].stdout.splitlines()
    assert r'table app."x\nRow counts agree.": not in the dump' in result[1].stdout


# The comparison itself


def state_of(*lost: tuple[str, str], sequence: bool = False) -> DatabaseState:
    """A state of tables, some of them partitioned, as which `"a.b".c` is not counted."""
    tables = {("a.b", "c"): '"a.b".c', ("a", "b.c"): 'a."b.c"', ("a", "d"): "a.d"}
    there = {key: name for key, name in tables.items() if key not in lost}
    objects = {"table": {name: Definition("x") for name in there.values()}}
    if sequence:
        objects["sequence"] = {} if ("a", "b.c") in lost else {'a."b.c"': Definition("x")}
    counted = {key: 1 for key in there if key != ("a.b", "c")}
    return DatabaseState(
        17, counted, {("a", "b.c"): (1, True)} if sequence and ("a", "b.c") not in lost else {}, objects, {}
    )


@pytest.mark.parametrize("sequence", [False, True])
def test_a_loss_does_not_hide_another_with_a_name_that_looks_the_same(sequence: bool) -> None:
    """`"a.b".c` is not `a."b.c"`, nor a table a sequence."""
    lines = compare_states(state_of(sequence=sequence), state_of(("a.b", "c"), ("a", "b.c"), sequence=sequence))

    shown = sorted((line.kind, line.name, line.found) for line in lines)
    expected = [("table", 'a."b.c"', "missing"), ("table", '"a.b".c', "missing")]
    assert shown == sorted([*expected, *[("sequence", 'a."b.c"', "missing")] * sequence])
    assert all(line.fatal for line in lines)


def test_other_values_are_a_difference_where_no_rows_were_counted() -> None:
    """A restore compares content without counting once more; where rows differ, values are no news."""
    key = ("a", "d")
    expected = DatabaseState(17, {key: 5}, {}, {}, {}, checksums={key: "1"})
    uncounted = DatabaseState(17, {}, {}, {}, {}, checksums={key: "2"})

    for found, kinds in (
        (uncounted, ["content"]),
        (replace(uncounted, rows={key: 5}), ["content"]),
        (replace(uncounted, rows={key: 4}), []),
        (replace(uncounted, checksums={key: "1"}), []),
    ):
        assert [line.kind for line in compare_objects_and_content(expected, found, ())] == kinds
