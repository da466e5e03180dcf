"""Objects of every kind are emptied and brought back, whatever their names and arguments are like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.flows import ran

if TYPE_CHECKING:
    from tests.support import Database, Databases, Project

ROUTINES = """
CREATE PROCEDURE add_user(name text, OUT id int) LANGUAGE plpgsql AS 'BEGIN id := 1; END';
CREATE PROCEDURE add_user(name text, id int) LANGUAGE plpgsql AS 'BEGIN END';
CREATE PROCEDURE add_user(INOUT "odd, name" int, VARIADIC more text[]) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION twice(name text, id int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE twice(name text, OUT id int) LANGUAGE plpgsql AS 'BEGIN id := 1; END';
CREATE FUNCTION twice(OUT a int, b int, OUT c int) LANGUAGE sql AS 'SELECT 1, 2';
CREATE FUNCTION twice(VARIADIC "char"[]) RETURNS TABLE (a int, b int) LANGUAGE sql AS 'SELECT 1, 2';
CREATE FUNCTION "a (int), b""c"("x y" timestamp(3) with time zone DEFAULT now(), z interval DEFAULT '1 day')
    RETURNS SETOF int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION one_more(bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE AGGREGATE rows_of(*) (SFUNC = one_more, STYPE = bigint, INITCOND = '0');
CREATE FUNCTION of_some(bigint, VARIADIC "any") RETURNS bigint LANGUAGE internal IMMUTABLE AS 'int8inc';
CREATE AGGREGATE rows_of(VARIADIC "any") (SFUNC = of_some, STYPE = bigint, INITCOND = '0');
CREATE AGGREGATE middle(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal,
    FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
CREATE AGGREGATE place(VARIADIC "any" ORDER BY VARIADIC "any") (SFUNC = ordered_set_transition_multi,
    STYPE = internal, FINALFUNC = rank_final, FINALFUNC_EXTRA, HYPOTHETICAL);
CREATE FUNCTION counted(int) RETURNS bigint LANGUAGE sql WINDOW AS 'SELECT 1::bigint';
"""
TYPES = """
CREATE TYPE "integer" AS (a int, "b c" text);
CREATE TYPE mood AS ENUM ('sad', 'it''s fine');
CREATE DOMAIN "my domain" AS "integer" CHECK (VALUE IS NOT NULL);
CREATE DOMAIN moods AS mood[] DEFAULT '{}';
CREATE TYPE span AS RANGE (subtype = float8, multirange_type_name = "span s");
CREATE TYPE shell;
CREATE TYPE listed;
CREATE FUNCTION listed_in(cstring, oid, int) RETURNS listed LANGUAGE internal IMMUTABLE AS 'array_in';
CREATE FUNCTION listed_out(listed) RETURNS cstring LANGUAGE internal IMMUTABLE AS 'array_out';
CREATE TYPE listed (INPUT = listed_in, OUTPUT = listed_out);
CREATE FUNCTION of_mood(mood) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE CAST (mood AS int) WITH FUNCTION of_mood(mood);
CREATE CAST ("integer" AS "span s") WITH INOUT;
CREATE COLLATION "C.x" (locale = 'C');
CREATE CONVERSION "to y" FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
"""
OPERATORS = """
CREATE FUNCTION same(mood, mood) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE FUNCTION negated(mood) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE FUNCTION hashed(mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE OPERATOR === (LEFTARG = mood, RIGHTARG = mood, PROCEDURE = same, COMMUTATOR = ===, NEGATOR = !==);
CREATE OPERATOR !~~! (RIGHTARG = mood, PROCEDURE = negated);
CREATE OPERATOR FAMILY "f 1" USING hash;
CREATE OPERATOR CLASS "c 1" FOR TYPE mood USING hash FAMILY "f 1" AS OPERATOR 1 ===, FUNCTION 1 hashed(mood);
CREATE OPERATOR CLASS "c 2" DEFAULT FOR TYPE mood USING hash AS OPERATOR 1 ===, FUNCTION 1 hashed(mood);
"""
SEARCH = """
CREATE TEXT SEARCH PARSER "p 1" (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end,
    LEXTYPES = prsd_lextype);
CREATE TEXT SEARCH TEMPLATE "t 1" (INIT = dsimple_init, LEXIZE = dsimple_lexize);
CREATE TEXT SEARCH DICTIONARY "d 1" (TEMPLATE = "t 1");
CREATE TEXT SEARCH CONFIGURATION "c 1" (PARSER = "p 1");
ALTER TEXT SEARCH CONFIGURATION "c 1" ADD MAPPING FOR asciiword WITH "d 1";
"""
TABLES = """
CREATE TABLE "T" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a mood, b int, c serial,
    EXCLUDE USING hash (a WITH ===));
INSERT INTO "T" (a, b) VALUES ('sad', 1);
CREATE TABLE parent (id int) PARTITION BY LIST (id);
CREATE TABLE child PARTITION OF parent FOR VALUES IN (1);
CREATE UNLOGGED TABLE quick (id int);
CREATE STATISTICS "s t" ON b, c FROM "T";
CREATE RULE "r u" AS ON DELETE TO "T" DO ALSO SELECT 1;
CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER "t r" BEFORE INSERT ON "T" FOR EACH ROW EXECUTE FUNCTION fires();
CREATE POLICY "p o" ON "T" USING (id > 0);
CREATE VIEW "v (x)" AS SELECT id FROM "T";
CREATE MATERIALIZED VIEW m AS SELECT id FROM "T";
CREATE SEQUENCE "se q" INCREMENT -1;
"""
OUTSIDE = """
CREATE FUNCTION logged() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER "e t" ON ddl_command_end EXECUTE FUNCTION logged();
CREATE PUBLICATION "p b" FOR TABLE "T";
CREATE FOREIGN DATA WRAPPER "w 1";
CREATE SERVER "s 1" FOREIGN DATA WRAPPER "w 1" OPTIONS (a 'b');
CREATE USER MAPPING FOR CURRENT_USER SERVER "s 1";
CREATE FOREIGN TABLE "f t" (id int) SERVER "s 1";
CREATE FUNCTION for_inline(internal) RETURNS void LANGUAGE internal AS 'bttextsortsupport';
CREATE FUNCTION for_language() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE LANGUAGE "l 1" HANDLER for_language;
CREATE ACCESS METHOD "a m" TYPE TABLE HANDLER heap_tableam_handler;
CREATE FUNCTION for_transform(internal) RETURNS internal LANGUAGE internal IMMUTABLE STRICT AS 'bttextsortsupport';
CREATE TRANSFORM FOR mood LANGUAGE "l 1" (FROM SQL WITH FUNCTION for_transform(internal));
SELECT lo_from_bytea(4242, 'bytes');
"""
EVERY = f"""
CREATE SCHEMA "odd, schema"; SET search_path = "odd, schema"; SET check_function_bodies = off;
{ROUTINES}{TYPES}{OPERATORS}{SEARCH}{TABLES}{OUTSIDE}
"""


@pytest.mark.majors(14, 18)
def test_every_kind_is_emptied_and_brought_back(database: Database, project: Project) -> None:
    """Two clean restores leave the database as pg_dump showed it before, and so does the undo of a reset."""
    database.execute(EVERY)
    before = database.dump_text()
    project.use(database)
    ran(project, "db.dump")

    for _ in range(2):
        ran(project, "db.restore", "--clean", "--yes")
    restored = database.dump_text()
    database.execute('DROP EVENT TRIGGER "e t"; DROP PUBLICATION "p b"; DROP FOREIGN DATA WRAPPER "w 1" CASCADE')
    database.execute('DROP FUNCTION "odd, schema".of_mood CASCADE; DROP LANGUAGE "l 1" CASCADE')
    database.execute('DROP CAST ("odd, schema"."integer" AS "odd, schema"."span s")')
    smaller = database.dump_text()
    ran(project, "db.reset", "--yes", "--schema=odd, schema")
    ran(project, "db.undo", "--yes")
    after_reset = database.dump_text()
    ran(project, "db.restore", "--clean", "--yes")
    ran(project, "db.undo", "--yes")

    assert restored == before
    assert after_reset == database.dump_text() == smaller


GRANTS = """
GRANT SELECT (rolname) ON pg_catalog.pg_authid TO pg_monitor;
GRANT SELECT ON pg_catalog.pg_subscription TO pg_monitor WITH GRANT OPTION;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() TO pg_read_all_data;
REVOKE EXECUTE ON FUNCTION pg_catalog.percentile_disc(float8[], anyelement) FROM PUBLIC;
REVOKE USAGE ON TYPE pg_catalog.int4 FROM PUBLIC;
GRANT CREATE ON SCHEMA pg_catalog TO pg_monitor;
REVOKE USAGE ON LANGUAGE sql FROM PUBLIC;
CREATE EXTENSION postgres_fdw;
GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO pg_monitor;
GRANT EXECUTE ON FUNCTION postgres_fdw_handler() TO pg_monitor;
CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
SELECT lo_create(4242); GRANT SELECT ON LARGE OBJECT 4242 TO pg_monitor;
"""
OTHERS = """
CREATE EXTENSION postgres_fdw; CREATE TABLE u (id int);
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() TO pg_monitor WITH GRANT OPTION;
GRANT SELECT ON pg_catalog.pg_authid TO pg_monitor; REVOKE SELECT ON pg_catalog.pg_subscription FROM pg_monitor;
CREATE SERVER mine FOREIGN DATA WRAPPER postgres_fdw; GRANT USAGE ON FOREIGN SERVER mine TO pg_monitor;
"""


@pytest.mark.majors(14, 18)
def test_an_undo_takes_grants_on_system_objects_back(
    database: Database, new_database: Databases, project: Project
) -> None:
    """On catalogues, their columns, functions, types, languages, wrappers and servers; its undo grants them again."""
    database.execute(GRANTS)
    target = new_database()
    target.execute(OTHERS)
    before = target.dump_text()
    ran(project.use(database), "db.dump")
    project.use(target)

    restored = ran(project, "db.restore", "--clean", "--yes", *project.into(target))
    new = target.dump_text()
    undone = ran(project, "db.undo", "--yes")
    after_undo = target.dump_text()
    ran(project, "db.undo", "--yes")

    assert after_undo == before
    assert target.dump_text() == new != before
    assert "the grants on " in restored
    assert "grants" not in undone


def test_an_undo_names_grants_that_no_dump_holds(database: Database, project: Project) -> None:
    """Those on the database, and on information_schema; a dump of another database says nothing of them."""
    database.execute("CREATE TABLE t (id int)")
    ran(project.use(database), "db.dump")
    ran(project, "db.reset", "--yes")
    database.execute(f'GRANT CREATE ON DATABASE "{database.name}" TO pg_monitor')
    database.execute("GRANT SELECT ON information_schema.tables TO pg_monitor")

    undone = ran(project, "db.undo", "--yes")
    restored = ran(project, "db.restore", "--clean", "--yes")

    assert "the grants on the database itself, table information_schema.tables differ" in undone
    assert "the grants on" not in restored


NEW_PUBLIC = """
SELECT nspowner::regrole::text, nspacl::text, obj_description(oid) FROM pg_namespace WHERE nspname = 'public'
"""


@pytest.mark.majors(14, 18)
def test_a_missing_public_is_created_as_initdb_does(
    database: Database, new_database: Databases, project: Project
) -> None:
    """By a restore, with --clean and without, and by an undo: owner, grants and comment."""
    database.execute('CREATE TABLE "User" (id int PRIMARY KEY); INSERT INTO "User" VALUES (1)')
    initial = new_database().execute(NEW_PUBLIC)
    ran(project.use(database), "db.dump")

    database.execute("DROP SCHEMA public CASCADE")
    ran(project, "db.restore", "--clean", "--yes")
    cleanly = database.execute(NEW_PUBLIC)
    database.execute("DROP SCHEMA public CASCADE")
    ran(project, "db.restore")
    plainly = database.execute(NEW_PUBLIC)
    ran(project, "db.reset", "--yes")
    database.execute("DROP SCHEMA public CASCADE")
    ran(project, "db.undo", "--yes")
    ran(project, "db.verify")

    assert initial == cleanly == plainly == database.execute(NEW_PUBLIC)
    assert database.scalar('SELECT count(*) FROM "User"') == 1


@pytest.mark.majors(15, 18)
def test_an_owner_of_public_is_not_left_with_grants(database: Database, project: Project) -> None:
    """Somebody else owned it when the undo began."""
    database.execute("CREATE TABLE t (id int)")
    before = database.dump_text()
    ran(project.use(database), "db.reset", "--yes")
    database.execute("DROP SCHEMA public; CREATE SCHEMA public AUTHORIZATION pg_monitor")

    ran(project, "db.undo", "--yes")

    assert database.dump_text() == before


@pytest.mark.majors(14, 18)
def test_an_empty_database_is_dumped_and_restored_with_checksums(database: Database, project: Project) -> None:
    """No table to sum is not the same as no sum of a table."""
    ran(project.use(database), "db.dump", "--checksums")

    restored = ran(project, "db.restore", "--clean", "--checksums", "--yes")
    compared = ran(project, "db.verify", "--checksums")

    assert "is restored into" in restored
    assert "definitions and values agree." in compared
