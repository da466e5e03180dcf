"""What was last restored into a database, remembered beside the dumps."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..dumpfiles.atomic_write import make_dump_folder, replace_file
from ..dumpformat.manifest import SequenceValue, TableRows
from ..formatting import parse_shown_name, show_name
from ..system.processes import read_regular

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ..config.target import Target
    from ..postgres.connection import ServerFacts


@dataclass(frozen=True)
class RestoreRecord:
    """One restore.

    :ivar database: The database, as people read it.
    :ivar file: The dump's path, as it was.
    :ivar restored: When, in UTC.
    :ivar migrated: When our own migration ran afterwards; empty if none did.
    :ivar tables: Rows per table as the dump left them, or after the migration; `dumped` in the dump. Where a trigger or
        a later statement changed rows, these are the rows that were loaded.
    :ivar facts: Objects and checksums, as in a manifest.
    :ivar schemas: The schemas that were emptied first, which so hold nothing else.
    :ivar excluded: Tables whose rows the dump leaves out.
    :ivar saved: The name of the safety dump that was made of what was there before; empty if none was, None where
        nobody noted it.
    :ivar destroyed: Whether it deleted, replaced or changed anything that existed.
    :ivar reset: When a later command changed the database without a safety dump, in UTC; empty if none did. Where
        nothing was restored before it, `file` is empty.
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
    """Tell where the record of a database lies: by what the server says of itself, where it may be asked."""
    where = server.system_identifier or f"{target.host}:{target.port}"
    digest = hashlib.sha256(f"{where}/{server.database}".encode()).hexdigest()[:16]
    return dumps / f".restored-{digest}.json"


def write_record(path: Path, record: RestoreRecord) -> None:
    """Remember a restore.

    :raises OSError: It can't be written.
    """
    make_dump_folder(path.parent)
    document = {**asdict(record), "excluded": [show_name(key) for key in record.excluded]}
    replace_file(path, (json.dumps(document, indent=1) + "\n").encode())


def record_unsaved(path: Path, database: str, when: str, command: str) -> None:
    """Remember that a command made no safety dump, so that an undo can say that it restores an older state.

    :param command: `reset` or `migration`.

    :raises OSError: It can't be written.
    """
    record = read_record(path) or RestoreRecord(database=database, file="", restored="", tables=(), sequences=())
    write_record(path, replace(record, reset=when, unsaved=command))


def read_record(path: Path) -> RestoreRecord | None:
    """Read what was remembered; None where nothing usable is."""
    try:
        document = json.loads(read_regular(path))
        for name in ("tables", "dumped"):
            document[name] = tuple(TableRows(**each) for each in document[name])
        document["sequences"] = tuple(SequenceValue(**each) for each in document["sequences"])
        document["schemas"] = tuple(document.get("schemas", ()))
        document["excluded"] = tuple(map(parse_shown_name, document.get("excluded", ())))
        return RestoreRecord(**document)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
