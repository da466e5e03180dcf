"""Other sessions and a restore by a swap: who is asked before loading, who is ended, and how a restore is finished."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.flows import pg_dump, ran, write
from tests.output_schema import complaints
from tests.schemas import DUMP_END
from tests.servers import OWNER, PASSWORD, SUPERUSER, Server
from tests.support import Database, Databases, Project, eventually
from tests.terminals import at_a_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support import Connection

CREATOR = "swap_creator"
ITEMS = "CREATE TABLE public.item (id int PRIMARY KEY); INSERT INTO public.item SELECT i FROM generate_series(1, {}) i"
QUESTION = "[y: "


@pytest.fixture(autouse=True)
def _no_left_overs(server: Server) -> Iterator[None]:
    """Drop the databases that a test made, kept ones included."""
    before = databases(server)
    yield
    with server.connect() as connection:
        for name in databases(server) - before:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def shop(new_database: Databases, project: Project) -> Database:
    """Return a database with five rows, of which there is a dump with three; a swap is taken where it is possible."""
    return fill(new_database(), project)


def fill(database: Database, project: Project, role: str = SUPERUSER) -> Database:
    """Dump three rows, then make them five."""
    database.execute(ITEMS.format(3), role)
    project.use(database, role).env["INVOKE_DB_METHOD"] = "auto"
    ran(project, "db.dump")
    database.execute("INSERT INTO public.item VALUES (4), (5)", role)
    return database


def databases(server: Server) -> set[str]:
    """Return the names of all databases of a server but templates."""
    query = "SELECT datname FROM pg_database WHERE NOT datistemplate"
    with server.connect() as connection:
        return {str(name) for (name,) in connection.execute(query).fetchall()}


def rows(database: Database) -> int:
    """Return how many items there are."""
    return int(database.scalar("SELECT count(*) FROM public.item"))


def alive(session: Connection) -> bool:
    """Return whether a session was not ended."""
    try:
        session.execute("SELECT 1")
    except Exception:  # noqa: BLE001 - how it ended does not matter
        return False
    return True


def document(project: Project, *arguments: str) -> Any:
    """Return the JSON of a task that succeeds."""
    result = project.inv(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    assert complaints("db.restore", result.stdout) == []
    return json.loads(result.stdout)["restore"]


def waiting(database: Database, project: Project, *flags: str, statement: str = "") -> str:
    """Let a session connect while the staging database is loaded, so that it waits; return its name.

    :param statement: What the dump executes at its end.
    """
    text = pg_dump(database).replace(b"\n--\n-- PostgreSQL database dump complete", b"")
    slow = write(project, "slow.sql", text + f"{statement};SELECT pg_catalog.pg_sleep(2);\n{DUMP_END}".encode())
    database.execute("INSERT INTO public.item VALUES (6)")
    process = project.popen("db.restore", "--clean", "--yes", "--method=swap", f"--file={slow.name}", *flags)
    with database.server.connect() as connection:
        query = b"SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname LIKE '%staging%'"
        eventually(lambda: connection.execute(query).fetchone() is not None, "the load")
    with database.connect(application_name="late"):
        _, said = process.communicate(timeout=60)
    assert process.returncode == 4, said
    assert "late" in said
    assert "db.restore --finish --disconnect" in said
    (name,) = (each for each in databases(database.server) if each.startswith(f"{database.name}__staging_"))
    return name


# The question before loading


@pytest.mark.majors(14, 18)
def test_without_a_terminal_the_transaction_is_taken(shop: Database, project: Project) -> None:
    """The line names the session, which is not ended; --yes alone ends no session."""
    with shop.connect(application_name="next-server") as session:
        result = project.inv("db.restore", "--clean", "--yes", "--json")

        assert alive(session)
    restored = json.loads(result.stdout)["restore"]
    assert (result.returncode, restored["method"], restored["no_swap"]["reason"]) == (0, "transaction", "sessions")
    assert "next-server" in result.stderr
    assert "--disconnect" in result.stderr
    assert rows(shop) == 3


@pytest.mark.majors(14, 18)
def test_a_required_swap_is_refused_before_anything_is_made(shop: Database, project: Project) -> None:
    """With exit code 4, naming --disconnect."""
    before = databases(shop.server)
    with shop.connect(application_name="next-server") as session:
        result = project.inv("db.restore", "--clean", "--yes", "--method=swap")

        assert alive(session)
    assert result.returncode == 4
    assert "next-server" in result.stderr
    assert "--disconnect" in result.stderr
    assert databases(shop.server) == before
    assert rows(shop) == 5


@pytest.mark.parametrize("setting", ["flag", "setting"])
@pytest.mark.majors(14, 18)
def test_disconnect_ends_sessions(shop: Database, project: Project, setting: str) -> None:
    """At the end; the result counts them, and how long they were cut off."""
    flags = ("--disconnect",) if setting == "flag" else ()
    project.env["INVOKE_DB_DISCONNECT"] = "no" if flags else "yes"
    with shop.connect() as session, shop.connect() as other:
        restored = document(project, "db.restore", "--clean", "--yes", *flags)

        assert not alive(session)
        assert not alive(other)
    assert (restored["method"], restored["ended_sessions"]) == ("swap", 2)
    assert 0 < restored["cut_off_seconds"] < 5
    assert restored["kept_database"]["name"] in databases(shop.server)
    assert rows(shop) == 3


@pytest.mark.parametrize(
    ("answer", "flags", "code", "ended"),
    [("y", (), 0, True), ("n", (), 0, False), ("", ("--method=swap",), 4, False)],
    ids=["yes", "no", "no to a required swap"],
)
def test_a_terminal_is_asked(
    shop: Database, project: Project, answer: str, flags: tuple[str, ...], code: int, ended: bool
) -> None:
    """With the applications' names, after the preview and before anything is loaded, also with --yes."""
    with shop.connect(application_name="Prisma Studio") as session:
        command = ("db.restore", "--clean", "--yes", *flags)
        status, said = at_a_terminal(project, *command, answers={QUESTION: answer}, columns=200)

        assert alive(session) is not ended
    assert status == code, said
    previewed = said.split(QUESTION)[0]
    assert f"{shop.name}__before_" in previewed
    assert previewed.count("1 session (Prisma Studio)") == 2
    assert rows(shop) == (3 if code == 0 else 5)
    assert any("__before_" in name for name in databases(shop.server)) is ended


def test_nobody_is_asked_without_sessions(shop: Database, project: Project) -> None:
    """Nor in a dry run, which says what it would need."""
    status, said = at_a_terminal(project, "db.restore", "--clean", "--yes")
    with shop.connect(application_name="web"):
        dry, previewed = at_a_terminal(project, "--dry", "db.restore", "--clean", columns=200)

    assert (status, dry) == (0, 0), said + previewed
    assert QUESTION not in said + previewed
    assert "--disconnect" in previewed
    assert "1 session (web)" in previewed


@pytest.mark.majors(14, 18)
def test_a_session_that_may_not_be_ended_is_found_in_the_plan(
    server: Server, new_database: Databases, project: Project
) -> None:
    """A superuser's, for another role: also with --disconnect the transaction is taken, or the swap refused with 4."""
    with server.connect() as connection:
        connection.execute(f"DROP ROLE IF EXISTS {CREATOR}".encode())
        connection.execute(f"CREATE ROLE {CREATOR} LOGIN CREATEDB PASSWORD '{PASSWORD}'".encode())
    shop = fill(new_database(owner=CREATOR), project, CREATOR)
    before = databases(server)

    with shop.connect(application_name="psql"):
        refused = project.inv("db.restore", "--clean", "--yes", "--disconnect", "--method=swap")
        taken = document(project, "db.restore", "--clean", "--yes", "--disconnect")
    with shop.connect(CREATOR):
        swapped = document(project, "db.restore", "--clean", "--yes", "--disconnect")

    assert refused.returncode == 4
    assert "psql" in refused.stderr
    assert (taken["method"], taken["no_swap"]["reason"]) == ("transaction", "foreign_sessions")
    assert (swapped["method"], swapped["ended_sessions"]) == ("swap", 1), swapped["no_swap"]
    assert len(databases(server) - before) == 1


# --finish


@pytest.mark.majors(14, 18)
def test_finish_takes_the_loaded_database(shop: Database, project: Project) -> None:
    """Nothing is loaded again; the old database is kept with what was written since, and verify compares anew."""
    staged = waiting(shop, project)
    shop.execute("INSERT INTO public.item VALUES (7)")

    finished = document(project, "db.restore", "--finish", "--yes")
    verified = project.inv("db.verify")

    assert verified.returncode == 0, verified.stdout
    assert (finished["rows"], finished["method"], finished["complete"]) == (5, "swap", True)
    assert rows(shop) == 5
    kept = Database(shop.server, finished["kept_database"]["name"])
    assert staged not in databases(shop.server)
    with shop.server.connect() as connection:
        connection.execute(f'ALTER DATABASE "{kept.name}" ALLOW_CONNECTIONS true'.encode())
    assert rows(kept) == 7
    assert project.inv("db.restore", "--finish", "--yes").returncode == 2


def test_finish_asks_about_sessions_as_a_restore_does(shop: Database, project: Project) -> None:
    """Without a terminal it needs --disconnect; the loaded database goes on waiting after a no."""
    staged = waiting(shop, project)

    with shop.connect(application_name="web") as session:
        refused = project.inv("db.restore", "--finish", "--yes")
        status, said = at_a_terminal(project, "db.restore", "--finish", "--yes", answers={QUESTION: "n"})
        assert staged in databases(shop.server)
        assert alive(session)
        finished = document(project, "db.restore", "--finish", "--yes", "--disconnect")
        assert not alive(session)

    assert (refused.returncode, status) == (4, 4), said
    assert "db.restore --finish --disconnect" in refused.stderr
    assert finished["ended_sessions"] == 1
    assert rows(shop) == 5


@pytest.mark.majors(14, 18)
def test_finish_reads_grants_and_settings_again(shop: Database, project: Project) -> None:
    """What the database got while the loaded one waited is not lost."""
    waiting(shop, project)
    shop.execute(
        f'GRANT CREATE ON DATABASE "{shop.name}" TO {OWNER}; COMMENT ON DATABASE "{shop.name}" IS \'ours\';'
        f'ALTER DATABASE "{shop.name}" SET work_mem = \'7MB\'; ALTER DATABASE "{shop.name}" CONNECTION LIMIT 7'
    )
    state = (
        "SELECT datacl::text, datconnlimit, shobj_description(oid, 'pg_database'),"
        " (SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = d.oid)"
        " FROM pg_database d WHERE datname = current_database()"
    )
    before = shop.execute(state)

    ran(project, "db.restore", "--finish", "--yes")

    assert shop.execute(state) == before


def test_finish_reports_the_differences_of_the_restore(shop: Database, project: Project) -> None:
    """With exit code 6, as the restore would have; the swap is done."""
    waiting(shop, project, statement="DELETE FROM public.item WHERE id = 1")

    result = project.inv("db.restore", "--finish", "--yes", "--json")

    assert (result.returncode, json.loads(result.stdout)["restore"]["complete"]) == (6, False)
    assert "public.item" in json.loads(result.stderr.splitlines()[-1])["error"]["message"]
    assert complaints("db.restore", result.stdout) == []
    assert rows(shop) == 4


@pytest.mark.parametrize("where", ["at the restore", "at the finish"])
def test_finish_without_a_backup_drops_the_old_database(shop: Database, project: Project, where: str) -> None:
    """As either command asked; the preview says so."""
    before = databases(shop.server)
    flags = ("--no-backup",)
    waiting(shop, project, *(flags if where == "at the restore" else ()))

    result = project.inv("db.restore", "--finish", "--yes", *(flags if where == "at the finish" else ()))

    assert result.returncode == 0, result.stderr
    assert "are lost with the old database" in result.stderr
    assert databases(shop.server) == before


def test_finish_is_refused_for_another_database_of_the_name(
    shop: Database, project: Project, new_database: Databases
) -> None:
    """Which was created since; nothing is swapped."""
    staged = waiting(shop, project)
    with shop.server.connect() as connection:
        connection.execute(f'ALTER DATABASE "{shop.name}" RENAME TO "{shop.name}_old"'.encode())
    new_database(name=shop.name).execute(ITEMS.format(1))

    result = project.inv("db.restore", "--finish", "--yes")

    assert result.returncode == 2
    assert staged in result.stderr
    assert rows(shop) == 1


def test_finish_is_guarded(shop: Database, project: Project) -> None:
    """A protected database is refused, and a wrong name."""
    staged = waiting(shop, project)

    protected = project.inv("db.restore", "--finish", "--yes", env={"INVOKE_DB_PROTECTED": shop.name})
    wrong = project.inv("db.restore", "--finish", "--yes", "--confirm=other")
    dry = project.inv("--dry", "db.restore", "--finish")

    assert (protected.returncode, wrong.returncode, dry.returncode) == (7, 7, 0)
    assert staged in dry.stderr
    assert rows(shop) == 6


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("flag", ["--clean", "--file=slow.sql", "--migrate", "--trust", "--table=item"])
def test_finish_takes_no_flags_of_a_restore(project: Project, flag: str) -> None:
    """They could change nothing any more."""
    result = project.inv("db.restore", "--finish", flag)

    assert result.returncode == 2
    assert flag.partition("=")[0] in result.stderr


def test_a_new_restore_drops_the_waiting_database(shop: Database, project: Project) -> None:
    """The preview names it; that of another database goes on waiting."""
    staged = waiting(shop, project)

    preview = project.inv("--dry", "db.restore", "--clean", "--file=slow.sql")
    assert staged in databases(shop.server)
    restored = document(project, "db.restore", "--clean", "--yes", "--file=slow.sql")

    assert f"Will be deleted: {staged}" in preview.stderr
    assert restored["method"] == "swap"
    assert staged not in databases(shop.server)


def test_a_restore_of_another_database_leaves_the_waiting_one(
    shop: Database, project: Project, new_database: Databases
) -> None:
    """Both belong to one project."""
    staged = waiting(shop, project)
    other = fill(new_database(), project)

    restored = document(project, "db.restore", "--clean", "--yes")

    assert restored["method"] == "swap"
    assert rows(other) == 3
    assert staged in databases(shop.server)
