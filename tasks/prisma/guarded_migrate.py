"""Migrate with a guard: say what is pending, make a safety dump first, and keep it unless nothing was changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..dump.dump import make_dump
from ..dump.request import DumpRequest
from ..dumpfiles.origin import other_owners
from ..errors import Effect, OperationFailedError, ServerError, TaskError
from ..formatting import format_now
from ..inventory.reload_risks import find_reload_doubt
from ..postgres.connection import connected, one, read_endpoint, server_facts, translated
from ..postgres.roles import read_owners
from ..safety.guard import nonlocal_reason, refuse_protected
from ..safety.impact import filled_schemas
from ..safety.restore_log import record_path, record_unsaved
from ..safety.safety_dump import NO_BACKUP_HINT, SafetyDump, check_pg_dump
from ..safety.trust import author_risk
from ..system.runtime import Interruption, listen_again
from .forecast import Forecast, forecast_migrate, read_deployed
from .migrate import find_migrations_cli, refuse_another_database, run_migrations

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.settings import Settings
    from ..config.target import Target
    from ..dump.dump import Dumped
    from ..postgres.connection import Endpoint, ServerFacts
    from ..progress import Report


# Every cluster has it, and Prisma connects to it, too, to create a database.
_MAINTENANCE = "postgres"


@dataclass(frozen=True)
class MigrationPlan:
    """What `db.migrate` will do.

    :ivar server: None where the database does not exist yet; Prisma creates it. So is `endpoint`.
    :ivar nonlocal_reason: Why the database does not count as local, where anything may be lost.
    :ivar forecast: What is pending; None where only Prisma, or the project's own command, knows.
    :ivar holds: Whether the database holds anything.
    :ivar makes_safety_dump: Whether a safety dump is made first.
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
        """Whether the safety dump may be loaded without a question, to see that it can be."""
        return not self.undo_needs_trust

    @property
    def undo_command(self) -> str:
        """The command that restores the safety dump of this."""
        name = self.endpoint.database if self.nonlocal_reason and self.endpoint else ""
        return self.settings.undo_command(trust=self.undo_needs_trust, name=name)

    @property
    def applies(self) -> bool:
        """Whether a migration is pending, or may be."""
        return self.forecast is None or bool(self.forecast.pending)

    @property
    def runs(self) -> bool:
        """Whether Prisma is run: to apply migrations, or to say why it can't."""
        return self.applies or (self.forecast is not None and self.forecast.refused)

    @property
    def destroys(self) -> bool:
        """Whether anything that exists may be changed or deleted."""
        return self.applies and self.holds


@dataclass(frozen=True)
class Migrated:
    """A migration that was carried out.

    :ivar saved: The safety dump of what was there before; None where none was made.
    """

    plan: MigrationPlan
    saved: Dumped | None

    @property
    def applied(self) -> tuple[str, ...] | None:
        """The migrations that were applied; None where only the project's own command knows."""
        return None if self.plan.forecast is None else tuple(self.plan.forecast.pending)


def plan_migration(settings: Settings, report: Report, *, backup: bool = True) -> MigrationPlan:
    """Look at what a migration would do, say what Prisma will meet, and touch nothing.

    :param backup: Make a safety dump first, where anything may be lost.
    :raises TaskError: It would not work, or must not be done.
    """
    target = settings.target()
    refuse_protected(settings, target)
    refuse_another_database(settings, target)
    prisma = find_migrations_cli(settings)
    try:
        plan = _look(settings, target, report, knows_history=prisma.knows_history)
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


def _look(settings: Settings, target: Target, report: Report, *, knows_history: bool) -> MigrationPlan:
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("Looking at the database failed, nothing was touched", target),
    ):
        server = server_facts(connection)
        endpoint = read_endpoint(connection, server)
        refuse_protected(settings, target, endpoint)
        here = other_owners(read_owners(connection), server.user)
        return MigrationPlan(
            settings=settings,
            target=target,
            server=server,
            endpoint=endpoint,
            nonlocal_reason=nonlocal_reason(settings, endpoint),
            forecast=forecast_migrate(settings, target, connection, report) if knows_history else None,
            holds=bool(filled_schemas(connection)),
            undo_needs_trust=bool(author_risk(connection, settings, endpoint, settings.dumps, here)),
            reload_doubt=find_reload_doubt(connection),
        )


def _is_missing(target: Target) -> bool:
    """Ask another database of the server whether the one that can't be reached exists."""
    other = replace(target, keywords=MappingProxyType({**target.keywords, "dbname": _MAINTENANCE}))
    query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = %s)"
    try:
        with connected(other) as connection, translated("Looking for the database failed", other):
            return not one(connection, query, [target.database])[0]
    except TaskError:
        return False


def migrate_database(
    plan: MigrationPlan, report: Report, try_undo: Callable[[SafetyDump, Target, Report], None]
) -> Dumped | None:
    """Make the safety dump, and apply the pending migrations; do nothing where none is pending.

    :param try_undo: Raises a TaskError where the safety dump can't be loaded, and changes nothing.
    :return: The safety dump of what was there before; None where none was to be made.
    :raises OperationFailedError: Prisma failed; says what the database holds now, and how to go back.
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
        state, effect = _end(plan, safety)
        failed = OperationFailedError(f"{error} {state}")
        failed.effect = effect
        raise failed from None
    except Interruption as interruption:
        listen_again()
        state, interruption.effect = _end(plan, safety)
        interruption.state = f"{interruption.state} {state}"
        raise
    if safety is None:
        _remember_unsaved(plan, report)
        return None
    safety.keep()
    return safety.dumped


def _remember_unsaved(plan: MigrationPlan, report: Report) -> None:
    """Note that an undo will restore an older state than that before this migration."""
    if plan.server is None or not plan.holds or plan.settings.dry:
        return
    path = record_path(plan.settings.dumps, plan.target, plan.server)
    try:
        record_unsaved(path, plan.target.label, format_now("milliseconds"), "migration")
    except OSError as error:
        report.warn(f"Could not note that this migration made no safety dump: {error.strerror}.")


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
    request = DumpRequest(note=f"before {safety.before}", safety=True, endpoint=plan.endpoint)
    try:
        safety.dumped = make_dump(plan.settings, request, report)
    except TaskError as error:
        raise error.reworded(f"The safety dump failed: {error} Nothing was touched. {NO_BACKUP_HINT}") from None
    return safety


def _end(plan: MigrationPlan, safety: SafetyDump | None) -> tuple[str, Effect]:
    """Say what a failed run left, and keep the safety dump unless nothing was changed."""
    if _is_unchanged(plan):
        if safety is not None:
            safety.discard()
        return "No migration was begun, and nothing was changed in the database.", Effect.UNCHANGED
    # A command of the project's own may leave no history to compare.
    effect = Effect.CHANGED if plan.forecast is not None else Effect.UNKNOWN
    left = "Migrations before the failing one are applied; `inv db.migrations` shows which."
    if safety is None or safety.dumped is None:
        return f"{left} There is no safety dump of what the database held before.", effect
    safety.keep()
    return f"{left} `{plan.undo_command}` restores what the database held before this migration.", effect


def _is_unchanged(plan: MigrationPlan) -> bool:
    """Whether the history is what it was: Prisma writes a migration into it before it begins it."""
    if plan.forecast is None:
        return False
    try:
        with (
            connected(plan.target, lock_timeout=plan.settings.lock_timeout) as connection,
            translated("Reading the migration history failed", plan.target),
        ):
            return read_deployed(plan.settings, plan.target, connection) == plan.forecast.history
    except TaskError:
        return False
