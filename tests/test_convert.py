"""gzip and gunzip in place: the manifest stays true, and nothing is lost when it fails."""

import gzip
import hashlib
import json
import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.dumpfiles.atomic_write import open_part_file
from tasks.dumpfiles.catalog import list_catalog
from tasks.dumpfiles.convert import Converted, convert_dump
from tasks.dumpfiles.paths import manifest_path, read_manifest
from tasks.dumpformat.compression import Compression, SummingWriter, open_compressor
from tasks.dumpformat.manifest import Manifest, Outline, SequenceValue, TableRows
from tasks.errors import BadInputError, OperationFailedError
from tasks.progress import Silence
from tests.flows import Said, content_of, settings_of, sums_of
from tests.support import Database, Project

STEM = "db_dump_2025-12-21T12-00-00-123Z"
LATER = "db_dump_2025-12-21T12-00-00-124Z"
TEXT = (
    b"-- rows\n" + b"".join(b"%d\t%d\n" % (i, i * i) for i in range(20_000)) + b"-- PostgreSQL database dump complete\n"
)


def packed(content: bytes, compression: Compression, folder: Path) -> bytes:
    """Compress as a dump of ours is compressed."""
    scratch = folder / "scratch"
    with scratch.open("wb", buffering=0) as file, open_compressor(SummingWriter(file), compression) as out:
        out.write(content)
    return scratch.read_bytes()


def written(
    folder: Path, compression: Compression, *, stem: str = STEM, manifest: bool = True, content: bytes = TEXT
) -> Path:
    """Lay a dump into a folder, as ours are."""
    path = folder / (stem + compression.suffix)
    path.write_bytes(packed(content, compression, folder.parent))
    if manifest:
        document = Manifest(
            created="2025-12-21T12:00:00.123Z",
            note="a note",
            git=None,
            source={"server_version": "17.6"},
            pg_dump={"version": "17.6", "options": []},
            file_name=path.name,
            compression=compression,
            file=sums_of(path.read_bytes()),
            content=sums_of(content),
            tables=(TableRows("public", "t", 20_000),),
            excluded_data=(),
            sequences=(SequenceValue("public", "s", 1, is_called=True),),
            outline=Outline(),
            seconds=1.5,
            extra={"of a later version": [1, 2]},
        )
        manifest_path(path).write_bytes(document.to_json())
    return path


def manifest_of(path: Path) -> dict[str, Any]:
    """Read a manifest as any program would."""
    document: dict[str, Any] = json.loads(manifest_path(path).read_bytes())
    return document


def is_true(path: Path) -> bool:
    """Tell whether the manifest describes this very file."""
    manifest = read_manifest(path)
    return (
        manifest is not None
        and manifest.file_name == path.name
        and manifest.file == sums_of(path.read_bytes())
        and manifest.content == sums_of(content_of(path))
    )


def files_in(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def converted(project: Project, wanted: Compression, file: str = "") -> Converted:
    """Convert the newest dump, or a named one."""
    return convert_dump(settings_of(project), file, wanted, Silence())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Compression.NONE, Compression.GZIP),
        (Compression.GZIP, Compression.NONE),
        (Compression.ZSTD, Compression.NONE),
    ],
)
def test_dump_changes_its_form_in_place(before: Compression, after: Compression, project: Project) -> None:
    """The new file holds the same content, the old one is gone, and the manifest tells of the new one alone."""
    source = written(project.dumps, before)
    known = manifest_of(source)

    result = converted(project, after)

    size = len(packed(TEXT, before, project.root))
    assert result == Converted(project.dumps / (STEM + after.suffix), size, result.path.stat().st_size, changed=True)
    assert content_of(result.path) == TEXT
    assert is_true(result.path)
    assert {**manifest_of(result.path), "file": None} == {**known, "file": None}
    assert sorted(files_in(project.dumps)) == sorted([result.path.name, f"{STEM}.manifest.json"])
    assert stat.S_IMODE(result.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        (Compression.GZIP, Compression.GZIP),
        (Compression.ZSTD, Compression.GZIP),
        (Compression.NONE, Compression.NONE),
    ],
)
def test_dump_that_has_the_form_stays_as_it_is(form: Compression, wanted: Compression, project: Project) -> None:
    """That is no error of a chain."""
    source = written(project.dumps, form)
    before = files_in(project.dumps)

    result = converted(project, wanted)

    assert (result.path, result.changed) == (source, False)
    assert files_in(project.dumps) == before


def test_what_needs_nothing_is_said(project: Project) -> None:
    """A second time tells that nothing had to be done, and ends in 0."""
    written(project.dumps, Compression.NONE)

    done = project.inv("db.gunzip", "db.gzip", "db.gzip")

    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first.endswith(f"{STEM}.sql is not compressed; nothing was changed.")
    assert second.endswith(" kB") and f"{STEM}.sql.gz: " in second  # noqa: PT018
    assert third.endswith(f"{STEM}.sql.gz is already compressed; nothing was changed.")


def test_newest_dump_is_meant_when_none_is_named(project: Project) -> None:
    """By the time in its name."""
    written(project.dumps, Compression.NONE)
    later = written(project.dumps, Compression.NONE, stem=LATER)

    result = converted(project, Compression.GZIP)

    assert result.path.name == f"{LATER}.sql.gz"
    assert not later.exists()


@pytest.mark.parametrize("file", [f"{STEM}.sql", f"dumps/{STEM}.sql", f"./dumps/{STEM}.sql"])
def test_named_dump_is_meant_when_one_is_named(file: str, project: Project) -> None:
    """By its bare name, or by its path."""
    written(project.dumps, Compression.NONE)
    written(project.dumps, Compression.NONE, stem=LATER)

    result = converted(project, Compression.GZIP, file)

    assert result.path.name == f"{STEM}.sql.gz"


def test_broken_dump_is_passed_over_with_a_warning(project: Project) -> None:
    """The newest that is not known to be broken is meant."""
    written(project.dumps, Compression.NONE)
    cut = written(project.dumps, Compression.NONE, stem=LATER)
    cut.write_bytes(TEXT[:1000])
    said = Said()

    result = convert_dump(settings_of(project), "", Compression.GZIP, said)

    assert result.path.name == f"{STEM}.sql.gz"
    assert said.warnings == [f"{LATER}.sql was skipped: it has 1,000 bytes, and its manifest says {len(TEXT):,}"]


def test_dump_without_a_manifest_gets_none(project: Project) -> None:
    """What we did not make is converted all the same."""
    written(project.dumps, Compression.NONE, manifest=False)

    result = converted(project, Compression.GZIP)

    assert content_of(result.path) == TEXT
    assert list(files_in(project.dumps)) == [result.path.name]


def test_dump_of_several_gzip_members_is_expanded_whole(project: Project) -> None:
    """As `cat a.gz b.gz` and some tools write them."""
    path = written(project.dumps, Compression.NONE)
    path.unlink()
    half = len(TEXT) // 2
    path.with_name(f"{STEM}.sql.gz").write_bytes(gzip.compress(TEXT[:half]) + gzip.compress(TEXT[half:]))

    result = converted(project, Compression.NONE)

    assert result.path.read_bytes() == TEXT
    assert is_true(result.path)


@pytest.mark.parametrize(
    ("program", "form", "wanted"),
    [
        ("gzip", Compression.NONE, Compression.NONE),
        ("gunzip", Compression.GZIP, Compression.GZIP),
    ],
)
def test_manifest_stays_true_when_others_changed_the_form(
    program: str, form: Compression, wanted: Compression, project: Project
) -> None:
    """After the program by hand, the content still proves the dump, and our way back makes it wholly true."""
    source = written(project.dumps, form)
    subprocess.run(["/usr/bin/env", program, source], check=True)

    result = converted(project, wanted)

    assert result.path == project.dumps / (STEM + wanted.suffix)
    assert is_true(result.path)
    assert sorted(files_in(project.dumps)) == sorted([result.path.name, f"{STEM}.manifest.json"])


def cut(data: bytes) -> bytes:
    """Take the last bytes away."""
    return data[:-20]


def flipped(data: bytes) -> bytes:
    """Change one bit in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def followed(data: bytes) -> bytes:
    """Put garbage behind."""
    return data + b"garbage"


@pytest.mark.parametrize("damage", [cut, flipped, followed])
@pytest.mark.parametrize(
    ("form", "manifest"),
    # Nobody can tell of a plain file without a manifest.
    [(form, manifest) for form in Compression for manifest in (True, False) if manifest or form.value != "none"],
)
def test_damaged_dump_is_refused_and_left_as_it_is(
    form: Compression, manifest: bool, damage: Any, project: Project
) -> None:
    """Neither is the damaged file lost, nor is a new one made of it."""
    source = written(project.dumps, form, manifest=manifest)
    source.write_bytes(damage(source.read_bytes()))
    before = files_in(project.dumps)

    with pytest.raises(BadInputError):
        converted(project, Compression.GZIP if form is Compression.NONE else Compression.NONE, source.name)

    assert files_in(project.dumps) == before


def test_dump_is_refused_when_the_new_name_is_taken(project: Project) -> None:
    """Neither of the two is touched."""
    written(project.dumps, Compression.NONE)
    project.write(f"dumps/{STEM}.sql.gz", "somebody's")
    before = files_in(project.dumps)

    with pytest.raises(BadInputError):
        converted(project, Compression.GZIP, f"{STEM}.sql")

    assert files_in(project.dumps) == before


@pytest.mark.parametrize("wanted", [Compression.GZIP, Compression.NONE])
@pytest.mark.parametrize("named", [False, True])
def test_killed_conversion_is_finished_when_both_files_are_there(
    wanted: Compression, named: bool, project: Project
) -> None:
    """Killed between the renames, it leaves the dump in both forms: the next run removes the old one."""
    other = Compression.NONE if wanted is Compression.GZIP else Compression.GZIP
    written(project.dumps, wanted, manifest=False)
    source = written(project.dumps, other)

    result = converted(project, wanted, source.name if named else "")

    assert result.changed
    assert sorted(files_in(project.dumps)) == [f"{STEM}.manifest.json", result.path.name]
    assert result.path.name == STEM + wanted.suffix
    assert is_true(result.path)


@pytest.mark.parametrize("wanted", [Compression.GZIP, Compression.NONE])
def test_both_files_stay_when_they_hold_different_things(wanted: Compression, project: Project) -> None:
    """Nobody knows which of them is wanted."""
    other = Compression.NONE if wanted is Compression.GZIP else Compression.GZIP
    written(project.dumps, wanted, manifest=False, content=TEXT + b"--\n")
    source = written(project.dumps, other)
    before = files_in(project.dumps)

    with pytest.raises(BadInputError):
        converted(project, wanted, source.name)

    assert files_in(project.dumps) == before


@pytest.mark.parametrize("file", [f"{STEM}.sql", f"{STEM}.sql.gz"])
def test_link_from_one_name_to_the_other_is_no_second_copy(file: str, project: Project) -> None:
    """Somebody gave the dump its right name by a link: removing what it leads to would leave nothing."""
    path = written(project.dumps, Compression.GZIP)
    path.rename(path.with_name(f"{STEM}.sql"))
    path.symlink_to(f"{STEM}.sql")

    result = converted(project, Compression.GZIP, file)

    assert not result.changed
    assert content_of(path) == TEXT


def test_dump_is_refused_when_somebody_else_converts_it(project: Project) -> None:
    """The other one's part file is not touched."""
    written(project.dumps, Compression.NONE)
    before = files_in(project.dumps)

    with (
        open_part_file(project.dumps / f"{STEM}.sql.gz.part"),
        pytest.raises(BadInputError),
    ):
        converted(project, Compression.GZIP)

    assert files_in(project.dumps) == before


def test_dump_is_refused_when_its_name_lies(project: Project) -> None:
    """A compressed file called `.sql` is not expanded over itself."""
    source = written(project.dumps, Compression.GZIP, manifest=False)
    source = source.rename(project.dumps / f"{STEM}.sql")

    with pytest.raises(BadInputError, match="gzip"):
        converted(project, Compression.NONE)

    assert content_of(source) == TEXT


def test_archive_is_refused(project: Project) -> None:
    """pg_dump's own format holds its compression."""
    source = project.dumps / "a.dump"
    source.write_bytes(b"PGDMP\x01\x0e\x00")

    with pytest.raises(BadInputError):
        converted(project, Compression.GZIP, "a.dump")

    assert list(files_in(project.dumps)) == ["a.dump"]


@pytest.mark.parametrize("file", ["nowhere.sql", "", "dumps"])
def test_dump_that_is_not_there_is_refused(file: str, project: Project) -> None:
    """A sentence, exit 2."""
    result = project.inv("db.gzip", f"--file={file}")

    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("form", [Compression.NONE, Compression.GZIP])
def test_dump_is_left_as_it_is_when_the_disk_is_full(form: Compression, project: Project) -> None:
    """Exit 5, a sentence, and the part file is gone."""
    source = written(project.dumps, form, content=noise())
    before = files_in(project.dumps)
    task = "db.gzip" if form is Compression.NONE else "db.gunzip"
    argv = ["/usr/bin/prlimit", "--fsize=30000", *project._argv([task, f"--file={source.name}"])]

    result = subprocess.run(argv, cwd=project.root, env=project._environment(None), capture_output=True, check=False)

    assert result.returncode == 5
    assert b"File too large. No file was left behind." in result.stderr
    assert result.stderr.count(b"\n") == 1
    assert files_in(project.dumps) == before


def noise() -> bytes:
    """Return what gzip can't make small."""
    return b"\n".join(hashlib.sha256(b"%d" % i).hexdigest().encode() for i in range(10_000))


def test_dump_is_left_as_it_is_when_its_manifest_can_not_be_written(project: Project) -> None:
    """Either both are new, or both are as they were."""
    source = written(project.dumps, Compression.NONE)
    before = files_in(project.dumps)
    in_the_way = project.dumps / f".{STEM}.manifest.json.{os.getpid()}.part"
    in_the_way.mkdir()

    with pytest.raises(OperationFailedError):
        converted(project, Compression.GZIP)

    in_the_way.rmdir()
    assert files_in(project.dumps) == before
    assert is_true(source)


def test_dry_run_changes_nothing(project: Project) -> None:
    """It says what it would write."""
    written(project.dumps, Compression.NONE)
    before = files_in(project.dumps)

    result = project.inv("--dry", "db.gzip")

    assert result.returncode == 0, result.stderr
    assert f"would write {STEM}.sql.gz" in result.stderr
    assert files_in(project.dumps) == before


def test_foreign_part_files_are_left_alone(project: Project) -> None:
    """In a folder that is not ours, a part file belongs to somebody else, as a browser's download."""
    folder = project.root / "downloads"
    folder.mkdir()
    film = project.write("downloads/film.part", "half")
    written(folder, Compression.NONE, manifest=False)

    result = converted(project, Compression.GZIP, f"downloads/{STEM}.sql")

    assert result.path == folder / f"{STEM}.sql.gz"
    assert film.read_text() == "half"


def test_dry_settings_are_honoured_by_the_flow_itself(project: Project) -> None:
    """Not only by the task."""
    source = written(project.dumps, Compression.NONE)

    result = convert_dump(replace(settings_of(project), dry=True), "", Compression.GZIP, Silence())

    assert result.path == source
    assert not result.changed


def test_chain_of_dump_and_gzip_leaves_one_true_dump(database: Database, project: Project) -> None:
    """`inv db.dump db.gzip`, on a real database; `db.list` then calls it complete."""
    database.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) i")

    result = project.use(database).inv("db.dump", "db.gzip", "db.gunzip", "db.gzip")

    (path,) = project.dumps.glob("*.sql.gz")
    assert result.returncode == 0, result.stderr
    assert is_true(path)
    assert [each.complete for each in list_catalog(settings_of(project))] == [True]
