"""What a database holds at one instant: rows, sequences, objects, and checksums where they are asked for."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import psycopg

from ..archive.words import shown
from . import checksums as sums
from . import facts, locks, objects, told

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from .facts import Table
    from .objects import Objects
    from .session import Connection
    from .told import Told

Key = tuple[str, str]


@dataclass(frozen=True)
class State:
    """A database at one instant.

    :ivar major: The server's major version: some digests agree on one major only.
    :ivar rows: Rows per table, as (schema, name); `checksums` only of the tables that were summed.
    :ivar sequences: The last value of each, and whether it was used.
    :ivar told: Owners, grants and settings, which may differ.
    """

    major: int
    rows: Mapping[Key, int]
    sequences: Mapping[Key, tuple[int, bool]]
    objects: Objects = field(default_factory=dict)
    extensions: Mapping[str, str] = field(default_factory=dict)
    told: Told = field(default_factory=dict)
    checksums: Mapping[Key, str] = field(default_factory=dict)


@contextlib.contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """Read in one snapshot, and see every row or be refused."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    try:
        connection.execute("SET LOCAL row_security = off")
        yield
    finally:
        with contextlib.suppress(psycopg.Error):
            connection.execute("ROLLBACK")


def read(connection: Connection, *, summed: Collection[Key] = ()) -> State:
    """Read the state of a database in the transaction that is open, and keep its tables as they are until that ends.

    :param summed: The tables whose content is summed, which reads all of it.
    """
    tables = facts.tables(connection)
    with locks.enough(connection, len(tables), "Nothing was changed."):
        facts.lock(connection, tables)
        return replace(of_tables(connection, tables, summed), sequences=facts.sequences(connection))


def of_tables(connection: Connection, tables: Sequence[Table], summed: Collection[Key] = ()) -> State:
    """Read all but sequences, which are in no snapshot, and count these tables."""
    objects.pin(connection)
    rows, totals = _count(connection, tables, summed)
    return replace(_objects(connection), rows=rows, checksums=totals)


def of_objects(connection: Connection, summed: Collection[Key]) -> State:
    """Read objects, and the checksums of some tables, but count nothing."""
    objects.pin(connection)
    tables = [table for table in facts.tables(connection) if table.key in summed] if summed else []
    return replace(
        _objects(connection),
        checksums={table.key: total for table, _, total in sums.read(connection, tables) if total is not None},
    )


def unsummed(found: State, summed: Iterable[Key]) -> str:
    """Say which of the tables to be summed have no checksum; empty if all have one."""
    left = [key for key in summed if key not in found.checksums and (not found.rows or key in found.rows)]
    if not left:
        return ""
    return (
        f"The content of {len(left):,} {'table' if len(left) == 1 else 'tables'} was not summed, as in "
        f"{shown(left[0])}: to plan the query could run functions of its owner with your rights. "
        f"Use the owner's URL (--url-env) for checksums."
    )


def _objects(connection: Connection) -> State:
    return State(
        major=connection.info.server_version // 10000,
        rows={},
        sequences={},
        objects=objects.read(connection),
        extensions=objects.extensions(connection),
        told=told.read(connection),
    )


def _count(
    connection: Connection, tables: Sequence[Table], summed: Collection[Key]
) -> tuple[dict[Key, int], dict[Key, str]]:
    """Count tables, and sum some of them on the same way through."""
    rows = {table.key: found for table, found in facts.count(connection, [t for t in tables if t.key not in summed])}
    totals = {}
    for table, found, total in sums.read(connection, [t for t in tables if t.key in summed]):
        rows[table.key] = found
        if total is not None:
            totals[table.key] = total
    return rows, totals
