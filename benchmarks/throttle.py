"""Gives each process a fifth of a processor, so that few processors show what many would bring.

Each process of a command and of the server gets a control group of its own. That needs Linux and root.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

SHARE = 0.2
_PERIOD = 50_000
_LOOK_SECONDS = 0.005
_CGROUPS = Path("/sys/fs/cgroup")


def group_folder() -> Path | None:
    """Return the folder in which control groups for processors can be made; None if there is none for us."""
    for folder, limit in ((_CGROUPS / "cpu", "cpu.cfs_quota_us"), (_CGROUPS, "cpu.max")):
        made = folder / f"bench-{os.getpid()}"
        with contextlib.suppress(OSError):
            made.mkdir()
            try:
                if (made / limit).exists():
                    return folder
            finally:
                made.rmdir()
    return None


@dataclass
class Throttle:
    """Limits processes and all that descend from them.

    :ivar roots: The ids of the processes at the top; of a server, its postmaster's.
    """

    folder: Path
    roots: list[int]
    _seen: dict[int, Path] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for group in self._seen.values():
            # Those that still run, as the server does, run without a limit again.
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    (self.folder / "cgroup.procs").write_text(pid)
            group.rmdir()

    def _look_on(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            for root in self.roots:
                self._visit(root)

    def _visit(self, pid: int) -> None:
        # It may be gone by now.
        with contextlib.suppress(OSError):
            if pid not in self._seen:
                self._limit(pid)
            for task in Path(f"/proc/{pid}/task").iterdir():
                for child in (task / "children").read_text().split():
                    self._visit(int(child))

    def _limit(self, pid: int) -> None:
        group = self.folder / f"bench-{os.getpid()}-{pid}"
        group.mkdir()
        self._seen[pid] = group
        quota = int(_PERIOD * SHARE)
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{quota} {_PERIOD}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        (group / "cgroup.procs").write_text(str(pid))


def throttled(roots: list[int]) -> Throttle:
    """Return a context in which processes are limited; more of them may be added to its roots.

    :raises OSError: There are no control groups; see :func:`group_folder`.
    """
    folder = group_folder()
    if folder is None:
        raise OSError("there are no control groups that could be made here")
    return Throttle(folder, list(roots))
