"""What verify tells, and calls no difference: owners, grants, settings, versions, and what is there beside the dump."""

import json
from collections.abc import Callable

import pytest

from tasks.dump.dump import make_dump
from tasks.dump.request import DumpRequest
from tasks.dumpfiles.paths import read_manifest
from tasks.inventory.compare import compare_states, state_of_manifest
from tasks.inventory.objects import table_of
from tasks.inventory.snapshot import read_state
from tasks.progress import Silence
from tasks.restore.plan import plan_restore
from tasks.restore.request import RestoreRequest
from tasks.restore.restore import restore_dump
from tests.flows import settings_of
from tests.servers import OWNER, Server
from tests.support import Database, Databases, Project

SHOP = """
CREATE SCHEMA shop;
CREATE TYPE shop.mood AS ENUM ('sad', 'glad');
CREATE TABLE shop.people (id int PRIMARY KEY, email text, mood shop.mood) WITH (fillfactor = 90);
INSERT INTO shop.people VALUES (1, 'a@example.com', 'glad');
CREATE FUNCTION shop.twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
GRANT SELECT ON shop.people TO pg_monitor;
GRANT USAGE ON SCHEMA shop TO pg_monitor;
"""

TOLD = {
    "another owner": (f"ALTER TABLE shop.people OWNER TO {OWNER}", "owner", "shop.people"),
    "another owner of a schema": (f"ALTER SCHEMA shop OWNER TO {OWNER}", "owner", "schema shop"),
    "another owner of a type": (f"ALTER TYPE shop.mood OWNER TO {OWNER}", "owner", "shop.mood"),
    "a grant more": (f"GRANT INSERT ON shop.people TO {OWNER}", "grants", "shop.people"),
    "a grant less": ("REVOKE SELECT ON shop.people FROM pg_monitor", "grants", "shop.people"),
    "a grant of a column": (f"GRANT SELECT (email) ON shop.people TO {OWNER}", "grants", "shop.people.email"),
    "a grant to all": ("GRANT USAGE ON SCHEMA shop TO PUBLIC", "grants", "schema shop"),
    "a function closed to all": ("REVOKE ALL ON FUNCTION shop.twice FROM PUBLIC", "grants", "shop.twice(integer)"),
    "a type closed to all": ("REVOKE ALL ON TYPE shop.mood FROM PUBLIC", "grants", "shop.mood"),
    "a table's setting": ("ALTER TABLE shop.people SET (fillfactor = 70)", "settings", "shop.people"),
    "a setting of the database": ("ALTER DATABASE {} SET work_mem = '8MB'", "settings", "the database"),
    "a role's own in it": (
        f"ALTER ROLE {OWNER} IN DATABASE {{}} SET work_mem = '8MB'",
        "settings",
        f"the database for {OWNER}",
    ),
    "a table more": ("CREATE TABLE shop.later (id int)", "table", "shop.later"),
    "a function more": ("CREATE FUNCTION shop.later() RETURNS int RETURN 1", "function", "shop.later()"),
}


@pytest.fixture
def restored(new_database: Databases, project: Project) -> Database:
    """Return a database into which a dump was just restored, without --clean."""
    source, database = new_database(), new_database()
    source.execute(SHOP)
    dumped = make_dump(settings_of(project, source), DumpRequest(), Silence())
    assert dumped is not None
    settings = settings_of(project.use(database), database)
    restore_dump(plan_restore(settings, RestoreRequest(str(dumped.path)), Silence()), Silence())
    return database


def test_what_may_differ_is_told(restored: Database, project: Project) -> None:
    """One line of its kind, that is no difference; before there was none."""
    dump = read_manifest(next(project.dumps.glob("*.sql")))
    assert dump is not None
    expected = state_of_manifest(dump)
    found = {}

    with restored.connect(autocommit=False) as connection:
        connection.execute("SAVEPOINT before")
        for what, (statement, _, _) in {"nothing": ("SELECT 1", "", ""), **TOLD}.items():
            connection.execute(statement.format(restored.name).encode())
            found[what] = compare_states(expected, read_state(connection))
            connection.execute("ROLLBACK TO before")

    assert found.pop("nothing") == []
    assert {what: [(line.kind, line.name, line.fatal) for line in lines] for what, lines in found.items()} == {
        what: [(kind, name, False)] for what, (_, kind, name) in TOLD.items()
    }


def test_what_is_told_ends_in_0(restored: Database, project: Project) -> None:
    """Many of a kind are one line, and all agrees."""
    for number in range(5):
        restored.execute(f"CREATE FUNCTION shop.later_{number}() RETURNS int RETURN 1")
    restored.execute(f"ALTER TABLE shop.people OWNER TO {OWNER}")

    result = project.inv("db.verify")

    assert result.returncode == 0
    some = "shop.later_0(), shop.later_1(), shop.later_2() and 2 more"
    assert f"Note: function {some}: not in the dump" in result.stdout
    assert "Note: the owner of shop.people is not that of the dump" in result.stdout
    assert "definitions agree (2 notes)." in result.stdout
    functions, owner = json.loads(project.inv("db.verify", "--json").stdout)["notes"]
    assert functions["names"] == [f"shop.later_{number}()" for number in range(5)]
    assert owner["names"] == ["shop.people"]


def test_the_servers_version_is_told(project: Project, server_of: Callable[[int], Server]) -> None:
    """A dump of another major; grants, of which each major has its own by default, are not compared then."""
    with Databases(server_of(14)) as old, Databases(server_of(17)) as new:
        source, database = old(), new()
        for each in (source, database):
            each.execute(SHOP)
        make_dump(settings_of(project.use(source), source), DumpRequest(), Silence())

        result = project.use(database).inv("db.verify", f"--file={next(project.dumps.glob('*.sql')).name}")

    assert result.returncode == 0
    assert "server version: expected PostgreSQL 14, found PostgreSQL 17" in result.stdout
    assert "grants" not in result.stdout


def test_a_restore_tells_what_stays_otherwise(new_database: Databases, project: Project) -> None:
    """The schema is not dropped, and so keeps its grants; the restore is done, and says so."""
    database = new_database()
    database.execute(SHOP)
    assert project.use(database).inv("db.dump").returncode == 0
    database.execute(f"GRANT CREATE ON SCHEMA shop TO {OWNER}; ALTER DATABASE {database.name} SET work_mem = '8MB'")

    result = project.inv("db.restore", "--clean", "--yes")

    assert result.returncode == 0
    assert "the grants on schema shop are not those of the dump" in result.stderr
    assert "the settings of the database are not those of the dump" in result.stderr
    verified = project.inv("db.verify").stdout
    assert "Note: the grants on schema shop are not those of the dump" in verified
    assert "Note: the settings of the database are not those of the dump" in verified


def test_grants_on_what_the_dump_does_not_have_are_not_told(new_database: Databases, project: Project) -> None:
    """A restore without --clean keeps another table with its grants; the record has both."""
    source, database = new_database(), new_database()
    source.execute(SHOP)
    database.execute(
        f"CREATE TABLE own (i int, j int); GRANT SELECT ON own TO {OWNER}; GRANT SELECT (i) ON own TO {OWNER}"
    )
    assert project.use(source).inv("db.dump").returncode == 0
    assert project.use(database).inv("db.restore", "--yes", *project.into(database)).returncode == 0

    assert "the grants on" not in project.inv("db.verify").stdout


def test_grants_of_what_is_lost_are_not_told(restored: Database, project: Project) -> None:
    """A table with its columns, and a schema, are named for themselves."""
    restored.execute(
        f'CREATE SCHEMA "od.d"; GRANT USAGE ON SCHEMA "od.d" TO {OWNER}; CREATE TABLE "od.d"."t.t" (i int, j int);'
        f'GRANT SELECT (i) ON "od.d"."t.t" TO {OWNER}; GRANT SELECT ON "od.d"."t.t" TO {OWNER}'
    )
    assert project.inv("db.dump", "--file=more.sql").returncode == 0
    restored.execute('DROP SCHEMA "od.d" CASCADE')

    result = project.inv("db.verify", "--file=more.sql")

    assert result.returncode == 6
    assert 'schema "od.d": missing' in result.stdout
    assert "grants" not in result.stdout


@pytest.mark.parametrize(
    ("name", "table"),
    [("public.t.c", "public.t"), ('"a.b"."c.d"."e""."', '"a.b"."c.d"'), ("public.f(integer)", "public"), ("x", "")],
)
def test_a_columns_table_is_told(name: str, table: str) -> None:
    """Whatever dots and quotes are in the names."""
    assert table_of(name) == table
