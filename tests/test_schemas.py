"""Emptying schemas takes nothing along that lies outside them, and leaves what belongs to the schemas."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from tasks.errors import BadInputError, TaskError
from tasks.postgres.schemas import Content, empty_schemas, read_content, refuse_dependents
from tasks.progress import Silence
from tasks.restore.reset import plan_reset, reset_database
from tests.flows import pg_dump, restore, settings_of, write
from tests.marks import Mark
from tests.servers import OWNER
from tests.support import Connection, Database, Databases, Project, blocking

INSIDE = """
CREATE SCHEMA app;
CREATE SCHEMA other;
CREATE TYPE app.kind AS ENUM ('a', 'b');
CREATE COLLATION app.posix (locale = 'POSIX');
CREATE SEQUENCE app.counter;
CREATE TABLE app.t (id integer PRIMARY KEY, n integer, kind app.kind);
CREATE TABLE app.parted (id integer) PARTITION BY RANGE (id);
CREATE FUNCTION app.one() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION app.number(app.kind) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION app.fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE FUNCTION app.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE FUNCTION app.add(integer, integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';
CREATE TEXT SEARCH DICTIONARY app.dictionary (TEMPLATE = simple);
CREATE TABLE other.x (id integer);
"""

DEPENDENTS = {
    "view": ("CREATE VIEW other.v AS SELECT * FROM app.t", "other.v"),
    "materialized view": ("CREATE MATERIALIZED VIEW other.m AS SELECT * FROM app.t", "other.m"),
    "foreign key": ("CREATE TABLE other.c (t integer REFERENCES app.t)", "other.c"),
    "column type": ("CREATE TABLE other.k (kind app.kind)", "other.k.kind"),
    "array column": ("CREATE TABLE other.k (kinds app.kind[])", "other.k.kinds"),
    "row type": ("CREATE TABLE other.k (t app.t)", "other.k.t"),
    "column default": ("ALTER TABLE other.x ALTER id SET DEFAULT app.one()", "other.x"),
    "sequence": ("ALTER TABLE other.x ALTER id SET DEFAULT nextval('app.counter')", "other.x"),
    "check": ("ALTER TABLE other.x ADD CONSTRAINT c CHECK (id > app.one())", "other.x"),
    "index": ("CREATE INDEX odd ON other.x ((id + app.one()))", "other.odd"),
    "collation": ("CREATE TABLE other.k (t text COLLATE app.posix)", "other.k.t"),
    "policy": ("CREATE POLICY mine ON other.x USING (app.one() = 1)", "mine on other.x"),
    "trigger": (
        "CREATE TRIGGER tr BEFORE INSERT ON other.x FOR EACH ROW EXECUTE FUNCTION app.fires()",
        "tr on other.x",
    ),
    "rule": ("CREATE RULE r AS ON DELETE TO other.x DO ALSO DELETE FROM app.t", "r on other.x"),
    "publication": ("CREATE PUBLICATION p FOR TABLE app.t", "publication p"),
    "inherited child": ("CREATE TABLE other.child () INHERITS (app.t)", "other.child"),
    "partition": ("CREATE TABLE other.part PARTITION OF app.parted DEFAULT", "other.part"),
    "event trigger": ("CREATE EVENT TRIGGER watch ON sql_drop EXECUTE FUNCTION app.on_ddl()", "event trigger watch"),
    "cast": ("CREATE CAST (app.kind AS integer) WITH FUNCTION app.number(app.kind)", "cast (app.kind AS integer)"),
    "function body": (
        "CREATE FUNCTION other.f() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM app.t; END",
        "other.f()",
    ),
    "argument": ("CREATE FUNCTION other.f(app.kind) RETURNS integer RETURN 1", "other.f(app.kind)"),
    "domain": ("CREATE DOMAIN other.d AS app.kind", "other.d"),
    "aggregate": ("CREATE AGGREGATE other.total(integer) (SFUNC = app.add, STYPE = integer)", "other.total(integer)"),
    "operator": (
        "CREATE OPERATOR other.<+> (LEFTARG = integer, RIGHTARG = integer, FUNCTION = app.add)",
        "other.<+>",
    ),
    "statistics": ("CREATE STATISTICS other.s ON id, n FROM app.t", "other.s"),
    "text search": (
        """CREATE TEXT SEARCH CONFIGURATION other.c (PARSER = pg_catalog.default);
        ALTER TEXT SEARCH CONFIGURATION other.c ADD MAPPING FOR word WITH app.dictionary""",
        "other.c",
    ),
    "extension's view": (
        """CREATE EXTENSION hstore SCHEMA other; CREATE VIEW other.v AS SELECT * FROM app.t;
        ALTER EXTENSION hstore ADD VIEW other.v""",
        "other.v",
    ),
}

NOWHERE = ("publication", "event trigger", "cast")
"""Those that lie in no schema."""


@pytest.fixture
def inside(database: Database) -> Database:
    """Return a database with one of each kind in schema `app`, and little in schema `other`."""
    database.execute(INSIDE)
    return database


@contextmanager
def session(database: Database) -> Iterator[Connection]:
    """Open a session as ours are: nothing is found without its schema."""
    with database.connect(options="-c search_path=") as connection:
        yield connection


@pytest.mark.parametrize("kind", DEPENDENTS)
def test_emptying_is_refused_when_something_outside_depends_on_the_inside(inside: Database, kind: str) -> None:
    """The dependent is named, whatever it is, and before anything is dropped."""
    create, name = DEPENDENTS[kind]
    inside.execute(create)

    with session(inside) as connection, pytest.raises(BadInputError) as caught:
        refuse_dependents(connection, ["app"])

    assert name in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in DEPENDENTS if kind not in NOWHERE])
def test_emptying_works_when_the_dependents_lie_inside_too(inside: Database, kind: str) -> None:
    """With both schemas emptied nothing is outside, and nothing is left in either."""
    inside.execute(DEPENDENTS[kind][0].replace("ALTER EXTENSION hstore ADD VIEW other.v", "SELECT 1"))

    with session(inside) as connection, connection.transaction():
        empty_schemas(connection, ["app", "other"])

    left = inside.dump_text(schemas=["app", "other"])
    assert left.count(b"CREATE SCHEMA") == 2
    assert left.count(b"CREATE ") == 2


def test_emptying_is_refused_with_exit_2_when_a_view_depends(inside: Database, project: Project) -> None:
    """From the command line: one sentence, and the database as it was."""
    inside.execute("CREATE VIEW other.v AS SELECT * FROM app.t")
    write(project, "foreign.sql", pg_dump(inside, "--schema=app"))
    mark = Mark(inside)
    project.use(inside)

    reset = project.inv("db.reset", "--schema=app", "--yes")
    restored = project.inv("db.restore", "--file=foreign.sql", "--clean", "--yes")

    assert [reset.returncode, restored.returncode] == [2, 2]
    for result in (reset, restored):
        assert "other.v" in result.stderr
        assert "Nothing was touched" in result.stderr
    assert mark.is_untouched()


def test_clean_restore_brings_back_what_lies_in_no_schema_when_the_dump_has_it(
    inside: Database, project: Project
) -> None:
    """An event trigger, a cast and a publication go with what they depend on, as the dump holds them."""
    for kind in NOWHERE:
        inside.execute(DEPENDENTS[kind][0])
    before = inside.dump_text()
    project.use(inside).inv("db.dump")

    result = project.inv("db.restore", "--clean", "--yes")

    assert result.returncode == 0, result.stderr
    assert inside.dump_text() == before


@pytest.mark.parametrize("kind", NOWHERE)
def test_clean_restore_is_refused_when_the_dump_lacks_what_lies_in_no_schema(
    inside: Database, project: Project, kind: str
) -> None:
    """What was made after the dump would be lost for ever, so it is named."""
    path = write(project, "foreign.sql", pg_dump(inside))
    create, name = DEPENDENTS[kind]
    inside.execute(create)
    mark = Mark(inside)

    with pytest.raises(BadInputError) as caught:
        restore(project, inside, path, clean=True)

    assert name in str(caught.value)
    assert mark.is_untouched()


def test_emptying_is_refused_when_a_dependent_is_made_while_locks_are_awaited(
    inside: Database, project: Project
) -> None:
    """What another session makes after the plan was shown, and before the locks are held, is not lost."""
    inside.execute("CREATE TABLE app.a (id integer)")
    plan = plan_reset(settings_of(project, inside, lock_timeout=20_000), ["app"], Silence())
    before = inside.dump_text()
    caught: list[TaskError] = []

    def work() -> None:
        try:
            reset_database(plan, Silence())
        except TaskError as error:
            caught.append(error)

    with blocking(inside, "LOCK TABLE app.a IN ACCESS SHARE MODE") as other:
        thread = threading.Thread(target=work)
        thread.start()
        wait_until_waiting(inside)
        inside.execute("CREATE VIEW other.late AS SELECT * FROM app.t; CREATE TABLE app.later (id integer)")
        other.rollback()
        thread.join(30)

    assert "other.late" in str(caught)
    assert caught[0].exit_code == 2
    assert inside.dump_text("--exclude-table=other.late", "--exclude-table=app.later") == before


def test_emptying_is_refused_when_a_dependent_is_made_while_a_drop_waits(inside: Database, project: Project) -> None:
    """Types and sequences are not locked before: what uses one since another DROP began to wait is not lost."""
    plan = plan_reset(settings_of(project, inside, lock_timeout=20_000), ["app"], Silence())
    before = inside.dump_text()

    with blocking(inside, "SELECT FROM app.counter") as other, ThreadPoolExecutor(1) as pool:
        resetting = pool.submit(reset_database, plan, Silence())
        wait_until_waiting(inside)
        inside.execute("CREATE TABLE other.late (kind app.kind)")
        other.rollback()
        with pytest.raises(BadInputError, match=r"other\.late"):
            resetting.result(30)

    assert inside.dump_text("--exclude-table=other.late") == before


def test_emptying_takes_a_table_when_it_is_made_while_locks_are_awaited(inside: Database, project: Project) -> None:
    """A table that came into the schema meanwhile goes like the others."""
    inside.execute("CREATE TABLE app.a (id integer)")
    plan = plan_reset(settings_of(project, inside, lock_timeout=20_000), ["app"], Silence())

    with blocking(inside, "LOCK TABLE app.a IN ACCESS SHARE MODE") as other:
        thread = threading.Thread(target=reset_database, args=[plan, Silence()])
        thread.start()
        wait_until_waiting(inside)
        inside.execute("CREATE TABLE app.later (id integer)")
        other.rollback()
        thread.join(30)

    assert inside.scalar("SELECT count(*) FROM pg_class WHERE relnamespace = 'app'::regnamespace") == 0


def wait_until_waiting(database: Database) -> None:
    """Wait until a session of ours waits for a lock."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'invoke-postgres' AND wait_event_type = 'Lock'"
    )
    deadline = time.monotonic() + 20
    while not database.scalar(query):
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.02)


@pytest.mark.majors(14, 18)
def test_emptying_leaves_extensions_and_their_parts_when_they_lie_inside(database: Database) -> None:
    """An extension's types, functions and tables stay, and so does what depends on them elsewhere."""
    database.execute(
        "CREATE EXTENSION citext SCHEMA public; CREATE EXTENSION hstore SCHEMA public;"
        "CREATE TABLE public.t (c public.citext); CREATE SCHEMA other; CREATE TABLE other.t (c public.citext)"
    )

    with session(database) as connection, connection.transaction():
        empty_schemas(connection, ["public"])

    assert database.scalar("SELECT 'A'::public.citext = 'a'")
    assert database.scalar("SELECT ('a=>1'::public.hstore)->'a'") == "1"
    assert database.scalar("SELECT to_regclass('public.t') IS NULL AND to_regclass('other.t') IS NOT NULL")


def test_emptying_changes_nothing_when_a_table_belongs_to_somebody_else(new_database: Databases) -> None:
    """A plain owner who may not drop one of the tables keeps them all."""
    database = new_database(owner=OWNER)
    database.execute("CREATE SCHEMA app AUTHORIZATION owner; CREATE TABLE app.theirs (id integer)")
    database.execute("CREATE TABLE app.mine (id integer)", role=OWNER)
    mark = Mark(database)

    refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with database.connect(OWNER) as connection, refused, connection.transaction():
        empty_schemas(connection, ["app"])

    assert mark.is_untouched()


def test_content_counts_what_would_go_when_extensions_lie_inside(database: Database) -> None:
    """Tables, estimated rows and locks are those of people, and no table is read for it."""
    database.execute(
        "CREATE EXTENSION citext SCHEMA public; CREATE TABLE public.t (id integer PRIMARY KEY, c text);"
        "INSERT INTO public.t SELECT i, 'x' FROM generate_series(1, 100) i; ANALYZE public.t;"
        "CREATE SCHEMA other; CREATE TABLE other.t ()"
    )

    with database.connect() as connection:
        found = read_content(connection, ["public", "missing"])
        nothing = read_content(connection, [])

    # The table, its row type and the array of it, its key twice, its TOAST table and that one's index.
    assert (found.tables, found.rows, found.locks) == (1, 100, 7)
    assert found.bytes > 0
    assert found.objects == (("table", 1),)
    assert nothing == Content(0, 0, 0, 0)
    assert (found.is_empty, nothing.is_empty) == (False, True)


@pytest.mark.majors(14, 17, 18)
def test_content_counts_objects_of_each_kind(database: Database) -> None:
    """What goes with its owner is not counted: array and row types, identity sequences, inner types of ranges."""
    database.execute(
        "CREATE EXTENSION citext; CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY);"
        "CREATE VIEW v AS SELECT 1 AS one; CREATE MATERIALIZED VIEW m AS SELECT 1 AS one; CREATE SEQUENCE s;"
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE mood AS ENUM ('sad');"
        "CREATE TYPE span AS RANGE (subtype = int)"
    )

    with database.connect() as connection:
        found = read_content(connection, ["public"])

    # A range brings functions of its own, which belong to it.
    assert dict(found.objects) == {
        "table": 1,
        "view": 1,
        "materialized view": 1,
        "sequence": 1,
        "function": 1,
        "type": 2,
    }
