"""Begin frames at the rows of tables while a dump is written, so that `db.show` need not read from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dumpformat.compression import FRAME_SPACING
from ..dumpformat.lexer import Statement
from ..formatting import show_name

if TYPE_CHECKING:
    from ..dumpformat.compression import CompressorThread
    from ..dumpformat.lexer import Event
    from ..dumpformat.summary import DumpSummary


class SeekPoints:
    """The frames of a dump, and the tables whose rows begin in each.

    A frame begins at the first COPY of a table, if the current one is long enough. A table is listed only in the frame
    of its first COPY, so reading from there finds all of its rows.

    :param out: The compressor of the dump.
    :param summary: The summary of the events so far.
    :param spacing: The least content of a frame, in bytes.
    """

    def __init__(self, out: CompressorThread, summary: DumpSummary, *, spacing: int = FRAME_SPACING) -> None:
        self._out = out
        self._summary = summary
        self._spacing = spacing
        self._begin = 0
        self._seen: set[tuple[str, str]] = set()
        self._tables: list[list[str]] = []

    def see(self, event: Event) -> None:
        """Begin a frame at an event, if it is suitable. Call it before the event is written."""
        table = self._summary.current
        # db.show refuses a table with INSERT statements, so it must read them.
        if not isinstance(event, Statement) or table is None or table in self._seen or self._summary.inserts:
            return
        self._seen.add(table)
        if self._out.taken - self._begin >= self._spacing:
            self._out.begin_frame()
            self._begin = self._out.taken
            self._tables.append([])
        if self._tables:
            self._tables[-1].append(show_name(table))

    def document(self) -> list[dict[str, object]]:
        """Return `seek_points` of the manifest, once the compressor has finished. The first frame is left out."""
        return [
            {"file_offset": start.file, "content_offset": start.content, "tables": tables}
            for start, tables in zip(self._out.frames, self._tables, strict=True)
        ]
