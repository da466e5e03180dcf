"""Decide which dumps and safety dumps are kept; pure functions."""

from __future__ import annotations

import enum
import itertools
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from ..config.keep_policy import KeepPolicy


DAYS = 7


@dataclass(frozen=True)
class SavedState:
    """The properties of a safety dump that decide whether it is kept.

    :ivar name: Its file name, which is unique.
    :ivar made: Its time in UTC.
    :ivar size: Bytes of its plain text, so that compression does not matter.
    """

    name: str
    made: datetime
    rows: int
    size: int


def states_to_keep(states: Iterable[SavedState], newest: int) -> set[SavedState]:
    """Return the safety dumps of one database to keep.

    These are the newest ones, and of each of the last seven days the newest, the oldest and the largest. So repeated
    restores of a wrong dump cannot replace the state before them, and a larger state is kept, too. Days are in UTC, as
    in the names of the dumps, and are counted back from the newest dump, not from now.

    :param newest: The number of newest dumps to keep, of any day.
    """
    ordered = sorted(states, key=lambda each: (each.made, each.name), reverse=True)
    kept = set(ordered[:newest])
    recent = (each for each in ordered if each.made.date() > ordered[0].made.date() - timedelta(days=DAYS))
    for _, group in itertools.groupby(recent, key=lambda each: each.made.date()):
        day = list(group)
        # Of equally large dumps, max() returns the first, which is the newest.
        kept |= {day[0], day[-1], max(day, key=lambda each: (each.rows, each.size))}
    return kept


class Condition(enum.Enum):
    """The state of a dump file, determined without reading it."""

    COMPLETE = enum.auto()
    """Name and size are those in its manifest."""
    BROKEN = enum.auto()
    UNKNOWN = enum.auto()
    """It was compressed or renamed by hand, so its manifest describes another file."""
    FOREIGN = enum.auto()
    """It has no manifest, so its database is unknown."""


@dataclass(frozen=True)
class StoredDump:
    """The properties of a dump that decide whether it is kept.

    :ivar name: Its file name, which is unique.
    :ivar made: Its time.
    :ivar series: A key of dumps that can replace each other: the database and the parts of it that they lack.
    :ivar partial: Whether it lacks rows or objects.
    :ivar named: Whether it was named by hand. Such a dump is never chosen by default, and never deleted.
    """

    name: str
    made: datetime
    series: tuple[str, ...]
    condition: Condition = Condition.COMPLETE
    partial: bool = False
    rehearsed: bool = False
    pinned: bool = False
    named: bool = False


@dataclass(frozen=True)
class Verdict:
    """Whether a dump is kept, and why.

    :ivar reasons: For people; there is at least one.
    """

    kept: bool
    reasons: tuple[str, ...]


# Labels of periods. Later periods have greater labels.
_PERIODS: dict[str, Callable[[datetime], str]] = {
    "daily": lambda made: made.strftime("%Y-%m-%d"),
    "weekly": lambda made: "{}-W{:02}".format(*made.isocalendar()[:2]),
    "monthly": lambda made: made.strftime("%Y-%m"),
    "yearly": lambda made: made.strftime("%Y"),
}
_ALWAYS = {
    Condition.BROKEN: "broken (only `db.delete` deletes it)",
    Condition.UNKNOWN: "compressed or renamed by hand",
    Condition.FOREIGN: "no manifest",
}


def judge_dumps(dumps: Iterable[StoredDump], policy: KeepPolicy, now: datetime) -> dict[str, Verdict]:
    """Decide for each dump whether it is kept.

    Of each series the policy keeps the last dumps, and one of each of the last periods with dumps: the newest rehearsed
    one, else the newest. Periods are in UTC. Periods without dumps do not count, so dumps are not deleted merely
    because time passes. The newest dump of a series, its newest rehearsed one and pinned ones are always kept. Only
    complete dumps are deleted or fill a slot.

    :param now: Newer dumps were made with a wrong clock, or the clock is wrong now. They are kept and fill no slot.
    :return: The verdicts by name.
    """
    verdicts: dict[str, Verdict] = {}
    series: dict[tuple[str, ...], list[StoredDump]] = defaultdict(list)
    for each in dumps:
        if reason := _kept_always(each, now):
            verdicts[each.name] = Verdict(kept=True, reasons=(reason,))
        else:
            series[each.series].append(each)
    for group in series.values():
        reasons = _slots(sorted(group, key=lambda each: (each.made, each.name), reverse=True), policy)
        for each in group:
            partial = ("partial",) * each.partial
            found = tuple(reasons[each.name])
            verdicts[each.name] = Verdict(kept=bool(found), reasons=partial + (found or ("kept by no rule",)))
    return verdicts


def _kept_always(dump: StoredDump, now: datetime) -> str:
    """Return why a dump is kept independently of the policy; empty if the policy decides."""
    if dump.condition in _ALWAYS:
        return _ALWAYS[dump.condition]
    if dump.named:
        return "named by hand"
    return "made in the future" if dump.made > now else ""


def _slots(dumps: list[StoredDump], policy: KeepPolicy) -> dict[str, list[str]]:
    """Return the reasons to keep each dump of a series.

    :param dumps: The series, newest first.
    """
    reasons: dict[str, list[str]] = {each.name: [] for each in dumps}
    reasons[dumps[0].name].append("newest")
    if rehearsed := next((each for each in dumps if each.rehearsed), None):
        reasons[rehearsed.name].append("rehearsed")
    for each in dumps:
        if each.pinned:
            reasons[each.name].append("pinned")
    for number, each in enumerate(dumps[: policy.last], start=1):
        reasons[each.name].append(f"last {number}")
    for name, label in _PERIODS.items():
        periods: dict[str, list[StoredDump]] = defaultdict(list)
        for each in dumps:
            periods[label(each.made.astimezone(UTC))].append(each)
        for period, group in itertools.islice(periods.items(), getattr(policy, name)):
            # max() returns the first of them, which is the newest.
            best = max(group, key=lambda each: each.rehearsed)
            reasons[best.name].append(f"{name} {period}")
    return reasons
