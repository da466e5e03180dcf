"""The tasks that change a database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .confirm import confirm_finish, confirm_migration, confirm_reset, confirm_restore
from .output_restores import show_finished, show_migrated, show_rehearsed, show_reset, show_restored
from .task import (
    CONFIRM,
    DISCONNECT,
    FILE_OR_INPUT,
    JSON,
    LENIENT,
    NO_BACKUP,
    TRUST,
    URL_ENV,
    YES,
    all_given,
    given,
    load,
    reads_input,
    refuse_flags,
    task,
)
from .terminal import ask, reporting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from invoke.context import Context

    from ..config.settings import Settings
    from ..dump.dump import Dumped
    from ..prisma.guarded_migrate import Migrated
    from ..progress import Report
    from ..restore.finish import Finished
    from ..restore.plan import RestorePlan, RestoreRequest
    from ..restore.restore import Restored
    from ..scratch.rehearse import Rehearsed
    from ..scratch.restore_into import NewDatabase


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
) -> Dumped | None:
    """Empty schemas, keeping their owner, grants, default privileges, comment and extensions."""
    from ..restore.reset import plan_reset, reset_database

    loaded = load(ctx, url_env)
    with reporting(loaded) as report:
        plan = plan_reset(loaded, schema or [], report, backup=not no_backup, disconnect=disconnect)
    confirm_reset(plan, yes=yes, name=given("--confirm", confirm))
    if loaded.dry:
        return None
    with reporting(loaded) as report:
        saved = reset_database(plan, report)
    show_reset(plan, saved)
    return saved


@reads_input
@task(
    iterable=["table", "skip_extension"],
    help={
        "file": FILE_OR_INPUT,
        "table": "restore only this table of the dump, its definition and its rows (repeats; a name or a pattern)",
        "data_only": "with --table: only the rows; they replace those of the table as it is now",
        "into": "restore into a new database of this name on the same server, and leave the configured one as it is",
        "create": "create the database if it does not exist; one that exists must be empty, unless with --clean",
        "method": "how --clean replaces the content: auto, transaction or swap (the setting db.method)",
        "clean": "empty the schemas of the dump first, so that they will hold exactly what the dump holds",
        "yes": YES,
        "confirm": CONFIRM,
        "disconnect": DISCONNECT,
        "finish": "let the loaded database take its place that an earlier restore left because of other sessions",
        "no_owner": "leave out the dump's owners; you will own all objects",
        "no_acl": "leave out the dump's grants",
        "create_roles": "create the roles of the dump that are missing on this server, as roles that can't log in",
        "skip_extension": "leave out this extension, if nothing in the dump uses it (repeats)",
        "checksums": "compare the content of every table, too (of dumps made with --checksums)",
        "no_backup": NO_BACKUP,
        "trust": TRUST,
        "migrate": "apply the pending migrations in the same step; if one fails, the database is as before",
        "strict": "refuse a dump if a role of it is missing on this server, or no migration could be applied after it",
        "lenient": LENIENT,
        "json": JSON,
        "url_env": URL_ENV,
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
    json: bool = False,
    url_env: str | None = None,
) -> Restored | Finished | None:
    """Restore a dump, verified before anyone sees it: in one transaction, or by a swap."""
    flags = dict(locals())
    _refuse_contradictions(flags)
    loaded, name = load(ctx, url_env, as_json=json), given("--confirm", confirm)
    if finish:
        return _finish(loaded, backup=not no_backup, disconnect=disconnect or loaded.disconnect, yes=yes, name=name)
    request = _restore_request(loaded, flags)
    if into is not None or create:
        request, new = _plan_new(loaded, request, given("--into", into), name)
        if new is not None:
            return _restore_into_new(new)
    with reporting(loaded) as report:
        plan = _plan(loaded, request, report)
    return _carry_out(plan, yes=yes, name=name)


@task(
    help={
        "to": "the id of the state to restore, or its first four characters or more (db.undos); by default the newest",
        "yes": YES,
        "confirm": CONFIRM,
        "disconnect": DISCONNECT,
        "no_backup": NO_BACKUP,
        "trust": TRUST,
        "json": JSON,
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
    json: bool = False,
    url_env: str | None = None,
) -> Restored | None:
    """Restore the state before the last restore, reset, migration or undo that changed the database."""
    from ..restore.undo import plan_undo

    loaded, choices = load(ctx, url_env, as_json=json), {"disconnect": disconnect, "trust": trust}
    with reporting(loaded) as report:
        plan = plan_undo(loaded, report, to=given("--to", to), backup=not no_backup, **choices)
    return _carry_out(plan, yes=yes, name=given("--confirm", confirm))


@reads_input
@task(help={"file": FILE_OR_INPUT, "trust": TRUST, "lenient": LENIENT, "json": JSON, "url_env": URL_ENV})
def rehearse(
    ctx: Context,
    file: str | None = None,
    trust: bool = False,
    lenient: bool = False,
    json: bool = False,
    url_env: str | None = None,
) -> Rehearsed | None:
    """Restore a dump into a scratch database on the same server, verify and migrate it, then drop it."""
    from ..scratch.rehearse import rehearse_dump

    loaded = load(ctx, url_env, as_json=json)
    with reporting(loaded) as report:
        rehearsed = rehearse_dump(loaded, given("--file", file), report, trust=trust, lenient=lenient)
    show_rehearsed(rehearsed, as_json=json)
    if rehearsed is not None:
        rehearsed.refuse_differences()
    return rehearsed


@task(help={"yes": YES, "confirm": CONFIRM, "no_backup": NO_BACKUP, "json": JSON, "url_env": URL_ENV})
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
    confirm_migration(plan, yes=yes, name=given("--confirm", confirm))
    with reporting(loaded) as report:
        migrated = Migrated(plan=plan, saved=migrate_database(plan, report, try_migrations_undo))
    show_migrated(migrated, as_json=json)
    return None if loaded.dry else migrated


@task(help={"url_env": URL_ENV})
def generate(ctx: Context, url_env: str | None = None) -> None:
    """Generate the client with the project's own Prisma (`prisma generate`)."""
    from ..prisma.migrate import generate_client

    loaded = load(ctx, url_env)
    with reporting(loaded) as report:
        generate_client(loaded, report)


# The parameters of the task that contradict another one.
_CONTRADICTIONS = {
    "into": ("table", "data_only", "create", "clean", "method", "disconnect", "no_backup"),
    "create": ("table", "data_only"),
}
# Those that --finish takes; the others say what to restore and how.
_OF_FINISH = {"ctx", "finish", "disconnect", "no_backup", "yes", "confirm", "json", "url_env"}
# The flags that have the name of a field of the request.
_SAME = ("clean", "data_only", "strict", "checksums", "migrate", "trust", "lenient", "create_roles")


def _refuse_contradictions(flags: Mapping[str, Any]) -> None:
    """Raise if flags of a restore contradict each other.

    :param flags: The parameters of the task with their values.
    """
    if flags["finish"]:
        refuse_flags("finish", {name: value for name, value in flags.items() if name not in _OF_FINISH})
    for flag, names in _CONTRADICTIONS.items():
        if flags[flag] not in {None, False}:
            refuse_flags(flag, {name: flags[name] for name in names})


def _restore_request(settings: Settings, flags: Mapping[str, Any]) -> RestoreRequest:
    """Return the request of a restore.

    :param flags: As in :func:`_refuse_contradictions`.
    """
    from ..restore.method import chosen_method
    from ..restore.plan import RestoreRequest

    return RestoreRequest(
        file=given("--file", flags["file"]),
        method=chosen_method(settings, given("--method", flags["method"])),
        tables=all_given("--table", flags["table"]),
        skip_extensions=all_given("--skip-extension", flags["skip_extension"]),
        owners=not flags["no_owner"],
        privileges=not flags["no_acl"],
        backup=not flags["no_backup"],
        disconnect=flags["disconnect"] or settings.disconnect,
        **{name: flags[name] for name in _SAME},
    )


def _plan(settings: Settings, request: RestoreRequest, report: Report) -> RestorePlan:
    if request.migrate:
        from ..restore.with_migration import plan_restore_and_migration

        return plan_restore_and_migration(settings, request, report)
    from ..restore.plan import plan_restore

    return plan_restore(settings, request, report)


def _plan_new(
    settings: Settings, request: RestoreRequest, into: str, name: str
) -> tuple[RestoreRequest, NewDatabase | None]:
    """Return the plan of a restore into a new database; None if the database exists, for an ordinary restore."""
    from ..scratch.restore_into import NewDatabase, plan_creation, plan_restore_into

    with reporting(settings) as report:
        if into:
            return request, plan_restore_into(settings, request, into, report, confirm=name)
        found = plan_creation(settings, request, report, confirm=name)
    return (request, found) if isinstance(found, NewDatabase) else (found, None)


def _restore_into_new(plan: NewDatabase) -> Restored | None:
    from ..scratch.restore_into import restore_into_new

    restored = None
    with reporting(plan.settings) as report:
        if plan.settings.dry:
            report.step(f"would restore {plan.dump.name} into the new database {plan.target.label}")
        else:
            restored = restore_into_new(plan, report)
    show_restored(restored, as_json=plan.settings.as_json)
    if restored is not None:
        restored.refuse_differences(f"The restore into {plan.target.label} is committed")
    return restored


def _carry_out(plan: RestorePlan, *, yes: bool, name: str) -> Restored | None:
    from ..restore.swap_restore import restore_by_method

    plan = confirm_restore(_settled(plan), yes=yes, name=name)
    restored = None
    if not plan.settings.dry:
        with reporting(plan.settings) as report:
            restored = restore_by_method(plan, report)
    show_restored(restored, as_json=plan.settings.as_json)
    if restored is not None:
        restored.refuse_differences(f"The restore into {plan.target.label} is committed")
    return restored


def _settled(plan: RestorePlan) -> RestorePlan:
    """Return the plan after the question whether a swap may end other sessions; a dry run asks nothing."""
    from ..restore.method import sessions_question
    from ..restore.swap_restore import settle_sessions

    question = sessions_question(plan.method)
    return settle_sessions(plan, ask(question)) if question and not plan.settings.dry else plan


def _finish(settings: Settings, *, backup: bool, disconnect: bool, yes: bool, name: str) -> Finished | None:
    from ..restore.finish import finish_restore, plan_finish, settle_finish
    from ..restore.method import sessions_question

    with reporting(settings):
        plan = plan_finish(settings, backup=backup, disconnect=disconnect)
    question = sessions_question(plan.method)
    if question and not settings.dry:
        plan = settle_finish(plan, ask(question))
    confirm_finish(plan, yes=yes, name=name)
    finished = None
    if not settings.dry:
        with reporting(settings) as report:
            finished = finish_restore(plan, report)
    show_finished(finished, as_json=settings.as_json)
    if finished is not None:
        finished.refuse_differences()
    return finished
