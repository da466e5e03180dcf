"""Scratch databases: created for a restore, then dropped or renamed; after a kill, the next rehearsal drops them."""

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
from ..errors import BadInputError, Effect, OperationFailedError, TaskError
from ..formatting import format_now
from ..postgres.connection import (
    Connection,
    Endpoint,
    ServerFacts,
    connect,
    connected,
    one,
    read_endpoint,
    server_facts,
    translated,
)
from ..postgres.databases import create_database, database_exists, options_like
from ..postgres.login_failure import NotConnectedError
from ..postgres.schemas import existing_schemas
from ..postgres.tables import TRUSTED
from ..system.processes import read_regular
from ..system.runtime import defer_signals, set_interrupt_message
from .own_databases import server_identity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ..config.settings import Settings
    from ..config.target import Target


PREFIX = "invoke_postgres_rehearsal_"
MARK = "invoke-postgres rehearsal"
# The advisory lock that a rehearsal holds in its scratch database: a fixed number made of the letters of "rehearse".
LOCK = 8243104692


@dataclass(frozen=True)
class Note:
    """A record on disk of a scratch database. Its name and comment alone prove nothing: any role can set them.

    :ivar server: The cluster's identifier, or host and port if the role may not read it.
    :ivar owner: The role that created the database.
    """

    server: str
    database: str
    oid: int
    owner: str


def on_database(target: Target, database: str) -> Target:
    """Return a target for another database of the same server."""
    return replace(target, keywords=MappingProxyType({**target.keywords, "dbname": database}))


# Databases that exist on almost every server, for a session while the configured database does not exist.
_MAINTENANCE = ("postgres", "template1")


@contextlib.contextmanager
def connection_without_database(
    settings: Settings, target: Target, error: NotConnectedError
) -> Iterator[tuple[Connection, ServerFacts, Endpoint]]:
    """Connect to another database of the server if the configured one does not exist.

    :param error: Why no connection to the configured database was established.
    :return: The session, and the facts and the endpoint of the missing database.
    :raises NotConnectedError: It exists, or no other database can be asked: then the first error counts.
    """
    with (
        contextlib.closing(_connect_elsewhere(settings, target, error)) as connection,
        translated("Reading the server's version and settings failed, and nothing was touched", target),
    ):
        if database_exists(connection, target.database):
            raise error
        server = replace(server_facts(connection), database=target.database)
        if server.instance is not None:
            server = replace(server, instance=replace(server.instance, database_oid=0))
        yield connection, server, read_endpoint(connection, server)


def _connect_elsewhere(settings: Settings, target: Target, error: NotConnectedError) -> Connection:
    for name in _MAINTENANCE if target.database else ():
        with contextlib.suppress(NotConnectedError):
            return connect(on_database(target, name), lock_timeout=settings.lock_timeout)
    raise error


@contextlib.contextmanager
def scratch_database(target: Target, notes: Path, *, keep_as: str = "") -> Iterator[Target]:
    """Create an empty database like the target's, and drop or rename it at the end of the block.

    It is created from template0 with the target's encoding and locale, has a comment that marks it as ours, and an
    advisory lock is held in it. The target's own database is only read.

    :param notes: The folder for its note, which :func:`delete_leftover_scratch_databases` reads.
    :param keep_as: The name that it gets at the end, with the default grants of PUBLIC. If the block raises, it is
        dropped nevertheless.
    :raises BadInputError: The role may not create databases. Nothing was touched.
    :raises OperationFailedError: It could not be dropped; the message has its name and the reason.
    """
    name = PREFIX + secrets.token_hex(6)
    with connected(target) as connection:
        _refuse_without_right(connection)
        try:
            with translated("The scratch database could not be created"):
                oid = create_database(connection, name, options_like(connection))
                owner = str(one(connection, "SELECT current_user::pg_catalog.text")[0])
                server = server_identity(connection, target)
                _write_note(notes, Note(server=server, database=name, oid=oid, owner=owner))
            with connected(on_database(target, name)) as lock_session:
                with translated("The scratch database could not be marked"):
                    lock_session.execute("SELECT pg_catalog.pg_advisory_lock(%s)", [LOCK])
                    lock_session.execute(
                        sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), _comment())
                    )
                yield on_database(target, name)
            if keep_as:
                _publish(connection, target, oid, name, keep_as)
        except BaseException as error:
            # The message begins with the first error, even if the drop fails, too.
            _drop(target, name, first=error if isinstance(error, TaskError) else None)
            _delete_note(notes, name)
            raise
        if not keep_as:
            _drop(target, name)
        _delete_note(notes, name)


def _publish(connection: Connection, target: Target, oid: int, old: str, name: str) -> None:
    """Give a scratch database its final name in one transaction, and PUBLIC the default grants.

    :raises TaskError: It does not have the name.
    """
    found = sql.Identifier(old)
    statements = [
        sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO PUBLIC").format(found),
        sql.SQL("COMMENT ON DATABASE {} IS NULL").format(found),
    ]
    rename_database(connection, target, oid, old, name, statements, done=f"The database {name} was created.")


def rename_database(
    connection: Connection,
    target: Target,
    oid: int,
    old: str,
    name: str,
    statements: Sequence[sql.Composed],
    *,
    done: str,
) -> None:
    """Rename one of our databases in one transaction; signals wait until its end.

    :param connection: A session in another database.
    :param target: The database of that session.
    :param oid: The oid of the database to rename, and `old` its name, which must belong together until the end.
    :param name: The new name, which no database has.
    :param statements: Executed before, in the same transaction.
    :param done: What an interruption says afterwards.
    :raises OperationFailedError: It was dropped or renamed meanwhile; nothing was changed.
    :raises TaskError: It does not have the name; `effect` says whether that is certain.
    """
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(name))
    with defer_signals():
        try:
            with translated(f"The database could not be named {name}"), connection.transaction():
                # With the role's `off`, the server would report the commit before it is on disk.
                connection.execute("SET LOCAL synchronous_commit = on")
                if not has_name(connection, oid, old):
                    raise OperationFailedError(f"The database {old} was dropped or renamed meanwhile.")
                for statement in (*statements, rename):
                    connection.execute(statement)
        except TaskError:
            if not _was_renamed(target, oid, name):
                raise
        set_interrupt_message(done, Effect.CHANGED)


def has_name(connection: Connection, oid: int, name: str) -> bool:
    """Return whether the database with an oid has a name."""
    query = "SELECT FROM pg_catalog.pg_database WHERE oid = %s AND datname = %s"
    return connection.execute(query, [oid, name]).fetchone() is not None


def _was_renamed(target: Target, oid: int, name: str) -> bool:
    """Return whether a database has a name, after the result of a COMMIT was lost.

    :raises TaskError: The server does not answer; `effect` is unknown.
    """
    try:
        with connected(target) as connection, translated(f"It is unknown whether a database was named {name}"):
            return has_name(connection, oid, name)
    except TaskError as error:
        error.effect = Effect.UNKNOWN
        raise


@contextlib.contextmanager
def scratch_history(there: Target, name: str) -> Iterator[None]:
    """Create a migration history with one applied migration in a scratch database, and drop it after the block.

    A migration command that reports this name is connected to this database and no other.
    """
    schema = there.schema or "public"
    table = sql.Identifier(schema, "_prisma_migrations")
    with connected(there) as connection, translated("The scratch database could not be checked"):
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


def delete_leftover_scratch_databases(target: Target, notes: Path) -> list[str]:
    """Drop the scratch databases of rehearsals that were killed, and return their names.

    A database is dropped only if a note has its oid and owner, its comment is ours, no session uses it, and its
    advisory lock is free. This connects to no other database: settings of its owner would apply to the session.

    :param notes: The folder of the notes.
    """
    known = _read_notes(notes)
    if not known:
        return []
    dropped = []
    with connected(target) as connection:
        here = server_identity(connection, target)
        for note in (each for each in known if each.server == here):
            found = connection.execute(_LEFT, [note.database]).fetchone()
            if found is None or found[0] != note.oid:
                _delete_note(notes, note.database)
                continue
            _, owner, comment, unused = found
            ours = owner == note.owner and unused and _is_ours(comment)
            if ours and is_unlocked(target, note.database) and try_drop(connection, note.database):
                _delete_note(notes, note.database)
                dropped.append(note.database)
    return dropped


def _note_path(notes: Path, name: str) -> Path:
    return notes / f".{name}.json"


def _write_note(notes: Path, note: Note) -> None:
    # Without the note, the database of a killed rehearsal is never dropped, but `db.doctor` lists it.
    with contextlib.suppress(OSError):
        make_dump_folder(notes)
        replace_file(_note_path(notes, note.database), (json.dumps(asdict(note)) + "\n").encode())


def _delete_note(notes: Path, name: str) -> None:
    with contextlib.suppress(OSError):
        _note_path(notes, name).unlink()


def _read_notes(notes: Path) -> list[Note]:
    found = []
    for path in sorted(notes.glob(f".{PREFIX}*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            note = Note(**json.loads(read_regular(path)))
            if path == _note_path(notes, note.database):
                found.append(note)
    return found


def leftover_scratch_databases(connection: Connection) -> list[tuple[str, bool]]:
    """Return the existing scratch databases, each with whether a session uses it.

    Those without a comment are included: the rehearsal was killed before it could set one, and they are never dropped.
    """
    rows = connection.execute(
        "SELECT d.datname, EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid),"
        "       pg_catalog.shobj_description(d.oid, 'pg_database')"
        "  FROM pg_catalog.pg_database d WHERE pg_catalog.starts_with(d.datname, %s) ORDER BY 1",
        [PREFIX],
    ).fetchall()
    return [(str(name), bool(used)) for name, used, comment in rows if comment is None or _is_ours(comment)]


def _refuse_without_right(connection: Connection) -> None:
    allowed = one(connection, "SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")[0]
    if not allowed:
        raise BadInputError(
            f"This needs a role that may create databases, and {connection.info.user} may not. Nothing was touched.",
            fix="As a superuser, run ALTER ROLE … CREATEDB, or use another URL with --url-env.",
        )


def _comment() -> sql.Literal:
    made = format_now()
    return sql.Literal(json.dumps({"made by": MARK, "host": socket.gethostname(), "pid": os.getpid(), "time": made}))


def _is_ours(comment: str | None) -> bool:
    try:
        return bool(json.loads(comment or "")["made by"] == MARK)
    except (ValueError, KeyError, TypeError):
        return False


def is_unlocked(target: Target, name: str, lock: int = LOCK) -> bool:
    """Return whether no session holds our advisory lock in a database."""
    try:
        with connected(on_database(target, name)) as other:
            return bool(one(other, "SELECT pg_catalog.pg_try_advisory_lock(%s)", [lock])[0])
    except TaskError:
        return False


def try_drop(connection: Connection, name: str) -> bool:
    """Drop a database unless a session has connected to it meanwhile."""
    try:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
    except psycopg.Error:
        return False
    return True


def _drop(target: Target, name: str, *, first: TaskError | None = None) -> None:
    """Drop a database and end the sessions in it.

    :param first: An earlier error, with which the message then begins.
    :raises TaskError: The drop failed; of the class of the first error.
    """
    try:
        drop_database(target, name)
    except TaskError as error:
        kind, before = (type(first), f"{first} ") if first else (OperationFailedError, "")
        raise kind(
            f"{before}The scratch database {name} could not be dropped: {error} The next rehearsal drops it."
        ) from None


def drop_database(target: Target, name: str) -> None:
    """Drop one of our databases and end the sessions in it; a signal meanwhile does not prevent it.

    :param target: Another database of the server.
    :raises TaskError: It could not be dropped.
    """
    try:
        _force(target, name)
    except KeyboardInterrupt:
        # The first signal cancelled the DROP; further signals are ignored.
        _force(target, name)
        raise


def _force(target: Target, name: str) -> None:
    with connected(target) as connection, translated("DROP DATABASE failed"):
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
