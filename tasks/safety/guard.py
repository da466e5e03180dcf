"""The guard: whether a database that is about to be destroyed really is one of this machine's, and may be.

A target is what the server says of itself and what libpq really connected to, not how its URL is spelled: names
resolve, `?host=`, services and the environment lead elsewhere, and tunnels lead from loopback to production.
"""

from __future__ import annotations

import contextlib
import fnmatch
import posixpath
from typing import TYPE_CHECKING

from ..dumpfiles.origin import is_loopback, is_this_machine
from ..dumpfiles.paths import list_dumps, list_safety_dumps, read_manifest
from ..errors import BadInputError, GuardError
from ..postgres.connection import connected, read_endpoint, server_facts, translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..config.settings import Settings
    from ..config.target import Target
    from ..postgres.connection import Connection, Endpoint, ServerFacts


def refuse_protected(settings: Settings, target: Target, found: Endpoint | None = None) -> None:
    """Refuse what the configuration protects.

    :param found: Where the connection really leads, once there is one; before, the URL is judged.
    :raises GuardError: `db.protected` names the host, an address, the database or the cluster's number.
    """
    known = (
        (target.host, target.database)
        if found is None
        else (found.host, found.address, found.server, found.identifier, found.database)
    )
    hosts = (target.host,) if found is None else (found.host, found.address)
    if any(is_this_machine(each) for each in hosts):
        known = (*known, "localhost")
    for pattern in settings.protected:
        if _matches([pattern], known):
            raise GuardError(
                f"{target.label} is protected (db.protected has {pattern!r}). Nothing was touched; check the URL."
            )


def unprotected_target(settings: Settings) -> Target:
    """Return the configured database, whose URL is judged before anything connects.

    :raises GuardError: The configuration protects it.
    """
    target = settings.target()
    refuse_protected(settings, target)
    return target


@contextlib.contextmanager
def guarded_connection(
    settings: Settings, target: Target, what: str = "database"
) -> Iterator[tuple[Connection, ServerFacts, Endpoint]]:
    """Connect to a database that may be destroyed, to look at it and to touch nothing.

    :param what: What is looked at, for an error of the server.
    :raises GuardError: The configuration protects what the connection really leads to.
    """
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated(f"Looking at the {what} failed, nothing was touched", target),
    ):
        server = server_facts(connection)
        endpoint = read_endpoint(connection, server)
        refuse_protected(settings, target, endpoint)
        yield connection, server, endpoint


def nonlocal_reason(settings: Settings, found: Endpoint) -> str:
    """Tell why a database does not count as one of this machine's; empty where it does.

    :return: The reason, for a sentence; `db.local` lists what counts as local all the same.
    """
    if _matches(settings.local, (found.host, found.address, found.server, found.identifier)):
        return ""
    if not found.socket and not is_loopback(found.address):
        return f"the server is at {found.address or found.host}"
    if not found.socket and not is_loopback(found.server):
        return f"{found.host} leads on to {found.server}, as the server says: a container's port, a tunnel or a proxy"
    elsewhere = _elsewhere(settings, found.identifier)
    return f"a dump's manifest knows this server at {elsewhere}: {found.host} is a tunnel to it" if elsewhere else ""


def require_confirmation(label: str, found: Endpoint, reason: str, confirm: str, typed: str | None) -> None:
    """Let only who has named the database destroy one that is not local.

    :param reason: What `nonlocal_reason` said.
    :param confirm: The value of `--confirm`; empty if it was not given.
    :param typed: What was typed when asked; None where nobody could be asked.
    :raises GuardError: The name is another, or missing. Nothing was touched.
    """
    if confirm and confirm != found.database:
        raise GuardError(
            f"--confirm={confirm} does not name the database that the URL leads to, {label}. Nothing was touched."
        )
    if not reason or confirm:
        return
    if typed is None:
        raise GuardError(
            f"{label} does not count as local: {reason}. Nothing was touched.",
            fix=f"To destroy what it holds, name it: --confirm={found.database} (--yes does not do that). If the "
            f"server is on this machine, as in a container, add {_local_entry(found)!r} to db.local (INVOKE_DB_LOCAL).",
        )
    if typed.strip() != found.database:
        raise GuardError(f"That was not the name of the database. Nothing was touched; {label} is as it was.")


def require_certain_database(found: Endpoint, doubt: str, confirm: str, typed: str | None) -> None:
    """Let only who has named the database restore into it a safety dump that may be of another one.

    :param doubt: Why it may be; empty where it is certain. For the others see :func:`allow`.
    :raises GuardError: The name is another, or missing. Nothing was touched.
    """
    if doubt and found.database not in {confirm, (typed or "").strip()}:
        fix = f"If it is the same server: --confirm={found.database}"
        raise GuardError(f"{doubt}. Nothing was touched.", fix=fix)


def require_named_database(label: str, found: Endpoint, source: str, confirm: str, typed: str | None) -> None:
    """Let only who has named the database restore the dump of another one over what it holds.

    :param source: The database that the dump was made from; empty where it is this one. For the others see
        :func:`require_confirmation`.
    :raises GuardError: The name is another, or missing. Nothing was touched.
    """
    if source and found.database not in {confirm, (typed or "").strip()}:
        raise GuardError(
            f"The dump was made from {source}, not from {label}. Nothing was touched.",
            fix=f"To replace what {label} holds, name it: --confirm={found.database} (--yes does not do that).",
        )


def _matches(patterns: Iterable[str], values: Iterable[str]) -> bool:
    known = [_normal(value) for value in values if value]
    return any(fnmatch.fnmatchcase(value, _normal(pattern)) for pattern in patterns for value in known)


def _normal(name: str) -> str:
    """Write a host, a socket folder, an address or a database so that equal ones are written alike."""
    name = name.strip().lower()
    if name.startswith(("/", "@")):
        return posixpath.normpath("/" + name.removeprefix("@").lstrip("/"))
    if name.startswith("[") and name.endswith("]") and ":" in name:
        # An address of IPv6, and no class of characters.
        name = name[1:-1]
    return name.rstrip(".") or name


def _elsewhere(settings: Settings, identifier: str) -> str:
    """Tell at which other host a manifest beside the dumps has met this cluster; empty if none has."""
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
    """Name what makes a server count as local in `db.local`, and no other one."""
    if not found.socket and not is_loopback(found.address):
        return found.address or found.host
    if not found.socket and not is_loopback(found.server):
        return found.server
    return found.identifier or found.host
