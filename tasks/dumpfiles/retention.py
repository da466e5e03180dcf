"""Which safety dumps are worth keeping: a pure function of what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, datetime


DAYS = 7


@dataclass(frozen=True)
class SavedState:
    """A safety dump, as far as its worth depends on it.

    :ivar name: Its file's name, which is unique.
    :ivar made: When it was made, in UTC.
    :ivar size: Bytes of its plain text: the same state has the same size, however it is compressed.
    """

    name: str
    made: datetime
    rows: int
    size: int


def states_to_keep(states: Iterable[SavedState], newest: int) -> set[SavedState]:
    """Return the safety dumps of one database that are worth keeping.

    These are the newest ones, and of each of the last seven days the newest, the oldest and the largest: repeated
    restores of a wrong dump can't push out the state before them, and a larger state is not lost either. Days are those
    of UTC, as in the names of the dumps, and are counted back from the newest dump, not from now.

    :param newest: How many of the newest are kept, whatever their day.
    """
    ordered = sorted(states, key=lambda each: (each.made, each.name), reverse=True)
    kept = set(ordered[:newest])
    days: dict[date, list[SavedState]] = {}
    for each in ordered:
        if each.made.date() > ordered[0].made.date() - timedelta(days=DAYS):
            days.setdefault(each.made.date(), []).append(each)
    for day in days.values():
        # Of equally large ones the first, which is the newest.
        kept |= {day[0], day[-1], max(day, key=lambda each: (each.rows, each.size))}
    return kept
