"""Compare two states of a database."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..dumpformat.tokens import TokenReader, encode_name, split_qualified
from ..formatting import format_count, format_list, show_name
from .object_differences import DefinitionChange, Difference, What, compare_objects
from .objects import compare_properties, name_of, objects_from_facts, objects_to_document, table_of
from .snapshot import DatabaseState, Key, is_comparable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from ..dumpformat.manifest import Manifest, SequenceValue, TableRows


_SHOWN = 3
# Kinds of lines that depend on the roles of a server. Local grants are in no dump.
LOCAL_GRANTS = "local grants"
ROLES = ("owner", "grants", "system grants", LOCAL_GRANTS)
MISSING = "missing"
NOTHING = "nothing"
ANOTHER = "another definition"
_LOGGED = " (the standby's value is ahead, as it comes from the write-ahead log)"


@dataclass(frozen=True)
class DifferenceLine:
    """A difference or a note.

    :ivar kind: `rows` (of an existing table), `sequence`, `content`, `extension`, `server`, `owner`, `grants`,
        `settings`, or the kind of an object.
    :ivar expected: Text for people, as `found`: a value, or one of the constants of this module.
    :ivar fatal: Whether this is a difference. Otherwise it is a note.
    :ivar text: Whether only expressions differ, as the server writes them.
    :ivar changes: The parts of a definition that differ, if more than its digest is known.
    :ivar names: All names, if one line reports several.
    :ivar sentence: The line for people; empty if it is made of the other fields.
    """

    kind: str
    name: str
    expected: str
    found: str
    fatal: bool
    names: tuple[str, ...] = ()
    text: bool = False
    changes: tuple[DefinitionChange, ...] = ()
    sentence: str = ""

    def __str__(self) -> str:
        if self.sentence:
            return self.sentence
        if self.found == ANOTHER:
            what = format_list([str(each) for each in self.changes], _SHOWN, "; ")
            unknown = "only its digest is recorded, so the parts that differ are unknown"
            return f"{self.kind} {self.name}: definition is not {self.expected}: {what or unknown}"
        if self.found == MISSING:
            return f"{self.kind} {self.name}: missing, expected {self.expected}"
        if self.expected == NOTHING:
            return f"{self.kind} {self.name}: {self.found}"
        return f"{self.kind} {self.name}: expected {self.expected}, found {self.found}"


def join_partitions(expected: DatabaseState, found: DatabaseState) -> tuple[DatabaseState, DatabaseState]:
    """Add the rows of partitions to those of the partitioned table, where only the sum can be compared.

    That is where a reload may move rows between partitions, and where a dump holds them as rows of the partitioned
    table (pg_dump --load-via-partition-root).
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
    extensions: bool = False,
    ahead: Mapping[Key, int] = MappingProxyType({}),
) -> list[DifferenceLine]:
    """Compare the expected state of a database with the state found.

    :param schemas: The schemas in which an extra object is a difference; in another schema with expected objects it is
        a note.
    :param source: The name of the expected side in messages.
    :param extensions: Whether an extra extension is a note.
    :param ahead: How far each sequence may be ahead of the expected value; behind it if negative.
    :return: One line for each difference and note, the fatal ones first.
    """
    lost = {("table", key) for key in expected.rows.keys() - found.rows.keys() - found.unread}
    lost |= {("sequence", key) for key in expected.sequences.keys() - found.sequences.keys() - found.unread}
    # Report a missing table or sequence once, not as rows and as a definition.
    others = [
        line
        for line in compare_objects_and_content(expected, found, schemas, source)
        if line.found != MISSING or (line.kind, key_of(line.name)) not in lost
    ]
    more = found.extensions.keys() - expected.extensions.keys() if extensions else ()
    lines = [
        *_rows(expected, found),
        *_sequences(expected, found, ahead),
        *others,
        *_unread(expected, found, source),
        *(
            DifferenceLine(
                kind="extension",
                name=name,
                expected=NOTHING,
                found=f"version {found.extensions[name]}, not in {source}",
                fatal=False,
            )
            for name in sorted(more)
        ),
    ]
    return sorted(lines, key=lambda line: not line.fatal)


def compare_objects_and_content(
    expected: DatabaseState, found: DatabaseState, schemas: Collection[str] | None, source: str = "the dump"
) -> list[DifferenceLine]:
    """Compare everything except rows and sequences, which a restore checks by itself.

    :param schemas: As for :func:`compare_states`; None if extra objects are no difference anywhere.
    :return: The lines, the fatal ones first.
    """
    differing = compare_objects(expected.objects, found.objects, same_major=expected.major == found.major)
    lines = [
        *_checksums(expected, found, source),
        *_objects(expected, differing, schemas, source),
        *_extensions(expected, found),
        # Grants that are in no dump are compared only if the expected state is that of all schemas.
        *(
            line
            for line in _compare_notes(expected, found, differing, source)
            if line.kind != LOCAL_GRANTS or "" in (schemas or ())
        ),
    ]
    return sorted(lines, key=lambda line: not line.fatal)


def _unread(expected: DatabaseState, found: DatabaseState, source: str) -> Iterator[DifferenceLine]:
    """Report the unlogged tables and sequences that a standby, on either side, can't read."""
    known = expected.rows.keys() | expected.sequences.keys() | found.rows.keys() | found.sequences.keys()
    if keys := known & (expected.unread | found.unread):
        names = [show_name(key) for key in sorted(keys)]
        yield _line_of(
            kind="rows",
            names=names,
            expected=f"as in {source}",
            found="no value, because a standby can't read unlogged tables",
            sentence=f"{format_list(names, _SHOWN)}: not compared, because a standby can't read unlogged tables",
        )


def _rows(expected: DatabaseState, found: DatabaseState) -> Iterator[DifferenceLine]:
    for key, before in expected.rows.items():
        if key in found.unread:
            continue
        now = found.rows.get(key)
        if now is None:
            yield DifferenceLine(
                kind="table", name=show_name(key), expected=format_count(before, "row"), found=MISSING, fatal=True
            )
        elif now != before:
            yield DifferenceLine(kind="rows", name=show_name(key), expected=f"{before:,}", found=f"{now:,}", fatal=True)


def _sequences(expected: DatabaseState, found: DatabaseState, ahead: Mapping[Key, int]) -> Iterator[DifferenceLine]:
    for key, before in expected.sequences.items():
        now, most = found.sequences.get(key), ahead.get(key, 0)
        if key in found.unread:
            continue
        if now is None:
            yield DifferenceLine(
                kind="sequence", name=show_name(key), expected=_value(before), found=MISSING, fatal=True
            )
        elif now != before:
            apart = now[0] - before[0]
            logged = apart * most > 0 and abs(apart) <= abs(most)
            yield DifferenceLine(
                kind="sequence",
                name=show_name(key),
                expected=_value(before),
                found=_value(now) + _LOGGED * logged,
                fatal=not logged,
            )


def _value(value: tuple[int, bool]) -> str:
    return f"{value[0]:,}" + ("" if value[1] else " (not used yet)")


def compare_checksums(expected: DatabaseState, found: DatabaseState) -> dict[Key, bool]:
    """Return for each table with comparable checksums on both sides whether they are equal."""
    return {
        key: now == before
        for key, before in expected.checksums.items()
        if (now := found.checksums.get(key)) is not None and is_comparable(now, before)
    }


def _checksums(expected: DatabaseState, found: DatabaseState, source: str) -> Iterator[DifferenceLine]:
    for key, same in compare_checksums(expected, found).items():
        # If the number of rows differs, that is reported already.
        if not same and found.rows.get(key, expected.rows.get(key)) == expected.rows.get(key):
            yield DifferenceLine(
                kind="content",
                name=show_name(key),
                expected=f"as in {source}",
                found="other values",
                fatal=True,
                sentence=f"{show_name(key)}: values are not those of {source}",
            )


def _objects(
    expected: DatabaseState, differing: list[Difference], schemas: Collection[str] | None, source: str
) -> Iterator[DifferenceLine]:
    filled, extra, unknown = schemas_of(expected), dict[str, list[str]](), dict[str, list[str]]()
    for each in differing:
        if each.what is What.EXTRA and schemas is None:
            continue
        if each.what is What.EXTRA and schema_of(each.name) in (schemas or ()):
            yield DifferenceLine(kind=each.kind, name=each.name, expected=NOTHING, found=f"not in {source}", fatal=True)
        elif each.what is What.EXTRA:
            if (schema := schema_of(each.name)) and schema in filled:
                extra.setdefault(each.kind, []).append(each.name)
        elif each.what is What.UNKNOWN:
            unknown.setdefault(each.kind, []).append(each.name)
        else:
            missing = each.what is What.MISSING
            yield DifferenceLine(
                kind=each.kind,
                name=each.name,
                expected=f"as in {source}",
                found=MISSING if missing else ANOTHER,
                fatal=True,
                text=each.what is What.TEXT,
                changes=each.changes,
                sentence=f"{each.kind} {each.name}: missing here" if missing else "",
            )
    for kind, names in extra.items():
        yield _line_of(kind=kind, names=names, expected=NOTHING, found=f"not in {source}")
    for kind, names in unknown.items():
        shown = format_list(names, _SHOWN)
        yield _line_of(
            kind=kind,
            names=names,
            expected=f"as in {source}",
            found="a text that PostgreSQL may have rewritten",
            sentence=f"{kind} {shown}: the text is not that of {source}, but PostgreSQL may have rewritten it",
        )


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
    # Missing and extra objects have a line of their own.
    apart = {name_of(each.kind, each.name) for each in differing if each.what in (What.MISSING, What.EXTRA)}
    for kind, names in compare_properties(expected.properties, found.properties, same_major=same_major).items():
        if there := [name for name in names if name not in apart and table_of(name) not in apart]:
            shown = kind.replace("_", " ")
            yield _line_of(
                kind=shown,
                names=there,
                expected=f"as in {source}",
                found="another owner" if kind == "owner" else f"other {shown}",
                sentence=_describe_properties(shown, there, source),
            )


def _describe_properties(kind: str, names: list[str], source: str) -> str:
    shown = format_list(names, _SHOWN)
    if kind == "owner":
        one = len(names) == 1
        return f"the owner{'s' * (not one)} of {shown} {'is not that' if one else 'are not those'} of {source}"
    if kind == "settings":
        return f"the settings of {shown} are not those of {source}"
    if kind == LOCAL_GRANTS:
        itself = ["the database itself" if name == "database" else name for name in names]
        return f"the grants on {format_list(itself, _SHOWN)} differ"
    return f"the grants on {shown} are not those of {source}"


def _line_of(*, kind: str, names: list[str], expected: str, found: str, sentence: str = "") -> DifferenceLine:
    """Return one line for several objects, of which it shows the first names."""
    return DifferenceLine(
        kind=kind,
        name=format_list(names, _SHOWN),
        expected=expected,
        found=found,
        fatal=False,
        names=tuple(names),
        sentence=sentence,
    )


def schemas_of(state: DatabaseState) -> set[str]:
    """Return the schemas of a state's objects; with an empty name if there are objects without a schema."""
    return {schema_of(name) for each in state.objects.values() for name in each}


def schemas_in(state: DatabaseState) -> set[str]:
    """Return all schemas of a state, also empty ones."""
    return {key_of(name)[1] for name in state.objects.get("schema", {})}


def schema_of(identity: str) -> str:
    """Return the schema in an object's identity, as SQL writes it; empty if it has none."""
    return TokenReader(encode_name(identity)).names()[0]


def key_of(identity: str) -> tuple[str, str]:
    """Return schema and name of an identity, as SQL writes it."""
    return split_qualified(encode_name(identity))


def _extensions(expected: DatabaseState, found: DatabaseState) -> Iterator[DifferenceLine]:
    for name, version in expected.extensions.items():
        have = found.extensions.get(name)
        if have != version:
            yield DifferenceLine(kind="extension", name=name, expected=version, found=have or MISSING, fatal=False)


def state_of_manifest(manifest: Manifest) -> DatabaseState:
    """Return the state that a manifest describes."""
    return state_from_parts(manifest.tables, manifest.sequences, manifest.facts)


def state_from_parts(
    tables: Iterable[TableRows], sequences: Iterable[SequenceValue], facts: Mapping[str, Any]
) -> DatabaseState:
    """Return the state that the parts of a manifest, or of a restore's record, describe."""
    return DatabaseState(
        major=int(facts.get("major", 0)),
        rows={(each.schema, each.name): each.rows for each in tables},
        sequences={(each.schema, each.name): (each.value, each.is_called) for each in sequences},
        objects=objects_from_facts(facts),
        extensions=dict(facts.get("extensions", {})),
        properties={kind: dict(found) for kind, found in facts.get("told", {}).items()},
        checksums={(schema, name): total for schema, name, total in facts.get("checksums", [])},
    )


def state_to_facts(state: DatabaseState) -> Mapping[str, Any]:
    """Return a manifest's `facts`: all of a state except tables and sequences."""
    return {
        "major": state.major,
        "definitions": objects_to_document(state.objects),
        "extensions": dict(state.extensions),
        "told": state.properties,
        "checksums": [[*key, total] for key, total in sorted(state.checksums.items())],
    }
