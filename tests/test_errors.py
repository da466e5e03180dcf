"""Errors can be copied and reworded, as threads and steps that hand them on do, and keep what they know."""

import copy
import importlib
import pkgutil

import pytest

import tasks
from tasks.errors import InterruptedBySignalError, TaskError
from tasks.postgres.login_failure import LoginFailure, NotConnectedError
from tasks.postgres.protocol import StatementError

for module in pkgutil.walk_packages(tasks.__path__, "tasks."):
    importlib.import_module(module.name)


def kinds_of(kind: type[TaskError]) -> list[type[TaskError]]:
    """Return all kinds of an error."""
    return [kind, *(each for below in kind.__subclasses__() for each in kinds_of(below))]


@pytest.mark.parametrize("kind", [each for each in kinds_of(TaskError) if each is not InterruptedBySignalError])
def test_errors_of_every_kind_are_copied_and_reworded(kind: type[TaskError]) -> None:
    """With the positional arguments of the class, and its exit code."""
    error = kind("first", "42601") if issubclass(kind, StatementError) else kind("first")

    copied, reworded = copy.copy(error), error.reworded("second")

    assert "first" in error.what
    assert (copied.what, str(copied), str(reworded)) == (error.what, str(error), "second")
    assert type(copied) is type(reworded) is kind
    assert copied.code == reworded.code == kind.exit_code


@pytest.mark.parametrize("kind", [TaskError, NotConnectedError])
def test_a_reworded_error_has_another_fix(kind: type[TaskError]) -> None:
    """As an error of a migration after a restore, whose fix is the undo of the restore."""
    reworded = kind("first").reworded("second", fix="third")

    assert (reworded.what, reworded.fix, str(reworded)) == ("second", "third", "second third")


def test_what_an_error_knows_is_kept() -> None:
    """The reason of a failed login, and the SQLSTATE of a refusal."""
    login = NotConnectedError("first", LoginFailure.NO_ROLE, answered=True).reworded("second")
    refusal = StatementError("first", "42601", "inside").reworded("second")

    assert (login.failure, login.answered, str(login)) == (LoginFailure.NO_ROLE, True, "second")
    assert (refusal.sqlstate, refusal.context, str(refusal)) == ("42601", "inside", "second")
