"""Explain an error of a restore: what failed, the state of the database, and what to do."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

import psycopg

from ..dumpformat.foreign_head import LexError
from ..dumpformat.statements import classify_statement
from ..errors import OperationFailedError, ServerError, TaskError
from ..postgres.commit import CommitFailure, Outcome
from ..postgres.connection import blocked
from ..postgres.protocol import LostError, StatementError, as_refusal

if TYPE_CHECKING:
    from ..postgres.commit import CommitResult
    from ..postgres.connection import ServerFacts
    from .plan import RestorePlan


# The major that brought it (release notes, "Migration" and "Changes"), how a dump writes it, how people call it.
_NEW = (
    (15, rb"\bNULLS NOT DISTINCT\b", "NULLS NOT DISTINCT"),
    (15, rb"\bsecurity_invoker\b", "security_invoker of views"),
    (
        15,
        rb"\bPUBLICATION\b.*\b(?:TABLES IN SCHEMA|WHERE)\b|\bPUBLICATION\b.*\bADD TABLE ONLY\b[^;]*\(",
        "this publication",
    ),
    (15, rb"\bSET (?:NULL|DEFAULT) \(", "SET NULL of some columns of a foreign key"),
    (16, rb"\bCREATE COLLATION\b.*\brules\b", "rules of collations"),
    (17, rb"\bMAINTAIN\b", "the privilege MAINTAIN (--no-acl leaves out all grants)"),
    (17, rb"\bJSON_TABLE\b|\bJSON_(?:EXISTS|QUERY|VALUE)\b|\bMERGE_ACTION\b", "these SQL/JSON functions"),
    (17, rb"\bprovider = builtin\b", "collations of the provider builtin"),
    (18, rb"\bNOT ENFORCED\b", "NOT ENFORCED"),
    (18, rb"\bWITHOUT OVERLAPS\b", "WITHOUT OVERLAPS"),
    (18, rb"\bPERIOD\b", "PERIOD in foreign keys"),
    (18, rb"\bNOT NULL\b[^,]*\bNOT VALID\b|\bADD CONSTRAINT\b[^,]*\bNOT NULL\b", "NOT NULL as a constraint of its own"),
    (18, rb"\bNOT NULL NO INHERIT\b", "NOT NULL NO INHERIT"),
    (18, rb"\bGENERATED ALWAYS AS \((?:(?! STORED).)*?\)(?=,?\s*(?:\n|\)|\Z))", "virtual generated columns"),
)
# Syntax error, feature not supported, undefined object, parameter, function, column, table, invalid value.
_UNKNOWN = frozenset({"42601", "0A000", "42704", "22023", "42883", "42703", "42P01", "42P17", "42P16", "42710"})
_DUPLICATE = frozenset({"42P06", "42P07", "42710", "42723", "42701", "23505"})
_DEPENDENT = "2BP01"
_EXISTS = (
    "The database already has objects of this dump, and the dump does not drop them first: restore it with --clean, "
    "which first deletes everything in the schemas that the dump fills."
)
_DEPENDENTS = (
    "Drop what depends on it, restore, and create it again: --clean deletes dependent objects only inside the schemas "
    "that the dump fills."
)
_ALTERS = frozenset({"ALTER", "ALTER DATABASE"})
_OUT_OF_LOCKS = "53200"
_NO_LOCK = "55P03"
# Characters of a statement.
_SHOWN = 100


def restore_outcome(outcome: Outcome, label: str) -> str:
    """Return the sentence that says in what state a restore leaves its database.

    :param label: The database, for people.
    """
    return {
        Outcome.COMMITTED: f"The restore was already committed: {label} holds the dump.",
        Outcome.ROLLED_BACK: f"The restore was rolled back; {label} is as it was.",
        Outcome.UNKNOWN: f"{label} can't be asked whether the restore was committed: it holds either all of the dump "
        f"or what it held before. Look with `inv db.verify --file=` of this dump.",
    }[outcome]


def reset_outcome(outcome: Outcome, label: str) -> str:
    """Return the sentence that says in what state a reset leaves its database.

    :param label: The database, for people.
    """
    return {
        Outcome.COMMITTED: f"The schemas were already emptied: {label} has nothing in them any more.",
        Outcome.ROLLED_BACK: f"Nothing was changed; {label} is as it was.",
        Outcome.UNKNOWN: f"{label} can't be asked what became of it: the schemas are either empty or as they were.",
    }[outcome]


def raise_commit_failure(commit: CommitResult, state: str) -> None:
    """Raise where a transaction was not committed.

    :param state: The sentence about its outcome.
    :raises OperationFailedError: It was rolled back.
    :raises ServerError: It was rolled back by a lost connection, or no server can be asked.
    """
    if commit.failure is CommitFailure.REFUSED:
        raise OperationFailedError(f"The commit was refused: {commit.detail}. {state}")
    if commit.failure is CommitFailure.NOT_DONE:
        raise OperationFailedError(f"The server rolled back instead of committing. {state}")
    if commit.failure is CommitFailure.CONNECTION_LOST:
        raise ServerError(f"The connection was lost in the commit ({commit.detail.rstrip('.')}). {state}")


def explain_failure(error: Exception, plan: RestorePlan, doing: str) -> Exception:
    """Return an error that says what failed, in what state the database is, and what to do.

    :param error: What ended the transaction before its commit; one of another kind is returned as it is.
    :param doing: What the restore was doing.
    """
    state = restore_outcome(Outcome.ROLLED_BACK, plan.target.label)
    if isinstance(error, psycopg.Error):
        error = as_refusal(error)
    if isinstance(error, StatementError):
        return _explain_refusal(error, plan, error.doing or doing, state)
    kind = ServerError if isinstance(error, LostError) else OperationFailedError
    what = {
        LexError: f"the dump can't be read on, {error}",
        OSError: f"{plan.dump.path.name} can't be read, {getattr(error, 'strerror', '')}",
        OperationFailedError: str(error),
        LostError: plan.target.scrub(str(error)),
    }
    found = next((text for each, text in what.items() if isinstance(error, each)), "")
    return kind(f"While {doing}: {found.rstrip('.')}. {state}") if found else error


def _explain_refusal(error: StatementError, plan: RestorePlan, doing: str, state: str) -> TaskError:
    if error.statement and classify_statement(error.statement).verb in _ALTERS:
        # Which table, and what of it: in a dump it stands in its first words.
        text = error.statement.decode(errors="replace").rstrip(";")
        doing = textwrap.shorten(text, _SHOWN, placeholder=" …")
    if error.sqlstate == _NO_LOCK:
        return ServerError(f"While {doing}: {blocked(plan.target)}. {state}")
    conflict = error.sqlstate in _DUPLICATE | {_DEPENDENT}
    hint = ""
    if conflict and not plan.request.clean and plan.dump.outline.creates_tables:
        hint = f" {_DEPENDENTS if error.sqlstate == _DEPENDENT else _EXISTS}"
    elif error.sqlstate == _OUT_OF_LOCKS:
        hint = " One transaction locks every relation: raise max_locks_per_transaction and restart the server."
    why = explain_version(error.statement, error.sqlstate, plan.dump.server, plan.server)
    return OperationFailedError(f"While {doing}: {error}.{why} {state}{hint}")


def explain_version(statement: bytes, sqlstate: str, dumped: str, server: ServerFacts) -> str:
    """Say of a statement that was refused that it comes from a newer server; empty where that is not why.

    :param dumped: The version of the server that was dumped, as its dump tells.
    """
    major = dumped.split(".", maxsplit=1)[0]
    if sqlstate not in _UNKNOWN or not major.isdigit() or int(major) <= server.major:
        return ""
    found = [
        f"{name}, which came with {since}"
        for since, pattern, name in _NEW
        if server.major < since <= int(major) and re.search(pattern, statement, re.DOTALL)
    ]
    what = f"does not know {found[0]}" if found else "may not know what this statement says"
    return f" The dump comes from PostgreSQL {dumped}; this server is {server.version} and {what}."
