"""Check the databases that restores made or keep, and whether a restore would swap databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from ..errors import BadInputError
from ..formatting import format_count, format_list, format_size
from ..postgres.connection import Connection, ServerFacts, read_endpoint
from ..postgres.schemas import other_schemas
from ..safety.method import Method, choose_method
from ..safety.own_databases import Role, is_marked, own_databases
from .check import Check, note, ok, skipped, wrong

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..config.target import Target
    from ..dumpformat.manifest import Manifest


_MARKED = """
SELECT d.datname::pg_catalog.text, pg_catalog.shobj_description(d.oid, 'pg_database'), d.datallowconn
  FROM pg_catalog.pg_database d WHERE d.datname <> 'template0' ORDER BY 1
"""


def check_staging_databases(connection: Connection, settings: Settings, target: Target) -> Check:
    """Report the staging databases of this folder's restores: running, killed, or waiting for `--finish`."""
    found = own_databases(connection, target, settings.dumps, Role.STAGING, tidies=False)
    if left := [each.record.database for each in found if not (each.record.ready or each.used)]:
        drops = " ".join(f"DROP DATABASE {each};" for each in left)
        remedy = f"The next `inv db.restore --clean` that swaps databases drops them. To drop all: {drops}"
        return wrong(f"killed restores left {format_list(left)}", remedy)
    if ready := [each.record.database for each in found if each.record.ready]:
        return note(
            f"loaded and verified, but not swapped in yet: {format_list(ready)}",
            "`inv db.restore --finish` swaps it in; the next restore drops it.",
        )
    if found:
        return note(f"a restore is running in {format_list([each.record.database for each in found])}")
    return ok("none")


def check_kept_databases(connection: Connection, settings: Settings, target: Target) -> Check:
    """Report the databases kept for `db.undo`, and all that refuse connections: pg_upgrade refuses those."""
    own = own_databases(connection, target, settings.dumps, Role.KEPT, tidies=False)
    staging = own_databases(connection, target, settings.dumps, Role.STAGING, tidies=False)
    ours = {each.record.database for each in (*own, *staging)}
    rows = connection.execute(_MARKED).fetchall()
    others = [str(each) for each, comment, _ in rows if is_marked(comment) and each not in ours]
    closed = [str(each) for each, _, allowed in rows if not allowed]
    unknown = [each for each in closed if each not in {*ours, *others}]
    what = [f"{each.record.database} ({format_size(each.record.size)}, id {each.record.id[:8]})" for each in own]
    said = [f"{format_count(len(own), 'database')} for `inv db.undo`: {format_list(what)}"] if own else []
    said += [f"marked as ours, but not by restores of this folder: {format_list(others)}"] if others else []
    said += [f"closed for connections: {format_list(unknown)}"] if unknown else []
    if not said:
        return ok("none")
    deletes = [f"`{settings.command('db.delete', f'--file={each.record.id[:8]}')}`" for each in own]
    drops = " ".join(f"DROP DATABASE {_quoted(each)};" for each in others)
    opens = " ".join(f"ALTER DATABASE {_quoted(each)} ALLOW_CONNECTIONS true;" for each in closed)
    fixes = [f"To delete: {format_list(deletes)}."] if own else []
    fixes += [f"If no other dumps folder needs them for `inv db.undo`, delete them in psql: {drops}"] if others else []
    fixes += [f"pg_upgrade refuses closed databases. To open them, in psql: {opens}"] if closed else []
    return note("; ".join(said), " ".join(fixes))


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


def check_swap(
    connection: Connection, facts: ServerFacts, settings: Settings, target: Target, manifest: Manifest | None
) -> Check:
    """Report whether a restore with --clean would swap databases, or why it takes one transaction.

    :param manifest: That of the dump to restore; None assumes a dump of this database.
    """
    if facts.in_recovery:
        return skipped("a standby can't be written to")
    try:
        choice = choose_method(
            connection,
            settings,
            target,
            facts,
            read_endpoint(connection, facts),
            requested=Method.AUTO,
            kept_schemas=other_schemas(connection, manifest.outline.schemas) if manifest is not None else (),
            content=manifest.content.size if manifest is not None else 0,
            jobs=1,
            disconnect=settings.disconnect,
        )
    except BadInputError as error:
        return note(str(error))
    if choice.reason is not None:
        return note(f"a restore with --clean takes one transaction: {choice.reason}")
    sessions = f"; {format_count(len(choice.sessions), 'session')} would have to end" if choice.sessions else ""
    if settings.method == Method.TRANSACTION:
        return ok("possible, but db.method is transaction")
    return ok(f"a restore with --clean loads a staging database and swaps it in{sessions}")
