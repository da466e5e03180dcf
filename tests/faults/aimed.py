"""Runs the program so that a fault can be aimed: it stops at a chosen moment, and says in which phase that is.

One process loads the program once, and forks for each run, so that a run costs little. In the fork, real functions of
the program are wrapped: entering and leaving one is an event, and some events begin a phase. At the chosen event (or
some time after it) the run says where it is, and whoever started it does the harm, from outside: a signal, a kill of
pg_dump, of a backend, of the server. Nothing else is different from `inv`.

Spoken in lines of JSON. Read from standard input: `{"args": […], "operation": …, "aim": {…} or null}`. Written to the
channel: `{"strike": phase, "pid": …}`, at a run's end `{"events": {phase: [count, seconds]}}`, and `{"code": …}`.
"""

import contextlib
import functools
import importlib
import json
import os
import select
import signal
import sys
import threading
import time
from typing import IO, Any, Final

RESTORE: Final = ("before BEGIN", "saving", "emptying", "loading", "indexing", "verifying", "in COMMIT", "after")
PHASES: Final = {
    "dump": (
        "before the snapshot",
        "snapshot to first byte",
        "streaming",
        "comparing",
        "publishing",
        "between the renames",
        "after",
    ),
    "gzip": ("before writing", "writing", "reading back", "publishing", "between the renames", "after"),
    "gunzip": ("before writing", "writing", "reading back", "publishing", "between the renames", "after"),
    "restore": RESTORE,
    "reset": ("before BEGIN", "saving", "emptying", "in COMMIT", "after"),
    "undo": RESTORE,
    "swap": ("before", "creating", "carrying over", "loading", "verifying", "swapping", "in COMMIT", "after"),
    "undo-swap": ("before", "swapping", "in COMMIT", "after"),
    "migrate": ("before", "migrating", "after"),
    "prune": ("before", "deleting", "after"),
    "delete": ("before", "deleting", "after"),
}
"""The phases of each operation, in their order."""

# What is wrapped: module, and the functions in it; each module that has imported one gets the wrapped one, too.
POINTS: Final = """
postgres.connection server_facts
dumpformat.compression read_magic
dumpfiles.dump_file choose_dump prove_dump is_unchanged
dumpfiles.convert _rewrite _sums _replace
dumpfiles.deletion delete_dump finish_deletions carry_out_deletion
dumpfiles.prune carry_out_prune
postgres.connection read_endpoint connect
restore.preflight check_restore begin_change
restore.restore remember_restore
restore.restore analyze_restored
restore.transaction.RestoreTransaction _begin _empty _load
restore.private_load.PrivateLoad _begin _connect _load_with_sessions
restore.dump_load.DumpLoad _loader _prove _compare
restore.reset _empty
safety.undo_points read_undo_points
safety.safety_dump.SafetyDump make keep discard
system.git git_state
dump.pg_dump.PgDump start await_output
dump.stream.DumpStream _compare _warn_of_keys
dump.stream.SnapshotCount begin result
dump.destination prepare_dump_folder publish_dump_and_manifest
safety.restore_log write_record
dumpfiles.paths read_manifest
dumpformat.compression.SumCounter add
dumpformat.compression.SummingWriter write
dumpfiles.atomic_write rename_new sync_folder replace_file delete_stale_parts
dumpfiles.atomic_write.PartFile publish
system.pg_programs find_client
prisma.other_database migrate_other_database
postgres.tables read_tables
postgres.schemas read_content refuse_dependents lock_out_writers _lock _identities
postgres.constraints run_text
restore.restore analyze_tables
load.loader.Loader statement data end_of_data rows_end finish prove
postgres.protocol.StatementStream run queue drain _send _flush _result _next_result data
postgres.commit commit_transaction
staging.staging_database _create _try_access _prepare
staging.carry_over carry_over
staging.swap_restore take_place _remember
safety.swap _end_sessions _rename
safety.swap_undo plan_swap_undo undo_by_swap _swap
safety.kept_databases retain_database
safety.own_databases write_database_record
safety.scratch_database drop_database
system.processes.StreamingProcess wait
system.processes run_interactive
"""
SYSTEM: Final = ("fsync", "link", "unlink", "rename")

# Which event begins which phase: (point, edge) by operation. The rest is in `_begins`.
_ENTER: Final = {
    "dump": {
        "tables.read_tables": "snapshot to first byte",
        "SnapshotCount.begin": "streaming",
        "SnapshotCount.result": "comparing",
        "destination.publish_dump_and_manifest": "publishing",
    },
    "gzip": {"convert._rewrite": "writing", "convert._sums": "reading back"},
    "restore": {
        "SafetyDump.make": "saving",
        "RestoreTransaction._empty": "emptying",
        "RestoreTransaction._load": "loading",
        "DumpLoad._prove": "verifying",
        "commit.commit_transaction": "in COMMIT",
    },
    "reset": {"SafetyDump.make": "saving", "commit.commit_transaction": "in COMMIT"},
    "swap": {
        "staging_database._create": "creating",
        "carry_over.carry_over": "carrying over",
        "PrivateLoad._load_with_sessions": "loading",
        "DumpLoad._prove": "verifying",
        "swap_restore.take_place": "swapping",
        "commit.commit_transaction": "in COMMIT",
    },
    "undo-swap": {"swap_undo._swap": "swapping", "commit.commit_transaction": "in COMMIT"},
    "migrate": {"other_database.migrate_other_database": "migrating"},
    "prune": {"deletion.delete_dump": "deleting"},
}
_LEAVE: Final = {
    "dump": {"destination.publish_dump_and_manifest": "after"},
    "gzip": {"convert._sums": "publishing", "os.unlink dump": "after"},
    "restore": {"Loader.rows_end": "indexing", "commit.commit_transaction": "after"},
    "reset": {"SafetyDump.make": "emptying", "commit.commit_transaction": "after"},
    "swap": {"commit.commit_transaction": "after"},
    "undo-swap": {"commit.commit_transaction": "after"},
    "migrate": {"other_database.migrate_other_database": "after"},
    "prune": {"prune.carry_out_prune": "after", "deletion.carry_out_deletion": "after"},
}
_LIKE: Final = {"gunzip": "gzip", "undo": "restore", "delete": "prune"}


class Run:
    """One run of the program.

    :param operation: What it is, which tells its phases.
    :param aim: `phase`, `event` (which of the phase's, from 0) and `delay`: seconds after it, while the run goes on;
        None strikes in the event itself, and the run stands still until the harm is done. Without an aim it counts.
    """

    def __init__(self, operation: str, aim: dict[str, Any] | None, channel: int, answers: IO[str]) -> None:
        self._order = PHASES[operation]
        kind = _LIKE.get(operation, operation)
        self._enter, self._leave = _ENTER[kind], _LEAVE[kind]
        self._aim, self._channel, self._answers = aim, channel, answers
        self.phase = self._order[0]
        self.events: dict[str, list[float]] = {self.phase: [0, 0.0]}
        self._since = time.monotonic()
        self._links = 0
        self._inside = False

    def event(self, point: str, *, leaving: bool) -> None:
        """Take note of one, and strike if it is the one."""
        if threading.current_thread() is not threading.main_thread() or self._inside:
            return
        self._begin((self._leave if leaving else self._enter).get(point, ""))
        if leaving and point == "os.link" and self.phase in {"publishing", "between the renames"}:
            self._links += 1
            self._begin("between the renames" if self._links == 1 else "after" if "streaming" in self._order else "")
        count = self.events[self.phase]
        count[0] += 1
        aim = self._aim
        if aim is not None and self.phase == aim["phase"] and count[0] == aim["event"] + 1:
            if aim["delay"] is None:
                self._inside = True
                try:
                    self._strike()
                finally:
                    self._inside = False
            else:
                threading.Thread(target=self._later, args=[aim["delay"]], daemon=True).start()

    def say(self, **what: object) -> None:
        """Write a line to the channel, in one piece."""
        os.write(self._channel, (json.dumps(what) + "\n").encode())

    def finish(self) -> None:
        """Count the last phase's time, and tell the counts."""
        self.events[self.phase][1] += time.monotonic() - self._since
        self._aim = None
        self.say(events=self.events)

    def _begin(self, phase: str) -> None:
        if phase in {"in COMMIT", "after"} and "swapping" in self._order[self._order.index(self.phase) + 1 :]:
            # The load of a staging database has a commit of its own.
            return
        # Forwards only: what a phase is made of may come again later.
        if phase and self._order.index(phase) > self._order.index(self.phase):
            now = time.monotonic()
            self.events[self.phase][1] += now - self._since
            self._since, self.phase = now, phase
            self.events[phase] = [0, 0.0]

    def _later(self, delay: float) -> None:
        time.sleep(delay)
        if self._aim is not None:
            self._strike()

    def _strike(self) -> None:
        self.say(strike=self.phase, pid=os.getpid())
        if self._inside:
            # Until the harm is done; for ever, should it be us who are to die. A signal that comes just before a wait
            # would not end it, so no wait is long.
            while not select.select([self._answers], [], [], 0.05)[0]:
                pass
            self._answers.readline()


def wrap(run: Run) -> None:
    """Wrap the program's functions, and those of the system that it publishes files with."""
    for line in POINTS.strip().splitlines():
        place, *names = line.split()
        module, _, kind = place.rpartition(".")
        if kind.lstrip("_")[:1].isupper():
            owner: Any = getattr(importlib.import_module(f"tasks.{module}"), kind)
        else:
            owner = importlib.import_module(f"tasks.{place}")
        for name in names:
            _wrap(owner, name, f"{place.rpartition('.')[2]}.{name}", run)
    for name in SYSTEM:
        _wrap(os, name, f"os.{name}", run)


def _wrap(owner: Any, name: str, point: str, run: Run) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        label = point
        if point == "os.unlink" and not str(args[0]).endswith(".part"):
            label = "os.unlink dump"
        run.event(label, leaving=False)
        result = original(*args, **kwargs)
        run.event(label, leaving=True)
        return result

    setattr(owner, name, wrapped)
    for module in [each for key, each in sys.modules.items() if key.startswith("tasks.")]:
        for key, value in list(vars(module).items()):
            if value is original:
                setattr(module, key, wrapped)


def load() -> None:
    """Load all that the program loads, once; tables of some pages are then large ones, read in slices anywhere."""
    for module in (
        "dumpfiles.prune",
        "dumpfiles.convert",
        "restore.restore",
        "restore.reset",
        "restore.undo",
        "restore.with_migration",
        "staging.swap_restore",
        "safety.swap_undo",
    ):
        importlib.import_module(f"tasks.{module}")
    slices: Any = importlib.import_module("tasks.dump.table_slices")
    slices.SMALLEST, slices.SLICE = 1, 16
    dump: Any = importlib.import_module("tasks.dump.dump")
    dump.SHARED_PROCESSORS = 0
    importlib.import_module("tasks.cli.terminal")
    importlib.import_module("rich.live")
    importlib.import_module("invoke.main")


def child(request: dict[str, Any], channel: int, answers: IO[str]) -> int:
    """Be one run, and return its exit code."""
    os.setsid()
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    run = Run(request["operation"], request["aim"], channel, answers)
    wrap(run)
    from invoke.main import program  # noqa: PLC0415 - loaded by now

    code: object = 0
    try:
        program.run(["inv", *request["args"]])
    except SystemExit as ended:
        code = ended.code
    finally:
        run.finish()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code if isinstance(code, int) else 0 if code is None else 1


def serve(channel: int, answers: IO[str]) -> None:
    """Fork a run for each line of standard input."""
    load()
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = child(request, channel, answers)
            except BaseException as error:  # noqa: BLE001 - shown as the interpreter would
                sys.excepthook(type(error), error, error.__traceback__)
                sys.stderr.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        os.write(channel, (json.dumps({"code": os.waitstatus_to_exitcode(status)}) + "\n").encode())


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(int(sys.argv[2]), encoding="ascii") as answering:  # noqa: PTH123 - a descriptor
        serve(int(sys.argv[1]), answering)
