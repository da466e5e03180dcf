"""Show a person what will be deleted or changed, and ask for consent."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from ..output.preview import no_swap_lines, other_database_lines, place_lines, restore_warning, transaction_lines
from .terminal import ask, open_console, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..prisma.guarded_migrate import MigrationPlan
    from ..restore.plan import RestorePlan
    from ..restore.reset import ResetPlan
    from ..safety.kept_databases import KeptDeletion
    from ..safety.swap_undo import SwapUndoPlan
    from ..staging.finish import FinishPlan

    _Plan = TypeVar("_Plan", FinishPlan, ResetPlan, MigrationPlan, SwapUndoPlan, KeptDeletion)
    Plan = FinishPlan | ResetPlan | MigrationPlan | SwapUndoPlan | KeptDeletion

WAIT_SECONDS = 3


def confirm(lines: Sequence[str], *, yes: bool, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show what will be deleted or changed, and wait three seconds for Ctrl-C.

    :param yes: Do not wait.
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


def confirm_restore(
    plan: RestorePlan, *, yes: bool, name: str, ask_more: Callable[[RestorePlan], RestorePlan]
) -> RestorePlan:
    """Show what a restore will do if it deletes data or is a dry run, ask for consent if needed, and wait.

    :param yes: Do not wait.
    :param name: The value of `--confirm`.
    :param ask_more: Asks what else is to be known after the preview, and returns the plan with it.
    :return: The plan without its risk, because the user has accepted it.
    """
    if plan.destroys or plan.settings.dry or plan.doubt or plan.request.replaces_all:
        confirm(restore_warning(plan), yes=True)
    else:
        confirm([*other_database_lines(plan), *no_swap_lines(plan)], yes=True)
    settled = plan if plan.settings.dry else ask_more(plan)
    if plan.method.swaps and not settled.method.swaps:
        confirm(transaction_lines(settled), yes=True)
    plan = settled
    other = plan.other_database if plan.destroys else ""
    _ask_consent(plan, yes=yes, name=name, doubt=plan.doubt, risk=plan.risk, other=other)
    return replace(plan, risk="")


def confirm_plan(
    plan: _Plan,
    lines: Sequence[str],
    *,
    yes: bool,
    name: str,
    doubt: str = "",
    ask_more: Callable[[_Plan], _Plan] | None = None,
) -> _Plan:
    """Show what will be done, ask for the database's name if needed, and wait.

    :param doubt: Why the database may be another one.
    :param ask_more: As for :func:`confirm_restore`.
    :return: The settled plan.
    """
    confirm([*lines, *place_lines(plan.nonlocal_reason, doubt)], yes=True)
    if ask_more is not None and not plan.settings.dry:
        plan = ask_more(plan)
    _ask_consent(plan, yes=yes, name=name, doubt=doubt)
    return plan


def _ask_consent(
    plan: Plan | RestorePlan, *, yes: bool, name: str, doubt: str = "", risk: str = "", other: str = ""
) -> None:
    """Ask at most one question: for the database's name, which also accepts the risk, or else for a yes."""
    from ..safety.guard import require_confirmation
    from ..safety.trust import TRUST_QUESTION, require_trust

    if plan.settings.dry:
        warning = [f"Warning: {risk}"] if risk else []
        confirm([*warning, "Dry run (--dry): nothing was touched."], yes=True)
        return
    if plan.endpoint is None:
        # The database does not exist yet.
        return
    asks_name = bool(plan.nonlocal_reason or doubt or other) and not name
    before = f"{risk}\n" if risk else ""
    question = f"{before}Type the name of the database to continue ({plan.endpoint.database}): "
    typed = ask(question) if asks_name else None
    label, reason = plan.target.label, plan.nonlocal_reason
    require_confirmation(label, plan.endpoint, reason, name, typed, doubt=doubt, source=other)
    if risk and typed is None:
        require_trust(risk, ask(f"{before}{TRUST_QUESTION}"))
    # After an answer, waiting is not needed.
    confirm([], yes=yes or bool(risk) or asks_name or not plan.destroys)
