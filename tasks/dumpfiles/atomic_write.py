"""Write beside, then rename: a file under its final name is whole, or it isn't there.

A part file is created with O_EXCL and mode 0600, locked with flock for as long as its writer lives,
made durable with fsync, and given its final name by a rename that never replaces another file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from ..errors import OperationFailedError
from ..system.processes import make_file, make_folder, open_regular
from ..system.runtime import answer_from_terminal, defer_signals, read_standard_input
from .paths import PART_SUFFIX, manifest_path, sibling_paths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


GITIGNORE = "*\n"


@dataclass(frozen=True)
class PartFile:
    """A file that is being written.

    :ivar path: Where it lies until it is published.
    :ivar file: Open for writing, unbuffered.
    """

    path: Path
    file: IO[bytes]

    def publish(self, final: Path) -> None:
        """Make it durable and give it its final name.

        :raises FileExistsError: There is a file of that name; nothing was changed.
        :raises OSError: It can't be made durable; it still has its part name.
        """
        os.fsync(self.file.fileno())
        rename_new(self.path, final)
        sync_folder(final.parent)


@contextlib.contextmanager
def open_part_file(path: Path) -> Iterator[PartFile]:
    """Open a part file; whatever happens, none is left behind.

    :param path: Its name, which ends in `.part`.
    :raises FileExistsError: Somebody else writes it.
    :raises OSError: The folder can't be written to.
    """
    descriptor = _create(path)
    try:
        with open(descriptor, "wb", buffering=0, closefd=False) as file:
            yield PartFile(path, file)
    finally:
        _discard(descriptor, path)


@contextlib.contextmanager
def spooled_input(folder: Path) -> Iterator[Path]:
    """Write what standard input holds to a file with mode 0600, which is removed at the end; then a terminal answers.

    :param folder: That of the dumps, which is made where it is missing.
    :raises BadInputError: Standard input is a terminal.
    :raises OperationFailedError: The file can't be written.
    """
    path = folder / f"standard-input-{os.getpid()}{PART_SUFFIX}"
    chunks = read_standard_input()
    with contextlib.ExitStack() as stack:
        try:
            first = next(chunks, b"")
            make_dump_folder(folder)
            part = stack.enter_context(open_part_file(path))
            for chunk in itertools.chain([first], chunks):
                left = memoryview(chunk)
                while left:
                    left = left[part.file.write(left) :]
        except OSError as error:
            raise disk_error(error, path) from None
        answer_from_terminal()
        yield path


def _create(path: Path) -> int:
    while True:
        descriptor = None
        try:
            # Where others wait for the disk, so does this, for milliseconds.
            with defer_signals():
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            # The umask may have taken bits away, and nobody sweeps a locked file.
            os.fchmod(descriptor, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if is_same_file(descriptor, path):
                return descriptor
        except BaseException:
            if descriptor is not None:
                _discard(descriptor, path)
            raise
        # Somebody swept it before it was locked.
        os.close(descriptor)


def is_same_file(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _discard(descriptor: int, path: Path) -> None:
    """Remove an open file unless the name is another one's by now, and close it."""
    with contextlib.suppress(OSError):
        if is_same_file(descriptor, path):
            path.unlink()
    os.close(descriptor)


def rename_new(source: Path, final: Path) -> None:
    """Rename without ever replacing a file.

    :raises FileExistsError: `final` exists.
    """
    try:
        os.link(source, final)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links: look, then rename; our own names are reserved anyway.
        if os.path.lexists(final):
            raise FileExistsError(final) from None
        source.rename(final)
    else:
        source.unlink()


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file of ours whole, over an older one of the same name."""
    with open_part_file(path.with_name(f".{path.name}.{os.getpid()}{PART_SUFFIX}")) as part:
        part.file.write(content)
        os.fsync(part.file.fileno())
        part.path.rename(path)
        sync_folder(path.parent)


def disk_error(error: OSError, path: Path) -> OperationFailedError:
    """Put an error of the file system into a sentence."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return OperationFailedError(
            f"The disk of {path.parent} is full. No file was left behind; free some space and run again."
        )
    return OperationFailedError(f"{path} could not be written: {error.strerror or error}. No file was left behind.")


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable; a file system that can't is left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_dump_folder(folder: Path) -> None:
    """Make the folder of the dumps where it is missing: 0700, and hidden from git.

    :raises OSError: It can't be made.
    """
    if not folder.exists():
        with contextlib.suppress(FileExistsError):
            make_folder(folder, 0o700)
    make_file(folder / ".gitignore", GITIGNORE)


def sweep_part_files(folder: Path) -> list[Path]:
    """Remove the part files of writers that are gone, and return them; a manifest goes with its dump's."""
    removed = []
    for path in folder.glob(f"*{PART_SUFFIX}"):
        # Opening a pipe would wait for its other end.
        if not path.is_file():
            continue
        with contextlib.suppress(OSError), open_regular(path) as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_same_file(file.fileno(), path):
                forget_manifest(path)
                path.unlink()
                removed.append(path)
    return removed


def forget_manifest(part: Path) -> None:
    """Remove the manifest that was published just before its dump, which now never comes."""
    dump = part.with_name(part.name.removesuffix(PART_SUFFIX))
    if not sibling_paths(dump):
        manifest_path(dump).unlink(missing_ok=True)


def list_part_files(folder: Path) -> list[tuple[Path, bool]]:
    """List the part files of a folder, each with whether its writer still lives; nothing is changed."""
    found = []
    for path in sorted(folder.glob(f"*{PART_SUFFIX}")):
        # One that has gone meanwhile was published.
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                found.append((path, _is_locked(path)))
    return found


def _is_locked(path: Path) -> bool:
    with open_regular(path) as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
