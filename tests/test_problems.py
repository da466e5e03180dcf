"""What is wrong in itself is named with the command that mends it, and the command does."""

import contextlib
import json
from collections.abc import Sequence

import psycopg
import pytest

from tasks.dump.dump import make_dump
from tasks.dump.request import DumpRequest
from tasks.progress import Silence
from tasks.restore.plan import plan_restore
from tasks.restore.request import RestoreRequest
from tasks.restore.restore import restore_dump
from tasks.verify.problems import Problem
from tasks.verify.verify import VerifyRequest, verify_database
from tests.flows import settings_of
from tests.schemas import HISTORY, SHOP
from tests.servers import Server
from tests.support import Database, Databases, Project


def wrong(database: Database, project: Project) -> tuple[Problem, ...]:
    """Look at a database, without any dump or record of it."""
    return verify_database(settings_of(project, database), VerifyRequest(), Silence()).health.problems


def prepare(database: Database, statements: Sequence[str]) -> None:
    """Run statements one by one; those that begin with `FAILS` are expected to fail."""
    with database.connect() as connection:
        for statement in statements:
            fails = statement.startswith("FAILS ")
            with pytest.raises(psycopg.Error) if fails else contextlib.nullcontext():
                connection.execute(statement.removeprefix("FAILS ").encode())


CASES: dict[str, tuple[list[str], str, str, list[str]]] = {
    "invalid index": (
        [
            "CREATE TABLE t AS SELECT i % 5 AS n FROM generate_series(1, 9) i",
            'FAILS CREATE UNIQUE INDEX CONCURRENTLY "Odd ""index" ON t (n)',
        ],
        'index public."Odd ""index" is invalid',
        'REINDEX INDEX CONCURRENTLY public."Odd ""index";',
        ["DELETE FROM t a USING t b WHERE a.n = b.n AND a.ctid < b.ctid"],
    ),
    "what a failed REINDEX left": (
        [
            "CREATE TABLE t AS SELECT 1 AS n FROM generate_series(1, 2)",
            "CREATE INDEX healthy ON t (n)",
            "FAILS CREATE UNIQUE INDEX CONCURRENTLY healthy_ccnew ON t (n)",
        ],
        "index public.healthy_ccnew is invalid",
        "DROP INDEX CONCURRENTLY public.healthy_ccnew;",
        [],
    ),
    "foreign key not valid": (
        [
            "CREATE TABLE parent (id int PRIMARY KEY)",
            "INSERT INTO parent VALUES (1)",
            "CREATE TABLE child AS SELECT i AS of FROM generate_series(1, 2) i",
            'ALTER TABLE child ADD CONSTRAINT "Of it" FOREIGN KEY (of) REFERENCES parent NOT VALID',
        ],
        'constraint "Of it" of public.child was never checked',
        'ALTER TABLE public.child VALIDATE CONSTRAINT "Of it";',
        ["INSERT INTO parent VALUES (2)"],
    ),
    "check not valid": (
        [
            'CREATE SCHEMA "App"',
            'CREATE TABLE "App"."T" AS SELECT 1 AS n',
            'ALTER TABLE "App"."T" ADD CONSTRAINT positive CHECK (n > 0) NOT VALID',
        ],
        'constraint positive of "App"."T" was never checked',
        'ALTER TABLE "App"."T" VALIDATE CONSTRAINT positive;',
        [],
    ),
    "foreign key of a partitioned table not valid": (
        [
            "CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id)",
            "CREATE TABLE part PARTITION OF parted FOR VALUES FROM (1) TO (9)",
            "CREATE TABLE child AS SELECT 1 AS of",
            "INSERT INTO parted VALUES (1)",
            "ALTER TABLE child ADD CONSTRAINT of FOREIGN KEY (of) REFERENCES parted NOT VALID",
        ],
        "constraint of of public.child was never checked",
        "ALTER TABLE public.child VALIDATE CONSTRAINT of;",
        [],
    ),
    "serial": (
        ["CREATE TABLE t (id serial PRIMARY KEY)", "INSERT INTO t SELECT i FROM generate_series(1, 7) i"],
        'sequence "public"."t_id_seq" is at 1, but the largest value of public.t.id is 7',
        """SELECT pg_catalog.setval('"public"."t_id_seq"', 7);""",
        [],
    ),
    "serial at its largest, not used": (
        [
            "CREATE TABLE t (id serial PRIMARY KEY)",
            "INSERT INTO t SELECT i FROM generate_series(1, 7) i",
            "SELECT setval('t_id_seq', 7, false)",
        ],
        "is at 7, but the largest value of public.t.id is 7",
        """SELECT pg_catalog.setval('"public"."t_id_seq"', 7);""",
        [],
    ),
    "identity": (
        [
            'CREATE TABLE "Odd" ("Id" bigint GENERATED ALWAYS AS IDENTITY)',
            'INSERT INTO "Odd" OVERRIDING SYSTEM VALUE VALUES (9007199254740993)',
        ],
        "public.Odd.Id is 9007199254740993",
        """SELECT pg_catalog.setval('"public"."Odd_Id_seq"', 9007199254740993);""",
        [],
    ),
    "a quote in its name": (
        [
            """CREATE SEQUENCE "it's ""s"" \\" """,
            """CREATE TABLE t (id int DEFAULT nextval('"it''s ""s"" \\"'))""",
            "INSERT INTO t VALUES (5)",
        ],
        "is at 1, but the largest value of public.t.id is 5",
        "setval",
        [],
    ),
    "one sequence for two tables": (
        [
            "CREATE SEQUENCE shared",
            "CREATE TABLE b (id int DEFAULT nextval('shared'))",
            "CREATE TABLE a (id bigint DEFAULT nextval('shared'))",
            "INSERT INTO a VALUES (900)",
            "INSERT INTO b VALUES (40)",
        ],
        "public.a.id is 900",
        'SELECT pg_catalog.setval(\'"public"."shared"\', 900);',
        [],
    ),
    "partitioned parent": (
        [
            "CREATE TABLE parted (id serial, k int) PARTITION BY RANGE (k)",
            "CREATE TABLE first PARTITION OF parted FOR VALUES FROM (1) TO (10)",
            "CREATE TABLE second PARTITION OF parted FOR VALUES FROM (10) TO (20)",
            "INSERT INTO parted VALUES (5, 15), (80, 1)",
        ],
        "is 80",
        """SELECT pg_catalog.setval('"public"."parted_id_seq"', 80);""",
        [],
    ),
    "no statistics": (
        ["ANALYZE", "CREATE TABLE t AS SELECT 1 AS n"],
        "table public.t has no statistics",
        "ANALYZE public.t;",
        [],
    ),
    "no statistics of many": (
        [f"CREATE TABLE t{number} AS SELECT 1 AS n" for number in range(5)],
        "5 tables have no statistics (public.t0, public.t1, public.t2 and 2 more)",
        "ANALYZE;",
        [],
    ),
    "an index that was built counts, but gathers no statistics": (
        ["CREATE TABLE t AS SELECT generate_series(1, 99) AS n", "CREATE INDEX ON t (n)"],
        "table public.t has no statistics",
        "ANALYZE public.t;",
        [],
    ),
}


@pytest.mark.majors(14, 17, 18)
@pytest.mark.parametrize(("statements", "what", "remedy", "first"), CASES.values(), ids=CASES.keys())
def test_a_problem_is_named_and_its_command_fixes_it(
    statements: list[str], what: str, remedy: str, first: list[str], database: Database, project: Project
) -> None:
    """One line each; after the command, as it is shown, there is nothing left."""
    prepare(database, statements)
    if "no statistics" not in what:
        database.execute("ANALYZE")

    (problem,) = wrong(database, project)
    prepare(database, [*first, problem.remedy])

    assert what in problem.what
    assert remedy in problem.remedy
    assert wrong(database, project) == ()


NEW_IN_18 = {
    "not null, not valid": (
        ["CREATE TABLE t AS SELECT 1 AS n", "ALTER TABLE t ADD CONSTRAINT never_null NOT NULL n NOT VALID", "ANALYZE"],
        1,
    ),
    "not enforced": (["CREATE TABLE t (n int CONSTRAINT never CHECK (n > 0) NOT ENFORCED)"], 0),
}


@pytest.mark.majors(18)
@pytest.mark.parametrize(("statements", "count"), NEW_IN_18.values(), ids=NEW_IN_18.keys())
def test_constraints_that_came_with_18(
    statements: list[str], count: int, server: Server, database: Database, project: Project
) -> None:
    """NOT NULL may be not valid; what is not enforced can't be validated, and is as somebody wanted it."""
    assert server.major == 18
    prepare(database, statements)

    found = wrong(database, project)
    prepare(database, [problem.remedy for problem in found])

    assert len(found) == count
    assert wrong(database, project) == ()


def test_failed_and_unfinished_migrations_are_named(database: Database, project: Project) -> None:
    """Each with Prisma's own command; what was applied or rolled back is none; the URL's schema is where they lie."""
    database.execute(HISTORY)
    database.execute("ANALYZE")
    none = wrong(database, project)
    database.execute(
        "INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES ('4', 'c', '3_half'), ('5', '', '4_x')"
    )

    found = wrong(database, project)

    assert none == ()
    assert [problem.what for problem in found] == [
        "migration 3_half failed or has not finished",
        "migration 4_x failed or has not finished",
    ]
    assert found[0].remedy.startswith("prisma migrate resolve --rolled-back 3_half ")
    assert "--applied" in found[0].remedy


HEALTHY = {
    "nothing": [],
    "a shop": [SHOP],
    "history": [HISTORY],
    "sequence ahead": ["CREATE TABLE t (id serial)", "SELECT setval('t_id_seq', 100)", "INSERT INTO t VALUES (7)"],
    "sequence used": ["CREATE TABLE t (id serial)", "INSERT INTO t DEFAULT VALUES"],
    "sequence of an empty table": ["CREATE TABLE t (id serial)"],
    "sequence that feeds nothing": ["CREATE SEQUENCE alone", "CREATE TABLE t AS SELECT 10 AS id"],
    "sequence that goes down": [
        "CREATE TABLE t (id int GENERATED BY DEFAULT AS IDENTITY (INCREMENT -1))",
        "INSERT INTO t VALUES (5)",
    ],
    "sequence that goes round": [
        "CREATE SEQUENCE round MAXVALUE 5 CYCLE",
        "CREATE TABLE t (id int DEFAULT nextval('round'))",
        "INSERT INTO t VALUES (5)",
    ],
    "values that the sequence never reaches": [
        "CREATE SEQUENCE low MAXVALUE 100",
        "CREATE TABLE t (id int DEFAULT nextval('low'))",
        "INSERT INTO t VALUES (5000)",
    ],
    "a default that only begins with the sequence": [
        "CREATE SEQUENCE s",
        "CREATE TABLE t (id bigint DEFAULT nextval('s') * 1000 + 7)",
        "INSERT INTO t VALUES (DEFAULT), (DEFAULT)",
    ],
    "a text that holds the sequence": [
        "CREATE SEQUENCE s",
        "CREATE TABLE t (id text DEFAULT 'N' || nextval('s'))",
        "INSERT INTO t VALUES ('N9')",
    ],
    "a table that was emptied": ["CREATE TABLE t AS SELECT 1 AS n", "DELETE FROM t", "ANALYZE t"],
    "a table without columns": ["CREATE TABLE t ()", "INSERT INTO t DEFAULT VALUES"],
    "a temporary table is nobody else's": ["CREATE TEMP TABLE t AS SELECT 1 AS n"],
    "an extension's own": ["CREATE EXTENSION hstore"],
}


@pytest.mark.parametrize("statements", HEALTHY.values(), ids=HEALTHY.keys())
def test_a_healthy_database_has_no_problem(statements: list[str], database: Database, project: Project) -> None:
    """What only looks like one is none."""
    prepare(database, [*statements, "ANALYZE"])

    assert wrong(database, project) == ()


@pytest.mark.majors(14, 17)
def test_a_restored_database_has_no_problem(new_database: Databases, project: Project) -> None:
    """The restore sets the sequences and gathers statistics itself."""
    source, target = new_database(), new_database()
    source.execute(SHOP)
    dumped = make_dump(settings_of(project, source), DumpRequest(), Silence())
    assert dumped is not None
    request = RestoreRequest(str(dumped.path))
    restore_dump(plan_restore(settings_of(project, target), request, Silence()), Silence())

    assert wrong(target, project) == ()


def test_verify_shows_problems_and_ends_in_0(database: Database, project: Project) -> None:
    """For people and for programs; what is wrong in itself is no difference from a dump."""
    prepare(database, CASES["serial"][0])
    database.execute("ANALYZE")

    shown = project.use(database).inv("db.verify")
    document = json.loads(project.inv("db.verify", "--json").stdout)

    assert shown.returncode == 0, shown.stderr
    assert (
        'Problem: sequence "public"."t_id_seq" is at 1, but the largest value of public.t.id is 7. '
        'Fix: SELECT pg_catalog.setval(\'"public"."t_id_seq"\', 7);'
    ) in shown.stdout
    (wrong_in_itself,) = document["problems"]
    assert wrong_in_itself["fix"] == """SELECT pg_catalog.setval('"public"."t_id_seq"', 7);"""
    assert document["same"] is None
