"""Undo: restore the content that a database had before the last restore, reset, migration or undo."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ..dumpfiles.origin import OriginMatch, is_of_database, match_database
from ..dumpfiles.paths import UNDO, UNDO_FOLDER, time_in_name
from ..errors import BadInputError, GuardError
from ..formatting import parse_instant
from ..postgres.login_failure import NotConnectedError
from ..safety.guard import guarded_connection, refuse_protected, unprotected_target
from ..safety.restore_log import read_record, record_path
from ..safety.safety_dump import delete_dump, other_oids
from ..safety.scratch_database import connection_without_database
from ..safety.undo_points import choose_undo_point, read_undo_points

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config.settings import Settings
    from ..config.target import Target
    from ..dumpformat.manifest import Manifest
    from ..postgres.connection import Endpoint, ServerFacts
    from ..progress import Report
    from ..safety.restore_log import RestoreRecord
    from ..safety.swap_undo import SwapUndoPlan
    from ..safety.undo_points import UndoPoint
    from .plan import RestorePlan
    from .request import RestoreRequest

# Between machines that share a folder of dumps.
_CLOCK_DIFFERENCE = timedelta(minutes=1)


def plan_undo(
    settings: Settings,
    report: Report,
    *,
    to: str = "",
    backup: bool = True,
    disconnect: bool = False,
    trust: bool = False,
) -> RestorePlan | SwapUndoPlan:
    """Plan to put the whole database back to its newest undo point, or to another one.

    :param to: The beginning of the id of the undo point; empty for the newest.
    :param backup: Keep the present content, in a safety dump or in the replaced database, so that the undo can be
        undone.
    :param disconnect: End the other sessions of the database first.
    :param trust: As for a restore: the safety dump may contain objects of other roles.
    :return: The restore of a safety dump, or the swap with a kept database.
    :raises TaskError: There is no undo point, or the undo would fail. Nothing was touched.
    """
    target = unprotected_target(settings)
    try:
        return _plan_present(settings, target, report, to=to, backup=backup, disconnect=disconnect, trust=trust)
    except NotConnectedError as error:
        return _plan_absent(settings, target, error, to, report)


def _plan_present(
    settings: Settings, target: Target, report: Report, *, to: str, backup: bool, disconnect: bool, trust: bool
) -> RestorePlan | SwapUndoPlan:
    """Plan the undo of a database that exists."""
    with guarded_connection(settings, target, "server") as (connection, server, endpoint):
        points = read_undo_points(connection, settings, target, server, endpoint)
        point = choose_undo_point(points, to) if to else _newest(points, settings, target)
        if point.kept is not None:
            _warn_of_unsaved(settings, target, server, point, points, report)
            from ..safety.swap_undo import plan_swap_undo

            choices = {"backup": backup, "disconnect": disconnect}
            return plan_swap_undo(connection, settings, target, server, endpoint, point.kept, **choices)
    from .request import RestoreRequest

    request = RestoreRequest(
        file=str(point.path), clean=True, replaces_all=True, backup=backup, disconnect=disconnect, trust=trust
    )
    plan = _plan(settings, request, report)
    _warn_of_unsaved(settings, target, server, point, points, report)
    return plan


def _plan_absent(settings: Settings, target: Target, error: NotConnectedError, to: str, report: Report) -> SwapUndoPlan:
    """Plan to put a kept database back in the place of a database that was dropped since.

    :param error: Why no connection to the database was established.
    :raises NotConnectedError: It exists; the given error.
    :raises BadInputError: The state is no kept database; the fix has the command that restores it.
    """
    from ..safety.swap_undo import plan_return

    with connection_without_database(settings, target, error) as (connection, server, endpoint):
        refuse_protected(settings, target, endpoint)
        points = read_undo_points(connection, settings, target, server, endpoint)
        if not points:
            raise BadInputError(
                f"{target.label} does not exist, and no state of it is saved. Nothing was touched.",
                fix="`inv db.restore --create --file=` creates it from a dump; `inv db.list` lists all dumps.",
            )
        point = choose_undo_point(points, to) if to else _newest(points, settings, target)
        if point.path is not None:
            file = shlex.quote(f"--file={UNDO_FOLDER}/{point.path.name}")
            raise BadInputError(
                f"{target.label} does not exist, and a safety dump can't be undone to without it. Nothing was touched.",
                fix=f"To create it as it was at {point.when:%Y-%m-%d %H:%M:%S} UTC: "
                f"`{settings.command('db.restore', '--create', file)}`. `inv db.undos` lists other states.",
            )
        assert point.kept is not None  # noqa: S101 - a state is a safety dump or a kept database
        _warn_of_unsaved(settings, target, server, point, points, report)
        return plan_return(connection, settings, target, server, endpoint, point.kept)


def _newest(points: Sequence[UndoPoint], settings: Settings, target: Target) -> UndoPoint:
    """Return the newest undo point.

    :raises BadInputError: There is none, or its time is in the future.
    """
    if not points:
        raise BadInputError(
            f"There is no safety dump of {target.label} in {settings.dumps}. Nothing was touched.",
            fix="`inv db.list` lists all dumps; `inv db.restore --clean --file=` restores one of them.",
        )
    newest = points[-1]
    if newest.when > datetime.now(UTC) + _CLOCK_DIFFERENCE:
        name = newest.path.name if newest.path is not None else newest.note
        raise BadInputError(
            f"The time of {name} is in the future: the clock was set back, so a newer state may have an older time. "
            f"Nothing was touched.",
            fix="`inv db.undos` lists all; `inv db.undo --to=ID` restores one of them.",
        )
    return newest


def _plan(settings: Settings, request: RestoreRequest, report: Report) -> RestorePlan:
    """Plan the restore of a safety dump into the database that it was made from.

    :raises GuardError: The URL refers to another database.
    """
    # A swap needs none of it.
    from .plan import plan_restore

    plan = plan_restore(settings, request, report)
    manifest, endpoint = plan.dump.manifest, plan.endpoint
    if manifest is None or not is_of_database(manifest, plan.server, endpoint.host, endpoint.port):
        raise GuardError(
            f"{plan.dump.path.name} was made from another database than {endpoint}, which the URL refers to now. "
            f"Nothing was touched.",
            fix="Name one host in the URL.",
        )
    oids = other_oids(settings, plan.server, endpoint)
    if match_database(manifest, plan.server, endpoint.host, endpoint.port, oids) is OriginMatch.UNCERTAIN:
        plan = replace(plan, doubt=_doubt(plan.dump.path.name, manifest, endpoint))
    return plan


def _doubt(name: str, manifest: Manifest, endpoint: Endpoint) -> str:
    """Return why a safety dump may be of another database, as a clause."""
    host, port = manifest.source.get("host"), manifest.source.get("port")
    if (host, port) == (endpoint.host, endpoint.port):
        return f"{name} may be of another database: {endpoint.label} may have been created or copied after it was made"
    made = f"it was made at {host} port {port}"
    return (
        f"{name} may be of another database: {made}, and {endpoint.label} may be a copy of that database or a new one"
    )


def _warn_of_unsaved(
    settings: Settings,
    target: Target,
    server: ServerFacts,
    point: UndoPoint,
    points: Sequence[UndoPoint],
    report: Report,
) -> None:
    """Warn if a later restore, reset or migration left nothing that could be undone."""
    record = read_record(record_path(settings.dumps, target, server))
    if record is None:
        return
    older = f"This undo restores the older state of {point.when:%Y-%m-%d %H:%M:%S} UTC ({point.note})"
    restored = parse_instant(record.restored)
    if restored is not None and restored > point.when and not _is_saved(record, points):
        dropped = f"kept the old database as {record.saved}, which was dropped"
        why = dropped if record.saved else "made no safety dump"
        loss = "The data it replaced can't be restored" if record.destroyed else "It deleted nothing"
        report.warn(
            f"The last restore, of {Path(record.file).name} at {record.restored}, {why}. {loss}. {older}, and deletes "
            f"everything that was added or written since."
        )
    reset = parse_instant(record.reset)
    if reset is not None and reset > point.when:
        report.warn(
            f"The last {record.unsaved}, at {record.reset}, made no safety dump. {older}, and deletes everything that "
            f"was written since."
        )


def _is_saved(record: RestoreRecord, points: Sequence[UndoPoint]) -> bool:
    """Return whether the state before the last restore was saved and not deleted since, as far as that is known.

    After a swap, the record has the name of the kept database.
    """
    if record.saved is None or time_in_name(record.saved, UNDO) is not None:
        return True
    return any(each.kept is not None and each.kept.record.database == record.saved for each in points)


def restore_safety_dump(settings: Settings, path: Path, report: Report) -> None:
    """Replace the whole database by the content of a safety dump, and delete the safety dump.

    Make no further safety dump, and ask no question: the restore that made the safety dump has asked.

    :raises TaskError: The restore failed, and the database was not changed by it.
    """
    from .request import RestoreRequest
    from .restore import restore_dump

    request = RestoreRequest(file=str(path), clean=True, replaces_all=True, backup=False, trust=True)
    restore_dump(_plan(settings, request, report), report)
    delete_dump(path)
