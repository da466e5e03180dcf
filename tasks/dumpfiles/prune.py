"""Delete the dumps that the policy `db.keep` does not keep."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import BadInputError, OperationFailedError
from ..formatting import format_count, format_list, show_name
from ..system.runtime import Interruption, set_interrupt_message
from .catalog import list_catalog
from .deletion import delete_dump, doomed_dump, finish_deletions, is_in_use
from .paths import time_in_name
from .retention import StoredDump, Verdict, judge_dumps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..config.keep_policy import KeepPolicy
    from ..config.settings import Settings
    from ..progress import Report
    from .catalog import Listed
    from .deletion import DoomedDump


_IN_USE = Verdict(kept=True, reasons=("being compressed or expanded",))
_SAFETY = Verdict(kept=True, reasons=("safety dump",))


@dataclass(frozen=True)
class PrunePlan:
    """The dumps that a prune deletes and keeps.

    :ivar dumps: All dumps and safety dumps, oldest first.
    :ivar verdicts: The verdict by :attr:`Listed.name`.
    :ivar doomed: The dumps to delete, oldest first.
    """

    settings: Settings
    policy: KeepPolicy
    dumps: tuple[Listed, ...]
    verdicts: Mapping[str, Verdict]
    doomed: tuple[DoomedDump, ...]


def plan_prune(settings: Settings, *, now: datetime | None = None) -> PrunePlan | None:
    """Return which dumps a prune would delete; None if `db.keep` is not set. Changes nothing.

    :param now: The current time by default.
    """
    if settings.keep is None:
        return None
    found = list_catalog(settings)
    stored = [_stored(each) for each in found if not each.safety]
    verdicts = judge_dumps(stored, settings.keep, now or datetime.now(UTC))
    doomed = []
    for each in reversed(found):
        if each.safety:
            verdicts[each.name] = _SAFETY
        elif not verdicts[each.name].kept:
            if is_in_use(each.path):
                verdicts[each.name] = _IN_USE
            else:
                # It may be deleted meanwhile.
                with contextlib.suppress(BadInputError):
                    doomed.append(doomed_dump(each))
    return PrunePlan(
        settings=settings,
        policy=settings.keep,
        dumps=tuple(sorted(found, key=lambda each: (each.when, each.name))),
        verdicts=verdicts,
        doomed=tuple(doomed),
    )


def carry_out_prune(plan: PrunePlan, report: Report, *, now: datetime | None = None) -> tuple[Listed, ...]:
    """Delete the dumps of a plan that a new plan would delete, too; return the deleted ones.

    Skips dumps that were changed, pinned or deleted meanwhile, and dumps that the policy keeps now.

    :raises OperationFailedError: Some dumps could not be deleted. Its message names them.
    """
    finish_deletions(plan.settings)
    current = plan_prune(plan.settings, now=now)
    still = {(each.dump.name, each.signature) for each in current.doomed} if current else set()
    deleted: list[Listed] = []
    failed: list[str] = []
    try:
        for each in plan.doomed:
            if (each.dump.name, each.signature) not in still:
                report.warn(f"{each.dump.name} was kept: it has changed meanwhile, or the policy keeps it now.")
                continue
            try:
                if delete_dump(each):
                    deleted.append(each.dump)
            except OSError as error:
                failed.append(f"{each.dump.name} ({error.strerror})")
    except Interruption as interruption:
        # `deleted` lacks a dump that was being deleted when the signal came.
        interruption.state = _done([each.dump for each in plan.doomed if not each.dump.path.exists()])
        raise
    set_interrupt_message(_done(deleted))
    if failed:
        raise OperationFailedError(f"Some dumps could not be deleted: {format_list(failed)}. {_done(deleted)}")
    return tuple(deleted)


def _done(deleted: list[Listed]) -> str:
    return f"{format_count(len(deleted), 'dump was', 'dumps were')} deleted; all others were kept."


def _stored(each: Listed) -> StoredDump:
    return StoredDump(
        name=each.name,
        made=each.when,
        series=(*each.origin, each.part, *sorted(map(show_name, each.excluded))),
        condition=each.condition,
        partial=each.is_partial,
        rehearsed=bool(each.rehearsed),
        pinned=bool(each.pinned),
        named=time_in_name(each.path.name) is None,
    )
