"""Read from pg_dump the statements that create a database's schemas and the objects that are in no schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..dumpformat.lexer import Statement, lex
from ..dumpformat.statements import classify_statement
from ..dumpformat.tokens import TokenReader, is_system_schema
from ..errors import OperationFailedError
from .pg_dump import last_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .pg_dump import PgDump


# Only these statements are taken from pg_dump's text. None of them calls a function of users.
_CREATED = ("SCHEMA", "EXTENSION", "PUBLICATION", "CAST", "TRANSFORM", "SERVER", "LANGUAGE")
_TWO_WORDS = {"EVENT": "TRIGGER", "ACCESS": "METHOD", "USER": "MAPPING"}
_GRANTED = ("SCHEMA", "LANGUAGE")
# Objects of PostgreSQL's own schemas may have other grants than those of initdb.
_GRANTED_IN_SCHEMAS = ("TABLE", "SEQUENCE", "FUNCTION", "PROCEDURE", "TYPE", "ROUTINE")
# A pattern that matches every relation. pg_dump locks no table then.
_ALL_RELATIONS = "*.*"


@dataclass(frozen=True)
class GlobalStatement:
    """A statement of pg_dump about a schema, or about an object without a schema.

    :ivar text: The statement, in UTF-8 or, for a database without an encoding, in its own bytes.
    :ivar extension: The extension that it creates; empty for another statement.
    """

    text: bytes
    extension: str = ""


def read_global_statements(pg_dump: PgDump) -> tuple[GlobalStatement, ...]:
    """Return the statements that create schemas and objects without a schema, with owners, comments and grants.

    Objects in schemas are left out, and so are the tables of publications. Nothing of users is called, and no table is
    locked.

    :raises OperationFailedError: pg_dump failed, because the role may not read a definition or pg_dump is too old.
    """
    with pg_dump.start_definitions((f"--exclude-table={_ALL_RELATIONS}",)) as child:
        found = tuple(_selected(pg_dump.read(child)))
        if child.wait():
            raise OperationFailedError(f"pg_dump failed: {pg_dump.target.scrub(last_error(child.said))}")
    return found


def _selected(chunks: Iterator[bytes]) -> Iterator[GlobalStatement]:
    for event in lex(chunks):
        if isinstance(event, Statement):
            kind = classify_statement(event.text)
            if kind.verb == "CREATE EXTENSION":
                yield GlobalStatement(text=event.text, extension=kind.name)
            elif _is_global(TokenReader(event.text)):
                yield GlobalStatement(text=event.text)


def _is_global(words: TokenReader) -> bool:
    verb = words.word()
    if verb in {"GRANT", "REVOKE"}:
        return words.seek("ON") and _is_granted_global(words)
    if verb == "COMMENT":
        return words.skip("ON") and _is_kind(words)
    if verb == "SECURITY":
        return words.seek("ON") and _is_kind(words)
    if verb in {"SET", "RESET"}:
        return words.skip("SESSION") and words.skip("AUTHORIZATION")
    if verb == "ALTER" and words.skip("DEFAULT"):
        return words.skip("PRIVILEGES")
    if verb == "CREATE" and words.skip("OR"):
        words.skip("REPLACE")
    return verb in {"CREATE", "ALTER"} and _is_kind(words)


def _is_kind(words: TokenReader) -> bool:
    while words.skip("TRUSTED", "PROCEDURAL"):
        pass
    if words.skip("FOREIGN"):
        return words.skip("DATA")
    kind = words.word()
    return kind in _CREATED or (kind in _TWO_WORDS and words.skip(_TWO_WORDS[kind]))


def _is_granted_global(words: TokenReader) -> bool:
    while words.skip("TRUSTED", "PROCEDURAL"):
        pass
    kind = words.word()
    if kind in _GRANTED:
        return True
    if kind == "FOREIGN":
        return words.skip("DATA", "SERVER")
    if kind not in _GRANTED_IN_SCHEMAS:
        return False
    schema, _ = words.names()
    return is_system_schema(schema)
