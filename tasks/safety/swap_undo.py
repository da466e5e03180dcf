"""Undo by a swap: a kept database takes the place of the configured one, which is kept in its turn."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg import sql

from ..errors import BadInputError, Effect, ServerError, TaskError
from ..formatting import format_list
from ..postgres.activity import read_sessions
from ..postgres.catalog_filters import USER_SCHEMA
from ..postgres.commit import Outcome
from ..postgres.connection import connected, read_rows, refuse_another_endpoint
from ..system.runtime import Interruption
from .guard import nonlocal_reason
from .kept_databases import grant_statements, retain_database
from .own_databases import as_kept, delete_database_record, put_back_restore_record, same_database_oids
from .scratch_database import on_database, rename_database
from .swap import SessionsRemainError, Swap, find_maintenance_database, rename_obstacles, swap_databases

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..config.target import Target
    from ..postgres.connection import Connection, Endpoint, ServerFacts
    from ..progress import Report
    from .own_databases import DatabaseRecord, OwnDatabase
    from .swap import Swapped


@dataclass(frozen=True, kw_only=True)
class LiveDatabase:
    """The configured database, which has to give way.

    :ivar rows: About how many rows its tables have.
    :ivar size: Its size in bytes.
    :ivar sessions: Descriptions of its other sessions, and of those of the kept database.
    """

    oid: int
    owner: str
    comment: str | None
    rows: int
    size: int
    sessions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SwapUndoPlan:
    """The plan of an undo that puts a kept database back.

    :ivar incoming: The kept database.
    :ivar live: The configured database; None if it was dropped, so that the kept one only gets its name.
    :ivar maintenance: Another database of the server.
    :ivar backup: Keep the replaced database, so that the undo can be undone.
    :ivar ends_sessions: Whether the other sessions may be ended.
    :ivar doubt: Why the kept database may be of another database; empty if it is certain.
    :ivar nonlocal_reason: Why the database does not count as local; empty if it does.
    """

    settings: Settings
    target: Target
    server: ServerFacts
    endpoint: Endpoint
    incoming: OwnDatabase
    maintenance: str
    live: LiveDatabase | None = None
    backup: bool = True
    ends_sessions: bool = False
    doubt: str = ""
    nonlocal_reason: str = ""

    @property
    def destroys(self) -> bool:
        """Return whether existing data will be replaced."""
        return self.live is not None

    @property
    def sessions(self) -> tuple[str, ...]:
        """Return descriptions of the sessions that have to end."""
        return () if self.live is None else self.live.sessions

    def refuse_sessions(self) -> None:
        """Raise if sessions are connected that may not be ended.

        :raises ServerError: There are some. Nothing was touched.
        """
        if self.sessions and not self.ends_sessions:
            raise ServerError(
                f"Sessions are connected to {self.target.label}: {format_list(self.sessions, _SHOWN, '; ')}. "
                f"Nothing was touched.",
                fix=_END_SESSIONS,
            )


@dataclass(frozen=True, kw_only=True)
class SwapUndone:
    """A committed undo by a swap.

    :ivar restored: The record of the database that was put back.
    :ivar kept: The record of the replaced database; None if it was dropped or became a safety dump.
    :ivar cut_off: For how many seconds no session could use the database, at most.
    :ivar ended: The number of sessions that were ended.
    """

    plan: SwapUndoPlan
    restored: DatabaseRecord
    kept: DatabaseRecord | None
    seconds: float
    cut_off: float
    ended: int


_SHOWN = 3
_END_SESSIONS = "End them, or add --disconnect."
# The rows are estimated without locking a table.
_LIVE = f"""
SELECT d.oid, o.rolname::pg_catalog.text AS owner, pg_catalog.shobj_description(d.oid, 'pg_database') AS comment,
       pg_catalog.pg_database_size(d.oid) AS size,
       (SELECT coalesce(pg_catalog.sum(c.reltuples) FILTER (WHERE c.reltuples > 0), 0)::pg_catalog.int8
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'r' AND {USER_SCHEMA}) AS rows
  FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles o ON o.oid = d.datdba
 WHERE d.datname = pg_catalog.current_database()
"""
# In the order of `rename_obstacles`.
_TEXTS = (
    "this role does not own the database {}",
    "{} may not create databases, and so not rename them",
    "the replication slot {} would follow the renamed database",
    "the subscription {} would follow the renamed database",
    "there is the prepared transaction {}",
)


def plan_swap_undo(
    connection: Connection,
    settings: Settings,
    target: Target,
    server: ServerFacts,
    endpoint: Endpoint,
    incoming: OwnDatabase,
    *,
    backup: bool,
    disconnect: bool,
) -> SwapUndoPlan:
    """Plan to let a kept database take the place of the configured one.

    :param connection: A session in the configured database.
    :raises BadInputError: The swap would fail, or something would follow the wrong database. Nothing was touched.
    """
    record = incoming.record
    (live,) = read_rows(connection, LiveDatabase, _LIVE)
    oids = [live.oid, record.oid]
    maintenance, problem = find_maintenance_database(connection, target, lock_timeout=settings.lock_timeout)
    found = _obstacles(connection, target, oids)
    if not maintenance:
        found.append(f"no other database can be connected to ({problem or 'there is none'})")
    _refuse(found, record, target)
    known = same_database_oids(settings.dumps, record.server, record.of, live.oid)
    doubt = f"{record.database} may be of another database: {target.label} was created after it was kept"
    return SwapUndoPlan(
        settings=settings,
        target=target,
        server=server,
        endpoint=endpoint,
        live=replace(live, sessions=tuple(map(str, read_sessions(connection, oids)))),
        incoming=incoming,
        maintenance=maintenance,
        backup=backup,
        ends_sessions=disconnect,
        doubt="" if record.oid in known else doubt,
        nonlocal_reason=nonlocal_reason(settings, endpoint),
    )


def plan_return(
    connection: Connection,
    settings: Settings,
    target: Target,
    server: ServerFacts,
    endpoint: Endpoint,
    incoming: OwnDatabase,
) -> SwapUndoPlan:
    """Plan to give a kept database the name of the configured one, which was dropped.

    :param connection: A session in another database.
    :param server: The facts of the missing database, as :func:`connection_without_database` returns them.
    :raises BadInputError: It would fail, or something would follow the wrong database. Nothing was touched.
    """
    _refuse(_obstacles(connection, target, [incoming.record.oid]), incoming.record, target)
    return SwapUndoPlan(
        settings=settings,
        target=target,
        server=server,
        endpoint=endpoint,
        incoming=incoming,
        maintenance=connection.info.dbname,
    )


def _obstacles(connection: Connection, target: Target, oids: list[int]) -> list[str]:
    """Return why databases can't be renamed, as clauses."""
    found = [
        text.format(name)
        for text, name in zip(_TEXTS, rename_obstacles(connection, oids), strict=True)
        if name is not None
    ]
    return [*found, "the URL leads to a connection pool"] if target.pooled else found


def _refuse(obstacles: list[str], record: DatabaseRecord, target: Target) -> None:
    if obstacles:
        raise BadInputError(
            f"{record.database} can't take the place of {target.label}: {obstacles[0]}. Nothing was touched.",
            fix="`inv db.undos` lists other states.",
        )


def undo_by_swap(plan: SwapUndoPlan, report: Report) -> SwapUndone:
    """Let the kept database take the place of the configured one.

    :raises TaskError: The undo failed; the message has the state of the database.
    :raises Interruption: A signal; its `state` and `effect` are set.
    """
    if plan.live is None:
        return _return(plan)
    began, record = time.monotonic(), plan.incoming.record
    replaced = as_kept(
        record,
        plan.settings.dumps,
        oid=plan.live.oid,
        owner=plan.live.owner,
        size=plan.live.size,
        rows=plan.live.rows,
        command=f"db.undo --to={record.id}",
    )
    report.progress("swapping the databases", 0, 0, "")
    try:
        swapped = _swap(plan, plan.live, replaced)
    except OSError as error:
        raise BadInputError(
            f"The record of the undo can't be written: {error.strerror}. Nothing was touched."
        ) from None
    except (TaskError, Interruption) as error:
        if error.effect is Effect.CHANGED:
            _finish(plan)
        raise
    _finish(plan)
    maintenance = on_database(plan.target, plan.maintenance)
    kept = retain_database(plan.settings, maintenance, replaced, report, keeps=plan.backup, done="The undo is done")
    return SwapUndone(
        plan=plan,
        restored=record,
        kept=kept,
        seconds=time.monotonic() - began,
        cut_off=swapped.seconds,
        ended=swapped.ended,
    )


def _return(plan: SwapUndoPlan) -> SwapUndone:
    """Give the kept database the name of the configured one.

    :raises TaskError: It does not have the name; `effect` says whether that is certain.
    """
    began, record, maintenance = time.monotonic(), plan.incoming.record, on_database(plan.target, plan.maintenance)
    old, new, done = record.database, plan.server.database, undo_outcome(Outcome.COMMITTED, plan)
    with connected(maintenance, lock_timeout=plan.settings.lock_timeout) as connection:
        refuse_another_endpoint(connection, replace(plan.endpoint, database=plan.maintenance))
        try:
            rename_database(connection, maintenance, record.oid, old, new, _opening(plan.incoming), done=done)
        except TaskError as error:
            raise error.reworded(f"{error}{' Nothing was changed.' * (error.effect is Effect.UNCHANGED)}") from None
    _finish(plan)
    return SwapUndone(plan=plan, restored=record, kept=None, seconds=time.monotonic() - began, cut_off=0.0, ended=0)


def _opening(incoming: OwnDatabase) -> list[sql.Composed]:
    """Return the statements that make a kept database what it was before it was kept, except for its name."""
    name = sql.Identifier(incoming.record.database)
    return [
        sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name),
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(incoming.comment)),
        *grant_statements(incoming.record),
    ]


def _swap(plan: SwapUndoPlan, live: LiveDatabase, replaced: DatabaseRecord) -> Swapped:
    swap = Swap(
        folder=plan.settings.dumps,
        maintenance=on_database(plan.target, plan.maintenance),
        incoming=plan.incoming.record,
        kept=replaced,
        comment=live.comment,
        before=_opening(plan.incoming),
        ends_sessions=plan.ends_sessions,
    )
    try:
        return swap_databases(swap, lambda outcome: undo_outcome(outcome, plan))
    except SessionsRemainError as error:
        raise ServerError(f"{error} {plan.target.label} was not changed.", fix=_END_SESSIONS) from None


def undo_outcome(outcome: Outcome, plan: SwapUndoPlan) -> str:
    """Return the sentence about the state of the database after an undo failed or was interrupted."""
    label, record = plan.target.label, plan.incoming.record
    return {
        Outcome.COMMITTED: f"The undo was already committed: {label} is as it was at {record.made}.",
        Outcome.ROLLED_BACK: f"{label} was not changed.",
        Outcome.UNKNOWN: f"It is unknown whether the undo was committed, because the server does not answer. "
        f"`{plan.settings.command('db.undos')}` lists the state of {record.when:%Y-%m-%d %H:%M:%S} UTC if it was not.",
    }[outcome]


def _finish(plan: SwapUndoPlan) -> None:
    """Put back the record of the last restore, and delete the record of the database that is not kept any more."""
    put_back_restore_record(plan.settings.dumps, plan.incoming.record)
    delete_database_record(plan.settings.dumps, plan.incoming.record)
