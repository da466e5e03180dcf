"""Statements that an older server does not know."""

from __future__ import annotations

import re

# The major that brought it (release notes, "Migration" and "Changes"), how a dump writes it, how people call it.
_NEW = (
    (15, rb"\bNULLS NOT DISTINCT\b", "NULLS NOT DISTINCT"),
    (15, rb"\bsecurity_invoker\b", "security_invoker of views"),
    (
        15,
        rb"\bPUBLICATION\b.*\b(?:TABLES IN SCHEMA|WHERE)\b|\bPUBLICATION\b.*\bADD TABLE ONLY\b[^;]*\(",
        "this publication",
    ),
    (15, rb"\bSET (?:NULL|DEFAULT) \(", "SET NULL of some columns of a foreign key"),
    (16, rb"\bCREATE COLLATION\b.*\brules\b", "rules of collations"),
    (17, rb"\bMAINTAIN\b", "the privilege MAINTAIN (--no-acl leaves out all grants)"),
    (17, rb"\bJSON_TABLE\b|\bJSON_(?:EXISTS|QUERY|VALUE)\b|\bMERGE_ACTION\b", "these SQL/JSON functions"),
    (17, rb"\bprovider = builtin\b", "collations of the provider builtin"),
    (18, rb"\bNOT ENFORCED\b", "NOT ENFORCED"),
    (18, rb"\bWITHOUT OVERLAPS\b", "WITHOUT OVERLAPS"),
    (18, rb"\bPERIOD\b", "PERIOD in foreign keys"),
    (18, rb"\bNOT NULL\b[^,]*\bNOT VALID\b|\bADD CONSTRAINT\b[^,]*\bNOT NULL\b", "NOT NULL as a constraint of its own"),
    (18, rb"\bNOT NULL NO INHERIT\b", "NOT NULL NO INHERIT"),
    (18, rb"\bGENERATED ALWAYS AS \((?:(?! STORED).)*?\)(?=,?\s*(?:\n|\)|\Z))", "virtual generated columns"),
)
# Syntax error, feature not supported, undefined object, parameter, function, column, table, invalid value.
_UNKNOWN = frozenset({"42601", "0A000", "42704", "22023", "42883", "42703", "42P01", "42P17", "42P16", "42710"})


def explain_version(statement: bytes, sqlstate: str, dumped: str, version: str) -> str:
    """Say of a statement that was refused that it comes from a newer server; empty where that is not why.

    :param dumped: The version of the server that was dumped, as its dump says; `version` that of the server here.
    """
    major, here = dumped.split(".", maxsplit=1)[0], int(version.split(".", maxsplit=1)[0])
    if sqlstate not in _UNKNOWN or not major.isdigit() or int(major) <= here:
        return ""
    found = [
        f"{name}, which came with {since}"
        for since, pattern, name in _NEW
        if here < since <= int(major) and re.search(pattern, statement, re.DOTALL)
    ]
    what = f"does not know {found[0]}" if found else "may not know what this statement says"
    return f" The dump comes from PostgreSQL {dumped}; this server is {version} and {what}."
