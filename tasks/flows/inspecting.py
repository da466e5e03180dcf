"""Inspect: what a dump holds, from its manifest, or by reading a foreign one to its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..archive import manifest as manifests
from ..archive.past import Past, from_document
from ..archive.strange import LexError
from ..errors import BadInputError
from . import authors, dumpfile, reading

if TYPE_CHECKING:
    from pathlib import Path

    from ..archive.manifest import Manifest, Outline, TableRows
    from ..settings import Settings
    from .report import Report


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
    history: tuple[Past, ...] | None
    doubt: str
    inserts: int = 0
    unread: bool = False


def inspect(settings: Settings, file: str, report: Report) -> Inspected:
    """Tell what a dump holds.

    :raises BadInputError: It can't be read, or is no whole dump.
    """
    path = dumpfile.choose(settings, file, report)
    manifest = manifests.read(path)
    size = path.stat().st_size
    if manifest is not None and manifest.file.size == size:
        return Inspected(
            path,
            manifest,
            size,
            manifest.content.size,
            str(manifest.source.get("server_version", "")),
            str(manifest.pg_dump.get("version", "")),
            manifest.outline,
            manifest.tables,
            from_document(manifest.facts.get("history")),
            authors.doubt(manifest),
        )
    return _read(settings, path, manifest, report)


def _read(settings: Settings, path: Path, manifest: Manifest | None, report: Report) -> Inspected:
    size = path.stat().st_size
    try:
        text = reading.read(dumpfile.source(settings, path), size, report)
    except LexError as error:
        raise BadInputError(f"{path.name} can't be read to its end: {error}.") from None
    survey = text.survey
    if not survey.complete:
        raise BadInputError(f"{path.name} is not a whole dump: pg_dump's last line is missing.")
    if manifest is not None and text.content != manifest.content:
        raise BadInputError(f"{path.name} is not what its manifest describes: it was damaged or changed since.")
    return Inspected(
        path,
        manifest,
        size,
        text.content.size,
        survey.server,
        survey.client,
        survey.outline(),
        survey.tables(),
        text.history.past(),
        authors.doubt(manifest),
        survey.inserts,
        text.history.hidden,
    )
