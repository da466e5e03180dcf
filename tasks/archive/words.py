"""The tokens of one statement, as the server's own lexer would find them; blanks and comments are left out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Blanks and comments of a line, then a token, which is empty at the end of the text.
_TOKEN = re.compile(
    rb"""(?:[ \t\n\r\f\v]+|--[^\r\n]*)*
        (?:(?P<escaped>[eE]'[^\\']*(?:(?:\\.|'')[^\\']*)*')
        |(?P<word>[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*)
        |(?P<quoted>"[^"]*(?:""[^"]*)*")
        |(?P<string>'[^']*(?:''[^']*)*')
        |(?P<dollar>\$(?P<tag>[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$.*?\$(?(tag)(?P=tag))\$)
        |(?P<block>/\*)
        |(?P<sign>.))?""",
    re.DOTALL | re.VERBOSE,
)
_BLOCK = re.compile(rb"/\*|\*/")
_QUALIFIED = re.compile(rb'("(?:[^"]|"")+"|[^".]+)(?:\s*\.\s*("(?:[^"]|"")+"|[^".]+))?\Z')
_PLAIN = re.compile(r"[\w$-]+")
_END = ("end", b"")
# Those that every server has.
_NO_ROLES = frozenset({"public", "current_user", "session_user", "current_role"})


def decode(raw: bytes) -> str:
    """Decode a name; bytes that are no UTF-8 survive as surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def unquote(raw: bytes) -> str:
    """Turn an identifier, as written, into the name that the catalogue holds."""
    if raw.startswith(b'"'):
        return decode(raw[1:-1].replace(b'""', b'"'))
    # As the server does, it lowers ASCII only.
    return decode(raw.lower())


def shown(key: tuple[str, str]) -> str:
    """Write schema and name for people: quoted only where one could take it for another name."""
    return ".".join(part if _PLAIN.fullmatch(part) else '"{}"'.format(part.replace('"', '""')) for part in key if part)


def qualified(raw: bytes) -> tuple[str, str]:
    """Split `schema.name`, as written; the schema is empty where there is none."""
    found = _QUALIFIED.match(raw.strip())
    if found is None:
        return "", decode(raw)
    first, second = found[1].strip(), found[2]
    return ("", unquote(first)) if second is None else (unquote(first), unquote(second.strip()))


def scan(text: bytes) -> Iterator[tuple[str, bytes]]:
    """Give the tokens of a statement, each with its kind.

    :return: `word`, `quoted` (an identifier), `string`, `escaped` (an E string), `dollar`, and `sign` for any
        other byte. A quote that is a sign was never closed.
    """
    at, match = 0, _TOKEN.match
    while (found := match(text, at)) is not None and (kind := found.lastgroup) is not None:
        if kind == "block":
            at = _behind_comment(text, found.start(kind))
        else:
            yield kind, found[kind]
            at = found.end()


def _behind_comment(text: bytes, at: int) -> int:
    """Find the end of a comment, which may hold others."""
    depth = 0
    for found in _BLOCK.finditer(text, at):
        depth += 1 if found.group() == b"/*" else -1
        if depth == 0:
            return found.end()
    return len(text)


class Words:
    """The tokens of a statement, one after the other; words in upper case.

    :param text: A statement as the lexer gives it, with standard_conforming_strings on.
    """

    def __init__(self, text: bytes) -> None:
        self._tokens = scan(text)
        self._advance()

    def _advance(self) -> None:
        self._token = kind, text = next(self._tokens, _END)
        self._word = text.upper().decode("latin-1") if kind == "word" else ""

    def peek(self) -> tuple[str, bytes]:
        """Look at the next token."""
        return self._token

    def take(self) -> tuple[str, bytes]:
        """Take the next token."""
        token = self._token
        self._advance()
        return token

    def word(self) -> str:
        """Take the next token; its upper-case text where it is a word, else nothing."""
        word = self._word
        self._advance()
        return word

    def skip(self, *words: str) -> bool:
        """Take the next token if it is one of these words."""
        if self._word in words:
            self._advance()
            return True
        return False

    def name(self) -> str:
        """Take an identifier, or a role that is written as a string."""
        kind, _ = self.peek()
        if kind in {"word", "quoted"}:
            return unquote(self.take()[1])
        if kind == "string":
            return decode(self.take()[1][1:-1].replace(b"''", b"'"))
        return ""

    def names(self) -> tuple[str, str]:
        """Take `schema.name`; the name may be an operator's signs."""
        first = self.name()
        if self.peek()[1] != b".":
            return "", first
        self.take()
        second = self.name()
        if not second:
            while self.peek()[0] == "sign" and self.peek()[1] not in b"(;":
                second += decode(self.take()[1])
        return first, second

    def roles(self) -> tuple[str, ...]:
        """Take a list of roles; those that every server has are left out."""
        found = []
        while True:
            self.skip("GROUP")
            role = self.name()
            if role and role not in _NO_ROLES:
                found.append(role)
            if self.peek()[1] != b",":
                return tuple(found)
            self.take()

    def seek(self, *words: str) -> bool:
        """Take tokens up to and including one of these words outside parentheses; False if there is none."""
        depth = 0
        while self._token is not _END:
            if self._word:
                if depth == 0 and self.skip(*words):
                    return True
            elif self._token[0] == "sign":
                depth += {b"(": 1, b")": -1}.get(self._token[1], 0)
            self._advance()
        return False
