"""Map PostgreSQL's encodings to Python's, and decode names in them."""

from __future__ import annotations

import codecs
import functools
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from .tokens import decode_name, encode_name

if TYPE_CHECKING:
    from .statements import StatementKind

_PAGES: Final = {"latin5": 9, "latin6": 10, "latin7": 13, "latin8": 14, "latin9": 15, "latin10": 16}
_ALIASES: Final = {
    "unicode": "utf-8",
    "sqlascii": "utf-8",
    "koi8": "koi8_r",
    "koi8r": "koi8_r",
    "koi8u": "koi8_u",
    "win": "cp1251",
    "alt": "cp866",
    "abc": "cp1258",
    "tcvn": "cp1258",
    "tcvn5712": "cp1258",
    "vscii": "cp1258",
    "euccn": "gb2312",
    "eucjp": "euc_jp",
    "euckr": "euc_kr",
    "eucjis2004": "euc_jis_2004",
    **{name: f"iso8859_{page}" for name, page in _PAGES.items()},
}
_WINDOWS: Final = re.compile(r"win(?:dows)?(\d+)")


@functools.lru_cache(maxsize=64)
def python_encoding(name: str) -> str:
    """Return Python's name of a PostgreSQL encoding (source: `pg_encname_tbl` in src/common/encnames.c).

    :return: `utf-8` if Python does not have the encoding; decode with `surrogateescape`, so that no byte is lost.
    """
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    windows = _WINDOWS.fullmatch(plain)
    found = f"cp{windows[1]}" if windows else _ALIASES.get(plain, plain)
    try:
        return codecs.lookup(found).name
    except LookupError:
        return "utf-8"


def recode_name(name: str, encoding: str) -> str:
    """Return a name that :func:`decode_name` decoded as UTF-8, decoded from its real encoding.

    :param encoding: Python's name of that encoding.
    """
    return name if name.isascii() else encode_name(name).decode(encoding, "surrogateescape")


def raw_name(name: str, encoding: str) -> str:
    """Return a name as :func:`decode_name` decodes it; the inverse of :func:`recode_name`."""
    return name if name.isascii() else decode_name(name.encode(encoding, "surrogateescape"))


def recode_kind(kind: StatementKind, encoding: str) -> StatementKind:
    """Return a statement's kind with its names decoded from the encoding of its text."""
    schema, name, *roles = (recode_name(each, encoding) for each in (kind.schema, kind.name, *kind.roles))
    return replace(kind, schema=schema, name=name, roles=tuple(roles))
