"""Two live databases side by side, without any dump."""

import json
import re
import subprocess
from collections.abc import Callable

import pytest

from tasks.inventory.compare import compare_states
from tasks.inventory.snapshot import DatabaseState
from tasks.progress import Silence
from tasks.verify.verify import Verified, VerifyRequest, verify_database
from tests.flows import settings_of
from tests.schemas import SHOP
from tests.servers import OWNER, Server
from tests.support import Database, Databases, Project, eventually

OTHER = "--against-url-env=OTHER_URL"


@pytest.fixture
def pair(new_database: Databases, project: Project) -> tuple[Database, Database]:
    """Return two databases that hold the same; the project works with the first, `OTHER_URL` names the second."""
    one, other = new_database(), new_database()
    for each in (one, other):
        each.execute(SHOP)
    project.use(one)
    project.env["OTHER_URL"] = other.url
    return one, other


@pytest.mark.parametrize("options", [(), ("--checksums",)])
def test_two_equal_databases_agree(options: tuple[str, ...], pair: tuple[Database, Database], project: Project) -> None:
    """Exit 0, and the other one is named."""
    result = project.inv("db.verify", OTHER, *options)

    assert result.returncode == 0, result.stdout + result.stderr
    assert f"with {pair[1].name} at 127.0.0.1" in result.stdout
    assert ("definitions and values agree." if options else "definitions agree. Values were not") in result.stdout
    assert "app.item" in result.stdout


@pytest.mark.parametrize("option", ["", "?options=-c%20TimeZone%3DAsia/Tokyo%20-c%20DateStyle%3DGerman"])
def test_a_database_is_not_compared_with_itself(option: str, pair: tuple[Database, Database], project: Project) -> None:
    """It would agree, and say nothing; by whatever name it is reached."""
    itself = pair[0].url.replace("127.0.0.1", "localhost")

    result = project.inv("db.verify", OTHER, env={"OTHER_URL": itself + option})

    assert result.returncode == 2
    assert "OTHER_URL" in result.stderr
    assert result.stdout == ""


def test_what_the_other_lacks_is_said_of_the_other(pair: tuple[Database, Database], project: Project) -> None:
    """No dump is spoken of where there is none."""
    pair[0].execute("CREATE TABLE app.later (id int)")

    result = project.inv("db.verify", OTHER)

    assert result.returncode == 6
    assert re.search(r"app\.later +- +0 +not in the other database", result.stdout)
    assert "the dump" not in result.stdout
    tables = json.loads(project.inv("db.verify", OTHER, "--json").stdout)["tables"]
    assert {"name": "app.later", "expected": None, "found": 0, "same": False} in tables


def test_what_differs_is_said_of_the_other(pair: tuple[Database, Database], project: Project) -> None:
    """A definition is another one than there, and an extension is a note, whichever of the two has it."""
    pair[0].execute('ALTER TABLE public."User" ADD later int; CREATE EXTENSION citext')
    pair[1].execute("CREATE EXTENSION hstore")

    result = project.inv("db.verify", OTHER)

    assert result.returncode == 6
    assert 'table public."User": definition is not as in the other database: column "later" is integer' in result.stdout
    assert re.search(r"public\.User +120 +120 +another definition", result.stdout)
    assert re.search(r"Note: extension citext: version \d", result.stdout)
    assert re.search(r"Note: extension hstore: missing, expected \d", result.stdout)
    assert "the dump" not in result.stdout


def test_a_role_that_may_not_ask_when_the_server_started_compares(
    pair: tuple[Database, Database], project: Project
) -> None:
    """Then nobody knows whether both are one."""
    for each in pair:
        each.execute(
            "REVOKE EXECUTE ON FUNCTION pg_postmaster_start_time() FROM PUBLIC;"
            f"DROP SCHEMA public, app CASCADE; CREATE SCHEMA app AUTHORIZATION {OWNER}; SET ROLE {OWNER};"
            "CREATE TABLE app.item AS SELECT 1 AS i"
        )
    project.env |= {"DATABASE_URL": pair[0].url_as(OWNER), "OTHER_URL": pair[1].url_as(OWNER)}

    result = project.inv("db.verify", OTHER)

    assert result.returncode == 0, result.stderr
    assert "definitions agree. Values were not compared (use --checksums)." in result.stdout


DIFFERENT = {
    "a row less": ("DELETE FROM app.item WHERE id = 7", "app.item"),
    "a row more": ("INSERT INTO public.\"User\" VALUES (999, 'x')", "public.User"),
    "a table less": ("DROP TABLE app.item CASCADE", "app.item"),
    "a table more": ("CREATE TABLE app.later (id int)", "app.later"),
    "an index less": ('DROP INDEX public."User_email_key"', 'public."User_email_key"'),
    "another view": ("CREATE OR REPLACE VIEW app.tools AS SELECT * FROM app.item WHERE kind = 'fruit'", "app.tools"),
    "a label more": ("ALTER TYPE app.kind ADD VALUE 'toy'", "app.kind"),
    "a sequence further": ("SELECT nextval('app.item_id_seq')", "app.item_id_seq"),
}


def against(project: Project, one: Database, other: Database) -> Verified:
    """Compare in this process."""
    environ = {"DATABASE_URL": one.url, "OTHER_URL": other.url}
    settings = settings_of(project, one, environ=environ)
    return verify_database(settings, VerifyRequest(against="OTHER_URL"), Silence())


@pytest.mark.parametrize(("statement", "name"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_a_difference_is_named_whichever_of_the_two_has_it(
    statement: str, name: str, pair: tuple[Database, Database], project: Project
) -> None:
    """The comparison is the same from both sides."""
    pair[0].execute(statement)

    here, there = against(project, *pair), against(project, pair[1], pair[0])

    for verified in (here, there):
        assert name in [line.name for line in verified.differences]


def test_a_difference_ends_in_6(pair: tuple[Database, Database], project: Project) -> None:
    """For people and for programs, with the other one's name."""
    pair[0].execute("DELETE FROM app.item WHERE id = 7")

    result = project.inv("db.verify", OTHER, "--json")

    assert result.returncode == 6
    document = json.loads(result.stdout)
    assert document["same"] is False
    assert document["dump"] == f"{pair[1].name} at 127.0.0.1:{pair[1].server.port}"
    assert {"name": "app.item", "expected": 300, "found": 299, "same": False} in document["tables"]
    assert f"differs from {pair[1].name} at" in result.stderr


def test_a_changed_value_is_seen_with_checksums_alone(pair: tuple[Database, Database], project: Project) -> None:
    """As many rows as before: only the content tells."""
    pair[0].execute("UPDATE app.item SET name = name || ' ' WHERE id = 7")

    without = project.inv("db.verify", OTHER)
    summed = project.inv("db.verify", OTHER, "--checksums")

    assert [without.returncode, summed.returncode] == [0, 6]
    assert "app.item: values are not those of the other database" in summed.stdout
    assert re.search(r"app\.item +300 +300 +differs", summed.stdout)


@pytest.mark.usefixtures("pair")
def test_databases_of_two_majors_agree(project: Project, server_of: Callable[[int], Server]) -> None:
    """What a newer server only writes differently is no difference, checksums included."""
    with Databases(server_of(14)) as databases:
        older = databases()
        older.execute(SHOP)

        result = project.inv("db.verify", OTHER, "--checksums", env={"OTHER_URL": older.url})

    assert result.returncode == 0, result.stdout + result.stderr


def test_the_other_one_is_only_read(pair: tuple[Database, Database], project: Project) -> None:
    """Both dump as the same text afterwards, and nothing is remembered."""
    before = [each.dump_text() for each in pair]

    project.inv("db.verify", OTHER, "--checksums")

    assert [each.dump_text() for each in pair] == before
    assert list(project.dumps.iterdir()) == []


REFUSED = {
    "unreachable": ("postgresql://postgres:topsecret@127.0.0.1:1/shop", (), 4, "shop at 127.0.0.1:1"),
    "no such variable": (None, (), 2, "OTHER_URL is not set in the environment or in a file below"),
    "no URL": ("mysql://root@db/shop", (), 2, "is not a PostgreSQL URL"),
    "with a file": ("postgresql://127.0.0.1:1/shop", ("--file=x.sql",), 2, "--file and --against-url-env"),
}


@pytest.mark.parametrize(("url", "options", "code", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_can_not_be_compared_is_said(
    url: str | None, options: tuple[str, ...], code: int, said: str, database: Database, project: Project
) -> None:
    """Each with its own code, and without any secret."""
    result = project.use(database).inv("db.verify", OTHER, *options, env={"OTHER_URL": url})

    assert result.returncode == code
    assert said in result.stderr
    assert "topsecret" not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_a_table_that_the_role_can_not_read_is_said(pair: tuple[Database, Database], project: Project) -> None:
    """Of the other database, too; which one it was stands in the sentence."""
    result = project.inv("db.verify", OTHER, env={"OTHER_URL": pair[1].url_as(OWNER)})

    assert result.returncode == 5
    assert f"Reading {pair[1].name} at" in result.stderr
    assert "permission denied" in result.stderr


def test_a_standby_is_compared_with_its_primary(database: Database, project: Project) -> None:
    """What it has of a sequence is the log's, which runs ahead: no difference, in either direction."""
    database.execute(SHOP)
    standby = Server.follow(database.server)

    def run(statement: str, *urls: str) -> subprocess.CompletedProcess[str]:
        database.execute(statement)
        with database.connect() as connection, standby.connect(database.name) as following:
            (written,) = connection.execute("SELECT pg_current_wal_lsn()").fetchone() or ("",)
            reached = "SELECT pg_last_wal_replay_lsn() >= %s"
            eventually(lambda: following.execute(reached, [written]).fetchone() == (True,), "the standby has it")
        return project.inv("db.verify", OTHER, env=dict(zip(("DATABASE_URL", "OTHER_URL"), urls, strict=True)))

    project.use(database)
    try:
        urls = [database.url, standby.url(database.name)]
        there = run(
            "SELECT nextval('app.item_id_seq'); CREATE TABLE app.later (id int);"
            "CREATE SEQUENCE app.tens INCREMENT 10; SELECT nextval('app.tens') FROM generate_series(1, 2);"
            "CREATE SEQUENCE app.down INCREMENT -1; SELECT nextval('app.down') FROM generate_series(1, 2)",
            *urls,
        )
        back = run("SELECT 1", *reversed(urls))
    finally:
        standby.close()

    assert [there.returncode, back.returncode] == [0, 0], there.stdout + back.stdout
    assert there.stdout.count("Note: sequence") == back.stdout.count("Note: sequence") == 3
    assert "Note: sequence app.item_id_seq: expected 333, found 301 (" in there.stdout
    assert "Note: sequence app.item_id_seq: expected 301, found 333 (" in back.stdout


@pytest.mark.parametrize(
    ("ahead", "have", "fatal"),
    [
        *((32, 33, False), (32, 34, True), (32, 0, True), (320, 321, False), (-32, -31, False), (-32, -32, True)),
        *((-32, 2, True), (0, 2, True), (32, None, True)),
    ],
)
def test_only_a_standby_may_be_ahead_and_no_further_than_the_log(ahead: int, have: int | None, fatal: bool) -> None:
    """A sequence stands at 1 in the other one."""
    key = ("app", "s")
    expected, found = (
        DatabaseState(17, {}, {} if value is None else {key: (value, True)}, {}, {}) for value in (1, have)
    )

    (line,) = compare_states(expected, found, ahead={key: ahead})

    assert line.fatal == fatal


def test_an_extensions_own_sequence_is_not_compared(pair: tuple[Database, Database], project: Project) -> None:
    """It is in no dump, and a role that may not read it compares all the same."""
    for each in pair:
        each.execute(
            "DROP SCHEMA app CASCADE; CREATE EXTENSION citext; CREATE SEQUENCE theirs;"
            f'ALTER EXTENSION citext ADD SEQUENCE theirs; ALTER TABLE public."User" OWNER TO {OWNER}'
        )
    project.env["DATABASE_URL"] = pair[0].url_as(OWNER)

    result = project.inv("db.verify", OTHER)

    assert "theirs" not in result.stdout
    assert result.returncode == 0, result.stdout + result.stderr
