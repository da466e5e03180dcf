"""Choose how a restore replaces a database: in one transaction, or by a staging database that takes its place."""

from __future__ import annotations

import contextlib
import enum
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from ..dump.destination import free_bytes
from ..errors import BadInputError, MissingProgramError, ServerError, TaskError
from ..formatting import format_count, format_list, format_size
from ..postgres.activity import OtherSession, read_sessions
from ..postgres.catalog_filters import IN_SCHEMA, no_member
from ..postgres.connection import Connection, Endpoint, ServerFacts, one
from ..postgres.schemas import read_content
from ..system.pg_programs import find_client
from .own_databases import Role, own_databases
from .swap import find_maintenance_database, rename_obstacles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config.settings import Settings
    from ..config.target import Target
    from ..safety.own_databases import DatabaseRecord


class Method(enum.StrEnum):
    """How a restore with `--clean` replaces the content of a database."""

    AUTO = "auto"
    # The configured database is emptied and loaded in one transaction.
    TRANSACTION = "transaction"
    # A staging database is loaded, verified and migrated; then it takes the name of the configured database.
    SWAP = "swap"


class SwapObstacle(enum.Enum):
    """Why a staging database can't take the place of the configured one; the value is the text, with a detail."""

    OTHER_SCHEMAS = "the database has objects that the dump does not fill and would not keep: {}"
    LARGE_OBJECTS = "the database has large objects, which a restore keeps"
    NOT_OWNER = "{} is not an owner of the database"
    NO_CREATEDB = "{} may not create databases"
    SLOT = "the replication slot {} belongs to the database"
    SUBSCRIPTION = "the subscription {} belongs to the database"
    PREPARED = "the database has the prepared transaction {}"
    POOLER = "the URL leads to a connection pool"
    WORKERS = "{} works in the database in the background"
    MAINTENANCE = "no other database can be connected to ({})"
    CONNECTIONS = "only {} more sessions can connect"
    PG_DUMP = "no pg_dump fits server version {}"
    DISK = "the disk of the server has only {} free"
    SESSIONS = "other sessions are connected, and --disconnect was not given ({})"
    FOREIGN_SESSIONS = "only a superuser or another role may end a session of the database ({})"
    # These are found while the staging database is made.
    REFUSED = "{}"
    DIFFERS = "{} would differ"


@dataclass(frozen=True)
class SwapReason:
    """Why the transaction is taken, with what was found.

    :ivar detail: Names or a message of the server, for the text.
    """

    obstacle: SwapObstacle
    detail: str = ""

    def __str__(self) -> str:
        return self.obstacle.value.format(self.detail)


class SwapUnavailableError(TaskError):
    """A staging database can't take the place of the configured one; nothing was changed.

    :param reason: Why.
    :param cause: The class of the error to raise where a swap is required.
    """

    def __init__(self, reason: SwapReason, cause: type[TaskError] = BadInputError) -> None:
        super().__init__(f"A swap is not possible: {reason}. Nothing was changed.")
        self.reason, self.cause = reason, cause


def refusal(
    reason: SwapReason, cause: type[TaskError] = BadInputError, state: str = "Nothing was touched."
) -> TaskError:
    """Return the error of a restore that must swap and can't.

    :param cause: Its class, if the obstacle has no other.
    :param state: The state of the database.
    """
    text = f"--method=swap is not possible: {reason}. {state}"
    if reason.obstacle is SwapObstacle.SESSIONS:
        return ServerError(text, fix="Add --disconnect to end them, or end them yourself.")
    if reason.obstacle is SwapObstacle.FOREIGN_SESSIONS:
        return ServerError(text, fix="End it, or use the URL of a superuser with --url-env.")
    return cause(text)


@dataclass(frozen=True, kw_only=True)
class MethodChoice:
    """The chosen method.

    :ivar reason: Why the transaction is taken although a swap was asked for; None without a reason to report.
    :ivar maintenance: For a swap: another database of the server.
    :ivar oid: The oid of the configured database.
    :ivar size: Its size in bytes.
    :ivar rows: About how many rows its tables have.
    :ivar sessions: Its other sessions now.
    :ivar ends_sessions: Whether they may be ended.
    :ivar kept: Databases that earlier swaps keep of it.
    :ivar waiting: Loaded staging databases that wait for `db.restore --finish`; a restore by a swap drops them.
    """

    method: Method
    reason: SwapReason | None = None
    maintenance: str = ""
    oid: int = 0
    size: int = 0
    rows: int = 0
    sessions: tuple[OtherSession, ...] = ()
    ends_sessions: bool = False
    kept: tuple[DatabaseRecord, ...] = ()
    waiting: tuple[DatabaseRecord, ...] = ()

    @property
    def swaps(self) -> bool:
        """Return whether a staging database takes the place of the configured one."""
        return self.method is Method.SWAP


def chosen_method(settings: Settings, given: str) -> Method:
    """Return the method of `--method`, or else of the setting `db.method`.

    :raises BadInputError: The flag has another value.
    """
    try:
        return Method(given or settings.method)
    except ValueError:
        raise BadInputError(
            f"--method must be one of {', '.join(Method)}; it is {given!r}. Nothing was touched."
        ) from None


TRANSACTION = MethodChoice(method=Method.TRANSACTION)

# Objects of users in PostgreSQL's schemas. A type belongs to a relation or to a type that is found itself.
_IN_SYSTEM_SCHEMAS = " UNION ALL ".join(
    f"SELECT 'pg_catalog.{name}'::pg_catalog.regclass::pg_catalog.oid AS classid, c.oid AS objid"
    f" FROM pg_catalog.{name} c WHERE c.oid >= 16384 AND c.{prefix}namespace IN ('pg_catalog'::pg_catalog.regnamespace,"
    f" 'information_schema'::pg_catalog.regnamespace) AND {no_member(name, 'c.oid')}"
    for name, prefix in IN_SCHEMA
)
_CONDITIONS = f"""
SELECT d.oid, pg_catalog.pg_database_size(d.oid),
       EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata),
       (SELECT a.backend_type FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid AND a.backend_type IS NOT NULL
           AND a.backend_type NOT IN ('client backend', 'parallel worker') AND a.backend_type NOT LIKE 'autovacuum%%'
         LIMIT 1),
       (SELECT e.extname::pg_catalog.text FROM pg_catalog.pg_extension e WHERE e.extname = 'pg_cron'),
       coalesce((SELECT p.setting = d.datname FROM pg_catalog.pg_settings p WHERE p.name = 'cron.database_name'),
         false),
       (SELECT (pg_catalog.pg_identify_object(o.classid, o.objid, 0)).identity FROM ({_IN_SYSTEM_SCHEMAS}) o LIMIT 1),
       (SELECT coalesce(pg_catalog.sum(greatest(c.reltuples, pg_catalog.pg_stat_get_live_tuples(c.oid))), 0)
          FROM pg_catalog.pg_class c WHERE c.oid >= 16384 AND c.relkind = 'r')
  FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
"""
# The kind of another role's process is hidden; only sessions and a few workers have a database.
_FREE_SESSIONS = """
SELECT least(
    (SELECT pg_catalog.sum(CASE s.name WHEN 'max_connections' THEN s.setting::pg_catalog.int4
                WHEN 'superuser_reserved_connections' THEN CASE WHEN r.rolsuper THEN 0
                    ELSE -s.setting::pg_catalog.int4 END
                ELSE CASE WHEN r.rolsuper THEN 0 ELSE -s.setting::pg_catalog.int4 END END)
       FROM pg_catalog.pg_settings s
      WHERE s.name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections'))
    - (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a
        WHERE a.datid IS NOT NULL AND coalesce(a.backend_type, 'client backend') = 'client backend'),
    CASE WHEN r.rolconnlimit >= 0 AND NOT r.rolsuper THEN r.rolconnlimit
        - (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid) END)
  FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
"""
# Sessions of a swap in addition to those that load: the maintenance session, the one that ends others, and a spare.
_EXTRA_SESSIONS = 3
# A database needs about this many times the text of its dump, in addition to the bytes of an empty one.
_SIZE_FACTOR, _EMPTY_DATABASE = 2, 8_000_000


def space_needed(content: int) -> int:
    """Return about how many bytes a new database needs.

    :param content: The size of the dump's text in bytes.
    """
    return _EMPTY_DATABASE + _SIZE_FACTOR * content


def choose_method(
    connection: Connection,
    settings: Settings,
    target: Target,
    server: ServerFacts,
    endpoint: Endpoint,
    *,
    requested: Method,
    kept_schemas: Sequence[str],
    content: int,
    jobs: int,
    disconnect: bool,
) -> MethodChoice:
    """Return the method of a restore with `--clean`, as far as that can be known without creating a database.

    :param connection: A session in the configured database.
    :param kept_schemas: The schemas that the dump does not fill.
    :param content: The size of the dump's text in bytes.
    :param jobs: The number of sessions that load.
    :raises TaskError: A swap is required (`--method=swap`), and not possible.
    """
    if requested is Method.TRANSACTION:
        return TRANSACTION
    choice = choose_swap(connection, settings, target, server, disconnect=disconnect)
    reason = choice.reason
    if reason is None and not read_content(connection, kept_schemas, locked=True).is_empty:
        reason = SwapReason(SwapObstacle.OTHER_SCHEMAS, format_list(kept_schemas))
    reason = reason or _capacity(connection, endpoint, needed=choice.size + space_needed(content), jobs=jobs)
    missing = _missing_pg_dump(settings, server) if reason is None else None
    if missing is not None:
        reason = SwapReason(SwapObstacle.PG_DUMP, server.version)
    if reason is None:
        return choice
    if requested is Method.SWAP:
        if missing is not None:
            raise missing.reworded(
                f"--method=swap is not possible: {missing.what} Nothing was touched.", fix=missing.fix
            )
        raise refusal(reason)
    return replace(choice, method=Method.TRANSACTION, reason=reason)


def _missing_pg_dump(settings: Settings, server: ServerFacts) -> MissingProgramError | None:
    """Return the error that no pg_dump fits the server, which reads what a staging database carries over; else None."""
    try:
        find_client("pg_dump", server.major, bin_dir=settings.bin_dir, environ=settings.environ)
    except MissingProgramError as error:
        return error
    return None


def choose_swap(
    connection: Connection, settings: Settings, target: Target, server: ServerFacts, *, disconnect: bool
) -> MethodChoice:
    """Return the choice of a swap with a database that is loaded already; the transaction if a swap is not possible."""
    row = one(connection, _CONDITIONS)
    oid, size, of = int(row[0]), int(row[1]), server.database
    sessions = read_sessions(connection, [oid])
    found = *rename_obstacles(connection, [oid]), *row[2:-1]
    reason, maintenance = _obstacle(found, server, target) or foreign_session(sessions), ""
    if reason is None:
        maintenance, problem = find_maintenance_database(connection, target, lock_timeout=settings.lock_timeout)
        reason = None if maintenance else SwapReason(SwapObstacle.MAINTENANCE, problem or "there is none")
    if reason is not None:
        return MethodChoice(method=Method.TRANSACTION, reason=reason, oid=oid, size=size)
    kept, staged = (own_databases(connection, target, settings.dumps, role) for role in (Role.KEPT, Role.STAGING))
    return MethodChoice(
        method=Method.SWAP,
        maintenance=maintenance,
        oid=oid,
        size=size,
        rows=int(row[-1]),
        sessions=sessions,
        ends_sessions=disconnect,
        kept=tuple(each.record for each in kept if each.record.of == of),
        waiting=tuple(each.record for each in staged if each.record.ready and each.record.of == of),
    )


def foreign_session(sessions: Sequence[OtherSession]) -> SwapReason | None:
    """Return the reason that our role may not end one of the sessions; None if it may end all."""
    found = next((each for each in sessions if not each.endable), None)
    return None if found is None else SwapReason(SwapObstacle.FOREIGN_SESSIONS, str(found))


def needs_consent(choice: MethodChoice) -> bool:
    """Return whether a swap has to end other sessions, and nothing allows that yet."""
    return choice.swaps and not choice.ends_sessions and bool(choice.sessions)


def sessions_question(choice: MethodChoice, otherwise: str) -> str:
    """Return the question whether a swap may end the other sessions.

    :param otherwise: What any other answer than yes does.
    """
    end = f"end {describe_sessions(choice.sessions)}"
    return f"When the restored database takes its place, {end}? [y: end / n: {otherwise}] "


def describe_sessions(sessions: Sequence[OtherSession]) -> str:
    """Return the number of sessions and the names of their applications, each once."""
    names = dict.fromkeys(each.application or f"an unnamed one of {each.user}" for each in sessions)
    return f"{format_count(len(sessions), 'session')} ({format_list(list(names))})"


def with_consent(choice: MethodChoice, answer: str | None) -> MethodChoice:
    """Return the choice after an answer to :func:`sessions_question`.

    :param answer: None without a terminal.
    :return: The swap, which ends sessions; without consent the transaction, with the reason.
    """
    if not needs_consent(choice):
        return choice
    if (answer or "").casefold() in {"y", "yes"}:
        return replace(choice, ends_sessions=True)
    names = format_list([str(each) for each in choice.sessions], 2, "; ")
    return replace(choice, method=Method.TRANSACTION, reason=SwapReason(SwapObstacle.SESSIONS, names))


def _obstacle(row: Sequence[object], server: ServerFacts, target: Target) -> SwapReason | None:
    unowned, no_creator, slot, subscription, prepared, large, worker, cron, is_cron, in_system_schema = row
    found = (
        (target.pooled, SwapObstacle.POOLER, ""),
        (unowned, SwapObstacle.NOT_OWNER, server.user),
        (no_creator, SwapObstacle.NO_CREATEDB, server.user),
        (slot, SwapObstacle.SLOT, slot),
        (subscription, SwapObstacle.SUBSCRIPTION, subscription),
        (prepared, SwapObstacle.PREPARED, prepared),
        (large, SwapObstacle.LARGE_OBJECTS, ""),
        (worker, SwapObstacle.WORKERS, worker),
        (cron or is_cron, SwapObstacle.WORKERS, "pg_cron"),
        (in_system_schema, SwapObstacle.OTHER_SCHEMAS, in_system_schema),
    )
    return next((SwapReason(obstacle, str(detail)) for is_found, obstacle, detail in found if is_found), None)


def _capacity(connection: Connection, endpoint: Endpoint, *, needed: int, jobs: int) -> SwapReason | None:
    free = int(one(connection, _FREE_SESSIONS)[0])
    if free < jobs + _EXTRA_SESSIONS:
        return SwapReason(SwapObstacle.CONNECTIONS, str(max(free, 0)))
    room = server_disk_space(connection, endpoint)
    if room is not None and room < needed:
        return SwapReason(SwapObstacle.DISK, format_size(room))
    return None


def server_disk_space(connection: Connection, endpoint: Endpoint) -> int | None:
    """Return the free bytes of the disk with the server's data, if the server runs on this machine; else None."""
    if not endpoint.socket:
        return None
    with contextlib.suppress(OSError, psycopg.Error):
        query = "SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'data_directory'"
        row = connection.execute(query).fetchone()
        return free_bytes(Path(str(row[0]))) if row else None
    return None
