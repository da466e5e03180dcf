"""Choose how a restore replaces a database: in one transaction, or by a staging database that takes its place."""

from __future__ import annotations

import contextlib
import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from ..dump.destination import free_bytes
from ..errors import BadInputError, TaskError
from ..formatting import format_list, format_size
from ..postgres.catalog_filters import IN_SCHEMA, no_member
from ..postgres.connection import connected, one
from ..postgres.schemas import read_content
from ..safety.scratch_database import on_database
from ..safety.swap import other_sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config.settings import Settings
    from ..config.target import Target
    from ..postgres.connection import Connection, Endpoint, ServerFacts


class Method(enum.StrEnum):
    """How a restore with `--clean` replaces the content of a database."""

    AUTO = "auto"
    # The configured database is emptied and loaded in one transaction.
    TRANSACTION = "transaction"
    # A staging database is loaded, verified and migrated; then it takes the name of the configured database.
    SWAP = "swap"


class SwapObstacle(enum.Enum):
    """Why a staging database can't take the place of the configured one."""

    NOT_ASKED = enum.auto()
    OTHER_SCHEMAS = enum.auto()
    LARGE_OBJECTS = enum.auto()
    NOT_OWNER = enum.auto()
    NO_CREATEDB = enum.auto()
    SLOT = enum.auto()
    SUBSCRIPTION = enum.auto()
    PREPARED = enum.auto()
    POOLER = enum.auto()
    WORKERS = enum.auto()
    MAINTENANCE = enum.auto()
    CONNECTIONS = enum.auto()
    DISK = enum.auto()
    SESSIONS = enum.auto()
    # These are found while the staging database is made.
    REFUSED = enum.auto()
    DIFFERS = enum.auto()


_TEXTS = {
    SwapObstacle.NOT_ASKED: "--method=transaction",
    SwapObstacle.OTHER_SCHEMAS: "the database has objects that the dump does not fill and would not keep: {}",
    SwapObstacle.LARGE_OBJECTS: "the database has large objects, which a restore keeps",
    SwapObstacle.NOT_OWNER: "{} is not an owner of the database",
    SwapObstacle.NO_CREATEDB: "{} may not create databases",
    SwapObstacle.SLOT: "the replication slot {} belongs to the database",
    SwapObstacle.SUBSCRIPTION: "the subscription {} belongs to the database",
    SwapObstacle.PREPARED: "the database has the prepared transaction {}",
    SwapObstacle.POOLER: "the URL leads to a connection pool",
    SwapObstacle.WORKERS: "{} works in the database in the background",
    SwapObstacle.MAINTENANCE: "no other database can be connected to ({})",
    SwapObstacle.CONNECTIONS: "only {} more sessions can connect",
    SwapObstacle.DISK: "the disk of the server has only {} free",
    SwapObstacle.SESSIONS: "other sessions are connected, and --disconnect was not given: {}",
    SwapObstacle.REFUSED: "{}",
    SwapObstacle.DIFFERS: "{} would differ",
}


@dataclass(frozen=True)
class SwapReason:
    """Why the transaction is taken, with what was found.

    :ivar detail: Names or a message of the server, for the text.
    """

    obstacle: SwapObstacle
    detail: str = ""

    def __str__(self) -> str:
        return _TEXTS[self.obstacle].format(self.detail)


class SwapUnavailableError(TaskError):
    """A staging database can't take the place of the configured one; nothing was changed.

    :ivar reason: Why.
    """

    def __init__(self, reason: SwapReason) -> None:
        self.reason = reason
        super().__init__(f"A swap is not possible: {reason}. Nothing was changed.")


@dataclass(frozen=True, kw_only=True)
class MethodChoice:
    """The chosen method.

    :ivar reason: Why the transaction is taken although a swap was asked for; None without a reason to report.
    :ivar maintenance: For a swap: another database of the server.
    :ivar oid: The oid of the configured database.
    :ivar size: Its size in bytes.
    :ivar sessions: Its other sessions now.
    :ivar ends_sessions: Whether they may be ended.
    """

    method: Method
    reason: SwapReason | None = None
    maintenance: str = ""
    oid: int = 0
    size: int = 0
    sessions: tuple[str, ...] = ()
    ends_sessions: bool = False

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
SELECT d.oid, pg_catalog.pg_database_size(d.oid), pg_catalog.pg_has_role(d.datdba, 'USAGE'),
       r.rolcreatedb OR r.rolsuper,
       (SELECT s.slot_name::pg_catalog.text FROM pg_catalog.pg_replication_slots s WHERE s.database = d.datname
         LIMIT 1),
       (SELECT u.subname::pg_catalog.text FROM pg_catalog.pg_subscription u WHERE u.subdbid = d.oid LIMIT 1),
       (SELECT x.gid FROM pg_catalog.pg_prepared_xacts x WHERE x.database = d.datname LIMIT 1),
       EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata),
       (SELECT a.backend_type FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid AND a.backend_type IS NOT NULL
           AND a.backend_type NOT IN ('client backend', 'parallel worker') AND a.backend_type NOT LIKE 'autovacuum%%'
         LIMIT 1),
       (SELECT e.extname::pg_catalog.text FROM pg_catalog.pg_extension e WHERE e.extname = 'pg_cron'),
       coalesce((SELECT p.setting = d.datname FROM pg_catalog.pg_settings p WHERE p.name = 'cron.database_name'),
         false),
       (SELECT (pg_catalog.pg_identify_object(o.classid, o.objid, 0)).identity FROM ({_IN_SYSTEM_SCHEMAS}) o LIMIT 1)
  FROM pg_catalog.pg_database d, pg_catalog.pg_roles r
 WHERE d.datname = pg_catalog.current_database() AND r.rolname = current_user
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
_OTHERS = """
SELECT d.datname::pg_catalog.text FROM pg_catalog.pg_database d
 WHERE d.datallowconn AND NOT d.datistemplate AND d.datname <> pg_catalog.current_database()
   AND pg_catalog.has_database_privilege(d.oid, 'CONNECT') AND d.datname NOT LIKE '%\\_\\_staging\\_%'
 ORDER BY d.datname <> 'postgres', d.oid LIMIT 3
"""
# Sessions of a swap in addition to those that load: the maintenance session, the one that ends others, and a spare.
_EXTRA_SESSIONS = 3
# A database needs about this many times the text of its dump.
_SIZE_FACTOR = 2


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
    :raises BadInputError: A swap is required (`--method=swap`), and not possible.
    """
    if requested is Method.TRANSACTION:
        return TRANSACTION
    row = one(connection, _CONDITIONS)
    oid, size = int(row[0]), int(row[1])
    reason, maintenance = _obstacle(row, server, target), ""
    if reason is None and not read_content(connection, kept_schemas, locked=True).is_empty:
        reason = SwapReason(SwapObstacle.OTHER_SCHEMAS, format_list(kept_schemas))
    reason = reason or _capacity(connection, endpoint, needed=size + _SIZE_FACTOR * content, jobs=jobs)
    sessions = tuple(what for _, what in other_sessions(connection, [oid]))
    if reason is None:
        maintenance, problem = _maintenance(connection, target, settings)
        reason = None if maintenance else SwapReason(SwapObstacle.MAINTENANCE, problem or "there is none")
    if reason is not None:
        if requested is Method.SWAP:
            raise BadInputError(f"--method=swap is not possible: {reason}. Nothing was touched.")
        return MethodChoice(method=Method.TRANSACTION, reason=reason, oid=oid, size=size)
    return MethodChoice(
        method=Method.SWAP,
        maintenance=maintenance,
        oid=oid,
        size=size,
        sessions=sessions,
        ends_sessions=disconnect,
    )


def _obstacle(row: Sequence[object], server: ServerFacts, target: Target) -> SwapReason | None:
    _, _, owns, creates, slot, subscription, prepared, large, worker, cron, is_cron, in_system_schema = row
    found = (
        (target.pooled, SwapObstacle.POOLER, ""),
        (not owns, SwapObstacle.NOT_OWNER, server.user),
        (not creates, SwapObstacle.NO_CREATEDB, server.user),
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


def _maintenance(connection: Connection, target: Target, settings: Settings) -> tuple[str, str]:
    """Return another database to connect to, or else why there is none."""
    problem = ""
    for (name,) in connection.execute(_OTHERS).fetchall():
        try:
            with connected(on_database(target, str(name)), lock_timeout=settings.lock_timeout):
                return str(name), ""
        except TaskError as error:
            problem = str(error)
    return "", problem


def server_disk_space(connection: Connection, endpoint: Endpoint) -> int | None:
    """Return the free bytes of the disk with the server's data, if the server runs on this machine; else None."""
    if not endpoint.socket:
        return None
    with contextlib.suppress(OSError, psycopg.Error):
        query = "SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'data_directory'"
        row = connection.execute(query).fetchone()
        return free_bytes(Path(str(row[0]))) if row else None
    return None
