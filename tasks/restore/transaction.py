"""The single transaction of a restore: clear, load, verify, commit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import TaskError
from ..formatting import format_list
from ..inventory.compare import schemas_in, state_of_manifest
from ..inventory.reload_risks import find_reload_doubt
from ..inventory.requirements import create_roles
from ..load.lenient import may_help
from ..load.loader import Loader
from ..postgres.connection import Connection, connected, one, refuse_another_endpoint, translated
from ..postgres.protocol import StatementError
from ..postgres.roles import replaceable
from ..postgres.schemas import empty_schemas, refuse_new_content
from ..postgres.search_path import SearchPaths
from ..postgres.session_settings import READING
from ..postgres.system_grants import revoke_system_grants
from ..progress import Report, Silence
from ..safety.safety_dump import NO_BACKUP_HINT, SafetyDump
from ..system.runtime import Interruption
from .clear import (
    clear_default_privileges,
    create_public,
    empty_database,
    renew_schemas,
    restart_sequences,
)
from .dump_load import DumpLoad
from .error_messages import Commit, explain_failure
from .plan import plan_restore
from .preflight import begin_change, disconnect_others, silence_event_triggers
from .request import RestoreRequest
from .table_restore import TableReplacement
from .tuning import tune_transaction

if TYPE_CHECKING:
    from ..config.target import Target
    from ..dumpformat.summary import DumpSummary


@dataclass
class RestoreTransaction(DumpLoad):
    """The single transaction of a restore."""

    _saving: bool = False
    _replacement: TableReplacement | None = None

    def run(self) -> tuple[DumpSummary, Loader]:
        """Clear, load, verify and commit.

        :raises TaskError: The restore failed; the message says whether it was rolled back.
        """
        plan = self.plan
        with connected(plan.target, lock_timeout=plan.settings.lock_timeout, loads=True) as connection:
            try:
                refuse_another_endpoint(connection, plan.endpoint)
                with disconnect_others(connection, plan.target, self.report, enabled=plan.request.disconnect):
                    xid = self._begin(connection)
                    if plan.tables is not None:
                        self.doing = "locking the tables"
                        self._replacement = TableReplacement(connection=connection, plan=plan.tables)
                        self._replacement.lock()
                    self.doing, self._saving = "making the safety dump", True
                    safety = self.commit.safety
                    safety.make(connection, plan.present_schemas, self.report, plan.changed)
                    if plan.tries_undo:
                        try_safety_dump(connection, safety, plan.target, self.report)
                    self._saving = False
                    self._empty(connection)
                    create_roles(connection, plan.server, plan.new_roles)
                    summary, loader = self._load(connection)
                self._prove(summary, loader, xid)
                self._compare(connection, loader)
            except Exception as error:
                self._abandon(connection)
                if self._saving and isinstance(error, TaskError):
                    # Its message already says that nothing was touched.
                    raise
                raise explain_failure(error, self.plan, self.doing) from None
            except Interruption:
                self._abandon(connection)
                raise
            self.report.progress("committing", 0, 0, "")
            self.commit.run(loader.stream, xid)
        return summary, loader

    def _begin(self, connection: Connection) -> str:
        with translated("The transaction could not begin, and nothing was touched"):
            xid = begin_change(connection)
            silence_event_triggers(connection, self.plan.server)
            tune_transaction(connection)
        return xid

    def _empty(self, connection: Connection) -> None:
        if self._replacement is not None:
            self.doing = "emptying the tables" if self.plan.request.data_only else "dropping the tables"
            self._replacement.clear()
            return
        outline = self.plan.dump.outline
        if self.plan.request.clean:
            self.doing = "emptying the schemas"
            self.report.progress(self.doing, 0, 0, "")
            if self.plan.removed.is_empty:
                refuse_new_content(connection, self.plan.fills)
            if self.plan.request.replaces_all:
                self._empty_database(connection)
                return
            empty_schemas(connection, outline.schemas, replaceable(connection, self.plan.server, outline.globals))
        create_public(connection, outline.schemas)
        restart_sequences(connection, [(each.schema, each.name) for each in self.plan.dump.sequences])

    def _empty_database(self, connection: Connection) -> None:
        outline, manifest = self.plan.dump.outline, self.plan.dump.manifest
        assert manifest is not None  # noqa: S101 - every safety dump has one
        kept = state_of_manifest(manifest)
        schemas, kept_globals = self.plan.emptied, outline.globals
        empty_database(connection, self.plan.server, schemas, kept_globals, schemas_in(kept), kept.extensions)
        renew_schemas(connection)
        create_public(connection, schemas_in(kept))
        revoke_system_grants(connection)
        clear_default_privileges(connection)

    def try_out(self, connection: Connection, xid: str) -> None:
        """Clear, load and verify in the open transaction of the caller, who rolls it back.

        :raises Exception: The error of the server or of the comparison, not translated.
        """
        self._empty(connection)
        summary, loader = self._load(connection)
        self._prove(summary, loader, xid)
        self._compare(connection, loader)

    def _load(self, connection: Connection) -> tuple[DumpSummary, Loader]:
        """Load the dump; if the server refuses a statement and the plan allows it, load again in the lenient way."""
        if not self.plan.lenient:
            loader: Loader = self._loader(connection, Loader)
            return self._send(loader), loader
        connection.execute("SAVEPOINT invoke_postgres_load")
        loader = self._loader(connection, Loader)
        try:
            summary = self._send(loader)
        except StatementError as error:
            if not may_help(error):
                raise
            self.report.detail(f"{error.doing or self.doing} failed: {error}. Loading again, in the lenient way.")
            loader.stream.recover()
            connection.execute("ROLLBACK TO SAVEPOINT invoke_postgres_load")
            loader = self._lenient_loader(connection)
            summary = self._send(loader)
        connection.execute("RELEASE SAVEPOINT invoke_postgres_load")
        return summary, loader

    def _send(self, loader: Loader) -> DumpSummary:
        SearchPaths(loader.stream, self.plan.search_path).begin()
        summary = super()._send(loader)
        if self._replacement is not None:
            self.doing = "checking the foreign keys"
            self._replacement.put_back()
        return summary


def try_safety_dump(connection: Connection, safety: SafetyDump, target: Target, report: Report) -> None:
    """Load a safety dump as an undo would and roll back, if the catalogue shows a reason why it may not load.

    :param connection: A connection in the transaction that will delete the dumped objects.
    :raises TaskError: The safety dump can't be loaded. Nothing was touched.
    """
    if safety.dumped is None or not find_reload_doubt(connection):
        return
    request = RestoreRequest(file=str(safety.dumped.path), clean=True, replaces_all=True, backup=False, trust=True)
    refused = "The safety dump can't be loaded, so `db.undo` would fail."
    try:
        plan = plan_restore(safety.settings, request, Silence(), target=target)
    except TaskError as error:
        raise error.reworded(f"{refused} {error} {NO_BACKUP_HINT}") from None
    report.progress("loading the safety dump as a trial, then rolling back", 0, 0, "")
    xid = str(one(connection, "SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text")[0])
    connection.execute("SAVEPOINT invoke_postgres_trial")
    connection.execute(
        "SELECT pg_catalog.set_config(name, '', true) FROM pg_catalog.pg_settings WHERE name = ANY(%s)", [list(READING)]
    )
    silence_event_triggers(connection, plan.server)
    commit = Commit(safety=replace(safety, wanted=False, dumped=None), target=target)
    transaction = RestoreTransaction(commit=commit, plan=plan, report=Silence())
    try:
        transaction.try_out(connection, xid)
    except Exception as error:
        explained = explain_failure(error, plan, transaction.doing)
        if not isinstance(explained, TaskError):
            raise
        raise explained.reworded(f"{refused} {explained} {NO_BACKUP_HINT}") from None
    connection.execute("ROLLBACK TO SAVEPOINT invoke_postgres_trial")
    connection.execute("RELEASE SAVEPOINT invoke_postgres_trial")
    if transaction.leniencies:
        eased = format_list([str(each) for each in transaction.leniencies])
        report.warn(f"`db.undo` loads the safety dump in the lenient way: {eased}.")


def try_migrations_undo(safety: SafetyDump, target: Target, report: Report) -> None:
    """Load the safety dump of a migration in a separate transaction, as :func:`try_safety_dump` does.

    :raises TaskError: The safety dump can't be loaded, or another session blocks it. Nothing was touched.
    """
    with (
        connected(target, lock_timeout=safety.settings.lock_timeout) as connection,
        translated("The trial load of the safety dump failed, and nothing was touched", target),
    ):
        begin_change(connection)
        try_safety_dump(connection, safety, target, report)
        connection.execute("ROLLBACK")
