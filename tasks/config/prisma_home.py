"""The folder of a repository to run Prisma in, and its schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..errors import BadInputError
from ..system.processes import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


_SUFFIXES = ("js", "ts", "mjs", "cjs", "mts", "cts")
# Prisma 6 and 7, `@prisma/config`; the names with a 7 are new in 7.
_CONFIGS = tuple(
    f"{stem}.{suffix}"
    for stem in ("prisma7.config", ".config/prisma7", "prisma.config", ".config/prisma", ".config/prisma.config")
    for suffix in _SUFFIXES
) + tuple(f"prisma.config/index.{suffix}" for suffix in _SUFFIXES)
# In this order, and no folder of that name: a schema of several files has to be named.
SCHEMAS = ("schema.prisma", "prisma/schema.prisma")


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
    return next((path for name in SCHEMAS if (path := folder / name).is_file()), None)


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
    for line in read_text(root / "pnpm-workspace.yaml").splitlines():
        if line and not line[0].isspace() and not line.startswith(("-", "#")):
            inside = line.startswith("packages:")
        elif inside and line.lstrip().startswith("-"):
            item = line.lstrip()[1:].partition("#")[0].strip().strip("\"'")
            found += [item] if item else []
    return found


def read_text(path: Path) -> str:
    """Read a file of the project; empty where it can't be read."""
    try:
        return read_regular(path).decode(errors="replace")
    except OSError:
        return ""
