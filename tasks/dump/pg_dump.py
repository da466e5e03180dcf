"""Run pg_dump: its options, its waits for locks, and the reasons of its failures."""

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


# The number of our and pg_dump's sessions that the same role opened after a given session, and whether a pg_dump among
# them has been waiting for a lock for some milliseconds.
_YOUNGER = """
SELECT pg_catalog.count(*),
       coalesce(pg_catalog.bool_or(younger.application_name = 'pg_dump' AND younger.wait_event_type = 'Lock'
                AND younger.query_start <= pg_catalog.clock_timestamp() - %s * interval '1 millisecond'), false)
  FROM pg_catalog.pg_stat_activity ours, pg_catalog.pg_stat_activity younger
 WHERE ours.pid = %s AND younger.pid <> ours.pid AND younger.datid = ours.datid AND younger.usesysid = ours.usesysid
   AND younger.client_addr IS NOT DISTINCT FROM ours.client_addr AND younger.backend_start >= ours.backend_start
   AND younger.application_name IN ('pg_dump', ours.application_name)
"""
# Seconds to wait for the end of these sessions, and between checks.
_PATIENCE, _CHECK_INTERVAL = 2.0, 0.02


class DumpFailure(Enum):
    """The reason why pg_dump failed."""

    LOCK_TIMEOUT = auto()
    OUT_OF_LOCKS = auto()
    # Its session is on a server that does not have the snapshot.
    FOREIGN_SNAPSHOT = auto()
    OTHER = auto()


class ParallelReadUnavailableError(ServerError):
    """Rows could not be read in parallel. pg_dump alone may succeed."""


@dataclass(frozen=True)
class PgDump:
    """A pg_dump for a database.

    :ivar connection: The session that exports the snapshot.
    :ivar excluded: pg_dump's patterns of tables whose rows are left out.
    :ivar selection: The part of the database to dump.
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
        """Start pg_dump.

        :param ours: Patterns of tables whose rows are read in parallel.
        """
        left = [f"--exclude-table-data={pattern}" for pattern in ours]
        return StreamingProcess(
            [*self._connect(self.excluded), f"--snapshot={snapshot}", *self.options(), *left],
            extra=self.target.child_environment(),
            on_line=lambda line: self.report.detail(self.target.scrub(line)),
        )

    def match(self, pattern: str) -> StreamingProcess:
        """Start a pg_dump of the definitions that a pattern matches. It fails if there is no match."""
        return self.start_definitions(("--strict-names", f"--table={pattern}"), [pattern])

    def start_definitions(self, options: Sequence[str], patterns: Sequence[str] = ()) -> StreamingProcess:
        """Start a pg_dump of definitions, without a snapshot of our own."""
        argv = [*self._connect(patterns), "--schema-only", *self._encoding(), *self._lock_wait(), *options]
        return StreamingProcess(argv, extra=self.target.child_environment())

    def options(self) -> list[str]:
        """Return pg_dump's options without those of the connection."""
        return [
            *([] if self.selection.rows_only else ["--clean", "--if-exists"]),
            *self._lock_wait(),
            *(["--no-unlogged-table-data"] if self.server.in_recovery else []),
            *self._encoding(),
            *(["--verbose"] if self.settings.output.value == "verbose" else []),
            *(f"--exclude-table-data={pattern}" for pattern in self.excluded),
            *self.selection.options(),
        ]

    def _encoding(self) -> list[str]:
        return [] if self.server.encoding == "SQL_ASCII" else ["--encoding=UTF8"]

    def _lock_wait(self) -> list[str]:
        wait = self.settings.lock_timeout
        return [f"--lock-wait-timeout={wait}"] if wait else []

    def read(self, child: StreamingProcess) -> Iterator[bytes]:
        """Yield the output of pg_dump; for errors see :meth:`await_output`."""
        self.await_output(child)
        while chunk := child.read(CHUNK):
            yield chunk
            self.await_output(child)

    def await_output(self, child: StreamingProcess) -> None:
        """Wait until pg_dump has output, but not longer than the lock timeout.

        pg_dump's --lock-wait-timeout applies only to tables. It would wait without limit for a locked view or sequence.

        :raises ServerError: It waits longer for a lock.
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

        pg_dump prints the server's message without SQLSTATE, in the server's language. So another session causes a
        timeout to learn the message.

        :param said: The last lines of pg_dump's output.
        """
        query = _QUERY.search(said)
        statement = query[1] if query else ""
        if statement == "LOCK TABLE" and self.settings.lock_timeout:
            with contextlib.suppress(TaskError, psycopg.Error), connected(self.target) as other:
                if (message := _timeout_message(other)) and message in said:
                    return DumpFailure.LOCK_TIMEOUT
        # The name of a setting is not translated.
        if SETTING in said:
            return DumpFailure.OUT_OF_LOCKS
        # A snapshot exists on one server only.
        return DumpFailure.FOREIGN_SNAPSHOT if statement == "SET TRANSACTION SNAPSHOT" else DumpFailure.OTHER

    def waited(self) -> ServerError:
        """Return the error for a lock timeout; it names the session that holds the lock."""
        return ServerError(f"pg_dump gave up: {blocked(self.target, reading=True)}. No dump was written.")

    def await_sessions_end(self) -> None:
        """Wait up to two seconds until the sessions of the last attempt have ended, as they count against limits."""
        deadline = time.monotonic() + _PATIENCE
        # If this session is lost, too, the next attempt reports it.
        with contextlib.suppress(psycopg.Error):
            ours = self.connection.info.backend_pid
            while one(self.connection, _YOUNGER, [0, ours])[0] and time.monotonic() < deadline:
                time.sleep(_CHECK_INTERVAL)

    def out_of_locks(self) -> OperationFailedError:
        """Return the error for too few locks, with the number that a dump needs."""
        with connected(self.target) as other, translated("pg_dump ran out of locks, and no dump was written"):
            tables = len(read_tables(other))
            return locks_spent(locks_of_reading(other, tables), tables, "No dump was written.")

    @property
    def reached(self) -> dict[str, str]:
        """Return the keywords of the server, of several hosts in the URL, to which the connection leads."""
        info = self.connection.info
        reached = {"host": info.host, "port": str(info.port)}
        if info.hostaddr and not info.host.startswith("/"):
            reached["hostaddr"] = info.hostaddr
        return reached

    def _connect(self, patterns: Sequence[str]) -> list[str]:
        kept: dict[str, str | None] = {**KEEPALIVES, **self.target.keywords, **self.reached}
        kept["application_name"] = "pg_dump"
        # Use the options of our own session: an empty search_path, unless a pooler refuses it. A pattern without a
        # schema needs the user's search_path; while pg_dump resolves it, it qualifies every name.
        if not patterns:
            kept["options"] = startup_options(self.connection)
        # The owner of the database may have set another role for all sessions.
        role = f"--role={self.server.user}"
        return [str(self.client.path), f"--dbname={self.target.conninfo(**kept)}", "--no-password", role]


# pg_dump's output about a failed statement, in its C locale, after the server's message in the language of its
# lc_messages (14 begins the second line with "error: query was: "):
#   pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout
#   pg_dump: detail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE
_QUERY = re.compile(r"^[^\n:]*: (?:detail|error): [Qq]uery was: (LOCK TABLE|SET TRANSACTION SNAPSHOT)\b", re.MULTILINE)
_FAILED = "error: "


def last_error(said: str) -> str:
    """Return the error in the last lines of pg_dump's output."""
    lines = [line for line in said.splitlines() if _FAILED in line]
    found = lines[0].partition(_FAILED)[2] if lines else said.strip().rpartition("\n")[2]
    return found.rstrip(".")


def _timeout_message(connection: Connection) -> str:
    """Return this server's message, in its language, for a statement timeout."""
    try:
        connection.execute("SELECT pg_catalog.set_config('statement_timeout', '1', false)")
        connection.execute("SELECT pg_catalog.pg_sleep(60)")
    except psycopg.errors.QueryCanceled as error:
        return error.diag.message_primary or ""
    return ""
