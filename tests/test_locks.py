"""The locks of one transaction: counted as the server counts them, and refused before it runs out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tasks.errors import BadInputError, WorkError
from tasks.flows import dumping, resetting, restoring
from tasks.flows.report import Silence
from tasks.postgres import committing, locks
from tests.servers import Server
from tests.support import Database, Databases, Project
from tests.test_dump import Said
from tests.test_restore import restore, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_HELD = b"""
SELECT count(*) FROM (SELECT DISTINCT locktype, database, relation, classid, objid, objsubid
  FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() AND NOT fastpath) each
"""
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
    ask, commit = locks.ask, committing.commit

    def asked(*arguments: Any) -> locks.Locks:
        answer = ask(*arguments)
        found["expected"] = answer.needed
        return answer

    def committed(wire: Any, *arguments: Any) -> None:
        ((held,),) = wire.ask(_HELD)
        found["held"] = int(held)
        commit(wire, *arguments)

    monkeypatch.setattr(locks, "ask", asked)
    monkeypatch.setattr(committing, "commit", committed)
    return found


@pytest.mark.majors(14, 17, 18)
@pytest.mark.parametrize("mode", ["empty", "clean"])
def test_locks_are_counted_as_the_server_holds_them(
    mode: str, everything: Database, new_database: Databases, project: Project, counted: dict[str, int]
) -> None:
    """Of a database with every kind of object in it: never fewer than are held, extensions counted amply."""
    dumped = dumping.dump(settings_of(project, everything), dumping.Request(), Silence())
    assert dumped is not None
    target = everything if mode != "empty" else new_database()

    restore(project, target, dumped.path, clean=mode == "clean")

    assert counted["held"] <= counted["expected"] <= counted["held"] * 4


@pytest.fixture
def small_server(server: Server) -> Iterator[Server]:
    """Return a server of this test's own with few locks, all else being as it is by default."""
    own = Server.launch(server.major, server.bin_dir)
    try:
        own.stop()
        with (own.data_dir / "postgresql.conf").open("a") as file:
            file.write("max_locks_per_transaction = 10\nmax_connections = 100\n")
        own.start()
        yield own
    finally:
        own.close()


@pytest.mark.majors(14, 18)
def test_the_edge_is_foreseen(
    small_server: Server, project: Project, monkeypatch: pytest.MonkeyPatch, counted: dict[str, int]
) -> None:
    """What the preflight lets through is restored, and what it refuses would soon run out of locks."""
    with Databases(small_server) as databases:
        database = databases()
        failure, last_yes, first_failure, made = "", 0, 0, 0
        for count in range(56, 128, 8):
            models(database, range(made, count))
            made = count
            said = Said()
            dumped = dumping.dump(settings_of(project, database), dumping.Request(), said)
            assert dumped is not None
            refusal = _refusal(project, database, dumped)
            assert bool(refusal) == any("could not restore the dump over" in line for line in said.warnings)
            if not refusal:
                last_yes = count
                assert counted["held"] > count * 20
                continue
            assert "max_locks_per_transaction to" in refusal
            with monkeypatch.context() as patched:
                patched.setattr(locks, "ask", lambda *_: locks.Locks(0, 1, 1))
                failure = _refusal(project, database, dumped)
            if failure:
                first_failure = count
                break

    assert "out of shared memory" in failure
    assert "as it was" in failure
    assert 0 < last_yes < first_failure
    # With so few locks the server has more to spare than with its defaults, which docs/compatibility.md has.
    assert last_yes >= first_failure * 0.5


def _refusal(project: Project, database: Database, dumped: dumping.Dumped) -> str:
    """Restore a dump over what it was made of, and return what stood in the way; nothing where it worked."""
    settings = settings_of(project, database)
    try:
        plan = restoring.plan(settings, restoring.Request(str(dumped.path), clean=True, backup=False), Silence())
        restoring.restore(plan, Silence())
    except (BadInputError, WorkError) as error:
        return str(error)
    return ""


def test_the_value_to_set_is_enough(small_server: Server, project: Project) -> None:
    """A server that is set to what the sentence names takes the restore; a reset is refused in the same words."""
    with Databases(small_server) as databases:
        database = databases()
        models(database, range(200))
        settings = settings_of(project, database)
        dumped = dumping.dump(settings, dumping.Request(), Silence())
        assert dumped is not None
        with pytest.raises(BadInputError, match=r"Nothing was touched") as reset:
            resetting.plan(settings, ["public"])
        with pytest.raises(BadInputError) as refused:
            restore(project, database, dumped.path, clean=True)
        value = str(refused.value).partition("max_locks_per_transaction to ")[2].split()[0]
        small_server.stop()
        with (small_server.data_dir / "postgresql.conf").open("a") as file:
            file.write(f"max_locks_per_transaction = {value}\n")
        small_server.start()

        restored = restore(project, database, dumped.path, clean=True)

    assert "max_locks_per_transaction" in str(reset.value)
    assert restored.tables == 200
