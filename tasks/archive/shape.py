"""Whether a document that anybody may have written has the shape that the code relies on."""

from __future__ import annotations

import re
from typing import Any

# A kind; a list of one shape, or of several for exactly as many items; a mapping from names to one shape,
# `{Name: shape}`; an object of known keys, of which those that end in `?` may be missing and others may be more; or
# a tuple of shapes, of which one is enough.
Shape = Any
# Bytes that are no UTF-8 stand as other surrogates, from U+DC80 on.
_LONE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
# What PostgreSQL itself can count to.
_LARGEST = 1 << 63


class Name:
    """A text that PostgreSQL may be asked about, which takes no byte of zero."""


def check(value: object, shape: Shape, where: str = "document") -> None:
    """Compare a value read from JSON with a shape.

    :raises ValueError: It is something else; says where, and nothing of the value.
    """
    if isinstance(shape, tuple):
        if not any(_fits(value, each, where) for each in shape):
            raise _misshapen(where)
    elif isinstance(shape, list) and isinstance(value, list):
        if len(shape) > 1 and len(value) != len(shape):
            raise _misshapen(where)
        for at, each in enumerate(value):
            check(each, shape[at if len(shape) > 1 else 0], where)
    elif isinstance(shape, dict) and isinstance(value, dict):
        _check_keys(value, shape, where)
    elif not _is(value, shape):
        raise _misshapen(where)


def _check_keys(value: dict[str, Any], shape: dict[Any, Shape], where: str) -> None:
    if Name in shape:
        for key, each in value.items():
            check(key, Name, where)
            check(each, shape[Name], where)
        return
    for key, inner in shape.items():
        name = key.removesuffix("?")
        if name in value:
            check(value[name], inner, f"{where}.{name}" if where != "document" else name)
        elif name == key:
            raise ValueError(f"it lacks {name!r}")


def _fits(value: object, shape: Shape, where: str) -> bool:
    try:
        check(value, shape, where)
    except ValueError:
        return False
    return True


def _is(value: object, kind: object) -> bool:
    if kind is None:
        return value is None
    if kind is Name:
        return isinstance(value, str) and "\0" not in value and _LONE.search(value) is None
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and -_LARGEST <= value < _LARGEST
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST
    return isinstance(kind, type) and isinstance(value, kind)


def _misshapen(where: str) -> ValueError:
    return ValueError(f"its {where!r} is not what it should be")
