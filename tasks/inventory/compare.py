"""Two states of a database side by side, and what of it is a difference."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..dumpformat.tokens import split_qualified
from ..formatting import format_count, format_list, show_name
from .object_differences import What, compare_objects
from .objects import (
    compare_properties,
    name_of,
    objects_from_digests,
    objects_from_document,
    objects_to_document,
    table_of,
)
from .snapshot import DatabaseState, is_comparable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from ..dumpformat.manifest import Manifest, SequenceValue, TableRows
    from .object_differences import DefinitionChange, Difference
    from .objects import Objects
    from .snapshot import Key


_SHOWN = 3
# Kinds of lines that depend on which roles there are; those of the last are in no dump.
LOCAL_GRANTS = "local grants"
ROLES = ("owner", "grants", "system grants", LOCAL_GRANTS)
MISSING = "missing"
ANOTHER = "another definition"
_LOGGED = " (a standby's run ahead, as the log does)"
_FIRST_NAME = re.compile(r'("(?:[^"]|"")+"|[^".(]+)\.')


@dataclass(frozen=True)
class DifferenceLine:
    """One thing beside what it should be.

    :ivar kind: `rows` (of a table that is there), `sequence`, `content`, `extension`, `server`, `owner`, `grants`,
        `settings`, or the kind of an object.
    :ivar expected: As people read it, and so `found`; `missing` where there is none.
    :ivar fatal: Whether it is a difference; else it is only told.
    :ivar text: Whether it is one of expressions alone, as the server writes them.
    :ivar changes: What differs in a definition, where more than its digest is known.
    :ivar names: Every name, where one line tells of several.
    """

    kind: str
    name: str
    expected: str
    found: str
    fatal: bool
    names: tuple[str, ...] = ()
    text: bool = False
    changes: tuple[DefinitionChange, ...] = ()

    def __str__(self) -> str:
        if self.found == ANOTHER:
            what = format_list([str(each) for each in self.changes], _SHOWN, "; ")
            unknown = "only a digest of it is recorded, so what differs is not known"
            return f"{self.kind} {self.name}: definition is not {self.expected}: {what or unknown}"
        return f"{self.kind} {self.name}: expected {self.expected}, found {self.found}"


def join_partitions(expected: DatabaseState, found: DatabaseState) -> tuple[DatabaseState, DatabaseState]:
    """Count the rows of partitions as those of the partitioned table where that is all that can be compared.

    Where a reload may move them, and where a dump holds them as its rows (pg_dump --load-via-partition-root).
    """
    known = {**expected.partitions, **found.partitions}
    counted = expected.rows.keys() | found.rows.keys()
    joined = {key: top for key, (top, moves) in known.items() if moves or top in counted}
    return _joined(expected, joined), _joined(found, joined)


def _joined(state: DatabaseState, joined: Mapping[Key, Key]) -> DatabaseState:
    rows: dict[Key, int] = {}
    for key, count in state.rows.items():
        top = joined.get(key, key)
        rows[top] = rows.get(top, 0) + count
    sums = {key: total for key, total in state.checksums.items() if key not in joined}
    unread = frozenset(joined.get(key, key) for key in state.unread)
    return replace(state, rows=rows, checksums=sums, unread=unread)


def compare_states(
    expected: DatabaseState,
    found: DatabaseState,
    *,
    schemas: Collection[str] = (),
    source: str = "the dump",
    whole: bool = False,
    ahead: Mapping[Key, int] = MappingProxyType({}),
) -> list[DifferenceLine]:
    """Compare what a database should hold with what it holds.

    :param schemas: The schemas that should hold nothing else; an extra object beside the expected ones in another
        schema is told.
    :param source: What says so, in words.
    :param whole: It says all that there should be: an extension more is told as well.
    :param ahead: How far each sequence may be ahead of what is expected, or behind it where that is negative.
    :return: The lines that do not agree, the fatal ones first.
    """
    lost = {("table", key) for key in expected.rows.keys() - found.rows.keys() - found.unread}
    lost |= {("sequence", key) for key in expected.sequences.keys() - found.sequences.keys() - found.unread}
    # A lost table or sequence is one difference, not two.
    others = [
        line
        for line in compare_objects_and_content(expected, found, schemas, source)
        if line.found != MISSING or (line.kind, key_of(line.name)) not in lost
    ]
    more = found.extensions.keys() - expected.extensions.keys() if whole else ()
    lines = [
        *_rows(expected, found),
        *_sequences(expected, found, ahead),
        *others,
        *_unread(expected, found, source),
        *(
            DifferenceLine(kind="extension", name=name, expected="nothing", found=found.extensions[name], fatal=False)
            for name in sorted(more)
        ),
    ]
    return sorted(lines, key=lambda line: not line.fatal)


def compare_objects_and_content(
    expected: DatabaseState, found: DatabaseState, schemas: Collection[str] | None, source: str = "the dump"
) -> list[DifferenceLine]:
    """Compare all but rows and sequences, which a restore proves in its own way; the fatal lines first.

    :param schemas: As for :func:`compare_states`; None where other objects are there on purpose, and no difference.
    """
    differing = compare_objects(expected.objects, found.objects, same_major=expected.major == found.major)
    lines = [
        *_checksums(expected, found, source),
        *_objects(expected, differing, schemas, source),
        *_extensions(expected, found),
        # Grants that are in no dump are compared only where the whole database is to be as it was.
        *(
            line
            for line in _compare_notes(expected, found, differing, source)
            if line.kind != LOCAL_GRANTS or "" in (schemas or ())
        ),
    ]
    return sorted(lines, key=lambda line: not line.fatal)


def _unread(expected: DatabaseState, found: DatabaseState, source: str) -> Iterator[DifferenceLine]:
    """Name the unlogged tables and sequences that a standby can't read, on either side."""
    known = expected.rows.keys() | expected.sequences.keys() | found.rows.keys() | found.sequences.keys()
    if keys := known & (expected.unread | found.unread):
        names = [show_name(key) for key in sorted(keys)]
        yield _line_of("rows", names, f"as in {source}", "no value, as a standby can't read unlogged tables")


def _rows(expected: DatabaseState, found: DatabaseState) -> Iterator[DifferenceLine]:
    for key, want in expected.rows.items():
        if key in found.unread:
            continue
        have = found.rows.get(key)
        if have is None:
            yield DifferenceLine(
                kind="table", name=show_name(key), expected=format_count(want, "row"), found=MISSING, fatal=True
            )
        elif have != want:
            yield DifferenceLine(kind="rows", name=show_name(key), expected=f"{want:,}", found=f"{have:,}", fatal=True)


def _sequences(expected: DatabaseState, found: DatabaseState, ahead: Mapping[Key, int]) -> Iterator[DifferenceLine]:
    for key, want in expected.sequences.items():
        have, most = found.sequences.get(key), ahead.get(key, 0)
        if key in found.unread:
            continue
        if have is None:
            yield DifferenceLine(kind="sequence", name=show_name(key), expected=_value(want), found=MISSING, fatal=True)
        elif have != want:
            apart = have[0] - want[0]
            logged = apart * most > 0 and abs(apart) <= abs(most)
            yield DifferenceLine(
                kind="sequence",
                name=show_name(key),
                expected=_value(want),
                found=_value(have) + _LOGGED * logged,
                fatal=not logged,
            )


def _value(value: tuple[int, bool]) -> str:
    return f"{value[0]:,}" + ("" if value[1] else " (not used yet)")


def _checksums(expected: DatabaseState, found: DatabaseState, source: str) -> Iterator[DifferenceLine]:
    for key, want in expected.checksums.items():
        have = found.checksums.get(key)
        if have is None or not is_comparable(have, want):
            continue
        # Where another number of rows was counted, other values are no news.
        if have != want and found.rows.get(key, expected.rows.get(key)) == expected.rows.get(key):
            yield DifferenceLine(
                kind="content", name=show_name(key), expected=f"as in {source}", found="other values", fatal=True
            )


def _objects(
    expected: DatabaseState, differing: list[Difference], schemas: Collection[str] | None, source: str
) -> Iterator[DifferenceLine]:
    filled, extra, unknown = schemas_of(expected), dict[str, list[str]](), dict[str, list[str]]()
    for each in differing:
        if each.what is What.EXTRA and schemas is None:
            continue
        if each.what is What.EXTRA and schema_of(each.name) in (schemas or ()):
            yield DifferenceLine(
                kind=each.kind, name=each.name, expected="nothing", found="one that should not be there", fatal=True
            )
        elif each.what is What.EXTRA:
            if (schema := schema_of(each.name)) and schema in filled:
                extra.setdefault(each.kind, []).append(each.name)
        elif each.what is What.UNKNOWN:
            unknown.setdefault(each.kind, []).append(each.name)
        else:
            yield DifferenceLine(
                kind=each.kind,
                name=each.name,
                expected=f"as in {source}",
                found=MISSING if each.what is What.MISSING else ANOTHER,
                fatal=True,
                text=each.what is What.TEXT,
                changes=each.changes,
            )
    for kind, names in extra.items():
        yield _line_of(kind, names, "nothing", f"what is not in {source}")
    for kind, names in unknown.items():
        yield _line_of(kind, names, f"as in {source}", "text that PostgreSQL may have written in another way")


def _compare_notes(
    expected: DatabaseState, found: DatabaseState, differing: list[Difference], source: str
) -> Iterator[DifferenceLine]:
    same_major = expected.major == found.major
    if expected.major and not same_major:
        bodies = any(each.bodies for kind in expected.objects.values() for each in kind.values())
        unseen = " (bodies of views, rules and SQL functions are compared within one major only)" * bodies
        have = f"PostgreSQL {found.major}{unseen}"
        yield DifferenceLine(
            kind="server", name="version", expected=f"PostgreSQL {expected.major}", found=have, fatal=False
        )
    # What is missing, or one too many, is named for itself.
    apart = {name_of(each.kind, each.name) for each in differing if each.what in (What.MISSING, What.EXTRA)}
    for kind, names in compare_properties(expected.properties, found.properties, same_major=same_major).items():
        if there := [name for name in names if name not in apart and table_of(name) not in apart]:
            shown = kind.replace("_", " ")
            yield _line_of(shown, there, f"as in {source}", "another one" if kind == "owner" else "other ones")


def _line_of(kind: str, names: list[str], expected: str, found: str) -> DifferenceLine:
    """Tell of what may be hundreds, of which the first are named."""
    return DifferenceLine(
        kind=kind, name=format_list(names, _SHOWN), expected=expected, found=found, fatal=False, names=tuple(names)
    )


def schemas_of(state: DatabaseState) -> set[str]:
    """Name the schemas that a state's objects lie in; an empty name stands for those that lie in none."""
    return {schema_of(name) for each in state.objects.values() for name in each}


def schemas_in(state: DatabaseState) -> set[str]:
    """Name the schemas that a state has, whether anything lies in them or not."""
    return {key_of(name)[1] for name in state.objects.get("schema", {})}


def schema_of(identity: str) -> str:
    """Tell the schema of an object by its identity as SQL writes it; empty where it has none."""
    found = _FIRST_NAME.match(identity)
    return key_of(found[1])[1] if found else ""


def key_of(identity: str) -> tuple[str, str]:
    """Read schema and name from an identity as SQL writes it."""
    return split_qualified(identity.encode("utf-8", "surrogateescape"))


def _extensions(expected: DatabaseState, found: DatabaseState) -> Iterator[DifferenceLine]:
    for name, version in expected.extensions.items():
        have = found.extensions.get(name)
        if have != version:
            yield DifferenceLine(kind="extension", name=name, expected=version, found=have or MISSING, fatal=False)


def state_of_manifest(manifest: Manifest) -> DatabaseState:
    """Read the state that a manifest describes."""
    return state_from_parts(manifest.tables, manifest.sequences, manifest.facts)


def state_from_parts(
    tables: Iterable[TableRows], sequences: Iterable[SequenceValue], facts: Mapping[str, Any]
) -> DatabaseState:
    """Put a state together from what a manifest or a record of a restore holds."""
    return DatabaseState(
        major=int(facts.get("major", 0)),
        rows={(each.schema, each.name): each.rows for each in tables},
        sequences={(each.schema, each.name): (each.value, each.is_called) for each in sequences},
        objects=_objects_of(facts),
        extensions=dict(facts.get("extensions", {})),
        properties={kind: dict(found) for kind, found in facts.get("told", {}).items()},
        checksums={(schema, name): total for schema, name, total in facts.get("checksums", [])},
    )


def _objects_of(facts: Mapping[str, Any]) -> Objects:
    if "definitions" in facts:
        return objects_from_document(facts["definitions"])
    # Manifests and records of earlier versions hold digests alone.
    return objects_from_digests(facts.get("objects", {}))


def state_to_facts(state: DatabaseState) -> Mapping[str, Any]:
    """Write what a manifest holds of a state beside tables and sequences."""
    return {
        "major": state.major,
        "definitions": objects_to_document(state.objects),
        "extensions": dict(state.extensions),
        "told": state.properties,
        "checksums": [[*key, total] for key, total in sorted(state.checksums.items())],
    }
