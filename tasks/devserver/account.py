"""The account that a private PostgreSQL server runs as."""

from __future__ import annotations

import contextlib
import os
import pwd
from typing import TYPE_CHECKING

from ..errors import MissingProgramError
from ..system.processes import Account

if TYPE_CHECKING:
    from pathlib import Path


def account_for(folder: Path | None = None) -> Account | None:
    """Return the account that the server runs as; None for the current user, unless that is root.

    For root it is the owner of the data, the owner of the project, `postgres` or `nobody`: the first that exists and
    is not root.

    :param folder: The server's folder, if it has one; the data are below it, and the project's folder is its parent.
    :raises MissingProgramError: There is no such account.
    """
    if os.geteuid() != 0:
        return None
    paths = (folder / "data", folder.parent) if folder else ()
    for path in paths:
        with contextlib.suppress(OSError, KeyError):  # no such folder; no user with that id
            entry = pwd.getpwuid(path.stat().st_uid)
            if entry.pw_uid != 0:
                return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise MissingProgramError(
        "PostgreSQL does not run as root, and this machine has neither a user postgres nor a user nobody. "
        "Nothing was touched. Run this as an ordinary user."
    )


def give(path: Path, account: Account | None) -> None:
    """Make the account the owner of a file; do nothing for None, the current user."""
    if account:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
