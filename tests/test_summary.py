"""What a dump holds, read as it passes, and what a restore refuses to take."""

import pytest

from tasks.dumpformat.foreign_head import LexError
from tasks.dumpformat.lexer import Statement, lex
from tasks.dumpformat.manifest import SequenceValue, TableRows
from tasks.dumpformat.statements import StatementKind
from tasks.dumpformat.summary import SAFE_ENCODINGS, DumpSummary, RefusedError
from tests.dump_texts import DUMP, cut
from tests.everything import BEYOND_PSQL
from tests.servers import Server
from tests.support import Connection, Database

TRAILER = b"--\n-- PostgreSQL database dump complete\n--\n"


def survey(*chunks: bytes) -> DumpSummary:
    """Read a dump to its end."""
    result = DumpSummary()
    for _ in result.watch(lex(chunks)):
        pass
    return result


def test_a_dump_is_summed_up_when_it_is_whole() -> None:
    """Rows, sequences, versions and the trailer of a small dump, with rows and bodies that look like them."""
    result = survey(DUMP)

    assert result.complete
    assert (result.server, result.client) == ("17.6", "17.6")
    assert result.rows == {("public", "two\nCOMMIT;\nlines"): 4, ("public", "no_columns"): 2, ("public", "empty"): 0}
    assert result.tables() == (
        TableRows("public", "empty", 0),
        TableRows("public", "no_columns", 2),
        TableRows("public", "two\nCOMMIT;\nlines", 4),
    )
    assert result.total_rows == 6
    assert result.sequences == {("public", "s"): SequenceValue("public", "s", 4, is_called=True)}
    assert result.outline().schemas == ("public",)
    assert result.outline().large_objects == 1


def test_rows_are_counted_right_when_chunks_are_small() -> None:
    """The count of a table's rows does not depend on how the dump is cut."""
    whole = survey(DUMP)

    for size in (1, 2, 3, 7):
        assert survey(*cut(DUMP, range(0, len(DUMP), size))).rows == whole.rows


def test_only_a_comment_of_the_top_level_is_the_trailer() -> None:
    """Cut at every byte, the dump is complete from its trailer's line on: no row or body passes for one."""
    first = DUMP.rindex(TRAILER) + len(b"--\n-- PostgreSQL database dump complete")

    for length in range(len(DUMP) + 1):
        result = DumpSummary()
        try:
            for _ in result.watch(lex([DUMP[:length]])):
                pass
        except LexError:
            # Cut inside something, or in `restrict`: refused at once.
            continue
        assert result.complete == (length >= first), length


def test_events_are_handed_on_with_their_actions() -> None:
    """What passes is what came in, and each statement is told with what it does."""
    passed = list(DumpSummary().watch(lex([DUMP])))

    assert b"".join(event.text for event, _ in passed) == DUMP
    assert all((action is not None) == isinstance(event, Statement) for event, action in passed)
    assert [action for event, action in passed if event.text.startswith(b"CREATE RULE")] == [
        StatementKind("CREATE RULE", name="r")
    ]


COMPLETE: dict[str, tuple[bytes, bool]] = {
    "empty": (b"", False),
    "blank": (b"\n", False),
    "trailer": (b"SELECT 1;\n" + TRAILER, True),
    "trailer and unrestrict": (b"\\restrict a\nSELECT 1;\n" + TRAILER + b"\n\\unrestrict a\n", True),
    "trailer, last line cut off": (b"-- PostgreSQL database dump complete", True),
    "of a cluster": (b"-- PostgreSQL database cluster dump complete\n", False),
    "in a block comment": (b"/*\n" + TRAILER + b"*/", False),
    "in a string": (b"SELECT '\n" + TRAILER + b"';", False),
    "in rows": (b"COPY t (a) FROM stdin;\n" + TRAILER + b"\\.\n", False),
    "in a statement": (b"SELECT 1\n" + TRAILER + b";", False),
    "more behind it": (b"-- PostgreSQL database dump complete, nearly\n", False),
    "another dump behind it, cut": (TRAILER + b"SELECT 1;\n", False),
    "another dump behind it": (TRAILER + b"SELECT 1;\n" + TRAILER, True),
}


@pytest.mark.parametrize(("text", "complete"), COMPLETE.values(), ids=COMPLETE.keys())
def test_a_dump_is_complete_when_nothing_but_its_trailer_ends_it(text: bytes, complete: bool) -> None:
    """The trailer counts as a line comment of the top level with no statement behind it."""
    assert survey(text).complete is complete


LARGE = b"SELECT pg_catalog.lo_open('1', 131072);"
REFUSED: dict[str, tuple[bytes, str]] = {
    "COMMIT": (b"COMMIT;", "COMMIT"),
    "commit in lower case": (b"commit work;", "COMMIT"),
    "END": (b"END;", "END"),
    "ROLLBACK": (b"ROLLBACK;", "ROLLBACK"),
    "ABORT": (b"ABORT;", "ABORT"),
    "START": (b"START TRANSACTION;", "START"),
    "SAVEPOINT": (b"SAVEPOINT x;", "SAVEPOINT"),
    "RELEASE": (b"RELEASE x;", "RELEASE"),
    "PREPARE TRANSACTION": (b"PREPARE TRANSACTION 'x';", "PREPARE"),
    "SET TRANSACTION": (b"SET TRANSACTION READ ONLY;", "SET"),
    "BEGIN around a table": (b"BEGIN; CREATE TABLE t ();", "BEGIN"),
    "BEGIN around rows": (b"BEGIN; COPY t FROM stdin;\n\\.\n", "BEGIN"),
    "BEGIN twice": (b"BEGIN; BEGIN;", "BEGIN"),
    "ROLLBACK of large objects": (b"BEGIN;" + LARGE + b"ROLLBACK;", "BEGIN"),
    "COMMIT twice": (b"BEGIN;" + LARGE + b"COMMIT;COMMIT;", "COMMIT"),
    "connect": (b"\\connect other\n", r"without -C"),
    "c": (b"\\c other\n", r"without -C"),
    "shell": (b"\\! rm secret\n", r"\!"),
    "include": (b"\\i secret\n", r"\i"),
    "copy": (b"\\copy t from secret\n", r"\copy"),
    "set": (b"\\set x secret\n", r"\set"),
    "backslash alone": (b"\\\n", "psql command"),
    "end of data without data": (b"\\.\n", r"\."),
    "restrict without a key": (b"\\restrict\n", r"\restrict"),
    "restrict and more": (b"\\restrict abc \\! secret\n", r"\restrict"),
    "restrict in another case": (b"\\RESTRICT abc\n", r"\RESTRICT"),
    "trailer with Windows line ends": ((b"SELECT 1;\n" + TRAILER).replace(b"\n", b"\r\n"), "dos2unix"),
    "encoding in disguise": (b"SET/**/client_encoding = 'SJIS';", "client_encoding"),
    "encoding by its other name": (b'SET NAMES "secret";', "client_encoding"),
    "CREATE DATABASE": (b"CREATE DATABASE secret;", "CREATE DATABASE"),
    "DROP DATABASE": (b"DROP DATABASE secret;", "DROP DATABASE"),
    "ALTER DATABASE": (b"ALTER DATABASE secret SET x TO 'y';", "ALTER DATABASE"),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_breaks_the_one_transaction_is_refused(text: bytes, said: str) -> None:
    """Transaction control and backslash commands at top level are refused, and nothing of them is repeated."""
    with pytest.raises(RefusedError) as caught:
        survey(DUMP, text, TRAILER)

    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_windows_line_ends_are_refused_at_the_first_line() -> None:
    """Whatever turned LF into CRLF did so in functions and literals, too."""
    with pytest.raises(RefusedError, match="dos2unix"):
        survey(b"--\r\n-- PostgreSQL database dump\r\n--\r\n")


ALLOWED: dict[str, bytes] = {
    "in a function's body": b"CREATE PROCEDURE p() LANGUAGE plpgsql AS $$\nBEGIN\nCOMMIT;\nEND;\n$$;",
    "in an SQL body": b"CREATE PROCEDURE p() BEGIN ATOMIC SELECT 1; END;",
    "in a literal": b"SELECT '\nCOMMIT;\n\\connect x\n';",
    "in a name": b'CREATE TABLE "\nCOMMIT;\n\\! x\n" ();',
    "in rows": b"COPY t FROM stdin;\nCOMMIT;\n\\connect x\n\\! x\nBEGIN;\n\\.\n",
    "in comments": b"-- COMMIT;\n/*\nCOMMIT;\n\\connect x\n*/",
    "around large objects": b"BEGIN;" + LARGE + b"COMMIT;BEGIN;" + LARGE + b"COMMIT;",
    "around no large object": b"BEGIN;COMMIT;",
    "restrict": b"\\restrict aB9\n\\unrestrict aB9",
}


@pytest.mark.parametrize("text", ALLOWED.values(), ids=ALLOWED.keys())
def test_what_only_looks_like_transaction_control_passes(text: bytes) -> None:
    """Lines of bodies, literals, names and rows are not judged."""
    assert survey(DUMP, text, b"\n", TRAILER).complete


# Of clients only, as a character of theirs may hold the byte of a backslash or a quote; and what no server knows.
UNSAFE: dict[str, tuple[str, ...]] = {
    "SJIS": ("SJIS", "shiftjis", "Shift-JIS", "mskanji", "win932", "WIN_932", "Windows-932"),
    "SHIFT_JIS_2004": ("SHIFT_JIS_2004", "ShiftJIS2004"),
    "BIG5": ("BIG5", "big-5", "win950", "Windows950"),
    "GBK": ("GBK", "win936", "Windows936"),
    "GB18030": ("GB18030", "gb_18030"),
    "JOHAB": ("JOHAB",),
    "UHC": ("UHC", "win949", "Windows949"),
    "": ("CP932", "latin11", "UTF16", "default", "7", ""),
}
SETS_ENCODING = (
    "SET client_encoding = '%s';",
    "set client_encoding to '%s';",
    "SET SESSION /* /* ; */ */ \"Client_Encoding\" -- x\n= E'%s';",
    "SET LOCAL client_encoding = $x$%s$x$;",
    "SET client_encoding TO U&'%s';",
    'SET client_encoding = "%s";',
    "SET NAMES '%s';",
    "set/**/names E'%s';",
    "SELECT set_config('client_encoding', '%s', false);",
    "SELECT pg_catalog . \"set_config\" (E'client\\x5fencoding'::text , '%s'::text, true) AS x;",
    "SELECT set_config('client_'\n  'encoding', -- '\n '%s', false), 1;",
    "SELECT count(*), set_config(U&'CLIENT\\005fENCODING', '%s', false) FROM t;",
    "SELECT set_config('a.b', '', false), set_config('client_encoding', '%s', false);",
)


@pytest.mark.parametrize("form", SETS_ENCODING)
def test_an_encoding_whose_characters_hold_quotes_is_refused(form: str) -> None:
    """Text in these can't be split byte by byte, by whatever name and however it is set; the rest passes."""
    for name in (name for names in UNSAFE.values() for name in names):
        with pytest.raises(RefusedError):
            survey((form % name).encode())
    for name in ("UTF8", "utf-8", "Unicode", "LATIN1", "iso_8859_1", "SQL_ASCII", "WIN1252", "Windows-1251", "EUC_JP"):
        assert survey((form % name).encode(), b"\n", TRAILER).complete


@pytest.mark.parametrize("form", ["SET client_encoding = SJIS;", "SET client_encoding TO utf8, utf8;"])
def test_an_encoding_without_quotes_is_judged_as_well(form: str) -> None:
    """So it may be written, and a list of them is none."""
    with pytest.raises(RefusedError):
        survey(form.encode())
    for allowed in ("SET client_encoding = UTF8;", "SET client_encoding TO DEFAULT;", "RESET client_encoding;"):
        assert survey(allowed.encode(), b"\n", TRAILER).complete


@pytest.mark.all_majors
def test_the_server_has_the_same_names_for_encodings(server: Server) -> None:
    """Each name that we take is one of the server's, and never one of an encoding of clients only."""
    with server.connect("postgres") as connection:

        def known(name: str) -> str:
            row = connection.execute("SELECT pg_encoding_to_char(pg_char_to_encoding(%s))", [name]).fetchone()
            return str(row[0]) if row else ""

        every = connection.execute("SELECT pg_encoding_to_char(n) FROM generate_series(0, 60) AS n").fetchall()

        assert {known(name) for name in SAFE_ENCODINGS} == {name for (name,) in every if name} - set(UNSAFE)
        for encoding, names in UNSAFE.items():
            assert {known(name) for name in names} == {encoding}


OUTLINE = b"""
CREATE SCHEMA empty;
CREATE SCHEMA app AUTHORIZATION boss;
CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA ext;
CREATE TYPE types.mood AS ENUM ();
CREATE TABLE app.t (id integer);
ALTER TABLE app.t OWNER TO "The Owner";
ALTER TABLE app.t ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME app.t_id_seq);
CREATE SEQUENCE app.s;
CREATE VIEW views.v AS SELECT 1;
CREATE MATERIALIZED VIEW views.m AS SELECT 1;
CREATE FUNCTION functions.f() RETURNS void LANGUAGE sql AS 'CREATE TABLE no.no ();';
INSERT INTO "only rows".t VALUES (1);
COPY "only copied".t (a) FROM stdin;
\\.
SELECT pg_catalog.lo_create('1');
SELECT pg_catalog.lo_create('2');
BEGIN;
SELECT pg_catalog.lo_open('1', 131072);
COMMIT;
ALTER TABLE ONLY app.t ADD CONSTRAINT t_pkey PRIMARY KEY (id);
ALTER TABLE ONLY app.t ADD CONSTRAINT t_check CHECK (true);
CREATE INDEX i ON app.t (id);
ALTER TABLE ONLY app.t ADD CONSTRAINT t_fkey FOREIGN KEY (id) REFERENCES "elsewhere".t(id);
CREATE POLICY p ON app.t TO needed USING (true);
CREATE USER MAPPING FOR mapped SERVER s;
GRANT SELECT ON TABLE app.t TO reader,PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE granter IN SCHEMA app GRANT SELECT ON TABLES TO reader;
SET SESSION AUTHORIZATION granter;
CREATE PUBLICATION pub FOR TABLE app.t;
"""


def test_the_outline_says_what_a_restore_does() -> None:
    """Schemas that are filled, relations that take locks, and the roles that are missed or merely named."""
    outline = survey(OUTLINE, TRAILER).outline()

    assert outline.schemas == (("empty", "app", "types", "views", "functions"))
    # Table, identity, sequence, two views, primary key, index; the table has nothing to put elsewhere.
    assert outline.relations == 7
    assert outline.large_objects == 2
    assert outline.extensions == ("hstore",)
    assert outline.roles == ("The Owner", "reader", "granter")
    assert outline.needed_roles == ("boss", "needed", "mapped")
    assert outline.globals == ("publication pub",)
    assert outline.creates_tables


CREATES: dict[str, tuple[bytes, bool]] = {
    "rows alone": (b"COPY app.t FROM stdin;\n\\.\n", False),
    "inserts alone": (b"INSERT INTO app.t VALUES (1);", False),
    "tables and rows": (b"CREATE TABLE app.t ();COPY app.t  FROM stdin;\n\\.\n", True),
    "an extension's own table": (b"CREATE EXTENSION e;COPY app.t FROM stdin;\n\\.\n", True),
    "an empty database": (b"SET x = 0;", True),
}


@pytest.mark.parametrize(("text", "creates"), CREATES.values(), ids=CREATES.keys())
def test_a_dump_of_rows_alone_is_known(text: bytes, creates: bool) -> None:
    """Only rows without tables make a dump that can't fill an emptied schema."""
    assert survey(text).outline().creates_tables is creates


def test_blocks_of_one_table_add_up() -> None:
    """`--load-via-partition-root` writes several COPY blocks for one table."""
    block = b"COPY app.t (a) FROM stdin;\n1\n2\n\\.\n"
    result = DumpSummary()
    blocks = [result.block for event, _ in result.watch(lex([block + block])) if event.text == b"\\.\n"]

    assert result.rows == {("app", "t"): 4}
    assert blocks == [2, 2]
    assert result.current is None


@pytest.mark.all_majors
def test_a_survey_agrees_with_the_server(everything: Database) -> None:
    """Rows of every table and values of every sequence of the everything-database are what the server has."""
    text = everything.dump_text()
    result = survey(text)

    with everything.connect() as connection:
        connection.execute("SET row_security = off")
        counted = {key: count(connection, key) for key in result.rows}
        values = {
            key: connection.execute(f"SELECT last_value, is_called FROM {quoted(key)}".encode()).fetchone()
            for key in result.sequences
        }
        names = connection.execute("SELECT nspname FROM pg_namespace").fetchall()

    assert result.complete
    assert len(counted) > 40
    assert result.rows == counted
    assert len(values) > 10
    assert {key: (value.value, value.is_called) for key, value in result.sequences.items()} == values
    assert result.server.startswith(str(everything.server.major))
    assert set(result.outline().schemas) <= {name for (name,) in names}
    assert {"app", "public", "empty", "two\nCOMMIT;\nlines"} <= set(result.outline().schemas)
    assert result.outline().large_objects == 3
    assert {"reader", 'Rôle with "quotes", dots. and blanks'} <= set(result.outline().roles)
    assert "reader" in result.outline().needed_roles
    assert "hstore" in result.outline().extensions


def quoted(key: tuple[str, str]) -> str:
    """Write a qualified name for SQL."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in key)


def count(connection: Connection, key: tuple[str, str]) -> int:
    """Count a table's own rows."""
    ((number,),) = connection.execute(f"SELECT count(*) FROM ONLY {quoted(key)}".encode()).fetchall()
    return int(number)


def test_errors_repeat_nothing_of_a_dump(database: Database) -> None:
    """A dump cut anywhere in its rows or literals is an error without a byte of them."""
    database.execute(BEYOND_PSQL + "CREATE TABLE s AS SELECT 'S3cr3t'::text t; COMMENT ON TABLE s IS 'S3cr3t'")
    text = database.dump_text()

    for length in range(0, len(text), 17):
        try:
            survey(text[:length])
        except LexError as error:
            assert "S3cr3t" not in str(error)  # noqa: PT017 - some lengths raise, some do not
