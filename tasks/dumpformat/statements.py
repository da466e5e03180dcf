"""Classify the statements of a dump by their first words, as far as a restore needs it."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field, replace

from .manifest import SequenceValue
from .tokens import NAME, TokenReader, encode_name, split_qualified
from .touch_forms import IN_SCHEMA, take_kind

_FIRST = re.compile(rb"[A-Za-z]+")
# The forms of pg_dump, with single spaces; other forms are read token by token.
_INSERT = re.compile(rb"INSERT INTO (%s(?:\.%s)?) " % (NAME, NAME))
_SETVAL = re.compile(rb"SELECT pg_catalog\.setval\('([^'\\]*)', (-?[0-9]+), (true|false)\);\Z")

# Words between CREATE and the kind of the object.
_MODIFIERS = frozenset({"OR", "REPLACE", "UNLOGGED", "MATERIALIZED", "RECURSIVE", "DEFAULT", "TRUSTED", "PROCEDURAL"})
# Kinds whose objects are created with a schema; an index has that of its table.
_IN_SCHEMA = (IN_SCHEMA - {"INDEX"}) | {
    f"TEXT SEARCH {kind}" for kind in ("CONFIGURATION", "DICTIONARY", "PARSER", "TEMPLATE")
}
_RELATIONS = frozenset({"TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE"})
_TWO_WORDS = frozenset({"FOREIGN", "OPERATOR", "TEXT", "EVENT", "USER", "UNIQUE", "ACCESS", "CONSTRAINT"})


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of the session that a statement changes.

    :ivar name: Its name in lower case.
    :ivar value: Its new value; None for the default.
    :ivar known: Whether the value is a constant in the statement; else only the server knows it.
    """

    name: str
    value: str | None = None
    known: bool = True


@dataclass(frozen=True, slots=True)
class StatementKind:
    """The effect of a statement.

    :ivar verb: `CREATE TABLE`, `REPLACE VIEW`, `SET`, `OWNER`, `GRANT`, `DEFAULT PRIVILEGES`, `SETVAL`, `LARGE OBJECT`,
        `TRANSACTION`, `COMMENT ON EXTENSION`, …; else its first word.
    :ivar schema: The schema of its object; empty without one.
    :ivar name: The name of its object.
    :ivar roles: The roles that it names.
    :ivar settings: The settings that a SET, a RESET or a `SELECT set_config(…)` changes. For a single such call the
        verb is SET.
    :ivar conditional: Whether it has IF EXISTS or IF NOT EXISTS.
    :ivar removes: Whether it is a DROP, or an ALTER TABLE that drops a constraint, a default or an identity.
    """

    verb: str
    schema: str = ""
    name: str = ""
    roles: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = field(default=(), compare=False)
    conditional: bool = field(default=False, compare=False)
    removes: bool = field(default=False, compare=False)


def parse_setval(text: bytes, *, standard: bool = True) -> SequenceValue | None:
    """Return the values of a `SELECT pg_catalog.setval(…);`; None for any other statement.

    :param standard: Whether standard_conforming_strings is on.
    """
    if (found := _SETVAL.match(text)) is not None:
        schema, name = split_qualified(found[1])
        return SequenceValue(schema=schema, name=name, value=int(found[2]), is_called=found[3] == b"true")
    words = TokenReader(text, standard=standard)
    return _setval(words) if words.skip("SELECT") and _builtin(words) == "setval" and words.sign(b"(") else None


def classify_statement(text: bytes, *, standard: bool = True) -> StatementKind:  # noqa: PLR0911 - a table of cases
    """Return the effect of a statement.

    :param text: A statement of the lexer: from its first token to its semicolon.
    :param standard: Whether standard_conforming_strings is on.
    """
    found = _FIRST.match(text)
    if found is None:
        return StatementKind(verb="")
    first = found.group().upper().decode()
    if first == "INSERT" and (into := _INSERT.match(text)) is not None:
        return _into(into[1])
    if first in {"BEGIN", "COMMIT", "END", "START", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"}:
        return StatementKind(verb="TRANSACTION", name=first)
    if first == "SELECT" and _SETVAL.match(text) is not None:
        return StatementKind(verb="SETVAL")
    reader = _READERS.get(first)
    if reader is None:
        return StatementKind(verb=first)
    words = TokenReader(text, standard=standard)
    words.take()
    kind = reader(words)
    if kind.verb == "SELECT" and b"set_config" in text.lower():
        return replace(kind, settings=_set_configs(TokenReader(text, standard=standard)))
    return kind


@functools.lru_cache(maxsize=256)
def _into(table: bytes) -> StatementKind:
    schema, name = split_qualified(table)
    return StatementKind(verb="INSERT", schema=schema, name=name)


def _insert(words: TokenReader) -> StatementKind:
    schema, name = words.names() if words.skip("INTO") else ("", "")
    return StatementKind(verb="INSERT", schema=schema, name=name)


def _select(words: TokenReader) -> StatementKind:
    if words.skip("CASE"):
        return _unlink_if_exists(words)
    called = _builtin(words)
    if not words.sign(b"("):
        return StatementKind(verb="SELECT")
    if called.startswith("lo_") or called == "lowrite":
        return StatementKind(verb="LARGE OBJECT", name=called, removes=called == "lo_unlink")
    if called == "setval" and _setval(words):
        return StatementKind(verb="SETVAL")
    if called == "set_config":
        setting = _set_config(words)
        if words.skip("AS"):
            words.name()
        if setting.name and words.sign(b";"):
            return _changes(setting, setting.name)
    return StatementKind(verb="SELECT")


def _builtin(words: TokenReader) -> str:
    """Take the name of a function; return it if its schema is pg_catalog or not given, else an empty name."""
    schema, name = words.names()
    return name if schema in {"", "pg_catalog"} else ""


def _unlink_if_exists(words: TokenReader) -> StatementKind:
    """Read `CASE WHEN EXISTS(SELECT 1 FROM pg_catalog.pg_largeobject_metadata …` of `pg_dump --clean --if-exists`."""
    known = words.skip("WHEN") and words.skip("EXISTS") and words.sign(b"(") and words.skip("SELECT")
    known = known and words.take()[1] == b"1" and words.skip("FROM")
    if known and words.names() in {("pg_catalog", "pg_largeobject_metadata"), ("pg_catalog", "pg_largeobject")}:
        return StatementKind(verb="LARGE OBJECT", name="lo_unlink")
    return StatementKind(verb="SELECT")


def _setval(words: TokenReader) -> SequenceValue | None:
    """Read the arguments of `setval`, which must be constants, and the end of the statement; None otherwise."""
    named = words.string()
    if named is None or not (_cast(words) and words.sign(b",")):
        return None
    minus = words.sign(b"-")
    kind, digits = words.take()
    called = words.word() if words.sign(b",") else "TRUE"
    if kind != "number" or called not in {"TRUE", "FALSE"} or not (words.sign(b")") and words.sign(b";")):
        return None
    schema, name = split_qualified(encode_name(named))
    return SequenceValue(
        schema=schema, name=name, value=-int(digits) if minus else int(digits), is_called=called == "TRUE"
    )


def _cast(words: TokenReader) -> bool:
    """Take a cast such as `::text` if one follows; return False if a colon begins anything else."""
    if not words.sign(b":"):
        return True
    return words.sign(b":") and bool(words.names()[1])


def _set_config(words: TokenReader) -> Setting:
    """Read the arguments of `set_config` up to the closing parenthesis; the name is empty if it is no constant."""
    name = words.string()
    if name is None or not (_cast(words) and words.sign(b",")):
        words.leave()
        return Setting(name="", known=False)
    value = words.string()
    known = value is not None and _cast(words) and words.peek()[1] == b","
    words.leave()
    return Setting(name=name.lower(), value=value if known else None, known=known)


def _set_configs(words: TokenReader) -> tuple[Setting, ...]:
    """Return the settings of all calls of `set_config` in a statement."""
    found = []
    while words.peek()[0] != "end":
        name = words.name()
        if not name:
            words.take()
        elif name == "set_config" and words.sign(b"("):
            found.append(_set_config(words))
    return tuple(found)


def parse_default_tablespace(kind: StatementKind) -> str:
    """Return the tablespace that a statement sets as default; empty for the database's default."""
    return next((each.value or "" for each in kind.settings if each.name == "default_tablespace"), "")


def _set(words: TokenReader) -> StatementKind:
    words.skip("LOCAL")
    if words.skip("SESSION") and words.skip("AUTHORIZATION"):
        return StatementKind(verb="SET SESSION AUTHORIZATION", roles=tuple(r for r in words.roles() if r != "default"))
    if words.skip("TRANSACTION", "CONSTRAINTS", "CHARACTERISTICS"):
        return StatementKind(verb="TRANSACTION", name="SET")
    name = ".".join(filter(None, words.names()))
    if name.lower() != "names":
        words.skip("TO")
        words.sign(b"=")
    setting = replace(_value(words), name={"names": "client_encoding"}.get(name.lower(), name.lower()))
    return _changes(setting, name)


def _changes(setting: Setting, name: str) -> StatementKind:
    becomes = setting.name == "role" and setting.value not in {None, "none"}
    return StatementKind(verb="SET", name=name, roles=(setting.value or "",) * becomes, settings=(setting,))


def _value(words: TokenReader) -> Setting:
    """Read a value up to the end of the statement; it is known only if it is one constant."""
    kind, text = words.peek()
    if words.skip("DEFAULT"):
        value = None
    elif kind == "number":
        value = words.take()[1].decode()
    elif kind in {"word", "quoted"} and text not in {b"u", b"U"}:
        value = words.name()
    else:
        value = words.string()
        kind = "" if value is None else kind
    known = kind not in {"", "end"} and words.peek()[1] == b";"
    return Setting(name="", value=value if known else None, known=known)


def _reset(words: TokenReader) -> StatementKind:
    if words.skip("SESSION") and words.skip("AUTHORIZATION"):
        return StatementKind(verb="SET SESSION AUTHORIZATION")
    name = ".".join(filter(None, words.names()))
    return StatementKind(verb="RESET", name=name, settings=(Setting(name=name.lower()),))


def _prepare(words: TokenReader) -> StatementKind:
    if words.skip("TRANSACTION"):
        return StatementKind(verb="TRANSACTION", name="PREPARE")
    return StatementKind(verb="PREPARE")


def _create(words: TokenReader) -> StatementKind:
    replaces = words.skip("OR")
    while words.skip(*_MODIFIERS):
        pass
    kind = words.word()
    if replaces and kind == "VIEW":
        schema, name = words.names()
        return StatementKind(verb="REPLACE VIEW", schema=schema, name=name)
    if kind == "TEXT":
        kind = f"TEXT {words.word()} {words.word()}"
    elif kind in _TWO_WORDS and words.skip("TABLE", "CLASS", "FAMILY", "TRIGGER", "MAPPING", "INDEX", "METHOD"):
        kind = {"OPERATOR": "OPERATOR CLASS", "FOREIGN": "FOREIGN TABLE", "UNIQUE": "INDEX"}.get(kind, kind)
    conditional = words.skip("IF") and words.skip("NOT") and words.skip("EXISTS")
    if kind == "POLICY":
        name = words.name()
        return StatementKind(verb="CREATE POLICY", name=name, roles=words.roles() if words.seek("TO", "USING") else ())
    if kind == "USER":
        return StatementKind(verb="CREATE USER MAPPING", roles=words.roles() if words.skip("FOR") else ())
    if kind == "SCHEMA":
        name = words.name() if words.peek()[1].upper() != b"AUTHORIZATION" else ""
        roles = words.roles() if words.skip("AUTHORIZATION") else ()
        return StatementKind(verb="CREATE SCHEMA", schema=name, name=name, roles=roles)
    if kind == "FOREIGN":
        words.skip("DATA")
        words.skip("WRAPPER")
    schema, name = words.names() if kind in _IN_SCHEMA else ("", words.name())
    return StatementKind(verb=f"CREATE {kind}", schema=schema, name=name, conditional=conditional)


def _drop(words: TokenReader) -> StatementKind:
    kind = take_kind(words)
    words.skip("CONCURRENTLY")
    conditional = words.skip("IF") and words.skip("EXISTS")
    if kind in {"SCHEMA", "EXTENSION", "DATABASE"}:
        return StatementKind(verb=f"DROP {kind}", name=words.name(), conditional=conditional, removes=True)
    return StatementKind(verb="DROP", conditional=conditional, removes=True)


def _alter(words: TokenReader) -> StatementKind:  # noqa: PLR0911 - a table of cases
    kind = take_kind(words)
    if kind == "DEFAULT":
        roles = words.roles() if words.seek("ROLE", "USER") else ()
        roles += words.roles() if words.seek("TO", "FROM") else ()
        return StatementKind(verb="DEFAULT PRIVILEGES", roles=roles)
    if kind == "DATABASE":
        return StatementKind(verb="ALTER DATABASE", name=words.name())
    conditional = words.skip("IF") and words.skip("EXISTS")
    schema, name = words.relation()
    if kind == "DOMAIN" and words.skip("DROP"):
        return StatementKind(verb="DROP DOMAIN CONSTRAINT", schema=schema, name=name)
    if kind in {"TABLE", "FOREIGN TABLE"}:
        if words.skip("ALTER"):
            words.skip("COLUMN")
            words.name()
            if words.skip("SET"):
                return StatementKind(verb="ALTER")
        if words.skip("DROP") and words.skip("CONSTRAINT", "DEFAULT", "IDENTITY"):
            return StatementKind(verb="ALTER", conditional=words.skip("IF") or conditional, removes=True)
    if words.skip("RENAME"):
        return StatementKind(verb="ALTER")
    while words.seek("OWNER", "ADD"):
        if words.skip("TO"):
            schema, name = (schema, name) if kind in _RELATIONS else ("", "")
            return StatementKind(verb="OWNER", schema=schema, name=name, roles=words.roles())
        if words.skip("GENERATED"):
            return StatementKind(verb="ALTER", name="IDENTITY")
        if words.skip("CONSTRAINT"):
            words.name()
            added = "INDEX" if words.skip("PRIMARY", "UNIQUE", "EXCLUDE") else "CONSTRAINT"
            return StatementKind(verb="ALTER", name=added)
    return StatementKind(verb="ALTER")


def _grant(words: TokenReader) -> StatementKind:
    verb, schema, name = "GRANT", "", ""
    if words.seek("ON"):
        if words.skip("SCHEMA"):
            verb, name = "GRANT ON SCHEMA", words.name()
        elif words.skip("TABLE", "SEQUENCE"):
            schema, name = words.names()
            if words.peek()[1] == b",":
                # Several objects may have several owners.
                schema, name = "", ""
    roles = words.roles() if words.seek("TO", "FROM") else ()
    return StatementKind(verb=verb, schema=schema, name=name, roles=roles)


def _comment(words: TokenReader) -> StatementKind:
    words.skip("ON")
    kind = words.word()
    name = words.name() if kind in {"EXTENSION", "SCHEMA", "DATABASE"} else ""
    return StatementKind(verb=f"COMMENT ON {kind}", name=name)


_READERS = {
    "INSERT": _insert,
    "SELECT": _select,
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
