"""One random database restored over another one by a transaction and by a swap, with the same result."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import TaskError
from tests.both_ways import Method, databases_of_ours, differences, fingerprint, restore_by
from tests.databases.builder import quote
from tests.databases.checks import DEPENDENTS, Difference, schemas_of
from tests.flows import dumped, settings_of
from tests.support import Project

if TYPE_CHECKING:
    from collections import Counter

    from tests.databases.checks import Judged
    from tests.support import Database, Databases

_STEP = "swap"


def check(
    databases: Databases, name: str, source: Database, judged: Judged, over: Judged | None, done: Counter[str]
) -> Difference | None:
    """Restore a database both ways over another one, or over itself, and return how the results differ.

    :param over: Another random database.
    :param done: Counts what was done.
    """
    drawn = random.Random(f"ways {name}")
    with tempfile.TemporaryDirectory() as folder:
        project = Project.create(Path(folder) / "project")
        path = dumped(settings_of(project, source)).path
        start = databases(template=over.copy if over is not None and drawn.random() < 0.8 else judged.copy)
        _prepare(start, judged.schemas, drawn)
        roles = drawn.random() < 0.7
        asked: dict[str, Any] = {"owners": roles, "privileges": roles, "backup": False}
        by_transaction, by_swap = databases(template=start), databases(template=start)
        try:
            restore_by(project, by_transaction, path, Method.TRANSACTION, **asked)
        except TaskError as error:
            done[f"{_STEP}: refused by the transaction"] += 1
            return _refused(project, by_swap, path, asked, str(error))
        before = fingerprint(by_swap)
        try:
            restore_by(project, by_swap, path, Method.SWAP, **asked)
        except TaskError as error:
            done[f"{_STEP}: {_short(str(error))}"] += 1
            found = differences(before, fingerprint(by_swap))
        else:
            done[f"{_STEP}: the same"] += 1
            found = differences(fingerprint(by_transaction), fingerprint(by_swap))
        found += databases_of_ours(source)
        return Difference(_STEP, "\n".join(found)) if found else None


def _prepare(start: Database, wanted: list[str], drawn: random.Random) -> None:
    """Drop what keeps a database from being restored over."""
    dropped = [("SCHEMA", each) for each in schemas_of(start) if each not in (*wanted, "ext", "public")]
    if drawn.random() < 0.7:
        dropped += [(str(kind), str(each)) for kind, each in start.execute(DEPENDENTS)]
    if dropped:
        start.execute("; ".join(f"DROP {kind} IF EXISTS {quote(each)} CASCADE" for kind, each in dropped))
    start.execute("SELECT count(lo_unlink(oid)) FROM pg_largeobject_metadata")


def _refused(project: Project, database: Database, path: Path, asked: dict[str, Any], why: str) -> Difference | None:
    before = fingerprint(database)
    try:
        restore_by(project, database, path, Method.SWAP, **asked)
    except TaskError:
        found = [*differences(before, fingerprint(database)), *databases_of_ours(database)]
        return Difference(_STEP, "\n".join(found)) if found else None
    return Difference(_STEP, f"the transaction refuses what the swap restores: {why}")


def _short(text: str) -> str:
    return text.partition(": ")[2][:60]
