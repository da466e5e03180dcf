"""Dump: one snapshot, pg_dump and our own counts of it, and a file that is whole or isn't there."""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

import psycopg

from .. import process
from ..archive import names, publish
from ..archive.codec import CHUNK, Adder, Compression, Summing, compressor
from ..archive.lexer import LexError, lex
from ..archive.manifest import Manifest
from ..archive.survey import Survey
from ..errors import BadInputError, MissingProgramError, ServerError, TaskError, WorkError
from ..postgres import clients, facts
from ..postgres.session import connected, exported_snapshot, in_the_way, server_facts, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ..archive.codec import Sums, Writable
    from ..postgres.clients import Client
    from ..postgres.session import Connection, ServerFacts
    from ..postgres.target import Target
    from ..settings import Settings
    from .report import Report

# Two dumps of one millisecond take the next free one.
_TRIES = 1000
# Tables that are rewritten again and again are a sentence, not an endless loop.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Request:
    """What a person asked for.

    :ivar compression: None where no flag says; then the file's name or the configuration does.
    :ivar file: A path or a bare name; empty for a name made of the time.
    :ivar exclude_data: pg_dump's patterns of tables whose rows are left out.
    """

    compression: Compression | None = None
    file: str = ""
    note: str = ""
    exclude_data: tuple[str, ...] = ()


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
    place = _place(settings, request)
    publish_folder(settings.dumps)
    if target.pooled:
        report.warn("The URL looks like a connection pool's. If this fails, use the direct URL: --url-env=DIRECT_URL")
    with connected(target, lock_timeout=settings.lock_timeout) as connection:
        server = server_facts(connection)
        client = clients.find("pg_dump", server.major, bin_dir=settings.bin_dir, environ=settings.environ)
        work = _Work(settings, request, report, target, server, client, connection)
        work.check_patterns()
        if settings.dry:
            report.step(f"would dump {target.label} with pg_dump {client.version}")
            return None
        with _reserved(settings, place, now()) as (part, final):
            return work.dump(part, final, now())


def publish_folder(folder: Path) -> None:
    """Make the folder of the dumps ready.

    :raises WorkError: It can't be made or written to.
    """
    try:
        publish.prepare_folder(folder)
        publish.sweep(folder)
    except OSError as error:
        raise WorkError(f"The folder {folder} can't be used: {error.strerror}. Nothing was touched.") from None


@dataclass(frozen=True)
class _Place:
    path: Path | None
    compression: Compression


def _place(settings: Settings, request: Request) -> _Place:
    if not request.file:
        return _Place(None, request.compression or settings.compress)
    path = names.place(request.file, settings.dumps, settings.cwd)
    named = Compression.of_name(path.name) or Compression.NONE
    if request.compression not in {None, named}:
        raise BadInputError(f"--file={request.file} and the compression that was asked for do not go together.")
    return _Place(path, named)


@contextlib.contextmanager
def _reserved(settings: Settings, place: _Place, when: datetime) -> Iterator[tuple[publish.Part, Path]]:
    """Open the part file under a name that is ours alone, and tell the final name."""
    with contextlib.ExitStack() as stack:
        for attempt in range(_TRIES):
            stem = names.dump_stem(when + timedelta(milliseconds=attempt))
            final = place.path or settings.dumps / (stem + place.compression.suffix)
            reserved = final.with_name(names.stem(final) + names.PART_SUFFIX)
            if not place.path and any(final.parent.glob(f"{stem}.*")):
                continue
            try:
                part = stack.enter_context(publish.part_file(reserved))
            except FileExistsError:
                if place.path:
                    raise WorkError(f"Another dump is being written to {final.name}; nothing was touched.") from None
                continue
            except OSError as error:
                raise WorkError(f"{reserved} can't be written: {error.strerror}. Nothing was touched.") from None
            yield part, final
            return
        raise WorkError(f"No free name for a dump was found in {settings.dumps}.")


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
            argv = [self.client.path, f"--dbname={self.target.conninfo()}", "--no-password", "--schema-only"]
            done = process.run(
                [*(str(each) for each in argv), "--strict-names", f"--table={pattern}"],
                extra=self.target.child_environment(),
                timeout=600,
            )
            if done.returncode:
                raise BadInputError(
                    f"--exclude-data={pattern} matches no table, so its rows would not be left out: "
                    f"{self.target.scrub(_last_line(done.stderr))}. Nothing was written."
                )

    def dump(self, part: publish.Part, final: Path, when: datetime) -> Dumped:
        """Run pg_dump into the part file, compare, and publish."""
        began = time.monotonic()
        try:
            survey, file, content, excluded = self._attempts(part, final)
            manifest = Manifest(
                created=when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                note=self.request.note,
                git=git_state(self.settings.root),
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
                seconds=round(time.monotonic() - began, 3),
            )
            _publish(part, final, manifest)
        except process.Interruption as interruption:
            interruption.state = "No dump was written; the database was only read."
            raise
        except OSError as error:
            raise disk_error(error, final) from None
        return Dumped(final, manifest)

    def _attempts(self, part: publish.Part, final: Path) -> tuple[Survey, Sums, Sums, tuple[str, ...]]:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._stream(part, final)
            except MovedError as error:
                if attempt == _ATTEMPTS:
                    raise
                self.report.warn(f"{error} Beginning again with a new snapshot.")
                part.file.seek(0)
                part.file.truncate()
        raise AssertionError

    def _stream(self, part: publish.Part, final: Path) -> tuple[Survey, Sums, Sums, tuple[str, ...]]:
        """Let pg_dump's output pass the lexer and the compressor while the server counts."""
        survey, sink, content = Survey(), Summing(part.file), Adder()
        compression = Compression.of_name(final.name) or Compression.NONE
        with contextlib.ExitStack() as stack:
            snapshot = stack.enter_context(exported_snapshot(self.connection))
            tables = facts.tables(self.connection)
            counting = stack.enter_context(Counting(self.connection, tables))
            child = stack.enter_context(self._pg_dump(snapshot))
            out = stack.enter_context(compressor(sink, compression))
            estimate = sum(table.estimate for table in tables)
            try:
                for _ in _pump(child, survey, counting, out, content):
                    self._progress(survey, estimate, content)
            except LexError as error:
                raise self._failure(child, counting, str(error)) from None
            if child.wait() != 0 or not survey.complete:
                raise self._failure(child, counting, "pg_dump's output has no end")
            excluded = self._compare(survey, tables, counting.result())
        return survey, sink.sums, content.sums, excluded

    def _pg_dump(self, snapshot: str) -> process.Child:
        # What the snapshot's connection reached is what pg_dump must reach, with several hosts too.
        info = self.connection.info
        reached = {"host": info.host, "port": str(info.port)}
        if info.hostaddr and not info.host.startswith("/"):
            reached["hostaddr"] = info.hostaddr
        argv = [str(self.client.path), f"--dbname={self.target.conninfo(**reached)}", "--no-password"]
        return process.Child(
            [*argv, f"--snapshot={snapshot}", *self._options()],
            extra=self.target.child_environment(),
            on_line=lambda line: self.report.detail(self.target.scrub(line)),
        )

    def _options(self) -> list[str]:
        """Build pg_dump's options, without those that say which server."""
        wait = self.settings.lock_timeout
        return [
            "--clean",
            "--if-exists",
            *([f"--lock-wait-timeout={wait}"] if wait else []),
            *(["--no-unlogged-table-data"] if self.server.in_recovery else []),
            *([] if self.server.encoding == "SQL_ASCII" else ["--encoding=UTF8"]),
            *(["--verbose"] if self.settings.output.value == "verbose" else []),
            *(f"--exclude-table-data={pattern}" for pattern in self.request.exclude_data),
        ]

    def _progress(self, survey: Survey, estimate: int, content: Adder) -> None:
        table = ".".join(survey.current) if survey.current else "definitions"
        self.report.progress(f"dumping {table}, {content.size / 1e6:,.0f} MB", survey.total_rows, estimate, "rows")

    def _compare(
        self, survey: Survey, tables: Sequence[facts.Table], counted: dict[tuple[str, str], int]
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
        return tuple(".".join(key) for key in absent)

    def _failure(self, child: process.Child, counting: Counting, otherwise: str) -> TaskError:
        """Tell what went wrong, whoever noticed it first."""
        if counting.failed:
            counting.result()
        code = child.wait()
        said = self.target.scrub(child.said)
        if "timeout" in said and "LOCK TABLE" in said:
            return ServerError(f"pg_dump waited too long for a lock{self._blockers()}. No dump was written.")
        if code == 0:
            return WorkError(f"pg_dump's output is not whole: {otherwise}. No dump was written.")
        what = _last_error(said) or f"exit status {code}"
        return WorkError(f"pg_dump failed: {what}. No dump was written; the database was only read.")

    def _blockers(self) -> str:
        with contextlib.suppress(TaskError), connected(self.target) as other:
            found = in_the_way(other)
            return f" that another session holds ({found})" if found else ""
        return ""

    def _source(self) -> dict[str, object]:
        info = self.connection.info
        return {
            "host": info.host,
            "port": info.port,
            "database": self.server.database,
            "server_version": self.server.version,
            "system_identifier": self.server.system_identifier,
        }


class MovedError(ServerError):
    """A table was rewritten between the snapshot and the locks."""


class Counting(threading.Thread):
    """Locks and counts the tables in the snapshot's session while pg_dump writes.

    A context manager; :meth:`begin` starts it, once pg_dump holds its own locks.
    """

    def __init__(self, connection: Connection, tables: Sequence[facts.Table]) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self._tables = tables
        self._counted: dict[tuple[str, str], int] = {}
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_alive():
            with contextlib.suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=5)
            self.join(timeout=10)

    @property
    def failed(self) -> bool:
        """Whether it has ended with an error."""
        return self._error is not None

    def begin(self) -> None:
        """Start, the first time that this is called."""
        if self.ident is None:
            self.start()

    def result(self) -> dict[tuple[str, str], int]:
        """Wait for the counts.

        :raises TaskError: A table could not be locked or read, or was rewritten meanwhile.
        """
        self.begin()
        while self.is_alive():
            # A wait without a limit would keep signals from being handled.
            self.join(0.2)
        if self._error is not None:
            raise self._error
        return self._counted

    def run(self) -> None:
        """Lock, look whether the tables are still the snapshot's, count."""
        try:
            with translated("Counting the rows at the server failed, no dump was written"):
                facts.lock(self._connection, self._tables)
                moved = facts.rewritten(self._connection, self._tables)
                if moved:
                    name = ".".join(moved[0].key)
                    raise MovedError(f"{name} was truncated or rewritten while the dump began.")
                self._counted = {table.key: rows for table, rows in facts.count(self._connection, self._tables)}
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            self._error = error


def _pump(child: process.Child, survey: Survey, counting: Counting, out: Writable, content: Adder) -> Iterator[object]:
    """Move pg_dump's output into the file, past the lexer, event by event."""

    def chunks() -> Iterator[bytes]:
        while chunk := child.stdout.read(CHUNK):
            counting.begin()
            if counting.failed:
                counting.result()
            content.add(chunk)
            out.write(chunk)
            yield chunk

    return survey.watch(lex(chunks()))


def _publish(part: publish.Part, final: Path, manifest: Manifest) -> None:
    """Publish the manifest, then the dump: a dump of ours is never seen without its manifest."""
    beside = names.manifest_path(final)
    if not names.siblings(final):
        # Left behind by a dump that somebody removed.
        beside.unlink(missing_ok=True)
    with publish.part_file(beside.with_name(beside.name + names.PART_SUFFIX)) as paper:
        paper.file.write(manifest.to_json())
        paper.publish(beside)
    try:
        part.publish(final)
    except BaseException:
        if not final.exists():
            beside.unlink(missing_ok=True)
        raise


def git_state(root: Path) -> dict[str, object] | None:
    """Tell the commit of the project, and whether tracked files differ from it; None outside git."""
    with contextlib.suppress(MissingProgramError):
        commit = process.run(["git", "-C", root, "rev-parse", "HEAD"])
        if commit.returncode == 0:
            status = process.run(["git", "-C", root, "status", "--porcelain", "--untracked-files=no"])
            return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}
    return None


def disk_error(error: OSError, path: Path) -> WorkError:
    """Put an error of the file system into a sentence."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return WorkError(f"The disk of {path.parent} is full. No file was left behind; free some space and run again.")
    return WorkError(f"{path} could not be written: {error.strerror or error}. No file was left behind.")


def _last_error(said: str) -> str:
    lines = [line for line in said.splitlines() if "error:" in line.lower()]
    return lines[0].partition("error: ")[2].rstrip(".") if lines else _last_line(said)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].rstrip(".")
