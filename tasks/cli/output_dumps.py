"""Print dumps, lists of dumps and their content."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..dumpfiles.short_ids import shorten_ids
from ..dumpformat.applied_migration import sort_migrations
from ..formatting import (
    format_age,
    format_content,
    format_count,
    format_moment,
    format_names,
    format_seconds,
    format_size,
    printable,
    printable_row,
)
from ..output.dump_documents import describe_dump, inspected_document, listing_document, states_document, url_document
from .terminal import column_widths, open_console, print_json, print_line, print_raw, print_table, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..config.settings import Settings
    from ..dump.dump import Dumped
    from ..dumpfiles.catalog import Inspected, Listed
    from ..dumpfiles.convert import Converted
    from ..dumpfiles.table_rows import RowBatch
    from ..safety.own_databases import DatabaseRecord
    from ..safety.undo_points import UndoPoint

# The characters that are shown of a database's name, which may have 63.
_DATABASE = 20
_LIST_COLUMNS = ("id", "database", "branch", "age", "size", "rows", "state", "note", "file")
_PLAN_COLUMNS = ("id", "database", "age", "size", "state", "plan", "file")
_UNDO_COLUMNS = ("id", "when (UTC)", "database", "rows", "size", "as", "before")
# The minimum width of the columns that are cut if a table is too wide.
_SHORTEST_CELL = 6
_GAP = 2


def show_url(settings: Settings) -> None:
    """Print the connection as libpq gets it, and each parameter that was translated or dropped."""
    if settings.as_json:
        print_json(url_document(settings))
        return
    found, target = settings.url(), settings.target()
    print_line(f"{settings.url_env} from {found.source}")
    print_line(f"libpq gets: {target.masked}")
    print_line(f"Database: {target.label}, schema {target.schema or 'public'}.")
    if target.pooled:
        advice = f"; {target.advice}" if target.advice else ""
        print_line(
            f"This looks like a connection pool. Dumps and restores need the direct URL: --url-env=DIRECT_URL{advice}."
        )
    changes = [(change.parameter, change.action, change.reason) for change in target.changes]
    print_table(("parameter", "was", "why"), changes)


def show_dumped(dumped: Dumped | None, settings: Settings) -> None:
    """Print a new dump, to standard error if standard output has the dump; only its path if quiet."""
    from ..dumpfiles.origin import describe_lacks, describe_part

    if settings.as_json:
        print_json({"dump": describe_dump(dumped)})
        return
    if dumped is None:
        return
    manifest, piped = dumped.manifest, str(dumped.path) == "-"
    if settings.output.value == "quiet":
        if not piped:
            print_line(str(dumped.path))
        return
    lacks = "".join(f"; {each}" for each in describe_lacks(describe_part(manifest), manifest.excluded_data))
    where = "standard output" if piped else dumped.path
    text = (
        f"{where}: {format_size(manifest.file.size)}, {format_count(manifest.rows, 'row')} in "
        f"{format_count(len(manifest.tables), 'table')}, {format_seconds(manifest.seconds)}{lacks}"
    )
    if piped:
        say(open_console(stderr=True), text)
    else:
        print_line(text)


def show_converted(converted: Converted) -> None:
    """Print the result of compressing or expanding a dump."""
    if not converted.changed:
        compressed = "already compressed" if converted.path.name.endswith((".gz", ".zst")) else "not compressed"
        print_line(f"{converted.path} is {compressed}; nothing was changed.")
    else:
        print_line(f"{converted.path}: {format_size(converted.before)} → {format_size(converted.after)}")


def show_listing(
    listed: Sequence[Listed], kept: Sequence[DatabaseRecord], every_id: Sequence[str], *, as_json: bool
) -> None:
    """Print a list of dumps, and one of kept databases.

    :param every_id: The ids of all dumps and kept databases; the shortened ids are unique among these.
    """
    if as_json:
        print_json(listing_document(listed, kept))
        return
    if listed:
        print_dumps(listed, every_id, {})
    elif not kept:
        print_line("No dump matches." if every_id else "No dumps yet. `inv db.dump` makes one.")
    for each in listed:
        if each.defect:
            print_line(f"{each.path.name} is broken: {each.defect}")
    if kept:
        _print_kept(kept, every_id)


def _print_kept(kept: Sequence[DatabaseRecord], every_id: Iterable[str]) -> None:
    short, now = shorten_ids(every_id), datetime.now(UTC)
    rows = [
        (short[each.id], each.database, format_age(now - each.when), format_size(each.size), each.command)
        for each in kept
    ]
    print_table(("id", "kept database", "age", "size", "before"), rows, right=("age", "size"), gap=_GAP)


def print_dumps(listed: Sequence[Listed], every_id: Iterable[str], verdicts: Mapping[str, str]) -> None:
    """Print a table of dumps, without the files' names if the terminal is too narrow for them.

    :param verdicts: For `db.prune`: whether each dump is kept and why, by its name. They replace the notes.
    """
    short, now = shorten_ids(every_id), datetime.now(UTC)
    columns: tuple[str, ...] = _PLAN_COLUMNS if verdicts else _LIST_COLUMNS
    cells = [_cells_of(each, short[each.id], now, verdicts) for each in listed]
    rows = [tuple(each[name] for name in columns) for each in cells]
    width = open_console(stderr=False).width
    if _width(columns, rows) > width:
        columns = columns[:-1]
        # Dumps without an id, or with a name that the user chose, are shown with their name.
        rows = [(*row[:-2], _named(each, row[-2])) for each, row in zip(listed, rows, strict=True)]
        rows = _shortened(columns, rows, width, ("database", "branch", "note", "plan"))
    print_table(columns, rows, right=("age", "size", "rows"), gap=_GAP)


def _named(each: Listed, text: str) -> str:
    from ..dumpfiles.paths import DUMP, UNDO, time_in_name

    is_ours = each.id and time_in_name(each.path.name, UNDO if each.safety else DUMP) is not None
    return text if is_ours else ": ".join(filter(None, [printable(each.name), text]))


def _width(columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> int:
    """Return the width of a table of dumps, including the space before it."""
    return 1 + sum(column_widths(columns, rows)) + _GAP * (len(columns) - 1)


def _shortened(
    columns: Sequence[str], rows: list[tuple[str, ...]], width: int, cut: Sequence[str]
) -> list[tuple[str, ...]]:
    """Cut these columns, the longest first, until the table has this width or no more can be cut."""
    free = [at for at, name in enumerate(columns) if name in cut]
    rows = [tuple(_cut(cell, width) if at in free else cell for at, cell in enumerate(row)) for row in rows]
    while _width(columns, rows) > width:
        lengths = {at: max(len(row[at]) for row in rows) for at in free}
        at = max(lengths, key=lambda each: lengths[each])
        if lengths[at] <= _SHORTEST_CELL:
            break
        rows = [(*row[:at], _cut(row[at], lengths[at] - 1), *row[at + 1 :]) for row in rows]
    return rows


def show_undo_points(points: Sequence[UndoPoint], settings: Settings, *, as_json: bool) -> None:
    """Print the states that can be restored, newest last."""
    if as_json:
        print_json(states_document(points, settings))
        return
    if not points:
        print_line(
            f"There is no safety dump of {settings.target().label} in {settings.dumps}, so there is nothing to undo."
        )
        return
    short = shorten_ids(each.id for each in points)
    rows = [_undo_point_row(short[each.id], each) for each in points]
    rows = _shortened(_UNDO_COLUMNS, rows, open_console(stderr=False).width, ("before",))
    print_table(_UNDO_COLUMNS, rows, right=("rows", "size"), gap=_GAP)
    print_line(f"`{settings.command('db.undo', '--to=ID')}` restores one of them.")


def _undo_point_row(name: str, point: UndoPoint) -> tuple[str, ...]:
    before = point.command or point.note.removeprefix("before ")
    database = _cut(printable(point.database), _DATABASE)
    rows, saved = (f"{point.rows:,}", "dump") if point.kept is None else (f"~{point.rows:,}", "database")
    return name, format_moment(point.when), database, rows, format_size(point.size), saved, printable(before)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _cells_of(each: Listed, short: str, now: datetime, verdicts: Mapping[str, str]) -> dict[str, str]:
    from ..dumpfiles.origin import describe_lacks

    cells = {
        "id": short,
        "database": each.database,
        "branch": each.branch,
        "age": format_age(now - each.when),
        "size": format_size(each.size),
        "rows": "" if each.rows is None else f"{each.rows:,}",
        "state": describe_state(each),
        "note": "; ".join(filter(None, [*describe_lacks(each.part, each.excluded), each.note])),
        "plan": verdicts.get(each.name, ""),
        "file": each.name,
    }
    return {name: printable(cell) for name, cell in cells.items()}


def describe_state(each: Listed) -> str:
    """Return the state of a dump as known without reading it: complete, partial, rehearsed, broken or unknown."""
    if each.complete:
        known = "partial" if each.is_partial else "rehearsed" if each.rehearsed else "complete"
    else:
        known = "unknown" if each.complete is None else "broken"
    marks = ["pinned" if each.pinned else "", "safety" if each.safety else ""]
    return ", ".join(filter(None, [known, *marks]))


def show_inspected(inspected: Inspected, *, as_json: bool) -> None:
    """Print the content of a dump."""
    from ..dumpfiles.origin import describe_lacks, describe_part

    rows = sum(each.rows for each in inspected.tables)
    manifest = inspected.manifest
    if as_json:
        print_json(inspected_document(inspected))
        return
    holds = format_content(rows, inspected.inserts)
    print_line(f"{inspected.path}: {format_size(inspected.size)}, {format_size(inspected.content)} as text, {holds}")
    print_line(f"PostgreSQL {inspected.server or 'unknown'}, dumped by pg_dump {inspected.client or 'unknown'}")
    if manifest is None:
        print_line("No manifest: all of this was read from the dump's text.")
    else:
        source, git = manifest.source, ""
        if manifest.git:
            git = f", commit {manifest.git['commit'][:12]}" + (" with changes" if manifest.git["dirty"] else "")
        print_line(f"Made {manifest.created} of {source.get('database')} at {source.get('host')}{git}")
        if manifest.note:
            print_line(f"Note: {manifest.note}")
        for lack in describe_lacks(describe_part(manifest), manifest.excluded_data):
            print_line(f"{lack[:1].upper()}{lack[1:]}")
        if sums := manifest.facts.get("checksums"):
            print_line(f"With checksums of {format_count(len(sums), 'table')}, which `db.verify --checksums` compares")
    if inspected.doubt:
        print_line(f"A superuser must confirm before loading it (--trust): it {inspected.doubt}.")
    outline = inspected.outline
    print_line(
        f"Fills {format_names(outline.schemas) or 'no schema'}; {format_count(outline.relations, 'relation')}, "
        f"{format_count(outline.large_objects, 'large object')}; "
        f"extensions: {format_names(outline.extensions) or 'none'}"
    )
    print_table(("table", "rows"), [(each.label, f"{each.rows:,}") for each in inspected.tables], right=("rows",))
    if inspected.history is None:
        unread = "Its migration history is written as INSERT statements, which are not read."
        print_line(unread if inspected.unread else "No migration history (_prisma_migrations) in it.")
        return
    history = [
        (each.name, each.state.value, format_moment(each.finished_at) or each.finished)
        for each in sort_migrations(inspected.history)
    ]
    print_table(("migration", "state", "finished"), history)


def show_rows(batches: Iterable[RowBatch], *, as_json: bool) -> None:
    """Print rows of a table: in COPY's text format with a header, or as JSON objects."""
    columns: tuple[str, ...] | None = None
    for batch in batches:
        if as_json:
            print_raw(json.dumps(dict(zip(batch.columns, row, strict=True))) for row in batch.values())
            continue
        if batch.columns != columns:
            columns = batch.columns
            print_raw([printable_row("\t".join(columns))])
        print_raw(map(printable_row, batch.texts()))
