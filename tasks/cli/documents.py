"""JSON documents of the tasks, as described in docs/json.md and docs/output.schema.json."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..formatting import parse_instant, show_name
from .terminal import print_raw

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ..config.settings import Settings
    from ..doctor.doctor import Examined
    from ..dump.dump import Dumped
    from ..dumpfiles.catalog import Inspected, Listed
    from ..dumpfiles.prune import PrunePlan
    from ..dumpformat.applied_migration import AppliedMigration
    from ..errors import TaskError
    from ..inventory.compare import DifferenceLine
    from ..prisma.forecast import KnownHistories
    from ..prisma.guarded_migrate import Migrated
    from ..restore.plan import RestorePlan
    from ..restore.restore import Restored
    from ..safety.own_databases import DatabaseRecord
    from ..safety.swap_undo import SwapUndone
    from ..safety.undo_points import UndoPoint
    from ..scratch.rehearse import Rehearsed
    from ..staging.finish import Finished
    from ..verify.verify import Verified

    Document = dict[str, Any]


VERSION = 1


def print_json(document: Mapping[str, Any]) -> None:
    """Print the result of a task as JSON, with the version of the format."""
    print_raw([json.dumps({"version": VERSION, **document}, indent=1, default=_convert)])


def error_line(error: TaskError) -> str:
    """Return an error as JSON on one line."""
    described = {
        "code": error.exit_code,
        "kind": error.kind,
        "message": str(error),
        "state": error.effect,
        "fix": error.fix or None,
    }
    return json.dumps({"version": VERSION, "error": described})


def _convert(value: object) -> object:
    """Return a time or a path as text."""
    return _time(value) if isinstance(value, datetime) else str(value)


def _time(moment: datetime | str | None) -> str | None:
    """Return a time in ISO 8601, UTC, with milliseconds; None if there is none, or Python can't represent it."""
    found = parse_instant(moment) if isinstance(moment, str) else moment
    if found is None:
        return None
    return found.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def url_document(settings: Settings) -> Document:
    """Return the connection without secrets."""
    target = settings.target()
    return {
        "variable": settings.url_env,
        "source": settings.url().source,
        "database": target.label,
        "connection": target.masked,
        "schema": target.schema or "public",
        "pooled": target.pooled,
        "parameters": [asdict(change) for change in target.changes],
    }


def dump_document(dumped: Dumped | None) -> Document:
    """Return a new dump; None after a dry run."""
    return {"dump": _dump(dumped)}


def _dump(dumped: Dumped | None) -> Document | None:
    from ..dumpfiles.origin import describe_part

    if dumped is None:
        return None
    manifest = dumped.manifest
    return {
        "id": manifest.id,
        "path": dumped.path,
        "created": _time(manifest.created),
        "database": manifest.source.get("database"),
        "size": manifest.file.size,
        "sha256": manifest.file.sha256,
        "rows": manifest.rows,
        "tables": len(manifest.tables),
        "part": describe_part(manifest) or None,
        "excluded": [show_name(key) for key in manifest.excluded_data],
        "checksums": bool(manifest.facts.get("checksums")),
        "note": manifest.note or None,
        "seconds": manifest.seconds,
    }


def listing_document(listed: Iterable[Listed], kept: Iterable[DatabaseRecord]) -> Document:
    """Return a list of dumps and of kept databases."""
    return {
        "dumps": [listed_document(each) for each in listed],
        "kept_databases": [kept_document(each) for each in kept],
    }


def listed_document(each: Listed) -> Document:
    """Return one dump of the list."""
    return {
        "id": each.id or None,
        "name": each.name,
        "path": each.path,
        "created": each.when,
        "database": each.database or None,
        "server_version": each.server or None,
        "branch": each.branch or None,
        "size": each.size,
        "rows": each.rows,
        "complete": each.complete,
        "reason": each.defect or None,
        "part": each.part or None,
        "excluded": [show_name(key) for key in each.excluded],
        "checksums": each.checksums,
        "safety": each.safety,
        "pinned": _time(each.pinned),
        "rehearsed": _time(each.rehearsed),
        "note": each.note or None,
    }


def pruned_document(plan: PrunePlan | None, deleted: Sequence[Listed]) -> Document:
    """Return which dumps a policy keeps and which were deleted; `plan` is None if no policy is set."""
    if plan is None:
        return {"policy": None, "dumps": []}
    names = {each.name for each in deleted}
    return {"policy": asdict(plan.policy), "dumps": [_judged(each, plan, names) for each in plan.dumps]}


def _judged(each: Listed, plan: PrunePlan, deleted: Collection[str]) -> Document:
    verdict = plan.verdicts[each.name]
    return {
        "id": each.id or None,
        "name": each.name,
        "path": each.path,
        "size": each.size,
        "keep": verdict.kept,
        "reasons": list(verdict.reasons),
        "deleted": each.name in deleted,
    }


def states_document(points: Iterable[UndoPoint], settings: Settings) -> Document:
    """Return the states that `db.undo` can restore."""
    states = [
        {
            "id": each.id,
            "path": each.path,
            "kept_database": each.kept.record.database if each.kept is not None else None,
            "created": each.when,
            "database": each.database or None,
            "rows": each.rows,
            "size": each.size,
            "command": each.command or None,
            "note": each.note or None,
        }
        for each in points
    ]
    return {"database": settings.target().label, "states": states}


def inspected_document(inspected: Inspected) -> Document:
    """Return the content of a dump; its manifest is unchanged."""
    manifest = inspected.manifest
    return {
        "path": inspected.path,
        "size": inspected.size,
        "content_size": inspected.content,
        "server_version": inspected.server or None,
        "pg_dump_version": inspected.client or None,
        "rows": sum(each.rows for each in inspected.tables),
        "inserts": inspected.inserts,
        "tables": [asdict(each) for each in inspected.tables],
        "outline": asdict(inspected.outline),
        "migrations": _migrations(inspected.history),
        "migrations_unread": inspected.unread,
        "needs_trust": inspected.doubt or None,
        "manifest": json.loads(manifest.to_json()) if manifest else None,
    }


def verified_document(verified: Verified) -> Document:
    """Return the result of a comparison."""
    expected, health = verified.expected, verified.health
    return {
        "database": verified.target.label,
        "dump": expected.source if expected else None,
        "restored": _time(expected.restored) if expected else None,
        "migrated": _time(expected.migrated) if expected else None,
        "same": None if expected is None else not verified.differences,
        "tables": [
            {"name": row.name, "expected": row.expected, "found": row.found, "same": row.same}
            for row in verified.tables
        ],
        "differences": _differences(verified.differences),
        "notes": _differences(line for line in verified.lines if not line.fatal),
        "problems": [{"message": problem.what, "fix": problem.remedy} for problem in health.problems],
        "health": {
            "foreign_keys": health.foreign_keys,
            "unvalidated": [each.qualified for each in health.unvalidated],
            "indexes": len(health.indexes),
            "invalid": [each.name for each in health.invalid],
            "migrations": _migrations(health.migrations),
        },
    }


def _differences(lines: Iterable[DifferenceLine]) -> list[Document]:
    return [
        {
            "kind": each.kind,
            "name": each.name,
            "names": list(each.names),
            "expected": each.expected,
            "found": each.found,
            "changes": [asdict(change) for change in each.changes],
        }
        for each in lines
    ]


def _migrations(migrations: Sequence[AppliedMigration] | None) -> list[Document] | None:
    if migrations is None:
        return None
    return [
        {
            "name": each.name,
            "state": each.state.value,
            "finished": _time(each.finished_at),
            "rolled_back": _time(each.rolled_back_at),
        }
        for each in migrations
    ]


_CHECK_STATES = {"wrong": "problem"}


def examined_document(examined: Examined) -> Document:
    """Return the checks of `db.doctor`."""
    checks = [
        {
            "name": each.name,
            "state": _CHECK_STATES.get(each.state, each.state),
            "message": each.what,
            "fix": each.remedy or None,
        }
        for each in examined.checks
    ]
    return {"database": examined.label or None, "healthy": not examined.wrong, "checks": checks}


def histories_document(histories: KnownHistories) -> Document:
    """Return the migrations on disk, in the database and in a dump, and the problems that a deploy would have."""
    found = [
        (each.fatal, {"code": each.code or None, "message": each.what, "fix": each.remedy or None})
        for each in histories.findings
    ]
    return {
        "database": histories.target.label,
        "folder": histories.application.folder,
        "dump": histories.dump,
        "migrations": [
            {"name": each.name, "on_disk": each.disk, "database": each.states[0], "dump": each.states[1]}
            for each in histories.compared
        ],
        "problems": [each for fatal, each in found if fatal],
        "notes": [each for fatal, each in found if not fatal],
    }


def restored_document(restored: Restored | None) -> Document:
    """Return a committed restore; None after a dry run."""
    if restored is None:
        return {"restore": None}
    plan = restored.plan
    return {
        "restore": {
            "database": plan.target.label,
            **_restored(restored),
            "only_tables": None if plan.tables is None else [show_name(each.key) for each in plan.tables.tables],
            "migrated": plan.request.migrate,
            "seconds": restored.seconds,
            "created": restored.created,
            "method": "transaction" if restored.cut_off is None else "swap",
            "no_swap": _no_swap(plan),
            **_swapped(restored),
            "safety_dump": _dump(restored.saved),
            "undo": plan.undo_command if restored.saved or restored.kept else None,
        }
    }


def finished_document(finished: Finished | None) -> Document:
    """Return a restore that `--finish` finished; None after a dry run."""
    if finished is None:
        return {"restore": None}
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


def _no_swap(plan: RestorePlan) -> Document | None:
    reason = plan.method.reason
    return {"reason": reason.obstacle.name.lower(), "message": str(reason)} if reason is not None else None


def _restored(restored: Restored) -> Document:
    """Return what was loaded from a dump, what was left out, and what was changed."""
    return {
        "dump": restored.plan.dump.path,
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
        "differences": _differences(restored.differences),
        "left_out": [{"reason": reason, "count": count} for reason, count in restored.lacks],
    }


def rehearsed_document(rehearsed: Rehearsed | None) -> Document:
    """Return a rehearsal; None after a dry run."""
    if rehearsed is None:
        return {"rehearsal": None}
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


def migrated_document(migrated: Migrated | None) -> Document:
    """Return a migration; None after a dry run."""
    if migrated is None:
        return {"migration": None}
    plan = migrated.plan
    return {
        "migration": {
            "database": plan.target.label,
            "applied": migrated.applied,
            "safety_dump": _dump(migrated.saved),
            "undo": plan.undo_command if migrated.saved else None,
        }
    }


def swap_undone_document(undone: SwapUndone | None) -> Document:
    """Return a committed undo by a swap; None after a dry run."""
    if undone is None:
        return {"restore": None}
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


def kept_document(record: DatabaseRecord) -> Document:
    """Return a kept database."""
    return {
        "id": record.id,
        "name": record.database,
        "created": record.when,
        "database": record.of,
        "rows": record.rows,
        "size": record.size,
        "command": record.command or None,
    }


def _safety_dump(saved: Dumped | None, undo: str) -> Document:
    return {"safety_dump": _dump(saved), "undo": undo if saved else None}
