"""Read the rows of one table from a dump, without a server.

The manifest of a large dump says where the rows of its tables begin (`seek_points`). It may be wrong: the dump may have
been edited or replaced. So what it leads to is checked, and otherwise the dump is read from its start.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..dumpformat.copy_text import copied_columns, escape_value, unescape_value
from ..dumpformat.encodings import python_encoding, recode_kind, recode_name
from ..dumpformat.foreign_head import LexError
from ..dumpformat.lexer import CopyData, CopyEnd, Statement, lex
from ..dumpformat.statements import classify_statement
from ..dumpformat.tokens import split_qualified
from ..errors import BadInputError
from ..formatting import format_list, show_name
from .dump_file import choose_dump, describe_damage, open_dump_text
from .origin import describe_part
from .paths import known_defect, read_manifest
from .reader import read_ahead
from .table_names import match_tables, require_tables

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path

    from ..config.settings import Settings
    from ..dumpformat.manifest import Manifest
    from ..progress import Report

    TableKey = tuple[str, str]


# The first four letters of the statements at the start of a dump that change only settings.
_SETTERS = frozenset({b"SET ", b"RESE", b"SELE"})


@dataclass(frozen=True)
class RowsRequest:
    """The flags of `db.show`.

    :ivar file: The value of `--file`; empty for the newest dump.
    :ivar table: The name of a table, with its schema if the name is ambiguous.
    :ivar match: Text that a value of each row must contain; empty for all rows.
    :ivar limit: The most rows to read; 0 for all.
    """

    file: str
    table: str
    match: str = ""
    limit: int = 0


@dataclass(frozen=True)
class RowBatch:
    """Consecutive rows of a table.

    :ivar columns: The names of the columns, in the order of the values.
    :ivar lines: One row each in COPY's text format, without the line end.
    :ivar encoding: Python's name of the encoding of the lines.
    """

    table: TableKey
    columns: tuple[str, ...]
    lines: list[bytes]
    encoding: str

    def texts(self) -> Iterator[str]:
        """Return each row in COPY's text format, decoded."""
        return (line.decode(self.encoding, "surrogateescape") for line in self.lines)

    def values(self) -> Iterator[list[str | None]]:
        """Return the values of each row; None for NULL."""
        for line in self.lines:
            found = map(unescape_value, line.split(b"\t") if self.columns else [])
            yield [None if value is None else value.decode(self.encoding, "surrogateescape") for value in found]


def read_table_rows(settings: Settings, request: RowsRequest, report: Report) -> Iterator[RowBatch]:
    """Read the rows of a table from a dump, in the dump's order.

    Reads the file up to the last of the rows, from the start or from a seek point, without comparing checksums, so a
    changed value of a plain dump is not noticed. Needs memory for a few chunks of the file.

    :return: At least one batch for each COPY of the table; the first has its columns, even without rows.
    :raises BadInputError: There is no such dump or table, the name is ambiguous, the rows are INSERT statements, or
        the file is damaged before the last of the rows.
    """
    if not request.table:
        raise BadInputError("--table= is missing. Name the table to print.")
    if request.limit < 0:
        raise BadInputError(f"--limit={request.limit} is not a number of rows.")
    path = choose_dump(settings, request.file, report)
    manifest = read_manifest(path)
    counts = {(each.schema, each.name): each.rows for each in manifest.tables} if manifest else None
    choice, point = _Choice(name=request.table, counts=counts), None
    if reason := known_defect(path):
        report.warn(f"{path.name} is cut or was changed: {reason}. Rows may be missing.")
    if manifest is not None:
        part = describe_part(manifest)
        choice.choose(f"{path.name} ({part})" if part else path.name)
        point = _seek_point(path, manifest, choice.chosen)
    try:
        reading = _Reading(path=path, request=request, choice=choice)
        if point is None or not (yield from _batches_from(settings, *point, reading)):
            with _opened(settings, path) as chunks:
                yield from _Reading(path=path, request=request, choice=choice).batches(chunks)
    except LexError as error:
        raise BadInputError(describe_damage(path, error)) from None
    if choice.chosen is None:
        raise BadInputError(f"{path.name} has no rows of a table {request.table}. `inv db.inspect` lists its tables.")


@contextlib.contextmanager
def _opened(settings: Settings, path: Path, offset: int = 0) -> Iterator[Iterator[bytes]]:
    with (
        open_dump_text(settings, path, summed=False, offset=offset) as source,
        contextlib.closing(read_ahead(source.chunks())) as chunks,
    ):
        yield chunks


def _seek_point(path: Path, manifest: Manifest, table: TableKey | None) -> tuple[int, str] | None:
    """Return the last seek point before the rows of a table, by the manifest; None for the start of the file.

    :return: Its byte of the file, and the table whose COPY statement should be there, as :func:`show_name` writes it.
    """
    try:
        size = path.stat().st_size
    except OSError:
        # Opening it reports the error.
        return None
    if table is None or size != manifest.file.size:
        return None
    name = show_name(table)
    for each in manifest.extra.get("seek_points", ()):
        if name in each["tables"] and 0 < each["file_offset"] < size:
            return each["file_offset"], each["tables"][0]
    return None


def _batches_from(settings: Settings, offset: int, first: str, reading: _Reading) -> Generator[RowBatch, None, bool]:
    """Yield the rows of a table from a seek point; return whether it leads to them. If it does not, yield nothing."""
    found = False
    try:
        with _opened(settings, reading.path) as chunks:
            standard = reading.read_settings(chunks)
        with _opened(settings, reading.path, offset) as chunks:
            for batch in reading.batches(chunks, first=first, standard=standard):
                found = True
                yield batch
    except (LexError, BadInputError):
        if found:
            raise
    return found


@dataclass
class _Choice:
    """The table that a name chooses.

    :ivar counts: The number of rows of each table in the manifest; None without a manifest.
    """

    name: str
    counts: Mapping[TableKey, int] | None
    chosen: TableKey | None = None
    _known: dict[TableKey, None] = field(default_factory=dict)
    _found: list[TableKey] | None = None

    def choose(self, source: str) -> None:
        """Choose a table of the manifest.

        :param source: The name of the dump in messages.
        """
        assert self.counts is not None  # noqa: S101 - the caller has checked it
        found = require_tables("--table", [self.name], self.counts, source)
        if len(found) > 1:
            names = format_list([show_name(key) for key in found])
            raise BadInputError(f"--table={self.name} matches {len(found)} tables of {source}: {names}. Name one.")
        self.chosen = found[0]

    def is_chosen(self, key: TableKey) -> bool:
        """Return whether a table is the chosen one.

        :raises BadInputError: The name also matches another table of this dump.
        """
        if self.counts is not None:
            return key == self.chosen
        self.note(key)
        if self._found is None:
            try:
                self._found = match_tables(self.name, self._known)
            except ValueError as error:
                raise BadInputError(f"--table={self.name}: {error}.") from None
        if key not in self._found:
            return False
        if self.chosen not in {None, key} or len(self._found) > 1:
            names = format_list([show_name(each) for each in dict.fromkeys([*self._found, self.chosen]) if each])
            raise BadInputError(f"--table={self.name} matches several tables: {names}. Name one with its schema.")
        self.chosen = key
        return True

    def note(self, key: TableKey) -> None:
        """Add a table that the dump creates."""
        if key not in self._known:
            self._known[key] = None
            self._found = None


@dataclass
class _Reading:
    """One reading of a dump.

    :ivar passed: The rows of the table that were read; `given` those that were yielded.
    """

    path: Path
    request: RowsRequest
    choice: _Choice
    encoding: str = "utf-8"
    passed: int = 0
    given: int = 0
    _parts: list[bytes] = field(default_factory=list)
    _columns: tuple[str, ...] | None = None

    def read_settings(self, chunks: Iterator[bytes]) -> bool:
        """Read the settings at the start of a dump; return whether standard_conforming_strings is on after them."""
        for event in lex(chunks):
            if isinstance(event, Statement):
                if event.text[:4].upper() not in _SETTERS:
                    return event.standard
                self._begins(event)
        return True

    def batches(
        self, chunks: Iterator[bytes], *, first: str | None = None, standard: bool = True
    ) -> Iterator[RowBatch]:
        """Read the rows.

        :param first: The table whose COPY statement the chunks must begin with, or no rows are read; None at the start
            of a dump.
        :param standard: As for :func:`lex`.
        """
        for event in lex(chunks, skips=lambda: self._columns is None, standard=standard):
            if first is not None and (not isinstance(event, Statement) or show_name(self._copied(event)) != first):
                return
            first = None
            if isinstance(event, Statement):
                if self._begins(event):
                    yield self._batch([])
            elif self._columns is not None and isinstance(event, CopyData):
                if lines := self._lines(event.text):
                    yield self._batch(lines)
            elif isinstance(event, CopyEnd):
                self._columns = None
            if self._done():
                return

    def _batch(self, lines: list[bytes]) -> RowBatch:
        assert self._columns is not None  # noqa: S101 - the caller is inside a COPY of the table
        assert self.choice.chosen is not None  # noqa: S101 - the same
        return RowBatch(table=self.choice.chosen, columns=self._columns, lines=lines, encoding=self.encoding)

    def _done(self) -> bool:
        if self.request.limit and self.given >= self.request.limit:
            return True
        counts, chosen = self.choice.counts, self.choice.chosen
        # A partitioned table may have several COPYs, one for each partition.
        return counts is not None and chosen is not None and self._columns is None and self.passed >= counts[chosen] > 0

    def _begins(self, statement: Statement) -> bool:
        text = statement.text
        if statement.copies:
            if not self.choice.is_chosen(self._copied(statement)):
                return False
            self._columns = tuple(recode_name(column, self.encoding) for column in copied_columns(statement))
            return True
        if text[:4].upper() == b"SET " and b"client_encoding" in text.lower():
            for setting in classify_statement(text, standard=statement.standard).settings:
                if setting.name == "client_encoding":
                    self.encoding = python_encoding(setting.value or "")
        elif text[:7].upper() == b"INSERT " or text[:13] == b"CREATE TABLE ":
            kind = recode_kind(classify_statement(text, standard=statement.standard), self.encoding)
            key = kind.schema, kind.name
            if kind.verb != "INSERT":
                self.choice.note(key)
            elif self.choice.is_chosen(key):
                raise BadInputError(
                    f"{self.path.name} has the rows of {show_name(key)} as INSERT statements, which db.show does not "
                    f"read. Restore the dump into a scratch database instead."
                )
        return False

    def _copied(self, statement: Statement) -> TableKey:
        """Return the table of a COPY statement; names are empty for another statement."""
        schema, name = (recode_name(part, self.encoding) for part in split_qualified(statement.copies))
        return schema, name

    def _lines(self, text: bytes | bytearray) -> list[bytes]:
        complete, end, rest = bytes(text).rpartition(b"\n")
        if not end:
            self._parts.append(rest)
            return []
        complete = b"".join((*self._parts, complete))
        self._parts = [rest]
        self.passed += complete.count(b"\n") + 1
        lines = self._matching_lines(complete) if self.request.match else complete.split(b"\n")
        if self.request.limit:
            lines = lines[: self.request.limit - self.given]
        self.given += len(lines)
        return lines

    def _matching_lines(self, text: bytes) -> list[bytes]:
        """Return the lines with a value that contains `match`."""
        try:
            value = self.request.match.encode(self.encoding, "surrogateescape")
        except UnicodeEncodeError:
            # No value in this encoding can contain it.
            return []
        needle, lines, at = escape_value(value), [], 0
        while (at := text.find(needle, at)) >= 0:
            begin = text.rfind(b"\n", 0, at) + 1
            end = text.find(b"\n", at)
            line = text[begin : end if end >= 0 else len(text)]
            # The bytes may also be part of an escape, or of two values.
            if any(value in found for raw in line.split(b"\t") if (found := unescape_value(raw)) is not None):
                lines.append(line)
            if end < 0:
                break
            at = end + 1
        return lines
