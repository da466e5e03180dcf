"""The tasks that pin and delete dumps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .confirm import confirm
from .output_retention import (
    describe_deletion,
    describe_prune,
    show_deleted,
    show_no_policy,
    show_pinned,
    show_prune_plan,
    show_pruned,
)
from .task import FILE_NEEDED, JSON, YES, given, load, task
from .terminal import reporting

if TYPE_CHECKING:
    from invoke.context import Context


@task(help={"file": FILE_NEEDED, "unpin": "allow db.prune and db.delete to delete it again"})
def pin(ctx: Context, file: str | None = None, unpin: bool = False) -> None:
    """Pin a dump, so that db.prune and db.delete never delete it."""
    from ..dumpfiles.pin import pin_dump

    loaded = load(ctx)
    path, changed = pin_dump(loaded, given("--file", file), pinned=not unpin)
    show_pinned(path, pinned=not unpin, changed=changed, dry=loaded.dry)


@task(help={"file": FILE_NEEDED, "yes": YES})
def delete(ctx: Context, file: str | None = None, yes: bool = False) -> None:
    """Delete a dump and its manifest, unless it is pinned."""
    from ..dumpfiles.deletion import carry_out_deletion, plan_deletion

    loaded = load(ctx)
    doomed = plan_deletion(loaded, given("--file", file))
    confirm(describe_deletion(doomed.dump, dry=loaded.dry), yes=yes or loaded.dry)
    if not loaded.dry:
        carry_out_deletion(loaded, doomed)
        show_deleted(doomed.dump)


@task(help={"yes": YES, "json": JSON})
def prune(ctx: Context, yes: bool = False, json: bool = False) -> None:
    """Delete the dumps that the setting db.keep does not keep, after showing each with the reason."""
    from ..dumpfiles.prune import carry_out_prune, plan_prune

    loaded = load(ctx, as_json=json)
    plan = plan_prune(loaded)
    if plan is None:
        show_no_policy(as_json=json)
        return
    if not json and (loaded.dry or loaded.output.value != "quiet"):
        show_prune_plan(plan)
    confirm(describe_prune(plan), yes=yes or loaded.dry or not plan.doomed)
    with reporting(loaded) as report:
        deleted = () if loaded.dry else carry_out_prune(plan, report)
    show_pruned(plan, deleted, as_json=json)
