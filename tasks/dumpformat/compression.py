"""gzip and zstd as streams, with the sums of both sides taken on the way."""

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
from typing import IO, TYPE_CHECKING, Protocol, cast

from isal import igzip_threaded, isal_zlib

from ..system.processes import open_regular
from ..system.runtime import BackgroundTask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from psycopg.abc import Buffer


if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK = 1 << 20
ARCHIVE_MAGIC = b"PGDMP"
# The most for the time that it takes (docs/performance.md).
GZIP_LEVEL = 1
ZSTD_LEVEL = 1
# gzip's header and trailer around what zlib calls 15 bits of window.
_GZIP_BITS = 31
# Bytes that are worth waking it for.
GATHERED = 1 << 16
# Pieces that wait for the compressor, of a megabyte at most.
QUEUED = 4
# What a reader raises when its input is cut, damaged or followed by garbage.
BROKEN: tuple[type[Exception], ...] = (EOFError, zlib.error, zstd.ZstdError, isal_zlib.error, OSError)  # type: ignore[assignment]


class Compression(enum.Enum):
    """How a dump's file is compressed; the value is what the manifest says."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"

    @property
    def suffix(self) -> str:
        """The end of the file's name."""
        return {Compression.NONE: ".sql", Compression.GZIP: ".sql.gz", Compression.ZSTD: ".sql.zst"}[self]

    @classmethod
    def of_name(cls, name: str) -> Compression | None:
        """Tell the compression from a file's name; None where it has none of our suffixes."""
        return next((each for each in reversed(cls) if name.endswith(each.suffix)), None)


_MAGIC = {b"\x1f\x8b": Compression.GZIP, b"\x28\xb5\x2f\xfd": Compression.ZSTD}


@dataclass(frozen=True)
class Sums:
    """Size and sha256 of a stream.

    :ivar size: Bytes.
    :ivar sha256: Hexadecimal.
    """

    size: int
    sha256: str


class SumCounter:
    """Adds up size and sha256 of what it is shown."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()
        self.size = 0

    def add(self, data: Buffer) -> None:
        """Add a piece."""
        self._sum.update(data)
        self.size += memoryview(data).nbytes

    @property
    def sums(self) -> Sums:
        """What was added so far."""
        return Sums(self.size, self._sum.hexdigest())


class Readable(Protocol):
    """Gives bytes."""

    def read(self, size: int = ..., /) -> bytes:
        """Give at most `size` bytes, and none at the end."""
        ...


class SummingWriter(io.RawIOBase):
    """A raw file that sums what passes through it, in either direction.

    :param file: The file underneath; closing this one leaves it open.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._adder = SumCounter()

    @property
    def sums(self) -> Sums:
        """What has passed so far."""
        return self._adder.sums

    @property
    def size(self) -> int:
        """Bytes that have passed so far."""
        return self._adder.size

    def readable(self) -> bool:
        """Say yes: whether it is depends on the file underneath."""
        return True

    def writable(self) -> bool:
        """Say yes: whether it is depends on the file underneath."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read into `buffer` and sum what came."""
        count = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self._adder.add(buffer[:count])
        return int(count)

    def write(self, data: Buffer) -> int:  # type: ignore[override]
        """Write all of it, however often the file underneath has to be asked."""
        view = memoryview(data)
        total = len(view)
        # A raw file may take less than it was given.
        while view:
            view = view[self._file.write(view) :]
        self._adder.add(data)
        return total


class _Packer(Protocol):
    """What `zlib`, isal and zstd call a compressor."""

    def compress(self, data: Buffer, /) -> bytes: ...

    def flush(self) -> bytes: ...


class CompressorThread(BackgroundTask[None]):
    """Sums, compresses and writes what it is given, in a thread of its own.

    So whoever reads, splits and counts the content need not wait for it. One thread is enough: it is faster than
    pg_dump writes, and takes a third less of the processors than isal's own threads do, which is what counts where
    pg_dump and the server share them.

    :param sink: Where the compressed bytes go.
    :ivar taken: Bytes that went in so far.
    """

    def __init__(self, sink: SummingWriter, compression: Compression) -> None:
        super().__init__(self._pack_all)
        self._sink = sink
        self._packer = _packer(compression)
        # Uncompressed, file and content are one: no need to sum it twice.
        self._adder = SumCounter() if self._packer else None
        self._pieces: queue.SimpleQueue[bytes | bytearray | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(QUEUED)
        self._gathered: list[bytes | bytearray] = []
        self._gathered_bytes = 0
        self.taken = 0
        self.start()

    @property
    def content(self) -> Sums:
        """Sums of what went in, uncompressed; to be asked for once :meth:`finish` has returned."""
        return self._adder.sums if self._adder else self._sink.sums

    def write(self, data: bytes | bytearray) -> int:
        """Take a piece, however small: small ones are handed on together.

        :raises OSError: An earlier one could not be written (a full disk, say).
        """
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        self.taken += len(data)
        if self._gathered_bytes >= GATHERED:
            self._forward()
        return len(data)

    def _forward(self) -> None:
        self.raise_error()
        self._room.acquire()
        self._pieces.put(b"".join(self._gathered) if len(self._gathered) > 1 else self._gathered[0])
        self._gathered.clear()
        self._gathered_bytes = 0

    def finish(self) -> None:
        """Complete the file.

        :raises OSError: It could not be written.
        """
        if self._gathered:
            self._forward()
        self.stop()
        self.raise_error()
        if self._packer:
            self._sink.write(self._packer.flush())

    def stop(self) -> None:
        """End the thread, once it is through with what it was given."""
        self._pieces.put(None)
        self.join()

    def run(self) -> None:
        """Do the work, until the end of it or the first error, which the next piece or the end raises."""
        super().run()
        # One that waits with a piece may go on, and meets the error.
        self._room.release()

    def _pack_all(self) -> None:
        while (piece := self._pieces.get()) is not None:
            self._pack(piece)
            self._room.release()

    def _pack(self, piece: bytes | bytearray) -> None:
        if self._packer and self._adder:
            self._adder.add(piece)
            piece = self._packer.compress(piece)
        self._sink.write(piece)


def _packer(compression: Compression) -> _Packer | None:
    if compression is Compression.NONE:
        return None
    if compression is Compression.GZIP:
        return cast("_Packer", isal_zlib.compressobj(GZIP_LEVEL, wbits=_GZIP_BITS))
    # By default there is no checksum, and a flipped bit would go unseen.
    options = {zstd.CompressionParameter.compression_level: ZSTD_LEVEL, zstd.CompressionParameter.checksum_flag: 1}
    return zstd.ZstdCompressor(options=cast("Mapping[int, int]", options))


@contextlib.contextmanager
def open_compressor(sink: SummingWriter, compression: Compression) -> Iterator[CompressorThread]:
    """Open a stream that compresses into `sink`; leaving without an error completes the file.

    Leaving with an error must not look like a complete file: the caller discards the part file.

    :raises OSError: The file could not be written (a full disk, say).
    """
    compressing = CompressorThread(sink, compression)
    try:
        yield compressing
        compressing.finish()
    finally:
        compressing.stop()


def read_magic(path: Path) -> tuple[Compression, bytes]:
    """Tell by its first bytes how a file is compressed, and return these bytes (at most 64)."""
    with open_regular(path) as file:
        head = file.read(64)
    return next((each for magic, each in _MAGIC.items() if head.startswith(magic)), Compression.NONE), head


class DecompressedReader:
    """A dump's content as chunks, with the sums of the file and of the content.

    :param path: The file; its compression is told by its first bytes, whatever its name.
    :ivar compression: What it was found to be.
    :ivar raw: The file's side: size so far, and its sums once all was read.
    """

    def __init__(self, path: Path) -> None:
        self.compression, _ = read_magic(path)
        self._path = path
        self._content = SumCounter()
        self._file: IO[bytes] | None = None
        self.raw: SummingWriter

    def __enter__(self) -> DecompressedReader:  # noqa: PYI034 - never subclassed
        self._file = open_regular(self._path)
        self.raw = SummingWriter(self._file)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def content(self) -> Sums:
        """Sums of the content that was handed on so far."""
        return self._content.sums

    def chunks(self) -> Iterator[bytes]:
        """Hand on the content in pieces of about a megabyte.

        :raises EOFError: The compressed file is cut.
        :raises OSError: It can't be read, or it is damaged (a subclass of it, or one of `BROKEN`).
        """
        with self._open() as stream:
            while chunk := stream.read(CHUNK):
                self._content.add(chunk)
                yield chunk

    def _open(self) -> contextlib.AbstractContextManager[Readable]:
        if self.compression is Compression.GZIP:
            reader: contextlib.AbstractContextManager[Readable] = igzip_threaded.open(self.raw, "rb", threads=1)  # type: ignore[no-untyped-call]
            return reader
        if self.compression is Compression.ZSTD:
            return zstd.ZstdFile(io.BufferedReader(self.raw, CHUNK), "rb")
        return contextlib.nullcontext(cast("Readable", self.raw))
