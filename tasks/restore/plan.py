"""Plan a restore: look at the dump, the server and the database, and change nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..dumpfiles.dump_file import DumpFile, newest_dump_of, prove_dump
from ..dumpfiles.origin import (
    describe_databases,
    describe_part,
    doubt_about_authors,
    is_of_cluster,
    is_of_database,
    other_owners,
)
from ..dumpfiles.paths import find_dump_file
from ..dumpformat.manifest import recorded_search_path
from ..dumpformat.tokens import TokenReader
from ..errors import BadInputError
from ..formatting import format_list, show_name
from ..inventory.compare import state_of_manifest
from ..inventory.reload_risks import find_reload_doubt
from ..inventory.requirements import Accepted, missing_roles
from ..postgres.roles import read_owners, replaceable
from ..postgres.schemas import existing_schemas, other_schemas, read_content, read_table_names, refuse_dependents
from ..postgres.search_path import read_search_path
from ..prisma.forecast import forecast_restore
from ..safety.guard import guarded_connection, unprotected_target
from ..safety.impact import ExistingObject, Impact, find_existing, find_impacts
from ..safety.method import TRANSACTION, Method, MethodChoice, choose_method
from ..safety.trust import author_risk
from .clear import count_large_objects, read_extensions, read_globals, user_schemas
from .preflight import ChangePlan, check_restore, warn_of_event_triggers
from .request import RestoreRequest, refuse_contradictions
from .table_restore import TablesPlan, narrowed_dump, plan_tables, read_table_parts

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ..config.settings import Settings
    from ..config.target import Target
    from ..postgres.connection import Connection
    from ..progress import Report


_NAMED = ("table", "view", "sequence", "function", "type", "collation", "operator")


@dataclass(frozen=True, kw_only=True)
class RestorePlan(ChangePlan):
    """The plan of a restore.

    :ivar present_schemas: The schemas of the dump that already exist.
    :ivar changed: Other objects that the dump changes or deletes.
    :ivar doubt: The reason why the dump may be of another database than it must be; empty if it is certain.
    :ivar existing: The objects with the name of an object that the dump creates, unless they are deleted first.
    :ivar left_empty: The tables that the dump creates without their rows, with the rows that they have now.
    :ivar objects_outside: With `replaces_all`, the number of objects outside the schemas: event triggers, large objects
        and so on.
    :ivar risk: The risk that a person must accept before the dump is loaded; empty without one.
    :ivar owners: The owners of objects in the database, without superusers, when the question about the risk was asked;
        None without a question.
    :ivar lenient: Load refused statements in the lenient way: requested, or the dump is of this database or of a part
        of one, whose foreign keys may reference missing tables.
    :ivar search_path: The schemas in which the sessions of the dumped database look up names.
    :ivar new_roles: The roles that will be created.
    :ivar other_tables: The tables in the dump's schemas that the dump does not create; --clean deletes them.
    :ivar tables: The plan of a restore of some tables; None if all of the dump is restored.
    :ivar method: The method of the restore.
    :ivar private: Only this process uses the database, and it drops the database after a failure.
    """

    request: RestoreRequest
    dump: DumpFile
    present_schemas: tuple[str, ...]
    changed: tuple[Impact, ...]
    doubt: str = ""
    existing: tuple[ExistingObject, ...] = ()
    left_empty: tuple[ExistingObject, ...] = ()
    objects_outside: int = 0
    risk: str = ""
    owners: frozenset[str] | None = None
    lenient: bool = False
    search_path: tuple[str, ...] = ()
    new_roles: tuple[str, ...] = ()
    other_tables: tuple[str, ...] = ()
    tables: TablesPlan | None = None
    method: MethodChoice = TRANSACTION
    private: bool = False

    @property
    def other_database(self) -> str:
        """Return the database that the dump was made from if, by the manifest, it is another one; else empty."""
        manifest, endpoint = self.dump.manifest, self.endpoint
        if manifest is None or is_of_database(manifest, self.server, endpoint.host, endpoint.port):
            return ""
        return describe_databases(manifest, endpoint)[0]

    @property
    def tries_undo(self) -> bool:
        """Return whether the safety dump may be loaded without a question, as a trial."""
        return self.request.trust or not self.undo_needs_trust

    @property
    def replaced(self) -> tuple[ExistingObject, ...]:
        """Return the existing objects that the dump drops and creates again."""
        return tuple(each for each in self.existing if each.dropped)

    @property
    def destroys(self) -> bool:
        """Return whether an existing object will be deleted, replaced or changed."""
        emptied = self.request.clean and not self.removed.is_empty
        replaced = self.tables is not None and self.tables.replaces
        return emptied or replaced or bool(self.replaced or self.changed or self.objects_outside)

    @property
    def undo_command(self) -> str:
        """Return the command that brings the old content back: from the safety dump, or by a swap."""
        if not self.method.swaps:
            return super().undo_command
        return self.settings.undo_command(trust=False, name=self.endpoint.database if self.nonlocal_reason else "")

    @property
    def keeps_old(self) -> bool:
        """Return whether a swap keeps the old database."""
        return self.request.backup and self.settings.kept_databases > 0

    def sets(self, sequence: tuple[str, str]) -> bool:
        """Return whether a sequence of the dump is restored."""
        return self.tables is None or sequence in self.tables.selection.sequences

    @property
    def fills(self) -> tuple[str, ...]:
        """Return the schemas that contain only the content of the dump after a restore with --clean."""
        return self.emptied if self.request.replaces_all else self.dump.outline.schemas


def plan_restore(
    settings: Settings, request: RestoreRequest, report: Report, *, target: Target | None = None
) -> RestorePlan:
    """Check everything that a restore needs, and change nothing.

    :param target: The database to restore into; the configured one by default.
    :raises TaskError: The restore would fail. Nothing was touched.
    """
    refuse_contradictions(request)
    forecasts = target is None and not (request.replaces_all or request.tables)
    target = target or unprotected_target(settings)
    path = find_dump_file(request.file, settings.dumps, settings.cwd) if request.file else None
    # Connect first, because reading the dump may take long.
    with guarded_connection(settings, target) as (connection, server, endpoint):
        path = path or newest_dump_of(settings, server, endpoint, report)
        dump = prove_dump(settings, path, report, trust=request.trust, sums=not request.may_swap)
        manifest = dump.manifest
        if request.checksums and (manifest is None or (manifest.tables and not state_of_manifest(manifest).checksums)):
            raise BadInputError(
                f"{path.name} has no checksums to compare with. Nothing was touched.",
                fix="Restore without --checksums, or dump again with `inv db.dump --checksums`.",
            )
        search_path = (dump.manifest and recorded_search_path(dump.manifest)) or read_search_path(connection)
        tables = None
        if request.tables:
            parts = read_table_parts(dump, report)
            how = {"data_only": request.data_only, "counted": not request.disconnect}
            tables = plan_tables(connection, dump, parts, request.tables, search_path=search_path, **how)
            dump = narrowed_dump(dump, tables)
            if tables.lost_keys:
                report.warn(
                    f"These foreign keys of other tables in the dump are not restored; add them again: "
                    f"{format_list(tables.lost_keys)}."
                )
        # An undo, or a failed migration, loads the present content again. A failed migration can't ask a question.
        owned = read_owners(connection)
        foreign_owners = other_owners(owned, server.login)
        undo_risk = author_risk(connection, settings, endpoint, path, foreign_owners)
        # A role with the same name in another cluster may be another person's.
        own = dump.manifest is not None and is_of_cluster(dump.manifest, server)
        why = doubt_about_authors(dump.manifest, server.login if own else "")
        why = why or (foreign_owners if request.migrate else "")
        risk = "" if request.trust else author_risk(connection, settings, endpoint, path, why)
        owners = None
        if (
            request.migrate
            and not request.trust
            and author_risk(connection, settings, endpoint, path, "is asked about")
        ):
            owners = frozenset(name for name, superuser in owned.items() if not superuser)
        filled = user_schemas(connection) if request.replaces_all else dump.outline.schemas
        existing = existing_schemas(connection, filled) if dump.outline.creates_tables and not tables else {}
        present_schemas = tuple(name for name in filled if name in existing)
        emptied = present_schemas if request.clean else ()
        # Without --clean, the dump may replace objects, too.
        removed = read_content(connection, present_schemas, locked=request.disconnect)
        if request.replaces_all:
            removed = replace(removed, locks=removed.locks + count_large_objects(connection))
        accepted = Accepted(
            roles=request.strict or (request.create_roles and request.sets_roles),
            create_roles=request.create_roles,
            tablespaces=request.strict,
            extensions=request.skip_extensions,
            lenient=request.lenient,
        )
        check_restore(connection, server, dump, removed, clean=request.clean, accepted=accepted, report=report)
        if request.clean:
            recreated = read_globals(connection) if request.replaces_all else dump.outline.globals
            refuse_dependents(connection, emptied, replaceable(connection, server, recreated))
        if request.clean or tables:
            warn_of_event_triggers(connection, server, dump, report)
        kept = tuple(other_schemas(connection, emptied))
        if forecasts:
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
        own_or_part = dump.manifest is not None and (
            is_of_database(dump.manifest, server, endpoint.host, endpoint.port) or bool(describe_part(dump.manifest))
        )
        plan = RestorePlan(
            settings=settings,
            request=request,
            target=target,
            server=server,
            endpoint=endpoint,
            dump=dump,
            present_schemas=present_schemas,
            emptied=emptied,
            kept=kept,
            removed=removed,
            changed=find_impacts(connection, dump.outline.touches or (), emptied),
            existing=_existing_objects(connection, dump, request),
            left_empty=_left_empty(connection, dump),
            objects_outside=_outside_schemas(connection, filled) if request.replaces_all else 0,
            risk=risk,
            undo_needs_trust=bool(undo_risk),
            owners=owners,
            lenient=(request.lenient or request.replaces_all or own_or_part) and not tables,
            search_path=search_path,
            new_roles=_new_roles(connection, dump, request, report),
            other_tables=() if request.replaces_all else _other_tables(connection, dump, present_schemas),
            tables=tables,
            method=choose_method(
                connection,
                settings,
                target,
                server,
                endpoint,
                requested=request.method if request.may_swap else Method.TRANSACTION,
                kept_schemas=kept,
                content=dump.content.size,
                jobs=settings.jobs,
                disconnect=request.disconnect,
            ),
        )
        plan = _with_reload_doubt(plan, connection)
    return complete_plan(plan, report)


def _with_reload_doubt(plan: RestorePlan, connection: Connection) -> RestorePlan:
    """Return the plan with the reason why its safety dump may not load, if it may make one."""
    request = plan.request
    if not request.migrate and not (request.backup and plan.destroys):
        return plan
    return replace(plan, reload_doubt=find_reload_doubt(connection))


def complete_plan(plan: RestorePlan, report: Report) -> RestorePlan:
    """Return the plan with what its method needs: for a transaction, a checked dump and perhaps a safety dump.

    :raises TaskError: The dump is damaged, or pg_dump is missing. Nothing was touched.
    """
    if plan.method.swaps:
        return plan.complete(backup=False)
    if not plan.dump.checked:
        plan = replace(plan, dump=prove_dump(plan.settings, plan.dump.path, report, trust=plan.request.trust))
    return plan.complete(backup=plan.request.backup, always=plan.request.migrate)


def _new_roles(connection: Connection, dump: DumpFile, request: RestoreRequest, report: Report) -> tuple[str, ...]:
    if not request.create_roles:
        return ()
    roles = missing_roles(connection, dump.outline.needed_roles + dump.outline.roles * request.sets_roles)
    if roles:
        report.step(f"Roles that will be created (NOLOGIN): {format_list(roles)}")
    return tuple(roles)


def _existing_objects(connection: Connection, dump: DumpFile, request: RestoreRequest) -> tuple[ExistingObject, ...]:
    """Return the existing objects with names that a dump creates, unless they are deleted before it is loaded."""
    names = {} if request.clean else _created_names(dump)
    globals_ = [] if request.replaces_all else sorted(read_globals(connection).keys() & set(dump.outline.globals))
    # pg_dump --clean drops them first; a restore with --clean drops those that depend on deleted objects.
    found = [ExistingObject(name=name, rows=None, dropped=True) for name in globals_]
    if dump.outline.large_objects and not request.replaces_all and count_large_objects(connection):
        found.append(ExistingObject(name="large objects whose number is in the dump", rows=None, dropped=True))
    return (*find_existing(connection, names), *found)


def _left_empty(connection: Connection, dump: DumpFile) -> tuple[ExistingObject, ...]:
    """Return the tables that a dump creates without their rows, those that exist first."""
    if dump.manifest is None or not dump.outline.creates_tables:
        return ()
    excluded = dump.manifest.excluded_data
    found = {each.name: each for each in find_existing(connection, dict.fromkeys(excluded, True))}
    new = {show_name(key): ExistingObject(name=show_name(key), rows=None, dropped=True) for key in excluded}
    return tuple({**found, **new, **found}.values())


def _other_tables(connection: Connection, dump: DumpFile, schemas: Collection[str]) -> tuple[str, ...]:
    created = _created_names(dump)
    if not (created or dump.names is not None):
        return ()
    return tuple(show_name(key) for key in read_table_names(connection, schemas) if key not in created)


def _created_names(dump: DumpFile) -> Mapping[tuple[str, str], bool]:
    """Return the names that a dump creates, each with whether the dump drops it first."""
    if dump.names is not None:
        return dump.names
    if not dump.outline.creates_tables:
        return {}
    # Our own dumps are made with pg_dump --clean.
    state = state_of_manifest(dump.manifest) if dump.manifest else None
    objects = state.objects if state else {}
    # A function's identity has the arguments after the name.
    identities = (name.encode("utf-8", "surrogateescape") for kind in _NAMED for name in objects.get(kind, ()))
    named = (TokenReader(identity).names() for identity in identities)
    return dict.fromkeys([*named, *(state.rows if state else ()), *(state.sequences if state else ())], True)


def _outside_schemas(connection: Connection, schemas: Collection[str]) -> int:
    """Return the number of objects that an undo deletes outside the content of schemas."""
    others = sum(name != "public" for name in schemas)
    return len(read_globals(connection)) + count_large_objects(connection) + len(read_extensions(connection)) + others
