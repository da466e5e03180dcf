"""The tasks under `pg`: a private PostgreSQL for a developer without Docker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import console
from .db import task

if TYPE_CHECKING:
    from invoke.context import Context

FOLDER = ".postgres"


@task(help={})
def start(ctx: Context) -> None:
    """Start a PostgreSQL of the project's own, its data in .postgres, and print the line for .env."""
    from . import embedded, settings
    from .programs import find_programs

    loaded = settings.load(ctx)
    folder = loaded.root / FOLDER
    if loaded.dry:
        console.print_line(f"would start PostgreSQL with its data in {folder}")
        return
    programs = find_programs(loaded.environ, loaded.bin_dir, major=embedded.major_of(folder))
    running = embedded.start(folder, programs)
    said = "runs now" if running.started else "was running already"
    console.print_line(f"PostgreSQL {programs.major} {said}. In .env, which git should ignore:")
    console.print_line(f'DATABASE_URL="{running.url}"')


@task(help={})
def stop(ctx: Context) -> None:
    """Stop the project's own PostgreSQL; its data stay in .postgres."""
    from . import embedded, settings

    loaded = settings.load(ctx)
    if loaded.dry:
        console.print_line(f"would stop the PostgreSQL of {loaded.root / FOLDER}")
        return
    stopped = embedded.stop(loaded.root / FOLDER)
    console.print_line("PostgreSQL is stopped; its data stay." if stopped else "No PostgreSQL was running.")
