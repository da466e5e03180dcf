"""The text format of COPY (PostgreSQL manual, COPY, "Text Format")."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .tokens import TokenReader

if TYPE_CHECKING:
    from .lexer import Statement

NULL: Final = b"\\N"
# The escapes of COPY TO. COPY FROM also accepts octal and hexadecimal ones, which appear in no dump.
_ESCAPES: Final = {
    rb"\b": b"\b",
    rb"\f": b"\f",
    rb"\n": b"\n",
    rb"\r": b"\r",
    rb"\t": b"\t",
    rb"\v": b"\v",
    rb"\\": b"\\",
}
_ESCAPED: Final = re.compile(rb"\\[bfnrtv\\]")
_SPECIAL: Final = re.compile(rb"[\b\f\n\r\t\v\\]")
_ESCAPE_OF: Final = {value: key for key, value in _ESCAPES.items()}


def escape_value(value: bytes) -> bytes:
    """Return a value with the escapes of COPY."""
    return _SPECIAL.sub(lambda found: _ESCAPE_OF[found.group()], value)


def unescape_value(raw: bytes) -> bytes | None:
    """Return a value of COPY without its escapes; None for NULL."""
    return None if raw == NULL else _ESCAPED.sub(lambda found: _ESCAPES[found.group()], raw)


def copied_columns(statement: Statement) -> list[str]:
    """Return the columns that a COPY statement lists."""
    words, columns = TokenReader(statement.text, standard=statement.standard), []
    words.take()
    words.names()
    if words.sign(b"("):
        columns.append(words.name())
        while words.sign(b","):
            columns.append(words.name())
    return columns
