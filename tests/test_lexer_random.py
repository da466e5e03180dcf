"""The lexer, the tokenizer, psql and the server read random texts alike: statements end and strings hold the same.

The texts hold strings of every kind that go on behind the ends of lines and comments, dollar quotes, nested comments,
quoted names, parentheses, client encodings, and standard_conforming_strings set on and off in many ways.
`TESTS_TEXTS=100000 pytest tests/test_lexer_random.py` tries so many; each run of the tests tries some.
"""

import os
import random
from collections.abc import Iterator
from typing import Final

import pytest
from psycopg import pq

from tasks.dumpformat.lexer import Statement, lex
from tasks.dumpformat.summary import SAFE_ENCODINGS
from tasks.dumpformat.tokens import TokenReader, scan_tokens
from tests.psql_judge import asked_by_psql, bared, by_the_lexer
from tests.servers import Server

TEXTS: Final = int(os.environ.get("TESTS_TEXTS", "4000"))
# psql is started once for so many.
TOGETHER: Final = 2_000
STRINGS: Final = {
    True: (
        "SET standard_conforming_strings = on;",
        "set Standard_Conforming_Strings to 'on';",
        "SELECT pg_catalog.set_config('standard_conforming_strings', 'on', false);",
        "SET SESSION/*;*/\"standard_conforming_strings\" = E'on';",
        "RESET standard_conforming_strings;",
    ),
    False: (
        "SET standard_conforming_strings = off;",
        "SET standard_conforming_strings\n--~ ;\nTO 'off';",
        "SELECT set_config('standard_conforming' --~ '\n '_strings', $$off$$, false);",
        "SELECT set_config(E'standard_conforming_string\\x73', 'off', false) AS x;",
    ),
}
ENCODINGS: Final = tuple(sorted(SAFE_ENCODINGS))
LETTERS: Final = ("a", "e", "E", ";", "''", '"', "$", "$$", "--", "/*", "*/", "(", ")", " ", "\n", "B", "é", "\u0a5c")
ESCAPES: Final = ("\\'", "\\\\", "\\n", "\\x41", "\\101", "\\u00e9", "\\;", "\\\n")
COMMENTS: Final = ("--~ ' ; \\ \" $$\n", "--~\n", "--~ /*\n")
INNER: Final = (" ", "\t", " /* ; ' */ ", '/* /* " */ $$ ; */', "/**/")
TAGS: Final = ("$$", "$a$", "$_B9$", "$é$")


class Texts:
    """Makes random texts, which the server takes.

    :param psql: Leave out what psql reads otherwise than the server: it forgets at a line's end that a string in which
        backslashes escape, or do not, may go on.
    """

    def __init__(self, seed: int, *, psql: bool) -> None:
        self.random = random.Random(seed)
        self.psql = psql
        self.standard = True

    def string(self, letters: tuple[str, ...], count: int = 5) -> str:
        """Put some letters together, fewer than a count."""
        return "".join(self.random.choice(letters) for _ in range(self.random.randrange(count)))

    def constant(self) -> tuple[str, bool]:
        """Make a constant, and tell whether it is a string."""
        kind = self.random.choice(("", "", "e", "E", "n", "N", "b", "B", "x", "X", "u&", "U&", "$"))
        if kind == "$":
            tag = self.random.choice(TAGS)
            inner = self.string(("a", ";", "'", '"', "\\", "$", "--", "/*", "\n", " $b$ "))
            return f"{tag}{inner.replace('$$', '$').removesuffix('$').replace(tag, '')} {tag}", True
        if kind in {"u&", "U&"} and not self.standard and not self.psql:
            kind = "b"
        letters, later = {
            "b": (("0", "1"), ("0", "1")),
            "x": (("a", "0"), ("F", "9")),
            "u": ((*LETTERS, "\\0041", "\\\\", "\\+0000e9"), (*LETTERS, "\\0042")),
            "e": ((*LETTERS, *ESCAPES), (*LETTERS, *ESCAPES)),
            "n": (LETTERS, LETTERS),
        }[(kind or "n")[0].lower()]
        if kind in {"", "n", "N"}:
            letters = (*LETTERS, "\\") if self.standard else (*LETTERS, *ESCAPES)
            later = letters
        if self.psql and kind in {"b", "B", "x", "X"}:
            letters = (*letters, "\\", ";")
        if self.psql:
            later = tuple(each for each in later if "\\" not in each) if kind or not self.standard else later
        parts = [f"{kind}'{self.string(letters)}'"]
        while self.random.random() < 0.4:
            lines = ("\n", " \n ", "\t\r\n", "\n\n", "\f\n", "\r", "", "", "")
            gap = self.random.choice(lines) + self.string(COMMENTS, 3)
            if not gap:
                break
            parts.append(f"{gap}{self.string((' ', chr(9)))}'{self.string(later)}'")
        if self.psql and self.random.random() < 0.2:
            # Another string on the same line, which is no part of this one.
            other = self.string((*LETTERS, "\\") if self.standard else (*LETTERS, *ESCAPES))
            parts.append(f" '{other}'")
        return "".join(parts), kind not in {"b", "B", "x", "X"}

    def gap(self) -> str:
        """Make what may stand between tokens."""
        return self.string((*INNER, *COMMENTS, "\n"), 3)

    def statement(self) -> tuple[str, list[bool]]:
        """Make a SELECT of constants; also tell which are strings."""
        items, strings = [], []
        for _ in range(self.random.randrange(1, 5)):
            constant, string = self.constant()
            depth = self.random.choice((0, 0, 0, 1, 2))
            name = self.random.choice(("", "", f' AS "a{self.string(LETTERS[3:]).replace(chr(34), chr(34) * 2)}"'))
            items.append("(" * depth + self.gap() + constant + self.gap() + ")" * depth + name.replace("''", "'"))
            strings.append(string and not depth)
        return f"SELECT {self.gap()}{(',' + self.gap()).join(items)};", strings

    def setting(self) -> str:
        """Now and then say otherwise how backslashes are read, or what encoding follows."""
        if self.random.random() < 0.1:
            self.standard = self.random.random() < 0.6
            return self.random.choice(STRINGS[self.standard])
        if self.psql and self.random.random() < 0.05:
            return f"SET client_encoding = '{self.random.choice(ENCODINGS)}';"
        return ""


def texts_for_psql(seed: int, count: int) -> Iterator[str]:
    """Make texts one behind the other, in one session."""
    made = Texts(seed, psql=True)
    yield STRINGS[True][0]
    for _ in range(count):
        setting = made.setting()
        yield setting + "\n" + made.statement()[0]


def split_by_tokens(statement: Statement) -> str:
    """Say where the tokenizer does not see what the lexer sees: one statement, and nothing that is left open."""
    depth, tokens = 0, list(scan_tokens(statement.text, standard=statement.standard))
    for number, (kind, token) in enumerate(tokens):
        if kind == "sign" and len(token) > 1:
            return f"left open: {token!r}"
        depth += {b"(": 1, b")": -1}.get(token, 0) if kind == "sign" else 0
        if (token == b";" and depth == 0) != (number == len(tokens) - 1):
            return f"ends elsewhere: {tokens[number:]!r}"
    return ""


def test_the_lexer_and_the_tokenizer_agree_with_psql_on_random_texts(server: Server) -> None:
    """Each query that psql sends is one statement of the lexer's, and the tokenizer sees it as one, too."""
    tried = 0
    for seed in range(0, TEXTS, TOGETHER):
        texts = list(texts_for_psql(seed, min(TOGETHER, TEXTS - seed)))
        text = "\n".join(texts).encode() + b"\n"

        theirs, ours = bared(asked_by_psql(text, server.bin_dir)[0]), bared(by_the_lexer(text))
        for our, their in zip(ours, theirs, strict=False):
            assert our == their, seed
        assert len(ours) == len(theirs)
        for event in lex([text]):
            if isinstance(event, Statement):
                assert split_by_tokens(event) == "", event.text
        tried += len(texts) - 1

    assert tried == TEXTS


@pytest.mark.all_majors
def test_the_lexer_and_the_tokenizer_agree_with_the_server_on_random_texts(server: Server) -> None:
    """The server takes each of the lexer's statements as one, and reads the same strings in it."""
    made, checked = Texts(1, psql=False), 0
    with server.connect() as connection:
        send = connection.pgconn.exec_params
        send(b"SET escape_string_warning = off", [])
        for number in range(TEXTS // 4):
            setting = made.setting()
            text, strings = made.statement()
            before = setting or STRINGS[made.standard][0]

            sent = [event for event in lex([f"{before}\n{text}".encode()]) if isinstance(event, Statement)]
            assert [each.text for each in sent] == [before.encode(), text.encode()], number
            results = [send(each.text, []) for each in sent]
            assert results[1].status == pq.ExecStatus.TUPLES_OK, (number, text, results[1].error_message)
            words = TokenReader(sent[1].text, standard=sent[1].standard)
            assert words.skip("SELECT")
            for column, string in enumerate(strings):
                if not string:
                    break
                value = words.string()
                assert value is not None, (number, text)
                assert value.encode() == results[1].get_value(0, column), (number, text)
                checked += 1
                if words.skip("AS"):
                    words.take()
                words.sign(b",")

    assert checked > TEXTS // 10
