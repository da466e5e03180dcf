"""Find the project's Prisma: the folder of its migrations, settings of its schema, and its command."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config.prisma_home import SCHEMAS, config_file, read_package, read_text, schema_file
from ..errors import BadInputError, MissingProgramError
from ..system.processes import run_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_BY_FOLDER = 7
_DATASOURCE = re.compile(r"^[^\S\n]*datasource\s+\w+\s*\{", re.MULTILINE)
_COMMENT = re.compile(r"//[^\n]*")
_DIRECT = re.compile(r"""directUrl\s*=\s*env\(\s*["'](\w+)["']\s*\)""")
_LISTED_SCHEMAS = re.compile(r"^[^\S\n]*schemas\s*=\s*\[([^\][]*)\]", re.MULTILINE)
_QUOTED = re.compile(r'"([^"]+)"')
_MARK = "@invoke-postgres@"
# Prisma's own loader reads a configuration file in any language that Prisma supports; resolved as the CLI resolves it.
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


def migrations_folder(folder: Path, installed: Path | None, major: int | None, url: str) -> Path:
    """Return the folder of the migrations.

    :param folder: The folder that Prisma runs in.
    :param installed: The installed Prisma's `package.json`, whose loader reads the configuration file; None if there is
        none.
    :param major: Prisma's major version; None if unknown.
    :param url: The database's URL; the configuration file may read it from the environment.
    :raises BadInputError: The configuration file can't be read.
    """
    config = config_file(folder)
    named: Mapping[str, str | None] = {}
    if config is not None and installed is not None:
        named = _loaded(folder, config, installed, url)
    if named.get("migrations"):
        return folder / str(named["migrations"])
    file = (folder / str(named["schema"]) if named.get("schema") else schema_file(folder)) or folder / SCHEMAS[1]
    if not file.is_dir():
        return file.parent / "migrations"
    if major is None or major < _BY_FOLDER:
        # The migrations are next to the file with the datasource block.
        file = next((path.parent for path, text in _schema_files(file) if _DATASOURCE.search(text)), file)
    return file / "migrations"


def _loaded(folder: Path, config: Path, installed: Path, url: str) -> Mapping[str, str | None]:
    try:
        argv = ["node", "-e", _LOADER, str(installed)]
        done = run_program(argv, cwd=folder, extra={"DATABASE_URL": url}, timeout=_LOADER_SECONDS)
    except MissingProgramError as error:
        raise BadInputError(
            f"{config.name} can't be read: {error.what}", state="Nothing was touched.", fix=error.fix
        ) from None
    _, _, output = done.stdout.rpartition(_MARK)
    try:
        found: dict[str, str | None] = json.loads(output.partition("\n")[0])
    except ValueError:
        found = {"error": done.stderr.strip() or "it ends the process"}
    if found.get("error"):
        # The message may hold ten thousand characters of types; its end has the cause.
        why = str(found["error"]).replace(url, "…").strip()[-300:]
        raise BadInputError(f"Prisma's own loader can't read {config.name}: {why}.", state="Nothing was touched.")
    return found


def direct_variables(folder: Path) -> list[str]:
    """Return the environment variables of the schema's `directUrl`, which migrations use up to Prisma 6."""
    return _DIRECT.findall(_read_schema(folder))


def listed_schemas(folder: Path) -> list[str]:
    """Return the database schemas that the datasource block lists in addition to the URL's."""
    found = _LISTED_SCHEMAS.search(_read_schema(folder))
    return _QUOTED.findall(found[1]) if found else []


def _read_schema(folder: Path) -> str:
    """Return the Prisma schema without comments; empty if it is in none of the usual places."""
    file = schema_file(folder)
    return "" if file is None else "\n".join(text for _, text in _schema_files(file))


def _schema_files(schema: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files of a schema, each with its text without comments."""
    for file in sorted(schema.rglob("*.prisma")) if schema.is_dir() else [schema]:
        yield file, _COMMENT.sub("", read_text(file))


@dataclass(frozen=True)
class Manager:
    """A package manager.

    :ivar locks: Names of its lock files.
    :ivar run: The command that runs a program of an installed package.
    """

    name: str
    locks: tuple[str, ...]
    run: str


_NPM = Manager(name="npm", locks=("package-lock.json", "npm-shrinkwrap.json"), run="npx")
_MANAGERS = (
    Manager(name="pnpm", locks=("pnpm-lock.yaml",), run="pnpm"),
    Manager(name="yarn", locks=("yarn.lock",), run="yarn"),
    Manager(name="bun", locks=("bun.lock", "bun.lockb"), run="bunx"),
    _NPM,
)
# Prisma 8 renamed `migrate deploy` and keeps the migration history in another table.
_RENAMED = 8


@dataclass(frozen=True)
class Prisma:
    """An installed Prisma.

    :ivar command: The program and its first arguments, to be run in the folder `home`.
    :ivar package: Its `package.json`; None if it is not in node_modules (Yarn's Plug'n'Play).
    :ivar version: The version in its `package.json`; empty if unknown.
    :ivar typed: The command as a user types it (`npx prisma`).
    :ivar configured: The `migrate_command` setting as a list of arguments, which replaces it for migrations.
    """

    command: tuple[str, ...]
    home: Path
    package: Path | None
    version: str
    typed: str
    configured: tuple[str, ...] = ()

    @property
    def major(self) -> int | None:
        """Return the major version; None if unknown."""
        head = self.version.partition(".")[0]
        return int(head) if head.isdigit() else None

    @property
    def knows_history(self) -> bool:
        """Return whether migrations are recorded in `_prisma_migrations`, where `migrate status` reads them."""
        return not self.configured and (self.major is None or self.major < _RENAMED)

    def deploy(self) -> tuple[str, ...]:
        """Return the command that applies pending migrations."""
        if self.configured:
            return self.configured
        return (*self.command, *(("migrate", "deploy") if self.knows_history else ("db", "migrate")))


def is_installed(home: Path) -> bool:
    """Return whether Prisma is installed in the project."""
    return _program(home) is not None or _pnp(home) is not None


def find_prisma(home: Path, environ: Mapping[str, str], configured: str = "") -> Prisma:
    """Return the Prisma that is installed in the project; a global one may have another version.

    :param home: The folder to run it in; packages are searched there and in the folders above, as Node does.
    :param configured: The `migrate_command` setting.
    :raises MissingProgramError: Prisma or Node is missing; the message has the command that installs it.
    :raises BadInputError: The configured command can't be split into arguments.
    """
    replacement = _split_command(configured)
    manager, program, path = _manager(home), _program(home), environ.get("PATH", "")
    typed = f"{manager.run} prisma"
    if program is None:
        yarn = shutil.which("yarn", path=path) if _pnp(home) is not None else None
        if yarn is not None or replacement:
            command = () if yarn is None else (yarn, "prisma")
            return Prisma(command=command, home=home, package=None, version="", typed=typed, configured=replacement)
        raise MissingProgramError(
            f"Prisma is not installed in {home}: node_modules/.bin/prisma is missing.",
            state="Nothing was touched.",
            fix=(
                f"Install the project's packages there with `{manager.name} install`, or set INVOKE_DB_PRISMA_DIR to "
                "the folder that has it."
            ),
        )
    if shutil.which("node", path=path) is None and not replacement:
        raise MissingProgramError(
            "Node.js is not on PATH, and Prisma needs it.",
            state="Nothing was touched.",
            fix="Install Node.js 20 or newer.",
        )
    package = program.parent.parent / "prisma" / "package.json"
    version = str(read_package(package.parent).get("version", ""))
    return Prisma(
        command=(str(program),), home=home, package=package, version=version, typed=typed, configured=replacement
    )


def _split_command(configured: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(configured))
    except ValueError as error:
        raise BadInputError(
            f"The setting db.migrate_command (INVOKE_DB_MIGRATE_COMMAND) can't be split into arguments: {error}.",
            state="Nothing was touched.",
        ) from None


def _above(folder: Path) -> Iterator[Path]:
    """Yield a folder and the folders above it, up to the root of the git repository."""
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
