"""Safety dumps: what a database held before something of ours emptied it, so that `db.undo` can bring it back."""

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
from ..postgres.connection import one
from ..postgres.schemas import lock_out_writers
from ..system.pg_programs import find_client
from ..system.runtime import Interruption, defer_signals
from .guard import guarded_connection
from .impact import lock_touched_tables

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from ..config.settings import Settings
    from ..dump.dump import Dumped
    from ..dumpfiles.retention import SavedState
    from ..dumpformat.manifest import Manifest
    from ..postgres.connection import Connection, Endpoint, ServerFacts
    from ..progress import Report
    from .impact import Impact


TRANSACTION = "transaction"
WITHOUT = "--no-backup goes on without a safety dump."


def check_pg_dump(settings: Settings, server: ServerFacts) -> None:
    """Look for the program that a safety dump needs, before anything long begins.

    :raises MissingProgramError: It is missing.
    """
    try:
        find_client("pg_dump", server.major, bin_dir=settings.bin_dir, environ=settings.environ)
    except MissingProgramError as error:
        raise MissingProgramError(f"{error} The safety dump needs it: {WITHOUT}") from None


@dataclass
class SafetyDump:
    """The safety dump of one restore or reset.

    :param endpoint: Where the connection leads that will destroy what is saved here.
    :param before: What comes next, for the note in the manifest.
    :param wanted: Whether one is to be made at all.
    :param command: The command that it is made for, as `db.restore old.sql`.
    :ivar dumped: It, once it is made.
    :ivar committed: Whether what it was made for is known to be done.
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
        """Make it, where it is wanted, while nobody can write any more to what is about to be emptied.

        :param connection: In the transaction that will empty the schemas.
        :param changed: What else will be changed or deleted.
        :raises TaskError: It could not be made; nothing was touched.
        """
        if not self.wanted:
            return
        from ..dump.dump import make_dump
        from ..dump.request import DumpRequest

        lock_out_writers(connection, emptied)
        if changed:
            lock_touched_tables(connection, changed)
        delete_undone(connection, self.settings, self.server, self.endpoint)
        before = set(list_safety_dumps(self.settings.dumps))
        transaction = str(one(connection, "SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text")[0])
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
            raise error.reworded(f"No safety dump could be made: {error} Nothing was touched. {WITHOUT}") from None
        except Interruption:
            # It may have come between the last rename and here.
            for path in set(list_safety_dumps(self.settings.dumps)) - before:
                manifest = read_manifest(path)
                if manifest is not None and manifest.extra.get(TRANSACTION) == transaction:
                    delete_dump(path)
            raise

    def discard(self) -> None:
        """Remove it: what it was made for came to nothing."""
        if self.dumped is not None:
            delete_dump(self.dumped.path)

    def discard_after(self, outcome: Outcome) -> None:
        """Delete it if what it was made for was rolled back."""
        if outcome is Outcome.ROLLED_BACK:
            self.discard()

    def keep(self) -> None:
        """Keep it, and the older ones of this database that are worth it; delete the others."""
        if self.dumped is None:
            return
        from ..dumpfiles.pin import PINNED
        from ..dumpfiles.retention import states_to_keep

        source = self.dumped.manifest.source
        host, port = str(source["host"]), int(str(source["port"]))
        found = safety_dumps_of(self.settings, self.server, host, port, {OriginMatch.SAME})
        # One that is cut is of no worth that could be known, so it pushes out none and is left alone.
        known = {
            _state(path, manifest): path
            for path, manifest in found
            if not known_defect(path) and PINNED not in manifest.extra
        }
        kept = states_to_keep(known, max(self.settings.safety_dumps, 1))
        for state, path in known.items():
            # The clock may have been set back since others were made.
            if state not in kept and path != self.dumped.path:
                delete_dump(path)
        sweep_orphan_manifests(self.settings.dumps / UNDO_FOLDER)


def newest_safety_dump(settings: Settings) -> Path | None:
    """Find the newest safety dump of the configured database; None where it has none.

    :raises TaskError: The server can't be asked who it is.
    """
    with guarded_connection(settings, settings.target(), "server") as (connection, server, endpoint):
        found = safety_dumps_of(settings, server, endpoint.host, endpoint.port)
        return next((path for path, _ in found if not was_undone(connection, server, path)), None)


def _state(path: Path, manifest: Manifest) -> SavedState:
    from ..dumpfiles.retention import SavedState

    made = time_in_name(path.name, UNDO)
    assert made is not None  # noqa: S101 - so safety dumps are found
    return SavedState(name=path.name, made=made, rows=manifest.rows, size=manifest.content.size)


def delete_dump(path: Path) -> None:
    """Remove a dump and then its manifest; one that can't be removed does no harm.

    A kill in between leaves the manifest, which :func:`sweep_orphan_manifests` removes.
    """
    with defer_signals(), contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        # Another form of the dump has the same manifest.
        if not sibling_paths(path):
            manifest_path(path).unlink(missing_ok=True)


def sweep_orphan_manifests(folder: Path) -> None:
    """Remove the manifests in the folder of safety dumps that a kill has left without their dump."""
    with contextlib.suppress(OSError):
        for path in list_orphan_manifests(folder):
            # A dump may have been given its name while the folder was listed.
            if not sibling_paths(path.with_name(path.name.removesuffix(MANIFEST_SUFFIX))):
                path.unlink(missing_ok=True)


def safety_dumps_of(
    settings: Settings,
    server: ServerFacts,
    host: str,
    port: int,
    wanted: Collection[OriginMatch] = (OriginMatch.SAME, OriginMatch.UNCERTAIN),
) -> list[tuple[Path, Manifest]]:
    """List the safety dumps of a database, newest first, each with its manifest.

    :param wanted: How certain it has to be that they are of this one.
    """
    found = []
    for path in list_safety_dumps(settings.dumps):
        with contextlib.suppress(BadInputError):
            manifest = read_manifest(path)
            if manifest is not None and match_database(manifest, server, host, port) in wanted:
                found.append((path, manifest))
    return found


def was_undone(connection: Connection, server: ServerFacts, path: Path) -> bool:
    """Tell whether what a safety dump was made for came to nothing, as it was killed before it could remove it.

    :return: Also where the server knows no such transaction yet: it crashed before that was on its disk.
    """
    return _transaction_status(connection, server, path) in {"aborted", "future"}


def delete_undone(connection: Connection, settings: Settings, server: ServerFacts, endpoint: Endpoint) -> None:
    """Remove the safety dumps of what was killed and rolled back, which stand in the way of older ones.

    Only where the server says so in as many words: a transaction may still run, and one that the server does not know
    may have been another's, of a cluster that was set back. A copy of the cluster bears the same number, and its
    transactions the same ones too: what was made of another place is left alone.
    """
    here = {"host": endpoint.host, "port": endpoint.port, "database": endpoint.database}
    for path in list_safety_dumps(settings.dumps):
        with contextlib.suppress(BadInputError):
            manifest = read_manifest(path)
            if (
                manifest is not None
                and here.items() <= manifest.source.items()
                and match_database(manifest, server, endpoint.host, endpoint.port) is OriginMatch.SAME
                and _transaction_status(connection, server, path) == "aborted"
            ):
                delete_dump(path)


def _transaction_status(connection: Connection, server: ServerFacts, path: Path) -> str:
    """Ask the server what became of the transaction that a safety dump was made in; empty where nobody can tell."""
    manifest = read_manifest(path)
    if manifest is None or not manifest.extra.get(TRANSACTION):
        return ""
    known = manifest.source.get("system_identifier")
    if known and server.system_identifier and known != server.system_identifier:
        return ""
    try:
        with connection.transaction():
            query = "SELECT pg_catalog.pg_xact_status(%s::pg_catalog.text::pg_catalog.xid8)"
            # Of a transaction that was long ago it knows nothing any more.
            return str(one(connection, query, [str(manifest.extra[TRANSACTION])])[0] or "")
    except psycopg.errors.InvalidParameterValue:
        return "future"
    except psycopg.errors.DataError:
        return ""
