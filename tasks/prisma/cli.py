"""The project's own Prisma: where it is, which version, how it is called, and what to type when it is missing."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import BadInputError, MissingProgramError
from . import project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Manager:
    """A package manager, by the lock file that it leaves.

    :ivar install: What to type to install the project's packages.
    :ivar run: What to type to run a program of theirs.
    """

    name: str
    locks: tuple[str, ...]
    install: str
    run: str


_NPM = Manager("npm", ("package-lock.json", "npm-shrinkwrap.json"), "npm install", "npx")
_MANAGERS = (
    Manager("pnpm", ("pnpm-lock.yaml",), "pnpm install", "pnpm"),
    Manager("yarn", ("yarn.lock",), "yarn install", "yarn"),
    Manager("bun", ("bun.lock", "bun.lockb"), "bun install", "bunx"),
    _NPM,
)
# `migrate deploy` was renamed in 8, which keeps its state in another table, too.
RENAMED = 8


@dataclass(frozen=True)
class Prisma:
    """A Prisma that was found.

    :ivar command: The program and the words before its own, to be run in the folder `home`.
    :ivar package: Its `package.json`; None where it is none of node_modules (Yarn's Plug'n'Play).
    :ivar version: As its package says; empty if it can't be read.
    :ivar typed: What a person types for it (`npx prisma`).
    :ivar configured: The words of the `migrate_command` setting, which replace it for migrations.
    """

    command: tuple[str, ...]
    home: Path
    package: Path | None
    version: str
    typed: str
    configured: tuple[str, ...] = ()

    @property
    def major(self) -> int | None:
        """Its major version, where that is known."""
        head = self.version.partition(".")[0]
        return int(head) if head.isdigit() else None

    @property
    def knows_history(self) -> bool:
        """Whether it keeps its history in `_prisma_migrations`, and `migrate status` reads it."""
        return not self.configured and (self.major is None or self.major < RENAMED)

    def deploy(self) -> tuple[str, ...]:
        """Build the command that applies pending migrations."""
        if self.configured:
            return self.configured
        renamed = self.major is not None and self.major >= RENAMED
        return (*self.command, *(("db", "migrate") if renamed else ("migrate", "deploy")))


def installed(home: Path) -> bool:
    """Tell whether a project has a Prisma of its own."""
    return _program(home) is not None or _pnp(home) is not None


def find(home: Path, environ: Mapping[str, str], configured: str = "") -> Prisma:
    """Find the Prisma that the project has installed for itself; another one would be another version.

    :param home: The folder to run it in; packages are looked for there and above, as Node does.
    :param configured: The `migrate_command` setting.
    :raises MissingProgramError: It, or Node, is missing; says what to type.
    :raises BadInputError: The configured command can't be read.
    """
    words = _words(configured)
    manager, program, path = _manager(home), _program(home), environ.get("PATH", "")
    typed = f"{manager.run} prisma"
    if program is None:
        yarn = shutil.which("yarn", path=path) if _pnp(home) is not None else None
        if yarn is not None:
            return Prisma((yarn, "prisma"), home, None, "", typed, words)
        if words:
            return Prisma((), home, None, "", typed, words)
        raise MissingProgramError(
            f"There is no Prisma in {home} (node_modules/.bin/prisma is missing). Install the project's packages there "
            f"with `{manager.install}`, or name the folder that has it in INVOKE_DB_PRISMA_DIR. Nothing was touched."
        )
    if shutil.which("node", path=path) is None and not words:
        raise MissingProgramError(
            "Node.js is not on PATH, and Prisma needs it. Install Node.js 20 or newer. Nothing was touched."
        )
    package = program.parent.parent / "prisma" / "package.json"
    return Prisma((str(program),), home, package, _version(package), typed, words)


def _words(configured: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(configured))
    except ValueError as error:
        raise BadInputError(
            f"The setting db.migrate_command (INVOKE_DB_MIGRATE_COMMAND) can't be read as a command: {error}. Nothing "
            f"was touched."
        ) from None


def _above(folder: Path) -> Iterator[Path]:
    """List a folder and those above it, up to the repository's own."""
    for each in (folder, *folder.parents):
        yield each
        if (each / ".git").exists():
            return


def _program(home: Path) -> Path | None:
    places = (each / "node_modules" / ".bin" / "prisma" for each in _above(home))
    return next((place for place in places if place.exists()), None)


def _pnp(home: Path) -> Path | None:
    return next((each for each in _above(home) if (each / ".pnp.cjs").is_file()), None)


def _manager(home: Path) -> Manager:
    for folder in _above(home):
        named = str(project.package(folder).get("packageManager", "")).partition("@")[0]
        for each in _MANAGERS:
            if each.name == named or any((folder / lock).exists() for lock in each.locks):
                return each
    return _NPM


def _version(package: Path) -> str:
    try:
        return str(json.loads(package.read_bytes())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
