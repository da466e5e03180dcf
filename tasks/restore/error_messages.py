"""Explain an error of a restore: what failed, the state of the database, and what to do."""

from __future__ import annotations

import contextlib
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from ..dumpformat.foreign_head import LexError
from ..dumpformat.server_needs import explain_version
from ..dumpformat.statements import classify_statement
from ..errors import OperationFailedError, ServerError, TaskError
from ..formatting import format_list, format_names
from ..inventory.compare import key_of, state_of_manifest
from ..postgres.commit import CommitFailure, Outcome, ask_outcome, commit_transaction
from ..postgres.connection import blocked
from ..postgres.protocol import LostError, StatementError, as_refusal
from ..system.runtime import Interruption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config.target import Target
    from ..postgres.protocol import StatementStream
    from ..safety.safety_dump import SafetyDump
    from .plan import RestorePlan
    from .table_restore import TablesPlan


_DUPLICATE = frozenset({"42P06", "42P07", "42710", "42723", "42701", "23505"})
_DEPENDENT = "2BP01"
_EXISTS = (
    "The database already has objects of this dump, and the dump does not drop them. Restore it with --clean, which "
    "first deletes everything in the schemas that the dump fills."
)
_DEPENDENTS = (
    "Drop the dependent objects, restore, and create them again. --clean deletes dependent objects only inside the "
    "schemas that the dump fills."
)
# Undefined function or operator; relation; other object; column; schema.
_NO_FUNCTION = "42883"
_NOT_FOUND = frozenset({_NO_FUNCTION, "42P01", "42704", "42703", "3F000"})
_ORPHAN = "23503"
_VIOLATED = frozenset({_ORPHAN, "23514"})
# Only for the text of a hint: the server may write in another language.
_FUNCTION = re.compile(r'function "?([^\s"(]+(?:\([^)]*\))?)')
_ALTERS = frozenset({"ALTER", "ALTER DATABASE"})
_OUT_OF_LOCKS = "53200"
_NO_LOCK = "55P03"
_DEADLOCK = "40P01"
# Characters of a statement.
_SHOWN = 100


# What is changed, and what may be.
_CHANGES = {
    "restore": (
        "{} contains the dump",
        "It contains either all of the dump or its old content. Check with `inv db.verify --file=` of this dump.",
    ),
    "reset": ("the schemas of {} are empty", "The schemas are either empty or unchanged."),
}


def describe_outcome(outcome: Outcome, label: str, change: str = "restore") -> str:
    """Return the sentence about the state of the database after a change failed or was interrupted.

    :param label: The database, for the message.
    :param change: `restore` or `reset`.
    """
    done, either = _CHANGES[change]
    return {
        Outcome.COMMITTED: f"The {change} was already committed: {done.format(label)}.",
        Outcome.ROLLED_BACK: f"The {change} was rolled back; {label} was not changed.",
        Outcome.UNKNOWN: f"It is unknown whether the {change} was committed, because {label} does not answer. {either}",
    }[outcome]


@dataclass(kw_only=True)
class Commit:
    """The commit of a change, and its outcome.

    :ivar safety: The safety dump of the change.
    :ivar change: `restore` or `reset`.
    :ivar xid: The id of the transaction, once its commit may have begun.
    """

    safety: SafetyDump
    target: Target
    change: str = "restore"
    xid: str = ""
    # Until COMMIT is sent, every failure rolls back.
    outcome: Outcome = Outcome.ROLLED_BACK

    @property
    def state(self) -> str:
        """Return the sentence about the state of the database."""
        return describe_outcome(self.outcome, self.target.label, self.change)

    def run(self, stream: StatementStream, xid: str) -> None:
        """Commit the transaction with this id.

        :raises OperationFailedError: The transaction was rolled back.
        :raises ServerError: The connection was lost, and the transaction was rolled back or its outcome is unknown.
        """
        self.xid = xid
        done = commit_transaction(stream, xid, self.target, self.safety.server.system_identifier)
        self.outcome = done.outcome
        if done.failure is CommitFailure.REFUSED:
            raise OperationFailedError(f"The server refused the commit: {done.detail}. {self.state}")
        if done.failure is CommitFailure.NOT_DONE:
            raise OperationFailedError(f"The server rolled back instead of committing. {self.state}")
        if done.failure is CommitFailure.CONNECTION_LOST:
            raise ServerError(f"The connection was lost during the commit ({done.detail.rstrip('.')}). {self.state}")

    @contextlib.contextmanager
    def reported(self) -> Iterator[None]:
        """Give an error or an interruption in a block the outcome; after a rollback, delete the safety dump."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, Interruption):
                if self.xid and self.outcome is not Outcome.COMMITTED:
                    self.outcome = ask_outcome(self.xid, self.target, self.safety.server.system_identifier)
                error.state = self.state
            if isinstance(error, TaskError | Interruption):
                error.effect = self.outcome.effect
            self.safety.discard_after(self.outcome)
            raise


def explain_failure(error: Exception, plan: RestorePlan, doing: str) -> Exception:
    """Return an error that says what failed, the state of the database and what to do.

    :param error: The error that ended the transaction before its commit. Unknown kinds are returned unchanged.
    :param doing: The step of the restore, such as "loading public.orders".
    """
    state = describe_outcome(Outcome.ROLLED_BACK, plan.target.label)
    if isinstance(error, psycopg.Error):
        error = as_refusal(error)
    if isinstance(error, StatementError):
        return _explain_refusal(error, plan, error.doing or doing, state)
    kind = ServerError if isinstance(error, LostError) else OperationFailedError
    what = {
        LexError: f"the dump can't be read any further: {error}",
        OSError: f"{plan.dump.path.name} can't be read: {getattr(error, 'strerror', '')}",
        OperationFailedError: str(error),
        LostError: plan.target.scrub(str(error)),
    }
    found = next((text for each, text in what.items() if isinstance(error, each)), "")
    return kind(f"{_failed(doing)}: {found.rstrip('.')}.", state=state) if found else error


def _failed(doing: str) -> str:
    """Return a clause about the failure of a step, such as "loading public.orders"."""
    return f"{doing[:1].upper()}{doing[1:]} failed"


def _explain_refusal(error: StatementError, plan: RestorePlan, doing: str, state: str) -> TaskError:
    if error.statement and classify_statement(error.statement).verb in _ALTERS:
        # The first words of the statement name the table and the change.
        text = error.statement.decode(errors="replace").rstrip(";")
        doing = textwrap.shorten(text, _SHOWN, placeholder=" …")
    if error.sqlstate == _NO_LOCK and not error.raised:
        return ServerError(f"{_failed(doing)}: {blocked(plan.target)}.", state=state)
    if error.sqlstate == _DEADLOCK and not error.raised:
        return ServerError(f"{_failed(doing)}: {error}.", state=state, fix="Run it again, or with --disconnect.")
    conflict = error.sqlstate in _DUPLICATE | {_DEPENDENT}
    hint = ""
    if plan.tables is not None:
        hint = _table_hint(error, plan.tables)
    elif conflict and not plan.request.clean and plan.dump.outline.creates_tables:
        hint = f" {_DEPENDENTS if error.sqlstate == _DEPENDENT else _EXISTS}"
        if plan.other_tables:
            others = format_list(plan.other_tables)
            hint += (
                f" It also deletes tables that the dump does not contain: {others}. To keep them, drop only the others."
            )
    elif error.sqlstate == _OUT_OF_LOCKS and not error.raised:
        hint = " The restore locks every relation. Raise max_locks_per_transaction and restart the server."
    why = explain_version(error.statement, error.sqlstate, plan.dump.server, plan.server.version)
    skipped = ", ".join(plan.request.skip_extensions)
    if skipped and error.sqlstate in _NOT_FOUND:
        hint = f" If this belongs to {skipped}, which --skip-extension left out, the dump needs the extension."
    elif not (hint or why or plan.lenient or plan.tables):
        hint = _lenient_hint(error, plan)
    where = f" ({error.context.rstrip('.')})" if error.context else ""
    return OperationFailedError(f"{_failed(doing)}: {error}{where}.{why}", state=state, fix=hint.strip())


def _table_hint(error: StatementError, tables: TablesPlan) -> str:
    """Return the hint for an error of a restore with --table; empty without one."""
    if error.sqlstate in _NOT_FOUND and tables.data_only:
        return " The table has other columns than in the dump. Without --data-only, its definition is also restored."
    if error.sqlstate in _NOT_FOUND:
        return " The dump's definition needs an object that this database lacks and that --table does not restore."
    if error.sqlstate == _ORPHAN:
        return " The rows reference missing rows of another table. Restore that table, too (--table)."
    return ""


def _lenient_hint(error: StatementError, plan: RestorePlan) -> str:
    """Return the hint for an error that --lenient may avoid; empty for others."""
    named = _FUNCTION.search(error.context)
    function = _with_arguments(named[1], plan) if named else ""
    manifest = plan.dump.manifest
    if error.sqlstate == _ORPHAN and manifest is not None and manifest.excluded_data:
        return (
            f" The dump lacks the rows of {format_names(manifest.excluded_data)}, which other rows may reference. Make "
            f"a dump with these rows, or restore with --lenient, which adds the foreign key as NOT VALID and ends with "
            f"exit code 6."
        )
    if error.sqlstate in _VIOLATED:
        return (
            " The rows violate the constraint, or it reads a table whose rows are loaded later. --lenient loads the "
            "rows, adds violated constraints as NOT VALID, and ends with exit code 6."
        )
    if error.sqlstate not in _NOT_FOUND or not (function or error.sqlstate == _NO_FUNCTION):
        return ""
    repair = (
        f"In the dumped database, run ALTER FUNCTION {function} SET search_path = …; or restore" if function else ""
    )
    return (
        f" A dump is loaded with an empty search_path, so a name without its schema is not found. "
        f"{repair or 'Restore'} with --lenient, which tries the search_path of the dumped database and ends with exit "
        f"code 6."
    )


def _with_arguments(function: str, plan: RestorePlan) -> str:
    """Return a function's name with its arguments, if the dump has only one function of this name."""
    if "(" in function or plan.dump.manifest is None:
        return function
    known = state_of_manifest(plan.dump.manifest).objects.get("function", ())
    found = [each for each in known if key_of(each.partition("(")[0])[1] == function]
    return found[0] if len(found) == 1 else function
