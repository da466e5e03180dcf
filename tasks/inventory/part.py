"""The part of a database's state that a dump of a part of the database holds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..dumpformat.tokens import TokenReader
from .compare import key_of
from .objects import name_of, table_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ..dumpformat.manifest import Outline
    from .snapshot import DatabaseState, Key


# Where the dump's text names them, by kind; what is of a table is dumped with it.
_GROUPS = {
    "table": "RELATION",
    "view": "RELATION",
    "index": "RELATION",
    "sequence": "RELATION",
    "function": "ROUTINE",
    "type": "TYPE",
    "operator": "OPERATOR",
    "statistics": "STATISTICS",
    "collation": "COLLATION",
}
_OF_TABLES = frozenset({"constraint", "trigger", "policy", "rule"})


def restrict_state(
    state: DatabaseState, outline: Outline, created: Collection[tuple[str, str, str]], owners: Mapping[Key, Key]
) -> DatabaseState:
    """Return of a state what a dump creates.

    :param outline: That of the dump.
    :param created: Group, schema and name of all that it creates, as :attr:`DumpSummary.created_names`.
    :param owners: Sequences, each with the table of the column that it belongs to: where that is not in the dump, the
        dump's sequence belongs to none, and is another one.
    """
    relations = {key[1:] for key in created if key[0] == "RELATION"}
    schemas = {*outline.schemas}
    globals_ = {*outline.globals}

    def holds(kind: str, name: str) -> bool:
        if kind in _OF_TABLES:
            return key_of(table_of(name)) in relations
        if kind in _GROUPS:
            key = _names(name)
            owner = owners.get(key) if kind == "sequence" else None
            return (_GROUPS[kind], *key) in created and (owner is None or owner in relations)
        if kind == "schema":
            return key_of(name)[1] in schemas
        if kind == "large object":
            return bool(outline.large_objects)
        # A publication may list tables that are not in the dump.
        return kind != "publication" and f"{kind} {key_of(name)[1]}" in globals_

    objects = {
        kind: {name: each for name, each in found.items() if holds(kind, name)} for kind, found in state.objects.items()
    }
    held = {name_of(kind, name) for kind, found in objects.items() for name in found}
    properties = {
        kind: {
            name: each
            for name, each in found.items()
            if name in held or table_of(name) in held or name.startswith("the database")
        }
        for kind, found in state.properties.items()
        if kind not in {"system_grants", "local_grants"}
    }
    extensions = {name: version for name, version in state.extensions.items() if name in outline.extensions}
    return replace(state, objects=objects, properties=properties, extensions=extensions)


def _names(identity: str) -> Key:
    """Read schema and name; a function's identity has its arguments behind them."""
    return TokenReader(identity.encode("utf-8", "surrogateescape")).names()
