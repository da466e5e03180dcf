"""Others who hold locks: we wait as long as we may, say who they are, and end them where we are asked and may."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psycopg
import pytest

from tasks.dump.dump import make_dump
from tasks.dump.request import DumpRequest
from tasks.errors import ServerError
from tasks.progress import Silence
from tasks.restore.plan import plan_restore
from tasks.restore.request import RestoreRequest
from tasks.restore.reset import plan_reset, reset_database
from tasks.restore.restore import restore_dump
from tasks.scratch.rehearse import rehearse_dump
from tasks.verify.verify import VerifyRequest, verify_database
from tests.flows import Said, plan_dump_undo, settings_of
from tests.servers import OWNER, SUPERUSER, Server
from tests.support import Database, Databases, Project, blocking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tasks.config.settings import Settings

_SHOP = """
CREATE TABLE item (id integer PRIMARY KEY, name text);
INSERT INTO item SELECT i, 'item ' || i FROM generate_series(1, 50) i;
CREATE FUNCTION twice(integer) RETURNS integer LANGUAGE sql AS 'SELECT 2 * $1';
"""
_PATIENCE = 400


@dataclass(frozen=True)
class Shop:
    """A plain owner's database, with a dump and a safety dump of it."""

    database: Database
    settings: Settings


@pytest.fixture(scope="module")
def shop(server_of: Callable[[int], Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Return a shop that every test leaves as it was."""
    with Databases(server_of(17)) as databases:
        database = databases(owner=OWNER)
        database.execute(_SHOP, OWNER)
        project = Project.create(tmp_path_factory.mktemp("sessions") / "project")
        settings = settings_of(project, database, OWNER, lock_timeout=_PATIENCE)
        assert make_dump(settings, DumpRequest(), Silence())
        clean(settings)
        yield Shop(database, settings)


def clean(settings: Settings, *, disconnect: bool = False) -> None:
    """Restore the newest dump with --clean."""
    request = RestoreRequest(clean=True, disconnect=disconnect)
    restore_dump(plan_restore(settings, request, Silence()), Silence())


def over(settings: Settings) -> None:
    """Restore the newest dump without --clean."""
    restore_dump(plan_restore(settings, RestoreRequest(), Silence()), Silence())


def reset(settings: Settings) -> None:
    """Empty the schema."""
    reset_database(plan_reset(settings, ["public"], Silence()), Silence())


def undo(settings: Settings) -> None:
    """Bring back what was before."""
    restore_dump(plan_dump_undo(settings, Silence()), Silence())


WORK: dict[str, Callable[[Settings], object]] = {
    "dump": lambda settings: make_dump(settings, DumpRequest(), Silence()),
    "verify": lambda settings: verify_database(settings, VerifyRequest(), Silence()),
    "restore": over,
    "restore --clean": clean,
    "reset": reset,
    "undo": undo,
}
_READS = ("dump", "verify")
_HELD = {
    "ACCESS EXCLUSIVE": "LOCK TABLE item",
    "a row": "UPDATE item SET name = 'busy' WHERE id = 1",
    "a reader": "SELECT count(*) FROM item",
    "a function": "ALTER FUNCTION twice(integer) COST 7",
}


@pytest.mark.parametrize(
    ("work", "held", "holder"),
    [
        *((work, "ACCESS EXCLUSIVE", OWNER) for work in WORK),
        ("dump", "ACCESS EXCLUSIVE", SUPERUSER),
        *((work, held, SUPERUSER) for work in ("dump", "restore --clean") for held in ("a row", "a reader")),
        *((work, "a function", OWNER) for work in WORK if work not in _READS),
    ],
)
def test_who_stands_in_the_way_is_named_in_time(work: str, held: str, holder: str, shop: Shop) -> None:
    """Exit 4 after db.lock_timeout, with pid, user, application, and what it holds; nothing has changed."""
    if work in _READS and held != "ACCESS EXCLUSIVE":
        # Readers wait for nobody else.
        with blocking(shop.database, _HELD[held], role=holder):
            WORK[work](shop.settings)
        return
    before = sorted(shop.settings.dumps.rglob("*"))

    with blocking(shop.database, f"SET application_name = 'the app'; {_HELD[held]}", role=holder) as other:
        began = time.monotonic()
        with pytest.raises(ServerError) as raised:
            WORK[work](shop.settings)
        took = time.monotonic() - began
        pid = other.info.backend_pid

    said = str(raised.value)
    assert took < _PATIENCE / 1000 + 6
    assert f"{pid}" in said
    assert "the app" in said
    assert ("idle in transaction for 00:00:0" in said) == (holder == OWNER)
    assert ("holds public.item" in said) == (held != "a function")
    assert sorted(shop.settings.dumps.rglob("*")) == before
    assert shop.database.scalar("SELECT count(*) FROM item") == 50
    assert shop.database.scalar("SELECT procost FROM pg_proc WHERE proname = 'twice'") == 100


def test_a_rehearsal_waits_for_nobody(shop: Shop) -> None:
    """It works in a database of its own."""
    creator = Database(shop.database.server, shop.database.name)
    settings = settings_with(shop, SUPERUSER)
    with blocking(creator, "LOCK TABLE item"):
        assert rehearse_dump(settings, "", Silence())


def settings_with(shop: Shop, role: str) -> Settings:
    """Return the shop's settings for another role."""
    return replace(shop.settings, environ={"DATABASE_URL": shop.database.url_as(role)})


def test_who_holds_nothing_of_ours_is_not_named(shop: Shop) -> None:
    """A reader does not hinder a dump, so only the one who does is named."""
    with (
        blocking(shop.database, "SET application_name = 'innocent'; SELECT twice(1) FROM pg_class") as _,
        blocking(shop.database, "SET application_name = 'guilty'; LOCK TABLE item"),
        pytest.raises(ServerError) as raised,
    ):
        WORK["dump"](shop.settings)

    assert "guilty" in str(raised.value)
    assert "innocent" not in str(raised.value)


def test_a_prepared_transaction_is_named(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It has no session, and holds its locks all the same."""
    own = Server.launch(server.major, server.bin_dir)
    try:
        own.stop()
        with (own.data_dir / "postgresql.conf").open("a") as file:
            file.write("max_prepared_transactions = 3\n")
        own.start()
        database = Database(own, "postgres")
        database.execute(_SHOP)
        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute("BEGIN; LOCK TABLE item; PREPARE TRANSACTION 'forgotten'")
        project = Project.create(tmp_path_factory.mktemp("prepared") / "project")

        with pytest.raises(ServerError, match=r"\bforgotten\b.*\bpublic\.item\b"):
            reset(settings_of(project, database, lock_timeout=_PATIENCE))
    finally:
        own.close()


def test_a_superusers_session_stays_and_is_named(shop: Shop) -> None:
    """A plain owner's --disconnect ends what it may, and goes on: what holds no lock is in nobody's way."""
    report = Said()
    request = RestoreRequest(clean=True, disconnect=True, backup=False)
    with shop.database.connect(SUPERUSER) as monitor, shop.database.connect(OWNER) as own:
        restore_dump(plan_restore(shop.settings, request, Silence()), report)
        pid = monitor.info.backend_pid

        monitor.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            own.execute("SELECT 1")

    assert [line for line in report.warnings if f"pid {pid}, user {SUPERUSER}" in line]


def test_a_superusers_lock_ends_the_restore_all_the_same(shop: Shop) -> None:
    """With --disconnect, too: exit 4, and its pid."""
    with (
        blocking(shop.database, "LOCK TABLE item", role=SUPERUSER) as other,
        pytest.raises(ServerError, match=rf"\b{other.info.backend_pid}\b.*\b{SUPERUSER}\b"),
    ):
        clean(shop.settings, disconnect=True)
    assert shop.database.scalar("SELECT count(*) FROM item") == 50


def test_pools_that_come_back_at_once_do_not_stop_it(shop: Shop) -> None:
    """Four sessions that begin to read and stay, and are there again a moment after they were ended."""
    over_ = threading.Event()
    ended = [0] * 4
    there = [threading.Event() for _ in ended]

    def come_back(number: int) -> None:
        while not over_.is_set():
            with contextlib.suppress(psycopg.Error), shop.database.connect(OWNER, autocommit=False) as connection:
                connection.execute("SELECT count(*) FROM item")
                there[number].set()
                while not over_.wait(0.02):
                    connection.execute("SELECT 1")
            ended[number] += 1

    pool = [threading.Thread(target=come_back, args=[number]) for number in range(4)]
    for thread in pool:
        thread.start()
    try:
        assert all(each.wait(20) for each in there)
        clean(shop.settings, disconnect=True)
    finally:
        over_.set()
        for thread in pool:
            thread.join()

    assert min(ended) >= 2
    assert shop.database.scalar("SELECT count(*) FROM item") == 50
