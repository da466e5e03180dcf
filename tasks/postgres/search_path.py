"""The search_path of the sessions of a database, which pg_dump replaces with an empty one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dumpformat.tokens import TokenReader, decode_name, encode_name
from .connection import Connection, one, read_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .protocol import StatementStream


# The order of precedence: the role's setting in this database, the role's, the database's, that of all roles, the
# default.
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

    A setting in the server's configuration file can't be read, because our own empty search_path hides it; PostgreSQL's
    default is used instead.
    """
    setting, user = one(connection, _SETTING)
    names = split_search_path(str(setting), str(user))
    query = "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname = ANY(%s)"
    found = read_names(connection, query, [list(names)])
    return tuple(name for name in names if name in found)


def split_search_path(setting: str, user: str) -> tuple[str, ...]:
    """Return the schemas in a value of search_path.

    :param user: The name that replaces `"$user"`.
    """
    tokens, found = TokenReader(encode_name(setting)), list[str]()
    while name := tokens.name():
        found.append(user if name == "$user" else name)
        if not tokens.sign(b","):
            break
    return tuple(dict.fromkeys(found))


def join_search_path(names: Iterable[str]) -> str:
    """Return a search_path of quoted names, without PostgreSQL's own schemas, which it searches anyway."""
    found = dict.fromkeys(name for name in names if name and not name.startswith("pg_"))
    return ", ".join('"{}"'.format(name.replace('"', '""')) for name in found)


class SearchPaths:
    """The search_path of a session that loads a dump, and the paths to try if a statement is refused.

    While the dump's own search_path is set, all our calls of functions and operators name the schema.

    :param recorded: The schemas in which sessions of the dumped database look up names.
    """

    def __init__(self, stream: StatementStream, recorded: Sequence[str]) -> None:
        self._stream = stream
        self._recorded = recorded

    def begin(self, *, session: bool = False) -> None:
        """Set the recorded path, as :meth:`set` does."""
        self.set(join_search_path(self._recorded), session=session)

    def show(self) -> str:
        """Return the current path."""
        return self._names(b"SHOW search_path")[0]

    def set(self, path: str, *, session: bool = False) -> None:
        """Set the path, until the dump sets another one or the transaction ends.

        :param session: Until the session ends, instead of the transaction.
        """
        literal = encode_name(path.replace("'", "''").replace("\\", "\\\\"))
        scope = b"false" if session else b"true"
        call = b"SELECT pg_catalog.set_config('search_path', E'%s', %s)" % (literal, scope)
        self._stream.run(self._stream.encoded(call))

    def candidates(self) -> tuple[str, ...]:
        """Return the paths to try: the dump's with the recorded one added, then also with all other schemas added."""
        own = self._names(b"SELECT pg_catalog.unnest(pg_catalog.current_schemas(false))")
        rest = self._names(b"SELECT nspname FROM pg_catalog.pg_namespace")
        others = sorted(name for name in rest if name != "information_schema")
        return join_search_path([*own, *self._recorded]), join_search_path([*own, *self._recorded, *others])

    def _names(self, query: bytes) -> list[str]:
        return [decode_name(name or b"") for (name,) in self._stream.ask(query)]
