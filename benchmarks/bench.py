"""The run: a server, its databases, every command in turn, round by round."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import MissingProgramError, OperationFailedError
from tests.servers import PASSWORD, SUPERUSER, Server, ServerSetupError, provision

from . import commands, databases, machine, results, running
from .throttle import PROCESSORS, Throttle, make_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .commands import Case
    from .databases import Built
    from .options import Options

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
# Whose pg_dump has zstd, in the programs that the tests fetch.
MAJOR = 18
TARGET = "target"
# What PostgreSQL has by itself, but for what the comment says.
CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '{socket_dir}'
timezone = 'UTC'
# So that one transaction can make and drop 2,000 tables.
max_locks_per_transaction = 512
# It would begin at moments of its own choosing, and slow down whichever command runs then.
autovacuum = off
"""


def main(options: Options, *, as_json: bool) -> None:
    """Measure, show the tables, and keep the result of a whole run.

    :raises MissingProgramError: The server's programs can't be had.
    :raises OperationFailedError: A command failed, or a restore did not bring back what it should; nothing is kept.
    """
    from . import showing  # noqa: PLC0415 - rich and plotext, for the end

    result = measure(options, say=lambda line: print(line, file=sys.stderr, flush=True))
    if options.whole:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / result.file_name).write_text(results.dumps(result), encoding="utf-8")
    if as_json:
        sys.stdout.write(results.dumps(result))
    else:
        showing.show(result)
    if options.whole:
        print(f"Kept as benchmarks/results/{result.file_name}.", file=sys.stderr)


def measure(options: Options, *, say: Callable[[str], None]) -> results.Result:
    """Measure everything that was asked for, on a server that is gone afterwards.

    :param say: Gets a line whenever something has been done.
    """
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=_on_disk()))
    # The server's account passes through it.
    folder.chmod(0o711)
    server = None
    try:
        server = _launch(folder)
        described = machine.describe(folder, server.bin_dir)
        settings = machine.settings(server)
        say(f"PostgreSQL {described['PostgreSQL']} on {described['file system']}, {described['processor']}.")
        say(", ".join(f"{name} = {value}" for name, value in settings.items()))
        built: dict[str, results.Contents] = {}
        measured: list[results.Measured] = []
        for name in options.databases:
            if cases := _possible(commands.chosen(name, options.only), say):
                one = _Database(server, folder, databases.build(server, name, options.scale), say)
                built[name] = one.contents()
                measured += one.measure(cases, options.rounds)
        now = datetime.now(UTC).date().isoformat()
        return results.Result(
            now, options.scale, options.rounds, options.command, described, settings, built, tuple(measured)
        )
    finally:
        _end(server, folder, keep=options.keep, say=say)


def _possible(cases: tuple[Case, ...], say: Callable[[str], None]) -> tuple[Case, ...]:
    """Leave out the commands that can't be run here, and say so."""
    if any(each.throttled for each in cases):
        try:
            make_groups().remove()
        except OSError:
            say("Not measured, because control groups need Linux and root: the commands with a throttle.")
            cases = tuple(each for each in cases if not each.throttled)
    for each in cases:
        if each.program and shutil.which(each.program) is None:
            say(f"Not measured, because {each.program} is not installed: {each.command}")
    return tuple(each for each in cases if not each.program or shutil.which(each.program))


def _on_disk() -> Path:
    # Unlike /tmp it is never in memory, and the path to it is short enough for a socket.
    disk = Path("/var/tmp")  # noqa: S108 - a folder of our own is made there
    return disk if disk.is_dir() else Path(tempfile.gettempdir())


def _launch(folder: Path) -> Server:
    try:
        return Server.launch(MAJOR, provision(MAJOR), where=folder, configuration=CONFIGURATION)
    except ServerSetupError as error:
        raise MissingProgramError(f"{error} Nothing was measured.") from None


def _end(server: Server | None, folder: Path, *, keep: bool, say: Callable[[str], None]) -> None:
    if keep and server is not None and server.running:
        server.stop()
        # What follows the server's end removes its folder by the name that it had.
        server.root.rename(folder / "server")
        say(f"The working folder is kept: {folder}")
    if server is not None:
        server.close()
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Database:
    """The commands on one database.

    :ivar folder: Where everything lies.
    """

    server: Server
    folder: Path
    built: Built
    say: Callable[[str], None]

    def contents(self) -> results.Contents:
        found = results.Contents(len(self.built.shape.rows), self.built.total, self.built.bytes)
        self.say(f"{self.built.name}: {found.tables:,} tables, {found.rows:,} rows, {found.bytes / 1e6:,.0f} MB.")
        return found

    def measure(self, cases: tuple[Case, ...], rounds: int) -> Iterator[results.Measured]:
        """Measure every command once a round, each round beginning with another one."""
        self._prepare(cases)
        samples: dict[str, list[results.Sample]] = {case.slug: [] for case in cases}
        for number in range(rounds):
            first = number * len(cases) // rounds
            for case in cases[first:] + cases[:first]:
                for repeat in range(case.repeats):
                    samples[case.slug].append(self._sample(case, number + 1, settle=repeat == 0))
                last = samples[case.slug][-1].seconds
                self.say(f"  round {number + 1} of {rounds}: {last:7.2f} s  {case.shown}")
        for case in cases:
            yield results.Measured(
                database=self.built.name,
                kind=case.kind,
                slug=case.slug,
                shown=case.shown,
                ours=case.ours,
                reference=case.reference,
                compresses=case.compresses,
                samples=tuple(samples[case.slug]),
            )

    @property
    def _inputs(self) -> Path:
        return self.folder / "inputs" / self.built.name

    def _prepare(self, cases: tuple[Case, ...]) -> None:
        """Make the files that restores begin with, each by its own tool."""
        for name in sorted({name for case in cases for name in case.inputs}):
            folder = self._laid_out(())
            self._run(commands.INPUTS[name], folder, self.built.name)
            made = [*folder.glob("f.*"), *folder.glob("inserts.*"), *folder.glob("dumps/ours.*")]
            for path in made:
                (self._inputs / name / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
                path.rename(self._inputs / name / path.relative_to(folder))

    def _laid_out(self, inputs: tuple[str, ...]) -> Path:
        """Lay out the folder that a command runs in: a project of ours, and the files it begins with."""
        folder = self.folder / "run"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "dumps").mkdir(parents=True)
        (folder / "none").mkdir()
        (folder / "none" / "tasks.py").write_text("from invoke.collection import Collection\n\nns = Collection()\n")
        shutil.copy(REPOSITORY / "tasks.py", folder)
        (folder / "tasks").symlink_to(REPOSITORY / "tasks")
        for name in inputs:
            shutil.copytree(self._inputs / name, folder, dirs_exist_ok=True)
        return folder

    def _sample(self, case: Case, number: int, *, settle: bool) -> results.Sample:
        """Measure a command once, everything around it untimed."""
        folder = self._laid_out(case.inputs)
        if case.target:
            databases.create(self.server, TARGET, self.built.name if case.target == commands.FILLED else "template0")
            if case.before:
                self._run(case.before, folder, TARGET)
        if settle:
            # What came before is on disk, so that nobody pays for another's writes.
            with self.server.connect() as connection:
                connection.execute("CHECKPOINT")
            os.sync()
        before = self._wal()
        name = TARGET if case.target else self.built.name
        with Throttle(make_groups(), [self.server.pid]) if case.throttled else contextlib.nullcontext() as throttle:
            used = self._run(case.command, folder, name, status=case.status, throttle=throttle)
        wal = self._wal() - before
        if case.target and databases.shape(self.server, TARGET) != self.built.shape:
            raise OperationFailedError(f"After {case.shown} the database is not what it should be. Nothing is kept.")
        return results.Sample(round=number, wal=wal, **vars(used))

    def _run(
        self, command: str, folder: Path, database: str, *, status: int = 0, throttle: Throttle | None = None
    ) -> running.Used:
        ours = command.startswith("inv ")
        argv = command.split() if ours else ["bash", "-o", "pipefail", "-c", command]
        log = self.folder / "said"
        environment = self._environment(database)
        if throttle is not None:
            # Otherwise our dump sees that there are few, and reads all tables with one session.
            environment["PYTHON_CPU_COUNT"] = str(PROCESSORS)
        if not ours:
            # DSLR decodes no password in it, and does not read PGPASSWORD, but libpq reads this file.
            environment["DATABASE_URL"] = f"postgresql://{SUPERUSER}@127.0.0.1:{self.server.port}/{database}"
            environment["PGPASSFILE"] = str(self._password_file())
        return running.run(argv, cwd=folder, env=environment, log=log, status=status, throttle=throttle)

    def _environment(self, database: str) -> dict[str, str]:
        programs = [str(self.server.bin_dir), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
        return {
            "PATH": os.pathsep.join(programs),
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "DATABASE_URL": self.server.url(database),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.server.port),
            "PGUSER": SUPERUSER,
            "PGPASSWORD": PASSWORD,
            "PGDATABASE": database,
        }

    def _password_file(self) -> Path:
        file = self.folder / "pgpass"
        file.touch(mode=0o600)
        file.write_text(f"127.0.0.1:*:*:{SUPERUSER}:{PASSWORD}\n", encoding="utf-8")
        return file

    def _wal(self) -> int:
        with self.server.connect() as connection:
            row = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')").fetchone()
        return int(row[0]) if row else 0
