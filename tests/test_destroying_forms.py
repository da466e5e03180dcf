"""Forms in which a foreign dump destroyed what it did not create, unseen: each is shown and asked about, or refused."""
# ruff: noqa: E501 - statements as an attacker wrote them, each on one line

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.flows import far, saved
from tests.marks import Mark
from tests.schemas import APP, DUMP_END
from tests.servers import OWNER, SUPERUSER

if TYPE_CHECKING:
    from tests.support import Databases, Project

LONG = "x" * 63
FRESH = "CREATE SCHEMA fresh;\n"
# What is in the database, and what the dump does.
FORMS: dict[str, tuple[str, str]] = {
    "if not exists as": (
        "",
        f"{FRESH}CREATE FUNCTION fresh.boom() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.users; RETURN 1; END';\nCREATE TABLE IF NOT EXISTS fresh.t AS SELECT fresh.boom();",
    ),
    "if not exists partition": (
        "CREATE TABLE app.p (a int) PARTITION BY LIST (a);",
        f"{FRESH}CREATE TABLE IF NOT EXISTS fresh.t PARTITION OF app.p DEFAULT;",
    ),
    "cast of pg_catalog": (
        "",
        f"{FRESH}CREATE TYPE fresh.c AS (a int);\nCREATE FUNCTION fresh.f(int) RETURNS fresh.c LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.users; RETURN NULL; END';\nCREATE CAST (pg_catalog.int4 AS fresh.c) WITH FUNCTION fresh.f(int) AS ASSIGNMENT;\nCREATE TABLE fresh.t (a fresh.c);\nINSERT INTO fresh.t VALUES (1);",
    ),
    "cast by an odd name": (
        "",
        f'{FRESH}CREATE TYPE fresh.c AS (a int);\nCREATE FUNCTION fresh."WITHOUT FUNCTION"(int) RETURNS fresh.c LANGUAGE plpgsql AS \'BEGIN DELETE FROM app.users; RETURN NULL; END\';\nCREATE CAST (int AS fresh.c) WITH FUNCTION fresh."WITHOUT FUNCTION"(int) AS ASSIGNMENT;\nCREATE TABLE fresh.t (a fresh.c);\nINSERT INTO fresh.t VALUES (1);',
    ),
    "setval cast": (
        "",
        f"{FRESH}CREATE FUNCTION fresh.boom() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.users; RETURN 1; END';\nCREATE DOMAIN fresh.d AS regclass CHECK (fresh.boom() = 1);\nCREATE SEQUENCE fresh.s;\nSELECT pg_catalog.setval('fresh.s'::fresh.d, 1, true);",
    ),
    "drop of several": (
        "CREATE PUBLICATION other;",
        f"DROP PUBLICATION IF EXISTS mine, other;\n{FRESH}CREATE TABLE fresh.t (a int);\nCREATE PUBLICATION mine;",
    ),
    "grant on several large objects": (
        "SELECT lo_from_bytea(4711, 'treasure'); GRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC;",
        "SELECT pg_catalog.lo_create('999999');\nREVOKE ALL ON LARGE OBJECT 999999, 4711 FROM PUBLIC;",
    ),
    "qualified drop": (
        "",
        f"{FRESH}SET search_path = fresh, app;\nCREATE TABLE users (id int);\nDROP TABLE fresh.users;\nDELETE FROM users;",
    ),
    "set config path": (
        "",
        f"{FRESH}SET search_path = fresh;\nCREATE TABLE users (id int);\nSELECT pg_catalog.set_config('search_path', 'app', false);\nDELETE FROM users;",
    ),
    "set config truncate": (
        "",
        f"{FRESH}SET search_path = fresh;\nCREATE TABLE users (id int);\nSELECT pg_catalog.set_config('search_path', 'app', false);\nDROP TABLE users;",
    ),
    "revoke usage": (
        "",
        f"{FRESH}SET search_path = fresh, app;\nCREATE TABLE users (id int);\nREVOKE ALL ON SCHEMA fresh FROM owner;\nDELETE FROM users;",
    ),
    "temp view": (
        "",
        f"{FRESH}SET search_path = fresh;\nCREATE TABLE users (id int);\nCREATE VIEW pg_temp.users AS SELECT * FROM app.users;\nDELETE FROM users;",
    ),
    "long name": (
        "",
        f"{FRESH}CREATE TABLE fresh.{LONG}y (id int);\nDROP TABLE fresh.{LONG};\nCREATE VIEW fresh.{LONG} AS SELECT * FROM app.users;\nDELETE FROM fresh.{LONG}y;",
    ),
    "own set config": (
        "",
        f"{FRESH}CREATE FUNCTION fresh.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.users; RETURN $1; END';\nSET search_path = fresh, pg_catalog;\nSELECT set_config('seed', '0', false);",
    ),
    "own setval": (
        "",
        f"{FRESH}CREATE FUNCTION fresh.setval(text, int) RETURNS text LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.users; RETURN $1; END';\nCREATE SEQUENCE fresh.s;\nSET search_path = fresh, pg_catalog;\nSELECT setval('fresh.s', 1);",
    ),
    "delete using view": (
        "",
        f"{FRESH}CREATE FUNCTION fresh.boom() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.users; RETURN 1; END';\nCREATE TABLE fresh.t (id int);\nCREATE VIEW fresh.v AS SELECT fresh.boom() AS id;\nCOPY fresh.t FROM stdin;\n1\n\\.\nDELETE FROM fresh.t USING fresh.v WHERE fresh.v.id = 1;",
    ),
    "operator": (
        "",
        f"{FRESH}CREATE FUNCTION fresh.f(int, int) RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.users; RETURN 1; END';\nCREATE OPERATOR fresh.### (FUNCTION = fresh.f, LEFTARG = int, RIGHTARG = int);\nCREATE TABLE fresh.t (id int);\nCOPY fresh.t FROM stdin;\n1\n\\.\nSET search_path = fresh;\nUPDATE fresh.t SET id = 1 ### 2;",
    ),
    "insert plus": (
        "",
        f"{FRESH}CREATE FUNCTION fresh.f(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.users; RETURN 1; END';\nCREATE OPERATOR fresh.+ (FUNCTION = fresh.f, RIGHTARG = int);\nCREATE TABLE fresh.t (id int);\nSET search_path = fresh, pg_catalog;\nINSERT INTO fresh.t VALUES (+5);",
    ),
    "attribute": (
        "",
        f"{FRESH}CREATE TABLE fresh.t (id int);\nCREATE FUNCTION fresh.boom(fresh.t) RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.users; RETURN 1; END';\nCOPY fresh.t FROM stdin;\n1\n\\.\nSET search_path = fresh;\nUPDATE fresh.t SET id = t.boom;",
    ),
    "cast domain": (
        "",
        f"{FRESH}CREATE FUNCTION fresh.chk(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.users; RETURN true; END';\nCREATE DOMAIN fresh.d AS int CHECK (fresh.chk(VALUE));\nCREATE TABLE fresh.t (id int);\nCOPY fresh.t FROM stdin;\n1\n\\.\nUPDATE fresh.t SET id = 2::fresh.d;",
    ),
    "copy where": (
        "",
        f"{FRESH}CREATE FUNCTION fresh.boom() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.users; RETURN 1; END';\nCREATE TABLE fresh.t (id int);\nCOPY fresh.t FROM stdin WHERE fresh.boom() = 1;\n1\n\\.\n",
    ),
    "copy where existing": (
        "",
        f"{FRESH}CREATE FUNCTION fresh.boom() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.users; RETURN 1; END';\nCREATE TABLE fresh.t (id int);\nCOPY fresh.t (id) FROM stdin WITH (FORMAT text) WHERE fresh.boom() = 1;\n1\n\\.\n",
    ),
    "shell type": (
        "CREATE SCHEMA types; CREATE TYPE types.mood AS ENUM ('x'); ALTER TABLE app.users ADD COLUMN m types.mood DEFAULT 'x';",
        "DROP TYPE types.mood CASCADE;\nCREATE TYPE types.mood;",
    ),
    "drop attribute": (
        "CREATE SCHEMA types; CREATE TYPE types.addr AS (street text, town text); ALTER TABLE app.users ADD COLUMN a types.addr DEFAULT ROW('s','t')::types.addr;",
        "CREATE DOMAIN types.z AS int;\nALTER TYPE types.addr DROP ATTRIBUTE street;",
    ),
    "rename value": (
        "CREATE SCHEMA types; CREATE TYPE types.mood AS ENUM ('x'); ALTER TABLE app.users ADD COLUMN m types.mood DEFAULT 'x';",
        "CREATE DOMAIN types.z AS int;\nALTER TYPE types.mood RENAME VALUE 'x' TO 'hacked';",
    ),
    "typed table": (
        "CREATE SCHEMA types; CREATE TYPE types.p AS (id int, secret text); CREATE TABLE app.people OF types.p; INSERT INTO app.people VALUES (1, 's');",
        "CREATE DOMAIN types.z AS int;\nALTER TYPE types.p DROP ATTRIBUTE secret CASCADE;",
    ),
    "api functions": (
        "CREATE SCHEMA api; CREATE FUNCTION api.login() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE VIEW api.v AS SELECT 1 AS a;",
        "DROP VIEW api.v;\nDROP FUNCTION api.login();\nCREATE FUNCTION api.login() RETURNS int LANGUAGE sql AS 'SELECT 666';",
    ),
    "sequence only": (
        "CREATE SCHEMA seqs; CREATE SEQUENCE seqs.invoice; SELECT setval('seqs.invoice', 4711);",
        "CREATE DOMAIN seqs.z AS int;\nSELECT pg_catalog.setval('seqs.invoice', 1, false);",
    ),
    "drop sequence": (
        "CREATE SCHEMA seqs; CREATE SEQUENCE seqs.invoice; SELECT setval('seqs.invoice', 4711);",
        "DROP SEQUENCE seqs.invoice;\nCREATE SEQUENCE seqs.invoice;",
    ),
    "drop collation": (
        'CREATE SCHEMA parts; CREATE COLLATION parts.c FROM "C";',
        "CREATE DOMAIN parts.z AS int;\nDROP COLLATION parts.c;",
    ),
    "replace collation": (
        'CREATE SCHEMA parts; CREATE COLLATION parts.c FROM "C";',
        'DROP COLLATION parts.c;\nCREATE COLLATION parts.c FROM "POSIX";',
    ),
    "drop operator": (
        "CREATE SCHEMA parts; CREATE OPERATOR parts.### (FUNCTION = int4pl, LEFTARG = int, RIGHTARG = int);",
        "CREATE DOMAIN parts.z AS int;\nDROP OPERATOR parts.### (int, int);",
    ),
    "replace operator": (
        "CREATE SCHEMA parts; CREATE OPERATOR parts.### (FUNCTION = int4pl, LEFTARG = int, RIGHTARG = int);",
        "DROP OPERATOR parts.### (int, int);\nCREATE OPERATOR parts.### (FUNCTION = int4mi, LEFTARG = int, RIGHTARG = int);",
    ),
    "drop text search": (
        "CREATE SCHEMA parts; CREATE TEXT SEARCH DICTIONARY parts.d (TEMPLATE = simple);",
        "CREATE DOMAIN parts.z AS int;\nDROP TEXT SEARCH DICTIONARY parts.d;",
    ),
    "replace text search": (
        "CREATE SCHEMA parts; CREATE TEXT SEARCH DICTIONARY parts.d (TEMPLATE = simple);",
        "DROP TEXT SEARCH DICTIONARY parts.d;\nCREATE TEXT SEARCH DICTIONARY parts.d (TEMPLATE = simple, STOPWORDS = english);",
    ),
    "index in place of a table": (
        "CREATE SCHEMA parts; CREATE TABLE parts.precious (a int); INSERT INTO parts.precious VALUES (1);",
        "DROP TABLE parts.precious;\nCREATE TABLE parts.t (a int);\nCREATE INDEX precious ON parts.t (a);",
    ),
    "large object": (
        "SELECT lo_from_bytea(4711, 'treasure');",
        "SELECT pg_catalog.lo_create('999999');\nSELECT pg_catalog.lo_unlink('4711');",
    ),
    "large object case": (
        "SELECT lo_from_bytea(4711, 'treasure');",
        "SELECT CASE WHEN EXISTS(SELECT 1 FROM pg_catalog.pg_largeobject_metadata WHERE oid = '4711') THEN pg_catalog.lo_unlink('4711') END;\nSELECT pg_catalog.lo_create('999999');",
    ),
    "large object write": (
        "SELECT lo_from_bytea(4711, 'treasure');",
        "BEGIN;\nSELECT pg_catalog.lo_create('999999');\nSELECT pg_catalog.lo_open('4711', 131072);\nSELECT pg_catalog.lowrite(0, '\\x00000000');\nSELECT pg_catalog.lo_close(0);\nCOMMIT;",
    ),
    "disable trigger": (
        "CREATE FUNCTION app.audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER audit AFTER UPDATE ON app.users EXECUTE FUNCTION app.audit();",
        f"{FRESH}CREATE TABLE fresh.t (a int);\nALTER TABLE app.users DISABLE TRIGGER audit;",
    ),
    "reset path": (
        "",
        f"{FRESH}SET search_path = fresh;\nCREATE TABLE users (id int);\nSELECT pg_catalog.set_config('search_path'::text, 'app', false);\nTRUNCATE users;",
    ),
    "replace view then delete": (
        "",
        f"{FRESH}CREATE TABLE fresh.t (a int);\nCREATE OR REPLACE VIEW fresh.v AS SELECT * FROM app.users;\nDELETE FROM fresh.v;",
    ),
    "insert existing rule": (
        "CREATE TABLE app.log (a int); CREATE RULE r AS ON INSERT TO app.log DO ALSO DELETE FROM app.users;",
        f"{FRESH}CREATE TABLE fresh.t (a int);\nINSERT INTO app.log VALUES (1);",
    ),
    "schema auth": (
        "",
        "CREATE SCHEMA AUTHORIZATION owner;\nCREATE TABLE owner.t (a int);\nSET search_path = '$user', app;\nCREATE TABLE users (a int);\nALTER SCHEMA owner RENAME TO own2;\nDELETE FROM users;",
    ),
    "dataonly setval": (
        "CREATE SEQUENCE app.s; SELECT setval('app.s', 4711);",
        "COPY app.users (id) FROM stdin;\n77\n\\.\nSELECT pg_catalog.setval('app.s', 1, false);",
    ),
    "revoke public": (
        "",
        f"{FRESH}CREATE TABLE fresh.t (a int);\nREVOKE ALL ON SCHEMA public FROM PUBLIC;\nALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;\nCOMMENT ON TABLE app.users IS 'hacked';",
    ),
    "created later schema": (
        "",
        f"{FRESH}SET search_path = soon, fresh;\nCREATE TABLE users (id int);\nCREATE SCHEMA soon;\nCREATE VIEW soon.users AS SELECT * FROM app.users;\nDELETE FROM users;",
    ),
    "using app view": (
        "CREATE FUNCTION app.g() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.users; RETURN 1; END'; CREATE VIEW app.v AS SELECT app.g() AS a;",
        f"{FRESH}CREATE TABLE fresh.t (id int);\nINSERT INTO fresh.t VALUES (1);\nDELETE FROM fresh.t USING app.v WHERE a = 1;",
    ),
    "merge using": (
        "",
        f"{FRESH}CREATE FUNCTION fresh.boom() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.users; RETURN 1; END';\nCREATE TABLE fresh.t (id int);\nCREATE VIEW fresh.v AS SELECT fresh.boom() AS id;\nMERGE INTO fresh.t USING fresh.v ON fresh.t.id = fresh.v.id WHEN NOT MATCHED THEN DO NOTHING;",
    ),
    "matview own": (
        "CREATE SCHEMA rep; CREATE MATERIALIZED VIEW rep.frozen AS SELECT * FROM app.users; DELETE FROM app.users WHERE id > 1;",
        "CREATE DOMAIN rep.z AS int;\nREFRESH MATERIALIZED VIEW rep.frozen;",
    ),
    "drop matview own": (
        "CREATE SCHEMA rep; CREATE MATERIALIZED VIEW rep.frozen AS SELECT * FROM app.users;",
        "DROP MATERIALIZED VIEW rep.frozen;\nCREATE MATERIALIZED VIEW rep.frozen AS SELECT 1 AS a;",
    ),
    "trunc schema": (
        f"CREATE SCHEMA {LONG}; CREATE TABLE {LONG}.t (a int); INSERT INTO {LONG}.t VALUES (1);",
        f"CREATE DOMAIN {LONG}y.z AS int;\nDROP TABLE {LONG}y.t;",
    ),
    "trunc table": (
        f"CREATE TABLE app.{LONG} (a int); INSERT INTO app.{LONG} VALUES (1);",
        f"{FRESH}CREATE TABLE fresh.t (a int);\nDROP TABLE app.{LONG}y;",
    ),
    "trunc alter": (
        f"CREATE TABLE app.{LONG} (a int); INSERT INTO app.{LONG} VALUES (1);",
        f"{FRESH}CREATE TABLE fresh.t (a int);\nALTER TABLE app.{LONG}y DROP COLUMN a;",
    ),
    "savepoint cmd": (
        "",
        f"{FRESH}CREATE TABLE fresh.t (a int);\nSECURITY LABEL ON TABLE app.users IS 'x';\nLOCK TABLE app.users;",
    ),
    "collation view": (
        "",
        f"{FRESH}CREATE FUNCTION fresh.boom() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.users; RETURN 1; END';\nCREATE TABLE fresh.t (a int);\nINSERT INTO fresh.t VALUES (1);\nALTER TABLE fresh.t ALTER COLUMN a TYPE int USING fresh.boom();",
    ),
}
# The first part is made by a superuser; the second is loaded by one where it must be.
OF_A_SUPERUSER: dict[str, tuple[str, str, str]] = {
    "drop server": (
        "CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw; CREATE USER MAPPING FOR owner SERVER s OPTIONS (user 'u', password 'precious'); CREATE FOREIGN TABLE app.remote (a int) SERVER s; ALTER SERVER s OWNER TO owner; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO owner; ALTER FOREIGN TABLE app.remote OWNER TO owner",
        "DROP SERVER IF EXISTS s CASCADE;\nCREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw;",
        OWNER,
    ),
    "user mapping": (
        "CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw; CREATE USER MAPPING FOR owner SERVER s OPTIONS (user 'u', password 'precious');",
        f"{FRESH}CREATE TABLE fresh.t (a int);\nDROP USER MAPPING IF EXISTS FOR owner SERVER s;\nCREATE USER MAPPING FOR owner SERVER s;",
        SUPERUSER,
    ),
    "event trigger": (
        "",
        f"{FRESH}CREATE FUNCTION fresh.boom() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.users; END';\nCREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION fresh.boom();\nCREATE TABLE fresh.t2 (a int);",
        SUPERUSER,
    ),
    "drop am": (
        "CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler; CREATE TABLE app.h (a int) USING heap2; INSERT INTO app.h VALUES (1);",
        "DROP ACCESS METHOD heap2 CASCADE;\nCREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;",
        SUPERUSER,
    ),
}


@pytest.mark.parametrize("name", [*FORMS, *OF_A_SUPERUSER])
# What a text does to which objects depends on no major; test_destroying.py tries the usual forms on two.
@pytest.mark.majors(18)
def test_dump_that_destroys_in_an_odd_form(name: str, new_database: Databases, project: Project) -> None:
    """Far away it needs the name; with it, a safety dump is made first."""
    shop = new_database(owner=OWNER)
    shop.execute(APP, role=OWNER)
    setup, text, role = OF_A_SUPERUSER[name] if name in OF_A_SUPERUSER else (*FORMS[name], OWNER)
    shop.execute(setup or "SELECT", role=SUPERUSER if name in OF_A_SUPERUSER else OWNER)
    project.use(shop, role).env.pop("INVOKE_DB_TRUST")
    far(project)
    project.write("dumps/foreign.sql", text + DUMP_END)
    mark = Mark(shop)
    flags = ["--file=foreign.sql", "--yes", "--trust"]

    asked = project.inv("db.restore", *flags)
    untouched = mark.is_untouched()
    named = project.inv("db.restore", *flags, f"--confirm={shop.name}")

    assert untouched
    assert asked.returncode in {2, 7}, asked.stderr
    if asked.returncode == 7:
        assert "Will be" in asked.stderr
        assert len(saved(project)) == 1 or mark.is_untouched(), named.stderr
