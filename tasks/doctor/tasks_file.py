"""The project's `tasks.py`: whether an imported `ns` hides its own tasks from Invoke."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from ..formatting import format_list
from ..system.processes import read_regular
from .check import Check, note

if TYPE_CHECKING:
    from pathlib import Path


PACKAGE = "invoke_postgres"


def check_tasks_file(root: Path) -> list[Check]:
    """Look for tasks that `inv` does not list, as it takes `ns` for all that there is.

    :return: Nothing where all is well.
    """
    try:
        module = ast.parse(read_regular(root / "tasks.py"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    imported = any(
        isinstance(each, ast.ImportFrom)
        and each.module == PACKAGE
        and "ns" in {name.asname or name.name for name in each.names}
        for each in module.body
    )
    # What uses it may add the tasks to it.
    used = any(isinstance(each, ast.Name) and each.id == "ns" for each in ast.walk(module))
    own = [
        each.name
        for each in module.body
        if isinstance(each, ast.FunctionDef) and any(map(_is_task, each.decorator_list))
    ]
    if not imported or used or not own:
        return []
    added = "; ".join(f"ns.add_task({name})" for name in own)
    hidden = f"`inv` does not list {format_list(own)}, because tasks.py imports `ns` from {PACKAGE}"
    return [note(hidden, f"Add to the end of tasks.py: {added}").named("tasks.py")]


def _is_task(decorator: ast.expr) -> bool:
    named = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(named).rpartition(".")[2] == "task"
