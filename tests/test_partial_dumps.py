"""Dumps of a part of a database, and archives of other versions: what a person is told of them."""

import subprocess

import pytest

from tasks.errors import MissingProgramError, OperationFailedError
from tests.flows import dump_of, pg_dump, restore_path, write
from tests.servers import OWNER, Server, provision
from tests.support import Database, Databases, Project

SHOP = "CREATE TABLE {0} (id int PRIMARY KEY); INSERT INTO {0} VALUES (1), (2);"
TABLES = ("a", "b", "c", "d", "e")


@pytest.fixture
def shop(new_database: Databases) -> Database:
    """Return a database of five tables."""
    database = new_database()
    database.execute("".join(SHOP.format(f"public.{name}") for name in TABLES))
    return database


@pytest.mark.majors(14, 18)
def test_preview_says_how_many_of_the_tables_a_dump_holds(shop: Database, project: Project) -> None:
    """A dump of one table, over five: --clean would delete the other four."""
    write(project, "given.sql", pg_dump(shop, "--table=public.a"))
    project.use(shop)

    shown = project.inv("--dry", "db.restore", "--file=given.sql", "--clean")

    assert shown.returncode == 0, shown.stderr
    assert "the dump holds 1 of these 5 tables" in shown.stdout + shown.stderr
    assert all(f"public.{name}" in shown.stdout + shown.stderr for name in "bcd")


def test_a_refusal_names_the_tables_that_clean_would_delete(shop: Database, project: Project) -> None:
    """The advice to use --clean says what that deletes; of a dump of all it says nothing."""
    part = write(project, "part.sql", pg_dump(shop, "--table=public.a"))
    whole = write(project, "whole.sql", pg_dump(shop))

    with pytest.raises(OperationFailedError, match=r"--clean.*public\.b"):
        restore_path(project, shop, part)
    with pytest.raises(OperationFailedError, match="--clean") as refused:
        restore_path(project, shop, whole)
    assert "public.b" not in str(refused.value)


@pytest.mark.majors(14, 18)
def test_a_dump_of_definitions_says_how_many_tables_it_made(
    shop: Database, new_database: Databases, project: Project
) -> None:
    """Of pg_dump --schema-only there are no rows, but five tables."""
    write(project, "given.sql", pg_dump(shop, "--schema-only"))
    target = new_database()

    result = project.use(target).inv("db.restore", "--file=given.sql")

    assert result.returncode == 0, result.stderr
    assert "0 rows in 5 tables" in result.stdout


def archive(server: Server, database: Database, major: int, *options: str) -> bytes:
    """Return an archive by the pg_dump of a major."""
    program = provision(major) / "pg_dump"
    argv = [str(program), "--format=custom", f"--dbname={server.conninfo(database.name)}", *options]
    return subprocess.run(argv, capture_output=True, check=True).stdout


@pytest.mark.majors(14)
@pytest.mark.parametrize(("major", "needed"), [(16, 16), (17, 17), (18, 17)])
def test_a_newer_archive_names_the_version_to_install(
    server: Server, database: Database, new_database: Databases, project: Project, major: int, needed: int
) -> None:
    """Exit 3, before anything is read; our pg_restore is that of 14."""
    database.execute(SHOP.format("public.a"))
    path = write(project, "given.dump", archive(server, database, major))

    with pytest.raises(MissingProgramError, match=rf"\b{needed}\b"):
        restore_path(project, new_database(), path)


def test_an_archive_of_a_later_format_is_refused(database: Database, project: Project) -> None:
    """One that nobody has written yet."""
    write(project, "given.dump", b"PGDMP\x01\x11\x00" + bytes(80))

    result = project.use(database).inv("db.restore", "--file=given.dump")

    assert result.returncode == 3
    assert "19" in result.stderr


@pytest.mark.majors(14, 18)
def test_an_archive_is_restored_when_it_was_made_as_another_role(
    server: Server, new_database: Databases, project: Project
) -> None:
    """With pg_dump --role, by the server's own pg_dump."""
    source, target = new_database(), new_database(owner=OWNER)
    source.execute(f"GRANT CREATE ON SCHEMA public TO {OWNER}")
    source.execute(SHOP.format("public.a"), role=OWNER)
    target.execute(f"GRANT CREATE ON SCHEMA public TO {OWNER}")
    path = write(project, "given.dump", archive(server, source, server.major, f"--role={OWNER}"))

    assert restore_path(project, target, path, OWNER).rows == 2


def test_concatenated_dumps_are_refused_when_the_second_is_cut(database: Database, project: Project) -> None:
    """Two whole dumps load one after the other; without the second one's last line nothing does."""
    first, second = (dump_of(f"CREATE TABLE public.{name} (id int);") for name in "ab")
    write(project, "both.sql", first + second)
    write(project, "cut.sql", first + second.replace(b"-- PostgreSQL database dump complete", b""))
    project.use(database)

    assert project.inv("db.restore", "--file=cut.sql").returncode == 2
    assert project.inv("db.restore", "--file=both.sql").returncode == 0
    assert database.scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 2
