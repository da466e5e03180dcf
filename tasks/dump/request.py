"""The flags of `db.dump`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..dumpformat.compression import Compression
    from ..postgres.connection import Endpoint


@dataclass(frozen=True)
class PartRequest:
    """The part of the database to dump; all of it by default.

    :ivar tables: Names or patterns of tables, as in :mod:`..dumpfiles.table_names`, as the other names.
    """

    tables: tuple[str, ...] = ()
    exclude_tables: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    exclude_schemas: tuple[str, ...] = ()
    schema_only: bool = False
    data_only: bool = False


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
    part: PartRequest = PartRequest()
    kept: str = ""
    source: str = ""
