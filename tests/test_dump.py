"""A dump is whole and says the truth about itself, or there is none; whatever happens meanwhile."""

import contextlib
import hashlib
import json
import re
import shlex
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from psycopg import sql

from tasks.config.settings import Output
from tasks.dump.dump import Dumped, make_dump
from tasks.dump.request import DumpRequest
from tasks.dumpfiles.atomic_write import open_part_file
from tasks.dumpformat.compression import Compression
from tasks.errors import BadInputError, OperationFailedError, ServerError, TaskError
from tasks.progress import Silence
from tasks.system.git import git_state
from tests.dump_programs import (
    GATE,
    NOISE,
    PG_DUMP_OPTIONS,
    holds_lock,
    inv_on_a_disk,
    left_in,
    migrate,
    nothing_is_left,
    waiting,
    wrapped,
)
from tests.flows import Said, content_of, dumped, settings_of, sqlstate_of
from tests.servers import OWNER, PASSWORD, SUPERUSER, Server, free_port, provision
from tests.support import Database, Databases, Project, blocking, eventually, without_restrict

NOON = datetime(2025, 12, 21, 12, 0, 0, 123000, tzinfo=UTC)
NAME = re.compile(r"db_dump_\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z\.sql(\.gz|\.zst)?")
PEOPLE = "CREATE TABLE people (id serial PRIMARY KEY, name text); INSERT INTO people (name) SELECT 'p' || i FROM \
generate_series(1, 500) i;"
FORMS = (PASSWORD, quote(PASSWORD, safe=""))


def manifest_of(path: Path) -> dict[str, Any]:
    """Read the manifest beside a dump as any program would."""
    stem = path.name.partition(".sql")[0]
    document: dict[str, Any] = json.loads(path.with_name(f"{stem}.manifest.json").read_text(encoding="utf-8"))
    return document


def rows_of(path: Path) -> dict[str, int]:
    """Return the rows of each table as the manifest tells them."""
    return {f"{each['schema']}.{each['name']}": each["rows"] for each in manifest_of(path)["tables"]}


def first_time(script: str) -> str:
    """Run a piece of shell in the first of several calls only."""
    return f'if [ ! -e "$HERE/done" ]; then touch "$HERE/done"; {script}; fi'


def is_gone(group: int) -> bool:
    """Tell whether nothing of a process group runs; what nobody has reaped yet counts as gone."""
    found = subprocess.run(["/bin/ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True, check=True)
    states = [line.split() for line in found.stdout.splitlines()]
    return not any(int(each) == group and not state.startswith("Z") for each, state in states)


@pytest.fixture(scope="module")
def whole(
    server: Server, template_of: Callable[[Server, bool], Database], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Database, Dumped]:
    """Return the database with everything in it, and a dump of it; both only to be looked at."""
    database = template_of(server, True)
    project = Project.create(tmp_path_factory.mktemp("whole") / "project")
    made = dumped(settings_of(project, database), DumpRequest(note='both "quotes" and ünïcödé'))
    return database, made


@pytest.mark.all_majors
def test_dump_is_named_by_its_time(whole: tuple[Database, Dumped]) -> None:
    """The name is the time of the manifest in UTC, to the millisecond."""
    _, made = whole

    created = manifest_of(made.path)["created"]

    assert NAME.fullmatch(made.path.name)
    assert made.path.name == f"db_dump_{created.replace(':', '-').replace('.', '-')}.sql"
    assert abs(datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds() < 600


@pytest.mark.all_majors
def test_dump_is_what_pg_dump_writes(whole: tuple[Database, Dumped]) -> None:
    """Byte for byte, but for the random key of the restrict lines."""
    database, made = whole

    written = without_restrict(made.path.read_bytes())

    assert written == database.dump_text(*PG_DUMP_OPTIONS)


@pytest.mark.all_majors
def test_manifest_counts_every_table(whole: tuple[Database, Dumped]) -> None:
    """Each ordinary table that no extension owns is there, with its own rows and not its children's."""
    database, made = whole
    tables = database.execute(
        "SELECT c.oid::regclass::text, nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND c.oid NOT IN "
        "(SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass AND deptype = 'e')"
    )

    counts = [f"SELECT {at}, count(*) FROM ONLY {sql}" for at, (sql, _, _) in enumerate(tables)]
    rows: dict[int, int] = dict(database.execute(" UNION ALL ".join(counts)))

    counted = {f"{schema}.{name}": rows[at] for at, (_, schema, name) in enumerate(tables)}

    assert len(counted) > 20
    assert rows_of(made.path) == counted


@pytest.mark.all_majors
def test_manifest_tells_where_every_sequence_stands(whole: tuple[Database, Dumped]) -> None:
    """Last value, and whether it was used."""
    database, made = whole
    sequences = database.execute(
        "SELECT format('%I.%I', schemaname, sequencename), schemaname, sequencename FROM \
pg_sequences"
    )

    values = [f"SELECT {at}, last_value, is_called FROM {sql}" for at, (sql, _, _) in enumerate(sequences)]
    expected = {
        sequences[at][1:]: (value, called) for at, value, called in database.execute(" UNION ALL ".join(values))
    }

    found = {
        (each["schema"], each["name"]): (each["value"], each["is_called"])
        for each in manifest_of(made.path)["sequences"]
    }
    assert len(found) > 3
    assert found == expected


@pytest.mark.all_majors
def test_manifest_names_the_source_without_its_secrets(whole: tuple[Database, Dumped]) -> None:
    """Host, port, database, version and the cluster's number; neither role nor password."""
    database, made = whole

    manifest = manifest_of(made.path)

    version = database.scalar("SHOW server_version")
    assert manifest["source"] == {
        "host": "127.0.0.1",
        "port": database.server.port,
        "database": database.name,
        "server_version": version,
        "system_identifier": database.scalar("SELECT system_identifier::text FROM pg_control_system()"),
    }
    assert manifest["pg_dump"]["version"] == version
    assert manifest["note"] == 'both "quotes" and ünïcödé'
    assert PASSWORD not in json.dumps(manifest, ensure_ascii=False)


@pytest.mark.all_majors
def test_plain_owner_dumps_a_database_of_their_own(
    server: Server, template_of: Callable[[Server, bool], Database], project: Project
) -> None:
    """No superuser is needed, and the dump is what pg_dump writes for that role."""
    owner_everything = template_of(server, False)
    settings = settings_of(project, owner_everything, OWNER)

    made = dumped(settings)

    text = owner_everything.dump_text(*PG_DUMP_OPTIONS, role=OWNER)
    assert without_restrict(made.path.read_bytes()) == text
    assert made.manifest.source["system_identifier"] is None or database_is_old(owner_everything)


def database_is_old(database: Database) -> bool:
    """Tell whether every role may ask for the cluster's number."""
    return bool(database.scalar("SELECT has_function_privilege('owner', 'pg_control_system()', 'execute')"))


@pytest.mark.parametrize("compression", Compression)
def test_sums_are_those_of_file_and_content(compression: Compression, database: Database, project: Project) -> None:
    """Sizes and sha256, of the file as it lies there and of its text."""
    database.execute(PEOPLE)

    path = dumped(settings_of(project, database), DumpRequest(compression)).path

    manifest = manifest_of(path)
    file, content = path.read_bytes(), content_of(path)
    assert manifest["file"] == {
        "name": path.name,
        "bytes": len(file),
        "sha256": hashlib.sha256(file).hexdigest(),
        "compression": compression.value,
    }
    assert manifest["content"] == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert without_restrict(content) == database.dump_text(*PG_DUMP_OPTIONS)


@pytest.mark.parametrize(("flag", "suffix", "program"), [("--gzip", ".sql.gz", "gzip"), ("--zstd", ".sql.zst", "zstd")])
def test_compressed_dump_is_read_by_the_usual_program(
    flag: str, suffix: str, program: str, database: Database, project: Project
) -> None:
    """The programs `gzip` and `zstd` read what we write."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    database.execute(PEOPLE)

    result = project.use(database).inv("db.dump", flag)

    (path,) = project.dumps.glob(f"*{suffix}")
    assert result.returncode == 0, result.stderr
    text = subprocess.run([program, "-dc", path], capture_output=True, check=True).stdout
    assert without_restrict(text) == database.dump_text(*PG_DUMP_OPTIONS)


def test_configured_compression_holds_when_no_flag_says(database: Database, project: Project) -> None:
    """`db.compress` is the default, and a file's own name goes before it."""
    settings = settings_of(project, database, compress=Compression.ZSTD)

    paths = [dumped(settings, request).path for request in (DumpRequest(), DumpRequest(file="plain.sql"))]

    assert [Compression.of_name(path.name) for path in paths] == [Compression.ZSTD, Compression.NONE]
    assert paths[1].read_bytes().startswith(b"--\n")


@pytest.mark.root
def test_dump_is_for_its_owner_alone_when_the_umask_lets_everybody_in(database: Database, project: Project) -> None:
    """Under umask 000: files 0600, the folder 0700 and hidden from git."""
    project.dumps.rmdir()

    result = project.use(database).inv("db.dump", umask=0)

    modes = {path.name.partition(".")[2]: stat.S_IMODE(path.stat().st_mode) for path in project.dumps.iterdir()}
    assert result.returncode == 0, result.stderr
    assert modes["sql"] == modes["manifest.json"] == 0o600
    assert stat.S_IMODE(project.dumps.stat().st_mode) == 0o700
    assert (project.dumps / ".gitignore").read_text() == "*\n"


def test_dump_is_readable_by_its_owner_when_the_umask_forbids_it(database: Database, project: Project) -> None:
    """Under umask 0777 the file is 0600, too."""
    result = project.use(database).inv("db.dump", umask=0o777)

    (path,) = project.dumps.glob("*.sql")
    assert result.returncode == 0, result.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_folder_stays_as_it_is_when_it_is_there(database: Database, project: Project) -> None:
    """Neither its mode nor its own .gitignore is changed."""
    project.dumps.chmod(0o750)
    project.write("dumps/.gitignore", "mine\n")

    dumped(settings_of(project, database))

    assert stat.S_IMODE(project.dumps.stat().st_mode) == 0o750
    assert (project.dumps / ".gitignore").read_text() == "mine\n"


def test_result_tells_path_size_rows_tables_and_seconds(database: Database, project: Project) -> None:
    """The one line on standard output; nothing else is there."""
    database.execute(PEOPLE)

    result = project.use(database).inv("db.dump")

    (path,) = project.dumps.glob("*.sql")
    assert re.fullmatch(rf"{path}: [\d.]+ kB, 500 rows in 1 table, \d+\.\d s\n", result.stdout)
    assert result.stderr == ""


def test_every_line_of_pg_dump_is_shown_when_verbose(database: Database, project: Project) -> None:
    """`db.output` verbose hands on pg_dump's own lines; the dump then has its comments, and is whole."""
    database.execute(PEOPLE)
    said = Said()

    path = dumped(settings_of(project, database, output=Output.VERBOSE), report=said).path

    assert any('dumping contents of table "public.people"' in line for line in said.details)
    assert b"-- Completed on " in path.read_bytes()


def test_progress_tells_rows_beside_the_estimate(database: Database, project: Project) -> None:
    """The last word is all rows, beside what the planner believed."""
    database.execute(PEOPLE)
    database.execute("ANALYZE people")
    said = Said()

    dumped(settings_of(project, database), report=said)

    what, done, total, unit = said.progresses[-1]
    assert what.startswith("dumping definitions, ")
    assert (done, total, unit) == (500, 500, "rows")


def test_manifest_tells_the_commit_and_whether_the_tree_was_dirty(database: Database, project: Project) -> None:
    """A changed tracked file makes it dirty, an unknown one does not; a detached HEAD has no branch."""

    def git(*words: str) -> str:
        person = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        argv = ["git", "-C", str(project.root), *person, *words]
        return subprocess.run(argv, capture_output=True, check=True, text=True).stdout

    git("init", "--quiet", "--initial-branch=trunk")
    git("add", "tasks.py")
    git("commit", "--quiet", "--message=first")

    clean = manifest_of(dumped(settings_of(project, database)).path)["git"]
    project.write("tasks.py", "changed")
    git("checkout", "--quiet", "--detach")
    dirty = manifest_of(dumped(settings_of(project, database)).path)["git"]

    commit = git("rev-parse", "HEAD").strip()
    assert clean == {"commit": commit, "dirty": False, "branch": "trunk"}
    assert dirty == {"commit": commit, "dirty": True, "branch": None}


def test_git_state_is_unknown_outside_git(tmp_path: Path) -> None:
    """A project that is in no repository has no commit."""
    assert git_state(tmp_path) is None


def test_dry_run_writes_nothing(database: Database, project: Project) -> None:
    """`inv --dry db.dump` says what it would do, and not even makes the folder."""
    project.dumps.rmdir()

    result = project.use(database).inv("--dry", "db.dump")

    assert result.returncode == 0, result.stderr
    assert "would dump" in result.stderr
    assert not project.dumps.exists()


# --exclude-data


def test_excluded_rows_stay_out_and_their_table_is_defined(database: Database, project: Project) -> None:
    """The definition is in the dump, no row is, and the manifest says so."""
    database.execute(f"{PEOPLE} CREATE TABLE logs AS SELECT 'row to lose' AS t; CREATE TABLE kept (id int)")

    result = project.use(database).inv("db.dump", "--exclude-data=logs", "--exclude-data=public.ke*")

    (path,) = project.dumps.glob("*.sql")
    text = path.read_text(encoding="utf-8")
    assert result.returncode == 0, result.stderr
    assert "public.kept, public.logs" in result.stdout
    assert "CREATE TABLE public.logs" in text
    assert "row to lose" not in text
    assert rows_of(path) == {"public.people": 500}
    assert manifest_of(path)["excluded_data"] == ["public.kept", "public.logs"]


def test_pattern_that_matches_nothing_is_refused(database: Database, project: Project) -> None:
    """Rows that somebody wanted out are never in a dump because of a slip."""
    database.execute(PEOPLE)

    result = project.use(database).inv("db.dump", "--exclude-data=people", "--exclude-data=peple")

    assert result.returncode == 2
    assert "--exclude-data=peple" in result.stderr
    nothing_is_left(project, database)


def test_pattern_of_a_partitioned_table_is_warned_of(database: Database, project: Project) -> None:
    """pg_dump leaves out no rows of its partitions then; they are named one by one."""
    database.execute(
        "CREATE TABLE events (id int) PARTITION BY LIST (id); CREATE TABLE events_1 PARTITION OF events DEFAULT;"
        "INSERT INTO events VALUES (1), (2)"
    )
    said = Said()

    partly = dumped(settings_of(project, database), DumpRequest(exclude_data=("events",)), said)
    wholly = dumped(settings_of(project, database), DumpRequest(exclude_data=("events*",)))

    assert rows_of(partly.path) == {"public.events_1": 2}
    assert any("left out no rows" in warning for warning in said.warnings)
    assert wholly.manifest.excluded_data == (("public", "events_1"),)


def test_pattern_waits_no_longer_than_asked_for_a_lock(database: Database, project: Project) -> None:
    """While another session alters the table, the pattern's check ends in time, too."""
    database.execute(PEOPLE)
    settings = settings_of(project, database, lock_timeout=500)

    with (
        blocking(database, "ALTER TABLE people ADD COLUMN c int"),
        pytest.raises(ServerError),
    ):
        dumped(settings, DumpRequest(exclude_data=("people",)))

    nothing_is_left(project, database)


# --file and its refusals


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("named.sql", "dumps/named.sql"),
        ("named.sql.gz", "dumps/named.sql.gz"),
        ("./named.sql.zst", "named.sql.zst"),
        ("sub/named.sql", "sub/named.sql"),
        ("dumps/with blank, ünïcödé.sql", "dumps/with blank, ünïcödé.sql"),
    ],
)
def test_file_goes_where_it_was_named(value: str, expected: str, database: Database, project: Project) -> None:
    """A bare name lies in the folder of the dumps; with a folder in it, it is a path as typed."""
    (project.root / "sub").mkdir()

    path = dumped(settings_of(project, database), DumpRequest(file=value)).path

    assert path.samefile(project.root / expected)
    assert manifest_of(path)["file"]["compression"] == (Compression.of_name(value) or Compression.NONE).value


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--gzip", "--zstd"], "--gzip and --zstd"),
        (["--file=a.sql", "--gzip"], "--file=a.sql and --gzip"),
        (["--file=a.sql.gz", "--zstd"], "--file=a.sql.gz and --zstd"),
        (["--file=a"], "end in .sql, .sql.gz or .sql.zst"),
        (["--file=a.sql.bz2"], "end in .sql, .sql.gz or .sql.zst"),
        (["--file=dumps/"], "end in .sql, .sql.gz or .sql.zst"),
        (["--file=nowhere/a.sql"], "does not exist"),
        (["--file=there.sql"], "exists already"),
        (["--file=there.sql.gz"], "there.sql exists already"),
        ([f"--file={'x' * 300}.sql"], "is too long"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_strange_file_is_refused(arguments: list[str], reason: str, database: Database, project: Project) -> None:
    """Before anything is contacted or written."""
    project.write("dumps/there.sql", "not a dump")

    result = project.use(database).inv("db.dump", *arguments)

    assert result.returncode == 2
    assert reason in result.stderr
    assert left_in(project.dumps) == ["there.sql"]
    assert project.dumps.joinpath("there.sql").read_text() == "not a dump"


# Collisions


def test_dumps_of_one_millisecond_take_the_next_one(database: Database, project: Project) -> None:
    """Two dumps at one time lie side by side, each with its manifest."""
    settings = settings_of(project, database)

    made = [
        make_dump(settings, DumpRequest(each), Silence(), now=lambda: NOON)
        for each in (Compression.NONE, Compression.GZIP)
    ]

    assert [each.path.name for each in made if each] == [
        "db_dump_2025-12-21T12-00-00-123Z.sql",
        "db_dump_2025-12-21T12-00-00-124Z.sql.gz",
    ]
    assert [manifest_of(each.path)["file"]["name"] for each in made if each] == [
        each.path.name for each in made if each
    ]


def test_dumps_at_once_never_collide(database: Database, project: Project) -> None:
    """Eight at the same instant are eight whole dumps."""
    database.execute(PEOPLE)
    settings = settings_of(project, database)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: make_dump(settings, DumpRequest(), Silence(), now=lambda: NOON), range(8)))

    paths = {each.path for each in made if each}
    assert len(paths) == 8
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths} == {
        manifest_of(path)["file"]["sha256"] for path in paths
    }
    assert len(left_in(project.dumps)) == 16


@pytest.mark.root
def test_processes_at_once_never_collide(database: Database, project: Project) -> None:
    """Four commands side by side make four dumps, and no part file stays."""
    started = [project.use(database).popen("db.dump", "--gzip") for _ in range(4)]

    codes = [process.wait(timeout=60) for process in started]

    assert codes == [0, 0, 0, 0]
    assert len(list(project.dumps.glob("*.sql.gz"))) == len(list(project.dumps.glob("*.manifest.json"))) == 4
    assert not list(project.dumps.glob("*.part"))


def test_one_name_at_once_is_made_once(database: Database, project: Project) -> None:
    """While a dump is written to a name, a second one to that name is refused."""
    settings = settings_of(project, database)

    with (
        open_part_file(project.dumps / "named.part"),
        pytest.raises(OperationFailedError),
    ):
        dumped(settings, DumpRequest(file="named.sql.gz"))

    assert left_in(project.dumps) == []


def test_part_file_of_a_killed_dump_goes_with_the_next_one(database: Database, project: Project) -> None:
    """What nobody writes any more is removed; it never stands in the way."""
    project.write("dumps/db_dump_2025-12-21T12-00-00-123Z.part", "cut")

    made = make_dump(settings_of(project, database), DumpRequest(), Silence(), now=lambda: NOON)

    assert made is not None
    assert made.path.name == "db_dump_2025-12-21T12-00-00-123Z.sql"
    assert len(left_in(project.dumps)) == 2


def test_foreign_part_files_are_left_alone(database: Database, project: Project) -> None:
    """In a folder that is not ours, a part file belongs to somebody else, as a browser's download."""
    download = project.write("downloads/film.part", "half")

    dumped(settings_of(project, database), DumpRequest(file="downloads/a.sql"))

    assert download.read_text() == "half"


# Consistency


@contextlib.contextmanager
def writers(database: Database, statement: str, count: int = 3) -> Iterator[None]:
    """Let sessions repeat a statement, each time in a transaction of its own, until the block ends."""
    stop = threading.Event()

    def write() -> None:
        with database.connect() as connection:
            while not stop.is_set():
                connection.execute(statement.encode())

    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(write) for _ in range(count)]
        try:
            yield
        finally:
            stop.set()
    for each in running:
        each.result()


def ids_in(dump: bytes, table: str) -> list[int]:
    """Return the first column of a table's rows in a dump."""
    _, _, rest = dump.partition(f"COPY public.{table} ".encode())
    block, _, _ = rest.partition(b"\n\\.\n")
    return [int(line.partition(b"\t")[0]) for line in block.split(b"\n")[1:]]


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP])
def test_dump_is_one_instant_when_others_write(compression: Compression, database: Database, project: Project) -> None:
    """Rows that come and go together are in the dump together, and no sequence is behind its rows."""
    database.execute(
        "CREATE TABLE one (id serial, t text); CREATE TABLE two (id serial, t text);"
        "INSERT INTO one (t) SELECT 'x' FROM generate_series(1, 20000); INSERT INTO two (t) SELECT t FROM one"
    )
    write = (
        "BEGIN; INSERT INTO one (t) SELECT 'new' FROM generate_series(1, 5);"
        "INSERT INTO two (t) SELECT 'new' FROM generate_series(1, 5);"
        "DELETE FROM one WHERE id IN (SELECT id FROM one WHERE t = 'x' LIMIT 1 FOR UPDATE SKIP LOCKED);"
        "INSERT INTO one (t) VALUES ('again'); COMMIT"
    )
    settings = settings_of(project, database)

    with writers(database, write):
        made = [dumped(settings, DumpRequest(compression)) for _ in range(4)]

    for each in made:
        rows, values = rows_of(each.path), {value.name: value.value for value in each.manifest.sequences}
        assert rows["public.one"] == rows["public.two"]
        for name in ("one", "two"):
            ids = ids_in(content_of(each.path), name)
            assert rows[f"public.{name}"] == len(ids)
            assert values[f"{name}_id_seq"] >= max(ids)
    assert len({each.manifest.rows for each in made}) > 1


def test_truncate_and_refill_by_others_loses_no_rows(database: Database, project: Project) -> None:
    """A table that is emptied and filled again all the time is dumped full, or refused with a sentence."""
    database.execute("CREATE TABLE refilled AS SELECT generate_series(1, 300) i; CREATE TABLE other (i int)")
    write = (
        "BEGIN; TRUNCATE refilled; INSERT INTO refilled SELECT generate_series(1, 300); COMMIT; SELECT pg_sleep(0.02)"
    )
    settings = settings_of(project, database)
    seen: set[int] = set()

    with writers(database, write, count=1):
        for _ in range(6):
            with contextlib.suppress(ServerError):
                seen.add(rows_of(dumped(settings).path)["public.refilled"])

    assert seen <= {300}


@pytest.mark.all_majors
def test_rows_of_an_extension_are_counted_as_it_registered_them(database: Database, project: Project) -> None:
    """pg_dump writes the rows of the extension's condition, and none of a table that is not registered."""
    database.execute(
        "CREATE EXTENSION hstore; CREATE TABLE conf (id int, own boolean); CREATE TABLE internal (id int);"
        "INSERT INTO conf SELECT i, i <= 3 FROM generate_series(1, 10) i; INSERT INTO internal VALUES (1);"
        "ALTER EXTENSION hstore ADD TABLE conf; ALTER EXTENSION hstore ADD TABLE internal;"
        "UPDATE pg_extension SET extconfig = ARRAY['conf'::regclass::oid], extcondition = ARRAY['WHERE NOT own'] "
        "WHERE extname = 'hstore'"
    )

    path = dumped(settings_of(project, database)).path

    assert rows_of(path) == {"public.conf": 7}


@pytest.mark.majors(18)
def test_rows_of_a_real_extension_are_counted_as_it_registered_them(database: Database, project: Project) -> None:
    """The same with an extension made of files, whose script calls pg_extension_config_dump."""
    folder = database.server.root / f"path-{database.name}" / "extension"
    folder.mkdir(parents=True)
    (folder / "conf.control").write_text("default_version = '1'\nrelocatable = false\nschema = public\n")
    (folder / "conf--1.sql").write_text(
        "CREATE TABLE conf (id int, own boolean); INSERT INTO conf VALUES (1, true), (2, true);\n"
        "SELECT pg_extension_config_dump('conf', 'WHERE NOT own');\n"
        "CREATE TABLE whole (id int); SELECT pg_extension_config_dump('whole', '');\n"
    )
    database.execute(f"SET extension_control_path = '{folder.parent}'; CREATE EXTENSION conf")
    database.execute("INSERT INTO conf VALUES (3, false); INSERT INTO whole VALUES (1), (2)")

    path = dumped(settings_of(project, database)).path

    assert rows_of(path) == {"public.conf": 1, "public.whole": 2}


# An ALTER TABLE at each of three moments


def test_dump_ends_in_time_when_an_alter_was_there_first(database: Database, project: Project) -> None:
    """A migration that holds its lock too long: a sentence that names the session, exit 4."""
    database.execute(PEOPLE)
    began = time.monotonic()

    with blocking(database, "ALTER TABLE people ADD COLUMN c int") as migration:
        pid = migration.info.backend_pid
        result = project.use(database).inv("db.dump", env={"INVOKE_DB_LOCK_TIMEOUT": "1s"})

    assert result.returncode == 4
    assert re.search(rf"\b{pid}\b.*\bpostgres\b", result.stderr)
    assert time.monotonic() - began < 15
    nothing_is_left(project, database)


def test_dump_waits_for_an_alter_that_ends_in_time(database: Database, project: Project) -> None:
    """The dump is then of the time before it, by the snapshot, and loads; no row is lost."""
    database.execute(PEOPLE)

    with blocking(database, "ALTER TABLE people ADD COLUMN c int") as migration, ThreadPoolExecutor(1) as pool:
        running = pool.submit(dumped, settings_of(project, database))
        eventually(lambda: "pg_dump" in waiting(database), "pg_dump's wait")
        migration.commit()
        path = running.result(timeout=30).path

    assert rows_of(path) == {"public.people": 500}


def test_dump_ends_in_time_when_an_alter_waits_for_a_reader(database: Database, project: Project) -> None:
    """A reader, an ALTER behind it and pg_dump behind that: nobody waits for ever."""
    database.execute(PEOPLE)

    with ThreadPoolExecutor(1) as pool, blocking(database, "SELECT FROM people LIMIT 1") as reader:
        pool.submit(migrate, database, "ALTER TABLE people ADD COLUMN c int")
        eventually(lambda: "migration" in waiting(database), "the migration's wait")
        with pytest.raises(ServerError, match=rf"\b{reader.info.backend_pid}\b"):
            dumped(settings_of(project, database, lock_timeout=1000))

    nothing_is_left(project, database)


BETWEEN = {
    "add a column": ("ALTER TABLE people ADD COLUMN c int", 500, False),
    "add a filled column": ("ALTER TABLE people ADD COLUMN c int NOT NULL DEFAULT 7", 500, False),
    "rewrite": ("ALTER TABLE people ALTER COLUMN id TYPE bigint", 500, True),
    "truncate": ("TRUNCATE people", 0, True),
    "truncate and refill": ("BEGIN; TRUNCATE people; INSERT INTO people VALUES (1), (2); COMMIT", 2, True),
    "make anew": ("DROP TABLE people; CREATE TABLE people AS SELECT generate_series(1, 9) id", 9, True),
    "delete": ("DELETE FROM people", 500, False),
    "vacuum full": ("VACUUM FULL people", 500, True),
}


@pytest.mark.parametrize(("statement", "rows", "again"), BETWEEN.values(), ids=BETWEEN)
def test_what_comes_between_snapshot_and_locks_loses_no_rows(
    statement: str, rows: int, again: bool, database: Database, project: Project
) -> None:
    """Committed after our snapshot and before pg_dump's locks: the dump is of one side of it, or begins again."""
    database.execute(PEOPLE)
    folder = wrapped(project, database, first_time(f"sql {shlex.quote(statement)}") + '\nexec "$REAL" "$@"')
    said = Said()

    path = dumped(settings_of(project, database, bin_dir=folder), report=said).path

    assert rows_of(path) == {"public.people": rows}
    assert without_restrict(path.read_bytes()).count(b"COPY public.people") == 1
    assert any("Retrying" in warning for warning in said.warnings) == again
    assert left_in(project.dumps) == sorted([path.name, path.name.replace(".sql", ".manifest.json")])


def test_tables_that_swap_their_names_after_the_snapshot_are_noticed(database: Database, project: Project) -> None:
    """By name alone pg_dump would write the rows of the one under the definition of the other."""
    database.execute(f"{PEOPLE} CREATE TABLE fresh (id int, name text); INSERT INTO fresh VALUES (1, 'only')")
    swap = "ALTER TABLE people RENAME TO x; ALTER TABLE fresh RENAME TO people; ALTER TABLE x RENAME TO fresh"
    folder = wrapped(project, database, first_time(f"sql {shlex.quote(swap)}") + '\nexec "$REAL" "$@"')

    path = dumped(settings_of(project, database, bin_dir=folder)).path

    assert rows_of(path) == {"public.people": 1, "public.fresh": 500}
    assert without_restrict(path.read_bytes()) == database.dump_text(*PG_DUMP_OPTIONS)


def test_table_that_is_rewritten_each_time_is_given_up(database: Database, project: Project) -> None:
    """Three attempts, then a sentence and no dump."""
    database.execute(PEOPLE)
    folder = wrapped(project, database, 'sql \'VACUUM FULL people\'\nexec "$REAL" "$@"')

    with pytest.raises(ServerError, match=r"public\.people"):
        dumped(settings_of(project, database, bin_dir=folder))

    nothing_is_left(project, database)


def test_dump_begins_again_when_a_table_is_dropped_after_the_snapshot(database: Database, project: Project) -> None:
    """pg_dump would fail over a table that the snapshot still shows."""
    database.execute(f"{PEOPLE} CREATE TABLE doomed (id int)")
    folder = wrapped(project, database, first_time("sql 'DROP TABLE doomed'") + '\nexec "$REAL" "$@"')

    path = dumped(settings_of(project, database, bin_dir=folder)).path

    assert rows_of(path) == {"public.people": 500}


def test_dump_fails_when_pg_dump_finds_less_than_the_snapshot_held(database: Database, project: Project) -> None:
    """A column that it can't read any more ends in its own sentence, and in no file."""
    database.execute(PEOPLE)
    folder = wrapped(project, database, 'sql \'ALTER TABLE people DROP COLUMN name\'\nexec "$REAL" "$@"')

    with pytest.raises(OperationFailedError):
        dumped(settings_of(project, database, bin_dir=folder))

    nothing_is_left(project, database)


def test_dump_ends_in_time_when_an_open_alter_comes_between(database: Database, project: Project) -> None:
    """It holds its lock when pg_dump wants one: exit 4 in time."""
    database.execute(PEOPLE)
    folder = wrapped(
        project,
        database,
        # Without the pipes, whose end we would wait for.
        "(exec >/dev/null 2>&1; sql 'BEGIN; ALTER TABLE people ADD COLUMN c int; SELECT pg_sleep(5)') &\n"
        'until sql "SELECT 1 / count(*) FROM pg_stat_activity WHERE datname = current_database() '
        """AND wait_event = 'PgSleep'" 2>/dev/null; do :; done; exec "$REAL" "$@\"""",
    )

    with pytest.raises(ServerError):
        dumped(settings_of(project, database, bin_dir=folder, lock_timeout=500))

    nothing_is_left(project, database)


def test_alter_waits_until_the_dump_is_done(database: Database, project: Project) -> None:
    """After pg_dump's locks and ours: the dump is right, and the ALTER comes after it."""
    database.execute(PEOPLE + NOISE)
    folder = wrapped(project, database, f'"$REAL" "$@" | {{ dd bs=1 count=1 2>/dev/null; {GATE}; cat; }}')

    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(dumped, settings_of(project, database, bin_dir=folder))
        eventually(lambda: holds_lock(database, "invoke-postgres", "people"), "our lock")
        altering = pool.submit(migrate, database, "ALTER TABLE people ADD COLUMN c int DEFAULT random()")
        eventually(lambda: "migration" in waiting(database), "the migration's wait")
        (folder / "go").touch()
        path = running.result(timeout=30).path
        altering.result(timeout=30)

    assert rows_of(path) == {"public.people": 500, "public.noise": 1000}
    assert b"COPY public.people (id, name) FROM stdin" in path.read_bytes()


@pytest.mark.parametrize(("statement", "rows"), [("ALTER TABLE people ADD COLUMN c int", 500), ("TRUNCATE people", 0)])
def test_alter_between_pg_dumps_locks_and_ours_does_not_hang(
    statement: str, rows: int, database: Database, project: Project
) -> None:
    """It waits for pg_dump and we wait for it, but pg_dump goes on: the dump is right."""
    # More than the pipe holds, so that pg_dump stands still with its locks.
    database.execute(PEOPLE + NOISE)
    folder = wrapped(project, database, f'"$REAL" "$@" | {{ {GATE}; cat; }}')

    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(dumped, settings_of(project, database, bin_dir=folder))
        eventually(lambda: holds_lock(database, "pg_dump", "people"), "pg_dump's lock")
        altering = pool.submit(migrate, database, statement)
        eventually(lambda: "migration" in waiting(database), "the migration's wait")
        (folder / "go").touch()
        path = running.result(timeout=30).path
        altering.result(timeout=30)

    assert rows_of(path) == {"public.people": rows, "public.noise": 1000}


def test_dump_ends_in_time_when_a_view_is_locked(database: Database, project: Project) -> None:
    """pg_dump asks for the locks of views without a limit of its own."""
    database.execute(f"{PEOPLE} CREATE VIEW names AS SELECT name FROM people")

    with (
        blocking(database, "CREATE OR REPLACE VIEW names AS SELECT name FROM people") as migration,
        pytest.raises(ServerError, match=rf"\b{migration.info.backend_pid}\b"),
    ):
        dumped(settings_of(project, database, lock_timeout=1000))

    nothing_is_left(project, database)


# What can't be read


def test_dump_is_refused_when_a_table_is_not_readable(database: Database, project: Project) -> None:
    """A role without SELECT on one table gets no dump, and a sentence that names the table."""
    database.execute(f"{PEOPLE} CREATE TABLE secrets (id int); GRANT SELECT ON people TO {OWNER}")

    result = project.use(database, OWNER).inv("db.dump")

    assert result.returncode == 5
    assert "permission denied for table secrets" in result.stderr
    nothing_is_left(project, database)


def test_dump_is_refused_when_row_level_security_would_hide_rows(database: Database, project: Project) -> None:
    """A dump with only the rows that a policy lets through is never made."""
    database.execute(
        f"{PEOPLE} GRANT SELECT ON people, people_id_seq TO {OWNER}; ALTER TABLE people ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY few ON people USING (id < 10)"
    )

    result = project.use(database, OWNER).inv("db.dump")

    assert result.returncode == 2
    assert "public.people" in result.stderr
    nothing_is_left(project, database)


# pg_dump fails

FAILURES: dict[str, tuple[str, str | None]] = {
    "is killed half-way": ('"$REAL" "$@" | head -c 3000; kill -9 $$', r"-9\b"),
    "fails after its last byte": (
        '"$REAL" "$@"; echo "pg_dump: error: lost_at_the_end" >&2; exit 1',
        "lost_at_the_end",
    ),
    "writes half and says nothing": ('"$REAL" "$@" | head -c 3000', None),
    "writes nothing and says nothing": ("exit 0", None),
    "forgets the end": ('"$REAL" "$@" | grep -v "database dump complete"', None),
    "loses a row": ('"$REAL" "$@" | grep -v "p250$"', r"\b500\b.*\b499\b"),
    "invents a row": ('"$REAL" "$@" | sed "/p250$/p"', r"\b500\b.*\b501\b"),
    "loses a table": ('"$REAL" --exclude-table=public.people "$@"', None),
    "writes what a restore refuses, without an end": (
        '"$REAL" "$@" | sed "s/^SET default_tablespace.*/COMMIT;/"; exec yes',
        "COMMIT",
    ),
}


@pytest.mark.parametrize(("script", "shown"), FAILURES.values(), ids=FAILURES)
def test_no_dump_is_left_when_pg_dump(script: str, shown: str | None, database: Database, project: Project) -> None:
    """No file, no program, no session."""
    database.execute(PEOPLE)
    folder = wrapped(project, database, script)

    with pytest.raises(OperationFailedError, match=shown):
        dumped(settings_of(project, database, bin_dir=folder))

    nothing_is_left(project, database)
    assert is_gone(int((folder / "pid").read_text()))


SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.mark.parametrize(("signum", "code"), SIGNALS.items(), ids=[each.name for each in SIGNALS])
def test_nothing_is_left_when_a_signal_comes_half_way(
    signum: signal.Signals, code: int, database: Database, project: Project
) -> None:
    """pg_dump stands still in the middle of its output; all of it goes."""
    database.execute(PEOPLE)
    folder = wrapped(project, database, '"$REAL" "$@" | head -c 3000; touch "$HERE/half"; sleep 60')
    process = project.use(database).popen("db.dump", "--gzip", env={"INVOKE_DB_BIN_DIR": str(folder)})
    eventually((folder / "half").exists, "the half of the dump")

    process.send_signal(signum)
    _, stderr = process.communicate(timeout=30)

    assert process.returncode == code
    assert stderr == f"Interrupted ({signum.name}). No dump was written. The database was only read.\n"
    assert is_gone(int((folder / "pid").read_text()))
    nothing_is_left(project, database)


@pytest.mark.parametrize(("signum", "code"), SIGNALS.items(), ids=[each.name for each in SIGNALS])
def test_nothing_is_left_when_a_signal_comes_while_waiting_for_a_lock(
    signum: signal.Signals, code: int, database: Database, project: Project
) -> None:
    """The real pg_dump, waiting at the server; its session ends with it, though the lock is still held."""
    database.execute(PEOPLE)

    with blocking(database, "LOCK TABLE people"):
        process = project.use(database).popen("db.dump", env={"INVOKE_DB_LOCK_TIMEOUT": "0"})
        eventually(lambda: "pg_dump" in waiting(database), "pg_dump's wait")
        process.send_signal(signum)
        process.communicate(timeout=30)
        nothing_is_left(project, database)

    assert process.returncode == code


def test_dump_goes_on_when_its_hangup_is_ignored(database: Database, project: Project) -> None:
    """Under nohup the end of the terminal is no reason to stop."""
    database.execute(PEOPLE)
    folder = wrapped(project, database, f'"$REAL" "$@" | {{ {GATE}; cat; }}')
    argv = ["nohup", *project._argv(["db.dump"])]
    environment = project.use(database)._environment({"INVOKE_DB_BIN_DIR": str(folder)})
    with subprocess.Popen(
        argv, cwd=project.root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        eventually((folder / "pid").exists, "pg_dump's beginning")
        process.send_signal(signal.SIGHUP)
        (folder / "go").touch()

    assert process.returncode == 0
    assert len(left_in(project.dumps)) == 2


@pytest.mark.parametrize(
    ("application", "error"),
    [("invoke-postgres", ServerError), ("pg_dump", OperationFailedError)],
    ids=["ours", "pg_dump's"],
)
def test_dump_fails_when_a_session_is_ended(
    application: str, error: type[TaskError], database: Database, project: Project
) -> None:
    """By an administrator, or by a server that stops: a sentence, and no file."""
    database.execute(PEOPLE + NOISE)
    folder = wrapped(project, database, f'"$REAL" "$@" | {{ {GATE}; cat; }}')

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(dumped, settings_of(project, database, bin_dir=folder))
        eventually(lambda: holds_lock(database, "pg_dump", "people"), "pg_dump's lock")
        database.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() "
            f"AND application_name = '{application}'"
        )
        (folder / "go").touch()
        with pytest.raises(error):
            running.result(timeout=30)

    nothing_is_left(project, database)


# The disk


@pytest.mark.root
@pytest.mark.parametrize("flag", [(), ("--gzip",), ("--zstd",)], ids=["none", "gzip", "zstd"])
def test_dump_fails_when_the_disk_is_full(flag: tuple[str, ...], database: Database, project: Project) -> None:
    """A sentence, and not a byte is left on the disk."""
    database.execute(NOISE)

    result = inv_on_a_disk(project.use(database), "size=256k", "db.dump", *flag)

    assert result.returncode == 5
    assert result.stderr.endswith(
        f"The disk of {project.dumps} is full. No file was left behind. Free some space and run this again.\n"
    )
    assert result.stdout == ".gitignore\n"
    nothing_is_left(project, database)


@pytest.mark.root
@pytest.mark.parametrize("flag", ["", "--gzip", "--zstd"])
def test_dump_fails_when_a_file_may_not_grow(flag: str, database: Database, project: Project) -> None:
    """A limit on the size of files is the same: exit 5, a sentence, no traceback, nothing left."""
    database.execute(NOISE)
    argv = ["prlimit", "--fsize=200000", *project._argv([word for word in ("db.dump", flag) if word])]

    result = subprocess.run(
        argv, cwd=project.root, env=project.use(database)._environment(None), capture_output=True, check=False
    )

    assert result.returncode == 5
    assert result.stderr.count(b"\n") == 1
    assert b"could not be written: File too large. No file was left behind." in result.stderr
    nothing_is_left(project, database)


@pytest.mark.root
def test_dump_fails_when_the_folder_is_read_only(database: Database, project: Project) -> None:
    """A sentence that names the folder, before anything is read."""
    result = inv_on_a_disk(project.use(database), "ro", "db.dump")

    assert result.returncode == 5
    assert str(project.dumps) in result.stderr
    assert result.stdout == ""


def test_dump_fails_when_the_folder_is_a_file(database: Database, project: Project) -> None:
    """A sentence that names it."""
    project.dumps.rmdir()
    project.dumps.write_text("a file")

    with pytest.raises(OperationFailedError, match=re.escape(str(project.dumps))):
        dumped(settings_of(project, database))


# The programs


def test_dump_is_refused_without_pg_dump(database: Database, project: Project) -> None:
    """Exit 3, and what to install, for the server's own major."""
    folder = project.root / "empty"
    folder.mkdir()

    result = project.use(database).inv("db.dump", env={"INVOKE_DB_BIN_DIR": str(folder)})

    assert result.returncode == 3
    assert str(folder) in result.stderr
    for words in ("apt install postgresql-client-17", "brew install postgresql@17", "pip install"):
        assert words in result.stderr
    nothing_is_left(project, database)


def test_dump_is_refused_when_pg_dump_is_too_old(database: Database, project: Project) -> None:
    """Exit 3, with the version that was found and the one that is needed."""
    old = provision(14)

    result = project.use(database).inv("db.dump", env={"INVOKE_DB_BIN_DIR": str(old)})

    assert result.returncode == 3
    assert re.search(r"pg_dump .* 14\.\d+ .* 17", result.stderr)
    nothing_is_left(project, database)


@pytest.mark.majors(14)
def test_dump_by_a_newer_pg_dump_is_whole(database: Database, project: Project) -> None:
    """Where only a newer pg_dump is found, it serves."""
    database.execute(PEOPLE)

    path = dumped(settings_of(project, database, bin_dir=provision(18))).path

    assert rows_of(path) == {"public.people": 500}
    assert manifest_of(path)["pg_dump"]["version"].startswith("18.")


# The password


def test_password_is_in_no_argv_and_in_one_variable(database: Database, project: Project) -> None:
    """pg_dump gets it by PGPASSWORD alone; the URL in our own environment is the person's."""
    database.execute(PEOPLE)
    record = 'printf "%s\\n" "$@" >> "$HERE/argv"; env >> "$HERE/env"; exec "$REAL" "$@"'
    folder = wrapped(project, database, record)
    project.use(database).env.pop("INVOKE_DB_BIN_DIR")

    result = project.inv("db.dump", "--exclude-data=people", env={"INVOKE_DB_BIN_DIR": str(folder)})

    argv, env = (folder / "argv").read_text(), (folder / "env").read_text()
    assert result.returncode == 0, result.stderr
    assert "--snapshot=" in argv
    assert not any(form in argv for form in FORMS)
    names = {line.partition("=")[0] for line in env.splitlines() if any(form in line for form in FORMS)}
    assert names == {"PGPASSWORD", "DATABASE_URL"}


UNREACHABLE = {
    "as it should be": {},
    "wrong password": {"password": "an0ther!pässword"},
    "no such role": {"role": "nobody"},
    "no such database": {"name": "nowhere"},
    "no such server": {"port": free_port()},
    "no such host": {"host": "nowhere.invalid"},
}


@pytest.mark.parametrize("output", ["normal", "verbose"])
@pytest.mark.parametrize("change", UNREACHABLE.values(), ids=UNREACHABLE)
def test_password_is_in_nothing_that_is_said_or_written(
    change: dict[str, Any], output: str, database: Database, project: Project
) -> None:
    """Neither on the screen nor in a file, whether it works or not."""
    server = database.server
    secret = change.get("password", PASSWORD)
    url = server.url(change.get("name", database.name), change.get("role", SUPERUSER), secret)
    url = url.replace(f":{server.port}/", f":{change.get('port', server.port)}/")
    url = url.replace("127.0.0.1", change.get("host", "127.0.0.1"))

    result = project.use(database).inv("db.dump", env={"DATABASE_URL": url, "INVOKE_DB_OUTPUT": output})

    said = result.stdout + result.stderr + "".join(path.read_text() for path in project.dumps.iterdir())
    assert result.returncode == (4 if change else 0)
    assert "Traceback" not in said
    assert not any(form in said for form in (*FORMS, secret, quote(secret, safe="")))


@pytest.mark.parametrize("output", ["normal", "verbose"])
def test_password_is_scrubbed_from_what_pg_dump_says(output: str, database: Database, project: Project) -> None:
    """Whatever it repeats on its standard error."""
    script = 'echo "pg_dump: error: $PGPASSWORD and $DATABASE_URL" >&2; exit 1'
    folder = wrapped(project, database, script)

    result = project.use(database).inv("db.dump", env={"INVOKE_DB_BIN_DIR": str(folder), "INVOKE_DB_OUTPUT": output})

    assert result.returncode == 5
    assert "pg_dump failed: **** and postgresql://" in result.stderr
    assert not any(form in result.stdout + result.stderr for form in FORMS)


# Odd databases


def test_text_that_is_no_unicode_is_dumped_as_it_is(new_database: Databases, project: Project) -> None:
    """The rows of a database without an encoding keep their bytes."""
    database = new_database(encoding="SQL_ASCII")
    with database.connect(client_encoding="latin1") as connection:
        connection.execute("CREATE TABLE t AS SELECT '\u00e9\u00ff'::text AS v")

    path = dumped(settings_of(project, database)).path

    assert path.read_bytes().count(b"\xe9\xff\n") == 1
    assert rows_of(path) == {"public.t": 1}


def test_name_that_is_no_unicode_ends_in_a_sentence(new_database: Databases, project: Project) -> None:
    """A table whose name can't be read as UTF-8 is refused, and not dumped without a count."""
    database = new_database(encoding="SQL_ASCII")
    with database.connect(client_encoding="latin1") as connection:
        connection.execute('CREATE TABLE "t\u00e9" (id int)')

    with pytest.raises(BadInputError) as refused:
        dumped(settings_of(project, database))

    assert sqlstate_of(refused.value) == "22021"
    nothing_is_left(project, database)
    assert "SQL_ASCII" in str(refused.value)


def test_latin1_database_is_dumped_as_utf8(new_database: Databases, project: Project) -> None:
    """Names and rows in UTF-8, whatever the server keeps."""
    database = new_database(encoding="LATIN1")
    with database.connect(client_encoding="utf8") as connection:
        connection.execute("CREATE TABLE \"té\" AS SELECT 'éÿ'::text AS v")

    path = dumped(settings_of(project, database)).path

    assert "éÿ\n".encode() in path.read_bytes()
    assert rows_of(path) == {"public.té": 1}


def test_schema_of_the_url_does_not_narrow_a_dump(database: Database, project: Project) -> None:
    """All schemas are in it."""
    database.execute("CREATE SCHEMA other; CREATE TABLE other.t (id int); CREATE TABLE public.t (id int)")
    settings = settings_of(project, database, environ={"DATABASE_URL": f"{database.url}?schema=other"})

    path = dumped(settings).path

    assert rows_of(path) == {"other.t": 0, "public.t": 0}


def test_timeouts_of_the_role_do_not_end_a_dump(new_database: Databases, project: Project) -> None:
    """A role or a database may be set to end long work; a dump is long work."""
    database = new_database()
    database.execute(PEOPLE + NOISE)
    name = sql.Identifier(database.name).as_string()
    database.execute(
        f"ALTER DATABASE {name} SET statement_timeout = '300ms'; ALTER DATABASE {name} SET lock_timeout = '1ms';"
        f"ALTER DATABASE {name} SET idle_in_transaction_session_timeout = '300ms';"
        f"ALTER DATABASE {name} SET transaction_timeout = '300ms'; ALTER DATABASE {name} SET row_security = on"
    )
    folder = wrapped(project, database, '"$REAL" "$@" | { head -c 100; sleep 1; cat; }')

    made = dumped(settings_of(project, database, bin_dir=folder))

    assert made.manifest.rows == 1500
