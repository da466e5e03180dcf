"""Restore a dump by a transaction and by a swap into two copies of a database, and read what came of each."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psycopg import sql

from tasks.inventory.objects import objects_to_document, pin_settings, read_objects, read_properties
from tasks.restore.plan import plan_restore
from tasks.restore.request import RestoreRequest
from tasks.safety.method import Method, SwapObstacle
from tasks.staging.swap_restore import restore_by_method
from tests.flows import Said, settings_of
from tests.servers import SUPERUSER
from tests.support import drop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tasks.errors import TaskError
    from tasks.restore.restore import Restored
    from tests.support import Database, Databases, Project

__all__ = ["Method", "SwapObstacle", "both_ways", "databases_of_ours", "differences", "fingerprint", "restore_by"]

# These columns differ between any two databases.
_VOLATILE = "ARRAY['oid', 'datname', 'datfrozenxid', 'datminmxid', 'datlastsysoid', 'datacl']"
_SHOWN = 40
# What belongs to a database and is in no text of pg_dump, or in another order there.
_ROWS = {
    "database": f"""SELECT to_jsonb(d) - {_VOLATILE}, coalesce(datacl, acldefault('d', datdba)) FROM pg_database d
        WHERE datname = current_database()""",
    "comment": "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()",
    "settings": """SELECT setrole::regrole::text, setconfig FROM pg_db_role_setting s JOIN pg_database d
        ON d.oid = s.setdatabase WHERE d.datname = current_database() ORDER BY 1""",
    "extensions": """SELECT extname, extowner::regrole::text, extnamespace::regnamespace::text, extversion,
        extcondition, array(SELECT c::regclass::text FROM unnest(extconfig) c) FROM pg_extension ORDER BY 1""",
    # The order of grants means nothing: a transaction keeps that of the past.
    "schemas": """SELECT nspname, nspowner::regrole::text,
        array(SELECT g::text FROM unnest(coalesce(nspacl, acldefault('n', nspowner))) g ORDER BY 1),
        obj_description(oid, 'pg_namespace')
        FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)' ORDER BY 1""",
    "members": """SELECT i.type, i.identity, obj_description(d.objid, d.classid::regclass::text), p.proconfig, p.prosrc,
               p.proowner::regrole, c.relowner::regrole, c.relacl, p.proacl, t.typacl
          FROM pg_depend d CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) i
          LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
          LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
          LEFT JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
         WHERE d.deptype = 'e' ORDER BY 1, 2""",
    "default privileges": """SELECT defaclrole::regrole::text, defaclnamespace::regnamespace::text, defaclobjtype,
        defaclacl FROM pg_default_acl ORDER BY 1, 2, 3""",
    "languages": "SELECT lanname, lanowner::regrole::text, lanacl, lanpltrusted FROM pg_language ORDER BY 1",
    "wrappers": "SELECT fdwname, fdwowner::regrole::text, fdwacl, fdwoptions FROM pg_foreign_data_wrapper ORDER BY 1",
    "servers": "SELECT srvname, srvowner::regrole::text, srvacl, srvoptions FROM pg_foreign_server ORDER BY 1",
    "mappings": "SELECT srvname, usename, umoptions FROM pg_user_mappings ORDER BY 1, 2",
    "event triggers": """SELECT evtname, evtowner::regrole::text, evtenabled, evtevent, evttags, evtfoid::regprocedure
        FROM pg_event_trigger ORDER BY 1""",
    "publications": """SELECT pubname, pubowner::regrole::text, puballtables, pubviaroot,
        array(SELECT prrelid::regclass::text FROM pg_publication_rel WHERE prpubid = p.oid ORDER BY 1)
        FROM pg_publication p ORDER BY 1""",
    "system grants": """SELECT c.oid::regclass::text, c.relacl FROM pg_class c
        WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v') ORDER BY 1""",
    "system functions": "SELECT oid::regprocedure::text, proacl FROM pg_proc WHERE oid < 16384 ORDER BY 1",
    "system types": "SELECT oid::regtype::text, typacl FROM pg_type WHERE oid < 16384 ORDER BY 1",
}


@dataclass(frozen=True)
class Fingerprint:
    """All that is compared of a database.

    :ivar text: What pg_dump writes with `--create`, under the same name for each database.
    :ivar objects: Digests of the definitions of all objects; `properties` owners, grants and settings.
    :ivar rows: Rows of the catalogue, by what they are.
    """

    text: bytes
    objects: dict[str, dict[str, str]] = field(repr=False)
    properties: dict[str, dict[str, str]] = field(repr=False)
    rows: dict[str, list[Any]] = field(repr=False)


def fingerprint(database: Database) -> Fingerprint:
    """Return all that is compared of a database."""
    with database.connect() as connection:
        if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
            # Any byte is a character of it.
            connection.execute("SET client_encoding TO LATIN1")
        pin_settings(connection)
        objects, properties = objects_to_document(read_objects(connection)), read_properties(connection)
        digests = {kind: {name: repr(each) for name, each in found.items()} for kind, found in objects.items()}
        rows = {what: connection.execute(query.encode()).fetchall() for what, query in _ROWS.items()}
    text = database.dump_text("--create").replace(database.name.encode(), b"NAME")
    return Fingerprint(text, digests, properties, rows)


def differences(one: Fingerprint, other: Fingerprint) -> list[str]:
    """Return the lines in which two databases differ."""
    before, after = (each.text.decode(errors="replace").splitlines() for each in (one, other))
    found = list(difflib.unified_diff(before, after, lineterm="", n=1))[:_SHOWN]
    for what in _ROWS:
        left, right = one.rows[what], other.rows[what]
        if left == right:
            # Of functions there are thousands, each of which is looked for below.
            continue
        found += [f"{what}: -{row}" for row in left if row not in right]
        found += [f"{what}: +{row}" for row in right if row not in left]
    for was, is_now in ((one.objects, other.objects), (one.properties, other.properties)):
        for kind in was.keys() | is_now.keys():
            changed = {key for key, _ in was[kind].items() ^ is_now[kind].items()}
            found += [f"{kind} {name}: {was[kind].get(name)}, {is_now[kind].get(name)}" for name in changed]
    return found


@dataclass(frozen=True)
class Ended:
    """How a restore ended.

    :ivar restored: Its result; None after an error.
    """

    database: Database
    restored: Restored | None
    error: TaskError | None
    said: Said

    @property
    def swapped(self) -> bool:
        """Return whether a staging database took the place of the configured one."""
        return self.restored is not None and self.restored.cut_off is not None


def restore_by(
    project: Project,
    database: Database,
    path: Path,
    method: Method,
    *,
    role: str = SUPERUSER,
    changes: dict[str, Any] | None = None,
    said: Said | None = None,
    **asked: Any,
) -> Ended:
    """Restore a dump with `--clean` by a method, and drop the old database that a swap has kept.

    :param changes: Fields of the settings.
    :param said: Is told what happens.
    :raises TaskError: The restore failed.
    """
    said = said or Said()
    settings = settings_of(project, database, role, **{"kept_databases": 0, **(changes or {})})
    request = RestoreRequest(str(path), **{"clean": True, "trust": True, "method": method, **asked})
    restored = restore_by_method(plan_restore(settings, request, said), said)
    return Ended(database, restored, None, said)


def both_ways(
    project: Project,
    databases: Databases,
    path: Path,
    start: Database,
    prepare: Callable[[Database], None] = lambda _: None,
    *,
    role: str = SUPERUSER,
    **asked: Any,
) -> list[str]:
    """Restore a dump into two copies of a database, by a transaction into one and by a swap into the other.

    :param start: The database that is copied.
    :param prepare: Gives each copy what CREATE DATABASE does not copy.
    :param asked: Options of the restore.
    :return: The lines in which the results differ.
    """
    found = []
    with start.server.connect() as connection:
        query = "SELECT rolname FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE datname = %s"
        rows = connection.execute(query, [start.name]).fetchall()
    owner = str(rows[0][0])
    for method in (Method.TRANSACTION, Method.SWAP):
        database = databases(owner=owner, template=start)
        prepare(database)
        # A safety dump, which only the transaction makes, is no part of the result, nor is the old database.
        changes, backup = {"kept_databases": 1}, method is Method.SWAP
        ended = restore_by(project, database, path, method, role=role, changes=changes, backup=backup, **asked)
        assert ended.swapped == (method is Method.SWAP)
        found.append(fingerprint(database))
        with database.server.connect() as connection:
            connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(sql.Identifier(database.name)))
        drop(database)
    return differences(*found)


def databases_of_ours(database: Database) -> list[str]:
    """Name the staging and the kept databases on the server of a database."""
    query = r"SELECT datname FROM pg_database WHERE datname ~ '__(staging|before)_' ORDER BY 1"
    with database.server.connect() as connection:
        return [str(name) for (name,) in connection.execute(query.encode())]
