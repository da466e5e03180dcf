"""Restore some tables of a dump, and leave everything else as it is.

With `--data-only` a table's rows are replaced, else also its definition. Foreign keys from and to the tables are taken
off meanwhile, so that no ON DELETE reaches another table, and PostgreSQL checks them when they are put back.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from psycopg import errors, sql

from ..dumpfiles.table_names import require_tables
from ..dumpformat.lexer import lex
from ..dumpformat.manifest import table_rows
from ..dumpformat.summary import DumpSummary
from ..dumpformat.table_parts import TableParts
from ..errors import BadInputError, OperationFailedError
from ..formatting import format_list, show_name
from ..inventory.part import restrict_state
from ..inventory.snapshot import read_snapshot
from ..postgres.constraints import (
    add_foreign_keys,
    drop_foreign_keys,
    read_firing,
    read_foreign_keys,
    read_live_tables,
    read_owned_sequences,
    run_text,
    set_firing,
)
from ..postgres.schemas import table_dependents
from ..postgres.tables import count_tables, read_partitions, read_tables

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from ..dumpfiles.dump_file import DumpFile
    from ..dumpformat.lexer import Event
    from ..dumpformat.statements import StatementKind
    from ..dumpformat.table_parts import TableSelection
    from ..inventory.snapshot import DatabaseState
    from ..postgres.connection import Connection
    from ..postgres.constraints import FiringState, ForeignKey, LiveTable
    from ..progress import Report

    Key = tuple[str, str]


_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class ReplacedTable:
    """A table that is restored.

    :ivar exists: Whether the database has it; `now` how many rows it holds, None where they can't be counted.
    :ivar rows: Its rows in the dump, those of its partitions included; `inserts` its INSERT statements there.
    """

    key: Key
    exists: bool
    now: int | None
    rows: int
    inserts: int


@dataclass(frozen=True, kw_only=True)
class TablesPlan:
    """Which tables of a dump are restored.

    :ivar live: What the database has of them.
    :ivar lost_keys: Foreign keys of other tables in the dump to tables that are created: they are not restored.
    """

    data_only: bool
    tables: tuple[ReplacedTable, ...]
    selection: TableSelection
    live: tuple[LiveTable, ...]
    lost_keys: tuple[str, ...] = ()

    @property
    def replaces(self) -> bool:
        """Whether any of them exists."""
        return any(each.exists for each in self.tables)

    @property
    def names(self) -> str:
        """The tables, for people."""
        return format_list([show_name(each.key) for each in self.tables])

    def narrow(self, state: DatabaseState) -> DatabaseState:
        """Return of a state what concerns the tables: with `data_only` nothing but checksums of their rows."""
        checksums = {key: each for key, each in state.checksums.items() if key in self.selection.tables}
        if self.data_only:
            return replace(state, objects={}, properties={}, extensions={}, checksums=checksums)
        outline = replace(self.selection.outline, schemas=(), extensions=())
        return replace(restrict_state(state, outline, self.selection.created, {}), checksums=checksums)


def read_table_parts(dump: DumpFile, report: Report) -> TableParts:
    """Read what a dump holds of each of its tables."""
    parts, summary = TableParts(), DumpSummary()
    with dump.open() as source:

        def watched() -> Iterator[tuple[Event, StatementKind | None]]:
            for event, action in summary.watch(lex(source.chunks())):
                report.progress("reading the dump", source.position, dump.size if source.position else 0, "bytes")
                yield event, action

        parts.watch(watched(), summary)
    return parts


def plan_tables(
    connection: Connection,
    dump: DumpFile,
    parts: TableParts,
    names: Sequence[str],
    *,
    search_path: Sequence[str],
    data_only: bool,
    counted: bool,
) -> TablesPlan:
    """Choose what is restored, and refuse what can't be.

    :param names: The tables, as a person names them.
    :param search_path: Which of several tables of the same name is meant.
    :param counted: Whether the rows are counted, which waits for the locks of others.
    :raises BadInputError: The tables can't be restored so; nothing was touched.
    """
    name = dump.path.name
    if dump.outline.unqualified:
        raise BadInputError(
            f"{name} names objects without their schema (as pg_dump before 10.3 did), so it is unclear which tables "
            f"they are. Nothing was touched."
        )
    known = {**parts.created, **parts.filled}
    if not parts.created:
        # Only the database knows the partitioned tables of the partitions that a dump of rows alone fills.
        known |= {top: None for key, (top, _) in read_partitions(connection).items() if key in parts.filled}
    tables = require_tables("--table", names, known, name, search_path)
    live = read_live_tables(connection, tables)
    if apart := [each.key for each in live if each.key in parts.created and each.top not in parts.line(each.key)]:
        raise BadInputError(
            f"{show_name(apart[0])} is a partition in the database and a table of its own in {name}. Nothing was "
            f"touched. Detach it first (ALTER TABLE … DETACH PARTITION)."
        )
    # A partition is a part of its table where both are named.
    below = {each.key for each in live if not each.named}
    below |= {key for key in tables if any(above in tables for above in list(parts.line(key))[1:])}
    tables = [key for key in tables if key not in below]
    live = tuple(each for each in live if each.top in tables)
    sequences = read_owned_sequences(connection, live, parts.values) if data_only else ()
    chosen = tables if parts.created else [*tables, *(each.key for each in live)]
    selection = parts.select(chosen, data_only=data_only, sequences=sequences)
    _refuse_dump(dump, parts, tables, selection, data_only=data_only)
    _refuse_live(connection, tables, live, parts, selection, data_only=data_only)
    counts = _count_rows(connection, {each.key for each in live}) if counted else {}
    missing = selection.tables - {each.key for each in live}
    lost = [
        f"{key} of {show_name(table)}"
        for table, key, referenced in parts.references
        if referenced in missing and table not in selection.tables
    ]
    return TablesPlan(
        data_only=data_only,
        tables=tuple(_replaced(key, live, parts, counts) for key in tables),
        selection=selection,
        live=live,
        lost_keys=tuple(lost),
    )


def narrowed_dump(dump: DumpFile, plan: TablesPlan) -> DumpFile:
    """Return a dump as if it held nothing but the tables; its content is the same."""
    selection = plan.selection
    return replace(
        dump,
        outline=replace(selection.outline, touches=()),
        tables=table_rows(selection.rows),
        inserts=selection.inserts.total(),
        names={},
    )


def _count_rows(connection: Connection, keys: Collection[Key]) -> dict[Key, int]:
    """Count tables; nothing where the role may not, or where others hold their locks."""
    with contextlib.suppress(errors.LockNotAvailable, errors.InsufficientPrivilege), read_snapshot(connection):
        tables = [table for table in read_tables(connection) if table.key in keys]
        return {table.key: rows for table, rows in count_tables(connection, tables)}
    return {}


def _replaced(key: Key, live: Sequence[LiveTable], parts: TableParts, counts: Mapping[Key, int]) -> ReplacedTable:
    trees = [each for each in live if each.top == key]
    rows, inserts = parts.count([key] if parts.created else [key, *(each.key for each in trees)])
    held = [counts.get(each.key) for each in trees if each.kind == "r"]
    now = None if None in held else sum(each or 0 for each in held)
    return ReplacedTable(key=key, exists=bool(trees), now=now, rows=rows, inserts=inserts)


def _refuse_dump(
    dump: DumpFile, parts: TableParts, tables: Sequence[Key], selection: TableSelection, *, data_only: bool
) -> None:
    """Refuse what the dump does not hold, or holds in a form that may do anything.

    :raises BadInputError: It is so. Nothing was touched.
    """
    name, manifest = dump.path.name, dump.manifest
    lacking = [] if parts.holds_inserts else parts.tables_without_rows(selection.tables)
    if manifest is not None:
        lacking += [key for key in selection.tables if key in manifest.excluded_data and key not in lacking]
    if lacking:
        raise BadInputError(
            f"{name} was made without the rows of {format_list([show_name(key) for key in lacking])}, so the table "
            f"would be empty. Nothing was touched."
        )
    if (through := parts.filled_above(selection.tables)) is not None:
        table, above = (show_name(key) for key in through)
        raise BadInputError(
            f"{name} has the rows of {table} among those of {above}, the partitioned table. Nothing was touched. Name "
            f"{above} instead (--table)."
        )
    if selection.unknown:
        raise BadInputError(
            f"{name} has a statement about these tables that pg_dump does not write: {selection.unknown} … What it "
            f"does beyond them is unknown. Nothing was touched. Restore the dump into another database."
        )
    if not data_only:
        undefined = [key for key in tables if key not in parts.created]
        if undefined:
            raise BadInputError(
                f"{name} does not create {show_name(undefined[0])} (it was made with --data-only). Nothing was "
                f"touched. To replace its rows, add --data-only."
            )


def _refuse_live(
    connection: Connection,
    tables: Sequence[Key],
    live: Sequence[LiveTable],
    parts: TableParts,
    selection: TableSelection,
    *,
    data_only: bool,
) -> None:
    """Refuse what the database does not allow.

    :raises BadInputError: The tables, what depends on them, or their owner prevent it. Nothing was touched.
    """
    there = {each.key: each for each in live}
    keys = read_foreign_keys(connection, [each.oid for each in live])
    for each in live:
        shown = show_name(each.key)
        if each.named and each.kind not in {"r", "p"}:
            raise BadInputError(f"{shown} is not a table in this database. Nothing was touched.")
        if each.of_extension:
            raise BadInputError(f"{shown} belongs to an extension, so --table can't replace it. Nothing was touched.")
        if not each.owned:
            raise BadInputError(
                f"Only the owner of {shown} can restore it. Nothing was touched. Name the owner's URL with --url-env."
            )
    for key in keys:
        if not key.owned and (data_only or not key.of_tables):
            raise BadInputError(
                f"{key.table} references the tables with the foreign key {key.name}, and only its owner can take that "
                f"off and check it again. Nothing was touched. Name that role's URL with --url-env."
            )
    if data_only:
        _refuse_missing(tables, there, parts, selection)
    else:
        _refuse_replacement(connection, tables, live, parts)


def _refuse_missing(
    tables: Sequence[Key], there: Mapping[Key, LiveTable], parts: TableParts, selection: TableSelection
) -> None:
    if missing := [key for key in tables if key not in there]:
        raise BadInputError(
            f"The database has no table {show_name(missing[0])}. Nothing was touched. Without --data-only, --table "
            f"creates it."
        )
    if missing := sorted(key for key in selection.tables if key in parts.filled and key not in there):
        raise BadInputError(
            f"{show_name(missing[0])} is a partition in the dump and not in the database. Nothing was touched. Create "
            f"it, or restore the definition, too (without --data-only)."
        )


def _refuse_replacement(
    connection: Connection, tables: Sequence[Key], live: Sequence[LiveTable], parts: TableParts
) -> None:
    of_dump = {key for key in tables if (parent := parts.parent(key)) is not None and parent not in tables}
    partitions = sorted(of_dump | {each.key for each in live if each.named and each.is_partition})
    if partitions:
        raise BadInputError(
            f"{show_name(partitions[0])} is a partition, whose definition can't be replaced by itself. Nothing was "
            f"touched. Add --data-only, or name the partitioned table."
        )
    if dependents := table_dependents(connection, [each.oid for each in live]):
        raise BadInputError(
            f"To replace the definition, the table must be dropped, and other objects depend on it: "
            f"{format_list(dependents, _SHOWN, '; ')}. Nothing was touched. Add --data-only to replace only the rows, "
            f"or drop these objects and create them again afterwards."
        )


@dataclass
class TableReplacement:
    """Replaces tables in the open transaction of a restore.

    :ivar _keys: The foreign keys that were taken off; `_firing` what was disabled.
    """

    connection: Connection
    plan: TablesPlan
    _keys: tuple[ForeignKey, ...] = field(default=(), init=False)
    _firing: tuple[FiringState, ...] = field(default=(), init=False)

    def lock(self) -> None:
        """Keep other sessions from writing to the tables.

        :raises OperationFailedError: They are no longer those that were shown.
        """
        for each in self.plan.live:
            if each.kind != "f":
                run_text(self.connection, f"LOCK TABLE ONLY {each.sql} IN SHARE MODE")
        if read_live_tables(self.connection, [each.key for each in self.plan.tables]) != self.plan.live:
            raise OperationFailedError("the tables were changed meanwhile; run it again to see what is there now")

    def clear(self) -> None:
        """Delete the rows of the tables, or drop the tables, and nothing else."""
        oids = [each.oid for each in self.plan.live]
        keys, firing = read_foreign_keys(self.connection, oids), read_firing(self.connection, oids)
        if not self.plan.data_only:
            self._keys = tuple(key for key in keys if not key.of_tables)
            own = {each.sql for each in self.plan.live}
            self._firing = tuple(each for each in firing if each.is_forced_security and each.table not in own)
            set_firing(self.connection, self._firing, enable=False)
            drop_foreign_keys(self.connection, self._keys)
            if dropped := [each.sql for each in self.plan.live if each.named]:
                run_text(self.connection, f"DROP TABLE {', '.join(dropped)}")
            return
        self._keys, self._firing = keys, firing
        drop_foreign_keys(self.connection, keys)
        set_firing(self.connection, self._firing, enable=False)
        if emptied := [f"ONLY {each.sql}" for each in self.plan.live if each.kind == "r"]:
            # A DELETE would run rules and obey row-level security.
            run_text(self.connection, f"TRUNCATE TABLE {', '.join(emptied)}")
        for key in sorted(self.plan.selection.sequences):
            # No rollback takes setval back, except of a sequence that was restarted in the same transaction.
            self.connection.execute(sql.SQL("ALTER SEQUENCE {} RESTART").format(sql.Identifier(*key)))

    def put_back(self) -> None:
        """Put back what was taken off; PostgreSQL checks the foreign keys.

        :raises OperationFailedError: Rows of a table reference rows that are not there any more, or something is not
            as it was.
        """
        for statement in ("SET client_encoding = 'UTF8'", "SET search_path = ''", "SET CONSTRAINTS ALL IMMEDIATE"):
            self.connection.execute(statement)
        live = read_live_tables(self.connection, [each.key for each in self.plan.tables])
        oids = [each.oid for each in live]
        # The dump may force row-level security, which would refuse the checks.
        forced = [each for each in read_firing(self.connection, oids) if each.is_forced_security]
        set_firing(self.connection, forced, enable=False)
        add_foreign_keys(self.connection, self._keys)
        set_firing(self.connection, [*forced, *self._firing], enable=True)
        keys, firing = read_foreign_keys(self.connection, oids), read_firing(self.connection, oids)
        if not self.plan.data_only:
            keys = tuple(key for key in keys if not key.of_tables)
        elif firing != self._firing:
            raise OperationFailedError("triggers or rules of the tables are not as they were")
        if keys != self._keys:
            raise OperationFailedError("foreign keys of other tables are not as they were")
