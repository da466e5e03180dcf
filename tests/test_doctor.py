"""The doctor says what is wrong and what helps, in order, and changes nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest

from tasks.config.dotenv import read_url
from tasks.config.target import sanitize
from tasks.doctor.check import refused
from tasks.doctor.connectivity import resolve_addresses
from tasks.doctor.doctor import examine
from tasks.doctor.tasks_file import check_tasks_file
from tasks.dumpfiles.atomic_write import open_part_file
from tasks.errors import BadInputError
from tasks.progress import Silence
from tasks.safety.scratch_database import MARK, PREFIX
from tests.flows import settings_of
from tests.schemas import MIGRATIONS, SHOP, make_tables
from tests.servers import OWNER, PASSWORD, SUPERUSER, Server, server_account
from tests.support import Database, Project, blocking, eventually
from tests.terminals import at_a_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAMES = [
    "URL found",
    "URL understood",
    "host",
    "port",
    "TLS",
    "login",
    "server",
    "rights to dump",
    "rights to restore",
    "guard",
    "rights to rehearse",
    "role",
    "pg_dump",
    "pg_restore",
    "Prisma",
    "migrations",
    "folder",
    "ignored by git",
    "free space",
    "leftovers",
    "scratch databases",
    "staging databases",
    "kept databases",
    "other sessions",
    "newest dump",
    "locks",
    "swap",
    "definitions",
    "clock",
]
SCRIPT = "CREATE TABLE t (id integer);\n"
HISTORY = f"""
CREATE TABLE public._prisma_migrations (
    id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL, finished_at timestamptz,
    migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz,
    started_at timestamptz DEFAULT now() NOT NULL, applied_steps_count integer DEFAULT 1 NOT NULL
);
INSERT INTO public._prisma_migrations (id, checksum, finished_at, migration_name)
    VALUES ('1', '{hashlib.sha256(SCRIPT.encode()).hexdigest()}', now(), '20250101000000_first');
"""
FAILED = (
    "INSERT INTO public._prisma_migrations (id, checksum, migration_name) VALUES ('2', 'x', '20250102000000_second')"
)


def git(project: Project, *words: str) -> None:
    """Run git in the project."""
    subprocess.run(["git", *words], cwd=project.root, env=project._environment(None), check=True, capture_output=True)


def lay_prisma(project: Project) -> None:
    """Give the project a Prisma that can be found, but not run, and a migration."""
    project.write(
        "prisma/schema.prisma", 'datasource db {\n  provider = "postgresql"\n  url = env("DATABASE_URL")\n}\n'
    )
    project.write("prisma/migrations/20250101000000_first/migration.sql", SCRIPT)
    project.write("node_modules/.bin/prisma", "")
    project.write("node_modules/prisma/package.json", '{"name": "prisma", "version": "6.19.3"}')


@pytest.fixture
def shop(database: Database, project: Project) -> Database:
    """Return a database with which the project works, and in which nothing is wrong."""
    database.execute(SHOP)
    project.dumps.chmod(0o700)
    project.use(database)
    return database


def documents(project: Project, *flags: str, **keywords: Any) -> tuple[int, dict[str, dict[str, str]]]:
    """Let the doctor look, and return its exit status and what it says, by name."""
    result = project.inv("db.doctor", "--json", *flags, **keywords)
    assert "Traceback" not in result.stderr
    return result.returncode, {each["name"]: each for each in json.loads(result.stdout)["checks"]}


def look(project: Project, database: Database, role: str = SUPERUSER, **keywords: Any) -> dict[str, Any]:
    """Let the doctor look in this process, and return what it says, by name."""
    settings = settings_of(project, database, role, **keywords.pop("changes", {}))
    return {each.name: each for each in examine(settings, Silence(), **keywords).checks}


def test_everything_is_green_when_nothing_is_wrong(shop: Database, project: Project) -> None:
    """Exit 0; every line is there, in its order."""
    git(project, "init")
    lay_prisma(project)
    shop.execute(HISTORY)
    assert project.inv("db.dump").returncode == 0

    result = project.inv("db.doctor")
    code, found = documents(project)

    assert result.returncode == code == 0, result.stdout
    assert list(found) == NAMES
    assert {each["state"] for each in found.values()} == {"ok"}, found
    assert [line.split("  ")[0] for line in result.stdout.splitlines()] == [f"✓ {name}" for name in NAMES]
    assert f"PostgreSQL {shop.server.major}." in found["server"]["message"]
    assert "6.19.3" in found["Prisma"]["message"]


@pytest.mark.usefixtures("shop")
def test_a_new_project_has_notes_and_no_faults(project: Project) -> None:
    """No dump yet, no Prisma, no folder: exit 0."""
    project.dumps.rmdir()

    code, found = documents(project)

    assert code == 0
    assert {name for name, each in found.items() if each["state"] == "note"} == {"Prisma", "newest dump"}
    assert found["newest dump"]["fix"] == "`inv db.dump` makes one."
    assert "first dump" in found["folder"]["message"]


@pytest.mark.parametrize("dumps", [True, False], ids=["with-dumps", "without-a-folder"])
def test_the_doctor_changes_nothing(dumps: bool, shop: Database, project: Project) -> None:
    """Neither database nor folder, not even where there is no folder yet or something is wrong."""
    git(project, "init")
    lay_prisma(project)
    shop.execute(HISTORY)
    shop.execute(FAILED)
    if dumps:
        assert project.inv("db.dump").returncode == 0
        project.write("dumps/db_dump_2025-01-01T00-00-00-000Z.part", "x")
    else:
        project.dumps.rmdir()
    files = {path: path.lstat() for path in project.root.rglob("*")}
    before = shop.dump_text(), {path: (each.st_mtime_ns, each.st_size, each.st_mode) for path, each in files.items()}

    result = project.inv("db.doctor")

    files = {path: path.lstat() for path in project.root.rglob("*")}
    after = shop.dump_text(), {path: (each.st_mtime_ns, each.st_size, each.st_mode) for path, each in files.items()}
    assert result.returncode == 3
    assert after == before


# What can be wrong


@dataclass(frozen=True)
class Broken:
    """Something that is wrong.

    :ivar breaks: Breaks it.
    :ivar name: The line that tells it; `what` and `remedy` are looked for in it.
    """

    breaks: Callable[[Project, Database], object]
    name: str
    what: str
    remedy: str


def with_url(change: Callable[[str, Database], str]) -> Callable[[Project, Database], object]:
    """Change the URL of the environment."""

    def breaks(project: Project, database: Database) -> None:
        project.env["DATABASE_URL"] = change(project.env["DATABASE_URL"], database)

    return breaks


def without_url(project: Project, _database: Database) -> None:
    """Take the URL away."""
    del project.env["DATABASE_URL"]


def in_doubt(project: Project, database: Database) -> None:
    """Write the URL in a way that is read in two ways."""
    without_url(project, database)
    project.write(".env", f"DATABASE_URL={database.url}#x\n")


def without_programs(project: Project, _database: Database) -> None:
    """Let the programs be looked for where there are none."""
    (project.root / "empty").mkdir()
    project.env["INVOKE_DB_BIN_DIR"] = str(project.root / "empty")


def reader(project: Project, database: Database) -> None:
    """Let a role come that may read and nothing else."""
    database.execute(
        f"GRANT CONNECT ON DATABASE {database.name} TO {OWNER}; GRANT USAGE ON SCHEMA app, public TO {OWNER};"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA app, public TO {OWNER};"
        f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA app, public TO {OWNER}"
    )
    project.env["DATABASE_URL"] = database.url_as(OWNER)


def stranger(project: Project, database: Database) -> None:
    """Let a role come that may not even read."""
    project.env["DATABASE_URL"] = database.url_as(OWNER)


def behind_policies(project: Project, database: Database) -> None:
    """Let a role come from which policies hide rows."""
    reader(project, database)
    database.execute("ALTER TABLE app.item ENABLE ROW LEVEL SECURITY")


def file_for_folder(project: Project, _database: Database) -> None:
    """Put a file where the folder should be."""
    project.dumps.rmdir()
    project.dumps.write_text("")


def folder_below_file(project: Project, _database: Database) -> None:
    """Let the folder lie below a file."""
    project.env["INVOKE_DB_DUMPS_DIR"] = "tasks.py/dumps"


def open_to_others(project: Project, _database: Database) -> None:
    """Let everybody read a dump."""
    project.dumps.chmod(0o755)
    project.write("dumps/db_dump_2025-01-01T00-00-00-000Z.sql", "x").chmod(0o644)


def seen_by_git(project: Project, _database: Database) -> None:
    """Lay a dump where git sees it."""
    git(project, "init")
    project.write("dumps/mine.sql", "x")


def kept_by_git(project: Project, _database: Database) -> None:
    """Let git keep a dump."""
    seen_by_git(project, _database)
    git(project, "add", "dumps/mine.sql")
    project.write("dumps/.gitignore", "*\n")


def part_left(project: Project, _database: Database) -> None:
    """Leave a part file of a writer that is gone."""
    project.write("dumps/db_dump_2025-01-01T00-00-00-000Z.part", "x")


def manifest_left(project: Project, _database: Database) -> None:
    """Leave a manifest without its dump."""
    project.write("dumps/db_dump_2025-01-01T00-00-00-000Z.manifest.json", "{}")


def dump_cut(project: Project, _database: Database) -> None:
    """Cut the newest dump short."""
    for _ in range(2):
        assert project.inv("db.dump").returncode == 0
    path = max(project.dumps.glob("*.sql"))
    os.truncate(path, path.stat().st_size - 10)


def dump_of_tomorrow(project: Project, _database: Database) -> None:
    """Lay a dump whose name is ahead of the clock."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    project.write(f"dumps/db_dump_{tomorrow:%Y-%m-%dT%H-%M-%S}-000Z.sql", "x").chmod(0o600)


def migration_failed(project: Project, database: Database) -> None:
    """Leave a row that is neither finished nor rolled back."""
    lay_prisma(project)
    database.execute(HISTORY)
    database.execute(FAILED)


def prisma_missing(project: Project, _database: Database) -> None:
    """Take the project's Prisma away."""
    lay_prisma(project)
    shutil.rmtree(project.root / "node_modules")


BROKEN = {
    "no URL": Broken(without_url, "URL found", "DATABASE_URL is not set in", "Write DATABASE_URL="),
    "bad .env": Broken(in_doubt, "URL found", "read differently", "in double quotes"),
    "no PostgreSQL": Broken(
        with_url(lambda url, _: url.replace("postgresql", "mysql")),
        "URL understood",
        "is not a PostgreSQL URL",
        "Correct",
    ),
    "two @": Broken(
        with_url(lambda url, _: url.replace(quote(PASSWORD, safe=""), "p@ss")), "URL understood", "has an @", "Correct"
    ),
    "unknown host": Broken(
        with_url(lambda url, _: url.replace("127.0.0.1", "nowhere.invalid")), "host", "nowhere.invalid can't", "DNS"
    ),
    "no socket folder": Broken(
        with_url(lambda _, database: f"postgresql://postgres@/{database.name}?host=/nowhere"),
        "host",
        "folder /nowhere does not exist",
        "Correct the host",
    ),
    "no socket": Broken(
        with_url(lambda _, database: f"postgresql://postgres@/{database.name}?host=/tmp&port=1"),
        "port",
        "no such file",
        "Start the server",
    ),
    "closed port": Broken(
        with_url(lambda url, database: url.replace(f":{database.server.port}/", ":1/")),
        "port",
        "127.0.0.1 port 1: connection refused",
        "pg.start",
    ),
    "no TLS": Broken(
        with_url(lambda url, _: f"{url}?sslmode=require"), "TLS", "server does not support SSL", r"ssl = on"
    ),
    "wrong password": Broken(
        with_url(lambda url, _: url.replace(quote(PASSWORD, safe=""), "something-else")),
        "login",
        "password authentication failed",
        "ALTER ROLE",
    ),
    "no password": Broken(
        with_url(lambda url, _: url.replace(f":{quote(PASSWORD, safe='')}@", "@")),
        "login",
        "no password supplied",
        "user:password@host",
    ),
    "no database": Broken(
        with_url(lambda url, database: url.replace(database.name, "not_there")),
        "login",
        '"not_there" does not exist',
        "db.restore --create",
    ),
    "reader": Broken(reader, "rights to restore", r"may not create in .*, nor drop app\.item", "owner's URL"),
    "stranger": Broken(stranger, "rights to dump", r"may not read app\.item", "GRANT pg_read_all_data TO owner"),
    "policies": Broken(behind_policies, "rights to dump", r"row-level security hides rows of app\.item", "BYPASSRLS"),
    "no pg_dump": Broken(without_programs, "pg_dump", "No pg_dump was found", "apt install postgresql-client-17"),
    "no Prisma": Broken(prisma_missing, "Prisma", "node_modules/.bin/prisma is missing", "npm install"),
    "failed migration": Broken(migration_failed, "migrations", "P3009", "migrate resolve --rolled-back"),
    "a file for the folder": Broken(file_for_folder, "folder", "dumps is not a folder", "db.dumps_dir"),
    "below a file": Broken(folder_below_file, "folder", r"tasks\.py is not a folder", "db.dumps_dir"),
    "open to others": Broken(open_to_others, "folder", ": db_dump_2025", "chmod -R go-rwx"),
    "seen by git": Broken(seen_by_git, "ignored by git", "git does not ignore", r"echo '\*' >"),
    "kept by git": Broken(kept_by_git, "ignored by git", r"git tracks .*: mine\.sql", "git rm -r --cached"),
    "part file": Broken(part_left, "leftovers", r"000Z\.part", "rm /"),
    "manifest": Broken(manifest_left, "leftovers", r"000Z\.manifest\.json", "renamed.*rm /"),
    "cut": Broken(dump_cut, "newest dump", "is broken: it has", r"db\.restore` uses db_dump_\S+Z\.sql\."),
    "from the future": Broken(dump_of_tomorrow, "newest dump", "in the future", "clock"),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_told_with_its_remedy(broken: Broken, shop: Database, project: Project) -> None:
    """Exit 3, one red line, and below it what helps; no secret and no traceback."""
    broken.breaks(project, shop)

    result = project.inv("db.doctor")

    lines = result.stdout.splitlines()
    (at,) = [number for number, line in enumerate(lines) if re.match(rf"✗ {broken.name}  ", line)]
    assert result.returncode == 3, result.stdout
    assert re.search(broken.what, lines[at])
    assert re.match(r" +→ ", lines[at + 1])
    assert re.search(broken.remedy, lines[at + 1])
    assert broken.name in result.stderr
    for secret in (PASSWORD, quote(PASSWORD, safe=""), "something-else", "p@ss"):
        assert secret not in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_the_rest_is_looked_at_when_the_server_is_not_there(shop: Database, project: Project) -> None:
    """What needs it is skipped, and says so; programs, folder and dumps are looked at."""
    assert project.inv("db.dump").returncode == 0
    project.env["DATABASE_URL"] = shop.url.replace(f":{shop.server.port}/", ":1/")

    code, found = documents(project)

    assert code == 3
    assert {each["state"] for each in found.values()} == {"ok", "note", "problem", "skipped"}
    assert [name for name, each in found.items() if each["state"] == "problem"] == ["port"]
    assert [name for name, each in found.items() if each["state"] == "skipped"] == [
        "TLS",
        "login",
        "server",
        "rights",
        "role",
        "migrations",
        "free space",
        "scratch databases",
        "staging databases",
        "kept databases",
        "other sessions",
        "locks",
        "swap",
        "definitions",
        "clock",
    ]
    assert "whether it fits the server is not known" in found["pg_dump"]["message"]
    assert found["newest dump"]["state"] == "ok"


def test_too_few_locks_are_told_when_many_tables_are_there(database: Database, project: Project) -> None:
    """Without a dump, one of this database is meant; the value to set is named."""
    make_tables(database, 1500)

    told = look(project, database)["locks"]

    assert told.state == "wrong"
    assert re.search(r"max_locks_per_transaction to \d+ or more", told.remedy)


def test_a_clock_that_is_wrong_is_told(shop: Database, project: Project) -> None:
    """Over a minute is too much, either way."""
    ahead = look(project, shop, now=lambda: datetime.now(UTC) + timedelta(minutes=2))["clock"]
    behind = look(project, shop, now=lambda: datetime.now(UTC) - timedelta(minutes=2))["clock"]
    near = look(project, shop, now=lambda: datetime.now(UTC) + timedelta(seconds=30))["clock"]

    assert [each.state for each in (ahead, behind, near)] == ["wrong", "wrong", "ok"]
    assert "120 s apart" in ahead.what
    assert "NTP" in ahead.remedy


def test_a_full_disk_is_told_before_it_is_full(shop: Database, project: Project) -> None:
    """Less than a quarter of the database is wrong, less than all of it is worth a note."""
    size = int(shop.scalar("SELECT pg_database_size(current_database())"))

    def state(free: int) -> str:
        return str(look(project, shop, free=lambda _: free)["free space"].state)

    states = [state(free) for free in (size // 5, size // 2, size * 2)]

    assert states == ["wrong", "note", "ok"]


def test_an_old_dump_is_a_note(shop: Database, project: Project) -> None:
    """After a week; and whether it was rehearsed is said."""
    assert project.inv("db.dump").returncode == 0

    later = look(project, shop, now=lambda: datetime.now(UTC) + timedelta(days=8))["newest dump"]

    assert later.state == "note"
    assert "8 d old" in later.what
    assert "never rehearsed" in later.what


def test_several_hosts_are_all_looked_at(shop: Database, project: Project) -> None:
    """One that is there is enough, and the other is named."""
    project.env["DATABASE_URL"] = shop.url.replace("127.0.0.1", "nowhere.invalid:1,127.0.0.1")

    code, found = documents(project)

    assert code == 0
    assert found["host"]["state"] == "note"
    assert "nowhere.invalid" in found["host"]["message"]
    assert found["port"]["state"] == found["login"]["state"] == "ok"


COMPOSE = {
    "short": ('services:\n  db:\n    image: postgres\n    ports:\n    - "5433:5432"\n', "localhost:5433"),
    "address": ("services:\n  web: {}\n  db:\n    ports:\n      - 127.0.0.1:5434:5432  # local\n", "localhost:5434"),
    "long": ("services:\n  db:\n    ports:\n      - target: 5432\n        published: '5435'\n", "localhost:5435"),
    "another port": ("services:\n  db:\n    ports:\n      - 8080:80\n", "publish its port"),
    "variable": ("services:\n  db:\n    ports:\n      - ${PORT:-5433}:5432\n", "publish its port"),
    "none": ("services:\n  db:\n    image: postgres\nvolumes:\n  data:\n", "publish its port"),
    "another service": ("services:\n  other:\n    ports: ['1:5432']\nvolumes:\n  db:\n", "VPN and DNS"),
    "not YAML": ("\t%\0{[", "VPN and DNS"),
}


@pytest.mark.parametrize(("text", "advice"), COMPOSE.values(), ids=COMPOSE.keys())
def test_a_compose_service_is_reached_by_its_published_port(text: str, advice: str, project: Project) -> None:
    """A service's name is known only inside of Compose; the remedy names the port of this machine."""

    def resolve(_host: str) -> list[str]:
        raise OSError(None, "Name or service not known")

    project.write("docker-compose.yml", text)
    settings = replace(settings_of(project), environ={"DATABASE_URL": "postgresql://app:pw@db:5432/shop"})

    found = {each.name: each for each in examine(settings, Silence(), resolve=resolve).checks}

    assert found["host"].state == "wrong"
    assert advice in found["host"].remedy


TASKS_FILES = {
    "hidden": ("from invoke import task\nfrom invoke_postgres import ns\n\n@task\ndef build(c): ...\n", ["build"]),
    "options": (
        "import invoke\nfrom invoke_postgres import ns\n\n@invoke.task(name='x')\ndef lint(c): ...\n",
        ["lint"],
    ),
    "added": (
        "from invoke import task\nfrom invoke_postgres import ns\n\n@task\ndef build(c): ...\nns.add_task(build)\n",
        [],
    ),
    "no other tasks": ("from invoke_postgres import ns\n", []),
    "database": ("from invoke import task\nfrom invoke_postgres import database\n\n@task\ndef build(c): ...\n", []),
    "not Python": ("from invoke_postgres import ns (", []),
}


@pytest.mark.parametrize(("text", "hidden"), TASKS_FILES.values(), ids=TASKS_FILES.keys())
def test_tasks_that_an_imported_namespace_hides_are_named(text: str, hidden: list[str], tmp_path: Path) -> None:
    """`inv` takes an imported `ns` for all that there is; each task that it hides is named with the fix."""
    (tmp_path / "tasks.py").write_text(text, encoding="utf-8")

    found = check_tasks_file(tmp_path)

    assert [name for each in found for name in hidden if f"ns.add_task({name})" in each.remedy] == hidden
    assert len(found) == bool(hidden)


def test_a_name_that_nobody_resolves_is_told_in_time(shop: Database, project: Project) -> None:
    """What the resolver says stands in the line."""

    def resolve(_host: str) -> list[str]:
        raise TimeoutError(None, "no answer in 5 s")

    settings = settings_of(project, shop)
    settings = replace(settings, environ={"DATABASE_URL": shop.url.replace("127.0.0.1", "db.example.com")})
    found = {each.name: each for each in examine(settings, Silence(), resolve=resolve).checks}

    assert found["host"].what == "db.example.com can't be resolved (no answer in 5 s)"
    assert found["port"].state == "skipped"


def test_a_name_that_is_none_is_no_traceback() -> None:
    """Python refuses a label that is too long with an error of its own."""
    with pytest.raises(OSError):
        resolve_addresses("x" * 70 + ".example.com")


def test_a_socket_is_looked_for(shop: Database, project: Project) -> None:
    """A folder and a socket in it, for which no TLS is needed."""
    project.env["DATABASE_URL"] = (
        f"postgresql://postgres@/{shop.name}?host={quote(str(shop.server.socket_dir), safe='')}&port={shop.server.port}"
    )

    code, found = documents(project)

    assert code == 0, found
    assert "socket in" in found["host"]["message"]
    assert ".s.PGSQL." in found["port"]["message"]


@pytest.mark.usefixtures("shop")
def test_another_url_in_env_file_is_a_note_when_the_environment_wins(project: Project) -> None:
    """Which is used and which is not, without a secret of either."""
    project.write(".env", 'DATABASE_URL="postgresql://me:other-secret@localhost/elsewhere"\n')

    code, found = documents(project)

    assert code == 0
    assert found["URL found"]["state"] == "note"
    assert ".env has another one, which is not used" in found["URL found"]["message"]
    assert "other-secret" not in json.dumps(found)


def test_translated_parameters_and_poolers_are_named(shop: Database, project: Project) -> None:
    """What became of each, and the direct URL as advice."""
    project.env["DIRECT_URL"] = f"{shop.url}?schema=app&connection_limit=3&pgbouncer=true"

    code, found = documents(project, "--url-env=DIRECT_URL")

    assert code == 0
    assert "DIRECT_URL from the environment" in found["URL found"]["message"]
    assert (
        "schema is translated; connection_limit is dropped; pgbouncer is dropped" in found["URL understood"]["message"]
    )
    assert "schema app" in found["URL understood"]["message"]
    assert "--url-env=DIRECT_URL" in found["URL understood"]["fix"]


def test_a_plain_owner_is_healthy_when_everything_is_its_own(owner_everything: Database, project: Project) -> None:
    """Only rehearsals want more, which is a note."""
    found = look(project, owner_everything, OWNER)

    assert found["rights to dump"].state == found["rights to restore"].state == "ok", found
    assert found["rights to rehearse"].state == "note"
    assert "CREATEDB" in found["rights to rehearse"].remedy


def test_what_is_protected_is_a_note(shop: Database, project: Project) -> None:
    """Restores into it are refused, and the doctor says so."""
    told = look(project, shop, changes={"protected": (shop.name,)})["guard"]

    assert told.state == "note"
    assert "db.protected" in told.what


@pytest.mark.usefixtures("shop")
def test_a_running_dump_is_a_note_and_no_leftover(project: Project) -> None:
    """A part file whose writer lives is locked."""
    with open_part_file(project.dumps / "db_dump_2025-01-01T00-00-00-000Z.part"):
        code, found = documents(project)

    assert code == 0
    assert found["leftovers"]["state"] == "note"
    assert "a dump is being written" in found["leftovers"]["message"]


def test_scratch_databases_are_listed_when_a_rehearsal_was_killed(shop: Database, project: Project) -> None:
    """They are named and left alone, those too that had no mark yet; one that is in use is a note."""
    name = PREFIX + secrets.token_hex(6)
    other = Database(shop.server, name)
    with shop.server.connect() as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            unmarked = look(project, shop)["scratch databases"]
            connection.execute(f'COMMENT ON DATABASE {name} IS \'{{"made by": "{MARK}"}}\''.encode())
            left = look(project, shop)["scratch databases"]
            with other.connect():
                used = look(project, shop)["scratch databases"]
            there = connection.execute("SELECT count(*) FROM pg_database WHERE datname = %s", [name]).fetchone()
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    assert [unmarked.state, left.state] == ["wrong", "wrong"]
    assert name in unmarked.what
    assert name in left.what
    assert f"DROP DATABASE {name};" in left.remedy
    assert used.state == "note"
    assert there == (1,)


def test_who_is_in_the_way_is_named(shop: Database, project: Project) -> None:
    """An open transaction that does nothing and holds locks: a note, and wrong once it lasts longer than we wait."""
    with blocking(shop, "SET application_name = 'the app'; LOCK TABLE app.item IN ACCESS SHARE MODE") as other:
        young = look(project, shop, changes={"lock_timeout": 600_000})["other sessions"]
        old = look(project, shop, changes={"lock_timeout": 1})["other sessions"]
        pid = other.info.backend_pid

    assert (young.state, old.state) == ("note", "wrong")
    assert f"pid {pid}, user postgres, application the app" in old.what
    assert f"pg_terminate_backend({pid})" in old.remedy


def test_who_is_at_work_and_holds_locks_is_named_once(shop: Database, project: Project) -> None:
    """A restore would wait for it as well; of several tables it still is one session."""
    with contextlib.closing(psycopg.connect(shop.url)) as other:
        other.pgconn.send_query(b'BEGIN; LOCK TABLE app.item, public."User" IN ROW EXCLUSIVE MODE; SELECT pg_sleep(60)')
        pid = other.info.backend_pid
        asleep = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND now() - xact_start > '1.1 s'"
        eventually(lambda: shop.scalar(asleep) == 1, "the other session's work")
        told = look(project, shop)["other sessions"]
        other.cancel_safe()

    assert told.state == "note"
    assert told.what.count(f"pid {pid},") == 1


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT pg_advisory_lock(72707369)", "holds Prisma's lock"),
        ("SET application_name = 'invoke-postgres'", "another invoke-postgres command"),
    ],
)
def test_who_else_is_at_work_is_a_note(query: str, said: str, shop: Database, project: Project) -> None:
    """A migration, and a command of ours."""
    with blocking(shop, query):
        told = look(project, shop)["other sessions"]

    assert told.state == "note"
    assert said in told.what


def test_a_table_that_somebody_has_locked_does_not_hang_the_doctor(shop: Database, project: Project) -> None:
    """Nothing that it asks needs the table itself, so that it comes to its end."""
    with blocking(shop, "SET application_name = 'the app'; LOCK TABLE app.item IN ACCESS EXCLUSIVE MODE"):
        found = look(project, shop)

    assert found["locks"].state == "ok"
    assert found["clock"].state == "ok"


def test_pending_migrations_are_a_note(shop: Database, project: Project) -> None:
    """They are no fault."""
    lay_prisma(project)
    shop.execute(HISTORY)
    project.write("prisma/migrations/20250103000000_third/migration.sql", "SELECT 1;\n")

    told = look(project, shop)["migrations"]

    assert told.state == "note"
    assert told.what == "1 pending: 20250103000000_third"
    assert "db.migrate" in told.remedy


@pytest.fixture
def private_server(server: Server) -> Iterator[Server]:
    """Return a server of this test's own, which speaks TLS."""
    own = Server.launch(server.major, server.bin_dir)
    try:
        files = {name: own.data_dir / f"server.{name}" for name in ("key", "crt")}
        argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "2"]
        argv += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", files["key"], "-out", files["crt"]]  # type: ignore[list-item]
        subprocess.run(argv, check=True, capture_output=True)
        account = server_account()
        for path in files.values():
            path.chmod(0o600)
            if account.user is not None and account.group is not None:
                os.chown(path, account.user, account.group)
        own.stop()
        with (own.data_dir / "postgresql.conf").open("a") as file:
            file.write("ssl = on\nmax_prepared_transactions = 3\n")
        own.start()
        yield own
    finally:
        own.close()


@pytest.mark.root
def test_tls_is_compared_with_what_was_asked_for(private_server: Server, project: Project, tmp_path: Path) -> None:
    """The protocol, whether the certificate is verified, and a login that fails behind good TLS."""
    certificate = shutil.copy(private_server.data_dir / "server.crt", tmp_path)
    url = private_server.url("postgres")
    told = []
    for each in (url, f"{url}?sslmode=require", f"{url}?sslmode=verify-full&sslrootcert={quote(str(certificate))}"):
        project.env["DATABASE_URL"] = each
        told.append(documents(project)[1]["TLS"])
    project.env["DATABASE_URL"] = f"{private_server.url('postgres', password='wrong-one')}?sslmode=require"
    code, behind = documents(project)
    project.env["DATABASE_URL"] = f"{url}?sslmode=verify-full&sslrootcert={quote(str(tmp_path / 'none.crt'))}"
    unproven = documents(project)[1]["TLS"]

    assert [each["state"] for each in told] == ["ok"] * 3
    assert all("TLSv1.3" in each["message"] for each in told)
    assert "the certificate is not verified" in told[1]["message"]
    assert "verify-full: TLSv1.3, the certificate is verified" in told[2]["message"]
    assert unproven["state"] == "problem"
    assert "sslrootcert=FILE" in unproven["fix"]
    assert (code, behind["TLS"]["state"], behind["login"]["state"]) == (3, "ok", "problem")


def test_a_prepared_transaction_is_told(private_server: Server, project: Project) -> None:
    """It holds its locks over every restart."""
    database = Database(private_server, "postgres")
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("BEGIN; CREATE TABLE t (i int); PREPARE TRANSACTION 'forgotten'")

    told = look(project, database)["other sessions"]

    assert told.state == "wrong"
    assert "ROLLBACK PREPARED 'forgotten'" in told.remedy


@pytest.mark.all_majors
def test_every_major_is_asked_in_words_that_it_knows(everything: Database, project: Project) -> None:
    """A database with everything in it is healthy."""
    found = look(project, everything)

    assert not [each for each in found.values() if each.state == "wrong"], found
    assert f"PostgreSQL {everything.server.major}." in found["server"].what


def test_a_history_in_another_schema_is_read(database: Database, project: Project) -> None:
    """The URL's schema says where it lies."""
    lay_prisma(project)
    database.execute(MIGRATIONS)
    project.use(database).env["DATABASE_URL"] += "?schema=app"

    code, found = documents(project)

    assert code == 3
    assert "migration_12" in found["migrations"]["message"]


@pytest.mark.usefixtures("shop")
def test_at_a_terminal_lines_are_coloured(project: Project) -> None:
    """And elsewhere nothing but letters is written."""
    project.env["PYTHONPATH"] = project._environment(None)["PYTHONPATH"]

    code, said = at_a_terminal(project, "db.doctor")

    assert code == 0, said
    assert "\x1b[32m✓" in said
    assert "\x1b" not in project.inv("db.doctor").stdout


def test_an_error_becomes_a_finding_and_its_fix() -> None:
    """The state goes without saying, as no check changes anything; an error without a fix gets that of the check."""
    told = refused(BadInputError("It is so. As it was.", state="Nothing was touched.", fix="Do this. Or that."))
    bare = refused(BadInputError("It is so."), "Run it again.")

    assert (told.what, told.remedy) == ("It is so. As it was", "Do this. Or that.")
    assert (bare.what, bare.remedy) == ("It is so", "Run it again.")


def test_url_is_read_as_by_every_task(shop: Database, project: Project) -> None:
    """The label is that of the target."""
    settings = settings_of(project, shop)
    label = sanitize(read_url("DATABASE_URL", project.root, settings.environ).value).label

    assert examine(settings, Silence()).label == label
