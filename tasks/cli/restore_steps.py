"""The steps of the tasks that restore: plan, ask, carry out, print."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ..formatting import format_count
from ..output.preview import finish_warning
from ..output.restore_documents import finished_document, restored_document, swap_undone_document
from .confirm import confirm_plan, confirm_restore
from .output_restores import (
    format_sessions,
    show_finished,
    show_restored,
    show_swap_undone,
    undo_warning,
)
from .task import all_given, given, load, refuse_flags
from .terminal import ask, can_ask, print_json, reporting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from invoke.context import Context

    from ..config.settings import Settings
    from ..progress import Report
    from ..restore.plan import RestorePlan
    from ..restore.request import RestoreRequest
    from ..restore.restore import Restored
    from ..safety.swap_undo import SwapUndone, SwapUndoPlan
    from ..scratch.restore_into import NewDatabase
    from ..staging.finish import Finished, FinishPlan


_Done = TypeVar("_Done")
_CONTRADICTIONS = {
    "into": ("table", "data_only", "create", "clean", "method", "disconnect", "no_backup"),
    "create": ("table", "data_only"),
}


# Those that --finish takes; the others say what to restore and how.
_OF_FINISH = frozenset({"finish", "disconnect", "no_backup", "yes", "confirm", "json", "jobs", "url_env"})


def run_restore(ctx: Context, **flags: Any) -> Restored | Finished | None:
    """Restore as the flags of `db.restore` say.

    :param flags: All of them by name, each with its value.
    :raises TaskError: Flags contradict each other, or the restore failed.
    """
    from ..restore.plan import plan_restore
    from ..restore.with_migration import plan_restore_and_migration
    from ..scratch.restore_into import NewDatabase

    settings = load(ctx, flags["url_env"], as_json=flags["json"], jobs=flags["jobs"])
    _refuse_contradictions(flags)
    consent: dict[str, Any] = {"yes": flags["yes"], "name": given("--confirm", flags["confirm"])}
    if flags["finish"]:
        ends_sessions = flags["disconnect"] or settings.disconnect
        return _finish(settings, backup=not flags["no_backup"], disconnect=ends_sessions, **consent)
    request = _read_request(settings, flags)
    if flags["into"] is not None or flags["create"]:
        found = _plan_new_database(settings, request, given("--into", flags["into"]), consent["name"])
        if isinstance(found, NewDatabase):
            return _restore_into_new(found)
        request = found
    make_plan = plan_restore_and_migration if request.migrate else plan_restore
    with reporting(settings) as report:
        plan = make_plan(settings, request, report)
    return carry_out_restore(plan, **consent)


def _read_request(settings: Settings, flags: Mapping[str, Any]) -> RestoreRequest:
    from ..restore.request import RestoreRequest
    from ..safety.method import chosen_method

    same = (
        "clean",
        "strict",
        "checksums",
        "migrate",
        "trust",
        "lenient",
        "create_roles",
        "data_only",
        "preserve_order",
    )
    return RestoreRequest(
        file=given("--file", flags["file"]),
        owners=not flags["no_owner"],
        privileges=not flags["no_acl"],
        backup=not flags["no_backup"],
        disconnect=flags["disconnect"] or settings.disconnect,
        skip_extensions=all_given("--skip-extension", flags["skip_extension"]),
        tables=all_given("--table", flags["table"]),
        method=chosen_method(settings, given("--method", flags["method"])),
        **{name: flags[name] for name in same},
    )


def _refuse_contradictions(flags: Mapping[str, Any]) -> None:
    """Raise if flags of a restore contradict each other.

    :param flags: The parameters of the task with their values.
    """
    if flags["finish"]:
        refuse_flags("finish", {name: value for name, value in flags.items() if name not in _OF_FINISH})
    for flag, names in _CONTRADICTIONS.items():
        if flags[flag] not in {None, False}:
            refuse_flags(flag, {name: flags[name] for name in names})


def _plan_new_database(
    settings: Settings, request: RestoreRequest, into: str, name: str
) -> NewDatabase | RestoreRequest:
    """Return the plan of a restore into a new database; the request of an ordinary restore if it exists already."""
    from ..scratch.restore_into import plan_creation, plan_restore_into

    with reporting(settings) as report:
        if into:
            return plan_restore_into(settings, request, into, report, confirm=name)
        return plan_creation(settings, request, report, confirm=name)


def _restore_into_new(plan: NewDatabase) -> Restored | None:
    """Restore into a new database, and print the result; do nothing in a dry run."""
    from ..scratch.restore_into import restore_into_new

    if plan.settings.dry:
        with reporting(plan.settings) as report:
            report.step(f"would restore {plan.dump.name} into the new database {plan.target.label}")
    return _restore(plan, lambda report: restore_into_new(plan, report))


def carry_out_restore(plan: RestorePlan, *, yes: bool, name: str) -> Restored | None:
    """Ask for consent, restore and print the result; in a dry run only show what would be done."""
    from ..staging.swap_restore import restore_by_method, settle_sessions

    if not (plan.settings.dry or can_ask()):
        # The preview then describes the method that is used.
        plan = settle_sessions(plan, None)
    plan = confirm_restore(plan, yes=yes, name=name, ask_more=_ask_about_sessions)
    return _restore(plan, lambda report: restore_by_method(plan, report))


def _ask_about_sessions(plan: RestorePlan) -> RestorePlan:
    """Return the plan after the question whether a swap may end the other sessions, if it is needed."""
    from ..safety.method import Method, needs_consent, sessions_question
    from ..staging.swap_restore import settle_sessions

    if not needs_consent(plan.method):
        return plan
    transaction = "restore in one transaction, which locks the tables / Ctrl-C: stop"
    otherwise = "stop" if plan.request.method is Method.SWAP else transaction
    return settle_sessions(plan, ask(sessions_question(plan.method, otherwise)))


def _restore(plan: RestorePlan | NewDatabase, restore: Callable[[Report], Restored]) -> Restored | None:
    restored = _carry_out(plan.settings, restore, restored_document, show_restored)
    if restored is not None:
        restored.refuse_differences(f"The restore into {plan.target.label} is committed")
    return restored


def _carry_out(
    settings: Settings,
    change: Callable[[Report], _Done],
    document: Callable[[_Done], Mapping[str, Any]],
    show: Callable[[_Done], None],
) -> _Done | None:
    """Make a change, print and return its result; in a dry run change nothing, and return None.

    :param document: Returns the result as JSON; not called after a dry run.
    :param show: Prints it for people; not called with `output: quiet`.
    """
    done = None
    if not settings.dry:
        with reporting(settings) as report:
            done = change(report)
    if settings.as_json:
        print_json({"restore": None} if done is None else document(done))
    elif done is not None and settings.output.value != "quiet":
        show(done)
    return done


def _finish(settings: Settings, *, backup: bool, disconnect: bool, yes: bool, name: str) -> Finished | None:
    """Ask for consent, finish a restore whose database waits, and print the result."""
    from ..safety.method import needs_consent, sessions_question
    from ..staging.finish import finish_restore, plan_finish, settle_finish

    def ask_more(plan: FinishPlan) -> FinishPlan:
        if not needs_consent(plan.method):
            return plan
        return settle_finish(plan, ask(sessions_question(plan.method, "stop")))

    with reporting(settings):
        plan = plan_finish(settings, backup=backup, disconnect=disconnect)
    plan = confirm_plan(plan, finish_warning(plan), yes=yes, name=name, ask_more=ask_more)
    finished = _carry_out(settings, lambda report: finish_restore(plan, report), finished_document, show_finished)
    if finished is not None:
        finished.refuse_differences()
    return finished


def carry_out_swap_undo(plan: SwapUndoPlan, *, yes: bool, name: str) -> SwapUndone | None:
    """Ask for consent, swap a kept database back in, and print the result."""
    from ..safety.swap_undo import undo_by_swap

    plan = confirm_plan(plan, undo_warning(plan), yes=yes, name=name, doubt=plan.doubt, ask_more=_settle_undo)
    return _carry_out(plan.settings, lambda report: undo_by_swap(plan, report), swap_undone_document, show_swap_undone)


def _settle_undo(plan: SwapUndoPlan) -> SwapUndoPlan:
    """Return the plan after the question whether the other sessions may be ended, if it is needed.

    :raises ServerError: The answer is no or missing. Nothing was touched.
    """
    if plan.sessions and not plan.ends_sessions:
        count = format_count(len(plan.sessions), "session")
        answer = ask(f"End {count} of {plan.target.label} ({format_sessions(plan)})? [y: end / n: stop] ") or ""
        plan = replace(plan, ends_sessions=answer.lower() in {"y", "yes"})
    plan.refuse_sessions()
    return plan
