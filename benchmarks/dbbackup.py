"""django-dbbackup's way of making a backup, without Django: `python -m benchmarks.dbbackup {default,compress} FILE`.

An imitation of the data path of django-dbbackup 5.4 (`dbbackup/db/base.py`, `dbbackup/utils.py`, `storage.py`) with
its own defaults, so that no Django has to be installed and started for it; its start-up is in its favour here:
pg_dump writes into a spooled temporary file (10 MB in memory, then on disk), with `--compress` that is compressed by
Python's gzip at its default level 9 into a second one, and the last one is copied into the storage's file.

- `default`: the connector that it chooses for PostgreSQL, `pg_dump --format=custom`, without `--compress`;
- `compress`: the connector for plain SQL (`PgDumpConnector`), with `--compress`.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

MEMORY = 10 * 1024 * 1024
READ = 1024 * 1000
# Of Django's `File.chunks`, by which its storage writes a file.
CHUNK = 64 * 1024


def backup(argv: list[str], *, compress: bool, final: Path) -> None:
    """Make a backup of what the environment's `PG…` variables name."""
    with _spooled() as dumped, _spooled() as zipped:
        # Not before the file is real: pg_dump gets its descriptor, as there.
        subprocess.run(argv, stdout=dumped, check=True)
        dumped.seek(0)
        if compress:
            with gzip.GzipFile(filename=final.name, fileobj=zipped, mode="wb") as file:
                shutil.copyfileobj(dumped, file, READ)
            zipped.seek(0)
        with final.open("wb") as stored:
            shutil.copyfileobj(zipped if compress else dumped, stored, CHUNK)


def _spooled() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(max_size=MEMORY, dir=".")


if __name__ == "__main__":
    way, name = sys.argv[1:]
    plain = way == "compress"
    options = ["--clean", "--if-exists"] if plain else ["--format=custom"]
    backup(["pg_dump", *options], compress=plain, final=Path(name))
