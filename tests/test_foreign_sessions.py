"""Dumps that change the role, or leave the search_path to the session, are loaded as psql does."""

from collections.abc import Iterator

import pytest

from tasks.errors import BadInputError, OperationFailedError
from tasks.load.filters import Omission, OmissionKind
from tests.flows import dump_of, pg_dump, restore_path, sqlstate_of, write
from tests.servers import OWNER, SUPERUSER, Server
from tests.support import Database, Databases, Project

HEADER = "SET client_encoding = 'UTF8'; SELECT pg_catalog.set_config('search_path', '', false);"
OWNER_OF = "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'public.\"{}\"'::regclass"


@pytest.fixture
def group(server: Server) -> Iterator[str]:
    """Return a group that the ordinary role of the tests is a member of."""
    name = "grp_owner"
    with server.connect() as connection:
        connection.execute(f"CREATE ROLE {name}".encode())
        connection.execute(f"GRANT {name} TO {OWNER}".encode())
    yield name
    with server.connect() as connection:
        connection.execute(f"DROP OWNED BY {name}".encode())
        connection.execute(f"DROP ROLE {name}".encode())


def grouped(role: str) -> bytes:
    """Return a dump that makes one table as another role, fills it, and one as the session's role."""
    return dump_of(
        HEADER,
        f"SET ROLE {role};",
        'CREATE TABLE public."User" (id int);',
        'COPY public."User" (id) FROM stdin;\n1\n2\n\\.\n',
        "RESET ROLE;",
        'CREATE TABLE public."Post" (id int);',
    )


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("role", [SUPERUSER, OWNER])
@pytest.mark.parametrize("strict", [False, True])
def test_restore_obeys_set_role_when_the_role_may(
    group: str, new_database: Databases, project: Project, role: str, strict: bool
) -> None:
    """What follows is the group's, and what follows RESET ROLE is ours."""
    target = new_database(owner=role)
    target.execute(f"GRANT CREATE ON SCHEMA public TO {OWNER}, {group}")

    restored = restore_path(project, target, write(project, "given.sql", grouped(group)), role, strict=strict)

    assert target.scalar(OWNER_OF.format("User")) == group
    assert target.scalar(OWNER_OF.format("Post")) == role
    assert (restored.rows, restored.proven) == (2, True)
    assert not [each for each in restored.left_out if each.kind is OmissionKind.UNKNOWN_SETTING]


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("statement", ["SET ROLE {};", "SET role = '{}';", "SELECT set_config('role', '{}', false);"])
@pytest.mark.parametrize("role", ["nobody_here", "postgres"])
def test_restore_says_which_set_role_it_leaves_out(
    new_database: Databases, project: Project, statement: str, role: str
) -> None:
    """Of a role that is missing or not ours: the table is ours and that is said; --strict refuses."""
    target = new_database(owner=OWNER)
    target.execute(f"GRANT CREATE ON SCHEMA public TO {OWNER}")
    text = dump_of(HEADER, statement.format(role), 'CREATE TABLE public."User" (id int);')
    path = write(project, "given.sql", text)

    with pytest.raises((BadInputError, OperationFailedError), match=role):
        restore_path(project, target, path, OWNER, strict=True)
    assert target.scalar("SELECT to_regclass('public.\"User\"') IS NULL")
    restored = restore_path(project, target, path, OWNER)

    assert Omission(OmissionKind.ROLE, role) in restored.left_out
    assert target.scalar(OWNER_OF.format("User")) == OWNER


@pytest.mark.majors(14, 18)
def test_restore_leaves_out_set_role_when_no_owner_is_asked_for(
    group: str, new_database: Databases, project: Project
) -> None:
    """Everything is ours."""
    target = new_database(owner=OWNER)
    target.execute(f"GRANT CREATE ON SCHEMA public TO {OWNER}, {group}")

    restore_path(project, target, write(project, "given.sql", grouped(group)), OWNER, owners=False)

    assert target.scalar(OWNER_OF.format("User")) == OWNER


@pytest.mark.majors(14, 18)
def test_restore_takes_the_role_back_when_the_dump_does_not(
    group: str, new_database: Databases, project: Project
) -> None:
    """Default privileges and grants on schemas that wait for the end are set by the session's role."""
    target = new_database(owner=OWNER)
    target.execute(f"CREATE SCHEMA app AUTHORIZATION {OWNER}; GRANT CREATE ON SCHEMA public TO {OWNER}, {group}")
    text = dump_of(
        HEADER,
        "GRANT USAGE ON SCHEMA app TO pg_monitor;",
        f"SET ROLE {group};",
        'CREATE TABLE public."User" (id int);',
    )

    restored = restore_path(project, target, write(project, "given.sql", text), OWNER)

    assert target.scalar("SELECT has_schema_privilege('pg_monitor', 'app', 'USAGE')")
    assert not [each for each in restored.left_out if each.concerns_roles]


def test_restore_refuses_session_authorization_when_it_is_strict(new_database: Databases, project: Project) -> None:
    """Only a superuser may; with --strict the owners are no detail."""
    source, target = new_database(), new_database(owner=OWNER)
    source.execute("CREATE TABLE public.t AS SELECT 1 AS n")
    target.execute(f"GRANT CREATE ON SCHEMA public TO {OWNER}")
    path = write(project, "given.sql", pg_dump(source, "--use-set-session-authorization"))

    with pytest.raises(OperationFailedError):
        restore_path(project, target, path, OWNER, strict=True)

    assert target.scalar("SELECT to_regclass('public.t') IS NULL")


UNQUALIFIED = dump_of(
    "SET client_encoding = 'UTF8';",
    "CREATE TABLE categories (category_id smallint NOT NULL, category_name varchar(15) NOT NULL);",
    "INSERT INTO categories VALUES (1, 'Beverages');",
    "COPY categories (category_id, category_name) FROM stdin;\n2\tCondiments\n\\.\n",
    "ALTER TABLE ONLY categories ADD CONSTRAINT pk PRIMARY KEY (category_id);",
)


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("role", [SUPERUSER, OWNER])
def test_restore_loads_into_public_when_the_dump_sets_no_search_path(
    new_database: Databases, project: Project, role: str
) -> None:
    """As psql does; the rows are counted, and db.verify finds them."""
    target = new_database(owner=role)
    target.execute(f"GRANT CREATE ON SCHEMA public TO {OWNER}")
    write(project, "given.sql", UNQUALIFIED)
    project.use(target, role)

    result = project.inv("db.restore", "--file=given.sql")
    verified = project.inv("db.verify")

    assert (result.returncode, verified.returncode) == (0, 0), result.stderr + verified.stderr
    assert "2 rows in 1 table" in result.stdout
    assert target.scalar("SELECT count(*) FROM public.categories") == 2


@pytest.mark.majors(14, 18)
def test_restore_loads_where_sessions_look_first(database: Database, project: Project) -> None:
    """The database's own search_path decides, as it does for psql."""
    database.execute(f"CREATE SCHEMA app; ALTER DATABASE {database.name} SET search_path = app, public")

    restore_path(project, database, write(project, "given.sql", UNQUALIFIED))

    assert database.scalar("SELECT count(*) FROM app.categories") == 2


def test_restore_rolls_back_when_no_schema_of_the_path_is_there(database: Database, project: Project) -> None:
    """One true refusal: the server's own."""
    database.execute("DROP SCHEMA public")

    with pytest.raises(OperationFailedError) as refused:
        restore_path(project, database, write(project, "given.sql", UNQUALIFIED))

    assert sqlstate_of(refused.value) == "3F000"


@pytest.mark.majors(14, 18)
def test_restore_makes_a_view_when_its_first_column_is_null(database: Database, project: Project) -> None:
    """Only a view of nothing but typed NULLs is the placeholder that pg_dump --clean writes."""
    text = dump_of(
        HEADER,
        'CREATE TABLE public."User" (id int, email text);',
        'CREATE OR REPLACE VIEW public."Legacy" AS\n SELECT NULL::text AS nickname, id FROM public."User";',
        'CREATE OR REPLACE VIEW public."None" AS\n SELECT NULL::numeric(10,2) AS n FROM public."User";',
        'ALTER VIEW public."Legacy" OWNER TO postgres;',
    )

    restore_path(project, database, write(project, "given.sql", text))

    assert database.scalar("SELECT count(*) FROM pg_views WHERE schemaname = 'public'") == 2
