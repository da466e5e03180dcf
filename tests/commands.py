"""Commands that a test has started and watches: what they say, and what their sessions wait for."""

import re
import time
from collections.abc import Callable

from tests.support import Database, Started

SLEEP = b"SELECT pg_catalog.pg_sleep(60);\n"

END = b"--\n-- PostgreSQL database dump complete\n--\n"


def ours(database: Database) -> list[tuple[int, str, str]]:
    """List our sessions in a database: process id, what they wait for, and what they run."""
    found = database.execute(
        "SELECT pid, coalesce(wait_event, ''), query FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'invoke-postgres' AND state <> 'idle'"
    )
    return [(int(pid), str(wait), str(query)) for pid, wait, query in found]


def wait_for(found: Callable[[], object], seconds: float = 30) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def wait_until(database: Database, wait: str, query: str = "") -> int:
    """Wait until a session of ours waits for something, and return its process id."""
    seen: list[int] = []

    def found() -> bool:
        seen[:] = [pid for pid, event, text in ours(database) if re.search(wait, event) and query in text]
        return bool(seen)

    wait_for(found)
    return seen[0]


def ended(process: Started) -> tuple[int, str]:
    """Wait for the end of a command; return its exit code and what it said."""
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    return process.wait(), said


def until_countdown(process: Started) -> None:
    """Read what a command says until it counts down."""
    assert process.stderr is not None
    lines: list[str] = []
    while "Ctrl-C" not in "".join(lines[-1:]):
        lines.append(process.stderr.readline())
        assert lines[-1], f"it ended: {''.join(lines)}"
