"""The tally as tables of Markdown, for a terminal and for docs/faults.md."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from tests.faults import damage, migrating, pipe
from tests.faults.aimed import PHASES
from tests.faults.campaign import Tally
from tests.faults.lane import OPERATIONS, PG_DUMP, SERVER, SIGNALS

BEGIN: Final = "<!-- tally: written by `uv run python -m tests.faults --write` -->"
END: Final = "<!-- end of the tally -->"


def name_of(operation: str) -> str:
    """Return what is typed."""
    return {"swap": "`db.restore` by a swap", "undo-swap": "`db.undo` of a swap"}.get(operation, f"`db.{operation}`")


def markdown(tally: Tally, seed: int) -> str:
    """Write everything that was counted."""
    kills, pipes, files = len(tally.outcomes), len(tally.piped), len(tally.damaged)
    first = (
        f"Seed {seed}: {kills:,} kills of our program and {pipes:,} of psql's pipeline; {files:,} damaged dumps, each "
        f"restored by us and loaded by psql. Promises broken: {len(tally.violations)}."
    )
    parts = [
        first,
        "### Where the kills landed",
        _phases(tally),
        "### What was killed",
        _victims(tally),
        "### While Prisma's migrations run in the staging database: `db.restore --clean --migrate` by a swap",
        migrations(tally),
        "### The same kills while a dump loads: `db.restore --clean`, and `gunzip -c dump.sql.gz | psql -1`",
        _beside(tally),
        "### Cuts and flipped bits",
        _damage(tally),
        blind_share(tally),
    ]
    return "\n\n".join(parts)


def blind_share(tally: Tally) -> str:
    """Say how many flipped bits went unseen where nothing vouches for the content."""
    found = [each.state for each in tally.damaged if (each.kind, each.form) == ("flip", damage.BLIND)]
    unseen = found.count("damaged")
    share = f"{unseen / len(found):.0%}" if found else "-"
    return f"Unseen without a manifest, in a plain dump: {unseen} of {len(found)} flipped bits ({share})."


def _phases(tally: Tally) -> str:
    rows: list[Sequence[object]] = []
    for operation in OPERATIONS:
        for phase in PHASES[operation]:
            states = [each.state for each in tally.outcomes if (each.operation, each.phase) == (operation, phase)]
            rows.append([name_of(operation), phase, len(states), states.count("old"), states.count("new")])
    return _table(["operation", "phase", "faults", "ended old", "ended new"], rows)


def _victims(tally: Tally) -> str:
    def cell(operation: str, victim: str) -> str:
        states = [each.state for each in tally.outcomes if (each.operation, each.victim) == (operation, victim)]
        return f"{states.count('old')} + {states.count('new')}" if states else ""

    rows = [[victim, *(cell(each, victim) for each in OPERATIONS)] for victim in (*SIGNALS, PG_DUMP, *SERVER)]
    return _table(["killed (old + new)", *(name_of(each) for each in OPERATIONS)], rows)


def migrations(tally: Tally) -> str:
    """Return the table of states of the live database after kills during migrations."""
    rows: list[Sequence[object]] = []
    for kind, victims in migrating.VICTIMS.items():
        for moment in migrating.MOMENTS:
            states = [
                each.state
                for each in tally.outcomes
                if (each.operation, each.phase) == (migrating.OPERATION, moment) and each.victim in victims
            ]
            rows.append([kind, moment, len(states), states.count("old"), states.count("new")])
    return _table(["killed", "in the migration", "faults", "ended old", "ended new, fully migrated"], rows)


def _beside(tally: Tally) -> str:
    rows: list[Sequence[object]] = []
    for victim in pipe.VICTIMS:
        ours = [
            each.state
            for each in tally.outcomes
            if each.operation == "restore" and each.victim == victim.replace("psql", "us")
        ]
        theirs = [(state, code) for each, state, code in tally.piped if each == victim]
        rows.append([victim.replace("psql: ", "the loader: "), *_three(ours), *_three([state for state, _ in theirs])])
    return _table(["killed", "we: old", "new", "damaged", "psql: old", "new", "damaged"], rows)


def _damage(tally: Tally) -> str:
    rows: list[Sequence[object]] = []
    for kind in damage.KINDS:
        for form in damage.FORMS:
            found = [each for each in tally.damaged if (each.kind, each.form) == (kind, form)]
            silent = sum(each.psql == "damaged" and each.psql_code == 0 for each in found)
            ours, theirs = [each.state for each in found], [each.psql for each in found]
            rows.append([kind, form, len(found), *_three(ours), *_three(theirs), silent])
    head = ["damage", "dump", "faults", "we: old", "new", "damaged", "psql: old", "new", "damaged", "of them exit 0"]
    return _table(head, rows)


def _three(states: Iterable[str]) -> list[object]:
    found = list(states)
    return [found.count("old"), found.count("new"), found.count("damaged")]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    line: Callable[[Iterable[object]], str] = lambda cells: f"| {' | '.join(str(each) for each in cells)} |"  # noqa: E731
    return "\n".join([line(head), line(["---"] * len(head)), *(line(row) for row in rows)])
