"""What a restore needs of the server, asked before anything is touched."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from ..dumpformat.tokens import is_system_schema
from ..errors import BadInputError, ServerError
from ..formatting import format_count, format_list
from ..inventory.requirements import find_missing
from ..postgres.activity import LOCK, disconnect_sessions, read_activity, terminate_blockers
from ..postgres.catalog_filters import no_member
from ..postgres.connection import one
from ..postgres.lock_capacity import read_lock_capacity
from ..postgres.roles import closed_schemas, may_create_schemas, unowned_objects
from ..postgres.schemas import existing_schemas
from ..safety.guard import nonlocal_reason
from ..safety.safety_dump import check_pg_dump

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ..config.settings import Settings
    from ..config.target import Target
    from ..dumpfiles.dump_file import DumpFile
    from ..inventory.requirements import Accepted
    from ..postgres.connection import Connection, Endpoint, ServerFacts
    from ..postgres.schemas import Content
    from ..progress import Report


# From this major on a superuser may turn them off (manual, 19.11).
_EVENT_TRIGGERS_OFF = 17
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class ChangePlan:
    """What a restore or a reset will do to a database.

    :ivar endpoint: Where the connection really leads.
    :ivar nonlocal_reason: Why that does not count as local, where anything is lost.
    :ivar emptied: The schemas that will be emptied; `kept` the others.
    :ivar removed: What lies in the schemas that the restore fills, or the reset empties.
    :ivar makes_safety_dump: Whether a safety dump of it is made first.
    :ivar reload_doubt: Why the safety dump may not load, so that it is tried; empty without a reason.
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
        """Whether the safety dump may be loaded without a question, to see that it can be."""
        return not self.undo_needs_trust

    @property
    def undo_command(self) -> str:
        """The command that restores the safety dump of this."""
        name = self.endpoint.database if self.nonlocal_reason else ""
        return self.settings.undo_command(trust=self.undo_needs_trust, name=name)

    @property
    def destroys(self) -> bool:
        """Whether anything that exists will be deleted, replaced or changed."""
        return not self.removed.is_empty

    def complete(self, *, backup: bool, always: bool = False) -> Self:
        """Return the plan with what follows from whether anything is lost.

        :param backup: Make a safety dump first where anything is; with `always`, in any case.
        :raises TaskError: It could not be made.
        """
        makes_safety_dump = (self.destroys and backup and self.settings.safety_dumps > 0) or always
        if makes_safety_dump:
            check_pg_dump(self.settings, self.server)
        return replace(
            self,
            makes_safety_dump=makes_safety_dump,
            nonlocal_reason=nonlocal_reason(self.settings, self.endpoint) if self.destroys else "",
        )


def lock_out_migrations(connection: Connection) -> None:
    """Take Prisma's own lock until the open transaction ends: a deploy then waits.

    :raises ServerError: A migration holds it. Nothing was touched.
    """
    if not one(connection, "SELECT pg_catalog.pg_try_advisory_xact_lock(%s)", [LOCK])[0]:
        pids = ", ".join(str(pid) for pid in read_activity(connection).migrating)
        raise ServerError(
            f"A Prisma migration is running on this database, or another restore (pid {pids or 'unknown'} holds "
            f"Prisma's advisory lock). "
            f"Nothing was touched; wait for it, then run again."
        )


@contextlib.contextmanager
def disconnect_others(connection: Connection, target: Target, report: Report, *, wanted: bool) -> Iterator[None]:
    """End the other sessions of the database, and those that come back into our way as long as a block runs.

    Those that the role may not end are named: they may be in the way.

    :param wanted: Whether --disconnect was asked for; else nobody is ended.
    :raises ServerError: One does not go. Nothing was touched.
    """
    if not wanted:
        yield
        return
    ended = disconnect_sessions(connection)
    if ended.count:
        report.step(f"{format_count(ended.count, 'other session')} of {target.label} ended.")
    if ended.left:
        report.warn(
            f"Only their own role, pg_signal_backend or a superuser may end these sessions, which stay: "
            f"{format_list(ended.left, _SHOWN, '; ')}."
        )
    with terminate_blockers(target, connection):
        yield


def silence_event_triggers(connection: Connection, server: ServerFacts) -> None:
    """Keep the target's event triggers from changing what is loaded, where that can be asked for."""
    if server.superuser and server.major >= _EVENT_TRIGGERS_OFF:
        connection.execute("SET LOCAL event_triggers = off")


def warn_of_event_triggers(connection: Connection, server: ServerFacts, dump: DumpFile, report: Report) -> None:
    """Name the event triggers that will run on every statement of the restore."""
    if server.superuser and server.major >= _EVENT_TRIGGERS_OFF:
        return
    rows = connection.execute(
        "SELECT e.evtname FROM pg_catalog.pg_event_trigger e WHERE e.evtenabled IN ('O', 'A')"
        f" AND {no_member('pg_event_trigger', 'e.oid')} ORDER BY 1"
    ).fetchall()
    names = [str(name) for (name,) in rows if f"event trigger {name}" not in dump.outline.globals]
    if names:
        report.warn(f"Event triggers of the database run during the restore, and may change it: {', '.join(names)}")


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
    """Ask for all that would make the restore fail half-way.

    :param removed: What lies in the dump's schemas now.
    :param accepted: What is left out or created where it is missing.
    :raises BadInputError: Something is missing; names all of it, with the commands. Nothing was touched.
    """
    if server.in_recovery:
        raise BadInputError("The server is a standby, which can't be written to. Use the primary's URL.")
    if clean and not dump.outline.creates_tables:
        raise BadInputError(
            f"{dump.path.name} holds rows but creates no table (it was made with --data-only), so --clean would "
            f"leave nothing to put them in. Nothing was touched; restore it without --clean."
        )
    if clean and dump.outline.unqualified:
        raise BadInputError(
            f"{dump.path.name} names objects without their schema (as pg_dump before 10.3 did), so nobody can tell "
            f"which schemas --clean has to empty. Nothing was touched. Restore it into an empty database, without it."
        )
    if clean:
        _refuse_own(dump)
    if clean and not dump.outline.schemas:
        report.warn("The dump fills no schema, so --clean empties nothing.")
    if not server.superuser and dump.outline.creates_tables:
        _rights(connection, server, dump.outline.schemas, clean=clean)
    _refuse_missing(connection, server, dump, accepted)
    taken = dump.outline.takes
    # Without --clean a dump takes away no more than what it brings; an object takes up to three times the locks to go
    # than to come (a domain, its array type and its constraint).
    warn_of_locks(connection, taken + (removed.locks if clean else min(removed.locks, 3 * taken)), report)
    _version(server, dump, report)


def _refuse_own(dump: DumpFile) -> None:
    for name in dump.outline.schemas:
        if is_system_schema(name):
            raise BadInputError(
                f"{dump.path.name} creates something in PostgreSQL's own schema {name}, which pg_dump never does and "
                f"--clean must not empty. Nothing was touched."
            )


def _rights(connection: Connection, server: ServerFacts, filled: Collection[str], *, clean: bool) -> None:
    there = existing_schemas(connection, filled)
    lacks = ""
    if closed := closed_schemas(connection, there):
        lacks = f"create anything in the schema {closed[0]}"
    elif len(there) < len(filled) and not may_create_schemas(connection):
        lacks = f"create the schema {next(name for name in filled if name not in there)}"
    if lacks:
        raise BadInputError(
            f"{server.user} may not {lacks}, which the dump fills. Nothing was touched. Name the owner's URL with "
            f"--url-env; `inv db.doctor` says what else is missing."
        )
    if clean:
        refuse_unowned(connection, server, there)


def refuse_unowned(connection: Connection, server: ServerFacts, emptied: Collection[str]) -> None:
    """Refuse to empty schemas that hold what the role may not drop.

    :raises BadInputError: They do; names the first. Nothing was touched.
    """
    if not server.superuser and (found := unowned_objects(connection, emptied)):
        raise BadInputError(
            f"{server.user} may not drop {format_list(found, 1)}, as somebody else owns it. Nothing was touched. Name "
            f"the owner's URL with --url-env; `inv db.doctor` says what else is missing."
        )


def _refuse_missing(connection: Connection, server: ServerFacts, dump: DumpFile, accepted: Accepted) -> None:
    if unknown := [name for name in accepted.extensions if name not in dump.outline.extensions]:
        raise BadInputError(f"{dump.path.name} creates no extension {unknown[0]} to skip. Nothing was touched.")
    if missing := find_missing(connection, server, dump.outline, accepted):
        raise BadInputError(f"{'. '.join(map(str, missing))}. Nothing was touched.")


def warn_of_locks(connection: Connection, needed: int, report: Report) -> None:
    """Warn where one transaction may run out of locks; how many the server really has room for nobody can ask."""
    found = read_lock_capacity(connection, needed)
    if not found.suffice:
        report.warn(
            f"One transaction needs about {found.needed:,} locks, and the server has room for about {found.room:,}. If "
            f"they run out, it is rolled back. {found.remedy}, to be sure."
        )


def _version(server: ServerFacts, dump: DumpFile, report: Report) -> None:
    major = dump.server.split(".")[0]
    if major.isdigit() and int(major) > server.major:
        report.warn(
            f"The dump comes from PostgreSQL {dump.server}, the server is {server.version}: what this one does not "
            f"know makes the restore roll back."
        )
