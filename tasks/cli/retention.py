"""The tasks that pin and delete dumps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .confirm import confirm as ask_for_yes
from .confirm import confirm_plan
from .output_retention import (
    describe_deletion,
    describe_kept_deletion,
    describe_prune,
    show_deleted,
    show_no_policy,
    show_pinned,
    show_prune_plan,
    show_pruned,
)
from .task import FILE_NEEDED, given, load, task
from .terminal import reporting

if TYPE_CHECKING:
    from invoke.context import Context

    from ..config.settings import Settings
    from ..safety.own_databases import DatabaseRecord


@task(help={"file": FILE_NEEDED, "unpin": "allow db.prune and db.delete to delete it again"})
def pin(ctx: Context, file: str | None = None, unpin: bool = False) -> None:
    """Pin a dump, so that db.prune and db.delete never delete it."""
    from ..dumpfiles.pin import pin_dump

    loaded = load(ctx)
    path, changed = pin_dump(loaded, given("--file", file), pinned=not unpin)
    show_pinned(path, pinned=not unpin, changed=changed, dry=loaded.dry)


@task(
    help={
        "file": f"{FILE_NEEDED}; or the id or name of a kept database",
        "confirm": "the name of the configured database; needed for a kept database if the server is not local",
    }
)
def delete(
    ctx: Context,
    file: str | None = None,
    yes: bool = False,
    confirm: str | None = None,
    url_env: str | None = None,
) -> None:
    """Delete a dump and its manifest, unless it is pinned; or a database that was kept for db.undo."""
    from ..dumpfiles.deletion import carry_out_deletion, plan_deletion
    from ..safety.kept_databases import find_kept_record

    loaded, named = load(ctx, url_env), given("--file", file)
    if (record := find_kept_record(loaded, named)) is not None:
        _delete_kept(loaded, record, yes=yes, name=given("--confirm", confirm))
        return
    doomed = plan_deletion(loaded, named)
    ask_for_yes(describe_deletion(doomed.dump, dry=loaded.dry), yes=yes or loaded.dry)
    if not loaded.dry:
        carry_out_deletion(loaded, doomed)
        show_deleted(doomed.dump.name, doomed.dump.size)


def _delete_kept(settings: Settings, record: DatabaseRecord, *, yes: bool, name: str) -> None:
    from ..safety.kept_databases import drop_kept_database, plan_kept_deletion

    plan = plan_kept_deletion(settings, record)
    confirm_plan(plan, describe_kept_deletion(record), yes=yes, name=name)
    if not settings.dry:
        drop_kept_database(plan.target, record, settings.dumps)
        show_deleted(f"The database {record.database}", record.size)


@task()
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
    ask_for_yes(describe_prune(plan), yes=yes or loaded.dry or not plan.doomed)
    with reporting(loaded) as report:
        deleted = () if loaded.dry else carry_out_prune(plan, report)
    show_pruned(plan, deleted, as_json=json)
