"""Small files that are dumps by their names, sizes and manifests, for tests that never load one."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from tasks.dumpfiles.paths import DUMP, manifest_path, new_dump_stem
from tasks.dumpformat.compression import Compression, Sums
from tests.sample_manifest import MANIFEST


def store_dump(
    folder: Path,
    made: datetime,
    *,
    name: str = "",
    prefix: str = DUMP,
    size: int = 10,
    database: str = "shop",
    excluded: tuple[tuple[str, str], ...] = (),
    source: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write a file that is a dump as far as its name, size and manifest tell.

    :param name: Its name; one made of the time by default.
    :param changes: More keys of the manifest, such as `rehearsed` and `pinned`, or its `note` and `git`.
    """
    path = folder / (name or f"{new_dump_stem(made, prefix)}.sql")
    path.parent.mkdir(exist_ok=True)
    content = path.name.encode().ljust(size, b"x")[: max(size, 1)]
    path.write_bytes(content)
    fields = {key: changes.pop(key) for key in ("note", "git") if key in changes}
    manifest = replace(
        MANIFEST,
        created=made.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        source=source or {"host": "localhost", "port": 5432, "database": database, "server_version": "17.6"},
        file_name=path.name,
        compression=Compression.NONE,
        file=Sums(len(content), "b" * 64),
        content=Sums(len(content), sha256(path.name.encode()).hexdigest()),
        excluded_data=excluded,
        extra=changes,
        **fields,
    )
    manifest_path(path).write_bytes(manifest.to_json())
    return path
