"""Migrate: the project's own Prisma, with the URL as the person wrote it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .. import process
from ..archive.manifest import SequenceValue, TableRows
from ..errors import TaskError, WorkError
from ..postgres import state
from ..postgres.session import connected, server_facts, translated
from ..prisma import cli
from . import comparing, records

if TYPE_CHECKING:
    from ..settings import Settings
    from .report import Report


def migrate(settings: Settings, report: Report) -> None:
    """Run `prisma migrate deploy`, and remember what the database holds afterwards.

    :raises MissingProgramError: Node or Prisma is missing; nothing was touched.
    :raises WorkError: Prisma failed; its own words stand above.
    """
    target = settings.target()
    if not deploy(settings, report, settings.url().value):
        return
    try:
        _remember(settings)
    except (TaskError, OSError) as error:
        report.warn(f"The migration is done, but could not be remembered for verify: {target.scrub(str(error))}")


def generate(settings: Settings, report: Report) -> None:
    """Run `prisma generate`.

    :raises MissingProgramError: Node or Prisma is missing.
    :raises WorkError: Prisma failed; its own words stand above.
    """
    _run(settings, report, settings.url().value, "generate")


def deploy(settings: Settings, report: Report, url: str) -> bool:
    """Run `prisma migrate deploy` on a database.

    :param url: As Prisma reads it.
    :return: Whether it ran; in a dry run it does not.
    :raises TaskError: As `migrate` does.
    """
    return _run(settings, report, url, "migrate", "deploy")


def _run(settings: Settings, report: Report, url: str, *arguments: str) -> bool:
    prisma = cli.find(settings.prisma_dir, settings.environ)
    # Prisma's own parameters (schema=, connection_limit= …) are in it; libpq's translation is not for Prisma.
    extra = {"DATABASE_URL": url}
    words = " ".join(arguments)
    if settings.dry:
        report.step(f"would run prisma {words} (Prisma {prisma.version or 'of unknown version'})")
        return False
    try:
        code = process.attached([prisma.program, *arguments], cwd=prisma.root, extra=extra)
    except process.Interruption as interruption:
        interruption.state = f"prisma {words} was interrupted and has ended; `inv db.verify` shows the history."
        raise
    if code != 0:
        raise WorkError(
            f"prisma {words} ended with exit status {code}; its own words stand above. "
            + (
                "Migrations before the failing one stay applied; `inv db.verify` shows the history."
                if arguments[0] == "migrate"
                else "Nothing was changed in the database."
            )
        )
    return True


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
