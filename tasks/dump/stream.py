"""pg_dump's text on its way into the file: split, counted, joined by our rows, compared with the server's counts.

Nothing of this is needed before pg_dump runs, so it is loaded while the server answers it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Self

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

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from typing import IO

    from ..config.target import Target
    from ..dumpformat.applied_migration import AppliedMigration
    from ..dumpformat.compression import CompressorThread
    from ..dumpformat.manifest import Outline
    from ..postgres.connection import Connection
    from ..system.processes import StreamingProcess
    from .parallel import ParallelReader
    from .pg_dump import PgDump
    from .request import DumpRequest


_SHOWN_RISKS = 3
# What was seen, sums of file and content, tables whose rows were left out, and the facts for the manifest.
Streamed = tuple[DumpSummary, Sums, Sums, tuple[tuple[str, str], ...], dict[str, object]]


def check_exclude_pattern(pg_dump: PgDump, pattern: str) -> None:
    """Let pg_dump itself judge a pattern of --exclude-data: it must match a table.

    :raises BadInputError: It does not.
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
    # A pattern may match tables of PostgreSQL's own alone, which no dump holds.
    if code or not summary.created:
        raise BadInputError(
            f"--exclude-data={pattern} matches no table, so no rows would be left out. pg_dump reads a pattern "
            f"as psql does: capitals want double quotes, as in --exclude-data='\"AuditLog\"'. Nothing was "
            f"written."
        )


@dataclass
class DumpStream:
    """A pg_dump that runs, and what is made of its text.

    :ivar tables: Those of its snapshot that it dumps, of all that there are.
    :ivar rows: What our sessions read beside it.
    """

    request: DumpRequest
    pg_dump: PgDump
    child: StreamingProcess
    tables: Sequence[Table]
    all_tables: Sequence[Table]
    rows: ParallelReader | None

    def into(self, file: IO[bytes], compression: Compression) -> Streamed:
        """Let its text, and the rows that we read, pass to the compressor while the server counts.

        :raises ParallelReadUnavailableError: It may go well without our sessions.
        :raises TableChangedError: It may go well in another snapshot.
        :raises TaskError: The text is not whole, or is not what the server counts.
        """
        summary, sink = DumpSummary(), SummingWriter(file)
        selection = self.pg_dump.selection
        with_rows = not selection.schema_only
        sums = with_rows and self.request.checksums
        summed = dict.fromkeys((table.key for table in self.tables), "") if sums else {}
        with (
            SnapshotCount(
                self.pg_dump.connection, self.tables, summed, self.pg_dump.target, with_rows=with_rows
            ) as counting,
            # After an error it is stopped before anything else: it holds locks.
            self.child,
            open_compressor(sink, compression) as out,
        ):
            self._write(summary, out, counting)
            if self.child.wait() != 0 or not summary.complete:
                unread = self.rows is not None and not out.taken
                if unread and self.pg_dump.failure(self.child.said) is not DumpFailure.LOCK_TIMEOUT:
                    said = self.pg_dump.target.scrub(last_error(self.child.said))
                    raise ParallelReadUnavailableError(f"pg_dump failed beside our sessions: {said}")
                raise self._failure(counting, "pg_dump's output has no end")
            if self.rows is not None and not self.rows.placed:
                raise ParallelReadUnavailableError(
                    "pg_dump's text has no rows of its own beside which ours could stand"
                )
            found, history, owners, search_path = counting.result()
            if unsummed := describe_unsummed(found, summed):
                self.pg_dump.report.warn(unsummed)
            excluded = self._compare(summary, found)
            self._warn_of_keys(summary, excluded)
            if selection.is_part:
                created = summary.created_names
                excluded = self._without_rows(excluded, created)
                found = restrict_state(found, summary.outline(), created, selection.owners)
            else:
                self._warn_of_locks(summary.outline())
                self._warn_of_indexes()
                self._warn_of_reload()
        kept = {key: total for key, total in found.checksums.items() if key in summary.rows}
        document = {
            **state_to_facts(replace(found, checksums=kept)),
            "history": history_to_document(history if self._holds_history(summary) else None),
            "owners": owners,
            "search_path": search_path,
        }
        return summary, sink.sums, out.content, excluded, document

    def _without_rows(
        self, excluded: tuple[tuple[str, str], ...], created: Collection[tuple[str, str, str]]
    ) -> tuple[tuple[str, str], ...]:
        """Return the tables whose definitions it holds, and not the rows."""
        defined = {table.key for table in self.tables if ("RELATION", *table.key) in created}
        return tuple(sorted(defined)) if self.pg_dump.selection.schema_only else excluded

    def _holds_history(self, summary: DumpSummary) -> bool:
        """Return whether the rows of Prisma's history are in it."""
        schema = self.pg_dump.target.schema or "public"
        return not self.pg_dump.selection.is_part or (schema, MIGRATIONS_TABLE) in summary.rows

    def _write(self, summary: DumpSummary, out: CompressorThread, counting: SnapshotCount) -> None:
        estimate = sum(table.estimate for table in self.tables)
        try:
            shown = -GATHERED
            for event, _ in summary.watch(splice_rows(lex(self._chunks(counting)), self.rows)):
                out.write(event.text)
                if out.taken - shown > GATHERED:
                    self._progress(summary, estimate, out)
                    shown = out.taken
            self._progress(summary, estimate, out)
        except LexError as error:
            if self.child.stdout.read(1):
                # It goes on writing, and would wait for ever for somebody to read.
                self.child.stop()
                raise _not_whole(str(error)) from None
            raise self._failure(counting, str(error)) from None

    def _chunks(self, counting: SnapshotCount) -> Iterator[bytes]:
        """Hand on pg_dump's output; once it comes, others may read what it has locked."""
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
        """Compare pg_dump's rows with the server's; return the tables whose rows were left out."""
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
                f"pg_dump and the server disagree about which tables there are ({name}). No dump was written."
            )
        for key, rows in summary.rows.items():
            # Which of these partitions the patterns leave out pg_dump alone knows.
            if counted[key] > rows and self.request.exclude_data and key in through.values():
                absent.add(key)
            elif counted[key] != rows:
                raise OperationFailedError(
                    f"{'.'.join(key)} has {counted[key]:,} rows at the server and {rows:,} in pg_dump's "
                    f"output, in one snapshot. No dump was written; run it again."
                )
        unlogged = self._unlogged()
        if self.request.exclude_data and not absent and not unlogged:
            self.pg_dump.report.warn(
                "--exclude-data left out no rows: its patterns match no table that holds any itself. Of a partitioned "
                "table, name the partitions."
            )
        return tuple(sorted({*absent, *unlogged}))

    def _unlogged(self) -> list[tuple[str, str]]:
        """Name the tables whose rows a standby can't read, which pg_dump then leaves out, too."""
        found = read_unreadable(self.pg_dump.connection)
        found = [each for each in found if self.pg_dump.selection.holds(each[:2])]
        tables = [(schema, name) for schema, name, is_table in found if is_table]
        if found:
            names = format_list([show_name((schema, name)) for schema, name, _ in found])
            self.pg_dump.report.warn(
                f"A standby can't read unlogged tables and their sequences: the dump lacks what they hold ({names}). "
                f"Dump the primary to have it."
            )
        return tables

    def _warn_of_keys(self, summary: DumpSummary, excluded: Collection[tuple[str, str]]) -> None:
        """Say which foreign keys will refuse this dump, as the rows that they refer to are left out of it.

        Or the tables: then the keys can only be created where these exist.
        """
        left_out = [table.oid for table in self.tables if table.key in excluded]
        filled = [table.oid for table in self.tables if summary.rows.get(table.key)]
        for name, table, referenced in read_keys_into(self.pg_dump.connection, left_out, filled):
            self.pg_dump.report.warn(
                f"Foreign key {name} of {table} refers to {referenced}, whose rows are left out: this dump can't be "
                f"restored while {table} refers to them. Leave out its rows, too."
            )
        selection = self.pg_dump.selection
        if selection.data_only or not selection.limits_objects:
            return
        absent = [table.oid for table in self.all_tables if not selection.holds(table.key)]
        keys = read_keys_into(self.pg_dump.connection, absent, [table.oid for table in self.tables])
        if keys:
            names = format_list([f"{name} of {table} ({referenced})" for name, table, referenced in keys], _SHOWN_RISKS)
            self.pg_dump.report.warn(
                f"The dump does not hold the tables that these foreign keys refer to: {names}. Where these tables are "
                f"missing, a restore leaves the keys out."
            )

    def _warn_of_locks(self, outline: Outline) -> None:
        """Say where this very server may have too few locks to restore the dump; a restore says it itself."""
        if self.request.safety:
            return
        removed = read_content(self.pg_dump.connection, outline.schemas, locked=True).locks
        found = read_lock_capacity(self.pg_dump.connection, removed + outline.takes)
        if not found.suffice:
            self.pg_dump.report.warn(
                f"This server may not be able to restore the dump over what it holds now: that takes about "
                f"{found.needed:,} locks in one transaction, and there is room for about {found.room:,}. "
                f"{found.remedy}, before you need it."
            )

    def _warn_of_indexes(self) -> None:
        """Name what pg_dump leaves out without a word: indexes that are not valid, and the keys that need them."""
        for index, key in invalid_indexes(self.pg_dump.connection):
            lost = f", nor {key}, which needs it" if key else ""
            self.pg_dump.report.warn(
                f"Index {index} is invalid: the dump does not contain it{lost}. Repair it with REINDEX INDEX {index}, "
                f"or drop it."
            )

    def _warn_of_reload(self) -> None:
        """Name what may not load from this dump; of a safety dump the restore or reset says it."""
        found = () if self.request.safety else read_reload_risks(self.pg_dump.connection)
        for each in found[:_SHOWN_RISKS]:
            self.pg_dump.report.warn(f"{each}. A restore may refuse it. {each.remedy}")
        if more := len(found) - _SHOWN_RISKS if len(found) > _SHOWN_RISKS else 0:
            self.pg_dump.report.warn(f"{more:,} more definitions may not load from this dump: see `inv db.doctor`.")

    def _failure(self, counting: SnapshotCount, otherwise: str) -> TaskError:
        """Tell what went wrong, whoever noticed it first."""
        if counting.failed:
            counting.result()
        elif counting.ident is None:
            # pg_dump came to no output, perhaps since what the snapshot shows is gone.
            counting.look()
        code = self.child.wait()
        said = self.pg_dump.target.scrub(self.child.said)
        failure = self.pg_dump.failure(said)
        if failure is DumpFailure.LOCK_TIMEOUT:
            return self.pg_dump.waited()
        if failure is DumpFailure.OUT_OF_LOCKS:
            return self.pg_dump.out_of_locks()
        if code == 0:
            return _not_whole(otherwise)
        what = last_error(said) or f"exit status {code}"
        foreign = failure is DumpFailure.FOREIGN_SNAPSHOT
        hint = " A pooler or a proxy leads to several servers: use the direct URL." if foreign else ""
        return OperationFailedError(f"pg_dump failed: {what}. No dump was written; the database was only read.{hint}")


def _not_whole(why: str) -> OperationFailedError:
    return OperationFailedError(f"pg_dump's output is not whole: {why}. No dump was written.")


class Counted(NamedTuple):
    """What the snapshot holds.

    :ivar history: Prisma's migrations; None where there is no history.
    :ivar owners: All owners of objects, each with whether it is a superuser.
    :ivar search_path: The schemas in which the role's own sessions look up names.
    """

    state: DatabaseState
    history: tuple[AppliedMigration, ...] | None
    owners: dict[str, bool]
    search_path: list[str]


class SnapshotCount(BackgroundTask[Counted]):
    """Locks and counts the tables in the snapshot's session while pg_dump writes.

    A context manager; :meth:`begin` starts it, once pg_dump holds its own locks.

    :param summed: The tables whose content is summed, too, as in :func:`read_state`.
    :param target: Says where Prisma keeps its history, and where to ask who holds a lock.
    :param with_rows: Whether they are counted.
    """

    def __init__(
        self,
        connection: Connection,
        tables: Sequence[Table],
        summed: Mapping[tuple[str, str], str] | None = None,
        target: Target | None = None,
        *,
        with_rows: bool = True,
    ) -> None:
        super().__init__(self._count)
        self._connection = connection
        self._tables = tables
        self._with_rows = with_rows
        self._summed = summed or {}
        self._target = target

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_alive():
            with contextlib.suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=5)
            self.join(timeout=10)

    def begin(self) -> None:
        """Start, the first time that this is called."""
        if self.ident is None:
            self.start()

    def result(self) -> Counted:
        """Wait for what the snapshot holds.

        :raises TaskError: A table could not be locked or read, or was rewritten meanwhile.
        """
        self.begin()
        return super().result()

    def look(self) -> None:
        """Look whether the tables are still those of the snapshot.

        :raises TableChangedError: One is not.
        """
        refuse_changed(self._connection, self._tables)

    def _count(self) -> Counted:
        """Lock, look whether the tables are still the snapshot's, count."""
        with (
            translated("Counting the rows at the server failed, no dump was written", self._target),
            is_enough(self._connection, len(self._tables), "No dump was written."),
        ):
            lock_tables(self._connection, self._tables)
            self.look()
            found = state_of_tables(self._connection, self._tables, self._summed, with_rows=self._with_rows)
            # In UTC by now.
            history = read_history(self._connection, (self._target.schema if self._target else None) or "public")
            return Counted(found, history, read_owners(self._connection), list(read_search_path(self._connection)))
