"""The manifest: what a dump holds, proven by checksums."""

from __future__ import annotations

import enum
import hashlib
import json
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from ..formatting import parse_shown_name, show_name
from .compression import Compression, Sums

if TYPE_CHECKING:
    from collections.abc import Mapping


# A kind; a list of one shape, or of several for exactly as many items; a mapping from names to one shape,
# `{Name: shape}`; an object of known keys, of which those that end in `?` may be missing and others may be more; or
# a tuple of shapes, of which one is enough.
Shape = Any
# Bytes that are no UTF-8 stand as other surrogates, from U+DC80 on.
_LONE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
# What PostgreSQL itself can count to.
_LARGEST = 1 << 63


class FieldName:
    """A text that PostgreSQL may be asked about, which takes no byte of zero."""


def check_shape(value: object, shape: Shape, where: str = "document") -> None:
    """Compare a value read from JSON with a shape.

    :raises ValueError: It is something else; says where, and nothing of the value.
    """
    if isinstance(shape, tuple):
        if not any(_fits(value, each, where) for each in shape):
            raise _shape_error(where)
    elif isinstance(shape, list) and isinstance(value, list):
        if len(shape) > 1 and len(value) != len(shape):
            raise _shape_error(where)
        for at, each in enumerate(value):
            check_shape(each, shape[at if len(shape) > 1 else 0], where)
    elif isinstance(shape, dict) and isinstance(value, dict):
        _check_keys(value, shape, where)
    elif not _is(value, shape):
        raise _shape_error(where)


def _check_keys(value: dict[str, Any], shape: dict[Any, Shape], where: str) -> None:
    if FieldName in shape:
        for key, each in value.items():
            check_shape(key, FieldName, where)
            check_shape(each, shape[FieldName], where)
        return
    for key, inner in shape.items():
        name = key.removesuffix("?")
        if name in value:
            check_shape(value[name], inner, f"{where}.{name}" if where != "document" else name)
        elif name == key:
            raise ValueError(f"it lacks {name!r}")


def _fits(value: object, shape: Shape, where: str) -> bool:
    try:
        check_shape(value, shape, where)
    except ValueError:
        return False
    return True


def _is(value: object, kind: object) -> bool:
    if kind is None:
        return value is None
    if kind is FieldName:
        return isinstance(value, str) and "\0" not in value and _LONE.search(value) is None
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and -_LARGEST <= value < _LARGEST
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST
    return isinstance(kind, type) and isinstance(value, kind)


def _shape_error(where: str) -> ValueError:
    return ValueError(f"its {where!r} is not what it should be")


FORMAT = 1
# Far beyond any real one (some hundred bytes an object, and the texts of views); what is larger is something else, and
# would fill the memory.
SIZE_LIMIT = 1 << 27
ID_DIGITS = 16
_SUMS = {"bytes": int, "sha256": str}
_NAMES = [FieldName]
_DEFINITION = {"facts": str, "local?": str, "texts?": [str], "bodies?": [str], "parts?": {FieldName: str}}
# As in docs/manifest.schema.json, as far as the code relies on it. Keys with `?` came later.
_SHAPE = {
    "created": str,
    "note": str,
    "git": (None, {"commit": str, "dirty": bool, "branch?": (None, str)}),
    "source": {
        "host?": str,
        "port?": int,
        "database?": FieldName,
        "server_version?": str,
        "system_identifier?": (None, FieldName),
        "database_oid?": int,
        "started?": str,
        "counting_since?": (None, str),
    },
    "pg_dump": {"version?": str, "options?": [str]},
    "file": {"name": str, "compression": str, **_SUMS},
    "content": _SUMS,
    "tables": [{"schema": FieldName, "name": FieldName, "rows": int}],
    "excluded_data": _NAMES,
    "sequences": [{"schema": FieldName, "name": FieldName, "value": int, "is_called": bool}],
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
        "needs?": (None, [{"kind": str, "schema": FieldName, "name": FieldName}]),
        "touches?": (None, [{"schema": FieldName, "name": FieldName, "how": FieldName, "line": int, "kind": str}]),
    },
    "facts?": {
        "major?": int,
        # Manifests of earlier versions hold digests alone.
        "objects?": {FieldName: {FieldName: (str, [str, str])}},
        "definitions?": {
            FieldName: {FieldName: (str, _DEFINITION)},
        },
        "extensions?": {FieldName: str},
        "told?": {FieldName: {FieldName: str}},
        "checksums?": [[FieldName, FieldName, str]],
        "owners?": {FieldName: bool},
        "search_path?": _NAMES,
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
        return show_name((self.schema, self.name))


def table_rows(rows: Mapping[tuple[str, str], int]) -> tuple[TableRows, ...]:
    """Return the rows of tables, by schema and name, in order."""
    return tuple(TableRows(schema=key[0], name=key[1], rows=count) for key, count in sorted(rows.items()))


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


class NeedKind(enum.StrEnum):
    """What a dump may use and not create."""

    EXTENSION = "extension"
    SCHEMA = "schema"
    COLLATION = "collation"
    ACCESS_METHOD = "access method"


@dataclass(frozen=True)
class Need:
    """Something that a dump uses and does not create, or an extension, in the schema in which it is expected."""

    kind: str
    schema: str
    name: str


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
    :ivar touches: What it touches and did not create; None in manifests of earlier versions.
    :ivar needs: What must be here for it; None in manifests of earlier versions.
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
    needs: tuple[Need, ...] | None = None

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
    excluded_data: tuple[tuple[str, str], ...]
    sequences: tuple[SequenceValue, ...]
    outline: Outline
    seconds: float
    facts: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """All rows of all tables."""
        return sum(table.rows for table in self.tables)

    @property
    def id(self) -> str:
        """Hexadecimal digits that name the dump; they stay the same when it is compressed, expanded or renamed."""
        parts = f"{self.created} {self.content.sha256}"
        return hashlib.sha256(parts.encode(errors="surrogatepass")).hexdigest()[:ID_DIGITS]

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
            "excluded_data": [show_name(key) for key in self.excluded_data],
            "sequences": [vars(each) for each in self.sequences],
            "outline": _outline_document(self.outline),
            "facts": self.facts,
            "seconds": self.seconds,
            **self.extra,
        }
        # Names of a SQL_ASCII database may be no Unicode: escaped, they survive.
        return (json.dumps(document, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def recorded_search_path(manifest: Manifest) -> tuple[str, ...]:
    """Return the schemas in which sessions of the dumped database look up names; none where it does not say so."""
    return tuple(manifest.facts.get("search_path", ()))


def manifest_from_json(text: bytes) -> Manifest:
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
    check_shape(document, _SHAPE)
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
            TableRows(schema=str(each["schema"]), name=str(each["name"]), rows=int(each["rows"]))
            for each in rest.pop("tables")
        ),
        excluded_data=tuple(map(parse_shown_name, rest.pop("excluded_data"))),
        sequences=tuple(
            SequenceValue(schema=each["schema"], name=each["name"], value=each["value"], is_called=each["is_called"])
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
    known["needs"] = known.get("needs") and tuple(Need(**each) for each in known["needs"])
    return Outline(**known)


def _outline_document(outline: Outline) -> dict[str, Any]:
    lists = {"touches": outline.touches, "needs": outline.needs}
    return {**vars(outline), **{key: each and [vars(item) for item in each] for key, each in lists.items()}}


def _touch_kind(written: str) -> TouchKind:
    """Read a kind; one of a later version may be the worst."""
    return TouchKind(written) if written in set(TouchKind) else TouchKind.ANYTHING
