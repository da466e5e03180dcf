"""Give a staging database what a restore with `--clean` keeps: schemas, extensions, objects without a schema.

pg_dump says how they are created. Afterwards both databases are read again and compared; a difference makes the swap
impossible.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from ..dump.global_objects import reading_global_statements
from ..dump.pg_dump import PgDump
from ..inventory.objects import pin_settings
from ..inventory.undumped import read_undumped_objects
from ..postgres.catalog_filters import USER_SCHEMA
from ..postgres.connection import connected, server_facts
from ..postgres.tables import sum_lines
from ..progress import Silence
from ..restore.clear import read_globals, renew_schema
from ..safety.method import SwapObstacle, SwapReason, SwapUnavailableError
from ..system.pg_programs import find_client

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from ..config.target import Target
    from ..dump.global_objects import GlobalStatement
    from ..postgres.connection import Connection
    from ..restore.plan import RestorePlan

    Statements = Callable[[], tuple[GlobalStatement, ...]]


# Undefined function, table, object and schema: the statement needs something that only the dump creates.
_NEEDS_OTHERS = frozenset({"42883", "42P01", "42704", "3F000"})
# Whether initdb's privileges are known, which are lost when `public` is dropped; owner and comment.
_PUBLIC = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_init_privs i
                WHERE i.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND i.objoid = n.oid),
       r.rolname::pg_catalog.text, pg_catalog.obj_description(n.oid, 'pg_namespace')
  FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'public'
"""
_SCHEMAS = f"""
SELECT n.nspname::pg_catalog.text, pg_catalog.concat_ws(' ', r.rolname, EXISTS (
               SELECT FROM pg_catalog.pg_init_privs i
                WHERE i.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND i.objoid = n.oid),
           pg_catalog.md5(pg_catalog.obj_description(n.oid, 'pg_namespace')))
  FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner WHERE {USER_SCHEMA}
"""  # noqa: S608 - no values
_VERSIONS = "SELECT e.extname::pg_catalog.text, e.extversion FROM pg_catalog.pg_extension e"
_EXTENSIONS = """
SELECT e.extname::pg_catalog.text, pg_catalog.concat_ws(' ', e.extversion, n.nspname, r.rolname,
           (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', c.oid::pg_catalog.regclass, e.extcondition[c.at]),
                       ',' ORDER BY c.at)
              FROM pg_catalog.unnest(e.extconfig) WITH ORDINALITY AS c(oid, at)))
  FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
  JOIN pg_catalog.pg_roles r ON r.oid = e.extowner
"""
_MEMBER_TABLES = """
SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text,
       pg_catalog.pg_relation_size(c.oid), CASE WHEN c.relkind = 'S' THEN pg_catalog.pg_sequence_last_value(c.oid) END
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
   AND d.deptype = 'e'
 WHERE c.relkind IN ('r', 'S')
"""
# Bytes of the tables of an extension that are read and compared; a swap of a database with more is not possible.
_MOST_READ = 64 << 20


def reading_statements(plan: RestorePlan, target: Target, connection: Connection) -> AbstractContextManager[Statements]:
    """Start pg_dump to read how to create what a restore with `--clean` keeps in a database.

    :param connection: A session in the database, which nothing else uses meanwhile.
    :return: A function that waits for pg_dump and returns the statements.
    """
    settings, server = plan.settings, server_facts(connection)
    client = find_client("pg_dump", server.major, bin_dir=settings.bin_dir, environ=settings.environ)
    pg_dump = PgDump(
        settings=settings, report=Silence(), target=target, server=server, client=client, connection=connection
    )
    return reading_global_statements(pg_dump)


def carry_over(plan: RestorePlan, live: Connection, statements: Statements, target: Target) -> None:
    """Create in a staging database what the restore keeps in the configured one, and compare both.

    :param live: A session in the configured database.
    :param statements: The result of :func:`reading_statements` for it.
    :param target: The staging database.
    :raises SwapUnavailableError: Something can't be created or is not the same.
    """
    # pg_dump needs a while, so the catalogue is read first.
    before, outline = _read_kept(live)
    with connected(target, lock_timeout=plan.settings.lock_timeout, loads=True) as session:
        _make_public(live, session)
        if session.info.parameter_status("server_encoding") == "SQL_ASCII":
            # pg_dump's text is then in bytes that need not be UTF-8.
            session.execute("SET client_encoding TO 'SQL_ASCII'")
        done = _execute(session, statements(), _pairs(live, _VERSIONS))
    with (
        connected(target, lock_timeout=plan.settings.lock_timeout) as session,
        reading_statements(plan, target, session) as statements_now,
    ):
        now, outline_now = _read_kept(session)
        if left := sorted(outline - outline_now - set(plan.dump.outline.globals)):
            raise _differs(f"{left[0]} can't be created before the dump is loaded and")
        _compare_statements(done, statements_now())
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise _differs(name)


def _pairs(connection: Connection, query: str) -> dict[str, str]:
    return dict(connection.execute(query.encode()).fetchall())


def _differs(what: str) -> SwapUnavailableError:
    return SwapUnavailableError(SwapReason(SwapObstacle.DIFFERS, what))


def _make_public(live: Connection, session: Connection) -> None:
    """Give `public` what pg_dump does not write of it: before 15 its owner and comment, and that it was dropped."""
    before, now = (each.execute(_PUBLIC).fetchone() for each in (live, session))
    if before is None:
        session.execute("DROP SCHEMA IF EXISTS public")
        return
    initdb, owner, comment = before
    if now is None or (now[0] and not initdb):
        session.execute("DROP SCHEMA IF EXISTS public")
        session.execute("CREATE SCHEMA public")
        renew_schema(session, "public", initdb=False)
    elif now[1:] == before[1:]:
        return
    session.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(sql.Identifier(owner)))
    session.execute(sql.SQL("COMMENT ON SCHEMA public IS {}").format(sql.Literal(comment)))


def _execute(
    session: Connection, statements: tuple[GlobalStatement, ...], versions: Mapping[str, str]
) -> list[GlobalStatement]:
    """Execute the statements, and return those that succeeded.

    A statement about an object that needs something of the dump fails; the dump creates such an object itself.
    """
    done = []
    for each in statements:
        text = each.text
        if each.extension in versions:
            # A dump names no version, so that the newest one would be created.
            version = sql.Literal(versions[each.extension]).as_bytes(session)
            text = text.rstrip().removesuffix(b";") + b" VERSION " + version
        try:
            session.execute(text)
        except psycopg.Error as error:
            if error.sqlstate not in _NEEDS_OTHERS:
                raise
            continue
        done.append(each)
    return done


def _compare_statements(expected: list[GlobalStatement], found: tuple[GlobalStatement, ...]) -> None:
    before, now = (Counter(each.text for each in group) for group in (expected, found))
    for text in (*(before - now), *(now - before)):
        raise _differs(f"the statement {text.decode(errors='replace').strip()}")


def _read_kept(connection: Connection) -> tuple[dict[str, object], set[str]]:
    """Return what a restore with `--clean` keeps of a database, as read from the catalogue.

    :return: A text for each schema, extension, object that no dump contains, and table of an extension; and the objects
        without a schema, named as in the outline of a dump.
    """
    objects: dict[str, object] = {}
    for kind, query in (("schema", _SCHEMAS), ("extension", _EXTENSIONS)):
        objects |= {f"the {kind} {name}": value for name, value in _pairs(connection, query).items()}
    outline = set(read_globals(connection))
    pin_settings(connection)
    objects |= read_undumped_objects(connection)
    objects |= {
        f"the content of {name}, a table of an extension,": value for name, value in _member_rows(connection).items()
    }
    return objects, outline


def _member_rows(connection: Connection) -> dict[str, object]:
    """Return a checksum of each table of an extension that does not depend on the order of its rows."""
    found: dict[str, object] = {}
    for schema, name, kind, size, value in connection.execute(_MEMBER_TABLES).fetchall():
        if kind == "S":
            found[f"{schema}.{name}"] = value
            continue
        if size > _MOST_READ:
            raise _differs(f"perhaps the content of {schema}.{name}, a large table of an extension,")
        _, found[f"{schema}.{name}"] = sum_lines(connection, sql.Identifier(str(schema), str(name)))
    return found
