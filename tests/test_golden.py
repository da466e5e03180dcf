"""Golden files: the help of every task, every JSON output, a manifest, and the exit codes of refused input.

`GOLDEN_RENEW=1 uv run pytest tests/test_golden.py` writes them anew; a change of one is a change that users see.
"""

import json
import os
import re
from pathlib import Path
from typing import Any, Final

import pytest

from tasks import ns
from tests.output_schema import complaints
from tests.support import Database, Project

GOLDEN: Final = Path(__file__).parent / "golden"
TASKS: Final = sorted(ns.task_names)
SCHEMA: Final = """
CREATE TABLE "User" (id int PRIMARY KEY, email text NOT NULL UNIQUE);
CREATE TABLE "Post" (id serial PRIMARY KEY, "authorId" int REFERENCES "User", title text DEFAULT 'none');
CREATE VIEW titles AS SELECT title FROM "Post";
INSERT INTO "User" VALUES (1, 'a@example.org'), (2, 'b@example.org');
INSERT INTO "Post" ("authorId", title) VALUES (1, 'first'), (2, 'second'), (2, 'third');
"""
# What differs from run to run and from machine to machine, by the name of its key.
_RANDOM: Final = frozenset(
    {
        "bytes",
        "sha256",
        "size",
        "content",
        "folder",
        "host",
        "port",
        "database",
        "system_identifier",
        "path",
        "dump",
        "seconds",
        "version",
    }
    | {"server_version", "pg_dump_version", "content_size", "connection", "state", "message", "fix", "transaction"}
)
_DIGEST: Final = re.compile(r"[0-9a-f]{16,}|\d{4}-\d\d-\d\d[T ].*")
_NAMED_BY_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z")
_CASES: Final = {
    "no such dump": ("db.restore", "--file=absent.sql"),
    "no dump at all": ("db.restore",),
    "nothing to undo": ("db.undo",),
    "unknown flag": ("db.dump", "--nonsense"),
    "unknown task": ("db.nonsense",),
    "two compressions": ("db.dump", "--gzip", "--zstd"),
    "a name outside": ("db.dump", "--file=/no/such/folder/x.sql"),
    "not a dump": ("db.restore", "--file=tasks.py"),
    "verify without a dump": ("db.verify",),
    "inspect nothing": ("db.inspect", "--file=absent.sql"),
    "url of no variable": ("db.url", "--url-env=ABSENT"),
    "gzip of nothing": ("db.gzip", "--file=absent.sql"),
    "reset of no schema": ("db.reset", "--schema=absent", "--yes"),
    "rehearse of nothing": ("db.rehearse", "--file=absent.sql"),
}


def held(name: str, found: str) -> None:
    """Compare a text with its golden file, or write that."""
    path = GOLDEN / name
    if os.environ.get("GOLDEN_RENEW"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


def shape(value: Any, key: str = "") -> Any:
    """Replace what differs from run to run by its type; keys and all else stay."""
    if isinstance(value, dict):
        return {name: shape(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(each, key) for each in value]
    if isinstance(value, bool) or value is None:
        return value
    if key == "version" and isinstance(value, int):
        return value
    if key in _RANDOM or isinstance(value, float) or (isinstance(value, str) and _DIGEST.fullmatch(value)):
        return f"({type(value).__name__})"
    return _NAMED_BY_TIME.sub("(time)", value) if isinstance(value, str) else value


def document(text: str) -> str:
    """Write a JSON document in its shape."""
    return json.dumps(shape(json.loads(text)), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


@pytest.fixture
def shop(project: Project, database: Database) -> Project:
    """Return a project whose database holds two tables, a view and a dump of them."""
    database.execute(SCHEMA)
    project.use(database)
    assert project.inv("db.dump", "--file=shop.sql", "--note=golden").returncode == 0
    return project


@pytest.mark.parametrize("name", TASKS)
def test_help_is_as_it_was(name: str, project: Project) -> None:
    """A task's flags and what is said of them."""
    project.env["COLUMNS"] = "80"

    found = project.inv("--help", name)

    assert found.returncode == 0
    held(f"help/{name}.txt", found.stdout)


def test_manifest_is_as_it_was(shop: Project) -> None:
    """Its keys, and what does not differ from run to run."""
    held("manifest.json", document((shop.root / "dumps" / "shop.manifest.json").read_text(encoding="utf-8")))


_RESTORED: Final = ("db.restore", "--file=shop.sql", "--clean", "--yes")


@pytest.mark.parametrize(
    ("args", "before"),
    [
        (("db.url",), ()),
        (("db.dump",), ()),
        (("db.list",), ()),
        (("db.inspect", "--file=shop.sql"), ()),
        (_RESTORED, ()),
        (("db.undos",), _RESTORED),
        (("db.undo", "--yes"), _RESTORED),
        (("db.rehearse", "--file=shop.sql"), ()),
        (("db.verify", "--file=shop.sql"), ()),
        (("db.migrations",), ()),
        (("db.doctor",), ()),
    ],
    ids=lambda args: args[0] if args else "",
)
def test_json_is_as_it_was(args: tuple[str, ...], before: tuple[str, ...], shop: Project) -> None:
    """Keys, and what does not differ from run to run; it fits the schema."""
    if before:
        assert shop.inv(*before).returncode == 0

    found = shop.inv(*args, "--json")

    assert complaints(args[0], found.stdout) == []
    held(f"json/{args[0]}.json", document(found.stdout))


def test_an_error_in_json_is_as_it_was(shop: Project) -> None:
    """Its keys."""
    found = shop.inv("db.inspect", "--file=absent.sql", "--json")

    held("json/error.json", document(found.stderr.splitlines()[-1]))


def test_exit_codes_are_as_they_were(project: Project, database: Database) -> None:
    """Each refusal keeps its exit code."""
    project.use(database)

    codes = {name: project.inv(*args).returncode for name, args in _CASES.items()}

    held("exit_codes.json", json.dumps(codes, indent=1) + "\n")
