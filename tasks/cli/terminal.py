"""How a person sees it: steps, progress, warnings, tables, numbers and names; and JSON for programs.

Results go to standard output; everything on the way goes to standard error.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import textwrap
import time
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from ..formatting import printable
from ..system.processes import read_environment
from ..system.runtime import defer_signals, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from ..config.settings import Output, Settings
    from ..progress import Report


# Without a terminal a line of progress is a line of a log.
LOG_SECONDS = 10.0
SCREEN_SECONDS = 0.1
# A file or a pipe has no width: lines are as long as they are.
_ANY_WIDTH = 100_000
# Below this many columns a terminal breaks lines itself.
_NARROW = 30


class Plain:
    """A file or a pipe, as far as it is used like rich's console: no width and no colours.

    It does without rich, whose loading takes a good part of a small command's time.
    """

    is_terminal = False
    is_interactive = False
    width = _ANY_WIDTH

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def print(self, text: str, style: str | None = None, end: str = "\n") -> None:  # noqa: ARG002 - rich's
        """Write it as it is, now."""
        self.stream.write(text + end)
        self.stream.flush()


def open_console(*, stderr: bool) -> Console | Plain:
    """Open what people see, as it is at this moment: a terminal, a file or a pipe."""
    stream, environ = sys.stderr if stderr else sys.stdout, read_environment()
    _escape_unencodable(stream)
    if not stream.isatty() and environ.get("FORCE_COLOR", "0") in {"", "0"}:
        return Plain(stream)
    from rich.console import Console

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            """Hand it on, as a pipe without colours does."""
            raise  # noqa: PLE0704 - rich calls it where it has caught the error

    terminal = stream.isatty()
    # No markup and no highlighting: names of files and tables are shown as they are.
    screen = Screen(
        stderr=stderr,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=True,
        # A bar would fill a log with what takes it down again.
        force_interactive=None if terminal else False,
    )
    if not terminal and "COLUMNS" not in environ:
        screen.width = _ANY_WIDTH
    return screen


def _escape_unencodable(stream: Any) -> None:
    """Let a terminal that knows few letters get the code of the others; it is no reason to fail."""
    with contextlib.suppress(AttributeError, ValueError):
        stream.reconfigure(errors="backslashreplace")


def say(console: Console | Plain, text: str, style: str | None = None, *, indent: int = 2) -> None:
    """Print a line; a terminal's is broken between words, and goes on with an indent.

    :param indent: On top of the line's own.
    """
    line = printable(text)
    if console.is_terminal and console.width > _NARROW:
        line = textwrap.fill(
            line,
            console.width,
            subsequent_indent=" " * (len(line) - len(line.lstrip()) + indent),
            expand_tabs=False,
            replace_whitespace=False,
            # A path or a name that is to be copied stays in one piece.
            break_long_words=False,
            break_on_hyphens=False,
        )
    console.print(line, style=style)


class Reporter:
    """Shows what a flow says; see :class:`tasks.progress.Report`.

    :param console: Opens what it is shown on, once there is something to show: that takes time, which the server
        may need for its own work by then.
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
        """Show a finished step."""
        if self._output != "quiet":
            say(self._console, text)

    def detail(self, text: str) -> None:
        """Show a line for who wants to see everything."""
        if self._output == "verbose":
            say(self._console, text, "dim")

    def warn(self, text: str) -> None:
        """Show a line that nobody should miss, however quiet."""
        say(self._console, f"Warning: {text}", "yellow")

    def ask(self, question: str) -> str | None:
        """Ask a person; None where standard input and error are no terminal."""
        self.close()
        return ask(question)

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Show how far the work is: a bar in a terminal, now and then a line elsewhere."""
        now = time.monotonic()
        if not what:
            self.close()
            return
        # What is counted anew, or in another unit, has a speed of its own.
        if done < self._seen[0] or unit != self._seen[1]:
            self._began = now
        self._seen = (done, unit)
        # A bar says at once what is waited for, as that may take long.
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
            # A bar that has half begun could not be taken down.
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
        """Take down the bar, if there is one."""
        if self._bar is not None and self._progress is not None:
            self._progress.stop()
            self._next = 0.0


def ask(question: str) -> str | None:
    """Ask a person, and return the answer without blanks around it; None where no terminal is there to ask."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    console = open_console(stderr=True)
    *lines, last = question.split("\n")
    for line in lines:
        say(console, line, "yellow")
    console.print(printable(last), style="yellow", end="")
    return sys.stdin.readline().strip()


def _share(done: int, total: int, unit: str, seconds: float) -> str:
    """Say how much is done, of how much, and how fast; a total that was estimated too low is not shown."""
    if not unit:
        return ""
    rate = done / seconds if seconds > 0 else 0.0
    amount = f"{done / 1e6:,.1f} MB" if unit == "bytes" else f"{done:,} {unit}"
    speed = f"{rate / 1e6:,.1f} MB/s" if unit == "bytes" else f"{rate:,.0f} {unit}/s"
    return f": {amount}" + (f", {100 * done // total} %" if 0 < done <= total else "") + f", {speed}"


@contextlib.contextmanager
def reporting(settings: Settings) -> Iterator[Report]:
    """Give a flow something to report to; in a terminal its progress is a bar that goes when it is done."""
    reporter = Reporter(settings.output, lambda: open_console(stderr=True))
    try:
        yield reporter
    finally:
        reporter.close()


def _bars(console: Console) -> Progress:
    """Make the bar: one line, however narrow the terminal is and however few letters it knows."""
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.table import Column
    from rich.text import Text

    bar = max(5, min(40, console.width // 8))

    class Label(ProgressColumn):
        def render(self, task: Task) -> Text:
            """Shorten what is in work to what the bar, the amount, the time and the gaps leave."""
            room = console.width - bar - count_cells(task.fields["amount"]) - len("0:00:00") - 3
            return Text(shorten_middle(task.description, max(10, room)))

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
    """Print lines of a result, each with its style and what its continuation is indented by."""
    console = open_console(stderr=False)
    with written():
        for text, style, indent in lines:
            say(console, text, style, indent=indent)


def print_raw(lines: Iterable[str]) -> None:
    """Print rows or JSON, which no terminal's width breaks and which were escaped before."""
    with written():
        sys.stdout.writelines(f"{line}\n" for line in lines)


@dataclass(frozen=True)
class Table:
    """Rows of cells, below names of columns.

    :ivar right: The columns of numbers.
    :ivar gap: How many spaces are between two columns.
    """

    columns: tuple[str, ...]
    right: Sequence[str] = ()
    gap: int = 3
    rows: list[tuple[str, ...]] = field(default_factory=list)
    marked: set[int] = field(default_factory=set)

    def add(self, *cells: str, marked: bool = False) -> None:
        """Add a row.

        :param marked: Shown so that nobody misses it.
        """
        if marked:
            self.marked.add(len(self.rows))
        self.rows.append(tuple(printable(cell) for cell in cells))


def print_table(table: Table) -> None:
    """Print a table, or what stands in its rows where it is wider than the terminal; of an empty one nothing."""
    if not table.rows:
        return
    console = open_console(stderr=False)
    lines = list(_side_by_side(table))
    if max(count_cells(line) for line, _ in lines) > console.width:
        print_lines((line, style, 4) for line, style in _stacked(table))
        return
    with written():
        for line, style in ("", None), *lines, ("", None):
            console.print(line, style=style)


def _side_by_side(table: Table) -> Iterator[tuple[str, str | None]]:
    """Write it as lines that are as wide as they need."""
    widths = [max(map(count_cells, column)) for column in zip(table.columns, *table.rows, strict=True)]
    yield _row(table, table.columns, widths), "bold"
    yield " " + "-" * (sum(widths) + table.gap * (len(widths) - 1)), None
    for number, row in enumerate(table.rows):
        yield _row(table, row, widths), _style(table, number)


def _row(table: Table, cells: tuple[str, ...], widths: Sequence[int]) -> str:
    padding = [" " * (width - count_cells(cell)) for width, cell in zip(widths, cells, strict=True)]
    padded = [
        pad + cell if column in table.right else cell + pad
        for column, pad, cell in zip(table.columns, padding, cells, strict=True)
    ]
    return " " + (" " * table.gap).join(padded).rstrip()


def _stacked(table: Table) -> Iterator[tuple[str, str | None]]:
    """Write a row as its first cell, and below it the others, each behind the name of its column."""
    for number, (first, *others) in enumerate(table.rows):
        named = [f"{column} {cell}".strip() for column, cell in zip(table.columns[1:], others, strict=True) if cell]
        yield first, _style(table, number)
        yield "  " + ", ".join(named), _style(table, number)


def _style(table: Table, number: int) -> str | None:
    return "bold red" if number in table.marked else None


def shorten_middle(text: str, width: int) -> str:
    """Replace the middle of a text with dots where it takes more cells than this."""
    if count_cells(text) <= width:
        return text
    begin, end = text[: len(text) // 2], text[len(text) // 2 :]
    while count_cells(begin) + count_cells(end) + len("...") > width:
        begin, end = (begin[:-1], end) if count_cells(begin) > count_cells(end) else (begin, end[1:])
    return f"{begin}...{end}"


def count_cells(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)
