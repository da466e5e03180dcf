"""Where the database URL is found, and which lines of `.env` are refused."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config.dotenv import FoundUrl, read_url
from tasks.errors import BadInputError

NAME = "DATABASE_URL"
SECRET = "S3cr3t"
URL = f"postgresql://app:{SECRET}@db.example.com:5432/shop?schema=public"


def write(root: Path, text: str | bytes, name: str = ".env") -> None:
    """Write one settings file."""
    path = root / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)


# What both readers make of these lines; node's dotenv 16.6 was asked.
READ = {
    "unquoted": (f"{NAME}={URL}", URL),
    "double quotes": (f'{NAME}="{URL}"', URL),
    "single quotes": (f"{NAME}='{URL}'", URL),
    "export": (f"export {NAME}={URL}", URL),
    "blanks": (f"  {NAME}  =  {URL}  ", URL),
    "comment after a blank": (f"{NAME}={URL} # production", URL),
    "comment after quotes": (f'{NAME}="{URL}" # production', URL),
    "comment only": (f"{NAME}= # none yet", ""),
    "# in double quotes": (f'{NAME}="{URL}#x"', f"{URL}#x"),
    "# in single quotes": (f"{NAME}='{URL}#x'", f"{URL}#x"),
    "dollar": (f'{NAME}="postgresql://u:p$w$1@h/d"', "postgresql://u:p$w$1@h/d"),
    "dollar in single quotes": (f"{NAME}='postgresql://u:$p@h/d'", "postgresql://u:$p@h/d"),
    "line break in double quotes": (f'{NAME}="a\\nb"', "a\nb"),
    "single quote in double ones": (f'{NAME}="it\'s"', "it's"),
    "backtick inside double quotes": (f'{NAME}="a`b"', "a`b"),
    "backtick inside": (f"{NAME}=a`b", "a`b"),
    "backslash without quotes": (f"{NAME}=a\\nb", "a\\nb"),
    "empty": (f"{NAME}=", ""),
    "the last one wins": (f"{NAME}=old\n{NAME}={URL}", URL),
    "Windows line ends": (f"A=1\r\n{NAME}={URL}\r\nB=2\r\n", URL),
    "Windows line end in quotes": (f'{NAME}="a\r\nb"', "a\nb"),
    "byte order mark": (f"\ufeff{NAME}={URL}", URL),
    "unicode": (f'{NAME}="postgresql://u:päß@h/d"', "postgresql://u:päß@h/d"),
    "between others": (f"A='x\ny'\n# {NAME}=no\n{NAME}={URL}\nOTHER=`x#y`\n", URL),
    "the other line's flaws": (f"OTHER=`a#b\nTHIRD=p#w\n{NAME}={URL}", URL),
    "reference": (f"PW={SECRET}\n{NAME}=postgresql://app:${{PW}}@h/d", f"postgresql://app:{SECRET}@h/d"),
    "reference before": (f"{NAME}=postgresql://${{HOST}}/d\nHOST=h", "postgresql://h/d"),
    "reference of a reference": (f"A=h\nB=${{A}}\n{NAME}=postgresql://${{B}}/d", "postgresql://h/d"),
    "reference in single quotes": (f"A=h\n{NAME}='postgresql://${{A}}/d'", "postgresql://h/d"),
    "reference to the environment": (f"FROM_SHELL=file\n{NAME}=${{FROM_SHELL}}", "shell"),
    "escaped reference stays": (f"A=h\n{NAME}=x\\${{A}}", "x\\${A}"),
    "default of a shell stays": (f"A=h\n{NAME}=${{A:-x}}", "${A:-x}"),
}

REFUSED = {
    "backticks": f"{NAME}=`{URL}`",
    "backticks after a blank": f"{NAME}= `{URL}`",
    "# without quotes": f"{NAME}=postgresql://app:{SECRET}#x@h/d",
    "# without quotes, then a comment": f"{NAME}=postgresql://app:{SECRET}#x@h/d # comment",
    "# first": f"{NAME}=#{SECRET}",
    "colon for =": f"{NAME}: {URL}",
    "escaped quote": f'{NAME}="{SECRET}\\"x"',
    "escaped backslash": f'{NAME}="{SECRET}\\\\x"',
    "tab in double quotes": f'{NAME}="{SECRET}\\tx"',
    "escaped quote in single ones": f"{NAME}='{SECRET}\\'x'",
    "quote that never ends": f'{NAME}="{URL}',
    "text after the quotes": f'{NAME}="{URL}"x',
    "a reference to such a line": f"PW={SECRET}#x\n{NAME}=postgresql://app:${{PW}}@h/d",
}


@pytest.mark.parametrize(("text", "value"), READ.values(), ids=READ.keys())
def test_a_line_is_read_as_prisma_reads_it(tmp_path: Path, text: str, value: str) -> None:
    """Lines that both readers agree on give Prisma's value, whatever the other lines look like."""
    write(tmp_path, text)

    assert read_url(NAME, tmp_path, {"FROM_SHELL": "shell"}) == FoundUrl(value, ".env")


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_a_line_that_is_read_in_two_ways_is_refused(tmp_path: Path, text: str) -> None:
    """The form to write is shown, the value is not."""
    write(tmp_path, f"A=1\n{text}\nB=2\n")

    with pytest.raises(BadInputError) as caught:
        read_url(NAME, tmp_path, {})

    assert '="…"' in str(caught.value)
    assert SECRET not in str(caught.value)


def test_the_environment_wins(tmp_path: Path) -> None:
    """A variable of the shell goes before both files, unread and unexpanded."""
    write(tmp_path, b"\xff")

    assert read_url(NAME, tmp_path, {NAME: "${X}"}) == FoundUrl("${X}", "environment")


def test_an_empty_variable_wins_as_for_prisma(tmp_path: Path) -> None:
    """Node's dotenv never replaces a variable that is set, empty or not."""
    write(tmp_path, f"{NAME}={URL}")

    assert read_url(NAME, tmp_path, {NAME: ""}) == FoundUrl("", "environment")


def test_the_root_file_goes_before_prismas(tmp_path: Path) -> None:
    """`.env` beside `tasks.py` first, then `prisma/.env`."""
    write(tmp_path, f"{NAME}=first")
    write(tmp_path, f"{NAME}=second\nOTHER=third", "prisma/.env")

    assert read_url(NAME, tmp_path, {}) == FoundUrl("first", ".env")
    assert read_url("OTHER", tmp_path, {}) == FoundUrl("third", "prisma/.env")


def test_prismas_file_may_refer_to_the_root_file(tmp_path: Path) -> None:
    """Prisma loads the root's file first, so its settings are known to the second, not the other way."""
    write(tmp_path, "HOST=outer\nUP=${DOWN}")
    write(tmp_path, f"HOST=own\nDOWN=x\n{NAME}=postgresql://${{HOST}}/d", "prisma/.env")

    assert read_url(NAME, tmp_path, {}).value == "postgresql://outer/d"
    with pytest.raises(BadInputError, match=r"\bUP\b.*\$\{DOWN\}"):
        read_url("UP", tmp_path, {})


def test_a_reference_to_nothing_is_refused(tmp_path: Path) -> None:
    """Prisma would put in nothing, and so another host or database."""
    write(tmp_path, f"{NAME}=postgresql://app:{SECRET}@${{HOST}}/d")

    with pytest.raises(BadInputError, match=r"\$\{HOST\}") as caught:
        read_url(NAME, tmp_path, {})

    assert SECRET not in str(caught.value)


def test_a_reference_to_itself_ends(tmp_path: Path) -> None:
    """A circle is a sentence, not a crash."""
    write(tmp_path, f"A=${{B}}\nB=${{A}}\n{NAME}=${{A}}")

    with pytest.raises(BadInputError):
        read_url(NAME, tmp_path, {})


def test_a_missing_variable_says_where_was_looked(tmp_path: Path) -> None:
    """The message names the places and the line to write."""
    write(tmp_path, f"OTHER=x\n# SHADOW_URL={URL}\nSHADOW_URL {SECRET}\nSHADOW_URL")

    with pytest.raises(BadInputError) as caught:
        read_url("SHADOW_URL", tmp_path, {})

    message = str(caught.value)
    assert SECRET not in message
    assert "environment" in message
    assert str(tmp_path) in message
    assert 'SHADOW_URL="postgresql://user:password@host:5432/database"' in message


def test_the_prisma_folder_comes_after_the_root(tmp_path: Path) -> None:
    """Of a workspace with a schema, or of the configured folder, `.env` and `prisma/.env` are read last."""
    write(tmp_path, "OTHER=x")
    (tmp_path / "apps/web/prisma").mkdir(parents=True)
    write(tmp_path / "apps/web", '{"private": true}', "package.json")
    write(tmp_path / "apps/web", "", "prisma/schema.prisma")
    write(tmp_path, '{"workspaces": ["apps/*"]}', "package.json")
    write(tmp_path / "apps/web", f"{NAME}=second", "prisma/.env")
    (tmp_path / "other").mkdir()
    write(tmp_path / "other", f"{NAME}=configured")

    assert read_url(NAME, tmp_path, {}) == FoundUrl("second", "apps/web/prisma/.env")
    write(tmp_path / "apps/web", f"{NAME}=${{OTHER}}")
    assert read_url(NAME, tmp_path, {}) == FoundUrl("x", "apps/web/.env")
    assert read_url(NAME, tmp_path, {}, tmp_path / "other") == FoundUrl("configured", "other/.env")
    write(tmp_path, f"{NAME}=first")
    assert read_url(NAME, tmp_path, {}, tmp_path / "other") == FoundUrl("first", ".env")


@pytest.mark.parametrize("file", [".env.local", ".env.development"])
def test_a_file_that_prisma_does_not_read_is_named(file: str, tmp_path: Path) -> None:
    """A URL that only Next.js finds is not used, and the message says where it is."""
    write(tmp_path, f"{NAME}={URL}", file)

    with pytest.raises(BadInputError) as caught:
        read_url(NAME, tmp_path, {})

    assert f"is set only in {file}" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        (f"DB_HOST=h\n{NAME}=postgresql://$DB_HOST/d", {}),
        (f'{NAME}="postgresql://u:$DB_PASSWORD@h/d"', {"DB_PASSWORD": SECRET}),
    ],
    ids=["file", "environment"],
)
def test_a_reference_without_braces_is_refused(text: str, environ: dict[str, str], tmp_path: Path) -> None:
    """Next.js replaces it and Prisma does not, where it is the name of a variable."""
    write(tmp_path, text)

    with pytest.raises(BadInputError, match=re.escape("${DB_")) as caught:
        read_url(NAME, tmp_path, environ)

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", [URL, "", "A B", "1A", "A=B", "A\n", "ÄB"])
def test_a_url_for_a_name_is_refused_unseen(tmp_path: Path, name: str) -> None:
    """Who gives the URL where its name belongs does not see it printed."""
    with pytest.raises(BadInputError) as caught:
        read_url(name, tmp_path, {name: URL})

    assert SECRET not in str(caught.value)


def test_the_value_is_not_in_the_repr(tmp_path: Path) -> None:
    """The found URL may be logged by its source only."""
    write(tmp_path, f"{NAME}={URL}")

    assert SECRET not in repr(read_url(NAME, tmp_path, {}))


@pytest.mark.parametrize("text", [b"DATABASE_URL=\xff", f"{NAME}={URL}".encode("utf-16")])
def test_a_file_that_is_not_utf8_is_a_sentence(tmp_path: Path, text: bytes) -> None:
    """As an old editor or PowerShell writes it."""
    write(tmp_path, text)

    with pytest.raises(BadInputError, match=r"\.env"):
        read_url(NAME, tmp_path, {})


def test_a_folder_is_a_sentence(tmp_path: Path) -> None:
    """Docker makes a folder of a missing bind mount."""
    (tmp_path / ".env").mkdir()

    with pytest.raises(BadInputError, match=r"\.env"):
        read_url(NAME, tmp_path, {})


def test_a_looping_link_is_a_sentence(tmp_path: Path) -> None:
    """Any other failure to read is told with the system's words."""
    (tmp_path / ".env").symlink_to(".env")

    with pytest.raises(BadInputError, match=r"\.env"):
        read_url(NAME, tmp_path, {})


def test_a_file_named_prisma_is_no_folder_of_settings(tmp_path: Path) -> None:
    """`prisma` may be something else in this project."""
    write(tmp_path, "x", "prisma")

    with pytest.raises(BadInputError, match=NAME):
        read_url(NAME, tmp_path, {})


@given(st.text(st.sampled_from("ab='\"`#\\n \t$:\n"), max_size=20))
def test_no_file_crashes_the_reader(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Any text gives a value or a sentence without the text."""
    root = tmp_path_factory.mktemp("root")
    write(root, f"{NAME}={SECRET}{text}")

    try:
        shown, value = "", read_url(NAME, root, {}).value
    except BadInputError as error:
        shown, value = str(error), SECRET

    assert SECRET not in shown
    assert value.startswith(SECRET)
