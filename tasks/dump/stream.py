"""Process pg_dump's output: parse it, insert rows read in parallel, compress it, compare it with the server's counts.

This module is imported while pg_dump starts, because loading it takes time.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import psycopg

from ..dumpformat.applied_migration import MIGRATIONS_TABLE, history_to_document
from ..dumpformat.compression import CHUNK, GATHERED, Compression, SummingWriter, Sums, open_compressor
from ..dumpformat.foreign_head import LexError
from ..dumpformat.lexer import lex
from ..dumpformat.summary import DumpSummary
from ..errors import BadInputError, OperationFailedError, TaskError
from ..formatting import format_list, show_name
from ..inventory.compare import state_to_facts
from ..inventory.objects import invalid_indexes
from ..inventory.part import restrict_state
from ..inventory.reload_risks import read_reload_risks
from ..inventory.snapshot import DatabaseState, describe_unsummed, read_history, state_of_tables
from ..postgres.connection import translated
from ..postgres.lock_capacity import is_enough, read_lock_capacity
from ..postgres.roles import read_owners
from ..postgres.schemas import read_content
from ..postgres.search_path import read_search_path
from ..postgres.tables import Table, lock_tables, read_keys_into, read_unreadable, refuse_changed
from ..system.runtime import BackgroundTask
from .parallel import splice_rows
from .pg_dump import DumpFailure, ParallelReadUnavailableError, last_error
from .seek_points import SeekPoints

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from typing import IO

    from ..dumpformat.compression import CompressorThread
    from ..dumpformat.manifest import Outline
    from ..system.processes import StreamingProcess
    from .parallel import ParallelReader
    from .pg_dump import PgDump
    from .request import DumpRequest


_SHOWN_RISKS = 3
# Summary, checksums of file and content, tables whose rows were left out, `facts` and `seek_points` of the manifest.
Streamed = tuple[DumpSummary, Sums, Sums, tuple[tuple[str, str], ...], dict[str, object], list[dict[str, object]]]


def check_exclude_pattern(pg_dump: PgDump, pattern: str) -> None:
    """Check with pg_dump that a pattern of --exclude-data matches a table.

    :raises BadInputError: It matches none.
    """
    summary = DumpSummary()
    with pg_dump.match(pattern) as child:
        with contextlib.suppress(LexError):
            for _ in summary.watch(lex(pg_dump.read(child))):
                pass
        while child.stdout.read(CHUNK):
            pass
        code = child.wait()
    if code and pg_dump.failure(child.said) is DumpFailure.LOCK_TIMEOUT:
        raise pg_dump.waited()
    # A pattern may match only PostgreSQL's own tables, which no dump contains.
    if code or not summary.created:
        raise BadInputError(
            f"--exclude-data={pattern} matches no table, so no rows would be left out. Nothing was written. pg_dump "
            f"reads a pattern as psql does: names with capitals need double quotes, as in "
            f"--exclude-data='\"AuditLog\"'."
        )


@dataclass
class DumpStream:
    """A running pg_dump and the processing of its output.

    :ivar tables: The tables to dump; `all_tables` are all tables of the snapshot.
    :ivar rows: The rows that are read in parallel.
    """

    request: DumpRequest
    pg_dump: PgDump
    child: StreamingProcess
    tables: Sequence[Table]
    all_tables: Sequence[Table]
    rows: ParallelReader | None

    def into(self, file: IO[bytes], compression: Compression) -> Streamed:
        """Compress the output and the rows read in parallel, and write them, while the server counts.

        :raises ParallelReadUnavailableError: The dump may succeed without parallel reading.
        :raises TableChangedError: The dump may succeed with another snapshot.
        :raises TaskError: The output is incomplete, or differs from the server's counts.
        """
        summary, sink = DumpSummary(), SummingWriter(file)
        selection = self.pg_dump.selection
        sums = self.request.checksums and not selection.definitions_only
        summed = dict.fromkeys((table.key for table in self.tables), "") if sums else {}
        with (
            SnapshotCount(self.pg_dump, self.tables, summed) as counting,
            # After an error, pg_dump is stopped first, because it holds locks.
            self.child,
            open_compressor(sink, compression) as out,
        ):
            points = self._write(summary, out, counting)
            if self.child.wait() != 0 or not summary.complete:
                unread = self.rows is not None and not out.taken
                if unread and self.pg_dump.failure(self.child.said) is not DumpFailure.LOCK_TIMEOUT:
                    said = self.pg_dump.target.scrub(last_error(self.child.said))
                    raise ParallelReadUnavailableError(f"pg_dump failed during parallel reading: {said}")
                raise self._failure(counting, "pg_dump's output has no end")
            if self.rows is not None and not self.rows.placed:
                raise ParallelReadUnavailableError(
                    "pg_dump's output has no rows that show where to insert those read in parallel"
                )
            found, others = counting.result()
            if unsummed := describe_unsummed(found, summed):
                self.pg_dump.report.warn(unsummed)
            excluded = self._compare(summary, found)
            self._warn_of_keys(summary, excluded)
            if selection.is_part:
                created = summary.created_names
                if selection.definitions_only:
                    excluded = tuple(sorted(table.key for table in self.tables if ("RELATION", *table.key) in created))
                found = restrict_state(found, summary.outline(), created, selection.owners)
            else:
                self._warn_of_locks(summary.outline())
                self._warn_of_indexes()
                self._warn_of_reload()
        kept = {key: total for key, total in found.checksums.items() if key in summary.rows}
        facts = {**state_to_facts(replace(found, checksums=kept)), **others}
        if selection.is_part and (counting.schema, MIGRATIONS_TABLE) not in summary.rows:
            facts["history"] = None
        return summary, sink.sums, out.content, excluded, facts, points.document()

    def _write(self, summary: DumpSummary, out: CompressorThread, counting: SnapshotCount) -> SeekPoints:
        points = SeekPoints(out, summary)
        estimate = sum(table.estimate for table in self.tables)
        try:
            shown = -GATHERED
            for event, _ in summary.watch(splice_rows(lex(self._chunks(counting)), self.rows)):
                points.see(event)
                out.write(event.text)
                if out.taken - shown > GATHERED:
                    self._progress(summary, estimate, out)
                    shown = out.taken
            self._progress(summary, estimate, out)
        except LexError as error:
            if self.child.stdout.read(1):
                # pg_dump still writes, and would block because its output is no longer read.
                self.child.stop()
                raise _incomplete(str(error)) from None
            raise self._failure(counting, str(error)) from None
        return points

    def _chunks(self, counting: SnapshotCount) -> Iterator[bytes]:
        """Yield pg_dump's output. Start counting and parallel reading with it, as pg_dump holds its locks by then."""
        for chunk in self.pg_dump.read(self.child):
            counting.begin()
            if self.rows is not None:
                self.rows.begin()
            if counting.failed:
                counting.result()
            yield chunk

    def _progress(self, summary: DumpSummary, estimate: int, out: CompressorThread) -> None:
        table = ".".join(summary.current) if summary.current else "definitions"
        self.pg_dump.report.progress(
            f"dumping {table}, {out.taken / 1e6:,.0f} MB", summary.total_rows, estimate, "rows"
        )

    def _compare(self, summary: DumpSummary, found: DatabaseState) -> tuple[tuple[str, str], ...]:
        """Compare the row counts of pg_dump and the server; return the tables whose rows were left out."""
        counted = dict(found.rows)
        # pg_dump writes the rows of some partitions as those of the partitioned table.
        through = {
            key: top for key, (top, _) in found.partitions.items() if top in summary.rows and key not in summary.rows
        }
        for key, top in through.items():
            counted[top] = counted.get(top, 0) + counted.pop(key, 0)
        absent = counted.keys() - summary.rows.keys()
        unknown = summary.rows.keys() - counted.keys()
        if unknown or (absent and not self.request.exclude_data):
            name = ".".join(min(unknown or absent))
            raise OperationFailedError(
                f"pg_dump and the server do not list the same tables ({name}). No dump was written."
            )
        for key, rows in summary.rows.items():
            # Only pg_dump knows which of these partitions the patterns exclude.
            if counted[key] > rows and self.request.exclude_data and key in through.values():
                absent.add(key)
            elif counted[key] != rows:
                raise OperationFailedError(
                    f"{'.'.join(key)} has {counted[key]:,} rows on the server, but {rows:,} in pg_dump's output of the "
                    f"same snapshot. No dump was written. Run this again."
                )
        unlogged = self._unlogged()
        if self.request.exclude_data and not absent and not unlogged:
            self.pg_dump.report.warn(
                "--exclude-data left out no rows: its patterns match no table with rows of its own. For a partitioned "
                "table, name the partitions."
            )
        return tuple(sorted({*absent, *unlogged}))

    def _unlogged(self) -> list[tuple[str, str]]:
        """Return the unlogged tables on a standby, whose rows pg_dump leaves out; warn of them."""
        found = read_unreadable(self.pg_dump.connection)
        found = [each for each in found if self.pg_dump.selection.holds(each[:2])]
        tables = [(schema, name) for schema, name, is_table in found if is_table]
        if found:
            names = format_list([show_name((schema, name)) for schema, name, _ in found])
            self.pg_dump.report.warn(
                f"A standby can't read unlogged tables and their sequences, so the dump lacks the content of {names}. "
                f"To include it, dump the primary."
            )
        return tables

    def _warn_of_keys(self, summary: DumpSummary, excluded: Collection[tuple[str, str]]) -> None:
        """Warn of foreign keys that refer to rows or tables which are left out."""
        left_out = [table.oid for table in self.tables if table.key in excluded]
        filled = [table.oid for table in self.tables if summary.rows.get(table.key)]
        for name, table, referenced in read_keys_into(self.pg_dump.connection, left_out, filled):
            self.pg_dump.report.warn(
                f"Foreign key {name} of {table} refers to {referenced}, whose rows are left out. This dump can't be "
                f"restored while rows of {table} refer to them. Leave out the rows of {table}, too."
            )
        selection = self.pg_dump.selection
        if selection.rows_only or not selection.part.limits_objects:
            return
        if separate := selection.describe_separate_partitions():
            self.pg_dump.report.warn(separate)
        absent = [table.oid for table in self.all_tables if not selection.holds(table.key)]
        keys = read_keys_into(self.pg_dump.connection, absent, [table.oid for table in self.tables])
        if keys:
            names = format_list([f"{name} of {table} ({referenced})" for name, table, referenced in keys], _SHOWN_RISKS)
            self.pg_dump.report.warn(
                f"These foreign keys refer to tables that are not in the dump: {names}. A restore into a database "
                f"without these tables leaves the keys out."
            )

    def _warn_of_locks(self, outline: Outline) -> None:
        """Warn if this server may have too few locks to restore the dump. For a safety dump, the restore checks it."""
        if self.request.safety:
            return
        removed = read_content(self.pg_dump.connection, outline.schemas, locked=True).locks
        found = read_lock_capacity(self.pg_dump.connection, removed + outline.takes)
        if not found.suffice:
            self.pg_dump.report.warn(
                f"This server may have too few locks to restore the dump into this database: a restore needs about "
                f"{found.needed:,} in one transaction, and about {found.room:,} are available. Before a restore: "
                f"{found.remedy}."
            )

    def _warn_of_indexes(self) -> None:
        """Warn of invalid indexes and the keys that need them, which pg_dump leaves out without a message."""
        for index, key in invalid_indexes(self.pg_dump.connection):
            lost = f", and it does not contain {key}, which needs the index" if key else ""
            self.pg_dump.report.warn(
                f"Index {index} is invalid, so the dump does not contain it{lost}. Drop it, or repair it with "
                f"REINDEX INDEX {index}."
            )

    def _warn_of_reload(self) -> None:
        """Warn of definitions that may fail to load. After a safety dump, the restore or reset reports them."""
        found = () if self.request.safety else read_reload_risks(self.pg_dump.connection)
        for each in found[:_SHOWN_RISKS]:
            self.pg_dump.report.warn(f"{each}. It may fail to load. {each.remedy}")
        if more := len(found[_SHOWN_RISKS:]):
            self.pg_dump.report.warn(f"{more:,} more definitions may fail to load. `inv db.doctor` lists them.")

    def _failure(self, counting: SnapshotCount, otherwise: str) -> TaskError:
        """Return the error, or raise that of the counting."""
        if counting.failed:
            counting.result()
        elif counting.ident is None:
            # pg_dump wrote nothing, perhaps because a table was rewritten after the snapshot.
            counting.check_tables()
        code = self.child.wait()
        said = self.pg_dump.target.scrub(self.child.said)
        failure = self.pg_dump.failure(said)
        if failure is DumpFailure.LOCK_TIMEOUT:
            return self.pg_dump.waited()
        if failure is DumpFailure.OUT_OF_LOCKS:
            return self.pg_dump.out_of_locks()
        if code == 0:
            return _incomplete(otherwise)
        what = last_error(said) or f"exit status {code}"
        foreign = failure is DumpFailure.FOREIGN_SNAPSHOT
        hint = " A pooler or proxy led to another server. Use the direct URL." if foreign else ""
        return OperationFailedError(f"pg_dump failed: {what}. No dump was written. The database was only read.{hint}")


def _incomplete(why: str) -> OperationFailedError:
    return OperationFailedError(f"pg_dump's output is not complete: {why}. No dump was written.")


class SnapshotCount(BackgroundTask[tuple[DatabaseState, dict[str, object]]]):
    """A task that locks and counts the tables in the snapshot's session while pg_dump writes; a context manager.

    Its result is the content of the snapshot, and the `facts` of the manifest that are not a part of the content.

    :param summed: The tables to compute checksums of, as in :func:`read_state`.
    :ivar schema: The schema of Prisma's history.
    """

    def __init__(self, pg_dump: PgDump, tables: Sequence[Table], summed: Mapping[tuple[str, str], str]) -> None:
        super().__init__(self._count)
        self._pg_dump = pg_dump
        self._connection = pg_dump.connection
        self._tables = tables
        self._summed = summed
        self.schema = pg_dump.target.schema or "public"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_alive():
            with contextlib.suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=5)
            self.join(timeout=10)

    def begin(self) -> None:
        """Start on the first call. Call it once pg_dump has its locks."""
        if self.ident is None:
            self.start()

    def result(self) -> tuple[DatabaseState, dict[str, object]]:
        """Wait for the result.

        :raises TaskError: A table could not be locked or read, or was rewritten meanwhile.
        """
        self.begin()
        return super().result()

    def check_tables(self) -> None:
        """Check that no table was rewritten after the snapshot.

        :raises TableChangedError: A table was rewritten.
        """
        refuse_changed(self._connection, self._tables)

    def _count(self) -> tuple[DatabaseState, dict[str, object]]:
        """Lock the tables, check them, and read the state."""
        with (
            translated("Counting the rows failed, and no dump was written", self._pg_dump.target),
            is_enough(self._connection, len(self._tables), "No dump was written."),
        ):
            lock_tables(self._connection, self._tables)
            self.check_tables()
            with_rows = not self._pg_dump.selection.definitions_only
            found = state_of_tables(self._connection, self._tables, self._summed, with_rows=with_rows)
            # The time zone is UTC now (see PINNED).
            history = history_to_document(read_history(self._connection, self.schema))
            search_path = list(read_search_path(self._connection))
            return found, {"history": history, "owners": read_owners(self._connection), "search_path": search_path}
