"""The folder of a private PostgreSQL server: its lock, its password, and who may use it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadInputError
from ..system.processes import run_program

if TYPE_CHECKING:
    from collections.abc import Iterator


# Greater than any process id: Linux ends at 4194304, macOS at 99998.
_NO_PROCESS = 4194305


def read_password(folder: Path) -> str:
    """Return the password of the server in a folder.

    :raises BadInputError: Its file is missing.
    """
    try:
        return (folder / "password").read_text().strip()
    except FileNotFoundError:
        raise BadInputError(
            f"{folder / 'password'} is missing: put it back, or stop the server and move {folder} away to "
            f"begin anew. Nothing was touched."
        ) from None


def read_lock_lines(data: Path) -> list[str]:
    """Return the lines of the server's lock file; none where there is no lock."""
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def is_server_of(pid: int, data: Path) -> bool:
    """Whether a process is the server of these data, not one that got its number after a crash."""
    if Path("/proc/self").exists():
        try:
            # Unlike the process's working directory, everybody may read it, root in a container too.
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(data) in argv and Path(os.fsdecode(argv[0])).name == "postgres"
    return f"postgres -D {data} " in run_program(["ps", "-ww", "-p", str(pid), "-o", "args="]).stdout


def disown_lock(data: Path) -> None:
    """Let a crashed server's lock name no process, as it may by now name somebody else's.

    PostgreSQL would then believe that it still runs. The lock is not removed: it also names the shared
    memory by which PostgreSQL knows that children of the crashed server still work on the data.
    """
    lines = read_lock_lines(data)
    if lines:
        file = os.open(data / "postmaster.pid", os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
        with os.fdopen(file, "w") as lock:
            lock.write("\n".join([str(_NO_PROCESS), *lines[1:], ""]))


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Let one at a time start or stop what is in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def usable_folder(folder: Path) -> Iterator[None]:
    """Turn what the system refuses in a folder into one of our errors.

    :raises BadInputError: The folder can't be used.
    """
    try:
        yield
    except PermissionError:
        raise another_users_folder(folder) from None
    except OSError as error:
        raise BadInputError(f"{folder} can't be used: {error.strerror} ({error.filename}).") from None


def another_users_folder(folder: Path) -> BadInputError:
    """Return the error for a folder that belongs to another user."""
    return BadInputError(
        f"{folder} belongs to another user: do this as that user, or move it away to begin anew. Nothing was touched."
    )


def read_text_from(path: Path, offset: int = 0) -> str:
    """Return the text of a file from a byte on; empty where it can't be read."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read().decode(errors="replace")
    except OSError:
        return ""
