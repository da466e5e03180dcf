"""Where a dump comes from: which database it is of, and who owned what it holds."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from ..formatting import format_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..dumpformat.manifest import Manifest
    from ..postgres.connection import ServerFacts


_SHOWN_OWNERS = 3


def doubt_about_authors(manifest: Manifest | None, role: str = "") -> str:
    """Tell why a dump may hold code of others; empty where superusers, or the role, own all that it holds.

    :param manifest: The manifest that the dump was proven by; None for a dump that was not made here.
    :return: A clause about the dump.
    """
    if manifest is None:
        return "was not made here"
    if "owners" not in manifest.facts:
        return "does not say who owns what it holds"
    return other_owners(manifest.facts["owners"], role)


def other_owners(owners: Mapping[str, bool], role: str) -> str:
    """Tell of owners other than superusers and a role; empty where there are none.

    :param owners: Each with whether it is a superuser.
    :return: A clause about what holds their objects.
    """
    found = sorted(name for name, superuser in owners.items() if not superuser and name != role)
    if not found:
        return ""
    plural = "are no superusers" if len(found) > 1 else "is no superuser"
    return f"holds objects of {format_list(found, _SHOWN_OWNERS)}, who {plural}"


class OriginMatch(enum.Enum):
    """Whether a dump is of a database."""

    SAME = enum.auto()
    UNCERTAIN = enum.auto()
    OTHER = enum.auto()


def match_database(manifest: Manifest, server: ServerFacts, host: str, port: int) -> OriginMatch:
    """Tell whether a dump is of this database, and whether that is certain.

    The cluster's number decides where both know it. Else name, host and port must agree, which may lead to another
    server now (a tunnel's port); it is certain only where the server shows the same :class:`Instance`.
    """
    if not is_of_database(manifest, server, host, port):
        return OriginMatch.OTHER
    source, instance = manifest.source, server.instance
    if source.get("system_identifier") and server.system_identifier:
        return OriginMatch.SAME
    if instance is None or source.get("database_oid") != instance.database_oid:
        return OriginMatch.UNCERTAIN
    since = instance.counting_since
    same = source.get("started") == instance.started or (since is not None and source.get("counting_since") == since)
    return OriginMatch.SAME if same else OriginMatch.UNCERTAIN


def is_of_database(manifest: Manifest, server: ServerFacts, host: str, port: int) -> bool:
    """Tell whether a dump is of this database: by the cluster's number, where both know it, else by host and port."""
    source = manifest.source
    if source.get("database") != server.database:
        return False
    identifier = source.get("system_identifier")
    if identifier and server.system_identifier:
        return bool(identifier == server.system_identifier)
    return (source.get("host"), source.get("port")) == (host, port)
