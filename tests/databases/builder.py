"""A database that is made at random: what it holds so far, and the statements that made it."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

import psycopg

from tests.databases.values import TYPES, Type
from tests.servers import OWNER, SUPERUSER
from tests.support import Connection, Database

T = TypeVar("T")
# Groups of statements, each taken as a whole.
Script = list[tuple[str, ...]]

ROLES: Final = ("reader", 'Rôle with "quotes", dots. and blanks', OWNER)
# Roles belong to the server, and are there for every database on it.
CREATE_ROLES: Final = "".join(
    f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE \"{quoted}\"; "
    f"END IF; END $$;"
    for role in ROLES
    for quoted in [role.replace('"', '""')]
)
_ODD: Final = (
    *("select", "user", "Order", "table", "order by", "ALL", "default", "null"),
    *(
        'with "quotes"',
        "it's",
        "a.b",
        "two\nlines",
        "tab\there",
        "back\\slash",
        "\\.",
        "$$",
        "$1",
        "%s",
        "{x}",
        "--",
        "/*",
    ),
    *("COMMIT;", "COPY t FROM stdin;", "Ünïcödé", "表", "🐘", " blank ", "x" * 60, "ö" * 29, "(", "*", "a,b", ";"),
)


class Column(NamedTuple):
    """A column of a table."""

    name: str
    type: Type


@dataclass(frozen=True)
class Table:
    """A table, or what can be read as one.

    :ivar name: Quoted, behind its schema.
    :ivar columns: Those that a random value can be inserted into.
    """

    name: str
    columns: tuple[Column, ...] = ()
    partitioned: bool = False

    def having(self, *categories: str) -> list[Column]:
        """List the columns whose type is of such a category."""
        return [column for column in self.columns if column.type.category in categories]


@dataclass
class Builder:
    """The database being made.

    :ivar script: Groups of statements that the server took, in their order.
    :ivar tally: How many groups of each kind the server took.
    """

    database: Database
    connection: Connection
    random: random.Random
    script: Script = field(default_factory=list)
    tally: dict[str, int] = field(default_factory=dict)
    kind: str = ""
    schemas: list[str] = field(default_factory=lambda: ["public"])
    tables: list[Table] = field(default_factory=list)
    views: list[Table] = field(default_factory=list)
    materialized: list[Table] = field(default_factory=list)
    sequences: list[str] = field(default_factory=list)
    routines: list[str] = field(default_factory=list)
    triggers: list[str] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)
    types: list[Type] = field(default_factory=lambda: list(TYPES))
    extensions: list[str] = field(default_factory=list)
    _names: int = 0

    @property
    def major(self) -> int:
        """The server's major."""
        return self.database.server.major

    def run(self, *statements: str) -> bool:
        """Run statements, all of them or none; what the server refuses is left out."""
        try:
            with self.connection.transaction():
                for statement in statements:
                    self.connection.execute(statement.encode())
        except psycopg.Error:
            return False
        self.script.append(statements)
        self.tally[self.kind] = self.tally.get(self.kind, 0) + 1
        return True

    def chance(self, probability: float) -> bool:
        """Draw whether."""
        return self.random.random() < probability

    def pick(self, among: Sequence[T]) -> T:
        """Draw one."""
        return self.random.choice(among)

    def some(self, among: Sequence[T], most: int = 3) -> list[T]:
        """Draw one or more, without repetition and in any order."""
        return self.random.sample(among, self.random.randint(1, min(most, len(among))))

    def bare(self, prefix: str) -> str:
        """Draw a new name, quoted, without a schema."""
        self._names += 1
        return quote(odd(self.random, f"{prefix}{self._names}"))

    def name(self, prefix: str) -> str:
        """Draw a new name, quoted, behind a schema."""
        return f"{self.pick(self.schemas)}.{self.bare(prefix)}"

    def role(self) -> str:
        """Draw whom something is granted to."""
        return self.pick(("PUBLIC", *map(quote, ROLES)))

    def value(self, type_: Type) -> str:
        """Draw a value, as SQL; that of a key is never NULL."""
        return "NULL" if type_.category != "id" and self.chance(0.15) else self.pick(type_.values)

    def row(self, columns: Sequence[Column]) -> str:
        """Draw a row, as SQL; now and then it holds nothing but NULL."""
        if self.chance(0.05):
            return f"({', '.join('NULL' for _ in columns)})"
        return f"({', '.join(self.value(column.type) for column in columns)})"

    def text(self) -> str:
        """Draw a text that is hard to quote, as SQL."""
        return literal(f"{self.pick(_ODD)} {self.pick(_ODD)}")

    def table(self) -> Table:
        """Draw a table."""
        return self.pick(self.tables)

    def of_major(self, major: int, text: str) -> str:
        """Return a text from a major on, before it nothing."""
        return text if self.major >= major else ""


Kind = Callable[[Builder], object]


def odd(rng: random.Random, name: str) -> str:
    """Make a name odd, mostly not; it is new where the name is."""
    if rng.random() < 0.65:
        return name
    made = f"{rng.choice(_ODD)}{name}"
    while len(made.encode()) > 63:
        made = made[1:]
    return made if rng.random() < 0.9 else f"{name}{'é' * 31}".encode()[:63].decode(errors="ignore")


def quote(name: str) -> str:
    """Quote an identifier."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def literal(text: str) -> str:
    """Quote a text."""
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def begun(database: Database, connection: Connection, seed: str) -> Builder:
    """Begin a database."""
    return Builder(database, connection, random.Random(seed))


OWNERS: Final = tuple(quote(each) for each in (SUPERUSER, *ROLES))
