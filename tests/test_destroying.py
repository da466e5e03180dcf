"""A dump that changes or deletes what it did not create is shown, asked about, saved from and can be undone."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.flows import far, saved
from tests.marks import Mark
from tests.schemas import APP, DUMP_END
from tests.servers import OWNER
from tests.support import Databases, without_restrict

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Server
    from tests.support import Database, Project

FOLDER = Path(__file__).parent / "destroying"
FRESH = "CREATE SCHEMA fresh;\nCREATE TABLE fresh.t (a int);\n"
USERS = r"app\.users \(about 3 rows\)"
ANYTHING = "anything in the database"
STATEMENTS: dict[str, tuple[str, str]] = {
    "truncate": ("TRUNCATE app.users;", f"{USERS}: TRUNCATE on line 3"),
    "drop": (
        "DROP TABLE IF EXISTS app.users CASCADE;",
        f"{USERS} and everything that depends on it: DROP TABLE … CASCADE on line 3",
    ),
    "column": ("ALTER TABLE app.users DROP COLUMN email CASCADE;", f"{ANYTHING}: ALTER TABLE on line 3"),
    "merge": (
        "MERGE INTO app.users u USING (VALUES (1)) AS s(id) ON u.id = s.id WHEN MATCHED THEN DELETE;",
        f"{ANYTHING}: MERGE on line 3",
    ),
    "call": ("CALL app.p();", f"{ANYTHING}: CALL on line 3"),
    "do": ("DO $$ BEGIN DELETE FROM app.users; END $$;", f"{ANYTHING}: DO on line 3"),
    "select": ("SELECT app.f();", f"{ANYTHING}: SELECT on line 3"),
    "insert": ("INSERT INTO fresh.t VALUES (app.f());", f"{ANYTHING}: INSERT on line 3"),
    "rule": (
        "CREATE RULE r AS ON INSERT TO fresh.t DO ALSO DELETE FROM app.users;\nINSERT INTO fresh.t VALUES (1);",
        f"{ANYTHING}: INSERT on line 4",
    ),
    "view": (
        "CREATE VIEW fresh.v AS SELECT * FROM app.users;\nDELETE FROM fresh.v;",
        f"{ANYTHING}: DELETE on line 4",
    ),
    "function": (
        "CREATE OR REPLACE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 2';",
        r"app\.f: CREATE OR REPLACE FUNCTION on line 3",
    ),
}


@pytest.fixture
def shop(new_database: Databases, project: Project) -> Database:
    """Return a database of an ordinary role that the project's URL names."""
    shop = new_database(owner=OWNER)
    shop.execute(APP, role=OWNER)
    project.use(shop, OWNER).env.pop("INVOKE_DB_TRUST")
    return shop


@pytest.fixture(scope="module")
def text_of(server: Server) -> Callable[[str], bytes]:
    """Return what dumps a database that holds only some SQL, once for each SQL and server."""

    @functools.cache
    def text(content: str) -> bytes:
        with Databases(server) as new_database:
            database = new_database(owner=OWNER)
            database.execute(content, role=OWNER)
            return database.dump_text()

    return text


@pytest.mark.parametrize("kind", STATEMENTS)
@pytest.mark.majors(15, 18)
def test_destroying_statement_outside_the_dumps_schemas(
    kind: str, shop: Database, project: Project, text_of: Callable[[str], bytes]
) -> None:
    """Far away it needs the name, and then it is shown, saved from, and can be undone."""
    text, shown = STATEMENTS[kind]
    project.write("dumps/foreign.sql", FRESH + text + DUMP_END)
    far(project)
    before, mark = text_of(APP), Mark(shop)

    refused = project.inv("db.restore", "--file=foreign.sql", "--yes")
    untouched = mark.is_untouched()
    named = project.inv("db.restore", "--file=foreign.sql", "--yes", f"--confirm={shop.name}")
    after, made = shop.dump_text(), saved(project)
    undone = project.inv("db.undo", "--yes", f"--confirm={shop.name}")

    assert (refused.returncode, untouched) == (7, True), refused.stderr
    assert re.search(shown, refused.stderr), refused.stderr
    assert named.returncode == 0, named.stderr
    assert after != before
    assert len(made) == 1, named.stderr
    assert undone.returncode == 0, undone.stderr
    assert without_restrict(shop.dump_text()) == without_restrict(before)


@pytest.mark.majors(15, 18)
def test_upsert_changes_rows_of_a_table_that_exists(shop: Database, project: Project) -> None:
    """So it needs the name far away, and is shown."""
    text = "INSERT INTO app.users VALUES (1, 'z') ON CONFLICT (id) DO UPDATE SET email = EXCLUDED.email;"
    project.write("dumps/foreign.sql", FRESH + text + DUMP_END)
    far(project)
    mark = Mark(shop)

    refused = project.inv("db.restore", "--file=foreign.sql", "--yes")

    assert (refused.returncode, mark.is_untouched()) == (7, True), refused.stderr
    assert re.search(f"{ANYTHING}: INSERT on line 3", refused.stderr)


@pytest.mark.majors(15, 18)
def test_adding_rows_to_a_table_that_exists_is_asked_about(shop: Database, project: Project) -> None:
    """The rows are new, but the table is not the dump's: shown, named far away, saved, and undone."""
    project.write("dumps/foreign.sql", FRESH + "COPY app.users (id) FROM stdin;\n7\n\\.\n" + DUMP_END)
    far(project)

    refused = project.inv("db.restore", "--file=foreign.sql", "--yes")
    named = project.inv("db.restore", "--file=foreign.sql", "--yes", f"--confirm={shop.name}")
    added = shop.scalar("SELECT count(*) FROM app.users")
    undone = project.inv("db.undo", "--yes", f"--confirm={shop.name}")

    assert refused.returncode == 7, refused.stderr
    assert re.search(f"{USERS}: COPY on line 3", refused.stderr), refused.stderr
    assert (named.returncode, added) == (0, 4), named.stderr
    assert undone.returncode == 0, undone.stderr
    assert shop.scalar("SELECT count(*) FROM app.users") == 3


@pytest.mark.parametrize("clean", [False, True], ids=["plain", "clean"])
@pytest.mark.parametrize("local", [False, True], ids=["far", "local"])
@pytest.mark.parametrize("name", ["truncate", "delete", "update", "do"])
@pytest.mark.majors(15, 18)
def test_dump_that_changes_existing_rows(
    name: str,
    local: bool,
    clean: bool,
    new_database: Databases,
    project: Project,
    text_of: Callable[[str], bytes],
) -> None:
    """Case by case: the question, the preview, the safety dump and the way back."""
    shop = new_database(owner=OWNER)
    content = (FOLDER / "before.sql").read_text(encoding="utf-8")
    shop.execute(content, role=OWNER)
    project.use(shop, OWNER).env.pop("INVOKE_DB_TRUST")
    project.write("dumps/foreign.sql", (FOLDER / f"{name}.sql").read_text(encoding="utf-8"))
    if not local:
        far(project)
    before, mark = text_of(content), Mark(shop)
    flags = ["--file=foreign.sql", "--yes", *(["--clean"] if clean else [])]

    first = project.inv("db.restore", *flags)
    untouched = mark.is_untouched()
    second = first if local else project.inv("db.restore", *flags, f"--confirm={shop.name}")

    if clean and name != "do":
        # Rows alone: nothing would be left to put them in.
        assert (second.returncode, mark.is_untouched()) == (2, True)
        return
    assert second.returncode == 0, second.stderr
    assert (first.returncode, untouched) == ((0, False) if local else (7, True))
    assert not local or shop.dump_text() != before
    assert re.search(r'Will be changed: (public\."?(Order|User)"?|anything)', second.stderr), second.stderr
    assert len(saved(project)) == 1
    undone = project.inv("db.undo", "--yes", f"--confirm={shop.name}")
    assert undone.returncode == 0, undone.stderr
    assert without_restrict(shop.dump_text()) == without_restrict(before)


def test_plain_restore_over_tables_shows_and_waits(shop: Database, project: Project) -> None:
    """As with --clean: what it replaces, and three seconds to stop it."""
    project.write("dumps/foreign.sql", "DROP TABLE app.users CASCADE;\nCREATE TABLE app.users (id int);\n" + DUMP_END)

    began = time.monotonic()
    # A fork would not wait.
    result = project.inv("db.restore", "--file=foreign.sql", fresh=True)

    assert result.returncode == 0, result.stderr
    assert "app.users (about 3 rows)" in result.stderr
    assert "3 seconds" in result.stderr
    assert time.monotonic() - began > 3
    assert len(saved(project)) == 1
    assert shop.scalar("SELECT count(*) FROM app.users") == 0


def test_plain_restore_into_an_empty_database_does_not_wait(
    shop: Database, new_database: Databases, project: Project
) -> None:
    """Of what is not here nothing is lost, whatever the dump may do."""
    project.write(
        "dumps/foreign.sql",
        FRESH + "DO 'BEGIN END';\nDROP TABLE IF EXISTS app.users;\nTRUNCATE fresh.t;\n" + DUMP_END,
    )
    far(project)
    project.use(new_database(owner=OWNER), OWNER)

    result = project.inv("db.restore", "--file=foreign.sql")

    assert result.returncode == 0, result.stderr
    assert "Will be" not in result.stderr
    assert shop.scalar("SELECT count(*) FROM app.users") == 3


def test_manifest_that_hides_a_touch_is_found_out(shop: Database, project: Project) -> None:
    """What the text does is compared inside the transaction with what the manifest says of it."""
    assert project.inv("db.dump", "--file=ours.sql").returncode == 0
    path, manifest = project.dumps / "ours.sql", project.dumps / "ours.manifest.json"
    end = b"--\n-- PostgreSQL database dump complete"
    text = path.read_bytes().replace(end, b"\nDO 'BEGIN END';\n" + end)
    path.write_bytes(text)
    document = json.loads(manifest.read_bytes())
    for key in ("file", "content"):
        document[key].update({"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()})
    manifest.write_text(json.dumps(document), encoding="ascii")
    mark = Mark(shop)

    result = project.inv("db.restore", "--clean", "--yes", "--file=ours.sql")

    assert result.returncode == 5, result.stderr
    assert "the outline in its manifest" in result.stderr
    assert mark.is_untouched()


@pytest.mark.parametrize("missing", ["touches", "facts"])
@pytest.mark.majors(15, 18)
def test_manifest_that_does_not_say_what_the_dump_destroys(
    missing: str, shop: Database, new_database: Databases, project: Project
) -> None:
    """As those of earlier versions, or one that somebody wrote: then the text itself says it."""
    far(project)
    other = new_database(owner=OWNER)
    other.execute("CREATE SCHEMA fresh; CREATE TABLE fresh.t (a int)", role=OWNER)
    assert project.use(other, OWNER).inv("db.dump", "--file=ours.sql").returncode == 0
    path, manifest = project.dumps / "ours.sql", project.dumps / "ours.manifest.json"
    end = b"--\n-- PostgreSQL database dump complete"
    gone = b"DROP TABLE app.users;\nCREATE TABLE app.users (id int);\n\n"
    more = b"TRUNCATE app.users;\n\n" if missing == "touches" else gone
    text = path.read_bytes().replace(end, more + end)
    path.write_bytes(text)
    document = json.loads(manifest.read_bytes())
    for key in ("file", "content"):
        document[key].update({"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()})
    del (document["outline"] if missing == "touches" else document)[missing]
    manifest.write_text(json.dumps(document), encoding="ascii")
    project.use(shop, OWNER)
    shop.execute("DROP VIEW app.names", role=OWNER)
    mark = Mark(shop)

    refused = project.inv("db.restore", "--yes", "--file=ours.sql")

    assert (refused.returncode, mark.is_untouched()) == (7, True), refused.stderr
