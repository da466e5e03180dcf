"""Split SQL into tokens, by the rules of the server's lexer (`src/backend/parser/scan.l`).

:mod:`.lexer`, which splits a dump while it streams, uses the rules of this module. All code that reads a complete
statement uses :func:`scan_tokens` or :class:`TokenReader`. There is no backtracking: each byte is read a bounded number
of times.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


IDENTIFIER = rb"[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*"
NAME = rb'(?:"[^"]*(?:""[^"]*)*"|%s)' % IDENTIFIER
DOLLAR_QUOTE = rb"\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$"
BLANK = re.compile(rb"[ \t\n\r\f\v]+")
LINE_END = re.compile(rb"[\n\r]")
BLOCK = re.compile(rb"/\*|\*/")
# The special characters of a string with backslash escapes.
ESCAPED = re.compile(rb"[\\']")
# Strings with these prefixes never have backslash escapes, whatever standard_conforming_strings is.
_WITHOUT_ESCAPES = frozenset({b"b", b"B", b"x", b"X", b"u&", b"U&"})

# White space, then a token or its beginning; nothing at the end of the text.
_TOKEN = re.compile(
    rb"""[ \t\n\r\f\v]*
        (?:(?P<word>[A-DF-Za-df-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*|[eE](?!')[A-Za-z0-9_$\x80-\xff]*)
        |(?P<sign>[().,;:=])
        |(?P<quoted>"[^"]*(?:""[^"]*)*"(?!"))
        |(?P<string>'[^'\\]*'(?=[,;)]))
        |(?P<quote>[eE]?')
        |(?P<number>[0-9]+)
        |(?P<line>--[^\r\n]*)
        |(?P<block>/\*)
        |(?P<tag>\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$)
        |(?P<other>.))?""",
    re.DOTALL | re.VERBOSE,
)
# An odd number of quotes closes a string; an even number are quotes in it.
_QUOTES = re.compile(rb"'+")
_ESCAPES_OR_QUOTES = re.compile(rb"\\.?|'+", re.DOTALL)
# Kinds of tokens that the expression matches completely.
_COMPLETE = frozenset({"word", "quoted", "string", "number", "sign"})
_CONSTANTS = frozenset({"string", "escaped", "dollar"})
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))|''", re.DOTALL)
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_UNQUOTED = re.compile(rb"[a-z_][a-z0-9_$]*")
_END = ("end", b"")
# Names that every server has, or that mean the current role.
_NO_ROLES = frozenset({"public", "current_user", "session_user", "current_role"})


def is_system_schema(name: str) -> bool:
    """Return whether a schema is PostgreSQL's own; `postgres/catalog_filters.py` has the same as a condition in SQL."""
    return name.startswith("pg_") or name == "information_schema"


def escapes_backslash(prefix: bytes, *, standard: bool) -> bool:
    """Return whether a string with this prefix has backslash escapes.

    :param prefix: The word or `U&` directly before the quote; empty without one.
    :param standard: Whether standard_conforming_strings is on.
    """
    return prefix in {b"e", b"E"} or (not standard and prefix not in _WITHOUT_ESCAPES)


def decode_name(raw: bytes) -> str:
    """Return a name as text; bytes that are no UTF-8 become surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def encode_name(name: str) -> bytes:
    """Return the bytes of a name; the inverse of :func:`decode_name`."""
    return name.encode("utf-8", "surrogateescape")


def unquote_name(raw: bytes) -> str:
    """Return the name, as in the catalogue, of an identifier in SQL."""
    if raw.startswith(b'"'):
        return decode_name(raw[1:-1].replace(b'""', b'"'))
    # Like the server, convert only ASCII to lower case.
    return decode_name(raw.lower())


def quote_name(name: str) -> bytes:
    """Return a name as SQL, quoted if necessary."""
    raw = encode_name(name)
    return raw if _UNQUOTED.fullmatch(raw) else b'"%s"' % raw.replace(b'"', b'""')


def split_qualified(raw: bytes) -> tuple[str, str]:
    """Return schema and name of `schema.name` in SQL; the schema is empty if it is not given."""
    raw = raw.strip()
    first, behind = _identifier(raw)
    if first and not behind:
        return "", unquote_name(first)
    second, rest = _identifier(behind[1:].lstrip()) if behind[:1] == b"." else (b"", b"")
    return (unquote_name(first), unquote_name(second)) if first and second and not rest else ("", decode_name(raw))


def _identifier(raw: bytes) -> tuple[bytes, bytes]:
    """Return the first part of a dotted name, and the rest from its dot on."""
    end = len(raw)
    if raw.startswith(b'"'):
        closing = next((run.end() for run in re.finditer(rb'"+', raw[1:]) if len(run.group()) % 2), 0) + 1
        return (raw[:closing], raw[closing:].lstrip()) if closing > 2 else (b"", raw)  # noqa: PLR2004 - two quotes
    for ending in (b".", b'"'):
        found = raw.find(ending, 0, end)
        end = found if found >= 0 else end
    return raw[:end].strip(), raw[end:]


def scan_tokens(text: bytes, *, standard: bool = True) -> Iterator[tuple[str, bytes]]:
    """Yield the tokens of a statement, each with its kind, without white space and comments.

    :param standard: Whether standard_conforming_strings is on.
    :return: The kinds are `word`, `quoted` (an identifier), `number` (digits), `string`, `escaped` (a string with
        backslash escapes), `dollar`, and `sign` for any other byte. A string is one token with its continuations. A
        string or quoted identifier that is not closed is a `sign` up to the end.
    """
    at, match = 0, _TOKEN.match
    before = last = None
    while (found := match(text, at)) is not None and (kind := found.lastgroup) is not None:
        token, at = found[kind], found.end()
        if kind in _COMPLETE:
            yield kind, token
        elif kind == "other" and token != b'"':
            yield "sign", token
        elif kind == "line":
            pass
        elif kind == "block":
            at = _end_of_comment(text, at - 2)
        elif kind == "quote":
            begin = at - len(token)
            prefix = token[:-1] or _prefix(begin, before, last)
            kind = "escaped" if escapes_backslash(prefix, standard=standard) else "string"
            at = _end_of_string(text, at, escaped=kind == "escaped")
            yield (kind, text[begin:at]) if at > 0 else ("sign", text[begin:])
        elif kind == "tag":
            begin = at - len(token)
            at = text.find(token, at) + len(token)
            yield ("dollar", text[begin:at]) if at > begin + len(token) else ("sign", text[begin:])
            at = at if at > begin + len(token) else -1
        else:
            yield "sign", text[at - 1 :]
            at = -1
        if at < 0:
            return
        before, last = last, found


def _prefix(quote: int, before: re.Match[bytes] | None, last: re.Match[bytes] | None) -> bytes:
    """Return the prefix of the string at a quote: the word or the `U&` directly before it; empty without one.

    :param before: The token before the last one.
    """
    if last is None or last.end() != quote:
        return b""
    if last.lastgroup == "word":
        return last["word"]
    joined = last["other"] == b"&" and before is not None and before.end() == quote - 1 and before["word"]
    return joined + b"&" if joined else b""


def _end_of_string(text: bytes, at: int, *, escaped: bool) -> int:
    """Return the position after a string and its continuations; -1 if it is not closed.

    :param at: The position after its opening quote.
    """
    while (end := _closing_quote(text, at, escaped=escaped)) >= 0 and (at := continues_string(text, end)) >= 0:
        pass
    return end


def _closing_quote(text: bytes, at: int, *, escaped: bool) -> int:
    """Return the position after one part of a string; -1 if it is not closed."""
    for found in (_ESCAPES_OR_QUOTES if escaped else _QUOTES).finditer(text, at):
        if (run := found.group())[:1] == b"'" and len(run) % 2:
            return found.end()
    return -1


def continues_string(text: bytes, at: int) -> int:
    """Return the position of the next part of a string that continues on another line; -1 if there is none.

    :param at: The position after a closing quote.
    """
    lines = False
    while True:
        if (blank := BLANK.match(text, at)) is not None:
            lines = lines or LINE_END.search(text, at, blank.end()) is not None
            at = blank.end()
        elif text[at : at + 2] == b"--":
            line_end = LINE_END.search(text, at)
            at = line_end.start() if line_end is not None else len(text)
        else:
            return at + 1 if lines and text[at : at + 1] == b"'" else -1


def _end_of_comment(text: bytes, at: int) -> int:
    """Return the position after a comment, which may contain other comments."""
    depth = 0
    for found in BLOCK.finditer(text, at):
        depth += 1 if found.group() == b"/*" else -1
        if depth == 0:
            return found.end()
    return len(text)


def string_content(kind: str, token: bytes) -> bytes | None:
    """Return the content of a string; None if the token is no string, or an escape in it is invalid.

    :param kind: The token's kind, as in :func:`scan_tokens`.
    """
    if kind == "dollar":
        tag = token.index(b"$", 1) + 1
        return token[tag:-tag]
    if kind not in _CONSTANTS:
        return None
    escaped = kind == "escaped"
    at, parts = token.index(b"'") + 1, []
    while at > 0:
        end = _closing_quote(token, at, escaped=escaped)
        parts.append(token[at : end - 1])
        at = continues_string(token, end)
    if not escaped:
        return b"".join(parts).replace(b"''", b"'")
    try:
        return b"".join(_ESCAPE.sub(_unescaped, part) for part in parts)
    except (ValueError, OverflowError):
        return None


def _unescaped(found: re.Match[bytes]) -> bytes:
    octal, byte, short, long, letter = found.groups()
    if octal or byte:
        return bytes([(int(octal, 8) if octal else int(byte, 16)) & 0xFF])
    if short or long:
        return chr(int(short or long, 16)).encode()
    return _LETTERS.get(letter, letter) if letter else b"'"


def _from_unicode(raw: bytes, escape: bytes) -> bytes | None:
    r"""Return the content of `U&"…"` or `U&'…'` with `\0061` and `\+000061` replaced; None if one is invalid."""
    sign = re.escape(escape)
    pattern = rb"%s(?:(%s)|([0-9A-Fa-f]{4})|\+([0-9A-Fa-f]{6})|)" % (sign, sign)

    def character(found: re.Match[bytes]) -> bytes:
        return escape if found[1] else chr(int(found[2] or found[3] or b"", 16)).encode()

    try:
        return re.sub(pattern, character, raw)
    except (ValueError, OverflowError):
        return None


class TokenReader:
    """A reader of the tokens of a statement. Its methods compare words in upper case.

    :param text: A statement of the lexer.
    :param standard: Whether standard_conforming_strings is on.
    """

    def __init__(self, text: bytes, *, standard: bool = True) -> None:
        self._tokens = scan_tokens(text, standard=standard)
        self._advance()

    def _advance(self) -> None:
        self._token = kind, text = next(self._tokens, _END)
        self._word = text.upper().decode("latin-1") if kind == "word" else ""

    def peek(self) -> tuple[str, bytes]:
        """Return the next token without taking it."""
        return self._token

    def take(self) -> tuple[str, bytes]:
        """Take the next token."""
        token = self._token
        self._advance()
        return token

    def word(self) -> str:
        """Take the next token; return its text in upper case if it is a word, else an empty text."""
        word = self._word
        self._advance()
        return word

    def skip(self, *words: str) -> bool:
        """Take the next token if it is one of these words."""
        if self._word in words:
            self._advance()
            return True
        return False

    def sign(self, sign: bytes) -> bool:
        """Take the next token if it is this sign."""
        if self._token == ("sign", sign):
            self._advance()
            return True
        return False

    def string(self) -> str | None:
        """Take a string constant and return its content; None if the next token is no valid one."""
        if self._word == "U":
            self._advance()
            return self._unicode("string") if self.sign(b"&") else None
        self.skip("N")
        held = string_content(*self.take())
        return None if held is None else decode_name(held)

    def _unicode(self, expected: str) -> str | None:
        """Take the string or the identifier after `U&`, with its `UESCAPE '…'`."""
        kind, token = self.take()
        if kind != expected:
            return None
        held = string_content(kind, token) if kind == "string" else token[1:-1].replace(b'""', b'"')
        escape = string_content(*self.take()) if self.skip("UESCAPE") else b"\\"
        found = _from_unicode(held, escape) if held is not None and escape is not None and len(escape) == 1 else None
        return None if found is None else decode_name(found)

    def name(self) -> str:
        """Take an identifier, or a role's name that is written as a string; return an empty name without one."""
        kind, text = self._token
        if kind == "word":
            self._advance()
            if text in {b"u", b"U"} and self.sign(b"&"):
                return self._unicode("quoted") or ""
            return unquote_name(text)
        if kind == "quoted":
            return unquote_name(self.take()[1])
        return self.string() or "" if kind == "string" else ""

    def names(self) -> tuple[str, str]:
        """Take `schema.name`; the name may be an operator."""
        first = self.name()
        if not self.sign(b"."):
            return "", first
        second = self.name()
        if not second:
            signs = []
            while self.peek()[0] == "sign" and self.peek()[1] not in b"(;":
                signs.append(decode_name(self.take()[1]))
            second = "".join(signs)
        return first, second

    def relation(self) -> tuple[str, str]:
        """Take `[ONLY] schema.name`."""
        self.skip("ONLY")
        return self.names()

    def roles(self) -> tuple[str, ...]:
        """Take a list of roles; return them without those that every server has."""
        found = []
        while True:
            self.skip("GROUP")
            role = self.name()
            if role and role not in _NO_ROLES:
                found.append(role)
            if not self.sign(b","):
                return tuple(found)

    def leave(self) -> None:
        """Take tokens up to and including the parenthesis that closes the open one."""
        depth = 1
        while depth and self._token is not _END:
            depth += {b"(": 1, b")": -1}.get(self._token[1], 0) if self._token[0] == "sign" else 0
            self._advance()

    def seek(self, *words: str) -> bool:
        """Take tokens up to and including one of these words outside parentheses; return False if there is none."""
        depth = 0
        while self._token is not _END:
            if self._word:
                if depth == 0 and self.skip(*words):
                    return True
            elif self._token[0] == "sign":
                depth += {b"(": 1, b")": -1}.get(self._token[1], 0)
            self._advance()
        return False
