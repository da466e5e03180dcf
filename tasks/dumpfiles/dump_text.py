"""Read the text of a dump once, for its summary, migration history and checksum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..dumpformat.lexer import lex
from ..dumpformat.summary import DumpSummary
from .prisma_history import HistoryReader

if TYPE_CHECKING:
    from ..dumpformat.compression import Sums
    from ..progress import Report
    from .reader import DumpReader


@dataclass(frozen=True)
class DumpText:
    """The facts in a dump's text.

    :ivar content: Checksum and size of the plain text.
    """

    summary: DumpSummary
    history: HistoryReader
    content: Sums


def read_dump_text(source: DumpReader, size: int, report: Report) -> DumpText:
    """Read a dump to its end.

    :param size: Bytes of the file, for the progress.
    :raises LexError: It can't be read, or must not be restored.
    """
    summary, history = DumpSummary(), HistoryReader()
    with source:
        for event, _ in summary.watch(lex(source.chunks())):
            history.see(event, summary.current)
            report.progress("reading the dump", source.position, size, "bytes")
        return DumpText(summary=summary, history=history, content=source.content)
