"""Load a dump that PostgreSQL refuses to load, in the lenient way.

A refused statement is sent again with the search_path of the dumped database's sessions. CHECK constraints are added
after all rows are loaded. Constraints that the rows still violate are added as NOT VALID. An index, constraint, trigger
or materialized view that can't be created is left out: no rows of tables are lost. Each of these changes is reported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..dumpformat.lexer import CopyData, Statement, lex
from ..dumpformat.objects_without_rows import CHECKED, describe_object, objects_without_rows, split_name
from ..postgres.constraints import drop_checks
from ..postgres.protocol import StatementError
from ..postgres.search_path import SearchPaths
from .filters import describe_statement
from .loader import Loader
from .row_counts import quote_table_name, show_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from psycopg.abc import Buffer

    from ..dumpfiles.dump_file import DumpFile
    from ..dumpformat.statements import StatementKind
    from ..postgres.constraints import DroppedCheck


_SAVEPOINT = b"invoke_postgres_lenient"
# Classes of errors that the dump does not cause, unless a user's code raised them: transaction state, rollbacks such as
# deadlocks, resources, locks, cancels, the system and bugs.
_OTHER_CAUSES = frozenset({"25", "40", "53", "55", "57", "58", "72", "F0", "XX"})
# For example a materialized view that is not populated, or currval before nextval.
_NOT_READY = "55000"
# Objects that already exist.
_EXISTS = frozenset({"42P06", "42P07", "42710", "42723", "42701"})
# With a CONTEXT, code in the dump needs a grant that follows at the end; without one, the restoring role lacks a right.
_DENIED = "42501"
_UNDEFINED = frozenset({"42704", "42P01"})
# A violated CHECK, or NOT NULL of a domain.
_VIOLATED = frozenset({"23514", "23502"})
_DEFINES = ("CREATE", "REPLACE", "ALTER", "REFRESH")


@dataclass(frozen=True)
class Leniency:
    """A difference between the dump and the way in which an object was loaded.

    :ivar what: The object and the difference, for messages.
    :ivar objects: The names, as tuples of their parts, of objects that may now have another definition or be missing.
    """

    what: str
    objects: tuple[tuple[str, ...], ...] = ()

    def __str__(self) -> str:
        return self.what


def may_help(error: StatementError) -> bool:
    """Return whether the server may accept a refused statement in the lenient way."""
    state = error.sqlstate
    if error.raised or state == _NOT_READY:
        return True
    if state == _DENIED:
        return bool(error.context)
    return state[:2] not in _OTHER_CAUSES and state not in _EXISTS


@dataclass(frozen=True)
class _Ease:
    """The way in which rows are loaded.

    :ivar path: The number of the search path; 0 for that of the dump.
    :ivar unchecked: Load them without CHECK constraints.
    """

    path: int = 0
    unchecked: bool = False


@dataclass
class LenientLoader(Loader):
    """A loader that sends each statement of a dump in a savepoint, and again in a lenient way if it is refused.

    :ivar search_path: The schemas in which the dumped database's sessions look up names.
    :ivar eased: The differences from the dump.
    """

    dump: DumpFile | None = None
    search_path: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        # FREEZE needs a table that was created after the last savepoint.
        self._freezes = False
        self.eased: list[Leniency] = []
        self._number = 0
        self._copy: Statement | None = None
        self._unchecked: list[DroppedCheck] = []
        self._left = False
        self._paths = SearchPaths(self.stream, self.search_path)

    def statement(self, event: Statement, kind: StatementKind) -> bool:
        """Send a statement, or leave it out; see :meth:`Loader.statement`."""
        self._number += 1
        return super().statement(event, kind)

    def end_of_data(self, rows: int) -> None:
        """End the open COPY; if the server refuses its rows, send them again in the lenient way."""
        event, key = self._copy, self._open
        assert event is not None and key is not None  # noqa: S101, PT018 - the lexer ends only an open COPY
        first = True

        def copy() -> None:
            nonlocal first
            if not first:
                self.stream.copy(event.text)
                for piece in self._rows_again():
                    self.stream.data(piece)
            first = False
            super(LenientLoader, self).end_of_data(rows)

        self._load_rows(key, copy)

    def finish(self) -> None:
        """Add the dropped CHECK constraints again, then finish as :meth:`Loader.finish` does."""
        self.rows_end()
        for check in reversed(self._unchecked):
            self.stream.run(b"SET LOCAL search_path = ''")
            self.stream.run(b"SAVEPOINT %s" % _SAVEPOINT)
            kind, _, owner = check.owner.partition(b" ")
            of, own = split_name(owner), split_name(check.name)
            objects = (of if kind == b"DOMAIN" else of + own,)
            name = f"{'constraint' if own else 'NOT NULL of domain'} {'.'.join(of + own)}"
            try:
                self.stream.run(self.stream.encoded(check.statement))
                self.eased.append(Leniency(f"{name}: checked after all rows were loaded"))
            except StatementError as error:
                self._ease(check.statement, name, error, objects, constraint=bool(check.name))
            if check.comment:
                self._try_to(self.stream.encoded(check.comment_statement))
            self.stream.run(b"RELEASE SAVEPOINT %s" % _SAVEPOINT)
        self._unchecked.clear()
        super().finish()

    def _begin_copy(self, event: Statement, key: tuple[str, str]) -> None:
        self._count_existing(self._locate(key))
        self.stream.run(b"SAVEPOINT %s" % _SAVEPOINT)
        super()._begin_copy(event, key)
        self._copy = event

    def _fill(self, text: bytes, key: tuple[str, str], done: Callable[[str], None]) -> None:
        self.stream.run(b"SAVEPOINT %s" % _SAVEPOINT)
        self._load_rows(key, lambda: done(self.stream.run(text)))

    def _load_rows(self, key: tuple[str, str], load: Callable[[], None]) -> None:
        """Load rows after a savepoint, and again in more lenient ways if they are refused; then release it.

        :raises StatementError: The rows can't be loaded in any of the ways.
        """
        checks: list[DroppedCheck] = []
        ease, path = _Ease(), ""
        while True:
            try:
                load()
                break
            except StatementError as error:
                ease = self._more_lenient(ease, error)
            self.stream.run(b"ROLLBACK TO SAVEPOINT %s" % _SAVEPOINT)
            path = path or self._paths.show()
            paths = self._paths.candidates()
            if ease.unchecked:
                self.stream.run(b"SET LOCAL search_path = ''")
                checks = drop_checks(self.stream, quote_table_name(key))
            self._paths.set(paths[ease.path - 1] if ease.path else path)
        if ease != _Ease():
            self._unchecked += checks
            if ease.path:
                self._note_path(f"rows of {show_key(key)}", self._paths.show())
            self._paths.set(path)
        self.stream.run(b"RELEASE SAVEPOINT %s" % _SAVEPOINT)

    def _more_lenient(self, ease: _Ease, error: StatementError) -> _Ease:
        if may_help(error):
            if error.sqlstate in _VIOLATED and not ease.unchecked:
                return replace(ease, unchecked=True)
            if ease.path < 2:  # noqa: PLR2004 - the recorded search_path, and the same with all other schemas
                return replace(ease, path=ease.path + 1)
            if not ease.unchecked:
                return _Ease(path=1, unchecked=True)
        raise error

    def _rows_again(self) -> Iterator[Buffer]:
        """Read the rows of the open COPY again from the file."""
        assert self.dump is not None  # noqa: S101 - the caller sets it
        seen = 0
        with self.dump.open() as source:
            for event in lex(source.chunks()):
                if isinstance(event, Statement):
                    seen += 1
                    if seen > self._number:
                        return
                elif isinstance(event, CopyData) and seen == self._number:
                    yield event.text

    def _send(self, text: bytes, kind: StatementKind) -> None:
        follows = self._left and kind.verb.startswith("COMMENT")
        if not (kind.verb.startswith(_DEFINES) or follows) or kind.verb in {"CREATE SCHEMA", "CREATE EXTENSION"}:
            super()._send(text, kind)
            return
        self.stream.run(b"SAVEPOINT %s" % _SAVEPOINT)
        try:
            self.stream.run(text)
        except StatementError as error:
            objects = objects_without_rows(text, kind)
            name = describe_object(objects[0], kind) if objects else describe_statement(kind)
            self._ease(text, name, error, objects, constraint=bool(objects) and kind.name == CHECKED)
        self.stream.run(b"RELEASE SAVEPOINT %s" % _SAVEPOINT)

    def _ease(
        self,
        text: bytes,
        name: str,
        error: StatementError,
        objects: tuple[tuple[str, ...], ...],
        *,
        constraint: bool,
    ) -> None:
        """Send a refused statement again in more lenient ways, after the savepoint.

        :param objects: The objects that it creates, if they may be left out.
        :raises StatementError: The server refused it in all ways, and it can't be left out.
        """
        self.stream.run(b"ROLLBACK TO SAVEPOINT %s" % _SAVEPOINT)
        if self._left and error.sqlstate in _UNDEFINED and not objects:
            self.eased.append(Leniency(f"{name}: left out, because it needs an object that was left out"))
            return
        if not may_help(error):
            raise error
        path, paths = self._paths.show(), self._paths.candidates()
        invalid = text.rstrip()[:-1] + b" NOT VALID;" if constraint else b""
        for attempt, used in [(text, each) for each in paths] + [(invalid, each) for each in (path, *paths) if invalid]:
            self._paths.set(used)
            if self._try_to(attempt):
                if used != path:
                    self._note_path(name, used)
                if attempt == invalid:
                    why = f"{name}: added as NOT VALID, because the rows violate it ({error})"
                    self.eased.append(Leniency(why, objects))
                self._paths.set(path)
                return
        self._paths.set(path)
        if not objects:
            raise error
        self._left = True
        self.eased.append(Leniency(f"{name}: left out, because the server refused it ({error})", objects))

    def _note_path(self, name: str, path: str) -> None:
        self.eased.append(Leniency(f"{name}: loaded with search_path = {path}"))

    def _try_to(self, text: bytes) -> bool:
        """Send a statement, and return whether the server accepted it; roll back its savepoint if not."""
        self.stream.run(b"SAVEPOINT invoke_postgres_attempt")
        accepted = True
        try:
            self.stream.run(text)
        except StatementError as error:
            if not may_help(error) and error.sqlstate not in _UNDEFINED:
                raise
            self.stream.run(b"ROLLBACK TO SAVEPOINT invoke_postgres_attempt")
            accepted = False
        self.stream.run(b"RELEASE SAVEPOINT invoke_postgres_attempt")
        return accepted
