"""Undo of a restore by swap: the kept database takes its name again; when kept databases are dropped."""

import itertools
import json
import re
import shlex
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tasks.errors import Effect, TaskError
from tasks.progress import Silence
from tasks.restore.undo import plan_undo
from tasks.safety.own_databases import (
    DatabaseRecord,
    delete_database_record,
    read_database_records,
    write_database_record,
)
from tasks.safety.swap_undo import SwapUndoPlan, undo_by_swap
from tests.flows import saved, settings_of
from tests.output_schema import complaints
from tests.servers import OWNER, PASSWORD
from tests.support import Database, Databases, Project, eventually
from tests.terminals import at_a_terminal

SCHEMA = """
CREATE TABLE item (id int PRIMARY KEY, name text);
INSERT INTO item SELECT i, 'old' FROM generate_series(1, 50) i;
"""
RESTORE = ("db.restore", "--clean", "--yes", "--method=swap", "--disconnect")
UNDO = ("db.undo", "--yes")
FORGER = "swap_undo_forger"


def run(database: Database, statement: str, *names: str) -> list[tuple[Any, ...]]:
    """Run a statement in another database of the server, with quoted names."""
    with database.server.connect() as connection:
        text: Any = statement
        cursor = connection.execute(sql.SQL(text).format(*map(sql.Identifier, names)))
        return cursor.fetchall() if cursor.description else []


def kept_names(database: Database) -> list[str]:
    """Return the names of the databases that were kept of a database."""
    query = "SELECT datname FROM pg_database WHERE datname LIKE %s ORDER BY 1"
    with database.server.connect() as connection:
        return [name for (name,) in connection.execute(query, [f"{database.name}\\_\\_before\\_%"]).fetchall()]


def oid_of(database: Database, name: str) -> int:
    """Return the oid of a database."""
    with database.server.connect() as connection:
        row = connection.execute("SELECT oid FROM pg_database WHERE datname = %s", [name]).fetchone()
    assert row is not None
    return int(row[0])


def kept_record(project: Project) -> DatabaseRecord:
    """Return the record of the one kept database."""
    (record,) = [each for each in read_database_records(project.dumps) if each.role == "kept"]
    return record


def states(project: Project) -> list[dict[str, Any]]:
    """Return what `db.undos` lists, newest last."""
    text = done(project, "db.undos", "--json")
    assert complaints("db.undos", text) == []
    found: list[dict[str, Any]] = json.loads(text)["states"]
    return found


def content(database: Database) -> list[str]:
    """Return the names in the table."""
    return [name for (name,) in database.execute("SELECT DISTINCT name FROM item ORDER BY 1")]


def change(database: Database, name: str) -> None:
    """Give all rows of the table a name."""
    database.execute(f"UPDATE item SET name = '{name}'")


def done(project: Project, *words: str) -> str:
    """Run `inv`, which must succeed; return its standard output."""
    result = project.inv(*words)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def shop(project: Project, database: Database) -> Iterator[Database]:
    """Return a database with a dump of it; what swaps make of it is dropped at the end."""
    database.execute(SCHEMA)
    done(project.use(database), "db.dump")
    yield database
    for name in kept_names(database):
        run(database, "ALTER DATABASE {} IS_TEMPLATE false", name)
        run(database, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def swapped(project: Project, shop: Database) -> Project:
    """Return a project whose database was replaced by a swap: its rows were changed after the dump."""
    change(shop, "before the swap")
    done(project, *RESTORE)
    assert content(shop) == ["old"]
    return project


@pytest.mark.majors(14, 18)
def test_undo_and_its_undo(swapped: Project, shop: Database) -> None:
    """An undo puts the kept database back and keeps the replaced one; each further undo swaps them again."""
    change(shop, "after the swap")
    found = []
    for _ in range(3):
        done(swapped, *UNDO)
        found.append(content(shop))
        assert len(kept_names(shop)) == 1

    assert found == [["before the swap"], ["after the swap"], ["before the swap"]]
    assert not saved(swapped)


@pytest.mark.majors(14, 18)
def test_the_rest_of_a_killed_record_is_swept(swapped: Project) -> None:
    """A kill while the record of a kept database is written leaves a part file; the next undo deletes it."""
    rest = swapped.dumps / "..database-0123456789abcdef.json.1.part"
    rest.write_text("{", encoding="utf-8")

    done(swapped, *UNDO)

    assert not rest.exists()


def test_undo_puts_the_comment_back_and_closes_the_replaced_database(swapped: Project, shop: Database) -> None:
    """The user's comments of both databases survive; the replaced one refuses connections."""
    (kept,) = kept_names(shop)
    run(shop, "COMMENT ON DATABASE {} IS 'second'", shop.name)

    done(swapped, *UNDO)

    query = "SELECT shobj_description(oid, 'pg_database'), datallowconn FROM pg_database WHERE datname = '{}'"
    assert shop.execute(query.format(shop.name)) == [(None, True)]
    (now,) = kept_names(shop)
    assert now != kept
    ((mark, allowed),) = shop.execute(query.format(now))
    assert (json.loads(mark)["comment"], allowed) == ("second", False)
    done(swapped, *UNDO)
    assert shop.execute(query.format(shop.name)) == [("second", True)]


def test_verify_compares_with_the_restore_into_the_database_that_is_back(project: Project, shop: Database) -> None:
    """After an undo and after its undo, `db.verify` knows what was restored last into the database that is there."""
    done(project, *RESTORE)
    first = json.loads(done(project, "db.verify", "--json"))
    change(shop, "a second dump")
    done(project, "db.dump")
    done(project, *RESTORE)
    second = json.loads(done(project, "db.verify", "--json"))

    done(project, *UNDO)
    back = json.loads(project.inv("db.verify", "--json").stdout)
    done(project, *UNDO)
    again = json.loads(done(project, "db.verify", "--json"))

    assert first["dump"] != second["dump"]
    assert (back["dump"], again["dump"]) == (first["dump"], second["dump"])


def test_the_newest_state_is_taken_whatever_saved_it(swapped: Project, shop: Database) -> None:
    """Swap, reset, transaction: each undo goes to the state before the last change, and any state can be named."""
    change(shop, "after the swap")
    done(swapped, "db.reset", "--yes")
    assert [each["kept_database"] is None for each in states(swapped)] == [False, True]

    done(swapped, *UNDO)
    assert content(shop) == ["after the swap"]
    (first, *_), kept = states(swapped), kept_names(shop)
    done(swapped, *UNDO, f"--to={first['id'][:4]}")

    assert first["kept_database"] == kept[0]
    assert content(shop) == ["before the swap"]
    # What was replaced by the swap is the newest state now.
    assert states(swapped)[-1]["kept_database"] == kept_names(shop)[0]
    done(swapped, *UNDO)
    assert content(shop) == ["after the swap"]


def migrates(project: Project, database: Database, statement: str, status: int) -> None:
    """Let `db.migrate` run a statement and end with a status."""
    program = database.server.bin_dir / "psql"
    connection = database.server.conninfo(database.name)
    script = f"{program} --no-psqlrc --quiet --dbname='{connection}' --command=\"{statement}\"\nexit {status}\n"
    project.write("migrate.sh", script)
    project.env["INVOKE_DB_MIGRATE_COMMAND"] = "sh migrate.sh"


def test_a_migration_after_a_swap_is_undone_first(swapped: Project, shop: Database) -> None:
    """The safety dump of `db.migrate` is newer than the kept database."""
    change(shop, "after the swap")
    migrates(swapped, shop, "UPDATE item SET name = 'migrated'", 0)

    done(swapped, "db.migrate", "--yes")
    assert content(shop) == ["migrated"]
    (kept, dump) = states(swapped)
    done(swapped, *UNDO)

    assert (bool(kept["kept_database"]), dump["command"]) == (True, "db.migrate")
    assert content(shop) == ["after the swap"]
    done(swapped, *UNDO, f"--to={kept['id']}")
    assert content(shop) == ["before the swap"]


def test_a_failing_migration_after_a_swap_restores_its_own_safety_dump(swapped: Project, shop: Database) -> None:
    """`--clean --migrate` in a transaction goes back to the state after the swap, and the kept database remains."""
    change(shop, "after the swap")
    migrates(swapped, shop, "UPDATE item SET name = 'half'", 1)

    failed = swapped.inv("db.restore", "--clean", "--migrate", "--yes")

    assert failed.returncode == 5
    assert content(shop) == ["after the swap"]
    (kept,) = states(swapped)
    assert kept["kept_database"] == kept_names(shop)[0]


def test_safety_dumps_from_before_a_swap_are_of_the_same_database(project: Project, shop: Database) -> None:
    """Although the database has another oid since the swap, such a dump is restored without a question."""
    change(shop, "before the reset")
    done(project, "db.reset", "--yes")
    done(project, *RESTORE)
    (dump, kept) = states(project)

    done(project, *UNDO, f"--to={dump['id']}")

    assert kept["kept_database"]
    assert content(shop) == ["before the reset"]


def test_undo_without_permission_names_the_sessions(swapped: Project, shop: Database) -> None:
    """A connected session ends the undo with 4 before a countdown; --disconnect ends the session."""
    with shop.connect() as other:
        pid = other.info.backend_pid
        refused = swapped.inv("db.undo")
        assert content(shop) == ["old"]
        done(swapped, *UNDO, "--disconnect")
        with pytest.raises(psycopg.OperationalError):
            other.execute("SELECT 1")

    assert refused.returncode == 4
    assert "Beginning in" not in refused.stderr
    assert str(pid) in refused.stderr
    assert "--disconnect" in refused.stderr
    assert content(shop) == ["before the swap"]


@pytest.mark.parametrize(("answer", "code", "after"), [("y", 0, "before the swap"), ("n", 4, "old")])
def test_at_a_terminal_the_sessions_are_asked_about(
    answer: str, code: int, after: str, swapped: Project, shop: Database
) -> None:
    """A yes ends them; anything else ends the undo with 4."""
    with shop.connect() as other:
        pid = other.info.backend_pid
        found, said = at_a_terminal(swapped, *UNDO, answers={"[y: ": answer})

    assert found == code, said
    assert str(pid) in said
    assert content(shop) == [after]


def test_a_dry_undo_shows_what_is_lost(swapped: Project, shop: Database) -> None:
    """It names the database, its time and the present size, and touches nothing."""
    (kept,) = kept_names(shop)

    shown = swapped.inv("--dry", "db.undo")

    assert shown.returncode == 0
    assert kept in shown.stderr
    assert "MB" in shown.stderr
    assert kept_names(shop) == [kept]
    assert content(shop) == ["old"]


def test_json_of_an_undo(swapped: Project, shop: Database) -> None:
    """The document fits the schema and names both databases."""
    (kept,) = kept_names(shop)

    text = done(swapped, *UNDO, "--json")

    assert complaints("db.undo", text) == []
    document = json.loads(text)
    assert document["restore"] is None
    assert document["swap"]["restored"]["name"] == kept
    assert document["swap"]["kept"]["name"] == kept_names(shop)[0]


def test_undo_without_a_backup_drops_the_replaced_database(swapped: Project, shop: Database) -> None:
    """Then nothing can be undone."""
    done(swapped, *UNDO, "--no-backup")

    assert content(shop) == ["before the swap"]
    assert not kept_names(shop)
    assert not states(swapped)
    assert swapped.inv(*UNDO).returncode == 2


def test_protected_and_remote_databases_are_guarded(swapped: Project, shop: Database) -> None:
    """A protected database is refused (7); one that is not local needs its name."""
    protected = swapped.inv(*UNDO, env={"INVOKE_DB_PROTECTED": shop.name})
    for path in swapped.dumps.glob("*.manifest.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        document["source"]["host"] = "db.example.com"
        path.write_text(json.dumps(document), encoding="utf-8")

    unnamed = swapped.inv(*UNDO)
    assert content(shop) == ["old"]
    done(swapped, *UNDO, f"--confirm={shop.name}")

    assert (protected.returncode, unnamed.returncode) == (7, 7)
    assert content(shop) == ["before the swap"]


def test_a_replication_slot_prevents_the_undo(swapped: Project, shop: Database) -> None:
    """The slot would follow the renamed database, so the undo ends with 2 and names it."""
    shop.execute("SELECT pg_create_logical_replication_slot('swap_undo_slot', 'test_decoding')")
    try:
        result = swapped.inv(*UNDO)
    finally:
        shop.execute("SELECT pg_drop_replication_slot('swap_undo_slot')")

    assert result.returncode == 2
    assert "swap_undo_slot" in result.stderr
    assert content(shop) == ["old"]


@pytest.mark.majors(14, 18)
def test_a_plain_owner_can_undo(project: Project, new_database: Databases) -> None:
    """An owner with CREATEDB needs no superuser for the swap, its undo, and the next swap's safety dump."""
    shop = new_database(owner=OWNER)
    run(shop, f"ALTER ROLE {OWNER} CREATEDB")
    try:
        shop.execute(SCHEMA, role=OWNER)
        done(project.use(shop, OWNER), "db.dump")
        change(shop, "before the swap")
        done(project, *RESTORE)
        done(project, *UNDO)
        assert content(shop) == ["before the swap"]
        done(project, *RESTORE)
        assert len(kept_names(shop)) == 1
        assert len(saved(project)) == 1
    finally:
        run(shop, f"ALTER ROLE {OWNER} NOCREATEDB")
        for name in kept_names(shop):
            run(shop, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def forged(swapped: Project, shop: Database) -> Iterator[str]:
    """Let another role own a database with the name, comment and record of the kept one; return its name."""
    record = kept_record(swapped)
    run(shop, f"DROP ROLE IF EXISTS {FORGER}")
    run(shop, f"CREATE ROLE {FORGER} LOGIN CREATEDB PASSWORD '{PASSWORD}'")
    mark = run(shop, f"SELECT shobj_description({record.oid}, 'pg_database')")[0][0]
    run(shop, "ALTER DATABASE {} RENAME TO {}", record.database, f"{shop.name}__before_hidden")
    with psycopg.connect(shop.server.url("postgres", FORGER), autocommit=True) as connection:
        name = sql.Identifier(record.database)
        connection.execute(sql.SQL("CREATE DATABASE {} ALLOW_CONNECTIONS false").format(name))
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, mark))
    yield record.database
    run(shop, "DROP DATABASE {} WITH (FORCE)", record.database)
    run(shop, f"DROP ROLE {FORGER}")


def test_a_database_with_our_name_and_comment_is_not_ours(swapped: Project, shop: Database, forged: str) -> None:
    """It has another oid: it is not listed, put back, deleted or dropped in favour of a newer one."""
    oid = oid_of(shop, forged)
    record = kept_record(swapped)

    listed, undone = states(swapped), swapped.inv(*UNDO)
    deleted = swapped.inv("db.delete", "--yes", f"--file={record.id}")
    swapped.env["INVOKE_DB_KEPT_DATABASES"] = "0"
    done(swapped, *RESTORE)

    assert (listed, undone.returncode, deleted.returncode) == ([], 2, 2)
    assert oid_of(shop, forged) == oid


@pytest.mark.parametrize("forgery", ["oid", "owner"])
def test_a_forged_record_or_owner_is_not_ours(forgery: str, swapped: Project, shop: Database, forged: str) -> None:
    """The record must have both: the oid of another role's database alone, or its owner alone, is not enough."""
    record = kept_record(swapped)
    oid = oid_of(shop, forged)
    changed = replace(record, oid=oid) if forgery == "oid" else replace(record, owner=FORGER)
    delete_database_record(swapped.dumps, record)
    write_database_record(swapped.dumps, changed)

    listed, undone = states(swapped), swapped.inv(*UNDO)
    deleted = swapped.inv("db.delete", "--yes", f"--file={changed.id}")

    assert (listed, undone.returncode, deleted.returncode) == ([], 2, 2)
    assert oid_of(shop, forged) == oid


def test_an_older_kept_database_becomes_a_safety_dump(swapped: Project, shop: Database) -> None:
    """A second swap keeps one database; the first one's state, its time and its command are in a safety dump."""
    first = kept_record(swapped)
    change(shop, "before the second swap")

    done(swapped, *RESTORE)

    (dump, kept) = states(swapped)
    assert kept["kept_database"] == kept_names(shop)[0]
    assert dump["command"] == first.command
    assert dump["database"] == shop.name
    assert abs(first.when.timestamp() - datetime.fromisoformat(dump["created"]).timestamp()) < 0.01
    done(swapped, *UNDO, f"--to={dump['id'][:4]}")
    assert content(shop) == ["before the swap"]


def test_what_the_rule_does_not_keep_is_dropped_without_a_dump(swapped: Project, shop: Database) -> None:
    """A kept database of a day that is long past, with newer states, is dropped."""
    record = kept_record(swapped)
    delete_database_record(swapped.dumps, record)
    old = replace(record, made=(record.when - timedelta(days=30)).isoformat(timespec="milliseconds"))
    write_database_record(swapped.dumps, old)
    swapped.env["INVOKE_DB_SAFETY_DUMPS"] = "1"

    done(swapped, *RESTORE)

    assert len(kept_names(shop)) == 1
    assert record.database not in kept_names(shop)
    assert not saved(swapped)


def test_what_cannot_be_dumped_remains(swapped: Project, shop: Database) -> None:
    """If the safety dump fails, the kept database is closed again with its grants, the warning names it, and it works.

    The folder of the safety dumps is a file.
    """
    run(shop, f"GRANT CONNECT ON DATABASE {{}} TO {OWNER} WITH GRANT OPTION", kept_names(shop)[0])
    (first,) = kept_names(shop)
    query = f"SELECT datacl::text, datallowconn FROM pg_database WHERE datname = '{first}'"
    before = shop.execute(query)
    (swapped.dumps / "undo").write_text("a file", encoding="utf-8")

    result = swapped.inv(*RESTORE)

    assert result.returncode == 0
    assert first in result.stderr
    assert first in kept_names(shop)
    assert len(kept_names(shop)) == 2
    after = shop.execute(query)
    assert (sorted(after[0][0].strip("{}").split(",")), after[0][1]) == (
        sorted(before[0][0].strip("{}").split(",")),
        False,
    )
    (swapped.dumps / "undo").unlink()
    done(swapped, *UNDO, f"--to={states(swapped)[0]['id']}")
    assert content(shop) == ["before the swap"]


def test_a_signal_while_an_older_one_is_dumped(swapped: Project, shop: Database, tmp_path: Path) -> None:
    """The swap is committed and the message says so; the older database is closed again, and can be put back."""
    (first,) = kept_names(shop)
    programs = tmp_path / "bin"
    programs.mkdir()
    real = shop.server.bin_dir / "pg_dump"
    (programs / "pg_dump").write_text(
        f'#!/bin/sh\ncase "$*" in *__before_*--file*|*dbname=*__before_*) sleep 60;; esac\nexec {real} "$@"\n'
    )
    (programs / "pg_dump").chmod(0o755)
    swapped.env["INVOKE_DB_BIN_DIR"] = str(programs)
    process = swapped.popen(*RESTORE)
    query = f"SELECT datallowconn FROM pg_database WHERE datname = '{first}'"
    eventually(lambda: run(shop, query) == [(True,)], "the dump of the kept database", 60)
    eventually(lambda: bool(list(swapped.dumps.glob("undo/*.part"))), "its file", 60)

    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "committed" in said
    assert run(shop, query) == [(False,)]
    assert not saved(swapped)
    swapped.env["INVOKE_DB_BIN_DIR"] = str(shop.server.bin_dir)
    done(swapped, *UNDO, f"--to={states(swapped)[0]['id']}")
    assert content(shop) == ["before the swap"]


def test_a_kept_database_with_a_slot_is_not_dropped(swapped: Project, shop: Database) -> None:
    """Dropping it would drop the slot, too."""
    (first,) = kept_names(shop)
    run(shop, "ALTER DATABASE {} ALLOW_CONNECTIONS true", first)
    with shop.server.connect(first) as connection:
        connection.execute("SELECT pg_create_logical_replication_slot('swap_kept_slot', 'test_decoding')")
    try:
        result = swapped.inv(*RESTORE)
        deleted = swapped.inv("db.delete", "--yes", f"--file={first}")
        assert first in kept_names(shop)
    finally:
        run(shop, "SELECT pg_drop_replication_slot('swap_kept_slot')")

    assert result.returncode == 0
    assert "swap_kept_slot" in result.stderr
    assert deleted.returncode == 5


def test_zero_kept_databases_make_safety_dumps(project: Project, shop: Database) -> None:
    """With `kept_databases: 0` no database is kept, and the undo restores the safety dump; without backup, neither."""
    project.env["INVOKE_DB_KEPT_DATABASES"] = "0"
    change(shop, "before the swap")

    done(project, *RESTORE)
    assert not kept_names(shop)
    done(project, *UNDO)
    assert content(shop) == ["before the swap"]
    count = len(saved(project))
    done(project, *RESTORE, "--no-backup")

    assert not kept_names(shop)
    assert len(saved(project)) == count


def test_lists_have_kept_databases(swapped: Project, shop: Database) -> None:
    """`db.list` and `db.undos` show id, size and the time to the second."""
    record = kept_record(swapped)

    text = done(swapped, "db.list", "--json")
    (listed,) = json.loads(text)["kept_databases"]

    assert complaints("db.list", text) == []
    assert (listed["id"], listed["name"]) == (record.id, record.database)
    assert listed["size"] > 1_000_000
    assert record.database in done(swapped, "db.list")
    assert record.database not in done(swapped, "db.list", "--match=no such text")
    shown = done(swapped, "db.undos")
    assert f"{record.when:%Y-%m-%d %H:%M:%S}" in shown
    assert record.id[:4] in shown
    assert oid_of(shop, record.database) == record.oid


def test_delete_drops_a_kept_database(swapped: Project, shop: Database) -> None:
    """By the id that `db.list` shows; a dry run drops nothing."""
    record = kept_record(swapped)

    dry = swapped.inv("--dry", "db.delete", f"--file={record.id[:4]}")
    assert kept_names(shop) == [record.database]
    done(swapped, "db.delete", "--yes", f"--file={record.id[:4]}")

    assert dry.returncode == 0
    assert not kept_names(shop)
    assert json.loads(done(swapped, "db.list", "--json"))["kept_databases"] == []


def test_undo_warns_if_the_last_restore_left_no_state(project: Project, shop: Database) -> None:
    """After a swap whose kept database was dropped by hand, an undo restores an older state and says so."""
    done(project, "db.reset", "--yes")
    done(project, *RESTORE)
    (kept,) = kept_names(shop)

    silent = project.inv("--dry", "db.undo")
    run(shop, "DROP DATABASE {}", kept)
    warned = project.inv("--dry", "db.undo")

    assert "Warning" not in silent.stderr
    assert warned.returncode == 0
    assert "Warning" in warned.stderr


def test_a_record_is_put_back_if_the_undo_was_killed_after_its_commit(swapped: Project, shop: Database) -> None:
    """The next look at the kept databases finishes it: the record of the last restore is that of the database there."""
    (restored,) = swapped.dumps.glob(".restored-*.json")
    old = kept_record(swapped)
    done(swapped, *UNDO)
    assert not restored.exists()
    # As after a kill: the old record is there still, and the record of the last restore is that of the other database.
    write_database_record(swapped.dumps, replace(old, restored='{"of": "before"}'))
    restored.write_text('{"of": "after"}', encoding="utf-8")

    listed = states(swapped)

    assert len(listed) == 1
    assert restored.read_text(encoding="utf-8") == '{"of": "before"}'
    assert len(read_database_records(swapped.dumps)) == 1
    assert content(shop) == ["before the swap"]


def test_the_record_of_a_swap_that_still_runs_is_left_alone(swapped: Project) -> None:
    """A kept database gets its name at the commit; its record is older, and is deleted only after minutes."""
    record = kept_record(swapped)
    coming = replace(record, database=f"{record.database}x")
    write_database_record(swapped.dumps, coming)

    assert len(states(swapped)) == 1
    assert len(read_database_records(swapped.dumps)) == 2
    past = replace(coming, made=(record.when - timedelta(hours=1)).isoformat(timespec="milliseconds"))
    write_database_record(swapped.dumps, past)
    states(swapped)

    assert len(read_database_records(swapped.dumps)) == 1


@pytest.mark.majors(14, 18)
def test_clients_are_cut_off_for_a_moment_only(swapped: Project, shop: Database) -> None:
    """A client that reconnects sees the old content, then the new one, and never an error for longer than 2 s."""
    seen: list[tuple[float, str]] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            try:
                with shop.connect() as connection:
                    ((name,),) = connection.execute("SELECT DISTINCT name FROM item").fetchall()
                seen.append((time.monotonic(), str(name)))
            except psycopg.Error:
                time.sleep(0.01)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        done(swapped, *UNDO, "--disconnect")
        ended = time.monotonic()
        while not any(name == "before the swap" for _, name in seen) and time.monotonic() < ended + 10:
            time.sleep(0.05)
    finally:
        over.set()
        reader.join()

    assert {name for _, name in seen} == {"old", "before the swap"}
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(seen)]
    assert max(gaps) < 2


def test_doctor_lists_them_and_says_whether_a_swap_is_possible(swapped: Project, shop: Database) -> None:
    """Kept and closed databases with the command for pg_upgrade; killed staging databases; the obstacle of a swap."""
    record = kept_record(swapped)

    def checks() -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in json.loads(swapped.inv("db.doctor", "--json").stdout)["checks"]}

    found = checks()
    assert found["kept databases"]["state"] == "note"
    assert record.database in found["kept databases"]["message"]
    assert "ALLOW_CONNECTIONS" in found["kept databases"]["fix"]
    assert f"`inv db.delete --file={record.id[:8]}`" in found["kept databases"]["fix"]
    swapped.env["INVOKE_DB_DUMPS_DIR"] = "elsewhere"
    assert f'DROP DATABASE "{record.database}";' in checks()["kept databases"]["fix"]
    assert swapped.inv("db.delete", f"--file={record.database}", "--yes").returncode == 2
    del swapped.env["INVOKE_DB_DUMPS_DIR"]
    assert (found["staging databases"]["state"], found["swap"]["state"]) == ("ok", "ok")
    shop.execute("SELECT lo_create(0)")
    assert checks()["swap"]["state"] == "note"


# The database was dropped


@pytest.fixture
def dropped(swapped: Project, shop: Database) -> Project:
    """Return a project whose database was dropped after a swap."""
    run(shop, "DROP DATABASE {} WITH (FORCE)", shop.name)
    return swapped


def exists(database: Database) -> bool:
    """Return whether a database exists."""
    with database.server.connect() as connection:
        return connection.execute("SELECT FROM pg_database WHERE datname = %s", [database.name]).fetchone() is not None


@pytest.mark.majors(14, 18)
def test_undo_after_the_database_was_dropped(project: Project, shop: Database) -> None:
    """The kept database gets its name back, with its comment and open; nothing is kept or recorded any more."""
    run(shop, "COMMENT ON DATABASE {} IS 'mine'", shop.name)
    change(shop, "before the swap")
    done(project, *RESTORE)
    (kept,) = kept_names(shop)
    run(shop, "DROP DATABASE {} WITH (FORCE)", shop.name)
    (listed,) = states(project)

    text = done(project, *UNDO, "--json")

    query = "SELECT shobj_description(oid, 'pg_database'), datallowconn FROM pg_database WHERE datname = '{}'"
    assert content(shop) == ["before the swap"]
    assert shop.execute(query.format(shop.name)) == [("mine", True)]
    assert complaints("db.undo", text) == []
    assert (json.loads(text)["swap"]["restored"]["name"], json.loads(text)["swap"]["kept"]) == (kept, None)
    assert listed["kept_database"] == kept
    assert (kept_names(shop), read_database_records(project.dumps), states(project)) == ([], [], [])
    assert not list(project.dumps.glob(".restored-*.json"))


def test_a_dry_undo_of_a_dropped_database(dropped: Project, shop: Database) -> None:
    """It names the kept database and changes nothing."""
    (kept,) = kept_names(shop)

    shown = dropped.inv("--dry", "db.undo")

    assert shown.returncode == 0
    assert kept in shown.stderr
    assert kept_names(shop) == [kept]
    assert not exists(shop)


def test_a_plain_owner_undoes_after_the_database_was_dropped(project: Project, new_database: Databases) -> None:
    """With CREATEDB; without it, the undo ends with 2."""
    shop = new_database(owner=OWNER)
    run(shop, f"ALTER ROLE {OWNER} CREATEDB")
    try:
        shop.execute(SCHEMA, role=OWNER)
        done(project.use(shop, OWNER), "db.dump")
        change(shop, "before the swap")
        done(project, *RESTORE)
        run(shop, "DROP DATABASE {} WITH (FORCE)", shop.name)
        run(shop, f"ALTER ROLE {OWNER} NOCREATEDB")
        refused = project.inv(*UNDO)
        run(shop, f"ALTER ROLE {OWNER} CREATEDB")
        done(project, *UNDO)
    finally:
        run(shop, f"ALTER ROLE {OWNER} NOCREATEDB")

    assert refused.returncode == 2
    assert content(shop) == ["before the swap"]


def test_a_safety_dump_of_a_dropped_database_needs_a_restore(swapped: Project, shop: Database) -> None:
    """If it is newer than the kept database, the undo ends with 2; the command that it names makes the database."""
    change(shop, "after the swap")
    done(swapped, "db.reset", "--yes")
    kept, dump = states(swapped)
    run(shop, "DROP DATABASE {} WITH (FORCE)", shop.name)

    refused = swapped.inv(*UNDO)
    assert not exists(shop)
    (command,) = re.findall(r"`inv (db\.restore [^`]*)`", refused.stderr)
    done(swapped, *shlex.split(command))
    assert content(shop) == ["after the swap"]
    run(shop, "DROP DATABASE {} WITH (FORCE)", shop.name)
    done(swapped, *UNDO, f"--to={kept['id']}")

    assert (refused.returncode, Path(dump["path"]).name in command) == (2, True)
    assert "Traceback" not in refused.stderr
    assert content(shop) == ["before the swap"]


def test_a_dropped_database_of_which_nothing_is_saved(dropped: Project, shop: Database) -> None:
    """The undo ends with 2 and names `db.restore --create`; a role that can't log in ends with 4 as ever."""
    for name in kept_names(shop):
        run(shop, "DROP DATABASE {}", name)

    refused = dropped.inv(*UNDO)
    stranger = dropped.inv(*UNDO, env={"DATABASE_URL": shop.url_as("nobody_here")})

    assert (refused.returncode, stranger.returncode) == (2, 4)
    assert "db.restore --create" in refused.stderr
    assert "Traceback" not in refused.stderr + stranger.stderr


def test_the_undo_of_a_dropped_database_is_guarded(dropped: Project, shop: Database) -> None:
    """A protected name and another confirmed name are refused (7), and a replication slot of the kept database (2)."""
    (kept,) = kept_names(shop)
    protected = dropped.inv(*UNDO, env={"INVOKE_DB_PROTECTED": shop.name})
    other = dropped.inv(*UNDO, "--confirm=other")
    run(shop, "ALTER DATABASE {} ALLOW_CONNECTIONS true", kept)
    with shop.server.connect(kept) as connection:
        connection.execute("SELECT pg_create_logical_replication_slot('swap_dropped_slot', 'test_decoding')")
    try:
        slot = dropped.inv(*UNDO)
    finally:
        run(shop, "SELECT pg_drop_replication_slot('swap_dropped_slot')")

    assert (protected.returncode, other.returncode, slot.returncode) == (7, 7, 2)
    assert kept_names(shop) == [kept]


def test_a_name_that_is_taken_again_is_not_overwritten(dropped: Project, shop: Database) -> None:
    """The database is created between the plan and the rename: nothing is changed."""
    (kept,) = kept_names(shop)
    plan = plan_undo(settings_of(dropped, shop), Silence())
    assert isinstance(plan, SwapUndoPlan)
    run(shop, "CREATE DATABASE {}", shop.name)

    with pytest.raises(TaskError) as caught:
        undo_by_swap(plan, Silence())

    assert caught.value.effect is Effect.UNCHANGED
    assert kept_names(shop) == [kept]
    assert run(shop, f"SELECT datallowconn FROM pg_database WHERE datname = '{kept}'") == [(False,)]
    assert kept_record(dropped).database == kept
    # Now there is a database to undo in; whether the kept one is of it is uncertain.
    assert dropped.inv(*UNDO).returncode == 7
    done(dropped, *UNDO, f"--confirm={shop.name}")
    assert content(shop) == ["before the swap"]
