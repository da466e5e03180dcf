"""Determine the database that a dump was made from, and the owners of its objects."""

from __future__ import annotations

import enum
import ipaddress
import socket
from typing import TYPE_CHECKING

from ..formatting import format_list, format_names

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ..dumpformat.manifest import Manifest
    from ..postgres.connection import Endpoint, ServerFacts


_VERSION_6 = 6
_ANY_PORT = 9
_SHOWN_OWNERS = 3


def doubt_about_authors(manifest: Manifest | None, role: str = "") -> str:
    """Return why a dump may contain code of other roles; empty if superusers or the given role own all its objects.

    :param manifest: The manifest that the dump was checked with; None without one.
    :return: A clause about the dump.
    """
    if manifest is None:
        return "was not made here, or its manifest is missing"
    if "owners" not in manifest.facts:
        return "does not list the owners of its objects"
    return other_owners(manifest.facts["owners"], role)


def other_owners(owners: Mapping[str, bool], role: str) -> str:
    """Return a clause about owners that are neither superusers nor the given role; empty if there are none.

    :param owners: Each owner, with whether it is a superuser.
    """
    found = sorted(name for name, superuser in owners.items() if not superuser and name != role)
    if not found:
        return ""
    plural = "are not superusers" if len(found) > 1 else "is not a superuser"
    return f"contains objects of {format_list(found, _SHOWN_OWNERS)}, who {plural}"


class OriginMatch(enum.Enum):
    """Whether a dump is of a database."""

    SAME = enum.auto()
    UNCERTAIN = enum.auto()
    OTHER = enum.auto()


def match_database(
    manifest: Manifest, server: ServerFacts, host: str, port: int, oids: Collection[int] = ()
) -> OriginMatch:
    """Return whether a dump is of this database, and whether that is certain.

    Another system identifier means another cluster. A copy of a cluster has the same identifier, so host, port and the
    database's oid must be equal, too. If host or port differ, both hosts must be this machine, and the server must have
    the same :class:`Instance`. Without an identifier, host and port must be equal, and so must the :class:`Instance`,
    because a port may lead to another server now (a tunnel).

    :param oids: Other oids of the database, from before or after a swap.
    """
    if not is_of_database(manifest, server, host, port):
        return OriginMatch.OTHER
    source, instance = manifest.source, server.instance
    there, known = str(source.get("host")), source.get("system_identifier") and server.system_identifier
    if known and (there, source.get("port")) == (host, port):
        oid = source.get("database_oid", instance.database_oid if instance else None)
        # The dumped database may have been dropped, and another one created with its name.
        is_known = instance is None or oid == instance.database_oid or oid in oids
        return OriginMatch.SAME if is_known else OriginMatch.UNCERTAIN
    if known and not (is_this_machine(there) and is_this_machine(host)):
        return OriginMatch.UNCERTAIN
    has_oid = instance is not None and source.get("database_oid") in {instance.database_oid, *oids}
    return OriginMatch.SAME if has_oid and _is_same_instance(manifest, server) else OriginMatch.UNCERTAIN


def _is_same_instance(manifest: Manifest, server: ServerFacts) -> bool:
    instance, source = server.instance, manifest.source
    if instance is None:
        return False
    since = instance.counting_since
    return source.get("started") == instance.started or (since is not None and source.get("counting_since") == since)


def is_of_cluster(manifest: Manifest, server: ServerFacts) -> bool:
    """Return whether a dump is certainly of this cluster, so that its role names mean the roles of this server."""
    identifier = manifest.source.get("system_identifier")
    if identifier and server.system_identifier:
        return bool(identifier == server.system_identifier)
    return _is_same_instance(manifest, server)


def is_this_machine(host: str) -> bool:
    """Return whether a host is this machine: a socket, loopback, its name, or an address of one of its interfaces."""
    name = host.lower().rstrip(".")
    if host.startswith(("/", "@")) or name in {"localhost", socket.gethostname().lower()}:
        return True
    return is_loopback(host) or _is_own_address(host)


def _is_own_address(address: str) -> bool:
    """Return whether this machine has an address: it would send to it from the same address. Nothing is sent."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(address).version == _VERSION_6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, _ANY_PORT))
            return bool(ipaddress.ip_address(probe.getsockname()[0]) == ipaddress.ip_address(address))
    except (ValueError, OSError):
        return False


def is_loopback(address: str) -> bool:
    """Return whether an address is a loopback address."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def describe_source(manifest: Manifest) -> str:
    """Return database, host and port that a dump was made from."""
    source = manifest.source
    return f"{source.get('database')} at {source.get('host')} port {source.get('port')}"


def describe_databases(manifest: Manifest, endpoint: Endpoint) -> tuple[str, str]:
    """Return the database that a dump was made from and another one, with their clusters if only these differ."""
    source, cluster = describe_source(manifest), manifest.source.get("system_identifier")
    if not is_of_address(manifest, endpoint.database, endpoint.host, endpoint.port):
        return source, endpoint.label
    return f"{source}, cluster {cluster}" if cluster else source, str(endpoint)


_ONLY = {"definitions": "without rows", "rows": "rows without definitions"}


def describe_part(manifest: Manifest) -> str:
    """Return the part of its database that a dump contains; empty for all of it, with or without all rows."""
    selection = manifest.extra.get("selection")
    if not selection:
        return ""
    schemas, excluded = selection["schemas"], selection["excluded_schemas"]
    found = [
        f"only {format_list(selection['tables'])}" if selection["tables"] else "",
        f"only {_schemas(schemas)}" if schemas else "",
        f"without {_schemas(excluded)}" if excluded else "",
        f"without {format_list(selection['excluded_tables'])}" if selection["excluded_tables"] else "",
        _ONLY.get(selection["only"], ""),
    ]
    return ", ".join(filter(None, found))


def describe_lacks(part: str, excluded: Sequence[tuple[str, str]]) -> list[str]:
    """Return clauses that describe what a dump lacks of its database; none for a dump of all of it.

    :param part: The result of :func:`describe_part`.
    :param excluded: The tables whose rows it leaves out.
    """
    rows = f"without the rows of {format_names(excluded)}" if excluded and _ONLY["definitions"] not in part else ""
    return list(filter(None, [part, rows]))


def _schemas(names: Sequence[str]) -> str:
    return f"the schema{'s' if len(names) > 1 else ''} {format_names(names)}"


def is_of_database(manifest: Manifest, server: ServerFacts, host: str, port: int) -> bool:
    """Return whether a dump is of this database: by the system identifier if both are known, else by host and port."""
    source = manifest.source
    if source.get("database") != server.database:
        return False
    identifier = source.get("system_identifier")
    if identifier and server.system_identifier:
        return bool(identifier == server.system_identifier)
    return (source.get("host"), source.get("port")) == (host, port)


def is_of_address(manifest: Manifest, database: str, host: str, port: int | str) -> bool:
    """Return whether a dump was made from a database of this name at this address. No server is asked."""
    source = manifest.source
    there = str(source.get("host"))
    same = there == host or (is_this_machine(there) and is_this_machine(host))
    return same and (source.get("database"), str(source.get("port"))) == (database, str(port))


def origin_key(manifest: Manifest) -> tuple[str, ...]:
    """Return a key that dumps of one database share: its name, system identifier, host and port.

    For two hosts with the same system identifier the keys differ, because one may be a copy, although
    :func:`is_of_database` accepts both. The system identifier is empty if the role may not read it.
    """
    return tuple(str(manifest.source.get(name) or "") for name in ("database", "system_identifier", "host", "port"))
