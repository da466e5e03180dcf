"""What a URL becomes at the door, and that its secrets never pass it in the open."""

from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from tasks.config.target import MASK, Target, sanitize, system_roots
from tasks.errors import BadInputError

PASSWORD = "S3cr3t-Pa55"
BASE = f"postgresql://app:{PASSWORD}@db.example.com:5432/shop"
KEYWORDS = {"host": "db.example.com", "port": "5432", "user": "app", "dbname": "shop"}
ROOTS = "/roots/system.pem"
PRISMA = Path("/repo/prisma")


@dataclass(frozen=True)
class Case:
    """One accepted URL and what it becomes."""

    url: str
    keywords: dict[str, str]
    password: str | None = PASSWORD
    schema: str | None = None
    changes: tuple[tuple[str, str], ...] = ()


def added(query: str, *changes: tuple[str, str], schema: str | None = None, **keywords: str) -> Case:
    """Build a case: parameters on top of the plain URL."""
    return Case(f"{BASE}?{query}", {**KEYWORDS, **keywords}, PASSWORD, schema, changes)


def plain(rest: str, password: str | None = None, **keywords: str) -> Case:
    """Build a case: a URL of its own, without any change."""
    return Case(f"postgresql://{rest}", keywords, password)


DROPPED = "dropped"
TRANSLATED = "translated"

ACCEPTED = {
    "plain": Case(BASE, KEYWORDS),
    "short scheme": Case(BASE.replace("postgresql", "postgres"), KEYWORDS),
    "empty query": Case(f"{BASE}?", KEYWORDS),
    "trailing ampersand": added("sslmode=require&", sslmode="require"),
    "schema": added("schema=billing", ("schema", TRANSLATED), schema="billing"),
    "schema with a blank": added("schema=my%20schema", ("schema", TRANSLATED), schema="my schema"),
    "schema with a plus as Prisma reads it": added("schema=a+b", ("schema", TRANSLATED), schema="a b"),
    "connection_limit": added("connection_limit=5", ("connection_limit", DROPPED)),
    "pool_timeout": added("pool_timeout=20", ("pool_timeout", DROPPED)),
    "socket_timeout": added("socket_timeout=3", ("socket_timeout", DROPPED)),
    "statement_cache_size": added("statement_cache_size=0", ("statement_cache_size", DROPPED)),
    "pgbouncer off": added("pgbouncer=false", ("pgbouncer", DROPPED)),
    "max_connection_lifetime": added("max_connection_lifetime=9", ("max_connection_lifetime", DROPPED)),
    "max_idle_connection_lifetime": added("max_idle_connection_lifetime=9", ("max_idle_connection_lifetime", DROPPED)),
    "search_path": added("search_path=a,b", ("search_path", DROPPED)),
    "uselibpqcompat": added("uselibpqcompat=true", ("uselibpqcompat", DROPPED)),
    "api_key with padding": added("api_key=abc==", ("api_key", DROPPED)),
    "single_use_connections": added("single_use_connections=true", ("single_use_connections", DROPPED)),
    "unknown": added("flavour=mint", ("flavour", DROPPED)),
    "unknown without a value": added("flavour=", ("flavour", DROPPED)),
    "the same twice": added("sslmode=require&sslmode=require", sslmode="require"),
    "several, in order of their names": added(
        "schema=public&pool_timeout=2&connection_limit=1",
        ("schema", TRANSLATED),
        ("connection_limit", DROPPED),
        ("pool_timeout", DROPPED),
        schema="public",
    ),
    "connect_timeout": added("connect_timeout=0", connect_timeout="0"),
    "sslmode": added("sslmode=verify-full", sslmode="verify-full"),
    "sslmode disable": added("sslmode=disable", sslmode="disable"),
    "application_name": added("application_name=my%20app", application_name="my app"),
    "percent-encoded name": added("application%5Fname=x", application_name="x"),
    "plus is literal for libpq": added("application_name=a+b", application_name="a+b"),
    "raw @ in a value": added("application_name=a@b", application_name="a@b"),
    "options": added("options=-c%20statement_timeout%3D0", options="-c statement_timeout=0"),
    "quotes and backslashes": added("application_name=%27%5C%22", application_name="'\\\""),
    "empty value libpq allows": added("options=", options=""),
    "no-verify": added("sslmode=no-verify", ("sslmode", TRANSLATED), sslmode="require"),
    "no-verify and strict": added(
        "sslmode=no-verify&sslaccept=strict",
        ("sslmode", TRANSLATED),
        ("sslaccept", TRANSLATED),
        sslmode="verify-full",
        sslrootcert=ROOTS,
    ),
    "ssl=true": added("ssl=true", ("ssl", TRANSLATED), sslmode="require"),
    "requiressl": added("requiressl=1", ("requiressl", TRANSLATED), sslmode="require"),
    "ssl=true never weakens": added("ssl=true&sslmode=verify-full", ("ssl", DROPPED), sslmode="verify-full"),
    "ssl=false": added("ssl=false", ("ssl", DROPPED)),
    "strict": added("sslaccept=strict", ("sslaccept", TRANSLATED), sslmode="verify-full", sslrootcert=ROOTS),
    "strict raises require": added(
        "sslmode=require&sslaccept=strict",
        ("sslaccept", TRANSLATED),
        sslmode="verify-full",
        sslrootcert=ROOTS,
    ),
    "strict raises ssl=true": added(
        "ssl=true&sslaccept=strict",
        ("ssl", TRANSLATED),
        ("sslaccept", TRANSLATED),
        sslmode="verify-full",
        sslrootcert=ROOTS,
    ),
    "strict keeps verify-ca": added(
        "sslmode=verify-ca&sslaccept=strict", ("sslaccept", TRANSLATED), sslmode="verify-ca"
    ),
    "strict keeps the given roots": added(
        "sslaccept=strict&sslrootcert=/ca.pem",
        ("sslaccept", TRANSLATED),
        sslmode="verify-full",
        sslrootcert="/ca.pem",
    ),
    "strict with Prisma's sslcert": added(
        "sslaccept=strict&sslcert=certs/ca.pem",
        ("sslcert", TRANSLATED),
        ("sslaccept", TRANSLATED),
        sslmode="verify-full",
        sslrootcert="/repo/prisma/certs/ca.pem",
    ),
    "accept_invalid_certs": added(
        "sslmode=require&sslaccept=accept_invalid_certs", ("sslaccept", DROPPED), sslmode="require"
    ),
    "accept_invalid_certs makes sslcert void": added(
        "sslcert=ca.pem&sslaccept=accept_invalid_certs", ("sslcert", DROPPED), ("sslaccept", DROPPED)
    ),
    "accept_invalid_certs never weakens": added(
        "sslmode=verify-full&sslcert=/ca.pem&sslaccept=accept_invalid_certs",
        ("sslcert", TRANSLATED),
        ("sslaccept", DROPPED),
        sslmode="verify-full",
        sslrootcert="/ca.pem",
    ),
    "sslcert alone": added("sslcert=..%2Fca.pem", ("sslcert", TRANSLATED), sslrootcert="/repo/prisma/../ca.pem"),
    "sslcert and sslkey are libpq's": added("sslcert=c.crt&sslkey=c.key", sslcert="c.crt", sslkey="c.key"),
    "sslcert beside sslrootcert is libpq's": added(
        "sslcert=c.crt&sslrootcert=ca.pem", sslcert="c.crt", sslrootcert="ca.pem"
    ),
    "host in the query": added("host=other.example.com", host="other.example.com"),
    "socket in the query": added("host=/run/postgresql", host="/run/postgresql"),
    "socket as host": plain("%2Frun%2Fpostgresql/shop", host="/run/postgresql", port="5432", dbname="shop"),
    "IPv6": plain("app@[2001:db8::1]:5433/shop", host="2001:db8::1", port="5433", user="app", dbname="shop"),
    "several hosts": plain("a:1,b:2/shop", host="a,b", port="1,2", dbname="shop"),
    "several hosts, one port": plain("a,b:2/shop", host="a,b", port=",2", dbname="shop"),
    "hostaddr": added("hostaddr=10.0.0.1", hostaddr="10.0.0.1"),
    "hostaddr alone": plain("/shop?hostaddr=::1", hostaddr="::1", port="5432", dbname="shop"),
    "service": plain("?service=reporting", service="reporting"),
    "service and database": plain("/shop?service=reporting", dbname="shop", service="reporting"),
    "no host is Prisma's localhost": Case(
        "postgresql:///shop",
        {"host": "localhost", "port": "5432", "dbname": "shop"},
        None,
        None,
        (("host", TRANSLATED),),
    ),
    "no port": plain("h/shop", host="h", port="5432", dbname="shop"),
    "everything in the query": plain(
        "h?user=u&password=long%20enough&dbname=d&port=9",
        "long enough",
        host="h",
        port="9",
        user="u",
        dbname="d",
    ),
    "user without a password": plain("app@h/shop", host="h", port="5432", user="app", dbname="shop"),
    "empty password": plain("app:@h/shop", host="h", port="5432", user="app", dbname="shop"),
    "password without a user": plain(":p@h/shop", "p", host="h", port="5432", dbname="shop"),
    "colon in the password": plain("u:p:q@h/d", "p:q", host="h", port="5432", user="u", dbname="d"),
    "plus in the password": plain("u:p+q@h/d", "p+q", host="h", port="5432", user="u", dbname="d"),
    "brackets in the password": plain("u:p[q]@h/d", "p[q]", host="h", port="5432", user="u", dbname="d"),
    "dollar in the password": plain("u:$p$q@h/d", "$p$q", host="h", port="5432", user="u", dbname="d"),
    "raw unicode password": plain("u:päß€@h/d", "päß€", host="h", port="5432", user="u", dbname="d"),
    "encoded password": plain(
        "u:%23%2F%3F%40%25%20%F0%9F%90%98@h/d", "#/?@% 🐘", host="h", port="5432", user="u", dbname="d"
    ),
    "names with signs": plain("a%40b@h/my%2Fdb%3D1", host="h", port="5432", user="a@b", dbname="my/db=1"),
    "prisma dev": Case(
        "postgres://postgres:postgres@localhost:51214/template1?sslmode=disable&connection_limit=1"
        "&connect_timeout=0&pool_timeout=0&single_use_connections=true&socket_timeout=0",
        {
            "host": "localhost",
            "port": "51214",
            "user": "postgres",
            "dbname": "template1",
            "connect_timeout": "0",
            "sslmode": "disable",
        },
        "postgres",
        None,
        (
            ("connection_limit", DROPPED),
            ("pool_timeout", DROPPED),
            ("single_use_connections", DROPPED),
            ("socket_timeout", DROPPED),
        ),
    ),
}

REFUSED = {
    "empty": ("", "is empty"),
    "blank": (" \t\n", "is empty"),
    "quoted": (f'"{BASE}"', "begins with a quote"),
    "single-quoted": (f"'{BASE}'", "begins with a quote"),
    "leading blank": (f" {BASE}", "begins or ends with a blank"),
    "trailing blank": (f"{BASE} ", "begins or ends with a blank"),
    "trailing line break": (f"{BASE}\n", "line break"),
    "line break inside": (f"{BASE}\nhost=evil", "line break"),
    "NUL": (f"{BASE}\0", "control character"),
    "escape": (f"{BASE}\x1b[2J", "control character"),
    "line separator": (f"{BASE}\u2028", "line break"),
    "bytes that are no UTF-8": (f"{BASE}\udcff", "not UTF-8"),
    "placeholder": (f"postgresql://app:{PASSWORD}@${{HOST}}/shop", "placeholder"),
    "Supabase's placeholder": ("postgresql://app:[YOUR-PASSWORD]@h/shop", "placeholder"),
    "Prisma's proxy": (f"prisma://accelerate.prisma-data.net/?api_key={PASSWORD}", "--url-env=DIRECT_URL"),
    "prisma dev's proxy": (f"prisma+postgres://localhost:51213/?api_key={PASSWORD}", "`prisma dev`"),
    "JDBC": (f"jdbc:postgresql://h/shop?user=app&password={PASSWORD}", "JDBC"),
    "MySQL": (f"mysql://app:{PASSWORD}@h/shop", "is not a PostgreSQL URL"),
    "SQLite": ("file:./dev.db", "is not a PostgreSQL URL"),
    "HTTP": (f"https://app:{PASSWORD}@h/shop", "is not a PostgreSQL URL"),
    "keywords": (f"host=h dbname=shop password={PASSWORD}", "is not a PostgreSQL URL"),
    "capitals": (BASE.replace("postgresql", "POSTGRESQL"), "in lower case"),
    "no scheme": (f"app:{PASSWORD}@h/shop", "is not a PostgreSQL URL"),
    "# in the password": (f"postgresql://app:{PASSWORD}#x@h/shop", "write %23"),
    "fragment": (f"{BASE}#x", "write %23"),
    "/ in the password": (f"postgresql://app:{PASSWORD}/x@h/shop", "%2F for /"),
    "digits / in the password": ("postgresql://app:123/x@h/shop", "%2F for /"),
    "? in the password": (f"postgresql://app:{PASSWORD}?x@h/shop", "%3F for ?"),
    "?= in the password": (f"postgresql://app:{PASSWORD}?x=y@h/shop", "%3F for ?"),
    "@ in the password": (f"postgresql://app:{PASSWORD}@x@h/shop", "%40 for @"),
    "@ in the database": (f"postgresql://app:{PASSWORD}@h/sh@op", "%40 for @"),
    "% in the password": (f"postgresql://app:{PASSWORD}%zz@h/shop", "write %25"),
    "% at the end": (f"{BASE}%", "write %25"),
    "%00": (f"postgresql://app:{PASSWORD}%00@h/shop", "holds %00"),
    "encoded bytes that are no UTF-8": (f"postgresql://app:{PASSWORD}%FF@h/shop", "not UTF-8"),
    "blank in the password": (f"postgresql://app:{PASSWORD} x@h/shop", "write %20"),
    "two folders": (f"{BASE}/x", "more than one /"),
    "port in words": (f"postgresql://app:{PASSWORD}@h:five/shop", "a port that is not a number"),
    "port too high": (f"postgresql://app:{PASSWORD}@h:65536/shop", "a port that is not a number"),
    "port of many digits": (f"postgresql://h:{'9' * 5000}/shop", "a port that is not a number"),
    "password in the port's place": (f"postgresql://app:{PASSWORD}/shop", "a port that is not a number"),
    "IPv6 without its end": (f"postgresql://app:{PASSWORD}@[::1/shop", "can't be read by libpq"),
    "no database": (f"postgresql://app:{PASSWORD}@h", "names no database"),
    "no database but a slash": (f"postgresql://app:{PASSWORD}@h/?sslmode=require", "names no database"),
    "a URL as database": ("postgresql://h/postgresql%3A%2F%2Fx%2Fy", "a second URL"),
    "parameter without a value": (f"{BASE}?sslmode", "without a =value"),
    "parameter without a name": (f"{BASE}?=x", "without a =value"),
    "empty schema": (f"{BASE}?schema=", "schema without a value"),
    "empty host": (f"{BASE}?host=", "host without a value"),
    "empty sslmode": (f"{BASE}?sslmode=", "sslmode without a value"),
    "second =": (f"{BASE}?options=-csearch_path=x", "write %3D"),
    "unknown sslmode": (f"{BASE}?sslmode=sometimes", "an sslmode that libpq does not know"),
    "sslmode in capitals": (f"{BASE}?SSLMODE=require", "sslmode in capitals"),
    "sslmode twice": (f"{BASE}?sslmode=require&sslmode=disable", "sslmode twice"),
    "schema twice": (f"{BASE}?schema=a&schema=b", "schema twice"),
    "unknown twice": (f"{BASE}?x=a&x=b", "x twice"),
    "database twice": (f"{BASE}?dbname=other", "dbname twice"),
    "user twice": (f"{BASE}?user=other", "user twice"),
    "port twice": (f"{BASE}?port=5433", "port twice"),
    "password twice": (f"{BASE}?password={PASSWORD}x", "password twice"),
    "strict without TLS": (f"{BASE}?sslmode=disable&sslaccept=strict", "nothing is verified"),
    "TLS and no TLS": (f"{BASE}?sslmode=disable&ssl=true", "remove one of the two"),
    "unknown sslaccept": (f"{BASE}?sslaccept=lenient", "neither strict nor"),
    "sslidentity": (f"{BASE}?sslidentity=c.p12&sslpassword={PASSWORD}", "openssl pkcs12"),
}


def clean(url: str) -> Target:
    """Sanitize with folders of the test's own."""
    return sanitize(url, prisma_dir=PRISMA, roots=lambda: ROOTS)


def everything_shown(target: Target) -> str:
    """Join all that may be printed or put into an argv."""
    return "\n".join([repr(target), str(target), target.conninfo(), target.masked, target.label])


@pytest.mark.parametrize("case", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_sanitize_translates(case: Case) -> None:
    """An accepted URL becomes exactly these keywords, secrets, schema and changes."""
    target = clean(case.url)

    assert dict(target.keywords) == case.keywords
    assert target.secrets.get("password") == case.password
    assert target.schema == case.schema
    assert tuple((change.parameter, change.action) for change in target.changes) == case.changes
    assert all(change.reason for change in target.changes)
    assert conninfo_to_dict(target.conninfo()) == case.keywords


@pytest.mark.parametrize(("url", "fragment"), REFUSED.values(), ids=REFUSED.keys())
def test_sanitize_refuses(url: str, fragment: str) -> None:
    """A refused URL is refused with this sentence, which holds nothing of the password."""
    with pytest.raises(BadInputError) as caught:
        clean(url)

    assert fragment in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("keyword", [o.keyword.decode() for o in pq.Conninfo.get_defaults()])
def test_every_parameter_of_libpq_is_kept(keyword: str) -> None:
    """No keyword that this libpq knows is lost; Prisma's `sslcert` alone changes its name."""
    value = {"sslmode": "require", "port": "5432"}.get(keyword, "/some/value")
    query = "" if keyword in KEYWORDS and keyword != "host" else f"?{keyword}={value}"

    got = clean(BASE.replace(f":{PASSWORD}", "") + query).connect_kwargs()

    assert got.get("sslrootcert" if keyword == "sslcert" else keyword) == (value if query else KEYWORDS[keyword])


@pytest.mark.parametrize(
    "secret", ["password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"]
)
def test_secrets_stay_out_of_sight(secret: str) -> None:
    """Every parameter that logs in is kept apart, as a query parameter too."""
    target = clean(f"postgresql://app@h/shop?{secret}=hush-hush%21")

    assert target.secrets == {secret: "hush-hush!"}
    assert target.connect_kwargs()[secret] == "hush-hush!"
    assert "hush-hush" not in everything_shown(target)
    assert f"{secret}={MASK}" in target.masked


# Names and passwords of any characters that a URL can carry.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
# Marked, since a one-letter password stands in every message.
passwords = texts.map(lambda text: f"<{text}>§{text}§")


@given(user=texts, password=passwords, database=texts)
def test_any_text_round_trips(user: str, password: str, database: str) -> None:
    """Percent-encoded names and passwords reach libpq byte for byte, and the password is never shown."""
    if database.startswith(("postgresql://", "postgres://")):
        return
    url = f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@h:5433/{quote(database, safe='')}"

    target = clean(url)

    assert target.connect_kwargs() == conninfo_to_dict(url)
    assert target.secrets["password"] == password
    assert conninfo_to_dict(target.conninfo(), password=password) == target.connect_kwargs()
    for form in (password, quote(password, safe=""), repr(password)[1:-1]):
        assert form not in everything_shown(target)


@given(password=passwords, flaw=st.sampled_from(["#", "/", "?", "@", " ", "%", "%00", "%ff", "\n", "@[", "/?="]))
def test_no_refusal_shows_the_password(password: str, flaw: str) -> None:
    """Whatever breaks a URL, its message holds no part of the password, encoded or not."""
    raw = quote(password, safe="")

    with pytest.raises(BadInputError) as caught:
        clean(f"postgresql://u:{raw}{flaw}{raw}@h/shop")

    assert password not in str(caught.value)
    assert raw not in str(caught.value)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_rest_is_read_as_libpq_reads_it_or_refused(rest: str) -> None:
    """What is accepted is what libpq itself makes of the URL; all else is a sentence, never a crash."""
    url = f"postgresql://h/d?application_name=x&options={rest}"
    try:
        target = clean(url)
    except BadInputError:
        return

    # A further parameter may have been dropped; libpq would refuse it.
    theirs = conninfo_to_dict("&".join(url.split("&")[:2]))
    assert target.keywords["options"] == theirs["options"]


@given(st.text(st.sampled_from("postgresql:/@?&=%#[],.ab1 "), max_size=60))
def test_a_url_of_signs_is_read_as_libpq_reads_it_or_refused(rest: str) -> None:
    """User, password, host, port and database are libpq's, wherever the signs stand."""
    url = f"postgresql://{rest}"
    try:
        target = clean(url)
    except BadInputError:
        return

    before, _, _ = url.partition("?")
    theirs = conninfo_to_dict(before)
    ours = target.connect_kwargs()
    assert {name: ours[name] for name in theirs if theirs[name]} == {k: v for k, v in theirs.items() if v}


def test_the_password_travels_in_the_environment() -> None:
    """A child gets the password by PGPASSWORD, and nothing when there is none."""
    assert clean(BASE).child_environment() == {"PGPASSWORD": PASSWORD}
    assert clean("postgresql://h/shop").child_environment() == {}


def test_a_secret_without_a_variable_stops_before_a_child() -> None:
    """`sslpassword` could only stand in an argv: no child gets it, psycopg does."""
    target = clean(f"{BASE}?sslcert=c&sslkey=k&sslpassword=open-sesame")

    assert target.connect_kwargs()["sslpassword"] == "open-sesame"
    with pytest.raises(BadInputError, match="sslpassword") as caught:
        target.child_environment()
    assert "open-sesame" not in str(caught.value)


def test_conninfo_takes_overrides_but_no_secret() -> None:
    """Another database or timeout may be set, a keyword left out, a secret never put in."""
    target = clean(BASE)

    changed = conninfo_to_dict(target.conninfo(dbname="post'gres\\", connect_timeout=3, user=None))

    assert changed == {
        "host": "db.example.com",
        "port": "5432",
        "dbname": "post'gres\\",
        "connect_timeout": "3",
    }
    with pytest.raises(ValueError):
        target.conninfo(password="x")


def test_the_target_cannot_be_changed() -> None:
    """What was sanitized stays what it is."""
    target = clean(BASE)

    with pytest.raises(TypeError):
        target.keywords["host"] = "evil"  # type: ignore[index]
    with pytest.raises(AttributeError):
        target.schema = "evil"  # type: ignore[misc]
    assert replace(target, schema="x").keywords == target.keywords


LABELS = {
    "tcp": (BASE, "shop at db.example.com:5432"),
    "socket": (f"{BASE}?host=/run/postgresql", "shop at socket /run/postgresql"),
    "socket of another port": ("postgresql://:5433/shop?host=/tmp", "shop at socket /tmp, port 5433"),
    "IPv6": ("postgresql://[::1]/shop", "shop at [::1]:5432"),
    "several": ("postgresql://a,b:2/shop", "shop at a:5432, b:2"),
    "address": (f"{BASE}?hostaddr=10.0.0.1", "shop at db.example.com:5432 (10.0.0.1)"),
    "address alone": ("postgresql:///shop?hostaddr=10.0.0.1", "shop at 10.0.0.1:5432"),
    "service": ("postgresql:///shop?service=reporting", "shop at service reporting"),
    "service alone": ("postgresql://?service=reporting", "a database at service reporting"),
    "control characters": ("postgresql://h/sh%1B%0Aop", "sh\\x1b\\nop at h:5432"),
}


@pytest.mark.parametrize(("url", "label"), LABELS.values(), ids=LABELS.keys())
def test_label_names_the_database(url: str, label: str) -> None:
    """People see where the work goes, and no name writes to their terminal."""
    assert clean(url).label == label


def test_label_shows_what_the_environment_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    """PGHOST, PGPORT and PGHOSTADDR lead nobody elsewhere than Prisma goes; PGUSER, which libpq obeys, is shown."""
    for name, value in {"PGHOST": "p", "PGPORT": "1", "PGHOSTADDR": "10.9.8.7", "PGUSER": "me"}.items():
        monkeypatch.setenv(name, value)

    target = clean("postgresql:///shop")

    assert target.label == "shop at localhost:5432"
    assert target.keywords["hostaddr"] == ""
    assert ("PGHOSTADDR", "dropped") in [(change.parameter, change.action) for change in target.changes]
    assert (target.host, target.port, target.database) == ("localhost", "5432", "shop")
    assert target._known("user") == "me"


def test_a_service_is_not_guessed_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only the service file knows is empty, whatever the environment says: the file goes first."""
    monkeypatch.setenv("PGHOST", "elsewhere")
    monkeypatch.setenv("PGDATABASE", "other")

    target = clean("postgresql://?service=reporting")

    assert (target.host, target.port, target.database) == ("", "", "")


POOLED = {
    "plain": (BASE, False),
    "flag": (f"{BASE}?pgbouncer=true", True),
    "flag off": (f"{BASE}?pgbouncer=false", False),
    "Neon": ("postgresql://ep-cool-1-pooler.eu-central-1.aws.neon.tech/shop", True),
    "Neon direct": ("postgresql://ep-cool-1.eu-central-1.aws.neon.tech/shop", False),
    "Supabase transactions": ("postgresql://aws-0-eu.pooler.supabase.com:6543/postgres", True),
    "Supabase sessions": ("postgresql://aws-0-eu.pooler.supabase.com:5432/postgres", False),
    "Supabase dedicated": ("postgresql://db.abc.supabase.co:6543/postgres", True),
    "Supabase direct": ("postgresql://db.abc.supabase.co/postgres", False),
    "other pooler": ("postgresql://x.pooler.example.com/shop", True),
    "PgBouncer's port": ("postgresql://db.example.com:6432/shop", True),
    "RDS Proxy": ("postgresql://shop.proxy-abc.eu-west-1.rds.amazonaws.com/shop", True),
    "RDS": ("postgresql://shop.abc.eu-west-1.rds.amazonaws.com/shop", False),
    "DigitalOcean's pool": ("postgresql://shop-do-user-1.b.db.ondigitalocean.com:25061/shop", True),
    "DigitalOcean": ("postgresql://shop-do-user-1.b.db.ondigitalocean.com:25060/shop", False),
    "Azure's PgBouncer": ("postgresql://shop.postgres.database.azure.com:6432/shop", True),
    "Prisma Postgres": ("postgresql://pooled.db.prisma.io/postgres", True),
    "overridden": ("postgresql://x.pooler.example.com/shop?host=/run/postgresql", False),
}


@pytest.mark.parametrize(("url", "pooled"), POOLED.values(), ids=POOLED.keys())
def test_pooled_tells_transaction_poolers(url: str, pooled: bool) -> None:
    """A URL that leads to a transaction pooler is marked, a session pooler is not."""
    assert clean(url).pooled is pooled


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Neon", "remove `-pooler` from the host"),
        ("Supabase transactions", "port 5432"),
        ("RDS Proxy", "instead of RDS Proxy's"),
        ("DigitalOcean's pool", "25060"),
        ("Azure's PgBouncer", "5432"),
        ("Prisma Postgres", "db.prisma.io"),
        ("plain", ""),
        ("flag", ""),
    ],
)
def test_known_poolers_come_with_the_advice_that_fits(name: str, expected: str) -> None:
    """Each provider has its own way to the direct connection."""
    advice = clean(POOLED[name][0]).advice

    assert (expected in advice) if expected else (advice == "")


SCRUBBED = {
    "plain": f"password is {PASSWORD}.",
    "in a URL": f"{BASE}?x=1",
    "glued": f"xx{PASSWORD}yy",
    "twice": f"{PASSWORD} {PASSWORD}",
}


@pytest.mark.parametrize("text", SCRUBBED.values(), ids=SCRUBBED.keys())
def test_scrub_replaces_a_password_anywhere(text: str) -> None:
    """A password that is no common word goes wherever it stands; the rest stays."""
    assert clean(BASE).scrub(text) == text.replace(PASSWORD, MASK)


@given(password=passwords)
def test_scrub_knows_every_form(password: str) -> None:
    """Raw, encoded, as written, quoted for libpq, and as Python shows it."""
    target = clean(f"postgresql://u:{quote(password, safe='')}@h/shop")
    quoted = target.conninfo().replace("user=u", "") + " " + conninfo_of(password)

    for text in (password, quote(password), quote(password, safe=""), repr(password), quoted):
        assert password not in target.scrub(text)
        assert quote(password, safe="") not in target.scrub(text)
        assert MASK in target.scrub(text)


def conninfo_of(password: str) -> str:
    """Quote a password as a libpq connection string holds it."""
    return "password='" + password.replace("\\", "\\\\").replace("'", "\\'") + "'"


def test_scrub_knows_the_form_of_the_url() -> None:
    """A needless encoding in the URL is found again."""
    target = clean("postgresql://u:%73ecret%2dword@h/shop")

    assert target.scrub("saw u:%73ecret%2dword@h and secret-word") == "saw u:****@h and ****"


def test_scrub_knows_the_encoded_form_of_what_the_url_left_raw() -> None:
    """Another program may encode more than the URL does, and may spare the slash."""
    target = clean("postgresql://u:br[ck]et%2Fs@h/shop")

    assert target.scrub("br%5Bck%5Det%2Fs and br%5Bck%5Det/s") == "**** and ****"


@pytest.mark.parametrize("password", ["a", "pw", "postgres", "shop", "5432", "word"])
def test_scrub_leaves_messages_readable(password: str) -> None:
    """A short or common password is replaced only where it stands as one."""
    target = clean(f"postgresql://postgres:{password}@h/shop")
    message = 'database "shop" of postgres at 5432 needs a password word, see pw'

    assert target.scrub(message) == message
    assert target.scrub(f"postgresql://postgres:{password}@h/shop") == "postgresql://postgres:****@h/shop"
    assert target.scrub(f"password={password} port=1") == "password=**** port=1"
    assert target.scrub(f"PGPASSWORD={password}") == "PGPASSWORD=****"


def test_masked_is_the_connection_string_without_secrets() -> None:
    """`db.url` shows what libpq gets."""
    assert clean(f"{BASE}?schema=x&sslmode=require").masked == (
        "host=db.example.com port=5432 user=app dbname=shop sslmode=require password=****"
    )


def test_reasons_never_hold_values() -> None:
    """What is dropped is named, its value is not."""
    target = clean(f"{BASE}?api_key=top-secret-key&token=top-secret-too")

    assert "top-secret" not in repr(target.changes)
    assert [change.parameter for change in target.changes] == ["api_key", "token"]


def test_the_reason_warns_where_no_file_of_roots_is_found() -> None:
    """`system` is what pg_dump 14 and 15 do not know."""
    target = sanitize(f"{BASE}?sslaccept=strict", roots=lambda: "system")

    assert target.keywords["sslrootcert"] == "system"
    assert "pg_dump 15 and older" in target.changes[0].reason


def test_system_roots_is_a_file_or_system() -> None:
    """What `sslaccept=strict` verifies against exists."""
    found = system_roots()

    assert found == "system" or Path(found).is_file()


def test_sslcert_is_below_prisma_by_default() -> None:
    """Prisma reads a relative path from the folder of its schema."""
    target = sanitize(f"{BASE}?sslcert=ca.pem")

    assert target.keywords["sslrootcert"] == str(Path.cwd() / "prisma" / "ca.pem")
