"""Gives each thread a fifth of a processor, so that few processors show what many would bring.

Each thread of a command and of the server gets a control group of its own, because with many processors it would have
one of its own. The programs of PostgreSQL have one thread in each process; ours has several. Needs Linux and root.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

SHARE = 0.2
# As many processors as a program may suppose: so many threads that all compute use one.
PROCESSORS = 5
_PERIOD = 50_000
_LOOK_SECONDS = 0.005
_PATIENCE = 5.0
_CGROUPS = Path("/sys/fs/cgroup")


class Groups(Protocol):
    """Control groups, one for each thread."""

    def limit(self, pid: int, thread: int) -> None:
        """Limit a thread of a process.

        :raises OSError: It has ended.
        """

    def remove(self) -> None:
        """Let the threads that still run, as the server's do, run without a limit again."""


class FirstGroups:
    """Control groups of the first version: threads have groups as processes have."""

    def __init__(self, folder: Path = _CGROUPS / "cpu") -> None:
        self._folder = folder
        self._made = [folder / f"bench-{os.getpid()}"]
        self._made[0].mkdir()
        if not (self._made[0] / "cpu.cfs_quota_us").exists():
            self._made[0].rmdir()
            raise OSError(f"{folder} does not limit processors")

    def limit(self, pid: int, thread: int) -> None:  # noqa: ARG002 - the second version needs it
        """Limit a thread."""
        group = self._made[0] / str(thread)
        group.mkdir()
        self._made.append(group)
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
        (group / "cpu.cfs_quota_us").write_text(str(int(_PERIOD * SHARE)))
        (group / "tasks").write_text(str(thread))

    def remove(self) -> None:
        """Let the threads run without a limit again."""
        for group in reversed(self._made):
            _remove(group, group / "tasks", self._folder / "tasks")


class SecondGroups:
    """Control groups of the second version: a process gets a group, in which its threads have groups."""

    def __init__(self, folder: Path = _CGROUPS) -> None:
        self._folder = folder
        self._top = folder / f"bench-{os.getpid()}"
        self._made: list[Path] = []
        self._moved: set[int] = set()
        self._top.mkdir()
        try:
            _allow_limits(folder)
            self._add("first")
            _allow_limits(self._top)
        except OSError:
            self.remove()
            raise

    def limit(self, pid: int, thread: int) -> None:
        """Limit a thread of a process, which joins the group above those of its threads."""
        if pid not in self._moved:
            (self._top / "cgroup.procs").write_text(str(pid))
            self._moved.add(pid)
        group = self._add(str(thread))
        (group / "cpu.max").write_text(f"{int(_PERIOD * SHARE)} {_PERIOD}")
        (group / "cgroup.threads").write_text(str(thread))

    def remove(self) -> None:
        """Let the threads run without a limit again."""
        for group in (*self._made, self._top):
            _remove(group, self._top / "cgroup.procs", self._folder / "cgroup.procs")

    def _add(self, name: str) -> Path:
        group = self._top / name
        group.mkdir()
        self._made.append(group)
        (group / "cgroup.type").write_text("threaded")
        return group


def _allow_limits(group: Path) -> None:
    """Let the groups in a group limit processors."""
    (group / "cgroup.subtree_control").write_text("+cpu")


def _remove(group: Path, members: Path, to: Path) -> None:
    """Move the members elsewhere and delete the group, which takes a moment while some of them end."""
    end = time.monotonic() + _PATIENCE
    while True:
        for each in members.read_text().split():
            # It may be gone by now.
            with contextlib.suppress(OSError):
                to.write_text(each)
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(_LOOK_SECONDS)
        else:
            return


def make_groups() -> Groups:
    """Return control groups of the version that this system has.

    :raises OSError: None can be made here.
    """
    try:
        return FirstGroups()
    except OSError:
        return SecondGroups()


@dataclass
class Throttle:
    """Limits the threads of processes and of all that descend from them; a context manager.

    :ivar roots: The ids of the processes at the top, to which more may be added; of a server, its postmaster's.
    """

    groups: Groups
    roots: list[int]
    _seen: set[int] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.groups.remove()

    def _look_on(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            for root in self.roots:
                self._visit(root)

    def _visit(self, pid: int) -> None:
        # It may be gone by now.
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                if int(thread.name) not in self._seen:
                    self._seen.add(int(thread.name))
                    self.groups.limit(pid, int(thread.name))
                for child in (thread / "children").read_text().split():
                    self._visit(int(child))
