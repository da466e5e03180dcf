"""Tables of extensions, and what users wrote into the conditions of extensions and publications, at a swap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tasks.errors import TaskError
from tests import hostile_database
from tests.both_ways import Method, SwapObstacle, databases_of_ours, restore_by
from tests.extended import extended_server
from tests.flows import dumped, settings_of
from tests.servers import OWNER
from tests.support import Database, Databases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server
    from tests.support import Project

# The second function of the condition is one of users: `db.dump` calls it as pg_dump does.
_SCRIPT = """
CREATE TABLE conf (key text PRIMARY KEY, value text);
INSERT INTO conf VALUES ('built in', '1'), ('built in, too', '2');
CREATE TABLE fixed (n integer);
INSERT INTO fixed VALUES (1), (2), (2);
CREATE SEQUENCE counter;
SELECT pg_catalog.pg_extension_config_dump('conf', 'WHERE key NOT LIKE ''built in%'' AND evil.truth(key)');
"""
_USERS = """
CREATE TABLE public.item (id int PRIMARY KEY, name text);
INSERT INTO public.item SELECT i, 'item ' || i FROM generate_series(1, 30) i;
CREATE PUBLICATION filtered FOR TABLE public.item WHERE (id > 10 AND name <> 'item 12');
"""


@pytest.fixture(scope="module")
def extended() -> Iterator[Server]:
    """Return a server of its own that knows the extension."""
    with extended_server("swapped_tables", _SCRIPT) as server:
        yield server


@pytest.fixture
def hostile(extended: Server) -> Iterator[hostile_database.Hostile]:
    """Return a database of a plain owner with the extension and with functions that write into the server's log."""
    with Databases(extended) as databases:
        database = databases(owner=OWNER)
        found = hostile_database.begin(database)
        database.execute("CREATE SCHEMA conf; CREATE EXTENSION swapped_tables SCHEMA conf")
        database.execute(f"GRANT CREATE ON SCHEMA public TO {OWNER}")
        # Casts depend on types that the dump replaces.
        database.execute(hostile_database.DROP_CASTS)
        database.execute(_USERS, OWNER)
        yield found


def test_conditions_of_extensions_and_publications_call_nothing(
    hostile: hostile_database.Hostile, project: Project
) -> None:
    """A superuser swaps: neither the condition of the extension's table nor the row filter is evaluated."""
    database = hostile.database
    log = database.server.log
    offset = log.stat().st_size
    path = dumped(settings_of(project, database)).path
    by_dump = hostile.heard(offset)
    before, offset = database.dump_text(), log.stat().st_size

    ended = restore_by(project, database, path, Method.SWAP, backup=False)

    heard = hostile.heard(offset)
    assert ended.swapped
    assert heard == []
    assert database.dump_text() == before
    # The functions do write into the log when they are called.
    assert by_dump or database.scalar("SELECT evil.truth('x')")
    assert hostile.heard(offset)


CHANGES = {
    "a row that the extension dumps": ("INSERT INTO conf.conf VALUES ('mine', '3')", "conf.conf"),
    "another value in a row of the extension": ("UPDATE conf.conf SET value = '7' WHERE value = '2'", "conf.conf"),
    "a row of the extension is missing": ("DELETE FROM conf.conf WHERE value = '2'", "conf.conf"),
    "a row in a table that is never dumped": ("INSERT INTO conf.fixed VALUES (3)", "conf.fixed"),
    "a row that is there one more time": ("INSERT INTO conf.fixed VALUES (2)", "conf.fixed"),
    "a sequence that was used": ("SELECT nextval('conf.counter')", "conf.counter"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_other_rows_in_a_table_of_an_extension_prevent_a_swap(
    hostile: hostile_database.Hostile, project: Project, case: str
) -> None:
    """The reason names the table; nothing is left, and `auto` restores in one transaction, which keeps these rows."""
    database, (statement, name) = hostile.database, CHANGES[case]
    path = dumped(settings_of(project, database)).path
    database.execute(statement)
    rows = _rows(database)

    with pytest.raises(TaskError) as caught:
        restore_by(project, database, path, Method.SWAP, backup=False)
    assert (databases_of_ours(database), _rows(database)) == ([], rows)
    ended = restore_by(project, database, path, Method.AUTO, backup=False)

    assert name in str(caught.value)
    assert not ended.swapped
    assert ended.restored is not None
    reason = ended.restored.plan.method.reason
    assert reason is not None
    assert (reason.obstacle, name in str(reason)) == (SwapObstacle.DIFFERS, True)
    assert databases_of_ours(database) == []


def test_the_order_of_the_rows_of_an_extension_does_not_matter(
    hostile: hostile_database.Hostile, project: Project
) -> None:
    """Rows that were written again are the same rows: a swap is possible."""
    database = hostile.database
    path = dumped(settings_of(project, database)).path
    database.execute("DELETE FROM conf.fixed WHERE n = 1; INSERT INTO conf.fixed VALUES (1)")

    assert restore_by(project, database, path, Method.SWAP, backup=False).swapped


def _rows(database: Database) -> list[object]:
    return [
        database.execute("SELECT * FROM conf.conf ORDER BY 1"),
        database.execute("SELECT * FROM conf.fixed ORDER BY 1"),
        database.execute("SELECT last_value, is_called FROM conf.counter"),
    ]
