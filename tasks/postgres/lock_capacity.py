"""The number of locks that a transaction needs, and the number that the server can hold, fixed at its start."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import errors as pg

from ..errors import OperationFailedError
from .connection import Connection, one

if TYPE_CHECKING:
    from collections.abc import Iterator


SETTING = "max_locks_per_transaction"
# Locks on PostgreSQL's own catalogues, schemas and the like, in addition to those of the tables.
BASE = 100
# One transaction alone can hold this many times `max_locks_per_transaction` for each process. Half of the memory for
# locks is reserved for sessions that share a lock. Measured on 14 to 18, with 10 to 1,024 locks and 20 to 500
# connections: never below 1.52 (docs/compatibility.md).
_SHARE = 1.5
# The processes that a server may have (source: MaxBackends), and its prepared transactions.
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
    """The number of locks that one transaction needs, and how many it can have.

    :ivar room: The number of locks that the server can still give to one transaction.
    :ivar setting: A sufficient value of `max_locks_per_transaction`.
    """

    needed: int
    room: int
    setting: int

    @property
    def suffice(self) -> bool:
        """Return whether the server can hold the locks."""
        return self.needed <= self.room

    @property
    def remedy(self) -> str:
        """Return what to do if the server can't hold the locks, as the beginning of a sentence."""
        return f"Set {SETTING} to {self.setting} or more and restart the server"


def locks_of_reading(connection: Connection, tables: int) -> LockCapacity:
    """Return the locks of two sessions that read all tables: pg_dump's and ours each hold one on every table."""
    return read_lock_capacity(connection, 2 * tables)


@contextlib.contextmanager
def is_enough(connection: Connection, tables: int, state: str) -> Iterator[None]:
    """Explain the error if the server runs out of locks in a block that reads tables.

    :param tables: The number of tables that the block reads.
    :param state: The sentence about the state of the database or the files.
    :raises OperationFailedError: The server ran out of locks.
    """
    # Before the block: a failed transaction runs no query.
    found = locks_of_reading(connection, tables)
    try:
        yield
    except pg.OutOfMemory as error:
        # The server raises the same error if it runs out of memory.
        if SETTING not in (error.diag.message_hint or ""):
            raise
        raise locks_spent(found, tables, state) from None


def locks_spent(found: LockCapacity, tables: int, state: str) -> OperationFailedError:
    """Return the error for a server that ran out of locks; for the parameters see :func:`is_enough`."""
    return OperationFailedError(
        f"The server ran out of locks while reading {tables:,} tables. {state} {found.remedy}, then run this again."
    )


def read_lock_capacity(connection: Connection, needed: int) -> LockCapacity:
    """Return how many locks the server can hold, except those that other sessions hold now.

    :param needed: The number of locks that one transaction takes, without those on PostgreSQL's own catalogues.
    """
    per_transaction, processes, others = (int(each) for each in one(connection, _ROOM))
    # The estimate was never more than 1 % too low; 5 % is a safe margin.
    needed += needed // 20 + BASE
    room = max(0, int(per_transaction * processes * _SHARE) - others)
    # A quarter more than needed, because the next dump may be larger.
    setting = -(-(needed + others) * 5 // int(4 * _SHARE * processes))
    return LockCapacity(needed=needed, room=room, setting=setting)
