"""The tasks that change what a database holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .confirm import confirm_migration, confirm_reset, confirm_restore
from .output_restores import show_migrated, show_rehearsed, show_reset, show_restored
from .task import CONFIRM, DISCONNECT, DUMP_OF, LENIENT, NO_BACKUP, TRUST, URL_ENV, YES, given, load, reads_input, task
from .terminal import reporting

if TYPE_CHECKING:
    from invoke.context import Context

    from ..restore.plan import RestorePlan


@task(
    iterable=["schema"],
    help={
        "schema": "schema to empty (repeats); the URL's schema= by default, else public",
        "yes": YES,
        "confirm": CONFIRM,
        "disconnect": DISCONNECT,
        "no_backup": NO_BACKUP,
        "url_env": URL_ENV,
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
) -> None:
    """Empty schemas, keeping their owner, grants, default privileges, comment and extensions."""
    from ..restore.reset import plan_reset, reset_database

    loaded = load(ctx, url_env)
    with reporting(loaded) as report:
        plan = plan_reset(loaded, schema or [], report, backup=not no_backup, disconnect=disconnect)
    confirm_reset(plan, yes=yes, name=given("--confirm", confirm))
    if not loaded.dry:
        with reporting(loaded) as report:
            saved = reset_database(plan, report)
        show_reset(plan, saved)


@reads_input
@task(
    iterable=["skip_extension"],
    help={
        "file": DUMP_OF,
        "clean": "empty the schemas that the dump fills first, so that they hold exactly what the dump holds",
        "yes": YES,
        "confirm": CONFIRM,
        "disconnect": DISCONNECT,
        "no_owner": "leave out the dump's owners: everything is yours",
        "no_acl": "leave out the dump's grants",
        "create_roles": "create the roles that the dump names and that are missing here, as roles that can't log in",
        "skip_extension": "an extension of the dump to leave out, where nothing in the dump uses it (repeats)",
        "checksums": "compare the content of every table, too (of dumps made with --checksums)",
        "no_backup": NO_BACKUP,
        "trust": TRUST,
        "migrate": "apply the pending migrations in the same step: if one fails, the database is again as it was",
        "strict": "refuse a dump that names roles which are missing here, or after which no migration can be applied",
        "lenient": LENIENT,
        "url_env": URL_ENV,
    },
)
def restore(
    ctx: Context,
    file: str | None = None,
    clean: bool = False,
    yes: bool = False,
    confirm: str | None = None,
    disconnect: bool = False,
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
    url_env: str | None = None,
) -> None:
    """Restore a dump in one transaction, verified before it is committed."""
    from ..restore.plan import RestoreRequest, plan_restore
    from ..restore.with_migration import plan_restore_and_migration

    loaded = load(ctx, url_env)
    choices = {"strict": strict, "checksums": checksums, "migrate": migrate, "disconnect": disconnect}
    choices |= {"trust": trust, "lenient": lenient, "backup": not no_backup, "create_roles": create_roles}
    choices |= {"owners": not no_owner, "privileges": not no_acl, "clean": clean}
    skipped = tuple(given("--skip-extension", name) for name in skip_extension or ())
    request = RestoreRequest(file=given("--file", file), skip_extensions=skipped, **choices)
    with reporting(loaded) as report:
        plan = (plan_restore_and_migration if migrate else plan_restore)(loaded, request, report)
    _carry_out(plan, yes=yes, name=given("--confirm", confirm))


@task(
    help={
        "to": "the id of the state to go back to, or four digits of it or more (db.undos); by default the newest",
        "yes": YES,
        "confirm": CONFIRM,
        "disconnect": DISCONNECT,
        "no_backup": NO_BACKUP,
        "trust": TRUST,
        "url_env": URL_ENV,
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
    url_env: str | None = None,
) -> None:
    """Bring back what the database held before the last restore over it, reset, migration or undo."""
    from ..restore.undo import plan_undo

    loaded, choices = load(ctx, url_env), {"disconnect": disconnect, "trust": trust}
    with reporting(loaded) as report:
        plan = plan_undo(loaded, report, to=given("--to", to), backup=not no_backup, **choices)
    _carry_out(plan, yes=yes, name=given("--confirm", confirm))


@reads_input
@task(help={"file": DUMP_OF, "trust": TRUST, "lenient": LENIENT, "url_env": URL_ENV})
def rehearse(
    ctx: Context, file: str | None = None, trust: bool = False, lenient: bool = False, url_env: str | None = None
) -> None:
    """Restore a dump into a scratch database beside the real one, verify and migrate it, and remove it."""
    from ..restore.rehearse import rehearse_dump

    loaded = load(ctx, url_env)
    with reporting(loaded) as report:
        rehearsed = rehearse_dump(loaded, given("--file", file), report, trust=trust, lenient=lenient)
    if rehearsed is not None:
        show_rehearsed(rehearsed)
        rehearsed.restored.refuse_differences(f"{rehearsed.path.name} restores")


@task(help={"yes": YES, "confirm": CONFIRM, "no_backup": NO_BACKUP, "url_env": URL_ENV})
def migrate(
    ctx: Context,
    yes: bool = False,
    confirm: str | None = None,
    no_backup: bool = False,
    url_env: str | None = None,
) -> None:
    """Apply the pending migrations with the project's own Prisma, after a safety dump."""
    from ..prisma.guarded_migrate import migrate_database, plan_migration

    loaded = load(ctx, url_env)
    with reporting(loaded) as report:
        plan = plan_migration(loaded, report, backup=not no_backup)
    confirm_migration(plan, yes=yes, name=given("--confirm", confirm))
    with reporting(loaded) as report:
        saved = migrate_database(plan, report)
    show_migrated(plan, saved)


@task(help={"url_env": URL_ENV})
def generate(ctx: Context, url_env: str | None = None) -> None:
    """Generate the client: `prisma generate` with the project's own Prisma."""
    from ..prisma.migrate import generate_client

    loaded = load(ctx, url_env)
    with reporting(loaded) as report:
        generate_client(loaded, report)


def _carry_out(plan: RestorePlan, *, yes: bool, name: str) -> None:
    from ..restore.restore import restore_dump
    from ..restore.with_migration import restore_and_migrate

    plan = confirm_restore(plan, yes=yes, name=name)
    if not plan.settings.dry:
        act = restore_and_migrate if plan.request.migrate else restore_dump
        with reporting(plan.settings) as report:
            restored = act(plan, report)
        show_restored(restored)
        restored.refuse_differences(f"The restore into {plan.target.label} is committed")
