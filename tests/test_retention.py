"""Which dumps and safety dumps are kept: by functions of what is known of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config.keep_policy import KeepPolicy, parse_keep_policy
from tasks.dumpfiles.retention import DAYS, Condition, SavedState, StoredDump, Verdict, judge_dumps, states_to_keep

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

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


# The policy of db.prune

ALL = KeepPolicy(last=1, daily=2, weekly=2, monthly=2, yearly=2)


def stored(name: str, days: float, **changes: Any) -> StoredDump:
    """Return a dump of one database, made so many days before now."""
    return StoredDump(**{"name": name, "made": NOW - timedelta(days=days), "series": ("shop",), **changes})


def survivors(dumps: list[StoredDump], policy: KeepPolicy) -> str:
    """Return the names of the dumps that are kept, in order."""
    return "".join(sorted(name for name, verdict in judge_dumps(dumps, policy, NOW).items() if verdict.kept))


# NOW is a Friday.
PRUNES: dict[str, tuple[list[StoredDump], KeepPolicy, str]] = {
    "nothing": ([], KeepPolicy(last=1), ""),
    "fewer than slots": ([stored("a", 1), stored("b", 2)], KeepPolicy(last=9, daily=9), "ab"),
    "the last ones": ([stored(name, at) for at, name in enumerate("abcde")], KeepPolicy(last=2), "ab"),
    "the newest of each day": (
        [stored(name, at / 4) for at, name in enumerate("abcdefghij")],
        KeepPolicy(daily=3),
        "adh",
    ),
    "a day begins at midnight UTC": ([stored("a", 0.4), stored("b", 0.6)], KeepPolicy(daily=2), "ab"),
    "weeks are ISO weeks": (
        [stored("a", 3), stored("b", 4), stored("c", 5), stored("d", 11), stored("e", 12)],
        KeepPolicy(weekly=3),
        "ace",
    ),
    "the year of an ISO week": (
        [stored("a", 78.5), stored("b", 79.5), stored("c", 80.5), stored("d", 82.5)],
        KeepPolicy(weekly=1),
        "a",
    ),
    "days without a dump do not count": (
        [stored("a", 0), stored("b", 100), stored("c", 300)],
        KeepPolicy(daily=3),
        "abc",
    ),
    "however long nothing was made": ([stored("a", 4000), stored("b", 4001)], KeepPolicy(daily=2), "ab"),
    "the rehearsed one of a day": (
        [stored("a", 0), stored("b", 1.1), stored("c", 1.2, rehearsed=True), stored("d", 1.3)],
        KeepPolicy(daily=2),
        "ac",
    ),
    "the newest, where the rehearsed one has the slot": (
        [stored("a", 0.1), stored("b", 0.2, rehearsed=True), stored("c", 0.3)],
        KeepPolicy(daily=1),
        "ab",
    ),
    "the newest rehearsed one, however old": (
        [stored("a", 0), stored("b", 300), stored("c", 301, rehearsed=True), stored("d", 302, rehearsed=True)],
        KeepPolicy(last=1),
        "ac",
    ),
    "pinned ones": ([stored("a", 0), stored("b", 300, pinned=True), stored("c", 301)], KeepPolicy(last=1), "ab"),
    "a broken one takes no slot": (
        [stored("a", 0, condition=Condition.BROKEN), stored("b", 1), stored("c", 2)],
        KeepPolicy(last=1),
        "ab",
    ),
    "of broken ones alone all": (
        [stored(name, at, condition=Condition.BROKEN) for at, name in enumerate("abc")],
        KeepPolicy(last=1),
        "abc",
    ),
    "a partial one takes no slot of a whole one": (
        [stored(name, at, series=("shop", "log"), partial=True) for at, name in enumerate("abc")]
        + [stored(name, at) for at, name in enumerate("def", start=5)],
        KeepPolicy(last=2),
        "abde",
    ),
    "another database has slots of its own": (
        [stored("a", 0), stored("b", 1), stored("c", 200, series=("bank",))],
        KeepPolicy(last=1),
        "ac",
    ),
    "foreign ones, named ones, and what was changed by hand": (
        [
            stored("a", 0),
            stored("b", 1, condition=Condition.FOREIGN),
            stored("c", 2, condition=Condition.UNKNOWN),
            stored("d", 3, named=True),
            stored("e", 4),
        ],
        KeepPolicy(last=1),
        "abcd",
    ),
    "dumps of a wrong clock push out none": (
        [stored("a", -3650), stored("b", -3651), stored("c", 1), stored("d", 2), stored("e", 3)],
        KeepPolicy(last=2),
        "abcd",
    ),
}


@pytest.mark.parametrize("name", PRUNES)
def test_what_a_prune_keeps(name: str) -> None:
    """By a table of cases, whatever the order in which the dumps come."""
    dumps, policy, kept = PRUNES[name]

    assert survivors(dumps, policy) == kept
    assert survivors(dumps[::-1], policy) == kept


def test_reasons_name_the_slots() -> None:
    """Each reason of a dump, with its period."""
    dumps = [stored("a", 0, pinned=True), stored("b", 1, rehearsed=True), stored("c", 1.1), stored("d", 400)]

    verdicts = judge_dumps(dumps, ALL, NOW)

    assert verdicts["a"].reasons == ("newest", "pinned", "last 1", "daily 2026-03-20")
    assert verdicts["b"].reasons == (
        "rehearsed",
        "daily 2026-03-19",
        "weekly 2026-W12",
        "monthly 2026-03",
        "yearly 2026",
    )
    assert verdicts["c"] == Verdict(kept=False, reasons=("kept by no rule",))
    assert verdicts["d"].reasons == ("weekly 2025-W07", "monthly 2025-02", "yearly 2025")


DUMPS = st.lists(
    st.builds(
        StoredDump,
        name=st.text("abcdef", min_size=1, max_size=6),
        made=st.datetimes(datetime(2024, 12, 20), datetime(2026, 4, 20), timezones=st.just(UTC)),  # noqa: DTZ001
        series=st.sampled_from([("shop",), ("bank",)]),
        condition=st.sampled_from([*[Condition.COMPLETE] * 5, *Condition]),
        rehearsed=st.integers(0, 4).map(lambda at: at == 0),
        pinned=st.integers(0, 9).map(lambda at: at == 0),
        named=st.integers(0, 9).map(lambda at: at == 0),
    ),
    max_size=40,
    unique_by=lambda each: each.name,
)
POLICIES = st.builds(KeepPolicy, *[st.integers(0, 5)] * 5)
ZONES = st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))


def kept_of(dumps: Iterable[StoredDump], policy: KeepPolicy, now: datetime = NOW) -> set[str]:
    """Return the names of the dumps that are kept."""
    return {name for name, verdict in judge_dumps(dumps, policy, now).items() if verdict.kept}


@given(DUMPS, POLICIES, ZONES, st.randoms())
def test_a_prune_depends_on_no_order_and_no_zone_and_is_done_once(
    dumps: list[StoredDump], policy: KeepPolicy, zone: timezone, chance: Random
) -> None:
    """Another order, another zone, or a second run change nothing; each dump has a verdict with a reason."""
    kept = kept_of(dumps, policy)
    shuffled = [replace(each, made=each.made.astimezone(zone)) for each in dumps]
    chance.shuffle(shuffled)

    verdicts = judge_dumps(shuffled, policy, NOW.astimezone(zone))

    assert {name for name, verdict in verdicts.items() if verdict.kept} == kept
    assert kept_of([each for each in dumps if each.name in kept], policy) == kept
    assert verdicts.keys() == {each.name for each in dumps}
    assert all(verdict.reasons for verdict in verdicts.values())


@given(DUMPS, POLICIES)
def test_what_survives_every_prune(dumps: list[StoredDump], policy: KeepPolicy) -> None:
    """The newest complete dump of each database, the newest rehearsed, pinned ones, and what is not complete."""
    kept = kept_of(dumps, policy)

    spared = {each.name for each in dumps if each.pinned or each.named or each.condition is not Condition.COMPLETE}
    assert spared <= kept
    for series in {each.series for each in dumps}:
        good = [each for each in dumps if each.series == series and each.condition is Condition.COMPLETE]
        good = [each for each in good if each.made <= NOW and not each.named]
        good.sort(key=lambda each: (each.made, each.name))
        rehearsed = [each for each in good if each.rehearsed]
        last = good[-policy.last :] if policy.last else []
        assert {each.name for each in (*good[-1:], *rehearsed[-1:], *last)} <= kept


@given(DUMPS, POLICIES, st.integers(0, 5000))
def test_time_that_passes_without_dumps_deletes_none(dumps: list[StoredDump], policy: KeepPolicy, days: int) -> None:
    """The clock alone decides nothing, but for dumps from the future."""
    past = [each for each in dumps if each.made <= NOW]

    assert kept_of(past, policy, NOW + timedelta(days=days)) == kept_of(past, policy)


@given(DUMPS, POLICIES, st.sampled_from([Condition.BROKEN, Condition.UNKNOWN, Condition.FOREIGN]))
def test_what_is_not_complete_never_takes_a_slot(
    dumps: list[StoredDump], policy: KeepPolicy, condition: Condition
) -> None:
    """One that is added, newer or older than all, deletes none of the others."""
    kept = kept_of(dumps, policy)
    for days in (0.0, 0.5, 7, 900):
        added = stored("new", days, condition=condition)
        assert kept_of([*dumps, added], policy) == kept | {"new"}


@given(DUMPS, POLICIES)
def test_partial_dumps_and_those_of_the_future_never_take_a_slot(dumps: list[StoredDump], policy: KeepPolicy) -> None:
    """The others are kept as if these were not there."""
    partial = [stored(f"p{at}", at, series=("shop", "log"), partial=True) for at in range(5)]
    future = [stored(f"f{at}", -1 - at) for at in range(5)]
    kept = kept_of(dumps, policy)

    found = kept_of([*dumps, *partial, *future], policy)

    assert found - {each.name for each in partial} == kept | {each.name for each in future}
    assert "p0" in found


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", None),
        ("   ", None),
        ("last=3", KeepPolicy(last=3)),
        ("last=3 daily=7 weekly=4 monthly=12 yearly=2", KeepPolicy(3, 7, 4, 12, 2)),
        ("yearly=2,last=0", KeepPolicy(yearly=2)),
    ],
)
def test_policies_are_read(text: str, policy: KeepPolicy | None) -> None:
    """Counts by name, in any order."""
    assert parse_keep_policy(text) == policy


@pytest.mark.parametrize(
    "text",
    [
        "3",
        "last",
        "last=",
        "last=-1",
        "last=x",
        "last=1.5",
        "hourly=3",
        "last=3 last=4",
        "last=0",
        "last=٣",
        "Last=3",
        "last=9999999",
    ],
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    """Nothing is guessed where it decides about deletion."""
    with pytest.raises(ValueError):
        parse_keep_policy(text)
