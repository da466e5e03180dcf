"""A rehearsal restores, verifies and migrates beside the real database, touches nothing there and leaves nothing."""

import contextlib
import gzip
import json
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tasks.dump.dump import make_dump
from tasks.dump.request import DumpRequest
from tasks.errors import BadInputError, OperationFailedError
from tasks.progress import Silence
from tasks.safety.scratch_database import (
    LOCK,
    MARK,
    PREFIX,
    Note,
    _drop,
    _write_note,
    delete_leftover_scratch_databases,
    is_unlocked,
    on_database,
    scratch_database,
    try_drop,
)
from tests.flows import newest, pg_dump, settings_of, write
from tests.journal import COUNT, JOURNAL, TABLES, migration
from tests.schemas import SHOP
from tests.servers import OWNER, PASSWORD, SUPERUSER, Server
from tests.support import Database, Databases, Project, Started, blocking, eventually

TRAILER = b"--\n-- PostgreSQL database dump complete\n--\n"
WRITES = "SELECT tup_inserted + tup_updated + tup_deleted FROM pg_stat_database WHERE datname = current_database()"
OURS = json.dumps({"made by": MARK, "host": "elsewhere", "pid": 1, "time": "2025-01-01T00:00:00+00:00"})


@pytest.fixture(autouse=True)
def _no_left_overs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove what a test that failed has left, so that the next ones begin with nothing."""
    yield
    if "server" in request.fixturenames:
        server: Server = request.getfixturevalue("server")
        with server.connect() as connection:
            for name in scratches(server):
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def shop(new_database: Databases, project: Project) -> Database:
    """Return a small database, of which there is a dump; the project works with it."""
    database = new_database()
    database.execute(SHOP)
    project.use(database)
    make_dump(settings_of(project, database), DumpRequest(), Silence())
    return database


def scratches(server: Server) -> list[str]:
    """List the databases on the server that look like a rehearsal's."""
    with server.connect() as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY 1", [PREFIX])
        return [str(name) for (name,) in rows]


def holding(project: Project, database: Database, seconds: int = 60) -> Path:
    """Write a dump whose restore takes its time at the end."""
    text = pg_dump(database).replace(TRAILER, b"SELECT pg_catalog.pg_sleep(%d);\n" % seconds + TRAILER)
    return write(project, "holding.sql", text)


def wait_for(server: Server, what: str) -> None:
    """Wait until a session of the server is as a condition says."""
    with server.connect() as connection:
        for _ in range(600):
            row = connection.execute(f"SELECT count(*) FROM pg_stat_activity WHERE {what}".encode()).fetchone()
            if row and row[0]:
                return
            time.sleep(0.05)
    raise AssertionError(f"nobody came: {what}")


def begin(project: Project, server: Server) -> Started:
    """Begin a rehearsal of the dump that takes its time, and wait until it does."""
    process = project.popen("db.rehearse", "--file=holding.sql", "--trust")
    wait_for(server, f"starts_with(datname, '{PREFIX}') AND wait_event = 'PgSleep'")
    return process


def rehearsed(project: Project) -> list[Any]:
    """Tell when the dumps were rehearsed, as `db.list` does."""
    return [each["rehearsed"] for each in json.loads(project.inv("db.list", "--json").stdout)["dumps"]]


# What it does


@pytest.mark.majors(14, 18)
def test_a_rehearsal_proves_a_dump_and_leaves_nothing(
    server: Server, new_database: Databases, project: Project
) -> None:
    """Rows and seconds are told, the list shows when it was, the real database is the same, no file is added."""
    database = new_database()
    database.execute(SHOP)
    assert project.use(database).inv("db.dump", "--gzip", "--checksums").returncode == 0
    before, files = database.dump_text(), sorted(path.name for path in project.dumps.iterdir())
    # PostgreSQL 14 reports them some time later.
    eventually(lambda: database.scalar(WRITES) > 0, "the statistics of the rows")
    written = database.scalar(WRITES)
    began = datetime.now(UTC) - timedelta(seconds=2)

    result = project.inv("db.rehearse")

    assert result.returncode == 0, result.stderr
    assert newest(project).name in result.stdout
    assert "420 rows" in result.stdout
    assert "Prisma" in result.stderr
    assert scratches(server) == []
    assert database.dump_text() == before
    assert database.scalar(WRITES) == written
    assert sorted(path.name for path in project.dumps.iterdir()) == files
    (when,) = rehearsed(project)
    assert began <= datetime.fromisoformat(when) <= datetime.now(UTC)
    assert "  rehearsed  " in project.inv("db.list").stdout
    assert project.inv("db.verify", f"--file={newest(project).name}").returncode == 0


def test_a_rehearsal_does_not_wait_for_the_real_tables(shop: Database, project: Project) -> None:
    """Somebody may hold the strongest lock on all of them: nothing of them is read."""
    with blocking(shop, 'LOCK TABLE app.item, public."User" IN ACCESS EXCLUSIVE MODE'):
        result = project.inv("db.rehearse", timeout=60)

    assert result.returncode == 0, result.stderr


def test_a_foreign_dump_is_rehearsed_and_goes_unmarked(shop: Database, project: Project, server: Server) -> None:
    """Without a manifest there is nothing to mark."""
    write(project, "foreign.sql.gz", gzip.compress(pg_dump(shop)))

    result = project.inv("db.rehearse", "--file=foreign.sql.gz")

    assert result.returncode == 0, result.stderr
    assert "420 rows" in result.stdout
    assert rehearsed(project) == [None, None]
    assert scratches(server) == []


@pytest.mark.usefixtures("shop")
def test_the_mark_keeps_all_else_in_the_manifest(project: Project) -> None:
    """A later rehearsal renews it; keys that we do not know stay."""
    path = next(project.dumps.glob("*.manifest.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "rehearsed": "long ago", "later": [1]}))
    before = json.loads(path.read_text())

    assert project.inv("db.rehearse").returncode == 0

    after = json.loads(path.read_text())
    assert after.pop("rehearsed") != before.pop("rehearsed")
    assert after == before
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("shop")
def test_url_env_names_another_server(project: Project, server: Server) -> None:
    """The rehearsal takes place where that URL leads."""
    project.env["OTHER_URL"] = project.env["DATABASE_URL"]
    project.env["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/nothing"

    assert project.inv("db.rehearse").returncode == 4
    assert project.inv("db.rehearse", "--url-env=OTHER_URL").returncode == 0
    assert scratches(server) == []


@pytest.mark.usefixtures("shop")
def test_a_dry_run_makes_nothing(project: Project, server: Server, new_database: Databases) -> None:
    """It says what it would do, and does not even sweep."""
    left = left_behind(new_database, OURS)

    result = project.inv("--dry", "db.rehearse")

    assert result.returncode == 0
    assert f"would rehearse {newest(project).name}" in result.stderr
    assert scratches(server) == [left.name]
    assert rehearsed(project) == [None]


def row_of(database: Database) -> tuple[object, ...]:
    """Return all of a database's row in the catalogue that tells its encoding and locale."""
    document = database.scalar("SELECT to_jsonb(d) FROM pg_database d WHERE datname = current_database()")
    return tuple(
        (key, document.get(key)) for key in sorted(document) if key.startswith(("enc", "datcol", "datct", "datl"))
    )


LOCALES = {
    "LATIN1": "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
    "another locale than the template's": "ENCODING 'UTF8' LC_COLLATE 'POSIX' LC_CTYPE 'POSIX'",
    "SQL_ASCII": "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
}
# A provider that came with 17.
BUILTIN = "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' ENCODING 'UTF8'"


@pytest.mark.majors(14, 17)
@pytest.mark.parametrize("options", LOCALES.values(), ids=LOCALES.keys())
def test_the_scratch_database_is_like_the_real_one(options: str, server: Server, project: Project) -> None:
    """Encoding, locale and provider are its own, not the server's defaults."""
    look_alike(options, server, project)


@pytest.mark.majors(17)
def test_the_scratch_database_has_the_builtin_provider_too(server: Server, project: Project) -> None:
    """Where the real one has it."""
    look_alike(BUILTIN, server, project)


def look_alike(options: str, server: Server, project: Project) -> None:
    """Make a database with these options, and compare a scratch database beside it."""
    real = Database(server, f"test_{secrets.token_hex(6)}")
    with server.connect() as connection:
        connection.execute(f"CREATE DATABASE {real.name} TEMPLATE template0 {options}".encode())
    try:
        with scratch_database(settings_of(project, real).target(), project.dumps) as there:
            assert row_of(Database(server, there.database)) == row_of(real)
        assert scratches(server) == []
    finally:
        with server.connect() as connection:
            connection.execute(f"DROP DATABASE {real.name} WITH (FORCE)".encode())


def test_a_dump_in_latin1_is_rehearsed(new_database: Databases, project: Project) -> None:
    """Its text comes into a database of the same encoding."""
    database = new_database(encoding="LATIN1")
    database.execute("CREATE TABLE café AS SELECT 'ünïcödé' AS t FROM generate_series(1, 9)")
    assert project.use(database).inv("db.dump", "--checksums").returncode == 0

    result = project.inv("db.rehearse")

    assert result.returncode == 0, result.stderr
    assert "9 rows" in result.stdout


# Prisma


def test_a_pending_migration_is_applied_in_the_rehearsal_alone(
    journal: Project, migrated_journal: Database, server: Server
) -> None:
    """The project's own Prisma migrates the scratch database; the seconds are told; the real one has no more."""
    database = migrated_journal
    assert journal.inv("db.dump").returncode == 0
    folder = next((JOURNAL / "pending").iterdir())
    migration(journal, folder.name, (folder / "migration.sql").read_text(encoding="utf-8"))
    before = database.dump_text()

    result = journal.inv("db.rehearse")

    assert result.returncode == 0, result.stdout + result.stderr
    assert folder.name in result.stdout
    assert "; migrated in " in result.stdout
    assert database.dump_text() == before
    assert database.scalar(COUNT) == 6
    assert scratches(server) == []
    assert rehearsed(journal)[0]


def test_a_failing_migration_fails_the_rehearsal_alone(journal: Project, database: Database, server: Server) -> None:
    """Exit 5 with Prisma's own words; nothing is left, the dump is not marked, the real database is as it was."""
    make_dump(settings_of(journal.use(database), database), DumpRequest(), Silence())
    migration(journal, "20270101000000_broken", "CREATE TABLE half (id int); SELECT * FROM nowhere;")

    result = journal.inv("db.rehearse")

    assert result.returncode == 5
    assert "nowhere" in result.stdout + result.stderr
    assert "prisma migrate deploy" in result.stderr
    assert f"{database.name} at 127.0.0.1:{server.port}" in result.stderr
    assert scratches(server) == []
    assert rehearsed(journal) == [None]
    assert database.scalar(TABLES) == 0


def test_prisma_is_led_away_when_it_reads_another_variable(
    journal: Project, database: Database, server: Server
) -> None:
    """A schema's `directUrl`, from the environment or from any `.env`, never leads to the real database."""
    make_dump(settings_of(journal.use(database), database), DumpRequest(), Silence())
    config = (journal.root / "prisma.config.ts").read_text(encoding="utf-8")
    journal.write("prisma.config.ts", config.replace("process.env.DATABASE_URL", "process.env.DIRECT_URL"))
    journal.write(".env.local", f'DIRECT_URL="{database.url}"\n')

    result = journal.inv("db.rehearse")

    assert result.returncode == 0, result.stdout + result.stderr
    assert "successfully applied" in result.stdout
    assert database.scalar(TABLES) == 0
    assert scratches(server) == []


def test_prisma_is_not_run_when_its_url_is_written_elsewhere(
    journal: Project, database: Database, server: Server
) -> None:
    """A configuration with a URL of its own would migrate the real database: that is seen before it may."""
    make_dump(settings_of(journal.use(database), database), DumpRequest(), Silence())
    config = (journal.root / "prisma.config.ts").read_text(encoding="utf-8")
    journal.write("prisma.config.ts", config.replace("process.env.DATABASE_URL", json.dumps(database.url)))

    result = journal.inv("db.rehearse")

    assert result.returncode == 2
    assert database.scalar(TABLES) == 0
    assert scratches(server) == []


def test_a_url_that_names_its_database_elsewhere_is_said_before_anything_begins(
    shop: Database, project: Project, server: Server
) -> None:
    """Prisma's URL can't be led to another database then; without Prisma there is nothing to lead."""
    project.env["DATABASE_URL"] = shop.url.replace(f"/{shop.name}", f"/?dbname={shop.name}")
    assert project.inv("db.rehearse").returncode == 0
    project.write("node_modules/.bin/prisma", "")

    result = project.inv("db.rehearse")

    assert result.returncode == 2
    assert scratches(server) == []


@pytest.mark.usefixtures("shop")
def test_a_missing_node_is_said_before_anything_begins(project: Project, tmp_path: Path) -> None:
    """A project with Prisma needs it: exit 3."""
    project.write("node_modules/.bin/prisma", "")

    result = project.inv("db.rehearse", env={"PATH": str(tmp_path)})

    assert result.returncode == 3
    assert "Node.js" in result.stderr


# Nothing is left behind


def test_nothing_is_left_when_the_dump_does_not_load(shop: Database, project: Project, server: Server) -> None:
    """An error of the server rolls back, exit 5, and the message says which database it is not about."""
    write(project, "broken.sql", pg_dump(shop).replace(TRAILER, b"SELECT 1 / 0;\n" + TRAILER))
    before = shop.dump_text()

    result = project.inv("db.rehearse", "--file=broken.sql", "--trust")

    assert result.returncode == 5
    assert "division by zero" in result.stderr
    assert f"{shop.name} at 127.0.0.1:{server.port}" in result.stderr
    assert scratches(server) == []
    assert shop.dump_text() == before


def test_nothing_is_left_when_the_dump_is_cut(shop: Database, project: Project, server: Server) -> None:
    """A dump that is not whole is refused, exit 2."""
    write(project, "cut.sql", pg_dump(shop)[:-300])

    result = project.inv("db.rehearse", "--file=cut.sql")

    assert result.returncode == 2
    assert "This happened in a scratch database" not in result.stderr
    assert scratches(server) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_when_a_signal_comes(
    signum: signal.Signals, shop: Database, project: Project, server: Server
) -> None:
    """In the middle of the restore; the message says in what state things are."""
    holding(project, shop)
    before = shop.dump_text()
    process = begin(project, server)

    process.send_signal(signum)
    _, said = process.communicate(timeout=30)

    assert process.returncode == 128 + signum
    assert f"{shop.name} at 127.0.0.1:{server.port}" in said
    assert scratches(server) == []
    assert shop.dump_text() == before


def test_nothing_is_left_when_a_signal_comes_while_it_is_removed(
    shop: Database, project: Project, server: Server
) -> None:
    """The server stops dropping when we are interrupted, so it is asked once more."""
    holding(project, shop, seconds=2)
    process = begin(project, server)
    (name,) = scratches(server)
    with blocking(shop, f"COMMENT ON DATABASE {name} IS 'somebody holds it'"):
        dropping = "query LIKE 'DROP DATABASE%' AND wait_event_type = 'Lock'"
        wait_for(server, dropping)
        with server.connect() as connection:
            row = connection.execute(
                f"SELECT query_start::text FROM pg_stat_activity WHERE {dropping}".encode()
            ).fetchone()
        assert row is not None
        process.send_signal(signal.SIGINT)
        wait_for(server, f"{dropping} AND query_start > '{row[0]}'")

    process.communicate(timeout=30)

    assert process.returncode == 130
    assert scratches(server) == []


def test_nothing_is_left_when_the_connection_is_lost(shop: Database, project: Project, server: Server) -> None:
    """The restore's session ends at the server: an error, and no database more."""
    holding(project, shop)
    process = begin(project, server)

    with server.connect() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
    _, said = process.communicate(timeout=30)

    assert process.returncode in {4, 5}
    assert "Traceback" not in said
    assert scratches(server) == []


def test_what_a_killed_rehearsal_leaves_is_removed_by_the_next_one(
    shop: Database, project: Project, server: Server
) -> None:
    """Its comment says whose it is; it stays while it is in use, even by what the killed one had begun."""
    holding(project, shop)
    target = settings_of(project, shop).target()
    process = begin(project, server)
    (left,) = scratches(server)
    assert delete_leftover_scratch_databases(target, project.dumps) == []

    process.kill()
    process.communicate(timeout=30)
    still_used = project.inv("db.rehearse", f"--file={newest_of_ours(project)}")
    in_between = scratches(server)
    with server.connect() as connection:
        connection.execute("SELECT pg_terminate_backend(pid, 9000) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        row = connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [left]
        ).fetchone()
    free = project.inv("db.rehearse", f"--file={newest_of_ours(project)}")

    assert [still_used.returncode, free.returncode] == [0, 0], still_used.stderr + free.stderr
    assert in_between == [left]
    assert row is not None
    comment = json.loads(row[0])
    assert comment["made by"] == MARK
    assert (comment["host"], comment["pid"]) == (socket.gethostname(), process.pid)
    assert datetime.fromisoformat(comment["time"]).tzinfo is UTC
    assert left in free.stdout
    assert scratches(server) == []


def newest_of_ours(project: Project) -> str:
    """Name the dump that we made."""
    return next(project.dumps.glob("db_dump_*.sql")).name


# What is swept


def left_behind(
    new_database: Databases, comment: str | None, owner: str = SUPERUSER, notes: Path | None = None
) -> Database:
    """Make a database that looks as if a rehearsal had left it.

    :param notes: Remember it there as ours.
    """
    database = new_database(name=PREFIX + secrets.token_hex(6), owner=owner)
    if notes is not None:
        oid = database.scalar("SELECT oid FROM pg_database WHERE datname = current_database()")
        server = str(database.scalar("SELECT system_identifier FROM pg_control_system()"))
        _write_note(notes, Note(server, database.name, oid, owner))
    if comment is not None:
        database.execute(f"COMMENT ON DATABASE {database.name} IS $c${comment}$c$")
    return database


def test_what_is_ours_and_unused_is_swept(database: Database, new_database: Databases, project: Project) -> None:
    """All of them at once, and the notes with them."""
    left = sorted(left_behind(new_database, OURS, notes=project.dumps).name for _ in range(2))

    assert sorted(delete_leftover_scratch_databases(settings_of(project, database).target(), project.dumps)) == left
    assert scratches(database.server) == []
    assert list(project.dumps.glob(".invoke*")) == []


@pytest.mark.parametrize(
    "note",
    [
        None,
        {"oid": 1},
        {"owner": OWNER},
        {"server": "another"},
        {"database": "postgres"},
    ],
    ids=["none", "oid", "owner", "server", "database"],
)
def test_what_only_looks_like_ours_is_not_swept_nor_entered(
    note: dict[str, Any] | None, database: Database, new_database: Databases, project: Project
) -> None:
    """A name and a comment prove nothing: server, oid and owner must be those that we noted."""
    left = left_behind(new_database, OURS, notes=project.dumps)
    path = project.dumps / f".{left.name}.json"
    if note is None:
        path.unlink()
    else:
        path.write_text(json.dumps({**json.loads(path.read_text()), **note}))

    assert delete_leftover_scratch_databases(settings_of(project, database).target(), project.dumps) == []

    assert scratches(database.server) == [left.name]


def test_database_of_another_role_is_not_entered(database: Database, new_database: Databases, project: Project) -> None:
    """A superuser could drop what a plain role's rehearsal left, but would run its owner's settings."""
    left = left_behind(new_database, OURS, OWNER, notes=project.dumps)

    assert delete_leftover_scratch_databases(settings_of(project, database).target(), project.dumps) == []

    assert scratches(database.server) == [left.name]


@pytest.mark.parametrize(
    "comment",
    [None, "", "a rehearsal of my own", "{", "[]", "1", "null", "{}", '{"made by": 7}', '{"made by": "me"}'],
)
def test_what_is_not_ours_is_not_swept(
    comment: str | None, database: Database, new_database: Databases, project: Project
) -> None:
    """A name proves nothing: the comment must be the one that we write."""
    left = left_behind(new_database, comment, notes=project.dumps)

    assert delete_leftover_scratch_databases(settings_of(project, database).target(), project.dumps) == []
    assert scratches(database.server) == [left.name]


def test_what_somebody_uses_is_not_swept(database: Database, new_database: Databases, project: Project) -> None:
    """A session in it keeps it, whether it holds the lock or not; without one it goes."""
    left = left_behind(new_database, OURS, notes=project.dumps)
    target = settings_of(project, database).target()

    with left.connect() as session:
        assert delete_leftover_scratch_databases(target, project.dumps) == []
        assert is_unlocked(target, left.name)
        session.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        assert not is_unlocked(target, left.name)
        assert delete_leftover_scratch_databases(target, project.dumps) == []

    assert delete_leftover_scratch_databases(target, project.dumps) == [left.name]


def test_a_session_that_comes_meanwhile_keeps_it(database: Database, new_database: Databases) -> None:
    """Dropping it then fails, and that is no error."""
    left = left_behind(new_database, OURS)

    with left.connect(), database.connect() as connection:
        connection.execute("SET statement_timeout = '1s'")
        assert not try_drop(connection, left.name)

    assert scratches(database.server) == [left.name]


def test_what_belongs_to_somebody_else_is_not_swept(
    database: Database, new_database: Databases, project: Project
) -> None:
    """A role that does not own it leaves it alone, without an error."""
    left = left_behind(new_database, OURS, notes=project.dumps)
    mine = new_database(owner=OWNER)

    assert delete_leftover_scratch_databases(settings_of(project, mine, OWNER).target(), project.dumps) == []
    assert scratches(database.server) == [left.name]


# Rights


def test_a_role_that_may_not_create_databases_is_refused(
    new_database: Databases, project: Project, server: Server
) -> None:
    """Exit 2, with what to do; nothing is made."""
    database = new_database(owner=OWNER)
    database.execute(SHOP, role=SUPERUSER)
    make_dump(settings_of(project, database), DumpRequest(), Silence())

    result = project.use(database, OWNER).inv("db.rehearse")

    assert result.returncode == 2
    assert OWNER in result.stderr
    assert "ALTER ROLE" in result.stderr
    assert scratches(server) == []


@pytest.fixture
def creator(server: Server) -> Iterator[Callable[[], str]]:
    """Return what makes an ordinary role that may create databases; it goes after the test."""
    name = f"creator_{secrets.token_hex(4)}"

    def make() -> str:
        with server.connect() as connection:
            connection.execute(f"CREATE ROLE {name} LOGIN CREATEDB PASSWORD '{PASSWORD}'".encode())
        return name

    yield make
    with server.connect() as connection, contextlib.suppress(psycopg.Error):
        connection.execute(f"DROP ROLE {name}".encode())


@pytest.mark.majors(14, 17)
def test_an_ordinary_role_that_may_create_databases_rehearses(
    server: Server, creator: Callable[[], str], project: Project
) -> None:
    """And sweeps what it has left itself."""
    role = creator()
    with Databases(server) as databases:
        database = databases(owner=role)
        database.execute(SHOP, role=role)
        left = left_behind(databases, OURS, role, project.dumps)
        project.use(database, role)

        result = project.inv("db.dump", "db.rehearse")

        assert result.returncode == 0, result.stderr
        assert left.name in result.stdout
        assert "420 rows" in result.stdout
        assert scratches(server) == []


def test_the_server_that_goes_is_said_with_the_name_that_stays(database: Database, project: Project) -> None:
    """Where nothing can be removed any more the first error is told, and which database is left."""
    target = settings_of(project, database).target()
    unreachable = on_database(target, f"gone_{os.getpid()}")

    with pytest.raises(OperationFailedError, match="invoke_x"):
        _drop(unreachable, "invoke_x")
    with pytest.raises(BadInputError, match=r"^First\..*invoke_x"):
        _drop(unreachable, "invoke_x", first=BadInputError("First."))
