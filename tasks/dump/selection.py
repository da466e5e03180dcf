"""Resolve the flags of a partial dump into names, and these into pg_dump's options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..dumpfiles.table_names import require_schemas, require_tables
from ..errors import BadInputError
from ..formatting import format_count, format_list, show_name
from ..postgres.catalog_filters import NO_MEMBER, USER_SCHEMA
from ..postgres.connection import read_names
from ..postgres.search_path import read_search_path
from .request import Only, Part

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..postgres.connection import Connection

    Key = tuple[str, str]


# The relations that pg_dump's --table accepts. For a partition its partitioned table; for a sequence the table of the
# column that owns it, and whether a default of another table uses it, too.
_RELATIONS = f"""
SELECT n.nspname, c.relname, c.relkind = 'S', an.nspname, a.relname,
       EXISTS (SELECT FROM pg_catalog.pg_depend u JOIN pg_catalog.pg_attrdef f ON f.oid = u.objid
                WHERE u.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND u.refobjid = c.oid
                  AND u.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND f.adrelid <> o.refobjid)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
  LEFT JOIN pg_catalog.pg_depend o ON c.relkind = 'S' AND o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
        AND o.objid = c.oid AND o.deptype = 'a' AND o.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
  LEFT JOIN pg_catalog.pg_class a ON a.oid = coalesce(i.inhparent, o.refobjid)
  LEFT JOIN pg_catalog.pg_namespace an ON an.oid = a.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND {USER_SCHEMA}
   AND ({NO_MEMBER} OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY(e.extconfig)))
 ORDER BY 1, 2
"""
_SCHEMAS = f"SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE {USER_SCHEMA} ORDER BY 1"
_SOURCE = "the database"
# Bytes of names on pg_dump's command line; Linux takes two megabytes of arguments and environment.
_LONGEST = 1_000_000
_SHOWN = 3


@dataclass(frozen=True)
class Selection:
    """The part of a database to dump, with names instead of patterns; all of it by default.

    :ivar excluded_sequences: Sequences that only columns of excluded tables use. pg_dump would dump them alone.
    :ivar owners: For each sequence the table of the column that owns it.
    :ivar parents: For each partition its partitioned table.
    """

    part: Part[Key] = field(default_factory=Part)
    excluded_sequences: tuple[Key, ...] = ()
    owners: Mapping[Key, Key] = field(default_factory=dict)
    parents: Mapping[Key, Key] = field(default_factory=dict)

    @property
    def is_part(self) -> bool:
        """Whether it leaves anything out."""
        return self.part != Part()

    @property
    def definitions_only(self) -> bool:
        """Whether it has no rows."""
        return self.part.only is Only.DEFINITIONS

    @property
    def rows_only(self) -> bool:
        """Whether it has no definitions."""
        return self.part.only is Only.ROWS

    def holds(self, key: Key) -> bool:
        """Return whether a table is dumped."""
        part = self.part
        if key in part.excluded_tables or key[0] in part.excluded_schemas:
            return False
        return key in part.tables if part.tables else not part.schemas or key[0] in part.schemas

    def describe_separate_partitions(self) -> str:
        """Return a warning about partitions that are dumped without their partitioned table; empty without one."""
        found = [(key, above) for key, above in self.parents.items() if self.holds(key) and not self.holds(above)]
        if not found or self.rows_only:
            return ""
        names = format_list([f"{show_name(key)} (of {show_name(above)})" for key, above in found], _SHOWN)
        return (
            f"These partitions are in the dump without their partitioned table: {names}. A restore fails if that table "
            f"is missing or has an index. Dump it, too."
        )

    def options(self) -> list[str]:
        """Return pg_dump's options."""
        part = self.part
        return [
            *(["--strict-names"] if part.tables or part.schemas else []),
            *(f"--table={quoted_pattern(*key)}" for key in part.tables),
            *(f"--exclude-table={quoted_pattern(*key)}" for key in part.excluded_tables + self.excluded_sequences),
            *(f"--schema={quoted_pattern(name)}" for name in part.schemas),
            *(f"--exclude-schema={quoted_pattern(name)}" for name in part.excluded_schemas),
            *(["--schema-only"] if self.definitions_only else []),
            *(["--data-only"] if self.rows_only else []),
        ]

    def document(self) -> dict[str, object]:
        """Return `selection` of the manifest."""
        part = self.part
        return {
            "tables": [show_name(key) for key in part.tables],
            "excluded_tables": [show_name(key) for key in part.excluded_tables],
            "schemas": list(part.schemas),
            "excluded_schemas": list(part.excluded_schemas),
            "only": part.only,
        }


EVERYTHING = Selection()


def check_part(request: Part[str], exclude_data: Sequence[str]) -> None:
    """Refuse flags that cannot be combined.

    :param exclude_data: The values of --exclude-data.
    :raises BadInputError: Two flags cannot be combined.
    """
    if request.only is Only.DEFINITIONS and exclude_data:
        raise BadInputError(
            "--schema-only and --exclude-data cannot be combined: --schema-only excludes all rows. Nothing was touched."
        )
    if request.tables and (request.schemas or request.excluded_schemas):
        raise BadInputError(
            "--table and --schema cannot be combined: pg_dump would ignore the schemas. Nothing was touched. Name the "
            "tables of a schema as --table='schema.*'."
        )


def resolve_selection(connection: Connection, request: Part[str], schema: str = "") -> Selection:
    """Return the tables and schemas that the flags name.

    :param schema: The schema of the URL, in which names without a schema are looked up first.
    :raises BadInputError: A value names no object, or several.
    """
    if not request.limits_objects:
        return Selection(part=Part(only=request.only))
    parents: dict[Key, Key] = {}
    owners: dict[Key, Key] = {}
    shared: set[Key] = set()
    names: dict[Key, None] = {}
    for schema_name, name, is_sequence, parent_schema, parent, is_shared in connection.execute(_RELATIONS):
        key = (str(schema_name), str(name))
        names[key] = None
        if parent is not None:
            (owners if is_sequence else parents)[key] = (str(parent_schema), str(parent))
        if is_shared:
            shared.add(key)
    path = [*([schema] if schema else []), *(each for each in read_search_path(connection) if each != schema)]
    schemas = read_names(connection, _SCHEMAS)
    tables = require_tables("--table", request.tables, names, _SOURCE, path)
    excluded = require_tables("--exclude-table", request.excluded_tables, names, _SOURCE, path)
    excluded_tables = _with_partitions(excluded, parents)
    part = Part(
        tables=_with_partitions(tables, parents),
        excluded_tables=excluded_tables,
        schemas=tuple(require_schemas("--schema", request.schemas, schemas, _SOURCE)),
        excluded_schemas=tuple(require_schemas("--exclude-schema", request.excluded_schemas, schemas, _SOURCE)),
        only=request.only,
    )
    selection = Selection(
        part=part,
        excluded_sequences=tuple(
            key for key, owner in owners.items() if owner in excluded_tables and key not in {*shared, *excluded}
        ),
        owners=owners,
        parents=parents,
    )
    if (request.tables and all(not selection.holds(key) for key in part.tables)) or (
        request.schemas and set(part.schemas) <= set(part.excluded_schemas)
    ):
        raise BadInputError("The flags exclude everything. Nothing was touched.")
    if sum(len(option.encode()) for option in selection.options()) > _LONGEST:
        count = format_count(len(part.tables) + len(part.excluded_tables), "table")
        raise BadInputError(
            f"The flags name {count}, which is too many for pg_dump's command line. Nothing was touched. "
            f"Name schemas instead."
        )
    return selection


def _with_partitions(keys: Sequence[Key], parents: Mapping[Key, Key]) -> tuple[Key, ...]:
    """Add the partitions of partitioned tables. Without them, pg_dump would dump no rows."""
    chosen = set(keys)
    return (*keys, *(key for key in parents if key not in chosen and chosen & set(_above(key, parents))))


def _above(key: Key, parents: Mapping[Key, Key]) -> Iterable[Key]:
    while (parent := parents.get(key)) is not None:
        yield parent
        key = parent


def quoted_pattern(*parts: str) -> str:
    """Return a name as a pattern of pg_dump, quoted, so that it contains no wildcards."""
    return ".".join('"{}"'.format(part.replace('"', '""')) for part in parts)
