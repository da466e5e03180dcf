"""Two states of a database side by side, and what of it is a difference."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..archive.words import qualified
from ..postgres import objects, told
from ..postgres.state import State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from ..archive.manifest import Manifest, SequenceValue, TableRows

_SHOWN = 3
_MISSING = "missing"
# Kinds of objects whose content is compared as well.
_COUNTED = frozenset({"table", "sequence"})
_FIRST_NAME = re.compile(r'("(?:[^"]|"")+"|[^".(]+)\.')


@dataclass(frozen=True)
class Line:
    """One thing beside what it should be.

    :ivar kind: `rows`, `sequence`, `content`, `extension`, `server`, `owner`, `grants`, `settings`, or the kind of
        an object.
    :ivar expected: As people read it, and so `found`; `missing` where there is none.
    :ivar fatal: Whether it is a difference; else it is only told.
    """

    kind: str
    name: str
    expected: str
    found: str
    fatal: bool

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: expected {self.expected}, found {self.found}"


def compare(expected: State, found: State, *, schemas: Collection[str] = ()) -> list[Line]:
    """Compare what a database should hold with what it holds.

    :param schemas: The schemas that should hold nothing else; an extra object beside the expected ones in another
        schema is told.
    :return: The lines that do not agree, the fatal ones first.
    """
    counted = [*_rows(expected, found), *_sequences(expected, found)]
    missing = {line.name for line in counted if line.found == _MISSING}
    # A lost table or sequence is one difference, not two.
    others = [
        line
        for line in objects_and_content(expected, found, schemas)
        if line.kind not in _COUNTED or line.found != _MISSING or ".".join(_key(line.name)) not in missing
    ]
    return [*counted, *others]


def objects_and_content(expected: State, found: State, schemas: Collection[str]) -> list[Line]:
    """Compare all but rows and sequences, which a restore proves in its own way; the fatal lines first."""
    lines = [
        *_checksums(expected, found),
        *_objects(expected, found, schemas),
        *_extensions(expected, found),
        *_told(expected, found),
    ]
    return sorted(lines, key=lambda line: not line.fatal)


def _rows(expected: State, found: State) -> Iterator[Line]:
    for key, want in expected.rows.items():
        have = found.rows.get(key)
        if have != want:
            yield Line("rows", ".".join(key), f"{want:,}", _MISSING if have is None else f"{have:,}", True)


def _sequences(expected: State, found: State) -> Iterator[Line]:
    for key, want in expected.sequences.items():
        have = found.sequences.get(key)
        if have != want:
            yield Line("sequence", ".".join(key), _value(want), _MISSING if have is None else _value(have), True)


def _value(value: tuple[int, bool]) -> str:
    return f"{value[0]:,}" + ("" if value[1] else " (not used yet)")


def _checksums(expected: State, found: State) -> Iterator[Line]:
    for key, want in expected.checksums.items():
        have = found.checksums.get(key)
        if have is not None and have != want:
            yield Line("content", ".".join(key), f"checksum {want}", f"checksum {have}", True)


def _objects(expected: State, found: State, schemas: Collection[str]) -> Iterator[Line]:
    same_major, filled, extra = expected.major == found.major, schemas_of(expected), dict[str, list[str]]()
    for each in objects.compare(expected.objects, found.objects, same_major=same_major):
        if each.what == "extra" and schema_of(each.name) in schemas:
            yield Line(each.kind, each.name, "nothing", "one that should not be there", True)
        elif each.what == "extra":
            if (schema := schema_of(each.name)) and schema in filled:
                extra.setdefault(each.kind, []).append(each.name)
        else:
            what = _MISSING if each.what == "missing" else "another definition"
            yield Line(each.kind, each.name, "as in the dump", what, True)
    for kind, names in extra.items():
        yield Line(kind, _some(names), "nothing", "what is not in the dump", False)


def _told(expected: State, found: State) -> Iterator[Line]:
    if expected.major and expected.major != found.major:
        yield Line("server", "version", f"PostgreSQL {expected.major}", f"PostgreSQL {found.major}", False)
    for kind, names in told.compare(expected.told, found.told, same_major=expected.major == found.major).items():
        yield Line(kind, _some(names), "as it was then", "another one" if kind == "owner" else "other ones", False)


def _some(names: list[str]) -> str:
    """Name the first of what may be hundreds."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def schemas_of(state: State) -> set[str]:
    """Name the schemas that a state's objects lie in; an empty name stands for those that lie in none."""
    return {schema_of(name) for each in state.objects.values() for name in each}


def schemas_in(state: State) -> set[str]:
    """Name the schemas that a state has, whether anything lies in them or not."""
    return {_key(name)[1] for name in state.objects.get("schema", {})}


def schema_of(identity: str) -> str:
    """Tell the schema of an object by its identity as SQL writes it; empty where it has none."""
    found = _FIRST_NAME.match(identity)
    return _key(found[1])[1] if found else ""


def _key(identity: str) -> tuple[str, str]:
    return qualified(identity.encode("utf-8", "surrogateescape"))


def _extensions(expected: State, found: State) -> Iterator[Line]:
    for name, version in expected.extensions.items():
        have = found.extensions.get(name)
        if have != version:
            yield Line("extension", name, version, have or _MISSING, False)


def of_manifest(manifest: Manifest) -> State:
    """Read the state that a manifest describes."""
    return from_parts(manifest.tables, manifest.sequences, manifest.facts)


def from_parts(tables: Iterable[TableRows], sequences: Iterable[SequenceValue], facts: Mapping[str, Any]) -> State:
    """Put a state together from what a manifest or a record of a restore holds."""
    return State(
        major=int(facts.get("major", 0)),
        rows={(each.schema, each.name): each.rows for each in tables},
        sequences={(each.schema, each.name): (each.value, each.is_called) for each in sequences},
        objects=objects.from_document(facts.get("objects", {})),
        extensions=dict(facts.get("extensions", {})),
        told={kind: dict(found) for kind, found in facts.get("told", {}).items()},
        checksums={(schema, name): total for schema, name, total in facts.get("checksums", [])},
    )


def to_facts(state: State) -> Mapping[str, Any]:
    """Write what a manifest holds of a state beside tables and sequences."""
    return {
        "major": state.major,
        "objects": objects.to_document(state.objects),
        "extensions": dict(state.extensions),
        "told": state.told,
        "checksums": [[*key, total] for key, total in sorted(state.checksums.items())],
    }
