"""Delete dumps together with their manifests."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import BadInputError, OperationFailedError
from ..system.runtime import Interruption, defer_signals, set_interrupt_message
from .atomic_write import delete_orphan_manifest, delete_stale_parts, list_part_files, sync_folder
from .catalog import list_catalog
from .dump_file import file_signature
from .paths import PART_SUFFIX, UNDO_FOLDER, find_dump_file, manifest_path, name_stem

if TYPE_CHECKING:
    from pathlib import Path

    from ..config.settings import Settings
    from .catalog import Listed


@dataclass(frozen=True)
class DoomedDump:
    """A dump to delete.

    :ivar signature: The signature of its file when it was chosen.
    """

    dump: Listed
    signature: tuple[int, int, int, int]


def plan_deletion(settings: Settings, file: str) -> DoomedDump:
    """Return the dump that `db.delete` deletes.

    :raises BadInputError: It is pinned, in use, or not in the dumps folder. Nothing was deleted.
    """
    if not file:
        raise BadInputError("--file= is missing. Nothing was deleted. Name a dump of `inv db.list`.")
    path = find_dump_file(file, settings.dumps, settings.cwd, broken=True)
    listed = next((each for each in list_catalog(settings) if _is_same_path(each.path, path)), None)
    if listed is None:
        raise BadInputError(f"{path} is not a dump in {settings.dumps}. Nothing was deleted.")
    if listed.pinned:
        raise BadInputError(
            f"{listed.name} is pinned. Nothing was deleted. `inv db.pin --unpin --file={listed.name}` unpins it."
        )
    if is_in_use(listed.path):
        raise BadInputError(f"{listed.name} is being compressed or expanded. Nothing was deleted.")
    return doomed_dump(listed)


def doomed_dump(dump: Listed) -> DoomedDump:
    """Record the signature of a dump, so that no other file is deleted instead.

    :raises BadInputError: It no longer exists.
    """
    try:
        return DoomedDump(dump=dump, signature=file_signature(dump.path))
    except OSError as error:
        raise BadInputError(f"{dump.name} can't be accessed: {error.strerror}. Nothing was deleted.") from None


def carry_out_deletion(settings: Settings, doomed: DoomedDump) -> None:
    """Delete the chosen dump.

    :raises BadInputError: It was changed, pinned or deleted meanwhile. Nothing was deleted.
    :raises OperationFailedError: It could not be deleted.
    """
    now = plan_deletion(settings, str(doomed.dump.path))
    if now.signature != doomed.signature:
        raise BadInputError(f"{doomed.dump.name} has changed meanwhile. Nothing was deleted.")
    finish_deletions(settings)
    try:
        delete_dump(doomed)
    except Interruption as interruption:
        # Signals are deferred during the deletion.
        interruption.state = f"{doomed.dump.name} was {'kept' if doomed.dump.path.exists() else 'deleted'}."
        raise
    except OSError as error:
        raise OperationFailedError(f"{doomed.dump.name} could not be deleted: {error.strerror}.") from None
    set_interrupt_message(f"{doomed.dump.name} was deleted.")


def delete_dump(doomed: DoomedDump) -> bool:
    """Delete a dump and its manifest; keep the manifest if another form of the dump needs it.

    The dump is first renamed to a part file without a writer, so that :func:`finish_deletions` can complete the
    deletion after a kill. A manifest without its dump could not be distinguished from that of a dump that was renamed
    by hand.

    :return: False if the file has changed or no longer exists. Nothing was deleted.
    :raises OSError: It could not be deleted.
    """
    path = doomed.dump.path
    with defer_signals():
        try:
            if file_signature(path) != doomed.signature:
                return False
            if not manifest_path(path).exists():
                path.unlink()
                return True
            part = path.with_name(path.name + PART_SUFFIX)
            path.rename(part)
        except FileNotFoundError:
            return False
        sync_folder(path.parent)
        delete_orphan_manifest(part)
        part.unlink(missing_ok=True)
        sync_folder(path.parent)
    return True


def finish_deletions(settings: Settings) -> None:
    """Finish killed deletions, and delete the part files of killed dumps."""
    for folder in (settings.dumps, settings.dumps / UNDO_FOLDER):
        with contextlib.suppress(OSError):
            delete_stale_parts(folder)


def is_in_use(path: Path) -> bool:
    """Return whether another form of a dump is being written."""
    stem = name_stem(path)
    return any(locked and part.name.startswith(f"{stem}.") for part, locked in list_part_files(path.parent))


def _is_same_path(first: Path, second: Path) -> bool:
    return first.name == second.name and first.parent.resolve() == second.parent.resolve()
