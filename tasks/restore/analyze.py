"""Planner statistics of tables that a restore filled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..postgres.protocol import StatementStream
from ..system.runtime import Interruption
from .row_counts import quote_table, show_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..postgres.connection import Connection


# Of a larger table ANALYZE looks at no more rows, as long as default_statistics_target is 100.
_SAMPLED = 30_000


def analyze_tables(connections: Sequence[Connection], rows: Mapping[tuple[str, str], int]) -> None:
    """Give the planner statistics of tables that were filled, in several sessions at once.

    :param rows: How many rows each got: the largest come first, each where least is to be done.
    """
    streams = [StatementStream(connection) for connection in connections]
    todo = dict.fromkeys(streams, 0)
    try:
        for key in sorted(rows, key=lambda each: (-rows[each], each)):
            stream = min(todo, key=todo.__getitem__)
            todo[stream] += min(rows[key], _SAMPLED) + 1
            stream.queue(b"ANALYZE %s" % quote_table(key), f"ANALYZE {show_key(key)}")
        for stream in streams:
            stream.drain()
    except Interruption:
        for stream in streams:
            stream.cancel()
        raise
