"""Undo: bring back what a database held before the last restore over it, reset or undo."""

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
    """Plan to make the whole database what its newest safety dump holds, or another one.

    :param to: The beginning of the id of the state to go back to; empty for the newest.
    :param backup: Make a safety dump of what is there now, so that the undo can be undone.
    :param disconnect: End the database's other sessions first.
    :param trust: As for a restore: the safety dump may hold objects of others.
    :raises TaskError: There is none, or it would not work; nothing was touched.
    """
    target = unprotected_target(settings)
    path = choose_undo_point(list_undo_points(settings, report), to).path if to else newest_safety_dump(settings)
    made = time_in_name(path.name, UNDO) if path is not None and not to else None
    if path is not None and made is not None and made > datetime.now(UTC) + _CLOCK_DIFFERENCE:
        raise BadInputError(
            f"{path.name} was made in the future, so the clock was set back, and a newer safety dump may have an older "
            f"name. Nothing was touched. `inv db.undos` lists all; `inv db.undo --to=ID` restores one of them."
        )
    if path is None:
        raise BadInputError(
            f"There is no safety dump of {target.label} in {settings.dumps}, so there is nothing to undo. Nothing was "
            f"touched. `inv db.list` shows all dumps; `inv db.restore --clean --file=` takes any of them."
        )
    request = RestoreRequest(file=str(path), clean=True, whole=True, backup=backup, disconnect=disconnect, trust=trust)
    return _plan(settings, request, report)


def _plan(settings: Settings, request: RestoreRequest, report: Report) -> RestorePlan:
    """Plan it on the database that the safety dump is of, and no other."""
    plan = plan_restore(settings, request, report)
    manifest, endpoint = plan.dump.manifest, plan.endpoint
    if manifest is None or not is_of_database(manifest, plan.server, endpoint.host, endpoint.port):
        raise GuardError(
            f"{plan.dump.path.name} is of another database than {endpoint}, to which the URL leads now. Nothing was "
            f"touched; name one host in it."
        )
    if match_database(manifest, plan.server, endpoint.host, endpoint.port) is OriginMatch.UNCERTAIN:
        source = manifest.source
        doubt = (
            f"{plan.dump.path.name} may be of another database: it was made at {source.get('host')} port "
            f"{source.get('port')}, and nothing proves that {endpoint} is that database, and not a copy or a new one"
        )
        plan = replace(plan, doubt=doubt)
    record = read_record(record_path(settings.dumps, plan.target, plan.server))
    saved = parse_instant(manifest.created)
    restored = parse_instant(record.restored) if record is not None and record.saved == "" else None
    if record is not None and restored is not None and (saved is None or restored > saved):
        loss = "What it replaced can't be restored" if record.destroyed else "It deleted nothing; what it added is lost"
        report.warn(
            f"The last restore, of {Path(record.file).name} at {record.restored}, made no safety dump. {loss}: this "
            f"undo restores what was there {manifest.note}. What was written since is lost."
        )
    reset = parse_instant(record.reset) if record is not None else None
    if record is not None and reset is not None and (saved is None or reset > saved):
        report.warn(
            f"The last {record.unsaved}, at {record.reset}, made no safety dump, so this undo restores an "
            f"older state: what was there {manifest.note}. What was written since is lost."
        )
    return plan


def restore_safety_dump(settings: Settings, path: Path, report: Report) -> None:
    """Make the whole database what a safety dump holds, without another safety dump, and remove it then.

    No question is asked: the restore that made the safety dump has asked about what the database held.

    :raises TaskError: It could not be done; the database is as it was before this.
    """
    request = RestoreRequest(file=str(path), clean=True, whole=True, backup=False, trust=True)
    restore_dump(_plan(settings, request, report), report)
    delete_dump(path)
