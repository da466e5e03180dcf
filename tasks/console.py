"""What a person sees: steps, progress, warnings, the countdown, tables; and JSON for programs.

Results go to standard output; everything on the way goes to standard error.
"""

from __future__ import annotations

import contextlib
import json
import sys
import textwrap
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from .flows.compressing import Converted
    from .flows.dumping import Dumped
    from .flows.examining import Examined
    from .flows.foresight import Histories
    from .flows.inspecting import Inspected
    from .flows.listing import Listed
    from .flows.rehearsing import Rehearsed
    from .flows.report import Report
    from .flows.resetting import Plan as ResetPlan
    from .flows.restoring import Plan as RestorePlan
    from .flows.restoring import Restored
    from .flows.verifying import Verified
    from .postgres.schemas import Content
    from .settings import Output, Settings

WAIT_SECONDS = 3
# Without a terminal a line of progress is a line of a log.
LOG_SECONDS = 10.0
SCREEN_SECONDS = 0.1
WIDTH = 200
_SHOWN_NAMES = 8
# Below this many columns a terminal breaks lines itself.
_NARROW = 30
_LEAST_NOTE = 12


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    # A terminal that knows few letters gets the code of the others; it is no reason to fail.
    with contextlib.suppress(AttributeError, ValueError):
        (sys.stderr if stderr else sys.stdout).reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # No markup and no highlighting: names of files and tables are shown as they are.
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        # A file or a pipe has no width: tables are then as wide as they need.
        console.width = WIDTH
    return console


def _say(console: Console, text: str, style: str | None = None, *, indent: int = 2) -> None:
    """Print a line; a terminal's is broken between words, and goes on with an indent.

    :param indent: On top of the line's own.
    """
    lines = _safe(text).split("\n")
    if console.is_terminal and console.width > _NARROW:
        deeper = [" " * (len(line) - len(line.lstrip()) + indent) for line in lines]
        lines = [
            textwrap.fill(
                line,
                console.width,
                subsequent_indent=more,
                expand_tabs=False,
                replace_whitespace=False,
                # A path or a name that is to be copied stays in one piece.
                break_long_words=False,
                break_on_hyphens=False,
            )
            for line, more in zip(lines, deeper, strict=True)
        ]
    console.print("\n".join(lines), style=style)


class Reporter:
    """Shows what a flow says; see :class:`tasks.flows.report.Report`."""

    def __init__(self, output: Output, progress: Progress | None, console: Console) -> None:
        self._output = output.value
        self._progress = progress
        self._console = console
        self._bar: TaskID | None = None
        self._began = time.monotonic()
        self._seen = (0, "")
        self._next = 0.0 if progress else self._began + LOG_SECONDS

    def step(self, text: str) -> None:
        """Show a finished step."""
        if self._output != "quiet":
            _say(self._console, text)

    def detail(self, text: str) -> None:
        """Show a line for who wants to see everything."""
        if self._output == "verbose":
            _say(self._console, text, "dim")

    def warn(self, text: str) -> None:
        """Show a line that nobody should miss, however quiet."""
        _say(self._console, f"Warning: {text}", "yellow")

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Show how far the work is: a bar in a terminal, now and then a line elsewhere."""
        now = time.monotonic()
        if not what:
            self._take_down()
            return
        # What is counted anew, or in another unit, has a speed of its own.
        if done < self._seen[0] or unit != self._seen[1]:
            self._began = now
        self._seen = (done, unit)
        if now < self._next or self._output == "quiet":
            return
        self._next = now + (SCREEN_SECONDS if self._progress else LOG_SECONDS)
        if self._progress is None:
            self._console.print(_safe(f"  {what}{_share(done, total, unit, now - self._began)}"))
            return
        if self._bar is None:
            self._bar = self._progress.add_task("", amount="")
        self._progress.start()
        self._progress.update(
            self._bar,
            description=_safe(what),
            completed=min(done, total) if total else done,
            total=total or None,
            amount=_share(done, total, unit, now - self._began).removeprefix(": "),
        )

    def _take_down(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._next = 0.0


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
    console = _console(stderr=True)
    if not console.is_interactive or settings.output.value == "quiet":
        yield Reporter(settings.output, None, console)
        return
    progress = _bars(console)
    try:
        yield Reporter(settings.output, progress, console)
    finally:
        progress.stop()


def _bars(console: Console) -> Progress:
    """Make the bar: one line, however narrow the terminal is and however few letters it knows."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    # What is in work gives way to how much of it is done.
    what = Column(no_wrap=True, overflow="crop", max_width=max(10, console.width - 62))
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=what),
        BarColumn(bar_width=max(5, min(40, console.width // 8))),
        TextColumn("{task.fields[amount]}", markup=False, table_column=Column(no_wrap=True, overflow="crop")),
        TimeElapsedColumn(table_column=Column(no_wrap=True, overflow="crop")),
        console=console,
        transient=True,
    )


def confirm(lines: Sequence[str], *, yes: bool, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show what is about to be destroyed, and leave three seconds to press Ctrl-C.

    :param yes: Show it, and don't wait.
    """
    console = _console(stderr=True)
    for line in lines:
        _say(console, line, "yellow")
    if yes:
        return
    console.print(f"Press Ctrl-C to stop it. Beginning in {WAIT_SECONDS} seconds …", style="yellow")
    for _ in range(WAIT_SECONDS):
        sleep(1)


def confirm_restore(plan: RestorePlan, *, yes: bool, name: str) -> None:
    """Say what a restore will do, where it destroys or is only tried; ask for the name where it is to be given; wait.

    :param name: The value of `--confirm`.
    """
    dry = plan.settings.dry
    if plan.request.clean or plan.far or dry:
        _confirm_all(plan, restore_warning(plan), yes=yes or not plan.request.clean, name=name)


def confirm_reset(plan: ResetPlan, *, yes: bool, name: str) -> None:
    """Say what a reset will do, ask for the name where it is to be given, and wait."""
    _confirm_all(plan, reset_warning(plan), yes=yes, name=name)


def _confirm_all(plan: RestorePlan | ResetPlan, lines: Sequence[str], *, yes: bool, name: str) -> None:
    from .flows import guard

    dry = plan.settings.dry
    if plan.far:
        lines = [*lines, f"  This is not a local database: {plan.far}."]
    confirm(lines, yes=True)
    if not dry:
        asked = _asked(f"Type the name of the database to go on ({plan.place.database}): ", plan.far and not name)
        guard.allow(plan.target.label, plan.place, plan.far, name, asked)
    else:
        confirm(["Only tried (--dry): nothing was touched."], yes=True)
    # Who has just typed the name has thought about it.
    confirm([], yes=yes or dry or bool(plan.far and not name))


def _asked(question: str, wanted: object) -> str | None:
    """Ask a person; None where nobody is there, or nothing is to be asked."""
    if not wanted or not sys.stdin.isatty():
        return None
    _console(stderr=True).print(question, style="yellow", end="")
    return sys.stdin.readline()


def restore_warning(plan: RestorePlan) -> list[str]:
    """Say what a restore takes away, what it leaves, and what it costs."""
    from .flows import records

    dump, manifest = plan.dump, plan.dump.manifest
    lines = [f"{plan.target.label}: restoring {dump.path.name} ({dump.rows:,} rows)."]
    if manifest is not None:
        note = f": {manifest.note}" if manifest.note else ""
        lines.append(
            f"  Made {manifest.created} of {manifest.source.get('database')} at {manifest.source.get('host')}{note}"
        )
        if not records.is_of(manifest, plan.server, plan.place.host, plan.place.port):
            lines.append("  That is another database than the one that it goes into.")
        if manifest.excluded_data:
            lines.append(f"  It lacks the rows of {_names(manifest.excluded_data)}: these tables will be empty.")
    if not plan.request.clean:
        saves = _saves(plan.saves, plan.settings.backup)
        return [*lines, "  Objects that the dump holds are replaced, all others stay.", *saves]
    price = (
        "The application stands still on these tables until the end. Meanwhile the disk holds the old rows, the new "
        f"ones and their log: about {_size(3 * dump.content.size)} more for now."
    )
    return [
        *lines,
        *_goes(plan.emptied, plan.stays, plan.goes, whole=plan.request.whole),
        *_saves(plan.saves, plan.settings.backup),
        price,
    ]


def reset_warning(plan: ResetPlan) -> list[str]:
    """Say what a reset takes away and what it leaves."""
    goes = _goes(plan.emptied, plan.stays, plan.goes)
    return [f"{plan.target.label}: emptying schemas.", *goes, *_saves(plan.saves, plan.settings.backup)]


def _saves(saves: bool, kept: int) -> list[str]:
    if not saves:
        return []
    return [f"  First all of it is dumped, for `inv db.undo` ({kept} safety dumps are kept; --no-backup makes none)."]


def _goes(emptied: Sequence[str], stays: Sequence[str], goes: Content, *, whole: bool = False) -> list[str]:
    what = f"{goes.tables:,} tables, {goes.rows:,} rows, {_size(goes.bytes)}"
    others = f", and {_names(stays)}" if stays else ""
    if whole:
        return [f"  Goes: the whole database, which then is as it was: {_names(emptied)}: {what}."]
    return [
        f"  Goes: all in {_names(emptied) or 'nothing'}: {what}.",
        f"  Stays: the schemas themselves with owner and grants, extensions, publications{others}.",
    ]


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(repr(name) if not name.isidentifier() else name for name in names[:_SHOWN_NAMES]) + more


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004 - SI
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def print_line(text: str) -> None:
    """Print one line of a result."""
    _say(_console(stderr=False), text)


def _safe(text: str) -> str:
    """Keep a name or a note from writing to the terminal anything but its letters."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode-escape").decode() for char in text
    )


def print_json(document: object) -> None:
    """Print a result for programs."""
    sys.stdout.write(json.dumps(document, indent=1, default=str) + "\n")


def _table(*columns: str, right: Sequence[str] = (), fixed: str = "") -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    for column in columns:
        # A name that is to be typed or copied stays in one piece.
        justify: Literal["left", "right"] = "right" if column in right else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=column == fixed)
    return table


def _show(table: Any) -> None:
    """Print a table; of an empty one not even its head."""
    if table.row_count:
        _console(stderr=False).print(table, soft_wrap=False)


def show_url(settings: Settings) -> None:
    """Show the connection as libpq gets it, and what became of each parameter."""
    found, target = settings.url(), settings.target()
    print_line(f"{settings.url_env} from {found.source}")
    print_line(f"libpq gets: {target.masked}")
    print_line(f"That is {target.label}, schema {target.schema or 'public'}.")
    if target.pooled:
        advice = f"; {target.advice}" if target.advice else ""
        print_line(
            f"This looks like a connection pool. Dumps and restores want the direct URL: --url-env=DIRECT_URL{advice}."
        )
    if target.changes:
        table = _table("parameter", "was", "why")
        for change in target.changes:
            table.add_row(change.parameter, change.action, change.reason)
        _show(table)


def show_dumped(dumped: Dumped, output: Output) -> None:
    """Show a dump that was made; of a quiet one its path alone."""
    manifest = dumped.manifest
    if output.value == "quiet":
        print_line(str(dumped.path))
        return
    without = f"; without the rows of {_names(manifest.excluded_data)}" if manifest.excluded_data else ""
    print_line(
        f"{dumped.path}: {_size(manifest.file.size)}, {manifest.rows:,} rows in {len(manifest.tables):,} tables, "
        f"{manifest.seconds:.1f} s{without}"
    )


def show_converted(converted: Converted) -> None:
    """Show what became of a dump that was compressed or expanded."""
    if not converted.changed:
        compressed = "already compressed" if converted.path.name.endswith((".gz", ".zst")) else "not compressed"
        print_line(f"{converted.path} is {compressed}, and stays as it is.")
    else:
        print_line(f"{converted.path}: {_size(converted.before)} → {_size(converted.after)}")


def show_restored(restored: Restored) -> None:
    """Show a restore that was committed, and what it left out; nothing where it is to be quiet."""
    plan = restored.plan
    if plan.settings.output.value == "quiet":
        return
    print_line(
        f"{plan.dump.path.name} is restored into {plan.target.label}: {restored.rows:,} rows in {restored.tables:,} "
        f"tables, verified and committed in {restored.seconds:.1f} s{'; then migrated' * plan.request.migrate}"
    )
    _show_saved(restored.saved)
    for reason, count in sorted(restored.left_out.items()):
        print_line(f"  left out ({count:,}): {reason}")
    if plan.dump.manifest is None:
        print_line("  not provable: no manifest, so only the dump's own end and row counts vouch for its content")


def show_reset(plan: ResetPlan, saved: Dumped | None) -> None:
    """Show a reset that was committed."""
    print_line(f"{plan.target.label}: {', '.join(plan.emptied)} emptied.")
    _show_saved(saved)


def _show_saved(saved: Dumped | None) -> None:
    if saved is not None:
        manifest = saved.manifest
        print_line(
            f"  what was there before is in {saved.path.parent.name}/{saved.path.name}: {_size(manifest.file.size)}, "
            f"{manifest.rows:,} rows, {manifest.seconds:.1f} s; `inv db.undo` brings it back"
        )


def show_listing(listed: Sequence[Listed], *, as_json: bool) -> None:
    """Show the dumps, newest first."""
    if as_json:
        print_json([_listed_document(each) for each in listed])
        return
    if not listed:
        print_line("No dumps yet. `inv db.dump` makes one.")
        return
    columns = ("dump", "when (UTC)", "size", "rows", "server", "whole", "rehearsed", "note")
    rows = [_listed_row(each) for each in listed]
    widths = [max(map(len, column)) + 3 for column in zip(columns, *rows, strict=True)]
    # The note alone may be broken.
    if _console(stderr=False).width < sum(widths[:-1]) + _LEAST_NOTE:
        _show_below_each_other(rows)
    else:
        table = _table(*columns, right=("size", "rows"), fixed="dump")
        for row in rows:
            table.add_row(*row)
        _show(table)
    for each in listed:
        if each.whole not in {"yes", "unknown"}:
            print_line(f"{each.path.name} is not whole: {each.whole}")


def _listed_row(each: Listed) -> list[str]:
    return [
        _safe(each.name),
        f"{each.when:%Y-%m-%d %H:%M:%S}",
        _size(each.size),
        "" if each.rows is None else f"{each.rows:,}",
        each.server,
        each.whole if each.whole in {"yes", "unknown"} else "no",
        each.rehearsed[:10],
        _safe(each.note),
    ]


def _show_below_each_other(rows: Sequence[Sequence[str]]) -> None:
    """Show the dumps where a table of them has no room: a few lines for each."""
    for name, when, size, count, server, whole, rehearsed, note in rows:
        known = [
            f"{when} UTC",
            size,
            count and f"{count} rows",
            server and f"PostgreSQL {server}",
            f"whole: {whole}",
            rehearsed and f"rehearsed {rehearsed}",
        ]
        print_line(name)
        print_line("  " + ", ".join(filter(None, known)))
        if note:
            print_line(f"  {note}")


def _listed_document(each: Listed) -> dict[str, Any]:
    known = each.whole in {"yes", "unknown"}
    return {
        **asdict(each),
        "name": each.name,
        "path": str(each.path),
        "when": each.when.isoformat(),
        "whole": {"yes": True, "unknown": None}.get(each.whole, False),
        "why": None if known else each.whole,
    }


def show_verified(verified: Verified, *, as_json: bool) -> None:
    """Show the comparison."""
    if as_json:
        print_json(verified_document(verified))
        return
    expected = verified.expected
    if expected is None:
        print_line(f"{verified.target.label}: no restore is remembered for it, so nothing is compared (see --file=).")
    else:
        since = f", migrated {_utc(expected.migrated)}" if expected.migrated else ""
        when = f", restored {_utc(expected.restored)}{since}" if expected.restored else ""
        print_line(f"{verified.target.label} beside {expected.source}{when}")
    table = _table("table", "expected", "found", "", right=("expected", "found"), fixed="table")
    for row in _tables(verified):
        style = None if row["same"] else "bold red"
        expected_rows = _number(row["expected"], "-")
        table.add_row(_safe(row["name"]), expected_rows, _number(row["found"]), row["mark"], style=style)
    _show(table)
    for line in verified.lines:
        if line.kind != "table":
            print_line(f"{line.kind} {line.name}: expected {line.expected}, found {line.found}")
    _show_health(verified)
    for ill in verified.ills:
        print_line(f"Wrong in itself: {ill.what}. Mend it: {ill.remedy}")
    if expected is not None:
        count = len(verified.differences)
        # A dump without a manifest says nothing that objects could be compared with.
        agrees = "Everything agrees." if expected.state.objects else "Rows and sequences agree; no manifest tells more."
        print_line(agrees if not count else f"{count} difference{'s' if count > 1 else ''} found.")


def _tables(verified: Verified) -> list[dict[str, Any]]:
    """Every table beside what it should be, as rows to show."""
    expected, found = verified.expected, verified.found.rows
    wanted = expected.state.rows if expected else {}
    dumped = (expected.dumped if expected else None) or {}
    rows = []
    for key in sorted(wanted.keys() | found.keys()):
        want, have = wanted.get(key), found.get(key)
        same = want is None or want == have
        if not same:
            mark = "differs"
        elif expected is None:
            mark = ""
        elif want is None:
            mark = "rows left out" if ".".join(key) in expected.excluded else f"not in {expected.kind}"
        else:
            mark = f"{dumped[key]:,} in the dump" if dumped.get(key, want) != want else "same"
        rows.append({"name": ".".join(key), "expected": want, "found": have, "same": same, "mark": mark})
    return rows


def _number(value: int | None, absent: str = "missing") -> str:
    return absent if value is None else f"{value:,}"


def _show_health(verified: Verified) -> None:
    health = verified.health
    print_line(
        f"{health.foreign_keys:,} foreign keys"
        + (f", not validated: {_names(health.unvalidated)}" if health.unvalidated else "")
        + f"; {health.indexes:,} indexes"
        + (f", invalid: {_names(health.invalid)}" if health.invalid else "")
    )
    if health.migrations is None:
        print_line("No migration history (_prisma_migrations) here.")
        return
    undone = ["rolled back"] if any(each.rolled_back for each in health.migrations) else []
    table = _table("migration", "state", "finished", *undone, fixed="migration")
    for each in health.migrations:
        table.add_row(each.name, each.state, _time(each.finished), *[_time(each.rolled_back)] * len(undone))
    _show(table)


def _utc(iso: str) -> str:
    """Write a record's time, which is in UTC, as the tables write theirs."""
    return f"{iso[:19].replace('T', ' ')} UTC"


def _time(when: Any) -> str:
    return "" if when is None else f"{when:%Y-%m-%d %H:%M:%S}"


def verified_document(verified: Verified) -> dict[str, Any]:
    """The comparison as JSON."""
    expected = verified.expected
    return {
        "database": verified.target.label,
        "dump": expected.source if expected else None,
        "restored": expected.restored if expected else None,
        "migrated": expected.migrated if expected else None,
        "same": None if expected is None else not verified.differences,
        "tables": [{key: row[key] for key in ("name", "expected", "found", "same")} for row in _tables(verified)],
        "differences": [asdict(line) for line in verified.differences],
        "told": [asdict(line) for line in verified.lines if not line.fatal],
        "wrong": [asdict(ill) for ill in verified.ills],
        "health": asdict(verified.health),
    }


def show_rehearsed(rehearsed: Rehearsed) -> None:
    """Show a rehearsal that went well."""
    for name in rehearsed.swept:
        print_line(f"Removed {name}, which a killed rehearsal had left.")
    restored = rehearsed.restored
    print_line(
        f"{rehearsed.path.name} restores: {restored.rows:,} rows in {restored.tables:,} tables, verified, in "
        f"{restored.seconds:.1f} s"
        + (f"; migrated in {rehearsed.migrated:.1f} s" if rehearsed.migrated is not None else "")
        + f"; {rehearsed.seconds:.1f} s in all. The scratch database is removed."
    )


# Sign and style of each state of a check.
_STATES = {"ok": ("✓", "green"), "note": ("!", "yellow"), "wrong": ("✗", "bold red"), "skipped": ("–", "dim")}  # noqa: RUF001


def show_examined(examined: Examined, *, as_json: bool) -> None:
    """Show what was looked at, a line each, and below it what helps."""
    if as_json:
        checks = [asdict(check) for check in examined.checks]
        print_json({"database": examined.label or None, "healthy": not examined.wrong, "checks": checks})
        return
    console = _console(stderr=False)
    width = max(len(check.name) for check in examined.checks)
    for check in examined.checks:
        sign, style = _STATES[check.state]
        _say(console, f"{sign} {check.name:{width}}  {check.what}", style, indent=width + 4)
        if check.remedy:
            _say(console, f"  {'':{width}}  → {check.remedy}")


def show_histories(histories: Histories, *, as_json: bool) -> None:
    """Show every migration and its state in each place, and what a deploy would meet."""
    dump = histories.dump
    if as_json:
        print_json(_histories_document(histories))
        return
    if not histories.compared:
        print_line(f"There are no migrations, neither in {histories.application.folder} nor in the database.")
    else:
        places = ["database", *(["dump"] if dump is not None else [])]
        table = _table("migration", "on disk", *places, fixed="migration")
        for each in histories.compared:
            states = [state or "" for state in each.states[: len(places)]]
            table.add_row(_safe(each.name), "yes" if each.disk else "no", *states)
        _show(table)
    for finding in histories.findings:
        print_line(f"{'`prisma migrate deploy` would refuse. ' if finding.fatal else ''}{finding}")


def _histories_document(histories: Histories) -> dict[str, Any]:
    return {
        "database": histories.target.label,
        "folder": str(histories.application.folder),
        "dump": None if histories.dump is None else str(histories.dump),
        "migrations": [
            {"name": each.name, "disk": each.disk, "database": each.states[0], "dump": each.states[1]}
            for each in histories.compared
        ],
        "findings": [asdict(finding) for finding in histories.findings],
    }


def show_inspected(inspected: Inspected, *, as_json: bool) -> None:
    """Show what a dump holds."""
    rows = sum(each.rows for each in inspected.tables)
    manifest = inspected.manifest
    if as_json:
        document = {**asdict(inspected), "path": str(inspected.path), "rows": rows}
        document["manifest"] = json.loads(manifest.to_json()) if manifest else None
        print_json(document)
        return
    print_line(f"{inspected.path}: {_size(inspected.size)}, {_size(inspected.content)} as text, {rows:,} rows")
    print_line(f"PostgreSQL {inspected.server or 'unknown'}, dumped by pg_dump {inspected.client or 'unknown'}")
    if manifest is None:
        print_line("No manifest of ours: this is what its text says.")
        if inspected.powers:
            print_line(f"Beyond filling a database it holds {inspected.powers}.")
    else:
        source, git = manifest.source, ""
        if manifest.git:
            git = f", commit {manifest.git['commit'][:12]}" + (" and changes" if manifest.git["dirty"] else "")
        print_line(f"Made {manifest.created} of {source.get('database')} at {source.get('host')}{git}")
        if manifest.note:
            print_line(f"Note: {manifest.note}")
    outline = inspected.outline
    print_line(
        f"Fills {_names(outline.schemas) or 'no schema'}; {outline.relations:,} relations, "
        f"{outline.large_objects:,} large objects; extensions: {_names(outline.extensions) or 'none'}"
    )
    table = _table("table", "rows", right=("rows",))
    for each in inspected.tables:
        table.add_row(f"{each.schema}.{each.name}", f"{each.rows:,}")
    _show(table)
    if inspected.history is None:
        print_line("No migration history (_prisma_migrations) in it.")
        return
    table = _table("migration", "state", "finished")
    for past in inspected.history:
        table.add_row(past.name, past.state, past.finished[:19])
    _show(table)
