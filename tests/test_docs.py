"""The documentation says what the code does."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tasks import errors, ns
from tasks.config.defaults import DEFAULTS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
TASKS = {name: ns[name] for name in ns.task_names}


def arguments_of(name: str) -> list[Any]:
    """Give a task's flags; Invoke takes the help off the task that it asks, so a copy is asked."""
    copied = copy.copy(TASKS[name])
    copied.help = dict(copied.help)
    return list(copied.get_arguments())


FLAGS = [(name, argument) for name in TASKS for argument in arguments_of(name)]


def rows_of(name: str) -> list[str]:
    """Return the rows of the reference that begin with a task's name."""
    return [line for line in REFERENCE.splitlines() if re.match(rf"\| (`[\w.]+`, )*`{re.escape(name)}`", line)]


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_in_the_reference(name: str) -> None:
    """It has a row for each task."""
    assert len(rows_of(name)) == 1


@pytest.mark.parametrize(("name", "argument"), FLAGS, ids=[f"{name}-{argument.name}" for name, argument in FLAGS])
def test_every_flag_is_in_the_reference_and_has_help(name: str, argument: Any) -> None:
    """Each flag stands in its task's row, and `--help` describes it."""
    assert f"`--{argument.name.replace('_', '-')}`" in rows_of(name)[0]
    assert argument.help


def test_the_reference_names_no_flag_that_is_not_there() -> None:
    """Flags in the reference exist."""
    for name in TASKS:
        known = {f"--{argument.name.replace('_', '-')}" for argument in arguments_of(name)}
        shared = {
            f"--{each.name.replace('_', '-')}"
            for other, each in FLAGS
            if other != name and rows_of(other) == rows_of(name)
        }
        last_cell = rows_of(name)[0].rsplit("|", 2)[1]
        assert set(re.findall(r"--[a-z-]+", last_cell)) <= known | shared


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_in_one_line_what_it_does(name: str) -> None:
    """`--list` and `--help` show a single imperative line."""
    assert TASKS[name].__doc__.strip().count("\n") == 0


@pytest.mark.parametrize("key", DEFAULTS)
def test_every_setting_is_in_the_reference(key: str) -> None:
    """The table of settings has each key with its default."""
    row = next(line for line in REFERENCE.splitlines() if line.startswith(f"| `{key}` |"))
    default = row.split("|")[2].strip().strip("`")
    assert default == DEFAULTS[key]


def test_every_exit_code_is_in_the_reference() -> None:
    """The table of exit codes has the codes that the errors have."""
    codes = {
        error.exit_code for error in vars(errors).values() if isinstance(error, type) and hasattr(error, "exit_code")
    }
    listed = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", REFERENCE, re.MULTILINE) for code in row.split(",")}
    assert codes <= listed


def test_the_readme_is_short_and_shows_a_terminal_first() -> None:
    """At most 1,500 words, and real output within the first twenty lines."""
    assert len(README.split()) < 1500
    assert any(line.startswith("    $ inv ") for line in README.splitlines()[:20])


def links() -> Iterator[tuple[Path, str]]:
    """Give every link of our documents that points into the repository."""
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            if "://" not in link:
                yield path, link


@pytest.mark.parametrize(("path", "link"), list(links()), ids=[f"{path.name}-{link}" for path, link in links()])
def test_links_lead_somewhere(path: Path, link: str) -> None:
    """A link into the repository names a file that is there."""
    assert (path.parent / link).exists()


def test_ci_runs_the_readmes_commands() -> None:
    """The two commands of the README are the ones that the gate runs."""
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = re.findall(r"^    (uv run .+)$", README, re.MULTILINE)
    assert commands == ["uv run inv demo", "uv run pytest"]
    assert all(command in gate for command in commands)


def test_every_test_that_the_security_page_names_is_there() -> None:
    """The table of attacks and the command below it name the same files, and they exist."""
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"`(tests/test_\w+\.py)`", page))
    command = set(re.findall(r"tests/test_\w+\.py", page.partition("All of them: ")[2]))

    assert rows == command
    assert all((ROOT / name).is_file() for name in rows)
