"""The flags of `db.dump`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from ..dumpformat.compression import Compression
    from ..postgres.connection import Endpoint


Table = TypeVar("Table")


class Only(StrEnum):
    """What is dumped of the objects, as in the manifest."""

    DEFINITIONS = "definitions"
    ROWS = "rows"


@dataclass(frozen=True)
class Part(Generic[Table]):
    """The part of the database to dump; all of it by default.

    In a request, the names of tables and schemas are names or patterns, as in :mod:`..dumpfiles.table_names`.

    :ivar tables: The tables to dump with all that belongs to them; empty for no limit.
    :ivar schemas: The schemas to dump; empty for no limit.
    :ivar only: None for definitions and rows.
    """

    tables: tuple[Table, ...] = ()
    excluded_tables: tuple[Table, ...] = ()
    schemas: tuple[str, ...] = ()
    excluded_schemas: tuple[str, ...] = ()
    only: Only | None = None

    @property
    def limits_objects(self) -> bool:
        """Whether it leaves out objects by their names."""
        return bool(self.tables or self.excluded_tables or self.schemas or self.excluded_schemas)


@dataclass(frozen=True)
class DumpRequest:
    """The options of a dump.

    :ivar compression: None without a flag: the file's name or the configuration decides.
    :ivar file: The value of `--file`; empty for a timestamped name.
    :ivar exclude_data: pg_dump's patterns of tables whose rows are left out.
    :ivar checksums: Record a checksum of each table.
    :ivar safety: Make a safety dump, which has its own folder and name.
    :ivar endpoint: The endpoint that the connection must reach; None for any.
    :ivar transaction: The id of the transaction that a safety dump precedes, for the manifest.
    :ivar command: The command that a safety dump precedes, for the manifest.
    :ivar part: The part of the database to dump.
    :ivar kept: The name of a kept database to dump instead of the configured one.
    :ivar source: With `kept`: the name that it had as the configured database, for the manifest.
    """

    compression: Compression | None = None
    file: str = ""
    note: str = ""
    exclude_data: tuple[str, ...] = ()
    checksums: bool = False
    safety: bool = False
    endpoint: Endpoint | None = None
    transaction: str = ""
    command: str = ""
    part: Part[str] = Part()
    kept: str = ""
    source: str = ""
