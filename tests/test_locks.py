"""The locks of one transaction: counted as the server counts them, and a warning before it may run out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tasks.dump.dump import Dumped, make_dump
from tasks.dump.request import DumpRequest
from tasks.errors import OperationFailedError
from tasks.postgres.commit import CommitResult, commit_transaction
from tasks.postgres.lock_capacity import read_lock_capacity
from tasks.progress import Silence
from tasks.restore.plan import plan_restore
from tasks.restore.preflight import warn_of_locks
from tasks.restore.request import RestoreRequest
from tasks.restore.reset import plan_reset
from tasks.restore.restore import restore_dump
from tasks.verify.verify import VerifyRequest, verify_database
from tests.flows import Said, restore, settings_of
from tests.locks import fill
from tests.servers import Server
from tests.support import Database, Databases, Project, patch_everywhere

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.postgres.connection import Connection
    from tasks.progress import Report

_HELD = b"""
SELECT count(*) FROM (SELECT DISTINCT locktype, database, relation, classid, objid, objsubid
  FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() AND NOT fastpath) each
"""
# Tables of a model, and tables with a key, for 10 locks of each process and 40 connections.
_LET_THROUGH = 28
_UNCERTAIN = 40
_TOO_MANY = 120
_MANY = 500
_MORE = 1600
# What Prisma makes of a model with a relation: a key, a sequence, a foreign key, an index, texts.
_MODEL = """
CREATE TABLE public.t{i} (id serial PRIMARY KEY, name text NOT NULL, parent integer REFERENCES public.t{i},
  at timestamp(3) DEFAULT CURRENT_TIMESTAMP NOT NULL);
CREATE UNIQUE INDEX t{i}_name ON public.t{i} (name)
"""


def models(database: Database, numbers: range) -> None:
    """Make tables, as many as one transaction can."""
    for start in range(numbers.start, numbers.stop, 20):
        some = numbers[start - numbers.start : start - numbers.start + 20]
        database.execute(";".join(_MODEL.format(i=i) for i in some))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Return what the preflight of the last restore expected, and what the server held before COMMIT."""
    found: dict[str, int] = {}
    look, commit = warn_of_locks, commit_transaction

    def looked(connection: Connection, needed: int, report: Report) -> None:
        found["expected"] = read_lock_capacity(connection, needed).needed
        look(connection, needed, report)

    def committed(wire: Any, *arguments: Any) -> CommitResult:
        ((held,),) = wire.ask(_HELD)
        found["held"] = int(held)
        return commit(wire, *arguments)

    patch_everywhere(monkeypatch, look, looked)
    patch_everywhere(monkeypatch, commit, committed)
    return found


@pytest.mark.majors(14, 17, 18)
@pytest.mark.parametrize("mode", ["empty", "clean"])
def test_locks_are_counted_as_the_server_holds_them(
    mode: str, everything: Database, new_database: Databases, project: Project, counted: dict[str, int]
) -> None:
    """Of a database with every kind of object in it: never fewer than are held, extensions counted amply."""
    dumped = make_dump(settings_of(project, everything), DumpRequest(), Silence())
    assert dumped is not None
    target = everything if mode != "empty" else new_database()

    restore(project, target, dumped.path, clean=mode == "clean")

    assert counted["held"] <= counted["expected"] <= counted["held"] * 4


@pytest.fixture
def small_server(server: Server) -> Iterator[Server]:
    """Return a server of this test's own with few locks, all else being as it is by default."""
    own = Server.launch(server.major, server.bin_dir)
    try:
        allow(own, 10)
        yield own
    finally:
        own.close()


def allow(server: Server, locks_per_transaction: int | str) -> None:
    """Restart a server with another `max_locks_per_transaction`."""
    server.stop()
    with (server.data_dir / "postgresql.conf").open("a") as file:
        file.write(f"max_connections = 40\nmax_locks_per_transaction = {locks_per_transaction}\n")
    server.start()


def value_of(sentence: str) -> str:
    """Read the value to set."""
    return sentence.partition("max_locks_per_transaction to ")[2].split()[0]


@pytest.mark.majors(14, 18)
def test_what_has_no_room_is_foreseen_and_the_value_to_set_is_enough(
    small_server: Server, project: Project, counted: dict[str, int]
) -> None:
    """Without a warning it is restored; with one it may run out of locks, but not with the value that is named."""
    with Databases(small_server) as databases:
        database = databases()
        settings = settings_of(project, database)
        models(database, range(_LET_THROUGH))
        said = Said()
        dumped = make_dump(settings, DumpRequest(), said)
        assert dumped is not None
        assert said.warnings == []
        assert _restored(project, database, dumped) == ([], "")
        assert counted["held"] > _LET_THROUGH * 20
        models(database, range(_LET_THROUGH, _TOO_MANY))

        dumped = make_dump(settings, DumpRequest(), said)

        assert dumped is not None
        assert len(said.warnings) == 1
        reset = Said()
        plan_reset(settings, ["public"], reset)
        assert len(reset.warnings) == 1
        warnings, failure = _restored(project, database, dumped)
        assert "out of shared memory" in failure
        assert "rolled back" in failure
        (warning,) = warnings
        allow(small_server, value_of(warning))
        assert _restored(project, database, dumped) == ([], "")


@pytest.mark.majors(14, 18)
def test_what_the_server_has_room_for_after_all_is_restored(small_server: Server, project: Project) -> None:
    """The server has room for somewhat more than can be calculated, so a warning is no refusal."""
    with Databases(small_server) as databases:
        database = databases()
        models(database, range(_UNCERTAIN))
        dumped = make_dump(settings_of(project, database), DumpRequest(), Silence())
        assert dumped is not None

        warnings, failure = _restored(project, database, dumped)

        assert len(warnings) == 1
        assert failure == ""


def _restored(project: Project, database: Database, dumped: Dumped) -> tuple[list[str], str]:
    """Restore a dump over what it was made of; return the warnings, and why it failed: nothing where it worked."""
    settings, said = settings_of(project, database), Said()
    try:
        plan = plan_restore(settings, RestoreRequest(str(dumped.path), clean=True, backup=False), said)
        restore_dump(plan, Silence())
    except OperationFailedError as error:
        return said.warnings, str(error)
    return said.warnings, ""


def test_thousands_of_tables_are_dumped_and_verified(small_server: Server, project: Project) -> None:
    """Neither indexes nor parallel workers use up the locks; where there are too few, the value to set is enough.

    What 5,000 tables are to a server with the defaults, some hundreds are to this one.
    """
    with Databases(small_server) as databases:
        database = databases()
        settings = settings_of(project, database)
        fill(database, "plain", range(_MANY))
        # The server is to count with parallel workers wherever it may.
        database.execute(f'ALTER DATABASE "{database.name}" SET min_parallel_table_scan_size = 0')

        dumped = make_dump(settings, DumpRequest(file="many.sql"), Silence())
        verified = verify_database(settings, VerifyRequest(file="many.sql"), Silence())

        assert dumped is not None
        assert (len(dumped.manifest.tables), verified.lines) == (_MANY, ())
        # They have shown that they use up nothing, and to start them takes long.
        database.execute(f'ALTER DATABASE "{database.name}" RESET min_parallel_table_scan_size')
        fill(database, "plain", range(_MANY, _MORE))
        with pytest.raises(OperationFailedError) as refused:
            make_dump(settings, DumpRequest(file="more.sql"), Silence())
        assert [path.name for path in project.dumps.glob("more*")] == []
        allow(small_server, value_of(str(refused.value)))
        assert make_dump(settings, DumpRequest(file="more.sql"), Silence()) is not None
        assert verify_database(settings, VerifyRequest(file="more.sql"), Silence()).lines == ()
