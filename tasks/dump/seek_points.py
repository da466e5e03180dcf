"""Begin frames at the rows of tables while a dump is written, so that `db.show` need not read from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dumpformat.lexer import Statement
from ..formatting import show_name

if TYPE_CHECKING:
    from ..dumpformat.compression import CompressorThread
    from ..dumpformat.lexer import Event


class SeekPoints:
    """The frames of a dump and the tables whose rows begin in each.

    A frame begins at the first COPY of a table, where the last one has enough content. A table is recorded only with
    its first COPY, so all of its rows follow the start of its frame.

    :param out: The compressor of the dump.
    """

    def __init__(self, out: CompressorThread) -> None:
        self._out = out
        self._seen: set[tuple[str, str]] = set()
        self._tables: list[list[str]] = []

    def see(self, event: Event, table: tuple[str, str] | None) -> None:
        """Begin a frame at an event, if it is suitable. Call it before the event is written.

        :param table: The table of the current COPY.
        """
        if table is None or not isinstance(event, Statement) or table in self._seen:
            return
        self._seen.add(table)
        if self._out.begin_frame():
            self._tables.append([])
        if self._tables:
            self._tables[-1].append(show_name(table))

    def document(self) -> list[dict[str, object]]:
        """Return `seek_points` of the manifest, once the compressor has finished. The first frame is left out."""
        return [
            {"file_offset": start.file, "content_offset": start.content, "tables": tables}
            for start, tables in zip(self._out.frames, self._tables, strict=True)
        ]
