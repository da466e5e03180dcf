"""Decide whether a role that may do anything loads a dump unasked: by who wrote the code that is in it.

A dump is its authors' code, and it runs with the rights of the role that loads it. An author is each owner of an object
in the dumped database. A role that may do no more than fill its database is never asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import BadInputError
from ..postgres.session import one
from . import guard

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ..archive.manifest import Manifest
    from ..postgres.session import Connection, ServerFacts
    from ..settings import Settings
    from .guard import Place
    from .report import Report

# These may run programs, read and write the server's files, or reach other servers.
_MIGHTY_ROLES = ("pg_execute_server_program", "pg_read_server_files", "pg_write_server_files", "pg_create_subscription")
# A session's own role counts, too: a dump may RESET ROLE.
_MIGHTY = """
SELECT EXISTS (
  SELECT FROM pg_catalog.pg_roles r, pg_catalog.pg_roles p
   WHERE r.rolname IN (current_user, session_user)
     AND (p.rolsuper OR p.rolcreaterole OR p.rolname = ANY(%s))
     AND (r.oid = p.oid OR pg_catalog.pg_has_role(r.oid, p.oid, 'MEMBER')))
"""
_SHOWN = 3


def doubt(manifest: Manifest | None, role: str = "") -> str:
    """Tell why a dump may hold code of others; empty where superusers, or the role, own all that it holds.

    :param manifest: The manifest that the dump was proven by; None for a dump that was not made here.
    :return: A clause about the dump.
    """
    if manifest is None:
        return "was not made here"
    if "owners" not in manifest.facts:
        return "does not say who owns what it holds"
    return others(manifest.facts["owners"], role)


def others(owners: Mapping[str, bool], role: str) -> str:
    """Tell of owners other than superusers and a role; empty where there are none.

    :param owners: Each with whether it is a superuser.
    :return: A clause about what holds their objects.
    """
    found = sorted(name for name, superuser in owners.items() if not superuser and name != role)
    if not found:
        return ""
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    plural = "are no superusers" if len(found) > 1 else "is no superuser"
    return f"holds objects of {', '.join(found[:_SHOWN])}{more}, who {plural}"


def ask(
    connection: Connection, settings: Settings, server: ServerFacts, place: Place, path: Path, why: str, report: Report
) -> None:
    """Ask a person once before a role that may do anything loads what others wrote.

    :param why: What `doubt` or `others` say; empty where there is no question.
    :raises BadInputError: The answer is no, or no person can be asked. Nothing was touched.
    """
    if not why or not one(connection, _MIGHTY, [list(_MIGHTY_ROLES)])[0]:
        return
    if settings.trust_local and not guard.far(settings, place):
        return
    risk = (
        f"{path.name} {why}: as {server.user} may do anything on this server, so may the code in it, now or when it is "
        f"used later. Loading it as an ordinary role that owns the database is the safe way."
    )
    if settings.dry:
        report.warn(risk)
        return
    answer = report.ask(f"{risk}\nType yes to load it all the same: ")
    if answer is None:
        raise BadInputError(
            f"{risk} Nothing was touched. If you trust its authors, add --trust; `db.trust: local` in the "
            f"configuration (INVOKE_DB_TRUST=local) says so for all local databases."
        )
    if answer.lower() != "yes":
        raise BadInputError("The answer was not yes. Nothing was touched.")
