"""Planner statistics of tables that a restore filled."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psycopg

from ..dumpformat.manifest import TableRows, table_rows
from ..errors import TaskError
from ..postgres.connection import connected
from ..postgres.protocol import StatementStream
from ..system.runtime import Interruption
from .row_counts import quote_table, show_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..postgres.connection import Connection
    from ..progress import Report
    from .loader import Loader
    from .plan import RestorePlan


# Of a larger table ANALYZE looks at no more rows, as long as default_statistics_target is 100.
_SAMPLED = 30_000
# Sessions that gather statistics at once.
_ANALYZING = 2


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


def loaded_tables(loader: Loader) -> tuple[TableRows, ...]:
    """Return the rows that were loaded, or the number that a table really holds where that is another."""
    changed = {each.key: each.found for each in loader.changed if not each.sequence}
    found = {key: changed.get(key, rows) for key, rows in loader.rows.items()}
    return table_rows({key: rows for key, rows in found.items() if rows is not None})


def analyze_restored(plan: RestorePlan, loader: Loader, report: Report) -> None:
    """Give the planner statistics; a failure does no harm and is only said."""
    report.progress("analyzing", 0, 0, "")
    try:
        with contextlib.ExitStack() as stack:
            filled = {(each.schema, each.name): each.rows for each in loaded_tables(loader)}
            # Another session costs more than it saves where little is to be read.
            little = sum(min(rows, _SAMPLED) for rows in filled.values()) < _SAMPLED
            few = min(1 if little else _ANALYZING, len(filled))
            opened = [connected(plan.target, lock_timeout=plan.settings.lock_timeout, loads=True) for _ in range(few)]
            analyze_tables([stack.enter_context(each) for each in opened], filled)
    except (TaskError, psycopg.Error) as error:
        report.warn(f"The restore is committed, but ANALYZE failed: {plan.target.scrub(str(error))}")
