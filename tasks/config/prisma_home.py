"""Find the folder to run Prisma in, its schema and its configuration file."""

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
# In this order. Only files: the folder of a schema of several files must be configured.
SCHEMAS = ("schema.prisma", "prisma/schema.prisma")


def prisma_home(root: Path, configured: Path | None) -> Path:
    """Return the folder to run Prisma in: the configured one, the root, or the only workspace with a schema.

    :raises BadInputError: Several workspaces have a schema.
    """
    if configured is not None:
        return configured
    if has_schema(root):
        return root
    found = sorted({folder for folder in _workspaces(root) if has_schema(folder)})
    if len(found) > 1:
        names = ", ".join(str(folder.relative_to(root)) for folder in found)
        raise BadInputError(
            f"Several workspaces have a Prisma schema: {names}.",
            state="Nothing was touched.",
            fix="Choose one with INVOKE_DB_PRISMA_DIR, or with `prisma_dir` below `db:` in invoke.yaml.",
        )
    return found[0] if found else root


def has_schema(folder: Path) -> bool:
    """Return whether Prisma, run in a folder, would find a schema or a configuration file there."""
    return config_file(folder) is not None or schema_file(folder) is not None


def config_file(folder: Path) -> Path | None:
    """Return the configuration file that Prisma would load; None if there is none."""
    return next((path for name in _CONFIGS if (path := folder / name).is_file()), None)


def schema_file(folder: Path) -> Path | None:
    """Return the schema's file or folder, unless a configuration file names it; None if there is none."""
    named = read_package(folder).get("prisma")
    if isinstance(named, dict) and isinstance(named.get("schema"), str):
        return folder / str(named["schema"])
    return next((path for name in SCHEMAS if (path := folder / name).is_file()), None)


def read_package(folder: Path) -> Mapping[str, Any]:
    """Return the content of a folder's `package.json`; empty if it is missing or can't be read."""
    try:
        found = json.loads(read_regular(folder / "package.json"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _workspaces(root: Path) -> Iterator[Path]:
    """Yield the workspaces that are declared for npm, yarn, bun or pnpm."""
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
    """Return the list below `packages:` in pnpm-workspace.yaml; the rest of the file is not parsed."""
    found, inside = [], False
    for line in read_text(root / "pnpm-workspace.yaml").splitlines():
        if line and not line[0].isspace() and not line.startswith(("-", "#")):
            inside = line.startswith("packages:")
        elif inside and line.lstrip().startswith("-"):
            item = line.lstrip()[1:].partition("#")[0].strip().strip("\"'")
            found += [item] if item else []
    return found


def read_text(path: Path) -> str:
    """Return the text of a file; empty if it can't be read."""
    try:
        return read_regular(path).decode(errors="replace")
    except OSError:
        return ""
