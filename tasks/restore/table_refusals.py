"""Refuse a restore of some tables before anything is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import BadInputError
from ..formatting import format_list, show_name
from ..postgres.constraints import LiveTable, read_foreign_keys, read_live_tables
from ..postgres.schemas import table_dependents
from .key_triggers import read_key_triggers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..dumpfiles.dump_file import DumpFile
    from ..dumpformat.table_parts import TableParts, TableSelection
    from ..inventory.snapshot import Key
    from ..postgres.connection import Connection


_SHOWN = 3
_USE_OWNER = "Name that role's URL with --url-env."


def refuse_dump(
    dump: DumpFile, parts: TableParts, tables: Sequence[Key], selection: TableSelection, *, data_only: bool
) -> None:
    """Raise if the dump lacks rows or definitions of the tables, or has unknown statements about them.

    :raises BadInputError: It does. Nothing was touched.
    """
    name, manifest = dump.path.name, dump.manifest
    lacking = parts.tables_without_rows(selection.tables)
    if manifest is not None:
        lacking += [key for key in selection.tables if key in manifest.excluded_data and key not in lacking]
    if lacking:
        raise BadInputError(
            f"{name} was made without the rows of {format_list([show_name(key) for key in lacking])}: a restore would "
            f"delete the rows and load none. Nothing was touched."
        )
    if (through := parts.filled_above(selection.tables)) is not None:
        table, above = (show_name(key) for key in through)
        raise BadInputError(
            f"{name} has the rows of {table} among those of {above}, the partitioned table. Nothing was touched. Name "
            f"{above} instead (--table)."
        )
    if selection.unknown:
        raise BadInputError(
            f"{name} has a statement about these tables that pg_dump does not write: {selection.unknown} … It may "
            f"change other objects, too. Nothing was touched.",
            fix="Restore the dump into another database.",
        )
    if not data_only:
        undefined = [key for key in tables if key not in parts.created]
        if undefined:
            raise BadInputError(
                f"{name} does not create {show_name(undefined[0])}: it was made with --data-only. Nothing was touched.",
                fix="To replace only the rows, add --data-only.",
            )


def refuse_live(
    connection: Connection,
    tables: Sequence[Key],
    live: Sequence[LiveTable],
    parts: TableParts,
    selection: TableSelection,
    *,
    data_only: bool,
) -> None:
    """Raise if the tables in the database can't be replaced.

    :raises BadInputError: Their kind, their owner, or dependent objects prevent it. Nothing was touched.
    """
    existing = {each.key: each for each in live}
    keys = read_foreign_keys(connection, [each.oid for each in live])
    for each in live:
        shown = show_name(each.key)
        if each.named and each.kind not in {"r", "p"}:
            raise BadInputError(f"{shown} is not a table in this database. Nothing was touched.")
        if each.of_extension:
            raise BadInputError(f"{shown} belongs to an extension, so --table can't replace it. Nothing was touched.")
        if not each.owned:
            raise BadInputError(f"Only the owner of {shown} can restore it. Nothing was touched.", fix=_USE_OWNER)
    added = [key for key in keys if data_only or not key.of_tables]
    for key in added:
        if not key.owned:
            raise BadInputError(
                f"The foreign key {key.name} of {key.table} references the tables, and only the owner of {key.table} "
                f"can drop it and add it again. Nothing was touched.",
                fix=_USE_OWNER,
            )
    disabled = read_key_triggers(connection, [each.oid for each in live], added)
    if denied := next((each for each in disabled if not each.owned), None):
        raise BadInputError(
            f"Triggers of the foreign key {denied.key} of {denied.key_table} are disabled on {denied.table}, and only "
            f"a superuser can disable them again. Nothing was touched.",
            fix=f"Name a superuser's URL (--url-env), or enable them: ALTER TABLE {denied.table} ENABLE TRIGGER ALL.",
        )
    _refuse_detached(connection, existing, parts, selection, data_only=data_only)
    if data_only:
        _refuse_missing(tables, existing, parts, selection)
    else:
        _refuse_replacement(connection, tables, live, parts)


def _refuse_detached(
    connection: Connection,
    existing: Mapping[Key, LiveTable],
    parts: TableParts,
    selection: TableSelection,
    *,
    data_only: bool,
) -> None:
    expected = [key for key in selection.tables if key not in existing and (not data_only or key in parts.filled)]
    if detached := [each.key for each in read_live_tables(connection, sorted(expected)) if each.named]:
        above = show_name(parts.parent(detached[0]) or detached[0])
        raise BadInputError(
            f"{show_name(detached[0])} is a partition of {above} in the dump, but not in the database. Nothing was "
            f"touched.",
            fix=f"Attach it again (ALTER TABLE {above} ATTACH PARTITION …), or rename it.",
        )


def _refuse_missing(
    tables: Sequence[Key], existing: Mapping[Key, LiveTable], parts: TableParts, selection: TableSelection
) -> None:
    if missing := [key for key in tables if key not in existing]:
        raise BadInputError(
            f"The database has no table {show_name(missing[0])}. Nothing was touched.",
            fix="To create it, remove --data-only.",
        )
    if missing := sorted(key for key in selection.tables if key in parts.filled and key not in existing):
        raise BadInputError(
            f"The database has no partition {show_name(missing[0])}, which is in the dump. Nothing was touched.",
            fix="Create the partition, or remove --data-only to restore the definition, too.",
        )


def _refuse_replacement(
    connection: Connection, tables: Sequence[Key], live: Sequence[LiveTable], parts: TableParts
) -> None:
    of_dump = {key for key in tables if (parent := parts.parent(key)) is not None and parent not in tables}
    partitions = sorted(of_dump | {each.key for each in live if each.named and each.is_partition})
    if partitions:
        raise BadInputError(
            f"The definition of the partition {show_name(partitions[0])} can't be replaced without its partitioned "
            f"table. Nothing was touched.",
            fix="Add --data-only, or name the partitioned table.",
        )
    if dependents := table_dependents(connection, [each.oid for each in live]):
        raise BadInputError(
            f"To replace the definition, the table must be dropped, but other objects depend on it: "
            f"{format_list(dependents, _SHOWN, '; ')}. Nothing was touched.",
            fix="Add --data-only to replace only the rows, or drop these objects and create them again afterwards.",
        )
