"""Rehearse: restore a dump into a scratch database on the same server, prove it, migrate it, and leave nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .. import process
from ..archive import manifest as manifests
from ..archive import names, publish
from ..errors import BadInputError
from ..postgres import scratch
from ..postgres.url import with_database
from ..prisma import cli
from . import dumpfile, migrating, restoring

if TYPE_CHECKING:
    from pathlib import Path

    from ..settings import Settings
    from .report import Report
    from .restoring import Restored


@dataclass(frozen=True)
class Rehearsed:
    """A rehearsal that went well.

    :ivar migrated: Seconds of `prisma migrate deploy`; None where the project has no Prisma.
    :ivar swept: Scratch databases of killed rehearsals that were removed.
    """

    path: Path
    restored: Restored
    seconds: float
    migrated: float | None
    swept: tuple[str, ...]


def rehearse(settings: Settings, file: str, report: Report) -> Rehearsed | None:
    """Restore, verify and migrate a dump in a scratch database, which is removed whatever happens.

    :return: None in a dry run.
    :raises TaskError: The dump would not restore or migrate; the real database is never touched.
    """
    target = settings.target()
    path = dumpfile.choose(settings, file, report)
    if settings.dry:
        report.step(f"would rehearse {path.name} in a scratch database beside {target.label}")
        return None
    swept = tuple(scratch.sweep(target))
    began = time.monotonic()
    try:
        with scratch.database(target) as there:
            request = restoring.Request(file=str(path))
            plan = restoring.plan(settings, request, report, target=there)
            restored = restoring.restore(plan, report, remember=False)
            migrated = _migrate(settings, there.database, report)
    except process.Interruption as interruption:
        interruption.state = f"The scratch database is removed; {target.label} was not touched."
        raise
    _mark(path, report)
    return Rehearsed(path, restored, time.monotonic() - began, migrated, swept)


def _migrate(settings: Settings, database: str, report: Report) -> float | None:
    if not cli.installed(settings.prisma_dir):
        report.step("This project has no Prisma of its own, so nothing is migrated.")
        return None
    began = time.monotonic()
    migrating.deploy(settings, report, with_database(settings.url().value, database))
    return time.monotonic() - began


def _mark(path: Path, report: Report) -> None:
    """Note the rehearsal in the manifest, for `db.list`; a dump without one goes unmarked."""
    try:
        manifest = manifests.read(path)
        if manifest is not None:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            marked = replace(manifest, extra={**manifest.extra, "rehearsed": now})
            publish.replace(names.manifest_path(path), marked.to_json())
    except (OSError, BadInputError) as error:
        report.warn(f"The rehearsal went well, but could not be noted in the manifest: {error}")
