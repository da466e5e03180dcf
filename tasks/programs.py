"""The programs of a PostgreSQL server: which there are, whom they run as, and how they are run."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import process
from .errors import MissingProgramError
from .postgres import clients

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES = ("initdb", "pg_ctl", "postgres")
SUPERUSER = "postgres"
# A socket's path may have 107 bytes on Linux and 103 on macOS, `.s.PGSQL.5432` and a random name included.
LONGEST_TEMPORARY = 70
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)\.?(\d*)")


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
    for folder in [bin_dir] if bin_dir else clients.folders(environ):
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
    return bin_dir in list(clients.packaged())


def _asked(bin_dir: Path) -> Programs | str:
    """Ask programs for their version; what they said instead when they do not start."""
    try:
        done = process.run([bin_dir / "postgres", "--version"], cwd=Path("/"))
    except MissingProgramError as error:
        return str(error).rstrip(".")
    version = _VERSION.search(done.stdout)
    if done.returncode != 0 or version is None:
        return last_lines(done.stderr)
    return Programs(bin_dir, int(version[1]), int(version[2] or 0))


def reachable(programs: Programs, account: process.Account | None, home: Path) -> Programs:
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


def _runs(programs: Programs, account: process.Account) -> bool:
    argv = [str(programs.bin_dir / "postgres"), "--version"]
    try:
        return process.run(argv, cwd=Path("/"), account=account).returncode == 0
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


def environment(programs: Programs) -> dict[str, str]:
    """Build the server's environment: no secrets of ours, no PG* variable, the same locale for everybody."""
    ours = process.environment()
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    environ = {"LC_ALL": "C", "TZ": "UTC", **{name: ours[name] for name in kept if name in ours}}
    # What root has on its PATH may lie where the account cannot go, and it needs rm and sleep.
    environ["PATH"] = os.pathsep.join(filter(None, [environ.get("PATH"), os.defpath]))
    # Where the C library is musl, the package brings ICU's data as a file beside it.
    icu = programs.bin_dir.parent / "share" / "icu"
    return {**environ, "ICU_DATA": str(icu)} if icu.is_dir() else environ


def account_for(folder: Path | None = None) -> process.Account | None:
    """Return whom the server runs as: ourselves (None), or for root somebody else.

    :param folder: Where data are kept: whoever has them goes first, then whoever has the project.
    """
    if os.geteuid() != 0:
        return None
    places = (folder / "data", folder.parent) if folder else ()
    for place in places:
        with contextlib.suppress(OSError, KeyError):  # it is not there; nobody has that number
            entry = pwd.getpwuid(place.stat().st_uid)
            if entry.pw_uid != 0:
                return process.Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return process.Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise MissingProgramError(
        "PostgreSQL does not run as root, and this machine has neither a user postgres nor nobody: "
        "try it as an ordinary user. Nothing was touched."
    )


def give(path: Path, account: process.Account | None) -> None:
    """Make an account the owner of a file, where it is not ourselves."""
    if account:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def temporary(account: process.Account | None) -> str:
    """Return the folder for temporary files, but /tmp where its path is too long, or might be root's own."""
    folder = tempfile.gettempdir()
    return "/tmp" if account or len(os.fsencode(folder)) > LONGEST_TEMPORARY else folder  # noqa: S108


def last_lines(said: str) -> str:
    """Return the end of what a program said, in one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return "; ".join(lines[-3:]).rstrip(".") or "it said nothing"
