"""Builds the databases that are dumped and restored; the same scale always gives the same rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Server

JOURNAL = Path(__file__).resolve().parent.parent / "examples" / "journal"
MANY = 2_000
_OWN = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'"
_SHAPE = f"""
SELECT (SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
          JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_OWN} AND i.indisvalid),
       (SELECT count(*) FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace WHERE {_OWN}),
       (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_OWN} AND relkind = 'S')
"""
_HUGE = """
CREATE TABLE measurement (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sensor integer NOT NULL, value double precision NOT NULL, at timestamptz NOT NULL, note text);
INSERT INTO measurement (sensor, value, at, note)
SELECT i % 1000, (i * 7919 % 100003) / 7.0, timestamptz '2024-01-01 00:00+00' + i * interval '1 second',
    CASE WHEN i % 10 = 0 THEN md5(i::text) END
FROM generate_series(1::bigint, {}) AS i;
CREATE INDEX ON measurement (sensor, at);
"""
# A quarter of the values is text that compresses well, the rest looks drawn by lot, so that nothing compresses it.
_WIDE = """
CREATE TABLE attachment (id bigint PRIMARY KEY, name text NOT NULL, content bytea, body text);
INSERT INTO attachment
SELECT i, 'file ' || i,
    CASE WHEN i % 4 > 0 THEN decode(
        (SELECT string_agg(md5(i || ':' || k), '') FROM generate_series(1, 4096) AS k), 'hex') END,
    CASE WHEN i % 4 = 0 THEN repeat('Nothing of note happened on day ' || i || E'.\\n', 1600) END
FROM generate_series(1::bigint, {}) AS i;
"""
_INSERTS = """
CREATE TABLE entry (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, author integer NOT NULL, title text NOT NULL, body text,
    payload jsonb, at timestamptz NOT NULL);
INSERT INTO entry (author, title, body, payload, at)
SELECT i % 997, 'It''s entry ' || i, CASE WHEN i % 3 > 0 THEN repeat(md5(i::text) || E'\\n', 1 + (i % 5)::int) END,
    jsonb_build_object('n', i, 'quote', '"'), timestamptz '2024-01-01 00:00+00' + i * interval '1 minute'
FROM generate_series(1::bigint, {}) AS i;
CREATE INDEX ON entry (author);
"""


@dataclass(frozen=True)
class Shape:
    """What a restore must have brought back.

    :ivar rows: Of each table by its name with its schema.
    """

    rows: dict[str, int]
    indexes: int
    constraints: int
    sequences: int


@dataclass(frozen=True)
class Built:
    """A database that is there.

    :ivar bytes: What it takes at the server, indexes and all.
    """

    name: str
    shape: Shape
    bytes: int = field(compare=False)

    @property
    def total(self) -> int:
        """Its rows."""
        return sum(self.shape.rows.values())


def build(server: Server, name: str, scale: int) -> Built:
    """Make a database.

    :param name: One of :data:`benchmarks.options.DATABASES`.
    :param scale: Events of the journal.
    """
    create(server, name)
    _BUILDERS[name](server, name, scale)
    with server.connect(name) as connection:
        connection.execute("VACUUM ANALYZE")
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None  # noqa: S101 - a query without FROM has one row
    return Built(name, shape(server, name), row[0])


def create(server: Server, name: str, template: str = "template0") -> None:
    """Make a database anew, empty or a copy of another one, file by file."""
    query = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
    with server.connect() as connection:
        # A swap keeps the old database under a name of its own, and DSLR's snapshots are databases.
        names = connection.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s) OR starts_with(datname, 'dslr_')",
            [f"{name}__"],
        )
        for (each,) in [(name,), *names.fetchall()]:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(each)))
        connection.execute(query.format(sql.Identifier(name), sql.Identifier(template)))


def shape(server: Server, name: str) -> Shape:
    """Count what a database holds."""
    with server.connect(name) as connection:
        tables = connection.execute(
            f"SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            f"WHERE {_OWN} AND c.relkind IN ('r', 'p', 'm') ORDER BY 1, 2".encode()
        ).fetchall()
        rows = {}
        for schema, table in tables:
            query = sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(schema, table))
            counted = connection.execute(query).fetchone()
            rows[f"{schema}.{table}"] = counted[0] if counted else -1
        others = connection.execute(_SHAPE.encode()).fetchone()
    return Shape(rows, *(others or (-1, -1, -1)))


def _journal(server: Server, name: str, scale: int) -> None:
    with server.connect(name) as connection:
        for path in sorted((JOURNAL / "prisma" / "migrations").glob("*/migration.sql")):
            connection.execute(path.read_bytes())
        connection.execute("SELECT set_config('journal.events', %s, false)", [str(scale)])
        with connection.transaction():
            connection.execute((JOURNAL / "generate.sql").read_bytes())


def _many(server: Server, name: str, scale: int) -> None:
    number = min(MANY, max(10, scale // 75))
    with server.connect(name) as connection, connection.transaction():
        for i in range(number):
            connection.execute(
                f"CREATE TABLE setting_{i:04} (id serial PRIMARY KEY, name text NOT NULL UNIQUE, value jsonb);"
                f"INSERT INTO setting_{i:04} (name, value) "
                f"SELECT 'setting ' || k, jsonb_build_object('of', {i}) FROM generate_series(1, 20) AS k".encode()
            )


def _filled(script: str, rows: Callable[[int], int]) -> Callable[[Server, str, int], None]:
    def fill(server: Server, name: str, scale: int) -> None:
        with server.connect(name) as connection:
            connection.execute(script.format(rows(scale)).encode())

    return fill


_BUILDERS: dict[str, Callable[[Server, str, int], None]] = {
    "journal": _journal,
    "tenth": lambda server, name, scale: _journal(server, name, scale // 10),
    "many": _many,
    "huge": _filled(_HUGE, lambda scale: 3 * scale),
    "wide": _filled(_WIDE, lambda scale: max(8, scale // 300)),
    "inserts": _filled(_INSERTS, lambda scale: max(50, scale // 30)),
    "empty": lambda *_: None,
}
