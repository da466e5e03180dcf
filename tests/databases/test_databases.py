"""A sample of the campaign of random databases; the whole is `uv run python -m tests.databases`."""

from typing import TYPE_CHECKING

import pytest

from tests.databases import campaign, generator
from tests.databases.checks import entries
from tests.servers import Server
from tests.support import Databases

if TYPE_CHECKING:
    from tests.databases.builder import Script

_COUNT = 2


@pytest.mark.all_majors
def test_a_sample_of_random_databases_is_carried_over_as_by_psql(server: Server) -> None:
    """Dumped, restored, verified, rehearsed, reset and undone, each is what pg_dump and psql make of it."""
    said: list[str] = []

    tally = campaign.run(server, seed=5, count=_COUNT, say=said.append)

    assert said == []
    assert tally.kept == _COUNT
    assert {"dump", "psql loads our dump", "restore into an empty database", "verify", "rehearse"} <= {
        step.partition(" (")[0] for step in tally.done
    }
    assert sum(tally.objects.values()) > 100


def test_a_seed_draws_the_same_database_again(server: Server) -> None:
    """The statements that a database is made of follow from its name alone."""
    with Databases(server) as databases:
        first, second = (generator.build(databases(), "1-18-0", most=30).script for _ in range(2))

    assert first == second != []


def test_statements_that_were_drawn_make_the_same_database_again(server: Server) -> None:
    """A difference can be made again by its statements."""
    with Databases(server) as databases:
        built, again = generator.build(databases(), "1-18-1", most=30), databases()
        generator.replay(again, built.script)

        assert again.dump_text() == built.database.dump_text()


def test_statements_that_do_not_matter_are_dropped() -> None:
    """Of a script only the groups are left without which it would not differ."""
    script: Script = [(f"SELECT {number}",) for number in range(20)]

    fewest = campaign.fewest(script, lambda fewer: {("SELECT 3",), ("SELECT 17",)} <= set(fewer))

    assert fewest == [("SELECT 3",), ("SELECT 17",)]


def test_texts_of_different_rows_differ(server: Server) -> None:
    """What compares two texts sees a row, and no order of entries."""
    with Databases(server) as databases:
        one, other = databases(), databases()
        one.execute("CREATE TABLE t AS SELECT 1 AS n")
        other.execute("CREATE TABLE t AS SELECT 2 AS n")

        assert entries(one.dump_text()) != entries(other.dump_text())
        assert entries(one.dump_text()) == entries(one.dump_text())
