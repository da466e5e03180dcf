"""Summarize the content of a dump from its events, and refuse statements that a restore can't run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from .encodings import python_encoding, raw_name, recode_kind, recode_name
from .foreign_head import LexError
from .lexer import Comment, CopyData, CopyEnd, MetaCommand, Statement
from .manifest import Need, Outline, SequenceValue, TableRows, Touch, table_rows
from .server_needs import ServerNeeds
from .statements import StatementKind, classify_statement, parse_default_tablespace, parse_setval
from .tokens import TokenReader, decode_name, split_qualified
from .touches import Touches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .lexer import Event


_Item = TypeVar("_Item", Touch, Need, SequenceValue)
_UTF8 = "utf-8"
TRAILER = b"-- PostgreSQL database dump complete"
_SERVER = re.compile(rb"-- Dumped from database version (\S.*)")
_CLIENT = re.compile(rb"-- Dumped by pg_dump version (\S.*)")
_META = re.compile(rb"\\(\S*)")
# Nothing may follow the key: psql would run another command after it.
_HARMLESS = re.compile(rb"\\(?:un)?restrict[ \t]+[A-Za-z0-9]+\s*\Z")
# Encodings in which no character contains the byte of a backslash or a quote, with all their names in PostgreSQL
# (`pg_encname_tbl` in src/common/encnames.c). Text in other encodings can't be split safely.
SAFE_ENCODINGS = frozenset(
    {"utf8", "unicode", "sqlascii", "muleinternal", "koi8", "koi8r", "koi8u", "euccn", "eucjp", "eucjis2004", "euckr"}
    | {"euctw", "abc", "alt", "tcvn", "tcvn5712", "vscii", "win"}
    | {f"latin{number}" for number in range(1, 11)}
    | {f"iso8859{number}" for number in range(1, 17) if number not in {11, 12}}
    | {f"{prefix}{page}" for prefix in ("win", "windows") for page in (866, 874, *range(1250, 1259))}
)
_RELATIONS = frozenset({"CREATE TABLE", "CREATE FOREIGN TABLE", "CREATE VIEW", "CREATE SEQUENCE", "CREATE INDEX"})
_WITH_ROW_TYPE = frozenset({"CREATE TABLE", "CREATE FOREIGN TABLE", "CREATE VIEW", "REPLACE VIEW"})
_OPTIONAL_ROLES = frozenset({"OWNER", "GRANT", "GRANT ON SCHEMA", "DEFAULT PRIVILEGES", "SET SESSION AUTHORIZATION"})
_NEEDED_ROLES = frozenset({"CREATE POLICY", "CREATE USER MAPPING", "CREATE SCHEMA"})


_GLOBALS = {
    "CREATE EVENT": "event trigger",
    "CREATE PUBLICATION": "publication",
    "CREATE FOREIGN": "foreign-data wrapper",
    "CREATE SERVER": "server",
    "CREATE LANGUAGE": "language",
    "CREATE ACCESS": "access method",
    "CREATE CAST": "cast",
    "CREATE TRANSFORM": "transform",
}
# Statements that migration tools add after pg_dump's trailer (dbmate, Rails). Others may be a second dump, which needs
# its own trailer.
_AFTER_TRAILER = frozenset({"SET", "RESET", "INSERT"})
_TOASTABLE = re.compile(rb"text|char|json|bytea|xml|numeric|tsvector|\[\]", re.IGNORECASE)


class RefusedError(LexError):
    """The dump contains a statement that can't run inside our transaction."""


@dataclass
class DumpSummary:
    """The content of a dump, as far as it has been read.

    :ivar rows: The number of rows of COPY data so far, by table: (schema, name).
    :ivar inserts: The number of INSERT statements so far; their rows are not in `rows`.
    :ivar complete: Whether the trailer was read as a comment at top level, and only allowed statements after it.
    :ivar behind: The line and the verb of the first other statement after the last trailer; None without one.
    :ivar current: The table of the current COPY.
    :ivar block: The number of rows of the current COPY so far.
    :ivar encoding: Python's name of the encoding of the text.
    :ivar server: The version of the dumped server, from the header.
    :ivar client: The version of pg_dump, from the header.
    :ivar created: Whether a table was created.
    """

    rows: dict[tuple[str, str], int] = field(default_factory=dict)
    sequences: dict[tuple[str, str], SequenceValue] = field(default_factory=dict)
    complete: bool = False
    behind: tuple[int, str] | None = None
    encoding: str = "utf-8"
    server: str = ""
    client: str = ""
    current: tuple[str, str] | None = None
    block: int = 0
    total_rows: int = 0
    created: bool = False
    _schemas: dict[str, None] = field(default_factory=dict)
    _extensions: dict[str, None] = field(default_factory=dict)
    _roles: dict[str, None] = field(default_factory=dict)
    _needed: dict[str, None] = field(default_factory=dict)
    _tablespaces: dict[str, None] = field(default_factory=dict)
    _relations: int = 0
    _locks: int = 0
    _large_objects: int = 0
    _inside_large_objects: bool = False
    inserts: int = 0
    _unqualified: bool = False
    _globals: dict[str, None] = field(default_factory=dict)
    _any: bool = False
    _touches: Touches = field(default_factory=Touches)
    _needs: ServerNeeds = field(default_factory=ServerNeeds)

    def watch(self, events: Iterable[Event]) -> Iterator[tuple[Event, StatementKind | None]]:
        """Yield the events, each statement with its effect, and update the summary.

        :raises RefusedError: The dump contains transaction control, a backslash command or an encoding that we refuse.
        """
        for event in events:
            kind = None
            if isinstance(event, CopyData):
                count = event.text.count(b"\n") if event.rows is None else event.rows
                self.total_rows += count
                self.block += count
                self._touches.line += count
                if self.current is not None:
                    self.rows[self.current] += count
            elif isinstance(event, Statement):
                kind = classify_statement(event.text, standard=event.standard)
                self._touches.statement(event, kind)
                self._needs.statement(event, kind)
                kind = self._recoded(event, kind)
                self._statement(event, kind)
            else:
                self._touches.line += event.text.count(b"\n")
                if isinstance(event, CopyEnd):
                    self.current = None
                elif isinstance(event, Comment):
                    self._comment(event.text)
                elif isinstance(event, MetaCommand):
                    refuse_backslash_command(event.text)
            yield event, kind

    def _recoded(self, event: Statement, kind: StatementKind) -> StatementKind:
        """Return the effect with decoded names and a COPY's table; update the encoding if the statement sets it."""
        if event.copies:
            schema, name = split_qualified(event.copies)
            kind = replace(kind, schema=schema, name=name)
        recoded = kind if self.encoding == _UTF8 else recode_kind(kind, self.encoding)
        for setting in kind.settings:
            if setting.name == "client_encoding":
                self.encoding = python_encoding(setting.value or "")
        return recoded

    def _name(self, name: str) -> str:
        return recode_name(name, self.encoding)

    def _named(self, item: _Item) -> _Item:
        return replace(item, schema=self._name(item.schema), name=self._name(item.name))

    @property
    def names(self) -> dict[tuple[str, str], bool]:
        """Return the created relations, functions and types: (schema, name), each with whether it is also dropped."""
        return {
            (self._name(schema), self._name(name)): drops for (schema, name), drops in self._touches.created.items()
        }

    @property
    def created_names(self) -> set[tuple[str, str, str]]:
        """All that it creates in schemas, indexes included: the group of its kind, its schema and its name."""
        return {(group, self._name(schema), self._name(name)) for group, schema, name in self._touches.created_names}

    def outline(self) -> Outline:
        """Return the effects of restoring this dump."""
        creates_tables = bool(self.created or self._extensions or not (self.rows or self.inserts))
        raw = [raw_name(name, self.encoding) for name in self._schemas]
        touches = self._touches.found(raw, creates_tables=creates_tables)
        return Outline(
            schemas=tuple(self._schemas),
            relations=self._relations,
            locks=self._locks,
            large_objects=self._large_objects,
            extensions=tuple(self._extensions),
            roles=tuple(self._roles),
            needed_roles=tuple(self._needed),
            tablespaces=tuple(self._tablespaces),
            globals=tuple(self._globals),
            unqualified=self._unqualified,
            creates_tables=creates_tables,
            touches=tuple(map(self._named, touches)),
            needs=tuple(map(self._named, self._needs.found())),
        )

    def tables(self) -> tuple[TableRows, ...]:
        """Return the row counts of the tables, sorted."""
        return table_rows(self.rows)

    def _comment(self, text: bytes) -> None:
        line = text.rstrip()
        if text.endswith(b"\r") and (line == TRAILER or not self._any):
            raise RefusedError(
                "its line ends are CRLF: the program that rewrote them also changed line ends inside values; make it "
                "again with pg_dump --file=, or convert it with dos2unix"
            )
        if line == TRAILER:
            self.complete, self.behind = True, None
        elif not self._any and (found := _SERVER.match(line)):
            self.server = found[1].decode(errors="replace")
        elif not self._any and (found := _CLIENT.match(line)):
            self.client = found[1].decode(errors="replace")

    def _statement(self, event: Statement, kind: StatementKind) -> None:
        self._any = True
        verb = kind.verb
        if self.complete and not (verb in _AFTER_TRAILER or (verb == "SELECT" and kind.settings)):
            self.complete, self.behind = False, (self._touches.line, verb)
        self._transaction(kind)
        if event.copies:
            self.current = (kind.schema, kind.name)
            self.block = 0
            self.rows.setdefault(self.current, 0)
            self._unqualified |= not self.current[0]
        elif verb == "INSERT":
            self._unqualified |= not kind.schema
            self.inserts += 1
        elif verb == "SETVAL":
            value = parse_setval(event.text, standard=event.standard)
            if value is not None:
                value = self._named(value)
                self.sequences[value.schema, value.name] = value
        elif verb in {"SET", "SELECT"}:
            _refuse_encoding(kind)
            self._roles.update(dict.fromkeys(kind.roles))
            if kind.name == "default_tablespace" and (space := parse_default_tablespace(kind)):
                self._tablespaces.setdefault(self._name(space))
        elif verb == "LARGE OBJECT":
            self._large_objects += kind.name == "lo_create"
        elif verb in {"CREATE DATABASE", "DROP DATABASE", "ALTER DATABASE"}:
            raise RefusedError(f"it contains {verb}, from --create; dump it without -C, or with `inv db.dump`")
        else:
            self._object(kind, event.text)

    def _object(self, kind: StatementKind, text: bytes) -> None:
        verb = kind.verb
        if verb in _GLOBALS:
            self._globals.setdefault(f"{_GLOBALS[verb]} {self._name(_unnamed(text)) or kind.name}")
        if verb.startswith("CREATE ") and kind.schema:
            self._schemas.setdefault(kind.schema)
        elif verb in _RELATIONS and verb != "CREATE INDEX":
            self._unqualified = True
        if verb in _RELATIONS or (verb == "ALTER" and kind.name in {"INDEX", "IDENTITY"}):
            self._relations += 1
        # With the table, PostgreSQL creates a TOAST table and its index.
        toast = 2 if verb == "CREATE TABLE" and _TOASTABLE.search(text) else 0
        self._relations += toast
        self._locks += toast + _locks(kind, text)
        if verb == "CREATE TABLE":
            self.created = True
        elif verb == "CREATE EXTENSION":
            self._extensions.setdefault(kind.name)
        if verb in _OPTIONAL_ROLES:
            self._roles.update(dict.fromkeys(kind.roles))
        elif verb in _NEEDED_ROLES:
            self._needed.update(dict.fromkeys(kind.roles))

    def _transaction(self, kind: StatementKind) -> None:
        """Refuse transaction control, except the BEGIN and COMMIT that pg_dump writes around large objects."""
        if self._inside_large_objects:
            if kind.verb == "TRANSACTION" and kind.name == "COMMIT":
                self._inside_large_objects = False
            elif kind.verb != "LARGE OBJECT":
                raise RefusedError("it contains BEGIN at top level, not only around statements of large objects")
        elif kind.verb == "TRANSACTION":
            if kind.name != "BEGIN":
                raise RefusedError(
                    f"it contains {kind.name} at top level, which would end or change the restore's "
                    f"transaction; dump it without -1, or with `inv db.dump`"
                )
            self._inside_large_objects = True


def _locks(kind: StatementKind, text: bytes) -> int:
    """Return the number of locks that a statement takes and keeps, without TOAST (measured: docs/compatibility.md)."""
    if text.startswith(b"CREATE MATERIALIZED"):
        # REFRESH fills a new table, which replaces the first one.
        return 6
    if kind.verb == "CREATE EXTENSION":
        # Its update scripts may alter all objects of its earlier versions.
        return 100
    if kind.verb in _WITH_ROW_TYPE or (kind.verb, kind.name) == ("ALTER", "INDEX"):
        # A relation and its row type, or a constraint and its index.
        return 2
    return int(kind.verb.startswith("CREATE ") or kind.name in {"CONSTRAINT", "IDENTITY"})


def refuse_backslash_command(text: bytes) -> None:
    r"""Raise for any backslash command except `\restrict` and `\unrestrict`.

    :raises RefusedError: It is another command. The message does not contain its arguments.
    """
    if _HARMLESS.match(text):
        return
    found = _META.match(text)
    name = found[1] if found else b""
    if name in {b"connect", b"c"}:
        raise RefusedError(r"it contains \connect, from --create or pg_dumpall; dump one database without -C")
    raise RefusedError(
        f"it contains the psql command \\{name[:20].decode(errors='replace')}, which pg_dump does not write"
    )


def _refuse_encoding(kind: StatementKind) -> None:
    for setting in kind.settings:
        if setting.name != "client_encoding" or (setting.known and setting.value is None):
            continue
        if not setting.known or setting.value is None:
            raise RefusedError("it sets client_encoding in a way that pg_dump does not")
        # Same as the server's clean_encoding_name.
        name = "".join(char for char in setting.value.lower() if char.isascii() and char.isalnum())
        if name not in SAFE_ENCODINGS:
            raise RefusedError(
                "it sets client_encoding to an encoding that can't be split safely; dump it with --encoding=UTF8"
            )


def _unnamed(text: bytes) -> str:
    """Return the identity of a cast or a transform, which have no name, in the server's form; empty for others."""
    words = TokenReader(text)
    words.take()
    if words.skip("OR"):
        words.take()
    if words.skip("CAST") and words.sign(b"("):
        return f"({_written(words, b')')})"
    if words.skip("TRANSFORM") and words.skip("FOR"):
        return f"for {_written(words, b'LANGUAGE')} language {words.name()}"
    return ""


def _written(words: TokenReader, end: bytes) -> str:
    """Return the tokens up to a sign or a word in the server's form of types; the end is taken, too."""
    written, apart = [], False
    while words.peek()[0] != "end" and words.peek()[1].upper() != end:
        token = decode_name(words.take()[1]).replace('"', "")
        closes = token in {".", "(", ")", "[", "]", ","}
        written.append(" " * (apart and not closes) + token)
        apart = token not in {".", "(", "["}
    words.take()
    return "".join(written)
