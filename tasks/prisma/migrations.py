"""Compare migrations on disk, in a database and in a dump, and forecast `prisma migrate deploy`.

Prisma checks less: a deploy does not notice a migration that was edited after it was applied, nor one that is applied
but not on disk.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..dumpformat.applied_migration import AppliedMigration, MigrationState
from ..errors import BadInputError
from ..formatting import format_list

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path


SCRIPT = "migration.sql"


@dataclass(frozen=True)
class OnDisk:
    """A migration of the project.

    :ivar checksums: The checksums that Prisma may have recorded: sha256 of the file as it is, with Unix line endings
        and with Windows line endings, which Prisma treats as equal; empty if `migration.sql` is missing.
    """

    name: str
    checksums: frozenset[str]


@dataclass(frozen=True)
class Finding:
    """A problem with the migrations.

    :ivar code: Prisma's error code (`P3005`); empty if Prisma does not notice.
    """

    what: str
    remedy: str
    code: str = ""

    @property
    def fatal(self) -> bool:
        """Return whether `prisma migrate deploy` would fail."""
        return bool(self.code)

    def __str__(self) -> str:
        return f"{self.what}{f' (Prisma: {self.code})' if self.code else ''}. {self.remedy}"


def migrations_on_disk(folder: Path) -> tuple[OnDisk, ...]:
    """Return the migrations of a folder in the order of their names, which is Prisma's order.

    :raises BadInputError: A file can't be read.
    """
    try:
        if not folder.is_dir():
            return ()
        # Prisma reads every folder, including hidden ones, but no symbolic links.
        found = sorted(
            (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()), key=lambda path: path.name
        )
        return tuple(OnDisk(path.name, _read(path / SCRIPT)) for path in found)
    except OSError as error:
        raise BadInputError(
            f"The migrations in {folder} can't be read: {error.strerror} ({error.filename}).",
            state="Nothing was touched.",
        ) from None


def _read(script: Path) -> frozenset[str]:
    return checksums_on_disk(script.read_bytes()) if script.is_file() else frozenset()


def checksums_on_disk(script: bytes) -> frozenset[str]:
    """Return the checksums of a script: as it is, with Unix line endings and with Windows line endings."""
    # Prisma replaces invalid UTF-8 before it computes the checksum.
    text = script.decode("utf-8", "replace").encode()
    unix = text.replace(b"\r\n", b"\n")
    return frozenset(hashlib.sha256(each).hexdigest() for each in (text, unix, unix.replace(b"\n", b"\r\n")))


def effective_rows(rows: Iterable[AppliedMigration]) -> dict[str, AppliedMigration]:
    """Return one row of the history for each migration, as a deploy evaluates it.

    A migration that failed, was resolved as rolled back and then applied has two rows: the one that was not rolled back
    counts. A failed row always counts.
    """
    found: dict[str, AppliedMigration] = {}
    for row in rows:
        before = found.get(row.name)
        if before is None or before.rolled_back or row.state is MigrationState.FAILED:
            found[row.name] = row
    return found


@dataclass(frozen=True)
class Compared:
    """The states of one migration.

    :ivar disk: Whether the project has it.
    :ivar states: Its state in the database and in the dump, in that order: `pending`, `absent` (neither there nor on
        disk), or the state of its row, with `edited since` or `not on disk` if that applies; None if not compared.
    """

    name: str
    disk: bool
    states: tuple[str | None, str | None]


def compare_migrations(
    disk: Sequence[OnDisk], database: Sequence[AppliedMigration] | None, dump: Sequence[AppliedMigration] | None
) -> tuple[Compared, ...]:
    """Return the state of each migration on disk, in the database and in the dump.

    :param database: Its history, which may be empty; None if it is not to be compared. The same holds for `dump`.
    """
    known = {each.name: each for each in disk}
    histories = [None if rows is None else effective_rows(rows) for rows in (database, dump)]
    everywhere = set(known).union(*(history for history in histories if history is not None))
    return tuple(
        Compared(
            name=name,
            disk=name in known,
            states=(_state(name, known, histories[0]), _state(name, known, histories[1])),
        )
        for name in sorted(everywhere)
    )


def _state(name: str, disk: dict[str, OnDisk], history: dict[str, AppliedMigration] | None) -> str | None:
    if history is None:
        return None
    row = history.get(name)
    if row is None:
        return "pending" if name in disk else "absent"
    if name not in disk:
        return f"{row.state.value}, not on disk"
    return f"{row.state.value}, edited since" if _edited(disk[name], row) else row.state.value


def _edited(migration: OnDisk, row: AppliedMigration) -> bool:
    # One that failed or was rolled back has to be edited before it can be applied.
    return bool(row.finished and migration.checksums) and row.checksum not in migration.checksums


def forecast_deploy(
    disk: Sequence[OnDisk], rows: Sequence[AppliedMigration] | None, *, filled: bool, prisma: str
) -> list[Finding]:
    """Return the problems that `prisma migrate deploy` would have, fatal ones first.

    :param rows: The migration history at that time; None without `_prisma_migrations`.
    :param filled: Whether the application's schemas hold other tables.
    :param prisma: The command for Prisma as a user types it (`npx prisma`).
    """
    return [
        *_fatal_findings(disk, rows, filled=filled, prisma=prisma),
        *_unnoticed_findings(disk, rows or (), prisma),
    ]


def _fatal_findings(
    disk: Sequence[OnDisk], rows: Sequence[AppliedMigration] | None, *, filled: bool, prisma: str
) -> Iterator[Finding]:
    if rows is None and filled and disk:
        yield Finding(
            code="P3005",
            what="There are tables but no _prisma_migrations, so Prisma does not know which migrations are applied",
            remedy=f"Baseline the database: run `{prisma} migrate resolve --applied NAME` for each migration that "
            f"it has already, such as {disk[0].name}.",
        )
    failed = sorted(row.name for row in effective_rows(rows or ()).values() if row.state is MigrationState.FAILED)
    if failed:
        yield Finding(
            code="P3009",
            what=f"The history holds a failed migration: {format_list(failed)}",
            remedy=f"Check which of its changes were made, then run `{prisma} migrate resolve --rolled-back "
            f"{failed[0]}` (it will run again) or `--applied {failed[0]}` (you completed it by hand).",
        )
    missing = [
        name for name in pending_migrations(disk, rows) if name in {each.name for each in disk if not each.checksums}
    ]
    if missing:
        yield Finding(
            code="P3015",
            what=f"There is no {SCRIPT} in the migration {format_list(missing)}",
            remedy="Restore the file from git, or delete the folder. Earlier migrations are applied first.",
        )


def _unnoticed_findings(disk: Sequence[OnDisk], rows: Sequence[AppliedMigration], prisma: str) -> Iterator[Finding]:
    history, known = effective_rows(rows), {each.name: each for each in disk}
    unknown = sorted(
        name for name, row in history.items() if name not in known and row.state is not MigrationState.ROLLED_BACK
    )
    if unknown and known:
        yield Finding(
            what=f"The history holds migrations that this checkout does not have: {format_list(unknown)}",
            remedy="They come from another branch. Check that branch out, or the application may not fit the "
            "database; Prisma does not notice.",
        )
    edited = sorted(name for name, row in history.items() if name in known and _edited(known[name], row))
    if edited:
        yield Finding(
            what=f"Migrations were edited after they were applied: {format_list(edited)}",
            remedy=f"The database has their earlier content, and a deploy does not notice. Restore the file from "
            f"git, and write the change into a new migration (`{prisma} migrate dev`).",
        )


def pending_migrations(disk: Sequence[OnDisk], rows: Sequence[AppliedMigration] | None) -> list[str]:
    """Return the names of the migrations that a deploy would apply, in their order."""
    history = effective_rows(rows or ())
    return [each.name for each in disk if each.name not in history or history[each.name].rolled_back]
