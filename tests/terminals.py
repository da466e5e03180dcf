"""`inv` at a pseudo-terminal."""

import fcntl
import os
import pty
import subprocess
import termios
from pathlib import Path

from tests.support import Project, Started


def at_a_terminal(
    project: Project,
    *arguments: str,
    answers: dict[str, str] | None = None,
    columns: int = 100,
    stdin: Path | None = None,
) -> tuple[int, str]:
    """Run `inv` with a pseudo-terminal for its three streams; return its exit status and all it wrote.

    :param answers: What is typed once something was asked.
    :param stdin: A file that it reads instead, in a session whose terminal this is.
    """
    waiting = dict(answers or {})
    ours, theirs = pty.openpty()
    screen = {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "40"}
    process: Started | subprocess.Popen[bytes]
    if stdin is None:
        process = project.start_at(theirs, *arguments, env=screen)
    else:
        with stdin.open("rb") as source:
            process = subprocess.Popen(
                project._argv(arguments),
                cwd=project.root,
                env=project._environment(screen),
                stdin=source,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no thread
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
