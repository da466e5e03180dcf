"""What a statement of a dump makes that holds no rows of its own: keys, constraints, indexes, triggers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .tokens import TokenReader

if TYPE_CHECKING:
    from .statements import StatementKind


# As `classify_statement` names what an ALTER TABLE adds: a constraint that rows are checked by, or a key.
CHECKED = "CONSTRAINT"
_CONSTRAINTS = frozenset({CHECKED, "INDEX"})


def split_name(name: bytes) -> tuple[str, ...]:
    """Split a dotted name as SQL writes it into what its parts say."""
    words, found = TokenReader(name), list[str]()
    while part := words.name():
        found.append(part)
        if not words.sign(b"."):
            break
    return tuple(found)


def objects_without_rows(text: bytes, action: StatementKind) -> tuple[tuple[str, ...], ...]:
    """Name what a statement makes that holds no rows, each name in its parts; nothing for other statements."""
    words = TokenReader(text)
    if action.verb == "REFRESH" and words.seek("VIEW"):
        return (words.names(),)
    if action.verb == "REPLACE VIEW":
        # pg_dump has made it with the same columns and no query, where that depends on a key.
        return ((action.schema, action.name),)
    kind = {"CREATE INDEX": "INDEX", "CREATE TRIGGER": "TRIGGER", "CREATE CONSTRAINT": "TRIGGER"}.get(action.verb, "")
    if kind and words.seek(kind):
        name = words.name()
        table = _table(words) if words.seek("ON") else ("", "")
        return ((table[0], name),) if kind == "INDEX" else ((*table, name),)
    if action.verb == "ALTER" and action.name in _CONSTRAINTS and words.seek("TABLE"):
        table = _table(words)
        name = words.name() if words.skip("ADD") and words.skip("CONSTRAINT") else ""
        # A key has an index of its name.
        return ((*table, name), (table[0], name)) if name else ()
    return ()


def _table(words: TokenReader) -> tuple[str, str]:
    words.skip("ONLY")
    return words.names()


def describe_object(parts: tuple[str, ...], action: StatementKind) -> str:
    """Name for people what :func:`objects_without_rows` found first."""
    kinds = {
        "CREATE INDEX": "index",
        "REFRESH": "rows of materialized view",
        "ALTER": "constraint",
        "REPLACE VIEW": "query of view",
    }
    return f"{kinds.get(action.verb, 'trigger')} {'.'.join(part for part in parts if part)}"


def is_placeholder_view(text: bytes) -> bool:
    """Return whether a CREATE OR REPLACE VIEW makes a view of nothing but typed NULLs, as `pg_dump --clean` does."""
    words = TokenReader(text)
    if not (words.seek("AS") and words.skip("SELECT")):
        return False
    if words.peek()[1] == b";":
        return True
    while words.skip("NULL") and words.sign(b":") and words.sign(b":"):
        # Up to the next column, behind the type with its modifiers, and COLLATE and AS.
        while words.peek() not in {("sign", b","), ("sign", b";"), ("end", b"")}:
            if words.skip("FROM", "WHERE", "UNION", "LIMIT"):
                return False
            if words.sign(b"("):
                words.leave()
            else:
                words.take()
        if not words.sign(b","):
            return True
    return False
