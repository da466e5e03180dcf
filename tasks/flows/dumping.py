"""Dump: one snapshot, pg_dump and our own counts of it, and a file that is whole or isn't there."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .. import process
from ..archive.codec import Compression
from ..archive.manifest import Manifest
from ..errors import BadInputError, MissingProgramError
from ..postgres import clients, facts, rights, slices
from ..postgres.session import connected, exported_snapshot, instance, server_facts, translated
from . import guard, placing, room
from .beside import Beside
from .pgdump import AloneError, PgDump

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ..archive import publish
    from ..settings import Settings
    from .report import Report
    from .streaming import Streamed

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
        pg_dump = PgDump(settings, report, target, server, client, connection, request.exclude_data)
        if request.exclude_data:
            from .streaming import check_pattern

            for pattern in request.exclude_data:
                check_pattern(pg_dump, pattern)
        else:
            room.check(settings, place, connection, server, report)
        if settings.dry:
            report.step(f"would dump {target.label} with pg_dump {client.version} into {place.name(now())}")
            return None
        when = now()
        with placing.reserved(place, when) as (part, final):
            return _Work(request, pg_dump).dump(part, final, when)


@dataclass
class _Work:
    """One dump in the making."""

    request: Request
    pg_dump: PgDump

    def dump(self, part: publish.Part, final: Path, when: datetime) -> Dumped:
        """Run pg_dump into the part file, compare, and publish."""
        began = time.monotonic()
        try:
            git = Beside(lambda: git_state(self.pg_dump.settings.root))
            git.start()
            survey, file, content, excluded, found = self._attempts(part, final)
            manifest = Manifest(
                created=when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                note=self.request.note,
                git=git.result(),
                source=self._source(),
                pg_dump={"version": self.pg_dump.client.version, "options": self.pg_dump.options()},
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
        attempt, sliced = 1, not (self.request.exclude_data or self.pg_dump.target.pooled)
        while True:
            try:
                return self._stream(part, final, sliced=sliced)
            except AloneError as error:
                self.pg_dump.report.detail(f"{error}. Beginning again with pg_dump alone.")
                sliced = False
            except facts.MovedError as error:
                if attempt == _ATTEMPTS:
                    raise
                attempt += 1
                self.pg_dump.report.warn(f"{error} Beginning again with a new snapshot.")
            self.pg_dump.let_go()
            part.file.seek(0)
            part.file.truncate()

    def _stream(self, part: publish.Part, final: Path, *, sliced: bool) -> Streamed:
        """Start pg_dump in a snapshot, and see its text through.

        :param sliced: Read the rows of large tables ourselves.
        """
        connection, target = self.pg_dump.connection, self.pg_dump.target
        with contextlib.ExitStack() as stack:
            snapshot = stack.enter_context(exported_snapshot(connection))
            tables = facts.tables(connection)
            self._refuse_hidden(tables)
            rows = None
            if large := slices.choose(connection, self.pg_dump.server, tables) if sliced else []:
                from .slicing import Slicing

                pinned = replace(target, keywords={**target.keywords, **self.pg_dump.reached})
                rows = stack.enter_context(Slicing(pinned, large, snapshot))
            ours = rows.patterns() if rows is not None else ()
            child = stack.enter_context(self.pg_dump.start(snapshot, ours))
            from .streaming import Streaming

            streaming = Streaming(self.request, self.pg_dump, child, tables, rows)
            return streaming.into(part.file, Compression.of_name(final.name) or Compression.NONE)

    def _refuse_hidden(self, tables: Sequence[facts.Table]) -> None:
        """Refuse where row-level security would hide rows, before pg_dump does, which names one table alone."""
        first, *others = rights.hidden(self.pg_dump.connection, tables) or ("",)
        if first:
            more = f" and {len(others)} more" if others else ""
            raise BadInputError(
                f"Row-level security hides rows of {first}{more} from {self.pg_dump.server.user}, so a dump would lack "
                f"them. No dump was written. Let a superuser run ALTER ROLE … BYPASSRLS, or name the URL of one that "
                f"sees them with --url-env."
            )

    def _source(self) -> dict[str, object]:
        info = self.pg_dump.connection.info
        return {
            "host": info.host,
            "port": info.port,
            "database": self.pg_dump.server.database,
            "server_version": self.pg_dump.server.version,
            "system_identifier": self.pg_dump.server.system_identifier,
            **(asdict(instance(self.pg_dump.connection)) if self.request.safety else {}),
        }


def git_state(root: Path) -> dict[str, object] | None:
    """Tell the commit of the project, and whether tracked files differ from it; None outside git."""
    with contextlib.suppress(MissingProgramError):
        commit = process.run(["git", "-C", root, "rev-parse", "HEAD"])
        if commit.returncode == 0:
            status = process.run(["git", "-C", root, "status", "--porcelain", "--untracked-files=no"])
            return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}
    return None
