"""Counting inside the loading transaction, in bytes and in whatever encoding the dump has set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..dumpformat.tokens import encode_name
from ..postgres.protocol import StatementError
from ..postgres.tables import in_batches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..postgres.protocol import StatementStream


Key = tuple[str, str]
# Not allowed; in use by a trigger of this transaction that is still to run; locked by another session.
_REFUSED = frozenset({"42501", "55006", "55P03"})
_TEMPORARY = b"t"
_SAVEPOINT = b"invoke_postgres_count"


@dataclass(frozen=True)
class Changed:
    """Something that another statement of the dump, or a trigger, changed after the dump had filled or set it.

    :ivar key: Schema and name.
    :ivar expected: Rows of a table, or the last value of a sequence; `found` what it holds, None where it is gone.
    """

    key: tuple[str, str]
    expected: int
    found: int | None
    sequence: bool = False

    def __str__(self) -> str:
        name = f"{'sequence ' * self.sequence}{show_key(self.key)}"
        if self.found is None:
            return f"{name} is no longer the {'sequence that was set' if self.sequence else 'table that was filled'}"
        if self.sequence:
            return f"{name} stands at {self.found} where {self.expected} was expected"
        return f"{name} holds {self.found:,} rows where {self.expected:,} were expected"


def show_key(key: Key) -> str:
    """Write schema and name for progress and errors, unquoted."""
    return ".".join(part for part in key if part)


def quote_table(key: Key) -> bytes:
    """Write a qualified name as SQL."""
    return b".".join(b'"%s"' % encode_name(part.replace('"', '""')) for part in key if part)


def quote_literal(text: str) -> bytes:
    """Write a text as SQL, whatever standard_conforming_strings says."""
    raw = encode_name(text.replace("'", "''"))
    return b" E'%s'" % raw.replace(b"\\", b"\\\\") if b"\\" in raw else b"'%s'" % raw


def count_rows(stream: StatementStream, conditions: Mapping[Key, str]) -> dict[Key, int | None]:
    """Count tables: without their children, but with their partitions, foreign ones aside.

    Nothing that users made is run: what is no ordinary or partitioned table is not read.

    :param conditions: The tables, each with the condition (`WHERE …`) of the rows to count, or an empty one.
    :return: None where the role may not read a table and may not let itself. What is not there as such a table is
        left out: also where a view, or a foreign or temporary table, has its name.
    """
    kinds = {key: kind for key, kind in _kinds(stream, list(conditions)).items() if kind in {b"r", b"p"}}
    found: dict[Key, int | None] = dict.fromkeys(kinds)
    # Whose count it is, what is counted, and under which condition.
    counted = [(key, key, conditions[key].encode()) for key, kind in kinds.items() if kind == b"r"]
    for key, kind in kinds.items():
        if kind == b"p":
            found[key] = 0
            counted += [(key, each, b"") for each in _partitions(stream, key, b"r")]
    for batch in in_batches(counted):
        for (key, _, _), rows in zip(batch, _batch(stream, [each[1:] for each in batch]), strict=True):
            before = found[key]
            found[key] = rows if before is None or rows is None else before + rows
    return found


def compare_row_counts(
    stream: StatementStream, expected: Mapping[Key, int], conditions: Mapping[Key, str]
) -> tuple[dict[Key, tuple[int, int | None]], dict[Key, int | None]]:
    """Count tables and compare.

    Rows that were loaded through a partitioned table lie in its partitions: the two are then counted as one.

    :return: The tables that hold another number of rows than expected, with both numbers (None for a table that is
        not there any more); and how many rows each table holds, as :func:`count` returns it.
    """
    expected = dict(expected)
    kinds = _kinds(stream, [key for key, rows in expected.items() if rows])
    for root in [key for key, kind in kinds.items() if kind == b"p" and key in expected]:
        below = [key for key in _partitions(stream, root, b"p', 'r") if key in expected]
        expected[root] += sum(expected.pop(key) for key in below if key != root)
    found = count_rows(stream, {key: conditions.get(key, "") for key in expected})
    wrong: dict[Key, tuple[int, int | None]] = {}
    for key, want in expected.items():
        have = found.get(key)
        if key not in found or (have is not None and have != want):
            wrong[key] = (want, have)
    return wrong, found


def locate_relations(stream: StatementStream, key: Key) -> tuple[Key, bool]:
    """Find where a table lies whose name is written without a schema, as the session finds it now.

    :return: Schema and name, and whether it is temporary; the key itself where there is no such table.
    """
    found = stream.ask(
        b"SELECT n.nspname, c.relname, c.relpersistence FROM pg_catalog.pg_class c"
        b" JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace"
        b" WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(%s)" % quote_literal(_text(key))
    )
    for schema, name, persistence in found:
        return (_decoded(schema), _decoded(name)), persistence == _TEMPORARY
    return key, False


def relation_exists(stream: StatementStream, key: Key, lookup: bytes) -> bool:
    """Tell whether there is something of this name.

    :param lookup: `to_regclass` or `to_regtype`.
    """
    return stream.ask(b"SELECT pg_catalog.%s(%s) IS NOT NULL" % (lookup, quote_literal(_text(key)))) == [[b"t"]]


def extension_condition(stream: StatementStream, key: Key) -> str | None:
    """Give the condition (`WHERE …`) under which an extension's table is dumped; None for any other table."""
    found = stream.ask(
        b"SELECT e.extcondition[p] FROM pg_catalog.pg_extension e, pg_catalog.generate_subscripts(e.extconfig, 1) AS p"
        b" WHERE e.extconfig[p] = pg_catalog.to_regclass(%s)" % quote_literal(_text(key))
    )
    return (found[0][0] or b"").decode() if found else None


def is_writable(stream: StatementStream, key: Key) -> bool:
    """Tell whether we may replace the rows of a table."""
    name = quote_literal(_text(key))
    query = b"SELECT pg_catalog.has_table_privilege(%s, 'INSERT') AND pg_catalog.has_table_privilege(%s, 'DELETE')"
    return stream.ask(query % (name, name)) == [[b"t"]]


def read_sequence_values(stream: StatementStream, keys: Sequence[Key]) -> dict[Key, tuple[int, bool]]:
    """Read the last value of sequences, and whether it was used; what is no sequence is left out."""
    found = {}
    kinds = _kinds(stream, keys)
    for batch in in_batches([key for key in keys if kinds.get(key) == b"S"]):
        parts = [b"SELECT %d, last_value, is_called FROM %s" % (at, quote_table(key)) for at, key in enumerate(batch)]
        for at, value, called in stream.ask(b" UNION ALL ".join(parts)):
            found[batch[int(at or 0)]] = (int(value or 0), called == b"t")
    return found


def compare_sequences(stream: StatementStream, expected: Mapping[Key, tuple[int, bool]]) -> list[Changed]:
    """Return the sequences that have another last value, or are used where they should not be, or the reverse."""
    found = read_sequence_values(stream, list(expected))
    return [
        Changed(key=key, expected=value, found=found[key][0] if key in found else None, sequence=True)
        for key, (value, called) in expected.items()
        if found.get(key) != (value, called)
    ]


def _batch(stream: StatementStream, counted: Sequence[tuple[Key, bytes]]) -> list[int | None]:
    """Count some tables in one statement, or one by one where the role may not read one of them."""
    found = _ask_counts(stream, counted, ())
    if found is not None:
        return list(found)
    return [_alone(stream, key, condition) for key, condition in counted]


def _alone(stream: StatementStream, key: Key, condition: bytes) -> int | None:
    """Count one table, with what its owner may give itself for that: it is taken back with the savepoint.

    Forced row-level security hides rows from an owner, too, and an owner may lack SELECT (PostgreSQL manual, 5.9).
    """
    table, schema = quote_table(key), quote_table(("", key[0]))
    see = b"ALTER TABLE %s NO FORCE ROW LEVEL SECURITY" % table
    read = b"GRANT SELECT ON TABLE %s TO CURRENT_USER" % table
    reach = b"GRANT USAGE ON SCHEMA %s TO CURRENT_USER" % schema
    for first in ((), (see,), (see, read), (reach, see, read)):
        found = _ask_counts(stream, [(key, condition)], first)
        if found is not None:
            return found[0]
    return None


def _ask_counts(
    stream: StatementStream, counted: Sequence[tuple[Key, bytes]], first: Sequence[bytes]
) -> list[int] | None:
    """Count in a savepoint that is rolled back, which also gives back the locks that planning takes.

    :param first: Statements that make it possible.
    :return: None where it is refused.
    """
    parts = [
        b"SELECT %d, pg_catalog.count(*) FROM ONLY %s %s" % (at, quote_table(table), condition)
        for at, (table, condition) in enumerate(counted)
    ]
    found: list[int] | None = [0] * len(counted)
    stream.run(b"SAVEPOINT " + _SAVEPOINT)
    try:
        for statement in first:
            stream.run(stream.encoded(statement))
        for at, rows in stream.ask(b" UNION ALL ".join(parts)):
            assert found is not None  # noqa: S101 - for the types
            found[int(at or 0)] = int(rows or 0)
    except StatementError as error:
        if error.sqlstate not in _REFUSED:
            raise
        found = None
    stream.run(b"ROLLBACK TO SAVEPOINT " + _SAVEPOINT)
    stream.run(b"RELEASE SAVEPOINT " + _SAVEPOINT)
    return found


def _kinds(stream: StatementStream, keys: Sequence[Key]) -> dict[Key, bytes]:
    """Tell what exists under each name, as `pg_class.relkind` does; `t` for a temporary table."""
    found = {}
    for batch in in_batches(keys):
        values = b", ".join(
            b"(%d, %s::pg_catalog.name, %s::pg_catalog.name)" % (at, quote_literal(schema), quote_literal(name))
            for at, (schema, name) in enumerate(batch)
        )
        query = (
            b"SELECT k.at, CASE WHEN c.relpersistence OPERATOR(pg_catalog.=) 't' THEN 't' ELSE c.relkind END"
            b" FROM (VALUES %s) AS k(at, schema, name)"
            b" JOIN pg_catalog.pg_namespace n ON n.nspname OPERATOR(pg_catalog.=) k.schema"
            b" JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid"
            b"  AND c.relname OPERATOR(pg_catalog.=) k.name" % values
        )
        found.update({batch[int(row[0] or 0)]: row[1] or b"" for row in stream.ask(query)})
    return found


def _partitions(stream: StatementStream, root: Key, kinds: bytes) -> list[Key]:
    found = stream.ask(
        b"SELECT n.nspname, c.relname FROM pg_catalog.pg_partition_tree(%s) t"
        b" JOIN pg_catalog.pg_class c ON c.oid = t.relid"
        b" JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('%s')"
        % (quote_literal(_text(root)), kinds)
    )
    return [(_decoded(schema), _decoded(name)) for schema, name in found]


def _text(key: Key) -> str:
    return quote_table(key).decode("utf-8", "surrogateescape")


def _decoded(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "surrogateescape")
