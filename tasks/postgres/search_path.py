"""The search_path of a database's own sessions, which pg_dump replaces with an empty one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dumpformat.tokens import TokenReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .connection import Connection
    from .protocol import StatementStream


# The role's setting in this database comes first, then the role's, the database's, that of all roles, the default.
_SETTING = """
SELECT coalesce(
    (SELECT pg_catalog.substr(c.setting, 13)
       FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) AS c(setting)
      WHERE pg_catalog.starts_with(c.setting, 'search_path=')
        AND (s.setrole = 0 OR s.setrole = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = session_user))
        AND (s.setdatabase = 0 OR s.setdatabase =
             (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
      ORDER BY s.setrole = 0, s.setdatabase = 0 LIMIT 1),
    (SELECT boot_val FROM pg_catalog.pg_settings WHERE name = 'search_path')), session_user::pg_catalog.text
"""


def read_search_path(connection: Connection) -> tuple[str, ...]:
    """Return the existing schemas in which sessions of this role look up names in this database, in their order.

    The setting in the server's configuration file is hidden by our own empty one, so PostgreSQL's default stands for
    it.
    """
    row = connection.execute(_SETTING).fetchone()
    assert row is not None  # noqa: S101 - such a query always gives a row
    names = split_search_path(str(row[0]), str(row[1]))
    there = connection.execute("SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname = ANY(%s)", [list(names)])
    found = {str(name) for (name,) in there}
    return tuple(name for name in names if name in found)


def split_search_path(setting: str, user: str) -> tuple[str, ...]:
    """Split a value of search_path into names of schemas.

    :param user: The name that `"$user"` stands for.
    """
    words, found = TokenReader(setting.encode("utf-8", "surrogateescape")), list[str]()
    while name := words.name():
        found.append(user if name == "$user" else name)
        if not words.sign(b","):
            break
    return tuple(dict.fromkeys(found))


def join_search_path(names: Iterable[str]) -> str:
    """Write a search_path of identifiers; PostgreSQL's own schemas are left out, since it searches them anyway."""
    found = dict.fromkeys(name for name in names if name and not name.startswith("pg_"))
    return ", ".join('"{}"'.format(name.replace('"', '""')) for name in found)


class SearchPaths:
    """The search_path of a session that loads a dump, and those to try where a statement is refused.

    No function or operator is called while the dump's own is in force, but with its schema.

    :param recorded: The schemas in which sessions of the dumped database look up names.
    """

    def __init__(self, stream: StatementStream, recorded: Sequence[str]) -> None:
        self._stream = stream
        self._recorded = recorded

    def begin(self) -> None:
        """Look up names as those sessions do, until the dump sets another path, or to the end of the transaction."""
        self.set(join_search_path(self._recorded))

    def show(self) -> str:
        """Return the one that is in force."""
        return _text(self._stream.ask(b"SHOW search_path")[0][0])

    def set(self, path: str) -> None:
        """Set it up to the end of the transaction, or until the dump sets it."""
        literal = path.replace("'", "''").replace("\\", "\\\\").encode("utf-8", "surrogateescape")
        self._stream.run(self._stream.encoded(b"SELECT pg_catalog.set_config('search_path', E'%s', true)" % literal))

    def candidates(self) -> tuple[str, ...]:
        """Return those to try: the recorded one behind the dump's own, then with all other schemas behind both."""
        own = self._names(b"SELECT pg_catalog.unnest(pg_catalog.current_schemas(false))")
        rest = self._names(b"SELECT nspname FROM pg_catalog.pg_namespace")
        others = sorted(name for name in rest if name != "information_schema")
        return join_search_path([*own, *self._recorded]), join_search_path([*own, *self._recorded, *others])

    def _names(self, query: bytes) -> list[str]:
        return [_text(name) for (name,) in self._stream.ask(query)]


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "surrogateescape")
