"""The folder of the dumps: there, closed to others, ignored by git, with room in it; what is in it, and how old."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ..dump.destination import MAKE_ROOM, nearest_folder
from ..dumpfiles.atomic_write import list_part_files
from ..dumpfiles.catalog import list_catalog
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
from .check import note, ok, skipped, wrong

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ..config.settings import Settings
    from ..dumpfiles.catalog import Listed
    from ..dumpformat.manifest import Manifest
    from .check import Check


_OTHERS = 0o077
# A dump is compressed, or leaves out the indexes: less than a quarter of the database is hardly ever enough.
_TIGHT = 4
_OLD = timedelta(days=7)
# Clocks that are that far apart are a trouble of their own.
SKEW = timedelta(seconds=60)


def check_folder(settings: Settings) -> Check:
    """Look whether the folder is there, or can be made, and is closed to others."""
    dumps = settings.dumps
    if not dumps.is_dir():
        return _to_be_made(dumps)
    name = "folder"
    if not os.access(dumps, os.R_OK | os.W_OK | os.X_OK):
        return wrong(name, f"{dumps} can't be read and written to", _writable(dumps))
    if not dumps.stat().st_mode & _OTHERS:
        return ok(name, f"{dumps}, for you alone")
    found = [*list_dumps(dumps), *list_safety_dumps(dumps)]
    if opened := [path.name for path in found if path.stat().st_mode & _OTHERS]:
        return wrong(
            name, f"{dumps} and dumps in it are open to others: {format_list(opened)}", f"chmod -R go-rwx {dumps}"
        )
    return note(name, f"{dumps} can be listed by others; the dumps in it are closed", f"chmod 700 {dumps}")


def _to_be_made(dumps: Path) -> Check:
    name, there = "folder", nearest_folder(dumps)
    if not there.is_dir() or os.path.lexists(dumps):
        inside = dumps if os.path.lexists(dumps) else there
        return wrong(name, f"{inside} is no folder", "Move it away, or name another folder in db.dumps_dir.")
    if not os.access(there, os.W_OK | os.X_OK):
        return wrong(name, f"{dumps} can't be made, as {there} can't be written to", _writable(there))
    return ok(name, f"{dumps} is made by the first dump")


def _writable(folder: Path) -> str:
    return f"Make it yours (`chown` or `chmod u+rwx {folder}`), or name another folder in db.dumps_dir."


def check_ignored(settings: Settings) -> Check:
    """Look whether git would take the dumps along; it is asked, and changes nothing."""
    name, dumps = "ignored by git", settings.dumps
    there = next(each for each in (dumps, *dumps.parents) if each.is_dir())
    try:
        inside = _git(there, "rev-parse", "--is-inside-work-tree")
        if inside.returncode == 0:
            return _ignored(dumps, there)
    except MissingProgramError:
        return skipped(name, "there is no git on PATH")
    here = there.resolve()
    # git has one exit status for all that it can't do, such as a repository of another owner.
    if not any(os.path.lexists(each / ".git") for each in (here, *here.parents)):
        return ok(name, "not in a git repository")
    return skipped(name, f"git does not say ({next(iter(inside.stderr.strip().splitlines()), '')})")


def _ignored(dumps: Path, there: Path) -> Check:
    name = "ignored by git"
    tracked = _git(there, "ls-files", "--", str(dumps)).stdout.splitlines()
    if taken := [Path(each).name for each in tracked if not each.endswith(".gitignore")]:
        remedy = f"git rm -r --cached {dumps}, and commit; what was pushed stays in the history of others."
        return wrong(name, f"git keeps files of {dumps}: {format_list(taken)}", remedy)
    if _git(there, "check-ignore", "--quiet", "--no-index", str(dumps / f"{DUMP}.sql")).returncode == 0:
        return ok(name, f"git ignores {dumps}")
    if not (dumps / ".gitignore").exists() and not list_dumps(dumps):
        return ok(name, "the first dump hides the folder from git")
    remedy = f"echo '*' > {dumps}/.gitignore"
    return wrong(name, f"git does not ignore {dumps}: the next `git add .` takes the dumps", remedy)


def _git(folder: Path, *words: str) -> Finished:
    return run_program(["git", "-C", folder, *words], extra={"LC_ALL": "C"})


def check_space(settings: Settings, database: int | None, free: Callable[[Path], int]) -> Check:
    """Compare the free space with what a dump may take.

    :param database: The database's size in bytes; None where nobody could ask.
    """
    name = "free space"
    there = free(nearest_folder(settings.dumps))
    if database is None:
        return skipped(name, f"{format_size(there)}; how much a dump takes is not known without the server")
    what = (
        f"{format_size(there)}, and the database has {format_size(database)}, which a dump is hardly ever larger than"
    )
    if there >= database:
        return ok(name, what)
    return wrong(name, what, MAKE_ROOM) if there < database // _TIGHT else note(name, what, MAKE_ROOM)


def check_leftovers(settings: Settings) -> Check:
    """Look for what killed commands left, and say what the safety dumps take."""
    name = "leftovers"
    found = [settings.dumps, settings.dumps / UNDO_FOLDER]
    parts = [each for folder in found if folder.is_dir() for each in list_part_files(folder)]
    # What a kill leaves in the folder of the safety dumps, the next one sweeps away.
    orphans = list_orphan_manifests(settings.dumps) if settings.dumps.is_dir() else []
    safety = list_safety_dumps(settings.dumps)
    size = format_size(sum(path.stat().st_size for path in safety))
    kept = f"{format_count(len(safety), 'safety dump')}, {size}"
    if left := [path for path, locked in parts if not locked]:
        shown = " ".join(str(path) for path in left)
        return wrong(name, f"killed commands left {format_list([path.name for path in left])}; {kept}", f"rm {shown}")
    if orphans:
        shown = " ".join(str(path) for path in orphans)
        remedy = f"If a dump was renamed, name its manifest alike: it proves the dump. If the dump is gone: rm {shown}"
        return wrong(
            name, f"manifests without their dump: {format_list([path.name for path in orphans])}; {kept}", remedy
        )
    if running := [path.name for path, locked in parts if locked]:
        return note(name, f"a dump is being written: {format_list(running)}; {kept}")
    return ok(name, f"none; {kept}")


def check_newest(settings: Settings, now: datetime) -> tuple[Check, Listed | None]:
    """Look at the newest dump: whether it is whole as far as its manifest tells, its age, whether it was rehearsed."""
    name = "newest dump"
    found = [each for each in list_catalog(settings) if not each.safety and time_in_name(each.path.name)]
    if not found:
        return note(name, "there is none", "`inv db.dump` makes one."), None
    first = found[0]
    rehearsed = f"rehearsed {first.rehearsed[:10]}" if first.rehearsed else "never rehearsed"
    age = now - first.when
    what = f"{first.name}, {_age(age)}, {format_size(first.size)}, {rehearsed}"
    if first.whole not in ("yes", "unknown"):
        own = [each for each in found if each.database == first.database]
        good = next((each.name for each in own if each.whole in ("yes", "unknown")), "")
        instead = f" Until then `inv db.restore` takes {good}." if good else ""
        remedy = f"Make a new one with `inv db.dump`, and `inv db.delete --file={first.name}`.{instead}"
        return wrong(name, f"{first.name} is not whole: {first.whole}", remedy), first
    if age < -SKEW:
        remedy = "Set the clock that is wrong; until then no newer dump is found as the newest."
        return wrong(name, f"{first.name} comes from the future, {_age(-age, '')} from now", remedy), first
    if age > _OLD:
        return note(name, what, "`inv db.dump` makes a new one."), first
    return ok(name, f"{what}{'' if first.whole == 'yes' else '; no manifest says whether it is whole'}"), first


def _age(age: timedelta, suffix: str = " old") -> str:
    return f"{format_age(max(age, timedelta(0)))}{suffix}"


def manifest_or_none(listed: Listed | None) -> Manifest | None:
    """Read the manifest of a dump that was listed, where there is one."""
    return None if listed is None else read_manifest(listed.path)
