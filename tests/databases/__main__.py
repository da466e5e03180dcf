"""The whole campaign by one command: `uv run python -m tests.databases --seed 1 --count 60`."""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from tests.databases import campaign, tables_of_tally
from tests.servers import MAJORS, Server, provision
from tests.support import listen, say

DOCS: Final = Path(__file__).resolve().parent.parent.parent / "docs" / "random-databases.md"


def main() -> int:
    """Run it, print the tally, and return 1 where anything differed."""
    parser = argparse.ArgumentParser(prog="tests.databases", description="Random databases, by us and by psql.")
    parser.add_argument("--seed", type=int, default=1, help="what is drawn follows from it (1)")
    parser.add_argument("--count", type=int, default=60, help="databases on each major that psql carries over (60)")
    parser.add_argument("--major", type=int, action="append", help="a major of PostgreSQL (repeats; all)")
    parser.add_argument("--minutes", type=float, default=600, help="begin no other database after so many (600)")
    parser.add_argument("--lanes", type=int, default=2, help="servers at once (2)")
    parser.add_argument("--jobs", type=int, default=0, help="load each into a private database with so many sessions")
    parser.add_argument(
        "--minimise", action="store_true", help="look for the fewest statements; takes minutes for each"
    )
    parser.add_argument("--ways", action="store_true", help="only compare restores by a transaction and by a swap")
    parser.add_argument("--write", action="store_true", help=f"put the tally into {DOCS.name}")
    given = parser.parse_args()
    listen()
    majors = given.major or MAJORS
    with ProcessPoolExecutor(given.lanes) as pool:
        how = {"minimise": given.minimise, "jobs": given.jobs, "ways": given.ways}
        run = partial(_run, seed=given.seed, count=given.count, minutes=given.minutes, **how)
        tallies = dict(zip(majors, pool.map(run, majors), strict=True))
    text = tables_of_tally.markdown(tallies, given.seed)
    sys.stdout.write(f"{text}\n")
    found = sum(len(tally.differences) for tally in tallies.values())
    if given.write and not found:
        before, _, rest = DOCS.read_text(encoding="utf-8").partition(tables_of_tally.BEGIN)
        after = rest.partition(tables_of_tally.END)[2]
        DOCS.write_text(f"{before}{tables_of_tally.BEGIN}\n\n{text}\n\n{tables_of_tally.END}{after}", encoding="utf-8")
    return 1 if found else 0


def _run(major: int, *, seed: int, count: int, minutes: float, minimise: bool, jobs: int, ways: bool) -> campaign.Tally:
    server, seconds = Server.launch(major, provision(major)), 60 * minutes
    try:
        return campaign.run(server, seed, count, say, seconds=seconds, minimise=minimise, jobs=jobs, ways=ways)
    finally:
        server.close()


if __name__ == "__main__":
    sys.exit(main())
