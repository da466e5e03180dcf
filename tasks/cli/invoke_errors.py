"""What Invoke refuses before one of these tasks begins: a configuration of the wrong type, a dump without `--file=`."""

from __future__ import annotations

import atexit
import sys
import traceback
from typing import TYPE_CHECKING

from invoke.config import AmbiguousMergeError
from invoke.exceptions import AmbiguousEnvVar, UncastableEnvVar

from ..formatting import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from invoke.parser.argument import Argument

EXIT_CODE = 2
# The methods of Invoke's configuration that read the files and put them together.
_READING = ("_load_file", "merge", "load_shell_env")
# Words behind tasks that take a dump; Invoke refuses them, if they are no tasks.
_words: list[str] = []


def explain_errors() -> None:
    """Let errors in a configuration file end in a sentence, and a refused word in a hint."""
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
        what = "a variable INVOKE_… sets what a file gives another type"
    elif hasattr(error, "problem_mark"):
        # YAML's errors, of which Invoke may have a copy of its own.
        what = " ".join(str(error).split())
    else:
        what = "it holds no settings by name"
    return (
        f"Invoke's configuration (invoke.yaml) can't be used: {what}. Settings of these tasks are texts or numbers "
        f"below `db:`, as in `db: {{compress: gzip}}`. Nothing was touched."
    )


def note_words(task: str, arguments: Iterable[Argument], argv: Sequence[str]) -> None:
    """Note the word that follows a task on the command line and is none of its flags.

    :param task: The task's own name, without that of its collection.
    :param arguments: Its flags.
    """
    known = list(arguments)
    if "file" not in {each.name for each in known}:
        return
    valued = {f"--{str(each.name).replace('_', '-')}" for each in known if each.kind is not bool}
    at = next((at for at, word in enumerate(argv) if word.rpartition(".")[2] == task), len(argv))
    before = ""
    for word in argv[at + 1 :]:
        if not word.startswith("-") and before not in valued:
            _words.append(word)
            return
        before = word


def forget_words() -> None:
    """Forget the noted words, as Invoke has understood the command line."""
    _words.clear()


def _give_hint() -> None:
    for word in dict.fromkeys(_words):
        sys.stderr.write(printable(f"If {word} is a dump, write --file={word}") + "\n")
