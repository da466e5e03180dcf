"""The example application as tests use it: a copy of it as somebody's project, with the real Prisma CLI."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support import Project

JOURNAL = Path(__file__).resolve().parent.parent / "examples" / "journal"
QUICK_NODE = Path(__file__).resolve().with_name("quick_node.cjs")
PENDING = "20260301000000_add_mood"
COUNT = "SELECT count(*) FROM _prisma_migrations WHERE finished_at IS NOT NULL"
TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"


def installed() -> Path:
    """Return the example's `node_modules`, which are installed if they are not there."""
    if not (JOURNAL / "node_modules" / ".bin" / "prisma").exists():
        subprocess.run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=JOURNAL, check=True)
    return JOURNAL / "node_modules"


def lay_out(project: Project, modules: Path, folder: str = ".") -> Path:
    """Copy the example into a project.

    :return: The folder that it lies in.
    """
    home = project.root / folder
    home.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "prisma.config.ts", "migration-adapter.mjs", "generate.sql"):
        shutil.copy(JOURNAL / name, home)
    shutil.copytree(JOURNAL / "prisma", home / "prisma")
    (home / "node_modules").symlink_to(modules)
    # Any file that exists keeps the CLI from looking for a native engine.
    project.env["PRISMA_QUERY_ENGINE_LIBRARY"] = str(home / "package.json")
    project.env["CHECKPOINT_DISABLE"] = "1"
    project.env["NODE_OPTIONS"] = f'--require="{QUICK_NODE}"'
    return home


def migration(project: Project, name: str, sql: str) -> Path:
    """Add a migration to the project, and return its file."""
    folder = project.root / "prisma" / "migrations" / name
    folder.mkdir(parents=True)
    script = folder / "migration.sql"
    script.write_text(sql, encoding="utf-8")
    return script


def add_pending(project: Project) -> None:
    """Add the example's pending migration."""
    shutil.copytree(JOURNAL / "pending", project.root / "prisma" / "migrations", dirs_exist_ok=True)


def install_fake(home: Path, version: str = "6.19.3") -> Path:
    """Lay out a Prisma as a package manager does, with a program that does nothing; return the program."""
    package = home / "node_modules" / "prisma" / "package.json"
    program = home / "node_modules" / ".bin" / "prisma"
    for path, text in (package, json.dumps({"version": version})), (program, "#!/bin/sh\n"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return program
