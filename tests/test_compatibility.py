"""The tables of docs/compatibility.md are what real runs give; the whole is written by docs/matrices.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import rights
from tests.support import Project

if TYPE_CHECKING:
    from tests.servers import Server

_PAGE = Path(__file__).resolve().parent.parent / "docs" / "compatibility.md"
# One of each kind; the others stand in the docs, and are renewed with them.
_SAMPLE = (
    *("owner", "reads all", "forced", "schema of another", "untrusted extension", "roles are missing"),
    *("event trigger", "publication", "publication of a table", "subscription, superuser", "security label"),
    *("tablespace", "SQL_ASCII"),
)


def documented(number: int) -> list[str]:
    """Read a situation's row of the table."""
    lines = _PAGE.read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith(f"| {number}. "))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("name", _SAMPLE)
def test_rights_are_as_the_docs_say(name: str, server: Server, tmp_path: Path) -> None:
    """Every operation in a situation ends as its row says, and what is said of it stands below."""
    number = list(rights.SITUATIONS).index(name) + 1

    cells = rights.row(name, server, lambda _: Project.create(tmp_path / "project"))

    assert [cell.short for cell in cells.values()] == documented(number)[1:]
    page = _PAGE.read_text(encoding="utf-8")
    assert all(f": {cell.says}\n" in page for cell in cells.values() if cell.says)


def test_every_situation_is_in_the_docs() -> None:
    """With its title."""
    for number, situation in enumerate(rights.SITUATIONS.values(), 1):
        assert documented(number)[0] == f"{number}. {situation.title}"
