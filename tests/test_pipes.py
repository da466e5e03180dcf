"""`--file=-`: a dump into a program, and a restore out of one."""

import gzip
import signal
import subprocess

import pytest
from backports import zstd

from tests.flows import pg_dump, ran
from tests.support import Database, Databases, Project, eventually
from tests.terminals import at_a_terminal

PEOPLE = "CREATE TABLE people AS SELECT n AS id, repeat('x', 90) AS name FROM generate_series(1, {0}) AS n;"


def files_of(project: Project) -> list[str]:
    """Return the names of what is in the folder of the dumps."""
    return sorted(path.name for path in project.dumps.rglob("*") if path.name != ".gitignore")


def lines_of(dump: bytes) -> list[bytes]:
    """Return a dump's lines without the key that is another one each time."""
    return [line for line in dump.splitlines() if b"restrict" not in line]


@pytest.mark.majors(14, 18)
def test_a_dump_on_standard_output_is_pg_dumps_text(database: Database, project: Project) -> None:
    """Nothing else is written there, and no file: no manifest either."""
    database.execute(PEOPLE.format(5000))
    project.use(database)

    plain = project.inv("db.dump", "--file=-", "--table=PEOPLE")
    packed = project.inv("--dry", "db.dump", "--file=-")

    assert plain.returncode == 0, plain.stderr
    theirs = pg_dump(database, "--clean", "--if-exists", "--table=people")
    assert lines_of(plain.stdout.encode()) == lines_of(theirs)
    assert "5,000 rows" in plain.stderr
    assert packed.returncode == 0
    assert packed.stdout == ""
    assert files_of(project) == []


def test_a_dump_on_standard_output_may_be_compressed(database: Database, project: Project) -> None:
    """By a flag, not by the setting, into a file, too."""
    database.execute(PEOPLE.format(5000))
    project.use(database).env["INVOKE_DB_COMPRESS"] = "zstd"

    for flags, expand in (("--zstd", zstd.decompress), ("--gzip", gzip.decompress), ("", bytes)):
        with (project.root / "out").open("w") as out:
            assert project.inv("db.dump", "--file=-", *flags.split(), stdout=out).returncode == 0
        assert b"PostgreSQL database dump complete" in expand((project.root / "out").read_bytes())


def test_a_dump_is_not_written_to_a_terminal(database: Database, project: Project) -> None:
    """Exit 2, before the server is asked."""
    status, said = at_a_terminal(project.use(database), "db.dump", "--file=-")

    assert status == 2
    assert "CREATE" not in said


def test_a_reader_that_ends_is_said(database: Database, project: Project) -> None:
    """Exit 8; a script sees that the dump is not complete."""
    database.execute(PEOPLE.format(50000))

    result = project.use(database).inv("db.dump", "--file=-", redirected="| head -c 100; exit ${PIPESTATUS[0]}")

    assert result.returncode == 8
    assert "not a complete dump" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_reader_that_stalls_does_not_hold_a_signal(database: Database, project: Project) -> None:
    """Ctrl-C ends the dump, and pg_dump and its session with it."""
    database.execute(PEOPLE.format(50000))
    process = project.use(database).popen("db.dump", "--file=-")
    sessions = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump' AND datname = current_database()"
    )
    eventually(lambda: database.scalar(sessions) == 1, "pg_dump")

    process.send_signal(signal.SIGINT)

    assert process.wait(timeout=30) == 130
    eventually(lambda: database.scalar(sessions) == 0, "the end of pg_dump")


def test_a_refused_dump_writes_nothing(database: Database, project: Project) -> None:
    """What fails before the first byte has written nothing, and says no more than without `--file=-`."""
    for flag in ("--table=absent", "--note=x", "--checksums", "--json"):
        result = project.use(database).inv("db.dump", "--file=-", flag)

        assert result.returncode == 2
        assert result.stdout == ""
        assert "not a complete dump" not in result.stderr


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("flags", ["", "--gzip", "--zstd"])
def test_a_dump_from_standard_input_is_restored(
    flags: str, database: Database, new_database: Databases, project: Project
) -> None:
    """By its first bytes, whatever compresses it; no file is left."""
    database.execute(PEOPLE.format(500))
    ran(
        project.use(database),
        "db.dump",
        f"--file={project.root}/out.sql{ {'': '', '--gzip': '.gz', '--zstd': '.zst'}[flags] }",
    )
    (dump,) = project.root.glob("out.sql*")
    target = new_database()

    result = project.use(target).inv("db.restore", "--file=-", "--clean", stdin=dump)

    assert result.returncode == 0, result.stderr
    assert target.scalar("SELECT count(*) FROM people") == 500
    assert not [name for name in files_of(project) if not name.startswith(".restored")]
    for task in ("db.verify", "db.inspect", "db.show --table=People", "db.rehearse", "db.migrations"):
        looked = project.inv(*task.split(), "--file=-", stdin=dump)
        assert looked.returncode == 0, looked.stdout + looked.stderr
    assert not [name for name in files_of(project) if not name.startswith(".restored")]


def test_without_a_terminal_consent_comes_by_a_flag(database: Database, project: Project) -> None:
    """As with any file; the safety dump is made, and nothing is left of the input."""
    database.execute(PEOPLE.format(10))
    text = pg_dump(database, "--clean", "--if-exists").decode()
    project.use(database).env["INVOKE_DB_TRUST"] = ""

    refused = project.inv("db.restore", "--file=-", "--clean", "--yes", stdin=text)
    named = project.root / "named.sql"
    named.write_text(text, encoding="utf-8")
    as_file = project.inv("db.restore", f"--file={named}", "--clean", "--yes")
    taken = project.inv("db.restore", "--file=-", "--clean", "--yes", "--trust", stdin=text)

    assert refused.returncode == as_file.returncode != 0
    assert taken.returncode == 0, taken.stderr
    assert not [name for name in files_of(project) if "input" in name]


def test_at_a_terminal_a_person_answers_there(database: Database, project: Project) -> None:
    """Standard input holds the dump, and the question is asked all the same."""
    database.execute(PEOPLE.format(10))
    dump = project.root / "given.sql"
    dump.write_bytes(pg_dump(database, "--clean", "--if-exists"))
    database.execute("DELETE FROM people")
    project.use(database).env["INVOKE_DB_TRUST"] = ""

    status, said = at_a_terminal(project, "db.restore", "--file=-", "--clean", stdin=dump, answers={"?": "yes"})

    assert status == 0, said
    assert database.scalar("SELECT count(*) FROM people") == 10


def test_a_terminal_is_no_dump(database: Database, project: Project) -> None:
    """Exit 2 instead of waiting for typed input."""
    status, _ = at_a_terminal(project.use(database), "db.restore", "--file=-")

    assert status == 2


@pytest.mark.parametrize("content", ["", "SELECT 1;", "\x1f\x8b"])
def test_what_is_no_dump_is_refused(content: str, database: Database, project: Project) -> None:
    """Exit 2, and no file is left."""
    result = project.use(database).inv("db.restore", "--file=-", "--yes", stdin=content)

    assert result.returncode == 2, result.stderr
    assert files_of(project) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_removes_what_was_read(number: signal.Signals, database: Database, project: Project) -> None:
    """While the input is still coming; the file is readable by its owner only."""
    project.use(database)
    process = subprocess.Popen(
        project._argv(["db.restore", "--file=-"]),
        cwd=project.root,
        env=project._environment(None),
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    process.stdin.write(b"-- a dump that never ends\n" * 1000)
    process.stdin.flush()
    eventually(lambda: any(path.stat().st_size for path in project.dumps.glob("standard-input-*")), "the file")
    (file,) = project.dumps.glob("standard-input-*")
    assert file.stat().st_mode & 0o777 == 0o600

    process.send_signal(number)

    process.stdin.close()
    assert process.wait(timeout=30) == 128 + number
    assert files_of(project) == []
