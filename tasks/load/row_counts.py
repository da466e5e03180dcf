"""Count rows and read sequences inside the loading transaction, in the encoding that the dump has set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..dumpformat.tokens import decode_name, encode_name
from ..postgres.protocol import StatementError
from ..postgres.tables import in_batches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..postgres.protocol import StatementStream


Key = tuple[str, str]
# Not permitted; in use by a pending trigger of this transaction; locked by another session.
_REFUSED = frozenset({"42501", "55006", "55P03"})
_TEMPORARY = b"t"
_SAVEPOINT = b"invoke_postgres_count"


@dataclass(frozen=True)
class Changed:
    """A table or sequence that a statement of the dump or a trigger changed after it was loaded.

    :ivar key: Schema and name.
    :ivar expected: The number of loaded rows of a table, or the last value of a sequence.
    :ivar found: The present number or value; None if the table or sequence was dropped or replaced.
    """

    key: tuple[str, str]
    expected: int
    found: int | None
    sequence: bool = False

    def __str__(self) -> str:
        name = f"{'sequence ' * self.sequence}{show_key(self.key)}"
        if self.found is None:
            return f"{name} was dropped or replaced after {'its value was set' if self.sequence else 'it was filled'}"
        if self.sequence:
            return f"{name} has the value {self.found}, expected {self.expected}"
        return f"{name} has {self.found:,} rows, expected {self.expected:,}"


def show_key(key: Key) -> str:
    """Return schema and name for progress and errors, unquoted."""
    return ".".join(part for part in key if part)


def quote_table(key: Key) -> bytes:
    """Return a qualified name as SQL."""
    return b".".join(b'"%s"' % encode_name(part.replace('"', '""')) for part in key if part)


def quote_literal(text: str) -> bytes:
    """Return a text as a SQL literal that is valid with either setting of standard_conforming_strings."""
    raw = encode_name(text.replace("'", "''"))
    return b" E'%s'" % raw.replace(b"\\", b"\\\\") if b"\\" in raw else b"'%s'" % raw


def quote_table_name(key: Key) -> bytes:
    """Return a qualified name as SQL writes it, as a literal for `to_regclass` and the like."""
    return quote_literal(decode_name(quote_table(key)))


def count_rows(stream: StatementStream, conditions: Mapping[Key, str]) -> dict[Key, int | None]:
    """Return the number of rows of tables: without child tables, with partitions except foreign ones.

    Only ordinary and partitioned tables are read, so no code of users is executed.

    :param conditions: The tables, each with the condition (`WHERE …`) of the rows to count, or an empty one.
    :return: The number of rows, or None if the role may not read a table and may not grant itself that. Names without
        such a table are omitted, also names of views and of foreign or temporary tables.
    """
    kinds = {key: kind for key, kind in _kinds(stream, list(conditions)).items() if kind in {b"r", b"p"}}
    found: dict[Key, int | None] = dict.fromkeys(kinds)
    # The table of the result, the table to count, and the condition.
    counted = [(key, key, conditions[key].encode()) for key, kind in kinds.items() if kind == b"r"]
    for key, kind in kinds.items():
        if kind == b"p":
            found[key] = 0
            counted += [(key, each, b"") for each in _partitions(stream, key, b"r")]
    for batch in in_batches(counted):
        tables = [each[1:] for each in batch]
        # One by one if the role may not read one of them.
        counts: Sequence[int | None] = _ask_counts(stream, tables) or [_alone(stream, *each) for each in tables]
        for (key, _, _), rows in zip(batch, counts, strict=True):
            before = found[key]
            found[key] = rows if before is None or rows is None else before + rows
    return found


def compare_row_counts(
    stream: StatementStream, expected: Mapping[Key, int], conditions: Mapping[Key, str]
) -> tuple[dict[Key, tuple[int, int | None]], dict[Key, int | None]]:
    """Count tables, and compare with the expected numbers.

    Rows that were loaded through a partitioned table are in its partitions, so the two are counted together.

    :return: The tables with another number of rows than expected, with both numbers (None for a missing table); and the
        numbers of rows that :func:`count_rows` returns.
    """
    expected = dict(expected)
    for root in [key for key, kind in _kinds(stream, list(expected)).items() if kind == b"p"]:
        if root in expected:
            below = [key for key in _partitions(stream, root, b"p', 'r") if key in expected]
            expected[root] += sum(expected.pop(key) for key in below if key != root)
    found = count_rows(stream, {key: conditions.get(key, "") for key in expected})
    wrong: dict[Key, tuple[int, int | None]] = {}
    for key, rows in expected.items():
        counted = found.get(key)
        if key not in found or (counted is not None and counted != rows):
            wrong[key] = (rows, counted)
    return wrong, found


def locate_relations(stream: StatementStream, key: Key) -> tuple[Key, bool]:
    """Return the table that an unqualified name refers to with the present search_path.

    :return: Schema and name, and whether it is temporary; the key itself if there is no such table.
    """
    found = stream.ask(
        b"SELECT n.nspname, c.relname, c.relpersistence FROM pg_catalog.pg_class c"
        b" JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace"
        b" WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(%s)" % quote_table_name(key)
    )
    for schema, name, persistence in found:
        return (decode_name(schema or b""), decode_name(name or b"")), persistence == _TEMPORARY
    return key, False


def relation_exists(stream: StatementStream, key: Key, lookup: bytes) -> bool:
    """Return whether a relation or type of this name exists.

    :param lookup: `to_regclass` or `to_regtype`.
    """
    return stream.ask(b"SELECT pg_catalog.%s(%s) IS NOT NULL" % (lookup, quote_table_name(key))) == [[b"t"]]


def extension_condition(stream: StatementStream, key: Key) -> str | None:
    """Return the condition (`WHERE …`) of the rows that are dumped of an extension's table; None for other tables."""
    found = stream.ask(
        b"SELECT e.extcondition[p] FROM pg_catalog.pg_extension e, pg_catalog.generate_subscripts(e.extconfig, 1) AS p"
        b" WHERE e.extconfig[p] = pg_catalog.to_regclass(%s)" % quote_table_name(key)
    )
    return (found[0][0] or b"").decode() if found else None


def is_writable(stream: StatementStream, key: Key) -> bool:
    """Return whether the role may replace the rows of a table."""
    name = quote_table_name(key)
    query = b"SELECT pg_catalog.has_table_privilege(%s, 'INSERT') AND pg_catalog.has_table_privilege(%s, 'DELETE')"
    return stream.ask(query % (name, name)) == [[b"t"]]


def read_sequence_values(stream: StatementStream, keys: Sequence[Key]) -> dict[Key, tuple[int, bool]]:
    """Return the last value of sequences, and whether it was used; omit names of other objects."""
    found = {}
    kinds = _kinds(stream, keys)
    for batch in in_batches([key for key in keys if kinds.get(key) == b"S"]):
        parts = [b"SELECT %d, last_value, is_called FROM %s" % (at, quote_table(key)) for at, key in enumerate(batch)]
        for at, value, called in stream.ask(b" UNION ALL ".join(parts)):
            found[batch[int(at or 0)]] = (int(value or 0), called == b"t")
    return found


def compare_sequences(stream: StatementStream, expected: Mapping[Key, tuple[int, bool]]) -> list[Changed]:
    """Return the sequences whose last value, or whether it was used, differs."""
    found = read_sequence_values(stream, list(expected))
    return [
        Changed(key=key, expected=value, found=found[key][0] if key in found else None, sequence=True)
        for key, (value, called) in expected.items()
        if found.get(key) != (value, called)
    ]


def _alone(stream: StatementStream, key: Key, condition: bytes) -> int | None:
    """Count one table, with rights that its owner grants itself in a savepoint that is rolled back.

    Forced row-level security also hides rows from the owner, and an owner may lack SELECT (PostgreSQL manual, 5.9).
    """
    table, schema = quote_table(key), quote_table(("", key[0]))
    see = b"ALTER TABLE %s NO FORCE ROW LEVEL SECURITY" % table
    read = b"GRANT SELECT ON TABLE %s TO CURRENT_USER" % table
    reach = b"GRANT USAGE ON SCHEMA %s TO CURRENT_USER" % schema
    for first in ((), (see,), (see, read), (reach, see, read)):
        if found := _ask_counts(stream, [(key, condition)], first):
            return found[0]
    return None


def _ask_counts(
    stream: StatementStream, counted: Sequence[tuple[Key, bytes]], first: Sequence[bytes] = ()
) -> list[int] | None:
    """Count in a savepoint that is rolled back, which also releases the locks of planning.

    :param first: Statements that give the role the right to count.
    :return: None if the server refuses.
    """
    parts = [
        b"SELECT %d, pg_catalog.count(*) FROM ONLY %s %s" % (at, quote_table(table), condition)
        for at, (table, condition) in enumerate(counted)
    ]
    found: list[int] | None
    stream.run(b"SAVEPOINT " + _SAVEPOINT)
    try:
        for statement in first:
            stream.run(stream.encoded(statement))
        found = [int(rows or 0) for _, rows in stream.ask(b" UNION ALL ".join(parts) + b" ORDER BY 1")]
    except StatementError as error:
        if error.sqlstate not in _REFUSED:
            raise
        found = None
    stream.run(b"ROLLBACK TO SAVEPOINT " + _SAVEPOINT)
    stream.run(b"RELEASE SAVEPOINT " + _SAVEPOINT)
    return found


def _kinds(stream: StatementStream, keys: Sequence[Key]) -> dict[Key, bytes]:
    """Return the `pg_class.relkind` of each existing name; `t` for a temporary table."""
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
        % (quote_table_name(root), kinds)
    )
    return [(decode_name(schema or b""), decode_name(name or b"")) for schema, name in found]
