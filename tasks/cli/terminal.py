"""Print steps, progress, warnings, questions and tables.

Results are written to standard output, everything else to standard error.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import textwrap
import time
import unicodedata
from typing import TYPE_CHECKING, Any, TextIO

from ..formatting import printable
from ..system.processes import read_environment
from ..system.runtime import defer_signals, written

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from ..config.settings import Output, Settings
    from ..progress import Report


# Seconds between two lines of progress in a log, and between two updates of a terminal.
LOG_SECONDS = 10.0
SCREEN_SECONDS = 0.1
# A file or a pipe has no width, so lines are not broken.
_ANY_WIDTH = 100_000
# In narrower terminals, lines are broken by the terminal.
_NARROW = 30


class Plain:
    """A file or a pipe with the methods of rich's Console that are used here.

    It avoids loading rich, which takes a good part of a short command's time.
    """

    is_terminal = False
    width = _ANY_WIDTH

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def print(self, text: str, style: str | None = None, end: str = "\n") -> None:  # noqa: ARG002 - rich's
        """Write a text unchanged, and flush."""
        self.stream.write(text + end)
        self.stream.flush()


def open_console(*, stderr: bool) -> Console | Plain:
    """Return a console for standard output or standard error: a terminal, a file or a pipe."""
    stream: Any = sys.stderr if stderr else sys.stdout
    environ = read_environment()
    # Characters that the stream's encoding lacks are escaped.
    with contextlib.suppress(AttributeError, ValueError):
        stream.reconfigure(errors="backslashreplace")
    if not stream.isatty() and environ.get("FORCE_COLOR", "0") in {"", "0"}:
        return Plain(stream)
    from rich.console import Console

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            """Raise the error, as :class:`Plain` does."""
            raise  # noqa: PLE0704 - rich calls this in its `except` block

    terminal = stream.isatty()
    # Without markup and highlighting, names of files and tables are shown unchanged.
    screen = Screen(
        stderr=stderr,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=True,
        # A bar would fill a log with control sequences.
        force_interactive=None if terminal else False,
    )
    if not terminal and "COLUMNS" not in environ:
        screen.width = _ANY_WIDTH
    return screen


def say(console: Console | Plain, text: str, style: str | None = None, *, indent: int = 2) -> None:
    """Print a line; in a terminal, wrap it between words with an indent.

    :param indent: The indent of the wrapped lines, added to the line's own.
    """
    line = printable(text)
    if console.is_terminal and console.width > _NARROW:
        line = textwrap.fill(
            line,
            console.width,
            subsequent_indent=" " * (len(line) - len(line.lstrip()) + indent),
            expand_tabs=False,
            replace_whitespace=False,
            # Paths and names can then be copied as one piece.
            break_long_words=False,
            break_on_hyphens=False,
        )
    console.print(line, style=style)


class Reporter:
    """Prints the messages of a task; see :class:`tasks.progress.Report`.

    :param console: Opens the console at the first message: loading rich takes time, in which the server can work.
    """

    def __init__(self, output: Output, console: Callable[[], Console | Plain]) -> None:
        self._output = output.value
        self._open = console
        self._bar: TaskID | None = None
        self._began = time.monotonic()
        self._seen = (0, "")
        self._what = ""
        self._lines_from = self._began + LOG_SECONDS
        self._next = 0.0 if sys.stderr.isatty() else self._lines_from

    @functools.cached_property
    def _console(self) -> Console | Plain:
        return self._open()

    @functools.cached_property
    def _progress(self) -> Progress | None:
        console = self._console
        return None if isinstance(console, Plain) or not console.is_interactive else _bars(console)

    def step(self, text: str) -> None:
        """Print a finished step, unless quiet."""
        if self._output != "quiet":
            say(self._console, text)

    def detail(self, text: str) -> None:
        """Print a detail, if verbose."""
        if self._output == "verbose":
            say(self._console, text, "dim")

    def warn(self, text: str) -> None:
        """Print a warning, even if quiet."""
        say(self._console, f"Warning: {text}", "yellow")

    def ask(self, question: str) -> str | None:
        """Ask the user and return the answer; None without a terminal."""
        self.close()
        return ask(question)

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Show the progress: as a bar in a terminal, else as a line every ten seconds."""
        now = time.monotonic()
        if not what:
            self.close()
            return
        # A new count, or one in another unit, has its own speed.
        if done < self._seen[0] or unit != self._seen[1]:
            self._began = now
        self._seen = (done, unit)
        # A bar shows a new phase at once, because the phase may take long.
        is_shown = self._bar is None or what == self._what
        if self._output == "quiet" or (now < self._next and is_shown):
            return
        self._what = what
        if self._progress is None:
            if now < self._lines_from:
                return
            self._next = now + LOG_SECONDS
            self._console.print(printable(f"  {what}{_share(done, total, unit, now - self._began)}"))
            return
        self._next = now + SCREEN_SECONDS
        if self._bar is None:
            self._bar = self._progress.add_task("", amount="")
        if not self._progress.live.is_started:
            # A bar whose start was interrupted could not be removed.
            with defer_signals():
                self._progress.start()
        self._progress.update(
            self._bar,
            description=printable(what),
            completed=min(done, total) if total else done,
            total=total or None,
            amount=_share(done, total, unit, now - self._began).removeprefix(": "),
        )

    def close(self) -> None:
        """Remove the bar, if there is one."""
        if self._bar is not None and self._progress is not None:
            self._progress.stop()
            self._next = 0.0


def can_ask() -> bool:
    """Return whether there is a terminal to ask at."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str) -> str | None:
    """Ask the user and return the answer without surrounding blanks; None without a terminal."""
    if not can_ask():
        return None
    console = open_console(stderr=True)
    *lines, last = question.split("\n")
    for line in lines:
        say(console, line, "yellow")
    console.print(printable(last), style="yellow", end="")
    return sys.stdin.readline().strip()


def _share(done: int, total: int, unit: str, seconds: float) -> str:
    """Return the amount, the percentage and the speed as text; no percentage if the estimated total was too low."""
    if not unit:
        return ""
    rate = done / seconds if seconds > 0 else 0.0
    amount = f"{done / 1e6:,.1f} MB" if unit == "bytes" else f"{done:,} {unit}"
    speed = f"{rate / 1e6:,.1f} MB/s" if unit == "bytes" else f"{rate:,.0f} {unit}/s"
    return f": {amount}" + (f", {100 * done // total} %" if 0 < done <= total else "") + f", {speed}"


@contextlib.contextmanager
def reporting(settings: Settings) -> Iterator[Report]:
    """Yield a reporter for a task, and remove its progress bar at the end."""
    reporter = Reporter(settings.output, lambda: open_console(stderr=True))
    try:
        yield reporter
    finally:
        reporter.close()


def _bars(console: Console) -> Progress:
    """Return a progress bar that fits on one line of any terminal."""
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.table import Column
    from rich.text import Text

    bar = max(5, min(40, console.width // 8))

    class Label(ProgressColumn):
        def render(self, task: Task) -> Text:
            """Shorten the description to the width left by the bar, the amount, the time and the gaps."""
            width = console.width - bar - count_cells(task.fields["amount"]) - len("0:00:00") - 3
            return Text(shorten_middle(task.description, max(10, width)))

    return Progress(
        Label(table_column=Column(no_wrap=True, overflow="crop")),
        BarColumn(bar_width=bar),
        TextColumn("{task.fields[amount]}", markup=False, table_column=Column(no_wrap=True, overflow="crop")),
        TimeElapsedColumn(table_column=Column(no_wrap=True, overflow="crop")),
        console=console,
        transient=True,
    )


def print_line(text: str) -> None:
    """Print one line of a result."""
    print_lines([(text, None, 2)])


def print_lines(lines: Iterable[tuple[str, str | None, int]]) -> None:
    """Print lines of a result, each with its style and the indent of its wrapped lines."""
    console = open_console(stderr=False)
    with written():
        for text, style, indent in lines:
            say(console, text, style, indent=indent)


def print_raw(lines: Iterable[str]) -> None:
    """Print rows or JSON without wrapping; they must be escaped already."""
    with written():
        sys.stdout.writelines(f"{line}\n" for line in lines)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    gap: int = 3,
    marked: Container[int] = (),
) -> None:
    """Print a table with a header; as lists of its cells if it is wider than the terminal; nothing if it is empty.

    :param right: The columns that are aligned to the right.
    :param gap: The number of spaces between two columns.
    :param marked: The indexes of highlighted rows.
    """
    printed = [tuple(map(printable, row)) for row in rows]
    if not printed:
        return
    console, widths = open_console(stderr=False), column_widths(columns, printed)
    styles = ["bold red" if number in marked else None for number in range(len(printed))]
    rule = " " + "-" * (sum(widths) + gap * (len(widths) - 1))
    if len(rule) > console.width:
        print_lines(_stacked(columns, printed, styles))
        return

    def aligned(row: Sequence[str]) -> str:
        padding = [" " * (width - count_cells(cell)) for width, cell in zip(widths, row, strict=True)]
        cells = zip(columns, padding, row, strict=True)
        return " " + (" " * gap).join(pad + cell if name in right else cell + pad for name, pad, cell in cells).rstrip()

    body = zip(map(aligned, printed), styles, strict=True)
    with written():
        for line, style in ("", None), (aligned(columns), "bold"), (rule, None), *body, ("", None):
            console.print(line, style=style)


def column_widths(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[int]:
    """Return the number of cells of a terminal that each column of a table needs."""
    return [max(map(count_cells, column)) for column in zip(columns, *rows, strict=True)]


def _stacked(
    columns: Sequence[str], rows: Iterable[Sequence[str]], styles: Iterable[str | None]
) -> Iterator[tuple[str, str | None, int]]:
    """Yield each row as two lines: its first cell, then the others with the names of their columns."""
    for (first, *others), style in zip(rows, styles, strict=True):
        named = [f"{column} {cell}".strip() for column, cell in zip(columns[1:], others, strict=True) if cell]
        yield first, style, 4
        yield "  " + ", ".join(named), style, 4


def shorten_middle(text: str, width: int) -> str:
    """Return a text with dots instead of its middle if it is wider than this number of cells."""
    if count_cells(text) <= width:
        return text
    begin, end = text[: len(text) // 2], text[len(text) // 2 :]
    while count_cells(begin) + count_cells(end) + len("...") > width:
        begin, end = (begin[:-1], end) if count_cells(begin) > count_cells(end) else (begin, end[1:])
    return f"{begin}...{end}"


def count_cells(text: str) -> int:
    """Return the width of a text in cells of a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def print_json(document: Mapping[str, Any]) -> None:
    """Print the result of a task as JSON, with the version of the format."""
    from ..output.json_format import document_text

    print_raw([document_text(document)])
