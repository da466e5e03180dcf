"""The single transaction of a restore: clear, load, verify, commit."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from ..dumpfiles.dump_file import is_unchanged
from ..dumpformat.lexer import CopyData, CopyEnd, Statement, lex
from ..dumpformat.objects_without_rows import split_name
from ..dumpformat.summary import DumpSummary
from ..errors import OperationFailedError, TaskError
from ..formatting import format_list
from ..inventory.compare import ROLES, compare_objects_and_content, schemas_in, state_of_manifest
from ..inventory.reload_risks import find_reload_doubt
from ..inventory.requirements import create_roles
from ..inventory.snapshot import describe_unsummed, state_of_objects
from ..load.filters import read_rules
from ..load.lenient import LenientLoader, may_help
from ..load.loader import Loader, describe_statement
from ..postgres.commit import Outcome, ask_outcome, commit_transaction
from ..postgres.connection import connected, one, refuse_another_endpoint, translated
from ..postgres.protocol import StatementError
from ..postgres.roles import replaceable
from ..postgres.schemas import empty_schemas, refuse_new_content
from ..postgres.search_path import SearchPaths
from ..postgres.session_settings import READING
from ..postgres.system_grants import revoke_system_grants
from ..progress import Silence
from ..safety.safety_dump import NO_BACKUP_HINT
from ..system.runtime import Interruption
from .clear import (
    clear_default_privileges,
    create_public,
    drop_after,
    drop_before,
    read_globals,
    renew_schemas,
    restart_sequences,
    set_aside_default_privileges,
)
from .error_messages import explain_failure, raise_commit_failure, restore_outcome
from .plan import RestoreRequest, plan_restore
from .preflight import disconnect_others, lock_out_migrations, silence_event_triggers
from .table_restore import TableReplacement

if TYPE_CHECKING:
    from ..config.target import Target
    from ..dumpfiles.reader import DumpReader
    from ..dumpformat.statements import StatementKind
    from ..inventory.compare import DifferenceLine
    from ..inventory.snapshot import DatabaseState
    from ..load.lenient import Leniency
    from ..postgres.connection import Connection
    from ..progress import Report
    from ..safety.safety_dump import SafetyDump
    from .plan import RestorePlan


# Sorts for indexes are slow if they spill to disk. The limits are a part of effective_cache_size, and 256 MB because
# several restores may run at once.
_SORTING = """
SELECT pg_catalog.set_config('maintenance_work_mem', size / 1024 || 'kB', true)
  FROM (SELECT least(pg_catalog.pg_size_bytes(pg_catalog.current_setting('effective_cache_size')) / 16, 268435456)
      AS size) AS t
 WHERE size > pg_catalog.pg_size_bytes(pg_catalog.current_setting('maintenance_work_mem'))
"""
# New indexes are written to the WAL page by page, and lz4 halves them. A standby or a reader of an archive may not know
# lz4, so the setting is not changed if there may be one.
_LOGGING = """
SELECT pg_catalog.set_config('wal_compression', 'lz4', true) FROM pg_catalog.pg_settings
 WHERE name = 'wal_compression' AND setting = 'off' AND 'lz4' = ANY (enumvals)
   AND (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
   AND pg_catalog.current_setting('archive_mode') = 'off' AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_replication)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical')
"""


def tune_transaction(connection: Connection) -> None:
    """Set more memory for sorting and WAL compression, for the open transaction only (docs/performance.md)."""
    connection.execute(_SORTING)
    connection.execute(_LOGGING)


@dataclass
class RestoreTransaction:
    """The single transaction of a restore."""

    safety: SafetyDump
    plan: RestorePlan
    report: Report
    doing: str = "beginning"
    committed_as: str = ""
    proven: DatabaseState | None = None
    differences: tuple[DifferenceLine, ...] = ()
    leniencies: tuple[Leniency, ...] = ()
    # Until COMMIT is sent, every failure rolls back.
    outcome: Outcome = Outcome.ROLLED_BACK
    _saving: bool = False
    _replacement: TableReplacement | None = None

    def ask_outcome(self) -> Outcome:
        """Return the outcome of the transaction, from the server if the commit may have begun."""
        if self.committed_as and self.outcome is not Outcome.COMMITTED:
            plan = self.plan
            self.outcome = ask_outcome(self.committed_as, plan.target, plan.server.system_identifier)
        self.safety.committed = self.outcome is Outcome.COMMITTED
        return self.outcome

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
                    self.safety.make(connection, self.plan.present_schemas, self.report, self.plan.changed)
                    if plan.tries_undo:
                        try_safety_dump(connection, self.safety, plan.target, self.report)
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
            self.doing = "committing"
            self.report.progress(self.doing, 0, 0, "")
            self.committed_as = xid
            commit = commit_transaction(loader.stream, xid, plan.target, plan.server.system_identifier)
            self.outcome = commit.outcome
            raise_commit_failure(commit, restore_outcome(commit.outcome, plan.target.label))
        return summary, loader

    def _begin(self, connection: Connection) -> str:
        with translated("The transaction could not begin, and nothing was touched"):
            # Defaults may differ. With a fixed snapshot, changes committed while waiting for a lock would be invisible.
            connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE")
            xid = str(one(connection, "SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text")[0])
            lock_out_migrations(connection)
            silence_event_triggers(connection, self.plan.server)
            tune_transaction(connection)
        return xid

    def _empty(self, connection: Connection) -> None:
        if self._replacement is not None:
            self.doing = "emptying the tables" if self.plan.request.data_only else "dropping the tables"
            self._replacement.clear()
            return
        sequences = [(each.schema, each.name) for each in self.plan.dump.sequences]
        if not self.plan.request.clean:
            create_public(connection, self.plan.dump.outline.schemas)
            restart_sequences(connection, sequences)
            return
        self.doing = "emptying the schemas"
        self.report.progress(self.doing, 0, 0, "")
        if self.plan.removed.is_empty:
            refuse_new_content(connection, self.plan.fills)
        outline = self.plan.dump.outline
        if not self.plan.request.replaces_all:
            empty_schemas(connection, outline.schemas, replaceable(connection, self.plan.server, outline.globals))
            create_public(connection, outline.schemas)
            restart_sequences(connection, sequences)
            return
        manifest = self.plan.dump.manifest
        assert manifest is not None  # noqa: S101 - every safety dump has one
        kept = state_of_manifest(manifest)
        drop_before(connection, outline.globals)
        again = replaceable(connection, self.plan.server, read_globals(connection))
        empty_schemas(connection, self.plan.emptied, again)
        drop_after(connection, outline.globals, schemas_in(kept), kept.extensions)
        renew_schemas(connection)
        create_public(connection, schemas_in(kept))
        revoke_system_grants(connection)
        clear_default_privileges(connection)

    def _abandon(self, connection: Connection) -> None:
        """Cancel the running statement and discard the safety dump. Closing the connection then rolls back."""
        with contextlib.suppress(psycopg.Error):
            connection.cancel_safe(timeout=5)
        self.safety.discard()

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
            loader = self._loader(connection)
            return self._send(loader), loader
        connection.execute("SAVEPOINT invoke_postgres_load")
        loader = self._loader(connection)
        try:
            summary = self._send(loader)
        except StatementError as error:
            if not may_help(error):
                raise
            self.report.detail(f"{error.doing or self.doing} failed: {error}. Loading again, in the lenient way.")
            loader.stream.recover()
            connection.execute("ROLLBACK TO SAVEPOINT invoke_postgres_load")
            loader = lenient = self._loader(connection, lenient=True)
            summary = self._send(lenient)
        connection.execute("RELEASE SAVEPOINT invoke_postgres_load")
        return summary, loader

    def _loader(self, connection: Connection, *, lenient: bool = False) -> Loader:
        request = self.plan.request
        with translated("Reading the database failed, and the restore was rolled back", self.plan.target):
            names = connection.execute("SELECT nspname FROM pg_catalog.pg_namespace").fetchall()
            set_aside = set_aside_default_privileges(connection, self.plan.fills)
        options = {"owners": request.owners, "privileges": request.privileges, "strict": request.strict}
        rules = read_rules(connection, skipped=request.skip_extensions, **options)
        make = partial(LenientLoader, dump=self.plan.dump, search_path=self.plan.search_path) if lenient else Loader
        return make(
            connection=connection,
            server=self.plan.server,
            rules=rules,
            schemas={str(name) for (name,) in names},
            set_aside=set_aside,
            clean=request.clean,
            # Triggers of the database may change rows of a dump without definitions.
            exact=self.plan.dump.manifest is not None and self.plan.dump.outline.creates_tables,
        )

    def _send(self, loader: Loader) -> DumpSummary:
        summary = DumpSummary()
        SearchPaths(loader.stream, self.plan.search_path).begin()
        with self.plan.dump.open() as source:
            events = summary.watch(lex(source.chunks()))
            for event, action in self.plan.tables.selection.filter(events) if self.plan.tables else events:
                if isinstance(event, CopyData):
                    loader.data(event.text)
                    self._progress(source)
                elif isinstance(event, Statement) and action is not None:
                    self._show_step(summary, action, source)
                    loader.stream.encoding = summary.encoding
                    loader.statement(event, action)
                elif isinstance(event, CopyEnd):
                    loader.end_of_data(summary.block)
            if source.content != self.plan.dump.content or not summary.complete:
                raise OperationFailedError("the content of the dump has changed since it was checked")
        loader.finish()
        if self._replacement is not None:
            self.doing = "checking the foreign keys"
            self._replacement.put_back()
        return summary

    def _prove(self, summary: DumpSummary, loader: Loader, xid: str) -> None:
        self.doing = "verifying"
        self.report.progress(self.doing, 0, 0, "")
        self.leniencies = loader.leniencies if isinstance(loader, LenientLoader) else ()
        for each in self.leniencies:
            self.report.warn(f"{each}.")
        tables = self.plan.tables
        sequences = {key: each for key, each in summary.sequences.items() if self.plan.sets(key)}
        loader.prove({key: (each.value, each.is_called) for key, each in sequences.items()})
        manifest = self.plan.dump.manifest
        if manifest is not None and summary.tables() != tuple(sorted(manifest.tables)):
            raise OperationFailedError("the numbers of loaded rows differ from the manifest")
        outline, seen = self.plan.dump.outline, summary.outline()
        # With --table, the plan has read the outline from the dump itself, not from the manifest.
        if tables is None and (
            (seen.schemas, seen.globals, seen.creates_tables)
            != (
                outline.schemas,
                outline.globals,
                outline.creates_tables,
            )
            or outline.touches not in {None, seen.touches}
        ):
            raise OperationFailedError("the objects in the dump differ from the outline in its manifest")
        if not is_unchanged(self.plan.dump):
            raise OperationFailedError("the dump's file was changed while it was restored")
        now = loader.stream.ask(b"SELECT pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text")
        if not loader.stream.in_transaction or now != [[xid.encode()]]:
            raise OperationFailedError("the transaction is no longer the one that the restore began")

    def _compare(self, connection: Connection, loader: Loader) -> None:
        """Compare every object, and with --checksums the rows, with the manifest's facts.

        :raises OperationFailedError: An object is missing or differs, or, with --clean, is not in the dump.
        """
        manifest, request = self.plan.dump.manifest, self.plan.request
        if manifest is None or not ({"objects", "definitions"} & manifest.facts.keys()):
            return
        tables = self.plan.tables
        expected = state_of_manifest(manifest)
        expected = expected if tables is None else tables.narrow(expected)
        self.doing = "comparing"
        self.report.progress(self.doing, 0, 0, "")
        summed = expected.checksums if request.checksums else {}
        found = state_of_objects(connection, summed)
        self.proven = found if tables is None else tables.narrow(found)
        if unsummed := describe_unsummed(self.proven, summed):
            self.report.warn(unsummed)
        schemas_filled = (*self.plan.fills, *([""] if request.replaces_all else [])) if request.clean else None
        lines = compare_objects_and_content(expected, self.proven, schemas_filled)
        for line in lines:
            # The statements were executed as in the dump, but the server writes the expression in another form.
            if line.text:
                self.differences += (line,)
                self.report.warn(str(line))
            elif line.fatal and line.kind not in loader.skipped_kinds and not self._is_excused(line):
                others = [each for each in lines if each.fatal and not each.text and each is not line]
                raise OperationFailedError(format_list([str(each) for each in (line, *others)], 1))
            # Missing roles are reported at the end, by role.
            if not (line.kind in ROLES and any(each.concerns_roles for each in loader.left_out)):
                self.report.warn(str(line))

    def _is_excused(self, line: DifferenceLine) -> bool:
        """Return whether the lenient way has already reported a difference."""
        parts = split_name(line.name.encode("utf-8", "surrogateescape"))
        return any(parts in each.objects for each in self.leniencies)

    def _show_step(self, summary: DumpSummary, action: StatementKind, source: DumpReader) -> None:
        table = ".".join(summary.current) if summary.current else ""
        self.doing = f"loading {table}" if table and action.verb == "COPY" else describe_statement(action)
        self._progress(source)

    def _progress(self, source: DumpReader) -> None:
        self.report.progress(self.doing, source.position, self.plan.dump.size if source.position else 0, "bytes")


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
    transaction = RestoreTransaction(safety=replace(safety, wanted=False, dumped=None), plan=plan, report=Silence())
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
        connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE")
        lock_out_migrations(connection)
        try_safety_dump(connection, safety, target, report)
        connection.execute("ROLLBACK")
