"""Safety dumps: made before a task deletes or replaces data, restored by `db.undo`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from ..dumpfiles.origin import OriginMatch, match_database
from ..dumpfiles.paths import (
    MANIFEST_SUFFIX,
    UNDO,
    UNDO_FOLDER,
    known_defect,
    list_orphan_manifests,
    list_safety_dumps,
    manifest_path,
    read_manifest,
    sibling_paths,
    time_in_name,
)
from ..errors import BadInputError, MissingProgramError, TaskError
from ..postgres.commit import Outcome
from ..postgres.connection import Connection, Endpoint, ServerFacts, one
from ..postgres.schemas import lock_out_writers
from ..system.pg_programs import find_client
from ..system.runtime import Interruption, defer_signals
from .impact import Impact, lock_touched_tables
from .own_databases import same_database_oids

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from ..config.settings import Settings
    from ..dump.dump import Dumped
    from ..dumpfiles.retention import SavedState
    from ..dumpformat.manifest import Manifest
    from ..progress import Report


TRANSACTION = "transaction"
NO_BACKUP_HINT = "To continue without a safety dump, use --no-backup."


def check_pg_dump(settings: Settings, server: ServerFacts) -> None:
    """Raise if pg_dump for this server is missing, before anything long begins.

    :raises MissingProgramError: It is missing, or older than the server.
    """
    try:
        find_client("pg_dump", server.major, bin_dir=settings.bin_dir, environ=settings.environ)
    except MissingProgramError as error:
        raise MissingProgramError(f"{error} The safety dump needs it. {NO_BACKUP_HINT}") from None


@dataclass
class SafetyDump:
    """The safety dump of one restore, reset or migration.

    :param endpoint: The endpoint of the connection that will delete or replace the data.
    :param before: The next step, for the note in the manifest (`before {before}`).
    :param wanted: Whether to make one at all.
    :param command: The command that it is made for, as `db.restore old.sql`.
    :ivar dumped: The dump; None until it is made.
    :ivar committed: Whether the transaction that it was made for is known to be committed.
    """

    settings: Settings
    server: ServerFacts
    endpoint: Endpoint
    before: str
    wanted: bool
    command: str = ""
    dumped: Dumped | None = None
    committed: bool = False

    def make(
        self, connection: Connection, emptied: Collection[str], report: Report, changed: Sequence[Impact] = ()
    ) -> None:
        """Lock the tables against writes and make the safety dump; do nothing if none is requested.

        :param connection: In the transaction that will empty the schemas.
        :param emptied: The schemas that will be emptied.
        :param changed: Other objects that will be changed or deleted.
        :raises TaskError: It could not be made; nothing was touched.
        """
        if not self.wanted:
            return
        lock_out_writers(connection, emptied)
        if changed:
            lock_touched_tables(connection, changed)
        delete_undone(connection, self.settings, self.server, self.endpoint)
        before = set(list_safety_dumps(self.settings.dumps))
        transaction = str(one(connection, "SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text")[0])
        try:
            self.dump(report, transaction)
        except Interruption:
            # The signal may have come after the dump got its final name.
            for path in set(list_safety_dumps(self.settings.dumps)) - before:
                manifest = read_manifest(path)
                if manifest is not None and manifest.extra.get(TRANSACTION) == transaction:
                    delete_dump(path)
            raise

    def dump(self, report: Report, transaction: str = "") -> None:
        """Make the safety dump without locking anything.

        :param transaction: The id of the transaction that will delete or replace the data; empty without one.
        :raises TaskError: It could not be made; nothing was touched.
        """
        from ..dump.dump import make_dump
        from ..dump.request import DumpRequest

        request = DumpRequest(
            note=f"before {self.before}",
            safety=True,
            endpoint=self.endpoint,
            transaction=transaction,
            command=self.command,
        )
        try:
            self.dumped = make_dump(self.settings, request, report)
        except TaskError as error:
            raise error.reworded(f"The safety dump failed: {error} Nothing was touched. {NO_BACKUP_HINT}") from None

    def discard(self) -> None:
        """Delete the safety dump if one was made."""
        if self.dumped is not None:
            delete_dump(self.dumped.path)

    def discard_after(self, outcome: Outcome) -> None:
        """Delete the safety dump if the transaction that it was made for was rolled back."""
        self.committed = outcome is Outcome.COMMITTED
        if outcome is Outcome.ROLLED_BACK:
            self.discard()

    def keep(self) -> None:
        """Keep the safety dump; delete older ones of this database that the retention rule does not keep."""
        if self.dumped is None:
            return
        from ..dumpfiles.pin import PINNED
        from ..dumpfiles.retention import states_to_keep

        # A damaged or pinned one does not count towards the limit and is not deleted.
        known = {
            saved_state(path, manifest): path
            for path, manifest in safety_dumps_of(self.settings, self.server, self.endpoint, {OriginMatch.SAME})
            if not known_defect(path) and PINNED not in manifest.extra
        }
        kept = states_to_keep(known, max(self.settings.safety_dumps, 1))
        for state, path in known.items():
            # After the clock was set back, the new one may look older than the others.
            if state not in kept and path != self.dumped.path:
                delete_dump(path)
        delete_orphan_manifests(self.settings.dumps / UNDO_FOLDER)


def saved_state(path: Path, manifest: Manifest) -> SavedState:
    """Return what decides whether a safety dump is kept."""
    from ..dumpfiles.retention import SavedState

    made = time_in_name(path.name, UNDO)
    assert made is not None  # noqa: S101 - list_safety_dumps only finds names with a time
    return SavedState(name=path.name, made=made, rows=manifest.rows, size=manifest.content.size)


def delete_dump(path: Path) -> None:
    """Delete a dump and then its manifest; ignore errors.

    A kill in between leaves the manifest, which :func:`delete_orphan_manifests` deletes.
    """
    with defer_signals(), contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        # Another form of the dump has the same manifest.
        if not sibling_paths(path):
            manifest_path(path).unlink(missing_ok=True)


def delete_orphan_manifests(folder: Path) -> None:
    """Delete the manifests in the folder of safety dumps whose dump is missing after a kill."""
    with contextlib.suppress(OSError):
        for path in list_orphan_manifests(folder):
            # A dump may have got its final name while the folder was listed.
            if not sibling_paths(path.with_name(path.name.removesuffix(MANIFEST_SUFFIX))):
                path.unlink(missing_ok=True)


def safety_dumps_of(
    settings: Settings,
    server: ServerFacts,
    endpoint: Endpoint,
    matches: Collection[OriginMatch] = (OriginMatch.SAME, OriginMatch.UNCERTAIN),
    oid: int = 0,
) -> list[tuple[Path, Manifest]]:
    """Return the safety dumps of a database, newest first, each with its manifest.

    :param matches: Which results of :func:`match_database` count as this database.
    :param oid: The database's oid, if it is not that of the session.
    """
    found, oids = [], other_oids(settings, server, endpoint, oid)
    for path in list_safety_dumps(settings.dumps):
        with contextlib.suppress(BadInputError):
            manifest = read_manifest(path)
            if manifest is not None and match_database(manifest, server, endpoint.host, endpoint.port, oids) in matches:
                found.append((path, manifest))
    return found


def other_oids(settings: Settings, server: ServerFacts, endpoint: Endpoint, oid: int = 0) -> frozenset[int]:
    """Return the oids that a database had before and after swaps, for :func:`match_database`.

    :param oid: Its present oid, if it is not that of the session.
    """
    oid = oid or (server.instance.database_oid if server.instance is not None else 0)
    where = server.system_identifier or f"{endpoint.host}:{endpoint.port}"
    return same_database_oids(settings.dumps, where, server.database, oid)


def was_undone(connection: Connection, server: ServerFacts, manifest: Manifest) -> bool:
    """Return whether the transaction that a safety dump was made for was rolled back, as after a kill.

    A transaction that the server does not know yet counts, too: the server crashed before it was written to disk.
    """
    return _transaction_status(connection, server, manifest) in {"aborted", "future"}


def delete_undone(connection: Connection, settings: Settings, server: ServerFacts, endpoint: Endpoint) -> None:
    """Delete this database's safety dumps whose transaction was rolled back; they would take the place of older ones.

    A dump is deleted only if the server reports its transaction as aborted: others may still run, or be unknown
    because the cluster was restored to an earlier state. A copy of a cluster has the same identifier and transaction
    numbers, so host, port and database must match, too.
    """
    here = {"host": endpoint.host, "port": endpoint.port, "database": endpoint.database}
    for path, manifest in safety_dumps_of(settings, server, endpoint, {OriginMatch.SAME}):
        is_here = here.items() <= manifest.source.items()
        if is_here and _transaction_status(connection, server, manifest) == "aborted":
            delete_dump(path)


def _transaction_status(connection: Connection, server: ServerFacts, manifest: Manifest) -> str:
    """Return pg_xact_status of a safety dump's transaction, or "future" for an unknown one; empty if not known."""
    if not manifest.extra.get(TRANSACTION):
        return ""
    known = manifest.source.get("system_identifier")
    if known and server.system_identifier and known != server.system_identifier:
        return ""
    try:
        with connection.transaction():
            query = "SELECT pg_catalog.pg_xact_status(%s::pg_catalog.text::pg_catalog.xid8)"
            # The status is NULL for transactions that are too old.
            return str(one(connection, query, [str(manifest.extra[TRANSACTION])])[0] or "")
    except psycopg.errors.InvalidParameterValue:
        return "future"
    except psycopg.errors.DataError:
        return ""
