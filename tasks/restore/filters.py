"""What a restore leaves out of a dump, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ..dumpformat.objects_without_rows import is_placeholder_view
from ..dumpformat.statements import parse_default_tablespace
from ..errors import OperationFailedError
from .row_counts import quote_literal, relation_exists

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..dumpformat.statements import StatementKind
    from ..postgres.connection import Connection, ServerFacts
    from ..postgres.protocol import StatementStream


class SchemalessKind(Enum):
    """Kinds of objects that lie in no schema; the value is how people and the inventory call them."""

    PUBLICATION = "publication"
    EVENT_TRIGGER = "event trigger"
    SUBSCRIPTION = "subscription"


class OmissionKind(Enum):
    """Why a statement is left out; the value is the text for people, `{}` its subject."""

    SUBSCRIPTION = "subscriptions (those that are here stay, and a copy would follow the same slot)"
    OWN_SETTINGS = "settings of timeouts and messages (the restore has its own)"
    UNKNOWN_SETTING = "SET {}, which this server does not know"
    TABLESPACE = "tablespace {}, missing here or not ours to use (its objects lie in the default)"
    TRANSACTION = "BEGIN and COMMIT around large objects"
    KEPT = "{} (it stays)"
    SCHEMA_EXISTS = "CREATE SCHEMA of a schema that stays"
    COMMENT = "{} that is not ours"
    SESSION_USER = "SET SESSION AUTHORIZATION (objects stay ours)"
    ABSENT = "DROP of what is not here"
    OWNERS_UNWANTED = "owners (--no-owner)"
    OWNER_MISSING = "owner {}, missing here or not ours to set"
    OWNERS_DENIED = "owners that are not ours to set"
    GRANTS_UNWANTED = "grants (--no-acl)"
    GRANTEE_MISSING = "grants for {}, missing here"
    GRANTS_DENIED = "grants that are not ours to set"
    NOT_REPLACEABLE = "{}s that are not ours to replace"
    SECURITY_LABEL = "SECURITY LABEL of a provider that is not loaded here"
    TRANSFORM = "DROP TRANSFORM (it is replaced)"
    EXTENSION_UNWANTED = "extension {} (--skip-extension)"
    ROLE = "SET ROLE {}, missing here or not ours to take (objects stay ours)"


# Owners and grants: what of them differs from the dump afterwards is explained by these.
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
    """The reason for leaving a statement out.

    :ivar subject: The role, setting, tablespace or kind of object that it is about; empty where the kind says all.
    """

    kind: OmissionKind
    subject: str = ""

    def __str__(self) -> str:
        return self.kind.value.replace("{}", self.subject)

    @property
    def concerns_roles(self) -> bool:
        """Return whether it left out an owner or a grant."""
        return self.kind in _OF_ROLES


@dataclass(frozen=True)
class Tolerance:
    """The refusals by the server, as SQLSTATE, that leave a statement out instead of ending the restore.

    :ivar skipped_kind: The kind of object that is left as it was found.
    """

    omission: Omission
    sqlstates: frozenset[str]
    skipped_kind: SchemalessKind | None = None


@dataclass(frozen=True)
class RestoreRules:
    """What a restore leaves out.

    :ivar owners: Set the owners that the dump names; `privileges` the grants.
    :ivar strict: Fail where an owner or a grant can't be set.
    :ivar settable: The roles that exist here and that we may make owners.
    :ivar roles: The roles that exist here.
    :ivar parameters: The names of the server's settings.
    :ivar tablespaces: Those that exist here and that we may create in.
    :ivar skipped: The extensions that are left out.
    """

    owners: bool
    privileges: bool
    strict: bool
    roles: frozenset[str]
    settable: frozenset[str]
    parameters: frozenset[str]
    tablespaces: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()


# Ours are set for the whole session; the header of a dump would reset them.
OUR_SETTINGS = frozenset(
    {"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"}
    | {"idle_session_timeout", "client_min_messages"}
)
ACL_VERBS = frozenset({"GRANT", "GRANT ON SCHEMA", "DEFAULT PRIVILEGES"})
TABLESPACE = "default_tablespace"
ROLE = "role"
_GRANTS_SET = 160000
_SET_WORDS = frozenset({"time", "names", "schema", "xml", "seed"})
_OF_NO_SCHEMA = re.compile(rb"(?:CREATE|ALTER|DROP|COMMENT\s+ON)\s+(PUBLICATION|EVENT\s+TRIGGER|SUBSCRIPTION)\b")
_DENIED = frozenset({"42501"})
# "security label provider … is not loaded", and that none is.
_NO_PROVIDER = frozenset({"22023"})
# Not ours, not there, there already.
_ANOTHERS = _DENIED | {"42704", "42710"}
_NEEDED = frozenset({"2BP01"})
# Undefined table, column, function, object, schema.
_ABSENT = frozenset({"42P01", "42703", "42883", "42704", "3F000"})


@dataclass(frozen=True)
class StatementFilter:
    """Decides which statements of a dump are left out, asking the server inside the loading transaction.

    :ivar schemas: Those that exist; the caller adds those that the dump creates.
    :ivar views: Those that the dump has created; the caller adds them.
    """

    stream: StatementStream
    server: ServerFacts
    rules: RestoreRules
    schemas: Collection[str]
    views: Collection[tuple[str, str]]

    def omission(self, text: bytes, action: StatementKind) -> Omission | None:
        """Return why a statement is left out; None where it is sent.

        :raises OperationFailedError: It can't be carried out here, and --strict was asked for.
        """
        return self._unwanted(text, action) or self._absent(text, action)

    def tolerance(self, text: bytes, action: StatementKind, *, own: bool) -> Tolerance | None:
        """Return which refusals of a statement leave it out; None where any ends the restore.

        :param own: Whether it is about a relation that this restore made and that is still ours.
        """
        nothing: frozenset[str] = frozenset()
        strict, superuser = self.rules.strict, self.server.superuser
        if (kind := _kind_without_schema(text)) and not superuser:
            refusals = nothing if strict else _ANOTHERS
            return Tolerance(
                omission=Omission(OmissionKind.NOT_REPLACEABLE, kind.value), sqlstates=refusals, skipped_kind=kind
            )
        if action.verb in ACL_VERBS | {"OWNER"} and not superuser and not own:
            denied = OmissionKind.OWNERS_DENIED if action.verb == "OWNER" else OmissionKind.GRANTS_DENIED
            return Tolerance(omission=Omission(denied), sqlstates=nothing if strict else _DENIED)
        if action.verb == "SECURITY":
            return Tolerance(
                omission=Omission(OmissionKind.SECURITY_LABEL), sqlstates=nothing if strict else _NO_PROVIDER
            )
        if action.removes and not action.conditional:
            return Tolerance(omission=Omission(OmissionKind.ABSENT), sqlstates=_ABSENT)
        if text.startswith(b"DROP TRANSFORM"):
            # Up to 17 every function of the language that has an argument of the type depends on it, those of
            # extensions too, although none uses it.
            return Tolerance(omission=Omission(OmissionKind.TRANSFORM), sqlstates=_NEEDED)
        return None

    def _unwanted(self, text: bytes, action: StatementKind) -> Omission | None:  # noqa: PLR0911, PLR0912 - a table of cases
        verb, name = action.verb, action.name
        if _kind_without_schema(text) is SchemalessKind.SUBSCRIPTION:
            return Omission(OmissionKind.SUBSCRIPTION)
        if verb in {"CREATE EXTENSION", "COMMENT ON EXTENSION"} and name in self.rules.skipped:
            return Omission(OmissionKind.EXTENSION_UNWANTED, name)
        if verb == "SET" and name in OUR_SETTINGS:
            return Omission(OmissionKind.OWN_SETTINGS)
        if verb == "SET" and name == ROLE:
            return self._role_omission(action)
        if verb == "SET" and "." not in name and name not in self.rules.parameters | _SET_WORDS:
            return Omission(OmissionKind.UNKNOWN_SETTING, name)
        if (
            verb == "SET"
            and name == TABLESPACE
            and (space := parse_default_tablespace(action)) not in self.rules.tablespaces | {""}
        ):
            return self._skip_or_fail(Omission(OmissionKind.TABLESPACE, space))
        if verb == "TRANSACTION":
            return Omission(OmissionKind.TRANSACTION)
        if verb in {"DROP EXTENSION", "DROP SCHEMA"}:
            return Omission(OmissionKind.KEPT, verb)
        if verb == "CREATE SCHEMA" and name in self.schemas:
            return Omission(OmissionKind.SCHEMA_EXISTS)
        if verb in {"COMMENT ON EXTENSION", "COMMENT ON SCHEMA", "COMMENT ON DATABASE"} and not self._owns(action):
            return Omission(OmissionKind.COMMENT, verb)
        if verb == "OWNER":
            return self._owner_omission(action)
        if verb in ACL_VERBS:
            return self._acl_omission(action)
        if verb == "SET SESSION AUTHORIZATION" and not self._may_become(action):
            omission = Omission(OmissionKind.SESSION_USER)
            return self._skip_or_fail(omission) if self.rules.owners and action.roles else omission
        return None

    def _absent(self, text: bytes, action: StatementKind) -> Omission | None:
        """Leave out what `pg_dump --clean` writes without IF EXISTS to take away what isn't here.

        That is a placeholder for a view, put in its place to free what it depends on (the real CREATE OR REPLACE
        VIEW of a view with circular dependencies always follows a CREATE VIEW), and a domain's constraint.
        """
        key = (action.schema, action.name)
        if action.verb == "DROP DOMAIN CONSTRAINT":
            lookup = b"to_regtype"
        elif action.verb == "REPLACE VIEW" and key not in self.views and is_placeholder_view(text):
            lookup = b"to_regclass"
        else:
            return None
        return None if relation_exists(self.stream, key, lookup) else Omission(OmissionKind.ABSENT)

    def _owner_omission(self, action: StatementKind) -> Omission | None:
        if not self.rules.owners:
            return Omission(OmissionKind.OWNERS_UNWANTED)
        missing = [role for role in action.roles if role not in self.rules.settable]
        return self._skip_or_fail(Omission(OmissionKind.OWNER_MISSING, missing[0])) if missing else None

    def _role_omission(self, action: StatementKind) -> Omission | None:
        if not self.rules.owners:
            return Omission(OmissionKind.OWNERS_UNWANTED)
        known = all(each.known for each in action.settings)
        missing = [] if known and self.rules.settable.issuperset(action.roles) else [", ".join(action.roles) or "…"]
        return self._skip_or_fail(Omission(OmissionKind.ROLE, missing[0])) if missing else None

    def _acl_omission(self, action: StatementKind) -> Omission | None:
        if not self.rules.privileges:
            return Omission(OmissionKind.GRANTS_UNWANTED)
        missing = [role for role in action.roles if role not in self.rules.roles]
        return self._skip_or_fail(Omission(OmissionKind.GRANTEE_MISSING, missing[0])) if missing else None

    def _skip_or_fail(self, omission: Omission) -> Omission:
        if self.rules.strict:
            raise OperationFailedError(f"{omission}, and --strict was asked for")
        return omission

    def _may_become(self, action: StatementKind) -> bool:
        allowed = self.server.superuser and self.rules.owners and self.rules.privileges
        ours = action.roles == (self.server.login,) == (self.server.user,)
        return ours or (allowed and all(role in self.rules.roles for role in action.roles))

    def _owns(self, action: StatementKind) -> bool:
        """Return whether a comment on an extension, schema or database is ours to make."""
        if self.server.superuser:
            return True
        catalogue, column, owner = {
            "COMMENT ON EXTENSION": (b"pg_extension", b"extname", b"extowner"),
            "COMMENT ON SCHEMA": (b"pg_namespace", b"nspname", b"nspowner"),
            "COMMENT ON DATABASE": (b"pg_database", b"datname", b"datdba"),
        }[action.verb]
        rows = self.stream.ask(
            b"SELECT pg_catalog.pg_has_role(%s, 'USAGE') FROM pg_catalog.%s WHERE %s = %s"
            % (owner, catalogue, column, quote_literal(action.name))
        )
        return rows == [[b"t"]]


def read_rules(
    connection: Connection, *, owners: bool, privileges: bool, strict: bool = False, skipped: Collection[str] = ()
) -> RestoreRules:
    """Ask the server what a restore has to leave out."""
    # Since 16 a membership may come without the right to SET ROLE.
    right = "SET" if connection.info.server_version >= _GRANTS_SET else "MEMBER"
    roles = connection.execute(
        "SELECT rolname, pg_catalog.pg_has_role(oid, %s) FROM pg_catalog.pg_roles", [right]
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
        skipped=frozenset(skipped),
    )


def _kind_without_schema(text: bytes) -> SchemalessKind | None:
    """Return whether a statement is about a publication, an event trigger or a subscription; else None."""
    found = _OF_NO_SCHEMA.match(text)
    return SchemalessKind(" ".join(found[1].decode().lower().split())) if found else None


def changes_role(action: StatementKind) -> bool:
    """Return whether what follows a statement is done by another role, or by ours again."""
    return action.verb == "SET SESSION AUTHORIZATION" or (action.verb in {"SET", "RESET"} and action.name == ROLE)
