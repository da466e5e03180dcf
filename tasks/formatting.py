"""Formats lists, counts, sizes, times and names for people."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def printable(text: str) -> str:
    """Escape whatever is no letter or sign of one line: ends of lines, control characters, changes of direction.

    The one place for it: all that comes from a database, a dump, a manifest or another program passes through here
    before a person sees it.
    """
    return "".join(char if char.isprintable() else char.encode("unicode-escape").decode() for char in text)


# Characters.
_MESSAGE = 1000

_SHOWN_SOME = 5


def shortened(text: str) -> str:
    """Return a message of a server, cut where it is too long to be read."""
    return text if len(text) <= _MESSAGE else text[:_MESSAGE] + "…"


_SHOWN_NAMES = 8


def parse_instant(text: str) -> datetime | None:
    """Read a time that stands in a manifest or a record; None where somebody has edited it."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


_PLAIN_NAME = re.compile(r"[\w$-]+")


def format_some(names: Sequence[str]) -> str:
    """Name the first of several."""
    more = f" and {len(names) - _SHOWN_SOME} more" if len(names) > _SHOWN_SOME else ""
    return ", ".join(names[:_SHOWN_SOME]) + more


def format_megabytes(count: float) -> str:
    """Say a number of bytes."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"  # noqa: PLR2004 - SI


def show_name(key: tuple[str, str]) -> str:
    """Write schema and name for people: quoted only where one could take it for another name."""
    return ".".join(
        part if _PLAIN_NAME.fullmatch(part) else '"{}"'.format(part.replace('"', '""')) for part in key if part
    )


def format_list(each: Sequence[str]) -> str:
    """Name some of them, and say how many more there are."""
    more = f" and {len(each) - _SHOWN_NAMES} more" if len(each) > _SHOWN_NAMES else ""
    return ", ".join(repr(name) if not name.isidentifier() else name for name in each[:_SHOWN_NAMES]) + more


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
