"""A random database from a seed: schemas and extensions first, then objects of all kinds in any order."""

from typing import Final

from tests.databases import objects, partitions, tables
from tests.databases.builder import CREATE_ROLES, OWNERS, Builder, Kind, Script, begun, quote
from tests.databases.values import OF_EXTENSIONS, Type
from tests.definitions import expressions, places
from tests.support import Database

_MOST: Final = 100
_SESSION: Final = "SET statement_timeout = '5s'; SET client_min_messages = error; SET search_path = public, ext"


def build(database: Database, seed: str, *, most: int = _MOST) -> Builder:
    """Fill an empty database with what a seed draws.

    :param most: Objects that are tried at most.
    """
    database.execute(CREATE_ROLES)
    with database.connect() as connection:
        connection.execute(_SESSION)
        builder = begun(database, connection, seed)
        for kind, make in _FIRST.items():
            builder.kind = kind
            make(builder)
        names, weights = list(KINDS), [weight for _, weight in KINDS.values()]
        for name in builder.random.choices(names, weights, k=builder.random.randint(most // 3, most)):
            builder.kind = name
            KINDS[name][0](builder)
    return builder


def replay(database: Database, script: Script) -> None:
    """Fill an empty database with statements that another one has taken; those that depend on others may fail."""
    database.execute(CREATE_ROLES)
    with database.connect() as connection:
        connection.execute(_SESSION)
        builder = begun(database, connection, "")
        for statements in script:
            builder.run(*statements)


def _schemas(b: Builder) -> None:
    for _ in range(b.random.randint(0, 3)):
        name = b.bare("schema")
        if b.run(f"CREATE SCHEMA {name}{b.pick(('', f' AUTHORIZATION {b.pick(OWNERS)}'))}"):
            b.schemas.append(name)


def _extensions(b: Builder) -> None:
    if b.chance(0.4):
        return
    b.run("CREATE SCHEMA ext")
    for at, (name, brings) in enumerate(OF_EXTENSIONS.items()):
        # Each always in the same schema: a restore into another database's schemas leaves their extensions.
        if b.chance(0.2) and b.run(f"CREATE EXTENSION {quote(name)} SCHEMA {('public', 'ext')[at % 2]}"):
            b.extensions.append(name)
            b.types += brings


def _expressions(b: Builder) -> None:
    """Make the tables and types of the campaign of definitions, for half of all databases."""
    if b.chance(0.5) and b.run(places.SCHEMA):
        for column in expressions.COLUMNS:
            b.run(f"INSERT INTO public.t ({column.name}) VALUES {', '.join(f'({each})' for each in column.values)}")
        b.types += [
            Type(each.type, each.values) for each in expressions.COLUMNS if each.type in {"mood", "code", "pair"}
        ]
        for _ in range(b.random.randint(5, 15)):
            _defined(b)


def _first_table(b: Builder) -> None:
    while not b.tables:
        tables.table(b)


_FIRST: Final[dict[str, Kind]] = {
    "schema": _schemas,
    "extension": _extensions,
    "expression": _expressions,
    "table": _first_table,
}


def _defined(b: Builder) -> None:
    place = places.PLACES[b.pick(list(places.PLACES))]
    expression = next(expressions.drawn(b.random, subqueries=place.subqueries))
    b.run(place.define(f"o{len(b.script)}", expression))


def comment(b: Builder) -> None:
    """Comment on something."""
    table = b.table()
    things = [f"TABLE {table.name}", f"SCHEMA {b.pick(b.schemas)}"]
    things += [f"COLUMN {table.name}.{each.name}" for each in table.columns[:2]]
    things += [f"VIEW {each.name}" for each in b.views[-1:]] + [
        f"MATERIALIZED VIEW {each.name}" for each in b.materialized[-1:]
    ]
    things += [f"SEQUENCE {each}" for each in b.sequences[-1:]] + [f"ROUTINE {each}" for each in b.routines[-1:]]
    things += [f"EXTENSION {quote(each)}" for each in b.extensions[-1:]]
    b.run(f"COMMENT ON {b.pick(things)} IS {b.text()}")


def grant(b: Builder) -> None:
    """Grant or revoke something."""
    table, role = b.pick((*b.tables, *b.views, *b.materialized)), b.role()
    end = "" if role == "PUBLIC" else b.pick(("", " WITH GRANT OPTION"))
    grants = [
        f"{privileges} ON {table.name}" for privileges in ("SELECT", "ALL", "INSERT, UPDATE, TRUNCATE", "REFERENCES")
    ]
    grants += [f"{b.pick(('USAGE', 'ALL', 'CREATE'))} ON SCHEMA {b.pick(b.schemas)}"]
    grants += [f"SELECT ({each.name}), UPDATE ({each.name}) ON {table.name}" for each in table.columns[:1]]
    grants += [f"USAGE ON SEQUENCE {each}" for each in b.sequences[-1:]]
    grants += [f"EXECUTE ON ROUTINE {each}" for each in b.routines[-1:]]
    grants += [f"USAGE ON TYPE {each.sql}" for each in b.types[-1:] if each.sql.startswith(tuple(b.schemas))]
    if b.chance(0.7):
        b.run(f"GRANT {b.pick(grants)} TO {role}{end}")
    else:
        b.run(f"REVOKE {b.pick(grants)} FROM {b.pick((role, 'PUBLIC', 'CURRENT_USER'))}")


def default_privileges(b: Builder) -> None:
    """Change default privileges, everywhere or in a schema."""
    place = b.pick(("", f"IN SCHEMA {b.pick(b.schemas)} "))
    what = b.pick(("SELECT ON TABLES", "USAGE ON SEQUENCES", "EXECUTE ON FUNCTIONS", "USAGE ON TYPES"))
    whose = b.pick(("", f"FOR ROLE {b.pick(OWNERS)} "))
    change = f"GRANT {what} TO {b.role()}" if b.chance(0.7) else f"REVOKE {what} FROM PUBLIC"
    b.run(f"ALTER DEFAULT PRIVILEGES {whose}{place}{change}")


def owner(b: Builder) -> None:
    """Give something to another role."""
    things = [f"SCHEMA {b.pick(b.schemas)}", *(f"VIEW {each.name}" for each in b.views[-1:])]
    things += [f"MATERIALIZED VIEW {each.name}" for each in b.materialized[-1:]]
    things += [f"SEQUENCE {each}" for each in b.sequences[-1:]] + [f"ROUTINE {each}" for each in b.routines[-1:]]
    b.run(f"ALTER {b.pick(things)} OWNER TO {b.pick(OWNERS)}")


def large_object(b: Builder) -> None:
    """Make a large object."""
    number = b.random.randint(100_000, 100_400)
    b.run(f"SELECT lo_from_bytea({number}, {b.pick((chr(39) * 2, 'decode(repeat($$00ff5c$$, 9000), $$hex$$)'))})")
    b.run(f"GRANT SELECT ON LARGE OBJECT {number} TO reader")


def publication(b: Builder) -> None:
    """Make a publication."""
    name, tables_ = b.bare("pub"), ", ".join(each.name for each in b.some(b.tables))
    forms = [f"TABLE {tables_}", "ALL TABLES", *([f"TABLES IN SCHEMA {b.pick(b.schemas)}"] if b.major >= 15 else [])]
    b.run(f"CREATE PUBLICATION {name} FOR {b.pick(forms)}{b.pick(('', ' WITH (publish_via_partition_root = true)'))}")


def event_trigger(b: Builder) -> None:
    """Make an event trigger."""
    event = b.pick(("ddl_command_end", "sql_drop"))
    function = f"ext.{b.bare('ddl')}" if b.extensions else b.name("ddl")
    b.run(
        f"CREATE FUNCTION {function}() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END'",
        f"CREATE EVENT TRIGGER {b.bare('event')} ON {event} EXECUTE FUNCTION {function}()",
    )


KINDS: Final[dict[str, tuple[Kind, int]]] = {
    **tables.KINDS,
    **partitions.KINDS,
    **objects.KINDS,
    "comment": (comment, 4),
    "grant": (grant, 4),
    "default privileges": (default_privileges, 1),
    "owner": (owner, 2),
    "large object": (large_object, 1),
    "publication": (publication, 1),
    "event trigger": (event_trigger, 1),
}
