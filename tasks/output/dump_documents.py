"""JSON documents about dumps and states, as described in docs/json.md and docs/output.schema.json."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..formatting import show_name
from .check_documents import list_migrations
from .json_format import Document, format_document_time

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from ..config.settings import Settings
    from ..dump.dump import Dumped
    from ..dumpfiles.catalog import Inspected, Listed
    from ..dumpfiles.prune import PrunePlan
    from ..safety.own_databases import DatabaseRecord
    from ..safety.undo_points import UndoPoint


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


def describe_dump(dumped: Dumped | None) -> Document | None:
    """Return a dump; None if there is none."""
    from ..dumpfiles.origin import describe_part

    if dumped is None:
        return None
    manifest = dumped.manifest
    return {
        "id": manifest.id,
        "path": dumped.path,
        "created": format_document_time(manifest.created),
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
        "pinned": format_document_time(each.pinned),
        "rehearsed": format_document_time(each.rehearsed),
        "note": each.note or None,
    }


def pruned_document(plan: PrunePlan, deleted: Sequence[Listed]) -> Document:
    """Return which dumps a policy keeps and which were deleted."""
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
        "migrations": list_migrations(inspected.history),
        "migrations_unread": inspected.unread,
        "needs_trust": inspected.doubt or None,
        "manifest": json.loads(manifest.to_json()) if manifest else None,
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
