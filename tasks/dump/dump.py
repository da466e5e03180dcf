"""Dump a database in one snapshot, compare the row counts with the server's, and publish the complete file."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, cast

from ..dumpfiles.atomic_write import disk_error
from ..dumpfiles.origin import is_this_machine
from ..dumpformat.compression import Compression
from ..dumpformat.manifest import Manifest
from ..errors import BadInputError, OutputError, TaskError
from ..formatting import format_list
from ..postgres.connection import (
    connected,
    exported_snapshot,
    refuse_another_endpoint,
    server_facts,
    translated,
)
from ..postgres.roles import hidden_tables
from ..postgres.tables import Table, TableChangedError, read_tables
from ..system.git import git_state
from ..system.pg_programs import find_client
from ..system.runtime import (
    SHARED_PROCESSORS,
    BackgroundTask,
    Interruption,
    StandardOutput,
    count_processors,
    set_interrupt_message,
)
from .destination import (
    STANDARD_OUTPUT,
    check_free_space,
    choose_destination,
    choose_safety_destination,
    prepare_dump_folder,
    publish_dump_and_manifest,
    reserve_destination,
)
from .pg_dump import ParallelReadUnavailableError, PgDump
from .selection import check_part, resolve_selection
from .table_slices import choose_slices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..config.settings import Settings
    from ..dumpfiles.atomic_write import PartFile
    from ..progress import Report
    from .request import DumpRequest
    from .stream import Streamed


_CUT = "What was written to standard output is not a complete dump."
# The number of snapshots to try while tables are being rewritten.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Dumped:
    """A dump that was published."""

    path: Path
    manifest: Manifest


def make_dump(
    settings: Settings,
    request: DumpRequest,
    report: Report,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Dumped | None:
    """Dump the database, or a part of it, to a file with its manifest, or to standard output.

    Never changes the database.

    :return: The dump; None in a dry run.
    :raises TaskError: No dump was made, and no file was left behind.
    """
    target = settings.target()
    kept = {"dbname": request.kept} if request.kept else {}
    target = replace(target, keywords=MappingProxyType({**target.keywords, **kept}))
    check_part(request.part, request.exclude_data)
    output = StandardOutput() if request.file == STANDARD_OUTPUT else None
    if output and (request.note or request.checksums):
        raise BadInputError(
            "--note and --checksums need a manifest, and --file=- writes none. Nothing was touched. Omit these flags."
        )
    if output and settings.as_json:
        raise BadInputError(
            "--json and --file=- cannot be combined: both write to standard output. Nothing was touched."
        )
    destination = choose_destination(settings, "" if output else request.file, request.compression)
    if request.safety:
        destination = choose_safety_destination(settings)
    if not (settings.dry or output):
        prepare_dump_folder(settings.dumps)
        if request.safety:
            prepare_dump_folder(destination.folder)
    if target.pooled:
        advice = f"; {target.advice}" if target.advice else ""
        report.warn(
            f"This looks like the URL of a connection pool. If the dump fails, use the direct URL: "
            f"--url-env=DIRECT_URL{advice}."
        )
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("No dump was written"),
    ):
        server = server_facts(connection)
        if request.endpoint is not None:
            refuse_another_endpoint(connection, request.endpoint)
        client = find_client("pg_dump", server.major, bin_dir=settings.bin_dir, environ=settings.environ)
        pg_dump = PgDump(
            settings=settings,
            report=report,
            target=target,
            server=server,
            client=client,
            connection=connection,
            excluded=request.exclude_data,
            selection=resolve_selection(connection, request.part, target.schema or ""),
        )
        if request.exclude_data:
            from .stream import check_exclude_pattern

            for pattern in request.exclude_data:
                check_exclude_pattern(pg_dump, pattern)
        elif not (pg_dump.selection.is_part or output):
            check_free_space(settings, destination, connection, server, report)
        if settings.dry:
            where = "standard output" if output else destination.name(now())
            report.step(f"would dump {target.label} with pg_dump {client.version} into {where}")
            return None
        when = now()
        if output is not None:
            return _DumpJob(request=request, pg_dump=pg_dump, when=when).write_out(output)
        with reserve_destination(destination, when) as (part, final):
            return _DumpJob(request=request, pg_dump=pg_dump, when=when).dump(part, final)


@dataclass
class _DumpJob:
    """A dump that is being made.

    :ivar when: The time of the dump; `began` is the same time on the monotonic clock.
    """

    request: DumpRequest
    pg_dump: PgDump
    when: datetime
    began: float = field(default_factory=time.monotonic)

    def dump(self, part: PartFile, final: Path) -> Dumped:
        """Write the dump to the part file, check it, and publish it."""
        try:
            git = BackgroundTask(lambda: git_state(self.pg_dump.settings.root))
            git.start()
            streamed = self._attempts(part.file, Compression.of_name(final.name) or Compression.NONE)
            manifest = self._manifest(streamed, final.name, git.result())
            publish_dump_and_manifest(part, final, manifest)
            set_interrupt_message(f"{final} was written completely.")
        except Interruption as interruption:
            if final.exists():
                interruption.state = f"{final} was written completely."
            else:
                interruption.state = "No dump was written. The database was only read."
            raise
        except OSError as error:
            raise disk_error(error, final) from None
        return Dumped(final, manifest)

    def write_out(self, output: StandardOutput) -> Dumped:
        """Write the dump to standard output, without a manifest.

        :raises OutputError: Standard output could not be written to.
        """
        compression = self.request.compression or Compression.NONE
        try:
            with output:
                streamed = self._stream(cast("IO[bytes]", output), compression, sliced=False)
        except Interruption as interruption:
            interruption.state = f"{_CUT if output.size else ''} The database was only read.".strip()
            raise
        except TaskError as error:
            raise error.reworded(f"{error} {_CUT if output.size else ''}".strip()) from None
        except OSError as error:
            why = "its reader has closed it" if isinstance(error, BrokenPipeError) else error.strerror
            raise OutputError(f"Standard output can't be written: {why}. {_CUT}") from None
        return Dumped(Path(STANDARD_OUTPUT), self._manifest(streamed, STANDARD_OUTPUT, None))

    def _manifest(self, streamed: Streamed, name: str, git: dict[str, object] | None) -> Manifest:
        summary, file, content, excluded, found, seek_points = streamed
        return Manifest(
            created=self.when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            note=self.request.note,
            git=git,
            source=self._source(),
            pg_dump={"version": self.pg_dump.client.version, "options": self.pg_dump.options()},
            file_name=name,
            compression=Compression.of_name(name) or Compression.NONE,
            file=file,
            content=content,
            tables=summary.tables(),
            excluded_data=excluded,
            sequences=tuple(sorted(summary.sequences.values())),
            outline=summary.outline(),
            facts=found,
            extra=self._extra(seek_points),
            seconds=round(time.monotonic() - self.began, 3),
        )

    def _attempts(self, file: IO[bytes], compression: Compression) -> Streamed:
        # Only pg_dump knows what --exclude-data leaves out, and a pooler may lead sessions to several servers.
        # With --data-only, pg_dump orders tables by foreign keys, not by name.
        alone = bool(self.request.exclude_data or self.pg_dump.selection.part.only)
        alone = alone or self.pg_dump.target.pooled or self._is_short_of_processors()
        attempt, sliced = 1, not alone
        while True:
            try:
                return self._stream(file, compression, sliced=sliced)
            except ParallelReadUnavailableError as error:
                self.pg_dump.report.detail(f"{error}. Retrying with pg_dump alone.")
                sliced = False
            except TableChangedError as error:
                if attempt == _ATTEMPTS:
                    raise
                attempt += 1
                self.pg_dump.report.warn(f"{error} Retrying with a new snapshot.")
            self.pg_dump.await_sessions_end()
            file.seek(0)
            file.truncate()

    def _is_short_of_processors(self) -> bool:
        """Return whether pg_dump, the server's session and the compression use all processors (measured)."""
        info = self.pg_dump.connection.info
        return count_processors() <= SHARED_PROCESSORS and is_this_machine(info.hostaddr or info.host)

    def _stream(self, file: IO[bytes], compression: Compression, *, sliced: bool) -> Streamed:
        """Run pg_dump in a new snapshot, and write its output.

        :param sliced: Read the rows of large tables in parallel.
        """
        connection, target = self.pg_dump.connection, self.pg_dump.target
        with contextlib.ExitStack() as stack:
            snapshot = stack.enter_context(exported_snapshot(connection))
            all_tables = read_tables(connection)
            tables = [table for table in all_tables if self.pg_dump.selection.holds(table.key)]
            self._refuse_hidden([] if self.pg_dump.selection.definitions_only else tables)
            rows = None
            if large := choose_slices(connection, self.pg_dump.server, tables) if sliced else []:
                from .parallel import ParallelReader

                pinned = replace(target, keywords={**target.keywords, **self.pg_dump.reached})
                rows = stack.enter_context(ParallelReader(pinned, large, snapshot))
            ours = rows.patterns() if rows is not None else ()
            child = stack.enter_context(self.pg_dump.start(snapshot, ours))
            from .stream import DumpStream

            streaming = DumpStream(
                request=self.request,
                pg_dump=self.pg_dump,
                child=child,
                tables=tables,
                all_tables=all_tables,
                rows=rows,
            )
            return streaming.into(file, compression)

    def _refuse_hidden(self, tables: Sequence[Table]) -> None:
        """Raise an error that names all tables whose rows row-level security hides; pg_dump would name only one."""
        if hidden := hidden_tables(self.pg_dump.connection, tables):
            raise BadInputError(
                f"Row-level security hides rows of {format_list(hidden, 1)} from {self.pg_dump.server.user}, so the "
                f"dump would lack them. No dump was written. As a superuser, run ALTER ROLE … BYPASSRLS, or use the "
                f"URL of a role that sees them (--url-env)."
            )

    def _extra(self, seek_points: list[dict[str, object]]) -> dict[str, object]:
        selection = self.pg_dump.selection
        known = {
            "transaction": self.request.transaction,
            "command": self.request.command,
            "selection": selection.document() if selection.is_part else None,
            "seek_points": seek_points,
        }
        return {key: value for key, value in known.items() if value}

    def _source(self) -> dict[str, object]:
        info = self.pg_dump.connection.info
        instance = self.pg_dump.server.instance if self.request.safety else None
        return {
            "host": info.host,
            "port": info.port,
            "database": self.request.source or self.pg_dump.server.database,
            "server_version": self.pg_dump.server.version,
            "system_identifier": self.pg_dump.server.system_identifier,
            **(asdict(instance) if instance else {}),
        }
