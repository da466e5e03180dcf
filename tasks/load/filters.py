"""Decide which statements of a dump a restore leaves out, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ..dumpformat.objects_without_rows import is_placeholder_view
from ..dumpformat.statements import parse_default_tablespace
from ..errors import OperationFailedError
from ..postgres.connection import read_names
from ..postgres.session_settings import TIMEOUTS
from .row_counts import quote_literal, relation_exists, show_key

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..dumpformat.statements import StatementKind
    from ..postgres.connection import Connection, ServerFacts
    from ..postgres.protocol import StatementStream


class SchemalessKind(Enum):
    """Kinds of objects without a schema; the value is the name in messages and in the inventory."""

    PUBLICATION = "publication"
    EVENT_TRIGGER = "event trigger"
    SUBSCRIPTION = "subscription"


class OmissionKind(Enum):
    """The reason for leaving a statement out; the value is the text of messages, `{}` its subject."""

    SUBSCRIPTION = "subscriptions (existing ones are kept; a copy would use the same replication slot)"
    OWN_SETTINGS = "settings of timeouts and messages (the restore sets its own)"
    UNKNOWN_SETTING = "SET {}, unknown to this server"
    TABLESPACE = "tablespace {}, missing or not permitted (its objects are in the default tablespace)"
    TRANSACTION = "BEGIN and COMMIT around large objects"
    KEPT = "{} (schemas and extensions are kept)"
    SCHEMA_EXISTS = "CREATE SCHEMA of an existing schema (it is kept)"
    COMMENT = "{}, not permitted"
    SESSION_USER = "SET SESSION AUTHORIZATION (the restoring role owns the objects)"
    ABSENT = "DROP of a missing object"
    OWNERS_UNWANTED = "owners (--no-owner)"
    OWNER_MISSING = "owner {}, a role that is missing or not permitted (the restoring role owns the objects)"
    OWNERS_DENIED = "owners that the role may not set"
    GRANTS_UNWANTED = "grants (--no-acl)"
    GRANTEE_MISSING = "grants for {}, a role that is missing on this server"
    GRANTS_DENIED = "grants that the role may not set"
    NOT_REPLACEABLE = "{}s that the role may not replace"
    SECURITY_LABEL = "SECURITY LABEL of a provider that is not loaded"
    TRANSFORM = "DROP TRANSFORM (the transform is replaced)"
    EXTENSION_UNWANTED = "extension {} (--skip-extension)"
    ROLE = "SET ROLE {}, a role that is missing or not permitted (the restoring role owns the objects)"


# These reasons explain differences of owners and grants between the dump and the database.
_OF_ROLES = frozenset(
    {
        OmissionKind.OWNERS_UNWANTED,
        OmissionKind.OWNER_MISSING,
        OmissionKind.OWNERS_DENIED,
        OmissionKind.GRANTS_UNWANTED,
        OmissionKind.GRANTEE_MISSING,
        OmissionKind.GRANTS_DENIED,
        OmissionKind.ROLE,
        OmissionKind.SESSION_USER,
    }
)


@dataclass(frozen=True)
class Omission:
    """The reason for leaving a statement out, with its subject.

    :ivar subject: The role, setting, tablespace or kind of object; empty if the reason needs none.
    """

    kind: OmissionKind
    subject: str = ""

    def __str__(self) -> str:
        return self.kind.value.replace("{}", self.subject)

    @property
    def concerns_roles(self) -> bool:
        """Return whether an owner or a grant was left out."""
        return self.kind in _OF_ROLES


@dataclass(frozen=True)
class Tolerance:
    """The errors of the server, as SQLSTATE, that leave a statement out instead of ending the restore.

    :ivar skipped_kind: The kind of object that is then kept unchanged.
    """

    omission: Omission
    sqlstates: frozenset[str]
    skipped_kind: SchemalessKind | None = None


@dataclass(frozen=True)
class RestoreRules:
    """The facts that decide which statements a restore leaves out.

    :ivar owners: Set the owners of the dump.
    :ivar privileges: Set the grants of the dump.
    :ivar strict: Fail if an owner or a grant can't be set.
    :ivar roles: The roles of the server.
    :ivar settable: The roles that the restoring role may make owners.
    :ivar parameters: The names of the server's settings.
    :ivar tablespaces: The tablespaces in which the restoring role may create objects.
    :ivar skipped: The extensions to leave out.
    """

    owners: bool
    privileges: bool
    strict: bool
    roles: frozenset[str]
    settable: frozenset[str]
    parameters: frozenset[str]
    tablespaces: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()


# The restore sets them for its session; the header of a dump would reset them.
OWN_SETTINGS = frozenset({*TIMEOUTS, "lock_timeout", "client_min_messages"})
ACL_VERBS = frozenset({"GRANT", "GRANT ON SCHEMA", "DEFAULT PRIVILEGES"})
TABLESPACE = "default_tablespace"
ROLE = "role"
_GRANTS_SET = 160000
_SET_WORDS = frozenset({"time", "names", "schema", "xml", "seed"})
_OF_NO_SCHEMA = re.compile(rb"(?:CREATE|ALTER|DROP|COMMENT\s+ON)\s+(PUBLICATION|EVENT\s+TRIGGER|SUBSCRIPTION)\b")
_DENIED = frozenset({"42501"})
# "security label provider … is not loaded", "no security label providers have been loaded"
_NO_PROVIDER = frozenset({"22023"})
# Insufficient privilege, undefined object, duplicate object.
_NOT_REPLACEABLE = _DENIED | {"42704", "42710"}
_HAS_DEPENDENTS = frozenset({"2BP01"})
# Undefined table, column, function, object, schema.
_ABSENT = frozenset({"42P01", "42703", "42883", "42704", "3F000"})


@dataclass(frozen=True)
class StatementFilter:
    """The decision which statements of a dump are left out. It queries the server inside the loading transaction.

    :ivar schemas: The existing schemas; the caller adds those that the dump creates.
    :ivar views: The views that the dump has created; the caller adds them.
    """

    stream: StatementStream
    server: ServerFacts
    rules: RestoreRules
    schemas: Collection[str]
    views: Collection[tuple[str, str]]

    def omission(self, text: bytes, kind: StatementKind) -> Omission | None:
        """Return the reason for leaving a statement out; None if it is sent.

        :raises OperationFailedError: The statement can't be executed, and --strict was given.
        """
        return self._excluded(text, kind) or self._absent(text, kind)

    def tolerance(self, text: bytes, statement_kind: StatementKind, *, own: bool) -> Tolerance | None:
        """Return the errors of a statement that leave it out; None if every error ends the restore.

        :param own: The statement is about a relation that this restore created and that the restoring role still owns.
        """
        nothing: frozenset[str] = frozenset()
        strict, superuser = self.rules.strict, self.server.superuser
        if (kind := _kind_without_schema(text)) and not superuser:
            refusals = nothing if strict else _NOT_REPLACEABLE
            return Tolerance(
                omission=Omission(OmissionKind.NOT_REPLACEABLE, kind.value), sqlstates=refusals, skipped_kind=kind
            )
        if statement_kind.verb in ACL_VERBS | {"OWNER"} and not superuser and not own:
            denied = OmissionKind.OWNERS_DENIED if statement_kind.verb == "OWNER" else OmissionKind.GRANTS_DENIED
            return Tolerance(omission=Omission(denied), sqlstates=nothing if strict else _DENIED)
        if statement_kind.verb == "SECURITY":
            return Tolerance(
                omission=Omission(OmissionKind.SECURITY_LABEL), sqlstates=nothing if strict else _NO_PROVIDER
            )
        if statement_kind.removes and not statement_kind.conditional:
            return Tolerance(omission=Omission(OmissionKind.ABSENT), sqlstates=_ABSENT)
        if text.startswith(b"DROP TRANSFORM"):
            # Up to 17, all functions of the language with an argument of the type depend on the transform, also those
            # of extensions, although none uses it.
            return Tolerance(omission=Omission(OmissionKind.TRANSFORM), sqlstates=_HAS_DEPENDENTS)
        return None

    def _excluded(self, text: bytes, kind: StatementKind) -> Omission | None:  # noqa: PLR0911, PLR0912 - a table of cases
        verb, name = kind.verb, kind.name
        if _kind_without_schema(text) is SchemalessKind.SUBSCRIPTION:
            return Omission(OmissionKind.SUBSCRIPTION)
        if verb in {"CREATE EXTENSION", "COMMENT ON EXTENSION"} and name in self.rules.skipped:
            return Omission(OmissionKind.EXTENSION_UNWANTED, name)
        if verb == "SET" and name in OWN_SETTINGS:
            return Omission(OmissionKind.OWN_SETTINGS)
        if verb == "SET" and name == ROLE:
            return self._role_omission(kind)
        if verb == "SET" and "." not in name and name not in self.rules.parameters | _SET_WORDS:
            return Omission(OmissionKind.UNKNOWN_SETTING, name)
        if (
            verb == "SET"
            and name == TABLESPACE
            and (space := parse_default_tablespace(kind)) not in self.rules.tablespaces | {""}
        ):
            return self._skip_or_fail(Omission(OmissionKind.TABLESPACE, space))
        if verb == "TRANSACTION":
            return Omission(OmissionKind.TRANSACTION)
        if verb in {"DROP EXTENSION", "DROP SCHEMA"}:
            return Omission(OmissionKind.KEPT, verb)
        if verb == "CREATE SCHEMA" and name in self.schemas:
            return Omission(OmissionKind.SCHEMA_EXISTS)
        if verb in {"COMMENT ON EXTENSION", "COMMENT ON SCHEMA", "COMMENT ON DATABASE"} and not self._owns(kind):
            return Omission(OmissionKind.COMMENT, verb)
        if verb == "OWNER":
            return self._owner_omission(kind)
        if verb in ACL_VERBS:
            return self._acl_omission(kind)
        if verb == "SET SESSION AUTHORIZATION" and not self._may_become(kind):
            omission = Omission(OmissionKind.SESSION_USER)
            return self._skip_or_fail(omission) if self.rules.owners and kind.roles else omission
        return None

    def _absent(self, text: bytes, kind: StatementKind) -> Omission | None:
        """Return `ABSENT` for a statement of `pg_dump --clean` that has no IF EXISTS and removes a missing object.

        These are DROP CONSTRAINT of a domain, and the placeholder that replaces a view with circular dependencies
        before its dependencies are dropped. The view's final CREATE OR REPLACE VIEW always follows a CREATE VIEW.
        """
        key = (kind.schema, kind.name)
        if kind.verb == "DROP DOMAIN CONSTRAINT":
            lookup = b"to_regtype"
        elif kind.verb == "REPLACE VIEW" and key not in self.views and is_placeholder_view(text):
            lookup = b"to_regclass"
        else:
            return None
        return None if relation_exists(self.stream, key, lookup) else Omission(OmissionKind.ABSENT)

    def _owner_omission(self, kind: StatementKind) -> Omission | None:
        if not self.rules.owners:
            return Omission(OmissionKind.OWNERS_UNWANTED)
        missing = [role for role in kind.roles if role not in self.rules.settable]
        return self._skip_or_fail(Omission(OmissionKind.OWNER_MISSING, missing[0])) if missing else None

    def _role_omission(self, kind: StatementKind) -> Omission | None:
        if not self.rules.owners:
            return Omission(OmissionKind.OWNERS_UNWANTED)
        known = all(each.known for each in kind.settings)
        missing = [] if known and self.rules.settable.issuperset(kind.roles) else [", ".join(kind.roles) or "…"]
        return self._skip_or_fail(Omission(OmissionKind.ROLE, missing[0])) if missing else None

    def _acl_omission(self, kind: StatementKind) -> Omission | None:
        if not self.rules.privileges:
            return Omission(OmissionKind.GRANTS_UNWANTED)
        missing = [role for role in kind.roles if role not in self.rules.roles]
        return self._skip_or_fail(Omission(OmissionKind.GRANTEE_MISSING, missing[0])) if missing else None

    def _skip_or_fail(self, omission: Omission) -> Omission:
        if self.rules.strict:
            raise OperationFailedError(f"{omission}, and --strict was given")
        return omission

    def _may_become(self, kind: StatementKind) -> bool:
        allowed = self.server.superuser and self.rules.owners and self.rules.privileges
        ours = kind.roles == (self.server.login,) == (self.server.user,)
        return ours or (allowed and all(role in self.rules.roles for role in kind.roles))

    def _owns(self, kind: StatementKind) -> bool:
        """Return whether the role may comment on an extension, schema or database."""
        if self.server.superuser:
            return True
        catalogue, column, owner = {
            "COMMENT ON EXTENSION": (b"pg_extension", b"extname", b"extowner"),
            "COMMENT ON SCHEMA": (b"pg_namespace", b"nspname", b"nspowner"),
            "COMMENT ON DATABASE": (b"pg_database", b"datname", b"datdba"),
        }[kind.verb]
        rows = self.stream.ask(
            b"SELECT pg_catalog.pg_has_role(%s, 'USAGE') FROM pg_catalog.%s WHERE %s = %s"
            % (owner, catalogue, column, quote_literal(kind.name))
        )
        return rows == [[b"t"]]


def read_rules(
    connection: Connection, *, owners: bool, privileges: bool, strict: bool = False, skipped: Collection[str] = ()
) -> RestoreRules:
    """Return the rules for a restore, from its flags and the server's roles, settings and tablespaces."""
    # Since 16, a membership may exclude the right to SET ROLE.
    right = "SET" if connection.info.server_version >= _GRANTS_SET else "MEMBER"
    roles = connection.execute(
        "SELECT rolname, pg_catalog.pg_has_role(oid, %s) FROM pg_catalog.pg_roles", [right]
    ).fetchall()
    parameters = read_names(connection, "SELECT name FROM pg_catalog.pg_settings")
    usable = "SELECT spcname FROM pg_catalog.pg_tablespace WHERE pg_catalog.has_tablespace_privilege(oid, 'CREATE')"
    return RestoreRules(
        owners=owners,
        privileges=privileges,
        strict=strict,
        roles=frozenset(str(name) for name, _ in roles),
        settable=frozenset(str(name) for name, member in roles if member),
        parameters=frozenset(name.lower() for name in parameters),
        tablespaces=frozenset(read_names(connection, usable)),
        skipped=frozenset(skipped),
    )


def _kind_without_schema(text: bytes) -> SchemalessKind | None:
    """Return `PUBLICATION`, `EVENT_TRIGGER` or `SUBSCRIPTION` if a statement is about one; else None."""
    found = _OF_NO_SCHEMA.match(text)
    return SchemalessKind(" ".join(found[1].decode().lower().split())) if found else None


def changes_role(kind: StatementKind) -> bool:
    """Return whether a statement changes the role that executes the following statements."""
    return kind.verb == "SET SESSION AUTHORIZATION" or (kind.verb in {"SET", "RESET"} and kind.name == ROLE)


def describe_statement(kind: StatementKind) -> str:
    """Return a statement's verb and object, for progress and errors."""
    return f"{kind.verb} {show_key((kind.schema, kind.name))}".strip()
