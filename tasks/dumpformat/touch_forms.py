"""The forms of pg_dump's statements, and the names in a statement, for :mod:`.touches`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from .tokens import NAME, TokenReader, encode_name, scan_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    Key = tuple[str, str]


# Bytes. The server truncates longer names, which may then be those of other objects.
_LONGEST_NAME = 63
_COLUMNS = rb"\(%s(?:, ?%s)*\)" % (NAME, NAME)
COPY = re.compile(rb"COPY %s(?:\.%s)? (?:%s)? ?FROM stdin;\Z" % (NAME, NAME, _COLUMNS))
_INSERT = re.compile(
    rb"INSERT INTO %s(?:\.%s)? (?:%s )?(?:OVERRIDING (?:SYSTEM|USER) VALUE )?(?:DEFAULT VALUES|VALUES(?=[\s(]))"
    % (NAME, NAME, _COLUMNS)
)
# A minus directly before a number is part of it; anything else would be an operator, which the dump may define.
_VALUE = rb"""(?:[bBxX]?'[^']*(?:''[^']*)*'|[eE]'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'
    |-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|NULL|TRUE|FALSE|DEFAULT|null|true|false|default)"""
_ROW = re.compile(rb"\s*\(\s*%s(?:\s*,\s*%s)*\s*\)\s*(,|(?=[;O]))" % (_VALUE, _VALUE), re.VERBOSE | re.DOTALL)
_INSERT_END = re.compile(rb"\s*(?:ON CONFLICT DO NOTHING)?;\Z")
UTF8 = re.compile(rb"['\"\s=]UTF-?8\b|UNICODE", re.IGNORECASE)
LO_OF_ID = re.compile(
    rb"SELECT (?:pg_catalog\.(lo_create|lo_open|lo_unlink)\('([0-9]{1,10})'(?:, [0-9]+)?\)"
    rb"|pg_catalog\.(lo_unlink)\(oid\) FROM pg_catalog\.pg_largeobject_metadata WHERE oid = '([0-9]{1,10})'"
    rb"|CASE WHEN EXISTS\(SELECT 1 FROM pg_catalog\.pg_largeobject_metadata WHERE oid = '[0-9]{1,10}'\)"
    rb" THEN pg_catalog\.(lo_unlink)\('([0-9]{1,10})'\) END);\Z"
)
# Writes to the large object that a statement of the form above has opened.
LO_WRITE = re.compile(rb"SELECT pg_catalog\.(?:lowrite\(0, '[^']*'\)|lo_close\(0\));\Z")
SET_CONFIG = re.compile(rb"SELECT (pg_catalog\.)?set_config\('[a-z_]+', '[^'\\]*', (?:false|true)\);\Z")
_STATISTICS = re.compile(rb"SELECT \* FROM pg_catalog\.pg_restore_(?:relation|attribute)_stats\(")
_STATISTICS_WORDS = frozenset(
    {b"integer", b"real", b"boolean", b"text", b"bigint", b"name", b"false", b"true", b"NULL"}
)
# Statements for which no event trigger runs.
OF_EVENT_TRIGGER = re.compile(rb"(?:CREATE|ALTER|COMMENT ON) EVENT TRIGGER ")
OTHER_SETTING = re.compile(
    rb"SET (?!search_path )[a-z_]+ (?:=|TO) |SELECT (?:pg_catalog\.)?set_config\('(?!search_path')"
)
SAFE_PATH = re.compile(
    rb"(?:SET search_path (?:=|TO)|SELECT (?:pg_catalog\.)?set_config\('search_path',) (?:''|pg_catalog)[,;]"
)

MODIFIERS = ("UNLOGGED", "RECURSIVE", "DEFAULT", "TRUSTED", "PROCEDURAL", "UNIQUE", "CONSTRAINT")
# Second words of kinds.
_LONG_KINDS = {
    "MATERIALIZED": ("VIEW",),
    "EVENT": ("TRIGGER",),
    "ACCESS": ("METHOD",),
    "USER": ("MAPPING",),
    "LARGE": ("OBJECT",),
    "PROCEDURAL": ("LANGUAGE",),
    "FOREIGN": ("TABLE", "DATA", "SERVER"),
    "OPERATOR": ("CLASS", "FAMILY"),
    "TEXT": ("SEARCH",),
}
_THIRD_WORD = frozenset({"FOREIGN DATA", "TEXT SEARCH"})
RELATIONS = frozenset({"TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "INDEX"})
_ROUTINES = frozenset({"FUNCTION", "PROCEDURE", "ROUTINE", "AGGREGATE"})
TYPES = frozenset({"TYPE", "DOMAIN"})
NAMED = RELATIONS | _ROUTINES | TYPES
IN_SCHEMA = NAMED | frozenset(
    {"COLLATION", "CONVERSION", "STATISTICS", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY", "TEXT SEARCH"}
)
ON_TABLES = frozenset({"TRIGGER", "RULE", "POLICY", "CONSTRAINT"})
GLOBAL = frozenset(
    {"PUBLICATION", "EVENT TRIGGER", "SERVER", "FOREIGN DATA", "LANGUAGE", "ACCESS METHOD", "SUBSCRIPTION"}
)
NAMELESS = frozenset({"CAST", "TRANSFORM", "USER MAPPING"})
_ENDS = frozenset({"OPTIONS", "WITH", "WITHOUT", "CASCADE", "RESTRICT", "IS", "OWNER", "TO"})
GRANTED = frozenset(
    {"TABLE", "SEQUENCE", "FUNCTION", "PROCEDURE", "ROUTINE", "TYPE", "DOMAIN", "SCHEMA", "LANGUAGE", "FOREIGN"}
    | {"LARGE", "ALL", "DATABASE", "TABLESPACE", "PARAMETER"}
)
_SAME_KIND = {"FOREIGN SERVER": "SERVER", "PROCEDURAL LANGUAGE": "LANGUAGE"}
# The actions of pg_dump's ALTER, after the name of the object.
_ALTERS = frozenset(
    {"OWNER TO", "ADD CONSTRAINT", "ATTACH PARTITION", "REPLICA IDENTITY", "CLUSTER ON", "OWNED BY", "SET LOGGED"}
    | {"SET UNLOGGED", "SET STATISTICS", "FORCE ROW", "NO FORCE", "DEPENDS ON", "ADD MAPPING", "ADD OPERATOR"}
    | {"ADD FUNCTION", "SET ("}
    | {f"{able} {what}" for able in ("ENABLE", "DISABLE") for what in ("ROW", "TRIGGER", "RULE", "ALWAYS", "REPLICA")}
)
_ALTERS_COLUMN = frozenset(
    {"SET DEFAULT", "SET STATISTICS", "SET STORAGE", "SET COMPRESSION", "SET (", "SET NOT", "ADD GENERATED"}
    | {"OPTIONS ("}
)
# Parts of a table that `pg_dump --clean` drops before the table.
_DROPPED_PARTS = frozenset({"CONSTRAINT", "DEFAULT", "IDENTITY"})


class ObjectName(NamedTuple):
    """An object of a dump: a relation or a statistics object."""

    group: str
    schema: str
    name: str

    @property
    def key(self) -> Key:
        """Its schema and name."""
        return self.schema, self.name


def first_word(text: bytes) -> str:
    """Return the first word of a statement, for messages."""
    word = TokenReader(text).word()
    return word if word.isascii() and word.isalpha() else "a statement of an unknown form"


def certain(*names: str) -> bool:
    """Return whether these are valid names that the server does not truncate."""
    return all(
        name and len(encode_name(name)) <= _LONGEST_NAME and not any("\ud800" <= char <= "\udfff" for char in name)
        for name in names
    )


def group(kind: str) -> str:
    """Return the common name of all kinds whose objects share one namespace in a schema."""
    if kind in RELATIONS:
        return "RELATION"
    return "ROUTINE" if kind in _ROUTINES else "TYPE" if kind in TYPES else kind


def holds_literals(text: bytes) -> bool:
    """Return whether all values of an INSERT are literals."""
    begin = _INSERT.match(text)
    if begin is None:
        return False
    at = begin.end()
    if not text[:at].upper().endswith(b"DEFAULT VALUES"):
        more = True
        while more:
            row = _ROW.match(text, at)
            if row is None:
                return False
            at, more = row.end(), bool(row[1])
    return _INSERT_END.match(text, at) is not None


def restores_statistics(text: bytes) -> bool:
    """Return whether a query restores statistics from literals, in the form of pg_dump 18."""
    begin = _STATISTICS.match(text)
    if begin is None:
        return False
    tokens = scan_tokens(text[begin.end() :])
    for kind, found in tokens:
        if found == b")":
            return [*tokens] == [("sign", b";")]
        literal = kind in {"string", "escaped", "number"} or (kind == "sign" and found in b":,.-[]")
        if not literal and not (kind == "word" and found in _STATISTICS_WORDS):
            return False
    return False


def take_kind(words: TokenReader) -> str:
    """Take and return the kind of the object in a CREATE, ALTER, DROP, COMMENT or GRANT."""
    kind = words.word()
    for second in _LONG_KINDS.get(kind, ()):
        if words.skip(second):
            kind = f"{kind} {second}"
            if kind in _THIRD_WORD:
                words.take()
            break
    return _SAME_KIND.get(kind, kind)


def take_names(words: TokenReader) -> Iterator[tuple[str, str]]:
    """Take and yield a list of names without arguments of functions; a name with a database as two empty texts."""
    while True:
        found = words.relation()
        with_database = words.peek()[1] == b"."
        while words.peek()[1] in {b".", b"*"}:
            words.take()
            words.name()
        skip_parentheses(words)
        yield ("", "") if with_database else found
        if not words.sign(b","):
            return


def take_dotted(words: TokenReader) -> list[str]:
    """Take and return the parts of a name with dots."""
    parts = [words.name()]
    while words.sign(b"."):
        parts.append(words.name())
    return parts


def skip_parentheses(words: TokenReader) -> None:
    """Take a parenthesis with its content, if one comes next."""
    if words.sign(b"("):
        words.leave()


def nameless(words: TokenReader) -> str:
    """Take and return the identity of a cast, a transform or a user mapping, which have no name."""
    found: list[str] = []
    while (kind := words.peek()[0]) != "end":
        upper = words.peek()[1].upper().decode("latin-1")
        if upper in {*_ENDS, ";"} or (upper == "(" and found):
            break
        found.append(upper if kind == "word" else words.peek()[1].decode("latin-1"))
        words.take()
    return " ".join(found)


def actions(words: TokenReader) -> list[list[str]]:
    """Take and return the actions of an ALTER, each as its words and signs outside parentheses."""
    actions: list[list[str]] = [[]]
    while (token := words.peek())[0] != "end" and token != ("sign", b";"):
        if token == ("sign", b","):
            actions.append([])
        else:
            actions[-1].append(token[1].upper().decode("latin-1") if token[0] in {"word", "sign"} else "")
        if token == ("sign", b"("):
            skip_parentheses(words)
        else:
            words.take()
    return actions


def sequence_of_identity(text: bytes) -> tuple[str, str] | None:
    """Return the sequence that `ADD GENERATED … AS IDENTITY` names and creates; None for any other ALTER."""
    words = TokenReader(text)
    named = words.seek("GENERATED") and words.seek("IDENTITY") and words.sign(b"(")
    return words.names() if named and words.skip("SEQUENCE") and words.skip("NAME") else None


def foreign_key_of(text: bytes, *, standard: bool = True) -> tuple[str, str, str] | None:
    """Return the name of the foreign key that an ALTER TABLE adds, and schema and name of the referenced table."""
    words = TokenReader(text, standard=standard)
    if b" FOREIGN KEY " not in text or not words.seek("CONSTRAINT"):
        return None
    name = words.name()
    return (name, *words.names()) if words.skip("FOREIGN") and words.seek("REFERENCES") else None


def is_partitioned(text: bytes) -> bool:
    """Return whether a CREATE TABLE makes a partitioned table."""
    if b"partition" not in text.lower():
        return False
    words = TokenReader(text)
    while words.seek("PARTITION"):
        if words.skip("BY"):
            return True
    return False


def is_known(kind: str, action: list[str], *, own: bool) -> bool:
    """Return whether an action of an ALTER changes only its object and runs no function.

    :param own: Whether the dump has created the object. For other objects, dropping a part, renaming and moving count
        as known, too.
    """
    first, begin = action[:1], " ".join(action[:2])
    if drops_part(action):
        return True
    if kind in TYPES and not own:
        # A change of a type also changes every object that uses it.
        return first == ["OWNER"]
    if first == ["ALTER"]:
        return " ".join(_column_action(action)[:2]) in _ALTERS_COLUMN
    if first == ["INHERIT"] or begin in _ALTERS:
        return True
    return not own and (first in (["RENAME"], ["DROP"]) or begin == "SET SCHEMA") and "CASCADE" not in action


def drops_part(action: list[str]) -> bool:
    """Return whether an action drops a part of a table, as `pg_dump --clean` does before it drops the table."""
    if action[:1] == ["ALTER"]:
        action = _column_action(action)
    return action[:1] == ["DROP"] and not _DROPPED_PARTS.isdisjoint(action[1:2]) and "CASCADE" not in action


def _column_action(action: list[str]) -> list[str]:
    """Return what follows `ALTER [COLUMN] name`."""
    return action[3:] if action[1:2] == ["COLUMN"] else action[2:]


def casts(text: bytes) -> bool:
    """Return whether a statement casts a value with `::`."""
    return ("sign", b":") in scan_tokens(text)


def cast_runs_code(text: bytes) -> bool:
    """Return whether literals may run the function of a CREATE CAST: it is from one of PostgreSQL's own types."""
    words = TokenReader(text)
    words.seek("CAST")
    words.sign(b"(")
    schema, _ = words.names()
    words.leave()
    return schema in {"", "pg_catalog"} and not words.skip("WITHOUT")
