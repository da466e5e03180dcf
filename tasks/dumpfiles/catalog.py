"""List: the dumps, and whether each is whole as far as can be told without reading it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..dumpformat.applied_migration import AppliedMigration, history_from_document
from ..dumpformat.foreign_head import LexError
from ..errors import BadInputError
from ..formatting import parse_instant
from .dump_file import choose_dump, open_dump_text
from .dump_text import read_dump_text
from .origin import describe_part, doubt_about_authors, origin_key
from .paths import UNDO, known_doubt, list_dumps, list_safety_dumps, read_manifest, time_in_name
from .pin import PINNED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ..config.settings import Settings
    from ..dumpformat.manifest import Manifest, Outline, TableRows
    from ..progress import Report


@dataclass(frozen=True)
class Listed:
    """One dump.

    :ivar when: By its manifest, else its name, else the file's own time.
    :ivar size: Bytes.
    :ivar rows: None without a manifest; `server` and `database` are then empty.
    :ivar whole: `yes` (size as in the manifest), `unknown` (no manifest, or another form of the file than
        it describes: reading it will tell), or why it is not.
    :ivar rehearsed: When it was last rehearsed, by its manifest; empty if never.
    :ivar excluded: Tables whose rows it leaves out, by its manifest; `checksums` whether it has those of the others.
    :ivar safety: Whether it is a safety dump, which is never the newest.
    :ivar id: All digits of its id, by its manifest; empty without one.
    :ivar branch: The git branch that was checked out; empty where that is not known.
    :ivar pinned: When it was pinned; empty if it is not.
    :ivar part: Which part of its database it holds, in words; empty where that is all of it.
    :ivar origin: What dumps of the same database have in common (:func:`origin_key`); empty without a manifest.
    """

    path: Path
    when: datetime
    size: int
    rows: int | None
    server: str
    note: str
    whole: str
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
        """Whether it lacks anything that its database held."""
        return bool(self.part or self.excluded)

    @property
    def name(self) -> str:
        """What `--file=` takes."""
        return f"{self.path.parent.name}/{self.path.name}" if self.safety else self.path.name


def list_catalog(settings: Settings) -> list[Listed]:
    """List the dumps of the folder, newest first, and behind them the safety dumps."""
    found = []
    for safety, paths in ((False, list_dumps(settings.dumps)), (True, list_safety_dumps(settings.dumps))):
        for path in paths:
            # Somebody may remove one meanwhile.
            with contextlib.suppress(FileNotFoundError):
                found.append(replace(_listed(path), safety=safety))
    return found


def _listed(path: Path) -> Listed:
    status = path.stat()
    doubt = known_doubt(path)
    try:
        manifest = read_manifest(path)
    except BadInputError:
        manifest = None
    when = time_in_name(path.name) or time_in_name(path.name, UNDO) or datetime.fromtimestamp(status.st_mtime, UTC)
    if manifest is None:
        return Listed(
            path=path, when=when, size=status.st_size, rows=None, server="", note="", whole=doubt or "unknown"
        )
    return Listed(
        path=path,
        when=parse_instant(manifest.created) or when,
        size=status.st_size,
        rows=manifest.rows,
        server=str(manifest.source.get("server_version", "")),
        note=manifest.note,
        whole=doubt or ("yes" if manifest.file_name == path.name else "unknown"),
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
    """Return dumps and safety dumps oldest first.

    :param match: Text that the name, the note, the database or the branch must hold, capitals or not; empty for all.
    :param limit: Only so many of the newest; 0 for all.
    :raises BadInputError: The limit is below 0.
    """
    if limit < 0:
        raise BadInputError(f"--limit={limit} is no number of dumps.")
    wanted = match.casefold()
    found = [
        each
        for each in listed
        if any(wanted in text.casefold() for text in (each.name, each.note, each.database, each.branch))
    ]
    return sorted(found, key=lambda each: (each.when, each.name))[-limit:]


@dataclass(frozen=True)
class Inspected:
    """What a dump holds.

    :ivar manifest: None for a foreign dump, which was read instead.
    :ivar size: Bytes of the file, and `content` of the plain text.
    :ivar server: Version of the server that was dumped; `client` that of pg_dump.
    :ivar inserts: INSERT statements, whose rows are not in `tables`.
    :ivar doubt: Why a superuser is asked before it is loaded; empty where no question is asked.
    :ivar history: The migrations that its `_prisma_migrations` holds; None where it has none, or `unread` is set, as
        it writes them as INSERTs.
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
    """Tell what a dump holds.

    :raises BadInputError: It can't be read, or is no whole dump.
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
    size = path.stat().st_size
    try:
        text = read_dump_text(open_dump_text(settings, path), size, report)
    except LexError as error:
        raise BadInputError(f"{path.name} can't be read to its end: {error}.") from None
    summary = text.summary
    if not summary.complete:
        raise BadInputError(
            f"{path.name} is not a whole dump: pg_dump's last line is missing, or other statements follow it."
        )
    if manifest is not None and text.content != manifest.content:
        raise BadInputError(f"{path.name} is not what its manifest describes: it was damaged or changed since.")
    return Inspected(
        path=path,
        manifest=manifest,
        size=size,
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
