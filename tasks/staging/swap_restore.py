"""Restore by a swap: load, verify and migrate a staging database, then let it take the configured database's place."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg import sql

from ..dumpfiles.dump_file import prove_dump
from ..errors import Effect, ServerError, TaskError
from ..formatting import format_list
from ..postgres.commit import Outcome
from ..postgres.connection import connected, translated
from ..prisma.migrate import remember_migrations
from ..prisma.other_database import (
    AnotherDatabaseError,
    find_redirectable_prisma,
    migrate_other_database,
    refuse_fixed_url,
)
from ..progress import Silence
from ..restore.plan import complete_plan
from ..restore.restore import restore_dump
from ..restore.with_migration import restore_and_migrate
from ..safety.database_properties import access_statements, read_database_properties, settings_statements
from ..safety.kept_databases import retain_database
from ..safety.method import Method, MethodChoice, SwapObstacle, SwapReason, SwapUnavailableError, refusal, with_consent
from ..safety.own_databases import as_kept, delete_database_record, write_database_record
from ..safety.restore_log import record_from_text, record_path, record_to_text, write_record
from ..safety.scratch_database import on_database
from ..safety.swap import SessionsRemainError, Swap, Swapped, swap_databases
from ..safety.trust import require_trust
from ..system.runtime import interruptions_say, set_interrupt_message
from .staging_database import delete_leftover_staging_databases, staging_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config.settings import Settings
    from ..config.target import Target
    from ..postgres.connection import Connection, ServerFacts
    from ..prisma.project import Prisma
    from ..progress import Report
    from ..restore.plan import RestorePlan
    from ..restore.restore import Restored
    from ..safety.database_properties import DatabaseProperties
    from ..safety.own_databases import DatabaseRecord
    from ..safety.restore_log import RestoreRecord
    from .staging_database import Staging


def settle_sessions(plan: RestorePlan, answer: str | None) -> RestorePlan:
    """Return the plan after an answer to :func:`sessions_question`: by a swap, or in one transaction.

    :raises ServerError: The answer is no or missing, and a swap is required. Nothing was touched.
    """
    choice = with_consent(plan.method, answer)
    if choice.reason is None or choice.swaps or not plan.method.swaps:
        return replace(plan, method=choice)
    if plan.request.method is Method.SWAP:
        raise refusal(choice.reason)
    return without_swap(plan, choice.reason, Silence())


def restore_by_method(plan: RestorePlan, report: Report) -> Restored:
    """Restore a dump by the planned method; if a swap turns out to be impossible, in one transaction.

    :raises TaskError: The restore failed; the message has the state of the database.
    """
    if plan.risk:
        require_trust(plan.risk, None)
    if plan.method.swaps:
        try:
            return _restore_by_swap(plan, report)
        except SwapUnavailableError as error:
            if plan.request.method is Method.SWAP:
                raise refusal(error.reason, error.cause, "Nothing was changed.") from None
            report.warn(f"The dump is restored in one transaction, because a swap is not possible: {error.reason}.")
            plan = without_swap(plan, error.reason, report)
    if plan.request.migrate:
        return restore_and_migrate(plan, report)
    return restore_dump(plan, report)


def without_swap(plan: RestorePlan, reason: SwapReason, report: Report) -> RestorePlan:
    """Return the plan of the same restore in one transaction.

    :param reason: Why a swap is not possible.
    """
    choice = replace(plan.method, method=Method.TRANSACTION, reason=reason)
    return complete_plan(replace(plan, method=choice), report)


def swap_outcome(outcome: Outcome, label: str) -> str:
    """Return the sentence about the state of the database after a swap failed or was interrupted.

    :param label: The database, for the message.
    """
    return {
        Outcome.COMMITTED: f"The swap was already committed: {label} contains the dump.",
        Outcome.ROLLED_BACK: f"{label} was not changed.",
        Outcome.UNKNOWN: f"It is unknown whether the swap was committed, because the server does not answer. {label} "
        f"contains either all of the dump or its old content. `inv db.undos` lists the old database if it was.",
    }[outcome]


def _restore_by_swap(plan: RestorePlan, report: Report) -> Restored:
    began, settings = time.monotonic(), plan.settings
    maintenance = on_database(plan.target, plan.method.maintenance)
    database = plan.server.database
    if removed := delete_leftover_staging_databases(plan.target, database, maintenance, settings.dumps):
        report.step(f"Databases of restores that had not finished were deleted: {format_list(removed)}.")
    prisma = _prisma(plan, report)
    with staging_database(plan, report) as staging:
        with _not_changed(plan.target):
            restored = _load(staging, prisma, report)
        loaded = _loaded_record(plan, staging, restored)
        step = Replacement(
            settings=settings,
            target=plan.target,
            server=plan.server,
            method=plan.method,
            incoming=loaded,
            backup=plan.request.backup,
        )
        try:
            swapped, kept = take_place(step, staging.lock, report)
        except SessionsRemainError as error:
            raise _wait_for_finish(plan, staging, loaded, error) from None
    held = conclude(step, kept, report)
    return replace(
        restored,
        plan=plan,
        seconds=time.monotonic() - began,
        kept=held,
        cut_off=swapped.seconds,
        ended=swapped.ended,
    )


def _loaded_record(plan: RestorePlan, staging: Staging, restored: Restored) -> DatabaseRecord:
    """Return the record of the loaded staging database, with all that its swap needs."""
    done = restored.record
    text = record_to_text(replace(done, database=plan.target.label, destroyed=plan.destroys)) if done else ""
    return replace(
        staging.record,
        keeps_old=plan.request.backup,
        restored=text,
        migrated=restored.migrated is not None,
        differences=restored.describe_differences(),
    )


def _prisma(plan: RestorePlan, report: Report) -> Prisma | None:
    if not plan.request.migrate:
        return None
    prisma = find_redirectable_prisma(plan.settings, report)
    if prisma is None:
        reason = "it is unknown whether the migrations can be applied to another database"
        raise SwapUnavailableError(SwapReason(SwapObstacle.REFUSED, reason))
    return prisma


def _load(staging: Staging, prisma: Prisma | None, report: Report) -> Restored:
    """Load and verify the dump in the staging database, and migrate it."""
    settings = staging.plan.settings
    if prisma is not None:
        report.progress("waiting for `prisma migrate status`", 0, 0, "")
        try:
            refuse_fixed_url(settings, prisma, staging.plan.target)
        except AnotherDatabaseError as error:
            raise SwapUnavailableError(SwapReason(SwapObstacle.REFUSED, str(error).rstrip("."))) from None
    try:
        restored = restore_dump(replace(staging.plan, risk=""), report, remember=False)
    except TaskError:
        if not staging.plan.dump.checked:
            # A damaged dump is the more likely reason, and this says so.
            prove_dump(settings, staging.plan.dump.path, report, trust=staging.plan.request.trust)
        raise
    if prisma is not None:
        seconds = migrate_other_database(settings, prisma, staging.record.database, report)
        restored = replace(restored, migrated=seconds)
    return restored


@contextlib.contextmanager
def _not_changed(target: Target) -> Iterator[None]:
    """Say in an error or an interruption that the configured database was not changed."""
    state = f"{target.label} was not changed."
    try:
        with interruptions_say(state):
            yield
    except SwapUnavailableError:
        raise
    except TaskError as error:
        message = f"{error.what} The staging database was deleted; {state}"
        raise error.reworded(message, fix=error.fix, effect=Effect.UNCHANGED) from None
    set_interrupt_message(state)


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """A loaded staging database that is to take the place of the configured one.

    :ivar target: The configured database.
    :ivar method: The swap.
    :ivar incoming: The record of the staging database.
    :ivar backup: Keep the old database for `db.undo`.
    """

    settings: Settings
    target: Target
    server: ServerFacts
    method: MethodChoice
    incoming: DatabaseRecord
    backup: bool

    @property
    def maintenance(self) -> Target:
        """Return another database of the server."""
        return on_database(self.target, self.method.maintenance)


def take_place(step: Replacement, lock: Connection, report: Report) -> tuple[Swapped, DatabaseRecord]:
    """Let the staging database take the place of the configured one, which gets another name.

    :param lock: The session that holds the advisory lock in the staging database; it is closed before the swap.
    :return: The swap, and the record of the database that had the name before.
    :raises SessionsRemainError: Sessions are connected and may not be ended. Nothing was changed.
    :raises TaskError: The swap failed; the message has the state.
    """
    report.progress("swapping the databases", 0, 0, "")
    before, now = _access(step)
    kept = as_kept(
        step.incoming,
        step.settings.dumps,
        oid=step.method.oid,
        owner=now.owner,
        size=step.method.size,
        rows=step.method.rows,
        command=step.incoming.command,
    )
    swap = Swap(
        folder=step.settings.dumps,
        maintenance=step.maintenance,
        incoming=step.incoming,
        kept=kept,
        comment=now.comment,
        before=before,
        ends_sessions=step.method.ends_sessions,
    )
    lock.close()
    return swap_databases(swap, lambda outcome: swap_outcome(outcome, step.target.label)), kept


def _access(step: Replacement) -> tuple[list[sql.Composed], DatabaseProperties]:
    """Return the statements that give the staging database what belongs to the configured one at this moment.

    :return: The statements, and what belongs to the configured database.
    """
    name = step.incoming.database
    with (
        connected(step.maintenance) as connection,
        translated(f"Reading the grants of {step.target.label} failed, and nothing was changed"),
    ):
        now = read_database_properties(connection, step.method.oid)
        staged = read_database_properties(connection, step.incoming.oid)
    return [*_changed_settings(step, now, staged), *access_statements(now, name)], now


def _changed_settings(step: Replacement, now: DatabaseProperties, staged: DatabaseProperties) -> list[sql.Composed]:
    """Return the statements for settings that changed since the staging database got them; none if none did.

    Without a change they are left as they are, because a migration may have added some.
    """
    if now.settings_digest == step.incoming.settings:
        return []
    name, statements = step.incoming.database, list[sql.Composed]()
    for role in {role for role, _, _ in staged.settings}:
        whose = sql.SQL("ROLE {} IN ").format(sql.Identifier(role)) if role is not None else sql.SQL("")
        statements.append(sql.SQL("ALTER {}DATABASE {} RESET ALL").format(whose, sql.Identifier(name)))
    return [*statements, *settings_statements(now, name)]


def _wait_for_finish(
    plan: RestorePlan, staging: Staging, loaded: DatabaseRecord, error: SessionsRemainError
) -> TaskError:
    """Keep the loaded staging database, and return the error that names the command which finishes the restore."""
    staging.kept = True
    try:
        write_database_record(plan.settings.dumps, replace(loaded, ready=True))
    except OSError as failure:
        staging.kept = False
        return ServerError(f"{error} The loaded database could not be recorded: {failure.strerror}.")
    finish = plan.settings.command("db.restore", "--finish", "--disconnect")
    return ServerError(
        f"{error} The dump is loaded and verified in the database {staging.record.database}, but {plan.target.label} "
        f"was not changed.",
        fix=f"To end the sessions and finish the restore: `{finish}`.",
    )


def conclude(step: Replacement, kept: DatabaseRecord, report: Report) -> DatabaseRecord | None:
    """Record a restore whose swap is committed, and keep or drop the old database; failures are warnings.

    :return: The record of the kept database; None if it was dropped.
    """
    delete_database_record(step.settings.dumps, step.incoming)
    if record := record_from_text(step.incoming.restored):
        _remember(step, replace(record, saved=kept.database), report)
    if step.incoming.migrated:
        remember_migrations(step.settings, step.target, report)
    return retain_database(step.settings, step.maintenance, kept, report, keeps=step.backup, done="The restore is done")


def _remember(step: Replacement, record: RestoreRecord, report: Report) -> None:
    try:
        write_record(record_path(step.settings.dumps, step.target, step.server), record)
    except OSError as error:
        report.warn(f"The restore is done, but its record could not be written: {error.strerror}. Verify with --file=.")
