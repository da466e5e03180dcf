"""Split a plain dump into statements and COPY data while it streams.

The rules are those of psql (`src/fe_utils/psqlscan.l`): quotes, dollar quotes, nested comments,
parentheses, and `BEGIN ATOMIC … END` inside `CREATE FUNCTION`. It does not split at lines: function bodies,
literals, rows and names may contain lines that look like SQL. The concatenated texts of the events equal
the input, byte for byte. If a split is wrong, the server refuses the broken statement, and the restore is
rolled back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .foreign_head import LexError
from .statements import classify_statement
from .tokens import (
    BLANK,
    BLOCK,
    DOLLAR_QUOTE,
    ESCAPED,
    IDENTIFIER,
    LINE_END,
    NAME,
    TokenReader,
    escapes_backslash,
    quote_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


# The server refuses larger messages (MaxAllocSize), so no dump holds a larger statement.
STATEMENT_LIMIT = 1 << 30
# Longer comments are split into pieces, as trivia.
COMMENT_LIMIT = 1 << 16
_END_OF_DATA = re.compile(rb"\n\\\.\r?\n")
# Beginnings of the end of data, longest first, that the next chunk may complete.
_HALF_ENDS = (b"\n\\.\r", b"\n\\.", b"\n\\", b"\n")

_TOKEN = re.compile(rb"""(?P<word>%s)|(?P<dollar>%s)|--|/\*|['"();\\]""" % (IDENTIFIER, DOLLAR_QUOTE))
# Bytes at the end of a buffer that may become another token with the next bytes.
_UNSETTLED = b"$/-_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" + bytes(range(0x80, 0x100))
# Far longer than any name or number; a run of such bytes is scanned again with each chunk.
_WORD_LIMIT = 1 << 20
# psql recognizes CREATE FUNCTION and CREATE OR REPLACE PROCEDURE by their initials.
_INITIALS = {b"create": b"c", b"function": b"f", b"procedure": b"f", b"or": b"o", b"replace": b"r"}
_FUNCTIONS = frozenset({b"cf", b"corf"})
_LIKELY = _FUNCTIONS | {b"c", b"co", b"cor"}
# Matches most statements at once: they have no backslash, dollar quote, comment or function body, and their parentheses
# are closed at the semicolon. Others, and long ones, are scanned token by token. At each byte at most one branch
# matches, so there is no backtracking; possessive quantifiers match wrongly before Python 3.11.5 (gh-106052).
_RUN = rb"""[^'"$;()\\/-]*"""
_SIMPLE_PART = rb""""[^"]*"|(?<![eE])'[^'\\]*'|-(?!-)|/(?!\*)"""
_SIMPLE_LIMIT = 1 << 13


def _balanced(depth: int) -> bytes:
    """Return the pattern of simple text with balanced parentheses, nested at most `depth` times."""
    inner = rb"%s|\(%s\)" % (_SIMPLE_PART, _balanced(depth - 1)) if depth else _SIMPLE_PART
    return rb"%s(?:(?:%s)%s)*" % (_RUN, inner, _RUN)


_NO_FUNCTION = rb"(?=[A-Z])(?!CREATE\b(?!\s+(?:TABLE|UNLOGGED|INDEX|UNIQUE|SEQUENCE|VIEW|TYPE|TRIGGER|POLICY)\b))"
_SIMPLE = re.compile(rb"%s%s;" % (_NO_FUNCTION, _balanced(4)), re.IGNORECASE)
# The form of pg_dump; other forms are read token by token.
_COPY = re.compile(
    rb"COPY (?P<table>%(n)s(?:\.%(n)s)?) (?:\(%(n)s(?:, %(n)s)*\))? FROM stdin;\Z" % {b"n": NAME}, re.IGNORECASE
)
# The first four letters of RESET and SELECT.
_SETTERS = frozenset({b"RESE", b"SELE"})
_PREFIXES = frozenset(bytes([letter]) for letter in b"eEbBxXuU")
# False in the server's parse_bool; a value that the server refuses has no effect.
_OFF = frozenset({"off", "of", "0", *("false"[:end] for end in range(1, 6)), "n", "no"})


class CutError(LexError):
    """The text ends too early."""


@dataclass(frozen=True, slots=True)
class Trivia:
    """White space or a comment between statements, or a part of one."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Comment:
    """A complete line comment between statements, with its line end."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Statement:
    """One top-level statement, from its first token to its semicolon.

    :ivar copies: The table, as SQL, whose rows follow; empty unless it is a `COPY … FROM stdin`.
    :ivar standard: Whether standard_conforming_strings was on when it was split.
    """

    text: bytes
    copies: bytes = b""
    standard: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class MetaCommand:
    """A backslash command between statements, with its line end."""

    text: bytes


@dataclass(frozen=True, slots=True)
class CopyData:
    """A piece of COPY data; it may end inside a row.

    :ivar text: The bytes; each row ends in a newline.
    :ivar rows: The number of rows that end in it; None if it was not counted.
    """

    text: bytes | bytearray
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class CopyEnd:
    r"""The line `\.` that ends COPY data."""

    text: bytes = b"\\.\n"


Event = Trivia | Comment | Statement | MetaCommand | CopyData | CopyEnd


def lex(chunks: Iterable[bytes], *, skips: Callable[[], bool] | None = None, standard: bool = True) -> Iterator[Event]:
    """Split a plain dump into events.

    :param chunks: The dump's bytes in pieces of any size. The sizes affect only the pieces of `CopyData` and of long
        `Trivia`.
    :param skips: Called after each COPY statement was yielded; if it returns True, no `CopyData` of its rows follows.
    :param standard: Whether standard_conforming_strings is on where the chunks begin.
    :return: Events whose texts concatenate to the input. Memory: one chunk and one statement.
    :raises CutError: The input ends inside a statement, a comment or COPY data.
    :raises LexError: The input is not written by pg_dump.
    """
    return _Lexer(chunks, skips, standard=standard).events()


class _Lexer:
    """One pass. `_buffer[_start:_at]` is scanned and not yet yielded; earlier pieces of it are in `_parts`."""

    def __init__(self, chunks: Iterable[bytes], skips: Callable[[], bool] | None, *, standard: bool) -> None:
        self._chunks = iter(chunks)
        self._skips = skips
        self._buffer = b""
        self._start = 0
        self._at = 0
        self._done = False
        self._parts: list[bytes] = []
        self._held = 0
        self._standard_strings = standard

    def events(self) -> Iterator[Event]:
        while self._ahead(1):
            blank = BLANK.match(self._buffer, self._at)
            if blank is not None:
                self._at = blank.end()
                yield Trivia(self._take_scanned())
                continue
            ahead = self._ahead(2)
            if ahead == b"--":
                yield from self._line_comment()
            elif ahead == b"/*":
                yield from self._block_comment()
            elif ahead[:1] == b"\\":
                self._line("a backslash command")
                yield MetaCommand(self._take_scanned())
            else:
                yield from self._statement_and_rows()

    # Reading

    def _more(self) -> bool:
        """Append the next chunks to the unscanned rest; return False at the end of the input.

        They are at least as long as the rest, so that each byte is scanned again a bounded number of times.
        """
        rest = len(self._buffer) - self._at
        chunks: list[bytes] = []
        added = 0
        for chunk in self._chunks:
            if chunk:
                if b"\0" in chunk:
                    raise LexError("it contains a zero byte, which text of PostgreSQL never does")
                chunks.append(chunk)
                added += len(chunk)
                if added >= rest:
                    break
        else:
            self._done = True
        if not chunks:
            return False
        self._hold()
        if rest or len(chunks) > 1:
            self._buffer = b"".join((self._buffer[self._at :], *chunks))
        else:
            self._buffer = chunks[0]
        self._start = self._at = 0
        return True

    def _ahead(self, count: int) -> bytes:
        while len(self._buffer) - self._at < count and self._more():
            pass
        return self._buffer[self._at : self._at + count]

    def _hold(self) -> None:
        if self._at > self._start:
            self._parts.append(self._buffer[self._start : self._at])
            self._held += self._at - self._start
            self._start = self._at
            if self._held > STATEMENT_LIMIT:
                raise LexError("a statement is longer than PostgreSQL's limit (1 GiB)")

    def _take_scanned(self) -> bytes:
        """Return the scanned bytes that were not returned before."""
        if not self._parts:
            text = self._buffer[self._start : self._at]
            self._start = self._at
            return text
        self._hold()
        text = b"".join(self._parts)
        self._parts.clear()
        self._held = 0
        return text

    # Comments and backslash commands

    def _line(self, what: str) -> None:
        """Scan to the end of the line, including the newline, which the last line may lack."""
        while (found := self._buffer.find(b"\n", self._at)) < 0:
            if len(self._buffer) - self._at > COMMENT_LIMIT or not self._more():
                found = len(self._buffer) - 1
                break
        if found - self._at >= COMMENT_LIMIT:
            raise LexError(f"{what} is longer than {COMMENT_LIMIT:,} bytes")
        self._at = found + 1

    def _line_comment(self) -> Iterator[Event]:
        complete = True
        while (found := LINE_END.search(self._buffer, self._at)) is None:
            if len(self._buffer) - self._at >= COMMENT_LIMIT:
                complete = False
                self._at = len(self._buffer)
                yield Trivia(self._take_scanned())
            if not self._more():
                break
        self._at = found.end() if found else len(self._buffer)
        text = self._take_scanned()
        if text:
            # Check the length, too: depending on the chunks, a long comment may not have been split.
            yield Comment(text) if complete and len(text) <= COMMENT_LIMIT else Trivia(text)

    def _block_comment(self) -> Iterator[Event]:
        self._at += 2
        for _ in self._inside_block():
            yield Trivia(self._take_scanned())
        yield Trivia(self._take_scanned())

    def _inside_block(self) -> Iterator[None]:
        """Scan to the end of a nested comment; yield when a piece is scanned."""
        depth = 1
        while depth:
            found = BLOCK.search(self._buffer, self._at)
            if found is not None:
                depth += 1 if found.group() == b"/*" else -1
                self._at = found.end()
                continue
            # The last byte may be the first half of `/*` or `*/`.
            self._at = max(self._at, len(self._buffer) - 1)
            if self._at > self._start:
                yield
            if not self._more():
                raise CutError("it ends inside a comment")

    # Statements

    def _statement_and_rows(self) -> Iterator[Event]:
        text, standard = self._statement(), self._standard_strings
        first = text[:4].upper()
        table = _copied(text, standard=standard) if first == b"COPY" else b""
        if first[:3] == b"SET" or first in _SETTERS:
            self._follow(text)
        yield Statement(text=text, copies=table, standard=standard)
        if not table:
            return
        skipped = self._skips is not None and self._skips()
        self._line("the line of a COPY statement")
        rest = self._take_scanned()
        if rest.strip() or not rest.endswith(b"\n"):
            raise CutError("it ends after a COPY statement, or the rows do not begin on the next line")
        yield Trivia(rest)
        yield from self._rows(skipped=skipped)

    def _follow(self, text: bytes) -> None:
        """Update standard_conforming_strings if the statement sets it, as the server does."""
        if text[:3].upper() == b"SEL" and b"set_config" not in text.lower():
            return
        for setting in classify_statement(text, standard=self._standard_strings).settings:
            if setting.name == "standard_conforming_strings":
                self._standard_strings = (setting.value or "on").strip().lower() not in _OFF

    def _rows(self, *, skipped: bool) -> Iterator[Event]:
        if not self._ahead(4).startswith((b"\\.\n", b"\\.\r\n")):
            while (found := self._end_of_data()) is None:
                kept = next((len(half) for half in _HALF_ENDS if self._buffer.endswith(half)), 0)
                self._at = max(len(self._buffer) - kept, self._at)
                yield from self._scanned_rows(skipped=skipped)
                if not self._more():
                    raise CutError("it ends inside the rows of a table")
            self._at = found.start() + 1
            yield from self._scanned_rows(skipped=skipped)
        self._at = self._buffer.index(b"\n", self._at) + 1
        yield CopyEnd(self._take_scanned())

    def _scanned_rows(self, *, skipped: bool) -> Iterator[CopyData]:
        if skipped:
            self._start = self._at
        elif self._at > self._start:
            yield CopyData(self._take_scanned())

    def _end_of_data(self) -> re.Match[bytes] | None:
        # Many chunks have no backslash, and one byte is found several times faster than the pattern.
        backslash = self._buffer.find(b"\\", self._at)
        return _END_OF_DATA.search(self._buffer, max(backslash - 1, self._at)) if backslash >= 0 else None

    def _statement(self) -> bytes:
        """Scan one statement to its semicolon."""
        simple = _SIMPLE.match(self._buffer, self._at, self._at + _SIMPLE_LIMIT)
        if simple is not None:
            self._at = simple.end()
            return self._take_scanned()
        parens = 0
        blocks = _Blocks()
        while True:
            found = self._token()
            token, word = found.group(), found["word"]
            self._at = found.end()
            if word is not None:
                if blocks.likely:
                    blocks.see(word, parens, self._before(found.start()))
                if token in _PREFIXES:
                    self._special_string(token)
            elif token == b"(":
                parens += 1
            elif token == b")":
                parens = max(0, parens - 1)
            elif token == b";":
                if parens == 0 and blocks.depth == 0:
                    return self._take_scanned()
            elif token == b"\\":
                raise LexError("there is a backslash command inside a statement")
            else:
                self._inside(token)

    def _before(self, at: int) -> bytes:
        """Return the byte before a position of the statement."""
        return self._buffer[at - 1 : at] or (self._parts[-1][-1:] if self._parts else b"")

    def _token(self) -> re.Match[bytes]:
        """Return the next relevant token that the next chunk can't change."""
        while True:
            found = _TOKEN.search(self._buffer, self._at)
            if found is not None and (found.end() < len(self._buffer) or self._done):
                return found
            # The buffer may end with the beginning of a token: a word, a dollar quote, `-` or `/`.
            end = found.start() if found is not None else len(self._buffer)
            self._at += len(self._buffer[self._at : end].rstrip(_UNSETTLED))
            if len(self._buffer) - self._at > _WORD_LIMIT:
                raise LexError("a word outside quotes is longer than any name or number")
            if not self._more() and found is None:
                raise CutError("it ends inside a statement")

    def _inside(self, token: bytes) -> None:
        """Scan to the end of the string, quoted name or comment that the token opens."""
        if token == b"'" and not self._standard_strings:
            self._string(escaped=True)
        elif token == b"--":
            self._to_line_end()
        elif token == b"/*":
            for _ in self._inside_block():
                pass
        else:
            self._until(token)

    def _until(self, ending: bytes) -> None:
        """Scan to the end of the next `ending`. A doubled quote counts as closing and opening again."""
        while (found := self._buffer.find(ending, self._at)) < 0:
            self._at = max(self._at, len(self._buffer) - len(ending) + 1)
            if not self._more():
                raise CutError("it ends inside a quoted text")
        self._at = found + len(ending)

    def _special_string(self, word: bytes) -> None:
        """Scan a string with a prefix, which determines how its backslashes are read."""
        opening = b"'"
        if word in b"uU":
            word, opening = word + b"&", b"&'"
        may_escape = escapes_backslash(word, standard=True) or not self._standard_strings
        if may_escape and self._ahead(len(opening)) == opening:
            self._at += len(opening)
            self._string(escaped=escapes_backslash(word, standard=self._standard_strings))

    def _string(self, *, escaped: bool) -> None:
        """Scan a string, with its doubled quotes and its continuations on further lines."""
        while True:
            if not escaped:
                self._until(b"'")
            elif (found := ESCAPED.search(self._buffer, self._at)) is None:
                self._at = len(self._buffer)
                if not self._more():
                    raise CutError("it ends inside a quoted text")
                continue
            elif found.group() == b"\\":
                self._at = found.start()
                self._ahead(2)
                self._at = min(self._at + 2, len(self._buffer))
                continue
            else:
                self._at = found.end()
            if not self._continues():
                return

    def _continues(self) -> bool:
        """Scan from a closing quote to the next part of the string: the quote is doubled, or follows a line end."""
        if self._ahead(1) == b"'":
            self._at += 1
            return True
        lines = False
        while True:
            if (blank := BLANK.match(self._buffer, self._at)) is not None:
                lines = lines or LINE_END.search(self._buffer, self._at, blank.end()) is not None
                self._at = blank.end()
            elif self._ahead(2) == b"--":
                self._to_line_end()
            elif not self._ahead(1) or not BLANK.match(self._buffer, self._at):
                break
        if lines and self._buffer[self._at : self._at + 1] == b"'":
            self._at += 1
            return True
        return False

    def _to_line_end(self) -> None:
        """Scan to the end of the line, without its newline."""
        while (found := LINE_END.search(self._buffer, self._at)) is None:
            self._at = len(self._buffer)
            if not self._more():
                raise CutError("it ends inside a statement")
        self._at = found.start()


def _copied(text: bytes, *, standard: bool) -> bytes:
    """Return the table, as SQL, of a `COPY … FROM stdin`; empty for any other COPY.

    :raises LexError: It has a form that pg_dump does not write.
    """
    if (copy := _COPY.match(text)) is not None:
        return copy["table"]
    words = TokenReader(text, standard=standard)
    words.take()
    schema, table = words.names()
    if words.sign(b"("):
        words.leave()
    if table and words.skip("FROM") and words.skip("STDIN") and words.sign(b";"):
        return b".".join(quote_name(part) for part in (schema, table) if part)
    words = TokenReader(text, standard=standard)
    while words.seek("FROM"):
        if words.skip("STDIN"):
            raise LexError("a COPY … FROM stdin is written in a way that pg_dump does not use")
    return b""


class _Blocks:
    """A counter of `BEGIN ATOMIC … END` and CASE in a CREATE FUNCTION or PROCEDURE.

    psql counts every BEGIN in it as the beginning of a block. But BEGIN is no reserved word, so pg_dump does not quote
    it as a name of a column, type or function; it does quote CASE and END.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.likely = True
        self._first = b""
        self._last = b""

    def see(self, word: bytes, parens: int, before: bytes) -> None:
        """Count a word.

        :param parens: The number of open parentheses around it.
        :param before: The byte before it.
        """
        lower = word.lower()
        if self._first not in _FUNCTIONS:
            self._first += _INITIALS.get(lower, b"-")
            self.likely = self._first in _LIKELY
            return
        if parens:
            return
        begins = lower == b"atomic" and self._last == b"begin" and before != b"."
        self._last = lower
        if self.depth:
            self.depth += {b"case": 1, b"end": -1}.get(lower, 0)
        elif begins:
            self.depth = 1
