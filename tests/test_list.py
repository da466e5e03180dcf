"""The list tells which dumps there are, and which of them are whole, without reading them."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tasks.dumpfiles.atomic_write import open_part_file
from tasks.dumpfiles.catalog import list_catalog
from tasks.dumpfiles.dump_file import choose_dump
from tasks.dumpfiles.paths import find_dump_file, manifest_path
from tasks.dumpformat.compression import Compression, Sums
from tasks.dumpformat.manifest import Manifest, Outline, TableRows
from tasks.errors import BadInputError
from tasks.progress import Silence
from tests.flows import Said, settings_of
from tests.support import Database, Project

TIMES = [f"2025-12-21T12-00-00-{number:03}Z" for number in range(10)]
SUM = "0" * 64
OTHERS: list[dict[str, Any]] = [{"database": "other"}, {"host": "db.example.com"}, {"port": 5433}]


def lay(
    project: Project,
    name: str,
    *,
    size: int = 100,
    told: int | None = None,
    file_name: str = "",
    note: str = "",
    created: str = "2025-12-21T12:00:00.000Z",
    manifest: bool = True,
    source: dict[str, Any] | None = None,
) -> Path:
    """Lay a dump of some size into the folder, with a manifest that tells one.

    :param told: The size that the manifest tells; the true one by default.
    :param file_name: The name that it tells; the true one by default.
    """
    path = project.dumps / name
    path.write_bytes(b"x" * size)
    if manifest:
        document = Manifest(
            created=created,
            note=note,
            git={"commit": "a" * 40, "dirty": False, "branch": "main"},
            source={"server_version": "17.6"} | (source or {}),
            pg_dump={},
            file_name=file_name or name,
            compression=Compression.NONE,
            file=Sums(size if told is None else told, SUM),
            content=Sums(0, SUM),
            tables=(TableRows("public", "a", 1000), TableRows("public", "b", 234)),
            excluded_data=(),
            sequences=(),
            outline=Outline(),
            seconds=1,
        )
        manifest_path(path).write_bytes(document.to_json())
    return path


def complete(project: Project) -> dict[str, bool | str | None]:
    """Return for each dump whether it is complete, or why it is not."""
    return {each.path.name: each.defect or each.complete for each in list_catalog(settings_of(project))}


def test_dumps_are_listed_newest_first(project: Project) -> None:
    """By the time in their names, whatever the file's own time; dumps named by hand come last."""
    for name in ("named.sql", f"db_dump_{TIMES[1]}.sql.gz", f"db_dump_{TIMES[3]}.sql", f"db_dump_{TIMES[2]}.sql.zst"):
        lay(project, name)

    assert list(complete(project)) == [
        f"db_dump_{TIMES[3]}.sql",
        f"db_dump_{TIMES[2]}.sql.zst",
        f"db_dump_{TIMES[1]}.sql.gz",
        "named.sql",
    ]


def test_dump_is_whole_when_its_size_is_the_manifests(project: Project) -> None:
    """With the name that the manifest tells."""
    lay(project, "a.sql")

    assert complete(project) == {"a.sql": True}


def test_dump_is_unknown_when_nothing_describes_it(project: Project) -> None:
    """Without a manifest, or in another form than it describes, only reading it will tell."""
    lay(project, "a.sql", manifest=False)
    lay(project, "b.sql.gz", file_name="b.sql", told=7)

    assert complete(project) == {"a.sql": None, "b.sql.gz": None}


@pytest.mark.parametrize(("size", "why"), [(0, "it is empty"), (99, "it has 99 bytes, and its manifest says 100")])
def test_dump_is_broken_when_its_size_is_wrong(size: int, why: str, project: Project) -> None:
    """And it says why."""
    lay(project, "a.sql", size=size, told=100)

    assert complete(project) == {"a.sql": why}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 1}', "\x00", '{"format": 1, "file": 3}'])
def test_dump_is_doubted_when_its_manifest_is_broken(text: str, project: Project) -> None:
    """It is listed all the same, and says that the manifest can't be used."""
    lay(project, "a.sql", manifest=False)
    project.write("dumps/a.manifest.json", text)

    assert "a.manifest.json can't be used" in str(complete(project)["a.sql"])


@pytest.mark.parametrize("created", ["yesterday", "", "9999-99-99", "0001-01-01T00:00:00+23:59"])
def test_dump_is_listed_when_its_manifest_tells_a_strange_time(created: str, project: Project) -> None:
    """The time in its name then serves."""
    lay(project, f"db_dump_{TIMES[5]}.sql", created=created)

    (listed,) = list_catalog(settings_of(project))

    assert listed.when == datetime(2025, 12, 21, 12, 0, 0, 5000, tzinfo=UTC)


def test_time_is_told_in_utc(project: Project) -> None:
    """Whatever the manifest's zone."""
    lay(project, "a.sql", created="2025-12-21T14:30:00+02:00")

    result = project.inv("db.list", "--json")

    assert json.loads(result.stdout)["dumps"][0]["created"] == "2025-12-21T12:30:00.000Z"


def test_what_is_no_dump_is_not_listed(project: Project) -> None:
    """Part files, manifests without their dump, hidden files, folders, and anything else."""
    lay(project, "orphan.sql").unlink()
    for name in ("a.part", "a.sql.gz.part", ".hidden.sql", ".gitignore", "notes.txt", "folder.sql/in it"):
        project.write(f"dumps/{name}", "x")
    (project.dumps / "dangling.sql").symlink_to("nowhere")

    with open_part_file(project.dumps / f"db_dump_{TIMES[0]}.part"):
        assert complete(project) == {}


def test_archives_of_pg_dump_are_listed(project: Project) -> None:
    """They can be restored, too."""
    lay(project, "a.dump", manifest=False)

    assert complete(project) == {"a.dump": None}


def test_table_tells_all_of_each_dump(project: Project) -> None:
    """Size, rows, state, note, name; nothing is cut off in a pipe."""
    note = "before the billing migration; " + "long " * 20
    lay(project, f"db_dump_{TIMES[0]}.sql", size=12_345, note=note)

    result = project.inv("db.list")

    assert result.returncode == 0, result.stderr
    said = " ".join(result.stdout.split())
    assert f"db_dump_{TIMES[0]}.sql" in said
    for words in ("12.3 kB 1,234 complete", "before the billing migration; long long"):
        assert words in said
    assert result.stdout.count("long") == 20


def test_list_is_in_the_order_of_time(project: Project) -> None:
    """Newest last, in the table and in JSON, safety dumps among the others; --limit takes the newest."""
    (project.dumps / "undo").mkdir()
    for name, created in (
        (f"db_dump_{TIMES[3]}.sql", "2025-12-23T12:00:00.000Z"),
        (f"undo/db_undo_{TIMES[1]}.sql", "2025-12-22T12:00:00.000Z"),
        ("named.sql", "2025-12-24T12:00:00.000Z"),
        (f"db_dump_{TIMES[2]}.sql", "2025-12-21T12:00:00.000Z"),
    ):
        lay(project, name, created=created, file_name=name.rpartition("/")[2])

    table = [line.split()[-1] for line in project.inv("db.list").stdout.splitlines() if ".sql" in line]
    limited = [each["name"] for each in json.loads(project.inv("db.list", "--limit=2", "--json").stdout)["dumps"]]

    assert table == [
        f"db_dump_{TIMES[2]}.sql",
        f"undo/db_undo_{TIMES[1]}.sql",
        f"db_dump_{TIMES[3]}.sql",
        "named.sql",
    ]
    assert limited == table[-2:]


@pytest.mark.parametrize(
    ("text", "found"),
    [("BILLING", {"a.sql"}), ("b.sql", {"b.sql"}), ("main", {"a.sql", "b.sql"}), ("[x]", {"b.sql"}), ("none", set())],
)
def test_match_finds_name_note_and_branch(text: str, found: set[str], project: Project) -> None:
    """Capitals or not, as text and no pattern; the ids shown are unique among all dumps."""
    lay(project, "a.sql", note="before the billing migration")
    lay(project, "b.sql", note="[x] done", created="2025-12-22T12:00:00.000Z")

    result = project.inv("db.list", f"--match={text}", "--json")

    assert result.returncode == 0
    assert {each["name"] for each in json.loads(result.stdout)["dumps"]} == found
    assert ("No dump matches." in project.inv("db.list", f"--match={text}").stdout) is (not found)


@pytest.mark.parametrize("flags", [("--limit=-1",), ("--match=",)], ids=str)
def test_senseless_choice_of_dumps_is_refused(flags: tuple[str, ...], project: Project) -> None:
    """Exit 2."""
    assert project.inv("db.list", *flags).returncode == 2


def test_shown_id_names_the_dump(project: Project) -> None:
    """What the first column shows is what --file= takes."""
    lay(project, f"db_dump_{TIMES[0]}.sql")
    lay(project, f"db_dump_{TIMES[1]}.sql", created="2025-12-22T12:00:00.000Z")

    shown = [line.split()[0] for line in project.inv("db.list").stdout.splitlines() if ".sql" in line]

    assert len(set(shown)) == 2
    for name, number in zip(shown, range(2), strict=True):
        path = find_dump_file(name, project.dumps, project.root)
        assert path.name == f"db_dump_{TIMES[number]}.sql"


def test_markup_in_a_note_is_shown_as_it_is(project: Project) -> None:
    """A note is text: brackets, colons and smileys stay what they are."""
    lay(project, "a.sql", note="[red]x[/red] :smile: [/] \\[")

    result = project.inv("db.list")

    assert "[red]x[/red] :smile: [/] \\[" in result.stdout


def test_json_tells_all_of_each_dump(project: Project) -> None:
    """For programs."""
    path = lay(project, f"db_dump_{TIMES[0]}.sql", note="ünïcödé")
    lay(project, "b.sql", manifest=False)

    result = project.inv("db.list", "--json")

    found = {each["name"]: each for each in json.loads(result.stdout)["dumps"]}
    first, second = found[path.name], found["b.sql"]
    expected = {
        "path": str(path),
        "created": "2025-12-21T12:00:00.000Z",
        "size": 100,
        "rows": 1234,
        "branch": "main",
        "pinned": None,
        "server_version": "17.6",
        "note": "ünïcödé",
        "complete": True,
        "reason": None,
    }
    assert expected.items() <= first.items()
    assert (second["rows"], second["complete"]) == (None, None)


def test_broken_dump_says_why_it_is_no_dump(project: Project) -> None:
    """In the table for people, and in JSON."""
    lay(project, "a.sql", size=99, told=100)

    table = project.inv("db.list").stdout
    (document,) = json.loads(project.inv("db.list", "--json").stdout)["dumps"]

    assert "a.sql is broken: it has 99 bytes, and its manifest says 100" in table
    assert (document["complete"], document["reason"]) == (False, "it has 99 bytes, and its manifest says 100")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), "No dumps yet. `inv db.dump` makes one.\n"),
        (("--json",), '{\n "version": 1,\n "dumps": [],\n "kept_databases": []\n}\n'),
    ],
)
def test_empty_list_is_said(flags: tuple[str, ...], expected: str, project: Project) -> None:
    """Also where there is no folder; none is made."""
    project.dumps.rmdir()

    result = project.inv("db.list", *flags)

    assert result.stdout == expected
    assert not project.dumps.exists()


def test_list_is_shown_where_the_terminal_knows_few_letters(project: Project) -> None:
    """What it can't show is replaced, and no traceback comes."""
    lay(project, "表.sql", note="🐘 — é")

    result = project.inv("db.list", env={"PYTHONIOENCODING": "ascii"})

    assert result.returncode == 0, result.stderr
    assert ".sql" in result.stdout


# Which one is the newest


def test_newest_dump_is_chosen_when_it_is_not_known_to_be_broken(project: Project) -> None:
    """Those known to be broken are passed over, each with a warning; unknown ones are not."""
    lay(project, f"db_dump_{TIMES[0]}.sql")
    unknown = lay(project, f"db_dump_{TIMES[1]}.sql", manifest=False)
    lay(project, f"db_dump_{TIMES[2]}.sql", size=0)
    lay(project, f"db_dump_{TIMES[3]}.sql", size=5, told=6)
    lay(project, "named.sql")
    project.write(f"dumps/db_dump_{TIMES[4]}.part", "half")
    said = Said()

    chosen = choose_dump(settings_of(project), "", said)

    assert chosen == unknown
    assert said.warnings == [
        f"db_dump_{TIMES[3]}.sql was skipped: it has 5 bytes, and its manifest says 6",
        f"db_dump_{TIMES[2]}.sql was skipped: it is empty",
    ]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_newest_dump_of_the_urls_database_is_chosen(host: str, project: Project) -> None:
    """Without a server; where none is of this database, a warning names that of another one."""
    environ = {"PATH": os.defpath, "DATABASE_URL": f"postgresql://app@{host}:5432/shop"}
    settings = settings_of(project, environ=environ)
    source: dict[str, Any] = {"database": "shop", "host": "localhost", "port": 5432}
    ours = lay(project, f"db_dump_{TIMES[0]}.sql", source=source)
    said = Said()
    others = [
        lay(project, f"db_dump_{TIMES[at]}.sql", source=source | changed) for at, changed in enumerate(OTHERS, start=1)
    ]

    assert choose_dump(settings, "", said) == ours
    assert said.warnings == []
    ours.unlink()
    assert choose_dump(settings, "", said) == others[-1]
    assert others[-1].name in said.warnings[0]


def test_nothing_is_chosen_when_all_are_broken_or_named_by_hand(project: Project) -> None:
    """A dump that somebody named is never meant by chance."""
    lay(project, f"db_dump_{TIMES[0]}.sql", size=0)
    lay(project, "named.sql")

    with pytest.raises(BadInputError):
        choose_dump(settings_of(project), "", Silence())


def test_dump_of_a_real_database_is_listed_as_whole(database: Database, project: Project) -> None:
    """And as unknown, once it was compressed by hand."""
    database.execute("CREATE TABLE t AS SELECT generate_series(1, 10) i")
    project.use(database).inv("db.dump", "--note=first")

    (listed,) = list_catalog(settings_of(project))

    assert (listed.rows, listed.note, listed.complete) == (10, "first", True)
    assert listed.server == database.scalar("SHOW server_version")
