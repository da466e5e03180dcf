"""Where connections really lead: tunnels, several hosts, services and the environment, with real ones of each."""

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from tasks.config.settings import Settings
from tasks.dump.dump import make_dump
from tasks.dump.request import DumpRequest
from tasks.dumpfiles.origin import is_this_machine
from tasks.errors import GuardError, OperationFailedError
from tasks.postgres.commit import Outcome, ask_outcome
from tasks.postgres.connection import connected, read_endpoint, server_facts
from tasks.progress import Silence
from tasks.restore.plan import plan_restore
from tasks.restore.request import RestoreRequest
from tasks.restore.reset import plan_reset, reset_database
from tasks.restore.restore import restore_dump
from tasks.restore.undo import plan_undo
from tasks.safety.guard import nonlocal_reason
from tests.flows import settings_of
from tests.forwarding import Forwarder
from tests.marks import Mark
from tests.schemas import SHOP
from tests.servers import Server
from tests.support import Database, Databases, Project


@pytest.fixture
def other(shop: Database, server_of: Callable[[int], Server]) -> Iterator[Database]:
    """Return a database of the same name and content on another server."""
    with Databases(server_of(16)) as databases:
        database = databases(name=shop.name)
        database.execute(SHOP)
        yield database


def own_address() -> str:
    """Return an address of this machine that is not loopback; empty where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def through(settings: Settings, port: int) -> Settings:
    """Lead the URL through another port."""
    url = urlsplit(settings.environ["DATABASE_URL"])
    netloc = f"{url.netloc.rpartition(':')[0]}:{port}"
    return replace(settings, environ={**settings.environ, "DATABASE_URL": url._replace(netloc=netloc).geturl()})


def test_a_tunnel_is_found_out_by_a_manifest(shop: Database, project: Project) -> None:
    """Both ends of a port forward say loopback, but a dump was made of that cluster at another host: 7."""
    project.use(shop)
    assert project.inv("db.dump").returncode == 0
    path = next(project.dumps.glob("*.manifest.json"))
    document = json.loads(path.read_text(encoding="utf-8"))
    document["source"]["host"] = "db.example.com"
    path.write_text(json.dumps(document), encoding="utf-8")
    before = shop.dump_text()
    identifier = shop.scalar("SELECT system_identifier::text FROM pg_control_system()")

    with Forwarder(lambda _: shop.server.port) as tunnel:
        settings = through(settings_of(project, shop), tunnel.port)
        env = {"DATABASE_URL": settings.environ["DATABASE_URL"]}
        alone = project.inv("db.restore", "--clean", "--yes", env=env)
        mistaken = project.inv("db.restore", "--clean", "--yes", "--confirm=shop", env=env)
        protected = project.inv(
            "db.restore", "--clean", f"--confirm={shop.name}", env={**env, "INVOKE_DB_PROTECTED": identifier}
        )
        untouched = shop.dump_text()
        named = project.inv("db.restore", "--clean", "--yes", f"--confirm={shop.name}", env=env)

    assert [alone.returncode, mistaken.returncode, protected.returncode] == [7, 7, 7]
    assert "this server at db.example.com, so 127.0.0.1 is a tunnel" in alone.stderr
    assert untouched == before
    assert named.returncode == 0, named.stderr


@pytest.mark.parametrize("host", [socket.gethostname(), "127.0.0.9"])
def test_own_name_of_this_machine_is_no_tunnel(host: str, shop: Database, project: Project) -> None:
    """A dump of the same server that was made by this machine's own name or address leaves it local."""
    assert project.use(shop).inv("db.dump").returncode == 0
    path = next(project.dumps.glob("*.manifest.json"))
    document = json.loads(path.read_text(encoding="utf-8"))
    document["source"]["host"] = host
    path.write_text(json.dumps(document), encoding="utf-8")

    with connected(settings_of(project, shop).target()) as connection:
        endpoint = read_endpoint(connection, server_facts(connection))

    assert nonlocal_reason(settings_of(project, shop), endpoint) == ""


@pytest.mark.skipif(not own_address(), reason="this machine has no address but loopback")
def test_own_address_is_this_machine() -> None:
    """An address of the documentation's range is not."""
    assert is_this_machine(own_address())
    assert not is_this_machine("192.0.2.1")
    assert not is_this_machine("db.example.com")


def test_a_restore_goes_where_it_was_judged_or_nowhere(shop: Database, other: Database, project: Project) -> None:
    """The second connection leads to another server: of several hosts, or a proxy that spreads them."""
    assert project.use(shop).inv("db.dump").returncode == 0
    mark = Mark(other)
    ports = [shop.server.port]

    with Forwarder(lambda _: ports[0]) as spread:
        settings = through(settings_of(project, shop), spread.port)
        plan = plan_restore(settings, RestoreRequest(clean=True), Silence())
        emptied = plan_reset(settings, ["app"], Silence())
        ports[0] = other.server.port

        with pytest.raises(GuardError):
            restore_dump(plan, Silence())
        with pytest.raises(GuardError):
            reset_database(emptied, Silence())

    assert mark.is_untouched()


def test_a_safety_dump_is_of_what_is_destroyed(shop: Database, other: Database, project: Project) -> None:
    """Where its own connection leads to another server, nothing is destroyed."""
    assert project.use(shop).inv("db.dump").returncode == 0
    mark = Mark(shop)

    with Forwarder(lambda _: shop.server.port) as spread:
        settings = through(settings_of(project, shop), spread.port)
        plan = plan_restore(settings, RestoreRequest(clean=True), Silence())
        first = spread.seen
        spread.target = lambda number: shop.server.port if number == first else other.server.port

        with pytest.raises(GuardError):
            restore_dump(plan, Silence())

    assert mark.is_untouched()
    assert list((project.dumps / "undo").glob("db_undo*")) == []


def test_an_undo_is_of_its_own_database(shop: Database, other: Database, project: Project) -> None:
    """The safety dump was looked for at one server, and the undo is planned on another."""
    assert project.use(shop).inv("db.dump").returncode == 0
    with Forwarder(lambda _: shop.server.port) as spread:
        settings = through(settings_of(project, shop), spread.port)
        restore_dump(plan_restore(settings, RestoreRequest(clean=True), Silence()), Silence())
        first = spread.seen
        spread.target = lambda number: shop.server.port if number == first else other.server.port

        with pytest.raises(GuardError):
            plan_undo(settings, Silence())


def test_another_server_is_not_asked_what_became_of_a_commit(shop: Database, other: Database, project: Project) -> None:
    """It has a transaction of that number, too, and would say something of that one."""
    xid = str(shop.scalar("SELECT pg_current_xact_id()::text"))
    ours = settings_of(project, shop).target()
    with connected(ours) as connection:
        cluster = server_facts(connection).system_identifier

    there = ask_outcome(xid, settings_of(project, other).target(), cluster, patience=0.1)
    here = ask_outcome(xid, ours, cluster)

    assert (there, here) == (Outcome.UNKNOWN, Outcome.COMMITTED)


def test_a_dump_has_one_snapshot_or_is_none(shop: Database, other: Database, project: Project) -> None:
    """pg_dump is led to another server than the snapshot's: an error that says so, and no file."""
    with Forwarder(lambda number: (shop, other)[number % 2].server.port) as spread:
        settings = through(settings_of(project, shop), spread.port)

        with pytest.raises(OperationFailedError):
            make_dump(settings, DumpRequest(), Silence())

    assert [path.name for path in project.dumps.iterdir() if path.name.startswith("db_dump")] == []


SPELLED = {
    "an address beside a name": "postgresql://{login}@db.example.com:{port}/{name}?hostaddr=127.0.0.1",
    "a host that goes before the host": "postgresql://{login}@db.example.com:{port}/{name}?host=127.0.0.1",
    "a socket that goes before the host": "postgresql://{login}@db.example.com:{port}/{name}?host={socket}",
    "several hosts": "postgresql://{login}@127.0.0.2:1,127.0.0.1:{port}/{name}",
    "a service": "postgresql://{login}@/?service=shop",
}


@pytest.mark.parametrize("url", SPELLED.values(), ids=SPELLED.keys())
def test_it_counts_where_a_url_leads_and_not_its_spelling(
    url: str, shop: Database, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of these lead to this machine, and so count as local; what protects a database goes by that, too."""
    login = urlsplit(shop.url_as("postgres")).netloc.rpartition("@")[0]
    server, socket = shop.server, "socket" in url
    service = f"[shop]\nhost=127.0.0.1\nport={server.port}\ndbname={shop.name}\n"
    monkeypatch.setenv("PGSERVICEFILE", str(project.write("services.conf", service)))
    url = url.format(login=login, port=server.port, name=shop.name, socket=server.socket_dir)
    settings = settings_of(project, shop, environ={"DATABASE_URL": url})
    where = str(server.socket_dir) if socket else "127.0.0.1"

    plan = plan_reset(settings, ["app"], Silence())

    assert plan.nonlocal_reason == ""
    assert (plan.endpoint.host if socket else plan.endpoint.address, plan.endpoint.database) == (where, shop.name)
    for pattern in (where, shop.name, plan.endpoint.identifier):
        with pytest.raises(GuardError):
            plan_reset(replace(settings, protected=(pattern,)), ["app"], Silence())


@pytest.mark.parametrize("way", ["PGHOSTADDR", "PGSERVICE"])
def test_the_environment_leads_nobody_elsewhere(way: str, shop: Database, other: Database, project: Project) -> None:
    """The URL's host is meant, as Prisma takes it, whatever address libpq would find in its own variables."""
    service = project.write("services.conf", "[elsewhere]\nhostaddr=127.0.0.9\nhost=db.example.com\nport=1\n")
    env = {
        "PGHOSTADDR": {"PGHOSTADDR": "127.0.0.9", "PGHOST": "db.example.com", "PGPORT": str(other.server.port)},
        "PGSERVICE": {"PGSERVICE": "elsewhere", "PGSERVICEFILE": str(service)},
    }[way]
    project.use(shop)

    shown = project.inv("db.url", env=env)
    dumped = project.inv("db.dump", env=env)

    assert "127.0.0.9" not in shown.stdout
    assert dumped.returncode == 0, dumped.stderr


def test_a_place_on_ipv6_is_local(shop: Database, project: Project) -> None:
    """Its loopback is loopback, and a mapped address is not taken for one."""
    settings = settings_of(project, shop)
    with connected(settings.target()) as connection:
        here = read_endpoint(connection, server_facts(connection))

    found = [
        nonlocal_reason(settings, replace(here, host="localhost", address=address, server=address))
        for address in ("::1", "0:0:0:0:0:0:0:1", "fe80::1%lo", "2001:db8::1")
    ]

    assert [bool(reason) for reason in found] == [False, False, True, True]
