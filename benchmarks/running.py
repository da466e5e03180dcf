"""Runs one whole command, from the start of its process to its exit, and says what it used."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tasks.errors import OperationFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .throttle import Throttle

# The peak of a process only ever grows, so what a look misses is what it gained since the last one.
LOOK_SECONDS = 0.02
MEGABYTE = 1_000_000
_TICKS = os.sysconf("SC_CLK_TCK")
# What wait4 counts writes in; where memory is the disk, it counts none.
_BLOCK = 512
# Of /proc/PID/stat, counted after the command's name: utime, stime.
_CPU = slice(11, 13)


@dataclass(frozen=True)
class Used:
    """What one run used.

    :ivar seconds: From before its start until its exit was seen.
    :ivar cpu: Seconds of CPU of all its processes, and `own_cpu` of the first one alone.
    :ivar own_peak: The most memory of the first process at one time (resident, in MB).
    :ivar peaks: The same by program's name; of several processes the largest.
    :ivar written: Bytes that it handed to files, what it deleted later included.
    """

    seconds: float
    cpu: float
    own_cpu: float
    own_peak: float
    peaks: dict[str, float]
    written: int


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    status: int = 0,
    throttle: Throttle | None = None,
) -> Used:
    """Run a command and wait for its end.

    :param env: Its whole environment.
    :param log: A file that gets what it says.
    :param status: The exit status that it must have.
    :param throttle: Limits its threads and those of all that descend from it.
    :raises OperationFailedError: It ended otherwise; the end of what it said is in the message.
    """
    with log.open("wb") as said:
        began = time.perf_counter()
        with _started(argv, cwd=cwd, env=env, said=said) as process:
            if throttle is not None:
                throttle.roots.append(process.pid)
            watch = _Watch(process.pid)
            watch.start()
            # Its exit is seen at once, but its numbers stay to be read until it is waited for.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            seconds = time.perf_counter() - began
            watch.stop()
            own_cpu = _own_cpu(process.pid)
            _, code, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode != status:
        end = log.read_text(encoding="utf-8", errors="replace").strip()[-1500:]
        raise OperationFailedError(
            f"{argv[-1] if argv[0] == 'bash' else ' '.join(argv)} ended with {process.returncode}: {end}"
        )
    return Used(
        seconds=seconds,
        cpu=usage.ru_utime + usage.ru_stime,
        own_cpu=own_cpu,
        own_peak=watch.peaks_of(process.pid) / MEGABYTE,
        peaks={name: peak / MEGABYTE for name, peak in sorted(watch.by_name().items())},
        written=usage.ru_oublock * _BLOCK,
    )


@contextlib.contextmanager
def _started(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], said: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """Start it in a process group of its own, which ends when we are interrupted."""
    process = subprocess.Popen(
        list(argv), cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=said, stderr=said, process_group=0
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


@dataclass
class _Watch:
    """Looks again and again at a process and all that descend from it.

    :ivar seen: Of each process id the name and the peak in bytes, as they last were.
    """

    pid: int
    seen: dict[tuple[int, str], int] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def peaks_of(self, pid: int) -> int:
        return max((peak for (seen, _), peak in self.seen.items() if seen == pid), default=0)

    def by_name(self) -> dict[str, int]:
        names: dict[str, int] = {}
        for (_, name), peak in self.seen.items():
            names[name] = max(peak, names.get(name, 0))
        return names

    def _look_on(self) -> None:
        while True:
            self._look(self.pid)
            if self._over.wait(LOOK_SECONDS):
                return

    def _look(self, pid: int) -> None:
        # It, or one of its threads, may be gone by now.
        with contextlib.suppress(OSError):
            name, peak = _memory(pid)
            if peak:
                self.seen[pid, name] = peak
            for task in Path(f"/proc/{pid}/task").iterdir():
                for child in (task / "children").read_text().split():
                    self._look(int(child))


def _memory(pid: int) -> tuple[str, int]:
    """Read a process's name and peak; the peak of one that has ended is 0."""
    status = Path(f"/proc/{pid}/status").read_text()
    peak = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return status.partition("\n")[0].removeprefix("Name:\t"), int(peak[1]) * 1024 if peak else 0


def _own_cpu(pid: int) -> float:
    """Read the CPU seconds of a process that has ended and was not waited for, without its children's."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(each) for each in fields[_CPU]) / _TICKS
