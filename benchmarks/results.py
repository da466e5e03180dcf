"""A run's result: every sample, and what it was measured on, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1


@dataclass(frozen=True)
class Sample:
    """One run of one command; see :class:`benchmarks.running.Used`.

    :ivar round: Counted from 1.
    :ivar wal: Bytes of WAL that the server wrote meanwhile.
    """

    round: int
    seconds: float
    cpu: float
    own_cpu: float
    own_peak: float
    peaks: dict[str, float]
    wal: int
    written: int


@dataclass(frozen=True)
class Measured:
    """A command with its samples; the rest is as in :class:`benchmarks.commands.Case`."""

    database: str
    kind: str
    slug: str
    shown: str
    ours: bool
    reference: bool
    compresses: bool
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Contents:
    """What a database held, and its size at the server in bytes."""

    tables: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class Result:
    """A run.

    :ivar made: The day, UTC, as in `2026-01-31`.
    :ivar command: The command that makes such a result again.
    """

    made: str
    scale: int
    rounds: int
    command: str
    machine: dict[str, str]
    settings: dict[str, str]
    databases: dict[str, Contents]
    measured: tuple[Measured, ...]

    @property
    def file_name(self) -> str:
        """What it is kept as."""
        return f"{self.made}-{self.scale}.json"

    def of(self, database: str, kind: str) -> list[Measured]:
        """Choose what was measured on a database, of one kind."""
        return [each for each in self.measured if (each.database, each.kind) == (database, kind)]

    def get(self, database: str, slug: str) -> Measured | None:
        """Find one command; None where it was left out."""
        return next((each for each in self.measured if (each.database, each.slug) == (database, slug)), None)


def dumps(result: Result) -> str:
    """Write a result as JSON, a sample a line."""
    document: dict[str, Any] = {"version": VERSION, **asdict(result)}
    lines = []
    for each in document.pop("measured"):
        samples = ",\n".join(f"      {json.dumps(_rounded(sample))}" for sample in each.pop("samples"))
        lines.append(f'    {json.dumps(each)[:-1]}, "samples": [\n{samples}]}}')
    head = json.dumps(document, indent=2).removesuffix("\n}")
    return f'{head},\n  "measured": [\n' + ",\n".join(lines) + "\n  ]\n}\n"


def loads(text: str) -> Result:
    """Read a result back.

    :raises ValueError: It is none of this version.
    """
    document = json.loads(text)
    if document.pop("version", None) != VERSION:
        raise ValueError("this is no result of this version")
    measured = tuple(
        Measured(**{**each, "samples": tuple(Sample(**sample) for sample in each["samples"])})
        for each in document.pop("measured")
    )
    databases = {name: Contents(**each) for name, each in document.pop("databases").items()}
    return Result(**document, databases=databases, measured=measured)


def load(path: Path) -> Result:
    """Read the result in a file."""
    return loads(path.read_text(encoding="utf-8"))


def _rounded(sample: dict[str, Any]) -> dict[str, Any]:
    rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in sample.items()}
    return {**rounded, "peaks": {name: round(value, 2) for name, value in sample["peaks"].items()}}
