"""Record the objects that a dump creates, and those that it changes or deletes without creating them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .manifest import Touch, TouchKind
from .touch_forms import IN_SCHEMA, NAMED, certain, group

if TYPE_CHECKING:
    from collections.abc import Collection


# With more different touches, a dump counts as one that may change anything.
LIMIT = 1000


@dataclass
class TouchNotes:
    """A collector of the objects that a dump changes or deletes, but does not create.

    :ivar line: The number, from 1, of the next line of the plain text.
    :ivar created_names: Group (:func:`group`), schema and name of all that the dump creates in schemas.
    """

    line: int = 1
    created_names: set[tuple[str, str, str]] = field(default_factory=set)
    # Group, schema and name of created objects; the value is whether it is a table.
    _own: dict[tuple[str, str, str], bool] = field(default_factory=dict)
    # The parents and partitioned tables of created tables.
    _parents: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)
    _large_objects: set[int] = field(default_factory=set)
    _unlinked: dict[int, int] = field(default_factory=dict)
    _created_globals: set[tuple[str, str]] = field(default_factory=set)
    _dropped_globals: dict[tuple[str, str], int] = field(default_factory=dict)
    # Whether rows, or any statement, may run functions from here on.
    _rows_run_code: bool = False
    _all_runs_code: bool = False
    _safe_path: bool = True
    _utf8: bool = True
    # The first line of each touch. For statements of `pg_dump --clean`, the key contains the group, schema and name of
    # an object: if the dump creates it in a schema that it fills, the statement is part of its replacement, no touch.
    _seen: dict[tuple[str, str, str, TouchKind, tuple[str, str, str] | None], int] = field(default_factory=dict)
    _counted: int = 0
    # Schema and name of created relations (without indexes), routines and types, and of dropped objects.
    _objects: set[tuple[str, str]] = field(default_factory=set)
    _dropped: set[tuple[str, str]] = field(default_factory=set)

    @property
    def created(self) -> dict[tuple[str, str], bool]:
        """Return the names of objects that the dump creates, each with whether it also drops that name.

        These are all its relations, functions and types, and objects of other kinds that it also drops.
        """
        replaced = {key[1:] for key in self.created_names if key[1:] in self._dropped}
        return {key: key in self._dropped for key in self._objects | replaced}

    def found(self, schemas: Collection[str], *, creates_tables: bool) -> tuple[Touch, ...]:
        """Return the objects that the dump changes or deletes, but does not create, in the order of its lines.

        :param schemas: The schemas that the dump fills. An object in them that it drops and creates is replaced.
        :param creates_tables: False for a dump of rows only, which replaces no object.
        """
        own = frozenset(schemas) if creates_tables else frozenset()
        lines: dict[tuple[str, str, str, TouchKind], int] = {}
        for (schema, name, how, kind, creates), line in self._seen.items():
            if not (schema in own and creates and (creates in self.created_names or creates[0] == "SCHEMA")):
                lines.setdefault((schema, name, how, kind), line)
        touches = [
            Touch(schema=schema, name=name, how=how, line=line, kind=kind)
            for (schema, name, how, kind), line in lines.items()
        ]
        for dropped, line in self._dropped_globals.items():
            # A dropped user mapping loses its password, even if the dump creates it again.
            if dropped not in self._created_globals or dropped[0] == "USER MAPPING":
                touches.append(Touch(how=f"DROP {' '.join(dropped)}".strip(), line=line))
        if self._unlinked:
            touches.append(Touch(how="lo_unlink", line=min(self._unlinked.values())))
        if not self._utf8:
            touches = [
                each if (each.schema + each.name).isascii() else Touch(how=each.how, line=each.line) for each in touches
            ]
        touches.sort(key=lambda touch: touch.line)
        if len(touches) > LIMIT:
            return *touches[:LIMIT], Touch(how="statements of many kinds", line=1)
        return tuple(touches)

    def _anything(self, how: str) -> None:
        self._remember(Touch(how=how, line=self.line))

    def _named(
        self, kind: str, found: tuple[str, str], how: str, *, clean: bool = False, says: TouchKind | None = None
    ) -> None:
        """Record a touch of a named object; if the name is not certain, a touch of anything."""
        if kind not in IN_SCHEMA or not certain(*found):
            self._anything(how)
        else:
            name = found[1] if kind in NAMED else ""
            touch = Touch(schema=found[0], name=name, how=how, line=self.line, kind=says or TouchKind.DEFINITION)
            self._remember(touch, creates=(group(kind), *found) if clean else None)

    def _remember(self, touch: Touch, *, creates: tuple[str, str, str] | None = None) -> None:
        key = (touch.schema, touch.name, touch.how, touch.kind, creates)
        if key not in self._seen and not creates:
            if self._counted > LIMIT:
                return
            self._counted += 1
        self._seen.setdefault(key, touch.line)

    def _is_own(self, kind: str, found: tuple[str, str]) -> bool:
        return (group(kind), *found) in self._own

    def _note_child(self, child: tuple[str, str], parent: tuple[str, str]) -> None:
        """Record a child or a partition. Rows for the parents of a foreign table may be sent to another server."""
        self._parents.setdefault(child, []).append(parent)
        unvisited = [parent] if self._own.get(("RELATION", *child)) is False else []
        while unvisited:
            key = ("RELATION", *(table := unvisited.pop()))
            if self._own.get(key):
                self._own[key] = False
                unvisited += self._parents.get(table, ())

    def _make(self, kind: str, found: tuple[str, str], how: str) -> None:
        self.created_names.add((group(kind), *found))
        if kind in NAMED and kind != "INDEX":
            self._objects.add(found)
        if not found[0]:
            # Only the search_path determines its schema, so it does not count as created by the dump.
            return
        if not certain(*found) or found[0].startswith("pg_temp"):
            self._anything(how)
            return
        self._own[group(kind), *found] = kind == "TABLE"
