"""Databases of a hostile owner, made at random from a seed: whatever is called in them writes into the server's log.

`python -m tests.hostile_database --seed 1 --count 50 --major 18` runs our tasks as superuser against that many.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from tests.servers import OWNER, Server, provision
from tests.support import Databases, Project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support import Database

# What our own statements and those of drivers are made of. A schema in front of pg_catalog takes the exact match.
_OPERATORS = (
    *(("=", left, right) for left, right in (("name", "name"), ("name", "text"), ("text", "text"), ("oid", "oid"))),
    *(("=", each, each) for each in ('"char"', "int4", "int2", "bool", "regclass")),
    *(("=", "oid", "regclass"), ("<>", "name", "text"), ("<>", '"char"', '"char"'), ("~", "name", "text")),
    *(("!~", "name", "text"), ("||", "text", "text"), (">=", "oid", "int4"), ("<=", "int4", "int4")),
    *((">", "int8", "int4"), ("->>", "jsonb", "text"), ("-", "timestamptz", "timestamptz")),
)
_FUNCTIONS = (
    *(
        "current_database()",
        "pg_backend_pid()",
        "now()",
        "clock_timestamp()",
        "pg_is_in_recovery()",
        "quote_ident(text)",
    ),
    *(
        "set_config(text,text,bool)",
        "current_setting(text)",
        "to_regclass(text)",
        "unnest(text[])",
        "format(text,text)",
    ),
    *(
        "format_type(oid,int4)",
        "pg_get_expr(pg_node_tree,oid)",
        "pg_export_snapshot()",
        "has_table_privilege(oid,text)",
    ),
    *(
        "pg_relation_size(regclass)",
        "to_jsonb(text)",
        "lower(text)",
        "pg_get_userbyid(oid)",
        "array_to_string(text[],text)",
    ),
    *("shobj_description(oid,name)", "pg_current_xact_id()", "hashtextextended(text,int8)", "left(text,int4)"),
)
_TYPES = ("text", "int8", "oid", "regclass", "timestamptz", "float8", "xid8", "regtype")
_RELATIONS = ("pg_class", "pg_settings", "pg_database", "pg_roles", "pg_namespace")
_SETTINGS = (
    *(
        "constraint_exclusion = on",
        "standard_conforming_strings = off",
        "DateStyle = 'German, DMY'",
        "row_security = on",
    ),
    *("default_transaction_isolation = 'serializable'", "quote_all_identifiers = on", "IntervalStyle = 'sql_standard'"),
    *("plan_cache_mode = force_generic_plan", "transform_null_equals = on", "TimeZone = 'Asia/Tokyo'"),
    f"role = '{OWNER}'",
)

DROP_CASTS = """
DO $$ DECLARE identity text; BEGIN
    FOR identity IN SELECT (pg_identify_object('pg_cast'::regclass, c.oid, 0)).identity FROM pg_cast c
        WHERE c.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_cast'::regclass
            AND d.objid = c.oid AND d.deptype = 'i')
    LOOP EXECUTE 'DROP CAST ' || identity; END LOOP;
END $$
"""
"""What drops the casts that depend on types which a restore replaces."""


@dataclass
class Hostile:
    """A database that is being made hostile.

    :ivar sign: What its functions write into the log.
    :ivar made: How many statements of its owner the server took.
    """

    database: Database
    random: random.Random
    sign: str = field(default_factory=lambda: f"hostile-{secrets.token_hex(6)}")
    made: int = 0

    def run(self, *statements: str) -> bool:
        """Run statements as the owner, all of them or none; what this server does not know is left out."""
        with self.database.connect(OWNER) as connection:
            connection.autocommit = False
            try:
                for statement in statements:
                    connection.execute(statement.encode())
                connection.commit()
            except psycopg.Error:
                return False
        self.made += len(statements)
        return True

    def function(self, name: str, arguments: str, returns: str, value: str, kind: str = "IMMUTABLE") -> str:
        """Write a function that tells the log who called it."""
        return (
            f"CREATE FUNCTION evil.{name}({arguments}) RETURNS {returns} LANGUAGE plpgsql {kind} AS $f$ BEGIN "
            f"RAISE LOG '{self.sign}: {name.replace(chr(34), '')} called by %', current_user; "
            f"RETURN {value}; END $f$"
        )

    def heard(self, offset: int) -> list[str]:
        """Read what the functions wrote into the log behind an offset."""
        said = self.database.server.log.read_bytes()[offset:].decode(errors="replace")
        return [line.partition(self.sign)[2] for line in said.splitlines() if self.sign in line and "LOG:" in line]


def build(database: Database, seed: int) -> Hostile:
    """Fill a database of :data:`OWNER` with a random choice of traps."""
    hostile = begin(database)
    hostile.random.seed(seed)
    for make in (_names, _prisma, _tables, _others, _settings):
        make(hostile)
    return hostile


def begin(database: Database) -> Hostile:
    """Give a database of :data:`OWNER` the functions, types and casts that traps are made of, and no trap yet."""
    hostile = Hostile(database, random.Random(1))
    hostile.run("CREATE SCHEMA evil", hostile.function("called", "v text", "integer", "1"))
    hostile.run(hostile.function("truth", "v text", "boolean", "true"))
    hostile.run(hostile.function("never", "", "boolean", "true", "VOLATILE"))
    _types(hostile)
    return hostile


def _names(hostile: Hostile) -> None:
    pick = hostile.random
    for at, (operator, left, right) in enumerate(pick.sample(_OPERATORS, k=pick.randint(4, len(_OPERATORS)))):
        returns, value = {"||": ("text", "'x'"), "-": ("interval", "'1s'"), "->>": ("text", "'x'")}.get(
            operator, ("boolean", "true")
        )
        hostile.run(
            hostile.function(f"op{at}", f"a {left}, b {right}", returns, value),
            f"CREATE OPERATOR evil.{operator} (FUNCTION = evil.op{at}, LEFTARG = {left}, RIGHTARG = {right})",
        )
    with hostile.database.connect() as connection:
        for signature in pick.sample(_FUNCTIONS, k=pick.randint(4, len(_FUNCTIONS))):
            name, _, arguments = signature.removesuffix(")").partition("(")
            found = connection.execute(
                "SELECT pg_get_function_result(to_regprocedure(%s))", [f"pg_catalog.{signature}"]
            ).fetchone()
            if found and found[0]:
                hostile.run(hostile.function(name, arguments, found[0], "" if "SETOF" in found[0] else "NULL"))
    for name in pick.sample(_RELATIONS, k=2):
        hostile.run(f"CREATE VIEW evil.{name} AS SELECT c.*, evil.called('view {name}') FROM pg_catalog.{name} c")


def _types(hostile: Hostile) -> None:
    pick = hostile.random
    for name in pick.sample(_TYPES, k=3):
        hostile.run(f"CREATE DOMAIN evil.{name} AS pg_catalog.{name} CHECK (evil.truth('domain {name}'))")
    hostile.run("CREATE TYPE evil.mood AS ENUM ('sad', 'glad')", "CREATE TYPE evil.pair AS (a integer, b evil.mood)")
    hostile.run("CREATE DOMAIN evil.word AS varchar(255) CHECK (evil.truth('word'))")
    for source in ("evil.mood", "evil.pair", "evil.word"):
        for at, target in enumerate(("text", "json", "jsonb", "integer", "varchar", "timestamptz")):
            name = f"cast_{source.partition('.')[2]}_{at}"
            hostile.run(
                hostile.function(
                    name, f"v {source}", f"pg_catalog.{target}" if target != "integer" else target, "NULL"
                ),
                f"CREATE CAST ({source} AS {target}) WITH FUNCTION evil.{name} AS "
                f"{pick.choice(('IMPLICIT', 'ASSIGNMENT'))}",
            )
    hostile.run(
        "CREATE FUNCTION evil.eq(a evil.mood, b evil.mood) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS "
        f"$f$ BEGIN RAISE LOG '{hostile.sign}: eq called'; RETURN true; END $f$",
        "CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = evil.mood, RIGHTARG = evil.mood)",
    )


_HISTORY = (
    "id varchar(36) PRIMARY KEY DEFAULT 'x', checksum {text} NOT NULL, finished_at timestamptz,"
    " migration_name {text} NOT NULL, logs text, rolled_back_at timestamptz, started_at timestamptz DEFAULT now(),"
    " applied_steps_count {steps}"
)
_ROW = "INSERT INTO public._prisma_migrations (id, checksum, migration_name) VALUES ('1', {value}, {value})"


def histories() -> dict[str, list[str]]:
    """Write `_prisma_migrations` in the forms that run code when they are read."""
    table = "public._prisma_migrations"
    plain = f"CREATE TABLE {table} ({_HISTORY.format(text='varchar(255)', steps='integer DEFAULT 1')})"
    row, mood = _ROW.format(value="'a'"), _ROW.format(value="'sad'")
    read = (
        "SELECT '1' AS id, 'a'::varchar AS checksum, now() AS finished_at, 'a'::varchar AS migration_name,"
        " now() AS rolled_back_at, now() AS started_at, evil.called('history') AS applied_steps_count"
    )
    odd = f"CREATE TABLE {table} ({_HISTORY.format(text='evil.mood', steps='evil.pair')})"
    return {
        "view": [f"CREATE VIEW {table} AS {read}"],
        "materialized view": [f"CREATE MATERIALIZED VIEW {table} AS {read} WITH NO DATA"],
        "enum and composite": [odd, mood],
        "domain": [plain.replace("varchar(255)", "evil.word")],
        "index": [plain, row, f"CREATE INDEX ON {table} (id) WHERE evil.called('index') = 1"],
        "statistics": [
            plain,
            row,
            f"CREATE STATISTICS evil.of_history ON id, (started_at), (evil.called('stat')) FROM {table}",
        ],
        "row security": [
            *(
                plain,
                row,
                f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
                f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
            ),
            f"CREATE POLICY p ON {table} USING (evil.never())",
        ],
        "children": [plain, row, f"CREATE TABLE evil.child (CHECK (evil.truth('child'))) INHERITS ({table})"],
        "partitioned": [
            plain.replace("PRIMARY KEY", "") + " PARTITION BY RANGE ((applied_steps_count + evil.called('key')))"
        ],
        "rule": [plain, f"CREATE RULE r AS ON UPDATE TO {table} DO ALSO SELECT evil.called('rule')", row],
        "generated": [
            plain.replace("integer DEFAULT 1", "integer GENERATED ALWAYS AS (evil.called('generated')) STORED")
        ],
    }


def _prisma(hostile: Hostile) -> None:
    forms = list(histories().values())
    hostile.random.shuffle(forms)
    for form in forms:
        if hostile.run(*form):
            break


_TRAPS: tuple[Callable[[str], list[str]], ...] = (
    lambda t: [f"CREATE INDEX ON {t} (n) WHERE evil.called('predicate of {t}') = 1"],
    lambda t: [f"CREATE INDEX ON {t} ((n + evil.called('expression of {t}')))"],
    lambda t: [f"CREATE STATISTICS {t}_s ON n, (n + evil.called('statistics of {t}')) FROM {t}"],
    lambda t: [f"ALTER TABLE {t} ADD CHECK (evil.called('check of {t}') = 1)"],
    lambda t: [f"ALTER TABLE {t} ENABLE ROW LEVEL SECURITY", f"CREATE POLICY p ON {t} USING (evil.truth('{t}'))"],
    lambda t: [f"CREATE RULE r AS ON INSERT TO {t} DO ALSO SELECT evil.called('rule of {t}')"],
    lambda t: [f"ALTER TABLE {t} ADD COLUMN d integer DEFAULT evil.called('default of {t}')"],
    lambda t: [f"ALTER TABLE {t} ADD COLUMN g integer GENERATED ALWAYS AS (n + evil.called('{t}')) STORED"],
    lambda t: [f"ALTER TABLE {t} ADD COLUMN v integer GENERATED ALWAYS AS (n + 1) VIRTUAL"],
    lambda t: [f"ALTER TABLE {t} ADD COLUMN w evil.word, ADD COLUMN m evil.mood, ADD COLUMN p evil.pair[]"],
    lambda t: [f"CREATE UNIQUE INDEX ON {t} (n) WHERE n > 0 AND evil.truth('unique of {t}')"],
)


def _tables(hostile: Hostile) -> None:
    pick = hostile.random
    for at in range(pick.randint(3, 6)):
        name = f"evil.t{at}"
        hostile.run(f"CREATE TABLE {name} (id serial, n integer DEFAULT 1, s text)")
        hostile.run(f"INSERT INTO {name} (s) SELECT i::text FROM generate_series(1, 20) i")
        for trap in pick.sample(_TRAPS, k=pick.randint(1, 4)):
            hostile.run(*trap(name))
        if pick.random() < 0.3:
            hostile.run(f"ALTER SEQUENCE {name}_id_seq RESTART WITH 3")
    hostile.run(
        "CREATE TABLE evil.parted (id bigserial, n integer) PARTITION BY RANGE ((n + evil.called('part')))",
        "CREATE TABLE evil.part_1 PARTITION OF evil.parted FOR VALUES FROM (0) TO (90)",
        "INSERT INTO evil.parted (n) VALUES (1), (2)",
    )
    # Large enough to be read in slices.
    if pick.random() < 0.5:
        hostile.run(
            "CREATE TABLE evil.large AS SELECT i AS n, repeat(md5(i::text), 30) AS s FROM generate_series(1, 10000) i",
            "CREATE INDEX ON evil.large (n) WHERE evil.called('large') = 1",
        )


def _others(hostile: Hostile) -> None:
    for statement in (
        "CREATE VIEW evil.v AS SELECT evil.called('v') AS n",
        "CREATE MATERIALIZED VIEW evil.m AS SELECT evil.called('m') AS n WITH NO DATA",
        "CREATE FUNCTION evil.f(n integer DEFAULT evil.called('f')) RETURNS integer LANGUAGE sql AS 'SELECT n'",
        "CREATE FUNCTION evil.b() RETURNS integer LANGUAGE sql BEGIN ATOMIC SELECT evil.called('b'); END",
        "CREATE AGGREGATE evil.count(*) (SFUNC = evil.step, STYPE = int8, INITCOND = '0')",
        "CREATE PUBLICATION p FOR TABLE evil.t0 WHERE (n > 0)",
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO PUBLIC",
        "CREATE TRIGGER g BEFORE INSERT ON evil.t1 FOR EACH ROW WHEN (evil.truth('when')) EXECUTE FUNCTION evil.tg()",
        "SELECT lo_create(0)",
        "COMMENT ON SCHEMA evil IS '$$ '' \\ evil'",
    ):
        hostile.run(statement)


def _settings(hostile: Hostile) -> None:
    """Last of all, so that building goes as written."""
    pick, name = hostile.random, f'"{hostile.database.name}"'
    path = pick.choice(("evil, pg_catalog", "evil, pg_catalog, public", "public, evil, pg_catalog", '"$user", evil'))
    hostile.run(f"ALTER DATABASE {name} SET search_path = {path}")
    for setting in pick.sample(_SETTINGS, k=pick.randint(1, 5)):
        hostile.run(f"ALTER DATABASE {name} SET {setting}")
    hostile.run(f"ALTER ROLE {OWNER} IN DATABASE {name} SET search_path = evil, pg_catalog")


def visit(project: Project) -> Iterator[tuple[str, int, str]]:
    """Run every task that only looks, as the project's role; give its words, exit status and what it said."""
    for words in (
        ["db.doctor"],
        ["db.url", "db.dump", "--checksums", "db.list"],
        ["db.migrations"],
        ["db.verify"],
        ["db.verify", "--latest"],
    ):
        if words[-1] == "--latest":
            dump = min((each.name for each in project.dumps.glob("db_dump_*.sql")), default="none.sql")
            words = ["db.verify", f"--file={dump}", "--json"]  # noqa: PLW2901
        done = project.inv(*words)
        yield " ".join(words), done.returncode, done.stdout + done.stderr


def alarm(hostile: Hostile) -> None:
    """Do as superuser what our tasks must not do, so that the log proves to be heard."""
    with hostile.database.connect() as connection:
        connection.execute("SELECT evil.called('alarm')")


def main() -> int:
    """Visit many."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--major", type=int, default=18)
    asked = parser.parse_args()
    server = Server.launch(asked.major, provision(asked.major))
    failed = 0
    try:
        for seed in range(asked.seed, asked.seed + asked.count):
            with tempfile.TemporaryDirectory() as folder, Databases(server) as databases:
                hostile = build(databases(owner=OWNER), seed)
                project = Project.create(Path(folder) / "project").use(hostile.database)
                offset = server.log.stat().st_size
                ended = [f"{words}: {code}" for words, code, _ in visit(project)]
                called = hostile.heard(offset)
                failed += bool(called)
                sys.stdout.write(f"seed {seed}: {hostile.made} statements; {'; '.join(ended)}; called: {called[:5]}\n")
    finally:
        server.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
