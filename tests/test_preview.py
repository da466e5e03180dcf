"""The preview names all that a restore or a reset deletes, replaces or changes; the way back that it prints works."""

from __future__ import annotations

import json
import re
import shlex
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tasks.dumpfiles.paths import UNDO, time_in_name
from tests.flows import elsewhere, saved
from tests.schemas import APP, DUMP_END
from tests.servers import OWNER
from tests.support import without_restrict
from tests.terminals import at_a_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support import Database, Databases, Project

WITHOUT_ROWS = {
    "table": "CREATE TABLE public.t (id int)",
    "view": "CREATE VIEW public.v AS SELECT 1 AS one",
    "function": "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "type": "CREATE TYPE public.m AS ENUM ('a')",
    "sequence": "CREATE SEQUENCE public.s",
}
OTHER = "CREATE TABLE public.other (a int);\n"


@pytest.fixture
def shop(new_database: Databases, project: Project) -> Database:
    """Return a database of an ordinary role, with a few objects, that the project's URL names."""
    shop = new_database(owner=OWNER)
    shop.execute(APP, role=OWNER)
    project.use(shop, OWNER).env.pop("INVOKE_DB_TRUST")
    return shop


@pytest.mark.parametrize("kind", WITHOUT_ROWS)
@pytest.mark.majors(14, 18)
def test_reset_of_objects_without_rows_can_be_undone(kind: str, new_database: Databases, project: Project) -> None:
    """They are named, counted and saved."""
    database = new_database(owner=OWNER)
    database.execute(WITHOUT_ROWS[kind], role=OWNER)
    project.use(database, OWNER)
    before = database.dump_text()

    reset = project.inv("db.reset", "--yes")
    undone = project.inv("db.undo", "--yes")

    assert (reset.returncode, undone.returncode) == (0, 0), (reset.stderr, undone.stderr)
    assert re.search(rf"Will be deleted: everything in public \(1 {kind}[;)]", reset.stderr), reset.stderr
    assert "A safety dump is made first; `inv db.undo` restores it." in reset.stderr
    assert without_restrict(database.dump_text()) == without_restrict(before)


@pytest.mark.majors(14, 18)
@pytest.mark.usefixtures("shop")
def test_clean_restore_names_every_kind(project: Project) -> None:
    """Also where the dump holds nothing of the kind; without a safety dump it says what that means."""
    project.write("dumps/foreign.sql", "CREATE TABLE app.users (id int);\n" + DUMP_END)

    result = project.inv("--dry", "db.restore", "--clean", "--file=foreign.sql")
    without = project.inv("db.restore", "--clean", "--yes", "--no-backup", "--file=foreign.sql")

    assert (result.returncode, without.returncode) == (0, 0), (result.stderr, without.stderr)
    assert re.search(
        r"Will be deleted: everything in app \(1 table, 1 view, 1 procedure, 1 function; about 3 rows, [\d.]+ kB\)",
        result.stderr,
    ), result.stderr
    assert "No safety dump: `inv db.undo` will not be possible." in without.stderr
    assert saved(project) == []


@pytest.mark.majors(14, 18)
@pytest.mark.usefixtures("shop")
def test_clean_restore_into_an_empty_database_asks_nothing(new_database: Databases, project: Project) -> None:
    """Far away, too, and without --yes: nothing is deleted, so nobody waits and no safety dump is made."""
    assert project.inv("db.dump").returncode == 0
    elsewhere(project)
    empty = new_database(owner=OWNER)
    project.use(empty, OWNER)

    restored = project.inv("db.restore", "--clean", *project.into(empty)[:1])

    assert restored.returncode == 0, restored.stderr
    assert "WARNING: this dump was made from" in restored.stderr
    assert "Beginning in" not in restored.stderr
    assert "Will be" not in restored.stderr
    assert saved(project) == []
    assert empty.scalar("SELECT count(*) FROM app.users") == 3


@pytest.mark.majors(14, 18)
def test_plain_restore_shows_what_it_changes_in_the_schemas_of_the_dump(shop: Database, project: Project) -> None:
    """A table that it creates there excuses no statement about another one."""
    shop.execute(OTHER + "INSERT INTO public.other VALUES (1); ANALYZE public.other", role="postgres")
    shop.execute(f"ALTER TABLE public.other OWNER TO {OWNER}; GRANT ALL ON SCHEMA public TO {OWNER}")
    text = "CREATE TABLE public.mine (a int);\nALTER TABLE public.other DROP COLUMN a;\nDROP VIEW app.names;\n"
    project.write("dumps/foreign.sql", text + DUMP_END)
    before = shop.dump_text()

    restored = project.inv("db.restore", "--yes", "--file=foreign.sql")
    undone = project.inv("db.undo", "--yes")

    assert (restored.returncode, undone.returncode) == (0, 0), (restored.stderr, undone.stderr)
    assert "Will be changed: public.other (about 1 row): ALTER TABLE on line 2." in restored.stderr
    assert "Will be changed: app.names: DROP VIEW on line 3." in restored.stderr
    assert "mine" not in restored.stderr
    assert without_restrict(shop.dump_text()) == without_restrict(before)


@pytest.mark.majors(14, 18)
@pytest.mark.usefixtures("shop")
def test_plain_restore_that_only_adds_shows_nothing(project: Project) -> None:
    """However many tables the schema holds; an undo afterwards says what the restore was."""
    assert project.inv("db.reset", "--schema=app", "--yes").returncode == 0
    assert project.inv("db.undo", "--yes").returncode == 0
    project.write("dumps/foreign.sql", "CREATE TABLE app.more (a int);\n" + DUMP_END)

    added = project.inv("db.restore", "--file=foreign.sql")
    undo = project.inv("--dry", "db.undo")

    assert added.returncode == 0, added.stderr
    assert "Will be" not in added.stderr
    assert "It deleted nothing" in undo.stderr


@pytest.mark.majors(14, 18)
def test_plain_restore_of_our_own_dump_names_what_it_replaces(shop: Database, project: Project) -> None:
    """Only what has the name of something in the dump, the largest tables first."""
    assert project.inv("db.dump").returncode == 0
    shop.execute("CREATE TABLE app.untouched AS SELECT 1 AS a", role=OWNER)

    result = project.inv("--dry", "db.restore")

    assert result.returncode == 0, result.stderr
    assert "Will be replaced: app.users (about 3 rows), app.f, app.names, app.p." in result.stderr
    assert "untouched" not in result.stderr
    assert "A safety dump is made first" in result.stderr


@pytest.mark.majors(14, 18)
def test_truncate_that_cascades_claims_no_number(shop: Database, project: Project) -> None:
    """It also empties what refers to the table, which only the server knows."""
    shop.execute("CREATE TABLE app.orders (u int REFERENCES app.users); INSERT INTO app.orders VALUES (1)", role=OWNER)
    project.write("dumps/foreign.sql", "TRUNCATE app.users CASCADE;\n" + DUMP_END)

    result = project.inv("db.restore", "--yes", "--file=foreign.sql")

    assert result.returncode == 0, result.stderr
    assert "Will be changed: anything in the database: TRUNCATE … CASCADE on line 1" in result.stderr
    assert shop.scalar("SELECT count(*) FROM app.orders") == 0


def test_printed_command_undoes_it(new_database: Databases, project: Project) -> None:
    """With the variable that was named, and with --trust where a superuser would be asked."""
    database = new_database()
    database.execute(f"CREATE SCHEMA theirs AUTHORIZATION {OWNER}; CREATE TABLE public.t AS SELECT 1 AS a")
    project.use(database).env.pop("INVOKE_DB_TRUST")
    project.env["OTHER_URL"] = project.env.pop("DATABASE_URL")
    before = database.dump_text()

    reset = project.inv("db.reset", "--yes", "--url-env=OTHER_URL")
    found = re.search(r"`inv (db\.undo[^`]*)`", reset.stdout)
    assert found is not None, reset.stdout
    undone = project.inv(*shlex.split(found[1]), "--yes")

    assert found[1] == "db.undo --url-env=OTHER_URL --trust"
    assert undone.returncode == 0, undone.stderr
    assert without_restrict(database.dump_text()) == without_restrict(before)


def test_undo_into_an_empty_database_says_how_to_go_back(new_database: Databases, project: Project) -> None:
    """Nothing is there to save, so no safety dump is made."""
    database = new_database()
    database.execute("CREATE TABLE public.t AS SELECT 1 AS a")
    assert project.use(database).inv("db.reset", "--yes").returncode == 0

    result = project.inv("db.undo", "--yes")

    assert result.returncode == 0, result.stderr
    assert "No safety dump: no data will be lost." in result.stderr
    assert "`inv db.reset`" in result.stderr
    assert database.scalar("SELECT count(*) FROM t") == 1


@pytest.mark.parametrize("answer", ["y", "yes"])
def test_question_follows_the_preview(answer: str, new_database: Databases, project: Project) -> None:
    """Once, and then nobody waits."""
    database = new_database()
    database.execute("CREATE TABLE public.t AS SELECT 1 AS a")
    project.use(database).env.pop("INVOKE_DB_TRUST")
    project.write("dumps/foreign.sql", "CREATE TABLE public.t (a int);\n" + DUMP_END)

    code, said = at_a_terminal(project, "db.restore", "--clean", "--file=foreign.sql", answers={"Type yes": answer})

    words = " ".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said).split())
    assert code == 0, said
    assert words.index("Will be deleted: everything in public (1 table") < words.index("postgres is a superuser")
    assert words.count("Type ") == 1
    assert "Beginning in" not in words


def test_question_names_the_right_that_it_is_about(new_database: Databases, project: Project) -> None:
    """An owner with CREATEROLE is no superuser; a rehearsal's refusal talks of no scratch database."""
    database = new_database(owner=OWNER)
    project.use(database, OWNER).env.pop("INVOKE_DB_TRUST")
    project.write("dumps/foreign.sql", "CREATE TABLE public.t (a int);\n" + DUMP_END)
    database.execute(f"ALTER ROLE {OWNER} CREATEROLE CREATEDB")
    try:
        restored = project.inv("db.restore", "--file=foreign.sql")
        rehearsed = project.inv("db.rehearse", "--file=foreign.sql")
    finally:
        database.execute(f"ALTER ROLE {OWNER} NOCREATEROLE NOCREATEDB")

    assert [restored.returncode, rehearsed.returncode] == [2, 2]
    for each in (restored, rehearsed):
        assert f"{OWNER} has CREATEROLE" in each.stderr
        assert "scratch" not in each.stderr


@pytest.mark.majors(14, 18)
@pytest.mark.usefixtures("shop")
def test_verify_compares_with_what_was_loaded(project: Project) -> None:
    """After rows were changed by a later statement of the dump, which ends with 6, verify says so, too."""
    rows = "CREATE SCHEMA fresh;\nCREATE TABLE fresh.t (a int);\nCOPY fresh.t (a) FROM stdin;\n1\n2\n\\.\n"
    project.write("dumps/foreign.sql", rows + "DELETE FROM fresh.t WHERE a = 1;\n" + DUMP_END)

    restored, verified = project.inv("db.restore", "--yes", "--file=foreign.sql"), project.inv("db.verify")

    assert (restored.returncode, verified.returncode) == (6, 6), restored.stderr
    assert re.search(r"fresh\.t +2 +1 +differs", verified.stdout), verified.stdout


@pytest.mark.parametrize("more", ["INSERT INTO public.v VALUES (7);", "RESET ALL;", "SET search_path TO public;"])
def test_statements_behind_the_last_line_are_restored(more: str, new_database: Databases, project: Project) -> None:
    """As tools of migrations write them; psql would run them, too."""
    database = new_database(owner=OWNER)
    project.use(database, OWNER).write("dumps/f.sql", f"CREATE TABLE public.v (a int);{DUMP_END}\n{more}\n")

    result = project.inv("db.restore", "--file=f.sql")

    assert result.returncode == 0, result.stderr
    assert database.scalar("SELECT count(*) FROM public.v") == more.startswith("INSERT")


def test_other_statements_behind_the_last_line_are_named(project: Project, new_database: Databases) -> None:
    """They may be the beginning of another dump that was cut."""
    project.use(new_database(owner=OWNER), OWNER)
    project.write("dumps/f.sql", f"CREATE TABLE public.v (a int);{DUMP_END}\nCREATE TABLE public.w (a int);\n")

    result = project.inv("db.restore", "--file=f.sql")

    assert result.returncode == 2
    assert "from line 4, statements follow pg_dump's last line: CREATE TABLE" in " ".join(result.stderr.split())


@pytest.mark.usefixtures("shop")
def test_existing_objects_lead_to_clean(project: Project) -> None:
    """A dump that does not drop them fails, and the message says what helps; so does one that drops a needed table."""
    project.write("dumps/plain.sql", "CREATE TABLE app.users (a int);\n" + DUMP_END)
    project.write("dumps/drops.sql", "DROP TABLE app.users;\nCREATE TABLE app.users (a int);\n" + DUMP_END)

    plain = project.inv("db.restore", "--yes", "--file=plain.sql")
    drops = project.inv("db.restore", "--yes", "--file=drops.sql")

    assert (plain.returncode, drops.returncode) == (5, 5)
    assert "--clean, which first deletes everything" in plain.stderr
    assert "--clean deletes dependent objects only" in drops.stderr


def test_undo_warns_of_a_restore_in_the_same_second(new_database: Databases, project: Project) -> None:
    """A restore without a safety dump is later than the safety dump, however little."""
    database = new_database()
    database.execute("CREATE TABLE public.t AS SELECT 1 AS a")
    assert project.use(database).inv("db.dump").returncode == 0
    assert project.inv("db.restore", "--clean", "--yes").returncode == 0
    assert project.inv("db.restore", "--clean", "--yes", "--no-backup").returncode == 0
    (record,) = project.dumps.glob(".restored-*.json")
    (saved,) = project.dumps.glob("undo/*.sql.zst")
    when = time_in_name(saved.name, UNDO)
    assert when is not None
    restored = json.loads(record.read_bytes())
    restored["restored"] = (when + timedelta(milliseconds=1)).isoformat(timespec="milliseconds")
    record.write_text(json.dumps(restored), encoding="ascii")

    result = project.inv("--dry", "db.undo")

    assert result.returncode == 0, result.stderr
    assert "made no safety dump" in result.stderr


# A restore by a swap


@pytest.fixture
def swapped(new_database: Databases, project: Project) -> Iterator[Database]:
    """Return a database of which there is a dump, in a project that swaps where it is possible."""
    database = new_database()
    database.execute(APP)
    project.use(database).env["INVOKE_DB_METHOD"] = "auto"
    assert project.inv("db.dump").returncode == 0
    yield database
    with database.server.connect() as connection:
        query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s || '__')"
        for (name,) in connection.execute(query, [database.name]).fetchall():
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.mark.majors(14, 18)
def test_preview_of_a_swap_says_what_it_costs(swapped: Database, project: Project) -> None:
    """What becomes of rows written meanwhile, the disk with older kept databases, the cut, and the way back."""
    first = project.inv("db.restore", "--clean", "--yes")
    kept = re.search(rf"{swapped.name}__before_\w+", first.stdout)
    second = project.inv("--dry", "db.restore", "--clean")
    with swapped.connect(application_name="web"):
        third = project.inv("--dry", "db.restore", "--clean", "--disconnect")

    assert (first.returncode, second.returncode, third.returncode) == (0, 0, 0), first.stderr + second.stderr
    assert kept is not None, first.stdout
    for words in (f"the name {swapped.name}", "in one transaction", "not locked", "`inv db.undo`", "0.2 s"):
        assert words in first.stderr
    assert f"kept as {swapped.name}__before_" in first.stderr
    assert "safety dump" not in first.stderr + first.stdout
    assert kept[0] not in first.stderr
    assert re.search(rf"in addition to the old one \([\d.]+ MB\) and {kept[0]} \([\d.]+ MB\)", second.stderr)
    assert "1 session (web) will be ended" in third.stderr
    assert re.search(r"put in place in [\d.]+ s; sessions were cut off for [\d.]+ s\n", first.stdout), first.stdout
    assert re.search(rf"{kept[0]} \([\d.]+ MB\); `inv db.undo`", first.stdout)


@pytest.mark.majors(14, 18)
def test_preview_of_a_swap_without_a_backup(swapped: Database, project: Project) -> None:
    """The old database is dropped, with what is written meanwhile; a required swap has no other way."""
    result = project.inv("db.restore", "--clean", "--yes", "--no-backup", "--method=swap")

    assert result.returncode == 0, result.stderr
    assert "lost with the old database" in result.stderr
    assert "`inv db.undo` will not be possible" in result.stderr
    assert "in one transaction" not in result.stderr
    assert "was dropped" in result.stdout
    query = "SELECT count(*) FROM pg_database WHERE starts_with(datname, current_database() || '__')"
    assert swapped.scalar(query) == 0


@pytest.mark.majors(14, 18)
def test_preview_of_a_transaction_says_why_not_a_swap(swapped: Database, project: Project) -> None:
    """In one line, with what the transaction does; nothing if a transaction was asked for."""
    swapped.execute("SELECT lo_create(0)")

    auto = project.inv("db.restore", "--clean", "--yes", "--json")
    asked = project.inv("db.restore", "--clean", "--yes", "--method=transaction", "--json")

    assert (auto.returncode, asked.returncode) == (0, 0), auto.stderr + asked.stderr
    (line,) = (each for each in auto.stderr.splitlines() if "swap" in each)
    assert "large objects" in line
    assert "A safety dump is made first" in auto.stderr
    assert json.loads(auto.stdout)["restore"]["no_swap"]["reason"] == "large_objects"
    assert "swap" not in asked.stderr
    assert json.loads(asked.stdout)["restore"]["no_swap"] is None
