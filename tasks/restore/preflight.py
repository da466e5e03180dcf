"""Check what a restore needs of the server, before anything is changed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from ..dumpformat.tokens import is_system_schema
from ..errors import BadInputError, ServerError
from ..formatting import format_count, format_list
from ..inventory.requirements import Accepted, find_missing
from ..postgres.activity import LOCK, disconnect_sessions, read_activity, terminate_blockers
from ..postgres.catalog_filters import no_member
from ..postgres.connection import Connection, Endpoint, ServerFacts, one, read_names
from ..postgres.lock_capacity import read_lock_capacity
from ..postgres.roles import closed_schemas, may_create_schemas, unowned_objects
from ..postgres.schemas import Content, existing_schemas
from ..safety.guard import nonlocal_reason
from ..safety.safety_dump import check_pg_dump

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ..config.settings import Settings
    from ..config.target import Target
    from ..dumpfiles.dump_file import DumpFile
    from ..progress import Report


# From this major on a superuser may turn them off (manual, 19.11).
_EVENT_TRIGGERS_OFF = 17
_SHOWN = 3
_USE_OWNER = "Name the owner's URL with --url-env; `inv db.doctor` lists what else is missing."


@dataclass(frozen=True, kw_only=True)
class ChangePlan:
    """The plan of a restore or a reset.

    :ivar endpoint: The host, port and database that the connection reaches.
    :ivar emptied: The schemas that will be emptied.
    :ivar kept: The other schemas.
    :ivar removed: The content of the schemas that the restore fills or the reset empties.
    :ivar nonlocal_reason: Why the database does not count as local; empty if it does, or if nothing is deleted.
    :ivar makes_safety_dump: Make a safety dump first.
    :ivar undo_needs_trust: The undo needs `--trust`, because other roles own objects.
    :ivar reload_doubt: Why the safety dump may not load, so that it is loaded as a trial; empty without a reason.
    """

    settings: Settings
    target: Target
    server: ServerFacts
    endpoint: Endpoint
    emptied: tuple[str, ...]
    kept: tuple[str, ...]
    removed: Content
    nonlocal_reason: str = ""
    makes_safety_dump: bool = False
    undo_needs_trust: bool = False
    reload_doubt: str = ""

    @property
    def tries_undo(self) -> bool:
        """Return whether the safety dump may be loaded without a question, as a trial."""
        return not self.undo_needs_trust

    @property
    def undo_command(self) -> str:
        """Return the command that restores the safety dump."""
        name = self.endpoint.database if self.nonlocal_reason else ""
        return self.settings.undo_command(trust=self.undo_needs_trust, name=name)

    @property
    def destroys(self) -> bool:
        """Return whether an existing object will be deleted, replaced or changed."""
        return not self.removed.is_empty

    def complete(self, *, backup: bool, always: bool = False) -> Self:
        """Return the plan with `makes_safety_dump` and `nonlocal_reason`.

        :param backup: Make a safety dump first if anything will be deleted.
        :param always: Make a safety dump in any case.
        :raises TaskError: pg_dump, which makes it, is missing.
        """
        makes_safety_dump = (self.destroys and backup and self.settings.safety_dumps > 0) or always
        if makes_safety_dump:
            check_pg_dump(self.settings, self.server)
        return replace(
            self,
            makes_safety_dump=makes_safety_dump,
            nonlocal_reason=nonlocal_reason(self.settings, self.endpoint) if self.destroys else "",
        )


def begin_change(connection: Connection) -> str:
    """Begin a transaction with Prisma's advisory lock, so that a deploy waits until it ends, and return its id.

    :raises ServerError: Another session holds the lock. Nothing was touched.
    """
    # Defaults may differ. With a fixed snapshot, changes committed while waiting for a lock would be invisible.
    connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE")
    if not one(connection, "SELECT pg_catalog.pg_try_advisory_xact_lock(%s)", [LOCK])[0]:
        pids = ", ".join(str(pid) for pid in read_activity(connection).migrating)
        raise ServerError(
            f"A Prisma migration or another restore is running on this database: pid {pids or 'unknown'} holds "
            f"Prisma's advisory lock. Nothing was touched.",
            fix="Wait until it has ended, then run this again.",
        )
    return str(one(connection, "SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text")[0])


@contextlib.contextmanager
def disconnect_others(connection: Connection, target: Target, report: Report, *, enabled: bool) -> Iterator[None]:
    """End the other sessions of the database, and new sessions that block this one while the context is open.

    Warn of sessions that the role may not end.

    :param enabled: Whether --disconnect was given; otherwise no session is ended.
    :raises ServerError: A session did not end. Nothing was touched.
    """
    if not enabled:
        yield
        return
    ended = disconnect_sessions(connection)
    if ended.count:
        report.step(f"{format_count(ended.count, 'other session')} of {target.label} ended.")
    if ended.left:
        report.warn(
            f"These sessions were not ended, because only their own role, pg_signal_backend or a superuser may do so: "
            f"{format_list(ended.left, _SHOWN, '; ')}."
        )
    with terminate_blockers(target, connection):
        yield


def silence_event_triggers(connection: Connection, server: ServerFacts, *, session: bool = False) -> bool:
    """Turn off the database's event triggers in the open transaction, if the role and the server allow it.

    :param session: Turn them off until the session ends.
    :return: Whether they are off.
    """
    silent = server.superuser and server.major >= _EVENT_TRIGGERS_OFF
    if silent:
        connection.execute("SELECT pg_catalog.set_config('event_triggers', 'off', %s)", [not session])
    return silent


def warn_of_event_triggers(connection: Connection, server: ServerFacts, dump: DumpFile, report: Report) -> None:
    """Warn of event triggers that run during the restore."""
    if server.superuser and server.major >= _EVENT_TRIGGERS_OFF:
        return
    triggers = read_names(
        connection,
        "SELECT e.evtname FROM pg_catalog.pg_event_trigger e WHERE e.evtenabled IN ('O', 'A')"
        f" AND {no_member('pg_event_trigger', 'e.oid')} ORDER BY 1",
    )
    names = [name for name in triggers if f"event trigger {name}" not in dump.outline.globals]
    if names:
        report.warn(f"Event triggers of the database run during the restore and may change it: {', '.join(names)}")


def check_restore(
    connection: Connection,
    server: ServerFacts,
    dump: DumpFile,
    removed: Content,
    *,
    clean: bool,
    accepted: Accepted,
    report: Report,
) -> None:
    """Check the conditions that would make the restore fail later.

    :param removed: The present content of the dump's schemas.
    :param accepted: Missing objects that are left out or created.
    :raises BadInputError: Something is missing; the message names all of it, with the commands. Nothing was touched.
    """
    if server.in_recovery:
        raise BadInputError("The server is a standby, which is read-only.", fix="Use the primary's URL.")
    if clean and not dump.outline.creates_tables:
        raise BadInputError(
            f"{dump.path.name} contains rows but creates no table (it was made with --data-only), and --clean would "
            f"delete the tables for these rows. Nothing was touched.",
            fix="Restore it without --clean.",
        )
    if clean and dump.outline.unqualified:
        raise BadInputError(
            f"{dump.path.name} names objects without their schema (as pg_dump before 10.3 did), so the schemas that "
            f"--clean must empty are unknown. Nothing was touched.",
            fix="Restore it into an empty database, without --clean.",
        )
    if clean and (own := next(filter(is_system_schema, dump.outline.schemas), None)) is not None:
        raise BadInputError(
            f"{dump.path.name} creates objects in PostgreSQL's own schema {own}, which pg_dump never does and "
            f"--clean must not empty. Nothing was touched."
        )
    if clean and not dump.outline.schemas:
        report.warn("The dump fills no schema, so --clean empties nothing.")
    if not server.superuser and dump.outline.creates_tables:
        _refuse_missing_rights(connection, server, dump.outline.schemas, clean=clean)
    _refuse_missing(connection, server, dump, accepted)
    taken = dump.outline.takes
    # Without --clean, a dump drops at most the objects that it creates. Dropping an object takes up to three times the
    # locks of creating it (a domain, its array type and its constraint).
    warn_of_locks(connection, taken + (removed.locks if clean else min(removed.locks, 3 * taken)), report)
    _warn_of_version(server, dump, report)


def _refuse_missing_rights(
    connection: Connection, server: ServerFacts, filled: Collection[str], *, clean: bool
) -> None:
    existing = existing_schemas(connection, filled)
    denied = ""
    if closed := closed_schemas(connection, existing):
        denied = f"create objects in the schema {closed[0]}"
    elif len(existing) < len(filled) and not may_create_schemas(connection):
        denied = f"create the schema {next(name for name in filled if name not in existing)}"
    if denied:
        raise BadInputError(
            f"{server.user} may not {denied}, which the dump fills. Nothing was touched.", fix=_USE_OWNER
        )
    if clean:
        refuse_unowned(connection, server, existing)


def refuse_unowned(connection: Connection, server: ServerFacts, emptied: Collection[str]) -> None:
    """Raise if schemas contain objects that the role may not drop.

    :raises BadInputError: There is such an object; the message names the first. Nothing was touched.
    """
    if not server.superuser and (found := unowned_objects(connection, emptied)):
        raise BadInputError(
            f"{server.user} may not drop {format_list(found, 1)}, which another role owns. Nothing was touched.",
            fix=_USE_OWNER,
        )


def _refuse_missing(connection: Connection, server: ServerFacts, dump: DumpFile, accepted: Accepted) -> None:
    if unknown := [name for name in accepted.extensions if name not in dump.outline.extensions]:
        raise BadInputError(f"{dump.path.name} creates no extension {unknown[0]} to skip. Nothing was touched.")
    if missing := find_missing(connection, server, dump.outline, accepted):
        raise BadInputError(f"{'. '.join(missing)}. Nothing was touched.")


def warn_of_locks(connection: Connection, needed: int, report: Report) -> None:
    """Warn if one transaction may run out of locks. The server does not report its exact capacity."""
    found = read_lock_capacity(connection, needed)
    if not found.suffice:
        report.warn(
            f"One transaction needs about {found.needed:,} locks, and the server can hold about {found.room:,}. If "
            f"they run out, the transaction is rolled back. {found.remedy} to avoid this."
        )


def _warn_of_version(server: ServerFacts, dump: DumpFile, report: Report) -> None:
    major = dump.server.split(".")[0]
    if major.isdigit() and int(major) > server.major:
        report.warn(
            f"The dump was made by PostgreSQL {dump.server}, and the server is {server.version}. If the dump uses a "
            f"feature that the server lacks, the restore is rolled back."
        )
