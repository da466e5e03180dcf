"""Run the checks of `db.doctor` in order. They change nothing."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg

from ..config.prisma_home import has_schema, prisma_home
from ..dump.destination import free_bytes
from ..errors import MissingProgramError, TaskError
from ..formatting import format_list
from ..postgres.connection import Connection, ServerFacts, one, server_facts, translated
from ..prisma.forecast import read_histories
from ..prisma.project import find_prisma
from ..system.pg_programs import find_client, newest_client
from ..system.processes import run_program
from .check import Check, CheckState, note, ok, refused, skipped, wrong
from .connectivity import check_connectivity, resolve_addresses
from .database_checks import check_kept_databases, check_staging_databases, check_swap
from .folder_checks import check_folder, check_ignored, check_leftovers, check_newest, check_space, manifest_or_none
from .server_checks import (
    check_clock,
    check_lock_capacity,
    check_rehearsals,
    check_reload,
    check_rights,
    check_role,
    check_server,
    check_sessions,
)
from .tasks_file import check_tasks_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ..config.settings import Settings
    from ..config.target import Target
    from ..dumpfiles.catalog import Listed
    from ..progress import Report
    from .connectivity import Reached, Resolve


@dataclass(frozen=True)
class Examined:
    """The results of all checks.

    :ivar label: The database's name for messages; empty if the URL is not understood.
    """

    label: str
    checks: tuple[Check, ...]

    @property
    def wrong(self) -> list[Check]:
        """Return the checks that found a problem."""
        return [check for check in self.checks if check.state is CheckState.WRONG]


def examine(
    settings: Settings,
    report: Report,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    resolve: Resolve = resolve_addresses,
    free: Callable[[Path], int] = free_bytes,
) -> Examined:
    """Run all checks; skip a check if an earlier problem prevents it. Nothing is changed.

    :param now: This machine's clock.
    :param resolve: Returns the addresses of a host, or raises OSError.
    :param free: Returns the free bytes of a folder's file system.
    """
    report.progress("reaching the server", 0, 0, "")
    reached = check_connectivity(settings, resolve=resolve)
    with contextlib.ExitStack() as stack:
        if reached.connection is not None:
            stack.callback(reached.connection.close)
        examination = _Examination(settings=settings, report=report, reached=reached, now=now, free=free)
        examination.run()
    target = reached.target
    checks = [*reached.checks, *examination.checks]
    if target is not None:
        checks = [replace(each, what=target.scrub(each.what), remedy=target.scrub(each.remedy)) for each in checks]
    return Examined(target.label if target else "", tuple(checks))


@dataclass
class _Examination:
    """The checks after those of the connection."""

    settings: Settings
    report: Report
    reached: Reached
    now: Callable[[], datetime]
    free: Callable[[Path], int]
    checks: list[Check] = field(default_factory=list)
    server: ServerFacts | None = None
    newest: Listed | None = None

    def run(self) -> None:
        settings = self.settings
        self._look("server", self._server)
        self._ask("rights", lambda there, facts, target: check_rights(there, facts, settings, target))
        self._ask("role", lambda there, facts, _: check_role(there, facts))
        self._look("pg_dump", self._pg_dump)
        self._look("pg_restore", self._pg_restore)
        self._look("tasks.py", lambda: check_tasks_file(settings.root))
        self._look("Prisma", self._prisma)
        self._ask("migrations", lambda *_: self._migrations())
        self._look("folder", lambda: check_folder(settings))
        self._look("ignored by git", lambda: check_ignored(settings))
        self._look("free space", self._space)
        self._look("leftovers", lambda: check_leftovers(settings))
        self._ask("scratch databases", lambda there, *_: check_rehearsals(there))
        self._ask("staging databases", lambda there, _, target: check_staging_databases(there, settings, target))
        self._ask("kept databases", lambda there, _, target: check_kept_databases(there, settings, target))
        self._ask("other sessions", lambda there, *_: check_sessions(there, settings))
        self._look("newest dump", self._newest)
        self._ask("locks", lambda there, *_: check_lock_capacity(there, manifest_or_none(self.newest)))
        self._ask("swap", self._swap)
        self._ask("definitions", lambda there, *_: check_reload(there))
        self._ask("clock", lambda there, *_: check_clock(there, self.now))

    def _ask(self, name: str, look: Callable[[Connection, ServerFacts, Target], Check | Sequence[Check]]) -> None:
        """Run a check that needs the server."""
        connection, server, target = self.reached.connection, self.server, self.reached.target
        if connection is None or server is None or target is None:
            self.checks.append(skipped("there is no connection to the server").named(name))
        elif connection.closed:
            self.checks.append(skipped("the connection was lost").named(name))
        else:
            self._look(name, lambda: look(connection, server, target))

    def _look(self, name: str, look: Callable[[], Check | Sequence[Check]]) -> None:
        """Run a check; an expected error becomes its finding."""
        self.report.progress(f"checking {name}", 0, 0, "")
        try:
            with translated("the server did not answer", self.reached.target):
                found = look()
        except (TaskError, OSError) as error:
            failure = error if isinstance(error, TaskError) else TaskError(str(error))
            found = refused(failure, "Fix this, then run `inv db.doctor` again.")
        self.checks += [found.named(name)] if isinstance(found, Check) else found

    def _server(self) -> Check:
        connection = self.reached.connection
        if connection is None:
            return skipped("there is no connection to the server")
        # A precaution: no check writes.
        connection.execute("SET default_transaction_read_only = on")
        self.server = server_facts(connection)
        return check_server(connection, self.server)

    def _pg_dump(self) -> Check:
        bin_dir, environ = self.settings.bin_dir, self.settings.environ
        if self.server is None:
            found = newest_client("pg_dump", bin_dir=bin_dir, environ=environ)
            return ok(f"{found.version} ({found.path}); whether it fits the server is not known")
        found = find_client("pg_dump", self.server.major, bin_dir=bin_dir, environ=environ)
        return ok(f"{found.version} ({found.path})")

    def _pg_restore(self) -> Check:
        try:
            found = newest_client("pg_restore", bin_dir=self.settings.bin_dir, environ=self.settings.environ)
        except MissingProgramError as error:
            missing = refused(error)
            return note(f"{missing.what}; only dumps in the custom format need it", missing.remedy)
        return ok(f"{found.version} ({found.path})")

    def _prisma(self) -> Check:
        settings = self.settings
        home = prisma_home(settings.root, settings.prisma_dir)
        if not has_schema(home) and not settings.migrate_command:
            return note(f"there is no Prisma schema in {home}", "If it is in another folder, set db.prisma_dir.")
        found = find_prisma(home, settings.environ, settings.migrate_command)
        if found.configured:
            return ok(f"`{' '.join(found.configured)}` in {found.home}")
        node = run_program(["node", "--version"]).stdout.strip() if found.package else "by Yarn"
        return ok(f"{found.version or 'of unknown version'} in {found.home}, Node.js {node}")

    def _migrations(self) -> Check:
        settings = self.settings
        home = prisma_home(settings.root, settings.prisma_dir)
        if not has_schema(home):
            return skipped("there is no Prisma schema")
        with contextlib.suppress(MissingProgramError):
            prisma = find_prisma(home, settings.environ)
            if not prisma.knows_history:
                return skipped(f"Prisma {prisma.major} has its history in another table")
        histories = read_histories(settings, "", self.report)
        # The first finding is the one that prevents a deploy.
        for finding in histories.findings:
            what = finding.what + (f" (Prisma: {finding.code})" if finding.code else "")
            return (wrong if finding.fatal else note)(what, finding.remedy)
        if pending := [each.name for each in histories.compared if each.states[0] == "pending"]:
            return note(f"{len(pending)} pending: {format_list(pending)}", "`inv db.migrate` applies them.")
        return ok(f"{len(histories.compared)}, none is pending and none has failed")

    def _space(self) -> Check:
        connection, database = self.reached.connection, None
        if connection is not None and self.server is not None:
            with contextlib.suppress(psycopg.Error):
                database = int(one(connection, "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())")[0])
        return check_space(self.settings, database, self.free)

    def _swap(self, connection: Connection, facts: ServerFacts, target: Target) -> Check:
        return check_swap(connection, facts, self.settings, target, manifest_or_none(self.newest))

    def _newest(self) -> Check:
        check, self.newest = check_newest(self.settings, self.now())
        return check
