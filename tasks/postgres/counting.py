"""Counting inside the loading transaction, in bytes and in whatever encoding the dump has set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import facts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .wire import Wire

Key = tuple[str, str]


def encode(name: str) -> bytes:
    """Give a name back its bytes, as the dump wrote them."""
    return name.encode("utf-8", "surrogateescape")


def quoted(key: Key) -> bytes:
    """Write a qualified name as SQL."""
    return b".".join(b'"%s"' % encode(part.replace('"', '""')) for part in key if part)


def literal(text: str) -> bytes:
    """Write a text as SQL, whatever standard_conforming_strings says."""
    raw = encode(text.replace("'", "''"))
    return b" E'%s'" % raw.replace(b"\\", b"\\\\") if b"\\" in raw else b"'%s'" % raw


def rows(wire: Wire, key: Key, condition: str = "") -> int:
    """Count one table, without its children but with its partitions, foreign ones aside."""
    return _counts(wire, [(key, condition.encode())])[key]


def compare(wire: Wire, expected: Mapping[Key, int], conditions: Mapping[Key, str]) -> dict[Key, tuple[int, int]]:
    """Count tables and return those that hold another number of rows than expected, with both numbers.

    Rows that were loaded through a partitioned table lie in its partitions: the two are then counted as one.
    """
    expected = dict(expected)
    for root in _partitioned(wire, [key for key, count in expected.items() if count]):
        below = [key for key in _partitions(wire, root, b"p', 'r") if key in expected]
        expected[root] += sum(expected.pop(key) for key in below if key != root)
    found = _counts(wire, [(key, conditions.get(key, "").encode()) for key in expected])
    return {key: (want, found[key]) for key, want in expected.items() if found[key] != want}


def exists(wire: Wire, key: Key, lookup: bytes) -> bool:
    """Tell whether there is something of this name.

    :param lookup: `to_regclass` or `to_regtype`.
    """
    return wire.ask(b"SELECT pg_catalog.%s(%s) IS NOT NULL" % (lookup, literal(_text(key)))) == [[b"t"]]


def extension_condition(wire: Wire, key: Key) -> str | None:
    """Give the condition (`WHERE …`) under which an extension's table is dumped; None for any other table."""
    found = wire.ask(
        b"SELECT e.extcondition[p] FROM pg_catalog.pg_extension e, pg_catalog.generate_subscripts(e.extconfig, 1) AS p"
        b" WHERE e.extconfig[p] = pg_catalog.to_regclass(%s)" % literal(_text(key))
    )
    return (found[0][0] or b"").decode() if found else None


def writable(wire: Wire, key: Key) -> bool:
    """Tell whether we may replace the rows of a table."""
    name = literal(_text(key))
    query = b"SELECT pg_catalog.has_table_privilege(%s, 'INSERT') AND pg_catalog.has_table_privilege(%s, 'DELETE')"
    return wire.ask(query % (name, name)) == [[b"t"]]


def sequences(wire: Wire, keys: Sequence[Key]) -> dict[Key, tuple[int, bool]]:
    """Read where sequences stand: their last value, and whether it was used."""
    found = {}
    for batch in facts.batches(keys):
        parts = [b"SELECT %d, last_value, is_called FROM %s" % (at, quoted(key)) for at, key in enumerate(batch)]
        for at, value, called in wire.ask(b" UNION ALL ".join(parts)):
            found[batch[int(at or 0)]] = (int(value or 0), called == b"t")
    return found


def _counts(wire: Wire, keys: Sequence[tuple[Key, bytes]]) -> dict[Key, int]:
    found = dict.fromkeys((key for key, _ in keys), 0)
    whole = set(_partitioned(wire, list(found)))
    # Whose count it is, what is counted, and under which condition.
    counted = [(key, key, condition) for key, condition in keys if key not in whole]
    counted += [(key, each, b"") for key in found if key in whole for each in _partitions(wire, key, b"r")]
    for batch in facts.batches(counted):
        parts = [
            b"SELECT %d, pg_catalog.count(*) FROM ONLY %s %s" % (at, quoted(table), condition)
            for at, (_, table, condition) in enumerate(batch)
        ]
        for at, count in wire.ask(b" UNION ALL ".join(parts)):
            found[batch[int(at or 0)][0]] += int(count or 0)
    return found


def _partitioned(wire: Wire, keys: Sequence[Key]) -> list[Key]:
    found = []
    for batch in facts.batches(keys):
        values = b", ".join(b"(%d, %s)" % (at, literal(_text(key))) for at, key in enumerate(batch))
        query = (
            b"SELECT k.at FROM (VALUES %s) AS k(at, name) JOIN pg_catalog.pg_class c"
            b" ON c.oid = pg_catalog.to_regclass(k.name) WHERE c.relkind = 'p'" % values
        )
        found += [batch[int(row[0] or 0)] for row in wire.ask(query)]
    return found


def _partitions(wire: Wire, root: Key, kinds: bytes) -> list[Key]:
    found = wire.ask(
        b"SELECT n.nspname, c.relname FROM pg_catalog.pg_partition_tree(%s) t"
        b" JOIN pg_catalog.pg_class c ON c.oid = t.relid"
        b" JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('%s')"
        % (literal(_text(root)), kinds)
    )
    return [(_decoded(schema), _decoded(name)) for schema, name in found]


def _text(key: Key) -> str:
    return quoted(key).decode("utf-8", "surrogateescape")


def _decoded(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "surrogateescape")
