"""Tells what a statement of a dump does, from its first words, as far as a restore must know."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .words import Words, decode, qualified, unquote

_FIRST = re.compile(rb"[A-Za-z]+")
_SETVAL = re.compile(
    rb"SELECT\s+(?:pg_catalog\.)?setval\(\s*(?:E(?![\s\S]*\\))?'(?P<name>(?:[^']|'')*)'(?:::regclass)?\s*,"
    rb"\s*(?P<value>-?\d+)\s*(?:,\s*(?P<called>true|false))?\s*\)\s*;\Z",
    re.IGNORECASE,
)
_INSERT = re.compile(
    rb'INSERT\s+INTO\s+((?:"(?:[^"]|"")+"|[^\s".(]+)(?:\.(?:"(?:[^"]|"")+"|[^\s".(]+))?)', re.IGNORECASE
)
_LARGE_OBJECT = re.compile(rb"SELECT\s+(?:pg_catalog\.)?(lo_[a-z_]+|lowrite)\s*\(", re.IGNORECASE)
_DEFAULT_TABLESPACE = re.compile(
    rb"""SET\s+default_tablespace\s*(?:=|TO)\s*('(?:[^']|'')*'|"(?:[^"]|"")*"|[^\s;]+)""", re.IGNORECASE
)

TRANSACTION_WORDS = frozenset(
    {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "PREPARE TRANSACTION"}
)
# What stands between CREATE and the kind of the object.
_MODIFIERS = frozenset({"OR", "REPLACE", "UNLOGGED", "MATERIALIZED", "RECURSIVE", "DEFAULT", "TRUSTED", "PROCEDURAL"})
# Kinds whose objects lie in a schema under a name of their own.
_IN_SCHEMA = frozenset(
    {"TABLE", "FOREIGN TABLE", "VIEW", "SEQUENCE", "TYPE", "DOMAIN", "FUNCTION", "PROCEDURE", "AGGREGATE"}
    | {"COLLATION", "CONVERSION", "STATISTICS", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY"}
    | {"TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE"}
)
_RELATIONS = frozenset({"TABLE", "VIEW", "MATERIALIZED", "SEQUENCE"})
_TWO_WORDS = frozenset({"FOREIGN", "OPERATOR", "TEXT", "EVENT", "USER", "UNIQUE", "ACCESS", "CONSTRAINT"})
_SECOND_WORDS = ("TABLE", "DATA", "VIEW", "CLASS", "FAMILY", "TRIGGER", "OBJECT", "LANGUAGE", "METHOD")


@dataclass(frozen=True, slots=True)
class Action:
    """What a statement does.

    :ivar verb: `CREATE TABLE`, `REPLACE VIEW`, `SET`, `OWNER`, `GRANT`, `DEFAULT PRIVILEGES`, `SETVAL`, `LARGE OBJECT`,
        `TRANSACTION`, `COMMENT ON EXTENSION`, …; else its first word.
    :ivar schema: The schema of what it does it to; empty where it has none.
    :ivar name: The name of what it does it to.
    :ivar roles: The roles that it names.
    """

    verb: str
    schema: str = ""
    name: str = ""
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetVal:
    """A sequence's value, as `setval` sets it."""

    schema: str
    name: str
    value: int
    is_called: bool


def setval(text: bytes) -> SetVal | None:
    """Read a `SELECT pg_catalog.setval(…);`; None where it is something else."""
    found = _SETVAL.match(text)
    if found is None:
        return None
    schema, name = qualified(found["name"].replace(b"''", b"'"))
    called = (found["called"] or b"true").lower() == b"true"
    return SetVal(schema, name, int(found["value"]), called)


def tablespace(text: bytes) -> str:
    """Read the tablespace that a `SET default_tablespace = …;` names; empty for the database's own."""
    found = _DEFAULT_TABLESPACE.match(text)
    if found is None:
        return ""
    value = found[1]
    return decode(value[1:-1].replace(b"''", b"'")) if value.startswith(b"'") else unquote(value)


def classify(text: bytes) -> Action:
    """Tell what a statement does.

    :param text: A statement as the lexer gives it: from its first token to its semicolon.
    """
    found = _FIRST.match(text)
    if found is None:
        return Action("")
    first = found.group().upper().decode()
    if first == "COPY":
        return Action(first)
    if first == "INSERT":
        into = _INSERT.match(text)
        return Action(first, *qualified(into[1])) if into else Action(first)
    if first == "SELECT":
        return _select(text)
    if first in {"BEGIN", "COMMIT", "END", "START", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"}:
        return Action("TRANSACTION", name=first)
    reader = _READERS.get(first)
    return reader(Words(text)) if reader else Action(first)


def _select(text: bytes) -> Action:
    if _SETVAL.match(text):
        return Action("SETVAL")
    found = _LARGE_OBJECT.match(text)
    if found is not None or text.startswith(b"SELECT CASE WHEN EXISTS(SELECT 1 FROM pg_catalog.pg_largeobject"):
        return Action("LARGE OBJECT", name=decode(found[1].lower()) if found is not None else "lo_unlink")
    return Action("SELECT")


def _set(words: Words) -> Action:
    words.take()
    words.skip("LOCAL")
    if words.skip("SESSION") and words.skip("AUTHORIZATION"):
        return Action("SET SESSION AUTHORIZATION", roles=tuple(r for r in words.roles() if r != "default"))
    if words.skip("TRANSACTION", "CONSTRAINTS", "CHARACTERISTICS"):
        return Action("TRANSACTION", name="SET")
    first, second = words.names()
    return Action("SET", name=f"{first}.{second}" if first else second)


def _reset(words: Words) -> Action:
    words.take()
    if words.skip("SESSION") and words.skip("AUTHORIZATION"):
        return Action("SET SESSION AUTHORIZATION")
    return Action("RESET", name=words.name())


def _prepare(words: Words) -> Action:
    words.take()
    return Action("TRANSACTION", name="PREPARE") if words.skip("TRANSACTION") else Action("PREPARE")


def _create(words: Words) -> Action:
    words.take()
    replaces = words.skip("OR")
    while words.skip(*_MODIFIERS):
        pass
    kind = words.word()
    if replaces and kind == "VIEW":
        return Action("REPLACE VIEW", *words.names())
    if kind == "TEXT":
        kind = f"TEXT {words.word()} {words.word()}"
    elif kind in _TWO_WORDS and words.skip("TABLE", "CLASS", "FAMILY", "TRIGGER", "MAPPING", "INDEX", "METHOD"):
        kind = {"OPERATOR": "OPERATOR CLASS", "FOREIGN": "FOREIGN TABLE", "UNIQUE": "INDEX"}.get(kind, kind)
    if words.skip("IF") and words.skip("NOT"):
        words.skip("EXISTS")
    if kind == "POLICY":
        name = words.name()
        return Action("CREATE POLICY", name=name, roles=words.roles() if words.seek("TO", "USING") else ())
    if kind == "USER":
        return Action("CREATE USER MAPPING", roles=words.roles() if words.skip("FOR") else ())
    if kind == "SCHEMA":
        name = words.name() if words.peek()[1].upper() != b"AUTHORIZATION" else ""
        return Action("CREATE SCHEMA", name, name, words.roles() if words.skip("AUTHORIZATION") else ())
    if kind == "FOREIGN":
        words.skip("DATA")
        words.skip("WRAPPER")
    if kind in _IN_SCHEMA:
        return Action(f"CREATE {kind}", *words.names())
    return Action(f"CREATE {kind}", name=words.name())


def _drop(words: Words) -> Action:
    words.take()
    kind = words.word()
    if words.skip("IF"):
        words.skip("EXISTS")
    if kind in {"SCHEMA", "EXTENSION", "DATABASE"}:
        return Action(f"DROP {kind}", name=words.name())
    return Action("DROP")


def _alter(words: Words) -> Action:  # noqa: PLR0911 - a table of cases
    words.take()
    kind = words.word()
    if kind == "DEFAULT":
        roles = words.roles() if words.seek("ROLE", "USER") else ()
        return Action("DEFAULT PRIVILEGES", roles=roles + (words.roles() if words.seek("TO", "FROM") else ()))
    if kind == "DATABASE":
        return Action("ALTER DATABASE", name=words.name())
    _rest_of_kind(words, kind)
    names = words.names()
    if kind == "DOMAIN" and words.skip("DROP"):
        return Action("DROP DOMAIN CONSTRAINT", *names)
    if words.skip("RENAME"):
        return Action("ALTER")
    while words.seek("OWNER", "ADD"):
        if words.skip("TO"):
            return Action("OWNER", *(names if kind in _RELATIONS else ("", "")), words.roles())
        if words.skip("GENERATED"):
            return Action("ALTER", name="IDENTITY")
        if words.skip("CONSTRAINT"):
            words.name()
            return Action("ALTER", name="INDEX" if words.skip("PRIMARY", "UNIQUE", "EXCLUDE") else "CONSTRAINT")
    return Action("ALTER")


def _rest_of_kind(words: Words, kind: str) -> None:
    """Take what stands between the first word of a kind and the name."""
    if kind == "TEXT":
        words.take()
        words.take()
    elif kind in _TWO_WORDS | {"MATERIALIZED", "LARGE", "PROCEDURAL"} and words.skip(*_SECOND_WORDS):
        words.skip("WRAPPER")
    if words.skip("IF"):
        words.skip("EXISTS")
    words.skip("ONLY")


def _grant(words: Words) -> Action:
    words.take()
    verb, on = "GRANT", ("", "")
    if words.seek("ON"):
        if words.skip("SCHEMA"):
            verb, on = "GRANT ON SCHEMA", ("", words.name())
        elif words.skip("TABLE", "SEQUENCE"):
            named = words.names()
            # Of several each may be somebody else's.
            on = on if words.peek()[1] == b"," else named
    return Action(verb, *on, words.roles() if words.seek("TO", "FROM") else ())


def _comment(words: Words) -> Action:
    words.take()
    words.skip("ON")
    kind = words.word()
    return Action(f"COMMENT ON {kind}", name=words.name() if kind in {"EXTENSION", "SCHEMA", "DATABASE"} else "")


_READERS = {
    "SET": _set,
    "RESET": _reset,
    "PREPARE": _prepare,
    "CREATE": _create,
    "DROP": _drop,
    "ALTER": _alter,
    "GRANT": _grant,
    "REVOKE": _grant,
    "COMMENT": _comment,
}
