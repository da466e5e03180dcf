"""Tasks of this repository only: the demo on a temporary PostgreSQL, and the benchmark."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MissingProgramError, OperationFailedError
from ..system.processes import run_interactive, run_program
from .task import load, task
from .terminal import print_line

if TYPE_CHECKING:
    from invoke.context import Context


JOURNAL = Path(__file__).resolve().parents[2] / "examples" / "journal"
EVENTS = 136_000
_DAMAGE = 'DELETE FROM "JournalLog" WHERE id % 10 = 3; TRUNCATE "OAuthToken"'
_DIFFERENT = 6


@task()
def demo(ctx: Context) -> None:
    """Demonstrate the tasks on a temporary PostgreSQL: dump, damage, verify, restore, migrate, verify."""
    from ..devserver.server import temporary_server
    from ..system.pg_programs import find_programs

    loaded = load(ctx)
    programs = find_programs(loaded.environ, loaded.bin_dir)
    with tempfile.TemporaryDirectory(prefix="invoke-postgres-demo-") as folder, temporary_server(programs) as server:
        print_line(f"A temporary PostgreSQL {programs.major}.{programs.minor} is running; it is deleted at the end.")
        Demo(folder=Path(folder), url=server.url, bin_dir=programs.bin_dir).run()


@dataclass
class Demo:
    """One run of the demo.

    :ivar folder: A temporary folder for the dumps and a copy of the application.
    :ivar url: The URL of an empty database.
    :ivar bin_dir: The folder of the temporary server's programs, clients included.
    :ivar took: Each step with its duration in seconds.
    """

    folder: Path
    url: str
    bin_dir: Path
    took: list[tuple[str, float]] = field(default_factory=list)

    def run(self) -> None:
        """Run all steps with real commands.

        :raises OperationFailedError: A command ended with an unexpected exit status.
        """
        app, has_prisma = self._application()
        rows = self._fill(app, has_prisma=has_prisma)
        self._inv("db.dump", "--gzip", "--note=before the damage")
        self._damage()
        dump = next((self.folder / "dumps").glob("*.sql.gz"))
        self._inv("db.verify", f"--file={dump.name}", expect=_DIFFERENT)
        if has_prisma:
            shutil.copytree(JOURNAL / "pending", app / "prisma" / "migrations", dirs_exist_ok=True)
            _print("In the meantime a colleague has pushed another migration.")
        self._inv("db.restore", "--clean", "--yes", *(["db.migrate"] if has_prisma else []), "db.verify")
        self._sum_up(rows, migrated=has_prisma)

    def _application(self) -> tuple[Path, bool]:
        """Copy the example and return its folder, and whether its Prisma is installed (if npm can do that)."""
        if shutil.which("npm") and not (JOURNAL / "node_modules" / ".bin").is_dir():
            print_line("Installing the example's Prisma (once; npm install) …")
            try:
                run_program(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=JOURNAL, timeout=300)
            except MissingProgramError as error:
                print_line(str(error))
        app = self.folder / "journal"
        shutil.copytree(JOURNAL, app, ignore=shutil.ignore_patterns("node_modules"))
        modules = JOURNAL / "node_modules"
        has_prisma = (modules / ".bin" / "prisma").exists() and shutil.which("node") is not None
        if has_prisma:
            (app / "node_modules").symlink_to(modules)
        return app, has_prisma

    def _fill(self, app: Path, *, has_prisma: bool) -> int:
        """Create the schema, fill it, and return the number of rows."""
        import psycopg

        from ..postgres.tables import count_tables, read_tables

        began = time.monotonic()
        with psycopg.connect(self.url, autocommit=True) as db:
            if has_prisma:
                prisma = app / "node_modules" / ".bin" / "prisma"
                done = run_program([prisma, "migrate", "deploy"], cwd=app, extra=self._environment(app), timeout=120)
                if done.returncode != 0:
                    raise OperationFailedError(
                        f"prisma migrate deploy failed: {(done.stderr or done.stdout).strip()[-500:]}"
                    )
                print_line("The example's own Prisma has applied its six migrations (prisma migrate deploy).")
            else:
                for path in sorted((app / "prisma" / "migrations").glob("*/migration.sql")):
                    db.execute(path.read_bytes())
                print_line("Node or its packages are missing: the migrations' SQL is run directly, without db.migrate.")
            db.execute("SELECT pg_catalog.set_config('journal.events', %s, false)", [str(EVENTS)])
            with db.transaction():
                db.execute((app / "generate.sql").read_bytes())
                rows = sum(count for _, count in count_tables(db, read_tables(db)))
            db.execute("ANALYZE")
        self.took.append(("building the example", time.monotonic() - began))
        print_line(f"Its database has {rows:,} rows ({self.took[-1][1]:.1f} s).")
        return rows

    def _damage(self) -> None:
        import psycopg

        _print("A colleague runs this by mistake:", f"  {_DAMAGE};")
        with psycopg.connect(self.url, autocommit=True) as db:
            db.execute(_DAMAGE)

    def _environment(self, app: Path) -> dict[str, str]:
        return {
            "DATABASE_URL": self.url,
            "INVOKE_DB_DUMPS_DIR": str(self.folder / "dumps"),
            "INVOKE_DB_PRISMA_DIR": str(app),
            "INVOKE_DB_BIN_DIR": str(self.bin_dir),
            # With any existing file, the CLI does not look for a native engine.
            "PRISMA_QUERY_ENGINE_LIBRARY": str(app / "package.json"),
            "CHECKPOINT_DISABLE": "1",
            "PRISMA_HIDE_UPDATE_MESSAGE": "1",
        }

    def _inv(self, *words: str, expect: int = 0) -> None:
        """Print a command as typed by a user, and run it."""
        parts = (word.partition("=") for word in words)
        shown = " ".join(f'{flag}="{value}"' if " " in value else f"{flag}{sep}{value}" for flag, sep, value in parts)
        _print(f"$ inv {shown}")
        began = time.monotonic()
        argv = [sys.executable, "-m", "invoke", "--search-root", str(JOURNAL.parent.parent), *words]
        code = run_interactive(argv, cwd=self.folder, extra=self._environment(self.folder / "journal"))
        self.took.append((f"inv {words[0]}" + (" …" if len(words) > 1 else ""), time.monotonic() - began))
        if code != expect:
            raise OperationFailedError(f"inv {shown} ended with exit status {code}, expected {expect}.")
        if expect:
            print_line(f"(exit status {code}: the differences were found, as expected)")

    def _sum_up(self, rows: int, *, migrated: bool) -> None:
        _print("Result:")
        print_line(f"  The dump held all {rows:,} rows of one snapshot, counted on the server and in the file.")
        print_line("  db.verify found the damage and ended with exit status 6.")
        print_line("  The clean restore, in one transaction, restored every table to its content in the dump.")
        if migrated:
            print_line("  The pending migration was applied afterwards, and db.verify expected its changes.")
        for what, seconds in self.took:
            print_line(f"  {seconds:6.1f} s  {what}")


def _print(*lines: str) -> None:
    """Print an empty line, then lines."""
    for line in ("", *lines):
        print_line(line)


@task(
    help={
        "scale": "events of the journal database; the other databases follow (default 1500000, about 1 GB)",
        "rounds": "how many times each command is measured (default 3)",
        "databases": "only these, separated by commas: journal, tenth, many, huge, wide, inserts, empty",
        "only": "only commands whose name contains one of these words, separated by commas",
        "json": "print the result with every sample as JSON, for programs",
        "keep": "keep the working folder with the server's data and the dumps, and print its path",
    }
)
def bench(
    ctx: Context,
    scale: str = "1500000",
    rounds: str = "3",
    databases: str = "",
    only: str = "",
    json: bool = False,
    keep: bool = False,
) -> None:
    """Measure dumps and restores of these tasks and of other tools on a temporary PostgreSQL."""
    from benchmarks import bench, options

    del ctx
    bench.main(options.read(scale=scale, rounds=rounds, databases=databases, only=only, keep=keep), as_json=json)
