"""How long an application is cut off by a swap, and what it has written until then."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from tests.both_ways import Method, databases_of_ours, restore_by
from tests.flows import dumped, settings_of
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support import Connection, Database, Databases, Project

# 50 swaps in a row took at most 0.2 s each on a machine that does nothing else; this one may be busy.
_SWAPS, _BOUND = 3, 2.0


@dataclass
class Client:
    """An application that runs a query every few milliseconds, and connects again when its session ends.

    :ivar succeeded: When each query succeeded, in seconds of the monotonic clock.
    :ivar failed: When each query or login failed, and the SQLSTATE.
    """

    database: Database
    query: str
    pause: float = 0.01
    succeeded: list[float] = field(default_factory=list)
    failed: list[tuple[float, str | None]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Work until it is over."""
        connection: Connection | None = None
        number = 0
        while not self._over.wait(self.pause):
            try:
                connection = connection or self.database.connect()
                connection.execute(self.query.replace("{}", str(number)).encode())
                self.succeeded.append(time.monotonic())
                number += 1
            except psycopg.Error as error:
                self.failed.append((time.monotonic(), error.sqlstate))
                connection = None
        if connection is not None:
            connection.close()

    @property
    def longest_gap(self) -> float:
        """Return the longest time in seconds between two queries that succeeded."""
        pairs = zip(self.succeeded, self.succeeded[1:], strict=False)
        return max((later - earlier for earlier, later in pairs), default=0.0)

    @contextmanager
    def working(self) -> Iterator[Client]:
        """Work during a block."""
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            eventually(lambda: bool(self.succeeded), "a first query")
            yield self
        finally:
            self._over.set()
            thread.join()


@pytest.fixture
def shop(new_database: Databases) -> Database:
    """Return a database with enough rows for a load that takes a moment."""
    database = new_database()
    database.execute(
        "CREATE TABLE item (id integer PRIMARY KEY, note text);"
        "INSERT INTO item SELECT i, repeat(md5(i::text), 4) FROM generate_series(1, 60000) i;"
        "CREATE TABLE written (number integer PRIMARY KEY)"
    )
    return database


def _dump(project: Project, database: Database) -> Path:
    return dumped(settings_of(project, database)).path


@pytest.mark.majors(14, 18)
def test_each_write_until_the_swap_is_accepted_and_in_the_kept_database(shop: Database, project: Project) -> None:
    """A client that writes all along loses no write that was accepted, and then sees the new database."""
    path = _dump(project, shop)
    client = Client(shop, "INSERT INTO written VALUES ({})")

    with client.working():
        ended = restore_by(project, shop, path, Method.SWAP, disconnect=True, changes={"kept_databases": 1})
        after = time.monotonic()
        eventually(lambda: client.succeeded[-1] > after, "a write after the swap")

    assert ended.swapped
    # One failure by the end of the session, and others while nobody may connect.
    first = client.failed[0][0]
    resumed = next(at for at in client.succeeded if at > first)
    accepted = sum(at < first for at in client.succeeded)
    assert resumed - first < _BOUND
    assert client.succeeded[0] < first - 0.1
    (kept,) = databases_of_ours(shop)
    with shop.server.connect() as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(kept)))
    with shop.server.connect(kept) as connection:
        old = connection.execute("SELECT count(*) FROM public.written").fetchall()
    # The last write may have been committed although its session ended before the answer came.
    assert old[0][0] in {accepted, accepted + 1}
    assert shop.scalar("SELECT count(*) FROM written") == len(client.succeeded) - accepted
    with shop.server.connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(kept)))


def swap_often(project: Project, shop: Database, swaps: int) -> list[float]:
    """Restore again and again under four clients that connect again at once.

    :return: The longest time in seconds that each client was without an answer, and what we report of each swap.
    """
    shop.execute("TRUNCATE item")
    path = _dump(project, shop)
    clients = [Client(shop, "SELECT count(*) FROM item", pause=0.001) for _ in range(4)]
    reported = []
    with clients[0].working(), clients[1].working(), clients[2].working(), clients[3].working():
        for _ in range(swaps):
            ended = restore_by(project, shop, path, Method.SWAP, disconnect=True, backup=False)
            assert ended.restored is not None
            assert ended.restored.cut_off is not None
            reported.append(ended.restored.cut_off)
    return [*(each.longest_gap for each in clients), *reported]


@pytest.mark.majors(14, 18)
def test_clients_that_connect_again_at_once_are_cut_off_for_a_moment(shop: Database, project: Project) -> None:
    """Sessions that come while the databases are renamed are ended, too, so that the rename never waits for long."""
    assert max(swap_often(project, shop, _SWAPS)) < _BOUND
    assert databases_of_ours(shop) == []
