"""Restrict the state of a database to the part that a dump contains."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..dumpformat.tokens import TokenReader, encode_name
from .compare import key_of
from .objects import name_of, table_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ..dumpformat.manifest import Outline
    from .snapshot import DatabaseState, Key


# The group of names in the dump's text, by kind.
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
# Kinds that are dumped with their table.
_OF_TABLES = frozenset({"constraint", "trigger", "policy", "rule"})


def restrict_state(
    state: DatabaseState, outline: Outline, created: Collection[tuple[str, str, str]], owners: Mapping[Key, Key]
) -> DatabaseState:
    """Return the part of a state that a dump creates.

    :param outline: The dump's.
    :param created: Group, schema and name of all objects that it creates, as :attr:`DumpSummary.created_names`.
    :param owners: The table of the column that owns each sequence. A sequence is left out if that table is not in the
        dump: the dump then creates it without OWNED BY, so its definition differs.
    """
    relations = {key[1:] for key in created if key[0] == "RELATION"}
    schemas = {*outline.schemas}
    globals_ = {*outline.globals}

    def holds(kind: str, name: str) -> bool:
        if kind in _OF_TABLES:
            return key_of(table_of(name)) in relations
        if kind in _GROUPS:
            # Without the arguments of a function.
            key = TokenReader(encode_name(name)).names()
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
