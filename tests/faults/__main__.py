"""The whole campaign by one command: `uv run python -m tests.faults --seed 1`."""

import argparse
import sys
from pathlib import Path
from typing import Final

from tests.faults import campaign, tables
from tests.support import listen, say

DOCS: Final = Path(__file__).resolve().parent.parent.parent / "docs" / "faults.md"


def main() -> int:
    """Run it, print the tally, and return 1 where a promise was broken, or a phase went without its faults."""
    parser = argparse.ArgumentParser(prog="tests.faults", description="Faults on purpose, seeded and counted.")
    parser.add_argument("--seed", type=int, default=1, help="what is drawn follows from it (1)")
    parser.add_argument("--least", type=int, default=campaign.LEAST, help="faults in each phase, at least (20)")
    parser.add_argument("--lanes", type=int, default=2, help="servers at once (2)")
    parser.add_argument("--write", action="store_true", help=f"put the tally into {DOCS.name}")
    given = parser.parse_args()
    listen()
    size = campaign.Size(least=given.least)
    tally = campaign.run(size, given.seed, lanes=given.lanes, say=say)
    text = tables.markdown(tally, given.seed)
    sys.stdout.write(f"{text}\n")
    found = tally.shortcomings(given.least)
    for each in found:
        say(f"FAILED: {each}")
    if given.write and not found:
        before, _, rest = DOCS.read_text(encoding="utf-8").partition(tables.BEGIN)
        after = rest.partition(tables.END)[2]
        DOCS.write_text(f"{before}{tables.BEGIN}\n\n{text}\n\n{tables.END}{after}", encoding="utf-8")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
