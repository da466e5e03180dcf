"""Show a person what will be deleted or changed, and ask for consent."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ..formatting import format_content, format_count, format_list, format_names, format_size, show_name
from .terminal import ask, open_console, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..postgres.schemas import Content
    from ..prisma.guarded_migrate import MigrationPlan
    from ..restore.plan import RestorePlan
    from ..restore.reset import ResetPlan
    from ..restore.table_restore import TablesPlan
    from ..safety.impact import ExistingObject, Impact


WAIT_SECONDS = 3
_SHOWN_IMPACTS = 8
_SHOWN_EXISTING = 5
_SHOWN_TABLES = 8
# What people call it, where that is another word than SQL's.
_PLURALS = {"index": "indexes", "operator class": "operator classes", "operator family": "operator families"}
_WORDS = {"statistics": "statistics object"}


def confirm(lines: Sequence[str], *, yes: bool, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show what is about to be destroyed, and leave three seconds to press Ctrl-C.

    :param yes: Show it, and don't wait.
    """
    console = open_console(stderr=True)
    for line in lines:
        say(console, line, "yellow")
    if yes:
        return
    if not console.is_terminal:
        console.print(f"Press Ctrl-C to stop it. Beginning in {WAIT_SECONDS} seconds …", style="yellow")
        sleep(WAIT_SECONDS)
        return
    console.print("Press Ctrl-C to stop it. Beginning in ", style="yellow", end="")
    for left in range(WAIT_SECONDS, 0, -1):
        console.print(f"{left}… ", style="yellow", end="")
        sleep(1)
    console.print("")


def confirm_restore(plan: RestorePlan, *, yes: bool, name: str) -> RestorePlan:
    """Say what a restore will do, where it destroys or is only tried; ask once where consent is needed; wait.

    :param name: The value of `--confirm`.
    :return: The plan, with consent to load what others wrote.
    """
    if plan.destroys or plan.settings.dry or plan.doubt or plan.request.replaces_all:
        confirm(restore_warning(plan), yes=True)
    elif plan.other_database:
        confirm(_other_database(plan), yes=True)
    other = plan.other_database if plan.destroys else ""
    _ask_consent(plan, yes=yes, name=name, doubt=plan.doubt, risk=plan.risk, other=other)
    return replace(plan, risk="")


def confirm_reset(plan: ResetPlan, *, yes: bool, name: str) -> None:
    """Say what a reset will do, ask for the name where it is to be given, and wait."""
    confirm(reset_warning(plan), yes=True)
    _ask_consent(plan, yes=yes, name=name)


def confirm_migration(plan: MigrationPlan, *, yes: bool, name: str) -> None:
    """Say which migrations will be applied, ask for the name where it is to be given, and wait."""
    confirm(migration_warning(plan), yes=True)
    _ask_consent(plan, yes=yes, name=name)


def _ask_consent(
    plan: RestorePlan | ResetPlan | MigrationPlan,
    *,
    yes: bool,
    name: str,
    doubt: str = "",
    risk: str = "",
    other: str = "",
) -> None:
    """Ask at most one question: for the database's name, which also answers what is less, or for a yes."""
    from ..safety.guard import require_certain_database, require_confirmation, require_named_database
    from ..safety.trust import TRUST_QUESTION, require_trust

    if plan.settings.dry:
        warning = [f"Warning: {risk}"] if risk else []
        confirm([*warning, "Only tried (--dry): nothing was touched."], yes=True)
        return
    if plan.endpoint is None:
        # A database that does not exist yet holds nothing.
        return
    asks_name = bool(plan.nonlocal_reason or doubt or other) and not name
    before = f"{risk}\n" if risk else ""
    asked = ask(f"{before}Type the name of the database to go on ({plan.endpoint.database}): ") if asks_name else None
    require_confirmation(plan.target.label, plan.endpoint, plan.nonlocal_reason, name, asked)
    require_certain_database(plan.endpoint, doubt, name, asked)
    require_named_database(plan.target.label, plan.endpoint, other, name, asked)
    if risk and asked is None:
        require_trust(risk, ask(f"{before}{TRUST_QUESTION}"))
    # A person who has just answered has thought about it.
    confirm([], yes=yes or bool(risk) or asks_name or not plan.destroys)


def restore_warning(plan: RestorePlan) -> list[str]:
    """Say what a restore deletes, replaces, changes and keeps, and what it costs."""
    return [
        *_source(plan),
        *_deleted(plan),
        *_changed(plan),
        *_safety(plan),
        *_empty_again(plan),
        *_price(plan),
        *_where(plan.nonlocal_reason, plan.doubt),
    ]


def reset_warning(plan: ResetPlan) -> list[str]:
    """Say what a reset deletes and keeps."""
    label, names = plan.target.label, format_list(plan.emptied)
    if not plan.destroys:
        return [f"{label}: {names} {'is' if len(plan.emptied) == 1 else 'are'} empty already."]
    return [
        f"{label}: emptying schemas.",
        f"  Will be deleted: everything in {names} ({describe_content(plan.removed)}).",
        _kept(plan.kept),
        *_safety(plan),
        *_where(plan.nonlocal_reason),
    ]


def migration_warning(plan: MigrationPlan) -> list[str]:
    """Say which migrations will be applied, and whether there will be a way back."""
    label, forecast = plan.target.label, plan.forecast
    if not plan.applies:
        return []
    what = "the migrations that the project's own command finds pending"
    names = f"{format_list(forecast.pending)}" if forecast is not None else what
    return [
        f"{label}: applying migrations.",
        f"  Will be applied: {names}.",
        *_safety(plan),
        *_where(plan.nonlocal_reason),
    ]


def describe_content(content: Content) -> str:
    """Write how many objects of each kind schemas hold, and how many rows and bytes are in the tables."""
    kinds = [_count_kind(kind, count) for kind, count in content.objects]
    rows = f"; about {format_count(content.rows, 'row')}, {format_size(content.bytes)}" if content.tables else ""
    return ", ".join(kinds) + rows


def _count_kind(kind: str, count: int) -> str:
    word = _WORDS.get(kind, kind)
    return format_count(count, word, _PLURALS.get(word, ""))


def _source(plan: RestorePlan) -> list[str]:
    """Name the dump and where it comes from."""
    from ..dumpfiles.origin import describe_part

    dump, manifest = plan.dump, plan.dump.manifest
    what = f"{plan.tables.names} of " if plan.tables is not None else ""
    content = format_content(dump.rows, dump.inserts)
    lines = [f"{plan.target.label}: restoring {what}{dump.path.name} ({content})."]
    if manifest is not None:
        note = f": {manifest.note}" if manifest.note else ""
        source = manifest.source.get("database")
        lines.append(f"  Made {manifest.created} of {source} at {manifest.source.get('host')}{note}")
        lines += _other_database(plan)
        if plan.tables is not None:
            return lines
        if part := describe_part(manifest):
            lines.append(f"  It holds a part of the database: {part}.")
        if manifest.excluded_data:
            lines.append(f"  It lacks the rows of {format_names(manifest.excluded_data)}: these tables will be empty.")
    return lines


def _other_database(plan: RestorePlan) -> list[str]:
    """Warn of the dump of another database."""
    if not plan.other_database:
        return []
    return [f"  WARNING: this dump was made from {plan.other_database}, and you are restoring it into {plan.endpoint}."]


def _deleted(plan: RestorePlan) -> list[str]:
    """Say what will be deleted or replaced, and what will be kept."""
    if plan.tables is not None:
        return [*_replaced_tables(plan.tables), "  Will be kept: everything else; foreign keys are checked at the end."]
    if plan.request.clean and plan.removed.is_empty and not plan.objects_outside:
        nothing = "  Will be deleted: nothing. The schemas of the dump are empty, or do not exist yet."
        return [nothing, *_replaced(plan.replaced)]
    what = describe_content(plan.removed)
    if plan.request.replaces_all:
        where = f"everything in the database, the schemas {format_list(plan.emptied)}"
        return [f"  Will be deleted: {where} ({what or 'which are empty'}). It will be as the dump holds it."]
    if plan.request.clean:
        lines = [f"  Will be deleted: everything in {format_list(plan.emptied)} ({what}).", _kept(plan.kept)]
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
        lines.append(f"  Exist already, and the dump does not drop them first: {_names(kept)}.")
    return [*lines, "  Will be kept: everything else."] if lines else []


def _replaced_tables(plan: TablesPlan) -> list[str]:
    """Say of each table what it holds now, and what the dump holds."""
    lines = []
    for each in plan.tables[:_SHOWN_TABLES]:
        name, brings = show_name(each.key), format_content(each.rows, each.inserts)
        if not each.exists:
            lines.append(f"  Will be created: {name} ({brings} in the dump).")
            continue
        now = "rows that are not counted" if each.now is None else format_count(each.now, "row")
        what = f"the rows of {name}" if plan.data_only else f"{name}, its definition and its rows"
        lines.append(f"  Will be replaced: {what} ({now} now, {brings} in the dump).")
    if more := len(plan.tables) - _SHOWN_TABLES:
        lines += [f"  Will be replaced: {format_count(more, 'more table')}."] if more > 0 else []
    return lines


def _replaced(found: Sequence[ExistingObject]) -> list[str]:
    return [f"  Will be replaced: {_names(found)}."] if found else []


def _names(found: Sequence[ExistingObject]) -> str:
    shown = [f"{each.name} ({_rows(each.rows)})" if each.rows else each.name for each in found[:_SHOWN_EXISTING]]
    more = found[_SHOWN_EXISTING:]
    rows = sum(each.rows or 0 for each in more)
    rest = f" and {len(more):,} more" + (f" ({_rows(rows)})" if rows else "") if more else ""
    return ", ".join(shown) + rest


def _rows(count: int) -> str:
    return f"about {format_count(count, 'row')}"


def _kept(kept: Sequence[str]) -> str:
    others = f", and the schemas {format_list(kept)}" if kept else ""
    return f"  Will be kept: the schemas themselves, their owners and grants, extensions{others}."


def _changed(plan: RestorePlan) -> list[str]:
    """Say what the dump changes beside that, statement by statement."""
    from ..dumpformat.manifest import TouchKind

    replaced = {each.name for each in plan.replaced}
    # What is dropped and created again is named above, unless other objects are dropped with it.
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


def _safety(plan: RestorePlan | ResetPlan | MigrationPlan) -> list[str]:
    """Say whether there will be a way back."""
    if plan.makes_safety_dump:
        return [f"  A safety dump is made first; `{plan.undo_command}` restores it.", *_reload_risk(plan)]
    if plan.destroys:
        return [f"  No safety dump: `{plan.settings.command('db.undo')}` will not be possible."]
    return ["  No safety dump: there is nothing to save."]


def _reload_risk(plan: RestorePlan | ResetPlan | MigrationPlan) -> list[str]:
    """Say why the safety dump may not load, and what is done about it."""
    if not plan.reload_doubt:
        return []
    if plan.tries_undo:
        return [f"  It is first loaded once, which locks the tables, and rolled back: {plan.reload_doubt}."]
    return [f"  WARNING: it may not load, and is not tried: {plan.reload_doubt}. `inv db.rehearse` tries a dump."]


def _empty_again(plan: RestorePlan) -> list[str]:
    """Say of an undo into an empty database how to go back to that."""
    if plan.destroys or not plan.request.replaces_all:
        return []
    names = plan.dump.outline.schemas
    flags = [f"--schema={name}" for name in names] if names != ("public",) else []
    return [f"  `{plan.settings.command('db.reset', *flags)}` empties it again."]


def _price(plan: RestorePlan) -> list[str]:
    if not (plan.request.clean and plan.destroys):
        return []
    extra = format_size(3 * plan.dump.content.size)
    return [
        f"  These tables are locked until the restore ends. It needs about {extra} of extra disk space meanwhile.",
    ]


def _where(reason: str, doubt: str = "") -> list[str]:
    local = [f"  This is not a local database: {reason}."] if reason else []
    return [*local, f"  {doubt}."] if doubt else local
