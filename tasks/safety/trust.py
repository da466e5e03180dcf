"""Decide whether a role that may do anything loads a dump unasked: by who wrote the code that is in it.

A dump is its authors' code, and it runs with the rights of the role that loads it. An author is each owner of an object
in the dumped database. A role that may do no more than fill its database is never asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import BadInputError
from .guard import nonlocal_reason

if TYPE_CHECKING:
    from pathlib import Path

    from ..config.settings import Settings
    from ..postgres.connection import Connection, Endpoint


TRUST_QUESTION = "Type yes to load it all the same: "
# These may run programs, read and write the server's files, or reach other servers.
_PRIVILEGED_ROLES = (
    "pg_execute_server_program",
    "pg_read_server_files",
    "pg_write_server_files",
    "pg_create_subscription",
)
# A session's own role counts, too: a dump may RESET ROLE.
_PRIVILEGED = """
SELECT r.rolname, p.rolname, p.rolsuper, p.rolcreaterole
  FROM pg_catalog.pg_roles r, pg_catalog.pg_roles p
 WHERE r.rolname IN (current_user, session_user)
   AND (p.rolsuper OR p.rolcreaterole OR p.rolname = ANY(%s))
   AND (r.oid = p.oid OR pg_catalog.pg_has_role(r.oid, p.oid, 'MEMBER'))
 ORDER BY NOT p.rolsuper, r.oid <> p.oid, NOT p.rolcreaterole, 1, 2 LIMIT 1
"""


def author_risk(connection: Connection, settings: Settings, endpoint: Endpoint, path: Path, why: str) -> str:
    """Tell what a role with special rights risks that loads what others wrote; empty where there is no question.

    :param why: What `doubt_about_authors` or `other_owners` say.
    """
    if not why or (settings.trust_local and not nonlocal_reason(settings, endpoint)):
        return ""
    row = connection.execute(_PRIVILEGED, [list(_PRIVILEGED_ROLES)]).fetchone()
    if row is None:
        return ""
    role, privileged, superuser, creates_roles = row
    rights = "is a superuser" if superuser else "has CREATEROLE" if creates_roles else ""
    if role != privileged:
        rights = f"is a member of {privileged}" + (f", which {rights}" if rights else "")
    return (
        f"{path.name} {why}. Because {role} {rights}, the code in it may do anything on this server, now or when it is "
        f"used later. Loading it as an ordinary role that owns the database is the safe way."
    )


def require_trust(risk: str, answer: str | None) -> None:
    """Let only a person who says yes load what :func:`author_risk` warns of.

    :param answer: What was typed when asked; None where nobody could be asked.
    :raises BadInputError: It was no yes. Nothing was touched.
    """
    if answer is None:
        raise BadInputError(
            f"{risk} Nothing was touched.",
            fix="If you trust its authors, add --trust; `db.trust: local` in the configuration (INVOKE_DB_TRUST=local) "
            "says so for all local databases.",
        )
    if answer.strip().lower() not in {"y", "yes"}:
        raise BadInputError("The answer was not yes. Nothing was touched.")
