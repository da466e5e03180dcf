"""Names of dumps: the time in them, the newest, and what a person's `--file=` means."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..dumpformat.compression import Compression
from ..dumpformat.manifest import SIZE_LIMIT, Manifest, manifest_from_json
from ..errors import BadInputError
from ..formatting import format_list
from ..system.processes import open_regular
from .short_ids import SHORTEST_ID, is_id_beginning, shorten_ids

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


PART_SUFFIX = ".part"
MANIFEST_SUFFIX = ".manifest.json"
# Of Linux, macOS and nearly every file system.
LONGEST_NAME = 255
# Below the folder of the dumps, so that no safety dump is ever the newest.
UNDO_FOLDER = "undo"
DUMP, UNDO = "db_dump", "db_undo"
_DUMP = re.compile(r"(db_dump|db_undo)_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z)\.sql(?:\.gz|\.zst)?\Z")
_TIME = "%Y-%m-%dT%H-%M-%S-%f"


def new_dump_stem(when: datetime, prefix: str = DUMP) -> str:
    """Name a dump by its time, to the millisecond, in UTC: `db_dump_2025-12-21T10-30-45-123Z`."""
    return f"{prefix}_{when.astimezone(UTC).strftime(_TIME)[:-3]}Z"


def time_in_name(name: str, prefix: str = DUMP) -> datetime | None:
    """Read the time in a dump's name; None where the name is not one of ours."""
    found = _DUMP.match(name)
    if found is None or found[1] != prefix:
        return None
    try:
        return datetime.strptime(found[2][:-1] + "000", _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None


def name_stem(path: Path) -> str:
    """Take `.sql`, `.sql.gz` or `.sql.zst` off a dump's name; other suffixes stay."""
    compression = Compression.of_name(path.name)
    return path.name.removesuffix(compression.suffix) if compression else path.name


def manifest_path(path: Path) -> Path:
    """Tell where the manifest of a dump lies: beside it, named by its stem."""
    return path.with_name(name_stem(path) + MANIFEST_SUFFIX)


def list_dumps(folder: Path) -> list[Path]:
    """List the dumps of a folder, newest first: first those with a time in their name, by that time.

    Dumps named by hand follow, by name. Part files and manifests are no dumps.
    """
    try:
        if not folder.is_dir():
            return []
        paths = list(folder.iterdir())
    except OSError as error:
        raise BadInputError(f"The folder {folder} can't be read: {error.strerror}. Nothing was touched.") from None
    found = [path for path in paths if _is_dump(path)]
    timed = [(time, path) for path in found if (time := time_in_name(path.name)) is not None]
    named = sorted(path for path in found if time_in_name(path.name) is None)
    return [path for _, path in sorted(timed, reverse=True)] + named


def list_safety_dumps(folder: Path) -> list[Path]:
    """List the safety dumps below a folder of dumps, newest first."""
    found = [path for path in list_dumps(folder / UNDO_FOLDER) if time_in_name(path.name, UNDO) is not None]
    return sorted(found, key=lambda path: path.name, reverse=True)


def list_orphan_manifests(folder: Path) -> list[Path]:
    """List the manifests of a folder whose dump is not there, nor about to be published.

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
    """Find the dump that a person means.

    :param value: A path as typed, a path below `dumps`, a file name, or the beginning of the name or the id of one
        dump in `dumps`, of four characters or more.
    :param broken: Whether a beginning may name a dump that is known not to be whole.
    :raises BadInputError: There is no such file, a beginning is that of several, or of one that is not whole.
    """
    if not value.strip() or "\0" in value:
        raise BadInputError("--file= names no file.")
    for candidate in (cwd / value, dumps / value):
        with _judged(value):
            mode = _mode(candidate)
            if mode is None and candidate.is_symlink():
                raise BadInputError(f"{value} is a link that leads nowhere. Nothing was touched.")
        if mode is None:
            continue
        if stat.S_ISDIR(mode):
            raise BadInputError(
                f"{value} is a folder, not a dump. A directory-format dump can be turned into a file "
                f"first: pg_restore --file=dump.sql {value}"
            )
        if not stat.S_ISREG(mode):
            raise BadInputError(
                f"{value} is not an ordinary file but a pipe, a socket or a device, which can't be read twice. "
                f"Nothing was touched; write it into a file first."
            )
        return candidate
    found = {} if Compression.of_name(value) else _dumps_that_begin(value, dumps)
    if found:
        return _only_dump(value, found, broken=broken)
    for candidate in (cwd / value, dumps / value):
        with _judged(value):
            others = sibling_paths(candidate)
        for other in others:
            raise BadInputError(f"There is no dump {value!r}, but there is {other.name}. Nothing was touched.")
    raise BadInputError(f"There is no dump {value!r}, neither here nor in {dumps}. `inv db.list` shows them.")


def _dumps_that_begin(value: str, dumps: Path) -> dict[Path, str]:
    """Return the dumps whose name or id begins so, each with its id; it is empty where the dump has none."""
    found: dict[Path, str] = {}
    beginning = value.strip()
    for path in [*list_dumps(dumps), *list_safety_dumps(dumps)] if len(beginning) >= SHORTEST_ID else []:
        name, known = path.relative_to(dumps).as_posix(), ""
        with contextlib.suppress(BadInputError):
            manifest = read_manifest(path)
            known = manifest.id if manifest else ""
        if path.name.startswith(beginning) or name.startswith(beginning) or is_id_beginning(beginning, known):
            found[path] = known
    return found


def _only_dump(value: str, found: Mapping[Path, str], *, broken: bool) -> Path:
    """Return the one dump that a beginning names.

    :raises BadInputError: There are several, or it is not whole.
    """
    short = shorten_ids(filter(None, found.values()))
    shown = [f"{path.name} ({short[known]})" if known else path.name for path, known in found.items()]
    path = next(iter(found))
    if len(found) > 1:
        raise BadInputError(f"--file={value} may be {format_list(shown)}. Nothing was touched. Name one of them.")
    if not broken and (doubt := known_doubt(path)):
        raise BadInputError(
            f"--file={value} is {path.name}, which is not whole: {doubt}. Nothing was touched. Choose another dump, or "
            f"name this one in full."
        )
    return path


@contextlib.contextmanager
def _judged(value: str) -> Iterator[None]:
    """Put what the file system says of a name (too long, not ours to look at) into a sentence."""
    try:
        yield
    except OSError as error:
        raise BadInputError(f"--file={value} can't be used: {error.strerror}. Nothing was touched.") from None


def place_dump_file(value: str, dumps: Path, cwd: Path) -> Path:
    """Tell where a new dump goes that a person named.

    :param value: A bare file name goes into `dumps`; anything with a folder in it is taken as typed.
    :raises BadInputError: It has no suffix of ours, its folder is missing, or it exists already.
    """
    if Compression.of_name(value) is None or "\0" in value:
        raise BadInputError(f"A dump's name ends in .sql, .sql.gz or .sql.zst; {value!r} does not.")
    path = cwd / value if "/" in value else dumps / value
    if path.name.startswith("."):
        raise BadInputError(f"{value!r} would be a hidden file, which `inv db.list` does not show.")
    if len(os.fsencode(manifest_path(path).name + PART_SUFFIX)) > LONGEST_NAME:
        raise BadInputError(
            f"The name {value[:40]}… is too long: with {MANIFEST_SUFFIX}{PART_SUFFIX} in place of its end it may have "
            f"{LONGEST_NAME} bytes. Nothing was written."
        )
    with _judged(value):
        missing = path.parent != dumps and not path.parent.is_dir()
        others = sibling_paths(path)
    if missing:
        raise BadInputError(
            f"The folder of {value!r} does not exist. Make it first, or name another. Nothing was written."
        )
    for other in others:
        raise BadInputError(f"{other.name} exists already, and a dump never overwrites one. Choose another name.")
    return path


def sibling_paths(path: Path) -> list[Path]:
    """List the dumps that share this one's stem, and so its manifest, the path itself included."""
    paths = (path.with_name(name_stem(path) + each.suffix) for each in Compression)
    return [other for other in paths if _mode(other, follow=False) is not None]


def _mode(path: Path, *, follow: bool = True) -> int | None:
    """Return what kind of file stands there, or None.

    :raises OSError: Nobody can tell. (`Path.exists` says no to that from Python 3.14 on.)
    """
    try:
        return path.stat(follow_symlinks=follow).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_manifest(dump: Path) -> Manifest | None:
    """Read the manifest of a dump; None where it has none.

    :raises BadInputError: There is one that can't be read.
    """
    path = manifest_path(dump)
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > SIZE_LIMIT:
                raise ValueError("it is far too large")
            return manifest_from_json(file.read())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else "") or error
        raise BadInputError(
            f"The manifest {path.name} can't be used: {why}. The dump is untouched; move the manifest away "
            f"to treat the dump as one without."
        ) from None


def known_doubt(path: Path) -> str:
    """Tell, without reading it, why a dump can't be whole; empty where nothing speaks against it."""
    try:
        size = path.stat().st_size
        if size == 0:
            return "it is empty"
        manifest = read_manifest(path)
    except (OSError, BadInputError) as error:
        return str(error)
    if manifest is None or manifest.file_name != path.name or manifest.file.size == size:
        return ""
    return f"it has {size:,} bytes where its manifest says {manifest.file.size:,}"
