"""A clean restore makes the filled schemas what the dump holds; one without replaces, or rolls back."""

import functools
import gzip
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from tasks.dumpformat.summary import RefusedError
from tasks.errors import BadInputError, OperationFailedError
from tasks.load.row_counts import Changed
from tasks.progress import Silence
from tasks.restore.plan import plan_restore
from tasks.restore.request import RestoreRequest
from tasks.restore.restore import restore_dump
from tests import everything as everything_sql
from tests.bulk import journal_like
from tests.flows import dumped, newest, pg_dump, ran, restore, settings_of, sqlstate_of, write
from tests.marks import Mark
from tests.schemas import OTHERS, SHOP, make_tables
from tests.servers import MAJORS, OWNER, Server
from tests.shared_files import Files, files_of, put_files
from tests.support import Database, Databases, Project, blocking, eventually

FILLED = ("public", "app", 'Odd Schema.with "quotes" and . dots', "two\nCOMMIT;\nlines", "empty", "ext")
"""The schemas of the database with everything in it."""


@pytest.fixture(scope="module")
def shop_template(server: Server) -> Iterator[Database]:
    """Return the small database, only to be cloned."""
    with Databases(server) as databases:
        database = databases()
        database.execute(SHOP)
        yield database


@pytest.fixture
def shop(new_database: Databases, shop_template: Database) -> Database:
    """Return a clone of the small database; it has the same name in each test, as dumps are shared."""
    return new_database(template=shop_template, name="shop_of_restores")


@pytest.fixture(scope="module")
def dump_shop(shop_template: Database) -> Callable[..., Path]:
    """Return what puts a dump of a clone that nobody has changed into a project, which uses the clone from then on.

    It is made by `db.dump`, once for each option.
    """
    made: dict[str, Files] = {}

    def put(project: Project, shop: Database, option: str = "") -> Path:
        assert shop.server == shop_template.server
        project.use(shop)
        if option not in made:
            ran(project, "db.dump", *[option] * bool(option))
            made[option] = files_of(project)
        put_files(project, made[option])
        return newest(project)

    return put


@pytest.fixture(scope="module")
def text_of_everything(server: Server, template_of: Callable[[Server, bool], Database]) -> Callable[..., bytes]:
    """Return what dumps the database with everything in it as `dump_text` does, once for the same options."""
    return functools.cache(template_of(server, True).dump_text)


@pytest.fixture(scope="module")
def dump_of_everything(
    server: Server, template_of: Callable[[Server, bool], Database], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a dump of the database with everything in it, by `db.dump`."""
    project = Project.create(tmp_path_factory.mktemp("everything") / "project")
    ran(project.use(template_of(server, True)), "db.dump")
    return newest(project)


# The promise


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("role", ["postgres", OWNER])
def test_a_rollback_gives_sequences_their_values_back(database: Database, project: Project, role: str) -> None:
    """A dump of rows alone sets sequences of the target; setval itself is not undone by a rollback."""
    database.execute(
        "CREATE TABLE t (id serial, n int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO t (n) VALUES (1);"
        f"ALTER TABLE t OWNER TO {role}"
    )
    write(project, "rows.sql", pg_dump(database, "--data-only"))
    database.execute("SELECT setval('t_id_seq', 4711)")

    result = project.use(database, role).inv("db.restore", "--file=rows.sql", "--yes", "--no-backup")

    assert result.returncode == 5
    assert "t_n_key" in result.stderr
    assert database.execute("SELECT last_value, is_called FROM t_id_seq") == [(4711, True)]
    assert database.execute("SELECT id, n FROM t") == [(1, 1)]


@pytest.mark.all_majors
def test_restore_gives_everything_back_when_the_database_is_empty(
    dump_of_everything: Path, text_of_everything: Callable[..., bytes], new_database: Databases, project: Project
) -> None:
    """The database with everything in it, dumped and restored, dumps as the same text."""
    target = new_database()

    result = project.use(target).inv("db.restore", f"--file={dump_of_everything}", f"--confirm={target.name}")

    assert result.returncode == 0, result.stderr
    assert target.dump_text() == text_of_everything()


@pytest.mark.majors(14, 18)
def test_clean_restore_makes_filled_schemas_the_dump_when_they_hold_other_things(
    dump_of_everything: Path, text_of_everything: Callable[..., bytes], new_database: Databases, project: Project
) -> None:
    """Other tables, views, functions and types go; a schema that the dump lacks stays byte for byte."""
    target = new_database()
    target.execute(OTHERS)
    kept = target.dump_text(schemas=["kept"])
    flags = ["--clean", "--yes", f"--file={dump_of_everything}", f"--confirm={target.name}"]

    result = project.use(target).inv("db.restore", *flags)

    assert result.returncode == 0, result.stderr
    assert target.dump_text(exclude=["kept"]) == text_of_everything()
    assert target.dump_text(schemas=["kept"]) == kept


CASTS = """
CREATE TYPE color AS ENUM ('red');
CREATE FUNCTION color_text(color) RETURNS text LANGUAGE sql AS $$ SELECT 'red' $$;
CREATE FUNCTION color_json(color) RETURNS json LANGUAGE sql AS $$ SELECT '"red"'::json $$;
CREATE CAST (color AS text) WITH FUNCTION color_text(color);
CREATE CAST (color AS json) WITH FUNCTION color_json(color);
"""


@pytest.mark.majors(14, 18)
def test_clean_restore_creates_casts_to_builtin_types_again(database: Database, project: Project) -> None:
    """The catalogue names some of these types with their schema, and a dump does not."""
    database.execute(CASTS)
    dump = dumped(settings_of(project, database)).path
    before = database.dump_text()

    restored = restore(project, database, dump, clean=True)

    assert restored.complete
    assert database.dump_text() == before


@pytest.mark.majors(14, 18)
def test_clean_restore_works_when_the_owner_is_no_superuser(
    owner_everything: Database, new_database: Databases, server: Server, project: Project
) -> None:
    """A plain owner with a superuser's extensions gets the same result, as on a managed server."""
    empty, target = new_database(owner=OWNER), new_database(owner=OWNER)
    for each in (empty, target):
        each.execute(everything_sql.text(server.major, superuser=False, setup=True))
    target.execute(OTHERS, role=OWNER)
    kept = target.dump_text(schemas=["kept"])
    assert project.use(owner_everything, OWNER).inv("db.dump").returncode == 0

    filled = project.use(empty, OWNER).inv("db.restore", *project.into(empty))
    result = project.use(target, OWNER).inv("db.restore", "--clean", "--yes", *project.into(target))

    assert (filled.returncode, result.returncode) == (0, 0), filled.stderr + result.stderr
    expected = owner_everything.dump_text()
    assert empty.dump_text() == expected
    assert target.dump_text(exclude=["kept"]) == expected
    assert target.dump_text(schemas=["kept"]) == kept


@pytest.mark.majors(14, 18)
def test_clean_restore_changes_nothing_when_the_database_holds_the_dump(everything: Database, project: Project) -> None:
    """Restoring a dump over the database that it came from gives the same database."""
    before = everything.dump_text()
    assert project.use(everything).inv("db.dump").returncode == 0

    result = project.inv("db.restore", "--clean", "--yes")

    assert result.returncode == 0, result.stderr
    assert everything.dump_text() == before


# Formats


@pytest.mark.parametrize("option", ["", "--gzip", "--zstd"], ids=["sql", "gz", "zst"])
def test_restore_takes_each_compression(
    shop: Database, database: Database, project: Project, option: str, dump_shop: Callable[..., Path]
) -> None:
    """Plain, gzip and zstd dumps come back alike."""
    dump_shop(project, shop, option)

    result = project.use(database).inv("db.restore", *project.into(database))

    assert result.returncode == 0, result.stderr
    assert database.dump_text() == shop.dump_text()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.majors(14, 18)
def test_restore_takes_a_dump_with_a_byte_order_mark(
    server: Server,
    template_of: Callable[[Server, bool], Database],
    text_of_everything: Callable[..., bytes],
    new_database: Databases,
    project: Project,
    compressed: bool,
) -> None:
    """An editor that writes one does not make a dump unreadable: psql skips it."""
    target = new_database()
    target.execute(OTHERS)
    dump = b"\xef\xbb\xbf" + pg_dump(template_of(server, True), "--clean", "--if-exists")
    path = write(project, f"foreign.sql{'.gz' * compressed}", gzip.compress(dump) if compressed else dump)

    restore(project, target, path, clean=True)

    assert target.dump_text(exclude=["kept"]) == text_of_everything()


@pytest.mark.majors(14, 18)
def test_restore_takes_an_archive_when_pg_dump_made_one(
    server: Server,
    template_of: Callable[[Server, bool], Database],
    text_of_everything: Callable[..., bytes],
    new_database: Databases,
    project: Project,
) -> None:
    """A custom-format archive of everything comes back, over a database that holds other things."""
    target = new_database()
    target.execute(OTHERS)
    path = write(project, "foreign.dump", pg_dump(template_of(server, True), "--format=custom"))

    restore(project, target, path, clean=True)

    assert target.dump_text(exclude=["kept"]) == text_of_everything()


def test_restore_refuses_an_archive_when_it_is_a_tar(shop: Database, database: Database, project: Project) -> None:
    """A tar archive, which does not begin as a custom one, is refused as no dump and not misread."""
    path = write(project, "foreign.tar", pg_dump(shop, "--format=tar"))
    mark = Mark(database)

    with pytest.raises(BadInputError):
        restore(project, database, path)

    assert mark.is_untouched()


def test_restore_takes_the_newest_when_no_file_is_named(
    shop: Database, project: Project, dump_shop: Callable[..., Path]
) -> None:
    """The time in the name decides, and a part file is never taken."""
    dump_shop(project, shop)
    shop.execute("DELETE FROM app.item WHERE id > 100")
    project.inv("db.dump", "--gzip")
    write(project, "db_dump_2999-01-01T00-00-00-000Z.part", b"-- not yet a dump")
    before = shop.dump_text()
    shop.execute("DELETE FROM app.item")

    result = project.inv("db.restore", "--clean", "--yes")

    assert result.returncode == 0, result.stderr
    assert shop.dump_text() == before


# Dumps of others


@pytest.mark.parametrize(
    "options",
    [
        ("--verbose",),
        ("--load-via-partition-root",),
        ("--clean",),
        ("--clean", "--if-exists", "--no-comments"),
        ("--quote-all-identifiers",),
        ("--disable-dollar-quoting", "--serializable-deferrable"),
    ],
    ids=" ".join,
)
def test_restore_takes_a_foreign_dump_when_it_was_made_with_options(
    server: Server,
    template_of: Callable[[Server, bool], Database],
    text_of_everything: Callable[..., bytes],
    new_database: Databases,
    project: Project,
    options: Sequence[str],
) -> None:
    """Whatever the options, the text is split and loaded as psql would."""
    target = new_database()
    path = write(project, "foreign.sql", pg_dump(template_of(server, True), *options))
    same = [option for option in options if option == "--no-comments"]

    restore(project, target, path, clean=True)

    assert target.dump_text(*same) == text_of_everything(*same)


@pytest.mark.parametrize("option", ["--inserts", "--column-inserts", "--rows-per-insert=50"])
def test_restore_takes_a_foreign_dump_when_it_holds_inserts(
    everything: Database, new_database: Databases, project: Project, option: str
) -> None:
    """INSERTs of one row or of many are counted as rows are."""
    target = new_database()
    # What pg_dump writes for it in an INSERT is the integer 0.
    everything.execute("UPDATE app.vals SET f8 = 0 WHERE f8 = 0")
    path = write(project, "foreign.sql", pg_dump(everything, option))

    restored = restore(project, target, path, clean=True)

    assert restored.rows > 300
    assert target.dump_text() == everything.dump_text()


def test_restore_takes_a_foreign_dump_when_it_names_no_owner(
    everything: Database, new_database: Databases, project: Project
) -> None:
    """A dump made with --no-owner and --no-privileges makes everything ours."""
    target = new_database()
    path = write(project, "foreign.sql", pg_dump(everything, "--no-owner", "--no-privileges"))

    restore(project, target, path, clean=True)

    same = ("--no-owner", "--no-privileges")
    assert target.dump_text(*same, schemas=FILLED) == everything.dump_text(*same, schemas=FILLED)
    assert target.scalar("SELECT count(*) FROM pg_class WHERE relowner <> 10") == 0


@pytest.mark.parametrize(
    "options",
    [("--disable-triggers",), ("--inserts", "--on-conflict-do-nothing"), ()],
    ids=["disable-triggers", "on-conflict", "copy"],
)
def test_restore_takes_rows_alone_when_the_tables_are_there(
    shop: Database, new_database: Databases, project: Project, options: Sequence[str]
) -> None:
    """A dump made with --data-only fills the tables that a dump made with --schema-only made."""
    target = new_database()
    schema = write(project, "schema.sql", pg_dump(shop, "--schema-only"))
    rows = write(project, "rows.sql", pg_dump(shop, "--data-only", *options))
    restore(project, target, schema)

    restored = restore(project, target, rows)

    assert restored.rows == 420
    assert target.dump_text() == shop.dump_text()


def test_clean_restore_refuses_when_the_dump_holds_rows_alone(shop: Database, project: Project) -> None:
    """--clean with --data-only would leave nothing to put the rows in."""
    path = write(project, "rows.sql", pg_dump(shop, "--data-only"))
    mark = Mark(shop)

    with pytest.raises(BadInputError):
        restore(project, shop, path, clean=True)

    assert mark.is_untouched()


def test_restore_does_not_advise_clean_when_rows_alone_conflict(shop: Database, project: Project) -> None:
    """Rows that are there already roll back, and --clean, which would be refused, is not named."""
    path = write(project, "rows.sql", pg_dump(shop, "--data-only"))
    mark = Mark(shop)

    with pytest.raises(OperationFailedError) as caught:
        restore(project, shop, path)

    assert "--clean" not in str(caught.value)
    assert mark.is_untouched()


def test_restore_takes_sections_when_they_come_in_order(
    shop: Database, new_database: Databases, project: Project
) -> None:
    """The three pieces of --section make the whole."""
    target = new_database()

    for section in ("pre-data", "data", "post-data"):
        restore(project, target, write(project, f"{section}.sql", pg_dump(shop, f"--section={section}")))

    assert target.dump_text() == shop.dump_text()


def test_clean_restore_leaves_other_schemas_when_the_dump_holds_one(new_database: Databases, project: Project) -> None:
    """A dump made with -n fills one schema, and only that one is emptied."""
    source, target = new_database(), new_database()
    source.execute("CREATE SCHEMA app; CREATE TABLE app.t AS SELECT 1 AS n; CREATE TABLE public.t AS SELECT 2 AS n")
    target.execute("CREATE SCHEMA app; CREATE TABLE app.old (); CREATE TABLE public.t AS SELECT 3 AS n")
    path = write(project, "app.sql", pg_dump(source, "--schema=app"))

    restore(project, target, path, clean=True)

    assert target.dump_text(schemas=["app"]) == source.dump_text(schemas=["app"])
    assert target.scalar("SELECT n FROM public.t") == 3


# From one major to another


@pytest.fixture(scope="session")
def dumps_of(
    server_of: Callable[[int], Server], template_of: Callable[[Server, bool], Database]
) -> Callable[[int], tuple[bytes, bytes]]:
    """Return what gives the foreign dumps of a major: an application's tables, and everything."""
    made: dict[int, tuple[bytes, bytes]] = {}

    def dumps(major: int) -> tuple[bytes, bytes]:
        if major not in made:
            server = server_of(major)
            with Databases(server) as databases:
                journal = databases()
                journal_like(journal, 500)
                made[major] = pg_dump(journal), pg_dump(template_of(server, True))
        return made[major]

    return dumps


@pytest.mark.majors(14, 18)
def test_restore_takes_dumps_of_every_major_when_the_tables_are_plain(
    new_database: Databases, dumps_of: Callable[[int], tuple[bytes, bytes]], project: Project
) -> None:
    """An application's tables come from each of the five majors, older or newer."""
    reference = new_database()
    journal_like(reference, 500)
    texts = []

    for major in MAJORS:
        target = new_database()
        restore(project, target, write(project, f"from{major}.sql", dumps_of(major)[0]), clean=True)
        texts.append(target.dump_text())

    assert texts == [reference.dump_text()] * len(MAJORS)


# The majors to which everything of another one can't go: they don't know its syntax.
TOO_OLD = {15: {14}, 16: {14}, 17: {14}, 18: {14, 17}}


@pytest.mark.majors(14, 17, 18)
def test_restore_loads_or_rolls_back_when_everything_comes_from_another_major(
    server: Server, new_database: Databases, dumps_of: Callable[[int], tuple[bytes, bytes]], project: Project
) -> None:
    """Everything of each major loads, or ends in a sentence with the target as it was."""
    # Everything of its own major is there for its roles.
    dumps_of(server.major)
    for major in (each for each in MAJORS if each != server.major):
        target = new_database()
        target.execute("CREATE TABLE public.before AS SELECT 1 AS n")
        mark = Mark(target)
        path = write(project, f"from{major}.sql", dumps_of(major)[1])

        if server.major in TOO_OLD.get(major, ()):
            with pytest.raises(OperationFailedError):
                restore(project, target, path, clean=True)
            assert mark.is_untouched()
        else:
            assert restore(project, target, path, clean=True).rows > 300
            assert target.scalar("SELECT to_regclass('public.before') IS NULL")


# Without --clean


def test_restore_replaces_its_objects_when_clean_is_not_asked_for(
    shop: Database, project: Project, dump_shop: Callable[..., Path]
) -> None:
    """What our dump holds is replaced, and what it lacks stays."""
    dump_shop(project, shop)
    before = shop.dump_text()
    shop.execute("DELETE FROM app.item WHERE id < 50; UPDATE public.\"User\" SET email = 'x' || id")
    shop.execute("CREATE TABLE public.extra AS SELECT 7 AS n")

    result = project.inv("db.restore")

    assert result.returncode == 0, result.stderr
    assert shop.dump_text("--exclude-table=public.extra") == before
    assert shop.scalar("SELECT n FROM public.extra") == 7


def test_restore_rolls_back_when_a_foreign_dump_meets_its_tables(shop: Database, project: Project) -> None:
    """A dump without DROPs over the same tables changes nothing, and the sentence names --clean."""
    write(project, "foreign.sql", pg_dump(shop))
    shop.execute("DELETE FROM app.item WHERE id < 50")
    mark = Mark(shop)

    result = project.use(shop).inv("db.restore", "--file=foreign.sql")

    assert result.returncode == 5
    assert "already exists" in result.stderr
    assert "rolled back" in result.stderr
    assert "--clean" in result.stderr
    assert mark.is_untouched()


def test_restore_rolls_back_when_a_view_depends_on_what_the_dump_drops(
    shop: Database, project: Project, dump_shop: Callable[..., Path]
) -> None:
    """An object that the dump does not know keeps its table, and the sentence names --clean."""
    dump_shop(project, shop)
    shop.execute("CREATE VIEW app.mine AS SELECT * FROM app.item")
    mark = Mark(shop)

    result = project.inv("db.restore")

    assert result.returncode == 5
    assert "app.mine" in result.stderr
    assert "--clean" in result.stderr
    assert mark.is_untouched()


@pytest.mark.majors(14, 18)
def test_a_plain_restore_does_not_warn_of_what_it_keeps(
    shop: Database, project: Project, dump_shop: Callable[..., Path]
) -> None:
    """Other objects of the same schemas are there on purpose."""
    dump_shop(project, shop)
    shop.execute("CREATE TABLE app.other (id int); CREATE VIEW app.seen AS SELECT 1 AS one")

    result = project.inv("db.restore", "--yes")

    assert result.returncode == 0, result.stderr
    assert "app.other" not in result.stderr
    assert "app.seen" not in result.stderr
    assert shop.scalar("SELECT one FROM app.seen") == 1


# What --clean shows, and how long it waits


def test_clean_restore_shows_what_goes_and_stays_when_it_begins(
    shop: Database, project: Project, dump_shop: Callable[..., Path]
) -> None:
    """Host, database, what is lost and what is kept, and the price, are all said first."""
    dump_shop(project, shop)
    shop.execute("CREATE SCHEMA stays_here; ANALYZE")

    result = project.inv("db.restore", "--clean", "--yes")

    assert result.returncode == 0
    assert f"{shop.name} at 127.0.0.1:{shop.server.port}" in result.stderr
    goes = re.search(r"Will be deleted: .*", result.stderr)
    stays = re.search(r"Will be kept: .*", result.stderr)
    assert goes is not None
    assert "app, public" in goes[0]
    assert "(2 tables" in goes[0]
    assert "; about 420 rows, " in goes[0]
    assert stays is not None
    assert "stays_here" in stays[0]
    assert "These tables are locked until the restore ends." in result.stderr
    assert "Ctrl-C" not in result.stderr


def test_clean_restore_waits_three_seconds_when_yes_is_not_said(
    shop: Database, project: Project, dump_shop: Callable[..., Path]
) -> None:
    """There is time to press Ctrl-C before anything is touched."""
    dump_shop(project, shop)

    began = time.monotonic()
    # A fork would not wait.
    result = project.inv("db.restore", "--clean", fresh=True)

    assert time.monotonic() - began >= 3
    assert result.returncode == 0
    assert "Ctrl-C" in result.stderr


def test_restore_touches_nothing_when_it_is_a_dry_run(
    shop: Database, project: Project, dump_shop: Callable[..., Path]
) -> None:
    """`inv --dry` shows what a clean restore would do, and does nothing."""
    dump_shop(project, shop)
    shop.execute("CREATE TABLE public.extra AS SELECT 7 AS n")
    mark = Mark(shop)

    result = project.inv("--dry", "db.restore", "--clean")

    assert result.returncode == 0
    assert "Will be deleted: " in result.stderr
    assert mark.is_untouched()


# Refused before anything is touched


def _whole(statements: str) -> bytes:
    """Return a dump that holds these statements and pg_dump's own end."""
    return f"CREATE TABLE public.t (id integer);\n{statements}\n--\n-- PostgreSQL database dump complete\n--\n".encode()


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT;",
        "END;",
        "ROLLBACK;",
        "ABORT;",
        "SAVEPOINT s;",
        "RELEASE s;",
        "START TRANSACTION;",
        "PREPARE TRANSACTION 'x';",
        "BEGIN;\nCREATE TABLE public.u ();\nCOMMIT;",
        "SET TRANSACTION READ ONLY;",
        "SET CONSTRAINTS ALL DEFERRED;",
        "\\connect other",
        "\\c other",
        "\\! touch /tmp/pwned",
        "\\copy public.t FROM 'x'",
        "\\i other.sql",
        "\\gexec",
        "CREATE DATABASE other;",
        "DROP DATABASE other;",
        "ALTER DATABASE other SET work_mem = '1MB';",
        "CREATE TABLE u (); \\! true",
        "SET client_encoding = 'SJIS';",
    ],
)
def test_restore_refuses_before_anything_when_the_dump_holds(statement: str, shop: Database, project: Project) -> None:
    """Transaction control, commands of psql and other databases are refused, and nothing is touched."""
    path = write(project, "foreign.sql", _whole(statement))
    mark = Mark(shop)

    with pytest.raises(BadInputError) as refused:
        restore(project, shop, path, clean=True)
    assert isinstance(refused.value.__context__, RefusedError)

    assert mark.is_untouched()


def test_restore_says_how_to_dump_when_the_dump_was_made_with_create(shop: Database, project: Project) -> None:
    """A dump made with --create is refused with exit 2, and the sentence says which option to leave away."""
    write(project, "foreign.sql", pg_dump(shop, "--create"))
    mark = Mark(shop)

    result = project.use(shop).inv("db.restore", "--clean", "--yes", "--file=foreign.sql")

    assert result.returncode == 2
    assert "-C" in result.stderr
    assert "Traceback" not in result.stderr
    assert mark.is_untouched()


@pytest.mark.parametrize("manifest", [True, False], ids=["manifest", "bare"])
@pytest.mark.parametrize("option", ["", "--gzip", "--zstd"], ids=["sql", "gz", "zst"])
def test_restore_refuses_a_cut_dump_when_it_is_cut_anywhere(
    shop: Database, project: Project, option: str, *, manifest: bool, dump_shop: Callable[..., Path]
) -> None:
    """Cut at twenty places, one after the other, it is refused each time, and the target stays."""
    path = dump_shop(project, shop, option)
    whole = path.read_bytes()
    if not manifest:
        next(project.dumps.glob("*.manifest.json")).unlink()
    mark = Mark(shop)

    for place in range(1, 21):
        path.write_bytes(whole[: len(whole) * place // 21])
        with pytest.raises(BadInputError):
            restore(project, shop, path, clean=True)

    assert mark.is_untouched()


def test_restore_refuses_an_archive_when_it_is_cut(shop: Database, project: Project) -> None:
    """An archive whose contents list is whole, and whose rows are not, is refused."""
    whole = pg_dump(shop, "--format=custom")
    mark = Mark(shop)

    for place in (30, 60, 90, 99):
        path = write(project, "cut.dump", whole[: len(whole) * place // 100])
        with pytest.raises(BadInputError):
            restore(project, shop, path, clean=True)

    assert mark.is_untouched()


def test_restore_refuses_when_only_the_trailer_is_missing(shop: Database, project: Project) -> None:
    """A dump that ends between two statements lacks nothing but its last comment, and is refused."""
    whole = pg_dump(shop)
    path = write(project, "foreign.sql", whole.partition(b"--\n-- PostgreSQL database dump complete")[0])
    mark = Mark(shop)

    with pytest.raises(BadInputError):
        restore(project, shop, path, clean=True)

    assert mark.is_untouched()


def test_restore_refuses_a_trailer_when_it_stands_in_a_row(
    shop: Database, database: Database, project: Project
) -> None:
    """The trailer as a row of a table does not make a cut dump whole."""
    database.execute("CREATE TABLE t AS SELECT '-- PostgreSQL database dump complete' AS v FROM generate_series(1, 9)")
    whole = pg_dump(database)
    path = write(project, "foreign.sql", whole[: whole.rindex(b"\\.\n")])
    mark = Mark(shop)

    with pytest.raises(BadInputError):
        restore(project, shop, path, clean=True)

    assert mark.is_untouched()


@pytest.mark.parametrize("option", ["", "--gzip", "--zstd"], ids=["sql", "gz", "zst"])
def test_restore_refuses_when_a_byte_was_flipped(
    shop: Database, project: Project, option: str, dump_shop: Callable[..., Path]
) -> None:
    """Where there is a manifest no flipped byte gets through, be it in a row or in a name."""
    path = dump_shop(project, shop, option)
    whole = path.read_bytes()
    mark = Mark(shop)

    for place in range(1, 21):
        flipped = bytearray(whole)
        flipped[len(whole) * place // 21] ^= 0x01
        path.write_bytes(flipped)
        with pytest.raises(BadInputError):
            restore(project, shop, path, clean=True)

    assert mark.is_untouched()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", None),
        (b"\x00\x01\x02\x03" * 100, None),
        (b"\xff\xfe-\x00-\x00", "UTF-16"),
        (b"\xef\xbb\xbf-- PostgreSQL database dump", None),
        (b"hello, world\n", None),
        (b"\x1f\x8b nonsense", None),
        (gzip.compress(b""), None),
        (b"\x28\xb5\x2f\xfd nonsense", None),
        (b"PGDMP nonsense", None),
    ],
    ids=["empty", "binary", "utf16", "bom", "text", "gzip", "empty-gzip", "zstd", "archive"],
)
def test_restore_refuses_when_the_file_is_no_dump(
    shop: Database, project: Project, content: bytes, named: str | None
) -> None:
    """What is no dump is told from one by its content, whatever its name."""
    path = write(project, "db_dump_2999-01-01T00-00-00-000Z.sql", content)
    mark = Mark(shop)

    with pytest.raises(BadInputError, match=named):
        restore(project, shop, path, clean=True)

    assert mark.is_untouched()


def test_restore_refuses_when_the_file_is_missing_or_a_folder(shop: Database, project: Project) -> None:
    """A folder and a name that is nowhere are refused with exit 2."""
    project.write("dumps/folder/toc.dat", "x")
    project.use(shop)

    folder = project.inv("db.restore", "--file=folder")
    nowhere = project.inv("db.restore", "--file=nowhere.sql")
    none = project.inv("db.restore")

    assert [each.returncode for each in (folder, nowhere, none)] == [2, 2, 2]
    assert "is a folder" in folder.stderr
    assert "nowhere.sql" in nowhere.stderr


def test_restore_passes_over_a_broken_dump_when_it_is_the_newest(
    shop: Database, project: Project, dump_shop: Callable[..., Path]
) -> None:
    """A dump that is shorter than its manifest says is not taken by default, and that is said."""
    dump_shop(project, shop)
    project.inv("db.dump")
    broken = newest(project)
    broken.write_bytes(broken.read_bytes()[:-100])
    before = shop.dump_text()
    shop.execute("DELETE FROM app.item")

    result = project.inv("db.restore", "--clean", "--yes")

    assert result.returncode == 0
    assert broken.name in result.stderr
    assert shop.dump_text() == before


def test_restore_is_refused_when_the_configuration_protects_the_database(
    shop: Database, project: Project, dump_shop: Callable[..., Path]
) -> None:
    """db.protected names a database, and the guard says no."""
    dump_shop(project, shop)
    mark = Mark(shop)

    result = project.inv("db.restore", "--clean", "--yes", env={"INVOKE_DB_PROTECTED": f"prod*,{shop.name}"})

    assert result.returncode == 7
    assert mark.is_untouched()


# Rolled back half-way


def test_restore_leaves_nothing_when_an_error_stands_behind_large_objects(
    database: Database, new_database: Databases, project: Project
) -> None:
    """The COMMIT that pg_dump writes behind large objects does not end our transaction."""
    database.execute("SELECT lo_from_bytea(0, 'a large object'); CREATE TABLE t AS SELECT 1 AS n")
    whole = pg_dump(database)
    head, trailer, tail = whole.partition(b"--\n-- PostgreSQL database dump complete")
    path = write(project, "foreign.sql", head + b"SELECT 1/0;\n" + trailer + tail)
    target = new_database()
    target.execute("CREATE TABLE public.old AS SELECT 1 AS n")
    mark = Mark(target)

    with pytest.raises(OperationFailedError) as failed:
        restore(project, target, path, clean=True)

    assert sqlstate_of(failed.value) == "22012"
    assert b"lo_create" in whole
    assert mark.is_untouched()
    assert target.scalar("SELECT count(*) FROM pg_largeobject_metadata") == 0


def test_restore_rolls_back_when_a_row_does_not_fit(shop: Database, project: Project) -> None:
    """A value of the wrong type in the last row of the last table leaves every old row in place."""
    whole = pg_dump(shop)
    place = whole.rindex(b"\n\\.\n")
    path = write(project, "foreign.sql", whole[:place] + b"\nnot a number\tx" + whole[place:])
    mark = Mark(shop)

    with pytest.raises(OperationFailedError):
        restore(project, shop, path, clean=True)

    assert mark.is_untouched()


def test_restore_rolls_back_when_a_deferred_constraint_fails(new_database: Databases, project: Project) -> None:
    """What COMMIT would refuse is refused by the proof."""
    target = new_database()
    target.execute(
        "CREATE TABLE public.p (id integer PRIMARY KEY);"
        "CREATE TABLE public.c (p integer REFERENCES public.p DEFERRABLE INITIALLY DEFERRED)"
    )
    mark = Mark(target)
    rows = "COPY public.c (p) FROM stdin;\n1\n\\.\n--\n-- PostgreSQL database dump complete\n--\n"
    path = write(project, "rows.sql", rows.encode())

    with pytest.raises(OperationFailedError) as failed:
        restore(project, target, path)

    assert sqlstate_of(failed.value) == "23503"
    assert mark.is_untouched()


@pytest.mark.parametrize("way", ["changed", "removed", "truncated"])
def test_restore_rolls_back_when_the_file_changes_after_it_was_checked(
    shop: Database, project: Project, way: str
) -> None:
    """What was proven whole in the preflight must be what is loaded."""
    path = write(project, "foreign.sql", pg_dump(shop))
    settings = settings_of(project, shop)
    plan = plan_restore(settings, RestoreRequest(str(path), clean=True), Silence())
    mark = Mark(shop)
    whole = path.read_bytes()
    path.unlink()
    if way != "removed":
        path.write_bytes(whole.replace(b"user7@", b"userX@") if way == "changed" else whole[: len(whole) // 2])

    with pytest.raises(OperationFailedError):
        restore_dump(plan, Silence())

    assert mark.is_untouched()


def test_restore_says_how_many_rows_a_table_took(database: Database, project: Project) -> None:
    """A trigger that drops rows on their way in is noticed; psql commits what is left, and so do we."""
    database.execute(
        "CREATE TABLE public.t (id integer);"
        "CREATE FUNCTION public.skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER skip BEFORE INSERT ON public.t FOR EACH ROW WHEN (new.id = 2) EXECUTE FUNCTION public.skip()"
    )
    text = "COPY public.t (id) FROM stdin;\n1\n2\n3\n\\.\n--\n-- PostgreSQL database dump complete\n--\n"
    path = write(project, "rows.sql", text.encode())

    restored = restore(project, database, path)

    assert restored.changed == (Changed(("public", "t"), 3, 2),)
    assert restored.rows == 2
    assert database.scalar("SELECT count(*) FROM public.t") == 2


def test_restore_says_when_rows_come_from_somewhere_else(database: Database, project: Project) -> None:
    """A trigger that adds rows to a table of the dump is noticed."""
    database.execute(
        "CREATE TABLE public.t (id integer); CREATE TABLE public.u (id integer);"
        "CREATE FUNCTION public.more() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO public.u VALUES (9); RETURN new; END';"
        "CREATE TRIGGER more BEFORE INSERT ON public.u FOR EACH ROW WHEN (new.id = 1) EXECUTE FUNCTION public.more()"
    )
    text = "COPY public.u (id) FROM stdin;\n1\n2\n\\.\n--\n-- PostgreSQL database dump complete\n--\n"
    path = write(project, "rows.sql", text.encode())

    restored = restore(project, database, path)

    assert restored.changed == (Changed(("public", "u"), 2, 3),)
    assert database.scalar("SELECT count(*) FROM public.u") == 3


def test_restore_rolls_back_when_the_manifest_counts_other_rows(
    shop: Database, project: Project, dump_shop: Callable[..., Path]
) -> None:
    """Rows that agree with the file but not with its manifest are not committed."""
    path = dump_shop(project, shop)
    manifest = next(project.dumps.glob("*.manifest.json"))
    manifest.write_text(re.sub(r'"rows": 300', '"rows": 299', manifest.read_text(), count=1))
    mark = Mark(shop)

    with pytest.raises(OperationFailedError):
        restore(project, shop, path, clean=True)

    assert mark.is_untouched()


def test_restore_rolls_back_when_a_statement_ends_the_transaction_from_within(shop: Database, project: Project) -> None:
    """A procedure that commits can't do so inside our transaction."""
    text = "CREATE PROCEDURE public.p() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;\nCALL public.p();"
    path = write(project, "foreign.sql", _whole(text))
    mark = Mark(shop)

    with pytest.raises(OperationFailedError) as failed:
        restore(project, shop, path)

    assert sqlstate_of(failed.value) == "2D000"
    assert mark.is_untouched()


# Locks


def test_restore_refuses_when_a_prisma_migration_runs(
    shop: Database, project: Project, dump_shop: Callable[..., Path]
) -> None:
    """While another session holds Prisma's advisory lock nothing is touched."""
    dump_shop(project, shop)
    mark = Mark(shop)

    with blocking(shop, "SELECT pg_advisory_lock(72707369)"):
        result = project.inv("db.restore", "--clean", "--yes")

    assert result.returncode == 4
    assert "Prisma migration" in result.stderr
    assert mark.is_untouched()


def test_restore_names_who_is_in_the_way_when_a_lock_is_not_free(
    shop: Database, project: Project, dump_shop: Callable[..., Path]
) -> None:
    """A reader's open transaction ends the restore within lock_timeout, and is named."""
    dump_shop(project, shop)
    mark = Mark(shop)

    with blocking(shop, "SET application_name = 'the app'; SELECT count(*) FROM app.item") as other:
        pid = other.info.backend_pid
        began = time.monotonic()
        result = project.inv("db.restore", "--clean", "--yes", env={"INVOKE_DB_LOCK_TIMEOUT": "500ms"})

    # Half a second was allowed; the rest is for a busy machine. It would be for ever.
    assert time.monotonic() - began < 60
    assert result.returncode == 4
    assert f"{pid}" in result.stderr
    assert mark.is_untouched()


@pytest.fixture(scope="module")
def many_tables(server: Server) -> Iterator[tuple[Database, bytes]]:
    """Return a database of 600 tables, only to be cloned, and a dump of it."""
    with Databases(server) as databases:
        database = databases()
        make_tables(database, 600)
        yield database, pg_dump(database, "--clean", "--if-exists")


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "replace"])
def test_restore_works_when_it_has_600_tables(
    many_tables: tuple[Database, bytes], new_database: Databases, project: Project, *, clean: bool
) -> None:
    """A schema of 600 ordinary tables goes and comes in one transaction with PostgreSQL's own limits."""
    template, text = many_tables
    target = new_database(template=template)
    path = write(project, "foreign.sql", text)

    restored = restore(project, target, path, clean=clean)

    assert restored.tables == 600


def has_ended(database: Database) -> bool:
    """Return whether no session of ours is left; as long as one holds all locks, nobody can even log in."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'invoke-postgres'"
    try:
        return bool(database.scalar(query) == 0)
    except psycopg.OperationalError:
        return False


def test_restore_says_what_to_set_when_locks_would_run_out(database: Database, project: Project) -> None:
    """1,500 tables that are deleted and created are too many: a warning names the value to set, nothing is changed."""
    make_tables(database, 1500)
    path = write(project, "foreign.sql", pg_dump(database))

    result = project.use(database).inv("db.restore", "--clean", "--yes", "--no-backup", f"--file={path.name}")

    assert result.returncode == 5
    assert re.search(r"max_locks_per_transaction\b.*\b\d+", result.stderr)
    # The command has ended; the server may still be rolling back.
    eventually(lambda: has_ended(database), "the end of our session")
    assert database.scalar("SELECT count(*) FROM pg_class WHERE relname ~ '^t[0-9]+$'") == 1500


def test_restore_is_refused_when_the_server_is_not_there(
    shop: Database, project: Project, dump_shop: Callable[..., Path]
) -> None:
    """Exit 4, one sentence, no password."""
    dump_shop(project, shop)
    project.env["DATABASE_URL"] = shop.url.replace(str(shop.server.port), "1")

    result = project.inv("db.restore", "--clean", "--yes")

    assert result.returncode == 4
    assert "s3cr3t" not in result.stderr
