"""The tasks under `pg`: a private PostgreSQL for a developer without Docker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .task import load, task
from .terminal import print_line

if TYPE_CHECKING:
    from invoke.context import Context


FOLDER = ".postgres"


@task()
def start(ctx: Context) -> None:
    """Start a PostgreSQL for this project with its data in .postgres, and print the line for .env."""
    from ..devserver.server import major_of, start
    from ..system.pg_programs import find_programs

    loaded = load(ctx)
    folder = loaded.root / FOLDER
    if loaded.dry:
        print_line(f"would start PostgreSQL with its data in {folder}")
        return
    programs = find_programs(loaded.environ, loaded.bin_dir, major=major_of(folder))
    running = start(folder, programs)
    state = "is running now" if running.started else "was running already"
    print_line(f"PostgreSQL {programs.major} {state}. Put this line into .env, which git should ignore:")
    print_line(f'DATABASE_URL="{running.url}"')


@task()
def stop(ctx: Context) -> None:
    """Stop the project's PostgreSQL; its data are kept in .postgres."""
    from ..devserver.server import stop

    loaded = load(ctx)
    if loaded.dry:
        print_line(f"would stop the PostgreSQL of {loaded.root / FOLDER}")
        return
    stopped = stop(loaded.root / FOLDER)
    print_line("PostgreSQL is stopped; its data are kept." if stopped else "No PostgreSQL was running.")
