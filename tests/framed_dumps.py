"""Dumps with several frames and the seek points of their manifests, laid down without a server."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.dump.seek_points import SeekPoints
from tasks.dumpfiles.paths import manifest_path, read_manifest
from tasks.dumpformat.compression import CHUNK, Compression, SummingWriter, Sums, open_compressor
from tasks.dumpformat.lexer import lex
from tasks.dumpformat.summary import DumpSummary
from tests.sample_manifest import MANIFEST

HEAD = b"SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n\n"
TRAILER = b"-- PostgreSQL database dump complete\n"
POINTS = "seek_points"
Points = list[dict[str, Any]]
Change = Callable[[Points], Points]


def copied(table: str, rows: bytes) -> bytes:
    """Return the COPY of a table of one column."""
    return b"COPY %s (id) FROM stdin;\n%s\\.\n\n" % (table.encode(), rows)


def random_rows(megabytes: int) -> bytes:
    """Return rows that no compression makes much smaller than half."""
    data = random.Random(1).randbytes(megabytes << 19).hex().encode()
    return b"".join(data[at : at + 1023] + b"\n" for at in range(0, len(data), 1023))


def store_framed_dump(folder: Path, text: bytes, compression: Compression, *, spacing: int = 1) -> Path:
    """Write a dump and its manifest as `db.dump` does.

    :param spacing: The least content of a frame; by default each table begins one.
    """
    path, summary = folder / f"framed{compression.suffix}", DumpSummary()
    chunks = (text[at : at + CHUNK] for at in range(0, len(text), CHUNK))
    with path.open("wb", buffering=0) as file:
        sink = SummingWriter(file)
        with open_compressor(sink, compression) as out:
            points = SeekPoints(out, summary, spacing=spacing)
            for event, _ in summary.watch(lex(chunks)):
                points.see(event)
                out.write(event.text)
    manifest = replace(
        MANIFEST,
        file_name=path.name,
        compression=compression,
        file=sink.sums,
        content=out.content,
        tables=summary.tables(),
        extra={POINTS: points.document()},
    )
    manifest_path(path).write_bytes(manifest.to_json())
    return path


def seek_points_of(path: Path) -> Points:
    """Return the seek points in a dump's manifest."""
    manifest = read_manifest(path)
    assert manifest is not None
    return list(manifest.extra.get(POINTS, []))


def rewrite_seek_points(path: Path, change: Change, rows: int = 0) -> None:
    """Replace the seek points in a dump's manifest, and give it the size that the file has now.

    :param rows: What is added to the row counts.
    """
    manifest = read_manifest(path)
    assert manifest is not None
    tables = tuple(replace(each, rows=max(0, each.rows + rows)) for each in manifest.tables)
    file = Sums(path.stat().st_size, manifest.file.sha256)
    changed = replace(manifest, tables=tables, file=file, extra={POINTS: change(seek_points_of(path))})
    manifest_path(path).write_bytes(changed.to_json())
