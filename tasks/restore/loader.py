"""The one transaction that a restore is: what is sent, what is left out, and how it proves itself."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..dumpformat.touch_forms import is_partitioned
from ..errors import OperationFailedError
from ..postgres.protocol import StatementError, StatementStream
from .clear import privileges_of_schema
from .filters import OUR_SETTINGS, TABLESPACE, StatementFilter, changes_role
from .row_counts import (
    Changed,
    compare_row_counts,
    compare_sequences,
    count_rows,
    extension_condition,
    is_writable,
    locate_relations,
    quote_table,
    relation_exists,
    show_key,
)
from .session_settings import SessionSettings, discards_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from psycopg import errors
    from psycopg.abc import Buffer

    from ..dumpformat.lexer import Statement
    from ..dumpformat.statements import StatementKind
    from ..postgres.connection import Connection, ServerFacts
    from .filters import Omission, RestoreRules, Tolerance


_DATA_VERBS = frozenset({"COPY", "INSERT", "SETVAL", "LARGE OBJECT", "SET", "RESET", "SELECT", "TRANSACTION"})
# A COPY from or to the server itself may speak the protocol's other half; these are never queued.
_ALONE = frozenset({"COPY", ""})
_INSERTED = re.compile(r"INSERT \d+ (\d+)")
_CREATE_TRANSFORM = re.compile(rb"\ACREATE\s+TRANSFORM\b")
_MAKES_RELATIONS = frozenset({"CREATE TABLE", "CREATE FOREIGN TABLE", "CREATE VIEW", "CREATE SEQUENCE"})
# "privilege not granted", "privilege not revoked"
_NOTHING_DONE = frozenset({"01007", "01006"})
# They may open a cursor, and COPY … FREEZE is refused while one is open. pg_dump writes none of them.
_MAY_OPEN_CURSORS = frozenset({"DECLARE", "DO", "CALL", "EXECUTE"})
# Triggers may be put off again by the triggers that were put off.
_PASSES = 50


@dataclass
class Loader:
    """Sends a dump's statements and rows, in the transaction that the caller opened.

    :ivar schemas: Those that exist; they stay.
    :ivar set_aside: Statements that bring the target's own default privileges back.
    :ivar exact: Whether a table must hold what was loaded, as a manifest says so. Otherwise the dump's own statements,
        and triggers, may change rows, as they do for psql.
    :ivar left_out: What was left out, counted by reason.
    :ivar rows: Rows that went in, by (schema, name).
    :ivar found: How many rows the tables hold at the end; None where they can't be counted.
    :ivar created: The tables that it made and that may hold rows.
    :ivar changed: What does not hold what was loaded; found by :meth:`prove`.
    :ivar skipped_kinds: Kinds of objects of which something is not ours to replace, and was left out.
    """

    connection: Connection
    server: ServerFacts
    rules: RestoreRules
    schemas: set[str]
    set_aside: list[bytes] = field(default_factory=list)
    clean: bool = False
    exact: bool = False
    left_out: Counter[Omission] = field(default_factory=Counter)
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    found: dict[tuple[str, str], int | None] = field(default_factory=dict)
    changed: tuple[Changed, ...] = ()

    def __post_init__(self) -> None:
        self.stream = StatementStream(self.connection)
        self._session = SessionSettings(self.connection, self.stream, superuser=self.server.superuser)
        self._warned = self._other_user = False
        self.connection.add_notice_handler(self._notice)
        self.created: set[tuple[str, str]] = set()
        self._parted: set[tuple[str, str]] = set()
        self._views: set[tuple[str, str]] = set()
        self._own: set[tuple[str, str]] = set()
        # Rows that were there before, None where they can't be counted.
        self._before: dict[tuple[str, str], int | None] = {}
        # Rows of statements that may have updated rows instead of adding some.
        self._upserted: Counter[tuple[str, str]] = Counter()
        # Where unqualified names lead at the moment.
        self._located: dict[str, tuple[str, str]] = {}
        self._temporary: set[tuple[str, str]] = set()
        self._conditions: dict[tuple[str, str], str] = {}
        self._closed: set[tuple[str, str]] = set()
        self._freezes, self._filling = True, False
        self._open: tuple[str, str] | None = None
        self._schema_grants: dict[str, list[tuple[bytes, StatementKind]]] = {}
        self._kept_schemas = frozenset(self.schemas)
        self.skipped_kinds: set[str] = set()
        self._filter = StatementFilter(
            stream=self.stream, server=self.server, rules=self.rules, schemas=self.schemas, views=self._views
        )

    def statement(self, event: Statement, action: StatementKind) -> bool:
        """Send one statement, or leave it out; a COPY is left open for its rows.

        :return: Whether it was sent.
        :raises OperationFailedError: The server refused it, or an INSERT before it.
        """
        if self._filling and action.verb not in _DATA_VERBS:
            self.rows_end()
        omission = self._filter.omission(event.text, action)
        if omission is not None:
            self.left_out[omission] += 1
            if action.verb == "SET" and action.name == TABLESPACE:
                # Else the one before would hold on.
                self.stream.run(b"SET default_tablespace = ''")
            elif self._other_user and changes_role(action):
                self._session.reset_role()
            return False
        if action.verb not in {"COPY", "INSERT"}:
            self._located.clear()
            self._freezes = self._freezes and action.verb not in _MAY_OPEN_CURSORS
        existed = self._exists(action)
        if event.copies:
            self._begin_copy(event, (action.schema, action.name))
        elif action.verb == "INSERT":
            self._insert(event.text, (action.schema, action.name))
        elif action.verb == "GRANT ON SCHEMA" and action.name in self._kept_schemas and not self._other_user:
            self._schema_grants.setdefault(action.name, []).append((event.text, action))
        else:
            self._restore_default_privileges(before=action)
            if changes_role(action) and action.roles:
                # Somebody else may need the schema's grants to reach what they grant on.
                self._grant_on_schemas()
            self._run(event.text, action)
            if action.verb == "SELECT" and any(each.name in OUR_SETTINGS or not each.name for each in action.settings):
                self._session.set_again()
        if not existed:
            self._remember(event.text, action)
        return True

    def _exists(self, action: StatementKind) -> bool:
        made = action.conditional and action.verb in _MAKES_RELATIONS
        return made and relation_exists(self.stream, (action.schema, action.name), b"to_regclass")

    def data(self, piece: Buffer) -> None:
        """Send a piece of the open COPY's rows."""
        if self._open not in self._closed:
            self.stream.data(piece)

    def end_of_data(self, rows: int) -> None:
        """End the open COPY.

        :param rows: How many rows the dump holds for it.
        :raises OperationFailedError: The server took another number of rows, and a manifest says how many there are.
        """
        assert self._open is not None  # noqa: S101 - the lexer ends only what it began
        taken = rows if self._open in self._closed else self.stream.end_of_data()
        if rows and self._open in self._closed:
            raise OperationFailedError(
                f"{show_key(self._open)} belongs to an extension, and {self.server.user} may not write the "
                f"{rows:,} rows that the dump holds of it"
            )
        if taken != rows and self.exact:
            raise OperationFailedError(f"{show_key(self._open)} took {taken:,} rows where the dump holds {rows:,}")
        self._add_rows(self._open, rows)
        self._filling = True
        self._open = None

    def rows_end(self) -> None:
        """Wait for the last INSERT before what follows the rows, such as indexes."""
        self.stream.drain()
        self._filling = False

    def finish(self) -> None:
        """Do what waits for the end: grants on schemas that stay, and default privileges."""
        self.rows_end()
        if self._other_user:
            self._session.reset_role()
        self._restore_default_privileges()
        self._grant_on_schemas()

    def _grant_on_schemas(self) -> None:
        """Set what the dump grants on schemas that stay.

        Grants that change nothing are undone, as they would change the order in which the next dump shows them.
        """
        for schema, statements in self._schema_grants.items():
            before = privileges_of_schema(self.stream, schema)
            self.stream.run(b"SAVEPOINT invoke_postgres_schema")
            for text, action in statements:
                self._run(text, action)
            if privileges_of_schema(self.stream, schema) == before:
                self.stream.run(b"ROLLBACK TO SAVEPOINT invoke_postgres_schema")
            self.stream.run(b"RELEASE SAVEPOINT invoke_postgres_schema")
        self._schema_grants.clear()

    def prove(self, sequences: Mapping[tuple[str, str], tuple[int, bool]]) -> None:
        """Let all that the dump put off run, make the session ours again, and count what the tables hold.

        From here to the end the transaction is read-only: a trigger or cursor of the dump that would still run in
        COMMIT can change nothing any more, but fails (PostgreSQL manual, SET TRANSACTION).

        :param sequences: Last value of each sequence that the dump sets, and whether it was used.
        :raises OperationFailedError: A table holds another number of rows than went in, or a sequence is another, and
            a manifest says what they are. Otherwise see :attr:`changed`.
        """
        self._run_deferred()
        self._session.reset_session()
        changed: list[Changed] = []
        before = {key: self._before.get(key, 0) for key in self.rows}
        expected = {key: self.rows[key] + rows for key, rows in before.items() if rows is not None}
        wrong, found = compare_row_counts(self.stream, expected, self._conditions)
        self.found = {**{key: None for key, rows in before.items() if rows is None}, **found}
        for key, (want, have) in sorted(wrong.items()):
            if have is None or self.exact or not want - self._upserted[key] <= have <= want:
                changed.append(Changed(key=key, expected=want, found=have))
        # Last, as planning the counts may call functions of an index, and no rollback takes setval back.
        changed += compare_sequences(self.stream, sequences)
        if changed and self.exact:
            raise OperationFailedError(str(changed[0]))
        self.changed = tuple(changed)
        self.stream.run(b"SET TRANSACTION READ ONLY")

    def _run_deferred(self) -> None:
        """Run deferred triggers as COMMIT would, and close cursors, whose queries COMMIT would run to their end.

        What runs may put off more. While it does, it writes rows, which the server counts.
        """
        self.stream.run(b"CLOSE ALL")
        written = self._written()
        for _ in range(_PASSES):
            self.stream.run(b"SET CONSTRAINTS ALL IMMEDIATE")
            self.stream.run(b"CLOSE ALL")
            before, written = written, self._written()
            if written == before:
                break

    def _written(self) -> list[list[bytes | None]]:
        """Return how many rows this transaction wrote to each table; nothing where no trigger can be deferred.

        Without an operator or function: the search path is still the dump's.
        """
        if not self.stream.ask(b"SELECT FROM pg_catalog.pg_trigger WHERE tgdeferrable LIMIT 1"):
            return []
        return self.stream.ask(b"SELECT relid, n_tup_ins, n_tup_upd, n_tup_del FROM pg_catalog.pg_stat_xact_all_tables")

    def _notice(self, notice: errors.Diagnostic) -> None:
        self._warned = self._warned or notice.sqlstate in _NOTHING_DONE

    def _begin_copy(self, event: Statement, key: tuple[str, str]) -> None:
        key = self._locate(key)
        if key in self.created and self._freezes:
            # Rows of a table that this transaction made need no later rewrite to be seen by all.
            self.stream.copy(event.text.rstrip()[:-1] + b" WITH (FREEZE);")
        else:
            self._count_existing(key)
            if key not in self._closed:
                self.stream.copy(event.text)
        self._open = key

    def _insert(self, text: bytes, key: tuple[str, str]) -> None:
        key = self._locate(key)
        self._count_existing(key)
        # It may be a word of a value: then fewer rows are taken for an update, and the number is still the true one.
        upserts = b"CONFLICT" in text or b"conflict" in text

        def inserted(tag: str) -> None:
            found = _INSERTED.match(tag)
            rows = int(found[1]) if found else 0
            self._add_rows(key, rows)
            if upserts:
                self._upserted[key] += rows

        self._fill(text, key, inserted)
        self._filling = True

    def _fill(self, text: bytes, key: tuple[str, str], done: Callable[[str], None]) -> None:
        self.stream.queue(text, f"INSERT {show_key(key)}", done)

    def _add_rows(self, key: tuple[str, str], rows: int) -> None:
        if key not in self._temporary:
            self.rows[key] += rows

    def _locate(self, key: tuple[str, str]) -> tuple[str, str]:
        """Find the schema of an unqualified name while the dump's search path is in force."""
        schema, name = key
        if schema.startswith("pg_temp"):
            self._temporary.add(key)
        if schema:
            return key
        if name not in self._located:
            self._located[name], temporary = locate_relations(self.stream, key)
            if temporary:
                self._temporary.add(self._located[name])
        return self._located[name]

    def _count_existing(self, key: tuple[str, str]) -> None:
        """Look at a table that was here before, the first time that rows go into it."""
        if key in self._before or key in self.created or key in self._temporary:
            return
        if key in self._parted:
            self._before[key] = 0
            return
        condition = extension_condition(self.stream, key)
        if condition is None:
            self._before[key] = count_rows(self.stream, {key: ""}).get(key)
            return
        # The dump holds the rows that people added to an extension's own table, under the extension's condition.
        self._conditions[key] = condition
        if not is_writable(self.stream, key):
            # Of a superuser's extension (PostGIS) a plain owner's dump mostly holds no rows, and needs no right.
            self._closed.add(key)
        elif self.clean:
            self.stream.run(self.stream.encoded(b"DELETE FROM ONLY %s %s" % (quote_table(key), condition.encode())))
        self._before[key] = count_rows(self.stream, {key: condition}).get(key)

    def _remember(self, text: bytes, action: StatementKind) -> None:
        if action.verb == "CREATE TABLE":
            (self._parted if is_partitioned(text) else self.created).add(self._locate((action.schema, action.name)))
        if action.schema and action.verb in _MAKES_RELATIONS:
            if not self._other_user:
                self._own.add((action.schema, action.name))
        elif changes_role(action):
            self._other_user = bool(action.roles)
        elif action.verb == "CREATE SCHEMA":
            self.schemas.add(action.name)
        if action.verb == "CREATE VIEW":
            self._views.add((action.schema, action.name))

    def _restore_default_privileges(self, before: StatementKind | None = None) -> None:
        """Give the target its default privileges back, before the dump's own are added to them."""
        if before is None or before.verb == "DEFAULT PRIVILEGES":
            for statement in self.set_aside:
                self.stream.run(self.stream.encoded(statement))
            self.set_aside.clear()

    def _run(self, text: bytes, action: StatementKind) -> None:
        if action.verb == "RESET":
            self.stream.run(text)
            self._session.set_again("" if action.name == "all" else action.name)
        elif discards_all(text, action):
            self._session.discard_all()
        elif (tolerance := self._filter.tolerance(text, action, own=self._owns(action))) is not None:
            self._try(text, tolerance)
        elif action.verb == "CREATE TRANSFORM":
            self.stream.run(_CREATE_TRANSFORM.sub(rb"CREATE OR REPLACE TRANSFORM", text))
        else:
            self._send(text, action)

    def _send(self, text: bytes, action: StatementKind) -> None:
        if action.verb in _ALONE:
            self.stream.run(text)
        else:
            self.stream.queue(text, describe_statement(action))

    def _owns(self, action: StatementKind) -> bool:
        """Whether an owner or a grant can't be refused, as the relation was made by us and is still ours.

        Of thousands of relations each savepoint takes longer than the one before: at its end the server looks through
        all that the transaction knows.
        """
        ours = (action.schema, action.name) in self._own
        if action.verb == "OWNER" and ours and action.roles != (self.server.user,):
            self._own.discard((action.schema, action.name))
            return False
        return ours

    def _try(self, text: bytes, tolerance: Tolerance) -> None:
        """Send what may be refused, so that a tolerated refusal does not end the transaction."""
        omission = tolerance.omission
        self.stream.run(b"SAVEPOINT invoke_postgres")
        self._warned = False
        try:
            self.stream.run(text)
            if self._warned:
                # A GRANT or REVOKE without the right to it is but a warning, and nothing has changed.
                if not tolerance.sqlstates:
                    raise OperationFailedError(f"{omission}, and --strict was asked for")
                self.left_out[omission] += 1
        except StatementError as error:
            if error.sqlstate not in tolerance.sqlstates:
                raise
            self.stream.run(b"ROLLBACK TO SAVEPOINT invoke_postgres")
            self.left_out[omission] += 1
            if tolerance.skipped_kind is not None:
                self.skipped_kinds.add(tolerance.skipped_kind.value)
        self.stream.run(b"RELEASE SAVEPOINT invoke_postgres")


def describe_statement(action: StatementKind) -> str:
    """Say what a statement does, for progress and errors."""
    return f"{action.verb} {show_key((action.schema, action.name))}".strip()
