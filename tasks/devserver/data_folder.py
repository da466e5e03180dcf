"""The folder of a private PostgreSQL server: its lock file, its password and its access errors."""

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
            f"{folder / 'password'} is missing. Nothing was touched. Restore the file, or stop the server and move "
            f"{folder} away to start with an empty one."
        ) from None


def read_lock_lines(data: Path) -> list[str]:
    """Return the lines of the server's lock file `postmaster.pid`; empty if there is none."""
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def is_server_of(pid: int, data: Path) -> bool:
    """Return whether a process is the server of this data folder; after a crash its id may belong to another."""
    if Path("/proc/self").exists():
        try:
            # Every user may read it, also root in a container; not so the process's working directory.
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(data) in argv and Path(os.fsdecode(argv[0])).name == "postgres"
    return f"postgres -D {data} " in run_program(["ps", "-ww", "-p", str(pid), "-o", "args="]).stdout


def disown_lock(data: Path) -> None:
    """Replace the process id in a crashed server's lock file with one that no process has.

    If another process has the id by now, PostgreSQL takes it for the running server and does not start. The file is
    not deleted: it also holds the id of the shared memory, from which PostgreSQL recognizes that child processes of
    the crashed server still use the data.
    """
    lines = read_lock_lines(data)
    if lines:
        file = os.open(data / "postmaster.pid", os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
        with os.fdopen(file, "w") as lock:
            lock.write("\n".join([str(_NO_PROCESS), *lines[1:], ""]))


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a folder, so that only one process at a time starts or stops its server."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def usable_folder(folder: Path) -> Iterator[None]:
    """Turn operating system errors in a folder into a BadInputError.

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
        f"{folder} belongs to another user. Nothing was touched. Run this as that user, or move the folder away to "
        f"start with an empty one."
    )


def read_text_from(path: Path, offset: int = 0) -> str:
    """Return the text of a file from a byte offset on; empty if it can't be read."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read().decode(errors="replace")
    except OSError:
        return ""
