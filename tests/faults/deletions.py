"""Kills `db.prune` and `db.delete` at every moment: `python -m tests.faults.deletions --kills 1000` prints a tally."""

import argparse
import contextlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from tasks.dumpfiles.paths import MANIFEST_SUFFIX, PART_SUFFIX, UNDO, list_orphan_manifests, manifest_path
from tests.faults.files import Violation
from tests.stored_dumps import store_dump
from tests.support import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS: Final = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ARGS: Final = {"prune": ("db.prune", "--yes"), "delete": ("db.delete", "--yes", "--file=db_dump_2026-01-03")}
_PINNED: Final = "2026-01-01T00:00:00+00:00"


@dataclass
class Deletions:
    """A folder of dumps that is laid out anew before each kill.

    :ivar before: The files by name, before a deletion; `after` what is left of them by operation when nothing happens.
    :ivar events: How many events each phase of each operation has.
    """

    project: Project
    server: subprocess.Popen[str]
    channel: IO[str]
    answers: tuple[int, int]
    before: dict[str, bytes] = field(default_factory=dict)
    after: dict[str, dict[str, bytes]] = field(default_factory=dict)
    events: dict[str, dict[str, int]] = field(default_factory=dict)
    tally: Counter[str] = field(default_factory=Counter)

    @classmethod
    @contextlib.contextmanager
    def open(cls, root: Path) -> "Iterator[Deletions]":
        """Lay out the dumps, and run each operation once without a fault."""
        project = Project.create(root / "project")
        project.env["INVOKE_DB_KEEP"] = "last=2"
        listening, channel = os.pipe()
        answers = os.pipe()
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.aimed", str(channel), str(answers[0])],
            cwd=project.root,
            env=project._environment({}),
            stdin=subprocess.PIPE,
            pass_fds=[channel, answers[0]],
            text=True,
        )
        os.close(channel)
        try:
            with os.fdopen(listening, encoding="ascii") as heard:
                found = cls(project, server, heard, answers)
                found._prepare()
                yield found
        finally:
            for descriptor in answers:
                os.close(descriptor)
            server.kill()
            server.communicate()

    def kill(self, operation: str, phase: str, event: int, signum: signal.Signals) -> None:
        """Kill a run at an event, and hold the folder against the promises; then let the next run finish.

        :raises Violation: A promise was broken.
        """
        self._lay_out()
        struck, code = self._run(operation, {"phase": phase, "event": event, "delay": None}, signum)
        where = f"{operation}, {phase}, event {event}, {signum.name}, exit {code}"
        try:
            if not struck:
                raise Violation("it was over before")
            self._judge(operation, killed=code == -signal.SIGKILL)
            if "Nothing was touched" in self._said() and self._files() != self.before:
                raise Violation("files were deleted, and the message says that nothing was touched")
            self._finish(operation)
        except Violation as violation:
            raise Violation(f"{where}: {violation}") from None
        self.tally[f"{operation}, {phase}, {signum.name}"] += 1

    def _judge(self, operation: str, *, killed: bool) -> None:
        now, wanted = self._files(), self.after[operation]
        changed = [name for name in wanted if now.get(name) != wanted[name]]
        if changed:
            raise Violation(f"what the plan keeps was changed: {changed}")
        parts = [name for name in now if name.endswith(PART_SUFFIX)]
        if parts and not killed:
            raise Violation(f"part files are left: {parts}")
        new = [name for name in now.keys() - self.before.keys() if name not in parts]
        if new:
            raise Violation(f"there are new files: {new}")
        foreign = [name for name in now if name.endswith(".sql") and not self._has_manifest(name, now)]
        if foreign != [name for name in self.before if name == "foreign.sql"]:
            raise Violation(f"dumps lost their manifest: {foreign}")
        if orphans := list_orphan_manifests(self.project.dumps):
            raise Violation(f"manifests are left: {orphans}")

    def _finish(self, operation: str) -> None:
        """Prune once more: whatever was interrupted, the end is that of an undisturbed run."""
        target = self.after[operation]
        if self._files() != target:
            _, code = self._run("prune", None, None)
            if code != 0:
                raise Violation(f"the next run ended in {code}")
            target = self.after["prune"]
            if operation == "delete":
                target = {name: text for name, text in target.items() if name in self.after["delete"]}
        left = {name for name in self._files() if name not in target}
        # The dump that was to be deleted may also be there still, where it is one that a prune keeps.
        if left - self.after["prune"].keys() - self.after["delete"].keys():
            raise Violation(f"the next run left {sorted(left)}")
        if [name for name in self._files() if name.endswith(PART_SUFFIX)] or list_orphan_manifests(self.project.dumps):
            raise Violation("the next run left something")

    def _has_manifest(self, name: str, files: dict[str, bytes]) -> bool:
        return name.removesuffix(".sql") + MANIFEST_SUFFIX in files

    def _files(self) -> dict[str, bytes]:
        folder = self.project.dumps
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def _said(self) -> str:
        return (self.project.root / "err").read_text(encoding="utf-8", errors="replace")

    def _lay_out(self) -> None:
        shutil.rmtree(self.project.dumps)
        (self.project.dumps / "undo").mkdir(parents=True)
        for name, text in self.before.items():
            (self.project.dumps / name).write_bytes(text)

    def _prepare(self) -> None:
        dumps, first = self.project.dumps, datetime(2026, 1, 1, tzinfo=UTC)
        for day in range(8):
            store_dump(dumps, first + timedelta(days=day))
        store_dump(dumps, first - timedelta(days=1), pinned=_PINNED)
        store_dump(dumps, first - timedelta(days=2)).write_bytes(b"broken")
        store_dump(dumps, first - timedelta(days=3), excluded=(("public", "log"),))
        store_dump(dumps, first, database="bank")
        manifest_path(store_dump(dumps, first, name="foreign.sql")).unlink()
        store_dump(dumps / "undo", first, prefix=UNDO)
        self.before = self._files()
        for operation in ARGS:
            self._lay_out()
            events, code = self._run(operation, None, None)
            assert code == 0
            self.after[operation] = self._files()
            self.events[operation] = {phase: int(count) for phase, (count, _) in events.items()}

    def _run(self, operation: str, aim: dict[str, Any] | None, signum: signal.Signals | None) -> tuple[Any, int]:
        """Run the program in a fork.

        :return: Whether it was struck, or its events where it was not to be; and its exit code.
        """
        assert self.server.stdin is not None
        out, err = (str(self.project.root / name) for name in ("out", "err"))
        request = {"args": ARGS[operation], "operation": operation, "aim": aim, "out": out, "err": err}
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        found: Any = False
        for line in self.channel:
            heard = json.loads(line)
            if "code" in heard:
                # An answer that it did not wait for is none to the next run.
                while select.select([self.answers[0]], [], [], 0)[0]:
                    os.read(self.answers[0], 100)
                return found, int(heard["code"])
            if "strike" in heard and signum is not None:
                os.kill(heard["pid"], signum)
                found = True
                # A signal that is deferred does not end the wait.
                if signum is not signal.SIGKILL:
                    os.write(self.answers[1], b"go on\n")
            if aim is None:
                found = heard.get("events", found)
        raise Violation("the program's server ended")


def main() -> None:
    """Kill so many times, drawn from a seed, and print the tally."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=1000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Deletions.open(Path(folder)) as deletions:
        kill_at_random(deletions, asked.seed, asked.kills)
    lines = [f"{count:6} {name}" for name, count in sorted(deletions.tally.items())]
    sys.stdout.write("\n".join([*lines, f"{deletions.tally.total():6} kills"]) + "\n")


def kill_at_random(deletions: Deletions, seed: int, kills: int) -> None:
    """Kill at moments drawn from a seed; seven of ten while files are deleted by a prune."""
    chance = random.Random(seed)
    for _ in range(kills):
        operation = chance.choice(["prune", "prune", "prune", "delete"])
        phases = deletions.events[operation]
        phase = "deleting" if chance.random() < 0.8 else chance.choice(list(phases))
        if phases[phase]:
            deletions.kill(operation, phase, chance.randrange(phases[phase]), chance.choice(SIGNALS))


if __name__ == "__main__":
    main()
