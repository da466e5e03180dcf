"""gzip and zstd as streams: what is damaged or cut is noticed, what is whole comes back."""

import contextlib
import errno
import gzip
import hashlib
import io
import itertools
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.dumpformat.compression import (
    BROKEN,
    CHUNK,
    Compression,
    DecompressedReader,
    SumCounter,
    SummingWriter,
    open_compressor,
    read_magic,
)
from tasks.dumpformat.foreign_head import LexError
from tasks.dumpformat.lexer import lex
from tasks.dumpformat.summary import DumpSummary
from tests.dump_texts import DUMP
from tests.flows import content_of, sums_of

if TYPE_CHECKING:
    from collections.abc import Generator

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKED = [Compression.GZIP, Compression.ZSTD]
ALL = list(Compression)


def packed(data: bytes, compression: Compression, *, pieces: int = 1000) -> bytes:
    """Compress as a dump is compressed."""
    file = io.BytesIO()
    with open_compressor(SummingWriter(file), compression) as out:
        for at in range(0, len(data), pieces):
            out.write(data[at : at + pieces])
    return file.getvalue()


def write(file: IO[bytes] | io.RawIOBase, compression: Compression, *pieces: bytes | None) -> None:
    """Write through a compressor; None is what nobody can write."""
    with open_compressor(SummingWriter(cast("IO[bytes]", file)), compression) as out:
        for piece in pieces:
            out.write(cast("bytes", piece))


def unpacked(path: Path) -> bytes:
    """Read a file's content to its end."""
    with DecompressedReader(path) as reading:
        return b"".join(reading.chunks())


def noticed(path: Path) -> bool:
    """Whether reading this file as a dump ends in an error, or in a dump that is not complete."""
    survey = DumpSummary()
    try:
        with DecompressedReader(path) as reading:
            for _ in survey.watch(lex(reading.chunks())):
                pass
    except LexError:
        return True
    except BROKEN:
        return True
    return not survey.complete


@pytest.fixture(params=[2, 3], ids=["two processors", "three"])
def processors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count so many; with more than two, zstd compresses in a thread of its own."""
    monkeypatch.setenv("PYTHON_CPU_COUNT", str(request.param))


@pytest.mark.usefixtures("processors")
@pytest.mark.parametrize("compression", ALL)
@pytest.mark.parametrize("size", [0, 1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_content_comes_back_with_the_sums_of_both_sides(tmp_path: Path, compression: Compression, size: int) -> None:
    """What was written is read again; file and content have the sums that a plain hash gives."""
    content = (b"%d\tsome row\n" * (size // 12 + 1))[:size]
    path = tmp_path / f"dump{compression.suffix}"

    with path.open("wb", buffering=0) as file:
        sink = SummingWriter(file)
        with open_compressor(sink, compression) as out:
            out.write(content[: size // 2])
            out.write(content[size // 2 :])
    with DecompressedReader(path) as reading:
        chunks = list(reading.chunks())

    assert b"".join(chunks) == content
    assert all(0 < len(chunk) <= CHUNK for chunk in chunks)
    assert reading.compression is compression or (compression is Compression.NONE and not size)
    assert reading.content == sums_of(content)
    assert sink.sums == reading.raw.sums == sums_of(path.read_bytes())
    assert sink.size == path.stat().st_size


@pytest.mark.parametrize("compression", ALL)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.binary(max_size=5000), max_size=8))
def test_any_bytes_come_back(tmp_path: Path, compression: Compression, pieces: list[bytes]) -> None:
    """Random bytes in random pieces, empty ones among them."""
    path = tmp_path / "dump"
    with path.open("wb", buffering=0) as file, open_compressor(SummingWriter(file), compression) as out:
        for piece in pieces:
            out.write(piece)

    content = b"".join(pieces)

    # Bytes that begin like a compressed file are taken for one.
    if compression is not Compression.NONE or read_magic(path)[0] is Compression.NONE:
        assert content_of(path) == content


@pytest.mark.parametrize("compression", ALL)
def test_a_cut_file_is_noticed(tmp_path: Path, compression: Compression) -> None:
    """Cut at 20 places, and in each of the last 40 bytes, a dump is never taken for a whole one."""
    # Text alone may be cut between two dumps.
    whole = packed(DUMP if compression is Compression.NONE else DUMP * 40, compression)
    trailer = whole.rindex(b"-- PostgreSQL") + 36 if compression is Compression.NONE else len(whole)
    path = tmp_path / "dump"
    lengths = {len(whole) * part // 20 for part in range(20)} | set(range(len(whole) - 40, len(whole)))

    path.write_bytes(whole)
    assert not noticed(path)
    for length in sorted(length for length in lengths if length < trailer):
        path.write_bytes(whole[:length])
        assert noticed(path), length


@pytest.mark.parametrize("compression", PACKED)
@pytest.mark.parametrize("content", [DUMP[-400:], bytes(range(256))], ids=["dump", "incompressible"])
def test_a_flipped_bit_is_noticed(tmp_path: Path, compression: Compression, content: bytes) -> None:
    """Every bit of a small file, flipped: an error, or the same content, or no compressed file any more."""
    whole = packed(content, compression)
    path = tmp_path / "dump"

    for place in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        if read_magic(path)[0] is not compression:
            assert noticed(path)
            continue
        with contextlib.suppress(*BROKEN):
            assert content_of(path) == content, place


def test_a_bit_flipped_in_a_large_zstd_file_is_noticed(tmp_path: Path) -> None:
    """By default zstd has no checksum, and incompressible data came back wrong in silence: ours has one."""
    content = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(20000))
    whole = packed(content, Compression.ZSTD)
    bare = zstd.compress(content)
    path = tmp_path / "dump"
    silent = 0

    for at in range(len(whole) // 20, len(whole), len(whole) // 20):
        for source, must in ((whole, True), (bare, False)):
            damaged = bytearray(source)
            damaged[min(at, len(source) - 1)] ^= 16
            path.write_bytes(damaged)
            try:
                wrong = content_of(path) != content
            except BROKEN:
                wrong = False
            assert not (must and wrong)
            silent += wrong

    assert silent > 0


@pytest.mark.parametrize("compression", PACKED)
def test_several_members_are_one_content(tmp_path: Path, compression: Compression) -> None:
    """Files that were appended to each other are read to the end of the last; a cut in any is noticed."""
    one = packed(DUMP, compression)
    path = tmp_path / "dump"

    path.write_bytes(one + packed(b"", compression) + one)
    assert content_of(path) == DUMP + DUMP
    for length in range(len(one) + 1, 2 * len(one), 7):
        path.write_bytes((one + one)[:length])
        with pytest.raises(BROKEN):
            content_of(path)


@pytest.mark.parametrize("compression", PACKED)
@pytest.mark.parametrize("garbage", [b"x", b"garbage behind it", b"\x1f", b"\x28\xb5", b"\n"], ids=repr)
def test_garbage_behind_the_end_is_noticed(tmp_path: Path, compression: Compression, garbage: bytes) -> None:
    """What stands behind a compressed file's end is no part of any dump."""
    path = tmp_path / "dump"
    path.write_bytes(packed(DUMP, compression) + garbage)

    with pytest.raises(BROKEN):
        content_of(path)


@pytest.mark.parametrize("name", ["dump.sql", "dump.sql.gz", "dump.sql.zst"])
def test_an_empty_file_is_no_dump(tmp_path: Path, name: str) -> None:
    """It has no content, and content without a trailer is not complete."""
    path = tmp_path / name
    path.touch()

    assert content_of(path) == b""
    assert noticed(path)


@pytest.mark.parametrize("length", range(1, 18))
@pytest.mark.parametrize("compression", PACKED)
def test_the_first_bytes_alone_are_no_dump(tmp_path: Path, compression: Compression, length: int) -> None:
    """A file that ends in its header is noticed, however early."""
    path = tmp_path / "dump"
    path.write_bytes(packed(DUMP, compression)[:length])

    assert noticed(path)


@pytest.mark.parametrize("compression", ALL)
def test_the_compression_is_told_by_the_content(tmp_path: Path, compression: Compression) -> None:
    """A file under a wrong name is read for what it is."""
    path = tmp_path / "dump.sql"
    path.write_bytes(packed(DUMP, compression))

    assert read_magic(path)[0] is compression
    assert content_of(path) == DUMP


def test_other_programs_can_read_and_write_what_we_do(tmp_path: Path) -> None:
    """The program gzip expands our file, and we expand the one of Python's gzip, with a name in its header."""
    ours, theirs = tmp_path / "ours.gz", tmp_path / "theirs.gz"
    ours.write_bytes(packed(DUMP, Compression.GZIP))
    with gzip.GzipFile(theirs, "wb") as file:
        file.write(DUMP)

    done = subprocess.run(["gzip", "-dc", ours], capture_output=True, check=True)

    assert done.stdout == DUMP
    assert gzip.decompress(ours.read_bytes()) == DUMP
    assert zstd.decompress(packed(DUMP, Compression.ZSTD)) == DUMP
    assert content_of(theirs) == DUMP


NAMES: dict[str, Compression | None] = {
    "a.sql": Compression.NONE,
    "a.sql.gz": Compression.GZIP,
    "a.sql.zst": Compression.ZSTD,
    "a.sql.gz.sql": Compression.NONE,
    "a.gz": None,
    "a.sql.GZ": None,
    "a.sql.part": None,
    "a.sql.bz2": None,
    "sql": None,
    "": None,
}


@pytest.mark.parametrize(("name", "compression"), NAMES.items())
def test_the_compression_of_a_name(name: str, compression: Compression | None) -> None:
    """Only our three suffixes say something."""
    assert Compression.of_name(name) is compression


class Reluctant(io.RawIOBase):
    """A raw file that takes at most seven bytes at once, as one may."""

    def __init__(self) -> None:
        self.taken = b""

    def write(self, data: object) -> int:
        """Take a little."""
        assert isinstance(data, memoryview)
        piece = bytes(data[:7])
        self.taken += piece
        return len(piece)


def test_short_writes_are_continued() -> None:
    """A raw file may take less than it was given; nothing is lost, and the sums are right."""
    file = Reluctant()
    sink = SummingWriter(file)  # type: ignore[arg-type]

    assert sink.write(DUMP) == len(DUMP)

    assert file.taken == DUMP
    assert sink.sums == sums_of(DUMP)


class Full(io.RawIOBase):
    """A disk that is full after some bytes."""

    def __init__(self, room: int) -> None:
        self._room = room

    def write(self, data: object) -> int:
        """Fail when the room is used up."""
        assert isinstance(data, memoryview)
        self._room -= len(data)
        if self._room < 0:
            raise OSError(28, "No space left on device")
        return len(data)


@pytest.mark.parametrize("compression", ALL)
@pytest.mark.parametrize("room", [0, 5, 100_000])
def test_a_full_disk_is_an_error(compression: Compression, room: int) -> None:
    """However late the disk is full, in a thread of the compressor or at its end, it is told."""
    content = [hashlib.sha256(b"%d" % number).digest() * 2 for number in range(40000)]

    with pytest.raises(OSError) as caught:
        write(Full(room), compression, *content)

    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("compression", PACKED)
def test_what_is_left_when_a_writer_fails_is_not_whole(tmp_path: Path, compression: Compression) -> None:
    """An error in the middle goes through, whatever the compressor does at its end."""
    path = tmp_path / "dump"

    with pytest.raises(TypeError), path.open("wb", buffering=0) as file:
        write(file, compression, DUMP[:500], None)

    assert noticed(path)


# A frame that decompressors skip: its magic number, its size and its content.
SKIPPED = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"index"
FRAMES = [zstd.compress(DUMP), zstd.compress(b""), SKIPPED, zstd.compress(b"x" * 3 * CHUNK)]


def test_frames_of_zstd_follow_each_other(tmp_path: Path) -> None:
    """As `cat a.zst b.zst` and pzstd write them; an empty one ends nothing."""
    path = tmp_path / "dump"

    path.write_bytes(b"".join(FRAMES))

    assert unpacked(path) == DUMP + b"x" * 3 * CHUNK


@pytest.mark.parametrize("tail", [b"(", b"\x28\xb5\x2f\xfd", SKIPPED[:-1], FRAMES[0][:-1], FRAMES[3][:20], b"no frame"])
def test_a_damaged_frame_behind_a_complete_one_is_noticed(tmp_path: Path, tail: bytes) -> None:
    """What follows a complete frame is another complete one, or the file is broken."""
    path = tmp_path / "dump"

    path.write_bytes(FRAMES[0] + tail)

    with pytest.raises(BROKEN):
        unpacked(path)


@pytest.mark.usefixtures("processors")
@pytest.mark.parametrize("compression", ALL)
def test_a_reader_may_begin_at_each_frame(tmp_path: Path, compression: Compression) -> None:
    """Ours are where the writer says, an empty one too, and all together are one content for other programs."""
    path = tmp_path / "dump"
    pieces = [DUMP, b"", b"x" * 3 * CHUNK, DUMP]

    with path.open("wb", buffering=0) as file:
        sink = SummingWriter(file)
        with open_compressor(sink, compression) as out:
            for piece in pieces:
                out.write(piece)
                out.begin_frame()
    ends = list(itertools.accumulate(map(len, pieces)))

    assert [each.content for each in out.frames] == ends
    for start, end in zip(out.frames, ends, strict=True):
        with DecompressedReader(path, offset=start.file) as reading:
            assert b"".join(reading.chunks()) == b"".join(pieces)[end:]
    assert content_of(path) == b"".join(pieces)
    assert sink.sums == sums_of(path.read_bytes())
    assert out.content == sums_of(b"".join(pieces))
    if compression is not Compression.NONE:
        expand = gzip.decompress if compression is Compression.GZIP else zstd.decompress
        assert expand(path.read_bytes()) == b"".join(pieces)


@pytest.mark.parametrize("compression", ALL)
def test_a_reader_may_stop_early(tmp_path: Path, compression: Compression) -> None:
    """Leaving in the middle of a file ends its reader, with no thread or warning left."""
    path = tmp_path / "dump"
    path.write_bytes(packed(DUMP * 3000, compression, pieces=CHUNK))

    with DecompressedReader(path) as reading, contextlib.closing(cast("Generator[bytes]", reading.chunks())) as chunks:
        first = next(chunks)

    assert (DUMP * 3000).startswith(first)


@pytest.mark.usefixtures("processors")
@pytest.mark.parametrize("compression", ALL)
def test_memory_is_small_when_a_dump_is_large(tmp_path: Path, compression: Compression) -> None:
    """200 MB pass in both directions in a few chunks of memory of our own."""
    path = tmp_path / "dump"
    piece = b"".join(b"%d\tsome row of a table\n" % number for number in range(40000))
    tracemalloc.start()

    try:
        with path.open("wb", buffering=0) as file, open_compressor(SummingWriter(file), compression) as out:
            for _ in range(180):
                out.write(piece)
        with DecompressedReader(path) as reading:
            size = sum(len(chunk) for chunk in reading.chunks())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size == 180 * len(piece) > 180_000_000
    assert peak < 40_000_000


def test_an_adder_adds_any_buffer() -> None:
    """Bytes, and views of them of any shape."""
    adder = SumCounter()

    for piece in (b"abc", bytearray(b"def"), memoryview(b"ghi"), memoryview(b"jklm").cast("I")):
        adder.add(piece)

    assert adder.sums == sums_of(b"abcdefghijklm")
