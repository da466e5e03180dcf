"""A superuser looks at a database of a hostile owner: nothing of that owner's is ever called."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests import hostile_database
from tests.servers import OWNER

if TYPE_CHECKING:
    from tests.support import Databases, Project

SEEDS = range(int(os.environ.get("HOSTILE_SEED", "1")), int(os.environ.get("HOSTILE_SEED", "1")) + 2)


@pytest.mark.majors(15, 18)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_function_of_the_owner_is_called(seed: int, new_database: Databases, project: Project) -> None:
    """By doctor, url, dump, list, migrations and verify, whatever the owner made; the dump itself succeeds."""
    hostile = hostile_database.build(new_database(owner=OWNER), seed)
    project.use(hostile.database)
    offset = hostile.database.server.log.stat().st_size

    ended = {words: (code, said) for words, code, said in hostile_database.visit(project)}
    called = hostile.heard(offset)
    hostile_database.alarm(hostile)

    assert called == []
    assert hostile.made > 60
    assert hostile.heard(offset) != []
    assert {code for words, (code, _) in ended.items() if "doctor" not in words} == {0}, ended
    assert not any("Traceback" in said for _, said in ended.values())
