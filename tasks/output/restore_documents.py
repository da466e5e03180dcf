"""JSON documents of restores, as described in docs/json.md and docs/output.schema.json."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..formatting import show_name
from .check_documents import list_differences
from .dump_documents import describe_dump, kept_document

if TYPE_CHECKING:
    from ..prisma.guarded_migrate import Migrated
    from ..restore.restore import Restored
    from ..safety.swap_undo import SwapUndone
    from ..scratch.rehearse import Rehearsed
    from ..staging.finish import Finished
    from .json_format import Document


def restored_document(restored: Restored) -> Document:
    """Return a committed restore."""
    plan, reason = restored.plan, restored.plan.method.reason
    return {
        "restore": {
            "database": plan.target.label,
            **_restored(restored),
            "only_tables": None if plan.tables is None else [show_name(each.key) for each in plan.tables.tables],
            "migrated": plan.request.migrate,
            "seconds": restored.seconds,
            "created": restored.created,
            "method": "transaction" if restored.cut_off is None else "swap",
            "no_swap": None if reason is None else {"reason": reason.obstacle.name.lower(), "message": str(reason)},
            **_swapped(restored),
            "safety_dump": describe_dump(restored.saved),
            "undo": plan.undo_command if restored.saved or restored.kept else None,
        }
    }


def finished_document(finished: Finished) -> Document:
    """Return a restore that `--finish` finished."""
    plan, record = finished.plan, finished.plan.restored
    return {
        "restore": {
            "database": plan.target.label,
            "dump": record.file if record else None,
            "tables": len(record.tables) if record else None,
            "rows": sum(each.rows for each in record.tables) if record else None,
            "complete": not plan.incoming.differences,
            "migrated": plan.incoming.migrated,
            "seconds": finished.seconds,
            "method": "swap",
            **_swapped(finished),
            "undo": plan.undo_command if finished.kept else None,
        }
    }


def _swapped(done: Restored | Finished) -> Document:
    """Return the result of a swap; without one, all is null."""
    return {
        "kept_database": {"name": done.kept.database, "size": done.kept.size} if done.kept is not None else None,
        "cut_off_seconds": done.cut_off,
        "ended_sessions": None if done.cut_off is None else done.ended,
    }


def _restored(restored: Restored) -> Document:
    """Return what was loaded from a dump, what was left out, and what was changed."""
    from ..dumpfiles.origin import describe_part

    manifest = restored.plan.dump.manifest
    return {
        "dump": restored.plan.dump.path,
        "part": describe_part(manifest) or None if manifest else None,
        "excluded": [show_name(key) for key in manifest.excluded_data] if manifest else [],
        "tables": restored.tables,
        "rows": restored.rows,
        "counted": restored.proven,
        "verified": restored.proven and restored.plan.dump.manifest is not None,
        "complete": restored.complete,
        "changed": [
            {
                "kind": "sequence" if each.sequence else "table",
                "name": show_name(each.key),
                "expected": each.expected,
                "found": each.found,
            }
            for each in restored.changed
        ],
        "lenient": [str(each) for each in restored.leniencies],
        "differences": list_differences(restored.differences),
        "left_out": [{"reason": reason, "count": count} for reason, count in restored.lacks],
    }


def rehearsed_document(rehearsed: Rehearsed) -> Document:
    """Return a rehearsal."""
    restored = rehearsed.restored
    return {
        "rehearsal": {
            "database": restored.plan.settings.target().label,
            **_restored(restored),
            "migrated": rehearsed.migrated is not None,
            "removed": list(rehearsed.removed),
            "seconds": rehearsed.seconds,
            "restore_seconds": restored.seconds,
            "migrate_seconds": rehearsed.migrated,
        }
    }


def migrated_document(migrated: Migrated) -> Document:
    """Return a migration."""
    plan = migrated.plan
    return {
        "migration": {
            "database": plan.target.label,
            "applied": migrated.applied,
            "safety_dump": describe_dump(migrated.saved),
            "undo": plan.undo_command if migrated.saved else None,
        }
    }


def swap_undone_document(undone: SwapUndone) -> Document:
    """Return a committed undo by a swap."""
    plan = undone.plan
    return {
        "restore": None,
        "swap": {
            "database": plan.target.label,
            "restored": kept_document(undone.restored),
            "kept": None if undone.kept is None else kept_document(undone.kept),
            "sessions_ended": undone.ended,
            "cut_off_seconds": undone.cut_off,
            "seconds": undone.seconds,
            "undo": None if undone.kept is None else plan.settings.command("db.undo"),
        },
    }
