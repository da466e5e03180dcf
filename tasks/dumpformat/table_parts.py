"""The statements of a dump that define or fill some of its tables, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .encodings import recode_name
from .lexer import CopyData, CopyEnd, Statement
from .statements import StatementKind, classify_statement, parse_setval
from .summary import DumpSummary
from .tokens import TokenReader
from .touch_forms import (
    COPY,
    MODIFIERS,
    ON_TABLES,
    ObjectName,
    actions,
    foreign_key_of,
    holds_literals,
    is_known,
    is_partitioned,
    sequence_of_identity,
    take_dotted,
    take_kind,
    take_names,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from .lexer import Event
    from .manifest import Outline

    Key = tuple[str, str]


_SESSION = frozenset({"SET", "RESET", "SET SESSION AUTHORIZATION"})
_RELATION, _STATISTICS = "RELATION", "STATISTICS"
_RELATIONS = frozenset({"TABLE", "FOREIGN TABLE", "SEQUENCE", "INDEX"})


_WITH_INDEX = ("PRIMARY", "UNIQUE", "EXCLUDE")


@dataclass(frozen=True)
class StatementSubject:
    """What a statement is about.

    :ivar about: The object that it defines or changes.
    :ivar part: An object that belongs to another one: `part` to `container`.
    :ivar made: The object that it creates.
    :ivar known: Whether the statement has a form that pg_dump writes, and so does nothing else.
    """

    about: ObjectName
    part: ObjectName | None = None
    container: ObjectName | None = None
    made: ObjectName | None = None
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
        for event, kind in events:
            if isinstance(event, Statement) and kind is not None:
                number += 1
                filled = kind.verb in {"COPY", "INSERT"}
                taken = (kind.schema, kind.name) in self.tables if filled else number in self.numbers
            if taken or not isinstance(event, Statement | CopyData | CopyEnd):
                yield event, kind


class TableParts:
    """What a dump holds of each of its tables, noted while its statements pass."""

    def __init__(self) -> None:
        self.created: dict[Key, None] = {}
        self.filled: dict[Key, None] = {}
        self.parted: set[Key] = set()
        # Foreign keys: the referencing table, the name, and the referenced table.
        self.references: list[tuple[Key, str, Key]] = []
        self.values: dict[Key, int] = {}
        self.owners: dict[Key, str] = {}
        self._encoding, self._number = "utf-8", -1
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
        for event, kind in events:
            if isinstance(event, Statement) and kind is not None:
                self._number += 1
                self._encoding = summary.encoding
                self._statement(event, kind)
        self._rows.update(summary.rows)

    def _statement(self, event: Statement, kind: StatementKind) -> None:
        key, verb = (kind.schema, kind.name), kind.verb
        subject: StatementSubject | None = None
        if event.copies or verb == "INSERT":
            known = COPY.match(event.text) is not None if event.copies else holds_literals(event.text)
            self._inserts.update([key] * (verb == "INSERT"))
            # Of the INSERTs of a table one says all, unless another has a strange form.
            if known and key in self.filled:
                return
            self.filled.setdefault(key)
            subject = StatementSubject(about=ObjectName(_RELATION, *key), known=known)
        elif verb == "SETVAL":
            value = parse_setval(event.text, standard=event.standard)
            if value is None:
                return
            sequence = self._recoded(ObjectName(_RELATION, value.schema, value.name)).key
            self._values[self._number], self.values[sequence] = sequence, value.value
        elif verb not in _SESSION:
            found = find_subject(event, kind)
            if found is None:
                return
            subject = self._recoded_subject(found)
            if subject.part is not None and subject.container is not None:
                self._containers[subject.part] = subject.container
            if (foreign_key := foreign_key_of(event.text, standard=event.standard)) is not None:
                constraint, *referenced = (recode_name(each, self._encoding) for each in foreign_key)
                self.references.append((subject.about.key, constraint, (referenced[0], referenced[1])))
            if verb == "OWNER" and subject.about.group == _RELATION:
                self.owners[subject.about.key] = kind.roles[0]
            elif verb == "CREATE TABLE":
                self.created.setdefault(subject.about.key)
                if is_partitioned(event.text):
                    self.parted.add(subject.about.key)
        self._statements.append((self._number, event, subject))

    def _recoded(self, name: ObjectName) -> ObjectName:
        return ObjectName(name.group, recode_name(name.schema, self._encoding), recode_name(name.name, self._encoding))

    def _recoded_subject(self, found: StatementSubject) -> StatementSubject:
        part, container, made = (each and self._recoded(each) for each in (found.part, found.container, found.made))
        return replace(found, about=self._recoded(found.about), part=part, container=container, made=made)

    def parent(self, table: Key) -> Key | None:
        """Return the partitioned table of a partition; None of another table."""
        container = self._containers.get(ObjectName(_RELATION, *table))
        return None if container is None else container.key

    def tables_without_rows(self, tables: Collection[Key]) -> list[Key]:
        """Return of tables those whose rows the dump does not hold, though it creates them: it was made so.

        With rows as INSERT statements it can't be known, because an empty table has none.
        """
        made = [] if self._inserts else [key for key in self.created if key in tables and key not in self.parted]
        return [key for key in made if self.filled.keys().isdisjoint(self.line(key))]

    def filled_above(self, tables: Collection[Key]) -> tuple[Key, Key] | None:
        """Return a table whose rows the dump loads through a partitioned table that is not among them, and that table.

        pg_dump writes them so with --load-via-partition-root, and where an enum chooses the partition by its hash.
        """
        for key in sorted({*tables} - self.parted):
            above = next((each for each in self.line(key) if each in self.filled), key)
            if above not in tables:
                return key, above
        return None

    def count(self, tables: Collection[Key]) -> tuple[int, int]:
        """Return the rows of COPY data of tables and their partitions, and the number of their INSERT statements."""
        keys = {each.key for each in self._belonging(tables) if each.group == _RELATION}
        return sum(self._rows[key] for key in keys), sum(self._inserts[key] for key in keys)

    def line(self, table: Key) -> Iterator[Key]:
        """Return a table, its partitioned table, and so on up to the topmost."""
        seen: set[Key] = set()
        above: Key | None = table
        while above is not None and above not in seen:
            seen.add(above)
            yield above
            above = self.parent(above)

    def _belonging(self, tables: Collection[Key]) -> set[ObjectName]:
        found = {ObjectName(_RELATION, *key) for key in tables}
        while new := {part for part, container in self._containers.items() if container in found} - found:
            found |= new
        return found

    def select(
        self, tables: Collection[Key], *, data_only: bool = False, sequences: Collection[Key] = ()
    ) -> TableSelection:
        """Choose the statements that concern tables.

        :param tables: Schema and name of each; their partitions belong to them.
        :param data_only: Only their rows, and the values of sequences.
        :param sequences: With `data_only`, the sequences that are set, where the dump sets them.
        """
        names = frozenset(self._belonging(tables))
        objects = {each.key for each in names if each.group == _RELATION}
        set_ = {key for key in self._values.values() if key in (sequences if data_only else objects)}
        chosen: list[tuple[int, Statement, StatementSubject | None]] = []
        for number, event, subject in self._statements:
            if number in self._values:
                is_chosen = self._values[number] in set_
            elif subject is None:
                is_chosen = True
            else:
                is_chosen = subject.about in names and (not data_only or _fills(event))
            if is_chosen:
                chosen.append((number, event, subject))
        unknown = next((event for _, event, subject in chosen if subject is not None and not subject.known), None)
        if unknown is None and not data_only:
            defining = ((event, subject) for _, event, subject in chosen if subject is not None)
            unknown = _find_uncreated(each for each in defining if not _fills(each[0]))
        summary = DumpSummary()
        for _ in summary.watch(event for _, event, _ in chosen):
            pass
        taken = frozenset(key for key in objects if key in self.created or key in self.filled)
        return TableSelection(
            tables=taken | frozenset(tables),
            created=names,
            sequences=frozenset(set_),
            numbers=frozenset(number for number, _, _ in chosen),
            outline=summary.outline(),
            unknown=unknown.text[:60].decode(errors="replace") if unknown is not None else "",
            rows=Counter({key: self._rows[key] for key in taken}),
            inserts=Counter({key: self._inserts[key] for key in taken if self._inserts[key]}),
        )


def _fills(event: Statement) -> bool:
    return bool(event.copies) or event.text[:6].upper() == b"INSERT"


def _find_uncreated(statements: Iterable[tuple[Statement, StatementSubject]]) -> Statement | None:
    """Return the first statement about an object that none before it creates; pg_dump writes none.

    The database may have an object of that name, which has nothing to do with the table.
    """
    made: set[ObjectName] = set()
    for event, subject in statements:
        if subject.made is not None:
            made.add(subject.made)
        if subject.about not in made or (subject.part is not None and subject.part not in made):
            return event
    return None


def find_subject(event: Statement, kind: StatementKind) -> StatementSubject | None:
    """Return which table, index, sequence or statistics object a statement is about; None for any other.

    What drops an object is about none: who replaces a table drops it.
    """
    if kind.removes:
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
        return replace(found, known=False)
    return found


def _relation(words: TokenReader) -> ObjectName:
    return ObjectName(_RELATION, *words.relation())


def _created(words: TokenReader, event: Statement) -> StatementSubject | None:
    while words.skip(*MODIFIERS):
        pass
    kind = take_kind(words)
    if kind == "INDEX" or kind in ON_TABLES:
        words.skip("CONCURRENTLY")
        name = words.name()
        if not words.seek("TO" if kind == "RULE" else "ON"):
            return None
        table = _relation(words)
        part = ObjectName(_RELATION, table.schema, name) if kind == "INDEX" else None
        return StatementSubject(about=table, part=part, container=table, made=part)
    if kind == "STATISTICS":
        statistics = ObjectName(_STATISTICS, *words.names())
        if not words.seek("FROM"):
            return None
        return StatementSubject(about=statistics, part=statistics, container=_relation(words), made=statistics)
    if kind not in _RELATIONS:
        return None
    conditional = words.skip("IF") and words.skip("NOT") and words.skip("EXISTS")
    found = _relation(words)
    parent = _relation(words) if words.skip("PARTITION") and words.skip("OF") else None
    known = not conditional and not (kind != "SEQUENCE" and TokenReader(event.text).seek("AS"))
    part = found if parent is not None else None
    return StatementSubject(about=found, part=part, container=parent, made=found, known=known)


def _altered(words: TokenReader, event: Statement) -> StatementSubject | None:
    kind = take_kind(words)
    if kind == "PUBLICATION":
        words.name()
        added = words.skip("ADD") and words.skip("TABLE")
        tables = list(take_names(words)) if added else []
        return StatementSubject(about=ObjectName(_RELATION, *tables[0])) if len(tables) == 1 else None
    if kind == _STATISTICS:
        return StatementSubject(about=ObjectName(_STATISTICS, *words.names()))
    if kind == "TRIGGER":
        # DEPENDS ON EXTENSION
        return StatementSubject(about=_relation(words)) if words.name() and words.skip("ON") else None
    if kind not in _RELATIONS:
        return None
    known = not (words.skip("IF") and words.skip("EXISTS"))
    found = _relation(words)
    known = known and all(is_known(kind, action, own=True) for action in actions(words))
    return replace(_altered_part(found, event), known=known)


def _altered_part(found: ObjectName, event: Statement) -> StatementSubject:
    """Return what an ALTER makes a part of what: an identity's sequence, a key's index, a partition, an owned one."""
    plain = StatementSubject(about=found)
    if (identity := sequence_of_identity(event.text)) is not None:
        sequence = ObjectName(_RELATION, *identity)
        return replace(plain, part=sequence, container=found, made=sequence)
    words = TokenReader(event.text, standard=event.standard)
    words.take()
    take_kind(words)
    _relation(words)
    if words.skip("ADD") and words.skip("CONSTRAINT"):
        index = ObjectName(_RELATION, found.schema, words.name())
        return replace(plain, part=index, container=found, made=index) if words.skip(*_WITH_INDEX) else plain
    if words.skip("ATTACH") and words.skip("PARTITION"):
        return replace(plain, part=_relation(words), container=found)
    if words.skip("OWNED") and words.skip("BY") and len(parts := take_dotted(words)) > 2:  # noqa: PLR2004 - schema, table, column
        return replace(plain, part=found, container=ObjectName(_RELATION, *parts[-3:-1]))
    return plain


def _described(words: TokenReader, _: Statement) -> StatementSubject | None:
    """Read a COMMENT or a SECURITY LABEL."""
    if not words.seek("ON"):
        return None
    kind = take_kind(words)
    if kind == "COLUMN":
        parts = ["", *take_dotted(words)]
        return StatementSubject(about=ObjectName(_RELATION, *parts[-3:-1])) if len(parts) > 2 else None  # noqa: PLR2004 - as above
    if kind in ON_TABLES:
        return StatementSubject(about=_relation(words)) if words.seek("ON") and not words.skip("DOMAIN") else None
    if kind in _RELATIONS:
        return StatementSubject(about=_relation(words))
    return StatementSubject(about=ObjectName(_STATISTICS, *words.names())) if kind == _STATISTICS else None


def _granted(words: TokenReader, event: Statement) -> StatementSubject | None:
    """Read a GRANT or a REVOKE on one table or sequence."""
    kind = classify_statement(event.text, standard=event.standard)
    is_on_one = kind.name and words.seek("ON") and words.skip("TABLE", "SEQUENCE")
    return StatementSubject(about=ObjectName(_RELATION, kind.schema, kind.name)) if is_on_one else None
