"""Reset: the drop-and-recreate step alone. Schemas are emptied and keep all that belongs to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from .. import process
from ..errors import BadInputError, ServerError, TaskError, WorkError
from ..postgres import committing, schemas
from ..postgres.session import connected, in_the_way, one, server_facts, translated
from ..postgres.wire import LostError, Wire, as_refusal
from . import guard, preflight, saving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..postgres.session import Connection, ServerFacts
    from ..postgres.target import Target
    from ..settings import Settings
    from .dumping import Dumped
    from .report import Report
    from .saving import Safety


@dataclass(frozen=True)
class Plan:
    """What a reset will do; the fields mean what they mean for a restore."""

    settings: Settings
    target: Target
    server: ServerFacts
    place: guard.Place
    far: str
    emptied: tuple[str, ...]
    stays: tuple[str, ...]
    goes: schemas.Content
    saves: bool
    disconnect: bool


def plan(settings: Settings, names: Sequence[str], *, backup: bool = True, disconnect: bool = False) -> Plan:
    """Look at what a reset would take away, and touch nothing.

    :param names: The schemas; without any, the URL's `schema=`, else `public`.
    :param backup: Make a safety dump first, where there are rows.
    :param disconnect: End the database's other sessions first.
    :raises BadInputError: A schema does not exist, or something outside depends on what is inside.
    """
    target = settings.target()
    guard.refuse_protected(settings, target)
    wanted = tuple(dict.fromkeys(names)) or (target.schema or "public",)
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("Looking at the database failed, nothing was touched", target),
    ):
        server = server_facts(connection)
        place = guard.place(connection, server)
        guard.refuse_protected(settings, target, place)
        missing = [name for name in wanted if name not in schemas.existing(connection, wanted)]
        own = [name for name in wanted if name.startswith("pg_") or name == "information_schema"]
        if missing or own:
            why = f"{target.label} has no such schema" if missing else "it is PostgreSQL's own"
            raise BadInputError(f"{(missing or own)[0]} can't be emptied: {why}. Nothing was touched.")
        schemas.refuse_dependents(connection, wanted)
        goes = schemas.content(connection, wanted, locked=disconnect)
        preflight.room_for_locks(connection, goes.locks)
        preflight.refuse_unowned(connection, server, wanted)
        saves = backup and settings.backup > 0 and saving.wanted(connection, goes, large_objects=0)
        stays = tuple(schemas.others(connection, wanted))
    if saves:
        saving.check(settings, server)
    return Plan(settings, target, server, place, guard.far(settings, place), wanted, stays, goes, saves, disconnect)


def reset(plan: Plan, report: Report) -> Dumped | None:
    """Empty the schemas in one transaction.

    :return: The safety dump of what was in them; None where there were no rows, or none was to be made.
    :raises TaskError: Nothing was changed.
    """
    label, cluster = plan.target.label, plan.server.system_identifier
    sentences = committing.Sentences(
        done=f"The schemas were already emptied: {label} has nothing in them any more.",
        undone=f"Nothing was changed; {label} is as it was.",
        unknown=f"{label} can't be asked what became of it: the schemas are either empty or as they were.",
    )
    xid = ""
    before = f"resetting {', '.join(plan.emptied)}"
    safety = saving.Safety(plan.settings, plan.server, plan.place, before, plan.saves)
    try:
        with connected(plan.target, lock_timeout=plan.settings.lock_timeout) as connection:
            try:
                with translated("Looking at the server failed, nothing was touched", plan.target):
                    guard.refuse_another(connection, plan.place)
                    with preflight.alone(connection, plan.target, report, wanted=plan.disconnect):
                        xid = _empty(connection, plan, safety, report, sentences.undone)
            except BaseException:
                safety.discard()
                raise
            committing.commit(Wire(connection), xid, plan.target, sentences, cluster)
        process.stands(sentences.done)
        safety.keep()
    except TaskError as error:
        safety.discard_after(str(error), sentences)
        raise
    except process.Interruption as interruption:
        interruption.state = committing.outcome(xid, plan.target, sentences, cluster) if xid else sentences.undone
        safety.discard_after(interruption.state, sentences)
        raise
    return safety.dumped


def _empty(connection: Connection, plan: Plan, safety: Safety, report: Report, state: str) -> str:
    """Empty the schemas in a transaction, and return its id; it is left open."""
    try:
        # Whatever the role or database has as its default: a fixed snapshot would not see what locks let in.
        connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE")
        xid = str(one(connection, "SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text")[0])
        preflight.lock_out_migrations(connection)
        safety.make(connection, plan.emptied, report)
        schemas.empty(connection, plan.emptied)
    except psycopg.errors.LockNotAvailable:
        connection.execute("ROLLBACK")
        blockers = in_the_way(connection) or "it has gone since"
        raise ServerError(f"Another session holds a lock that was not free in time ({blockers}). {state}") from None
    except psycopg.Error as error:
        refusal = as_refusal(error)
        kind = ServerError if isinstance(refusal, LostError) else WorkError
        message = plan.target.scrub(str(refusal)).rstrip(".")
        raise kind(f"The schemas could not be emptied: {message}. {state}") from None
    except WorkError as error:
        if safety.wanted and safety.dumped is None:
            raise
        raise WorkError(f"The schemas could not be emptied: {error}. {state}") from None
    return xid
