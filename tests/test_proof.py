"""What a restore says of rows is true at its end: nothing of the dump runs between the proof and COMMIT."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tasks.dumpfiles.paths import manifest_path
from tests.marks import Mark
from tests.servers import OWNER, SUPERUSER

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from tests.support import Database, Databases, Project

END = "--\n-- PostgreSQL database dump complete\n--\n"
NO_PATH = "SELECT pg_catalog.set_config('search_path', '', false);\n"
ROWS = "COPY public.t (v) FROM stdin;\na\nb\nc\n\\.\n"
TABLE = "CREATE TABLE public.t (v text);\n"
CLEAR = (
    "CREATE FUNCTION public.clear() RETURNS integer LANGUAGE plpgsql AS"
    " $$ BEGIN DELETE FROM public.t; RETURN 1; END $$;\n"
)
DEFERRED = """
CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER x AFTER INSERT ON public.{table} DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION public.f();
"""
# Each round puts the next one off, until there were as many as the trigger's author wants.
ROUNDS = """
SET CONSTRAINTS ALL DEFERRED;
IF (SELECT count(*) FROM public.round) < {rounds} THEN INSERT INTO public.round VALUES (1);
ELSE DELETE FROM public.t; END IF;
"""
CHAIN = "CREATE TABLE public.round (n integer);\n" + DEFERRED.format(table="round", body=ROUNDS)
START = "INSERT INTO public.round VALUES (1);\n"
EMPTIES = {
    "deferred trigger": TABLE + DEFERRED.format(table="t", body="DELETE FROM public.t;") + ROWS,
    "deferred trigger that puts itself off": TABLE + CHAIN.format(rounds=4) + ROWS + START,
    "statement behind the rows": TABLE + ROWS + "CREATE INDEX i ON public.t (v);\nDELETE FROM public.t;\n",
    "TRUNCATE": TABLE + ROWS + "TRUNCATE public.t;\n",
    "held cursor": TABLE + CLEAR + "DECLARE c CURSOR WITH HOLD FOR SELECT public.clear();\n" + ROWS + "FETCH c;\n",
    "held cursor of a DO": TABLE
    + CLEAR
    + ROWS
    + "DO $$ BEGIN EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT public.clear()'; END $$;\nFETCH c;\n",
    "count of its own": TABLE
    + "CREATE SCHEMA evil;\nCREATE FUNCTION evil.three(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 3::bigint';\n"
    + "CREATE AGGREGATE evil.count(*) (SFUNC = evil.three, STYPE = bigint, INITCOND = '3');\n"
    + ROWS
    + "DELETE FROM public.t;\nSET search_path = evil, pg_catalog;\n",
    "another table in its place": TABLE
    + ROWS
    + "DELETE FROM public.t;\nALTER TABLE public.t RENAME TO u;\nCREATE TABLE public.t (v text);\n",
}

BOTH = pytest.mark.parametrize("role", [OWNER, SUPERUSER])


def restored(database: Database, project: Project, text: str, role: str, *flags: str) -> CompletedProcess[str]:
    """Restore a dump without a manifest."""
    project.write("dumps/foreign.sql", text + END)
    trust = ["--trust"] if role == SUPERUSER else []
    return project.use(database, role).inv("db.restore", "--file=foreign.sql", *trust, *flags)


def says_proved(result: CompletedProcess[str]) -> bool:
    """Whether a restore says that it verified the rows, or, without a manifest, that it counted what the dump holds."""
    return any(said in result.stdout for said in ("verified and", "counted and"))


@pytest.fixture
def owned(new_database: Databases) -> Database:
    """Return an empty database of a plain owner."""
    return new_database(owner=OWNER)


@pytest.mark.majors(18)
@BOTH
@pytest.mark.parametrize("kind", EMPTIES)
def test_an_emptied_table_is_never_called_verified(kind: str, role: str, owned: Database, project: Project) -> None:
    """It is committed, as psql would, with the true number of rows, a warning and exit code 6."""
    result = restored(owned, project, EMPTIES[kind], role)

    said = " ".join(result.stderr.split())
    assert result.returncode == 6, result.stderr
    assert re.search(r"public\.t\b.*\b0\b.*\b3\b", said)
    assert not says_proved(result)
    assert owned.scalar("SELECT count(*) FROM public.t") == 0


@pytest.mark.majors(15, 18)
@BOTH
@pytest.mark.parametrize(
    "last",
    ["DROP TABLE public.t;\n", "ALTER TABLE public.t RENAME TO u;\nCREATE VIEW public.t AS SELECT public.f();\n"],
)
def test_a_table_that_is_gone_is_named(last: str, role: str, owned: Database, project: Project) -> None:
    """A view in its place is not read, as that would run what the dump says."""
    function = "CREATE FUNCTION public.f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'read'; END $$;\n"

    result = restored(owned, project, function + TABLE + ROWS + last, role)

    assert result.returncode == 6, result.stderr
    assert "public.t" in result.stderr
    assert not says_proved(result)


@pytest.mark.majors(15, 18)
@BOTH
def test_rows_that_go_through_a_view_are_not_called_verified(role: str, owned: Database, project: Project) -> None:
    """The view is not read; the restore says that its rows can't be counted."""
    view = TABLE + "CREATE VIEW public.v AS SELECT v FROM public.t;\n"

    result = restored(owned, project, view + "INSERT INTO public.v VALUES ('a');\n", role)

    assert result.returncode == 0, result.stderr
    assert "public.v" in result.stderr
    assert not says_proved(result)


@pytest.mark.majors(15, 18)
@BOTH
def test_what_would_still_run_in_commit_can_change_nothing(role: str, owned: Database, project: Project) -> None:
    """A trigger that puts itself off too often ends the restore, and all is as it was."""
    mark = Mark(owned)

    result = restored(owned, project, TABLE + CHAIN.format(rounds=70) + ROWS + START, role)

    assert result.returncode == 5
    assert mark.is_untouched()


@pytest.mark.majors(15, 18)
@BOTH
def test_what_a_held_cursor_would_run_is_not_run(role: str, owned: Database, project: Project) -> None:
    """COMMIT would run its query to the end; it is closed before the rows are counted."""
    text = TABLE + CLEAR + ROWS + "DECLARE c CURSOR WITH HOLD FOR SELECT public.clear();\n"

    result = restored(owned, project, text, role)

    assert result.returncode == 0, result.stderr
    assert owned.scalar("SELECT count(*) FROM public.t") == 3


@pytest.mark.majors(15, 18)
def test_rows_that_the_manifest_knows_must_be_there(owned: Database, project: Project) -> None:
    """Where a manifest says how many there are, the restore is rolled back."""
    owned.execute(TABLE + "INSERT INTO public.t VALUES ('a'), ('b'), ('c')", OWNER)
    assert project.use(owned, OWNER).inv("db.dump", "--file=ours.sql").returncode == 0
    dump = project.dumps / "ours.sql"
    end = b"--\n-- PostgreSQL database dump complete"
    text = dump.read_bytes().replace(end, b"DELETE FROM public.t;\n" + end)
    dump.write_bytes(text)
    manifest: dict[str, Any] = json.loads(manifest_path(dump).read_text())
    sums = {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
    manifest["content"], manifest["file"] = sums, {**manifest["file"], **sums}
    manifest_path(dump).write_text(json.dumps(manifest))
    owned.execute("INSERT INTO public.t VALUES ('d')", OWNER)

    result = project.inv("db.restore", "--clean", "--yes", "--file=ours.sql")

    assert result.returncode == 5, result.stderr
    assert re.search(r"public\.t\b.*\b0\b.*\b3\b", " ".join(result.stderr.split()))
    assert owned.scalar("SELECT count(*) FROM public.t") == 4


SECURED = (
    TABLE
    + ROWS
    + "ALTER TABLE public.t ENABLE ROW LEVEL SECURITY;\n"
    + "ALTER TABLE public.t FORCE ROW LEVEL SECURITY;\n"
    + "CREATE POLICY nothing ON public.t USING (false);\n"
)
UNREADABLE = TABLE + ROWS + "REVOKE ALL ON public.t FROM owner;\n"


@pytest.mark.majors(15, 18)
@BOTH
@pytest.mark.parametrize("text", [SECURED, UNREADABLE], ids=["forced row-level security", "no right to read"])
@pytest.mark.parametrize(("last", "code", "rows"), [("", 0, 3), ("TRUNCATE public.t;\n", 6, 0)])
def test_rows_that_the_role_may_not_see_are_counted(
    text: str, last: str, code: int, rows: int, role: str, owned: Database, project: Project
) -> None:
    """An owner gives itself what it needs for the count, and takes it back."""
    if text is UNREADABLE:
        last = last and "GRANT TRUNCATE ON public.t TO owner;\n" + last + "REVOKE ALL ON public.t FROM owner;\n"

    result = restored(owned, project, text + last, role)

    assert result.returncode == code, result.stderr
    assert "can't be counted" not in result.stderr
    assert owned.scalar("SELECT count(*) FROM public.t") == rows
    (forced, rights) = owned.execute("SELECT relforcerowsecurity, relacl::text FROM pg_class WHERE relname = 't'")[0]
    assert forced is (text is SECURED)
    assert rights is None if text is SECURED else "owner=" not in rights


AT_THE_COUNT = """
CREATE SEQUENCE public.s;
CREATE FUNCTION public.f() RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  IF current_query() LIKE '%count(*)%' THEN PERFORM setval('public.s', 666); END IF;
  RETURN 1;
END $$;
"""


@pytest.mark.majors(15, 18)
def test_sequence_that_the_count_of_rows_moves_is_found(owned: Database, project: Project) -> None:
    """To plan a count calls the functions of an index, and what setval does no rollback takes back."""
    text = AT_THE_COUNT + TABLE + ROWS + "SELECT pg_catalog.setval('public.s', 5, true);\n"

    result = restored(owned, project, text + "CREATE INDEX i ON public.t (v) WHERE public.f() = 1;\n", OWNER)

    assert owned.scalar("SELECT last_value FROM public.s") == 666
    assert result.returncode == 6, result.stderr


# What psql loads is loaded, and counted as it is

USER = 'CREATE TABLE {when}public."User" (id integer PRIMARY KEY, email text);\n'
IF_NOT_EXISTS = NO_PATH + USER.format(when="IF NOT EXISTS ")
CARRIED = {
    "if not exists, copy": (IF_NOT_EXISTS + 'COPY public."User" (id, email) FROM stdin;\n3\tc\n4\td\n\\.\n', 4),
    "if not exists, insert": (
        IF_NOT_EXISTS + "INSERT INTO public.\"User\" VALUES (1, 'a'), (5, 'e') ON CONFLICT DO NOTHING;\n",
        3,
    ),
    "upsert": (
        NO_PATH + "INSERT INTO public.\"User\" VALUES (1, 'x'), (6, 'f') ON CONFLICT (id) DO UPDATE SET email = 'x';\n",
        3,
    ),
    "update at the end": (
        NO_PATH + 'COPY public."User" (id, email) FROM stdin;\n3\tc\n\\.\nUPDATE public."User" SET email = \'y\';\n',
        3,
    ),
    "emptied before": (NO_PATH + 'DELETE FROM public."User";\nINSERT INTO public."User" VALUES (9, \'z\');\n', 1),
    "unqualified": (
        (
            'SET search_path = public;\nCOPY "User" (id, email) FROM stdin;\n3\tc\n\\.\n'
            "INSERT INTO \"User\" VALUES (4, 'd');\nSET search_path = pg_catalog;\n"
        ),
        4,
    ),
    "by a temporary table": (
        NO_PATH + "CREATE TEMP TABLE new (id integer, email text);\nCOPY pg_temp.new (id, email) FROM stdin;\n"
        '3\tc\n\\.\nINSERT INTO public."User" SELECT * FROM pg_temp.new;\n',
        3,
    ),
}


@pytest.mark.majors(18)
@BOTH
@pytest.mark.parametrize("kind", CARRIED)
def test_what_psql_loads_is_loaded(
    kind: str, role: str, owned: Database, new_database: Databases, project: Project
) -> None:
    """The table holds what it holds after psql, and the restore goes well."""
    text, rows = CARRIED[kind]
    judge = new_database(owner=OWNER)
    for each in (owned, judge):
        each.execute(USER.format(when="") + "INSERT INTO public.\"User\" VALUES (1, 'a'), (2, 'b')", OWNER)
    judge.psql(text, role=role)

    result = restored(owned, project, text, role)

    assert result.returncode == 0, result.stderr
    assert owned.scalar('SELECT count(*) FROM public."User"') == rows
    assert owned.dump_text() == judge.dump_text()


@pytest.mark.majors(15, 18)
@BOTH
def test_table_that_is_partitioned_in_small_letters_is_filled(role: str, owned: Database, project: Project) -> None:
    """COPY … FREEZE does not go into a partitioned table."""
    text = (
        NO_PATH + "create table public.ev (id int, k text) partition by list (k);\n"
        "create table public.ev_a partition of public.ev for values in ('a');\n"
        "COPY public.ev (id, k) FROM stdin;\n1\ta\n\\.\n"
    )

    result = restored(owned, project, text, role)

    assert result.returncode == 0, result.stderr
    assert owned.scalar("SELECT count(*) FROM public.ev") == 1


@pytest.mark.majors(15, 18)
@pytest.mark.parametrize("reset", ["RESET ALL", "RESET statement_timeout", "DISCARD ALL"])
def test_settings_that_a_dump_resets_are_ours_again(reset: str, owned: Database, project: Project) -> None:
    """A role's own timeout does not end the restore; what else is reset is reset."""
    owned.execute(f'ALTER DATABASE "{owned.name}" SET statement_timeout = 300')
    text = f"{TABLE}SET work_mem = '5MB';\n{reset};\nSELECT pg_sleep(0.6);\n{ROWS}"
    text += "CREATE TABLE public.seen AS SELECT current_setting('work_mem') AS work_mem;\n"

    result = restored(owned, project, text, OWNER)

    assert result.returncode == 0, result.stderr
    assert owned.scalar("SELECT work_mem = '5MB' FROM public.seen") is (reset == "RESET statement_timeout")


def test_sequence_that_a_later_statement_moves_is_named(owned: Database, project: Project) -> None:
    """It is committed, as by psql, and the difference is said."""
    text = "CREATE SEQUENCE public.s;\nSELECT pg_catalog.setval('public.s', 41, true);\nSELECT nextval('public.s');\n"

    result = restored(owned, project, text, OWNER)

    assert result.returncode == 6
    assert re.search(r"public\.s\b.*\b42\b.*\b41\b", " ".join(result.stderr.split()))
    assert owned.scalar("SELECT last_value FROM public.s") == 42


def test_rehearsal_says_so_too(owned: Database, project: Project) -> None:
    """A dump whose rows vanish ends a rehearsal with exit code 6."""
    project.write("dumps/foreign.sql", EMPTIES["deferred trigger"] + END)

    result = project.use(owned).inv("db.rehearse", "--file=foreign.sql", "--trust")

    assert result.returncode == 6, result.stderr
    assert "verified" not in result.stdout
