"""Which dump is restored: the newest of this database; that of another one by its name, and only knowingly."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tasks.dumpfiles.paths import manifest_path
from tests.flows import newest
from tests.marks import Mark
from tests.servers import OWNER
from tests.terminals import at_a_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import Database, Databases, Project

FULL = "CREATE TABLE public.item AS SELECT i AS id, 'good ' || i AS name FROM generate_series(1, 500) i"
WRONG = "CREATE TABLE public.item AS SELECT 1 AS id, 'wrong'::text AS name"
COUNT = "SELECT count(*) FROM public.item"


@pytest.fixture
def pair(new_database: Databases, project: Project) -> tuple[Database, Database]:
    """Return two databases with a dump each; that of the second, which has one row, is newer."""
    shop, other = new_database(), new_database()
    shop.execute(FULL)
    other.execute(WRONG)
    for each in (shop, other):
        assert project.use(each).inv("db.dump").returncode == 0
    return shop, other


def without_manifest(project: Project) -> Path:
    """Take the newest dump's manifest away."""
    path = newest(project)
    manifest_path(path).unlink()
    return path


@pytest.mark.majors(14, 18)
def test_newest_of_each_database_is_taken(pair: tuple[Database, Database], project: Project) -> None:
    """In one folder, without --file, by restore and by rehearse; a newer one of another database is said."""
    for database, other, rows in zip(pair, reversed(pair), (500, 1), strict=True):
        project.use(database)
        database.execute("TRUNCATE public.item")

        restored = project.inv("db.restore", "--clean", "--yes")
        rehearsed = project.inv("db.rehearse")

        assert (restored.returncode, rehearsed.returncode) == (0, 0), restored.stderr + rehearsed.stderr
        assert database.scalar(COUNT) == rows
        assert (other.name in restored.stderr) == (rows == 500)
        assert f"{rows} row" in rehearsed.stdout


def test_no_dump_of_another_database_is_taken_unnamed(
    pair: tuple[Database, Database], new_database: Databases, project: Project
) -> None:
    """Exit 2 with what there is; nothing is touched, and none is rehearsed."""
    third = new_database()
    third.execute("CREATE TABLE public.mine AS SELECT 1 AS a")
    mark = Mark(third)
    project.use(third)

    results = [project.inv("db.restore", "--clean", "--yes"), project.inv("db.rehearse")]

    for result in results:
        assert result.returncode == 2
        assert all(each.name in result.stderr for each in pair)
    assert mark.is_untouched()


def test_dump_without_a_manifest_is_never_the_newest(pair: tuple[Database, Database], project: Project) -> None:
    """It is passed over with a warning, and taken by --file alone; without another one it is no choice either."""
    shop, other = pair
    lost = without_manifest(project)

    passed = project.use(shop).inv("--dry", "db.restore", "--clean")
    none = project.use(other).inv("db.restore", "--clean", "--yes")
    named = project.inv("db.restore", "--clean", "--yes", f"--file={lost.name}")

    assert passed.returncode == 0
    assert lost.name in passed.stderr
    assert none.returncode == 2
    assert lost.name in none.stderr
    assert named.returncode == 0, named.stderr


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "plain"])
def test_dump_of_another_database_needs_the_name(
    pair: tuple[Database, Database], project: Project, *, clean: bool
) -> None:
    """Where rows would be destroyed: exit 7 with --yes too, and --confirm lets it pass; the warning names both."""
    shop, other = pair
    words = ["db.restore", "--yes", f"--file={newest(project).name}", *["--clean"] * clean]
    before = shop.dump_text()
    project.use(shop)

    refused = project.inv(*words)
    mistaken = project.inv(*words, f"--confirm={other.name}")
    untouched = shop.dump_text()
    passed = project.inv(*words, f"--confirm={shop.name}")

    assert (refused.returncode, mistaken.returncode, untouched == before) == (7, 7, True)
    assert f"--confirm={shop.name}" in refused.stderr
    assert re.search(rf"{other.name}\b.*{other.server.port}\b.*{shop.name}\b", " ".join(refused.stderr.split()))
    assert passed.returncode == 0, passed.stderr
    assert shop.scalar(COUNT) == 1


def test_the_name_is_typed_at_a_terminal(pair: tuple[Database, Database], project: Project) -> None:
    """It is asked for once, with --yes, too; another answer touches nothing."""
    shop, _ = pair
    words = ("db.restore", "--clean", "--yes", f"--file={newest(project).name}")
    project.use(shop)

    wrong, _ = at_a_terminal(project, *words, answers={"Type the name": "yes"})
    untouched = shop.scalar(COUNT)
    right, said = at_a_terminal(project, *words, answers={"Type the name": shop.name})

    assert (wrong, untouched) == (7, 500)
    assert right == 0, said
    assert said.count("Type the name of the database") == 1
    assert shop.scalar(COUNT) == 1


def test_dump_of_another_database_fills_an_empty_one_without_a_question(
    pair: tuple[Database, Database], new_database: Databases, project: Project
) -> None:
    """Production's dump into a new database: one line warns, nobody asks or waits; and so is it rehearsed."""
    shop, _ = pair
    dump = min(project.dumps.glob("db_dump_*.sql"))
    empty = new_database()
    project.use(empty)

    rehearsed = project.inv("db.rehearse", f"--file={dump.name}")
    filled = project.inv("db.restore", "--clean", f"--file={dump.name}")

    assert (rehearsed.returncode, filled.returncode) == (0, 0), filled.stderr
    assert shop.name in filled.stderr
    assert "Beginning in" not in filled.stderr
    assert shop.name in rehearsed.stderr
    assert empty.scalar(COUNT) == 500


def test_a_server_without_a_number_is_known_by_host_and_port(pair: tuple[Database, Database], project: Project) -> None:
    """A manifest without the cluster's number counts where host, port and name agree, and nowhere else."""
    shop, _ = pair
    first = min(project.dumps.glob("db_dump_*.manifest.json"))
    document = json.loads(first.read_bytes())
    document["source"]["system_identifier"] = None
    first.write_text(json.dumps(document), encoding="ascii")
    same = project.use(shop).inv("--dry", "db.restore", "--clean")
    document["source"]["port"] = 1
    first.write_text(json.dumps(document), encoding="ascii")

    elsewhere = project.inv("--dry", "db.restore", "--clean")

    assert same.returncode == 0, same.stderr
    assert elsewhere.returncode == 2
    assert shop.name in elsewhere.stderr


def test_list_names_the_database(pair: tuple[Database, Database], project: Project) -> None:
    """In a column, and in JSON; it is empty for a dump without a manifest."""
    shop, other = pair
    shutil.copy(newest(project), project.dumps / "foreign.sql")

    listed = json.loads(project.inv("db.list", "--json").stdout)["dumps"]
    shown = project.inv("db.list").stdout

    assert [each["database"] for each in listed] == [shop.name, other.name, None]
    assert shop.name in shown
    assert other.name in shown


# Safety dumps


def undos(project: Project) -> list[dict[str, object]]:
    """Return what can be undone to."""
    found: list[dict[str, object]] = json.loads(project.inv("db.undos", "--json").stdout)["states"]
    return found


def test_five_restores_of_a_wrong_dump_leave_the_good_state_in_reach(
    pair: tuple[Database, Database], project: Project
) -> None:
    """The largest of the day survives, `db.undos` shows it, and `db.undo --to` brings every row back."""
    shop, other = pair
    before = shop.dump_text()
    wrong = newest(project).name
    project.use(shop)
    for _ in range(5):
        assert (
            project.inv("db.restore", "--clean", "--yes", f"--file={wrong}", f"--confirm={shop.name}").returncode == 0
        )
    found = undos(project)
    shown = [line for line in project.inv("db.undos").stdout.splitlines() if "db.restore" in line]
    good = found[0]

    undone = project.inv("db.undo", "--yes", f"--to={str(good['id'])[:4]}")

    assert [each["rows"] for each in found] == [500, 1, 1, 1]
    assert [each["command"] for each in found] == [f"db.restore {wrong}"] * 4
    assert {each["database"] for each in found} == {shop.name}
    assert len(shown) == 4
    assert all(str(each["id"])[:4] in line for each, line in zip(found, shown, strict=True))
    assert undone.returncode == 0, undone.stderr
    assert shop.dump_text() == before
    assert len(list(project.dumps.glob("undo/*.manifest.json"))) == len(list(project.dumps.glob("undo/*.zst")))
    # What the undo replaced is the newest now.
    assert undos(project)[-1]["command"] == f"db.undo --to={good['id']}"
    assert project.inv("db.undo", "--yes").returncode == 0
    assert shop.scalar(COUNT) == 1
    assert undos(project.use(other)) == []


def test_undo_points_take_a_line_each_at_a_terminal(pair: tuple[Database, Database], project: Project) -> None:
    """Of 80 columns, newest last."""
    shop, _ = pair
    project.use(shop)
    for name in ("a" * 60, "b" * 60):
        shutil.copy(newest(project), project.dumps / f"{name}.sql")
        words = ("db.restore", "--clean", "--yes", f"--file={name}.sql")
        assert project.inv(*words).returncode == 0

    code, said = at_a_terminal(project, "db.undos", columns=80)

    ids = [line.split()[0] for line in said.splitlines() if "  dump  " in line]
    assert code == 0
    assert [str(state["id"]).startswith(short) for state, short in zip(undos(project), ids, strict=True)] == [True] * 2
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 80 for line in said.splitlines())


def test_id_of_no_or_several_states_is_refused(pair: tuple[Database, Database], project: Project) -> None:
    """Exit 2: unknown, too short, of another database, or of several, which are listed; nothing is touched."""
    shop, other = pair
    project.use(other)
    assert project.inv("db.reset", "--yes").returncode == 0
    (theirs,) = undos(project)
    project.use(shop)
    assert project.inv("db.reset", "--yes").returncode == 0
    (ours,) = undos(project)
    mark = Mark(shop)

    results = [
        project.inv("db.undo", "--yes", f"--to={wanted}") for wanted in ("0000", str(ours["id"])[:3], theirs["id"])
    ]
    empty = project.inv("db.undo", "--yes", "--to=")

    assert [each.returncode for each in (*results, empty)] == [2] * 4
    assert mark.is_untouched()


def test_id_outlives_compression(pair: tuple[Database, Database], project: Project) -> None:
    """A safety dump that was expanded is the same state, under the same id."""
    shop, _ = pair
    project.use(shop)
    assert project.inv("db.reset", "--yes").returncode == 0
    (before,) = undos(project)
    (path,) = project.dumps.glob("undo/*.zst")

    assert project.inv("db.gunzip", f"--file=undo/{path.name}").returncode == 0

    (after,) = undos(project)
    assert after["id"] == before["id"]
    assert after["path"] != before["path"]
    assert project.inv("db.undo", "--yes", f"--to={after['id']}").returncode == 0
    assert shop.scalar(COUNT) == 500


def test_reset_without_a_safety_dump_is_remembered(pair: tuple[Database, Database], project: Project) -> None:
    """A later undo says that it does not bring that back; verify still compares with the last restore alone."""
    shop, _ = pair
    project.use(shop)
    nothing = project.inv("db.reset", "--yes", "--no-backup")
    verified = project.inv("db.verify")
    assert project.inv("db.restore", "--yes").returncode == 0
    shop.execute("DELETE FROM public.item WHERE id > 100")
    assert project.inv("db.reset", "--yes").returncode == 0
    shop.execute(FULL)
    before = project.inv("--dry", "db.undo")
    assert project.inv("db.reset", "--yes", "--no-backup").returncode == 0

    after = project.inv("db.undo", "--yes")

    assert nothing.returncode == 0
    assert "nothing was compared" in verified.stdout.lower()
    assert "made no safety dump" not in before.stderr
    assert after.returncode == 0, after.stderr
    assert "The last reset, at " in after.stderr
    assert "made no safety dump" in after.stderr


def test_left_over_manifest_of_a_safety_dump_is_harmless(pair: tuple[Database, Database], project: Project) -> None:
    """A kill between the two unlinks leaves one: doctor is not red, and the next safety dump sweeps it away."""
    shop, _ = pair
    project.use(shop)
    assert project.inv("db.reset", "--yes").returncode == 0
    (path,) = project.dumps.glob("undo/*.zst")
    manifest = manifest_path(path)
    path.unlink()
    checks = json.loads(project.inv("db.doctor", "--json").stdout)["checks"]
    shop.execute(WRONG)

    assert project.inv("db.reset", "--yes").returncode == 0

    assert {each["state"] for each in checks if each["name"] == "leftovers"} == {"ok"}
    assert not manifest.exists()
    assert len(list(project.dumps.glob("undo/*"))) == 3


def test_safety_dump_of_an_earlier_version_is_listed(pair: tuple[Database, Database], project: Project) -> None:
    """Its manifest does not say which command it was made for; the note does, and undo takes it."""
    shop, _ = pair
    project.use(shop)
    assert project.inv("db.reset", "--yes").returncode == 0
    (manifest,) = project.dumps.glob("undo/*.manifest.json")
    document = json.loads(manifest.read_bytes())
    del document["command"]
    manifest.write_text(json.dumps(document), encoding="ascii")

    shown = project.inv("db.undos").stdout
    (point,) = undos(project)
    undone = project.inv("db.undo", "--yes", f"--to={point['id']}")

    assert "resetting public" in shown
    assert point["command"] is None
    assert undone.returncode == 0, undone.stderr
    assert shop.scalar(COUNT) == 500


def test_an_ordinary_role_lists_and_undoes(new_database: Databases, project: Project) -> None:
    """It needs no right but to connect."""
    database = new_database(owner=OWNER)
    database.execute(FULL, OWNER)
    project.use(database, OWNER)
    assert project.inv("db.reset", "--yes").returncode == 0
    (point,) = undos(project)

    assert project.inv("db.undo", "--yes", f"--to={point['id']}").returncode == 0
    assert database.scalar(COUNT) == 500


@pytest.mark.parametrize(
    ("env", "kept"),
    [
        ({}, 3),
        ({"INVOKE_DB_BACKUP": "5"}, 5),
        ({"INVOKE_DB_SAFETY_DUMPS": "5"}, 5),
        ({"INVOKE_DB_BACKUP": "5", "INVOKE_DB_SAFETY_DUMPS": "5"}, 5),
        ({"INVOKE_DB_BACKUP": "5", "INVOKE_DB_SAFETY_DUMPS": "3"}, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("yaml", [False, True], ids=["environment", "yaml"])
def test_old_name_of_the_setting_works(env: dict[str, str], kept: int | None, project: Project, *, yaml: bool) -> None:
    """Both of the same value, too; of two values neither is taken, and a sentence names both."""
    if yaml:
        names = {name.removeprefix("INVOKE_DB_").lower(): value for name, value in env.items()}
        lines = "".join(f"  {name}: {value}\n" for name, value in names.items())
        project.write("invoke.yaml", f"db:\n  output: normal\n{lines}")
        env = {}

    result = project.inv("db.list", env=env)

    assert result.returncode == (2 if kept is None else 0), result.stderr
    if kept is None:
        assert "db.backup" in result.stderr
        assert "db.safety_dumps" in result.stderr


def test_dumps_that_a_person_named_are_listed(database: Database, project: Project) -> None:
    """They are never taken without --file, and the error says that they are there."""
    project.use(database)
    assert project.inv("db.dump", "--file=monday.sql").returncode == 0

    result = project.inv("db.restore", "--clean", "--yes")

    assert result.returncode == 2
    assert "monday.sql" in result.stderr


def test_a_safety_dump_without_a_manifest_is_named(database: Database, project: Project) -> None:
    """Nothing says of which database it is, so it is no state to go back to."""
    database.execute("CREATE TABLE t (id int)")
    project.use(database)
    assert project.inv("db.reset", "--yes").returncode == 0
    (path,) = project.dumps.glob("undo/*.sql*[!n]")
    manifest_path(path).unlink()

    listed = project.inv("db.undos")

    assert listed.returncode == 0
    assert path.name in listed.stderr
    assert path.name not in listed.stdout


@pytest.fixture
def shop(new_database: Databases, project: Project) -> Database:
    """Return a database of two tables with a dump of all of it, then a newer one without the rows of `item`."""
    shop = new_database()
    shop.execute(f"{FULL}; CREATE TABLE public.other AS SELECT 1 AS id; ANALYZE")
    project.use(shop)
    for options in ([], ["--exclude-data=item"]):
        assert project.inv("db.dump", *options).returncode == 0
    return shop


@pytest.mark.majors(14, 18)
def test_a_dump_without_some_rows_is_never_the_newest(shop: Database, project: Project) -> None:
    """Restore, rehearse, inspect and show pass over it with its name, and take the complete one before it."""
    partial = newest(project)
    (whole,) = set(project.dumps.glob("db_dump_*.sql")) - {partial}
    commands = (["db.restore", "--clean", "--yes"], ["db.rehearse"], ["db.inspect"], ["db.show", "--table=item"])

    results = {words[0]: project.inv(*words) for words in commands}
    checks = json.loads(project.inv("db.doctor", "--json").stdout)["checks"]

    for name, each in results.items():
        assert (name, each.returncode) == (name, 0), each.stderr
        assert f"{partial.name} was skipped" in each.stderr
        assert "public.item" in each.stderr
    assert all(whole.name in results[name].stdout + results[name].stderr for name in results)
    assert [whole.name in each["message"] for each in checks if each["name"] == "newest dump"] == [True]
    assert shop.scalar(COUNT) == 500


def test_preview_warns_of_tables_that_will_be_empty(shop: Database, project: Project) -> None:
    """A dump without rows that --file names: the warning has the table and its rows now, and no other table."""
    partial = newest(project)

    shown = project.inv("--dry", "db.restore", "--clean", f"--file={partial.name}")

    assert shown.returncode == 0, shown.stderr
    (warning,) = (line for line in shown.stderr.splitlines() if "WARNING" in line)
    assert "public.item (about 500 rows now)" in warning
    assert "public.other" not in warning
    assert shop.scalar(COUNT) == 500


def test_rehearse_names_the_tables_whose_rows_the_dump_leaves_out(shop: Database, project: Project) -> None:
    """In its result and in the JSON."""
    words = ("db.rehearse", f"--file={newest(project).name}")

    said, written = project.inv(*words), project.inv(*words, "--json")

    assert (said.returncode, written.returncode) == (0, 0), said.stderr
    assert "public.item" in said.stdout
    assert json.loads(written.stdout)["rehearsal"]["excluded"] == ["public.item"]
    assert shop.scalar(COUNT) == 500


LATER = {
    "rehearse": ["db.rehearse"],
    "restore": ["db.restore", "--clean", "--yes"],
    "into": ["db.restore", "--into=never_made"],
    "inspect": ["db.inspect"],
    "show": ["db.show", "--table=item"],
    "gzip": ["db.gzip"],
}


@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
@pytest.mark.parametrize("part", ["--table=other", "--exclude-data=item", "--file={elsewhere}"])
def test_a_chain_does_not_use_another_dump_than_it_made(
    shop: Database, project: Project, tmp_path: Path, later: list[str], part: str
) -> None:
    """Exit 2, with the new dump and the one that would be used; nothing is touched."""
    (whole,) = set(project.dumps.glob("db_dump_*.sql")) - {newest(project)}
    shop.execute("INSERT INTO public.item VALUES (501, 'new')")

    result = project.inv("db.dump", part.format(elsewhere=tmp_path / "y.sql"), *later)

    assert result.returncode == 2, result.stderr
    made = tmp_path / "y.sql" if "elsewhere" in part else newest(project).name
    assert f"--file={made}" in result.stderr
    assert whole.name in result.stderr
    assert whole.exists()
    assert shop.scalar(COUNT) == 501


def test_a_chain_does_not_rehearse_an_older_dump_of_another_database(
    pair: tuple[Database, Database], project: Project
) -> None:
    """The dump of one URL, the rehearsal on another."""
    shop, other = pair
    project.use(shop).env["OTHER_URL"] = other.url

    result = project.inv("db.dump", "--url-env=OTHER_URL", "db.rehearse")

    assert result.returncode == 2
    assert f"--file={newest(project).name}" in result.stderr


def test_a_chain_uses_the_dump_that_it_made(shop: Database, project: Project) -> None:
    """Also after it was compressed; a task that names another with --file gets that."""
    old = newest(project)
    shop.execute("INSERT INTO public.item VALUES (501, 'new')")

    used = project.inv("db.dump", "db.gzip", "db.rehearse")
    named = project.inv("db.dump", "--table=other", "db.rehearse", f"--file={old.name}")

    assert (used.returncode, named.returncode) == (0, 0), used.stderr + named.stderr
    assert "502 rows" in used.stdout
