"""What the tasks print of their results: for people, and as JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..formatting import (
    format_content,
    format_count,
    format_list,
    format_moment,
    format_names,
    format_seconds,
    format_size,
)
from .terminal import Table, print_json, print_line, print_lines, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ..config.settings import Output, Settings
    from ..doctor.doctor import Examined
    from ..dump.dump import Dumped
    from ..dumpfiles.catalog import Inspected, Listed
    from ..dumpfiles.convert import Converted
    from ..dumpformat.applied_migration import AppliedMigration
    from ..prisma.forecast import KnownHistories
    from ..restore.rehearse import Rehearsed
    from ..restore.reset import ResetPlan
    from ..restore.restore import Restored
    from ..verify.verify import Verified


def show_url(settings: Settings) -> None:
    """Show the connection as libpq gets it, and what became of each parameter."""
    found, target = settings.url(), settings.target()
    print_line(f"{settings.url_env} from {found.source}")
    print_line(f"libpq gets: {target.masked}")
    print_line(f"That is {target.label}, schema {target.schema or 'public'}.")
    if target.pooled:
        advice = f"; {target.advice}" if target.advice else ""
        print_line(
            f"This looks like a connection pool. Dumps and restores want the direct URL: --url-env=DIRECT_URL{advice}."
        )
    if target.changes:
        table = Table(("parameter", "was", "why"))
        for change in target.changes:
            table.add(change.parameter, change.action, change.reason)
        print_table(table)


def show_dumped(dumped: Dumped, output: Output) -> None:
    """Show a dump that was made; of a quiet one its path alone."""
    manifest = dumped.manifest
    if output.value == "quiet":
        print_line(str(dumped.path))
        return
    without = f"; without the rows of {format_list(manifest.excluded_data)}" if manifest.excluded_data else ""
    print_line(
        f"{dumped.path}: {format_size(manifest.file.size)}, {format_count(manifest.rows, 'row')} in "
        f"{format_count(len(manifest.tables), 'table')}, {format_seconds(manifest.seconds)}{without}"
    )


def show_converted(converted: Converted) -> None:
    """Show what became of a dump that was compressed or expanded."""
    if not converted.changed:
        compressed = "already compressed" if converted.path.name.endswith((".gz", ".zst")) else "not compressed"
        print_line(f"{converted.path} is {compressed}, and stays as it is.")
    else:
        print_line(f"{converted.path}: {format_size(converted.before)} → {format_size(converted.after)}")


def show_restored(restored: Restored) -> None:
    """Show a restore that was committed, and what it left out; nothing where it is to be quiet."""
    plan = restored.plan
    if plan.settings.output.value == "quiet":
        return
    print_line(
        f"{plan.dump.path.name} is restored into {plan.target.label}: {format_count(restored.rows, 'row')} in "
        f"{format_count(restored.tables, 'table')}, {_proven(restored)}committed in "
        f"{format_seconds(restored.seconds)}"
        f"{'; then migrated' * plan.request.migrate}"
    )
    _show_saved(restored.saved, plan.undo_command)
    for reason, count in restored.lacks:
        print_line(f"  left out ({count:,}): {reason}")
    if plan.dump.manifest is None:
        print_line("  No manifest, so contents were not verified.")


def _proven(restored: Restored) -> str:
    if not restored.proven:
        return ""
    return "counted and " if restored.plan.dump.manifest is None else "verified and "


def show_reset(plan: ResetPlan, saved: Dumped | None) -> None:
    """Show a reset that was committed."""
    print_line(f"{plan.target.label}: {', '.join(plan.emptied)} emptied.")
    _show_saved(saved, plan.undo_command)


def _show_saved(saved: Dumped | None, undo: str) -> None:
    if saved is not None:
        manifest = saved.manifest
        print_line(
            f"  safety dump: {saved.path.parent.name}/{saved.path.name}, {format_size(manifest.file.size)}, "
            f"{format_count(manifest.rows, 'row')}, {format_seconds(manifest.seconds)}; `{undo}` restores it"
        )


def show_listing(listed: Sequence[Listed], *, as_json: bool) -> None:
    """Show the dumps, newest first."""
    if as_json:
        print_json([_listed_document(each) for each in listed])
        return
    if not listed:
        print_line("No dumps yet. `inv db.dump` makes one.")
        return
    columns = ("dump", "when (UTC)", "size", "rows", "server", "whole", "rehearsed", "note")
    table = Table(columns, right=("size", "rows"))
    for each in listed:
        table.add(*_listed_row(each))
    print_table(table)
    for each in listed:
        if each.whole not in {"yes", "unknown"}:
            print_line(f"{each.path.name} is not whole: {each.whole}")


def _listed_row(each: Listed) -> list[str]:
    return [
        each.name,
        format_moment(each.when),
        format_size(each.size),
        "" if each.rows is None else f"{each.rows:,}",
        each.server,
        each.whole if each.whole in {"yes", "unknown"} else "no",
        each.rehearsed[:10],
        "; ".join(
            [f"without the rows of {format_list(each.excluded)}"] * bool(each.excluded) + [each.note] * bool(each.note)
        ),
    ]


def _listed_document(each: Listed) -> dict[str, Any]:
    known = each.whole in {"yes", "unknown"}
    return {
        **asdict(each),
        "name": each.name,
        "path": str(each.path),
        "when": each.when.isoformat(),
        "whole": {"yes": True, "unknown": None}.get(each.whole, False),
        "why": None if known else each.whole,
    }


def show_verified(verified: Verified, *, as_json: bool) -> None:
    """Show the comparison."""
    if as_json:
        print_json(verified_document(verified))
        return
    expected = verified.expected
    if expected is None:
        print_line(f"{verified.target.label}: no restore is remembered for it, so nothing is compared (see --file=).")
    else:
        since = f", migrated {_utc(expected.migrated)}" if expected.migrated else ""
        when = f", restored {_utc(expected.restored)}{since}" if expected.restored else ""
        print_line(f"{verified.target.label} beside {expected.source}{when}")
    table = Table(("table", "expected", "found", ""), right=("expected", "found"))
    for row in verified.tables:
        table.add(row.name, _number(row.expected, "-"), _number(row.found), row.mark, marked=not row.same)
    print_table(table)
    for line in verified.lines:
        if line.kind != "rows":
            print_line(f"{line}" if line.fatal else f"Only told: {line}")
    _show_health(verified)
    for ill in verified.ills:
        print_line(f"Wrong in itself: {ill.what}. Mend it: {ill.remedy}")
    if expected is not None:
        count = len(verified.differences)
        told = len(verified.lines) - count
        if count:
            print_line(f"{format_count(count, 'difference')} found.")
        elif not expected.state.objects:
            # A dump without a manifest says nothing that objects could be compared with.
            print_line("Rows and sequences agree; no manifest tells more.")
        else:
            print_line(
                f"No difference; {format_count(told, 'line')} above only told." if told else "Everything agrees."
            )


def _number(value: int | None, absent: str = "missing") -> str:
    return absent if value is None else f"{value:,}"


def _show_health(verified: Verified) -> None:
    health = verified.health
    print_line(
        format_count(health.foreign_keys, "foreign key")
        + (f", not validated: {format_list(health.unvalidated)}" if health.unvalidated else "")
        + f"; {format_count(health.indexes, 'index', 'indexes')}"
        + (f", invalid: {format_list(health.invalid)}" if health.invalid else "")
    )
    if health.migrations is None:
        print_line("No migration history (_prisma_migrations) here.")
        return
    undone = ["rolled back"] if any(each.rolled_back for each in health.migrations) else []
    table = Table(("migration", "state", "finished", *undone))
    for each in health.migrations:
        rolled_back = [_moment(each.rolled_back_at, each.rolled_back)] * len(undone)
        table.add(each.name, each.state.value, _moment(each.finished_at, each.finished), *rolled_back)
    print_table(table)


def _moment(when: datetime | None, text: str) -> str:
    """Write a time of a history, or its text where Python can't hold the time."""
    return format_moment(when) or text


def _utc(iso: str) -> str:
    """Write a record's time, which is in UTC, as the tables write theirs."""
    return f"{iso[:19].replace('T', ' ')} UTC"


def verified_document(verified: Verified) -> dict[str, Any]:
    """The comparison as JSON."""
    expected = verified.expected
    return {
        "database": verified.target.label,
        "dump": expected.source if expected else None,
        "restored": expected.restored if expected else None,
        "migrated": expected.migrated if expected else None,
        "same": None if expected is None else not verified.differences,
        "tables": [
            {"name": row.name, "expected": row.expected, "found": row.found, "same": row.same}
            for row in verified.tables
        ],
        "differences": [asdict(line) for line in verified.differences],
        "told": [asdict(line) for line in verified.lines if not line.fatal],
        "wrong": [asdict(ill) for ill in verified.ills],
        "health": {**asdict(verified.health), "migrations": _migrations_document(verified.health.migrations)},
    }


def _migrations_document(migrations: Sequence[AppliedMigration] | None) -> list[dict[str, Any]] | None:
    if migrations is None:
        return None
    return [
        {
            "name": each.name,
            "finished": each.finished_at or each.finished or None,
            "rolled_back": each.rolled_back_at or each.rolled_back or None,
        }
        for each in migrations
    ]


def show_rehearsed(rehearsed: Rehearsed) -> None:
    """Show a rehearsal that went well."""
    for name in rehearsed.swept:
        print_line(f"Removed {name}, which a killed rehearsal had left.")
    restored = rehearsed.restored
    print_line(
        f"{rehearsed.path.name} restores: {format_count(restored.rows, 'row')} in "
        f"{format_count(restored.tables, 'table')}, "
        f"{'verified, ' * restored.proven}in {format_seconds(restored.seconds)}"
        + (f"; migrated in {format_seconds(rehearsed.migrated)}" if rehearsed.migrated is not None else "")
        + f"; {format_seconds(rehearsed.seconds)} in all. The scratch database is removed."
    )


# Sign and style of each state of a check.
_STATES = {"ok": ("✓", "green"), "note": ("!", "yellow"), "wrong": ("✗", "bold red"), "skipped": ("–", "dim")}  # noqa: RUF001


def show_examined(examined: Examined, *, as_json: bool) -> None:
    """Show what was looked at, a line each, and below it what helps."""
    if as_json:
        checks = [asdict(check) for check in examined.checks]
        print_json({"database": examined.label or None, "healthy": not examined.wrong, "checks": checks})
        return
    width = max(len(check.name) for check in examined.checks)
    lines: list[tuple[str, str | None, int]] = []
    for check in examined.checks:
        sign, style = _STATES[check.state]
        lines.append((f"{sign} {check.name:{width}}  {check.what}", style, width + 4))
        if check.remedy:
            lines.append((f"  {'':{width}}  → {check.remedy}", None, 2))
    print_lines(lines)


def show_histories(histories: KnownHistories, *, as_json: bool) -> None:
    """Show every migration and its state in each place, and what a deploy would meet."""
    dump = histories.dump
    if as_json:
        print_json(_histories_document(histories))
        return
    if not histories.compared:
        print_line(f"There are no migrations, neither in {histories.application.folder} nor in the database.")
    else:
        places = ["database", *(["dump"] if dump is not None else [])]
        table = Table(("migration", "on disk", *places))
        for each in histories.compared:
            states = [state or "" for state in each.states[: len(places)]]
            table.add(each.name, "yes" if each.disk else "no", *states)
        print_table(table)
    for finding in histories.findings:
        print_line(f"{'`prisma migrate deploy` would refuse. ' if finding.fatal else ''}{finding}")


def _histories_document(histories: KnownHistories) -> dict[str, Any]:
    return {
        "database": histories.target.label,
        "folder": str(histories.application.folder),
        "dump": None if histories.dump is None else str(histories.dump),
        "migrations": [
            {"name": each.name, "disk": each.disk, "database": each.states[0], "dump": each.states[1]}
            for each in histories.compared
        ],
        "findings": [asdict(finding) for finding in histories.findings],
    }


def show_inspected(inspected: Inspected, *, as_json: bool) -> None:
    """Show what a dump holds."""
    rows = sum(each.rows for each in inspected.tables)
    manifest = inspected.manifest
    if as_json:
        document = {**asdict(inspected), "path": str(inspected.path), "rows": rows}
        document["manifest"] = json.loads(manifest.to_json()) if manifest else None
        print_json(document)
        return
    holds = format_content(rows, inspected.inserts)
    print_line(f"{inspected.path}: {format_size(inspected.size)}, {format_size(inspected.content)} as text, {holds}")
    print_line(f"PostgreSQL {inspected.server or 'unknown'}, dumped by pg_dump {inspected.client or 'unknown'}")
    if manifest is None:
        print_line("No manifest of ours: this is what its text says.")
    else:
        source, git = manifest.source, ""
        if manifest.git:
            git = f", commit {manifest.git['commit'][:12]}" + (" and changes" if manifest.git["dirty"] else "")
        print_line(f"Made {manifest.created} of {source.get('database')} at {source.get('host')}{git}")
        if manifest.note:
            print_line(f"Note: {manifest.note}")
        if manifest.excluded_data:
            print_line(f"Without the rows of {format_list(manifest.excluded_data)}")
        if sums := manifest.facts.get("checksums"):
            print_line(f"With checksums of {format_count(len(sums), 'table')}, which `db.verify --checksums` compares")
    if inspected.doubt:
        print_line(f"A superuser is asked before loading it: it {inspected.doubt}.")
    outline = inspected.outline
    print_line(
        f"Fills {format_names(outline.schemas) or 'no schema'}; {format_count(outline.relations, 'relation')}, "
        f"{format_count(outline.large_objects, 'large object')}; "
        f"extensions: {format_names(outline.extensions) or 'none'}"
    )
    table = Table(("table", "rows"), right=("rows",))
    for each in inspected.tables:
        table.add(each.label, f"{each.rows:,}")
    print_table(table)
    if inspected.history is None:
        unread = "It writes its migration history as INSERT statements, which are not read."
        print_line(unread if inspected.unread else "No migration history (_prisma_migrations) in it.")
        return
    table = Table(("migration", "state", "finished"))
    for past in inspected.history:
        table.add(past.name, past.state.value, _moment(past.finished_at, past.finished))
    print_table(table)
