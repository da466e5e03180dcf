"""pg_dump as a child of ours: how it is called, which locks it waits for, and what its last words mean."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from ..dumpformat.compression import CHUNK
from ..errors import ServerError, TaskError, WorkError
from ..postgres.connection import blocked, connected, one, startup_options, translated
from ..postgres.lock_capacity import locks_of_reading, locks_spent
from ..postgres.session_settings import KEEPALIVES
from ..postgres.tables import read_tables
from ..system.processes import StreamingProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..config.settings import Settings
    from ..config.target import Target
    from ..postgres.connection import Connection, ServerFacts
    from ..progress import Report
    from ..system.pg_programs import Client


# Of the sessions, of ours and of pg_dump's, that a session's owner began after it: how many there are, and whether a
# pg_dump among them has been waiting for a lock for that many milliseconds.
_YOUNGER = """
SELECT pg_catalog.count(*),
       coalesce(pg_catalog.bool_or(younger.application_name = 'pg_dump' AND younger.wait_event_type = 'Lock'
                AND younger.query_start <= pg_catalog.clock_timestamp() - %s * interval '1 millisecond'), false)
  FROM pg_catalog.pg_stat_activity ours, pg_catalog.pg_stat_activity younger
 WHERE ours.pid = %s AND younger.pid <> ours.pid AND younger.datid = ours.datid AND younger.usesysid = ours.usesysid
   AND younger.client_addr IS NOT DISTINCT FROM ours.client_addr AND younger.backend_start >= ours.backend_start
   AND younger.application_name IN ('pg_dump', ours.application_name)
"""
# Seconds to wait for the server to end them, and between looks.
_PATIENCE, _LOOK = 2.0, 0.02


class ParallelReadUnavailableError(ServerError):
    """Our sessions could not do their part; pg_dump alone may well do all of it."""


@dataclass(frozen=True)
class PgDump:
    """How pg_dump dumps this database.

    :ivar connection: The session that it gets its snapshot from.
    :ivar excluded: Its patterns of tables whose rows are left out.
    """

    settings: Settings
    report: Report
    target: Target
    server: ServerFacts
    client: Client
    connection: Connection
    excluded: tuple[str, ...] = ()

    def start(self, snapshot: str, ours: Sequence[str] = ()) -> StreamingProcess:
        """Start it.

        :param ours: Patterns of tables whose rows we read.
        """
        left = [f"--exclude-table-data={pattern}" for pattern in ours]
        return StreamingProcess(
            [*self._connect(self.excluded), f"--snapshot={snapshot}", *self.options(), *left],
            extra=self.target.child_environment(),
            on_line=lambda line: self.report.detail(self.target.scrub(line)),
        )

    def match(self, pattern: str) -> StreamingProcess:
        """Start one that dumps the definitions of what a pattern matches, and fails where that is nothing."""
        argv = [*self._connect([pattern]), "--schema-only", *self._lock_wait(), "--strict-names", f"--table={pattern}"]
        return StreamingProcess(argv, extra=self.target.child_environment())

    def options(self) -> list[str]:
        """Build pg_dump's options, without those that say which server."""
        return [
            "--clean",
            "--if-exists",
            *self._lock_wait(),
            *(["--no-unlogged-table-data"] if self.server.in_recovery else []),
            *([] if self.server.encoding == "SQL_ASCII" else ["--encoding=UTF8"]),
            *(["--verbose"] if self.settings.output.value == "verbose" else []),
            *(f"--exclude-table-data={pattern}" for pattern in self.excluded),
        ]

    def _lock_wait(self) -> list[str]:
        wait = self.settings.lock_timeout
        return [f"--lock-wait-timeout={wait}"] if wait else []

    def read(self, child: StreamingProcess) -> Iterator[bytes]:
        """Hand on its output; for errors see :meth:`await_output`."""
        self.await_output(child)
        while chunk := child.read(CHUNK):
            yield chunk
            self.await_output(child)

    def await_output(self, child: StreamingProcess) -> None:
        """Wait until pg_dump says something, but no longer than allowed for a lock.

        Its own limit is for tables alone: a view or a sequence that a migration has locked would hold it,
        and us, for ever.

        :raises ServerError: It waits for longer.
        """
        allowed = self.settings.lock_timeout
        while allowed and not child.readable(allowed / 1000):
            with contextlib.suppress(TaskError), connected(self.target) as other, translated("Looking for locks"):
                _, waits = one(other, _YOUNGER, [allowed, self.connection.info.backend_pid])
                if waits:
                    break
        else:
            return
        raise self.waited()

    def waited(self) -> ServerError:
        """Say that it waited for too long, and for whom."""
        return ServerError(f"pg_dump gave up: {blocked(self.target, reading=True)}. No dump was written.")

    def let_go(self) -> None:
        """Wait a moment until the server has ended the sessions of an attempt, which count until then."""
        deadline = time.monotonic() + _PATIENCE
        # Where this session is lost, too, the next attempt says so.
        with contextlib.suppress(psycopg.Error):
            ours = self.connection.info.backend_pid
            while one(self.connection, _YOUNGER, [0, ours])[0] and time.monotonic() < deadline:
                time.sleep(_LOOK)

    def out_of_locks(self) -> WorkError:
        """Say that the server has too few locks for it, and how many it takes."""
        with connected(self.target) as other, translated("pg_dump ran out of locks, and no dump was written"):
            tables = len(read_tables(other))
            return locks_spent(locks_of_reading(other, tables), tables, "No dump was written.")

    @property
    def reached(self) -> dict[str, str]:
        """Name the server that the snapshot's connection has reached, of several hosts, for all that must reach it."""
        info = self.connection.info
        reached = {"host": info.host, "port": str(info.port)}
        if info.hostaddr and not info.host.startswith("/"):
            reached["hostaddr"] = info.hostaddr
        return reached

    def _connect(self, patterns: Sequence[str]) -> list[str]:
        kept: dict[str, str | None] = {**KEEPALIVES, **self.target.keywords, **self.reached}
        kept["application_name"] = "pg_dump"
        # As our own session was let in: with an empty search_path, unless a pooler refuses that. A pattern without a
        # schema means what the person's own search_path finds; pg_dump qualifies every name while it looks for that.
        if not patterns:
            kept["options"] = startup_options(self.connection)
        # Not the role that the database's owner may have set for all sessions.
        role = f"--role={self.server.user}"
        return [str(self.client.path), f"--dbname={self.target.conninfo(**kept)}", "--no-password", role]


def timed_out(said: str) -> bool:
    """Tell whether pg_dump gave up waiting for a table."""
    return "timeout" in said and "LOCK TABLE" in said


def last_error(said: str) -> str:
    """Find what it failed of in its last lines."""
    lines = [line for line in said.splitlines() if "error:" in line.lower()]
    return lines[0].partition("error: ")[2].rstrip(".") if lines else _last_line(said)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].rstrip(".")
