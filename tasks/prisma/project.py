"""The project's Prisma: its migrations, what its schema says, and its program."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config.prisma_home import SCHEMAS, config_file, read_package, read_text, schema_file
from ..errors import BadInputError, MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ..system.processes import Finished


if TYPE_CHECKING:
    Run = Callable[..., Finished]

_BY_FOLDER = 7
_DATASOURCE = re.compile(r"^[^\S\n]*datasource\s+\w+\s*\{", re.MULTILINE)
_COMMENT = re.compile(r"//[^\n]*")
_DIRECT = re.compile(r"""directUrl\s*=\s*env\(\s*["'](\w+)["']\s*\)""")
_LISTED_SCHEMAS = re.compile(r"^[^\S\n]*schemas\s*=\s*\[([^\][]*)\]", re.MULTILINE)
_QUOTED = re.compile(r'"([^"]+)"')
_MARK = "@invoke-postgres@"
# Prisma's own loader reads the file, whatever language it is in; it is resolved as the CLI itself does it.
_LOADER = f"""
const {{ createRequire }} = require('node:module')
const {{ realpathSync }} = require('node:fs')
const prisma = createRequire(realpathSync(process.argv[1]))
prisma('@prisma/config').loadConfigFromFile({{}}).then(({{ config, error }}) => {{
  const found = {{
    schema: config?.schema ?? null,
    migrations: config?.migrations?.path ?? null,
    error: error ? String(error.error?.message ?? error._tag) : null,
  }}
  process.stdout.write('\\n{_MARK}' + JSON.stringify(found) + '\\n', () => process.exit(0))
}})
"""
_LOADER_SECONDS = 30.0


def migrations_folder(folder: Path, installed: Path | None, major: int | None, run: Run, url: str) -> Path:
    """Tell where Prisma keeps the migrations.

    :param folder: Where Prisma is run.
    :param installed: The installed Prisma's `package.json`, whose own loader reads a configuration file.
    :param major: Its major version.
    :param run: Runs Node (`process.run`).
    :param url: The database's, which the file may want in the environment.
    :raises BadInputError: There is a configuration file that can't be read.
    """
    config = config_file(folder)
    named: Mapping[str, str | None] = {}
    if config is not None and installed is not None:
        named = _loaded(folder, config, installed, run, url)
    if named.get("migrations"):
        return folder / str(named["migrations"])
    file = (folder / str(named["schema"]) if named.get("schema") else schema_file(folder)) or folder / SCHEMAS[1]
    if not file.is_dir():
        return file.parent / "migrations"
    # From 7 on the place of the datasource block no longer matters.
    return (file if major is not None and major >= _BY_FOLDER else _with_datasource(file)) / "migrations"


def _loaded(folder: Path, config: Path, installed: Path, run: Run, url: str) -> Mapping[str, str | None]:
    try:
        argv = ["node", "-e", _LOADER, installed]
        done = run(argv, cwd=folder, extra={"DATABASE_URL": url}, timeout=_LOADER_SECONDS)
    except MissingProgramError as error:
        raise BadInputError(f"{config.name} can't be read: {error} Nothing was touched.") from None
    _, _, said = done.stdout.rpartition(_MARK)
    try:
        found: dict[str, str | None] = json.loads(said.partition("\n")[0])
    except ValueError:
        found = {"error": done.stderr.strip() or "it ends the program"}
    if found.get("error"):
        # What it says may be ten thousand letters of types; the end says what is wrong.
        why = str(found["error"]).replace(url, "…").strip()[-300:]
        raise BadInputError(f"{config.name} can't be read by Prisma's own loader: {why}. Nothing was touched.")
    return found


def _with_datasource(schema: Path) -> Path:
    """Find the folder of the file that has the datasource block."""
    for part in sorted(schema.rglob("*.prisma")):
        if _DATASOURCE.search(_COMMENT.sub("", read_text(part))):
            return part.parent
    return schema


def direct_variables(folder: Path) -> list[str]:
    """Name the variables that the schema takes its `directUrl` from, which migrations go by (up to Prisma 6)."""
    return _DIRECT.findall(_schemaread_text(folder))


def listed_schemas(folder: Path) -> list[str]:
    """Name the schemas that the datasource block lists, beside the URL's own."""
    found = _LISTED_SCHEMAS.search(_schemaread_text(folder))
    return _QUOTED.findall(found[1]) if found else []


def _schemaread_text(folder: Path) -> str:
    """Read the schema, where it lies in one of the usual places, without its comments."""
    file = schema_file(folder)
    if file is None:
        return ""
    parts = sorted(file.rglob("*.prisma")) if file.is_dir() else [file]
    return "\n".join(_COMMENT.sub("", read_text(part)) for part in parts)


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


_NPM = Manager(name="npm", locks=("package-lock.json", "npm-shrinkwrap.json"), install="npm install", run="npx")
_MANAGERS = (
    Manager(name="pnpm", locks=("pnpm-lock.yaml",), install="pnpm install", run="pnpm"),
    Manager(name="yarn", locks=("yarn.lock",), install="yarn install", run="yarn"),
    Manager(name="bun", locks=("bun.lock", "bun.lockb"), install="bun install", run="bunx"),
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


def is_installed(home: Path) -> bool:
    """Tell whether a project has a Prisma of its own."""
    return _program(home) is not None or _pnp(home) is not None


def find_prisma(home: Path, environ: Mapping[str, str], configured: str = "") -> Prisma:
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
            return Prisma(command=(yarn, "prisma"), home=home, package=None, version="", typed=typed, configured=words)
        if words:
            return Prisma(command=(), home=home, package=None, version="", typed=typed, configured=words)
        raise MissingProgramError(
            f"There is no Prisma in {home} (node_modules/.bin/prisma is missing). Install the project's packages there "
            f"with `{manager.install}`, or name the folder that has it in INVOKE_DB_PRISMA_DIR. Nothing was touched."
        )
    if shutil.which("node", path=path) is None and not words:
        raise MissingProgramError(
            "Node.js is not on PATH, and Prisma needs it. Install Node.js 20 or newer. Nothing was touched."
        )
    package = program.parent.parent / "prisma" / "package.json"
    return Prisma(
        command=(str(program),), home=home, package=package, version=_version(package), typed=typed, configured=words
    )


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
    candidates = (each / "node_modules" / ".bin" / "prisma" for each in _above(home))
    return next((candidate for candidate in candidates if candidate.exists()), None)


def _pnp(home: Path) -> Path | None:
    return next((each for each in _above(home) if (each / ".pnp.cjs").is_file()), None)


def _manager(home: Path) -> Manager:
    for folder in _above(home):
        named = str(read_package(folder).get("packageManager", "")).partition("@")[0]
        for each in _MANAGERS:
            if each.name == named or any((folder / lock).exists() for lock in each.locks):
                return each
    return _NPM


def _version(package: Path) -> str:
    try:
        return str(json.loads(package.read_bytes())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
