"""Pin dumps, so that no task deletes them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import BadInputError
from ..formatting import format_now
from .atomic_write import disk_error, replace_file
from .paths import find_dump_file, known_defect, manifest_path, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from ..config.settings import Settings


PINNED = "pinned"
"""Key of the manifest: the time when the dump was pinned."""


def pin_dump(settings: Settings, file: str, *, pinned: bool) -> tuple[Path, bool]:
    """Pin or unpin a dump, in its manifest.

    :param file: The value of `--file`.
    :return: The dump, and whether anything changed.
    :raises BadInputError: It has no manifest, or is not complete. Nothing was changed.
    :raises OperationFailedError: The manifest could not be written.
    """
    if not file:
        raise BadInputError("--file= is missing. Nothing was changed. Name a dump of `inv db.list`.")
    path = find_dump_file(file, settings.dumps, settings.cwd, broken=not pinned)
    manifest = read_manifest(path)
    if manifest is None:
        raise BadInputError(
            f"{path.name} can't be pinned: it has no manifest to store the pin in. Nothing was changed. db.prune never "
            f"deletes such a dump."
        )
    if pinned and (defect := known_defect(path)):
        raise BadInputError(f"{path.name} is broken: {defect}. Nothing was changed.")
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
