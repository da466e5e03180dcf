"""Print the results of the tasks that pin and delete dumps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..formatting import format_age, format_count, format_size
from ..output.dump_documents import pruned_document
from .output_dumps import describe_state, print_dumps
from .terminal import print_json, print_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..dumpfiles.catalog import Listed
    from ..dumpfiles.prune import PrunePlan
    from ..safety.own_databases import DatabaseRecord


_DRY = "Dry run (--dry): nothing was deleted."


def show_pinned(path: Path, *, pinned: bool, changed: bool, dry: bool) -> None:
    """Print whether a dump is pinned now."""
    state = "pinned" if pinned else "not pinned"
    if not changed:
        print_line(f"{path.name} was {state} already.")
    elif dry:
        print_line(f"{path.name} would be {state}.")
    else:
        print_line(f"{path.name} is {state} now.")


def describe_deletion(dump: Listed, *, dry: bool) -> list[str]:
    """Return what `db.delete` will delete, as lines."""
    rows = "" if dump.rows is None else f", {format_count(dump.rows, 'row')}"
    age = format_age(datetime.now(UTC) - dump.when)
    lines = [
        f"Will be deleted: {dump.path}",
        f"  {format_size(dump.size)}{rows}, made {age} ago, {describe_state(dump)}",
    ]
    if dump.note:
        lines.append(f"  Note: {dump.note}")
    if dump.safety:
        lines.append("  It is a safety dump: `inv db.undo` will not be able to restore it.")
    return [*lines, _DRY] if dry else lines


def show_deleted(what: str, size: int) -> None:
    """Print that a dump or a kept database was deleted."""
    print_line(f"{what} was deleted, {format_size(size)}.")


def describe_kept_deletion(record: DatabaseRecord) -> list[str]:
    """Return what `db.delete` will delete of a server, as lines."""
    age = format_age(datetime.now(UTC) - record.when)
    return [
        f"Will be deleted: the database {record.database}",
        f"  {format_size(record.size)}, kept {age} ago before `{record.command}`",
        "  `inv db.undo` will not be able to put it back.",
    ]


def show_no_policy(*, as_json: bool) -> None:
    """Print that no policy is set."""
    if as_json:
        print_json({"policy": None, "dumps": []})
        return
    print_line(
        "The setting db.keep is not set, so nothing is deleted. Set it in invoke.yaml as below, then check the plan "
        "with `inv --dry db.prune`:"
    )
    print_line('  db: {keep: "last=3 daily=7 weekly=4 monthly=12 yearly=2"}')


def show_prune_plan(plan: PrunePlan) -> None:
    """Print every dump with whether it is kept, and why."""
    verdicts = {
        name: f"{'keep' if each.kept else 'DELETE'}: {', '.join(each.reasons)}" for name, each in plan.verdicts.items()
    }
    if not plan.dumps:
        print_line(f"There are no dumps in {plan.settings.dumps}.")
        return
    print_dumps(plan.dumps, [each.id for each in plan.dumps], verdicts)
    for each in plan.dumps:
        if each.defect:
            print_line(f"{each.name} is broken: {each.defect}. `inv db.delete --file={each.name}` deletes it.")


def describe_prune(plan: PrunePlan) -> list[str]:
    """Return what `db.prune` will delete, as lines."""
    doomed = {each.dump.name for each in plan.doomed}
    kept = [each for each in plan.dumps if each.name not in doomed]
    deleted = _amount([each.dump for each in plan.doomed]) if doomed else "nothing"
    lines = [f"Will be deleted: {deleted}. Will be kept: {_amount(kept)}."]
    return [*lines, _DRY] if plan.settings.dry else lines


def show_pruned(plan: PrunePlan, deleted: Sequence[Listed], *, as_json: bool) -> None:
    """Print what was deleted; as JSON, every dump with whether it is kept, and why."""
    if as_json:
        print_json(pruned_document(plan, deleted))
    elif deleted:
        print_line(f"Deleted {_amount(deleted)}.")


def _amount(dumps: Sequence[Listed]) -> str:
    return f"{format_count(len(dumps), 'dump')}, {format_size(sum(each.size for each in dumps))}"
