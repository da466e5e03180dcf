"""Prisma's migration history, read from the rows of a dump as they pass."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .lexer import CopyData, Statement
from .statements import decode, unquote

if TYPE_CHECKING:
    from .lexer import Event

TABLE = "_prisma_migrations"
# A history is some kilobytes; a table of that name with more is something else.
_LIMIT = 1 << 24
_COLUMNS = re.compile(rb"\(([^)]*)\)\s+FROM\s+stdin", re.IGNORECASE)
_ESCAPES = {b"\\n": b"\n", b"\\t": b"\t", b"\\r": b"\r", b"\\\\": b"\\"}
_ESCAPE = re.compile(rb"\\[ntr\\]")


@dataclass(frozen=True)
class Past:
    """A row of `_prisma_migrations`.

    :ivar finished: When it was applied, as the database writes it; empty if it never was; so `rolled_back`.
    :ivar checksum: sha256 of the migration's file, as Prisma noted it.
    """

    name: str
    finished: str
    rolled_back: str
    checksum: str

    @property
    def state(self) -> str:
        """`applied`, `rolled back`, or `failed` where it is neither."""
        if self.rolled_back:
            return "rolled back"
        return "applied" if self.finished else "failed"


class History:
    """Collects the history from a dump's events."""

    def __init__(self) -> None:
        self._columns: list[str] | None = None
        self._rows = b""
        self._inside = False

    def see(self, event: Event, table: tuple[str, str] | None) -> None:
        """Take note of an event.

        :param table: The table whose rows pass, as the survey says.
        """
        if isinstance(event, Statement) and event.copies:
            self._inside = table is not None and table[1] == TABLE
            found = _COLUMNS.search(event.text) if self._inside else None
            if found is not None:
                self._columns = [unquote(name.strip()) for name in found[1].split(b",")]
        elif isinstance(event, CopyData) and self._inside and len(self._rows) < _LIMIT:
            self._rows += event.text

    def past(self) -> tuple[Past, ...] | None:
        """Give the migrations by their names; None if the dump has no such table."""
        if self._columns is None:
            return None
        rows = [dict(zip(self._columns, line.split(b"\t"), strict=False)) for line in self._rows.splitlines()]
        return tuple(sorted((_past(row) for row in rows), key=lambda each: each.name))


def _past(row: dict[str, bytes]) -> Past:
    def value(column: str) -> str:
        raw = row.get(column, b"\\N")
        return "" if raw == b"\\N" else decode(_ESCAPE.sub(lambda found: _ESCAPES[found.group()], raw))

    return Past(value("migration_name"), value("finished_at"), value("rolled_back_at"), value("checksum"))
