"""What a statement of a dump does, told from its words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dumpformat.manifest import SequenceValue
from tasks.dumpformat.statements import StatementKind, classify_statement, parse_setval
from tasks.dumpformat.tokens import split_qualified, unquote_name
from tests.dump_texts import ONE_STATEMENT

CLASSIFIED: dict[bytes, StatementKind] = {
    # Settings
    b"SET statement_timeout = 0;": StatementKind("SET", name="statement_timeout"),
    b"SET default_tablespace = '';": StatementKind("SET", name="default_tablespace"),
    b"set LOCAL Lock_Timeout TO 0;": StatementKind("SET", name="lock_timeout"),
    b"SET SESSION work_mem = 1;": StatementKind("SET", name="work_mem"),
    b'SET "transaction_timeout" = 0;': StatementKind("SET", name="transaction_timeout"),
    b"SET my.setting = 1;": StatementKind("SET", name="my.setting"),
    b"SET SESSION AUTHORIZATION 'owner';": StatementKind("SET SESSION AUTHORIZATION", roles=("owner",)),
    b'SET SESSION AUTHORIZATION "R x";': StatementKind("SET SESSION AUTHORIZATION", roles=("R x",)),
    b"SET SESSION AUTHORIZATION DEFAULT;": StatementKind("SET SESSION AUTHORIZATION"),
    b"RESET SESSION AUTHORIZATION;": StatementKind("SET SESSION AUTHORIZATION"),
    b"RESET work_mem;": StatementKind("RESET", name="work_mem"),
    b"SELECT pg_catalog.set_config('search_path', '', false);": StatementKind("SET", name="search_path"),
    # Transactions
    b"BEGIN;": StatementKind("TRANSACTION", name="BEGIN"),
    b"begin transaction;": StatementKind("TRANSACTION", name="BEGIN"),
    b"START TRANSACTION;": StatementKind("TRANSACTION", name="START"),
    b"COMMIT;": StatementKind("TRANSACTION", name="COMMIT"),
    b"Commit/**/;": StatementKind("TRANSACTION", name="COMMIT"),
    b"COMMIT PREPARED 'x';": StatementKind("TRANSACTION", name="COMMIT"),
    b"END;": StatementKind("TRANSACTION", name="END"),
    b"ROLLBACK TO SAVEPOINT x;": StatementKind("TRANSACTION", name="ROLLBACK"),
    b"ABORT;": StatementKind("TRANSACTION", name="ABORT"),
    b"SAVEPOINT x;": StatementKind("TRANSACTION", name="SAVEPOINT"),
    b"RELEASE x;": StatementKind("TRANSACTION", name="RELEASE"),
    b"PREPARE TRANSACTION 'x';": StatementKind("TRANSACTION", name="PREPARE"),
    b"PREPARE /* x */ TRANSACTION 'x';": StatementKind("TRANSACTION", name="PREPARE"),
    b"PREPARE x AS SELECT 1;": StatementKind("PREPARE"),
    b"SET TRANSACTION READ ONLY;": StatementKind("TRANSACTION", name="SET"),
    b"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;": StatementKind("TRANSACTION", name="SET"),
    b"SET CONSTRAINTS ALL DEFERRED;": StatementKind("TRANSACTION", name="SET"),
    # Objects
    b"CREATE SCHEMA app;": StatementKind("CREATE SCHEMA", "app", "app"),
    b"CREATE SCHEMA IF NOT EXISTS App AUTHORIZATION o;": StatementKind("CREATE SCHEMA", "app", "app", ("o",)),
    b"CREATE SCHEMA AUTHORIZATION o;": StatementKind("CREATE SCHEMA", roles=("o",)),
    b'CREATE TABLE public."User" (\n    id integer\n);': StatementKind("CREATE TABLE", "public", "User"),
    b"CREATE UNLOGGED TABLE app.t ();": StatementKind("CREATE TABLE", "app", "t"),
    b"CREATE TABLE IF NOT EXISTS app.t ();": StatementKind("CREATE TABLE", "app", "t"),
    b'CREATE TABLE "a ""s"".x"."two\nCOMMIT;" ();': StatementKind("CREATE TABLE", 'a "s".x', "two\nCOMMIT;"),
    b"CREATE TABLE t ();": StatementKind("CREATE TABLE", "", "t"),
    b"CREATE FOREIGN TABLE app.far (id integer) SERVER s;": StatementKind("CREATE FOREIGN TABLE", "app", "far"),
    b"CREATE VIEW app.v WITH (x) AS SELECT 1;": StatementKind("CREATE VIEW", "app", "v"),
    b"CREATE MATERIALIZED VIEW app.v AS SELECT 1 WITH NO DATA;": StatementKind("CREATE VIEW", "app", "v"),
    b"CREATE OR REPLACE VIEW app.v AS SELECT 1;": StatementKind("REPLACE VIEW", "app", "v"),
    b"CREATE UNLOGGED SEQUENCE app.s;": StatementKind("CREATE SEQUENCE", "app", "s"),
    b"CREATE TYPE app.mood AS ENUM ('a');": StatementKind("CREATE TYPE", "app", "mood"),
    b"CREATE DOMAIN app.d AS text;": StatementKind("CREATE DOMAIN", "app", "d"),
    b"CREATE OR REPLACE FUNCTION app.f() RETURNS void;": StatementKind("CREATE FUNCTION", "app", "f"),
    b"CREATE PROCEDURE app.p() LANGUAGE sql;": StatementKind("CREATE PROCEDURE", "app", "p"),
    b"CREATE AGGREGATE app.total(integer) ();": StatementKind("CREATE AGGREGATE", "app", "total"),
    b"CREATE OPERATOR app.<<< (\n);": StatementKind("CREATE OPERATOR", "app", "<<<"),
    b"CREATE OPERATOR CLASS app.c FOR TYPE integer;": StatementKind("CREATE OPERATOR CLASS", "app", "c"),
    b'CREATE OPERATOR FAMILY app."f f" USING btree;': StatementKind("CREATE OPERATOR CLASS", "app", "f f"),
    b"CREATE COLLATION app.c (locale = 'C');": StatementKind("CREATE COLLATION", "app", "c"),
    b"CREATE DEFAULT CONVERSION app.c FOR 'A' TO 'B' FROM f;": StatementKind("CREATE CONVERSION", "app", "c"),
    b"CREATE STATISTICS app.st ON a, b FROM t;": StatementKind("CREATE STATISTICS", "app", "st"),
    b"CREATE TEXT SEARCH CONFIGURATION app.e ();": StatementKind("CREATE TEXT SEARCH CONFIGURATION", "app", "e"),
    b"CREATE INDEX i ON app.t (a);": StatementKind("CREATE INDEX", name="i"),
    b"CREATE UNIQUE INDEX i ON app.t (a);": StatementKind("CREATE INDEX", name="i"),
    b"CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA ext;": StatementKind("CREATE EXTENSION", name="hstore"),
    b'CREATE EXTENSION "uuid-ossp";': StatementKind("CREATE EXTENSION", name="uuid-ossp"),
    b"CREATE POLICY p ON app.t FOR SELECT TO reader, PUBLIC USING (x TO y);": StatementKind(
        "CREATE POLICY", name="p", roles=("reader",)
    ),
    b'CREATE POLICY "to x" ON app.t USING ((EXISTS ( SELECT FROM a TO b)));': StatementKind(
        "CREATE POLICY", name="to x"
    ),
    b"CREATE USER MAPPING FOR owner SERVER s OPTIONS (x 'y');": StatementKind("CREATE USER MAPPING", roles=("owner",)),
    b"CREATE USER MAPPING FOR PUBLIC SERVER s;": StatementKind("CREATE USER MAPPING"),
    b"CREATE DATABASE d WITH TEMPLATE = template0;": StatementKind("CREATE DATABASE", name="d"),
    b"CREATE PUBLICATION p FOR ALL TABLES;": StatementKind("CREATE PUBLICATION", name="p"),
    b"DROP SCHEMA IF EXISTS app;": StatementKind("DROP SCHEMA", name="app"),
    b"DROP EXTENSION IF EXISTS hstore;": StatementKind("DROP EXTENSION", name="hstore"),
    b"DROP DATABASE d;": StatementKind("DROP DATABASE", name="d"),
    b"DROP TABLE IF EXISTS app.t;": StatementKind("DROP"),
    # Owners, privileges
    b"ALTER TABLE app.t OWNER TO owner;": StatementKind("OWNER", "app", "t", roles=("owner",)),
    b'ALTER TABLE app.owner OWNER TO "R ""x"", y";': StatementKind("OWNER", "app", "owner", roles=('R "x", y',)),
    b'ALTER FUNCTION app."odd OWNER TO x"(a integer) OWNER TO reader;': StatementKind("OWNER", roles=("reader",)),
    b"ALTER OPERATOR app.<<< (a, b) OWNER TO reader;": StatementKind("OWNER", roles=("reader",)),
    b"ALTER LARGE OBJECT 1 OWNER TO reader;": StatementKind("OWNER", roles=("reader",)),
    b"ALTER SEQUENCE app.s OWNED BY app.t.id;": StatementKind("ALTER"),
    b"ALTER DATABASE d SET x TO 'y';": StatementKind("ALTER DATABASE", name="d"),
    b"ALTER TABLE ONLY app.t ADD CONSTRAINT k PRIMARY KEY (id);": StatementKind("ALTER", name="INDEX"),
    b"ALTER TABLE ONLY app.t\n    ADD CONSTRAINT k UNIQUE (id);": StatementKind("ALTER", name="INDEX"),
    b'ALTER TABLE ONLY app.add ADD CONSTRAINT "k ""; PRIMARY" FOREIGN KEY (a) REFERENCES b(c);': StatementKind(
        "ALTER", name="CONSTRAINT"
    ),
    b"ALTER TABLE app.t ALTER COLUMN a ADD GENERATED ALWAYS AS IDENTITY ();": StatementKind("ALTER", name="IDENTITY"),
    b"ALTER TABLE app.t ALTER COLUMN a SET DEFAULT 'OWNER TO x';": StatementKind("ALTER"),
    b"GRANT SELECT(id,email),UPDATE(mood) ON TABLE app.t TO reader;": StatementKind(
        "GRANT", "app", "t", roles=("reader",)
    ),
    b'GRANT ALL ON TABLE app."TO x" TO a,PUBLIC,"b c" WITH GRANT OPTION;': StatementKind(
        "GRANT", "app", "TO x", ("a", "b c")
    ),
    b"GRANT SELECT ON TABLE app.t, app.u TO reader;": StatementKind("GRANT", roles=("reader",)),
    b"GRANT USAGE ON SEQUENCE app.s TO reader;": StatementKind("GRANT", "app", "s", roles=("reader",)),
    b"REVOKE GRANT OPTION FOR ALL ON FUNCTION app.f(a text) FROM PUBLIC;": StatementKind("GRANT"),
    b"GRANT USAGE ON SCHEMA app TO GROUP reader;": StatementKind("GRANT ON SCHEMA", name="app", roles=("reader",)),
    b"ALTER DEFAULT PRIVILEGES FOR ROLE o IN SCHEMA s GRANT SELECT ON TABLES TO r;": StatementKind(
        "DEFAULT PRIVILEGES", roles=("o", "r")
    ),
    b"ALTER DEFAULT PRIVILEGES FOR ROLE o REVOKE ALL ON FUNCTIONS FROM PUBLIC;": StatementKind(
        "DEFAULT PRIVILEGES", roles=("o",)
    ),
    # Comments
    b"COMMENT ON EXTENSION hstore IS 'x';": StatementKind("COMMENT ON EXTENSION", name="hstore"),
    b"COMMENT ON SCHEMA public IS 'x';": StatementKind("COMMENT ON SCHEMA", name="public"),
    b"COMMENT ON DATABASE d IS 'x';": StatementKind("COMMENT ON DATABASE", name="d"),
    b"COMMENT ON TABLE app.t IS 'COMMIT;';": StatementKind("COMMENT ON TABLE"),
    # Data
    b"COPY app.t (a) FROM stdin;": StatementKind("COPY"),
    b"INSERT INTO app.t VALUES (1, 'COMMIT;');": StatementKind("INSERT", "app", "t"),
    b'INSERT INTO "S.x"."a ""b"".c" ("a") VALUES (1);': StatementKind("INSERT", "S.x", 'a "b".c'),
    b"INSERT INTO app.no_columns DEFAULT VALUES;": StatementKind("INSERT", "app", "no_columns"),
    b"SELECT pg_catalog.setval('app.s', 1, false);": StatementKind("SETVAL"),
    b"SELECT pg_catalog.lo_create('900001');": StatementKind("LARGE OBJECT", name="lo_create"),
    b"SELECT pg_catalog.lowrite(0, '\\x00');": StatementKind("LARGE OBJECT", name="lowrite"),
    b"SELECT CASE WHEN EXISTS(SELECT 1 FROM pg_catalog.pg_largeobject_metadata WHERE oid = '1') THEN "
    b"pg_catalog.lo_unlink('1') END;": StatementKind("LARGE OBJECT", name="lo_unlink"),
    b"REFRESH MATERIALIZED VIEW app.v;": StatementKind("REFRESH"),
    b"DO $$ BEGIN COMMIT; END $$;": StatementKind("DO"),
    b";": StatementKind(""),
}


@pytest.mark.parametrize(("text", "kind"), CLASSIFIED.items(), ids=[text[:50].decode() for text in CLASSIFIED])
def test_a_statement_is_told_by_its_words(text: bytes, kind: StatementKind) -> None:
    """What decides whether a restore sends a statement is read from its words, never from its literals."""
    assert classify_statement(text) == kind


@pytest.mark.parametrize("text", ONE_STATEMENT.values(), ids=ONE_STATEMENT.keys())
def test_no_statement_is_too_odd(text: bytes) -> None:
    """Every construct that the lexer lets pass is classified without an error."""
    assert classify_statement(text).verb == classify_statement(text.replace(b"\n", b"  ")).verb


SETVALS: dict[bytes, SequenceValue | None] = {
    b"SELECT pg_catalog.setval('public.s', 999, true);": SequenceValue("public", "s", 999, is_called=True),
    b"SELECT pg_catalog.setval('app.not_called', 1000, false);": SequenceValue(
        "app", "not_called", 1000, is_called=False
    ),
    b"SELECT pg_catalog.setval('app.\"Down; sequence\"', -4, true);": SequenceValue("app", "Down; sequence", -4, True),
    b'SELECT pg_catalog.setval(\'app."it\'\'s ""x"".y"\', 1);': SequenceValue("app", 'it\'s "x".y', 1, True),
    b'SELECT pg_catalog.setval(\'"S.x"."\xc3\x9c\nb\\c"\', 7, false);': SequenceValue("S.x", "Ü\nb\\c", 7, False),
    b"SELECT setval('s'::regclass, 9223372036854775807, true);": SequenceValue("", "s", 9223372036854775807, True),
    b"SELECT pg_catalog.setval('public.s', 1, true), 2;": None,
    b"SELECT pg_catalog.setval('public.s', (SELECT 1), true);": None,
    b"SELECT 'pg_catalog.setval(''public.s'', 1, true);';": None,
    b"COMMENT ON TABLE t IS 'SELECT setval(';": None,
}


@pytest.mark.parametrize(("text", "value"), SETVALS.items(), ids=[repr(text[7:60]) for text in SETVALS])
def test_a_setval_gives_the_sequences_value(text: bytes, value: SequenceValue | None) -> None:
    """Sequences are in no snapshot: their values are those of the dump's own `setval` lines."""
    assert parse_setval(text) == value


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
    assert split_qualified(text) == names


# To ask for what UTF-8 can write would cost seconds.
_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(schema=_names, name=_names)
def test_any_name_comes_back(schema: str, name: str) -> None:
    """A name that is quoted as the server quotes it is read as it was."""
    first, second = (('"' + part.replace('"', '""') + '"').encode() for part in (schema, name))

    assert unquote_name(second) == name
    assert split_qualified(first + b"." + second) == (schema, name)
    assert classify_statement(b"CREATE TABLE " + first + b"." + second + b" ();") == StatementKind(
        "CREATE TABLE", schema, name
    )
    assert classify_statement(b"INSERT INTO " + first + b"." + second + b" VALUES (1);") == StatementKind(
        "INSERT", schema, name
    )
