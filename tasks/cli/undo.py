"""The task `db.undo`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..formatting import format_count, format_list, format_seconds, format_size
from .confirm import confirm_swap_undo
from .documents import print_json, swap_undone_document
from .restores import carry_out
from .task import CONFIRM, DISCONNECT, JSON, NO_BACKUP, TRUST, URL_ENV, YES, given, load, task
from .terminal import ask, print_line, reporting

if TYPE_CHECKING:
    from invoke.context import Context

    from ..restore.restore import Restored
    from ..safety.swap_undo import SwapUndone, SwapUndoPlan

_SHOWN_SESSIONS = 5


@task(
    help={
        "to": "the id of the state to restore, or its first four characters or more (db.undos); by default the newest",
        "yes": YES,
        "confirm": CONFIRM,
        "disconnect": DISCONNECT,
        "no_backup": NO_BACKUP,
        "trust": TRUST,
        "json": JSON,
        "url_env": URL_ENV,
    }
)
def undo(
    ctx: Context,
    to: str | None = None,
    yes: bool = False,
    confirm: str | None = None,
    disconnect: bool = False,
    no_backup: bool = False,
    trust: bool = False,
    json: bool = False,
    url_env: str | None = None,
) -> Restored | SwapUndone | None:
    """Restore the state before the last restore, reset, migration or undo that changed the database."""
    from ..restore.undo import plan_undo
    from ..safety.swap_undo import SwapUndoPlan

    loaded = load(ctx, url_env, as_json=json)
    choices = {"disconnect": disconnect or loaded.disconnect, "trust": trust, "backup": not no_backup}
    with reporting(loaded) as report:
        plan = plan_undo(loaded, report, to=given("--to", to), **choices)
    if isinstance(plan, SwapUndoPlan):
        return _swap(plan, yes=yes, name=given("--confirm", confirm))
    return carry_out(plan, yes=yes, name=given("--confirm", confirm))


def _swap(plan: SwapUndoPlan, *, yes: bool, name: str) -> SwapUndone | None:
    from ..safety.swap_undo import undo_by_swap

    confirm_swap_undo(plan, undo_warning(plan), yes=yes, name=name)
    undone = None
    if not plan.settings.dry:
        plan = _ask_about_sessions(plan)
        plan.refuse_sessions()
        with reporting(plan.settings) as report:
            undone = undo_by_swap(plan, report)
    show_swap_undone(undone, as_json=plan.settings.as_json)
    return undone


def _ask_about_sessions(plan: SwapUndoPlan) -> SwapUndoPlan:
    """Ask at a terminal whether the other sessions may be ended."""
    if not plan.live.sessions or plan.ends_sessions:
        return plan
    count = format_count(len(plan.live.sessions), "session")
    answer = ask(f"End {count} of {plan.target.label} ({_sessions(plan)})? [y/N] ") or ""
    return replace(plan, ends_sessions=answer.lower() in {"y", "yes"})


def _sessions(plan: SwapUndoPlan) -> str:
    return format_list(plan.live.sessions, _SHOWN_SESSIONS, "; ")


def undo_warning(plan: SwapUndoPlan) -> list[str]:
    """Return what an undo by a swap puts back, what it loses, and which sessions it ends, as lines."""
    record, label, live = plan.incoming.record, plan.target.label, plan.live
    size = format_size(live.size)
    lines = [
        f"{label}: undoing `{record.command}` of {record.when:%Y-%m-%d %H:%M:%S} UTC.",
        f"  Will take its place: {record.database}, kept since then ({format_size(record.size)}). Nothing is loaded.",
    ]
    if plan.backup:
        lines.append(
            f"  Will be kept under another name: the present database ({size}), with everything that was written "
            f"since; another `{plan.settings.command('db.undo')}` puts it back."
        )
    else:
        lines.append(f"  Will be deleted: the present database ({size}), with everything that was written since.")
    if live.sessions:
        how = "Will be ended" if plan.ends_sessions else "Must end first (--disconnect ends them)"
        lines.append(f"  {how}: {format_count(len(live.sessions), 'session')}: {_sessions(plan)}.")
    return lines


def show_swap_undone(undone: SwapUndone | None, *, as_json: bool) -> None:
    """Print a committed undo by a swap; print nothing for a dry run or with `output: quiet`."""
    if as_json:
        print_json(swap_undone_document(undone))
        return
    if undone is None or undone.plan.settings.output.value == "quiet":
        return
    plan, record = undone.plan, undone.restored
    ended = f"; {format_count(undone.ended, 'session')} ended" if undone.ended else ""
    print_line(
        f"{plan.target.label} is as it was at {record.when:%Y-%m-%d %H:%M:%S} UTC, before `{record.command}`: the "
        f"kept database {record.database} took its place in {format_seconds(undone.seconds)}{ended}"
    )
    if undone.kept is not None:
        print_line(
            f"  kept: {undone.kept.database}, {format_size(undone.kept.size)}, with everything that was written since; "
            f"`{plan.settings.command('db.undo')}` puts it back"
        )
