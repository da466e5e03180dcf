"""The decorator of all tasks, shared help texts, and checks of flags' values."""

from __future__ import annotations

import atexit
import contextlib
import gc
import inspect
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from invoke.tasks import Task

from ..errors import BadInputError, InterruptedBySignalError, TaskError
from ..system.runtime import Interruption, interruptible, standard_streams
from .invoke_errors import check_values, forget_words, note_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from invoke.context import Context
    from invoke.parser.argument import Argument

    from ..config.settings import Settings

FILE_NEEDED = (
    "the dump: a path, a name in the dumps folder, or the first four characters or more of a name or an id (db.list)"
)
FILE = f"{FILE_NEEDED}; by default the newest dump of this database"
FILE_OR_INPUT = f"{FILE_NEEDED}, or - for standard input; by default the newest dump of this database"
NO_BACKUP = "make no safety dump, and drop the old database after a swap; `db.undo` will not be possible"
# The help of flags that several tasks have.
_SHARED = {
    "url_env": "name of the environment variable that holds the URL, instead of DATABASE_URL",
    "yes": "do not wait three seconds before beginning",
    "trust": "as a superuser, load code of other roles or other people without being asked",
    "json": "print JSON, for programs",
    "confirm": "the name of the database; needed if data may be lost and the database is not local, or the dump is of "
    "another one",
    "disconnect": "end the other sessions of the database first, if the role may",
    "lenient": "if PostgreSQL refuses an object, load it in another form (a constraint as NOT VALID); exit code 6",
    "jobs": "the number of sessions that load a new database, by a swap too; by default one for each processor, at "
    "most 4 (one transaction loads with one session)",
    "preserve_order": "load the rows of each table in the order of the dump, with one session for each table",
    "no_backup": "skip the safety dump; `db.undo` will not be possible",
    "checksums": "compare the content of every table, too (of dumps made with --checksums)",
}


class RepeatableTask(Task):  # type: ignore[type-arg]
    """A task that runs each time it is on the command line, and ends with a message after a signal.

    Invoke runs equal tasks only once, so no two of these tasks are equal.
    """

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = Task.__hash__
    reads_input = False

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return the flags, and note an argument without a flag that follows the task on the command line.

        :raises ParseError: A flag has no value on the command line.
        """
        arguments: list[Argument] = super().get_arguments(ignore_unknown_help)
        check_values(str(self.name), arguments, sys.argv[1:])
        note_words(str(self.name), arguments, sys.argv[1:])
        return arguments

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body with signal handlers, and return its result.

        With `--json`, the error message that Invoke prints is JSON.
        """
        forget_words()
        try:
            return self._run_body(*args, **kwargs)
        except TaskError as error:
            if kwargs.get("json") is True:
                from ..output.json_format import error_line

                error.message = error_line(error)
            raise

    def _run_body(self, *args: Any, **kwargs: Any) -> Any:
        # Garbage collection at exit would take about 70 ms, and the process frees its memory anyway.
        atexit.register(gc.freeze)
        try:
            with standard_streams(), interruptible(), self._spooled(args, kwargs) as spooled:
                return super().__call__(*args, **kwargs, **spooled)
        except Interruption as interruption:
            error = InterruptedBySignalError(
                interruption.signum, f"Interrupted ({interruption}). {interruption.state or 'Nothing was touched.'}"
            )
            error.effect = interruption.effect
            raise error from None

    @contextlib.contextmanager
    def _spooled(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if not self.reads_input or kwargs.get("file") != "-":
            yield {}
            return
        from ..dumpfiles.atomic_write import spooled_input

        del kwargs["file"]
        with spooled_input(load(args[0]).dumps) as path:
            yield {"file": str(path)}


def task(
    *,
    help: Mapping[str, str] = MappingProxyType({}),  # noqa: A002
    iterable: Sequence[str] = (),
    name: str | None = None,
    reads_input: bool = False,
) -> Callable[[Callable[..., Any]], Task[Any]]:
    """Return a decorator that makes a :class:`RepeatableTask`; the other parameters are Invoke's own.

    Automatic short flags are off: they would override `-h`, `-f` and others of Invoke.

    :param help: The help of the task's own flags; that of shared flags is known.
    :param reads_input: Accept `--file=-`; the task then gets the path of a file with the content of standard input.
    """

    def decorate(body: Callable[..., Any]) -> Task[Any]:
        shared = {flag: _SHARED[flag] for flag in inspect.signature(body).parameters if flag in _SHARED}
        made = RepeatableTask(body, name=name, auto_shortflags=False, help={**shared, **help}, iterable=list(iterable))
        made.reads_input = reads_input
        return made

    return decorate


def load(ctx: Context, url_env: str | None = None, *, as_json: bool = False, jobs: str | None = None) -> Settings:
    """Load the settings of a run."""
    from ..config.settings import load_settings

    return load_settings(ctx, url_env=given("--url-env", url_env), as_json=as_json, jobs=given("--jobs", jobs))


def given(flag: str, value: str | None) -> str:
    """Return a flag's value; empty if it was not given.

    :raises BadInputError: It was given without a value, most likely by an unset variable of a shell.
    """
    if value is not None and not value.strip():
        raise BadInputError(f"{flag}= is empty. Nothing was touched. Give it a value, or leave it out.")
    return value or ""


def all_given(flag: str, values: Sequence[str] | None) -> tuple[str, ...]:
    """Return the values of a flag that repeats.

    :raises BadInputError: As :func:`given`.
    """
    return tuple(given(flag, value) for value in values or ())


def whole_number(flag: str, value: str | int | None) -> int:
    """Return a flag's number; 0 if it was not given.

    :raises BadInputError: It is not a whole number from 1 on.
    """
    text = given(flag, None if value is None else str(value))
    if text and not (text.isascii() and text.isdigit() and int(text)):
        raise BadInputError(f"{flag} must be a whole number, 1 or more; it is {text!r}. Nothing was touched.")
    return int(text or 0)


def refuse_flags(flag: str, others: Mapping[str, object]) -> None:
    """Raise if flags were given that contradict another one.

    :param flag: A parameter of the task, such as `data_only`.
    :param others: Other parameters, each with its value.
    :raises BadInputError: One of them was given. Nothing was touched.
    """
    if found := [name for name, value in others.items() if value]:
        one, other = (f"--{name.replace('_', '-')}" for name in (found[0], flag))
        text = f"{one} can't be combined with {other}. Nothing was touched."
        raise BadInputError(text, fix="Omit one of the two.")
