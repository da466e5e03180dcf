"""What a person looks at after a restore: keys, indexes, and Prisma's migration history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from psycopg import sql

from . import facts

if TYPE_CHECKING:
    from .session import Connection

TABLE = "_prisma_migrations"
_SHOWN = 10
_OURS = """
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                        AND d.deptype = 'e')
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
    """Read the whole migration history, as a manifest holds it, the oldest first.

    :return: None without a table `_prisma_migrations` of the types that Prisma gives it: anything else could run code
        of its owner when it is read.
    """
    known = _columns(connection, schema)
    if known is None:
        return None
    shown = [name for name in ("migration_name", "finished_at", "rolled_back_at", "checksum", _STEPS) if name in known]
    rows = sorted(
        facts.copied(connection, sql.Identifier(schema, TABLE), ["started_at", *shown]),
        key=lambda row: (_moment(row[0]), row[1] or ""),
    )
    keys = ("name", "finished", "rolled_back", "checksum", "steps")
    return [
        dict(zip(keys, (*(value or "" for value in row[1:]), *[""] * (len(keys) - len(shown))), strict=True))
        for row in rows
    ]


_STEPS = "applied_steps_count"
_TEXTS, _TIMES, _NUMBERS = (25, 1043), (1114, 1184), (20, 21, 23)  # text, varchar; timestamp(tz); int8, int2, int4
_TYPES = {
    "migration_name": _TEXTS,
    "checksum": _TEXTS,
    "started_at": _TIMES,
    "finished_at": _TIMES,
    "rolled_back_at": _TIMES,
    _STEPS: _NUMBERS,
}


def _columns(connection: Connection, schema: str) -> set[str] | None:
    """Name those columns of the history that have the types expected; None where one is missing that must be there."""
    rows = connection.execute(
        "SELECT a.attname, a.atttypid FROM pg_catalog.pg_attribute a"
        " JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped"
        "   AND a.attgenerated = ''",
        [schema, TABLE],
    )
    found = {str(name) for name, kind in rows if kind in _TYPES.get(str(name), ())}
    return found if found >= _TYPES.keys() - {_STEPS} else None


def _migrations(connection: Connection, schema: str) -> tuple[Migration, ...] | None:
    rows = history(connection, schema)
    if rows is None:
        return None
    return tuple(
        Migration(row["name"], _time(row["finished"]), _time(row["rolled_back"])) for row in rows[: -_SHOWN - 1 : -1]
    )


def _time(text: str) -> datetime | None:
    # What Python can't hold (infinity, BC) is no less set.
    return None if not text else _moment(text)[1]


def _moment(text: str | None) -> tuple[int, datetime]:
    """Read a time in PostgreSQL's ISO style, for sorting and showing."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return -1 if not text or text.startswith("-") or text.endswith("BC") else 1, datetime.min.replace(tzinfo=UTC)
    return 0, found if found.tzinfo else found.replace(tzinfo=UTC)
