"""The way to the server, step by step: where the URL is, what it means, host, port, TLS, login."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.dotenv import read_url
from ..config.target import sanitize
from ..errors import BadInputError, TaskError
from ..postgres.connection import connect
from ..postgres.login_failure import LoginFailure, NotConnectedError
from ..system.runtime import BackgroundTask
from .check import CheckState, note, ok, refused, skipped, wrong
from .compose_file import find_compose_service

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.dotenv import FoundUrl
    from ..config.settings import Settings
    from ..config.target import Target
    from ..postgres.connection import Connection
    from .check import Check


if TYPE_CHECKING:
    Resolve = Callable[[str], list[str]]

_RESOLVE_SECONDS = 5.0
_OPEN_SECONDS = 3.0
# An examination waits for nobody's lock longer than that.
LOCK_MILLISECONDS = 2000
_VERIFYING = ("verify-ca", "verify-full")
_TRY = "`inv db.url` shows host, port and database as libpq gets them."
_REMEDIES = {
    LoginFailure.WRONG_PASSWORD: (
        "User or password of the URL is wrong: correct it (%40 is an @), or let a superuser run ALTER ROLE … PASSWORD."
    ),
    LoginFailure.NO_PASSWORD: "The URL has no password: write it as user:password@host.",
    LoginFailure.NO_DATABASE: (
        "Make it (CREATE DATABASE, or `inv db.migrate`, where Prisma makes it), or correct the name behind the host."
    ),
    LoginFailure.NO_ROLE: "Create it (CREATE ROLE … LOGIN PASSWORD …), or correct the user in the URL.",
    LoginFailure.NOT_ADMITTED: (
        "The server takes no such login from here: try sslmode=require, or add a line to the server's pg_hba.conf."
    ),
    LoginFailure.TOO_MANY_CONNECTIONS: (
        "All its connections are taken: end some (pg_stat_activity shows them), or raise max_connections."
    ),
    LoginFailure.NOT_READY: "Wait a moment, and look again.",
    LoginFailure.NO_TLS: (
        "Let the server speak TLS (ssl = on), or, if the network can be trusted, write sslmode=prefer into the URL."
    ),
    LoginFailure.CERTIFICATE: (
        "Name the authority's certificate with sslrootcert=FILE in the URL, and the host as the certificate does."
    ),
    LoginFailure.OTHER_TLS: "Correct sslmode and the certificates that the URL names.",
    LoginFailure.OTHER: f"Look at the server's log. {_TRY}",
}


@dataclass(frozen=True)
class Reached:
    """How far it was.

    :ivar connection: Open, and the caller's to close; None where the login failed or nobody came to it.
    """

    checks: tuple[Check, ...]
    target: Target | None = None
    connection: Connection | None = None


def resolve_addresses(host: str) -> list[str]:
    """Resolve a name, within a time limit.

    :raises OSError: It has no address, or nobody answers.
    """
    # The resolver of the system can't be interrupted, and may take minutes.
    task = BackgroundTask(lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    task.start()
    task.join(_RESOLVE_SECONDS)
    if task.is_alive():
        raise TimeoutError(None, f"no answer in {_RESOLVE_SECONDS:.0f} s")
    try:
        found = task.result()
    except (OSError, UnicodeError) as error:
        raise OSError(None, getattr(error, "strerror", None) or "it is no host's name") from None
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def check_connectivity(settings: Settings, *, resolve: Resolve = resolve_addresses) -> Reached:
    """Go as far as possible, and say at each step how it went; what comes behind a failure is skipped."""
    first, found = _found(settings)
    if found is None:
        return _ended([first], "there is no URL", "URL understood", "host", "port", "TLS", "login")
    second, target = _understood(settings, found)
    if target is None:
        return _ended([first, second], "the URL is not understood", "host", "port", "TLS", "login")
    checks = [first, second]
    if "service" in target.keywords and not target.keywords.get("host"):
        why = "only the service that the URL names knows it"
        checks += [skipped("host", why), skipped("port", why)]
    else:
        third, candidates = _host(target, resolve, settings.root)
        checks.append(third)
        if not candidates:
            return _ended(checks, "the host is not known", "port", "TLS", "login", target=target)
        checks.append(_port(candidates))
        if checks[-1].state is CheckState.WRONG:
            return _ended(checks, "the port is not open", "TLS", "login", target=target)
    last, connection = _login(target)
    return Reached(checks=(*checks, *last), target=target, connection=connection)


def _ended(checks: list[Check], why: str, *rest: str, target: Target | None = None) -> Reached:
    return Reached(checks=(*checks, *(skipped(name, why) for name in rest)), target=target)


def _found(settings: Settings) -> tuple[Check, FoundUrl | None]:
    name = "URL found"
    try:
        found = settings.url()
    except BadInputError as error:
        return refused(name, error, f"Correct {settings.url_env}, and look again."), None
    if found.source != "environment":
        return ok(name, f"{settings.url_env} from {found.location}"), found
    try:
        others = {key: value for key, value in settings.environ.items() if key != settings.url_env}
        hidden = read_url(settings.url_env, settings.root, others, settings.prisma_dir)
    except BadInputError:
        hidden = found
    if hidden.value != found.value:
        return note(
            name,
            f"{settings.url_env} from the environment; {hidden.source} has another one, which is not used",
            f"If {hidden.source} is meant: `unset {settings.url_env}`.",
        ), found
    return ok(name, f"{settings.url_env} from the environment"), found


def _understood(settings: Settings, found: FoundUrl) -> tuple[Check, Target | None]:
    name = "URL understood"
    try:
        target = sanitize(found.value, prisma_dir=settings.root / "prisma")
        target.child_environment()
    except BadInputError as error:
        return refused(name, error, f"Correct {settings.url_env} in {found.location}, and look again."), None
    target = replace(target, origin=f"{settings.url_env} from {found.location}")
    changes = "".join(f"; {each.parameter} is {each.action}" for each in target.changes)
    what = f"{target.label}, schema {target.schema or 'public'}{changes}"
    if target.pooled:
        remedy = "Dumps and restores want the direct URL: --url-env=DIRECT_URL."
        return note(name, f"{what}; it looks like a connection pool's", remedy), target
    return ok(name, what), target


@dataclass(frozen=True)
class _Candidate:
    """One address, or one socket, that libpq would try.

    :ivar name: For people.
    :ivar path: The socket's; empty for TCP.
    """

    name: str
    address: str
    port: int
    path: str = ""


def _host(target: Target, resolve: Resolve, root: Path) -> tuple[Check, list[_Candidate]]:
    candidates: list[_Candidate] = []
    services: list[str] = []
    said, missing = [], []
    for host, port, address in target.endpoints:
        if host.startswith(("/", "@")) and not address:
            if host.startswith("/") and not Path(host).is_dir():
                missing.append(f"the socket's folder {host} does not exist")
                continue
            path = f"{host}/.s.PGSQL.{port}"
            candidates.append(_Candidate(name=f"socket {path}", address="", port=int(port), path=path))
            said.append(f"socket in {host}")
            continue
        try:
            known = [address] if address else resolve(host)
        except OSError as error:
            missing.append(f"{host} can't be resolved ({error.strerror or error})")
            services += _compose_advice(root, host, port)
            continue
        candidates += [_Candidate(name=f"{each} port {port}", address=each, port=int(port)) for each in known]
        said.append(host if known == [host] else f"{host} is {', '.join(known)}")
    if not missing:
        return ok("host", "; ".join(said)), candidates
    what = "; ".join([*missing, *said])
    remedy = " ".join(services) or f"Correct the host in the URL, or look at network, VPN and DNS. {_TRY}"
    return (note if candidates else wrong)("host", what, remedy), candidates


def _compose_advice(root: Path, host: str, port: str) -> list[str]:
    """Say how to reach a service of Compose, whose name is known only inside its network."""
    service = find_compose_service(root, host, port)
    if service is None:
        return []
    name = f"{host} is a service of {service.file}, and its name is known only inside the network of Compose."
    if service.published:
        return [f"{name} Write localhost:{service.published} into the URL instead of {host}:{port}."]
    publish = f'publish its port there (ports: ["{port}:{port}"]), and write localhost and that port into the URL.'
    return [f"{name} If it is not published yet, {publish}"]


def _port(candidates: list[_Candidate]) -> Check:
    closed = []
    for candidate in candidates:
        why = _closed(candidate)
        if not why:
            return ok("port", f"{candidate.name} is open")
        closed.append(f"{candidate.name}: {why}")
    remedy = f"Start the server there (`inv pg.start` starts one of your own), or correct host and port. {_TRY}"
    return wrong("port", "; ".join(closed), remedy)


def _closed(candidate: _Candidate) -> str:
    """Tell why nobody can connect; empty where somebody can."""
    try:
        if not candidate.path:
            socket.create_connection((candidate.address, candidate.port), timeout=_OPEN_SECONDS).close()
            return ""
        with socket.socket(socket.AF_UNIX) as unix:
            unix.settimeout(_OPEN_SECONDS)
            unix.connect(f"\0{candidate.path[1:]}" if candidate.path.startswith("@") else candidate.path)
    except TimeoutError:
        return f"no answer in {_OPEN_SECONDS:.0f} s"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def _login(target: Target) -> tuple[list[Check], Connection | None]:
    try:
        connection = connect(target, lock_timeout=LOCK_MILLISECONDS)
    except TaskError as error:
        return _refused(target, error), None
    info = connection.info
    return [_tls(target, connection), ok("login", f"as {info.user} in {info.dbname}")], connection


def _refused(target: Target, error: TaskError) -> list[Check]:
    failure, answered = LoginFailure.OTHER, False
    if isinstance(error, NotConnectedError):
        failure, answered = error.failure, error.answered
    if failure.concerns_tls:
        tls = replace(refused("TLS", error), remedy=_REMEDIES[failure])
        return [tls, skipped("login", "TLS is not as it was asked for")]
    # Where TLS is a must, the server's own answer came through it.
    mode = target.sslmode
    through = answered and mode in ("require", *_VERIFYING)
    tls = ok("TLS", f"sslmode={mode}") if through else skipped("TLS", "nobody is logged in")
    return [tls, replace(refused("login", error), remedy=_REMEDIES[failure])]


def _tls(target: Target, connection: Connection) -> Check:
    mode, pgconn = target.sslmode, connection.pgconn
    if pgconn.ssl_in_use:
        row = connection.execute(
            "SELECT version FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()"
        ).fetchone()
        version = (row and row[0]) or "TLS"
        checked = "the certificate is verified" if mode in _VERIFYING else "the certificate is not verified"
        return ok("TLS", f"sslmode={mode}: {version}, {checked}")
    host = pgconn.host.decode()
    near = host.startswith(("/", "@")) or pgconn.hostaddr.decode() in ("127.0.0.1", "::1")
    if near:
        return ok("TLS", f"sslmode={mode}: none, and none is needed on this machine")
    return note(
        "TLS",
        f"sslmode={mode}: none, so rows cross the network as they are",
        "If the server can, write sslmode=require (or verify-full) into the URL.",
    )
