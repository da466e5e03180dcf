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
    """Return whom the server runs as: ourselves (None), or for root somebody else.

    :param folder: Where data are kept: whoever has them goes first, then whoever has the project.
    """
    if os.geteuid() != 0:
        return None
    paths = (folder / "data", folder.parent) if folder else ()
    for path in paths:
        with contextlib.suppress(OSError, KeyError):  # it is not there; nobody has that number
            entry = pwd.getpwuid(path.stat().st_uid)
            if entry.pw_uid != 0:
                return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise MissingProgramError(
        "PostgreSQL does not run as root, and this machine has neither a user postgres nor nobody: "
        "try it as an ordinary user. Nothing was touched."
    )


def give(path: Path, account: Account | None) -> None:
    """Make an account the owner of a file, where it is not ourselves."""
    if account:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
