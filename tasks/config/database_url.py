"""The text of a URL: cut as libpq cuts it, refused where Prisma would cut or read it differently."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, unquote_plus

from psycopg import Error, pq
from psycopg.conninfo import conninfo_to_dict

from ..errors import BadInputError
from ..formatting import printable

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
        "holds a placeholder that nothing has filled in, such as ${VAR}; a $ of a password is written %24",
    ),
    (r"[\ud800-\udfff]", "is no UTF-8"),
    (r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", "holds a line break or another control character: remove it"),
    (r"^ | $", "begins or ends with a blank: remove it"),
    (r"^jdbc:", "is one for JDBC: leave out jdbc: and write user:password@ before the host"),
    (r"^prisma(\+postgres)?:", f"leads to Prisma's proxy and not to a PostgreSQL server: {_DIRECT}"),
)

# Prisma reads a URL as browsers do; libpq takes most of these for a part of the password or the name.
_AMBIGUOUS = (
    ("#", "a #, which Prisma takes for the end of the URL and libpq does not: write %23"),
    (" ", "a blank: write %20"),
    (r"%(?![0-9A-Fa-f]{2})", "a % that no two hexadecimal digits follow: write %25 for a % itself"),
    ("%00", "%00, which no name and no password can hold"),
)

_URL = re.compile(
    r"(?:(?P<user>[^:@/?]*)(?::(?P<password>[^@/?]*))?@)?"
    r"(?P<hosts>[^@/?]*)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?",
    re.DOTALL,
)


def url_body(url: str) -> str:
    """Refuse what is no PostgreSQL URL, or one that Prisma and libpq would read differently.

    :return: What follows `postgresql://`.
    """
    for pattern, sentence in _NO_URL:
        if re.search(pattern, url, re.IGNORECASE):
            raise refuse_url(sentence)
    scheme, found, body = url.partition("://")
    if not found or scheme not in ("postgresql", "postgres"):
        raise refuse_url("is no PostgreSQL URL: it must begin with postgresql:// or postgres://, in small letters")
    for pattern, sentence in _AMBIGUOUS:
        if re.search(pattern, body):
            raise refuse_url(f"holds {sentence}")
    try:
        unquote(body, errors="strict")
    except UnicodeDecodeError:
        raise refuse_url("holds percent-encoded bytes that are no UTF-8") from None
    return body


def split_url(body: str) -> dict[str, str]:
    """Cut the URL as libpq does, where Prisma cuts it at the same places; else refuse it."""
    match = _URL.fullmatch(body)
    parts = {name: text or "" for name, text in match.groupdict().items()} if match else {}
    # Without `user:password@` before the host, an @ is most likely the end of a cut password.
    loose = match is not None and match["user"] is None and "@" in body
    if match is None or loose or "@" in parts["path"]:
        raise refuse_url(f"has an @ in an unexpected place; {ENCODE}")
    if "/" in parts["path"][1:]:
        raise refuse_url(f"has more than one / after the host; {ENCODE}")
    return parts


def url_parameters(query: str) -> dict[str, str]:
    """Read the query into values as written; the same parameter twice is refused, not guessed."""
    found: dict[str, str] = {}
    for piece in filter(None, query.split("&")):
        name, equals, raw = piece.partition("=")
        if not name or not equals:
            raise refuse_url(f"has a parameter without a =value after the ?; {ENCODE}")
        if found.setdefault(unquote(name), raw) != raw:
            raise given_twice(unquote(name))
    return found


def judge_url(parts: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    """Let libpq's own parser read the URL, which holds no secret any more."""
    if ambiguous := [name for name, raw in kept.items() if "=" in raw]:
        raise refuse_url(f"has a second = in {ambiguous[0]}: write %3D for the = of a value")
    user = f"{parts['user']}@" if parts["user"] else ""
    plain = f"postgresql://{user}{parts['hosts']}{parts['path']}"
    query = "&".join(f"{name}={raw}" for name, raw in kept.items())
    try:
        before, after = conninfo_to_dict(plain), conninfo_to_dict(f"{plain}?{query}")
    except Error as error:
        # What libpq quotes may be a password in the wrong place: nothing from the first quote on.
        said = str(error).partition('"')[0].strip(" :\n")
        raise refuse_url(f"can't be read by libpq ({said}); {ENCODE}") from None
    # libpq takes the later one, Prisma the earlier one; `host` is the exception, where both agree.
    for name in ("user", "port", "dbname"):
        if before.get(name) not in (None, after.get(name)):
            raise given_twice(name)
    return {name: str(value) for name, value in after.items()}


def refuse_url(what: str) -> BadInputError:
    """Make the error of a URL that is not taken; `what` never holds a value of it."""
    return BadInputError(f"The database URL {what}. Nothing was contacted.")


def given_twice(name: str) -> BadInputError:
    """Make the error of a parameter that has two values."""
    return refuse_url(f"gives {printable(name)} twice, with different values: leave one out")


def with_database(url: str, name: str) -> str:
    """Give a URL, as a person wrote it, another database, and change nothing else.

    :param name: Letters, digits and underscores.
    :raises BadInputError: It names its database otherwise than behind the host.
    """
    scheme, _, rest = url.partition("://")
    found = re.fullmatch(r"([^/?]*)/([^?]*)(\?.*)?", rest, re.DOTALL)
    if found is None or not found[2] or "dbname" in url_parameters((found[3] or "?")[1:]):
        raise refuse_url("does not name its database behind the host, as in host:5432/shop")
    return f"{scheme}://{found[1]}/{name}{found[3] or ''}"


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
        if unquote(self.kept.get("sslmode", "")) == "no-verify":
            del self.kept["sslmode"]
            self.added["sslmode"] = "require"
            self._note("sslmode", "translated", "node-postgres' no-verify is TLS without a check: sslmode=require")
        for name in ("ssl", "requiressl"):
            self._old_ssl(name, self._pop(name))
        accept = self._pop("sslaccept")
        self._certificate(prisma_dir, accept)
        self._acceptance(accept, roots)
        known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
        for name in sorted(self.kept.keys() - known):
            if name.lower() in known:
                raise refuse_url(f"gives {name.lower()} in capitals, which neither libpq nor Prisma reads")
            del self.kept[name]
            self._note(name, "dropped", _PRISMAS_OWN.get(name, "libpq knows no such parameter"))

    def fill_in(self, keywords: dict[str, str]) -> dict[str, str]:
        """Write out Prisma's defaults, and check what must not be missing.

        :return: The keywords, where to connect first.
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
                self._note("host", "translated", "none is given: Prisma means localhost, libpq asks PGHOST")
            keywords["port"] = keywords.get("port") or "5432"
            if "hostaddr" not in keywords and default("hostaddr"):
                keywords["hostaddr"] = ""
                self._note(
                    "PGHOSTADDR", "dropped", "it would lead libpq elsewhere than the URL's host, as Prisma reads it"
                )
        if not all(_is_port(port) for port in keywords.get("port", "").split(",")):
            raise refuse_url(f"gives a port that is no number from 1 to 65535; {ENCODE}")
        if keywords.get("dbname", "").startswith(("postgresql://", "postgres://")):
            raise refuse_url("holds a second URL where the database's name should be")
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
                raise refuse_url(
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
            raise refuse_url("gives an sslaccept that is neither strict nor accept_invalid_certs")

    def _old_ssl(self, name: str, value: str | None) -> None:
        """`ssl=true` is what JDBC and libpq 9 wrote for `sslmode=require`."""
        if value is None:
            return
        if value not in ("true", "1") or self._mode in ("require", *_VERIFYING):
            self._note(name, "dropped", "only ssl=true means something to libpq, and sslmode goes before it")
        elif self._mode is not None:
            raise refuse_url(f"asks for sslmode={self._mode} and for TLS with {name}: remove one of the two")
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
            raise refuse_url(f"gives {name} without a value: write one, or leave it out")
        return None if raw is None else unquote_plus(raw)

    def _note(self, parameter: str, action: str, reason: str) -> None:
        self.changes.append(Change(parameter=printable(parameter), action=action, reason=reason))


def default(keyword: str) -> str:
    """What libpq would fill in, from `PG…` variables and from a service that PGSERVICE names."""
    options = pq.Conninfo.get_defaults()
    return next((o.val.decode() for o in options if o.keyword.decode() == keyword and o.val), "")


def _is_port(port: str) -> bool:
    return re.fullmatch(r"[0-9]{0,5}", port) is not None and 0 < int(port or "1") < 65536  # noqa: PLR2004
