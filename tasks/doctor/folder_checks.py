"""Check the folder of the dumps: its permissions, git, free space, leftovers and the newest dump."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ..dump.destination import MAKE_ROOM, nearest_folder
from ..dumpfiles.atomic_write import list_part_files
from ..dumpfiles.catalog import Listed, list_catalog
from ..dumpfiles.paths import (
    DUMP,
    UNDO_FOLDER,
    list_dumps,
    list_orphan_manifests,
    list_safety_dumps,
    read_manifest,
    time_in_name,
)
from ..errors import MissingProgramError
from ..formatting import format_age, format_count, format_list, format_size
from ..system.processes import Finished, run_program
from .check import Check, note, ok, skipped, wrong

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.settings import Settings
    from ..dumpformat.manifest import Manifest


_OTHERS = 0o077
# A dump has no index data and may be compressed; still, less than a quarter of the database's size is rarely enough.
_TIGHT = 4
_OLD = timedelta(days=7)
# The largest difference of clocks that is no problem.
SKEW = timedelta(seconds=60)


def check_folder(settings: Settings) -> Check:
    """Check that the folder exists or can be created, and that other users have no access to it."""
    dumps = settings.dumps
    if not dumps.is_dir():
        return _check_missing_folder(dumps)
    if not os.access(dumps, os.R_OK | os.W_OK | os.X_OK):
        return wrong(f"{dumps} is not readable and writable", _make_writable(dumps))
    if not dumps.stat().st_mode & _OTHERS:
        return ok(f"{dumps}, accessible only to you")
    found = [*list_dumps(dumps), *list_safety_dumps(dumps)]
    if opened := [path.name for path in found if path.stat().st_mode & _OTHERS]:
        return wrong(
            f"other users can access {dumps} and dumps in it: {format_list(opened)}", f"chmod -R go-rwx {dumps}"
        )
    return note(f"other users can list {dumps}, but not read the dumps in it", f"chmod 700 {dumps}")


def _check_missing_folder(dumps: Path) -> Check:
    there = nearest_folder(dumps)
    if not there.is_dir() or os.path.lexists(dumps):
        inside = dumps if os.path.lexists(dumps) else there
        return wrong(f"{inside} is not a folder", "Move it away, or set db.dumps_dir to another folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        return wrong(f"{dumps} can't be created, because {there} is not writable", _make_writable(there))
    return ok(f"the first dump creates {dumps}")


def _make_writable(folder: Path) -> str:
    return f"Make it writable (`chown` or `chmod u+rwx {folder}`), or set db.dumps_dir to another folder."


def check_ignored(settings: Settings) -> Check:
    """Check that git ignores the dumps; git commands are run, but change nothing."""
    dumps = settings.dumps
    there = next(each for each in (dumps, *dumps.parents) if each.is_dir())
    try:
        inside = _git(there, "rev-parse", "--is-inside-work-tree")
        if inside.returncode == 0:
            return _ignored(dumps, there)
    except MissingProgramError:
        return skipped("there is no git on PATH")
    here = there.resolve()
    # git has one exit status for all failures, for example for a repository of another owner.
    if not any(os.path.lexists(each / ".git") for each in (here, *here.parents)):
        return ok("not in a git repository")
    return skipped(f"git failed: {next(iter(inside.stderr.strip().splitlines()), '')}")


def _ignored(dumps: Path, there: Path) -> Check:
    tracked = _git(there, "ls-files", "--", str(dumps)).stdout.splitlines()
    if committed := [Path(each).name for each in tracked if not each.endswith(".gitignore")]:
        remedy = f"git rm -r --cached {dumps}, then commit. The files remain in the history, also where it was pushed."
        return wrong(f"git tracks files in {dumps}: {format_list(committed)}", remedy)
    if _git(there, "check-ignore", "--quiet", "--no-index", str(dumps / f"{DUMP}.sql")).returncode == 0:
        return ok(f"git ignores {dumps}")
    if not (dumps / ".gitignore").exists() and not list_dumps(dumps):
        return ok("the first dump creates a .gitignore in the folder")
    remedy = f"echo '*' > {dumps}/.gitignore"
    return wrong(f"git does not ignore {dumps}: the next `git add .` adds the dumps", remedy)


def _git(folder: Path, *arguments: str) -> Finished:
    return run_program(["git", "-C", folder, *arguments], extra={"LC_ALL": "C"})


def check_space(settings: Settings, database: int | None, free: Callable[[Path], int]) -> Check:
    """Compare the free space with the space that a dump may need.

    :param database: The database's size in bytes; None if it is unknown.
    """
    available = free(nearest_folder(settings.dumps))
    if database is None:
        return skipped(f"{format_size(available)}; the size of a dump is not known without the server")
    what = f"{format_size(available)}; the database has {format_size(database)}, and a dump is rarely larger than that"
    if available >= database:
        return ok(what)
    return wrong(what, MAKE_ROOM) if available < database // _TIGHT else note(what, MAKE_ROOM)


def check_leftovers(settings: Settings) -> Check:
    """Check for files that killed commands left, and report the size of the safety dumps."""
    found = [settings.dumps, settings.dumps / UNDO_FOLDER]
    parts = [each for folder in found if folder.is_dir() for each in list_part_files(folder)]
    # The next safety dump deletes what a killed one left in its folder.
    orphans = list_orphan_manifests(settings.dumps) if settings.dumps.is_dir() else []
    safety = list_safety_dumps(settings.dumps)
    size = format_size(sum(path.stat().st_size for path in safety))
    kept = f"{format_count(len(safety), 'safety dump')}, {size}"
    if left := [path for path, locked in parts if not locked]:
        shown = " ".join(str(path) for path in left)
        return wrong(f"killed commands left {format_list([path.name for path in left])}; {kept}", f"rm {shown}")
    if orphans:
        shown = " ".join(str(path) for path in orphans)
        remedy = f"If a dump was renamed, rename its manifest, too: it proves the dump. If it was deleted: rm {shown}"
        return wrong(f"manifests without a dump: {format_list([path.name for path in orphans])}; {kept}", remedy)
    if running := [path.name for path, locked in parts if locked]:
        return note(f"a dump is being written: {format_list(running)}; {kept}")
    return ok(f"none; {kept}")


def check_newest(settings: Settings, now: datetime) -> tuple[Check, Listed | None]:
    """Check the newest dump that a restore may choose: whether it is complete, its age, whether it was rehearsed."""
    dumps = [each for each in list_catalog(settings) if not each.safety and time_in_name(each.path.name)]
    found = [each for each in dumps if not each.is_partial]
    if not found:
        what = "there are only partial dumps, which no task chooses by default" if dumps else "there is none"
        return note(what, "`inv db.dump` makes one."), None
    first = found[0]
    rehearsed = f"rehearsed {first.rehearsed[:10]}" if first.rehearsed else "never rehearsed"
    age = now - first.when
    what = f"{first.name}, {_age(age)}, {format_size(first.size)}, {rehearsed}"
    if first.defect:
        own = [each for each in found if each.database == first.database]
        good = next((each.name for each in own if not each.defect), "")
        instead = f" Until then `inv db.restore` uses {good}." if good else ""
        remedy = f"Make a new dump (`inv db.dump`) and delete this one (`inv db.delete --file={first.name}`).{instead}"
        return wrong(f"{first.name} is broken: {first.defect}", remedy), first
    if age < -SKEW:
        remedy = "Correct the clock that is wrong. Until then this dump counts as the newest, also after new dumps."
        return wrong(f"the name of {first.name} is {_age(-age, '')} in the future", remedy), first
    if age > _OLD:
        return note(what, "`inv db.dump` makes a new one."), first
    return ok(f"{what}{'' if first.complete else '; no manifest, so it may be incomplete'}"), first


def _age(age: timedelta, suffix: str = " old") -> str:
    return f"{format_age(max(age, timedelta(0)))}{suffix}"


def manifest_or_none(listed: Listed | None) -> Manifest | None:
    """Return the manifest of a listed dump; None without one."""
    return None if listed is None else read_manifest(listed.path)
