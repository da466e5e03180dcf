"""A dump as restore and verify see it: found, opened, proven whole."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import process
from ..archive import manifest as manifests
from ..archive import names
from ..archive.codec import ARCHIVE_MAGIC, BROKEN, CHUNK, Adder, Compression, Reading, Sums, magic_of
from ..archive.history import TABLE, History, from_document
from ..archive.lexer import LexError, lex
from ..archive.survey import Survey
from ..errors import BadInputError
from ..postgres import clients

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ..archive.history import Past
    from ..archive.manifest import Manifest, Outline
    from ..postgres.clients import Client
    from ..settings import Settings
    from .report import Report

_UTF16 = (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")


@dataclass(frozen=True)
class DumpFile:
    """A dump that was proven whole.

    :ivar manifest: None for a dump that we did not make.
    :ivar content: Sums of the plain text; a restore must see the same.
    :ivar signature: Tells whether the file was changed meanwhile.
    :ivar histories: The migrations that it holds, by schema; None where they are written in a way that is not read.
    """

    path: Path
    size: int
    manifest: Manifest | None
    outline: Outline
    content: Sums
    server: str
    restorer: Client | None
    signature: tuple[int, int, int, int]
    rows: int
    histories: Mapping[str, tuple[Past, ...]] | None

    def open(self) -> Source:
        """Open the content once more."""
        return Source(self.path, self.restorer)


class Source:
    """The plain text of a dump in chunks, whatever its format; a context manager.

    :param restorer: The pg_restore that turns an archive into text; None for plain dumps.
    """

    def __init__(self, path: Path, restorer: Client | None) -> None:
        self._path = path
        self._restorer = restorer
        self._stack = contextlib.ExitStack()
        self._adder = Adder()
        self._reading: Reading | None = None

    def __enter__(self) -> Source:  # noqa: PYI034 - never subclassed
        if self._restorer is None:
            self._reading = self._stack.enter_context(Reading(self._path))
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.__exit__(*details)  # type: ignore[arg-type]

    @property
    def position(self) -> int:
        """Bytes of the file read so far; 0 for an archive, which pg_restore reads."""
        return self._reading.raw.size if self._reading else 0

    @property
    def file(self) -> Sums | None:
        """Sums of the file, once all was read; None for an archive."""
        return self._reading.raw.sums if self._reading else None

    @property
    def content(self) -> Sums:
        """Sums of the text that was handed on so far."""
        return self._reading.content if self._reading else self._adder.sums

    def chunks(self) -> Iterator[bytes]:
        """Hand on the text.

        :raises LexError: The file is cut or damaged, or pg_restore can't read it to its end.
        """
        try:
            yield from self._reading.chunks() if self._reading else self._restored()
        except BROKEN as error:
            raise LexError(f"its file is cut or damaged ({error})") from None

    def _restored(self) -> Iterator[bytes]:
        assert self._restorer is not None  # noqa: S101 - else there is a reading
        program = str(self._restorer.path)
        # Else its key is another one each time, and so is the sum of the text.
        known = "--restrict-key" in process.run([program, "--help"]).stdout
        key = ["--restrict-key=none"] if known else []
        argv = [program, "--file=-", "--clean", "--if-exists", *key, str(self._path)]
        child = self._stack.enter_context(process.Child(argv))
        while chunk := child.stdout.read(CHUNK):
            self._adder.add(chunk)
            yield chunk
        if child.wait() != 0:
            raise LexError(f"pg_restore can't read it to its end ({child.said.strip()[-300:]})")


def source(settings: Settings, path: Path) -> Source:
    """Open a dump that was not proven, to look into it.

    :raises BadInputError: It is no dump, by its first bytes.
    """
    try:
        compression, head = magic_of(path)
    except OSError as error:
        raise BadInputError(f"{path.name} can't be read: {error.strerror}. Nothing was touched.") from None
    _refuse_strange(path, compression, head)
    return Source(path, _restorer(settings, head))


def _restorer(settings: Settings, head: bytes) -> Client | None:
    """Find the pg_restore that an archive needs; None for a plain dump."""
    if not head.startswith(ARCHIVE_MAGIC):
        return None
    return clients.newest("pg_restore", bin_dir=settings.bin_dir, environ=settings.environ)


def choose(settings: Settings, file: str, report: Report) -> Path:
    """Find the dump that is meant: the named one, else the newest that is not known to be broken.

    :raises BadInputError: There is none.
    """
    if file:
        return names.find(file, settings.dumps, settings.cwd)
    for path in names.dumps_in(settings.dumps):
        if names.time_of(path.name) is None:
            break
        doubt = known_doubt(path)
        if not doubt:
            return path
        report.warn(f"{path.name} is passed over: {doubt}")
    raise BadInputError(
        f"There is no dump in {settings.dumps}. Make one with `inv db.dump`, or name a file with --file=."
    )


def known_doubt(path: Path) -> str:
    """Tell, without reading it, why a dump can't be whole; empty where nothing speaks against it."""
    try:
        size = path.stat().st_size
        if size == 0:
            return "it is empty"
        manifest = manifests.read(path)
    except (OSError, BadInputError) as error:
        return str(error)
    if manifest is None or manifest.file_name != path.name or manifest.file.size == size:
        return ""
    return f"it has {size:,} bytes where its manifest says {manifest.file.size:,}"


def prove(settings: Settings, path: Path, report: Report) -> DumpFile:
    """Prove that a dump is whole, reading all of it.

    With a manifest the file's sum proves it, or else the content's, for a file that was compressed or
    expanded by hand. Without one the whole text is split, up to pg_dump's trailer.

    :raises BadInputError: It is not whole, or it is no dump. Nothing was touched.
    """
    try:
        return _proven(settings, path, report)
    except OSError as error:
        raise BadInputError(f"{path.name} can't be read: {error.strerror}. Nothing was touched.") from None


def _proven(settings: Settings, path: Path, report: Report) -> DumpFile:
    compression, head = magic_of(path)
    before = _signature(path)
    _refuse_strange(path, compression, head)
    restorer = _restorer(settings, head)
    manifest = manifests.read(path) if restorer is None else None
    if manifest is not None and manifest.file.size == before[2] and _sum(path, report) == manifest.file:
        outline, content, server = (
            manifest.outline,
            manifest.content,
            str(manifest.source.get("server_version", "")),
        )
        rows = manifest.rows
        histories: Mapping[str, tuple[Past, ...]] | None = _histories(manifest)
    else:
        survey, content, histories = _survey(path, restorer, manifest, report)
        outline, server, rows = survey.outline(), survey.server, survey.total_rows
    if _signature(path) != before:
        raise BadInputError(f"{path.name} was changed while it was read. Nothing was touched.")
    return DumpFile(path, before[2], manifest, outline, content, server, restorer, before, rows, histories)


def _histories(manifest: Manifest) -> dict[str, tuple[Past, ...]]:
    """Read the history that a manifest holds, which is that of the schema of the URL that was dumped."""
    past = from_document(manifest.facts.get("history"))
    schemas = [each.schema for each in manifest.tables if each.name == TABLE]
    return {} if past is None or not schemas else {"public" if "public" in schemas else schemas[0]: past}


def _survey(
    path: Path, restorer: Client | None, manifest: Manifest | None, report: Report
) -> tuple[Survey, Sums, dict[str, tuple[Past, ...]] | None]:
    survey, history = Survey(), History()
    size = path.stat().st_size
    try:
        with Source(path, restorer) as source:
            for event, _ in survey.watch(lex(source.chunks())):
                history.see(event, survey.current)
                report.progress("reading the dump", source.position, size, "bytes")
            content = source.content
    except LexError as error:
        raise BadInputError(f"{path.name} can't be restored: {error}. Nothing was touched.") from None
    if not survey.complete:
        raise BadInputError(
            f"{path.name} is not a whole dump: pg_dump's last line ('-- PostgreSQL database dump complete') is "
            f"missing, so it was cut or is something else. Nothing was touched."
        )
    if manifest is not None and content != manifest.content:
        raise BadInputError(
            f"{path.name} is not what its manifest describes: it was damaged or changed since. Nothing was "
            f"touched. To restore it all the same, move {names.manifest_path(path).name} away."
        )
    return survey, content, None if history.hidden else history.pasts()


def _sum(path: Path, report: Report) -> Sums:
    adder, size = Adder(), path.stat().st_size
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            adder.add(chunk)
            report.progress("checking the dump", adder.size, size, "bytes")
    return adder.sums


def _refuse_strange(path: Path, compression: Compression, head: bytes) -> None:
    if not head:
        raise BadInputError(f"{path.name} is empty. Nothing was touched.")
    if head.startswith(_UTF16):
        raise BadInputError(
            f"{path.name} is encoded as UTF-16, or begins with a byte order mark: an editor or PowerShell's '>' has "
            f"rewritten it. Make the dump again with pg_dump's own --file=. Nothing was touched."
        )
    if compression is Compression.NONE and not head.startswith(ARCHIVE_MAGIC) and b"\0" in head:
        raise BadInputError(f"{path.name} is not a dump: it holds binary data. Nothing was touched.")


def _signature(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def unchanged(dump: DumpFile) -> bool:
    """Tell whether the file is still the one that was proven."""
    try:
        return _signature(dump.path) == dump.signature
    except OSError:
        return False
