"""What a restore leaves out is counted and told; what it can't do without is refused before anything."""

import re
from typing import Any

import pytest

from tasks.errors import BadInputError, OperationFailedError
from tasks.load.filters import Omission, OmissionKind
from tasks.restore.restore import Restored
from tests.flows import dump_of, pg_dump, restore_path, write
from tests.marks import Mark
from tests.schemas import SHOP
from tests.servers import OWNER, SUPERUSER
from tests.support import Database, Databases, Project

GHOST = 'Ghost of "production"'
OWNERS = f"""
ALTER TABLE app.item OWNER TO {OWNER};
GRANT SELECT ON app.item TO pg_monitor;
GRANT ALL ON public."User" TO {OWNER} WITH GRANT OPTION;
GRANT USAGE ON SCHEMA app TO {OWNER};
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO {OWNER};
"""


def restore(project: Project, database: Database, dump: bytes, role: str = SUPERUSER, **asked: Any) -> Restored:
    """Restore the text of a dump, in this process."""
    return restore_path(project, database, write(project, "foreign.sql", dump), role, **asked)


def haunted(dump: bytes) -> bytes:
    """Let a dump name a role that exists nowhere where it names the owner."""
    ghost = '"' + GHOST.replace('"', '""') + '"'
    return dump.replace(f" TO {OWNER}".encode(), f" TO {ghost}".encode())


@pytest.fixture
def shop(new_database: Databases) -> Database:
    """Return a small database with several owners, grants and default privileges."""
    database = new_database()
    database.execute(SHOP + OWNERS)
    return database


# Roles


def test_restore_leaves_out_owners_and_grants_when_their_roles_are_missing(
    shop: Database, database: Database, project: Project
) -> None:
    """Production to laptop: all rows come, everything is ours, and what was left out is counted by role."""
    restored = restore(project, database, haunted(pg_dump(shop)))

    assert restored.left_out[Omission(OmissionKind.OWNER_MISSING, GHOST)] >= 1
    assert restored.left_out[Omission(OmissionKind.GRANTEE_MISSING, GHOST)] == 3
    assert restored.rows == 420
    assert database.scalar("SELECT relowner::regrole::text FROM pg_class WHERE oid = 'app.item'::regclass") == SUPERUSER
    assert database.scalar("SELECT has_table_privilege('pg_monitor', 'app.item', 'SELECT')")


def test_restore_tells_what_it_left_out_when_it_is_done(shop: Database, database: Database, project: Project) -> None:
    """The command line shows each reason with its count."""
    write(project, "foreign.sql", haunted(pg_dump(shop)))

    result = project.use(database).inv("db.restore", "--file=foreign.sql")

    assert result.returncode == 0, result.stderr
    (line,) = [line for line in result.stdout.splitlines() if f"grants for {GHOST}," in line]
    assert "left out" in line
    assert "3" in line


def test_restore_refuses_missing_roles_when_it_is_strict(shop: Database, project: Project) -> None:
    """--strict: exit 2, the role is named, nothing was touched."""
    write(project, "foreign.sql", haunted(pg_dump(shop)))
    mark = Mark(shop)

    result = project.use(shop).inv("db.restore", "--file=foreign.sql", "--strict", "--clean", "--yes")

    assert result.returncode == 2
    assert GHOST in result.stderr
    assert "Nothing was touched" in result.stderr
    assert mark.is_untouched()


def test_restore_rolls_back_when_it_is_strict_and_an_owner_is_not_ours_to_set(
    shop: Database, new_database: Databases, project: Project
) -> None:
    """A plain owner can't give tables to a superuser; with --strict that is no detail."""
    target = new_database(owner=OWNER)
    mark = Mark(target)

    with pytest.raises(OperationFailedError, match="--strict"):
        restore(project, target, pg_dump(shop), OWNER, strict=True)

    assert mark.is_untouched()


def test_restore_loads_when_it_is_strict_and_every_role_is_here(
    shop: Database, database: Database, project: Project
) -> None:
    """--strict leaves nothing of owners and grants out."""
    restored = restore(project, database, pg_dump(shop), strict=True)

    assert not [each for each in restored.left_out if each.concerns_roles]
    assert database.dump_text() == shop.dump_text()


def test_restore_gives_all_to_us_when_a_plain_owner_restores_a_superusers_dump(
    shop: Database, new_database: Databases, project: Project
) -> None:
    """Owners that are not ours to set are left out, and the rows are all there."""
    target = new_database(owner=OWNER)

    restored = restore(project, target, pg_dump(shop), OWNER)

    assert restored.rows == 420
    assert Omission(OmissionKind.OWNER_MISSING, "postgres") in restored.left_out
    assert target.scalar("SELECT relowner::regrole::text FROM pg_class WHERE oid = 'app.item'::regclass") == OWNER


def test_restore_makes_everything_ours_when_no_owner_is_asked_for(
    shop: Database, database: Database, project: Project
) -> None:
    """--no-owner leaves all owners out, and no grant."""
    project.use(shop).inv("db.dump")

    result = project.use(database).inv("db.restore", "--no-owner", *project.into(database))

    assert result.returncode == 0, result.stderr
    assert database.scalar("SELECT relowner::regrole::text FROM pg_class WHERE oid = 'app.item'::regclass") == SUPERUSER
    assert database.scalar("SELECT has_table_privilege('pg_monitor', 'app.item', 'SELECT')")


def test_restore_leaves_out_grants_when_no_acl_is_asked_for(
    shop: Database, database: Database, project: Project
) -> None:
    """--no-acl leaves all grants and default privileges out, and no owner."""
    project.use(shop).inv("db.dump")

    result = project.use(database).inv("db.restore", "--no-acl", *project.into(database))

    assert result.returncode == 0, result.stderr
    assert database.dump_text() == shop.dump_text("--no-privileges")


@pytest.mark.parametrize(
    "statement",
    [
        f'CREATE POLICY p ON public.t TO "{GHOST.replace(chr(34), chr(34) * 2)}" USING (true);',
        f'CREATE SCHEMA s AUTHORIZATION "{GHOST.replace(chr(34), chr(34) * 2)}";',
    ],
    ids=["policy", "schema"],
)
def test_restore_is_refused_when_a_role_is_needed_and_missing(shop: Database, project: Project, statement: str) -> None:
    """What can't exist without its role is no detail to leave out, --strict or not."""
    mark = Mark(shop)

    with pytest.raises(BadInputError, match="Ghost"):
        restore(project, shop, dump_of("CREATE TABLE public.t ();", statement))

    assert mark.is_untouched()


@pytest.mark.parametrize("role", [SUPERUSER, OWNER])
def test_restore_takes_session_authorization_when_the_dump_was_made_so(
    new_database: Databases, project: Project, role: str
) -> None:
    """A superuser becomes each owner; a plain owner leaves out what it may not become, and owns all."""
    source, target = new_database(), new_database(owner=role)
    source.execute(f"CREATE TABLE public.t AS SELECT 1 AS n; ALTER TABLE public.t OWNER TO {OWNER}")
    source.execute("CREATE TABLE public.u ()")
    target.execute(f"GRANT CREATE ON SCHEMA public TO {OWNER}")

    restored = restore(project, target, pg_dump(source, "--use-set-session-authorization"), role)

    assert target.scalar("SELECT relowner::regrole::text FROM pg_class WHERE oid = 'public.t'::regclass") == OWNER
    left_out = Omission(OmissionKind.SESSION_USER) in restored.left_out
    assert left_out == (role == OWNER)


def test_restore_takes_a_grant_by_somebody_else_when_it_needs_the_schemas_own(
    new_database: Databases, project: Project
) -> None:
    """Into a schema that stays: the role that grants gets its USAGE of the schema before."""
    source = new_database()
    source.execute(
        "CREATE SCHEMA app; CREATE TABLE app.t (); GRANT USAGE ON SCHEMA app TO owner;"
        "GRANT SELECT ON app.t TO owner WITH GRANT OPTION;"
        "SET SESSION AUTHORIZATION owner; GRANT SELECT ON app.t TO pg_monitor; RESET SESSION AUTHORIZATION"
    )
    target = new_database()
    target.execute("CREATE SCHEMA app")

    restore(project, target, pg_dump(source), clean=True)

    assert target.dump_text() == source.dump_text()


# Settings


@pytest.mark.majors(14, 15, 16)
def test_restore_leaves_out_transaction_timeout_when_the_server_does_not_know_it(
    database: Database, project: Project
) -> None:
    """The header that pg_dump 17 and newer write loads into 14, 15 and 16."""
    restored = restore(
        project, database, dump_of("SET lock_timeout = 0;", "SET transaction_timeout = 0;", "CREATE TABLE public.t ();")
    )

    assert restored.left_out[Omission(OmissionKind.OWN_SETTINGS)] == 2
    assert restored.lacks == []
    assert database.scalar("SELECT to_regclass('public.t') IS NOT NULL")


def test_restore_leaves_out_a_setting_when_the_server_does_not_know_it(database: Database, project: Project) -> None:
    """A setting of a newer major is named; one with a prefix, and every known one, is set."""
    restored = restore(
        project,
        database,
        dump_of("SET of_major_99 = on;", "SET my.own = 'x';", "SET row_security = off;", "SET TIME ZONE 'UTC';"),
    )

    assert restored.left_out == {Omission(OmissionKind.UNKNOWN_SETTING, "of_major_99"): 1}


def test_restore_is_not_ended_by_timeouts_when_the_role_carries_them(
    shop: Database, new_database: Databases, project: Project
) -> None:
    """Timeouts of the database and in the dump are not ours."""
    target = new_database()
    for name in ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"):
        target.execute(f"ALTER DATABASE {target.name} SET {name} = '400ms'")
    dump = b"SET statement_timeout = '400ms';\nSELECT pg_catalog.pg_sleep(0.8);\n" + pg_dump(shop)

    restored = restore(project, target, dump)

    assert restored.rows == 420


# Extensions


def test_restore_leaves_out_comments_of_extensions_when_they_are_not_ours(
    new_database: Databases, project: Project
) -> None:
    """A plain owner restores over a superuser's extension, as on a managed server."""
    source, target = new_database(), new_database(owner=OWNER)
    setup = "CREATE EXTENSION hstore SCHEMA public; COMMENT ON EXTENSION hstore IS '{}'"
    source.execute(setup.format("of the source") + "; CREATE TABLE public.t AS SELECT 'a=>1'::public.hstore AS h")
    target.execute(setup.format("of the target"))

    restored = restore(project, target, pg_dump(source, "--clean", "--if-exists"), OWNER, clean=True)

    assert restored.left_out[Omission(OmissionKind.COMMENT, "COMMENT ON EXTENSION")] == 1
    assert restored.left_out[Omission(OmissionKind.KEPT, "DROP EXTENSION")] == 1
    assert target.scalar("SELECT obj_description(oid, 'pg_extension') FROM pg_extension WHERE extname = 'hstore'") == (
        "of the target"
    )
    assert target.scalar("SELECT h->'a' FROM public.t".replace("->", " OPERATOR(public.->) ")) == "1"


def test_restore_is_refused_when_an_extension_is_not_on_the_server(shop: Database, project: Project) -> None:
    """The extension is named, and nothing is touched."""
    mark = Mark(shop)

    with pytest.raises(BadInputError, match="postgis"):
        restore(project, shop, dump_of("CREATE EXTENSION IF NOT EXISTS postgis WITH SCHEMA public;"))

    assert mark.is_untouched()


def test_restore_is_refused_when_only_a_superuser_may_create_an_extension(
    new_database: Databases, project: Project
) -> None:
    """A plain owner is told what a superuser has to run first; one that is trusted is created."""
    command = "CREATE EXTENSION file_fdw SCHEMA public;"
    target = new_database(owner=OWNER)
    mark = Mark(target)

    with pytest.raises(BadInputError, match=re.escape(command)):
        restore(project, target, dump_of("CREATE EXTENSION IF NOT EXISTS file_fdw WITH SCHEMA public;"), OWNER)
    assert mark.is_untouched()
    target.execute(f"GRANT CREATE ON SCHEMA public TO {OWNER}")
    restore(project, target, dump_of("CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA public;"), OWNER)

    assert target.scalar("SELECT extowner::regrole::text FROM pg_extension WHERE extname = 'citext'") == OWNER


def test_restore_replaces_rows_of_an_extensions_table_when_the_extension_stays(
    new_database: Databases, project: Project
) -> None:
    """Only the rows that people added are dumped, and only they are replaced and counted."""
    source, target = new_database(), new_database()
    for database, own in ((source, 5), (target, 9)):
        database.execute(
            "CREATE EXTENSION hstore SCHEMA public; CREATE TABLE public.known (id integer, builtin boolean);"
            "ALTER EXTENSION hstore ADD TABLE public.known;"
            # Only an extension's script may call pg_extension_config_dump.
            "UPDATE pg_extension SET extconfig = ARRAY['public.known'::regclass::oid],"
            " extcondition = ARRAY['WHERE NOT builtin'] WHERE extname = 'hstore';"
            "INSERT INTO public.known SELECT i, true FROM generate_series(1, 3) i;"
            f"INSERT INTO public.known SELECT i, false FROM generate_series(101, 100 + {own}) i"
        )
    source.execute("CREATE TABLE public.t ()")

    restored = restore(project, target, pg_dump(source), clean=True)

    assert restored.rows == 5
    assert target.execute("SELECT * FROM public.known ORDER BY id") == source.execute(
        "SELECT * FROM public.known ORDER BY id"
    )


# Default privileges of the target

DEFAULTS = """
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT ALL ON TABLES TO pg_monitor WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT USAGE ON SEQUENCES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT ON TABLES TO pg_monitor;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON TYPES TO pg_monitor;
ALTER DEFAULT PRIVILEGES REVOKE DELETE ON TABLES FROM {role};
ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO pg_monitor;
"""


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("role", [SUPERUSER, OWNER])
def test_restore_does_not_widen_grants_when_the_target_has_default_privileges(
    new_database: Databases, project: Project, role: str
) -> None:
    """Restored objects have the grants of the dump, and the target has its default privileges as before."""
    source, target = new_database(owner=role), new_database(owner=role)
    for database in (source, target):
        database.execute(f"GRANT ALL ON SCHEMA public TO {OWNER}")
    source.execute(SHOP + "CREATE SCHEMA made_by_dump;", role=role)
    dump = pg_dump(source)
    for database in (source, target):
        database.execute("CREATE SCHEMA IF NOT EXISTS app;" + DEFAULTS.format(role=role), role=role)

    restore(project, target, dump, role, clean=True)

    assert target.dump_text() == source.dump_text()


def test_restore_adds_its_default_privileges_when_the_target_has_others(
    shop: Database, new_database: Databases, project: Project
) -> None:
    """The dump's own are set as well, and widen no table that comes with them."""
    target = new_database()
    target.execute("CREATE SCHEMA app; ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT INSERT ON TABLES TO pg_monitor")

    restore(project, target, pg_dump(shop), clean=True)

    target.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA app REVOKE INSERT ON TABLES FROM pg_monitor")
    assert target.dump_text() == shop.dump_text()


def test_clean_restore_keeps_the_schema_when_the_dump_says_nothing_of_it(
    new_database: Databases, project: Project
) -> None:
    """Owner, grants and comment of a schema that stays are not the dump's business unless it names them."""
    source, target = new_database(), new_database()
    source.execute("CREATE TABLE public.t ()")
    target.execute(
        f"ALTER SCHEMA public OWNER TO {OWNER}; GRANT CREATE ON SCHEMA public TO pg_monitor;"
        "COMMENT ON SCHEMA public IS 'ours'"
    )
    query = (
        "SELECT nspowner::regrole::text, nspacl::text, obj_description(oid) FROM pg_namespace WHERE nspname = 'public'"
    )
    before = target.execute(query)

    restore(project, target, pg_dump(source), clean=True)

    assert target.execute(query) == before


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_catalog.set_config('statement_timeout', '100', false);",
        "SELECT set_config(E'statement\\x5ftimeout', '100', false), set_config('lock_timeout', '1', false), 2;",
    ],
    ids=["alone", "among others"],
)
def test_restore_is_not_ended_by_timeouts_when_the_dump_sets_them_by_a_function(
    database: Database, project: Project, statement: str
) -> None:
    """A call of set_config alone is left out as SET is; behind a statement that does more, ours are set again."""
    dump = dump_of(statement, "SELECT pg_catalog.pg_sleep(0.5);", "CREATE TABLE public.t (id integer);")

    restored = restore(project, database, dump)

    assert restored.left_out[Omission(OmissionKind.OWN_SETTINGS)] == int(statement.endswith("'100', false);"))
    assert database.scalar("SELECT to_regclass('public.t') IS NOT NULL")
