"""A reset empties schemas, and keeps what belongs to the schemas themselves."""

import re
import signal
import time

import pytest

from tests.commands import until_countdown
from tests.marks import Mark
from tests.servers import OWNER, SUPERUSER
from tests.support import Database, Databases, Project, blocking

FILL = """
CREATE TABLE public.t (id serial PRIMARY KEY, at timestamp DEFAULT now());
INSERT INTO public.t SELECT FROM generate_series(1, 10);
CREATE VIEW public.v AS SELECT * FROM public.t;
CREATE FUNCTION public.f() RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE TYPE public.kind AS ENUM ('a');
"""

SCHEMA_FACTS = """
SELECT n.nspname, n.nspowner::regrole::text, n.nspacl::text, obj_description(n.oid, 'pg_namespace'),
       (SELECT string_agg(format('%s %s %s', defaclrole, defaclobjtype, defaclacl), ';' ORDER BY d.oid)
          FROM pg_default_acl d WHERE defaclnamespace = n.oid),
       (SELECT string_agg(extname, ',' ORDER BY extname) FROM pg_extension WHERE extnamespace = n.oid)
  FROM pg_namespace n WHERE nspname IN ('public', 'app') ORDER BY 1
"""


def objects(database: Database) -> list[tuple[object, ...]]:
    """List what people made, with its schema."""
    return database.execute(
        "SELECT relnamespace::regnamespace::text, relname FROM pg_class WHERE relkind IN ('r', 'v', 'S')"
        " AND relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_|^information')"
        " UNION ALL SELECT pronamespace::regnamespace::text, proname FROM pg_proc p"
        " WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')"
        " AND pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_|^information') ORDER BY 1, 2"
    )


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("role", [SUPERUSER, OWNER])
def test_reset_keeps_what_belongs_to_the_schema_when_it_empties_it(
    new_database: Databases, project: Project, role: str
) -> None:
    """Owner, grants, default privileges, comment and extensions stay; tables, views, functions and types go."""
    database = new_database(owner=role)
    database.execute(
        "CREATE EXTENSION citext SCHEMA public; COMMENT ON SCHEMA public IS 'ours';"
        f"GRANT CREATE ON SCHEMA public TO {OWNER}; GRANT USAGE ON SCHEMA public TO pg_monitor"
    )
    database.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO pg_monitor", role=role)
    database.execute(FILL, role=role)
    before = database.execute(SCHEMA_FACTS)

    result = project.use(database, role).inv("db.reset", "--yes")

    assert result.returncode == 0, result.stderr
    assert objects(database) == []
    assert database.execute(SCHEMA_FACTS) == before
    assert database.scalar("SELECT 'A'::public.citext = 'a'")


def test_reset_empties_all_that_are_named_when_there_are_several(database: Database, project: Project) -> None:
    """--schema repeats; a view across two of them goes, and a third schema stays."""
    database.execute(FILL)
    database.execute(
        'CREATE SCHEMA "Odd. ""one"""; CREATE VIEW "Odd. ""one""".v AS SELECT * FROM public.t;'
        "CREATE SCHEMA third; CREATE TABLE third.stays AS SELECT 3 AS n"
    )

    result = project.use(database).inv("db.reset", '--schema=Odd. "one"', "--schema=public", "--yes")

    assert result.returncode == 0, result.stderr
    assert objects(database) == [("third", "stays")]


@pytest.mark.majors(14, 18)
def test_reset_works_when_the_owner_of_a_view_may_only_read_its_tables(database: Database, project: Project) -> None:
    """LOCK TABLE refuses such a view even to a superuser, since it locks what the view reads in its owner's name."""
    database.execute(f"{FILL} GRANT SELECT ON t TO pg_monitor; ALTER VIEW v OWNER TO pg_monitor")
    database.execute("CREATE VIEW public.over AS TABLE public.v")

    result = project.use(database).inv("db.reset", "--yes")

    assert result.returncode == 0, result.stderr
    assert objects(database) == []


def test_reset_empties_the_schema_of_the_url_when_none_is_named(database: Database, project: Project) -> None:
    """Prisma's `schema=` says which; `public` is only the default."""
    database.execute(FILL)
    database.execute("CREATE SCHEMA app; CREATE TABLE app.t (id integer)")
    project.use(database).env["DATABASE_URL"] += "?schema=app"

    result = project.inv("db.reset", "--yes")

    assert result.returncode == 0, result.stderr
    assert ("public", "t") in objects(database)
    assert database.scalar("SELECT to_regclass('app.t') IS NULL")


@pytest.mark.parametrize("name", ["missing", "pg_catalog", "information_schema", ""])
def test_reset_refuses_when_the_schema_is_not_one_to_empty(database: Database, project: Project, name: str) -> None:
    """A schema that does not exist, or is PostgreSQL's own, is refused with exit 2 for all that were named."""
    database.execute(FILL)
    mark = Mark(database)

    result = project.use(database).inv("db.reset", "--schema=public", f"--schema={name}", "--yes")

    assert result.returncode == 2
    assert mark.is_untouched()


def test_reset_touches_nothing_when_it_is_a_dry_run(database: Database, project: Project) -> None:
    """`inv --dry` shows what would go."""
    database.execute(FILL)
    mark = Mark(database)

    result = project.use(database).inv("--dry", "db.reset")

    assert result.returncode == 0
    assert "Will be deleted: everything in public (1 table" in result.stderr
    assert mark.is_untouched()


def test_reset_shows_what_goes_and_stays_when_it_begins(database: Database, project: Project) -> None:
    """Host and database are named, and --yes does not wait."""
    database.execute(FILL)
    database.execute("CREATE SCHEMA app")

    result = project.use(database).inv("db.reset", "--yes")

    assert f"{database.name} at 127.0.0.1:{database.server.port}" in result.stderr
    assert "Will be deleted: everything in public (1 table" in result.stderr
    assert re.search(r"Will be kept: .*app", result.stderr)
    assert "Ctrl-C" not in result.stderr


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_reset_touches_nothing_when_a_signal_comes_in_the_countdown(
    database: Database, project: Project, signum: signal.Signals
) -> None:
    """Ctrl-C within the three seconds ends it: 128 and the signal, and one sentence."""
    database.execute(FILL)
    mark = Mark(database)
    process = project.use(database).popen("db.reset")
    until_countdown(process)

    process.send_signal(signum)
    _, said = process.communicate(timeout=20)

    assert process.returncode == 128 + signum
    assert "Traceback" not in said
    assert mark.is_untouched()


def test_reset_waits_three_seconds_when_yes_is_not_said(database: Database, project: Project) -> None:
    """There is time to press Ctrl-C."""
    database.execute(FILL)

    began = time.monotonic()
    # A fork would not wait.
    result = project.use(database).inv("db.reset", fresh=True)

    assert time.monotonic() - began >= 3
    assert result.returncode == 0
    assert objects(database) == []


def test_reset_names_who_is_in_the_way_when_a_lock_is_not_free(database: Database, project: Project) -> None:
    """A reader's open transaction: exit 4 within lock_timeout, and nothing changed."""
    database.execute(FILL)
    mark = Mark(database)

    with blocking(database, "SET application_name = 'the app'; SELECT * FROM public.t") as other:
        pid = other.info.backend_pid
        result = project.use(database).inv("db.reset", "--yes", env={"INVOKE_DB_LOCK_TIMEOUT": "300ms"})

    assert result.returncode == 4
    assert f"{pid}" in result.stderr
    assert mark.is_untouched()


def test_reset_refuses_when_a_prisma_migration_runs(database: Database, project: Project) -> None:
    """A migration between two of its statements holds no lock but Prisma's own."""
    database.execute(FILL)
    mark = Mark(database)

    with blocking(database, "SELECT pg_advisory_lock(72707369)"):
        result = project.use(database).inv("db.reset", "--yes")

    assert result.returncode == 4
    assert "Prisma migration" in result.stderr
    assert mark.is_untouched()


def test_reset_changes_nothing_when_something_is_not_ours_to_drop(new_database: Databases, project: Project) -> None:
    """A plain owner's reset that meets somebody else's table is refused: exit 2 and a sentence."""
    database = new_database(owner=OWNER)
    database.execute(f"GRANT CREATE ON SCHEMA public TO {OWNER}; CREATE TABLE public.theirs (id integer)")
    database.execute(FILL, role=OWNER)
    mark = Mark(database)

    result = project.use(database, OWNER).inv("db.reset", "--yes")

    assert result.returncode == 2
    assert "theirs" in result.stderr
    assert mark.is_untouched()


def test_reset_is_refused_when_the_configuration_protects_the_database(database: Database, project: Project) -> None:
    """The guard says no: exit 7."""
    database.execute(FILL)
    mark = Mark(database)

    result = project.use(database).inv("db.reset", "--yes", env={"INVOKE_DB_PROTECTED": "127.0.0.*"})

    assert result.returncode == 7
    assert mark.is_untouched()
