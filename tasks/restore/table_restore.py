"""Restore some tables of a dump, and change nothing else.

With `--data-only` the rows are replaced, otherwise also the definition. Foreign keys from and to the tables are dropped
first, so that no ON DELETE changes another table. PostgreSQL checks them when they are added again.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from psycopg import errors, sql

from ..dumpfiles.table_names import require_tables
from ..dumpformat.lexer import Event, lex
from ..dumpformat.manifest import table_rows
from ..dumpformat.summary import DumpSummary
from ..dumpformat.table_parts import TableParts, TableSelection
from ..errors import BadInputError, OperationFailedError
from ..formatting import format_list, show_name
from ..inventory.part import restrict_state
from ..inventory.snapshot import DatabaseState, Key, read_snapshot
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
from ..postgres.tables import count_tables, read_partitions, read_tables
from .clear import restart_sequences
from .key_triggers import KeyTrigger, read_key_triggers, set_key_triggers
from .table_refusals import refuse_dump, refuse_live

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from ..dumpfiles.dump_file import DumpFile
    from ..dumpformat.statements import StatementKind
    from ..postgres.connection import Connection
    from ..postgres.constraints import FiringState, ForeignKey, LiveTable
    from ..progress import Report


# A table and its statistics objects, as ALTER writes them. Its indexes and sequences follow the table.
_WITH_OWNER = """
SELECT 'TABLE ' || c.oid::pg_catalog.regclass::pg_catalog.text
  FROM pg_catalog.pg_class c WHERE c.oid = %(table)s
 UNION ALL
SELECT 'STATISTICS ' || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(s.stxname)
  FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
  JOIN pg_catalog.pg_class c ON c.oid = s.stxrelid WHERE c.oid = %(table)s AND s.stxowner = c.relowner
"""


@dataclass(frozen=True, kw_only=True)
class ReplacedTable:
    """A table that is restored.

    :ivar exists: Whether the database has the table.
    :ivar now: The number of its rows in the database; None if they can't be counted.
    :ivar rows: The number of its rows in the dump, with those of its partitions.
    :ivar inserts: The number of its INSERT statements in the dump.
    """

    key: Key
    exists: bool
    now: int | None
    rows: int
    inserts: int


@dataclass(frozen=True, kw_only=True)
class TablesPlan:
    """The plan of a restore of some tables.

    :ivar selection: The statements and rows of the dump to load.
    :ivar live: The tables in the database.
    :ivar owners: The owners of tables that the dump sets, unless they are left out.
    :ivar lost_keys: Foreign keys in the dump from other tables to tables that are created; they are not restored.
    """

    data_only: bool
    tables: tuple[ReplacedTable, ...]
    selection: TableSelection
    live: tuple[LiveTable, ...]
    owners: Mapping[Key, str]
    lost_keys: tuple[str, ...] = ()

    @property
    def replaces(self) -> bool:
        """Return whether one of the tables exists."""
        return any(each.exists for each in self.tables)

    @property
    def names(self) -> str:
        """Return the names of the tables, for messages."""
        return format_list([show_name(each.key) for each in self.tables])

    def narrow(self, state: DatabaseState) -> DatabaseState:
        """Return the part of a state that concerns the tables: with `data_only` only the checksums of their rows."""
        checksums = {key: each for key, each in state.checksums.items() if key in self.selection.tables}
        if self.data_only:
            return replace(state, objects={}, properties={}, extensions={}, checksums=checksums)
        outline = replace(self.selection.outline, schemas=(), extensions=())
        part = restrict_state(state, outline, self.selection.created, {})
        # Settings of the database are not a part of any table.
        properties = {
            kind: {name: each for name, each in found.items() if not name.startswith("the database")}
            for kind, found in part.properties.items()
        }
        return replace(part, properties=properties, checksums=checksums)


def read_table_parts(dump: DumpFile, report: Report) -> TableParts:
    """Return the statements and rows of each table of a dump."""
    parts, summary = TableParts(), DumpSummary()
    with dump.open() as source:

        def watched() -> Iterator[tuple[Event, StatementKind | None]]:
            for event, kind in summary.watch(lex(source.chunks())):
                report.progress("reading the dump", source.position, dump.size if source.position else 0, "bytes")
                yield event, kind

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
    """Return the plan to restore some tables.

    :param names: The names of the tables, from the command line.
    :param search_path: The schemas that decide between tables with the same name.
    :param counted: Count the rows of the tables, which waits for locks of other sessions.
    :raises BadInputError: The tables can't be restored in this way. Nothing was touched.
    """
    name = dump.path.name
    if dump.outline.unqualified:
        raise BadInputError(
            f"{name} names objects without their schema (as pg_dump before 10.3 did), so the tables can't be found in "
            f"it. Nothing was touched."
        )
    known = {**parts.created, **parts.filled}
    if not parts.created:
        # A dump of rows names only partitions; their partitioned tables are known to the database only.
        known |= {top: None for key, (top, _) in read_partitions(connection).items() if key in parts.filled}
    tables = require_tables("--table", names, known, name, search_path)
    live = read_live_tables(connection, tables)
    if apart := [each.key for each in live if each.key in parts.created and each.top not in parts.line(each.key)]:
        raise BadInputError(
            f"{show_name(apart[0])} is a partition in the database and a table of its own in {name}. Nothing was "
            f"touched.",
            fix="Detach it first (ALTER TABLE … DETACH PARTITION).",
        )
    # If a partition and its table are both named, the partition is restored as a part of the table.
    below = {each.key for each in live if not each.named}
    below |= {key for key in tables if any(above in tables for above in list(parts.line(key))[1:])}
    tables = [key for key in tables if key not in below]
    live = tuple(each for each in live if each.top in tables)
    sequences = read_owned_sequences(connection, live, parts.values) if data_only else ()
    chosen = tables if parts.created else [*tables, *(each.key for each in live)]
    selection = parts.select(chosen, data_only=data_only, sequences=sequences)
    refuse_dump(dump, parts, tables, selection, data_only=data_only)
    refuse_live(connection, tables, live, parts, selection, data_only=data_only)
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
        owners=parts.owners,
        lost_keys=tuple(lost),
    )


def narrowed_dump(dump: DumpFile, plan: TablesPlan) -> DumpFile:
    """Return the same dump with a description that contains only the tables."""
    selection = plan.selection
    return replace(
        dump,
        outline=replace(selection.outline, touches=()),
        tables=table_rows(selection.rows),
        inserts=selection.inserts.total(),
        names={},
    )


def _count_rows(connection: Connection, keys: Collection[Key]) -> dict[Key, int]:
    """Return the number of rows of tables; empty if the role may not read them or another session locks them."""
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


@dataclass
class TableReplacement:
    """The replacement of tables in the open transaction of a restore.

    :ivar _keys: The dropped foreign keys.
    :ivar _key_triggers: Their triggers that were not enabled.
    :ivar _firing: The disabled triggers, rules and forced row-level security.
    """

    connection: Connection
    plan: TablesPlan
    _keys: tuple[ForeignKey, ...] = field(default=(), init=False)
    _key_triggers: tuple[KeyTrigger, ...] = field(default=(), init=False)
    _firing: tuple[FiringState, ...] = field(default=(), init=False)

    def lock(self) -> None:
        """Lock the tables, so that other sessions can't write to them.

        :raises OperationFailedError: The tables have changed since the plan was made.
        """
        for each in self.plan.live:
            if each.kind != "f":
                run_text(self.connection, f"LOCK TABLE ONLY {each.sql} IN SHARE MODE")
        if read_live_tables(self.connection, [each.key for each in self.plan.tables]) != self.plan.live:
            raise OperationFailedError("the tables were changed meanwhile; run this again to see the changes first")

    def clear(self) -> None:
        """Delete the rows of the tables, or drop the tables."""
        oids = [each.oid for each in self.plan.live]
        keys, firing = read_foreign_keys(self.connection, oids), read_firing(self.connection, oids)
        self._keys = keys if self.plan.data_only else tuple(key for key in keys if not key.of_tables)
        self._key_triggers = read_key_triggers(self.connection, oids, self._keys)
        if not self.plan.data_only:
            own = {each.sql for each in self.plan.live}
            self._firing = tuple(each for each in firing if each.is_forced_security and each.table not in own)
            set_firing(self.connection, self._firing, enable=False)
            drop_foreign_keys(self.connection, self._keys)
            if dropped := [each.sql for each in self.plan.live if each.named]:
                run_text(self.connection, f"DROP TABLE {', '.join(dropped)}")
            return
        self._firing = firing
        drop_foreign_keys(self.connection, keys)
        set_firing(self.connection, self._firing, enable=False)
        if emptied := [f"ONLY {each.sql}" for each in self.plan.live if each.kind == "r"]:
            # DELETE would run rules and obey row-level security.
            run_text(self.connection, f"TRUNCATE TABLE {', '.join(emptied)}")
        restart_sequences(self.connection, self.plan.selection.sequences)

    def put_back(self) -> None:
        """Add the foreign keys again, which PostgreSQL checks, and enable the triggers and rules again.

        :raises OperationFailedError: Rows reference rows that are missing now, or a key, trigger or rule differs from
            before.
        """
        for statement in ("SET client_encoding = 'UTF8'", "SET search_path = ''", "SET CONSTRAINTS ALL IMMEDIATE"):
            self.connection.execute(statement)
        live = read_live_tables(self.connection, [each.key for each in self.plan.tables])
        oids = [each.oid for each in live]
        # The dump may force row-level security, which would refuse the checks.
        forced = [each for each in read_firing(self.connection, oids) if each.is_forced_security]
        set_firing(self.connection, forced, enable=False)
        add_foreign_keys(self.connection, self._keys)
        set_key_triggers(self.connection, oids, self._keys, self._key_triggers)
        set_firing(self.connection, [*forced, *self._firing], enable=True)
        self._put_owners_back(live)
        keys, firing = read_foreign_keys(self.connection, oids), read_firing(self.connection, oids)
        if not self.plan.data_only:
            keys = tuple(key for key in keys if not key.of_tables)
        elif firing != self._firing:
            raise OperationFailedError("triggers or rules of the tables differ from before the restore")
        if keys != self._keys:
            raise OperationFailedError("foreign keys of other tables differ from before the restore")

    def _put_owners_back(self, live: Sequence[LiveTable]) -> None:
        """Give the created tables to their former owners, unless they have the owner that the dump names."""
        former = {each.key: each.owner for each in self.plan.live}
        for each in live:
            owner = former.get(each.key) or former.get(each.top)
            if owner is None or each.owner in {owner, self.plan.owners.get(each.key)}:
                continue
            try:
                with self.connection.transaction():
                    for (changed,) in self.connection.execute(_WITH_OWNER, {"table": each.oid}).fetchall():
                        query = sql.SQL("ALTER {} OWNER TO {}").format(sql.SQL(changed), sql.Identifier(owner))
                        self.connection.execute(query)
            except errors.InsufficientPrivilege:
                raise OperationFailedError(
                    f"{each.sql} would belong to {each.owner}, who may not give it back to its owner {owner}. Restore "
                    f"only the rows (--data-only), or name the URL of {owner} (--url-env)"
                ) from None
