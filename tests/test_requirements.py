"""What a dump needs and a server lacks is refused before anything, all of it at once, with what provides it."""

import re
from collections.abc import Callable, Iterator

import pytest

from tasks.dump.request import DumpRequest
from tasks.dumpformat.lexer import lex
from tasks.dumpformat.manifest import Need
from tasks.dumpformat.summary import DumpSummary
from tasks.errors import BadInputError, OperationFailedError
from tasks.load.filters import Omission, OmissionKind
from tests.flows import Said, dump_of, dumped, pg_dump, restore_path, settings_of, write
from tests.marks import Mark
from tests.servers import OWNER, PASSWORD, SUPERUSER, Server
from tests.support import Database, Databases, Project

CITEXT = """
CREATE SCHEMA extensions; CREATE EXTENSION citext SCHEMA extensions;
CREATE TABLE public."User" (id int PRIMARY KEY, email extensions.citext UNIQUE);
INSERT INTO public."User" VALUES (1, 'A@example.org');
"""


@pytest.fixture
def new_role(server: Server) -> Iterator[Callable[[str], str]]:
    """Return what names roles of a test, which are dropped after its databases; roles belong to the whole server."""
    names: list[str] = []

    def name(options: str = "") -> str:
        role = f"role_{len(names)}_{id(names):x}"
        names.append(role)
        if options:
            with server.connect() as connection:
                connection.execute(f"CREATE ROLE {role} {options}".encode())
        return role

    yield name
    with server.connect() as connection:
        for role in reversed(names):
            there = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone()
            if there is not None:
                connection.execute(f"DROP OWNED BY {role}".encode())
                connection.execute(f"DROP ROLE {role}".encode())


def needs_of(*statements: str) -> set[tuple[str, str, str]]:
    """Return what the text of a dump needs, as (kind, schema, name)."""
    summary = DumpSummary()
    for _ in summary.watch(lex([dump_of(*statements)])):
        pass
    return {(each.kind, each.schema, each.name) for each in summary.outline().needs or ()}


@pytest.mark.parametrize(
    ("statement", "needed"),
    [
        ('CREATE EXTENSION IF NOT EXISTS "uuid-ossp" WITH SCHEMA ext;', {("extension", "ext", "uuid-ossp")}),
        ("CREATE EXTENSION hstore;", {("extension", "", "hstore")}),
        ("CREATE TABLE app.t (id int);", {("schema", "", "app")}),
        ("INSERT INTO app.t VALUES (1);", {("schema", "", "app")}),
        ("CREATE SCHEMA app; CREATE TABLE app.t (id int);", set()),
        ("ALTER TABLE ONLY public.t ADD FOREIGN KEY (a) REFERENCES auth.users(id);", {
            ("schema", "", "public"), ("schema", "", "auth")
        }),
        ("CREATE INDEX i ON app.t USING hnsw (v);", {("schema", "", "app"), ("access method", "", "hnsw")}),
        ("SET default_table_access_method = columnar;", {("access method", "", "columnar")}),
        ('CREATE TABLE t (a text COLLATE pg_catalog."de_DE");', {("collation", "pg_catalog", "de_DE")}),
        ("CREATE TABLE t (a text DEFAULT ' COLLATE x REFERENCES a.b');", set()),
        ("CREATE COLLATION c (locale = 'C'); CREATE TABLE t (a text COLLATE c);", set()),
        ("DROP TABLE IF EXISTS app.t; ALTER TABLE IF EXISTS app.t DROP CONSTRAINT c;", set()),
        ("CREATE VIEW v AS SELECT 1 FROM a JOIN b ON a.id = b.id;", set()),
    ],
)  # fmt: skip
def test_needs_are_what_a_dump_uses_and_does_not_create(statement: str, needed: set[tuple[str, str, str]]) -> None:
    """Read from the text; what stands in strings, or is only to be dropped, is not needed."""
    assert needs_of(statement) == needed


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("role", [SUPERUSER, OWNER])
def test_restore_is_refused_when_an_extension_is_in_another_schema(
    new_database: Databases, project: Project, role: str
) -> None:
    """Our own dump, for each role; the commands that the message names make it load."""
    source, target = new_database(), new_database(owner=role)
    source.execute(CITEXT)
    target.execute(f"CREATE EXTENSION citext SCHEMA public; GRANT CREATE ON SCHEMA public TO {OWNER}")
    path = dumped(settings_of(project, source), DumpRequest()).path
    mark = Mark(target)

    with pytest.raises(BadInputError) as refused:
        restore_path(project, target, path, role, clean=True)

    assert mark.is_untouched()
    found = re.search(
        r": (CREATE SCHEMA extensions; ALTER EXTENSION citext SET SCHEMA extensions);", str(refused.value)
    )
    assert found
    target.execute(found[1])
    target.execute(f"GRANT ALL ON SCHEMA extensions TO {OWNER}")
    assert restore_path(project, target, path, role, clean=True).rows == 1


@pytest.mark.majors(14, 18)
def test_restore_makes_an_extensions_schema_when_the_dump_creates_it(new_database: Databases, project: Project) -> None:
    """Into a database that has neither the extension nor its schema."""
    source, target = new_database(), new_database()
    source.execute(CITEXT)

    restore_path(project, target, write(project, "given.sql", pg_dump(source)))

    assert target.scalar("SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'citext'") == (
        "extensions"
    )


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("role", [SUPERUSER, OWNER])
def test_restore_names_all_that_is_missing_at_once(new_database: Databases, project: Project, role: str) -> None:
    """Extensions, roles, schemas, tablespaces, collations: one message, whoever restores."""
    target = new_database(owner=role)
    target.execute(f"GRANT CREATE ON SCHEMA public TO {OWNER}")
    text = dump_of(
        "CREATE EXTENSION IF NOT EXISTS postgis WITH SCHEMA public;",
        "CREATE EXTENSION IF NOT EXISTS pgmagic WITH SCHEMA public;",
        "SET default_tablespace = fast;",
        'CREATE TABLE public.t (id int REFERENCES auth.users(id), a text COLLATE pg_catalog."de_NOWHERE");',
        "CREATE POLICY p ON public.t TO nobody_here;",
        "ALTER TABLE public.t OWNER TO nobody_there;",
        "ALTER TABLE app.t ADD COLUMN x int;",
    )

    with pytest.raises(BadInputError) as refused:
        restore_path(project, target, write(project, "given.sql", text), role, strict=True)

    for name in ("postgis", "pgmagic", "fast", "auth", "de_NOWHERE", "nobody_here", "nobody_there", "app"):
        assert name in str(refused.value), name
    assert "CREATE SCHEMA app" in str(refused.value)
    assert target.scalar("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0


def test_restore_is_refused_when_an_access_method_is_missing(database: Database, project: Project) -> None:
    """Of an extension that the dump does not create."""
    text = dump_of("CREATE TABLE public.t (v int);", "CREATE INDEX i ON public.t USING hnsw (v);")

    with pytest.raises(BadInputError, match="hnsw"):
        restore_path(project, database, write(project, "given.sql", text))


@pytest.mark.majors(14, 18)
def test_restore_skips_an_extension_when_nothing_uses_it(database: Database, project: Project) -> None:
    """One that only a managed service has is left out and counted, its comment, too."""
    text = dump_of(
        "CREATE EXTENSION IF NOT EXISTS pg_graphql WITH SCHEMA graphql;",
        "COMMENT ON EXTENSION pg_graphql IS 'GraphQL';",
        "CREATE TABLE public.t (id int);",
    )

    restored = restore_path(project, database, write(project, "given.sql", text), skip_extensions=("pg_graphql",))

    assert restored.left_out[Omission(OmissionKind.EXTENSION_UNWANTED, "pg_graphql")] == 2
    assert database.scalar("SELECT to_regclass('public.t') IS NOT NULL")


def test_restore_rolls_back_when_a_skipped_extension_is_needed(database: Database, project: Project) -> None:
    """The message says that the dump needs what was skipped."""
    text = dump_of(
        "CREATE TABLE public.s ();",
        "CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA public;",
        "CREATE TABLE public.t (id public.citext);",
    )

    with pytest.raises(OperationFailedError, match=r"citext.*--skip-extension"):
        restore_path(project, database, write(project, "given.sql", text), skip_extensions=("citext",))

    assert database.scalar("SELECT to_regclass('public.s') IS NULL")


def test_skipping_an_extension_that_the_dump_does_not_create_is_refused(database: Database, project: Project) -> None:
    """A misspelled name is no reason to load without a word."""
    write(project, "given.sql", dump_of("CREATE TABLE public.t ();"))

    result = project.use(database).inv("db.restore", "--file=given.sql", "--skip-extension=nowhere")

    assert result.returncode == 2
    assert database.scalar("SELECT to_regclass('public.t') IS NULL")


OWNED = """
CREATE TABLE public.t (id int);
ALTER TABLE public.t OWNER TO {owner};
GRANT SELECT ON public.t TO {reader};
CREATE POLICY p ON public.t TO {policy};
"""


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("options", ["SUPERUSER", "CREATEROLE"])
def test_restore_creates_roles_when_that_is_asked_for(
    new_role: Callable[[str], str], new_database: Databases, project: Project, options: str
) -> None:
    """Owners, grants and policies of roles that no server of ours had; none of them can log in."""
    ours = new_role(f"LOGIN PASSWORD '{PASSWORD}' {options}")
    owner, reader, policy = (new_role("") for _ in range(3))
    target = new_database()
    target.execute(f"ALTER DATABASE {target.name} OWNER TO {ours}; ALTER SCHEMA public OWNER TO {ours}")
    target.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    path = write(project, "given.sql", dump_of(OWNED.format(owner=owner, reader=reader, policy=policy)))

    restore_path(project, target, path, ours, create_roles=True)

    assert target.scalar("SELECT relowner::regrole::text FROM pg_class WHERE oid = 'public.t'::regclass") == owner
    assert target.scalar(f"SELECT has_table_privilege('{reader}', 'public.t', 'SELECT')")
    assert target.scalar("SELECT polroles::regrole[]::text FROM pg_policy") == f"{{{policy}}}"
    assert not target.scalar(f"SELECT bool_or(rolcanlogin) FROM pg_roles WHERE rolname = '{owner}'")


@pytest.mark.majors(14, 18)
def test_roles_are_taken_back_when_the_restore_rolls_back(
    new_role: Callable[[str], str], database: Database, project: Project
) -> None:
    """They are created in the transaction."""
    role = new_role("")
    text = dump_of("CREATE TABLE public.t ();", f"CREATE POLICY p ON public.t TO {role};", "SELECT 1 / 0;")

    with pytest.raises(OperationFailedError):
        restore_path(project, database, write(project, "given.sql", text), create_roles=True)

    assert database.scalar(f"SELECT count(*) FROM pg_roles WHERE rolname = '{role}'") == 0


@pytest.mark.majors(14, 18)
def test_creating_roles_is_refused_when_the_role_may_not(new_database: Databases, project: Project) -> None:
    """An owner without CREATEROLE is told which roles, and nothing is touched."""
    target = new_database(owner=OWNER)
    target.execute(f"GRANT CREATE ON SCHEMA public TO {OWNER}")
    text = dump_of("CREATE TABLE public.t ();", "CREATE POLICY p ON public.t TO nobody_here;")

    with pytest.raises(BadInputError, match="nobody_here"):
        restore_path(project, target, write(project, "given.sql", text), OWNER, create_roles=True)

    assert target.scalar("SELECT to_regclass('public.t') IS NULL")


def test_no_owner_and_no_acl_name_the_flag_when_a_policy_needs_a_role(database: Database, project: Project) -> None:
    """Both flags leave out roles; of a policy's they can't, and the message names the flag that helps."""
    write(project, "given.sql", dump_of("CREATE TABLE public.t ();", "CREATE POLICY p ON public.t TO nobody_here;"))

    result = project.use(database).inv("db.restore", "--file=given.sql", "--no-owner", "--no-acl")

    assert result.returncode == 2
    assert "--create-roles" in result.stderr


def test_nothing_is_said_when_nothing_is_missing(database: Database, project: Project) -> None:
    """A dump of ours needs nothing that its own database lacks, and its manifest says what it needs."""
    database.execute('CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY, a text COLLATE "C")')
    said = Said()
    made = dumped(settings_of(project, database), DumpRequest())

    restore_path(project, database, made.path, report=said, clean=True)

    assert made.manifest.outline.needs == (Need(kind="collation", schema="pg_catalog", name="C"),)
    assert said.warnings == []
