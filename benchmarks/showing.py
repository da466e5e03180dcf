"""Shows a result in the terminal: tables by rich, bars by plotext."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotext
from rich.console import Console
from rich.table import Table

from .figures import figures, targets

if TYPE_CHECKING:
    from .figures import Figures
    from .results import Result

KINDS = ("dump", "dump, throttled", "restore", "restore, throttled", "verify", "gzip", "list")
HEADINGS = ("median s", "min to max", "ratio", "CPU s", "ours alone", "MB ours", "MB any", "MB WAL", "MB files")
_BARS = 80
_SHORTER = {
    " --yes": "",
    "--file=ours": "",
    "python -m benchmarks.": "",
    "(over a filled database)": "(filled)",
    "(into an empty database)": "(empty)",
}
_MET = {True: "met", False: "not met", None: "?"}


def show(result: Result) -> None:
    """Print everything: a table for each database and kind, bars of the journal's, and the targets."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 200
    for database, contents in result.databases.items():
        for kind in KINDS:
            if found := figures(result, database, kind):
                title = f"{database}: {kind} ({contents.rows:,} rows, {contents.bytes / 1e6:,.0f} MB)"
                console.print(_table(title, found))
                if database == "journal" and len(found) > 1:
                    text = _bars(found)
                    print(text if console.is_terminal else plotext.uncolorize(text))
    console.print(_targets(result))


def cells(each: Figures) -> tuple[str, ...]:
    """Write a command's numbers as :data:`HEADINGS` names them; what is not ours has no process of ours."""
    digits = 3 if each.median < 1 else 2
    return (
        f"{each.median:.{digits}f}",
        f"{each.least:.{digits}f} to {each.most:.{digits}f}",
        "" if each.ratio is None else f"{each.ratio:.2f}",
        f"{each.cpu:.2f}",
        f"{each.own_cpu:.2f}" if each.measured.ours else "",
        f"{each.own_peak:.0f}" if each.measured.ours else "",
        f"{each.peak:.0f}",
        f"{each.wal / 1e6:.1f}",
        f"{each.written / 1e6:.1f}",
    )


def met(value: bool | None) -> str:
    """Say whether a target was met."""
    return _MET[value]


def short(shown: str, letters: int) -> str:
    """Shorten a command for a label; what says nothing about the way goes."""
    for said, shorter in _SHORTER.items():
        shown = shown.replace(said, shorter)
    return shown[:letters]


def _table(title: str, found: list[Figures]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("command")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for each in found:
        table.add_row(each.measured.shown, *cells(each), style="bold" if each.measured.ours else "")
    return table


def _bars(found: list[Figures]) -> str:
    plotext.clear_figure()
    labels = [short(each.measured.shown, 46) for each in found]
    plotext.simple_bar(labels, [round(each.median, 2) for each in found], width=_BARS)
    return str(plotext.build())


def _targets(result: Result) -> Table:
    table = Table(title="Targets", title_justify="left", box=None, pad_edge=False)
    for heading in ("what", "wanted", "measured", ""):
        table.add_column(heading)
    for target in targets(result):
        table.add_row(target.what.replace("`", ""), target.wanted, target.measured.replace("`", ""), met(target.met))
    return table
