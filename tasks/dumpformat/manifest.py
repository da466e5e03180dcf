"""The manifest: the content of a dump, with checksums."""

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


# A type; a list of one shape for all items, or of one shape for each item; a mapping from names to one shape,
# `{FieldName: shape}`; an object with known keys, where keys that end in `?` are optional and more keys are allowed; or
# a tuple of alternative shapes.
Shape = Any
# Invalid surrogates. Bytes that are no UTF-8 are stored as the other ones, U+DC80 to U+DCFF.
_LONE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
# The range of PostgreSQL's bigint.
_LARGEST = 1 << 63


class FieldName:
    """A text that may be sent to PostgreSQL, so it contains no zero byte."""


def check_shape(value: object, shape: Shape, where: str = "document") -> None:
    """Check a value from JSON against a shape.

    :raises ValueError: It does not match. The message says where, without the value.
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
    return ValueError(f"its {where!r} has the wrong type or form")


FORMAT = 1
# Bytes. A real manifest is far smaller: some hundred bytes an object, and the texts of views. A larger file is not
# read, because it could fill the memory.
SIZE_LIMIT = 1 << 27
ID_DIGITS = 16
_SUMS = {"bytes": int, "sha256": str}
_NAMES = [FieldName]
_SELECTED = dict.fromkeys(("tables", "excluded_tables", "schemas", "excluded_schemas"), _NAMES)
_DEFINITION = {"facts": str, "local?": str, "texts?": [str], "bodies?": [str], "parts?": {FieldName: str}}
# The part of docs/manifest.schema.json that the code relies on. Keys with `?` were added later.
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
    "seek_points?": [{"file_offset": int, "content_offset": int, "tables": _NAMES}],
    "selection?": {**_SELECTED, "only": (None, str)},
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
        # Manifests of earlier versions contain only digests.
        "objects?": {FieldName: {FieldName: (str, [str, str])}},
        "definitions?": {FieldName: {FieldName: (str, _DEFINITION)}},
        "extensions?": {FieldName: str},
        "told?": {FieldName: {FieldName: str}},
        "checksums?": [[FieldName, FieldName, str]],
        "owners?": {FieldName: bool},
        "search_path?": _NAMES,
        # history_from_document checks it.
        "history?": object,
    },
    "seconds": float,
}


@dataclass(frozen=True, order=True)
class TableRows:
    """The number of rows of a table in a dump."""

    schema: str
    name: str
    rows: int

    @property
    def label(self) -> str:
        """Return schema and name for messages."""
        return show_name((self.schema, self.name))


def table_rows(rows: Mapping[tuple[str, str], int]) -> tuple[TableRows, ...]:
    """Return the row counts of tables, sorted by schema and name."""
    return tuple(TableRows(schema=key[0], name=key[1], rows=count) for key, count in sorted(rows.items()))


@dataclass(frozen=True, order=True)
class SequenceValue:
    """The value of a sequence after the dump's `setval`."""

    schema: str
    name: str
    value: int
    is_called: bool


class TouchKind(enum.StrEnum):
    """The effect of a statement on an object that the dump does not create."""

    ADDS = "adds"
    ROWS = "rows"
    DEFINITION = "definition"
    ANYTHING = "anything"


@dataclass(frozen=True, kw_only=True)
class Touch:
    """An object that a dump changes or deletes, but does not create.

    :ivar schema: The object's schema; empty if the dump names none.
    :ivar name: The object's name; empty for any object of the schema. If both are empty, it may be any object of the
        database.
    :ivar how: The statement, such as `TRUNCATE` or `ALTER TABLE`.
    :ivar line: The line of the plain text, from 1, in which the first such statement begins.
    """

    schema: str = ""
    name: str = ""
    how: str
    line: int
    kind: TouchKind = TouchKind.ANYTHING


class NeedKind(enum.StrEnum):
    """The kind of an object that a dump needs."""

    EXTENSION = "extension"
    SCHEMA = "schema"
    COLLATION = "collation"
    ACCESS_METHOD = "access method"


@dataclass(frozen=True)
class Need:
    """An object that a dump uses and does not create; or an extension, with the schema that the dump expects."""

    kind: str
    schema: str
    name: str


@dataclass(frozen=True)
class Outline:
    """The effects of restoring a dump, from its statements.

    :ivar schemas: The schemas that it fills.
    :ivar relations: The number of relations that it creates (tables, indexes, sequences, views).
    :ivar locks: The number of locks that creating its objects takes, without large objects.
    :ivar large_objects: The number of large objects that it creates.
    :ivar extensions: The extensions that it creates.
    :ivar roles: The roles of owners and grants; it can be loaded without them.
    :ivar needed_roles: The roles of policies, user mappings and schema owners; it can't be loaded without them.
    :ivar tablespaces: The tablespaces that it uses; without them it is loaded into the default one.
    :ivar globals: The objects without a schema that it creates, such as `event trigger audit`, names unquoted.
    :ivar unqualified: Whether it names objects without their schema, so that the schemas it fills are not known.
    :ivar creates_tables: Whether it creates tables; False for a dump of rows only.
    :ivar touches: The objects that it changes or deletes, but does not create; None in manifests of earlier versions.
    :ivar needs: The objects that must exist in the target; None in manifests of earlier versions.
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
        """Return the number of locks of a restore; manifests of earlier versions count only relations."""
        return (self.locks or 3 * self.relations) + self.large_objects


@dataclass(frozen=True)
class Manifest:
    """The manifest of a dump, with the fields of `docs/manifest.md`."""

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
        """Return the number of rows of all tables."""
        return sum(table.rows for table in self.tables)

    @property
    def id(self) -> str:
        """Return the dump's id, in hex; it does not change when the file is compressed, expanded or renamed."""
        parts = f"{self.created} {self.content.sha256}"
        return hashlib.sha256(parts.encode(errors="surrogatepass")).hexdigest()[:ID_DIGITS]

    def to_json(self) -> bytes:
        """Return the manifest as JSON: ASCII, indented, keys in a fixed order."""
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
        # Names of a SQL_ASCII database may be invalid Unicode; escaping preserves them.
        return (json.dumps(document, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def recorded_search_path(manifest: Manifest) -> tuple[str, ...]:
    """Return the schemas in which sessions of the dumped database look up names; empty if they are not recorded."""
    return tuple(manifest.facts.get("search_path", ()))


def manifest_from_json(text: bytes) -> Manifest:
    """Return the manifest of a JSON text; unknown keys are kept.

    :raises ValueError: It is not a manifest, or has a newer format.
    """
    try:
        document = json.loads(text)
    except RecursionError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("format"), int):
        raise ValueError("it is not a manifest of invoke-postgres")
    if document["format"] > FORMAT:
        raise ValueError(f"its format {document['format']} is newer than this version supports ({FORMAT})")
    try:
        return _from_document(document)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"a key is missing or wrong: {error}") from None


def _from_document(document: dict[str, Any]) -> Manifest:
    check_shape(document, _SHAPE)
    rest = dict(document)
    rest.pop("format")
    file, content, outline = rest.pop("file"), rest.pop("content"), rest.pop("outline")
    return Manifest(
        created=rest.pop("created"),
        note=rest.pop("note"),
        git=rest.pop("git"),
        source=rest.pop("source"),
        pg_dump=rest.pop("pg_dump"),
        file_name=file["name"],
        compression=Compression(file["compression"]),
        file=Sums(file["bytes"], file["sha256"]),
        content=Sums(content["bytes"], content["sha256"]),
        tables=tuple(
            TableRows(schema=each["schema"], name=each["name"], rows=each["rows"]) for each in rest.pop("tables")
        ),
        excluded_data=tuple(map(parse_shown_name, rest.pop("excluded_data"))),
        sequences=tuple(
            SequenceValue(schema=each["schema"], name=each["name"], value=each["value"], is_called=each["is_called"])
            for each in rest.pop("sequences")
        ),
        outline=_outline(outline),
        seconds=float(rest.pop("seconds")),
        facts=rest.pop("facts", {}),
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
    """Return the kind of a text; ANYTHING, the worst one, for an unknown kind of a later version."""
    return TouchKind(written) if written in set(TouchKind) else TouchKind.ANYTHING
