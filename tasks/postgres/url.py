"""The text of a URL: cut as libpq cuts it, refused where Prisma would cut or read it differently."""

import re
from collections.abc import Mapping
from urllib.parse import unquote

from psycopg import Error
from psycopg.conninfo import conninfo_to_dict

from ..errors import BadInputError, printable

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


def body(url: str) -> str:
    """Refuse what is no PostgreSQL URL, or one that Prisma and libpq would read differently.

    :return: What follows `postgresql://`.
    """
    for pattern, sentence in _NO_URL:
        if re.search(pattern, url, re.IGNORECASE):
            raise refused(sentence)
    scheme, found, body = url.partition("://")
    if not found or scheme not in ("postgresql", "postgres"):
        raise refused("is no PostgreSQL URL: it must begin with postgresql:// or postgres://, in small letters")
    for pattern, sentence in _AMBIGUOUS:
        if re.search(pattern, body):
            raise refused(f"holds {sentence}")
    try:
        unquote(body, errors="strict")
    except UnicodeDecodeError:
        raise refused("holds percent-encoded bytes that are no UTF-8") from None
    return body


def split(body: str) -> dict[str, str]:
    """Cut the URL as libpq does, where Prisma cuts it at the same places; else refuse it."""
    match = _URL.fullmatch(body)
    parts = {name: text or "" for name, text in match.groupdict().items()} if match else {}
    # Without `user:password@` before the host, an @ is most likely the end of a cut password.
    loose = match is not None and match["user"] is None and "@" in body
    if match is None or loose or "@" in parts["path"]:
        raise refused(f"has an @ in an unexpected place; {ENCODE}")
    if "/" in parts["path"][1:]:
        raise refused(f"has more than one / after the host; {ENCODE}")
    return parts


def parameters(query: str) -> dict[str, str]:
    """Read the query into values as written; the same parameter twice is refused, not guessed."""
    found: dict[str, str] = {}
    for piece in filter(None, query.split("&")):
        name, equals, raw = piece.partition("=")
        if not name or not equals:
            raise refused(f"has a parameter without a =value after the ?; {ENCODE}")
        if found.setdefault(unquote(name), raw) != raw:
            raise twice(unquote(name))
    return found


def judge(parts: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    """Let libpq's own parser read the URL, which holds no secret any more."""
    if clumsy := [name for name, raw in kept.items() if "=" in raw]:
        raise refused(f"has a second = in {clumsy[0]}: write %3D for the = of a value")
    user = f"{parts['user']}@" if parts["user"] else ""
    plain = f"postgresql://{user}{parts['hosts']}{parts['path']}"
    query = "&".join(f"{name}={raw}" for name, raw in kept.items())
    try:
        before, after = conninfo_to_dict(plain), conninfo_to_dict(f"{plain}?{query}")
    except Error as error:
        # What libpq quotes may be a password in the wrong place: nothing from the first quote on.
        said = str(error).partition('"')[0].strip(" :\n")
        raise refused(f"can't be read by libpq ({said}); {ENCODE}") from None
    # libpq takes the later one, Prisma the earlier one; `host` is the exception, where both agree.
    for name in ("user", "port", "dbname"):
        if before.get(name) not in (None, after.get(name)):
            raise twice(name)
    return {name: str(value) for name, value in after.items()}


def refused(what: str) -> BadInputError:
    """Make the error of a URL that is not taken; `what` never holds a value of it."""
    return BadInputError(f"The database URL {what}. Nothing was contacted.")


def twice(name: str) -> BadInputError:
    """Make the error of a parameter that has two values."""
    return refused(f"gives {printable(name)} twice, with different values: leave one out")


def with_database(url: str, name: str) -> str:
    """Give a URL, as a person wrote it, another database, and change nothing else.

    :param name: Letters, digits and underscores.
    :raises BadInputError: It names its database otherwise than behind the host.
    """
    scheme, _, rest = url.partition("://")
    found = re.fullmatch(r"([^/?]*)/([^?]*)(\?.*)?", rest, re.DOTALL)
    if found is None or not found[2] or "dbname" in parameters((found[3] or "?")[1:]):
        raise refused("does not name its database behind the host, as in host:5432/shop")
    return f"{scheme}://{found[1]}/{name}{found[3] or ''}"
