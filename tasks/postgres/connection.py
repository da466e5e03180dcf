"""Connections of ours: how they are opened, what they set, and the snapshot that a dump exports."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import errors as pg
from psycopg.rows import TupleRow, tuple_row

from ..errors import BadInputError, GuardError, ServerError, TaskError
from ..formatting import shortened
from .lock_holders import describe_lock_holders
from .login_failure import not_connected
from .session_settings import EMPTY_PATH, INPUT, KEEPALIVES, NO_ROLE, READING, TIMEOUTS, role_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ..config.target import Target


Connection = psycopg.Connection[TupleRow]
APPLICATION = "invoke-postgres"
# Below, what a restore relies on is missing: pg_current_xact_id, DROP … of routines by identity.
OLDEST_MAJOR = 13


@dataclass(frozen=True)
class Endpoint:
    """Where a connection really leads.

    :ivar host: The name or socket folder that libpq used, and `address` the address behind it; empty for a socket.
    :ivar server: The server's own end of the connection, as it says; empty for a socket.
    :ivar identifier: The cluster's own number; empty where the role may not ask.
    """

    host: str
    address: str
    server: str
    identifier: str
    database: str
    port: int

    def __str__(self) -> str:
        where = self.host if self.socket else f"{self.address or self.host} port {self.port}"
        return f"{self.database} at {where}{f', cluster {self.identifier}' if self.identifier else ''}"

    @property
    def socket(self) -> bool:
        """Whether no network is in between."""
        return self.host.startswith(("/", "@")) and not self.server


def read_endpoint(connection: Connection, server: ServerFacts) -> Endpoint:
    """Ask both ends of a connection where it leads."""
    found = one(connection, "SELECT coalesce(pg_catalog.host(pg_catalog.inet_server_addr()), '')")[0]
    info = connection.info
    socket = info.host.startswith(("/", "@"))
    address = "" if socket else info.hostaddr
    return Endpoint(
        host=info.host,
        address=address,
        server=str(found),
        identifier=server.system_identifier or "",
        database=server.database,
        port=info.port,
    )


@dataclass(frozen=True)
class Instance:
    """What identifies a server for a role that may not ask for the cluster's number.

    Of two servers with the same database's oid neither time is the same, as both have microseconds. The first changes
    with each start of the server, the second where it crashed or somebody resets its statistics.

    :ivar database_oid: Of the session's database.
    :ivar started: When the server started, in UTC; `counting_since` since when it counts what it writes.
    """

    database_oid: int
    started: str
    counting_since: str | None


def refuse_another_endpoint(connection: Connection, judged: Endpoint) -> None:
    """Refuse where a connection leads elsewhere than the one that was judged: of several hosts, or through a proxy.

    :raises GuardError: It does. Nothing was touched.
    """
    found = read_endpoint(connection, server_facts(connection))
    if found != judged:
        raise GuardError(
            f"The URL leads to more than one server: first to {judged}, then to {found}. Nothing was touched; name one "
            f"host in it."
        )


@dataclass(frozen=True)
class ServerFacts:
    """What a server says of itself.

    :ivar version: As it prints it, `17.6`; `major` its first number.
    :ivar system_identifier: The cluster's own number; None where the role may not ask: then `instance` has to do.
    :ivar database: The database that the session is in, and `user` its role.
    :ivar login: The role that logged in, which code in this session can become again.
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


@contextlib.contextmanager
def connected(target: Target, *, lock_timeout: int = 0, loads: bool = False) -> Iterator[Connection]:
    """Open a session of ours, and close it on the way out, which ends its work at the server.

    No name in it resolves through the search_path of the database or the role, which others may set.

    :param lock_timeout: Milliseconds to wait for a lock; 0 waits for ever.
    :param loads: Run statements of a dump, which may read views and foreign tables; no other session of ours may.
    :raises ServerError: The server can't be reached or refuses us; no secret is in the message.
    """
    connection = connect(target, lock_timeout=lock_timeout, loads=loads)
    try:
        yield connection
    finally:
        connection.close()


def connect(target: Target, *, lock_timeout: int = 0, loads: bool = False) -> Connection:
    """Open a session; the caller closes it. For parameters and errors see :func:`connected`."""
    try:
        connection = _open(target)
    except (psycopg.OperationalError, psycopg.ProgrammingError, UnicodeError) as error:
        origin = f" ({target.origin})" if target.origin else ""
        message = (
            f"No connection to {target.label}{origin}: {target.scrub(_sentence(error))}. Nothing was touched. "
            "`inv db.doctor` says what helps."
        )
        raise not_connected(message, error) from None
    try:
        _prepare(connection, lock_timeout, loads=loads)
    except BaseException:
        connection.close()
        raise
    return connection


def _open(target: Target) -> Connection:
    """Log in with an empty search_path, or without start-up options where a pooler refuses them."""
    settings: dict[str, Any] = {"application_name": APPLICATION, "connect_timeout": "15", **KEEPALIVES}
    settings |= {**target.connect_kwargs(), "client_encoding": "UTF8"}
    wanted = target.options(EMPTY_PATH)
    if wanted is not None:
        wanted = wanted if role_in(wanted) else f"{wanted} {NO_ROLE}"
        try:
            return _log_in({**settings, "options": wanted})
        except pg.ConnectionTimeout:
            raise
        except psycopg.OperationalError as error:
            # libpq gives no SQLSTATE here. A server that asked for a password has taken the options,
            # and may count wrong passwords.
            if error.pgconn is not None and error.pgconn.used_password:
                raise
    return _log_in(settings)


def _log_in(settings: dict[str, Any]) -> Connection:
    return psycopg.Connection.connect(**settings, autocommit=True, prepare_threshold=None, row_factory=tuple_row)


def startup_options(connection: Connection) -> str | None:
    """Return the `options` with which a session was opened, for a child that shall have the same; None without any."""
    return connection.info.options or None


def session_role(connection: Connection) -> str:
    """Return the role that the URL's options, PGOPTIONS or the service name; `none` where no person names one."""
    return role_in(startup_options(connection) or "") or "none"


def _sentence(error: Exception) -> str:
    """Put libpq's several lines, one for each address it tried, into one sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shortened("; ".join(dict.fromkeys(lines)).rstrip(".?"))


# The values that this server knows and that the role may set.
_SETTINGS = """
SELECT pg_catalog.set_config(s.name, v.setting, false)
  FROM ROWS FROM (pg_catalog.unnest(%s::pg_catalog.text[]), pg_catalog.unnest(%s::pg_catalog.text[]))
    AS v(name, setting)
  JOIN pg_catalog.pg_settings s ON s.name = v.name
 WHERE s.context = 'user' OR (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
"""


def _prepare(connection: Connection, lock_timeout: int, *, loads: bool) -> None:
    ours = INPUT if loads else {**INPUT, **READING}
    wanted = {**dict.fromkeys(TIMEOUTS, "0"), "lock_timeout": f"{lock_timeout}ms", **ours}
    with translated("Setting up the session failed, nothing was touched"):
        # First of all, as a pooler may have dropped the start-up options: with a search_path of others, the `=` below
        # could be their operator.
        connection.execute(
            "SELECT pg_catalog.set_config('search_path', '', false), pg_catalog.set_config('role', %s, false)",
            [session_role(connection)],
        )
        _refuse_another_role(connection)
        connection.execute(_SETTINGS, [list(wanted), list(wanted.values())])
        # Should we be killed, the server is to notice in the middle of a statement (14 and newer, not everywhere).
        with contextlib.suppress(pg.InvalidParameterValue, pg.UndefinedObject):
            connection.execute("SELECT pg_catalog.set_config('client_connection_check_interval', '5s', false)")


def _refuse_another_role(connection: Connection) -> None:
    wanted = session_role(connection)
    current, login = one(connection, "SELECT current_user::pg_catalog.text, session_user::pg_catalog.text")
    if current != (login if wanted == "none" else wanted):
        raise GuardError(f"The session runs as the role {current}, not as {login}. Nothing was touched.")


@contextlib.contextmanager
def translated(what: str, target: Target | None = None) -> Iterator[None]:
    """Turn what the server refuses into one of our sentences.

    :param what: The beginning of the sentence, without a period.
    :param target: Where to ask who holds a lock that was not free in time.
    :raises ServerError: The connection was lost, or a lock was not free in time.
    :raises BadInputError: A name can't be written in UTF-8.
    :raises TaskError: Any other refusal of the server.
    """
    try:
        yield
    except pg.LockNotAvailable:
        raise ServerError(f"{what}: {blocked(target)}.") from None
    except UnicodeEncodeError:
        raise BadInputError(f"{what}: a name that is no Unicode can't be asked about.") from None
    except pg.CharacterNotInRepertoire as error:
        raise BadInputError(
            f"{what}: {_sentence(error)}. A name here can't be written in UTF-8, as in a database without an encoding "
            f"(SQL_ASCII): rename what bears it, or load the database into one with an encoding."
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
    """Ask a server what it is.

    :raises BadInputError: It is too old for us.
    """
    major = connection.info.server_version // 10000
    if major < OLDEST_MAJOR:
        raise BadInputError(
            f"The server is PostgreSQL {major}; {OLDEST_MAJOR} or newer is needed. Nothing was touched."
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
    """Ask for the cluster's own number; None where the role may not."""
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


def one(connection: Connection, query: LiteralString, parameters: list[Any] | None = None) -> TupleRow:
    """Ask for exactly one row."""
    row = connection.execute(query, parameters).fetchone()
    assert row is not None, query  # noqa: S101 - such a query always gives a row
    return row


@contextlib.contextmanager
def exported_snapshot(connection: Connection) -> Iterator[str]:
    """Hold a snapshot open and give its name, for pg_dump's `--snapshot`.

    Nothing but the catalogue is read, so no table is locked yet: a table that we read before pg_dump has
    locked it, a migration that waits for us and pg_dump that waits for the migration would hang for ever.

    :raises ServerError: It can't be exported, as behind a transaction pooler.
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
    """Read in the open transaction, and give back the locks that this takes.

    Planning locks every index of a table: of thousands of tables they would fill the server's room for locks, to which
    each worker of a parallel query adds its own. What was locked before stays so. After an error the transaction has
    failed, and everything is let go at its end.
    """
    connection.execute("SAVEPOINT invoke_postgres_read")
    yield
    connection.execute("ROLLBACK TO SAVEPOINT invoke_postgres_read; RELEASE SAVEPOINT invoke_postgres_read")


def blocked(target: Target | None, *, reading: bool = False) -> str:
    """Say that a lock was not free in time, and who holds it, if somebody can be asked.

    :param reading: We only wanted to read, so that only the strongest locks were in the way.
    """
    found = ""
    if target is not None:
        with contextlib.suppress(TaskError, psycopg.Error), connected(target) as other:
            # A reader is in the way of a reader where somebody between them waits for the strongest lock.
            found = describe_lock_holders(other, reading=reading) or describe_lock_holders(other) or "it has gone since"
    return f"another session holds a lock that was not free in time{f' ({found})' if found else ''}"
