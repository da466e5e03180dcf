"""The git commit and branch that a dump is made from."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..errors import MissingProgramError
from .processes import run_program

if TYPE_CHECKING:
    from pathlib import Path


def git_state(root: Path) -> dict[str, object] | None:
    """Return the project's commit, branch, and whether tracked files differ from the commit; None outside git.

    The branch is None if HEAD is detached.
    """
    with contextlib.suppress(MissingProgramError):
        commit = run_program(["git", "-C", root, "rev-parse", "HEAD"])
        if commit.returncode == 0:
            status = run_program(["git", "-C", root, "status", "--porcelain", "--untracked-files=no"])
            branch = run_program(["git", "-C", root, "symbolic-ref", "--short", "--quiet", "HEAD"]).stdout.strip()
            return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip()), "branch": branch or None}
    return None
