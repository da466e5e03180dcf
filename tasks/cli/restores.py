"""The tasks that change a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..output.preview import migration_warning, reset_warning
from .confirm import confirm_plan
from .output_restores import (
    show_migrated,
    show_rehearsed,
    show_reset,
)
from .restore_steps import carry_out_restore, carry_out_swap_undo, run_restore
from .task import FILE_OR_INPUT, NO_BACKUP, all_given, given, load, task
from .terminal import reporting

if TYPE_CHECKING:
    from invoke.context import Context

    from ..dump.dump import Dumped
    from ..prisma.guarded_migrate import Migrated
    from ..restore.restore import Restored
    from ..safety.swap_undo import SwapUndone
    from ..scratch.rehearse import Rehearsed
    from ..staging.finish import Finished


@task(
    iterable=["schema"],
    help={
        "schema": "schema to empty (repeats); the URL's schema= by default, else public",
    },
)
def reset(
    ctx: Context,
    schema: list[str] | None = None,
    yes: bool = False,
    confirm: str | None = None,
    disconnect: bool = False,
    no_backup: bool = False,
    url_env: str | None = None,
) -> Dumped | None:
    """Empty schemas, keeping their owner, grants, default privileges, comment and extensions."""
    from ..restore.reset import plan_reset, reset_database

    loaded = load(ctx, url_env)
    with reporting(loaded) as report:
        plan = plan_reset(loaded, all_given("--schema", schema), report, backup=not no_backup, disconnect=disconnect)
    confirm_plan(plan, reset_warning(plan), yes=yes, name=given("--confirm", confirm))
    if loaded.dry:
        return None
    with reporting(loaded) as report:
        saved = reset_database(plan, report)
    show_reset(plan, saved)
    return saved


@task(
    reads_input=True,
    iterable=["table", "skip_extension"],
    help={
        "file": FILE_OR_INPUT,
        "table": "restore only this table of the dump, its definition and its rows (repeats; a name or a pattern)",
        "data_only": "with --table: only the rows; they replace those of the table as it is now",
        "into": "restore into a new database of this name on the same server, and leave the configured one as it is",
        "create": "create the database if it does not exist; one that exists must be empty, unless with --clean",
        "method": "how --clean replaces the content: auto, transaction or swap (the setting db.method)",
        "clean": "empty the schemas of the dump first, so that they will hold exactly what the dump holds",
        "finish": "finish a restore that waited for other sessions: put the loaded database in place",
        "no_owner": "leave out the dump's owners; you will own all objects",
        "no_acl": "leave out the dump's grants",
        "create_roles": "create the roles of the dump that are missing on this server, as roles that can't log in",
        "skip_extension": "leave out this extension, if nothing in the dump uses it (repeats)",
        "migrate": "apply the pending migrations in the same step; if one fails, the database is as before",
        "disconnect": "end the other sessions of the database, if the role may: first, or at the end of a swap",
        "no_backup": NO_BACKUP,
        "strict": "refuse a dump if a role of it is missing on this server, or no migration could be applied after it",
    },
)
def restore(
    ctx: Context,
    file: str | None = None,
    table: list[str] | None = None,
    data_only: bool = False,
    into: str | None = None,
    create: bool = False,
    clean: bool = False,
    method: str | None = None,
    yes: bool = False,
    confirm: str | None = None,
    disconnect: bool = False,
    finish: bool = False,
    no_owner: bool = False,
    no_acl: bool = False,
    create_roles: bool = False,
    skip_extension: list[str] | None = None,
    strict: bool = False,
    checksums: bool = False,
    no_backup: bool = False,
    migrate: bool = False,
    trust: bool = False,
    lenient: bool = False,
    jobs: str | None = None,
    preserve_order: bool = False,
    json: bool = False,
    url_env: str | None = None,
) -> Restored | Finished | None:
    """Restore a dump, verified before anyone sees it: in one transaction, or by a swap."""
    return run_restore(**locals())


@task(
    help={
        "to": "the id of the state to restore, or its first four characters or more (db.undos); by default the newest",
        "no_backup": NO_BACKUP,
    }
)
def undo(
    ctx: Context,
    to: str | None = None,
    yes: bool = False,
    confirm: str | None = None,
    disconnect: bool = False,
    no_backup: bool = False,
    trust: bool = False,
    json: bool = False,
    url_env: str | None = None,
) -> Restored | SwapUndone | None:
    """Restore the state before the last restore, reset, migration or undo that changed the database."""
    from ..restore.undo import plan_undo
    from ..safety.swap_undo import SwapUndoPlan

    loaded = load(ctx, url_env, as_json=json)
    choices = {"disconnect": disconnect or loaded.disconnect, "trust": trust, "backup": not no_backup}
    with reporting(loaded) as report:
        plan = plan_undo(loaded, report, to=given("--to", to), **choices)
    if isinstance(plan, SwapUndoPlan):
        return carry_out_swap_undo(plan, yes=yes, name=given("--confirm", confirm))
    return carry_out_restore(plan, yes=yes, name=given("--confirm", confirm))


@task(reads_input=True, help={"file": FILE_OR_INPUT})
def rehearse(
    ctx: Context,
    file: str | None = None,
    trust: bool = False,
    lenient: bool = False,
    jobs: str | None = None,
    preserve_order: bool = False,
    json: bool = False,
    url_env: str | None = None,
) -> Rehearsed | None:
    """Restore a dump into a scratch database on the same server, verify and migrate it, then drop it."""
    from ..scratch.rehearse import rehearse_dump

    loaded = load(ctx, url_env, as_json=json, jobs=jobs)
    choices = {"trust": trust, "lenient": lenient, "preserve_order": preserve_order}
    with reporting(loaded) as report:
        rehearsed = rehearse_dump(loaded, given("--file", file), report, **choices)
    show_rehearsed(rehearsed, as_json=json)
    if rehearsed is not None:
        rehearsed.refuse_differences()
    return rehearsed


@task()
def migrate(
    ctx: Context,
    yes: bool = False,
    confirm: str | None = None,
    no_backup: bool = False,
    json: bool = False,
    url_env: str | None = None,
) -> Migrated | None:
    """Apply the pending migrations with the project's own Prisma, after a safety dump."""
    from ..prisma.guarded_migrate import Migrated, migrate_database, plan_migration
    from ..restore.transaction import try_migrations_undo

    loaded = load(ctx, url_env, as_json=json)
    with reporting(loaded) as report:
        plan = plan_migration(loaded, report, backup=not no_backup)
    confirm_plan(plan, migration_warning(plan), yes=yes, name=given("--confirm", confirm))
    with reporting(loaded) as report:
        migrated = Migrated(plan=plan, saved=migrate_database(plan, report, try_migrations_undo))
    show_migrated(migrated, as_json=json)
    return None if loaded.dry else migrated


@task()
def generate(ctx: Context, url_env: str | None = None) -> None:
    """Generate the client with the project's own Prisma (`prisma generate`)."""
    from ..prisma.migrate import generate_client

    loaded = load(ctx, url_env)
    with reporting(loaded) as report:
        generate_client(loaded, report)
