"""The benchmark: its numbers, its targets, its report, and a small run of it."""

from __future__ import annotations

import getpass
import re
import socket
import sys
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks import bench, commands, databases, figures, machine, options, report, results, running, showing
from benchmarks.commands import CASES, Case
from benchmarks.options import DATABASES, Options
from benchmarks.results import Contents, Measured, Result, Sample
from tasks.errors import BadInputError, OperationFailedError
from tests.support import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server
    from tests.support import Databases, Project

SLOWEST = 10.0


def sample(seconds: float, *, own_cpu: float = 1.0, own_peak: float = 50.0) -> Sample:
    """Make one run's numbers."""
    peaks = {"inv": own_peak, "pg_dump": 12.5}
    return Sample(1, seconds, own_cpu + 0.5, own_cpu, own_peak, peaks, wal=1_000_000, written=2_000_000)


def measured(database: str, case: Case, *seconds: float, own_cpu: float = 1.0, own_peak: float = 50.0) -> Measured:
    """Make a command's numbers."""
    samples = tuple(sample(each, own_cpu=own_cpu, own_peak=own_peak) for each in seconds)
    return Measured(database, case.kind, case.slug, case.shown, case.ours, case.reference, case.compresses, samples)


def made(**seconds: float) -> Result:
    """Make a result in which each command takes 10 s, unless told otherwise by `database__slug_with_underscores`."""
    found = []
    for database, cases in CASES.items():
        for case in cases:
            took = seconds.get(f"{database}__{case.slug.replace('-', '_')}", SLOWEST)
            found.append(measured(database, case, took, own_cpu=0.1 if database == "tenth" else 1.0))
    contents = {name: Contents(3, 100_000 if name == "tenth" else 1_000_000, 10**9) for name in DATABASES}
    return Result(
        "2026-01-31", 1_500_000, 1, "uv run inv bench", {"cores": "2"}, {"fsync": "on"}, contents, tuple(found)
    )


def met(result: Result) -> list[bool | None]:
    """Tell which targets were met."""
    return [target.met for target in figures.targets(result)]


def test_the_flags_have_defaults_and_an_order() -> None:
    """Databases come in the order in which they are measured, whatever order they were named in."""
    asked = options.read(scale="1500000", rounds="3", databases="", only="", keep=False)
    some = options.read(scale="200", rounds="1", databases="empty, journal", only="gzip,ours", keep=True)

    assert asked == Options()
    assert asked.whole
    assert some == Options(200, 1, ("journal", "empty"), ("gzip", "ours"), keep=True)
    assert not some.whole
    assert some.command == "uv run inv bench --scale=200 --rounds=1 --databases=journal,empty --only=gzip,ours"


@pytest.mark.parametrize(
    ("flag", "value"),
    [("scale", "many"), ("scale", "199"), ("rounds", "0"), ("rounds", "1.5"), ("databases", "huge,x")],
)
def test_a_flag_that_makes_no_sense_is_refused(flag: str, value: str) -> None:
    """With the flag and the value in the sentence."""
    asked = {"scale": "1000", "rounds": "1", "databases": "", "only": "", "keep": False, flag: value}

    with pytest.raises(BadInputError, match=rf"--{flag}=.*{value[-1]}"):
        options.read(**asked)  # type: ignore[arg-type]


def test_a_bad_flag_ends_the_command_with_2(project: Project) -> None:
    """And before anything is started."""
    result = project.inv("bench", "--scale=lots")

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("--scale=lots is no whole number of at least 200.")


@pytest.mark.parametrize("database", DATABASES)
def test_each_kind_has_one_reference(database: str) -> None:
    """Ratios are against one command of ours, names are not used twice, and inputs can be made."""
    cases = CASES[database]

    for kind in {case.kind for case in cases}:
        (reference,) = [case for case in cases if case.kind == kind and case.reference]
        assert reference.ours
    assert len({case.slug for case in cases}) == len(cases)
    assert {name for case in cases for name in case.inputs} <= commands.INPUTS.keys()
    assert {case.kind for case in cases} <= set(showing.KINDS)


def test_words_choose_commands() -> None:
    """Of the commands' names, one word must be a part."""
    chosen = commands.chosen("journal", ("dbbackup", "verify"))

    assert [case.slug for case in chosen] == ["dump-dbbackup", "dump-dbbackup-compress", "verify-ours"]


def test_figures_are_medians_spreads_and_ratios() -> None:
    """The fastest first; a ratio of 2 is twice as long as the reference."""
    reference, peer = CASES["journal"][0], Case("dump", "peer", "pg_dump")
    result = replace(
        made(), measured=(measured("journal", peer, 9, 4, 8), measured("journal", reference, 4, 1, 100, own_peak=99))
    )

    ours, other = figures.figures(result, "journal", "dump")

    assert (ours.median, ours.least, ours.most, ours.ratio, ours.own_peak, ours.peak) == (4, 1, 100, 1, 99, 99)
    assert (other.median, other.least, other.most, other.ratio) == (8, 4, 9, 2)
    assert showing.cells(other) == ("8.00", "4.00 to 9.00", "2.00", "1.50", "", "", "50", "1.0", "2.0")


def test_targets_are_met_at_their_very_number() -> None:
    """Each at its limit."""
    result = made(
        journal__dump_ours_gzip=2,
        journal__dump_custom_z1=1.9,
        journal__restore_ours=10,
        journal__restore_ours_empty=10,
        journal__restore_gunzip_psql=13,
        journal__restore_custom_j2=9.5,
        journal__restore_ours_swap=9.6,
        journal__restore_directory_j2_analyzed=9.5,
        journal__throttled_ours_swap_4=10,
        journal__throttled_directory_j4=12.5,
        huge__throttled_ours_swap_4=10,
        huge__throttled_directory_j4=18,
        journal__throttled_ours_zstd=10,
        journal__throttled_directory=12,
        journal__verify_ours=0.2,
        empty__dump_ours_plain=0.45,
        empty__dump_plain=0.1,
        empty__list_ours=0.15,
        empty__list_none=0.1,
    )

    assert met(result) == [True] * 18


def test_targets_are_missed_beyond_it() -> None:
    """Each just beyond its limit."""
    result = made(
        journal__dump_ours_gzip=2.01,
        journal__dump_custom_z1=1.9,
        journal__restore_gunzip_psql=12.9,
        journal__restore_custom_j2=9.4,
        journal__restore_ours_swap=11.1,
        journal__restore_directory_j2_analyzed=10.5,
        journal__throttled_directory_j4=12.4,
        huge__throttled_directory_j4=17.9,
        journal__throttled_directory=11.9,
        journal__verify_ours=0.21,
        empty__dump_ours_plain=0.46,
        empty__dump_plain=0.1,
        empty__list_ours=0.16,
        empty__list_none=0.1,
    )
    heavy = [
        replace(each, samples=(sample(each.samples[0].seconds, own_cpu=1.06 if large else 0.1, own_peak=161),))
        for each in result.measured
        for large in [each.database != "tenth"]
    ]

    assert met(replace(result, measured=tuple(heavy))) == [False] * 18


def test_targets_that_were_not_measured_are_neither() -> None:
    """A part of a run claims nothing."""
    nothing = replace(made(), measured=(), databases={})

    assert met(nothing) == [None] * 18


def test_a_result_comes_back_from_its_file() -> None:
    """Every sample, and a file of another version is refused."""
    result = made()

    text = results.dumps(result)

    assert results.loads(text) == result
    with pytest.raises(ValueError):
        results.loads(text.replace('"version": 1', '"version": 2'))


def test_the_report_holds_everything(tmp_path: Path) -> None:
    """Each command, target and setting, no placeholder, and pictures that a browser can read."""
    source = tmp_path / "2026-01-31-1500000.json"
    result = made(journal__dump_ours_gzip=2)
    source.write_text(results.dumps(result), encoding="utf-8")
    other = tmp_path / "others.json"
    other.write_text(results.dumps(replace(result, rounds=1, command="uv run inv bench --databases=many")))

    paths = report.main(source, other, folder=tmp_path)

    text = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert {path.name for path in paths} == {"performance.md", "performance-dump.svg", "performance-restore.svg"}
    assert not re.search(r"\$\w", text)
    assert all(f"`{each.shown}`".replace("|", "\\|") in text for each in result.measured)
    assert all(target.what in text for target in figures.targets(result))
    assert text.count("### journal") == 2
    assert (
        "each command once (`uv run inv bench --databases=many`; [its result](../benchmarks/results/others.json))"
        in text
    )
    assert {"| cores | 2 |", "| fsync | on |"} <= set(text.splitlines())
    assert all(
        line.count("|") - line.count("\\|") == 11 for line in text.splitlines() if re.match(r"\| \*\*`inv", line)
    )


def test_bars_are_as_long_as_the_medians() -> None:
    """In a picture that is XML, although commands hold `>` and `&`."""
    found = figures.figures(made(journal__dump_ours_gzip=2), "journal", "dump")

    picture = ET.fromstring(report.bars("Dumps", found))  # noqa: S314 - it is our own

    bars = [float(each.attrib["width"]) for each in picture.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert len(bars) == len(found)
    assert bars[0] == pytest.approx(bars[-1] * 2 / SLOWEST, abs=0.1)


def test_what_a_command_used_is_measured() -> None:
    """Seconds, CPU and memory of the process apart from its child's, and the bytes that went to a disk."""
    child = "x = bytearray(60_000_000)\nfor i in range(3_000_000): pass\n"
    own = "import subprocess, sys\nopen('f', 'wb').write(bytes(5_000_000))\n"
    own += f"subprocess.run([sys.executable, '-c', {child!r}])"

    with tempfile.TemporaryDirectory(dir=bench._on_disk()) as name:
        folder = Path(name)
        used = running.run([sys.executable, "-c", own], cwd=folder, env={}, log=folder / "said")

    assert 0 < used.own_cpu < used.cpu <= used.seconds * 2
    assert 5 < used.own_peak < 40
    assert 60 < max(used.peaks.values()) < 100
    assert 5_000_000 <= used.written < 5_500_000


def test_a_command_that_fails_is_no_sample(tmp_path: Path) -> None:
    """What it said is in the message; in a pipe each part counts."""
    argv = ["bash", "-o", "pipefail", "-c", "(echo too_bad >&2; exit 3) | cat"]
    env = {"PATH": "/usr/bin:/bin"}

    with pytest.raises(OperationFailedError, match=r"\b3\b.*too_bad"):
        running.run(argv, cwd=tmp_path, env=env, log=tmp_path / "said")

    assert running.run(argv, cwd=tmp_path, env=env, log=tmp_path / "said", status=3).seconds > 0


@pytest.fixture(scope="module")
def launched() -> Iterator[Server]:
    """A server as the benchmark has it."""
    server = bench._launch(bench._on_disk())
    try:
        yield server
    finally:
        server.close()


def test_the_server_is_as_durable_as_a_developers(launched: Server) -> None:
    """A commit is on disk: fsync is on, and so is all that it rests on."""
    settings = machine.settings(launched)

    assert {settings[name] for name in ("fsync", "full_page_writes", "synchronous_commit")} == {"on"}
    assert settings["max_locks_per_transaction"] == "512"
    assert set(settings) == set(machine.SETTINGS)


def test_nothing_names_the_machine(launched: Server) -> None:
    """No host name, no user and no path."""
    described = machine.describe(launched.root, launched.bin_dir)

    text = " ".join(described.values())
    assert described["PostgreSQL"] == "18.6"
    assert all(described.values())
    assert socket.gethostname() not in text.split()
    assert getpass.getuser() not in text.split()
    assert not re.search(r"(^|\s)[/~]", text)


@pytest.mark.parametrize("name", [name for name in DATABASES if name not in {"journal", "tenth", "empty"}])
def test_databases_are_built(name: str, new_database: Databases) -> None:
    """Each has rows, and a copy of it has the same shape."""
    server = new_database(name=name).server
    copy = new_database(name="copy").name
    built = databases.build(server, name, 200)

    databases.create(server, copy, name)

    assert built.total >= 8
    assert databases.shape(server, copy) == built.shape
    assert built.shape.indexes >= 1


def test_a_restore_that_brings_nothing_back_is_no_sample(new_database: Databases, tmp_path: Path) -> None:
    """Although it ended in 0."""
    server = new_database(name="huge").server
    new_database(name=bench.TARGET)
    built = databases.build(server, "huge", 200)
    idle = Case("restore", "idle", "true", target=commands.EMPTY)

    with pytest.raises(OperationFailedError):
        list(bench._Database(server, tmp_path, built, print).measure((idle,), 1))


def test_a_small_run_measures_everything_it_should() -> None:
    """Of a dump, a restore and a verify of ours, and of their peers; each restore is checked."""
    words = ("dump-ours-gzip", "restore-ours-empty", "restore-pipe-psql-1", "verify")
    before = set(bench._on_disk().glob("bench-*"))
    said: list[str] = []

    result = bench.measure(Options(200, 1, ("journal",), words), say=said.append)

    by_slug = {each.slug: each for each in result.measured}
    assert by_slug.keys() == set(words) - {"verify"} | {"verify-ours"}
    assert by_slug["dump-ours-gzip"].samples[0].own_peak > 20
    assert by_slug["dump-ours-gzip"].samples[0].peaks.keys() >= {"inv", "pg_dump"}
    assert by_slug["dump-ours-gzip"].samples[0].written > 10_000
    assert by_slug["restore-pipe-psql-1"].samples[0].wal > 100_000
    assert result.databases["journal"].rows == 431
    assert results.loads(results.dumps(result)).databases == result.databases
    assert set(bench._on_disk().glob("bench-*")) <= before
    assert str(REPOSITORY) not in results.dumps(result)
