"""Restore: look, confirm, act in one transaction, prove, commit."""

from __future__ import annotations

import contextlib
import textwrap
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg

from .. import process
from ..archive.lexer import CopyData, CopyEnd, Statement, lex
from ..archive.manifest import TableRows
from ..archive.strange import LexError
from ..archive.survey import Survey
from ..archive.words import shown
from ..errors import BadInputError, DifferenceError, ServerError, TaskError, WorkError
from ..postgres import committing, impact, loading, newer, privileges, rights, schemas, state, told, tuning, whole
from ..postgres.session import blocked, connected, one, server_facts, translated
from ..postgres.wire import LostError, StatementError, as_refusal
from . import authors, comparing, dumpfile, foresight, guard, preflight, records, saving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..archive.statements import Action
    from ..postgres.impact import Impact
    from ..postgres.session import Connection, ServerFacts
    from ..postgres.state import State
    from ..postgres.target import Target
    from ..settings import Settings
    from .comparing import Line
    from .dumpfile import DumpFile
    from .dumping import Dumped
    from .report import Report
    from .saving import Safety
    from .source import Source

_DUPLICATE = frozenset({"42P06", "42P07", "42710", "42723", "42701", "23505"})
_DEPENDENT = "2BP01"
_OUT_OF_LOCKS = "53200"
_NO_LOCK = "55P03"
# Characters of a statement.
_SHOWN = 100
# Sessions that gather statistics at once.
_ANALYZING = 2


@dataclass(frozen=True)
class Request:
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
class Plan:
    """What a restore will do.

    :ivar place: Where the connection really leads, and `far` why that does not count as local, where anything is lost.
    :ivar met: The schemas of the dump that exist already; `emptied` those that will be emptied; `stays` the others.
    :ivar goes: What lies in the schemas of the dump now: with `clean` all of it goes, else what the dump replaces.
    :ivar changed: What the dump changes or deletes beyond that.
    :ivar saves: Whether a safety dump of it is made first.
    :ivar doubt: Why the dump may be of another database than it has to be of; empty where that is certain.
    """

    settings: Settings
    request: Request
    target: Target
    server: ServerFacts
    place: guard.Place
    far: str
    dump: DumpFile
    met: tuple[str, ...]
    emptied: tuple[str, ...]
    stays: tuple[str, ...]
    goes: schemas.Content
    changed: tuple[Impact, ...]
    saves: bool
    doubt: str = ""

    @property
    def destroys(self) -> bool:
        """Whether anything that exists may be lost."""
        return self.request.clean or self.goes.tables > 0 or bool(self.changed)

    @property
    def fills(self) -> tuple[str, ...]:
        """The schemas that are to hold nothing but what the dump holds, where it is to be so."""
        return self.emptied if self.request.whole else self.dump.outline.schemas


@dataclass(frozen=True)
class Restored:
    """A restore that was committed.

    :ivar rows: Rows that were loaded, or what a table really holds where its rows changed afterwards.
    :ivar left_out: What was left out, counted by reason.
    :ivar changed: What does not hold what the dump loaded into it.
    :ivar proven: Whether every table was counted and holds what was loaded.
    :ivar saved: The safety dump of what was there before.
    :ivar differences: Expressions that the server now writes in another way than at the dump. They are committed, since
        the dump's own statements made them.
    """

    plan: Plan
    tables: int
    rows: int
    seconds: float
    left_out: Counter[str] = field(default_factory=Counter)
    saved: Dumped | None = None
    changed: tuple[loading.Changed, ...] = ()
    proven: bool = True
    differences: tuple[Line, ...] = ()

    def refuse_differences(self, done: str) -> None:
        """Raise where the database does not hold what the dump says; it is committed.

        :param done: The beginning of the sentence, such as "The restore is committed".
        :raises DifferenceError: Statements or triggers of the dump changed rows after they were loaded, or the server
            writes an expression in another way.
        """
        if self.changed:
            raise DifferenceError(
                f"{done}, but {_some(self.changed)}: statements of the dump, or triggers, changed what was loaded. "
                f"psql would leave the same."
            )
        if self.differences:
            first, *others = self.differences
            more = f" and {len(others):,} more" if others else ""
            raise DifferenceError(f"{done}, but definitions differ from the dump: {first.kind} {first.name}{more}.")

    @property
    def lacks(self) -> list[tuple[str, int]]:
        """What a person should know of that; every dump has settings that a restore has its own in place of."""
        return [(reason, count) for reason, count in sorted(self.left_out.items()) if reason != loading.OWN_SETTINGS]


def plan(settings: Settings, request: Request, report: Report, *, target: Target | None = None) -> Plan:
    """Look at everything that a restore needs, and touch nothing.

    :param target: Where to; the configured database unless given.
    :raises TaskError: It would not work; nothing was touched.
    """
    foreseen = target is None and not request.whole
    if target is None:
        target = settings.target()
        guard.refuse_protected(settings, target)
    path = dumpfile.choose(settings, request.file, report)
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("Looking at the server failed, nothing was touched", target),
    ):
        server = server_facts(connection)
        place = guard.place(connection, server)
        guard.refuse_protected(settings, target, place)
    dump = dumpfile.prove(settings, path, report, trust=request.trust)
    if request.checksums and not (dump.manifest and comparing.of_manifest(dump.manifest).checksums):
        raise BadInputError(
            f"{path.name} has no checksums to compare with: it was made without --checksums. Nothing was touched."
        )
    with (
        connected(target, lock_timeout=settings.lock_timeout) as connection,
        translated("Looking at the database failed, nothing was touched", target),
    ):
        if not request.trust:
            why = authors.doubt(dump.manifest, server.user)
            if request.migrate and not why:
                # If the migration fails, what is here now is loaded again: that is not the time for a question.
                why = authors.others(rights.owners(connection), server.user)
            authors.ask(connection, settings, server, place, path, why, report)
        filled = whole.schemas(connection) if request.whole else dump.outline.schemas
        there = schemas.existing(connection, filled)
        met = tuple(name for name in filled if name in there) if dump.outline.creates_tables else ()
        emptied = met if request.clean else ()
        # Without --clean, too, what bears the name of something in the dump is replaced.
        goes = schemas.content(connection, met, locked=request.disconnect)
        if request.whole:
            goes = replace(goes, locks=goes.locks + whole.large_objects(connection))
        preflight.check(connection, server, dump, goes, clean=request.clean, strict=request.strict, report=report)
        if request.clean:
            recreated = whole.globals_(connection) if request.whole else dump.outline.globals
            schemas.refuse_dependents(connection, emptied, rights.replaceable(connection, server, recreated))
            preflight.warn_of_event_triggers(connection, server, dump, report)
        stays = tuple(schemas.others(connection, emptied))
        if foreseen:
            foresight.before_restore(settings, target, connection, dump, request, report)
        changed = impact.impacts(connection, dump.outline.touches or (), emptied)
        lost = schemas.content(connection, stays, locked=request.disconnect) if changed else goes
        loses = any(saving.wanted(connection, each, large_objects=dump.outline.large_objects) for each in (goes, lost))
    saves = (loses and request.backup and settings.backup > 0) or request.migrate
    if saves:
        saving.check(settings, server)
    far = guard.far(settings, place) if loses or request.clean or changed else ""
    return Plan(settings, request, target, server, place, far, dump, met, emptied, stays, goes, changed, saves)


def safety_of(plan: Plan) -> Safety:
    """Get ready for the safety dump of a restore; nothing is made yet."""
    before = f"restoring {plan.dump.path.name}"
    return saving.Safety(plan.settings, plan.server, plan.place, before, plan.saves)


def restore(plan: Plan, report: Report, *, remember: bool = True, safety: Safety | None = None) -> Restored:
    """Load the dump in one transaction and commit it once it has proven itself.

    :param remember: Remember it, for verify.
    :param safety: Of a caller who wants to know of its dump whatever happens.
    :raises TaskError: It was rolled back, and the database is as it was; or, where the message says so,
        nobody could be asked whether it was committed.
    """
    began = time.monotonic()
    safety = safety or safety_of(plan)
    work = _Work(safety, plan, report)
    try:
        survey, loader = work.run()
        process.stands(work.sentences.done)
        tables = _tables(loader)
        _warn_of_rows(loader, report)
        if remember:
            _remember(plan, loader, survey, work, report)
        safety.keep()
        _analyze(plan, loader, report)
    except TaskError as error:
        safety.discard_after(str(error), work.sentences)
        raise
    except process.Interruption as interruption:
        interruption.state = work.state()
        safety.discard_after(interruption.state, work.sentences)
        raise
    rows, seconds = sum(each.rows for each in tables), time.monotonic() - began
    return Restored(
        plan,
        len(tables),
        rows,
        seconds,
        loader.left_out,
        safety.dumped,
        loader.changed,
        proven=not loader.changed and None not in loader.found.values(),
        differences=work.differences,
    )


@dataclass
class _Work:
    """The one transaction."""

    safety: Safety
    plan: Plan
    report: Report
    doing: str = "beginning"
    committed_as: str = ""
    proven: State | None = None
    differences: tuple[Line, ...] = ()

    @property
    def sentences(self) -> committing.Sentences:
        """What may be said of the database at the end."""
        label = self.plan.target.label
        return committing.Sentences(
            done=f"The restore was already committed: {label} holds the dump.",
            undone=f"The restore was rolled back; {label} is as it was.",
            unknown=f"{label} can't be asked whether the restore was committed: it holds either all of the dump or "
            f"what it held before. Look with `inv db.verify --file=` of this dump.",
        )

    def state(self) -> str:
        """Tell in what state the database is, asking it where the commit may have begun."""
        if not self.committed_as:
            return self.sentences.undone
        said = committing.outcome(
            self.committed_as, self.plan.target, self.sentences, self.plan.server.system_identifier
        )
        self.safety.committed = said == self.sentences.done
        return said

    def run(self) -> tuple[Survey, loading.Loader]:
        plan = self.plan
        with connected(plan.target, lock_timeout=plan.settings.lock_timeout, loads=True) as connection:
            try:
                guard.refuse_another(connection, plan.place)
                with preflight.alone(connection, plan.target, self.report, wanted=plan.request.disconnect):
                    xid = self._begin(connection)
                    self.doing = "making the safety dump"
                    self.safety.make(connection, self.plan.met, self.report, self.plan.changed)
                    self._empty(connection)
                    loader = self._loader(connection)
                    survey = self._load(loader)
                self._prove(survey, loader, xid)
                self._compare(connection, loader)
            except Exception as error:  # noqa: BLE001 - each is explained and raised
                self._abandon(connection)
                raise self._explained(error) from None
            except process.Interruption:
                self._abandon(connection)
                raise
            self.doing = "committing"
            self.report.progress(self.doing, 0, 0, "")
            self.committed_as = xid
            committing.commit(loader.wire, xid, plan.target, self.sentences, plan.server.system_identifier)
        return survey, loader

    def _begin(self, connection: Connection) -> str:
        with translated("The transaction could not be begun, and nothing was touched"):
            # Whatever the role or database has as its default: a fixed snapshot would not see what locks let in.
            connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE")
            xid = str(one(connection, "SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text")[0])
            preflight.lock_out_migrations(connection)
            preflight.silence_event_triggers(connection, self.plan.server)
            tuning.tune(connection)
        return xid

    def _empty(self, connection: Connection) -> None:
        if not self.plan.request.clean:
            return
        self.doing = "emptying the schemas"
        self.report.progress(self.doing, 0, 0, "")
        outline = self.plan.dump.outline
        if not self.plan.request.whole:
            again = rights.replaceable(connection, self.plan.server, outline.globals)
            schemas.empty(connection, outline.schemas, again)
            return
        manifest = self.plan.dump.manifest
        assert manifest is not None  # noqa: S101 - what has none is no safety dump
        kept = comparing.of_manifest(manifest)
        whole.drop_before(connection, outline.globals)
        again = rights.replaceable(connection, self.plan.server, whole.globals_(connection))
        schemas.empty(connection, self.plan.emptied, again)
        whole.drop_after(connection, outline.globals, comparing.schemas_in(kept), kept.extensions)
        whole.renew_schemas(connection)
        privileges.clear_defaults(connection)

    def _abandon(self, connection: Connection) -> None:
        """End what the server still does for us; closing the connection then rolls back, and nothing was lost."""
        with contextlib.suppress(psycopg.Error):
            connection.cancel_safe(timeout=5)
        self.safety.discard()

    def _loader(self, connection: Connection) -> loading.Loader:
        request = self.plan.request
        with translated("Looking at the database failed, and the restore was rolled back", self.plan.target):
            names = connection.execute("SELECT nspname FROM pg_catalog.pg_namespace").fetchall()
            set_aside = privileges.set_aside(connection, self.plan.fills)
        return loading.Loader(
            connection,
            self.plan.server,
            loading.rules(connection, owners=request.owners, privileges=request.privileges, strict=request.strict),
            {str(name) for (name,) in names},
            set_aside,
            clean=request.clean,
            exact=self.plan.dump.manifest is not None,
        )

    def _load(self, loader: loading.Loader) -> Survey:
        survey = Survey()
        with self.plan.dump.open() as source:
            for event, action in survey.watch(lex(source.chunks())):
                if isinstance(event, CopyData):
                    loader.data(event.text)
                    self._progress(source)
                elif isinstance(event, Statement) and action is not None:
                    self._say(survey, action, source)
                    loader.statement(event, action)
                elif isinstance(event, CopyEnd):
                    loader.end_of_data(survey.block)
            if source.content != self.plan.dump.content or not survey.complete:
                raise WorkError("the dump's content is not what it was when it was checked")
        return survey

    def _prove(self, survey: Survey, loader: loading.Loader, xid: str) -> None:
        self.doing = "verifying"
        self.report.progress(self.doing, 0, 0, "")
        loader.finish()
        loader.prove({key: (each.value, each.is_called) for key, each in survey.sequences.items()})
        manifest = self.plan.dump.manifest
        if manifest is not None and survey.tables() != tuple(sorted(manifest.tables)):
            raise WorkError("the rows that went in are not those of the manifest")
        outline = self.plan.dump.outline
        seen = survey.outline()
        if (seen.schemas, seen.globals, seen.creates_tables) != (
            outline.schemas,
            outline.globals,
            outline.creates_tables,
        ) or outline.touches not in {None, seen.touches}:
            raise WorkError("the dump holds other objects than the outline in its manifest says")
        if not dumpfile.unchanged(self.plan.dump):
            raise WorkError("the dump's file was changed while it was restored")
        now = loader.wire.ask(b"SELECT pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text")
        if not loader.wire.in_transaction or now != [[xid.encode()]]:
            raise WorkError("the transaction is no longer the one that the restore began")

    def _compare(self, connection: Connection, loader: loading.Loader) -> None:
        """Compare every object, and the content where it is asked for, with the manifest's facts.

        :raises WorkError: Something is missing or different, or, with --clean, more than the dump holds.
        """
        manifest, request = self.plan.dump.manifest, self.plan.request
        # Names in the dump's own encoding until here; psycopg decodes by the session's.
        connection.execute("SET client_encoding = 'UTF8'")
        if manifest is None or not ({"objects", "definitions"} & manifest.facts.keys()):
            return
        expected = comparing.of_manifest(manifest)
        self.doing = "comparing"
        self.report.progress(self.doing, 0, 0, "")
        summed = list(expected.checksums) if request.checksums else []
        self.proven = state.of_objects(connection, summed)
        if unsummed := state.unsummed(self.proven, summed):
            self.report.warn(unsummed)
        schemas_filled = (*self.plan.fills, *([""] if request.whole else [])) if request.clean else ()
        lines = comparing.objects_and_content(expected, self.proven, schemas_filled)
        for line in lines:
            # Of the dump's own statements, which are proven: the server wrote what it read in another way.
            if line.text:
                self.differences += (line,)
                self.report.warn(str(line))
            elif line.fatal and line.kind not in loader.spared:
                more = sum(each.fatal and not each.text for each in lines) - 1
                raise WorkError(f"{line}" + (f", and {more} more" if more else ""))
            # Whose roles are missing here is told at the end, by role.
            if not (line.kind in told.ROLES and any(reason.startswith(told.ROLES) for reason in loader.left_out)):
                self.report.warn(str(line))

    def _say(self, survey: Survey, action: Action, source: Source) -> None:
        table = ".".join(survey.current) if survey.current else ""
        self.doing = f"loading {table}" if table and action.verb == "COPY" else loading.doing(action)
        self._progress(source)

    def _progress(self, source: Source) -> None:
        self.report.progress(self.doing, source.position, self.plan.dump.size if source.position else 0, "bytes")

    def _explained(self, error: Exception) -> Exception:
        """Say of an error in what state it leaves the database, and what to do."""
        state = self.sentences.undone
        if isinstance(error, TaskError) and self.doing == "making the safety dump":
            return error
        if isinstance(error, psycopg.Error):
            error = as_refusal(error)
        if isinstance(error, StatementError):
            return self._refused(error, state)
        kind = ServerError if isinstance(error, LostError) else WorkError
        what = {
            LexError: f"the dump can't be read on, {error}",
            OSError: f"{self.plan.dump.path.name} can't be read, {getattr(error, 'strerror', '')}",
            WorkError: str(error),
            LostError: self.plan.target.scrub(str(error)),
        }
        found = next((text for each, text in what.items() if isinstance(error, each)), "")
        return kind(f"While {self.doing}: {found.rstrip('.')}. {state}") if found else error

    def _refused(self, error: StatementError, state: str) -> TaskError:
        doing = error.doing or self.doing
        if doing.startswith("ALTER"):
            # Which table, and what of it: in a dump it stands in its first words.
            said = error.statement.decode(errors="replace").rstrip(";")
            doing = textwrap.shorten(said, _SHOWN, placeholder=" …")
        if error.sqlstate == _NO_LOCK:
            return ServerError(f"While {doing}: {blocked(self.plan.target)}. {state}")
        hint = ""
        if self._clean_would_help(error):
            hint = " The database holds other objects than the dump: --clean empties the dump's schemas first."
        elif error.sqlstate == _OUT_OF_LOCKS:
            hint = " One transaction locks every relation: raise max_locks_per_transaction and restart the server."
        why = newer.explain(error.statement, error.sqlstate, self.plan.dump.server, self.plan.server)
        return WorkError(f"While {doing}: {error}.{why} {state}{hint}")

    def _clean_would_help(self, error: StatementError) -> bool:
        conflict = error.sqlstate in _DUPLICATE | {_DEPENDENT}
        return conflict and not self.plan.request.clean and self.plan.dump.outline.creates_tables


def _tables(loader: loading.Loader) -> tuple[TableRows, ...]:
    """Return the rows that were loaded, or the number that a table really holds where that is another."""
    changed = {each.key: each.found for each in loader.changed if not each.sequence}
    found = {key: changed.get(key, rows) for key, rows in loader.rows.items()}
    return tuple(sorted(TableRows(*key, rows) for key, rows in found.items() if rows is not None))


def _warn_of_rows(loader: loading.Loader, report: Report) -> None:
    """Name the tables whose rows changed after they were loaded, and those whose rows nobody could count."""
    for changed in loader.changed:
        report.warn(f"{changed}: statements of the dump, or triggers, changed it afterwards.")
    for key, rows in sorted(loader.found.items()):
        if rows is None:
            report.warn(f"The rows of {shown(key)} can't be counted; the server took {loader.rows[key]:,}.")


def _some(changed: Sequence[loading.Changed]) -> str:
    more = f", and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"{changed[0]}{more}"


def _analyze(plan: Plan, loader: loading.Loader, report: Report) -> None:
    """Give the planner statistics; a failure does no harm and is only said."""
    report.progress("analyzing", 0, 0, "")
    try:
        with contextlib.ExitStack() as stack:
            filled = {(each.schema, each.name): each.rows for each in _tables(loader)}
            few = min(_ANALYZING, len(filled))
            opened = [connected(plan.target, lock_timeout=plan.settings.lock_timeout, loads=True) for _ in range(few)]
            loading.analyze([stack.enter_context(each) for each in opened], filled)
    except (TaskError, psycopg.Error) as error:
        report.warn(f"The restore is committed, but ANALYZE failed: {plan.target.scrub(str(error))}")


def _remember(plan: Plan, loader: loading.Loader, survey: Survey, work: _Work, report: Report) -> None:
    facts = comparing.to_facts(work.proven) if work.proven is not None else {}
    if plan.dump.manifest is not None and "checksums" in plan.dump.manifest.facts:
        facts = {**facts, "checksums": plan.dump.manifest.facts["checksums"]}
    tables = _tables(loader)
    record = records.Record(
        database=plan.target.label,
        file=str(plan.dump.path.resolve()),
        restored=datetime.now(UTC).isoformat(timespec="seconds"),
        tables=tuple(replace(each, rows=loader.found.get((each.schema, each.name)) or each.rows) for each in tables),
        sequences=tuple(sorted(survey.sequences.values())),
        dumped=tuple(sorted(TableRows(*key, rows) for key, rows in loader.rows.items())),
        facts=facts,
        schemas=plan.fills if plan.request.clean else (),
        excluded=plan.dump.manifest.excluded_data if plan.dump.manifest else (),
        saved=work.safety.dumped.path.name if work.safety.dumped else "",
    )
    try:
        records.write(records.place(plan.settings.dumps, plan.target, plan.server), record)
    except OSError as error:
        report.warn(f"The restore is committed, but could not be remembered: {error.strerror}. Verify with --file=.")
