"""The guard keeps people from destroying the wrong database: by where a connection leads, not how it is spelled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tasks.errors import GuardError
from tasks.postgres.connection import Endpoint, connected, read_endpoint, server_facts
from tasks.safety.guard import nonlocal_reason, require_confirmation
from tests.flows import elsewhere, settings_of
from tests.marks import Mark
from tests.servers import OWNER
from tests.support import Database, Databases, Project, blocking
from tests.terminals import at_a_terminal

HERE = Endpoint("localhost", "127.0.0.1", "127.0.0.1", "7", "shop", 5432)


@pytest.fixture
def tunnelled(shop: Database, project: Project) -> Database:
    """Return a database on loopback that a manifest knows at another host, with a dump of it."""
    assert project.use(shop).inv("db.dump").returncode == 0
    elsewhere(project)
    return shop


# Where a connection leads


@pytest.mark.parametrize(
    ("changes", "local", "expected"),
    [
        ({}, (), ""),
        ({"address": "::1", "server": "::1"}, (), ""),
        ({"host": "127.0.0.53", "address": "127.0.0.53", "server": "127.0.0.53"}, (), ""),
        ({"host": "/run/postgresql", "address": "", "server": ""}, (), ""),
        ({"host": "@abstract", "address": "", "server": ""}, (), ""),
        (
            {"host": "db.example.com", "address": "203.0.113.9", "server": "10.0.0.9"},
            (),
            "the server is at 203.0.113.9",
        ),
        ({"host": "localhost", "address": "203.0.113.9"}, (), "the server is at 203.0.113.9"),
        ({"host": "db", "address": "172.18.0.2", "server": "172.18.0.2"}, (), "the server is at 172.18.0.2"),
        ({"server": "172.17.0.2"}, (), "the server reports the address 172.17.0.2"),
        ({"server": "fe80::1%eth0"}, (), "the server reports the address fe80::1%eth0"),
        ({"address": "", "server": ""}, (), "the server is at localhost"),
        ({"server": "172.17.0.2"}, ("172.17.*",), ""),
        ({"host": "DB", "address": "172.18.0.2", "server": "172.18.0.2"}, ("db",), ""),
        ({"host": "db", "address": "172.18.0.2", "server": "172.18.0.2"}, ("other", "7"), ""),
        ({"host": "db.example.com", "address": "203.0.113.9"}, ("",), "the server is at 203.0.113.9"),
    ],
)
def test_a_place_is_local_by_both_ends_of_the_connection(
    project: Project, database: Database, changes: dict[str, Any], local: tuple[str, ...], expected: str
) -> None:
    """Loopback is local only if the server sits on loopback, too; `db.local` lists what is local all the same."""
    found = nonlocal_reason(settings_of(project, database, local=local), replace(HERE, **changes))

    assert (expected in found) if expected else (found == "")


@pytest.mark.parametrize(
    ("confirm", "typed", "reason", "allowed"),
    [
        ("", None, "", True),
        ("shop", None, "", True),
        ("shop", None, "far", True),
        ("other", None, "far", False),
        ("other", None, "", False),
        ("", None, "far", False),
        ("", "shop\n", "far", True),
        ("", "  shop ", "far", True),
        ("", "Shop\n", "far", False),
        ("", "\n", "far", False),
        ("", "", "far", False),
        ("", "yes\n", "far", False),
    ],
)
def test_only_its_name_lets_a_far_database_be_destroyed(
    confirm: str, typed: str | None, reason: str, *, allowed: bool
) -> None:
    """Given or typed, it must be the name that the server gives the database; without a terminal it must be given."""
    if allowed:
        require_confirmation("shop at db", HERE, reason, confirm, typed)
    else:
        with pytest.raises(GuardError):
            require_confirmation("shop at db", HERE, reason, confirm, typed)


def test_the_place_is_what_libpq_connected_to(database: Database, project: Project) -> None:
    """`?host=` and a socket go before the URL's own host, and the server's number is asked for."""
    plain = settings_of(project, database)
    url = f"{database.url_as('postgres')}?host={database.server.socket_dir}"
    socket = settings_of(project, database, environ={"DATABASE_URL": url})

    places = []
    for settings in (plain, socket):
        with connected(settings.target()) as connection:
            places.append(read_endpoint(connection, server_facts(connection)))

    assert (places[0].host, places[0].address, places[0].server) == ("127.0.0.1", "127.0.0.1", "127.0.0.1")
    assert (places[1].host, places[1].address, places[1].server) == (str(database.server.socket_dir), "", "")
    assert places[0].identifier == places[1].identifier != ""
    assert [nonlocal_reason(plain, each) for each in places] == ["", ""]


# What it keeps from being destroyed


@pytest.mark.parametrize("words", [["db.restore", "--clean"], ["db.restore"], ["db.reset"], ["db.undo"]], ids=" ".join)
def test_a_far_database_is_not_destroyed_without_its_name(
    tunnelled: Database, project: Project, words: list[str]
) -> None:
    """A tunnel to a server that a manifest knows elsewhere: 7, with --yes too; the name lets it pass."""
    schemas = ["--schema=app", "--schema=public"]
    assert project.inv("db.reset", "--yes", f"--confirm={tunnelled.name}", *schemas).returncode == 0
    # A plain restore destroys only what has the name of something in the dump.
    tunnelled.execute('CREATE TABLE public."Later" AS SELECT 1 AS one; CREATE TABLE public."User" AS SELECT 1 AS one')
    before = tunnelled.dump_text()

    refused = project.inv(*words, "--yes")
    mistaken = project.inv(*words, "--yes", "--confirm=postgres")
    untouched = tunnelled.dump_text()
    listed = project.inv("--dry", *words, "--yes", env={"INVOKE_DB_LOCAL": "127.0.0.1"})
    passed = project.inv(*words, "--yes", f"--confirm={tunnelled.name}")

    assert refused.returncode == 7
    assert "db.example.com" in refused.stderr
    assert f"--confirm={tunnelled.name}" in refused.stderr
    assert mistaken.returncode == 7
    assert untouched == before
    assert listed.returncode == 0
    assert "not a local database" not in listed.stderr
    assert passed.returncode == 0, passed.stderr
    assert tunnelled.dump_text() != before


@pytest.mark.usefixtures("tunnelled")
def test_nobody_is_asked_where_standard_input_is_closed(project: Project) -> None:
    """As where it is no terminal."""
    result = project.inv("db.reset", "--no-backup", "--schema=app", "--schema=public", redirected="<&-")

    assert result.returncode == 7
    assert "db.example.com" in result.stderr


@pytest.mark.usefixtures("tunnelled")
def test_an_empty_far_database_may_be_filled(new_database: Databases, project: Project) -> None:
    """A restore that takes nothing away needs no name."""
    empty = new_database()
    project.use(empty)

    assert project.inv("db.restore", *project.into(empty)[:1]).returncode == 0


@pytest.mark.parametrize("pattern", ["127.0.0.*", "test_*", "{identifier}"])
@pytest.mark.parametrize("words", [["db.restore", "--clean"], ["db.reset"], ["db.undo"]], ids=lambda words: words[0])
def test_a_protected_database_is_never_destroyed(
    shop: Database, project: Project, pattern: str, words: list[str]
) -> None:
    """By host, database or the cluster's own number, and whatever is confirmed."""
    assert project.use(shop).inv("db.dump").returncode == 0
    mark = Mark(shop)
    identifier = shop.scalar("SELECT system_identifier::text FROM pg_control_system()")
    env = {"INVOKE_DB_PROTECTED": pattern.format(identifier=identifier)}

    result = project.inv(*words, "--yes", f"--confirm={shop.name}", env=env)

    assert result.returncode == 7
    assert "is protected" in result.stderr
    assert mark.is_untouched()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "socket"])
def test_protected_localhost_protects_this_machine_however_it_is_written(
    host: str, database: Database, project: Project
) -> None:
    """Its loopback addresses and its sockets, too."""
    project.use(database).env["INVOKE_DB_PROTECTED"] = "localhost"
    written = project.env["DATABASE_URL"]
    server = database.server
    if host == "socket":
        written = f"postgresql://postgres@localhost:{server.port}/{database.name}?host={server.socket_dir}"
    project.env["DATABASE_URL"] = written if host == "socket" else written.replace("@127.0.0.1", f"@{host}")

    refused = project.inv("db.reset", "--yes")

    assert refused.returncode == 7, refused.stderr
    assert "is protected" in refused.stderr


def test_a_dump_of_another_database_is_told(shop: Database, new_database: Databases, project: Project) -> None:
    """The warning of a clean restore says so; of the dump's own database it says nothing."""
    assert project.use(shop).inv("db.dump").returncode == 0
    other = new_database()
    other.execute("CREATE TABLE public.old (a int)")

    own = project.inv("db.restore", "--clean", "--yes")
    another = project.use(other).inv("db.restore", "--clean", "--yes", *project.into(other))

    assert (own.returncode, another.returncode) == (0, 0)
    assert "another database" not in own.stderr
    assert shop.name in another.stderr


@pytest.mark.parametrize("right", [True, False])
def test_the_name_can_be_typed_in_a_terminal(tunnelled: Database, project: Project, *, right: bool) -> None:
    """It is asked for once; another answer touches nothing."""
    before = tunnelled.dump_text()
    answer = tunnelled.name if right else "yes"

    code, said = at_a_terminal(
        project, "db.reset", "--schema=app", "--schema=public", answers={"Type the name": answer}
    )

    assert code == (0 if right else 7)
    assert "not a local database" in said
    assert (tunnelled.dump_text() == before) == (not right)


# --disconnect


def test_other_sessions_can_be_ended(shop: Database, project: Project) -> None:
    """What they had not committed is rolled back, and the restore does not wait for them."""
    assert project.use(shop).inv("db.dump").returncode == 0
    project.env["INVOKE_DB_LOCK_TIMEOUT"] = "1s"
    with shop.connect(autocommit=False) as other:
        other.execute("UPDATE app.item SET name = 'busy'")

        waited = project.inv("db.restore", "--clean", "--yes")
        ended = project.inv("db.restore", "--clean", "--yes", "--disconnect")

        with pytest.raises(psycopg.OperationalError):
            other.execute("SELECT 1")

    assert waited.returncode == 4
    assert ended.returncode == 0, ended.stderr
    assert "1 other session of" in ended.stderr
    assert shop.scalar("SELECT count(*) FROM app.item WHERE name = 'busy'") == 0


def test_a_session_that_may_not_be_ended_is_named(new_database: Databases, project: Project) -> None:
    """A plain owner may not end a superuser's session: if it holds a lock, nothing is touched."""
    database = new_database(owner=OWNER)
    database.execute("CREATE TABLE t AS SELECT 1 AS one", OWNER)
    project.use(database, OWNER)

    with blocking(database, "SELECT count(*) FROM t") as other:
        result = project.inv("db.reset", "--yes", "--disconnect", env={"INVOKE_DB_LOCK_TIMEOUT": "500ms"})
        pid = other.info.backend_pid

    assert result.returncode == 4
    assert f"pid {pid}" in result.stderr
    assert database.scalar("SELECT count(*) FROM t") == 1


def test_a_reset_can_end_other_sessions(shop: Database, project: Project) -> None:
    """The flag is the same."""
    project.use(shop)
    with shop.connect(autocommit=False) as other:
        other.execute("LOCK TABLE app.item")

        result = project.inv("db.reset", "--yes", "--schema=app", "--schema=public", "--disconnect")

        with pytest.raises(psycopg.OperationalError):
            other.execute("SELECT 1")
    assert result.returncode == 0, result.stderr
    assert shop.scalar("SELECT to_regclass('app.item') IS NULL")
