"""The project's own Prisma: where it is, which version, and what to type when it is missing."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# What to type, by the lock file that the package manager leaves; npm where there is none.
_INSTALL = {
    "pnpm-lock.yaml": "pnpm install",
    "yarn.lock": "yarn install",
    "bun.lock": "bun install",
    "bun.lockb": "bun install",
    "package-lock.json": "npm install",
}


@dataclass(frozen=True)
class Prisma:
    """A Prisma that was found.

    :ivar program: What to run, in the folder `root`.
    :ivar version: As its package says; empty if it can't be read.
    """

    program: Path
    root: Path
    version: str


def installed(root: Path) -> bool:
    """Tell whether a project has a Prisma of its own."""
    return (root / "node_modules" / ".bin" / "prisma").exists()


def find(root: Path, environ: Mapping[str, str]) -> Prisma:
    """Find the Prisma that the project has installed for itself; another one would be another version.

    :param root: The folder that holds `node_modules`.
    :raises MissingProgramError: It, or Node, is missing; says what to type.
    """
    if shutil.which("node", path=environ.get("PATH", "")) is None:
        raise MissingProgramError(
            "Node.js is not on PATH, and Prisma needs it. Install Node.js 20 or newer. Nothing was touched."
        )
    if not installed(root):
        raise MissingProgramError(
            f"There is no Prisma in {root} (node_modules/.bin/prisma is missing). Install the project's packages there "
            f"with `{_install(root)}`, or name the folder that has it in INVOKE_DB_PRISMA_DIR. Nothing was touched."
        )
    return Prisma(root / "node_modules" / ".bin" / "prisma", root, _version(root))


def _install(root: Path) -> str:
    return next((command for name, command in _INSTALL.items() if (root / name).exists()), "npm install")


def _version(root: Path) -> str:
    try:
        package = json.loads((root / "node_modules" / "prisma" / "package.json").read_bytes())
        return str(package["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
