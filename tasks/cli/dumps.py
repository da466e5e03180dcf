"""The tasks that make, convert and show dumps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import BadInputError
from .output_dumps import (
    show_converted,
    show_dumped,
    show_inspected,
    show_listing,
    show_rows,
    show_undo_points,
    show_url,
)
from .task import FILE, FILE_OR_INPUT, all_given, given, load, task, whole_number
from .terminal import reporting

if TYPE_CHECKING:
    from invoke.context import Context

    from ..config.target import Target
    from ..dump.dump import Dumped
    from ..dump.request import Part
    from ..dumpfiles.catalog import Inspected, Listed
    from ..dumpfiles.convert import Converted
    from ..dumpformat.compression import Compression
    from ..safety.undo_points import UndoPoint


@task()
def url(ctx: Context, json: bool = False, url_env: str | None = None) -> Target:
    """Show the connection as libpq gets it; the password is masked."""
    loaded = load(ctx, url_env, as_json=json)
    show_url(loaded)
    return loaded.target()


@task(
    iterable=["exclude_data", "table", "exclude_table", "schema", "exclude_schema"],
    help={
        "gzip": "compress with gzip (.sql.gz)",
        "zstd": "compress with zstd (.sql.zst)",
        "file": "write to this file instead of a timestamped name; - for standard output",
        "note": "a note for the manifest, shown by db.list",
        "checksums": "add a checksum of every table's content, computed by the server in the same snapshot",
        "exclude_data": "leave out the rows of tables of this pattern (repeats), but keep their definitions",
        "table": "only tables of this name or pattern, with their indexes, sequences and so on (repeats)",
        "exclude_table": "leave out tables of this name or pattern (repeats)",
        "schema": "only schemas of this name or pattern (repeats)",
        "exclude_schema": "leave out schemas of this name or pattern (repeats)",
        "schema_only": "only definitions, no rows",
        "data_only": "only rows, no definitions",
    },
)
def dump(
    ctx: Context,
    gzip: bool = False,
    zstd: bool = False,
    file: str | None = None,
    note: str | None = None,
    exclude_data: list[str] | None = None,
    table: list[str] | None = None,
    exclude_table: list[str] | None = None,
    schema: list[str] | None = None,
    exclude_schema: list[str] | None = None,
    schema_only: bool = False,
    data_only: bool = False,
    checksums: bool = False,
    json: bool = False,
    url_env: str | None = None,
) -> Dumped | None:
    """Dump the database, or a part of it, into one file with a manifest."""
    from ..dump.dump import make_dump
    from ..dump.request import DumpRequest

    loaded = load(ctx, url_env, as_json=json)
    compression, path = _compression(gzip=gzip, zstd=zstd), given("--file", file)
    part = _part(table, exclude_table, schema, exclude_schema, schema_only=schema_only, data_only=data_only)
    words, left_out = given("--note", note), all_given("--exclude-data", exclude_data)
    request = DumpRequest(
        compression=compression, file=path, note=words, exclude_data=left_out, checksums=checksums, part=part
    )
    with reporting(loaded) as report:
        dumped = make_dump(loaded, request, report)
    _remember(ctx, dumped, path)
    show_dumped(dumped, loaded)
    return dumped


@task(help={"file": FILE})
def gzip(ctx: Context, file: str | None = None) -> Converted:
    """Compress a dump in place, and update its manifest."""
    return _convert(ctx, file, compress=True)


@task(help={"file": FILE})
def gunzip(ctx: Context, file: str | None = None) -> Converted:
    """Expand a dump in place, and update its manifest."""
    return _convert(ctx, file, compress=False)


@task(
    name="list",
    help={
        "match": "only dumps whose name, note, database or git branch contains this text",
        "limit": "only this number of the newest",
    },
)
def list_(ctx: Context, match: str | None = None, limit: str | None = None, json: bool = False) -> list[Listed]:
    """List dumps, safety dumps and kept databases, newest last: id, database, branch, age, size, rows, state, note."""
    from ..dumpfiles.catalog import list_catalog, select_dumps
    from ..safety.kept_databases import kept_records

    loaded, newest = load(ctx), whole_number("--limit", limit)
    found, kept = list_catalog(loaded), kept_records(loaded.dumps, given("--match", match))
    listed = select_dumps(found, given("--match", match), newest)
    show_listing(listed, kept[-newest:], [*(each.id for each in found), *(each.id for each in kept)], as_json=json)
    return listed


@task()
def undos(ctx: Context, json: bool = False, url_env: str | None = None) -> list[UndoPoint]:
    """List the states that db.undo can restore, newest last."""
    from ..safety.undo_points import list_undo_points

    loaded = load(ctx, url_env, as_json=json)
    with reporting(loaded) as report:
        points = list_undo_points(loaded, report)
    show_undo_points(points, loaded, as_json=json)
    return points


@task(reads_input=True, help={"file": FILE_OR_INPUT})
def inspect(ctx: Context, file: str | None = None, json: bool = False) -> Inspected:
    """Show the content of a dump: tables, rows, sizes, migrations, versions, note."""
    from ..dumpfiles.catalog import inspect_dump

    loaded = load(ctx)
    with reporting(loaded) as report:
        inspected = inspect_dump(loaded, given("--file", file), report)
    show_inspected(inspected, as_json=json)
    return inspected


@task(
    reads_input=True,
    help={
        "file": FILE_OR_INPUT,
        "table": "the table; with its schema if several tables have this name",
        "match": "only rows with a value that contains this text",
        "limit": "the maximum number of rows",
        "json": "print each row as a JSON object on one line, for programs",
    },
)
def show(
    ctx: Context,
    file: str | None = None,
    table: str | None = None,
    match: str | None = None,
    limit: str | None = None,
    json: bool = False,
) -> None:
    """Print the rows of a table in a dump, without a server."""
    from ..dumpfiles.table_rows import RowsRequest, read_table_rows

    loaded = load(ctx)
    request = RowsRequest(
        file=given("--file", file),
        table=given("--table", table),
        match=given("--match", match),
        limit=whole_number("--limit", limit),
    )
    with reporting(loaded) as report:
        show_rows(read_table_rows(loaded, request, report), as_json=json)


def _remember(ctx: Context, dumped: Dumped | None, file: str) -> None:
    """Let the later tasks of the same call know of a dump."""
    from ..config.settings import MadeDump, remember_dump
    from ..dump.destination import STANDARD_OUTPUT

    if dumped is not None:
        remember_dump(ctx, MadeDump(id=dumped.manifest.id, path=None if file == STANDARD_OUTPUT else dumped.path))


def _part(
    table: list[str] | None,
    exclude_table: list[str] | None,
    schema: list[str] | None,
    exclude_schema: list[str] | None,
    *,
    schema_only: bool,
    data_only: bool,
) -> Part[str]:
    from ..dump.request import Only, Part

    if schema_only and data_only:
        raise BadInputError("--schema-only and --data-only cannot be combined. Nothing was touched.")
    return Part(
        tables=all_given("--table", table),
        excluded_tables=all_given("--exclude-table", exclude_table),
        schemas=all_given("--schema", schema),
        excluded_schemas=all_given("--exclude-schema", exclude_schema),
        only=Only.DEFINITIONS if schema_only else Only.ROWS if data_only else None,
    )


def _compression(*, gzip: bool, zstd: bool) -> Compression | None:
    from ..dumpformat.compression import Compression

    if gzip and zstd:
        raise BadInputError("--gzip and --zstd cannot be combined. Nothing was touched.")
    return Compression.GZIP if gzip else Compression.ZSTD if zstd else None


def _convert(ctx: Context, file: str | None, *, compress: bool) -> Converted:
    from ..dumpfiles.convert import convert_dump
    from ..dumpformat.compression import Compression

    loaded, compression = load(ctx), Compression.GZIP if compress else Compression.NONE
    with reporting(loaded) as report:
        converted = convert_dump(loaded, given("--file", file), compression, report)
    if not loaded.dry and loaded.output.value != "quiet":
        show_converted(converted)
    return converted
