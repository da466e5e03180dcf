"""The door: one URL in, libpq keywords and the secrets apart out.

Prisma and libpq read almost the same URLs. What only Prisma knows is translated or dropped, and told;
what the two would read differently is refused, since a restore must reach the database that Prisma
reaches. The password is cut out before libpq's parser sees the rest, so no message can quote it.

Sources: the manual's chapter 32.1 (connection strings), and `quaint/src/connector/postgres/url.rs` of
Prisma's engines, which says what Prisma does with each parameter.
"""

import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote, unquote, unquote_plus

from psycopg import Error, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ..errors import BadInputError

MASK = "****"

# libpq shows the first three as `*`; the SCRAM keys log in as well as a password does.
SECRETS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")

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

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

_ENCODE = "in a user's name or password write %40 for @, %3A for :, %2F for /, %3F for ?, %23 for #, %25 for %"

_DIRECT = (
    "give the direct postgresql:// URL in another variable and name it, as in --url-env=DIRECT_URL "
    "(`prisma dev` shows its own when t is pressed)"
)

_SSLIDENTITY = (
    "The database URL gives sslidentity, a PKCS#12 file, which libpq can't read; nothing was contacted. Take "
    "certificate and key out of it (`openssl pkcs12 -in FILE -clcerts -nokeys -out client.crt`, then with "
    "`-nocerts -nodes -out client.key`), give them as sslcert= and sslkey= in the URL of another variable, "
    "and name that one with --url-env."
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


@dataclass(frozen=True)
class Target:
    """A database as libpq is told to reach it, the secrets apart.

    :param keywords: libpq's keywords without any secret; they may stand in an argv.
    :param secrets: `password` and the like, decoded; only those that were given.
    :param schema: Prisma's `?schema=`, None when the URL has none (Prisma then means `public`).
    :param changes: What libpq does not get as written.
    :param pooled: Whether the URL leads to a transaction pooler, through which dumps fail.
    :param written: The secrets as they stood in the URL, for `scrub`.
    """

    keywords: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)
    schema: str | None = None
    changes: tuple[Change, ...] = ()
    pooled: bool = False
    written: tuple[str, ...] = field(default=(), repr=False)

    def conninfo(self, **overrides: str | int | None) -> str:
        """Give the connection string without any secret: safe in an argv.

        :param overrides: Keywords to set, or with None to leave out.
        :raises ValueError: an override is a secret.
        """
        if not overrides.keys().isdisjoint(SECRETS):
            raise ValueError("a secret does not belong in a connection string")
        return make_conninfo("", **{**self.keywords, **overrides})

    def connect_kwargs(self) -> dict[str, str]:
        """Give what `psycopg.connect(**kwargs)` takes, secrets included."""
        return {**self.keywords, **self.secrets}

    def child_environment(self) -> dict[str, str]:
        """Give what a libpq program needs in its environment beside the connection string.

        :return: `PGPASSWORD`, when there is a password.
        :raises BadInputError: a secret is given that libpq takes from no environment variable
            (`sslpassword`): it could only travel in the argv, for every user to read.
        """
        if stuck := sorted(self.secrets.keys() - {"password"}):
            raise BadInputError(
                f"The database URL gives {stuck[0]}, which PostgreSQL's programs take from no environment "
                "variable, and on their command line every user could read it; nothing was started. Put "
                "it into ~/.pg_service.conf and write service=NAME in the URL."
            )
        return {"PGPASSWORD": self.secrets["password"]} if "password" in self.secrets else {}

    @property
    def host(self) -> str:
        """The host or socket folder, several with commas; empty when only a service knows."""
        return self._known("host") or self._known("hostaddr")

    @property
    def port(self) -> str:
        """The port, several with commas."""
        return self._known("port")

    @property
    def database(self) -> str:
        """The database's name; empty when only a service knows."""
        return self._known("dbname")

    @property
    def user(self) -> str:
        """The role that connects."""
        return self._known("user")

    @property
    def label(self) -> str:
        """Name the database for people: `shop at db.example.com:5432`."""
        if "service" in self.keywords and "host" not in self.keywords:
            where = f"service {self.keywords['service']}"
        else:
            known = {name: self._known(name) for name in ("host", "hostaddr", "port")}
            where = ", ".join(_endpoint(*end) for end in _endpoints(known))
        return _printable(f"{self.database or 'a database'} at {where}")

    @property
    def masked(self) -> str:
        """Give the connection string for people, every secret as `****`."""
        return _printable(" ".join([self.conninfo(), *(f"{name}={MASK}" for name in self.secrets)]))

    def scrub(self, text: str) -> str:
        """Replace the secrets in a text with `****`, in every form that libpq or a URL gives them.

        A secret shorter than four characters, or one that is part of a name shown anyway (`postgres`),
        is replaced only where it stands as a password (`:x@`, `password=x`): elsewhere it would garble
        the message and tell that they are equal.
        """
        for secret in _forms([*self.secrets.values(), *self.written]):
            text = re.sub(self._pattern(secret), MASK, text)
        return text

    def _pattern(self, secret: str) -> str:
        shown = ("postgresql", "password", self.label, self.schema or "", *self.keywords.values())
        found = re.escape(secret)
        if len(secret) >= 4 and not any(secret in name for name in shown):  # noqa: PLR2004
            return found
        return rf"(?<=:){found}(?=@)|(?i:(?<=password=)|(?<=password=')){found}(?!\w)"

    def _known(self, keyword: str) -> str:
        """What the URL says, else what libpq fills in: `PG…` variables and built-in defaults."""
        # A service file goes before both.
        if keyword in self.keywords or "service" in self.keywords:
            return self.keywords.get(keyword, "")
        options = pq.Conninfo.get_defaults()
        return next((o.val.decode() for o in options if o.keyword.decode() == keyword and o.val), "")


def system_roots() -> str:
    """Give the file of the operating system's trusted certificates, for `sslrootcert`.

    `sslrootcert=system` is for libpq 16 and newer only, and the OpenSSL inside psycopg's binary wheels
    looks for the system's certificates in a folder that no machine has; a file's path works in all.

    :return: A path, or `system` when no usual place holds such a file.
    """
    found = ssl.get_default_verify_paths().cafile
    return found or next((path for path in _BUNDLES if Path(path).is_file()), "system")


def sanitize(url: str, *, prisma_dir: Path | None = None, roots: Callable[[], str] = system_roots) -> Target:
    """Translate a Prisma-style URL into what libpq accepts.

    Every parameter of libpq is kept byte for byte. Where Prisma has a default of its own and libpq asks
    the environment, Prisma's is written out: no host is `localhost`, no port is 5432, so that both reach
    the same server.

    :param url: `postgresql://` URL as written in `.env`; never changed.
    :param prisma_dir: Where a relative `sslcert` lies; `./prisma` by default, as for Prisma.
    :param roots: Finds the system's certificates, for `sslaccept=strict` without a certificate.
    :return: libpq keywords without the password, and the password apart.
    :raises BadInputError: not a PostgreSQL URL, one that Prisma and libpq read differently, or a
        parameter that libpq can't honour (`sslidentity`). Nothing was contacted.
    """
    parts = _split(_body(url))
    given = _parameters(parts["query"])
    if "sslidentity" in given:
        raise BadInputError(_SSLIDENTITY)
    written = {name: given.pop(name) for name in SECRETS if name in given}
    if parts["password"] and written.setdefault("password", parts["password"]) != parts["password"]:
        raise _twice("password")
    draft = _Draft(given)
    draft.translate(prisma_dir or Path("prisma"), roots)
    keywords = draft.fill_in({**_judge(parts, draft.kept), **draft.added})
    return Target(
        keywords=MappingProxyType(keywords),
        secrets=MappingProxyType({name: unquote(raw) for name, raw in written.items() if raw}),
        schema=draft.schema,
        changes=tuple(draft.changes),
        pooled=draft.pgbouncer or any(_pooled(*end) for end in _endpoints(keywords)),
        written=tuple(raw for raw in written.values() if raw),
    )


class _Draft:
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
                raise _refused(f"gives {name.lower()} in capitals, which neither libpq nor Prisma reads")
            del self.kept[name]
            self._note(name, "dropped", _PRISMAS_OWN.get(name, "libpq knows no such parameter"))

    def fill_in(self, keywords: dict[str, str]) -> dict[str, str]:
        """Write out Prisma's defaults, and check what must not be missing.

        :return: The keywords, where to connect first.
        """
        if empty := [name for name in _NEVER_EMPTY if name in self.kept and not keywords.get(name)]:
            raise _refused(f"gives {empty[0]} without a value: write one, or leave it out")
        if keywords.get("sslmode", "prefer") not in _SSL_MODES:
            raise _refused(f"gives an sslmode that libpq does not know: it is one of {', '.join(_SSL_MODES)}")
        if "service" not in keywords:
            if not keywords.get("dbname"):
                raise _refused("names no database: write it after the host, as in host:5432/shop")
            if not keywords.get("host") and not keywords.get("hostaddr"):
                keywords["host"] = "localhost"
                self._note("host", "translated", "none is given: Prisma means localhost, libpq asks PGHOST")
            keywords["port"] = keywords.get("port") or "5432"
        if not all(_is_port(port) for port in keywords.get("port", "").split(",")):
            raise _refused(f"gives a port that is no number from 1 to 65535; {_ENCODE}")
        if keywords.get("dbname", "").startswith(("postgresql://", "postgres://")):
            raise _refused("holds a second URL where the database's name should be")
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
                raise _refused(
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
            raise _refused("gives an sslaccept that is neither strict nor accept_invalid_certs")

    def _old_ssl(self, name: str, value: str | None) -> None:
        """`ssl=true` is what JDBC and libpq 9 wrote for `sslmode=require`."""
        if value is None:
            return
        if value not in ("true", "1") or self._mode in ("require", *_VERIFYING):
            self._note(name, "dropped", "only ssl=true means something to libpq, and sslmode goes before it")
        elif self._mode is not None:
            raise _refused(f"asks for sslmode={self._mode} and for TLS with {name}: remove one of the two")
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
            raise _refused(f"gives {name} without a value: write one, or leave it out")
        return None if raw is None else unquote_plus(raw)

    def _note(self, parameter: str, action: str, reason: str) -> None:
        self.changes.append(Change(_printable(parameter), action, reason))


def _body(url: str) -> str:
    """Refuse what is no PostgreSQL URL, or one that Prisma and libpq would read differently.

    :return: What follows `postgresql://`.
    """
    for pattern, sentence in _NO_URL:
        if re.search(pattern, url, re.IGNORECASE):
            raise _refused(sentence)
    scheme, found, body = url.partition("://")
    if not found or scheme not in ("postgresql", "postgres"):
        raise _refused("is no PostgreSQL URL: it must begin with postgresql:// or postgres://, in small letters")
    for pattern, sentence in _AMBIGUOUS:
        if re.search(pattern, body):
            raise _refused(f"holds {sentence}")
    try:
        unquote(body, errors="strict")
    except UnicodeDecodeError:
        raise _refused("holds percent-encoded bytes that are no UTF-8") from None
    return body


def _split(body: str) -> dict[str, str]:
    """Cut the URL as libpq does, where Prisma cuts it at the same places; else refuse it."""
    match = _URL.fullmatch(body)
    parts = {name: text or "" for name, text in match.groupdict().items()} if match else {}
    # Without `user:password@` before the host, an @ is most likely the end of a cut password.
    loose = match is not None and match["user"] is None and "@" in body
    if match is None or loose or "@" in parts["path"]:
        raise _refused(f"has an @ in an unexpected place; {_ENCODE}")
    if "/" in parts["path"][1:]:
        raise _refused(f"has more than one / after the host; {_ENCODE}")
    return parts


def _parameters(query: str) -> dict[str, str]:
    """Read the query into values as written; the same parameter twice is refused, not guessed."""
    found: dict[str, str] = {}
    for piece in filter(None, query.split("&")):
        name, equals, raw = piece.partition("=")
        if not name or not equals:
            raise _refused(f"has a parameter without a =value after the ?; {_ENCODE}")
        if found.setdefault(unquote(name), raw) != raw:
            raise _twice(unquote(name))
    return found


def _judge(parts: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    """Let libpq's own parser read the URL, which holds no secret any more."""
    if clumsy := [name for name, raw in kept.items() if "=" in raw]:
        raise _refused(f"has a second = in {clumsy[0]}: write %3D for the = of a value")
    user = f"{parts['user']}@" if parts["user"] else ""
    plain = f"postgresql://{user}{parts['hosts']}{parts['path']}"
    query = "&".join(f"{name}={raw}" for name, raw in kept.items())
    try:
        before, after = conninfo_to_dict(plain), conninfo_to_dict(f"{plain}?{query}")
    except Error as error:
        # What libpq quotes may be a password in the wrong place: nothing from the first quote on.
        said = str(error).partition('"')[0].strip(" :\n")
        raise _refused(f"can't be read by libpq ({said}); {_ENCODE}") from None
    # libpq takes the later one, Prisma the earlier one; `host` is the exception, where both agree.
    for name in ("user", "port", "dbname"):
        if before.get(name) not in (None, after.get(name)):
            raise _twice(name)
    return {name: str(value) for name, value in after.items()}


def _endpoints(keywords: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Pair hosts, ports and addresses as libpq does: one port serves all hosts."""
    addresses = keywords.get("hostaddr", "").split(",")
    hosts = (keywords.get("host") or keywords.get("hostaddr", "")).split(",")
    ports = keywords.get("port", "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    known = addresses if keywords.get("host") and len(addresses) == len(hosts) else [""] * len(hosts)
    return [(host, port or "5432", address) for host, port, address in zip(hosts, ports, known, strict=False)]


def _endpoint(host: str, port: str, address: str) -> str:
    if host.startswith(("/", "@")) and not address:
        return f"socket {host}" if port == "5432" else f"socket {host}, port {port}"
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"{name} ({address})" if address else name


def _pooled(host: str, port: str, _address: str) -> bool:
    """Tell a transaction pooler by its name; Supabase's on port 5432 is a session pooler, and fits."""
    if ".supabase." in host:
        return port == "6543"
    return "-pooler." in host or ".pooler." in host or host.startswith("pooled.")


def _forms(secrets: Iterable[str]) -> Iterator[str]:
    """Give the forms in which secrets may show up, longest first."""
    forms = {
        form
        for secret in secrets
        for form in (
            secret,
            quote(secret, safe=""),
            quote(secret),
            secret.replace("\\", "\\\\").replace("'", "\\'"),
            repr(secret)[1:-1],
        )
    }
    return iter(sorted(forms, key=len, reverse=True))


def _is_port(port: str) -> bool:
    return re.fullmatch(r"[0-9]{0,5}", port) is not None and 0 < int(port or "1") < 65536  # noqa: PLR2004


def _printable(text: str) -> str:
    """Keep a name from writing to the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode-escape").decode() for c in text)


def _refused(what: str) -> BadInputError:
    return BadInputError(f"The database URL {what}. Nothing was contacted.")


def _twice(name: str) -> BadInputError:
    return _refused(f"gives {_printable(name)} twice, with different values: leave one out")
