"""Find the tables and schemas that `--table=` and `--schema=` name, exactly or by a pattern of pg_dump."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ..errors import BadInputError
from ..formatting import format_list, show_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    Key = tuple[str, str]

Item = TypeVar("Item")
_WILDCARDS = {"*": ".*", "?": ".", "$": r"\$"}
# Characters that pg_dump interprets outside quotes, most of them as in a regular expression.
_SPECIAL = frozenset("*?+|()[]{}^\\")
_PARTS = 2


@dataclass(frozen=True)
class NamePattern:
    """A pattern of psql and pg_dump: lower case except in `"…"`, with `*` and `?`.

    :ivar parts: A regular expression for each part between dots; quoted text is case-sensitive in it.
    :ivar folded: The same with lower case outside quotes, as pg_dump reads it.
    :ivar is_name: Whether it has no wildcards outside quotes.
    """

    parts: tuple[str, ...]
    folded: tuple[str, ...]
    is_name: bool


def parse_pattern(text: str) -> NamePattern:
    """Parse a pattern.

    :raises ValueError: It is invalid. The message is the reason.
    """
    parts, folded, quoted, is_name, at = [""], [""], False, True, 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == '"':
            if not quoted or text[at : at + 1] != '"':
                quoted = not quoted
                continue
            at += 1
        elif char == "." and not quoted:
            parts.append("")
            folded.append("")
            continue
        elif not quoted and char in _SPECIAL | _WILDCARDS.keys():
            # Empty brackets are part of the name, as in psql.
            brackets = "[]" if text[at - 1 : at + 1] == "[]" else ""
            at += len(brackets[1:])
            is_name = is_name and bool(brackets or char == "$")
            each = re.escape(brackets) or _WILDCARDS.get(char, char)
            parts[-1] += each
            folded[-1] += each
            continue
        parts[-1] += f"(?-i:{re.escape(char)})" if quoted else re.escape(char)
        folded[-1] += re.escape(char if quoted else char.lower())
    if quoted:
        raise ValueError("a double quote is not closed")
    for each in (*parts, *folded):
        try:
            re.compile(each)
        except (re.error, RecursionError, OverflowError):
            raise ValueError("it is not a valid pattern") from None
    return NamePattern(parts=tuple(parts), folded=tuple(folded), is_name=is_name)


def match_tables(text: str, tables: Iterable[Key], search_path: Sequence[str] = ()) -> list[Key]:
    """Return the tables that a text names, in the given order.

    Tries in turn the exact name (also as `schema.name`, and in quotes), pg_dump's pattern, and the pattern without
    regard to case; returns the tables of the first that matches any. Without a schema in the text, tables on the search
    path are returned; if there are none, those of other schemas.

    :raises ValueError: The pattern is invalid. The message is the reason.
    """
    pattern = parse_pattern(text)
    if len(pattern.parts) > _PARTS:
        found = [key for key in tables if text in _exact_forms(key)]
        if found:
            return found
        raise ValueError("it has more than one dot. Put a name that contains dots in double quotes")
    found = _first_found(
        list(tables),
        lambda key: text in _exact_forms(key),
        lambda key: _fits(pattern.folded, key),
        lambda key: _fits(pattern.parts, key, re.IGNORECASE),
    )
    return found if len(pattern.parts) == _PARTS else _visible(found, search_path)


def match_schemas(text: str, schemas: Iterable[str]) -> list[str]:
    """Return the schemas that a text names, by the rules of :func:`match_tables`.

    :raises ValueError: The pattern is invalid. The message is the reason.
    """
    pattern = parse_pattern(text)
    tests = [lambda name: name == text]
    if len(pattern.parts) == 1:
        tests.append(lambda name: _fits(pattern.folded, ("", name)))
        tests.append(lambda name: _fits(pattern.parts, ("", name), re.IGNORECASE))
    return _first_found(list(schemas), *tests)


def require_schemas(flag: str, texts: Iterable[str], schemas: Collection[str], source: str) -> list[str]:
    """Return the schemas that the values of a flag name, by the rules of :func:`match_tables`.

    :raises BadInputError: A value names no schema, or has no wildcards and names several.
    """

    def match(text: str) -> list[Key]:
        return [("", name) for name in match_schemas(text, schemas)]

    keys = [("", name) for name in schemas]
    return [name for _, name in _require(flag, texts, keys, match, f"{source} has no such schema")]


def require_tables(
    flag: str, texts: Iterable[str], tables: Collection[Key], source: str, search_path: Sequence[str] = ()
) -> list[Key]:
    """Return the tables that the values of a flag name, each once, in the given order.

    :param flag: Such as `--table`.
    :param source: The name of the database or dump in messages.
    :raises BadInputError: A value names no table, or has no wildcards and names several.
    """
    return _require(
        flag, texts, tables, lambda text: match_tables(text, tables, search_path), f"{source} has no such table"
    )


def _require(
    flag: str, texts: Iterable[str], names: Collection[Key], match: Callable[[str], list[Key]], absent: str
) -> list[Key]:
    chosen: set[Key] = set()
    for text in texts:
        try:
            found = match(text)
            is_name = parse_pattern(text).is_name
        except ValueError as error:
            raise BadInputError(f"{flag}={text}: {error}. Nothing was touched.") from None
        shown = format_list([show_name(key) for key in found or sorted(names)])
        if not found:
            has = f"It has: {shown}." if names else "It has none."
            raise BadInputError(f"{flag}={text}: {absent}. {has} Nothing was touched.")
        if is_name and len(found) > 1:
            raise BadInputError(
                f"{flag}={text}: {len(found)} have this name: {shown}. Nothing was touched. Choose one of them."
            )
        chosen.update(found)
    return [key for key in names if key in chosen]


def _exact_forms(key: Key) -> tuple[str, ...]:
    schema, name = key
    quoted = ['"{}"'.format(part.replace('"', '""')) for part in key]
    return name, quoted[1], f"{schema}.{name}", f"{schema}.{quoted[1]}", f"{quoted[0]}.{name}", ".".join(quoted)


def _fits(parts: Sequence[str], key: Key, flags: int = 0) -> bool:
    return all(
        re.fullmatch(part, name, flags | re.DOTALL) is not None
        for part, name in zip(reversed(parts), reversed(key), strict=False)
    )


def _first_found(items: list[Item], *tests: Callable[[Item], bool]) -> list[Item]:
    return next(filter(None, ([each for each in items if test(each)] for test in tests)), [])


def _visible(tables: list[Key], search_path: Sequence[str]) -> list[Key]:
    """Return the tables that a name without a schema finds on the search path; all tables if it finds none."""
    first: dict[str, int] = {}
    order = {schema: at for at, schema in reversed(list(enumerate(search_path)))}
    for schema, name in tables:
        if schema in order:
            first[name] = min(first.get(name, len(order)), order[schema])
    return [key for key in tables if first.get(key[1]) == order.get(key[0], -1)] or tables
