"""Dump: one snapshot, pg_dump and our own counts of it, and a file that is whole or isn't there."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .. import process
from ..archive.codec import CHUNK, GATHERED, Compression, Summing, Sums, compressor
from ..archive.lexer import LexError, lex
from ..archive.manifest import Manifest
from ..archive.survey import Survey
from ..errors import BadInputError, MissingProgramError, ServerError, TaskError, WorkError
from ..postgres import clients, facts, locks, rights, schemas, slices
from ..postgres.session import KEEPALIVES, blocked, connected, exported_snapshot, one, server_facts, translated
from . import comparing, guard, placing, room
from .beside import Beside
from .counting import Counting, MovedError
from .slicing import AloneError, Slicing, slicing, spliced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ..archive import publish
    from ..archive.codec import Packing
    from ..archive.manifest import Outline
    from ..postgres.clients import Client
    from ..postgres.session import Connection, ServerFacts
    from ..postgres.target import Target
    from ..settings import Settings
    from .report import Report

# What was seen, sums of file and content, tables whose rows were left out, and the facts for the manifest.
Streamed = tuple[Survey, Sums, Sums, tuple[str, ...], dict[str, object]]
# Whether a pg_dump that this session's owner began after it has been waiting for a lock for that many milliseconds.
_WAITS = """
SELECT EXISTS (
  SELECT FROM pg_catalog.pg_stat_activity ours, pg_catalog.pg_stat_activity pg_dump
   WHERE ours.pid = %s AND pg_dump.datid = ours.datid AND pg_dump.usesysid = ours.usesysid
     AND pg_dump.client_addr IS NOT DISTINCT FROM ours.client_addr AND pg_dump.backend_start >= ours.backend_start
     AND pg_dump.application_name = 'pg_dump' AND pg_dump.wait_event_type = 'Lock'
     AND pg_dump.query_start <= clock_timestamp() - %s * interval '1 millisecond')
"""
# Tables that are rewritten again and again are a sentence, not an endless loop.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Request:
    """What a person asked for.

    :ivar compression: None where no flag says; then the file's name or the configuration does.
    :ivar file: A path or a bare name; empty for a name made of the time.
    :ivar exclude_data: pg_dump's patterns of tables whose rows are left out.
    :ivar checksums: Sum the content of every table at the server, too.
    :ivar safety: It is a safety dump: it lies and is named apart from the others.
    :ivar place: Where the connection must lead; None for wherever the URL does.
    :ivar transaction: The number of the transaction that it is made for, which goes into the manifest.
    """

    compression: Compression | None = None
    file: str = ""
    note: str = ""
    exclude_data: tuple[str, ...] = ()
    checksums: bool = False
    safety: bool = False
    place: guard.Place | None = None
    transaction: str = ""


@dataclass(frozen=True)
class Dumped:
    """A dump that was published."""

    path: Path
    manifest: Manifest


def dump(
    settings: Settings,
    request: Request,
    report: Report,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Dumped | None:
    """Dump the whole database into one file with its manifest.

    :return: The dump, or None in a dry run.
    :raises TaskError: No dump was made, and no file of it is left; the database is never changed.
    """
    target = settings.target()
    place = placing.place(settings, request.file, request.compression)
    if request.safety:
        place = placing.safety_place(settings)
    if not settings.dry:
        placing.prepare_folder(settings.dumps)
        if request.safety:
            placing.prepare_folder(place.folder)
    if target.pooled:
        advice = f"; {target.advice}" if target.advice else ""
        report.warn(
            f"The URL looks like a connection pool's. If this fails, use the direct URL: --url-env=DIRECT_URL{advice}."
        )
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("The server failed us, and no dump was written"),
    ):
        server = server_facts(connection)
        if request.place is not None:
            guard.refuse_another(connection, request.place)
        client = clients.find("pg_dump", server.major, bin_dir=settings.bin_dir, environ=settings.environ)
        work = _Work(settings, request, report, target, server, client, connection)
        work.check_patterns()
        if not request.exclude_data:
            room.check(settings, place, connection, server, report)
        if settings.dry:
            report.step(f"would dump {target.label} with pg_dump {client.version} into {place.name(now())}")
            return None
        when = now()
        with placing.reserved(place, when) as (part, final):
            return work.dump(part, final, when)


@dataclass
class _Work:
    """One dump in the making."""

    settings: Settings
    request: Request
    report: Report
    target: Target
    server: ServerFacts
    client: Client
    connection: Connection

    def check_patterns(self) -> None:
        """Let pg_dump itself judge the patterns of --exclude-data: each must match a table."""
        for pattern in self.request.exclude_data:
            argv = [*self._connect(), "--schema-only", *self._lock_wait(), "--strict-names", f"--table={pattern}"]
            survey = Survey()
            with process.Child(argv, extra=self.target.child_environment()) as child:
                with contextlib.suppress(LexError):
                    for _ in survey.watch(lex(self._read(child))):
                        pass
                while child.stdout.read(CHUNK):
                    pass
                code = child.wait()
            if code and _timed_out(child.said):
                raise self._waited()
            # A pattern may match tables of PostgreSQL's own alone, which no dump holds.
            if code or not survey.created:
                raise BadInputError(
                    f"--exclude-data={pattern} matches no table, so no rows would be left out. pg_dump reads a pattern "
                    f"as psql does: capitals want double quotes, as in --exclude-data='\"AuditLog\"'. Nothing was "
                    f"written."
                )

    def _read(self, child: process.Child) -> Iterator[bytes]:
        self._await_output(child)
        while chunk := child.stdout.read(CHUNK):
            yield chunk
            self._await_output(child)

    def dump(self, part: publish.Part, final: Path, when: datetime) -> Dumped:
        """Run pg_dump into the part file, compare, and publish."""
        began = time.monotonic()
        try:
            git = Beside(lambda: git_state(self.settings.root))
            git.start()
            survey, file, content, excluded, found = self._attempts(part, final)
            manifest = Manifest(
                created=when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                note=self.request.note,
                git=git.result(),
                source=self._source(),
                pg_dump={"version": self.client.version, "options": self._options()},
                file_name=final.name,
                compression=Compression.of_name(final.name) or Compression.NONE,
                file=file,
                content=content,
                tables=survey.tables(),
                excluded_data=excluded,
                sequences=tuple(sorted(survey.sequences.values())),
                outline=survey.outline(),
                facts=found,
                extra={"transaction": self.request.transaction} if self.request.transaction else {},
                seconds=round(time.monotonic() - began, 3),
            )
            placing.publish_both(part, final, manifest)
            process.stands(f"{final} was written just before, and is whole.")
        except process.Interruption as interruption:
            if final.exists():
                interruption.state = f"{final} was written just before, and is whole."
            else:
                interruption.state = "No dump was written; the database was only read."
            raise
        except OSError as error:
            raise placing.disk_error(error, final) from None
        return Dumped(final, manifest)

    def _attempts(self, part: publish.Part, final: Path) -> Streamed:
        # Of what the patterns leave out pg_dump alone knows, and a pooler makes no promise about several sessions.
        attempt, sliced = 1, not (self.request.exclude_data or self.target.pooled)
        while True:
            try:
                return self._stream(part, final, sliced=sliced)
            except AloneError as error:
                self.report.detail(f"{error}. Beginning again with pg_dump alone.")
                sliced = False
            except MovedError as error:
                if attempt == _ATTEMPTS:
                    raise
                attempt += 1
                self.report.warn(f"{error} Beginning again with a new snapshot.")
            part.file.seek(0)
            part.file.truncate()

    def _stream(self, part: publish.Part, final: Path, *, sliced: bool) -> Streamed:
        """Let pg_dump's output, and the rows that we read, pass to the compressor while the server counts.

        :param sliced: Read the rows of large tables ourselves.
        """
        survey, sink = Survey(), Summing(part.file)
        compression = Compression.of_name(final.name) or Compression.NONE
        with contextlib.ExitStack() as stack:
            snapshot = stack.enter_context(exported_snapshot(self.connection))
            tables = facts.tables(self.connection)
            self._refuse_hidden(tables)
            summed = [table.key for table in tables] if self.request.checksums else []
            counting = stack.enter_context(Counting(self.connection, tables, summed, self.target))
            large = slices.choose(self.connection, self.server, tables) if sliced else []
            rows = stack.enter_context(slicing(large, snapshot, self.target, self.connection, self._reached()))
            child = stack.enter_context(self._pg_dump(snapshot, rows))
            out = stack.enter_context(compressor(sink, compression))
            estimate = sum(table.estimate for table in tables)
            try:
                shown = -GATHERED
                for event, _ in survey.watch(spliced(lex(self._chunks(child, counting, rows)), rows)):
                    out.write(event.text)
                    if out.taken - shown > GATHERED:
                        self._progress(survey, estimate, out)
                        shown = out.taken
                self._progress(survey, estimate, out)
            except LexError as error:
                if child.stdout.read(1):
                    # It goes on writing, and would wait for ever for somebody to read.
                    child.stop()
                    raise _not_whole(str(error)) from None
                raise self._failure(child, counting, str(error)) from None
            if child.wait() != 0 or not survey.complete:
                if rows is not None and not out.taken and not _timed_out(child.said):
                    raise AloneError(
                        f"pg_dump failed beside our sessions: {self.target.scrub(_last_error(child.said))}"
                    )
                raise self._failure(child, counting, "pg_dump's output has no end")
            if rows is not None and not rows.placed:
                raise AloneError("pg_dump's text has no rows of its own beside which ours could stand")
            found, history = counting.result()
            excluded = self._compare(survey, tables, found.rows)
            self._warn_of_keys(survey, tables)
            self._warn_of_locks(survey.outline())
        kept = {key: total for key, total in found.checksums.items() if key in survey.rows}
        document = {**comparing.to_facts(replace(found, checksums=kept)), "history": history}
        return survey, sink.sums, out.content, excluded, document

    def _refuse_hidden(self, tables: Sequence[facts.Table]) -> None:
        """Refuse where row-level security would hide rows, before pg_dump does, which names one table alone."""
        first, *others = rights.hidden(self.connection, tables) or ("",)
        if first:
            more = f" and {len(others)} more" if others else ""
            raise BadInputError(
                f"Row-level security hides rows of {first}{more} from {self.server.user}, so a dump would lack "
                f"them. No dump was written. Let a superuser run ALTER ROLE … BYPASSRLS, or name the URL of one that "
                f"sees them with --url-env."
            )

    def _chunks(self, child: process.Child, counting: Counting, rows: Slicing | None) -> Iterator[bytes]:
        """Hand on pg_dump's output; once it comes, others may read what it has locked."""
        self._await_output(child)
        while chunk := child.read(CHUNK):
            counting.begin()
            if rows is not None:
                rows.begin()
            if counting.failed:
                counting.result()
            yield chunk
            self._await_output(child)

    def _await_output(self, child: process.Child) -> None:
        """Wait until pg_dump says something, but no longer than allowed for a lock.

        Its own limit is for tables alone: a view or a sequence that a migration has locked would hold it,
        and us, for ever.
        """
        allowed = self.settings.lock_timeout
        while allowed and not child.readable(allowed / 1000):
            with contextlib.suppress(TaskError), connected(self.target) as other, translated("Looking for locks"):
                waits = one(other, _WAITS, [self.connection.info.backend_pid, allowed])[0]
                if waits:
                    break
        else:
            return
        raise self._waited()

    def _waited(self) -> ServerError:
        return ServerError(f"pg_dump gave up: {blocked(self.target, reading=True)}. No dump was written.")

    def _reached(self) -> dict[str, str]:
        """Name the server that the snapshot's connection has reached, of several hosts, for all that must reach it."""
        info = self.connection.info
        reached = {"host": info.host, "port": str(info.port)}
        if info.hostaddr and not info.host.startswith("/"):
            reached["hostaddr"] = info.hostaddr
        return reached

    def _connect(self) -> list[str]:
        kept = {**KEEPALIVES, **self.target.keywords, **self._reached(), "application_name": "pg_dump"}
        return [str(self.client.path), f"--dbname={self.target.conninfo(**kept)}", "--no-password"]

    def _pg_dump(self, snapshot: str, rows: Slicing | None) -> process.Child:
        ours = [f"--exclude-table-data={pattern}" for pattern in rows.patterns()] if rows is not None else []
        return process.Child(
            [*self._connect(), f"--snapshot={snapshot}", *self._options(), *ours],
            extra=self.target.child_environment(),
            on_line=lambda line: self.report.detail(self.target.scrub(line)),
        )

    def _options(self) -> list[str]:
        """Build pg_dump's options, without those that say which server."""
        return [
            "--clean",
            "--if-exists",
            *self._lock_wait(),
            *(["--no-unlogged-table-data"] if self.server.in_recovery else []),
            *([] if self.server.encoding == "SQL_ASCII" else ["--encoding=UTF8"]),
            *(["--verbose"] if self.settings.output.value == "verbose" else []),
            *(f"--exclude-table-data={pattern}" for pattern in self.request.exclude_data),
        ]

    def _lock_wait(self) -> list[str]:
        wait = self.settings.lock_timeout
        return [f"--lock-wait-timeout={wait}"] if wait else []

    def _progress(self, survey: Survey, estimate: int, out: Packing) -> None:
        table = ".".join(survey.current) if survey.current else "definitions"
        self.report.progress(f"dumping {table}, {out.taken / 1e6:,.0f} MB", survey.total_rows, estimate, "rows")

    def _compare(
        self, survey: Survey, tables: Sequence[facts.Table], counted: Mapping[tuple[str, str], int]
    ) -> tuple[str, ...]:
        """Compare pg_dump's rows with the server's; return the tables whose rows were left out."""
        known = {table.key for table in tables}
        unknown = [key for key in survey.rows if key not in known]
        absent = sorted(known - survey.rows.keys())
        if unknown or (absent and not self.request.exclude_data and not self.server.in_recovery):
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
            self.report.warn(
                "--exclude-data left out no rows: its patterns match no table that holds any itself. Of a partitioned "
                "table, name the partitions."
            )
        return tuple(".".join(key) for key in absent)

    def _warn_of_keys(self, survey: Survey, tables: Sequence[facts.Table]) -> None:
        """Say which foreign keys will refuse this dump, as the rows that they refer to are left out of it."""
        left_out = [table.oid for table in tables if table.key not in survey.rows]
        filled = [table.oid for table in tables if survey.rows.get(table.key)]
        for name, table, referenced in facts.keys_into(self.connection, left_out, filled):
            self.report.warn(
                f"Foreign key {name} of {table} refers to {referenced}, whose rows are left out: this dump can't be "
                f"restored while {table} refers to them. Leave out its rows, too."
            )

    def _warn_of_locks(self, outline: Outline) -> None:
        """Say where this very server has too few locks to restore the dump; a safety dump has passed that already."""
        if self.request.safety:
            return
        goes = schemas.content(self.connection, outline.schemas, locked=True).locks
        found = locks.ask(self.connection, goes + outline.takes)
        if not found.suffice:
            self.report.warn(
                f"This server could not restore the dump over what it holds now: that takes about {found.needed:,} "
                f"locks in one transaction, and there is room for {found.room:,}. {found.remedy}, before you need it."
            )

    def _failure(self, child: process.Child, counting: Counting, otherwise: str) -> TaskError:
        """Tell what went wrong, whoever noticed it first."""
        if counting.failed:
            counting.result()
        elif counting.ident is None:
            # pg_dump came to no output, perhaps since what the snapshot shows is gone.
            counting.look()
        code = child.wait()
        said = self.target.scrub(child.said)
        if _timed_out(said):
            return self._waited()
        if locks.SETTING in said:
            return self._out_of_locks()
        if code == 0:
            return _not_whole(otherwise)
        what = _last_error(said) or f"exit status {code}"
        # A snapshot lives in one server alone.
        hint = " A pooler or a proxy leads to several servers: use the direct URL." if "snapshot" in what else ""
        return WorkError(f"pg_dump failed: {what}. No dump was written; the database was only read.{hint}")

    def _out_of_locks(self) -> WorkError:
        with connected(self.target) as other, translated("pg_dump ran out of locks, and no dump was written"):
            tables = len(facts.tables(other))
            return locks.spent(locks.of_reading(other, tables), tables, "No dump was written.")

    def _source(self) -> dict[str, object]:
        info = self.connection.info
        return {
            "host": info.host,
            "port": info.port,
            "database": self.server.database,
            "server_version": self.server.version,
            "system_identifier": self.server.system_identifier,
        }


def git_state(root: Path) -> dict[str, object] | None:
    """Tell the commit of the project, and whether tracked files differ from it; None outside git."""
    with contextlib.suppress(MissingProgramError):
        commit = process.run(["git", "-C", root, "rev-parse", "HEAD"])
        if commit.returncode == 0:
            status = process.run(["git", "-C", root, "status", "--porcelain", "--untracked-files=no"])
            return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}
    return None


def _not_whole(why: str) -> WorkError:
    return WorkError(f"pg_dump's output is not whole: {why}. No dump was written.")


def _timed_out(said: str) -> bool:
    """Tell whether pg_dump gave up waiting for a table."""
    return "timeout" in said and "LOCK TABLE" in said


def _last_error(said: str) -> str:
    lines = [line for line in said.splitlines() if "error:" in line.lower()]
    return lines[0].partition("error: ")[2].rstrip(".") if lines else _last_line(said)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].rstrip(".")
