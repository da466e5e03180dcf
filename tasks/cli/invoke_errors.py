"""Explain Invoke's own errors before a task begins: wrong types in invoke.yaml, a dump without `--file=`."""

from __future__ import annotations

import atexit
import sys
import traceback
from typing import TYPE_CHECKING

from invoke.config import AmbiguousMergeError
from invoke.exceptions import AmbiguousEnvVar, ParseError, UncastableEnvVar

from ..formatting import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from invoke.parser.argument import Argument

EXIT_CODE = 2
# The methods of Invoke's configuration that read and merge the files.
_READING = ("_load_file", "merge", "load_shell_env")
# Arguments without a flag after tasks that take a dump; Invoke refuses them unless they are tasks.
_words: list[str] = []


def explain_errors() -> None:
    """Print errors in a configuration file as a message, and add a hint to a refused argument."""
    before = sys.excepthook

    def explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not _is_of_configuration(trace):
            before(kind, error, trace)
            return
        sys.stderr.write(f"{printable(_sentence(error, trace))}\n")
        raise SystemExit(EXIT_CODE)

    sys.excepthook = explain
    atexit.register(_give_hint)


def _is_of_configuration(trace: TracebackType | None) -> bool:
    frames = (frame for frame, _ in traceback.walk_tb(trace))
    return any(each.f_globals.get("__name__") == "invoke.config" and each.f_code.co_name in _READING for each in frames)


def _sentence(error: BaseException, trace: TracebackType | None) -> str:
    if isinstance(error, AmbiguousMergeError):
        frames = (frame for frame, _ in traceback.walk_tb(trace) if frame.f_code.co_name == "merge_dicts")
        name = ".".join(str(frame.f_locals["key"]) for frame in frames if "key" in frame.f_locals)
        what = f"`{name}` has a value of the wrong type"
    elif isinstance(error, UncastableEnvVar | AmbiguousEnvVar):
        what = "a variable INVOKE_… sets an option that has another type in a file"
    elif hasattr(error, "problem_mark"):
        # A YAML error; Invoke may have its own copy of the class.
        what = " ".join(str(error).split())
    else:
        what = "it is not a mapping of names to values"
    return (
        f"Invoke's configuration (invoke.yaml) can't be read: {what}. Nothing was touched. The settings of these tasks "
        f"are texts or numbers below `db:`, as in `db: {{compress: gzip}}`."
    )


def note_words(task: str, arguments: Sequence[Argument], argv: Sequence[str]) -> None:
    """Note the first argument without a flag that follows a task on the command line.

    :param task: The task's name without its collection.
    :param arguments: The task's flags.
    :param argv: The command line.
    """
    if "file" not in {each.name for each in arguments}:
        return
    for flag, word in _own_words(task, arguments, argv):
        if word and not flag and not word.startswith("-"):
            _words.append(word)
            return


def check_values(task: str, arguments: Sequence[Argument], argv: Sequence[str]) -> None:
    """Raise if a flag of a task has no value; Invoke itself ignores those that repeat, or takes the next flag.

    :param task: The task's name without its collection.
    :param arguments: The task's flags.
    :param argv: The command line.
    :raises ParseError: As Invoke raises it for other flags.
    """
    if "--complete" in argv:
        return
    for flag, word in _own_words(task, arguments, argv):
        if flag and (not word or word.startswith("--")):
            raise ParseError(
                f"Flag {flag} needed value and was not given one! If the value starts with two hyphens, write {flag}=…"
            )


def _own_words(task: str, arguments: Sequence[Argument], argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the words behind each mention of a task, up to the next word that is neither a flag nor a flag's value.

    :return: Each word, with the flag whose value it is, if any; an empty word behind a flag that is the last.
    """
    valued = {f"--{str(each.name).replace('_', '-')}" for each in arguments if each.takes_value}
    for at, name in enumerate(argv):
        if name.rpartition(".")[2] != task:
            continue
        flag = ""
        for word in argv[at + 1 :]:
            yield flag, word
            if not flag and not word.startswith("-"):
                break
            flag = word if word in valued and not flag else ""
        else:
            if flag:
                yield flag, ""


def forget_words() -> None:
    """Delete the noted arguments, because Invoke has accepted the command line."""
    _words.clear()


def _give_hint() -> None:
    for word in dict.fromkeys(_words):
        sys.stderr.write(printable(f"If {word} is a dump, write --file={word}") + "\n")
