"""Find requirements of a dump that a database or its server lacks, with the commands that provide them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

import psycopg

from ..dumpformat.manifest import Need, NeedKind, Outline
from ..dumpformat.tokens import decode_name, quote_name
from ..errors import TaskError
from ..postgres.connection import Connection, ServerFacts, connected, one, read_names, server_facts, translated
from ..system.runtime import defer_signals

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ..config.target import Target


_EXTENSIONS = """
SELECT a.name, n.nspname, coalesce(e.extrelocatable, false),
       coalesce((SELECT pg_catalog.bool_or(v.trusted) FROM pg_catalog.pg_available_extension_versions v
                  WHERE v.name = a.name), false)
  FROM (SELECT name FROM pg_catalog.pg_available_extensions
         UNION SELECT extname FROM pg_catalog.pg_extension) AS a(name)
  LEFT JOIN pg_catalog.pg_extension e ON e.extname = a.name
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
 WHERE a.name = ANY(%s)
"""
_COLLATIONS = """
SELECT n.nspname, c.collname FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
 WHERE c.collname = ANY(%s) AND c.collencoding IN (-1, (SELECT encoding FROM pg_catalog.pg_database
       WHERE datname = pg_catalog.current_database()))
"""


@dataclass(frozen=True)
class Accepted:
    """Choices of the user about missing requirements.

    :ivar roles: Require roles that only owners and grants name.
    :ivar create_roles: Create missing roles.
    :ivar tablespaces: Require tablespaces.
    :ivar extensions: The extensions to leave out.
    :ivar lenient: Leave out objects that the server rejects.
    """

    roles: bool = False
    create_roles: bool = False
    tablespaces: bool = False
    extensions: tuple[str, ...] = ()
    lenient: bool = False


def find_missing(connection: Connection, server: ServerFacts, outline: Outline, accepted: Accepted) -> tuple[str, ...]:
    """Return all missing requirements, in the order in which they must be provided.

    :return: Sentences without a period, each with the command or step that provides the requirement.
    """
    needs = outline.needs or ()
    named = [each.name if each.kind == NeedKind.SCHEMA else each.schema for each in needs]
    schemas = _names(connection, "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname = ANY(%s)", named)
    made = {*outline.schemas} - {each.name for each in needs if each.kind == NeedKind.SCHEMA}
    return (
        *(_missing_schemas(needs, schemas) if not accepted.lenient else ()),
        *_missing_extensions(connection, server, outline, accepted, schemas, made),
        *_missing_roles(connection, server, outline, accepted),
        *(_missing_tablespaces(connection, outline) if accepted.tablespaces else ()),
        *(_missing_collations(connection, needs) if not accepted.lenient else ()),
        *(_missing_methods(connection, outline, accepted) if not accepted.lenient else ()),
    )


def missing_roles(connection: Connection, names: Collection[str]) -> list[str]:
    """Return the roles that do not exist on this server, sorted."""
    return sorted(
        set(names) - _names(connection, "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY(%s)", names)
    )


def create_roles(connection: Connection, server: ServerFacts, names: Collection[str]) -> None:
    """Create roles that can't log in. Unless the user is a superuser, make the user a member of each."""
    for name in names:
        quoted = quote_name(name)
        connection.execute(b"CREATE ROLE %s NOLOGIN" % quoted)
        if not server.superuser:
            connection.execute(b"GRANT %s TO CURRENT_USER" % quoted)


class CreatedRoles:
    """The roles that were created for a load into a new database, and are dropped if it fails.

    :param maintenance: Another database of the server, in which nothing is created for them.
    """

    def __init__(self, maintenance: Target) -> None:
        self._maintenance = maintenance
        self._names: list[str] = []

    def create(self, names: Collection[str], lock_timeout: int) -> None:
        """Create roles in a transaction of its own.

        :param lock_timeout: Milliseconds; 0 for none.
        :raises TaskError: One was created by another session meanwhile, or the role may not; none was created.
        """
        if not names:
            return
        with (
            connected(self._maintenance, lock_timeout=lock_timeout) as connection,
            translated("The roles of the dump could not be created"),
            defer_signals(),
        ):
            with connection.transaction():
                create_roles(connection, server_facts(connection), names)
            self._names.extend(names)

    def drop(self) -> None:
        """Drop the roles that were created; those that something uses remain."""
        if not self._names:
            return
        with contextlib.suppress(TaskError), connected(self._maintenance) as connection:
            for name in self._names:
                with contextlib.suppress(psycopg.Error):
                    connection.execute(b"DROP ROLE IF EXISTS %s" % quote_name(name))


def _missing_schemas(needs: Collection[Need], existing: Collection[str]) -> Iterator[str]:
    for each in needs:
        if each.kind == NeedKind.SCHEMA and each.name not in existing and each.name != "public":
            yield f"The dump uses the schema {each.name} and does not create it: CREATE SCHEMA {_quoted(each.name)}"


def _missing_extensions(
    connection: Connection,
    server: ServerFacts,
    outline: Outline,
    accepted: Accepted,
    schemas: Collection[str],
    made: Collection[str],
) -> Iterator[str]:
    rows = connection.execute(_EXTENSIONS, [list(outline.extensions)]).fetchall()
    known = {str(name): (schema, relocatable, trusted) for name, schema, relocatable, trusted in rows}
    expected = {each.name: each.schema for each in outline.needs or () if each.kind == NeedKind.EXTENSION}
    may_create = one(connection, "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')")[0]
    for name in outline.extensions:
        if name in accepted.extensions:
            continue
        what, schema = f"The dump needs the extension {name}", expected.get(name, "")
        skip = f"or leave it out with --skip-extension={name}, if nothing in the dump uses it"
        if name not in known:
            yield (
                f"{what}, whose package is not installed on the server's machine: install its package there, or use a "
                f"server that has it; {skip}"
            )
            continue
        found, relocatable, trusted = known[name]
        make = f"CREATE SCHEMA {_quoted(schema)}; " if schema and schema not in schemas else ""
        where = f" SCHEMA {_quoted(schema)}" if schema else ""
        if found is not None and schema and found != schema:
            move = (
                f"ALTER EXTENSION {_quoted(name)} SET{where}"
                if relocatable
                else f"DROP EXTENSION {_quoted(name)}; CREATE EXTENSION {_quoted(name)}{where}"
            )
            yield f"{what} in the schema {schema}, but {server.database} has it in {found}: {make}{move}; {skip}"
        elif found is None and not server.superuser and not trusted:
            yield (
                f"{what}, which only a superuser may create: as a superuser, run in {server.database}: "
                f"{make}CREATE EXTENSION {_quoted(name)}{where}; {skip}"
            )
        elif found is None and not server.superuser and not may_create:
            grant = f"GRANT CREATE ON DATABASE {_quoted(server.database)} TO {_quoted(server.user)}"
            yield f"{what}, but {server.user} lacks CREATE on {server.database}: {grant}; {skip}"
        elif found is None and make and schema not in made:
            yield f"{what} in the schema {schema}, which does not exist in {server.database}: {make.rstrip('; ')}"


def _missing_roles(connection: Connection, server: ServerFacts, outline: Outline, accepted: Accepted) -> Iterator[str]:
    missing = missing_roles(connection, [*outline.needed_roles, *(outline.roles if accepted.roles else ())])
    if accepted.create_roles:
        may = "SELECT rolsuper OR rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user"
        if missing and not one(connection, may)[0]:
            yield (
                f"--create-roles failed: {server.user} may not create the roles {', '.join(missing)}: as a superuser, "
                f"run ALTER ROLE {_quoted(server.user)} CREATEROLE, or CREATE ROLE … NOLOGIN for each"
            )
        return
    for name in missing:
        needed = name in outline.needed_roles
        user = "Policies, user mappings or schemas of the dump use" if needed else "The dump uses"
        other = "" if needed else ", or omit --strict, which leaves out its owners and grants"
        yield (
            f"{user} the role {name}, which is missing on this server: CREATE ROLE {_quoted(name)} NOLOGIN; or use "
            f"--create-roles{other}"
        )


def _missing_tablespaces(connection: Connection, outline: Outline) -> Iterator[str]:
    usable = (
        "SELECT spcname FROM pg_catalog.pg_tablespace WHERE spcname = ANY(%s)"
        " AND pg_catalog.has_tablespace_privilege(oid, 'CREATE')"
    )
    for name in sorted(set(outline.tablespaces) - _names(connection, usable, outline.tablespaces)):
        yield (
            f"The dump uses the tablespace {name}, which is missing on this server or lacks the CREATE grant: "
            f"CREATE TABLESPACE {_quoted(name)} LOCATION …, or GRANT CREATE ON TABLESPACE {_quoted(name)} TO …; "
            f"or leave it out by omitting --strict"
        )


def _missing_collations(connection: Connection, needs: Collection[Need]) -> Iterator[str]:
    needed = [each for each in needs if each.kind == NeedKind.COLLATION]
    found = {(str(schema), str(name)) for schema, name in connection.execute(_COLLATIONS, [[n.name for n in needed]])}
    found |= {("", name) for _, name in found}
    for each in needed:
        if (each.schema, each.name) not in found:
            yield (
                f"The dump uses the collation {each.name}, which is missing on this server: install the locale on its "
                f"machine and run SELECT pg_import_system_collations('pg_catalog')"
            )


def _missing_methods(connection: Connection, outline: Outline, accepted: Accepted) -> Iterator[str]:
    needed = [each.name for each in outline.needs or () if each.kind == NeedKind.ACCESS_METHOD]
    found = _names(connection, "SELECT amname FROM pg_catalog.pg_am WHERE amname = ANY(%s)", needed)
    extensions = _names(
        connection, "SELECT extname FROM pg_catalog.pg_extension WHERE extname = ANY(%s)", outline.extensions
    )
    # An extension that the dump creates may provide it.
    if set(outline.extensions) - extensions - set(accepted.extensions):
        return
    for name in needed:
        if name not in found:
            yield (
                f"The dump uses the access method {name}, which is missing in this database: create the extension that "
                f"provides it"
            )


def _names(connection: Connection, query: LiteralString, names: Collection[str]) -> set[str]:
    return set(read_names(connection, query, [list(names)]))


def _quoted(name: str) -> str:
    return decode_name(quote_name(name))
