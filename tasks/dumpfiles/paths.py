"""Name, list and find the files of dumps."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..dumpformat.compression import Compression
from ..dumpformat.manifest import SIZE_LIMIT, Manifest, manifest_from_json
from ..errors import BadInputError
from ..formatting import format_list
from ..system.processes import open_regular
from .short_ids import SHORTEST_ID, shorten_ids

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ..config.settings import MadeDump


PART_SUFFIX = ".part"
# The name of the file with the content of standard input, before the id of the process.
INPUT_PREFIX = "standard-input-"
MANIFEST_SUFFIX = ".manifest.json"
# Bytes, on Linux, macOS and nearly every file system.
LONGEST_NAME = 255
# A subfolder, so that a safety dump is never chosen as the newest dump.
UNDO_FOLDER = "undo"
DUMP, UNDO = "db_dump", "db_undo"
_DUMP = re.compile(r"(db_dump|db_undo)_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z)\.sql(?:\.gz|\.zst)?\Z")
_TIME = "%Y-%m-%dT%H-%M-%S-%f"
_refused = functools.partial(BadInputError, state="Nothing was touched.")
_unwritten = functools.partial(BadInputError, state="Nothing was written.")
# A task reads the manifests of the same few dumps for several checks.
_parse_manifest = functools.lru_cache(maxsize=2)(manifest_from_json)


def new_dump_stem(when: datetime, prefix: str = DUMP) -> str:
    """Return the stem of a dump's name, from its time in UTC: `db_dump_2025-12-21T10-30-45-123Z`."""
    return f"{prefix}_{when.astimezone(UTC).strftime(_TIME)[:-3]}Z"


def time_in_name(name: str, prefix: str = DUMP) -> datetime | None:
    """Return the time in a dump's name; None for a name of another form."""
    found = _DUMP.match(name)
    if found is None or found[1] != prefix:
        return None
    try:
        return datetime.strptime(found[2][:-1] + "000", _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None


def name_stem(path: Path) -> str:
    """Return a dump's name without `.sql`, `.sql.gz` or `.sql.zst`; other suffixes are kept."""
    compression = Compression.of_name(path.name)
    return path.name.removesuffix(compression.suffix) if compression else path.name


def manifest_path(path: Path) -> Path:
    """Return the path of a dump's manifest: in the same folder, with the same stem."""
    return path.with_name(name_stem(path) + MANIFEST_SUFFIX)


def list_dumps(folder: Path) -> list[Path]:
    """Return the dumps of a folder: those with a time in their name, newest first, then those named by hand, by name.

    :raises BadInputError: The folder can't be read.
    """
    try:
        if not folder.is_dir():
            return []
        paths = list(folder.iterdir())
    except OSError as error:
        raise _refused(f"The folder {folder} can't be read: {error.strerror}.") from None
    found = [path for path in paths if _is_dump(path)]
    timed = [(time, path) for path in found if (time := time_in_name(path.name)) is not None]
    named = sorted(path for path in found if time_in_name(path.name) is None)
    return [path for _, path in sorted(timed, reverse=True)] + named


def list_safety_dumps(folder: Path) -> list[Path]:
    """Return the safety dumps of a dumps folder, newest first."""
    found = [path for path in list_dumps(folder / UNDO_FOLDER) if time_in_name(path.name, UNDO) is not None]
    return sorted(found, key=lambda path: path.name, reverse=True)


def list_orphan_manifests(folder: Path) -> list[Path]:
    """Return the manifests of a folder that belong to no dump and no part file.

    :raises OSError: The folder can't be read.
    """
    found = {path.name for path in folder.iterdir()}
    manifests = sorted(name for name in found if name.endswith(MANIFEST_SUFFIX))
    others = found.difference(manifests)
    stems = {name: name.removesuffix(MANIFEST_SUFFIX) for name in manifests}
    return [
        folder / name
        for name, stem in stems.items()
        if not any(other == stem or other.startswith(f"{stem}.") for other in others)
    ]


def _is_dump(path: Path) -> bool:
    name = path.name
    if name.endswith((PART_SUFFIX, MANIFEST_SUFFIX)) or name.startswith("."):
        return False
    return path.is_file() and (Compression.of_name(name) is not None or name.endswith((".dump", ".pgdump")))


def find_dump_file(value: str, dumps: Path, cwd: Path, *, broken: bool = False) -> Path:
    """Return the path of the dump that a value of `--file` names.

    :param value: A path, a path below `dumps`, a file name, or the beginning, at least four characters, of the name or
        id of a dump in `dumps`.
    :param broken: Whether a beginning may name a dump that is known to be incomplete.
    :raises BadInputError: There is no such file, or a beginning matches several dumps or an incomplete one.
    """
    if not value.strip() or "\0" in value:
        raise _refused("--file= is empty or contains a null byte.")
    for candidate in (cwd / value, dumps / value):
        with _judged(value):
            mode = _mode(candidate)
            if mode is None and candidate.is_symlink():
                raise _refused(f"{value} is a link to a file that does not exist.")
        if mode is None:
            continue
        if stat.S_ISDIR(mode):
            raise _refused(
                f"{value} is a folder, not a dump.",
                fix=f"Convert a directory-format dump to a file: pg_restore --file=dump.sql {value}",
            )
        if not stat.S_ISREG(mode):
            raise _refused(
                f"{value} is a pipe, a socket or a device, which can't be read twice.",
                fix="Write its content to a file first.",
            )
        return candidate
    beginning = value.strip().lower()
    found = {} if Compression.of_name(value) else _dumps_that_begin(value, dumps)
    if found and len(beginning) >= SHORTEST_ID:
        return _only_dump(value, found, broken=broken)
    for candidate in (cwd / value, dumps / value):
        with _judged(value):
            others = sibling_paths(candidate)
        for other in others:
            raise _refused(f"There is no dump {value!r}, but there is {other.name}.")
    if any(each.startswith(beginning) for each in found.values()):
        raise _refused(
            f"{value!r} is too short for an id: give at least four characters.", fix="`inv db.list` shows the ids."
        )
    raise _refused(f"There is no dump {value!r} in this folder or in {dumps}.", fix="`inv db.list` shows the dumps.")


def _dumps_that_begin(value: str, dumps: Path) -> dict[Path, str]:
    """Return the dumps whose name or id begins with a value, each with its id, or with an empty one."""
    found: dict[Path, str] = {}
    beginning = value.strip()
    for path in [*list_dumps(dumps), *list_safety_dumps(dumps)]:
        name, known = path.relative_to(dumps).as_posix(), ""
        with contextlib.suppress(BadInputError):
            manifest = read_manifest(path)
            known = manifest.id if manifest else ""
        if path.name.startswith(beginning) or name.startswith(beginning) or known.startswith(beginning.lower()):
            found[path] = known
    return found


def _only_dump(value: str, found: Mapping[Path, str], *, broken: bool) -> Path:
    """Return the only dump that a beginning matches.

    :raises BadInputError: It matches several, or the dump is incomplete.
    """
    short = shorten_ids(filter(None, found.values()))
    shown = [f"{path.name} ({short[known]})" if known else path.name for path, known in found.items()]
    path = next(iter(found))
    if len(found) > 1:
        raise _refused(f"--file={value} matches {format_list(shown)}.", fix="Name one of them.")
    if not broken and (defect := known_defect(path)):
        raise _refused(
            f"--file={value} matches {path.name}, which is broken: {defect}.",
            fix="Choose another dump, or use the full name of this one.",
        )
    return path


@contextlib.contextmanager
def _judged(value: str) -> Iterator[None]:
    """Turn an OSError about a name, such as too long or not permitted, into a BadInputError."""
    try:
        yield
    except OSError as error:
        raise _refused(f"--file={value} can't be used: {error.strerror}.") from None


def place_dump_file(value: str, dumps: Path, cwd: Path) -> Path:
    """Return the path of a new dump that `--file` names.

    :param value: A file name in `dumps`, or a path with a folder.
    :raises BadInputError: It has another suffix, its folder is missing, or it exists already.
    """
    if Compression.of_name(value) is None or "\0" in value:
        raise _unwritten(f"A dump's name must end in .sql, .sql.gz or .sql.zst; {value!r} does not.")
    path = cwd / value if "/" in value else dumps / value
    if path.name.startswith("."):
        raise _unwritten(f"{value!r} is the name of a hidden file, which `inv db.list` does not show.")
    if len(os.fsencode(manifest_path(path).name + PART_SUFFIX)) > LONGEST_NAME:
        raise _unwritten(
            f"The name {value[:40]}… is too long: with the suffix {MANIFEST_SUFFIX}{PART_SUFFIX} it must not "
            f"exceed {LONGEST_NAME} bytes."
        )
    with _judged(value):
        missing = path.parent != dumps and not path.parent.is_dir()
        others = sibling_paths(path)
    if missing:
        raise _unwritten(f"The folder of {value!r} does not exist.", fix="Create the folder, or name another.")
    for other in others:
        raise _unwritten(f"{other.name} exists already and is never overwritten.", fix="Choose another name.")
    return path


def sibling_paths(path: Path) -> list[Path]:
    """Return the existing dumps with the stem of a path, and so with its manifest; the path itself may be one."""
    paths = (path.with_name(name_stem(path) + each.suffix) for each in Compression)
    return [other for other in paths if _mode(other, follow=False) is not None]


def _mode(path: Path, *, follow: bool = True) -> int | None:
    """Return the mode of a file, or None if there is none.

    :raises OSError: It can't be determined. (`Path.exists` returns False then, from Python 3.14 on.)
    """
    try:
        return path.stat(follow_symlinks=follow).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_manifest(dump: Path) -> Manifest | None:
    """Return the manifest of a dump, whose values the caller does not change; None if it has none.

    :raises BadInputError: The manifest can't be read.
    """
    path = manifest_path(dump)
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > SIZE_LIMIT:
                raise ValueError("it is too large")
            return _parse_manifest(file.read())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else "") or error
        raise _refused(
            f"The manifest {path.name} can't be used: {why}.",
            fix="To use the dump without it, move the manifest to another folder.",
        ) from None


def refuse_unmade(path: Path, made: Sequence[MadeDump], dumps: Path) -> None:
    """Refuse a dump that was chosen by default if earlier tasks of the same call made dumps, and it is none of them.

    :raises BadInputError: Its message names both.
    """
    manifest = read_manifest(path)
    if not made or (manifest is not None and manifest.id in {each.id for each in made}):
        return
    new = made[-1].path
    name = "to standard output" if new is None else new.name if new.parent == dumps else str(new)
    flag = "" if new is None else f"{shlex.quote(f'--file={name}')} for the new dump, or "
    raise _refused(
        f"The last dump made in this call is {name}; without --file= the next task would use {path.name}.",
        fix=f"Add {flag}{shlex.quote(f'--file={path.name}')}.",
    )


def dump_label(path: Path) -> str:
    """Return the name of a dump for display."""
    is_input = path.name.startswith(INPUT_PREFIX) and path.name.endswith(PART_SUFFIX)
    return "standard input" if is_input else path.name


def known_defect(path: Path) -> str:
    """Return why a dump must be incomplete, without reading it; empty if no reason is known."""
    try:
        size = path.stat().st_size
        if size == 0:
            return "it is empty"
        manifest = read_manifest(path)
    except (OSError, BadInputError) as error:
        return str(error)
    if manifest is None or manifest.file_name != path.name or manifest.file.size == size:
        return ""
    return f"it has {size:,} bytes, and its manifest says {manifest.file.size:,}"
