"""Undo: restore the content that a database had before the last restore, reset, migration or undo."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ..dumpfiles.origin import OriginMatch, is_of_database, match_database
from ..dumpfiles.paths import UNDO, time_in_name
from ..errors import BadInputError, GuardError
from ..formatting import parse_instant
from ..safety.guard import unprotected_target
from ..safety.restore_log import read_record, record_path
from ..safety.safety_dump import delete_dump, newest_safety_dump
from ..safety.undo_points import choose_undo_point, list_undo_points
from .plan import RestorePlan, RestoreRequest, plan_restore
from .restore import restore_dump

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..progress import Report

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
) -> RestorePlan:
    """Plan to replace the whole database by the content of its newest safety dump, or of another one.

    :param to: The beginning of the id of the safety dump; empty for the newest.
    :param backup: Make a safety dump of the present content, so that the undo can be undone.
    :param disconnect: End the other sessions of the database first.
    :param trust: As for a restore: the safety dump may contain objects of other roles.
    :raises TaskError: There is no safety dump, or the undo would fail. Nothing was touched.
    """
    target = unprotected_target(settings)
    path = choose_undo_point(list_undo_points(settings, report), to).path if to else newest_safety_dump(settings)
    made = time_in_name(path.name, UNDO) if path is not None and not to else None
    if path is not None and made is not None and made > datetime.now(UTC) + _CLOCK_DIFFERENCE:
        raise BadInputError(
            f"The name of {path.name} is in the future: the clock was set back, so a newer safety dump may have an "
            f"older name. Nothing was touched.",
            fix="`inv db.undos` lists all; `inv db.undo --to=ID` restores one of them.",
        )
    if path is None:
        raise BadInputError(
            f"There is no safety dump of {target.label} in {settings.dumps}. Nothing was touched.",
            fix="`inv db.list` lists all dumps; `inv db.restore --clean --file=` restores one of them.",
        )
    request = RestoreRequest(file=str(path), clean=True, whole=True, backup=backup, disconnect=disconnect, trust=trust)
    return _plan(settings, request, report)


def _plan(settings: Settings, request: RestoreRequest, report: Report) -> RestorePlan:
    """Plan the restore of a safety dump into the database that it was made from.

    :raises GuardError: The URL refers to another database.
    """
    plan = plan_restore(settings, request, report)
    manifest, endpoint = plan.dump.manifest, plan.endpoint
    if manifest is None or not is_of_database(manifest, plan.server, endpoint.host, endpoint.port):
        raise GuardError(
            f"{plan.dump.path.name} was made from another database than {endpoint}, which the URL refers to now. "
            f"Nothing was touched.",
            fix="Name one host in the URL.",
        )
    if match_database(manifest, plan.server, endpoint.host, endpoint.port) is OriginMatch.UNCERTAIN:
        source = manifest.source
        doubt = (
            f"{plan.dump.path.name} may be of another database: it was made at {source.get('host')} port "
            f"{source.get('port')}, and {endpoint} may be a copy of that database or a new one"
        )
        plan = replace(plan, doubt=doubt)
    record = read_record(record_path(settings.dumps, plan.target, plan.server))
    saved = parse_instant(manifest.created)
    restored = parse_instant(record.restored) if record is not None and record.saved == "" else None
    if record is not None and restored is not None and (saved is None or restored > saved):
        loss = "The data it replaced can't be restored" if record.destroyed else "It deleted nothing"
        report.warn(
            f"The last restore, of {Path(record.file).name} at {record.restored}, made no safety dump. {loss}. This "
            f"undo restores the older state {manifest.note}, and deletes everything that was added or written since."
        )
    reset = parse_instant(record.reset) if record is not None else None
    if record is not None and reset is not None and (saved is None or reset > saved):
        report.warn(
            f"The last {record.unsaved}, at {record.reset}, made no safety dump. This undo restores the older state "
            f"{manifest.note}, and deletes everything that was written since."
        )
    return plan


def restore_safety_dump(settings: Settings, path: Path, report: Report) -> None:
    """Replace the whole database by the content of a safety dump, and delete the safety dump.

    Make no further safety dump, and ask no question: the restore that made the safety dump has asked.

    :raises TaskError: The restore failed, and the database was not changed by it.
    """
    request = RestoreRequest(file=str(path), clean=True, whole=True, backup=False, trust=True)
    restore_dump(_plan(settings, request, report), report)
    delete_dump(path)
