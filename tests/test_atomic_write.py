"""Write beside, then rename: what has a final name is whole, and nothing else is left behind."""

import errno
import fcntl
import multiprocessing
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tasks.dumpfiles.atomic_write import delete_stale_parts, make_dump_folder, open_part_file, rename_new, replace_file
from tasks.system.runtime import Interruption, interruptible

# Rights stop root less than others.
pytestmark = pytest.mark.root


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Set the umask for a while."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    """Return the permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def names_in(folder: Path) -> list[str]:
    """List the names in a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777], ids=oct)
def test_a_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    """0600 from its first byte on, while it is written and when it is published."""
    part, final = tmp_path / "a.part", tmp_path / "a.sql"

    with umask(mask), open_part_file(part) as open_part:
        while_written = mode(part)
        open_part.file.write(b"x")
        open_part.publish(final)
        replace_file(tmp_path / "small.json", b"{}")

    assert while_written == mode(final) == mode(tmp_path / "small.json") == 0o600
    assert final.read_bytes() == b"x"
    assert names_in(tmp_path) == ["a.sql", "small.json"]


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt, GeneratorExit, SystemExit])
def test_no_part_is_left_when_writing_fails(tmp_path: Path, error: type[BaseException]) -> None:
    """Whatever ends the writing, the part file goes, and no final file comes."""
    seen: list[Path] = []

    def write() -> None:
        with open_part_file(tmp_path / "a.part") as part:
            part.file.write(b"half")
            seen.extend(tmp_path.iterdir())
            raise error

    with pytest.raises(error):
        write()

    assert seen == [tmp_path / "a.part"]
    assert list(tmp_path.iterdir()) == []


def test_no_part_is_left_when_nothing_is_published(tmp_path: Path) -> None:
    """A writer that ends without publishing leaves nothing."""
    with open_part_file(tmp_path / "a.part") as part:
        part.file.write(b"x")

    assert list(tmp_path.iterdir()) == []
    assert part.file.closed


@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "folder"])
def test_a_part_file_is_always_a_new_one(tmp_path: Path, kind: str) -> None:
    """What has the name already, a link among them, is neither opened nor removed."""
    part, other = tmp_path / "a.part", tmp_path / "other"
    if kind == "file":
        part.write_bytes(b"theirs")
    elif kind == "folder":
        part.mkdir()
    else:
        part.symlink_to(other)
    if kind == "link":
        other.write_bytes(b"theirs")
    before = sorted((path.name, path.lstat().st_ino) for path in tmp_path.iterdir())

    with pytest.raises(FileExistsError), open_part_file(part):
        pass

    assert sorted((path.name, path.lstat().st_ino) for path in tmp_path.iterdir()) == before
    assert kind not in {"file", "link"} or part.read_bytes() == b"theirs"


def test_a_part_file_is_locked_as_long_as_it_is_written(tmp_path: Path) -> None:
    """Nobody else gets its lock, and so nobody sweeps it; afterwards it is free."""
    path, final = tmp_path / "a.part", tmp_path / "a.sql"

    with open_part_file(path) as part:
        with path.open("rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.publish(final)
        with final.open("rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)

    with final.open("rb") as other:
        fcntl.flock(other.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_anothers_part_of_the_same_name_stays(tmp_path: Path) -> None:
    """When ours is published, somebody else may take its name: at our end theirs is not removed."""
    path = tmp_path / "a.part"

    with open_part_file(path) as part:
        part.publish(tmp_path / "a.sql")
        path.write_bytes(b"theirs")

    assert path.read_bytes() == b"theirs"


@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "folder"])
def test_publishing_never_replaces(tmp_path: Path, kind: str) -> None:
    """What has the final name stays as it is, and the part file is gone."""
    final = tmp_path / "a.sql"
    if kind == "file":
        final.write_bytes(b"theirs")
    elif kind == "folder":
        final.mkdir()
    else:
        final.symlink_to(tmp_path / "other")
    if kind == "link":
        (tmp_path / "other").write_bytes(b"theirs")
    before = sorted((path.name, path.lstat().st_ino) for path in tmp_path.iterdir())

    with pytest.raises(FileExistsError), open_part_file(tmp_path / "a.part") as part:
        part.publish(final)

    assert sorted((path.name, path.lstat().st_ino) for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("taken", [False, True])
def test_publishing_never_replaces_without_hard_links(
    tmp_path: Path, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that has no links (exFAT, some shares) it is a rename, after a look."""

    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    source, final = tmp_path / "a.part", tmp_path / "a.sql"
    source.write_bytes(b"ours")
    if taken:
        final.symlink_to("dangling")

    with suppress(FileExistsError):
        rename_new(source, final)

    assert source.exists() is taken
    assert final.is_symlink() is taken
    assert taken or final.read_bytes() == b"ours"


def test_one_of_many_writers_publishes(tmp_path: Path) -> None:
    """Many at once want one final name: one gets it, whole; the others are told, and leave nothing."""
    barrier = threading.Barrier(16)

    def write(number: int) -> int | None:
        with suppress(FileExistsError), open_part_file(tmp_path / f"{number}.part") as part:
            part.file.write(b"%d" % number * 1000)
            barrier.wait(timeout=30)
            part.publish(tmp_path / "a.sql")
            return number
        return None

    with ThreadPoolExecutor(16) as pool:
        winners = [number for number in pool.map(write, range(16)) if number is not None]

    assert len(winners) == 1
    assert (tmp_path / "a.sql").read_bytes() == b"%d" % winners[0] * 1000
    assert names_in(tmp_path) == ["a.sql"]


def test_a_small_file_is_replaced_whole(tmp_path: Path) -> None:
    """Readers see the old content or the new one, never a mixture or nothing."""
    path = tmp_path / "record.json"
    contents = [b"a" * 50_000, b"b" * 70_000]
    replace_file(path, contents[0])
    done = threading.Event()
    seen = set()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(50):
        replace_file(path, contents[number % 2])
    done.set()
    reader.join(timeout=30)

    assert seen <= set(contents)
    assert names_in(tmp_path) == ["record.json"]


def test_the_old_file_stays_when_its_replacement_fails(tmp_path: Path) -> None:
    """A folder has the name: nothing is replaced, and nothing is left."""
    (tmp_path / "record.json").mkdir()

    with pytest.raises(OSError):
        replace_file(tmp_path / "record.json", b"new")

    assert names_in(tmp_path) == ["record.json"]


def hold(folder: Path) -> None:
    """Write a part file until killed."""
    with open_part_file(folder / "killed.part") as part:
        part.file.write(b"half")
        (folder / "ready").touch()
        time.sleep(60)


def test_sweeping_takes_the_dead_and_leaves_the_living(tmp_path: Path) -> None:
    """A killed writer's part file is removed, a living one's stays, and so does everything else."""
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path,))
    process.start()
    while not (tmp_path / "ready").exists():
        assert process.is_alive()
        time.sleep(0.01)

    with open_part_file(tmp_path / "living.part") as part:
        before = delete_stale_parts(tmp_path)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        (tmp_path / ".hidden.part").touch()
        (tmp_path / "a.sql").touch()
        (tmp_path / "folder.part").mkdir()
        (tmp_path / "link.part").symlink_to(tmp_path / "a.sql")
        os.mkfifo(tmp_path / "pipe.part")
        removed = delete_stale_parts(tmp_path)
        part.file.write(b"goes on")
        part.publish(tmp_path / "b.sql")

    assert before == []
    assert sorted(path.name for path in removed) == [".hidden.part", "killed.part"]
    assert names_in(tmp_path) == ["a.sql", "b.sql", "folder.part", "link.part", "pipe.part", "ready"]
    assert (tmp_path / "b.sql").read_bytes() == b"goes on"


def test_writers_and_sweepers_never_meet(tmp_path: Path) -> None:
    """Writers that begin while others sweep, again and again: each publishes its own file, whole."""
    done = threading.Event()

    def keep_sweeping() -> None:
        while not done.is_set():
            delete_stale_parts(tmp_path)

    def write(number: int) -> None:
        with open_part_file(tmp_path / f"{number}.part") as part:
            part.file.write(b"%d" % number)
            part.publish(tmp_path / f"{number}.sql")

    with ThreadPoolExecutor(6) as pool:
        sweepers = [pool.submit(keep_sweeping) for _ in range(3)]
        writers = [pool.submit(write, number) for number in range(300)]
        try:
            for each in writers:
                each.result(timeout=60)
        finally:
            done.set()
        for each in sweepers:
            each.result(timeout=60)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        f"{number}.sql": b"%d" % number for number in range(300)
    }


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077], ids=oct)
def test_the_folder_is_made_for_its_owner_and_hidden_from_git(tmp_path: Path, mask: int) -> None:
    """0700 and a `.gitignore` of everything; made twice, it is the same."""
    folder = tmp_path / "deep" / "dumps"

    with umask(mask):
        make_dump_folder(folder)
        make_dump_folder(folder)

    assert mode(folder) == 0o700
    assert names_in(folder) == [".gitignore"]
    assert (folder / ".gitignore").read_text(encoding="utf-8") == "*\n"


def test_a_folder_of_somebody_elses_making_is_left_as_it_is(tmp_path: Path) -> None:
    """Its permissions and its own `.gitignore` stay; where it has none, it gets one."""
    kept, bare = tmp_path / "kept", tmp_path / "bare"
    for folder in (kept, bare):
        folder.mkdir()
        folder.chmod(0o755)
    (kept / ".gitignore").write_text("*.sql\n", encoding="utf-8")

    make_dump_folder(kept)
    make_dump_folder(bare)

    assert mode(kept) == mode(bare) == 0o755
    assert (kept / ".gitignore").read_text(encoding="utf-8") == "*.sql\n"
    assert (bare / ".gitignore").read_text(encoding="utf-8") == "*\n"


def test_a_folder_that_can_not_be_is_an_error(tmp_path: Path) -> None:
    """A file of that name is not touched."""
    path = tmp_path / "dumps"
    path.write_bytes(b"a file")

    with pytest.raises(OSError):
        make_dump_folder(path)

    assert path.read_bytes() == b"a file"


def test_many_may_make_the_folder_at_once(tmp_path: Path) -> None:
    """Two dumps that begin together both find it ready."""
    barrier = threading.Barrier(8)

    def make(number: int) -> None:
        for round_ in range(20):
            barrier.wait(timeout=30)
            make_dump_folder(tmp_path / str(round_))
            assert (tmp_path / str(round_)).is_dir(), number

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(8)))

    assert all(mode(tmp_path / str(round_)) == 0o700 for round_ in range(20))


def test_a_manifest_goes_with_the_part_file_of_its_dump(tmp_path: Path) -> None:
    """Killed between the two renames, a dump leaves a manifest that is of no dump; one that is of a dump stays."""
    for name in ("a.part", "a.manifest.json", "b.part", "b.sql.gz", "b.manifest.json", "c.manifest.json"):
        (tmp_path / name).write_bytes(b"x")

    removed = delete_stale_parts(tmp_path)

    assert sorted(path.name for path in removed) == ["a.part", "b.part"]
    assert names_in(tmp_path) == ["b.manifest.json", "b.sql.gz", "c.manifest.json"]


def test_a_signal_while_the_file_is_created_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Creating one waits for the disk while others make theirs durable, so signals do come in it."""
    create = os.open
    created: list[str] = []

    def signalled(path: Path, *args: int) -> int:
        descriptor = create(path, *args)
        os.kill(os.getpid(), signal.SIGTERM)
        created.extend(names_in(tmp_path))
        return descriptor

    monkeypatch.setattr(os, "open", signalled)
    with pytest.raises(Interruption), interruptible(), open_part_file(tmp_path / "a.part"):
        pytest.fail("it goes on")

    assert created == ["a.part"]
    assert names_in(tmp_path) == []
