"""What a person looks at after a restore: keys, indexes, and Prisma's migration history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from datetime import datetime

    from .session import Connection

TABLE = "_prisma_migrations"
_SHOWN = 10
_OURS = """
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""


@dataclass(frozen=True)
class Migration:
    """A row of `_prisma_migrations`."""

    name: str
    finished: datetime | None
    rolled_back: datetime | None

    @property
    def state(self) -> str:
        """`applied`, `rolled back`, or `failed` where it is neither."""
        if self.rolled_back is not None:
            return "rolled back"
        return "applied" if self.finished is not None else "failed"


@dataclass(frozen=True)
class Health:
    """Keys, indexes and history of a database.

    :ivar unvalidated: Names of foreign keys that were never checked (NOT VALID).
    :ivar invalid: Names of indexes that can't be used.
    :ivar migrations: The last ten, newest first; None without `_prisma_migrations`.
    """

    foreign_keys: int
    unvalidated: tuple[str, ...]
    indexes: int
    invalid: tuple[str, ...]
    migrations: tuple[Migration, ...] | None


def read(connection: Connection, schema: str) -> Health:
    """Read them, in whatever transaction is open.

    :param schema: Where Prisma keeps its history.
    """
    keys = connection.execute(
        "SELECT pg_catalog.format('%I.%I', n.nspname, k.conname), k.convalidated"
        "  FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid"
        "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE k.contype = 'f' AND k.conparentid = 0 {_OURS} ORDER BY 1"
    ).fetchall()
    indexes = connection.execute(
        "SELECT pg_catalog.format('%I.%I', n.nspname, i.relname), x.indisvalid"
        "  FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indrelid"
        "  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid"
        "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relkind IN ('r', 'p', 'm') {_OURS} ORDER BY 1"
    ).fetchall()
    return Health(
        foreign_keys=len(keys),
        unvalidated=tuple(str(name) for name, valid in keys if not valid),
        indexes=len(indexes),
        invalid=tuple(str(name) for name, valid in indexes if not valid),
        migrations=_migrations(connection, schema),
    )


def history(connection: Connection, schema: str) -> list[dict[str, str]] | None:
    """Read the whole migration history, as a manifest holds it; None without `_prisma_migrations`."""
    if not _has_history(connection, schema):
        return None
    rows = connection.execute(
        sql.SQL(
            "SELECT migration_name, coalesce(finished_at::text, ''), coalesce(rolled_back_at::text, ''), checksum,"
            " coalesce(to_jsonb(m) ->> 'applied_steps_count', '')"
            " FROM {} m ORDER BY started_at, migration_name"
        ).format(sql.Identifier(schema, TABLE))
    )
    keys = ("name", "finished", "rolled_back", "checksum", "steps")
    return [dict(zip(keys, (str(value) for value in row), strict=True)) for row in rows]


def _has_history(connection: Connection, schema: str) -> bool:
    row = connection.execute(
        "SELECT count(*) = 5 FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass(%s) AND attname IN"
        " ('migration_name', 'started_at', 'finished_at', 'rolled_back_at', 'checksum') AND NOT attisdropped",
        [sql.Identifier(schema, TABLE).as_string()],
    ).fetchone()
    return row is not None and bool(row[0])


def _migrations(connection: Connection, schema: str) -> tuple[Migration, ...] | None:
    if not _has_history(connection, schema):
        return None
    rows = connection.execute(
        sql.SQL(
            "SELECT migration_name, finished_at, rolled_back_at FROM {}"
            " ORDER BY started_at DESC, migration_name LIMIT {}"
        ).format(sql.Identifier(schema, TABLE), _SHOWN)
    )
    return tuple(Migration(str(name), finished, rolled_back) for name, finished, rolled_back in rows)
