"""A safety dump is restored into the server that it was made from; where that is uncertain, undo asks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.flows import safety_dumps
from tests.forwarding import Forwarder
from tests.servers import OWNER, SUPERUSER

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Server
    from tests.support import Database, Databases, Project

TABLE = "CREATE TABLE public.t AS SELECT 'of {name}' AS v"
NO_NUMBER = "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_control_system() FROM PUBLIC"


def emptied(project: Project, database: Database, role: str, port: int) -> None:
    """Reset a database through a forwarded port, which makes a safety dump."""
    database.execute(NO_NUMBER)
    database.execute(TABLE.format(name=database.server.major), role)
    project.use(database, role)
    project.env["DATABASE_URL"] = database.url_as(role).replace(f":{database.server.port}/", f":{port}/")
    reset = project.inv("db.reset", "--yes", f"--confirm={database.name}")
    assert reset.returncode == 0, reset.stderr


@pytest.mark.majors(15, 18)
@pytest.mark.parametrize("role", [OWNER, SUPERUSER])
def test_undo_is_certain_of_the_same_server(role: str, new_database: Databases, project: Project) -> None:
    """It asks nothing, though a plain owner may not ask for the cluster's number."""
    database = new_database(owner=OWNER)
    emptied(project, database, role, database.server.port)

    undone = project.inv("db.undo", "--yes")

    assert undone.returncode == 0, undone.stderr
    assert database.scalar("SELECT v FROM public.t") == f"of {database.server.major}"


@pytest.mark.majors(15, 18)
@pytest.mark.parametrize(("name", "value"), [("host", "db.example.com"), ("port", 5)])
def test_undo_asks_where_it_may_be_a_copy_of_the_server(
    name: str, value: object, new_database: Databases, project: Project
) -> None:
    """A copied cluster bears the same number, so another host, or another port after a restart, needs the name."""
    database = new_database(owner=OWNER)
    database.execute("CREATE TABLE public.t AS SELECT 1 AS a")
    project.use(database)
    assert project.inv("db.reset", "--yes").returncode == 0
    (path,) = safety_dumps(project)
    manifest = path.parent / path.name.replace(".sql.zst", ".manifest.json")
    document = json.loads(manifest.read_text())
    document["source"] |= {name: value, "started": "2020-01-01T00:00:00+00:00", "counting_since": None}
    manifest.write_text(json.dumps(document))
    project.env["INVOKE_DB_LOCAL"] = "127.0.0.1,localhost"

    undone = project.inv("db.undo", "--yes")
    untouched = database.scalar("SELECT to_regclass('public.t') IS NULL")
    named = project.inv("db.undo", "--yes", f"--confirm={database.name}")

    assert undone.returncode == 7, undone.stderr
    assert untouched
    assert named.returncode == 0, named.stderr


def test_undo_asks_where_another_database_has_the_name(new_database: Databases, project: Project) -> None:
    """The one that was dumped was renamed, and a new one created: the cluster, host and port are the same."""
    database = new_database(owner=OWNER)
    database.execute("CREATE TABLE public.t AS SELECT 'of the first' AS v")
    project.use(database)
    assert project.inv("db.reset", "--yes").returncode == 0
    with database.server.connect() as connection:
        connection.execute(f'ALTER DATABASE "{database.name}" RENAME TO "{database.name}_first"'.encode())
    another = new_database(name=database.name)
    another.execute("CREATE TABLE public.t AS SELECT 'of another' AS v")

    undone = project.inv("db.undo", "--yes")
    untouched = another.scalar("SELECT v FROM public.t")
    named = project.inv("db.undo", "--yes", f"--confirm={database.name}")

    assert undone.returncode == 7, undone.stderr
    assert untouched == "of another"
    assert named.returncode == 0, named.stderr
    assert another.scalar("SELECT v FROM public.t") == "of the first"


@pytest.mark.majors(15, 18)
@pytest.mark.parametrize("facts", ["recorded", "of an older version"])
def test_undo_asks_where_a_port_leads_to_another_server(
    facts: str, new_database: Databases, server_of: Callable[[int], Server], project: Project
) -> None:
    """The same name, host and port, and the other cluster's safety dump: nothing is touched until it is named."""
    database = new_database(owner=OWNER)
    server = server_of(17)
    other = new_database(owner=OWNER, server=server, name=database.name)
    other.execute(NO_NUMBER)
    other.execute(TABLE.format(name="another"), OWNER)
    leads_to = database.server.port
    with Forwarder(lambda _: leads_to) as forwarder:
        emptied(project, database, OWNER, forwarder.port)
        (path,) = safety_dumps(project)
        manifest = path.parent / path.name.replace(".sql.zst", ".manifest.json")
        document = json.loads(manifest.read_text())
        assert {"database_oid", "started", "counting_since"} <= document["source"].keys()
        # Of a transaction that both servers know.
        document["transaction"] = "3"
        if facts != "recorded":
            for name in ("database_oid", "started", "counting_since"):
                del document["source"][name]
        manifest.write_text(json.dumps(document))
        leads_to = server.port
        project.env["INVOKE_DB_BIN_DIR"] = str(server.bin_dir)

        undone = project.inv("db.undo", "--yes")
        wrong = project.inv("db.undo", "--yes", "--confirm=another")
        untouched = other.scalar("SELECT v FROM public.t")
        named = project.inv("db.undo", "--yes", f"--confirm={other.name}")

    assert (undone.returncode, wrong.returncode) == (7, 7)
    assert untouched == "of another"
    assert named.returncode == 0, named.stderr
