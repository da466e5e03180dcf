"""Every SQL text in `tasks/`, and the names in it that a foreign search_path could resolve to something else."""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

TASKS = Path(__file__).parent.parent / "tasks"

# Types that PostgreSQL's grammar itself looks up in pg_catalog; any other name is searched for.
_GRAMMAR_TYPES = frozenset({"int", "integer", "bigint", "smallint", "boolean", "interval", "numeric", "varchar"})
# Functions that the grammar itself looks up in pg_catalog, or that are no function.
_GRAMMAR = frozenset(
    {"coalesce", "greatest", "least", "nullif", "extract", "exists", "any", "all", "row", "array", "values", "cast"}
    | {"varchar", "numeric", "interval", "in", "not", "and", "or", "using", "filter", "over", "left", "right"}
)
_SQL = re.compile(
    r"\b(SELECT|CREATE (?:DATABASE|SCHEMA|TABLE)|INSERT INTO|UPDATE|DELETE FROM|LOCK TABLE|COPY)\b"
    r"|\b(FROM|JOIN) pg_|\bpg_catalog\.|::[a-z]|^\s*WITH\s"
    # Parts of texts have no such word, but perhaps a call.
    r"|(?<![\w.\\])[a-z_]\w*\("
)
# A text for people begins with words.
_PROSE = re.compile(r"^[A-Z][a-z]+ |^[a-z]+ [a-z]+ ")
_CTE = re.compile(r"\b(\w+)\s*(?:\([\w\s,]*\))?\s+AS\s+(?:MATERIALIZED\s+)?\(", re.IGNORECASE)
_CALL = re.compile(r"(?<![\w.\"}])([a-z_][a-z0-9_]*)\s*\(")
_ALIAS = re.compile(r"\bAS\s+\w+\s*\([^)]*\)|\)\s+\w+\s*\((?=\w+[,)])[^)]*\)")
_CAST = re.compile(r"::\s*([a-z_][a-z0-9_]*)(?![\w.])")
_FROM = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE|LOCK TABLE|COPY)\s+(?:ONLY\s+|LATERAL\s+)?([a-z_][a-z0-9_]*)(?![\w.(])")
_REGCLASS = re.compile(r"'([^']*)'(?=::(?:pg_catalog\.)?reg(?:class|type|proc|oper))")
# Common table expressions that several texts begin with, and what COPY knows.
_SHARED = frozenset({"trusted", "inside", "stdin", "stdout"})
# Of a table's column.
_COLUMN = re.compile(r"\bCREATE TABLE\b.*", re.DOTALL)
_SEARCHED = re.compile(r"(?<=[a-z_] )(text|timestamptz|jsonb|json|oid|int[248]|float[48])\b(?=[ ,)])")


@dataclass(frozen=True)
class Text:
    """A text of ours, with where it stands."""

    where: str
    sql: str


@functools.cache
def texts() -> tuple[Text, ...]:
    """Collect what looks like SQL among all string constants of the package, once."""
    found = []
    # In `dumpformat` no text is ever sent to a server: it reads what dumps hold.
    paths = [path for path in sorted(TASKS.rglob("*.py")) if path.parent.name != "dumpformat"]
    for path in paths:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        # The parts of an f-string belong to it; what calls inside it are given are texts of their own.
        inner = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        docs = {
            id(node.body[0].value)
            for node in nodes
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in nodes:
            text = _text(node, inner)
            if text is not None and id(node) not in docs and is_sql(text):
                line = getattr(node, "lineno", 0)
                found.append(Text(f"{path.relative_to(TASKS.parent)}:{line}", text))
    return tuple(found)


def is_sql(text: str) -> bool:
    """Say whether a text looks like SQL, or a part of it."""
    return bool(_SQL.search(text)) and not _PROSE.search(_bare(text))


def _text(node: ast.AST, inner: Collection[int]) -> str | None:
    """Give a constant as text; of an f-string, what is filled in as `{}`."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if not isinstance(node, ast.Constant) or id(node) in inner:
        return None
    if isinstance(node.value, bytes):
        return node.value.decode("ascii", "replace")
    return node.value if isinstance(node.value, str) else None


def _bare(text: str) -> str:
    """Leave comments out, and the content of literals and quoted names."""
    return re.sub(r"'(?:[^']|'')*'", "''", re.sub(r"--[^\n]*", "", re.sub(r'"(?:[^"]|"")*"', '""', text)))


def unqualified(text: str, functions: Collection[str]) -> Iterator[str]:
    """Name what is not qualified in an SQL text.

    :param functions: The names of PostgreSQL's own functions.
    """
    bare = _bare(text)
    known = {name.lower() for name in _CTE.findall(bare)} | _SHARED
    for name in _CALL.findall(_ALIAS.sub(" ", bare)):
        if name in functions and name not in _GRAMMAR and name not in known:
            yield f"{name}()"
    for name in _CAST.findall(bare):
        if name not in _GRAMMAR_TYPES:
            yield f"::{name}"
    for created in _COLUMN.findall(bare):
        yield from _SEARCHED.findall(created)
    # EXTRACT(epoch FROM x) and IS DISTINCT FROM x read nothing.
    for name in _FROM.findall(re.sub(r"\bDISTINCT FROM\b|extract\(\w+ FROM", " ", bare, flags=re.IGNORECASE)):
        if name not in known:
            yield f"FROM {name}"
    for literal in _REGCLASS.findall(text):
        if literal and not literal.startswith(("pg_catalog.", "{")):
            yield f"'{literal}'"
