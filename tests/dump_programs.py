"""A `pg_dump` of the test's own in front of the real one, and what a dump leaves behind."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support import Database, Project, eventually

# Waits until the test says so, but not for ever.
GATE = 'n=0; while [ ! -e "$HERE/go" ] && [ $((n += 1)) -lt 1500 ]; do sleep 0.02; done'

# What gzip can't make small: about a megabyte.
NOISE = "CREATE TABLE noise AS SELECT i, string_agg(md5(i::text || j), '') FROM generate_series(1, 1000) i, \
generate_series(1, 30) j GROUP BY i;"

PG_DUMP_OPTIONS = ("--clean", "--if-exists", "--encoding=UTF8")


def left_in(folder: Path) -> list[str]:
    """List what lies in a folder of dumps, but for the file that hides it from git."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".gitignore")


def wrapped(project: Project, database: Database, script: str) -> Path:
    """Put a `pg_dump` of the test's own into a folder, and return the folder.

    :param script: Shell, in which `$REAL` is the real pg_dump, `$HERE` the folder, and `sql` runs SQL.
    """
    folder = project.root / "wrapped"
    folder.mkdir()
    real, psql = (shlex.quote(str(database.server.bin_dir / name)) for name in ("pg_dump", "psql"))
    conninfo = shlex.quote(database.server.conninfo(database.name))
    lines = [
        "#!/bin/sh",
        f"REAL={real} HERE={shlex.quote(str(folder))}",
        f'sql() {{ {psql} --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname={conninfo} --command="$1" >&2; }}',
        '[ "$1" = --version ] && exec "$REAL" --version',
        'echo $$ > "$HERE/pid"',
        script,
    ]
    program = folder / "pg_dump"
    program.write_text("\n".join(lines) + "\n", encoding="utf-8")
    program.chmod(0o755)
    return folder


def sessions(database: Database) -> list[str]:
    """List the sessions of ours and of pg_dump in a database."""
    query = (
        f"SELECT application_name FROM pg_stat_activity WHERE datname = '{database.name}' "
        "AND application_name IN ('invoke-postgres', 'pg_dump')"
    )
    return [name for (name,) in Database(database.server, "postgres").execute(query)]


def nothing_is_left(project: Project, database: Database) -> None:
    """Assert that neither a file nor a session of a failed dump is left."""
    assert left_in(project.dumps) == []
    eventually(lambda: not sessions(database), "the end of our sessions")


def waiting(database: Database) -> list[str]:
    """List the sessions of a database that wait for a lock, by application."""
    query = (
        f"SELECT application_name FROM pg_stat_activity WHERE datname = '{database.name}' AND wait_event_type = 'Lock'"
    )
    return [name for (name,) in Database(database.server, "postgres").execute(query)]


def holds_lock(database: Database, application: str, table: str) -> bool:
    """Tell whether a session of an application holds a lock on a table."""
    query = (
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.datname = current_database() "
        f"AND l.granted AND l.locktype = 'relation' AND l.relation = '{table}'::regclass AND application_name = "
        f"'{application}'"
    )
    return bool(database.scalar(query))


def migrate(database: Database, statement: str) -> None:
    """Run a statement in a session that can be told from others."""
    with database.connect(application_name="migration") as connection:
        connection.execute(statement.encode())


def inv_on_a_disk(project: Project, options: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run `inv` with a file system of its own on the folder of the dumps, which is gone with it.

    :param options: Of the mount, such as `size=256k`.
    :return: With what lies in the folder in the end as the last lines of standard output.
    """
    namespace = ["/usr/bin/unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    mount = f"mount -t tmpfs -o {options} tmpfs {project.dumps}"
    script = f'{mount} || exit 77; {shlex.join(project._argv(args))}; code=$?; ls -A {project.dumps}; exit "$code"'
    result = subprocess.run(
        [*namespace, "/bin/sh", "-c", script],
        cwd=project.root,
        env=project._environment(None),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip("nothing can be mounted here")
    return result
