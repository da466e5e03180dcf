"""Restore a dump and apply migrations; bring the old state back if one fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dumpfiles.paths import read_manifest
from ..errors import BadInputError, Effect, OperationFailedError, TaskError
from ..formatting import format_list
from ..prisma.migrate import find_migrations_cli, refuse_another_database, run_migrations
from ..safety.restore_log import read_record, record_path, write_record
from ..safety.safety_dump import delete_dump
from ..system.runtime import Interruption, listen_again
from .plan import RestoreRequest, plan_restore
from .restore import restore_dump, safety_dump_for
from .undo import restore_safety_dump

if TYPE_CHECKING:
    from pathlib import Path

    from ..config.settings import Settings
    from ..progress import Report
    from ..safety.restore_log import RestoreRecord
    from .plan import RestorePlan
    from .restore import Restored


def plan_restore_and_migration(settings: Settings, request: RestoreRequest, report: Report) -> RestorePlan:
    """Plan a restore that is migrated in the same step, and touch nothing.

    :raises TaskError: One of both would not work, or they could not be undone.
    """
    if not request.clean or not request.backup:
        raise BadInputError(
            "--migrate goes with --clean, and not with --no-backup: only then can both be undone as one step if the "
            "migration fails. Otherwise run them one behind the other: `inv db.restore db.migrate`. Nothing was "
            "touched."
        )
    find_migrations_cli(settings)
    refuse_another_database(settings, settings.target())
    return plan_restore(settings, request, report)


def restore_and_migrate(plan: RestorePlan, report: Report) -> Restored:
    """Restore, migrate, and bring back what was there before if the migration fails: all of it or nothing.

    :raises OperationFailedError: The migration failed, and the database is as it was; or, where the message says so, it
        could not be brought back.
    :raises Interruption: As above, for a signal.
    """
    safety, record = safety_dump_for(plan), read_record(_record_path(plan))
    try:
        restored = restore_dump(plan, report, safety=safety)
    except Interruption as interruption:
        # It came between the commit and the migration.
        if safety.committed and safety.dumped is not None:
            listen_again()
            interruption.state, interruption.effect = _undo_restore(plan, safety.dumped.path, record, report)
        raise
    saved = restored.saved
    assert saved is not None  # noqa: S101 - the plan for this makes one always
    try:
        run_migrations(plan.settings, report)
    except TaskError as error:
        kind: type[TaskError] = OperationFailedError if isinstance(error, OperationFailedError) else type(error)
        state, effect = _undo_restore(plan, saved.path, record, report)
        failed = kind(f"The restore was done, but not the migration: {error.split()[0]}. {state}")
        failed.effect = effect
        raise failed from None
    except Interruption as interruption:
        # Bringing it back may take long, and may be interrupted itself.
        listen_again()
        interruption.state, interruption.effect = _undo_restore(plan, saved.path, record, report)
        raise
    if plan.settings.safety_dumps == 0:
        delete_dump(saved.path)
    return restored


def _others_since(plan: RestorePlan, saved: Path) -> list[str]:
    """Return the owners in a safety dump, but for superusers, that the question before the restore did not cover."""
    if plan.owners is None:
        return []
    manifest = read_manifest(saved)
    found = manifest.facts.get("owners", {}) if manifest is not None else {}
    return sorted(name for name, superuser in found.items() if not superuser and name not in plan.owners)


def _record_path(plan: RestorePlan) -> Path:
    return record_path(plan.settings.dumps, plan.target, plan.server)


def _forget_restore(plan: RestorePlan, record: RestoreRecord | None, report: Report) -> None:
    """Put the record of the restore before this one back."""
    try:
        if record is None:
            _record_path(plan).unlink(missing_ok=True)
        else:
            write_record(_record_path(plan), record)
    except OSError as error:
        report.warn(f"The record of the last restore could not be put back: {error.strerror}.")


def _undo_restore(plan: RestorePlan, saved: Path, record: RestoreRecord | None, report: Report) -> tuple[str, Effect]:
    """Restore the safety dump, and say in what state the database is."""
    label = plan.target.label
    if unasked := _others_since(plan, saved):
        held = (
            f"{label} holds the restored dump, perhaps with some of the migrations. Since you were asked, "
            f"{format_list(unasked)} came to own objects in it, so the old state was not loaded unasked. If you trust "
            f"them: `inv db.undo --trust`."
        )
        return held, Effect.CHANGED
    report.step(f"Bringing back what {label} held before …")
    back = (
        f"{label} holds the restored dump, perhaps with some of the migrations. Bring back what was there before with "
        f"`{plan.undo_command}`."
    )
    try:
        restore_safety_dump(plan.settings, saved, report)
    except TaskError as error:
        return f"What was there before could not be brought back: {error} {back}", Effect.CHANGED
    except Interruption as interruption:
        interruption.state = f"Bringing back what was there before was interrupted: {interruption.state} {back}"
        interruption.effect = Effect.CHANGED
        raise
    _forget_restore(plan, record, report)
    return f"{label} is again as it was before the restore.", Effect.UNCHANGED
