"""Read and write gzip and zstd as streams, with size and sha256 of the file and of its content."""

from __future__ import annotations

import contextlib
import enum
import hashlib
import io
import queue
import sys
import threading
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, Protocol, cast

from isal import igzip_threaded, isal_zlib

from ..system.processes import open_regular
from ..system.runtime import SHARED_PROCESSORS, BackgroundTask, count_processors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from _typeshed import SupportsRead
    from psycopg.abc import Buffer


if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK = 1 << 20
ARCHIVE_MAGIC = b"PGDMP"
# The best ratio for its time (docs/performance.md).
GZIP_LEVEL = 1
ZSTD_LEVEL = 1
# zlib's value for gzip's header and trailer with a window of 15 bits.
_GZIP_BITS = 31
# Bytes that are passed to the compressor's thread at once.
GATHERED = 1 << 16
# The largest number of pieces, of a megabyte at most, in the compressor's queue.
QUEUED = 4
# The least content of a frame, in bytes, before another one begins. Each zstd frame costs 1 to 8 kB (measured).
FRAME_SPACING = 1 << 24
# In the compressor's queue, instead of a piece.
_NEW_FRAME: Final = bytearray()
# The most bytes that are decompressed at once; after each frame those of the next are copied.
_ZSTD_INPUT = 1 << 17
# The errors of a reader whose input is cut, damaged or followed by other data.
BROKEN: tuple[type[Exception], ...] = (EOFError, zlib.error, zstd.ZstdError, isal_zlib.error, OSError)  # type: ignore[assignment]


class Compression(enum.Enum):
    """The compression of a dump's file; the value is that of the manifest."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"

    @property
    def suffix(self) -> str:
        """Return the suffix of the file's name."""
        return {Compression.NONE: ".sql", Compression.GZIP: ".sql.gz", Compression.ZSTD: ".sql.zst"}[self]

    @classmethod
    def of_name(cls, name: str) -> Compression | None:
        """Return the compression of a file's name; None if it has none of our suffixes."""
        return next((each for each in reversed(cls) if name.endswith(each.suffix)), None)


_MAGIC = {b"\x1f\x8b": Compression.GZIP, b"\x28\xb5\x2f\xfd": Compression.ZSTD}


@dataclass(frozen=True)
class Sums:
    """The size in bytes and the sha256, in hex, of a stream."""

    size: int
    sha256: str


@dataclass(frozen=True)
class FrameStart:
    """The position at which a frame of zstd or a member of gzip begins, in bytes of the file and of its content."""

    file: int
    content: int


class SumCounter:
    """A counter of the size and the sha256 of data.

    :param summed: Whether to compute the sha256, which takes time. If not, it is that of no data.
    """

    def __init__(self, *, summed: bool = True) -> None:
        self._sum = hashlib.sha256()
        self._summed = summed
        self.size = 0

    def add(self, data: Buffer) -> None:
        """Add a piece."""
        if self._summed:
            self._sum.update(data)
        self.size += memoryview(data).nbytes

    @property
    def sums(self) -> Sums:
        """Return the sums of the data so far."""
        return Sums(self.size, self._sum.hexdigest())


class SummingWriter(SumCounter, io.RawIOBase):
    """A raw file that sums the data that is read from it or written to it.

    :param file: The underlying file; closing this object does not close it.
    :param summed: As for :class:`SumCounter`.
    """

    def __init__(self, file: IO[bytes], *, summed: bool = True) -> None:
        super().__init__(summed=summed)
        self._file = file

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read into `buffer` and sum the data."""
        count = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self.add(buffer[:count])
        return int(count)

    def write(self, data: Buffer) -> int:  # type: ignore[override]
        """Write and sum all of the data."""
        view = memoryview(data)
        total = len(view)
        # A raw file may write only a part at a time.
        while view:
            view = view[self._file.write(view) :]
        self.add(data)
        return total


class _Packer(Protocol):
    """The compressor objects of `zlib`, isal and zstd."""

    def compress(self, data: Buffer, /) -> bytes: ...

    def flush(self) -> bytes: ...


class CompressorThread(BackgroundTask[None]):
    """A thread that sums, compresses and writes data.

    The thread that reads, splits and counts the content does not wait for it. With more than a few processors, zstd
    compresses in another thread, while this one sums. isal's own threads need half as much processor time again.

    :param sink: The file for the compressed bytes.
    :ivar taken: The number of bytes passed to it so far.
    :ivar frames: The frames that :meth:`begin_frame` began; complete after :meth:`finish`.
    """

    def __init__(self, sink: SummingWriter, compression: Compression) -> None:
        super().__init__(self._pack_all)
        self._sink = sink
        self._compression = compression
        self._packer = _packer(compression)
        # Without compression, file and content are the same and are summed once.
        self._counter = SumCounter() if self._packer else sink
        self._pieces: queue.SimpleQueue[bytes | bytearray | None] = queue.SimpleQueue()
        self._free_slots = threading.Semaphore(QUEUED)
        self._gathered: list[bytes | bytearray] = []
        self._gathered_bytes = 0
        self.taken = 0
        self.frames: list[FrameStart] = []
        self.start()

    @property
    def content(self) -> Sums:
        """Return the sums of the uncompressed content; valid after :meth:`finish`."""
        return self._counter.sums

    def write(self, data: bytes | bytearray) -> int:
        """Add a piece of any size; small ones are collected and passed on together.

        :raises OSError: An earlier piece could not be written, for example because the disk is full.
        """
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        self.taken += len(data)
        if self._gathered_bytes >= GATHERED:
            self._forward()
        return len(data)

    def begin_frame(self) -> None:
        """Begin a frame, at which a reader may begin; all frames together are an ordinary file of zstd or gzip.

        Without compression, only the position is recorded.
        """
        self._forward()
        self._pieces.put(_NEW_FRAME)

    def _forward(self) -> None:
        if not self._gathered:
            return
        self.raise_error()
        self._free_slots.acquire()
        self._pieces.put(b"".join(self._gathered) if len(self._gathered) > 1 else self._gathered[0])
        self._gathered.clear()
        self._gathered_bytes = 0

    def finish(self) -> None:
        """Complete the file.

        :raises OSError: It could not be written.
        """
        self._forward()
        self.stop()
        self.raise_error()
        if self._packer:
            self._sink.write(self._packer.flush())

    def stop(self) -> None:
        """Wait until the thread has written its queue, and end it."""
        self._pieces.put(None)
        self.join()

    def run(self) -> None:
        """Compress until the end or the first error, which the next :meth:`write` or :meth:`finish` raises."""
        super().run()
        # A writer that waits for a slot continues, and raises the error.
        self._free_slots.release()

    def _pack_all(self) -> None:
        while (piece := self._pieces.get()) is not None:
            if piece is _NEW_FRAME:
                self._start_frame()
                continue
            if self._packer:
                self._counter.add(piece)
                piece = self._packer.compress(piece)
            self._sink.write(piece)
            self._free_slots.release()

    def _start_frame(self) -> None:
        if self._packer:
            self._sink.write(self._packer.flush())
            self._packer = _packer(self._compression)
        self.frames.append(FrameStart(file=self._sink.size, content=self._counter.size))


def _packer(compression: Compression) -> _Packer | None:
    if compression is Compression.NONE:
        return None
    if compression is Compression.GZIP:
        return cast("_Packer", isal_zlib.compressobj(GZIP_LEVEL, wbits=_GZIP_BITS))
    # By default zstd writes no checksum, and a flipped bit would not be detected.
    options = {zstd.CompressionParameter.compression_level: ZSTD_LEVEL, zstd.CompressionParameter.checksum_flag: 1}
    if count_processors() > SHARED_PROCESSORS:
        options[zstd.CompressionParameter.nb_workers] = 1
    return zstd.ZstdCompressor(options=cast("Mapping[int, int]", options))


@contextlib.contextmanager
def open_compressor(sink: SummingWriter, compression: Compression) -> Iterator[CompressorThread]:
    """Open a stream that compresses into `sink`; the file is complete if the block ends without an error.

    After an error the caller deletes the part file.

    :raises OSError: The file could not be written, for example because the disk is full.
    """
    compressing = CompressorThread(sink, compression)
    try:
        yield compressing
        compressing.finish()
    finally:
        compressing.stop()


def read_magic(path: Path) -> tuple[Compression, bytes]:
    """Return a file's compression, by its first bytes, and these bytes (at most 64)."""
    with open_regular(path) as file:
        head = file.read(64)
    return next((each for magic, each in _MAGIC.items() if head.startswith(magic)), Compression.NONE), head


class _ZstdReader:
    """A reader of zstd frames; it copies the content once less than :class:`zstd.ZstdFile`.

    :param raw: The compressed file.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._frame = zstd.ZstdDecompressor()
        self._begun = False

    def read(self, size: int = CHUNK, /) -> bytes:
        """Return at most `size` bytes; empty at the end.

        :raises EOFError: The file ends inside a frame.
        """
        while True:
            given = b""
            if self._frame.eof:
                given, self._frame, self._begun = self._frame.unused_data, zstd.ZstdDecompressor(), False
            if not given and self._frame.needs_input and not (given := self._raw.read(_ZSTD_INPUT) or b""):
                if self._begun:
                    raise EOFError("the file ends inside a frame of zstd")
                return b""
            self._begun = True
            if found := self._frame.decompress(given, size):
                return found


class DecompressedReader:
    """A reader of a dump's content in chunks, with the sums of the file and of the content; a context manager.

    :param path: The file; its first bytes, not its name, determine the compression.
    :param summed: Whether to compute the sha256 of the file and of the content, which takes time.
    :param offset: The byte of the file at which to begin, in a compressed file the start of a frame.
    :ivar compression: The compression of the file.
    :ivar raw: The compressed file, with its size so far and, after all was read, its sums.
    """

    def __init__(self, path: Path, *, summed: bool = True, offset: int = 0) -> None:
        self.compression, _ = read_magic(path)
        self._content = SumCounter(summed=summed)
        self._file = open_regular(path)
        self._file.seek(offset)
        self.raw = SummingWriter(self._file, summed=summed)

    def __enter__(self) -> DecompressedReader:  # noqa: PYI034 - never subclassed
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def content(self) -> Sums:
        """Return the sums of the content so far."""
        return self._content.sums

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in pieces of about a megabyte.

        :raises EOFError: The compressed file is cut.
        :raises OSError: It can't be read, or it is damaged; damage may also raise another error of `BROKEN`.
        """
        with self._open() as stream:
            while chunk := stream.read(CHUNK):
                self._content.add(chunk)
                yield chunk

    def _open(self) -> contextlib.AbstractContextManager[SupportsRead[bytes]]:
        if self.compression is Compression.GZIP:
            return cast("io.BufferedReader", igzip_threaded.open(self.raw, "rb", threads=1))  # type: ignore[no-untyped-call]
        if self.compression is Compression.ZSTD:
            return contextlib.nullcontext(_ZstdReader(self.raw))
        return contextlib.nullcontext(cast("SupportsRead[bytes]", self.raw))
