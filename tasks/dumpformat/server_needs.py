"""The schemas, extensions, collations and access methods that a dump needs, and its need of a newer server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .manifest import Need, NeedKind
from .tokens import TokenReader, is_system_schema, split_qualified

if TYPE_CHECKING:
    from .lexer import Statement
    from .statements import StatementKind


# The major that introduced it (release notes, "Migration" and "Changes"), its form in a dump, its name for messages.
_NEW = (
    (15, rb"\bNULLS NOT DISTINCT\b", "NULLS NOT DISTINCT"),
    (15, rb"\bsecurity_invoker\b", "security_invoker of views"),
    (
        15,
        rb"\bPUBLICATION\b.*\b(?:TABLES IN SCHEMA|WHERE)\b|\bPUBLICATION\b.*\bADD TABLE ONLY\b[^;]*\(",
        "this publication",
    ),
    (15, rb"\bSET (?:NULL|DEFAULT) \(", "SET NULL of some columns of a foreign key"),
    (16, rb"\bCREATE COLLATION\b.*\brules\b", "rules of collations"),
    (17, rb"\bMAINTAIN\b", "the privilege MAINTAIN (--no-acl skips all grants)"),
    (17, rb"\bJSON_TABLE\b|\bJSON_(?:EXISTS|QUERY|VALUE)\b|\bMERGE_ACTION\b", "these SQL/JSON functions"),
    (17, rb"\bprovider = builtin\b", "collations of the provider builtin"),
    (18, rb"\bNOT ENFORCED\b", "NOT ENFORCED"),
    (18, rb"\bWITHOUT OVERLAPS\b", "WITHOUT OVERLAPS"),
    (18, rb"\bPERIOD\b", "PERIOD in foreign keys"),
    (18, rb"\bNOT NULL\b[^,]*\bNOT VALID\b|\bADD CONSTRAINT\b[^,]*\bNOT NULL\b", "NOT NULL as a named constraint"),
    (18, rb"\bNOT NULL NO INHERIT\b", "NOT NULL NO INHERIT"),
    (18, rb"\bGENERATED ALWAYS AS \((?:(?! STORED).)*?\)(?=,?\s*(?:\n|\)|\Z))", "virtual generated columns"),
)
# Syntax error, feature not supported, undefined object, parameter, function, column, table, invalid value.
_UNKNOWN = frozenset({"42601", "0A000", "42704", "22023", "42883", "42703", "42P01", "42P17", "42P16", "42710"})
_ON_TABLE = frozenset({"CREATE INDEX", "CREATE TRIGGER", "CREATE CONSTRAINT", "CREATE POLICY"})
# PostgreSQL's own access methods.
_METHODS = frozenset({"heap", "btree", "hash", "gist", "gin", "brin", "spgist"})
_NAMES_OTHERS = re.compile(rb"collate|references", re.IGNORECASE)


def explain_version(statement: bytes, sqlstate: str, dumped: str, version: str) -> str:
    """Return a sentence if a statement was refused because it comes from a newer server; else an empty text.

    :param dumped: The version of the dumped server, as in the dump.
    :param version: The version of the target server.
    """
    major, here = dumped.split(".", maxsplit=1)[0], int(version.split(".", maxsplit=1)[0])
    if sqlstate not in _UNKNOWN or not major.isdigit() or int(major) <= here:
        return ""
    found = [
        f"{name}, introduced in PostgreSQL {since}"
        for since, pattern, name in _NEW
        if here < since <= int(major) and re.search(pattern, statement, re.DOTALL)
    ]
    what = f"does not support {found[0]}" if found else "may not support this statement"
    return f" The dump comes from PostgreSQL {dumped}; this server is {version} and {what}."


class ServerNeeds:
    """A collector of the objects that the statements of a dump use and do not create."""

    def __init__(self) -> None:
        self._used: dict[Need, None] = {}
        self._created: set[Need] = set()

    def statement(self, event: Statement, kind: StatementKind) -> None:
        """Add the objects that a statement needs; an object that is only dropped is not needed."""
        verb = kind.verb
        if event.copies:
            self._schema(split_qualified(event.copies)[0])
        elif verb == "INSERT":
            self._schema(kind.schema)
        elif verb == "SET" and kind.name == "default_table_access_method":
            self._method(kind.settings[0].value or "")
        elif verb.startswith("CREATE ") or (verb.startswith(("ALTER", "OWNER")) and not kind.conditional):
            self._definition(event, kind)

    def found(self) -> tuple[Need, ...]:
        """Return the objects that are used and not created."""
        return tuple(each for each in self._used if each not in self._created)

    def _definition(self, event: Statement, kind: StatementKind) -> None:
        verb, words = kind.verb, TokenReader(event.text, standard=event.standard)
        if verb == "CREATE SCHEMA":
            self._create(NeedKind.SCHEMA, "", kind.name)
        elif verb == "CREATE ACCESS":
            self._create(NeedKind.ACCESS_METHOD, "", kind.name)
        elif verb == "CREATE COLLATION":
            self._create(NeedKind.COLLATION, kind.schema, kind.name)
            self._create(NeedKind.COLLATION, "", kind.name)
        if verb == "CREATE EXTENSION":
            self._use(NeedKind.EXTENSION, words.name() if words.seek("SCHEMA") else "", kind.name)
        elif verb in _ON_TABLE:
            if words.seek("ON"):
                self._schema(words.relation()[0])
                if words.skip("USING"):
                    self._method(words.name())
        elif verb != "ALTER":
            self._schema(kind.schema)
        elif words.skip("ALTER") and words.skip("TABLE") and not words.skip("IF") and not kind.removes:
            self._schema(words.relation()[0])
        if _NAMES_OTHERS.search(event.text):
            self._names_others(TokenReader(event.text, standard=event.standard))

    def _names_others(self, words: TokenReader) -> None:
        while words.peek()[0] != "end":
            if words.skip("REFERENCES"):
                self._schema(words.names()[0])
            elif words.skip("COLLATE"):
                schema, name = words.names()
                if is_system_schema(schema) or not schema:
                    self._use(NeedKind.COLLATION, schema, name)
            else:
                words.take()

    def _method(self, name: str) -> None:
        if name not in _METHODS:
            self._use(NeedKind.ACCESS_METHOD, "", name)

    def _schema(self, name: str) -> None:
        if name and not is_system_schema(name):
            self._use(NeedKind.SCHEMA, "", name)

    def _create(self, kind: NeedKind, schema: str, name: str) -> None:
        self._created.add(Need(kind=kind, schema=schema, name=name))

    def _use(self, kind: NeedKind, schema: str, name: str) -> None:
        if name:
            self._used.setdefault(Need(kind=kind, schema=schema, name=name))
