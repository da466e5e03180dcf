"""Medians, spreads and ratios, and whether the targets were met."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .results import Measured, Result

PARALLEL = ("restore-custom-j2", "restore-directory-j2")
MEMORY = 160
_DUMP = "`inv db.dump --gzip`"
_CLEAN = "`inv db.restore --clean`"
_SWAP = "`inv db.restore --clean --method=swap --jobs=2` over a filled database"


@dataclass(frozen=True)
class Figures:
    """One command's numbers, over its samples.

    :ivar ratio: Its median against the reference's: 2 is twice as long. None without a reference.
    :ivar own_peak: In MB, the highest of all; of ours the Python process's alone.
    :ivar peak: In MB, the highest of any of its processes.
    :ivar wal: Median of bytes, and so is `written`.
    """

    measured: Measured
    median: float
    least: float
    most: float
    ratio: float | None
    cpu: float
    own_cpu: float
    own_peak: float
    peak: float
    wal: int
    written: int


@dataclass(frozen=True)
class Target:
    """One line of the table of targets.

    :ivar met: None where it was not measured.
    :ivar peak: A number of which the highest of all runs counts, not that of the newest.
    """

    what: str
    wanted: str
    measured: str
    met: bool | None
    peak: float = 0


def median(measured: Measured, of: Callable[..., float] = lambda sample: sample.seconds) -> float:
    """Return the median over the samples; of seconds, unless told otherwise."""
    return statistics.median(of(sample) for sample in measured.samples)


def figures(result: Result, database: str, kind: str) -> list[Figures]:
    """Sum up the commands of one kind on one database, the fastest first."""
    found = result.of(database, kind)
    base = next((median(each) for each in found if each.reference), None)
    return sorted((_figures(each, base) for each in found), key=lambda each: each.median)


def _figures(each: Measured, base: float | None) -> Figures:
    seconds = [sample.seconds for sample in each.samples]
    return Figures(
        measured=each,
        median=median(each),
        least=min(seconds),
        most=max(seconds),
        ratio=median(each) / base if base else None,
        cpu=median(each, lambda sample: sample.cpu),
        own_cpu=median(each, lambda sample: sample.own_cpu),
        own_peak=max(sample.own_peak for sample in each.samples),
        peak=max(peak for sample in each.samples for peak in sample.peaks.values()),
        wal=int(median(each, lambda sample: sample.wal)),
        written=int(median(each, lambda sample: sample.written)),
    )


def targets(result: Result) -> list[Target]:
    """Compute every target from one run."""
    dump = result.get("journal", "dump-ours-gzip")
    clean = result.get("journal", "restore-ours")
    empty = result.get("journal", "restore-ours-empty")
    peers = _fastest([each for each in result.of("journal", "dump") if each.compresses])
    parallel = _fastest([each for each in result.of("journal", "restore") if each.slug in PARALLEL])
    psql = result.get("journal", "restore-gunzip-psql")
    then_gzip = result.get("journal", "dump-then-gzip")
    clean_psql = f"{_CLEAN} over a filled database, against `gunzip` then `psql` into an empty one"
    clean_parallel = f"{_CLEAN} over a filled database, against the faster `pg_restore -j2` into an empty one"
    return [
        _faster(f"{_DUMP}, against `pg_dump` then `gzip`", 5, dump, then_gzip),
        _faster(f"{_DUMP}, against the fastest pg_dump with compression", 0.95, dump, peers),
        _faster(clean_psql, 1.3, clean, psql),
        _faster("the same, both into an empty one", 1.3, empty, psql),
        _faster(clean_parallel, 0.95, clean, parallel),
        _faster("the same, both into an empty one", 0.95, empty, parallel),
        *_swaps(result, parallel, psql),
        _verify(result, dump),
        _overhead(result),
        _list(result),
        _memory(result),
        _cpu_per_row(result, "dump-ours-gzip", _DUMP),
        _cpu_per_row(result, "restore-ours", _CLEAN),
    ]


def _swaps(result: Result, parallel: Measured | None, psql: Measured | None) -> list[Target]:
    """Compare restores by a swap, with several sessions, with those of other tools into an empty database."""
    swap = result.get("journal", "restore-ours-swap")
    analyzed = result.get("journal", "restore-directory-j2-analyzed")
    four, pg_restore = (result.get("journal", f"throttled-{each}") for each in ("ours-swap-4", "directory-j4"))
    huge, huge_pg_restore = (result.get("huge", f"throttled-{each}") for each in ("ours-swap-4", "directory-j4"))
    dump, pg_dump = (result.get("journal", f"throttled-{each}") for each in ("ours-zstd", "directory"))
    fifth = "with a fifth of a processor for each thread"
    return [
        _faster(f"{_SWAP}, against `pg_restore -j2` and `vacuumdb --analyze-only -j2`", 0.95, swap, analyzed),
        _faster("the same, against the faster `pg_restore -j2` alone", 0.85, swap, parallel),
        _faster("the same, against `gunzip` then `psql`", 1.35, swap, psql),
        _faster(f"the same {fifth}, 4 jobs, against `pg_restore -j4`", 1.25, four, pg_restore),
        _faster("the same with nearly all rows in one table", 1.8, huge, huge_pg_restore),
        _faster(f"`inv db.dump --zstd` {fifth}, against `pg_dump -Fd -j2 -Z zstd:1`", 1.2, dump, pg_dump),
    ]


def _fastest(peers: list[Measured]) -> Measured | None:
    return min(peers, key=median, default=None)


def _faster(what: str, times: float, ours: Measured | None, peer: Measured | None) -> Target:
    wanted = f"{times:g} times as fast"
    if ours is None or peer is None:
        return _unmeasured(what, wanted)
    ratio = median(peer) / median(ours)
    measured = f"{ratio:.2f} ({median(ours):.2f} s; {median(peer):.2f} s, `{peer.shown}`)"
    return Target(what, wanted, measured, ratio >= times)


def _verify(result: Result, dump: Measured | None) -> Target:
    verify = result.get("journal", "verify-ours")
    rows = f"{result.databases['journal'].rows:,} rows" if "journal" in result.databases else "the journal"
    what, wanted = f"`inv db.verify` of {rows}, against {_DUMP}", "a tenth of the dump"
    if verify is None or dump is None:
        return _unmeasured(what, wanted)
    share = median(verify) / median(dump)
    return Target(what, wanted, f"{share:.3f} ({median(verify):.2f} s of {median(dump):.2f} s)", share <= 1 / 10)


def _overhead(result: Result) -> Target:
    what, wanted = "an empty database: `inv db.dump` beyond `pg_dump` itself", "0.35 s more"
    ours, peer = result.get("empty", "dump-ours-plain"), result.get("empty", "dump-plain")
    if ours is None or peer is None:
        return _unmeasured(what, wanted)
    more = median(ours) - median(peer)
    return Target(what, wanted, f"{more:.3f} s ({median(ours):.3f} s; {median(peer):.3f} s)", more <= 0.35)  # noqa: PLR2004


def _list(result: Result) -> Target:
    what, wanted = "`inv --list`, against an empty collection's", "1.5 times"
    ours, peer = result.get("empty", "list-ours"), result.get("empty", "list-none")
    if ours is None or peer is None:
        return _unmeasured(what, wanted)
    ratio = median(ours) / median(peer)
    return Target(what, wanted, f"{ratio:.2f} ({median(ours):.3f} s; {median(peer):.3f} s)", ratio <= 1.5)  # noqa: PLR2004


def _memory(result: Result) -> Target:
    what, wanted = "peak memory of our process, any size", f"{MEMORY} MB"
    ours = [each for each in result.measured if each.ours]
    if not ours:
        return _unmeasured(what, wanted)
    worst = max(ours, key=_own_peak)
    peak = _own_peak(worst)
    return Target(what, wanted, f"{peak:.0f} MB (`{worst.shown}`, {worst.database})", peak <= MEMORY, peak)


def _own_peak(measured: Measured) -> float:
    return max(sample.own_peak for sample in measured.samples)


def _cpu_per_row(result: Result, slug: str, name: str) -> Target:
    what, wanted = f"our process's CPU per row at ten times the rows, {name}", "1.05 times"
    large, small = result.get("journal", slug), result.get("tenth", slug)
    if large is None or small is None:
        return _unmeasured(what, wanted)
    per_row = [
        median(each, lambda sample: sample.own_cpu) / result.databases[each.database].rows * 1e6
        for each in (large, small)
    ]
    ratio = per_row[0] / per_row[1]
    return Target(what, wanted, f"{ratio:.2f} ({per_row[0]:.2f} µs; {per_row[1]:.2f} µs)", ratio <= 1.05)  # noqa: PLR2004


def _unmeasured(what: str, wanted: str) -> Target:
    return Target(what, wanted, "not measured in this run", None)
