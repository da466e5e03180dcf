"""Arrows between the rooms of the house go down only."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent / "tasks"
MODULES = sorted(path for path in ROOT.rglob("*.py"))
KNOWS_INVOKE = {"__init__.py", "db.py", "pg.py", "demo.py", "settings.py", "errors.py"}
FORBIDDEN = {
    "archive": {"postgres", "prisma", "flows", "console", "confirming", "showing", "settings", "db"},
    "prisma": {"postgres", "archive", "flows", "console", "confirming", "showing", "settings", "db"},
    "postgres": {"prisma", "flows", "console", "confirming", "showing", "settings", "db"},
    "flows": {"console", "confirming", "showing", "db", "demo", "pg"},
}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Give each import of a module: how many dots, and the module's name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, each.name) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [each.name for each in node.names]
            yield from ((node.level, str(name)) for name in names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_import_downwards(path: Path) -> None:
    """No wing imports what lies above it, and none names the package, which has another name in the wheel."""
    wing = path.relative_to(ROOT).parts[0]
    for level, name in imports(path):
        first = name.split(".")[0]
        assert level > 0 or first not in {"tasks", "invoke_postgres"}
        if level == len(path.relative_to(ROOT).parts):
            assert first not in FORBIDDEN.get(wing, set()), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_door_knows_invoke(path: Path) -> None:
    """Invoke is known to the tasks, the settings and the errors alone."""
    source = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(child)
        for node in ast.walk(source)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    known = [
        node
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "invoke" and id(node) not in for_types
    ]
    assert not known or path.relative_to(ROOT).as_posix() in KNOWS_INVOKE
