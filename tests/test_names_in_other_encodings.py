"""Names in the encoding of the dump are read in it: by restore, inspect, show, verify and messages."""

import json

import pytest

from tasks.dumpformat.lexer import lex
from tasks.dumpformat.summary import DumpSummary
from tests.flows import dump_of, pg_dump, write
from tests.servers import OWNER, SUPERUSER
from tests.support import Databases, Project

NAMES = """
CREATE TABLE public."Café" ("prénom" text PRIMARY KEY, "ö" int DEFAULT 1);
INSERT INTO public."Café" VALUES ('é€'), ('plain');
CREATE INDEX "naïve" ON public."Café" (lower("prénom")); CREATE SEQUENCE public."séq"; SELECT setval('public."séq"', 7);
CREATE TYPE public."état" AS ENUM ('créé'); CREATE SCHEMA "données"; CREATE TABLE "données"."été" (id int);
INSERT INTO "données"."été" SELECT generate_series(1, 3);
COMMENT ON SCHEMA "données" IS 'données';
"""


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("role", [SUPERUSER, OWNER])
@pytest.mark.parametrize(
    ("encoding", "options"),
    [("WIN1252", []), ("LATIN9", ["--inserts"]), ("UTF8", []), ("WIN1252", ["--clean", "--if-exists"])],
)
def test_names_are_read_in_the_encoding_of_the_dump(
    new_database: Databases, project: Project, role: str, encoding: str, options: list[str]
) -> None:
    """Restored, restored again with --clean, verified and inspected; the same text by pg_dump."""
    source, target = new_database(), new_database(owner=role)
    source.execute(NAMES)
    for database in (source, target):
        database.execute(f"ALTER SCHEMA public OWNER TO {OWNER}")
    write(project, "given.sql", pg_dump(source, f"--encoding={encoding}", "--no-owner", *options))
    project.use(target, role)

    results = [
        project.inv("db.restore", "--file=given.sql"),
        project.inv("db.verify"),
        project.inv("db.restore", "--file=given.sql", "--clean", "--yes", "--confirm", target.name),
        project.inv("db.verify"),
    ]
    inspected = json.loads(project.inv("db.inspect", "--file=given.sql", "--json").stdout)

    assert [each.returncode for each in results] == [0, 0, 0, 0], [each.stderr for each in results]
    assert target.dump_text("--no-owner") == source.dump_text("--no-owner")
    assert {"public", "données"} == set(inspected["outline"]["schemas"])
    if "--inserts" not in options:
        assert {(each["schema"], each["name"]) for each in inspected["tables"]} == {
            ("public", "Café"),
            ("données", "été"),
        }


@pytest.mark.majors(14, 18)
def test_a_refusal_names_what_it_is_about_in_the_encoding_of_the_dump(
    new_database: Databases, project: Project
) -> None:
    """The server's message, in WIN1252, too."""
    target = new_database()
    text = dump_of("SET client_encoding = 'WIN1252';", 'CREATE TABLE public."Café" (a "zut é");')
    write(project, "given.sql", text.decode().encode("cp1252"))

    result = project.use(target).inv("db.restore", "--file=given.sql")

    assert result.returncode == 5
    assert "CREATE TABLE public.Café" in result.stderr
    assert "zut é" in result.stderr


def test_rows_are_shown_when_the_table_has_an_accent(project: Project, new_database: Databases) -> None:
    """Named as people write it, with its columns."""
    source = new_database()
    source.execute(NAMES)
    write(project, "given.sql", pg_dump(source, "--encoding=WIN1252"))

    result = project.inv("db.show", "--file=given.sql", "--table=Café")

    assert result.returncode == 0, result.stderr
    assert "prénom" in result.stdout
    assert "é€" in result.stdout


def test_names_are_read_in_the_encoding_that_is_in_force() -> None:
    """A dump of two parts, each in its own encoding."""
    first = "SET client_encoding = 'WIN1252';\nCREATE TABLE public.café (id int);\n".encode("cp1252")
    second = "SET client_encoding = 'UTF8';\nCOPY public.été (id) FROM stdin;\n1\n\\.\n".encode()
    summary = DumpSummary()

    actions = [action for _, action in summary.watch(lex([first + second])) if action is not None]

    assert {each.name for each in actions if each.schema} == {"café", "été"}
    assert summary.rows == {("public", "été"): 1}
