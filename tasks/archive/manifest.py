"""The manifest: what a dump held at the instant of its snapshot, beside it as JSON."""

from __future__ import annotations

import enum
import json
import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from .. import process
from ..errors import BadInputError
from .codec import Compression, Sums
from .names import manifest_path
from .shape import Name, check
from .words import shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = 1
# Far beyond any real one (some hundred bytes an object, and the texts of views); what is larger is something else, and
# would fill the memory.
SIZE_LIMIT = 1 << 27
_SUMS = {"bytes": int, "sha256": str}
_NAMES = [Name]
# As in docs/manifest.schema.json, as far as the code relies on it. Keys with `?` came later.
_SHAPE = {
    "created": str,
    "note": str,
    "git": (None, {"commit": str, "dirty": bool}),
    "source": {
        "host?": str,
        "port?": int,
        "database?": Name,
        "server_version?": str,
        "system_identifier?": (None, Name),
        "database_oid?": int,
        "started?": str,
        "counting_since?": (None, str),
    },
    "pg_dump": {"version?": str, "options?": [str]},
    "file": {"name": str, "compression": str, **_SUMS},
    "content": _SUMS,
    "tables": [{"schema": Name, "name": Name, "rows": int}],
    "excluded_data": _NAMES,
    "sequences": [{"schema": Name, "name": Name, "value": int, "is_called": bool}],
    "outline": {
        "schemas?": _NAMES,
        "relations?": int,
        "locks?": int,
        "large_objects?": int,
        "extensions?": _NAMES,
        "roles?": _NAMES,
        "needed_roles?": _NAMES,
        "tablespaces?": _NAMES,
        "globals?": _NAMES,
        "unqualified?": bool,
        "creates_tables?": bool,
        "touches?": (None, [{"schema": Name, "name": Name, "how": Name, "line": int, "kind": str}]),
    },
    "facts?": {
        "major?": int,
        # Manifests of earlier versions hold digests alone.
        "objects?": {Name: {Name: (str, [str, str])}},
        "definitions?": {
            Name: {Name: (str, {"facts": str, "local?": str, "texts?": [str], "bodies?": [str]})},
        },
        "extensions?": {Name: str},
        "told?": {Name: {Name: str}},
        "checksums?": [[Name, Name, str]],
        "owners?": {Name: bool},
        # Read as far as it is understood, whatever it is.
        "history?": object,
    },
    "seconds": float,
}


@dataclass(frozen=True, order=True)
class TableRows:
    """How many rows of a table stand in a dump."""

    schema: str
    name: str
    rows: int

    @property
    def label(self) -> str:
        """Schema and name, for people."""
        return shown((self.schema, self.name))


@dataclass(frozen=True, order=True)
class SequenceValue:
    """A sequence as the dump's own `setval` leaves it."""

    schema: str
    name: str
    value: int
    is_called: bool


class TouchKind(enum.StrEnum):
    """What a statement does to an object that the dump did not create."""

    ADDS = "adds"
    ROWS = "rows"
    DEFINITION = "definition"
    ANYTHING = "anything"


@dataclass(frozen=True)
class Touch:
    """An object that a dump touches and did not create.

    :ivar schema: Empty where the dump names none.
    :ivar name: Empty for something in the schema; both are empty where it may be anything in the database.
    :ivar how: The statement, as `TRUNCATE` or `ALTER TABLE`.
    :ivar line: Where the first such statement begins in the plain text, from 1.
    """

    schema: str
    name: str
    how: str
    line: int
    kind: TouchKind


@dataclass(frozen=True)
class Outline:
    """What a dump does when it is restored, read from its statements.

    :ivar schemas: The schemas that it fills.
    :ivar relations: How many relations it creates (tables, indexes, sequences, views).
    :ivar locks: How many locks their creation takes, and that of all else but large objects.
    :ivar large_objects: How many large objects it creates.
    :ivar extensions: The extensions that it creates.
    :ivar roles: The roles that own or are granted something in it; without them it loads all the same.
    :ivar needed_roles: The roles without which it can't be loaded (policies, user mappings).
    :ivar tablespaces: Those that it puts something in; without them it loads into the default one.
    :ivar globals: The objects without a schema that it creates, as `event trigger audit`, names unquoted.
    :ivar unqualified: It names objects without their schema, so nobody knows which schemas it fills.
    :ivar creates_tables: False for a dump of rows alone.
    :ivar touches: What it touches and did not create; None in manifests of earlier versions, which describe dumps of
        pg_dump alone.
    """

    schemas: tuple[str, ...] = ()
    relations: int = 0
    locks: int = 0
    large_objects: int = 0
    extensions: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    needed_roles: tuple[str, ...] = ()
    tablespaces: tuple[str, ...] = ()
    globals: tuple[str, ...] = ()
    unqualified: bool = False
    creates_tables: bool = True
    touches: tuple[Touch, ...] | None = None

    @property
    def takes(self) -> int:
        """How many locks a restore of it takes; manifests of earlier versions count relations alone."""
        return (self.locks or 3 * self.relations) + self.large_objects


@dataclass(frozen=True)
class Manifest:
    """All that we say of a dump. Fields as in `docs/manifest.md`."""

    created: str
    note: str
    git: Mapping[str, Any] | None
    source: Mapping[str, Any]
    pg_dump: Mapping[str, Any]
    file_name: str
    compression: Compression
    file: Sums
    content: Sums
    tables: tuple[TableRows, ...]
    excluded_data: tuple[str, ...]
    sequences: tuple[SequenceValue, ...]
    outline: Outline
    seconds: float
    facts: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """All rows of all tables."""
        return sum(table.rows for table in self.tables)

    def to_json(self) -> bytes:
        """Write it as people and programs read it: UTF-8, indented, keys in our order."""
        document = {
            "format": FORMAT,
            "created": self.created,
            "note": self.note,
            "git": self.git,
            "source": self.source,
            "pg_dump": self.pg_dump,
            "file": {
                "name": self.file_name,
                "bytes": self.file.size,
                "sha256": self.file.sha256,
                "compression": self.compression.value,
            },
            "content": {"bytes": self.content.size, "sha256": self.content.sha256},
            "tables": [vars(each) for each in self.tables],
            "excluded_data": self.excluded_data,
            "sequences": [vars(each) for each in self.sequences],
            "outline": {**vars(self.outline), "touches": _touches_document(self.outline.touches)},
            "facts": self.facts,
            "seconds": self.seconds,
            **self.extra,
        }
        # Names of a SQL_ASCII database may be no Unicode: escaped, they survive.
        return (json.dumps(document, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def from_json(text: bytes) -> Manifest:
    """Read a manifest; keys that we don't know are kept.

    :raises ValueError: It is no manifest, or of a newer format.
    """
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("it is not a manifest of invoke-postgres") from None
    if not isinstance(document, dict) or not isinstance(document.get("format"), int):
        raise ValueError("it is not a manifest of invoke-postgres")
    if document["format"] > FORMAT:
        raise ValueError(f"its format {document['format']} is newer than this version knows ({FORMAT})")
    try:
        return _from_document(document)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"it lacks or misspells {error}") from None


def _from_document(document: dict[str, Any]) -> Manifest:
    check(document, _SHAPE)
    rest = dict(document)
    rest.pop("format")
    file, content, outline = rest.pop("file"), rest.pop("content"), rest.pop("outline")
    return Manifest(
        created=str(rest.pop("created")),
        note=str(rest.pop("note")),
        git=rest.pop("git"),
        source=dict(rest.pop("source")),
        pg_dump=dict(rest.pop("pg_dump")),
        file_name=str(file["name"]),
        compression=Compression(file["compression"]),
        file=Sums(int(file["bytes"]), str(file["sha256"])),
        content=Sums(int(content["bytes"]), str(content["sha256"])),
        tables=tuple(
            TableRows(str(each["schema"]), str(each["name"]), int(each["rows"])) for each in rest.pop("tables")
        ),
        excluded_data=tuple(rest.pop("excluded_data")),
        sequences=tuple(
            SequenceValue(str(each["schema"]), str(each["name"]), int(each["value"]), bool(each["is_called"]))
            for each in rest.pop("sequences")
        ),
        outline=_outline(outline),
        seconds=float(rest.pop("seconds")),
        facts=dict(rest.pop("facts", {})),
        extra=rest,
    )


def _outline(document: dict[str, Any]) -> Outline:
    names = {each.name for each in fields(Outline)}
    known: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in document.items() if key in names
    }
    if known.get("touches") is not None:
        known["touches"] = tuple(Touch(**{**each, "kind": _touch_kind(each["kind"])}) for each in known["touches"])
    return Outline(**known)


def _touches_document(touches: tuple[Touch, ...] | None) -> list[dict[str, Any]] | None:
    return None if touches is None else [vars(each) for each in touches]


def _touch_kind(written: str) -> TouchKind:
    """Read a kind; one of a later version may be the worst."""
    return TouchKind(written) if written in set(TouchKind) else TouchKind.ANYTHING


def read(dump: Path) -> Manifest | None:
    """Read the manifest of a dump; None where it has none.

    :raises BadInputError: There is one that can't be read.
    """
    path = manifest_path(dump)
    try:
        with process.open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > SIZE_LIMIT:
                raise ValueError("it is far too large")
            return from_json(file.read())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else "") or error
        raise BadInputError(
            f"The manifest {path.name} can't be used: {why}. The dump is untouched; move the manifest away "
            f"to treat the dump as one without."
        ) from None
