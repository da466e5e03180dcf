"""Kept databases: each was the configured one until a restore took its place. `db.undo` puts it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from ..errors import OperationFailedError
from ..postgres.connection import connected, translated
from .own_databases import Role, delete_database_record, own_databases
from .scratch_database import drop_database

if TYPE_CHECKING:
    from pathlib import Path

    from ..config.settings import Settings
    from ..config.target import Target
    from ..progress import Report
    from .own_databases import DatabaseRecord, OwnDatabase


_SLOT = """
SELECT s.slot_name::pg_catalog.text FROM pg_catalog.pg_replication_slots s
  JOIN pg_catalog.pg_database d ON d.datname = s.database WHERE d.datname = %s LIMIT 1
"""


def kept_databases(target: Target, maintenance: Target, folder: Path) -> list[OwnDatabase]:
    """Return the databases kept of the target, the oldest first.

    :param folder: The dumps folder.
    :raises TaskError: The server can't be asked.
    """
    with connected(maintenance) as connection, translated("Looking for kept databases failed, nothing was changed"):
        found = own_databases(connection, target, folder, Role.KEPT)
    return [each for each in found if each.record.of == target.database]


def keep_databases(settings: Settings, target: Target, maintenance: Target, report: Report) -> None:
    """Drop the kept databases of the target beyond the number of `db.kept_databases`.

    :raises TaskError: One could not be dropped.
    """
    found = kept_databases(target, maintenance, settings.dumps)
    for each in found[: -settings.kept_databases]:
        drop_kept_database(maintenance, each.record, settings.dumps)
        report.step(f"{each.record.database} was dropped; it was kept since {each.record.made}.")


def drop_kept_database(maintenance: Target, record: DatabaseRecord, folder: Path) -> None:
    """Drop a kept database and delete its record.

    :raises OperationFailedError: It has a replication slot, which DROP DATABASE would drop, too.
    """
    with connected(maintenance) as connection, translated("Looking for replication slots failed"):
        if slot := connection.execute(_SLOT, [record.database]).fetchone():
            raise OperationFailedError(f"{record.database} has the replication slot {slot[0]}, so it is not dropped.")
        # A template can't be dropped.
        connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(sql.Identifier(record.database)))
    drop_database(maintenance, record.database)
    delete_database_record(folder, record)
