"""The languages of a dump's functions and extensions: which of them any user may be let use."""

from __future__ import annotations

import re

from .words import Words, scan, unquote

# pg_language.lanpltrusted of PostgreSQL's own and of the better known others.
_TRUSTED = frozenset({"sql", "plpgsql", "plperl", "pltcl", "plv8", "plcoffee", "plls", "pllua", "plrust"})
_UNTRUSTED_EXTENSION = re.compile(r"(?:\w+_)?pl\w*u|plsh|plr|pljava")


def untrusted(words: Words) -> bool:
    """Whether the extension whose name comes next brings a language that may do all that the server may."""
    if words.skip("IF"):
        words.skip("NOT")
        words.skip("EXISTS")
    return _UNTRUSTED_EXTENSION.fullmatch(words.name()) is not None


def language(kind: str, text: bytes) -> str:
    """Judge the language of a function: the first LANGUAGE outside parentheses and names."""
    depth, before, tokens = 0, b"", iter(scan(text))
    for sort, found in tokens:
        if sort == "sign":
            depth += {b"(": 1, b")": -1}.get(found, 0)
        if sort == "word" and depth == 0 and found.upper() == b"LANGUAGE" and before != b".":
            written, raw = next(tokens, ("end", b""))
            name = raw[1:-1].decode("latin-1") if written in {"quoted", "string"} else unquote(raw)
            # A string goes on in a second one.
            whole = written != "string" or next(tokens, ("end", b""))[0] != "string"
            # Of a string, too, the server lowers nothing: LANGUAGE 'C' is the C of old all the same.
            return "" if whole and name in _TRUSTED else f"CREATE {kind} in an untrusted language"
        before = found
    return f"CREATE {kind} without its language"
