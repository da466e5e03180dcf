"""What a dump may not do unasked where its restorer may do everything: run programs, read files, grant roles.

This is a list of what pg_dump writes and what can do no more than fill a database; whatever is not on it counts
as a power, be it written with blanks, comments or quotes in odd places. It is no sandbox: a function's body, and
any expression that calls one, may do all that its caller may, and nothing here looks into it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .languages import language, untrusted
from .lexer import Event, Statement
from .literals import inserts, selects
from .words import Words, qualified, scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from .statements import Action

# Enough to judge by; the rest is counted.
_SHOWN = 4
# What pg_dump sets, and what people put above a dump to make it faster or to read its dates.
_SETTINGS = frozenset(
    {"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"}
    | {"idle_session_timeout", "check_function_bodies", "xmloption", "client_min_messages", "row_security"}
    | {"default_tablespace", "default_table_access_method", "default_with_oids", "escape_string_warning"}
    | {"search_path", "quote_all_identifiers", "extra_float_digits", "bytea_output", "datestyle", "intervalstyle"}
    | {"time", "timezone", "work_mem", "maintenance_work_mem", "synchronous_commit", "constraint_exclusion"}
)
# These change how the rest is read, so they are taken in pg_dump's own form alone.
_READ_BY = re.compile(
    rb"SET\s+(?:client_encoding\s*(?:=|TO)\s*'?[A-Za-z0-9_]+'?|standard_conforming_strings\s*(?:=|TO)\s*'?on'?)\s*;\Z",
    re.IGNORECASE,
)
_PLAIN = frozenset(
    {"SETVAL", "TRANSACTION", "DEFAULT PRIVILEGES", "SET SESSION AUTHORIZATION", "SECURITY"}
    | {"REFRESH", "DROP SCHEMA", "DROP EXTENSION", "REPLACE VIEW", "DROP DOMAIN CONSTRAINT"}
)
# Kinds of objects that fill a database and have no way out of it.
_KINDS = frozenset(
    {"TABLE", "VIEW", "SEQUENCE", "INDEX", "TYPE", "DOMAIN", "AGGREGATE", "COLLATION", "CONVERSION", "STATISTICS"}
    | {"TEXT", "OPERATOR", "SCHEMA", "TRIGGER", "CONSTRAINT", "RULE", "POLICY", "PUBLICATION", "CAST", "FUNCTION"}
    | {"PROCEDURE", "ROUTINE", "EXTENSION", "MATERIALIZED", "DEFAULT", "LARGE"}
)
# What a grant may be on, and what of that has no schema.
_WITHOUT_SCHEMA = frozenset({"SCHEMA", "LANGUAGE", "FOREIGN", "LARGE"})
_IN_SCHEMA = frozenset({"TABLE", "SEQUENCE", "FUNCTION", "PROCEDURE", "ROUTINE", "TYPE", "DOMAIN"})
# What `--clean` takes away of the rest harms nobody who agreed to what follows.
_GONE = _KINDS | {"FOREIGN", "SERVER", "EVENT", "LANGUAGE", "TRANSFORM", "ACCESS"}
_OWN_ROWS = "rows for PostgreSQL's own tables"
_MODIFIERS = ("OR", "REPLACE", "UNLOGGED", "RECURSIVE", "UNIQUE", "TRUSTED", "PROCEDURAL")
_LONG = {
    "FOREIGN": ("FOREIGN TABLE", "FOREIGN DATA WRAPPER"),
    "USER": ("USER MAPPING",),
    "EVENT": ("EVENT TRIGGER",),
    "ACCESS": ("ACCESS METHOD",),
}
# What a name may be that is written so, only the server can tell; pg_dump writes none.
_UNICODE = re.compile(rb'u&"', re.IGNORECASE)
# Of these, whoever owns one or may change it has what it can do.
_CALLED = frozenset({"FUNCTION", "PROCEDURE", "ROUTINE", "AGGREGATE"})


@dataclass
class Powers:
    """The powers of a dump, read as its events pass.

    :ivar found: Each kind, such as `COPY … PROGRAM`, with the line of the plain text, from 1, where its first begins.
    :ivar count: How many statements they are.
    """

    found: dict[str, int] = field(default_factory=dict)
    count: int = 0
    _line: int = 1

    def see(self, event: Event, action: Action | None) -> None:
        """Look at an event."""
        if isinstance(event, Statement) and action is not None:
            what = power(event, action)
            if what:
                self.count += 1
                self.found.setdefault(what, self._line)
        self._line += event.text.count(b"\n")

    def __str__(self) -> str:
        """Name the first few kinds, each with the line of its first; empty where there are none."""
        shown = [f"{what} (line {line:,})" for what, line in list(self.found.items())[:_SHOWN]]
        more = self.count - len(shown)
        return ", ".join(shown) + (f" and {more:,} more" if more else "")


def power(event: Statement, action: Action) -> str:
    """Tell what a statement does beyond filling the database; empty where it does no more.

    :param action: What :func:`statements.classify` makes of it.
    """
    verb, text = action.verb, event.text
    if event.copies:
        return _OWN_ROWS if _systems(*qualified(event.copies)) else ""
    if _UNICODE.search(text) and _escapes_a_name(text):
        return "a name in Unicode escapes"
    if verb == "REPLACE VIEW" and _systems(action.schema, ""):
        return "CREATE VIEW among PostgreSQL's own"
    if verb in _PLAIN or verb.startswith("COMMENT ON ") or text == b";":
        return ""
    judge = _JUDGES.get(verb) or _JUDGES.get(verb.partition(" ")[0])
    return judge(text, action) if judge else _other(text)


def _other(text: bytes) -> str:
    word = Words(text).word()
    return f"{word} statement" if word.isascii() and word.isalpha() else "a statement that is none of pg_dump's"


def _copy(text: bytes, _: Action) -> str:
    words = {found.upper() for kind, found in scan(text) if kind == "word"}
    return "COPY … PROGRAM" if b"PROGRAM" in words else "COPY with a file of the server"


def _insert(text: bytes, action: Action) -> str:
    if _systems(action.schema, action.name):
        return _OWN_ROWS
    return "" if inserts(text) else "INSERT of more than literals"


def _select(text: bytes, _: Action) -> str:
    return "" if selects(text) else "SELECT statement"


def _systems(schema: str, name: str) -> bool:
    """Whether something is PostgreSQL's own, which it finds first where no schema is named."""
    return schema.startswith("pg_") or schema == "information_schema" or (not schema and name.startswith("pg_"))


def _escapes_a_name(text: bytes) -> bool:
    before = [b"", b""]
    for kind, found in scan(text):
        if kind == "quoted" and before == [b"u", b"&"]:
            return True
        before = [before[1], found.lower()]
    return False


def _set(text: bytes, action: Action) -> str:
    name = action.name.lower()
    if name in _SETTINGS or (name in {"client_encoding", "standard_conforming_strings"} and _READ_BY.match(text)):
        return ""
    return f"{action.verb} {name}" if re.fullmatch(r"[a-z_.]{1,63}", name) else f"{action.verb} of a setting"


def _grant(text: bytes, _: Action) -> str:
    words = Words(text)
    verb = words.word()
    if not words.seek("ON"):
        return f"{verb} of a role"
    kind = words.word()
    if kind in _WITHOUT_SCHEMA - {"SCHEMA"}:
        return ""
    schema, name = words.names()
    own = not _systems(name, "") if kind == "SCHEMA" else kind in _IN_SCHEMA and schema and not _systems(schema, name)
    common = own and _alone(words)
    return "" if common else f"{verb} on what is not one object of the dump's own"


def _alone(words: Words) -> bool:
    """Tell whether nothing but arguments stands before TO or FROM: no list of further objects."""
    depth = 0
    while True:
        kind, text = words.take()
        if kind == "end" or (depth == 0 and text == b","):
            return False
        if depth == 0 and kind == "word" and text.upper() in {b"TO", b"FROM"}:
            return True
        depth += {b"(": 1, b")": -1}.get(text, 0) if kind == "sign" else 0


def _drop(text: bytes, _: Action) -> str:
    kind, _words = _kind(text)
    # USER is a role, unless a MAPPING follows.
    return "" if kind.partition(" ")[0] in _GONE or kind == "USER MAPPING" else f"DROP {kind}"


def _alter(text: bytes, _: Action) -> str:
    kind, words = _kind(text)
    if kind not in _KINDS - {"EXTENSION"}:
        return f"ALTER {kind}"
    schema, name = _named(kind, words)
    unknown = kind in _CALLED and not schema
    return f"ALTER {kind} of PostgreSQL's own" if unknown or _systems(schema, name) else ""


def _create(text: bytes, action: Action) -> str:
    kind, words = _kind(text)
    if kind not in _KINDS:
        return f"CREATE {kind}"
    if action.verb != "CREATE SCHEMA" and _systems(action.schema, ""):
        return f"CREATE {kind} among PostgreSQL's own"
    if kind in {"FUNCTION", "PROCEDURE"}:
        return language(kind, text)
    special = _SPECIAL.get(kind)
    return f"CREATE {kind} {special[0]}" if special and special[1](words) else ""


def _named(kind: str, words: Words) -> tuple[str, str]:
    """Take the name of what is altered; a schema's own counts as one that it lies in."""
    if kind == "TEXT":
        words.take()
        words.take()
    elif kind in {"OPERATOR", "MATERIALIZED"}:
        words.skip("CLASS", "FAMILY", "VIEW")
    if words.skip("IF"):
        words.skip("EXISTS")
    words.skip("ONLY")
    schema, name = words.names()
    return (name, "") if kind == "SCHEMA" else (schema, name)


def _with_more(words: Words) -> bool:
    """Whether a CREATE SCHEMA goes on behind the schema's name and owner."""
    if words.skip("IF"):
        words.skip("NOT")
        words.skip("EXISTS")
    if not words.skip("AUTHORIZATION"):
        words.name()
        words.skip("AUTHORIZATION")
    if words.peek()[1] != b";":
        words.name()
    return words.peek()[1] != b";"


def _of_its_own(words: Words) -> bool:
    words.names()
    return words.peek()[1] == b"("


def _kind(text: bytes) -> tuple[str, Words]:
    """Tell the kind of the object in a CREATE, ALTER or DROP, and what follows it."""
    words = Words(text)
    words.take()
    while words.skip(*_MODIFIERS):
        pass
    kind = words.word()
    for form in _LONG.get(kind, ()):
        if words.skip(form.split()[1]):
            return form, words
    return kind if kind.isascii() and kind.isalpha() else "of a kind that pg_dump does not write", words


_SPECIAL: dict[str, tuple[str, Callable[[Words], bool]]] = {
    "EXTENSION": ("of an untrusted language", untrusted),
    "TYPE": ("with functions of its own", _of_its_own),
    "CAST": ("WITHOUT FUNCTION", lambda words: words.seek("WITHOUT")),
    "OPERATOR": ("CLASS", lambda words: words.skip("CLASS")),
    "SCHEMA": ("with more in it", _with_more),
    "TABLE": ("of a query", lambda words: words.seek("AS")),
    "TEXT": (
        "SEARCH with functions of its own",
        lambda words: words.skip("SEARCH") and words.skip("TEMPLATE", "PARSER"),
    ),
}
_JUDGES: dict[str, Callable[[bytes, Action], str]] = {
    "COPY": _copy,
    "INSERT": _insert,
    "SELECT": _select,
    "LARGE OBJECT": _select,
    "SET": _set,
    "RESET": _set,
    "GRANT": _grant,
    "REVOKE": _grant,
    "CREATE": _create,
    "ALTER": _alter,
    "OWNER": _alter,
    "DROP": _drop,
}
