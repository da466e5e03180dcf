"""Find the objects that differ between two databases, and the parts that differ."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from .canonical import canonical, may_be_rewritten
from .definition_parts import DETAILS, default_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .objects import Definition, Objects


class What(StrEnum):
    """The way in which an object differs.

    `TEXT`: the facts agree, an expression does not. `UNKNOWN`: digests of format 1 differ, but perhaps only because
    PostgreSQL rewrote an expression.
    """

    MISSING = "missing"
    EXTRA = "extra"
    DIFFERENT = "different"
    TEXT = "text"
    UNKNOWN = "unknown"


# Characters shown of a text that differs, and of those the characters before the first difference.
_EXCERPT = 160
_BEFORE = 40
_NAME = r'(?:"(?:[^"]|"")*"|[^\s".]+)'
# The label before each text of the kinds that may have several.
_LABELED = re.compile(
    rf"(?:(?P<of>{_NAME}(?:\.{_NAME})?) )?(?P<label>DEFAULT|USING|WITH CHECK|PARTITION BY|CHECK|WHERE)\b"
)
_SEVERAL = ("table", "view", "policy", "type", "publication")
# The name of the only text of other kinds.
_TEXTS = {"function": "arguments", "statistics": "expressions"}
_BODIES = {"function": "body", "view": "query", "rule": "query"}


@dataclass(frozen=True)
class DefinitionChange:
    """A part of a definition that differs.

    :ivar part: Such as `column "total"`, `DEFAULT of total`, `state`.
    :ivar expected: Its words or its text; None if the part should not exist. `found` likewise.
    """

    part: str
    expected: str | None
    found: str | None

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.part} is missing, expected {_excerpt(self.expected or '', 0)}"
        if self.expected is None:
            return f"{self.part} is {_excerpt(self.found, 0)}, expected none"
        lines = list(itertools.zip_longest(self.expected.splitlines(), self.found.splitlines(), fillvalue=""))
        at, (left, right) = next(
            ((at, pair) for at, pair in enumerate(lines, 1) if pair[0] != pair[1]), (1, (self.expected, self.found))
        )
        left, right = _excerpts(left.strip(), right.strip())
        return f"{f'line {at} of ' * (len(lines) > 1)}{self.part} is {right}, expected {left}"


def _excerpts(expected: str, found: str) -> tuple[str, str]:
    """Return an excerpt of each of two texts, from shortly before their first difference."""
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(expected, found, strict=False)))
    begin = max(same - _BEFORE, 0) if max(len(expected), len(found)) > _EXCERPT else 0
    return _excerpt(expected, begin), _excerpt(found, begin)


def _excerpt(text: str, begin: int) -> str:
    end = begin + _EXCERPT
    return ("… " * (begin > 0) + text[begin:end] + " …" * (len(text) > end)) or "empty"


@dataclass(frozen=True)
class Difference:
    """An object that differs.

    :ivar changes: The parts of its definition that differ; empty if only digests are known.
    """

    kind: str
    name: str
    what: What
    changes: tuple[DefinitionChange, ...] = ()


def compare_objects(expected: Objects, found: Objects, *, same_major: bool) -> list[Difference]:
    """Return the objects that differ between two databases.

    :param same_major: Whether both servers have one major version, so that all texts can be compared.
    """
    differences = []
    for kind in found:
        # The manifest of another version may have other kinds. Only kinds that both have are compared.
        if kind not in expected:
            continue
        before, now = expected[kind], found[kind]
        for name in sorted(before.keys() | now.keys()):
            if name not in now:
                differences.append(Difference(kind=kind, name=name, what=What.MISSING))
            elif name not in before:
                differences.append(Difference(kind=kind, name=name, what=What.EXTRA))
            elif (what := _difference(before[name], now[name], same_major=same_major)) is not None:
                changes = tuple(_changes(kind, before[name], now[name], same_major=same_major))
                differences.append(Difference(kind=kind, name=name, what=what, changes=changes))
    return differences


def _difference(expected: Definition, have: Definition, *, same_major: bool) -> What | None:
    if not expected.facts or not have.facts:
        return _difference_of_digests(expected, have, same_major=same_major)
    if expected.facts != have.facts or (same_major and expected.local != have.local):
        return What.DIFFERENT
    return What.TEXT if _texts_differ(expected, have, same_major=same_major) else None


def _difference_of_digests(expected: Definition, have: Definition, *, same_major: bool) -> What | None:
    """Compare the digests of format 1, each of which covers facts and texts."""
    if expected.digests is None or have.digests is None:
        return None
    of_facts, of_body = (one == other for one, other in zip(expected.digests, have.digests, strict=True))
    if of_facts and (of_body or not same_major):
        return None
    rewritten = any(may_be_rewritten(each) for side in (expected, have) for each in (*side.texts, *side.bodies))
    return What.UNKNOWN if rewritten else What.DIFFERENT


def _texts_differ(expected: Definition, have: Definition, *, same_major: bool) -> bool:
    pairs = [(expected.texts, have.texts), *([(expected.bodies, have.bodies)] if same_major else [])]
    return any(
        _is_another(left, right)
        for one, other in pairs
        for left, right in itertools.zip_longest(one, other, fillvalue="")
    )


def _is_another(left: str, right: str) -> bool:
    # The manifest may come from a version that knew fewer rewritings.
    return left != right and canonical(left) != canonical(right)


def _changes(kind: str, expected: Definition, have: Definition, *, same_major: bool) -> Iterator[DefinitionChange]:
    """Yield the parts that differ, as far as both sides have them."""
    if expected.parts is not None and have.parts is not None:
        for part in dict.fromkeys((*expected.parts, *have.parts)):
            # These facts depend on the major version.
            if part == DETAILS and not same_major:
                continue
            default = default_words(part)
            words, found = expected.parts.get(part, default), have.parts.get(part, default)
            if words != found:
                yield DefinitionChange(part=part, expected=words, found=found)
    if not expected.facts or not have.facts:
        # Digests of format 1 have no texts.
        return
    pairs = [_labeled(kind, _TEXTS, each.texts) for each in (expected, have)]
    bodies = [_labeled(kind, _BODIES, each.bodies) for each in (expected, have)]
    for left, right in (pairs, bodies) if same_major else (pairs,):
        for part in dict.fromkeys((*left, *right)):
            if _is_another(left.get(part, ""), right.get(part, "")):
                yield DefinitionChange(part=part, expected=left.get(part), found=right.get(part))


def _labeled(kind: str, names: Mapping[str, str], texts: Iterable[str]) -> dict[str, str]:
    """Return the texts of an object by their labels, or by the name of the only text."""
    named: dict[str, str] = {}
    for text in texts:
        label = _LABELED.match(text) if kind in _SEVERAL and names is _TEXTS else None
        if label is None:
            part, content = names.get(kind, "definition"), text
        else:
            part, content = label["label"] + (f" of {label['of']}" if label["of"] else ""), text[label.end() :].strip()
        named[part] = content
    return named
