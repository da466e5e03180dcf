"""Make a staging database that is like the configured one with its schemas emptied, and compare it before it is loaded.

pg_dump says what the schemas and the objects without a schema are; the catalogue, what extensions and the database
itself have. Whatever can't be made again, or is different when it is read back, makes a swap impossible.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from psycopg import sql

from ..dumpfiles.atomic_write import delete_stale_parts
from ..errors import TaskError
from ..formatting import format_now
from ..inventory.requirements import CreatedRoles
from ..postgres.connection import connect, connected, read_endpoint, refuse_another_endpoint, server_facts, translated
from ..postgres.databases import create_database, options_like
from ..postgres.schemas import Content, existing_schemas
from ..safety.database_properties import access_statements, read_database_properties, settings_statements
from ..safety.method import SwapObstacle, SwapReason, SwapUnavailableError
from ..safety.own_databases import (
    CREATING,
    DatabaseRecord,
    Role,
    delete_database_record,
    mark_statement,
    own_databases,
    server_identity,
    staging_name,
    unfinished_databases,
    write_database_record,
)
from ..safety.scratch_database import drop_database, is_unlocked, on_database, try_drop
from ..system.runtime import Interruption
from .carry_over import carry_over, reading_statements

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..config.target import Target
    from ..postgres.connection import Connection
    from ..progress import Report
    from ..restore.plan import RestorePlan
    from ..safety.database_properties import DatabaseProperties
    from .carry_over import Statements


# The advisory lock that a restore holds in its staging database: a fixed number made of the letters of "staging".
LOCK = 7891649720
_DEFAULT_TABLESPACE = "pg_default"


@dataclass
class Staging:
    """A staging database, ready to be loaded.

    :ivar plan: The plan of the restore into it.
    :ivar lock: The session that holds the advisory lock in it.
    :ivar kept: Set to keep it when the block raises, because `db.restore --finish` will use it.
    """

    record: DatabaseRecord
    plan: RestorePlan
    lock: Connection
    kept: bool = False


@contextlib.contextmanager
def staging_database(plan: RestorePlan, report: Report) -> Iterator[Staging]:
    """Create a staging database. It is dropped if the block raises, unless :attr:`Staging.kept` is set.

    :raises SwapUnavailableError: It can't be made like the configured one. Nothing was changed.
    """
    settings, maintenance = plan.settings, on_database(plan.target, plan.method.maintenance)
    report.progress("creating the staging database", 0, 0, "")
    record = staging = None
    roles = CreatedRoles(maintenance)
    try:
        with (
            _unavailable(plan.target),
            connected(plan.target, lock_timeout=settings.lock_timeout) as live,
            reading_statements(plan, plan.target, live) as statements,
        ):
            with connected(maintenance, lock_timeout=settings.lock_timeout) as session:
                refuse_another_endpoint(session, replace(plan.endpoint, database=plan.method.maintenance))
                properties = read_database_properties(live, plan.method.oid)
                record = _new_record(plan, session, properties)
                record = _create(plan, session, live, properties, record)
            staging = _prepare(plan, record, live, statements)
            roles.create(plan.new_roles, settings.lock_timeout)
        yield staging
    except BaseException:
        if staging is not None:
            staging.lock.close()
        if record is not None and (staging is None or not staging.kept):
            # The first error has the state of the databases. The next restore drops what remains.
            with contextlib.suppress(TaskError):
                drop_database(maintenance, record.database)
                delete_database_record(settings.dumps, record)
            roles.drop()
        raise
    staging.lock.close()


def _new_record(plan: RestorePlan, session: Connection, properties: DatabaseProperties) -> DatabaseRecord:
    return DatabaseRecord(
        role=Role.STAGING,
        server=server_identity(session, plan.target),
        database=staging_name(plan.server.database),
        # Not yet known.
        oid=0,
        of=plan.server.database,
        of_oid=plan.method.oid,
        made=format_now("milliseconds"),
        # An owner could connect, and create what the script of an extension calls. So a superuser owns it until the
        # swap.
        owner=plan.server.user if plan.server.superuser else properties.owner,
        command=f"db.restore {plan.dump.path.name}",
        settings=properties.settings_digest,
    )


def _create(
    plan: RestorePlan, session: Connection, live: Connection, properties: DatabaseProperties, record: DatabaseRecord
) -> DatabaseRecord:
    """Create a staging database, mark it as ours, and give it the settings of the configured one.

    Its record is written before, so that a kill cannot leave a database without one.

    :return: The record, with the oid.
    """
    folder, name = plan.settings.dumps, record.database
    options = sql.SQL(" OWNER {}").format(sql.Identifier(record.owner))
    # Naming template0's own tablespace would need the right to create in it.
    if properties.tablespace != _DEFAULT_TABLESPACE:
        options += sql.SQL(" TABLESPACE {}").format(sql.Identifier(properties.tablespace))
    session.execute("SELECT pg_catalog.pg_advisory_lock_shared(%s)", [CREATING])
    write_database_record(folder, record)
    record = replace(record, oid=create_database(session, name, options_like(live) + options))
    session.execute(mark_statement(name, Role.STAGING, plan.server.database, properties.comment))
    write_database_record(folder, record)
    session.execute("SELECT pg_catalog.pg_advisory_unlock_shared(%s)", [CREATING])
    for statement in settings_statements(properties, name):
        session.execute(statement)
    _try_access(session, name, record.oid, properties)
    return record


def _try_access(session: Connection, name: str, oid: int, properties: DatabaseProperties) -> None:
    """Set in a transaction what belongs to the database, compare it, and roll back: it is set again in the swap.

    :raises SwapUnavailableError: It is not the same afterwards.
    """
    session.execute("BEGIN")
    for statement in access_statements(properties, name):
        session.execute(statement)
    found = read_database_properties(session, oid)
    session.execute("ROLLBACK")
    if set(found.grants) != set(properties.grants):
        raise SwapUnavailableError(SwapReason(SwapObstacle.DIFFERS, "the grants on the database"))
    for field in fields(properties):
        if field.name != "grants" and getattr(found, field.name) != getattr(properties, field.name):
            what = f"the database's {field.name.replace('_', ' ')}"
            raise SwapUnavailableError(SwapReason(SwapObstacle.DIFFERS, what))


def _prepare(plan: RestorePlan, record: DatabaseRecord, live: Connection, statements: Statements) -> Staging:
    target, settings = on_database(plan.target, record.database), plan.settings
    lock = connect(target, lock_timeout=settings.lock_timeout)
    try:
        lock.execute("SELECT pg_catalog.pg_advisory_lock(%s)", [LOCK])
        carry_over(plan, live, statements, target)
        staged = _staged_plan(plan, target, lock)
    except BaseException:
        lock.close()
        raise
    return Staging(record=record, plan=staged, lock=lock)


def _staged_plan(plan: RestorePlan, target: Target, session: Connection) -> RestorePlan:
    """Return the plan of the restore into the staging database, in which nothing can be lost."""
    server = server_facts(session)
    existing = existing_schemas(session, plan.fills)
    present = tuple(name for name in plan.fills if name in existing)
    return replace(
        plan,
        # The only other session is the one that holds our lock.
        request=replace(plan.request, disconnect=False),
        target=target,
        server=server,
        endpoint=read_endpoint(session, server),
        present_schemas=present,
        emptied=present if plan.request.clean else (),
        removed=Content(tables=0, rows=0, locks=0, bytes=0),
        changed=(),
        existing=(),
        objects_outside=0,
        reload_doubt="",
        makes_safety_dump=False,
        new_roles=(),
        private=True,
    )


@contextlib.contextmanager
def _unavailable(target: Target) -> Iterator[None]:
    """Turn refusals of the server and of pg_dump into the reason why a swap is not possible."""
    try:
        with translated("The server refused", target):
            yield
    except (SwapUnavailableError, Interruption):
        raise
    except TaskError as error:
        raise SwapUnavailableError(SwapReason(SwapObstacle.REFUSED, str(error).rstrip(".")), type(error)) from None


def delete_leftover_staging_databases(target: Target, database: str, maintenance: Target, folder: Path) -> list[str]:
    """Drop the staging databases of killed restores, and those of a database that wait for `db.restore --finish`.

    A database is dropped only if it is ours (:func:`own_databases`), no session uses it, and its advisory lock is free.

    :param database: The name of the configured database.
    :return: Their names.
    """
    delete_stale_parts(folder)
    dropped = []
    with connected(maintenance) as connection, translated("Looking for staging databases failed, nothing was changed"):
        for own in own_databases(connection, target, folder, Role.STAGING):
            name = own.record.database
            if own.record.ready and own.record.of != database:
                continue
            if not own.used and is_unlocked(target, name, LOCK) and try_drop(connection, name):
                delete_database_record(folder, own.record)
                dropped.append(name)
        for record in unfinished_databases(connection, target, folder):
            if try_drop(connection, record.database):
                delete_database_record(folder, record)
                dropped.append(record.database)
    return dropped
