"""gzip and zstd as streams, with the sums of both sides taken on the way."""

from __future__ import annotations

import contextlib
import enum
import hashlib
import io
import sys
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol, cast

from isal import igzip_threaded, isal_zlib

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from psycopg.abc import Buffer

CHUNK = 1 << 20
ARCHIVE_MAGIC = b"PGDMP"
# Level 2 in two threads and level 3 with two workers: the best of a 401 MB dump on two cores.
GZIP_LEVEL = 2
ZSTD_LEVEL = 3
THREADS = 2
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


class Adder:
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


class Writable(Protocol):
    """Takes bytes."""

    def write(self, data: bytes, /) -> int:
        """Take all of it."""
        ...


class Readable(Protocol):
    """Gives bytes."""

    def read(self, size: int = ..., /) -> bytes:
        """Give at most `size` bytes, and none at the end."""
        ...


class Summing(io.RawIOBase):
    """A raw file that sums what passes through it, in either direction.

    :param file: The file underneath; closing this one leaves it open.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._adder = Adder()

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

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Write all of it, however often the file underneath has to be asked."""
        view = memoryview(data)
        total = len(view)
        # A raw file may take less than it was given.
        while view:
            view = view[self._file.write(view) :]
        self._adder.add(data)
        return total


@contextlib.contextmanager
def compressor(sink: Summing, compression: Compression) -> Iterator[Writable]:
    """Open a stream that compresses into `sink`; leaving without an error completes the file.

    Leaving with an error must not look like a complete file: the caller discards the part file.

    :raises OSError: The file could not be written (a full disk, say).
    """
    if compression is Compression.NONE:
        yield sink
    elif compression is Compression.GZIP:
        stream = igzip_threaded.open(sink, "wb", compresslevel=GZIP_LEVEL, threads=THREADS)  # type: ignore[no-untyped-call]
        try:
            yield cast("Writable", stream)
            stream.close()
        except BaseException as error:
            with contextlib.suppress(OSError):
                stream.close()
            # Every call raises the one error of its thread, and so makes it its own context: a circle, in which
            # whoever follows it (contextlib.ExitStack) goes round for ever.
            error.__context__ = None
            raise
    else:
        options: dict[int, int] = {
            zstd.CompressionParameter.compression_level: ZSTD_LEVEL,
            zstd.CompressionParameter.nb_workers: THREADS,
            # By default there is no checksum, and a flipped bit would go unseen.
            zstd.CompressionParameter.checksum_flag: 1,
        }
        with zstd.ZstdFile(cast("IO[bytes]", sink), "wb", options=options) as stream:
            yield stream


def magic_of(path: Path) -> tuple[Compression, bytes]:
    """Tell by its first bytes how a file is compressed, and return these bytes (at most 16)."""
    with path.open("rb") as file:
        head = file.read(16)
    return next((each for magic, each in _MAGIC.items() if head.startswith(magic)), Compression.NONE), head


class Reading:
    """A dump's content as chunks, with the sums of the file and of the content.

    :param path: The file; its compression is told by its first bytes, whatever its name.
    :ivar compression: What it was found to be.
    :ivar raw: The file's side: size so far, and its sums once all was read.
    """

    def __init__(self, path: Path) -> None:
        self.compression, _ = magic_of(path)
        self._path = path
        self._content = Adder()
        self._file: IO[bytes] | None = None
        self.raw: Summing

    def __enter__(self) -> Reading:  # noqa: PYI034 - never subclassed
        self._file = self._path.open("rb", buffering=0)
        self.raw = Summing(self._file)
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
