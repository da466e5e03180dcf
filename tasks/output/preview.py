"""Say what a task will delete, change, keep and need, as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..formatting import (
    format_content,
    format_count,
    format_list,
    format_size,
    parse_instant,
    show_name,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..postgres.schemas import Content
    from ..prisma.guarded_migrate import MigrationPlan
    from ..restore.plan import RestorePlan
    from ..restore.reset import ResetPlan
    from ..restore.table_restore import TablesPlan
    from ..safety.impact import ExistingObject, Impact
    from ..staging.finish import FinishPlan


_SHOWN_IMPACTS = 8
_SHOWN_EXISTING = 5
_SHOWN_TABLES = 8
# Plurals that do not end in -s only, and a singular that is clearer than SQL's.
_PLURALS = {"index": "indexes", "operator class": "operator classes", "operator family": "operator families"}
_WORDS = {"statistics": "statistics object"}


def restore_warning(plan: RestorePlan) -> list[str]:
    """Return what a restore deletes, replaces, changes and keeps, with its locks and disk space, as lines."""
    return [
        *_source(plan),
        *_deleted(plan),
        *_changed(plan),
        *(_swap(plan) if plan.method.swaps else transaction_lines(plan)),
        *place_lines(plan.nonlocal_reason, plan.doubt),
    ]


def transaction_lines(plan: RestorePlan) -> list[str]:
    """Return how the content is replaced in one transaction, and what it costs, as lines."""
    return [*no_swap_lines(plan), *_undoes_later(plan), *_safety(plan), *_empty_again(plan), *_price(plan)]


def finish_warning(plan: FinishPlan) -> list[str]:
    """Return what finishing a restore does, as lines."""
    what, record = plan.incoming, plan.restored
    rows = f", {format_count(sum(each.rows for each in record.tables), 'row')}" if record is not None else ""
    return [
        f"{plan.target.label}: finishing a restore.",
        f"  {what.database} ({what.command}, loaded {what.made}{rows}) takes its place.",
        _rows_meanwhile(plan, "after it was loaded"),
        *_cut_off(plan),
        _old_database(plan),
    ]


def reset_warning(plan: ResetPlan) -> list[str]:
    """Return what a reset deletes and keeps, as lines."""
    label, names = plan.target.label, format_list(plan.emptied)
    if not plan.destroys:
        return [f"{label}: {names} {'is' if len(plan.emptied) == 1 else 'are'} empty already."]
    return [
        f"{label}: emptying schemas.",
        f"  Will be deleted: everything in {names} ({describe_content(plan.removed)}).",
        _kept(plan.kept),
        *_safety(plan),
    ]


def migration_warning(plan: MigrationPlan) -> list[str]:
    """Return which migrations will be applied, and whether a safety dump is made, as lines."""
    label, forecast = plan.target.label, plan.forecast
    if not plan.applies:
        return []
    unknown = "the pending migrations that the project's own command finds"
    names = format_list(forecast.pending) if forecast is not None else unknown
    return [f"{label}: applying migrations.", f"  Will be applied: {names}.", *_safety(plan)]


def describe_content(content: Content) -> str:
    """Return the number of objects of each kind in schemas, and of rows and bytes in their tables, as text."""
    kinds = [format_count(count, _WORDS.get(kind, kind), _PLURALS.get(kind, "")) for kind, count in content.objects]
    rows = f"; about {format_count(content.rows, 'row')}, {format_size(content.bytes)}" if content.tables else ""
    return ", ".join(kinds) + rows


def _source(plan: RestorePlan) -> list[str]:
    """Return the dump's name and origin."""
    from ..dumpfiles.origin import describe_part
    from ..dumpfiles.paths import dump_label

    dump, manifest = plan.dump, plan.dump.manifest
    what = f"{plan.tables.names} of " if plan.tables is not None else ""
    content = format_content(dump.rows, dump.inserts)
    lines = [f"{plan.target.label}: restoring {what}{dump_label(dump.path)} ({content})."]
    if manifest is not None:
        note = f": {manifest.note}" if manifest.note else ""
        source = manifest.source.get("database")
        lines.append(f"  Made {manifest.created} of {source} at {manifest.source.get('host')}{note}")
        lines += other_database_lines(plan)
        if plan.tables is not None:
            return lines
        if part := describe_part(manifest):
            lines.append(f"  It is of a part of the database: {part}.")
        if plan.left_empty:
            names = _names(plan.left_empty, " now")
            lines.append(f"  WARNING: these tables will be empty, because the dump lacks their rows: {names}.")
    return lines


def other_database_lines(plan: RestorePlan) -> list[str]:
    """Return a warning if the dump is of another database."""
    from ..dumpfiles.origin import describe_databases

    if not plan.other_database or plan.dump.manifest is None:
        return []
    source, here = describe_databases(plan.dump.manifest, plan.endpoint)
    return [f"  WARNING: this dump was made from {source}, and you are restoring it into {here}."]


def _deleted(plan: RestorePlan) -> list[str]:
    """Return what will be deleted or replaced, and what will be kept."""
    if plan.tables is not None:
        return [*_replaced_tables(plan.tables), "  Will be kept: everything else; foreign keys are checked at the end."]
    if plan.request.clean and plan.removed.is_empty and not plan.objects_outside:
        nothing = "  Will be deleted: nothing. The schemas of the dump are empty, or do not exist yet."
        return [nothing, *_replaced(plan.replaced)]
    what = describe_content(plan.removed)
    if plan.request.replaces_all:
        where = f"schema{'s' * (len(plan.emptied) > 1)} {format_list(plan.emptied)} ({what or 'empty now'})"
        after = "Afterwards the database is exactly as in the dump."
        return [f"  Will be deleted: everything in the database: {where}. {after}"]
    if plan.request.clean:
        added = "" if not plan.request.privileges else " Grants in the dump are added."
        verb = "replaced" if plan.method.swaps and plan.keeps_old else "deleted"
        lines = [f"  Will be {verb}: everything in {format_list(plan.emptied)} ({what}).", _kept(plan.kept, added)]
        if plan.other_tables:
            held = max(plan.removed.tables - len(plan.other_tables), 0)
            lines.append(
                f"  WARNING: the dump holds {held:,} of these {format_count(plan.removed.tables, 'table')}. It does "
                f"not hold {format_list(plan.other_tables)}."
            )
        return [*lines, *_replaced(plan.replaced)]
    kept = [each for each in plan.existing if not each.dropped]
    lines = _replaced(plan.replaced)
    if kept:
        lines.append(f"  Exist already and are not dropped by the dump: {_names(kept)}.")
    return [*lines, "  Will be kept: everything else."] if lines else []


def _replaced_tables(plan: TablesPlan) -> list[str]:
    """Return for each table its content now and in the dump."""
    lines = []
    for each in plan.tables[:_SHOWN_TABLES]:
        name, content = show_name(each.key), format_content(each.rows, each.inserts)
        if not each.exists:
            lines.append(f"  Will be created: {name} ({content} in the dump).")
            continue
        now = "an unknown number of rows" if each.now is None else format_count(each.now, "row")
        what = f"the rows of {name}" if plan.data_only else f"{name}, its definition and its rows"
        lines.append(f"  Will be replaced: {what} ({now} now, {content} in the dump).")
    if (more := len(plan.tables) - _SHOWN_TABLES) > 0:
        lines.append(f"  Will be replaced: {format_count(more, 'more table')}.")
    return lines


def _replaced(found: Sequence[ExistingObject]) -> list[str]:
    return [f"  Will be replaced: {_names(found)}."] if found else []


def _names(found: Sequence[ExistingObject], now: str = "") -> str:
    """Return the first objects with their rows, and the number of the others.

    :param now: A word after the numbers of rows.
    """
    shown = [f"{each.name} ({_rows(each.rows)}{now})" if each.rows else each.name for each in found[:_SHOWN_EXISTING]]
    more = found[_SHOWN_EXISTING:]
    rows = sum(each.rows or 0 for each in more)
    rest = f" and {len(more):,} more" + (f" ({_rows(rows)}{now})" if rows else "") if more else ""
    return ", ".join(shown) + rest


def _rows(count: int) -> str:
    return f"about {format_count(count, 'row')}"


def _kept(kept: Sequence[str], added: str = "") -> str:
    """Return what is kept.

    :param added: What the dump adds to it, as a sentence.
    """
    others = f", and the schemas {format_list(kept)}" if kept else ""
    return f"  Will be kept: the schemas themselves with their owners and grants, extensions{others}.{added}"


def _changed(plan: RestorePlan) -> list[str]:
    """Return what else the dump changes, statement by statement."""
    from ..dumpformat.manifest import TouchKind

    replaced = {each.name for each in plan.replaced}
    # Replaced objects are listed above, unless DROP … CASCADE drops others with them.
    found = [
        each
        for each in plan.changed
        if not (each.touch.kind is TouchKind.DEFINITION and each.label in replaced and not each.cascades)
    ]
    lines = [f"  Will be changed: {_impact(each)}." for each in found[:_SHOWN_IMPACTS]]
    if len(found) > _SHOWN_IMPACTS:
        lines.append(f"  Will be changed: {len(found) - _SHOWN_IMPACTS:,} more.")
    return lines


def _impact(each: Impact) -> str:
    rows = f" ({_rows(each.rows)})" if each.rows else ""
    more = " and everything that depends on it" if each.cascades and each.name else ""
    return f"{each.label}{rows}{more}: {each.touch.how} on line {each.touch.line:,}"


def _undoes_later(plan: RestorePlan) -> list[str]:
    """Return a warning that an undo with a safety dump also undoes later changes of tables that were not restored."""
    manifest = plan.dump.manifest
    when = parse_instant(manifest.created) if plan.request.replaces_all and manifest is not None else None
    if when is None or not plan.destroys:
        return []
    since = f"since {when:%Y-%m-%d %H:%M:%S} UTC"
    return [f"  WARNING: everything that was written {since} is undone, too, in every table of the database."]


def _safety(plan: RestorePlan | ResetPlan | MigrationPlan) -> list[str]:
    """Return whether a safety dump is made, and how to restore it."""
    if plan.makes_safety_dump:
        return [
            f"  A safety dump{_of_more(plan)} is made first; `{plan.undo_command}` restores it.",
            *_reload_risk(plan),
        ]
    if plan.destroys:
        return [f"  No safety dump: `{plan.settings.command('db.undo')}` will not be possible."]
    return ["  No safety dump: no data will be lost."]


def _of_more(plan: RestorePlan | ResetPlan | MigrationPlan) -> str:
    """Return that a safety dump holds more than the plan changes; empty if the difference does not matter."""
    return " of the whole database" if getattr(plan, "tables", None) is not None else ""


def _reload_risk(plan: RestorePlan | ResetPlan | MigrationPlan) -> list[str]:
    """Return why the safety dump may not load, and whether it is loaded as a trial."""
    if not plan.reload_doubt:
        return []
    if plan.tries_undo:
        return [f"  It is loaded once and rolled back, which locks the tables, because {plan.reload_doubt}."]
    return [f"  WARNING: it may not load, because {plan.reload_doubt}. `inv db.rehearse` tests a dump."]


def _empty_again(plan: RestorePlan) -> list[str]:
    """Return the command that empties the database again, after an undo into an empty one."""
    if plan.destroys or not plan.request.replaces_all:
        return []
    names = plan.dump.outline.schemas
    flags = [f"--schema={name}" for name in names] if names != ("public",) else []
    what = f"the empty schema{'s' * (len(names) > 1)}"
    return [f"  To go back to {what}: `{plan.settings.command('db.reset', *flags)}`."]


def _price(plan: RestorePlan) -> list[str]:
    if not (plan.request.clean and plan.destroys):
        return []
    extra = format_size(3 * plan.dump.content.size)
    return [f"  These tables are locked until the restore ends. It needs about {extra} of extra disk space meanwhile."]


def no_swap_lines(plan: RestorePlan) -> list[str]:
    """Return why the restore is one transaction although a swap was asked for."""
    reason = plan.method.reason
    return [f"  In one transaction, because a swap is not possible: {reason}."] if reason is not None else []


def _swap(plan: RestorePlan) -> list[str]:
    """Return how the content is replaced by a swap, and what it costs."""
    from ..safety.method import Method, space_needed

    choice, name, size = plan.method, plan.endpoint.database, format_size(space_needed(plan.dump.content.size))
    proven = "counted" if plan.dump.manifest is None else "verified"
    done = f"loaded, {proven} and migrated" if plan.request.migrate else f"loaded and {proven}"
    instead = (
        "" if plan.request.method is Method.SWAP else " If the server refuses this, it is done in one transaction."
    )
    older = [f"{each.database} ({format_size(each.size)})" for each in choice.kept]
    others = format_list([f"the old one ({format_size(choice.size)})", *older], separator=" and ")
    return [
        f"  By swap: the dump is {done} in a new database, which then takes the name {name}.{instead}",
        "  The tables are not locked meanwhile.",
        _rows_meanwhile(plan, "after the restore has begun"),
        f"  The new database needs about {size} of disk space, in addition to {others}.",
        *_cut_off(plan),
        _old_database(plan),
        *_older_databases(plan),
        *(f"  Will be deleted: {each.database}, which waits for a restore to be finished." for each in choice.waiting),
    ]


def _rows_meanwhile(plan: RestorePlan | FinishPlan, when: str) -> str:
    """Return what becomes of rows that are written before the swap."""
    kept = f"remain in the old database, kept as {plan.endpoint.database}__before_…"
    return f"  Rows written {when} {kept if plan.keeps_old else 'are lost with the old database'}."


def _cut_off(plan: RestorePlan | FinishPlan) -> list[str]:
    """Return how long the application can't use the database, and which sessions are ended."""
    from ..safety.method import describe_sessions

    choice, line = plan.method, "  The application is cut off at the end, usually for less than 0.2 s"
    if not choice.sessions:
        return [f"{line}."]
    found = describe_sessions(choice.sessions)
    if choice.ends_sessions:
        return [f"{line}: {found} will be ended."]
    return [f"{line}.", f"  It needs --disconnect, or a yes at a terminal, to end {found}."]


def _old_database(plan: RestorePlan | FinishPlan) -> str:
    if plan.keeps_old:
        return f"  The old database is kept; `{plan.undo_command}` swaps it back in."
    return f"  The old database is dropped: `{plan.settings.command('db.undo')}` will not be possible."


def _older_databases(plan: RestorePlan) -> list[str]:
    """Return which databases of earlier swaps are dropped after this one, because enough newer ones are kept."""
    kept, limit = plan.method.kept, plan.settings.kept_databases
    surplus = kept[: max(len(kept) + 1 - limit, 0)] if plan.keeps_old else ()
    before = ", if needed after a safety dump of it" if plan.settings.safety_dumps else ""
    return [f"  Will be dropped after the swap: {each.database}{before}." for each in surplus]


def place_lines(reason: str, doubt: str = "") -> list[str]:
    """Return why a database does not count as local, and why the dump may be of another one, as lines."""
    local = [f"  This is not a local database: {reason}."] if reason else []
    return [*local, f"  {doubt}."] if doubt else local
