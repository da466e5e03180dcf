"""Where a repository keeps its Prisma application: the folder to run Prisma in, its schema and its migrations."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import BadInputError, MissingProgramError
from ..system.processes import read_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ..system.processes import Finished


if TYPE_CHECKING:
    Run = Callable[..., Finished]

_SUFFIXES = ("js", "ts", "mjs", "cjs", "mts", "cts")
# Prisma 6 and 7, `@prisma/config`; the names with a 7 are new in 7.
_CONFIGS = tuple(
    f"{stem}.{suffix}"
    for stem in ("prisma7.config", ".config/prisma7", "prisma.config", ".config/prisma", ".config/prisma.config")
    for suffix in _SUFFIXES
) + tuple(f"prisma.config/index.{suffix}" for suffix in _SUFFIXES)
# In this order, and no folder of that name: a schema of several files has to be named.
_SCHEMAS = ("schema.prisma", "prisma/schema.prisma")
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


def prisma_home(root: Path, configured: Path | None) -> Path:
    """Find the folder to run Prisma in: the configured one, the root, or the one workspace with a schema.

    :raises BadInputError: Several workspaces have one.
    """
    if configured is not None:
        return configured
    if has_schema(root):
        return root
    found = sorted({folder for folder in _workspaces(root) if has_schema(folder)})
    if len(found) > 1:
        names = ", ".join(str(folder.relative_to(root)) for folder in found)
        raise BadInputError(
            f"Several workspaces have a Prisma schema ({names}): name one of them in INVOKE_DB_PRISMA_DIR, or as "
            f"`prisma_dir` below `db:` in invoke.yaml. Nothing was touched."
        )
    return found[0] if found else root


def has_schema(folder: Path) -> bool:
    """Tell whether Prisma, run in a folder, would find a schema or a configuration there."""
    return config_file(folder) is not None or schema_file(folder) is not None


def config_file(folder: Path) -> Path | None:
    """Find the configuration file that Prisma would load."""
    return next((path for name in _CONFIGS if (path := folder / name).is_file()), None)


def schema_file(folder: Path) -> Path | None:
    """Find the schema's file or folder, where no configuration file names it."""
    named = read_package(folder).get("prisma")
    if isinstance(named, dict) and isinstance(named.get("schema"), str):
        return folder / str(named["schema"])
    return next((path for name in _SCHEMAS if (path := folder / name).is_file()), None)


def read_package(folder: Path) -> Mapping[str, Any]:
    """Read a folder's `package.json`; an empty one where there is none that can be read."""
    try:
        found = json.loads(read_regular(folder / "package.json"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _workspaces(root: Path) -> Iterator[Path]:
    """List the workspaces that npm, yarn, bun or pnpm would take for such."""
    declared = read_package(root).get("workspaces", [])
    if isinstance(declared, dict):
        declared = declared.get("packages", [])
    patterns = [each for each in declared if isinstance(each, str)] if isinstance(declared, list) else []
    for pattern in (*patterns, *_pnpm(root)):
        cleaned = pattern.strip().removeprefix("./").rstrip("/")
        if cleaned and not cleaned.startswith(("!", "/", "..")):
            found = (package.parent for package in root.glob(f"{cleaned}/package.json"))
            yield from (path for path in found if "node_modules" not in path.relative_to(root).parts)


def _pnpm(root: Path) -> list[str]:
    """Read the list below `packages:` of pnpm's file, which is all that it is ever used for."""
    found, inside = [], False
    for line in _text(root / "pnpm-workspace.yaml").splitlines():
        if line and not line[0].isspace() and not line.startswith(("-", "#")):
            inside = line.startswith("packages:")
        elif inside and line.lstrip().startswith("-"):
            item = line.lstrip()[1:].partition("#")[0].strip().strip("\"'")
            found += [item] if item else []
    return found


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
    file = (folder / str(named["schema"]) if named.get("schema") else schema_file(folder)) or folder / _SCHEMAS[1]
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
        if _DATASOURCE.search(_COMMENT.sub("", _text(part))):
            return part.parent
    return schema


def direct_variables(folder: Path) -> list[str]:
    """Name the variables that the schema takes its `directUrl` from, which migrations go by (up to Prisma 6)."""
    return _DIRECT.findall(_schema_text(folder))


def listed_schemas(folder: Path) -> list[str]:
    """Name the schemas that the datasource block lists, beside the URL's own."""
    found = _LISTED_SCHEMAS.search(_schema_text(folder))
    return _QUOTED.findall(found[1]) if found else []


def _schema_text(folder: Path) -> str:
    """Read the schema, where it lies in one of the usual places, without its comments."""
    file = schema_file(folder)
    if file is None:
        return ""
    parts = sorted(file.rglob("*.prisma")) if file.is_dir() else [file]
    return "\n".join(_COMMENT.sub("", _text(part)) for part in parts)


def _text(path: Path) -> str:
    try:
        return read_regular(path).decode(errors="replace")
    except OSError:
        return ""


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
