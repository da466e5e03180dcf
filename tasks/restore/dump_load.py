"""Load a dump through a loader, and prove that the database contains it: what every way of restoring shares."""

from __future__ import annotations

import contextlib
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from ..dumpfiles.dump_file import is_unchanged
from ..dumpformat.lexer import CopyData, CopyEnd, Statement, lex
from ..dumpformat.objects_without_rows import split_name
from ..dumpformat.summary import DumpSummary
from ..errors import OperationFailedError
from ..formatting import format_list
from ..inventory.compare import ROLES, DifferenceLine, compare_objects_and_content, state_of_manifest
from ..inventory.snapshot import DatabaseState, describe_unsummed, state_of_objects
from ..load.filters import describe_statement, read_rules
from ..load.lenient import Leniency, LenientLoader
from ..load.loader import Loader
from ..postgres.connection import Connection, read_names, translated
from .clear import set_aside_default_privileges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ..dumpfiles.reader import DumpReader
    from ..dumpformat.statements import StatementKind
    from ..progress import Report
    from .error_messages import Commit
    from .plan import RestorePlan

_Loader = TypeVar("_Loader", bound=Loader)


@dataclass
class DumpLoad:
    """The load of a dump, in a session of the caller, and its proof.

    :ivar doing: The present step, for progress and errors.
    :ivar proven: The state of the database that was compared with the manifest.
    :ivar differences: Expressions that the server now writes in another form than in the dump.
    :ivar leniencies: The objects that were loaded in the lenient way.
    :ivar analyzed: The tables that were already analyzed, each with its number of loaded rows then.
    """

    commit: Commit
    plan: RestorePlan
    report: Report
    doing: str = "beginning"
    proven: DatabaseState | None = None
    differences: tuple[DifferenceLine, ...] = ()
    leniencies: tuple[Leniency, ...] = ()
    analyzed: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def _lenient_loader(self, connection: Connection) -> LenientLoader:
        return self._loader(connection, LenientLoader, dump=self.plan.dump, search_path=self.plan.search_path)

    def _loader(self, connection: Connection, make: Callable[..., _Loader], **more: Any) -> _Loader:
        request = self.plan.request
        with translated("Reading the database failed, and the restore was rolled back", self.plan.target):
            schemas = read_names(connection, "SELECT nspname FROM pg_catalog.pg_namespace")
            set_aside = set_aside_default_privileges(connection, self.plan.fills)
        return make(
            connection=connection,
            server=self.plan.server,
            rules=read_rules(
                connection,
                skipped=request.skip_extensions,
                owners=request.owners,
                privileges=request.privileges,
                strict=request.strict,
            ),
            schemas=set(schemas),
            set_aside=set_aside,
            clean=request.clean,
            # Triggers of the database may change rows of a dump without definitions.
            exact=self.plan.dump.manifest is not None and self.plan.dump.outline.creates_tables,
            **more,
        )

    def _send(self, loader: Loader) -> DumpSummary:
        """Send the dump's statements and rows.

        :raises OperationFailedError: The dump's content is not the one that was checked.
        """
        summary = DumpSummary()
        with self.plan.dump.open() as source, self._reading(source) as chunks:
            events = summary.watch(lex(chunks))
            if self.plan.tables is not None:
                events = self.plan.tables.selection.filter(events)
            for event, kind in events:
                if isinstance(event, CopyData):
                    loader.data(event.text)
                    self._progress(source)
                elif isinstance(event, Statement) and kind is not None:
                    self._show_step(summary, kind, source)
                    loader.stream.encoding = summary.encoding
                    loader.statement(event, kind)
                elif isinstance(event, CopyEnd):
                    loader.end_of_data(summary.block)
            if source.content != self.plan.dump.content or not summary.complete:
                raise OperationFailedError("the content of the dump has changed since it was checked")
        loader.finish()
        return summary

    def _reading(self, source: DumpReader) -> contextlib.AbstractContextManager[Iterator[bytes]]:
        """Return the text of the dump, in chunks."""
        return contextlib.nullcontext(source.chunks())

    def _prove(self, summary: DumpSummary, loader: Loader, xid: str) -> None:
        """Compare rows, sequences and the dump's content with what was loaded, in the transaction that will commit it.

        :raises OperationFailedError: They differ, or the transaction is not the one with this id.
        """
        self.doing = "verifying"
        self.report.progress(self.doing, 0, 0, "")
        self.leniencies = tuple(loader.eased) if isinstance(loader, LenientLoader) else ()
        for each in self.leniencies:
            self.report.warn(f"{each}.")
        tables = self.plan.tables
        sequences = {key: each for key, each in summary.sequences.items() if self.plan.sets(key)}
        loader.prove({key: (each.value, each.is_called) for key, each in sequences.items()})
        manifest = self.plan.dump.manifest
        if manifest is not None and summary.tables() != tuple(sorted(manifest.tables)):
            raise OperationFailedError("the numbers of loaded rows differ from the manifest")
        outline, seen = self.plan.dump.outline, summary.outline()
        # With --table, the plan has read the outline from the dump itself, not from the manifest.
        described = operator.attrgetter("schemas", "globals", "creates_tables")
        if tables is None and (described(seen) != described(outline) or outline.touches not in {None, seen.touches}):
            raise OperationFailedError("the objects in the dump differ from the outline in its manifest")
        if not is_unchanged(self.plan.dump):
            raise OperationFailedError("the dump's file was changed while it was restored")
        now = loader.stream.ask(b"SELECT pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text")
        if not loader.stream.in_transaction or now != [[xid.encode()]]:
            raise OperationFailedError("the transaction is no longer the one that the restore began")

    def _compare(self, connection: Connection, loader: Loader) -> None:
        """Compare every object, and with --checksums the rows, with the manifest's facts.

        :raises OperationFailedError: An object is missing or differs, or, with --clean, is not in the dump.
        """
        manifest, request = self.plan.dump.manifest, self.plan.request
        if manifest is None or not ({"objects", "definitions"} & manifest.facts.keys()):
            return
        tables = self.plan.tables
        expected = state_of_manifest(manifest)
        expected = expected if tables is None else tables.narrow(expected)
        self.doing = "comparing"
        self.report.progress(self.doing, 0, 0, "")
        summed = expected.checksums if request.checksums else {}
        found = state_of_objects(connection, summed)
        self.proven = found if tables is None else tables.narrow(found)
        if unsummed := describe_unsummed(self.proven, summed):
            self.report.warn(unsummed)
        schemas_filled = (*self.plan.fills, *([""] if request.replaces_all else [])) if request.clean else None
        lines = compare_objects_and_content(expected, self.proven, schemas_filled)
        for line in lines:
            # The statements were executed as in the dump, but the server writes the expression in another form.
            if line.text:
                self.differences += (line,)
                self.report.warn(str(line))
            elif line.fatal and line.kind not in loader.skipped_kinds and not self._is_excused(line):
                others = [each for each in lines if each.fatal and not each.text and each is not line]
                raise OperationFailedError(format_list([str(each) for each in (line, *others)], 1))
            # Missing roles are reported at the end, by role.
            if not (line.kind in ROLES and any(each.concerns_roles for each in loader.left_out)):
                self.report.warn(str(line))

    def _abandon(self, connection: Connection) -> None:
        """Cancel the running statement and discard the safety dump. Closing the connection then rolls back."""
        with contextlib.suppress(psycopg.Error):
            connection.cancel_safe(timeout=5)
        self.commit.safety.discard()

    def _is_excused(self, line: DifferenceLine) -> bool:
        """Return whether the lenient way has already reported a difference."""
        parts = split_name(line.name.encode("utf-8", "surrogateescape"))
        return any(parts in each.objects for each in self.leniencies)

    def _show_step(self, summary: DumpSummary, kind: StatementKind, source: DumpReader) -> None:
        table = ".".join(summary.current) if summary.current else ""
        self.doing = f"loading {table}" if table and kind.verb == "COPY" else describe_statement(kind)
        self._progress(source)

    def _progress(self, source: DumpReader) -> None:
        self.report.progress(self.doing, source.position, self.plan.dump.size if source.position else 0, "bytes")
