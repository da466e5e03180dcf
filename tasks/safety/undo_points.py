"""Undo points: the states of a database that `db.undo` can restore, each a safety dump or a kept database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..dumpfiles.paths import UNDO, UNDO_FOLDER, list_safety_dumps, manifest_path, time_in_name
from ..dumpfiles.short_ids import SHORTEST_ID, is_id_beginning
from ..errors import BadInputError
from ..formatting import format_list, format_moment
from ..postgres.connection import Connection, Endpoint, ServerFacts, connected, read_endpoint, server_facts, translated
from ..postgres.login_failure import NotConnectedError
from .kept_databases import kept_databases_of
from .safety_dump import safety_dumps_of, was_undone
from .scratch_database import connection_without_database

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from ..config.settings import Settings
    from ..config.target import Target
    from ..dumpformat.manifest import Manifest
    from ..progress import Report
    from .own_databases import OwnDatabase


@dataclass(frozen=True)
class UndoPoint:
    """A state that `db.undo` can restore.

    :ivar id: The full identifier; `--to` accepts its first four characters or more.
    :ivar path: The safety dump; None for a kept database.
    :ivar rows: Of a kept database an estimate.
    :ivar size: The size of the file or of the database in bytes.
    :ivar command: The command before which the state was saved; empty in manifests of earlier versions.
    :ivar kept: The kept database; None for a safety dump.
    """

    id: str
    path: Path | None
    when: datetime
    database: str
    rows: int
    size: int
    command: str
    note: str
    kept: OwnDatabase | None = None


def list_undo_points(settings: Settings, report: Report) -> list[UndoPoint]:
    """Return the undo points of the configured database, newest last; warn of safety dumps without a manifest.

    :raises TaskError: The server can't be reached or identified.
    """
    target = settings.target()
    for path in reversed(list_safety_dumps(settings.dumps)):
        if not manifest_path(path).exists():
            report.warn(
                f"{path.name} has no manifest, so its database is unknown and db.undo does not use it. "
                f"`inv db.inspect --file={UNDO_FOLDER}/{path.name}` shows its content."
            )
    try:
        with (
            connected(target, lock_timeout=settings.lock_timeout) as connection,
            translated("Reading the server's facts failed, nothing was touched", target),
        ):
            server = server_facts(connection)
            return read_undo_points(connection, settings, target, server, read_endpoint(connection, server))
    except NotConnectedError as error:
        with connection_without_database(settings, target, error) as (connection, server, endpoint):
            return read_undo_points(connection, settings, target, server, endpoint)


def read_undo_points(
    connection: Connection, settings: Settings, target: Target, server: ServerFacts, endpoint: Endpoint
) -> list[UndoPoint]:
    """Return the undo points of the database of a session, newest last."""
    dumps = safety_dumps_of(settings, server, endpoint)
    points = [_point(path, manifest) for path, manifest in dumps if not was_undone(connection, server, manifest)]
    points += [kept_undo_point(each) for each in kept_databases_of(connection, target, settings.dumps, server.database)]
    return sorted(points, key=lambda each: (each.when, each.id))


def kept_undo_point(own: OwnDatabase) -> UndoPoint:
    """Return the state in a kept database."""
    record = own.record
    return UndoPoint(
        id=record.id,
        path=None,
        when=record.when,
        database=record.of,
        rows=record.rows,
        size=record.size,
        command=record.command,
        note=f"kept as {record.database}",
        kept=own,
    )


def _point(path: Path, manifest: Manifest) -> UndoPoint:
    when = time_in_name(path.name, UNDO)
    assert when is not None  # noqa: S101 - list_safety_dumps only finds names with a time
    return UndoPoint(
        id=manifest.id,
        path=path,
        when=when,
        database=str(manifest.source.get("database", "")),
        rows=manifest.rows,
        size=manifest.file.size,
        command=str(manifest.extra.get("command", "")),
        note=manifest.note,
    )


def choose_undo_point(points: Sequence[UndoPoint], prefix: str) -> UndoPoint:
    """Return the undo point whose id begins with a prefix.

    :param prefix: Four characters or more.
    :raises BadInputError: None matches, or several do.
    """
    if len(prefix.strip()) < SHORTEST_ID:
        raise BadInputError(
            f"--to={prefix} is too short: give at least four characters of the id. `inv db.undos` lists the ids. "
            f"Nothing was touched."
        )
    found = [each for each in points if is_id_beginning(prefix, each.id)]
    if not found:
        raise BadInputError(f"No state of `inv db.undos` has an id that begins with {prefix}. Nothing was touched.")
    if len({each.id for each in found}) > 1:
        shown = format_list([f"{each.id} ({format_moment(each.when)})" for each in found])
        raise BadInputError(f"--to={prefix} matches {shown}. Give more characters. Nothing was touched.")
    return found[-1]
