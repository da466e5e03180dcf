"""Undo: bring back what a database held before the last restore over it, reset or undo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..archive import names
from ..errors import BadInputError, GuardError
from ..postgres.session import connected, server_facts, translated
from . import guard, records, restoring, saving

if TYPE_CHECKING:
    from ..settings import Settings
    from .report import Report


def plan(
    settings: Settings, report: Report, *, backup: bool = True, disconnect: bool = False, trust: bool = False
) -> restoring.Plan:
    """Plan to make the whole database what its newest safety dump holds.

    :param backup: Make a safety dump of what is there now, so that the undo can be undone.
    :param disconnect: End the database's other sessions first.
    :param trust: As for a restore: the safety dump may hold objects of others.
    :raises TaskError: There is none, or it would not work; nothing was touched.
    """
    target = settings.target()
    guard.refuse_protected(settings, target)
    path = newest(settings)
    if path is None:
        raise BadInputError(
            f"There is no safety dump of {target.label} in {settings.dumps}, so there is nothing to undo. Nothing was "
            f"touched. `inv db.list` shows all dumps; `inv db.restore --clean --file=` takes any of them."
        )
    request = restoring.Request(
        file=str(path), clean=True, whole=True, backup=backup, disconnect=disconnect, trust=trust
    )
    return _plan(settings, request, report)


def _plan(settings: Settings, request: restoring.Request, report: Report) -> restoring.Plan:
    """Plan it on the database that the safety dump is of, and no other."""
    plan = restoring.plan(settings, request, report)
    manifest, place = plan.dump.manifest, plan.place
    if manifest is None or not records.is_of(manifest, plan.server, place.host, place.port):
        raise GuardError(
            f"{plan.dump.path.name} is of another database than {place}, to which the URL leads now. Nothing was "
            f"touched; name one host in it."
        )
    if records.match(manifest, plan.server, place.host, place.port) is records.Match.UNCERTAIN:
        doubt = (
            f"{plan.dump.path.name} may be of another server: {plan.server.user} may not ask {place} for its cluster's "
            f"number, and it shows no other sign of being the server that was dumped"
        )
        plan = replace(plan, doubt=doubt)
    record = records.read(records.place(settings.dumps, plan.target, plan.server))
    saved = names.instant(manifest.created)
    restored = names.instant(record.restored) if record is not None and record.saved == "" else None
    if record is not None and restored is not None and (saved is None or restored > saved):
        report.warn(
            f"The last restore, of {Path(record.file).name} at {record.restored}, made no safety dump. What it "
            f"replaced can't be brought back, and this goes back behind it: to what was there {manifest.note}."
        )
    return plan


def bring_back(settings: Settings, path: Path, report: Report) -> None:
    """Make the whole database what a safety dump holds, without another safety dump, and remove it then.

    No question is asked: the restore that made the safety dump has asked about what the database held.

    :raises TaskError: It could not be done; the database is as it was before this.
    """
    request = restoring.Request(file=str(path), clean=True, whole=True, backup=False, trust=True)
    restoring.restore(_plan(settings, request, report), report)
    forget(path)


def forget(path: Path) -> None:
    """Remove a safety dump that is of no use any more."""
    saving.remove(path)


def newest(settings: Settings) -> Path | None:
    """Find the newest safety dump of the configured database; None where it has none.

    :raises TaskError: The server can't be asked who it is.
    """
    target = settings.target()
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("Looking at the server failed, nothing was touched", target),
    ):
        server = server_facts(connection)
        place = guard.place(connection, server)
        guard.refuse_protected(settings, target, place)
        found = saving.of(settings, server, place.host, place.port)
        return next((path for path in found if not saving.undone(connection, server, path)), None)
