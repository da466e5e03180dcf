"""Definitions that PostgreSQL rewrites on reload, and objects that pg_dump leaves out: a good dump is restored."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.inventory.object_differences import What, compare_objects
from tests.definitions.campaign import facts_of
from tests.flows import newest, ran
from tests.support import Database, Databases, Project

REWRITTEN = """
CREATE TABLE "Item" (id int PRIMARY KEY, kind varchar(50) NOT NULL CHECK (kind IN ('area', 'artist', 'event')));
CREATE INDEX "Item_some" ON "Item" (id) WHERE kind IN ('area', 'artist');
CREATE VIEW "Known" AS SELECT id FROM "Item" WHERE kind NOT IN ('area', 'artist');
CREATE VIEW "Padded" AS SELECT id, kind FROM "Item" WHERE id IN (SELECT id FROM "Item" UNION ALL SELECT NULL);
INSERT INTO "Item" VALUES (1, 'area'), (2, 'event');
"""
INVALID_INDEX = """
CREATE TABLE t (id int); INSERT INTO t VALUES (1), (1);
CREATE TABLE k (id int PRIMARY KEY); INSERT INTO k VALUES (1);
CREATE INDEX t_id ON t (id);
UPDATE pg_index SET indisvalid = false WHERE indexrelid IN ('t_id'::regclass, 'k_pkey'::regclass);
"""
SHELL_OPERATOR = """
CREATE FUNCTION f(boolean, boolean) RETURNS boolean LANGUAGE sql AS 'SELECT $1';
CREATE OPERATOR === (LEFTARG = boolean, RIGHTARG = boolean, PROCEDURE = f, NEGATOR = !==);
DROP OPERATOR === (boolean, boolean);
CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
"""
CASES = f"""
CREATE SCHEMA invalid; CREATE SCHEMA shell; {REWRITTEN}
SET search_path = invalid; {INVALID_INDEX} SET search_path = shell; {SHELL_OPERATOR}
"""


@pytest.mark.majors(14, 18)
def test_a_dump_restores_verifies_rehearses_and_is_undone(
    database: Database, new_database: Databases, project: Project
) -> None:
    """By each way, into another database and over itself, and against a copy that psql made."""
    database.execute(CASES)
    copy, target = new_database(), new_database()
    copy.psql(database.dump_text())
    project.use(database)
    ran(project, "db.dump")

    project.use(copy)
    ran(project, "db.verify", f"--file={newest(project).name}")
    project.env["OTHER_URL"] = database.url
    ran(project, "db.verify", "--against-url-env=OTHER_URL")
    project.use(target)
    ran(project, "db.restore", f"--file={newest(project).name}", "--yes")
    ran(project, "db.verify")
    project.use(database)
    ran(project, "db.rehearse")
    ran(project, "db.restore", "--clean", "--yes")
    ran(project, "db.undo", "--yes")
    ran(project, "db.verify", f"--file={newest(project).name}")

    assert copy.dump_text() == target.dump_text() == database.dump_text()


def test_a_dump_names_invalid_indexes_and_the_keys_that_are_lost(database: Database, project: Project) -> None:
    """In a warning each, with the command that repairs it."""
    database.execute(INVALID_INDEX)

    said = " ".join(ran(project.use(database), "db.dump").split())

    for name in ("public.t_id", "public.k_pkey"):
        assert f"Index {name} is invalid" in said
        assert f"REINDEX INDEX {name}" in said
    assert "constraint k_pkey of public.k" in said


# Differences of texts alone


def edited(project: Project, change: dict[str, str]) -> Path:
    """Change texts in the newest manifest, as if the server had written others when the dump was made."""
    manifest = project.dumps / f"{newest(project).name.partition('.')[0]}.manifest.json"
    document = json.loads(manifest.read_bytes())
    text = json.dumps(document["facts"]["definitions"])
    for old, new in change.items():
        assert old in text
        text = text.replace(old, new)
    document["facts"]["definitions"] = json.loads(text)
    manifest.write_text(json.dumps(document), encoding="utf-8")
    return manifest


def test_another_text_is_committed_named_and_ends_in_six(
    database: Database, new_database: Databases, project: Project
) -> None:
    """The dump's own bytes made it; the two texts are shown, by verify, too, and a rehearsal is not marked as good."""
    database.execute(REWRITTEN)
    project.use(database)
    ran(project, "db.dump")
    manifest = edited(project, {"'artist'": "'singer'"})
    target = new_database()

    restored = project.use(target).inv("db.restore", "--yes", *project.into(target))
    verified = project.inv("db.verify", f"--file={newest(project).name}")
    listed = project.inv("db.verify", f"--file={newest(project).name}", "--json")
    rehearsed = project.inv("db.rehearse", f"--file={newest(project).name}")

    assert [each.returncode for each in (restored, verified, listed, rehearsed)] == [6, 6, 6, 6]
    assert target.scalar('SELECT count(*) FROM "Item"') == 2
    for said in (restored.stderr, verified.stdout, rehearsed.stderr):
        assert 'constraint public."Item"."Item_kind_check": definition is not as in the dump' in " ".join(said.split())
        assert "'singer'" in said
        assert "'artist'" in said
    assert {each["kind"] for each in json.loads(listed.stdout)["differences"]} == {"constraint", "index", "view"}
    assert "The restore into" in restored.stderr
    assert "rehearsed" not in json.loads(manifest.read_bytes())


def test_another_fact_rolls_back(database: Database, new_database: Databases, project: Project) -> None:
    """As before: a key, a type or a state that is not the dump's."""
    database.execute(REWRITTEN)
    project.use(database)
    ran(project, "db.dump")
    manifest = project.dumps / f"{newest(project).name.partition('.')[0]}.manifest.json"
    document = json.loads(manifest.read_bytes())
    document["facts"]["definitions"]["constraint"]['public."Item"."Item_kind_check"']["facts"] = "0" * 24
    manifest.write_text(json.dumps(document), encoding="utf-8")
    target = new_database()

    result = project.use(target).inv("db.restore", "--yes", *project.into(target))

    assert result.returncode == 5
    assert "Item_kind_check" in result.stderr
    assert target.scalar("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0


# Manifests of earlier versions


def digests_alone(database: Database) -> dict[str, Any]:
    """Return the objects of a database as manifests of earlier versions hold them."""
    found = {}
    for kind, each in facts_of(database).items():
        digests = {name: one.digests for name, one in each.items()}
        assert all(digests.values())
        found[kind] = {name: pair[0] if pair[1] is None else list(pair) for name, pair in digests.items() if pair}
    return found


@pytest.fixture
def older(database: Database, project: Project) -> Project:
    """Return a project with a dump whose manifest, and those of its safety dumps, hold digests alone."""
    database.execute(REWRITTEN + "CREATE TABLE plain (id int DEFAULT 1 CHECK (id > 0))")
    project.use(database)
    ran(project, "db.dump")
    ran(project, "db.restore", "--clean", "--yes")
    whole = digests_alone(database)
    for manifest in [*project.dumps.glob("*.manifest.json"), *project.dumps.glob("undo/*.manifest.json")]:
        document = json.loads(manifest.read_bytes())
        del document["facts"]["definitions"]
        document["facts"]["objects"] = whole
        manifest.write_text(json.dumps(document), encoding="utf-8")
    return project


@pytest.mark.majors(14, 18)
def test_manifests_with_digests_alone_restore_verify_and_undo(
    older: Project, database: Database, new_database: Databases
) -> None:
    """Before the restore the server wrote other texts: that is only told."""
    target = new_database()
    target.execute(REWRITTEN + "CREATE TABLE plain (id int DEFAULT 1 CHECK (id > 0))")

    undone = ran(older, "db.undo", "--yes")
    verified = ran(older.use(target), "db.verify", f"--file={newest(older)}")
    ran(older.use(new_database()), "db.restore", f"--file={newest(older)}", "--yes")

    assert "is restored into" in undone
    assert "PostgreSQL may have rewritten it" in verified
    assert "definitions agree (" in verified
    assert database.scalar('SELECT count(*) FROM "Item"') == 2


def test_manifests_with_digests_alone_find_what_no_reload_changes(older: Project, database: Database) -> None:
    """A default, a simple check, a type, and an object that is missing."""
    changes = {
        "ALTER TABLE plain ALTER id SET DEFAULT 2": "table",
        "ALTER TABLE plain DROP CONSTRAINT plain_id_check, ADD CONSTRAINT plain_id_check CHECK (id > 1)": "constraint",
        "ALTER TABLE plain ALTER id TYPE bigint": "table",
        'DROP INDEX "Item_some"': "index",
    }
    for change, kind in changes.items():
        database.execute(change)
        result = older.inv("db.verify", f"--file={newest(older)}", "--json")
        assert result.returncode == 6
        assert kind in {each["kind"] for each in json.loads(result.stdout)["differences"]}, change


# What pg_dump leaves out, or writes otherwise; each in a schema of its own

SELECTED = {
    "an index that is not ready": "CREATE TABLE t (id int); CREATE INDEX i ON t (id);"
    "UPDATE pg_index SET indisready = false WHERE indexrelid = 'i'::regclass",
    "a key that is invalid": "CREATE TABLE t (id int PRIMARY KEY);"
    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 't_pkey'::regclass",
    "a replica identity whose index is gone": "CREATE TABLE t (id int NOT NULL); CREATE UNIQUE INDEX u ON t (id);"
    "ALTER TABLE t REPLICA IDENTITY USING INDEX u; DROP INDEX u",
    "a replica identity whose index is invalid": "CREATE TABLE t (id int NOT NULL); CREATE UNIQUE INDEX u ON t (id);"
    "ALTER TABLE t REPLICA IDENTITY USING INDEX u;"
    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'u'::regclass",
    "what reads a materialized view without rows": "CREATE TABLE t (id int);"
    "CREATE MATERIALIZED VIEW m1 AS SELECT * FROM t; CREATE VIEW v AS SELECT * FROM m1;"
    "CREATE MATERIALIZED VIEW m2 AS SELECT * FROM v; CREATE MATERIALIZED VIEW m3 AS SELECT * FROM m2;"
    "REFRESH MATERIALIZED VIEW m1 WITH NO DATA",
    "an invalid index of a partitioned table": "CREATE TABLE p (id int) PARTITION BY RANGE (id);"
    "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE INDEX pi ON ONLY p (id)",
    "an index of a partitioned table that becomes valid": "CREATE TABLE p (id int) PARTITION BY RANGE (id);"
    "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE INDEX pi ON p (id);"
    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'pi'::regclass",
    "an index of a partition that is invalid": "CREATE TABLE p (id int) PARTITION BY RANGE (id);"
    "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE INDEX pi ON p (id);"
    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'p1_id_idx'::regclass",
    "an index beside a foreign partition": "CREATE EXTENSION file_fdw SCHEMA public;"
    "CREATE SERVER s FOREIGN DATA WRAPPER file_fdw;"
    "CREATE TABLE p (id int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);"
    "CREATE FOREIGN TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20) SERVER s OPTIONS (filename '/nowhere');"
    "CREATE INDEX pi ON p (id)",
    "a shell operator and its negator": "CREATE FUNCTION f(boolean, boolean) RETURNS boolean LANGUAGE sql AS"
    " 'SELECT $1'; CREATE OPERATOR === (LEFTARG = boolean, RIGHTARG = boolean, PROCEDURE = f, NEGATOR = !==)",
    "a shell type": "CREATE TYPE nothing",
    "defaults of domains by another search_path": "CREATE SEQUENCE q;"
    "CREATE TYPE e AS ENUM ('a', 'b'); CREATE DOMAIN d1 AS int DEFAULT nextval('q'); CREATE DOMAIN d2 AS e DEFAULT 'a'",
    "an identity of another type than its column's": "CREATE TABLE a (id int GENERATED ALWAYS AS IDENTITY, d smallint"
    " GENERATED BY DEFAULT AS IDENTITY (INCREMENT -1)); CREATE TABLE b (LIKE a INCLUDING ALL)",
    "an identity of a partition's partitions": "CREATE TABLE p (id int, k int) PARTITION BY HASH (k);"
    "CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 1, REMAINDER 0) PARTITION BY HASH (k);"
    'CREATE TABLE "A1" PARTITION OF p1 FOR VALUES WITH (MODULUS 1, REMAINDER 0);'
    "DO $$ BEGIN IF current_setting('server_version_num')::int >= 170000 THEN"
    " ALTER TABLE p ALTER id SET NOT NULL, ALTER id ADD GENERATED ALWAYS AS IDENTITY; END IF; END $$",
    "columns that were renamed in a join": "CREATE TABLE a (id int, x varchar); CREATE TABLE b (id int, z varchar);"
    "CREATE VIEW v AS SELECT * FROM a JOIN b USING (id) WHERE x IN ('a', 'b'); ALTER TABLE a RENAME id TO aid",
}


@pytest.mark.all_majors
def test_nothing_differs_after_a_reload(database: Database, new_database: Databases) -> None:
    """What psql loads of a dump is what the facts say of the source."""
    for name, source in SELECTED.items():
        database.execute(f'CREATE SCHEMA "{name}"; SET search_path = "{name}"; {source}')
    target = new_database()

    target.psql(database.dump_text())

    assert compare_objects(facts_of(database), facts_of(target), same_major=True) == []


def test_what_belongs_to_tables_of_an_extension_is_not_selected(database: Database, new_database: Databases) -> None:
    """Its place in a publication, statistics of it, and that a sequence belongs to it, are in no dump."""
    database.execute(
        "CREATE EXTENSION citext; CREATE TABLE given (id serial, n int); ALTER EXTENSION citext ADD TABLE given;"
        "CREATE TABLE mine (id int); CREATE PUBLICATION p FOR TABLE given, mine;"
        "CREATE STATISTICS s ON id, n FROM given"
    )
    target = new_database()

    target.psql(database.dump_text())

    assert compare_objects(facts_of(database), facts_of(target), same_major=True) == []


def test_an_index_that_is_not_attached_is_a_difference(database: Database, new_database: Databases) -> None:
    """The index of a partitioned table that lacks one of its parts."""
    parted = (
        "CREATE TABLE p (id int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);"
        "CREATE INDEX pi ON {} p (id)"
    )
    target = new_database()
    database.execute(parted.format(""))
    target.execute(parted.format("ONLY"))

    (found,) = compare_objects(facts_of(database), facts_of(target), same_major=True)

    assert (found.kind, found.name, found.what) == ("index", "public.pi", What.DIFFERENT)
