"""Open connections, set up their sessions, and export the snapshot of a dump."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, LiteralString, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg.rows import TupleRow, class_row, tuple_row

from ..errors import BadInputError, GuardError, ServerError, TaskError
from ..formatting import shortened
from .lock_holders import describe_lock_holders
from .login_failure import not_connected
from .session_settings import EMPTY_PATH, INPUT, KEEPALIVES, NO_ROLE, READING, TIMEOUTS, role_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from psycopg import sql
    from psycopg.abc import Params

    from ..config.target import Target

    Query = LiteralString | bytes | sql.Composed


Connection = psycopg.Connection[TupleRow]
Row = TypeVar("Row")
APPLICATION = "invoke-postgres"
# Older servers lack pg_current_xact_id and DROP … of routines by identity.
OLDEST_MAJOR = 14


@dataclass(frozen=True)
class Endpoint:
    """The server and the database that a connection reached.

    :ivar host: The name or socket folder that libpq used.
    :ivar address: The IP address of the host; empty for a socket.
    :ivar server: The server's own address of the connection; empty for a socket.
    :ivar identifier: The system identifier of the cluster; empty if the role may not read it.
    """

    host: str
    address: str
    server: str
    identifier: str
    database: str
    port: int

    def __str__(self) -> str:
        return f"{self.label}{f', cluster {self.identifier}' if self.identifier else ''}"

    @property
    def label(self) -> str:
        """Return database, address and port for display."""
        where = self.host if self.socket else f"{self.address or self.host} port {self.port}"
        return f"{self.database} at {where}"

    @property
    def socket(self) -> bool:
        """Return whether the connection uses a local socket."""
        return self.host.startswith(("/", "@")) and not self.server


def read_endpoint(connection: Connection, server: ServerFacts) -> Endpoint:
    """Return the endpoint of a connection, from libpq and the server."""
    found = one(connection, "SELECT coalesce(pg_catalog.host(pg_catalog.inet_server_addr()), '')")[0]
    info = connection.info
    return Endpoint(
        host=info.host,
        address="" if info.host.startswith(("/", "@")) else info.hostaddr,
        server=str(found),
        identifier=server.system_identifier or "",
        database=server.database,
        port=info.port,
    )


@dataclass(frozen=True)
class Instance:
    """The identity of a server for a role that may not read the cluster's system identifier.

    Both times have microseconds, so they differ between two servers. `started` changes with each start of the server,
    `counting_since` after a crash or a reset of its statistics.

    :ivar database_oid: The oid of the session's database.
    :ivar started: The start time of the server, in UTC.
    :ivar counting_since: The last reset of the background writer's statistics, in UTC.
    """

    database_oid: int
    started: str
    counting_since: str | None


def refuse_another_endpoint(connection: Connection, judged: Endpoint) -> None:
    """Raise if a connection reached another server than the checked one: with several hosts in the URL, or a proxy.

    :raises GuardError: It did. Nothing was touched.
    """
    found = read_endpoint(connection, server_facts(connection))
    if found != judged:
        raise GuardError(
            f"The URL leads to more than one server: first to {judged}, then to {found}.",
            state="Nothing was touched.",
            fix="Use a URL with one host.",
        )


@dataclass(frozen=True)
class ServerFacts:
    """The properties of a server, a database and a session.

    :ivar version: The server's version, such as `17.6`.
    :ivar system_identifier: The cluster's number; None if the role may not read it: `instance` is then used instead.
    :ivar user: The session's current role.
    :ivar login: The role that logged in. Code in this session can switch back to it.
    """

    version: str
    major: int
    database: str
    user: str
    superuser: bool
    system_identifier: str | None
    in_recovery: bool
    encoding: str
    instance: Instance | None = None
    login: str = ""


def connected(target: Target, *, lock_timeout: int = 0, loads: bool = False) -> AbstractContextManager[Connection]:
    """Open a session, and close it at the end of the block, which ends its work on the server.

    Its search_path is empty: other roles may set that of the database or of the role.

    :param lock_timeout: Milliseconds to wait for a lock; 0 waits without limit.
    :param loads: Whether the session runs a dump's statements, which may read views and foreign tables. Other sessions
        may not.
    :raises ServerError: The server can't be reached or refuses the login. The message contains no secret.
    """
    return contextlib.closing(connect(target, lock_timeout=lock_timeout, loads=loads))


def connect(target: Target, *, lock_timeout: int = 0, loads: bool = False) -> Connection:
    """Open a session; the caller closes it. For parameters and errors see :func:`connected`."""
    try:
        connection = _open(target)
    except (psycopg.OperationalError, psycopg.ProgrammingError, UnicodeError) as error:
        origin = f" ({target.origin})" if target.origin else ""
        raise not_connected(
            f"No connection to {target.label}{origin}: {target.scrub(_sentence(error))}.", error
        ) from None
    try:
        _prepare(connection, lock_timeout, loads=loads)
    except BaseException:
        connection.close()
        raise
    return connection


def _open(target: Target) -> Connection:
    """Log in with an empty search_path; if a pooler refuses start-up options, log in without them."""
    settings: dict[str, Any] = {"application_name": APPLICATION, "connect_timeout": "15", **KEEPALIVES}
    settings |= {**target.connect_kwargs(), "client_encoding": "UTF8"}
    options = target.options(EMPTY_PATH)
    if options is not None:
        options = options if role_in(options) else f"{options} {NO_ROLE}"
        try:
            return _log_in({**settings, "options": options})
        except pg.ConnectionTimeout:
            raise
        except psycopg.OperationalError as error:
            # libpq gives no SQLSTATE here. A server that asked for a password accepted the options, and may count
            # failed logins.
            if error.pgconn is not None and error.pgconn.used_password:
                raise
    return _log_in(settings)


def _log_in(settings: dict[str, Any]) -> Connection:
    return psycopg.Connection.connect(**settings, autocommit=True, prepare_threshold=None, row_factory=tuple_row)


def startup_options(connection: Connection) -> str | None:
    """Return the start-up options of a session, for a child process that needs the same; None without any."""
    return connection.info.options or None


def session_role(connection: Connection) -> str:
    """Return the role that the URL's options, PGOPTIONS or the service set; `none` if none of them does."""
    return role_in(startup_options(connection) or "") or "none"


def _sentence(error: Exception) -> str:
    """Return libpq's message in one line; libpq writes one line for each address that it tried."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shortened("; ".join(dict.fromkeys(lines)).rstrip(".?"))


# Settings that this server does not have are left out, and the one that only superusers may set. Reading pg_settings
# would take ten times as long.
_SETTINGS = """
SELECT pg_catalog.set_config(v.name, v.setting, false)
  FROM ROWS FROM (pg_catalog.unnest(%s::pg_catalog.text[]), pg_catalog.unnest(%s::pg_catalog.text[]))
    AS v(name, setting)
 WHERE pg_catalog.current_setting(v.name, true) IS NOT NULL AND (v.name <> 'session_replication_role'
    OR (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user))
"""


def _prepare(connection: Connection, lock_timeout: int, *, loads: bool) -> None:
    ours = INPUT if loads else {**INPUT, **READING}
    wanted = {**dict.fromkeys(TIMEOUTS, "0"), "lock_timeout": f"{lock_timeout}ms", **ours}
    with translated("Setting up the session failed, nothing was touched"):
        role = session_role(connection)
        # This is the first statement, because a pooler may have dropped the start-up options: with another search_path
        # the `=` below could be an operator of another role.
        connection.execute(
            "SELECT pg_catalog.set_config('search_path', '', false), pg_catalog.set_config('role', %s, false)", [role]
        )
        current, login = one(connection, "SELECT current_user::pg_catalog.text, session_user::pg_catalog.text")
        if current != (expected := login if role == "none" else role):
            raise GuardError(
                f"The session runs as the role {current}, not as {expected}.", state="Nothing was touched."
            )
        connection.execute(_SETTINGS, [list(wanted), list(wanted.values())])
        # If we are killed, the server then notices during a statement (14 and newer, not on all systems).
        with contextlib.suppress(pg.InvalidParameterValue, pg.UndefinedObject):
            connection.execute("SELECT pg_catalog.set_config('client_connection_check_interval', '5s', false)")


@contextlib.contextmanager
def translated(what: str, target: Target | None = None) -> Iterator[None]:
    """Turn errors of the server into task errors.

    :param what: The beginning of the message, without a period.
    :param target: Asked for the sessions that hold a lock, after a lock timeout.
    :raises ServerError: The connection was lost, or a lock timed out.
    :raises BadInputError: A name is not valid UTF-8.
    :raises TaskError: Any other error of the server.
    """
    try:
        yield
    except pg.LockNotAvailable:
        raise ServerError(f"{what}: {blocked(target)}.") from None
    except UnicodeEncodeError:
        raise BadInputError(f"{what}: a name is not valid Unicode, so it can't be sent to the server.") from None
    except pg.CharacterNotInRepertoire as error:
        raise BadInputError(
            f"{what}: {_sentence(error)}. A name in this database is not valid UTF-8, which a database without an "
            f"encoding (SQL_ASCII) allows.",
            fix="Rename that object, or load the database into one with an encoding.",
        ) from None
    except psycopg.Error as error:
        kind = ServerError if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")) else TaskError
        raise kind(f"{what}: {_sentence(error)}.") from None


_KNOWS_CLUSTER = "pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'execute')"
_KNOWS_INSTANCE = (
    "pg_catalog.has_function_privilege('pg_catalog.pg_postmaster_start_time()', 'execute')"
    " AND pg_catalog.has_function_privilege('pg_catalog.pg_stat_get_bgwriter_stat_reset_time()', 'execute')"
)
_FACTS = f"""
SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_database(), current_user::pg_catalog.text,
       (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user), pg_catalog.pg_is_in_recovery(),
       pg_catalog.current_setting('server_encoding'), session_user::pg_catalog.text, {_KNOWS_CLUSTER}, {_KNOWS_INSTANCE}
"""


def server_facts(connection: Connection) -> ServerFacts:
    """Return the properties of a connection's server, database and session.

    :raises BadInputError: The server is older than PostgreSQL 14.
    """
    major = connection.info.server_version // 10000
    if major < OLDEST_MAJOR:
        raise BadInputError(
            f"The server is PostgreSQL {major}, but {OLDEST_MAJOR} or newer is required.", state="Nothing was touched."
        )
    row = one(connection, _FACTS)
    return ServerFacts(
        version=str(row[0]).split()[0],
        major=major,
        database=str(row[1]),
        user=str(row[2]),
        superuser=bool(row[3]),
        system_identifier=_identifier(connection) if row[7] else None,
        in_recovery=bool(row[4]),
        encoding=str(row[5]),
        instance=_instance(connection) if row[8] else None,
        login=str(row[6]),
    )


def system_identifier(connection: Connection) -> str | None:
    """Return the cluster's system identifier; None if the role may not read it."""
    return _identifier(connection) if one(connection, f"SELECT {_KNOWS_CLUSTER}")[0] else None


def _identifier(connection: Connection) -> str:
    return str(one(connection, "SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()")[0])


def _instance(connection: Connection) -> Instance:
    oid, started, since = one(
        connection,
        "SELECT d.oid, pg_catalog.pg_postmaster_start_time(), w.stats_reset"
        " FROM pg_catalog.pg_database d, pg_catalog.pg_stat_bgwriter w"
        " WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()",
    )
    return Instance(
        database_oid=int(oid), started=_in_utc(started), counting_since=_in_utc(since) if since is not None else None
    )


def _in_utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def one(connection: Connection, query: Query, parameters: Params | None = None) -> TupleRow:
    """Return the only row of a query that always returns one."""
    row = connection.execute(query, parameters).fetchone()
    assert row is not None, query  # noqa: S101 - such a query always returns a row
    return row


def read_rows(
    connection: Connection, kind: type[Row], query: Query, parameters: Params | None = None
) -> tuple[Row, ...]:
    """Return the rows of a query as objects of a dataclass, whose fields have the names of its columns."""
    with connection.cursor(row_factory=class_row(kind)) as cursor:
        return tuple(cursor.execute(query, parameters))


def read_names(connection: Connection, query: Query, parameters: Params | None = None) -> tuple[str, ...]:
    """Return the only column of a query's rows."""
    return tuple(str(name) for (name,) in connection.execute(query, parameters))


@contextlib.contextmanager
def exported_snapshot(connection: Connection) -> Iterator[str]:
    """Export a snapshot during a block, and yield its name, for pg_dump's `--snapshot`.

    Only the catalogue is read, so no table is locked yet. Otherwise there could be a deadlock: a migration waits for
    our lock on a table, and pg_dump waits for the migration.

    :raises ServerError: It can't be exported, for example behind a transaction pooler.
    """
    with translated("The snapshot could not be exported"):
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SET LOCAL row_security = off")
        name = str(one(connection, "SELECT pg_catalog.pg_export_snapshot()")[0])
    try:
        yield name
    finally:
        with contextlib.suppress(psycopg.Error):
            connection.execute("ROLLBACK")


@contextlib.contextmanager
def releasing_locks(connection: Connection) -> Iterator[None]:
    """Release the locks that a block takes in the open transaction; earlier locks are kept.

    Planning locks every index of a table. For thousands of tables, and with the workers of parallel queries, these
    locks would exceed the server's limit. After an error the transaction has failed, and its end releases all locks.
    """
    connection.execute("SAVEPOINT invoke_postgres_read")
    yield
    connection.execute("ROLLBACK TO SAVEPOINT invoke_postgres_read; RELEASE SAVEPOINT invoke_postgres_read")


def blocked(target: Target | None, *, reading: bool = False) -> str:
    """Return the message of a lock timeout, with the sessions that hold locks if the server can be asked.

    :param reading: The statement only read, so only ACCESS EXCLUSIVE locks could block it.
    """
    message = "another session did not release a lock in time"
    if target is not None:
        with contextlib.suppress(TaskError, psycopg.Error), connected(target) as other:
            # A reader blocks a reader if a session between them waits for an ACCESS EXCLUSIVE lock.
            found = describe_lock_holders(other, reading=reading) or describe_lock_holders(other)
            message += f" ({found or 'it has ended since'})"
    return message
