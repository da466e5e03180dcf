"""The servers themselves, and the database with everything in it, before others build on them."""

import pytest

from tests.everything import BEYOND_PSQL
from tests.servers import OWNER, Server
from tests.support import Database, Databases


@pytest.mark.root
@pytest.mark.all_majors
def test_server_answers_its_major_when_started(server: Server) -> None:
    """Each server is the major that was asked for, and TCP wants a password."""
    database = Database(server, "postgres")

    assert database.scalar("SHOW server_version_num").startswith(str(server.major))
    assert database.scalar("SELECT current_user", role=OWNER) == OWNER
    with pytest.raises(AssertionError, match="password"):
        database.psql("SELECT 1", f"--dbname={database.url_as(OWNER, password='wrong')}")


@pytest.mark.root
def test_server_comes_back_when_killed(server: Server, database: Database) -> None:
    """What was committed is there after SIGKILL of the postmaster."""
    database.execute("CREATE TABLE t AS SELECT generate_series(1, 10) n")

    server.kill()
    server.start()

    assert database.scalar("SELECT count(*) FROM t") == 10


def test_database_is_gone_when_its_block_ends(server: Server) -> None:
    """A database is dropped although a session is in it and a subscription belongs to it."""
    with Databases(server) as databases:
        database = databases()
        busy = database.connect()
        database.execute("CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p WITH (connect = false)")

    busy.close()

    with server.connect() as connection:
        query = "SELECT count(*) FROM pg_database WHERE datname = %s"
        assert connection.execute(query, [database.name]).fetchone() == (0,)


@pytest.mark.all_majors
def test_everything_survives_psql_when_restored_elsewhere(everything: Database, new_database: Databases) -> None:
    """Nothing in the database with everything in it is lost by PostgreSQL's own tools."""
    dump = everything.dump_text()
    copy = new_database()

    copy.psql(dump)

    assert copy.dump_text() == dump


@pytest.mark.all_majors
def test_owner_everything_belongs_to_its_owner_when_built(owner_everything: Database) -> None:
    """A plain owner can dump their database whole, and a superuser's objects in it are extensions."""
    dump = owner_everything.dump_text(role=OWNER)

    assert dump == owner_everything.dump_text()
    assert owner_everything.scalar("SELECT count(*) FROM pg_class WHERE relowner = 'owner'::regrole") > 50


@pytest.mark.all_majors
def test_psql_fails_when_a_function_body_names_a_column_begin(database: Database, new_database: Databases) -> None:
    """The dump that only a better splitter than psql's can load is what its name says."""
    database.execute(BEYOND_PSQL)

    with pytest.raises(AssertionError, match="psql:"):
        new_database().psql(database.dump_text())


def test_restrict_lines_stay_when_they_are_not_of_pg_dump(database: Database) -> None:
    """Only the two lines with pg_dump's own key are taken out of the text of a dump."""
    database.execute("CREATE TABLE t AS SELECT '' AS v; COMMENT ON TABLE t IS E'\n\\\\restrict x\n'")

    dump = database.dump_text()

    assert dump.count(b"restrict") == 1
