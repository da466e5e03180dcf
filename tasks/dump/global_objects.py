"""Read from pg_dump the statements that create a database's schemas and the objects that are in no schema."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..dumpformat.lexer import Statement, lex
from ..dumpformat.statements import classify_statement
from ..dumpformat.tokens import TokenReader, is_system_schema
from ..errors import OperationFailedError
from .pg_dump import last_error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from .pg_dump import PgDump


# Only these statements are taken from pg_dump's text. None of them calls a function of users.
_CREATED = ("SCHEMA", "EXTENSION", "PUBLICATION", "CAST", "TRANSFORM", "SERVER", "LANGUAGE")
_TWO_WORDS = {"EVENT": "TRIGGER", "ACCESS": "METHOD", "USER": "MAPPING"}
_GRANTED = ("SCHEMA", "LANGUAGE")
# Objects of PostgreSQL's own schemas may have other grants than those of initdb, and objects of an extension others
# than its script gives them.
_GRANTED_IN_SCHEMAS = ("TABLE", "SEQUENCE", "FUNCTION", "PROCEDURE", "TYPE", "ROUTINE")
_MEMBERS = """
SELECT n.nspname::pg_catalog.text, coalesce(c.relname, p.proname, t.typname)::pg_catalog.text
  FROM pg_catalog.pg_depend d
  LEFT JOIN pg_catalog.pg_class c ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = d.objid
  LEFT JOIN pg_catalog.pg_proc p ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = d.objid
  LEFT JOIN pg_catalog.pg_type t ON d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid = d.objid
  JOIN pg_catalog.pg_namespace n ON n.oid IN (c.relnamespace, p.pronamespace, t.typnamespace)
 WHERE d.deptype = 'e'
"""
# pg_dump writes strings as the database's setting has it, and sets it before.
_STRINGS = "standard_conforming_strings"
# A pattern of the tables in all schemas whose names do not begin with `pg_`: a regular expression without lookahead, in
# which `*` means `.*`. pg_dump then locks no table, and writes the grants on tables of pg_catalog.
_TABLES_OF_USERS = "(p|pg|[^p]*|p[^g]*|pg[^_]*).*"


@dataclass(frozen=True)
class GlobalStatement:
    """A statement of pg_dump about a schema, or about an object without a schema.

    :ivar text: The statement, in UTF-8 or, for a database without an encoding, in its own bytes.
    :ivar extension: The extension that it creates; empty for another statement.
    """

    text: bytes
    extension: str = ""


@contextlib.contextmanager
def reading_global_statements(pg_dump: PgDump) -> Iterator[Callable[[], tuple[GlobalStatement, ...]]]:
    """Start pg_dump; yield the function that returns the statements about schemas and objects without a schema.

    They have owners, comments and grants. Objects in schemas are left out, apart from grants on objects of PostgreSQL
    and of extensions, and so are the tables of publications. Nothing of users is called, and no table is locked.

    :raises OperationFailedError: pg_dump failed, because the role may not read a definition or pg_dump is too old;
        raised by the function.
    """
    members = frozenset((str(schema), str(name)) for schema, name in pg_dump.connection.execute(_MEMBERS).fetchall())
    with pg_dump.start_definitions((f"--exclude-table={_TABLES_OF_USERS}",)) as child:

        def found() -> tuple[GlobalStatement, ...]:
            statements = tuple(_selected(pg_dump.read(child), members))
            if child.wait():
                raise OperationFailedError(f"pg_dump failed: {pg_dump.target.scrub(last_error(child.said))}")
            return statements

        yield found


def _selected(chunks: Iterator[bytes], members: Collection[tuple[str, str]]) -> Iterator[GlobalStatement]:
    # pg_dump sets another role before a grant that this role made, also before a grant that is left out.
    role: bytes | None = None
    for event in lex(chunks):
        if not isinstance(event, Statement):
            continue
        kind = classify_statement(event.text)
        if kind.verb == "SET SESSION AUTHORIZATION":
            if role is None and not kind.roles:
                yield GlobalStatement(text=event.text)
            role = event.text if kind.roles else None
        elif kind.verb == "SET" and kind.name == _STRINGS:
            yield GlobalStatement(text=event.text)
        elif kind.verb == "CREATE EXTENSION" or _is_global(TokenReader(event.text), members):
            if role is not None:
                yield GlobalStatement(text=role)
                role = None
            extension = kind.name if kind.verb == "CREATE EXTENSION" else ""
            yield GlobalStatement(text=event.text, extension=extension)


def _is_global(words: TokenReader, members: Collection[tuple[str, str]]) -> bool:
    verb = words.word()
    if verb in {"GRANT", "REVOKE"}:
        return words.seek("ON") and _is_granted_global(words, members)
    if verb == "COMMENT":
        return words.skip("ON") and _is_kind(words)
    if verb == "SECURITY":
        return words.seek("ON") and _is_kind(words)
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


def _is_granted_global(words: TokenReader, members: Collection[tuple[str, str]]) -> bool:
    kind = words.word()
    if kind in _GRANTED:
        return True
    if kind == "FOREIGN":
        return words.skip("DATA", "SERVER")
    if kind not in _GRANTED_IN_SCHEMAS:
        return False
    schema, name = words.names()
    return is_system_schema(schema) or (schema, name) in members
