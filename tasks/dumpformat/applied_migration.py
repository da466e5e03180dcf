"""Prisma's migration history, as the rows of `_prisma_migrations`."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from ..formatting import parse_instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime


MIGRATIONS_TABLE = "_prisma_migrations"
# In the order of the fields of AppliedMigration.
MIGRATION_COLUMNS = ("migration_name", "finished_at", "rolled_back_at", "checksum", "applied_steps_count")


class MigrationState(enum.Enum):
    """The state of a migration; the value is used in output and documents."""

    APPLIED = "applied"
    BASELINED = "baselined"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"


@dataclass(frozen=True)
class AppliedMigration:
    """A row of `_prisma_migrations`.

    :ivar finished: The time when it was applied, as the database writes it; empty if it never was.
    :ivar rolled_back: The time when it was rolled back, in the same form.
    :ivar checksum: The sha256 of the migration's file, in hex, as Prisma recorded it.
    :ivar steps: The number of applied steps, in digits; empty if unknown.
    """

    name: str
    finished: str = ""
    rolled_back: str = ""
    checksum: str = ""
    steps: str = ""

    @property
    def finished_at(self) -> datetime | None:
        """Return when it was applied, in UTC; None if it never was, or if Python can't represent the time."""
        return parse_instant(self.finished)

    @property
    def rolled_back_at(self) -> datetime | None:
        """Return when it was rolled back, in UTC; None as for `finished_at`."""
        return parse_instant(self.rolled_back)

    @property
    def state(self) -> MigrationState:
        """Return its state. `prisma migrate resolve --applied` records a baselined one, with no applied step."""
        if self.rolled_back:
            return MigrationState.ROLLED_BACK
        if not self.finished:
            return MigrationState.FAILED
        return MigrationState.BASELINED if self.steps == "0" else MigrationState.APPLIED


def migration_from_columns(row: Mapping[str, str]) -> AppliedMigration:
    """Return the migration of a row of `_prisma_migrations`, given by column names."""
    name, finished, rolled_back, checksum, steps = (row.get(column, "") for column in MIGRATION_COLUMNS)
    return AppliedMigration(name=name, finished=finished, rolled_back=rolled_back, checksum=checksum, steps=steps)


def sort_migrations(rows: Iterable[AppliedMigration]) -> tuple[AppliedMigration, ...]:
    """Sort rows by the migrations' names, as Prisma applies them; those of one migration keep their order."""
    return tuple(sorted(rows, key=lambda row: row.name))


def history_from_document(document: object) -> tuple[AppliedMigration, ...] | None:
    """Return the history of a manifest; None if there is none, or if it is not a list."""
    if not isinstance(document, list):
        return None
    return tuple(
        AppliedMigration(**{known.name: str(each.get(known.name, "")) for known in fields(AppliedMigration)})
        for each in document
        if isinstance(each, dict)
    )


def history_to_document(history: Iterable[AppliedMigration] | None) -> list[dict[str, str]] | None:
    """Return a history in the form of a manifest."""
    return None if history is None else [asdict(each) for each in history]
