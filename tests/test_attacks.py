"""Ways in which a clean restore once lost something, or let something pass; each is refused or told now."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.marks import Mark
from tests.support import without_restrict

if TYPE_CHECKING:
    from tests.support import Database, Databases, Project

OUTSIDE = {
    "a multirange in another schema": """
        CREATE SCHEMA other;
        CREATE TYPE public.r AS RANGE (subtype = float8, multirange_type_name = other.mr);
        CREATE TABLE other.t (id int, m other.mr);
    """,
    "a parent outside": """
        CREATE SCHEMA other;
        CREATE TABLE other.p (i int) PARTITION BY LIST (i);
        CREATE TABLE public.p1 PARTITION OF other.p FOR VALUES IN (1);
        INSERT INTO other.p VALUES (1);
    """,
}


def dumped(project: Project, database: Database, *flags: str) -> str:
    """Dump a database with one table, and give the file's name."""
    project.use(database)
    database.execute("CREATE TABLE public.a AS SELECT generate_series(1, 3) AS i")
    assert project.inv("db.dump", *flags).returncode == 0
    (dump,) = project.dumps.glob("*.sql")
    return dump.name


@pytest.mark.parametrize("outside", OUTSIDE)
def test_clean_refuses_when_something_outside_would_be_lost(
    outside: str, database: Database, new_database: Databases, project: Project
) -> None:
    """What pg_depend does not tell in the plain way is refused, too, and nothing is touched."""
    dumped(project, database)
    target = new_database()
    target.execute(OUTSIDE[outside])
    mark = Mark(target)
    project.use(target)

    result = project.inv("db.restore", "--clean", "--yes", *project.into(target))

    assert result.returncode == 2
    assert "other." in result.stderr
    assert mark.is_untouched()


def test_clean_looks_again_when_it_had_to_wait(database: Database, new_database: Databases, project: Project) -> None:
    """What somebody makes outside while a DROP waits is found, and all is rolled back."""
    dumped(project, database)
    target = new_database()
    target.execute("CREATE SCHEMA other; CREATE TYPE public.mood AS ENUM ('ok'); CREATE VIEW public.v AS SELECT 1 AS i")
    target.execute("CREATE MATERIALIZED VIEW public.m AS SELECT 1 AS i")
    project.use(target)
    holder = target.connect(autocommit=False)
    holder.execute("SELECT * FROM public.m")

    def meddle() -> None:
        end = time.monotonic() + 20
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        while time.monotonic() < end and not target.scalar(waiting):
            time.sleep(0.05)
        target.execute("CREATE TABLE other.t (m public.mood)")
        holder.rollback()

    thread = threading.Thread(target=meddle)
    thread.start()
    result = project.inv("db.restore", "--clean", "--yes", *project.into(target))
    thread.join()
    holder.close()

    assert result.returncode == 2, result.stderr
    assert "other.t" in result.stderr
    assert (
        target.scalar("SELECT count(*) FROM pg_attribute WHERE attrelid = 'other.t'::regclass AND attname = 'm'") == 1
    )
    assert target.scalar("SELECT to_regtype('public.mood') IS NOT NULL")


def test_clean_does_not_trust_the_outline_of_a_manifest(
    database: Database, new_database: Databases, project: Project
) -> None:
    """A manifest whose outline was changed, or was written wrongly, ends in a rollback."""
    dump = dumped(project, database)
    manifest = project.dumps / dump.replace(".sql", ".manifest.json")
    document = json.loads(manifest.read_bytes())
    document["outline"]["schemas"] = []
    manifest.write_text(json.dumps(document), encoding="ascii")
    target = new_database()
    target.execute("CREATE TABLE public.stale ()")
    mark = Mark(target)
    project.use(target)

    result = project.inv("db.restore", "--clean", "--yes", *project.into(target))

    assert result.returncode == 5
    assert "outline" in result.stderr
    assert mark.is_untouched()


@pytest.mark.parametrize(
    "setting",
    ["default_transaction_isolation = 'serializable'", "default_transaction_read_only = on", "array_nulls = off"],
)
def test_settings_of_the_target_change_nothing(
    setting: str, database: Database, new_database: Databases, project: Project
) -> None:
    """A role's or a database's own defaults do not change what is loaded, or whether it is."""
    database.execute("CREATE TABLE public.words AS SELECT ARRAY[NULL, 'x']::text[] AS w")
    dumped(project, database)
    target = new_database()
    target.execute(f'ALTER DATABASE "{target.name}" SET {setting}')
    project.use(target)

    result = project.inv("db.restore", "--clean", "--yes", *project.into(target))

    assert result.returncode == 0, result.stderr
    assert without_restrict(target.dump_text()) == without_restrict(database.dump_text())


def test_a_dump_without_schemas_is_refused_when_clean(database: Database, project: Project) -> None:
    """As pg_dump before 10.3 wrote it: nobody can tell what to empty."""
    project.use(database)
    text = "SET search_path = public;\nCREATE TABLE t (i int);\nCOPY t (i) FROM stdin;\n1\n\\.\n"
    project.write("dumps/old.sql", text + "-- PostgreSQL database dump complete\n")

    result = project.inv("db.restore", "--clean", "--yes", "--file=old.sql")

    assert result.returncode == 2


def test_a_grant_that_does_nothing_is_told(database: Database, new_database: Databases, project: Project) -> None:
    """The server only warns where a role may not revoke; the restore counts it, and --strict refuses."""
    database.execute("DROP ROLE IF EXISTS grp")
    target = new_database(owner="owner")
    database.execute("CREATE ROLE grp")
    database.execute("GRANT grp TO owner WITH INHERIT FALSE, SET TRUE")
    try:
        database.execute("GRANT CREATE ON SCHEMA public TO grp")
        database.execute("CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        database.execute("ALTER FUNCTION public.f() OWNER TO grp; REVOKE ALL ON FUNCTION public.f() FROM PUBLIC")
        dump = dumped(project, database)
        target.execute("GRANT CREATE ON SCHEMA public TO grp")
        project.use(target, role="owner")

        told = project.inv("db.restore", f"--file={dump}")
        strict = project.inv("db.restore", "--strict", "--clean", "--yes", *project.into(target))

        assert told.returncode == 0, told.stderr
        assert "grants that the role may not set" in told.stdout
        assert strict.returncode == 5
    finally:
        for each in (database, target):
            each.execute("DROP OWNED BY grp")
        database.execute("DROP ROLE grp")
