"""A sample of the kills of `db.prune` and `db.delete`; more by `python -m tests.faults.deletions --kills 1000`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.deletions import ARGS, Deletions, kill_at_random

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="runs where the other faults do")


def test_a_kill_deletes_nothing_that_was_not_named_and_the_next_run_finishes(tmp_path: Path) -> None:
    """Dumps that the plan keeps are untouched, none is left without its manifest, and no manifest without its dump."""
    with Deletions.open(tmp_path) as deletions:
        kill_at_random(deletions, seed=7, kills=40)

    assert deletions.tally.total() == 40
    assert {name.split(",")[0] for name in deletions.tally} == set(ARGS)
