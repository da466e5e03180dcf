"""What may lie in the folder of the dumps after a fault, and what may not."""

import gzip
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, Final

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SUFFIXES: Final = (".sql", ".sql.gz", ".sql.zst")
MANIFEST: Final = ".manifest.json"


class Violation(AssertionError):  # noqa: N818 - what a fault has found is no error of ours
    """A promise was broken."""


def finals(folder: Path) -> list[Path]:
    """List the dumps that bear a final name, safety dumps left aside."""
    return sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES))


def safety_dumps(folder: Path) -> set[str]:
    """Name the safety dumps."""
    return {path.name for path in (folder / "undo").glob("*") if path.name.endswith(SUFFIXES)}


def parts(folder: Path) -> list[str]:
    """Name the files that are not finished."""
    return sorted(path.name for path in folder.rglob("*.part"))


def converted(folder: Path, operation: str) -> str:
    """Tell whether a conversion is done; where both forms are there, it is not.

    :raises Violation: The dump is gone.
    """
    names = {path.name.partition(".")[2] for path in finals(folder)}
    if not names:
        raise Violation("the dump is gone")
    return "old" if ("sql" if operation == "gzip" else "sql.gz") in names else "new"


def all_whole(folder: Path, *, killed: bool) -> None:
    """Read every file that has a final name to its end, and hold it against its manifest.

    :param killed: A manifest may stand alone, as the next run sweeps it away.
    :raises Violation: One is broken, or has no manifest.
    """
    for place in (folder, folder / "undo"):
        found = finals(place) if place.is_dir() else []
        papers = {stem(path): path for path in place.glob(f"*{MANIFEST}")}
        for path in found:
            if stem(path) not in papers:
                raise Violation(f"{path.name} has no manifest")
            _whole(path, json.loads(papers[stem(path)].read_bytes()))
        alone = papers.keys() - {stem(path) for path in found}
        if alone and not killed:
            raise Violation(f"manifests are left without their dump: {sorted(alone)}")


def claim(folder: Path, database: str) -> None:
    """Let the manifests of a folder say that their dumps were made from a database, which restores take them into."""
    for path in folder.glob(f"*{MANIFEST}"):
        document = json.loads(path.read_bytes())
        document["source"]["database"] = database
        path.write_text(json.dumps(document), encoding="ascii")


def stem(path: Path) -> str:
    """Return a file's name without its suffixes."""
    return path.name.partition(".")[0]


def _whole(path: Path, manifest: dict[str, Any]) -> None:
    try:
        content = text_of(path)
    except (OSError, EOFError, zstd.ZstdError) as error:
        raise Violation(f"{path.name} is broken: {error}") from None
    said = manifest["content"]
    if (len(content), hashlib.sha256(content).hexdigest()) != (said["bytes"], said["sha256"]):
        raise Violation(f"{path.name} is not what its manifest says")


def text_of(path: Path) -> bytes:
    """Read a dump's text."""
    raw = path.read_bytes()
    if path.name.endswith(".gz"):
        return gzip.decompress(raw)
    return zstd.decompress(raw) if path.name.endswith(".zst") else raw


def compressed(text: bytes) -> bytes:
    """Compress as `zstd` does on a command line, with a checksum of the content."""
    options: dict[int, int] = {zstd.CompressionParameter.checksum_flag: 1}
    return zstd.compress(text, options=options)
