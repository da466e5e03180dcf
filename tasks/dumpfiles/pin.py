"""Pins: dumps that nothing of ours deletes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import BadInputError
from ..formatting import format_now
from .atomic_write import disk_error, replace_file
from .paths import find_dump_file, known_doubt, manifest_path, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from ..config.settings import Settings


PINNED = "pinned"
"""Key of a manifest: when the dump was pinned."""


def pin_dump(settings: Settings, file: str, *, pinned: bool) -> tuple[Path, bool]:
    """Pin a dump, or unpin it; its manifest says so, also after gzip and gunzip.

    :param file: The dump, as `--file` names it.
    :return: The dump, and whether anything changed.
    :raises BadInputError: It has no manifest, or is not whole. Nothing was changed.
    :raises OperationFailedError: The manifest could not be written.
    """
    if not file:
        raise BadInputError("--file= is missing: name the dump. `inv db.list` shows them. Nothing was changed.")
    path = find_dump_file(file, settings.dumps, settings.cwd, broken=not pinned)
    manifest = read_manifest(path)
    if manifest is None:
        raise BadInputError(
            f"{path.name} has no manifest, which would hold the pin. db.prune never deletes such a dump. Nothing was "
            f"changed."
        )
    if pinned and (doubt := known_doubt(path)):
        raise BadInputError(f"{path.name} is not whole: {doubt}. Nothing was changed.")
    if (PINNED in manifest.extra) is pinned:
        return path, False
    extra = {key: value for key, value in manifest.extra.items() if key != PINNED}
    if pinned:
        extra[PINNED] = format_now()
    if not settings.dry:
        try:
            replace_file(manifest_path(path), replace(manifest, extra=extra).to_json())
        except OSError as error:
            raise disk_error(error, manifest_path(path)) from None
    return path, True
