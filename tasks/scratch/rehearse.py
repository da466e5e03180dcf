"""Rehearse: restore, verify and migrate a dump in a scratch database on the same server, and delete the database."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..dumpfiles.atomic_write import replace_file
from ..dumpfiles.dump_file import manifest_for, newest_dump_of
from ..dumpfiles.origin import describe_databases, is_of_database
from ..dumpfiles.paths import find_dump_file, manifest_path, read_manifest
from ..errors import BadInputError, DifferenceError, Effect, GuardError, TaskError
from ..formatting import format_now
from ..postgres.connection import connected, read_endpoint, server_facts, translated
from ..prisma.other_database import find_redirectable_prisma, migrate_other_database, refuse_fixed_url
from ..restore.plan import plan_restore
from ..restore.request import RestoreRequest
from ..restore.restore import restore_dump
from ..safety.scratch_database import delete_leftover_scratch_databases, scratch_database
from ..safety.trust import TRUST_QUESTION, require_trust
from ..system.runtime import interruptions_say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..config.settings import Settings
    from ..config.target import Target
    from ..prisma.project import Prisma
    from ..progress import Report
    from ..restore.plan import RestorePlan
    from ..restore.restore import Restored


@dataclass(frozen=True)
class Rehearsed:
    """A successful rehearsal.

    :ivar seconds: The duration of the rehearsal.
    :ivar migrated: The seconds of `prisma migrate deploy`; None if nothing was migrated.
    :ivar removed: The scratch databases of killed rehearsals that were deleted.
    """

    path: Path
    restored: Restored
    seconds: float
    migrated: float | None
    removed: tuple[str, ...]

    def refuse_differences(self) -> None:
        """Raise if the scratch database differed from the dump.

        :raises DifferenceError: As for a restore.
        """
        try:
            self.restored.refuse_differences(f"{self.path.name} restores")
        except DifferenceError as error:
            error.effect, error.result = Effect.UNCHANGED, self
            raise


def rehearse_dump(
    settings: Settings,
    file: str,
    report: Report,
    *,
    trust: bool = False,
    lenient: bool = False,
    preserve_order: bool = False,
) -> Rehearsed | None:
    """Restore, verify and migrate a dump in a scratch database, which is deleted in any case.

    :param trust: As for a restore: code in a dump can change the server from any database.
    :param lenient: Load statements that PostgreSQL refuses in the lenient way, also from a dump of another database.
    :param preserve_order: Load the rows of each table in the order of the dump.
    :return: None in a dry run.
    :raises TaskError: A restore or the migrations would fail. The real database is not changed.
    """
    target = settings.target()
    path = _choose_dump(settings, target, file, report)
    prisma = find_redirectable_prisma(settings, report)
    if settings.dry:
        report.step(f"would rehearse {path.name} in a scratch database on the server of {target.label}")
        return None
    removed = tuple(delete_leftover_scratch_databases(target, settings.dumps))
    began = time.monotonic()
    state = f"{target.label} was not changed."
    request = RestoreRequest(file=str(path), trust=trust, lenient=lenient, preserve_order=preserve_order)
    with (
        interruptions_say(f"The scratch database was deleted; {state}"),
        scratch_database(target, settings.dumps) as scratch,
        errors_say(state),
    ):
        plan = plan_in_scratch(settings, request, scratch, target, prisma, report)
        restored = restore_in_scratch(plan, prisma, report)
    if not (restored.differences or restored.leniencies):
        _mark_rehearsed(path, report)
    seconds = time.monotonic() - began
    return Rehearsed(path=path, restored=restored, seconds=seconds, migrated=restored.migrated, removed=removed)


def _choose_dump(settings: Settings, target: Target, file: str, report: Report) -> Path:
    """Return the dump to rehearse: the given file, also of another database, else the newest dump of this database."""
    path = find_dump_file(file, settings.dumps, settings.cwd) if file else None
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("Reading the server's version and settings failed, and nothing was touched", target),
    ):
        server = server_facts(connection)
        endpoint = read_endpoint(connection, server)
    path = path or newest_dump_of(settings, server, endpoint, report)
    manifest = manifest_for(path)
    if manifest is not None and not is_of_database(manifest, server, endpoint.host, endpoint.port):
        source, here = describe_databases(manifest, endpoint)
        report.warn(f"This dump was made from {source}, and you are rehearsing it on the server of {here}.")
    return path


@contextlib.contextmanager
def errors_say(state: str) -> Iterator[None]:
    """Add to an error that it happened in the scratch database, unless the work was refused before it began.

    :param state: The state of the configured database, as a sentence.
    """
    try:
        yield
    except (BadInputError, GuardError):
        raise
    except TaskError as error:
        message = f"{error.what} This happened in a scratch database, which was deleted; {state}"
        raise error.reworded(message, fix=error.fix, effect=Effect.UNCHANGED) from None


def plan_in_scratch(
    settings: Settings, request: RestoreRequest, scratch: Target, target: Target, prisma: Prisma | None, report: Report
) -> RestorePlan:
    """Plan the restore of a dump into a scratch database, and ask whether its authors are trusted.

    :param request: It names the dump.
    :param target: The database whose own dump may be loaded in the lenient way.
    :param prisma: The Prisma that migrates it; None migrates nothing.
    :raises TaskError: The restore would fail, or Prisma would migrate another database.
    """
    if prisma is not None:
        report.progress("waiting for `prisma migrate status`", 0, 0, "")
        refuse_fixed_url(settings, prisma, scratch)
    plan = plan_restore(settings, request, report, target=scratch)
    plan = replace(plan, lenient=plan.lenient or _was_made_from(plan, target), private=True)
    if plan.risk:
        # The risk concerns the server, not only the scratch database.
        require_trust(plan.risk, report.ask(f"{plan.risk}\n{TRUST_QUESTION}"))
    return replace(plan, risk="")


def restore_in_scratch(plan: RestorePlan, prisma: Prisma | None, report: Report) -> Restored:
    """Restore a dump into a scratch database, verify it there and migrate it. The restore is not recorded.

    :param plan: As :func:`plan_in_scratch` returns it.
    :param prisma: The Prisma that migrates it; None migrates nothing.
    :raises TaskError: The restore or the migrations failed.
    """
    restored = restore_dump(plan, report, remember=False)
    if prisma is None:
        return restored
    return replace(restored, migrated=migrate_other_database(plan.settings, prisma, plan.target.database, report))


def _was_made_from(plan: RestorePlan, target: Target) -> bool:
    manifest, server = plan.dump.manifest, replace(plan.server, database=target.database)
    return manifest is not None and is_of_database(manifest, server, plan.endpoint.host, plan.endpoint.port)


def _mark_rehearsed(path: Path, report: Report) -> None:
    """Write the time of the rehearsal into the manifest, if there is one, for `db.list`."""
    try:
        manifest = read_manifest(path)
        if manifest is not None:
            marked = replace(manifest, extra={**manifest.extra, "rehearsed": format_now()})
            replace_file(manifest_path(path), marked.to_json())
    except (OSError, BadInputError) as error:
        report.warn(f"The rehearsal succeeded, but the manifest could not be updated: {error}")
