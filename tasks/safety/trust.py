"""Decide whether a role with special rights must confirm before it loads a dump with code of other roles.

The code in a dump runs with the rights of the role that loads it. Its authors are the owners of objects in the dumped
database. Roles without special rights are never asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dumpfiles.paths import dump_label
from ..errors import BadInputError
from .guard import nonlocal_reason

if TYPE_CHECKING:
    from pathlib import Path

    from ..config.settings import Settings
    from ..postgres.connection import Connection, Endpoint


TRUST_QUESTION = "Type yes to load it anyway: "
# Members may run programs, read and write the server's files, or connect to other servers.
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
    """Return the risk of loading a dump with this role, as a message; empty if nothing needs to be confirmed.

    :param why: Why the dump may hold code of other roles, as a predicate of the file's name: the result of
        `doubt_about_authors` or `other_owners`.
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
        f"{dump_label(path)} {why}. {role} {rights}, so the code in the dump may do anything on this server, "
        f"during the restore or later. It is safer to load it as an ordinary role that owns the database."
    )


def require_trust(risk: str, answer: str | None) -> None:
    """Raise unless the answer to the question about a risk is yes.

    :param risk: The result of :func:`author_risk`.
    :param answer: The answer to the prompt; None without a terminal.
    :raises BadInputError: The answer is not yes. Nothing was touched.
    """
    if answer is None:
        raise BadInputError(
            f"{risk} Nothing was touched.",
            fix="If you trust its authors, add --trust. For all local databases, set `db.trust: local` in the "
            "configuration (INVOKE_DB_TRUST=local).",
        )
    if answer.strip().lower() not in {"y", "yes"}:
        raise BadInputError("The answer was not yes. Nothing was touched.")
