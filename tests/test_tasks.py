"""What a person types: every task is there, has help, starts fast, and ends without a traceback."""

import ast
import contextlib
import inspect
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from invoke.tasks import Task

from tasks import database, ns
from tasks.cli.task import RepeatableTask
from tests.support import REPOSITORY, Database, Project

TASKS = sorted(database.tasks)
FLAGS = {
    "url": set(),
    "dump": {"--gzip", "--zstd", "--file", "--note", "--exclude-data"},
    "gzip": {"--file"},
    "gunzip": {"--file"},
    "list": {"--json"},
    "reset": {"--schema", "--yes"},
    "restore": {"--file", "--clean", "--yes", "--no-owner", "--no-acl", "--strict"},
    "verify": {"--file", "--json"},
}


def loaded_modules(project: Project, *args: str) -> set[str]:
    """Return what Python imports while `inv` runs."""
    argv = [sys.executable, "-X", "importtime", "-m", "invoke", *args]
    environment = project._environment(None)
    done = subprocess.run(argv, cwd=project.root, env=environment, capture_output=True, text=True, check=True)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def test_listing_the_tasks_loads_nothing_that_only_running_them_needs(project: Project) -> None:
    """`inv --list` and completion stay fast."""
    modules = loaded_modules(project, "--list")

    assert "tasks.cli.dumps" in modules
    assert not {"psycopg", "rich.console", "isal", "backports.zstd", "dotenv", "tasks.dump.dump"} & modules


def test_listing_the_dumps_does_not_load_the_flow_of_a_dump(project: Project) -> None:
    """Each task loads its own flow."""
    modules = loaded_modules(project, "db.list")

    assert "tasks.dumpfiles.catalog" in modules
    assert "tasks.dump.dump" not in modules


def test_verify_loads_nothing_that_only_a_terminal_or_a_foreign_dump_needs(
    project: Project, database: Database
) -> None:
    """Half of its time is that of loading modules."""
    project.use(database)
    database.execute("CREATE TABLE t AS SELECT 1 AS i")
    assert project.inv("db.dump", "--file=t.sql").returncode == 0

    modules = loaded_modules(project, "db.verify", "--file=t.sql")

    assert "tasks.verify.verify" in modules
    assert not {"rich", "rich.console", "tasks.dumpformat.lexer", "tasks.dumpformat.summary"} & modules


@pytest.mark.parametrize("name", FLAGS)
def test_every_settled_flag_is_there(name: str, project: Project) -> None:
    """With help, and without a short form that would take one from Invoke."""
    result = project.inv("--help", f"db.{name}")

    flags = set(re.findall(r"^  (--[a-z-]+)", result.stdout, re.MULTILINE))
    assert result.returncode == 0, result.stderr
    assert flags >= FLAGS[name]
    assert not re.search(r"^  -\w,", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", TASKS)
def test_every_parameter_has_help_and_every_task_one_line(name: str) -> None:
    """A flag without a description is no flag for people."""
    task = database.tasks[name]
    assert task is not None

    _, *parameters = inspect.signature(task.body).parameters

    assert isinstance(task, RepeatableTask)
    assert set(parameters) == set(task.help)
    assert all(task.help.values())
    assert task.__doc__ is not None
    assert re.fullmatch(r"[A-Z][^\n]+\.", task.__doc__)


def test_no_flag_is_positional() -> None:
    """A value without a flag would swallow the next task's name."""
    tasks: dict[str, Any] = dict(database.tasks)

    assert not [name for name, task in tasks.items() if list(task.positional)]


def test_bodies_of_the_tasks_are_short() -> None:
    """At most fifteen lines: what a task does lies below `cli`."""
    trees = [
        ast.parse((REPOSITORY / "tasks" / "cli" / f"{name}.py").read_text(encoding="utf-8"))
        for name in ("dumps", "restores", "checks", "server", "demo")
    ]
    functions = [node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]
    tasks = [node for node in functions if node.decorator_list]

    lengths = {each.name: each.end_lineno - each.body[1].lineno + 1 for each in tasks if each.end_lineno}

    assert len(lengths) >= 18
    assert {name for name, length in lengths.items() if length > 15} == set()


def test_no_task_equals_another() -> None:
    """Invoke would run equal ones once."""
    one, two = (RepeatableTask(lambda _ctx: None, name="t") for _ in range(2))

    assert one != two
    assert one != one  # noqa: PLR0124 - that is the point
    assert hash(one) == hash(one)
    assert isinstance(one, Task)
    assert "db" in ns.collections


def test_repeated_task_runs_each_time(database: Database, project: Project) -> None:
    """`inv db.dump db.list db.dump` makes two dumps."""
    result = project.use(database).inv("db.dump", "db.list", "db.dump")

    assert result.returncode == 0, result.stderr
    assert len(list(project.dumps.glob("*.sql"))) == 2


def test_chain_ends_with_the_first_failure(project: Project) -> None:
    """What comes behind it does not run, and its code is the chain's."""
    result = project.inv("db.gzip", "db.list")

    assert result.returncode == 2
    assert result.stdout == ""


def test_json_flag_takes_no_word_of_the_chain(project: Project) -> None:
    """`inv db.list --json db.list`: the second task is a task."""
    result = project.inv("db.list", "--json", "db.list")

    assert result.stdout == '{\n "version": 1,\n "dumps": []\n}\nNo dumps yet. `inv db.dump` makes one.\n'


@pytest.mark.parametrize("color", ["", "1"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["db.list"],
        ["db.list", "--json"],
        ["db.url"],
    ],
    ids=" ".join,
)
def test_no_traceback_when_the_reader_has_gone(arguments: list[str], color: str, project: Project) -> None:
    """`inv db.list | head -1`, with far more than a pipe holds."""
    for number in range(100):
        project.write(f"dumps/{'x' * 150}{number}.sql", "x")
    project.env["DATABASE_URL"] = "postgresql://u@h/d?" + "&".join(f"unknown{i}=1" for i in range(200))
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = project.inv(*arguments, stdout=writing, env={"FORCE_COLOR": color})
    finally:
        os.close(writing)

    assert done.stderr == ""
    assert done.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize(
    "arguments", [["db.dump"], ["db.list"], ["db.list", "--json"], ["db.verify"], ["db.doctor"]], ids=" ".join
)
def test_a_sentence_says_that_the_result_cannot_be_written(
    arguments: list[str], database: Database, project: Project
) -> None:
    """A full disk behind `>` ends in 8, and the work itself was done."""
    database.execute("CREATE TABLE t AS SELECT 1 AS i")
    assert project.use(database).inv("db.dump").returncode == 0
    assert project.inv("db.restore", "--clean", "--yes", "--no-backup").returncode == 0

    with Path("/dev/full").open("w") as full:
        done = project.inv(*arguments, stdout=full)

    assert done.returncode == 8
    assert "Standard output can't be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert len(list(project.dumps.glob("db_dump_*.sql"))) == 1 + (arguments == ["db.dump"])


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2> >(true)", "<&- >&- 2>&-"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_nobody_needs_standard_error(stderr: str, database: Database, project: Project) -> None:
    """What can't be said there is lost, the work is done, and the exit code is that of the work."""
    database.execute("CREATE TABLE t AS SELECT 1 AS i")
    project.use(database).env["INVOKE_DB_OUTPUT"] = "verbose"

    dumped = project.inv("db.dump", "--file=t.sql", redirected=stderr)
    restored = project.inv("db.restore", "--clean", "--yes", "--file=t.sql", redirected=stderr)
    database.execute("INSERT INTO t VALUES (2)")
    differs = project.inv("db.verify", redirected=stderr)
    missing = project.inv("db.restore", "--file=nothing.sql", redirected=stderr)

    assert [each.returncode for each in (dumped, restored, differs, missing)] == [0, 0, 6, 2]


def test_nobody_needs_standard_output(database: Database, project: Project) -> None:
    """Where the shell has closed it (`>&-`), a command does its work all the same."""
    done = project.use(database).inv("db.dump", redirected=">&-")

    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(project.dumps.glob("db_dump_*.sql"))) == 1


def test_result_is_alone_on_standard_output(database: Database, project: Project) -> None:
    """What programs read is not mixed with what people are told on the way."""
    project.use(database).inv("db.dump")
    project.write("dumps/db_dump_2099-01-01T00-00-00-000Z.sql", "")

    result = project.inv("db.list", "--json", env={"INVOKE_DB_OUTPUT": "verbose"})

    assert len(json.loads(result.stdout)["dumps"]) == 2


def test_quiet_says_the_result_alone(database: Database, project: Project) -> None:
    """`db.output` quiet: the one line of the result, and warnings."""
    result = project.use(database).inv("db.dump", env={"INVOKE_DB_OUTPUT": "quiet"})

    assert result.stderr == ""
    assert result.stdout.count("\n") == 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "mysql://u:hidden@h/d",
        "prisma://accelerate.example/?api_key=hidden",
        "prisma+postgres://accelerate.example/?api_key=hidden",
        "postgresql://u:hidden@h:99999/d",
        "postgresql://u:hidden@[::1/d",
        "postgresql://u:hid%zzden@h/d",
        "file:./dev.db",
    ],
)
@pytest.mark.parametrize("task", ["db.url", "db.dump"])
def test_url_that_can_not_be_used_is_a_sentence(task: str, url: str, project: Project) -> None:
    """Exit 2, one line, no secret, nothing contacted."""
    result = project.inv(task, env={"DATABASE_URL": url})

    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "hidden" not in result.stderr


def test_url_never_stands_on_a_command_line(project: Project) -> None:
    """`--url-env` takes a name; who gives a URL is told so, and it is not repeated."""
    result = project.inv("db.dump", "--url-env=postgresql://u:hidden@h/d")

    assert result.returncode == 2
    assert "not the URL itself" in result.stderr
    assert "hidden" not in result.stderr


def test_other_variable_names_the_database(database: Database, project: Project) -> None:
    """`--url-env=DIRECT_URL`, though DATABASE_URL leads nowhere."""
    project.use(database)
    env = {"DATABASE_URL": "postgresql://u@127.0.0.1:1/d", "DIRECT_URL": database.url}

    result = project.inv("db.dump", "--url-env=DIRECT_URL", env=env)

    assert result.returncode == 0, result.stderr


def test_pooled_url_is_warned_of(database: Database, project: Project) -> None:
    """What looks like a pool gets a hint at the direct URL, and is tried."""
    project.use(database).env["DATABASE_URL"] += "?pgbouncer=true"

    result = project.inv("db.dump")

    assert result.returncode == 0, result.stderr
    assert "--url-env=DIRECT_URL" in result.stderr


def test_url_shows_what_became_of_each_parameter(project: Project) -> None:
    """Masked, with what was translated or dropped, and why."""
    url = "postgresql://u:hidden@h:5433/d?schema=app&connection_limit=5&sslmode=require&flavour=mint"

    result = project.inv("db.url", env={"DATABASE_URL": url})

    assert result.returncode == 0, result.stderr
    for words in (
        "d at h:5433, schema app",
        "sslmode=require",
        "password=****",
        "connection_limit",
        "flavour",
        "dropped",
    ):
        assert words in result.stdout
    assert "hidden" not in result.stdout


def test_tasks_start_fast(project: Project) -> None:
    """Listing takes a fraction of a second even on a busy machine."""
    began = time.monotonic()

    project.inv("--list")

    assert time.monotonic() - began < 5


def test_entry_point_gives_the_package_its_name_back() -> None:
    """`inv` in the repository itself loads `tasks.py`, which hands on the package's namespace."""
    argv = [sys.executable, "-m", "invoke", "--list"]

    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert {f"db.{name}" for name in TASKS} <= set(re.findall(r"db\.\w+", done.stdout))
    assert not any(Path(REPOSITORY, name).exists() for name in ("gzip.py", "select.py"))


def test_standard_error_that_would_have_to_wait_is_not_waited_for(database: Database, project: Project) -> None:
    """A pipe that is full and may not block, as some programs that run others make it."""
    database.execute("CREATE TABLE t AS SELECT 1 AS i")
    project.use(database)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    try:
        codes = [
            project.inv(*arguments, stdout=subprocess.DEVNULL, stderr=writing).returncode
            for arguments in (
                ["db.dump", "--file=t.sql"],
                ["db.restore", "--clean", "--yes", "--file=t.sql"],
                ["db.restore", "--file=nothing.sql"],
            )
        ]
    finally:
        os.close(writing)
        os.close(reading)

    assert codes == [0, 0, 2]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["db.restore", "foo"], "--file=foo"),
        (["db.restore", "--clean", "--confirm", "shop", "foo.sql"], "--file=foo.sql"),
        (["db.dump", "db.inspect", "foo"], "--file=foo"),
        (["db.list", "foo"], ""),
        (["db.restore", "--file", "foo"], ""),
        (["db.restore", "db.list"], ""),
    ],
)
def test_a_dump_without_its_flag_gets_a_hint(words: list[str], hint: str, project: Project) -> None:
    """Invoke takes a bare word for a task; a word after a task that takes a dump may be one."""
    result = project.inv(*words, fresh=True, env={"DATABASE_URL": None})

    assert result.returncode != 0
    assert (f"write {hint}" in result.stderr) if hint else ("write --file=" not in result.stderr)


def test_completion_leaves_paths_to_the_shell(project: Project) -> None:
    """Invoke offers flags, and nothing for the value of --file, so that bash completes names of files."""
    script = (
        "source <(inv --print-completion-script bash); complete -p inv\n"
        'for words in "--fil" "--file = dumps/x"; do COMP_WORDS=(inv db.restore $words); COMPREPLY=()\n'
        'set -- $words; _complete_invoke inv "${@: -1}"; echo "${COMPREPLY[*]}."; done'
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    run = subprocess.run(
        ["bash", "-c", script], cwd=project.root, env={"PATH": path}, capture_output=True, text=True, check=True
    )

    registered, flags, values = run.stdout.splitlines()
    assert "-o default" in registered
    assert (flags, values) == ("--file.", ".")
