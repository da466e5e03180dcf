"""What a person is told before anything is destroyed, and how they agree to it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..formatting import format_content, format_count, format_list, format_size
from .terminal import ask, open_console, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..postgres.schemas import Content
    from ..restore.plan import RestorePlan
    from ..restore.reset import ResetPlan
    from ..safety.impact import Impact


WAIT_SECONDS = 3
_SHOWN_IMPACTS = 8


def confirm(lines: Sequence[str], *, yes: bool, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show what is about to be destroyed, and leave three seconds to press Ctrl-C.

    :param yes: Show it, and don't wait.
    """
    console = open_console(stderr=True)
    for line in lines:
        say(console, line, "yellow")
    if yes:
        return
    console.print(f"Press Ctrl-C to stop it. Beginning in {WAIT_SECONDS} seconds …", style="yellow")
    for _ in range(WAIT_SECONDS):
        sleep(1)


def confirm_restore(plan: RestorePlan, *, yes: bool, name: str) -> None:
    """Say what a restore will do, where it destroys or is only tried; ask for the name where it is to be given; wait.

    :param name: The value of `--confirm`.
    """
    dry = plan.settings.dry
    if plan.destroys or plan.far or dry:
        _confirm_all(plan, restore_warning(plan), yes=yes or not plan.destroys, name=name, doubt=plan.doubt)


def confirm_reset(plan: ResetPlan, *, yes: bool, name: str) -> None:
    """Say what a reset will do, ask for the name where it is to be given, and wait."""
    _confirm_all(plan, reset_warning(plan), yes=yes, name=name)


def _confirm_all(plan: RestorePlan | ResetPlan, lines: Sequence[str], *, yes: bool, name: str, doubt: str = "") -> None:
    from ..safety.guard import require_certain_database, require_confirmation

    dry = plan.settings.dry
    if plan.far:
        lines = [*lines, f"  This is not a local database: {plan.far}."]
    if doubt:
        lines = [*lines, f"  {doubt}."]
    confirm(lines, yes=True)
    asks = bool(plan.far or doubt) and not name
    if not dry:
        asked = _asked(f"Type the name of the database to go on ({plan.place.database}): ", asks)
        require_confirmation(plan.target.label, plan.place, plan.far, name, asked)
        require_certain_database(plan.place, doubt, name, asked)
    else:
        confirm(["Only tried (--dry): nothing was touched."], yes=True)
    # Who has just typed the name has thought about it.
    confirm([], yes=yes or dry or asks)


def _asked(question: str, wanted: object) -> str | None:
    """Ask a person; None where nobody is there, or nothing is to be asked."""
    return ask(question) if wanted else None


def restore_warning(plan: RestorePlan) -> list[str]:
    """Say what a restore takes away, what it leaves, and what it costs."""
    from ..dumpfiles.origin import is_of_database

    dump, manifest = plan.dump, plan.dump.manifest
    lines = [f"{plan.target.label}: restoring {dump.path.name} ({format_content(dump.rows, dump.inserts)})."]
    if manifest is not None:
        note = f": {manifest.note}" if manifest.note else ""
        lines.append(
            f"  Made {manifest.created} of {manifest.source.get('database')} at {manifest.source.get('host')}{note}"
        )
        if not is_of_database(manifest, plan.server, plan.place.host, plan.place.port):
            lines.append("  That is another database than the one that it goes into.")
        if manifest.excluded_data:
            lines.append(f"  It lacks the rows of {format_list(manifest.excluded_data)}: these tables will be empty.")
    changed = [f"  Will be changed: {_impact(each)}." for each in plan.changed[:_SHOWN_IMPACTS]]
    if len(plan.changed) > _SHOWN_IMPACTS:
        changed.append(f"  Will be changed: {len(plan.changed) - _SHOWN_IMPACTS:,} more.")
    if not plan.request.clean:
        saves = _saves(plan.saves, plan.settings.backup)
        return [*lines, *_replaced(plan), *changed, *saves]
    price = (
        "The application stands still on these tables until the end. Meanwhile the disk holds the old rows, the new "
        f"ones and their log: about {format_size(3 * dump.content.size)} more for now."
    )
    return [
        *lines,
        *_goes(plan.emptied, plan.stays, plan.goes, whole=plan.request.whole),
        *changed,
        *_saves(plan.saves, plan.settings.backup),
        price,
    ]


def reset_warning(plan: ResetPlan) -> list[str]:
    """Say what a reset takes away and what it leaves."""
    goes = _goes(plan.emptied, plan.stays, plan.goes)
    return [f"{plan.target.label}: emptying schemas.", *goes, *_saves(plan.saves, plan.settings.backup)]


def _replaced(plan: RestorePlan) -> list[str]:
    """Say what a restore without --clean may replace."""
    if not plan.goes.tables and plan.replaces:
        where = f" in {format_list(plan.met)}" if plan.met else ""
        return [f"  Will be replaced: what the dump drops or creates{where}.", "  Will be kept: everything else."]
    if not plan.goes.tables:
        return ["  Objects that the dump holds are replaced, all others stay."]
    tables, rows = format_count(plan.goes.tables, "table"), format_count(plan.goes.rows, "row")
    what = f"{tables}, about {rows}, {format_size(plan.goes.bytes)}"
    return [
        f"  Will be replaced: what the dump drops or creates in {format_list(plan.met)} ({what}).",
        "  Will be kept: everything else.",
    ]


def _impact(each: Impact) -> str:
    rows = f" (about {format_count(each.rows, 'row')})" if each.rows else ""
    return f"{each.label}{rows}: {each.touch.how} on line {each.touch.line:,}"


def _saves(saves: bool, kept: int) -> list[str]:
    if not saves:
        return []
    many = f"{format_count(kept, 'safety dump')} {'is' if kept == 1 else 'are'} kept"
    return [f"  First all of it is dumped, for `inv db.undo` ({many}; --no-backup makes none)."]


def _goes(emptied: Sequence[str], stays: Sequence[str], goes: Content, *, whole: bool = False) -> list[str]:
    what = f"{format_count(goes.tables, 'table')}, about {format_count(goes.rows, 'row')}, {format_size(goes.bytes)}"
    others = f", and {format_list(stays)}" if stays else ""
    if whole:
        return [f"  Goes: the whole database, which then is as it was: {format_list(emptied)}: {what}."]
    return [
        f"  Goes: all in {format_list(emptied) or 'nothing'}: {what}.",
        f"  Stays: the schemas themselves with owner and grants, extensions, publications{others}.",
    ]
