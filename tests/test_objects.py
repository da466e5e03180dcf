"""The facts of one schema are the same wherever and by whomever they are read, and differ where it does."""

from collections.abc import Callable, Iterator

import pytest

from tasks.inventory.existing_kinds import read_existing_kinds
from tasks.inventory.object_differences import Difference, What, compare_objects
from tasks.inventory.objects import (
    DEFINITIONS,
    Definition,
    Objects,
    objects_from_facts,
    objects_to_document,
    pin_settings,
    read_extensions,
    read_objects,
)
from tasks.inventory.snapshot import read_snapshot, read_state
from tests import everything as everything_sql
from tests.servers import MAJORS, OWNER, SUPERUSER, Server
from tests.support import Connection, Database, Databases


def read(connection: Connection) -> Objects:
    """Read all objects, pinned as the flows do it."""
    pin_settings(connection)
    return read_objects(connection)


def facts_of(database: Database, role: str = SUPERUSER) -> Objects:
    """Read all objects in a session of its own."""
    with database.connect(role) as connection:
        return read(connection)


def names(found: Objects, kind: str) -> list[str]:
    """Return the objects of a kind."""
    return sorted(found[kind])


# A kind without objects is not queried

TRIGGER = """CREATE FUNCTION of_trigger() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION of_trigger()"""
FIRST_OBJECTS = [
    ("view", "CREATE VIEW v AS SELECT 1 AS a"),
    ("view", "CREATE MATERIALIZED VIEW m AS SELECT 1 AS a"),
    ("sequence", "CREATE SEQUENCE s"),
    ("sequence", "CREATE TABLE u (a int GENERATED ALWAYS AS IDENTITY)"),
    ("trigger", "CREATE TRIGGER g BEFORE UPDATE ON t EXECUTE FUNCTION suppress_redundant_updates_trigger()"),
    ("policy", "CREATE POLICY p ON t"),
    ("rule", "CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING"),
    ("function", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    ("function", "CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1'"),
    ("function", "CREATE AGGREGATE a (int) (SFUNC = int4pl, STYPE = int)"),
    ("type", "CREATE TYPE e AS ENUM ('a')"),
    ("type", "CREATE TYPE c AS (a int)"),
    ("type", "CREATE TYPE r AS RANGE (SUBTYPE = int)"),
    ("type", "CREATE DOMAIN d AS int"),
    ("type", "CREATE TYPE b"),
    ("operator", "CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)"),
    ("statistics", "CREATE STATISTICS s ON a, b FROM t"),
    ("collation", 'CREATE COLLATION c FROM "C"'),
    ("large object", "SELECT lo_create(0)"),
    ("event trigger", TRIGGER),
    ("publication", "CREATE PUBLICATION p"),
]


@pytest.mark.majors(14, 18)
def test_the_first_object_of_each_kind_is_found(database: Database) -> None:
    """In a database without another one of its kind; before, only the kinds that are always queried remain."""
    with database.connect(autocommit=False) as connection:
        pin_settings(connection)
        before = read_existing_kinds(connection, DEFINITIONS)
        connection.execute("CREATE TABLE public.t (a int, b int)")
        found = []
        for kind, query in FIRST_OBJECTS:
            with connection.transaction(force_rollback=True):
                connection.execute("SET LOCAL search_path = public")
                connection.execute(query.encode())
                connection.execute("SET LOCAL search_path = ''")
                found += [kind] if read_objects(connection)[kind] else []

    assert set(before).isdisjoint(kind for kind, _ in FIRST_OBJECTS)
    assert {*before, *found} == DEFINITIONS.keys()
    assert found == [kind for kind, _ in FIRST_OBJECTS]


# One schema on every major


@pytest.fixture(scope="module")
def loaded(
    server_of: Callable[[int], Server], template_of: Callable[[Server, bool], Database]
) -> Iterator[dict[int, Objects]]:
    """Return the facts of one dump of 14, on 14 and loaded by psql into every other major."""
    source = template_of(server_of(14), True)
    dump = source.dump_text("--no-owner")
    found = {14: facts_of(source)}
    with Databases(server_of(14)) as databases:
        for major in MAJORS[1:]:
            # Its first sections make the roles that are granted to.
            setup = everything_sql.text(major, superuser=True, setup=True)
            databases(server=server_of(major)).execute(setup)
            target = databases(server=server_of(major))
            target.psql(dump)
            found[major] = facts_of(target)
        yield found


@pytest.mark.parametrize("major", MAJORS[1:])
def test_facts_are_equal_when_majors_differ(loaded: dict[int, Objects], major: int) -> None:
    """Every kind has objects, and the stable digest of each is that of 14."""
    assert compare_objects(loaded[14], loaded[major], same_major=False) == []
    assert all(loaded[major].values()), [kind for kind, found in loaded[major].items() if not found]


def test_texts_differ_when_majors_do(loaded: dict[int, Objects]) -> None:
    """Why they are only compared on one major: what the server itself writes is not the same on all."""
    differing = {each.kind for each in compare_objects(loaded[14], loaded[18], same_major=True)}

    assert differing
    assert differing <= {"view", "rule", "function", "statistics", "collation"}


@pytest.mark.all_majors
def test_facts_are_equal_when_a_dump_was_loaded_by_psql(
    server: Server, template_of: Callable[[Server, bool], Database], new_database: Databases
) -> None:
    """Texts, too, on one major: a dump and a load change nothing."""
    everything, target = template_of(server, True), new_database()
    target.psql(everything.dump_text())

    assert compare_objects(facts_of(everything), facts_of(target), same_major=True) == []


# Whoever reads


SETTINGS = (
    "DateStyle = 'German, DMY'",
    "IntervalStyle = 'iso_8601'",
    "TimeZone = 'Asia/Kolkata'",
    "search_path = app, public, ext, pg_catalog",
    "quote_all_identifiers = on",
    "extra_float_digits = '-5'",
    "bytea_output = 'escape'",
    "standard_conforming_strings = off",
    "lc_monetary = 'C.UTF-8'",
    "lc_messages = 'C'",
)


@pytest.mark.parametrize("place", ["session", "role", "database"])
def test_facts_are_equal_when_settings_differ(everything: Database, place: str) -> None:
    """Defaults with dates and intervals, names that need no quotes, another search path."""
    everything.execute(
        "CREATE TABLE app.dated (d date DEFAULT '2025-03-01', t timestamptz DEFAULT '2025-03-01 12:00+00',"
        " i interval DEFAULT '1 day 02:03:04', f float8 DEFAULT 0.1, b bytea DEFAULT '\\x00ff',"
        " CHECK (t > '2020-01-01 00:00+00'))"
    )
    before = facts_of(everything)
    whose = {
        "session": "SET ",
        "role": f"ALTER ROLE postgres IN DATABASE {everything.name} SET ",
        "database": f"ALTER DATABASE {everything.name} SET ",
    }[place]

    with everything.connect() as connection:
        for each in SETTINGS:
            connection.execute((whose + each).encode())
        after = read(connection) if place == "session" else facts_of(everything)

    assert compare_objects(before, after, same_major=True) == []


def test_facts_are_equal_when_a_plain_owner_reads(owner_everything: Database) -> None:
    """No privilege hides an object from its owner."""
    by_owner, by_superuser = facts_of(owner_everything, OWNER), facts_of(owner_everything)

    assert compare_objects(by_superuser, by_owner, same_major=True) == []
    assert by_owner == by_superuser


NAMED = """
CREATE TYPE größe AS ENUM ('groß', 'klein');
CREATE TABLE maße (größe größe DEFAULT 'groß', CHECK (größe <> 'klein'));
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT ''é''::text';
CREATE VIEW v AS SELECT 'é'::text AS é;
"""


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_facts_are_equal_when_encodings_differ(new_database: Databases, encoding: str) -> None:
    """Names, labels, defaults and bodies are the same characters, whatever bytes they are."""
    utf8, other = new_database(), new_database(encoding=encoding)
    for database in (utf8, other):
        with database.connect(client_encoding="UTF8") as connection:
            connection.execute(NAMED.encode())

    with utf8.connect(client_encoding="UTF8") as one, other.connect(client_encoding="UTF8") as two:
        assert read(one) == read(two)


def test_facts_are_read_when_bodies_are_in_no_encoding(new_database: Databases) -> None:
    """In SQL_ASCII a label, a default or a body may hold bytes that are no text; another byte is another object."""
    databases = [new_database(encoding="SQL_ASCII") for _ in range(3)]
    for database, byte in zip(databases, (b"\xfc", b"\xfc", b"\xe4"), strict=True):
        with database.connect(client_encoding="SQL_ASCII") as connection:
            connection.execute(
                b"CREATE TABLE t (v text DEFAULT '" + byte + b"'); CREATE TYPE e AS ENUM ('" + byte + b"');"
                b"CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT ''" + byte + b"''::text'"
            )

    found = []
    for database in databases:
        with database.connect(client_encoding="UTF8") as connection:
            found.append(read(connection))

    assert found[0] == found[1]
    assert [(each.kind, each.what) for each in compare_objects(found[0], found[2], same_major=True)] == [
        *(("table", "text"), ("function", "different"), ("type", "different"))
    ]


# What belongs to a dump, and what does not


@pytest.mark.all_majors
def test_nothing_of_an_extension_is_selected(database: Database) -> None:
    """Extensions are told by name and version; what they brought is theirs."""
    before = facts_of(database)

    database.execute(
        "CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE EXTENSION hstore SCHEMA public;"
        "CREATE EXTENSION pg_trgm SCHEMA public; CREATE EXTENSION btree_gist; CREATE EXTENSION tablefunc;"
        "CREATE EXTENSION pg_stat_statements; CREATE EXTENSION postgres_fdw; CREATE EXTENSION ltree"
    )
    after = facts_of(database)

    assert [str(each) for each in compare_objects(before, after, same_major=True)] == [
        str(Difference("schema", "ext", What.EXTRA))
    ]
    with database.connect() as connection:
        assert {"citext", "hstore", "pg_trgm", "plpgsql"} <= read_extensions(connection).keys()


def test_what_was_added_to_an_extension_is_selected_when_it_is_ours(database: Database) -> None:
    """A table, a function and a trigger of ours that use an extension's types; one that we gave to it is its own."""
    database.execute(
        "CREATE EXTENSION citext; CREATE TABLE t (c citext UNIQUE); CREATE TABLE given (c citext);"
        "CREATE FUNCTION f(citext) RETURNS citext LANGUAGE sql AS 'SELECT $1';"
        "ALTER EXTENSION citext ADD TABLE given"
    )

    found = facts_of(database)

    assert names(found, "table") == ["public.t"]
    assert names(found, "function") == ["public.f(public.citext)"]
    assert names(found, "constraint") == ["public.t.t_c_key"]


PARTED = """
CREATE TABLE target (id integer PRIMARY KEY);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TABLE parted (id integer NOT NULL, target integer CONSTRAINT fk REFERENCES target, CONSTRAINT ck CHECK (id > 0),
    CONSTRAINT pk PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE high PARTITION OF parted FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);
CREATE TABLE higher PARTITION OF high (CONSTRAINT own CHECK (id < 15)) FOR VALUES FROM (10) TO (20);
CREATE INDEX ix ON parted (target);
CREATE INDEX own_index ON low (id, target);
CREATE TRIGGER tr AFTER INSERT ON parted FOR EACH ROW EXECUTE FUNCTION f();
CREATE CONSTRAINT TRIGGER ct AFTER UPDATE ON target DEFERRABLE FOR EACH ROW EXECUTE FUNCTION f();
CREATE TABLE parent (id integer NOT NULL, CONSTRAINT inherited CHECK (id > 0));
CREATE TABLE child (CONSTRAINT of_child CHECK (id < 100)) INHERITS (parent);
"""


@pytest.mark.all_majors
def test_inherited_and_internal_objects_are_not_selected(database: Database) -> None:
    """Constraints, indexes and triggers stand where they were made, on 18 as on 14."""
    database.execute(PARTED)

    found = facts_of(database)

    assert names(found, "constraint") == [
        *("public.child.of_child", "public.higher.own", "public.parent.inherited", "public.parted.ck"),
        *("public.parted.fk", "public.parted.pk", "public.target.target_pkey"),
    ]
    assert names(found, "index") == ["public.ix", "public.own_index", "public.pk", "public.target_pkey"]
    assert names(found, "trigger") == ["public.parted.tr", "public.target.ct"]
    assert names(found, "table") == [
        *("public.child", "public.high", "public.higher", "public.low", "public.parent", "public.parted"),
        "public.target",
    ]
    assert names(found, "type") == []


@pytest.mark.all_majors
def test_triggers_of_partitions_are_selected_when_they_are_not_as_the_parents(database: Database) -> None:
    """As pg_dump, which writes their state; the inner triggers of foreign keys are not."""
    database.execute(PARTED + "ALTER TABLE low DISABLE TRIGGER ALL; ALTER TABLE higher ENABLE ALWAYS TRIGGER tr")

    assert names(facts_of(database), "trigger") == [
        *("public.higher.tr", "public.low.tr", "public.parted.tr", "public.target.ct")
    ]


@pytest.mark.all_majors
def test_temporary_objects_are_not_selected(database: Database) -> None:
    """Of whatever session, and its own neither."""
    before = facts_of(database)

    with database.connect() as other, database.connect() as connection:
        for each in (other, connection):
            each.execute(
                "CREATE TEMP TABLE t (id serial PRIMARY KEY, n integer CHECK (n > 0));"
                "CREATE TEMP VIEW v AS SELECT 1 AS one; CREATE TEMP SEQUENCE s; CREATE INDEX ON t (n);"
                "CREATE TYPE pg_temp.e AS ENUM ('a'); CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql RETURN 1"
            )
            each.execute("INSERT INTO t (n) VALUES (1)")
        found = read(connection)
        now = read_state(connection)

    assert found == before
    assert (now.rows, now.sequences) == ({}, {})


def test_rows_are_read_of_what_holds_them_itself(database: Database) -> None:
    """Unlogged tables and children are counted, each for itself; foreign tables, views and roots hold nothing."""
    database.execute(
        "CREATE EXTENSION file_fdw; CREATE SERVER s FOREIGN DATA WRAPPER file_fdw;"
        "CREATE FOREIGN TABLE away (line text) SERVER s OPTIONS (filename '/nowhere');"
        "CREATE UNLOGGED TABLE unlogged AS SELECT generate_series(1, 3) AS n;"
        "CREATE TABLE parent (n integer); INSERT INTO parent VALUES (1), (2);"
        "CREATE TABLE child () INHERITS (parent); INSERT INTO child VALUES (3);"
        "CREATE TABLE root (n integer) PARTITION BY LIST (n);"
        "CREATE TABLE leaf PARTITION OF root FOR VALUES IN (1); INSERT INTO root VALUES (1), (1), (1), (1);"
        "CREATE FOREIGN TABLE leaf_away PARTITION OF root FOR VALUES IN (2) SERVER s OPTIONS (filename '/nowhere');"
        "CREATE MATERIALIZED VIEW seen AS SELECT * FROM parent"
    )

    with database.connect() as connection, read_snapshot(connection):
        found = read_state(connection, summed={("public", "child"): "", ("public", "unlogged"): ""})

    assert found.rows == {
        ("public", "unlogged"): 3,
        ("public", "parent"): 2,
        ("public", "child"): 1,
        ("public", "leaf"): 4,
    }
    assert found.checksums.keys() == {("public", "child"), ("public", "unlogged")}
    assert {"public.away", "public.leaf_away", "public.root"} < found.objects["table"].keys()
    assert names(found.objects, "view") == ["public.seen"]


def test_documents_hold_the_facts_when_they_are_written_and_read(everything: Database) -> None:
    """What a manifest keeps is what was read."""
    found = facts_of(everything)

    assert objects_from_facts({"definitions": objects_to_document(found)}) == found


def test_kinds_are_not_compared_when_one_side_does_not_know_them(database: Database) -> None:
    """A manifest of another version of ours may lack a kind, or have more."""
    found = facts_of(database)
    older = {kind: each for kind, each in found.items() if kind != "schema"}
    newer = {**found, "comet": {"halley": Definition("x")}}

    assert compare_objects(older, found, same_major=True) == []
    assert compare_objects(newer, found, same_major=True) == []
