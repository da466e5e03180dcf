"""Plan a restore: look at the dump, the server and the database, and change nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..dumpfiles.dump_file import choose_dump, prove_dump
from ..dumpfiles.origin import doubt_about_authors, is_of_cluster, other_owners
from ..errors import BadInputError
from ..inventory.compare import state_of_manifest
from ..postgres.connection import Endpoint, connected, read_endpoint, server_facts, translated
from ..postgres.roles import read_owners, replaceable
from ..postgres.schemas import Content, existing_schemas, other_schemas, read_content, refuse_dependents
from ..prisma.forecast import forecast_restore
from ..safety.guard import nonlocal_reason, refuse_protected
from ..safety.impact import find_impacts, may_replace
from ..safety.safety_dump import check_pg_dump, is_worth_saving
from ..safety.trust import ask_about_authors, is_asked
from .clear import count_large_objects, read_globals, user_schemas
from .preflight import check_restore, warn_of_event_triggers

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..config.target import Target
    from ..dumpfiles.dump_file import DumpFile
    from ..postgres.connection import ServerFacts
    from ..progress import Report
    from ..safety.impact import Impact


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

    :ivar place: Where the connection really leads, and `far` why that does not count as local, where anything is lost.
    :ivar met: The schemas of the dump that exist already; `emptied` those that will be emptied; `stays` the others.
    :ivar goes: What lies in the schemas of the dump now: with `clean` all of it goes, else what the dump replaces.
    :ivar changed: What the dump changes or deletes beyond that.
    :ivar saves: Whether a safety dump of it is made first.
    :ivar owners: Who, but for superusers, owned what is here when the question was asked; None where there is none.
    :ivar replaces: Whether the dump may replace objects in its schemas, of any kind, or large objects.
    :ivar doubt: Why the dump may be of another database than it has to be of; empty where that is certain.
    """

    settings: Settings
    request: RestoreRequest
    target: Target
    server: ServerFacts
    place: Endpoint
    far: str
    dump: DumpFile
    met: tuple[str, ...]
    emptied: tuple[str, ...]
    stays: tuple[str, ...]
    goes: Content
    changed: tuple[Impact, ...]
    saves: bool
    doubt: str = ""
    replaces: bool = False
    owners: frozenset[str] | None = None

    @property
    def destroys(self) -> bool:
        """Whether anything that exists may be lost."""
        return self.request.clean or self.goes.tables > 0 or bool(self.changed) or self.replaces

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
        place = read_endpoint(connection, server)
        refuse_protected(settings, target, place)
    dump = prove_dump(settings, path, report, trust=request.trust)
    if request.checksums and not (dump.manifest and state_of_manifest(dump.manifest).checksums):
        raise BadInputError(
            f"{path.name} has no checksums to compare with: it was made without --checksums. Nothing was touched."
        )
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("Looking at the database failed, nothing was touched", target),
    ):
        owners = None
        if not request.trust:
            # A role of another cluster may bear the same name.
            own = dump.manifest is not None and is_of_cluster(dump.manifest, server)
            why = doubt_about_authors(dump.manifest, server.login if own else "")
            if request.migrate:
                # If the migration fails, what is here now is loaded again: that is not the time for a question.
                here = read_owners(connection)
                why = why or other_owners(here, server.login)
                if is_asked(connection, settings, place):
                    owners = frozenset(name for name, superuser in here.items() if not superuser)
            ask_about_authors(connection, settings, server, place, path, why, report)
        filled = user_schemas(connection) if request.whole else dump.outline.schemas
        there = existing_schemas(connection, filled)
        met = tuple(name for name in filled if name in there) if dump.outline.creates_tables else ()
        emptied = met if request.clean else ()
        # Without --clean, too, what bears the name of something in the dump is replaced.
        goes = read_content(connection, met, locked=request.disconnect)
        if request.whole:
            goes = replace(goes, locks=goes.locks + count_large_objects(connection))
        check_restore(connection, server, dump, goes, clean=request.clean, strict=request.strict, report=report)
        if request.clean:
            recreated = read_globals(connection) if request.whole else dump.outline.globals
            refuse_dependents(connection, emptied, replaceable(connection, server, recreated))
            warn_of_event_triggers(connection, server, dump, report)
        stays = tuple(other_schemas(connection, emptied))
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
        lost = read_content(connection, stays, locked=request.disconnect) if changed else goes
        # Without --clean, too, large objects of the same number are replaced, and so is what is no table.
        replaces = not request.clean and may_replace(connection, met, large_objects=dump.outline.large_objects)
        loses = replaces or any(
            is_worth_saving(connection, each, large_objects=dump.outline.large_objects) for each in (goes, lost)
        )
    saves = (loses and request.backup and settings.backup > 0) or request.migrate
    if saves:
        check_pg_dump(settings, server)
    far = nonlocal_reason(settings, place) if loses or request.clean or changed else ""
    return RestorePlan(
        settings,
        request,
        target,
        server,
        place,
        far,
        dump,
        met,
        emptied,
        stays,
        goes,
        changed,
        saves,
        replaces=replaces,
        owners=owners,
    )
