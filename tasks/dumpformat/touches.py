"""Find the objects that a dump touches and did not create, as far as its text can show.

This is a list of the forms of statements that touch no more than they name. Any other statement counts as one that may
touch anything in the database. Expressions inside definitions (a CHECK, a default, an index, a materialized view) are
not looked into: pg_dump writes them, too.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .manifest import Touch, TouchKind
from .statements import parse_setval
from .tokens import TokenReader, split_qualified

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from .lexer import Statement
    from .statements import StatementKind


# Beyond so many different ones a dump counts as one that may touch anything.
LIMIT = 1000
_STRING = rb"'[^']*'"
# At each place of these expressions one branch at most can match, so a failure is not tried in many ways.
# An E string that no further string follows, which would be read as its continuation.
_ESCAPE_STRING = rb"[eE]'(?:[^'\\]|\\.|'')*'(?!\s*')"
_VALUE = rb"""(?:[\s(),.+]|-(?!-)|%s|%s|[bBxX]%s|\d+(?!\d)(?:[eE][+-]?\d+(?!\d))?(?![A-Za-z_])
              |(?:NULL|TRUE|FALSE|DEFAULT)(?![A-Za-z_0-9$'"\x80-\xff]))""" % (_STRING, _ESCAPE_STRING, _STRING)
_NAME = rb'(?:"(?:[^"]|"")+"|[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*)'
_ROWS = re.compile(
    rb"""INSERT\s+INTO\s+%(n)s(?:\.%(n)s)?\s*(?:\([^()'"$/;-]*(?:"[^"]*"[^()'"$/;-]*)*\)\s*)?
         (?:OVERRIDING\s+(?:SYSTEM|USER)\s+VALUE\s+)?(?:DEFAULT\s+VALUES|VALUES(?=[\s(])%(v)s+)
         (?:ON\s+CONFLICT\s+DO\s+NOTHING\s*)?;\Z"""
    % {b"n": _NAME, b"v": _VALUE},
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
# pg_dump's own queries, which call nothing of users.
_LITERALS = rb"(?:(?![eE]')[\w\s,:.-]|%s|%s)*" % (_ESCAPE_STRING, _STRING)
_QUERY = re.compile(
    rb"""SELECT\s+(?:
        (?:pg_catalog\.)?set_config\(\s*'[a-z_]+'\s*,\s*'[^']*'\s*,\s*(?:false|true)\s*\)
        |\*\s+FROM\s+pg_catalog\.pg_restore_(?:relation|attribute)_stats\(%s\)
        )\s*;\Z"""
    % _LITERALS,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_LARGE_OBJECT = re.compile(
    rb"""SELECT\s+(?:
        pg_catalog\.(?:lo_create|lo_open|lowrite|lo_close|lo_unlink)\(%s\)
        |pg_catalog\.lo_unlink\(oid\)\s+FROM\s+pg_catalog\.pg_largeobject_metadata\s+WHERE\s+oid\s=\s'\d+'
        |CASE\s+WHEN\s+EXISTS\(SELECT\s1\sFROM\spg_catalog\.pg_largeobject_metadata\sWHERE\soid\s=\s'\d+'\)
         \s+THEN\s+pg_catalog\.lo_unlink\('\d+'\)\s+END
        )\s*;\Z"""
    % _LITERALS,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
# As pg_dump writes the sequence of an identity column.
_IDENTITY = re.compile(
    rb"ADD GENERATED (?:ALWAYS|BY DEFAULT) AS IDENTITY \(\s*SEQUENCE NAME (%s(?:\.%s)?)" % (_NAME, _NAME)
)
_SEARCH_PATH = re.compile(rb"SELECT\s+(?:pg_catalog\.)?set_config\(\s*'search_path'", re.IGNORECASE)
_UTF8 = re.compile(rb"['\"\s=]UTF-?8\b|UNICODE", re.IGNORECASE)
# A name that is written so is another one than it looks.
_UNICODE_NAME = re.compile(rb'u&"', re.IGNORECASE)
# Keywords that a parenthesis may follow without a function being called.
_NO_FUNCTION = frozenset(
    {"VALUES", "IN", "ANY", "SOME", "ALL", "AND", "OR", "NOT", "WHERE", "ON", "SET", "USING", "CONFLICT", "ROW"}
    | {"ARRAY", "WHEN", "THEN", "ELSE", "CASE", "BETWEEN", "INSERT", "AS", "EXISTS", "FROM", "INTO", "RETURNING"}
    | {"VARCHAR", "CHAR", "CHARACTER", "NUMERIC", "DECIMAL", "BIT", "TIMESTAMP", "TIME", "INTERVAL", "FLOAT"}
)
_QUERIES = frozenset({"SELECT", "WITH", "TABLE"})
_MODIFIERS = ("UNLOGGED", "RECURSIVE", "DEFAULT", "TRUSTED", "PROCEDURAL", "UNIQUE", "CONSTRAINT")
# What follows the first word of a kind.
_LONG_KINDS = {
    "MATERIALIZED": ("VIEW",),
    "EVENT": ("TRIGGER",),
    "ACCESS": ("METHOD",),
    "USER": ("MAPPING",),
    "LARGE": ("OBJECT",),
    "PROCEDURAL": ("LANGUAGE",),
    "FOREIGN": ("TABLE", "DATA"),
    "OPERATOR": ("CLASS", "FAMILY"),
    "TEXT": ("SEARCH",),
}
# Objects that are found by schema and name; of the others in a schema it is enough to know the schema.
_NAMED = frozenset(
    {"TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "INDEX", "TYPE", "DOMAIN"}
    | {"FUNCTION", "PROCEDURE", "ROUTINE", "AGGREGATE"}
)
_IN_SCHEMA = frozenset(
    {"COLLATION", "CONVERSION", "STATISTICS", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY", "TEXT SEARCH"}
)
_MAKING = frozenset({"FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE"})
_ON_TABLES = frozenset({"TRIGGER", "RULE", "POLICY"})
_WITHOUT_SCHEMA = frozenset(
    {"PUBLICATION", "EVENT TRIGGER", "SERVER", "FOREIGN DATA", "LANGUAGE", "PROCEDURAL LANGUAGE", "ACCESS METHOD"}
    | {"CAST", "TRANSFORM", "USER MAPPING", "SUBSCRIPTION"}
)
# Those have no single name.
_NAMELESS = frozenset({"CAST", "TRANSFORM", "USER MAPPING"})


class _Kind(enum.Enum):
    """What a statement does with an object."""

    MAKES_TABLE = enum.auto()
    MAKES = enum.auto()
    MAKES_GLOBAL = enum.auto()
    MAKES_LARGE_OBJECT = enum.auto()
    # It makes an object whose rows or definition are not followed: a function, a type, an index.
    MAKES_NAME = enum.auto()
    # It adds rows, and takes nothing away.
    ADDS = enum.auto()
    # It changes or deletes rows.
    ROWS = enum.auto()
    SEQUENCE = enum.auto()
    # It changes or drops an object; in a schema that the dump fills that is what `pg_dump --clean` writes.
    DEFINITION = enum.auto()
    # It replaces an object, or drops it with what depends on it, wherever that is.
    REPLACES = enum.auto()
    # As pg_dump writes it of a base type, whose functions depend on it.
    DROPS_TYPE = enum.auto()
    MAKES_BASE_TYPE = enum.auto()
    GLOBAL = enum.auto()
    LARGE_OBJECT = enum.auto()
    # From here on rows may make functions run.
    TRAP = enum.auto()
    # From here on a name is another object's.
    RENAMES = enum.auto()
    SEARCH_PATH = enum.auto()
    ROLE = enum.auto()
    ENCODING = enum.auto()
    ANYTHING = enum.auto()


_PERHAPS_OWN = frozenset({_Kind.DEFINITION, _Kind.SEQUENCE, _Kind.DROPS_TYPE})
_INDEX = "INDEX"
_GRANTS = frozenset({"GRANT", "REVOKE"})


class _Effect(NamedTuple):
    kind: _Kind
    schema: str = ""
    name: str = ""
    how: str = ""


@dataclass
class Touches:
    """What a dump touches, noted while its statements pass.

    :ivar line: The line of the plain text, from 1, that comes next.
    """

    line: int = 1
    _path: tuple[bytes, bytes] = (b"", b"")
    # By schema, or by search path and role where it is written without one; whether it was ever but a table.
    _made: dict[tuple[object, str], bool] = field(default_factory=dict)
    _globals: set[tuple[str, str]] = field(default_factory=set)
    _base_types: set[tuple[str, str]] = field(default_factory=set)
    _large_objects: bool = False
    _trapped: bool = False
    _utf8: bool = True
    _seen: dict[_Effect, int] = field(default_factory=dict)
    # What it creates at all, and what it drops by name, each as (schema, name); `_objects` without indexes.
    _names: set[tuple[str, str]] = field(default_factory=set)
    _objects: set[tuple[str, str]] = field(default_factory=set)
    _dropped: set[tuple[str, str]] = field(default_factory=set)
    _perhaps_own: int = 0

    @property
    def created(self) -> dict[tuple[str, str], bool]:
        """The relations, functions and types that the dump creates, each with whether it also drops that name."""
        return {key: key in self._dropped for key in self._objects}

    def statement(self, event: Statement, action: StatementKind) -> None:
        """Note what a statement touches.

        :param action: What :func:`statements.classify` makes of it.
        """
        text = event.text
        # Without a backslash it reads the same whatever standard_conforming_strings is.
        known = event.standard or b"\\" not in text
        effects = _effects(text, event.copies, action) if known else [_Effect(_Kind.ANYTHING, how=_first_words(text))]
        for effect in effects:
            self._note(effect, text)
        self.line += text.count(b"\n")

    def found(self, schemas: Collection[str], *, creates_tables: bool) -> tuple[Touch, ...]:
        """Return what the dump touches and did not create, in the order of its lines.

        :param schemas: The schemas that the dump fills. What it creates in them is its own, wherever it is changed or
            dropped.
        :param creates_tables: False for a dump of rows alone, whose schemas are nobody's but the target's.
        """
        own = frozenset(schemas) if creates_tables else frozenset()
        touches = [
            touch
            for effect, line in self._seen.items()
            if (touch := self._touch(effect, line, own, creates_tables=creates_tables)) is not None
        ]
        if len(touches) > LIMIT:
            return (*touches[:LIMIT], Touch("", "", "statements of many kinds", 1, TouchKind.ANYTHING))
        return tuple(touches)

    def _touch(self, effect: _Effect, line: int, own: Collection[str], *, creates_tables: bool) -> Touch | None:
        kind, schema, name, how = effect
        if kind is _Kind.GLOBAL:
            made = (how.partition(" ")[2], name) in self._globals
            return None if made else Touch("", "", f"{how} {name}".strip(), line, TouchKind.ANYTHING)
        if kind is _Kind.LARGE_OBJECT:
            return None if self._large_objects else Touch("", "", how, line, TouchKind.ANYTHING)
        if kind is _Kind.ANYTHING or self._uncertain(schema + name):
            return Touch("", "", how, line, TouchKind.ANYTHING)
        if kind is _Kind.SEQUENCE and not creates_tables:
            kind = _Kind.ADDS
        # Grants on objects of extensions are in pg_dump's own dumps; they delete nothing.
        made = not name or (schema, name) in self._names or how in _GRANTS
        if kind in {_Kind.DEFINITION, _Kind.SEQUENCE} and schema in own and made:
            return None
        if kind is _Kind.DROPS_TYPE and schema in own and (schema, name) in self._base_types:
            return None
        said = {_Kind.ADDS: TouchKind.ADDS, _Kind.ROWS: TouchKind.ROWS}.get(kind, TouchKind.DEFINITION)
        return Touch(schema, name, how, line, said)

    def _uncertain(self, name: str) -> bool:
        """Whether a name may be another one at the server, as its bytes are read in another encoding there."""
        return not (name.isascii() or (self._utf8 and not any("\ud800" <= char <= "\udfff" for char in name)))

    def _note(self, effect: _Effect, text: bytes) -> None:  # noqa: PLR0912 - a table of cases
        kind, schema, name, how = effect
        key = (schema or self._path, name)
        if kind in {_Kind.MAKES_TABLE, _Kind.MAKES, _Kind.MAKES_NAME, _Kind.MAKES_BASE_TYPE}:
            self._names.add((schema, name))
            if how != _INDEX:
                self._objects.add((schema, name))
        elif how.startswith("DROP") and name:
            self._dropped.add((schema, name))
        if kind in {_Kind.MAKES_TABLE, _Kind.MAKES}:
            self._made[key] = self._made.get(key, True) and kind is _Kind.MAKES_TABLE
        elif kind is _Kind.MAKES_GLOBAL:
            self._globals.add((how, name))
        elif kind is _Kind.MAKES_NAME:
            return
        elif kind is _Kind.MAKES_BASE_TYPE:
            self._base_types.add((schema, name))
        elif kind is _Kind.MAKES_LARGE_OBJECT:
            self._large_objects = True
        elif kind is _Kind.TRAP:
            self._trapped = True
        elif kind is _Kind.RENAMES:
            self._made.clear()
        elif kind is _Kind.SEARCH_PATH:
            self._path = (text, self._path[1])
        elif kind is _Kind.ROLE:
            self._path = (self._path[0], text)
        elif kind is _Kind.ENCODING:
            self._utf8 = False
        elif kind in {_Kind.ADDS, _Kind.ROWS} and self._trapped:
            self._remember(_Effect(_Kind.ANYTHING, how=how))
        elif (kind in {_Kind.ADDS, _Kind.ROWS} and self._made.get(key)) or (
            kind in {_Kind.DEFINITION, _Kind.SEQUENCE} and key in self._made
        ):
            # Its own; what it drops is its own no longer.
            if how.startswith("DROP"):
                self._made.pop(key)
        else:
            self._remember(effect)

    def _remember(self, effect: _Effect) -> None:
        # What may turn out to be the dump's own later is no reason to forget what is not.
        if effect.kind in _PERHAPS_OWN or len(self._seen) <= LIMIT + self._perhaps_own:
            self._perhaps_own += effect.kind in _PERHAPS_OWN and effect not in self._seen
            self._seen.setdefault(effect, self.line)


def _effects(text: bytes, copies: bytes, action: StatementKind) -> Iterator[_Effect]:
    verb = action.verb
    if copies:
        yield _Effect(_Kind.ADDS, *split_qualified(copies), "COPY")
    elif verb == "INSERT":
        yield from _insert(text)
    elif verb == "TRANSACTION" or text == b";":
        return
    elif _UNICODE_NAME.search(text):
        yield _Effect(_Kind.ANYTHING, how=_first_words(text))
    else:
        reader = _READERS.get(verb) or _READERS.get(_first_words(text))
        yield from reader(text) if reader else [_Effect(_Kind.ANYTHING, how=_first_words(text))]


def _first_words(text: bytes) -> str:
    word = TokenReader(text).word()
    return word if word.isascii() and word.isalpha() else "a statement of an unknown form"


def _nothing(_: bytes) -> Iterator[_Effect]:
    return iter(())


def _insert(text: bytes) -> Iterator[_Effect]:
    words = TokenReader(text)
    words.take()
    words.skip("INTO")
    schema, name = words.names()
    if _ROWS.match(text):
        yield _Effect(_Kind.ADDS, schema, name, "INSERT")
        return
    _skip_parentheses(words)
    rest = list(_rest(words))
    if not name or _runs_code(text, rest):
        yield _Effect(_Kind.ANYTHING, how="INSERT")
        return
    updates = any(kind == "word" and found.upper() == b"UPDATE" for kind, found in rest)
    if updates:
        yield _Effect(_Kind.ROWS, schema, name, "INSERT … ON CONFLICT DO UPDATE")
    yield _Effect(_Kind.ADDS, schema, name, "INSERT")


def _rest(words: TokenReader) -> Iterator[tuple[str, bytes]]:
    while (token := words.take())[0] != "end":
        yield token


def _runs_code(text: bytes, tokens: list[tuple[str, bytes]]) -> bool:
    """Whether an expression may call a function or read another table, which may be a view that calls one.

    :param text: The whole statement: where a string with backslashes ends is not for these tokens to say.
    """
    if b"\\" in text:
        return True
    before, last, qualifies = "", "", False
    for kind, found in tokens:
        word = found.upper().decode("latin-1")
        if kind == "word" and word in _QUERIES:
            return True
        if (kind, word) == ("sign", "(") and last and (qualifies or not (before == "AS" or last in _NO_FUNCTION)):
            return True
        qualifies = (kind, word) == ("sign", ".") or (qualifies and not last)
        before, last = last, word if kind in {"word", "quoted"} else ""
    return False


def _changes_rows(how: str, *before: str) -> Callable[[bytes], Iterator[_Effect]]:
    """Read an UPDATE, DELETE or MERGE.

    :param before: The keywords before the name.
    """

    def read(text: bytes) -> Iterator[_Effect]:
        words = TokenReader(text)
        for keyword in before:
            words.skip(keyword)
        words.skip("ONLY")
        schema, name = words.names()
        if not name or words.peek()[1] == b"." or _runs_code(text, list(_rest(words))):
            yield _Effect(_Kind.ANYTHING, how=how)
        else:
            yield _Effect(_Kind.ROWS, schema, name, how)

    return read


def _truncate(text: bytes) -> Iterator[_Effect]:
    words = TokenReader(text)
    words.take()
    words.skip("TABLE")
    names = list(_names(words))
    cascades = words.seek("CASCADE")
    for found in names:
        yield _named(_Kind.ROWS, found, "TRUNCATE … CASCADE" if cascades else "TRUNCATE")


def _names(words: TokenReader) -> Iterator[tuple[str, str] | None]:
    """Take a list of names, arguments of functions left aside; None for one that names a database, too."""
    while True:
        words.skip("ONLY")
        found = words.names()
        whole = words.peek()[1] != b"."
        while words.peek()[1] in {b".", b"*"}:
            words.take()
            words.name()
        _skip_parentheses(words)
        yield found if whole and found[1] else None
        if words.peek()[1] != b",":
            return
        words.take()


def _skip_parentheses(words: TokenReader) -> None:
    depth = 0
    while words.peek() == ("sign", b"(") or (depth and words.peek()[0] != "end"):
        kind, found = words.take()
        depth += {b"(": 1, b")": -1}.get(found, 0) if kind == "sign" else 0
        if not depth:
            return


def _named(kind: _Kind, found: tuple[str, str] | None, how: str) -> _Effect:
    return _Effect(_Kind.ANYTHING, how=how) if found is None else _Effect(kind, *found, how)


def _kind_of(words: TokenReader) -> str:
    """Take the kind of the object in a CREATE, ALTER or DROP."""
    kind = words.word()
    for second in _LONG_KINDS.get(kind, ()):
        if words.skip(second):
            kind = f"{kind} {second}"
            if kind in {"TEXT SEARCH", "FOREIGN DATA"}:
                words.take()
            break
    return kind


def _skip_if_exists(words: TokenReader) -> bool:
    """Take IF EXISTS or IF NOT EXISTS."""
    if not words.skip("IF"):
        return False
    words.skip("NOT")
    words.skip("EXISTS")
    return True


def _create(text: bytes) -> Iterator[_Effect]:  # noqa: PLR0912 - a table of cases
    words = TokenReader(text)
    words.take()
    replaces = words.skip("OR") and words.skip("REPLACE")
    while words.skip(*_MODIFIERS):
        pass
    kind = _kind_of(words)
    how = f"CREATE {'OR REPLACE ' if replaces else ''}{kind}"
    if kind == "INDEX":
        yield from _create_index(words, how)
    elif kind in _ON_TABLES:
        yield from _on_table(words, kind, how)
    elif kind in _WITHOUT_SCHEMA:
        yield _Effect(_Kind.MAKES_GLOBAL, "", "" if kind in _NAMELESS else words.name(), kind)
    elif kind == "SCHEMA":
        yield from _create_schema(words, how)
    elif kind == "TABLE":
        maybe = _skip_if_exists(words)
        schema, name = words.names()
        if words.seek("AS"):
            yield _Effect(_Kind.ANYTHING, how="CREATE TABLE … AS")
        elif not maybe:
            yield _Effect(_Kind.MAKES_TABLE, schema, name)
    elif kind in _MAKING and not replaces:
        if not _skip_if_exists(words):
            yield _Effect(_Kind.MAKES, *words.names())
    elif replaces and kind in _NAMED:
        # Of a view it is what pg_dump writes where two depend on each other.
        found = words.names()
        yield _Effect(_Kind.DEFINITION if kind == "VIEW" else _Kind.REPLACES, *found, how)
    elif kind == "TYPE":
        found = words.names()
        yield _Effect(_Kind.MAKES_BASE_TYPE if words.peek()[1] == b";" else _Kind.MAKES_NAME, *found)
    elif kind in _NAMED:
        yield _Effect(_Kind.MAKES_NAME, *words.names())
    elif kind not in _NAMED | _IN_SCHEMA | {"EXTENSION"}:
        yield _Effect(_Kind.ANYTHING, how=how if kind.replace(" ", "").isalpha() else "CREATE")


def _create_index(words: TokenReader, how: str) -> Iterator[_Effect]:
    """Read CREATE INDEX: the index lies in its table's schema, and is named without it."""
    words.skip("CONCURRENTLY")
    _skip_if_exists(words)
    name = words.name()
    for effect in _on_table(words, "INDEX", how):
        if name and effect.name:
            yield _Effect(_Kind.MAKES_NAME, effect.schema, name, _INDEX)
        yield effect


def _create_schema(words: TokenReader, how: str) -> Iterator[_Effect]:
    _skip_if_exists(words)
    if not words.skip("AUTHORIZATION"):
        words.name()
        words.skip("AUTHORIZATION")
    if words.peek()[1] != b";":
        words.name()
    if words.peek()[1] != b";":
        yield _Effect(_Kind.ANYTHING, how=how)


def _on_table(words: TokenReader, kind: str, how: str) -> Iterator[_Effect]:
    """Read what is made or dropped on a table."""
    if not words.seek("TO" if kind == "RULE" and how.startswith("CREATE") else "ON"):
        yield _Effect(_Kind.ANYTHING, how=how)
        return
    words.skip("ONLY")
    schema, name = words.names()
    whole = bool(name) and words.peek()[1] != b"."
    yield _named(_Kind.DEFINITION, (schema, name) if whole else None, how)
    if how.startswith("CREATE") and kind in {"TRIGGER", "RULE"}:
        yield _Effect(_Kind.TRAP)


def _drop(text: bytes) -> Iterator[_Effect]:
    words = TokenReader(text)
    words.take()
    kind = _kind_of(words)
    words.skip("CONCURRENTLY")
    _skip_if_exists(words)
    how = f"DROP {kind}"
    if kind in _ON_TABLES:
        yield from _on_table(words, kind, how)
    elif kind in _NAMED | _IN_SCHEMA:
        names = list(_names(words))
        cascades = words.seek("CASCADE")
        for found in names:
            place = found if found is None or kind in _NAMED else (found[0], "")
            whole = place if place is None or any(place) else None
            cascading = _Kind.DROPS_TYPE if kind == "TYPE" else _Kind.REPLACES
            yield _named(cascading if cascades else _Kind.DEFINITION, whole, how + " … CASCADE" * cascades)
    elif kind in _WITHOUT_SCHEMA:
        yield _Effect(_Kind.GLOBAL, "", "" if kind in _NAMELESS else words.name(), how)
    else:
        yield _Effect(_Kind.ANYTHING, how=how if kind.isalpha() else "DROP")


def _alter(text: bytes) -> Iterator[_Effect]:
    words = TokenReader(text)
    words.take()
    kind = _kind_of(words)
    if kind == "DEFAULT":
        return
    _skip_if_exists(words)
    words.skip("ONLY")
    how = f"ALTER {kind}"
    if kind in _NAMED:
        yield from _alter_named(words, how, text)
    elif kind in _IN_SCHEMA:
        schema, _ = words.names()
        yield _named(_Kind.DEFINITION, (schema, "") if schema else None, how)
    elif kind == "SCHEMA":
        name = words.name()
        renames = words.skip("RENAME")
        if renames or name != "public":
            yield _named(_Kind.DEFINITION, None if renames else (name, ""), how)
    elif kind in _WITHOUT_SCHEMA:
        yield _Effect(_Kind.GLOBAL, "", "" if kind in _NAMELESS else words.name(), how)
    elif kind == "LARGE OBJECT":
        yield _Effect(_Kind.LARGE_OBJECT, how=how)
    else:
        yield _Effect(_Kind.ANYTHING, how=how if kind.isalpha() else "ALTER")


def _alter_named(words: TokenReader, how: str, text: bytes) -> Iterator[_Effect]:
    schema, name = words.names()
    whole = bool(name) and words.peek()[1] != b"."
    _skip_parentheses(words)
    first, second = words.word(), words.word()
    if first in {"DISABLE", "ENABLE"} and second == "TRIGGER":
        words.take()
        if words.peek()[1] == b";":
            # As `pg_dump --data-only --disable-triggers` writes it around the rows.
            return
    yield _named(_Kind.DEFINITION, (schema, name) if whole else None, how)
    if (first, second) == ("ADD", "CONSTRAINT"):
        # Its index.
        yield _Effect(_Kind.MAKES_NAME, schema, words.name(), _INDEX)
    elif first == "ALTER" and (made := _IDENTITY.search(text)):
        yield _Effect(_Kind.MAKES_NAME, *split_qualified(made[1]), _INDEX)
    if first == "RENAME" or (first, second) == ("SET", "SCHEMA"):
        yield _Effect(_Kind.RENAMES)
    elif first == "ATTACH":
        yield _named(_Kind.DEFINITION, next(_names(words)), how)


def _grant(text: bytes) -> Iterator[_Effect]:
    words = TokenReader(text)
    how = words.word()
    if not words.seek("ON"):
        yield _Effect(_Kind.ANYTHING, how=f"{how} of a role")
        return
    if words.skip("LANGUAGE", "FOREIGN"):
        return
    if words.skip("LARGE"):
        yield _Effect(_Kind.LARGE_OBJECT, how=how)
    elif words.skip("DATABASE", "TABLESPACE", "PARAMETER"):
        yield _Effect(_Kind.ANYTHING, how=how)
    elif words.skip("SCHEMA") or (words.skip("ALL") and words.seek("SCHEMA")):
        for found in _names(words):
            if found is None or found[1] != "public":
                yield _named(_Kind.DEFINITION, None if found is None else (found[1], ""), how)
    else:
        words.skip("TABLE", "SEQUENCE", "FUNCTION", "PROCEDURE", "ROUTINE", "TYPE", "DOMAIN")
        for found in _names(words):
            if found is None or not is_system_schema(found[0]):
                yield _named(_Kind.DEFINITION, found, how)


def _select(text: bytes) -> Iterator[_Effect]:
    if _LARGE_OBJECT.match(text):
        made = b"lo_create" in text[:40].lower()
        yield _Effect(_Kind.MAKES_LARGE_OBJECT if made else _Kind.LARGE_OBJECT, how="SELECT")
    elif (value := parse_setval(text)) is not None:
        yield _Effect(_Kind.SEQUENCE, value.schema, value.name, "SELECT setval")
    elif _QUERY.match(text):
        if _SEARCH_PATH.match(text):
            yield _Effect(_Kind.SEARCH_PATH)
    else:
        yield _Effect(_Kind.ANYTHING, how="SELECT")


def _set(text: bytes) -> Iterator[_Effect]:
    words = TokenReader(text)
    words.take()
    words.skip("LOCAL", "SESSION")
    name = words.name().lower()
    if name in {"search_path", "schema"}:
        yield _Effect(_Kind.SEARCH_PATH)
    elif name in {"role", "authorization"}:
        yield _Effect(_Kind.ROLE)
    elif name in {"client_encoding", "names"} and not _UTF8.search(text):
        yield _Effect(_Kind.ENCODING)
    elif name == "all":
        yield _Effect(_Kind.SEARCH_PATH)
        yield _Effect(_Kind.ROLE)


def _refresh(text: bytes) -> Iterator[_Effect]:
    words = TokenReader(text)
    words.take()
    words.skip("MATERIALIZED")
    words.skip("VIEW")
    words.skip("CONCURRENTLY")
    for found in _names(words):
        yield _named(_Kind.DEFINITION, found, "REFRESH MATERIALIZED VIEW")


def is_system_schema(schema: str) -> bool:
    """Whether a schema is PostgreSQL's own."""
    return schema.startswith("pg_") or schema == "information_schema"


_READERS: dict[str, Callable[[bytes], Iterator[_Effect]]] = {
    "DROP SCHEMA": _nothing,
    # A restore leaves both out.
    "DROP EXTENSION": _nothing,
    "COMMENT": _nothing,
    "SECURITY": _nothing,
    "LOCK": _nothing,
    "CREATE": _create,
    "DROP": _drop,
    "ALTER": _alter,
    "GRANT": _grant,
    "REVOKE": _grant,
    "SELECT": _select,
    "SET": _set,
    "RESET": _set,
    "DISCARD": _set,
    "REFRESH": _refresh,
    "TRUNCATE": _truncate,
    "UPDATE": _changes_rows("UPDATE", "UPDATE"),
    "DELETE": _changes_rows("DELETE", "DELETE", "FROM"),
    "MERGE": _changes_rows("MERGE", "MERGE", "INTO"),
}
