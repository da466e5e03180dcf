"""What a dump does beyond filling a database is found, however it is written, and nothing else is taken for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tasks.archive.lexer import Statement, lex
from tasks.archive.powers import Powers, power
from tasks.archive.statements import classify
from tasks.archive.survey import Survey

if TYPE_CHECKING:
    from tests.support import Database

HOSTILE: dict[str, tuple[str, str]] = {
    "program": ("COPY public.t FROM PROGRAM 'id';", "COPY … PROGRAM"),
    "program to": ("COPY public.t TO PROGRAM 'sh';", "COPY … PROGRAM"),
    "program between comments": ("COPY/**/t FROM /* /* ; */ */ PrOgRaM/**/ 'id';", "COPY … PROGRAM"),
    "program over lines": ("copy\n--;\nt\nfrom\nprogram\n'id'\n;", "COPY … PROGRAM"),
    "program of a query": ("COPY (SELECT 1) TO PROGRAM 'sh';", "COPY … PROGRAM"),
    "file read": ("COPY public.t FROM '/etc/passwd';", "COPY with a file"),
    "file written": ("COPY public.t TO '/tmp/x' (FORMAT csv);", "COPY with a file"),
    "alter system": ("ALTER SYSTEM SET archive_command = 'id';", "ALTER SYSTEM"),
    "alter system in disguise": ("alter/**/sYsTeM reset all;", "ALTER SYSTEM"),
    "function in C": ("CREATE FUNCTION public.f() RETURNS int LANGUAGE c AS 'lib', 'f';", "untrusted language"),
    "function in quoted C": ("CREATE FUNCTION public.f() RETURNS int AS 'x' LANGUAGE 'C';", "untrusted language"),
    "function in escaped C": (r"CREATE FUNCTION public.f() RETURNS int LANGUAGE E'\143' AS 'x';", "untrusted language"),
    "function in C, as Unicode": (
        r"""CREATE FUNCTION public.f() RETURNS int LANGUAGE U&"\0063" AS 'x';""",
        "Unicode escapes",
    ),
    "function in C, as dollars": (
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE $$c$$ AS 'x';",
        "untrusted language",
    ),
    "internal": ("CREATE FUNCTION public.f() RETURNS int LANGUAGE internal AS 'pg_ls_dir';", "untrusted language"),
    "procedure in Python": ("CREATE OR REPLACE PROCEDURE public.f() LANGUAGE plpython3u AS '';", "untrusted language"),
    "function in Perl": ('CREATE FUNCTION public.f() RETURNS int LANGUAGE "plperlu" AS $$1$$;', "untrusted language"),
    "language behind a body": (
        "CREATE FUNCTION public.f() RETURNS int AS $a$ LANGUAGE sql ' $a$ LANGUAGE c;",
        "untrusted language",
    ),
    "language behind an E string": (
        r"CREATE FUNCTION public.f(a text DEFAULT E'\' LANGUAGE sql ') RETURNS int LANGUAGE c AS 'x';",
        "untrusted language",
    ),
    "language behind a nested comment": (
        "CREATE FUNCTION public.f() RETURNS int /* /* */ LANGUAGE sql */ LANGUAGE c AS 'x';",
        "untrusted language",
    ),
    "language behind a parameter's name": (
        "CREATE FUNCTION public.language(language text) RETURNS int LANGUAGE c AS 'x';",
        "untrusted language",
    ),
    "no language": ("CREATE FUNCTION public.f() RETURNS int AS 'x';", "without its language"),
    "language": ("CREATE OR REPLACE TRUSTED PROCEDURAL LANGUAGE evil HANDLER public.f;", "CREATE LANGUAGE"),
    "untrusted extension": ("CREATE EXTENSION IF NOT EXISTS plpython3u WITH SCHEMA pg_catalog;", "CREATE EXTENSION"),
    "do": ("DO $$BEGIN EXECUTE 'ALTER SYSTEM RESET ALL'; END$$;", "DO statement"),
    "do in disguise": ("dO/**/LANGUAGE/**/plpgsql 'BEGIN END';", "DO statement"),
    "call": ("CALL public.f();", "CALL statement"),
    "load": ("LOAD '/tmp/x.so';", "LOAD statement"),
    "replication role": ("SET session_replication_role = replica;", "SET session_replication_role"),
    "replication role in disguise": ('sEt/**/LOCAL "Session_Replication_Role" TO replica;', "session_replication_role"),
    "replication role by a function": (
        "SELECT pg_catalog.set_config('session_replication_role', 'replica', false);",
        "SET session_replication_role",
    ),
    "role": ("SET ROLE postgres;", "SET role"),
    "system tables": ("SET allow_system_table_mods = on;", "SET allow_system_table_mods"),
    "other strings": ("SET standard_conforming_strings = off;", "SET standard_conforming_strings"),
    "other strings by default": ("RESET standard_conforming_strings;", "RESET standard_conforming_strings"),
    "encoding in disguise": ("SET/**/client_encoding = 'UTF8';", "SET client_encoding"),
    "server": ("CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw;", "CREATE SERVER"),
    "wrapper": ("CREATE FOREIGN DATA WRAPPER w HANDLER public.f;", "CREATE FOREIGN DATA WRAPPER"),
    "user mapping": ("CREATE USER MAPPING FOR public SERVER s OPTIONS (password 'x');", "CREATE USER MAPPING"),
    "foreign table": ("CREATE FOREIGN TABLE public.t () SERVER s OPTIONS (program 'id');", "CREATE FOREIGN TABLE"),
    "foreign schema": ("IMPORT FOREIGN SCHEMA x FROM SERVER s INTO public;", "IMPORT statement"),
    "subscription": ("CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p;", "CREATE SUBSCRIPTION"),
    "altered subscription": ("ALTER SUBSCRIPTION s CONNECTION 'host=x';", "ALTER SUBSCRIPTION"),
    "event trigger": ("CREATE EVENT TRIGGER e ON sql_drop EXECUTE FUNCTION public.f();", "CREATE EVENT TRIGGER"),
    "new role": ("CREATE ROLE evil SUPERUSER;", "CREATE ROLE"),
    "new user": ("CREATE USER evil SUPERUSER;", "CREATE USER"),
    "new group": ("CREATE GROUP evil;", "CREATE GROUP"),
    "altered role": ("ALTER ROLE app SUPERUSER;", "ALTER ROLE"),
    "altered user": ("ALTER USER app SUPERUSER;", "ALTER USER"),
    "dropped role": ("DROP ROLE app;", "DROP ROLE"),
    "dropped user": ("DROP USER IF EXISTS app;", "DROP USER"),
    "dropped owned": ("DROP OWNED BY app;", "DROP OWNED"),
    "reassigned": ("REASSIGN OWNED BY app TO evil;", "REASSIGN statement"),
    "membership": ("GRANT pg_execute_server_program TO app;", "GRANT of a role"),
    "membership taken": ("REVOKE app FROM x;", "REVOKE of a role"),
    "parameter": ("GRANT ALTER SYSTEM ON PARAMETER archive_command TO app;", "GRANT on"),
    "system function": ("GRANT ALL ON FUNCTION pg_catalog.pg_read_file(text) TO app;", "GRANT on"),
    "system function unqualified": ("GRANT ALL ON FUNCTION pg_read_file(text) TO app;", "GRANT on"),
    "system function behind ours": ("GRANT ALL ON FUNCTION public.f(int, int), pg_read_file(text) TO app;", "GRANT on"),
    "system table": ("GRANT SELECT ON pg_authid TO app;", "GRANT on"),
    "all functions": ("GRANT ALL ON ALL FUNCTIONS IN SCHEMA pg_catalog TO app;", "GRANT on"),
    "tablespace": ("CREATE TABLESPACE t LOCATION '/tmp';", "CREATE TABLESPACE"),
    "access method": ("CREATE ACCESS METHOD a TYPE TABLE HANDLER public.f;", "CREATE ACCESS METHOD"),
    "base type": ("CREATE TYPE public.t (INPUT = array_in, OUTPUT = array_out);", "CREATE TYPE"),
    "cast of bits": ("CREATE CAST (integer AS public.t) WITHOUT FUNCTION;", "CREATE CAST"),
    "operator class": ("CREATE OPERATOR CLASS public.o FOR TYPE int USING btree AS STORAGE int;", "CREATE OPERATOR"),
    "query": ("SELECT pg_read_file('/etc/passwd');", "SELECT statement"),
    "query in parentheses": ("(SELECT pg_read_file('/etc/passwd'));", "none of pg_dump's"),
    "query by another word": ("TABLE pg_authid;", "TABLE statement"),
    "query by values": ("VALUES (pg_reload_conf());", "VALUES statement"),
    "query explained": ("EXPLAIN ANALYZE SELECT pg_reload_conf();", "EXPLAIN statement"),
    "query with": ("WITH a AS (SELECT 1) INSERT INTO public.t SELECT * FROM a;", "WITH statement"),
    "large object from a file": ("SELECT pg_catalog.lo_import('/etc/passwd');", "SELECT statement"),
    "large object to a file": ("SELECT lo_export(1, '/tmp/x');", "SELECT statement"),
    "call inside a large object's": ("SELECT pg_catalog.lowrite(0, pg_read_binary_file('x'));", "SELECT statement"),
    "call behind a quote": (r"SELECT pg_catalog.lowrite(0, E'\'' || pg_read_file('x') || ' ');", "SELECT statement"),
    "call behind a setval": ("SELECT pg_catalog.setval('public.s', 1), pg_reload_conf();", "SELECT statement"),
    "insert of a query": ("INSERT INTO public.t SELECT pg_read_file('x');", "INSERT of more than literals"),
    "insert of a call": ("INSERT INTO public.t VALUES (pg_read_file('x'));", "INSERT of more"),
    "insert of a query in it": ("INSERT INTO public.t VALUES ((SELECT pg_read_file('x')));", "INSERT of more"),
    "insert that returns": ("INSERT INTO public.t VALUES ('a') RETURNING pg_read_file('x');", "INSERT of more"),
    "insert that updates": (
        "INSERT INTO public.t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = pg_read_file('x');",
        "INSERT of more",
    ),
    "insert behind a comment": (
        "INSERT INTO public.t (a --\"\n) SELECT pg_read_file('x') --\")\nVALUES ('x');",
        "INSERT of more",
    ),
    "insert behind a comment in its row": (
        "INSERT INTO public.t VALUES (1 /* ' */ + pg_reload_conf()::int /* ' */);",
        "INSERT of more",
    ),
    "insert behind a name and a quote": (
        r"INSERT INTO public.t VALUES (xe'\', pg_read_file($$x$$), '\');",
        "INSERT of more",
    ),
    "system rows": ("INSERT INTO pg_catalog.pg_auth_members VALUES (1, 10, 16384, 10);", "PostgreSQL's own tables"),
    "system rows unqualified": ("INSERT INTO pg_auth_members VALUES (1, 10, 16384, 10);", "PostgreSQL's own tables"),
    "system rows by name": (r"""INSERT INTO U&"pg\005fauthid" VALUES (1);""", "Unicode escapes"),
    "call behind a comment's quote": (
        "SELECT pg_catalog.lo_create(1 + --'\n length(pg_read_file($$x$$)) --'\n);",
        "SELECT statement",
    ),
    "call behind a block comment's quote": (
        "SELECT pg_catalog.lo_create(1 /* ' */ + pg_reload_conf()::int /* ' */);",
        "SELECT statement",
    ),
    "call behind a dollar's quote": (
        "SELECT pg_catalog.lo_create($$'$$::oid + pg_reload_conf()::int + $$'$$::oid);",
        "SELECT statement",
    ),
    "call in a setval": (
        "SELECT setval(E'x\\'' || pg_read_file($$x$$) --'\n, 1, true);",
        "SELECT statement",
    ),
    "grant in a schema": (
        "CREATE SCHEMA x GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO evil;",
        "CREATE SCHEMA with more in it",
    ),
    "grant in an owner's schema": ("CREATE SCHEMA AUTHORIZATION a GRANT SELECT ON pg_authid TO b;", "CREATE SCHEMA"),
    "system schema": ("GRANT CREATE ON SCHEMA pg_catalog TO evil;", "GRANT on"),
    "system schema behind ours": ("GRANT CREATE ON SCHEMA public, pg_catalog TO evil;", "GRANT on"),
    "system schema given away": ("ALTER SCHEMA pg_catalog OWNER TO evil;", "ALTER SCHEMA of PostgreSQL's own"),
    "system function given away": ("ALTER FUNCTION pg_catalog.pg_read_file(text) OWNER TO evil;", "ALTER FUNCTION of"),
    "system function given away unqualified": (
        "ALTER FUNCTION lo_export(oid, text) OWNER TO evil;",
        "ALTER FUNCTION of",
    ),
    "system function replaced": (
        "CREATE OR REPLACE FUNCTION pg_catalog.lower(text) RETURNS text LANGUAGE sql AS 'SELECT 1::text';",
        "among PostgreSQL's own",
    ),
    "system view replaced": (
        "CREATE OR REPLACE VIEW information_schema.tables AS SELECT 1;",
        "among PostgreSQL's own",
    ),
    "language over two strings": ("CREATE FUNCTION public.f() RETURNS int AS 'x' LANGUAGE 'plperl'\n'u';", "untrusted"),
    "extension over an untrusted language": ("CREATE EXTENSION hstore_plpython3u CASCADE;", "CREATE EXTENSION"),
    "extension as Unicode": (r"""CREATE EXTENSION U&"plpython3\0075";""", "Unicode escapes"),
    "table of a query": ("CREATE TABLE public.x AS SELECT pg_read_file('x');", "CREATE TABLE of a query"),
    "search template": ("CREATE TEXT SEARCH TEMPLATE public.x (LEXIZE = dsimple_lexize);", "CREATE TEXT SEARCH"),
    "update": ("UPDATE pg_catalog.pg_authid SET rolsuper = true;", "UPDATE statement"),
    "delete": ("DELETE FROM pg_catalog.pg_authid;", "DELETE statement"),
    "checkpoint": ("CHECKPOINT;", "CHECKPOINT statement"),
    "extension moved": ("ALTER EXTENSION x ADD FUNCTION public.f();", "ALTER EXTENSION"),
}

HARMLESS = [
    "COPY public.t (a) FROM stdin;",
    ";",
    "SET client_encoding = 'UTF8';",
    "SET standard_conforming_strings = on;",
    "SET statement_timeout = 0;",
    "SET transaction_timeout = 0;",
    "SET default_table_access_method = heap;",
    "SET TIME ZONE 'UTC';",
    "SET SESSION AUTHORIZATION 'app';",
    "RESET SESSION AUTHORIZATION;",
    "SELECT pg_catalog.set_config('search_path', '', false);",
    "SELECT pg_catalog.setval('public.s', 7, true);",
    "SELECT pg_catalog.lo_create('123');",
    r"SELECT pg_catalog.lowrite(0, '\x2829');",
    "SELECT CASE WHEN EXISTS(SELECT 1 FROM pg_catalog.pg_largeobject_metadata WHERE oid = '7') THEN "  # noqa: ISC004
    "pg_catalog.lo_unlink('7') END;",
    "SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata WHERE oid = '7';",
    "SELECT * FROM pg_catalog.pg_restore_attribute_stats('relname', 't (x)', 'avg_width', '4'::integer);",
    "CREATE TABLE public.program (program text);",
    "CREATE FUNCTION public.f(language text) RETURNS TABLE(language text) LANGUAGE plpgsql AS $$ LANGUAGE c $$;",
    "CREATE FUNCTION public.language() RETURNS SETOF public.language LANGUAGE sql BEGIN ATOMIC SELECT 1; END;",
    "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';",
    "CREATE PROCEDURE public.f() LANGUAGE plv8 AS 'x';",
    "CREATE TRIGGER t BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.f();",
    "CREATE CAST (character varying AS public.mood) WITH INOUT AS IMPLICIT;",
    "CREATE TYPE public.address AS (program text);",
    "CREATE TYPE public.never_filled;",
    "CREATE EXTENSION IF NOT EXISTS postgis WITH SCHEMA public;",
    "CREATE EXTENSION IF NOT EXISTS plpgsql WITH SCHEMA pg_catalog;",
    "CREATE PUBLICATION p FOR ALL TABLES;",
    "DROP SERVER IF EXISTS s;",
    "DROP USER MAPPING IF EXISTS FOR app SERVER s;",
    "ALTER TABLE ONLY public.system OWNER TO role;",
    "ALTER TABLE public.t DISABLE TRIGGER ALL;",
    "ALTER LARGE OBJECT 123 OWNER TO app;",
    "ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA public GRANT ALL ON TABLES TO b;",
    'GRANT SELECT("a,b"),UPDATE(c) ON TABLE public.t TO a;',
    "GRANT ALL ON FUNCTION public.f(a integer, b text) TO a WITH GRANT OPTION;",
    "REVOKE ALL ON SCHEMA public FROM PUBLIC;",
    "COMMENT ON ROLE x IS 'COPY t FROM PROGRAM';",
    "SECURITY LABEL FOR p ON TABLE public.t IS 'x';",
    "REFRESH MATERIALIZED VIEW public.m;",
    "INSERT INTO public.t (\"a)\", b) OVERRIDING SYSTEM VALUE VALUES (1, 'SELECT');",
    "INSERT INTO public.t DEFAULT VALUES;",
    "INSERT INTO public.t VALUES\n\t(1, '''s (x) -- /*', NULL),\n\t(-5e10, E'\\\\', DEFAULT)\nON CONFLICT DO NOTHING;",
    "INSERT INTO public.\"a b\" VALUES (B'01', 'U&\"x', true);",
    "CREATE SCHEMA x;",
    "CREATE SCHEMA IF NOT EXISTS x AUTHORIZATION y;",
    "CREATE TABLE public.t (a text GENERATED ALWAYS AS (upper(b)) STORED, b text DEFAULT 'AS', \"as\" int);",
    "ALTER SCHEMA x OWNER TO y;",
    "ALTER FUNCTION public.f() OWNER TO x;",
    "ALTER OPERATOR FAMILY public.f USING btree OWNER TO x;",
    "ALTER TEXT SEARCH DICTIONARY public.d OWNER TO x;",
    "ALTER TABLE ONLY t ADD CONSTRAINT pk PRIMARY KEY (a);",
    "COMMENT ON TABLE public.t IS 'U&\"x';",
]


def judged(text: str) -> str:
    """Judge one statement as a restore does."""
    (statement,) = (event for event in lex([text.encode()]) if isinstance(event, Statement))
    return power(statement, classify(statement.text))


def read(text: bytes) -> Powers:
    """Read a whole dump."""
    survey, powers = Survey(), Powers()
    for event, action in survey.watch(lex([text])):
        powers.see(event, action)
    return powers


@pytest.mark.parametrize(("text", "what"), HOSTILE.values(), ids=HOSTILE)
def test_power_is_found(text: str, what: str) -> None:
    """Whatever its case, blanks, comments and quotes."""
    assert what in judged(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_fills_a_database_is_none(text: str) -> None:
    """What pg_dump writes for tables, functions and rows is no power."""
    text = text + "\n\\.\n" if text.startswith("COPY") else text

    assert judged(text) == ""


def test_powers_are_told_with_their_lines() -> None:
    """The first of each kind, with the line where it begins; rows and comments count as lines."""
    text = (
        b"-- a\n\nCREATE TABLE public.t (a text);\nCOPY public.t (a) FROM stdin;\nDO\n1\n\\.\n"
        b"DO 'x';\nDO\n'y';\n/*\n*/ LOAD 'z';\n"
    )

    powers = read(text)

    assert str(powers) == "DO statement (line 8), LOAD statement (line 12) and 1 more"


DUMPED = [
    (),
    ("--clean", "--if-exists"),
    ("--clean",),
    ("--inserts",),
    ("--column-inserts", "--rows-per-insert=5"),
    ("--use-set-session-authorization", "--disable-dollar-quoting"),
    ("--data-only", "--disable-triggers"),
    ("--quote-all-identifiers", "--no-comments"),
]


FOREIGN = {
    "CREATE SERVER",
    "ALTER SERVER",
    "CREATE USER MAPPING",
    "CREATE FOREIGN TABLE",
    "ALTER FOREIGN TABLE",
}
SUPERUSERS = {
    "CREATE TRANSFORM",
    "CREATE FUNCTION in an untrusted language",
    "CREATE TYPE with functions of its own",
    "CREATE CAST WITHOUT FUNCTION",
    "CREATE ACCESS METHOD",
    "CREATE OPERATOR CLASS",
    "CREATE TEXT SEARCH with functions of its own",
    "CREATE FOREIGN DATA WRAPPER",
    "ALTER FOREIGN DATA WRAPPER",
    "CREATE EVENT TRIGGER",
    "ALTER EVENT TRIGGER",
}


@pytest.mark.all_majors
def test_dump_has_the_powers_that_were_used(owner_everything: Database, everything: Database) -> None:
    """Of everything, in each of pg_dump's forms: a plain owner's has none, a superuser's what only a superuser can."""
    for options in DUMPED:
        assert set(read(owner_everything.dump_text(*options)).found) <= FOREIGN, options
    found = set(read(everything.dump_text("--clean", "--if-exists")).found)

    assert SUPERUSERS <= found <= SUPERUSERS | FOREIGN | {"CREATE SUBSCRIPTION", "ALTER SUBSCRIPTION"}


@pytest.mark.majors(18)
def test_statistics_have_no_power(owner_everything: Database) -> None:
    """What pg_dump 18 adds on demand."""
    owner_everything.execute('ANALYZE public."User"')

    text = owner_everything.dump_text("--statistics")

    assert b"pg_restore_attribute_stats" in text
    assert set(read(text).found) <= FOREIGN


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT pg_catalog.lo_open(" + b"'''" * 200_000 + b"(;",
        b"INSERT INTO a (" + b'""' * 200_000 + b" x;",
        b'INSERT INTO "' + b'""' * 200_000 + b";",
        b"CREATE FUNCTION f() " + b"( " * 200_000 + b";",
        b"GRANT x ON TABLE a.b " + b", " * 200_000 + b";",
        b"CREATE TYPE " + b"/* " * 100_000 + b";",
        b"SELECT set_config('search_path'" + b" " * 200_000 + b";",
    ],
    ids=["literals", "columns", "name", "parentheses", "commas", "comments", "blanks"],
)
def test_no_text_takes_long_to_judge(text: bytes) -> None:
    """Time grows with the length alone."""
    began = time.process_time()

    power(Statement(text), classify(text))

    assert time.process_time() - began < 2
