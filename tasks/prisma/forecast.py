"""Foresight: what `prisma migrate deploy` will meet, said before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config.prisma_home import prisma_home
from ..dumpfiles.dump_file import choose_dump, prove_dump
from ..errors import BadInputError, MissingProgramError
from ..formatting import format_list
from ..inventory.snapshot import read_history
from ..postgres.connection import connected, one, translated
from ..system.processes import run_program
from .migrations import (
    compare_migrations,
    foresee_migrations,
    migrations_on_disk,
    pending_migrations,
)
from .project import RENAMED, find_prisma, is_installed, listed_schemas, migrations_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..config.settings import Settings
    from ..config.target import Target
    from ..dumpfiles.dump_file import DumpFile
    from ..dumpformat.applied_migration import AppliedMigration
    from ..postgres.connection import Connection
    from ..progress import Report
    from .migrations import Compared, Finding, OnDisk


# What Prisma looks at: ordinary tables, partitions among them, but none of PostGIS's own.
_FILLED = """
SELECT EXISTS (
  SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = ANY(%s) AND c.relkind = 'r'
     AND pg_catalog.lower(c.relname) NOT IN ('_prisma_migrations', 'spatial_ref_sys', 'raster_columns',
         'raster_overviews'))
"""


class UnsupportedPrismaError(BadInputError):
    """The migrations are of a Prisma that keeps them, and their history, in another form."""


@dataclass(frozen=True)
class Application:
    """The project's Prisma application, as far as its migrations go.

    :ivar folder: Where they lie; `disk` what is in it.
    :ivar schema: Where its history lies; `schemas` all that its tables may lie in.
    :ivar typed: What a person types for its Prisma, and `major` its version, where that is known.
    """

    folder: Path
    disk: tuple[OnDisk, ...]
    schema: str
    schemas: tuple[str, ...]
    typed: str
    major: int | None


@dataclass(frozen=True)
class KnownHistories:
    """The migrations of disk, database and dump side by side.

    :ivar dump: The dump's path; None where none was asked for.
    :ivar findings: What a deploy on the database would meet now.
    """

    application: Application
    target: Target
    dump: Path | None
    compared: tuple[Compared, ...]
    findings: tuple[Finding, ...]


def read_application(settings: Settings, target: Target) -> Application:
    """Find the application and read its migrations.

    :raises ElsewhereError: Its Prisma is 8 or newer.
    :raises TaskError: Its folder or its configuration can't be read without doubt.
    """
    home = prisma_home(settings.root, settings.prisma_dir)
    installed = major = None
    typed = "npx prisma"
    if is_installed(home):
        try:
            found = find_prisma(home, settings.environ)
        except MissingProgramError:
            # Without Node nothing can be run, but migrations can be read where they usually lie.
            pass
        else:
            installed, major, typed = found.package, found.major, found.typed
    if major is not None and major >= RENAMED:
        raise UnsupportedPrismaError(
            f"Prisma {major} keeps its migrations in another form and their history in another table: `{typed} "
            f"migration status` shows them. Nothing was touched."
        )
    folder = migrations_folder(home, installed, major, run_program, settings.url().value)
    schema = target.schema or "public"
    schemas = tuple(dict.fromkeys((schema, *listed_schemas(home))))
    return Application(
        folder=folder, disk=migrations_on_disk(folder), schema=schema, schemas=schemas, typed=typed, major=major
    )


def _find_application(settings: Settings, target: Target, report: Report) -> Application | None:
    """Find the application where there is one with migrations; its troubles are no reason to fail."""
    try:
        found = read_application(settings, target)
    except UnsupportedPrismaError:
        return None
    except BadInputError as error:
        report.warn(f"The migrations of this project are not looked at: {error}")
        return None
    return found


def read_histories(settings: Settings, file: str, report: Report) -> KnownHistories:
    """Put disk, database and, where a file is named, a dump side by side.

    :raises TaskError: One of them can't be read. Nothing is ever changed.
    """
    target = settings.target()
    found = read_application(settings, target)
    path = rows = None
    if file:
        path = choose_dump(settings, file, report)
        known = prove_dump(settings, path, report).histories
        if known is None:
            raise BadInputError(f"{path.name} writes its migration history as INSERTs, which are not read.")
        rows = known.get(found.schema, ())
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("Reading the migration history failed", target),
    ):
        there = read_history(connection, found.schema)
        filled = _filled(connection, found)
    findings = foresee_migrations(found.disk, there, filled=filled, prisma=found.typed)
    compared = compare_migrations(found.disk, there or (), rows)
    return KnownHistories(application=found, target=target, dump=path, compared=compared, findings=tuple(findings))


@dataclass(frozen=True)
class Forecast:
    """What a deploy on the database will meet.

    :ivar pending: The migrations that it will apply, in their order.
    :ivar history: The database's; None without `_prisma_migrations`.
    :ivar refused: Whether Prisma will refuse it.
    """

    pending: tuple[str, ...]
    history: tuple[AppliedMigration, ...] | None
    refused: bool


def forecast_migrate(settings: Settings, target: Target, connection: Connection, report: Report) -> Forecast | None:
    """Say what a deploy on the database will meet.

    :return: None where the migrations can't be read; a warning has said why.
    """
    found = _find_application(settings, target, report)
    if found is None:
        return None
    rows = read_history(connection, found.schema)
    findings = foresee_migrations(found.disk, rows, filled=_filled(connection, found), prisma=found.typed)
    for finding in findings:
        report.warn(f"Prisma will refuse this. {finding}" if finding.fatal else str(finding))
    refused = any(finding.fatal for finding in findings)
    return Forecast(pending=tuple(pending_migrations(found.disk, rows)), history=rows, refused=refused)


def read_deployed(settings: Settings, target: Target, connection: Connection) -> tuple[AppliedMigration, ...] | None:
    """Read the database's history again, as :class:`Forecast` has it."""
    return read_history(connection, read_application(settings, target).schema)


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
    """Say what a deploy would meet after a restore of this dump.

    :param clean: The restore empties the schemas of the dump first.
    :param strict: Refuse what would stop the deploy, instead of warning.
    :param migrates: The migrations are applied in the same step; refuse what would stop the deploy.
    :raises BadInputError: Something would; nothing was touched.
    """
    found = _find_application(settings, target, report)
    if found is None or not found.disk or dump.histories is None:
        return
    rows, filled = _afterwards(connection, found, dump, clean=clean)
    findings = foresee_migrations(found.disk, rows, filled=filled, prisma=found.typed)
    for finding in findings:
        words = f"After this restore no migration could be applied. {finding}" if finding.fatal else str(finding)
        if finding.fatal and (strict or migrates):
            raise BadInputError(f"{words} Nothing was touched.")
        report.warn(words)
    waiting = pending_migrations(found.disk, rows)
    if waiting and not any(finding.fatal for finding in findings):
        whose = "applied in the same step" if migrates else "for `inv db.migrate`"
        report.step(f"Pending after this restore, {whose}: {format_list(waiting)}.")


def _afterwards(
    connection: Connection, found: Application, dump: DumpFile, *, clean: bool
) -> tuple[Sequence[AppliedMigration] | None, bool]:
    """Tell which history a restore of the dump leaves, and whether there will be tables beside it."""
    ours = any(schema in dump.outline.schemas for schema in found.schemas)
    rows = (dump.histories or {}).get(found.schema)
    if rows is not None:
        return rows, True
    there = read_history(connection, found.schema)
    if clean and found.schema in dump.outline.schemas:
        there = None
    return there, (ours and dump.outline.creates_tables) or (not clean and _filled(connection, found))


def _filled(connection: Connection, found: Application) -> bool:
    return bool(one(connection, _FILLED, [list(found.schemas)])[0])
