"""A restore into a new database: `--into=NAME` next to the configured one, `--create` for the configured one."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tasks.dump.dump import make_dump
from tasks.dump.request import DumpRequest
from tasks.errors import TaskError
from tasks.progress import Silence
from tasks.restore.request import RestoreRequest
from tasks.scratch.restore_into import plan_restore_into, restore_into_new
from tests.flows import Said, dump_of, pg_dump, ran, settings_of, write
from tests.journal import COUNT, migration
from tests.schemas import DUMP_END, SHOP
from tests.servers import OWNER, PASSWORD, Server
from tests.support import Database, Databases, Project, Started, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

CREATOR = "into_creator"
STRANGE = 'a "shop" of föß'
SLEEP = b"SELECT pg_catalog.pg_sleep(60);\n"
STATE = (
    "SELECT datacl::text[] <@ acldefault('d', datdba)::text[] AND datacl::text[] @> acldefault('d', datdba)::text[],"
    " datallowconn,"
    " shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
)


@pytest.fixture(autouse=True)
def _no_left_overs(server: Server) -> Iterator[None]:
    """Drop the databases that a test made."""
    before = databases(server)
    yield
    with server.connect() as connection:
        for name in databases(server) - before:
            connection.execute("DROP DATABASE {} WITH (FORCE)".format('"' + name.replace('"', '""') + '"').encode())


@pytest.fixture
def shop(new_database: Databases, project: Project) -> Database:
    """Return a small database, of which there is a dump; the project works with it."""
    database = new_database()
    database.execute(SHOP)
    make_dump(settings_of(project.use(database), database), DumpRequest(), Silence())
    return database


@pytest.fixture
def absent(shop: Database, project: Project) -> Database:
    """Return the shop after somebody has dropped it; there is a dump of it."""
    with shop.server.connect() as connection:
        connection.execute(f'DROP DATABASE "{shop.name}" WITH (FORCE)'.encode())
    assert shop.name not in databases(shop.server)
    assert list(project.dumps.glob("*.sql*"))
    return shop


@pytest.fixture
def creator(server: Server) -> str:
    """Return a role that may create databases, and nothing else."""
    with server.connect() as connection:
        if not connection.execute(f"SELECT FROM pg_roles WHERE rolname = '{CREATOR}'".encode()).fetchall():
            connection.execute(f"CREATE ROLE {CREATOR} LOGIN CREATEDB PASSWORD '{PASSWORD}'".encode())
    return CREATOR


def databases(server: Server) -> set[str]:
    """Return the names of all databases of a server but templates."""
    query = "SELECT datname FROM pg_database WHERE NOT datistemplate"
    with server.connect() as connection:
        return {str(name) for (name,) in connection.execute(query).fetchall()}


def document(project: Project, *arguments: str) -> Any:
    """Return the JSON of a restore that succeeds."""
    result = project.inv("db.restore", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["restore"]


def begin(project: Project, shop: Database) -> Started:
    """Begin a restore into the database `copy` that takes its time, and wait until it has loaded its rows."""
    text = pg_dump(shop).replace(
        b"--\n-- PostgreSQL database dump complete", SLEEP + b"--\n-- PostgreSQL database dump complete"
    )
    write(project, "slow.sql", text)
    process = project.popen("db.restore", "--into=copy", "--file=slow.sql")
    with shop.server.connect() as connection:
        query = b"SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        eventually(lambda: connection.execute(query).fetchone() is not None, "the load")
    return process


# --into


@pytest.mark.parametrize("name", ["copy", STRANGE])
@pytest.mark.majors(14, 18)
def test_into_makes_a_database_that_holds_the_dump(shop: Database, project: Project, name: str) -> None:
    """With PUBLIC's default grants, and verified later; the configured database is not touched, and nothing is left."""
    before, others = shop.dump_text(), databases(shop.server)

    restored = document(project, f"--into={name}")
    copy = Database(shop.server, name)

    assert (restored["created"], restored["verified"], restored["method"]) == (True, True, "transaction")
    assert name in restored["database"]
    assert copy.dump_text() == before == shop.dump_text()
    assert copy.execute(STATE) == [(True, True, None)]
    assert databases(shop.server) - others == {name}
    url = copy.url.replace(f"/{name}", f"/{quote(name, safe='')}")
    assert project.inv("db.verify", "--url-env=COPY_URL", env={"COPY_URL": url}).returncode == 0
    assert not list(project.dumps.glob(".invoke*"))


@pytest.mark.majors(14, 18)
def test_into_needs_no_more_than_createdb(
    shop: Database, project: Project, creator: str, new_database: Databases
) -> None:
    """The role owns the new database; without the right, nothing is made."""
    own = new_database(owner=creator)
    own.execute("CREATE TABLE own (a int)", creator)
    project.use(own, creator)
    ran(project, "db.dump")

    ran(project, "db.restore", "--into=copy")
    refused = project.use(shop, OWNER).inv("db.restore", "--into=more", *project.into(own)[:1])

    owner = Database(shop.server, "copy").scalar(
        "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
    )
    assert owner == creator
    assert refused.returncode == 2, refused.stderr
    assert "more" not in databases(shop.server)


REFUSED = {
    "a database that exists": ((), {}, 2),
    "a name too long": (("--into=" + "x" * 64,), {}, 2),
    "an empty name": (("--into=",), {}, 2),
    "with --clean": (("--into=copy", "--clean"), {}, 2),
    "with --table": (("--into=copy", "--table=item"), {}, 2),
    "with --create": (("--into=copy", "--create"), {}, 2),
    "a protected name": (("--into=prod_copy",), {"INVOKE_DB_PROTECTED": "prod*"}, 7),
    "a protected host": (("--into=copy",), {"INVOKE_DB_PROTECTED": "127.0.0.1"}, 7),
    "another name confirmed": (("--into=copy", "--confirm=other"), {}, 7),
}


@pytest.mark.parametrize("case", REFUSED)
def test_into_is_refused_before_anything_is_made(shop: Database, project: Project, case: str) -> None:
    """No database, and no change of the one that exists."""
    flags, env, code = REFUSED[case]
    before, others = shop.dump_text(), databases(shop.server)

    result = project.inv("db.restore", *(flags or (f"--into={shop.name}",)), env=env)

    assert result.returncode == code, result.stderr
    assert databases(shop.server) == others
    assert shop.dump_text() == before


def test_a_protected_database_may_be_copied(shop: Database, project: Project) -> None:
    """What is protected by its name is the database, not its server."""
    env = {"INVOKE_DB_PROTECTED": shop.name}

    dry = project.inv("--dry", "db.restore", "--into=copy", env=env)
    assert "copy" not in databases(shop.server)
    restored = project.inv("db.restore", "--into=copy", env=env)

    assert (dry.returncode, restored.returncode) == (0, 0), restored.stderr
    assert "copy" in dry.stderr
    assert "copy" in databases(shop.server)


@pytest.mark.majors(14, 18)
def test_a_restore_that_fails_leaves_no_database(shop: Database, project: Project) -> None:
    """Also after all rows were loaded; the message says so."""
    write(project, "bad.sql", dump_of("CREATE TABLE a (b int);", "SELECT 1 / 0;"))
    others = databases(shop.server)

    result = project.inv("db.restore", "--into=copy", "--file=bad.sql", "--json")

    assert result.returncode == 5, result.stderr
    assert json.loads(result.stderr.splitlines()[-1])["error"]["state"] == "unchanged"
    assert databases(shop.server) == others


@pytest.mark.majors(14, 18)
def test_nobody_sees_the_database_before_it_is_complete(shop: Database, project: Project) -> None:
    """It does not have its name yet, and another role can't connect; an interruption drops it."""
    others = databases(shop.server)
    process = begin(project, shop)

    (name,) = databases(shop.server) - others
    with shop.server.connect() as connection:
        allowed = connection.execute(
            "SELECT has_database_privilege(%s, datname, 'CONNECT') FROM pg_database WHERE datname = %s", [OWNER, name]
        ).fetchone()
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)

    assert name != "copy"
    assert allowed == (False,)
    assert process.returncode == 130
    assert databases(shop.server) == others


def test_the_next_restore_sweeps_what_a_kill_left(shop: Database, project: Project) -> None:
    """Nothing has the name meanwhile, so the next one can take it."""
    others = databases(shop.server)
    process = begin(project, shop)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    with shop.server.connect() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        query = b"SELECT FROM pg_stat_activity WHERE datname LIKE 'invoke%'"
        eventually(lambda: connection.execute(query).fetchone() is None, "the end of its sessions")
    (left,) = databases(shop.server) - others

    document(project, "--into=copy", *project.into(shop)[:1])

    assert left not in databases(shop.server)
    assert databases(shop.server) - others == {"copy"}


def test_a_name_that_was_taken_meanwhile_is_not_overwritten(shop: Database, project: Project) -> None:
    """The rename fails, and what was loaded is dropped."""
    text = pg_dump(shop).replace(DUMP_END.encode().strip(), b"SELECT pg_catalog.pg_sleep(2);\n" + DUMP_END.encode())
    write(project, "slow.sql", text)
    others = databases(shop.server)
    process = project.popen("db.restore", "--into=copy", "--file=slow.sql")
    with shop.server.connect() as connection:
        query = b"SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        eventually(lambda: connection.execute(query).fetchone() is not None, "the load")
        connection.execute("CREATE DATABASE copy")
    process.communicate(timeout=60)

    assert process.returncode == 5
    assert databases(shop.server) - others == {"copy"}
    assert Database(shop.server, "copy").scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


# Roles

ROLES = ("into_owner", "into_reader", "into_policy")
OF_ROLES = (
    "CREATE TABLE public.t (a int);",
    f"ALTER TABLE public.t OWNER TO {ROLES[0]};",
    f"GRANT SELECT ON public.t TO {ROLES[1]};",
    f"CREATE POLICY p ON public.t TO {ROLES[2]};",
)
FAILS = "SELECT 1 / 0;"


@pytest.fixture
def _no_roles(server: Server, _no_left_overs: None) -> Iterator[None]:
    """Drop the roles that a test created, before the databases."""
    yield
    with server.connect() as connection:
        for name in databases(server) & {"copy", "fresh"}:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        for role in ROLES:
            connection.execute(f"DROP ROLE IF EXISTS {role}".encode())


def roles(server: Server) -> set[str]:
    """Return which of the roles exist."""
    with server.connect() as connection:
        found = connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(ROLES)]).fetchall()
    return {str(name) for (name,) in found}


@pytest.mark.usefixtures("_no_roles")
@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("flag", ["--into", "--create"])
def test_a_restore_that_fails_leaves_no_new_roles(shop: Database, project: Project, flag: str, jobs: int) -> None:
    """Those that existed before remain; a restore that succeeds leaves all of them."""
    write(project, "bad.sql", dump_of(*OF_ROLES, FAILS))
    write(project, "good.sql", dump_of(*OF_ROLES))
    others, name = databases(shop.server), "copy" if flag == "--into" else "fresh"
    if flag == "--create":
        project.use(Database(shop.server, name))
    into = ("db.restore", "--into=copy" if flag == "--into" else flag, "--create-roles", f"--jobs={jobs}")
    with shop.server.connect() as connection:
        connection.execute(f"CREATE ROLE {ROLES[1]}".encode())

    failed = project.inv(*into, "--file=bad.sql")
    left = roles(shop.server)
    ran(project, *into, "--file=good.sql")

    assert (failed.returncode, left) == (5, {ROLES[1]})
    assert roles(shop.server) == set(ROLES)
    query = "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'public.t'::regclass"
    assert Database(shop.server, name).scalar(query) == ROLES[0]
    assert databases(shop.server) - others == {name}


@pytest.mark.usefixtures("_no_roles")
@pytest.mark.majors(14, 18)
def test_a_role_without_superuser_drops_its_new_roles(
    shop: Database, project: Project, creator: str, new_database: Databases
) -> None:
    """It is a member of them; CREATEROLE is enough."""
    own = new_database(owner=creator)
    write(project, "bad.sql", dump_of(*OF_ROLES, FAILS))
    with shop.server.connect() as connection:
        connection.execute(f"ALTER ROLE {creator} CREATEROLE".encode())
    try:
        failed = project.use(own, creator).inv("db.restore", "--into=copy", "--create-roles", "--file=bad.sql")
    finally:
        with shop.server.connect() as connection:
            connection.execute(f"ALTER ROLE {creator} NOCREATEROLE".encode())

    assert (failed.returncode, roles(shop.server)) == (5, set()), failed.stderr


class _Administrator(Said):
    """Creates a role after the plan has found that it is missing."""

    server: Server | None = None
    created: bool = False

    def step(self, text: str) -> None:
        """Create it."""
        super().step(text)
        if self.server is not None and ROLES[0] in text:
            with self.server.connect() as connection:
                connection.execute(f"CREATE ROLE {ROLES[0]}".encode())
            self.created = True


@pytest.mark.usefixtures("_no_roles")
def test_a_role_that_somebody_else_created_is_not_dropped(shop: Database, project: Project) -> None:
    """It was missing when the restore was planned."""
    write(project, "good.sql", dump_of(*OF_ROLES))
    request = RestoreRequest("good.sql", trust=True, create_roles=True)
    plan, report = plan_restore_into(settings_of(project, shop), request, "copy", Silence()), _Administrator()
    report.server = shop.server

    with pytest.raises(TaskError):
        restore_into_new(plan, report)

    assert report.created
    assert roles(shop.server) == {ROLES[0]}
    assert "copy" not in databases(shop.server)


# Migrations


@pytest.mark.parametrize("flag", ["--into", "--create"])
def test_migrations_run_in_the_new_database(
    journal: Project, migrated_journal: Database, server: Server, flag: str
) -> None:
    """With the real Prisma; verify compares with what they left. If one fails, the database does not exist."""
    database = migrated_journal
    assert journal.inv("db.dump").returncode == 0
    name = f"{database.name}_new"
    into: tuple[str, ...] = (f"--into={name}",)
    if flag == "--create":
        into = ("--create", *journal.into(database)[:1])
        journal.use(Database(server, name))
    migration(journal, "20270101000000_more", "CREATE TABLE more (id int);")

    restored = document(journal, *into, "--migrate")
    new = Database(server, name)
    count = database.scalar(COUNT)
    verified = journal.inv("db.verify", env={"DATABASE_URL": new.url})
    assert (restored["migrated"], restored["created"]) == (True, True)
    assert new.scalar(COUNT) == count + 1
    assert verified.returncode == 0, verified.stdout
    with server.connect() as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())

    migration(journal, "20270102000000_broken", "SELECT * FROM nowhere;")
    failed = journal.inv("db.restore", *into, "--migrate")

    assert failed.returncode == 5, failed.stderr
    assert name not in databases(server)
    assert database.scalar(COUNT) == count


# --create


@pytest.mark.majors(14, 18)
def test_create_makes_the_missing_database(absent: Database, project: Project) -> None:
    """Of its newest dump, without a question; then it exists and is not empty."""
    restored = document(project, "--create")
    again = project.inv("db.restore", "--create")
    verified = project.inv("db.verify")
    replaced = document(project, "--create", "--clean", "--yes")

    assert (restored["created"], restored["verified"], restored["rows"]) == (True, True, replaced["rows"])
    assert absent.execute(STATE) == [(True, True, None)]
    assert verified.returncode == 0, verified.stdout
    assert again.returncode == 2
    assert "--clean" in again.stderr
    assert replaced["created"] is False


def test_create_fills_an_empty_database(shop: Database, project: Project, new_database: Databases) -> None:
    """It is an ordinary restore."""
    project.use(new_database())

    restored = document(project, "--create", *project.into(shop)[:1])

    assert (restored["created"], restored["verified"]) == (False, True)


@pytest.mark.majors(14, 18)
def test_create_works_for_a_plain_role(shop: Database, project: Project, creator: str, server: Server) -> None:
    """That may create databases; the dump of another database loses its owners' missing rights as ever."""
    project.use(Database(server, "fresh"), creator)

    restored = document(project, "--create", "--no-owner", *project.into(shop)[:1])

    assert restored["created"] is True
    assert Database(server, "fresh").execute(STATE) == [(True, True, None)]


def test_create_is_guarded(absent: Database, project: Project) -> None:
    """A protected name is refused, also before the database exists; other failures of a login are not hidden."""
    protected = project.inv("db.restore", "--create", env={"INVOKE_DB_PROTECTED": absent.name})
    url = absent.url_as("nobody_here")
    unknown = project.inv("db.restore", "--create", env={"DATABASE_URL": url})
    dry = project.inv("--dry", "db.restore", "--create")
    with_table = project.inv("db.restore", "--create", "--table=item")

    assert (protected.returncode, unknown.returncode, dry.returncode, with_table.returncode) == (7, 4, 0, 2)
    assert absent.name not in databases(absent.server)
    assert absent.name in dry.stderr
