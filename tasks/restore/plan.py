"""Plan a restore: look at the dump, the server and the database, and change nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..dumpfiles.dump_file import choose_dump, prove_dump
from ..dumpfiles.origin import doubt_about_authors, is_of_cluster, other_owners
from ..dumpformat.tokens import TokenReader
from ..errors import BadInputError
from ..inventory.compare import state_of_manifest
from ..postgres.connection import Endpoint, connected, read_endpoint, server_facts, translated
from ..postgres.roles import read_owners, replaceable
from ..postgres.schemas import Content, existing_schemas, other_schemas, read_content, refuse_dependents
from ..prisma.forecast import forecast_restore
from ..safety.guard import nonlocal_reason, refuse_protected
from ..safety.impact import ExistingObject, find_existing, find_impacts
from ..safety.safety_dump import check_pg_dump
from ..safety.trust import author_risk
from .clear import count_extensions, count_large_objects, read_globals, user_schemas
from .preflight import check_restore, warn_of_event_triggers

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ..config.settings import Settings
    from ..config.target import Target
    from ..dumpfiles.dump_file import DumpFile
    from ..postgres.connection import Connection, ServerFacts
    from ..progress import Report
    from ..safety.impact import Impact


_NAMED = ("table", "view", "sequence", "function", "type", "collation", "operator")


@dataclass(frozen=True)
class RestoreRequest:
    """What a person asked for.

    :ivar checksums: Compare the content of every table with the checksums in the manifest.
    :ivar strict: Refuse a dump that names roles which are missing here, or after which no migration can be applied.
    :ivar backup: Make a safety dump of what `clean` destroys.
    :ivar disconnect: End the other sessions of the database first.
    :ivar migrate: Migrations follow, and if they fail the safety dump is restored, so there is to be one always.
    :ivar trust: Let the code of a dump's authors do all that the role may, without a question.
    :ivar whole: The dump holds the whole database, which is to hold nothing else afterwards.
    """

    file: str = ""
    clean: bool = False
    owners: bool = True
    privileges: bool = True
    strict: bool = False
    checksums: bool = False
    backup: bool = True
    whole: bool = False
    migrate: bool = False
    disconnect: bool = False
    trust: bool = False


@dataclass(frozen=True)
class RestorePlan:
    """What a restore will do.

    :ivar endpoint: Where the connection really leads.
    :ivar nonlocal_reason: Why that does not count as local, where anything is lost.
    :ivar present_schemas: The schemas of the dump that exist already.
    :ivar emptied: The schemas that will be emptied; `kept` the others.
    :ivar removed: What lies in the schemas of the dump now; with `clean` all of it will be deleted.
    :ivar existing: The objects that have the name of one that the dump creates, where they are not deleted first.
    :ivar changed: What the dump changes or deletes beyond that.
    :ivar objects_outside: With `whole`, how many objects there are outside the schemas: event triggers, large objects
        and so on.
    :ivar risk: What a person has to agree to before it is loaded; empty for nothing.
    :ivar makes_safety_dump: Whether a safety dump of it is made first.
    :ivar owners: Who, but for superusers, owned what is here when the question was asked; None where there is none.
    :ivar doubt: Why the dump may be of another database than it has to be of; empty where that is certain.
    """

    settings: Settings
    request: RestoreRequest
    target: Target
    server: ServerFacts
    endpoint: Endpoint
    nonlocal_reason: str
    dump: DumpFile
    present_schemas: tuple[str, ...]
    emptied: tuple[str, ...]
    kept: tuple[str, ...]
    removed: Content
    changed: tuple[Impact, ...]
    makes_safety_dump: bool
    doubt: str = ""
    existing: tuple[ExistingObject, ...] = ()
    objects_outside: int = 0
    risk: str = ""
    undo_needs_trust: bool = False
    owners: frozenset[str] | None = None

    @property
    def undo_command(self) -> str:
        """The command that restores the safety dump of this."""
        return self.settings.command("db.undo", "--trust" * self.undo_needs_trust)

    @property
    def replaced(self) -> tuple[ExistingObject, ...]:
        """The existing objects that the dump drops and creates again."""
        return tuple(each for each in self.existing if each.dropped)

    @property
    def destroys(self) -> bool:
        """Whether anything that exists will be deleted, replaced or changed."""
        emptied = self.request.clean and not self.removed.is_empty
        return emptied or bool(self.replaced or self.changed or self.objects_outside)

    @property
    def fills(self) -> tuple[str, ...]:
        """The schemas that are to hold nothing but what the dump holds, where it is to be so."""
        return self.emptied if self.request.whole else self.dump.outline.schemas


def plan_restore(
    settings: Settings, request: RestoreRequest, report: Report, *, target: Target | None = None
) -> RestorePlan:
    """Look at everything that a restore needs, and touch nothing.

    :param target: Where to; the configured database unless given.
    :raises TaskError: It would not work; nothing was touched.
    """
    foreseen = target is None and not request.whole
    if target is None:
        target = settings.target()
        refuse_protected(settings, target)
    path = choose_dump(settings, request.file, report)
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("Looking at the server failed, nothing was touched", target),
    ):
        server = server_facts(connection)
        endpoint = read_endpoint(connection, server)
        refuse_protected(settings, target, endpoint)
    dump = prove_dump(settings, path, report, trust=request.trust)
    if request.checksums and not (dump.manifest and state_of_manifest(dump.manifest).checksums):
        raise BadInputError(
            f"{path.name} has no checksums to compare with: it was made without --checksums. Nothing was touched."
        )
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("Looking at the database failed, nothing was touched", target),
    ):
        # What is here now is loaded again if a migration fails, which is not the time for a question, and by an undo.
        owned = read_owners(connection)
        here = other_owners(owned, server.login)
        undo_risk = author_risk(connection, settings, endpoint, path, here)
        # A role of another cluster may have the same name.
        own = dump.manifest is not None and is_of_cluster(dump.manifest, server)
        why = doubt_about_authors(dump.manifest, server.login if own else "") or (here if request.migrate else "")
        risk = "" if request.trust else author_risk(connection, settings, endpoint, path, why)
        owners = None
        if (
            request.migrate
            and not request.trust
            and author_risk(connection, settings, endpoint, path, "is asked about")
        ):
            owners = frozenset(name for name, superuser in owned.items() if not superuser)
        filled = user_schemas(connection) if request.whole else dump.outline.schemas
        there = existing_schemas(connection, filled)
        present_schemas = tuple(name for name in filled if name in there) if dump.outline.creates_tables else ()
        emptied = present_schemas if request.clean else ()
        # Without --clean, too, what bears the name of something in the dump is replaced.
        removed = read_content(connection, present_schemas, locked=request.disconnect)
        if request.whole:
            removed = replace(removed, locks=removed.locks + count_large_objects(connection))
        check_restore(connection, server, dump, removed, clean=request.clean, strict=request.strict, report=report)
        if request.clean:
            recreated = read_globals(connection) if request.whole else dump.outline.globals
            refuse_dependents(connection, emptied, replaceable(connection, server, recreated))
            warn_of_event_triggers(connection, server, dump, report)
        kept = tuple(other_schemas(connection, emptied))
        if foreseen:
            forecast_restore(
                settings,
                target,
                connection,
                dump,
                report,
                clean=request.clean,
                strict=request.strict,
                migrates=request.migrate,
            )
        changed = find_impacts(connection, dump.outline.touches or (), emptied)
        existing = _existing_objects(connection, dump, request)
        objects_outside = _outside_schemas(connection, filled) if request.whole else 0
    plan = RestorePlan(
        settings=settings,
        request=request,
        target=target,
        server=server,
        endpoint=endpoint,
        nonlocal_reason="",
        dump=dump,
        present_schemas=present_schemas,
        emptied=emptied,
        kept=kept,
        removed=removed,
        changed=changed,
        makes_safety_dump=False,
        existing=existing,
        objects_outside=objects_outside,
        risk=risk,
        undo_needs_trust=bool(undo_risk),
        owners=owners,
    )
    makes_safety_dump = (plan.destroys and request.backup and settings.backup > 0) or request.migrate
    if makes_safety_dump:
        check_pg_dump(settings, server)
    return replace(
        plan,
        makes_safety_dump=makes_safety_dump,
        nonlocal_reason=nonlocal_reason(settings, endpoint) if plan.destroys else "",
    )


def _existing_objects(connection: Connection, dump: DumpFile, request: RestoreRequest) -> tuple[ExistingObject, ...]:
    """Find what exists of the names that a dump creates, and that is not deleted before it is loaded."""
    names = {} if request.clean else _created_names(dump)
    globals_ = [] if request.whole else sorted(read_globals(connection).keys() & set(dump.outline.globals))
    # pg_dump --clean drops them first; so does a restore with --clean where they depend on what it deletes.
    found = [ExistingObject(name, None, dropped=True) for name in globals_]
    if dump.outline.large_objects and not request.whole:
        count = count_large_objects(connection)
        found += [ExistingObject("large objects that have a number of the dump's", None, dropped=True)] if count else []
    return (*find_existing(connection, names), *found)


def _created_names(dump: DumpFile) -> Mapping[tuple[str, str], bool]:
    """Return the names that a dump creates, each with whether it drops them first."""
    if dump.names is not None:
        return dump.names
    # Our own dumps are made with pg_dump --clean.
    state = state_of_manifest(dump.manifest) if dump.manifest else None
    objects = state.objects if state else {}
    # A function's identity has its arguments behind the name.
    identities = (name.encode("utf-8", "surrogateescape") for kind in _NAMED for name in objects.get(kind, ()))
    named = (TokenReader(identity).names() for identity in identities)
    return dict.fromkeys([*named, *(state.rows if state else ()), *(state.sequences if state else ())], True)


def _outside_schemas(connection: Connection, schemas: Collection[str]) -> int:
    """Count what an undo deletes beside the content of schemas."""
    others = sum(name != "public" for name in schemas)
    return len(read_globals(connection)) + count_large_objects(connection) + count_extensions(connection) + others
