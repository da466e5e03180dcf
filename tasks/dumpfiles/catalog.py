"""List dumps and inspect one."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..dumpformat.applied_migration import AppliedMigration, history_from_document
from ..errors import BadInputError
from ..formatting import parse_instant
from .dump_file import choose_dump, open_dump_text, read_whole_text
from .origin import describe_part, doubt_about_authors, origin_key
from .paths import UNDO, known_defect, list_dumps, list_safety_dumps, read_manifest, time_in_name
from .pin import PINNED
from .retention import Condition

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ..config.settings import Settings
    from ..dumpformat.manifest import Manifest, Outline, TableRows
    from ..progress import Report


@dataclass(frozen=True)
class Listed:
    """A dump in the list. Most values are from its manifest and empty without one.

    :ivar when: The time in the manifest, else in the name, else the file's modification time.
    :ivar size: Bytes.
    :ivar rows: None without a manifest.
    :ivar condition: The state of the file, determined without reading it.
    :ivar defect: The reason why the dump is broken; empty for another condition.
    :ivar rehearsed: The time of the last rehearsal; empty if there was none.
    :ivar excluded: Tables whose rows it leaves out.
    :ivar checksums: Whether the manifest has checksums of the other tables.
    :ivar safety: Whether it is a safety dump.
    :ivar id: All digits of its id.
    :ivar branch: The git branch that was checked out; empty if unknown.
    :ivar pinned: The time when it was pinned; empty if it is not.
    :ivar part: The part of its database that it contains, in words; empty if it contains all of it.
    :ivar origin: A key that dumps of the same database share (:func:`origin_key`).
    """

    path: Path
    when: datetime
    size: int
    condition: Condition
    rows: int | None = None
    server: str = ""
    note: str = ""
    defect: str = ""
    rehearsed: str = ""
    excluded: tuple[tuple[str, str], ...] = ()
    checksums: bool = False
    safety: bool = False
    database: str = ""
    id: str = ""
    branch: str = ""
    pinned: str = ""
    part: str = ""
    origin: tuple[str, ...] = ()

    @property
    def is_partial(self) -> bool:
        """Whether it lacks rows or objects of its database."""
        return bool(self.part or self.excluded)

    @property
    def complete(self) -> bool | None:
        """Whether the file is complete; None if only reading it shows that."""
        return {Condition.COMPLETE: True, Condition.BROKEN: False}.get(self.condition)

    @property
    def name(self) -> str:
        """The value for `--file=`."""
        return f"{self.path.parent.name}/{self.path.name}" if self.safety else self.path.name


def list_catalog(settings: Settings) -> list[Listed]:
    """Return the dumps of the dumps folder, newest first, then the safety dumps."""
    found = []
    for safety, paths in ((False, list_dumps(settings.dumps)), (True, list_safety_dumps(settings.dumps))):
        for path in paths:
            # A dump may be deleted meanwhile.
            with contextlib.suppress(FileNotFoundError):
                found.append(_listed(path, safety=safety))
    return found


def _listed(path: Path, *, safety: bool) -> Listed:
    status = path.stat()
    defect = known_defect(path)
    try:
        manifest = read_manifest(path)
    except BadInputError:
        manifest = None
    when = time_in_name(path.name) or time_in_name(path.name, UNDO) or datetime.fromtimestamp(status.st_mtime, UTC)
    condition = Condition.BROKEN if defect else Condition.FOREIGN
    listed = Listed(path=path, when=when, size=status.st_size, condition=condition, defect=defect, safety=safety)
    if manifest is None:
        return listed
    own = Condition.COMPLETE if manifest.file_name == path.name else Condition.UNKNOWN
    return replace(
        listed,
        when=parse_instant(manifest.created) or when,
        rows=manifest.rows,
        server=str(manifest.source.get("server_version", "")),
        note=manifest.note,
        condition=condition if defect else own,
        rehearsed=str(manifest.extra.get("rehearsed", "")),
        excluded=manifest.excluded_data,
        checksums=bool(manifest.facts.get("checksums")),
        database=str(manifest.source.get("database", "")),
        id=manifest.id,
        branch=str((manifest.git or {}).get("branch") or ""),
        pinned=str(manifest.extra.get(PINNED, "")),
        part=describe_part(manifest),
        origin=origin_key(manifest),
    )


def select_dumps(listed: Iterable[Listed], match: str = "", limit: int = 0) -> list[Listed]:
    """Return dumps and safety dumps, oldest first.

    :param match: Text that the name, note, database or branch must contain; case is ignored. Empty for all.
    :param limit: The number of newest dumps to return; 0 for all.
    :raises BadInputError: The limit is negative.
    """
    if limit < 0:
        raise BadInputError(f"--limit={limit} is not a number of dumps.")
    text = match.casefold()
    found = [
        each
        for each in listed
        if any(text in value.casefold() for value in (each.name, each.note, each.database, each.branch))
    ]
    return sorted(found, key=lambda each: (each.when, each.name))[-limit:]


@dataclass(frozen=True)
class Inspected:
    """The content of a dump.

    :ivar manifest: None for a dump without one, whose text was read instead.
    :ivar size: Bytes of the file; `content` bytes of the plain text.
    :ivar server: The version of the dumped server; `client` that of pg_dump.
    :ivar inserts: The number of INSERT statements, whose rows are not in `tables`.
    :ivar doubt: The reason why a superuser must confirm the restore; empty if there is none.
    :ivar history: The migrations in `_prisma_migrations`; None without this table, or if `unread`: its rows are
        INSERT statements.
    """

    path: Path
    manifest: Manifest | None
    size: int
    content: int
    server: str
    client: str
    outline: Outline
    tables: tuple[TableRows, ...]
    history: tuple[AppliedMigration, ...] | None
    doubt: str
    inserts: int = 0
    unread: bool = False


def inspect_dump(settings: Settings, file: str, report: Report) -> Inspected:
    """Return the content of a dump.

    :raises BadInputError: It can't be read, or is not complete.
    """
    path = choose_dump(settings, file, report)
    manifest = read_manifest(path)
    size = path.stat().st_size
    if manifest is not None and manifest.file.size == size:
        return Inspected(
            path=path,
            manifest=manifest,
            size=size,
            content=manifest.content.size,
            server=str(manifest.source.get("server_version", "")),
            client=str(manifest.pg_dump.get("version", "")),
            outline=manifest.outline,
            tables=manifest.tables,
            history=history_from_document(manifest.facts.get("history")),
            doubt=doubt_about_authors(manifest),
        )
    return _read_dump(settings, path, manifest, report)


def _read_dump(settings: Settings, path: Path, manifest: Manifest | None, report: Report) -> Inspected:
    text = read_whole_text(open_dump_text(settings, path), path, manifest, report)
    summary = text.summary
    return Inspected(
        path=path,
        manifest=manifest,
        size=path.stat().st_size,
        content=text.content.size,
        server=summary.server,
        client=summary.client,
        outline=summary.outline(),
        tables=summary.tables(),
        history=text.history.history(),
        doubt=doubt_about_authors(manifest),
        inserts=summary.inserts,
        unread=text.history.hidden,
    )
