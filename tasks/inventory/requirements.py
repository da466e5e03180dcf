"""What a dump needs and a database or its server lacks, with the commands that provide it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..dumpformat.manifest import NeedKind
from ..dumpformat.tokens import decode_name, quote_name
from ..postgres.connection import one

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ..dumpformat.manifest import Need, Outline
    from ..postgres.connection import Connection, ServerFacts


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
class Missing:
    """Something that is missing.

    :ivar what: A sentence without its period.
    :ivar fix: What provides it.
    """

    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}: {self.fix}"


@dataclass(frozen=True)
class Accepted:
    """What a person does about what is missing.

    :ivar roles: Whether roles are needed that only owners and grants name.
    :ivar create_roles: Create the missing roles.
    :ivar tablespaces: Whether tablespaces are needed.
    :ivar extensions: Those that are left out.
    :ivar lenient: Whether objects that the server refuses may be left out.
    """

    roles: bool = False
    create_roles: bool = False
    tablespaces: bool = False
    extensions: tuple[str, ...] = ()
    lenient: bool = False


def find_missing(
    connection: Connection, server: ServerFacts, outline: Outline, accepted: Accepted
) -> tuple[Missing, ...]:
    """Return all that is missing, in the order in which it is to be provided."""
    needs = outline.needs or ()
    schemas = _names(connection, "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname = ANY(%s)", _schemas(needs))
    made = {name for name in outline.schemas if not any(_is_schema(each, name) for each in needs)}
    return (
        *(_missing_schemas(needs, schemas) if not accepted.lenient else ()),
        *_missing_extensions(connection, server, outline, accepted, schemas, made),
        *_missing_roles(connection, server, outline, accepted),
        *(_missing_tablespaces(connection, outline) if accepted.tablespaces else ()),
        *(_missing_collations(connection, needs) if not accepted.lenient else ()),
        *(_missing_methods(connection, outline, accepted) if not accepted.lenient else ()),
    )


def missing_roles(connection: Connection, names: Collection[str]) -> list[str]:
    """Return the roles that are not here, sorted."""
    return sorted(
        set(names) - _names(connection, "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY(%s)", names)
    )


def create_roles(connection: Connection, server: ServerFacts, names: Collection[str]) -> None:
    """Create roles that can't log in; what we may not do as a superuser we may as a member of them."""
    for name in names:
        quoted = quote_name(name)
        connection.execute(b"CREATE ROLE %s NOLOGIN" % quoted)
        if not server.superuser:
            connection.execute(b"GRANT %s TO CURRENT_USER" % quoted)


def _missing_schemas(needs: Collection[Need], there: Collection[str]) -> Iterator[Missing]:
    for each in needs:
        if each.kind == NeedKind.SCHEMA and each.name not in there and each.name != "public":
            yield Missing(
                f"The dump uses the schema {each.name}, which it does not create", f"CREATE SCHEMA {_quoted(each.name)}"
            )


def _missing_extensions(
    connection: Connection,
    server: ServerFacts,
    outline: Outline,
    accepted: Accepted,
    schemas: Collection[str],
    made: Collection[str],
) -> Iterator[Missing]:
    rows = connection.execute(_EXTENSIONS, [list(outline.extensions)]).fetchall()
    known = {str(name): (schema, relocatable, trusted) for name, schema, relocatable, trusted in rows}
    expected = {each.name: each.schema for each in outline.needs or () if each.kind == NeedKind.EXTENSION}
    may_create = one(connection, "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')")[0]
    for name in outline.extensions:
        if name in accepted.extensions:
            continue
        what, wanted = f"The dump needs the extension {name}", expected.get(name, "")
        skip = f"if nothing in the dump uses it, --skip-extension={name} leaves it out"
        if name not in known:
            yield Missing(
                f"{what}, which is not installed on this server's machine",
                f"install its package there, or use a server that has it; {skip}",
            )
            continue
        found, relocatable, trusted = known[name]
        make = f"CREATE SCHEMA {_quoted(wanted)}; " if wanted and wanted not in schemas else ""
        where = f" SCHEMA {_quoted(wanted)}" if wanted else ""
        if found is not None and wanted and found != wanted:
            move = (
                f"ALTER EXTENSION {_quoted(name)} SET{where}"
                if relocatable
                else f"DROP EXTENSION {_quoted(name)}; CREATE EXTENSION {_quoted(name)}{where}"
            )
            yield Missing(
                f"{what} in the schema {wanted}, and {server.database} has it in {found}", f"{make}{move}; {skip}"
            )
        elif found is None and not server.superuser and not trusted:
            yield Missing(
                f"{what}, which only a superuser may create",
                f"let one run in {server.database}: {make}CREATE EXTENSION {_quoted(name)}{where}; {skip}",
            )
        elif found is None and not server.superuser and not may_create:
            grant = f"GRANT CREATE ON DATABASE {_quoted(server.database)} TO {_quoted(server.user)}"
            yield Missing(f"{what}, and {server.user} may create nothing in {server.database}", f"{grant}; {skip}")
        elif found is None and make and wanted not in made:
            yield Missing(f"{what} in the schema {wanted}, which is not here", make.rstrip("; "))


def _missing_roles(
    connection: Connection, server: ServerFacts, outline: Outline, accepted: Accepted
) -> Iterator[Missing]:
    missing = missing_roles(connection, [*outline.needed_roles, *(outline.roles if accepted.roles else ())])
    if accepted.create_roles:
        may = "SELECT rolsuper OR rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user"
        if missing and not one(connection, may)[0]:
            yield Missing(
                f"{server.user} may not create the roles {', '.join(missing)}, which --create-roles asks for",
                f"let a superuser run ALTER ROLE {_quoted(server.user)} CREATEROLE, or CREATE ROLE … NOLOGIN for each",
            )
        return
    for name in missing:
        needed = name in outline.needed_roles
        why = "policies, mappings or schemas of the dump name" if needed else "the dump names"
        other = "--create-roles creates it" + ("" if needed else ", and without --strict it is left out")
        yield Missing(f"There is no role {name} here, and {why} it", f"CREATE ROLE {_quoted(name)} NOLOGIN; {other}")


def _missing_tablespaces(connection: Connection, outline: Outline) -> Iterator[Missing]:
    usable = (
        "SELECT spcname FROM pg_catalog.pg_tablespace WHERE spcname = ANY(%s)"
        " AND pg_catalog.has_tablespace_privilege(oid, 'CREATE')"
    )
    for name in sorted(set(outline.tablespaces) - _names(connection, usable, outline.tablespaces)):
        yield Missing(
            f"There is no tablespace {name} here that we may create in, and the dump names it",
            f"CREATE TABLESPACE {_quoted(name)} LOCATION …, or leave --strict away",
        )


def _missing_collations(connection: Connection, needs: Collection[Need]) -> Iterator[Missing]:
    wanted = [each for each in needs if each.kind == NeedKind.COLLATION]
    there = {(str(schema), str(name)) for schema, name in connection.execute(_COLLATIONS, [[n.name for n in wanted]])}
    there |= {("", name) for _, name in there}
    for each in wanted:
        if (each.schema, each.name) not in there:
            yield Missing(
                f"The dump sorts by the collation {each.name}, which this server lacks",
                "install the locale on its machine and run SELECT pg_import_system_collations('pg_catalog')",
            )


def _missing_methods(connection: Connection, outline: Outline, accepted: Accepted) -> Iterator[Missing]:
    wanted = [each.name for each in outline.needs or () if each.kind == NeedKind.ACCESS_METHOD]
    there = _names(connection, "SELECT amname FROM pg_catalog.pg_am WHERE amname = ANY(%s)", wanted)
    extensions = _names(
        connection, "SELECT extname FROM pg_catalog.pg_extension WHERE extname = ANY(%s)", outline.extensions
    )
    # One that is still to be created may bring it.
    if set(outline.extensions) - extensions - set(accepted.extensions):
        return
    for name in wanted:
        if name not in there:
            yield Missing(
                f"The dump uses the access method {name}, which is not here",
                "create the extension that brings it in this database",
            )


def _schemas(needs: Collection[Need]) -> list[str]:
    return [each.name if each.kind == NeedKind.SCHEMA else each.schema for each in needs]


def _is_schema(need: Need, name: str) -> bool:
    return need.kind == NeedKind.SCHEMA and need.name == name


def _names(connection: Connection, query: str, names: Collection[str]) -> set[str]:
    return {str(name) for (name,) in connection.execute(query.encode(), [list(names)])}


def _quoted(name: str) -> str:
    return decode_name(quote_name(name))
