"""Forecast whether `prisma migrate deploy` will succeed, before anything is touched."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config.prisma_home import config_file, prisma_home
from ..dumpfiles.dump_file import DumpFile, choose_dump, prove_dump
from ..errors import BadInputError, DifferenceError, MissingProgramError
from ..formatting import format_list
from ..inventory.snapshot import read_history
from ..postgres.connection import Connection, connected, one, translated
from .migrations import (
    compare_migrations,
    forecast_deploy,
    migrations_on_disk,
    pending_migrations,
)
from .project import find_prisma, listed_schemas, migrations_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..config.settings import Settings
    from ..config.target import Target
    from ..dumpformat.applied_migration import AppliedMigration
    from ..progress import Report
    from .migrations import Compared, Finding, OnDisk


# The tables that make Prisma refuse without a history (P3005): ordinary ones and partitions, except those of PostGIS.
_FILLED = """
SELECT EXISTS (
  SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = ANY(%s) AND c.relkind = 'r'
     AND pg_catalog.lower(c.relname) NOT IN ('_prisma_migrations', 'spatial_ref_sys', 'raster_columns',
         'raster_overviews'))
"""


class UnsupportedPrismaError(BadInputError):
    """A version of Prisma that stores migrations and their history in another form."""


@dataclass(frozen=True)
class Application:
    """The migrations of the project's Prisma application.

    :ivar folder: The folder of the migrations.
    :ivar disk: The migrations in it.
    :ivar schema: The database schema of the migration history.
    :ivar schemas: All database schemas of the application.
    :ivar typed: The command for Prisma as a user types it.
    """

    folder: Path
    disk: tuple[OnDisk, ...]
    schema: str
    schemas: tuple[str, ...]
    typed: str


@dataclass(frozen=True)
class KnownHistories:
    """The migrations on disk, in the database and in a dump, compared.

    :ivar dump: The dump's path; None if none was given.
    :ivar pending: The migrations that a deploy would apply, in their order.
    :ivar findings: The problems that a deploy on the database would have now.
    """

    application: Application
    target: Target
    dump: Path | None
    compared: tuple[Compared, ...]
    pending: tuple[str, ...]
    findings: tuple[Finding, ...]

    def refuse_undeployed(self) -> None:
        """Raise DifferenceError if a deploy would apply a migration or fail."""
        problems = [str(each) for each in self.findings if each.fatal]
        if problems or self.pending:
            pending = f"Pending in {self.target.label}: {format_list(self.pending)}."
            raise DifferenceError(" ".join([*problems, *([pending] if self.pending else [])]))


def read_application(settings: Settings, target: Target, report: Report) -> Application:
    """Find the application and read its migrations.

    :raises UnsupportedPrismaError: Its Prisma is 8 or newer.
    :raises TaskError: Its folder is ambiguous, or its configuration can't be read.
    """
    home = prisma_home(settings.root, settings.prisma_dir)
    installed = major = None
    typed = "npx prisma"
    # Without Node or Prisma, the migrations can be read from the usual folder.
    with contextlib.suppress(MissingProgramError):
        found = find_prisma(home, settings.environ)
        installed, major, typed = found.package, found.major, found.typed
        if not found.knows_history:
            raise UnsupportedPrismaError(
                f"Prisma {major} stores migrations in another form and their history in another table.",
                state="Nothing was touched.",
                fix=f"`{typed} migration status` shows them.",
            )
    if installed is not None and (config := config_file(home)) is not None:
        report.progress(f"waiting for Prisma to read {config.name}", 0, 0, "")
    folder = migrations_folder(home, installed, major, settings.url().value)
    schema = target.schema or "public"
    schemas = tuple(dict.fromkeys((schema, *listed_schemas(home))))
    return Application(folder=folder, disk=migrations_on_disk(folder), schema=schema, schemas=schemas, typed=typed)


def _find_application(settings: Settings, target: Target, report: Report) -> Application | None:
    """Return the application; warn and return None if its migrations can't be read."""
    try:
        return read_application(settings, target, report)
    except UnsupportedPrismaError:
        return None
    except BadInputError as error:
        report.warn(f"The migrations of this project were not checked: {error}")
        return None


def read_histories(settings: Settings, file: str, report: Report) -> KnownHistories:
    """Compare the migrations on disk, in the database and, if a file is given, in a dump; change nothing.

    :raises TaskError: One of them can't be read.
    """
    target = settings.target()
    found = read_application(settings, target, report)
    path = rows = None
    if file:
        path = choose_dump(settings, file, report)
        known = prove_dump(settings, path, report).histories
        if known is None:
            raise BadInputError(f"{path.name} has its migration history as INSERTs, which can't be read; COPY can.")
        rows = known.get(found.schema, ())
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("Reading the migration history failed", target),
    ):
        history = read_history(connection, found.schema)
        filled = _filled(connection, found)
    findings = forecast_deploy(found.disk, history, filled=filled, prisma=found.typed)
    compared = compare_migrations(found.disk, history or (), rows)
    return KnownHistories(
        application=found,
        target=target,
        dump=path,
        compared=compared,
        pending=tuple(pending_migrations(found.disk, history)),
        findings=tuple(findings),
    )


@dataclass(frozen=True)
class Forecast:
    """The forecast of a deploy on the database.

    :ivar pending: The migrations that it will apply, in their order.
    :ivar history: The database's migration history; None without `_prisma_migrations`.
    :ivar refused: Whether Prisma will refuse it.
    """

    pending: tuple[str, ...]
    history: tuple[AppliedMigration, ...] | None
    refused: bool


def forecast_migrate(settings: Settings, target: Target, connection: Connection, report: Report) -> Forecast | None:
    """Forecast a deploy on the database, and warn of its problems.

    :return: None if the migrations can't be read.
    """
    found = _find_application(settings, target, report)
    if found is None:
        return None
    rows = read_history(connection, found.schema)
    findings = forecast_deploy(found.disk, rows, filled=_filled(connection, found), prisma=found.typed)
    for finding in findings:
        report.warn(f"Prisma will refuse to migrate. {finding}" if finding.fatal else str(finding))
    refused = any(finding.fatal for finding in findings)
    return Forecast(pending=tuple(pending_migrations(found.disk, rows)), history=rows, refused=refused)


def forecast_restore(
    settings: Settings,
    target: Target,
    connection: Connection,
    dump: DumpFile,
    report: Report,
    *,
    clean: bool,
    strict: bool,
    migrates: bool,
) -> None:
    """Forecast a deploy after a restore of this dump, and warn of its problems.

    :param clean: Whether the restore empties the schemas of the dump first.
    :param strict: Raise if the deploy would fail, instead of warning.
    :param migrates: Whether the migrations are applied in the same step; raise if the deploy would fail.
    :raises BadInputError: The deploy would fail; nothing was touched.
    """
    found = _find_application(settings, target, report)
    if found is None or not found.disk or dump.histories is None:
        return
    rows, filled = _afterwards(connection, found, dump, clean=clean)
    findings = forecast_deploy(found.disk, rows, filled=filled, prisma=found.typed)
    for finding in findings:
        message = f"After this restore no migration could be applied. {finding}" if finding.fatal else str(finding)
        if finding.fatal and (strict or migrates):
            raise BadInputError(message, state="Nothing was touched.")
        report.warn(message)
    pending = pending_migrations(found.disk, rows)
    if pending and not any(finding.fatal for finding in findings):
        when = "will be applied in the same step" if migrates else "`inv db.migrate` applies them"
        report.step(f"Pending migrations after this restore ({when}): {format_list(pending)}.")


def _afterwards(
    connection: Connection, found: Application, dump: DumpFile, *, clean: bool
) -> tuple[Sequence[AppliedMigration] | None, bool]:
    """Return the migration history after a restore of the dump, and whether there will be other tables."""
    in_dump = any(schema in dump.outline.schemas for schema in found.schemas)
    rows = (dump.histories or {}).get(found.schema)
    if rows is not None:
        return rows, True
    history = read_history(connection, found.schema)
    if clean and found.schema in dump.outline.schemas:
        history = None
    return history, (in_dump and dump.outline.creates_tables) or (not clean and _filled(connection, found))


def _filled(connection: Connection, found: Application) -> bool:
    return bool(one(connection, _FILLED, [list(found.schemas)])[0])
