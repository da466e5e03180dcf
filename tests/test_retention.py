"""Which safety dumps are kept: by a function of what is known of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dumpfiles.retention import DAYS, SavedState, states_to_keep

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)


def state(name: str, day: int, hour: int, rows: int, size: int = 0) -> SavedState:
    """Return a safety dump of some days before the newest."""
    return SavedState(name, NOW - timedelta(days=day) + timedelta(hours=hour), rows, size)


CASES: dict[str, tuple[list[SavedState], int, str]] = {
    "nothing": ([], 3, ""),
    "fewer than are kept": ([state("a", 0, 0, 1), state("b", 0, 1, 1)], 3, "ab"),
    "equal ones, the newest": ([state(name, 0, at, 5, 9) for at, name in enumerate("abcde")], 2, "ade"),
    "the good one before five wrong ones": (
        [state("g", 0, 0, 500), *(state(str(at), 0, at, 1) for at in range(1, 6))],
        3,
        "g345",
    ),
    "the good one before five larger wrong ones": (
        [state("g", 0, 0, 500), *(state(str(at), 0, at, 3000) for at in range(1, 6))],
        3,
        "g345",
    ),
    "the largest by size among equal rows": (
        [state("a", 0, 0, 5, 9), state("b", 0, 1, 5, 10), state("c", 0, 2, 5, 9), state("d", 0, 3, 5, 9)],
        1,
        "abd",
    ),
    "rows count more than size": (
        [state("a", 0, 0, 6, 1), state("b", 0, 1, 5, 10), state("c", 0, 2, 5, 9)],
        1,
        "ac",
    ),
    "a larger one of another day does not push out the largest of a day": (
        [state("a", 1, 0, 900), state("b", 1, 1, 1), state("g", 0, 0, 500), state("c", 0, 1, 1), state("d", 0, 2, 1)],
        1,
        "abgd",
    ),
    "the newest of each day": ([state(str(day), day, 0, 1) for day in range(9)], 1, "0123456"),
    "days count from the newest, not from now": ([state(str(day), day + 4000, 0, 1) for day in range(9)], 1, "0123456"),
    "a day begins at midnight UTC": ([state("a", 7, 11, 1), state("b", 7, 12, 1), state("c", 0, 0, 1)], 1, "bc"),
    "the newest count, however old": ([state("a", 400, 0, 1), state("b", 300, 0, 1), state("c", 0, 0, 1)], 2, "bc"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_kept(name: str) -> None:
    """The newest ones, and of each of the last seven days the newest, the oldest and the largest."""
    states, newest, kept = CASES[name]

    assert "".join(sorted(each.name for each in states_to_keep(states, newest))) == "".join(sorted(kept))


STATES = st.lists(
    st.builds(
        SavedState,
        name=st.text("abcdef", min_size=1, max_size=6),
        made=st.datetimes(datetime(2026, 3, 1), datetime(2026, 3, 20), timezones=st.just(UTC)),  # noqa: DTZ001
        rows=st.integers(0, 5),
        size=st.integers(0, 5),
    ),
    max_size=25,
    unique_by=lambda each: each.name,
)


@given(STATES, st.integers(1, 5), st.randoms())
def test_properties_of_what_is_kept(states: list[SavedState], newest: int, chance: object) -> None:
    """Order does not matter, a second run deletes nothing, and the newest and the largest of the days survive."""
    shuffled = list(states)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]

    kept = states_to_keep(states, newest)

    assert states_to_keep(shuffled, newest) == kept
    assert states_to_keep(kept, newest) == kept
    assert kept <= set(states)
    assert len(kept) >= min(newest, len(states))
    assert len(kept) <= newest + 3 * DAYS
    by_age = sorted(states, key=lambda each: (each.made, each.name))
    assert set(by_age[-newest:]) <= kept
    if states:
        recent = [each for each in states if each.made.date() > by_age[-1].made.date() - timedelta(days=DAYS)]
        largest = max((each.rows, each.size) for each in recent)
        assert largest in {(each.rows, each.size) for each in kept}
