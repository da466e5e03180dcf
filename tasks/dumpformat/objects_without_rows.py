"""The objects without rows that a statement of a dump creates: keys, constraints, indexes, triggers, views."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .tokens import TokenReader
from .touch_forms import take_dotted

if TYPE_CHECKING:
    from .statements import StatementKind


# `name` of `classify_statement` for an ALTER TABLE that adds a constraint that checks rows, or a key.
CHECKED = "CONSTRAINT"
_CONSTRAINTS = frozenset({CHECKED, "INDEX"})


def split_name(name: bytes) -> tuple[str, ...]:
    """Return the unquoted parts of a dotted name in SQL."""
    return tuple(filter(None, take_dotted(TokenReader(name))))


def objects_without_rows(text: bytes, statement_kind: StatementKind) -> tuple[tuple[str, ...], ...]:
    """Return the objects without rows that a statement creates, each as the parts of its name."""
    words = TokenReader(text)
    if statement_kind.verb == "REFRESH" and words.seek("VIEW"):
        return (words.names(),)
    if statement_kind.verb == "REPLACE VIEW":
        # pg_dump first creates a view without its query if the query depends on a key.
        return ((statement_kind.schema, statement_kind.name),)
    kind = {"CREATE INDEX": "INDEX", "CREATE TRIGGER": "TRIGGER", "CREATE CONSTRAINT": "TRIGGER"}.get(
        statement_kind.verb, ""
    )
    if kind and words.seek(kind):
        name = words.name()
        table = words.relation() if words.seek("ON") else ("", "")
        return ((table[0], name),) if kind == "INDEX" else ((*table, name),)
    if statement_kind.verb == "ALTER" and statement_kind.name in _CONSTRAINTS and words.seek("TABLE"):
        table = words.relation()
        name = words.name() if words.skip("ADD") and words.skip("CONSTRAINT") else ""
        # A key's index has the same name.
        return ((*table, name), (table[0], name)) if name else ()
    return ()


def describe_object(parts: tuple[str, ...], kind: StatementKind) -> str:
    """Return the kind and name, for messages, of an object of :func:`objects_without_rows`."""
    kinds = {
        "CREATE INDEX": "index",
        "REFRESH": "rows of materialized view",
        "ALTER": "constraint",
        "REPLACE VIEW": "query of view",
    }
    return f"{kinds.get(kind.verb, 'trigger')} {'.'.join(part for part in parts if part)}"


def is_placeholder_view(text: bytes) -> bool:
    """Return whether a CREATE OR REPLACE VIEW selects only typed NULLs, as `pg_dump --clean` writes it."""
    words = TokenReader(text)
    if not (words.seek("AS") and words.skip("SELECT")):
        return False
    if words.peek()[1] == b";":
        return True
    while words.skip("NULL") and words.sign(b":") and words.sign(b":"):
        # Skip the type with its modifiers, COLLATE and AS, up to the next column.
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
