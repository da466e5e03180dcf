"""Check the server: privileges, other sessions, scratch databases, locks, definitions, clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import GuardError
from ..formatting import format_list, show_name
from ..inventory.reload_risks import read_reload_risks
from ..postgres.activity import LockHolder, read_activity
from ..postgres.connection import Connection, Endpoint, ServerFacts, one, read_endpoint
from ..postgres.lock_capacity import read_lock_capacity
from ..postgres.roles import Rights, read_rights, role_settings
from ..postgres.schemas import other_schemas, read_content
from ..postgres.tables import read_unreadable
from ..safety.guard import nonlocal_reason, refuse_protected
from ..safety.scratch_database import leftover_scratch_databases
from .check import Check, note, ok, skipped, wrong
from .connectivity import LOCK_MILLISECONDS
from .folder_checks import SKEW

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from ..config.settings import Settings
    from ..config.target import Target
    from ..dumpformat.manifest import Manifest


def check_server(connection: Connection, facts: ServerFacts) -> Check:
    """Report the server's version and encoding, and whether it is a standby."""
    what = f"PostgreSQL {facts.version}, encoding {facts.encoding}"
    if facts.in_recovery:
        if unlogged := [show_name((schema, name)) for schema, name, _ in read_unreadable(connection)]:
            lacks = f"a standby; a dump lacks the rows of the unlogged {format_list(unlogged)}"
            return note(f"{what}; {lacks}", "Use the primary's URL.")
        return note(f"{what}; a standby, which can only be dumped", "Use the primary's URL.")
    return ok(what)


def check_rights(connection: Connection, facts: ServerFacts, settings: Settings, target: Target) -> list[Check]:
    """Check the role's privileges for a dump, a restore with --clean and a rehearsal, and report the guard."""
    found = read_rights(connection)
    endpoint = read_endpoint(connection, facts)
    return [
        _to_dump(found, facts).named("rights to dump"),
        _to_restore(found, facts).named("rights to restore"),
        _guarded(settings, target, endpoint).named("guard"),
        _to_rehearse(found, facts).named("rights to rehearse"),
    ]


def check_role(connection: Connection, facts: ServerFacts) -> Check:
    """Check for an ALTER DATABASE or ALTER ROLE that sets a role for every session."""
    found = role_settings(connection)
    if not found:
        return ok(f"sessions run as {facts.user}")
    return wrong(
        f"{format_list([f'{each} SET role' for each in found])} sets another role for every session. Our sessions "
        f"ignore it, other programs' do not, and the role can run code as {facts.login}",
        f"{' '.join(f'{each} RESET role;' for each in found)} To use the role: options=-c%20role%3D… in the URL.",
    )


def _guarded(settings: Settings, target: Target, endpoint: Endpoint) -> Check:
    try:
        refuse_protected(settings, target, endpoint)
    except GuardError:
        return note("db.protected lists this database, so restores and resets are refused")
    if reason := nonlocal_reason(settings, endpoint):
        return note(
            f"not local: {reason}; destructive tasks ask for the database's name",
            "If it is your own, for example in a container, add its host or address to db.local: "
            f"INVOKE_DB_LOCAL={endpoint.server}.",
        )
    return ok("the database is local")


def _to_dump(found: Rights, facts: ServerFacts) -> Check:
    user = facts.user
    if found.unread or found.unread_objects:
        what = format_list(found.unread) or f"{found.unread_objects} large objects"
        return wrong(
            f"a dump would fail: {user} may not read {what}",
            f"Let a superuser run GRANT pg_read_all_data TO {user} (from PostgreSQL 14 on; large objects need GRANT "
            f"SELECT ON LARGE OBJECT), or use the owner's URL with --url-env.",
        )
    if found.hidden:
        return wrong(
            f"a dump would fail: row-level security hides rows of {format_list(found.hidden)} from {user}",
            f"Let a superuser run ALTER ROLE {user} BYPASSRLS, or use the owner's URL with --url-env.",
        )
    return ok(f"{user} may read everything{' (superuser)' if facts.superuser else ''}")


def _to_restore(found: Rights, facts: ServerFacts) -> Check:
    user = facts.user
    if facts.in_recovery:
        return skipped("a standby can't be written to")
    if found.closed or found.unowned:
        lacks = [f"create in the schemas {format_list(found.closed)}"] if found.closed else []
        lacks += [f"drop {format_list(found.unowned)}"] if found.unowned else []
        return wrong(
            f"a restore with --clean would fail: {user} may not {', nor '.join(lacks)}",
            "Use the owner's URL with --url-env, or let a superuser run GRANT CREATE ON SCHEMA and ALTER … OWNER TO.",
        )
    new = "" if found.creates_schemas else ", but not create schemas"
    return ok(f"{user} may empty and fill every schema{new}")


def _to_rehearse(found: Rights, facts: ServerFacts) -> Check:
    user = facts.user
    if found.creates_databases:
        return ok(f"{user} may create databases")
    remedy = f"For `inv db.rehearse`, let a superuser run ALTER ROLE {user} CREATEDB."
    return note(f"{user} may not create databases", remedy)


def check_rehearsals(connection: Connection) -> Check:
    """Check for scratch databases of rehearsals; they are listed, not dropped."""
    found = leftover_scratch_databases(connection)
    if left := [each for each, used in found if not used]:
        drops = " ".join(f"DROP DATABASE {each};" for each in left)
        remedy = f"The next `inv db.rehearse` drops those of rehearsals from this folder. To drop all: {drops}"
        return wrong(f"killed rehearsals left {format_list(left)}", remedy)
    if found:
        return note(f"a rehearsal is running in {format_list([each for each, _ in found])}")
    return ok("none")


def check_sessions(connection: Connection, settings: Settings) -> Check:
    """Check for sessions and prepared transactions whose locks a restore would wait for."""
    found = read_activity(connection)
    lock_seconds = (settings.lock_timeout or LOCK_MILLISECONDS) / 1000
    if found.prepared:
        remedy = f"End it with COMMIT PREPARED or ROLLBACK PREPARED '{found.prepared[0]}'."
        return wrong(f"prepared transactions hold locks: {format_list(found.prepared)}", remedy)
    if idle := [each for each in found.holding if each.idle and each.seconds > lock_seconds]:
        remedy = f"End its transaction, or the session: SELECT pg_catalog.pg_terminate_backend({idle[0].pid});"
        return wrong(f"idle sessions hold locks: {_holding(idle)}", remedy)
    if found.migrating:
        pids = format_list([str(pid) for pid in found.migrating])
        remedy = (
            f"If neither is running, end the session: SELECT pg_catalog.pg_terminate_backend({found.migrating[0]});"
        )
        return note(f"a Prisma migration or a restore is running (pid {pids} holds Prisma's lock)", remedy)
    if found.ours:
        pids = format_list([str(pid) for pid in found.ours])
        remedy = f"If none is running, end the session: SELECT pg_catalog.pg_terminate_backend({found.ours[0]});"
        return note(f"another invoke-postgres command is connected (pid {pids})", remedy)
    if found.holding:
        return note(f"an open transaction holds locks: {_holding(found.holding)}")
    return ok("none holds locks that a restore would wait for")


def _holding(found: Sequence[LockHolder]) -> str:
    return format_list(
        [
            f"pid {each.pid}, user {each.user}, application {each.application or 'unnamed'}, for {each.seconds:,.0f} s"
            for each in found
        ]
    )


def check_lock_capacity(connection: Connection, manifest: Manifest | None) -> Check:
    """Compare the number of locks of a restore with --clean with the server's limit.

    :param manifest: The manifest of the dump to restore; None assumes a dump of this database.
    """
    filled = other_schemas(connection, ()) if manifest is None else list(manifest.outline.schemas)
    removed = read_content(connection, filled, locked=True).locks
    found = read_lock_capacity(connection, removed + (removed if manifest is None else manifest.outline.takes))
    what = f"a restore with --clean needs about {found.needed:,}, and the server can hold {found.room:,}"
    return ok(what) if found.suffice else wrong(what, f"{found.remedy}.")


def check_reload(connection: Connection) -> Check:
    """Check for definitions that a restore may refuse, as far as the catalogue shows."""
    found = read_reload_risks(connection)
    if not found:
        return ok("none is known that a restore would refuse; `inv db.rehearse` proves it")
    what = f"a restore may refuse {format_list([str(each) for each in found])}"
    return note(what, f"{found[0].remedy} `inv db.rehearse` shows whether a dump loads.")


def check_clock(connection: Connection, now: Callable[[], datetime]) -> Check:
    """Compare this machine's clock with the server's."""
    before = now()
    remote = one(connection, "SELECT extract(epoch FROM pg_catalog.clock_timestamp())::pg_catalog.float8")[0]
    # The server answered between the two local times.
    local = before.timestamp() + (now() - before).total_seconds() / 2
    apart = abs(local - float(remote))
    what = f"this machine's and the server's are {apart:,.0f} s apart"
    if apart > SKEW.total_seconds():
        return wrong(what, "Correct the wrong clock (NTP): the newest dump is found by the time in its name.")
    return ok(what)
