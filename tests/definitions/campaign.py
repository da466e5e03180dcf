"""Define expressions, dump and reload them, and compare; then change each a little and compare again."""

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import psycopg

from tasks.inventory.object_differences import Difference, compare_objects
from tasks.inventory.objects import Definition, Objects, pin_settings, read_objects
from tests.definitions import expressions, places
from tests.definitions.places import Place
from tests.servers import Server
from tests.support import Connection, Database, Databases

# Of so many that a place refuses (they are not immutable, or of another type), for each that it takes.
_PATIENCE: Final = 8

Name = tuple[str, str]


@dataclass
class Count:
    """What was seen at one place.

    :ivar defined: Expressions that the server took there; `rewritten` those whose text changed on reload.
    :ivar false: Objects that differ after the reload, though they are the same.
    :ivar changed: Expressions that were changed in one thing; `missed` those whose change was not found.
    """

    defined: int = 0
    rewritten: int = 0
    changed: int = 0
    false: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


Tally = dict[str, Count]


@dataclass(frozen=True)
class Defined:
    """An object that an expression was defined in."""

    label: str
    name: str
    expression: str

    @property
    def place(self) -> Place:
        """Its place."""
        return places.PLACES[self.label]

    @property
    def key(self) -> Name:
        """Its kind and identity among the facts."""
        return self.place.kind, self.place.named(self.name)


def run(server: Server, seed: int, count: int, changes: int) -> Tally:
    """Run it on one server.

    :param count: Expressions at each place.
    :param changes: Single changes in all.
    """
    rng = random.Random(seed)
    tally = {label: Count() for label, place in places.PLACES.items() if place.since <= server.major}
    with Databases(server) as databases:
        source, reloaded = databases(), databases()
        made = list(_define(source, rng, tally, count))
        reloaded.psql(source.dump_text())
        before = facts_of(source)
        after = facts_of(reloaded)
        for each in made:
            tally[each.label].defined += 1
            tally[each.label].rewritten += _of(before, each).digests != _of(after, each).digests
        _note_false(tally, made, compare_objects(before, after, same_major=True))
        _change(databases, rng, tally, made, before, changes)
    return tally


def facts_of(database: Database) -> Objects:
    """Read the facts of all objects."""
    with database.connect() as connection:
        pin_settings(connection)
        return read_objects(connection)


def _of(found: Objects, each: Defined) -> Definition:
    kind, name = each.key
    return found[kind][name]


def _define(database: Database, rng: random.Random, tally: Iterable[str], count: int) -> Iterator[Defined]:
    database.execute(places.SCHEMA)
    with database.connect(autocommit=False) as connection:
        for at, label in enumerate(tally):
            place, taken = places.PLACES[label], 0
            drawn = expressions.drawn(rng, subqueries=place.subqueries)
            for number, expression in zip(range(count * _PATIENCE), drawn, strict=False):
                each = Defined(label, f"o{at}_{number}", expression)
                if _takes(connection, each):
                    taken += 1
                    yield each
                if taken == count:
                    break
        connection.commit()


def _takes(connection: Connection, each: Defined) -> bool:
    """Define one where the server takes it."""
    try:
        with connection.transaction():
            connection.execute(each.place.define(each.name, each.expression).encode())
    except psycopg.Error:
        return False
    return True


def _note_false(tally: Mapping[str, Count], made: Iterable[Defined], differing: Iterable[Difference]) -> None:
    expressions_of = {each.key: each for each in made}
    for difference in differing:
        each = expressions_of.get((difference.kind, difference.name))
        label, expression = (each.label, each.expression) if each else (next(iter(tally)), difference.name)
        tally[label].false.append(f"{expression}: {'; '.join(map(str, difference.changes))}")


def _change(
    databases: Databases, rng: random.Random, tally: Tally, made: list[Defined], before: Objects, changes: int
) -> None:
    """Define some with one change each in another database, dump and reload that, and look for all of them."""
    other, reloaded = databases(), databases()
    other.execute(places.SCHEMA)
    changed: dict[Name, Defined] = {}
    chosen = iter(rng.sample(made, len(made)))
    while len(changed) < changes and (batch := [each for each, _ in zip(chosen, range(changes), strict=False)]):
        tried = [each for each in (_changed(other, rng, one) for one in batch) if each is not None]
        now = facts_of(other)
        # What the server writes as before is no change.
        changed |= {each.key: each for each in tried if _of(now, each).digests != _of(before, each).digests}
    reloaded.psql(other.dump_text())
    differing = {(each.kind, each.name) for each in compare_objects(before, facts_of(reloaded), same_major=True)}
    for key, each in changed.items():
        tally[each.label].changed += 1
        if key not in differing:
            tally[each.label].missed.append(each.expression)


def _changed(database: Database, rng: random.Random, each: Defined) -> Defined | None:
    """Define the expression with one change that the server takes; None where it takes none."""
    with database.connect() as connection:
        for expression in expressions.changed(rng, each.expression):
            other = Defined(each.label, each.name, expression)
            if _takes(connection, other):
                return other
    return None
