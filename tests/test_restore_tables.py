"""db.restore --table: some tables of a dump come back, and everything else stays as it is."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from tests.flows import newest, pg_dump, ran, write
from tests.marks import Mark
from tests.servers import OWNER
from tests.shared_files import Files, files_of, put_files
from tests.support import Databases, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from subprocess import CompletedProcess

    from tests.servers import Server
    from tests.support import Database, Project, Row

SHOP = """
CREATE SCHEMA crm;
CREATE TYPE public.mood AS ENUM ('new', 'paid');
CREATE TABLE public.fired (what text);
CREATE FUNCTION public.fire() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO public.fired VALUES (TG_NAME); RETURN NEW; END $$;
CREATE TABLE public."Customer" (id int PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE public.orders (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "customerId" int NOT NULL REFERENCES public."Customer" ON DELETE CASCADE ON UPDATE CASCADE,
    total int NOT NULL CHECK (total > 0), twice int GENERATED ALWAYS AS (total * 2) STORED,
    reorder_of int REFERENCES public.orders DEFERRABLE INITIALLY DEFERRED,
    state public.mood DEFAULT 'new');
CREATE TABLE public.lines (id serial PRIMARY KEY, order_id int NOT NULL, note text,
    CONSTRAINT "lines -> orders" FOREIGN KEY (order_id) REFERENCES public.orders ON DELETE CASCADE);
COMMENT ON CONSTRAINT "lines -> orders" ON public.lines IS 'it''s a key';
CREATE TABLE public.events (at int NOT NULL, order_id int REFERENCES public.orders ON DELETE SET NULL, x text)
    PARTITION BY RANGE (at);
CREATE TABLE public.events_1 PARTITION OF public.events FOR VALUES FROM (0) TO (10);
CREATE TABLE crm.events_2 PARTITION OF public.events FOR VALUES FROM (10) TO (20);
CREATE INDEX ON public.events (x);
CREATE TABLE crm.orders (id int PRIMARY KEY, of int REFERENCES public.orders);
INSERT INTO public."Customer" VALUES (1, 'Ann'), (2, E'B\\\\ob\\t');
INSERT INTO public.orders ("customerId", total, reorder_of, state)
    SELECT 1 + i % 2, i, CASE WHEN i < 20 THEN i + 1 END, 'paid' FROM generate_series(1, 20) i;
INSERT INTO public.lines (order_id, note) SELECT i, 'line ' || i FROM generate_series(1, 20) i;
INSERT INTO public.events SELECT i, i + 1, 'event ' || i FROM generate_series(0, 19) i;
INSERT INTO crm.orders SELECT i, i FROM generate_series(1, 5) i;
INSERT INTO crm.orders VALUES (99, 1);
ALTER TABLE crm.orders ADD CONSTRAINT unchecked FOREIGN KEY (id) REFERENCES public.orders NOT VALID;
SET CONSTRAINTS ALL IMMEDIATE;
CREATE INDEX "by Total" ON public.orders (total) WHERE total > 3;
COMMENT ON INDEX public."by Total" IS 'of totals';
CREATE STATISTICS public.of_orders ON total, state FROM public.orders;
COMMENT ON COLUMN public.orders.total IS 'in cents';
CREATE TRIGGER before_row BEFORE INSERT OR UPDATE ON public.orders FOR EACH ROW EXECUTE FUNCTION public.fire();
CREATE TRIGGER after_all AFTER TRUNCATE ON public.orders FOR EACH STATEMENT EXECUTE FUNCTION public.fire();
CREATE TRIGGER sleeping BEFORE INSERT ON public.orders FOR EACH ROW EXECUTE FUNCTION public.fire();
CREATE TRIGGER always BEFORE INSERT ON public.orders FOR EACH ROW EXECUTE FUNCTION public.fire();
CREATE TRIGGER of_events BEFORE INSERT ON public.events FOR EACH ROW EXECUTE FUNCTION public.fire();
ALTER TABLE public.orders DISABLE TRIGGER sleeping, ENABLE ALWAYS TRIGGER always;
ALTER TABLE public.events_1 DISABLE TRIGGER of_events;
CREATE RULE no_delete AS ON DELETE TO public.orders WHERE false DO INSTEAD NOTHING;
ALTER TABLE public.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON public.orders USING (total > 5);
GRANT SELECT ON public.orders TO pg_monitor;
GRANT UPDATE (total) ON public.orders TO pg_monitor;
"""
TABLE_ORDERS = ["--yes", "--no-backup", "--table=public.orders"]
DAMAGE = {
    "orders": """ALTER TABLE public.orders DISABLE TRIGGER USER;
        UPDATE public.orders SET total = 99; INSERT INTO public.orders ("customerId", total) VALUES (1, 7);
        SET CONSTRAINTS ALL IMMEDIATE; ALTER TABLE public.orders ENABLE TRIGGER before_row, ENABLE TRIGGER after_all,
            ENABLE ALWAYS TRIGGER always;""",
    "Customer": """UPDATE public."Customer" SET name = 'same' || id;""",
    "lines": "DELETE FROM public.lines; SELECT setval('public.lines_id_seq', 500);",
    "events": "UPDATE public.events SET x = NULL; DELETE FROM public.events WHERE at > 5;",
    "crm.events_2": "DELETE FROM crm.events_2;",
    "crm.orders": "DELETE FROM crm.orders;",
}
# What is written after the dump into tables that are not restored.
LATER = """INSERT INTO public."Customer" VALUES (3, 'later'); INSERT INTO public.lines (order_id) VALUES (2);
    INSERT INTO public.fired VALUES ('later');"""
NAMES = {"orders": "public.orders"}


@pytest.fixture(scope="module")
def template(server: Server) -> Iterator[Database]:
    """Return a database of a plain owner, with foreign keys in all directions; only to be cloned."""
    with Databases(server) as databases:
        database = databases(owner=OWNER)
        database.execute(SHOP, role=OWNER)
        yield database


@pytest.fixture
def shop(new_database: Databases, template: Database) -> Database:
    """Return a clone of that database; it has the same name in each test, as the dump is shared."""
    return new_database(owner=OWNER, template=template, name="shop_of_tables")


@pytest.fixture(scope="module")
def dump_shop(template: Database) -> Callable[[Project, Database], None]:
    """Return what puts its owner's dump of a clone that nobody has changed into a project, which uses the clone.

    It is made once.
    """
    made: Files = {}

    def put(project: Project, shop: Database) -> None:
        assert shop.server == template.server
        project.use(shop, OWNER)
        if not made:
            ran(project, "db.dump")
            made.update(files_of(project))
        put_files(project, made)

    return put


def restored(project: Project, *flags: str) -> CompletedProcess[str]:
    """Restore tables of the one dump in the project."""
    return project.inv("db.restore", f"--file={newest(project).name}", "--yes", *flags)


def rows_of(database: Database, table: str) -> list[Row]:
    """Return the rows of a table, named as in `DAMAGE`."""
    name = table if "." in table else f'public."{table}"'
    return sorted(database.execute(f"SELECT t::text FROM {name} AS t"))


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("more", [["--data-only"], []], ids=["data-only", "whole"])
def test_a_table_is_as_in_the_dump_again(more: list[str], shop: Database, project: Project) -> None:
    """After damage to one table the whole database is what it was, as pg_dump writes it, whichever table it is."""
    project.use(shop, OWNER)
    ran(project, "db.dump", "--zstd")
    before = shop.dump_text()
    for table, damage in DAMAGE.items():
        there = rows_of(shop, table)
        shop.execute(damage, role=OWNER)
        assert rows_of(shop, table) != there

        result = restored(project, f"--table={NAMES.get(table, table)}", "--no-backup", *more)

        if table == "crm.events_2" and not more:
            assert result.returncode == 2, result.stdout
            assert "partition" in result.stderr
            assert restored(project, "--table=events", "--no-backup").returncode == 0
        else:
            assert result.returncode == 0, result.stderr
        assert shop.dump_text() == before, table


@pytest.mark.majors(14, 18)
@pytest.mark.parametrize("more", [["--data-only"], []], ids=["data-only", "whole"])
def test_other_tables_keep_what_was_written_since(
    more: list[str],
    shop: Database,
    project: Project,
    dump_shop: Callable[[Project, Database], None],
) -> None:
    """Rows that were written into other tables after the dump stay; undo brings back what was before the restore."""
    dump_shop(project, shop)
    shop.execute(DAMAGE["orders"] + LATER, role=OWNER)
    shop.execute(f"ALTER DATABASE {shop.name} SET statement_timeout = '5min'", role=OWNER)
    damaged = shop.dump_text()
    others = shop.dump_text("--exclude-table=public.orders")

    result = restored(project, "--table=public.orders", *more)

    assert result.returncode == 0, result.stderr
    assert "expected" not in result.stderr
    assert shop.dump_text("--exclude-table=public.orders") == others
    assert shop.scalar("SELECT pg_catalog.sum(total) FROM public.orders") == 210
    verified = ran(project, "db.verify")
    assert "Only public.orders was restored last, so only it was compared." in verified
    assert "not in the dump" not in verified
    state = json.loads(ran(project, "db.undos", "--json"))["states"][-1]
    assert state["command"].startswith("db.restore --table=public.orders ")
    since = state["created"][:19].replace("T", " ")
    preview = project.inv("--dry", "db.undo").stderr.splitlines()
    assert any("WARNING" in line and f"since {since} UTC" in line for line in preview)
    ran(project, "db.undo", "--yes")
    assert shop.dump_text() == damaged


@pytest.mark.majors(14, 18)
def test_rows_that_would_lose_their_reference_roll_it_back(
    shop: Database,
    project: Project,
    dump_shop: Callable[[Project, Database], None],
) -> None:
    """ON DELETE CASCADE deletes nothing: the referencing table and its rows are named, and all is as before."""
    dump_shop(project, shop)
    shop.execute(
        """INSERT INTO public.orders ("customerId", total) VALUES (1, 5);
        INSERT INTO public.lines (order_id) VALUES (21), (21);""",
        role=OWNER,
    )
    mark = Mark(shop)

    for more in (["--data-only"], []):
        result = restored(project, "--table=public.orders", *more)

        assert result.returncode == 5, result.stdout
        assert "2 rows of public.lines would reference rows of public.orders" in " ".join(result.stderr.split())
        assert mark.is_untouched()


def test_rows_that_reference_rows_that_are_gone_need_both_tables(
    shop: Database,
    project: Project,
    dump_shop: Callable[[Project, Database], None],
) -> None:
    """Such rows are only in the dump, so it is not advised to delete them."""
    dump_shop(project, shop)
    shop.execute('TRUNCATE public."Customer" CASCADE', role=OWNER)
    mark = Mark(shop)

    result = restored(project, "--table=public.orders", "--data-only")

    said = " ".join(result.stderr.split())
    assert result.returncode == 5, result.stdout
    assert '20 rows of public.orders would reference rows of public."Customer"' in said
    assert "--table=public.orders --table='public.\"Customer\"'. The restore" in said
    assert mark.is_untouched()


def test_a_key_that_the_older_definition_does_not_allow_is_named(shop: Database, project: Project) -> None:
    """The dump's table lacks the primary key that another table references now: all is as before."""
    shop.execute("ALTER TABLE public.lines DROP CONSTRAINT lines_pkey", role=OWNER)
    project.use(shop, OWNER)
    ran(project, "db.dump")
    shop.execute("ALTER TABLE public.lines ADD PRIMARY KEY (id)", role=OWNER)
    shop.execute("CREATE TABLE crm.of_lines (id int CONSTRAINT to_lines REFERENCES public.lines)", role=OWNER)
    mark = Mark(shop)

    result = restored(project, "--table=lines")

    assert result.returncode == 5, result.stdout
    assert "to_lines of crm.of_lines" in " ".join(result.stderr.split())
    assert mark.is_untouched()


KINDS = {
    "plain": [],
    "inserts": ["--inserts"],
    "columns": ["--column-inserts", "--rows-per-insert=3"],
    "clean": ["--clean", "--if-exists"],
    "root": ["--load-via-partition-root"],
    "custom": ["--format=custom"],
}


@pytest.mark.majors(14, 18)
def test_every_kind_of_pg_dumps_dumps_is_read(shop: Database, project: Project) -> None:
    """Two tables from one foreign dump, first their rows, then all of them."""
    for kind, options in KINDS.items():
        write(project, f"{kind}.sql", pg_dump(shop, *options))
    before = shop.dump_text()
    project.use(shop, OWNER)
    for kind in KINDS:
        flags = [f"--file={kind}.sql", "--yes", "--no-backup", "--table=events", "--table=public.orders"]
        # Rows of the other kinds are written like those of one of these, or of our own dumps.
        for more in (["--data-only"], []) if kind in {"inserts", "root"} else ([],):
            shop.execute(DAMAGE["orders"] + DAMAGE["events"], role=OWNER)

            result = project.inv("db.restore", *flags, *more)

            assert result.returncode == 0, result.stderr
            assert shop.dump_text() == before, kind


@pytest.mark.majors(14, 18)
def test_a_partition_whose_rows_are_not_apart_is_refused(shop: Database, project: Project) -> None:
    """Loaded through the partitioned table they can't be told apart: the partition keeps its rows."""
    mark = Mark(shop)
    for kind in ([], ["--inserts"]):
        write(project, "root.sql", pg_dump(shop, "--load-via-partition-root", *kind))

        flags = ["--file=root.sql", "--yes", "--table=crm.events_2", "--data-only"]
        result = project.use(shop, OWNER).inv("db.restore", *flags)

        assert result.returncode == 2, result.stdout
        assert "public.events" in result.stderr
    assert mark.is_untouched()


@pytest.mark.majors(14, 18)
def test_a_table_that_was_attached_since_is_not_emptied(shop: Database, project: Project) -> None:
    """A table of its own in the dump is now a partition of the restored one, which would not get its rows."""
    shop.execute("CREATE TABLE crm.apart (LIKE public.events); INSERT INTO crm.apart VALUES (25)", role=OWNER)
    project.use(shop, OWNER)
    ran(project, "db.dump")
    shop.execute("ALTER TABLE public.events ATTACH PARTITION crm.apart FOR VALUES FROM (20) TO (30)", role=OWNER)
    mark = Mark(shop)

    for named in (["--table=events"], ["--table=events", "--table=crm.apart"]):
        for more in (["--data-only"], []):
            result = restored(project, *named, *more)

            assert result.returncode == 2, result.stdout
            assert "crm.apart" in result.stderr
            assert mark.is_untouched()


@pytest.mark.majors(14, 18)
def test_a_partition_that_was_detached_since_is_refused(
    shop: Database,
    project: Project,
    dump_shop: Callable[[Project, Database], None],
) -> None:
    """A partition in the dump is now a table of its own: it is named, and nothing is touched."""
    dump_shop(project, shop)
    shop.execute("ALTER TABLE public.events DETACH PARTITION crm.events_2", role=OWNER)
    mark = Mark(shop)

    for more in (["--data-only"], []):
        result = restored(project, "--table=events", *more)

        assert result.returncode == 2, result.stdout
        assert "crm.events_2" in result.stderr
        assert "ATTACH PARTITION" in result.stderr
    assert mark.is_untouched()


# The triggers of foreign keys that are not simply enabled, without their names, which hold numbers.
NOT_ENABLED = """SELECT g.tgrelid::regclass, k.conname, g.tgfoid::regproc, g.tgenabled FROM pg_trigger g
    JOIN pg_constraint k ON k.oid = g.tgconstraint WHERE g.tgenabled <> 'O' AND k.contype = 'f' ORDER BY 1, 2, 3, 4"""


@pytest.mark.majors(14, 18)
def test_disabled_triggers_of_foreign_keys_are_disabled_again(shop: Database, project: Project) -> None:
    """On both sides of keys to and from the table, of partitions, too; only a superuser can, so another is refused."""
    ran(project.use(shop), "db.dump")
    before = shop.dump_text()
    for table in ("lines", "events", "events_1"):
        shop.execute(f"ALTER TABLE public.{table} DISABLE TRIGGER ALL")
    for more in ([], ["--data-only"]):
        if more:
            shop.execute("ALTER TABLE public.orders DISABLE TRIGGER ALL")
            key = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'crm.orders'::regclass AND tgisinternal LIMIT 1"
            shop.execute(f'ALTER TABLE crm.orders ENABLE ALWAYS TRIGGER "{shop.scalar(key)}"')
        states = shop.execute(NOT_ENABLED)
        shop.execute(DAMAGE["orders"])

        refused = project.use(shop, OWNER).inv("db.restore", f"--file={newest(project).name}", *TABLE_ORDERS, *more)
        result = project.use(shop).inv("db.restore", f"--file={newest(project).name}", *TABLE_ORDERS, *more)

        assert refused.returncode == 2, refused.stdout
        assert "public.lines" in refused.stderr or "public.events" in refused.stderr or "orders" in refused.stderr
        assert result.returncode == 0, result.stderr
        assert len(states) > 3
        assert shop.execute(NOT_ENABLED) == states
    shop.execute(
        "ALTER TABLE public.orders ENABLE TRIGGER before_row, ENABLE TRIGGER after_all, ENABLE ALWAYS TRIGGER always"
    )
    shop.execute(
        "ALTER TABLE public.events ENABLE TRIGGER of_events; ALTER TABLE public.events_1 DISABLE TRIGGER of_events"
    )
    assert shop.dump_text() == before


OWNER_OF = """SELECT c.oid::regclass::text, c.relowner::regrole::text FROM pg_class c JOIN pg_namespace n
    ON n.oid = c.relnamespace WHERE n.nspname IN ('public', 'crm') ORDER BY 1"""


@pytest.mark.majors(14, 18)
def test_a_table_keeps_its_owner_when_a_superuser_restores_a_dump_without_owners(
    shop: Database, project: Project
) -> None:
    """Its partitions and sequences, too; but an owner that the dump names is set."""
    write(project, "plain.sql", pg_dump(shop, "--no-owner"))
    write(project, "owners.sql", pg_dump(shop))
    before, owners = shop.dump_text(), shop.execute(OWNER_OF)
    project.use(shop)
    for flags in (["--file=plain.sql"], ["--file=owners.sql", "--no-owner"]):
        shop.execute(DAMAGE["orders"] + DAMAGE["events"], role=OWNER)

        result = project.inv("db.restore", *flags, "--yes", "--no-backup", "--table=events", "--table=public.orders")

        assert result.returncode == 0, result.stderr
        assert shop.execute(OWNER_OF) == owners
        assert shop.dump_text() == before
    shop.execute("ALTER TABLE public.lines OWNER TO postgres")
    write(project, "superuser.sql", pg_dump(shop))
    shop.execute(f"ALTER TABLE public.lines OWNER TO {OWNER}")
    result = project.inv("db.restore", "--file=superuser.sql", "--yes", "--no-backup", "--table=lines")
    assert result.returncode == 0, result.stderr
    assert ("lines", "postgres") in [tuple(row) for row in shop.execute(OWNER_OF)]


def test_a_member_of_the_owner_gives_the_table_back(shop: Database, project: Project) -> None:
    """Without CREATE on the schema the owner can't have it: all is as before."""
    role = f"group_of_{shop.name}"
    shop.execute(f"CREATE ROLE {role}; GRANT {role} TO {OWNER}; ALTER TABLE public.lines OWNER TO {role}")
    try:
        write(project, "plain.sql", pg_dump(shop, "--no-owner"))
        before = shop.dump_text()
        flags = ["--file=plain.sql", "--yes", "--no-backup", "--table=lines"]

        refused = project.use(shop, OWNER).inv("db.restore", *flags)
        unchanged = shop.dump_text()
        shop.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
        result = project.inv("db.restore", *flags)
        shop.execute(f"REVOKE CREATE ON SCHEMA public FROM {role}")

        assert refused.returncode == 5, refused.stdout
        assert role in refused.stderr
        assert unchanged == before
        assert result.returncode == 0, result.stderr
        assert shop.dump_text() == before
    finally:
        shop.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.majors(14, 18)
def test_a_sequence_of_two_tables_is_only_set_forward(shop: Database, project: Project) -> None:
    """It numbers rows of another table, too, whose next row would get a used number."""
    shop.execute("CREATE TABLE crm.notes (id int PRIMARY KEY DEFAULT nextval('public.lines_id_seq'))", role=OWNER)
    project.use(shop, OWNER)
    ran(project, "db.dump")
    shop.execute("INSERT INTO crm.notes DEFAULT VALUES; DELETE FROM public.lines", role=OWNER)

    assert restored(project, "--table=lines", "--data-only").returncode == 0

    assert shop.scalar("SELECT pg_catalog.count(*) FROM public.lines") == 20
    assert shop.scalar("INSERT INTO crm.notes DEFAULT VALUES RETURNING id") == 22
    shop.execute("TRUNCATE public.lines, crm.notes RESTART IDENTITY", role=OWNER)
    assert restored(project, "--table=lines", "--data-only").returncode == 0
    assert shop.scalar("INSERT INTO crm.notes DEFAULT VALUES RETURNING id") == 21


def test_a_deadlock_with_a_writer_says_that_another_session_holds_a_lock(
    shop: Database,
    project: Project,
    dump_shop: Callable[[Project, Database], None],
) -> None:
    """A session has read the table and writes to it during the safety dump: exit code 4, and its row is kept."""
    dump_shop(project, shop)
    locked = "SELECT pg_catalog.count(*) > 0 FROM pg_catalog.pg_locks WHERE mode = 'ShareLock' AND granted"

    def write_to_it() -> None:
        with shop.connect(OWNER, autocommit=False) as connection:
            connection.execute("SELECT FROM public.lines")
            read.set()
            eventually(lambda: bool(shop.scalar(f"{locked} AND relation = 'public.lines'::regclass")), "the lock")
            connection.execute("UPDATE public.lines SET note = 'mine' WHERE id = 1")

    read, writer = threading.Event(), threading.Thread(target=write_to_it)
    writer.start()
    read.wait(20)
    result = restored(project, "--table=lines", "--data-only")
    writer.join(20)

    assert result.returncode == 4, result.stderr
    assert shop.scalar("SELECT note FROM public.lines WHERE id = 1") == "mine"


@pytest.mark.majors(14, 18)
def test_rows_come_from_a_dump_of_rows_alone(shop: Database, project: Project) -> None:
    """pg_dump --data-only has no definitions: the database says which partitions and sequences belong to a table."""
    write(project, "rows.sql", pg_dump(shop, "--data-only"))
    before = shop.dump_text()
    shop.execute(DAMAGE["lines"] + DAMAGE["events"], role=OWNER)
    flags = ["--file=rows.sql", "--yes", "--no-backup", "--table=events", "--table=lines"]

    refused = project.use(shop, OWNER).inv("db.restore", *flags)
    result = project.inv("db.restore", *flags, "--data-only")

    assert refused.returncode == 2
    assert result.returncode == 0, result.stderr
    assert shop.dump_text() == before


@pytest.mark.majors(14, 18)
def test_a_table_that_was_dropped_is_created(
    shop: Database,
    project: Project,
    dump_shop: Callable[[Project, Database], None],
) -> None:
    """With all that belongs to it; foreign keys of other tables, which DROP … CASCADE took along, are named."""
    dump_shop(project, shop)
    before = shop.dump_text("--table=public.orders")
    shop.execute("DROP TABLE public.orders CASCADE", role=OWNER)

    refused = restored(project, "--table=orders", "--data-only")
    result = restored(project, "--table=public.orders")

    assert refused.returncode == 2
    assert result.returncode == 0, result.stderr
    assert "lines -> orders of public.lines" in " ".join(result.stderr.split())
    assert shop.dump_text("--table=public.orders") == before


DEPENDENTS = {
    "VIEW crm.v": "CREATE VIEW crm.v AS SELECT id FROM public.lines",
    "FUNCTION crm.f": "CREATE FUNCTION crm.f(public.lines) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "TABLE crm.t": "CREATE TABLE crm.t (id int DEFAULT nextval('public.lines_id_seq'))",
    "TABLE crm.u": "CREATE TABLE crm.u () INHERITS (public.lines)",
    "PUBLICATION p": "CREATE PUBLICATION p FOR TABLE public.lines",
}


@pytest.mark.majors(14, 18)
def test_a_definition_that_others_depend_on_is_not_replaced(shop: Database, project: Project) -> None:
    """It is refused before anything, naming what depends; --data-only restores the rows."""
    shop.execute(f"GRANT CREATE ON DATABASE {shop.name} TO {OWNER}")
    project.use(shop, OWNER)
    ran(project, "db.dump")
    shop.execute("DELETE FROM public.lines", role=OWNER)
    for name, dependent in DEPENDENTS.items():
        shop.execute(dependent, role=OWNER)

        refused = restored(project, "--table=lines")

        assert refused.returncode == 2, refused.stdout
        assert "depend" in refused.stderr
        assert name.split()[1] in refused.stderr
        shop.execute(f"DROP {name}", role=OWNER)
    shop.execute(";".join(DEPENDENTS.values()), role=OWNER)
    others = shop.dump_text("--exclude-table=public.lines")

    result = restored(project, "--table=lines", "--data-only")

    assert result.returncode == 0, result.stderr
    assert shop.dump_text("--exclude-table=public.lines") == others
    assert shop.scalar("SELECT pg_catalog.count(*) FROM public.lines") == 20


@pytest.mark.majors(14, 18)
def test_forced_row_level_security_hides_no_row(shop: Database, project: Project) -> None:
    """It is lifted for the rows of the dump and forced again."""
    shop.execute("ALTER TABLE public.orders FORCE ROW LEVEL SECURITY", role=OWNER)
    write(project, "foreign.sql", pg_dump(shop))
    before = shop.dump_text()
    shop.execute(DAMAGE["orders"])
    flags = ["--file=foreign.sql", "--yes", "--no-backup", "--table=public.orders", "--data-only"]

    result = project.use(shop, OWNER).inv("db.restore", *flags)

    assert result.returncode == 0, result.stderr
    assert shop.dump_text() == before


@pytest.mark.majors(14, 18)
def test_a_column_that_is_missing_rolls_it_back(
    shop: Database,
    project: Project,
    dump_shop: Callable[[Project, Database], None],
) -> None:
    """Rows of other columns than the table has don't go in; with the definition they do."""
    dump_shop(project, shop)
    shop.execute("ALTER TABLE public.lines DROP COLUMN note", role=OWNER)
    mark = Mark(shop)

    refused = restored(project, "--table=lines", "--data-only")

    assert refused.returncode == 5
    assert "--data-only" in " ".join(refused.stderr.split())
    assert mark.is_untouched()
    assert restored(project, "--table=lines").returncode == 0


def test_a_dump_without_the_rows_is_refused(shop: Database, project: Project) -> None:
    """Of --exclude-table-data or --schema-only nothing is restored: the table would be empty."""
    write(project, "part.sql", pg_dump(shop, "--exclude-table-data=public.lines"))
    write(project, "schema.sql", pg_dump(shop, "--schema-only"))
    mark = Mark(shop)
    project.use(shop, OWNER)

    codes = [
        project.inv("db.restore", f"--file={name}.sql", "--table=lines", "--yes", *more).returncode
        for name in ("part", "schema")
        for more in (["--data-only"], [])
    ]

    assert codes == [2, 2, 2, 2]
    assert mark.is_untouched()


@pytest.mark.parametrize(
    "flags",
    [
        ["--data-only"],
        ["--table=lines", "--clean"],
        ["--table=lines", "--migrate"],
        ["--table=lines", "--lenient"],
        ["--table=lines", "--skip-extension=citext"],
        ["--table=nothing"],
        ["--table=same"],
    ],
)
def test_flags_that_contradict_are_refused(flags: list[str], shop: Database, project: Project) -> None:
    """Exit code 2, also for a name that two schemas have."""
    shop.execute("CREATE SCHEMA other; CREATE TABLE other.same (); CREATE TABLE crm.same ();", role=OWNER)
    project.use(shop, OWNER)
    ran(project, "db.dump")

    result = restored(project, *flags)

    assert result.returncode == 2, result.stdout
    if flags == ["--table=same"]:
        assert "crm.same" in result.stderr
        assert "other.same" in result.stderr


def test_the_preview_counts_what_is_there_and_what_comes(
    shop: Database,
    project: Project,
    dump_shop: Callable[[Project, Database], None],
) -> None:
    """A dry run names the table with its rows now and in the dump."""
    dump_shop(project, shop)
    shop.execute("DELETE FROM public.lines WHERE id > 4", role=OWNER)

    shown = ran(project, "--dry", "db.restore", "--table=lines", "--data-only")

    assert "the rows of public.lines (4 rows now, 20 rows in the dump)" in " ".join(shown.split())
    assert shop.scalar("SELECT pg_catalog.count(*) FROM public.lines") == 4


def test_names_of_another_encoding_are_found(new_database: Databases, project: Project) -> None:
    """A table, its column and its sequence have names beyond ASCII, in a dump that is not UTF-8."""
    shop = new_database(owner=OWNER)
    shop.execute(
        'CREATE TABLE public."Größe" ("für" serial PRIMARY KEY, x text); INSERT INTO "Größe" (x) VALUES (\'ß\')'
    )
    shop.execute(f'ALTER TABLE public."Größe" OWNER TO {OWNER}')
    write(project, "latin.sql", pg_dump(shop, "--encoding=LATIN1"))
    before = shop.dump_text()
    project.use(shop, OWNER)
    for more in (["--data-only"], []):
        shop.execute('DELETE FROM "Größe"; SELECT setval(\'"Größe_für_seq"\', 99)')

        result = project.inv("db.restore", "--file=latin.sql", "--table=Größe", "--yes", *more)

        assert result.returncode == 0, result.stderr
        assert shop.dump_text() == before
