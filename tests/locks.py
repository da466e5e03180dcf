"""The lock preflight around its edge: what it says, and what becomes of the restore."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest import mock

import psycopg

from tasks.dump.dump import make_dump
from tasks.dump.request import DumpRequest
from tasks.errors import TaskError
from tasks.postgres.lock_capacity import LockCapacity, read_lock_capacity
from tasks.progress import Silence
from tasks.restore import preflight
from tasks.restore.plan import plan_restore
from tasks.restore.request import RestoreRequest
from tasks.restore.restore import restore_dump
from tests.flows import settings_of
from tests.support import Database, Databases, Project

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks.postgres.connection import Connection
    from tests.servers import Server

# Enough for several in one transaction of the tests' own, also on a server with few locks.
_BATCH = 20
_FEW = 100


@dataclass(frozen=True)
class Shape:
    """Something of which there are many.

    :ivar sql: Makes one, by its number.
    """

    title: str
    sql: str


SHAPES = {
    "model": Shape(
        "tables of a usual Prisma model",
        "CREATE TABLE public.t{i} (id serial PRIMARY KEY, name text NOT NULL, parent integer REFERENCES public.t{i},"
        " at timestamp(3) DEFAULT CURRENT_TIMESTAMP NOT NULL); CREATE UNIQUE INDEX t{i}_name ON public.t{i} (name)",
    ),
    "plain": Shape("tables with a key and a text", "CREATE TABLE public.t{i} (id integer PRIMARY KEY, t text)"),
    "object": Shape("large objects", "SELECT lo_create(10000 + {i})"),
}
EDGE = {
    "model": (440, 480, 540),
    "plain": (600, 800, 900, 1000, 2000, 5000),
    "object": (11_000, 12_500, 20_000),
}


@dataclass(frozen=True)
class Tried:
    """What the preflight says of a restore, and what becomes of it."""

    needed: int
    room: int
    said: str
    was: str


def fill(database: Database, shape: str, numbers: range) -> None:
    """Make some of them, with few in each transaction."""
    for start in range(numbers.start, numbers.stop, _BATCH):
        some = range(start, min(start + _BATCH, numbers.stop))
        database.execute(";".join(SHAPES[shape].sql.format(i=i) for i in some))


def around(server: Server, project: Project, shape: str, counts: Sequence[int]) -> Iterator[tuple[int, Tried]]:
    """Try a clean restore of so many things over themselves."""
    made = 0
    with Databases(server) as databases:
        database = databases()
        for count in counts:
            fill(database, shape, range(made, count))
            made = count
            yield count, _tried(project, database, f"{shape}{count}.sql")
            _let_go(server)


def _let_go(server: Server) -> None:
    """Wait until a session that was rolled back has given its locks back: before that nobody may come in."""
    for _ in range(600):
        with contextlib.suppress(psycopg.OperationalError), server.connect() as connection:
            row = connection.execute("SELECT count(*) FROM pg_locks WHERE pid <> pg_backend_pid()").fetchone()
            if row is not None and row[0] < _FEW:
                return
        time.sleep(0.1)
    raise TimeoutError


def _tried(project: Project, database: Database, name: str) -> Tried:
    settings = settings_of(project, database)
    make_dump(settings, DumpRequest(file=name), Silence())
    asked: list[LockCapacity] = []

    def keep(connection: Connection, needed: int) -> LockCapacity:
        asked.append(read_lock_capacity(connection, needed))
        return asked[-1]

    with mock.patch.object(preflight, "read_lock_capacity", keep):
        request = RestoreRequest(name, clean=True, backup=False)
        try:
            restore_dump(plan_restore(settings, request, Silence()), Silence())
            was = "restored"
        except TaskError as error:
            was = "out of locks, rolled back (5)" if "out of shared memory" in str(error) else str(error)
    found = asked[0]
    return Tried(found.needed, found.room, "no warning" if found.suffice else f"warns: {found.setting}", was)
