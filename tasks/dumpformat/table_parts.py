"""The statements of a dump that define or fill some of its tables, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .encodings import raw_name, recode_name
from .lexer import CopyData, CopyEnd, Statement
from .statements import StatementKind, classify_statement, parse_setval
from .summary import DumpSummary
from .tokens import TokenReader
from .touch_forms import COPY, actions, holds_literals, is_known, sequence_of_identity, take_kind, take_names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from .lexer import Event
    from .manifest import Outline

    Key = tuple[str, str]


_SESSION = frozenset({"SET", "RESET", "SET SESSION AUTHORIZATION"})
_RELATION, _STATISTICS = "RELATION", "STATISTICS"
_RELATIONS = frozenset({"TABLE", "FOREIGN TABLE", "SEQUENCE", "INDEX"})
_ON_TABLES = frozenset({"TRIGGER", "RULE", "POLICY", "CONSTRAINT"})
_MODIFIERS = ("UNLOGGED", "UNIQUE", "CONSTRAINT")
_WITH_INDEX = ("PRIMARY", "UNIQUE", "EXCLUDE")


class ObjectName(NamedTuple):
    """An object of a dump: a relation or a statistics object."""

    group: str
    schema: str
    name: str


@dataclass(frozen=True)
class StatementSubject:
    """What a statement is about.

    :ivar about: The object that it defines or changes.
    :ivar part: An object that belongs to another one: `part` to `container`.
    :ivar known: Whether the statement has a form that pg_dump writes, and so does nothing else.
    """

    about: ObjectName
    part: ObjectName | None = None
    container: ObjectName | None = None
    known: bool = True


@dataclass(frozen=True)
class TableSelection:
    """The statements of a dump that concern some of its tables.

    :ivar tables: Schema and name of the tables, their partitions included.
    :ivar created: All that belongs to them: tables, indexes, sequences, statistics objects.
    :ivar sequences: The sequences that are set.
    :ivar numbers: The positions of the statements, from 0; rows are chosen by their table.
    :ivar unknown: The first words of a statement about one of the tables whose form pg_dump does not write; else empty.
    :ivar rows: The rows of each table in the dump; `inserts` the INSERT statements, whose rows are not counted.
    """

    tables: frozenset[Key]
    created: frozenset[ObjectName]
    sequences: frozenset[Key]
    numbers: frozenset[int]
    outline: Outline
    unknown: str = ""
    rows: Counter[Key] = field(default_factory=Counter)
    inserts: Counter[Key] = field(default_factory=Counter)

    def filter(
        self, events: Iterable[tuple[Event, StatementKind | None]]
    ) -> Iterator[tuple[Event, StatementKind | None]]:
        """Return of a dump's events those that concern the tables, and the settings of the session."""
        number, taken = -1, True
        for event, action in events:
            if isinstance(event, Statement) and action is not None:
                number += 1
                filled = action.verb in {"COPY", "INSERT"}
                taken = (action.schema, action.name) in self.tables if filled else number in self.numbers
            if taken or not isinstance(event, Statement | CopyData | CopyEnd):
                yield event, action


class TableParts:
    """What a dump holds of each of its tables, noted while its statements pass."""

    def __init__(self) -> None:
        self.created: dict[Key, None] = {}
        self.filled: dict[Key, None] = {}
        self.parted: set[Key] = set()
        # Foreign keys: the referencing table, the name, and the referenced table.
        self.references: list[tuple[Key, str, Key]] = []
        self._encoding = "utf-8"
        self._number = -1
        self._containers: dict[ObjectName, ObjectName] = {}
        # All that may be chosen: position, statement, what it is about; None for the session.
        self._statements: list[tuple[int, Statement, StatementSubject | None]] = []
        self._values: dict[int, Key] = {}
        self._rows: Counter[Key] = Counter()
        self._inserts: Counter[Key] = Counter()

    def watch(self, events: Iterable[tuple[Event, StatementKind | None]], summary: DumpSummary) -> None:
        """Note what passes.

        :param summary: The one that hands the events on.
        """
        for event, action in events:
            if isinstance(event, Statement) and action is not None:
                self._number += 1
                self._encoding = summary.encoding
                self._statement(event, action)
        self._rows.update(summary.rows)

    def _statement(self, event: Statement, action: StatementKind) -> None:
        key, verb = (action.schema, action.name), action.verb
        subject: StatementSubject | None = None
        if event.copies or verb == "INSERT":
            name = self._name(key)
            known = COPY.match(event.text) is not None if event.copies else holds_literals(event.text)
            self._inserts.update([key] * (verb == "INSERT"))
            # Of the INSERTs of a table one says all, unless another has a strange form.
            if known and key in self.filled:
                return
            self.filled.setdefault(key)
            subject = StatementSubject(about=name, known=known)
        elif verb == "SETVAL":
            value = parse_setval(event.text, standard=event.standard)
            if value is None:
                return
            self._values[self._number] = self._key(ObjectName(_RELATION, value.schema, value.name))
        elif verb not in _SESSION:
            subject = find_subject(event, action)
            if subject is None:
                return
            if subject.part is not None and subject.container is not None:
                self._containers[subject.part] = subject.container
            if (foreign_key := _foreign_key(event)) is not None:
                constraint, referenced = foreign_key
                self.references.append(
                    (self._key(subject.about), recode_name(constraint, self._encoding), self._key(referenced))
                )
            if verb == "CREATE TABLE":
                self.created.setdefault(self._key(subject.about))
                if is_partitioned(event.text):
                    self.parted.add(self._key(subject.about))
        self._statements.append((self._number, event, subject))

    def _key(self, name: ObjectName) -> Key:
        return recode_name(name.schema, self._encoding), recode_name(name.name, self._encoding)

    @property
    def holds_inserts(self) -> bool:
        """Whether rows are written as INSERT statements, so that an empty table has none."""
        return bool(self._inserts)

    def parent(self, table: Key) -> Key | None:
        """Return the partitioned table of a partition; None of another table."""
        container = self._containers.get(self._name(table))
        return None if container is None else self._key(container)

    def tables_without_rows(self, tables: Collection[Key]) -> list[Key]:
        """Return of tables those whose rows the dump does not hold, though it creates them: it was made so."""
        return [
            key
            for key in self.created
            if key in tables and key not in self.parted and not any(each in self.filled for each in self.line(key))
        ]

    def count(self, tables: Collection[Key]) -> tuple[int, int]:
        """Return the rows of COPY data of tables and their partitions, and the number of their INSERT statements."""
        keys = {self._key(each) for each in self._belonging(tables) if each.group == _RELATION}
        return sum(self._rows[key] for key in keys), sum(self._inserts[key] for key in keys)

    def line(self, table: Key) -> Iterator[Key]:
        """Return a table, its partitioned table, and so on up to the topmost."""
        seen: set[Key] = set()
        above: Key | None = table
        while above is not None and above not in seen:
            seen.add(above)
            yield above
            above = self.parent(above)

    def _name(self, key: Key) -> ObjectName:
        return ObjectName(_RELATION, *(raw_name(part, self._encoding) for part in key))

    def _belonging(self, tables: Collection[Key]) -> set[ObjectName]:
        found = {self._name(key) for key in tables}
        below: dict[ObjectName, list[ObjectName]] = {}
        for part, container in self._containers.items():
            below.setdefault(container, []).append(part)
        left = list(found)
        while left:
            new = [part for part in below.get(left.pop(), ()) if part not in found]
            found.update(new)
            left += new
        return found

    def select(
        self, tables: Collection[Key], *, data_only: bool = False, sequences: Collection[Key] = ()
    ) -> TableSelection:
        """Choose the statements that concern tables.

        :param tables: Schema and name of each; their partitions belong to them.
        :param data_only: Only their rows, and the values of sequences.
        :param sequences: With `data_only`, the sequences that are set, where the dump sets them.
        """
        names = self._belonging(tables)
        created = frozenset(ObjectName(each.group, *self._key(each)) for each in names)
        objects = {(each.schema, each.name) for each in created if each.group == _RELATION}
        set_ = {key for key in self._values.values() if key in (sequences if data_only else objects)}
        chosen: list[tuple[int, Statement, StatementSubject | None]] = []
        for number, event, subject in self._statements:
            if number in self._values:
                is_chosen = self._values[number] in set_
            elif subject is None:
                is_chosen = True
            else:
                filled = bool(event.copies) or event.text[:6].upper() == b"INSERT"
                is_chosen = subject.about in names and (filled or not data_only)
            if is_chosen:
                chosen.append((number, event, subject))
        unknown = next((event for _, event, subject in chosen if subject is not None and not subject.known), None)
        summary = DumpSummary()
        for _ in summary.watch(event for _, event, _ in chosen):
            pass
        taken = frozenset(key for key in objects if key in self.created or key in self.filled)
        return TableSelection(
            tables=taken | frozenset(tables),
            created=created,
            sequences=frozenset(set_),
            numbers=frozenset(number for number, _, _ in chosen),
            outline=summary.outline(),
            unknown=unknown.text[:60].decode(errors="replace") if unknown is not None else "",
            rows=Counter({key: self._rows[key] for key in taken}),
            inserts=Counter({key: self._inserts[key] for key in taken if self._inserts[key]}),
        )


def find_subject(event: Statement, action: StatementKind) -> StatementSubject | None:
    """Return which table, index, sequence or statistics object a statement is about; None for any other.

    What drops an object is about none: who replaces a table drops it.
    """
    if action.removes:
        return None
    words = TokenReader(event.text, standard=event.standard)
    reader = {
        "CREATE": _created,
        "ALTER": _altered,
        "COMMENT": _described,
        "SECURITY": _described,
        "GRANT": _granted,
        "REVOKE": _granted,
    }.get(words.word())
    found = reader(words, event) if reader is not None else None
    # Without a backslash it reads the same whatever standard_conforming_strings is.
    if found is not None and not event.standard and b"\\" in event.text:
        return StatementSubject(about=found.about, part=found.part, container=found.container, known=False)
    return found


def _relation(words: TokenReader) -> ObjectName:
    words.skip("ONLY")
    return ObjectName(_RELATION, *words.names())


def _created(words: TokenReader, event: Statement) -> StatementSubject | None:
    while words.skip(*_MODIFIERS):
        pass
    kind = take_kind(words)
    if kind == "INDEX" or kind in _ON_TABLES:
        words.skip("CONCURRENTLY")
        name = words.name()
        if not words.seek("TO" if kind == "RULE" else "ON"):
            return None
        table = _relation(words)
        part = ObjectName(_RELATION, table.schema, name) if kind == "INDEX" else None
        return StatementSubject(about=table, part=part, container=table if part is not None else None)
    if kind == "STATISTICS":
        statistics = ObjectName(_STATISTICS, *words.names())
        found_table = words.seek("FROM")
        return StatementSubject(about=statistics, part=statistics, container=_relation(words)) if found_table else None
    if kind not in _RELATIONS:
        return None
    conditional = words.skip("IF") and words.skip("NOT") and words.skip("EXISTS")
    found = _relation(words)
    parent = _relation(words) if words.skip("PARTITION") and words.skip("OF") else None
    known = not conditional and not (kind != "SEQUENCE" and TokenReader(event.text).seek("AS"))
    return StatementSubject(about=found, part=found if parent is not None else None, container=parent, known=known)


def _altered(words: TokenReader, event: Statement) -> StatementSubject | None:
    kind = take_kind(words)
    if kind == "PUBLICATION":
        words.name()
        added = words.skip("ADD") and words.skip("TABLE")
        tables = list(take_names(words)) if added else []
        return StatementSubject(about=ObjectName(_RELATION, *tables[0])) if len(tables) == 1 else None
    if kind == _STATISTICS:
        return StatementSubject(about=ObjectName(_STATISTICS, *words.names()))
    if kind not in _RELATIONS:
        return None
    known = not (words.skip("IF") and words.skip("EXISTS"))
    found = _relation(words)
    known = known and all(is_known(kind, action, own=True) for action in actions(words))
    part, container = _altered_part(found, event)
    return StatementSubject(about=found, part=part, container=container, known=known)


def _altered_part(found: ObjectName, event: Statement) -> tuple[ObjectName | None, ObjectName | None]:
    """Return what an ALTER makes a part of what: an identity's sequence, a key's index, a partition, an owned one."""
    if (identity := sequence_of_identity(event.text)) is not None:
        return ObjectName(_RELATION, *identity), found
    words = TokenReader(event.text, standard=event.standard)
    words.take()
    take_kind(words)
    _relation(words)
    if words.skip("ADD") and words.skip("CONSTRAINT"):
        name = words.name()
        return (ObjectName(_RELATION, found.schema, name), found) if words.skip(*_WITH_INDEX) else (None, None)
    if words.skip("ATTACH") and words.skip("PARTITION"):
        return _relation(words), found
    if words.skip("OWNED") and words.skip("BY"):
        parts = _dotted(words)
        return (found, ObjectName(_RELATION, *parts[-3:-1])) if len(parts) > 2 else (None, None)  # noqa: PLR2004 - schema, table, column
    return None, None


def _foreign_key(event: Statement) -> tuple[str, ObjectName] | None:
    """Return the name of the foreign key that an ALTER TABLE adds, and the table that it references."""
    if b" FOREIGN KEY " not in event.text:
        return None
    words = TokenReader(event.text, standard=event.standard)
    if not words.seek("CONSTRAINT"):
        return None
    name = words.name()
    return (name, _relation(words)) if words.skip("FOREIGN") and words.seek("REFERENCES") else None


def _dotted(words: TokenReader) -> list[str]:
    parts = [words.name()]
    while words.sign(b"."):
        parts.append(words.name())
    return parts


def _described(words: TokenReader, _: Statement) -> StatementSubject | None:
    """Read a COMMENT or a SECURITY LABEL."""
    if not words.seek("ON"):
        return None
    kind = take_kind(words)
    if kind == "COLUMN":
        parts = ["", *_dotted(words)]
        return StatementSubject(about=ObjectName(_RELATION, *parts[-3:-1])) if len(parts) > 2 else None  # noqa: PLR2004 - as above
    if kind in _ON_TABLES:
        return StatementSubject(about=_relation(words)) if words.seek("ON") and not words.skip("DOMAIN") else None
    if kind in _RELATIONS:
        return StatementSubject(about=_relation(words))
    return StatementSubject(about=ObjectName(_STATISTICS, *words.names())) if kind == _STATISTICS else None


def _granted(words: TokenReader, event: Statement) -> StatementSubject | None:
    """Read a GRANT or a REVOKE on one table or sequence."""
    action = classify_statement(event.text, standard=event.standard)
    return (
        StatementSubject(about=ObjectName(_RELATION, action.schema, action.name))
        if action.name and (words.seek("ON") and words.skip("TABLE", "SEQUENCE"))
        else None
    )


def is_partitioned(text: bytes) -> bool:
    """Return whether a CREATE TABLE makes a partitioned table."""
    if b"partition" not in text.lower():
        return False
    words = TokenReader(text)
    while words.seek("PARTITION"):
        if words.skip("BY"):
            return True
    return False
