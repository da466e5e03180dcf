"""Undo points: the states of a database that `db.undo` can go back to, each a safety dump."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..dumpfiles.paths import UNDO, UNDO_FOLDER, list_safety_dumps, manifest_path, time_in_name
from ..dumpfiles.short_ids import SHORTEST_ID, is_id_beginning
from ..errors import BadInputError
from ..formatting import format_list, format_moment
from ..postgres.connection import connected, read_endpoint, server_facts, translated
from .safety_dump import safety_dumps_of, was_undone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from ..config.settings import Settings
    from ..dumpformat.manifest import Manifest
    from ..progress import Report


@dataclass(frozen=True)
class UndoPoint:
    """A state that `db.undo` can go back to.

    :ivar id: All digits of its dump's identifier; beginnings of four or more name it, too.
    :ivar size: Bytes of the file.
    :ivar command: The command that the safety dump was made for; empty in manifests of earlier versions.
    """

    id: str
    path: Path
    when: datetime
    database: str
    rows: int
    size: int
    command: str
    note: str


def list_undo_points(settings: Settings, report: Report) -> list[UndoPoint]:
    """List what the configured database can be undone to, newest last; name the safety dumps without a manifest.

    :raises TaskError: The server can't be asked who it is.
    """
    target = settings.target()
    for path in reversed(list_safety_dumps(settings.dumps)):
        if not manifest_path(path).exists():
            report.warn(
                f"{path.name} has no manifest, so nothing says of which database it is, and db.undo does not take it. "
                f"`inv db.inspect --file={UNDO_FOLDER}/{path.name}` shows what it holds."
            )
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("Looking at the server failed, nothing was touched", target),
    ):
        server = server_facts(connection)
        endpoint = read_endpoint(connection, server)
        found = safety_dumps_of(settings, server, endpoint.host, endpoint.port)
        return [_point(*each) for each in reversed(found) if not was_undone(connection, server, each[0])]


def _point(path: Path, manifest: Manifest) -> UndoPoint:
    when = time_in_name(path.name, UNDO)
    assert when is not None  # noqa: S101 - so safety dumps are found
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


def choose_undo_point(points: Sequence[UndoPoint], wanted: str) -> UndoPoint:
    """Find the undo point that a person means.

    :param wanted: The beginning of its id, of four digits or more.
    :raises BadInputError: There is none, or there are several.
    """
    if len(wanted.strip()) < SHORTEST_ID:
        raise BadInputError(
            f"--to={wanted} is too short: give four digits of the id or more. `inv db.undos` lists them. Nothing was "
            f"touched."
        )
    found = [each for each in points if is_id_beginning(wanted, each.id)]
    if not found:
        raise BadInputError(
            f"--to={wanted} names no state that can be undone to. `inv db.undos` lists them. Nothing was touched."
        )
    if len({each.id for each in found}) > 1:
        shown = format_list([f"{each.id} ({format_moment(each.when)})" for each in found])
        raise BadInputError(f"--to={wanted} may be {shown}. Give more digits. Nothing was touched.")
    return found[-1]
