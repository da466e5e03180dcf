"""What a newer server writes and an older one does not know: rolled back, with both versions and the thing named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tasks.dumpformat.server_needs import explain_version
from tasks.errors import OperationFailedError
from tasks.postgres.connection import OLDEST_MAJOR
from tests.flows import pg_dump, restore, write
from tests.servers import MAJORS, VERSIONS, Server
from tests.support import Databases, Project

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Feature:
    """Something that came with a major.

    :ivar named: How the sentence calls it.
    """

    since: int
    sql: str
    named: str


FEATURES = {
    "NULLS NOT DISTINCT": Feature(
        15, "CREATE TABLE t (a int); CREATE UNIQUE INDEX ON t (a) NULLS NOT DISTINCT", "NULLS NOT DISTINCT"
    ),
    "security_invoker": Feature(15, "CREATE VIEW v WITH (security_invoker) AS SELECT 1 AS a", "security_invoker"),
    "publication of a schema": Feature(15, "CREATE PUBLICATION p FOR TABLES IN SCHEMA public", "this publication"),
    "SET NULL (column)": Feature(
        15,
        "CREATE TABLE t (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE u (a int, b int,"
        " FOREIGN KEY (a, b) REFERENCES t ON DELETE SET NULL (b))",
        "SET NULL of some columns",
    ),
    "MAINTAIN": Feature(17, "CREATE TABLE t (a int); GRANT MAINTAIN ON t TO owner", "the privilege MAINTAIN"),
    "JSON_TABLE": Feature(
        17, "CREATE VIEW v AS SELECT * FROM JSON_TABLE('[1]', '$[*]' COLUMNS (a int PATH '$'))", "SQL/JSON"
    ),
    "virtual generated column": Feature(
        18, "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a * 2))", "virtual generated columns"
    ),
    "NOT NULL NOT VALID": Feature(
        18, "CREATE TABLE t (a int); ALTER TABLE t ADD CONSTRAINT c NOT NULL a NOT VALID", "NOT NULL as a named"
    ),
    "WITHOUT OVERLAPS": Feature(
        18, "CREATE TABLE t (a int4range, b int4range, PRIMARY KEY (a, b WITHOUT OVERLAPS))", "WITHOUT OVERLAPS"
    ),
    "NOT ENFORCED": Feature(18, "CREATE TABLE t (a int CHECK (a > 0) NOT ENFORCED)", "NOT ENFORCED"),
}


def pairs(name: str) -> tuple[int, int]:
    """Return the majors that know a feature and do not, nearest to each other."""
    since = FEATURES[name].since
    return since, since - 1


@pytest.mark.parametrize("name", FEATURES)
def test_what_an_older_server_does_not_know_is_named(
    name: str, server_of: Callable[[int], Server], project: Project
) -> None:
    """Exit 5 with both versions; the database is as it was."""
    feature = FEATURES[name]
    new, old = pairs(name)
    with Databases(server_of(new)) as databases:
        source, target = databases(), databases(server=server_of(old))
        source.execute(feature.sql)
        target.execute("CREATE TABLE kept AS SELECT 1 AS one")
        path = write(project, "newer.sql", pg_dump(source))

        with pytest.raises(OperationFailedError) as raised:
            restore(project, target, path, clean=True)

        assert target.scalar("SELECT count(*) FROM kept") == 1
    said = str(raised.value)
    assert f"The dump comes from PostgreSQL {VERSIONS[new]}; this server is {VERSIONS[old]} " in said
    assert f"{feature.named}" in said
    assert f"in PostgreSQL {feature.since}." in said


def test_nothing_is_said_of_versions_where_they_are_not_the_reason() -> None:
    """A dump of the same or an older server, and an error that no version explains."""
    assert explain_version(b"CREATE TABLE t (a int NOT ENFORCED)", "42601", "16.2", "16.15") == ""
    assert explain_version(b"INSERT INTO t VALUES (1)", "23505", "18.1", "16.15") == ""
    assert "18.1; this server is 16.15 " in explain_version(b"CREATE THING x", "42601", "18.1", "16.15")
    assert explain_version(b"CREATE THING x", "42601", "", "16.15") == ""


def test_no_server_is_accepted_that_the_queries_do_not_fit() -> None:
    """The catalogue of 13 lacks columns that every dump reads, so the oldest major is that of the tests."""
    assert min(MAJORS) == OLDEST_MAJOR
