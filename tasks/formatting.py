"""Format lists, counts, sizes, times and names for people."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def printable(text: str) -> str:
    """Return the text with its unprintable characters escaped: newlines, control characters, changes of direction.

    Every text from a database, a dump, a manifest or another program passes through here before it is shown.
    """
    return "".join(char if char.isprintable() else char.encode("unicode-escape").decode() for char in text)


def printable_row(row: str) -> str:
    """Return a row with its values escaped and the tabs between them kept."""
    return row if row.replace("\t", "").isprintable() else "\t".join(map(printable, row.split("\t")))


# Characters of a server's message.
_MESSAGE = 1000

_SHOWN = 8


def shortened(text: str) -> str:
    """Return a server's message, cut after 1000 characters."""
    return text if len(text) <= _MESSAGE else text[:_MESSAGE] + "…"


def parse_instant(text: str) -> datetime | None:
    """Return the time of a text in ISO 8601, in UTC; None if it is not one. A time without a zone is in UTC."""
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


_PLAIN_NAME = re.compile(r"[\w$-]+")
_SHOWN_NAME = re.compile(r'([\w$-]+|"(?:[^"]|"")*")\.([\w$-]+|"(?:[^"]|"")*")')


def format_list(items: Sequence[str], shown: int = _SHOWN, separator: str = ", ") -> str:
    """Return the first items and the number of the others: `a, b and 3 more`.

    :param shown: The largest number of items to list.
    :param separator: The text between items; `"; "` if items contain commas: `a; b; and 3 more`.
    """
    more = len(items) - shown
    rest = f"{separator.rstrip(', ')} and {more:,} more" if more > 0 else ""
    return separator.join(items[:shown]) + rest


def show_name(key: tuple[str, str]) -> str:
    """Return `schema.name` for people; a part is quoted only if it would be ambiguous."""
    return ".".join(
        part if _PLAIN_NAME.fullmatch(part) else '"{}"'.format(part.replace('"', '""')) for part in key if part
    )


def parse_shown_name(text: str) -> tuple[str, str]:
    """Return the schema and the name of a text that :func:`show_name`, or an earlier version without quotes, wrote."""
    if found := _SHOWN_NAME.fullmatch(text):
        schema, name = (part[1:-1].replace('""', '"') if part.startswith('"') else part for part in found.groups())
        return schema, name
    schema, _, name = text.partition(".")
    return schema, name


def format_names(names: Iterable[str | tuple[str, str]]) -> str:
    """Return the first names, quoted as by :func:`show_name`, and the number of the others.

    :param names: Names, or pairs of schema and name.
    """
    return format_list([show_name(("", name) if isinstance(name, str) else name) for name in names])


def format_count(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: `1 row`, `2 rows`.

    :param many: The plural, if it is not `one` with an s.
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def format_content(rows: int, inserts: int) -> str:
    """Return a dump's number of rows and of INSERT statements, each of which may add several rows."""
    statements = format_count(inserts, "INSERT statement")
    return statements if inserts and not rows else format_count(rows, "row") + (f" and {statements}" if inserts else "")


def format_size(count: float) -> str:
    """Return a number of bytes with its unit, in powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004 - SI
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def format_seconds(seconds: float) -> str:
    """Return a duration: `1.5 s`."""
    return f"{seconds:.1f} s"


def format_age(age: timedelta) -> str:
    """Return a duration in minutes, hours or days: `5 min`, `7 h`, `12 d`; a negative one as `in 5 min`."""
    if age < timedelta(0):
        return f"in {format_age(-age)}"
    if age < timedelta(hours=1):
        return f"{age // timedelta(minutes=1)} min"
    return f"{age.days} d" if age.days > 1 else f"{age // timedelta(hours=1)} h"


def format_moment(moment: datetime | None) -> str:
    """Return a time to the second, in its time zone; empty for None."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def format_now(timespec: str = "seconds") -> str:
    """Return the current time in UTC, in ISO 8601.

    :param timespec: As for `datetime.isoformat`.
    """
    return datetime.now(UTC).isoformat(timespec=timespec)
