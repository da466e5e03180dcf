"""The tally as tables of Markdown, for a terminal and for docs/random-databases.md."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tests.databases.campaign import Tally

BEGIN: Final = "<!-- tally: written by `uv run python -m tests.databases --write` -->"
END: Final = "<!-- end of the tally -->"


def markdown(tallies: Mapping[int, Tally], seed: int) -> str:
    """Write everything that was counted, by major."""
    kept = sum(tally.kept for tally in tallies.values())
    found = sum(len(tally.differences) for tally in tallies.values())
    steps = sum(sum(tally.done.values()) for tally in tallies.values())
    first = f"Seed {seed}: {kept:,} databases, {steps:,} steps. Differences that psql does not show: {found}."
    head = ["", *(f"PostgreSQL {major}" for major in tallies), "all"]
    counted = {
        "drawn": [tally.drawn for tally in tallies.values()],
        "carried over by psql, so checked": [tally.kept for tally in tallies.values()],
        "of these with another text after psql loads them": [tally.rewritten for tally in tallies.values()],
        "differences": [len(tally.differences) for tally in tallies.values()],
    }
    parts = [first, "### Databases", _table(head, [[name, *each, sum(each)] for name, each in counted.items()])]
    parts += ["### What was done", _counters(head, [tally.done for tally in tallies.values()])]
    parts += ["### What was in them", _counters(head, [tally.objects for tally in tallies.values()])]
    return "\n\n".join(parts)


def _counters(head: Sequence[str], counters: Sequence[Counter[str]]) -> str:
    names = dict.fromkeys(name for counter in counters for name in counter)
    rows = [
        [name, *(counter[name] for counter in counters), sum(counter[name] for counter in counters)] for name in names
    ]
    return _table(head, rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(f'{each:,}' if isinstance(each, int) else str(each) for each in line)} |" for line in lines
    )
