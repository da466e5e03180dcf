"""Recognize the statements of pg_dump that several sessions may run at once: indexes, keys and foreign keys.

Only the forms that pg_dump writes are recognized. Each is a pattern for a complete statement or for its head, in
which every name has its schema; the lexer guarantees that a text is one statement. Any other form is run as it is
written, in one session, after all statements before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from ..dumpformat.tokens import IDENTIFIER, TokenReader, split_qualified

if TYPE_CHECKING:
    from ..dumpformat.lexer import Statement
    from ..dumpformat.statements import StatementKind

Key = tuple[str, str]

_NAME = rb'(?:"[^"]*(?:""[^"]*)*"|%s)' % IDENTIFIER
_NAMES = rb"\(%s(?:, %s)*\)" % (_NAME, _NAME)
_QUALIFIED = rb"%s\.%s" % (_NAME, _NAME)
_ADDS = rb"ALTER TABLE ONLY (?P<table>%s)\s+ADD CONSTRAINT (?P<name>%s) " % (_QUALIFIED, _NAME)
_DEFERRABLE = rb"(?: DEFERRABLE(?: INITIALLY DEFERRED)?)?"
_KEY = re.compile(
    _ADDS + rb"(?P<kind>PRIMARY KEY|UNIQUE)(?P<nulls> NULLS NOT DISTINCT)? (?P<columns>%s)(?P<include> INCLUDE %s)?"
    rb"(?P<options> WITH \([^()]*\))?(?P<when>%s);\Z" % (_NAMES, _NAMES, _DEFERRABLE)
)
_INDEXED = re.compile(_ADDS + rb"(?:PRIMARY KEY|UNIQUE|EXCLUDE) ")
_INDEX = re.compile(rb"CREATE (?:UNIQUE )?INDEX %s ON (?P<table>%s) USING " % (_NAME, _QUALIFIED))
_ACTION = rb"(?:CASCADE|RESTRICT|SET (?:NULL|DEFAULT)(?: %s)?)" % _NAMES
_FOREIGN_KEY = re.compile(
    _ADDS
    + rb"FOREIGN KEY %s REFERENCES (?P<other>%s)%s(?: MATCH FULL)?(?: ON UPDATE %s)?(?: ON DELETE %s)?%s;\Z"
    % (_NAMES, _QUALIFIED, _NAMES, _ACTION, _ACTION, _DEFERRABLE)
)
_ANY_FOREIGN_KEY = re.compile(
    rb"ALTER TABLE (?:ONLY )?(?P<table>%s)\s+ADD CONSTRAINT %s FOREIGN KEY \(" % (_QUALIFIED, _NAME)
)
_AFTER_INDEX = re.compile(
    rb"CREATE (?:UNIQUE )?INDEX %(n)s ON ONLY %(q)s USING "
    rb"|ALTER TABLE (?:ONLY )?%(q)s (?:CLUSTER ON|REPLICA IDENTITY USING INDEX) %(n)s;\Z"
    rb"|ALTER INDEX %(q)s (?:ATTACH PARTITION %(q)s|ALTER COLUMN \d+ SET STATISTICS \d+);\Z"
    rb"|COMMENT ON (?:INDEX %(q)s|CONSTRAINT %(n)s ON %(q)s) IS " % {b"q": _QUALIFIED, b"n": _NAME}
)
# Statements that change neither the transaction nor the session, except settings that are known.
_TRANSPARENT = frozenset(
    {
        "ALTER",
        "OWNER",
        "GRANT",
        "GRANT ON SCHEMA",
        "DEFAULT PRIVILEGES",
        "REFRESH",
        "INSERT",
        "COPY",
        "SECURITY",
        "DROP",
    }
    | {"SETVAL", "LARGE OBJECT", "RESET", "REPLACE VIEW", "SET SESSION AUTHORIZATION", "TRANSACTION"}
)
_TRANSPARENT_KINDS = ("CREATE ", "COMMENT ON ", "DROP ")
# Temporary tables exist in one session; event triggers run for each statement, also for those that we add.
_OPAQUE = frozenset({"CREATE TEMP", "CREATE TEMPORARY", "CREATE LOCAL", "CREATE GLOBAL", "CREATE EVENT"})
_OF_TRANSACTION = frozenset({"seed", "transaction_isolation", "transaction_read_only", "transaction_deferrable"})
_SETS = re.compile(
    rb"SET (?!LOCAL\b)|SELECT pg_catalog\.set_config\('search_path', '[^'\\]*', false\);\Z", re.IGNORECASE
)


class StepKind(Enum):
    """The ways in which a statement of a stretch is run."""

    # In any session, at the same time as other indexes of its table.
    INDEX = auto()
    # As a unique index in any session; then the key is added with this index.
    KEY = auto()
    # As it is written, in any session, while no other statement uses its table.
    CONSTRAINT = auto()
    # As it is written, in the first session, after the indexes before it.
    AFTER_INDEXES = auto()
    # Added without a check of the rows, which any session checks afterwards.
    FOREIGN_KEY = auto()
    # As it is written, in the first session.
    WRITTEN_FOREIGN_KEY = auto()


# The forms that are run as they are written, in this order.
_WRITTEN = (
    (_INDEX, StepKind.INDEX),
    (_ANY_FOREIGN_KEY, StepKind.WRITTEN_FOREIGN_KEY),
    (_INDEXED, StepKind.CONSTRAINT),
)


@dataclass(frozen=True)
class Step:
    """A statement of a stretch.

    :ivar table: The table of the index or constraint; of a foreign key, the referencing one.
    :ivar first: The statement to run first, in place of the original one.
    :ivar then: The statement that completes it; empty if there is none.
    :ivar other: The table that a foreign key references.
    :ivar primary: It is a primary key.
    """

    kind: StepKind
    table: Key
    first: bytes
    then: bytes = b""
    other: Key = ("", "")
    primary: bool = False


def read_step(text: bytes) -> Step | None:
    """Return the way to run a statement in a stretch; None if it does not have a form that is known to be safe."""
    if _AFTER_INDEX.match(text):
        return Step(kind=StepKind.AFTER_INDEXES, table=("", ""), first=text)
    if found := _KEY.match(text):
        return _key(found)
    if found := _FOREIGN_KEY.match(text):
        return Step(
            kind=StepKind.FOREIGN_KEY,
            table=split_qualified(found["table"]),
            first=text[:-1] + b" NOT VALID;",
            then=b"ALTER TABLE ONLY %s VALIDATE CONSTRAINT %s;" % (found["table"], found["name"]),
            other=split_qualified(found["other"]),
        )
    for pattern, kind in _WRITTEN:
        if found := pattern.match(text):
            return Step(kind=kind, table=split_qualified(found["table"]), first=text)
    return None


def _key(found: re.Match[bytes]) -> Step:
    name, table = found["name"], found["table"]
    parts = (found["columns"], found["include"], found["nulls"], found["options"])
    index = b"CREATE UNIQUE INDEX %s ON %s USING btree %s;" % (name, table, b"".join(each or b"" for each in parts))
    add = b"ALTER TABLE ONLY %s ADD CONSTRAINT %s %s USING INDEX %s%s;"
    return Step(
        kind=StepKind.KEY,
        table=split_qualified(table),
        first=index,
        then=add % (table, name, found["kind"], name, found["when"]),
        primary=found["kind"] == b"PRIMARY KEY",
    )


def is_transparent(text: bytes, kind: StatementKind) -> bool:
    """Return whether all effects of a statement on its session and transaction are known.

    After any other statement (DO, SELECT of a function, SET LOCAL, …) only one session may be used.
    """
    verb = kind.verb
    if verb == "SET":
        known = all(each.name and each.name not in _OF_TRANSACTION for each in kind.settings)
        return bool(kind.settings) and known and _SETS.match(text) is not None
    if verb in _OPAQUE or kind.schema.startswith("pg_temp"):
        return False
    return verb in _TRANSPARENT or verb.startswith(_TRANSPARENT_KINDS)


def copied_columns(event: Statement) -> frozenset[str] | None:
    """Return the columns that a COPY lists; None if it lists none and so means all."""
    words = TokenReader(event.text, standard=event.standard)
    words.take()
    words.names()
    if not words.sign(b"("):
        return None
    found = {words.name()}
    while words.sign(b","):
        found.add(words.name())
    return frozenset(found)
