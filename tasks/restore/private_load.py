"""Load a dump with several sessions into a database that only this process uses.

The caller drops the database after a failure, so nothing is rolled back, and the sessions commit while they load.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..dumpfiles.reader import DumpReader, read_ahead
from ..load.lenient import may_help
from ..load.parallel_loader import BEGIN, ParallelLoader
from ..load.workers import WorkerPool
from ..postgres.connection import Connection, connect, connected, refuse_another_endpoint, translated
from ..postgres.protocol import StatementError
from ..postgres.search_path import SearchPaths
from ..system.runtime import Interruption
from .clear import (
    clear_default_privileges,
    create_public,
    default_privilege_statements,
    empty_database,
    read_extensions,
    read_globals,
    user_schemas,
)
from .dump_load import DumpLoad
from .error_messages import explain_failure
from .preflight import silence_event_triggers
from .tuning import tune_private_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg import sql

    from ..dumpformat.summary import DumpSummary
    from ..load.loader import Loader

    Loaded = tuple[DumpSummary, Loader]


@dataclass(frozen=True)
class _Content:
    """What a private database contains before the load.

    :ivar default_privileges: The statements that set its default privileges.
    """

    globals: frozenset[str]
    schemas: frozenset[str]
    extensions: frozenset[str]
    default_privileges: tuple[sql.Composed, ...]


class PrivateLoad(DumpLoad):
    """The load of a dump into a private database, with the setting's number of sessions for rows, indexes and keys."""

    _before: _Content | None = None
    # 0 if event triggers would also run for the statements that we add.
    _jobs: int = 0

    def run(self) -> Loaded:
        """Load, verify and commit; if the server refuses a statement and the plan allows it, load in the lenient way.

        :raises TaskError: The restore failed. The database then contains a part of the dump.
        """
        try:
            return self._run(self._load_with_sessions, again=self.plan.lenient)
        except StatementError as error:
            self.report.detail(f"{error.doing or self.doing} failed: {error}. Loading again, in the lenient way.")
        return self._run(self._load_leniently, again=False)

    def _run(self, load: Callable[[Connection], Loaded], *, again: bool) -> Loaded:
        """Load, verify and commit in a new session.

        :param again: Whether the load is tried again, so that its errors are raised as they are.
        """
        plan = self.plan
        with connected(plan.target, lock_timeout=plan.settings.lock_timeout, loads=True) as connection:
            try:
                self._begin(connection)
                summary, loader = load(connection)
                again = False
                # The commit of a transaction with an id waits until everything before it is on disk.
                connection.execute("SET LOCAL synchronous_commit = on")
                # The dump may have set an encoding in which psycopg returns bytes.
                found = loader.stream.ask(b"SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text")
                xid = (found[0][0] or b"").decode()
                self._prove(summary, loader, xid)
                self._compare(connection, loader)
            except Exception as error:
                self._abandon(connection)
                if again and isinstance(error, StatementError) and may_help(error):
                    raise
                raise explain_failure(error, plan, self.doing) from None
            except Interruption:
                self._abandon(connection)
                raise
            self.commit.run(loader.stream, xid)
        return summary, loader

    def _begin(self, connection: Connection) -> None:
        self._prepare(connection)
        connection.execute(BEGIN)
        if self._before is None:
            self._before = _Content(
                globals=frozenset(read_globals(connection)),
                schemas=frozenset(user_schemas(connection)),
                extensions=frozenset(read_extensions(connection)),
                default_privileges=tuple(default_privilege_statements(connection)),
            )
            create_public(connection, self.plan.dump.outline.schemas)

    def _prepare(self, connection: Connection) -> None:
        with translated("The session could not be prepared", self.plan.target):
            refuse_another_endpoint(connection, self.plan.endpoint)
            tune_private_session(connection, self.plan.settings.jobs)
            silent = silence_event_triggers(connection, self.plan.server, session=True)
            triggers = "SELECT FROM pg_catalog.pg_event_trigger LIMIT 1"
            self._jobs = self.plan.settings.jobs if silent or not connection.execute(triggers).rowcount else 0

    def _connect(self) -> Connection:
        connection = connect(self.plan.target, lock_timeout=self.plan.settings.lock_timeout, loads=True)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _load_with_sessions(self, connection: Connection) -> Loaded:
        with WorkerPool(self._connect, self._jobs) as pool:
            make = partial(
                ParallelLoader,
                pool=pool,
                spreads=not self.plan.request.preserve_order,
                expected={(each.schema, each.name): each.rows for each in self.plan.dump.tables or ()},
                show=self._show_left,
            )
            loader = self._loader(connection, make)
            SearchPaths(loader.stream, self.plan.search_path).begin(session=True)
            summary = self._send(loader)
            self.analyzed = loader.analyzed
            return summary, loader

    def _show_left(self, what: str, left: int) -> None:
        self.report.progress(f"{what} ({left} left)", 0, 0, "")

    def _load_leniently(self, connection: Connection) -> Loaded:
        """Empty the database, and load in one session and one transaction."""
        before = self._before
        assert before is not None  # noqa: S101 - the first load has set it
        schemas = user_schemas(connection)
        empty_database(connection, self.plan.server, schemas, before.globals, before.schemas, before.extensions)
        clear_default_privileges(connection)
        for statement in before.default_privileges:
            connection.execute(statement)
        create_public(connection, self.plan.dump.outline.schemas)
        loader = self._lenient_loader(connection)
        SearchPaths(loader.stream, self.plan.search_path).begin()
        return self._send(loader), loader

    def _reading(self, source: DumpReader) -> contextlib.AbstractContextManager[Iterator[bytes]]:
        return contextlib.closing(read_ahead(source.chunks()))
