"""Runs of `inv` in a fork give what a process of their own gives."""

import os
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.support import Database, Project, sharing_start


def _both(project: Project, run: Callable[[bool], subprocess.CompletedProcess[str]]) -> tuple[int, str]:
    """Run something both ways, require the same of both, and return the code and what was printed."""
    forked, fresh = run(False), run(True)
    assert (forked.returncode, forked.stdout, forked.stderr) == (fresh.returncode, fresh.stdout, fresh.stderr)
    # The words are the whole command line of a fork, and what follows `-m invoke` in the other.
    assert list(fresh.args[3:]) == list(forked.args)
    assert project.root.is_dir()
    return forked.returncode, forked.stdout + forked.stderr


COMMANDS = {
    "list of tasks": (("--list",), 0),
    "help": (("db.restore", "--help"), 0),
    "no such task": (("db.nothing",), 1),
    "no such flag": (("db.dump", "--nothing"), 1),
    "no such dump": (("db.restore", "--file=nothing.sql"), 2),
    "JSON": (("db.list", "--json"), 0),
    "URL": (("db.url",), 0),
    "migrations": (("db.migrations",), 0),
    "undo of nothing": (("db.undo",), 2),
    "verify": (("db.verify", "--file=given.sql"), 0),
    "inspect": (("db.inspect", "--file=given.sql"), 0),
    "no dump": (("db.restore", "--file=tasks.py"), 2),
    "two tasks": (("db.url", "db.list"), 0),
}


@pytest.mark.parametrize(("arguments", "code"), COMMANDS.values(), ids=COMMANDS)
def test_fork_prints_and_exits_as_a_process_does(
    database: Database, project: Project, arguments: tuple[str, ...], code: int
) -> None:
    """Code, standard output and standard error are the same, byte for byte."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    project.use(database)
    assert project.inv("db.dump", "--file=given.sql").returncode == 0

    found, said = _both(project, lambda fresh: project.inv(*arguments, fresh=fresh))

    assert found == code
    assert said


SHOW = """\
import os, signal, sys
from invoke import task

@task
def show(ctx):
    streams = sys.stdin, sys.stdout, sys.stderr
    print(sys.argv[1:], os.getcwd(), os.path.realpath(sys.path[0]))
    print(sorted(os.environ.items()))
    print([(s.encoding, s.errors, s.line_buffering, s.isatty(), s.fileno()) for s in streams])
    print([str(signal.getsignal(each)) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)])
    print(sorted(os.listdir('/proc/self/fd'))[:4] if os.path.isdir('/proc/self/fd') else '')
    print(sys.stdin.read())
    umask = os.umask(0)
    print(umask)

@task
def kill(ctx, number):
    os.kill(os.getpid(), int(number))

@task
def parent(ctx):
    print(os.getppid())

@task
def fail(ctx):
    sys.exit('that was it')

@task
def crash(ctx):
    1 / 0
"""


@pytest.fixture
def own_tasks(project: Project) -> Project:
    """Return a project with tasks of its own that show what a process gets from who starts it."""
    project.write("tasks.py", SHOW)
    return project


def test_fork_gets_what_a_process_gets(own_tasks: Project) -> None:
    """Words, folder, environment, streams, signals, input and umask are the given ones, and nothing else is there."""
    below = own_tasks.root / "below"
    below.mkdir()

    def run(fresh: bool) -> subprocess.CompletedProcess[str]:
        return own_tasks.inv(
            "show", env={"MORE": "ä", "INVOKE_DB_TRUST": None}, umask=0o27, stdin="typed", cwd=below, fresh=fresh
        )

    code, said = _both(own_tasks, run)

    assert code == 0
    assert "('MORE', 'ä')" in said
    assert said.endswith(f"typed\n{0o27}\n")


@pytest.mark.parametrize("words", [("kill", "--number=9"), ("kill", "--number=15"), ("fail",)], ids=["9", "15", "exit"])
def test_fork_ends_as_a_process_ends(own_tasks: Project, words: tuple[str, ...]) -> None:
    """A signal is a negative code, as `subprocess` has it, and a sentence for `sys.exit` the code 1."""
    code, _ = _both(own_tasks, lambda fresh: own_tasks.inv(*words, fresh=fresh))

    assert code == (1 if words == ("fail",) else -int(words[-1].partition("=")[2]))


def test_fork_that_crashes_shows_its_traceback(own_tasks: Project) -> None:
    """An error that nobody expected is a traceback and the code 1, so that no test takes it for success."""
    forked = own_tasks.inv("crash")

    assert forked.returncode == 1
    assert forked.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_fork_leaves_nothing_to_the_next(own_tasks: Project) -> None:
    """What one run changes in its process is not there in the next."""
    first = own_tasks.inv("show", env={"MORE": "1"}).stdout

    assert own_tasks.inv("show", env={"MORE": "1"}).stdout == first
    assert "('MORE', '1')" not in own_tasks.inv("show").stdout


WAITING = """\
import os, signal, sys, time
from invoke import task

@task
def wait(ctx):
    print('waiting', os.getpgrp() == os.getsid(0) == os.getpid(), repr(sys.stdin.read()), flush=True)
    signal.alarm(60)
    time.sleep(60)
"""


@pytest.mark.parametrize("fresh", [False, True], ids=["fork", "process"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, -15), (signal.SIGHUP, -1), (signal.SIGINT, 1)]
)
def test_started_fork_takes_signals_as_a_process_does(
    number: signal.Signals, code: int, fresh: bool, project: Project
) -> None:
    """It leads a session of its own, reads nothing, is seen to run and to end, and its words come through pipes."""
    project.write("tasks.py", WAITING)
    process = project.popen("wait", fresh=fresh)
    assert process.stdout is not None

    assert process.stdout.readline() == "waiting True ''\n"
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.send_signal(number)

    assert process.wait(30) == process.poll() == process.returncode == code
    process.send_signal(number)
    assert process.communicate(timeout=30)[0] == ""


def test_started_fork_has_its_environment_and_both_outputs(own_tasks: Project) -> None:
    """What is written to both streams until the end is there, and what it was given."""
    written = []
    for fresh in (False, True):
        shown = own_tasks.popen("show", env={"MORE": "ä"}, fresh=fresh)
        written.append((*shown.communicate(timeout=30), shown.returncode))
        failed = own_tasks.popen("fail", fresh=fresh)
        written.append((*failed.communicate(timeout=30), failed.returncode))

    assert written[:2] == written[2:]
    assert "('MORE', 'ä')" in written[0][0]
    assert written[1] == ("", "that was it\n", 1)


def test_started_fork_is_killed_when_its_output_takes_too_long(project: Project) -> None:
    """With its process group, and the test hears of it."""
    project.write("tasks.py", WAITING)
    process = project.popen("wait")

    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=0.5)

    assert process.wait(30) == -signal.SIGKILL


def test_forks_share_the_start_of_another_environment(own_tasks: Project) -> None:
    """A server that has started with other variables runs what would start with them, and nothing else."""
    other = {"PYTHONIOENCODING": "latin-1"}
    with sharing_start(other):
        server = os.getpid()

        def run(fresh: bool) -> subprocess.CompletedProcess[str]:
            return own_tasks.inv("show", env=other, fresh=fresh)

        _, said = _both(own_tasks, run)
        parents = [own_tasks.inv("parent", env=env).stdout for env in ({}, other, {"PYTHONIOENCODING": "ascii"})]

    assert "'iso8859-1'" in said or "'latin-1'" in said
    assert [int(each) == server for each in parents] == [False, False, True]
    assert parents[0] != parents[1]


def test_fork_that_takes_too_long_is_killed(own_tasks: Project) -> None:
    """After its time is over the run is ended, and the test hears of it."""
    own_tasks.write("tasks.py", "import time\nfrom invoke import task\n@task\ndef wait(ctx):\n    time.sleep(60)\n")

    with pytest.raises(subprocess.TimeoutExpired):
        own_tasks.inv("wait", timeout=0.5)
