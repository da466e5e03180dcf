"""Fixtures: servers of five majors, databases on them, and a project in which `inv` runs."""

import contextlib
import gc
import importlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests import everything as everything_sql
from tests.flows import ran
from tests.journal import installed, lay_out
from tests.schemas import SHOP
from tests.servers import DEFAULT_MAJOR, MAJORS, OWNER, SUPERUSER, Fleet, Server, ServerSetupError
from tests.support import Database, Databases, Project, listen

# Set in CI, where every program that a test needs can be installed.
COMPLETE = "TESTS_SKIP_NOTHING"
# Files that name tests, one a line: those that passed here are added; those that may be skipped here, as they passed
# in another run.
PASSED = "TESTS_PASSED"
ELSEWHERE = "TESTS_PASSED_ELSEWHERE"

LONG = ("test_large.py", "test_memory.py", "test_under_writers.py")

# How long an example takes says something of the machine, and nothing of us.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks that choose the servers of a test; listen to what a parent has let us ignore.

    That is SIGHUP below nohup, and SIGINT in what a script starts with `&`; what the tests start would ignore it, too.
    """
    listen()
    config.addinivalue_line("markers", "all_majors: run on every major of PostgreSQL, not on one only")
    config.addinivalue_line(
        "markers", "root: behaves otherwise for root, needs root or a package of the system; the gate runs it twice"
    )
    config.addinivalue_line(
        "markers",
        "majors(*majors): run on these majors of PostgreSQL; on 14 and 18 if what is tested branches on no other major "
        "than 15 (closed public), 16 (grants of SET) and 17 (event triggers off), which lie between them",
    )


def pytest_collection(session: pytest.Session) -> None:
    """Import a worker's share of the modules first, so that each module is compiled by one worker, not by all at once.

    Pytest compiles a test module with what its assertions show, which takes as long as collecting the tests.
    """
    worker: dict[str, Any] = getattr(session.config, "workerinput", {})
    if not worker or session.config.args != session.config.getini("testpaths"):
        return
    modules = sorted(Path(__file__).parent.glob("test_*.py"))
    for path in modules[int(worker["workerid"].removeprefix("gw")) % worker["workercount"] :: worker["workercount"]]:
        # What can't be imported is reported where it is collected.
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(f"{__package__}.{path.stem}")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name what was left out where nothing may be; with `--durations` the slowest modules, too."""
    if terminalreporter.config.getoption("durations"):
        _show_slowest_modules(terminalreporter)
    for nodeid in _left_out(terminalreporter):
        terminalreporter.write_line(f"Skipped, and run nowhere else: {nodeid}. That is a failure.", red=True)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Let a run fail that left a test out where nothing may be left out; note what passed."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput"):
        return
    if path := os.environ.get(PASSED):
        with Path(path).open("a", encoding="utf-8") as file:
            file.writelines(f"{nodeid}\n" for nodeid in _nodeids(reporter, "passed"))
    if exitstatus == 0 and _left_out(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests: at the end the other workers would wait for them."""
    items.sort(key=lambda item: item.path.name not in LONG)


def pytest_collection_finish() -> None:
    """Leave what was collected out of later searches for garbage: some hundred thousand objects, none of which is."""
    gc.collect()
    gc.freeze()


def _show_slowest_modules(terminalreporter: Any) -> None:
    """Print which modules take the longest, with their tests' and fixtures' seconds."""
    spent: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration"):
                spent[report.nodeid.partition("::")[0]] += report.duration
    terminalreporter.section("slowest modules")
    for module, seconds in spent.most_common(20):
        terminalreporter.write_line(f"{seconds:7.1f} s  {module}")


def _nodeids(reporter: Any, outcome: str) -> list[str]:
    return [report.nodeid for report in reporter.stats.get(outcome, ())]


def _left_out(reporter: Any) -> list[str]:
    """List the tests that were skipped although they pass in no other run; nothing where that is all right."""
    elsewhere = os.environ.get(ELSEWHERE)
    if not elsewhere and not os.environ.get(COMPLETE):
        return []
    covered = Path(elsewhere).read_text(encoding="utf-8").splitlines() if elsewhere else []
    return sorted(set(_nodeids(reporter, "skipped")) - set(covered))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that needs a server on the majors that its marks name."""
    if "server" in metafunc.fixturenames:
        majors = _majors_of(metafunc.definition)
        ids = [f"pg{major}" for major in majors]
        metafunc.parametrize("server", majors, ids=ids, indirect=True, scope="session")


def _majors_of(item: pytest.Item) -> tuple[int, ...]:
    if item.get_closest_marker("all_majors"):
        return MAJORS
    chosen = item.get_closest_marker("majors")
    return chosen.args if chosen else (DEFAULT_MAJOR,)


@pytest.fixture(scope="session")
def server_of(request: pytest.FixtureRequest) -> Iterator[Callable[[int], Server]]:
    """Return the running server of a major; each starts when it is first needed, once per process."""
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")

    def announce(line: str) -> None:
        with capture.global_and_fixture_disabled():
            # Not to stdout, over which a worker of pytest-xdist talks with its master.
            print(f"\n{line}", file=sys.stderr, flush=True)  # noqa: T201

    fleet = Fleet(announce=announce)

    def start(major: int) -> Server:
        try:
            return fleet(major)
        except ServerSetupError as error:
            reason = str(error)
        if hasattr(request.config, "workerinput"):
            # pytest-xdist takes the exit of a worker for a crash, and hides the sentence.
            pytest.fail(reason, pytrace=False)
        pytest.exit(reason, returncode=3)

    try:
        yield start
    finally:
        fleet.close()


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, server_of: Callable[[int], Server]) -> Server:
    """Return the server of this run of the test: the default major's, or one of those that its marks name."""
    return server_of(request.param)


@pytest.fixture
def new_database(server: Server) -> Iterator[Databases]:
    """Return what makes databases on the server; all are dropped after the test."""
    with Databases(server) as databases:
        yield databases


@pytest.fixture
def database(new_database: Databases) -> Database:
    """Return a new, empty database."""
    return new_database()


@pytest.fixture
def shop(new_database: Databases) -> Database:
    """Return a small database of two schemas that depend on each other; it is not that of the fixture `database`."""
    database = new_database()
    database.execute(SHOP)
    return database


@pytest.fixture(scope="session")
def template_of() -> Callable[[Server, bool], Database]:
    """Return the database with everything in it, built once per server, which tests get clones of."""
    built: dict[tuple[int, bool], Database] = {}

    def template(server: Server, superuser: bool) -> Database:
        key = server.major, superuser
        if key not in built:
            built[key] = everything_sql.build(server, superuser=superuser)
        return built[key]

    return template


@pytest.fixture
def everything(new_database: Databases, server: Server, template_of: Callable[[Server, bool], Database]) -> Database:
    """Return a clone of the database with everything in it that a superuser can make."""
    return new_database(owner=SUPERUSER, template=template_of(server, True))


@pytest.fixture
def owner_everything(
    new_database: Databases, server: Server, template_of: Callable[[Server, bool], Database]
) -> Database:
    """Return a database of a plain owner, with everything in it that such a role can make."""
    return new_database(owner=OWNER, template=template_of(server, False))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Return a project of a person, in which `inv` loads our tasks."""
    project = Project.create(tmp_path / "project")
    try:
        yield project
    finally:
        project.close()


@pytest.fixture(scope="session")
def modules() -> Path:
    """Return the example's `node_modules`, with the real Prisma."""
    return installed()


@pytest.fixture
def journal(project: Project, modules: Path) -> Project:
    """Return a project that is a copy of the example."""
    lay_out(project, modules)
    return project


@pytest.fixture(scope="session")
def journal_of(modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Server], Database]:
    """Return the example's database with its six migrations, applied once per server, which tests get clones of."""
    built: dict[int, Database] = {}

    def template(server: Server) -> Database:
        if server.port not in built:
            project = Project.create(tmp_path_factory.mktemp("journal") / "project")
            lay_out(project, modules)
            database = Database(server, "journal_migrated")
            with server.connect() as connection:
                connection.execute("CREATE DATABASE journal_migrated")
            ran(project.use(database), "db.migrate")
            with server.connect() as connection:
                # Tests that drop what they made leave it alone.
                connection.execute("ALTER DATABASE journal_migrated IS_TEMPLATE true")
            built[server.port] = database
        return built[server.port]

    return template


@pytest.fixture
def migrated_journal(
    journal: Project, new_database: Databases, server: Server, journal_of: Callable[[Server], Database]
) -> Database:
    """Return the example's database with its six migrations and no rows; the project's URL names it."""
    database = new_database(template=journal_of(server))
    journal.use(database)
    return database
