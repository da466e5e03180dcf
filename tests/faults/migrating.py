"""Faults while Prisma's migrations run in the staging database of `db.restore --clean --migrate`."""

import contextlib
import hashlib
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.bulk import journal_like
from tests.faults import files
from tests.faults.files import Violation
from tests.faults.lane import NAME, SERVER, SIGNALS, SWAP, Aim, Ended, Lane, Outcome
from tests.journal import installed, lay_out, migration
from tests.support import Database

OPERATION: Final = "migrate"
PHASE: Final = "migrating"
VICTIMS: Final = {
    "us": tuple(SIGNALS),
    "session": tuple(each for each in SERVER if each.startswith("backend")),
    "server": tuple(each for each in SERVER if each.startswith("server")),
}
"""Who is killed, by kind."""

_SECONDS: Final = 60.0
# What has been applied in the dump and in the old database; then those that are to come, each with its sleep.
_BASE: Final = ("20260101000000_base", "SELECT 1;\n")
_MOOD: Final = """
ALTER TABLE public."Entry" ADD COLUMN mood text;
UPDATE public."Entry" SET mood = 'calm' WHERE id % 3 = 0;
SELECT pg_sleep({});
INSERT INTO public."Tag" SELECT i, 'tag ' || i FROM generate_series(1, 20) i;
"""
_PENDING: Final = (
    ("20260201000000_tag", 'CREATE TABLE public."Tag" (id int PRIMARY KEY, name text);\nSELECT pg_sleep({});\n'),
    ("20260202000000_mood", _MOOD),
    (
        "20260203000000_last",
        'DELETE FROM public."Tag" WHERE id > 10;\nSELECT pg_sleep({});\nDROP INDEX "User_email_key";\n',
    ),
)
MOMENTS: Final = ("Prisma starts", *(name for name, _ in _PENDING))
"""When a process is killed: while Prisma starts, or in a migration."""

# As Prisma creates it.
_HISTORY: Final = """
CREATE TABLE public._prisma_migrations (
    id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL, finished_at timestamptz,
    migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz,
    started_at timestamptz NOT NULL DEFAULT now(), applied_steps_count integer NOT NULL DEFAULT 0);
INSERT INTO public._prisma_migrations (id, checksum, finished_at, migration_name, applied_steps_count)
VALUES ('{name}', '{checksum}', now(), '{name}', 1);
"""
# Ids and times are others in each run.
_APPLIED: Final = (
    "SELECT migration_name, finished_at IS NOT NULL, rolled_back_at IS NULL, applied_steps_count, coalesce(logs, '')"
    "  FROM public._prisma_migrations ORDER BY 1"
)
_ASLEEP: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND starts_with(datname, %s)"
    "   AND strpos(query, %s) > 0"
)


def sleep_of(name: str, seconds: float) -> str:
    """Return the argument of a migration's pg_sleep, by which its session is found."""
    return f"{seconds} /* {name} */"


class MigratingLane(Lane):
    """A project with the real Prisma, three pending migrations, and a dump from before them.

    :ivar seconds: How long each migration sleeps.
    """

    seconds: float = 0.4
    _moment: str = MOMENTS[0]

    @classmethod
    @contextlib.contextmanager
    def open(cls, root: Path, seed: object, operations: tuple[str, ...] = ()) -> Iterator["MigratingLane"]:
        """Start a server, and make the databases and the dump."""
        root.mkdir(exist_ok=True)
        with super().open(root, f"{seed} {OPERATION}", operations) as lane:
            assert isinstance(lane, cls)
            yield lane

    def kill(self, kind: str, seed: object) -> Outcome | None:
        """Kill a process of a kind at a moment of the migrations, and check every promise.

        :return: As :meth:`fault`; the phase is the moment.
        """
        chance = random.Random(f"{seed}")
        return self.kill_at(chance.choice(VICTIMS[kind]), chance.choice(MOMENTS))

    def kill_at(self, victim: str, moment: str) -> Outcome | None:
        """Kill one of the victims at one of the moments; else as :meth:`kill`."""
        self._moment = moment
        found = self.fault(OPERATION, victim, Aim(PHASE, 1, 0.0))
        return None if found is None else replace(found, phase=self._moment)

    def content(self) -> str:
        """Sum up definitions and rows, and which migrations are applied."""
        text = self.database.dump_text("--exclude-table-data=public._prisma_migrations")
        return hashlib.sha256(text + repr(self.database.execute(_APPLIED)).encode()).hexdigest()

    def _harm(self, victim: str, pid: int, *, stands_still: bool) -> bool:
        """Wait for the moment first."""
        time.sleep(self.chance.random() * 0.5 if self._moment == MOMENTS[0] else 0)
        deadline = time.monotonic() + _SECONDS
        while self._moment != MOMENTS[0] and not self._asleep():
            if time.monotonic() > deadline or not Path(f"/proc/{pid}").exists():
                return False
            time.sleep(0.01)
        return super()._harm(victim, pid, stands_still=stands_still)

    def _asleep(self) -> bool:
        with self.server.connect() as connection:
            row = connection.execute(_ASLEEP, [f"{NAME}__staging_", sleep_of(self._moment, self.seconds)]).fetchone()
        return row == (1,)

    def _judge(self, operation: str, victim: str, ended: Ended, before: set[str]) -> str:
        state = super()._judge(operation, victim, ended, before)
        assert self._stable is not None
        if ended.code != -SIGNALS["us: SIGKILL"] and (left := _below(self.project.root, {self._stable.pid})):
            raise Violation(f"programs of ours run on: {left}")
        return state

    def _again(self, operation: str, state: str) -> None:  # noqa: ARG002 - the next run does the same after either
        """Restore once more, without migrations, which would take their time: it works, and sweeps what lies about."""
        ended = self.run(*SWAP, operation="swap")
        self.drain()
        if ended.code != 0 or self.content() != self.states[operation]["restored"]:
            raise Violation(f"the next run ended in {ended.code}: {ended.said}")
        self._refuse_leftovers()
        self._holds = ""

    def _prepare(self, operations: tuple[str, ...]) -> None:  # noqa: ARG002 - this one only
        lay_out(self.project, installed())
        for folder in (self.project.root / "prisma" / "migrations").glob("2*"):
            (folder / "migration.sql").unlink()
            folder.rmdir()
        script = migration(self.project, *_BASE).read_bytes()
        history = _HISTORY.format(name=_BASE[0], checksum=hashlib.sha256(script).hexdigest())
        newer, older = Database(self.server, "newer"), Database(self.server, "older")
        for database, rows in ((newer, 300), (older, 200)):
            self._clone(database.name, "template1")
            journal_like(database, rows)
            database.execute(history)
        older.execute("CREATE TABLE public.leftover AS SELECT 1 AS id")
        self._inv(newer, "db.dump", "--gzip")
        self._keep(OPERATION)
        files.claim(self.root / "before" / OPERATION, NAME)
        for name, text in _PENDING:
            migration(self.project, name, text.format(sleep_of(name, self.seconds)))
        self.project.use(self.database)
        self.states[OPERATION] = {
            state: self._content_of(template, applied)
            for state, template, applied in (("old", older, 0), ("restored", newer, 0), ("new", newer, len(_PENDING)))
        }

    def _content_of(self, template: Database, applied: int) -> str:
        """Sum up a database after some migrations, which nothing of ours has applied."""
        self._clone(NAME, template.name)
        for name, text in _PENDING[:applied]:
            self.database.execute(text.format(0))
            self.database.execute(
                "INSERT INTO public._prisma_migrations (id, checksum, finished_at, migration_name, applied_steps_count)"
                f" VALUES ('{name}', '', now(), '{name}', 1)"
            )
        return self.content()


def _below(folder: Path, without: set[int]) -> list[int]:
    """Return the processes whose working directory is a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (path / "cwd").resolve() == folder.resolve():
                found.append(int(path.name))
    return sorted(set(found) - without)
