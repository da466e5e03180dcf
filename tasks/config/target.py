"""The door: one URL in, libpq keywords and the secrets apart out.

Prisma and libpq read almost the same URLs. What only Prisma knows is translated or dropped, and told;
what the two would read differently is refused, since a restore must reach the database that Prisma
reaches. The password is cut out before libpq's parser sees the rest, so no message can quote it.

Sources: the manual's chapter 32.1 (connection strings), and `quaint/src/connector/postgres/url.rs` of
Prisma's engines, which says what Prisma does with each parameter.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from psycopg.conninfo import make_conninfo

from ..errors import BadInputError
from ..formatting import printable
from .database_url import Change, Draft, default, given_twice, judge_url, split_url, url_body, url_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["MASK", "SECRETS", "Change", "Target", "sanitize", "system_roots"]

MASK = "****"

# libpq shows the first three as `*`; the SCRAM keys log in as well as a password does.
SECRETS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

_SSLIDENTITY = (
    "The database URL gives sslidentity, a PKCS#12 file, which libpq can't read; nothing was contacted. Take "
    "certificate and key out of it (`openssl pkcs12 -in FILE -clcerts -nokeys -out client.crt`, then with "
    "`-nocerts -nodes -out client.key`), give them as sslcert= and sslkey= in the URL of another variable, "
    "and name that one with --url-env."
)


@dataclass(frozen=True)
class Target:
    """A database as libpq is told to reach it, the secrets apart.

    :param keywords: libpq's keywords without any secret; they may stand in an argv.
    :param secrets: `password` and the like, decoded; only those that were given.
    :param schema: Prisma's `?schema=`, None when the URL has none (Prisma then means `public`).
    :param changes: What libpq does not get as written.
    :param pooled: Whether the URL leads to a transaction pooler, through which dumps fail.
    :param advice: What to use instead of it, where its provider is known.
    :param written: The secrets as they stood in the URL, for `scrub`.
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

    def options(self, added: str) -> str | None:
        """Add to libpq's start-up `options`, behind the URL's own or those of PGOPTIONS, so that the added ones win.

        :return: None where a service may have options, which these would replace.
        """
        if "service" in self.keywords and "options" not in self.keywords:
            return None
        given = self.keywords.get("options", default("options"))
        return f"{given} {added}".strip()

    def child_environment(self) -> dict[str, str]:
        """Give what a libpq program needs in its environment beside the connection string.

        :return: `PGPASSWORD`, when there is a password.
        :raises BadInputError: a secret is given that libpq takes from no environment variable
            (`sslpassword`): it could only travel in the argv, for every user to read.
        """
        if refused := sorted(self.secrets.keys() - {"password"}):
            raise BadInputError(
                f"The database URL gives {refused[0]}, which PostgreSQL's programs take from no environment "
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
    def sslmode(self) -> str:
        """What is asked for of TLS; libpq's own default where nothing is."""
        return self._known("sslmode") or "prefer"

    @property
    def endpoints(self) -> list[tuple[str, str, str]]:
        """Host or socket folder, port and known address of each server that libpq tries, in its order."""
        return _endpoints({name: self._known(name) for name in ("host", "hostaddr", "port")})

    @property
    def label(self) -> str:
        """Name the database for people: `shop at db.example.com:5432`."""
        if "service" in self.keywords and "host" not in self.keywords:
            where = f"service {self.keywords['service']}"
        else:
            where = ", ".join(_endpoint(*end) for end in self.endpoints)
        return printable(f"{self.database or 'a database'} at {where}")

    @property
    def masked(self) -> str:
        """Give the connection string for people, every secret as `****`."""
        return printable(" ".join([self.conninfo(), *(f"{name}={MASK}" for name in self.secrets)]))

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
        return default(keyword)


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


# Host and port, and what to do; the first that fits counts.
_KNOWN = (
    (r".*-pooler\..*\.neon\.tech:\d+", "take `-pooler` out of the host: that is Neon's direct connection"),
    (r".*\.pooler\.supabase\.com:6543", "use port 5432, Supabase's session pooler, or the direct db.….supabase.co"),
    (r".*\.pooler\.supabase\.com:.*", ""),
    (r".*\.supabase\.co:6543", "use port 5432, Supabase's direct connection"),
    (r"pooled\.db\.prisma\.io:\d+", "use the host db.prisma.io, the direct connection of Prisma Postgres"),
    (r".*\.proxy-.*\.rds\.amazonaws\.com:\d+", "use the endpoint of the instance or cluster instead of RDS Proxy's"),
    (r".*\.db\.ondigitalocean\.com:25061", "use port 25060, DigitalOcean's direct connection"),
    (r".*\.postgres\.database\.azure\.com:6432", "use port 5432 instead of Azure's PgBouncer on 6432"),
    (r".*(-pooler\.|\.pooler\.).*|pooled\..*", "use the server's own host"),
    (r".*:6432", "6432 is mostly PgBouncer's port: use the server's own, 5432"),
)


def pooler_advice(host: str, port: str) -> str:
    """Tell what to use instead of a transaction pooler; empty for what does not look like one."""
    end = f"{host.lower()}:{port}"
    return next((what for pattern, what in _KNOWN if re.fullmatch(pattern, end)), "")
