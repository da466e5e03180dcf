"""Databases that a restore makes or keeps: their names, the comments that mark them, and our records of them.

Any role that may create databases can give one our name and our comment. So a database is ours only if its comment is
ours, its owner is the recorded one, and our record in the dumps folder has its oid.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import json
import re
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from psycopg import sql

from ..dumpfiles.atomic_write import delete_stale_parts, make_dump_folder, replace_file
from ..dumpformat.manifest import ID_DIGITS
from ..formatting import parse_instant
from ..postgres.connection import Connection, one, system_identifier
from ..system.processes import read_regular
from .restore_log import read_record, record_to_text, restore_record_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..config.target import Target


# The advisory lock that a restore shares, in another database of the server, while it creates its staging database.
CREATING = 7891649721
_MARK = "invoke-postgres"
_VERSION = 1
# PostgreSQL cuts longer names (NAMEDATALEN).
_LONGEST_NAME = 63
_HASH_CHARACTERS = 8
# A record that is older belongs to no swap that still runs.
_LONGEST_SWAP = timedelta(minutes=10)
_KEPT_NAME = re.compile(r"__before_[0-9]{8}_[0-9]{6}_[0-9a-f]{4}\Z")
# How many swaps of a database are remembered.
_SUCCESSIONS = 200


class Role(enum.StrEnum):
    """What one of our databases is for."""

    # A restore loads it, or has loaded it and waits for `db.restore --finish`.
    STAGING = "staging"
    # It was the configured database until a restore took its place; `db.undo` puts it back.
    KEPT = "kept"


@dataclass(frozen=True, kw_only=True)
class DatabaseRecord:
    """Our record of a database that a restore made or keeps.

    :ivar server: The cluster's identifier, or host and port if the role may not read it.
    :ivar database: Its name.
    :ivar oid: Its oid; 0 before it is created.
    :ivar owner: Its owner.
    :ivar of: The name of the configured database.
    :ivar of_oid: The oid of the configured database at the time.
    :ivar successor: Of a kept database: the oid of the database that took its place.
    :ivar made: When a restore created it, or when another database took its place; in UTC.
    :ivar command: The command that made it, as `db.restore old.sql`.
    :ivar size: Its size in bytes; 0 if it is not known.
    :ivar rows: About how many rows its tables have.
    :ivar ready: Whether a staging database is loaded and verified.
    :ivar restored: The document of the restore into it, as :mod:`.restore_log` writes it; empty without one.
    :ivar settings: Of a staging database: a digest of the settings that the configured database had.
    :ivar migrated: Of a staging database: whether the migrations were applied in it.
    :ivar differences: Of a staging database: how it differs from the dump, as a clause; empty if it does not.
    :ivar revoked: Roles (None for PUBLIC) whose CONNECT was revoked while it is dumped, each with whether it may grant.
    """

    role: Role
    server: str
    database: str
    oid: int
    owner: str
    of: str
    of_oid: int
    made: str
    command: str = ""
    size: int = 0
    ready: bool = False
    keeps_old: bool = True
    restored: str = ""
    settings: str = ""
    migrated: bool = False
    differences: str = ""
    rows: int = 0
    successor: int = 0
    revoked: tuple[tuple[str | None, bool], ...] = ()

    @property
    def id(self) -> str:
        """Return an id like that of a dump, in hex."""
        return hashlib.sha256(f"{self.server} {self.oid} {self.made}".encode()).hexdigest()[:ID_DIGITS]

    @property
    def when(self) -> datetime:
        """Return the time in :attr:`made`."""
        return parse_instant(self.made) or datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class OwnDatabase:
    """One of our databases that exists, with our record of it.

    :ivar comment: The comment that the user's database had, which our mark contains.
    :ivar used: Whether a session uses it.
    """

    record: DatabaseRecord
    comment: str | None
    used: bool


def server_identity(connection: Connection, target: Target) -> str:
    """Return the cluster's identifier, or host and port if the role may not read it."""
    return system_identifier(connection) or f"{target.host}:{target.port}"


def staging_name(database: str) -> str:
    """Return a new name for a staging database."""
    return _name(database, f"__staging_{secrets.token_hex(4)}")


def _name(database: str, suffix: str) -> str:
    """Return a name of at most 63 bytes; a name that is cut contains a hash of the long name."""
    raw, longest = database.encode(), _LONGEST_NAME - len(suffix)
    if len(raw) > longest:
        digest = hashlib.sha256(raw).hexdigest()[:_HASH_CHARACTERS]
        kept = raw[: longest - _HASH_CHARACTERS - 1].decode(errors="ignore")
        return f"{kept}_{digest}{suffix}"
    return database + suffix


def is_kept_name(name: str) -> bool:
    """Return whether a name has the form of a kept database's; this alone proves nothing."""
    return _KEPT_NAME.search(name) is not None


def mark(role: Role, database: str, comment: str | None) -> str:
    """Return the comment of one of our databases.

    :param comment: The comment of the configured database, which is put back later.
    """
    return json.dumps({_MARK: _VERSION, "role": role.value, "of": database, "comment": comment})


def mark_statement(name: str, role: Role, database: str, comment: str | None) -> sql.Composed:
    """Return the statement that marks a database as ours."""
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), mark(role, database, comment))


def _parse_mark(comment: str | None) -> dict[str, Any] | None:
    try:
        found = json.loads(comment or "")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get(_MARK) == _VERSION else None


def is_marked(comment: str | None) -> bool:
    """Return whether a comment is our mark; this alone proves nothing."""
    return _parse_mark(comment) is not None


def _path(folder: Path, record: DatabaseRecord) -> Path:
    return restore_record_path(folder, record.server, record.database, "database")


def write_database_record(folder: Path, record: DatabaseRecord) -> None:
    """Write the record of a database; remember of a kept one that it and its successor are the same for `db.undo`.

    :param folder: The dumps folder.
    :raises OSError: It can't be written.
    """
    make_dump_folder(folder)
    # A kill while a record was written left its part file.
    delete_stale_parts(folder)
    path, pair = restore_record_path(folder, record.server, record.of, "swapped"), (record.oid, record.successor)
    if record.successor and pair not in (pairs := _read_successions(path)):
        replace_file(path, (json.dumps([*pairs, pair][-_SUCCESSIONS:]) + "\n").encode())
    replace_file(_path(folder, record), (json.dumps(asdict(record)) + "\n").encode())


def _read_successions(path: Path) -> list[tuple[int, int]]:
    try:
        return [(int(old), int(new)) for old, new in json.loads(read_regular(path))]
    except (OSError, ValueError, TypeError, RecursionError):
        return []


def same_database_oids(folder: Path, server: str, database: str, oid: int) -> frozenset[int]:
    """Return the oids that a database had before and after swaps, its present one included.

    :param folder: The dumps folder.
    :param server: As in :attr:`DatabaseRecord.server`.
    :param database: The name of the configured database.
    :param oid: Its present oid.
    """
    pairs, known = _read_successions(restore_record_path(folder, server, database, "swapped")), {oid}
    while found := {each for pair in pairs if known & set(pair) for each in pair} - known:
        known |= found
    return frozenset(known)


def delete_database_record(folder: Path, record: DatabaseRecord) -> None:
    """Delete the record of a database; a file that can't be deleted is found to be obsolete later."""
    with contextlib.suppress(OSError):
        _path(folder, record).unlink()


def read_database_records(folder: Path) -> list[DatabaseRecord]:
    """Return all records, the oldest first; unreadable files are skipped."""
    found = []
    for path in folder.glob(".database-*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            document = json.loads(read_regular(path))
            revoked = tuple((role, bool(grants)) for role, grants in document.get("revoked", ()))
            record = DatabaseRecord(**{**document, "role": Role(document["role"]), "revoked": revoked})
            if path == _path(folder, record):
                found.append(record)
    return sorted(found, key=lambda each: (each.when, each.database))


_DATABASE = """
SELECT d.datname::pg_catalog.text, r.rolname::pg_catalog.text, pg_catalog.shobj_description(d.oid, 'pg_database'),
       EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid)
  FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba
"""
_BY_OID, _BY_NAME = f"{_DATABASE} WHERE d.oid = %s", f"{_DATABASE} WHERE d.datname = %s"


def own_databases(
    connection: Connection, target: Target, folder: Path, role: Role, *, tidies: bool = True
) -> list[OwnDatabase]:
    """Return our databases of a role that exist on the server of a session, the oldest first.

    Records of databases that were dropped or have another name now are deleted. An undo that was killed after its
    commit is finished: the record of the last restore is put back.

    :param tidies: Whether to do so; without it, nothing is changed.
    """
    here, found = server_identity(connection, target), []
    records = [each for each in read_database_records(folder) if each.server == here and each.role is role and each.oid]
    for record in records:
        row = connection.execute(_BY_OID, [record.oid]).fetchone()
        if row is None or row[0] != record.database:
            if tidies and (row is None or role is Role.STAGING or _is_obsolete(connection, folder, record, records)):
                delete_database_record(folder, record)
            continue
        marked = _parse_mark(row[2])
        if marked is not None and row[1] == record.owner and marked.get("role") == role.value:
            comment = marked.get("comment")
            found.append(OwnDatabase(record=record, comment=comment and str(comment), used=bool(row[3])))
    return found


def unfinished_databases(connection: Connection, target: Target, folder: Path) -> list[DatabaseRecord]:
    """Return the staging databases whose creation was recorded, and then cut off before they were marked.

    Their records have no oid, but the names are random, and the owners are the recorded ones. Records of databases that
    do not exist are deleted. While another restore creates a database, none is returned.

    :param connection: A session in another database; it holds the lock :data:`CREATING` afterwards.
    """
    if not one(connection, "SELECT pg_catalog.pg_try_advisory_lock(%s)", [CREATING])[0]:
        return []
    here, found = server_identity(connection, target), []
    for record in read_database_records(folder):
        if record.server != here or record.oid:
            continue
        row = connection.execute(_BY_NAME, [record.database]).fetchone()
        if row is not None and row[1] == record.owner and (row[2] is None or is_marked(row[2])):
            found.append(record)
        else:
            delete_database_record(folder, record)
    return found


def _is_obsolete(
    connection: Connection, folder: Path, record: DatabaseRecord, records: Sequence[DatabaseRecord]
) -> bool:
    """Return whether the record of a kept database with another name is obsolete.

    Its name may come later than its record, because the swap is not committed yet. After an undo, a later record says
    that the database gave its place back; the record of the last restore is then put back, if that was not done.
    """
    for other in records:
        if other.successor == record.oid and other.when > record.when:
            row = connection.execute(_BY_OID, [other.oid]).fetchone()
            if row is not None and row[0] == other.database:
                put_back_restore_record(folder, record)
                return True
    return record.when < datetime.now(UTC) - _LONGEST_SWAP


def put_back_restore_record(folder: Path, record: DatabaseRecord) -> None:
    """Make the record of the last restore that of a database which is the configured one again, for `db.verify`."""
    path = restore_record_path(folder, record.server, record.of)
    with contextlib.suppress(OSError):
        if record.restored:
            replace_file(path, record.restored.encode())
        else:
            path.unlink(missing_ok=True)


def as_kept(
    incoming: DatabaseRecord, folder: Path, *, oid: int, owner: str, size: int, rows: int, command: str
) -> DatabaseRecord:
    """Return the record of the configured database under the name that it will be kept as from now on.

    :param incoming: The record of the database that takes its place.
    :param folder: The dumps folder, which has the record of the last restore into it.
    :param command: The command that lets it give way.
    """
    now, last = datetime.now(UTC), read_record(restore_record_path(folder, incoming.server, incoming.of))
    return DatabaseRecord(
        role=Role.KEPT,
        server=incoming.server,
        database=_name(incoming.of, f"__before_{now:%Y%m%d_%H%M%S}_{secrets.token_hex(2)}"),
        oid=oid,
        owner=owner,
        of=incoming.of,
        of_oid=oid,
        made=now.isoformat(timespec="milliseconds"),
        command=command,
        size=size,
        rows=rows,
        ready=True,
        restored=record_to_text(last) if last is not None else "",
        successor=incoming.oid,
    )
