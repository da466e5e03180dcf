"""No name in our SQL is looked up in a schema of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sql_texts import is_sql, texts, unqualified

if TYPE_CHECKING:
    from tests.servers import Server

_FUNCTIONS = (
    "SELECT DISTINCT proname FROM pg_catalog.pg_proc WHERE pronamespace = 'pg_catalog'::pg_catalog.regnamespace"
)


@pytest.mark.majors(15, 18)
def test_every_name_in_our_sql_is_qualified(server: Server) -> None:
    """Functions, types, relations, and the names in literals."""
    with server.connect() as connection:
        functions = {str(name) for (name,) in connection.execute(_FUNCTIONS)}

    found = {f"{text.where}: {name}" for text in texts() for name in unqualified(text.sql, functions)}

    assert sorted(found) == []


def test_the_texts_are_found() -> None:
    """Those of the catalogue queries, of f-strings, of bytes and of parts."""
    found = "\n".join(text.sql for text in texts())

    assert len(texts()) > 150
    for part in (
        "pg_terminate_backend",
        "pg_partition_tree",
        "COPY {}{} TO STDOUT",
        "pg_get_viewdef",
        "CREATE DATABASE",
    ):
        assert part in found


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("concat(c.relispopulated)", True),
        ("to_jsonb(v) ->> 'rowfilter'", True),
        ("quote_ident(k.conname) || ' '", True),
        ("c.relkind = 'v' AND concat(c.relname) <> ''", True),
        ("install it and run SELECT pg_import_system_collations('pg_catalog')", False),
        ("The table has rows (3).", False),
    ],
)
def test_parts_of_texts_are_seen(text: str, *, seen: bool) -> None:
    """A call alone is SQL, a sentence is not."""
    assert is_sql(text) is seen


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("SELECT pg_catalog.now()", []),
        ("SELECT now()", ["now()"]),
        ("SELECT x::text FROM pg_catalog.pg_class", ["::text"]),
        ("SELECT x::int8, y::pg_catalog.text, z::int FROM s.t", ["::int8"]),
        ("SELECT 1 FROM pg_class", ["FROM pg_class"]),
        ("SELECT 'pg_class'::pg_catalog.regclass", ["'pg_class'"]),
        ("WITH mine(a) AS (SELECT 1) SELECT a FROM mine JOIN pg_catalog.pg_class c ON c.oid = a", []),
        ("SELECT coalesce(a, 'now()') IS DISTINCT FROM b FROM ONLY {} AS v(lower, upper)", []),
        ("SELECT extract(epoch FROM now())", ["now()"]),
        ("SELECT count(*) FROM {}", ["count()"]),
        ("CREATE TABLE {} (a text, b pg_catalog.text, c varchar(3))", ["text"]),
    ],
)
def test_unqualified_names_are_seen(text: str, names: list[str]) -> None:
    """The check itself tells the bad from the good."""
    assert list(unqualified(text, {"now", "count", "coalesce", "lower", "upper"})) == names
