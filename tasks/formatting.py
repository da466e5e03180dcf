"""Formats lists, counts, sizes, times and names for people."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def printable(text: str) -> str:
    """Escape whatever is no letter or sign of one line: ends of lines, control characters, changes of direction.

    The one place for it: all that comes from a database, a dump, a manifest or another program passes through here
    before a person sees it.
    """
    return "".join(char if char.isprintable() else char.encode("unicode-escape").decode() for char in text)


def printable_row(row: str) -> str:
    """Escape the values of a row, and keep the tabs between them."""
    return row if row.replace("\t", "").isprintable() else "\t".join(map(printable, row.split("\t")))


# Characters.
_MESSAGE = 1000

_SHOWN = 8


def shortened(text: str) -> str:
    """Return a message of a server, cut where it is too long to be read."""
    return text if len(text) <= _MESSAGE else text[:_MESSAGE] + "…"


def parse_instant(text: str) -> datetime | None:
    """Return the time that a text in ISO style holds, in UTC, which one without a zone is in; None if it holds none."""
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


_PLAIN_NAME = re.compile(r"[\w$-]+")
_SHOWN_NAME = re.compile(r'([\w$-]+|"(?:[^"]|"")*")\.([\w$-]+|"(?:[^"]|"")*")')


def format_list(items: Sequence[str], shown: int = _SHOWN, separator: str = ", ") -> str:
    """Return the first items, and how many more there are: `a, b and 3 more`.

    :param shown: How many items are named; all of them if there are no more than that.
    :param separator: What separates them; `"; "` where items hold commas: `a; b; and 3 more`.
    """
    more = len(items) - shown
    rest = f"{separator.rstrip(', ')} and {more:,} more" if more > 0 else ""
    return separator.join(items[:shown]) + rest


def show_name(key: tuple[str, str]) -> str:
    """Write schema and name for people: quoted only where one could take it for another name."""
    return ".".join(
        part if _PLAIN_NAME.fullmatch(part) else '"{}"'.format(part.replace('"', '""')) for part in key if part
    )


def parse_shown_name(text: str) -> tuple[str, str]:
    """Return the schema and the name that :func:`show_name` wrote, or an earlier version, which never quoted."""
    if found := _SHOWN_NAME.fullmatch(text):
        schema, name = (part[1:-1].replace('""', '"') if part.startswith('"') else part for part in found.groups())
        return schema, name
    schema, _, name = text.partition(".")
    return schema, name


def format_names(names: Iterable[str | tuple[str, str]]) -> str:
    """Return the first names, quoted as :func:`show_name` does, and how many more there are.

    :param names: Names, or pairs of schema and name.
    """
    return format_list([show_name(("", name) if isinstance(name, str) else name) for name in names])


def format_count(count: int, one: str, many: str = "") -> str:
    """Write a number of things.

    :param many: The plural, where it is not `one` with an s.
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def format_content(rows: int, inserts: int) -> str:
    """Write what a dump fills tables with: rows, and INSERT statements, each of which may bring several."""
    statements = format_count(inserts, "INSERT statement")
    return statements if inserts and not rows else format_count(rows, "row") + (f" and {statements}" if inserts else "")


def format_size(count: float) -> str:
    """Write a number of bytes."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004 - SI
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def format_seconds(seconds: float) -> str:
    """Return a duration: `1.5 s`."""
    return f"{seconds:.1f} s"


def format_age(age: timedelta) -> str:
    """Return a span of time in its largest unit: `5 min`, `7 h`, `12 d`; one below 0 as `in 5 min`."""
    if age < timedelta(0):
        return f"in {format_age(-age)}"
    if age < timedelta(hours=1):
        return f"{age // timedelta(minutes=1)} min"
    return f"{age.days} d" if age.days > 1 else f"{age // timedelta(hours=1)} h"


def format_moment(moment: datetime | None) -> str:
    """Return a time to the second, in its own time zone; empty for None."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def format_time(moment: datetime | None, text: str) -> str:
    """Return a time to the second, or `text` where Python can't hold the time."""
    return format_moment(moment) or text


def format_now(timespec: str = "seconds") -> str:
    """Return the time now, in UTC, as records and marks hold it.

    :param timespec: As for `datetime.isoformat`.
    """
    return datetime.now(UTC).isoformat(timespec=timespec)
