"""A restore by a swap has the same result as one in a transaction."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import pytest
from psycopg import sql

from tests import everything as everything_sql
from tests.both_ways import both_ways, databases_of_ours
from tests.databases.builder import CREATE_ROLES
from tests.flows import dumped, settings_of
from tests.schemas import SHOP
from tests.servers import OWNER, SUPERUSER, Server
from tests.support import Database, Databases, Project

_ROLE = '"Rôle with ""quotes"", dots. and blanks"'
# What makes a target another one than when it was dumped: all of it is kept by a restore.
_CHANGED = r"""
CREATE TABLE app.newer (id integer PRIMARY KEY);
INSERT INTO app.newer SELECT generate_series(1, 9);
DROP TABLE public."_PostToUser";
REVOKE ALL ON SCHEMA app FROM reader, PUBLIC;
GRANT CREATE ON SCHEMA app TO owner WITH GRANT OPTION;
GRANT USAGE ON SCHEMA app TO PUBLIC;
COMMENT ON SCHEMA app IS E'newer; \\ "quoted" ''comment''\n-- PostgreSQL database dump complete';
COMMENT ON SCHEMA empty IS NULL;
ALTER SCHEMA empty OWNER TO reader;
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA app GRANT UPDATE ON TABLES TO reader WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE reader REVOKE ALL ON TYPES FROM PUBLIC;
CREATE SCHEMA "empty; COMMIT;
\." AUTHORIZATION reader;
GRANT ALL ON SCHEMA "empty; COMMIT;
\." TO PUBLIC;
CREATE SCHEMA "CREATE EXTENSION x;";
CREATE FOREIGN DATA WRAPPER "odd wrapper" OPTIONS (a 'b');
CREATE SERVER "newer; 'server" TYPE 'x' FOREIGN DATA WRAPPER "odd wrapper" OPTIONS (host 'a\b''c');
ALTER SERVER "newer; 'server" OWNER TO owner;
GRANT USAGE ON FOREIGN SERVER "newer; 'server" TO reader WITH GRANT OPTION;
CREATE USER MAPPING FOR CURRENT_USER SERVER "newer; 'server" OPTIONS (password '\''; x');
REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(double precision) FROM PUBLIC;
GRANT SELECT ON pg_catalog.pg_authid TO reader;
GRANT SELECT (rolname), UPDATE (rolname) ON pg_catalog.pg_authid TO owner;
REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
CREATE SCHEMA p; CREATE SCHEMA "PG_"; CREATE SCHEMA pgx; CREATE SCHEMA information; CREATE SCHEMA "pg
";
CREATE CAST (integer AS public.citext) WITH INOUT AS ASSIGNMENT;
COMMENT ON CAST (integer AS public.citext) IS 'a cast; of ours';
CREATE PUBLICATION "newer; publication" WITH (publish = 'delete');
ALTER PUBLICATION "newer; publication" OWNER TO postgres;
DROP PUBLICATION "some; tables";
ALTER EVENT TRIGGER watch_drops DISABLE;
REVOKE ALL ON FUNCTION ext.similarity(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ext.similarity(text, text) TO reader WITH GRANT OPTION;
GRANT USAGE ON TYPE public.citext TO reader;
"""
# What belongs to the database itself. A superuser made it.
_PROPERTIES = r"""
ALTER DATABASE {0} SET search_path TO app, "$user", "odd ""schema"", x", public
ALTER DATABASE {0} SET app.custom_name TO 'it''s; \ "quoted", with a comma'
ALTER DATABASE {0} SET "Odd_Name.with_case" TO ''
ALTER DATABASE {0} SET work_mem TO '12345kB'
ALTER DATABASE {0} SET DateStyle TO 'German, DMY'
ALTER DATABASE {0} SET temp_tablespaces TO ''
ALTER DATABASE {0} SET default_transaction_isolation TO 'repeatable read'
ALTER DATABASE {0} SET log_min_duration_statement TO 1000
ALTER DATABASE {0} SET standard_conforming_strings TO off
ALTER ROLE reader IN DATABASE {0} SET search_path TO ''
ALTER ROLE {1} IN DATABASE {0} SET statement_timeout TO '7s'
REVOKE ALL ON DATABASE {0} FROM PUBLIC
GRANT CREATE, CONNECT ON DATABASE {0} TO reader WITH GRANT OPTION
GRANT TEMPORARY ON DATABASE {0} TO {1}
GRANT CONNECT ON DATABASE {0} TO PUBLIC
COMMENT ON DATABASE {0} IS '{{"invoke-postgres": 1, "role": "kept"}} it''s \'
ALTER DATABASE {0} CONNECTION LIMIT 77
ALTER DATABASE {0} IS_TEMPLATE true
"""


@pytest.fixture
def whole(everything: Database) -> Database:
    """Return the database with everything in it but large objects, with which no swap is possible."""
    everything.execute("SELECT count(lo_unlink(oid)) FROM pg_largeobject_metadata")
    return everything


def _prepare(database: Database, *, text: str = _PROPERTIES, role: str = SUPERUSER) -> None:
    with database.server.connect("postgres", role) as connection:
        for statement in filter(None, text.splitlines()):
            connection.execute(statement.format(sql.Identifier(database.name).as_string(), _ROLE).encode())


@pytest.mark.all_majors
@pytest.mark.parametrize("changed", [False, True], ids=["as dumped, no owner, no acl", "changed"])
def test_everything_is_restored_the_same_by_a_swap(
    whole: Database, new_database: Databases, project: Project, changed: bool
) -> None:
    """Text of pg_dump, digests of definitions, owners and grants, and the rows of the database are the same."""
    dump = dumped(settings_of(project, whole)).path
    whole.execute(_CHANGED if changed else "")

    differing = both_ways(project, new_database, dump, whole, _prepare, owners=changed, privileges=changed)

    assert not differing, "\n".join(differing)
    assert databases_of_ours(whole) == []


_OWNERS_PROPERTIES = r"""
ALTER DATABASE {0} SET search_path TO app, "$user", "odd ""schema"", x", public
ALTER DATABASE {0} SET work_mem TO '12345kB'
REVOKE ALL ON DATABASE {0} FROM PUBLIC
GRANT CREATE, CONNECT ON DATABASE {0} TO reader WITH GRANT OPTION
REVOKE TEMPORARY ON DATABASE {0} FROM owner
COMMENT ON DATABASE {0} IS 'it''s \'
ALTER DATABASE {0} CONNECTION LIMIT 77
"""
_OWNERS_CHANGES = r"""
CREATE TABLE app.newer (id integer PRIMARY KEY);
REVOKE ALL ON SCHEMA app FROM reader;
GRANT CREATE ON SCHEMA app TO reader WITH GRANT OPTION;
GRANT SELECT ON ALL TABLES IN SCHEMA app TO PUBLIC;
COMMENT ON SCHEMA app IS E'newer; \\';
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT UPDATE ON TABLES TO reader WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON SEQUENCES TO PUBLIC;
CREATE SCHEMA "newer; schema";
GRANT ALL ON SCHEMA "newer; schema" TO PUBLIC;
DROP PUBLICATION "some; tables";
CREATE PUBLICATION "newer; publication" WITH (publish = 'delete');
"""


@pytest.fixture
def owners(new_database: Databases, server: Server) -> Iterator[Database]:
    """Return a database of a plain owner who may create databases, with everything in it that they can make."""
    with server.connect() as connection:
        connection.execute(CREATE_ROLES.encode())
        connection.execute(f"ALTER ROLE {OWNER} CREATEDB".encode())
    database = new_database(owner=OWNER)
    setup, text = (everything_sql.text(server.major, superuser=False, setup=each) for each in (True, False))
    extensions = setup[setup.index("CREATE SCHEMA ext") :]
    for part in (extensions, text, "SELECT count(lo_unlink(oid)) FROM pg_largeobject_metadata"):
        database.execute(part, role=OWNER)
    try:
        yield database
    finally:
        with server.connect() as connection:
            connection.execute(f"ALTER ROLE {OWNER} NOCREATEDB".encode())


@pytest.mark.all_majors
def test_a_plain_owners_database_is_restored_the_same_by_a_swap(
    owners: Database, new_database: Databases, project: Project
) -> None:
    """With no more right than CREATEDB."""
    dump = dumped(settings_of(project, owners, OWNER)).path
    owners.execute(_OWNERS_CHANGES, role=OWNER)
    prepare = partial(_prepare, text=_OWNERS_PROPERTIES, role=OWNER)

    differing = both_ways(project, new_database, dump, owners, prepare, role=OWNER)

    assert not differing, "\n".join(differing)


# Small databases


@dataclass(frozen=True)
class Start:
    """A database that is restored over.

    :ivar sql: What a superuser makes of it on top of the shop, before the dump.
    :ivar changes: What a superuser does after the dump.
    :ivar options: Options of CREATE DATABASE.
    """

    sql: str = ""
    changes: str = ""
    options: str = ""


STARTS = {
    "no public": Start(changes='DROP SCHEMA public CASCADE; CREATE SCHEMA "public "'),
    "a new public": Start(changes="DROP SCHEMA public CASCADE; CREATE SCHEMA public"),
    "a new public with grants": Start(
        changes="DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC, reader"
    ),
    "a public of another owner": Start(
        changes="ALTER SCHEMA public OWNER TO owner; COMMENT ON SCHEMA public IS NULL; "
        "GRANT ALL ON SCHEMA public TO reader WITH GRANT OPTION"
    ),
    "a closed public": Start(changes="REVOKE ALL ON SCHEMA public FROM PUBLIC; COMMENT ON SCHEMA public IS 'x'"),
    "LATIN1": Start(
        sql='INSERT INTO "User" VALUES (999, \'Zoë\'); CREATE SCHEMA "Zoë"; COMMENT ON SCHEMA "Zoë" IS \'ÿ\'',
        options="ENCODING LATIN1",
    ),
    "SQL_ASCII": Start(
        sql='INSERT INTO "User" VALUES (999, E\'Zo\\xeb\'); CREATE SCHEMA "ö"',
        changes="COMMENT ON SCHEMA app IS E'\\xeb'; CREATE SCHEMA other",
        options="ENCODING SQL_ASCII",
    ),
    "a provider": Start(options="LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'"),
    "a tablespace": Start(
        sql='ALTER TABLE app.item SET TABLESPACE swap_space; ALTER TABLE "User" SET TABLESPACE pg_default',
        options="TABLESPACE swap_space",
    ),
    "an older extension": Start(
        sql="CREATE SCHEMA ext; CREATE EXTENSION pg_trgm SCHEMA ext VERSION '1.3'; CREATE EXTENSION hstore SCHEMA app",
        changes="REVOKE USAGE ON TYPE app.hstore FROM PUBLIC",
    ),
    "an extension that the dump lacks": Start(
        changes="CREATE EXTENSION citext SCHEMA public; CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA"
        " WRAPPER file_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER file_fdw TO owner; COMMENT ON EXTENSION citext IS 'x'"
    ),
    "an event trigger of both": Start(
        sql="CREATE FUNCTION app.sees() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO app.seen (what) VALUES (tg_tag); EXCEPTION WHEN undefined_table THEN NULL; END $$;"
        " CREATE TABLE app.seen (id serial, what text);"
        " CREATE EVENT TRIGGER sees ON ddl_command_end EXECUTE FUNCTION app.sees();"
        " CREATE EVENT TRIGGER first ON ddl_command_start EXECUTE FUNCTION app.sees();"
        " ALTER EVENT TRIGGER first ENABLE ALWAYS",
        changes="ALTER EVENT TRIGGER sees DISABLE; CREATE TABLE newer (id integer)",
    ),
    "names like statements": Start(
        changes='CREATE SCHEMA "x;\nCREATE SCHEMA injected;\n"; COMMENT ON SCHEMA "x;\nCREATE SCHEMA injected;\n" IS'
        " E'\\\\\\'; \\n--\\n-- Name: y; Type: SCHEMA\\n--\\n\\nCREATE SCHEMA injected;';"
        " CREATE FOREIGN DATA WRAPPER \"CREATE SCHEMA injected;\" OPTIONS (a '; CREATE SCHEMA injected; --');"
        ' CREATE SERVER "$$;" FOREIGN DATA WRAPPER "CREATE SCHEMA injected;"',
    ),
}
_BUILTIN_FROM = 17


@pytest.fixture
def start(new_database: Databases, server: Server, name: str) -> Database:
    """Return the shop of a superuser."""
    chosen = STARTS[name]
    if "builtin" in chosen.options and server.major < _BUILTIN_FROM:
        chosen = replace(chosen, options="LC_COLLATE 'POSIX' LC_CTYPE 'POSIX'")
    with server.connect() as connection:
        connection.execute(CREATE_ROLES.encode())
        if not connection.execute("SELECT 1 FROM pg_tablespace WHERE spcname = 'swap_space'").fetchone():
            connection.execute("SET allow_in_place_tablespaces = on")
            connection.execute("CREATE TABLESPACE swap_space LOCATION ''")
    database = new_database(options=f"TEMPLATE template0 {chosen.options}" if chosen.options else "")
    database.execute(f"{SHOP};{chosen.sql}")
    return database


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("name", STARTS)
def test_a_start_is_restored_over_with_the_same_result(
    start: Database, new_database: Databases, project: Project, name: str
) -> None:
    """Whatever the target is like, both ways keep and replace the same."""
    dump = dumped(settings_of(project, start)).path
    start.execute(STARTS[name].changes or "SELECT")

    differing = both_ways(project, new_database, dump, start)

    assert not differing, "\n".join(differing)
    assert databases_of_ours(start) == []
