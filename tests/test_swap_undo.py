"""Undo of a restore by swap: the kept database takes its name again."""

import json
from typing import Any

import pytest

from tests.flows import saved
from tests.support import Database, Project

SCHEMA = """
CREATE TABLE item (id int PRIMARY KEY, name text);
INSERT INTO item SELECT i, 'old' FROM generate_series(1, 50) i;
"""
RESTORE = ("db.restore", "--clean", "--yes", "--method=swap", "--disconnect")


def kept_names(database: Database) -> list[str]:
    """Return the names of the databases that were kept of a database."""
    query = f"SELECT datname FROM pg_database WHERE datname LIKE '{database.name}\\_\\_before\\_%' ORDER BY 1"
    with database.server.connect() as connection:
        return [name for (name,) in connection.execute(query).fetchall()]


def states(project: Project) -> list[dict[str, Any]]:
    """Return what `db.undos` lists, newest last."""
    found: list[dict[str, Any]] = json.loads(project.inv("db.undos", "--json").stdout)["states"]
    return found


def names(database: Database) -> list[str]:
    """Return the content of the table."""
    return [name for (name,) in database.execute("SELECT DISTINCT name FROM item ORDER BY 1")]


def done(project: Project, *words: str) -> str:
    """Run `inv`, which must succeed."""
    result = project.inv(*words)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.fixture
def swapped(project: Project, database: Database) -> Project:
    """Return a project whose database was replaced by a swap: its rows were changed after the dump."""
    database.execute(SCHEMA)
    done(project.use(database), "db.dump")
    database.execute("UPDATE item SET name = 'before the swap'")
    done(project, *RESTORE)
    assert names(database) == ["old"]
    return project


def test_undo_and_its_undo(swapped: Project, database: Database) -> None:
    """An undo puts the kept database back and keeps the replaced one; each further undo swaps them again."""
    database.execute("UPDATE item SET name = 'after the swap'")
    found = []
    for _ in range(3):
        done(swapped, "db.undo", "--yes")
        found.append(names(database))
        assert len(kept_names(database)) == 1

    assert found == [["before the swap"], ["after the swap"], ["before the swap"]]
    assert not saved(swapped)
