"""A year of daily dumps and prunes, drawn from a seed: `python -m tests.retention_year --seed 1` prints a tally."""

import argparse
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tasks.config.keep_policy import parse_keep_policy
from tasks.config.settings import Settings
from tasks.dumpfiles.catalog import Listed, list_catalog
from tasks.dumpfiles.paths import UNDO, list_orphan_manifests, manifest_path, time_in_name
from tasks.dumpfiles.pin import pin_dump
from tasks.dumpfiles.prune import carry_out_prune, plan_prune
from tasks.progress import Silence
from tests.flows import settings_of
from tests.stored_dumps import store_dump
from tests.support import Project

KEEP: Final = "last=3 daily=7 weekly=4 monthly=12 yearly=2"
BEGINS: Final = datetime(2026, 1, 1, tzinfo=UTC)
_LOG: Final = (("public", "log"),)


@dataclass
class Year:
    """A folder of dumps, day by day.

    :ivar skew: By how much the clock is wrong.
    :ivar idle: For how many days more no dump is made.
    """

    settings: Settings
    chance: random.Random
    tally: Counter[str] = field(default_factory=Counter)
    skew: timedelta = timedelta(0)
    idle: int = 0

    def live(self, days: int) -> Counter[str]:
        """Make dumps, and prune after each day, and hold what is there against the promises."""
        for day in range(days):
            midnight = BEGINS + timedelta(days=day)
            before = (self.skew, self.tally["made"], self.tally["damaged"])
            self._set_clock()
            self._make_dumps(midnight)
            self._meddle()
            now = midnight + timedelta(hours=23, minutes=59) + self.skew
            self.tally["days"] += 1
            self._prune(now, quiet=before == (self.skew, self.tally["made"], self.tally["damaged"]))
        self.tally["there at the end"] = len(list_catalog(self.settings))
        return self.tally

    def _happens(self, percent: float) -> bool:
        return self.chance.random() * 100 < percent

    def _set_clock(self) -> None:
        if self.skew:
            self.skew = timedelta(0) if self._happens(40) else self.skew
        elif self._happens(2):
            self.skew = timedelta(hours=self.chance.randint(-9000, 9000))
            self.tally["clock jumps"] += 1
        if self.idle:
            self.idle -= 1
        elif self._happens(3):
            self.idle = self.chance.randint(1, 25)
            self.tally["gaps"] += 1

    def _make_dumps(self, midnight: datetime) -> None:
        if self.idle:
            return
        for _ in range(self.chance.choice([1, 1, 1, 2, 4])):
            made = midnight + self.skew + timedelta(seconds=self.chance.randint(0, 86_000))
            if self._happens(8):
                self.tally["failed"] += 1
                continue
            self._make_dump(made)

    def _make_dump(self, made: datetime) -> None:
        self.tally["made"] += 1
        partial = self._happens(8)
        name = f"by-hand-{self.tally['made']}.sql" if self._happens(1) else ""
        changes: dict[str, Any] = {"rehearsed": made.isoformat(timespec="seconds")} if self._happens(10) else {}
        path = store_dump(
            self.settings.dumps,
            made,
            name=name,
            size=40,
            database=self.chance.choice(["shop"] * 6 + ["bank"]),
            excluded=_LOG if partial else (),
            **changes,
        )
        self.tally["partial"] += partial
        self.tally["named by hand"] += bool(name)
        self.tally["rehearsed"] += bool(changes)
        if self._happens(2):
            pin_dump(self.settings, path.name, pinned=True)
            self.tally["pinned"] += 1
        if self._happens(6):
            self._break(path)
        if self._happens(1):
            manifest_path(path).unlink()
            self.tally["without manifest"] += 1

    def _break(self, path: Path) -> None:
        if self._happens(50):
            path.write_bytes(path.read_bytes()[: self.chance.randint(0, 39)])
        else:
            manifest_path(path).write_text("{", encoding="ascii")
        self.tally["broken"] += 1

    def _meddle(self) -> None:
        """Now and then damage a dump that is there, or make a safety dump."""
        found = [each.path for each in list_catalog(self.settings) if each.complete]
        if found and self._happens(2):
            self._break(self.chance.choice(found))
            self.tally["damaged"] += 1
        if self._happens(3):
            when = BEGINS + timedelta(seconds=self.chance.randint(0, 30_000_000))
            store_dump(self.settings.dumps / "undo", when, prefix=UNDO)
            self.tally["safety dumps"] += 1

    def _prune(self, now: datetime, *, quiet: bool) -> None:
        before = list_catalog(self.settings)
        plan = plan_prune(self.settings, now=now)
        assert plan is not None
        named = {each.dump.path for each in plan.doomed}

        deleted = carry_out_prune(plan, Silence(), now=now)

        after = list_catalog(self.settings)
        gone = {each.path for each in before} - {each.path for each in after}
        assert gone == {each.path for each in deleted} == named
        assert not list_orphan_manifests(self.settings.dumps)
        assert not [each for each in before if each.path in gone and must_stay(each)]
        for origin in {each.origin for each in before if each.origin}:
            self._judge(before, origin, gone, now)
        again = plan_prune(self.settings, now=now)
        assert again is not None
        assert not again.doomed
        future = [each for each in before if now - timedelta(days=2) < each.when <= now]
        if quiet and not future:
            self.tally["days without a change"] += 1
            assert not gone
        self.tally["deleted"] += len(gone)
        self.tally["most at once"] = max(self.tally["most at once"], len(after))

    def _judge(self, before: list[Listed], origin: tuple[str, ...], gone: set[Path], now: datetime) -> None:
        """Hold one database's dumps against what survives every prune."""
        good = [each for each in before if each.origin == origin and is_good(each, now)]
        good.sort(key=lambda each: (each.when, each.name), reverse=True)
        rehearsed = [each for each in good if each.rehearsed]
        assert self.settings.keep is not None
        spared = (*good[: max(1, self.settings.keep.last)], *rehearsed[:1])
        assert not [each for each in spared if each.path in gone]


def must_stay(each: Listed) -> bool:
    """Return whether nothing may delete a dump."""
    return each.safety or bool(each.pinned) or not each.complete or time_in_name(each.path.name) is None


def is_good(each: Listed, now: datetime) -> bool:
    """Return whether a dump is a complete one of ours, made before now."""
    return not (each.safety or each.excluded) and each.complete is True and bool(each.origin) and _was_made(each, now)


def _was_made(each: Listed, now: datetime) -> bool:
    return time_in_name(each.path.name) is not None and each.when <= now


def live(root: Path, seed: int, days: int) -> Counter[str]:
    """Live through some days in an empty folder, and return what happened."""
    settings = settings_of(Project.create(root))
    return Year(replace(settings, keep=parse_keep_policy(KEEP)), random.Random(seed)).live(days)


def main() -> None:
    """Print the tally of a year."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", type=int, default=365)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = live(Path(folder) / "project", asked.seed, asked.days)
    lines = [f"seed {asked.seed}, keep {KEEP!r}", *(f"{count:6} {name}" for name, count in sorted(tally.items()))]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
