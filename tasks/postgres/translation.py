"""The parameters of a URL, from Prisma's meaning to libpq's."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, unquote_plus

from psycopg import pq

from ..errors import printable
from .url import ENCODE, refused

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_VERIFYING = ("verify-ca", "verify-full")

# An empty one of these leaves open which server or database is meant.
_NEVER_EMPTY = ("host", "port", "user", "dbname", "service", "sslmode")

_PRISMAS_OWN = {
    "connection_limit": "Prisma's own: the size of its pool means nothing to a dump",
    "pool_timeout": "Prisma's own: how long it waits for a connection of its pool",
    "socket_timeout": "Prisma's own: a dump or restore may take longer than any query",
    "statement_cache_size": "Prisma's own: its cache of prepared statements",
    "pgbouncer": "Prisma's own: how it talks through PgBouncer",
    "max_connection_lifetime": "Prisma's own: the age at which its pool replaces a connection",
    "max_idle_connection_lifetime": "Prisma's own: how long its pool keeps an idle connection",
    "single_use_connections": "Prisma's own, for the local server of `prisma dev`",
    "api_key": "Prisma's own: the key of its proxy, which is no PostgreSQL server",
    "uselibpqcompat": "node-postgres' own: libpq needs no telling to behave like libpq",
    "search_path": "libpq knows no such parameter (it has options=-c%20search_path%3D…), "
    "and a dump names every schema itself",
}


@dataclass(frozen=True)
class Change:
    """One parameter that libpq does not get as written; never its value when that is a secret.

    :param parameter: Its name in the URL.
    :param action: `translated` or `dropped`.
    :param reason: Part of a sentence.
    """

    parameter: str
    action: str
    reason: str


class Draft:
    """The parameters on their way from Prisma's meaning to libpq's.

    :param kept: Parameters by name, values as written in the URL.
    """

    def __init__(self, kept: dict[str, str]) -> None:
        self.kept = kept
        self.added: dict[str, str] = {}
        self.changes: list[Change] = []
        self.schema: str | None = None
        self.pgbouncer = kept.get("pgbouncer") == "true"

    def translate(self, prisma_dir: Path, roots: Callable[[], str]) -> None:
        """Take out what libpq refuses, and write what it means in libpq's words."""
        if (schema := self._pop("schema")) is not None:
            self.schema = schema
            self._note("schema", "translated", "Prisma's own: remembered as the schema that Prisma uses")
        for name in ("ssl", "requiressl"):
            self._old_ssl(name, self._pop(name))
        accept = self._pop("sslaccept")
        self._certificate(prisma_dir, accept)
        self._acceptance(accept, roots)
        known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
        for name in sorted(self.kept.keys() - known):
            if name.lower() in known:
                raise refused(f"gives {name.lower()} in capitals, which neither libpq nor Prisma reads")
            del self.kept[name]
            self._note(name, "dropped", _PRISMAS_OWN.get(name, "libpq knows no such parameter"))

    def fill_in(self, keywords: dict[str, str]) -> dict[str, str]:
        """Write out Prisma's defaults, and check what must not be missing.

        :return: The keywords, where to connect first.
        """
        if empty := [name for name in _NEVER_EMPTY if name in self.kept and not keywords.get(name)]:
            raise refused(f"gives {empty[0]} without a value: write one, or leave it out")
        if keywords.get("sslmode", "prefer") not in _SSL_MODES:
            raise refused(f"gives an sslmode that libpq does not know: it is one of {', '.join(_SSL_MODES)}")
        if "service" not in keywords:
            if not keywords.get("dbname"):
                raise refused("names no database: write it after the host, as in host:5432/shop")
            if not keywords.get("host") and not keywords.get("hostaddr"):
                keywords["host"] = "localhost"
                self._note("host", "translated", "none is given: Prisma means localhost, libpq asks PGHOST")
            keywords["port"] = keywords.get("port") or "5432"
            if "hostaddr" not in keywords and default("hostaddr"):
                keywords["hostaddr"] = ""
                self._note(
                    "PGHOSTADDR", "dropped", "it would lead libpq elsewhere than the URL's host, as Prisma reads it"
                )
        if not all(_is_port(port) for port in keywords.get("port", "").split(",")):
            raise refused(f"gives a port that is no number from 1 to 65535; {ENCODE}")
        if keywords.get("dbname", "").startswith(("postgresql://", "postgres://")):
            raise refused("holds a second URL where the database's name should be")
        first = ("host", "hostaddr", "port", "user", "dbname")
        return {name: keywords[name] for name in (*first, *keywords) if name in keywords}

    def _certificate(self, prisma_dir: Path, accept: str | None) -> None:
        """Prisma's `sslcert` is the server's CA; beside libpq's own parameters it is libpq's."""
        if "sslcert" not in self.kept or self.kept.keys() & {"sslkey", "sslrootcert"}:
            return
        given = self._pop("sslcert") or ""
        if accept == "accept_invalid_certs" and self._mode not in _VERIFYING:
            why = "sslaccept=accept_invalid_certs says that nothing is verified"
            self._note("sslcert", "dropped", why)
            return
        # An absolute path stays what it is.
        self.added["sslrootcert"] = str(prisma_dir.absolute() / given)
        why = "sslrootcert for libpq: Prisma's sslcert is the server's CA; sslmode=require then verifies it"
        self._note("sslcert", "translated", why)

    def _acceptance(self, accept: str | None, roots: Callable[[], str]) -> None:
        """`sslaccept=strict` verifies certificate and host name, and must never come to less."""
        if accept == "accept_invalid_certs":
            why = "Prisma's own: libpq verifies nothing unless sslmode says so, and sslmode stands as it is"
            self._note("sslaccept", "dropped", why)
        elif accept == "strict":
            if self._mode == "disable":
                raise refused(
                    "asks for sslmode=disable and for sslaccept=strict: without TLS nothing is "
                    "verified; remove one of the two"
                )
            if self._mode not in _VERIFYING:
                self.added["sslmode"] = "verify-full"
            why = f"sslmode={self._mode} for libpq"
            if self._mode == "verify-full" and not self._has_roots:
                self.added["sslrootcert"] = roots()
                why += f", and sslrootcert={self.added['sslrootcert']}, the system's certificates"
                if self.added["sslrootcert"] == "system":
                    why += " (pg_dump 15 and older can't read these: add an sslrootcert)"
            self._note("sslaccept", "translated", why)
        elif accept is not None:
            raise refused("gives an sslaccept that is neither strict nor accept_invalid_certs")

    def _old_ssl(self, name: str, value: str | None) -> None:
        """`ssl=true` is what JDBC and libpq 9 wrote for `sslmode=require`."""
        if value is None:
            return
        if value not in ("true", "1") or self._mode in ("require", *_VERIFYING):
            self._note(name, "dropped", "only ssl=true means something to libpq, and sslmode goes before it")
        elif self._mode is not None:
            raise refused(f"asks for sslmode={self._mode} and for TLS with {name}: remove one of the two")
        else:
            self.added["sslmode"] = "require"
            self._note(name, "translated", "sslmode=require, as libpq reads it")

    @property
    def _mode(self) -> str | None:
        return self.added.get("sslmode", unquote(self.kept["sslmode"]) if "sslmode" in self.kept else None)

    @property
    def _has_roots(self) -> bool:
        return "sslrootcert" in self.kept or "sslrootcert" in self.added

    def _pop(self, name: str) -> str | None:
        # Prisma reads a query as browsers do, `+` for a blank; libpq does not.
        raw = self.kept.pop(name, None)
        if raw == "":
            raise refused(f"gives {name} without a value: write one, or leave it out")
        return None if raw is None else unquote_plus(raw)

    def _note(self, parameter: str, action: str, reason: str) -> None:
        self.changes.append(Change(printable(parameter), action, reason))


def default(keyword: str) -> str:
    """What libpq would fill in, from `PG…` variables and from a service that PGSERVICE names."""
    options = pq.Conninfo.get_defaults()
    return next((o.val.decode() for o in options if o.keyword.decode() == keyword and o.val), "")


def _is_port(port: str) -> bool:
    return re.fullmatch(r"[0-9]{0,5}", port) is not None and 0 < int(port or "1") < 65536  # noqa: PLR2004
