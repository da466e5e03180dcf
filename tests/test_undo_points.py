"""What names a state that can be undone to: the beginning of an id, of four characters or more."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.dumpfiles.short_ids import shorten_ids
from tasks.errors import BadInputError
from tasks.safety.undo_points import UndoPoint, choose_undo_point

IDS = ("3f2a000000000000", "3f2a0b0000000000", "9d00000000000000")
POINTS = [
    UndoPoint(
        id=name,
        path=Path(f"{number}.sql.zst"),
        when=datetime(2026, 3, number, tzinfo=UTC),
        database="shop",
        rows=number,
        size=number,
        command="",
        note="",
    )
    for number, name in enumerate(IDS, start=1)
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("9d00", 2), ("9D00", 2), (" 9d000 ", 2), (IDS[0], 0), ("3f2a00", 0), ("3f2a0b", 1)],
)
def test_beginning_names_a_state(wanted: str, found: int) -> None:
    """Where it is of one alone; capitals and spaces do not matter."""
    assert choose_undo_point(POINTS, wanted) is POINTS[found]


@pytest.mark.parametrize("wanted", ["3f2", "3f2a0", "ffff", "3f2a0000000000000", "1", "zzzz", "%_%_"])
def test_what_names_no_state_or_several_is_refused(wanted: str) -> None:
    """Exit 2 in a sentence."""
    with pytest.raises(BadInputError):
        choose_undo_point(POINTS, wanted)


def test_candidates_are_listed() -> None:
    """With their times, so that one can be chosen."""
    with pytest.raises(BadInputError, match=r"3f2a000000000000\b.*2026-03-01.*3f2a0b0000000000\b.*2026-03-02"):
        choose_undo_point(POINTS, "3f2a")


def test_copies_of_one_dump_are_one_state() -> None:
    """They have the same id, and either of them may be taken."""
    assert choose_undo_point([POINTS[2], POINTS[2]], "9d00").id == IDS[2]


@pytest.mark.parametrize(
    ("ids", "short"),
    [((), []), (IDS[2:], ["9d00"]), (IDS, ["3f2a00", "3f2a0b", "9d0000"]), ((IDS[0], IDS[0]), ["3f2a"])],
    ids=str,
)
def test_shown_ids_tell_all_apart(ids: tuple[str, ...], short: list[str]) -> None:
    """They are equally long, of four characters or more, and no longer than that takes."""
    assert sorted(shorten_ids(ids).values()) == short
