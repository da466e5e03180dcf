"""Verify: what the database holds now, beside what the dump held."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..archive.lexer import LexError, lex
from ..archive.survey import Survey
from ..errors import BadInputError
from ..postgres import facts, health
from ..postgres.session import connected, server_facts, translated
from . import dumpfile, records

if TYPE_CHECKING:
    from ..archive.manifest import SequenceValue, TableRows
    from ..postgres.health import Health
    from ..postgres.session import ServerFacts
    from ..postgres.target import Target
    from ..settings import Settings
    from .report import Report


@dataclass(frozen=True)
class Expected:
    """What the database should hold.

    :ivar source: The dump's file name.
    :ivar tables: Rows per table; `dumped` those of the dump itself, where a migration of ours came after it.
    """

    source: str
    restored: str
    migrated: str
    tables: tuple[TableRows, ...]
    sequences: tuple[SequenceValue, ...]
    dumped: tuple[TableRows, ...]


@dataclass(frozen=True)
class Line:
    """One table, or one sequence, beside what it should be; None where it is missing."""

    kind: str
    name: str
    expected: int | None
    found: int | None
    since: int | None = None

    @property
    def same(self) -> bool:
        """Whether it is as it should be; what nobody expected is no difference."""
        return self.expected is None or self.expected == self.found


@dataclass(frozen=True)
class Verified:
    """The whole comparison."""

    target: Target
    server: ServerFacts
    expected: Expected | None
    lines: tuple[Line, ...]
    health: Health

    @property
    def differences(self) -> list[Line]:
        """The lines that differ."""
        return [line for line in self.lines if not line.same]

    @property
    def differences_with(self) -> str:
        """What it was compared with, for a sentence."""
        return self.expected.source if self.expected else "nothing"


def verify(settings: Settings, file: str, report: Report) -> Verified:
    """Compare the database with a dump: the named one, else the one last restored into it.

    :raises TaskError: The dump or the database can't be read. Nothing is ever changed.
    """
    target = settings.target()
    with connected(target, lock_timeout=settings.lock_timeout) as connection, translated("Reading the database failed"):
        server = server_facts(connection)
        expected = _of_file(settings, file, report) if file else _of_record(settings, target, server)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SET LOCAL row_security = off")
        report.progress("counting", 0, 0, "")
        tables = facts.tables(connection)
        counted = {table.key: rows for table, rows in facts.count(connection, tables)}
        sequences = facts.sequences(connection)
        found = health.read(connection, target.schema or "public")
        connection.execute("ROLLBACK")
    return Verified(target, server, expected, _lines(expected, counted, sequences), found)


def _of_record(settings: Settings, target: Target, server: ServerFacts) -> Expected | None:
    record = records.read(records.place(settings.dumps, target, server))
    if record is None:
        return None
    return Expected(
        Path(record.file).name, record.restored, record.migrated, record.tables, record.sequences, record.dumped
    )


def _of_file(settings: Settings, file: str, report: Report) -> Expected:
    path = dumpfile.choose(settings, file, report)
    dump = dumpfile.prove(settings, path, report)
    if dump.manifest is not None:
        tables, sequences = dump.manifest.tables, dump.manifest.sequences
    else:
        survey = Survey()
        try:
            with dump.open() as source:
                for _ in survey.watch(lex(source.chunks())):
                    report.progress("reading the dump", source.position, dump.size, "bytes")
        except LexError as error:
            raise BadInputError(f"{path.name} can't be read: {error}.") from None
        tables, sequences = survey.tables(), tuple(sorted(survey.sequences.values()))
    return Expected(path.name, "", "", tables, sequences, tables)


def _lines(
    expected: Expected | None,
    counted: dict[tuple[str, str], int],
    sequences: dict[tuple[str, str], tuple[int, bool]],
) -> tuple[Line, ...]:
    wanted = {(each.schema, each.name): each.rows for each in expected.tables} if expected else {}
    dumped = {(each.schema, each.name): each.rows for each in expected.dumped} if expected else {}
    lines = [
        Line("table", ".".join(key), wanted.get(key), counted.get(key), dumped.get(key))
        for key in sorted(wanted.keys() | counted.keys())
    ]
    for each in expected.sequences if expected else ():
        value = sequences.get((each.schema, each.name))
        if value != (each.value, each.is_called):
            found = None if value is None else value[0]
            lines.append(Line("sequence", f"{each.schema}.{each.name}", each.value, found))
    return tuple(lines)
