"""Load a dump with several sessions into a database that no other process uses and that is dropped after a failure.

The first session runs the dump's statements in their order, as :class:`.loader.Loader` does. Rows, indexes, keys and
foreign keys are run by other sessions, but only inside a stretch of statements whose form is pg_dump's (`stretches`).
Any other statement ends the stretch: it is run alone, after everything before it. The first session commits before a
stretch, so that the other sessions see its objects and wait for none of its locks.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import OperationFailedError
from ..postgres.protocol import StatementError
from .carried_settings import CarriedSettings
from .filters import changes_role, describe_statement
from .loader import Loader
from .row_counts import quote_table, show_key
from .row_load import RowLoad
from .stretches import Step, StepKind, copied_columns, is_transparent, read_step
from .table_facts import read_relation_facts, read_table_facts
from .workers import Task, apply_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from psycopg.abc import Buffer

    from ..dumpformat.lexer import Statement
    from ..dumpformat.statements import StatementKind
    from ..postgres.protocol import StatementStream
    from .table_facts import RelationFacts, TableFacts
    from .workers import SettingValues, WorkerPool

    Key = tuple[str, str]


BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE"
# Statements of the first session in one transaction: each may lock several relations.
_MOST_STATEMENTS = 200
# Statements that use no table, so that they run while other sessions load rows.
LARGE_OBJECT = "LARGE OBJECT"
_WITHOUT_TABLES = frozenset({"SETVAL", LARGE_OBJECT})
# Classes of errors that a statement does not cause: rollbacks, resources, locks, cancels, the system and bugs.
_OTHER_CAUSES = frozenset({"40", "53", "55", "57", "58", "XX"})
_FOREIGN_KEYS = frozenset({StepKind.FOREIGN_KEY, StepKind.WRITTEN_FOREIGN_KEY})


class Stretch(Enum):
    """The kind of statements that several sessions run at present."""

    NONE = auto()
    ROWS = auto()
    INDEXES = auto()
    FOREIGN_KEYS = auto()


@dataclass
class _Later:
    """A statement that the first session runs at the end of a stretch."""

    text: bytes
    action: StatementKind
    settings: SettingValues

    def prepare(self, index: bytes, written: bytes, stream: StatementStream) -> None:
        """Create the index of a key in another session; if the server refuses it, the key is added as it is written.

        The error, if there is one, is then that of the dump's own statement.
        """
        try:
            stream.run(index)
        except StatementError as error:
            if error.sqlstate[:2] in _OTHER_CAUSES:
                raise
            self.text = written


@dataclass
class _Pending:
    """The parts of the present stretch."""

    rows: list[tuple[Key, int, RowLoad]] = field(default_factory=list)
    tasks: list[tuple[int, Task]] = field(default_factory=list)
    later: list[_Later] = field(default_factory=list)


class ParallelLoader(Loader):
    """A loader whose first session is the caller's, with an open transaction, which it commits now and then.

    :param pool: The other sessions, which run parts of the load.
    :param spreads: Whether the rows of a large table may be spread, which changes their order.
    :param expected: The number of rows of each table in the dump, as far as it is known.
    :param show: Called with what the other sessions do, and how many parts of it are left.
    :param options: Those of :class:`.loader.Loader`.
    :ivar analyzed: The tables that were analyzed, each with its number of loaded rows then.
    """

    def __init__(
        self,
        *,
        pool: WorkerPool,
        spreads: bool,
        expected: Mapping[Key, int],
        show: Callable[[str, int], None],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._pool, self._spreads, self._expected, self._show = pool, spreads, expected, show
        self.analyzed: dict[Key, int] = {}
        self._carried = CarriedSettings(self.stream)
        self._stretch = Stretch.NONE
        self._pending = _Pending()
        self._load: RowLoad | None = None
        self._facts: dict[Key, TableFacts] | None = None
        self._relations: dict[Key, RelationFacts] = {}
        # Tables that the present transaction created.
        self._new: set[Key] = set()
        self._number = self._statements = self._descriptors = 0
        # Whether the present transaction contains statements, and rows; whether no other session may be used any more.
        self._uncommitted, self._wrote, self._alone = True, False, False

    # The statements

    def statement(self, event: Statement, kind: StatementKind) -> bool:
        """Send a statement, or leave it out; see :meth:`Loader.statement`."""
        self._number += 1
        if not is_transparent(event.text, kind):
            # It may change the transaction or the session in a way that other sessions would not see.
            self._end_stretch()
            self._alone = True
        elif changes_role(kind):
            self._end_stretch()
        self._release_locks()
        sent = super().statement(event, kind)
        self._carried.note(kind)
        return sent

    def rows_end(self) -> None:
        """Wait for all rows; see :meth:`Loader.rows_end`."""
        self._end_stretch()
        super().rows_end()

    def _remember(self, text: bytes, kind: StatementKind) -> None:
        super()._remember(text, kind)
        if kind.verb == "CREATE TABLE":
            self._new.add(self._locate((kind.schema, kind.name)))

    def _run(self, text: bytes, kind: StatementKind) -> None:
        if kind.verb in {"SET", "RESET"} and not kind.roles and kind.name != "role":
            super()._run(text, kind)
            return
        # A descriptor of a large object is lost at the end of a transaction.
        self._descriptors += {"lo_open": 1, "lo_close": -1}.get(kind.name, 0) if kind.verb == LARGE_OBJECT else 0
        if self._stretch is Stretch.ROWS and kind.verb in _WITHOUT_TABLES:
            super()._run(text, kind)
            self._uncommitted = True
            self._statements += 1
            return
        step = None if self._alone else read_step(text)
        if step is None or not self._join(step, text, kind):
            self._end_stretch()
            self._run_first(text, kind)

    def _run_first(self, text: bytes, kind: StatementKind) -> None:
        super()._run(text, kind)
        self._uncommitted, self._facts = True, None
        self._statements += 1

    def _insert(self, text: bytes, key: Key) -> None:
        self._end_stretch()
        self._uncommitted = self._wrote = True
        super()._insert(text, key)

    # Transactions of the first session

    def _publish(self) -> bool:
        """Commit what the first session has done.

        :return: Whether other sessions may be used now.
        """
        if self._alone or self._other_user or self._descriptors:
            return False
        self.stream.drain()
        if not self._pool.start():
            self._alone = True
            return False
        if self._wrote and self.stream.ask(b"SELECT FROM pg_catalog.pg_trigger WHERE tgdeferrable LIMIT 1"):
            # A deferred trigger must not run before the end of the dump.
            self._alone = True
            return False
        if self._uncommitted:
            if self.stream.run(b"COMMIT") != "COMMIT":
                raise OperationFailedError("the server rolled back instead of committing")
            self.stream.run(BEGIN)
            self._uncommitted = self._wrote = False
            self._statements = 0
            self._new.clear()
        return True

    def _release_locks(self) -> None:
        """Commit if the present transaction contains many statements."""
        if self._statements >= _MOST_STATEMENTS:
            self._publish()

    def _end_stretch(self) -> None:
        """Wait for the other sessions, and run what has to follow in the first one."""
        stretch, pending = self._stretch, self._pending
        self._stretch, self._pending = Stretch.NONE, _Pending()
        if stretch is Stretch.NONE:
            return
        if stretch is Stretch.FOREIGN_KEYS and not self._publish():
            for _, task in pending.tasks:
                task.run(self.stream)
            return
        # The largest tables first, so that the sessions end at about the same time.
        ordered = sorted(pending.tasks, key=lambda each: -each[0])
        self._pool.submit(task for _, task in ordered)
        if stretch is Stretch.FOREIGN_KEYS:
            self._pool.submit(self._analyses())
        what = {Stretch.ROWS: "loading rows", Stretch.INDEXES: "creating indexes"}.get(stretch, "checking foreign keys")
        self._pool.wait(partial(self._show, what))
        for key, rows, load in pending.rows:
            self._compare_rows(key, rows, load.rows.loaded)
        self._run_later(pending.later)

    def _analyses(self) -> list[Task]:
        """Return tasks that run ANALYZE, for the sessions that have no foreign key to check."""
        keys = [key for key in self.rows if key in self._relations and not self._relations[key].partitioned]
        keys.sort(key=lambda key: -self._relations[key].size)
        make = partial(self._task, text=b"", exclusive=True)
        return [make(partial(self._analyze, key), doing=f"ANALYZE {show_key(key)}", key=key) for key in keys]

    def _analyze(self, key: Key, stream: StatementStream) -> None:
        # A function of users may fail. The caller runs ANALYZE again for tables that are not in `analyzed`.
        with contextlib.suppress(StatementError):
            stream.run(stream.encoded(b"ANALYZE %s" % quote_table(key)))
            self.analyzed[key] = self.rows[key]

    def _run_later(self, later: list[_Later]) -> None:
        settings = present = self._carried.values()
        for each in later:
            if each.settings != settings:
                apply_settings(self.stream, each.settings)
                settings = each.settings
            self._run_first(each.text, each.action)
            self._release_locks()
        if settings != present:
            apply_settings(self.stream, present)

    def _task(
        self, run: Callable[[StatementStream], object], text: bytes, doing: str, key: Key, *, exclusive: bool
    ) -> Task:
        return Task(
            number=self._number,
            doing=doing,
            statement=text,
            settings=self._carried.values(),
            encoding=self.stream.encoding,
            run=run,
            table=key,
            exclusive=exclusive,
        )

    # Rows

    def _may_freeze(self, key: Key) -> bool:
        return super()._may_freeze(key) and key in self._new

    def _begin_copy(self, event: Statement, key: Key) -> None:
        key = self._locate(key)
        facts = self._facts_of(key)
        if facts is None or not (facts.independent and facts.filled <= (copied_columns(event) or facts.filled)):
            self._end_stretch()
            self._uncommitted = self._wrote = True
            super()._begin_copy(event, key)
            return
        spreads = self._spreads and not facts.indexed
        expected = self._expected.get(key, 0)
        self._load = RowLoad(self._pool, event.text, key, spreads=spreads, expected=expected)
        self._rows_task = partial(
            self._task, text=event.text, doing=f"loading {show_key(key)}", key=key, exclusive=False
        )
        self._pool.submit([self._rows_task(self._load.run_first)])
        self._open = key

    def _facts_of(self, key: Key) -> TableFacts | None:
        """Return the properties of a new, empty table; None if other sessions can't load its rows."""
        if self._alone or key not in self.created or key in self.rows:
            return None
        if self._stretch is not Stretch.ROWS:
            self._end_stretch()
            if not self._publish():
                return None
            if self._facts is None:
                self._facts = read_table_facts(self._pool.catalog)
            self._stretch = Stretch.ROWS
        return (self._facts or {}).get(key)

    def data(self, piece: Buffer) -> None:
        """Send some rows of the open COPY; see :meth:`Loader.data`."""
        if self._load is None:
            super().data(piece)
        elif self._load.put(piece):  # type: ignore[arg-type]
            more = [self._rows_task(self._load.run_more) for _ in range(self._pool.count - 1)]
            self._pool.submit(more)

    def end_of_data(self, rows: int) -> None:
        """End the open COPY; see :meth:`Loader.end_of_data`."""
        if self._load is None:
            super().end_of_data(rows)
            return
        assert self._open is not None  # noqa: S101 - the lexer ends only an open COPY
        self._load.rows.close()
        self._pending.rows.append((self._open, rows, self._load))
        self._add_rows(self._open, rows)
        self._filling = True
        self._open = self._load = None

    # Indexes, keys and foreign keys

    def _join(self, step: Step, text: bytes, kind: StatementKind) -> bool:
        """Add a statement to the present stretch, or begin one; return False if it has to be run alone."""
        if step.kind in _FOREIGN_KEYS:
            return self._begin(Stretch.FOREIGN_KEYS) and self._add_foreign_key(step, text, kind)
        if step.kind is not StepKind.AFTER_INDEXES:
            return self._begin(Stretch.INDEXES) and self._add_index(step, text, kind)
        if self._stretch is Stretch.INDEXES:
            self._add_later(text, kind)
        elif self._stretch is Stretch.FOREIGN_KEYS:
            self._run_first(text, kind)
        return self._stretch in {Stretch.INDEXES, Stretch.FOREIGN_KEYS}

    def _add_index(self, step: Step, text: bytes, kind: StatementKind) -> bool:
        facts = self._relations.get(step.table)
        if facts is None or facts.partitioned:
            self._add_later(text, kind)
        elif step.kind is StepKind.INDEX:
            self._add_task(step, lambda stream: stream.run(text), text, kind, exclusive=False)
        elif step.kind is StepKind.CONSTRAINT or (step.primary and facts.inherits):
            # With USING INDEX, the NOT NULL that the table inherits would become its own, from PostgreSQL 18 on.
            self._add_task(step, lambda stream: stream.run(text), text, kind, exclusive=True)
        else:
            later = self._add_later(step.then, kind)
            self._add_task(step, partial(later.prepare, step.first, text), text, kind, exclusive=False)
        return True

    def _add_foreign_key(self, step: Step, text: bytes, kind: StatementKind) -> bool:
        ends = [self._relations.get(key) for key in (step.table, step.other)]
        if step.kind is StepKind.FOREIGN_KEY and not any(facts is None or facts.partitioned for facts in ends):
            self._run_first(step.first, kind)
            self._add_task(step, lambda stream: stream.run(step.then), text, kind, exclusive=True)
        else:
            self._run_first(text, kind)
        return True

    def _add_later(self, text: bytes, kind: StatementKind) -> _Later:
        later = _Later(text=text, action=kind, settings=self._carried.values())
        self._pending.later.append(later)
        return later

    def _begin(self, stretch: Stretch) -> bool:
        if self._stretch is not stretch:
            self._end_stretch()
            if not self._publish():
                return False
            self._relations = read_relation_facts(self._pool.catalog)
            self._stretch = stretch
        return True

    def _add_task(
        self,
        step: Step,
        run: Callable[[StatementStream], object],
        text: bytes,
        kind: StatementKind,
        *,
        exclusive: bool,
    ) -> None:
        task = self._task(run, text, describe_statement(kind), step.table, exclusive=exclusive)
        self._pending.tasks.append((self._relations[step.table].size, task))
