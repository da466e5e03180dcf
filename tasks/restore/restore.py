"""Restore a dump, remember it, and give the planner its statistics."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from ..dumpformat.manifest import TableRows, table_rows
from ..errors import DifferenceError, Effect, TaskError
from ..formatting import format_list, format_now, show_name
from ..inventory.compare import state_to_facts
from ..postgres.commit import Outcome
from ..postgres.connection import connected
from ..postgres.protocol import StatementStream
from ..safety.restore_log import RestoreRecord, record_path, write_record
from ..safety.safety_dump import SafetyDump
from ..safety.trust import require_trust
from ..system.runtime import Interruption, set_interrupt_message
from .error_messages import restore_outcome
from .filters import OmissionKind
from .row_counts import quote_table, show_key
from .transaction import RestoreTransaction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..dump.dump import Dumped
    from ..dumpformat.manifest import Manifest
    from ..dumpformat.summary import DumpSummary
    from ..inventory.compare import DifferenceLine
    from ..postgres.connection import Connection
    from ..progress import Report
    from .filters import Omission
    from .lenient import Leniency
    from .loader import Loader
    from .plan import RestorePlan
    from .row_counts import Changed


# Of a larger table ANALYZE looks at no more rows, as long as default_statistics_target is 100.
_SAMPLED = 30_000
# Sessions that gather statistics at once.
_ANALYZING = 2


@dataclass(frozen=True)
class Restored:
    """A restore that was committed.

    :ivar rows: Rows that were loaded, or what a table really holds where its rows changed afterwards.
    :ivar left_out: What was left out, counted by reason.
    :ivar changed: What does not hold what the dump loaded into it.
    :ivar proven: Whether every table was counted and holds what was loaded.
    :ivar saved: The safety dump of what was there before.
    :ivar differences: Expressions that the server now writes in another way than at the dump. They are committed, since
        the dump's own statements made them.
    :ivar leniencies: What PostgreSQL refused, and was loaded in the lenient way.
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

    @property
    def complete(self) -> bool:
        """Whether the database holds what the dump says."""
        return not (self.leniencies or self.changed or self.differences)

    def refuse_differences(self, done: str) -> None:
        """Raise where the database does not hold what the dump says; it is committed.

        :param done: The beginning of the sentence, such as "The restore is committed".
        :raises DifferenceError: Statements or triggers of the dump changed rows after they were loaded, the server
            writes an expression in another way, or something was loaded in the lenient way.
        """
        if self.complete:
            return
        error = DifferenceError(f"{done}, {self._describe_differences()}.")
        error.effect, error.result = Effect.CHANGED, self
        raise error

    def _describe_differences(self) -> str:
        if self.leniencies:
            return f"in the lenient way: {format_list([str(each) for each in self.leniencies], 1)}"
        if self.changed:
            changed = format_list([str(each) for each in self.changed], 1)
            why = "statements of the dump, or triggers, changed what was loaded. psql would leave the same"
            return f"but {changed}: {why}"
        differing = format_list([f"{each.kind} {each.name}" for each in self.differences], 1)
        return f"but definitions differ from the dump: {differing}"

    @property
    def lacks(self) -> list[tuple[str, int]]:
        """What a person should know of that; every dump has settings that a restore has its own in place of."""
        known = {each: count for each, count in self.left_out.items() if each.kind is not OmissionKind.OWN_SETTINGS}
        return sorted((str(each), count) for each, count in known.items())


def safety_dump_for(plan: RestorePlan) -> SafetyDump:
    """Get ready for the safety dump of a restore; nothing is made yet."""
    name, manifest = plan.dump.path.name, plan.dump.manifest
    command = f"db.undo --to={manifest.id}" if plan.request.whole and manifest else f"db.restore {name}"
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
    """Load the dump in one transaction and commit it once it has proven itself.

    :param remember: Remember it, for verify.
    :param safety: Of a caller who wants to know of its dump whatever happens.
    :raises TaskError: It was rolled back, and the database is as it was; or, where the message says so,
        nobody could be asked whether it was committed.
    """
    if plan.risk:
        require_trust(plan.risk, None)
    began = time.monotonic()
    safety = safety or safety_dump_for(plan)
    transaction = RestoreTransaction(safety=safety, plan=plan, report=report)
    try:
        summary, loader = transaction.run()
        set_interrupt_message(restore_outcome(Outcome.COMMITTED, plan.target.label), Effect.CHANGED)
        tables = loaded_tables(loader)
        _warn_of_rows(loader, report)
        if remember:
            remember_restore(plan, loader, summary, transaction, report)
        safety.keep()
        analyze_restored(plan, loader, report)
    except TaskError as error:
        error.effect = transaction.outcome.effect
        safety.discard_after(transaction.outcome)
        raise
    except Interruption as interruption:
        outcome = transaction.ask_outcome()
        interruption.state, interruption.effect = restore_outcome(outcome, plan.target.label), outcome.effect
        safety.discard_after(outcome)
        raise
    rows, seconds = sum(each.rows for each in tables), time.monotonic() - began
    return Restored(
        plan=plan,
        # A dump of definitions alone loads no rows.
        tables=len(tables) or len(loader.created),
        rows=rows,
        seconds=seconds,
        left_out=loader.left_out,
        saved=safety.dumped,
        changed=loader.changed,
        proven=not loader.changed and None not in loader.found.values(),
        differences=transaction.differences,
        leniencies=transaction.leniencies,
    )


def _warn_of_rows(loader: Loader, report: Report) -> None:
    """Name the tables whose rows changed after they were loaded, and those whose rows nobody could count."""
    for changed in loader.changed:
        report.warn(f"{changed}: statements of the dump, or triggers, changed it afterwards.")
    for key, rows in sorted(loader.found.items()):
        if rows is None:
            report.warn(f"The rows of {show_name(key)} can't be counted; the server took {loader.rows[key]:,}.")


def _facts_of(manifest: Manifest | None, transaction: RestoreTransaction) -> Mapping[str, Any]:
    facts = state_to_facts(transaction.proven) if transaction.proven is not None else {}
    if manifest is not None and (transaction.differences or transaction.leniencies):
        # What differed when it was committed still differs.
        return manifest.facts
    if manifest is not None and "checksums" in manifest.facts:
        return {**facts, "checksums": manifest.facts["checksums"]}
    return facts


def remember_restore(
    plan: RestorePlan, loader: Loader, summary: DumpSummary, transaction: RestoreTransaction, report: Report
) -> None:
    """Write the restore to the log that `db.verify` reads; a failure is only a warning."""
    manifest = plan.dump.manifest
    # Of a restore of some tables only their rows and sequences are remembered.
    facts = {} if plan.tables is not None else _facts_of(plan.dump.manifest, transaction)
    expected = {each.key: each.expected for each in loader.changed if not each.sequence}
    # Partitions whose partitioned table took rows, too, are counted with that.
    joined = loader.rows.keys() - loader.found.keys() - expected.keys()
    loaded = {key: count for key, count in loader.rows.items() if key not in joined}
    rows = {key: expected.get(key, loader.found.get(key) or count) for key, count in loaded.items()}
    dumped = {key: count for key, count in loaded.items() if not joined or loader.found.get(key) == count}
    record = RestoreRecord(
        database=plan.target.label,
        file=str(plan.dump.path.resolve()),
        restored=format_now("milliseconds"),
        tables=table_rows(rows),
        sequences=tuple(sorted(each for key, each in summary.sequences.items() if plan.sets(key))),
        dumped=table_rows(dumped),
        facts=facts,
        schemas=plan.fills if plan.request.clean else (),
        excluded=manifest.excluded_data if manifest else (),
        saved=transaction.safety.dumped.path.name if transaction.safety.dumped else "",
        destroyed=plan.destroys,
    )
    try:
        write_record(record_path(plan.settings.dumps, plan.target, plan.server), record)
    except OSError as error:
        report.warn(f"The restore is committed, but could not be remembered: {error.strerror}. Verify with --file=.")


def analyze_tables(connections: Sequence[Connection], rows: Mapping[tuple[str, str], int]) -> None:
    """Give the planner statistics of tables that were filled, in several sessions at once.

    :param rows: How many rows each got: the largest come first, each where least is to be done.
    """
    streams = [StatementStream(connection) for connection in connections]
    todo = dict.fromkeys(streams, 0)
    try:
        for key in sorted(rows, key=lambda each: (-rows[each], each)):
            stream = min(todo, key=todo.__getitem__)
            todo[stream] += min(rows[key], _SAMPLED) + 1
            stream.queue(b"ANALYZE %s" % quote_table(key), f"ANALYZE {show_key(key)}")
        for stream in streams:
            stream.drain()
    except Interruption:
        for stream in streams:
            stream.cancel()
        raise


def loaded_tables(loader: Loader) -> tuple[TableRows, ...]:
    """Return the rows that were loaded, or the number that a table really holds where that is another."""
    changed = {each.key: each.found for each in loader.changed if not each.sequence}
    found = {key: changed.get(key, rows) for key, rows in loader.rows.items()}
    return table_rows({key: rows for key, rows in found.items() if rows is not None})


def analyze_restored(plan: RestorePlan, loader: Loader, report: Report) -> None:
    """Give the planner statistics; a failure does no harm and is only said."""
    report.progress("analyzing", 0, 0, "")
    try:
        with contextlib.ExitStack() as stack:
            filled = {(each.schema, each.name): each.rows for each in loaded_tables(loader)}
            # Another session costs more than it saves where little is to be read.
            little = sum(min(rows, _SAMPLED) for rows in filled.values()) < _SAMPLED
            few = min(1 if little else _ANALYZING, len(filled))
            opened = [connected(plan.target, lock_timeout=plan.settings.lock_timeout, loads=True) for _ in range(few)]
            analyze_tables([stack.enter_context(each) for each in opened], filled)
    except (TaskError, psycopg.Error) as error:
        report.warn(f"The restore is committed, but ANALYZE failed: {plan.target.scrub(str(error))}")
