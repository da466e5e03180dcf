"""Reads a dump's text to its end, once, for all that is to be known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..archive.history import History
from ..archive.lexer import lex
from ..archive.survey import Survey

if TYPE_CHECKING:
    from ..archive.codec import Sums
    from .report import Report
    from .source import Source


@dataclass(frozen=True)
class Text:
    """What stands in a dump.

    :ivar content: Sums of the plain text.
    """

    survey: Survey
    history: History
    content: Sums


def read(source: Source, size: int, report: Report) -> Text:
    """Read it to its end.

    :param size: Bytes of the file, for the progress.
    :raises LexError: It can't be read, or may not be restored.
    """
    survey, history = Survey(), History()
    with source:
        for event, _ in survey.watch(lex(source.chunks())):
            history.see(event, survey.current)
            report.progress("reading the dump", source.position, size, "bytes")
        return Text(survey, history, source.content)
