"""A sample of the campaign of definitions; the whole is `uv run python -m tests.definitions`."""

from tests.definitions import campaign, places
from tests.servers import Server


def test_a_sample_of_expressions_is_the_same_after_a_reload_and_every_change_is_found(server: Server) -> None:
    """At each place some are defined, dumped and reloaded; of those that were changed none is missed."""
    tally = campaign.run(server, seed=7, count=30, changes=60)

    assert [what for each in tally.values() for what in each.false] == []
    assert [what for each in tally.values() for what in each.missed] == []
    assert tally.keys() == places.PLACES.keys()
    assert all(each.defined == 30 for each in tally.values())
    # The campaign tests something: PostgreSQL rewrote many of them.
    assert sum(each.rewritten for each in tally.values()) > 60
    assert sum(each.changed for each in tally.values()) >= 60
