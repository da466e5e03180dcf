"""What a person asked a dump for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..dumpformat.compression import Compression
    from ..postgres.connection import Endpoint


@dataclass(frozen=True)
class PartRequest:
    """Which part of the database a dump is to hold; all of it by default.

    :ivar tables: Names or patterns of tables, as in :mod:`..dumpfiles.table_names`; so are the others.
    """

    tables: tuple[str, ...] = ()
    exclude_tables: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    exclude_schemas: tuple[str, ...] = ()
    schema_only: bool = False
    data_only: bool = False


@dataclass(frozen=True)
class DumpRequest:
    """What a person asked for.

    :ivar compression: None where no flag says; then the file's name or the configuration does.
    :ivar file: A path or a bare name; empty for a name made of the time.
    :ivar exclude_data: pg_dump's patterns of tables whose rows are left out.
    :ivar part: Which part of the database it is to hold.
    :ivar checksums: Sum the content of every table at the server, too.
    :ivar safety: It is a safety dump: it lies and is named apart from the others.
    :ivar endpoint: Where the connection must lead; None for wherever the URL does.
    :ivar transaction: The number of the transaction that it is made for, which goes into the manifest.
    :ivar command: The command that it is made for, which goes there, too.
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
