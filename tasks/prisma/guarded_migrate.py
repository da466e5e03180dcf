"""Apply migrations after a safety dump, which is kept unless nothing was changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..dumpfiles.origin import other_owners
from ..errors import Effect, OperationFailedError, ServerError, TaskError
from ..inventory.reload_risks import find_reload_doubt
from ..inventory.snapshot import read_history
from ..postgres.connection import Endpoint, ServerFacts, connected, translated
from ..postgres.databases import database_exists
from ..postgres.roles import read_owners
from ..progress import Report, Silence
from ..safety.guard import guarded_connection, nonlocal_reason, unprotected_target
from ..safety.impact import filled_schemas
from ..safety.restore_log import record_path, record_unsaved
from ..safety.safety_dump import SafetyDump, check_pg_dump
from ..safety.scratch_database import on_database
from ..safety.trust import author_risk
from ..system.runtime import Interruption, listen_again
from .forecast import Forecast, forecast_migrate, read_application
from .migrate import find_migrations_cli, refuse_another_database, run_migrations

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.settings import Settings
    from ..config.target import Target
    from ..dump.dump import Dumped


# Every cluster has this database. Prisma connects to it, too, to create a database.
_MAINTENANCE = "postgres"


@dataclass(frozen=True)
class MigrationPlan:
    """A planned run of `db.migrate`.

    :ivar server: None if the database does not exist yet (Prisma creates it); `endpoint`, too.
    :ivar nonlocal_reason: Why the database does not count as local; empty if it does, or nothing can be lost.
    :ivar forecast: The pending migrations; None if only Prisma or the project's own command can find them.
    :ivar holds: Whether the database holds any objects.
    :ivar makes_safety_dump: Whether a safety dump is made first.
    :ivar undo_needs_trust: Whether `db.undo` will need `--trust`, because of objects of other roles.
    :ivar reload_doubt: Why the safety dump may not load as it is; empty if nothing is known.
    """

    settings: Settings
    target: Target
    server: ServerFacts | None = None
    endpoint: Endpoint | None = None
    nonlocal_reason: str = ""
    forecast: Forecast | None = None
    holds: bool = False
    makes_safety_dump: bool = False
    undo_needs_trust: bool = False
    reload_doubt: str = ""

    @property
    def tries_undo(self) -> bool:
        """Return whether the safety dump is loaded as a trial: if it may not load, and that needs no `--trust`."""
        return bool(self.reload_doubt) and not self.undo_needs_trust

    @property
    def undo_command(self) -> str:
        """Return the command that restores the safety dump of this migration."""
        name = self.endpoint.database if self.nonlocal_reason and self.endpoint else ""
        return self.settings.undo_command(trust=self.undo_needs_trust, name=name)

    @property
    def applies(self) -> bool:
        """Return whether a migration is pending, or may be."""
        return self.forecast is None or bool(self.forecast.pending)

    @property
    def runs(self) -> bool:
        """Return whether Prisma is run: to apply migrations, or to report why it can't."""
        return self.applies or (self.forecast is not None and self.forecast.refused)

    @property
    def destroys(self) -> bool:
        """Return whether existing objects or rows may be changed or deleted."""
        return self.applies and self.holds


@dataclass(frozen=True)
class Migrated:
    """A finished run of `db.migrate`.

    :ivar saved: The safety dump made before; None if none was made.
    """

    plan: MigrationPlan
    saved: Dumped | None

    @property
    def applied(self) -> tuple[str, ...] | None:
        """Return the migrations that were applied; None if the project's own command applied them."""
        return None if self.plan.forecast is None else tuple(self.plan.forecast.pending)


def plan_migration(settings: Settings, report: Report, *, backup: bool = True) -> MigrationPlan:
    """Plan a migration and warn of problems that Prisma will have; touch nothing.

    :param backup: Make a safety dump first if anything may be lost.
    :raises TaskError: The migration can't work, or the guard refuses it.
    """
    target = unprotected_target(settings)
    refuse_another_database(settings, target)
    prisma = find_migrations_cli(settings)
    try:
        plan = _read_plan(settings, target, report, knows_history=prisma.knows_history)
    except ServerError:
        if not _is_missing(target):
            raise
        return MigrationPlan(settings=settings, target=target)
    makes_safety_dump = backup and settings.safety_dumps > 0 and plan.destroys
    if makes_safety_dump and plan.server is not None:
        check_pg_dump(settings, plan.server)
    return replace(
        plan, makes_safety_dump=makes_safety_dump, nonlocal_reason=plan.nonlocal_reason if plan.destroys else ""
    )


def _read_plan(settings: Settings, target: Target, report: Report, *, knows_history: bool) -> MigrationPlan:
    with guarded_connection(settings, target) as (connection, server, endpoint):
        others = other_owners(read_owners(connection), server.user)
        return MigrationPlan(
            settings=settings,
            target=target,
            server=server,
            endpoint=endpoint,
            nonlocal_reason=nonlocal_reason(settings, endpoint),
            forecast=forecast_migrate(settings, target, connection, report) if knows_history else None,
            holds=bool(filled_schemas(connection)),
            undo_needs_trust=bool(author_risk(connection, settings, endpoint, settings.dumps, others)),
            reload_doubt=find_reload_doubt(connection),
        )


def _is_missing(target: Target) -> bool:
    """Return whether the server has no such database, asked over its maintenance database."""
    other = on_database(target, _MAINTENANCE)
    try:
        with connected(other) as connection, translated("Searching for the database failed", other):
            return not database_exists(connection, target.database)
    except TaskError:
        return False


def migrate_database(
    plan: MigrationPlan, report: Report, try_undo: Callable[[SafetyDump, Target, Report], None]
) -> Dumped | None:
    """Make the safety dump and apply the pending migrations; do nothing if none is pending.

    :param try_undo: Loads the safety dump as a trial, changes nothing, and raises a TaskError if that fails.
    :return: The safety dump made before; None if none was made.
    :raises OperationFailedError: Prisma failed; the message has the state of the database and the command to undo.
    """
    if not plan.runs:
        return None
    safety = _make_safety_dump(plan, report)
    if safety is not None and plan.tries_undo:
        try:
            try_undo(safety, plan.target, report)
        except BaseException:
            safety.discard()
            raise
    try:
        run_migrations(plan.settings, report)
    except OperationFailedError as error:
        state, effect = _state_after_failure(plan, safety)
        raise OperationFailedError(f"{error} {state}", effect=effect) from None
    except Interruption as interruption:
        listen_again()
        state, interruption.effect = _state_after_failure(plan, safety)
        interruption.state = f"{interruption.state} {state}"
        raise
    if safety is None:
        _record_unsaved(plan, report)
        return None
    safety.keep()
    return safety.dumped


def _record_unsaved(plan: MigrationPlan, report: Report) -> None:
    """Record that `db.undo` will restore an older state than that before this migration."""
    if plan.server is None or not plan.holds or plan.settings.dry:
        return
    path = record_path(plan.settings.dumps, plan.target, plan.server)
    try:
        record_unsaved(path, plan.target.label, "migration")
    except OSError as error:
        report.warn(f"The record that this migration made no safety dump could not be written: {error.strerror}.")


def _make_safety_dump(plan: MigrationPlan, report: Report) -> SafetyDump | None:
    if not plan.makes_safety_dump or plan.settings.dry or plan.server is None or plan.endpoint is None:
        return None
    safety = SafetyDump(
        settings=plan.settings,
        server=plan.server,
        endpoint=plan.endpoint,
        before="migrating",
        wanted=True,
        command="db.migrate",
    )
    safety.dump(report)
    return safety


def _state_after_failure(plan: MigrationPlan, safety: SafetyDump | None) -> tuple[str, Effect]:
    """Return the state of the database after a failed run; delete the safety dump if nothing was changed."""
    if _is_unchanged(plan):
        if safety is not None:
            safety.discard()
        return "No migration was started, and nothing was changed in the database.", Effect.UNCHANGED
    # The project's own command may write no history to compare.
    effect = Effect.CHANGED if plan.forecast is not None else Effect.UNKNOWN
    left = "Migrations before the failing one are applied; `inv db.migrations` shows which."
    if safety is None or safety.dumped is None:
        return f"{left} There is no safety dump of the state before.", effect
    safety.keep()
    return f"{left} `{plan.undo_command}` restores the state before this `db.migrate`.", effect


def _is_unchanged(plan: MigrationPlan) -> bool:
    """Return whether the migration history is unchanged: Prisma records a migration before it starts it."""
    if plan.forecast is None:
        return False
    try:
        with (
            connected(plan.target, lock_timeout=plan.settings.lock_timeout) as connection,
            translated("Reading the migration history failed", plan.target),
        ):
            schema = read_application(plan.settings, plan.target, Silence()).schema
            return read_history(connection, schema) == plan.forecast.history
    except TaskError:
        return False
