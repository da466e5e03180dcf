"""Documents and code use the field's terms: a list of words that say too little, and where they may occur."""

from __future__ import annotations

import functools
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [*(ROOT / "docs").glob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
)
MODULES = sorted((ROOT / "tasks").rglob("*.py"))

# A pattern for each word, with what to write instead.
ODD = {
    r"goes|went": "is deleted, is written, follows",
    r"stays?|stayed": "is kept, remains",
    r"stands?|stood": "is in, is listed",
    r"tells?|told|telling": "reports, a note; return, distinguish",
    r"wants?|wanted": "needs, requests",
    r"besides?": "next to, except, compared with",
    r"whoever|nobody|anybody|somebody": "a role, a session, no one",
    r"mends?|mended": "fixes",
    r"vouch(?:es|ed)?": "proves, covers",
    r"sweeps?|swept": "deletes",
    r"foresees?|foreseen|foresight": "forecast",
    r"tak(?:e|es|en) away|took away": "removes",
    r"br(?:ing|ings|ought) back": "restores",
    r"com(?:e|es) to nothing|came to nothing": "is rolled back, is not committed",
    r"in itself": "(leave out)",
    r"of ours|of one's own|of its own kind": "our",
    r"but for": "except",
    r"all the same": "(leave out)",
    r"rightly|for ever|in the very": "(leave out)",
    r"whole": "all, complete",
}
# Plain uses of these words, each with its reason.
ALLOWED = (
    r"whole numbers?",  # mathematics
    r"whole database",  # all schemas of it, as opposed to those of a dump
)
# Text that is quoted: code, and what the tasks print, which the test of `tasks/` counts.
QUOTED = re.compile(
    r"<!-- rights -->.*?<!-- end -->|<!--.*?-->|^```.*?^```|^ {4}[^\n]*|`[^`\n]+`|\]\([^)]*\)", re.MULTILINE | re.DOTALL
)
# Occurrences in `tasks/` when this was written. Lower them when you lower the count; never raise them.
CEILINGS = {
    r"goes|went": 0,
    r"stays?|stayed": 1,
    r"stands?|stood": 0,
    r"tells?|told|telling": 3,
    r"wants?|wanted": 11,
    r"besides?": 0,
    r"whoever|nobody|anybody|somebody": 3,
    r"mends?|mended": 0,
    r"vouch(?:es|ed)?": 0,
    r"sweeps?|swept": 0,
    r"foresees?|foreseen|foresight": 0,
    r"tak(?:e|es|en) away|took away": 0,
    r"br(?:ing|ings|ought) back": 0,
    r"com(?:e|es) to nothing|came to nothing": 0,
    r"in itself": 0,
    r"of ours|of one's own|of its own kind": 0,
    r"but for": 0,
    r"all the same": 0,
    r"rightly|for ever|in the very": 0,
    r"whole": 5,
}


def odd_words(text: str) -> Counter[str]:
    """Count the odd words of a text, by their pattern in `ODD`, without the allowed uses."""
    plain = re.sub("|".join(rf"\b(?:{each})\b" for each in ALLOWED), " ", text, flags=re.IGNORECASE)
    counts = {word: len(re.findall(rf"\b(?:{word})\b", plain, flags=re.IGNORECASE)) for word in ODD}
    return Counter({word: count for word, count in counts.items() if count})


def _without_quotes(text: str) -> str:
    """Leave the quoted text out, and keep the lines."""
    return QUOTED.sub(lambda found: " " + "\n" * found[0].count("\n"), text)


@functools.cache
def _code_words() -> Counter[str]:
    return sum((odd_words(path.read_text(encoding="utf-8")) for path in MODULES), Counter())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_documents_use_no_odd_words(path: Path) -> None:
    """Each is reported with its line and what to write instead."""
    lines = _without_quotes(path.read_text(encoding="utf-8")).splitlines()

    found = [
        f"{path.name}:{number}: {word} (better: {ODD[word]}): {line.strip()[:120]}"
        for number, line in enumerate(lines, 1)
        for word in odd_words(line)
    ]

    assert found == []


@pytest.mark.parametrize("word", ODD)
def test_odd_words_in_the_code_only_become_fewer(word: str) -> None:
    """Comments, docstrings, messages and names of `tasks/` hold each word at most as often as before."""
    assert _code_words()[word] <= CEILINGS[word]


def test_quotes_and_allowed_uses_do_not_count() -> None:
    """Code, links and messages are left out; the words around them are not."""
    text = "A whole number `told` [told](told.md).\n\n    told\n\n```\ntold\n```\n\nHe told of a whole row.\n"

    assert odd_words(_without_quotes(text)) == {"tells?|told|telling": 2, "whole": 1}
