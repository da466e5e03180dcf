"""Restore a dump, record the restore for `db.verify`, and run ANALYZE."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from ..dumpformat.manifest import Manifest, table_rows
from ..errors import DifferenceError, Effect, TaskError
from ..formatting import format_list, format_now, show_name
from ..inventory.compare import DifferenceLine, state_to_facts
from ..load.filters import Omission, OmissionKind
from ..load.row_counts import Changed, quote_table, show_key
from ..postgres.connection import Connection, connected
from ..postgres.protocol import StatementStream
from ..safety.restore_log import RestoreRecord, record_path, write_record
from ..safety.safety_dump import SafetyDump
from ..safety.trust import require_trust
from ..system.runtime import Interruption, set_interrupt_message
from .error_messages import Commit
from .private_load import PrivateLoad
from .transaction import RestoreTransaction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..dump.dump import Dumped
    from ..dumpformat.summary import DumpSummary
    from ..inventory.snapshot import Key
    from ..load.lenient import Leniency
    from ..load.loader import Loader
    from ..progress import Report
    from ..safety.own_databases import DatabaseRecord
    from .dump_load import DumpLoad
    from .plan import RestorePlan


# The number of rows that ANALYZE samples at the default_statistics_target of 100.
_SAMPLED = 30_000
# The number of sessions for ANALYZE.
_ANALYZING = 2


@dataclass(frozen=True)
class Restored:
    """A committed restore.

    :ivar rows: The number of loaded rows; of tables whose rows changed afterwards, the present number.
    :ivar left_out: The number of statements that were left out, by reason.
    :ivar saved: The safety dump of the old content.
    :ivar changed: The tables and sequences that do not contain what the dump loaded.
    :ivar proven: Whether every table was counted and contains the loaded rows.
    :ivar differences: Expressions that the server now writes in another form than in the dump. They are committed,
        because the statements were executed as in the dump.
    :ivar leniencies: The objects that PostgreSQL refused and that were loaded in the lenient way.
    :ivar record: What `db.verify` compares with later.
    :ivar migrated: The seconds of the migrations in a staging database; None without them.
    :ivar kept: After a swap: the database that had the name before; None if it was dropped.
    :ivar cut_off: After a swap: for how many seconds no session could use the database, at most.
    :ivar ended: After a swap: the number of sessions that were ended.
    :ivar created: Whether the database did not exist before.
    """

    plan: RestorePlan
    tables: int
    rows: int
    seconds: float
    left_out: Counter[Omission] = field(default_factory=Counter)
    saved: Dumped | None = None
    changed: tuple[Changed, ...] = ()
    proven: bool = True
    differences: tuple[DifferenceLine, ...] = ()
    leniencies: tuple[Leniency, ...] = ()
    record: RestoreRecord | None = None
    migrated: float | None = None
    kept: DatabaseRecord | None = None
    cut_off: float | None = None
    ended: int = 0
    created: bool = False

    @property
    def complete(self) -> bool:
        """Return whether the database contains exactly what the dump contains."""
        return not (self.leniencies or self.changed or self.differences)

    def refuse_differences(self, done: str) -> None:
        """Raise if the committed database differs from the dump.

        :param done: The beginning of the sentence, such as "The restore is committed".
        :raises DifferenceError: Statements of the dump or triggers changed rows after they were loaded, the server
            writes an expression in another form, or objects were loaded in the lenient way.
        """
        if self.complete:
            return
        raise DifferenceError(f"{done}, {self.describe_differences()}.", effect=Effect.CHANGED, result=self)

    def describe_differences(self) -> str:
        """Return how the database differs from the dump, as a clause; empty if it does not."""
        if self.complete:
            return ""
        if self.leniencies:
            return f"in the lenient way: {format_list([str(each) for each in self.leniencies], 1)}"
        if self.changed:
            changed = format_list([str(each) for each in self.changed], 1)
            why = "Statements of the dump or triggers changed the loaded data, as they would with psql"
            return f"but {changed}. {why}"
        differing = format_list([f"{each.kind} {each.name}" for each in self.differences], 1)
        return f"but definitions differ from the dump: {differing}"

    @property
    def lacks(self) -> list[tuple[str, int]]:
        """Return the reasons and numbers of `left_out`, without the settings that every dump contains."""
        known = {each: count for each, count in self.left_out.items() if each.kind is not OmissionKind.OWN_SETTINGS}
        return sorted((str(each), count) for each, count in known.items())


def safety_dump_for(plan: RestorePlan) -> SafetyDump:
    """Return the safety dump of a restore, not yet made."""
    name, manifest = plan.dump.path.name, plan.dump.manifest
    tables = "".join(f"--table={each} " for each in plan.request.tables)
    command = f"db.undo --to={manifest.id}" if plan.request.replaces_all and manifest else f"db.restore {tables}{name}"
    return SafetyDump(
        settings=plan.settings,
        server=plan.server,
        endpoint=plan.endpoint,
        before=f"restoring {name}",
        wanted=plan.makes_safety_dump,
        command=command,
    )


def restore_dump(
    plan: RestorePlan, report: Report, *, remember: bool = True, safety: SafetyDump | None = None
) -> Restored:
    """Load the dump, verify it and commit: in one transaction, or with several sessions into a private database.

    :param remember: Record the restore for `db.verify`.
    :param safety: The safety dump, for a caller who needs it also after an error.
    :raises TaskError: The restore was rolled back, or the message says that its outcome is unknown.
    """
    if plan.risk:
        require_trust(plan.risk, None)
    began = time.monotonic()
    safety = safety or safety_dump_for(plan)
    several = plan.private and plan.settings.jobs > 1 and plan.tables is None
    commit = Commit(safety=safety, target=plan.target)
    transaction = (PrivateLoad if several else RestoreTransaction)(commit=commit, plan=plan, report=report)
    with commit.reported():
        summary, loader = transaction.run()
        set_interrupt_message(commit.state, Effect.CHANGED)
        rows = loaded_rows(loader)
        _warn_of_rows(loader, report)
        record = restore_record(plan, loader, summary, transaction)
        if remember:
            remember_restore(plan, record, report)
        safety.keep()
        analyze_restored(plan, loader, report, transaction.analyzed)
    return Restored(
        plan=plan,
        # A dump without rows still creates tables.
        tables=len(rows) or len(loader.created),
        rows=sum(rows.values()),
        seconds=time.monotonic() - began,
        left_out=loader.left_out,
        saved=safety.dumped,
        changed=loader.changed,
        proven=not loader.changed and None not in loader.found.values(),
        differences=transaction.differences,
        leniencies=transaction.leniencies,
        record=record,
    )


def _warn_of_rows(loader: Loader, report: Report) -> None:
    """Warn of tables whose rows changed after they were loaded, and of tables whose rows can't be counted."""
    for changed in loader.changed:
        report.warn(f"{changed}. Statements of the dump or triggers changed it after the load.")
    for key, rows in sorted(loader.found.items()):
        if rows is None:
            report.warn(f"The rows of {show_name(key)} can't be counted; {loader.rows[key]:,} were loaded.")


def _facts_of(manifest: Manifest | None, transaction: DumpLoad) -> Mapping[str, Any]:
    facts = state_to_facts(transaction.proven) if transaction.proven is not None else {}
    if manifest is not None and (transaction.differences or transaction.leniencies):
        # Keep the dump's facts, so that `db.verify` reports the committed differences again.
        return manifest.facts
    if manifest is not None and "checksums" in manifest.facts:
        return {**facts, "checksums": manifest.facts["checksums"]}
    return facts


def restore_record(plan: RestorePlan, loader: Loader, summary: DumpSummary, transaction: DumpLoad) -> RestoreRecord:
    """Return the record of a restore, for `db.verify`."""
    manifest, saved = plan.dump.manifest, transaction.commit.safety.dumped
    # Of a restore with --table, only the rows and sequences are recorded.
    facts = {} if plan.tables is not None else _facts_of(plan.dump.manifest, transaction)
    expected = {each.key: each.expected for each in loader.changed if not each.sequence}
    # If rows were also loaded through a partitioned table, its partitions are counted with it.
    joined = loader.rows.keys() - loader.found.keys() - expected.keys()
    loaded = {key: count for key, count in loader.rows.items() if key not in joined}
    rows = {key: expected.get(key, loader.found.get(key) or count) for key, count in loaded.items()}
    dumped = {key: count for key, count in loaded.items() if not joined or loader.found.get(key) == count}
    return RestoreRecord(
        database=plan.target.label,
        file=str(plan.dump.path.resolve()),
        restored=format_now("milliseconds"),
        tables=table_rows(rows),
        sequences=tuple(sorted(each for key, each in summary.sequences.items() if plan.sets(key))),
        dumped=table_rows(dumped),
        facts=facts,
        schemas=plan.fills if plan.request.clean else (),
        excluded=manifest.excluded_data if manifest else (),
        saved=saved.path.name if saved else "",
        destroyed=plan.destroys,
    )


def remember_restore(plan: RestorePlan, record: RestoreRecord, report: Report) -> None:
    """Write the record of a restore; warn if that fails."""
    try:
        write_record(record_path(plan.settings.dumps, plan.target, plan.server), record)
    except OSError as error:
        report.warn(
            f"The restore is committed, but its record could not be written: {error.strerror}. Verify with --file=."
        )


def analyze_tables(connections: Sequence[Connection], rows: Mapping[tuple[str, str], int]) -> None:
    """Run ANALYZE for tables in several sessions.

    The largest tables are first; each is analyzed by the session with the least work.

    :param rows: The number of loaded rows of each table.
    """
    streams = [StatementStream(connection) for connection in connections]
    assigned = dict.fromkeys(streams, 0)
    try:
        for key in sorted(rows, key=lambda each: (-rows[each], each)):
            stream = min(assigned, key=assigned.__getitem__)
            assigned[stream] += min(rows[key], _SAMPLED) + 1
            stream.queue(b"ANALYZE %s" % quote_table(key), f"ANALYZE {show_key(key)}")
        for stream in streams:
            stream.drain()
    except Interruption:
        for stream in streams:
            stream.cancel()
        raise


def loaded_rows(loader: Loader) -> dict[Key, int]:
    """Return the number of loaded rows of each table, or the present number if it differs."""
    changed = {each.key: each.found for each in loader.changed if not each.sequence}
    found = {key: changed.get(key, rows) for key, rows in loader.rows.items()}
    return {key: rows for key, rows in found.items() if rows is not None}


def analyze_restored(plan: RestorePlan, loader: Loader, report: Report, analyzed: Mapping[Key, int]) -> None:
    """Run ANALYZE for the loaded tables; warn if it fails, because the data are complete without it.

    :param analyzed: Tables that are not analyzed again, unless they have another number of loaded rows now.
    """
    report.progress("analyzing", 0, 0, "")
    try:
        with contextlib.ExitStack() as stack:
            loaded = loaded_rows(loader)
            filled = {key: rows for key, rows in loaded.items() if analyzed.get(key) != loader.rows[key]}
            # For few rows, a second session takes longer to start than it saves.
            little = sum(min(rows, _SAMPLED) for rows in filled.values()) < _SAMPLED
            most = plan.settings.jobs if plan.private else _ANALYZING
            count = min(1 if little else most, len(filled))
            opened = [connected(plan.target, lock_timeout=plan.settings.lock_timeout, loads=True) for _ in range(count)]
            analyze_tables([stack.enter_context(each) for each in opened], filled)
    except (TaskError, psycopg.Error) as error:
        report.warn(f"The restore is committed, but ANALYZE failed: {plan.target.scrub(str(error))}")
