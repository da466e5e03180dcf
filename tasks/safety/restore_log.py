"""Records of the last restore into each database, in the folder of the dumps."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..dumpfiles.atomic_write import make_dump_folder, replace_file
from ..dumpformat.manifest import SequenceValue, TableRows
from ..formatting import format_now, parse_shown_name, show_name
from ..system.processes import read_regular

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ..config.target import Target
    from ..postgres.connection import ServerFacts


@dataclass(frozen=True)
class RestoreRecord:
    """The last restore into a database, and later changes to it without a safety dump.

    :ivar database: The database's label, for display.
    :ivar file: The dump's path at the time; empty if only `reset` is recorded.
    :ivar restored: Time of the restore, in UTC.
    :ivar migrated: Time of a later `db.migrate`; empty if there was none.
    :ivar tables: Rows per table after the restore, or after the migration. Where a trigger or a later statement changed
        rows, these are the rows that were loaded.
    :ivar dumped: Rows per table in the dump.
    :ivar facts: Objects and checksums, as in a manifest.
    :ivar schemas: The schemas that were emptied first; they hold only objects of the dump.
    :ivar excluded: Tables whose rows the dump leaves out.
    :ivar saved: The name of the safety dump made before the restore; empty if none was made, None if unknown.
    :ivar destroyed: Whether the restore deleted, replaced or changed existing objects or rows.
    :ivar reset: Time of a later command that changed the database without a safety dump, in UTC; empty if none did.
    :ivar unsaved: That command: `reset` or `migration`.
    """

    database: str
    file: str
    restored: str
    tables: tuple[TableRows, ...]
    sequences: tuple[SequenceValue, ...]
    migrated: str = ""
    dumped: tuple[TableRows, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    schemas: tuple[str, ...] = ()
    excluded: tuple[tuple[str, str], ...] = ()
    saved: str | None = None
    destroyed: bool = True
    reset: str = ""
    unsaved: str = "reset"


def record_path(dumps: Path, target: Target, server: ServerFacts) -> Path:
    """Return the path of a database's record, named after the cluster's identifier, or host and port without one."""
    return restore_record_path(dumps, server.system_identifier or f"{target.host}:{target.port}", server.database)


def restore_record_path(dumps: Path, server: str, database: str, kind: str = "restored") -> Path:
    """Return the path of a database's record.

    :param server: The cluster's identifier, or host and port.
    :param kind: What the file records; the beginning of its name.
    """
    return dumps / f".{kind}-{hashlib.sha256(f'{server}/{database}'.encode()).hexdigest()[:16]}.json"


def write_record(path: Path, record: RestoreRecord) -> None:
    """Write the record of a restore.

    :raises OSError: It can't be written.
    """
    make_dump_folder(path.parent)
    replace_file(path, record_to_text(record).encode())


def record_to_text(record: RestoreRecord) -> str:
    """Return the JSON of a record."""
    document = {**asdict(record), "excluded": [show_name(key) for key in record.excluded]}
    return json.dumps(document, indent=1) + "\n"


def record_unsaved(path: Path, database: str, command: str) -> None:
    """Record that a command made no safety dump, so that `db.undo` can warn that it restores an older state.

    :param command: `reset` or `migration`.
    :raises OSError: It can't be written.
    """
    record = read_record(path) or RestoreRecord(database=database, file="", restored="", tables=(), sequences=())
    write_record(path, replace(record, reset=format_now("milliseconds"), unsaved=command))


def read_record(path: Path) -> RestoreRecord | None:
    """Return the record; None if it is missing or unreadable."""
    try:
        return record_from_text(read_regular(path))
    except OSError:
        return None


def record_from_text(text: bytes | str) -> RestoreRecord | None:
    """Return the record of a JSON text; None if it is not one."""
    try:
        document = json.loads(text)
        for name in ("tables", "dumped"):
            document[name] = tuple(TableRows(**each) for each in document[name])
        document["sequences"] = tuple(SequenceValue(**each) for each in document["sequences"])
        document["schemas"] = tuple(document.get("schemas", ()))
        document["excluded"] = tuple(map(parse_shown_name, document.get("excluded", ())))
        return RestoreRecord(**document)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
