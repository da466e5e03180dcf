"""Statements that hold names and literals, and nothing that is called: told by one look at their whole text.

No comment, no dollar quote and no parenthesis passes outside a string: a quote in one of them would hide what the
server runs. Each part is possessive, as a hostile text must not make it try every way.
"""

from __future__ import annotations

import re

_STRING = rb"'[^']*+(?:''[^']*+)*+'"
_LITERALS = (
    rb"""(?:[^()'"eE$/;-]|(?<![A-Za-z0-9_$\x80-\xff])[eE]'(?:[^'\\]|\\.|'')*+'|[eE](?!')|%s|-(?!-)|/(?!\*))*+"""
    % _STRING
)
_NAME = rb'(?:"(?:[^"]|"")*+"|[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+)'
_SELECTS = re.compile(
    rb"""SELECT\s+(?:
        (?:pg_catalog\.)?set_config\(\s*'search_path'\s*,\s*'[^']*'\s*,\s*false\s*\)
        |pg_catalog\.(?:lo_create|lo_open|lowrite|lo_close|lo_unlink)\(%(a)s\)
        |pg_catalog\.lo_unlink\(oid\)\s+FROM\s+pg_catalog\.pg_largeobject_metadata\s+WHERE\s+oid\s=\s'\d+'
        |CASE\s+WHEN\s+EXISTS\(SELECT\s1\sFROM\spg_catalog\.pg_largeobject_metadata\sWHERE\soid\s=\s'\d+'\)
         \s+THEN\s+pg_catalog\.lo_unlink\('\d+'\)\s+END
        |\*\s+FROM\s+pg_catalog\.pg_restore_(?:relation|attribute)_stats\(%(a)s\)
        )\s*;\Z"""
    % {b"a": _LITERALS},
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_INSERTS = re.compile(
    rb"""INSERT\s+INTO\s+%(n)s(?:\.%(n)s)?\s+(?:\((?:[^()"'$/;-]|"(?:[^"]|"")*+")*+\)\s+)?
         (?:OVERRIDING\s+(?:SYSTEM|USER)\s+VALUE\s+)?
         (?:DEFAULT\s+VALUES|VALUES\s*+\(%(a)s\)(?:\s*+,\s*+\(%(a)s\))*+)
         \s*+(?:ON\s+CONFLICT\s+DO\s+NOTHING\s*+)?;\Z"""
    % {b"n": _NAME, b"a": _LITERALS},
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


def selects(text: bytes) -> bool:
    """Whether it is one of pg_dump's own SELECTs: of the search path, of large objects, of statistics."""
    return _SELECTS.match(text) is not None


def inserts(text: bytes) -> bool:
    """Whether it is an INSERT of rows that are written out."""
    return _INSERTS.match(text) is not None
