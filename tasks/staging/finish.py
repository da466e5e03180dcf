"""Finish a restore by a swap whose loaded staging database waits because sessions were connected."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import BadInputError, DifferenceError, Effect, ServerError
from ..formatting import format_list
from ..postgres.connection import connect, one, refuse_another_endpoint
from ..safety.guard import guarded_connection, nonlocal_reason, unprotected_target
from ..safety.method import SwapObstacle, SwapReason, choose_swap, with_consent
from ..safety.restore_log import record_from_text
from ..safety.scratch_database import on_database
from ..safety.swap import SessionsRemainError
from ..system.runtime import set_interrupt_message
from .staging_database import LOCK
from .swap_restore import Replacement, conclude, take_place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config.settings import Settings
    from ..config.target import Target
    from ..postgres.connection import Connection, Endpoint, ServerFacts
    from ..progress import Report
    from ..safety.method import MethodChoice
    from ..safety.own_databases import DatabaseRecord
    from ..safety.restore_log import RestoreRecord


@dataclass(frozen=True, kw_only=True)
class FinishPlan:
    """The plan to let a loaded staging database take the place of the configured one.

    :ivar incoming: The record of the staging database.
    :ivar method: The swap.
    :ivar backup: Keep the old database for `db.undo`.
    :ivar nonlocal_reason: Why the database does not count as local; empty if it does.
    """

    settings: Settings
    target: Target
    server: ServerFacts
    endpoint: Endpoint
    incoming: DatabaseRecord
    method: MethodChoice
    backup: bool
    nonlocal_reason: str

    destroys = True

    @property
    def restored(self) -> RestoreRecord | None:
        """Return the record of the restore into the staging database."""
        return record_from_text(self.incoming.restored)

    @property
    def keeps_old(self) -> bool:
        """Return whether the old database is kept."""
        return self.backup and self.settings.kept_databases > 0

    @property
    def undo_command(self) -> str:
        """Return the command that puts the old database back."""
        return self.settings.undo_command(trust=False, name=self.endpoint.database if self.nonlocal_reason else "")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished restore.

    :ivar kept: The database that had the name before; None if it was dropped.
    :ivar cut_off: For how many seconds no session could use the database, at most.
    :ivar ended: The number of sessions that were ended.
    """

    plan: FinishPlan
    seconds: float
    kept: DatabaseRecord | None
    cut_off: float
    ended: int

    def refuse_differences(self) -> None:
        """Raise if the database differs from the dump.

        :raises DifferenceError: As for a restore.
        """
        if differences := self.plan.incoming.differences:
            error = DifferenceError(f"The restore into {self.plan.target.label} is committed, {differences}.")
            error.effect, error.result = Effect.CHANGED, self
            raise error


def plan_finish(settings: Settings, *, backup: bool, disconnect: bool) -> FinishPlan:
    """Find the staging database that waits, and check that it can take the place of the configured database.

    :param backup: Keep the old database; it is also dropped if the restore was made with `--no-backup`.
    :param disconnect: The other sessions may be ended.
    :raises TaskError: None waits, several do, or the swap is not possible. Nothing was touched.
    """
    target = unprotected_target(settings)
    with guarded_connection(settings, target) as (connection, server, endpoint):
        method = choose_swap(connection, settings, target, server, disconnect=disconnect)
        if method.reason is not None:
            raise _refusal(settings, method.reason)
        incoming = _waiting_database(method, target.label)
    return FinishPlan(
        settings=settings,
        target=target,
        server=server,
        endpoint=endpoint,
        incoming=incoming,
        method=method,
        backup=backup and incoming.keeps_old,
        nonlocal_reason=nonlocal_reason(settings, endpoint),
    )


def _refusal(settings: Settings, reason: SwapReason) -> BadInputError | ServerError:
    text = f"The restore can't be finished: {reason}. Nothing was touched."
    if reason.obstacle is SwapObstacle.SESSIONS:
        return ServerError(text, fix=f"To end them: `{settings.command('db.restore', '--finish', '--disconnect')}`.")
    return (ServerError if reason.obstacle is SwapObstacle.FOREIGN_SESSIONS else BadInputError)(text)


def _waiting_database(method: MethodChoice, label: str) -> DatabaseRecord:
    """Return the only staging database that was loaded for the configured one.

    :raises BadInputError: There is none, or there are several.
    """
    found = [each for each in method.waiting if each.of_oid == method.oid]
    if len(found) == 1:
        return found[0]
    if not method.waiting:
        raise BadInputError(
            f"No loaded database waits to take the place of {label}. Nothing was touched.",
            fix="Restore with `inv db.restore --clean`.",
        )
    names = format_list(_described(found or method.waiting))
    if found:
        raise BadInputError(
            f"Several loaded databases wait to take the place of {label}: {names}. Nothing was touched.",
            fix="Drop all but one with DROP DATABASE.",
        )
    raise BadInputError(
        f"{names} was loaded to take the place of another database with the name of {label}, which was dropped or "
        f"renamed since. Nothing was touched.",
        fix="Restore again with `inv db.restore --clean`, which drops it.",
    )


def _described(records: Sequence[DatabaseRecord]) -> list[str]:
    return [f"{each.database} ({each.command}, {each.made})" for each in records]


def settle_finish(plan: FinishPlan, answer: str | None) -> FinishPlan:
    """Return the plan after an answer to the question whether the other sessions may be ended.

    :raises ServerError: The answer is no or missing. Nothing was touched.
    """
    method = with_consent(plan.method, answer)
    if method.reason is not None:
        raise _refusal(plan.settings, method.reason)
    return replace(plan, method=method)


def finish_restore(plan: FinishPlan, report: Report) -> Finished:
    """Let the staging database take the place of the configured one.

    :raises TaskError: The swap failed; the message has the state. The staging database still waits if it can.
    """
    began, settings = time.monotonic(), plan.settings
    set_interrupt_message(f"{plan.target.label} was not changed.", Effect.UNCHANGED)
    lock = connect(on_database(plan.target, plan.incoming.database), lock_timeout=settings.lock_timeout)
    try:
        _refuse_another_process(lock, plan)
        swapped, kept = take_place(_replacement(plan), lock, report)
    except SessionsRemainError as error:
        raise error.reworded(
            f"{error} {plan.target.label} was not changed; {plan.incoming.database} still waits."
        ) from None
    finally:
        lock.close()
    held = conclude(_replacement(plan), kept, report)
    seconds = time.monotonic() - began
    return Finished(plan=plan, seconds=seconds, kept=held, cut_off=swapped.seconds, ended=swapped.ended)


def _refuse_another_process(lock: Connection, plan: FinishPlan) -> None:
    """Raise if another process is finishing this restore, or if the URL leads to several servers.

    :raises ServerError: Another process holds the advisory lock of the staging database.
    """
    refuse_another_endpoint(lock, replace(plan.endpoint, database=plan.incoming.database))
    if not one(lock, "SELECT pg_catalog.pg_try_advisory_lock(%s)", [LOCK])[0]:
        raise ServerError(f"Another process uses {plan.incoming.database}. Nothing was touched.")


def _replacement(plan: FinishPlan) -> Replacement:
    return Replacement(
        settings=plan.settings,
        target=plan.target,
        server=plan.server,
        maintenance=on_database(plan.target, plan.method.maintenance),
        oid=plan.method.oid,
        size=plan.method.size,
        rows=plan.method.rows,
        incoming=plan.incoming,
        keeps_old=plan.backup,
        ends_sessions=plan.method.ends_sessions,
    )
