"""Draws faults from a seed, lets them happen, and counts."""

import random
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from typing import Final

from tests.faults import damage, migrating, pipe
from tests.faults.aimed import PHASES
from tests.faults.damage import Damaged
from tests.faults.files import Violation
from tests.faults.lane import OPERATIONS, Aim, Lane, Outcome, victims_in
from tests.faults.migrating import MigratingLane
from tests.faults.pipe import Pipe

LEAST: Final = 20
"""Faults in each phase of each operation, at least; an undo is a restore of its own kind, and has a quarter of it."""
AT_RANDOM: Final = 24
CUTS: Final = 50
FLIPS: Final = 50
BLIND_FLIPS: Final = 70
PIPES: Final = 6
_TRIES: Final = 4


def wanted(operation: str, least: int) -> int:
    """Tell how many faults each phase of an operation gets."""
    return max(least // 4, 1) if operation == "undo" else least


@dataclass(frozen=True)
class Size:
    """How many faults of each kind.

    :ivar least: In each phase; `at_random` at moments that are not aimed at, over all operations.
    :ivar cuts: In each form of a dump, as `flips`; `blind` flips where nothing vouches for the content.
    :ivar pipes: Of each victim of psql's pipeline.
    :ivar migrating: Of each kind of victim, while migrations run.
    """

    least: int = LEAST
    at_random: int = AT_RANDOM
    cuts: int = CUTS
    flips: int = FLIPS
    blind: int = BLIND_FLIPS
    pipes: int = PIPES
    migrating: int = LEAST


@dataclass
class Tally:
    """What was counted."""

    outcomes: list[Outcome] = field(default_factory=list)
    damaged: list[Damaged] = field(default_factory=list)
    piped: list[tuple[str, str, int]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def shortcomings(self, least: int) -> list[str]:
        """Say what a whole campaign lacks: a phase without enough faults, a psql without damage, a broken promise."""
        phases = Counter((each.operation, each.phase) for each in self.outcomes)
        found = [
            f"{operation}, {phase}: {phases[operation, phase]} faults, and {wanted(operation, least)} are wanted"
            for operation in OPERATIONS
            for phase in PHASES[operation]
            if phases[operation, phase] < wanted(operation, least)
        ]
        killed = Counter(each.victim for each in self.outcomes if each.operation == migrating.OPERATION)
        found += [
            f"{kind}, while migrations run: {count} faults, and {least} are wanted"
            for kind, victims in migrating.VICTIMS.items()
            if (count := sum(killed[each] for each in victims)) < least
        ]
        states = {(each.operation, each.state) for each in self.outcomes}
        found += [
            f"{operation}: no run ended {state}"
            for operation in OPERATIONS
            for state in ("old", "new")
            if (operation, state) not in states
        ]
        if not any(state == "damaged" for _, state, _ in self.piped):
            found.append("no kill of psql's pipeline did damage, so the same kills prove nothing of us")
        if not any(each.psql == "damaged" for each in self.damaged):
            found.append("no damaged dump did damage by psql, so the same dumps prove nothing of us")
        return found + self.violations


def draw(lane: Lane, operation: str, phase: str, chance: random.Random) -> tuple[str, Aim]:
    """Choose a victim and a moment in a phase: one of its events, or a time in it."""
    victim = chance.choice(victims_in(operation, phase))
    events, seconds = lane.events[operation][phase]
    if chance.random() < 0.25:
        return victim, Aim(phase, 0, chance.random() * seconds)
    return victim, Aim(phase, chance.randrange(events))


def draw_any(lane: Lane, operation: str, chance: random.Random) -> tuple[str, Aim]:
    """Choose a victim, and any moment of the whole run."""
    first = PHASES[operation][0]
    seconds = sum(each for _, each in lane.events[operation].values())
    victims = {victim for phase in PHASES[operation] for victim in victims_in(operation, phase)}
    return chance.choice(sorted(victims)), Aim(first, 0, chance.random() * seconds)


Work = Callable[["Worker"], None]


@dataclass
class Worker:
    """A lane, and where it counts."""

    lane: Lane
    pipe: Pipe
    tally: Tally
    migrating: MigratingLane | None = None

    def kill_in(self, operation: str, phase: str, seed: object) -> None:
        """Let one fault happen in a phase, however often it has to be tried."""
        chance = random.Random(f"{seed}")
        for _ in range(_TRIES):
            outcome = self.lane.fault(operation, *draw(self.lane, operation, phase, chance))
            if outcome is not None:
                self.tally.outcomes.append(outcome)
                if outcome.phase == phase:
                    return

    def kill_anywhere(self, operation: str, seed: object) -> None:
        """Let one fault happen at any moment."""
        outcome = self.lane.fault(operation, *draw_any(self.lane, operation, random.Random(f"{seed}")))
        if outcome is not None:
            self.tally.outcomes.append(outcome)

    def kill_migrating(self, kind: str, seed: object) -> None:
        """Let one fault happen while migrations run, however often it has to be tried."""
        assert self.migrating is not None
        for attempt in range(_TRIES):
            outcome = self.migrating.kill(kind, f"{seed} {attempt}")
            if outcome is not None:
                self.tally.outcomes.append(outcome)
                return

    def damage(self, kind: str, form: str) -> None:
        """Damage a dump and restore it."""
        self.tally.damaged.append(damage.damage(self.lane, self.pipe, kind, form))

    def pipe_killed(self, victim: str) -> None:
        """Harm psql's pipeline."""
        self.tally.piped.append((victim, *self.pipe.killed(victim)))


def works(size: Size, seed: object) -> Iterator[tuple[str, Work]]:
    """List everything that a campaign does, each with a name."""
    for operation in OPERATIONS:
        for phase in PHASES[operation]:
            least = wanted(operation, size.least)
            # Now and then one never lands where it was aimed.
            for i in range(least + least // 10):
                key = f"{seed} {operation} {phase} {i}"
                yield key, lambda worker, o=operation, p=phase, k=key: worker.kill_in(o, p, k)  # type: ignore[misc]
    for kind in migrating.VICTIMS:
        for i in range(size.migrating):
            key = f"{seed} {migrating.OPERATION} {kind} {i}"
            yield key, lambda worker, n=kind, k=key: worker.kill_migrating(n, k)  # type: ignore[misc]
    for i in range(size.at_random):
        operation = list(OPERATIONS)[i % len(OPERATIONS)]
        key = f"{seed} {operation} at random {i}"
        yield key, lambda worker, o=operation, k=key: worker.kill_anywhere(o, k)  # type: ignore[misc]
    for kind in damage.KINDS:
        for form in damage.FORMS:
            flips = size.blind if form == damage.BLIND else size.flips
            for i in range(size.cuts if kind == "cut" else flips):
                yield f"{seed} {kind} {form} {i}", lambda worker, n=kind, f=form: worker.damage(n, f)  # type: ignore[misc]
    for victim in pipe.VICTIMS:
        for i in range(size.pipes):
            yield f"{seed} {victim} {i}", lambda worker, v=victim: worker.pipe_killed(v)  # type: ignore[misc]


def run(size: Size, seed: object, *, lanes: int = 2, say: Callable[[str], None] = print) -> Tally:
    """Run a whole campaign on so many servers at once."""
    tally, queue = Tally(), Queue[tuple[str, Work]]()
    todo = list(works(size, seed))
    random.Random(f"{seed}").shuffle(todo)
    for each in todo:
        queue.put(each)
    lock = threading.Lock()

    def lane_of(number: int) -> None:
        with (
            tempfile.TemporaryDirectory() as root,
            Lane.open(Path(root), f"{seed} {number}") as lane,
            MigratingLane.open(Path(root) / "migrating", f"{seed} {number}") as second,
        ):
            lane.lay_out("restore")
            dump = Path(root) / "whole.sql.gz"
            dump.write_bytes(next(lane.project.dumps.glob("*.sql.gz")).read_bytes())
            worker = Worker(lane, Pipe(lane, dump), tally, second)
            while True:
                try:
                    key, work = queue.get_nowait()
                except Empty:
                    return
                try:
                    work(worker)
                except Violation as violation:
                    tally.violations.append(f"{key}: {violation}")
                    say(f"BROKEN: {tally.violations[-1]}")
                    lane.forget()
                    second.forget()
                with lock:
                    left = queue.qsize()
                    if left % 50 == 0:
                        say(f"{len(todo) - left} of {len(todo)} done, {len(tally.violations)} promises broken")

    with ThreadPoolExecutor(lanes) as pool:
        for future in [pool.submit(lane_of, number) for number in range(lanes)]:
            future.result()
    return tally
