"""A load with several sessions leaves the same database as a load with one, or the same error."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tasks.dump.request import DumpRequest
from tasks.dumpformat.compression import Compression
from tasks.errors import TaskError
from tests import everything as everything_sql
from tests.flows import dump_of, dumped, newest, pg_dump, restore_path, restore_privately, settings_of, write
from tests.kinds_of_dumps import KINDS, NEWER, SOURCE, Kind
from tests.servers import OWNER
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support import Database, Databases, Project, Started


def load_both(project: Project, new_database: Databases, content: bytes, **asked: Any) -> tuple[bytes, bytes]:
    """Return the text of a foreign dump after a load with one session, and after one with several."""
    path = write(project, "foreign.sql", content)
    one, several = new_database(), new_database()
    restore_path(project, one, path)
    restore_privately(project, several, path, **asked)
    return one.dump_text(), several.dump_text()


def errors_of_both(project: Project, new_database: Databases, content: bytes) -> list[tuple[type[TaskError], str]]:
    """Return the class and the message of the errors with one session and with several, without the database's name."""
    path, errors = write(project, "foreign.sql", content), []
    for load in (restore_path, restore_privately):
        database = new_database()
        with pytest.raises(TaskError) as caught:
            load(project, database, path)
        errors.append((type(caught.value), str(caught.value).replace(database.name, "NAME")))
    return errors


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("jobs", [2, 4])
def test_everything(project: Project, everything: Database, new_database: Databases, jobs: int) -> None:
    """A dump of ours with all that PostgreSQL has is loaded and proven."""
    dumped(settings_of(project, everything))
    target = new_database()

    restored = restore_privately(project, target, newest(project), jobs=jobs, lenient=False)

    assert restored.complete
    assert restored.proven
    assert target.dump_text() == everything.dump_text()


@pytest.mark.majors(14, 18)
def test_everything_of_an_owner(project: Project, owner_everything: Database, new_database: Databases) -> None:
    """The same as a role that is no superuser."""
    dumped(settings_of(project, owner_everything, OWNER))
    target = new_database(owner=OWNER)
    target.execute(everything_sql.text(target.server.major, superuser=False, setup=True))

    restored = restore_privately(project, target, newest(project), OWNER, lenient=False)

    assert restored.proven


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize(
    "options",
    [(), ("--inserts",), ("--clean", "--if-exists"), ("--no-owner",), ("--load-via-partition-root",), ("--no-acl",)],
    ids=lambda options: " ".join(options) or "plain",
)
def test_dumps_of_pg_dump(
    project: Project, everything: Database, new_database: Databases, options: tuple[str, ...]
) -> None:
    """A dump of pg_dump, whatever its options."""
    one, several = load_both(project, new_database, pg_dump(everything, *options))

    assert several == one


@pytest.mark.majors(14, 18)
def test_a_dump_in_sections(project: Project, new_database: Databases) -> None:
    """The sections of a dump, one after the other in one file."""
    source = new_database()
    source.execute(PARTITIONS)
    parts = [pg_dump(source, f"--section={name}") for name in ("pre-data", "data", "post-data")]
    trailer = b"-- PostgreSQL database dump complete"
    content = b"".join([*(part.replace(trailer, b"-- next") for part in parts[:2]), parts[2]])

    one, several = load_both(project, new_database, content)

    assert several == one


@pytest.mark.parametrize("kind", [each for each in KINDS if not each.over], ids=lambda kind: kind.title)
def test_kinds_of_dumps(project: Project, new_database: Databases, kind: Kind) -> None:
    """The dumps of other tools and of people are loaded, or refused, in the same way."""
    source, results = new_database(), []
    source.execute(SOURCE)
    path = write(project, "foreign.sql", kind.text(source))
    for load in (restore_path, restore_privately):
        target = new_database()
        try:
            restored = load(project, target, path)
            results.append((target.dump_text(), restored.rows, sorted(map(str, restored.left_out))))
        except TaskError as error:
            results.append((str(error).replace(target.name, "NAME").encode(), error.exit_code, []))

    assert results[1] == results[0]


@pytest.mark.parametrize("compression", list(Compression))
def test_compressions(project: Project, new_database: Databases, compression: Compression) -> None:
    """A dump of ours in each compression."""
    source, target = new_database(), new_database()
    source.execute(KEYS)
    dumped(settings_of(project, source), DumpRequest(compression=compression, checksums=True))

    restored = restore_privately(project, target, newest(project), lenient=False, checksums=True)

    assert restored.complete
    assert target.dump_text() == source.dump_text()


KEYS = """
CREATE TABLE public.node (id int NOT NULL, up int, code text NOT NULL, part int, other int NOT NULL, unused int);
COMMENT ON TABLE public.node IS 'a tree';
CREATE TABLE public.leaf (id int NOT NULL, node int, span int4range NOT NULL, label text);
INSERT INTO public.node SELECT i, 2001 - i, 'c' || i, nullif(i % 3, 0), i, NULL FROM generate_series(1, 2000) i;
INSERT INTO public.leaf SELECT i, 1 + i % 2000, int4range(i, i + 1), 'l' || i FROM generate_series(1, 3000) i;
ALTER TABLE public.node ADD CONSTRAINT "node ""key" PRIMARY KEY (id) INCLUDE (code) WITH (fillfactor = 70);
ALTER TABLE public.node ADD CONSTRAINT deferred UNIQUE (code) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE public.node ADD CONSTRAINT later UNIQUE (other, code) DEFERRABLE;
ALTER TABLE public.node ADD CONSTRAINT identified UNIQUE (other);
COMMENT ON CONSTRAINT later ON public.node IS 'it''s deferrable; ADD CONSTRAINT';
COMMENT ON INDEX public.deferred IS 'of a key';
ALTER TABLE public.node CLUSTER ON "node ""key";
ALTER TABLE public.node REPLICA IDENTITY USING INDEX identified;
ALTER TABLE public.leaf ADD PRIMARY KEY (id);
ALTER TABLE public.leaf ADD CONSTRAINT apart EXCLUDE USING gist (span WITH &&) WHERE (id > 0) DEFERRABLE;
CREATE UNIQUE INDEX partial ON public.leaf (lower(label)) WHERE id > 5;
CREATE INDEX several ON public.leaf USING btree (node DESC NULLS LAST, label text_pattern_ops) INCLUDE (id);
ALTER INDEX public.partial ALTER COLUMN 1 SET STATISTICS 500;
CREATE STATISTICS public.both ON node, label FROM public.leaf;
ALTER TABLE public.node ADD FOREIGN KEY (up) REFERENCES public.node DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE public.node ADD CONSTRAINT circle FOREIGN KEY (other) REFERENCES public.leaf ON DELETE SET NULL (other);
ALTER TABLE public.leaf ADD CONSTRAINT back FOREIGN KEY (node) REFERENCES public.node MATCH FULL ON UPDATE CASCADE;
ALTER TABLE public.leaf ADD CONSTRAINT unproven FOREIGN KEY (node) REFERENCES public.node NOT VALID;
ALTER TABLE public.leaf ADD CONSTRAINT positive CHECK (id > 0) NOT VALID;
COMMENT ON CONSTRAINT back ON public.leaf IS 'a circle';
"""
PARTITIONS = """
CREATE TABLE public.tenant (id int PRIMARY KEY);
CREATE TABLE public.event (id int, tenant int REFERENCES public.tenant, at date, PRIMARY KEY (id, at))
    PARTITION BY RANGE (at);
CREATE TABLE public.event_1 PARTITION OF public.event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE public.event_2 PARTITION OF public.event FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')
    PARTITION BY HASH (id);
CREATE TABLE public.event_2a PARTITION OF public.event_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE public.event_2b PARTITION OF public.event_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE INDEX ON public.event (tenant);
CREATE TABLE public.note (id int PRIMARY KEY, event int, at date, FOREIGN KEY (event, at) REFERENCES public.event);
INSERT INTO public.tenant SELECT generate_series(1, 9);
INSERT INTO public.event SELECT i, 1 + i % 9, date '2024-01-01' + i % 700 FROM generate_series(1, 2000) i;
INSERT INTO public.note SELECT i, i, date '2024-01-01' + i % 700 FROM generate_series(1, 500) i;
CREATE MATERIALIZED VIEW public.days AS SELECT at, count(*) FROM public.event GROUP BY 1;
CREATE UNIQUE INDEX days_at ON public.days (at);
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON public.tenant FOR EACH ROW EXECUTE FUNCTION public.refuse();
CREATE TRIGGER refuse_events BEFORE INSERT ON public.event FOR EACH ROW EXECUTE FUNCTION public.refuse();
CREATE RULE no_delete AS ON DELETE TO public.note DO INSTEAD NOTHING;
ALTER TABLE public.note ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.note USING (id > 0);
"""
COLUMNS = """
CREATE DOMAIN public.small AS int CHECK (VALUE < 100000);
CREATE TABLE public.a_list (word text);
CREATE FUNCTION public.is_listed(text) RETURNS boolean LANGUAGE sql STABLE
    AS $$ SELECT count(*) > 0 FROM public.a_list WHERE word = $1 $$;
CREATE DOMAIN public.listed AS text CHECK (public.is_listed(VALUE));
INSERT INTO public.a_list VALUES ('one'), ('two');
CREATE TABLE public.words (id int GENERATED ALWAYS AS IDENTITY, word text CHECK (public.is_listed(word)),
    twice text GENERATED ALWAYS AS (word || word) STORED, n public.small DEFAULT 7);
CREATE TABLE public.z_listed (w public.listed[]);
CREATE TABLE public.z_plain (id bigserial, n public.small);
INSERT INTO public.words (word) VALUES ('one'), ('two');
INSERT INTO public.z_listed VALUES ('{one,two}');
INSERT INTO public.z_plain (n) SELECT i FROM generate_series(1, 5000) i;
SELECT lo_from_bytea(0, 'large');
"""
NEWEST = """
CREATE EXTENSION btree_gist;
CREATE TABLE public.stay (room int, span daterange, other daterange, PRIMARY KEY (room, span WITHOUT OVERLAPS),
    UNIQUE (room, other WITHOUT OVERLAPS));
CREATE TABLE public.bill (room int, span daterange, FOREIGN KEY (room, PERIOD span)
    REFERENCES public.stay (room, PERIOD span));
CREATE TABLE public.loose (id int PRIMARY KEY, room int,
    up int CONSTRAINT free REFERENCES public.loose NOT ENFORCED,
    v int GENERATED ALWAYS AS (room + 1) VIRTUAL, CHECK (room > 100) NOT ENFORCED);
INSERT INTO public.stay SELECT i, daterange('2024-01-01', '2024-02-01'), daterange('2024-01-01', '2024-03-01')
    FROM generate_series(1, 500) i;
INSERT INTO public.bill SELECT i, daterange('2024-01-05', '2024-01-07') FROM generate_series(1, 500) i;
INSERT INTO public.loose VALUES (1, 2, 99);
"""


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("schema", [KEYS, PARTITIONS], ids=["keys", "partitions"])
def test_schemas(project: Project, new_database: Databases, schema: str) -> None:
    """Keys of all forms, circular and self-referencing foreign keys, partitions with keys both ways, triggers."""
    source = new_database()
    if source.server.major < 15:
        schema = schema.replace("ON DELETE SET NULL (other)", "ON DELETE RESTRICT")
    source.execute(schema)
    load_and_compare(project, source, new_database)


@pytest.mark.majors(15, 18)
def test_nulls_not_distinct(project: Project, new_database: Databases) -> None:
    """A unique constraint that treats NULLs as equal."""
    source = new_database()
    source.execute("CREATE TABLE public.t (a int, b int, UNIQUE NULLS NOT DISTINCT (a, b) INCLUDE (b))")
    one, several = load_both(project, new_database, pg_dump(source))

    assert several == one


@pytest.mark.majors(18)
def test_keys_of_the_newest_major(project: Project, new_database: Databases) -> None:
    """Keys WITHOUT OVERLAPS, constraints that are NOT ENFORCED, virtual columns."""
    source = new_database()
    source.execute(NEWEST)
    load_and_compare(project, source, new_database)


@pytest.mark.majors(14, 18)
def test_rows_that_depend_on_others(project: Project, new_database: Databases) -> None:
    """A CHECK and a domain that read another table find the rows that the dump loads before."""
    source = new_database()
    source.execute(COLUMNS)
    one, several = load_both(project, new_database, pg_dump(source))

    assert several == one


def load_and_compare(project: Project, source: Database, new_database: Databases) -> None:
    """Dump a database, load it with one session and with several, and compare all of them."""
    dumped(settings_of(project, source))
    one, several = new_database(), new_database()
    restore_path(project, one, newest(project))

    restored = restore_privately(project, several, newest(project), lenient=False)

    assert restored.complete
    assert several.dump_text() == one.dump_text() == source.dump_text()
    assert digest(several) == digest(one)


def digest(database: Database) -> list[Any]:
    """Return the facts of indexes and constraints that a dump may not show."""
    return database.execute(
        "SELECT x.indrelid::regclass::text, x.indexrelid::regclass::text, x.indisprimary, x.indisunique,"
        " x.indimmediate, x.indisclustered, x.indisreplident, x.indisvalid, x.indisready, x.indnatts,"
        " x.indoption::text, pg_get_indexdef(c.oid), c.relispartition::text"
        " FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid"
        " WHERE x.indexrelid >= 16384 AND c.relnamespace = 'public'::regnamespace"
        " UNION ALL SELECT conrelid::regclass::text, conname, convalidated, condeferrable, condeferred, conislocal,"
        " connoinherit, conparentid = 0, confrelid = 0, coninhcount, contype::text, conkey::text, confkey::text"
        " FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 't'"
        " ORDER BY 1, 2, 11"
    )


ORPHAN = """
CREATE TABLE public.one (id int PRIMARY KEY);
CREATE TABLE public.two (id int, one int);
INSERT INTO public.two VALUES (1, 7);
ALTER TABLE public.two ADD CONSTRAINT "the key" FOREIGN KEY (one) REFERENCES public.one NOT VALID;
"""


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize(
    ("replaced", "by", "names"),
    [
        (b" NOT VALID", b"", "the key"),
        (b"1\t7\n", b"1\t7\nx\t8\n", "public.two"),
        (b"\\.\n\n\n--\n-- Name: one one_pkey", b"9\t9\textra\n\\.\n\n\n--\n-- Name: one one_pkey", "extra"),
        (b"ADD CONSTRAINT one_pkey PRIMARY KEY (id)", b"ADD CONSTRAINT one_pkey PRIMARY KEY (ids)", "ids"),
        (b"id integer NOT NULL", b"id integer NOT NULL DEFAULT nothing()", "nothing"),
    ],
    ids=["foreign key", "value", "columns", "key", "definition"],
)
def test_errors(project: Project, new_database: Databases, replaced: bytes, by: bytes, names: str) -> None:
    """An error names the same statement with the same message and the same exit code."""
    source = new_database()
    source.execute(ORPHAN)
    content = pg_dump(source)
    assert replaced in content

    one, several = errors_of_both(project, new_database, content.replace(replaced, by))

    assert several == one
    assert names in several[1]


@pytest.mark.majors(14, 18)
def test_duplicate_rows_name_the_key(project: Project, new_database: Databases) -> None:
    """Rows that violate a key: the error names the key's own statement."""
    source = new_database()
    source.execute("CREATE TABLE public.t (id int PRIMARY KEY); INSERT INTO public.t VALUES (1), (2)")
    path = write(project, "foreign.sql", pg_dump(source).replace(b"1\n2\n", b"1\n1\n"))

    with pytest.raises(TaskError, match="t_pkey") as caught:
        restore_privately(project, new_database(), path)

    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    "statement",
    [
        "DO $$ BEGIN PERFORM pg_catalog.set_config('search_path', 'other', true); END $$;",
        "SET LOCAL search_path = other;",
        "INSERT INTO public.t SELECT -1 - id, 'x' FROM public.t;",
        "UPDATE public.t SET v = v || 'y';",
        "CREATE TEMPORARY TABLE kept ON COMMIT DROP AS SELECT id FROM public.t;",
        "CREATE VIEW public.v AS SELECT id FROM public.t;",
    ],
)
def test_statements_between_rows(project: Project, new_database: Databases, statement: str) -> None:
    """A statement between the rows of two tables sees the rows before it, and has its effects after it."""
    rows = "".join(f"{number}\tv{number}\n" for number in range(500))
    content = dump_of(
        NEWER,
        "CREATE SCHEMA other;\nCREATE TABLE other.u (id int);",
        "CREATE TABLE public.t (id int, v text);\nCREATE TABLE public.u (id int);",
        f"COPY public.t (id, v) FROM stdin;\n{rows}\\.\n",
        statement,
        "SET search_path = public;" * statement.startswith("CREATE VIEW"),
        "COPY u (id) FROM stdin;\n1\n\\.\n" if "path" in statement else "COPY public.u (id) FROM stdin;\n1\n\\.\n",
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (id);",
    )

    one, several = load_both(project, new_database, content)

    # An INSERT may fill a page that COPY has left.
    assert sorted(several.splitlines()) == sorted(one.splitlines())


def test_deferred_keys_before_the_rows(project: Project, new_database: Databases) -> None:
    """Rows that violate a deferred key until later rows follow are committed with these only."""
    content = dump_of(
        NEWER,
        "CREATE TABLE public.a (id int PRIMARY KEY, b int);",
        "CREATE TABLE public.b (id int PRIMARY KEY, a int REFERENCES public.a DEFERRABLE INITIALLY DEFERRED);",
        "ALTER TABLE public.a ADD FOREIGN KEY (b) REFERENCES public.b DEFERRABLE INITIALLY DEFERRED;",
        "CREATE TABLE public.c (id int);",
        "INSERT INTO public.a VALUES (1, 1);",
        "COPY public.c (id) FROM stdin;\n1\n\\.\n",
        "COPY public.b (id, a) FROM stdin;\n1\t1\n\\.\n",
        "CREATE INDEX c_id ON public.c USING btree (id);",
    )

    one, several = load_both(project, new_database, content)

    assert several == one


def wide_rows(count: int, size: int) -> str:
    """Return rows with a number and a text of a size."""
    return "".join(f"{number}\t{str(number) * (size // len(str(number)))}\n" for number in range(count))


def large_dump(project: Project, rows: str) -> Path:
    """Write a dump of one large and two small tables."""
    content = dump_of(
        NEWER,
        "CREATE TABLE public.large (id int, v text);\nCREATE TABLE public.small (id int);",
        f"COPY public.large (id, v) FROM stdin;\n{rows}\\.\n",
        "COPY public.small (id) FROM stdin;\n1\n2\n\\.\n",
        "CREATE INDEX large_id ON public.large USING btree (id);",
    )
    return write(project, "large.sql", content)


@pytest.mark.parametrize(("preserve_order", "spread"), [(False, True), (True, False)])
def test_spread_rows(project: Project, database: Database, preserve_order: bool, spread: bool) -> None:
    """The rows of a large table are loaded once each, by several sessions, unless their order is to be kept."""
    path = large_dump(project, wide_rows(45_000, 2_000))

    restored = restore_privately(project, database, path, jobs=3, preserve_order=preserve_order)

    assert (restored.tables, restored.rows, restored.complete) == (2, 45_002, True)
    counts = "SELECT count(*), count(DISTINCT id), min(id), max(id) FROM public.large WHERE length(v) > 1990"
    assert database.execute(counts) == [(45_000, 45_000, 0, 44_999)]
    assert database.scalar("SELECT count(DISTINCT xmin::text) > 1 FROM public.large") is spread
    ordered = "SELECT array_agg(id ORDER BY ctid) = array_agg(id ORDER BY id) FROM public.large"
    assert database.scalar(ordered) is not spread


def test_a_row_larger_than_all_buffers(project: Project, database: Database) -> None:
    """A row of 100 MB stays with one session, although the table's rows are spread."""
    sizes = [(1, 70 << 20), (2, 100 << 20), (3, 1), (4, 30 << 20)]
    path = large_dump(project, "".join(f"{number}\t{'x' * size}\n" for number, size in sizes))

    assert restore_privately(project, database, path, jobs=2).complete

    assert database.execute("SELECT id, length(v) FROM public.large ORDER BY id") == sizes


def test_an_error_in_spread_rows(project: Project, database: Database) -> None:
    """A bad row in a later part ends the load; no session is left."""
    rows = wide_rows(45_000, 2_000)
    path = large_dump(project, rows.replace("\n44000\t", "\nbad\t"))

    with pytest.raises(TaskError, match=r"public\.large.*bad") as caught:
        restore_privately(project, database, path, jobs=3)

    assert caught.value.exit_code == 5
    eventually(lambda: sessions(database) == 0, "the end of all sessions")


def test_escaped_line_ends_are_no_ends_of_rows(project: Project, database: Database) -> None:
    """A newline after a backslash is a part of a value, also where the rows are cut."""
    rows = "".join(f"{number}\t{('a' * 50 + chr(92) + chr(10)) * 1500}z\n" for number in range(1000))
    path = large_dump(project, rows)

    plan_rows = restore_privately(project, database, path, jobs=3).rows

    assert plan_rows > 1000
    assert database.execute("SELECT count(*), count(DISTINCT length(v)) FROM public.large") == [(1000, 1)]


def sessions(database: Database) -> int:
    """Return the number of sessions in a database, without this one."""
    return int(
        database.scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    )


def test_fewer_sessions_than_wanted(project: Project, new_database: Databases) -> None:
    """Where the role may open only one session, that one loads all."""
    source = new_database(owner=OWNER)
    source.execute("CREATE TABLE public.t (id int PRIMARY KEY); INSERT INTO public.t VALUES (1)", OWNER)
    dumped(settings_of(project, source, OWNER))
    target = new_database(owner=OWNER)
    target.execute(f'ALTER DATABASE "{target.name}" CONNECTION LIMIT 1')

    assert restore_privately(project, target, newest(project), OWNER, jobs=4).complete


def test_a_lenient_load_begins_again(project: Project, new_database: Databases) -> None:
    """If a statement is refused, the database is emptied and loaded again with one session, in the lenient way."""
    source = new_database()
    source.execute(ORPHAN)
    path = write(project, "foreign.sql", pg_dump(source).replace(b" NOT VALID", b""))
    one, several = new_database(), new_database()

    expected = restore_path(project, one, path, lenient=True)
    restored = restore_privately(project, several, path, lenient=True)

    assert list(map(str, restored.leniencies)) == list(map(str, expected.leniencies)) != []
    assert several.dump_text() == one.dump_text()


def test_thousands_of_tables(project: Project, database: Database) -> None:
    """3,000 tables are loaded with the server's default limit of locks."""
    tables = "\n".join(f"CREATE TABLE public.t{number} (id int NOT NULL, v text);" for number in range(3000))
    rows = "\n".join(f"COPY public.t{number} (id, v) FROM stdin;\n1\tx\n\\.\n" for number in range(3000))
    keys = "\n".join(
        f"ALTER TABLE ONLY public.t{number}\n    ADD CONSTRAINT t{number}_pkey PRIMARY KEY (id);"
        for number in range(3000)
    )
    path = write(project, "many.sql", dump_of(NEWER, tables, rows, keys))

    restored = restore_privately(project, database, path, jobs=2)

    assert (restored.tables, restored.rows, restored.proven) == (3000, 3000, True)
    assert database.scalar("SELECT count(*) FROM pg_constraint WHERE contype = 'p'") >= 3000


SLOW = """
CREATE FUNCTION public.slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql
    AS $$ BEGIN PERFORM pg_catalog.pg_sleep(60); RETURN $1; END $$;
CREATE TABLE public.s (id int);\nCREATE TABLE public.t (id int);
"""


@pytest.fixture
def rehearsal(project: Project, database: Database) -> Iterator[Started]:
    """A rehearsal, of which two sessions are creating indexes for a minute."""
    indexes = [f"CREATE INDEX slow_{name} ON public.{name} USING btree (public.slow(id));" for name in "st"]
    rows = [f"COPY public.{name} (id) FROM stdin;\n1\n\\.\n" for name in "st"]
    write(project, "slow.sql", dump_of(NEWER, SLOW, *rows, *indexes))
    process = project.use(database).popen("db.rehearse", "--file=slow.sql", "--trust", "--jobs=2")
    try:
        eventually(lambda: len(sleeping(database)) == 2, "both indexes are being created")
        yield process
    finally:
        process.kill()
        process.communicate()


def sleeping(database: Database) -> list[int]:
    """Return the sessions that create an index."""
    query = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE 'CREATE INDEX%'"
    return [int(pid) for (pid,) in database.execute(query)]


def scratch_databases(database: Database) -> int:
    """Return the number of scratch databases."""
    return int(database.scalar("SELECT count(*) FROM pg_database WHERE datname LIKE 'invoke_postgres_rehearsal_%'"))


def test_a_signal_ends_all_sessions(database: Database, rehearsal: Started) -> None:
    """Ctrl-C cancels what the sessions do, and the scratch database is dropped."""
    rehearsal.send_signal(signal.SIGINT)
    _, output = rehearsal.communicate(timeout=30)

    assert rehearsal.returncode == 130
    assert "Traceback" not in output
    assert sleeping(database) == []
    assert scratch_databases(database) == 0


@pytest.mark.parametrize("function", ["pg_terminate_backend", "pg_cancel_backend"])
def test_a_lost_session_ends_all_sessions(database: Database, rehearsal: Started, function: str) -> None:
    """If the server ends or cancels one session, the error names its statement, and the other session is cancelled."""
    ended = sleeping(database)[0]
    table = database.scalar(f"SELECT substring(query FROM 'slow_[st]') FROM pg_stat_activity WHERE pid = {ended}")

    database.execute(f"SELECT {function}({ended})")
    _, output = rehearsal.communicate(timeout=30)

    assert rehearsal.returncode == (4 if function == "pg_terminate_backend" else 5)
    assert "Traceback" not in output
    assert table[-1:] in {"s", "t"}
    assert sleeping(database) == []
    assert scratch_databases(database) == 0
