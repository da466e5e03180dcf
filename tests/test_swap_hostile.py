"""What an owner of a database, or a role that may create databases, prepares for a superuser who restores by a swap."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from tasks.errors import Effect, OperationFailedError
from tasks.postgres.commit import Outcome
from tasks.postgres.connection import connected
from tasks.safety.own_databases import (
    CREATING,
    DatabaseRecord,
    Role,
    as_kept,
    mark,
    server_identity,
    write_database_record,
)
from tasks.safety.scratch_database import on_database
from tasks.safety.swap import Swap, swap_databases
from tasks.system.runtime import Interruption, interruptible
from tests import hostile_database
from tests.both_ways import Method, databases_of_ours, restore_by
from tests.flows import Said, dumped, settings_of
from tests.schemas import SHOP
from tests.servers import OWNER, PASSWORD, SUPERUSER
from tests.support import Database, drop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.config.settings import Settings
    from tests.servers import Server
    from tests.support import Databases, Project

_FORGER = "swap_forger"
_SETTINGS = ("search_path = evil, pg_catalog", "standard_conforming_strings = off", "quote_all_identifiers = on")


@pytest.mark.majors(15, 18)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_swap_calls_nothing_that_the_transaction_does_not_call(
    new_database: Databases, project: Project, seed: int
) -> None:
    """Operators, functions, domains, views and settings of the owner; most calls are those of the load."""
    hostile = hostile_database.build(new_database(owner=OWNER), seed)
    # No restore replaces them: they depend on the types.
    with hostile.database.connect(options="-c search_path=pg_catalog") as connection:
        connection.execute(hostile_database.DROP_CASTS.encode())
        connection.execute("SELECT count(lo_unlink(oid)) FROM pg_largeobject_metadata")
    path = dumped(settings_of(project, hostile.database)).path
    log, called = hostile.database.server.log, dict[Method, set[str]]()
    for method in (Method.TRANSACTION, Method.AUTO):
        database = new_database(owner=OWNER, template=hostile.database)
        for setting in _SETTINGS:
            with database.server.connect() as connection:
                connection.execute(f"ALTER DATABASE {database.name} SET {setting}".encode())
        offset = log.stat().st_size
        ended = restore_by(project, database, path, method, backup=False)
        called[method] = set(hostile.heard(offset))
        assert ended.restored is not None
        assert ended.swapped == (method is Method.AUTO), str(ended.restored.plan.method.reason)

    assert called[Method.AUTO] <= called[Method.TRANSACTION]


@dataclass
class _Intruder(Said):
    """Tries to connect to the staging database as the owner of the configured one, whenever something happens.

    :ivar refused: The SQLSTATE of each attempt; empty for one that succeeded.
    """

    database: Database | None = None
    refused: list[str] = field(default_factory=list)

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Try it."""
        super().progress(what, done, total, unit)
        assert self.database is not None
        for name in (each for each in databases_of_ours(self.database) if "__staging_" in each):
            try:
                Database(self.database.server, name).connect(OWNER).close()
                self.refused.append("")
            except psycopg.OperationalError as error:
                self.refused.append(
                    "denied" if "CONNECT" in str(error) or "not currently" in str(error) else str(error)
                )


@pytest.mark.majors(14, 18)
def test_the_owner_cannot_enter_the_staging_database_of_a_superuser(new_database: Databases, project: Project) -> None:
    """Objects that they create there could be called by the script of an extension."""
    database = new_database(owner=OWNER)
    database.execute(SHOP, role=OWNER)
    path = dumped(settings_of(project, database)).path
    intruder = _Intruder(database=database)

    ended = restore_by(project, database, path, Method.SWAP, said=intruder, disconnect=True)

    assert ended.swapped
    assert set(intruder.refused) == {"denied"}
    query = "SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()"
    assert database.scalar(query) == OWNER


@pytest.fixture
def forger(server: Server) -> Iterator[None]:
    """Create a role that may create databases."""
    with server.connect() as connection:
        connection.execute(f"DROP ROLE IF EXISTS {_FORGER}".encode())
        connection.execute(f"CREATE ROLE {_FORGER} LOGIN CREATEDB PASSWORD '{PASSWORD}'".encode())
    yield
    with server.connect() as connection:
        connection.execute(f"DROP ROLE {_FORGER}".encode())


@pytest.mark.usefixtures("forger")
@pytest.mark.parametrize("kind", [Role.STAGING, Role.KEPT])
def test_a_forged_database_is_neither_dropped_nor_swapped_in(
    new_database: Databases, project: Project, kind: Role
) -> None:
    """It has our name and our comment, but no record of ours."""
    database = new_database()
    database.execute(SHOP)
    path = dumped(settings_of(project, database)).path
    forged = Database(database.server, f"{database.name}__{'staging' if kind is Role.STAGING else 'before'}_20200101")
    with database.server.connect("postgres", _FORGER) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(forged.name)))
        comment = sql.Literal(mark(kind, database.name, None))
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(forged.name), comment))
    try:
        forged.execute("CREATE TABLE theirs (id integer)", role=_FORGER if database.server.major < 15 else SUPERUSER)

        ended = restore_by(project, database, path, Method.SWAP)

        assert ended.swapped
        assert forged.scalar("SELECT count(*) FROM theirs") == 0
        assert database.scalar('SELECT count(*) FROM "User"') == 120
        assert databases_of_ours(database) == [forged.name]
    finally:
        drop(forged)


def swap_of(settings: Settings, live: tuple[str, int], incoming: tuple[str, int]) -> Swap:
    """Return a swap of two databases, each with its name and oid."""
    record = DatabaseRecord(
        role=Role.STAGING,
        server="",
        database=incoming[0],
        oid=incoming[1],
        owner="",
        of=live[0],
        of_oid=live[1],
        made="",
    )
    return Swap(
        folder=settings.dumps,
        maintenance=on_database(settings.target(), "postgres"),
        incoming=record,
        kept=as_kept(record, settings.dumps, oid=live[1], owner="", size=0, rows=0, command=""),
        comment=None,
        before=(),
        ends_sessions=True,
    )


@pytest.mark.parametrize("which", ["live", "incoming"])
def test_a_database_of_the_same_name_and_another_oid_is_not_renamed(
    new_database: Databases, project: Project, which: str
) -> None:
    """It was dropped and made again since we looked."""
    live, incoming = new_database(), new_database()
    oids = {
        each.name: int(each.scalar("SELECT oid FROM pg_database WHERE datname = current_database()"))
        for each in (live, incoming)
    }
    oids[live.name if which == "live" else incoming.name] += 1
    swap = swap_of(settings_of(project, live), (live.name, oids[live.name]), (incoming.name, oids[incoming.name]))

    with pytest.raises(OperationFailedError):
        swap_databases(swap, str)

    assert [each.scalar("SELECT current_database()") for each in (live, incoming)] == [live.name, incoming.name]


def test_a_signal_right_after_the_commit_is_told_as_committed(
    new_database: Databases, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the connections of the swap are closed."""
    live, incoming = new_database(), new_database()
    named = [
        (each.name, int(each.scalar("SELECT oid FROM pg_database WHERE datname = current_database()")))
        for each in (live, incoming)
    ]
    swap = swap_of(settings_of(project, live), *named)
    kept = Database(live.server, swap.kept.database)

    @contextlib.contextmanager
    def interrupted(*args: Any, **options: Any) -> Iterator[Any]:
        with connected(*args, **options) as connection:
            yield connection
        os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr("tasks.safety.swap.connected", interrupted)

    with interruptible(), pytest.raises(Interruption) as raised:
        swap_databases(swap, lambda outcome: outcome.name)

    assert (raised.value.state, raised.value.effect) == (Outcome.COMMITTED.name, Effect.CHANGED)
    with live.server.connect() as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(kept.name)))
    drop(kept)


def test_a_signal_while_grants_are_tried_ends_the_restore(
    new_database: Databases, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes inside a transaction, in which no database can be dropped; the staging database does not remain."""
    database = new_database()
    database.execute(SHOP)
    path = dumped(settings_of(project, database)).path

    def interrupted(*_: object) -> list[sql.Composed]:
        os.kill(os.getpid(), signal.SIGTERM)
        return []

    monkeypatch.setattr("tasks.staging.staging_database.access_statements", interrupted)

    with interruptible(), pytest.raises(Interruption):
        restore_by(project, database, path, Method.AUTO)

    assert databases_of_ours(database) == []
    assert list(project.dumps.glob(".database-*.json")) == []


@pytest.mark.usefixtures("forger")
@pytest.mark.parametrize("who", ["ours", "of another owner", "still created"])
def test_a_database_whose_creation_was_cut_off_is_dropped_only_if_it_is_ours(
    new_database: Databases, project: Project, who: str
) -> None:
    """Its record was written, and it has no comment; another restore may be creating it."""
    database = new_database()
    database.execute(SHOP)
    settings = settings_of(project, database)
    path = dumped(settings).path
    left = Database(database.server, f"{database.name}__staging_0123abcd")
    with database.server.connect() as connection, database.server.connect() as other:
        record = DatabaseRecord(
            role=Role.STAGING,
            server=server_identity(connection, settings.target()),
            database=left.name,
            oid=0,
            owner=SUPERUSER,
            of=database.name,
            of_oid=1,
            made="2026-01-31T00:00:00Z",
        )
        write_database_record(project.dumps, record)
        owner = _FORGER if who == "of another owner" else SUPERUSER
        connection.execute(f"CREATE DATABASE {left.name} OWNER {owner}".encode())
        if who == "still created":
            other.execute("SELECT pg_catalog.pg_advisory_lock_shared(%s)", [CREATING])
        try:
            assert restore_by(project, database, path, Method.SWAP).swapped

            assert databases_of_ours(database) == ([] if who == "ours" else [left.name])
        finally:
            drop(left)
