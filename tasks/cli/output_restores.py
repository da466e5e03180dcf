"""Print the results of restores, resets, migrations and rehearsals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..formatting import (
    format_count,
    format_list,
    format_seconds,
    format_size,
)
from ..output.restore_documents import migrated_document, rehearsed_document
from .terminal import print_json, print_line

if TYPE_CHECKING:
    from ..dump.dump import Dumped
    from ..prisma.guarded_migrate import Migrated
    from ..restore.reset import ResetPlan
    from ..restore.restore import Restored
    from ..safety.own_databases import DatabaseRecord
    from ..safety.swap_undo import SwapUndone, SwapUndoPlan
    from ..scratch.rehearse import Rehearsed
    from ..staging.finish import Finished

_SHOWN_SESSIONS = 5


def show_restored(restored: Restored) -> None:
    """Print a committed restore and what it left out."""
    from ..dumpfiles.paths import dump_label

    plan = restored.plan
    name = dump_label(plan.dump.path)
    what = f"{name} is"
    if plan.tables is not None:
        verb = "is" if len(plan.tables.tables) == 1 else "are"
        what = f"{plan.tables.names}{' (rows only)' * plan.request.data_only} of {name} {verb}"
    done = "created" if restored.created else "committed" if restored.cut_off is None else "put in place"
    new = "the new database " if restored.created else ""
    print_line(
        f"{what} restored into {new}{plan.target.label}: {format_count(restored.rows, 'row')} in "
        f"{format_count(restored.tables, 'table')}, {_proven(restored)}{done} in "
        f"{format_seconds(restored.seconds)}{_migrated(restored.migrated)}{_swapped(restored)}"
        f"{'; then migrated' * (plan.request.migrate and restored.migrated is None)}"
    )
    if restored.created and plan.target.database != plan.settings.target().database:
        from psycopg import sql

        drop = f"DROP DATABASE {sql.Identifier(plan.target.database).as_string()};"
        print_line(f"  Its URL is that of {plan.settings.url_env} with this name. To delete it, in psql: {drop}")
    _show_saved(restored.saved, plan.undo_command)
    if restored.cut_off is not None:
        _show_kept(restored.kept, plan.undo_command)
    for reason, count in restored.lacks:
        print_line(f"  left out ({count:,}): {reason}")
    if plan.dump.manifest is None:
        print_line("  No manifest, so contents were not verified.")


def show_finished(finished: Finished) -> None:
    """Print a finished restore."""
    plan = finished.plan
    print_line(
        f"{plan.incoming.database} ({plan.incoming.command}) took the place of {plan.target.label} in "
        f"{format_seconds(finished.seconds)}{_swapped(finished)}"
    )
    _show_kept(finished.kept, plan.undo_command)


def _migrated(seconds: float | None) -> str:
    """Return how long the migrations in a new database took; empty without them."""
    return "" if seconds is None else f"; migrated in {format_seconds(seconds)}"


def _swapped(done: Restored | Finished) -> str:
    """Return what a swap meant for other sessions; empty after a transaction."""
    cut_off = done.cut_off
    return "" if cut_off is None else f"; sessions were cut off for {cut_off:.2f} s{_ended(done.ended)}"


def _ended(sessions: int) -> str:
    return f"; {format_count(sessions, 'session')} ended" if sessions else ""


def _show_kept(kept: DatabaseRecord | None, undo: str) -> None:
    if kept is None:
        print_line("  The old database was dropped.")
        return
    print_line(f"  The old database is kept as {kept.database} ({format_size(kept.size)}); `{undo}` puts it back.")


def _proven(restored: Restored) -> str:
    if not restored.proven:
        return ""
    return "counted and " if restored.plan.dump.manifest is None else "verified and "


def show_reset(plan: ResetPlan, saved: Dumped | None) -> None:
    """Print a committed reset."""
    print_line(f"{plan.target.label}: {', '.join(plan.emptied)} emptied.")
    _show_saved(saved, plan.undo_command)


def show_migrated(migrated: Migrated, *, as_json: bool) -> None:
    """Print that nothing was pending, or the command that undoes the migration; Prisma printed what it applied."""
    plan = migrated.plan
    if as_json:
        print_json({"migration": None} if plan.settings.dry else migrated_document(migrated))
        return
    if plan.settings.output.value == "quiet":
        return
    if not plan.applies:
        print_line(f"No pending migrations in {plan.target.label}.")
    _show_saved(migrated.saved, plan.undo_command)


def _show_saved(saved: Dumped | None, undo: str) -> None:
    if saved is not None:
        manifest = saved.manifest
        print_line(
            f"  safety dump: {saved.path.parent.name}/{saved.path.name}, {format_size(manifest.file.size)}, "
            f"{format_count(manifest.rows, 'row')}, {format_seconds(manifest.seconds)}; `{undo}` restores it"
        )


def show_rehearsed(rehearsed: Rehearsed | None, *, as_json: bool) -> None:
    """Print a successful rehearsal; print nothing for a dry run."""
    from ..dumpfiles.origin import describe_lacks, describe_part

    if as_json:
        print_json({"rehearsal": None} if rehearsed is None else rehearsed_document(rehearsed))
        return
    if rehearsed is None:
        return
    for name in rehearsed.removed:
        print_line(f"Dropped {name}, left by a killed rehearsal.")
    restored = rehearsed.restored
    print_line(
        f"{rehearsed.path.name} restores: {format_count(restored.rows, 'row')} in "
        f"{format_count(restored.tables, 'table')}, "
        f"{'verified, ' * restored.proven}in {format_seconds(restored.seconds)}"
        f"{_migrated(rehearsed.migrated)}; {format_seconds(rehearsed.seconds)} in total. "
        "The scratch database is dropped."
    )
    manifest = restored.plan.dump.manifest
    lacks = describe_lacks(describe_part(manifest), manifest.excluded_data) if manifest else []
    if lacks:
        print_line(f"  The dump is partial: {', '.join(lacks)}.")


def format_sessions(plan: SwapUndoPlan) -> str:
    """Return descriptions of the other sessions."""
    return format_list(plan.sessions, _SHOWN_SESSIONS, "; ")


def undo_warning(plan: SwapUndoPlan) -> list[str]:
    """Return what an undo by a swap puts back, what it loses, and which sessions it ends, as lines."""
    record, label = plan.incoming.record, plan.target.label
    lines = [
        f"{label}: undoing `{record.command}` of {record.when:%Y-%m-%d %H:%M:%S} UTC.",
        f"  Will take its place: {record.database}, kept since then ({format_size(record.size)}). Nothing is loaded.",
    ]
    if plan.live is None:
        return [*lines, f"  {label} does not exist, so nothing is replaced."]
    size = format_size(plan.live.size)
    if plan.backup:
        lines.append(
            f"  Will be kept under another name: the present database ({size}), with everything that was written "
            f"since; another `{plan.settings.command('db.undo')}` puts it back."
        )
    else:
        lines.append(f"  Will be deleted: the present database ({size}), with everything that was written since.")
    if plan.sessions:
        how = "Will be ended" if plan.ends_sessions else "Must end first (--disconnect ends them)"
        lines.append(f"  {how}: {format_count(len(plan.sessions), 'session')}: {format_sessions(plan)}.")
    return lines


def show_swap_undone(undone: SwapUndone) -> None:
    """Print a committed undo by a swap."""
    plan, record = undone.plan, undone.restored
    print_line(
        f"{plan.target.label} is as it was at {record.when:%Y-%m-%d %H:%M:%S} UTC, before `{record.command}`: the "
        f"kept database {record.database} took its place in {format_seconds(undone.seconds)}{_ended(undone.ended)}"
    )
    if undone.kept is not None:
        print_line(
            f"  kept: {undone.kept.database}, {format_size(undone.kept.size)}, with everything that was written since; "
            f"`{plan.settings.command('db.undo')}` puts it back"
        )
