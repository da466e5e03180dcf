"""Print comparisons, checks and migrations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..formatting import format_count, format_list, format_moment, format_names
from ..output.check_documents import examined_document, histories_document, verified_document
from .terminal import print_json, print_line, print_lines, print_table

if TYPE_CHECKING:
    from ..doctor.doctor import Examined
    from ..prisma.forecast import KnownHistories
    from ..verify.verify import Expected, Verified


def show_verified(verified: Verified, *, as_json: bool) -> None:
    """Print the result of a comparison."""
    if as_json:
        print_json(verified_document(verified))
        return
    expected = verified.expected
    if expected is None:
        label = verified.target.label
        print_line(f"Nothing was compared: {label} has no record of a restore. {verified.suggestion}")
    else:
        since = f", migrated {_utc(expected.migrated)}" if expected.migrated else ""
        when = f", restored {_utc(expected.restored)}{since}" if expected.restored else ""
        print_line(f"{verified.target.label} compared with {expected.source}{when}")
    rows = [(row.name, _number(row.expected, "-"), _number(row.found), row.mark) for row in verified.tables]
    different = {number for number, row in enumerate(verified.tables) if not row.same}
    here, there = _columns(verified)
    print_table(("table", there, here, ""), rows, right=(here, there), marked=different)
    for line in verified.lines:
        if line.kind != "rows":
            print_line(f"{line}" if line.fatal else f"Note: {line}")
    _show_health(verified)
    for problem in verified.health.problems:
        print_line(f"Problem: {problem.what}. Fix: {problem.remedy}")
    if expected is not None:
        print_line(f"{_result(verified, expected)}{_not_compared(verified, expected)}")


def _columns(verified: Verified) -> tuple[str, str]:
    """Return the names of the columns with the rows of the compared database, and of what it is compared with."""
    expected, name = verified.expected, verified.target.database
    if expected is None or expected.server is None:
        return "found", "expected"
    other = expected.server.database
    return (name, other) if name != other else (verified.target.label, expected.source)


def _result(verified: Verified, expected: Expected) -> str:
    count = len(verified.differences)
    if count:
        return f"{format_count(count, 'difference')} found."
    compared = ["Row counts", "sequences"]
    if expected.defined:
        compared.append("definitions")
        if verified.equal_values or not verified.uncompared:
            compared.append("values")
    notes = f" ({format_count(len(verified.lines), 'note')})" if verified.lines else ""
    return f"{', '.join(compared[:-1])} and {compared[-1]} agree{notes}."


def _not_compared(verified: Verified, expected: Expected) -> str:
    """Return a sentence about what was not compared, with a blank before it; empty if all was."""
    tables = verified.uncompared
    if expected.only_restored and expected.state.rows:
        were, they = ("was", "it was") if len(expected.state.rows) == 1 else ("were", "they were")
        restored = f" Only {format_names(expected.state.rows)} {were} restored last, so only {they} compared."
        return f"{restored} Name a dump with --file= to compare more."
    if not expected.defined:
        return " Definitions and values were not compared: the dump has no manifest."
    if not tables:
        return ""
    if verified.summed:
        return f" Of {format_names(tables)}, only the row counts were compared."
    if expected.state.checksums or expected.server:
        return " Values were not compared (use --checksums)."
    migrated = "no checksums are recorded after a migration"
    why = migrated if expected.migrated else "the dump has no checksums (`inv db.dump --checksums`)"
    return f" Values were not compared: {why}."


def _number(value: int | None, absent: str = "missing") -> str:
    return absent if value is None else f"{value:,}"


def _show_health(verified: Verified) -> None:
    health = verified.health
    # The others are printed as problems.
    unvalidated = [each.qualified for each in health.unvalidated if each.problem is None]
    invalid = [each.name for each in health.invalid if each.problem is None]
    print_line(
        format_count(health.foreign_keys, "foreign key")
        + (f", not validated: {format_list(unvalidated)}" if unvalidated else "")
        + f"; {format_count(len(health.indexes), 'index', 'indexes')}"
        + (f", invalid: {format_list(invalid)}" if invalid else "")
    )
    if health.migrations is None:
        print_line("No migration history (_prisma_migrations) in this database.")
        return
    undone = any(each.rolled_back for each in health.migrations)
    # Python can't represent every time.
    rows = [
        (each.name, each.state.value, format_moment(each.finished_at) or each.finished)
        + ((format_moment(each.rolled_back_at) or each.rolled_back,) if undone else ())
        for each in health.migrations
    ]
    print_table(("migration", "state", "finished", *(["rolled back"] if undone else [])), rows)


def _utc(iso: str) -> str:
    """Return a record's time, which is in UTC, in the format of the tables."""
    return f"{iso[:19].replace('T', ' ')} UTC"


_STATES = {"ok": ("✓", "green"), "note": ("!", "yellow"), "wrong": ("✗", "bold red"), "skipped": ("–", "dim")}  # noqa: RUF001


def show_examined(examined: Examined, *, as_json: bool) -> None:
    """Print each check with its result and, below it, the fix."""
    if as_json:
        print_json(examined_document(examined))
        return
    width = max(len(check.name) for check in examined.checks)
    lines: list[tuple[str, str | None, int]] = []
    for check in examined.checks:
        sign, style = _STATES[check.state]
        lines.append((f"{sign} {check.name:{width}}  {check.what}", style, width + 4))
        if check.remedy:
            lines.append((f"  {'':{width}}  → {check.remedy}", None, 2))
    print_lines(lines)


def show_histories(histories: KnownHistories, *, as_json: bool) -> None:
    """Print the states of every migration, and the problems that a deploy would have."""
    dump = histories.dump
    if as_json:
        print_json(histories_document(histories))
        return
    if not histories.compared:
        print_line(f"No migrations in {histories.application.folder} or in the database.")
    else:
        columns = ["migration", "on disk", "database", *(["dump"] if dump is not None else [])]
        rows = [(each.name, "yes" if each.disk else "no", *each.states) for each in histories.compared]
        print_table(columns, [[cell or "" for cell in row[: len(columns)]] for row in rows])
    for finding in histories.findings:
        print_line(f"{'`prisma migrate deploy` would fail. ' if finding.fatal else ''}{finding}")
