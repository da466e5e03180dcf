"""A superuser loads code of others only when asked, and an ordinary role is never asked."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tasks.dumpfiles.origin import other_owners
from tasks.dumpformat.manifest import manifest_from_json
from tasks.errors import OperationFailedError
from tasks.progress import Silence
from tasks.restore.request import RestoreRequest
from tasks.restore.with_migration import plan_restore_and_migration, restore_and_migrate
from tests.flows import elsewhere, settings_of
from tests.marks import Mark
from tests.servers import OWNER
from tests.support import without_restrict
from tests.terminals import at_a_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import Database, Databases, Project

OWN = "CREATE TABLE public.t (a int); INSERT INTO public.t VALUES (1), (2)"
THEIRS = f"CREATE SCHEMA theirs AUTHORIZATION {OWNER}"
FUNCTION = "CREATE FUNCTION theirs.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"


@pytest.fixture
def shop(database: Database, project: Project) -> Database:
    """Return a superuser's database, in a project that trusts nothing."""
    database.execute(OWN)
    project.use(database).env.pop("INVOKE_DB_TRUST")
    return database


def mixed(database: Database) -> None:
    """Let an ordinary role own something in it."""
    database.execute(THEIRS)
    database.execute(FUNCTION, role=OWNER)


def owners_of(project: Project, stem: str = "d") -> Any:
    """Read who the manifest says owns what the dump holds."""
    return json.loads((project.dumps / f"{stem}.manifest.json").read_bytes())["facts"].get("owners")


def forget_owners(path: Path) -> None:
    """Make a manifest one of an earlier version."""
    document = json.loads(path.read_bytes())
    del document["facts"]["owners"]
    document["outline"].pop("touches")
    path.write_text(json.dumps(document), encoding="ascii")


@pytest.mark.majors(15, 18)
def test_superusers_own_dump_is_loaded_unasked(shop: Database, project: Project) -> None:
    """Dump, restore, rehearse and undo need no --trust where superusers own all."""
    assert project.inv("db.dump", "--file=d.sql").returncode == 0
    before = shop.dump_text()

    results = [
        project.inv(*words)
        for words in (
            ["db.restore", "--clean", "--yes", "--file=d.sql"],
            ["db.rehearse", "--file=d.sql"],
            ["db.reset", "--yes"],
            ["db.undo", "--yes"],
        )
    ]

    assert owners_of(project) == {"postgres": True}
    assert [each.returncode for each in results] == [0, 0, 0, 0], [each.stderr for each in results]
    assert without_restrict(shop.dump_text()) == without_restrict(before)


@pytest.mark.parametrize(
    "statement",
    [
        THEIRS,
        f"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION public.f() OWNER TO {OWNER}",
        f"SELECT lo_create(7); ALTER LARGE OBJECT 7 OWNER TO {OWNER}",
        f"CREATE TYPE public.m AS ENUM ('a'); ALTER TYPE public.m OWNER TO {OWNER}",
        f"CREATE PUBLICATION p; GRANT CREATE ON DATABASE {{}} TO {OWNER}; ALTER PUBLICATION p OWNER TO {OWNER}",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT SELECT ON TABLES TO PUBLIC",
        f"ALTER DATABASE {{}} OWNER TO {OWNER}",
    ],
    ids=["schema", "function", "large object", "type", "publication", "default privileges", "database"],
)
@pytest.mark.majors(15, 18)
def test_dump_with_an_object_of_another_role_is_asked_about(statement: str, shop: Database, project: Project) -> None:
    """Whatever kind of object it is."""
    shop.execute(statement.format(shop.name))
    assert project.inv("db.dump", "--file=d.sql").returncode == 0
    mark = Mark(shop)

    refused = project.inv("db.restore", "--clean", "--yes", "--file=d.sql")
    untouched = mark.is_untouched()
    trusted = project.inv("db.restore", "--clean", "--yes", "--file=d.sql", "--trust")

    assert owners_of(project) == {"postgres": True, OWNER: False} or statement.startswith("ALTER DATABASE")
    assert (refused.returncode, untouched) == (2, True), refused.stderr
    assert "--trust" in refused.stderr
    assert trusted.returncode == 0, trusted.stderr


@pytest.mark.majors(15, 18)
def test_object_that_its_author_gave_to_a_role_of_postgresql_is_asked_about(shop: Database, project: Project) -> None:
    """PostgreSQL notes no owner of such an object, and a member of the role can be its author."""
    shop.execute(f"GRANT CREATE ON DATABASE {shop.name} TO {OWNER}; GRANT pg_monitor TO {OWNER}")
    try:
        shop.execute(f"{THEIRS}; GRANT ALL ON SCHEMA theirs TO pg_monitor")
        shop.execute(f"{FUNCTION}; ALTER FUNCTION theirs.f() OWNER TO pg_monitor", role=OWNER)
        shop.execute("ALTER SCHEMA theirs OWNER TO pg_monitor", role=OWNER)
    finally:
        shop.execute(f"REVOKE pg_monitor FROM {OWNER}")
    assert project.inv("db.dump", "--file=d.sql").returncode == 0

    results = [
        project.inv("db.restore", "--clean", "--yes", "--file=d.sql"),
        project.inv("db.rehearse", "--file=d.sql"),
    ]

    assert owners_of(project) == {"postgres": True, "pg_monitor": False}
    assert [each.returncode for each in results] == [2, 2], results[0].stderr


@pytest.mark.majors(15, 18)
def test_ordinary_role_is_never_asked(shop: Database, new_database: Databases, project: Project) -> None:
    """Neither about a foreign dump nor about one with objects of others."""
    mixed(shop)
    assert project.inv("db.dump", "--file=d.sql").returncode == 0
    project.write("dumps/foreign.sql", "CREATE TABLE public.x ();\n-- PostgreSQL database dump complete\n")
    project.use(new_database(owner=OWNER), OWNER)

    results = [project.inv("db.restore", "--yes", f"--file={name}") for name in ("d.sql", "foreign.sql")]

    assert [each.returncode for each in results] == [0, 0], [each.stderr for each in results]


def test_setting_trusts_local_databases_alone(shop: Database, project: Project) -> None:
    """`db.trust: local` says it once for them; a tunnel elsewhere is asked about all the same."""
    mixed(shop)
    assert project.inv("db.dump", "--file=d.sql").returncode == 0
    project.env["INVOKE_DB_TRUST"] = "local"

    local = project.inv("db.restore", "--clean", "--yes", "--file=d.sql")
    elsewhere(project)
    far = project.inv("db.restore", "--clean", "--yes", f"--confirm={shop.name}", "--file=d.sql")

    assert local.returncode == 0, local.stderr
    assert far.returncode == 2
    assert "add --trust" in far.stderr


def test_setting_takes_two_values(project: Project) -> None:
    """A misspelt one trusts nothing, in a sentence."""
    result = project.inv("db.list", env={"INVOKE_DB_TRUST": "always"})

    assert result.returncode == 2
    assert "INVOKE_DB_TRUST" in result.stderr


@pytest.mark.parametrize(("answer", "code"), [("yes", 0), ("no", 2), ("", 2)])
def test_person_at_a_terminal_is_asked_once(answer: str, code: int, shop: Database, project: Project) -> None:
    """In two sentences, before anything is touched."""
    project.write("dumps/foreign.sql", "CREATE TABLE public.x ();\n-- PostgreSQL database dump complete\n")

    ended, said = at_a_terminal(project, "db.restore", "--yes", "--file=foreign.sql", answers={"Type yes": answer})

    words = " ".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said).split())
    assert ended == code, said
    assert words.count("Type yes") == 1
    assert "postgres is a superuser" in words
    assert shop.scalar("SELECT to_regclass('public.x') IS NOT NULL") is (code == 0)


def test_older_manifest_is_asked_about(shop: Database, project: Project) -> None:
    """It does not say who owns what, so nobody knows."""
    assert project.inv("db.dump", "--file=d.sql").returncode == 0
    forget_owners(project.dumps / "d.manifest.json")

    refused = project.inv("db.restore", "--clean", "--yes", "--file=d.sql")
    trusted = project.inv("db.restore", "--clean", "--yes", "--file=d.sql", "--trust")

    assert refused.returncode == 2
    assert "--trust" in refused.stderr
    assert trusted.returncode == 0, trusted.stderr
    assert shop.scalar("SELECT count(*) FROM t") == 2


@pytest.mark.majors(15, 18)
def test_undo_and_rehearsal_ask_as_a_restore_does(shop: Database, project: Project) -> None:
    """Of a database that others own something in, without touching it."""
    mixed(shop)
    assert project.inv("db.dump", "--file=d.sql").returncode == 0
    whole = shop.dump_text()
    assert project.inv("db.reset", "--yes").returncode == 0
    before = shop.dump_text()

    rehearsed = project.inv("db.rehearse", "--file=d.sql")
    refused = project.inv("db.undo", "--yes")
    untouched = shop.dump_text()
    trusted = project.inv("db.undo", "--yes", "--trust")

    assert [rehearsed.returncode, refused.returncode, untouched] == [2, 2, before]
    assert all("--trust" in each.stderr for each in (rehearsed, refused))
    assert trusted.returncode == 0, trusted.stderr
    assert without_restrict(shop.dump_text()) == without_restrict(whole)


@pytest.mark.parametrize("answer", [False, True], ids=["unasked", "trusted"])
def test_restore_that_migrates_asks_before_anything_is_destroyed(
    answer: bool, shop: Database, project: Project
) -> None:
    """About what is here now, too: after a failed migration it is loaded again, and no question comes then."""
    assert project.inv("db.dump", "--file=d.sql").returncode == 0
    mixed(shop)
    before = shop.dump_text()
    project.env["INVOKE_DB_MIGRATE_COMMAND"] = "false"
    flags = ["--trust"] if answer else []

    result = project.inv("db.restore", "--clean", "--yes", "--migrate", "--file=d.sql", *flags)

    assert result.returncode == (5 if answer else 2), result.stderr
    assert without_restrict(shop.dump_text()) == without_restrict(before)
    assert answer or "--trust" in result.stderr


def test_role_of_another_cluster_is_another_role(new_database: Databases, project: Project) -> None:
    """Of a role that is asked, only the dumps of its own cluster are its own."""
    database = new_database(owner=OWNER)
    database.execute(OWN, role=OWNER)
    database.execute(f"ALTER ROLE {OWNER} CREATEROLE")
    project.use(database, OWNER).env.pop("INVOKE_DB_TRUST")
    try:
        assert project.inv("db.dump", "--file=d.sql").returncode == 0
        here = project.inv("db.restore", "--clean", "--yes", "--file=d.sql")
        manifest = project.dumps / "d.manifest.json"
        document = json.loads(manifest.read_text())
        document["source"]["system_identifier"] = "7"
        manifest.write_text(json.dumps(document))
        elsewhere_ = project.inv("db.restore", "--clean", "--yes", "--file=d.sql", f"--confirm={database.name}")
    finally:
        database.execute(f"ALTER ROLE {OWNER} NOCREATEROLE")

    assert here.returncode == 0, here.stderr
    assert elsewhere_.returncode == 2, elsewhere_.stderr


@pytest.mark.majors(15, 18)
def test_owner_that_came_after_the_question_is_not_loaded_unasked(shop: Database, project: Project) -> None:
    """A failed migration leaves the dump in place, and says how the old state comes back."""
    assert project.inv("db.dump", "--file=d.sql").returncode == 0
    settings = settings_of(project, shop, trust_local=False, migrate_command="false")
    plan = plan_restore_and_migration(settings, RestoreRequest(file="d.sql", clean=True, migrate=True), Silence())
    mixed(shop)

    with pytest.raises(OperationFailedError) as raised:
        restore_and_migrate(plan, Silence())

    assert "inv db.undo --trust" in str(raised.value)
    assert shop.scalar("SELECT to_regnamespace('theirs') IS NOT NULL")


def test_dry_run_says_it_and_asks_nothing(shop: Database, project: Project) -> None:
    """It touches nothing, so there is nothing to agree to."""
    mixed(shop)
    assert project.inv("db.dump", "--file=d.sql").returncode == 0

    result = project.inv("--dry", "db.restore", "--clean", "--file=d.sql")

    assert result.returncode == 0, result.stderr
    assert f"contains objects of {OWNER}, who is not a superuser" in result.stderr


@pytest.mark.parametrize(
    ("owners", "role", "expected"),
    [
        ({}, "", ""),
        ({"postgres": True}, "", ""),
        ({"postgres": True, "app": False}, "app", ""),
        ({"app": False}, "", "contains objects of app, who is not a superuser"),
        (
            dict.fromkeys("edcba", False),
            "a",
            "contains objects of b, c, d and 1 more, who are not superusers",
        ),
    ],
)
def test_others_are_those_that_are_neither_superusers_nor_the_role(
    owners: dict[str, bool], role: str, expected: str
) -> None:
    """Named in order, and no more than three."""
    assert other_owners(owners, role) == expected


def test_manifest_keeps_owners_and_touches(shop: Database, project: Project) -> None:
    """What is written is read back."""
    assert shop.name
    assert project.inv("db.dump", "--file=d.sql").returncode == 0

    manifest = manifest_from_json((project.dumps / "d.manifest.json").read_bytes())

    assert manifest.facts["owners"] == {"postgres": True}
    assert manifest.outline.touches == ()
    assert manifest_from_json(manifest.to_json()) == manifest
