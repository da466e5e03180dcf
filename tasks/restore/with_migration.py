"""Restore a dump and apply migrations; if one fails, restore the old state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dumpfiles.paths import read_manifest
from ..errors import BadInputError, Effect, TaskError
from ..formatting import format_list
from ..prisma.migrate import find_migrations_cli, refuse_another_database, run_migrations
from ..safety.restore_log import RestoreRecord, read_record, record_path, write_record
from ..safety.safety_dump import delete_dump
from ..system.runtime import Interruption, listen_again
from .plan import RestorePlan, plan_restore
from .restore import Restored, restore_dump, safety_dump_for
from .undo import restore_safety_dump

if TYPE_CHECKING:
    from pathlib import Path

    from ..config.settings import Settings
    from ..progress import Report
    from .request import RestoreRequest


def plan_restore_and_migration(settings: Settings, request: RestoreRequest, report: Report) -> RestorePlan:
    """Plan a restore with migrations, and change nothing.

    :raises TaskError: The restore or the migrations would fail, or could not be undone. Nothing was touched.
    """
    if not request.clean or not request.backup:
        raise BadInputError(
            "--migrate needs --clean and excludes --no-backup: only then can the restore be undone if a migration "
            "fails. Nothing was touched.",
            fix="Add --clean and remove --no-backup, or run two separate steps: `inv db.restore db.migrate`.",
        )
    find_migrations_cli(settings)
    refuse_another_database(settings, settings.target())
    return plan_restore(settings, request, report)


def restore_and_migrate(plan: RestorePlan, report: Report) -> Restored:
    """Restore and migrate. If a migration fails, restore the old state.

    :raises TaskError: The restore or a migration failed. The message says whether the old state was restored.
    :raises Interruption: A signal ended the work; `state` says the same.
    """
    safety, record = safety_dump_for(plan), read_record(_record_path(plan))
    try:
        restored = restore_dump(plan, report, safety=safety)
    except Interruption as interruption:
        # The signal came between the commit and the migration.
        if safety.committed and safety.dumped is not None:
            _undo_interrupted(interruption, plan, safety.dumped.path, record, report)
        raise
    saved = restored.saved
    assert saved is not None  # noqa: S101 - with --migrate, the plan always makes one
    try:
        run_migrations(plan.settings, report)
    except TaskError as error:
        state, fix, effect = _undo_restore(plan, saved.path, record, report)
        failed = f"The restore succeeded, but the migration failed: {error.what} {state}"
        raise error.reworded(failed, fix=fix, effect=effect) from None
    except Interruption as interruption:
        _undo_interrupted(interruption, plan, saved.path, record, report)
        raise
    if plan.settings.safety_dumps == 0:
        delete_dump(saved.path)
    return restored


def _owners_since_question(plan: RestorePlan, saved: Path) -> list[str]:
    """Return the owners in a safety dump, without superusers, that the question before the restore did not name."""
    if plan.owners is None:
        return []
    manifest = read_manifest(saved)
    found = manifest.facts.get("owners", {}) if manifest is not None else {}
    return sorted(name for name, superuser in found.items() if not superuser and name not in plan.owners)


def _record_path(plan: RestorePlan) -> Path:
    return record_path(plan.settings.dumps, plan.target, plan.server)


def _restore_record(plan: RestorePlan, record: RestoreRecord | None, report: Report) -> None:
    """Replace the record of this restore by that of the one before."""
    try:
        if record is None:
            _record_path(plan).unlink(missing_ok=True)
        else:
            write_record(_record_path(plan), record)
    except OSError as error:
        report.warn(f"The record of the last restore could not be written again: {error.strerror}.")


def _undo_interrupted(
    interruption: Interruption, plan: RestorePlan, saved: Path, record: RestoreRecord | None, report: Report
) -> None:
    """Undo the restore after a signal, and set the interruption's state and effect."""
    # The undo may take long, so that a second signal must be able to interrupt it.
    listen_again()
    state, fix, interruption.effect = _undo_restore(plan, saved, record, report)
    interruption.state = f"{state} {fix}".rstrip()


def _undo_restore(
    plan: RestorePlan, saved: Path, record: RestoreRecord | None, report: Report
) -> tuple[str, str, Effect]:
    """Restore the safety dump.

    :return: The state of the database, the command to restore the old state if that failed, and the effect.
    """
    label = plan.target.label
    state = f"{label} contains the restored dump, perhaps with some of the migrations."
    if owners := _owners_since_question(plan, saved):
        why = f"The old state was not loaded, because {format_list(owners)} became an owner of objects in it after you"
        return f"{state} {why} were asked.", "If you trust these roles: `inv db.undo --trust`.", Effect.CHANGED
    report.step(f"Restoring the old state of {label} …")
    fix = f"Restore the old state with `{plan.undo_command}`."
    try:
        restore_safety_dump(plan.settings, saved, report)
    except TaskError as error:
        return f"The old state could not be restored: {error} {state}", fix, Effect.CHANGED
    except Interruption as interruption:
        interruption.state = f"The restore of the old state was interrupted: {interruption.state} {state} {fix}"
        interruption.effect = Effect.CHANGED
        raise
    _restore_record(plan, record, report)
    return f"The old state of {label} was restored.", "", Effect.UNCHANGED
