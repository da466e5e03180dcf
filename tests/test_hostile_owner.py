"""What the owner of a database may prepare for a superuser who looks at it: each kind by itself, and never called."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from tasks.doctor.doctor import examine
from tasks.dump.dump import make_dump
from tasks.dump.request import DumpRequest
from tasks.inventory.snapshot import read_history
from tasks.postgres import connection
from tasks.postgres.connection import connected, one, startup_options
from tasks.postgres.databases import create_database
from tasks.postgres.tables import count_tables, read_tables
from tasks.prisma.forecast import read_histories
from tasks.progress import Silence
from tasks.verify.verify import VerifyRequest, verify_database
from tests import hostile_database
from tests.flows import settings_of
from tests.forwarding import Forwarder
from tests.servers import OWNER, PASSWORD, SUPERUSER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hostile_database import Hostile
    from tests.support import Database, Databases, Project

pytestmark = pytest.mark.majors(15, 18)

OPERATOR = (
    "CREATE OPERATOR evil.= (FUNCTION = evil.equal, LEFTARG = {0}, RIGHTARG = {1})",
    "GRANT ALL ON SCHEMA evil TO PUBLIC",
)
PATH = "ALTER DATABASE {} SET search_path = evil, pg_catalog"


@pytest.fixture
def hostile(new_database: Databases) -> Hostile:
    """Return a database of the owner with what traps are made of."""
    return hostile_database.begin(new_database(owner=OWNER))


def looked_at(hostile: Hostile, project: Project) -> list[str]:
    """Look at the database as superuser in every way that only reads, and return what was called meanwhile."""
    settings, report = settings_of(project, hostile.database), Silence()
    offset = hostile.database.server.log.stat().st_size
    make_dump(settings, DumpRequest(checksums=True), report)
    examine(settings, report)
    read_histories(settings, "", report)
    verify_database(settings, VerifyRequest(), report)
    return hostile.heard(offset)


def called_directly(hostile: Hostile, query: str) -> bool:
    """Tell whether the trap works: a superuser's careless query falls into it."""
    offset = hostile.database.server.log.stat().st_size
    with hostile.database.connect() as connection:
        connection.execute(query.encode())
    return bool(hostile.heard(offset))


@pytest.mark.parametrize("types", [("name", "text"), ("name", "name"), ("text", "text"), ("oid", "oid")], ids="-".join)
def test_operator_in_a_search_path_of_the_owner_is_not_called(
    types: tuple[str, str], hostile: Hostile, project: Project
) -> None:
    """Neither before we set ours, nor after."""
    left, right = types
    assert hostile.run(
        hostile.function("equal", f"a {left}, b {right}", "boolean", "true"),
        *(statement.format(left, right) for statement in OPERATOR),
        PATH.format(hostile.database.name),
    )

    assert looked_at(hostile, project) == []
    assert called_directly(hostile, f"SELECT '1'::{left} = '1'::{right}")


@pytest.mark.parametrize("form", hostile_database.histories())
def test_history_in_an_odd_form_calls_nothing(form: str, hostile: Hostile, project: Project) -> None:
    """A `_prisma_migrations` that is no plain table of Prisma's types is no history; another is read by COPY."""
    assert hostile.run(*hostile_database.histories()[form])

    called = looked_at(hostile, project)
    with connected(settings_of(project, hostile.database).target()) as connection:
        history = read_history(connection, "public")

    assert called == []
    assert (history is not None) == (form in {"index", "statistics", "row security", "children", "rule", "generated"})


TRAPS = {
    "predicate of an index": ("CREATE INDEX ON evil.t (n) WHERE evil.called('p') = 1", "SELECT count(*) FROM evil.t"),
    "expression of an index": ("CREATE INDEX ON evil.t ((n + evil.called('e')))", "SELECT count(*) FROM evil.t"),
    "statistics": ("CREATE STATISTICS evil.s ON n, (n + evil.called('s')) FROM evil.t", "SELECT max(n) FROM evil.t"),
    "check": (
        "ALTER TABLE evil.t ADD CHECK (evil.called('c') = 1)",
        "SET constraint_exclusion = on; SELECT FROM evil.t WHERE ctid > '(0,0)'",
    ),
    "cast": ("ALTER TABLE evil.t ADD COLUMN m evil.mood DEFAULT 'sad'", "SELECT m::text FROM evil.t"),
    "view": ("CREATE VIEW evil.v AS SELECT evil.called('v')", "SELECT FROM evil.v WHERE called = 1"),
}


@pytest.mark.parametrize(("trap", "careless"), TRAPS.values(), ids=TRAPS.keys())
def test_table_that_runs_code_when_a_query_is_planned_is_read_without(
    trap: str, careless: str, hostile: Hostile, project: Project
) -> None:
    """Rows are counted, sequences compared, and nothing of the owner's is called."""
    assert hostile.run(
        "CREATE TABLE evil.t (id serial, n integer DEFAULT 1)", "INSERT INTO evil.t (n) VALUES (1), (2), (3)", trap
    )

    called = looked_at(hostile, project)
    with connected(settings_of(project, hostile.database).target()) as connection:
        counted = {table.name: rows for table, rows in count_tables(connection, read_tables(connection))}

    assert called == []
    assert counted["t"] == 3
    assert called_directly(hostile, careless)


def test_sequence_that_lags_is_found_without_planning(hostile: Hostile, project: Project) -> None:
    """In a partition, too, of which the key is an expression."""
    hostile.run(
        "CREATE SEQUENCE evil.s",
        "CREATE TABLE evil.p (id bigint DEFAULT nextval('evil.s')) PARTITION BY RANGE ((id + evil.called('key')))",
        "CREATE TABLE evil.p1 PARTITION OF evil.p FOR VALUES FROM (0) TO (90)",
        "INSERT INTO evil.p VALUES (41)",
    )
    settings = settings_of(project, hostile.database)
    offset = hostile.database.server.log.stat().st_size

    found = verify_database(settings, VerifyRequest(), Silence())

    assert hostile.heard(offset) == []
    assert [each.what for each in found.health.problems if "is 41" in each.what] != []


# Databases of our own making


def entries(database: Database, name: str, over: threading.Event) -> Iterator[str]:
    """Try to enter a database as a guest, again and again."""
    while not over.is_set():
        try:
            psycopg.connect(database.server.url(name, OWNER, PASSWORD), connect_timeout=5).close()
            yield "entered"
        except psycopg.OperationalError as error:
            yield str(error)


def test_scratch_database_is_closed_to_others_from_its_first_moment(database: Database, project: Project) -> None:
    """Somebody who knows its name and tries all the time never gets in."""
    name, over, said = "closed_to_guests", threading.Event(), list[str]()
    thread = threading.Thread(target=lambda: said.extend(entries(database, name, over)))
    thread.start()
    try:
        with connected(settings_of(project, database).target()) as connection:
            for _ in range(3):
                create_database(connection, name)
                privileges = connection.execute(
                    "SELECT has_database_privilege(%s, oid, 'CONNECT, TEMP, CREATE'), datallowconn"
                    " FROM pg_database WHERE datname = %s",
                    [OWNER, name],
                ).fetchall()
                assert privileges == [(False, True)]
                seen, deadline = len(said), time.monotonic() + 10
                while len(said) < seen + 2 and time.monotonic() < deadline:
                    time.sleep(0.01)
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    finally:
        over.set()
        thread.join()

    assert "entered" not in said
    # It was there to be entered.
    assert any("not currently accepting" in each or "permission denied" in each for each in said)


# Poolers


class Refusing(Forwarder):
    """A pooler that refuses start-up options, as PgBouncer does."""

    refused = 0

    def admits(self, near: socket.socket) -> bool:
        """Look at the first message of a connection."""
        near.settimeout(10)
        first = near.recv(4096, socket.MSG_PEEK)
        if b"options\0" not in first:
            return True
        self.refused += 1
        fields = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
        near.sendall(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
        return False


def test_pooler_that_refuses_options_is_entered_without(database: Database, project: Project) -> None:
    """The first statement then empties the search_path, and pg_dump gets no options either."""
    with Refusing(lambda _: database.server.port) as pooler:
        url = database.url.replace(f":{database.server.port}/", f":{pooler.port}/")
        settings = settings_of(project, database, environ={"DATABASE_URL": f"{url}?sslmode=disable"})
        with connected(settings.target()) as connection:
            path = one(connection, "SELECT pg_catalog.current_setting('search_path')")[0]
            options = startup_options(connection)

    assert (path, options, pooler.refused) == ("", None, 1)


@pytest.mark.parametrize("given", ["", "?options=-c%20search_path%3Devil%20-c%20work_mem%3D5MB"])
def test_start_up_option_empties_the_search_path_behind_those_of_the_url(
    given: str, hostile: Hostile, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any statement, whatever role and database set."""
    hostile.run(PATH.format(hostile.database.name))
    monkeypatch.setattr(connection, "_prepare", lambda *_, **__: None)
    environ = {"DATABASE_URL": f"{hostile.database.url}{given}"}
    target = settings_of(project, hostile.database, environ=environ).target()

    with connected(target) as opened:
        path = one(opened, "SELECT pg_catalog.current_setting('search_path')")[0]
        memory = one(opened, "SELECT pg_catalog.current_setting('work_mem')")[0]

    assert path == ""
    assert memory == ("5MB" if given else "4MB")


ROLE = """
CREATE SCHEMA g;
CREATE FUNCTION g.f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN
  BEGIN PERFORM pg_catalog.set_config('role', 'none', false); EXCEPTION WHEN OTHERS THEN NULL; END;
  RAISE WARNING 'called as %, %', current_user, current_setting('is_superuser');
  RETURN $1;
END $f$;
CREATE TABLE g.t (a int);
INSERT INTO g.t VALUES (1);
CREATE INDEX i ON g.t (g.f(a)) WHERE g.f(1) = 1;
CREATE STATISTICS g.s ON (g.f(a)), a FROM g.t;
"""
ROLE_TASKS = {
    "doctor": ["db.doctor"],
    "dump": ["db.dump", "--checksums", "--file=d.sql"],
    "verify": ["db.verify", "--checksums", "--file=d.sql"],
    "migrations": ["db.migrations"],
    "restore": ["db.restore", "--clean", "--yes", "--file=d.sql"],
    "undo": ["db.undo", "--yes"],
    "rehearse": ["db.rehearse", "--file=d.sql"],
}


@pytest.mark.majors(14, 15, 18)
@pytest.mark.parametrize("way", ["database", "role in database", "membership"])
def test_role_that_the_owner_gives_a_superuser_is_not_taken(
    way: str, new_database: Databases, project: Project
) -> None:
    """No task calls the owner's functions, and loading the owner's objects is asked about."""
    database = new_database(owner=OWNER)
    database.execute(ROLE, role=OWNER)
    project.use(database).env.pop("INVOKE_DB_TRUST")
    if way == "database":
        database.execute(f"ALTER DATABASE {database.name} SET role = '{OWNER}'", role=OWNER)
    elif way == "role in database":
        database.execute(f"ALTER ROLE {SUPERUSER} IN DATABASE {database.name} SET role = '{OWNER}'")
    elif database.server.major < 15:
        database.execute(f"GRANT {OWNER} TO {SUPERUSER}", role=OWNER)
    else:
        database.execute(f"GRANT {OWNER} TO {SUPERUSER}")
    offset = database.server.log.stat().st_size

    try:
        results = {name: project.inv(*words) for name, words in ROLE_TASKS.items()}
        heard = database.server.log.read_bytes()[offset:]
    finally:
        with database.connect(options="-c role=none") as connection:
            connection.execute(f"REVOKE {OWNER} FROM {SUPERUSER}".encode())
            connection.execute(f"ALTER ROLE {SUPERUSER} IN DATABASE {database.name} RESET role".encode())

    assert b"called as" not in heard, heard.decode()[-2000:]
    assert results["dump"].returncode == 0, results["dump"].stderr
    assert [results[name].returncode for name in ("restore", "rehearse")] == [2, 2], results["restore"].stderr
    owners = json.loads((project.dumps / "d.manifest.json").read_bytes())["facts"]["owners"]
    assert owners.get(OWNER) is False
    if way != "membership":
        assert "RESET role" in results["doctor"].stdout + results["doctor"].stderr


@pytest.mark.majors(14)
def test_table_of_a_role_that_granted_itself_is_not_planned(new_database: Databases, project: Project) -> None:
    """Before PostgreSQL 15 any role can make any other its member."""
    database = new_database(owner=OWNER)
    database.execute(ROLE, role=OWNER)
    database.execute(f"CREATE ROLE met LOGIN PASSWORD '{PASSWORD}'")
    try:
        database.execute(f"GRANT {OWNER} TO met", role=OWNER)
        project.use(database, "met")
        offset = database.server.log.stat().st_size
        results = [project.inv(*ROLE_TASKS[name]) for name in ("doctor", "dump", "verify")]
        heard = database.server.log.read_bytes()[offset:]
    finally:
        database.execute("DROP OWNED BY met; DROP ROLE met")

    assert b"called as" not in heard, heard.decode()[-2000:]
    assert results[1].returncode == 0, results[1].stderr


def test_role_that_the_url_names_is_kept(new_database: Databases, project: Project) -> None:
    """With `options=-c role=`, our sessions and pg_dump run as it, also behind the dump's own SET ROLE."""
    database = new_database(owner=OWNER)
    database.execute("CREATE TABLE public.t (a int)", role=OWNER)
    project.use(database).env["DATABASE_URL"] += f"?options=-c%20role%3D{OWNER}"
    with connected(settings_of(project, database).target()) as session:
        first = one(session, "SELECT current_user::text, session_user::text")
    project.write("dumps/d.sql", "CREATE TABLE public.mine (a int);\n\n-- PostgreSQL database dump complete\n")

    loaded = project.inv("db.restore", "--file=d.sql", "--trust", "--yes")
    dumped = project.inv("db.dump", "--file=own.sql")

    assert first[1] == SUPERUSER
    assert loaded.returncode == 0, loaded.stderr
    assert database.scalar("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'mine'") == OWNER
    assert dumped.returncode == 0, dumped.stderr
