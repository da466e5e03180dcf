"""gzip and gunzip of a dump in place: the original goes only when the new file is complete and right."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..dumpformat.compression import (
    ARCHIVE_MAGIC,
    BROKEN,
    Compression,
    DecompressedReader,
    SummingWriter,
    Sums,
    open_compressor,
    read_magic,
)
from ..errors import BadInputError, OperationFailedError
from ..system.runtime import Interruption, set_interrupt_message
from .atomic_write import disk_error, is_same_file, open_part_file, replace_file, sweep_part_files, sync_folder
from .dump_file import choose_dump
from .paths import PART_SUFFIX, manifest_path, name_stem, read_manifest, sibling_paths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..config.settings import Settings
    from ..dumpformat.manifest import Manifest
    from ..progress import Report


@dataclass(frozen=True)
class Converted:
    """A dump in its new form.

    :ivar path: The dump now; the one given, where nothing had to be done.
    :ivar before: Its size in bytes, and `after` the new one.
    """

    path: Path
    before: int
    after: int
    changed: bool


def convert_dump(settings: Settings, file: str, wanted: Compression, report: Report) -> Converted:
    """Give a dump another compression, and keep its manifest true.

    :param file: The dump; empty for the newest.
    :param wanted: GZIP compresses what is not compressed at all; NONE expands gzip and zstd.
    :raises BadInputError: The dump is damaged, is an archive, or the new name is taken. Nothing was changed.
    :raises OperationFailedError: The new file could not be written; the old one is as it was.
    """
    source = choose_dump(settings, file, report)
    compression, head = read_magic(source)
    if source.parent == settings.dumps and not settings.dry:
        # In any other folder a part file may be somebody else's, as a browser's.
        sweep_part_files(source.parent)
    before = source.stat().st_size
    if compression is wanted or (wanted is Compression.GZIP and compression is Compression.ZSTD):
        return _finished(settings, source, wanted) or Converted(source, before, before, changed=False)
    if head.startswith(ARCHIVE_MAGIC):
        raise BadInputError(f"{source.name} is an archive, which holds its own compression. Nothing was changed.")
    final = source.with_name(name_stem(source) + wanted.suffix)
    if final == source:
        raise BadInputError(
            f"{source.name} is not what its name says: its content is {compression.value or 'none'}. Rename it first. "
            f"Nothing was changed."
        )
    finished = _finished(settings, final, wanted)
    if finished is not None:
        return finished
    if final.exists():
        raise BadInputError(f"{final.name} exists already, so {source.name} was left as it is. Remove one of them.")
    if settings.dry:
        report.step(f"would write {final.name} and remove {source.name}")
        return Converted(source, before, before, changed=False)
    with _describing_files(source, final):
        after = _rewrite(source, final, wanted, report)
    return Converted(final, before, after, changed=True)


@contextlib.contextmanager
def _describing_files(source: Path, final: Path) -> Iterator[None]:
    """Say of an interruption and of the disk's errors what is there."""
    try:
        yield
    except Interruption as interruption:
        kept = source.exists()
        interruption.state = f"{source.name} was left as it is." if kept else f"{final.name} is written, and whole."
        raise
    except OSError as error:
        raise disk_error(error, final) from None
    set_interrupt_message(f"{final.name} is written, and whole.")


def _finished(settings: Settings, final: Path, wanted: Compression) -> Converted | None:
    """Finish what was killed when both files were there; None where it is not so.

    Both then hold the same, which the manifest describes.
    """
    others = [each for each in sibling_paths(final) if each != final]
    if settings.dry or len(others) != 1 or not final.exists():
        return None
    (source,) = others
    if source.samefile(final):
        # A link from one name to the other: there is one copy, not two.
        return None
    manifest = read_manifest(source)
    try:
        (_, content), (file, same) = _sums(source), _sums(final)
    except BROKEN:
        return None
    if manifest is None or not manifest.content == content == same or read_magic(final)[0] is not wanted:
        return None
    before = source.stat().st_size
    with _describing_files(source, final):
        _replace(source, final, wanted, manifest, file)
    return Converted(final, before, file.size, changed=True)


def _rewrite(source: Path, final: Path, wanted: Compression, report: Report) -> int:
    manifest = read_manifest(source)
    size = source.stat().st_size
    try:
        with open_part_file(final.with_name(final.name + PART_SUFFIX)) as part, DecompressedReader(source) as reading:
            sink = SummingWriter(part.file)
            with open_compressor(sink, wanted) as out:
                for chunk in _chunks(reading, source):
                    out.write(chunk)
                    report.progress(f"writing {final.name}", reading.raw.size, size, "bytes")
            if manifest is not None and reading.content != manifest.content:
                raise BadInputError(
                    f"{source.name} is not what its manifest describes: it was damaged or changed since. It was "
                    f"left as it is."
                )
            if _sums(part.path)[1] != reading.content:
                raise OperationFailedError(
                    f"{final.name} did not read back as it was written; {source.name} was left as it is."
                )
            try:
                part.publish(final)
                _replace(source, final, wanted, manifest, sink.sums)
            except BaseException:
                if source.exists() and is_same_file(part.file.fileno(), final):
                    # Its manifest is still the old one, or true of its content.
                    final.unlink()
                raise
    except FileExistsError:
        raise BadInputError(
            f"{final.name} is being written by somebody else; {source.name} was left as it is."
        ) from None
    return sink.size


def _replace(source: Path, final: Path, wanted: Compression, manifest: Manifest | None, file: Sums) -> None:
    """Let the manifest speak of the new file, and remove the old one."""
    try:
        if manifest is not None:
            changed = replace(manifest, file_name=final.name, compression=wanted, file=file)
            replace_file(manifest_path(final), changed.to_json())
        source.unlink()
    except OSError as error:
        raise disk_error(error, final) from None
    sync_folder(final.parent)


def _chunks(reading: DecompressedReader, source: Path) -> Iterator[bytes]:
    try:
        yield from reading.chunks()
    except BROKEN as error:
        raise BadInputError(f"{source.name} is cut or damaged ({error}), and was left as it is.") from None


def _sums(path: Path) -> tuple[Sums, Sums]:
    """Read a dump to its end, and return the sums of the file and of its content."""
    with DecompressedReader(path) as reading:
        for _ in reading.chunks():
            pass
        return reading.raw.sums, reading.content
