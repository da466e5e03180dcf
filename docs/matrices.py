"""Writes docs/compatibility.md from real runs on PostgreSQL 14 to 18: `uv run python docs/matrices.py`.

`--rights`, `--versions`, `--locks` or `--size` renew one part of it alone; the last one takes minutes.
"""

import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tasks.dump.dump import make_dump
from tasks.dump.request import DumpRequest
from tasks.errors import DifferenceError, TaskError
from tasks.progress import Silence
from tasks.restore.plan import plan_restore
from tasks.restore.request import RestoreRequest
from tasks.restore.restore import restore_dump
from tasks.verify.verify import VerifyRequest, verify_database
from tests import everything, locks, rights
from tests.servers import DEFAULT_MAJOR, MAJORS, VERSIONS, Fleet, Server
from tests.support import Database, Databases, Project
from tests.test_memory import LIMIT_MB, SIZES, measured
from tests.test_restore import settings_of

PAGE = ROOT / "docs" / "compatibility.md"
# A message, the number of a situation in which it appears, and the operations.
Messages = dict[str, dict[int, list[str]]]


def table(head: list[str], rows: list[list[str]]) -> str:
    """Draw a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tried(work: Callable[[], object], good: str) -> str:
    """Run something and say what became of it."""
    try:
        work()
    except TaskError as error:
        return f"refused ({error.exit_code})" if error.exit_code in (2, 3) else f"rolled back ({error.exit_code})"
    return good


def filled(server: Server, databases: Databases) -> Database:
    """Make a database with everything in it that PostgreSQL 14 knows."""
    database = databases(server=server)
    for setup in (True, False):
        database.execute(everything.text(MAJORS[0], superuser=True, setup=setup))
    return database


def versions(fleet: Fleet, project: Project) -> str:
    """Try every client with every server, and every dump on every server."""
    with Databases(fleet(MAJORS[0])) as databases:
        sources = {major: filled(fleet(major), databases) for major in MAJORS}
        clients = [
            [f"pg_dump {client}", *(_dump(project, sources[m], client, fleet) for m in MAJORS)] for client in MAJORS
        ]
        restores = []
        for dumped in MAJORS:
            name = f"from{dumped}.sql.zst"
            make_dump(settings_of(project, sources[dumped]), DumpRequest(file=name), Silence())
            cells = [_restore(project, databases(server=fleet(major)), name) for major in MAJORS]
            restores.append([f"dump of {dumped}", *cells])
    servers = [f"server {major}" for major in MAJORS]
    return (
        f"Tried with {', '.join(VERSIONS.values())}.\n\n"
        f"Which pg_dump dumps which server. `db.dump` uses the pg_dump of the server's major, else the lowest newer "
        f"one, else it refuses (3):\n\n{table(['', *servers], clients)}\n\n"
        f"Which dump of `db.dump` restores into which server. The dump holds every kind of object of PostgreSQL 14, "
        f"and `db.verify` follows `db.restore --clean`:\n\n{table(['', *servers], restores)}\n\n"
        f"A dump that uses a feature of a newer server is rolled back (5); the message names both versions and the "
        f"feature. `tests/test_versions.py` lists the features tried."
    )


def _dump(project: Project, source: Database, client: int, fleet: Fleet) -> str:
    settings = settings_of(project, source, bin_dir=fleet(client).bin_dir)
    return tried(
        lambda: make_dump(settings, DumpRequest(file=f"c{client}s{source.server.major}.sql"), Silence()), "dumps"
    )


def _restore(project: Project, target: Database, name: str) -> str:
    settings = settings_of(project, target)

    def work() -> None:
        restore_dump(plan_restore(settings, RestoreRequest(name, clean=True), Silence()), Silence())
        if found := verify_database(settings, VerifyRequest(file=name), Silence()).differences:
            raise DifferenceError(str(found[0]))

    return tried(work, "restores, verified")


def permissions(fleet: Fleet, folder: Path) -> str:
    """Try every operation in every situation."""
    server = fleet(DEFAULT_MAJOR)
    rows: list[list[str]] = []
    said: Messages = {}
    for number, name in enumerate(rights.SITUATIONS, 1):
        cells = rights.row(name, server, lambda each: Project.create(folder / each.replace(" ", "-") / "project"))
        title = rights.SITUATIONS[name].title
        rows.append([f"{number}. {title}", *(cell.short for cell in cells.values())])
        for operation, cell in cells.items():
            if cell.says:
                said.setdefault(cell.says, {}).setdefault(number, []).append(operation)
    return (
        f"Tried with {VERSIONS[DEFAULT_MAJOR]} on a small database of a plain owner, dumped by a superuser. `restore` "
        f"runs in an empty database, the other operations in the source, from left to right. The security labels are "
        f"of a provider that is not loaded, because PostgreSQL's packages contain none.\n\n"
        f"{table(['', *rights.OPERATIONS], rows)}\n\nThe messages, each with the operations and the numbers of the "
        f"situations:\n\n" + "\n".join(message_lines(said))
    )


def message_lines(said: Messages) -> list[str]:
    """Return one line for each message: the operations and the situations in which it appears, and the message."""
    lines = []
    for message, situations in said.items():
        numbers: dict[str, list[str]] = {}
        for number, operations in situations.items():
            numbers.setdefault(", ".join(operations), []).append(str(number))
        where = "; ".join(f"{operations} ({', '.join(found)})" for operations, found in numbers.items())
        lines.append(f"- {where}: {message}")
    return lines


def room(fleet: Fleet, project: Project) -> str:
    """Try the lock preflight around its edge, with PostgreSQL's own defaults."""
    rows = [
        [locks.SHAPES[shape].title, f"{count:,}", f"{found.needed:,}", f"{found.room:,}", found.said, found.was]
        for shape, counts in locks.EDGE.items()
        for count, found in locks.around(fleet(DEFAULT_MAJOR), project, shape, counts)
    ]
    head = ["what", "number", "locks expected", "locks available", "preflight", "result"]
    return (
        f"Tried with {VERSIONS[DEFAULT_MAJOR]}, `max_locks_per_transaction` 64, 100 connections, `--clean` over the "
        f"same content.\n\n{table(head, rows)}"
    )


def sizes(fleet: Fleet) -> str:
    """Measure the memory of large dumps and restores."""
    rows = []
    for name, size in SIZES.items():
        with Databases(fleet(DEFAULT_MAJOR)) as databases, tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            found = measured(name, databases, Project.create(Path(folder) / "project"))
            if max(found) >= LIMIT_MB:
                raise SystemExit(f"{size.title}: {found} MB")
            rows.append([size.title, *(f"{each:.0f} MB" for each in found), f"{time.monotonic() - began:.0f} s"])
    head = ["what", "memory of db.dump --gzip", "memory of db.restore", "total time"]
    return f"Peak memory of our Python process. Each result is compared with its source.\n\n{table(head, rows)}"


def main() -> None:
    """Write the page, or a part of it."""
    wanted = {each.removeprefix("--") for each in sys.argv[1:]} or {"versions", "rights", "locks", "size"}
    fleet = Fleet(MAJORS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts: dict[str, Callable[[], str]] = {
            "versions": lambda: versions(fleet, Project.create(folder / "versions" / "project")),
            "rights": lambda: permissions(fleet, folder),
            "locks": lambda: room(fleet, Project.create(folder / "locks" / "project")),
            "size": lambda: sizes(fleet),
        }
        try:
            for part, make in parts.items():
                if part in wanted:
                    write(part, make())
        finally:
            fleet.close()


def write(part: str, written: str) -> None:
    """Put a part into the page."""
    mark = re.compile(rf"(<!-- {part} -->\n).*?(<!-- end -->)", re.DOTALL)
    text = mark.sub(lambda found: f"{found[1]}{written}\n{found[2]}", PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
