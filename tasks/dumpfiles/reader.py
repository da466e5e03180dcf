"""The plain text of a dump in chunks, whatever its format, and no more of it than there may be."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING

from ..dumpformat.compression import BROKEN, CHUNK, QUEUED, DecompressedReader, SumCounter, Sums
from ..dumpformat.foreign_head import LexError, describe_foreign_head
from ..formatting import format_size
from ..system.processes import StreamingProcess, run_program
from ..system.runtime import BackgroundTask

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from ..system.pg_programs import Client


class DumpReader:
    """The plain text of a dump in chunks, whatever its format; a context manager.

    :param restorer: The pg_restore that turns an archive into text; None for plain dumps.
    :param limit: How many bytes of text it may give; 0 for any.
    :param summed: Whether :attr:`content` will be asked for.
    :ivar exceeded: It would have given more.
    """

    def __init__(self, path: Path, restorer: Client | None, limit: int = 0, *, summed: bool = True) -> None:
        self._path = path
        self._restorer = restorer
        self._limit = limit
        self._summed = summed
        self.exceeded = False
        self._stack = contextlib.ExitStack()
        self._adder = SumCounter()
        self._reading: DecompressedReader | None = None

    def __enter__(self) -> DumpReader:  # noqa: PYI034 - never subclassed
        if self._restorer is None:
            self._reading = self._stack.enter_context(DecompressedReader(self._path, summed=self._summed))
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.__exit__(*details)  # type: ignore[arg-type]

    @property
    def position(self) -> int:
        """Bytes of the file read so far; 0 for an archive, which pg_restore reads."""
        return self._reading.raw.size if self._reading else 0

    @property
    def file(self) -> Sums | None:
        """Sums of the file, once all was read; None for an archive."""
        return self._reading.raw.sums if self._reading else None

    @property
    def content(self) -> Sums:
        """Sums of the text that was handed on so far."""
        return self._reading.content if self._reading else self._adder.sums

    def chunks(self) -> Iterator[bytes]:
        """Hand on the text.

        :raises LexError: The file is cut or damaged, or pg_restore can't read it to its end; or it holds something
            else than a dump, or more than it may.
        """
        given = 0
        try:
            for chunk in self._reading.chunks() if self._reading else self._restored():
                if not given and (what := describe_foreign_head(chunk[:64], inside=True)):
                    raise LexError(f"what it holds is {what}")
                given += len(chunk)
                self.exceeded = 0 < self._limit < given
                if self.exceeded:
                    raise LexError(
                        f"it holds more than {format_size(self._limit)} of text, far more than its size lets expect"
                    )
                yield chunk
        except BROKEN as error:
            raise LexError(f"its file is cut or damaged ({error})") from None

    def _restored(self) -> Iterator[bytes]:
        assert self._restorer is not None  # noqa: S101 - else there is a reading
        program = str(self._restorer.path)
        # Else its key is another one each time, and so is the sum of the text.
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
    """Hand on chunks that a thread of its own reads, so that expanding a file and looking at its text overlap.

    To be closed before what the chunks come from: the thread has ended then.

    :raises Exception: What the reading raised.
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
