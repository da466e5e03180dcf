"""Read which kinds of objects a database has, so that only their definitions are queried."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from ..postgres.connection import read_names

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..postgres.connection import Connection


# Objects with a lower oid came with the database (PostgreSQL's access/transam.h).
_OF_USERS = "oid >= 16384"
_IN_CATALOGUE = "SELECT FROM pg_catalog."
# For each kind, a query that finds at least all that the query of its definitions (`DEFINITIONS` in :mod:`.objects`)
# finds. A kind without an entry is taken to exist.
_EVIDENCE: dict[str, LiteralString] = {
    "view": f"{_IN_CATALOGUE}pg_class WHERE {_OF_USERS} AND relkind IN ('v', 'm')",
    "sequence": f"{_IN_CATALOGUE}pg_sequence",
    "trigger": f"{_IN_CATALOGUE}pg_trigger",
    "policy": f"{_IN_CATALOGUE}pg_policy",
    "rule": f"{_IN_CATALOGUE}pg_rewrite WHERE {_OF_USERS} AND rulename <> '_RETURN'",
    "function": f"{_IN_CATALOGUE}pg_proc WHERE {_OF_USERS}",
    # Not the row types of tables and the array types.
    "type": f"{_IN_CATALOGUE}pg_type t WHERE {_OF_USERS} AND t.typrelid = 0 AND NOT EXISTS"
    f" ({_IN_CATALOGUE}pg_type e WHERE e.typarray = t.oid)"
    f" UNION ALL {_IN_CATALOGUE}pg_class WHERE {_OF_USERS} AND relkind = 'c'",
    "operator": f"{_IN_CATALOGUE}pg_operator WHERE {_OF_USERS}",
    "statistics": f"{_IN_CATALOGUE}pg_statistic_ext",
    "collation": f"{_IN_CATALOGUE}pg_collation WHERE {_OF_USERS}",
    "large object": f"{_IN_CATALOGUE}pg_largeobject_metadata",
    "event trigger": f"{_IN_CATALOGUE}pg_event_trigger",
    "publication": f"{_IN_CATALOGUE}pg_publication",
}
_EXISTING = " UNION ALL ".join(f"SELECT '{kind}' WHERE EXISTS ({evidence})" for kind, evidence in _EVIDENCE.items())


def read_existing_kinds(connection: Connection, kinds: Collection[str]) -> list[str]:
    """Return those of some kinds that may have objects, in the given order.

    To plan the query of a kind takes a new session 1 to 10 milliseconds, also if there is no object of the kind; to
    look for objects of all kinds takes about 3.
    """
    if not _EVIDENCE.keys() & set(kinds):
        return list(kinds)
    found = set(read_names(connection, _EXISTING.encode()))
    return [kind for kind in kinds if kind in found or kind not in _EVIDENCE]
