"""A dump or a manifest that somebody made to do harm: what it may not do, and that it can't take us down."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tasks.dumpfiles.catalog import inspect_dump, list_catalog
from tasks.dumpfiles.dump_file import prove_dump
from tasks.dumpfiles.paths import read_manifest
from tasks.dumpformat.manifest import SIZE_LIMIT
from tasks.errors import BadInputError, OperationFailedError, TaskError
from tasks.inventory.compare import compare_states, state_of_manifest
from tasks.progress import Silence
from tasks.restore.plan import RestorePlan, plan_restore
from tasks.restore.request import RestoreRequest
from tasks.restore.restore import restore_dump
from tests.flows import pg_dump, settings_of, sqlstate_of
from tests.marks import Mark
from tests.servers import OWNER

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from tests.support import REPOSITORY, Database, watched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support import Project

END = "--\n-- PostgreSQL database dump complete\n--\n"
TABLE = "CREATE TABLE public.t (v text);\n"
CASES = Path(__file__).parent / "hostile"
INTERNAL = "CREATE FUNCTION public.f(integer) RETURNS integer LANGUAGE internal IMMUTABLE AS 'int4abs';"


def foreign(project: Project, statements: str, name: str = "foreign.sql") -> Path:
    """Put a dump without a manifest into the folder of the dumps."""
    return project.write(f"dumps/{name}", TABLE + statements + "\n" + END)


def planned(
    project: Project, database: Database, path: Path, role: str = "postgres", *, trust_local: bool = True, **asked: Any
) -> RestorePlan:
    """Plan a restore, as the task does."""
    settings = settings_of(project, database, role, trust_local=trust_local)
    return plan_restore(settings, RestoreRequest(str(path), **asked), Silence())


def require_asked(plan: RestorePlan, named: str) -> None:
    """Assert that the plan holds the question, and that nothing is loaded where it has no answer.

    :param named: What the question names.
    """
    assert named in plan.risk
    with pytest.raises(BadInputError, match="--trust"):
        restore_dump(plan, Silence())


# What a superuser is asked about


@pytest.mark.parametrize(
    "statement",
    [
        "",
        "COPY/**/public.t FROM PROGRAM 'id';",
        "DO $$ BEGIN NULL; END $$;",
        INTERNAL,
        "SELECT pg_reload_conf();",
        *(
            (CASES / name).read_text(encoding="utf-8")
            for name in ("estring.sql", "catalog.sql", "rule.sql", "grant.sql")
        ),
    ],
    ids=["nothing", "program", "block", "internal", "function", "E string", "search path", "rule", "grant"],
)
@pytest.mark.majors(15, 18)
def test_superuser_is_asked_about_a_foreign_dump(statement: str, database: Database, project: Project) -> None:
    """Whatever is in it: no text of it is judged harmless."""
    database.execute("CREATE SCHEMA other; CREATE TABLE other.secrets ()")
    path = foreign(project, statement)
    mark = Mark(database)

    plan = planned(project, database, path, trust_local=False)

    require_asked(plan, "foreign.sql")
    assert mark.is_untouched()


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("estring.sql", "EXISTS (SELECT FROM t WHERE v LIKE '%.%' OR v ~ '[0-9]')"),
        ("rule.sql", "(SELECT rolsuper FROM pg_roles WHERE rolname = 'evil')"),
        ("grant.sql", "has_table_privilege('evil', 'other.secrets', 'SELECT')"),
        ("catalog.sql", "EXISTS (SELECT FROM pg_proc WHERE proname = 'lower' AND prolang <> 12)"),
    ],
)
@pytest.mark.majors(15, 18)
def test_what_the_server_runs_is_asked_for(name: str, effect: str, database: Database, project: Project) -> None:
    """Without --trust nothing of it is done, with it the server shows that it does it."""
    database.execute("DROP ROLE IF EXISTS evil; CREATE ROLE evil; CREATE SCHEMA other; CREATE TABLE other.secrets ()")
    project.write(f"dumps/{name}", (CASES / name).read_text(encoding="utf-8"))
    project.use(database).env.pop("INVOKE_DB_TRUST")
    try:
        refused = project.inv("db.restore", f"--file={name}", "--yes")
        done_before = database.scalar(f"SELECT {effect if name != 'estring.sql' else 'false'}")
        trusted = project.inv("db.restore", f"--file={name}", "--yes", "--trust")

        assert refused.returncode == 2, refused.stderr
        assert "was not made here" in refused.stderr
        assert not done_before
        if name == "catalog.sql" and trusted.returncode:
            # The server itself refuses to replace it, even for a superuser.
            assert trusted.returncode == 5, trusted.stderr
        else:
            assert trusted.returncode == 0, trusted.stderr
            assert database.scalar(f"SELECT {effect}")
    finally:
        database.execute("DROP OWNED BY evil CASCADE; DROP ROLE evil")


def test_strings_are_read_as_they_were_judged(database: Database, project: Project) -> None:
    """A backslash ends none of them, though the database's own setting is another and the dump says nothing of it."""
    database.execute(f'ALTER DATABASE "{database.name}" SET standard_conforming_strings = off')
    path = foreign(project, "INSERT INTO public.t VALUES ('\\'), ('|| current_user ||');")

    restore_dump(planned(project, database, path, trust=True), Silence())

    assert database.execute("SELECT v FROM t ORDER BY 1") == [("\\",), ("|| current_user ||",)]


@pytest.mark.parametrize("schema", ["information_schema", "pg_catalog"])
def test_clean_never_empties_a_schema_of_postgresql(schema: str, database: Database, project: Project) -> None:
    """Whoever is trusted: a superuser could drop all of information_schema."""
    path = foreign(project, f"CREATE FUNCTION {schema}.f() RETURNS int LANGUAGE sql AS 'SELECT 1';")

    with pytest.raises(BadInputError, match=schema):
        planned(project, database, path, clean=True, trust=True)


def test_trust_lets_it_run_and_nothing_else_does(database: Database, project: Project) -> None:
    """Exit 2 and an empty database without the flag; with it, the program of the server's machine has run."""
    foreign(project, "COPY public.t FROM PROGRAM 'echo was here';")
    before = database.dump_text()
    project.use(database).env.pop("INVOKE_DB_TRUST")

    refused = project.inv("db.restore", "--clean", "--yes", "--file=foreign.sql")
    untouched = database.dump_text()
    trusted = project.inv("db.restore", "--clean", "--yes", "--trust", "--file=foreign.sql")

    assert refused.returncode == 2
    assert "echo" not in refused.stderr
    assert untouched == before
    assert trusted.returncode == 0, trusted.stderr
    assert database.scalar("SELECT v FROM t") == "was here"


def test_ordinary_role_is_not_asked_as_the_server_refuses(database: Database, project: Project) -> None:
    """What it may not do ends in a rollback."""
    database.execute("GRANT CREATE ON SCHEMA public TO owner")
    foreign(project, "COPY public.t FROM PROGRAM 'echo was here';")
    mark = Mark(database)
    project.use(database, OWNER).env.pop("INVOKE_DB_TRUST")

    result = project.inv("db.restore", "--file=foreign.sql")

    assert result.returncode == 5
    assert mark.is_untouched()


@pytest.mark.parametrize(
    ("right", "named"),
    [
        ("GRANT pg_execute_server_program TO mighty", "pg_execute_server_program"),
        ("ALTER ROLE mighty CREATEROLE", "CREATEROLE"),
        ("GRANT postgres TO mighty", "postgres"),
    ],
    ids=["program", "CREATEROLE", "member"],
)
def test_role_that_is_nearly_a_superuser_is_asked(right: str, named: str, database: Database, project: Project) -> None:
    """Whoever may run programs, or become or make a role that may."""
    path = foreign(project, "")
    database.execute("CREATE ROLE mighty LOGIN PASSWORD 'p'; GRANT CREATE ON SCHEMA public TO mighty")
    try:
        database.execute(right)
        url = database.url_as("mighty", "p")
        settings = settings_of(project, database, environ={"DATABASE_URL": url}, trust_local=False)
        require_asked(plan_restore(settings, RestoreRequest(str(path)), Silence()), named)
    finally:
        database.execute("DROP OWNED BY mighty; DROP ROLE mighty")


def test_dump_of_ours_is_not_asked_about_and_one_whose_manifest_is_gone_is(
    database: Database, project: Project
) -> None:
    """A manifest that holds vouches for it, compressed by hand as well; without one nobody does."""
    database.execute(INTERNAL)
    project.use(database)
    assert project.inv("db.dump", "--file=ours.sql").returncode == 0
    ours = project.dumps / "ours.sql"

    packed = project.dumps / "ours.sql.gz"
    packed.write_bytes(gzip.compress(ours.read_bytes()))
    plans = [planned(project, database, path, clean=True, trust_local=False) for path in (ours, packed)]
    (project.dumps / "ours.manifest.json").unlink()

    assert [(plan.dump.manifest is None, plan.risk) for plan in plans] == [(False, ""), (False, "")]
    for path in (ours, packed):
        require_asked(planned(project, database, path, clean=True, trust_local=False), path.name)


def test_dump_that_its_manifest_does_not_describe_is_refused_even_when_trusted(
    database: Database, project: Project
) -> None:
    """Somebody who adds a line to a dump of ours is found out."""
    project.use(database)
    assert project.inv("db.dump", "--file=ours.sql").returncode == 0
    with (project.dumps / "ours.sql").open("a") as file:
        file.write("COPY public.t FROM PROGRAM 'id';\n" + END)

    with pytest.raises(BadInputError):
        planned(project, database, project.dumps / "ours.sql", trust=True)


def test_archive_is_asked_about_as_its_text_is(database: Database, project: Project) -> None:
    """pg_dump's custom format has no manifest."""
    path = project.dumps / "foreign.dump"
    path.write_bytes(pg_dump(database, "--format=custom"))

    require_asked(planned(project, database, path, clean=True, trust_local=False), path.name)


def test_rehearsal_asks_as_a_restore_does(database: Database, project: Project) -> None:
    """A program that the scratch database runs, runs on the same machine."""
    foreign(project, "COPY public.t FROM PROGRAM 'echo 1';")
    project.use(database).env.pop("INVOKE_DB_TRUST")

    refused = project.inv("db.rehearse", "--file=foreign.sql")
    trusted = project.inv("db.rehearse", "--file=foreign.sql", "--trust")

    assert refused.returncode == 2
    assert "was not made here" in refused.stderr
    assert trusted.returncode == 0, trusted.stderr


def test_inspect_says_whether_a_superuser_is_asked(project: Project) -> None:
    """Without a server, and without a list of what is bad."""
    foreign(project, "COPY public.t FROM PROGRAM 'id';")

    result = project.inv("db.inspect", "--file=foreign.sql")
    document = json.loads(project.inv("db.inspect", "--file=foreign.sql", "--json").stdout)

    assert (
        "A superuser must confirm before loading it (--trust): it was not made here, or its manifest is missing."
        in result.stdout
    )
    assert document["needs_trust"] == "was not made here, or its manifest is missing"
    assert "powers" not in document


# psql's own language

_OF_PSQL_18 = r"""
    \! \? \a \bind \bind_named \C \c \cd \close \close_prepared \conninfo \connect \copy \copyright \crosstabview
    \d \da \dp \df+ \dt \du \e \echo \ef \elif \else \encoding \endif \errverbose \ev \f \flush \flushrequest \g
    \gdesc \getenv \getresults \gexec \gset \gx \h \H \help \i \if \include \include_relative \ir \l \list \lo_export
    \lo_import \lo_list \lo_unlink \o \out \p \parse \password \print \prompt \pset \q \quit \qecho \r \reset \s
    \sendpipeline \set \setenv \sf \startpipeline \sv \syncpipeline \t \T \timing \unset \w \warn \watch \write \x
    \z \; \\ \: \{ \restrict;\! \unrestrictx"""
COMMANDS = _OF_PSQL_18.split()


def test_every_command_of_psql_is_refused(database: Database, project: Project) -> None:
    """All of psql 18's, at the beginning of a line and behind a statement; trusted, too."""
    settings = settings_of(project, database)
    assert len(COMMANDS) > 80
    for command in COMMANDS:
        for line in (f"{command} touch x", f"SELECT 1 {command} x", f"  {command}"):
            path = foreign(project, line + "\n")
            with pytest.raises(BadInputError) as refused:
                prove_dump(settings, path, Silence(), trust=True)
            assert "touch x" not in str(refused.value)


@pytest.mark.parametrize("text", [":'HOST'", ':"HOST"', ":HOST", ":{?HOST}", "`id`", ":'HOME'", ":DBNAME", ":VERSION"])
def test_variables_of_psql_are_text(text: str, database: Database, project: Project) -> None:
    """They go to the server as they stand, which finds a syntax error; nothing is put in their place."""
    path = foreign(project, f"CREATE VIEW public.v AS SELECT {text} AS x;")
    mark = Mark(database)

    plan = planned(project, database, path, clean=True)
    with pytest.raises(OperationFailedError) as refused:
        restore_dump(plan, Silence())

    assert sqlstate_of(refused.value) == "42601"
    assert str(Path.home()) not in str(refused.value)
    assert mark.is_untouched()


# Bombs


def pieces(kind: str) -> tuple[bytes, bytes]:
    """Give what a bomb begins with, and 4 MB of what is repeated behind it."""
    return {
        "zeros": (b"", bytes(1 << 22)),
        "zeros in rows": (b"CREATE TABLE public.t (v text);\nCOPY public.t (v) FROM stdin;\n", bytes(1 << 22)),
        "rows": (b"CREATE TABLE public.t (v text);\nCOPY public.t (v) FROM stdin;\n", b"0\n" * (1 << 21)),
        "one row": (b"CREATE TABLE public.t (v text);\nCOPY public.t (v) FROM stdin;\n", b"0" * (1 << 22)),
        "blanks": (b"SELECT 1;\n", b" " * (1 << 22)),
        "comment": (b"/*", b"x" * (1 << 22)),
        "statements": (b"", b";" * (1 << 22)),
        "literal": (b"SELECT '", b"x" * (1 << 22)),
        "word": (b"SELECT ", b"x" * (1 << 22)),
    }[kind]


def bomb(path: Path, kind: str, pack: Any, count: int) -> None:
    """Write members of 4 MB each, as one file that expands to all of them."""
    begin, again = pieces(kind)
    packed = pack(again)
    with path.open("wb") as file:
        file.write(pack(begin))
        for _ in range(count):
            file.write(packed)


@pytest.mark.parametrize(
    ("kind", "pack", "limit"),
    [
        ("zeros", gzip.compress, 150),
        ("zeros", zstd.compress, 150),
        ("zeros in rows", zstd.compress, 150),
        ("rows", gzip.compress, 150),
        ("rows", zstd.compress, 150),
        ("one row", zstd.compress, 150),
        ("blanks", gzip.compress, 150),
        ("comment", gzip.compress, 150),
        ("word", gzip.compress, 150),
        # A statement is held in memory; until the limit is met, 268 MB here, that is all of it.
        ("literal", zstd.compress, 450),
    ],
)
def test_bomb_is_refused_in_flat_memory(kind: str, pack: Any, limit: int, database: Database, project: Project) -> None:
    """Four gigabytes behind a few megabytes: a sentence after some seconds, before the server has seen a row."""
    name = "bomb.sql.gz" if pack is gzip.compress else "bomb.sql.zst"
    bomb(project.dumps / name, kind, pack, 1024)
    project.use(database)

    run = watched(project, "db.restore", f"--file={name}", "--yes", "--clean")

    assert run.returncode == 2, run.stderr
    assert "Nothing was touched" in run.stderr
    assert run.megabytes < limit
    assert run.seconds < 60
    assert database.scalar("SELECT count(*) FROM pg_class WHERE relname = 't'") == 0


def test_long_text_is_read_on_when_it_is_trusted(database: Database, project: Project) -> None:
    """Somebody may hold what compresses that well: --trust reads it all."""
    name = "long.sql.zst"
    bomb(project.dumps / name, "blanks", zstd.compress, 80)
    with (project.dumps / name).open("ab") as file:
        file.write(zstd.compress(END.encode()))

    with pytest.raises(BadInputError, match="--trust"):
        planned(project, database, project.dumps / name)
    plan = planned(project, database, project.dumps / name, trust=True)

    assert plan.dump.content.size > 80 << 22


def test_file_may_not_grow_behind_its_check(database: Database, project: Project) -> None:
    """What was checked bounds what is read in the restore: a file that grows meanwhile does not go on for ever."""
    path = foreign(project, "")
    mark = Mark(database)
    plan = planned(project, database, path)

    with path.open("a") as file:
        file.write("SELECT 1;\n" * 1000 + END)
    with pytest.raises(OperationFailedError):
        restore_dump(plan, Silence())

    assert mark.is_untouched()


# Manifests

WRONG: list[Any] = [None, True, -1, 10**19, 10**400, 1e308, "", "../../x", "a\0b", "\ud800", "\x1b[2J", [], [[]], {}]
WRONG += [{"": None}, [None], ["a", "b", "c"], [{}], {"table": {"x": ["y", "z"]}}]


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of every value in a document; of several in a list the first."""
    items = document.items() if isinstance(document, dict) else enumerate(document[:1])
    for key, value in list(items):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy in which one value is another one; it shares all others."""
    result = copy.copy(document)
    result[path[0]] = changed(document[path[0]], path[1:], value) if path[1:] else value
    return result


# The facts that are only compared: with those of a database, without a server. The definitions of tables stand for
# those of other kinds where a restore is planned.
COMPARED = {"definitions", "told", "extensions", "checksums"}


def test_no_manifest_takes_us_down(database: Database, project: Project) -> None:
    """Each value of a real manifest is replaced by twenty wrong ones; whatever is done with it ends in a sentence."""
    database.execute("CREATE TABLE public.t AS SELECT 1 AS i; CREATE SEQUENCE public.s; CREATE EXTENSION hstore")
    project.use(database)
    assert project.inv("db.dump", "--file=db_dump_2025-01-01T00-00-00-000Z.sql", "--checksums").returncode == 0
    manifest = next(project.dumps.glob("*.manifest.json"))
    document = json.loads(manifest.read_bytes())
    settings, path = settings_of(project, database), str(next(project.dumps.glob("*.sql")))
    before = sorted(project.root.parent.rglob("*"))
    known = read_manifest(Path(path))
    assert known is not None
    found = state_of_manifest(known)
    met = 0

    for place in places(document):
        for value in WRONG:
            manifest.write_text(json.dumps(changed(document, place, value)), encoding="ascii")
            list_catalog(settings)
            try:
                inspected = inspect_dump(settings, path, Silence())
            except TaskError:
                met += 1
                continue
            # What is understood as a manifest is compared, or carried on to the server.
            if place[0] == "facts" and COMPARED & {*place[1:]} and place[2:3] != ("table",):
                assert inspected.manifest is not None
                state = state_of_manifest(inspected.manifest)
                assert all(map(str, [*compare_states(state, found), *compare_states(found, state)]))
                continue
            try:
                plan_restore(settings, RestoreRequest(path, clean=True, backup=False), Silence())
            except TaskError:
                met += 1

    assert met > 100
    assert sorted(project.root.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("begin", "again", "count"),
    [
        (b"", b"[", 1 << 20),
        (b"", b'{"a":', 1 << 20),
        (b'{"format": 1, "x": "', b"x", 1 << 27),
        (b"", b"[],\n", SIZE_LIMIT // 4 + 1),
    ],
    ids=["deep list", "deep object", "large text", "many lists"],
)
def test_gigantic_manifest_is_a_sentence(
    begin: bytes, again: bytes, count: int, database: Database, project: Project
) -> None:
    """Deep, or larger than any that we would read, it costs no more memory than others."""
    foreign(project, "")
    (project.dumps / "foreign.manifest.json").write_bytes(begin + again * count)
    project.use(database)

    for words in (["db.list"], ["db.restore", "--file=foreign.sql"]):
        run = watched(project, *words)
        assert run.returncode == (0 if words == ["db.list"] else 2), run.stderr
        assert "Traceback" not in run.stderr
        assert run.megabytes < 150
        assert run.seconds < 30


def test_forged_manifest_that_vouches_is_believed(database: Database, project: Project) -> None:
    """As docs/security.md says: a manifest is as trustworthy as the folder that it lies in, and no more."""
    project.use(database)
    assert project.inv("db.dump", "--file=evil.sql").returncode == 0
    path, manifest = project.dumps / "evil.sql", project.dumps / "evil.manifest.json"
    evil = path.read_bytes().replace(
        b"\n--\n-- PostgreSQL database dump complete", b"\nSELECT 1;\n\n--\n-- PostgreSQL database dump complete"
    )
    path.write_bytes(evil)
    sums = {"bytes": len(evil), "sha256": hashlib.sha256(evil).hexdigest()}
    document = json.loads(manifest.read_bytes())
    document["file"].update(sums)
    document["content"].update(sums)
    manifest.write_text(json.dumps(document), encoding="ascii")

    plan = planned(project, database, path, trust_local=False)

    assert plan.dump.manifest is not None
    assert not plan.risk


RECIPE = re.findall(
    r"(?m)^    ((?:CREATE|REVOKE|ALTER) .*;)$", (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
)
# Whatever reads the view, or plans a query of the table, counts one more call.
TRAP = (
    """SELECT pg_catalog.set_config('search_path', '', false);
CREATE SEQUENCE public.calls;
CREATE FUNCTION public.trap(v text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
 'BEGIN PERFORM pg_catalog.nextval(''public.calls''); RETURN v; END';
CREATE TABLE public.t (v text);
CREATE INDEX trapped ON public.t (public.trap(v)) WHERE public.trap('x') IS NOT NULL;
CREATE VIEW public._prisma_migrations AS SELECT public.trap('x') AS migration_name;
"""
    + END
)
BREAKS_OUT = (
    "COPY public.t FROM PROGRAM 'echo x';",
    "SELECT pg_catalog.pg_read_file('PG_VERSION');",
    "DO $$ BEGIN EXECUTE 'COPY public.t TO PROGRAM ''cat'''; END $$;",
    "ALTER ROLE guest SUPERUSER;",
)


@pytest.fixture
def visit(database: Database, project: Project) -> Iterator[Database]:
    """Return the database of the recipe in docs/security.md, made by its statements as they are written."""
    assert len(RECIPE) == 4
    with database.server.connect() as connection:
        for statement in RECIPE:
            connection.execute(statement.encode())
    found = Database(database.server, "visit")
    project.use(found).env["DATABASE_URL"] = found.url_as("guest", "choose-one")
    try:
        yield found
    finally:
        with database.server.connect() as connection:
            connection.execute("DROP DATABASE visit WITH (FORCE)")
            connection.execute("DROP ROLE guest")


@pytest.mark.majors(15, 18)
@pytest.mark.parametrize("statement", BREAKS_OUT)
def test_a_guest_can_do_no_more_than_its_role_may(statement: str, visit: Database, project: Project) -> None:
    """The recipe's role is not asked, and what would need special rights ends the restore."""
    project.write("dumps/foreign.sql", f"CREATE TABLE public.t (v text);\n{statement}\n{END}")

    result = project.inv("db.restore", "--file=foreign.sql")

    assert result.returncode == 5, result.stderr
    assert visit.scalar("SELECT pg_catalog.to_regclass('public.t') IS NULL")


@pytest.mark.majors(15, 18)
def test_a_superuser_may_look_at_what_a_guest_restored(visit: Database, project: Project) -> None:
    """Our tasks call nothing of it; a careless query does, as the page says."""
    project.write("dumps/foreign.sql", TRAP)
    assert project.inv("db.restore", "--file=foreign.sql").returncode == 0
    calls = "SELECT last_value FROM public.calls"
    before = visit.scalar(calls)
    project.use(visit)

    for task in ("db.doctor", "db.migrations", "db.verify", "db.dump"):
        project.inv(task)

    assert visit.scalar(calls) == before
    visit.execute("SELECT migration_name FROM public._prisma_migrations")
    assert visit.scalar(calls) > before
