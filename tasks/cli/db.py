"""The tasks of `db` as functions for Python; each returns its result (docs/json.md)."""

from .checks import doctor, migrations, verify
from .dumps import dump, gunzip, gzip, inspect, show, undos, url
from .dumps import list_ as list  # noqa: A004 - as on the command line
from .restores import generate, migrate, rehearse, reset, restore, undo
from .retention import delete, pin, prune

__all__ = [
    "delete",
    "doctor",
    "dump",
    "generate",
    "gunzip",
    "gzip",
    "inspect",
    "list",
    "migrate",
    "migrations",
    "pin",
    "prune",
    "rehearse",
    "reset",
    "restore",
    "show",
    "undo",
    "undos",
    "url",
    "verify",
]
