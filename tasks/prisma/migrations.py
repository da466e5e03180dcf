"""Migrations on disk, in a database and in a dump, side by side; and what `prisma migrate deploy` would make of them.

Prisma itself looks at less: a deploy does not notice a migration that was edited after it was applied, nor one
that is applied but not on disk.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..dumpformat.applied_migration import MigrationState
from ..errors import BadInputError
from ..formatting import format_list

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ..dumpformat.applied_migration import AppliedMigration


SCRIPT = "migration.sql"


@dataclass(frozen=True)
class OnDisk:
    """A migration of the project.

    :ivar checksums: What Prisma may have noted for it: sha256 of the file as it is, and with the line ends of Unix
        and of Windows, which Prisma takes for the same; empty where `migration.sql` is missing.
    """

    name: str
    checksums: frozenset[str]


@dataclass(frozen=True)
class Finding:
    """Something about the migrations that a person should know.

    :ivar code: Prisma's own code (`P3005`); empty where Prisma does not notice.
    :ivar fatal: Whether `prisma migrate deploy` would refuse.
    """

    code: str
    what: str
    remedy: str
    fatal: bool

    def __str__(self) -> str:
        return f"{self.what}{f' (Prisma: {self.code})' if self.code else ''}. {self.remedy}"


def migrations_on_disk(folder: Path) -> tuple[OnDisk, ...]:
    """Read the migrations of a folder, in the order of their names, which is that of Prisma.

    :raises BadInputError: A file can't be read.
    """
    try:
        if not folder.is_dir():
            return ()
        # Prisma takes every folder, hidden ones too, but no link to one.
        found = sorted(
            (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()), key=lambda path: path.name
        )
        return tuple(OnDisk(path.name, _read(path / SCRIPT)) for path in found)
    except OSError as error:
        raise BadInputError(
            f"The migrations in {folder} can't be read: {error.strerror} ({error.filename}). Nothing was touched."
        ) from None


def _read(script: Path) -> frozenset[str]:
    return checksums_on_disk(script.read_bytes()) if script.is_file() else frozenset()


def checksums_on_disk(script: bytes) -> frozenset[str]:
    """Sum a script as Prisma may have done.

    :return: The sums of the text as it is, and with the line ends of Unix and of Windows.
    """
    # Bytes that are no UTF-8 are replaced before Prisma sums the text.
    text = script.decode("utf-8", "replace").encode()
    unix = text.replace(b"\r\n", b"\n")
    return frozenset(hashlib.sha256(each).hexdigest() for each in (text, unix, unix.replace(b"\n", b"\r\n")))


def effective_rows(rows: Iterable[AppliedMigration]) -> dict[str, AppliedMigration]:
    """Reduce a history to one row for each migration, as a deploy sees it.

    A migration that failed, was resolved as rolled back and then applied has two rows: the one that was not
    rolled back counts, and a failed one above all.
    """
    found: dict[str, AppliedMigration] = {}
    for row in rows:
        before = found.get(row.name)
        if before is None or before.rolled_back or row.state is MigrationState.FAILED:
            found[row.name] = row
    return found


@dataclass(frozen=True)
class Compared:
    """One migration in the places that were looked at.

    :ivar disk: Whether the project has it.
    :ivar states: Its state in the database and in the dump, in that order: `pending`, `absent` (neither there nor on
        disk), or a row's own state, with `edited` or `not on disk` where it is so; None for what was not looked at.
    """

    name: str
    disk: bool
    states: tuple[str | None, str | None]


def compare_migrations(
    disk: Sequence[OnDisk], database: Sequence[AppliedMigration] | None, dump: Sequence[AppliedMigration] | None
) -> tuple[Compared, ...]:
    """Put disk, database and dump side by side.

    :param database: Its history; an empty one where it has none, None where nobody looked; so `dump`.
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
    counts = bool(row.finished) and not row.rolled_back and bool(migration.checksums)
    return counts and row.checksum not in migration.checksums


def foresee_migrations(
    disk: Sequence[OnDisk], rows: Sequence[AppliedMigration] | None, *, filled: bool, prisma: str
) -> list[Finding]:
    """Tell what `prisma migrate deploy` would meet, the findings that stop it first.

    :param rows: The history that it will find; None where there is no `_prisma_migrations`.
    :param filled: Whether its schema holds anything else.
    :param prisma: What to type for Prisma (`npx prisma`).
    """
    findings = [*_stopping(disk, rows, filled=filled, prisma=prisma), *_unreported(disk, rows or (), prisma)]
    return sorted(findings, key=lambda finding: not finding.fatal)


def _stopping(
    disk: Sequence[OnDisk], rows: Sequence[AppliedMigration] | None, *, filled: bool, prisma: str
) -> list[Finding]:
    found = []
    if rows is None and filled and disk:
        found.append(
            Finding(
                code="P3005",
                what="There are tables but no _prisma_migrations, so Prisma does not know which migrations they come "
                "from",
                remedy=f"Baseline it: `{prisma} migrate resolve --applied NAME` for each migration that is in it "
                f"already, such as {disk[0].name}.",
                fatal=True,
            )
        )
    failed = sorted(row.name for row in effective_rows(rows or ()).values() if row.state is MigrationState.FAILED)
    if failed:
        found.append(
            Finding(
                code="P3009",
                what=f"The history holds a failed migration: {format_list(failed)}",
                remedy=f"Look at what it did, then `{prisma} migrate resolve --rolled-back {failed[0]}` (it will run "
                f"again) or `--applied {failed[0]}` (it was completed by hand).",
                fatal=True,
            )
        )
    missing = [
        name for name in pending_migrations(disk, rows) if name in {each.name for each in disk if not each.checksums}
    ]
    if missing:
        found.append(
            Finding(
                code="P3015",
                what=f"There is no {SCRIPT} in the migration {format_list(missing)}",
                remedy="Bring the file back from git, or remove the folder. Those before it are applied first.",
                fatal=True,
            )
        )
    return found


def _unreported(disk: Sequence[OnDisk], rows: Sequence[AppliedMigration], prisma: str) -> list[Finding]:
    history, known = effective_rows(rows), {each.name: each for each in disk}
    found = []
    unknown = sorted(
        name for name, row in history.items() if name not in known and row.state is not MigrationState.ROLLED_BACK
    )
    if unknown and known:
        found.append(
            Finding(
                code="",
                what=f"The history holds migrations that this checkout does not have: {format_list(unknown)}",
                remedy="It comes from another branch: check that one out, or expect the application not to fit; Prisma "
                "does not notice.",
                fatal=False,
            )
        )
    edited = sorted(name for name, row in history.items() if name in known and _edited(known[name], row))
    if edited:
        found.append(
            Finding(
                code="",
                what=f"Migrations were edited after they were applied: {format_list(edited)}",
                remedy=f"What they say now is not what is in the database, and a deploy does not notice: bring the "
                f"file back from git, and write the change into a new migration (`{prisma} migrate dev`).",
                fatal=False,
            )
        )
    return found


def pending_migrations(disk: Sequence[OnDisk], rows: Sequence[AppliedMigration] | None) -> list[str]:
    """Name the migrations that a deploy would apply, in their order."""
    history = effective_rows(rows or ())
    return [each.name for each in disk if each.name not in history or history[each.name].rolled_back]
