"""Reset: the drop-and-recreate step alone. Schemas are emptied and keep all that belongs to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from .. import process
from ..errors import BadInputError, ServerError, WorkError
from ..postgres import schemas
from ..postgres.session import connected, in_the_way, server_facts, translated
from ..postgres.wire import as_refusal
from . import preflight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..postgres.session import ServerFacts
    from ..postgres.target import Target
    from ..settings import Settings


@dataclass(frozen=True)
class Plan:
    """What a reset will do; the fields mean what they mean for a restore."""

    settings: Settings
    target: Target
    server: ServerFacts
    emptied: tuple[str, ...]
    stays: tuple[str, ...]
    goes: schemas.Content


def plan(settings: Settings, names: Sequence[str]) -> Plan:
    """Look at what a reset would take away, and touch nothing.

    :param names: The schemas; without any, the URL's `schema=`, else `public`.
    :raises BadInputError: A schema does not exist, or something outside depends on what is inside.
    """
    target = settings.target()
    preflight.refuse_protected(settings, target)
    wanted = tuple(dict.fromkeys(names)) or (target.schema or "public",)
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("Looking at the database failed"),
    ):
        server = server_facts(connection)
        missing = [name for name in wanted if name not in schemas.existing(connection, wanted)]
        if missing or any(name.startswith("pg_") or name == "information_schema" for name in wanted):
            name = missing[0] if missing else "a schema of PostgreSQL's own"
            raise BadInputError(f"{name} can't be emptied: {target.label} has no such schema. Nothing was touched.")
        schemas.refuse_dependents(connection, wanted)
        return Plan(
            settings,
            target,
            server,
            wanted,
            tuple(schemas.others(connection, wanted)),
            schemas.content(connection, wanted),
        )


def reset(plan: Plan) -> None:
    """Empty the schemas in one transaction.

    :raises TaskError: Nothing was changed.
    """
    state = f"Nothing was changed; {plan.target.label} is as it was."
    try:
        with connected(plan.target, lock_timeout=plan.settings.lock_timeout) as connection:
            try:
                with connection.transaction():
                    schemas.empty(connection, plan.emptied)
            except psycopg.errors.LockNotAvailable:
                blockers = in_the_way(connection) or "it has gone since"
                raise ServerError(
                    f"Another session holds a lock that was not free in time ({blockers}). {state}"
                ) from None
            except psycopg.Error as error:
                raise WorkError(f"The schemas could not be emptied: {as_refusal(error)}. {state}") from None
    except process.Interruption as interruption:
        interruption.state = state
        raise
