"""Where a dump goes, and how it gets its final name: whole, with its manifest, or not at all."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ..archive import names, publish
from ..archive.codec import Compression
from ..errors import BadInputError, WorkError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from ..archive.manifest import Manifest
    from ..settings import Settings

# Two dumps of one millisecond take the next free one.
_TRIES = 1000


def prepare_folder(folder: Path) -> None:
    """Make the folder of the dumps ready.

    :raises WorkError: It can't be made or written to.
    """
    try:
        publish.prepare_folder(folder)
        publish.sweep(folder)
    except OSError as error:
        raise WorkError(f"The folder {folder} can't be used: {error.strerror}. Nothing was touched.") from None


@dataclass(frozen=True)
class Place:
    """Where a dump goes.

    :ivar path: None for a name made of the time, with that prefix, in the folder.
    """

    path: Path | None
    compression: Compression
    folder: Path
    prefix: str = names.DUMP

    def name(self, when: datetime) -> Path:
        """Tell the final name of a dump that begins at a time."""
        return self.path or self.folder / (names.dump_stem(when, self.prefix) + self.compression.suffix)


def place(settings: Settings, file: str, compression: Compression | None) -> Place:
    """Tell where a dump goes, and how it is compressed.

    :param file: As typed; empty for a name made of the time.
    :param compression: None where no flag says; then the name or the configuration does.
    :raises BadInputError: The name is taken or can't be used, or it and the flag do not agree.
    """
    if not file:
        return Place(None, compression or settings.compress, settings.dumps)
    path = names.place(file, settings.dumps, settings.cwd)
    named = Compression.of_name(path.name) or Compression.NONE
    if compression not in {None, named}:
        raise BadInputError(
            f"--file={file} and the compression that was asked for do not go together: the name's end says "
            f"how a dump is compressed. Leave the flag out, or change the name. Nothing was written."
        )
    return Place(path, named, path.parent)


def safety_place(settings: Settings) -> Place:
    """Tell where a safety dump goes."""
    return Place(None, Compression.ZSTD, settings.dumps / names.UNDO_FOLDER, names.UNDO)


@contextlib.contextmanager
def reserved(place: Place, when: datetime) -> Iterator[tuple[publish.Part, Path]]:
    """Open the part file under a name that is ours alone, and tell the final name."""
    with contextlib.ExitStack() as stack:
        for attempt in range(_TRIES):
            final = place.name(when + timedelta(milliseconds=attempt))
            stem = names.stem(final)
            reserved = final.with_name(stem + names.PART_SUFFIX)
            if not place.path and any(final.parent.glob(f"{stem}.*")):
                continue
            try:
                part = stack.enter_context(publish.part_file(reserved))
            except FileExistsError:
                if place.path:
                    raise WorkError(
                        f"{reserved} is there: another dump is being written to {final.name}, or was killed. Wait for "
                        f"it, or remove that file if none runs. Nothing was touched."
                    ) from None
                continue
            except OSError as error:
                raise WorkError(f"{reserved} can't be written: {error.strerror}. Nothing was touched.") from None
            yield part, final
            return
        raise WorkError(f"No free name for a dump was found in {place.folder}.")


def publish_both(part: publish.Part, final: Path, manifest: Manifest) -> None:
    """Publish the manifest, then the dump: a dump of ours is never seen without its manifest."""
    beside = names.manifest_path(final)
    if not names.siblings(final):
        # Left behind by a dump that somebody removed.
        beside.unlink(missing_ok=True)
    try:
        with publish.part_file(beside.with_name(beside.name + names.PART_SUFFIX)) as paper:
            paper.file.write(manifest.to_json())
            paper.publish(beside)
        part.publish(final)
    except BaseException:
        if not final.exists():
            beside.unlink(missing_ok=True)
        raise


def disk_error(error: OSError, path: Path) -> WorkError:
    """Put an error of the file system into a sentence."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return WorkError(f"The disk of {path.parent} is full. No file was left behind; free some space and run again.")
    return WorkError(f"{path} could not be written: {error.strerror or error}. No file was left behind.")
