"""Read the state of a database in one snapshot: rows, sequences, objects and, if requested, checksums."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from ..dumpformat.applied_migration import MIGRATION_COLUMNS, MIGRATIONS_TABLE, AppliedMigration, migration_from_columns
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
from .objects import (
    DEFINITIONS,
    WITHOUT_ROWS,
    Objects,
    Properties,
    pin_settings,
    read_extensions,
    read_objects,
    read_properties,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..postgres.connection import Connection
    from ..postgres.tables import Table


Key = tuple[str, str]


@dataclass(frozen=True)
class DatabaseState:
    """The content of a database at one instant.

    :ivar major: The server's major version. Some digests depend on it.
    :ivar rows: The number of rows by (schema, name).
    :ivar sequences: The last value of each, and whether it was used.
    :ivar properties: Owners, grants and settings.
    :ivar checksums: Those of the tables that were summed.
    :ivar unread: Unlogged tables and sequences, if the server is a standby, which can't read them.
    :ivar partitions: Of each partition the topmost partitioned table, and whether a reload may move the rows.
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
    """Open a transaction that reads one snapshot. A query that row security would filter fails."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    try:
        connection.execute("SET LOCAL row_security = off")
        yield
    finally:
        with contextlib.suppress(psycopg.Error):
            connection.execute("ROLLBACK")


def read_state(connection: Connection, *, summed: Mapping[Key, str] | None = None) -> DatabaseState:
    """Return the state of a database; lock its tables until the open transaction ends.

    :param summed: The tables to sum, which reads all their rows, each with the checksum to compare with, or empty. The
        new checksum is computed in the same way.
    """
    tables = read_tables(connection)
    with is_enough(connection, len(tables), "Nothing was changed."):
        lock_tables(connection, tables)
        return replace(state_of_tables(connection, tables, summed or {}), sequences=read_sequences(connection))


def state_of_tables(
    connection: Connection, tables: Sequence[Table], summed: Mapping[Key, str], *, with_rows: bool = True
) -> DatabaseState:
    """Return the state with the row counts of these tables, without sequences: they are not part of a snapshot.

    :param with_rows: Whether the dump has rows. If not, no table is counted, and materialized views are unpopulated.
    """
    pin_settings(connection)
    rows, totals = _count(connection, tables if with_rows else [], summed)
    return DatabaseState(
        major=connection.info.server_version // 10000,
        rows=rows,
        sequences={},
        objects=read_objects(connection, DEFINITIONS if with_rows else WITHOUT_ROWS),
        extensions=read_extensions(connection),
        properties=read_properties(connection),
        checksums=totals,
        unread=frozenset((schema, name) for schema, name, _ in read_unreadable(connection)),
        partitions=read_partitions(connection),
    )


def state_of_objects(connection: Connection, summed: Mapping[Key, str]) -> DatabaseState:
    """Return the state without sequences and row counts, with the checksums of some tables."""
    # The session may have the search_path of a dump.
    pin_settings(connection)
    tables = [table for table in read_tables(connection) if table.key in summed] if summed else []
    return replace(state_of_tables(connection, tables, summed), rows={})


def is_comparable(one: str, other: str) -> bool:
    """Return whether two checksums were computed in the same way."""
    return one.startswith(COPIED) == other.startswith(COPIED)


def describe_unsummed(found: DatabaseState, summed: Mapping[Key, str]) -> str:
    """Return a sentence about the tables in `summed` without a comparable checksum; empty if all have one."""
    left = [
        key
        for key, checksum in summed.items()
        if (not found.rows or key in found.rows)
        and not ((have := found.checksums.get(key)) and (not checksum or is_comparable(have, checksum)))
    ]
    if not left:
        return ""
    return (
        f"No checksum of {format_count(len(left), 'table')} ({show_name(left[0])}{', …' * (len(left) > 1)}): "
        f"planning the query could run functions of the owner with your rights. "
        f"For checksums, use the owner's URL (--url-env)."
    )


def _count(
    connection: Connection, tables: Sequence[Table], summed: Mapping[Key, str]
) -> tuple[dict[Key, int], dict[Key, str]]:
    """Return row counts and checksums; each table is read once."""
    rows = {table.key: found for table, found in count_tables(connection, [t for t in tables if t.key not in summed])}
    totals = {}
    by_copy = {key for key, checksum in summed.items() if checksum.startswith(COPIED)}
    for table, found, total in read_checksums(connection, [t for t in tables if t.key in summed], by_copy):
        rows[table.key] = found
        if total is not None:
            totals[table.key] = total
    return rows, totals


def read_history(connection: Connection, schema: str) -> tuple[AppliedMigration, ...] | None:
    """Return the migration history, the oldest first.

    :return: None without a table `_prisma_migrations` with the column types of Prisma. Reading another relation of this
        name could run code of its owner.
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
    """Return the columns of the history that have the expected type; None if a required one is missing."""
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
    """Return a sort key for times in PostgreSQL's ISO style, also for times that Python can't represent."""
    if found := parse_instant(text or ""):
        return 0, found
    return -1 if not text or text.startswith("-") or text.endswith("BC") else 1, datetime.min.replace(tzinfo=UTC)
