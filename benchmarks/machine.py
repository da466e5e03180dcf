"""What it was measured on, without anything that names the machine or its owner."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.servers import Server

LIBRARIES = ("invoke", "psycopg", "psycopg-binary", "isal", "backports.zstd", "rich")
SETTINGS = [
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "data_checksums",
    "wal_level",
    "max_wal_size",
    "checkpoint_timeout",
    "wal_compression",
    "shared_buffers",
    "work_mem",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "max_parallel_workers",
    "max_worker_processes",
    "io_method",
    "autovacuum",
    "jit",
    "max_connections",
    "max_locks_per_transaction",
    "server_encoding",
]


def describe(folder: Path, bin_dir: Path) -> dict[str, str]:
    """Describe the machine and the programs.

    :param folder: Where the server's data and the dumps lie.
    :param bin_dir: The folder of PostgreSQL's programs.
    """
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{int(memory[1]) / 1e6:.0f} GB" if memory else "unknown",
        "load when it began": f"{os.getloadavg()[0]:.1f}",
        "system": f"{_system()}, Linux {re.sub(r'[^0-9.].*', '', platform.release())}",
        "file system": _file_system(folder),
        "Python": platform.python_version(),
        "PostgreSQL": _said(str(bin_dir / "postgres"), "--version").rpartition(" ")[2],
        "gzip": _said("gzip", "--version").rpartition(" ")[2],
        "libraries": ", ".join(f"{name} {_version(name)}" for name in LIBRARIES if _version(name)),
        "commit": _said("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty") or "unknown",
    }


def settings(server: Server) -> dict[str, str]:
    """Read the server's settings that matter here."""
    with server.connect() as connection:
        rows = connection.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s) ORDER BY name", [SETTINGS]
        ).fetchall()
    return dict(rows)


def _said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.strip().partition("\n")[0]


def _version(name: str) -> str:
    try:
        return version(name)
    except ModuleNotFoundError:
        return ""


def _processor() -> str:
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return model[1].strip() if model else platform.machine()


def _system() -> str:
    name = re.search(r'^PRETTY_NAME="?([^"\n]+)', Path("/etc/os-release").read_text(), re.MULTILINE)
    return name[1] if name else "Linux"


def _file_system(folder: Path) -> str:
    """Tell the type of the file system that a folder is on."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(len(point), kind) for point, kind in mounts if folder.is_relative_to(point)]
    return max(above)[1] if above else "unknown"
