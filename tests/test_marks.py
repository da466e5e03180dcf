"""A mark notices what a dump would show: a commit of any kind, and what setval does without one."""

import pytest

from tests.marks import Mark
from tests.support import Database

CHANGES = {
    "row": "INSERT INTO t VALUES (1)",
    "definition": "ALTER TABLE t ADD COLUMN c int",
    "grant": "GRANT SELECT ON t TO PUBLIC",
    "large object": "SELECT lo_from_bytea(0, 'x')",
    "the same row again": "BEGIN; DELETE FROM u; INSERT INTO u VALUES (1); COMMIT",
    "savepoint": "BEGIN; SAVEPOINT s; INSERT INTO t VALUES (1); RELEASE s; COMMIT",
    "sequence, rolled back": "BEGIN; SELECT setval('s', 7, false); ROLLBACK",
}
NOTHING = {
    "rollback": "BEGIN; INSERT INTO t VALUES (1); DROP TABLE u; SAVEPOINT s; DELETE FROM t; RELEASE s; ROLLBACK",
    "reading": "SELECT * FROM u",
}


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("change", [*CHANGES, *NOTHING])
def test_a_mark_tells_changes_from_rollbacks(change: str, database: Database) -> None:
    """Whichever the kind of object."""
    database.execute("CREATE TABLE t (id int); CREATE TABLE u AS SELECT 1 AS id; CREATE SEQUENCE s")
    mark = Mark(database)

    with database.connect() as connection:
        for statement in ({**CHANGES, **NOTHING}[change]).split("; "):
            connection.execute(statement.encode())

    assert mark.is_untouched() == (change in NOTHING)
