"""pg_dump as a child of ours: how it is called, which locks it waits for, and what its last words mean."""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

import psycopg

from ..dumpformat.compression import CHUNK
from ..errors import OperationFailedError, ServerError, TaskError
from ..postgres.connection import blocked, connected, one, startup_options, translated
from ..postgres.lock_capacity import SETTING, locks_of_reading, locks_spent
from ..postgres.session_settings import KEEPALIVES
from ..postgres.tables import read_tables
from ..system.processes import StreamingProcess
from .selection import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..config.settings import Settings
    from ..config.target import Target
    from ..postgres.connection import Connection, ServerFacts
    from ..progress import Report
    from ..system.pg_programs import Client
    from .selection import Selection


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


_LOCK_TABLE, _SET_SNAPSHOT = "LOCK TABLE", "SET TRANSACTION SNAPSHOT"


class DumpFailure(Enum):
    """Why pg_dump failed."""

    LOCK_TIMEOUT = auto()
    OUT_OF_LOCKS = auto()
    # Its session knows nothing of the snapshot.
    FOREIGN_SNAPSHOT = auto()
    OTHER = auto()


class ParallelReadUnavailableError(ServerError):
    """Our sessions could not do their part; pg_dump alone may well do all of it."""


@dataclass(frozen=True)
class PgDump:
    """How pg_dump dumps this database.

    :ivar connection: The session that it gets its snapshot from.
    :ivar excluded: Its patterns of tables whose rows are left out.
    :ivar selection: What it dumps.
    """

    settings: Settings
    report: Report
    target: Target
    server: ServerFacts
    client: Client
    connection: Connection
    excluded: tuple[str, ...] = ()
    selection: Selection = EVERYTHING

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
            *([] if self.selection.data_only else ["--clean", "--if-exists"]),
            *self._lock_wait(),
            *(["--no-unlogged-table-data"] if self.server.in_recovery else []),
            *([] if self.server.encoding == "SQL_ASCII" else ["--encoding=UTF8"]),
            *(["--verbose"] if self.settings.output.value == "verbose" else []),
            *(f"--exclude-table-data={pattern}" for pattern in self.excluded),
            *self.selection.options(),
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

    def failure(self, said: str) -> DumpFailure:
        """Return why pg_dump failed.

        pg_dump hands on the server's words, but no SQLSTATE, so a session of ours provokes the same error.

        :param said: Its last lines.
        """
        statement = failed_statement(said)
        if statement == _LOCK_TABLE and self.settings.lock_timeout:
            with contextlib.suppress(TaskError, psycopg.Error), connected(self.target) as other:
                if (message := _timeout_message(other)) and message in said:
                    return DumpFailure.LOCK_TIMEOUT
        # The name of a setting is in every language the same.
        if SETTING in said:
            return DumpFailure.OUT_OF_LOCKS
        # A snapshot lives in one server alone.
        return DumpFailure.FOREIGN_SNAPSHOT if statement == _SET_SNAPSHOT else DumpFailure.OTHER

    def waited(self) -> ServerError:
        """Say that it waited for too long, and for whom."""
        return ServerError(f"pg_dump gave up: {blocked(self.target, reading=True)}. No dump was written.")

    def await_sessions_end(self) -> None:
        """Wait a moment until the server has ended the sessions of an attempt, which count until then."""
        deadline = time.monotonic() + _PATIENCE
        # Where this session is lost, too, the next attempt says so.
        with contextlib.suppress(psycopg.Error):
            ours = self.connection.info.backend_pid
            while one(self.connection, _YOUNGER, [0, ours])[0] and time.monotonic() < deadline:
                time.sleep(_LOOK)

    def out_of_locks(self) -> OperationFailedError:
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


# What pg_dump writes of a statement that failed, in its C locale. The server's own words are in the language of its
# lc_messages, and stand before it (14 begins the second line with "error: query was: "):
#   pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout
#   pg_dump: detail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE
_QUERY = re.compile(r"^[^\n:]*: (?:detail|error): [Qq]uery was: (LOCK TABLE|SET TRANSACTION SNAPSHOT)\b", re.MULTILINE)
_FAILED = "error: "


def failed_statement(said: str) -> str:
    """Return `LOCK TABLE` or `SET TRANSACTION SNAPSHOT` where pg_dump failed in one; empty for anything else.

    :param said: Its last lines.
    """
    found = _QUERY.search(said)
    return found[1] if found else ""


def last_error(said: str) -> str:
    """Return what it failed of, in its last lines."""
    lines = [line for line in said.splitlines() if _FAILED in line]
    return lines[0].partition(_FAILED)[2].rstrip(".") if lines else _last_line(said)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].rstrip(".")


def _timeout_message(connection: Connection) -> str:
    """Return what this server says, in its own language, of a statement that took longer than statement_timeout."""
    try:
        connection.execute("SELECT pg_catalog.set_config('statement_timeout', '1', false)")
        connection.execute("SELECT pg_catalog.pg_sleep(60)")
    except psycopg.errors.QueryCanceled as error:
        return error.diag.message_primary or ""
    return ""
