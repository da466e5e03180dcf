"""A definition that differs is explained part by part, as far as the manifest holds more than its digest."""

import json
from collections.abc import Iterator

import pytest

from tests.flows import newest, ran
from tests.schemas import SHOP
from tests.servers import Server
from tests.shared_files import Files, files_of, put_files
from tests.support import Database, Databases, Project

TABLES = """
CREATE TABLE app.bill (
    id integer PRIMARY KEY, total integer NOT NULL DEFAULT 0, note text COLLATE "C", paid boolean DEFAULT false,
    CONSTRAINT positive CHECK (total > 0)
);
CREATE INDEX bill_some ON app.bill (total) WHERE total > 5;
CREATE DOMAIN app.share AS numeric CHECK (VALUE > 0);
CREATE SEQUENCE app.free;
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.note := 'touched';
    RETURN NEW;
END $$;
CREATE TRIGGER touched BEFORE UPDATE ON app.bill FOR EACH ROW EXECUTE FUNCTION app.touch();
CREATE POLICY mine ON app.bill FOR SELECT USING (total > 1);
"""

# Per case: what is done to the database, the object, and the part with its words in the dump and in the database.
CHANGES = {
    "a column less": ("ALTER TABLE app.bill DROP note", "app.bill", ('column "note"', 'text COLLATE "C"', None)),
    "a column more": ("ALTER TABLE app.bill ADD vat int", "app.bill", ('column "vat"', None, "integer")),
    "another type": (
        "ALTER TABLE app.bill ALTER id TYPE numeric(10,2)",
        "app.bill",
        ('column "id"', "integer NOT NULL", "numeric(10,2) NOT NULL"),
    ),
    "no NOT NULL": (
        "ALTER TABLE app.bill ALTER total DROP NOT NULL",
        "app.bill",
        ('column "total"', "integer NOT NULL", "integer"),
    ),
    "no default": ("ALTER TABLE app.bill ALTER paid DROP DEFAULT", "app.bill", ("DEFAULT of paid", "false", None)),
    "another default": ("ALTER TABLE app.bill ALTER total SET DEFAULT 1", "app.bill", ("DEFAULT of total", "0", "1")),
    "an identity": (
        "ALTER TABLE app.bill ALTER id ADD GENERATED ALWAYS AS IDENTITY",
        "app.bill",
        ('column "id"', "integer NOT NULL", "integer NOT NULL GENERATED ALWAYS AS IDENTITY"),
    ),
    "row security": (
        "ALTER TABLE app.bill ENABLE ROW LEVEL SECURITY",
        "app.bill",
        ("row security", "disabled", "enabled"),
    ),
    "unlogged": ("ALTER TABLE app.bill SET UNLOGGED", "app.bill", ("persistence", "permanent", "unlogged")),
    "another check": (
        "ALTER TABLE app.bill DROP CONSTRAINT positive, ADD CONSTRAINT positive CHECK (total > 9)",
        "app.bill.positive",
        ("definition", "CHECK ((total > 0))", "CHECK ((total > 9))"),
    ),
    "a check that is not validated": (
        "ALTER TABLE app.bill DROP CONSTRAINT positive, ADD CONSTRAINT positive CHECK (total > 0) NOT VALID",
        "app.bill.positive",
        ("validity", "valid", "not valid"),
    ),
    "another key": (
        "ALTER TABLE app.bill DROP CONSTRAINT bill_pkey, ADD CONSTRAINT bill_pkey PRIMARY KEY (id, total)",
        "app.bill.bill_pkey",
        ("definition", "PRIMARY KEY (id)", "PRIMARY KEY (id, total)"),
    ),
    "another index": (
        "DROP INDEX app.bill_some; CREATE INDEX bill_some ON app.bill (total) WHERE total > 6",
        "app.bill_some",
        (
            "definition",
            "CREATE INDEX bill_some ON app.bill USING btree(total) WHERE (total > 5)",
            "CREATE INDEX bill_some ON app.bill USING btree(total) WHERE (total > 6)",
        ),
    ),
    "a trigger that is disabled": (
        "ALTER TABLE app.bill DISABLE TRIGGER touched",
        "app.bill.touched",
        ("state", "enabled", "disabled"),
    ),
    "another policy": (
        "ALTER POLICY mine ON app.bill USING (total > 2)",
        "app.bill.mine",
        ("USING", "(total > 1)", "(total > 2)"),
    ),
    "a policy for all": (
        "DROP POLICY mine ON app.bill; CREATE POLICY mine ON app.bill USING (total > 1)",
        "app.bill.mine",
        ("command", "SELECT", "ALL"),
    ),
    "a label more": ("ALTER TYPE app.kind ADD VALUE 'toy'", "app.kind", ("labels", "fruit,tool", "fruit,tool,toy")),
    "another domain": (
        "ALTER DOMAIN app.share SET NOT NULL",
        "app.share",
        ("base type", "numeric", "numeric NOT NULL"),
    ),
    "another step": ("ALTER SEQUENCE app.free INCREMENT 5", "app.free", ("INCREMENT", "1", "5")),
    "another volatility": (
        "ALTER FUNCTION app.count_tools() VOLATILE",
        "app.count_tools()",
        ("volatility", "STABLE", "VOLATILE"),
    ),
}


NAME = "shop_of_definitions"


@pytest.fixture(scope="module")
def dumped_shop(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Files]]:
    """Return a database, only to be cloned, and the dump of a clone."""
    project = Project.create(tmp_path_factory.mktemp("definitions") / "project")
    with Databases(server) as new_database:
        template = new_database()
        template.execute(SHOP + TABLES)
        with Databases(server) as new_clone:
            ran(project.use(new_clone(template=template, name=NAME)), "db.dump")
        yield template, files_of(project)


@pytest.fixture
def shop(dumped_shop: tuple[Database, Files], new_database: Databases, project: Project) -> Database:
    """Return a database that was dumped."""
    template, files = dumped_shop
    put_files(project, files)
    database = new_database(template=template, name=NAME)
    project.use(database)
    return database


def verified(project: Project) -> dict[str, list[dict[str, str | None]]]:
    """Return what differs from the dump, per object."""
    result = project.inv("db.verify", f"--file={newest(project).name}", "--json")
    assert result.returncode == 6, result.stderr
    return {each["name"]: each["changes"] for each in json.loads(result.stdout)["differences"]}


@pytest.mark.parametrize(("statement", "name", "change"), CHANGES.values(), ids=CHANGES.keys())
def test_verify_lists_the_part_that_differs(
    statement: str, name: str, change: tuple[str, str | None, str | None], shop: Database, project: Project
) -> None:
    """Each part of a definition that differs is listed once, with its words in the dump and in the database."""
    shop.execute(statement)

    found = verified(project)

    part, expected, have = change
    assert [each for each in found[name] if each["part"] == part] == [
        {"part": part, "expected": expected, "found": have}
    ]


def test_verify_lists_every_part_of_a_definition(shop: Database, project: Project) -> None:
    """A default that is dropped between others shifts none of them."""
    shop.execute("ALTER TABLE app.bill ALTER paid DROP DEFAULT, ALTER total SET DEFAULT 7, ADD also int DEFAULT 3")

    found = verified(project)["app.bill"]

    assert {each["part"] for each in found} == {
        "DEFAULT of paid",
        "DEFAULT of total",
        'column "also"',
        "DEFAULT of also",
    }


def test_verify_shows_the_line_of_a_body_that_differs(shop: Database, project: Project) -> None:
    """Of a long text the first line that differs is shown, with its number."""
    body = shop.scalar("SELECT prosrc FROM pg_proc WHERE proname = 'touch'").replace("'touched'", "'moved'")
    shop.execute(
        f"CREATE OR REPLACE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $${body}$$;"
        "CREATE OR REPLACE VIEW app.tools AS SELECT * FROM app.item WHERE kind = 'fruit'"
    )

    said = project.inv("db.verify", f"--file={newest(project).name}").stdout

    assert "function app.touch(): definition is not as in the dump: line 3 of body is NEW.note := 'moved';" in said
    assert "view app.tools: definition is not as in the dump: query is SELECT" in said


def test_a_restore_that_fails_says_what_differs(shop: Database, project: Project) -> None:
    """The part that differs is in the error; every old row is in place."""
    manifest = project.dumps / f"{newest(project).name.partition('.')[0]}.manifest.json"
    document = json.loads(manifest.read_bytes())
    table = document["facts"]["definitions"]["table"]["app.bill"]
    table["facts"], table["parts"]['column "total"'] = "0" * 24, "numeric(10,2) NOT NULL"
    manifest.write_text(json.dumps(document), encoding="utf-8")

    result = project.inv("db.restore", "--clean", "--yes")

    assert result.returncode == 5
    assert 'column "total" is integer NOT NULL, expected numeric(10,2) NOT NULL' in result.stderr
    assert shop.scalar("SELECT count(*) FROM app.item") == 300


def test_verify_says_where_only_a_digest_is_known(shop: Database, project: Project) -> None:
    """A manifest of an earlier version has no parts."""
    manifest = project.dumps / f"{newest(project).name.partition('.')[0]}.manifest.json"
    document = json.loads(manifest.read_bytes())
    for kind in document["facts"]["definitions"].values():
        for definition in kind.values():
            if isinstance(definition, dict):
                definition.pop("parts", None)
    manifest.write_text(json.dumps(document), encoding="utf-8")
    shop.execute("ALTER TABLE app.bill ADD vat int")

    said = project.inv("db.verify", f"--file={newest(project).name}")

    assert said.returncode == 6
    assert "table app.bill: definition is not as in the dump: only its digest is recorded" in said.stdout
