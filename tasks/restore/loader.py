"""The one transaction that a restore is: what is sent, what is left out, and how it proves itself."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from psycopg import sql

from ..dumpformat.statements import StatementKind, parse_default_tablespace
from ..dumpformat.tokens import TokenReader, split_qualified
from ..errors import WorkError
from ..postgres.connection import session_role
from ..postgres.protocol import StatementError, StatementStream
from ..postgres.session_settings import INPUT, TIMEOUTS
from ..system.runtime import Interruption
from .clear import privileges_of_schema
from .row_counts import (
    compare_row_counts,
    count_rows,
    extension_condition,
    is_writable,
    locate_relations,
    quote_literal,
    quote_table,
    read_sequence_values,
    relation_exists,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import errors
    from psycopg.abc import Buffer

    from ..dumpformat.lexer import Statement
    from ..postgres.connection import Connection, ServerFacts


_SET_WORDS = frozenset({"time", "names", "schema", "xml", "seed"})
# Ours are set for the whole session; the header of a dump would reset them.
OUR_SETTINGS = frozenset(
    {"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"}
    | {"idle_session_timeout", "client_min_messages"}
)
# Why they are left out, of every dump.
OWN_SETTINGS = "settings of timeouts and messages (the restore has its own)"
_DATA_VERBS = frozenset({"COPY", "INSERT", "SETVAL", "LARGE OBJECT", "SET", "RESET", "SELECT", "TRANSACTION"})
# A COPY from or to the server itself may speak the protocol's other half; these are never queued.
_ALONE = frozenset({"COPY", ""})
_ACL_VERBS = frozenset({"GRANT", "GRANT ON SCHEMA", "DEFAULT PRIVILEGES"})
_INSERTED = re.compile(r"INSERT \d+ (\d+)")
_PLACEHOLDER = re.compile(rb"\bAS\s+SELECT(\s+NULL::|\s*;)")
_CREATE_TRANSFORM = re.compile(rb"\ACREATE\s+TRANSFORM\b")
_MAKES_RELATIONS = frozenset({"CREATE TABLE", "CREATE FOREIGN TABLE", "CREATE VIEW", "CREATE SEQUENCE"})
# "privilege not granted", "privilege not revoked"
_NOTHING_DONE = frozenset({"01007", "01006"})
_DENIED = frozenset({"42501"})
# "security label provider … is not loaded", and that none is.
_NO_PROVIDER = frozenset({"22023"})
# Not ours, not there, there already.
_ANOTHERS = _DENIED | {"42704", "42710"}
_OF_NO_SCHEMA = re.compile(rb"(?:CREATE|ALTER|DROP|COMMENT\s+ON)\s+(PUBLICATION|EVENT\s+TRIGGER|SUBSCRIPTION)\b")
_TABLESPACE = "default_tablespace"
# They may open a cursor, and COPY … FREEZE is refused while one is open. pg_dump writes none of them.
_MAY_OPEN_CURSORS = frozenset({"DECLARE", "DO", "CALL", "EXECUTE"})
# What is ours of a session, whatever the dump sets or resets.
_OURS = frozenset({*TIMEOUTS, "lock_timeout", *INPUT})
# What DISCARD ALL does (PostgreSQL manual, DISCARD); it may not stand in a transaction itself.
_DISCARD_ALL = (
    b"CLOSE ALL",
    b"SET SESSION AUTHORIZATION DEFAULT",
    b"RESET ALL",
    b"DEALLOCATE ALL",
    b"UNLISTEN *",
    b"DISCARD TEMP",
    b"DISCARD SEQUENCES",
)
# Triggers may be put off again by the triggers that were put off.
_PASSES = 50
_NEEDED = frozenset({"2BP01"})
# Of a larger table ANALYZE looks at no more rows, as long as default_statistics_target is 100.
_SAMPLED = 30_000
# Undefined table, column, function, object, schema.
_ABSENT = frozenset({"42P01", "42703", "42883", "42704", "3F000"})


@dataclass(frozen=True)
class RestoreRules:
    """What a restore leaves out.

    :ivar owners: Set the owners that the dump names; `privileges` the grants.
    :ivar strict: Fail where an owner or a grant can't be set.
    :ivar settable: The roles that exist here and that we may make owners.
    :ivar roles: The roles that exist here.
    :ivar parameters: The names of the server's settings.
    :ivar tablespaces: Those that exist here and that we may create in.
    """

    owners: bool
    privileges: bool
    strict: bool
    roles: frozenset[str]
    settable: frozenset[str]
    parameters: frozenset[str]
    tablespaces: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Changed:
    """Something that another statement of the dump, or a trigger, changed after the dump had filled or set it.

    :ivar key: Schema and name.
    :ivar expected: Rows of a table, or the last value of a sequence; `found` what it holds, None where it is gone.
    """

    key: tuple[str, str]
    expected: int
    found: int | None
    sequence: bool = False

    def __str__(self) -> str:
        name = f"{'sequence ' * self.sequence}{_shown(self.key)}"
        if self.found is None:
            return f"{name} is no longer the {'sequence that was set' if self.sequence else 'table that was filled'}"
        if self.sequence:
            return f"{name} stands at {self.found} where {self.expected} was expected"
        return f"{name} holds {self.found:,} rows where {self.expected:,} were expected"


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
    :ivar changed: What does not hold what was loaded; found by :meth:`prove`.
    :ivar spared: Kinds of objects of which something is not ours to replace, and was left out.
    """

    connection: Connection
    server: ServerFacts
    rules: RestoreRules
    schemas: set[str]
    set_aside: list[bytes] = field(default_factory=list)
    clean: bool = False
    exact: bool = False
    left_out: Counter[str] = field(default_factory=Counter)
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    found: dict[tuple[str, str], int | None] = field(default_factory=dict)
    changed: tuple[Changed, ...] = ()

    def __post_init__(self) -> None:
        self.wire = StatementStream(self.connection)
        self._settings = self._session_settings()
        self._warned = False
        self.connection.add_notice_handler(self._notice)
        self._created: set[tuple[str, str]] = set()
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
        self._freezes = True
        self._conditions: dict[tuple[str, str], str] = {}
        self._closed: set[tuple[str, str]] = set()
        self._filling = False
        self._open: tuple[str, str] | None = None
        self._schema_grants: dict[str, list[tuple[bytes, StatementKind]]] = {}
        self._stay = frozenset(self.schemas)
        self._somebody_else = False
        self.spared: set[str] = set()

    def statement(self, event: Statement, action: StatementKind) -> bool:
        """Send one statement, or leave it out; a COPY is left open for its rows.

        :return: Whether it was sent.
        :raises WorkError: The server refused it, or an INSERT before it.
        """
        if self._filling and action.verb not in _DATA_VERBS:
            self.rows_end()
        reason = self._omission(event.text, action) or self._absent(event.text, action)
        if reason:
            self.left_out[reason] += 1
            if action.verb == "SET" and action.name == _TABLESPACE:
                # Else the one before would hold on.
                self.wire.run(b"SET default_tablespace = ''")
            return False
        if action.verb not in {"COPY", "INSERT"}:
            self._located.clear()
            self._freezes = self._freezes and action.verb not in _MAY_OPEN_CURSORS
        existed = action.conditional and action.verb in _MAKES_RELATIONS and self._exists(action)
        if event.copies:
            self._begin_copy(event)
        elif action.verb == "INSERT":
            self._insert(event.text, (action.schema, action.name))
        elif action.verb == "GRANT ON SCHEMA" and action.name in self._stay and not self._somebody_else:
            self._schema_grants.setdefault(action.name, []).append((event.text, action))
        else:
            self._bring_back(before=action)
            if action.verb == "SET SESSION AUTHORIZATION" and action.roles:
                # Somebody else may need the schema's grants to reach what they grant on.
                self._grant_on_schemas()
            self._run(event.text, action)
            if action.verb == "SELECT" and any(each.name in OUR_SETTINGS or not each.name for each in action.settings):
                self._set_ours()
        if not existed:
            self._remember(event.text, action)
        return True

    def data(self, piece: Buffer) -> None:
        """Send a piece of the open COPY's rows."""
        if self._open not in self._closed:
            self.wire.data(piece)

    def end_of_data(self, rows: int) -> None:
        """End the open COPY.

        :param rows: How many rows the dump holds for it.
        :raises WorkError: The server took another number of rows, and a manifest says how many there are.
        """
        assert self._open is not None  # noqa: S101 - the lexer ends only what it began
        taken = rows if self._open in self._closed else self.wire.end_of_data()
        if rows and self._open in self._closed:
            raise WorkError(
                f"{_shown(self._open)} belongs to an extension, and {self.server.user} may not write the {rows:,} rows "
                f"that the dump holds of it"
            )
        if taken != rows and self.exact:
            raise WorkError(f"{_shown(self._open)} took {taken:,} rows where the dump holds {rows:,}")
        self._add_rows(self._open, rows)
        self._filling = True
        self._open = None

    def rows_end(self) -> None:
        """Wait for the last INSERT before what follows the rows, such as indexes."""
        self.wire.settle()
        self._filling = False

    def finish(self) -> None:
        """Do what waits for the end: grants on schemas that stay, and default privileges."""
        self.rows_end()
        self._bring_back()
        self._grant_on_schemas()

    def _grant_on_schemas(self) -> None:
        """Set what the dump grants on schemas that stay.

        Grants that change nothing are undone, as they would change the order in which the next dump shows them.
        """
        for schema, statements in self._schema_grants.items():
            before = privileges_of_schema(self.wire, schema)
            self.wire.run(b"SAVEPOINT invoke_postgres_schema")
            for text, action in statements:
                self._run(text, action)
            if privileges_of_schema(self.wire, schema) == before:
                self.wire.run(b"ROLLBACK TO SAVEPOINT invoke_postgres_schema")
            self.wire.run(b"RELEASE SAVEPOINT invoke_postgres_schema")
        self._schema_grants.clear()

    def prove(self, sequences: Mapping[tuple[str, str], tuple[int, bool]]) -> None:
        """Let all that the dump put off run, make the session ours again, and count what the tables hold.

        From here to the end the transaction is read-only: a trigger or cursor of the dump that would still run in
        COMMIT can change nothing any more, but fails (PostgreSQL manual, SET TRANSACTION).

        :param sequences: Last value of each sequence that the dump sets, and whether it was used.
        :raises WorkError: A table holds another number of rows than went in, or a sequence is another, and a manifest
            says what they are. Otherwise see :attr:`changed`.
        """
        self._run_deferred()
        self._take_session_back()
        changed = self._changed_sequences(sequences)
        before = {key: self._before.get(key, 0) for key in self.rows}
        expected = {key: self.rows[key] + rows for key, rows in before.items() if rows is not None}
        wrong, found = compare_row_counts(self.wire, expected, self._conditions)
        self.found = {**{key: None for key, rows in before.items() if rows is None}, **found}
        for key, (want, have) in sorted(wrong.items()):
            if have is None or self.exact or not want - self._upserted[key] <= have <= want:
                changed.append(Changed(key, want, have))
        if changed and self.exact:
            raise WorkError(str(changed[0]))
        self.changed = tuple(changed)
        self.wire.run(b"SET TRANSACTION READ ONLY")

    def _run_deferred(self) -> None:
        """Run deferred triggers as COMMIT would, and close cursors, whose queries COMMIT would run to their end.

        What runs may put off more. While it does, it writes rows, which the server counts.
        """
        self.wire.run(b"CLOSE ALL")
        written = self._written()
        for _ in range(_PASSES):
            self.wire.run(b"SET CONSTRAINTS ALL IMMEDIATE")
            self.wire.run(b"CLOSE ALL")
            before, written = written, self._written()
            if written == before:
                break

    def _written(self) -> list[list[bytes | None]]:
        """Return how many rows this transaction wrote to each table; nothing where no trigger can be deferred.

        Without an operator or function: the search path is still the dump's.
        """
        if not self.wire.ask(b"SELECT FROM pg_catalog.pg_trigger WHERE tgdeferrable LIMIT 1"):
            return []
        return self.wire.ask(b"SELECT relid, n_tup_ins, n_tup_upd, n_tup_del FROM pg_catalog.pg_stat_xact_all_tables")

    def _take_session_back(self) -> None:
        """Take back the role, the settings and the temporary objects of the dump.

        What depends on a temporary object goes with it, as it would at the session's end.
        """
        role = sql.Literal(session_role(self.connection)).as_bytes(self.connection)
        for statement in (b"RESET SESSION AUTHORIZATION", b"SET ROLE " + role, b"SET search_path = ''"):
            self.wire.run(statement)
        self._set_ours()
        self.wire.run(b"SET row_security = off")
        self.wire.run(b"DISCARD TEMP")

    def _changed_sequences(self, expected: Mapping[tuple[str, str], tuple[int, bool]]) -> list[Changed]:
        found = read_sequence_values(self.wire, list(expected))
        return [
            Changed(key, value, found[key][0] if key in found else None, sequence=True)
            for key, (value, called) in expected.items()
            if found.get(key) != (value, called)
        ]

    def _session_settings(self) -> list[tuple[str, str]]:
        """Read what is ours of the session and may be set at any time."""
        rows = self.connection.execute(
            "SELECT name, pg_catalog.current_setting(name), context FROM pg_catalog.pg_settings"
        ).fetchall()
        return [
            (str(name), str(value))
            for name, value, context in rows
            if name in _OURS and (context == "user" or self.server.superuser)
        ]

    def _set_ours(self, only: str = "") -> None:
        """Set again what is ours of the session: all of it, or one setting, where it is ours."""
        for name, value in self._settings:
            if only in {"", name.lower()}:
                self.wire.run(b"SET %s = %s" % (name.encode(), quote_literal(value)))

    def _notice(self, notice: errors.Diagnostic) -> None:
        self._warned = self._warned or notice.sqlstate in _NOTHING_DONE

    def _omission(self, text: bytes, action: StatementKind) -> str:  # noqa: PLR0911 - a table of cases
        """Tell why a statement is left out; empty where it is sent."""
        verb, name = action.verb, action.name
        if _kind_without_schema(text) == "subscription":
            return "subscriptions (those that are here stay, and a copy would follow the same slot)"
        if verb == "SET" and name in OUR_SETTINGS:
            return OWN_SETTINGS
        if verb == "SET" and "." not in name and name not in self.rules.parameters | _SET_WORDS:
            return f"SET {name}, which this server does not know"
        if (
            verb == "SET"
            and name == _TABLESPACE
            and (space := parse_default_tablespace(action)) not in self.rules.tablespaces | {""}
        ):
            return self._forgiven(
                f"tablespace {space}, missing here or not ours to use (its objects lie in the default)"
            )
        if verb == "TRANSACTION":
            return "BEGIN and COMMIT around large objects"
        if verb in {"DROP EXTENSION", "DROP SCHEMA"}:
            return f"{verb} (it stays)"
        if verb == "CREATE SCHEMA" and name in self.schemas:
            return "CREATE SCHEMA of a schema that stays"
        if verb in {"COMMENT ON EXTENSION", "COMMENT ON SCHEMA", "COMMENT ON DATABASE"} and not self._ours(action):
            return f"{verb} that is not ours"
        if verb == "OWNER":
            return self._owner_omission(action)
        if verb in _ACL_VERBS:
            return self._acl_omission(action)
        if verb == "SET SESSION AUTHORIZATION" and not self._may_become(action):
            return "SET SESSION AUTHORIZATION (objects stay ours)"
        return ""

    def _absent(self, text: bytes, action: StatementKind) -> str:
        """Leave out what `pg_dump --clean` writes without IF EXISTS to take away what isn't here.

        That is a placeholder for a view, put in its place to free what it depends on (the real CREATE OR REPLACE
        VIEW of a view with circular dependencies always follows a CREATE VIEW), and a domain's constraint.
        """
        key = (action.schema, action.name)
        if action.verb == "DROP DOMAIN CONSTRAINT":
            return "" if relation_exists(self.wire, key, b"to_regtype") else "DROP of what is not here"
        if action.verb != "REPLACE VIEW" or key in self._views or not _PLACEHOLDER.search(text):
            return ""
        return "" if relation_exists(self.wire, key, b"to_regclass") else "DROP of what is not here"

    def _owner_omission(self, action: StatementKind) -> str:
        if not self.rules.owners:
            return "owners (--no-owner)"
        missing = [role for role in action.roles if role not in self.rules.settable]
        return self._forgiven(f"owner {missing[0]}, missing here or not ours to set") if missing else ""

    def _acl_omission(self, action: StatementKind) -> str:
        if not self.rules.privileges:
            return "grants (--no-acl)"
        missing = [role for role in action.roles if role not in self.rules.roles]
        return self._forgiven(f"grants for {missing[0]}, missing here") if missing else ""

    def _forgiven(self, reason: str) -> str:
        if self.rules.strict:
            raise WorkError(f"{reason}, and --strict was asked for")
        return reason

    def _may_become(self, action: StatementKind) -> bool:
        allowed = self.server.superuser and self.rules.owners and self.rules.privileges
        return allowed and all(role in self.rules.roles for role in action.roles)

    def _ours(self, action: StatementKind) -> bool:
        """Whether a comment on an extension, schema or database is ours to make."""
        if self.server.superuser:
            return True
        catalogue, column, owner = {
            "COMMENT ON EXTENSION": (b"pg_extension", b"extname", b"extowner"),
            "COMMENT ON SCHEMA": (b"pg_namespace", b"nspname", b"nspowner"),
            "COMMENT ON DATABASE": (b"pg_database", b"datname", b"datdba"),
        }[action.verb]
        rows = self.wire.ask(
            b"SELECT pg_catalog.pg_has_role(%s, 'USAGE') FROM pg_catalog.%s WHERE %s = %s"
            % (owner, catalogue, column, quote_literal(action.name))
        )
        return rows == [[b"t"]]

    def _begin_copy(self, event: Statement) -> None:
        key = self._locate(split_qualified(event.copies))
        if key in self._created and self._freezes:
            # Rows of a table that this transaction made need no later rewrite to be seen by all.
            self.wire.copy(event.text.rstrip()[:-1] + b" WITH (FREEZE);")
        else:
            self._meet(key)
            if key not in self._closed:
                self.wire.copy(event.text)
        self._open = key

    def _insert(self, text: bytes, key: tuple[str, str]) -> None:
        key = self._locate(key)
        self._meet(key)
        # It may be a word of a value: then fewer rows are taken for an update, and the number is still the true one.
        upserts = b"CONFLICT" in text or b"conflict" in text

        def inserted(tag: str) -> None:
            found = _INSERTED.match(tag)
            rows = int(found[1]) if found else 0
            self._add_rows(key, rows)
            if upserts:
                self._upserted[key] += rows

        self.wire.queue(text, f"INSERT {_shown(key)}", inserted)
        self._filling = True

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
            self._located[name], temporary = locate_relations(self.wire, key)
            if temporary:
                self._temporary.add(self._located[name])
        return self._located[name]

    def _exists(self, action: StatementKind) -> bool:
        return relation_exists(self.wire, (action.schema, action.name), b"to_regclass")

    def _meet(self, key: tuple[str, str]) -> None:
        """Look at a table that was here before, the first time that rows go into it."""
        if key in self._before or key in self._created or key in self._temporary:
            return
        if key in self._parted:
            self._before[key] = 0
            return
        condition = extension_condition(self.wire, key)
        if condition is None:
            self._before[key] = count_rows(self.wire, {key: ""}).get(key)
            return
        # The dump holds the rows that people added to an extension's own table, under the extension's condition.
        self._conditions[key] = condition
        if not is_writable(self.wire, key):
            # Of a superuser's extension (PostGIS) a plain owner's dump mostly holds no rows, and needs no right.
            self._closed.add(key)
        elif self.clean:
            self.wire.run(b"DELETE FROM ONLY %s %s" % (quote_table(key), condition.encode()))
        self._before[key] = count_rows(self.wire, {key: condition}).get(key)

    def _remember(self, text: bytes, action: StatementKind) -> None:
        if action.verb == "CREATE TABLE":
            created = self._parted if _partitioned(text) else self._created
            created.add(self._locate((action.schema, action.name)))
        if action.schema and action.verb in _MAKES_RELATIONS:
            self._own.add((action.schema, action.name))
        elif action.verb == "SET SESSION AUTHORIZATION":
            self._somebody_else = bool(action.roles)
        elif action.verb == "CREATE SCHEMA":
            self.schemas.add(action.name)
        if action.verb == "CREATE VIEW":
            self._views.add((action.schema, action.name))

    def _bring_back(self, before: StatementKind | None = None) -> None:
        """Give the target its default privileges back, before the dump's own are added to them."""
        if before is None or before.verb == "DEFAULT PRIVILEGES":
            for statement in self.set_aside:
                self.wire.run(statement)
            self.set_aside.clear()

    def _run(self, text: bytes, action: StatementKind) -> None:
        kind = _kind_without_schema(text)
        if action.verb == "RESET":
            self.wire.run(text)
            self._set_ours("" if action.name == "all" else action.name)
        elif _discards_all(text, action):
            for statement in _DISCARD_ALL:
                self.wire.run(statement)
            self._set_ours()
        elif kind and not self.server.superuser:
            forgiven = frozenset() if self.rules.strict else _ANOTHERS
            if not self._try(text, forgiven, f"{kind}s that are not ours to replace"):
                self.spared.add(kind)
        elif action.verb in _ACL_VERBS | {"OWNER"} and not self.server.superuser and not self._allowed(action):
            reason = f"{'owners' if action.verb == 'OWNER' else 'grants'} that are not ours to set"
            self._try(text, frozenset() if self.rules.strict else _DENIED, reason)
        elif action.verb == "SECURITY":
            reason = "SECURITY LABEL of a provider that is not loaded here"
            self._try(text, frozenset() if self.rules.strict else _NO_PROVIDER, reason)
        elif action.removes and not action.conditional:
            self._try(text, _ABSENT, "DROP of what is not here")
        elif text.startswith(b"DROP TRANSFORM"):
            # Up to 17 every function of the language that has an argument of the type depends on it, those of
            # extensions too, although none uses it.
            self._try(text, _NEEDED, "DROP TRANSFORM (it is replaced)")
        elif action.verb == "CREATE TRANSFORM":
            self.wire.run(_CREATE_TRANSFORM.sub(rb"CREATE OR REPLACE TRANSFORM", text))
        elif action.verb in _ALONE:
            self.wire.run(text)
        else:
            self.wire.queue(text, describe_statement(action))

    def _allowed(self, action: StatementKind) -> bool:
        """Whether an owner or a grant can't be refused, as the relation was made by us and is still ours.

        Of thousands of relations each savepoint takes longer than the one before: at its end the server looks through
        all that the transaction knows.
        """
        ours = (action.schema, action.name) in self._own
        if action.verb == "OWNER" and ours and action.roles != (self.server.user,):
            self._own.discard((action.schema, action.name))
            return False
        return ours

    def _try(self, text: bytes, forgiven: frozenset[str], reason: str) -> bool:
        """Send what may be refused, so that a refusal does not end the transaction.

        :param forgiven: The refusals that leave the statement out, for this reason.
        :return: Whether it was done.
        """
        done = True
        self.wire.run(b"SAVEPOINT invoke_postgres")
        self._warned = False
        try:
            self.wire.run(text)
            if self._warned:
                # A GRANT or REVOKE without the right to it is but a warning, and nothing has changed.
                if not forgiven:
                    raise WorkError(f"{reason}, and --strict was asked for")
                self.left_out[reason] += 1
        except StatementError as error:
            if error.sqlstate not in forgiven:
                raise
            self.wire.run(b"ROLLBACK TO SAVEPOINT invoke_postgres")
            self.left_out[reason] += 1
            done = False
        self.wire.run(b"RELEASE SAVEPOINT invoke_postgres")
        return done


def _kind_without_schema(text: bytes) -> str:
    """Tell whether a statement is about a publication, an event trigger or a subscription."""
    found = _OF_NO_SCHEMA.match(text)
    return " ".join(found[1].decode().lower().split()) if found else ""


def describe_statement(action: StatementKind) -> str:
    """Say what a statement does, for progress and errors."""
    return f"{action.verb} {_shown((action.schema, action.name))}".strip()


def read_rules(connection: Connection, *, owners: bool, privileges: bool, strict: bool = False) -> RestoreRules:
    """Ask the server what a restore has to leave out."""
    roles = connection.execute(
        "SELECT rolname, pg_catalog.pg_has_role(oid, 'MEMBER') FROM pg_catalog.pg_roles"
    ).fetchall()
    parameters = connection.execute("SELECT name FROM pg_catalog.pg_settings").fetchall()
    tablespaces = connection.execute(
        "SELECT spcname FROM pg_catalog.pg_tablespace WHERE pg_catalog.has_tablespace_privilege(oid, 'CREATE')"
    ).fetchall()
    return RestoreRules(
        owners=owners,
        privileges=privileges,
        strict=strict,
        roles=frozenset(str(name) for name, _ in roles),
        settable=frozenset(str(name) for name, member in roles if member),
        parameters=frozenset(str(name).lower() for (name,) in parameters),
        tablespaces=frozenset(str(name) for (name,) in tablespaces),
    )


def analyze_tables(connections: Sequence[Connection], rows: Mapping[tuple[str, str], int]) -> None:
    """Give the planner statistics of tables that were filled, in several sessions at once.

    :param rows: How many rows each got: the largest come first, each where least is to be done.
    """
    wires = [StatementStream(connection) for connection in connections]
    todo = dict.fromkeys(wires, 0)
    try:
        for key in sorted(rows, key=lambda each: (-rows[each], each)):
            wire = min(todo, key=todo.__getitem__)
            todo[wire] += min(rows[key], _SAMPLED) + 1
            wire.queue(b"ANALYZE %s" % quote_table(key), f"ANALYZE {_shown(key)}")
        for wire in wires:
            wire.settle()
    except Interruption:
        for wire in wires:
            wire.cancel()
        raise


def _partitioned(text: bytes) -> bool:
    """Return whether a CREATE TABLE makes a partitioned table."""
    if b"partition" not in text.lower():
        return False
    words = TokenReader(text)
    while words.seek("PARTITION"):
        if words.skip("BY"):
            return True
    return False


def _discards_all(text: bytes, action: StatementKind) -> bool:
    words = TokenReader(text)
    return action.verb == "DISCARD" and words.skip("DISCARD") and words.skip("ALL")


def _shown(key: tuple[str, str]) -> str:
    return ".".join(part for part in key if part)
