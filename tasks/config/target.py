"""Translate a database URL into libpq keywords, with the secrets kept separately.

Prisma and libpq read almost the same URLs. Parameters that only Prisma has are translated or dropped, and listed. A URL
that the two read differently is an error, because a restore must connect to the same database as Prisma. The password
is removed before libpq's parser reads the rest, so no message can quote it.

Sources: the manual's chapter 32.1 (connection strings), and `quaint/src/connector/postgres/url.rs` of Prisma's engines
for Prisma's parameters.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from ..errors import BadInputError
from ..formatting import printable
from .database_url import Change, Draft, default, given_twice, judge_url, split_url, url_body, url_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

MASK = "****"

# libpq shows the first three as `*`; the SCRAM keys are enough to log in, like a password.
SECRETS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

_SSLIDENTITY = (
    "The database URL gives sslidentity, a PKCS#12 file, which libpq can't read. Nothing was contacted. Extract the "
    "certificate and the key (`openssl pkcs12 -in FILE -clcerts -nokeys -out client.crt`, then with `-nocerts -nodes "
    "-out client.key`), give them as sslcert= and sslkey= in the URL of another variable, and name that variable with "
    "--url-env."
)


@dataclass(frozen=True)
class Target:
    """A database's address for libpq, with the secrets kept separately.

    :param keywords: libpq's keywords without any secret; safe in an argv.
    :param secrets: `password` and others of `SECRETS`, decoded; only those that were given.
    :param schema: Prisma's `?schema=`; None if the URL has none (Prisma then uses `public`).
    :param changes: Parameters that were translated or dropped.
    :param pooled: Whether the URL is of a transaction pooler, through which dumps fail.
    :param advice: What to use instead of the pooler; empty if its provider is unknown.
    :param written: The secrets as written in the URL, for :meth:`scrub`.
    :param origin: Where the URL was found, as `DATABASE_URL from .env`, for messages.
    """

    keywords: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)
    schema: str | None = None
    changes: tuple[Change, ...] = ()
    pooled: bool = False
    advice: str = ""
    written: tuple[str, ...] = field(default=(), repr=False)
    origin: str = ""

    def conninfo(self, **overrides: str | int | None) -> str:
        """Return the connection string without any secret: safe in an argv.

        :param overrides: Keywords to set; None leaves one out.
        :raises ValueError: An override is a secret.
        """
        if not overrides.keys().isdisjoint(SECRETS):
            raise ValueError("a secret does not belong in a connection string")
        from psycopg.conninfo import make_conninfo

        return make_conninfo("", **{**self.keywords, **overrides})

    def connect_kwargs(self) -> dict[str, str]:
        """Return the keyword arguments for `psycopg.connect`, secrets included."""
        return {**self.keywords, **self.secrets}

    def options(self, added: str) -> str | None:
        """Return libpq's start-up `options` with others added after those of the URL or PGOPTIONS, to override them.

        :return: None if a service may have options, which these would replace.
        """
        if "service" in self.keywords and "options" not in self.keywords:
            return None
        given = self.keywords.get("options", default("options"))
        return f"{given} {added}".strip()

    def child_environment(self) -> dict[str, str]:
        """Return the environment variables that a libpq program needs in addition to the connection string.

        :return: `PGPASSWORD` if there is a password.
        :raises BadInputError: The URL has a secret that libpq reads from no environment variable (`sslpassword`). In
            the argv every user could read it.
        """
        if refused := sorted(self.secrets.keys() - {"password"}):
            raise BadInputError(
                f"The database URL gives {refused[0]}. PostgreSQL's programs read it from no environment variable, and "
                "on their command line every user could read it.",
                state="Nothing was started.",
                fix="Put it into ~/.pg_service.conf and write service=NAME in the URL.",
            )
        return {"PGPASSWORD": self.secrets["password"]} if "password" in self.secrets else {}

    @property
    def host(self) -> str:
        """Return the host or socket folder, several with commas; empty if only a service has it."""
        return self._known("host") or self._known("hostaddr")

    @property
    def port(self) -> str:
        """Return the port, several with commas."""
        return self._known("port")

    @property
    def database(self) -> str:
        """Return the database's name; empty if only a service has it."""
        return self._known("dbname")

    @property
    def sslmode(self) -> str:
        """Return the mode of TLS, by default libpq's own default."""
        return self._known("sslmode") or "prefer"

    @property
    def endpoints(self) -> list[tuple[str, str, str]]:
        """Return host or socket folder, port and address of each server that libpq tries, in its order."""
        return _endpoints({name: self._known(name) for name in ("host", "hostaddr", "port")})

    @property
    def label(self) -> str:
        """Return the database for display: `shop at db.example.com:5432`."""
        if "service" in self.keywords and "host" not in self.keywords:
            where = f"service {self.keywords['service']}"
        else:
            where = ", ".join(_endpoint(*end) for end in self.endpoints)
        return printable(f"{self.database or 'a database'} at {where}")

    @property
    def masked(self) -> str:
        """Return the connection string for display, every secret as `****`."""
        return printable(" ".join([self.conninfo(), *(f"{name}={MASK}" for name in self.secrets)]))

    def scrub(self, text: str) -> str:
        """Return a text with `****` instead of the secrets, in every form that libpq or a URL writes them.

        A secret shorter than four characters, or one that is part of a displayed name (`postgres`), is replaced only in
        the position of a password (`:x@`, `password=x`): elsewhere that would garble the message and reveal the match.
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
        """Return a keyword's value in the URL, else libpq's: from `PG…` variables and built-in defaults."""
        # A service file overrides both.
        if keyword in self.keywords or "service" in self.keywords:
            return self.keywords.get(keyword, "")
        return default(keyword)


def system_roots() -> str:
    """Return the file of the operating system's trusted certificates, for `sslrootcert`.

    `sslrootcert=system` needs libpq 16 or newer, and the OpenSSL inside psycopg's binary wheels searches for the
    system's certificates in a folder that does not exist. A file's path always works.

    :return: A path, or `system` if none of the usual files exists.
    """
    found = ssl.get_default_verify_paths().cafile
    return found or next((path for path in _BUNDLES if Path(path).is_file()), "system")


def sanitize(url: str, *, prisma_dir: Path | None = None, roots: Callable[[], str] = system_roots) -> Target:
    """Translate Prisma's database URL for libpq.

    libpq's own parameters are kept byte for byte. If Prisma has its own default where libpq reads the environment,
    Prisma's is used: `localhost` without a host, 5432 without a port. Then both connect to the same server.

    :param url: `postgresql://` URL as written in `.env`.
    :param prisma_dir: The folder of a relative `sslcert`; `./prisma` by default, as for Prisma.
    :param roots: Returns the file of the system's certificates, for `sslaccept=strict` without a certificate.
    :return: libpq keywords without secrets, and the secrets separately.
    :raises BadInputError: It is not a PostgreSQL URL, Prisma and libpq read it differently, or libpq can't support a
        parameter (`sslidentity`). Nothing was contacted.
    """
    parts = split_url(url_body(url))
    given = url_parameters(parts["query"])
    if "sslidentity" in given:
        raise BadInputError(_SSLIDENTITY)
    written = {name: given.pop(name) for name in SECRETS if name in given}
    if parts["password"] and written.setdefault("password", parts["password"]) != parts["password"]:
        raise given_twice("password")
    draft = Draft(given)
    draft.translate(prisma_dir or Path("prisma"), roots)
    keywords = draft.fill_in({**judge_url(parts, draft.kept), **draft.added})
    advice = next(filter(None, (pooler_advice(host, port) for host, port, _ in _endpoints(keywords))), "")
    return Target(
        keywords=MappingProxyType(keywords),
        secrets=MappingProxyType({name: unquote(raw) for name, raw in written.items() if raw}),
        schema=draft.schema,
        changes=tuple(draft.changes),
        pooled=draft.pgbouncer or bool(advice),
        advice=advice,
        written=tuple(raw for raw in written.values() if raw),
    )


def _endpoints(keywords: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return host, port and address of each server, paired as libpq does: a single port applies to all hosts."""
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


def _forms(secrets: Iterable[str]) -> Iterator[str]:
    """Return the forms in which secrets may be written, longest first."""
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


# Patterns of poolers' host:port, with the advice; the first match counts.
_KNOWN = (
    (r".*-pooler\..*\.neon\.tech:\d+", "remove `-pooler` from the host: that is Neon's direct connection"),
    (r".*\.pooler\.supabase\.com:6543", "use port 5432, Supabase's session pooler, or the direct db.….supabase.co"),
    (r".*\.pooler\.supabase\.com:.*", ""),
    (r".*\.supabase\.co:6543", "use port 5432, Supabase's direct connection"),
    (r"pooled\.db\.prisma\.io:\d+", "use the host db.prisma.io, the direct connection of Prisma Postgres"),
    (r".*\.proxy-.*\.rds\.amazonaws\.com:\d+", "use the endpoint of the instance or cluster instead of RDS Proxy's"),
    (r".*\.db\.ondigitalocean\.com:25061", "use port 25060, DigitalOcean's direct connection"),
    (r".*\.postgres\.database\.azure\.com:6432", "use port 5432 instead of Azure's PgBouncer on 6432"),
    (r".*(-pooler\.|\.pooler\.).*|pooled\..*", "use the server's own host"),
    (r".*:6432", "6432 is usually PgBouncer's port: use the server's own, 5432"),
)


def pooler_advice(host: str, port: str) -> str:
    """Return what to use instead of a transaction pooler; empty if the address does not look like one."""
    end = f"{host.lower()}:{port}"
    return next((what for pattern, what in _KNOWN if re.fullmatch(pattern, end)), "")
