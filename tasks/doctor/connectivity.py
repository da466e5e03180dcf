"""Check the connection to the server step by step: the URL, host, port, TLS, login."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.database_url import VERIFYING
from ..config.dotenv import read_url
from ..errors import BadInputError, TaskError
from ..postgres.connection import Connection, connect
from ..postgres.login_failure import LoginFailure, NotConnectedError
from ..system.runtime import BackgroundTask
from .check import Check, CheckState, note, ok, refused, skipped, wrong
from .compose_file import find_compose_service

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.dotenv import FoundUrl
    from ..config.settings import Settings
    from ..config.target import Target

    Resolve = Callable[[str], list[str]]
    # The path of a socket, or an address and a port.
    Address = str | tuple[str, int]

_STEPS = ("URL found", "URL understood", "host", "port", "TLS", "login")
_RESOLVE_SECONDS = 5.0
_OPEN_SECONDS = 3.0
# The longest wait of `db.doctor` for a lock.
LOCK_MILLISECONDS = 2000
_SHOW_URL = "`inv db.url` shows host, port and database as libpq gets them."
_REMEDIES = {
    LoginFailure.WRONG_PASSWORD: (
        "Correct the user or the password in the URL (write @ as %40), or let a superuser run ALTER ROLE … PASSWORD."
    ),
    LoginFailure.NO_PASSWORD: "Add the password to the URL: user:password@host.",
    LoginFailure.NO_DATABASE: (
        "Create the database: `inv db.restore --create` creates it from the newest dump, `inv db.migrate` lets Prisma "
        "create an empty one. Or correct its name in the URL."
    ),
    LoginFailure.NO_ROLE: "Create the role (CREATE ROLE … LOGIN PASSWORD …), or correct the user in the URL.",
    LoginFailure.NOT_ADMITTED: (
        "The server does not accept this login from this machine. Try sslmode=require, or add a line to the server's "
        "pg_hba.conf."
    ),
    LoginFailure.TOO_MANY_CONNECTIONS: (
        "All connections of the server are in use. End some (pg_stat_activity lists them), or raise max_connections."
    ),
    LoginFailure.NOT_READY: "Wait a moment, then run this again.",
    LoginFailure.NO_TLS: (
        "Enable TLS on the server (ssl = on). If you trust the network, use sslmode=prefer in the URL instead."
    ),
    LoginFailure.CERTIFICATE: (
        "Set sslrootcert=FILE in the URL to the certificate of the authority, and use the host name of the certificate."
    ),
    LoginFailure.OTHER_TLS: "Correct sslmode and the certificate files in the URL.",
    LoginFailure.OTHER: f"Read the server's log. {_SHOW_URL}",
}


@dataclass(frozen=True)
class Reached:
    """The result of connecting.

    :ivar connection: An open connection, which the caller closes; None if the login failed or was not tried.
    """

    checks: tuple[Check, ...]
    target: Target | None
    connection: Connection | None


def resolve_addresses(host: str) -> list[str]:
    """Return the addresses of a host name, within 5 seconds.

    :raises OSError: It has no address, or there is no answer in time.
    """
    # The system's resolver can't be interrupted and may take minutes.
    task = BackgroundTask(lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    task.start()
    task.join(_RESOLVE_SECONDS)
    if task.is_alive():
        raise TimeoutError(None, f"no answer in {_RESOLVE_SECONDS:.0f} s")
    try:
        found = task.result()
    except (OSError, UnicodeError) as error:
        raise OSError(None, getattr(error, "strerror", None) or "it is no valid host name") from None
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def check_connectivity(settings: Settings, *, resolve: Resolve = resolve_addresses) -> Reached:
    """Check each step of connecting to the server; after a failure the remaining steps are skipped."""
    first, found = _check_url_found(settings)
    if found is None:
        return _reached([first], "there is no URL")
    second, target = _check_url_understood(settings, found.location)
    checks = [first, second]
    if target is None:
        return _reached(checks, "the URL is not understood")
    if "service" in target.keywords and not target.keywords.get("host"):
        why = "it is set in the service that the URL names"
        checks += [skipped(why), skipped(why)]
    else:
        third, candidates = _check_host(target, resolve, settings.root)
        checks.append(third)
        if not candidates:
            return _reached(checks, "the host is not known", target=target)
        checks.append(_check_port(candidates))
        if checks[-1].state is CheckState.WRONG:
            return _reached(checks, "the port is not open", target=target)
    last, connection = _check_login(target)
    return _reached([*checks, *last], target=target, connection=connection)


def _reached(
    checks: list[Check], why: str = "", *, target: Target | None = None, connection: Connection | None = None
) -> Reached:
    """Return the checks of all steps; those after the last check are skipped for a reason."""
    padded = [*checks, *[skipped(why)] * (len(_STEPS) - len(checks))]
    named = tuple(check.named(step) for check, step in zip(padded, _STEPS, strict=True))
    return Reached(checks=named, target=target, connection=connection)


def _check_url_found(settings: Settings) -> tuple[Check, FoundUrl | None]:
    try:
        found = settings.url()
    except BadInputError as error:
        return refused(error, f"Correct {settings.url_env}, then run this again."), None
    if found.source != "environment":
        return ok(f"{settings.url_env} from {found.location}"), found
    try:
        others = {key: value for key, value in settings.environ.items() if key != settings.url_env}
        hidden = read_url(settings.url_env, settings.root, others, settings.prisma_dir)
    except BadInputError:
        hidden = found
    if hidden.value != found.value:
        return note(
            f"{settings.url_env} from the environment; {hidden.source} has another one, which is not used",
            f"To use {hidden.source} instead: `unset {settings.url_env}`.",
        ), found
    return ok(f"{settings.url_env} from the environment"), found


def _check_url_understood(settings: Settings, location: str) -> tuple[Check, Target | None]:
    try:
        target = settings.target()
        target.child_environment()
    except BadInputError as error:
        return refused(error, f"Correct {settings.url_env} in {location}, then run this again."), None
    changes = "".join(f"; {each.parameter} is {each.action}" for each in target.changes)
    what = f"{target.label}, schema {target.schema or 'public'}{changes}"
    if target.pooled:
        remedy = "Dumps and restores need the direct URL: --url-env=DIRECT_URL."
        return note(f"{what}; it seems to lead to a connection pooler", remedy), target
    return ok(what), target


def _check_host(target: Target, resolve: Resolve, root: Path) -> tuple[Check, list[tuple[str, Address]]]:
    """Return also what libpq would try, each with its name for messages."""
    candidates: list[tuple[str, Address]] = []
    services: list[str] = []
    resolved, missing = [], []
    for host, port, address in target.endpoints:
        if host.startswith(("/", "@")) and not address:
            if host.startswith("/") and not Path(host).is_dir():
                missing.append(f"the socket folder {host} does not exist")
                continue
            path = f"{host}/.s.PGSQL.{port}"
            candidates.append((f"socket {path}", path))
            resolved.append(f"socket in {host}")
            continue
        try:
            known = [address] if address else resolve(host)
        except OSError as error:
            missing.append(f"{host} can't be resolved ({error.strerror or error})")
            services += _compose_advice(root, host, port)
            continue
        candidates += [(f"{each} port {port}", (each, int(port))) for each in known]
        resolved.append(host if known == [host] else f"{host} is {', '.join(known)}")
    if not missing:
        return ok("; ".join(resolved)), candidates
    what = "; ".join([*missing, *resolved])
    remedy = " ".join(services) or f"Correct the host in the URL, or check network, VPN and DNS. {_SHOW_URL}"
    return (note if candidates else wrong)(what, remedy), candidates


def _compose_advice(root: Path, host: str, port: str) -> list[str]:
    """Return how to reach a service of Compose, whose name resolves only inside its network."""
    service = find_compose_service(root, host, port)
    if service is None:
        return []
    file, published = service
    name = f"{host} is a service of {file}. Its name resolves only inside the network of Compose."
    if published:
        return [f"{name} Write localhost:{published} into the URL instead of {host}:{port}."]
    publish = f'publish its port there (ports: ["{port}:{port}"]), and write localhost and that port into the URL.'
    return [f"{name} If it is not published yet, {publish}"]


def _check_port(candidates: list[tuple[str, Address]]) -> Check:
    closed = []
    for name, address in candidates:
        why = _connection_error(address)
        if not why:
            return ok(f"{name} is open")
        closed.append(f"{name}: {why}")
    remedy = f"Start the server (`inv pg.start` starts a private one), or correct host and port. {_SHOW_URL}"
    return wrong("; ".join(closed), remedy)


def _connection_error(address: Address) -> str:
    """Return why a connection fails; empty if it succeeds."""
    try:
        if isinstance(address, tuple):
            socket.create_connection(address, timeout=_OPEN_SECONDS).close()
            return ""
        with socket.socket(socket.AF_UNIX) as unix:
            unix.settimeout(_OPEN_SECONDS)
            unix.connect(f"\0{address[1:]}" if address.startswith("@") else address)
    except TimeoutError:
        return f"no answer in {_OPEN_SECONDS:.0f} s"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def _check_login(target: Target) -> tuple[list[Check], Connection | None]:
    try:
        connection = connect(target, lock_timeout=LOCK_MILLISECONDS)
    except TaskError as error:
        return _check_login_failure(target, error), None
    info = connection.info
    return [_check_tls(target, connection), ok(f"as {info.user} in {info.dbname}")], connection


def _check_login_failure(target: Target, error: TaskError) -> list[Check]:
    failure, answered = LoginFailure.OTHER, False
    if isinstance(error, NotConnectedError):
        failure, answered = error.failure, error.answered
    failed = replace(refused(error), remedy=_REMEDIES[failure])
    if failure.concerns_tls:
        return [failed, skipped("TLS failed")]
    # If TLS is required, the server's answer was encrypted.
    mode = target.sslmode
    encrypted = answered and mode in ("require", *VERIFYING)
    tls = ok(f"sslmode={mode}") if encrypted else skipped("the login failed")
    return [tls, failed]


def _check_tls(target: Target, connection: Connection) -> Check:
    mode, pgconn = target.sslmode, connection.pgconn
    if pgconn.ssl_in_use:
        row = connection.execute(
            "SELECT version FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()"
        ).fetchone()
        version = (row and row[0]) or "TLS"
        checked = "the certificate is verified" if mode in VERIFYING else "the certificate is not verified"
        return ok(f"sslmode={mode}: {version}, {checked}")
    host = pgconn.host.decode()
    local = host.startswith(("/", "@")) or pgconn.hostaddr.decode() in ("127.0.0.1", "::1")
    if local:
        return ok(f"sslmode={mode}: no TLS, and none is needed on this machine")
    return note(
        f"sslmode={mode}: no TLS, so rows cross the network unencrypted",
        "If the server supports TLS, use sslmode=require (or verify-full) in the URL.",
    )
