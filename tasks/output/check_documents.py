"""JSON documents of checks, as described in docs/json.md and docs/output.schema.json."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from .json_format import Document, format_document_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..doctor.doctor import Examined
    from ..dumpformat.applied_migration import AppliedMigration
    from ..inventory.compare import DifferenceLine
    from ..prisma.forecast import KnownHistories
    from ..verify.verify import Verified


def verified_document(verified: Verified) -> Document:
    """Return the result of a comparison."""
    expected, health = verified.expected, verified.health
    return {
        "database": verified.target.label,
        "dump": expected.source if expected else None,
        "restored": format_document_time(expected.restored) if expected else None,
        "migrated": format_document_time(expected.migrated) if expected else None,
        "same": None if expected is None else not verified.differences,
        "tables": [
            {"name": row.name, "expected": row.expected, "found": row.found, "same": row.same}
            for row in verified.tables
        ],
        "differences": list_differences(verified.differences),
        "notes": list_differences(line for line in verified.lines if not line.fatal),
        "problems": [{"message": problem.what, "fix": problem.remedy} for problem in health.problems],
        "health": {
            "foreign_keys": health.foreign_keys,
            "unvalidated": [each.qualified for each in health.unvalidated],
            "indexes": len(health.indexes),
            "invalid": [each.name for each in health.invalid],
            "migrations": list_migrations(health.migrations),
        },
    }


def list_differences(lines: Iterable[DifferenceLine]) -> list[Document]:
    """Return the differences of a comparison."""
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


def list_migrations(migrations: Sequence[AppliedMigration] | None) -> list[Document] | None:
    """Return the migrations of a history; None without one."""
    if migrations is None:
        return None
    return [
        {
            "name": each.name,
            "state": each.state.value,
            "finished": format_document_time(each.finished_at),
            "rolled_back": format_document_time(each.rolled_back_at),
        }
        for each in migrations
    ]


def examined_document(examined: Examined) -> Document:
    """Return the checks of `db.doctor`."""
    checks = [
        {
            "name": each.name,
            "state": "problem" if each.state == "wrong" else each.state,
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
