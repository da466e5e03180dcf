"""What a dump touches and did not create is found in its text, and pg_dump's own dumps touch nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tasks.dumpformat.lexer import lex
from tasks.dumpformat.manifest import TouchKind
from tasks.dumpformat.summary import DumpSummary
from tests.flows import pg_dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Server
    from tests.support import Database

ADDS, ROWS, DEFINITION, ANYTHING = TouchKind.ADDS, TouchKind.ROWS, TouchKind.DEFINITION, TouchKind.ANYTHING
Found = tuple[tuple[str, str, TouchKind], ...]
OWN = "CREATE SCHEMA x;\nCREATE TABLE x.t (a int, b text);\n"
PARTED = "CREATE TABLE x.p (a int) PARTITION BY LIST (a);\n"
INTO_PARTED = "COPY x.p (a) FROM stdin;\n1\n\\."
USERS: Found = (("app", "users", ROWS),)
ALTERED: Found = (("app", "users", DEFINITION),)
UNKNOWN: Found = (("", "", ANYTHING),)

TOUCHING: dict[str, tuple[str, Found]] = {
    "table of a query, if it is not there": ("CREATE TABLE IF NOT EXISTS x.n AS SELECT x.f();", UNKNOWN),
    "partition of another's table, if it is not there": (
        "CREATE TABLE IF NOT EXISTS x.n PARTITION OF app.users DEFAULT;",
        UNKNOWN,
    ),
    "foreign partition of another's table": (
        "CREATE FOREIGN TABLE x.n PARTITION OF app.users DEFAULT SERVER s;",
        UNKNOWN,
    ),
    "rows for a foreign partition": (
        f"{PARTED}CREATE FOREIGN TABLE x.n PARTITION OF x.p DEFAULT SERVER s;\n{INTO_PARTED}",
        UNKNOWN,
    ),
    "rows for an attached foreign partition": (
        f"{PARTED}CREATE FOREIGN TABLE x.n ();\nALTER TABLE ONLY x.p ATTACH PARTITION x.n DEFAULT;\n{INTO_PARTED}",
        UNKNOWN,
    ),
    "truncate of foreign children": (
        "CREATE FOREIGN TABLE x.n (a int) SERVER s;\nALTER FOREIGN TABLE x.n INHERIT x.t;\nTRUNCATE x.t;",
        (("x", "t", ROWS),),
    ),
    "second action that inherits": ("ALTER TABLE x.t REPLICA IDENTITY FULL, INHERIT app.users;", ALTERED),
    "insert behind a cast of pg_catalog": (
        "CREATE CAST (pg_catalog.int4 AS x.c) WITH FUNCTION x.f(integer) AS ASSIGNMENT;\nINSERT INTO x.t VALUES (1);",
        UNKNOWN,
    ),
    "insert behind a cast by an odd name": (
        'CREATE CAST (int AS x.c) WITH FUNCTION x."WITHOUT FUNCTION"(int) AS ASSIGNMENT;\nINSERT INTO x.t VALUES (1);',
        UNKNOWN,
    ),
    "setval behind a cast": ("CREATE SEQUENCE x.s;\nSELECT pg_catalog.setval('x.s'::x.d, 1, true);", UNKNOWN),
    "drop of several without a schema": ("DROP PUBLICATION a, b;\nCREATE PUBLICATION a;", UNKNOWN),
    "user mapping that is replaced": (
        "DROP USER MAPPING IF EXISTS FOR bob SERVER s;\nCREATE USER MAPPING FOR bob SERVER s;",
        UNKNOWN,
    ),
    "grant on several servers": ("CREATE SERVER a;\nREVOKE ALL ON FOREIGN SERVER a, b FROM bob;", UNKNOWN),
    "grant on several large objects": (
        "SELECT pg_catalog.lo_create('7');\nREVOKE ALL ON LARGE OBJECT 7, 8 FROM bob;",
        UNKNOWN,
    ),
    "truncate": ("TRUNCATE app.users;", USERS),
    "truncate of several": ("TRUNCATE TABLE ONLY x.t, app.users * RESTART IDENTITY;", USERS),
    "truncate with what refers to it": ("TRUNCATE app.users CASCADE;", UNKNOWN),
    "truncate of a name that is cut off": (f"TRUNCATE app.{'x' * 64};", UNKNOWN),
    "truncate in quotes": ('truncate "app" . "users";', USERS),
    "truncate between comments": ("TRUNCATE/* */app.--\nusers;", USERS),
    "truncate with the database's name": ("TRUNCATE shop.app.users;", UNKNOWN),
    "truncate in Unicode": (r'TRUNCATE U&"\0061pp".users;', USERS),
    "truncate without a schema": ("TRUNCATE users;", UNKNOWN),
    "delete": ("DELETE FROM app.users;", UNKNOWN),
    "delete of some": ("DELETE FROM ONLY app.users WHERE id IN (1, 2) AND (name = 'f(x)');", UNKNOWN),
    "delete by a function": ("DELETE FROM x.t WHERE x.f(a);", UNKNOWN),
    "delete by a query": ("DELETE FROM x.t WHERE a IN (SELECT a FROM app.view);", UNKNOWN),
    "delete returning": ("DELETE FROM x.t RETURNING x.f(a);", UNKNOWN),
    "update": ("UPDATE app.users SET email = NULL;", UNKNOWN),
    "update by a function": ("UPDATE x.t SET a = x.numeric(1);", UNKNOWN),
    "merge": (
        "MERGE INTO app.users u USING (VALUES (1)) AS s(id) ON u.id = s.id WHEN MATCHED THEN DELETE;",
        UNKNOWN,
    ),
    "upsert": (
        "INSERT INTO app.users (id, name) VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name;",
        UNKNOWN,
    ),
    "insert": ("INSERT INTO app.users VALUES (1);", (("app", "users", ADDS),)),
    "insert of a function": ("INSERT INTO x.t VALUES (x.f());", UNKNOWN),
    "insert of a query": ("INSERT INTO x.t SELECT 1;", UNKNOWN),
    "insert behind an escaped string": (
        "INSERT INTO x.t VALUES (1, E''\n'\\'' || x.f() --'\n);",
        UNKNOWN,
    ),
    "insert behind a comment": ("INSERT INTO x.t VALUES (1 --'\n + x.f() --'\n);", UNKNOWN),
    "insert that returns": ("INSERT INTO x.t VALUES (1) RETURNING x.f();", UNKNOWN),
    "copy": ("COPY app.users (id) FROM stdin;\n1\n\\.", (("app", "users", ADDS),)),
    "copy of a program": ("COPY x.t FROM PROGRAM 'id';", UNKNOWN),
    "drop": ("DROP TABLE IF EXISTS app.users CASCADE;", ALTERED),
    "drop of several": ("DROP TABLE x.t, app.users;", ALTERED),
    "drop of its own with what depends on it": ("DROP TABLE x.u CASCADE;", (("x", "u", DEFINITION),)),
    "drop of a function": (
        "DROP FUNCTION app.f(a int, b text), x.f();",
        (("app", "f", DEFINITION), ("x", "f", DEFINITION)),
    ),
    "drop of a collation": ("DROP COLLATION app.c;", (("app", "", DEFINITION),)),
    "drop of a collation in a filled schema": ("DROP COLLATION x.c;", (("x", "", DEFINITION),)),
    "drop of an operator in a filled schema": ("DROP OPERATOR x.### (int, int);", (("x", "", DEFINITION),)),
    "drop of a table, a collation in its place": (
        'DROP TABLE x.u; CREATE COLLATION x.u FROM "C";',
        (("x", "u", DEFINITION),),
    ),
    "drop of a trigger on a table, a function of its name": (
        "DROP TRIGGER a ON x.u; CREATE FUNCTION x.u() RETURNS int LANGUAGE sql AS 'SELECT 1';",
        (("x", "u", DEFINITION),),
    ),
    "drop of a trigger": ("DROP TRIGGER a ON app.users;", ALTERED),
    "drop of a publication": ("DROP PUBLICATION p;", UNKNOWN),
    "drop of what somebody owns": ("DROP OWNED BY app;", UNKNOWN),
    "drop without a schema, made again": (
        "DROP TABLE users; CREATE TABLE users (); DROP TABLE users;",
        UNKNOWN,
    ),
    "alter": ("ALTER TABLE app.users DROP COLUMN email;", ALTERED),
    "alter of an owner": ("ALTER TABLE app.users OWNER TO evil;", ALTERED),
    "attach": ("ALTER TABLE x.t ATTACH PARTITION app.users DEFAULT;", ALTERED),
    "triggers and more": ("ALTER TABLE app.users DISABLE TRIGGER ALL, DROP COLUMN a;", ALTERED),
    "schema renamed": ("ALTER SCHEMA app RENAME TO y;", UNKNOWN),
    "system": ("ALTER SYSTEM RESET ALL;", UNKNOWN),
    "replaced view": ("CREATE OR REPLACE VIEW app.v AS SELECT 1;", (("app", "v", DEFINITION),)),
    "replaced function": (
        "CREATE OR REPLACE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 1';",
        (("app", "f", DEFINITION),),
    ),
    "rule": ("CREATE RULE r AS ON INSERT TO app.users DO INSTEAD NOTHING;", ALTERED),
    "trigger": ("CREATE TRIGGER r BEFORE INSERT ON app.users EXECUTE FUNCTION x.f();", ALTERED),
    "rows behind a rule": (
        "CREATE RULE r AS ON INSERT TO x.t DO ALSO DELETE FROM app.users; INSERT INTO x.t VALUES (1);",
        UNKNOWN,
    ),
    "rows behind a trigger": (
        "CREATE TRIGGER r BEFORE INSERT ON x.t EXECUTE FUNCTION x.f();\nCOPY x.t (a) FROM stdin;\n1\n\\.",
        UNKNOWN,
    ),
    "rows of a view": ("CREATE VIEW x.v AS SELECT 1; DELETE FROM x.v;", UNKNOWN),
    "rows of a renamed view": (
        "CREATE TABLE x.w (); ALTER TABLE x.w RENAME TO o; CREATE VIEW x.v;ALTER VIEW x.v RENAME TO w;TRUNCATE x.w;",
        (*UNKNOWN, *UNKNOWN, ("x", "w", ROWS)),
    ),
    "rows under another search path": (
        "SET search_path = x; CREATE TABLE users (); SET search_path = app; TRUNCATE users;",
        UNKNOWN,
    ),
    "grant": ("GRANT ALL ON TABLE x.t, app.users TO evil;", ALTERED),
    "grant on all": ("GRANT ALL ON ALL TABLES IN SCHEMA app TO evil;", UNKNOWN),
    "grant on a schema": ("GRANT USAGE ON SCHEMA app TO evil;", (("app", "", DEFINITION),)),
    "membership": ("GRANT admin TO evil;", UNKNOWN),
    "sequence": ("SELECT pg_catalog.setval('app.users_id_seq', 1, true);", (("app", "users_id_seq", DEFINITION),)),
    "refresh": ("REFRESH MATERIALIZED VIEW app.m;", (("app", "m", DEFINITION),)),
    "large object": ("SELECT pg_catalog.lo_unlink('7');", UNKNOWN),
    "block": ("DO $$ BEGIN END $$;", UNKNOWN),
    "call": ("CALL x.f();", UNKNOWN),
    "function": ("SELECT x.f();", UNKNOWN),
    "function behind a setting": ("SELECT pg_catalog.set_config('a', x.f(), false);", UNKNOWN),
    "function beside a setting": ("SELECT pg_catalog.set_config('a', 'b', false), x.f();", UNKNOWN),
    "query with": ("WITH a AS (DELETE FROM app.users RETURNING 1) SELECT * FROM a;", UNKNOWN),
    "query in parentheses": ("(SELECT x.f());", UNKNOWN),
    "table of a query": ("CREATE TABLE x.u AS SELECT x.f();", UNKNOWN),
    "temporary table": ("CREATE TEMP TABLE users ();", UNKNOWN),
    "schema with more in it": ("CREATE SCHEMA y GRANT SELECT ON app.users TO evil;", UNKNOWN),
    "role": ("CREATE ROLE evil;", UNKNOWN),
    "unknown": ("VACUUM;", UNKNOWN),
    "name in another encoding": ("SET client_encoding = 'LATIN1';\nTRUNCATE app.\xe9;", UNKNOWN),
}
OWN_ONLY = [
    "TRUNCATE x.t;",
    "INSERT INTO x.t (a, \"b(\") VALUES (1, 'f(x)'), (-2.5e10, E'\\'(') ON CONFLICT DO NOTHING;",
    "INSERT INTO x.t DEFAULT VALUES;",
    "INSERT INTO x.t VALUES (NULL, B'01');",
    "DROP TABLE IF EXISTS x.t;",
    'DROP COLLATION x.c; CREATE COLLATION x.c FROM "C";',
    "DROP OPERATOR x.### (int, int); CREATE OPERATOR x.### (FUNCTION = int4pl, LEFTARG = int, RIGHTARG = int);",
    "DROP TEXT SEARCH DICTIONARY x.d; CREATE TEXT SEARCH DICTIONARY x.d (TEMPLATE = simple);",
    "ALTER TABLE ONLY x.t ALTER COLUMN a DROP DEFAULT;",
    "CREATE TABLE IF NOT EXISTS app.users ();",
    "CREATE UNIQUE INDEX i ON ONLY x.t USING btree (a);",
    "CREATE POLICY p ON x.t TO app USING (true);",
    "GRANT SELECT(a,b) ON TABLE x.t TO app;",
    "DROP PUBLICATION IF EXISTS p; CREATE PUBLICATION p FOR ALL TABLES;",
    "DROP SCHEMA IF EXISTS app; DROP EXTENSION hstore;",
    "SET ROLE app; RESET ALL;",
]


def found(text: str) -> Found:
    """Read a dump, and return what it touches beyond its own."""
    survey = DumpSummary()
    for _ in survey.watch(lex([(OWN + text + "\n").encode("latin-1")])):
        pass
    return tuple((each.schema, each.name, each.kind) for each in survey.outline().touches or ())


@pytest.mark.parametrize("kind", TOUCHING)
def test_what_a_dump_touches_is_found(kind: str) -> None:
    """By name where the text tells, else as anything in the database."""
    text, expected = TOUCHING[kind]

    assert found(text) == expected


@pytest.mark.parametrize("text", OWN_ONLY)
def test_what_a_dump_made_itself_is_its_own(text: str) -> None:
    """Whatever it does to it."""
    assert found(text) == ()


def test_a_touch_is_found_at_its_line() -> None:
    """Counted over rows, comments and statements of several lines; the first one of each kind."""
    survey = DumpSummary()
    text = (
        f"{OWN}-- a\n\nCOPY x.t (a) FROM stdin;\n1\n2\n\\.\n\n/* b\n*/ SELECT\n1;\nDO '';TRUNCATE app.users;\nDO '';\n"
    )

    for _ in survey.watch(lex([text[at : at + 7].encode() for at in range(0, len(text), 7)])):
        pass

    assert [(each.how, each.line) for each in survey.outline().touches or ()] == [
        ("SELECT", 11),
        ("DO", 13),
        ("TRUNCATE", 13),
    ]


def test_many_touches_are_anything() -> None:
    """What is noted of a dump has an end."""
    many = found("".join(f"TRUNCATE app.t{number};\n" for number in range(5000)))

    assert many[-1] == ("", "", ANYTHING)
    assert len(many) == 1001


PLAIN: tuple[list[str], ...] = (
    [],
    ["--clean"],
    ["--clean", "--if-exists"],
    ["--inserts"],
    ["--column-inserts", "--rows-per-insert=7", "--on-conflict-do-nothing"],
    ["--quote-all-identifiers", "--clean"],
    ["--use-set-session-authorization"],
    ["--no-owner", "--no-acl", "--schema-only"],
)


@pytest.mark.parametrize("options", PLAIN, ids=" ".join)
@pytest.mark.majors(14, 15, 17, 18)
def test_dump_of_pg_dump_touches_nothing(
    options: list[str], server: Server, template_of: Callable[[Server, bool], Database]
) -> None:
    """All that it writes is its own, whatever its options."""
    survey = DumpSummary()
    for _ in survey.watch(lex([pg_dump(template_of(server, True), *options)])):
        pass

    # Behind a superuser's event trigger a refresh may run its function; what is granted is an extension's function, and
    # with a base type its functions are dropped. None of them exists in an empty database, and no user mapping does.
    known = {("", "REFRESH"), ("public", "REVOKE"), ("public", "GRANT"), ("app", "DROP TYPE … CASCADE")}
    found = {(each.schema, each.how) for each in survey.outline().touches or () if each.kind is not ADDS}
    assert {each for each in found if not each[1].startswith("DROP USER MAPPING")} <= known
    assert survey.outline().touches is not None


@pytest.mark.parametrize(
    "options", [["--data-only"], ["--data-only", "--disable-triggers"], ["--data-only", "--inserts"]]
)
@pytest.mark.majors(14, 15, 17, 18)
def test_rows_of_pg_dump_are_added(
    options: list[str], server: Server, template_of: Callable[[Server, bool], Database]
) -> None:
    """A dump of rows alone adds them, and does nothing else to the tables."""
    survey = DumpSummary()
    for _ in survey.watch(lex([pg_dump(template_of(server, True), *options)])):
        pass

    added = survey.outline().touches
    assert added
    assert {each.kind for each in added if each.how != "ALTER TABLE"} <= {ADDS, DEFINITION}
    assert ANYTHING not in {each.kind for each in added}
