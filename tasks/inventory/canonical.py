"""The canonical form of PostgreSQL's text of expressions and queries (`pg_get_expr`, `pg_get_viewdef` …).

That text is not invariant under dump and reload: the parser reads some of it into another tree, which is then
written in another way. :func:`canonical` gives both texts one form. It is a pure function on tokens: it needs no
server and no rights. It knows these rewritings and no others, so that two different definitions stay different:

* A cast of an array constructor is pushed into its elements: `(ARRAY['a'::character varying])::text[]` becomes
  `ARRAY[('a'::character varying)::text]`.
* AND within AND, and OR within OR, are flattened: `((a AND b) AND c)` becomes `(a AND b AND c)`.
* A minus sign becomes part of its number: `(- 1)` becomes `'-1'::integer`.
* `NO INDENT` in XMLSERIALIZE is left out, as 14 and 15 do.
* A column of a subquery gets the name of its cast: `NULL::integer` becomes `NULL::integer AS int4`.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator


# A token, or a bracketed group with its brackets.
Node: TypeAlias = "str | list[Node]"

_TOKEN = re.compile(
    r"""\s*(?P<token>[eE]'[^\\']*(?:(?:\\.|'')[^\\']*)*'|[bBxX]?'[^']*(?:''[^']*)*'|"[^"]*(?:""[^"]*)*"
        |[^\W\d][\w$]*|\$?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|::|[-+*/<>=~!@\#%^&|`?]+|.)""",
    re.DOTALL | re.VERBOSE,
)
_KEYWORD = re.compile(r"[A-Z_]+\Z")
_CLOSING = {"(": ")", "[": "]"}
_GLUED_AFTER = frozenset({"(", "[", ".", "::"})
_GLUED_BEFORE = frozenset({")", "]", ",", ";", ".", "::", "["})
_OPERATORS = frozenset("-+*/<>=~!@#%^&|`?:")
# The words that may follow the first word of a type's name.
_MORE_OF_TYPE = {
    "character": frozenset({"varying"}),
    "bit": frozenset({"varying"}),
    "double": frozenset({"precision"}),
    "time": frozenset({"with", "without", "time", "zone"}),
    "timestamp": frozenset({"with", "without", "time", "zone"}),
    "interval": frozenset({"year", "month", "day", "hour", "minute", "second", "to"}),
}
# The parser's names of types. A column without an alias gets such a name.
_PARSED_AS = {
    "bigint": "int8",
    "bit varying": "varbit",
    "boolean": "bool",
    "character": "bpchar",
    "character varying": "varchar",
    "double precision": "float8",
    "integer": "int4",
    "real": "float4",
    "smallint": "int2",
    "time with time zone": "timetz",
    "time without time zone": "time",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
}
# How a type is written without a modifier, if the plain name means a modifier of 1.
_WITHOUT_MODIFIER = {"bit": '"bit"', "character": "bpchar"}
# Tokens of `timestamp (3) without time zone []`, with some reserve.
_LONGEST_TYPE = 12
_CACHED = 4096
# Text to which a rewriting may apply: an array, a chain of three, a negative number, a subquery.
_REWRITTEN = re.compile(r"ARRAY *\[|\bAND\b.*\bAND\b|\bOR\b.*\bOR\b|'-[\d.]|\(- |\bSELECT\b", re.DOTALL)


@functools.lru_cache(maxsize=_CACHED)
def canonical(text: str) -> str:
    """Return the form that a text and its reload share. The function is idempotent.

    :param text: As a server writes it, without pretty-printing, with `quote_all_identifiers` off.
    """
    nodes = _parse(text)
    return text if nodes is None else "".join(_written(nodes))


def may_be_rewritten(text: str) -> bool:
    """Return whether a reload may change this text or may have changed it; True if in doubt."""
    return _REWRITTEN.search(text) is not None


def _parse(text: str) -> list[Node] | None:
    """Return the tokens as nested brackets, rewritten from the inside out; None if brackets don't match."""
    level: list[Node] = []
    outer: list[list[Node]] = []
    for found in _TOKEN.finditer(text):
        token = found["token"]
        if token in _CLOSING:
            outer.append(level)
            level = [token]
        elif token in {")", "]"}:
            if not outer or _CLOSING.get(str(level[0])) != token:
                return None
            group = [*_rewritten(level), token]
            level = outer.pop()
            level.append(group)
        else:
            level.append(token)
    return None if outer else _rewritten(level)


def _written(nodes: list[Node]) -> Iterator[str]:
    """Yield the tokens, with blanks that depend on the tokens alone."""
    before = ""
    rest: list[Iterator[Node]] = [iter(nodes)]
    while rest:
        node = next(rest[-1], None)
        if node is None:
            rest.pop()
        elif isinstance(node, list):
            rest.append(iter(node))
        else:
            if before and not _glued(before, node):
                yield " "
            yield node
            before = node


def _glued(before: str, after: str) -> bool:
    if before in _GLUED_AFTER or after in _GLUED_BEFORE:
        return True
    # No blank between a function's name and its arguments, but one after a keyword.
    return after == "(" and not (before in {",", ")"} or before[-1] in _OPERATORS or _KEYWORD.match(before))


def _rewritten(level: list[Node]) -> list[Node]:
    return _without_alias(_flattened(_pushed(_negated(_without_default(level)))))


def _without_default(level: list[Node]) -> list[Node]:
    """Remove NO INDENT in XMLSERIALIZE: it is the default, and servers before 16 do not write it."""
    if "INDENT" not in level[-1:] or level[-2:-1] != ["NO"]:
        return level
    return level[:-2]


def _negated(level: list[Node]) -> list[Node]:
    """Make a minus sign part of its number, where both have brackets of their own."""
    found: list[Node] = []
    for node in level:
        number = node[2] if isinstance(node, list) and len(node) == 4 and node[:2] == ["(", "-"] else None  # noqa: PLR2004
        if not isinstance(number, str) or not number[0].isdigit():
            found.append(node)
        elif number.strip("0.") == "":
            found.append(number)
        else:
            found += [f"'-{number}'", "::", "integer" if number.isdigit() else "numeric"]
    return found


def _pushed(level: list[Node]) -> list[Node]:
    """Push casts of array constructors into their elements."""
    at = 1
    while (at := _index(level, "::", at)) > 0:
        elements, behind = _elements(level[at - 1]), _behind_type(level, at + 1)
        if elements is not None and behind > at + 2 and level[behind - 1] == ["[", "]"]:
            _cast_elements(elements, level[at + 1 : behind - 1])
            level = [*level[: at - 1], "ARRAY", elements, *level[behind:]]
        else:
            at += 1
    return level


def _index(level: list[Node], token: str, start: int) -> int:
    try:
        return level.index(token, start)
    except ValueError:
        return -1


def _elements(node: Node) -> list[Node] | None:
    """Return the `[…]` of a node that is `(ARRAY[…])`."""
    if isinstance(node, list) and len(node) == 4 and node[:2] == ["(", "ARRAY"]:  # noqa: PLR2004
        return node[2] if isinstance(node[2], list) else None
    return None


def _behind_type(level: list[Node], at: int) -> int:
    """Return the index after a type with its modifiers and `[]`, whose name begins at `at`."""
    end, more = at + 1, _MORE_OF_TYPE.get(str(level[at]), frozenset()) if at < len(level) else frozenset()
    while end < len(level):
        node = level[end]
        named = node == "." or level[end - 1] == "."
        if not (named or node == ["[", "]"] or (isinstance(node, str) and node in more) or _is_modifier(node)):
            break
        end += 1
    return end


def _is_modifier(node: Node) -> bool:
    return isinstance(node, list) and node[0] == "(" and all(isinstance(each, str) for each in node)


def _cast_elements(array: list[Node], element: list[Node]) -> None:
    """Cast each element of `[…]`, also of inner arrays, in place."""
    waiting = [array]
    while waiting:
        group = waiting.pop()
        cast: list[Node] = []
        for each in _split(group[1:-1]):
            inner = each[1] if len(each) == 2 and each[0] == "ARRAY" else None  # noqa: PLR2004
            if isinstance(inner, list):
                waiting.append(inner)
                cast += each
            else:
                cast += _cast(each, element)
            cast.append(",")
        group[1:-1] = cast[:-1]


def _split(nodes: list[Node]) -> Iterator[list[Node]]:
    """Split a list at its commas."""
    part: list[Node] = []
    for node in nodes:
        if node == ",":
            yield part
            part = []
        else:
            part.append(node)
    if part:
        yield part


def _cast(expression: list[Node], type_: list[Node]) -> list[Node]:
    """Write a cast as the server does: a constant that already has the type only gets the modifier, no second cast."""
    plain = [each for each in type_ if not isinstance(each, list)]
    if plain[0] == "interval":
        # Its fields are a part of the modifier: `interval day to second(3)`.
        plain = plain[:1]
    if len(plain) < len(type_) and isinstance(expression[0], str):
        if expression[1:] in (["::", *plain], ["::", *(_WITHOUT_MODIFIER.get(str(each), each) for each in plain)]):
            return [expression[0], "::", *type_]
        if plain == ["numeric"] and len(expression) == 1 and "." in expression[0] and expression[0][0].isdigit():
            return [expression[0], "::", *type_]
    return [["(", *expression, ")"], "::", *type_]


def _flattened(level: list[Node]) -> list[Node]:
    """Merge nested chains of AND into the outer chain of AND; the same for OR."""
    word = next((each for each in ("AND", "OR") if each in level), None)
    if word is None or level[0] != "(" or not _is_chain(level):
        return level
    found: list[Node] = []
    for at, node in enumerate(level):
        alone = level[at - 1] in ("(", word) and (at + 1 == len(level) or level[at + 1] == word)
        if alone and isinstance(node, list) and node[0] == "(" and word in node and _is_chain(node):
            found += node[1:-1]
        else:
            found.append(node)
    return found


def _is_chain(node: list[Node]) -> bool:
    """Return whether the AND or OR in a bracket joins its operands, and is no part of a query or a BETWEEN."""
    return "SELECT" not in node and "BETWEEN" not in node


def _without_alias(level: list[Node]) -> list[Node]:
    """Remove column aliases that the parser would choose anyway: those that are the name of a cast's type."""
    at = 1
    while (at := _index(level, "AS", at)) > 0:
        name = _cast_name(level[max(at - _LONGEST_TYPE, 0) : at])
        if name and [_unquoted(each) for each in level[at + 1 : at + 2]] == [name]:
            level = [*level[:at], *level[at + 2 :]]
        at += 1
    return level


def _cast_name(nodes: list[Node]) -> str:
    """Return the name that the parser gives to a column that ends in a cast, also with COLLATE; empty for another."""
    last = nodes[-1]
    if isinstance(last, list) and "COLLATE" in last and "::" in last:
        nodes = last[: last.index("COLLATE")]
    for start in range(len(nodes) - 1, 0, -1):
        if nodes[start] == "::":
            return _parsed_name(nodes[start + 1 :]) if _behind_type(nodes, start + 1) == len(nodes) else ""
    return ""


def _parsed_name(type_: list[Node]) -> str:
    words = [_unquoted(each) for each in type_ if isinstance(each, str)]
    return words[-1] if "." in words else _PARSED_AS.get(" ".join(words), words[0] if words else "")


def _unquoted(node: Node) -> str:
    return node[1:-1].replace('""', '"') if isinstance(node, str) and node.startswith('"') else str(node)
