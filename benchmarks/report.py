"""Writes docs/performance.md and its pictures from results: `uv run python -m benchmarks.report RESULT [MORE …]`."""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from tasks.formatting import format_count

from . import results
from .figures import figures, targets
from .showing import HEADINGS, KINDS, cells, met, short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .figures import Figures
    from .results import Result

DOCS = Path(__file__).resolve().parent.parent / "docs"
# The text around the numbers, and what a run cannot know: edit it there, not in docs/.
TEMPLATE = Path(__file__).resolve().parent / "performance.md"
PLACE = "benchmarks/results"
PICTURED = {"dump": "Dumping the journal, seconds", "restore": "Restoring the journal, seconds"}
_DATABASES = {
    "journal": "the example application, with all its types, indexes and foreign keys",
    "tenth": "the same at a tenth of the rows",
    "many": "many small tables",
    "huge": "one huge table of narrow rows",
    "wide": "large values: three in four incompressible bytes (64 KB), the rest text",
    "inserts": "a dump of INSERT statements, restored",
    "empty": "nothing in it: only the overhead shows",
}
_BAR, _GAP, _LABEL, _WIDTH = 18, 8, 390, 960
# Of 11 pixels, in the width of a label.
_LETTERS = 56


def main(source: Path, *more: Path, folder: Path = DOCS) -> list[Path]:
    """Write the document and its pictures, and return their paths.

    :param source: A file of `benchmarks/results`, which all but the last tables are of.
    :param more: Results of other runs, whose tables follow. Targets and pictures are of the newest run that has them.
    :param folder: Where they go.
    """
    result = results.load(source)
    others = {path.name: results.load(path) for path in more}
    written = []
    for kind, title in PICTURED.items():
        newest = sorted([result, *others.values()], key=lambda each: each.made, reverse=True)
        if found := next((found for each in newest if (found := figures(each, "journal", kind))), []):
            written.append(folder / picture(kind))
            written[-1].write_text(bars(title, found), encoding="utf-8")
    written.append(folder / "performance.md")
    written[-1].write_text(document(result, source.name, others), encoding="utf-8")
    return written


def picture(kind: str) -> str:
    """Name the file of a picture."""
    return f"performance-{kind}.svg"


def document(result: Result, name: str, others: Mapping[str, Result]) -> str:
    """Fill the template.

    :param name: The result's file name.
    :param others: Results of other databases, by their files' names.
    """
    tables = _tables(result)
    for other, found in others.items():
        made = f"What follows is of another run, of {found.made}, each command {_times(found.rounds)}"
        tables += [f"{made} (`{found.command}`; [its result](../{PLACE}/{other})).", "", *_tables(found)]
    pictures = [f"![{title}]({picture(kind)})" for kind, title in PICTURED.items() if figures(result, "journal", kind)]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        command=result.command,
        result=f"{PLACE}/{name}",
        sources=" ".join(f"{PLACE}/{each}" for each in (name, *others)),
        made=result.made,
        rounds=_times(result.rounds),
        targets="\n".join(_targets([result, *others.values()])),
        pictures="\n\n".join(pictures),
        tables="\n".join(tables),
        machine="\n".join(_pairs(("", ""), result.machine)),
        settings="\n".join(_pairs(("setting", "value"), result.settings)),
    )


def bars(title: str, found: list[Figures]) -> str:
    """Draw horizontal bars as SVG, ours in colour, the least and the most as a line."""
    height = 44 + len(found) * (_BAR + _GAP)
    scale = (_WIDTH - _LABEL - 90) / max(each.most for each in found)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        '<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="11" fill="#1f2328">',
        f'<text x="12" y="22" font-family="sans-serif" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    for number, each in enumerate(found):
        y = 36 + number * (_BAR + _GAP)
        end = _LABEL + each.median * scale
        colour = "#1a7f37" if each.measured.ours else "#8c959f"
        middle = y + _BAR / 2
        least, most = (_LABEL + seconds * scale for seconds in (each.least, each.most))
        label = escape(short(each.measured.shown, _LETTERS))
        lines += [
            f'<text x="{_LABEL - 8}" y="{middle + 4:.0f}" text-anchor="end">{label}</text>',
            f'<rect x="{_LABEL}" y="{y}" width="{end - _LABEL:.1f}" height="{_BAR}" fill="{colour}"/>',
            f'<path d="M{least:.1f} {middle}H{most:.1f}" stroke="#1f2328"/>',
            f'<text x="{most + 8:.1f}" y="{middle + 4:.0f}">{each.median:.1f}</text>',
        ]
    return "\n".join([*lines, "</g>", "</svg>", ""])


def _targets(runs: Sequence[Result]) -> list[str]:
    """List every target as the newest of the runs measured it, and the highest peak of all runs."""
    lines = ["| what | at least, or at most | measured | | run of |", "|---|---|---|---|---|"]
    newest = sorted(runs, key=lambda each: each.made, reverse=True)
    for found in zip(*map(targets, newest), strict=True):
        measured = [(target, run) for target, run in zip(found, newest, strict=True) if target.met is not None]
        # Of runs that are equal in this, max() returns the first, which is the newest.
        each, run = max(measured, key=lambda pair: pair[0].peak, default=(found[0], newest[0]))
        cells_of = (
            each.what,
            each.wanted,
            _escaped(each.measured),
            met(each.met),
            run.made if each.met is not None else "",
        )
        lines.append(f"| {' | '.join(cells_of)} |")
    return lines


def _tables(result: Result) -> list[str]:
    lines = []
    for database, contents in result.databases.items():
        what = _DATABASES[database]
        counts = f"{format_count(contents.tables, 'table')}, {format_count(contents.rows, 'row')}"
        of = f"{counts}, {contents.bytes / 1e6:,.0f} MB at the server"
        lines += [f"### {database}", "", f"{what[0].upper()}{what[1:]}; {of}.", ""]
        for kind in KINDS:
            if found := figures(result, database, kind):
                lines += _table(kind, found)
    return lines


def _table(kind: str, found: list[Figures]) -> list[str]:
    lines = [f"| {kind} | {' | '.join(HEADINGS)} |", f"|---|{'---:|' * len(HEADINGS)}"]
    for each in found:
        shown = _escaped(f"`{each.measured.shown}`")
        lines.append(f"| {f'**{shown}**' if each.measured.ours else shown} | {' | '.join(cells(each))} |")
    return [*lines, ""]


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def _pairs(headings: tuple[str, str], pairs: dict[str, str]) -> list[str]:
    return [f"| {' | '.join(headings)} |", "|---|---|", *(f"| {name} | {value} |" for name, value in pairs.items())]


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


if __name__ == "__main__":
    for path in main(*map(Path, sys.argv[1:])):
        print(path.name)
