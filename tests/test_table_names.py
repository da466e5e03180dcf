"""What `--table=` and `--schema=` name: an existing name in any case first, else what pg_dump's pattern matches."""

import pytest

from tasks.dumpfiles.table_names import match_schemas, match_tables, require_tables
from tasks.errors import BadInputError
from tasks.formatting import parse_shown_name
from tests.flows import pg_dump
from tests.support import Databases

TABLES = [
    *[
        ("public", name)
        for name in ("User", "user", "Post", "audit_log", "log_2024", "log_2025", "my.table", "a*b", "$")
    ],
    *[("audit", name) for name in ("Post", "log_2024", "only", 'say "hi"')],
    ("Shop", "ITEM"),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("User", ["public.User"]),
        ("user", ["public.user"]),
        ("USER", ["public.user"]),
        ("post", ["public.Post"]),
        ('"User"', ["public.User"]),
        ('"USER"', []),
        ("public.User", ["public.User"]),
        ('public."User"', ["public.User"]),
        ('"public"."User"', ["public.User"]),
        ("PUBLIC.POST", ["public.Post"]),
        ("audit.post", ["audit.Post"]),
        ("only", ["audit.only"]),
        ("my.table", ["public.my.table"]),
        ('"my.table"', ["public.my.table"]),
        ("public.my.table", ["public.my.table"]),
        ("a*b", ["public.a*b"]),
        ('"a*b"', ["public.a*b"]),
        ("$", ["public.$"]),
        ("log_*", ["public.log_2024", "public.log_2025"]),
        ("log_202?", ["public.log_2024", "public.log_2025"]),
        ("*.log_2024", ["public.log_2024", "audit.log_2024"]),
        ("log_202[5]", ["public.log_2025"]),
        ("user|post", ["public.user"]),
        ("Us*", ["public.user"]),
        ("Po*", ["public.Post"]),
        ('"Us"*', ["public.User"]),
        ('audit."say ""hi"""', ['audit.say "hi"']),
        ("shop.item", ["Shop.ITEM"]),
        ("shop.*", ["Shop.ITEM"]),
        ("audit.*", ["audit.Post", "audit.log_2024", "audit.only", 'audit.say "hi"']),
        ("nothing*", []),
        ("log", []),
        ("", []),
    ],
)
def test_a_text_means_tables(text: str, expected: list[str]) -> None:
    """The table of what is typed and what it means where the search path is public."""
    assert [".".join(key) for key in match_tables(text, TABLES, ["public"])] == expected


def test_schemas_are_matched_by_the_same_rules() -> None:
    """Exactly, folded, in any case, by pattern."""
    schemas = ["public", "Shop", "shop", "audit", "a.b"]

    for text, expected in {
        "Shop": ["Shop"],
        "SHOP": ["shop"],
        '"Shop"': ["Shop"],
        "s*": ["shop"],
        "a.b": ["a.b"],
        "AUDIT": ["audit"],
    }.items():
        assert match_schemas(text, schemas) == expected


@pytest.mark.parametrize("text", ["absent", '"User', "log_(", "a.b.c", "uSER2", "post", 'publi."Post"'])
def test_what_means_nothing_or_several_is_refused(text: str) -> None:
    """A name without a schema is ambiguous where no search path decides."""
    with pytest.raises(BadInputError):
        require_tables("--table", [text], [*TABLES, ("x", "USER2"), ("x", "User2")], "x.sql")


def test_values_are_joined_in_the_order_of_the_tables() -> None:
    """Each table once."""
    found = require_tables("--table", ["log_*", "User", "public.log_2024"], TABLES, "x.sql", ["public"])

    assert found == [("public", "User"), ("public", "log_2024"), ("public", "log_2025")]


NAMES = ("public.t1", "public.t2", "public.tt1", "public.u", 'public."T1"', 'public."a$b"', 'public."x[]"', "other.t1")
PATTERNS = (
    "t*",
    "T*",
    '"T"*',
    "t?",
    "t[12]",
    "t1|t2",
    "(t1|u)",
    "other.*",
    "*.t1",
    '*."T1"',
    "a$b",
    "?t1",
    "x[]",
    "t1",
)


@pytest.mark.all_majors
def test_patterns_mean_what_they_mean_to_pg_dump(new_database: Databases) -> None:
    """Each pattern finds the same tables as pg_dump does, by the search path of the database."""
    database = new_database()
    database.execute("CREATE SCHEMA other;" + "".join(f"CREATE TABLE {name} (id int);" for name in NAMES))
    keys = {parse_shown_name(name): name for name in NAMES}

    for pattern in PATTERNS:
        text = pg_dump(database, "--schema-only", f"--table={pattern}").decode()
        theirs = {line.split()[2] for line in text.splitlines() if line.startswith("CREATE TABLE ")}
        assert {keys[key] for key in match_tables(pattern, keys, ["public"])} == theirs, pattern
