"""Write files atomically: a file under its final name is complete.

A part file is created with O_EXCL and mode 0600, locked with flock while its writer runs, made durable with fsync, and
renamed to its final name without replacing another file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from ..dumpformat.compression import SummingWriter
from ..errors import OperationFailedError
from ..system.processes import make_file, make_folder, open_regular
from ..system.runtime import answer_from_terminal, defer_signals, read_standard_input
from .paths import INPUT_PREFIX, PART_SUFFIX, manifest_path, sibling_paths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


GITIGNORE = "*\n"


@dataclass(frozen=True)
class PartFile:
    """A file that is being written.

    :ivar path: Its path until it is published.
    :ivar file: Open for writing, unbuffered.
    """

    path: Path
    file: IO[bytes]

    def publish(self, final: Path) -> None:
        """Sync the file and rename it to its final name.

        :raises FileExistsError: A file of that name exists. Nothing was changed.
        :raises OSError: The file can't be synced or renamed. It still has its part name.
        """
        os.fsync(self.file.fileno())
        rename_new(self.path, final)
        sync_folder(final.parent)


@contextlib.contextmanager
def open_part_file(path: Path) -> Iterator[PartFile]:
    """Create a part file; delete it at the end unless it was published.

    :param path: Its path, which ends in `.part`.
    :raises FileExistsError: Another process writes it.
    :raises OSError: The folder is not writable.
    """
    descriptor = _create(path)
    try:
        with open(descriptor, "wb", buffering=0, closefd=False) as file:
            yield PartFile(path, file)
    finally:
        _discard(descriptor, path)


@contextlib.contextmanager
def spooled_input(folder: Path) -> Iterator[Path]:
    """Write standard input to a file with mode 0600, and delete the file at the end. Then ask questions at a terminal.

    :param folder: The dumps folder; created if it is missing.
    :raises BadInputError: Standard input is a terminal.
    :raises OperationFailedError: The file can't be written.
    """
    path = folder / f"{INPUT_PREFIX}{os.getpid()}{PART_SUFFIX}"
    chunks = read_standard_input()
    with contextlib.ExitStack() as stack:
        try:
            first = next(chunks, b"")
            make_dump_folder(folder)
            part = stack.enter_context(open_part_file(path))
            writer = SummingWriter(part.file, summed=False)
            for chunk in itertools.chain([first], chunks):
                writer.write(chunk)
        except OSError as error:
            raise disk_error(error, path) from None
        answer_from_terminal()
        yield path


def _create(path: Path) -> int:
    while True:
        descriptor = None
        try:
            # A signal between open() and the lock would leave the file behind. This blocks only for milliseconds.
            with defer_signals():
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            # The umask may have removed bits.
            os.fchmod(descriptor, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if is_same_file(descriptor, path):
                return descriptor
        except BaseException:
            if descriptor is not None:
                _discard(descriptor, path)
            raise
        # Another process deleted it before it was locked.
        os.close(descriptor)


def is_same_file(descriptor: int, path: Path) -> bool:
    """Return whether a path still names the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _discard(descriptor: int, path: Path) -> None:
    """Close a file, and delete it if the path still names it."""
    with contextlib.suppress(OSError):
        if is_same_file(descriptor, path):
            path.unlink()
    os.close(descriptor)


def rename_new(source: Path, final: Path) -> None:
    """Rename a file without replacing another.

    :raises FileExistsError: `final` exists.
    """
    try:
        os.link(source, final)
    except FileExistsError:
        raise
    except OSError:
        # The file system has no hard links. The part file reserves the name among our processes.
        if os.path.lexists(final):
            raise FileExistsError(final) from None
        source.rename(final)
    else:
        source.unlink()


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file atomically; replace an older one of the same name."""
    with open_part_file(path.with_name(f".{path.name}.{os.getpid()}{PART_SUFFIX}")) as part:
        part.file.write(content)
        os.fsync(part.file.fileno())
        part.path.rename(path)
        sync_folder(path.parent)


def disk_error(error: OSError, path: Path) -> OperationFailedError:
    """Return the error for a failed write."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return OperationFailedError(
            f"The disk of {path.parent} is full. No file was left behind. Free some space and run this again."
        )
    return OperationFailedError(f"{path} could not be written: {error.strerror or error}. No file was left behind.")


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, if the file system supports it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_dump_folder(folder: Path) -> None:
    """Create the dumps folder with mode 0700 and a .gitignore, if they are missing.

    :raises OSError: They can't be created.
    """
    if not folder.exists():
        with contextlib.suppress(FileExistsError):
            make_folder(folder, 0o700)
    make_file(folder / ".gitignore", GITIGNORE)


def delete_stale_parts(folder: Path) -> list[Path]:
    """Delete the part files without a running writer, with the manifests of their dumps; return their paths."""
    removed = []
    for path in folder.glob(f"*{PART_SUFFIX}"):
        # Opening a named pipe would block.
        if not path.is_file():
            continue
        with contextlib.suppress(OSError), open_regular(path) as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_same_file(file.fileno(), path):
                delete_orphan_manifest(path)
                path.unlink()
                removed.append(path)
    return removed


def delete_orphan_manifest(part: Path) -> None:
    """Delete the manifest of a dump that was not published after it."""
    dump = part.with_name(part.name.removesuffix(PART_SUFFIX))
    if not sibling_paths(dump):
        manifest_path(dump).unlink(missing_ok=True)


def list_part_files(folder: Path) -> list[tuple[Path, bool]]:
    """Return the part files of a folder, each with whether its writer is running."""
    found = []
    for path in sorted(folder.glob(f"*{PART_SUFFIX}")):
        # A file that disappears meanwhile was published.
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
