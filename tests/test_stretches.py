"""Which statements several sessions may run, and where rows may be cut: pure functions, without a server."""

import pytest

from tasks.dumpformat.lexer import Statement
from tasks.dumpformat.statements import classify_statement
from tasks.load.row_queue import end_of_rows
from tasks.load.stretches import StepKind, copied_columns, is_transparent, read_step

KEY = b'ALTER TABLE ONLY s."T ""x"\n    ADD CONSTRAINT "k(" '
INDEX = b'CREATE UNIQUE INDEX "k(" ON s."T ""x" USING btree '
USING = b'ALTER TABLE ONLY s."T ""x" ADD CONSTRAINT "k(" '


@pytest.mark.parametrize(
    ("written", "index", "key"),
    [
        (b"PRIMARY KEY (id);", b"(id);", b'PRIMARY KEY USING INDEX "k(";'),
        (
            b"UNIQUE NULLS NOT DISTINCT (a, \"b,c\") INCLUDE (d) WITH (fillfactor='70') DEFERRABLE INITIALLY DEFERRED;",
            b"(a, \"b,c\") INCLUDE (d) NULLS NOT DISTINCT WITH (fillfactor='70');",
            b'UNIQUE USING INDEX "k(" DEFERRABLE INITIALLY DEFERRED;',
        ),
    ],
)
def test_a_key_becomes_an_index_and_a_constraint(written: bytes, index: bytes, key: bytes) -> None:
    """With all that pg_dump can write for a key."""
    step = read_step(KEY + written)

    assert step is not None
    assert (step.kind, step.table) == (StepKind.KEY, ("s", 'T "x'))
    assert (step.first, step.then) == (INDEX + index, USING + key)


@pytest.mark.parametrize(
    "rest",
    [
        b"REFERENCES s.r(id);",
        b'REFERENCES s."R"(id, "x y") MATCH FULL ON UPDATE CASCADE ON DELETE SET NULL (a) DEFERRABLE;',
        b"REFERENCES s.r(id) DEFERRABLE INITIALLY DEFERRED;",
        b"REFERENCES s.r(id) ON UPDATE RESTRICT ON DELETE SET DEFAULT;",
    ],
)
def test_a_foreign_key_is_added_and_then_validated(rest: bytes) -> None:
    """The first statement checks no rows."""
    text = KEY + b"FOREIGN KEY (a, b) " + rest
    step = read_step(text)

    assert step is not None
    assert step.kind is StepKind.FOREIGN_KEY
    assert step.first == text[:-1] + b" NOT VALID;"
    assert step.then == b'ALTER TABLE ONLY s."T ""x" VALIDATE CONSTRAINT "k(";'


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (KEY + b"FOREIGN KEY (a) REFERENCES s.r(id) NOT VALID;", StepKind.WRITTEN_FOREIGN_KEY),
        (KEY + b"FOREIGN KEY (a) REFERENCES s.r(id) NOT ENFORCED;", StepKind.WRITTEN_FOREIGN_KEY),
        (KEY + b"FOREIGN KEY (a, PERIOD p) REFERENCES s.r(id, PERIOD p);", StepKind.WRITTEN_FOREIGN_KEY),
        (b"ALTER TABLE s.t\n    ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES s.r(id);", StepKind.WRITTEN_FOREIGN_KEY),
        (KEY + b"PRIMARY KEY (id, span WITHOUT OVERLAPS);", StepKind.CONSTRAINT),
        (KEY + b"EXCLUDE USING gist (span WITH &&) WHERE ((id > 0));", StepKind.CONSTRAINT),
        (b"CREATE INDEX i ON s.t USING gin (a);", StepKind.INDEX),
        (b"CREATE UNIQUE INDEX i ON s.t USING btree (lower(a)) WHERE (b = ';'::text);", StepKind.INDEX),
        (b"CREATE INDEX i ON ONLY s.t USING btree (a);", StepKind.AFTER_INDEXES),
        (b"ALTER INDEX s.i ATTACH PARTITION s.j;", StepKind.AFTER_INDEXES),
        (b"ALTER TABLE s.t CLUSTER ON i;", StepKind.AFTER_INDEXES),
        (b"ALTER TABLE ONLY s.t REPLICA IDENTITY USING INDEX i;", StepKind.AFTER_INDEXES),
        (b"COMMENT ON CONSTRAINT k ON s.t IS 'ADD';", StepKind.AFTER_INDEXES),
        (b"CREATE INDEX i ON t USING btree (a);", None),
        (b"CREATE INDEX CONCURRENTLY i ON s.t USING btree (a);", None),
        (b"ALTER TABLE ONLY t\n    ADD CONSTRAINT k PRIMARY KEY (id);", None),
        (b"ALTER TABLE ONLY s.t\n    ADD CONSTRAINT k CHECK ((a > 0)) NOT VALID;", None),
        (KEY + b"PRIMARY KEY (id), ADD COLUMN x int;", StepKind.CONSTRAINT),
        (b"COMMENT ON TABLE s.t IS 'x';", None),
        (b"CREATE TRIGGER x BEFORE INSERT ON s.t EXECUTE FUNCTION f();", None),
    ],
)
def test_other_statements_run_as_they_are_written(text: bytes, kind: StepKind | None) -> None:
    """Or alone, if their form is not known."""
    step = read_step(text)

    assert (step and step.kind) == kind
    assert step is None or (step.first, step.then) == (text, b"")


@pytest.mark.parametrize(
    ("text", "transparent"),
    [
        (b"SET search_path = a, b;", True),
        (b"SET default_tablespace = '';", True),
        (b"SELECT pg_catalog.set_config('search_path', '', false);", True),
        (b"SELECT pg_catalog.setval('s.q', 3, true);", True),
        (b"CREATE TABLE s.t (a int);", True),
        (b"INSERT INTO s.t VALUES (1);", True),
        (b"ALTER TABLE s.t OWNER TO x;", True),
        (b"SET LOCAL search_path = a;", False),
        (b"SET transaction_read_only = on;", False),
        (b"SELECT pg_catalog.set_config('search_path', '', true);", False),
        (b"SELECT f();", False),
        (b"DO $$ BEGIN END $$;", False),
        (b"CALL p();", False),
        (b"UPDATE s.t SET a = 1;", False),
        (b"DECLARE c CURSOR FOR SELECT 1;", False),
        (b"LOCK TABLE s.t;", False),
        (b"CREATE TEMPORARY TABLE t (a int);", False),
        (b"CREATE TABLE pg_temp.t (a int);", False),
        (b"CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f();", False),
        (b"DISCARD ALL;", False),
    ],
)
def test_statements_with_unknown_effects(text: bytes, transparent: bool) -> None:
    """After them, one session loads the rest."""
    assert is_transparent(text, classify_statement(text)) is transparent


@pytest.mark.parametrize(
    ("piece", "end"),
    [
        (b"1\ta\n2\tb\n3", 8),
        (b"1\ta\n", 4),
        (b"no end", 0),
        (b"a\nb\\\n", 2),
        (b"a\nb\\\\\n", 6),
        (b"a\nb\\\\\\\nc", 2),
        (b"\n", 0),
        (b"\\\n", 0),
        (b"\\\\\nx\ny", 5),
    ],
)
def test_rows_are_cut_at_their_ends(piece: bytes, end: int) -> None:
    """A newline after an odd number of backslashes, or at the beginning of a piece, is not known to be one."""
    assert end_of_rows(piece) == end


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (b'COPY s.t (a, "B ""c", d) FROM stdin;', {"a", 'B "c', "d"}),
        (b"COPY s.t FROM stdin;", None),
    ],
)
def test_columns_of_a_copy(text: bytes, columns: set[str] | None) -> None:
    """Their names, unquoted."""
    assert copied_columns(Statement(text=text, copies=b"s.t")) == columns
