"""What others wrote or made (names, notes, files, settings) forges no line of ours, hangs nothing and opens nothing."""

import ast
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from invoke.config import Config
from invoke.context import Context

import tasks
from tasks.cli.terminal import Plain, print_line, print_table, say
from tasks.config.dotenv import read_url
from tasks.config.settings import load_settings
from tasks.dumpfiles.atomic_write import make_dump_folder
from tasks.dumpfiles.paths import manifest_path, read_manifest
from tasks.dumpformat.compression import DecompressedReader
from tasks.dumpformat.statements import Setting, classify_statement
from tasks.errors import BadInputError, GuardError, OperationFailedError
from tasks.load.filters import OWN_SETTINGS
from tasks.safety.guard import refuse_protected
from tasks.safety.restore_log import read_record
from tasks.system.processes import make_file, make_folder
from tests.support import Database, Project

# Ends of lines of every kind, what a terminal obeys, a change of the direction, half a character.
HOSTILE = "shop\nWarning: forged\r\x1b[2J\x07\x85\u2028\u2029\u202e\x7f\udcff"


def test_hostile_text_stays_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Steps, warnings, results, tables and errors: one line each, of letters alone, and the name is still legible."""
    print_line(HOSTILE)
    print_table((HOSTILE[:4], "b"), [("x", HOSTILE)])
    printed = capsys.readouterr().out
    said: list[str] = []
    stream = SimpleNamespace(write=said.append, flush=lambda: None)
    say(Plain(stream), f"Event trigger {HOSTILE}")  # type: ignore[arg-type]

    assert printed.count("\n") == 1 + 5
    for text in (printed.replace("\n", ""), "".join(said).removesuffix("\n"), str(OperationFailedError(HOSTILE))):
        assert text.isprintable()
        assert "shop\\nWarning" in text


def test_text_is_escaped_in_one_place() -> None:
    """No other function of the package decides what may be printed."""
    deciding = [
        path.name
        for path in Path(tasks.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "isprintable"
    ]

    assert set(deciding) == {"formatting.py"}


@pytest.mark.parametrize(
    "command", ["db.list", "db.list --json", "db.inspect", "db.inspect --json", "db.restore --yes"]
)
def test_a_manifest_forges_no_line(command: str, database: Database, project: Project) -> None:
    """Whatever stands in its note and names, no line of a task begins as the note says."""
    project.use(database).inv("db.dump")
    (dump,) = project.dumps.glob("*.sql*")
    path = manifest_path(dump)
    document = json.loads(path.read_text())
    document["note"] = "x\nFORGED: y\r\x1b[2JFORGED"
    document["source"]["host"] = "h\nFORGED"
    document["source"]["database"] = "d\nFORGED"
    path.write_text(json.dumps(document))

    result = project.inv(*command.split())

    lines = (result.stdout + result.stderr).replace("\r", "\n").splitlines()
    assert not [line for line in lines if line.lstrip().startswith("FORGED") or "\x1b" in line]


SPECIAL: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
}


@pytest.mark.parametrize("make", SPECIAL.values(), ids=SPECIAL)
def test_what_is_no_file_is_never_waited_for(make: Callable[[Path], object], tmp_path: Path) -> None:
    """Manifests, dumps, .env and records that are pipes, devices, sockets or folders: a sentence, at once."""
    for name in (".env", "a.manifest.json", "b.sql", "record"):
        make(tmp_path / name)

    with pytest.raises(BadInputError, match=r"\.env"):
        read_url("DATABASE_URL", tmp_path, {})
    with pytest.raises(BadInputError, match=r"a\.manifest\.json"):
        read_manifest(tmp_path / "a.sql")
    with pytest.raises(OSError):
        DecompressedReader(tmp_path / "b.sql")
    assert read_record(tmp_path / "record") is None


def test_a_pipe_among_the_dumps_does_not_hang_the_list(project: Project, database: Database) -> None:
    """It says which manifest can't be used, and lists the others."""
    project.use(database).inv("db.dump", "--file=good.sql")
    (project.dumps / "bad.sql").write_bytes((project.dumps / "good.sql").read_bytes())
    os.mkfifo(project.dumps / "bad.manifest.json")
    os.mkfifo(project.dumps / "pipe.sql")

    result = project.inv("db.list")

    assert result.returncode == 0, result.stderr
    assert "good.sql" in result.stdout
    assert "bad.manifest.json can't be used: " in result.stdout


def test_no_umask_makes_what_others_may_write(tmp_path: Path) -> None:
    """Folders and .gitignore under umask 000."""
    before = os.umask(0)
    try:
        make_dump_folder(tmp_path / "a" / "dumps")
        make_folder(tmp_path / "b" / ".postgres", 0o711)
        make_file(tmp_path / "b" / ".gitignore", "*\n")
    finally:
        os.umask(before)

    modes = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {
        "a": 0o755,
        "a/dumps": 0o700,
        "a/dumps/.gitignore": 0o644,
        "b": 0o755,
        "b/.postgres": 0o711,
        "b/.gitignore": 0o644,
    }


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("/var/run/postgresql/", "/var/run/postgresql"),
        ("/var/run/postgresql", "//var//run/./postgresql/"),
        ("@/tmp", "/tmp/"),
        ("DB.example.com.", "db.Example.com"),
        ("db.example.com", "db.example.com."),
        ("*.example.com", "db.example.com."),
        ("[2001:DB8::1]", "2001:db8::1"),
        (" shop ", "Shop"),
    ],
)
def test_a_protected_name_is_known_however_it_is_written(pattern: str, value: str) -> None:
    """Folders of sockets, names of hosts, addresses and databases."""
    settings = SimpleNamespace(protected=(pattern,))
    target = SimpleNamespace(host=value, database="other", label="shop at db")

    with pytest.raises(GuardError):
        refuse_protected(settings, target)  # type: ignore[arg-type]
    refuse_protected(settings, SimpleNamespace(host="another", database="x", label=""))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["protected", "local"])
@pytest.mark.parametrize(
    "value", [True, False, 1.5, {"host": "a"}, "a; b", ["a;b"], "a\nb", [["a"]], [None], ["a", True]], ids=repr
)
def test_a_value_that_is_no_list_of_names_is_refused(name: str, value: object) -> None:
    """It would protect nothing, in silence."""
    with pytest.raises(BadInputError, match=rf"db\.{name}\b"):
        load_settings(Context(Config(overrides={"db": {name: value}})))


def test_a_list_of_names_is_taken_in_every_form() -> None:
    """A list, a text with commas, a list with commas in it, a number of a cluster, nothing."""
    forms = {("a", "b"): ["a", "b"], ("a", "b", "c"): ["a, b", "c"], ("12",): 12, (): None, ("x",): ("x",)}
    for names, value in forms.items():
        assert load_settings(Context(Config(overrides={"db": {"protected": value}}))).protected == names


@pytest.mark.parametrize("name", ["protected", "local"])
def test_a_list_outside_of_db_is_refused(name: str) -> None:
    """At the top level of invoke.yaml it does nothing, and who wrote it believes otherwise."""
    with pytest.raises(BadInputError, match=name):
        load_settings(Context(Config(overrides={name: ["shop"]})))


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT set_config('statement_timeout', '1', false);",
        b"SELECT pg_catalog.set_config('Statement_Timeout', '1', true) AS x;",
        b'select "pg_catalog" . "set_config" (E\'statement\\x5ftimeout\'::text, $$1$$, false);',
        b"SELECT /* ; */ set_config(U&'statement\\005ftimeout', '1'::text, FALSE);",
        b"SELECT set_config('statement_' -- x\n 'timeout', current_setting('a'), false);",
    ],
)
def test_a_setting_of_ours_by_a_function_counts_as_set(text: bytes) -> None:
    """It is left out as `SET statement_timeout` is."""
    kind = classify_statement(text)

    assert (kind.verb, kind.name) == ("SET", "statement_timeout")
    assert kind.name in OWN_SETTINGS


def test_several_settings_in_one_statement_are_all_seen() -> None:
    """The rest of the statement has to run, so it is sent, and ours are set again behind it."""
    kind = classify_statement(
        b"SELECT set_config('a.b', 'x', false), (SELECT set_config('lock_timeout', '1', true)), 1;"
    )

    assert kind.verb == "SELECT"
    assert kind.settings == (Setting("a.b", "x"), Setting("lock_timeout", "1"))
