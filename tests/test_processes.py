"""Programs end when they have to, their pipes never block, and a signal is one exception."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.errors import MissingProgramError
from tasks.system import processes
from tasks.system.processes import STDERR_LINES, StreamingProcess, bytes_waiting, run_program
from tasks.system.runtime import SIGNALS, Interruption, defer_signals, interruptible, set_interrupt_message
from tests.support import REPOSITORY, eventually


def shell(script: str, **keywords: object) -> StreamingProcess:
    """Start a shell with a script."""
    return StreamingProcess(["/bin/sh", "-c", script], **keywords)  # type: ignore[arg-type]


def is_running(pid: int) -> bool:
    """Tell whether a process is there and not merely unreaped."""
    found = subprocess.run(["/bin/ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(found.stdout.strip()) and not found.stdout.startswith("Z")


def test_full_pipe_is_read_at_once_however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no larger one, waiting for more than it holds would only cost time."""
    monkeypatch.setattr(processes, "PIPE_BYTES", -1)
    monkeypatch.setattr(processes, "NAP_SECONDS", 30)
    with shell("head -c 300000 /dev/zero; exec sleep 60") as child:
        full = processes._widen(child.stdout)
        eventually(lambda: bytes_waiting(child.stdout) >= full, "a full pipe")
        began = time.monotonic()
        piece = child.read(1 << 20)
        child.stop()

    assert piece
    assert time.monotonic() - began < 20


def test_run_returns_what_a_program_said() -> None:
    """Exit status, standard output, standard error."""
    done = run_program(["/bin/sh", "-c", "echo out; echo err >&2; exit 7"])

    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_run_gives_variables_on_top_of_the_environment(tmp_path: Path) -> None:
    """Ours, or the one that is given, and the secrets."""
    extended = run_program(["/usr/bin/env"], extra={"SECRET": "x"})
    replaced = run_program(["/usr/bin/env"], cwd=tmp_path, env={"ONLY": "1"}, extra={"SECRET": "x"})

    assert "SECRET=x" in extended.stdout.splitlines()
    assert "PATH=" in extended.stdout
    assert sorted(replaced.stdout.split()) == ["ONLY=1", "SECRET=x"]


def test_run_gives_no_standard_input() -> None:
    """A program that asks gets the end of the input, and does not wait for a person."""
    assert run_program(["/bin/cat"]).stdout == ""


@pytest.mark.parametrize("argv", [["/nowhere/program"], ["/etc/hostname"], ["/bin/sleep", "60"]])
def test_run_raises_when_a_program_does_not_run_to_its_end(argv: list[str]) -> None:
    """Missing, not executable, or too slow."""
    with pytest.raises(MissingProgramError, match=argv[0]):
        run_program(argv, timeout=0.2)


def test_run_takes_output_that_is_no_text() -> None:
    """A byte that is no UTF-8 is replaced."""
    assert run_program(["/usr/bin/printf", r"a\351b"]).stdout == "a\ufffdb"


# A child whose output is a stream


def test_output_comes_byte_for_byte() -> None:
    """Nothing is decoded, no line end is changed."""
    with shell(r"printf 'a\r\n\000\351'; exit 3") as child:
        text = child.stdout.read()
        code = child.wait()

    assert text == b"a\r\n\x00\xe9"
    assert code == 3


def test_read_gives_all_of_it_in_few_pieces() -> None:
    """A program that writes page by page is read in larger pieces, to its end, and byte for byte."""
    script = "import os; [os.write(1, bytes([at % 256]) * 4096) for at in range(4000)]; os.write(1, b'end')"
    pieces: list[bytes] = []

    with StreamingProcess([sys.executable, "-c", script]) as child:
        while piece := child.read(1 << 20):
            pieces.append(piece)
        code = child.wait()

    assert code == 0
    assert b"".join(pieces) == b"".join(bytes([at % 256]) * 4096 for at in range(4000)) + b"end"
    assert len(pieces) < 1000


def test_standard_error_never_blocks_the_program() -> None:
    """Megabytes of it are drained while nobody looks; the last lines are kept."""
    with shell(
        "i=0; while [ $i -lt 40000 ]; do echo $i: a line of sixty characters, or nearly that many, dear; "
        "i=$((i+1)); done >&2; echo done"
    ) as child:
        text = child.stdout.read()
        code = child.wait()

    assert (text, code) == (b"done\n", 0)
    assert len(child.said.splitlines()) == STDERR_LINES
    assert child.said.splitlines()[-1].startswith("39999: ")


def test_each_line_of_standard_error_is_handed_on() -> None:
    """Also one that is no UTF-8, and a last one without an end."""
    lines: list[str] = []

    with shell(r"printf 'one\n\351\nlast' >&2", on_line=lines.append) as child:
        child.wait()

    assert lines == ["one", "\ufffd", "last"]


@pytest.mark.parametrize("error", [ValueError, BrokenPipeError, SystemExit])
def test_standard_error_is_drained_when_nobody_can_show_it(error: type[BaseException]) -> None:
    """A terminal that has gone must not make the program wait for ever."""

    def fail(_line: str) -> None:
        raise error

    with shell("head -c 200000 /dev/zero | tr '\\0' '\\n' >&2; echo done", on_line=fail) as child:
        assert child.readable(20)
        assert child.stdout.read() == b"done\n"


def test_child_gets_secrets_by_its_environment_alone() -> None:
    """On top of ours."""
    with StreamingProcess(["/bin/sh", "-c", "echo $SECRET; echo $HOME"], extra={"SECRET": "x"}) as child:
        text = child.stdout.read()

    assert text.decode().splitlines() == ["x", os.environ["HOME"]]
    assert "x" not in child.argv


def test_missing_program_is_a_sentence() -> None:
    """Before anything is read."""
    with pytest.raises(MissingProgramError, match="/nowhere/program"):
        StreamingProcess(["/nowhere/program"])


def test_readable_tells_silence_from_output_and_end() -> None:
    """False after a while without either."""
    with shell("sleep 0.5; echo x; sleep 0.5") as child:
        silent = child.readable(0.1)
        spoken = child.readable(10)
        child.stdout.read(10)
        ended = child.readable(10)

    assert (silent, spoken, ended) == (False, True, True)


def test_child_is_stopped_when_its_block_fails() -> None:
    """With all of its group, and reaped."""
    child = shell("sleep 60 & echo $!; wait")
    grandchild = int(child.stdout.readline())

    with pytest.raises(RuntimeError), child:
        raise RuntimeError

    assert child.wait() == -signal.SIGTERM
    assert not is_running(child.pid)
    assert not is_running(grandchild)


def test_child_is_killed_when_it_does_not_want_to_end() -> None:
    """SIGTERM first, and SIGKILL for who ignores it."""
    with shell("trap '' TERM; echo ready; while :; do sleep 0.1; done") as child:
        child.stdout.readline()
        child.stop(patience=0.5)
        code = child.wait()

    assert code == -signal.SIGKILL


def test_child_ends_by_itself_when_it_is_asked_politely() -> None:
    """It may say goodbye, as pg_dump cancels its query."""
    with shell("trap 'echo bye >&2; exit 9' TERM; echo ready; while :; do sleep 0.05; done") as child:
        child.stdout.readline()
        child.stop()
        code = child.wait()

    assert (code, child.said.splitlines()[-1]) == (9, "bye")


def test_stopping_twice_and_waiting_twice_is_harmless() -> None:
    """Whoever cleans up need not know what was done."""
    with shell("exit 4") as child:
        first = child.wait()
        child.stop()
        child.stop()

    assert (first, child.wait()) == (4, 4)


def test_signal_of_the_terminal_does_not_reach_the_child() -> None:
    """It is in a process group of its own: we stop it when we are ready."""
    with shell("echo ready; sleep 60") as child:
        child.stdout.readline()
        group = os.getpgid(child.pid)
        child.stop()

    assert group == child.pid != os.getpgrp()


# Signals


def signalled(signum: signal.Signals) -> None:
    """Send a signal to ourselves, and wait until it has come."""
    os.kill(os.getpid(), signum)
    time.sleep(5)


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda each: each.name)
def test_signal_is_an_interruption(signum: signal.Signals) -> None:
    """Raised where the main thread happens to be; afterwards all handlers are as before."""
    before = [signal.getsignal(each) for each in SIGNALS]

    with pytest.raises(Interruption, match=signum.name) as raised, interruptible():
        signalled(signum)

    assert raised.value.signum == signum
    assert [signal.getsignal(each) for each in SIGNALS] == before


def finished(signum: signal.Signals) -> None:
    """Do some work, and get a signal after it."""
    set_interrupt_message("It is done.")
    signalled(signum)


def test_interruption_says_what_stands_when_the_work_is_done() -> None:
    """Until somebody on its way up knows better; the next task begins with nothing said."""
    with pytest.raises(Interruption) as done, interruptible():
        finished(signal.SIGTERM)
    with pytest.raises(Interruption) as begun, interruptible():
        signalled(signal.SIGTERM)

    assert (done.value.state, begun.value.state) == ("It is done.", "")


def test_signal_in_a_finalizer_is_not_lost() -> None:
    """Python ignores what a finalizer raises, and the work would continue to its end."""

    class Finalized:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(1000):
                pass

    def work() -> None:
        Finalized()
        time.sleep(5)

    with pytest.raises(Interruption, match="SIGTERM"), interruptible():
        work()

    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_signal_comes_after_what_is_undivided() -> None:
    """Not within it, however deep; what was made there is known by then."""
    made: list[str] = []

    def make() -> None:
        with defer_signals():
            with defer_signals():
                os.kill(os.getpid(), signal.SIGTERM)
                made.append("inner")
            made.append("outer")

    with pytest.raises(Interruption, match="SIGTERM"), interruptible():
        make()

    assert made == ["inner", "outer"]


def test_second_signal_does_not_interrupt_cleaning_up() -> None:
    """Once we are ending, we end in order."""
    cleaned: list[str] = []

    with pytest.raises(Interruption, match="SIGINT"), interruptible(), cleaning_under_fire(cleaned):
        signalled(signal.SIGINT)

    assert cleaned == ["all of it"]


@contextlib.contextmanager
def cleaning_under_fire(cleaned: list[str]) -> Iterator[None]:
    """Clean up at the end while more signals come, and say so."""
    try:
        yield
    finally:
        for signum in SIGNALS:
            os.kill(os.getpid(), signum)
        time.sleep(0.05)
        cleaned.append("all of it")


def test_ignored_signal_stays_ignored() -> None:
    """What nohup ignored for us is no reason to end."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.05)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_are_left_alone_outside_the_main_thread() -> None:
    """Where Python allows no handlers."""
    seen: list[object] = []

    def work() -> None:
        with interruptible():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert seen == [signal.getsignal(signal.SIGTERM)]


def test_signal_ends_what_the_block_had_started() -> None:
    """A child that stands still is stopped by the way of the exception."""
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()

    with pytest.raises(Interruption), interruptible(), shell("exec sleep 60") as child:
        child.stdout.read()

    assert child.wait() == -signal.SIGTERM


def test_output_that_nobody_reads_any_more_ends_quietly() -> None:
    """No traceback when the reader of a pipe has gone, and the status that a shell expects."""
    script = (
        "from tasks.system.runtime import standard_streams\n"
        "with standard_streams():\n"
        "    for i in range(100000): print('a line of some length', i)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        said = running.stderr.read()

    assert running.returncode == 128 + signal.SIGPIPE
    assert said == b""
