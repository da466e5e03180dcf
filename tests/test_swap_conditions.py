"""Where a swap would have another result than the transaction, or is not possible, the transaction is taken."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from psycopg import sql

from tasks.errors import TaskError
from tests.both_ways import Method, SwapObstacle, databases_of_ours, restore_by
from tests.flows import dumped, settings_of
from tests.marks import Mark
from tests.schemas import SHOP
from tests.servers import CONFIGURATION, DEFAULT_MAJOR, OWNER, SUPERUSER, Server, provision
from tests.support import Database, Databases

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support import Project

_OTHER = "swap_other"
_MADE = f"""
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{_OTHER}') THEN CREATE ROLE {_OTHER}; END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'reader') THEN CREATE ROLE reader; END IF;
END $$
"""


@dataclass(frozen=True)
class Condition:
    """A state of a database in which no swap is possible.

    :ivar sql: What a superuser does, one statement a line; `{}` is the database.
    :ivar names: What the reason names.
    :ivar role: Who restores.
    :ivar after: What undoes it, where that does not go with the database.
    :ivar changes: Fields of the settings.
    """

    obstacle: SwapObstacle
    sql: str = ""
    names: str = ""
    role: str = OWNER
    after: str = ""
    changes: dict[str, Any] = field(default_factory=dict)


REFUSED, DIFFERS, OTHER_SCHEMAS = SwapObstacle.REFUSED, SwapObstacle.DIFFERS, SwapObstacle.OTHER_SCHEMAS
CONDITIONS = {
    "no CREATEDB": Condition(SwapObstacle.NO_CREATEDB, f"ALTER ROLE {OWNER} NOCREATEDB", OWNER),
    "not the owner": Condition(
        SwapObstacle.NOT_OWNER,
        f"ALTER DATABASE {{}} OWNER TO {SUPERUSER}\nGRANT ALL ON SCHEMA public TO {OWNER}",
        OWNER,
    ),
    "a setting for superusers": Condition(REFUSED, "ALTER DATABASE {} SET log_min_duration_statement = 100", "log_min"),
    "a setting of another role": Condition(
        REFUSED,
        "ALTER ROLE reader IN DATABASE {} SET work_mem = '9MB'",
        after="ALTER ROLE reader IN DATABASE {} RESET ALL",
    ),
    "a grant by another role": Condition(
        DIFFERS,
        "GRANT CONNECT ON DATABASE {} TO reader WITH GRANT OPTION\nSET ROLE reader\n"
        f"GRANT CONNECT ON DATABASE {{}} TO {_OTHER}",
        "grants",
    ),
    "a grant by another role, a superuser": Condition(
        DIFFERS,
        "GRANT CONNECT ON DATABASE {} TO reader WITH GRANT OPTION\nSET ROLE reader\n"
        f"GRANT CONNECT ON DATABASE {{}} TO {_OTHER}",
        "grants",
        SUPERUSER,
    ),
    "a limit of the role": Condition(
        SwapObstacle.CONNECTIONS,
        f"ALTER ROLE {OWNER} CONNECTION LIMIT 4",
        "only 3 more",
        after=f"ALTER ROLE {OWNER} CONNECTION LIMIT -1",
    ),
    "large objects": Condition(SwapObstacle.LARGE_OBJECTS, f"SET ROLE {OWNER}\nSELECT lo_create(0)"),
    "a slot": Condition(
        SwapObstacle.SLOT,
        "SELECT pg_create_logical_replication_slot('swap_slot', 'pgoutput')",
        "swap_slot",
        after="SELECT pg_drop_replication_slot('swap_slot')",
    ),
    "a subscription": Condition(
        SwapObstacle.SUBSCRIPTION,
        "CREATE SUBSCRIPTION \"odd; sub\" CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)",
        "odd; sub",
    ),
    "a table in another schema": Condition(
        OTHER_SCHEMAS,
        f'CREATE SCHEMA "other\'s" AUTHORIZATION {OWNER}\nCREATE TABLE "other\'s".t (id integer)',
        "other's",
    ),
    "a type in another schema": Condition(
        OTHER_SCHEMAS, f"CREATE SCHEMA other AUTHORIZATION {OWNER}\nCREATE TYPE other.t AS ENUM ()", "other"
    ),
    "a function in pg_catalog": Condition(
        OTHER_SCHEMAS, "CREATE FUNCTION pg_catalog.ours() RETURNS integer LANGUAGE sql AS 'SELECT 1'", "ours", SUPERUSER
    ),
    "a type in pg_catalog": Condition(OTHER_SCHEMAS, "CREATE TYPE pg_catalog.ours AS ENUM ('a')", "ours", SUPERUSER),
    "a collation in pg_catalog": Condition(
        OTHER_SCHEMAS, 'CREATE COLLATION pg_catalog.ours FROM "C"', "ours", SUPERUSER
    ),
    "an operator in information_schema": Condition(
        OTHER_SCHEMAS,
        "CREATE OPERATOR information_schema.@@@ (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4pl)",
        "@@@",
        SUPERUSER,
    ),
    "an extension of another role": Condition(DIFFERS, "CREATE EXTENSION citext", "citext"),
    "an extension for superusers": Condition(REFUSED, "CREATE EXTENSION pageinspect", "pageinspect"),
    "a version without a script": Condition(
        REFUSED,
        "CREATE EXTENSION pg_trgm\nUPDATE pg_extension SET extversion = '0.7; x' WHERE extname = 'pg_trgm'",
        "0.7; x",
        SUPERUSER,
    ),
    "plpgsql is dropped": Condition(DIFFERS, "DROP EXTENSION plpgsql CASCADE", "plpgsql", SUPERUSER),
    "another object in an extension": Condition(
        DIFFERS,
        "CREATE EXTENSION citext\nCREATE FUNCTION ours() RETURNS integer LANGUAGE sql AS 'SELECT 1'\n"
        "ALTER EXTENSION citext ADD FUNCTION ours()",
        "ours",
        SUPERUSER,
    ),
    "a member with a setting": Condition(
        DIFFERS, "CREATE EXTENSION citext\nALTER FUNCTION citext_eq SET search_path TO public", "citext_eq", SUPERUSER
    ),
    "a member with a comment": Condition(
        DIFFERS, "CREATE EXTENSION citext\nCOMMENT ON TYPE citext IS 'ours'", "citext", SUPERUSER
    ),
    "a member of another owner": Condition(
        DIFFERS, f"CREATE EXTENSION citext\nALTER FUNCTION citext_eq OWNER TO {OWNER}", "citext_eq", SUPERUSER
    ),
    "a rule on a member": Condition(
        DIFFERS,
        "CREATE EXTENSION pg_buffercache\nCREATE RULE r AS ON UPDATE TO pg_buffercache DO INSTEAD NOTHING",
        "pg_buffercache",
        SUPERUSER,
    ),
    "a comment on PostgreSQL's function": Condition(
        DIFFERS, "COMMENT ON FUNCTION now() IS 'x'", "pg_description", SUPERUSER
    ),
    "another setting of PostgreSQL's function": Condition(
        DIFFERS, "ALTER FUNCTION pg_catalog.pg_sleep(double precision) COST 7", "pg_proc", SUPERUSER
    ),
    "another mapping of PostgreSQL's configuration": Condition(
        DIFFERS,
        "ALTER TEXT SEARCH CONFIGURATION pg_catalog.english ALTER MAPPING FOR asciiword WITH simple",
        "pg_ts_config_map",
        SUPERUSER,
    ),
    "a grant on information_schema": Condition(
        DIFFERS, "GRANT UPDATE ON information_schema.sql_features TO reader", "sql_features", SUPERUSER
    ),
    "a grant on a language": Condition(DIFFERS, "GRANT USAGE ON LANGUAGE sql TO reader", "pg_language", SUPERUSER),
    "a publication of all tables": Condition(REFUSED, "CREATE PUBLICATION everything FOR ALL TABLES"),
    "default privileges of another role": Condition(
        REFUSED, f"ALTER DEFAULT PRIVILEGES FOR ROLE {_OTHER} GRANT SELECT ON TABLES TO reader"
    ),
    "a schema of another role": Condition(REFUSED, f"CREATE SCHEMA theirs AUTHORIZATION {_OTHER}"),
    "a cast of another role": Condition(REFUSED, "CREATE CAST (integer AS point) WITH INOUT"),
    "a pooled URL": Condition(SwapObstacle.POOLER, changes={"url": "?pgbouncer=true"}),
}


@pytest.fixture
def shop(new_database: Databases, server: Server) -> Iterator[Database]:
    """Return a database of a plain owner, who may create databases."""
    with server.connect() as connection:
        connection.execute(_MADE.encode())
        connection.execute(f"ALTER ROLE {OWNER} CREATEDB".encode())
    database = new_database(owner=OWNER)
    database.execute(SHOP, role=OWNER)
    try:
        yield database
    finally:
        with server.connect() as connection:
            connection.execute(f"ALTER ROLE {OWNER} NOCREATEDB".encode())


def _do(database: Database, script: str) -> None:
    with database.connect() as connection:
        for statement in filter(None, script.splitlines()):
            connection.execute(statement.replace("{}", sql.Identifier(database.name).as_string()).encode())


def _dump(project: Project, database: Database) -> Path:
    return dumped(settings_of(project, database)).path


def _refuses(
    project: Project,
    database: Database,
    path: Path,
    obstacle: SwapObstacle,
    names: str = "",
    role: str = OWNER,
    changes: dict[str, Any] | None = None,
) -> None:
    """Check that a swap is refused and leaves nothing, and that `auto` takes the transaction for this reason."""
    before = database.dump_text("--create")
    database.execute("CREATE TABLE public.newer (id integer)", role=role)
    newer = database.dump_text("--create")

    with pytest.raises(TaskError) as caught:
        restore_by(project, database, path, Method.SWAP, role=role, changes=changes, backup=False)

    assert names in str(caught.value)
    assert database.dump_text("--create") == newer
    assert databases_of_ours(database) == []
    assert list(project.dumps.glob(".database-*")) == []

    ended = restore_by(project, database, path, Method.AUTO, role=role, changes=changes, backup=False)

    assert not ended.swapped
    assert ended.restored is not None
    reason = ended.restored.plan.method.reason
    assert reason is not None
    assert reason.obstacle is obstacle, str(reason)
    assert names in str(reason)
    assert database.dump_text("--create") == before
    assert databases_of_ours(database) == []


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_swap_is_refused_and_the_transaction_is_taken(shop: Database, project: Project, name: str) -> None:
    """The reason names the obstacle; nothing of ours is left, and the transaction restores the dump."""
    condition = CONDITIONS[name]
    path = _dump(project, shop)
    changes = dict(condition.changes)
    if query := changes.pop("url", None):
        changes["environ"] = {"PATH": "/bin", "DATABASE_URL": shop.url_as(condition.role) + query}
    _do(shop, condition.sql)
    try:
        _refuses(project, shop, path, condition.obstacle, condition.names, condition.role, changes)
    finally:
        _do(shop, condition.after)


@pytest.mark.majors(14, 18)
def test_a_plain_owner_swaps(shop: Database, project: Project) -> None:
    """Without any of these conditions the owner of a database needs no more than CREATEDB."""
    path = _dump(project, shop)
    before = shop.dump_text("--create")
    _do(shop, "DROP VIEW app.tools CASCADE")

    ended = restore_by(project, shop, path, Method.AUTO, role=OWNER)

    assert ended.swapped
    assert shop.dump_text("--create") == before
    assert databases_of_ours(shop) == []


# Conditions of a server


@pytest.fixture(scope="module")
def narrow() -> Iterator[Server]:
    """Return a server of its own with few connections and with prepared transactions."""
    configuration = f"{CONFIGURATION}max_connections = 20\nmax_prepared_transactions = 5\n"
    server = Server.launch(DEFAULT_MAJOR, provision(DEFAULT_MAJOR), configuration=configuration)
    try:
        with server.connect() as connection:
            connection.execute(f"ALTER ROLE {OWNER} CREATEDB".encode())
        yield server
    finally:
        server.close()


@pytest.fixture
def narrow_shop(narrow: Server) -> Iterator[Database]:
    """Return a database of a plain owner on that server."""
    with Databases(narrow) as databases:
        database = databases(owner=OWNER)
        database.execute(SHOP, role=OWNER)
        yield database


def test_a_prepared_transaction_is_named(narrow_shop: Database, project: Project) -> None:
    """It would keep the database from being renamed."""
    path = _dump(project, narrow_shop)
    with narrow_shop.connect(OWNER, autocommit=False) as connection:
        connection.execute("CREATE TEMPORARY TABLE t (id integer) ON COMMIT DROP")
        connection.rollback()
        connection.execute("SELECT pg_catalog.pg_current_xact_id()")
        connection.execute("PREPARE TRANSACTION 'it''s ours'")
    try:
        _refuses(project, narrow_shop, path, SwapObstacle.PREPARED, "it's ours")
    finally:
        narrow_shop.execute("ROLLBACK PREPARED 'it''s ours'", role=OWNER)


def test_too_few_free_connections_are_counted(narrow_shop: Database, project: Project) -> None:
    """Those that are reserved for superusers do not count."""
    path = _dump(project, narrow_shop)
    with contextlib.ExitStack() as stack:
        # Of 20, 3 are reserved, 1 is the session of the plan, and 1 that of the fixtures.
        narrow_shop.server.admin()
        for _ in range(12):
            stack.enter_context(narrow_shop.server.connect())
        _refuses(project, narrow_shop, path, SwapObstacle.CONNECTIONS, "only 3 more")


def test_without_another_database_the_transaction_is_taken(narrow_shop: Database, project: Project) -> None:
    """A database can't be renamed from itself."""
    path = _dump(project, narrow_shop)
    with narrow_shop.server.connect() as connection:
        connection.execute("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
    try:
        _refuses(project, narrow_shop, path, SwapObstacle.MAINTENANCE)
    finally:
        with narrow_shop.server.connect() as connection:
            connection.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")


@pytest.mark.parametrize("rejected", ['"/__staging_"', "postgres"])
def test_a_rule_of_the_server_by_name_is_met_before_loading(
    narrow_shop: Database, project: Project, rejected: str
) -> None:
    """pg_hba.conf may refuse the staging database or the database that both are renamed from."""
    path = _dump(project, narrow_shop)
    server = narrow_shop.server
    rules = server.data_dir / "pg_hba.conf"
    text = rules.read_text()
    obstacle = SwapObstacle.MAINTENANCE if rejected == "postgres" else REFUSED
    try:
        rules.write_text(f"host {rejected} {OWNER} 127.0.0.1/32 reject\n{text}")
        narrow_shop.execute("SELECT pg_reload_conf()")
        _wait_for_rule(narrow_shop, rejected)
        _refuses(project, narrow_shop, path, obstacle)
    finally:
        rules.write_text(text)
        narrow_shop.execute("SELECT pg_reload_conf()")


def _wait_for_rule(database: Database, rejected: str) -> None:
    query = "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'reject' AND error IS NULL"
    assert database.scalar(query) == 1, rejected


@pytest.mark.majors(18)
def test_without_a_fitting_pg_dump_no_swap_is_promised(database: Database, project: Project) -> None:
    """The doctor and the preview have the reason; a restore is refused (3) and says it once; nothing changes."""
    database.execute(SHOP)
    dumped(settings_of(project.use(database), database), None)
    old = str(provision(14))
    project.env |= {"INVOKE_DB_BIN_DIR": old, "INVOKE_DB_METHOD": "auto"}
    mark = Mark(database)

    checks = json.loads(project.inv("db.doctor", "--json").stdout)["checks"]
    shown = project.inv("--dry", "db.restore", "--clean", "--no-backup")
    refused = [project.inv("db.restore", "--clean", "--yes", *flags) for flags in ((), ("--method=swap",))]

    (swap,) = (each for each in checks if each["name"] == "swap")
    assert swap["state"] == "note"
    assert "pg_dump" in swap["message"]
    assert shown.returncode == 0
    assert f"{database.name}__before_" not in shown.stderr
    assert shown.stderr.count("pg_dump") == 1
    assert [(each.returncode, each.stderr.count(old)) for each in refused] == [(3, 1), (3, 1)]
    assert mark.is_untouched()
