"""Rehearse: restore a dump into a scratch database on the same server, prove it, migrate it, and leave nothing."""

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
from ..dumpfiles.origin import describe_source, is_of_database
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
    """A rehearsal that went well.

    :ivar migrated: Seconds of `prisma migrate deploy`; None where the project has no Prisma.
    :ivar removed: Scratch databases of killed rehearsals that were removed.
    """

    path: Path
    restored: Restored
    seconds: float
    migrated: float | None
    removed: tuple[str, ...]

    def refuse_differences(self) -> None:
        """Raise where the scratch database did not hold what the dump says.

        :raises DifferenceError: As for a restore.
        """
        try:
            self.restored.refuse_differences(f"{self.path.name} restores")
        except DifferenceError as error:
            error.effect, error.result = Effect.UNCHANGED, self
            raise


def rehearse_dump(
    settings: Settings, file: str, report: Report, *, trust: bool = False, lenient: bool = False
) -> Rehearsed | None:
    """Restore, verify and migrate a dump in a scratch database, which is removed whatever happens.

    :param trust: As for a restore: what a dump's code does to the server, it does from any database.
    :param lenient: Load in the lenient way what PostgreSQL refuses, though the dump is not of this database.
    :return: None in a dry run.
    :raises TaskError: The dump would not restore or migrate; the real database is only asked about itself.
    """
    target = settings.target()
    path = _choose(settings, target, file, report)
    prisma = _prisma(settings, report)
    if settings.dry:
        report.step(f"would rehearse {path.name} in a scratch database beside {target.label}")
        return None
    removed = tuple(delete_leftover_scratch_databases(target, settings.dumps))
    began = time.monotonic()
    try:
        with scratch_database(target, settings.dumps) as there:
            if prisma is not None:
                report.progress("waiting for `prisma migrate status`", 0, 0, "")
                _refuse_elsewhere(settings, prisma, there)
            with _only_there(target):
                request = RestoreRequest(file=str(path), trust=trust, lenient=lenient)
                plan = plan_restore(settings, request, report, target=there)
            plan = replace(plan, lenient=lenient or _is_of(plan, target))
            if plan.risk:
                # About the server, not about the scratch database.
                require_trust(plan.risk, report.ask(f"{plan.risk}\n{TRUST_QUESTION}"))
            with _only_there(target):
                plan = replace(plan, risk="")
                restored = restore_dump(plan, report, remember=False)
                migrated = None if prisma is None else _migrate(settings, prisma, there.database, report)
    except Interruption as interruption:
        interruption.state = f"The scratch database is removed; {target.label} was not touched."
        interruption.effect = Effect.UNCHANGED
        raise
    if not (restored.differences or restored.leniencies):
        _mark(path, report)
    return Rehearsed(path=path, restored=restored, seconds=time.monotonic() - began, migrated=migrated, removed=removed)


def _choose(settings: Settings, target: Target, file: str, report: Report) -> Path:
    """Find the dump to rehearse: the named one, which may be of another database, else the newest of this one."""
    path = find_dump_file(file, settings.dumps, settings.cwd) if file else None
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("Looking at the server failed, nothing was touched", target),
    ):
        server = server_facts(connection)
        endpoint = read_endpoint(connection, server)
    path = path or newest_dump_of(settings, server, endpoint, report)
    manifest = manifest_for(path)
    if manifest is not None and not is_of_database(manifest, server, endpoint.host, endpoint.port):
        report.warn(
            f"This dump was made from {describe_source(manifest)}, and you are rehearsing it beside {endpoint}."
        )
    return path


def _is_of(plan: RestorePlan, target: Target) -> bool:
    """Return whether the dump is of the database beside which it is rehearsed."""
    manifest, server = plan.dump.manifest, replace(plan.server, database=target.database)
    return manifest is not None and is_of_database(manifest, server, plan.endpoint.host, plan.endpoint.port)


@contextlib.contextmanager
def _only_there(target: Target) -> Iterator[None]:
    """Let whoever reads an error know which database it is not about."""
    try:
        yield
    except TaskError as error:
        there = error.reworded(f"{error} That was in a scratch database; {target.label} was not touched.")
        there.effect = Effect.UNCHANGED
        raise there from None


def _prisma(settings: Settings, report: Report) -> Prisma | None:
    """Find what migrates, and whether its URL can be led to another database, before anything long begins.

    :return: None where the project has no Prisma of its own.
    """
    home = prisma_home(settings.root, settings.prisma_dir)
    if not is_installed(home):
        report.step("This project has no Prisma of its own, so nothing is migrated.")
        return None
    with_database(settings.url().value, PREFIX)
    found = find_prisma(home, settings.environ, settings.migrate_command)
    if not found.knows_history:
        report.warn("Nobody can prove where this project's command would migrate, so nothing is migrated.")
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
            f"The dump restores, but prisma migrate deploy ended on it with exit status {code}; its own words stand "
            f"above."
        )
    return time.monotonic() - began


def _environment(settings: Settings, prisma: Prisma, database: str) -> dict[str, str]:
    """Lead every variable to the scratch database that Prisma might take for the database's URL.

    A schema may name another one than `DATABASE_URL`, and a second one as its `directUrl`, which migrations use.
    What stands in the environment goes before any `.env`.
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


def _refuse_elsewhere(settings: Settings, prisma: Prisma, there: Target) -> None:
    """Let Prisma prove that the scratch database is the one that it would migrate, by what it reads there.

    What it prints of its connection is the schema's URL, which it does not use with a driver adapter.

    :raises BadInputError: It is another: a URL is written into its schema or configuration.
    """
    sign = f"0_{secrets.token_hex(8)}"
    with scratch_history(there, sign):
        said = run_program(
            [*prisma.command, "migrate", "status"],
            cwd=prisma.home,
            extra=_environment(settings, prisma, there.database),
            timeout=_STATUS_SECONDS,
        )
    words = f"{said.stdout}\n{said.stderr}"
    if sign not in words:
        raise BadInputError(
            f"Prisma does not read the scratch database, so it might migrate another: let its schema and its "
            f"configuration take the URL from DATABASE_URL. Nothing was touched. It says: {words.strip()[-500:]}"
        )


def _mark(path: Path, report: Report) -> None:
    """Note the rehearsal in the manifest, for `db.list`; a dump without one goes unmarked."""
    try:
        manifest = read_manifest(path)
        if manifest is not None:
            now = format_now()
            marked = replace(manifest, extra={**manifest.extra, "rehearsed": now})
            replace_file(manifest_path(path), marked.to_json())
    except (OSError, BadInputError) as error:
        report.warn(f"The rehearsal went well, but could not be noted in the manifest: {error}")
