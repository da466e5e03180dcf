"""Send the statements and rows of a dump in the transaction of a restore, and verify the rows."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..dumpformat.touch_forms import is_partitioned
from ..errors import OperationFailedError
from ..postgres.protocol import StatementError, StatementStream
from .filters import OWN_SETTINGS, TABLESPACE, StatementFilter, changes_role, describe_statement
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
from .schema_grants import privileges_of_schema
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
# COPY starts its own phase of the protocol; an unknown statement may do so, too. These are never queued.
_ALONE = frozenset({"COPY", ""})
_INSERTED = re.compile(r"INSERT \d+ (\d+)")
_CREATE_TRANSFORM = re.compile(rb"\ACREATE\s+TRANSFORM\b")
_MAKES_RELATIONS = frozenset({"CREATE TABLE", "CREATE FOREIGN TABLE", "CREATE VIEW", "CREATE SEQUENCE"})
# "privilege not granted", "privilege not revoked"
_NOTHING_DONE = frozenset({"01007", "01006"})
# The server refuses COPY … FREEZE while a cursor is open. pg_dump writes none of these statements.
_MAY_OPEN_CURSORS = frozenset({"DECLARE", "DO", "CALL", "EXECUTE"})
# Deferred triggers may defer further triggers.
_PASSES = 50


@dataclass
class Loader:
    """A loader of a dump's statements and rows, in the open transaction of the caller.

    :ivar schemas: The existing schemas, which are kept.
    :ivar set_aside: Statements that restore the database's own default privileges.
    :ivar exact: Fail if a table does not contain the loaded rows, because a manifest lists them. Otherwise statements
        of the dump and triggers may change rows, as with psql.
    :ivar left_out: The number of statements that were left out, by reason.
    :ivar rows: The number of loaded rows of each table, by (schema, name).
    :ivar found: The number of rows of each table at the end; None if they can't be counted.
    :ivar created: The tables that were created and may contain rows.
    :ivar changed: The tables and sequences that do not contain what was loaded; set by :meth:`prove`.
    :ivar skipped_kinds: The kinds of which the role could not replace an object, which was left out.
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
        # The number of rows before the restore; None if they can't be counted.
        self._before: dict[tuple[str, str], int | None] = {}
        # The rows of statements that may have updated rows instead of inserting them.
        self._upserted: Counter[tuple[str, str]] = Counter()
        # The tables that unqualified names currently refer to.
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

    def statement(self, event: Statement, kind: StatementKind) -> bool:
        """Send a statement, or leave it out; a COPY remains open for its rows.

        :return: Whether it was sent.
        :raises OperationFailedError: The server refused it, or an INSERT before it.
        """
        if self._filling and kind.verb not in _DATA_VERBS:
            self.rows_end()
        omission = self._filter.omission(event.text, kind)
        if omission is not None:
            self.left_out[omission] += 1
            if kind.verb == "SET" and kind.name == TABLESPACE:
                # Otherwise the previous tablespace would remain in effect.
                self.stream.run(b"SET default_tablespace = ''")
            elif self._other_user and changes_role(kind):
                self._session.reset_role()
            return False
        if kind.verb not in {"COPY", "INSERT"}:
            self._located.clear()
            self._freezes = self._freezes and kind.verb not in _MAY_OPEN_CURSORS
        existed = self._exists(kind)
        if event.copies:
            self._begin_copy(event, (kind.schema, kind.name))
        elif kind.verb == "INSERT":
            self._insert(event.text, (kind.schema, kind.name))
        elif kind.verb == "GRANT ON SCHEMA" and kind.name in self._kept_schemas and not self._other_user:
            self._schema_grants.setdefault(kind.name, []).append((event.text, kind))
        else:
            self._restore_default_privileges(before=kind)
            if changes_role(kind) and kind.roles:
                # The other role may need the grants on the schema for its own grants.
                self._grant_on_schemas()
            self._run(event.text, kind)
            if kind.verb == "SELECT" and any(each.name in OWN_SETTINGS or not each.name for each in kind.settings):
                self._session.set_again()
        if not existed:
            self._remember(event.text, kind)
        return True

    def _exists(self, kind: StatementKind) -> bool:
        made = kind.conditional and kind.verb in _MAKES_RELATIONS
        return made and relation_exists(self.stream, (kind.schema, kind.name), b"to_regclass")

    def data(self, piece: Buffer) -> None:
        """Send some rows of the open COPY."""
        if self._open not in self._closed:
            self.stream.data(piece)

    def end_of_data(self, rows: int) -> None:
        """End the open COPY.

        :param rows: The number of its rows in the dump.
        :raises OperationFailedError: The server loaded another number of rows, and :attr:`exact` is set.
        """
        assert self._open is not None  # noqa: S101 - the lexer ends only an open COPY
        loaded = rows if self._open in self._closed else self.stream.end_of_data()
        if rows and self._open in self._closed:
            raise OperationFailedError(
                f"{show_key(self._open)} belongs to an extension, and {self.server.user} may not write the "
                f"{rows:,} rows that the dump contains for it"
            )
        self._compare_rows(self._open, rows, loaded)
        self._add_rows(self._open, rows)
        self._filling = True
        self._open = None

    def _compare_rows(self, key: tuple[str, str], rows: int, loaded: int) -> None:
        if self.exact and loaded != rows:
            raise OperationFailedError(f"{show_key(key)}: {loaded:,} rows were loaded, the dump has {rows:,}")

    def rows_end(self) -> None:
        """Wait for the last INSERT before the statements that follow the rows, such as CREATE INDEX."""
        self.stream.drain()
        self._filling = False

    def finish(self) -> None:
        """Set the default privileges and the grants on existing schemas, which must be last."""
        self.rows_end()
        if self._other_user:
            self._session.reset_role()
        self._restore_default_privileges()
        self._grant_on_schemas()

    def _grant_on_schemas(self) -> None:
        """Set the dump's grants on existing schemas.

        Grants that change nothing are rolled back, because they would change the order of grants in the next dump.
        """
        for schema, statements in self._schema_grants.items():
            before = privileges_of_schema(self.stream, schema)
            self.stream.run(b"SAVEPOINT invoke_postgres_schema")
            for text, kind in statements:
                self._run(text, kind)
            if privileges_of_schema(self.stream, schema) == before:
                self.stream.run(b"ROLLBACK TO SAVEPOINT invoke_postgres_schema")
            self.stream.run(b"RELEASE SAVEPOINT invoke_postgres_schema")
        self._schema_grants.clear()

    def prove(self, sequences: Mapping[tuple[str, str], tuple[int, bool]]) -> None:
        """Run deferred triggers, reset the session, and compare the rows of the tables and the sequences.

        Then make the transaction read-only: a trigger or cursor of the dump that would still run in COMMIT fails
        instead of changing data (PostgreSQL manual, SET TRANSACTION).

        :param sequences: The last value of each sequence that the dump sets, and whether it was used.
        :raises OperationFailedError: A table or a sequence does not contain what was loaded, and :attr:`exact` is set.
            Otherwise see :attr:`changed`.
        """
        self._run_deferred()
        self._session.reset_session()
        changed: list[Changed] = []
        before = {key: self._before.get(key, 0) for key in self.rows}
        expected = {key: self.rows[key] + rows for key, rows in before.items() if rows is not None}
        wrong, found = compare_row_counts(self.stream, expected, self._conditions)
        self.found = {**{key: None for key, rows in before.items() if rows is None}, **found}
        for key, (rows, counted) in sorted(wrong.items()):
            if counted is None or self.exact or not rows - self._upserted[key] <= counted <= rows:
                changed.append(Changed(key=key, expected=rows, found=counted))
        # Last, because planning the counts may call functions of an index, and a rollback does not undo setval.
        changed += compare_sequences(self.stream, sequences)
        if changed and self.exact:
            raise OperationFailedError(str(changed[0]))
        self.changed = tuple(changed)
        self.stream.run(b"SET TRANSACTION READ ONLY")

    def _run_deferred(self) -> None:
        """Run deferred triggers as COMMIT would, and close cursors, whose queries COMMIT would run to the end.

        Triggers may defer further triggers. Repeat until the server counts no further written rows.
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
        """Return the number of rows that this transaction wrote to each table; empty without deferrable triggers.

        The query uses no operator or function, because the search_path is still that of the dump.
        """
        if not self.stream.ask(b"SELECT FROM pg_catalog.pg_trigger WHERE tgdeferrable LIMIT 1"):
            return []
        return self.stream.ask(b"SELECT relid, n_tup_ins, n_tup_upd, n_tup_del FROM pg_catalog.pg_stat_xact_all_tables")

    def _notice(self, notice: errors.Diagnostic) -> None:
        self._warned = self._warned or notice.sqlstate in _NOTHING_DONE

    def _begin_copy(self, event: Statement, key: tuple[str, str]) -> None:
        key = self._locate(key)
        if self._may_freeze(key):
            self.stream.copy(event.text.rstrip()[:-1] + b" WITH (FREEZE);")
        else:
            self._count_existing(key)
            if key not in self._closed:
                self.stream.copy(event.text)
        self._open = key

    def _may_freeze(self, key: tuple[str, str]) -> bool:
        """Return whether the server allows FREEZE: it needs a table that this transaction created."""
        return key in self.created and self._freezes

    def _insert(self, text: bytes, key: tuple[str, str]) -> None:
        key = self._locate(key)
        self._count_existing(key)
        # The word may be part of a value; rows that count as upserts only allow fewer rows at the end.
        upserts = b"CONFLICT" in text or b"conflict" in text

        def inserted(tag: str) -> None:
            rows = int(found[1]) if (found := _INSERTED.match(tag)) else 0
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
        """Return the name with its schema, according to the search_path that the dump has set."""
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
        """Count the rows of an existing table before the first rows are loaded into it."""
        if key in self._before or key in self.created or key in self._temporary:
            return
        if key in self._parted:
            self._before[key] = 0
            return
        condition = extension_condition(self.stream, key)
        if condition is None:
            self._before[key] = count_rows(self.stream, {key: ""}).get(key)
            return
        # The table belongs to an extension: the dump contains the rows that meet the extension's condition.
        self._conditions[key] = condition
        if not is_writable(self.stream, key):
            # Dumps of a database with a superuser's extension (PostGIS) mostly have no rows for its tables.
            self._closed.add(key)
        elif self.clean:
            self.stream.run(self.stream.encoded(b"DELETE FROM ONLY %s %s" % (quote_table(key), condition.encode())))
        self._before[key] = count_rows(self.stream, {key: condition}).get(key)

    def _remember(self, text: bytes, kind: StatementKind) -> None:
        if kind.verb == "CREATE TABLE":
            (self._parted if is_partitioned(text) else self.created).add(self._locate((kind.schema, kind.name)))
        if kind.schema and kind.verb in _MAKES_RELATIONS:
            if not self._other_user:
                self._own.add((kind.schema, kind.name))
        elif changes_role(kind):
            self._other_user = bool(kind.roles)
        elif kind.verb == "CREATE SCHEMA":
            self.schemas.add(kind.name)
        if kind.verb == "CREATE VIEW":
            self._views.add((kind.schema, kind.name))

    def _restore_default_privileges(self, before: StatementKind | None = None) -> None:
        """Restore the database's default privileges, before those of the dump are added."""
        if before is None or before.verb == "DEFAULT PRIVILEGES":
            for statement in self.set_aside:
                self.stream.run(self.stream.encoded(statement))
            self.set_aside.clear()

    def _run(self, text: bytes, kind: StatementKind) -> None:
        if kind.verb == "RESET":
            self.stream.run(text)
            self._session.set_again("" if kind.name == "all" else kind.name)
        elif discards_all(text, kind):
            self._session.discard_all()
        elif (tolerance := self._filter.tolerance(text, kind, own=self._owns(kind))) is not None:
            self._try(text, tolerance)
        elif kind.verb == "CREATE TRANSFORM":
            self.stream.run(_CREATE_TRANSFORM.sub(rb"CREATE OR REPLACE TRANSFORM", text))
        else:
            self._send(text, kind)

    def _send(self, text: bytes, kind: StatementKind) -> None:
        if kind.verb in _ALONE:
            self.stream.run(text)
        else:
            self.stream.queue(text, describe_statement(kind))

    def _owns(self, kind: StatementKind) -> bool:
        """Return whether the role created the relation and still owns it, so that no owner or grant is refused.

        Then no savepoint is needed. With thousands of relations each savepoint takes longer than the one before,
        because at its end the server searches all relations of the transaction.
        """
        ours = (kind.schema, kind.name) in self._own
        if kind.verb == "OWNER" and ours and kind.roles != (self.server.user,):
            self._own.discard((kind.schema, kind.name))
            return False
        return ours

    def _try(self, text: bytes, tolerance: Tolerance) -> None:
        """Send a statement in a savepoint, so that a tolerated error does not end the transaction."""
        omission = tolerance.omission
        self.stream.run(b"SAVEPOINT invoke_postgres")
        self._warned = False
        try:
            self.stream.run(text)
            if self._warned:
                # For a GRANT or REVOKE that is not permitted, the server only warns, and changes nothing.
                if not tolerance.sqlstates:
                    raise OperationFailedError(f"{omission}, and --strict was given")
                self.left_out[omission] += 1
        except StatementError as error:
            if error.sqlstate not in tolerance.sqlstates:
                raise
            self.stream.run(b"ROLLBACK TO SAVEPOINT invoke_postgres")
            self.left_out[omission] += 1
            if tolerance.skipped_kind is not None:
                self.skipped_kinds.add(tolerance.skipped_kind.value)
        self.stream.run(b"RELEASE SAVEPOINT invoke_postgres")
