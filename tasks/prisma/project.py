"""Where a repository keeps its Prisma application: the folder to run Prisma in, its schema and its migrations."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from .. import process
from ..errors import BadInputError, MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ..process import Finished

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


def home(root: Path, configured: Path | None) -> Path:
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
    return config_file(folder) is not None or schema(folder) is not None


def config_file(folder: Path) -> Path | None:
    """Find the configuration file that Prisma would load."""
    return next((path for name in _CONFIGS if (path := folder / name).is_file()), None)


def schema(folder: Path) -> Path | None:
    """Find the schema's file or folder, where no configuration file names it."""
    named = package(folder).get("prisma")
    if isinstance(named, dict) and isinstance(named.get("schema"), str):
        return folder / str(named["schema"])
    return next((path for name in _SCHEMAS if (path := folder / name).is_file()), None)


def package(folder: Path) -> Mapping[str, Any]:
    """Read a folder's `package.json`; an empty one where there is none that can be read."""
    try:
        found = json.loads(process.read_regular(folder / "package.json"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _workspaces(root: Path) -> Iterator[Path]:
    """List the workspaces that npm, yarn, bun or pnpm would take for such."""
    declared = package(root).get("workspaces", [])
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
    file = (folder / str(named["schema"]) if named.get("schema") else schema(folder)) or folder / _SCHEMAS[1]
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
    file = schema(folder)
    if file is None:
        return ""
    parts = sorted(file.rglob("*.prisma")) if file.is_dir() else [file]
    return "\n".join(_COMMENT.sub("", _text(part)) for part in parts)


def _text(path: Path) -> str:
    try:
        return process.read_regular(path).decode(errors="replace")
    except OSError:
        return ""
