"""Migrate: the project's own Prisma, with the URL as the person wrote it; and restore and migrate as one step."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .. import process
from ..archive.manifest import SequenceValue, TableRows
from ..errors import BadInputError, ServerError, TaskError, WorkError
from ..postgres import migrators, state
from ..postgres.session import connected, server_facts, translated
from ..postgres.target import sanitize
from ..prisma import cli, project
from . import comparing, foresight, records, restoring, undoing

if TYPE_CHECKING:
    from pathlib import Path

    from ..postgres.target import Target
    from ..prisma.cli import Prisma
    from ..settings import Settings
    from .report import Report
    from .restoring import Plan, Restored


def migrate(settings: Settings, report: Report) -> None:
    """Say what Prisma will meet, apply the pending migrations, and remember what the database holds afterwards.

    :raises MissingProgramError: Node or Prisma is missing; nothing was touched.
    :raises WorkError: Prisma failed; its own words stand above.
    """
    target = settings.target()
    _refuse_another(settings, target)
    prisma = find(settings)
    if prisma.knows_history:
        # A database that is not there yet is made by Prisma, and a server that is not there is its to complain about.
        with (
            contextlib.suppress(ServerError),
            connected(target, lock_timeout=settings.lock_timeout) as connection,
            translated("Reading the migration history failed", target),
        ):
            foresight.before_migrate(settings, target, connection, report)
    try:
        if not _run(settings, prisma, report, *prisma.deploy()):
            return
    except WorkError as error:
        raise WorkError(f"{error}{_way_back(settings)}") from None
    try:
        _remember(settings)
    except (TaskError, OSError) as error:
        report.warn(f"The migration is done, but could not be remembered for verify: {target.scrub(str(error))}")


def generate(settings: Settings, report: Report) -> None:
    """Run `prisma generate`.

    :raises MissingProgramError: Node or Prisma is missing.
    :raises WorkError: Prisma failed; its own words stand above.
    """
    prisma = find(replace(settings, migrate_command=""))
    _run(settings, prisma, report, *prisma.command, "generate")


def find(settings: Settings) -> Prisma:
    """Find the project's Prisma.

    :raises TaskError: It is missing, or nobody can tell which of several is meant.
    """
    home = project.home(settings.root, settings.prisma_dir)
    return cli.find(home, settings.environ, settings.migrate_command)


def plan_both(settings: Settings, request: restoring.Request, report: Report) -> Plan:
    """Plan a restore that is migrated in the same step, and touch nothing.

    :raises TaskError: One of both would not work, or they could not be undone.
    """
    if not request.clean or not request.backup:
        raise BadInputError(
            "--migrate goes with --clean, and not with --no-backup: only then can both be undone as one step if the "
            "migration fails. Otherwise run them one behind the other: `inv db.restore db.migrate`. Nothing was "
            "touched."
        )
    find(settings)
    _refuse_another(settings, settings.target())
    return restoring.plan(settings, request, report)


def restore_and_migrate(plan: Plan, report: Report) -> Restored:
    """Restore, migrate, and bring back what was there before if the migration fails: all of it or nothing.

    :raises WorkError: The migration failed, and the database is as it was; or, where the message says so, it
        could not be brought back.
    :raises Interruption: As above, for a signal.
    """
    safety = restoring.safety_of(plan)
    try:
        restored = restoring.restore(plan, report, safety=safety)
    except process.Interruption as interruption:
        # It came between the commit and the migration.
        if safety.committed and safety.dumped is not None:
            process.listen_again()
            interruption.state = _bring_back(plan, safety.dumped.path, report)
        raise
    saved = restored.saved
    assert saved is not None  # noqa: S101 - the plan for this makes one always
    try:
        migrate(plan.settings, report)
    except TaskError as error:
        kind: type[TaskError] = WorkError if isinstance(error, WorkError) else type(error)
        state = _bring_back(plan, saved.path, report)
        raise kind(f"The restore was done, but not the migration: {_first_sentence(error)} {state}") from None
    except process.Interruption as interruption:
        # Bringing it back may take long, and may be interrupted itself.
        process.listen_again()
        interruption.state = _bring_back(plan, saved.path, report)
        raise
    if plan.settings.backup == 0:
        undoing.forget(saved.path)
    return restored


def _first_sentence(error: TaskError) -> str:
    return str(error).partition(". ")[0].rstrip(".") + "."


def _bring_back(plan: Plan, saved: Path, report: Report) -> str:
    """Restore the safety dump, and say in what state the database is."""
    label = plan.target.label
    report.step(f"Bringing back what {label} held before …")
    back = (
        f"{label} holds the restored dump, perhaps with some of the migrations. Bring back what was there before with "
        f"`inv db.undo`."
    )
    try:
        undoing.bring_back(plan.settings, saved, report)
    except TaskError as error:
        return f"What was there before could not be brought back: {error} {back}"
    except process.Interruption as interruption:
        interruption.state = f"Bringing back what was there before was interrupted: {interruption.state} {back}"
        raise
    return f"{label} is again as it was before the restore."


def _way_back(settings: Settings) -> str:
    """Tell how to go back, where there is something to go back to."""
    with contextlib.suppress(TaskError):
        if undoing.newest(settings) is not None:
            return " `inv db.undo` brings back what was there before the last restore or reset."
    return ""


def _refuse_another(settings: Settings, target: Target) -> None:
    """Refuse where Prisma would migrate another database than the one that is meant.

    :raises BadInputError: The schema's `directUrl` names another database.
    """
    home = project.home(settings.root, settings.prisma_dir)
    for name in project.direct_variables(home):
        if name == settings.url_env:
            continue
        try:
            direct = sanitize(settings.url(name).value)
        except BadInputError:
            # It is set nowhere, or is nothing for libpq: Prisma says what is wrong with it.
            continue
        if direct.database != target.database:
            raise BadInputError(
                f"The schema takes its directUrl from {name}, which names the database {direct.database}: Prisma would "
                f"migrate that one, and not {target.label}. Set {name} for this command, too. Nothing was touched."
            )


def _run(settings: Settings, prisma: Prisma, report: Report, *argv: str) -> bool:
    """Run Prisma on the configured database.

    :return: Whether it ran; in a dry run it does not.
    """
    words = _words(prisma, argv)
    if settings.dry:
        report.step(f"would run {words} (Prisma {prisma.version or 'of unknown version'})")
        return False
    # Prisma's own parameters (schema=, connection_limit= …) are in it; libpq's translation is not for Prisma.
    extra = {**_direct(settings, prisma), "DATABASE_URL": settings.url().value}
    target = settings.target()
    began = migrators.now(target)
    report.progress("", 0, 0, "")
    try:
        code = process.attached(list(argv), cwd=prisma.home, extra=extra)
    except process.Interruption as interruption:
        ended = migrators.end(target, began)
        interruption.state = (
            f"{words} was interrupted and has ended"
            + ("; what the server still did for it was ended, too" if ended else "")
            + ". `inv db.migrations` shows what is applied and what has failed."
        )
        raise
    if code != 0:
        raise WorkError(
            f"{words} ended with exit status {code}; its own words stand above. "
            + (
                "Migrations before the failing one stay applied; `inv db.migrations` shows which."
                if argv != (*prisma.command, "generate")
                else "Nothing was changed in the database."
            )
        )
    return True


def _words(prisma: Prisma, argv: tuple[str, ...]) -> str:
    """Write a command as a person knows it: without the path of the program."""
    if prisma.command and argv[: len(prisma.command)] == prisma.command:
        return " ".join(("prisma", *argv[len(prisma.command) :]))
    return " ".join(argv)


def _direct(settings: Settings, prisma: Prisma) -> dict[str, str]:
    """Give Prisma the `directUrl` of a `.env` as it is: with a configuration file it reads no `.env` itself."""
    found = {}
    for name in {"DIRECT_URL", *project.direct_variables(prisma.home)}:
        with contextlib.suppress(BadInputError):
            found[name] = settings.url(name).value
    return found


def _remember(settings: Settings) -> None:
    """Put the facts after the migration into the record of the last restore, if there is one."""
    target = settings.target()
    with connected(target, lock_timeout=settings.lock_timeout) as connection, translated("Counting failed"):
        server = server_facts(connection)
        place = records.place(settings.dumps, target, server)
        record = records.read(place)
        if record is None:
            return
        with state.snapshot(connection):
            found = state.read(connection)
    tables = tuple(sorted(TableRows(*key, rows) for key, rows in found.rows.items()))
    sequences = tuple(sorted(SequenceValue(*key, *value) for key, value in found.sequences.items()))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    records.write(
        place, replace(record, migrated=now, tables=tables, sequences=sequences, facts=comparing.to_facts(found))
    )
