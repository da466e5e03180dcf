"""Read the plain text of a dump of any format, up to a limit."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING

from ..dumpformat.compression import BROKEN, CHUNK, QUEUED, DecompressedReader, SumCounter, Sums
from ..dumpformat.foreign_head import BYTE_ORDER_MARK, LexError, describe_foreign_head
from ..formatting import format_size
from ..system.processes import StreamingProcess, run_program
from ..system.runtime import BackgroundTask

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from ..system.pg_programs import Client


class DumpReader:
    """A reader of the plain text of a dump of any format; a context manager.

    :param restorer: The pg_restore that converts an archive to text; None for other dumps.
    :param limit: The most bytes of text; 0 for any.
    :param summed: Whether to compute :attr:`content`.
    :param offset: The byte of the file at which to begin, as in :class:`DecompressedReader`; ignored for an archive.
    :ivar exceeded: Whether the text exceeds the limit.
    """

    def __init__(
        self, path: Path, restorer: Client | None, limit: int = 0, *, summed: bool = True, offset: int = 0
    ) -> None:
        self._path = path
        self._restorer = restorer
        self._limit = limit
        self._summed = summed
        self._offset = offset
        self.exceeded = False
        self._stack = contextlib.ExitStack()
        self._adder = SumCounter()
        self._reading: DecompressedReader | None = None

    def __enter__(self) -> DumpReader:  # noqa: PYI034 - never subclassed
        if self._restorer is None:
            reading = DecompressedReader(self._path, summed=self._summed, offset=self._offset)
            self._reading = self._stack.enter_context(reading)
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.__exit__(*details)  # type: ignore[arg-type]

    @property
    def position(self) -> int:
        """Bytes of the file read so far; 0 for an archive, which pg_restore reads."""
        return self._reading.raw.size if self._reading else 0

    @property
    def content(self) -> Sums:
        """Checksum and size of the text that was read so far."""
        return self._reading.content if self._reading else self._adder.sums

    def chunks(self) -> Iterator[bytes]:
        """Yield the text in chunks, without a byte order mark, which :attr:`content` counts.

        :raises LexError: The file is cut or damaged, pg_restore fails, the content is not a dump, or it exceeds the
            limit.
        """
        given, started = 0, self._offset > 0
        try:
            for chunk in self._reading.chunks() if self._reading else self._restored():
                if not given and (what := describe_foreign_head(chunk[:64], inside=True)):
                    raise LexError(f"its content is {what}")
                given += len(chunk)
                self.exceeded = 0 < self._limit < given
                if self.exceeded:
                    raise LexError(
                        f"it has more than {format_size(self._limit)} of text, which is too much for its size"
                    )
                if text := chunk if started else chunk.removeprefix(BYTE_ORDER_MARK):
                    started = True
                    yield text
        except BROKEN as error:
            raise LexError(f"its file is cut or damaged ({error})") from None

    def _restored(self) -> Iterator[bytes]:
        assert self._restorer is not None  # noqa: S101 - else there is a reading
        program = str(self._restorer.path)
        # By default the key is random, which would change the checksum of the text.
        known = "--restrict-key" in run_program([program, "--help"]).stdout
        key = ["--restrict-key=none"] if known else []
        argv = [program, "--file=-", "--clean", "--if-exists", *key, str(self._path)]
        child = self._stack.enter_context(StreamingProcess(argv))
        while chunk := child.stdout.read(CHUNK):
            self._adder.add(chunk)
            yield chunk
        if child.wait() != 0:
            raise LexError(f"pg_restore can't read it to its end ({child.said.strip()[-300:]})")


def read_ahead(chunks: Iterator[bytes]) -> Generator[bytes]:
    """Yield chunks that a thread reads, so that decompression and parsing overlap.

    Close it before the source of the chunks: this ends the thread.

    :raises Exception: The error of the source.
    """
    pieces: queue.Queue[bytes] = queue.Queue(QUEUED)
    stopped = threading.Event()

    def read() -> None:
        try:
            for chunk in chunks:
                pieces.put(chunk)
                if stopped.is_set():
                    break
        finally:
            pieces.put(b"")

    reading = BackgroundTask(read)
    reading.start()
    try:
        while chunk := pieces.get():
            yield chunk
        reading.result()
    finally:
        stopped.set()
        while reading.is_alive():
            with contextlib.suppress(queue.Empty):
                pieces.get(timeout=0.01)
