"""What a person at a real terminal gets: bars that move, no traceback, and nothing raw from a name."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.bulk import journal_like

if TYPE_CHECKING:
    from tests.support import Database, Project


def at_a_terminal(project: Project, *arguments: str, answers: dict[str, str] | None = None) -> tuple[int, str]:
    """Run `inv` with a pseudo-terminal for its three streams; return its exit status and all it wrote.

    :param answers: What is typed once something was asked.
    """
    waiting = dict(answers or {})
    ours, theirs = pty.openpty()
    path = os.pathsep.join(each for each in sys.path if each)
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        **project.env,
        "TERM": "xterm-256color",
        "COLUMNS": "100",
        "LINES": "40",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "invoke", *arguments],
        cwd=project.root,
        env={name: value for name, value in environment.items() if value is not None},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    # Reading a terminal that nobody holds any more is an error on Linux.
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        said += piece
        for question in [each for each in waiting if each.encode() in said]:
            os.write(ours, f"{waiting.pop(question)}\n".encode())
    os.close(ours)
    return process.wait(), said.decode(errors="replace")


@pytest.mark.parametrize("output", ["quiet", "normal", "verbose"])
def test_commands_work_at_a_terminal(output: str, database: Database, project: Project) -> None:
    """Dump, restore and verify end well with bars, and without a traceback."""
    journal_like(database, 50_000)
    project.use(database)
    project.env["INVOKE_DB_OUTPUT"] = output

    for arguments in (["db.dump", "--gzip"], ["db.restore", "--clean", "--yes"], ["db.verify"], ["db.list"]):
        code, said = at_a_terminal(project, *arguments)

        assert code == 0, said
        assert "Traceback" not in said
    assert "Everything agrees" in at_a_terminal(project, "db.verify")[1]


def test_a_bar_moves_while_a_dump_is_made(database: Database, project: Project) -> None:
    """At a terminal the progress is drawn, with the table in work, and taken away at the end."""
    journal_like(database, 300_000)
    project.use(database)

    code, said = at_a_terminal(project, "db.dump")

    assert code == 0, said
    assert "dumping " in said
    assert "rows" in said


def test_a_note_can_not_write_to_the_terminal(database: Database, project: Project) -> None:
    """Escape sequences in a note are shown as letters."""
    project.use(database)
    database.execute("CREATE TABLE t AS SELECT 1 AS i")
    assert project.inv("db.dump", "--note=\x1b[31mred\x07").returncode == 0

    result = project.inv("db.list")

    assert "\x1b" not in result.stdout
    assert "\\x1b[31mred\\x07" in result.stdout
