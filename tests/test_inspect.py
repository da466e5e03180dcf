"""Inspect tells what a dump holds, from its manifest or by reading a foreign one."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tasks.dump.dump import make_dump
from tasks.dump.request import DumpRequest
from tasks.dumpfiles.catalog import Inspected, inspect_dump
from tasks.dumpformat.compression import Compression
from tasks.errors import BadInputError
from tasks.progress import Silence
from tests.flows import newest, pg_dump, settings_of, write
from tests.schemas import HISTORY, SHOP
from tests.support import Database, Databases, Project

ODD = "3_odd\tname\nof \\ two\x0blines\r\x08\x0c é"
STATES = [("1_applied", "applied"), ("2_rolled_back", "baselined"), ("2_rolled_back", "rolled back"), (ODD, "failed")]
ROWS = {"public.User": 120, "app.item": 300, "public._prisma_migrations": 4}


@pytest.fixture
def shop(new_database: Databases, project: Project) -> Database:
    """Return a small database with a history; the project works with it."""
    database = new_database()
    database.execute(SHOP + HISTORY + "UPDATE _prisma_migrations SET applied_steps_count = 1 WHERE id = '1';")
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO _prisma_migrations (id, checksum, migration_name, started_at)"
            " VALUES ('4', 'c', %s, now() + interval '1 minute')",
            [ODD],
        )
    project.use(database)
    return database


def look(project: Project, database: Database, file: str = "") -> Inspected:
    """Inspect in this process."""
    return inspect_dump(settings_of(project, database), file, Silence())


def dumped(project: Project, database: Database, **keys: Any) -> Path:
    """Make a dump of ours."""
    made = make_dump(settings_of(project, database), DumpRequest(**keys), Silence())
    assert made is not None
    return made.path


def rows(inspected: Inspected) -> dict[str, int]:
    """Tell the rows of each table."""
    return {f"{each.schema}.{each.name}": each.rows for each in inspected.tables}


def states(inspected: Inspected) -> list[tuple[str, str]]:
    """Tell the state of each migration."""
    assert inspected.history is not None
    return sorted((past.name, past.state.value) for past in inspected.history)


@pytest.mark.parametrize("compression", list(Compression))
def test_a_dump_of_ours_is_told_from_its_manifest(compression: Compression, shop: Database, project: Project) -> None:
    """Rows, versions, history and note."""
    path = dumped(project, shop, compression=compression, note="before")

    found = look(project, shop)

    assert found.path == path
    assert found.manifest is not None
    assert found.manifest.note == "before"
    assert rows(found) == ROWS
    assert states(found) == STATES
    assert found.server == shop.scalar("SHOW server_version")
    assert found.client.startswith(f"{shop.server.major}.")
    assert (found.size, found.content) == (path.stat().st_size, found.manifest.content.size)
    assert found.outline.schemas == ("app", "public")


def test_a_dump_compressed_by_hand_is_read_and_keeps_its_manifest(shop: Database, project: Project) -> None:
    """The size of the file is no longer the manifest's; all else is."""
    path = dumped(project, shop, note="before")
    other = write(project, f"{path.name}.gz", gzip.compress(path.read_bytes()))
    ours = look(project, shop)
    path.unlink()

    found = look(project, shop)

    assert found.path == other
    assert found.size == other.stat().st_size
    assert found.manifest == ours.manifest
    assert (found.content, found.tables, found.outline, found.history) == (
        ours.content,
        ours.tables,
        ours.outline,
        ours.history,
    )


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("form", ["plain", "gzip", "archive"])
def test_a_foreign_dump_is_read(form: str, shop: Database, project: Project) -> None:
    """All that its text says, whatever its form."""
    options = ["-Fc"] if form == "archive" else []
    content = pg_dump(shop, *options)
    name = {"plain": "foreign.sql", "gzip": "foreign.sql.gz", "archive": "foreign.dump"}[form]
    write(project, name, gzip.compress(content) if form == "gzip" else content)

    found = look(project, shop, name)

    assert found.manifest is None
    assert rows(found) == ROWS
    assert states(found) == STATES
    assert found.server.startswith(f"{shop.server.major}.")
    assert found.client.startswith(f"{shop.server.major}.")
    assert found.size == (project.dumps / name).stat().st_size
    assert found.outline.schemas == ("app", "public")


def test_the_history_read_is_the_history_of_the_manifest(shop: Database, project: Project) -> None:
    """Both ways tell the same of one database, in the same order."""
    dumped(project, shop)
    write(project, "foreign.sql", pg_dump(shop))

    ours, foreign = look(project, shop), look(project, shop, "foreign.sql")

    assert ours.history == foreign.history
    assert ours.history is not None
    assert ours.history[-1].name == ODD


HISTORIES = {
    "no such table": ("CREATE TABLE t AS SELECT 1 AS n", None),
    "another table of that name": ("CREATE TABLE _prisma_migrations AS SELECT 1 AS id, 'x' AS migration_name", None),
    "no rows": (HISTORY + "DELETE FROM _prisma_migrations", 0),
    "in another schema": (f"CREATE SCHEMA tenant; SET search_path = tenant; {HISTORY}", 3),
    "in several schemas": (
        f"CREATE SCHEMA a; SET search_path = a; {HISTORY} SET search_path = public; {HISTORY}"
        "DELETE FROM _prisma_migrations WHERE id <> '1'; CREATE SCHEMA z; SET search_path = z;" + HISTORY,
        1,
    ),
}


@pytest.mark.parametrize(("statements", "count"), HISTORIES.values(), ids=HISTORIES.keys())
def test_the_history_is_read_where_there_is_one(
    statements: str, count: int | None, database: Database, project: Project
) -> None:
    """That of `public` where there are several; another table of that name is none."""
    database.execute(statements)
    write(project, "foreign.sql", pg_dump(database))

    found = look(project, database, "foreign.sql")

    assert (None if found.history is None else len(found.history)) == count


def test_a_manifest_with_a_history_of_another_kind_is_shown(shop: Database, project: Project) -> None:
    """Somebody may have edited it, and a later version may say more of each migration."""
    dumped(project, shop)
    path = next(project.dumps.glob("*.manifest.json"))
    document = json.loads(path.read_bytes())
    shown = []
    for history in ([{"name": "1", "steps": 3, "finished": "x"}, "odd"], {"odd": 1}, None):
        document["facts"]["history"] = history
        path.write_text(json.dumps(document), encoding="utf-8")
        shown.append(look(project, shop).history)

    assert shown[0] is not None
    assert [(past.name, past.state.value) for past in shown[0]] == [("1", "applied")]
    assert shown[1:] == [None, None]


# What is no whole dump


def test_a_dump_that_is_not_whole_is_refused(shop: Database, project: Project) -> None:
    """Cut, damaged, changed, empty, or something else: there is nothing that could be told for sure."""
    path = dumped(project, shop)
    text = path.read_bytes()
    broken = {
        path.name: text[:-400],
        "cut.sql": text[: len(text) // 2],
        "cut.sql.gz": gzip.compress(text)[:-20],
        "damaged.sql.gz": gzip.compress(text)[:-200] + bytes(192) + gzip.compress(text)[-8:],
        "empty.sql": b"",
        "binary.sql": b"\x7fELF\0\0\0",
        "else.sql": b"SELECT 1;\n",
        "archive.dump": pg_dump(shop, "-Fc")[:-1000],
    }

    for name, content in broken.items():
        write(project, name, content)
        with pytest.raises(BadInputError):
            look(project, shop, name)
    path.write_bytes(text.replace(b"user7@", b"user77@"))
    with pytest.raises(BadInputError):
        look(project, shop, path.name)


@pytest.mark.parametrize(
    ("file", "said"), [("cut.sql", "cut.sql is not a dump, or it is damaged"), ("none.sql", "There is no dump")]
)
def test_a_refusal_is_a_sentence_and_ends_in_2(file: str, said: str, project: Project, database: Database) -> None:
    """No traceback."""
    database.execute(SHOP)
    write(project, "cut.sql", pg_dump(database)[:-200])

    result = project.use(database).inv("db.inspect", f"--file={file}")

    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


# What a person sees


def test_people_see_all_of_it(shop: Database, project: Project) -> None:
    """Of ours, with note and source; of a foreign one, with what is missing; no server is asked."""
    path = dumped(project, shop, note="before the [billing] migration")
    write(project, "foreign.sql", pg_dump(shop, "--exclude-table=_prisma_migrations"))
    project.env["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/nothing"

    ours, foreign = project.inv("db.inspect"), project.inv("db.inspect", "--file=foreign.sql")

    assert [ours.returncode, foreign.returncode] == [0, 0], ours.stderr + foreign.stderr
    for text in (path.name, "424 rows", "Note: before the [billing] migration", "app.item", "1_applied", "failed"):
        assert text in ours.stdout
    assert f" of {shop.name} at 127.0.0.1" in ours.stdout
    for text in ("420 rows", "No manifest", "No migration history", "app.item", "PostgreSQL 17."):
        assert text in foreign.stdout


def test_people_see_what_it_leaves_out_and_what_proves_it(shop: Database, project: Project) -> None:
    """Nobody restores half of a database without having been told."""
    project.use(shop)
    assert project.inv("db.dump", "--exclude-data=app.item", "--checksums", "--note=small").returncode == 0

    name = f"--file={newest(project).name}"
    inspected, listed = project.inv("db.inspect", name).stdout, project.inv("db.list").stdout
    (document,) = json.loads(project.inv("db.list", "--json").stdout)["dumps"]

    assert "Without the rows of app.item" in inspected
    sums = json.loads(next(project.dumps.glob("*.manifest.json")).read_bytes())["facts"]["checksums"]
    assert f"With checksums of {len(sums)} tables, " in inspected
    assert "without the rows of app.item; small" in listed
    assert (document["excluded"], document["checksums"]) == (["app.item"], True)


def test_programs_read_json(shop: Database, project: Project) -> None:
    """With the whole manifest, and null where there is none."""
    path = dumped(project, shop, note="ünïcödé")
    write(project, "foreign.sql", pg_dump(shop))

    ours = json.loads(project.inv("db.inspect", "--json").stdout)
    foreign = json.loads(project.inv("db.inspect", "--file=foreign.sql", "--json").stdout)

    assert ours["path"] == str(path)
    assert ours["manifest"] == json.loads(next(project.dumps.glob("*.manifest.json")).read_bytes())
    assert ours["manifest"]["note"] == "ünïcödé"
    assert foreign["manifest"] is None
    for document in (ours, foreign):
        assert document["rows"] == 424
        assert {"schema": "app", "name": "item", "rows": 300} in document["tables"]
        assert document["server_version"].startswith("17.")
        assert [each["name"] for each in document["migrations"]][-1] == ODD
        assert document["outline"]["schemas"] == ["app", "public"]
