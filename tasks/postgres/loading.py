"""The one transaction that a restore is: what is sent, what is left out, and how it proves itself."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .. import process
from ..archive.statements import Action, tablespace
from ..archive.words import qualified
from ..errors import WorkError
from . import counting, privileges
from .wire import StatementError, Wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg.abc import Buffer

    from ..archive.lexer import Statement
    from .session import Connection, ServerFacts

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
_NEEDED = frozenset({"2BP01"})
# Of a larger table ANALYZE looks at no more rows, as long as default_statistics_target is 100.
_SAMPLED = 30_000
# Undefined table, column, function, object, schema.
_ABSENT = frozenset({"42P01", "42703", "42883", "42704", "3F000"})


@dataclass(frozen=True)
class Rules:
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


@dataclass
class Loader:
    """Sends a dump's statements and rows, in the transaction that the caller opened.

    :ivar schemas: Those that exist; they stay.
    :ivar set_aside: Statements that bring the target's own default privileges back.
    :ivar left_out: What was left out, counted by reason.
    :ivar rows: Rows that went in, by (schema, name).
    :ivar spared: Kinds of objects of which something is not ours to replace, and was left out.
    """

    connection: Connection
    server: ServerFacts
    rules: Rules
    schemas: set[str]
    set_aside: list[bytes] = field(default_factory=list)
    clean: bool = False
    left_out: Counter[str] = field(default_factory=Counter)
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.wire = Wire(self.connection)
        self._warnings: list[str] = []
        self.connection.add_notice_handler(lambda notice: self._warnings.append(notice.sqlstate or ""))
        self._created: set[tuple[str, str]] = set()
        self._parted: set[tuple[str, str]] = set()
        self._views: set[tuple[str, str]] = set()
        self._own: set[tuple[str, str]] = set()
        self._before: dict[tuple[str, str], int] = {}
        self._conditions: dict[tuple[str, str], str] = {}
        self._closed: set[tuple[str, str]] = set()
        self._unchecked: set[tuple[str, str]] = set()
        self._open: tuple[str, str] | None = None
        self._schema_grants: dict[str, list[tuple[bytes, Action]]] = {}
        self._stay = frozenset(self.schemas)
        self._somebody_else = False
        names = ", ".join(counting.literal(name).decode() for name in sorted(OUR_SETTINGS)).encode()
        self._ours_were = [
            (name.decode(), value.decode())
            for name, value in self.wire.ask(
                b"SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings "
                b"WHERE name OPERATOR(pg_catalog.=) ANY (ARRAY[%s])" % names
            )
            if name is not None and value is not None
        ]
        self.spared: set[str] = set()

    def statement(self, event: Statement, action: Action) -> bool:
        """Send one statement, or leave it out; a COPY is left open for its rows.

        :return: Whether it was sent.
        :raises WorkError: The server refused it, or the rows before it are not all there.
        """
        if self._unchecked and action.verb not in _DATA_VERBS:
            self.check_rows()
        reason = self._omission(event.text, action) or self._absent(event.text, action)
        if reason:
            self.left_out[reason] += 1
            if action.verb == "SET" and action.name == _TABLESPACE:
                # Else the one before would hold on.
                self.wire.run(b"SET default_tablespace = ''")
            return False
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
                self._set_ours_again()
        self._remember(event.text, action)
        return True

    def _set_ours_again(self) -> None:
        """Set again what a statement may have set of ours; what they were is known from the session's start."""
        for name, value in self._ours_were:
            self.wire.run(
                b"SELECT pg_catalog.set_config(%s, %s, false)" % (counting.literal(name), counting.literal(value))
            )

    def data(self, piece: Buffer) -> None:
        """Send a piece of the open COPY's rows."""
        if self._open not in self._closed:
            self.wire.data(piece)

    def end_of_data(self, rows: int) -> None:
        """End the open COPY.

        :param rows: How many rows the dump holds for it.
        :raises WorkError: The server took another number of rows.
        """
        assert self._open is not None  # noqa: S101 - the lexer ends only what it began
        taken = rows if self._open in self._closed else self.wire.end_of_data()
        if rows and self._open in self._closed:
            raise WorkError(
                f"{_shown(self._open)} belongs to an extension, and {self.server.user} may not write the {rows:,} rows "
                f"that the dump holds of it"
            )
        if taken != rows:
            raise WorkError(f"{_shown(self._open)} took {taken:,} rows where the dump holds {rows:,}")
        self.rows[self._open] += rows
        self._unchecked.add(self._open)
        self._open = None

    def finish(self) -> None:
        """Do what waits for the end: grants on schemas that stay, and default privileges."""
        self.check_rows()
        self._bring_back()
        self._grant_on_schemas()

    def _grant_on_schemas(self) -> None:
        """Set what the dump grants on schemas that stay.

        Grants that change nothing are undone, as they would change the order in which the next dump shows them.
        """
        for schema, statements in self._schema_grants.items():
            before = privileges.of_schema(self.wire, schema)
            self.wire.run(b"SAVEPOINT invoke_postgres_schema")
            for text, action in statements:
                self._run(text, action)
            if privileges.of_schema(self.wire, schema) == before:
                self.wire.run(b"ROLLBACK TO SAVEPOINT invoke_postgres_schema")
            self.wire.run(b"RELEASE SAVEPOINT invoke_postgres_schema")
        self._schema_grants.clear()

    def check_rows(self) -> None:
        """Count every table that rows went into, and compare.

        Called as soon as the data is in: before indexes, constraints and policies.

        :raises WorkError: A table holds another number of rows than went in.
        """
        self.wire.settle()
        expected = {key: self.rows[key] + self._before.get(key, 0) for key in self._unchecked}
        wrong = counting.compare(self.wire, expected, self._conditions)
        self._unchecked.clear()
        for key, (want, have) in wrong.items():
            raise WorkError(f"{_shown(key)} holds {have:,} rows where {want:,} were expected")

    def _omission(self, text: bytes, action: Action) -> str:  # noqa: PLR0911 - a table of cases
        """Tell why a statement is left out; empty where it is sent."""
        verb, name = action.verb, action.name
        if _kind_without_schema(text) == "subscription":
            return "subscriptions (those that are here stay, and a copy would follow the same slot)"
        if verb == "SET" and name in OUR_SETTINGS:
            return OWN_SETTINGS
        if verb == "SET" and "." not in name and name not in self.rules.parameters | _SET_WORDS:
            return f"SET {name}, which this server does not know"
        if verb == "SET" and name == _TABLESPACE and (space := tablespace(action)) not in self.rules.tablespaces | {""}:
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

    def _absent(self, text: bytes, action: Action) -> str:
        """Leave out what `pg_dump --clean` writes without IF EXISTS to take away what isn't here.

        That is a placeholder for a view, put in its place to free what it depends on (the real CREATE OR REPLACE
        VIEW of a view with circular dependencies always follows a CREATE VIEW), and a domain's constraint.
        """
        key = (action.schema, action.name)
        if action.verb == "DROP DOMAIN CONSTRAINT":
            return "" if counting.exists(self.wire, key, b"to_regtype") else "DROP of what is not here"
        if action.verb != "REPLACE VIEW" or key in self._views or not _PLACEHOLDER.search(text):
            return ""
        return "" if counting.exists(self.wire, key, b"to_regclass") else "DROP of what is not here"

    def _owner_omission(self, action: Action) -> str:
        if not self.rules.owners:
            return "owners (--no-owner)"
        missing = [role for role in action.roles if role not in self.rules.settable]
        return self._forgiven(f"owner {missing[0]}, missing here or not ours to set") if missing else ""

    def _acl_omission(self, action: Action) -> str:
        if not self.rules.privileges:
            return "grants (--no-acl)"
        missing = [role for role in action.roles if role not in self.rules.roles]
        return self._forgiven(f"grants for {missing[0]}, missing here") if missing else ""

    def _forgiven(self, reason: str) -> str:
        if self.rules.strict:
            raise WorkError(f"{reason}, and --strict was asked for")
        return reason

    def _may_become(self, action: Action) -> bool:
        allowed = self.server.superuser and self.rules.owners and self.rules.privileges
        return allowed and all(role in self.rules.roles for role in action.roles)

    def _ours(self, action: Action) -> bool:
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
            % (owner, catalogue, column, counting.literal(action.name))
        )
        return rows == [[b"t"]]

    def _begin_copy(self, event: Statement) -> None:
        key = qualified(event.copies)
        if key not in self._created:
            self._meet(key)
            if key not in self._closed:
                self.wire.copy(event.text)
        else:
            # Rows of a table that this transaction made need no later rewrite to be seen by all.
            self.wire.copy(event.text.rstrip()[:-1] + b" WITH (FREEZE);")
        self._open = key

    def _insert(self, text: bytes, key: tuple[str, str]) -> None:
        if key not in self._created:
            self._meet(key)

        def inserted(tag: str) -> None:
            found = _INSERTED.match(tag)
            self.rows[key] += int(found[1]) if found else 0

        self.wire.queue(text, f"INSERT {_shown(key)}", inserted)
        self._unchecked.add(key)

    def _meet(self, key: tuple[str, str]) -> None:
        """Look at a table that was here before, the first time that rows go into it."""
        if key in self._before:
            return
        if key in self._parted:
            self._before[key] = 0
            return
        condition = counting.extension_condition(self.wire, key)
        if condition is None:
            self._before[key] = counting.rows(self.wire, key)
            return
        # The dump holds the rows that people added to an extension's own table, under the extension's condition.
        self._conditions[key] = condition
        if not counting.writable(self.wire, key):
            # Of a superuser's extension (PostGIS) a plain owner's dump mostly holds no rows, and needs no right.
            self._closed.add(key)
        elif self.clean:
            self.wire.run(b"DELETE FROM ONLY %s %s" % (counting.quoted(key), condition.encode()))
        self._before[key] = counting.rows(self.wire, key, condition)

    def _remember(self, text: bytes, action: Action) -> None:
        if action.schema and action.verb in _MAKES_RELATIONS and not action.conditional:
            self._own.add((action.schema, action.name))
        if action.verb == "CREATE TABLE":
            created = self._parted if b"PARTITION BY" in text else self._created
            created.add((action.schema, action.name))
        elif action.verb == "SET SESSION AUTHORIZATION":
            self._somebody_else = bool(action.roles)
        elif action.verb == "CREATE VIEW":
            self._views.add((action.schema, action.name))
        elif action.verb == "CREATE SCHEMA":
            self.schemas.add(action.name)

    def _bring_back(self, before: Action | None = None) -> None:
        """Give the target its default privileges back, before the dump's own are added to them."""
        if before is None or before.verb == "DEFAULT PRIVILEGES":
            for statement in self.set_aside:
                self.wire.run(statement)
            self.set_aside.clear()

    def _run(self, text: bytes, action: Action) -> None:
        kind = _kind_without_schema(text)
        if kind and not self.server.superuser:
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
            self.wire.queue(text, doing(action))

    def _allowed(self, action: Action) -> bool:
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
        self._warnings.clear()
        try:
            self.wire.run(text)
            if _NOTHING_DONE.intersection(self._warnings):
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


def doing(action: Action) -> str:
    """Say what a statement does, for progress and errors."""
    return f"{action.verb} {_shown((action.schema, action.name))}".strip()


def rules(connection: Connection, *, owners: bool, privileges: bool, strict: bool = False) -> Rules:
    """Ask the server what a restore has to leave out."""
    roles = connection.execute(
        "SELECT rolname, pg_catalog.pg_has_role(oid, 'MEMBER') FROM pg_catalog.pg_roles"
    ).fetchall()
    parameters = connection.execute("SELECT name FROM pg_catalog.pg_settings").fetchall()
    tablespaces = connection.execute(
        "SELECT spcname FROM pg_catalog.pg_tablespace WHERE pg_catalog.has_tablespace_privilege(oid, 'CREATE')"
    ).fetchall()
    return Rules(
        owners=owners,
        privileges=privileges,
        strict=strict,
        roles=frozenset(str(name) for name, _ in roles),
        settable=frozenset(str(name) for name, member in roles if member),
        parameters=frozenset(str(name).lower() for (name,) in parameters),
        tablespaces=frozenset(str(name) for (name,) in tablespaces),
    )


def analyze(connections: Sequence[Connection], rows: Mapping[tuple[str, str], int]) -> None:
    """Give the planner statistics of tables that were filled, in several sessions at once.

    :param rows: How many rows each got: the largest come first, each where least is to be done.
    """
    wires = [Wire(connection) for connection in connections]
    todo = dict.fromkeys(wires, 0)
    try:
        for key in sorted(rows, key=lambda each: (-rows[each], each)):
            wire = min(todo, key=todo.__getitem__)
            todo[wire] += min(rows[key], _SAMPLED) + 1
            wire.queue(b"ANALYZE %s" % counting.quoted(key), f"ANALYZE {_shown(key)}")
        for wire in wires:
            wire.settle()
    except process.Interruption:
        for wire in wires:
            wire.cancel()
        raise


def check_sequences(wire: Wire, expected: Mapping[tuple[str, str], tuple[int, bool]]) -> None:
    """Compare every sequence with the dump's own `setval`.

    :raises WorkError: One differs.
    """
    for key, found in counting.sequences(wire, list(expected)).items():
        if found != expected[key]:
            raise WorkError(f"sequence {_shown(key)} stands at {found[0]} where {expected[key][0]} was expected")


def _shown(key: tuple[str, str]) -> str:
    return ".".join(part for part in key if part)
