"""pg_dump's text on its way into the file: split, counted, joined by our rows, compared with the server's counts.

Nothing of this is needed before pg_dump runs, so it is loaded while the server answers it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..archive.codec import CHUNK, GATHERED, Compression, Summing, Sums, compressor
from ..archive.lexer import lex
from ..archive.strange import LexError
from ..archive.survey import Survey
from ..errors import BadInputError, TaskError, WorkError
from ..postgres import facts, locks, objects, schemas, state
from . import comparing
from .counting import Counting
from .pgdump import AloneError, last_error, timed_out
from .slicing import spliced

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO

    from .. import process
    from ..archive.codec import Packing
    from ..archive.manifest import Outline
    from .dumping import Request
    from .pgdump import PgDump
    from .slicing import Slicing

# What was seen, sums of file and content, tables whose rows were left out, and the facts for the manifest.
Streamed = tuple[Survey, Sums, Sums, tuple[str, ...], dict[str, object]]


def check_pattern(pg_dump: PgDump, pattern: str) -> None:
    """Let pg_dump itself judge a pattern of --exclude-data: it must match a table.

    :raises BadInputError: It does not.
    """
    survey = Survey()
    with pg_dump.match(pattern) as child:
        with contextlib.suppress(LexError):
            for _ in survey.watch(lex(pg_dump.read(child))):
                pass
        while child.stdout.read(CHUNK):
            pass
        code = child.wait()
    if code and timed_out(child.said):
        raise pg_dump.waited()
    # A pattern may match tables of PostgreSQL's own alone, which no dump holds.
    if code or not survey.created:
        raise BadInputError(
            f"--exclude-data={pattern} matches no table, so no rows would be left out. pg_dump reads a pattern "
            f"as psql does: capitals want double quotes, as in --exclude-data='\"AuditLog\"'. Nothing was "
            f"written."
        )


@dataclass
class Streaming:
    """A pg_dump that runs, and what is made of its text.

    :ivar tables: Those of its snapshot.
    :ivar rows: What our sessions read beside it.
    """

    request: Request
    pg_dump: PgDump
    child: process.Child
    tables: Sequence[facts.Table]
    rows: Slicing | None

    def into(self, file: IO[bytes], compression: Compression) -> Streamed:
        """Let its text, and the rows that we read, pass to the compressor while the server counts.

        :raises AloneError: It may go well without our sessions.
        :raises facts.MovedError: It may go well in another snapshot.
        :raises TaskError: The text is not whole, or is not what the server counts.
        """
        survey, sink = Survey(), Summing(file)
        summed = [table.key for table in self.tables] if self.request.checksums else []
        with (
            Counting(self.pg_dump.connection, self.tables, summed, self.pg_dump.target) as counting,
            # After an error it is stopped before anything else: it holds locks.
            self.child,
            compressor(sink, compression) as out,
        ):
            self._write(survey, out, counting)
            if self.child.wait() != 0 or not survey.complete:
                if self.rows is not None and not out.taken and not timed_out(self.child.said):
                    said = self.pg_dump.target.scrub(last_error(self.child.said))
                    raise AloneError(f"pg_dump failed beside our sessions: {said}")
                raise self._failure(counting, "pg_dump's output has no end")
            if self.rows is not None and not self.rows.placed:
                raise AloneError("pg_dump's text has no rows of its own beside which ours could stand")
            found, history, owners = counting.result()
            if unsummed := state.unsummed(found, summed):
                self.pg_dump.report.warn(unsummed)
            excluded = self._compare(survey, found.rows)
            self._warn_of_keys(survey)
            self._warn_of_locks(survey.outline())
            self._warn_of_indexes()
        kept = {key: total for key, total in found.checksums.items() if key in survey.rows}
        document = {**comparing.to_facts(replace(found, checksums=kept)), "history": history, "owners": owners}
        return survey, sink.sums, out.content, excluded, document

    def _write(self, survey: Survey, out: Packing, counting: Counting) -> None:
        estimate = sum(table.estimate for table in self.tables)
        try:
            shown = -GATHERED
            for event, _ in survey.watch(spliced(lex(self._chunks(counting)), self.rows)):
                out.write(event.text)
                if out.taken - shown > GATHERED:
                    self._progress(survey, estimate, out)
                    shown = out.taken
            self._progress(survey, estimate, out)
        except LexError as error:
            if self.child.stdout.read(1):
                # It goes on writing, and would wait for ever for somebody to read.
                self.child.stop()
                raise _not_whole(str(error)) from None
            raise self._failure(counting, str(error)) from None

    def _chunks(self, counting: Counting) -> Iterator[bytes]:
        """Hand on pg_dump's output; once it comes, others may read what it has locked."""
        for chunk in self.pg_dump.read(self.child):
            counting.begin()
            if self.rows is not None:
                self.rows.begin()
            if counting.failed:
                counting.result()
            yield chunk

    def _progress(self, survey: Survey, estimate: int, out: Packing) -> None:
        table = ".".join(survey.current) if survey.current else "definitions"
        self.pg_dump.report.progress(f"dumping {table}, {out.taken / 1e6:,.0f} MB", survey.total_rows, estimate, "rows")

    def _compare(self, survey: Survey, counted: Mapping[tuple[str, str], int]) -> tuple[str, ...]:
        """Compare pg_dump's rows with the server's; return the tables whose rows were left out."""
        known = {table.key for table in self.tables}
        unknown = [key for key in survey.rows if key not in known]
        absent = sorted(known - survey.rows.keys())
        if unknown or (absent and not self.request.exclude_data and not self.pg_dump.server.in_recovery):
            name = ".".join((unknown or absent)[0])
            raise WorkError(
                f"pg_dump and the server disagree about which tables there are ({name}). No dump was written."
            )
        for key, rows in survey.rows.items():
            if counted[key] != rows:
                raise WorkError(
                    f"{'.'.join(key)} has {counted[key]:,} rows at the server and {rows:,} in pg_dump's "
                    f"output, in one snapshot. No dump was written; run it again."
                )
        if self.request.exclude_data and not absent:
            self.pg_dump.report.warn(
                "--exclude-data left out no rows: its patterns match no table that holds any itself. Of a partitioned "
                "table, name the partitions."
            )
        return tuple(".".join(key) for key in absent)

    def _warn_of_keys(self, survey: Survey) -> None:
        """Say which foreign keys will refuse this dump, as the rows that they refer to are left out of it."""
        left_out = [table.oid for table in self.tables if table.key not in survey.rows]
        filled = [table.oid for table in self.tables if survey.rows.get(table.key)]
        for name, table, referenced in facts.keys_into(self.pg_dump.connection, left_out, filled):
            self.pg_dump.report.warn(
                f"Foreign key {name} of {table} refers to {referenced}, whose rows are left out: this dump can't be "
                f"restored while {table} refers to them. Leave out its rows, too."
            )

    def _warn_of_locks(self, outline: Outline) -> None:
        """Say where this very server has too few locks to restore the dump; a safety dump has passed that already."""
        if self.request.safety:
            return
        goes = schemas.content(self.pg_dump.connection, outline.schemas, locked=True).locks
        found = locks.ask(self.pg_dump.connection, goes + outline.takes)
        if not found.suffice:
            self.pg_dump.report.warn(
                f"This server could not restore the dump over what it holds now: that takes about {found.needed:,} "
                f"locks in one transaction, and there is room for {found.room:,}. {found.remedy}, before you need it."
            )

    def _warn_of_indexes(self) -> None:
        """Name what pg_dump leaves out without a word: indexes that are not valid, and the keys that need them."""
        for index, key in objects.invalid_indexes(self.pg_dump.connection):
            lost = f", nor {key}, which needs it" if key else ""
            self.pg_dump.report.warn(
                f"Index {index} is invalid: the dump does not contain it{lost}. Repair it with REINDEX INDEX {index}, "
                f"or drop it."
            )

    def _failure(self, counting: Counting, otherwise: str) -> TaskError:
        """Tell what went wrong, whoever noticed it first."""
        if counting.failed:
            counting.result()
        elif counting.ident is None:
            # pg_dump came to no output, perhaps since what the snapshot shows is gone.
            counting.look()
        code = self.child.wait()
        said = self.pg_dump.target.scrub(self.child.said)
        if timed_out(said):
            return self.pg_dump.waited()
        if locks.SETTING in said:
            return self.pg_dump.out_of_locks()
        if code == 0:
            return _not_whole(otherwise)
        what = last_error(said) or f"exit status {code}"
        # A snapshot lives in one server alone.
        hint = " A pooler or a proxy leads to several servers: use the direct URL." if "snapshot" in what else ""
        return WorkError(f"pg_dump failed: {what}. No dump was written; the database was only read.{hint}")


def _not_whole(why: str) -> WorkError:
    return WorkError(f"pg_dump's output is not whole: {why}. No dump was written.")
