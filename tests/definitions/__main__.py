"""The whole campaign by one command: `uv run python -m tests.definitions --seed 1 --count 400`."""

import argparse
import sys
from typing import Final

from tests.definitions import campaign
from tests.servers import MAJORS, Fleet
from tests.support import listen, say

_SHOWN: Final = 10


def main() -> int:
    """Run it, print the tally, and return 1 where something was found in vain, or was not found."""
    parser = argparse.ArgumentParser(prog="tests.definitions", description="Expressions, reloaded and compared.")
    parser.add_argument("--seed", type=int, default=1, help="what is drawn follows from it (1)")
    parser.add_argument("--count", type=int, default=400, help="expressions at each place (400)")
    parser.add_argument("--changes", type=int, default=400, help="single changes on each major (400)")
    parser.add_argument("--major", type=int, action="append", help="a major of PostgreSQL (repeats; all)")
    given = parser.parse_args()
    listen()
    majors, wrong = given.major or MAJORS, 0
    fleet = Fleet(announce=say)
    try:
        for major in majors:
            tally = campaign.run(fleet(major), given.seed, given.count, given.changes)
            sys.stdout.write(f"PostgreSQL {major}, seed {given.seed}\n{table(tally)}\n")
            sys.stdout.flush()
            wrong += sum(len(each.false) + len(each.missed) for each in tally.values())
            for label, each in tally.items():
                for what in [*each.false, *each.missed][:_SHOWN]:
                    say(f"FAILED: {label}: {what}")
    finally:
        fleet.close()
    return 1 if wrong else 0


def table(tally: campaign.Tally) -> str:
    """Write a tally as a table."""
    rows: list[tuple[str, ...]] = [("place", "defined", "rewritten", "false", "changed", "missed")]
    for label, each in tally.items():
        numbers = (each.defined, each.rewritten, len(each.false), each.changed, len(each.missed))
        rows.append((label, *map(str, numbers)))
    sums = [sum(int(row[column]) for row in rows[1:]) for column in range(1, len(rows[0]))]
    rows.append(("all", *map(str, sums)))
    return "\n".join(f"{row[0]:20}" + "".join(f"{cell:>11}" for cell in row[1:]) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
