"""Pruning, deleting and pinning dumps: what a person sees, and what is left in the folder."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tasks.config.keep_policy import KeepPolicy
from tasks.dumpfiles.atomic_write import open_part_file
from tasks.dumpfiles.catalog import list_catalog
from tasks.dumpfiles.deletion import carry_out_deletion, plan_deletion
from tasks.dumpfiles.paths import UNDO, list_orphan_manifests, manifest_path, read_manifest
from tasks.dumpfiles.pin import PINNED, pin_dump
from tasks.dumpfiles.prune import carry_out_prune, plan_prune
from tasks.errors import BadInputError, OperationFailedError
from tasks.progress import Silence
from tests.flows import Said, settings_of
from tests.output_schema import complaints
from tests.retention_year import live
from tests.stored_dumps import store_dump

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.config.settings import Settings
    from tests.support import Database, Project

NOW = datetime.now(UTC).replace(microsecond=0)
LAST_TWO = KeepPolicy(last=2)


def ago(days: float) -> datetime:
    """Return a time some days ago."""
    return NOW - timedelta(days=days)


def names(project: Project) -> set[str]:
    """Return the names of all files in the folder of the dumps."""
    return {path.relative_to(project.dumps).as_posix() for path in project.dumps.rglob("*") if path.is_file()}


@pytest.fixture
def five(project: Project) -> list[Path]:
    """Lay five dumps of five days into the folder, newest first."""
    return [store_dump(project.dumps, ago(days)) for days in range(5)]


def settings(project: Project, policy: KeepPolicy | None = LAST_TWO) -> Settings:
    """Return settings with a policy."""
    return replace(settings_of(project), keep=policy)


def pruned(project: Project, policy: KeepPolicy | None = LAST_TWO) -> list[str]:
    """Prune as the task does, and return the names of what was deleted."""
    plan = plan_prune(settings(project, policy))
    assert plan is not None
    return [each.name for each in carry_out_prune(plan, Silence())]


# db.prune


def test_prune_deletes_dumps_with_their_manifests(five: list[Path], project: Project) -> None:
    """Those that the policy does not keep; the files of the others are untouched, and a second run does nothing."""
    kept = {path.name: path.read_bytes() for each in five[:2] for path in (each, manifest_path(each))}

    first = project.inv("db.prune", "--yes", env={"INVOKE_DB_KEEP": "last=2"})
    second = project.inv("db.prune", "--yes", env={"INVOKE_DB_KEEP": "last=2"})

    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert {name: (project.dumps / name).read_bytes() for name in names(project)} == kept
    assert "Deleted 3 dumps" in first.stdout
    assert "Will be deleted: nothing" in second.stderr


def test_dry_prune_gives_a_reason_for_every_file(project: Project) -> None:
    """Kept or deleted, dumps and safety dumps; nothing is deleted."""
    newest = store_dump(project.dumps, ago(0))
    rehearsed = store_dump(project.dumps, ago(3), rehearsed="2026-01-01T00:00:00+00:00")
    pinned = store_dump(project.dumps, ago(4), pinned="2026-01-01T00:00:00+00:00")
    partial = store_dump(project.dumps, ago(1), excluded=(("public", "log"),))
    broken = store_dump(project.dumps, ago(2))
    broken.write_bytes(b"x")
    none = store_dump(project.dumps, ago(5), name="foreign.sql")
    manifest_path(none).unlink()
    named = store_dump(project.dumps, ago(6), name="by-hand.sql")
    deleted = store_dump(project.dumps, ago(7))
    safety = store_dump(project.dumps / "undo", ago(1), prefix=UNDO)
    before = names(project)

    result = project.inv("--dry", "db.prune", env={"INVOKE_DB_KEEP": "last=1"})

    lines = {line.rpartition(" ")[2].rpartition("/")[2]: line for line in result.stdout.splitlines() if line}
    reasons = {
        newest: "keep: newest, last 1",
        rehearsed: "keep: rehearsed",
        pinned: "keep: pinned",
        partial: "keep: partial, newest",
        broken: "keep: broken",
        none: "keep: no manifest",
        named: "keep: named by hand",
        deleted: "DELETE: kept by no rule",
        safety: "keep: safety dump",
    }
    assert result.returncode == 0, result.stderr
    assert not {path.name: reason for path, reason in reasons.items() if reason not in lines[path.name]}
    assert broken.name in result.stdout
    assert names(project) == before


def test_prune_writes_json(five: list[Path], project: Project) -> None:
    """Standard output holds every dump with the verdict, the reasons and what was done, and nothing else."""
    for dry, deleted in ((["--dry"], 0), ([], 3)):
        result = project.inv(*dry, "db.prune", "--json", "--yes", env={"INVOKE_DB_KEEP": "last=2"})

        document = json.loads(result.stdout)
        assert complaints("db.prune", result.stdout) == []
        assert document["policy"] == {"last": 2, "daily": 0, "weekly": 0, "monthly": 0, "yearly": 0}
        assert [each["name"] for each in document["dumps"]] == sorted(path.name for path in five)
        assert [each["keep"] for each in document["dumps"]] == [False, False, False, True, True]
        assert sum(each["deleted"] for each in document["dumps"]) == deleted
        assert document["dumps"][-1]["reasons"] == ["newest", "last 1"]
    assert json.loads(project.inv("db.prune", "--json").stdout) == {"version": 1, "policy": None, "dumps": []}


def test_prune_says_that_no_policy_is_set(five: list[Path], project: Project) -> None:
    """It deletes nothing then, and shows how to set one."""
    result = project.inv("db.prune", "--yes")

    assert result.returncode == 0
    assert "db.keep" in result.stdout
    assert all(path.exists() for path in five)


@pytest.mark.parametrize("value", ["3", "last=-1", "last=0", "hourly=3"])
def test_bad_policy_is_refused(value: str, five: list[Path], project: Project) -> None:
    """Exit 2, and nothing is deleted."""
    result = project.inv("db.prune", "--yes", env={"INVOKE_DB_KEEP": value})

    assert result.returncode == 2
    assert "INVOKE_DB_KEEP" in result.stderr
    assert all(path.exists() for path in five)


def test_prune_in_an_empty_project(project: Project) -> None:
    """Also where there is no folder; none is made."""
    project.dumps.rmdir()

    result = project.inv("db.prune", "--yes", env={"INVOKE_DB_KEEP": "last=1"})

    assert result.returncode == 0, result.stderr
    assert not project.dumps.exists()


@pytest.mark.parametrize(
    "source",
    [
        {"host": "localhost", "port": 5432, "database": "bank"},
        {"host": "db.example.com", "port": 5432, "database": "shop"},
        {"host": "localhost", "port": 5433, "database": "shop"},
        {"host": "localhost", "port": 5432, "database": "shop", "system_identifier": "7"},
    ],
    ids=["another name", "another host", "another port", "another cluster"],
)
def test_each_database_has_slots_of_its_own(source: dict[str, object], five: list[Path], project: Project) -> None:
    """A copy of a cluster has its number, so the host counts, too: its dumps push out none of the original's."""
    others = [store_dump(project.dumps, ago(-0.001 * at - 0.001), source=source) for at in range(-9, -5)]

    deleted = pruned(project)

    assert sorted(deleted) == sorted(path.name for path in (*five[2:], *others[:2]))


def test_what_changed_meanwhile_is_skipped(five: list[Path], project: Project) -> None:
    """A dump that was written to, pinned or deleted between the plan and its deletion."""
    plan = plan_prune(settings(project))
    assert plan is not None
    five[2].write_bytes(b"something else")
    pin_dump(settings(project), five[3].name, pinned=True)
    five[4].unlink()
    said = Said()

    deleted = carry_out_prune(plan, said)

    assert deleted == ()
    assert len(said.warnings) == 3
    assert five[2].exists()
    assert five[3].exists()


def test_what_became_the_newest_meanwhile_is_kept(five: list[Path], project: Project) -> None:
    """As somebody deleted what the plan has kept."""
    plan = plan_prune(settings(project))
    assert plan is not None
    for path in five[:2]:
        carry_out_deletion(settings(project), plan_deletion(settings(project), path.name))

    deleted = carry_out_prune(plan, Silence())

    assert [each.path for each in deleted] == [five[4]]


def test_dump_that_is_being_converted_is_kept(five: list[Path], project: Project) -> None:
    """By db.gzip, in another process; and a dump that is being written is no leftover."""
    with open_part_file(five[4].with_name(f"{five[4].name}.gz.part")) as part:
        assert pruned(project) == [five[3].name, five[2].name]
        with pytest.raises(BadInputError):
            plan_deletion(settings(project), five[4].name)
        assert part.path.exists()
    assert five[4].exists()


def test_failed_deletion_is_an_error(five: list[Path], project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 5 with the file's name; the others are deleted."""
    real = os.rename

    def rename(source: Path, to: Path) -> None:
        if str(source).startswith(str(five[3])):
            raise PermissionError(13, "Permission denied")
        real(source, to)

    monkeypatch.setattr(os, "rename", rename)

    with pytest.raises(OperationFailedError, match=re.escape(five[3].name)):
        pruned(project)
    assert [path.exists() for path in five] == [True, True, False, True, False]


def test_dump_and_its_compressed_form_share_a_manifest(five: list[Path], project: Project) -> None:
    """Where both are there, deleting one leaves the other with the manifest."""
    other = five[4].with_name(f"{five[4].name}.gz")
    other.write_bytes(b"x")

    pruned(project)

    assert not five[4].exists()
    assert read_manifest(other) is not None


def test_two_prunes_at_once_do_what_one_does(project: Project) -> None:
    """Each skips what the other one has deleted."""
    dumps = [store_dump(project.dumps, ago(days)) for days in range(60)]
    project.env["INVOKE_DB_KEEP"] = "last=2"
    runs = [project.popen("db.prune", "--yes") for _ in range(2)]

    said = [run.communicate(timeout=60)[1] for run in runs]

    assert [run.returncode for run in runs] == [0, 0], said
    assert names(project) == {path.name for each in dumps[:2] for path in (each, manifest_path(each))}


def test_real_dumps_are_pruned(database: Database, project: Project) -> None:
    """Of a real database, beside another's; the newest one restores."""
    project.use(database)
    database.execute("CREATE TABLE t AS SELECT 1 AS i")
    other = store_dump(project.dumps, ago(3))
    for _ in range(3):
        assert project.inv("db.dump", "--zstd").returncode == 0

    result = project.inv("db.prune", "--yes", env={"INVOKE_DB_KEEP": "last=1"})

    assert result.returncode == 0, result.stderr
    assert len(list(project.dumps.glob("*.zst"))) == 1
    assert other.exists()
    assert project.inv("db.restore", "--clean", "--yes").returncode == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_two_months_of_dumps(seed: int, tmp_path: Path) -> None:
    """Drawn from a seed, with every promise held after each day; `python -m tests.retention_year` runs a year."""
    tally = live(tmp_path / "project", seed, 60)

    assert tally["deleted"] > 20
    assert tally["most at once"] < 80


# db.delete


def test_delete_shows_and_deletes_one_dump(five: list[Path], project: Project) -> None:
    """By its id, with its manifest: name, size and age are shown, and nothing else is touched."""
    manifest = read_manifest(five[3])
    assert manifest is not None
    before = names(project)

    dry = project.inv("--dry", "db.delete", f"--file={manifest.id[:6]}")
    untouched = names(project)
    done = project.inv("db.delete", f"--file={manifest.id[:6]}", "--yes")

    assert (dry.returncode, done.returncode) == (0, 0), done.stderr
    assert untouched == before
    assert names(project) == before - {five[3].name, manifest_path(five[3]).name}
    for words in (five[3].name, "10 bytes", "made 3 d ago"):
        assert words in done.stderr


@pytest.mark.parametrize(
    "flags",
    [(), ("--file=tasks.py",), ("--file=absent.sql",), ("--file=",), ("--file=outside.sql",), ("--file=db_dump_20",)],
    ids=str,
)
def test_what_is_no_single_dump_of_the_folder_is_not_deleted(
    flags: tuple[str, ...], five: list[Path], project: Project
) -> None:
    """Exit 2; neither other files of the project, nor any of several dumps."""
    project.write("outside.sql", "SELECT 1;")
    before = set(project.root.rglob("*"))

    result = project.inv("db.delete", "--yes", *flags)

    assert result.returncode == 2
    assert set(project.root.rglob("*")) == before
    assert five[0].exists()


def test_pinned_dump_is_not_deleted(five: list[Path], project: Project) -> None:
    """Exit 2 until it is unpinned."""
    assert project.inv("db.pin", f"--file={five[2].name}").returncode == 0

    refused = project.inv("db.delete", f"--file={five[2].name}", "--yes")
    kept = five[2].exists()
    unpinned = project.inv("db.pin", "--unpin", f"--file={five[2].name}")
    deleted = project.inv("db.delete", f"--file={five[2].name}", "--yes")

    assert (refused.returncode, unpinned.returncode, deleted.returncode) == (2, 0, 0)
    assert kept
    assert not five[2].exists()


def test_broken_foreign_and_safety_dumps_can_be_deleted(project: Project) -> None:
    """A broken one by its id, a foreign one by the beginning of its name, a safety dump by its name."""
    broken = store_dump(project.dumps, ago(1))
    manifest = read_manifest(broken)
    assert manifest is not None
    broken.write_bytes(b"x")
    foreign = store_dump(project.dumps, ago(2), name="foreign.sql")
    manifest_path(foreign).unlink()
    safety = store_dump(project.dumps / "undo", ago(3), prefix=UNDO)

    results = [
        project.inv("db.delete", "--yes", f"--file={name}")
        for name in (manifest.id[:4], "forei", f"undo/{safety.name}")
    ]

    assert [each.returncode for each in results] == [0, 0, 0], [each.stderr for each in results]
    assert not names(project)
    assert "db.undo" in results[2].stderr


def test_dump_that_changed_after_it_was_shown_is_not_deleted(five: list[Path], project: Project) -> None:
    """Another file may bear its name by then."""
    doomed = plan_deletion(settings(project), five[0].name)
    five[0].write_bytes(b"another")

    with pytest.raises(BadInputError):
        carry_out_deletion(settings(project), doomed)
    assert five[0].exists()


# db.pin


def test_pin_survives_gzip_gunzip_and_prune(database: Database, project: Project) -> None:
    """The manifest holds it, and stays true of the dump."""
    project.use(database)
    database.execute("CREATE TABLE t AS SELECT 1 AS i")
    assert project.inv("db.dump").returncode == 0
    (dump,) = project.dumps.glob("*.sql")

    assert project.inv("db.pin", f"--file={dump.name}").returncode == 0
    for task in ("db.gzip", "db.gunzip", "db.gzip"):
        assert project.inv(task).returncode == 0
    for _ in range(2):
        assert project.inv("db.dump").returncode == 0
    assert project.inv("db.prune", "--yes", env={"INVOKE_DB_KEEP": "last=1"}).returncode == 0

    listed = json.loads(project.inv("db.list", "--json").stdout)["dumps"]
    assert [bool(each["pinned"]) for each in listed] == [True, False]
    assert "complete, pinned" in project.inv("db.list").stdout
    assert project.inv("db.verify", f"--file={dump.name}.gz").returncode == 0


def test_pin_needs_a_whole_dump_with_a_manifest(project: Project) -> None:
    """A broken one gives no safety; a foreign one is never pruned. Unpinning works on both states."""
    broken = store_dump(project.dumps, ago(1), pinned="2026-01-01T00:00:00+00:00")
    broken.write_bytes(b"x")
    foreign = store_dump(project.dumps, ago(2), name="foreign.sql")
    manifest_path(foreign).unlink()

    for path in (broken, foreign):
        with pytest.raises(BadInputError):
            pin_dump(settings(project), path.name, pinned=True)
    assert pin_dump(settings(project), broken.name, pinned=False) == (broken, True)
    manifest = read_manifest(broken)
    assert manifest is not None
    assert PINNED not in manifest.extra
    assert not list_orphan_manifests(project.dumps)


def test_pinned_safety_dump_is_kept(database: Database, project: Project) -> None:
    """However many restores follow."""
    project.use(database)
    database.execute("CREATE TABLE t AS SELECT 1 AS i")
    project.env["INVOKE_DB_SAFETY_DUMPS"] = "1"
    assert project.inv("db.dump").returncode == 0
    assert project.inv("db.restore", "--clean", "--yes").returncode == 0
    first = next(each for each in list_catalog(settings_of(project)) if each.safety)

    assert project.inv("db.pin", f"--file={first.id[:4]}").returncode == 0
    for _ in range(3):
        database.execute("INSERT INTO t VALUES (1)")
        assert project.inv("db.restore", "--clean", "--yes").returncode == 0

    assert first.path.exists()
