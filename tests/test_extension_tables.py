"""Rows that people add to an extension's own tables: pg_dump writes those that the extension says are theirs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tasks.dump.dump import Dumped, make_dump
from tasks.dump.request import DumpRequest, Part
from tasks.errors import OperationFailedError
from tasks.progress import Silence
from tasks.restore.plan import plan_restore
from tasks.restore.request import RestoreRequest
from tasks.restore.restore import Restored, restore_dump
from tasks.verify.verify import Verified, VerifyRequest, verify_database
from tests.both_ways import Method, restore_by
from tests.extended import extended_server
from tests.flows import settings_of
from tests.servers import OWNER, SUPERUSER, Server
from tests.support import Database, Databases, Project

SCRIPT = """\
CREATE TABLE conf (key text PRIMARY KEY, value text, ours boolean DEFAULT false NOT NULL);
INSERT INTO conf VALUES ('built in', '1'), ('built in, too', '2');
CREATE TABLE all_theirs (n integer);
CREATE TABLE all_ours (n integer);
INSERT INTO all_ours VALUES (1), (2), (3);
CREATE SEQUENCE counter;
CREATE SEQUENCE inner_counter;
CREATE FUNCTION conf(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT value FROM @extschema@.conf WHERE key = $1';
SELECT pg_catalog.pg_extension_config_dump('conf', 'WHERE NOT ours AND key <> ''100%; --''
  AND NOT key LIKE ''built in%''');
SELECT pg_catalog.pg_extension_config_dump('all_theirs', '');
SELECT pg_catalog.pg_extension_config_dump('counter', '');
GRANT ALL ON conf, all_theirs, counter TO PUBLIC;
"""
ROWS = """
INSERT INTO conf.conf VALUES ('mine', NULL), ('mine, too', ''), ('100%; --', 'not dumped');
INSERT INTO conf.conf VALUES ('the extension''s', '', true);
INSERT INTO conf.all_theirs VALUES (1), (1), (NULL);
CREATE TABLE public.uses (id serial PRIMARY KEY, key text REFERENCES conf.conf (key));
INSERT INTO public.uses (key) VALUES ('mine'), ('built in');
CREATE VIEW public.seen AS SELECT conf.conf(key) AS value FROM public.uses;
"""
"""What people add to it."""


@pytest.fixture(scope="module")
def extended() -> Iterator[Server]:
    """Return a server of its own, whose programs know one extension more."""
    with extended_server("conf_tables", SCRIPT) as server:
        yield server


@pytest.fixture(scope="module")
def with_postgis() -> Iterator[Server]:
    """Return a server of Debian's or Ubuntu's own PostgreSQL, with their PostGIS."""
    homes = sorted(Path("/usr/lib/postgresql").glob("*"), key=lambda home: home.name != "15")
    usable = [home for home in homes if Path(f"/usr/share/postgresql/{home.name}/extension/postgis.control").exists()]
    if not usable:
        pytest.skip(
            "PostGIS is not installed: on Debian 12 `apt-get install -y --no-install-recommends "
            "postgresql-15-postgis-3` brings it, other releases of Debian and Ubuntu have `postgresql-postgis`."
        )
    server = Server.launch(int(usable[0].name), usable[0] / "bin")
    try:
        Databases(server)(name="with_postgis").execute("CREATE EXTENSION postgis")
        yield server
    finally:
        server.close()


@dataclass
class Pair:
    """A database that is dumped, and one that the dump goes into, as one role sees them."""

    project: Project
    source: Database
    target: Database
    role: str

    def dump(self) -> Dumped:
        """Dump the source."""
        settings = settings_of(self.project, self.source, self.role)
        dumped = make_dump(settings, DumpRequest(checksums=True), Silence())
        assert dumped is not None
        return dumped

    def restore(self, *, clean: bool = False) -> Restored:
        """Restore the newest dump into the target."""
        newest = max(self.project.dumps.glob("db_dump_*.sql"))
        request = RestoreRequest(str(newest), clean=clean, checksums=True)
        settings = settings_of(self.project, self.target, self.role)
        return restore_dump(plan_restore(settings, request, Silence()), Silence())

    def verify(self) -> Verified:
        """Verify the target against that dump."""
        settings = settings_of(self.project, self.target, self.role)
        return verify_database(settings, VerifyRequest(checksums=True), Silence())


Make = Callable[..., Pair]


@pytest.fixture
def pair(extended: Server, project: Project) -> Iterator[Make]:
    """Return what makes a pair; the source holds rows of people in the extension's tables."""
    with Databases(extended) as databases:

        def make(role: str, *, installed: bool) -> Pair:
            source, target = databases(owner=role), databases(owner=role)
            for each in (source, target) if installed else (source,):
                each.execute(
                    "CREATE SCHEMA conf; CREATE EXTENSION conf_tables SCHEMA conf; GRANT USAGE ON SCHEMA conf TO PUBLIC"
                )
            if role != SUPERUSER:
                for each in (source, target):
                    each.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
            source.execute(ROWS, role)
            return Pair(project, source, target, role)

        yield make


def rows_of(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Read the extension's tables whole."""
    return {
        "conf": database.execute('SELECT key, value, ours FROM conf.conf ORDER BY key COLLATE "C"'),
        "all_theirs": database.execute("SELECT n FROM conf.all_theirs ORDER BY n"),
        "all_ours": database.execute("SELECT n FROM conf.all_ours ORDER BY n"),
        "uses": database.execute("SELECT * FROM public.uses ORDER BY id"),
        "seen": database.execute("SELECT * FROM public.seen ORDER BY 1"),
    }


EXPECTED: dict[str, list[tuple[Any, ...]]] = {
    "conf": [
        *(("built in", "1", False), ("built in, too", "2", False)),
        *(("mine", None, False), ("mine, too", "", False)),
    ],
    "all_theirs": [(1,), (1,), (None,)],
    "all_ours": [(1,), (2,), (3,)],
    "uses": [(1, "mine"), (2, "built in")],
    "seen": [("1",), (None,)],
}


def test_manifest_counts_the_rows_of_people_when_a_table_is_the_extensions(pair: Make) -> None:
    """Those under the condition, and no table that was not registered; the extension is no object."""
    manifest = pair(SUPERUSER, installed=True).dump().manifest

    counted = {(each.schema, each.name): each.rows for each in manifest.tables}
    assert counted == {("conf", "conf"): 2, ("conf", "all_theirs"): 3, ("public", "uses"): 2}
    assert {(schema, name) for schema, name, _ in manifest.facts["checksums"]} == counted.keys()
    assert {(each.schema, each.name) for each in manifest.sequences} == {("conf", "counter"), ("public", "uses_id_seq")}
    assert list(manifest.facts["definitions"]["table"]) == ["public.uses"]
    assert manifest.facts["definitions"]["function"] == {}
    assert manifest.facts["extensions"]["conf_tables"] == "1.0"


@pytest.mark.parametrize(
    ("part", "held"),
    [
        (Part(schemas=("conf",)), True),
        (Part(tables=("conf.conf",)), True),
        (Part(excluded_tables=("conf.conf",)), False),
        (Part(excluded_schemas=("conf",)), False),
    ],
    ids=["its schema", "the table", "all but the table", "all but its schema"],
)
def test_a_part_holds_the_rows_of_people_that_pg_dump_writes(pair: Make, part: Part[str], held: bool) -> None:
    """Of an extension's table, whether the extension is in the dump or not."""
    made = pair(SUPERUSER, installed=False)

    dumped = make_dump(settings_of(made.project, made.source), DumpRequest(part=part), Silence())

    assert dumped is not None
    assert (("conf", "conf") in {(each.schema, each.name) for each in dumped.manifest.tables}) is held


@pytest.mark.parametrize(
    ("role", "installed"),
    [(SUPERUSER, False), (SUPERUSER, True), (OWNER, True)],
    ids=["superuser, extension comes", "superuser, extension is there", "owner, extension is there"],
)
def test_rows_come_back_when_the_database_is_empty(pair: Make, role: str, installed: bool) -> None:
    """The extension brings its own rows, the dump those of people; a plain owner needs the extension there."""
    each = pair(role, installed=installed)
    each.dump()

    restored = each.restore()

    assert restored.rows == 7
    assert rows_of(each.target) == EXPECTED
    assert each.verify().lines == ()


@pytest.mark.parametrize("role", [SUPERUSER, OWNER])
def test_rows_of_people_are_replaced_when_the_restore_is_clean(pair: Make, role: str) -> None:
    """What people had put there goes, with the tables that used it; what is the extension's stays, twice over."""
    each = pair(role, installed=True)
    each.target.execute(ROWS, role)
    each.target.execute(
        "INSERT INTO conf.conf VALUES ('later', 'x'); UPDATE conf.conf SET value = 'changed' WHERE key = 'mine';"
        "INSERT INTO conf.all_theirs VALUES (9); SELECT setval('conf.counter', 99);"
        "CREATE TABLE public.later (key text REFERENCES conf.conf (key)); INSERT INTO public.later VALUES ('later')",
        role,
    )
    kept = [("100%; --", "not dumped", False)]
    extensions = [("the extension's", "", True)]
    expected = {**EXPECTED, "conf": sorted(EXPECTED["conf"] + kept + extensions)}
    each.dump()

    for _ in range(2):
        each.restore(clean=True)

        assert rows_of(each.target) == expected
        assert each.target.scalar("SELECT last_value FROM conf.counter") == 1
        assert each.verify().lines == ()


FAULTS = {
    "a value": ("UPDATE conf.conf SET value = 'x' WHERE key = 'mine'", ["content conf.conf"]),
    "a row more": ("INSERT INTO conf.conf VALUES ('another', '')", ["rows conf.conf"]),
    "a row less": ("DELETE FROM conf.all_theirs WHERE n IS NULL", ["rows conf.all_theirs"]),
    "the sequence": ("SELECT nextval('conf.counter')", ["sequence conf.counter"]),
    "the extension dropped": ("DROP EXTENSION conf_tables CASCADE", ["table conf.conf", "table conf.all_theirs"]),
    "a row of the extension's": ("UPDATE conf.conf SET value = 'x' WHERE key = 'built in'", []),
    "a table of the extension's": ("TRUNCATE conf.all_ours", []),
}


@pytest.mark.parametrize(("done", "named"), FAULTS.values(), ids=FAULTS)
def test_verify_names_faults_when_they_are_in_what_people_own(pair: Make, done: str, named: list[str]) -> None:
    """Of an extension's tables just the rows that a dump holds are compared."""
    each = pair(SUPERUSER, installed=False)
    each.dump()
    each.restore()
    each.target.execute(done)

    found = [f"{line.kind} {line.name}" for line in each.verify().differences]

    assert set(named) <= set(found)
    assert bool(named) == bool(found)


# PostGIS


PLACES = """
CREATE TABLE public.places (
    id serial PRIMARY KEY, name text, at public.geometry(Point, 4326) NOT NULL, area public.geography
);
INSERT INTO public.places (name, at, area) SELECT 'p' || i, public.ST_SetSRID(public.ST_MakePoint(i, -i / 3.0), 4326),
    public.ST_Buffer(public.ST_SetSRID(public.ST_MakePoint(i, 0), 4326)::public.geography, 1000)
    FROM generate_series(1, 20) i;
CREATE INDEX places_at ON public.places USING gist (at);
CREATE VIEW public.near AS SELECT name FROM public.places WHERE public.ST_X(at) < 5;
"""
OURS = "INSERT INTO public.spatial_ref_sys (srid, auth_name, srtext) VALUES (990001, 'ours', 'LOCAL_CS[\"ours\"]')"


@pytest.fixture
def places(with_postgis: Server, project: Project) -> Iterator[Make]:
    """Return what makes a pair of databases with PostGIS."""
    with Databases(with_postgis) as databases:

        def make(role: str, *, installed: bool) -> Pair:
            source = databases(owner=role, template="with_postgis")
            target = databases(owner=role, template="with_postgis" if installed else None)
            source.execute(PLACES, role)
            return Pair(project, source, target, role)

        yield make


@pytest.mark.root
@pytest.mark.parametrize("installed", [False, True], ids=["extension comes", "extension is there"])
def test_places_come_back_when_a_superuser_restores(places: Make, installed: bool) -> None:
    """Geometries, an index and a view of them, and a coordinate system of people's own."""
    each = places(SUPERUSER, installed=installed)
    each.source.execute(OURS)
    each.dump()
    if installed:
        each.target.execute(PLACES + "DELETE FROM places WHERE id < 9;" + OURS.replace("990001", "990002"))

    for _ in range(2):
        each.restore(clean=installed)
        installed = True

        assert each.verify().lines == ()
        assert each.target.scalar("SELECT array_agg(srid) FROM spatial_ref_sys WHERE auth_name = 'ours'") == [990001]
        assert each.target.scalar("SELECT count(*) FROM spatial_ref_sys") > 8000
        assert each.target.dump_text() == each.source.dump_text()


@pytest.mark.root
def test_places_come_back_by_a_swap(places: Make) -> None:
    """PostGIS is in both databases; its table has thousands of rows, and none of people's own."""
    each = places(SUPERUSER, installed=True)
    path = each.dump().path
    each.target.execute(PLACES + "DELETE FROM places WHERE id < 9")

    ended = restore_by(each.project, each.target, path, Method.SWAP)

    assert ended.swapped
    assert each.target.dump_text() == each.source.dump_text()


@pytest.mark.root
def test_places_come_back_when_a_plain_owner_restores(places: Make) -> None:
    """PostGIS is the superuser's, in both databases, as on managed servers."""
    each = places(OWNER, installed=True)
    each.dump()

    for clean in (False, True):
        each.restore(clean=clean)

        assert each.verify().lines == ()
        assert each.target.scalar("SELECT count(*) FROM near", OWNER) == 4


@pytest.mark.root
def test_nothing_is_changed_when_a_plain_owner_may_not_write_the_extensions_table(places: Make) -> None:
    """A coordinate system of one's own lies in a superuser's table: refused, and rolled back as a whole."""
    each = places(OWNER, installed=True)
    each.source.execute(OURS)
    each.dump()
    each.target.execute(PLACES + "DELETE FROM places WHERE id < 9", OWNER)
    before = each.target.dump_text()

    with pytest.raises(OperationFailedError, match="spatial_ref_sys"):
        each.restore(clean=True)

    assert each.target.dump_text() == before
