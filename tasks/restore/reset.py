"""Reset: delete the content of schemas, and keep the schemas with their owners, grants and extensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from ..dumpfiles.origin import other_owners
from ..dumpformat.tokens import is_system_schema
from ..errors import BadInputError, OperationFailedError, ServerError
from ..inventory.reload_risks import find_reload_doubt
from ..postgres.commit import Outcome
from ..postgres.connection import Connection, connected, refuse_another_endpoint, translated
from ..postgres.lock_holders import describe_lock_holders
from ..postgres.protocol import LostError, StatementStream, as_refusal
from ..postgres.roles import read_owners
from ..postgres.schemas import (
    empty_schemas,
    existing_schemas,
    other_schemas,
    read_content,
    refuse_dependents,
    refuse_new_content,
)
from ..safety.guard import guarded_connection, unprotected_target
from ..safety.restore_log import record_path, record_unsaved
from ..safety.safety_dump import SafetyDump
from ..safety.trust import author_risk
from ..system.runtime import set_interrupt_message
from .error_messages import Commit, describe_outcome
from .preflight import ChangePlan, begin_change, disconnect_others, refuse_unowned, warn_of_locks
from .transaction import try_safety_dump

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config.settings import Settings
    from ..dump.dump import Dumped
    from ..progress import Report


@dataclass(frozen=True, kw_only=True)
class ResetPlan(ChangePlan):
    """The plan of a reset."""

    disconnect: bool


def plan_reset(
    settings: Settings, names: Sequence[str], report: Report, *, backup: bool = True, disconnect: bool = False
) -> ResetPlan:
    """Plan a reset, and change nothing.

    :param names: The schemas; if empty, the URL's `schema=`, else `public`.
    :param backup: Make a safety dump first if anything will be deleted.
    :param disconnect: End the other sessions of the database first.
    :raises BadInputError: A schema does not exist, an object outside depends on one inside, or the role may not drop an
        object. Nothing was touched.
    """
    target = unprotected_target(settings)
    schemas = tuple(dict.fromkeys(names)) or (target.schema or "public",)
    with guarded_connection(settings, target) as (connection, server, endpoint):
        missing = [name for name in schemas if name not in existing_schemas(connection, schemas)]
        own = [name for name in schemas if is_system_schema(name)]
        if missing or own:
            why = f"{target.label} has no such schema" if missing else "it is PostgreSQL's own schema"
            raise BadInputError(f"{(missing or own)[0]} can't be emptied: {why}. Nothing was touched.")
        refuse_dependents(connection, schemas)
        removed = read_content(connection, schemas, locked=disconnect)
        warn_of_locks(connection, removed.locks, report)
        refuse_unowned(connection, server, schemas)
        foreign_owners = other_owners(read_owners(connection), server.login)
        plan = ResetPlan(
            settings=settings,
            target=target,
            server=server,
            endpoint=endpoint,
            emptied=schemas,
            kept=tuple(other_schemas(connection, schemas)),
            removed=removed,
            undo_needs_trust=bool(author_risk(connection, settings, endpoint, settings.dumps, foreign_owners)),
            disconnect=disconnect,
            reload_doubt="" if removed.is_empty or not backup else find_reload_doubt(connection),
        )
    return plan.complete(backup=backup)


def reset_database(plan: ResetPlan, report: Report) -> Dumped | None:
    """Empty the schemas in one transaction.

    :return: The safety dump; None if the schemas were empty or the plan makes none.
    :raises TaskError: The reset failed; the message says whether it was rolled back.
    """
    before = f"resetting {', '.join(plan.emptied)}"
    safety = SafetyDump(
        settings=plan.settings,
        server=plan.server,
        endpoint=plan.endpoint,
        before=before,
        wanted=plan.makes_safety_dump,
        command=f"db.reset {', '.join(plan.emptied)}",
    )
    commit = Commit(safety=safety, target=plan.target, change="reset")
    with commit.reported():
        with connected(plan.target, lock_timeout=plan.settings.lock_timeout) as connection:
            with translated("The schemas could not be emptied, and nothing was touched", plan.target):
                refuse_another_endpoint(connection, plan.endpoint)
                with disconnect_others(connection, plan.target, report, enabled=plan.disconnect):
                    xid = _empty(connection, plan, safety, report)
            commit.run(StatementStream(connection), xid)
        set_interrupt_message(commit.state, commit.outcome.effect)
        if safety.dumped is None and plan.destroys:
            _record_reset(plan, report)
        safety.keep()
    return safety.dumped


def _record_reset(plan: ResetPlan, report: Report) -> None:
    """Record that this reset made no safety dump, so that a later undo can warn."""
    try:
        record_unsaved(record_path(plan.settings.dumps, plan.target, plan.server), plan.target.label, "reset")
    except OSError as error:
        report.warn(
            f"The reset is committed, but its record could not be written: {error.strerror}. "
            f"`{plan.settings.command('db.undo')}` will not warn that it can't undo this reset."
        )


def _empty(connection: Connection, plan: ResetPlan, safety: SafetyDump, report: Report) -> str:
    """Empty the schemas in a transaction that remains open, and return its id."""
    state = describe_outcome(Outcome.ROLLED_BACK, plan.target.label, "reset")
    try:
        xid = begin_change(connection)
        safety.make(connection, plan.emptied, report)
        if plan.tries_undo:
            try_safety_dump(connection, safety, plan.target, report)
        if plan.removed.is_empty:
            refuse_new_content(connection, plan.emptied)
        empty_schemas(connection, plan.emptied)
    except psycopg.errors.LockNotAvailable:
        connection.execute("ROLLBACK")
        blockers = describe_lock_holders(connection) or "it has ended since"
        raise ServerError(f"The reset timed out, because another session holds a lock ({blockers}). {state}") from None
    except psycopg.Error as error:
        refusal = as_refusal(error)
        kind = ServerError if isinstance(refusal, LostError) else OperationFailedError
        message = plan.target.scrub(str(refusal)).rstrip(".")
        raise kind(f"The schemas could not be emptied: {message}. {state}") from None
    except OperationFailedError as error:
        if safety.wanted and safety.dumped is None:
            raise
        raise OperationFailedError(f"The schemas could not be emptied: {str(error).rstrip('.')}. {state}") from None
    return xid
