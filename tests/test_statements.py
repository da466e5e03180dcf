"""What a statement of a dump does, told from its words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.archive.statements import Action, SetVal, classify, setval
from tasks.archive.words import qualified, unquote
from tests.test_lexer import ONE_STATEMENT

CLASSIFIED: dict[bytes, Action] = {
    # Settings
    b"SET statement_timeout = 0;": Action("SET", name="statement_timeout"),
    b"SET default_tablespace = '';": Action("SET", name="default_tablespace"),
    b"set LOCAL Lock_Timeout TO 0;": Action("SET", name="lock_timeout"),
    b"SET SESSION work_mem = 1;": Action("SET", name="work_mem"),
    b'SET "transaction_timeout" = 0;': Action("SET", name="transaction_timeout"),
    b"SET my.setting = 1;": Action("SET", name="my.setting"),
    b"SET SESSION AUTHORIZATION 'owner';": Action("SET SESSION AUTHORIZATION", roles=("owner",)),
    b'SET SESSION AUTHORIZATION "R x";': Action("SET SESSION AUTHORIZATION", roles=("R x",)),
    b"SET SESSION AUTHORIZATION DEFAULT;": Action("SET SESSION AUTHORIZATION"),
    b"RESET SESSION AUTHORIZATION;": Action("SET SESSION AUTHORIZATION"),
    b"RESET work_mem;": Action("RESET", name="work_mem"),
    b"SELECT pg_catalog.set_config('search_path', '', false);": Action("SET", name="search_path"),
    # Transactions
    b"BEGIN;": Action("TRANSACTION", name="BEGIN"),
    b"begin transaction;": Action("TRANSACTION", name="BEGIN"),
    b"START TRANSACTION;": Action("TRANSACTION", name="START"),
    b"COMMIT;": Action("TRANSACTION", name="COMMIT"),
    b"Commit/**/;": Action("TRANSACTION", name="COMMIT"),
    b"COMMIT PREPARED 'x';": Action("TRANSACTION", name="COMMIT"),
    b"END;": Action("TRANSACTION", name="END"),
    b"ROLLBACK TO SAVEPOINT x;": Action("TRANSACTION", name="ROLLBACK"),
    b"ABORT;": Action("TRANSACTION", name="ABORT"),
    b"SAVEPOINT x;": Action("TRANSACTION", name="SAVEPOINT"),
    b"RELEASE x;": Action("TRANSACTION", name="RELEASE"),
    b"PREPARE TRANSACTION 'x';": Action("TRANSACTION", name="PREPARE"),
    b"PREPARE /* x */ TRANSACTION 'x';": Action("TRANSACTION", name="PREPARE"),
    b"PREPARE x AS SELECT 1;": Action("PREPARE"),
    b"SET TRANSACTION READ ONLY;": Action("TRANSACTION", name="SET"),
    b"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;": Action("TRANSACTION", name="SET"),
    b"SET CONSTRAINTS ALL DEFERRED;": Action("TRANSACTION", name="SET"),
    # Objects
    b"CREATE SCHEMA app;": Action("CREATE SCHEMA", "app", "app"),
    b"CREATE SCHEMA IF NOT EXISTS App AUTHORIZATION o;": Action("CREATE SCHEMA", "app", "app", ("o",)),
    b"CREATE SCHEMA AUTHORIZATION o;": Action("CREATE SCHEMA", roles=("o",)),
    b'CREATE TABLE public."User" (\n    id integer\n);': Action("CREATE TABLE", "public", "User"),
    b"CREATE UNLOGGED TABLE app.t ();": Action("CREATE TABLE", "app", "t"),
    b"CREATE TABLE IF NOT EXISTS app.t ();": Action("CREATE TABLE", "app", "t"),
    b'CREATE TABLE "a ""s"".x"."two\nCOMMIT;" ();': Action("CREATE TABLE", 'a "s".x', "two\nCOMMIT;"),
    b"CREATE TABLE t ();": Action("CREATE TABLE", "", "t"),
    b"CREATE FOREIGN TABLE app.far (id integer) SERVER s;": Action("CREATE FOREIGN TABLE", "app", "far"),
    b"CREATE VIEW app.v WITH (x) AS SELECT 1;": Action("CREATE VIEW", "app", "v"),
    b"CREATE MATERIALIZED VIEW app.v AS SELECT 1 WITH NO DATA;": Action("CREATE VIEW", "app", "v"),
    b"CREATE OR REPLACE VIEW app.v AS SELECT 1;": Action("REPLACE VIEW", "app", "v"),
    b"CREATE UNLOGGED SEQUENCE app.s;": Action("CREATE SEQUENCE", "app", "s"),
    b"CREATE TYPE app.mood AS ENUM ('a');": Action("CREATE TYPE", "app", "mood"),
    b"CREATE DOMAIN app.d AS text;": Action("CREATE DOMAIN", "app", "d"),
    b"CREATE OR REPLACE FUNCTION app.f() RETURNS void;": Action("CREATE FUNCTION", "app", "f"),
    b"CREATE PROCEDURE app.p() LANGUAGE sql;": Action("CREATE PROCEDURE", "app", "p"),
    b"CREATE AGGREGATE app.total(integer) ();": Action("CREATE AGGREGATE", "app", "total"),
    b"CREATE OPERATOR app.<<< (\n);": Action("CREATE OPERATOR", "app", "<<<"),
    b"CREATE OPERATOR CLASS app.c FOR TYPE integer;": Action("CREATE OPERATOR CLASS", "app", "c"),
    b'CREATE OPERATOR FAMILY app."f f" USING btree;': Action("CREATE OPERATOR CLASS", "app", "f f"),
    b"CREATE COLLATION app.c (locale = 'C');": Action("CREATE COLLATION", "app", "c"),
    b"CREATE DEFAULT CONVERSION app.c FOR 'A' TO 'B' FROM f;": Action("CREATE CONVERSION", "app", "c"),
    b"CREATE STATISTICS app.st ON a, b FROM t;": Action("CREATE STATISTICS", "app", "st"),
    b"CREATE TEXT SEARCH CONFIGURATION app.e ();": Action("CREATE TEXT SEARCH CONFIGURATION", "app", "e"),
    b"CREATE INDEX i ON app.t (a);": Action("CREATE INDEX", name="i"),
    b"CREATE UNIQUE INDEX i ON app.t (a);": Action("CREATE INDEX", name="i"),
    b"CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA ext;": Action("CREATE EXTENSION", name="hstore"),
    b'CREATE EXTENSION "uuid-ossp";': Action("CREATE EXTENSION", name="uuid-ossp"),
    b"CREATE POLICY p ON app.t FOR SELECT TO reader, PUBLIC USING (x TO y);": Action(
        "CREATE POLICY", name="p", roles=("reader",)
    ),
    b'CREATE POLICY "to x" ON app.t USING ((EXISTS ( SELECT FROM a TO b)));': Action("CREATE POLICY", name="to x"),
    b"CREATE USER MAPPING FOR owner SERVER s OPTIONS (x 'y');": Action("CREATE USER MAPPING", roles=("owner",)),
    b"CREATE USER MAPPING FOR PUBLIC SERVER s;": Action("CREATE USER MAPPING"),
    b"CREATE DATABASE d WITH TEMPLATE = template0;": Action("CREATE DATABASE", name="d"),
    b"CREATE PUBLICATION p FOR ALL TABLES;": Action("CREATE PUBLICATION", name="p"),
    b"DROP SCHEMA IF EXISTS app;": Action("DROP SCHEMA", name="app"),
    b"DROP EXTENSION IF EXISTS hstore;": Action("DROP EXTENSION", name="hstore"),
    b"DROP DATABASE d;": Action("DROP DATABASE", name="d"),
    b"DROP TABLE IF EXISTS app.t;": Action("DROP"),
    # Owners, privileges
    b"ALTER TABLE app.t OWNER TO owner;": Action("OWNER", "app", "t", roles=("owner",)),
    b'ALTER TABLE app.owner OWNER TO "R ""x"", y";': Action("OWNER", "app", "owner", roles=('R "x", y',)),
    b'ALTER FUNCTION app."odd OWNER TO x"(a integer) OWNER TO reader;': Action("OWNER", roles=("reader",)),
    b"ALTER OPERATOR app.<<< (a, b) OWNER TO reader;": Action("OWNER", roles=("reader",)),
    b"ALTER LARGE OBJECT 1 OWNER TO reader;": Action("OWNER", roles=("reader",)),
    b"ALTER SEQUENCE app.s OWNED BY app.t.id;": Action("ALTER"),
    b"ALTER DATABASE d SET x TO 'y';": Action("ALTER DATABASE", name="d"),
    b"ALTER TABLE ONLY app.t ADD CONSTRAINT k PRIMARY KEY (id);": Action("ALTER", name="INDEX"),
    b"ALTER TABLE ONLY app.t\n    ADD CONSTRAINT k UNIQUE (id);": Action("ALTER", name="INDEX"),
    b'ALTER TABLE ONLY app.add ADD CONSTRAINT "k ""; PRIMARY" FOREIGN KEY (a) REFERENCES b(c);': Action(
        "ALTER", name="CONSTRAINT"
    ),
    b"ALTER TABLE app.t ALTER COLUMN a ADD GENERATED ALWAYS AS IDENTITY ();": Action("ALTER", name="IDENTITY"),
    b"ALTER TABLE app.t ALTER COLUMN a SET DEFAULT 'OWNER TO x';": Action("ALTER"),
    b"GRANT SELECT(id,email),UPDATE(mood) ON TABLE app.t TO reader;": Action("GRANT", "app", "t", roles=("reader",)),
    b'GRANT ALL ON TABLE app."TO x" TO a,PUBLIC,"b c" WITH GRANT OPTION;': Action("GRANT", "app", "TO x", ("a", "b c")),
    b"GRANT SELECT ON TABLE app.t, app.u TO reader;": Action("GRANT", roles=("reader",)),
    b"GRANT USAGE ON SEQUENCE app.s TO reader;": Action("GRANT", "app", "s", roles=("reader",)),
    b"REVOKE GRANT OPTION FOR ALL ON FUNCTION app.f(a text) FROM PUBLIC;": Action("GRANT"),
    b"GRANT USAGE ON SCHEMA app TO GROUP reader;": Action("GRANT ON SCHEMA", name="app", roles=("reader",)),
    b"ALTER DEFAULT PRIVILEGES FOR ROLE o IN SCHEMA s GRANT SELECT ON TABLES TO r;": Action(
        "DEFAULT PRIVILEGES", roles=("o", "r")
    ),
    b"ALTER DEFAULT PRIVILEGES FOR ROLE o REVOKE ALL ON FUNCTIONS FROM PUBLIC;": Action(
        "DEFAULT PRIVILEGES", roles=("o",)
    ),
    # Comments
    b"COMMENT ON EXTENSION hstore IS 'x';": Action("COMMENT ON EXTENSION", name="hstore"),
    b"COMMENT ON SCHEMA public IS 'x';": Action("COMMENT ON SCHEMA", name="public"),
    b"COMMENT ON DATABASE d IS 'x';": Action("COMMENT ON DATABASE", name="d"),
    b"COMMENT ON TABLE app.t IS 'COMMIT;';": Action("COMMENT ON TABLE"),
    # Data
    b"COPY app.t (a) FROM stdin;": Action("COPY"),
    b"INSERT INTO app.t VALUES (1, 'COMMIT;');": Action("INSERT", "app", "t"),
    b'INSERT INTO "S.x"."a ""b"".c" ("a") VALUES (1);': Action("INSERT", "S.x", 'a "b".c'),
    b"INSERT INTO app.no_columns DEFAULT VALUES;": Action("INSERT", "app", "no_columns"),
    b"SELECT pg_catalog.setval('app.s', 1, false);": Action("SETVAL"),
    b"SELECT pg_catalog.lo_create('900001');": Action("LARGE OBJECT", name="lo_create"),
    b"SELECT pg_catalog.lowrite(0, '\\x00');": Action("LARGE OBJECT", name="lowrite"),
    b"SELECT CASE WHEN EXISTS(SELECT 1 FROM pg_catalog.pg_largeobject_metadata WHERE oid = '1') THEN "
    b"pg_catalog.lo_unlink('1') END;": Action("LARGE OBJECT", name="lo_unlink"),
    b"REFRESH MATERIALIZED VIEW app.v;": Action("REFRESH"),
    b"DO $$ BEGIN COMMIT; END $$;": Action("DO"),
    b";": Action(""),
}


@pytest.mark.parametrize(("text", "action"), CLASSIFIED.items(), ids=[text[:50].decode() for text in CLASSIFIED])
def test_a_statement_is_told_by_its_words(text: bytes, action: Action) -> None:
    """What decides whether a restore sends a statement is read from its words, never from its literals."""
    assert classify(text) == action


@pytest.mark.parametrize("text", ONE_STATEMENT.values(), ids=ONE_STATEMENT.keys())
def test_no_statement_is_too_odd(text: bytes) -> None:
    """Every construct that the lexer lets pass is classified without an error."""
    assert classify(text).verb == classify(text.replace(b"\n", b"  ")).verb


SETVALS: dict[bytes, SetVal | None] = {
    b"SELECT pg_catalog.setval('public.s', 999, true);": SetVal("public", "s", 999, is_called=True),
    b"SELECT pg_catalog.setval('app.not_called', 1000, false);": SetVal("app", "not_called", 1000, is_called=False),
    b"SELECT pg_catalog.setval('app.\"Down; sequence\"', -4, true);": SetVal("app", "Down; sequence", -4, True),
    b'SELECT pg_catalog.setval(\'app."it\'\'s ""x"".y"\', 1);': SetVal("app", 'it\'s "x".y', 1, True),
    b'SELECT pg_catalog.setval(\'"S.x"."\xc3\x9c\nb\\c"\', 7, false);': SetVal("S.x", "Ü\nb\\c", 7, False),
    b"SELECT setval('s'::regclass, 9223372036854775807, true);": SetVal("", "s", 9223372036854775807, True),
    b"SELECT pg_catalog.setval('public.s', 1, true), 2;": None,
    b"SELECT pg_catalog.setval('public.s', (SELECT 1), true);": None,
    b"SELECT 'pg_catalog.setval(''public.s'', 1, true);';": None,
    b"COMMENT ON TABLE t IS 'SELECT setval(';": None,
}


@pytest.mark.parametrize(("text", "value"), SETVALS.items(), ids=[repr(text[7:60]) for text in SETVALS])
def test_a_setval_gives_the_sequences_value(text: bytes, value: SetVal | None) -> None:
    """Sequences are in no snapshot: their values are those of the dump's own `setval` lines."""
    assert setval(text) == value


QUALIFIED: dict[bytes, tuple[str, str]] = {
    b"public.t": ("public", "t"),
    b"t": ("", "t"),
    b"Public.T": ("public", "t"),
    b'"Public"."T"': ("Public", "T"),
    b'"a.b"."c""d"': ("a.b", 'c"d'),
    b'public."two\nlines;"': ("public", "two\nlines;"),
    b'"a" . "b"': ("a", "b"),
    b"a . b": ("a", "b"),
    b'"\xff"."\xc3\xa9"': ("\udcff", "é"),
    b"\xc3\xa9A": ("", "éa"),
}


@pytest.mark.parametrize(("text", "names"), QUALIFIED.items(), ids=[repr(text) for text in QUALIFIED])
def test_a_name_is_read_as_the_server_reads_it(text: bytes, names: tuple[str, str]) -> None:
    """Without quotes a name is in lower case, with quotes it is as it stands."""
    assert qualified(text) == names


@given(schema=st.text(min_size=1, max_size=8), name=st.text(min_size=1, max_size=8))
def test_any_name_comes_back(schema: str, name: str) -> None:
    """A name that is quoted as the server quotes it is read as it was."""
    first, second = (('"' + part.replace('"', '""') + '"').encode() for part in (schema, name))

    assert unquote(second) == name
    assert qualified(first + b"." + second) == (schema, name)
    assert classify(b"CREATE TABLE " + first + b"." + second + b" ();") == Action("CREATE TABLE", schema, name)
    assert classify(b"INSERT INTO " + first + b"." + second + b" VALUES (1);") == Action("INSERT", schema, name)
