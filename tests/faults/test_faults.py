"""A sample of the campaign, with every phase in it; the whole is `uv run python -m tests.faults`."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults import damage, files, migrating, tables
from tests.faults.aimed import PHASES
from tests.faults.campaign import Size, Tally, Worker, works
from tests.faults.damage import BLIND, FORMS, KINDS, Damaged
from tests.faults.lane import OPERATIONS, SIGNALS, Lane, Outcome, victims_in
from tests.faults.pipe import Pipe

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 7
pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds pg_dump's process in /proc")
MOMENTS = [(operation, phase) for operation in OPERATIONS for phase in PHASES[operation]]


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Return a server of its own with a project, ready for faults."""
    root = tmp_path_factory.mktemp("faults")
    with Lane.open(root, SEED) as lane:
        lane.lay_out("restore")
        whole = root / "whole.sql.gz"
        whole.write_bytes(files.finals(lane.project.dumps)[0].read_bytes())
        yield Worker(lane, Pipe(lane, whole), Tally())


@pytest.mark.parametrize(("operation", "phase"), MOMENTS, ids=[f"{each}-{phase}" for each, phase in MOMENTS])
def test_a_fault_leaves_the_old_or_the_new_and_the_next_run_works(operation: str, phase: str, worker: Worker) -> None:
    """Somebody is killed in this very phase; files, sessions, words and the next run are held against the promise."""
    before = len(worker.tally.outcomes)

    worker.kill_in(operation, phase, f"{SEED} {operation} {phase}")

    assert phase in [each.phase for each in worker.tally.outcomes[before:]]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_dump_changes_nothing(kind: str, form: str, worker: Worker) -> None:
    """It is refused or rolled back; only what nothing vouches for may pass, and then that is said."""
    if form.startswith("zstd") and shutil.which("zstd") is None:
        pytest.skip("psql's pipeline needs zstd")
    found = damage.damage(worker.lane, worker.pipe, kind, form)

    assert (kind, form) == ("flip", BLIND) or found.state != "damaged"


def test_psql_commits_what_we_refuse(worker: Worker) -> None:
    """The same cut, behind the large objects of the dump: psql has committed the half of it by then."""
    worker.lane.lay_out("restore")
    path = damage.lay_down(worker.lane, BLIND)
    text = path.read_bytes()
    path.write_bytes(text[: text.index(b"ADD CONSTRAINT")])
    cut = worker.lane.root / path.name
    cut.write_bytes(path.read_bytes())

    ours = worker.lane.run(*OPERATIONS["restore"], f"--file={path.name}", operation="restore")
    state = worker.lane.state("restore")
    theirs, _ = worker.pipe.fed(cut)

    assert (ours.code, state) == (2, "old")
    assert theirs == "damaged"


def test_a_campaign_fails_when_a_phase_is_empty_or_nothing_ended_new() -> None:
    """As it does when psql takes no damage, since then the faults prove nothing."""
    enough = Tally(
        outcomes=[
            Outcome(operation, "us: SIGKILL", phase, "new" if phase == "after" else "old")
            for operation, phase in MOMENTS
        ]
        + [
            Outcome(migrating.OPERATION, victims[0], migrating.MOMENTS[0], "old")
            for victims in migrating.VICTIMS.values()
        ],
        damaged=[Damaged("cut", FORMS[0], "old", 2, "damaged", 0)],
        piped=[("psql: SIGKILL", "damaged", -9)],
    )
    without_phase = Tally(enough.outcomes[1:], enough.damaged, enough.piped)
    without_server = Tally(enough.outcomes[:-1], enough.damaged, enough.piped)
    without_new = Tally([each for each in enough.outcomes if each.phase != "after"], enough.damaged, enough.piped)

    assert enough.shortcomings(1) == []
    assert without_phase.shortcomings(1) == ["dump, before the snapshot: 0 faults, and 1 are wanted"]
    assert without_server.shortcomings(1) == ["server, while migrations run: 0 faults, and 1 are wanted"]
    assert "restore: no run ended new" in without_new.shortcomings(0)
    assert len(Tally(enough.outcomes).shortcomings(1)) == 2
    assert "| `db.dump` | after | 1 | 0 | 1 |" in tables.markdown(enough, 1)


def test_a_campaign_is_as_large_as_it_is_to_be() -> None:
    """At least 300 kills, 200 cuts and 200 flipped bits, over every operation and every victim, by the seed alone."""
    keys = [key for key, _ in works(Size(), 1)]
    kills = [key for key in keys if key.split()[1] in OPERATIONS]

    assert len(keys) == len(set(keys))
    assert keys == [key for key, _ in works(Size(), 1)]
    assert len(kills) >= 300
    assert {key.split()[1] for key in kills} == set(OPERATIONS)
    for kind in migrating.VICTIMS:
        assert sum(key.split()[1:3] == [migrating.OPERATION, kind] for key in keys) == 20
    assert all(sum(kind in key.split() for key in keys) >= 200 for kind in KINDS)
    assert all(set(SIGNALS) <= set(victims_in(operation, phase)) for operation, phase in MOMENTS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_broken_is_another_file(kind: str) -> None:
    """A cut is shorter, a flip differs in one bit."""
    content = bytes(range(256))

    found = damage.broken(content, kind, random.Random(SEED))

    differing = [a ^ b for a, b in zip(content, found, strict=kind == "flip") if a != b]
    assert len(found) < len(content) if kind == "cut" else [each.bit_count() for each in differing] == [1]
