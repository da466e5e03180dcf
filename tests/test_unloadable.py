"""Databases that pg_dump dumps and PostgreSQL refuses to load: the way back works, or that is said beforehand."""

import json
from pathlib import Path

import pytest

from tasks.dumpfiles.paths import manifest_path, read_manifest
from tasks.dumpformat.manifest import manifest_from_json, recorded_search_path
from tasks.inventory.reload_risks import RiskKind, find_reload_doubt, read_reload_risks
from tasks.postgres.connection import connected
from tasks.postgres.search_path import join_search_path, read_search_path, split_search_path
from tests.flows import settings_of
from tests.marks import Mark
from tests.servers import OWNER
from tests.support import Database, Databases, Project

SEARCH_PATH = """
CREATE EXTENSION unaccent;
CREATE FUNCTION slug(v text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN lower(unaccent(v)); END $$;
CREATE TABLE "Post" (id int PRIMARY KEY, title text, slug text GENERATED ALWAYS AS (slug(title)) STORED);
INSERT INTO "Post" VALUES (1, 'Café'), (2, 'Übung');
"""
LATER_TABLE = """
CREATE TABLE "Zone" (code text PRIMARY KEY); INSERT INTO "Zone" VALUES ('n'), ('s');
CREATE FUNCTION known_zone(z text) RETURNS bool LANGUAGE sql STABLE
    AS 'SELECT EXISTS (SELECT FROM public."Zone" WHERE code = z)';
CREATE TABLE "Address" (id int PRIMARY KEY, zone text CHECK (known_zone(zone)));
COMMENT ON CONSTRAINT "Address_zone_check" ON "Address" IS 'a zone''s code';
INSERT INTO "Address" VALUES (1, 'n'), (2, 's');
"""
ORPHANS = """
CREATE TABLE "User" (id int PRIMARY KEY, name text);
CREATE TABLE "Post" (id int PRIMARY KEY, "authorId" int REFERENCES "User");
INSERT INTO "User" VALUES (1, 'a');
SET session_replication_role = replica; INSERT INTO "Post" VALUES (1, 1), (2, 99);
"""
EXTENSION_TYPE = """
CREATE SCHEMA extensions; CREATE EXTENSION hstore SCHEMA extensions;
CREATE TABLE "Doc" (id int PRIMARY KEY, tags extensions.hstore, n int); INSERT INTO "Doc" VALUES (1, 'a=>1', 0);
CREATE FUNCTION bump() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := OLD.n + 1; RETURN NEW; END $$;
SET search_path = public, extensions;
CREATE TRIGGER t BEFORE UPDATE ON "Doc" FOR EACH ROW WHEN (OLD.tags IS DISTINCT FROM NEW.tags) EXECUTE FUNCTION bump();
"""
CASES = {
    "search_path": SEARCH_PATH,
    "later table": LATER_TABLE,
    "orphans": ORPHANS,
    "extension type": EXTENSION_TYPE,
}
# Constraints that read tables whose rows are loaded later, with names that need a search_path.
KINDS = {
    "domain": "CREATE TABLE z (code text); INSERT INTO z VALUES ('n');"
    " CREATE FUNCTION known(z text) RETURNS bool LANGUAGE plpgsql STABLE"
    "   AS 'BEGIN RETURN EXISTS (SELECT FROM z WHERE code = $1); END';"
    " CREATE DOMAIN zone AS text CHECK (known(VALUE)); CREATE TABLE a (id int, z zone); INSERT INTO a VALUES (1, 'n');",
    "partitions": "CREATE TABLE z (code text); INSERT INTO z VALUES ('n');"
    " CREATE FUNCTION known(z text) RETURNS bool LANGUAGE plpgsql STABLE"
    "   AS 'BEGIN RETURN EXISTS (SELECT FROM z WHERE code = $1); END';"
    " CREATE TABLE a (id int, z text, CONSTRAINT k CHECK (known(z))) PARTITION BY RANGE (id);"
    " CREATE TABLE a1 PARTITION OF a FOR VALUES FROM (0) TO (10); INSERT INTO a VALUES (1, 'n');"
    " CREATE TABLE a2 PARTITION OF a (CONSTRAINT own CHECK (known(z) AND id > 9)) FOR VALUES FROM (10) TO (20);"
    " INSERT INTO a VALUES (11, 'n');",
    "inheritance": "CREATE TABLE z (code text); INSERT INTO z VALUES ('n');"
    " CREATE FUNCTION known(z text) RETURNS bool LANGUAGE plpgsql STABLE"
    "   AS 'BEGIN RETURN EXISTS (SELECT FROM z WHERE code = $1); END';"
    " CREATE TABLE a (id int, z text, CONSTRAINT k CHECK (known(z)));"
    " CREATE TABLE b (CONSTRAINT k CHECK (known(z)), CONSTRAINT own CHECK (known(z) OR id = 0)) INHERITS (a);"
    " CREATE TABLE c () INHERITS (b); INSERT INTO a VALUES (1, 'n'); INSERT INTO b VALUES (2, 'n');"
    " INSERT INTO c VALUES (3, 'n');",
}
# Since 17 the server builds them with a search_path of its own, so that they can't be made in the first place.
BUILT = {
    "index": "CREATE FUNCTION one() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';"
    " CREATE FUNCTION f(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN i + one(); END';"
    " CREATE TABLE t (i int); INSERT INTO t VALUES (1), (2); CREATE INDEX t_f ON t (f(i));",
    "materialized view": "CREATE TABLE z (code text); INSERT INTO z VALUES ('n');"
    " CREATE FUNCTION codes() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM z';"
    " CREATE MATERIALIZED VIEW m AS SELECT codes() AS n;",
}
TRUE = "CREATE FUNCTION ok(i int) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE DOMAIN d AS int CHECK (ok(VALUE));"
FALSE = "; CREATE OR REPLACE FUNCTION ok(i int) RETURNS bool LANGUAGE sql AS 'SELECT false'"
# Nothing of it can be made again; the rows can.
LOST = {
    "unique index": "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (1); CREATE INDEX t_id ON t (id);"
    " COMMENT ON INDEX t_id IS 'unique'; ALTER TABLE t CLUSTER ON t_id;"
    " UPDATE pg_index SET indisunique = true WHERE indexrelid = 't_id'::regclass",
    "materialized view": "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql"
    " AS 'BEGIN RETURN current_setting(''app.number''); END';"
    " CREATE TABLE t (id int); INSERT INTO t VALUES (1), (1); SET app.number = 1;"
    " CREATE MATERIALIZED VIEW m AS SELECT f() AS n",
    "orphans in partitions": "CREATE TABLE u (id int PRIMARY KEY);"
    " CREATE TABLE t (id int REFERENCES u) PARTITION BY RANGE (id);"
    " CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);"
    " SET session_replication_role = replica; INSERT INTO t VALUES (1), (1)",
    "check": "CREATE FUNCTION never() RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';"
    " CREATE TABLE t (id int CHECK (never())); INSERT INTO t VALUES (1), (1);"
    " CREATE OR REPLACE FUNCTION never() RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT false'",
    "materialized views of one that is left empty": "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql"
    " AS 'BEGIN RETURN current_setting(''app.number''); END'; SET app.number = 1;"
    " CREATE MATERIALIZED VIEW m AS SELECT f() AS n; CREATE MATERIALIZED VIEW m2 AS SELECT * FROM m;"
    " CREATE UNIQUE INDEX m2_n ON m2 (n); CREATE TABLE t (i int); INSERT INTO t VALUES (1)",
    "domain in a composite type": f"{TRUE} CREATE TYPE c AS (i d); CREATE TABLE t (c c); INSERT INTO t VALUES ('(1)')"
    f"{FALSE}",
    "domain in ranges": f"{TRUE} CREATE TYPE r AS RANGE (SUBTYPE = d); CREATE TABLE t (r r[]);"
    f" INSERT INTO t VALUES (ARRAY['[1,3)'::r]){FALSE}",
    "view that needs a key": "CREATE TABLE t (id int PRIMARY KEY, n text); INSERT INTO t VALUES (1, 'a');"
    " CREATE VIEW v AS SELECT id, n FROM t GROUP BY id; CREATE VIEW w AS SELECT * FROM v;"
    " COMMENT ON VIEW v IS 'grouped';"
    " UPDATE pg_index SET indisready = false, indislive = false WHERE indexrelid = 't_pkey'::regclass;"
    " INSERT INTO t VALUES (1, 'b');"
    " UPDATE pg_index SET indisready = true, indislive = true WHERE indexrelid = 't_pkey'::regclass",
    "NOT NULL domain in a composite type": "CREATE DOMAIN d AS int NOT NULL; CREATE TYPE c AS (x int);"
    " CREATE TABLE t (v c); INSERT INTO t VALUES (row(1)); ALTER TYPE c ADD ATTRIBUTE y d",
    "NOT NULL domain in an array": "CREATE DOMAIN d AS int NOT NULL; CREATE TABLE t (v d[]);"
    " INSERT INTO t VALUES ('{1}'); UPDATE t SET v[4] = 2",
    "NOT NULL domain of a subquery": "CREATE DOMAIN d AS int NOT NULL; COMMENT ON DOMAIN d IS 'a number';"
    " CREATE TABLE t (v d); INSERT INTO t VALUES ((SELECT v FROM t WHERE false))",
    "a code of the function's own": "CREATE TABLE z (i int); INSERT INTO z VALUES (1);"
    " CREATE FUNCTION ok(i int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN"
    " IF NOT EXISTS (SELECT FROM public.z) THEN RAISE 'none' USING ERRCODE = 'ZX001'; END IF; RETURN true; END $$;"
    " CREATE TABLE a (i int CHECK (ok(i))); INSERT INTO a VALUES (1)",
    "codes of the server": "CREATE TABLE z (i int); INSERT INTO z VALUES (1);"
    " CREATE FUNCTION ok(code text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN"
    " IF NOT EXISTS (SELECT FROM public.z) THEN RAISE 'none' USING ERRCODE = code; END IF; RETURN true; END $$;"
    + "".join(
        f" CREATE TABLE a{code} (i text CHECK (ok(i))); INSERT INTO a{code} VALUES ('{code}');"
        for code in ("42501", "53100", "57014", "55P03", "08006", "57P01", "40001", "XX000")
    ),
    "rights that are granted at the end": "DROP ROLE IF EXISTS late_reader; CREATE ROLE late_reader;"
    " CREATE TABLE z (i int);"
    " GRANT SELECT ON z TO late_reader; CREATE FUNCTION ok(i int) RETURNS bool LANGUAGE plpgsql SECURITY DEFINER"
    " AS 'BEGIN RETURN (SELECT count(*) >= 0 FROM public.z); END'; ALTER FUNCTION ok OWNER TO late_reader;"
    " CREATE TABLE a (i int CHECK (ok(i))); INSERT INTO a VALUES (1)",
}
RATE = "CREATE TABLE rate (r int); INSERT INTO rate VALUES (2);"
RATED = "'DECLARE f int; BEGIN SELECT r INTO STRICT f FROM public.rate; RETURN i * f; END'"
BILL = " CREATE TABLE bill (i int, total int GENERATED ALWAYS AS (rated(i)) STORED); INSERT INTO bill VALUES (1);"
# A generated column whose function fails while its table is loaded.
HOPELESS = f"{RATE} CREATE FUNCTION rated(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS {RATED};{BILL}"
# Other ways to run code for each row, of which the functions' bodies say nothing.
HIDDEN = {
    "body": HOPELESS,
    "own search_path": f"{RATE} CREATE FUNCTION rated(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE"
    f" SET search_path = public AS {RATED};{BILL}",
    "nested": f"{RATE} CREATE FUNCTION read(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS {RATED};"
    f" CREATE FUNCTION rated(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT public.read(i)';{BILL}",
    "atomic": f"{RATE} CREATE FUNCTION rated(i int) RETURNS int LANGUAGE sql IMMUTABLE"
    f" BEGIN ATOMIC SELECT i / count(*)::int FROM public.rate; END;{BILL}",
    "dynamic": f"{RATE} CREATE FUNCTION rated(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
    f" $$ DECLARE f int; BEGIN EXECUTE 'SELECT r FROM public.rate' INTO STRICT f; RETURN i * f; END $$;{BILL}",
    "setting": "SET app.rate = 2; CREATE FUNCTION rated(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE"
    f" AS 'BEGIN RETURN i * current_setting(''app.rate'')::int; END';{BILL}",
    "replaced": f"CREATE FUNCTION rated(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN i; END';{BILL}"
    " CREATE OR REPLACE FUNCTION rated(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN i / 0; END'",
    "operator": f"{RATE} CREATE FUNCTION times(i int, j int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS {RATED};"
    " CREATE OPERATOR @@! (LEFTARG = int, RIGHTARG = int, FUNCTION = times);"
    " CREATE TABLE bill (i int, total int GENERATED ALWAYS AS (i @@! i) STORED); INSERT INTO bill VALUES (1);",
    "key of a subpartition": "CREATE FUNCTION k(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN i; END';"
    " CREATE TABLE p (i int) PARTITION BY RANGE (i);"
    " CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (k(i));"
    " CREATE TABLE p2 PARTITION OF p1 FOR VALUES FROM (0) TO (10); INSERT INTO p VALUES (1);"
    " CREATE OR REPLACE FUNCTION k(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN i + 100; END'",
    "operator class": f"{RATE} CREATE FUNCTION compare(i int, j int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
    " 'DECLARE f int; BEGIN SELECT r INTO STRICT f FROM public.rate; RETURN btint4cmp(i, j); END';"
    " CREATE OPERATOR CLASS rated FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =,"
    " OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 compare(int, int); CREATE TABLE p (i int) PARTITION BY RANGE (i rated);"
    " CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); INSERT INTO p VALUES (1)",
    "rows of another table": "CREATE TABLE log (i int); CREATE FUNCTION noted(i int) RETURNS bool LANGUAGE sql"
    " AS 'INSERT INTO public.log VALUES (i) RETURNING true'; CREATE TABLE a (i int CHECK (noted(i)));"
    " INSERT INTO a VALUES (1)",
    "name of an index": "CREATE TABLE t (i int PRIMARY KEY, r regclass); INSERT INTO t VALUES (1, 't_pkey')",
    "name of overloaded functions": "CREATE FUNCTION f(i int) RETURNS int LANGUAGE sql AS 'SELECT 1';"
    " CREATE TYPE c AS (p regproc); CREATE TABLE t (p c[]); INSERT INTO t VALUES (ARRAY[ROW('f'::regproc)::c]);"
    " CREATE FUNCTION f(t text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "expressions of the catalogue": "CREATE TABLE t (i int DEFAULT 1); CREATE TABLE s AS SELECT adbin FROM pg_attrdef",
    "missing library": "CREATE FUNCTION f() RETURNS language_handler LANGUAGE c"
    " AS '$libdir/plpgsql', 'plpgsql_call_handler';"
    " UPDATE pg_proc SET probin = '$libdir/missing' WHERE proname = 'f'; CREATE TABLE t (i int)",
}
# No reason to load a safety dump before it is needed.
ORDINARY = """
CREATE EXTENSION citext; CREATE EXTENSION hstore;
CREATE DOMAIN mail AS text CHECK (VALUE LIKE '%@%'); CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE place AS (x int, y int); CREATE TYPE span AS RANGE (SUBTYPE = numeric);
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := 1; RETURN NEW; END';
CREATE FUNCTION plain(v text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(v)';
CREATE TABLE a (id serial PRIMARY KEY, n int CHECK (n > 0), m mail, k mood, p place[], s span, h hstore, c citext,
    language regconfig, d numeric GENERATED ALWAYS AS (n * 2) STORED);
CREATE TABLE b (id int REFERENCES a, at date) PARTITION BY RANGE (at);
CREATE TABLE b1 PARTITION OF b FOR VALUES FROM ('2020-01-01') TO ('2030-01-01');
CREATE TRIGGER t BEFORE UPDATE ON a FOR EACH ROW EXECUTE FUNCTION touched();
CREATE INDEX ON a (plain(m)); CREATE VIEW v AS SELECT plain(m) FROM a; CREATE MATERIALIZED VIEW w AS SELECT * FROM v;
"""


def newest(project: Project) -> Path:
    """Return the newest dump."""
    return max(project.dumps.glob("db_dump_*.sql*"))


def rows_of(database: Database) -> bytes:
    """Return what pg_dump writes of the rows alone."""
    return database.dump_text("--data-only")


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("case", CASES)
def test_an_undo_brings_back_what_postgresql_refuses_to_load(database: Database, project: Project, case: str) -> None:
    """With every row and every definition; a key that the rows violate is NOT VALID."""
    database.psql(CASES[case])
    before, rows = database.dump_text(), rows_of(database)
    project.use(database)

    reset = project.inv("db.reset", "--yes")
    undone = project.inv("db.undo", "--yes")

    assert (reset.returncode, undone.returncode) == (0, 6), reset.stderr + undone.stderr
    assert rows_of(database) == rows
    assert without_not_valid(database.dump_text()) == before


def test_a_dump_goes_back_into_its_own_database_without_a_flag(database: Database, project: Project) -> None:
    """Each thing that was eased is named, by a restore with --clean and by the undo of it."""
    database.psql(SEARCH_PATH + LATER_TABLE)
    before = database.dump_text()
    project.use(database)
    assert project.inv("db.dump").returncode == 0

    restored = project.inv("db.restore", "--clean", "--yes")
    after = database.dump_text()
    undone = project.inv("db.undo", "--yes")

    assert (restored.returncode, undone.returncode) == (6, 6), restored.stderr + undone.stderr
    assert before == after == database.dump_text()
    assert "public.Post" in restored.stderr
    assert "public.Address.Address_zone_check" in restored.stderr


def without_not_valid(dump: bytes) -> bytes:
    """Take NOT VALID out of a dump's foreign keys."""
    return dump.replace(b" NOT VALID;", b";")


@pytest.mark.majors(16)
@pytest.mark.parametrize("case", CASES)
def test_a_plain_restore_elsewhere_says_why_and_the_lenient_way_works(
    database: Database, new_database: Databases, project: Project, case: str
) -> None:
    """Without the flag nothing is changed; with it all is there, and both a restore and a rehearsal end with 6."""
    database.psql(CASES[case])
    project.use(database)
    assert project.inv("db.dump").returncode == 0
    other = new_database()
    project.use(other)
    file = f"--file={newest(project).name}"

    refused = project.inv("db.restore", file, "--yes")
    untouched = other.dump_text()
    rehearsed = project.inv("db.rehearse", file)
    eased = project.inv("db.rehearse", file, "--lenient")
    restored = project.inv("db.restore", file, "--yes", "--lenient")

    assert refused.returncode == rehearsed.returncode == 5, refused.stderr
    assert untouched == new_database().dump_text()
    assert "--lenient" in refused.stderr
    assert eased.returncode == restored.returncode == 6, restored.stderr
    assert without_not_valid(other.dump_text()) == database.dump_text()


def test_a_refused_restore_names_the_function_and_the_fix(
    database: Database, new_database: Databases, project: Project
) -> None:
    """The server's CONTEXT names it, and the command fits it."""
    database.psql(SEARCH_PATH)
    project.use(database)
    project.inv("db.dump")
    project.use(new_database())

    refused = project.inv("db.restore", f"--file={newest(project).name}", "--yes").stderr

    assert "public.Post" in refused
    assert "ALTER FUNCTION public.slug(text) SET search_path" in refused


@pytest.mark.majors(14, 18)
def test_the_fix_of_an_sql_function_has_its_arguments(
    database: Database, new_database: Databases, project: Project
) -> None:
    """The server names it without them; the manifest has them, unless several have its name."""
    database.psql(
        "CREATE TABLE z (i int);"
        " CREATE FUNCTION one(i int) RETURNS bool LANGUAGE sql AS 'SELECT $1 >= count(*) FROM z';"
        " CREATE TABLE a (i int CHECK (one(i))); INSERT INTO a VALUES (1)"
    )
    project.use(database)
    project.inv("db.dump")
    project.use(new_database())

    refused = project.inv("db.restore", f"--file={newest(project).name}", "--yes").stderr

    assert "ALTER FUNCTION public.one(integer) SET search_path" in refused


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("kind", KINDS)
def test_constraints_of_each_kind_come_back_as_they_were(database: Database, project: Project, kind: str) -> None:
    """Also those that partitions and children inherit."""
    reset_and_undone(database, project, KINDS[kind])


@pytest.mark.majors(14, 16)
@pytest.mark.parametrize("kind", BUILT)
def test_what_is_built_of_rows_comes_back_as_it_was(database: Database, project: Project, kind: str) -> None:
    """Where the search_path was all that was wrong."""
    reset_and_undone(database, project, BUILT[kind])


def reset_and_undone(database: Database, project: Project, source: str) -> None:
    """Fill a database, reset it, undo that, and compare."""
    database.psql(source)
    before = database.dump_text()
    project.use(database)

    reset = project.inv("db.reset", "--yes")
    undone = project.inv("db.undo", "--yes")

    assert (reset.returncode, undone.returncode) == (0, 6), reset.stderr + undone.stderr
    assert database.dump_text() == before


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("kind", LOST)
def test_what_cannot_be_made_again_costs_no_rows(database: Database, project: Project, kind: str) -> None:
    """It is left out or NOT VALID, and named, and the rows are back."""
    database.psql(LOST[kind])
    rows = rows_of(database)
    project.use(database)

    reset = project.inv("db.reset", "--yes")
    undone = project.inv("db.undo", "--yes")

    assert (reset.returncode, undone.returncode) == (0, 6), reset.stderr + undone.stderr
    assert rows_of(database) == rows


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("case", HIDDEN)
def test_a_reset_refuses_where_no_way_back_is_left(database: Database, project: Project, case: str) -> None:
    """As a clean restore does, and each leaves every row; without a safety dump they may."""
    database.psql(HIDDEN[case])
    mark = Mark(database)
    project.use(database)
    assert project.inv("db.dump").returncode == 0

    reset = project.inv("db.reset", "--yes")
    restored = project.inv("db.restore", "--clean", "--yes")

    assert (reset.returncode, restored.returncode) == (5, 5)
    assert mark.is_untouched()
    assert not list(project.dumps.glob("undo/*.sql*"))
    assert project.inv("db.reset", "--yes", "--no-backup").returncode == 0


@pytest.mark.majors(14, 18)
def test_an_ordinary_database_pays_nothing(database: Database, project: Project) -> None:
    """The catalogue shows no reason to try its safety dump, and a reset does not."""
    database.psql(ORDINARY)
    project.use(database)

    with connected(settings_of(project, database).target()) as connection:
        doubt = find_reload_doubt(connection)
    reset = project.inv("db.reset", "--yes")

    assert doubt == ""
    assert reset.returncode == 0
    assert "loaded once" not in reset.stderr


# What the role may delete, and not create again.
RIGHTS = {
    "event trigger": "CREATE SCHEMA guard; GRANT USAGE, CREATE ON SCHEMA guard TO owner;"
    " CREATE FUNCTION guard.no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;"
    " CREATE EVENT TRIGGER no ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION guard.no()",
    "closed schema": "REVOKE CREATE ON SCHEMA public FROM PUBLIC; REVOKE CREATE ON SCHEMA public FROM owner;"
    " ALTER SCHEMA public OWNER TO postgres",
    "others' schema": "CREATE SCHEMA theirs; CREATE TABLE theirs.t (i int); GRANT USAGE ON SCHEMA theirs TO owner;"
    " GRANT SELECT ON theirs.t TO owner",
    "leakproof function": "CREATE FUNCTION f(i int) RETURNS int LANGUAGE sql LEAKPROOF AS 'SELECT i';"
    " ALTER FUNCTION f OWNER TO owner",
}


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("case", RIGHTS)
def test_a_reset_refuses_where_the_role_lacks_rights_for_the_way_back(
    new_database: Databases, project: Project, case: str
) -> None:
    """Though it may empty the schema."""
    database = new_database(owner=OWNER)
    database.execute("GRANT CREATE ON SCHEMA public TO owner")
    database.psql("CREATE TABLE mine (i int); INSERT INTO mine VALUES (1)", role=OWNER)
    database.psql(RIGHTS[case])
    mark = Mark(database)
    project.use(database, OWNER)

    reset = project.inv("db.reset", "--yes")

    assert reset.returncode in {2, 5}, reset.stderr
    assert mark.is_untouched()
    assert not list(project.dumps.glob("undo/*.sql*"))
    assert project.inv("db.reset", "--yes", "--no-backup").returncode == 0


def test_an_ordinary_owner_needs_no_other_right(new_database: Databases, project: Project) -> None:
    """Neither to create databases nor to disable triggers."""
    database = new_database(owner=OWNER)
    database.psql(SEARCH_PATH.partition(";")[0] + ";")
    database.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    database.psql(SEARCH_PATH.partition(";")[2], role=OWNER)
    rows = rows_of(database)
    project.use(database, OWNER)

    assert project.inv("db.reset", "--yes").returncode == 0
    assert project.inv("db.undo", "--yes").returncode == 6
    assert rows_of(database) == rows


def test_a_dump_of_insert_statements_is_loaded_in_the_lenient_way(
    database: Database, new_database: Databases, project: Project
) -> None:
    """Each row by itself."""
    database.psql(LATER_TABLE)
    other = new_database()
    (project.dumps / "rows.sql").write_bytes(database.dump_text("--inserts"))
    project.use(other)

    refused = project.inv("db.restore", "--file=rows.sql", "--yes", "--trust")
    restored = project.inv("db.restore", "--file=rows.sql", "--yes", "--trust", "--lenient")

    assert (refused.returncode, restored.returncode) == (5, 6), restored.stderr
    assert other.dump_text() == database.dump_text()


def test_the_recorded_search_path_is_used_and_older_manifests_do_without(database: Database, project: Project) -> None:
    """It is the database's own setting; a safety dump that lacks it takes that of the database that is here."""
    database.psql("CREATE SCHEMA tools; CREATE EXTENSION unaccent SCHEMA tools")
    database.execute(f'ALTER DATABASE "{database.name}" SET search_path = public, tools')
    database.psql("SET search_path = public, tools;" + SEARCH_PATH.partition(";")[2])
    rows = rows_of(database)
    project.use(database)
    assert project.inv("db.reset", "--yes").returncode == 0
    (path,) = project.dumps.glob("undo/*.sql.zst")
    manifest = read_manifest(path)
    document = json.loads(manifest_path(path).read_text())
    del document["facts"]["search_path"]
    manifest_path(path).write_text(json.dumps(document))

    undone = project.inv("db.undo", "--yes")

    assert manifest is not None
    assert recorded_search_path(manifest) == ("public", "tools")
    assert recorded_search_path(manifest_from_json(json.dumps(document).encode())) == ()
    assert undone.returncode == 6, undone.stderr
    assert rows_of(database) == rows


@pytest.mark.parametrize("path", [['public"; DROP TABLE "Post"; --'], ["pg_temp", "'"], ["no such schema", "\\"]])
def test_a_hostile_search_path_is_only_names(database: Database, project: Project, path: list[str]) -> None:
    """Whatever a manifest says, they are identifiers, and a temporary schema is none of them."""
    database.psql(SEARCH_PATH)
    rows = rows_of(database)
    project.use(database)
    assert project.inv("db.dump").returncode == 0
    document = json.loads(manifest_path(newest(project)).read_text())
    document["facts"]["search_path"] = path
    manifest_path(newest(project)).write_text(json.dumps(document))

    restored = project.inv("db.restore", "--clean", "--yes", "--no-backup")

    assert restored.returncode == 6, restored.stderr
    assert rows_of(database) == rows


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        ('"$user", public', ("me", "public")),
        ("a, b,c", ("a", "b", "c")),
        ('"A b", "x""y"', ("A b", 'x"y')),
        ("", ()),
        ('""', ()),
    ],
)
def test_a_search_path_is_split_into_names(setting: str, names: tuple[str, ...]) -> None:
    """As the server writes it in its catalogue."""
    assert split_search_path(setting, "me") == names


def test_a_search_path_is_joined_of_quoted_names() -> None:
    """Without PostgreSQL's own schemas and without doubles."""
    assert join_search_path(["a", 'x"y', "pg_temp", "a", ""]) == '"a", "x""y"'


@pytest.mark.majors(14, 18)
def test_the_search_path_of_sessions_is_read_from_the_catalogue(database: Database, project: Project) -> None:
    """The role's setting in the database goes before the database's, and what does not exist is left out."""
    found = []
    for command in (
        "CREATE SCHEMA one; CREATE SCHEMA two; CREATE SCHEMA three",
        f'ALTER DATABASE "{database.name}" SET search_path = missing, one, public',
        f'ALTER ROLE postgres IN DATABASE "{database.name}" SET search_path = two',
    ):
        database.execute(command)
        with connected(settings_of(project, database).target()) as connection:
            found.append(read_search_path(connection))

    assert found == [("public",), ("one", "public"), ("two",)]


@pytest.mark.majors(14, 16)
def test_dump_and_doctor_see_it_coming(database: Database, project: Project) -> None:
    """Functions that name something without its schema, or read another table, where loading calls them."""
    database.psql(SEARCH_PATH + LATER_TABLE + BUILT["index"])
    database.psql(
        "CREATE FUNCTION fine(v text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';"
        " CREATE FUNCTION set(v text) RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path = public"
        "   AS 'BEGIN RETURN unaccent(v); END';"
        " CREATE TABLE calm (v text CHECK (fine(v) <> '' AND set(v) <> ''))"
    )
    with connected(settings_of(project, database).target()) as connection:
        found = {(each.kind, each.word, each.reads) for each in read_reload_risks(connection)}
    project.use(database)

    dumped, examined = project.inv("db.dump"), project.inv("db.doctor")

    assert found == {
        (RiskKind.GENERATED, "unaccent", False),
        (RiskKind.CHECK, "Zone", True),
        (RiskKind.INDEX, "one", False),
    }
    assert dumped.returncode == 0
    assert "public.slug(text)" in dumped.stderr
    assert "public.slug(text)" in examined.stdout
