"""Make random databases on a server, and check each of those that pg_dump and psql carry over."""

import contextlib
import math
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tests.databases import generator
from tests.databases.builder import Script
from tests.databases.checks import Checks, Difference, Judged, judge
from tests.databases.ways import check as compare_ways
from tests.servers import Server
from tests.support import Database, Databases, Project

# After how many databases the campaign says how far it is.
_SAID: Final = 10


@dataclass
class Tally:
    """What was tried on one server.

    :ivar drawn: Random databases; `kept` those of them that pg_dump and psql carry over.
    :ivar rewritten: Those that have another text after psql has loaded them once.
    :ivar objects: Groups of statements that the server took, by kind.
    :ivar done: What was done with them.
    :ivar differences: What differed, by the name of the database.
    """

    drawn: int = 0
    kept: int = 0
    rewritten: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    differences: dict[str, Difference] = field(default_factory=dict)


def run(
    server: Server,
    seed: int,
    count: int,
    say: Callable[[str], None],
    *,
    seconds: float = math.inf,
    minimise: bool = False,
    jobs: int = 0,
    ways: bool = False,
) -> Tally:
    """Try random databases on one server, until psql has carried over so many.

    :param say: Is told each difference, with the statements that make the database.
    :param seconds: After so many no other database is begun.
    :param jobs: The sessions that load each database once more, into a private one; 0 for no such load.
    :param minimise: Look for the fewest of those statements that make the same difference; it takes minutes.
    :param ways: Only restore each by a transaction and by a swap, and compare the results.
    """
    tally, end = Tally(), time.monotonic() + seconds
    last, over = None, list[tuple[str, ...]]()
    with contextlib.ExitStack() as earlier:
        while tally.kept < count and tally.drawn < 3 * count + 10 and time.monotonic() < end:
            name = f"{seed}-{server.major}-{tally.drawn}"
            tally.drawn += 1
            with contextlib.ExitStack() as stack:
                databases = stack.enter_context(Databases(server))
                built = generator.build(databases(), name)
                judged = judge(databases, built.database)
                if judged is None:
                    continue
                tally.kept += 1
                tally.rewritten += judged.rewritten
                tally.objects.update(built.tally)
                compare = compare_ways if ways else partial(_check, jobs=jobs)
                difference = compare(databases, name, built.database, judged, last, tally.done)
                if difference is not None:
                    tally.differences[name] = difference
                    script = built.script
                    if minimise and not ways:
                        script, over = minimised(server, name, script, over, difference.step, jobs)
                    say(f"DIFFERENCE in {name}: {difference}\n{sql_of(script)}-- over:\n{sql_of(over)}-- end of {name}")
                if tally.kept % _SAID == 0:
                    say(f"PostgreSQL {server.major}: {tally.kept} of {count} done, {len(tally.differences)} differ")
                # The next one is restored over this one.
                earlier.close()
                earlier.push(stack.pop_all())
                last, over = judged, built.script
    return tally


def _check(
    databases: Databases,
    name: str,
    source: Database,
    judged: Judged,
    over: Judged | None,
    done: Counter[str],
    jobs: int = 0,
) -> Difference | None:
    with tempfile.TemporaryDirectory() as folder:
        checks = Checks(databases, Project.create(Path(folder) / "project"), source, judged, random.Random(name), jobs)
        try:
            checks.run(over)
        except Difference as difference:
            return difference
        finally:
            done.update(checks.done)
    return None


def sql_of(script: Script) -> str:
    """Write statements as one script."""
    return "".join(f"{statement};\n" for statements in script for statement in statements)


def attempt(server: Server, name: str, script: Script, over: Script, jobs: int = 0) -> Difference | None:
    """Check the database of a script.

    :param over: The script of another database, which it is restored over.
    """
    with Databases(server) as databases:
        source, other = _replayed(databases, script), _replayed(databases, over) if over else None
        judged = judge(databases, source)
        last = judge(databases, other) if other else None
        return _check(databases, name, source, judged, last, Counter(), jobs) if judged else None


def _replayed(databases: Databases, script: Script) -> Database:
    database = databases()
    generator.replay(database, script)
    return database


def minimised(
    server: Server, name: str, script: Script, over: Script, step: str, jobs: int = 0
) -> tuple[Script, Script]:
    """Drop statements from both scripts, as long as the same step shows a difference."""

    def differs(script: Script, over: Script) -> bool:
        found = attempt(server, name, script, over, jobs)
        return found is not None and found.step == step

    over = [] if differs(script, []) else over
    script = fewest(script, lambda fewer: differs(fewer, over))
    return script, fewest(over, lambda fewer: differs(script, fewer))


def fewest(script: Script, differs: Callable[[Script], bool]) -> Script:
    """Drop groups of statements, halves first and then ever fewer at once, as long as the rest differs."""
    size = max(len(script) // 2, 1)
    while script:
        at = len(script)
        while at > 0:
            fewer = script[: max(at - size, 0)] + script[at:]
            if differs(fewer):
                script = fewer
            at -= size
        if size == 1:
            break
        size = max(size // 2, 1)
    return script
