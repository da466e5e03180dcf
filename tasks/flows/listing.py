"""List: the dumps, and whether each is whole as far as can be told without reading it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..archive import manifest as manifests
from ..archive import names
from ..errors import BadInputError
from .dumpfile import known_doubt

if TYPE_CHECKING:
    from pathlib import Path

    from ..settings import Settings


@dataclass(frozen=True)
class Listed:
    """One dump.

    :ivar when: By its manifest, else its name, else the file's own time.
    :ivar size: Bytes.
    :ivar rows: None without a manifest, and so `server`.
    :ivar whole: `yes` (size as in the manifest), `unknown` (no manifest, or another form of the file than
        it describes: reading it will tell), or why it is not.
    :ivar rehearsed: When it was last rehearsed, by its manifest; empty if never.
    :ivar excluded: Tables whose rows it leaves out, by its manifest; `checksums` whether it has those of the others.
    :ivar safety: Whether it is a safety dump, which is never the newest.
    """

    path: Path
    when: datetime
    size: int
    rows: int | None
    server: str
    note: str
    whole: str
    rehearsed: str = ""
    excluded: tuple[str, ...] = ()
    checksums: bool = False
    safety: bool = False

    @property
    def name(self) -> str:
        """What `--file=` takes."""
        return f"{self.path.parent.name}/{self.path.name}" if self.safety else self.path.name


def listing(settings: Settings) -> list[Listed]:
    """List the dumps of the folder, newest first, and behind them the safety dumps."""
    found = []
    for safety, paths in ((False, names.dumps_in(settings.dumps)), (True, names.safety_dumps_in(settings.dumps))):
        for path in paths:
            # Somebody may remove one meanwhile.
            with contextlib.suppress(FileNotFoundError):
                found.append(replace(_listed(path), safety=safety))
    return found


def _listed(path: Path) -> Listed:
    status = path.stat()
    doubt = known_doubt(path)
    try:
        manifest = manifests.read(path)
    except BadInputError:
        manifest = None
    when = (
        names.time_of(path.name) or names.time_of(path.name, names.UNDO) or datetime.fromtimestamp(status.st_mtime, UTC)
    )
    if manifest is None:
        return Listed(path, when, status.st_size, None, "", "", doubt or "unknown")
    return Listed(
        path,
        names.instant(manifest.created) or when,
        status.st_size,
        manifest.rows,
        str(manifest.source.get("server_version", "")),
        manifest.note,
        doubt or ("yes" if manifest.file_name == path.name else "unknown"),
        str(manifest.extra.get("rehearsed", "")),
        manifest.excluded_data,
        bool(manifest.facts.get("checksums")),
    )
