"""A migration of Prisma's, as a history says what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..formatting import parse_instant

if TYPE_CHECKING:
    from datetime import datetime


MIGRATIONS_TABLE = "_prisma_migrations"


@dataclass(frozen=True)
class AppliedMigration:
    """A row of `_prisma_migrations`.

    :ivar finished: When it was applied, as the database writes it; empty if it never was; so `rolled_back`.
    :ivar checksum: sha256 of the migration's file, as Prisma noted it.
    :ivar steps: How many steps were applied, as a number in letters; empty where nobody knows.
    """

    name: str
    finished: str
    rolled_back: str
    checksum: str
    steps: str = ""

    @property
    def when(self) -> datetime | None:
        """When it was applied, in UTC; the server that was dumped wrote it in its own time zone."""
        return parse_instant(self.finished)

    @property
    def state(self) -> str:
        """`applied`, `rolled back`, or `failed` where it is neither."""
        if self.rolled_back:
            return "rolled back"
        return "applied" if self.finished else "failed"


def history_from_document(document: object) -> tuple[AppliedMigration, ...] | None:
    """Read the history that a manifest holds; None where it holds none, or something else than we write."""
    if not isinstance(document, list):
        return None
    keys = ("name", "finished", "rolled_back", "checksum", "steps")
    return tuple(
        AppliedMigration(*(str(each.get(key, "")) for key in keys)) for each in document if isinstance(each, dict)
    )
