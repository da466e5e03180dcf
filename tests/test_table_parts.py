"""Which statements of a dump concern a table: forms of pg_dump, and forms that it does not write."""

from __future__ import annotations

import pytest

from tasks.dumpformat.lexer import lex
from tasks.dumpformat.summary import DumpSummary
from tasks.dumpformat.table_parts import TableParts, TableSelection

BEGIN = """SET client_encoding = 'UTF8';
CREATE TABLE public.t (id integer NOT NULL, "of" integer);
CREATE TABLE public.u (id integer NOT NULL);
CREATE SEQUENCE public.t_seq;
ALTER SEQUENCE public.t_seq OWNED BY public.t.id;
"""


def parts_of(text: str) -> TableParts:
    """Read a text as a restore does."""
    parts, summary = TableParts(), DumpSummary()
    parts.watch(summary.watch(lex(iter([text.encode()]))), summary)
    return parts


def chosen(text: str, selection: TableSelection) -> list[str]:
    """Return the texts of the events that a selection lets pass, without comments."""
    summary = DumpSummary()
    passed = selection.filter(summary.watch(lex(iter([text.encode()]))))
    return [found for event, _ in passed if (found := bytes(getattr(event, "text", b"")).decode().strip())]


ABOUT = [
    "CREATE INDEX i ON public.t USING btree (id);",
    'CREATE UNIQUE INDEX "I" ON ONLY public.t USING btree (id);',
    "ALTER TABLE ONLY public.t ADD CONSTRAINT k PRIMARY KEY (id);",
    "ALTER TABLE ONLY public.t ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES public.u(id);",
    "ALTER TABLE public.t OWNER TO me;",
    "ALTER TABLE public.t_seq OWNER TO me;",
    "ALTER TABLE public.t ENABLE ROW LEVEL SECURITY;",
    "ALTER TABLE ONLY public.t ALTER COLUMN id SET DEFAULT nextval('public.t_seq'::regclass);",
    "ALTER TABLE public.t ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME public.other);",
    "CREATE TRIGGER x BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.u();",
    "CREATE RULE r AS ON DELETE TO public.t DO INSTEAD NOTHING;",
    "CREATE POLICY p ON public.t USING (true);",
    'CREATE STATISTICS public.s ON id, "of" FROM public.t;',
    "COMMENT ON TABLE public.t IS 'u';",
    "COMMENT ON COLUMN public.t.id IS 'public.u';",
    "COMMENT ON CONSTRAINT k ON public.t IS 'k';",
    "COMMENT ON SEQUENCE public.t_seq IS 's';",
    "GRANT SELECT ON TABLE public.t TO PUBLIC;",
    "GRANT SELECT(id) ON TABLE public.t TO PUBLIC;",
    "GRANT USAGE ON SEQUENCE public.t_seq TO PUBLIC;",
    "SELECT pg_catalog.setval('public.t_seq', 4, true);",
    "ALTER PUBLICATION p ADD TABLE ONLY public.t;",
    'ALTER TRIGGER "ON" ON public.t DEPENDS ON EXTENSION x;',
    "INSERT INTO public.t VALUES (1, 2);",
]
NOT_ABOUT = [
    "CREATE VIEW public.v AS SELECT id FROM public.t;",
    "CREATE FUNCTION public.t() RETURNS integer LANGUAGE sql AS 'SELECT 1';",
    "ALTER TABLE ONLY public.u ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES public.t(id);",
    "CREATE TRIGGER t BEFORE INSERT ON public.u FOR EACH ROW EXECUTE FUNCTION public.t();",
    "GRANT SELECT ON TABLE public.t, public.u TO PUBLIC;",
    "ALTER PUBLICATION p ADD TABLE ONLY public.t, ONLY public.u;",
    "COMMENT ON COLUMN t.public.id IS 'another schema';",
    "COMMENT ON CONSTRAINT t ON public.u IS 'k';",
    "DROP TABLE public.t;",
    "ALTER TABLE ONLY public.t DROP CONSTRAINT k;",
    "TRUNCATE public.t;",
    "DELETE FROM public.t;",
    "DO $$ BEGIN PERFORM 1; END $$;",
    "SELECT pg_catalog.setval('public.other', 4, true);",
    "CREATE TABLE other.t (id integer);",
]
STRANGE = [
    "ALTER TABLE public.t RENAME TO v;",
    "ALTER TABLE public.t ADD COLUMN x integer DEFAULT public.t();",
    "INSERT INTO public.t SELECT id, id FROM public.u;",
    "CREATE TABLE IF NOT EXISTS public.t (id integer);",
    "CREATE TABLE public.t AS SELECT 1 AS id;",
    # The database may have these, as others than the table's.
    "ALTER TABLE ONLY public.t ATTACH PARTITION public.v FOR VALUES FROM (0) TO (9);",
    "ALTER SEQUENCE public.v OWNED BY public.t.id;",
    "ALTER INDEX public.i ATTACH PARTITION public.j;",
]


@pytest.mark.parametrize("statement", ABOUT)
def test_a_statement_about_a_table_is_chosen_with_it(statement: str) -> None:
    """What belongs to the table is chosen with it, and not with another table."""
    parts = parts_of(BEGIN + statement)

    of_table, of_other = parts.select([("public", "t")]), parts.select([("public", "u")])

    assert not of_table.unknown
    assert statement in chosen(BEGIN + statement, of_table)
    assert statement not in chosen(BEGIN + statement, of_other)


@pytest.mark.parametrize("statement", NOT_ABOUT)
def test_other_statements_are_left_out(statement: str) -> None:
    """Also what drops or empties the table, and what names another one, too."""
    selection = parts_of(BEGIN + statement).select([("public", "t")])

    assert statement not in chosen(BEGIN + statement, selection)


@pytest.mark.parametrize("statement", STRANGE)
def test_a_strange_statement_about_a_table_is_found(statement: str) -> None:
    """It may do more than it seems to, so it is named."""
    index = "CREATE INDEX i ON public.t USING btree (id);\n"
    selection = parts_of(BEGIN + index + statement).select([("public", "t")])

    assert statement.startswith(selection.unknown[:20])
    assert selection.unknown


def test_rows_alone_are_chosen_with_the_settings() -> None:
    """Of a table's rows and those of its partitions, at any depth; a sequence is set where the caller names it."""
    text = BEGIN + (
        "CREATE TABLE public.p (id integer) PARTITION BY RANGE (id);\n"
        "CREATE TABLE public.p1 (id integer) PARTITION BY RANGE (id);\n"
        "CREATE TABLE x.p2 (id integer);\n"
        "ALTER TABLE ONLY public.p ATTACH PARTITION public.p1 FOR VALUES FROM (0) TO (9);\n"
        "ALTER TABLE ONLY public.p1 ATTACH PARTITION x.p2 FOR VALUES FROM (0) TO (5);\n"
        "COPY x.p2 (id) FROM stdin;\n1\n2\n\\.\n"
        "COPY public.t (id) FROM stdin;\n3\n\\.\n"
        "SELECT pg_catalog.setval('public.t_seq', 4, true);\n"
    )
    parts = parts_of(text)

    selection = parts.select([("public", "p")], data_only=True, sequences=[("public", "t_seq")])

    assert chosen(text, selection) == [
        "SET client_encoding = 'UTF8';",
        "COPY x.p2 (id) FROM stdin;",
        "1\n2",
        "\\.",
        "SELECT pg_catalog.setval('public.t_seq', 4, true);",
    ]
    assert parts.count([("public", "p")]) == (2, 0)
    assert parts.tables_without_rows({("public", "p"), ("public", "u"), ("x", "p2")}) == [("public", "u")]


def test_a_strange_statement_is_found_in_another_encoding() -> None:
    """A name is the same one, whatever client_encoding is afterwards."""
    table = 'CREATE TABLE public."ü" (id integer);\nINSERT INTO public."ü" VALUES (f());\n'

    parts = parts_of(BEGIN + table + "SET client_encoding = 'LATIN1';\n")

    assert parts.select([("public", "ü")]).unknown.startswith("INSERT")
    assert parts.select([("public", "ü")], data_only=True).unknown.startswith("INSERT")


def test_parts_that_contain_each_other_end() -> None:
    """A hostile dump may attach two tables to each other."""
    text = BEGIN + (
        "ALTER TABLE public.t ATTACH PARTITION public.u FOR VALUES FROM (0) TO (9);\n"
        "ALTER TABLE public.u ATTACH PARTITION public.t FOR VALUES FROM (0) TO (9);\n"
    )
    parts = parts_of(text)

    assert {("public", "t"), ("public", "u")} <= parts.select([("public", "t")]).tables
    assert list(parts.line(("public", "t"))) == [("public", "t"), ("public", "u")]
