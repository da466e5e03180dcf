"""What is done with one random database, by us and by psql, and what has to come out the same."""

import difflib
import gzip
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from tasks.config.settings import Settings
from tasks.dump.dump import Dumped, make_dump
from tasks.dump.request import DumpRequest
from tasks.dumpformat.compression import Compression
from tasks.errors import BadInputError, TaskError
from tasks.progress import Silence
from tasks.restore.plan import RestorePlan, plan_restore
from tasks.restore.request import RestoreRequest
from tasks.restore.reset import plan_reset, reset_database
from tasks.restore.restore import restore_dump
from tasks.scratch.rehearse import rehearse_dump
from tasks.verify.verify import VerifyRequest, verify_database
from tests.databases.builder import quote
from tests.flows import plan_dump_undo, settings_of
from tests.support import Database, Databases, Project

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_SHOWN: Final = 40
_ENTRY: Final = re.compile(rb"\n--\n(?=-- (?:Name|Data for Name|TOC entry))")
_OF_SCHEMA: Final = re.compile(rb"-- Name: [^\n]*(?:\n[^\n]*)*?; Type: (?:SCHEMA|DEFAULT ACL);|-- Name: SCHEMA ")
_SCHEMAS: Final = (
    "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1"
)
DEPENDENTS: Final = """
SELECT 'PUBLICATION', pubname FROM pg_publication UNION ALL SELECT 'EVENT TRIGGER', evtname FROM pg_event_trigger
"""
Text = Sequence[bytes]


class Difference(Exception):  # noqa: N818 - it is what was found, and no error of ours
    """Something that is not as psql has it.

    :param step: What was done.
    :param detail: What differs, or what we said.
    """

    def __init__(self, step: str, detail: str) -> None:
        super().__init__(step, detail)
        self.step = step
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.step}: {self.detail}"


@dataclass(frozen=True)
class Judged:
    """What pg_dump and psql make of a database.

    :ivar copy: What psql has loaded; `text` its text.
    :ivar rewritten: Whether it has another text than its source; its own copy then has the same.
    """

    copy: Database
    text: Text
    rewritten: bool

    @property
    def schemas(self) -> list[str]:
        """The schemas that it has."""
        return schemas_of(self.copy)


def judge(databases: Databases, source: Database) -> Judged | None:
    """Carry a database over by pg_dump and psql.

    :return: None where it does not load, or where the copy of its copy has another text again.
    """
    text, copy = source.dump_text(), databases()
    try:
        copy.psql(text)
        copied = copy.dump_text()
        rewritten = entries(text) != entries(copied)
        if rewritten:
            again = databases()
            again.psql(copied)
            if entries(again.dump_text()) != entries(copied):
                return None
    except AssertionError:
        return None
    return Judged(copy, entries(copied), rewritten)


def entries(dump: bytes) -> Text:
    """Split a text of pg_dump into its entries, sorted: the order of two of one name follows from their numbers."""
    body = dump.rpartition(b"\n--\n-- PostgreSQL database dump complete\n")[0]
    assert body, "pg_dump ends each text in the same words"
    return sorted(entry.strip() for entry in _ENTRY.split(body))


def _without_schemas(dump: bytes) -> Text:
    """Split a text into its entries but those of schemas: a restore keeps their owners, comments and grants."""
    return [each for each in entries(dump) if not _OF_SCHEMA.match(each)]


def schemas_of(database: Database) -> list[str]:
    """Name the schemas of a database."""
    return [str(name) for (name,) in database.execute(_SCHEMAS)]


class Checks:
    """The checks of one database.

    :param other: Another random database, which it is restored over; None for none.
    :param drawn: What else is drawn.
    :param jobs: The sessions that load it into a private database; 0 for no such load.
    """

    def __init__(
        self,
        databases: Databases,
        project: Project,
        source: Database,
        judged: Judged,
        drawn: random.Random,
        jobs: int = 0,
    ) -> None:
        self._databases = databases
        self._project = project
        self._source = source
        self._judged = judged
        self._random = drawn
        self._jobs = jobs
        self._checksums = drawn.random() < 0.5
        self.done: Counter[str] = Counter()

    def run(self, other: Judged | None) -> None:
        """Do all of them.

        :param other: Another random database, which this one is restored over; None for none.
        :raises Difference: At the first one.
        """
        dumped = self._dump()
        self._load_by_psql(dumped)
        restored = self._restore_and_verify(dumped)
        if self._jobs:
            self._load_privately(dumped)
        self._rehearse(dumped, restored)
        self._reset_and_undo(restored)
        if other is not None:
            self._restore_over_and_undo(dumped, other)

    def _dump(self) -> Dumped:
        compression = self._random.choice(list(Compression))
        with self._step(f"dump ({compression.value})"):
            request = DumpRequest(compression=compression, checksums=self._checksums)
            dumped = make_dump(self._settings(self._source), request, Silence())
            assert dumped is not None
        return dumped

    def _load_by_psql(self, dumped: Dumped) -> None:
        database = self._databases()
        with self._step("psql loads our dump"):
            # pg_dump --clean makes some views first, to drop them: that fails where their schema is missing.
            database.psql(_plain(dumped), "--set=ON_ERROR_STOP=0")
        self._same("psql loads our dump", self._judged.text, database)

    def _restore_and_verify(self, dumped: Dumped) -> Database:
        database = self._databases()
        settings = self._settings(database)
        with self._step("restore into an empty database"):
            self._carry_out(plan_restore(settings, RestoreRequest(str(dumped.path), clean=True), Silence()))
        self._same("restore into an empty database", self._judged.text, database)
        with self._step("verify"):
            request = VerifyRequest(file=str(dumped.path), checksums=self._checksums)
            found = verify_database(settings, request, Silence())
        if found.differences:
            raise Difference("verify", "\n".join(map(str, found.differences)))
        return database

    def _load_privately(self, dumped: Dumped) -> None:
        database, step = self._databases(), f"load with {self._jobs} sessions"
        with self._step(step):
            request = RestoreRequest(str(dumped.path), clean=True, checksums=self._checksums)
            plan = plan_restore(replace(self._settings(database), jobs=self._jobs), request, Silence())
            # Neither may a statement be refused that one session can run.
            self._carry_out(replace(plan, private=True, lenient=False))
        self._same(step, self._judged.text, database)

    def _rehearse(self, dumped: Dumped, database: Database) -> None:
        with self._step("rehearse"):
            rehearsed = rehearse_dump(self._settings(database), str(dumped.path), Silence(), trust=True)
            assert rehearsed is not None
            rehearsed.restored.refuse_differences("rehearsed")

    def _reset_and_undo(self, database: Database) -> None:
        settings = self._settings(database)
        try:
            # The functions of event triggers lie in `ext`, where there is one.
            plan = plan_reset(settings, [name for name in schemas_of(database) if name != "ext"], Silence())
        except BadInputError:
            # Something outside depends on something inside, such as an event trigger on its function.
            self.done["reset refused"] += 1
            self._same("reset refused", self._judged.text, database)
            return
        with self._step("reset"):
            reset_database(plan, Silence())
        with self._step("undo of a reset"):
            self._carry_out(plan_dump_undo(settings, Silence(), trust=True))
        self._same("undo of a reset", self._judged.text, database)

    def _restore_over_and_undo(self, dumped: Dumped, other: Judged) -> None:
        """Restore over a clone of another database, whose other schemas are dropped before."""
        database = self._databases(template=other.copy)
        wanted, before = self._judged.schemas, other
        dropped = [("SCHEMA", name) for name in schemas_of(database) if name not in (*wanted, "ext", "public")]
        if self._random.random() < 0.7:
            # They depend on what the restore deletes, so that it is refused.
            dropped += [(str(kind), str(name)) for kind, name in database.execute(DEPENDENTS)]
        if dropped:
            database.execute("; ".join(f"DROP {kind} IF EXISTS {quote(name)} CASCADE" for kind, name in dropped))
            judged = judge(self._databases, database)
            if judged is None:
                return
            before = judged
        settings = self._settings(database)
        step = "restore over another database"
        try:
            plan = plan_restore(settings, RestoreRequest(str(dumped.path), clean=True, trust=True), Silence())
        except BadInputError:
            # As for a reset.
            self.done[f"{step} refused"] += 1
            self._same(f"{step} refused", before.text, database)
            return
        with self._step(step):
            self._carry_out(plan)
        ours, theirs = (_without_schemas(each.dump_text(schemas=wanted)) for each in (database, self._judged.copy))
        _compare(step, theirs, ours)
        if not plan.destroys:
            # Nothing was there to be deleted, so no safety dump was made.
            return
        with self._step("undo of a restore"):
            self._carry_out(plan_dump_undo(settings, Silence(), trust=True))
        self._same("undo of a restore", before.text, database)

    def _carry_out(self, plan: RestorePlan) -> None:
        restore_dump(plan, Silence()).refuse_differences("restored")

    def _settings(self, database: Database) -> Settings:
        return settings_of(self._project, database)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        try:
            yield
        except (TaskError, AssertionError) as error:
            raise Difference(name, f"{type(error).__name__}: {error}") from error
        except Difference:
            raise
        except Exception as error:
            # A traceback of ours is what this looks for, too.
            raise Difference(name, f"{type(error).__name__}: {error}") from error
        self.done[name] += 1

    def _same(self, step: str, expected: Text, database: Database) -> None:
        _compare(step, expected, entries(database.dump_text()))


def _compare(step: str, expected: Text, found: Text) -> None:
    if expected != found:
        theirs, ours = (b"\n--\n".join(each).decode(errors="replace").splitlines() for each in (expected, found))
        differing = [line[:200] for line in difflib.unified_diff(theirs, ours, "psql", "ours", lineterm="", n=2)]
        raise Difference(step, "\n".join(differing[:_SHOWN]))


def _plain(dumped: Dumped) -> bytes:
    """Read a dump's text with the libraries' own readers."""
    packed = dumped.path.read_bytes()
    form = Compression.of_name(dumped.path.name)
    if form is Compression.GZIP:
        return gzip.decompress(packed)
    return bytes(zstd.decompress(packed)) if form is Compression.ZSTD else packed
