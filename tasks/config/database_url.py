"""Parse a database URL as libpq does; raise if Prisma would read it differently."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_plus

from ..errors import BadInputError
from ..formatting import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

ENCODE = "in a user's name or password write %40 for @, %3A for :, %2F for /, %3F for ?, %23 for #, %25 for %"

_DIRECT = (
    "give the direct postgresql:// URL in another variable and name it, as in --url-env=DIRECT_URL "
    "(`prisma dev` shows its own when t is pressed)"
)

_NO_URL = (
    (r"^\s*$", "is empty: write postgresql://user:password@host:5432/database"),
    (r"^\s*[\"'`]", "begins with a quote: quotes belong into .env or the shell's line, not into the value"),
    (
        r"\$\{|\[YOUR-PASSWORD\]",
        "holds a placeholder that was not replaced, such as ${VAR}; write %24 for a $ of a password",
    ),
    (r"[\ud800-\udfff]", "is not UTF-8"),
    (r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", "holds a line break or another control character: remove it"),
    (r"^ | $", "begins or ends with a blank: remove it"),
    (r"^jdbc:", "is one for JDBC: leave out jdbc: and write user:password@ before the host"),
    (r"^prisma(\+postgres)?:", f"is one of Prisma's proxy, not of a PostgreSQL server: {_DIRECT}"),
)

# Prisma reads a URL as browsers do; libpq reads most of these as part of the password or the name.
_AMBIGUOUS = (
    ("#", "a #, which ends the URL for Prisma but not for libpq: write %23"),
    (" ", "a blank: write %20"),
    (r"%(?![0-9A-Fa-f]{2})", "a % without two hexadecimal digits after it: write %25 for a % itself"),
    ("%00", "%00, which names and passwords can't contain"),
)

_URL = re.compile(
    r"(?:(?P<user>[^:@/?]*)(?::(?P<password>[^@/?]*))?@)?"
    r"(?P<hosts>[^@/?]*)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?",
    re.DOTALL,
)


def url_body(url: str) -> str:
    """Return the part of a URL after `postgresql://`.

    :raises BadInputError: It is not a PostgreSQL URL, or Prisma and libpq would read it differently.
    """
    for pattern, sentence in _NO_URL:
        if re.search(pattern, url, re.IGNORECASE):
            raise refuse_url(sentence)
    scheme, found, body = url.partition("://")
    if not found or scheme not in ("postgresql", "postgres"):
        raise refuse_url("is not a PostgreSQL URL: it must begin with postgresql:// or postgres://, in lower case")
    for pattern, sentence in _AMBIGUOUS:
        if re.search(pattern, body):
            raise refuse_url(f"holds {sentence}")
    try:
        unquote(body, errors="strict")
    except UnicodeDecodeError:
        raise refuse_url("holds percent-encoded bytes that are not UTF-8") from None
    return body


def split_url(body: str) -> dict[str, str]:
    """Split a URL into user, password, hosts, path and query, as libpq does.

    :raises BadInputError: Prisma would split it differently.
    """
    match = _URL.fullmatch(body)
    parts = {name: text or "" for name, text in match.groupdict().items()} if match else {}
    # Without `user:password@` before the host, an @ most likely belongs to a password with a special character.
    misplaced = match is not None and match["user"] is None and "@" in body
    if match is None or misplaced or "@" in parts["path"]:
        raise refuse_url(f"has an @ in an unexpected place; {ENCODE}")
    if "/" in parts["path"][1:]:
        raise refuse_url(f"has more than one / after the host; {ENCODE}")
    return parts


def url_parameters(query: str) -> dict[str, str]:
    """Return the parameters of a query; the values are not decoded.

    :raises BadInputError: A parameter has no value, or two different ones.
    """
    found: dict[str, str] = {}
    for piece in filter(None, query.split("&")):
        name, equals, raw = piece.partition("=")
        if not name or not equals:
            raise refuse_url(f"has a parameter without a =value after the ?; {ENCODE}")
        if found.setdefault(unquote(name), raw) != raw:
            raise given_twice(unquote(name))
    return found


def judge_url(parts: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    """Return the keywords that libpq's own parser finds in the URL.

    :param parts: The result of :func:`split_url`; the password is not used.
    :param kept: Parameters without secrets; the values are not decoded.
    :raises BadInputError: libpq can't read it, or a value is given twice.
    """
    from psycopg import Error
    from psycopg.conninfo import conninfo_to_dict

    if ambiguous := [name for name, raw in kept.items() if "=" in raw]:
        raise refuse_url(f"has a second = in {ambiguous[0]}: write %3D for the = of a value")
    user = f"{parts['user']}@" if parts["user"] else ""
    plain = f"postgresql://{user}{parts['hosts']}{parts['path']}"
    query = "&".join(f"{name}={raw}" for name, raw in kept.items())
    try:
        before, after = conninfo_to_dict(plain), conninfo_to_dict(f"{plain}?{query}")
    except Error as error:
        # libpq may quote a password in the wrong place, so the message is cut at the first quote.
        reason = str(error).partition('"')[0].strip(" :\n")
        raise refuse_url(f"can't be read by libpq ({reason}); {ENCODE}") from None
    # libpq uses the later value, Prisma the earlier one, except for `host`, where both use the same.
    for name in ("user", "port", "dbname"):
        if before.get(name) not in (None, after.get(name)):
            raise given_twice(name)
    return {name: str(value) for name, value in after.items()}


def refuse_url(what: str) -> BadInputError:
    """Return the error for a URL that can't be used.

    :param what: The predicate of the sentence; it must not hold any value of the URL.
    """
    return BadInputError(f"The database URL {what}.", state="Nothing was contacted.")


def given_twice(name: str) -> BadInputError:
    """Return the error for a parameter with two values."""
    return refuse_url(f"gives {printable(name)} twice, with different values: leave one out")


def with_database(url: str, name: str) -> str:
    """Return a URL with another database name and no other change.

    :param name: Letters, digits and underscores.
    :raises BadInputError: The URL does not name its database after the host.
    """
    scheme, _, rest = url.partition("://")
    found = re.fullmatch(r"([^/?]*)/([^?]*)(\?.*)?", rest, re.DOTALL)
    if found is None or not found[2] or "dbname" in url_parameters((found[3] or "?")[1:]):
        raise refuse_url("does not name its database after the host, as in host:5432/shop")
    return f"{scheme}://{found[1]}/{name}{found[3] or ''}"


_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
VERIFYING = ("verify-ca", "verify-full")

# Without a value of these, the server or database would be ambiguous.
_NEVER_EMPTY = ("host", "port", "user", "dbname", "service", "sslmode")

_PRISMAS_OWN = {
    "connection_limit": "Prisma's own: the size of its pool does not concern a dump",
    "pool_timeout": "Prisma's own: how long it waits for a connection of its pool",
    "socket_timeout": "Prisma's own: a dump or restore may take longer than any query",
    "statement_cache_size": "Prisma's own: its cache of prepared statements",
    "pgbouncer": "Prisma's own: how it talks through PgBouncer",
    "max_connection_lifetime": "Prisma's own: the age at which its pool replaces a connection",
    "max_idle_connection_lifetime": "Prisma's own: how long its pool keeps an idle connection",
    "single_use_connections": "Prisma's own, for the local server of `prisma dev`",
    "api_key": "Prisma's own: the key of its proxy, which is not a PostgreSQL server",
    "uselibpqcompat": "node-postgres' own: it makes node-postgres behave like libpq",
    "search_path": "libpq has no such parameter (only options=-c%20search_path%3D…), "
    "and a dump names every schema itself",
}


@dataclass(frozen=True)
class Change:
    """A parameter of the URL that was translated for libpq or dropped. It holds no secret.

    :param parameter: Its name in the URL.
    :param action: `translated` or `dropped`.
    :param reason: A clause.
    """

    parameter: str
    action: str
    reason: str


class Draft:
    """The parameters of a URL while they are translated from Prisma to libpq.

    :param kept: Parameters by name; the values are not decoded.
    """

    def __init__(self, kept: dict[str, str]) -> None:
        self.kept = kept
        self.added: dict[str, str] = {}
        self.changes: list[Change] = []
        self.schema: str | None = None
        self.pgbouncer = kept.get("pgbouncer") == "true"

    def translate(self, prisma_dir: Path, roots: Callable[[], str]) -> None:
        """Remove the parameters that libpq refuses, and add libpq's equivalents.

        :param prisma_dir: The folder of a relative `sslcert`.
        :param roots: Returns the file of the system's certificates.
        :raises BadInputError: Parameters contradict each other, or a name is in capitals.
        """
        if (schema := self._pop("schema")) is not None:
            self.schema = schema
            self._note("schema", "translated", "Prisma's own: used as the schema of the application")
        if unquote(self.kept.get("sslmode", "")) == "no-verify":
            del self.kept["sslmode"]
            self.added["sslmode"] = "require"
            self._note("sslmode", "translated", "node-postgres' no-verify is TLS without a check: sslmode=require")
        for name in ("ssl", "requiressl"):
            self._old_ssl(name, self._pop(name))
        accept = self._pop("sslaccept")
        self._certificate(prisma_dir, accept)
        self._acceptance(accept, roots)
        known = _defaults().keys()
        for name in sorted(self.kept.keys() - known):
            if name.lower() in known:
                raise refuse_url(f"gives {name.lower()} in capitals, which neither libpq nor Prisma reads")
            del self.kept[name]
            self._note(name, "dropped", _PRISMAS_OWN.get(name, "libpq has no such parameter"))

    def fill_in(self, keywords: dict[str, str]) -> dict[str, str]:
        """Add Prisma's defaults to libpq's keywords, and check them.

        :return: The keywords; host, address, port, user and database first.
        :raises BadInputError: A value is missing or invalid.
        """
        if empty := [name for name in _NEVER_EMPTY if name in self.kept and not keywords.get(name)]:
            raise refuse_url(f"gives {empty[0]} without a value: write one, or leave it out")
        if keywords.get("sslmode", "prefer") not in _SSL_MODES:
            raise refuse_url(f"gives an sslmode that libpq does not know: it is one of {', '.join(_SSL_MODES)}")
        if "service" not in keywords:
            if not keywords.get("dbname"):
                raise refuse_url("names no database: write it after the host, as in host:5432/shop")
            if not keywords.get("host") and not keywords.get("hostaddr"):
                keywords["host"] = "localhost"
                self._note("host", "translated", "none is given: Prisma uses localhost, libpq would use PGHOST")
            keywords["port"] = keywords.get("port") or "5432"
            if "hostaddr" not in keywords and default("hostaddr"):
                keywords["hostaddr"] = ""
                self._note("PGHOSTADDR", "dropped", "libpq would connect to it instead of the URL's host")
        ports = keywords.get("port", "").split(",")
        if not all(re.fullmatch(r"[0-9]{0,5}", port) and 0 < int(port or "1") < 65536 for port in ports):  # noqa: PLR2004
            raise refuse_url(f"gives a port that is not a number from 1 to 65535; {ENCODE}")
        if keywords.get("dbname", "").startswith(("postgresql://", "postgres://")):
            raise refuse_url("holds a second URL where the database's name should be")
        first = ("host", "hostaddr", "port", "user", "dbname")
        return {name: keywords[name] for name in (*first, *keywords) if name in keywords}

    def _certificate(self, prisma_dir: Path, accept: str | None) -> None:
        """Translate Prisma's `sslcert`, the server's CA; with `sslkey` or `sslrootcert` it is libpq's `sslcert`."""
        if "sslcert" not in self.kept or self.kept.keys() & {"sslkey", "sslrootcert"}:
            return
        given = self._pop("sslcert") or ""
        if accept == "accept_invalid_certs" and self._mode not in VERIFYING:
            why = "with sslaccept=accept_invalid_certs nothing is verified"
            self._note("sslcert", "dropped", why)
            return
        # An absolute path is not changed by this.
        self.added["sslrootcert"] = str(prisma_dir.absolute() / given)
        why = "sslrootcert for libpq: Prisma's sslcert is the server's CA; sslmode=require then verifies it"
        self._note("sslcert", "translated", why)

    def _acceptance(self, accept: str | None, roots: Callable[[], str]) -> None:
        """Translate `sslaccept`: `strict` must always verify the certificate and the host name."""
        if accept == "accept_invalid_certs":
            why = "Prisma's own: libpq verifies nothing unless sslmode requires it, and sslmode is not changed"
            self._note("sslaccept", "dropped", why)
        elif accept == "strict":
            if self._mode == "disable":
                raise refuse_url(
                    "asks for sslmode=disable and for sslaccept=strict: without TLS nothing is "
                    "verified; remove one of the two"
                )
            if self._mode not in VERIFYING:
                self.added["sslmode"] = "verify-full"
            why = f"sslmode={self._mode} for libpq"
            if self._mode == "verify-full" and "sslrootcert" not in {*self.kept, *self.added}:
                self.added["sslrootcert"] = roots()
                why += f", and sslrootcert={self.added['sslrootcert']}, the system's certificates"
                if self.added["sslrootcert"] == "system":
                    why += " (pg_dump 15 and older can't read these: add an sslrootcert)"
            self._note("sslaccept", "translated", why)
        elif accept is not None:
            raise refuse_url("gives an sslaccept that is neither strict nor accept_invalid_certs")

    def _old_ssl(self, name: str, value: str | None) -> None:
        """Translate `ssl=true`, which JDBC and libpq 9 used for `sslmode=require`."""
        if value is None:
            return
        if value not in ("true", "1") or self._mode in ("require", *VERIFYING):
            self._note(name, "dropped", "only ssl=true has a meaning for libpq, and sslmode overrides it")
        elif self._mode is not None:
            raise refuse_url(f"asks for sslmode={self._mode} and for TLS with {name}: remove one of the two")
        else:
            self.added["sslmode"] = "require"
            self._note(name, "translated", "sslmode=require, as libpq reads it")

    @property
    def _mode(self) -> str | None:
        return self.added.get("sslmode", unquote(self.kept["sslmode"]) if "sslmode" in self.kept else None)

    def _pop(self, name: str) -> str | None:
        # For Prisma, as for browsers, `+` in a query is a blank; for libpq it is not.
        raw = self.kept.pop(name, None)
        if raw == "":
            raise refuse_url(f"gives {name} without a value: write one, or leave it out")
        return None if raw is None else unquote_plus(raw)

    def _note(self, parameter: str, action: str, reason: str) -> None:
        self.changes.append(Change(parameter=printable(parameter), action=action, reason=reason))


def default(keyword: str) -> str:
    """Return libpq's default for a keyword, from `PG…` variables and the service in PGSERVICE; empty without one."""
    return (_defaults().get(keyword) or b"").decode()


def _defaults() -> dict[str, bytes | None]:
    from psycopg import pq

    return {option.keyword.decode(): option.val for option in pq.Conninfo.get_defaults()}
