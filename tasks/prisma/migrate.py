"""Run the project's own Prisma with the URL unchanged."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from ..config.prisma_home import prisma_home
from ..config.target import Target, sanitize
from ..dumpformat.manifest import SequenceValue, table_rows
from ..errors import BadInputError, OperationFailedError, TaskError
from ..formatting import format_now
from ..inventory.compare import state_to_facts
from ..inventory.snapshot import read_snapshot, read_state
from ..postgres.activity import end_migration, server_time
from ..postgres.connection import connected, server_facts, translated
from ..safety.restore_log import read_record, record_path, write_record
from ..system.processes import run_interactive
from ..system.runtime import Interruption
from .project import Prisma, direct_variables, find_prisma

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..progress import Report


def run_migrations(settings: Settings, report: Report) -> None:
    """Apply the pending migrations, and record the content of the database afterwards for `db.verify`.

    :raises MissingProgramError: Node or Prisma is missing; nothing was touched.
    :raises OperationFailedError: Prisma failed; its output is above.
    """
    target = settings.target()
    refuse_another_database(settings, target)
    prisma = find_migrations_cli(settings)
    if _run(settings, prisma, report, *prisma.deploy()):
        remember_migrations(settings, target, report)


def remember_migrations(settings: Settings, target: Target, report: Report) -> None:
    """Write the rows and objects after the migrations into the record of the last restore; warn if that fails."""
    try:
        _update_record(settings, target)
    except (TaskError, OSError) as error:
        report.warn(
            f"The migrations are applied, but the record for db.verify could not be updated: {target.scrub(str(error))}"
        )


def generate_client(settings: Settings, report: Report) -> None:
    """Run `prisma generate`.

    :raises MissingProgramError: Node or Prisma is missing.
    :raises OperationFailedError: Prisma failed; its output is above.
    """
    prisma = find_migrations_cli(replace(settings, migrate_command=""))
    _run(settings, prisma, report, *prisma.command, "generate")


def find_migrations_cli(settings: Settings) -> Prisma:
    """Return the project's Prisma, with the configured command for migrations.

    :raises TaskError: It is missing, or several folders have one.
    """
    home = prisma_home(settings.root, settings.prisma_dir)
    return find_prisma(home, settings.environ, settings.migrate_command)


def refuse_another_database(settings: Settings, target: Target) -> None:
    """Raise if Prisma would migrate another database than the target.

    :raises BadInputError: The schema's `directUrl` names another database.
    """
    home = prisma_home(settings.root, settings.prisma_dir)
    for name in direct_variables(home):
        if name == settings.url_env:
            continue
        try:
            direct = sanitize(settings.url(name).value)
        except BadInputError:
            # The variable is not set, or libpq can't read the URL: Prisma reports the error.
            continue
        if direct.database != target.database:
            raise BadInputError(
                f"The schema's directUrl uses {name}, which names the database {direct.database}: Prisma would "
                f"migrate that database instead of {target.label}.",
                state="Nothing was touched.",
                fix=f"Set {name} for this command, too.",
            )


def _run(settings: Settings, prisma: Prisma, report: Report, *argv: str) -> bool:
    """Run Prisma on the configured database.

    :return: Whether it ran; False in a dry run.
    """
    command = _shown_command(prisma, argv)
    if settings.dry:
        report.step(f"would run {command} (Prisma {prisma.version or 'of unknown version'})")
        return False
    # Prisma gets the original URL, because libpq's translation drops its parameters (schema=, connection_limit= …).
    extra = {**_direct(settings, prisma), "DATABASE_URL": settings.url().value}
    target = settings.target()
    began = server_time(target)
    report.step(f"Waiting for `{command}`; its output follows.")
    report.progress("", 0, 0, "")
    try:
        code = run_interactive(list(argv), cwd=prisma.home, extra=extra, to_stderr=settings.as_json)
    except Interruption as interruption:
        ended = end_migration(target, began)
        interruption.state = (
            f"{command} was interrupted and has ended"
            + ("; its session on the server was ended, too" if ended else "")
            + ". `inv db.migrations` shows which migrations are applied and which failed."
        )
        raise
    if code != 0:
        state = "Nothing was changed in the database." if argv == (*prisma.command, "generate") else ""
        raise OperationFailedError(f"{command} ended with exit status {code}; its output is above.", state=state)
    return True


def _shown_command(prisma: Prisma, argv: tuple[str, ...]) -> str:
    """Return a command for display: without the program's path."""
    if prisma.command and argv[: len(prisma.command)] == prisma.command:
        return " ".join(("prisma", *argv[len(prisma.command) :]))
    return " ".join(argv)


def _direct(settings: Settings, prisma: Prisma) -> dict[str, str]:
    """Return the variables of `directUrl` with their URLs: with a configuration file, Prisma reads no `.env` itself."""
    found = {}
    for name in {"DIRECT_URL", *direct_variables(prisma.home)}:
        with contextlib.suppress(BadInputError):
            found[name] = settings.url(name).value
    return found


def _update_record(settings: Settings, target: Target) -> None:
    """Write the rows and objects of a migrated database into the record of the last restore, if there is one."""
    with connected(target, lock_timeout=settings.lock_timeout) as connection, translated("Counting failed"):
        server = server_facts(connection)
        path = record_path(settings.dumps, target, server)
        record = read_record(path)
        if record is None or not record.file:
            return
        with read_snapshot(connection):
            found = read_state(connection)
    tables = table_rows(found.rows)
    sequences = tuple(
        SequenceValue(schema=key[0], name=key[1], value=value, is_called=called)
        for key, (value, called) in sorted(found.sequences.items())
    )
    now = format_now()
    write_record(path, replace(record, migrated=now, tables=tables, sequences=sequences, facts=state_to_facts(found)))
