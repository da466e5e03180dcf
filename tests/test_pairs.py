"""A dump of each major restores into each, and verifies: 25 pairs."""

from collections.abc import Callable, Iterator

import pytest

from tasks.dump.dump import Dumped, make_dump
from tasks.dump.request import DumpRequest
from tasks.progress import Silence
from tasks.restore.plan import plan_restore
from tasks.restore.request import RestoreRequest
from tasks.restore.restore import restore_dump
from tasks.verify.verify import VerifyRequest, verify_database
from tests import everything as everything_sql
from tests.flows import settings_of
from tests.servers import MAJORS, Server
from tests.support import Database, Databases, Project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project that keeps the dumps of all majors."""
    return Project.create(tmp_path_factory.mktemp("pairs") / "project")


@pytest.fixture(scope="module")
def databases(server_of: Callable[[int], Server]) -> Iterator[Databases]:
    """Return what makes databases on every server."""
    with Databases(server_of(MAJORS[0])) as made:
        yield made


@pytest.fixture(scope="module")
def source_of(server_of: Callable[[int], Server], databases: Databases) -> Callable[[int], Database]:
    """Return the same content on any server: what 14 knows of the database with everything in it."""
    made: dict[int, Database] = {}

    def source(major: int) -> Database:
        if major not in made:
            setup, rest = (everything_sql.text(MAJORS[0], superuser=True, setup=each) for each in (True, False))
            made[major] = databases(server=server_of(major))
            if major == MAJORS[0]:
                made[major].execute(setup)
                made[major].execute(rest)
            else:
                # Its first sections make the roles that the dump grants to.
                databases(server=server_of(major)).execute(setup)
                made[major].psql(source(MAJORS[0]).dump_text())
        return made[major]

    return source


@pytest.fixture(scope="module")
def dump_of(source_of: Callable[[int], Database], project: Project) -> Callable[[int], Dumped]:
    """Return the dump of a major, with checksums."""
    made: dict[int, Dumped] = {}

    def dump(major: int) -> Dumped:
        if major not in made:
            dumped = make_dump(settings_of(project, source_of(major)), DumpRequest(checksums=True), Silence())
            assert dumped is not None
            made[major] = dumped
        return made[major]

    return dump


@pytest.mark.parametrize("to_major", MAJORS)
@pytest.mark.parametrize("from_major", MAJORS)
def test_dump_restores_and_verifies_when_majors_differ(
    dump_of: Callable[[int], Dumped],
    source_of: Callable[[int], Database],
    project: Project,
    from_major: int,
    to_major: int,
) -> None:
    """Every row, value, sequence and object; only versions of extensions may be told."""
    dumped = dump_of(from_major)
    source = source_of(to_major)
    with Databases(source.server) as databases:
        settings = settings_of(project, databases())
        request = RestoreRequest(file=str(dumped.path), clean=True, checksums=True)

        restored = restore_dump(plan_restore(settings, request, Silence()), Silence())
        verified = verify_database(settings, VerifyRequest(file=str(dumped.path), checksums=True), Silence())

    assert restored.rows == dumped.manifest.rows
    assert verified.differences == []
    told = {str(line) for line in verified.lines if line.kind not in {"extension", "server", "owner"}}
    assert told == set()
    assert verified.expected is not None
    assert verified.expected.state.checksums == verified.found.checksums
    assert len(verified.found.checksums) == len(verified.found.rows) > 40
    assert (verified.expected.state.major, verified.found.major) == (from_major, to_major)


def test_manifests_are_equal_when_only_the_majors_differ(dump_of: Callable[[int], Dumped]) -> None:
    """One schema and one content, dumped on each server: rows, sequences, sums, stable digests."""
    found = {}
    for major in MAJORS:
        manifest = dump_of(major).manifest
        stable = {
            kind: {name: each if isinstance(each, str) else each["facts"] for name, each in objects.items()}
            for kind, objects in manifest.facts["definitions"].items()
        }
        found[major] = (manifest.tables, manifest.sequences, manifest.facts["checksums"], stable)

    for major in MAJORS[1:]:
        assert found[major] == found[14]
