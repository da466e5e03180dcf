"""Dumps made while others write: each holds one instant, whole."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tasks.dump.dump import make_dump
from tasks.dump.request import DumpRequest
from tasks.progress import Silence
from tasks.restore.plan import plan_restore
from tasks.restore.request import RestoreRequest
from tasks.restore.restore import restore_dump
from tasks.verify.verify import VerifyRequest, verify_database
from tests.flows import settings_of
from tests.support import Database, Databases, Project

WRITERS = 8
DUMPS = 8
ACCOUNTS = 50
TOTAL = ACCOUNTS * 1000

BANK = f"""
CREATE TABLE account (id integer PRIMARY KEY, amount bigint NOT NULL, moved integer DEFAULT 0 NOT NULL);
INSERT INTO account SELECT i, 1000 FROM generate_series(1, {ACCOUNTS}) i;
CREATE TABLE parent (id serial PRIMARY KEY, children integer NOT NULL);
CREATE TABLE child (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent integer NOT NULL REFERENCES parent (id) ON DELETE CASCADE
);
CREATE INDEX ON child (parent);
CREATE TABLE journal (at timestamptz DEFAULT clock_timestamp(), what text) PARTITION BY LIST (what);
CREATE TABLE journal_in PARTITION OF journal FOR VALUES IN ('in');
CREATE TABLE journal_rest PARTITION OF journal DEFAULT;
"""

# What a move may end in when another one was faster; it is then undone as a whole.
LOST = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.ForeignKeyViolation,
)
MOVES = {
    "an amount moves between two rows": "UPDATE account SET moved = moved + 1,"
    " amount = amount + CASE id WHEN {one} THEN -{n} ELSE {n} END WHERE id IN ({one}, {other})",
    "a parent comes, in two statements": "WITH made AS (INSERT INTO parent (children) VALUES ({n}) RETURNING id)"
    " INSERT INTO child (parent) SELECT id FROM made, generate_series(1, {n});"
    "INSERT INTO journal (what) VALUES ('in')",
    "two parents go, and a row moves to another partition": "DELETE FROM parent WHERE id IN"
    " (SELECT id FROM parent ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED);"
    "UPDATE journal SET what = 'out' WHERE at = (SELECT min(at) FROM journal_in)",
    "a parent has one child more": "WITH grown AS (UPDATE parent SET children = children + 1"
    " WHERE id = (SELECT max(id) FROM parent) RETURNING id) INSERT INTO child (parent) SELECT id FROM grown",
    "half a partition goes": "DELETE FROM journal_rest WHERE random() < 0.5",
}
WEIGHTS = (5, 2, 2, 2, 1)


def write(database: Database, stop: threading.Event, done: list[int], who: int) -> None:
    """Change things as fast as the server lets us, each move in one transaction."""
    chance = random.Random(who)
    with database.connect() as connection:
        connection.execute("SET deadlock_timeout = '20ms'")
        while not stop.is_set():
            one, other = chance.sample(range(1, ACCOUNTS + 1), 2)
            move = chance.choices(list(MOVES.values()), WEIGHTS)[0].format(one=one, other=other, n=chance.randint(1, 9))
            try:
                connection.execute(move.encode())
                done[who] += 1
            except LOST:
                continue


@contextmanager
def writing(database: Database) -> Iterator[list[int]]:
    """Let the writers work; gives how many moves each has made."""
    stop, done = threading.Event(), [0] * WRITERS
    threads = [threading.Thread(target=write, args=(database, stop, done, who)) for who in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=30)


INVARIANTS = {
    "the sum of the accounts": f"SELECT sum(amount) = {TOTAL} FROM account",
    "the number of the accounts": f"SELECT count(*) = {ACCOUNTS} FROM account",
    "two rows moved at a time": "SELECT sum(moved) % 2 = 0 FROM account",
    "parents with all their children": "SELECT coalesce(bool_and(children = (SELECT count(*) FROM child"
    " WHERE child.parent = parent.id)), true) FROM parent",
    "no child without a parent": "SELECT count(*) = 0 FROM child WHERE parent NOT IN (SELECT id FROM parent)",
    "sequences not behind": "SELECT coalesce((SELECT max(id) FROM parent), 0) <= (SELECT last_value FROM parent_id_seq)"
    " AND coalesce((SELECT max(id) FROM child), 0) <= (SELECT last_value FROM child_id_seq)",
}


@pytest.fixture
def bank(new_database: Databases) -> Database:
    """Return a database with accounts between which amounts move."""
    database = new_database()
    database.execute(BANK)
    return database


def test_dumps_hold_one_instant_when_eight_others_write(
    bank: Database, new_database: Databases, project: Project
) -> None:
    """Eight dumps in a row: each restores and verifies, checksums included, and keeps what no manifest knows of."""
    dumps = []
    settings = settings_of(project, bank, lock_timeout=20000)
    with writing(bank) as done:
        for _ in range(DUMPS):
            before = sum(done)
            dumped = make_dump(settings, DumpRequest(checksums=True), Silence())
            assert dumped is not None
            dumps.append(dumped.path)
            wait_until(lambda before=before: sum(done) > before + 20)  # type: ignore[misc]
    assert min(done) > 0

    target = new_database()
    settings = settings_of(project, target)
    contents = set()
    for path in dumps:
        request = RestoreRequest(file=str(path), clean=True, checksums=True, backup=False)
        restore_dump(plan_restore(settings, request, Silence()), Silence())
        verified = verify_database(settings, VerifyRequest(file=str(path), checksums=True), Silence())
        assert verified.lines == ()
        assert verified.expected is not None
        assert verified.expected.state.checksums.keys() == verified.found.rows.keys()
        assert {name: target.scalar(query) for name, query in INVARIANTS.items()} == dict.fromkeys(INVARIANTS, True)
        contents.add(tuple(sorted(verified.found.checksums.items())))
    assert len(contents) == DUMPS


def wait_until(true: Callable[[], bool]) -> None:
    """Wait until something is so, at most half a minute."""
    for _ in range(3000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to be")
