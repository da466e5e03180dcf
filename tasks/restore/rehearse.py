"""Rehearse: restore, verify and migrate a dump in a scratch database on the same server, and delete the database."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dotenv import dotenv_values

from ..config.database_url import with_database
from ..config.prisma_home import prisma_home
from ..dumpfiles.atomic_write import replace_file
from ..dumpfiles.dump_file import manifest_for, newest_dump_of
from ..dumpfiles.origin import describe_databases, is_of_database
from ..dumpfiles.paths import find_dump_file, manifest_path, read_manifest
from ..errors import BadInputError, DifferenceError, Effect, OperationFailedError, TaskError
from ..formatting import format_now
from ..postgres.connection import connected, read_endpoint, server_facts, translated
from ..prisma.project import find_prisma, is_installed
from ..safety.scratch_database import PREFIX, delete_leftover_scratch_databases, scratch_database, scratch_history
from ..safety.trust import TRUST_QUESTION, require_trust
from ..system.processes import run_interactive, run_program
from ..system.runtime import Interruption
from .plan import RestoreRequest, plan_restore
from .restore import restore_dump

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..config.settings import Settings
    from ..config.target import Target
    from ..prisma.project import Prisma
    from ..progress import Report
    from .plan import RestorePlan
    from .restore import Restored


_POSTGRES = re.compile(r"\s*(prisma\+)?postgres(ql)?:", re.IGNORECASE)
_STATUS_SECONDS = 120.0


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
    prisma = _prisma(settings, report)
    if settings.dry:
        report.step(f"would rehearse {path.name} in a scratch database on the server of {target.label}")
        return None
    removed = tuple(delete_leftover_scratch_databases(target, settings.dumps))
    began = time.monotonic()
    try:
        with scratch_database(target, settings.dumps) as scratch:
            if prisma is not None:
                report.progress("waiting for `prisma migrate status`", 0, 0, "")
                _refuse_other_database(settings, prisma, scratch)
            with _errors_name_scratch_database(target):
                request = RestoreRequest(file=str(path), trust=trust, lenient=lenient, preserve_order=preserve_order)
                plan = plan_restore(settings, request, report, target=scratch)
            plan = replace(plan, lenient=lenient or _was_made_from(plan, target), private=True)
            if plan.risk:
                # The risk concerns the server, not only the scratch database.
                require_trust(plan.risk, report.ask(f"{plan.risk}\n{TRUST_QUESTION}"))
            with _errors_name_scratch_database(target):
                plan = replace(plan, risk="")
                restored = restore_dump(plan, report, remember=False)
                migrated = None if prisma is None else _migrate(settings, prisma, scratch.database, report)
    except Interruption as interruption:
        interruption.state = f"The scratch database was deleted; {target.label} was not changed."
        interruption.effect = Effect.UNCHANGED
        raise
    if not (restored.differences or restored.leniencies):
        _mark_rehearsed(path, report)
    return Rehearsed(path=path, restored=restored, seconds=time.monotonic() - began, migrated=migrated, removed=removed)


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


def _was_made_from(plan: RestorePlan, target: Target) -> bool:
    """Return whether the dump was made from the configured database."""
    manifest, server = plan.dump.manifest, replace(plan.server, database=target.database)
    return manifest is not None and is_of_database(manifest, server, plan.endpoint.host, plan.endpoint.port)


@contextlib.contextmanager
def _errors_name_scratch_database(target: Target) -> Iterator[None]:
    """Add to an error that it happened in the scratch database, unless the work was refused before it began."""
    try:
        yield
    except BadInputError:
        raise
    except TaskError as error:
        reworded = error.reworded(f"{error} This happened in a scratch database; {target.label} was not changed.")
        reworded.effect = Effect.UNCHANGED
        raise reworded from None


def _prisma(settings: Settings, report: Report) -> Prisma | None:
    """Return the project's Prisma, if it can be made to migrate the scratch database; else None.

    :raises TaskError: The URL can't name another database, or the installed Prisma can't be used.
    """
    home = prisma_home(settings.root, settings.prisma_dir)
    if not is_installed(home):
        report.step("Prisma is not installed in this project, so nothing is migrated.")
        return None
    with_database(settings.url().value, PREFIX)
    found = find_prisma(home, settings.environ, settings.migrate_command)
    if not found.knows_history:
        report.warn("It is unknown which database this project's migrate command would change. Nothing is migrated.")
        return None
    return found


def _migrate(settings: Settings, prisma: Prisma, database: str, report: Report) -> float:
    began = time.monotonic()
    extra = _environment(settings, prisma, database)
    report.step("Waiting for `prisma migrate deploy`; its output follows.")
    report.progress("", 0, 0, "")
    code = run_interactive(list(prisma.deploy()), cwd=prisma.home, extra=extra, to_stderr=settings.as_json)
    if code != 0:
        raise OperationFailedError(
            f"The dump was restored, but prisma migrate deploy failed with exit status {code}; its output is above."
        )
    return time.monotonic() - began


def _environment(settings: Settings, prisma: Prisma, database: str) -> dict[str, str]:
    """Return an environment in which every variable with a PostgreSQL URL names the scratch database.

    A Prisma schema may use another variable than `DATABASE_URL`, and a second one as `directUrl` for migrations.
    Prisma prefers the environment to `.env` files.
    """
    found: dict[str, str | None] = {}
    for folder in {settings.root, prisma.home}:
        for path in (*folder.glob(".env*"), *folder.glob("prisma/.env*")):
            with contextlib.suppress(OSError, ValueError):
                found |= dotenv_values(path, interpolate=False)
    found |= settings.environ
    url = with_database(settings.url().value, database)
    names = {name for name, value in found.items() if value is not None and _POSTGRES.match(value)}
    return {**dict.fromkeys((*names, settings.url_env, "DATABASE_URL"), url), "PGDATABASE": database}


def _refuse_other_database(settings: Settings, prisma: Prisma, scratch: Target) -> None:
    """Raise unless Prisma lists a migration whose name only the scratch database contains.

    The URL that Prisma prints is no proof: with a driver adapter it uses another one.

    :raises BadInputError: Prisma would migrate another database: its schema or configuration contains a fixed URL.
    """
    name = f"0_{secrets.token_hex(8)}"
    with scratch_history(scratch, name):
        status = run_program(
            [*prisma.command, "migrate", "status"],
            cwd=prisma.home,
            extra=_environment(settings, prisma, scratch.database),
            timeout=_STATUS_SECONDS,
        )
    output = f"{status.stdout}\n{status.stderr}"
    if name not in output:
        raise BadInputError(
            f"Prisma does not read the scratch database, so it might migrate another one. Nothing was touched. Prisma "
            f"printed: {output.strip()[-500:]}",
            fix="Take the URL from DATABASE_URL in Prisma's schema and configuration.",
        )


def _mark_rehearsed(path: Path, report: Report) -> None:
    """Write the time of the rehearsal into the manifest, if there is one, for `db.list`."""
    try:
        manifest = read_manifest(path)
        if manifest is not None:
            now = format_now()
            marked = replace(manifest, extra={**manifest.extra, "rehearsed": now})
            replace_file(manifest_path(path), marked.to_json())
    except (OSError, BadInputError) as error:
        report.warn(f"The rehearsal succeeded, but the manifest could not be updated: {error}")
