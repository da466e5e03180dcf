"""Compress or expand a dump. The original is deleted once the new file is complete and was read back."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..dumpformat.compression import (
    ARCHIVE_MAGIC,
    BROKEN,
    FRAME_SPACING,
    Compression,
    DecompressedReader,
    SummingWriter,
    Sums,
    open_compressor,
    read_magic,
)
from ..errors import BadInputError, OperationFailedError
from ..system.runtime import Interruption, set_interrupt_message
from .atomic_write import delete_stale_parts, disk_error, is_same_file, open_part_file, replace_file, sync_folder
from .dump_file import choose_dump
from .paths import PART_SUFFIX, manifest_path, name_stem, read_manifest, sibling_paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ..config.settings import Settings
    from ..dumpformat.compression import CompressorThread, FrameStart
    from ..dumpformat.manifest import Manifest
    from ..progress import Report


@dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    :ivar path: The new file; the given one if nothing changed.
    :ivar before: Bytes of the file before; `after` bytes of the file now.
    """

    path: Path
    before: int
    after: int
    changed: bool


def convert_dump(settings: Settings, file: str, new: Compression, report: Report) -> Converted:
    """Change the compression of a dump, and update its manifest.

    :param file: The dump; empty for the newest.
    :param new: GZIP compresses an uncompressed dump; NONE expands gzip and zstd.
    :raises BadInputError: The dump is damaged, is an archive, or the new name exists. Nothing was changed.
    :raises OperationFailedError: The new file could not be written. The old one was kept.
    """
    source = choose_dump(settings, file, report)
    compression, head = read_magic(source)
    if source.parent == settings.dumps and not settings.dry:
        # In another folder, part files may be those of another program, such as a browser.
        delete_stale_parts(source.parent)
    before = source.stat().st_size
    if compression is new or (new is Compression.GZIP and compression is Compression.ZSTD):
        return _finished(settings, source, new) or Converted(path=source, before=before, after=before, changed=False)
    if head.startswith(ARCHIVE_MAGIC):
        raise BadInputError(f"{source.name} is an archive and has its own compression. Nothing was changed.")
    final = source.with_name(name_stem(source) + new.suffix)
    if final == source:
        raise BadInputError(
            f"The name {source.name} does not match the content, whose compression is {compression.value or 'none'}. "
            f"Nothing was changed. Rename the file first."
        )
    finished = _finished(settings, final, new)
    if finished is not None:
        return finished
    if final.exists():
        raise BadInputError(f"{final.name} exists already. Nothing was changed. Delete {final.name} or {source.name}.")
    if settings.dry:
        report.step(f"would write {final.name} and delete {source.name}")
        return Converted(path=source, before=before, after=before, changed=False)
    with _describing_files(source, final):
        after = _rewrite(source, final, new, report)
    return Converted(path=final, before=before, after=after, changed=True)


@contextlib.contextmanager
def _describing_files(source: Path, final: Path) -> Iterator[None]:
    """Name the file that exists after an interruption or a disk error."""
    try:
        yield
    except Interruption as interruption:
        kept = source.exists()
        interruption.state = f"{source.name} was kept." if kept else f"{final.name} was written completely."
        raise
    except OSError as error:
        raise disk_error(error, final) from None
    set_interrupt_message(f"{final.name} was written completely.")


def _finished(settings: Settings, final: Path, new: Compression) -> Converted | None:
    """Finish a conversion that was killed when both files existed; None if there is none.

    Both files then have the content that the manifest describes.
    """
    others = [each for each in sibling_paths(final) if each != final]
    if settings.dry or len(others) != 1 or not final.exists():
        return None
    (source,) = others
    if source.samefile(final):
        # Both names are links to one file.
        return None
    manifest = read_manifest(source)
    try:
        (_, content), (file, same) = _sums(source), _sums(final)
    except BROKEN:
        return None
    if manifest is None or not manifest.content == content == same or read_magic(final)[0] is not new:
        return None
    before = source.stat().st_size
    with _describing_files(source, final):
        # Where the frames of the new file begin is not known.
        _replace(source, final, new, manifest, file)
    return Converted(path=final, before=before, after=file.size, changed=True)


def _rewrite(source: Path, final: Path, new: Compression, report: Report) -> int:
    manifest = read_manifest(source)
    size = source.stat().st_size
    try:
        with open_part_file(final.with_name(final.name + PART_SUFFIX)) as part, DecompressedReader(source) as reading:
            sink = SummingWriter(part.file)
            with open_compressor(sink, new) as out:
                points = _SeekPoints(manifest)
                for chunk in _chunks(reading, source):
                    points.write(out, chunk)
                    report.progress(f"writing {final.name}", reading.raw.size, size, "bytes")
            if manifest is not None and reading.content != manifest.content:
                raise BadInputError(
                    f"{source.name} does not match its manifest: it was damaged or changed. It was kept as it is."
                )
            if _sums(part.path)[1] != reading.content:
                raise OperationFailedError(
                    f"{final.name} could not be read back as it was written. {source.name} was kept."
                )
            try:
                part.publish(final)
                _replace(source, final, new, manifest, sink.sums, points.moved(out.frames))
            except BaseException:
                if source.exists() and is_same_file(part.file.fileno(), final):
                    # The manifest describes the old file or only the content, so it remains valid.
                    final.unlink()
                raise
    except FileExistsError:
        raise BadInputError(f"Another process is writing {final.name}. {source.name} was kept.") from None
    return sink.size


class _SeekPoints:
    """The seek points of a manifest, at which frames of the new file begin, too."""

    def __init__(self, manifest: Manifest | None) -> None:
        self._kept: list[Mapping[str, Any]] = []
        begin = 0
        for each in manifest.extra.get("seek_points", ()) if manifest else ():
            # A wrong manifest must not cause a multitude of frames.
            if begin + FRAME_SPACING <= each["content_offset"]:
                begin = each["content_offset"]
                self._kept.append(each)
        self._left = deque(self._kept)

    def write(self, out: CompressorThread, chunk: bytes) -> None:
        """Write a chunk, and begin frames inside it."""
        while self._left and (length := self._left[0]["content_offset"] - out.taken) < len(chunk):
            self._left.popleft()
            out.write(chunk[:length])
            out.begin_frame()
            chunk = chunk[length:]
        out.write(chunk)

    def moved(self, frames: Sequence[FrameStart]) -> list[dict[str, Any]]:
        """Return them with the positions of the frames of the new file, without those beyond its end."""
        return [{**each, "file_offset": start.file} for each, start in zip(self._kept, frames, strict=False)]


def _replace(
    source: Path,
    final: Path,
    new: Compression,
    manifest: Manifest | None,
    file: Sums,
    points: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Update the manifest to the new file and its seek points, and delete the old file."""
    try:
        if manifest is not None:
            extra = {key: value for key, value in manifest.extra.items() if key != "seek_points"}
            if points:
                extra["seek_points"] = points
            changed = replace(manifest, file_name=final.name, compression=new, file=file, extra=extra)
            replace_file(manifest_path(final), changed.to_json())
        source.unlink()
    except OSError as error:
        raise disk_error(error, final) from None
    sync_folder(final.parent)


def _chunks(reading: DecompressedReader, source: Path) -> Iterator[bytes]:
    try:
        yield from reading.chunks()
    except BROKEN as error:
        raise BadInputError(f"{source.name} is cut or damaged ({error}). It was kept as it is.") from None


def _sums(path: Path) -> tuple[Sums, Sums]:
    """Return the checksums of a dump file and of its content."""
    with DecompressedReader(path) as reading:
        for _ in reading.chunks():
            pass
        return reading.raw.sums, reading.content
