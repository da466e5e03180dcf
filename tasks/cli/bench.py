"""The benchmark: ours and what people would use instead, measured side by side on a private server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .task import task

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    help={
        "scale": "events of the journal database; the other databases follow (default 1500000, about 1 GB)",
        "rounds": "how many times each command is measured (default 3)",
        "databases": "only these, separated by commas: journal, tenth, many, huge, wide, inserts, empty",
        "only": "only commands whose name holds one of these words, separated by commas",
        "json": "print the result with every sample as JSON, for programs",
        "keep": "leave the working folder with the server's data and the dumps, and say where it is",
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
    """Measure dumps and restores, ours and others', side by side on a private PostgreSQL."""
    from benchmarks import bench, options

    del ctx
    bench.main(options.read(scale=scale, rounds=rounds, databases=databases, only=only, keep=keep), as_json=json)
