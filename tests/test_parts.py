"""Dumps of a part of a database: what they hold, what is compared, and that none is ever the newest."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tasks.dump.dump import Dumped
from tasks.dump.request import DumpRequest, Only, Part
from tasks.dumpfiles.dump_file import choose_dump
from tests.flows import Said, dumped, pg_dump, ran, restore_path, settings_of
from tests.servers import Server
from tests.support import Database, Databases, Project

SHOP = """
CREATE SCHEMA audit;
CREATE TYPE public."Role" AS ENUM ('ADMIN', 'USER');
CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE public."User" (id serial PRIMARY KEY, email text UNIQUE, role public."Role" DEFAULT 'USER');
CREATE TABLE public."Post" (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, author int NOT NULL REFERENCES public."User", title text
);
CREATE INDEX "Post_title" ON public."Post" (lower(title));
CREATE TRIGGER touch BEFORE UPDATE ON public."Post" FOR EACH ROW EXECUTE FUNCTION public.touch();
CREATE POLICY mine ON public."Post" USING (author > 0);
CREATE STATISTICS public.titles ON author, title FROM public."Post";
CREATE VIEW public.titles_of AS SELECT title FROM public."Post";
CREATE TABLE audit.log (id bigserial PRIMARY KEY, what text);
CREATE TABLE public.events (at date, what text) PARTITION BY RANGE (at);
CREATE TABLE public.events_2024 PARTITION OF public.events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE public.events_2025 PARTITION OF public.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE INDEX events_at ON public.events (at);
CREATE PUBLICATION all_of_them FOR TABLE public."User", audit.log;
INSERT INTO public."User" (email) VALUES ('a@example.com'), ('b@example.com');
INSERT INTO public."Post" (author, title) VALUES (1, 'one'), (1, 'two'), (2, 'three');
INSERT INTO audit.log (what) VALUES ('secret');
INSERT INTO public.events VALUES ('2024-05-05', 'x'), ('2025-05-05', 'y');
GRANT SELECT ON audit.log TO PUBLIC;
COMMENT ON TABLE public."Post" IS 'posts';
"""


@pytest.fixture(scope="module")
def source(server: Server) -> Iterator[Database]:
    """Return a database with two schemas, foreign keys, partitions, and objects of many kinds; only to be read."""
    with Databases(server) as new_database:
        database = new_database()
        database.execute(SHOP)
        yield database


@pytest.fixture
def shop(new_database: Databases, source: Database) -> Database:
    """Return a clone of that database."""
    return new_database(template=source)


@pytest.fixture(scope="module")
def restored_whole(server: Server, source: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Return a database into which a dump of that database was restored; only to be cloned."""
    project = Project.create(tmp_path_factory.mktemp("whole") / "project")
    with Databases(server) as new_database:
        target = new_database()
        restore_path(project, target, dumped(settings_of(project, source)).path)
        yield target


def part(project: Project, database: Database, said: Said | None = None, **asked: Any) -> Dumped:
    """Dump a part."""
    request = DumpRequest(part=Part(**asked), checksums=asked.get("only") is not Only.DEFINITIONS)
    return dumped(settings_of(project, database), request, said)


def rows_of(made: Dumped) -> dict[str, int]:
    """Return the rows of each table in a dump."""
    return {each.label: each.rows for each in made.manifest.tables}


ALL_ROWS = {
    "audit.log": 1,
    "public.Post": 3,
    "public.User": 2,
    "public.events_2024": 1,
    "public.events_2025": 1,
}
PARTS = {
    "a table": ({"tables": ("user",)}, {"public.User"}),
    "a pattern": ({"tables": ("event*",)}, {"public.events_2024", "public.events_2025"}),
    "a partitioned table": ({"tables": ("events",)}, {"public.events_2024", "public.events_2025"}),
    "tables of two schemas": ({"tables": ("audit.log", '"User"')}, {"audit.log", "public.User"}),
    "a table of another schema, by its name": ({"tables": ("log",)}, {"audit.log"}),
    "all but a table": ({"excluded_tables": ("Post",)}, ALL_ROWS.keys() - {"public.Post"}),
    "all but the table with the sequence": ({"excluded_tables": ("log",)}, ALL_ROWS.keys() - {"audit.log"}),
    "all but a partitioned table": (
        {"excluded_tables": ("events",)},
        {"audit.log", "public.Post", "public.User"},
    ),
    "a pattern but one": ({"tables": ("events*",), "excluded_tables": ("events_2024",)}, {"public.events_2025"}),
    "a schema": ({"schemas": ("audit",)}, {"audit.log"}),
    "the schema public": ({"schemas": ("PUBLIC",)}, ALL_ROWS.keys() - {"audit.log"}),
    "all but a schema": ({"excluded_schemas": ("aud*",)}, ALL_ROWS.keys() - {"audit.log"}),
    "definitions": ({"only": Only.DEFINITIONS}, set()),
    "definitions of a table": ({"only": Only.DEFINITIONS, "tables": ("User",)}, set()),
    "rows": ({"only": Only.ROWS}, ALL_ROWS.keys()),
    "rows of a schema": ({"only": Only.ROWS, "schemas": ("audit",)}, {"audit.log"}),
}


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize(("asked", "tables"), PARTS.values(), ids=PARTS.keys())
def test_a_part_holds_what_pg_dump_writes_for_it_and_restores(
    asked: dict[str, Any],
    tables: set[str],
    source: Database,
    restored_whole: Database,
    new_database: Databases,
    project: Project,
) -> None:
    """Restored where the rest of the database is, every object of it is as it was; so is what the manifest says."""
    made = part(project, source, **asked)
    assert rows_of(made) == {name: ALL_ROWS[name] for name in tables}
    target = new_database(template=restored_whole)
    if asked.get("only") is Only.ROWS:
        target.execute('TRUNCATE public."User", public."Post", audit.log, public.events')
    else:
        # pg_dump --clean drops without CASCADE: what depends on a part must not be there.
        definitions = made.manifest.facts["definitions"]
        for kind in ("table", "function", "type"):
            for name in definitions[kind]:
                target.execute(f"DROP {kind} IF EXISTS {name} CASCADE")

    restored = restore_path(project, target, made.path)

    assert restored.rows == sum(ALL_ROWS[name] for name in tables)
    assert not restored.differences
    verified = project.use(target).inv("db.verify", f"--file={made.path.name}", "--checksums")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_a_sequence_of_an_excluded_table_is_dumped_where_another_table_needs_it(
    shop: Database, new_database: Databases, project: Project
) -> None:
    """It belongs to no column then, in the dump and in its manifest."""
    shop.execute("CREATE TABLE public.other (id bigint DEFAULT nextval('audit.log_id_seq'))")
    made = part(project, shop, excluded_tables=("log", "events"))

    target = new_database()
    restored = restore_path(project, target, made.path)

    assert "audit.log_id_seq" not in made.manifest.facts["definitions"]["sequence"]
    assert "public.other" in made.manifest.facts["definitions"]["table"]
    assert restored.rows == 5


@pytest.mark.parametrize(
    "flags",
    [
        "--table=absent",
        "--exclude-table=absent*",
        "--schema=absent",
        "--exclude-schema=absent",
        '--table="User',
        "--table=",
        "--table=User --exclude-table=User",
        "--schema=audit --exclude-schema=aud*",
        "--table=User --schema=public",
        "--schema-only --data-only",
        "--schema-only --exclude-data=log",
    ],
)
def test_what_names_nothing_is_refused_and_nothing_is_written(flags: str, source: Database, project: Project) -> None:
    """Exit 2, without a dump, in a dry run, too."""
    for dry in ([], ["--dry"]):
        result = project.use(source).inv(*dry, "db.dump", *flags.split())

        assert result.returncode == 2, result.stderr
        assert not list(project.dumps.glob("db_dump*"))


def test_no_part_is_ever_the_newest(shop: Database, project: Project) -> None:
    """Nothing takes it without being told to, retention counts it apart, and all that shows dumps says what it is."""
    settings = settings_of(project, shop)
    whole = dumped(settings)
    made = part(project, shop, tables=("User",))
    said = Said()
    project.use(shop)

    assert choose_dump(settings, "", said) == whole.path
    assert any(made.path.name in warning and "public.User" in warning for warning in said.warnings)
    planned = project.inv("--dry", "db.restore", "--clean")
    assert whole.path.name in planned.stderr
    assert "only public.User" in ran(project, "db.list")
    assert "Only public.User" in ran(project, "db.inspect", f"--file={made.path.name}")
    listed = {each["name"]: each for each in json.loads(project.inv("db.list", "--json").stdout)["dumps"]}
    assert listed[made.path.name]["part"] == "only public.User"
    assert listed[whole.path.name]["part"] is None
    asked = project.inv("db.show", "--table=Post", f"--file={made.path.name}")
    assert asked.returncode == 2
    assert "only public.User" in asked.stderr
    assert "user1" not in ran(project, "db.show", '--table="User"', f"--file={made.path.name}")
    project.env["INVOKE_DB_KEEP"] = "last=1"
    plan = project.inv("--dry", "db.prune").stdout
    assert plan.count("keep") == 2


def test_a_clean_restore_of_a_part_says_what_it_would_delete(shop: Database, project: Project) -> None:
    """The preview counts the tables that the dump does not hold."""
    shop.execute("DROP PUBLICATION all_of_them")
    made = part(project, shop, tables=("User",))

    shown = project.use(shop).inv("--dry", "db.restore", "--clean", f"--file={made.path.name}")

    assert shown.returncode == 0, shown.stderr
    assert "the dump holds 1 of these" in shown.stderr
    assert "public.Post" in shown.stderr
    assert "only public.User" in shown.stderr


def test_rows_alone_are_added_to_what_a_table_holds(shop: Database, project: Project) -> None:
    """As with psql; the target's own triggers may change them."""
    made = part(project, shop, only=Only.ROWS, tables=("log",))
    text = made.path.read_text(encoding="utf-8")
    assert "CREATE" not in text
    assert "DROP" not in text
    shop.execute("UPDATE audit.log SET id = 7")

    shown = project.use(shop).inv("--dry", "db.restore", f"--file={made.path.name}")
    assert "replaced" not in shown.stderr
    restore_path(project, shop, made.path)

    assert shop.scalar("SELECT count(*) FROM audit.log") == 2
    shop.execute(
        "TRUNCATE audit.log; CREATE FUNCTION audit.skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER skip BEFORE INSERT ON audit.log FOR EACH ROW EXECUTE FUNCTION audit.skip()"
    )
    restore_path(project, shop, made.path)
    assert shop.scalar("SELECT count(*) FROM audit.log") == 0


def test_a_key_to_a_table_that_is_not_in_the_dump_is_said(
    shop: Database, new_database: Databases, project: Project
) -> None:
    """db.dump says it; where that table is missing, all but the key is restored, as by psql (exit code 6)."""
    said = Said()
    made = part(project, shop, said, tables=("Post",))
    target = new_database()
    target.execute("CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")

    result = project.use(target).inv("db.restore", f"--file={made.path.name}", f"--confirm={target.name}")

    assert any("Post_author_fkey" in warning for warning in said.warnings)
    assert result.returncode == 6, result.stderr
    assert "Post_author_fkey" in result.stderr
    assert target.scalar('SELECT count(*) FROM "Post"') == 3


@pytest.mark.majors(14, 18)
def test_a_partition_without_its_table_is_said(shop: Database, new_database: Databases, project: Project) -> None:
    """Its table is in another schema: db.dump names both; a restore attaches it if the table is there."""
    shop.execute(
        "CREATE TABLE audit.events_2026 PARTITION OF public.events FOR VALUES FROM ('2026-01-01') TO (MAXVALUE)"
    )
    shop.execute("INSERT INTO public.events VALUES ('2026-05-05', 'z')")
    shop.execute("DROP INDEX public.events_at; DROP PUBLICATION all_of_them")
    said, quiet = Said(), Said()
    made = part(project, shop, said, schemas=("audit",))
    part(project, shop, quiet, only=Only.ROWS, schemas=("audit",))
    part(project, shop, quiet, excluded_schemas=("audit",))
    target = new_database()

    missing = project.use(target).inv("db.restore", f"--file={made.path.name}", f"--confirm={target.name}")
    shop.execute("DELETE FROM audit.events_2026")
    restored = project.use(shop).inv("db.restore", f"--file={made.path.name}", "--yes")

    assert [w for w in said.warnings if "audit.events_2026 (of public.events)" in w]
    assert not [w for w in quiet.warnings if "events_2026" in w]
    assert missing.returncode == 5, missing.stdout
    assert restored.returncode == 0, restored.stderr
    assert shop.scalar("SELECT count(*) FROM public.events") == 3


@pytest.mark.majors(14, 18)
def test_definitions_of_everything_are_those_of_the_manifest(
    everything: Database, new_database: Databases, project: Project
) -> None:
    """Objects of every kind, and materialized views, which have no rows then."""
    made = part(project, everything, only=Only.DEFINITIONS)
    target = new_database()

    restored = restore_path(project, target, made.path, clean=True)

    assert restored.rows == 0
    assert not restored.differences
    assert made.manifest.facts["definitions"]["view"].keys() >= {'app."counts of; counts"'}
    verified = project.use(target).inv("db.verify", f"--file={made.path.name}")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_large_tables_of_a_part_are_read_by_our_sessions(
    new_database: Databases, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes as pg_dump's for the selected tables, and not a row of the others."""
    monkeypatch.setattr("tasks.dump.dump.count_processors", lambda: 4)
    database = new_database()
    for name in ("big", "other", "small"):
        database.execute(f"CREATE TABLE {name} AS SELECT n, repeat('x', 100) AS t FROM generate_series(1, 2) n")
    database.execute("INSERT INTO big SELECT n, repeat('y', 200) FROM generate_series(1, 60000) n")

    made = part(project, database, tables=("big", "small"))

    theirs = pg_dump(database, "--clean", "--if-exists", "--table=big", "--table=small")
    assert rows_of(made) == {"public.big": 60002, "public.small": 2}
    assert {line for line in theirs.splitlines() if b"restrict" not in line} - set(
        made.path.read_bytes().replace(b'"', b"").splitlines()
    ) == set()
