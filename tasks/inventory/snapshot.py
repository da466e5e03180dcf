"""What a database holds at one instant: rows, sequences, objects, and checksums where they are asked for."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from ..dumpformat.applied_migration import MIGRATION_COLUMNS, MIGRATIONS_TABLE, migration_from_columns
from ..formatting import format_count, parse_instant, show_name
from ..postgres.catalog_filters import READABLE
from ..postgres.lock_capacity import is_enough
from ..postgres.tables import (
    COPIED,
    copied_column,
    count_tables,
    lock_tables,
    read_checksums,
    read_partitions,
    read_sequences,
    read_tables,
    read_unreadable,
)
from .objects import WITHOUT_ROWS, pin_settings, read_extensions, read_objects, read_properties

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..dumpformat.applied_migration import AppliedMigration
    from ..postgres.connection import Connection
    from ..postgres.tables import Table
    from .objects import Objects, Properties


Key = tuple[str, str]


@dataclass(frozen=True)
class DatabaseState:
    """A database at one instant.

    :ivar major: The server's major version: some digests agree on one major only.
    :ivar rows: Rows per table, as (schema, name); `checksums` only of the tables that were summed.
    :ivar sequences: The last value of each, and whether it was used.
    :ivar unread: The unlogged tables and sequences of a standby, which can't read them.
    :ivar partitions: Each partition with the partitioned table on top, and whether a reload may move its rows.
    :ivar properties: Owners, grants and settings, which may differ.
    """

    major: int
    rows: Mapping[Key, int]
    sequences: Mapping[Key, tuple[int, bool]]
    objects: Objects = field(default_factory=dict)
    extensions: Mapping[str, str] = field(default_factory=dict)
    properties: Properties = field(default_factory=dict)
    checksums: Mapping[Key, str] = field(default_factory=dict)
    unread: frozenset[Key] = frozenset()
    partitions: Mapping[Key, tuple[Key, bool]] = field(default_factory=dict)


@contextlib.contextmanager
def read_snapshot(connection: Connection) -> Iterator[None]:
    """Read in one snapshot, and see every row or be refused."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    try:
        connection.execute("SET LOCAL row_security = off")
        yield
    finally:
        with contextlib.suppress(psycopg.Error):
            connection.execute("ROLLBACK")


def read_state(connection: Connection, *, summed: Mapping[Key, str] | None = None) -> DatabaseState:
    """Read the state of a database in the transaction that is open, and keep its tables as they are until that ends.

    :param summed: The tables whose content is summed, which reads all of it: each with the checksum that it is compared
        with, which is made in the same way; or with an empty one.
    """
    tables = read_tables(connection)
    with is_enough(connection, len(tables), "Nothing was changed."):
        lock_tables(connection, tables)
        return replace(state_of_tables(connection, tables, summed or {}), sequences=read_sequences(connection))


def state_of_tables(
    connection: Connection, tables: Sequence[Table], summed: Mapping[Key, str], *, with_rows: bool = True
) -> DatabaseState:
    """Read all but sequences, which are in no snapshot, and count these tables.

    :param with_rows: Whether rows count at all: else no table is counted, and materialized views are not filled.
    """
    pin_settings(connection)
    rows, totals = _count(connection, tables if with_rows else [], summed)
    state = replace(_objects(connection), rows=rows, checksums=totals)
    return state if with_rows else replace(state, objects=read_objects(connection, WITHOUT_ROWS))


def state_of_objects(connection: Connection, summed: Mapping[Key, str]) -> DatabaseState:
    """Read objects, and the checksums of some tables, but count nothing."""
    pin_settings(connection)
    tables = [table for table in read_tables(connection) if table.key in summed] if summed else []
    return replace(
        _objects(connection),
        checksums={
            table.key: total
            for table, _, total in read_checksums(connection, tables, _by_copy(summed))
            if total is not None
        },
    )


def _by_copy(summed: Mapping[Key, str]) -> set[Key]:
    return {key for key, wanted in summed.items() if wanted.startswith(COPIED)}


def is_comparable(one: str, other: str) -> bool:
    """Tell whether two checksums were made in the same way."""
    return one.startswith(COPIED) == other.startswith(COPIED)


def describe_unsummed(found: DatabaseState, summed: Mapping[Key, str]) -> str:
    """Say which of the tables to be summed have no checksum that can be compared; empty if all have one."""
    left = [
        key
        for key, wanted in summed.items()
        if (not found.rows or key in found.rows)
        and not ((have := found.checksums.get(key)) and (not wanted or is_comparable(have, wanted)))
    ]
    if not left:
        return ""
    return (
        f"The content of {format_count(len(left), 'table')} was not summed, as in "
        f"{show_name(left[0])}: to plan the query could run functions of its owner with your rights. "
        f"Use the owner's URL (--url-env) for checksums."
    )


def _objects(connection: Connection) -> DatabaseState:
    return DatabaseState(
        major=connection.info.server_version // 10000,
        rows={},
        sequences={},
        objects=read_objects(connection),
        extensions=read_extensions(connection),
        properties=read_properties(connection),
        unread=frozenset((schema, name) for schema, name, _ in read_unreadable(connection)),
        partitions=read_partitions(connection),
    )


def _count(
    connection: Connection, tables: Sequence[Table], summed: Mapping[Key, str]
) -> tuple[dict[Key, int], dict[Key, str]]:
    """Count tables, and sum some of them on the same way through."""
    rows = {table.key: found for table, found in count_tables(connection, [t for t in tables if t.key not in summed])}
    totals = {}
    for table, found, total in read_checksums(connection, [t for t in tables if t.key in summed], _by_copy(summed)):
        rows[table.key] = found
        if total is not None:
            totals[table.key] = total
    return rows, totals


def read_history(connection: Connection, schema: str) -> tuple[AppliedMigration, ...] | None:
    """Return the whole migration history, the oldest first.

    :return: None without a table `_prisma_migrations` of the types that Prisma gives it: anything else could run code
        of its owner when it is read.
    """
    known = _history_columns(connection, schema)
    if known is None:
        return None
    columns = ["started_at", *(name for name in MIGRATION_COLUMNS if name in known)]
    rows = sorted(
        copied_column(connection, sql.Identifier(schema, MIGRATIONS_TABLE), columns),
        key=lambda row: (_order(row[0]), row[1] or ""),
    )
    return tuple(
        migration_from_columns({name: value or "" for name, value in zip(columns, row, strict=True)}) for row in rows
    )


_STEPS = "applied_steps_count"
_TEXTS, _TIMES, _NUMBERS = (25, 1043), (1114, 1184), (20, 21, 23)  # text, varchar; timestamp(tz); int8, int2, int4
_HISTORY_TYPES = {
    "migration_name": _TEXTS,
    "checksum": _TEXTS,
    "started_at": _TIMES,
    "finished_at": _TIMES,
    "rolled_back_at": _TIMES,
    _STEPS: _NUMBERS,
}


def _history_columns(connection: Connection, schema: str) -> set[str] | None:
    """Name those columns of the history that have the types expected; None where one is missing that must be there."""
    rows = connection.execute(
        "SELECT a.attname, a.atttypid FROM pg_catalog.pg_attribute a"
        " JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE n.nspname = %s AND c.relname = %s AND c.relkind = 'r' AND {READABLE}"
        "   AND a.attnum > 0 AND NOT a.attisdropped"
        "   AND a.attgenerated = ''",
        [schema, MIGRATIONS_TABLE],
    )
    found = {str(name) for name, kind in rows if kind in _HISTORY_TYPES.get(str(name), ())}
    return found if found >= _HISTORY_TYPES.keys() - {_STEPS} else None


def _order(text: str | None) -> tuple[int, datetime]:
    """Return what sorts times in PostgreSQL's ISO style, of which Python can't hold all."""
    if found := parse_instant(text or ""):
        return 0, found
    return -1 if not text or text.startswith("-") or text.endswith("BC") else 1, datetime.min.replace(tzinfo=UTC)
