"""Read Prisma's migration history from the events of a dump."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dumpformat.applied_migration import MIGRATIONS_TABLE, migration_from_columns
from ..dumpformat.copy_text import copied_columns, unescape_value
from ..dumpformat.lexer import CopyData, Statement
from ..dumpformat.statements import classify_statement
from ..dumpformat.tokens import decode_name

if TYPE_CHECKING:
    from ..dumpformat.applied_migration import AppliedMigration
    from ..dumpformat.lexer import Event


_KNOWN = frozenset({"migration_name", "started_at", "finished_at", "rolled_back_at", "checksum"})
# Bytes. A history has some kilobytes; a larger table of that name is not Prisma's.
_LIMIT = 1 << 24
_NAME = MIGRATIONS_TABLE.encode()
# An INSERT names its table within these bytes.
_INSERT_HEAD = 512


class HistoryReader:
    """Collects the history from a dump's events.

    :ivar hidden: Whether its rows are INSERT statements, which are not read.
    """

    def __init__(self) -> None:
        # The columns and the rows, as text, of the COPY into each schema's history.
        self._found: dict[str, tuple[list[str], bytearray]] = {}
        self._inside: bytearray | None = None
        self.hidden = False

    def see(self, event: Event, table: tuple[str, str] | None) -> None:
        """Process an event.

        :param table: The table of the current COPY, from the summary.
        """
        if isinstance(event, Statement) and event.copies:
            self._inside = None
            columns = copied_columns(event) if table is not None and table[1] == MIGRATIONS_TABLE else []
            # Another table may have this name.
            if table is not None and _KNOWN.issubset(columns):
                self._inside = bytearray()
                self._found[table[0]] = columns, self._inside
        elif isinstance(event, Statement):
            named = _NAME in event.text[:_INSERT_HEAD]
            self.hidden |= (
                named and (kind := classify_statement(event.text)).verb == "INSERT" and kind.name == MIGRATIONS_TABLE
            )
        elif isinstance(event, CopyData) and self._inside is not None and len(self._inside) < _LIMIT:
            self._inside += event.text

    def history(self) -> tuple[AppliedMigration, ...] | None:
        """Return the migrations of the schema public, or else of the first with a history; None if there is none."""
        found = self.histories()
        return found.get("public") or next(iter(found.values()), None)

    def histories(self) -> dict[str, tuple[AppliedMigration, ...]]:
        """Return the migrations by the schema of their history."""
        return {schema: _parse_history(columns, bytes(text)) for schema, (columns, text) in self._found.items()}


def _parse_history(columns: list[str], text: bytes) -> tuple[AppliedMigration, ...]:
    lines = [map(_text, line.split(b"\t")) for line in text.split(b"\n") if line]
    rows = [dict(zip(columns, values, strict=False)) for values in lines]
    rows.sort(key=lambda row: (row.get("started_at", ""), row.get("migration_name", "")))
    return tuple(map(migration_from_columns, rows))


def _text(raw: bytes) -> str:
    """Return a value as text; empty for NULL."""
    return decode_name(unescape_value(raw) or b"")
