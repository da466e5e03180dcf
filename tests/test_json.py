"""`--json`: one document that fits the schema, errors as JSON, and the results of tasks called from Python."""

import copy
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from jsonschema import Draft202012Validator

from tasks import database as collection
from tasks import errors
from tasks.dump.request import DumpRequest
from tests.commands import END, wait_until
from tests.flows import dumped, elsewhere, newest, pg_dump, settings_of, write
from tests.journal import PENDING, add_pending, migration
from tests.marks import Mark
from tests.output_schema import SCHEMA, complaints
from tests.schemas import HISTORY, SHOP
from tests.servers import PASSWORD
from tests.support import REPOSITORY, Database, Project, blocking
from tests.terminals import at_a_terminal

GUIDE = (REPOSITORY / "docs" / "json.md").read_text(encoding="utf-8")
FORMAT = GUIDE.partition("## Errors")[0]
ROWS = "SELECT count(*) FROM app.item"


@pytest.fixture
def shop(database: Database, project: Project) -> Database:
    """Return a database with which the project works, and of which there is a dump."""
    database.execute(SHOP + HISTORY)
    project.use(database)
    dumped(settings_of(project, database), DumpRequest(note="before"))
    return database


def document(project: Project, *words: str, code: int = 0) -> dict[str, Any]:
    """Run a task with `--json`, check its document, and return it."""
    result = project.inv(*words, "--json")
    assert result.returncode == code, result.stderr
    name = next(word for word in words if word.startswith("db."))
    assert complaints(name, result.stdout) == []
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def error(project: Project, *words: str) -> dict[str, Any]:
    """Run a task that fails with `--json`, and return its error, the last line of standard error."""
    result = project.inv(*words, "--json")
    line = result.stderr.splitlines()[-1]
    assert complaints("error", line) == []
    found: dict[str, Any] = json.loads(line)["error"]
    assert found["code"] == result.returncode
    return found


# The schema


def test_the_schema_is_one() -> None:
    """It keeps to its own rules, and has a definition for each task with `--json`, and no other."""
    Draft202012Validator.check_schema(SCHEMA)
    tasks = {f"db.{name}" for name, task in collection.tasks.items() if "json" in task.argspec(task.body).parameters}
    assert tasks - {"db.show"} == {name for name in SCHEMA["$defs"] if name.startswith("db.")}


def test_the_guide_names_every_task() -> None:
    """In `docs/json.md`, with the keys of its document."""
    for name, schema in SCHEMA["$defs"].items():
        if name.startswith("db."):
            (row,) = re.findall(rf"^\| [^|]*`{re.escape(name)}`[^|]* \| `.*$", FORMAT, re.MULTILINE)
            assert all(f"`{key}`" in row for key in schema["properties"] if key != "version")


def test_the_guide_names_every_key_of_an_error() -> None:
    """With every value of `kind`, which the errors have, and of `state`."""
    keys = SCHEMA["$defs"]["error"]["properties"]["error"]["properties"]
    kinds = {
        each.kind for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.TaskError)
    }

    assert kinds == set(keys["kind"]["enum"])
    assert {each.value for each in errors.Effect} == set(keys["state"]["enum"])
    assert all(f"`{word}`" in GUIDE for word in (*kinds, *keys["state"]["enum"]))


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("name", ["db.list", "db.dump", "error"])
def test_the_schema_refuses_what_is_not_documented(name: str, project: Project) -> None:
    """A key more, a key less, a time in another form."""
    words = ("db.list",) if name != "db.dump" else ("db.dump",)
    if name == "error":
        found = {"version": 1, "error": error(project, "db.inspect", "--file=absent.sql")}
    else:
        found = document(project, *words)
    more, less, other = copy.deepcopy(found), copy.deepcopy(found), copy.deepcopy(found)
    more["later"] = 1
    del less["version"]
    other["version"] = "1"

    assert complaints(name, json.dumps(found)) == []
    assert all(len(complaints(name, json.dumps(each))) == 1 for each in (more, less, other))


# Each task


@pytest.mark.usefixtures("shop")
def test_url_holds_no_password(project: Project) -> None:
    """The parameters that were translated are listed, and the password is masked."""
    project.env["DATABASE_URL"] = f"postgresql://shop:{PASSWORD}@localhost:1/shop?schema=app&connection_limit=3"

    found = document(project, "db.url")

    assert PASSWORD not in json.dumps(found)
    assert (found["variable"], found["schema"]) == ("DATABASE_URL", "app")
    assert {each["parameter"]: each["action"] for each in found["parameters"]}["connection_limit"] == "dropped"


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("output", ["quiet", "verbose"])
def test_dump_and_list(output: str, project: Project) -> None:
    """The same dump by the same id, whatever else is said."""
    project.env["INVOKE_DB_OUTPUT"] = output

    made = document(project, "db.dump", "--note=ünïcödé", "--checksums", "--exclude-data=app.item")["dump"]
    *_, listed = document(project, "db.list")["dumps"]

    assert made["path"] == listed["path"] == str(newest(project))
    assert {key: made[key] for key in ("id", "created", "rows", "note", "excluded")} == {
        key: listed[key] for key in ("id", "created", "rows", "note", "excluded")
    }
    assert (listed["complete"], listed["reason"], made["excluded"]) == (True, None, ["app.item"])


def test_dumps_of_all_kinds_are_listed(shop: Database, project: Project) -> None:
    """Broken, foreign, pinned and rehearsed ones."""
    path = newest(project)
    document(project, "db.rehearse")
    assert project.inv("db.pin", f"--file={path.name}").returncode == 0
    write(project, "foreign.sql", pg_dump(shop))
    document(project, "db.dump", "--file=broken.sql")
    (project.dumps / "broken.sql").write_bytes(b"")

    listed = {each["name"]: each for each in document(project, "db.list")["dumps"]}

    ours = listed[path.name]
    assert ours["pinned"][:19] >= ours["created"][:19]
    assert ours["rehearsed"][:19] >= ours["created"][:19]
    assert [listed[name]["complete"] for name in ("foreign.sql", "broken.sql")] == [None, False]
    document(project, "db.inspect", "--file=foreign.sql")


@pytest.mark.usefixtures("shop")
def test_inspect_holds_times_and_the_manifest(project: Project) -> None:
    """The migrations of the dump, and its manifest as it is."""
    found = document(project, "db.inspect")

    assert found["manifest"] == json.loads(next(project.dumps.glob("*.manifest.json")).read_bytes())
    assert {each["state"] for each in found["migrations"]} <= {"applied", "baselined", "rolled back", "failed"}
    assert any(each["finished"] for each in found["migrations"])


def test_restore_verify_and_undo(shop: Database, project: Project) -> None:
    """The rows, the safety dump, and the command that restores it."""
    shop.execute("DELETE FROM app.item WHERE id > 290")

    different = document(project, "db.verify", f"--file={newest(project).name}", code=6)
    restored = document(project, "db.restore", "--clean", "--yes")["restore"]
    states = document(project, "db.undos")["states"]
    same = document(project, "db.verify")
    undone = document(project, "db.undo", "--yes")["restore"]

    assert (different["same"], same["same"]) == (False, True)
    assert same["restored"] is not None
    assert (restored["verified"], restored["complete"], restored["migrated"]) == (True, True, False)
    assert [each["id"] for each in states] == [restored["safety_dump"]["id"]]
    assert restored["undo"] == "inv db.undo"
    assert undone["dump"] == restored["safety_dump"]["path"]
    assert undone["rows"] == restored["rows"] - 10
    assert shop.scalar(ROWS) == 290


@pytest.mark.usefixtures("shop")
def test_a_restore_that_is_not_complete_has_a_document_and_an_error(project: Project) -> None:
    """Exit code 6: what changed is in the document, and the database is changed."""
    write(project, "own.sql", newest(project).read_bytes().replace(END, b"DELETE FROM app.item;\n" + END))

    result = project.inv("db.restore", "--file=own.sql", "--clean", "--yes", "--json")

    found = json.loads(result.stdout)["restore"]
    assert complaints("db.restore", result.stdout) == []
    assert (result.returncode, found["complete"], found["counted"]) == (6, False, False)
    assert {"kind": "table", "name": "app.item", "expected": 300, "found": 0} in found["changed"]
    assert json.loads(result.stderr.splitlines()[-1])["error"]["state"] == "changed"


@pytest.mark.usefixtures("shop")
def test_a_rehearsal_changes_nothing(project: Project) -> None:
    """Of a dump that is not complete, too."""
    write(project, "own.sql", newest(project).read_bytes().replace(END, b"DELETE FROM app.item;\n" + END))

    good = document(project, "db.rehearse")["rehearsal"]
    bad = error(project, "db.rehearse", "--file=own.sql")

    assert (good["complete"], good["migrated"], good["migrate_seconds"]) == (True, False, None)
    assert (bad["code"], bad["kind"], bad["state"]) == (6, "difference", "unchanged")


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("db.dump",), "dump"),
        (("db.restore", "--clean"), "restore"),
        (("db.rehearse",), "rehearsal"),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)
def test_a_dry_run_has_no_result(words: tuple[str, ...], key: str, project: Project) -> None:
    """Null, and nothing was done."""
    before = sorted(project.dumps.rglob("*"))

    assert document(project, "--dry", *words)[key] is None
    assert sorted(project.dumps.rglob("*")) == before


@pytest.mark.usefixtures("shop")
def test_doctor_and_migrations(project: Project) -> None:
    """The checks with their fixes, and the migrations of the database."""
    checks = document(project, "db.doctor")["checks"]
    migrations = document(project, "db.migrations", f"--file={newest(project).name}")

    assert {each["state"] for each in checks} <= {"ok", "note", "problem", "skipped"}
    assert all(each["fix"] for each in checks if each["state"] == "problem")
    assert all(each["on_disk"] is False for each in migrations["migrations"])


# Prisma's output


def test_prisma_prints_to_standard_error(journal: Project, database: Database) -> None:
    """A migration, a rehearsal and a restore with one have their documents alone on standard output."""
    journal.use(database)
    applied = document(journal, "db.migrate", "--yes")["migration"]
    nothing = document(journal, "db.migrate", "--yes")["migration"]
    document(journal, "db.dump")
    add_pending(journal)
    dry = document(journal, "--dry", "db.migrate", "--yes")["migration"]
    rehearsed = document(journal, "db.rehearse")["rehearsal"]
    restored = document(journal, "db.restore", "--clean", "--migrate", "--yes")["restore"]
    document(journal, "db.undo", "--yes")
    again = journal.inv("db.migrate", "--yes", "--json")

    assert len(applied["applied"]) == 6
    assert (nothing["applied"], nothing["safety_dump"], dry) == ([], None, None)
    assert (rehearsed["migrated"], restored["migrated"]) == (True, True)
    assert json.loads(again.stdout)["migration"]["applied"] == [PENDING]
    assert json.loads(again.stdout)["migration"]["safety_dump"]["rows"] > 0
    assert PENDING in again.stderr


@pytest.mark.usefixtures("migrated_journal")
def test_a_failed_migration_says_whether_it_changed_the_database(journal: Project) -> None:
    """One before it was applied; or none was, and a restore was undone."""
    document(journal, "db.dump")
    migration(journal, "20270101000000_broken", "SELECT * FROM nowhere;")

    undone = error(journal, "db.restore", "--clean", "--migrate", "--yes")
    add_pending(journal)
    changed = error(journal, "db.migrate", "--yes")

    assert (undone["kind"], undone["state"]) == ("failed", "unchanged")
    assert (changed["kind"], changed["state"]) == ("failed", "changed")


# Errors


def _no_server(project: Project) -> None:
    project.env["DATABASE_URL"] = "postgresql://u@127.0.0.1:1/d"


def _no_url(project: Project) -> None:
    del project.env["DATABASE_URL"]


def _bad_setting(project: Project) -> None:
    project.env["INVOKE_DB_COMPRESS"] = "lz4"


def _no_program(project: Project) -> None:
    project.env["INVOKE_DB_BIN_DIR"] = str(project.root)


FAILURES: dict[str, tuple[Callable[[Project], object], tuple[str, ...], str, bool]] = {
    "no server": (_no_server, ("db.dump",), "server", True),
    "no URL": (_no_url, ("db.url",), "bad_input", True),
    "a bad setting": (_bad_setting, ("db.list",), "bad_input", False),
    "an empty flag": (lambda _: None, ("db.restore", "--file="), "bad_input", False),
    "no program": (_no_program, ("db.dump",), "missing_program", True),
    "no dump": (lambda project: newest(project).unlink(), ("db.inspect",), "bad_input", True),
    "a database elsewhere": (elsewhere, ("db.restore", "--clean", "--yes", "--file=db_d"), "refused", True),
}


@pytest.mark.parametrize(("change", "words", "kind", "fix"), FAILURES.values(), ids=FAILURES.keys())
def test_an_error_is_json(
    change: Callable[[Project], object], words: tuple[str, ...], kind: str, fix: bool, shop: Database, project: Project
) -> None:
    """Its kind, its state, and what to do where that is known."""
    mark = Mark(shop)
    change(project)

    found = error(project, *words)

    assert (found["kind"], found["state"], found["fix"] is not None) == (kind, "unchanged", fix)
    assert found["fix"] is None or found["fix"] in found["message"]
    assert mark.is_untouched()


def test_an_error_without_the_flag_is_a_sentence(project: Project) -> None:
    """As before."""
    result = project.inv("db.inspect")

    assert result.stdout == ""
    assert not result.stderr.lstrip().startswith("{")


def test_a_refused_restore_was_rolled_back(shop: Database, project: Project) -> None:
    """The database is unchanged, and the fix is the one that the message ends with."""
    write(project, "plain.sql", pg_dump(shop))
    mark = Mark(shop)

    found = error(project, "db.restore", "--file=plain.sql", "--yes")

    assert (found["code"], found["state"]) == (5, "unchanged")
    assert "--clean" in found["fix"]
    assert mark.is_untouched()


def test_an_interrupted_restore_says_so_in_json(shop: Database, project: Project) -> None:
    """The code of the signal, and the state that was found out."""
    mark = Mark(shop)
    with blocking(shop, "LOCK TABLE app.item IN ACCESS EXCLUSIVE MODE"):
        running = project.popen("db.restore", "--clean", "--yes", "--json", env={"INVOKE_DB_LOCK_TIMEOUT": "60s"})
        wait_until(shop, "^relation$")
        running.send_signal(signal.SIGTERM)
        stdout, stderr = running.communicate(timeout=60)

    line = stderr.splitlines()[-1]
    assert complaints("error", line) == []
    assert json.loads(line)["error"]["kind"] == "interrupted"
    assert (json.loads(line)["error"]["state"], running.returncode, stdout) == ("unchanged", 143, "")
    assert mark.is_untouched()


def test_questions_are_asked_at_a_terminal(shop: Database, project: Project) -> None:
    """With --json as without it."""
    elsewhere(project)

    code, said = at_a_terminal(
        project, "db.restore", "--clean", "--file=db_d", "--json", answers={"Type the name of the database": shop.name}
    )

    assert code == 0, said
    assert '"safety_dump": {' in said


# From Python


@pytest.mark.usefixtures("shop")
def test_the_guides_example_runs(project: Project) -> None:
    """As the `tasks.py` of a project."""
    (example,) = re.findall(r"^```python\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    project.write("tasks.py", example)

    result = project.inv("nightly", fresh=True)

    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == f"{newest(project).name} {len_of(newest(project))} rows, 2 dumps"


def len_of(dump: Path) -> int:
    """Return the rows that a dump's manifest counts."""
    manifest = json.loads(dump.with_name(dump.name.partition(".")[0] + ".manifest.json").read_bytes())
    return sum(each["rows"] for each in manifest["tables"])


_RETURNS = '''\
from invoke import Collection, task

from invoke_postgres import database, db
from invoke_postgres.errors import TaskError


def failed(function, *args, **keywords):
    try:
        function(*args, **keywords)
    except TaskError as error:
        return error


@task
def look(ctx):
    """Call every task."""
    results = {
        "url": db.url(ctx),
        "dump": db.dump(ctx),
        "gzip": db.gzip(ctx),
        "list": db.list(ctx)[0],
        "inspect": db.inspect(ctx),
        "restore": db.restore(ctx, clean=True, yes=True),
        "undos": db.undos(ctx)[0],
        "undo": db.undo(ctx, yes=True),
        "rehearse": db.rehearse(ctx),
        "verify": db.verify(ctx),
        "migrations": db.migrations(ctx),
        "doctor": db.doctor(ctx),
        "reset": db.reset(ctx, schema=["app"], yes=True),
    }
    different = failed(db.verify, ctx, file=str(results["dump"].path) + ".gz")
    results["different"] = different.result
    print("RESULTS", {name: type(each).__name__ for name, each in results.items()})
    print("PASSWORD" if any(each in repr(results) for each in {secrets}) else "no password")
    print(different.exit_code, different.kind, different.effect, str(different) == different.message)


ns = Collection(database, look)
'''


@pytest.mark.usefixtures("shop")
def test_every_task_returns_its_result(project: Project) -> None:
    """As the guide says, and an error has the result that there is; no password is in any of them."""
    project.write("tasks.py", _RETURNS.replace("{secrets}", repr([PASSWORD, quote(PASSWORD)])))

    result = project.inv("look", fresh=True)

    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[-3] == "RESULTS " + repr(
        {
            "url": "Target",
            "dump": "Dumped",
            "gzip": "Converted",
            "list": "Listed",
            "inspect": "Inspected",
            "restore": "Restored",
            "undos": "UndoPoint",
            "undo": "Restored",
            "rehearse": "Rehearsed",
            "verify": "Verified",
            "migrations": "KnownHistories",
            "doctor": "Examined",
            "reset": "Dumped",
            "different": "Verified",
        }
    )
    assert lines[-2:] == ["no password", "6 difference unchanged True"]


def test_the_module_has_every_task() -> None:
    """By the names that `inv` lists."""
    from tasks import db  # noqa: PLC0415

    assert set(db.__all__) == set(collection.tasks)
    assert all(getattr(db, name) is task for name, task in collection.tasks.items())
