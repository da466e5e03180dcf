"""A sample of the kills while migrations run; all of them are part of `uv run python -m tests.faults`."""

from pathlib import Path

import pytest

from tests.faults.lane import KILLED
from tests.faults.migrating import MOMENTS, MigratingLane

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds running programs in /proc")


def test_a_kill_in_a_migration_leaves_the_old_database(tmp_path: Path) -> None:
    """The second of three migrations of the real Prisma runs in the staging database, which the next restore drops."""
    with MigratingLane.open(tmp_path / "lane", 7) as lane:
        found = lane.kill_at(KILLED, MOMENTS[2])

    assert found is not None
    assert found.state == "old"
