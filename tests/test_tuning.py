"""What one large transaction is given to be faster: within the server's own means, and no longer than it lasts."""

import pytest

from tasks.config.target import sanitize
from tasks.postgres.connection import Connection, connected
from tasks.restore.tuning import tune_transaction
from tests.servers import OWNER
from tests.support import Database


def _show(connection: Connection, name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize(
    ("cache", "memory", "expected"),
    [("4GB", "64MB", "256MB"), ("1600MB", "64MB", "100MB"), ("512MB", "64MB", "64MB"), ("4GB", "1GB", "1GB")],
    ids=["defaults", "a smaller machine", "a small machine", "already more"],
)
def test_sorting_gets_memory_within_the_servers_own_means(
    database: Database, cache: str, memory: str, expected: str
) -> None:
    """A sixteenth of what the server takes for its cache, at most 256 MB, and never less than there was."""
    with connected(sanitize(database.url)) as connection:
        connection.execute(f"SET effective_cache_size = '{cache}'".encode())
        connection.execute(f"SET maintenance_work_mem = '{memory}'".encode())

        connection.execute("BEGIN")
        tune_transaction(connection)
        within = _show(connection, "maintenance_work_mem")
        connection.execute("COMMIT")

        assert (within, _show(connection, "maintenance_work_mem")) == (expected, memory)


@pytest.mark.majors(14, 15, 18)
def test_the_log_is_compressed_where_nobody_else_reads_it(database: Database) -> None:
    """As superuser, from 15 on, without archive and standbys; 14 knows no lz4."""
    with connected(sanitize(database.url)) as connection:
        connection.execute("BEGIN")
        tune_transaction(connection)

        assert _show(connection, "wal_compression") == ("off" if database.server.major == 14 else "lz4")


def test_the_log_is_left_alone_where_a_standby_may_read_it(database: Database) -> None:
    """A physical slot says that somebody will replay the log, with a build that nobody knows."""
    database.execute("SELECT pg_create_physical_replication_slot('a_standby')")
    try:
        with connected(sanitize(database.url)) as connection:
            connection.execute("BEGIN")
            tune_transaction(connection)
            found = _show(connection, "wal_compression")
    finally:
        database.execute("SELECT pg_drop_replication_slot('a_standby')")

    assert found == "off"


def test_a_plain_owner_is_tuned_without_an_error(database: Database) -> None:
    """What only a superuser may set is left as it is."""
    with connected(sanitize(database.url_as(OWNER))) as connection:
        connection.execute("BEGIN")
        tune_transaction(connection)

        assert (_show(connection, "maintenance_work_mem"), _show(connection, "wal_compression")) == ("256MB", "off")
