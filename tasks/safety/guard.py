"""Guard: refuse to change a database that is protected, and ask for its name if it is not local.

The target is identified by what the server reports and by the address that libpq connected to, not by its URL: names
resolve, `?host=`, services and environment variables override the host, and a tunnel connects loopback to production.
"""

from __future__ import annotations

import contextlib
import fnmatch
import posixpath
from typing import TYPE_CHECKING

from ..dumpfiles.origin import is_loopback, is_this_machine
from ..dumpfiles.paths import list_dumps, list_safety_dumps, read_manifest
from ..errors import BadInputError, GuardError
from ..postgres.connection import Connection, Endpoint, ServerFacts, connected, read_endpoint, server_facts, translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..config.settings import Settings
    from ..config.target import Target


def refuse_protected(settings: Settings, target: Target, found: Endpoint | None = None) -> None:
    """Raise if the configuration protects the database.

    :param found: The endpoint of the connection; None checks the URL, before anything connects.
    :raises GuardError: `db.protected` lists the host, an address, the database or the cluster's identifier.
    """
    if found is None:
        hosts, others = [target.host], [target.database]
    else:
        hosts, others = [found.host, found.address], [found.server, found.identifier, found.database]
    known = [*hosts, *others, *(["localhost"] if any(map(is_this_machine, hosts)) else [])]
    for pattern in settings.protected:
        if _matches([pattern], known):
            raise GuardError(
                f"{target.label} is protected (db.protected has {pattern!r}). Nothing was touched; check the URL."
            )


def unprotected_target(settings: Settings) -> Target:
    """Return the configured database if its URL is not protected; connect to nothing.

    :raises GuardError: The configuration protects it.
    """
    target = settings.target()
    refuse_protected(settings, target)
    return target


@contextlib.contextmanager
def guarded_connection(
    settings: Settings, target: Target, what: str = "database"
) -> Iterator[tuple[Connection, ServerFacts, Endpoint]]:
    """Connect to a database that may be changed later, only to read it.

    :param what: What is read, for error messages.
    :raises GuardError: The configuration protects the database that the connection reached.
    """
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated(f"Reading the {what} failed, nothing was touched", target),
    ):
        server = server_facts(connection)
        endpoint = read_endpoint(connection, server)
        refuse_protected(settings, target, endpoint)
        yield connection, server, endpoint


def nonlocal_reason(settings: Settings, found: Endpoint) -> str:
    """Return why a database does not count as local, as a clause; empty if it is local.

    A database is local if its server runs on this machine or `db.local` lists it.
    """
    if _matches(settings.local, (found.host, found.address, found.server, found.identifier)):
        return ""
    if not found.socket and not is_loopback(found.address):
        return f"the server is at {found.address or found.host}"
    if not found.socket and not is_loopback(found.server):
        return f"the server reports the address {found.server}, so {found.host} is a container's port, tunnel or proxy"
    remote = _remote_host(settings, found.identifier)
    return f"a dump's manifest lists this server at {remote}, so {found.host} is a tunnel to it" if remote else ""


def require_confirmation(
    label: str, found: Endpoint, reason: str, confirm: str, typed: str | None, *, doubt: str = "", source: str = ""
) -> None:
    """Raise unless the user gave the name of a database that is not local, or may not be the one that is meant.

    :param reason: The result of :func:`nonlocal_reason`.
    :param confirm: The value of `--confirm`; empty if it was not given.
    :param typed: The answer to the prompt; None without a terminal.
    :param doubt: Why a safety dump may be of another database; empty if it is certainly of this one.
    :param source: The database that the dump was made from, if it is another one and this one holds data.
    :raises GuardError: The name is wrong or missing. Nothing was touched.
    """
    if confirm and confirm != found.database:
        raise GuardError(
            f"--confirm={confirm} does not match the database that the URL connects to, {label}. Nothing was touched."
        )
    if confirm or (typed or "").strip() == found.database:
        return
    if reason and typed is None:
        raise GuardError(
            f"{label} does not count as local: {reason}. Nothing was touched.",
            fix=f"To delete or replace its content, add --confirm={found.database} (--yes is not enough). If it is on "
            f"this machine, as in a container, add {_local_entry(found)!r} to db.local (INVOKE_DB_LOCAL).",
        )
    if reason:
        raise GuardError(f"The answer is not the name of the database. Nothing was touched; {label} is unchanged.")
    if doubt:
        fix = f"If it is the same server: --confirm={found.database}"
        raise GuardError(f"{doubt}. Nothing was touched.", fix=fix)
    if source:
        raise GuardError(
            f"The dump was made from {source}, not from {label}. Nothing was touched.",
            fix=f"To replace the content of {label}, add --confirm={found.database} (--yes is not enough).",
        )


def _matches(patterns: Iterable[str], values: Iterable[str]) -> bool:
    known = [_normal(value) for value in values if value]
    return any(fnmatch.fnmatchcase(value, _normal(pattern)) for pattern in patterns for value in known)


def _normal(name: str) -> str:
    """Return the normal form of a host, a socket folder, an address or a database's name, for comparisons."""
    name = name.strip().lower()
    if name.startswith(("/", "@")):
        return posixpath.normpath("/" + name.removeprefix("@").lstrip("/"))
    if name.startswith("[") and name.endswith("]") and ":" in name:
        # An IPv6 address, not a character class of fnmatch.
        name = name[1:-1]
    return name.rstrip(".") or name


def _remote_host(settings: Settings, identifier: str) -> str:
    """Return the remote host at which a manifest of an earlier dump recorded this cluster; empty if none did."""
    if not identifier:
        return ""
    for path in (*list_dumps(settings.dumps), *list_safety_dumps(settings.dumps)):
        with contextlib.suppress(BadInputError):
            manifest = read_manifest(path)
            if manifest is not None and manifest.source.get("system_identifier") == identifier:
                host = str(manifest.source.get("host", ""))
                if host and not is_this_machine(host) and not _matches(settings.local, [host]):
                    return host
    return ""


def _local_entry(found: Endpoint) -> str:
    """Return the entry of `db.local` that makes only this server count as local."""
    if not found.socket and not is_loopback(found.address):
        return found.address or found.host
    if not found.socket and not is_loopback(found.server):
        return found.server
    return found.identifier or found.host
