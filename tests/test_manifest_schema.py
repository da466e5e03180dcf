"""The manifest's JSON schema: what we write fits it, and what is broken does not."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tasks.dump.dump import make_dump
from tasks.dump.request import DumpRequest, Only, Part
from tasks.dumpformat.compression import Compression
from tasks.errors import TaskError
from tasks.progress import Silence
from tasks.scratch.rehearse import rehearse_dump
from tests.flows import settings_of, sqlstate_of
from tests.marks import Mark
from tests.sample_manifest import MANIFEST
from tests.schemas import HISTORY, SHOP
from tests.servers import Server
from tests.support import REPOSITORY, Database, Databases, Project

SCHEMA = json.loads((REPOSITORY / "docs" / "manifest.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
GUIDE = (REPOSITORY / "docs" / "manifest.md").read_text(encoding="utf-8")


def complaints(document: Any) -> list[str]:
    """Say what the schema has against a document."""
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(document)]


def dumped(project: Project, database: Database, request: DumpRequest) -> Any:
    """Make a dump, and read its manifest from the disk."""
    made = make_dump(settings_of(project, database), request, Silence())
    assert made is not None
    return json.loads(next(project.dumps.glob(f"{made.path.name.split('.')[0]}.manifest.json")).read_bytes())


def test_the_schema_is_one() -> None:
    """It keeps to its own rules, and names no address under which it would be looked for."""
    Draft202012Validator.check_schema(SCHEMA)
    assert "$id" not in SCHEMA


REQUESTS = {
    "plain": DumpRequest(note="before\nthe migration"),
    "gzip": DumpRequest(Compression.GZIP),
    "zstd": DumpRequest(Compression.ZSTD),
    "checksums": DumpRequest(checksums=True),
    "without rows": DumpRequest(exclude_data=("app.item",)),
    "named": DumpRequest(file="mine.sql"),
    "a part": DumpRequest(part=Part(tables=("*",), excluded_tables=("item",), only=Only.ROWS)),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
def test_what_we_write_fits(request_: DumpRequest, database: Database, project: Project) -> None:
    """With each of the options."""
    database.execute(SHOP + HISTORY)

    document = dumped(project, database, request_)

    assert complaints(document) == []
    assert len(document["facts"]["history"]) == 3
    assert bool(document["facts"]["checksums"]) == request_.checksums


def test_seek_points_fit(database: Database, project: Project) -> None:
    """Of a dump that is large enough to have them."""
    database.execute("CREATE TABLE a AS SELECT repeat('x', 1 << 20) FROM generate_series(1, 17); CREATE TABLE b ()")

    document = dumped(project, database, DumpRequest(Compression.ZSTD))

    assert complaints(document) == []
    assert [each["tables"] for each in document["seek_points"]] == [["public.b"]]


@pytest.mark.majors(14, 18)
def test_a_database_with_everything_in_it_fits(everything: Database, project: Project) -> None:
    """Odd names, and every kind of object."""
    document = dumped(project, everything, DumpRequest(checksums=True))

    assert complaints(document) == []
    kinds = {kind for kind, found in document["facts"]["definitions"].items() if found}
    assert {"table", "view", "index", "constraint", "sequence", "trigger", "policy", "function", "type"} <= kinds


def test_an_empty_database_fits(database: Database, project: Project) -> None:
    """There is little to say of it, and no history."""
    document = dumped(project, database, DumpRequest())

    assert complaints(document) == []
    assert document["facts"]["history"] is None


def test_names_that_are_no_unicode_are_refused(new_database: Databases, project: Project) -> None:
    """In a database without an encoding such a name ends in a sentence, and no dump is left."""
    database = new_database(encoding="SQL_ASCII")
    with database.connect() as connection:
        connection.execute("SET client_encoding = 'SQL_ASCII'")
        connection.execute(b'CREATE TABLE "caf\xe9" AS SELECT 1 AS n')

    with pytest.raises(TaskError) as refused:
        dumped(project, database, DumpRequest())

    assert sqlstate_of(refused.value) == "22021"
    assert not [path for path in project.dumps.iterdir() if path.name != ".gitignore"]


def test_a_manifest_that_was_marked_by_a_rehearsal_fits(database: Database, project: Project) -> None:
    """The time stands behind all else."""
    database.execute(SHOP)
    dumped(project, database, DumpRequest())

    rehearse_dump(settings_of(project, database), "", Silence())

    document = json.loads(next(project.dumps.glob("*.manifest.json")).read_bytes())
    assert complaints(document) == []
    assert re.match(r"\d{4}-", document["rehearsed"])


def test_keys_that_we_do_not_know_are_allowed(document: dict[str, Any]) -> None:
    """At the top, where a later version may add some."""
    assert complaints({**document, "later": {"anything": [1]}}) == []


@pytest.fixture
def document() -> dict[str, Any]:
    """Return a manifest that fits, with something under each key."""
    found: dict[str, Any] = json.loads(MANIFEST.to_json())
    found["source"]["system_identifier"] = "7123456789012345678"
    digest = "0123456789abcdef01234567"
    found["facts"] = {
        "major": 17,
        "definitions": {
            "table": {"public.a": digest},
            "event trigger": {},
            "view": {'"a b".c': {"facts": digest, "local": digest, "texts": ["a DEFAULT 1"], "bodies": ["SELECT 1;"]}},
        },
        "extensions": {"citext": "1.6"},
        "told": {"owner": {"public.a": digest}, "grants": {}, "settings": {"the database": digest}},
        "checksums": [["public", "a", "-12345678901234567890123"]],
        "history": [
            {"name": "1_init", "finished": "2025-01-01 00:00:00+00", "rolled_back": "", "checksum": "ab", "steps": "1"}
        ],
    }
    found["rehearsed"] = "2025-12-21T10:30:45+00:00"
    assert complaints(found) == []
    return found


def test_digests_alone_fit(document: dict[str, Any]) -> None:
    """As manifests of earlier versions hold them."""
    digest = "0123456789abcdef01234567"
    del document["facts"]["definitions"]
    document["facts"]["objects"] = {"table": {"public.a": digest}, "view": {'"a b".c': [digest, digest]}}

    assert complaints(document) == []


def put(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts a value somewhere into a document; `...` takes away what is there."""

    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        if value is ...:
            del document[path[-1]]
        else:
            document[path[-1]] = value

    return change


BROKEN = {
    "no format": put("format", value=...),
    "newer": put("format", value=2),
    "format as text": put("format", value="1"),
    "a local time": put("created", value="2025-12-21T10:30:45.123+01:00"),
    "no note": put("note", value=None),
    "a short commit": put("git", "commit", value="abc"),
    "a user": put("source", "user", value="postgres"),
    "a password": put("source", "password", value="secret"),
    "no database": put("source", "database", value=...),
    "port as text": put("source", "port", value="5432"),
    "a URL among the options": put("pg_dump", "options", value=["postgresql://u:p@h/d"]),
    "a path": put("file", "name", value="dumps/a.sql"),
    "another compression": put("file", "compression", value="lz4"),
    "half a sum": put("file", "sha256", value="ab" * 16),
    "a negative size": put("content", "bytes", value=-1),
    "no content": put("content", value=...),
    "rows as text": put("tables", 0, "rows", value="20"),
    "rows that are half": put("tables", 0, "rows", value=1.5),
    "a table without schema": put("tables", 0, "schema", value=...),
    "a table twice": put("tables", value=[{"schema": "a", "name": "b", "rows": 1}] * 2),
    "a sequence beyond": put("sequences", 0, "value", value=1 << 63),
    "called as number": put("sequences", 0, "is_called", value=1),
    "an outline with more": put("outline", "more", value=1),
    "an outline with less": put("outline", "globals", value=...),
    "no facts": put("facts", value=...),
    "no major": put("facts", "major", value=...),
    "no definitions": put("facts", "definitions", value=...),
    "a digest that is none": put("facts", "definitions", "table", "public.a", value="abc"),
    "a definition without facts": put("facts", "definitions", "view", '"a b".c', "facts", value=...),
    "a text that is none": put("facts", "definitions", "view", '"a b".c', "texts", value=[1]),
    "definitions as a list": put("facts", "definitions", "table", value=["public.a"]),
    "a checksum as number": put("facts", "checksums", 0, 2, value=12),
    "a checksum of nothing": put("facts", "checksums", 0, value=["public", "a"]),
    "a migration without name": put("facts", "history", 0, "name", value=...),
    "no history": put("facts", "history", value=...),
    "negative seconds": put("seconds", value=-1),
    "rehearsed some day": put("rehearsed", value="yesterday"),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_broken_does_not_fit(change: Callable[[dict[str, Any]], None], document: dict[str, Any]) -> None:
    """Each for one reason."""
    broken = copy.deepcopy(document)

    change(broken)

    assert len(complaints(broken)) == 1


def keys_of(schema: dict[str, Any]) -> set[str]:
    """Name every key that the schema knows, down to the last."""
    own = set(schema.get("properties", {}))
    below = [
        *schema.get("properties", {}).values(),
        *([schema["items"]] if isinstance(schema.get("items"), dict) else []),
    ]
    return own.union(*(keys_of(each) for each in below))


@pytest.mark.parametrize("key", sorted(keys_of(SCHEMA)))
def test_the_guide_explains_every_key(key: str) -> None:
    """In `docs/manifest.md`."""
    assert f"`{key}`" in GUIDE


# A manifest of a newer format


@pytest.mark.parametrize("words", [("db.restore",), ("db.verify",), ("db.inspect",), ("db.rehearse",)])
def test_a_newer_format_is_refused_with_a_sentence(
    words: tuple[str, ...], database: Database, project: Project, server: Server
) -> None:
    """Exit 2: this version can't know what a newer one means; the database is as it was."""
    database.execute(SHOP)
    path = newer(project, database)
    mark = Mark(database)

    result = project.use(database).inv(*words, f"--file={path.name}")

    assert result.returncode == 2
    assert "its format 2 is newer " in result.stderr
    assert "Traceback" not in result.stderr
    assert mark.is_untouched()
    assert server.running


def test_a_newer_format_is_listed_as_not_usable(database: Database, project: Project) -> None:
    """The list shows it with the reason, and chooses another one."""
    path = newer(project, database)

    (listed,) = json.loads(project.use(database).inv("db.list", "--json").stdout)["dumps"]
    shown = project.inv("db.list")
    chosen = project.inv("db.inspect")

    assert "format 2 is newer" in json.dumps(listed)
    assert listed["complete"] is not True
    assert shown.returncode == 0
    assert "format 2 is newer" in " ".join(shown.stdout.split())
    assert chosen.returncode == 2
    assert f"{path.name} was skipped" in chosen.stderr


def newer(project: Project, database: Database) -> Path:
    """Make a dump whose manifest is of a version to come."""
    made = make_dump(settings_of(project, database), DumpRequest(), Silence())
    assert made is not None
    paper = next(project.dumps.glob("*.manifest.json"))
    paper.write_text(json.dumps({**json.loads(paper.read_bytes()), "format": 2}))
    return made.path
