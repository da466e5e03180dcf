"""What tests of flows share: the settings they run with, what a flow says, and the flows in one call."""

import hashlib
import json
import os
import re
import subprocess
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from invoke.config import Config
from invoke.context import Context

from tasks.config.defaults import DEFAULTS
from tasks.config.settings import Settings, load_settings
from tasks.dump.dump import Dumped, make_dump
from tasks.dump.request import DumpRequest
from tasks.dumpformat.compression import DecompressedReader, Sums
from tasks.progress import Silence
from tasks.restore.plan import RestorePlan, plan_restore
from tasks.restore.request import RestoreRequest
from tasks.restore.restore import Restored, restore_dump
from tasks.restore.undo import plan_undo
from tests.servers import SUPERUSER
from tests.stored_dumps import store_dump
from tests.support import Database, Project


def settings_of(project: Project, database: Database | None = None, role: str = SUPERUSER, **changes: Any) -> Settings:
    """Return the settings with which a flow runs in this process, as `inv` would have them in the project.

    :param database: What `DATABASE_URL` names; without one there is no URL.
    :param changes: Fields of the settings.
    """
    config = Config(defaults={"db": dict(DEFAULTS), "run": {"dry": False}}, lazy=True)
    config.set_project_location(project.root)
    values: dict[str, Any] = {
        "cwd": project.root,
        "environ": {"PATH": os.defpath},
        "prisma_dir": project.root,
        "lock_timeout": 2000,
        # As in a project of the tests.
        "trust_local": True,
    }
    if database is not None:
        values["environ"]["DATABASE_URL"] = database.url_as(role)
        values["bin_dir"] = database.server.bin_dir
    return replace(load_settings(Context(config)), **{**values, **changes})


def content_of(path: Path) -> bytes:
    """Return the text of a dump, whatever its compression."""
    with DecompressedReader(path) as reading:
        return b"".join(reading.chunks())


def sums_of(data: bytes) -> Sums:
    """Return size and checksum by the standard library."""
    return Sums(len(data), hashlib.sha256(data).hexdigest())


def restore(
    project: Project, database: Database, path: Path | str, *, clean: bool = False, role: str = SUPERUSER
) -> Restored:
    """Restore a dump as the task does with --no-backup, in this process: tests of safety dumps do without this."""
    settings = settings_of(project, database, role)
    plan = plan_restore(settings, RestoreRequest(str(path), clean=clean, trust=True, backup=False), Silence())
    return restore_dump(plan, Silence())


def plan_dump_undo(settings: Settings, report: Silence, **choices: Any) -> RestorePlan:
    """Plan an undo, which has to be that of a safety dump."""
    plan = plan_undo(settings, report, **choices)
    assert isinstance(plan, RestorePlan)
    return plan


def restore_path(
    project: Project, database: Database, path: Path, role: str = SUPERUSER, report: Silence | None = None, **asked: Any
) -> Restored:
    """Restore a dump in this process, with what is asked for besides."""
    report = report or Silence()
    plan = plan_restore(settings_of(project, database, role), RestoreRequest(str(path), trust=True, **asked), report)
    return restore_dump(plan, report)


def restore_privately(
    project: Project,
    database: Database,
    path: Path,
    role: str = SUPERUSER,
    report: Silence | None = None,
    jobs: int = 3,
    lenient: bool | None = None,
    **asked: Any,
) -> Restored:
    """Restore a dump in this process into a database that only it uses, with several sessions.

    :param lenient: Load refused statements in the lenient way; None leaves that to the plan.
    """
    report = report or Silence()
    request = RestoreRequest(str(path), trust=True, **asked)
    plan = plan_restore(settings_of(project, database, role, jobs=jobs), request, report)
    lenient = plan.lenient if lenient is None else lenient
    plan = replace(plan, private=True, lenient=lenient)
    return restore_dump(plan, report)


def dump_of(*statements: str) -> bytes:
    """Return a dump that holds these statements and pg_dump's own end."""
    return "\n".join([*statements, "--\n-- PostgreSQL database dump complete\n--\n"]).encode()


def pg_dump(database: Database, *options: str, program: Path | None = None) -> bytes:
    """Dump as somebody else would: with pg_dump itself, keys of restrict and all."""
    argv = [str(program or database.server.bin_dir / "pg_dump"), f"--dbname={database.server.conninfo(database.name)}"]
    return subprocess.run([*argv, *options], capture_output=True, check=True).stdout


def write(project: Project, name: str, content: bytes) -> Path:
    """Put a foreign dump into the folder of the dumps."""
    path = project.dumps / name
    path.write_bytes(content)
    return path


def ran(project: Project, *words: str) -> str:
    """Run `inv`, which has to end well, and return all that it wrote."""
    result = project.inv(*words)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def sqlstate_of(error: BaseException | None) -> str:
    """Return the SQLSTATE of the server's error that an error of ours was made from; empty without one."""
    while error is not None:
        if isinstance(state := getattr(error, "sqlstate", None), str):
            return state
        error = error.__context__
    return ""


def newest(project: Project) -> Path:
    """Return the newest dump of ours."""
    return max(path for path in project.dumps.iterdir() if re.search(r"\.sql(\.gz|\.zst)?$", path.name))


@dataclass
class Said(Silence):
    """Keeps what a flow says."""

    warnings: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    progresses: list[tuple[str, int, int, str]] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Keep it."""
        self.warnings.append(text)

    def detail(self, text: str) -> None:
        """Keep it."""
        self.details.append(text)

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Keep it."""
        self.progresses.append((what, done, total, unit))


def dumped(settings: Settings, request: DumpRequest | None = None, report: Silence | None = None) -> Dumped:
    """Dump, not in a dry run."""
    result = make_dump(settings, request or DumpRequest(), report or Silence())
    assert result is not None
    return result


def safety_dumps(project: Project) -> list[Path]:
    """List the safety dumps, oldest first."""
    return sorted(project.dumps.glob("undo/db_undo_*.sql.zst"))


def elsewhere(project: Project, host: str = "db.example.com") -> None:
    """Let the manifest of the newest dump say that this server was met at another host, as behind a tunnel."""
    for path in project.dumps.glob("*.manifest.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        document["source"]["host"] = host
        path.write_text(json.dumps(document), encoding="utf-8")


def far(project: Project) -> None:
    """Let the database count as one that is not local: there is a dump of it that was made at another host."""
    with psycopg.connect(project.env["DATABASE_URL"]) as connection:
        query = "SELECT current_database(), system_identifier::text FROM pg_control_system()"
        rows = connection.execute(query).fetchall()
    ((database, identifier),) = rows
    source = {"host": "db.example.com", "port": 5432, "database": database, "system_identifier": identifier}
    store_dump(project.dumps, datetime.now(UTC), source=source)


def saved(project: Project) -> list[Path]:
    """Return the safety dumps."""
    return sorted((project.dumps / "undo").glob("*.sql*"))
