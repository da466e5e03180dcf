"""What was last restored into a database, remembered beside the dumps."""

from __future__ import annotations

import enum
import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .. import process
from ..archive import publish
from ..archive.manifest import SequenceValue, TableRows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ..archive.manifest import Manifest
    from ..postgres.session import ServerFacts
    from ..postgres.target import Target


@dataclass(frozen=True)
class Record:
    """One restore.

    :ivar database: The database, as people read it.
    :ivar file: The dump's path, as it was.
    :ivar restored: When, in UTC.
    :ivar migrated: When our own migration ran afterwards; empty if none did.
    :ivar tables: Rows per table after the restore, or after the migration; `dumped` in the dump.
    :ivar facts: Objects and checksums, as in a manifest.
    :ivar schemas: The schemas that were emptied first, which so hold nothing else.
    :ivar excluded: Tables whose rows the dump leaves out.
    :ivar saved: The name of the safety dump that was made of what was there before; empty if none was, None where
        nobody noted it.
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
    excluded: tuple[str, ...] = ()
    saved: str | None = None


def place(dumps: Path, target: Target, server: ServerFacts) -> Path:
    """Tell where the record of a database lies: by what the server says of itself, where it may be asked."""
    where = server.system_identifier or f"{target.host}:{target.port}"
    digest = hashlib.sha256(f"{where}/{server.database}".encode()).hexdigest()[:16]
    return dumps / f".restored-{digest}.json"


def write(path: Path, record: Record) -> None:
    """Remember a restore.

    :raises OSError: It can't be written.
    """
    publish.prepare_folder(path.parent)
    publish.replace(path, (json.dumps(asdict(record), indent=1) + "\n").encode())


def read(path: Path) -> Record | None:
    """Read what was remembered; None where nothing usable is."""
    try:
        document = json.loads(process.read_regular(path))
        for name in ("tables", "dumped"):
            document[name] = tuple(TableRows(**each) for each in document[name])
        document["sequences"] = tuple(SequenceValue(**each) for each in document["sequences"])
        for name in ("schemas", "excluded"):
            document[name] = tuple(document.get(name, ()))
        return Record(**document)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


class Match(enum.Enum):
    """Whether a dump is of a database."""

    SAME = enum.auto()
    UNCERTAIN = enum.auto()
    OTHER = enum.auto()


def match(manifest: Manifest, server: ServerFacts, host: str, port: int) -> Match:
    """Tell whether a dump is of this database, and whether that is certain.

    The cluster's number decides where both know it. Else name, host and port must agree, which may lead to another
    server now (a tunnel's port); it is certain only where the server shows the same :class:`Instance`.
    """
    if not is_of(manifest, server, host, port):
        return Match.OTHER
    source, instance = manifest.source, server.instance
    if source.get("system_identifier") and server.system_identifier:
        return Match.SAME
    if instance is None or source.get("database_oid") != instance.database_oid:
        return Match.UNCERTAIN
    since = instance.counting_since
    same = source.get("started") == instance.started or (since is not None and source.get("counting_since") == since)
    return Match.SAME if same else Match.UNCERTAIN


def is_of(manifest: Manifest, server: ServerFacts, host: str, port: int) -> bool:
    """Tell whether a dump is of this database: by the cluster's number, where both know it, else by host and port."""
    source = manifest.source
    if source.get("database") != server.database:
        return False
    identifier = source.get("system_identifier")
    if identifier and server.system_identifier:
        return bool(identifier == server.system_identifier)
    return (source.get("host"), source.get("port")) == (host, port)
