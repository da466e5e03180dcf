"""gzip and gunzip of a dump in place: the original goes only when the new file is complete and right."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..archive import manifest as manifests
from ..archive import names, publish
from ..archive.codec import ARCHIVE_MAGIC, BROKEN, Compression, Reading, Summing, Sums, compressor, magic_of
from ..errors import BadInputError, WorkError
from .dumpfile import choose
from .placing import disk_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..settings import Settings
    from .report import Report


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


def convert(settings: Settings, file: str, wanted: Compression, report: Report) -> Converted:
    """Give a dump another compression, and keep its manifest true.

    :param file: The dump; empty for the newest.
    :param wanted: GZIP compresses what is not compressed at all; NONE expands gzip and zstd.
    :raises BadInputError: The dump is damaged, is an archive, or the new name is taken. Nothing was changed.
    :raises WorkError: The new file could not be written; the old one is as it was.
    """
    source = choose(settings, file, report)
    compression, head = magic_of(source)
    before = source.stat().st_size
    done = compression is wanted or (wanted is Compression.GZIP and compression is Compression.ZSTD)
    if done:
        return Converted(source, before, before, changed=False)
    if head.startswith(ARCHIVE_MAGIC):
        raise BadInputError(f"{source.name} is an archive, which holds its own compression. Nothing was changed.")
    final = source.with_name(names.stem(source) + wanted.suffix)
    if final == source:
        raise BadInputError(
            f"{source.name} is not what its name says: its content is {compression.value or 'none'}. Rename it first. "
            f"Nothing was changed."
        )
    if final.exists():
        raise BadInputError(f"{final.name} exists already, so {source.name} was left as it is. Remove one of them.")
    if settings.dry:
        report.step(f"would write {final.name} and remove {source.name}")
        return Converted(source, before, before, changed=False)
    if source.parent == settings.dumps:
        # In any other folder a part file may be somebody else's, as a browser's.
        publish.sweep(source.parent)
    after = _rewrite(source, final, wanted, report)
    return Converted(final, before, after, changed=True)


def _rewrite(source: Path, final: Path, wanted: Compression, report: Report) -> int:
    manifest = manifests.read(source)
    size = source.stat().st_size
    try:
        with publish.part_file(final.with_name(final.name + names.PART_SUFFIX)) as part, Reading(source) as reading:
            sink = Summing(part.file)
            with compressor(sink, wanted) as out:
                for chunk in _chunks(reading, source):
                    out.write(chunk)
                    report.progress(f"writing {final.name}", reading.raw.size, size, "bytes")
            if manifest is not None and reading.content != manifest.content:
                raise BadInputError(
                    f"{source.name} is not what its manifest describes: it was damaged or changed since. It was "
                    f"left as it is."
                )
            if _content(part.path) != reading.content:
                raise WorkError(f"{final.name} did not read back as it was written; {source.name} was left as it is.")
            part.publish(final)
    except FileExistsError:
        raise BadInputError(
            f"{final.name} is being written by somebody else; {source.name} was left as it is."
        ) from None
    except OSError as error:
        raise disk_error(error, final) from None
    try:
        if manifest is not None:
            changed = replace(manifest, file_name=final.name, compression=wanted, file=sink.sums)
            publish.replace(names.manifest_path(final), changed.to_json())
        source.unlink()
    except BaseException as error:
        if source.exists():
            # Its manifest is still the old one, or true of its content.
            final.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise disk_error(error, final) from None
        raise
    publish.sync_folder(final.parent)
    return sink.size


def _chunks(reading: Reading, source: Path) -> Iterator[bytes]:
    try:
        yield from reading.chunks()
    except BROKEN as error:
        raise BadInputError(f"{source.name} is cut or damaged ({error}), and was left as it is.") from None


def _content(path: Path) -> Sums:
    with Reading(path) as reading:
        for _ in reading.chunks():
            pass
        return reading.content
