"""The locks that one transaction holds at its end, and the server's room for them, which is fixed at its start."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import errors as pg

from ..errors import OperationFailedError
from .connection import one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .connection import Connection


SETTING = "max_locks_per_transaction"
# Locks on PostgreSQL's own catalogues, on schemas and the like, whatever a restore holds.
BASE = 100
# One transaction alone can hold this many times `max_locks_per_transaction` for every process: of the memory that is
# set aside for locks, half is meant for several sessions that share one. Measured on 14 to 18, with 10 to 1,024 locks
# and 20 to 500 connections: never below 1.52 (docs/compatibility.md).
_SHARE = 1.5
# `max_prepared_transactions` counts beside the processes that a server may have (source: MaxBackends).
_ROOM = """
SELECT pg_catalog.current_setting('max_locks_per_transaction')::int,
       pg_catalog.current_setting('max_connections')::int + pg_catalog.current_setting('max_prepared_transactions')::int
     + pg_catalog.current_setting('max_worker_processes')::int + pg_catalog.current_setting('max_wal_senders')::int
     + coalesce(pg_catalog.current_setting('autovacuum_worker_slots', true),
         pg_catalog.current_setting('autovacuum_max_workers'))::int + 1,
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks WHERE NOT fastpath AND pid <> pg_catalog.pg_backend_pid())
"""


@dataclass(frozen=True)
class LockCapacity:
    """The locks that one transaction needs, and how many it can have.

    :ivar wanted: The `max_locks_per_transaction` that would suffice.
    """

    needed: int
    room: int
    wanted: int

    @property
    def suffice(self) -> bool:
        """Whether they fit."""
        return self.needed <= self.room

    @property
    def remedy(self) -> str:
        """What helps where they do not."""
        return f"Set {SETTING} to {self.wanted} or more and restart the server"


def locks_of_reading(connection: Connection, tables: int) -> LockCapacity:
    """Ask for the locks of two sessions that read all tables: pg_dump and we each hold one on every table."""
    return read_lock_capacity(connection, 2 * tables)


@contextlib.contextmanager
def is_enough(connection: Connection, tables: int, state: str) -> Iterator[None]:
    """Read that many tables in a block, and say what to set where the server runs out of locks.

    :param state: What is to be said of files or database then.
    :raises OperationFailedError: It did.
    """
    # A transaction that has failed can't be asked.
    found = locks_of_reading(connection, tables)
    try:
        yield
    except pg.OutOfMemory as error:
        # The server's own memory, too, ends in this error.
        if SETTING not in (error.diag.message_hint or ""):
            raise
        raise locks_spent(found, tables, state) from None


def locks_spent(found: LockCapacity, tables: int, state: str) -> OperationFailedError:
    """Say that the server has no more locks for whoever reads so many tables; for `state` see :func:`enough`."""
    return OperationFailedError(
        f"The server has no room for locks on {tables:,} tables. {state} {found.remedy}, then run this again."
    )


def read_lock_capacity(connection: Connection, needed: int) -> LockCapacity:
    """Ask how many locks the server has room for, beside those that others hold now.

    :param needed: How many one transaction takes, those on PostgreSQL's own catalogues left aside.
    """
    per_transaction, processes, others = (int(each) for each in one(connection, _ROOM))
    # What is counted beforehand was never more than 1 % too low; a twentieth is on the safe side.
    needed += needed // 20 + BASE
    room = max(0, int(per_transaction * processes * _SHARE) - others)
    # Some more than it has to be, as the next dump is larger.
    wanted = -(-(needed + others) * 5 // int(4 * _SHARE * processes))
    return LockCapacity(needed, room, wanted)
