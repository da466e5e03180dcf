"""Restore into a new database: a scratch database that gets its final name when it is loaded, verified and migrated."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..dumpfiles.dump_file import newest_dump_of
from ..dumpfiles.paths import find_dump_file
from ..errors import BadInputError
from ..formatting import format_list
from ..inventory.requirements import CreatedRoles
from ..postgres.connection import connected, read_endpoint, server_facts, translated
from ..postgres.databases import database_exists
from ..postgres.login_failure import NotConnectedError
from ..postgres.schemas import read_content
from ..prisma.migrate import remember_migrations
from ..prisma.other_database import find_redirectable_prisma
from ..restore.clear import count_large_objects, user_schemas
from ..restore.restore import remember_restore
from ..safety.guard import guarded_connection, refuse_protected, require_confirmation, unprotected_target
from ..safety.method import Method
from ..safety.scratch_database import (
    connection_without_database,
    delete_leftover_scratch_databases,
    on_database,
    scratch_database,
)
from ..system.runtime import interruptions_say
from .rehearse import errors_say, plan_in_scratch, restore_in_scratch

if TYPE_CHECKING:
    from pathlib import Path

    from ..config.settings import Settings
    from ..config.target import Target
    from ..postgres.connection import Connection, Endpoint, ServerFacts
    from ..prisma.project import Prisma
    from ..progress import Report
    from ..restore.request import RestoreRequest
    from ..restore.restore import Restored


_LONGEST_NAME = 63


@dataclass(frozen=True, kw_only=True)
class NewDatabase:
    """The plan of a restore into a database that does not exist yet.

    :ivar target: The new database.
    :ivar source: An existing database of the server, like which it is created.
    :ivar prisma: The Prisma that migrates it; None migrates nothing.
    """

    settings: Settings
    request: RestoreRequest
    target: Target
    source: Target
    dump: Path
    prisma: Prisma | None


def plan_restore_into(
    settings: Settings, request: RestoreRequest, name: str, report: Report, *, confirm: str = ""
) -> NewDatabase:
    """Plan a restore into a new database on the server of the configured one.

    :param name: The name of the new database.
    :param confirm: The value of `--confirm`.
    :raises TaskError: A database has this name, or the configuration protects it. Nothing was touched.
    """
    source = settings.target()
    target = on_database(source, name)
    refuse_protected(settings, target)
    with (
        connected(source, lock_timeout=settings.lock_timeout) as connection,
        translated("Reading the server's version and settings failed, and nothing was touched", source),
    ):
        server = server_facts(connection)
        endpoint = read_endpoint(connection, server)
        _refuse_name(connection, name)
        _guard(settings, target, endpoint, confirm)
        dump = _choose_dump(settings, request, server, endpoint, report)
    prisma = _find_prisma(settings, request, report)
    return NewDatabase(settings=settings, request=request, target=target, source=source, dump=dump, prisma=prisma)


def plan_creation(
    settings: Settings, request: RestoreRequest, report: Report, *, confirm: str = ""
) -> NewDatabase | RestoreRequest:
    """Plan a restore that creates the configured database if it does not exist.

    :param confirm: The value of `--confirm`.
    :return: The request of an ordinary restore if the database exists.
    :raises TaskError: The database exists and holds objects, or can't be created. Nothing was touched.
    """
    target = unprotected_target(settings)
    try:
        with guarded_connection(settings, target) as (connection, _, _):
            return _existing(connection, target, request)
    except NotConnectedError as error:
        failure = error
    with connection_without_database(settings, target, failure) as (connection, server, endpoint):
        source = on_database(target, connection.info.dbname)
        _refuse_name(connection, target.database)
        _guard(settings, target, endpoint, confirm)
        dump = _choose_dump(settings, request, server, endpoint, report)
    prisma = _find_prisma(settings, request, report)
    return NewDatabase(settings=settings, request=request, target=target, source=source, dump=dump, prisma=prisma)


def _existing(connection: Connection, target: Target, request: RestoreRequest) -> RestoreRequest:
    """Return the request of the restore into a database that exists; with `--clean`, it may hold objects.

    :raises BadInputError: It holds objects.
    """
    if request.clean:
        return request
    content = read_content(connection, user_schemas(connection))
    if not content.is_empty or count_large_objects(connection):
        raise BadInputError(
            f"{target.label} exists already and is not empty. Nothing was touched.",
            fix="To replace its content, add --clean.",
        )
    # Migrations need a clean restore, which deletes nothing here.
    return replace(request, clean=request.migrate, method=Method.TRANSACTION)


def _refuse_name(connection: Connection, name: str) -> None:
    if len(name.encode()) > _LONGEST_NAME:
        raise BadInputError(f"The name {name} is longer than {_LONGEST_NAME} bytes. Nothing was touched.")
    if database_exists(connection, name):
        raise BadInputError(
            f"A database {name} exists already on this server. Nothing was touched.",
            fix="Use another name. To replace its content, use its URL and `inv db.restore --clean`.",
        )


def _guard(settings: Settings, target: Target, endpoint: Endpoint, confirm: str) -> None:
    """Raise if the configuration protects the new database, or another name was confirmed."""
    new = replace(endpoint, database=target.database)
    refuse_protected(settings, target, new)
    require_confirmation(target.label, new, "", confirm, None)


def _choose_dump(
    settings: Settings, request: RestoreRequest, server: ServerFacts, endpoint: Endpoint, report: Report
) -> Path:
    if request.file:
        return find_dump_file(request.file, settings.dumps, settings.cwd)
    return newest_dump_of(settings, server, endpoint, report)


def _find_prisma(settings: Settings, request: RestoreRequest, report: Report) -> Prisma | None:
    if not request.migrate:
        return None
    prisma = find_redirectable_prisma(settings, report)
    if prisma is None:
        raise BadInputError("--migrate needs the project's Prisma, which can't be used here. Nothing was touched.")
    return prisma


def restore_into_new(plan: NewDatabase, report: Report) -> Restored:
    """Restore a dump into a new database, verify and migrate it, and record the restore for `db.verify`.

    Only its owner and superusers can connect before it has its name. If anything fails, it is dropped, and so are the
    roles that were created for it.

    :raises TaskError: The restore or the migrations failed. The new database does not exist.
    """
    began, settings, name = time.monotonic(), plan.settings, plan.target.database
    if removed := delete_leftover_scratch_databases(plan.source, settings.dumps):
        report.step(f"Databases of restores that had not finished were deleted: {format_list(removed)}.")
    state = f"{plan.target.label} was not created."
    request = replace(plan.request, file=str(plan.dump), migrate=False, method=Method.TRANSACTION)
    roles = CreatedRoles(plan.source)
    try:
        with (
            scratch_database(plan.source, settings.dumps, keep_as=name) as scratch,
            errors_say(state),
            interruptions_say(state),
        ):
            planned = plan_in_scratch(settings, request, scratch, settings.target(), plan.prisma, report)
            roles.create(planned.new_roles, settings.lock_timeout)
            restored = restore_in_scratch(replace(planned, new_roles=()), plan.prisma, report)
    except BaseException:
        roles.drop()
        raise
    found = restored.plan
    done = replace(
        found,
        request=plan.request,
        target=plan.target,
        server=replace(found.server, database=name),
        endpoint=replace(found.endpoint, database=name),
    )
    if restored.record is not None:
        remember_restore(done, replace(restored.record, database=plan.target.label), report)
    if restored.migrated is not None:
        remember_migrations(plan.settings, plan.target, report)
    return replace(restored, plan=done, seconds=time.monotonic() - began, created=True)
