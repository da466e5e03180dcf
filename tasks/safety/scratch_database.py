"""Scratch databases: made for a rehearsal, removed by all means, and swept when a rehearsal was killed."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from ..dumpfiles.atomic_write import make_dump_folder, replace_file
from ..errors import BadInputError, OperationFailedError, TaskError
from ..formatting import format_now
from ..postgres.connection import connected, one, system_identifier, translated
from ..postgres.databases import _like, create_database
from ..postgres.schemas import existing_schemas
from ..postgres.tables import TRUSTED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..config.target import Target
    from ..postgres.connection import Connection


PREFIX = "invoke_postgres_rehearsal_"
MARK = "invoke-postgres rehearsal"
# Held in the scratch database by whoever rehearses in it: the letters of "rehearse", as a number.
LOCK = 8243104692
_NOTE_BYTES = 4096


@dataclass(frozen=True)
class Note:
    """What we remember of a database that we made: a name and a comment prove nothing, anyone can give them.

    :ivar server: The cluster's number, or host and port where it can't be asked.
    :ivar owner: The role that made it.
    """

    server: str
    database: str
    oid: int
    owner: str


def on_database(target: Target, database: str) -> Target:
    """Tell how to reach another database of the same server."""
    return replace(target, keywords=MappingProxyType({**target.keywords, "dbname": database}))


@contextlib.contextmanager
def scratch_database(target: Target, notes: Path) -> Iterator[Target]:
    """Make an empty database like the target's, for the length of a block.

    It is made from template0 with the target's encoding and locale, bears a comment that says whose it is, and
    its advisory lock is held. The target's own database is only read.

    :param notes: The folder that remembers it, for :func:`sweep`.
    :raises BadInputError: The role may not create databases. Nothing was touched.
    :raises OperationFailedError: It could not be removed; says its name, and why.
    """
    name = PREFIX + secrets.token_hex(6)
    with connected(target) as connection:
        _refuse_without_right(connection)
        try:
            with translated("The scratch database could not be made"):
                oid = create_database(connection, name, _like(connection))
                _remember(notes, Note(_server_identity(connection, target), name, oid, _role_identity(connection)))
            with connected(on_database(target, name)) as lock_session:
                with translated("The scratch database could not be marked"):
                    lock_session.execute("SELECT pg_catalog.pg_advisory_lock(%s)", [LOCK])
                    lock_session.execute(
                        sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), _comment())
                    )
                yield on_database(target, name)
        except TaskError as error:
            # What went wrong first is what people must read, even where the server has gone and can drop nothing.
            _drop(target, name, first=error)
            _forget(notes, name)
            raise
        except BaseException:
            _drop(target, name)
            _forget(notes, name)
            raise
        _drop(target, name)
        _forget(notes, name)


@contextlib.contextmanager
def scratch_history(there: Target, name: str) -> Iterator[None]:
    """Let a scratch database have a history of one applied migration, for the length of a block.

    Who can name that migration reads this database and no other.
    """
    schema = there.schema or "public"
    table = sql.Identifier(schema, "_prisma_migrations")
    with connected(there) as connection, translated("The scratch database could not be tried"):
        made = not existing_schemas(connection, [schema])
        if made:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        connection.execute(
            sql.SQL(
                "CREATE TABLE {} (id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL,"
                " finished_at pg_catalog.timestamptz, migration_name varchar(255) NOT NULL, logs pg_catalog.text,"
                " rolled_back_at pg_catalog.timestamptz,"
                " started_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),"
                " applied_steps_count integer NOT NULL DEFAULT 1)"
            ).format(table)
        )
        connection.execute(
            sql.SQL(
                "INSERT INTO {} (id, checksum, finished_at, migration_name) VALUES ('1', '1', pg_catalog.now(), {})"
            ).format(table, name)
        )
        yield
        connection.execute(sql.SQL("DROP TABLE {}").format(table))
        if made:
            connection.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(schema)))


_LEFT = f"""{TRUSTED}
SELECT d.oid, r.rolname, pg_catalog.shobj_description(d.oid, 'pg_database'),
       d.datdba IN (SELECT oid FROM trusted)
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid)
  FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba WHERE d.datname = %s
"""


def sweep_scratch_databases(target: Target, notes: Path) -> list[str]:
    """Drop the scratch databases of rehearsals that were killed, and return their names.

    Only those that a note of ours names with their oid and owner, whose comment is ours, in which no session is, and
    whose advisory lock is free. No other database is connected to: its owner's settings would apply to our session.

    :param notes: The folder of the notes.
    """
    known = _notes(notes)
    if not known:
        return []
    swept = []
    with connected(target) as connection:
        here = _server_identity(connection, target)
        for note in (each for each in known if each.server == here):
            found = connection.execute(_LEFT, [note.database]).fetchone()
            if found is None or found[0] != note.oid:
                _forget(notes, note.database)
                continue
            _, owner, comment, unused = found
            ours = owner == note.owner and unused and _ours(comment)
            if ours and _free(target, note.database) and _try_drop(connection, note.database):
                _forget(notes, note.database)
                swept.append(note.database)
    return swept


def _server_identity(connection: Connection, target: Target) -> str:
    return system_identifier(connection) or f"{target.host}:{target.port}"


def _role_identity(connection: Connection) -> str:
    return str(one(connection, "SELECT current_user::pg_catalog.text")[0])


def _note_path(notes: Path, name: str) -> Path:
    return notes / f".{name}.json"


def _remember(notes: Path, note: Note) -> None:
    # Where nothing can be written, a killed rehearsal's database is only listed by `db.doctor`.
    with contextlib.suppress(OSError):
        make_dump_folder(notes)
        replace_file(_note_path(notes, note.database), (json.dumps(asdict(note)) + "\n").encode())


def _forget(notes: Path, name: str) -> None:
    with contextlib.suppress(OSError):
        _note_path(notes, name).unlink()


def _notes(notes: Path) -> list[Note]:
    found = []
    for path in sorted(notes.glob(f".{PREFIX}*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            # Opening a pipe would wait for its other end.
            if path.is_file() and path.stat().st_size < _NOTE_BYTES:
                note = Note(**json.loads(path.read_bytes()))
                if path == _note_path(notes, note.database):
                    found.append(note)
    return found


def leftover_scratch_databases(connection: Connection) -> list[tuple[str, bool]]:
    """List the scratch databases that are there, each with whether somebody is in it; nothing is changed.

    One without any comment is among them: a rehearsal was killed before it could mark it, and no sweep dares to.
    """
    rows = connection.execute(
        "SELECT d.datname, EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid),"
        "       pg_catalog.shobj_description(d.oid, 'pg_database')"
        "  FROM pg_catalog.pg_database d WHERE pg_catalog.starts_with(d.datname, %s) ORDER BY 1",
        [PREFIX],
    ).fetchall()
    return [(str(name), bool(used)) for name, used, comment in rows if comment is None or _ours(comment)]


def _refuse_without_right(connection: Connection) -> None:
    allowed = one(connection, "SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")[0]
    if not allowed:
        raise BadInputError(
            f"A rehearsal needs a role that may create databases, and {connection.info.user} may not. Let a superuser "
            f"run ALTER ROLE … CREATEDB, or name another URL with --url-env. Nothing was touched."
        )


def _comment() -> sql.Literal:
    made = format_now()
    return sql.Literal(json.dumps({"made by": MARK, "host": socket.gethostname(), "pid": os.getpid(), "time": made}))


def _ours(comment: str | None) -> bool:
    try:
        return bool(json.loads(comment or "")["made by"] == MARK)
    except (ValueError, KeyError, TypeError):
        return False


def _free(target: Target, name: str) -> bool:
    try:
        with connected(on_database(target, name)) as other:
            return bool(one(other, "SELECT pg_catalog.pg_try_advisory_lock(%s)", [LOCK])[0])
    except TaskError:
        return False


def _try_drop(connection: Connection, name: str) -> bool:
    """Drop it; a session that has come meanwhile keeps it."""
    try:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
    except psycopg.Error:
        return False
    return True


def _drop(target: Target, name: str, *, first: TaskError | None = None) -> None:
    """Drop it, whoever is in it.

    :param first: What had gone wrong before, which the message then begins with.
    :raises TaskError: It is still there; of the kind of the first error.
    """
    try:
        try:
            _force(target, name)
        except KeyboardInterrupt:
            # The first signal came just now, and the server has stopped dropping; further signals are ignored.
            _force(target, name)
            raise
    except TaskError as error:
        before, why = f"{first} " if first else "", str(error)
        kind = type(first) if first else OperationFailedError
        raise kind(
            f"{before}The scratch database {name} could not be removed: {why} The next rehearsal removes it."
        ) from None


def _force(target: Target, name: str) -> None:
    with connected(target) as connection, translated("Dropping it failed"):
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
