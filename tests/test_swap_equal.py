"""A restore by a swap has the same result as one in a transaction."""

import pytest
from psycopg import sql

from tests.both_ways import both_ways, databases_of_ours
from tests.flows import dumped, settings_of
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
ALTER DATABASE {0} SET search_path TO app, "$user", "odd ""schema"", x", public;
ALTER DATABASE {0} SET app.custom_name TO 'it''s; \ "quoted", with a comma';
ALTER DATABASE {0} SET "Odd_Name.with_case" TO '';
ALTER DATABASE {0} SET work_mem TO '12345kB';
ALTER DATABASE {0} SET DateStyle TO 'German, DMY';
ALTER DATABASE {0} SET temp_tablespaces TO '';
ALTER DATABASE {0} SET default_transaction_isolation TO 'repeatable read';
ALTER DATABASE {0} SET log_min_duration_statement TO 1000;
ALTER ROLE reader IN DATABASE {0} SET search_path TO '';
ALTER ROLE {1} IN DATABASE {0} SET statement_timeout TO '7s';
REVOKE ALL ON DATABASE {0} FROM PUBLIC;
GRANT CREATE, CONNECT ON DATABASE {0} TO reader WITH GRANT OPTION;
GRANT TEMPORARY ON DATABASE {0} TO {1};
GRANT CONNECT ON DATABASE {0} TO PUBLIC;
COMMENT ON DATABASE {0} IS '{{"invoke-postgres": 1, "role": "kept"}} it''s \';
ALTER DATABASE {0} CONNECTION LIMIT 77;
ALTER DATABASE {0} IS_TEMPLATE true;
"""


@pytest.fixture
def whole(everything: Database) -> Database:
    """Return the database with everything in it but large objects, with which no swap is possible."""
    everything.execute("SELECT count(lo_unlink(oid)) FROM pg_largeobject_metadata")
    return everything


def _prepare(database: Database, *, text: str = _PROPERTIES) -> None:
    with database.server.connect() as connection:
        for statement in filter(None, map(str.strip, text.split(";\n"))):
            connection.execute(statement.format(sql.Identifier(database.name).as_string(), _ROLE).encode())


@pytest.mark.all_majors
@pytest.mark.parametrize("changed", ["", _CHANGED], ids=["as dumped", "changed"])
@pytest.mark.parametrize("roles", [True, False], ids=["all", "no owner, no acl"])
def test_everything_is_restored_the_same_by_a_swap(
    whole: Database, new_database: Databases, project: Project, changed: str, roles: bool
) -> None:
    """Text of pg_dump, digests of definitions, owners and grants, and the rows of the database are the same."""
    dump = dumped(settings_of(project, whole)).path
    whole.execute(changed)

    differing = both_ways(project, new_database, dump, whole, _prepare, owners=roles, privileges=roles)

    assert not differing, "\n".join(differing)
    assert databases_of_ours(whole) == []
