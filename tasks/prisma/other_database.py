"""Run the project's migrations in another database than the configured one: a scratch or a staging database."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from typing import TYPE_CHECKING

from dotenv import dotenv_values

from ..config.database_url import with_database
from ..config.prisma_home import prisma_home
from ..errors import BadInputError, OperationFailedError
from ..postgres.connection import connected
from ..safety.scratch_database import PREFIX, scratch_history
from ..system.processes import run_interactive, run_program
from .project import Prisma, find_prisma, is_installed

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..config.target import Target
    from ..postgres.connection import Connection
    from ..progress import Report


class AnotherDatabaseError(BadInputError):
    """Prisma runs, but it does not read the database that the environment names."""


_POSTGRES = re.compile(r"\s*(prisma\+)?postgres(ql)?:", re.IGNORECASE)
_STATUS_SECONDS = 120.0
# The server counts a session at its end at the latest; PostgreSQL 14 writes the counters about twice a second.
_COUNTING_SECONDS, _PAUSE = 2.0, 0.05
# A session that ended before Prisma started may be counted late, and is not taken for Prisma's a second time.
_LOOKS = 2
_SESSIONS = "SELECT s.sessions FROM pg_catalog.pg_stat_database s WHERE s.datname = %s"


def find_redirectable_prisma(settings: Settings, report: Report) -> Prisma | None:
    """Return the project's Prisma, if it can be made to migrate another database; else None.

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


def migrate_other_database(settings: Settings, prisma: Prisma, database: str, report: Report) -> float:
    """Apply the pending migrations in a database, and return the seconds that it took.

    :raises OperationFailedError: Prisma failed; its output is above.
    """
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
    """Return an environment in which every variable with a PostgreSQL URL names another database.

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


def refuse_fixed_url(settings: Settings, prisma: Prisma, other: Target) -> None:
    """Raise unless Prisma lists a migration whose name only the other database contains.

    The URL that Prisma prints is no proof: with a driver adapter it uses another one.

    :param other: A database without a migration history.
    :raises AnotherDatabaseError: Prisma would migrate another database: its schema or configuration contains a fixed
        URL. It succeeded, or it connected to the configured database.
    :raises OperationFailedError: Prisma failed before it connected to one of the two, as it would in the real run.
    """
    name = f"0_{secrets.token_hex(8)}"
    with scratch_history(other, name), connected(other) as connection:
        looks = 1
        while True:
            before = _count_sessions(connection, settings)
            status = run_program(
                [*prisma.command, "migrate", "status"],
                cwd=prisma.home,
                extra=_environment(settings, prisma, other.database),
                timeout=_STATUS_SECONDS,
            )
            output = f"{status.stdout}\n{status.stderr}"
            if name in output:
                return
            reads_another = status.returncode == 0 or _has_connected(connection, settings, before)
            if status.returncode == 0 or not reads_another or looks == _LOOKS:
                break
            looks += 1
    printed = f"Prisma printed: {settings.target().scrub(output.strip()[-500:])}"
    if reads_another:
        raise AnotherDatabaseError(
            f"Prisma does not read the scratch database, so it might migrate another one. Nothing was touched. "
            f"{printed}",
            fix="Take the URL from DATABASE_URL in Prisma's schema and configuration.",
        )
    raise OperationFailedError(
        f"No migration can be applied: `prisma migrate status` failed with exit status {status.returncode} before it "
        f"connected to a database. {printed}"
    )


def _count_sessions(connection: Connection, settings: Settings) -> int:
    """Return how many sessions the configured database has had, as far as the server has counted them."""
    row = connection.execute(_SESSIONS, [settings.target().database]).fetchone()
    return int(row[0]) if row else 0


def _has_connected(connection: Connection, settings: Settings, before: int) -> bool:
    """Return whether a session has connected to the configured database since a count."""
    deadline = time.monotonic() + _COUNTING_SECONDS
    while _count_sessions(connection, settings) <= before:
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True
