"""Decide whether a role that may do anything loads a dump unasked: by who wrote the code that is in it.

A dump is its authors' code, and it runs with the rights of the role that loads it. An author is each owner of an object
in the dumped database. A role that may do no more than fill its database is never asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import BadInputError
from ..postgres.connection import one
from .guard import nonlocal_reason

if TYPE_CHECKING:
    from pathlib import Path

    from ..config.settings import Settings
    from ..postgres.connection import Connection, Endpoint, ServerFacts
    from ..progress import Report


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


def is_asked(connection: Connection, settings: Settings, place: Endpoint) -> bool:
    """Return whether the session's role is asked before it loads what others wrote."""
    if not one(connection, _MIGHTY, [list(_MIGHTY_ROLES)])[0]:
        return False
    return not (settings.trust_local and not nonlocal_reason(settings, place))


def ask_about_authors(
    connection: Connection,
    settings: Settings,
    server: ServerFacts,
    place: Endpoint,
    path: Path,
    why: str,
    report: Report,
) -> None:
    """Ask a person once before a role that may do anything loads what others wrote.

    :param why: What `doubt` or `others` say; empty where there is no question.
    :raises BadInputError: The answer is no, or no person can be asked. Nothing was touched.
    """
    if not why or not is_asked(connection, settings, place):
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
